// A visit by video in a real browser. PLAYWRIGHT BASE LINK BIRTH_DATE PORT SECRET COOKIE: is the place where visits are
// held, on 127.0.0.1:PORT; signs the patient in, presses the button, and takes what the browser brings to the place; then a
// clinician, whose session COOKIE is. Fails by an exception.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [playwright, base, link, birthDate, port, secret, cookie] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const asked = [];
const came = [];
// The place's page reads the fragment, takes it out of the address, and hands it to its own server, which redeems it.
const room = `<!doctype html><html lang="en"><title>room</title><body><script>
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  history.replaceState(null, "", "/join");
  fetch("/enter", { method: "POST", body: token }).then((answer) => answer.text()).then((words) => {
    document.body.textContent = words;
    document.title = "done";
  });
</script>`;
const place = createServer(async (request, response) => {
  asked.push(`${request.method} ${request.url} ${request.headers.referer ?? "-"}`);
  if (request.url !== "/enter") return response.setHeader("content-type", "text/html").end(room);
  let token = "";
  for await (const chunk of request) token += chunk;
  const answer = await fetch(`${base}/channels/telehealth/redeem`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}` },
    body: new URLSearchParams({ token }),
  });
  const told = await answer.json();
  came.push(told);
  return response.end(told.active ? `You are in, as ${told.role}` : `Nobody is let in: ${told.why}`);
});
await new Promise((listens) => place.listen(Number(port), "127.0.0.1", listens));

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const faults = [];
const look = async (page, name) => {
  for (const [width, scheme] of [[1280, "light"], [320, "light"], [320, "dark"], [1280, "dark"]]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: scheme });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert(wide <= 0, `${name} is ${wide} pixels wider than ${width}`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
};
try {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(30_000);
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(link);
  await page.fill("input[name=birth_date]", birthDate);
  await page.click("main form button[type=submit]");
  await page.waitForURL("**/portal");
  await look(page, "home");
  await page.goto(`${base}/portal/visits/early`);
  assert.equal(await page.getByRole("button", { name: "Join the visit" }).count(), 0);
  await look(page, "early");
  await page.goto(`${base}/portal/visits/visit`);
  await look(page, "open");
  const join = () => page.getByRole("button", { name: /^Join the visit/ }).click();
  await join();
  await page.waitForFunction(() => document.title === "done");
  assert.equal(await page.textContent("body"), "You are in, as guest");
  // Nothing of the link was in a line that a server writes down, nor where they came from.
  assert.deepEqual(asked.filter((line) => !line.includes("favicon")), ["GET /join -", `POST /enter http://127.0.0.1:${port}/join`]);
  // Who comes back by the browser's own way sees the page again, and goes in by a new link.
  await page.goto(`${base}/portal/visits/visit`);
  await page.getByText("If that was not you").waitFor();
  await look(page, "again");
  await join();
  await page.waitForFunction(() => document.title === "done");
  assert.deepEqual(came.map((told) => [told.active, told.role]), [[true, "guest"], [true, "guest"]]);
  assert.equal(came[0].room, came[1].room);
  // A clinician holds it, from the timeline.
  const ward = await browser.newContext();
  await ward.addCookies([{ name: "cairn", value: cookie, url: base }]);
  const console_ = await ward.newPage();
  console_.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await console_.goto(`${base}/console/patients/ann`);
  await look(console_, "timeline");
  await console_.getByRole("button", { name: "Join the visit" }).click();
  await console_.waitForFunction(() => document.title === "done");
  assert.equal(await console_.textContent("body"), "You are in, as host");
  assert.equal(came[2].room, came[0].room);
  assert.notEqual(came[2].sub, came[0].sub);
  assert.deepEqual(faults, []);
  console.log("fine");
} finally {
  await browser.close();
  place.close();
}
