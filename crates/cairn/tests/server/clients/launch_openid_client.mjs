// SMART App Launch with openid-client: a public client on the person's own machine. MODULE BASE CLIENT_ID
// REDIRECT_URI; prints where to send the person, reads where they came back to, and goes on.

import assert from "node:assert/strict";
import { createInterface } from "node:readline/promises";

const [module, base, clientId, redirectUri] = process.argv.slice(2);
const client = await import(module);
// It finds the server out by itself, and checks the identity token's signature by the keys that it is led to.
const options = { execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks] };
const config = await client.discovery(new URL(base), clientId, undefined, client.None(), options);
const smart = await (await fetch(`${base}/.well-known/smart-configuration`)).json();
assert(smart.capabilities.includes("client-public"));
assert(smart.capabilities.includes("sso-openid-connect"));
assert.equal(config.serverMetadata().jwks_uri, smart.jwks_uri);
assert.equal(config.serverMetadata().issuer, smart.issuer);

// Laboratory results, and no other observations.
const laboratory = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const nonce = client.randomNonce();
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: redirectUri,
  scope: `openid fhirUser launch/patient offline_access patient/Patient.rs ${laboratory}`,
  aud: base,
  state,
  nonce,
  max_age: "3600",
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
});
console.log(url.href);
const lines = createInterface({ input: process.stdin });
const back = new URL(await lines.question(""));
lines.close();
const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, maxAge: 3600, idTokenExpected: true };
const tokens = await client.authorizationCodeGrant(config, back, checks);
assert.equal(tokens.claims().fhirUser, `${base}/Patient/ann`);
assert.equal(tokens.claims().iss, base);
assert.equal(tokens.patient, "ann");
assert.equal(tokens.expires_in, 900);
const ask = (token, path) => fetch(`${base}/${path}`, { headers: { authorization: `Bearer ${token}` } });
assert.equal((await ask(tokens.access_token, "Patient/ann")).status, 200);
const found = await (await ask(tokens.access_token, "Observation?_total=accurate")).json();
assert.deepEqual([found.total, ...found.entry.map((entry) => entry.resource.id)], [1, "lab-ann"]);
assert.equal((await ask(tokens.access_token, "Condition")).status, 403);
const renewed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.equal((await ask(renewed.access_token, "Patient/ann")).status, 200);
await client.tokenRevocation(config, renewed.refresh_token);
assert.equal((await ask(renewed.access_token, "Patient/ann")).status, 401);
await assert.rejects(client.refreshTokenGrant(config, renewed.refresh_token), (error) => error.error === "invalid_grant");
console.log("fine");
