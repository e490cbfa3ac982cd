//! Backups: logical, independent of the backend, and never opened. A chain of them is a whole backup
//! and what came since, each time: groups of commits with their documents as they are stored, and the
//! audit's leaves. Restoring plays the groups up to a moment into an empty store.
//!
//! What never changes once it is written lies in segments (`segment.rs`); keys, which must be
//! destroyable, lie apart (`secrets.rs`); the manifest (`manifest.rs`) is written last and says what
//! belongs together. `take.rs` takes a backup, `prune.rs` removes old ones, `restore.rs` plays it, `redo.rs` in the folder above is
//! what a store remembers for the next one. `docs/decisions/0013-backups.md` says why.

mod manifest;
mod play;
mod prune;
mod restore;
mod secrets;
mod segment;
mod take;
mod target;

pub use manifest::Position;
pub use prune::Pruned;
#[cfg(test)]
pub(crate) use restore::restore_on;
pub use restore::{Moment, RestoreOptions, RestoreReport, restore};
pub use take::BackupReport;
pub(crate) use take::last_backup;
pub use target::{BackupTarget, FolderTarget};

/// The meta row that says, by not being empty, that a restore into this store is not finished.
pub(crate) const RESTORING: &str = "restoring";
/// The meta row that says, by not being empty, that nothing leaves the outbox.
pub(crate) const OUTBOX_HELD: &str = "outbox-held";
