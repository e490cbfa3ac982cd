//! The counts go into the store, so that opening the books does not take longer with each journey.

use crate::Journeys;
use crate::books::Books;
use crate::kept::{self, KEPT_COUNTS, Kept};
use crate::mover::MoveError;
use ledger::{LedgerError, SHARDS, Shard};
use std::sync::Arc;
use trust::{Permit, TrustError, Unit};

/// Shards whose counts go into one unit of work: one audit record for all of them when a server ends.
const AT_ONCE: usize = 32;

impl Journeys {
    /// Keeps the counts of the shards that this process holds where there is much new in them, or (`all`)
    /// anything. That they can't be kept stops nobody: they are learnt from the feed at the next start.
    pub(super) async fn keep_counts(&self, books: &Arc<Books>, permit: &Permit, all: bool) {
        if !(all || books.many_heard()) || books.counted() < self.few() {
            return;
        }
        let mut due = Vec::new();
        for shard in (0..SHARDS).map(Shard) {
            // Whoever works on a shard takes events in one by one; between two the counts are not those of
            // the events up to a place.
            if self.vault().ledger().holds(shard)
                && let Ok(_turn) = books.positions[usize::from(shard.0)].try_lock()
            {
                // Who ends has mostly just moved somebody, and what it committed is not in the books before its
                // events are.
                if all && let Err(error) = self.observe(books, permit, shard).await {
                    tracing::warn!(%error, "a shard's counts could not be brought to its end");
                    continue;
                }
                due.extend(books.to_keep(shard, all));
            }
        }
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(AT_ONCE));
            if let Err(error) = self.keep(books, permit, due).await {
                tracing::warn!(%error, "the journeys' counts could not be kept");
                return;
            }
            due = rest;
        }
    }

    async fn keep(
        &self,
        books: &Books,
        permit: &Permit,
        mut counts: Vec<(Kept, Option<u32>)>,
    ) -> Result<(), MoveError> {
        let (ledger, tenant) = (self.vault().ledger(), permit.tenant());
        for again in [true, false] {
            let internals = counts.iter();
            let internals = internals.map(|(kept, at)| kept.document(ledger, tenant, *at));
            let unit = Unit {
                internals: internals.collect(),
                note: Some("journeys: counts kept".to_owned()),
                ..Unit::default()
            };
            match self.vault().commit(permit, unit).await {
                Ok(_) => break,
                Err(TrustError::Ledger(LedgerError::Conflict)) if again => {
                    // Another process held some of them for a while.
                    for (kept, at) in &mut counts {
                        let id = kept::id(ledger, tenant, kept.shard());
                        let stored = (self.vault().internal(permit, KEPT_COUNTS, &id)).await?;
                        *at = stored.map(|stored| stored.version);
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        for (kept, at) in counts {
            books.has_kept(&kept, at.map_or(1, |at| at.saturating_add(1)));
        }
        Ok(())
    }
}
