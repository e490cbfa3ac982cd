// SMART Backend Services with openid-client (ES384). `make FILE` makes a key and prints the key set; `use
// FILE BASE CLIENT_ID` gets a token, asks for FHIR with it, and gives it back. MODULE comes first.

import { readFile, writeFile } from "node:fs/promises";
import assert from "node:assert/strict";

const [module, what, path, base, clientId] = process.argv.slice(2);
const client = await import(module);
const algorithm = { name: "ECDSA", namedCurve: "P-384" };

if (what === "make") {
  const pair = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  await writeFile(path, JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey)));
  const jwk = await crypto.subtle.exportKey("jwk", pair.publicKey);
  console.log(JSON.stringify({ keys: [{ ...jwk, kid: "openid-1" }] }));
  process.exit(0);
}

const jwk = JSON.parse(await readFile(path, "utf8"));
const key = await crypto.subtle.importKey("jwk", jwk, algorithm, false, ["sign"]);
const smart = await (await fetch(`${base}/.well-known/smart-configuration`)).json();
const config = new client.Configuration(
  { issuer: base, ...smart },
  clientId,
  {},
  client.PrivateKeyJwt({ key, kid: "openid-1" }, {
    // OpenID Connect names the issuer; SMART names the token endpoint.
    [client.modifyAssertion]: (_, payload) => { payload.aud = smart.token_endpoint; },
  }),
);
client.allowInsecureRequests(config);

const scope = "system/Patient.rs";
const token = await client.clientCredentialsGrant(config, { scope });
assert.equal(token.scope, scope);
assert.equal(token.expires_in, 300);
const ask = (kind) => fetch(`${base}/${kind}`, { headers: { authorization: `Bearer ${token.access_token}` } });
assert.equal((await ask("Patient")).status, 200);
assert.equal((await ask("Observation")).status, 403);
// Each request has a proof of its own.
assert.notEqual((await client.clientCredentialsGrant(config, { scope })).access_token, token.access_token);
await assert.rejects(client.clientCredentialsGrant(config, { scope: "system/Group.rs" }), (error) => error.error === "invalid_scope");
const live = await client.tokenIntrospection(config, token.access_token);
assert.deepEqual([live.active, live.scope, live.client_id], [true, scope, clientId]);
await client.tokenRevocation(config, token.access_token);
assert.equal((await ask("Patient")).status, 401);
assert.deepEqual(await client.tokenIntrospection(config, token.access_token), { active: false });
// Somebody else's system registers itself, and waits for whoever approves it.
const { kty, crv, x, y } = jwk;
const jwks = { keys: [{ kty, crv, x, y, kid: "openid-1" }] };
const proof = client.PrivateKeyJwt({ key, kid: "openid-1" }, {
  [client.modifyAssertion]: (_, payload) => { payload.aud = smart.token_endpoint; },
});
const wanted = { client_name: "Laboratory", grant_types: ["client_credentials"], token_endpoint_auth_method: "private_key_jwt", scope, jwks };
const registered = await client.dynamicClientRegistration(new URL(base), wanted, proof, { execute: [client.allowInsecureRequests] });
assert.equal(registered.clientMetadata().client_name, "Laboratory");
assert.notEqual(registered.clientMetadata().client_id, clientId);
await assert.rejects(client.clientCredentialsGrant(registered, { scope }), (error) => error.error === "invalid_client");
console.log("fine");
