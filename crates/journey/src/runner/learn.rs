//! What other processes do with patients, learnt from the feed, so that the books of each are whole.

use super::{EVENTS_AT_ONCE, SHARDS_AT_ONCE};
use crate::books::{Books, old_trail};
use crate::counts::Before;
use crate::kept::KEPT_COUNTS;
use crate::mover::{MoveError, Moved};
use crate::state::State;
use crate::{Journeys, runner};
use ledger::{Event, Hit, Kind, SHARDS, Shard};
use std::sync::Arc;
use trust::{Change, Permit, TrustError, UnitReceipt, kinds};

impl Books {
    /// Of each change whether others could steer a journey by such a resource.
    pub(super) fn steered_by(&self, changes: &[Change]) -> Vec<bool> {
        let kinds = changes.iter().map(|change| match change {
            Change::Put { resource, .. } => resource.kind(),
            Change::Delete { kind, .. } => *kind,
        });
        kinds
            .map(|kind| self.interest(Kind(kind.code())).steers)
            .collect()
    }

    /// Remembers which of those this process has written, so that they need not be opened for that.
    pub(super) fn wrote(&self, receipt: &UnitReceipt, steers: &[bool]) {
        for (written, steers) in receipt.changes.iter().zip(steers) {
            if *steers {
                self.learnt.wrote(written.at);
            }
        }
    }
}

impl Journeys {
    /// Notes what a commit is about to make, so that its event is not taken for another process's.
    pub(super) fn begin(&self, books: &Books, moved: &[Moved]) {
        for one in moved {
            let shard = books.shard_of(self.vault(), &one.after.patient, &one.instance);
            books.learnt.begin(shard, &one.instance, one.version);
        }
    }

    /// Takes the outcome of that commit into the books: where the versions lie, in order, if they are durable.
    pub(super) async fn ended(
        &self,
        books: &Books,
        permit: &Permit,
        moved: &[Moved],
        made: Option<&[Hit]>,
    ) {
        let durable = made.is_some();
        let mut places = made.unwrap_or_default().iter().copied();
        for one in moved {
            if durable {
                self.count(books, one);
            }
            let (shard, place) = (
                books.shard_of(self.vault(), &one.after.patient, &one.instance),
                places.next(),
            );
            let (instance, version) = (&one.instance, one.version);
            let passed_over = books.learnt.end(shard, instance, version, durable, place);
            if let Some(at) = passed_over
                && let Err(error) = self.learn_version(books, permit, at).await
            {
                tracing::error!(%error, "a patient's move by another process could not be counted");
                // It is counted with everybody else at the next start.
                books.unread(at.shard);
            }
        }
    }

    fn count(&self, books: &Books, moved: &Moved) {
        books.count(moved, self.vault());
        let journey = &moved.after.journey;
        metrics::counter!("journey_moves_total", "journey" => journey.clone()).increment(1);
    }

    /// Reads the feed of a shard that another process holds: for the books only.
    pub(super) async fn observe(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        shard: Shard,
    ) -> Result<(), MoveError> {
        let ledger = self.vault().ledger();
        loop {
            let to = books.learnt.to(shard);
            if ledger.shard_head(shard) <= to {
                return Ok(());
            }
            let events = ledger
                .events(shard, to, EVENTS_AT_ONCE)
                .await
                .map_err(TrustError::from)?;
            for event in &events {
                self.learn(books, permit, event).await?;
            }
            if events.len() < EVENTS_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Takes in what moved since the counts were kept, on all shards. When the first event is worked on,
    /// the books are whole.
    pub(crate) async fn catch_up(
        &self,
        books: &Arc<Books>,
        permit: &Arc<Permit>,
    ) -> Result<(), MoveError> {
        let behind = |shard: &Shard| {
            let head = self.vault().ledger().shard_head(*shard);
            books.learnt.to(*shard) < head
        };
        let mut work = tokio::task::JoinSet::new();
        for shard in (0..SHARDS).map(Shard).filter(behind) {
            if work.len() >= SHARDS_AT_ONCE {
                joined(work.join_next().await)?;
            }
            let (journeys, books, permit) = (self.clone(), books.clone(), permit.clone());
            work.spawn(async move { journeys.observe(&books, &permit, shard).await });
        }
        while let Some(done) = work.join_next().await {
            joined(Some(done))?;
        }
        Ok(())
    }

    /// Takes an event into the books, if it is one of theirs and isn't in them yet.
    pub(super) async fn learn(
        &self,
        books: &Books,
        permit: &Permit,
        event: &Event,
    ) -> Result<(), MoveError> {
        let at = event.at;
        if at.number <= books.learnt.to(at.shard) {
            return Ok(());
        }
        if event.tenant == books.tenant && !event.deleted {
            match event.kind {
                kinds::JOURNEY_DEFINITION | kinds::JOURNEY_STAGE => {
                    books.read_definitions(self.vault(), permit).await?;
                    books.scans.notify_one();
                }
                kinds::JOURNEY_BATCH | kinds::JOURNEY_MIGRATION => books.batches.notify_one(),
                kinds::JOURNEY_INSTANCE => self.learn_instance(books, permit, at).await?,
                _ => {}
            }
        }
        books.learnt.reached(at.shard, at.number);
        // Keeping counts is no reason to keep them again.
        if event.kind != KEPT_COUNTS {
            books.learnt.has_read(at.shard);
            books.has_heard();
        }
        Ok(())
    }

    async fn learn_instance(
        &self,
        books: &Books,
        permit: &Permit,
        at: Hit,
    ) -> Result<(), MoveError> {
        if books.learnt.is_own(at) {
            return Ok(());
        }
        let stored = self
            .vault()
            .internal_at(permit, kinds::JOURNEY_INSTANCE, at)
            .await;
        match stored {
            Ok(Some(stored)) if books.learnt.heard(&stored.id, stored.version, at) => {
                self.learn_version(books, permit, at).await
            }
            Ok(_) => Ok(()),
            Err(error) => unreadable(books, at, error.into()),
        }
    }

    /// Counts a version that another process wrote.
    async fn learn_version(
        &self,
        books: &Books,
        permit: &Permit,
        at: Hit,
    ) -> Result<(), MoveError> {
        match self.read_move(permit, at).await {
            Ok(Some(moved)) => {
                self.count(books, &moved);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => unreadable(books, at, error),
        }
    }

    /// What a stored version did, against the one before it.
    async fn read_move(&self, permit: &Permit, at: Hit) -> Result<Option<Moved>, MoveError> {
        let kind = kinds::JOURNEY_INSTANCE;
        let Some(stored) = self.vault().internal_at(permit, kind, at).await? else {
            return Ok(None);
        };
        let after = State::from_json(&stored.body)?;
        let before = match stored.version {
            0 | 1 => None,
            version => {
                self.vault()
                    .internal_version(permit, kind, &stored.id, version - 1)
                    .await?
            }
        };
        let before = before
            .map(|before| State::from_json(&before.body))
            .transpose()?;
        let seen = before.as_ref().map_or(0, State::trail_total);
        let entries = match seen.checked_sub(after.moved as usize) {
            Some(kept) => after.trail.iter().skip(kept).cloned().collect(),
            // Some of the newest entries lie in documents of their own already.
            None => {
                let mut all = old_trail(self.vault(), permit, &stored.id, &after).await?;
                all.extend(after.trail.iter().cloned());
                all.split_off(seen.min(all.len()))
            }
        };
        Ok(Some(Moved {
            version: stored.version,
            before: Before::of(before.as_ref()),
            after,
            entries,
            instance: stored.id,
        }))
    }
}

fn joined(
    done: Option<Result<Result<(), MoveError>, tokio::task::JoinError>>,
) -> Result<(), MoveError> {
    match done {
        Some(Err(_)) => Err(MoveError::Panicked),
        Some(Ok(done)) => done,
        None => Ok(()),
    }
}

/// What can't be read is not counted, as when the books are opened; a fault of the store is tried again.
fn unreadable(books: &Books, at: Hit, error: MoveError) -> Result<(), MoveError> {
    match runner::cure(&error) {
        runner::Cure::Skip => Ok(()),
        runner::Cure::Bury => {
            tracing::error!(%error, "a patient's place in a journey can't be read; it is not counted");
            books.unread(at.shard);
            Ok(())
        }
        runner::Cure::Again | runner::Cure::Wait => Err(error),
    }
}
