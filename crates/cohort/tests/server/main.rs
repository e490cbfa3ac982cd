//! The real binary over its real protocols: killed again and again, and searched for patient
//! details where none may be.

mod audit_log;
mod canary;
mod canary_pages;
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
mod segments;
mod subscriptions;
