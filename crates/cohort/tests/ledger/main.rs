//! The ledger under SIGKILL and power loss: what was acknowledged is there, whole, and the audit
//! tree holds. Seeds are printed.

mod bench;
mod power_loss;
