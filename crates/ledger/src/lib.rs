//! One durable, sealed, ordered store: documents and their versions, keyed search tokens, change
//! feed, audit tree, timers and outbox.
//!
//! This crate knows no FHIR: a document is a [`Kind`], an id, an owner and bytes. It is the only
//! crate that names a database driver. Everything of one cause is one [`Commit`], and
//! [`Ledger::commit`] returns only after the commit is on disk.
//!
//! Start reading at [`Ledger`], then `writer.rs` (group commit), `rows.rs` (what is stored) and
//! `backend.rs` (the narrow interface that a second store has to fill).

mod clock;
mod error;
mod model;
mod store;

pub use clock::{Clock, Entropy, ManualClock, ScaledClock, SystemClock, SystemEntropy};
pub use error::LedgerError;
pub use model::*;
pub use store::{Ledger, OpenOptions, RootKey};
