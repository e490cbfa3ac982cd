// Doubles of the services by which applications on telephones are told: FCM's HTTP v1 API, with who gives access tokens
// for it, and APNs' provider API over HTTP/2. They make the keys that a sender is given, and look at what they are sent
// as far as their makers say that the real ones do: signatures, times, heads, and of FCM each member of a message by
// Google's own description (the file that is named). No real FCM or APNs is asked. Listens on this machine alone.
//
// Told line by line on standard input, as JSON: {"next": {"fcm": [...], "apns": [...], "token": [...]}}, {"gone": token,
// "since": ms}, {"read": token}, {"forget": true} (access tokens are believed no more). Tells of each request that it
// heard: {"heard": {...}}.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const http2 = require("node:http2");

const [described, certificate, key] = process.argv.slice(2);
const schemas = JSON.parse(fs.readFileSync(described, "utf8")).schemas;
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const encoding = { type: "pkcs8", format: "pem" };
const google = crypto.generateKeyPairSync("rsa", { modulusLength: 2048, privateKeyEncoding: encoding, publicKeyEncoding: { type: "spki", format: "pem" } });
const apple = crypto.generateKeyPairSync("ec", { namedCurve: "P-256", privateKeyEncoding: encoding, publicKeyEncoding: { type: "spki", format: "pem" } });
const ids = { key: "ABC123DEFG", team: "TEAM123456", topic: "example.northmoor.app", google: "key-1" };
const email = "cairn@northmoor-1.iam.gserviceaccount.com";

let planned = { fcm: [], apns: [], token: [] };
let access = new Set();
const gone = new Map();
const shown = new Map();
let fcmPort = 0;

// What a signed token says, if its signature holds.
const opened = (token, key, options) => {
  const parts = (token ?? "").split(".");
  if (parts.length !== 3) return null;
  const signature = Buffer.from(parts[2], "base64url");
  if (!crypto.verify("sha256", Buffer.from(`${parts[0]}.${parts[1]}`), { key, ...options }, signature)) return null;
  const json = (part) => JSON.parse(Buffer.from(part, "base64url"));
  return { head: json(parts[0]), claims: json(parts[1]) };
};

// Where a value is not what Google describes, or null.
const fault = (value, described, path) => {
  if (described.$ref) {
    if (typeof value !== "object" || value === null) return path;
    const known = schemas[described.$ref].properties;
    for (const [name, inner] of Object.entries(value)) {
      if (!known[name]) return `${path}.${name}`;
      const found = fault(inner, known[name], `${path}.${name}`);
      if (found) return found;
    }
    return null;
  }
  if (described.type === "object") {
    if (typeof value !== "object" || value === null) return path;
    const each = described.additionalProperties;
    const inner = Object.entries(value).find(([, inner]) => each.type === "string" && typeof inner !== "string");
    return inner ? `${path}.${inner[0]}` : null;
  }
  if (typeof value !== described.type) return path;
  if (described.enum && !described.enum.includes(value)) return path;
  if (described.format === "google-duration" && !/^[0-9]+(\.[0-9]+)?s$/.test(value)) return path;
  return null;
};

// Connections to APNs as they are: HTTP/2 would say good-bye, and whoever is cut off hears nothing.
const sockets = new Set();
const cut = (request) => {
  if (request.stream) for (const socket of sockets) socket.resetAndDestroy();
  else request.socket.resetAndDestroy();
};

// What was planned for the next message; whether that is all that becomes of it.
const plan = (service, request, answer) => {
  const what = planned[service].shift() ?? {};
  if (what.reset === "before") cut(request);
  else if (!what.hang && what.status) answer(what.status, what.body, what.retryAfter ? { "retry-after": what.retryAfter } : {});
  return { what, ends: Boolean(what.hang || what.status || what.reset === "before") };
};

const read = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
};

const answerTo = (response) => (status, body, heads = {}) => {
  response.writeHead(status, { "content-type": "application/json", ...heads });
  response.end(body === undefined ? "" : JSON.stringify(body));
};

const refusal = (code, status, own, fields) => {
  const details = [];
  if (own) details.push({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode: own });
  if (fields) details.push({ "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations: fields.map((field) => ({ field, description: "wrong" })) });
  return { error: { code, message: "words of the server", status, details } };
};

const fcm = http.createServer(async (request, response) => {
  const answer = answerTo(response);
  const body = await read(request);
  if (request.url === "/token") {
    const form = new URLSearchParams(body);
    const proof = opened(form.get("assertion"), google.publicKey, {});
    const now = Date.now() / 1000;
    const aud = `http://127.0.0.1:${fcmPort}/token`;
    const { head, claims } = proof ?? { head: {}, claims: {} };
    const good = form.get("grant_type") === "urn:ietf:params:oauth:grant-type:jwt-bearer"
      && head.alg === "RS256" && head.kid === ids.google && claims.iss === email && claims.aud === aud
      && claims.scope === "https://www.googleapis.com/auth/firebase.messaging"
      && claims.exp - claims.iat <= 3600 && Math.abs(now - claims.iat) < 300 && claims.exp > now;
    const { what, ends } = plan("token", request, answer);
    tell({ heard: { service: "token", good, planned: what } });
    if (ends) return;
    if (!good) return answer(400, { error: "invalid_grant" });
    const token = crypto.randomBytes(24).toString("base64url");
    access.add(token);
    return answer(200, { access_token: token, expires_in: what.lasts ?? 3599, token_type: "Bearer" });
  }
  const bearer = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const message = JSON.parse(body);
  const { what, ends } = plan("fcm", request, answer);
  const token = message.message?.token;
  tell({ heard: { service: "fcm", path: request.url, method: request.method, token, access: bearer, body: message, planned: what } });
  if (ends) return;
  if (request.method !== "POST" || request.url !== "/v1/projects/northmoor-1/messages:send") return answer(404, refusal(404, "NOT_FOUND"));
  if (!access.has(bearer)) return answer(401, refusal(401, "UNAUTHENTICATED"));
  const wrong = fault(message, { $ref: "SendMessageRequest" }, "");
  if (wrong) return answer(400, refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", [wrong.slice(1)]));
  if (gone.has(token)) return answer(404, refusal(404, "NOT_FOUND", "UNREGISTERED"));
  shown.set(token, [...(shown.get(token) ?? []), message.message]);
  if (what.reset === "after") return cut(request);
  return answer(200, { name: `projects/northmoor-1/messages/${crypto.randomUUID()}` });
});

const told = async (request, response) => {
  const answer = answerTo(response);
  const body = await read(request);
  const heads = request.headers;
  const { what, ends } = plan("apns", request, answer);
  const token = (/^\/3\/device\/([0-9a-f]{64,200})$/.exec(request.url) ?? [])[1];
  const named = Object.fromEntries(Object.entries(heads).filter(([name]) => name.startsWith("apns-")));
  const bearer = (heads.authorization ?? "").replace(/^bearer /, "");
  tell({ heard: { service: "apns", version: request.httpVersion, token, heads: named, bearer, body: JSON.parse(body), planned: what } });
  if (ends) return;
  const refuse = (status, reason, more = {}) => answer(status, { reason, ...more }, { "apns-id": heads["apns-id"] ?? "" });
  const proof = opened(bearer, apple.publicKey, { dsaEncoding: "ieee-p1363" });
  const now = Date.now() / 1000;
  if (request.method !== "POST") return refuse(405, "MethodNotAllowed");
  if (!bearer) return refuse(403, "MissingProviderToken");
  if (!proof || proof.head.alg !== "ES256" || proof.head.kid !== ids.key || proof.claims.iss !== ids.team) return refuse(403, "InvalidProviderToken");
  if (proof.claims.iat < now - 3600 || proof.claims.iat > now + 300) return refuse(403, "ExpiredProviderToken");
  if (!token) return refuse(400, "BadDeviceToken");
  if (heads["apns-topic"] !== ids.topic) return refuse(400, "DeviceTokenNotForTopic");
  if (heads["apns-push-type"] !== "alert") return refuse(400, "InvalidPushType");
  if (!["1", "5", "10"].includes(heads["apns-priority"])) return refuse(400, "BadPriority");
  if (!/^[0-9]+$/.test(heads["apns-expiration"] ?? "")) return refuse(400, "BadExpirationDate");
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(heads["apns-id"] ?? "")) return refuse(400, "BadMessageId");
  if (Buffer.byteLength(heads["apns-collapse-id"] ?? "") > 64) return refuse(400, "BadCollapseId");
  if (Buffer.byteLength(body) > 4096) return refuse(413, "PayloadTooLarge");
  if (!JSON.parse(body).aps?.alert) return refuse(400, "PayloadEmpty");
  if (gone.has(token)) return refuse(410, "Unregistered", { timestamp: gone.get(token) });
  shown.set(token, [...(shown.get(token) ?? []), { heads: named, body: JSON.parse(body) }]);
  if (what.reset === "after") return cut(request);
  return answer(200, undefined, { "apns-id": heads["apns-id"] });
};

const apns = certificate
  ? http2.createSecureServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key), allowHTTP1: false }, told)
  : http2.createServer(told);
// Whoever goes away while they are answered ends nothing here.
apns.on("sessionError", () => {});
apns.on("connection", (socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket)).on("error", () => {});
});
process.on("uncaughtException", (error) => {
  if (!["ECONNRESET", "EPIPE", "ERR_HTTP2_INVALID_STREAM", "ERR_STREAM_DESTROYED"].includes(error.code)) throw error;
});

fcm.listen(0, "127.0.0.1", () => {
  fcmPort = fcm.address().port;
  apns.listen(0, "127.0.0.1", () => {
    const account = {
      type: "service_account", project_id: "northmoor-1", private_key_id: ids.google, private_key: google.privateKey,
      client_email: email, token_uri: `http://127.0.0.1:${fcmPort}/token`,
    };
    tell({ fcm: fcmPort, apns: apns.address().port, account, key: apple.privateKey, ids });
  });
});
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line);
  if (asked.next) {
    planned = { fcm: [], apns: [], token: [], ...asked.next };
    tell({ planned: true });
  } else if (asked.gone) {
    gone.set(asked.gone, asked.since);
    tell({ gone: asked.gone });
  } else if (asked.forget) {
    access = new Set();
    tell({ forgotten: true });
  } else if (asked.read) {
    tell({ read: shown.get(asked.read) ?? [] });
  }
}).on("close", () => process.exit(0));
