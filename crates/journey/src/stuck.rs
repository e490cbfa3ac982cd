//! Who is stuck: places where what is waited for can't come any more by itself.
//!
//! A journey always waits for a timer that it has set, so what can go wrong shows in few places: a timer
//! that is long past without a move, a dead letter, and a journey that is held longer than it may last.

use crate::mover::TIMER_CONSUMER;
use crate::service::staff;
use crate::state::State;
use crate::{JourneyError, Journeys};
use ledger::{SHARDS, Shard, TenantId};
use std::collections::BTreeMap;
use trust::{Permit, TrustError, kinds};

/// How late a timer is that somebody should look at. A morning's spike is drained in minutes.
const LATE_MS: u64 = 3_600_000;
/// Most rows of each reason.
const ROWS_MAX: usize = 500;

/// Why somebody is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// What was due has not happened.
    Late,
    /// What happened can't be worked on: a dead letter.
    Letter,
    /// It waits for another version of Cairn, which knows the journey or the state.
    Version,
    /// It is held, and its longest time is over.
    Held,
}

/// Somebody who is stuck.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StuckView {
    /// Why.
    pub reason: Reason,
    /// Since when, care clock.
    pub since_ms: u64,
    /// What is known besides, without patient details.
    pub what: String,
    /// The instance, where it is one.
    pub instance: Option<String>,
    /// The dead letter, where it is one.
    pub letter: Option<String>,
}

impl Journeys {
    /// Who is stuck, longest first, and whether that is everybody.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn stuck(&self, permit: &Permit) -> Result<(Vec<StuckView>, bool), JourneyError> {
        staff(permit)?;
        let (late, late_whole) = self.late(permit.tenant()).await?;
        let letters = self.dead_letters(permit, ROWS_MAX).await?;
        let (held, held_whole) = self.held_too_long(permit.tenant()).await?;
        let whole = late_whole && letters.len() < ROWS_MAX && held_whole;
        let mut rows: Vec<StuckView> = late
            .into_iter()
            .map(|(instance, since_ms)| StuckView {
                reason: Reason::Late,
                since_ms,
                what: "What was due has not happened".to_owned(),
                instance: Some(instance),
                letter: None,
            })
            .collect();
        rows.extend(letters.into_iter().map(|letter| StuckView {
            reason: if letter.waits {
                Reason::Version
            } else {
                Reason::Letter
            },
            since_ms: letter.at_ms,
            what: letter.error,
            instance: letter.instance,
            letter: Some(letter.id),
        }));
        rows.extend(held);
        rows.sort_by_key(|row| (row.since_ms, row.reason));
        Ok((rows, whole))
    }

    /// Instances with a timer that is long past, on the shards that this server holds: each once, with the
    /// oldest; and whether these are all.
    async fn late(&self, tenant: TenantId) -> Result<(BTreeMap<String, u64>, bool), JourneyError> {
        let until_ms = self.now_ms().saturating_sub(LATE_MS);
        let ledger = self.vault().ledger();
        let due = ledger.timers_due(TIMER_CONSUMER, until_ms, ROWS_MAX).await;
        let due = due.map_err(TrustError::from)?;
        let held = (0..SHARDS).map(Shard).all(|shard| ledger.holds(shard));
        let whole = held && due.len() < ROWS_MAX;
        let mut late = BTreeMap::new();
        for timer in due.into_iter().filter(|timer| timer.tenant == tenant) {
            let instance = String::from_utf8_lossy(&timer.payload).into_owned();
            late.entry(instance).or_insert(timer.key.due_ms);
        }
        Ok((late, whole))
    }

    /// Journeys that are held and would be over by their longest time.
    async fn held_too_long(
        &self,
        tenant: TenantId,
    ) -> Result<(Vec<StuckView>, bool), JourneyError> {
        let engine = self.engine_permit(tenant).await?;
        let books = self.books(tenant).await?;
        let kind = kinds::JOURNEY_INSTANCE;
        let tokens = [("state", "running"), ("held", "yes")];
        let stored = self
            .vault()
            .internals(&engine, kind, &tokens, None, ROWS_MAX);
        let stored = stored.await?;
        let whole = stored.len() < ROWS_MAX;
        let mut held = Vec::new();
        for document in stored {
            let Ok(state) = State::from_json(&document.body) else {
                continue;
            };
            let known = books.version(&state.journey, state.version);
            if let (Some(paused), Some(known)) = (&state.paused, known)
                && state.started_ms.saturating_add(known.definition.at_most_ms) < self.now_ms()
            {
                held.push(StuckView {
                    reason: Reason::Held,
                    since_ms: paused.at_ms,
                    what: format!("{}: it is over once it goes on", known.definition.title),
                    instance: Some(document.id),
                    letter: None,
                });
            }
        }
        Ok((held, whole))
    }

    /// Counts who is late, for the metrics.
    pub(crate) async fn count_late(&self, tenant: TenantId) {
        match (self.late(tenant).await, self.open_books(tenant)) {
            (Ok((late, _)), Some(books)) => books.late(late.len()),
            (Err(error), _) => {
                tracing::warn!(%error, "who is late in journeys could not be counted");
            }
            (Ok(_), None) => {}
        }
    }
}
