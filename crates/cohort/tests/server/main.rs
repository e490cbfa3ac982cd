//! The real binary over its real protocols: killed again and again, and searched for patient
//! details where none may be.

mod audit_log;
mod canary;
mod canary_pages;
#[allow(
    dead_code,
    reason = "shared with the ledger's tests, which use all of it"
)]
#[path = "../../../ledger/tests/postgres/cluster.rs"]
mod cluster;
mod crash;
mod journey;
mod nodes;
mod peers;
