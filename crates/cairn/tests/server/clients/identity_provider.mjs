// An identity provider (oidc-provider) with its own pages for development, where any name signs in. MODULE;
// prints its issuer, and reads orders a line each: "serve BASE" takes the server at BASE for a client with a
// key, "serve BASE SECRET" for one with a secret; "rotate" signs by a new key from then on. Answers "done".

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

const { default: Provider } = await import(process.argv[2]);
// Whoever started this reads its output line by line.
console.info = console.warn = () => {};

let base, secret;
let handle = (_, response) => response.writeHead(503).end();
const server = createServer((request, response) => handle(request, response));
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const key = () => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
};

const begin = () => {
  const own = `${base}/sign-in/with/hospital`;
  const proof = secret
    ? { client_secret: secret, token_endpoint_auth_method: "client_secret_basic" }
    : {
        jwks_uri: `${own}/keys`,
        token_endpoint_auth_method: "private_key_jwt",
        token_endpoint_auth_signing_alg: "ES256",
      };
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "cairn",
        redirect_uris: [`${own}/back`],
        post_logout_redirect_uris: [`${base}/sign-in`],
        backchannel_logout_uri: `${own}/logout`,
        backchannel_logout_session_required: true,
        ...proof,
      },
    ],
    jwks: { keys: [key()] },
    cookies: { keys: ["for tests"] },
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    // Otherwise it asks no server on this machine.
    fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  });
  for (const event of ["server_error", "grant.error", "authorization.error", "backchannel.error"]) {
    provider.on(event, (_, error) => console.error(event, error));
  }
  handle = provider.callback();
};

console.log(issuer);
for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...rest] = line.split(" ");
  if (order === "serve") [base, secret] = rest;
  begin();
  console.log("done");
}
server.closeAllConnections();
server.close();
