// What holds on every page: no accessibility violations in light and dark, no errors, nothing from
// elsewhere, few bytes. And the small tools of the walk: bounded waits, and proof that a page changed
// without being loaded again.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** HTML, style and script of one page together, bytes on the wire. */
const PAGE_BYTES_MAX = 100_000;
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const SCHEMES = ["light", "dark"];
export const DESKTOP = { width: 1280, height: 900 };
export const PHONE = { width: 390, height: 844 };
/** WCAG 2.2, 1.4.10: no scrolling in two directions down to this width. */
const NARROWEST = { width: 320, height: 640 };
/** Screenshots of long pages end here, px. */
const SHOT_HEIGHT_MAX = 4_000;
/** Pictures of the guides in docs/guides: at which of the looks, how wide, and how much of the page, px, from its top or from an element. */
export const PICTURED = {
  "worklist": [DESKTOP, 900],
  "worklist-many-claimed": [DESKTOP, 620],
  "timeline": [DESKTOP, 1000],
  "journey-held-foreseen": [DESKTOP, 620],
  "batch-foreseen": [DESKTOP, 860],
  "journey-step": [DESKTOP, 1100],
  "journey-funnel": [DESKTOP, 900, "#graph"],
  "journey-analysis-made": [DESKTOP, 1500, "#drawn"],
  "journey-staged": [DESKTOP, 512, "#stage"],
  "studio-findings": [DESKTOP, 1300],
  "studio-simulated": [DESKTOP, 1300],
  "move-foreseen": [DESKTOP, 900],
  "portal-home": [PHONE, 1200],
  "portal-messages": [PHONE, 540],
  "portal-form": [PHONE, 1400],
  "portal-visit": [PHONE, 760],
  "portal-preferences": [PHONE, 1040],
  "portal-wishes": [PHONE, 1200],
  "portal-permissions": [PHONE, 900],
  "portal-proxies": [PHONE, 900],
};
/** What must not stand on a page: values that were never there, templates that were never filled. */
const NONSENSE = /\bundefined\b|\bNaN\b|\[object |\bnull\b|\{[a-z_.]+(\|[^}]*)?\}|\bSome\(|\bNone\b(?! of it)/;

export class Walk {
  constructor(base, peers, shots, guides) {
    const require = createRequire(join(peers, "browser.cjs"));
    this.playwright = require("playwright-core");
    this.AxeBuilder = require("@axe-core/playwright").default;
    this.base = base;
    /** The same server by its address and by the name that passkeys are made for. */
    this.hosts = [base, base.replace("127.0.0.1", "localhost")].map((one) => new URL(one).host);
    this.shots = shots;
    /** Where pictures of the guides go, if they are to be made anew. */
    this.guides = guides;
    mkdirSync(shots, { recursive: true });
    this.problems = [];
    this.clicks = 0;
    this.axe = 0;
    this.pictures = 0;
    this.pages = new Map();
    /** What was looked at in short. */
    this.glanced = new Set();
    this.statics = new Map();
    this.contexts = [];
    this.started = performance.now();
  }

  async open() {
    this.browser = await this.playwright.chromium.launch({
      executablePath: "/usr/bin/chromium",
      args: [
        "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
      ],
    });
  }

  problem(words) {
    if (!this.problems.includes(words)) {
      this.problems.push(words);
      console.error(`  PROBLEM ${words}`);
    }
  }

  say(words) {
    console.log(`[${((performance.now() - this.started) / 1000).toFixed(1).padStart(6)} s] ${words}`);
  }

  /** A browser of its own for one person. */
  async person(name) {
    const context = await this.browser.newContext({
      baseURL: this.base, viewport: DESKTOP, reducedMotion: "reduce", colorScheme: "light", locale: "en-GB", acceptDownloads: true,
    });
    context.setDefaultTimeout(20_000);
    context.setDefaultNavigationTimeout(30_000);
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ""}`));
    });
    const page = await context.newPage();
    page.personName = name;
    /** Statuses of answers that the walk asks for on purpose. */
    page.wanted = new Set();
    page.on("console", (message) => {
      if (!["error", "warning"].includes(message.type())) return;
      const status = /status of (\d{3})/.exec(message.text())?.[1];
      if (status && page.wanted.has(Number(status))) return;
      this.problem(`${name}: console ${message.type()} on ${this.place(page)}: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.problem(`${name}: script error on ${this.place(page)}: ${error.message}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (/^https?:$/.test(url.protocol) && !this.hosts.includes(url.host)) this.problem(`${name}: ${this.place(page)} asked another host: ${url.host}`);
    });
    page.on("response", (response) => {
      const status = response.status();
      if (status >= 400 && !page.wanted.has(status)) this.problem(`${name}: ${status} from ${response.request().method()} ${new URL(response.url()).pathname}`);
    });
    page.on("crash", () => this.problem(`${name}: the page crashed`));
    const wire = await context.newCDPSession(page);
    await wire.send("Network.enable");
    const asked = new Map();
    wire.on("Network.responseReceived", ({ requestId, type, response }) => asked.set(requestId, { type, url: response.url, cached: response.fromDiskCache }));
    wire.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      const known = asked.get(requestId);
      if (!known || known.cached) return;
      if (known.type === "Document") page.documentBytes = encodedDataLength;
      const path = new URL(known.url).pathname;
      if (path.startsWith("/static/")) this.statics.set(path, Math.max(this.statics.get(path) ?? 0, encodedDataLength));
    });
    this.contexts.push(context);
    return page;
  }

  /** The address without what could tell one patient from another. */
  place(page) {
    return page.url().replace(this.base, "").replace(/[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-zA-Z_.-]{40,}/g, "…");
  }

  /** Clicks what is there to be clicked, as a person would. */
  async click(locator) {
    this.clicks += 1;
    await locator.click();
  }

  /** Clicks what loads another page, and waits for that. */
  async follow(page, locator, path) {
    const there = (url) => (typeof path === "function" ? path(url) : path instanceof RegExp ? path.test(url.pathname + url.search) : url.pathname === path);
    await Promise.all([page.waitForURL(there, { waitUntil: "load" }), this.click(locator)]);
  }

  async press(page, key) {
    this.clicks += 1;
    await page.keyboard.press(key);
  }

  check(holds, words) {
    if (!holds) throw new Error(words);
  }

  /** Waits until `probe` gives something, at most so long. */
  async until(words, seconds, probe) {
    const end = performance.now() + seconds * 1000;
    for (;;) {
      const found = await probe();
      if (found) return found;
      if (performance.now() > end) throw new Error(`not within ${seconds} s: ${words}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** Waits until a live part of the page changes as `probe` says, and proves that the page stayed. */
  async changesByItself(page, words, seconds, probe) {
    const mark = `mark-${Math.random()}`;
    const loaded = await page.evaluate((mark) => { window.cairnWalk = mark; return performance.timeOrigin; }, mark);
    const began = performance.now();
    const found = await this.until(words, seconds, probe);
    const still = await page.evaluate(() => [window.cairnWalk, performance.timeOrigin]);
    this.check(still[0] === mark && still[1] === loaded, `the page was loaded again instead of changing: ${words}`);
    // What was to come may be there before the stream is.
    await this.until("the page says that it is live", 10, async () => (await page.locator("#live").textContent()) === "Live");
    this.say(`${words} (after ${((performance.now() - began) / 1000).toFixed(1)} s, no reload)`);
    return found;
  }

  /** Everything that holds on every page, and its pictures. */
  async look(page, name) {
    const began = performance.now();
    const titles = await page.locator("h1").allTextContents();
    if (titles.length !== 1) this.problem(`${name}: ${titles.length} main headings instead of 1`);
    const text = await page.evaluate(() => {
      const copy = document.body.cloneNode(true);
      // Files and raw records may say what they like.
      for (const element of copy.querySelectorAll("pre, textarea, code")) element.remove();
      return copy.textContent;
    });
    const nonsense = NONSENSE.exec(text);
    if (nonsense) this.problem(`${name}: "${nonsense[0]}" stands on the page`);
    const timing = await page.evaluate(() => {
      const load = performance.getEntriesByType("navigation")[0];
      const server = load.serverTiming?.map((entry) => `${entry.name} ${entry.duration}`).join(", ");
      return { first: load.responseStart - load.requestStart, server };
    });
    const linked = await page.evaluate(() => [...document.querySelectorAll("link[href], script[src]")].map((element) => new URL(element.href ?? element.src).pathname));
    const bytes = (page.documentBytes ?? 0) + linked.reduce((sum, path) => sum + (this.statics.get(path) ?? 0), 0);
    if (bytes > PAGE_BYTES_MAX) this.problem(`${name}: ${bytes} bytes on the wire`);
    if (!page.documentBytes || linked.some((path) => !path.endsWith(".svg") && !this.statics.has(path))) this.problem(`${name}: its size was not seen`);
    for (const size of [NARROWEST, PHONE]) {
      await page.setViewportSize(size);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) this.problem(`${name}: ${wide} px too wide at ${size.width} px`);
    }
    for (const size of [PHONE, DESKTOP]) {
      await page.setViewportSize(size);
      for (const scheme of SCHEMES) {
        await page.emulateMedia({ colorScheme: scheme });
        await this.picture(page, `${name}-${size.width}-${scheme}`);
        // Rules that depend on the width do not depend on the scheme.
        if (size === DESKTOP || scheme === "light") await this.accessible(page, `${name} (${scheme}, ${size.width} px)`);
      }
    }
    await page.emulateMedia({ colorScheme: "light" });
    if (this.guides && PICTURED[name]) await this.forGuide(page, name);
    this.pages.set(name, { bytes, first: timing.first });
    this.say(`${name}: ${bytes} B, first byte ${timing.first.toFixed(0)} ms${timing.server ? `, server ${timing.server}` : ""}; looked at in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  }

  /** What cannot wait for a long look: both schemes, one picture and one check each. */
  async glance(page, name) {
    for (const [scheme, size] of [["light", PHONE], ["dark", DESKTOP]]) {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme: scheme });
      await this.picture(page, `${name}-${size.width}-${scheme}`);
      await this.accessible(page, `${name} (${scheme}, ${size.width} px)`);
    }
    await page.emulateMedia({ colorScheme: "light" });
    if (this.guides && PICTURED[name]) await this.forGuide(page, name);
    this.glanced.add(name);
  }

  async picture(page, file) {
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    const { width } = page.viewportSize();
    // No hidden caret and no stopped animations: both would put a style into the page, which its
    // policy refuses, and rightly so.
    await page.screenshot({
      path: join(this.shots, `${file}.png`), fullPage: true, animations: "allow", caret: "initial",
      clip: { x: 0, y: 0, width, height: Math.min(height, SHOT_HEIGHT_MAX) },
    });
    this.pictures += 1;
  }

  /** What a guide shows of a page. */
  async forGuide(page, name) {
    const [size, most, from] = PICTURED[name];
    await page.setViewportSize(size);
    const top = from ? await page.evaluate((from) => document.querySelector(from).getBoundingClientRect().top + scrollY - 12, from) : 0;
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.screenshot({
      path: join(this.guides, `${name}.png`), fullPage: true, animations: "allow", caret: "initial",
      clip: { x: 0, y: top, width: size.width, height: Math.min(height - top, most) },
    });
    await page.setViewportSize(DESKTOP);
  }

  /** Pictures of guides whose look is gone would stay as they are for ever. */
  guided() {
    for (const name of Object.keys(PICTURED)) {
      if (!this.pages.has(name) && !this.glanced.has(name)) this.problem(`a guide shows ${name}, which was not looked at`);
    }
  }

  async accessible(page, name) {
    const { violations } = await new this.AxeBuilder({ page }).withTags(RULES).analyze();
    this.axe += 1;
    for (const violation of violations) {
      for (const node of violation.nodes.slice(0, 3)) {
        this.problem(`axe: ${name}: ${violation.id} (${violation.help}) at ${node.target.join(" ")}: ${node.failureSummary?.split("\n").slice(1, 2).join("").trim()}`);
      }
    }
  }

  async close() {
    for (const context of this.contexts) await context.close().catch(() => {});
    await this.browser?.close();
  }

  summary() {
    const most = (what) => [...this.pages].sort((left, right) => right[1][what] - left[1][what])[0] ?? ["none", { bytes: 0, first: 0 }];
    const [largest, slowest] = [most("bytes"), most("first")];
    return `${this.pages.size} pages, ${this.clicks} clicks and keys, ${this.axe} axe checks, ${this.pictures} screenshots; `
      + `largest ${largest[0]} ${largest[1].bytes} B, slowest ${slowest[0]} ${slowest[1].first.toFixed(0)} ms to the first byte; `
      + `${this.problems.length} problems, ${((performance.now() - this.started) / 1000).toFixed(0)} s`;
  }
}
