//! Mail delivery against a real SMTP server (`aiosmtpd`), notifications against a push service that opens them
//! (`web-push-testing`), and text messages against a provider's API with receipts that
//! `twilio` signs, each in a process of its own, on a real store.

mod delivery;
mod lost;
mod notices;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod peer;
mod provider;
mod proxies;
mod push;
mod pusher;
mod refusals;
mod sink;
mod stops;
mod texts;
mod troubles;
mod world;
