// The walk of a newcomer through the demo: node walk.mjs BASE SECONDS-A-DAY PEERS SHOTS [GUIDES]
import { readFile } from "node:fs/promises";
import { Walk } from "./checks.mjs";
import { checkProof } from "./proof.mjs";
import { squads } from "./squads.mjs";

const [base, dayText, peers, shots, guides] = process.argv.slice(2);
const DAY_S = Number(dayText);
/** Slower machines get this much more time for what takes as long as the care clock says. */
const SLACK_S = 30;
const JOURNEY = "/console/journeys/heart-failure-discharge";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const walk = new Walk(base, peers, shots, guides);

const { studio, staged } = squads(walk);
const section = (page, name) => page.getByRole("navigation", { name: "Console" }).getByRole("link", { name });
const menu = (page, name) => page.getByRole("navigation", { name: "Your pages" }).getByRole("link", { name });
const tab = (page, name) => page.locator("nav.tabs").getByRole("link", { name });
const keys = (page) => page.locator("#timeline li.fact").evaluateAll((facts) => facts.map((fact) => fact.dataset.key));

/** Signs a member of staff in with the demo's own buttons. */
async function signIn(name, { closely = false, at = base } = {}) {
  const page = await walk.person(name);
  await page.goto(`${at}/`);
  walk.check(page.url().startsWith(`${at}/sign-in`), `a stranger is sent to ${walk.place(page)} instead of the sign-in page`);
  if (closely) {
    await walk.look(page, "sign-in");
    await page.getByLabel("User name").fill(name);
    await page.getByLabel("Password", { exact: true }).fill("not the password");
    await walk.click(page.getByRole("button", { name: "Continue" }));
    await page.getByRole("alert").getByText("User name or password is wrong.").waitFor();
    await walk.look(page, "sign-in-refused");
  }
  await walk.click(page.getByRole("button", { name: `Sign in as ${name}` }));
  await page.getByRole("heading", { name: "Your one-time code" }).waitFor();
  if (closely) {
    await walk.look(page, "one-time-code");
    // The look took long; a fresh page has a fresh code.
    await page.goto("/sign-in");
    await walk.click(page.getByRole("button", { name: `Sign in as ${name}` }));
    await page.getByRole("heading", { name: "Your one-time code" }).waitFor();
  }
  await walk.follow(page, page.getByRole("button", { name: "Sign in", exact: true }), /^\/console\//);
  return page;
}

async function newcomer() {
  const carla = await signIn("carla", { closely: true });
  walk.check(new URL(carla.url()).pathname === "/console/worklist", "a coordinator's work starts at the worklist");
  await walk.look(carla, "worklist-at-first");

  await walk.follow(carla, section(carla, "Journeys"), "/console/journeys");
  await walk.look(carla, "journeys");
  await walk.follow(carla, carla.getByRole("rowheader").getByRole("link"), /^\/console\/journeys\/heart-failure-discharge\?version=1$/);

  // Counts are words in the drawing, and they change by themselves.
  const waiting = carla.locator('svg a:not(.way)[aria-label*="Until the second day"]');
  const here = async () => Number(/(\d+) here now/.exec(await waiting.getAttribute("aria-label"))?.[1] ?? 0);
  await walk.changesByItself(carla, "the graph shows patients waiting for the second day", 2 * DAY_S + SLACK_S, async () => (await here()) > 0);
  walk.check(/^\d+$/.test((await waiting.locator(".badge-text").textContent()).trim()), "the count stands in the drawing as text");
  const counts = async () => (await carla.locator("#graph svg .count, #graph svg .badge-text").allTextContents()).join(" ");
  const before = await counts();
  await walk.changesByItself(carla, "counts in the graph change", 2 * DAY_S + SLACK_S, async () => (await counts()) !== before);
  await walk.look(carla, "journey");
  await walk.click(carla.getByText("The same as tables"));
  await carla.getByRole("table", { name: "Steps" }).waitFor();

  // A step opens its people; one of them is seen to move.
  await walk.follow(carla, waiting, /step=day_two/);
  await carla.locator("#step").getByRole("heading", { name: "Who is here" }).waitFor();
  await walk.look(carla, "journey-step");

  // The step has a page, and its numbers lead to lists.
  await walk.follow(carla, carla.getByRole("link", { name: "How long they stay, and where they go" }), /^\/console\/journeys\/heart-failure-discharge\/steps\/day_two/);
  await carla.getByRole("heading", { name: "How long they stayed" }).waitFor();
  const came = carla.locator("#step-side dd a").nth(1);
  const number = (await came.textContent()).trim();
  await walk.follow(carla, came, /\/people\?version=1&list=came&step=day_two/);
  await carla.getByText(new RegExp(`^1–\\d+ of \\d+, newest first`)).waitFor();
  walk.check((await carla.locator("tbody tr").count()) >= Math.min(Number(number), 50), "the list has as many rows as the number said");
  await walk.look(carla, "journey-people");

  // How it goes: at once from the counts, and after an analysis with the paths.
  await carla.goto(`${JOURNEY}/analysis?version=1`);
  await carla.getByRole("heading", { name: "How far they come" }).waitFor();
  await walk.look(carla, "journey-analysis");
  await walk.follow(carla, carla.getByRole("button", { name: "Make the analysis" }), /analysis\?version=1/);
  await walk.until("the analysis is made", SLACK_S, async () => {
    await carla.goto(`${JOURNEY}/analysis?version=1`);
    return (await carla.getByRole("button", { name: "Make it anew" }).count()) > 0;
  });
  for (const name of ["Did they go as drawn?", "Paths", "What came of them", "Groups side by side"]) await carla.getByRole("heading", { name }).waitFor();
  await walk.look(carla, "journey-analysis-made");
  await funnel(carla);
  await carla.goto(`${JOURNEY}/steps/symptoms?version=1`);
  await walk.look(carla, "step");
  await carla.goto(`${JOURNEY}?version=1&step=day_two#step`);
  await walk.follow(carla, carla.locator("#step ul [data-act=open]").first(), /^\/console\/patients\//);
  const known = new Set(await keys(carla));
  await walk.changesByItself(carla, "a patient moves: the timeline has a new entry", 3 * DAY_S + SLACK_S, async () => (await keys(carla)).some((key) => !known.has(key) && !key.includes("-plan-")));
  await walk.look(carla, "timeline");
  await walk.follow(carla, tab(carla, "Messages"), /show=messages/);
  walk.check((await keys(carla)).length > 0, "the patient was written to");
  await walk.look(carla, "timeline-messages");
  return carla;
}

/** The graph by parts of those who started, kept from step to step, and back to counts. */
async function funnel(carla) {
  await carla.goto(`${JOURNEY}?version=1`);
  await walk.follow(carla, tab(carla, "Funnel"), /show=funnel/);
  const started = Number((await carla.locator("#graph").textContent()).match(/Of ([\d,]+) who started/)[1].replace(",", ""));
  walk.check(started > 10, "so many started that parts are told");
  const parts = await carla.locator("#graph svg .badge-text").allTextContents();
  walk.check(parts.length > 2 && parts.every((part) => /^(\d+|under 1) %$/.test(part.trim())), `steps have parts: ${parts}`);
  await walk.look(carla, "journey-funnel");
  await walk.follow(carla, carla.locator('svg a:not(.way)[aria-label*="Until the second day"]'), /step=day_two&show=funnel/);
  await walk.click(carla.getByText("The same as tables"));
  await carla.getByRole("columnheader", { name: "Came here, of those who started" }).waitFor();
  await walk.follow(carla, tab(carla, "How many are where"), (url) => url.searchParams.get("step") === "day_two" && !url.searchParams.has("show"));
}

async function patients(carla) {
  const name = await carla.locator("h1").textContent();
  await walk.follow(carla, section(carla, "Patients"), "/console/patients");
  await walk.look(carla, "patients");
  const search = async (words) => {
    await carla.getByLabel("Name").fill(words);
    await walk.click(carla.getByRole("button", { name: "Search" }));
  };
  await search("zzzz");
  await carla.getByText("Nobody found").waitFor();
  await search(name.split(/\s+/).at(-1).slice(0, 4));
  await carla.getByRole("rowheader", { name }).first().waitFor();
  walk.check(!carla.url().includes("?"), "what is searched for does not stand in the address");
  await walk.look(carla, "patients-found");
  await walk.click(carla.locator("h1"));
  await walk.press(carla, "j");
  await walk.press(carla, "Enter");
  await carla.waitForURL(/\/console\/patients\/./);
}

/** A search in the record browser, and how it is made. */
async function explained(carla) {
  await walk.follow(carla, section(carla, "Record"), "/console/record");
  await carla.getByLabel("Type").selectOption("Observation");
  await carla.getByLabel("Parameters, joined by &").fill("code=29463-7&status:not=cancelled&_count=5");
  await walk.click(carla.getByRole("button", { name: "Explain" }));
  await carla.getByRole("heading", { name: "How Observation is searched" }).waitFor();
  walk.check(!carla.url().includes("?"), "what is explained does not stand in the address");
  const table = carla.getByRole("table", { name: "How each parameter is answered" });
  walk.check((await table.locator("tbody tr").count()) >= 2, "each parameter has its line");
  await walk.look(carla, "record-explained");
  await walk.click(carla.getByRole("button", { name: "Search" }));
  await carla.locator("tbody[data-rows] tr").first().waitFor();
  await walk.look(carla, "record-found");
}

async function mailbox(carla) {
  await walk.follow(carla, section(carla, "Mailbox"), "/console/mailbox");
  await walk.look(carla, "mailbox");
  await walk.follow(carla, carla.locator("[data-act=open]").first(), /^\/console\/mailbox\/\d+$/);
  await walk.look(carla, "mailbox-message");
}

async function squad() {
  const sam = await signIn("sam");
  await sam.goto(JOURNEY);
  await walk.follow(sam, sam.getByRole("link", { name: "Edit as a new version" }), /^\/console\/journeys\/publish/);
  const editor = sam.getByLabel("Journey file (YAML)");
  const source = await editor.inputValue();
  walk.check(source.includes("name: heart-failure-discharge"), "the editor holds the journey's file");
  const wrong = source.replace("next: reached", "next: reechd");
  const line = wrong.split("\n").findIndex((text) => text.includes("reechd")) + 1;
  walk.check(line > 0, "the file has the line that the walk breaks");
  await editor.fill(wrong);
  await walk.click(sam.getByRole("button", { name: "Check only" }));
  const finding = sam.getByText(new RegExp(`Line ${line}, column \\d+`)).first();
  await finding.waitFor();
  await walk.look(sam, "publish-findings");
  await walk.click(sam.getByRole("button", { name: "Publish", exact: true }));
  await finding.waitFor();
  walk.check((await editor.inputValue()).includes("reechd"), "a refused file is not lost");
  await editor.fill(source.replace("Hello {patient.given|there}. You are home again", "Good day, {patient.given|there}. You are home again"));
  await walk.click(sam.getByRole("button", { name: "Check only" }));
  await sam.getByText(/No findings|Only warnings/).first().waitFor();
  await walk.follow(sam, sam.getByRole("button", { name: "Publish", exact: true }), /^\/console\/journeys\/heart-failure-discharge\?version=2$/);
  walk.check(/Version 1\s+\d+ now/.test(await tab(sam, "Version 1").textContent()), "patients of version 1 stay there");
  const inIt = async () => Number((await sam.locator("#graph p .strong").first().textContent()).replace(",", ""));
  await walk.changesByItself(sam, "the first patients start in version 2", 3 * DAY_S + SLACK_S, async () => (await inIt()) > 0);
  await walk.look(sam, "journey-version-2");
  await walk.follow(sam, sam.locator('svg a:not(.way)[aria-label*="Until the second day"]'), /step=day_two/);
  await sam.getByText("Your role sees how many patients are here, not who.").waitFor();
  await studio(sam, source);
  await staged(sam, source);
  await sam.context().close();
}

/** A patient with an open form, as the coordinator finds them: at the step, not answering. */
async function findPatient(carla, tried) {
  const people = [];
  for (const version of [1, 2]) {
    await carla.goto(`${JOURNEY}/steps/symptoms?version=${version}`);
    people.push(...await carla.locator("#step-main ul li").evaluateAll((items) => items.map((item) => ({
      patient: item.dataset.key, href: item.querySelector("a").getAttribute("href"),
      hours: (Number(document.documentElement.dataset.now) - Number(item.querySelector("time").dataset.ms)) / 3_600_000,
    }))));
  }
  // Who has not answered for most of a day is not about to; of the others, those who were asked last.
  const rank = ({ hours }) => (hours > 20 ? 0 : 24) + hours;
  return people.filter((person) => !tried.has(person.patient) && person.hours < 36).sort((left, right) => rank(left) - rank(right))[0];
}

/** What the mailbox has for an address: numbers, newest first. */
async function mailTo(carla, address) {
  await carla.goto("/console/mailbox");
  return carla.locator("tbody tr").evaluateAll((rows, address) => rows.filter((row) => row.textContent.includes(address)).map((row) => Number(row.dataset.key)), address);
}

/** Follows the link of a patient's newest message, as they would, up to their own pages. */
async function enterPortal(carla, person) {
  await carla.goto(person.href);
  const born = /born (\d{1,2}) (\w{3}) (\d{4})/.exec(await carla.locator("#patient-head").textContent());
  walk.check(born, "the patient's page says when they were born");
  person.born = `${born[3]}-${String(MONTHS.indexOf(born[2]) + 1).padStart(2, "0")}-${born[1].padStart(2, "0")}`;
  const mailed = carla.locator("#patient-head dt", { hasText: "E-mail" });
  // Who has no address is written to by nobody.
  if (!(await mailed.count())) return null;
  person.address = (await mailed.locator("xpath=following-sibling::dd[1]").textContent()).trim();
  const mail = await mailTo(carla, person.address);
  if (!mail.length) return null;
  await walk.follow(carla, carla.locator(`tr[data-key="${mail[0]}"] a`), /^\/console\/mailbox\/\d+$/);
  person.link = await carla.getByRole("link", { name: /\/sign-in\/link\// }).getAttribute("href");
  walk.check(new URL(person.link).host === new URL(base).host, "the message's link leads to the portal");
  const page = await walk.person("patient");
  await page.goto(person.link);
  await page.getByRole("heading", { name: "Hello. Is it you?" }).waitFor();
  await page.getByLabel("Date of birth").fill(person.born);
  await walk.follow(page, page.getByRole("button", { name: "Open my pages" }), /^\/portal/);
  return page;
}

/** Answers the open form of a patient; gives their page, or nothing when they were faster. */
async function answer(carla, person) {
  const page = await enterPortal(carla, person);
  if (!page) return null;
  // The staff's page of the same patient stays open beside it.
  await carla.goto(person.href);
  person.before = new Set(await keys(carla));
  await page.goto("/portal");
  const form = page.locator('a[href^="/portal/forms/"]').first();
  if (await form.count()) {
    walk.check((await page.locator("#next").textContent()).trim().length > 0, "the home page says what is next");
    await walk.follow(page, form, /^\/portal\/forms\//);
    const choose = (words, answer) => walk.click(page.getByRole("group", { name: words }).getByText(answer, { exact: true }));
    const send = page.getByRole("button", { name: "Send my answers" });
    if (await send.count()) {
      // Looked at in short: the form is open for two days only, and a day is over soon.
      await walk.glance(page, "portal-form");
      await choose(/out of breath/, "Yes");
      await choose(/swollen/, "No");
      await choose(/dizzy/, "No");
      page.wanted.add(409);
      await walk.click(send);
      await page.getByText(/Your answers are with your care team|Changed meanwhile|These questions are closed|You have answered these questions/).first().waitFor();
      page.wanted.delete(409);
      if (page.url().includes("said=answered")) return page;
    }
  }
  await page.context().close();
  return null;
}

async function portal(carla) {
  const tried = new Set();
  let person;
  const page = await walk.until("a patient with an open form is found and let in", 10 * DAY_S + SLACK_S, async () => {
    person = await findPatient(carla, tried);
    if (!person) return null;
    tried.add(person.patient);
    return answer(carla, person);
  });
  const { before } = person;
  await walk.changesByItself(carla, "the answers reach the staff's timeline", DAY_S + SLACK_S, async () => (await keys(carla)).some((key) => !before.has(key) && key.startsWith("QuestionnaireResponse/")));
  await carla.locator("#patient-head .card").getByText("Review alarming symptoms", { exact: true }).waitFor();
  walk.check((await page.locator("#next").textContent()).trim().length > 0, "the home page says what happens next");
  await visit(carla, page);
  await walk.look(page, "portal-home");
  await walk.look(carla, "timeline-after-answers");

  await walk.follow(page, menu(page, "Messages"), "/portal/inbox");
  await walk.look(page, "portal-messages");
  await walk.follow(page, page.locator("ul.links a").first(), /^\/portal\/inbox\/./);
  await walk.look(page, "portal-message");

  await walk.follow(page, menu(page, "What is next"), "/portal");
  await walk.follow(page, page.getByRole("link", { name: "Write down my weight" }), "/portal/weight");
  await page.getByLabel("Weight today, in kilograms").fill("8000");
  await walk.click(page.getByRole("button", { name: "Save" }));
  await page.getByText("That can't be a weight in kilograms.").waitFor();
  await walk.look(page, "portal-weight");
  // The home page, open in another tab, has the new weight by itself.
  const other = await page.context().newPage();
  other.personName = "patient, second tab";
  await other.goto("/portal/weight");
  await walk.follow(page, menu(page, "What is next"), "/portal");
  await other.getByLabel("Weight today, in kilograms").fill("81.4");
  await walk.click(other.getByRole("button", { name: "Save" }));
  await other.getByRole("status").getByText("Your weight is noted.").waitFor();
  await walk.changesByItself(page, "the weight that was written down is on the open home page", SLACK_S, async () => (await page.locator("#portal-home").textContent()).includes("81.4"));
  await walk.look(page, "portal-home-changed");
  await other.close();

  await walk.follow(page, menu(page, "How we reach you"), "/portal/preferences");
  await walk.look(page, "portal-preferences");
  await walk.click(page.getByRole("button", { name: "Save" }));
  await page.getByRole("status").getByText("Your choice is saved.").waitFor();
  await wishes(page);

  await choices(page);
  await consents(carla, person.href);
  await actsFor(carla, page, person);
  await whoLooked(page);
  await withdraw(carla, page, person);

  await walk.follow(page, page.getByRole("button", { name: "Sign out" }), "/sign-in");
  await page.goto("/portal");
  walk.check(page.url().startsWith(`${base}/sign-in`), "signed out is signed out");
  // The link alone opens nothing: it takes the right date of birth.
  await page.goto(person.link);
  await page.getByLabel("Date of birth").fill("1901-02-03");
  await walk.click(page.getByRole("button", { name: "Open my pages" }));
  await page.getByRole("alert").getByText("The date does not match").waitFor();
  await walk.look(page, "portal-link-refused");
  await page.context().close();
  return person;
}

/**
 * Accepts the visit that is offered. Time goes on and the demo's patients book visits by themselves,
 * so it may have been booked, or withdrawn, by the time of the click; then the page must say so.
 */
async function visit(carla, page) {
  const link = page.locator('a[href^="/portal/visits/"]').first();
  if (!(await link.count())) return console.log("  the time to book the visit was over");
  const path = await link.getAttribute("href");
  await walk.follow(page, link, /^\/portal\/visits\//);
  const accept = page.getByRole("button", { name: "Yes, I will come" });
  if (await accept.count()) {
    page.wanted.add(409);
    const booked = page.getByRole("status").getByText("Your visit is booked.");
    const meanwhile = page.getByRole("heading", { name: "Changed meanwhile" });
    await walk.click(accept);
    await booked.or(meanwhile).waitFor();
    const accepted = (await booked.count()) > 0;
    page.wanted.delete(409);
    if (accepted) await walk.changesByItself(carla, "the booked visit reaches the staff's timeline", DAY_S + SLACK_S, async () => (await carla.locator("#timeline .state", { hasText: /^\s*Booked$/ }).count()) > 0);
    await page.goto(path);
    if (accepted) await page.getByText("I can't come after all").waitFor();
  }
  walk.check(!(await accept.count()), "a visit that was accepted, or changed meanwhile, is not offered again");
  await page.getByText(/^(Booked|Cancelled|Its time has passed)$/).first().waitFor();
  await walk.look(page, "portal-visit");
  await walk.follow(page, page.getByRole("link", { name: "What is next for me" }), "/portal");
}

/** Turns the pages of a list until there is what is looked for. */
async function older(page, wanted) {
  for (let pages = 1; (await wanted.count()) === 0; pages += 1) {
    const link = page.getByRole("link", { name: "Older" });
    walk.check(pages < 20 && (await link.count()) > 0, "no page of the list has what is looked for");
    const address = new URL(await link.getAttribute("href"), base);
    await walk.follow(page, link, (url) => url.href === address.href);
  }
}

async function whoLooked(page) {
  await walk.follow(page, menu(page, "Who looked"), "/portal/record");
  const carla = page.locator("li.sentence", { hasText: "Carla Coordinator" }).first();
  await older(page, carla);
  walk.check(/Carla Coordinator .*(read|looked up|searched)/.test(await carla.textContent()), "the patient sees that Carla read their record");
  await walk.look(page, "portal-record");
  await walk.follow(page, carla.getByRole("link", { name: "Proof" }), /^\/portal\/record\/./);
  await walk.look(page, "portal-proof");
  await proof(page, /Carla Coordinator/);
}

/** Downloads the proof of the page and checks it with code that is not ours. */
async function proof(page, about) {
  const [download] = await Promise.all([page.waitForEvent("download"), walk.click(page.getByRole("link", { name: "Download the proof" }))]);
  const file = JSON.parse(await readFile(await download.path(), "utf8"));
  const event = checkProof(file);
  walk.check(event.resourceType === "AuditEvent" && about.test(JSON.stringify(event)), "the proof is about the line that was chosen");
  const bends = {
    "another leaf": (bent) => { bent.proof.leaf_record = Buffer.from(`${bent.proof.leaf_record}x`).toString("base64"); },
    "other words": (bent) => { bent.parts[0].text = bent.parts[0].text.replace('"action":"', '"action":"C'); },
    "an entity left out": (bent) => { bent.parts.pop(); },
  };
  for (const [what, bend] of Object.entries(bends)) {
    const bent = structuredClone(file);
    bend(bent);
    let refused = false;
    try { checkProof(bent); } catch { refused = true; }
    walk.check(refused, `a proof with ${what} is refused`);
  }
  walk.say(`a downloaded proof holds: leaf ${file.proof.leaf_index} of ${file.proof.tree_size}, ${file.proof.path.length} hashes, signed checkpoint`);
}

async function withdraw(carla, page, person) {
  const last = (await mailTo(carla, person.address))[0] ?? 0;
  await carla.goto(person.href);
  await walk.follow(page, menu(page, "Permissions"), "/portal/consent");
  await walk.look(page, "portal-permissions");
  await page.goto("/portal/apps");
  await walk.look(page, "portal-apps");
  await walk.follow(page, menu(page, "Sign-ins"), "/portal/sessions");
  await page.getByText("You are here now").waitFor();
  await walk.look(page, "portal-sessions");
  await walk.follow(page, menu(page, "Permissions"), "/portal/consent");
  await walk.follow(page, page.getByRole("button", { name: "No, please stop" }), /said=withdrawn/);
  await page.getByRole("status").getByText("You have said no. It counts from now on.").waitFor();
  await walk.changesByItself(carla, "the journey ends on the staff's timeline, with the reason", SLACK_S, async () => /Consent withdrawn/.test(await carla.locator("#timeline").textContent()) && /ended .*Consent withdrawn/.test(await carla.locator("#patient-head").textContent()));
  person.quiet = { since: performance.now(), last };
  await walk.look(page, "portal-permissions-withdrawn");
  await walk.look(carla, "timeline-consent-withdrawn");
  await walk.follow(page, menu(page, "What is next"), "/portal");
  await walk.look(page, "portal-home-after-no");
}

/** Looks, days later, whether anything was sent after the no. */
async function staysQuiet(carla, { address, quiet }) {
  await walk.until("three days without a message", 3 * DAY_S + SLACK_S, async () => performance.now() - quiet.since > 3 * DAY_S * 1000);
  const later = (await mailTo(carla, address)).filter((number) => number > quiet.last);
  walk.check(later.length === 0, `${later.length} messages left after consent was withdrawn`);
  walk.say(`no message in the ${((performance.now() - quiet.since) / 1000 / DAY_S).toFixed(0)} days after the no`);
}

async function worklist(carla) {
  await walk.follow(carla, section(carla, "Worklist"), "/console/worklist");
  const rows = carla.locator("#worklist li.row");
  if ((await rows.count()) === 0) {
    await walk.changesByItself(carla, "the first task comes to the worklist", 6 * DAY_S + SLACK_S, async () => (await rows.count()) > 0);
  }
  await walk.look(carla, "worklist");
  walk.check(!(await carla.getByRole("button", { name: "Filter" }).isVisible()), "filters apply by themselves");

  // By keyboard alone. Tasks may come and go meanwhile, so places are not compared with the list before.
  const chosen = () => carla.locator("#worklist li.row[data-selected]").getAttribute("data-key");
  await walk.press(carla, "j");
  const first = await chosen();
  if ((await rows.count()) > 1) {
    await walk.press(carla, "j");
    walk.check((await chosen()) !== first, "j goes down");
    await walk.press(carla, "k");
    walk.check((await chosen()) === first, "k goes up");
  }
  const row = carla.locator(`#worklist li.row[data-key="${first}"]`);

  // Claim, undo. The night shift leaves alone what somebody has just touched.
  await walk.click(row.getByRole("button", { name: /^(Claim|Take over)$/ }));
  await carla.getByRole("status").getByText("Task claimed").waitFor();
  walk.check((await row.textContent()).includes("Yours"), "a claimed task is mine");
  await walk.look(carla, "worklist-claimed");
  await walk.click(carla.getByRole("button", { name: "Undo" }));
  await carla.waitForURL((url) => !url.search.includes("claimed"));
  walk.check(!(await row.textContent()).includes("Yours"), "undoing a claim gives the task back");

  // The patient of a row by keyboard.
  await row.locator("[data-act=open]").focus();
  const patient = new URL(await row.locator("[data-act=open]").getAttribute("href"), base).pathname;
  await walk.press(carla, "Enter");
  await carla.waitForURL((url) => url.pathname === patient);
  await carla.getByRole("heading", { name: "Needs somebody" }).waitFor();
  await walk.click(carla.locator("#patient-head summary").first());
  await walk.look(carla, "timeline-done-form");
  await carla.goBack();

  await many(carla, rows);
  await carla.goto("/console/worklist");
  await walk.click(row.getByRole("button", { name: "Claim" }));
  await carla.getByRole("status").getByText("Task claimed").waitFor();

  // Done, undo by key, done for good with an outcome and a note.
  await walk.click(row.locator("summary[data-act=done]"));
  await walk.look(carla, "worklist-done-form");
  await finish(row, "well, will call again");
  await carla.getByRole("status").getByText("Task done").waitFor();
  walk.check((await row.count()) === 0, "a task that is done leaves the list");
  await walk.look(carla, "worklist-done");
  await walk.click(carla.locator("h1"));
  await walk.press(carla, "u");
  await carla.getByRole("status").getByText("The task is open again").waitFor();
  walk.check((await row.count()) === 1, "an undone task is back");
  await walk.click(row.locator("summary[data-act=done]"));
  const outcome = await finish(row, "advised by telephone");
  await carla.getByRole("status").getByText("Task done").waitFor();
  await carla.getByLabel("State").selectOption("done");
  await carla.waitForURL(/state=done/);
  walk.check((await row.textContent()).includes(`Ended: ${outcome}`), "the list of what is done says how it ended");
  await walk.look(carla, "worklist-finished");
  await carla.goto(`${patient}?show=tasks`);
  await carla.locator(`#timeline li.fact[data-key="Task/${first}"] .state`, { hasText: "Done" }).waitFor();
  await walk.look(carla, "timeline-tasks");
}

/** Several at once: ticked, asked how they ended, claimed, undone. */
async function many(carla, rows) {
  await carla.goto("/console/worklist");
  const count = await rows.count();
  await walk.click(carla.getByLabel("All on this page"));
  await carla.locator("#picked").getByText(/^\d+ ticked/).waitFor();
  await walk.look(carla, "worklist-ticked");
  await walk.click(carla.getByRole("button", { name: /^Done with those ticked/ }));
  await carla.getByRole("heading", { name: "Tasks that are done" }).waitFor();
  await walk.look(carla, "worklist-many-done");
  await walk.click(carla.getByRole("link", { name: "Don't" }));
  await carla.waitForURL((url) => url.pathname === "/console/worklist");
  await walk.click(carla.getByLabel("All on this page"));
  await walk.click(carla.getByRole("button", { name: "Claim those ticked" }));
  // Others work on the list, too: what they were faster with is listed with its reason.
  await carla.getByText(/\d+ tasks? (not )?claimed/).first().waitFor();
  const said = await carla.locator(".flash").textContent();
  walk.check(count === 0 || Number(/(\d+) task/.exec(said)[1]) > 0, "some were claimed");
  await walk.look(carla, "worklist-many-claimed");
  await walk.press(carla, "u");
  await carla.getByText(/\d+ tasks? (not )?put back as before/).first().waitFor();
}

/** Chooses the first outcome in an open "Done…" form and sends it. Gives the outcome's words. */
async function finish(row, note) {
  const form = row.locator("details:has(summary[data-act=done])");
  const select = form.getByLabel("How it ended");
  let outcome = "done";
  if (await select.count()) {
    outcome = (await select.locator("option").first().getAttribute("value")).replace(/[-_]/g, " ");
    await select.selectOption({ index: 0 });
  }
  await form.getByLabel("Note").fill(note);
  await walk.click(form.getByRole("button", { name: "Mark as done" }));
  return outcome;
}

/** Which messages are wanted is said, and what can't be is told. */
async function wishes(page) {
  await walk.follow(page, page.getByRole("link", { name: "Which messages you want" }), "/portal/preferences/messages");
  await walk.look(page, "portal-wishes");
  await page.getByLabel("Visits").selectOption("email,sms");
  await page.getByLabel("From").fill("20:00");
  await page.getByLabel("Until").fill("08:00");
  await walk.click(page.getByRole("button", { name: "Save" }));
  await page.getByRole("status").getByText("It counts from now on, also for messages that wait.").waitFor();
  walk.check((await page.getByLabel("Visits").inputValue()) === "email,sms", "what was chosen is shown");
  await walk.look(page, "portal-wishes-said");
  // The demo's patient goes on as before.
  await page.getByLabel("Visits").selectOption("usual");
  await page.getByLabel("From").fill("");
  await page.getByLabel("Until").fill("");
  await walk.click(page.getByRole("button", { name: "Save" }));
  await page.getByRole("status").getByText("It counts from now on, also for messages that wait.").waitFor();
}

/** What a change of consents would change is shown, and not made. */
async function choices(page) {
  await walk.follow(page, menu(page, "Permissions"), "/portal/consent");
  await walk.follow(page, page.getByRole("link", { name: "Your choices" }), "/portal/choices");
  await walk.look(page, "portal-choices");
  await walk.click(page.locator("summary", { hasText: /^What$/ }));
  await page.getByLabel("Diagnoses").check();
  await walk.look(page, "portal-choices-form");
  await walk.click(page.getByRole("button", { name: "Show what would change" }));
  await page.locator("#effect").waitFor();
  await walk.look(page, "portal-what-would-change");
  await walk.follow(page, page.getByRole("link", { name: "Don't" }), "/portal/choices");
  walk.check((await page.locator("main li.card", { hasText: "diagnoses" }).count()) === 0, "a draft that is not made is not said");
}

/** The same for staff. */
async function consents(carla, href) {
  await carla.goto(href);
  await walk.follow(carla, carla.getByRole("link", { name: "What consents allow" }), /\/consents$/);
  await walk.look(carla, "consents");
  await walk.click(carla.getByRole("button", { name: "Show what would change" }));
  await carla.locator("#effect").waitFor();
  await walk.look(carla, "consents-what-would-change");
  await carla.goto(`${href}/journeys`);
  await carla.getByRole("heading", { name: "Journeys by hand" }).waitFor();
  await walk.look(carla, "journeys-by-hand");
  await walk.click(carla.locator("summary", { hasText: "Lead the patient by hand" }).first());
  await walk.look(carla, "journeys-by-hand-open");
  await walk.follow(carla, carla.getByRole("button", { name: "Look at holding it" }).first(), /do=hold/);
  await carla.locator("#effect").waitFor();
  await walk.look(carla, "journey-held-foreseen");
  await carla.goto("/console/batches");
  await walk.look(carla, "batches");
  await carla.goto("/console/batches/new?journey=heart-failure-discharge&version=1");
  await walk.follow(carla, carla.getByRole("button", { name: "Show what would come of it" }), "/console/batches/new");
  await carla.locator("#effect").waitFor();
  await walk.look(carla, "batch-foreseen");
  await moves(carla);
}

/** Patients moved to the other version: lines that are wrong, what would come of it, one of them, at rest. */
async function moves(carla) {
  await carla.goto(`${JOURNEY}/move?from=1&to=2`);
  await walk.click(carla.locator("summary", { hasText: "The same as lines" }));
  const lines = carla.getByRole("textbox", { name: /^Where they go on/ });
  await lines.fill("# who was welcomed stays\nwelcom: stay");
  await walk.click(carla.getByRole("button", { name: "Show what would come of it" }));
  await carla.getByText("Line 2, column 1").waitFor();
  await walk.look(carla, "move-lines");
  await lines.fill("welcome: stay");
  await carla.getByLabel("Only the first so many").fill("1");
  await walk.click(carla.getByRole("button", { name: "Show what would come of it" }));
  await carla.locator("#effect").waitFor();
  await walk.look(carla, "move-foreseen");
  const who = carla.getByRole("button", { name: /^Who/ }).first();
  if (!(await who.count())) return console.log("  nobody is on the first version any more");
  await walk.click(who);
  await carla.getByRole("heading", { name: /^For each of those/ }).waitFor();
  await walk.look(carla, "move-named");
  await walk.click(carla.getByRole("button", { name: "Back to what would come of it" }));
  await carla.locator("#effect").waitFor();
  const move = carla.getByRole("button", { name: "Move them" });
  if (!(await move.count())) return console.log("  whoever is first can't be moved now");
  await carla.getByLabel("Why").fill("Looked at in a walk");
  await carla.getByLabel("Patients a second, at most").fill("1");
  await walk.follow(carla, move, /^\/console\/batches\/./);
  await walk.look(carla, "batch");
}

/** Somebody is let act for the patient, comes by the link to their own address, and is ended by the patient. */
async function actsFor(carla, page, person) {
  const address = "mona.acts@example.org";
  await carla.goto(person.href);
  await walk.follow(carla, carla.getByRole("link", { name: "Who acts for them" }), /\/proxies$/);
  await walk.look(carla, "proxies");
  await carla.getByLabel("Name", { exact: true }).fill("Mona Acts");
  await carla.getByLabel("Their own e-mail address").fill(address);
  await carla.getByLabel("Their date of birth").fill("1984-05-06");
  await carla.locator("select[name=basis]").selectOption("authorised");
  await carla.getByLabel("What proves it").fill("Signed form, seen at the desk");
  await walk.follow(carla, carla.getByRole("button", { name: "Let them act" }), /done=made/);
  await walk.look(carla, "proxies-named");
  const mail = await walk.until("the mail with their link comes", SLACK_S, async () => (await mailTo(carla, address))[0]);
  await walk.follow(carla, carla.locator(`tr[data-key="${mail}"] a`), /^\/console\/mailbox\/\d+$/);
  const link = await carla.getByRole("link", { name: /\/sign-in\/link\// }).getAttribute("href");
  const mona = await walk.person("mona");
  await mona.goto(link);
  await mona.getByLabel("Date of birth").fill("1984-05-06");
  await walk.follow(mona, mona.getByRole("button", { name: "Open my pages" }), /^\/portal/);
  await mona.getByText("You act for").waitFor();
  await walk.look(mona, "acts-for-home");
  await walk.follow(mona, menu(mona, "Which messages"), "/portal/preferences/messages");
  await walk.look(mona, "acts-for-wishes");
  await walk.follow(mona, menu(mona, "For whom you act"), "/portal/for");
  await walk.look(mona, "acts-for");

  await walk.follow(page, menu(page, "Permissions"), "/portal/consent");
  await walk.follow(page, page.getByRole("link", { name: "Who acts for you" }), "/portal/proxies");
  await walk.look(page, "portal-proxies");
  await walk.follow(page, page.getByRole("button", { name: "End it now" }), /said=ended/);
  await walk.look(page, "portal-proxies-ended");
  mona.wanted.add(403);
  await mona.goto("/portal");
  await mona.getByText("You don't act for this patient").waitFor();
  await walk.look(mona, "acts-for-nobody");
  await mona.context().close();
}

async function privacyOfficer(person) {
  const priya = await signIn("priya");
  walk.check(new URL(priya.url()).pathname === "/console/audit", "a privacy officer's work starts at the audit");
  await walk.look(priya, "audit");
  await priya.getByLabel("Action").selectOption("search-type");
  await priya.waitForURL(/action=search-type/);
  await priya.goto(`/console/audit?patient=${person.patient}`);
  const byCarla = priya.locator("li.sentence").getByRole("link", { name: /Carla Coordinator/ }).first();
  await older(priya, byCarla);
  await walk.follow(priya, byCarla, /who=/);
  const lines = priya.locator("li.sentence");
  walk.check((await lines.count()) > 0, "the filter shows what Carla did with this patient's record");
  for (const line of await lines.allTextContents()) walk.check(line.includes("Carla Coordinator"), "the filter shows Carla only");
  await walk.look(priya, "audit-filtered");
  await walk.follow(priya, lines.first().getByRole("link", { name: "Details" }), /^\/console\/audit\/./);
  await priya.getByRole("heading", { name: "The record as it is kept" }).waitFor();
  await walk.look(priya, "audit-record");
  await walk.follow(priya, priya.getByRole("link", { name: "Proof", exact: true }), /\/proof$/);
  await walk.look(priya, "audit-proof");
  await proof(priya, /Carla Coordinator/);
  await priya.goto("/console/audit");
  await walk.follow(priya, priya.getByRole("link", { name: "Signed state" }), /^\/console\/checkpoint$/);
  await priya.getByRole("heading", { name: "Witnesses" }).waitFor();
  await walk.look(priya, "checkpoint");
  const section = (name) => priya.getByRole("navigation", { name: "Console" }).getByRole("link", { name });
  await walk.follow(priya, section(/^Access$/), "/console/access");
  await walk.look(priya, "access");
  await priya.getByLabel("Resource type").fill("Observation");
  await walk.click(priya.getByRole("button", { name: "Ask" }));
  await priya.locator("#answer").waitFor();
  await walk.look(priya, "access-explained");
  await walk.follow(priya, section("Unexplained"), "/console/unexplained");
  await priya.getByRole("heading", { name: "Unexplained accesses" }).waitFor();
  await walk.look(priya, "unexplained");
  await walk.follow(priya, priya.getByRole("link", { name: /^Look into it/ }).first(), /^\/console\/unexplained\/./);
  await walk.look(priya, "unexplained-one");
  await priya.getByLabel("Yes, which the record does not show").check();
  await priya.getByLabel("What you found").fill("They helped out at the desk that day");
  await walk.click(priya.getByRole("button", { name: "Close it" }));
  await priya.getByRole("status").getByText("Closed").waitFor();
  await priya.getByLabel("State").selectOption("closed");
  await priya.waitForURL(/state=closed/);
  await priya.getByText("They helped out at the desk that day").waitFor();
  await walk.look(priya, "unexplained-closed");
  await walk.follow(priya, section("Policies"), "/console/policies");
  await priya.getByRole("table", { name: "Roles" }).waitFor();
  await walk.look(priya, "policies");
  await walk.follow(priya, section("Emergency access"), "/console/emergencies");
  await walk.look(priya, "emergencies");

  // What is not there, what is not theirs, and the other colours.
  priya.wanted.add(404).add(403);
  await priya.goto("/console/nowhere");
  await walk.look(priya, "not-found");
  await priya.goto("/console/journeys/publish");
  await priya.getByRole("heading", { name: "Not allowed" }).waitFor();
  await walk.look(priya, "refused");
  await priya.goto("/console/audit");
  await walk.click(priya.getByRole("button", { name: "Light or dark" }));
  walk.check((await priya.locator("html").getAttribute("data-theme")) === "dark", "the button turns the light off");
  await priya.reload();
  walk.check((await priya.locator("html").getAttribute("data-theme")) === "dark", "the choice of colours is kept");
  await priya.context().close();
}

/** Who has a way in, and taking it away and giving it back. */
async function administrator() {
  const ada = await signIn("ada");
  walk.check(new URL(ada.url()).pathname === "/console/accounts", "an administrator's work starts at the accounts");
  await walk.look(ada, "accounts");
  const row = ada.locator("tr", { hasText: "Dr Devi Clinician" });
  await walk.follow(ada, row.getByRole("link", { name: /Dr Devi Clinician/ }), /^\/console\/accounts\/./);
  await walk.look(ada, "account-sessions");
  await ada.goto("/console/accounts");
  await walk.click(row.getByText("Reset second factor…"));
  await row.getByLabel("Why").waitFor();
  await walk.look(ada, "accounts-reset");
  await walk.press(ada, "Escape");
  await walk.click(row.getByRole("button", { name: "Close", exact: true }));
  await ada.getByRole("status").getByText("Account closed").waitFor();
  walk.check((await row.locator(".state").textContent()).includes("Closed"), "a closed account is shown as closed");
  await walk.look(ada, "accounts-closed");
  await walk.click(ada.getByRole("status").getByRole("button", { name: "Undo" }));
  await ada.getByRole("status").getByText("Account open again").waitFor();
  await ada.getByLabel("State").selectOption("closed");
  await ada.waitForURL(/state=closed/);
  await ada.getByText("No account fits").waitFor();
  await walk.look(ada, "accounts-none");
  await ada.context().close();
}

/** Passkeys, by Chromium's own authenticator: made, alone, after a password, and not without the person. */
async function passkeys() {
  const here = base.replace("127.0.0.1", "localhost");
  const devi = await signIn("devi", { at: here });
  const wire = await devi.context().newCDPSession(devi);
  await wire.send("WebAuthn.enable");
  const { authenticatorId } = await wire.send("WebAuthn.addVirtualAuthenticator", { options: {
    protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true,
  } });
  await walk.follow(devi, devi.getByRole("link", { name: "Your sign-in" }), "/console/sign-in");
  await devi.getByText("No passkey yet").waitFor();
  await walk.look(devi, "own-sign-in-at-first");
  await devi.getByLabel("Name of the new passkey").fill("This laptop");
  await walk.follow(devi, devi.getByRole("button", { name: "Add a passkey" }), /said=added/);
  await devi.getByRole("row", { name: /This laptop/ }).waitFor();
  await walk.look(devi, "own-sign-in");
  const { credentials } = await wire.send("WebAuthn.getCredentials", { authenticatorId });
  walk.check(credentials.length === 1 && credentials[0].isResidentCredential && credentials[0].rpId === "localhost", "the passkey is one that is found without a name");
  await devi.getByLabel("Name of the new passkey").fill("The same again");
  await walk.click(devi.getByRole("button", { name: "Add a passkey" }));
  await devi.getByText("holds a passkey for your account already").waitFor();
  await walk.follow(devi, devi.getByRole("link", { name: "Set up another app" }), "/console/sign-in/app");
  await walk.look(devi, "own-authenticator-app");

  await walk.follow(devi, devi.getByRole("button", { name: "Sign out" }), "/sign-in");
  await walk.look(devi, "sign-in-passkey");
  await wire.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false });
  await walk.click(devi.getByRole("button", { name: "Sign in with a passkey" }));
  await devi.getByRole("alert").getByText("No passkey was used").waitFor();
  await wire.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });
  await walk.follow(devi, devi.getByRole("button", { name: "Sign in with a passkey" }), "/console/worklist");
  await devi.goto(`${here}/console/sign-in`);
  walk.check((await devi.getByText("not yet").count()) === 0, "the passkey was used");

  await walk.follow(devi, devi.getByRole("button", { name: "Sign out" }), "/sign-in");
  await walk.click(devi.getByRole("button", { name: "Sign in as devi" }));
  await devi.getByRole("heading", { name: "Your one-time code" }).waitFor();
  await walk.look(devi, "one-time-code-or-passkey");
  await walk.follow(devi, devi.getByRole("button", { name: "Use a passkey" }), "/console/worklist");

  // By the address a browser makes no passkeys, and the pages do without.
  await devi.goto(`${base}/sign-in`);
  walk.check(!(await devi.getByRole("button", { name: "Sign in with a passkey" }).isVisible()), "no passkey is offered where none works");
  await devi.context().close();
}

try {
  await walk.open();
  const carla = await newcomer();
  await patients(carla);
  await explained(carla);
  await mailbox(carla);
  await squad();
  const person = await portal(carla);
  await worklist(carla);
  await privacyOfficer(person);
  await administrator();
  await passkeys();
  await staysQuiet(carla, person);
  walk.guided();
} catch (error) {
  const where = error.stack.split("\n").filter((line) => /walk\.mjs|squads\.mjs/.test(line)).slice(0, 3).join("\n");
  walk.problem(`the walk ended: ${error.message.slice(0, 600)}\n${where}`);
  for (const context of walk.browser?.contexts() ?? []) {
    for (const open of context.pages()) {
      console.error(`  open: ${open.personName} at ${walk.place(open)}`);
      await open.screenshot({ path: `${shots}/failed-${open.personName}.png`, animations: "allow", caret: "initial" }).catch(() => {});
    }
  }
} finally {
  console.log(walk.summary());
  await walk.close();
}
process.exitCode = walk.problems.length ? 1 : 0;
