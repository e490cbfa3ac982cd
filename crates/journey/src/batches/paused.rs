//! A batch that rests, and goes on.

use super::{Batch, Stage, head, steers};
use crate::hands::name_of;
use crate::{JourneyError, Journeys};
use ledger::{Expected, LedgerError};
use serde::{Deserialize, Serialize};
use trust::{Permit, TrustError, Unit};

/// That a batch rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who had it rest, by name.
    pub by: String,
    /// Since when, care clock.
    pub at_ms: u64,
}

impl Batch {
    /// Whether it rests, until somebody lets it go on.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.stage == Stage::Cancelled && self.paused.is_some()
    }
}

impl Journeys {
    /// Has a batch rest: who was reached stays as they are, the others are left until it goes on. Whether it went on
    /// until then.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn pause_batch(&self, permit: &Permit, id: &str) -> Result<bool, JourneyError> {
        let paused = Paused {
            by: name_of(permit),
            at_ms: self.now_ms(),
        };
        let rests = |batch: &mut Batch| {
            let runs = batch.stage == Stage::Running;
            if runs {
                batch.stage = Stage::Cancelled;
                batch.paused = Some(paused.clone());
            }
            runs
        };
        self.turned(permit, id, "rests", rests).await
    }

    /// Lets a batch go on that rests, for those whom it has not reached. For whom something else would come of it by
    /// now than was foreseen is left as they are and listed, as ever. Whether it rested.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn resume_batch(&self, permit: &Permit, id: &str) -> Result<bool, JourneyError> {
        let goes_on = |batch: &mut Batch| {
            let rests = batch.rests();
            if rests {
                batch.stage = Stage::Running;
                batch.paused = None;
            }
            rests
        };
        self.turned(permit, id, "goes on", goes_on).await
    }

    /// Changes a batch, if `change` does so.
    async fn turned(
        &self,
        permit: &Permit,
        id: &str,
        what: &str,
        change: impl Fn(&mut Batch) -> bool,
    ) -> Result<bool, JourneyError> {
        steers(permit)?;
        loop {
            let (mut batch, version) = self.stored_batch(permit, id).await?;
            if !change(&mut batch) {
                return Ok(false);
            }
            let unit = Unit {
                internals: vec![head(&batch, Expected::Version(version))],
                note: Some(format!("{}: batch {id} {what}", batch.who.journey)),
                ..Unit::default()
            };
            match self.vault().commit(permit, unit).await {
                Ok(_) => return Ok(true),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }
}
