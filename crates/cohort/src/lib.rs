//! Fault-injecting runs, scenario tests, benchmarks and tidy checks of the whole house.
//!
//! Uses every crate; nothing uses it. The tests lie in `tests/`, the command line in `main.rs`.

pub mod power;
pub mod random;
pub mod writer;
