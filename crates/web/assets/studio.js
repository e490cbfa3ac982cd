// The studio: what is typed is checked on the server after a short rest, and what comes of it is put beside the file.
// Without this the button does the same.
"use strict";
(() => {
  const field = document.querySelector("textarea[data-check]");
  const said = document.getElementById("said");
  const checking = document.getElementById("checking");
  if (!field || !said || !checking) return;
  /** After the last key; and after a server that could not be reached. */
  const REST = 700, AGAIN = 5000;
  /** The text that the page shows the findings of. */
  let shown = field.defaultValue;
  let timer = null, asking = false, over = false;
  const last = new Map();
  // A reader says only what is another than before.
  const say = (words) => { if (said.textContent !== words) said.textContent = words; };
  const stand = (words) => { if (checking.textContent !== words) checking.textContent = words; };
  const rest = (pause) => { clearTimeout(timer); if (!over) timer = setTimeout(check, pause); };
  const stop = (words) => { over = true; say(words); stand(""); };
  const show = ({ said: words, parts }) => {
    for (const { id, html } of parts) {
      if (last.get(id) !== html) document.dispatchEvent(new CustomEvent("cairn:part", { detail: { id, html } }));
      last.set(id, html);
    }
    say(words);
    stand("Checked as you type.");
  };
  const check = async () => {
    // One at a time; what was typed meanwhile is checked afterwards.
    if (asking || over || field.value === shown) return;
    asking = true;
    stand("Checking…");
    const text = field.value;
    let pause = REST;
    try {
      const body = new URLSearchParams({ csrf: field.form.elements.csrf.value, source: text });
      const answer = await fetch(field.dataset.check, { method: "POST", body, redirect: "manual" });
      if (answer.ok) {
        const found = await answer.json();
        // Only what is found in the text that stands there now is shown.
        if (field.value === text) { shown = text; show(found); }
      } else if (answer.status === 429 || answer.status === 503) pause = 1000 * Number(answer.headers.get("retry-after") ?? 1);
      else if (answer.status === 413) { shown = text; say((await answer.json()).said); stand(""); }
      else stop("You are signed out, or may no longer check files. Copy what you typed before you sign in again.");
    } catch {
      pause = AGAIN;
      say("The server can't be reached. The file is checked when it answers again.");
    }
    asking = false;
    if (field.value !== shown) rest(pause);
  };
  field.addEventListener("input", () => { stand("Not checked yet."); rest(REST); });
  // What a browser put back after a reload is not what the page was made with.
  if (field.value !== shown) rest(REST);
})();
