//! Room on the disk. fjall takes no more writes once one has failed, and its background work fails as
//! well when the disk is full, so writes are refused while there is still room for that work.
//! Documents are refused first: reading leaves an audit record, and it has to go on for longer.
//! Everything is taken again as soon as there is room.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LedgerError;

/// What is left for fjall's own work: all rows in memory written out (14 tables of 8 MiB) and a few
/// tables of 64 MiB being merged.
const RESERVE_BYTES: u64 = 384 << 20;
/// What is left besides for records of reads, which take about 1 KiB each.
const READING_BYTES: u64 = 256 << 20;

pub(super) struct Room {
    folder: std::fs::File,
    reserve_bytes: AtomicU64,
}

impl Room {
    pub(super) fn of(folder: &Path) -> Result<Self, LedgerError> {
        let folder = std::fs::File::open(folder)
            .map_err(|error| LedgerError::Storage(format!("{}: {error}", folder.display())))?;
        Ok(Self {
            folder,
            reserve_bytes: AtomicU64::new(RESERVE_BYTES),
        })
    }

    /// Another reserve, so that a test need not fill a disk.
    #[cfg(test)]
    pub(super) fn reserve(&self, bytes: u64) {
        self.reserve_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether `bytes` of documents may be written.
    pub(super) fn for_documents(&self, bytes: u64) -> Result<(), LedgerError> {
        self.check(bytes.saturating_add(READING_BYTES))
    }

    /// Whether `bytes` of anything may be written.
    pub(super) fn for_anything(&self, bytes: u64) -> Result<(), LedgerError> {
        self.check(bytes)
    }

    fn check(&self, bytes: u64) -> Result<(), LedgerError> {
        let Some(free) = self.free_bytes()? else {
            return Ok(());
        };
        let reserve = self.reserve_bytes.load(Ordering::Relaxed);
        let needed = reserve.saturating_add(bytes);
        if free >= needed {
            return Ok(());
        }
        // What a record of reading takes is small beside a group of documents.
        let reading = if free >= reserve.saturating_add(1 << 20) {
            "Reading goes on, because there is room for its records"
        } else {
            "Records of reading are refused too, so nobody is shown anything"
        };
        Err(LedgerError::Storage(format!(
            "the disk is almost full, so nothing was written: {} MiB are free, and {} MiB are kept for \
             the store's own work and for records of reading. {reading}. Make room: everything goes on \
             by itself then",
            free >> 20,
            needed >> 20
        )))
    }

    #[cfg(unix)]
    pub(super) fn free_bytes(&self) -> Result<Option<u64>, LedgerError> {
        let system = rustix::fs::fstatvfs(&self.folder)
            .map_err(|error| LedgerError::Storage(format!("asking for free room: {error}")))?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        #[allow(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("ledger_disk_free_bytes").set(free as f64);
        Ok(Some(free))
    }

    /// Elsewhere the first failing write is what says so.
    #[cfg(not(unix))]
    pub(super) fn free_bytes(&self) -> Result<Option<u64>, LedgerError> {
        Ok(None)
    }
}
