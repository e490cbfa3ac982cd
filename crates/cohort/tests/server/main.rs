//! The real binary over its real protocols: killed again and again, and searched for patient
//! details where none may be.

mod audit_log;
mod canary;
mod canary_pages;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/centre.rs"]
mod centre;
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "shared with the ledger's tests, which use all of it and wait in real time"
)]
#[path = "../../../ledger/tests/postgres/cluster.rs"]
mod cluster;
mod crash;
mod dates;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/double.rs"]
mod double;
mod hooks;
mod indexing;
mod journey;
mod letters;
mod nodes;
mod once;
mod pages;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod peers;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/provider.rs"]
mod provider;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/pusher.rs"]
mod pusher;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/radicale.rs"]
mod radicale;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/readers.rs"]
mod readers;
mod segments;
mod sending;
mod subscriptions;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/telephones.rs"]
mod telephones;
