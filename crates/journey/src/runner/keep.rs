//! The counts go into the store, so that opening the books does not take longer with each journey.

use crate::books::Books;
use crate::kept::{self, FEW, Kept};
use crate::mover::MoveError;
use crate::{JourneyError, Journeys};
use ledger::{LedgerError, SHARDS, Shard};
use trust::{Permit, TrustError, Unit};

/// Shards whose counts go into one unit of work.
const AT_ONCE: usize = 32;

impl Journeys {
    /// Keeps the counts of the shards that this process holds where there is much new in them, or (`all`)
    /// anything.
    pub(super) async fn keep_counts(
        &self,
        books: &Books,
        permit: &Permit,
        all: bool,
    ) -> Result<(), MoveError> {
        if !(all || books.many_heard()) || books.counted() < FEW {
            return Ok(());
        }
        let mut due = Vec::new();
        for shard in (0..SHARDS).map(Shard) {
            // Whoever works on a shard takes events in one by one; between two the counts are not those of
            // the events up to a place.
            if self.vault().ledger().holds(shard)
                && let Ok(_turn) = books.positions[usize::from(shard.0)].try_lock()
            {
                due.extend(books.to_keep(shard, all));
            }
        }
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(AT_ONCE));
            self.keep(books, permit, due).await?;
            due = rest;
        }
        Ok(())
    }

    /// Keeps all counts in which there is something new, when the process ends.
    pub(super) async fn keep_all_counts(&self, books: &Books) -> Result<(), JourneyError> {
        let permit = self.engine_permit(books.tenant).await?;
        Ok(self.keep_counts(books, &permit, true).await?)
    }

    async fn keep(
        &self,
        books: &Books,
        permit: &Permit,
        counts: Vec<(Kept, Option<u32>)>,
    ) -> Result<(), MoveError> {
        let (ledger, tenant) = (self.vault().ledger(), permit.tenant());
        let internals = counts.iter();
        let internals = internals.map(|(kept, at)| kept.document(ledger, tenant, *at));
        let unit = Unit {
            internals: internals.collect(),
            note: Some("journeys: counts kept".to_owned()),
            ..Unit::default()
        };
        match self.vault().commit(permit, unit).await {
            Ok(_) => {
                for (kept, at) in counts {
                    books.has_kept(&kept, at.map_or(1, |at| at.saturating_add(1)));
                }
                Ok(())
            }
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                // Another process held some of them for a while. Its counts are as good as these.
                for (kept, _) in counts {
                    let id = kept::id(ledger, tenant, kept.shard());
                    let stored = (self.vault().internal(permit, kept::KEPT_COUNTS, &id)).await?;
                    books.kept_elsewhere(kept.shard(), stored.map(|stored| stored.version));
                }
                Ok(())
            }
            Err(other) => Err(other.into()),
        }
    }
}
