//! Mail delivery against a real SMTP server (`aiosmtpd`), notifications against a push service that opens them
//! (`web-push-testing`) and to doubles of FCM and APNs, and text messages against message centres (npm's `smpp`, PyPI's `smpp34`) and a provider's API with receipts that
//! `twilio` signs, each in a process of its own, on a real store.

mod answers;
mod apps;
mod attempts;
mod away;
mod centre;
mod delivery;
mod double;
mod entries;
mod habits;
mod letters;
mod lost;
mod maildev;
mod meters;
mod notices;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod peer;
mod planted;
mod provider;
mod proxies;
mod push;
mod pusher;
mod radicale;
mod readers;
mod refusals;
mod replies;
mod returned;
mod signed;
mod sink;
mod smpp;
mod smpp34;
mod stages;
mod stays;
mod stopping;
mod stops;
mod telephones;
mod texts;
mod troubles;
mod wishes;
mod world;
