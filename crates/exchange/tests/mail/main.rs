//! Mail delivery against a real SMTP server (`aiosmtpd`, in a process of its own) on a real store.

mod delivery;
mod notices;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod peer;
mod proxies;
mod refusals;
mod sink;
mod troubles;
mod world;
