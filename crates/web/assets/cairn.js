// What makes the pages nicer with JavaScript. Every page works without it, apart from live parts.
"use strict";
(() => {
  const root = document.documentElement;
  const loaded = performance.now();
  const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

  // Times. The care clock may run faster than the real one (demo), so it is reckoned from what the
  // server said when it made the page.
  const careNow = () => Number(root.dataset.now) + (performance.now() - loaded) * Number(root.dataset.speed || 1);
  const wallNow = () => Number(root.dataset.wall) + (performance.now() - loaded);
  // The same words as `time.rs`; keep them alike.
  const relative = (then, now) => {
    const gap = Math.abs(then - now);
    if (gap < 45e3) return "now";
    const [amount, unit] = gap < 45 * MINUTE ? [Math.round(gap / MINUTE), "minute"]
      : gap < 22 * HOUR ? [Math.round(gap / HOUR), "hour"]
      : gap < 45 * DAY ? [Math.round(gap / DAY), "day"]
      : gap < 548 * DAY ? [Math.round(gap / (30.44 * DAY)), "month"]
      : [Math.round(gap / (365.25 * DAY)), "year"];
    const count = Math.max(1, amount);
    const words = `${count} ${unit}${count === 1 ? "" : "s"}`;
    return then > now ? `in ${words}` : `${words} ago`;
  };
  const refreshTimes = () => {
    for (const element of document.querySelectorAll("time[data-ms]")) {
      const now = element.dataset.clock === "wall" ? wallNow() : careNow();
      const text = relative(Number(element.dataset.ms), now);
      if (element.textContent !== text) element.textContent = text;
    }
    const clock = document.getElementById("care-clock");
    if (clock) {
      const parts = new Intl.DateTimeFormat("en-GB", {
        weekday: "short", day: "numeric", month: "short", year: "numeric",
        hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: clock.dataset.zone,
      }).formatToParts(careNow());
      const part = (type) => parts.find((one) => one.type === type)?.value ?? "";
      const month = part("month").slice(0, 3);
      const words = `${part("weekday")} ${part("day")} ${month} ${part("year")}, ${part("hour")}:${part("minute")} ${clock.dataset.suffix}`;
      if (clock.textContent !== words) clock.textContent = words;
    }
  };
  setInterval(refreshTimes, 1000);

  // Theme: at once here; the form does the same with a page load.
  const theme = document.getElementById("theme");
  if (theme) theme.addEventListener("submit", (event) => {
    event.preventDefault();
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `cairn-theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  });

  // On a phone the sections scroll sideways; where one is must be seen.
  document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

  // Live parts: the server sends parts of the page; each replaces the element of its id.
  const page = document.querySelector("[data-live]");
  let source = null;
  const say = (on, words) => {
    const light = document.getElementById("live");
    if (light) { light.dataset.on = on ? "yes" : "no"; light.textContent = words; }
  };
  const isTyped = (element) => element.matches("input:not([type=checkbox]), textarea, select");
  const keyOf = (element) => element && element.closest("[data-key]")?.dataset.key;
  const replace = (id, html, must) => {
    const old = document.getElementById(id);
    if (!old) return;
    // Somebody is typing in there: their words matter more than fresh figures, though not more than that what they
    // may no longer see is taken away. Then their words go along to the same form, if it is still there.
    const typed = old.contains(document.activeElement) && isTyped(document.activeElement) ? document.activeElement : null;
    if (typed && !must) return;
    const open = [...old.querySelectorAll("details[open][id]")].map((item) => item.id);
    const known = new Set([...old.querySelectorAll("[data-key]")].map((item) => item.dataset.key));
    const chosen = old.querySelector("[data-selected]")?.dataset.key;
    const was = old.contains(document.activeElement) ? document.activeElement : null;
    const ticked = [...old.querySelectorAll("input[type=checkbox][id]:checked")].map((box) => [box.id, box.value]);
    const places = SCROLLED.map((some) => [...old.querySelectorAll(some)].map((item) => [item.scrollLeft, item.scrollTop]));
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = holder.content.firstElementChild;
    if (!fresh) return;
    old.replaceWith(fresh);
    for (const item of open) document.getElementById(item)?.setAttribute("open", "");
    if (known.size) for (const item of fresh.querySelectorAll("[data-key]")) if (!known.has(item.dataset.key)) item.classList.add("new");
    if (chosen) select(fresh.querySelector(`[data-key="${CSS.escape(chosen)}"]`), false);
    SCROLLED.forEach((some, which) => fresh.querySelectorAll(some).forEach((item, at) => places[which][at] && item.scrollTo(...places[which][at])));
    // What a box stands for may be another version now: whoever ticked it has not seen that one.
    for (const [id, value] of ticked) {
      const box = document.getElementById(id);
      if (box && box.value === value) box.checked = true;
      else if (box) unticked.add(id);
    }
    count();
    if (was) again(was, fresh);
    if (typed) carry(typed, fresh);
    refreshTimes();
  };
  // Where one was goes on: in the same row, or at what says the same. Where that is gone, at the part itself, so that
  // the next Tab doesn't begin at the top of the page.
  const SCROLLED = [".graph", ".findings", ".scroll"];
  const again = (was, fresh) => {
    const same = was.id && fresh.querySelector(`#${CSS.escape(was.id)}`);
    if (same) return same.focus({ preventScroll: true });
    const row = keyOf(was) && fresh.querySelector(`[data-key="${CSS.escape(keyOf(was))}"]`);
    const mark = (one) => one.getAttribute("href") ?? one.getAttribute("aria-label") ?? one.textContent;
    const like = (part) => [...part.querySelectorAll(`${was.localName}:not([type=hidden])`)].find((one) => mark(one) === mark(was));
    const act = was.dataset.act;
    const there = row ? (act ? row.querySelector(`[data-act="${act}"]`) : like(row)) ?? row.querySelector("a, button, summary") : like(fresh);
    there?.focus({ preventScroll: true });
    if (there && document.activeElement === there) return;
    fresh.tabIndex = -1;
    fresh.focus({ preventScroll: true });
  };
  const carry = (typed, fresh) => {
    const key = keyOf(typed);
    const place = key ? fresh.querySelector(`[data-key="${CSS.escape(key)}"]`) : fresh;
    const action = typed.form?.getAttribute("action");
    const form = [...place?.querySelectorAll("form") ?? []].find((one) => one.getAttribute("action") === action);
    if (!form || !typed.form) return;
    form.closest("details")?.setAttribute("open", "");
    for (const old of typed.form.elements) {
      const field = old.name && old.type !== "hidden" ? form.elements.namedItem(old.name) : null;
      if (!field || old.type === "file") continue;
      if (old.type === "checkbox" || old.type === "radio") {
        for (const one of form.elements) if (one.name === old.name && one.value === old.value) one.checked = old.checked;
      } else field.value = old.value;
      if (old === typed) field.focus?.({ preventScroll: true });
    }
  };
  document.addEventListener("cairn:part", (event) => replace(event.detail.id, event.detail.html, false));
  // A finding leads to its line in the field that holds the file.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-line]");
    const field = link && document.getElementById(link.hash.slice(1));
    if (!field) return;
    event.preventDefault();
    const lines = field.value.split("\n");
    const line = Math.min(Number(link.dataset.line), lines.length) - 1;
    const before = [...lines[line]].slice(0, Number(link.dataset.column) - 1).join("");
    const at = lines.slice(0, line).reduce((sum, one) => sum + one.length + 1, before.length);
    field.focus();
    field.setSelectionRange(at, at);
    field.scrollTop = line * parseFloat(getComputedStyle(field).lineHeight) - field.clientHeight / 3;
  });
  // What is on the page may be seen no longer: nothing of it stays, and it is said why. A proxy's page names the
  // patient above its middle too.
  const empty = (words) => {
    const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });
    const why = make("p", words);
    why.setAttribute("role", "alert");
    const way = make("p", "");
    way.append(Object.assign(make("a", "Load the page again"), { href: location.href, className: "button" }));
    page.replaceChildren(make("h1", "No longer shown"), why, way);
    document.querySelector(".acts-for")?.remove();
  };
  // A stream that the server closed or refused for now is asked for again after a while: what this page shows is
  // looked at again then too.
  const RETRY = 30e3;
  let later = null;
  const pause = (words) => {
    hush();
    say(false, `${words} Trying again.`);
    later = setTimeout(listen, RETRY);
  };
  const listen = () => {
    clearTimeout(later);
    if (!page || source || stopped || document.hidden) return;
    source = new EventSource(page.dataset.live);
    source.addEventListener("open", () => say(true, "Live"));
    source.addEventListener("part", (event) => { const part = JSON.parse(event.data); replace(part.id, part.html, part.must); });
    source.addEventListener("end", (event) => { stopped = true; hush(); empty(event.data); });
    source.addEventListener("pause", (event) => pause(event.data));
    source.addEventListener("error", (event) => {
      if (event.target !== source) return;
      // After an answer that is no stream (too many streams) the browser gives up for good.
      if (source.readyState === EventSource.CLOSED) pause("Not live.");
      else say(false, "Not live: trying again");
    });
  };
  let stopped = false;
  const hush = () => { clearTimeout(later); if (source) { source.close(); source = null; } };
  document.addEventListener("visibilitychange", () => { if (document.hidden) hush(); else listen(); });
  addEventListener("pagehide", hush);
  addEventListener("pageshow", listen);
  listen();

  // Boxes of a list: x or a click ticks one, with Shift all from the one before; it is said how many are.
  const boxes = () => [...document.querySelectorAll("[data-rows] input[data-act=pick]")];
  let before = null;
  /** Those that lost their tick with a change; it is said until somebody ticks again. */
  const unticked = new Set();
  const count = () => {
    const all = boxes(), page = document.getElementById("pick-page"), said = document.getElementById("picked");
    const chosen = all.filter((box) => box.checked), how = chosen.length;
    const others = chosen.filter((box) => box.dataset.theirs !== undefined).length;
    if (page) { page.checked = how > 0 && how === all.length; page.indeterminate = how > 0 && how < all.length; }
    const lost = unticked.size, was = lost === 1 ? "1 was unticked because it changed" : `${lost} were unticked because they changed`;
    const words = `${how || "None"} ticked${others ? `, ${others} of them somebody else's` : ""}${lost ? `; ${was}` : ""}`;
    if (said && said.textContent !== words) said.textContent = words;
  };
  const tick = (box, range) => {
    const all = boxes(), from = all.findIndex((one) => one.id === before), to = all.indexOf(box);
    if (range && from >= 0) for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) one.checked = box.checked;
    before = box.id;
    unticked.clear();
    count();
  };
  document.addEventListener("click", (event) => {
    if (event.target.matches("input[data-act=pick]")) tick(event.target, event.shiftKey);
    else if (event.target.id === "pick-page") { for (const box of boxes()) box.checked = event.target.checked; unticked.clear(); count(); }
  });
  count();

  // Keyboard on lists: j/k move, Enter opens, e ends (done), c claims, x ticks, u undoes.
  const rows = () => [...document.querySelectorAll("[data-rows] [data-key]")];
  const select = (row, scroll = true) => {
    if (!row) return;
    for (const other of document.querySelectorAll("[data-selected]")) delete other.dataset.selected;
    row.dataset.selected = "";
    if (!scroll) return;
    // The focus goes along, so that Enter opens what is chosen and readers hear it.
    row.querySelector("a[data-act=open]")?.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const typing = isTyped(event.target);
    if (event.key === "Escape") {
      const open = document.querySelector(".acts details[open]");
      if (open) { open.removeAttribute("open"); open.querySelector("summary").focus(); }
      return;
    }
    if (typing) return;
    const all = rows();
    const at = all.findIndex((row) => row.dataset.selected !== undefined);
    const row = all[at];
    switch (event.key) {
      case "j": select(all[Math.min(at + 1, all.length - 1)]); break;
      case "k": select(all[Math.max(at - 1, 0)]); break;
      // On a box it would send the form that the box is of. A row's box opens its patient; those of all rows are of none.
      case "Enter": {
        if (event.target.closest("a, button, summary") || (event.target.matches("input") && !event.target.closest(".pick"))) return;
        const here = event.target.closest("[data-key]") ?? (event.target.matches("input") ? null : row);
        here?.querySelector("a[data-act=open]")?.click();
        break;
      }
      case "e": { const details = row?.querySelector("details"); if (details) { details.open = true; details.querySelector("select, input:not([type=hidden]), textarea, button")?.focus(); } break; }
      case "c": row?.querySelector("form[data-act=claim]")?.requestSubmit(); break;
      case "x": case "X": { const box = (row ?? event.target.closest("[data-key]"))?.querySelector("input[data-act=pick]"); if (box) { box.checked = !box.checked; tick(box, event.shiftKey); } break; }
      case "u": document.querySelector("form[data-act=undo]")?.requestSubmit(); break;
      default: return;
    }
    event.preventDefault();
  });
  // One pop-up at a time, and a click elsewhere closes it.
  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll(".acts details[open]")) if (!open.contains(event.target)) open.removeAttribute("open");
  });

  // Forms: filters apply when they change, nothing is sent twice.
  // Listened for on the document, because live parts bring new forms.
  root.dataset.script = "";
  document.addEventListener("change", (event) => event.target.closest("form[data-auto]")?.requestSubmit());
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 5000);
  });
  for (const input of document.querySelectorAll("input[data-code]")) {
    input.addEventListener("input", () => { if (/^\d{6}$/.test(input.value.trim())) input.form.querySelector("button")?.focus(); });
  }
})();
