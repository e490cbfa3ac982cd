//! Mail delivery against a real SMTP server (`aiosmtpd`, in a process of its own) on a real store.

mod delivery;
mod entries;
mod maildev;
mod notices;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod peer;
mod proxies;
mod radicale;
mod readers;
mod refusals;
mod returned;
mod signed;
mod sink;
mod stages;
mod troubles;
mod world;
