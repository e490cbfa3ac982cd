// What the studio's script does while somebody types, against a server that answers as a test wants: node typing.mjs ASSETS PEERS SHOTS
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Walk } from "./checks.mjs";

const [assets, peers, shots] = process.argv.slice(2);
const file = (name) => readFileSync(join(assets, name));
/** Checks that wait for their answer, oldest first: what was sent, and how it is answered. */
const waiting = [];
let asked = 0;
const finding = (line, code) => `<li class="problem" data-key="${code}-${line}-1"><a class="strong" href="#source" data-act="place" data-line="${line}" data-column="3">Line ${line}, column 3</a> <a href="/checks/${code}">${code}</a></li>`;
const looked = (findings) => `<section id="looked" tabindex="-1" aria-label="Found"><p id="verdict">${findings.length} found</p><ol class="findings">${findings.join("")}</ol><div class="graph" tabindex="0" role="region" aria-label="Graph"><svg width="3000" height="3000" role="img" aria-label="Steps"></svg></div><details id="ways"><summary>Ways</summary>As a table</details></section>`;
const LINES = Array.from({ length: 400 }, (_, line) => `l${line + 1}: ${line}`).join("\n");
const PAGE = `<!doctype html><html lang="en" data-now="0" data-wall="0"><title>Studio</title><link rel="stylesheet" href="/cairn.css">
<main id="main" tabindex="-1"><h1>Studio</h1><div class="studio columns half"><form method="post" action="/studio"><input type="hidden" name="csrf" value="token">
<label>File<textarea id="source" class="source" name="source" wrap="off" data-check="/check">\n${LINES}</textarea></label>
<p class="scripted"><span id="checking" aria-hidden="true"></span> <span id="said" role="status"></span></p></form>${looked([finding(1, "J001")])}</div><div id="differs"></div></main>
<script src="/cairn.js" defer></script><script src="/studio.js" defer></script></html>`;
const KINDS = { "/cairn.js": "text/javascript", "/studio.js": "text/javascript", "/cairn.css": "text/css" };
const server = createServer((request, response) => {
  const { url } = request;
  if (KINDS[url]) return response.writeHead(200, { "content-type": KINDS[url] }).end(file(url.slice(1)));
  if (url !== "/check") return response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
  asked += 1;
  let body = "";
  request.on("data", (part) => { body += part; });
  request.on("end", () => waiting.push({
    fields: new URLSearchParams(body),
    found: (said, findings) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ said, parts: [{ id: "looked", html: looked(findings) }, { id: "differs", html: "<div id=\"differs\"></div>" }] })),
    refuse: (status, headers = {}, body = "{}") => response.writeHead(status, headers).end(body),
  }));
  return undefined;
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const walk = new Walk(`http://127.0.0.1:${server.address().port}`, peers, shots);
const next = (words) => walk.until(words, 10, async () => waiting.shift());
const said = (page, words) => page.locator("#said").getByText(words, { exact: true }).waitFor();

try {
  await walk.open();
  const page = await walk.person("sam");
  await page.clock.install();
  await page.goto("/");
  const field = page.getByLabel("File");
  const state = () => field.evaluate((field) => ({ focused: field === document.activeElement, at: field.selectionStart, top: field.scrollTop, window: scrollY }));
  await page.evaluate(() => {
    window.heard = [];
    new MutationObserver(() => window.heard.push(document.getElementById("said").textContent)).observe(document.getElementById("said"), { childList: true, characterData: true, subtree: true });
  });

  // Nothing is asked while keys come; after a rest it is, with the token and the text.
  await field.focus();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("\nx: 1");
  await page.clock.runFor(600);
  walk.check(asked === 0, "it is asked before there is a rest");
  await page.clock.runFor(200);
  const first = await next("the first check");
  walk.check(first.fields.get("csrf") === "token" && first.fields.get("source").endsWith("\nx: 1"), "what was typed is not what is sent");
  // Typed meanwhile: one check at a time, and an answer about an older text is not shown.
  await page.keyboard.type("2");
  await page.clock.runFor(2_000);
  walk.check(asked === 1, "two checks at once");
  first.found("old", [finding(2, "J002")]);
  await walk.until("the newer text is asked about", 10, async () => { await page.clock.runFor(400); return asked === 2; });
  walk.check((await page.getByText("J002").count()) === 0, "an answer about an older text is shown");
  const second = await next("the second check");
  walk.check(second.fields.get("source").endsWith("x: 12"), "the newest text is checked");
  await page.locator(".graph").evaluate((graph) => graph.scrollTo(300, 500));
  await page.getByText("Ways", { exact: true }).evaluate((summary) => { summary.parentElement.open = true; });
  const before = await state();
  second.found("2 errors, the first in line 3.", [finding(300, "J003"), finding(3, "J004")]);
  await said(page, "2 errors, the first in line 3.");
  walk.check((await page.getByText("J003").count()) === 1 && (await page.getByText("J001").count()) === 0, "what is found is not shown");
  const after = await state();
  walk.check(JSON.stringify(before) === JSON.stringify(after) && after.focused && after.at === LINES.length + 6, `focus, caret or scroll moved: ${JSON.stringify([before, after])}`);
  const kept = await page.locator(".graph").evaluate((graph) => [graph.scrollLeft, graph.scrollTop, document.getElementById("ways").open]);
  walk.check(JSON.stringify(kept) === "[300,500,true]", `the graph moved or the table was shut: ${kept}`);

  // The same findings of another text: nothing is said again.
  await page.keyboard.type("3");
  await page.clock.runFor(800);
  (await next("the third check")).found("2 errors, the first in line 3.", [finding(300, "J003"), finding(3, "J004")]);
  await page.locator("#checking").getByText("Checked as you type.").waitFor();
  const heard = await page.evaluate(() => window.heard);
  walk.check(JSON.stringify(heard) === '["2 errors, the first in line 3."]', `it chatters: ${JSON.stringify(heard)}`);

  // By keyboard from the file to a finding, and back to its line.
  await page.keyboard.press("Tab");
  walk.check((await page.evaluate(() => document.activeElement.dataset.line)) === "300", "Tab leads from the file to the first finding");
  await page.keyboard.press("Enter");
  const there = await state();
  const place = LINES.split("\n").slice(0, 299).join("\n").length + 1 + 2;
  walk.check(there.focused && there.at === place, `Enter leads to the line: ${JSON.stringify([there, place])}`);
  const seen = await field.evaluate((field) => { const height = parseFloat(getComputedStyle(field).lineHeight); return [299 * height - field.scrollTop, field.clientHeight]; });
  walk.check(seen[0] > 0 && seen[0] < seen[1], `the line is in sight: ${seen}`);

  // A finding that is looked at stays focused while it is there; afterwards the focus is in its part.
  await page.keyboard.type("z");
  await page.keyboard.press("Tab");
  await page.clock.runFor(800);
  (await next("the fourth check")).found("1 error, the first in line 300.", [finding(300, "J003")]);
  await said(page, "1 error, the first in line 300.");
  walk.check((await page.evaluate(() => document.activeElement.dataset.line)) === "300", "the finding lost the focus");
  await field.evaluate((field) => { field.value += "\n"; field.dispatchEvent(new Event("input", { bubbles: true })); });
  await page.clock.runFor(800);
  (await next("the fifth check")).found("No findings.", []);
  await said(page, "No findings.");
  walk.check((await page.evaluate(() => document.activeElement.id)) === "looked", "the focus is lost with its finding");

  // Typed and taken away again, before it was asked about and while it is: the findings are of what stands there.
  const line = (words) => page.locator("#checking").getByText(words, { exact: true }).waitFor();
  const so_far = asked;
  await field.focus();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("q");
  await line("Not checked yet.");
  await page.keyboard.press("Backspace");
  await page.clock.runFor(800);
  await line("Checked as you type.");
  walk.check(asked === so_far, "what is checked already is asked about again");
  await page.keyboard.type("q");
  await page.clock.runFor(800);
  const dropped = await next("the check of what is taken away");
  await page.keyboard.press("Backspace");
  dropped.found("1 error, the first in line 9.", [finding(9, "J009")]);
  await page.clock.runFor(800);
  await line("Checked as you type.");
  walk.check((await page.getByText("J009").count()) === 0 && asked === so_far + 1, "what was taken away is shown, or asked about again");

  // A proxy between two servers, and a fault of ours: neither is a sign-out. The one is tried again by itself, the
  // other with the next change, and what stands beside the file is marked meanwhile.
  for (const status of [413, 500, 502, 503]) page.wanted.add(status);
  const stale = page.locator("#stale");
  await page.keyboard.type("r");
  await page.clock.runFor(800);
  (await next("the check before a proxy's error")).refuse(502, {}, "<h1>Bad gateway</h1>");
  await said(page, "It could not be checked just now. It is tried again.");
  await page.clock.runFor(4_000);
  walk.check(waiting.length === 0, "after 502 it is asked again too soon");
  await page.clock.runFor(1_500);
  (await next("the check after a proxy's error")).refuse(500, {}, "<h1>Something went wrong</h1>");
  await said(page, "It could not be checked: something went wrong on our side. It is tried again when you change the file.");
  await stale.waitFor();
  await page.clock.runFor(20_000);
  walk.check(waiting.length === 0, "after 500 the same text is sent again");
  await page.keyboard.type("s");
  await page.clock.runFor(800);
  (await next("the check of another text")).found("No findings.", []);
  await said(page, "No findings.");
  await line("Checked as you type.");
  walk.check((await stale.count()) === 0, "what is found in this text is marked as another's");

  // A time to wait that is a date is no time to ask at once.
  await page.keyboard.type("t");
  await page.clock.runFor(800);
  (await next("the check that is to wait for a date")).refuse(503, { "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" });
  await page.waitForTimeout(200);
  await page.clock.runFor(3_000);
  walk.check(waiting.length === 0, "a date makes it ask without a rest");
  await page.clock.runFor(2_500);

  // Too long for a proxy, or too long at all: nothing is sent again, it is said, and what stands there is marked as
  // that of another text until the text is that again.
  (await next("the check that is too long for a proxy")).refuse(413, {}, "<h1>Too large</h1>");
  await page.getByText(/longer than 256 KB/).waitFor();
  await stale.getByText("This is of the file as it was checked last.").waitFor();
  await page.clock.runFor(20_000);
  walk.check(waiting.length === 0, "what was too long is sent again");
  await page.keyboard.press("Backspace");
  await page.clock.runFor(800);
  await line("Checked as you type.");
  await said(page, "No findings.");
  walk.check((await stale.count()) === 0, "the text is that of the findings again");
  const kept_text = await field.inputValue();
  await field.evaluate((field) => { field.value += `\n#${"長".repeat(90_000)}`; field.dispatchEvent(new Event("input", { bubbles: true })); });
  const before_long = asked;
  await page.clock.runFor(20_000);
  await page.getByText(/longer than 256 KB/).waitFor();
  await stale.waitFor();
  walk.check(asked === before_long, "270 KB are sent");
  await field.evaluate((field, text) => { field.value = text; field.dispatchEvent(new Event("input", { bubbles: true })); }, kept_text);
  await page.clock.runFor(800);
  await line("Checked as you type.");

  // Too soon, and away: asked again by itself. Signed out: nothing is asked any more, and nothing is lost.
  for (const status of [429, 503]) page.wanted.add(status);
  await field.focus();
  await page.keyboard.type("a");
  for (const status of [429, 503]) {
    await page.clock.runFor(3_500);
    (await next("the check that is refused")).refuse(status, { "retry-after": "3" });
    await page.waitForTimeout(200);
    await page.clock.runFor(2_500);
    walk.check(waiting.length === 0, `after ${status} it is asked again too soon`);
  }
  await page.clock.runFor(1_500);
  (await next("the check after those")).refuse(303, { location: "/" });
  await page.getByText(/You are signed out/).waitFor();
  const before_out = asked;
  await page.keyboard.type("b");
  await page.clock.runFor(10_000);
  walk.check(asked === before_out, "it goes on asking without a session");
  walk.check((await field.inputValue()).includes("ab"), "what was typed is lost");
} catch (error) {
  walk.problem(error.stack.slice(0, 800));
} finally {
  await walk.close();
  server.closeAllConnections();
  server.close();
}
process.exitCode = walk.problems.length ? 1 : 0;
