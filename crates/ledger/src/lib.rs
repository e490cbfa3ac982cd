//! One durable, sealed, ordered store: documents and their versions, keyed search tokens, change
//! feed, audit tree, timers and outbox.
//!
//! This crate knows no FHIR: a document is a [`Kind`], an id, an owner and bytes. It is the only
//! crate that names a database driver. Everything of one cause is one [`Commit`], and
//! [`Ledger::commit`] returns only after the commit is on disk.
//!
//! Start reading at [`Ledger`], then `writer.rs` (group commit), `rows.rs` (what is stored) and
//! `backend.rs` (the narrow interface that a second store has to fill).

// The conformance suite names this crate as its users do, inside and outside.
#[cfg(test)]
extern crate self as ledger;

mod audit;
mod backend;
mod backup;
mod bootstrap;
mod clock;
mod codec;
mod consistency;
mod counted;
mod data_keys;
mod doctor;
mod due;
mod embedded;
mod error;
mod held;
mod keys;
mod leases;
#[cfg(test)]
mod memory_backend;
mod model;
mod news;
mod note;
mod outer;
mod pkcs11;
mod plan;
mod postgres;
mod prepare;
mod query;
mod reads;
mod redo;
mod relist;
mod root_key;
mod rotation;
mod rows;
mod scrub;
mod seal;
mod shared;
mod store;
mod stored;
mod tenants;
#[cfg(test)]
mod tests;
mod tlog;
mod token_rotation;
mod tokens;
mod tree;
mod view;
mod windows;
mod witness;
mod writer;

pub use audit::AuditLeaf;
pub use backup::{
    BackupReport, BackupTarget, FolderTarget, Moment, Position, Pruned, RestoreOptions,
    RestoreReport, restore,
};
pub use bootstrap::store_exists;
pub use clock::{
    CLOCK_STEP_MAX_MS, Clock, Entropy, ManualClock, ScaledClock, SystemClock, SystemEntropy,
};
pub use consistency::{BrokenTree, ConsistencyProof, ConsistencyReport};
pub use counted::LookUps;
pub use data_keys::KeepsOpened;
pub use doctor::{DoctorReport, Finding, Severity, doctor};
pub use error::LedgerError;
pub use held::ShardWork;
pub use model::*;
pub use postgres::{DatabaseServer, Postgres, init_database};
pub use prepare::DOCUMENT_TOKENS_MAX;
pub use relist::RELISTED_MAX;
pub use root_key::RootKey;
pub use rotation::RotationProgress;
pub use store::{Dictionary, Ledger, Location, OpenOptions};
pub use tenants::{
    HOSTS_MAX, SETTLE_MS, STORE_TENANT, TENANTS_MAX, Tenant, TenantEnd, TenantQuota, TenantRemains,
    TenantState,
};
pub use tlog::{LogTile, NewestCheckpoint};
pub use token_rotation::TokenRotation;
pub use view::{PastPage, PastVersion, View};
pub use witness::{Witness, WitnessState, Witnesses, WitnessesError};
