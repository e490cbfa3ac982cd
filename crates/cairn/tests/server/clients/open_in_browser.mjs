// A SMART EHR launch with SMART's own library: somebody of the staff opens the application from a patient's page.
// PLAYWRIGHT LIBRARY BASE CLIENT_ID PORT COOKIES PAGE: serves the application at 127.0.0.1:PORT, opens it from PAGE with
// the session that COOKIES (JSON) are of, and does what they would. Fails by an exception.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [playwright, library, base, clientId, port, cookies, opened] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);

// It is told by its address which server and what for, and asks for laboratory results alone.
const launch = `<!doctype html><title>launch</title><script src="/fhir-client.js"></script><script>
  const laboratory = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
  const scope = "launch patient/Patient.r patient/Observation.rs?category=" + laboratory;
  FHIR.oauth2.authorize({ clientId: ${JSON.stringify(clientId)}, scope, redirectUri: "/app" })
    .catch((error) => { document.title = "failed"; document.body.textContent = String(error); });
</script><body>`;
const app = `<!doctype html><title>app</title><script src="/fhir-client.js"></script><script>
  const say = (words) => { document.title = "done"; document.body.textContent = JSON.stringify(words); };
  addEventListener("load", async () => {
    try {
      const client = await FHIR.oauth2.ready();
      const patient = await client.patient.read();
      const found = await client.request("Observation");
      const ids = found.entry.map((entry) => entry.resource.id);
      const other = await client.request("Patient/bob").then(() => "shown", (error) => error.statusCode ?? error.status);
      say({ server: client.state.serverUrl, patient: patient.id, ids, other });
    } catch (error) { say({ error: String(error) }); }
  });
</script><body>`;

const bundle = await readFile(library);
const server = createServer((request, response) => {
  const pages = { "/fhir-client.js": bundle, "/launch": launch, "/app": app };
  const path = request.url.split("?")[0];
  response.setHeader("content-type", path.endsWith(".js") ? "text/javascript" : "text/html");
  response.writeHead(pages[path] ? 200 : 404);
  response.end(pages[path]);
});
await new Promise((listens) => server.listen(Number(port), "127.0.0.1", listens));

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const context = await browser.newContext();
  const url = new URL(base).origin;
  await context.addCookies(JSON.parse(cookies).map(([name, value]) => ({ name, value, url })));
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(url + opened);
  await page.click("main form:has(input[name=app]) button");
  // The link that the page gives is good once, and opens a tab.
  const [tab] = await Promise.all([context.waitForEvent("page"), page.click("#launch")]);
  tab.setDefaultTimeout(30_000);
  await tab.click("button[value=allow]");
  await tab.waitForFunction(() => document.title === "done");
  const said = JSON.parse(await tab.textContent("body"));
  assert.deepEqual(said, { server: base, patient: "ann", ids: ["lab-ann"], other: said.other });
  assert.ok([403, 404].includes(said.other), String(said.other));
} finally {
  await browser.close();
  server.close();
}
console.log("fine");
