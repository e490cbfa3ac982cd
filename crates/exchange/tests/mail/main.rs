//! Mail delivery against a real SMTP server (`aiosmtpd`), and text messages against a provider's API with receipts that
//! `twilio` signs, each in a process of its own, on a real store.

mod delivery;
mod entries;
mod lost;
mod maildev;
mod notices;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod peer;
mod provider;
mod proxies;
mod radicale;
mod readers;
mod refusals;
mod returned;
mod signed;
mod sink;
mod stages;
mod stops;
mod texts;
mod troubles;
mod wishes;
mod world;
