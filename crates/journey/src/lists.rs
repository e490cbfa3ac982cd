//! Who is where: the lists behind the numbers of a journey's pages.

use crate::books::Published;
use crate::mover::MoveError;
use crate::passages::{PASSAGE, Passage};
use crate::service::{Journeys, refused, staff};
use crate::spec::{END, START_ANCHOR};
use crate::{JourneyError, Passed, PassedPage, PassedView, State, Stay};
use ledger::Number;
use std::sync::Arc;
use trust::{Action, Permit, TrustError, kinds};

/// Instances that are put in order for one list of who is somewhere now. Beyond it the list says that
/// it isn't whole; opening so many takes about a second.
const HERE_MAX: usize = 20_000;
/// Documents read at once.
const PAGE: usize = 500;

/// Somebody who is at a step, or in the journey, now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HereView {
    /// The patient.
    pub patient: String,
    /// The instance.
    pub instance: String,
    /// Since when, care clock.
    pub since_ms: u64,
}

/// Whose place a page of who is somewhere now starts behind: since when, and the instance.
pub type HereAfter = (u64, String);

/// A page of who is somewhere now, longest first.
#[derive(Debug, Clone)]
pub struct HerePage {
    /// Rows.
    pub rows: Vec<HereView>,
    /// How many the whole list has.
    pub total: u64,
    /// How many have been here for how long, by [`Stay`], whatever the list is filtered by.
    pub stays: Vec<u64>,
    /// Where the next page starts, if there is one.
    pub next: Option<HereAfter>,
    /// Whether everybody was looked at.
    pub complete: bool,
}

/// Who is where is coordination of care: whoever may look for patients' tasks may see it.
fn may_see_who(permit: &Permit) -> Result<(), JourneyError> {
    staff(permit)?;
    if !permit.shows_patients() || !permit.allows(Action::Search, fhir::ResourceType::Task) {
        return Err(refused(
            "this permit shows how many patients are where, not who",
        ));
    }
    Ok(())
}

fn place_of(published: &Published, step: &str) -> Result<Place, JourneyError> {
    match published.definition.step(step).map(|step| &step.kind) {
        Some(kind) if kind.aims().is_some() => Ok(Place::Edge),
        Some(kind) if kind.watches() => Ok(Place::Watched),
        Some(kind) if kind.branches().is_some() => Ok(Place::Parallel),
        Some(_) => Ok(Place::Step),
        None if step == END || step == START_ANCHOR => Ok(Place::Edge),
        None => Err(JourneyError::Unknown(format!(
            "{}, version {}, step {step}",
            published.stored.name, published.stored.version
        ))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Step,
    Parallel,
    /// A rule watches everybody who is under way; nobody goes to it.
    Watched,
    /// The graph's beginning and end, and goals: nobody stays there.
    Edge,
}

impl Journeys {
    async fn version_of(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
    ) -> Result<Arc<Published>, JourneyError> {
        let books = self.books(permit.tenant()).await?;
        Self::published(&books, name, Some(version))
    }

    /// Patients that are at a step now (`None`: in the journey), longest first, `limit` behind `after`;
    /// with `stay` only those who have been there so long.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    #[allow(
        clippy::too_many_arguments,
        reason = "a list's name, its filters and its page"
    )]
    pub async fn here(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
        step: Option<&str>,
        stay: Option<Stay>,
        after: Option<&HereAfter>,
        limit: usize,
    ) -> Result<HerePage, JourneyError> {
        may_see_who(permit)?;
        let published = self.version_of(permit, name, version).await?;
        let place = step.map(|step| place_of(&published, step)).transpose()?;
        let mut page = HerePage {
            rows: Vec::new(),
            total: 0,
            stays: vec![0; Stay::COUNT],
            next: None,
            complete: true,
        };
        if place == Some(Place::Edge) {
            return Ok(page);
        }
        let since = |state: &State| match (step, place) {
            (Some(step), Some(Place::Step | Place::Parallel)) => state
                .tokens
                .iter()
                .filter(|token| token.step == step)
                .map(|token| token.since_ms)
                .min(),
            _ => state.running().then_some(state.started_ms),
        };
        let of_version = format!("{name}/{version}");
        let at = format!("{of_version}/{}", step.unwrap_or_default());
        let tokens: &[(&str, &str)] = match place {
            Some(Place::Step | Place::Parallel) => &[("at", &at)],
            _ => &[("version", &of_version), ("state", "running")],
        };

        // Everybody is looked at to put them in order, by the engine, for nobody's eyes; what is shown is
        // read under the caller's permit, so that the audit names those and no others.
        let engine = self.engine_permit(permit.tenant()).await?;
        let mut found: Vec<(u64, String)> = Vec::new();
        let mut before = None;
        loop {
            let documents = self
                .vault()
                .internals(&engine, kinds::JOURNEY_INSTANCE, tokens, before, PAGE)
                .await?;
            for document in &documents {
                let state = read(&document.body)?;
                if state.journey == name && state.version == version {
                    found.extend(since(&state).map(|since_ms| (since_ms, document.id.clone())));
                }
            }
            before = documents.last().map(|last| last.at.number);
            if documents.len() < PAGE {
                break;
            }
            if found.len() >= HERE_MAX {
                page.complete = false;
                break;
            }
        }
        found.sort_unstable();
        let now_ms = self.now_ms();
        let stayed = |since_ms: u64| Stay::of(now_ms.saturating_sub(since_ms));
        for (since_ms, _) in &found {
            page.stays[stayed(*since_ms).place()] += 1;
        }
        found.retain(|(since_ms, _)| stay.is_none_or(|stay| stay == stayed(*since_ms)));
        page.total = found.len() as u64;
        let mut shown = found
            .into_iter()
            .filter(|one| after.is_none_or(|after| one > after));
        let ids: Vec<String> = shown.by_ref().take(limit).map(|(_, id)| id).collect();
        let more = shown.next().is_some();
        for document in self
            .vault()
            .internals_of(permit, kinds::JOURNEY_INSTANCE, &ids)
            .await?
        {
            let state = read(&document.body)?;
            // Who has moved on meanwhile isn't here any more.
            if let Some(since_ms) = since(&state) {
                page.rows.push(HereView {
                    patient: state.patient,
                    instance: document.id,
                    since_ms,
                });
            }
        }
        if more {
            page.next = page
                .rows
                .last()
                .map(|last| (last.since_ms, last.instance.clone()));
        }
        Ok(page)
    }

    /// Who has passed a step, gone a way or left the journey: the rows that one count of the graph is
    /// made up of, newest first, about `limit` of them before `before`.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn passed(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
        list: &Passed,
        before: Option<Number>,
        limit: usize,
    ) -> Result<PassedPage, JourneyError> {
        may_see_who(permit)?;
        let published = self.version_of(permit, name, version).await?;
        let list = &self.resolved(&published, list)?;
        let tokens = list.tokens(name, version);
        let tokens: Vec<(&str, &str)> = tokens
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (mut rows, mut place): (Vec<PassedView>, _) = (Vec::new(), before);
        loop {
            let wanted = limit.saturating_sub(rows.len()).clamp(1, PAGE);
            let documents = self
                .vault()
                .internals(permit, PASSAGE, &tokens, place, wanted)
                .await?;
            for document in &documents {
                let passage: Passage = serde_json::from_slice(&document.body)
                    .map_err(|_| TrustError::Damaged(format!("journey passage {}", document.id)))?;
                rows.extend(passage.rows(name, version, list));
            }
            place = documents.last().map(|last| last.at.number);
            if documents.len() < wanted {
                return Ok(PassedPage { rows, next: None });
            }
            if rows.len() >= limit {
                break;
            }
        }
        // Whether there is more is found out without showing it to anybody.
        let engine = self.engine_permit(permit.tenant()).await?;
        let more = self
            .vault()
            .internals(&engine, PASSAGE, &tokens, place, 1)
            .await?;
        Ok(PassedPage {
            rows,
            next: place.filter(|_| !more.is_empty()),
        })
    }

    /// The list as it is stored: into branches, from the start and to a rule all go who come.
    fn resolved(&self, published: &Published, list: &Passed) -> Result<Passed, JourneyError> {
        let came = |step: &str| Passed::Came {
            step: step.to_owned(),
        };
        let place = |step: &str| place_of(published, step);
        Ok(match list {
            Passed::Came { step } if place(step)? == Place::Watched => came(START_ANCHOR),
            Passed::Came { step }
            | Passed::Left { step, .. }
            | Passed::Ended {
                step: Some(step), ..
            } => {
                place(step)?;
                list.clone()
            }
            Passed::Way { from, to, label } => {
                place(to)?;
                let branches = published
                    .definition
                    .step(from)
                    .and_then(|step| step.kind.branches())
                    .is_some_and(|(branches, _)| {
                        branches
                            .iter()
                            .flat_map(|branch| &branch.steps)
                            .any(|index| published.definition.steps[*index].id == *to)
                    });
                let into_branch = branches
                    && label
                        .as_ref()
                        .is_none_or(|label| label == crate::counts::BRANCH);
                match place(from)? {
                    Place::Edge => came(START_ANCHOR),
                    Place::Parallel if into_branch => came(from),
                    _ => list.clone(),
                }
            }
            Passed::Ended { .. } => list.clone(),
        })
    }
}

fn read(body: &[u8]) -> Result<State, JourneyError> {
    State::from_json(body).map_err(|error| MoveError::from(error).into())
}
