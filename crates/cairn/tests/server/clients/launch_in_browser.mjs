// SMART App Launch with SMART's own library, in a page of another origin and a real browser. PLAYWRIGHT LIBRARY
// BASE CLIENT_ID PORT LINK BIRTH_DATE: serves the application's page on 127.0.0.1:PORT, signs the patient in by
// their link, and does what they would. Fails by an exception.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [playwright, library, base, clientId, port, link, birthDate] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const own = `http://127.0.0.1:${port}`;

// What the application is: it goes to be let in, comes back, and reads the patient whom it is told.
const app = (clientId) => `<!doctype html><title>app</title><script src="/fhir-client.js"></script><script>
  const query = new URLSearchParams(location.search);
  const say = (words) => { document.title = "done"; document.body.textContent = JSON.stringify(words); };
  addEventListener("load", async () => {
    try {
      if (!query.has("code") && !query.has("error")) {
        const scope = "openid fhirUser launch/patient launch/encounter offline_access patient/*.rs";
        await FHIR.oauth2.authorize({ iss: ${JSON.stringify(base)}, clientId: ${JSON.stringify(clientId)}, scope, redirectUri: "/app" });
        return;
      }
      const client = await FHIR.oauth2.ready();
      const patient = await client.patient.read();
      const visit = await client.encounter.read();
      const me = await client.user.read();
      const answer = await fetch(${JSON.stringify(base)} + "/Patient/ann", { headers: { authorization: client.getAuthorizationHeader() } });
      const found = await client.request("Observation?category=laboratory");
      await client.refresh();
      const again = await client.request("Patient/ann");
      say({ patient: patient.id, visit: visit.id, encounter: client.encounter.id, born: patient.birthDate, me: me.id, user: client.getFhirUser(), etag: answer.headers.get("etag"), found: found.entry.length, again: again.id });
    } catch (error) { say({ error: String(error) }); }
  });
</script><body>`;

const bundle = await readFile(library);
// One page of the application, and one of somebody whom nobody let in.
const server = createServer((request, response) => {
  const script = request.url === "/fhir-client.js";
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? bundle : app(clientId));
});
await new Promise((listens) => server.listen(Number(port), "127.0.0.1", listens));
const stranger = createServer((_, response) => response.end("<!doctype html><title>stranger</title>"));
await new Promise((listens) => stranger.listen(0, "localhost", listens));

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(link);
  await page.fill("input[name=birth_date]", birthDate);
  await page.click("form button[type=submit].primary, main form button[type=submit]");
  await page.waitForURL("**/portal");
  await page.goto(`${own}/app`);
  await page.click("button[name=encounter][value=new]");
  await page.click("button[value=allow]");
  await page.waitForFunction(() => document.title === "done");
  const said = JSON.parse(await page.textContent("body"));
  assert.equal(said.error, undefined, said.error);
  assert.equal(said.patient, "ann");
  assert.equal(said.born, "1950-02-03");
  assert.equal(said.encounter, "new");
  assert.equal(said.visit, "new");
  assert.equal(said.me, "ann");
  // The library tells the last two parts of the address.
  assert.equal(said.user, "Patient/ann");
  assert.match(said.etag, /^W\/"/);
  assert.equal(said.found, 1);
  assert.equal(said.again, "ann");
  // A page of nobody's is kept from all of it by the browser, signed in or not.
  await page.goto(`http://localhost:${stranger.address().port}/`);
  const asked = await page.evaluate(async (base) => {
    const ask = (path, options) => fetch(base + path, options).then((answer) => answer.status, () => "kept away");
    return [
      await ask("/metadata"),
      await ask("/Patient/ann", { credentials: "include" }),
      await ask("/Patient/ann", { headers: { authorization: "Bearer x" } }),
      await ask("/.well-known/openid-configuration"),
    ];
  }, base);
  assert.deepEqual(asked, Array(4).fill("kept away"));
  console.log("fine");
} finally {
  await browser.close();
  server.close();
  stranger.close();
}
