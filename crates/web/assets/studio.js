// The studio: what is typed is checked on the server after a short rest, and what comes of it is put beside the file.
// Without this the button does the same.
"use strict";
(() => {
  const field = document.querySelector("textarea[data-check]");
  const said = document.getElementById("said");
  const checking = document.getElementById("checking");
  if (!field || !said || !checking) return;
  /** After the last key; after a server that could not be reached; and the longest that one may ask for, ms. */
  const REST = 700, AGAIN = 5000, LONGEST = 60_000;
  /** Bytes of a file that is checked while it is typed; the same as in `typing.rs`. */
  const SOURCE_MAX = 256 * 1024;
  const TOO_LONG = "The file is longer than 256 KB, so it is checked by the button and not as you type.";
  /** The text that the page shows the findings of, and the sentence that was said of it. */
  let shown = field.defaultValue, found = said.textContent;
  /** A text that is not asked about again, because the answer would be the same. */
  let settled = null;
  let timer = null, asking = false, over = false;
  const last = new Map();
  // A reader says only what is another than before.
  const say = (words) => { if (said.textContent !== words) said.textContent = words; };
  const stand = (words) => { if (checking.textContent !== words) checking.textContent = words; };
  const rest = (pause) => { clearTimeout(timer); if (!over) timer = setTimeout(check, pause); };
  // What stands beside the file is marked where it is not of what stands in it, and nothing newer is on its way.
  const stale = (on) => {
    const here = document.getElementById("stale");
    if (!on) here?.remove();
    else if (!here) {
      const note = Object.assign(document.createElement("p"), { id: "stale", className: "note", textContent: "This is of the file as it was checked last." });
      document.getElementById("looked")?.prepend(note);
    }
  };
  const stop = (words) => { over = true; say(words); stand(""); stale(true); };
  const settle = (text, words) => { settled = text; say(words); stand(""); stale(true); };
  const agree = () => { stale(false); say(found); stand("Checked as you type."); };
  const show = ({ said: words, parts }) => {
    for (const { id, html } of parts) {
      if (last.get(id) !== html) document.dispatchEvent(new CustomEvent("cairn:part", { detail: { id, html } }));
      last.set(id, html);
    }
    found = words;
    agree();
  };
  /** Asks about a text and does what the answer says; gives how long to wait before the next. */
  const ask = async (text) => {
    let answer, body;
    try {
      const fields = new URLSearchParams({ csrf: field.form.elements.csrf.value, source: text });
      answer = await fetch(field.dataset.check, { method: "POST", body: fields, redirect: "manual" });
      body = await answer.text();
    } catch {
      say("The server can't be reached. The file is checked when it answers again.");
      return AGAIN;
    }
    // A proxy may answer in its own words.
    const read = () => { try { return JSON.parse(body); } catch { return null; } };
    const { status } = answer, told = read();
    if (answer.ok && told) {
      // Only what is found in the text that stands there now is shown.
      if (field.value === text) { shown = text; show(told); }
    } else if (status === 429 || status === 503) {
      const wait_s = Number(answer.headers.get("retry-after"));
      return wait_s > 0 ? Math.min(1000 * wait_s, LONGEST) : AGAIN;
    } else if (answer.type === "opaqueredirect" || status === 401 || status === 403) {
      stop("You are signed out, or may no longer check files. Copy what you typed before you sign in again.");
    } else if (status === 413) settle(text, told?.said ?? TOO_LONG);
    else if (status === 500 || (status >= 400 && status < 500)) settle(text, "It could not be checked: something went wrong on our side. It is tried again when you change the file.");
    else {
      say("It could not be checked just now. It is tried again.");
      return AGAIN;
    }
    return REST;
  };
  const check = async () => {
    // One at a time; what was typed meanwhile is checked afterwards.
    if (asking || over) return;
    const text = field.value;
    if (text === shown) return agree();
    if (text === settled) return;
    if (new Blob([text]).size > SOURCE_MAX) return settle(text, TOO_LONG);
    asking = true;
    stand("Checking…");
    const pause = await ask(text).finally(() => { asking = false; });
    if (over) return;
    if (field.value === shown) agree();
    else if (field.value !== settled) rest(pause);
  };
  field.addEventListener("input", () => { if (!over) stand("Not checked yet."); rest(REST); });
  // What a browser put back after a reload is not what the page was made with.
  if (field.value !== shown) rest(REST);
})();
