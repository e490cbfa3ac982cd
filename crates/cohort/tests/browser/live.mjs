// What the pages' script does with its stream, against a server that says what a test wants: node live.mjs SCRIPT PEERS SHOTS
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { Walk } from "./checks.mjs";

const [scriptPath, peers, shots] = process.argv.slice(2);
const script = readFileSync(scriptPath);
/** Streams that are open, newest last, and how the next one is answered. */
const open = [];
let answer = "stream";
const form = (action) => `<form method="post" action="${action}"><input type="hidden" name="csrf" value="new"><select name="outcome"><option>a<option>b</select><input name="note" aria-label="Note ${action}"></form>`;
/** The list as the pages make it: the filter, the form above the rows (`many::bar`), and rows with a box that names task and version. */
const bar = `<form id="filter"><input type="hidden" name="who" value="mine"><select name="due" aria-label="Due"><option>any</select></form><form id="many" method="post" action="/many" aria-label="Many tasks at once">
<label class="pick scripted"><input type="checkbox" id="pick-page"><span>All on this page</span></label><label class="pick"><input type="checkbox" name="which" value="all" id="pick-all"><span>All 60 that fit</span></label>
<span id="picked" role="status"></span><button type="submit" name="deed" value="claim">Claim</button></form>`;
const rows = (names, versions = {}) => `<div id="worklist">${bar}<ol data-rows>${names.map((name) => `<li data-key="${name}"><label class="pick"><input type="checkbox" form="many" name="task" id="pick-${name}" data-act="pick" value="${name}/${versions[name] ?? 1}"${name === "Guy" ? " data-theirs" : ""} aria-label="Tick ${name}"></label><a data-act="open" href="#${name}">${name}</a><details><summary>Done ${name}</summary>${form(`/${name}`)}</details></li>`).join("")}</ol></div>`;
const PAGE = `<!doctype html><html lang="en" data-now="0" data-wall="0"><title>Worklist</title>
<header><div class="acts-for">You act for Ida Berg</div></header>
<main id="main" tabindex="-1" data-live="/live?after=1"><h1>Worklist</h1><span id="live"></span>${rows(["Ida Berg", "Ole Lie"])}</main><script src="/cairn.js"></script></html>`;
const server = createServer((request, response) => {
  const path = request.url.split("?")[0];
  if (path === "/live" && answer === "full") return response.writeHead(429).end("full");
  if (path === "/live") {
    response.writeHead(200, { "content-type": "text/event-stream" }).write(": live\n\n");
    open.push(response);
    return undefined;
  }
  if (path === "/cairn.js") return response.writeHead(200, { "content-type": "text/javascript" }).end(script);
  return response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const walk = new Walk(`http://127.0.0.1:${server.address().port}`, peers, shots);
const send = (event, data) => open.at(-1).write(`event: ${event}\ndata: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
const part = (names, must, versions) => send("part", { id: "worklist", html: rows(names, versions), must });
const light = (page, words) => page.locator("#live").getByText(words).waitFor();
/** The tab is hidden, or shown again. */
const hide = (page, hidden) => page.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);
async function start(name) {
  const page = await walk.person(name);
  await page.clock.install();
  await page.goto("/");
  await light(page, "Live");
  return page;
}

try {
  await walk.open();
  const words = "You may no longer see this page as it was, so it shows nothing any more.";

  // The end: nothing of it stays, wherever it stood, and it is said why. It stays so.
  const over = await start("over");
  send("end", words);
  await over.getByRole("alert").getByText(words).waitFor();
  const left = await over.locator("body").textContent();
  walk.check(!/Ida|Ole/.test(left), `patients stay on a page that may not be seen any more: ${left}`);
  await over.getByRole("link", { name: "Load the page again" }).waitFor();
  const asked = open.length;
  await hide(over, true);
  await hide(over, false);
  await over.clock.runFor(120_000);
  walk.check(open.length === asked, "a page that is over asks for no stream");
  await over.context().close();

  // A hidden tab lets its stream go and asks with the address that says what it was decided under.
  const hidden = await start("hidden");
  const before = open.length;
  await hide(hidden, true);
  await hide(hidden, false);
  await walk.until("a tab that is shown again asks for a stream", 10, async () => open.length === before + 1);
  send("end", words);
  await hidden.getByRole("alert").getByText(words).waitFor();
  walk.check(!/Ida|Ole/.test(await hidden.locator("body").textContent()), "patients stay on a page that comes back");
  await hidden.context().close();

  // What somebody types is kept from news, and goes along where a part has to be drawn anew.
  const typing = await start("typing");
  await typing.getByText("Done Ole Lie").click();
  await typing.locator('[data-key="Ole Lie"] select').selectOption("b");
  const note = typing.getByLabel("Note /Ole Lie");
  await note.fill("will call");
  part(["Ida Berg", "Ole Lie", "Una Moe"], false);
  part(["Ole Lie"], true);
  await walk.until("the row is taken away", 10, async () => !/Ida/.test(await typing.locator("body ol").textContent()));
  walk.check((await typing.getByText("Una Moe").count()) === 0, "news replaced what somebody types in");
  walk.check((await note.inputValue()) === "will call", "the words are lost");
  walk.check((await typing.locator('[data-key="Ole Lie"] select').inputValue()) === "b", "the choice is lost");
  walk.check((await typing.locator('[data-key="Ole Lie"] [name=csrf]').inputValue()) === "new", "hidden fields are the new ones");
  walk.check(await note.evaluate((field) => field === document.activeElement), "the field has lost the focus");
  part([], true);
  await walk.until("the last row is taken away", 10, async () => (await typing.locator("ol li").count()) === 0);
  await typing.context().close();

  // Boxes: by x, with Shift all from the one before, all of the page; news keeps what is ticked, and the focus on a
  // box holds no news up.
  const ticking = await start("ticking");
  const names = ["Ann", "Ben", "Cat", "Dan", "Eve"];
  part(names, false);
  await ticking.locator('[data-key="Eve"]').waitFor();
  const ticked = () => ticking.locator("ol input:checked").evaluateAll((all) => all.map((box) => box.id.slice(5)).join(" "));
  const says = (words) => ticking.locator("#picked").getByText(words, { exact: true }).waitFor();
  await says("None ticked");
  for (const key of ["j", "j", "x", "j", "j", "Shift+X"]) await walk.press(ticking, key);
  walk.check((await ticked()) === "Ben Cat Dan", `x and Shift+x ticked ${await ticked()}`);
  await says("3 ticked");
  walk.check(await ticking.locator("#pick-page").evaluate((box) => box.indeterminate && !box.checked), "some are ticked, not all");
  await ticking.locator('[id="pick-Cat"]').focus();
  part(["Cat", "Dan", "Fay"], false);
  await ticking.locator('[data-key="Fay"]').waitFor();
  walk.check((await ticked()) === "Cat Dan", `after news ${await ticked()} are ticked`);
  walk.check((await ticking.evaluate(() => document.activeElement.id)) === "pick-Cat", "the box has lost the focus");
  await says("2 ticked");
  await walk.press(ticking, " ");
  walk.check((await ticked()) === "Dan", "the space bar unticks");
  await ticking.locator('[id="pick-Fay"]').click({ modifiers: ["Shift"] });
  walk.check((await ticked()) === "Cat Dan Fay", `Shift and a click tick from the one before: ${await ticked()}`);
  await ticking.getByLabel("All on this page").click();
  walk.check((await ticked()) === "", "all are unticked");
  await ticking.getByLabel("All on this page").click();
  await says("3 ticked");

  // One that somebody else has changed comes unticked, because whoever ticked it has not seen it so; and it is said
  // until the next tick.
  part(["Cat", "Dan", "Fay"], false, { Dan: 2 });
  await ticking.locator('input[value="Dan/2"]').waitFor();
  walk.check((await ticked()) === "Cat Fay", `a box of another version stays ticked: ${await ticked()}`);
  await says("2 ticked; 1 was unticked because it changed");
  part(["Cat", "Dan", "Fay"], false, { Cat: 2, Dan: 2 });
  await ticking.locator('input[value="Cat/2"]').waitFor();
  await says("1 ticked; 2 were unticked because they changed");
  part(["Cat", "Dan", "Fay", "Guy"], false, { Cat: 2, Dan: 2 });
  await ticking.locator('[data-key="Guy"]').waitFor();
  await says("1 ticked; 2 were unticked because they changed");
  await ticking.locator('[id="pick-Guy"]').click();
  await says("2 ticked, 1 of them somebody else's");

  // The boxes of all rows keep the focus and their tick through news, and Enter on them opens nobody.
  for (const [id, before] of [["pick-page", ["Cat"]], ["pick-all", ["Cat", "Dan"]]]) {
    await walk.press(ticking, "j");
    await ticking.locator(`#${id}`).focus();
    if (id === "pick-all") await walk.press(ticking, " ");
    part(before, false);
    await walk.until(`${before} alone are there`, 10, async () => (await ticking.locator("ol li").count()) === before.length);
    const focused = await ticking.evaluate(() => document.activeElement.id);
    walk.check(focused === id, `after news the focus is at "${focused}" instead of ${id}`);
    await walk.press(ticking, "Enter");
    walk.check((await ticking.evaluate(() => location.hash)) === "", `Enter on ${id} opens a patient`);
  }
  walk.check(await ticking.locator("#pick-all").isChecked(), "what stands for all that fit lost its tick");
  await ticking.locator('[id="pick-Dan"]').focus();
  await walk.press(ticking, "Enter");
  walk.check((await ticking.evaluate(() => location.hash)) === "#Dan", "Enter on a row's box opens the patient of the row");
  await ticking.context().close();

  // A pause and a server that is full are for a while: the page stays, says so, and asks again.
  for (const why of ["pause", "full"]) {
    const waiting = await start(why);
    const before = open.length;
    if (why === "pause") send("pause", "The server is stopping.");
    else {
      answer = "full";
      waiting.wanted.add(429);
      await hide(waiting, true);
      await hide(waiting, false);
    }
    await light(waiting, "Trying again");
    walk.check((await waiting.getByText("Ida Berg").count()) > 0, "a pause empties the page");
    answer = "stream";
    await waiting.clock.runFor(31_000);
    await light(waiting, /^Live$/);
    walk.check(open.length === before + 1, `after "${why}" ${open.length - before} streams were asked for instead of one`);
    await waiting.context().close();
  }
} catch (error) {
  walk.problem(error.stack.slice(0, 800));
} finally {
  await walk.close();
  for (const stream of open) stream.end();
  server.close();
}
process.exitCode = walk.problems.length ? 1 : 0;
