//! Fault-injecting runs, scenario tests, benchmarks and tidy checks of the whole house.
//!
//! Uses every crate; nothing uses it. The tests lie in `tests/`, the command line in `main.rs`.

pub mod bench;
pub mod crash;
pub mod matching;
pub mod peers;
pub mod power;
pub mod random;
pub mod server;
pub mod visitor;
pub mod writer;
