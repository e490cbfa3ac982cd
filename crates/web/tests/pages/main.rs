//! The pages from the outside: the real router over real identity, policies, vault, journeys and
//! ledger, driven like a browser drives it.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are no tests to clippy"
)]

mod access;
mod accounts;
mod analysis;
mod attempts;
#[path = "../../../trust/src/identity/tests/authenticator.rs"]
mod authenticator;
mod batches;
mod beginnings;
mod break_glass;
mod browse;
mod consents;
mod console;
mod contact;
mod devices;
mod doors;
mod emergency;
mod forms;
mod hands;
mod live;
mod mailbox;
mod many;
mod own_purposes;
mod passkeys;
#[allow(dead_code, reason = "streams are all that is waited for here")]
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
mod patients_own;
mod policies;
mod providers;
mod proxies;
mod sessions;
mod stopping;
mod stuck;
mod studio;
mod texts;
mod unexplained;
mod versions;
mod video;
mod wishes;
mod world;
