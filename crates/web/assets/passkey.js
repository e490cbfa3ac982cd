// Passkeys: fills the hidden fields of a form with what the browser's authenticator says, and sends it.
// Without this script these forms stay hidden, and password and one-time code do.
"use strict";
(() => {
  // Questions are good for five minutes; an older page asks for a new one first.
  const FRESH_MS = 240e3;
  const loaded = performance.now();
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const named = (list) => list.map(({ id, transports }) => ({ type: "public-key", id: bytes(id), ...(transports.length ? { transports } : {}) }));

  const make = async (options) => {
    const { response, rawId } = await navigator.credentials.create({ publicKey: {
      rp: options.rp,
      user: { ...options.user, id: bytes(options.user.id) },
      challenge: bytes(options.challenge),
      pubKeyCredParams: options.algorithms.map((alg) => ({ type: "public-key", alg })),
      excludeCredentials: named(options.exclude),
      timeout: options.timeout,
      attestation: "none",
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    } });
    return {
      id: text(rawId),
      clientData: text(response.clientDataJSON),
      authenticatorData: text(response.getAuthenticatorData()),
      publicKey: text(response.getPublicKey()),
      algorithm: response.getPublicKeyAlgorithm(),
      transports: response.getTransports?.() ?? [],
    };
  };
  const show = async (options) => {
    const { response, rawId } = await navigator.credentials.get({ publicKey: {
      rpId: options.rpId,
      challenge: bytes(options.challenge),
      allowCredentials: named(options.allow),
      timeout: options.timeout,
      userVerification: "required",
    } });
    return {
      id: text(rawId),
      clientData: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      ...(response.userHandle?.byteLength ? { userHandle: text(response.userHandle) } : {}),
    };
  };
  const WORDS = {
    InvalidStateError: "This device holds a passkey for your account already.",
    NotAllowedError: "No passkey was used. Try again, or go another way.",
    NotSupportedError: "This device makes no passkeys that can be used here.",
    SecurityError: "Passkeys don't work at this address.",
  };

  /** The question of a form, from a new copy of the page if this one is old. */
  const renew = async (form) => {
    if (!form.dataset.again || performance.now() - loaded < FRESH_MS) return;
    const answer = await fetch(form.dataset.again, { headers: { accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(form.id);
    if (!fresh) { location.reload(); return; }
    form.dataset.options = fresh.dataset.options;
    form.querySelector("[data-sealed]").value = fresh.querySelector("[data-sealed]").value;
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const able = window.PublicKeyCredential && location.origin === form.dataset.origin;
    const without = document.getElementById(`${form.id}-without`);
    form.hidden = !able;
    if (without) without.hidden = Boolean(able);
    const said = form.querySelector("[role=alert]");
    let busy = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (busy) return;
      busy = true;
      said.hidden = true;
      try {
        await renew(form);
        const options = JSON.parse(form.dataset.options);
        const answer = await (form.dataset.passkey === "make" ? make : show)(options);
        form.querySelector("[data-answer]").value = JSON.stringify(answer);
        form.submit();
      } catch (error) {
        said.textContent = WORDS[error.name] ?? "The passkey could not be used. Load the page again, or go another way.";
        said.hidden = false;
        busy = false;
      }
    });
  }
})();
