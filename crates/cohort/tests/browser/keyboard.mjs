// Console and portal without a mouse: studio, worklist, timeline and portal, each wholly by keys, on a phone's width and a desk's: node keyboard.mjs BASE SECONDS-A-DAY PEERS SHOTS
import { DESKTOP, PHONE, Walk } from "./checks.mjs";

const [base, dayText, peers, shots] = process.argv.slice(2);
const DAY_S = Number(dayText);
const SLACK_S = 30;
/** Presses of Tab until something must have been reached: more than any of these pages has places to be at. */
const PRESSES_MAX = 400;
const SIZES = [["desk", DESKTOP], ["phone", PHONE]];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const walk = new Walk(base, peers, shots);
let stops = 0;

/** Where the focus is: what it says, whether it can be seen, and which of all elements it is; null where it is nowhere. */
const place = (page) => page.evaluate(() => {
  const here = document.activeElement;
  if (!here || here === document.body || here === document.documentElement) return null;
  const box = here.getBoundingClientRect(), style = getComputedStyle(here);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  const drawn = [...here.querySelectorAll?.(".box, .target") ?? []].some((part) => parseFloat(getComputedStyle(part).strokeWidth) >= 3);
  const inside = box.width > 0 && box.height > 0 && box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
  const labels = [...here.labels ?? []].map((label) => label.textContent).join(" ");
  const words = here.getAttribute("aria-label") ?? (labels || here.textContent);
  return {
    tag: here.localName, words: words.replace(/\s+/g, " ").trim(), id: here.id, type: here.getAttribute("type") ?? "", act: here.dataset.act ?? "", name: here.getAttribute("name") ?? "",
    href: here.getAttribute("href") ?? "", at: [...document.querySelectorAll("*")].indexOf(here), seen: inside && (ring || drawn), inside, ring: ring || drawn,
  };
});

/** The focus is somewhere and can be seen there. */
async function standing(page, after) {
  const here = await place(page);
  walk.check(here, `after ${after} on ${walk.place(page)} the focus is nowhere`);
  walk.check(here.seen || here.id === "main", `after ${after} on ${walk.place(page)} the focus is at ${here.tag} "${here.words.slice(0, 60)}" and can't be seen (${here.inside ? "no ring" : "out of sight"})`);
  stops += 1;
  return here;
}

/** Dates and times have several places in one field: each part of them, and the calendar. */
const PARTS_MAX = 8;
/** Says whether Tab stays where it is. */
function traps() {
  let last = -1, times = 0;
  return (here) => {
    times = here.at === last ? times + 1 : 0;
    last = here.at;
    return times > (["date", "time", "datetime-local"].includes(here.type) ? PARTS_MAX : 0);
  };
}

/** Presses Tab until the focus is where it is wanted; on each place it can be seen, and none holds it. */
async function tabTo(page, words, wanted, key = "Tab") {
  let trapped = traps();
  for (let presses = 0; presses < PRESSES_MAX; presses += 1) {
    await walk.press(page, key);
    let here = await place(page);
    // After the last place comes the browser's own frame.
    if (!here) { await walk.press(page, key); here = await place(page); trapped = traps(); }
    walk.check(here, `Tab on ${walk.place(page)} leads nowhere`);
    walk.check(!trapped(here), `the focus is trapped at ${here.tag} "${here.words.slice(0, 60)}" on ${walk.place(page)}`);
    await standing(page, "Tab");
    if (wanted(here)) return here;
  }
  throw new Error(`${words} can't be reached with ${key} on ${walk.place(page)}`);
}

const called = (words, tag) => (here) => (words instanceof RegExp ? words.test(here.words) : here.words === words) && (!tag || here.tag === tag);

/** Goes with Tab to what is called so, and presses Enter, or another key. */
async function go(page, words, { tag, key = "Enter", path } = {}) {
  await tabTo(page, `"${words}"`, called(words, tag));
  await press(page, key, path);
}

/** Presses a key; where it loads another page, waits for that. */
async function press(page, key, path) {
  if (!path) return walk.press(page, key);
  const there = (url) => (path instanceof RegExp ? path.test(url.pathname + url.search) : url.pathname === path);
  return Promise.all([page.waitForURL(there, { waitUntil: "load" }), walk.press(page, key)]);
}

/** From the top of a page to its end and back a step: all places can be seen, and nothing holds the focus. */
async function through(page, words) {
  await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
  const trapped = traps();
  let count = 0;
  for (; count < PRESSES_MAX; count += 1) {
    await walk.press(page, "Tab");
    const here = await place(page);
    if (!here) break;
    walk.check(!trapped(here), `the focus is trapped at ${here.tag} "${here.words.slice(0, 60)}" on ${walk.place(page)}`);
    walk.check(here.seen, `on ${walk.place(page)} the focus is at ${here.tag} "${here.words.slice(0, 60)}" and can't be seen (${here.inside ? "no ring" : "out of sight"})`);
  }
  walk.check(count > 3 && count < PRESSES_MAX, `${words}: ${count} places on the way through`);
  stops += count;
  walk.say(`${words}: ${count} places, all seen, none a trap`);
}

/** Signs in with the demo's buttons. */
async function signIn(name, size) {
  const page = await walk.person(name);
  await page.setViewportSize(size);
  await page.goto("/sign-in");
  await go(page, `Sign in as ${name}`, { tag: "button" });
  await page.getByRole("heading", { name: "Your one-time code" }).waitFor();
  await go(page, "Sign in", { tag: "button", path: /^\/console\// });
  return page;
}

async function studio(sam, words) {
  await sam.goto("/console/journeys");
  await go(sam, "Studio", { tag: "a", path: "/console/studio" });
  await tabTo(sam, "the versions", called(/^Open a version/, "select"));
  await walk.press(sam, "Home");
  await go(sam, "Open", { tag: "button", path: /^\/console\/studio\?open=/ });
  await sam.locator("#verdict").waitFor();
  // Typed in the middle: the check comes by itself, and the focus stays.
  await tabTo(sam, "the file", (here) => here.id === "source");
  await walk.press(sam, "Control+Home");
  await sam.keyboard.type("nonsense: 1\n");
  const finding = sam.locator("#looked a[data-line]").first();
  await finding.waitFor();
  walk.check((await standing(sam, "typing")).id === "source", "the focus leaves the file while somebody types");
  // To the finding, and by it back to its line.
  await tabTo(sam, "a finding", (here) => here.act === "place");
  await walk.press(sam, "Enter");
  walk.check((await standing(sam, "a finding")).id === "source", "a finding does not lead into the file");
  const line = await sam.evaluate(() => { const field = document.getElementById("source"); return field.value.slice(0, field.selectionStart).split("\n").length; });
  walk.check(line === 1, `the caret is in line ${line} instead of the finding's`);
  await walk.press(sam, "Home");
  await walk.press(sam, "Shift+ArrowDown");
  await walk.press(sam, "Delete");
  await sam.locator("#verdict").getByText(/No findings|Only warnings/).waitFor();
  await standing(sam, "mending");
  await tabTo(sam, "the patients", called(/^Patients/, "input"));
  await walk.press(sam, "Control+a");
  await sam.keyboard.type("60");
  await go(sam, "Simulate", { tag: "button" });
  await sam.getByRole("heading", { name: "A simulated cohort" }).waitFor();
  await through(sam, `studio, ${words}`);
  // The graph of what is live: the switch, and a step in it.
  await sam.goto("/console/journeys/heart-failure-discharge?version=1");
  await go(sam, "Funnel", { tag: "a", path: /show=funnel/ });
  await tabTo(sam, "a step of the graph", called(/^(send|ask|wait|task) /, "a"));
  await press(sam, "Enter", /step=/);
  await sam.locator("#step").getByRole("heading").first().waitFor();
}

async function worklist(carla, words) {
  await carla.goto("/console/worklist");
  const rows = carla.locator("#worklist li.row");
  if ((await rows.count()) < 2) await walk.changesByItself(carla, "two tasks come to the worklist", 10 * DAY_S + SLACK_S, async () => (await rows.count()) > 1);
  await through(carla, `worklist, ${words}`);
  // The way past the sections.
  await carla.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
  await carla.goto("/console/worklist");
  await tabTo(carla, "the way past", called("Skip to the content"));
  await walk.press(carla, "Enter");
  walk.check((await place(carla))?.id === "main", "the skip link leads to the content");

  // Two are ticked by keys and claimed together, and that is undone.
  await walk.press(carla, "j");
  walk.check((await standing(carla, "j")).act === "open", "j is at a row");
  await walk.press(carla, "x");
  await walk.press(carla, "j");
  await walk.press(carla, "Shift+X");
  await carla.locator("#picked").getByText("2 ticked").waitFor();
  await standing(carla, "x");
  await tabTo(carla, "a box", (here) => here.act === "pick", "Shift+Tab");
  await walk.press(carla, " ");
  await walk.press(carla, " ");
  await tabTo(carla, "the button for those ticked", called("Claim those ticked"), "Shift+Tab");
  await press(carla, "Enter");
  // Both are, or it is said of each that was not why: others work on the list, too.
  await carla.getByText(/^\d tasks? (not )?claimed$/).first().waitFor();
  const of = async (words) => Number(/^\d+/.exec((await carla.getByText(words).allTextContents())[0] ?? "0")[0]);
  const [claimed, left] = [await of(/^\d tasks? claimed$/), await of(/^\d tasks? not claimed$/)];
  walk.check(claimed > 0 && claimed + left === 2, `of two that were ticked ${claimed} are claimed and ${left} are not`);
  walk.check((await carla.locator("section[aria-labelledby=left] tbody tr").count()) === left, "what is not claimed is listed");
  await walk.press(carla, "u");
  await carla.getByText(/^\d tasks? (not )?put back as before$/).first().waitFor();

  // One is claimed, ended and opened again.
  await walk.press(carla, "j");
  await walk.press(carla, "c");
  await carla.getByRole("status").getByText("Task claimed").waitFor();
  await walk.press(carla, "j");
  await walk.press(carla, "e");
  await standing(carla, "e");
  await walk.press(carla, "Escape");
  walk.check((await standing(carla, "Escape")).act === "done", "Escape closes the form and stays at its button");
  await walk.press(carla, "Enter");
  await go(carla, /^Note/, { tag: "textarea", key: "w" });
  await go(carla, "Mark as done", { tag: "button", path: /done=/ });
  await carla.getByRole("status").getByText("Task done").waitFor();
  await walk.press(carla, "u");
  await carla.getByRole("status").getByText("The task is open again").waitFor();
}

/** From a row of the worklist to the patient, along the timeline, and to the journeys by hand. */
async function timeline(carla, words) {
  await carla.goto("/console/worklist");
  await walk.press(carla, "j");
  await press(carla, "Enter", /^\/console\/patients\//);
  await through(carla, `timeline, ${words}`);
  await go(carla, "Messages", { tag: "a", path: /show=messages/ });
  await go(carla, "Everything", { tag: "a", path: /^\/console\/patients\/[^?]*$/ });
  await go(carla, "Journeys by hand", { tag: "a", path: /\/journeys$/ });
  await go(carla, /^Lead the patient by hand/, { tag: "summary" });
  await standing(carla, "opening what leads by hand");
  await go(carla, "Look at holding it", { tag: "button", path: /do=hold/ });
  await carla.locator("#effect").waitFor();
  await through(carla, `journeys by hand, ${words}`);
}

/** A link into the portal of somebody who was written to, and when they were born; out of the demo's mailbox. */
async function invited(carla) {
  await carla.goto("/console/journeys/heart-failure-discharge/people?version=1&list=came&step=start");
  const people = await carla.locator("tbody tr a[href^='/console/patients/']").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  for (const href of people) {
    await carla.goto(href);
    const born = /born (\d{1,2}) (\w{3}) (\d{4})/.exec(await carla.locator("#patient-head").textContent());
    const mailed = carla.locator("#patient-head dt", { hasText: "E-mail" });
    if (!born || !(await mailed.count())) continue;
    const address = (await mailed.locator("xpath=following-sibling::dd[1]").textContent()).trim();
    await carla.goto("/console/mailbox");
    const mail = carla.locator("tbody tr", { hasText: address }).first();
    if (!(await mail.count())) continue;
    await carla.goto(`/console/mailbox/${await mail.getAttribute("data-key")}`);
    const link = await carla.getByRole("link", { name: /\/sign-in\/link\// }).getAttribute("href");
    return { link, born: [String(MONTHS.indexOf(born[2]) + 1).padStart(2, "0"), born[1].padStart(2, "0"), born[3]] };
  }
  return null;
}

async function portal(carla, size, words) {
  const { link, born } = await walk.until("somebody is written to with a link", 4 * DAY_S + SLACK_S, () => invited(carla));
  const page = await walk.person("patient");
  await page.setViewportSize(size);
  await page.goto(link);
  // A date field takes its parts as the browser's own language has them, which headless is that of the United States.
  await tabTo(page, "the date of birth", called(/^Date of birth/, "input"));
  await page.keyboard.type(born.join(""));
  await go(page, "Open my pages", { tag: "button", path: /^\/portal/ });
  await page.goto("/portal");
  await through(page, `portal, ${words}`);
  await go(page, "Messages", { tag: "a", path: "/portal/inbox" });
  await tabTo(page, "a message", (here) => here.href.startsWith("/portal/inbox/"));
  await press(page, "Enter", /^\/portal\/inbox\/./);
  await through(page, `a message, ${words}`);
  await go(page, "What is next", { tag: "a", path: "/portal" });
  await tabTo(page, "the weight", called(/Write down my weight/, "a"));
  await press(page, "Enter", "/portal/weight");
  await tabTo(page, "the field of the weight", called(/^Weight today/, "input"));
  await page.keyboard.type("81.4");
  await press(page, "Enter");
  await page.getByRole("status").getByText("Your weight is noted.").waitFor();
  await go(page, "How we reach you", { tag: "a", path: "/portal/preferences" });
  await through(page, `preferences, ${words}`);
  await go(page, "Save", { tag: "button" });
  await page.getByRole("status").getByText("Your choice is saved.").waitFor();
  await go(page, "Sign out", { tag: "button", path: "/sign-in" });
  await page.context().close();
}

try {
  await walk.open();
  // Each signs in once, on the one width or the other: a code counts once in half a minute.
  const sam = await signIn("sam", DESKTOP);
  const carla = await signIn("carla", PHONE);
  for (const [words, size] of SIZES) {
    for (const page of [sam, carla]) await page.setViewportSize(size);
    await studio(sam, words);
    await worklist(carla, words);
    await timeline(carla, words);
    await portal(carla, size, words);
  }
} catch (error) {
  const where = error.stack.split("\n").filter((line) => line.includes("keyboard.mjs")).slice(0, 3).join("\n");
  walk.problem(`the walk by keys ended: ${error.message.slice(0, 600)}\n${where}`);
  for (const context of walk.browser?.contexts() ?? []) {
    for (const open of context.pages()) await open.screenshot({ path: `${shots}/failed-keys-${open.personName}.png`, animations: "allow", caret: "initial" }).catch(() => {});
  }
} finally {
  console.log(`${stops} places where the focus was looked at; ${walk.summary()}`);
  await walk.close();
}
process.exitCode = walk.problems.length ? 1 : 0;
