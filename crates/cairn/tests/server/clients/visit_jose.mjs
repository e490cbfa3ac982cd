// A place where visits by video are held, with jose. MODULE ISSUER LINK AUDIENCE: checks the link's JWT by the published
// keys, and that nothing else passes for it.

import assert from "node:assert/strict";

const [module, issuer, link, audience] = process.argv.slice(2);
const jose = await import(module);
const token = new URLSearchParams(new URL(link).hash.slice(1)).get("token");
const provider = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const keys = jose.createRemoteJWKSet(new URL(provider.jwks_uri));
const wanted = { issuer, audience, typ: "visit+jwt", algorithms: ["RS256"], maxTokenAge: 90, requiredClaims: ["jti", "room", "role"] };
const { payload, protectedHeader } = await jose.jwtVerify(token, keys, wanted);
assert.equal(protectedHeader.alg, "RS256");
assert.equal(payload.role, "guest");
// It is no identity token, nor for anybody else, nor without its signature.
await assert.rejects(jose.jwtVerify(token, keys, { ...wanted, typ: "JWT" }));
await assert.rejects(jose.jwtVerify(token, keys, { ...wanted, audience: "https://elsewhere.example" }));
const bent = token.slice(0, -6) + (token.endsWith("AAAAAA") ? "BBBBBB" : "AAAAAA");
await assert.rejects(jose.jwtVerify(bent, keys, wanted));
console.log("fine");
