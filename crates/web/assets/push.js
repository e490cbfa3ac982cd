// Notifications on this device: asks the browser for a place that its push service takes messages at, fills the hidden
// fields of the form with it, and sends that. Without this script the form stays hidden, and the page says how else
// messages come.
"use strict";
(() => {
  const form = document.querySelector("form[data-push]");
  const able = window.isSecureContext && "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
  if (!form || !able) return;
  form.hidden = false;
  document.getElementById("push-without").hidden = true;
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const WORDS = {
    NotAllowedError: "Notifications are not allowed here. You can allow them in the settings of your browser.",
    AbortError: "The push service of your browser can't be reached. Try again later.",
  };
  const said = form.querySelector("[role=alert]");
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    said.hidden = true;
    try {
      if ((await Notification.requestPermission()) !== "granted") throw new DOMException("", "NotAllowedError");
      await navigator.serviceWorker.register("/sw.js");
      const { pushManager } = await navigator.serviceWorker.ready;
      const applicationServerKey = bytes(form.dataset.push);
      let found = await pushManager.getSubscription();
      // One that was made for another key takes nothing of ours.
      if (found && text(found.options.applicationServerKey ?? new ArrayBuffer(0)) !== form.dataset.push) {
        await found.unsubscribe();
        found = null;
      }
      found ??= await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
      form.elements.endpoint.value = found.endpoint;
      form.elements.key.value = text(found.getKey("p256dh"));
      form.elements.auth.value = text(found.getKey("auth"));
      form.submit();
    } catch (error) {
      said.textContent = WORDS[error.name] ?? "Notifications could not be turned on. Load the page again, or leave it for now.";
      said.hidden = false;
      busy = false;
    }
  });
})();
