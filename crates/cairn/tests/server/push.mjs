// A patient turns notifications on in a real browser, is shown one, and turns them off. Chromium's own push service can't
// be asked here, so a place at the tests' one is put in its stead; all else is the browser's: the page's script, the worker
// and its policy, the permission, and what the worker shows of a message that is brought to it.
//
// node push.mjs BASE COOKIE SUBSCRIPTION KEY PEERS, with a folder for screenshots in CAIRN_TEST_SHOTS, if they are wanted
import { createRequire } from "node:module";
import { join } from "node:path";

const [base, cookie, subscription, key, peers] = process.argv.slice(2);
const shots = process.env.CAIRN_TEST_SHOTS;
const require = createRequire(join(peers, "browser.cjs"));
const { chromium } = require("playwright-core");
const AxeBuilder = require("@axe-core/playwright").default;
const place = JSON.parse(subscription);

const check = (holds, words) => { if (!holds) throw new Error(words); };
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])],
});
const troubles = [];
const signedIn = async (options = {}) => {
  const context = await browser.newContext({ baseURL: base, viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(20_000);
  await context.addCookies([{ name: "cairn", value: cookie, url: base }]);
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") troubles.push(message.text()); });
  page.on("pageerror", (error) => troubles.push(String(error)));
  return { context, page };
};
const look = async (page, name) => {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const found = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]).analyze();
    check(found.violations.length === 0, `${name}, ${colorScheme}: ${JSON.stringify(found.violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))}`);
    for (const [size, width] of [["wide", 1280], ["narrow", 320]]) {
      await page.setViewportSize({ width, height: 900 });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      check(over <= 0, `${name} is ${over} px wider than ${width}`);
      if (shots) await page.screenshot({ path: join(shots, `${name}-${colorScheme}-${size}.png`), fullPage: true });
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  }
  await page.emulateMedia({ colorScheme: "light" });
};
const BUTTON = "Turn on notifications on this device";
const WITHOUT = "This browser can't show notifications";

try {
  // Without JavaScript the page says how else messages come.
  const plain = await signedIn({ javaScriptEnabled: false });
  await plain.page.goto("/portal/preferences");
  await plain.page.getByText(WITHOUT).waitFor();
  check(!(await plain.page.getByRole("button", { name: BUTTON }).isVisible()), "the form is there without JavaScript");
  await plain.context.close();

  // Whoever is not let says so, and nothing is sent.
  const { context, page } = await signedIn();
  const stub = async (into) => into.addInitScript(([given, wanted]) => {
    const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0)).buffer;
    const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    PushManager.prototype.subscribe = async function subscribe(options) {
      if (!(this instanceof PushManager) || options.userVisibleOnly !== true || text(options.applicationServerKey) !== wanted) {
        throw new Error("the page asks for something else");
      }
      return { endpoint: given.endpoint, getKey: (name) => bytes(name === "p256dh" ? given.key : given.auth) };
    };
  }, [place, key]);
  await stub(context);
  await page.goto("/portal/preferences");
  check(!(await page.getByText(WITHOUT).isVisible()), "the browser is taken for one without notifications");
  await look(page, "offered");
  await page.getByLabel("Name of this device").fill("Ottilie's telephone");
  await page.getByRole("button", { name: BUTTON }).click();
  await page.getByText("Notifications are not allowed here").waitFor();
  await look(page, "not-allowed");

  await context.grantPermissions(["notifications"], { origin: new URL(base).origin });
  await page.reload();
  await page.getByLabel("Name of this device").fill("Ottilie's telephone");
  await page.getByRole("button", { name: BUTTON }).click();
  await page.waitForURL(/said=saved/);
  await page.getByRole("heading", { name: "Ottilie's telephone" }).waitFor();
  await look(page, "listed");

  // The worker is ours, and shows what is brought to it.
  const cdp = await context.newCDPSession(page);
  const registered = new Promise((found) => cdp.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
    const one = registrations.find(({ scopeURL, isDeleted }) => !isDeleted && scopeURL.startsWith(base));
    if (one) found(one.registrationId);
  }));
  await cdp.send("ServiceWorker.enable");
  const registrationId = await registered;
  const active = await page.evaluate(async () => (await navigator.serviceWorker.ready).active.scriptURL);
  check(active === `${base}/sw.js`, `the worker is ${active}`);
  const shown = () => page.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready;
    return (await registration.getNotifications()).map(({ title, body, tag, data }) => ({ title, body, tag, data }));
  });
  const bring = (data) => cdp.send("ServiceWorker.deliverPushMessage", { origin: new URL(base).origin, registrationId, data });
  const until = async (holds, words) => {
    // Chromium drops one that it has not shown yet where somebody asks for them at the same time.
    for (let look = 0; look < 20; look += 1) {
      await page.waitForTimeout(500);
      if (holds(await shown())) return;
    }
    throw new Error(`${words}: ${JSON.stringify(await shown())}`);
  };
  const message = { title: "Northmoor General", body: "You have a new message", url: `${base}/portal/inbox/x`, tag: "one" };
  await bring(JSON.stringify(message));
  await until((all) => all.length === 1 && all[0].title === message.title && all[0].body === message.body, "the notification is not shown");
  // The same again takes its place, another doesn't.
  await bring(JSON.stringify(message));
  await bring(JSON.stringify({ ...message, tag: "two" }));
  await until((all) => all.length === 2, "a repeat doesn't take the place of the one before");
  check((await shown()).every(({ data }) => data.url === message.url), "the link is another");
  // What can't be read is shown as that there is something.
  for (const broken of ["no JSON", "null", "5"]) {
    await bring(broken);
    await until((all) => all.some(({ title, body }) => title === "New message" && body === "You have a new message"), `what can't be read is not shown: ${broken}`);
    await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready;
      for (const one of await registration.getNotifications()) if (one.title === "New message") one.close();
    });
    await until((all) => all.length === 2, "it is still there");
  }

  await page.getByRole("button", { name: "Remove Ottilie's telephone" }).click();
  await page.waitForURL(/said=saved/);
  check((await page.getByRole("heading", { name: "Ottilie's telephone" }).count()) === 0, "the device is still there");

  // Signing out takes this browser's device out: it forgets the worker, and with it what shows notifications.
  await page.getByLabel("Name of this device").fill("Ottilie's telephone");
  await page.getByRole("button", { name: BUTTON }).click();
  await page.waitForURL(/said=saved/);
  await page.getByText("Where you sign out, they end on that device").waitFor();
  await page.getByText("You are here now").waitFor();
  await look(page, "here");
  await page.locator("form[action='/sign-out'] button").first().click();
  await page.waitForURL(/sign-in/);
  let workers = 1;
  for (let look = 0; look < 200 && workers > 0; look += 1) {
    workers = await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length);
    if (workers > 0) await page.waitForTimeout(50);
  }
  check(workers === 0, "the worker outlives the sign-out");
  check(troubles.length === 0, `the browser says: ${troubles.join("; ")}`);
} finally {
  await browser.close();
}
