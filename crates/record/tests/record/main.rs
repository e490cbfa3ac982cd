//! The record over a real store in a temporary folder.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    reason = "helpers of tests panic as tests do, and take what `json!` has just made"
)]

mod bundles;
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "what a server of a test's own can do more, and is waited for in real time"
)]
#[path = "../../../ledger/tests/postgres/cluster.rs"]
mod cluster;
mod composed;
mod conditional;
mod criteria;
mod explain;
mod expressions;
mod guards;
mod house;
mod imports;
mod interactions;
mod limits;
mod linked;
mod mangled;
mod once;
mod operations;
mod own_everywhere;
mod own_parameters;
mod parts;
mod past;
mod patches;
mod privacy;
mod random;
mod random_data;
mod searches;
mod validating;
mod within;
