// Shows what a push service brings, and opens the message when it is chosen. It keeps nothing, and stands between no page
// and the server.
"use strict";
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("push", (event) => {
  let said = {};
  try { said = event.data.json() ?? {}; } catch { /* What can't be read is shown without its words. */ }
  const { title = "New message", body = "You have a new message", tag, url } = said;
  // The same message again takes the place of the one before.
  event.waitUntil(self.registration.showNotification(title, { body, tag, data: { url } }));
});
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const here = self.location.origin;
  let url = new URL("/portal/inbox", here);
  try { url = new URL(event.notification.data.url, here); } catch { /* The inbox has it, too. */ }
  // Nothing that is sent leads elsewhere.
  event.waitUntil(self.clients.openWindow(url.origin === here ? url.href : `${here}/portal/inbox`));
});
