// A push service for the tests: npm's web-push-testing, which looks at what it is sent as a browser would (signature,
// key, sealing), behind a plan of what to do with the next messages. Listens on this machine alone.
//
// Told line by line on standard input, as JSON: {"subscribe": key}, {"next": [...]}, {"expire": hash}, {"read": hash}.
// Tells of each request that it heard: {"heard": {...}}.
"use strict";
const path = require("node:path");
const home = path.resolve(process.argv[2], "node_modules", "web-push-testing", "src");
const Server = require(path.join(home, "server.js"));
const { PushApiModel } = require(path.join(home, "PushApiModel.js"));

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const model = new PushApiModel();
const server = new Server(model, 0);
let planned = [];
server._app.use((request, response, next) => {
  const hash = request.url.split("/").pop();
  const { ttl, topic, urgency, authorization } = request.headers;
  const [, claims] = (authorization ?? "").split(".");
  const told = {
    hash, ttl, topic, urgency, bytes: request.body?.length, encoding: request.headers["x-content-encoding"],
    claims: claims ? JSON.parse(Buffer.from(claims, "base64url")) : null,
  };
  const what = planned.shift() ?? {};
  tell({ heard: { ...told, planned: what } });
  if (what.hang) return;
  if (what.reset === "before") { request.socket.resetAndDestroy(); return; }
  if (what.reset === "after") {
    // It has it, and nobody hears of that.
    response.send = () => response;
    response.status = () => { request.socket.resetAndDestroy(); return response; };
    next();
    return;
  }
  if (what.status) {
    if (what.retryAfter) response.set("retry-after", what.retryAfter);
    if (what.location) response.set("location", what.location);
    response.status(what.status).end();
    return;
  }
  next();
});
server.setRequestHandlers();
const listening = server._app.listen(0, "127.0.0.1", () => {
  const { port } = listening.address();
  model.notifyUrl = `http://127.0.0.1:${port}/notify/`;
  tell({ port });
});
require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const asked = JSON.parse(line);
  if (asked.subscribe) {
    tell({ subscribed: await model.createSubscription({ applicationServerKey: asked.subscribe, userVisibleOnly: "true" }) });
  } else if (asked.next) {
    planned = asked.next;
    tell({ planned: planned.length });
  } else if (asked.expire) {
    model.expireSubscription(asked.expire);
    tell({ expired: asked.expire });
  } else if (asked.read) {
    tell({ read: model.getNotifications({ clientHash: asked.read }).messages });
  }
}).on("close", () => process.exit(0));
