//! Shards that another server follows: what that one has still to read of a patient comes before what somebody does
//! about the patient here.
//!
//! It is told to the patient's journeys by this server, as any follower would; the other one finds it done.

use super::{CONFLICTS_MAX, Cure, EVENTS_AT_ONCE, Errand, SKIPPED_MAX, consumer, cure};
use crate::books::Books;
use crate::mover::MoveError;
use crate::{JourneyError, Journeys};
use fhir::ResourceType;
use ledger::{Event, Number, Shard};
use std::collections::HashMap;
use std::sync::Arc;
use trust::{Permit, TrustError, Versioned};

/// Why an act is refused before which the patient's journeys can't be told here of all that happened.
pub(crate) const BEHIND: &str = "the server that follows this patient is behind; try again";
/// Most events that are looked at and told for one act; the next one goes on behind them. A server that is not behind
/// stores its place more often.
const TOLD_MAX: usize = 4 * SKIPPED_MAX;
/// Most events that are kept of a shard.
const KEPT_MAX: usize = TOLD_MAX;

/// What of a shard's feed is not known to be done, by patient: opened once, however many are acted on.
#[derive(Default)]
pub(crate) struct Unread {
    /// Up to where the feed was looked at.
    to: Number,
    of: HashMap<String, Vec<Event>>,
}

impl Unread {
    /// Up to here the one who follows it has come.
    fn follow(&mut self, done: Number) {
        if self.to <= done {
            *self = Self {
                to: done,
                of: HashMap::new(),
            };
            return;
        }
        self.of.retain(|_, events| {
            events.retain(|event| event.at.number > done);
            !events.is_empty()
        });
    }

    /// How many events are kept.
    fn kept(&self) -> usize {
        self.of.values().map(Vec::len).sum()
    }
}

/// An event that can't be told now is told by nobody here, nor is what comes behind it.
fn behind(error: MoveError) -> JourneyError {
    match cure(&error) {
        Cure::Bury => {
            tracing::warn!(%error, "an act by hand waits for the server that follows the patient");
            JourneyError::Cannot(BEHIND.to_owned())
        }
        Cure::Again | Cure::Wait | Cure::Skip => error.into(),
    }
}

/// Whose it is, of what was deleted too.
pub(super) fn patient_of((found, before): (&Versioned, Option<&fhir::Resource>)) -> Option<String> {
    let said = before.unwrap_or(&found.resource);
    match said.kind() {
        ResourceType::Patient => said.id().map(str::to_owned),
        _ => said.patient().map(str::to_owned),
    }
}

impl Journeys {
    /// Tells a patient's journeys what is on the feed of their shard and may not have been read by the server that
    /// follows it. Up to where they know it then. The caller has the shard's position.
    ///
    /// What can't be told is left to the one who follows the shard, with all that comes behind it, and the act is
    /// refused: somebody else may be able to.
    pub(super) async fn tell_unread(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        shard: Shard,
        patient: &str,
    ) -> Result<Number, JourneyError> {
        let ledger = self.vault().ledger();
        let Some(unread) = books.unread_of(shard) else {
            return Ok(Number::default());
        };
        let mut unread = unread.lock().await;
        let done = ledger.cursor(&consumer(books.tenant), shard).await;
        unread.follow(done.map_err(TrustError::from)?);
        ledger
            .shard_head_now(shard)
            .await
            .map_err(TrustError::from)?;
        // Whether somebody is under way has to be known before events are passed over for that.
        self.observe(books, permit, shard).await?;
        let mut left = TOLD_MAX;
        loop {
            let events = ledger.events(shard, unread.to, EVENTS_AT_ONCE).await;
            let events = events.map_err(TrustError::from)?;
            self.hear_before(books, permit, &events).await?;
            let full = events.len() == EVENTS_AT_ONCE;
            for event in events {
                if left == 0 || unread.kept() >= KEPT_MAX {
                    return Err(JourneyError::Cannot(BEHIND.to_owned()));
                }
                left -= 1;
                let at = event.at;
                if Self::may_matter(books, &event) {
                    let found = self.vault().load_both_at(permit, at).await;
                    match found.map_err(MoveError::from) {
                        Ok(Some((found, before))) => {
                            if let Some(whose) = patient_of((&found, before.as_ref())) {
                                unread.of.entry(whose).or_default().push(event);
                            }
                        }
                        Ok(None) => {}
                        Err(error) if matches!(cure(&error), Cure::Skip) => {}
                        Err(error) => return Err(behind(error)),
                    }
                }
                unread.to = at.number;
            }
            if !full {
                break;
            }
        }
        let events = unread.of.get(patient).cloned().unwrap_or_default();
        let all = events.len() <= left;
        let mut told = 0;
        let mut outcome = Ok(());
        for event in events.iter().take(left) {
            outcome = self.tell(books, permit, event).await;
            if outcome.is_err() {
                break;
            }
            told += 1;
        }
        if let Some(events) = unread.of.get_mut(patient) {
            events.drain(..told);
        }
        unread.of.retain(|_, events| !events.is_empty());
        outcome.map_err(behind)?;
        if all {
            Ok(unread.to)
        } else {
            Err(JourneyError::Cannot(BEHIND.to_owned()))
        }
    }

    /// Tells a patient's journeys of one event.
    async fn tell(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        event: &Event,
    ) -> Result<(), MoveError> {
        let mut conflicts = 0;
        loop {
            let errand = Errand {
                event,
                cursor: None,
                held: None,
                only: None,
                letter: None,
            };
            match Box::pin(self.move_event(books, permit, errand)).await {
                Ok(_) => return Ok(()),
                Err(error) => match cure(&error) {
                    Cure::Again if conflicts < CONFLICTS_MAX => conflicts += 1,
                    Cure::Skip => return Ok(()),
                    Cure::Again | Cure::Wait | Cure::Bury => return Err(error),
                },
            }
        }
    }

    /// Drops what is kept of a shard's feed and was read since by the server that follows it.
    pub(super) async fn forget_read(&self, books: &Books, shard: Shard) -> Result<(), MoveError> {
        let Some(Ok(mut unread)) = books.unread_of(shard).map(tokio::sync::Mutex::try_lock) else {
            return Ok(());
        };
        if !unread.of.is_empty() {
            let name = consumer(books.tenant);
            let done = self.vault().ledger().cursor(&name, shard).await;
            unread.follow(done.map_err(TrustError::from)?);
        }
        Ok(())
    }
}
