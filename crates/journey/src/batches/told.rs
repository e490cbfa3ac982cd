//! How far a batch has come, whom it could not reach, and whom it has reached.

use super::{Batch, Failure, PART, Stage, steers};
use crate::state::State;
use crate::{JourneyError, Journeys};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use trust::{Permit, kinds};

/// Failures that are shown of a batch at once.
pub const FAILURES_MAX: usize = 500;

/// A place in the list of those whom a batch could not reach; as text `PART.POSITION`. Others come behind, and nobody
/// before who was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailurePlace {
    part: usize,
    position: usize,
}

impl FailurePlace {
    /// The place that a text says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (part, position) = text.split_once('.')?;
        Some(Self {
            part: part.parse().ok()?,
            position: position.parse().ok()?,
        })
    }
}

impl fmt::Display for FailurePlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.part, self.position)
    }
}

/// Some of those whom a batch could not reach.
#[derive(Debug, Clone, Default)]
pub struct FailurePage {
    /// They, as far as whoever asks is shown them.
    pub failures: Vec<Failure>,
    /// How many are at this place of the list besides, whom they are not shown.
    pub hidden: usize,
    /// The place behind which others are.
    pub next: Option<FailurePlace>,
}

impl Journeys {
    /// How far a batch is, and of no patient.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn batch_head(&self, permit: &Permit, id: &str) -> Result<Batch, JourneyError> {
        steers(permit)?;
        Ok(self.stored_batch(permit, id).await?.0)
    }

    pub(super) async fn batch_stage(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<Stage, JourneyError> {
        Ok(self.stored_batch(permit, id).await?.0.stage)
    }

    /// A batch with the first of those whom it could not reach, as [`Journeys::batch_failures`] tells them.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn batch(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<(Batch, Vec<Failure>), JourneyError> {
        let (batch, page) = self.batch_failures(permit, id, None, FAILURES_MAX).await?;
        Ok((batch, page.failures))
    }

    /// A batch with some of those whom it could not reach: so many behind a place. That they were told of is in the
    /// audit of each. Whom the permit is not shown in lists of patients is counted alone; who is shown no patients at
    /// all is told of journeys.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn batch_failures(
        &self,
        permit: &Permit,
        id: &str,
        after: Option<FailurePlace>,
        count: usize,
    ) -> Result<(Batch, FailurePage), JourneyError> {
        steers(permit)?;
        let (batch, _) = self.stored_batch(permit, id).await?;
        let count = count.min(FAILURES_MAX);
        let mut page = FailurePage::default();
        if count == 0 {
            return Ok((batch, page));
        }
        let (from, mut skip) = after.map_or((0, 0), |after| {
            (after.part, after.position.saturating_add(1))
        });
        let mut found: Vec<(FailurePlace, Failure)> = Vec::new();
        'all: for part in from..batch.next.div_ceil(PART) {
            let (stored, _) = self.stored_part(permit, id, part).await?;
            for (position, failure) in stored.failures.into_iter().enumerate().skip(skip) {
                if found.len() == count {
                    page.next = found.last().map(|(place, _)| *place);
                    break 'all;
                }
                found.push((FailurePlace { part, position }, failure));
            }
            skip = 0;
        }
        let patients = found.iter().map(|(_, failure)| failure.patient.clone());
        let shown = self.shown_of(permit, &patients.collect()).await?;
        let all = found.len();
        let found = found.into_iter().map(|(_, failure)| failure);
        page.failures = found
            .filter(|failure| {
                shown
                    .as_ref()
                    .is_none_or(|shown| shown.contains(&failure.patient))
            })
            .collect();
        page.hidden = all - page.failures.len();
        if !page.failures.is_empty() {
            let patients: BTreeSet<String> = page
                .failures
                .iter()
                .map(|failure| failure.patient.clone())
                .collect();
            let note = format!("{}: whom batch {id} could not reach", batch.who.journey);
            self.vault().record_look(permit, patients, &note).await?;
        }
        Ok((batch, page))
    }

    /// Whether one batch takes back what another did.
    pub(super) async fn takes_back(
        &self,
        permit: &Permit,
        one: &str,
        other: &str,
    ) -> Result<bool, JourneyError> {
        match self.stored_batch(permit, one).await {
            Ok((batch, _)) => Ok(batch.of.as_deref() == Some(other)),
            Err(JourneyError::Unknown(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A batch with those whom it has reached: instance and patient. A turn that was cut short may have reached more than
    /// it has written down, so those whom it was at are asked themselves.
    pub(crate) async fn reached(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<(Batch, Vec<(String, String)>), JourneyError> {
        let (batch, _) = self.stored_batch(permit, id).await?;
        let turn = usize::try_from(batch.rate).unwrap_or(1).max(1);
        let last = batch.next.saturating_add(turn).min(batch.total);
        let (mut noted, mut asked) = (Vec::new(), Vec::new());
        for number in 0..last.div_ceil(PART) {
            let (part, _) = self.stored_part(permit, id, number).await?;
            let begin = number * PART;
            let failed: BTreeSet<&str> = part
                .failures
                .iter()
                .map(|failure| failure.instance.as_str())
                .collect();
            let waits: BTreeSet<&(String, String)> = part.waiting.iter().collect();
            let targets = part.targets.iter().enumerate().take(last - begin);
            for (place, one) in targets {
                if failed.contains(one.0.as_str()) {
                    continue;
                }
                if begin + place < batch.next && !waits.contains(one) {
                    noted.push(one.clone());
                } else {
                    asked.push(one.clone());
                }
            }
        }
        noted.extend(self.reached_of(permit, id, asked).await?);
        Ok((batch, noted))
    }

    /// Those of some whose journeys say that a batch has led them.
    async fn reached_of(
        &self,
        permit: &Permit,
        batch: &str,
        some: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, JourneyError> {
        if some.is_empty() {
            return Ok(some);
        }
        let engine = self.engine_permit(permit.tenant()).await?;
        let ids: Vec<String> = some.iter().map(|(instance, _)| instance.clone()).collect();
        let kind = kinds::JOURNEY_INSTANCE;
        let stored = self.vault().internals_of(&engine, kind, &ids).await?;
        let mut led: BTreeMap<String, bool> = BTreeMap::new();
        for document in stored {
            // One that a newer version has written is not for this program.
            let led_by = State::from_json(&document.body)
                .is_ok_and(|state| state.batch.as_deref() == Some(batch));
            led.insert(document.id, led_by);
        }
        let some = some.into_iter();
        Ok(some
            .filter(|(instance, _)| led.get(instance).copied().unwrap_or_default())
            .collect())
    }
}
