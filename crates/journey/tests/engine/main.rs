//! The engine from outside: tables of what happens to one patient in virtual time, and properties
//! that hold whatever happens.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

mod calls;
mod confirms;
mod connectors;
mod dates;
mod hands;
mod invites;
mod kinds;
mod limits;
mod measures;
mod migrations;
mod properties;
mod run;
mod scores;
mod tables;
mod visits;
mod waits;
mod work;
