//! Acts by hand on many patients' journeys: asked for once, done one patient after another by whichever
//! server holds the batch, at no more than so many a second.
//!
//! A batch lies in the ledger: whom it is for was fixed when it was asked for, and how far it has come is
//! written down as it goes. A patient's move names the batch in the same unit of work, so after a crash
//! whoever was reached already is passed over. One batch of a tenant goes on at a time, the oldest first.

mod one;
mod paused;
mod seen;
mod told;

pub use paused::Paused;
pub use told::{FAILURES_MAX, FailurePage, FailurePlace};

pub(crate) use one::not_as_foreseen;
pub(crate) use seen::{compare, decision_mark, mark, whole};

use crate::engine::{self, Act, Context, EngineError, Map};
use crate::hands::{Foreseen, foreseen, name_of};
use crate::mover::MoveError;
use crate::runner::BEHIND;
use crate::service::{refused, staff};
use crate::state::State;
use crate::{JourneyError, Journeys};
use ledger::{Expected, Kind, LedgerError, Owner, Shard, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::iter::{self, repeat};
use std::time::Duration;
use trust::{Action, Internal, Permit, TrustError, Unit, kinds};

/// Most journeys of one batch: it is asked for in one commit.
pub const BATCH_MAX: usize = 10_000;
/// Most patients a second. Each is a commit of its own, and the patients who move by themselves come first.
pub const RATE_MAX: u32 = 50;
/// Journeys in one document, so that to note how far a batch has come stays small.
const PART: usize = 500;
/// Documents read at once.
const PAGE: usize = 500;
/// Journeys that are shown before a batch is asked for.
const SAMPLE: usize = 5;
/// Journeys that are looked at for a sample of those that whoever asks may see.
const LOOKED_AT: usize = 50;
/// Batches that are listed.
const LISTED_MAX: usize = 100;
/// Real time between two looks at a batch that another server holds, or whose store fails.
const REST: Duration = Duration::from_secs(5);
/// Real time between two looks at those whom a batch can't reach yet.
const LATER: Duration = Duration::from_secs(30);

/// The kinds of their documents.
const KINDS: [Kind; 2] = [kinds::JOURNEY_BATCH, kinds::JOURNEY_MIGRATION];

/// Whose journeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The journey.
    pub journey: String,
    /// Its version.
    pub version: u32,
    /// Those who are at this step.
    #[serde(default)]
    pub step: Option<String>,
    /// Those who have been there (or, without a step, in the journey) for at least so long.
    #[serde(default)]
    pub for_ms: u64,
    /// Those who are held, or who aren't.
    #[serde(default)]
    pub held: Option<bool>,
    /// Those among these patients, if there are any here. A batch that was asked for names none: whom it is for is
    /// fixed in its parts, and what is written with each turn does not grow with them.
    #[serde(default)]
    pub patients: BTreeSet<String>,
    /// Of how many patients a batch was asked for, where it named them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub among: usize,
}

/// What is done to each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Many {
    /// Held.
    Hold,
    /// Let go on.
    GoOn,
    /// Stopped for good.
    Stop,
    /// The step is left by the way with this number.
    Skip(usize),
    /// The step is begun anew.
    Again,
    /// Sent to a step: from the step that was asked for, or from everywhere.
    Send(String),
    /// What a batch did is taken back ([`Journeys::begin_take_back`]).
    TakeBack,
    /// They go on by another version of the journey.
    Migrate {
        /// The version.
        to: u32,
        /// Where those go on whose step it doesn't name, or shall go elsewhere.
        map: Map,
    },
}

/// How a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It goes on, or waits for its turn.
    Running,
    /// Somebody has broken it off.
    Cancelled,
    /// Everybody was tried.
    Done,
}

/// A batch, as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its id.
    pub id: String,
    /// Whose journeys.
    pub who: Who,
    /// What is done.
    pub many: Many,
    /// Why, in words.
    pub reason: String,
    /// Who asked, by name.
    pub by: String,
    /// Who asked: the account.
    pub account: String,
    /// When, care clock.
    pub asked_ms: u64,
    /// Patients a second, at most.
    pub rate: u32,
    /// How it stands.
    pub stage: Stage,
    /// How many journeys it is for.
    pub total: usize,
    /// How many were tried.
    pub next: usize,
    /// How many of those could not be done.
    pub failed: usize,
    /// When it was over, care clock.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// The batch that it takes back, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// How many of those that were tried are waited for: something has to end first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting: usize,
    /// The part where it looks next at those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub round: usize,
    /// Who has it rest, and since when. Its stage says then that it was broken off: so no program goes on with it,
    /// also one that knows no rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Batch {
    /// The kind of its document. Programs from before moves between versions know nothing of those, and would
    /// stop at them.
    fn kind(&self) -> Kind {
        match self.many {
            Many::Migrate { .. } => kinds::JOURNEY_MIGRATION,
            _ if self.of.is_some() => kinds::JOURNEY_MIGRATION,
            _ => kinds::JOURNEY_BATCH,
        }
    }
}

/// A batch that is asked for.
pub(crate) struct Order {
    pub(crate) who: Who,
    pub(crate) many: Many,
    pub(crate) of: Option<String>,
    /// Instance and patient.
    pub(crate) targets: Vec<(String, String)>,
    /// Marks of what is foreseen for each of them, or none at all.
    pub(crate) marks: Vec<String>,
}

/// What became of one of those whom a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It was done.
    Done,
    /// Something has to end first.
    Later,
}

/// A journey where a batch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The patient.
    pub patient: String,
    /// The instance.
    pub instance: String,
    /// Why, in words.
    pub why: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Part {
    /// Instance and patient.
    targets: Vec<(String, String)>,
    #[serde(default)]
    failures: Vec<Failure>,
    /// Those of them that are waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<(String, String)>,
    /// Their marks, in the same order; empty where it isn't known what was foreseen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting_seen: Vec<String>,
    /// Marks of what was foreseen for each; programs before this one write none, and compare nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seen: Vec<String>,
}

/// What a batch would do.
#[derive(Debug, Clone)]
pub struct BatchForeseen {
    /// For how many journeys.
    pub total: usize,
    /// Some of them: the patient, and what would come of it or why it can't be done.
    pub sample: Vec<(String, Result<Foreseen, String>)>,
    /// The mark of whom it is for and what would come of it, for whoever asks for what they have seen. Empty where
    /// that is the same for everybody.
    pub seen: String,
}

/// Only those who may act on many at once ask for batches, see them and break them off.
pub(crate) fn steers(permit: &Permit) -> Result<(), JourneyError> {
    staff(permit)?;
    if permit.action() == Action::Steer {
        Ok(())
    } else {
        Err(refused("this permit is not for many patients at once"))
    }
}

impl Who {
    fn tokens(&self) -> Vec<(&'static str, String)> {
        let version = format!("{}/{}", self.journey, self.version);
        let mut tokens = match &self.step {
            Some(step) => vec![("at", format!("{version}/{step}"))],
            None => vec![("version", version), ("state", "running".to_owned())],
        };
        if self.held == Some(true) {
            tokens.push(("held", "yes".to_owned()));
        }
        tokens
    }

    /// Tokens can collide, and some of what is asked for has none.
    fn is(&self, state: &State, now_ms: u64) -> bool {
        let since_ms = match &self.step {
            Some(step) => {
                let there = state.tokens.iter().filter(|token| token.step == *step);
                there.map(|token| token.since_ms).min()
            }
            None => Some(state.started_ms),
        };
        state.running()
            && (&state.journey, state.version) == (&self.journey, self.version)
            && since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= self.for_ms)
            && self.held.is_none_or(|held| held == state.paused.is_some())
            && (self.patients.is_empty() || self.patients.contains(&state.patient))
    }
}

impl Many {
    /// Whether it leads patients elsewhere, which can be taken back.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(
            self,
            Self::Skip(_) | Self::Again | Self::Send(_) | Self::Migrate { .. }
        )
    }

    /// What is done to one of them; nothing for a stop.
    fn act(&self, who: &Who, state: &State) -> Result<Option<Act>, EngineError> {
        let place = || {
            let step = who.step.as_deref().unwrap_or_default();
            let mut there = state.tokens.iter().filter(|token| token.step == step);
            match (there.next(), there.next()) {
                (Some(token), None) => Ok(token.n),
                (None, _) => Err(EngineError::Cannot(
                    "the patient is not there any more".to_owned(),
                )),
                (Some(_), Some(_)) => Err(EngineError::Cannot(
                    "the patient is there twice; do it on the patient's page".to_owned(),
                )),
            }
        };
        Ok(Some(match self {
            // These are no acts of the engine alone.
            Self::Stop | Self::Migrate { .. } => return Ok(None),
            Self::Hold => Act::Pause,
            Self::GoOn => Act::Resume,
            Self::TakeBack if state.undo.as_ref().is_some_and(|undo| undo.batch.is_none()) => {
                return Err(EngineError::Cannot(engine::NOT_A_BATCHS.to_owned()));
            }
            Self::TakeBack => Act::Undo,
            Self::Skip(way) => Act::Skip {
                n: place()?,
                way: *way,
            },
            Self::Again => Act::Retry { n: place()? },
            Self::Send(to) => Act::Jump {
                from: who.step.is_some().then(place).transpose()?,
                to: to.clone(),
            },
        }))
    }
}

impl Journeys {
    /// Those whom a query finds now, in the order of their ids, with where they stand.
    pub(crate) async fn states_of(
        &self,
        permit: &Permit,
        who: &Who,
    ) -> Result<Vec<(String, State)>, JourneyError> {
        let books = self.books(permit.tenant()).await?;
        let published = Self::published(&books, &who.journey, Some(who.version))?;
        if let Some(step) = &who.step
            && published.definition.step(step).is_none()
        {
            return Err(JourneyError::Unknown(format!("step {step}")));
        }
        // Everybody is looked at by the engine, for nobody's eyes; what is shown is read under the caller's permit.
        let engine = self.engine_permit(permit.tenant()).await?;
        let tokens = who.tokens();
        let tokens: Vec<(&str, &str)> = tokens
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (mut found, mut before) = (Vec::new(), None);
        let now_ms = self.now_ms();
        loop {
            let kind = kinds::JOURNEY_INSTANCE;
            let page = self.vault().internals(&engine, kind, &tokens, before, PAGE);
            let page = page.await?;
            before = page.last().map(|last| last.at.number);
            for document in &page {
                // One that a newer version has written is not for this program.
                if let Ok(state) = State::from_json(&document.body)
                    && who.is(&state, now_ms)
                {
                    found.push((document.id.clone(), state));
                }
            }
            if found.len() > BATCH_MAX {
                return Err(JourneyError::Cannot(format!(
                    "more than {BATCH_MAX} journeys are found; ask for fewer at once"
                )));
            }
            if page.len() < PAGE {
                found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
                return Ok(found);
            }
        }
    }

    /// What a batch would do: for how many, and what would come of it for some.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Trust`.
    pub async fn foresee_batch(
        &self,
        permit: &Permit,
        who: &Who,
        many: &Many,
    ) -> Result<BatchForeseen, JourneyError> {
        steers(permit)?;
        let books = self.books(permit.tenant()).await?;
        // An emergency hold is never kept waiting, and looks at nobody.
        let _place = many.has_marks().then(|| books.place()).transpose()?;
        let found = self.states_of(permit, who).await?;
        let marks = self.act_marks(permit, who, many, &found).await?;
        let seen = whole(instances(&found).zip(marks.iter().map(String::as_str)));
        // No more are looked for than are shown, so that the audit names nobody else, as long as they are shown at all.
        let mut ids: Vec<String> = Vec::new();
        let looked_at = &found[..found.len().min(LOOKED_AT)];
        for some in looked_at.chunks(SAMPLE) {
            let wanted = SAMPLE - ids.len();
            if wanted == 0 {
                break;
            }
            let some = some.iter().take(wanted);
            let some = some.map(|(id, state)| (id.clone(), state.patient.clone()));
            let some = some.collect();
            ids.extend(self.shown_first(permit, some, wanted).await?);
        }
        let kind = kinds::JOURNEY_INSTANCE;
        let mut sample = Vec::new();
        for document in self.vault().internals_of(permit, kind, &ids).await? {
            let state = State::from_json(&document.body).map_err(MoveError::from)?;
            let published = Self::published(&books, &state.journey, Some(state.version))?;
            let act = many.act(who, &state);
            let to = match &act {
                Ok(Some(act)) => Self::after(&books, &state, act, &published.definition)?,
                _ => published.definition.clone(),
            };
            let ids = self.ids_of(permit, &state, to.version);
            let context = Context {
                now_ms: self.now_ms(),
                instance: &document.id,
                ids: &ids,
                limited: false,
            };
            let seen = |act: Option<Act>| match act {
                Some(act) => {
                    let definition = &published.definition;
                    foreseen(definition, &to, &state, document.version, &act, &context)
                }
                None => Ok(Foreseen::stopped(&published.definition, &state)),
            };
            let outcome = act.and_then(seen);
            let outcome = outcome.map_err(|error| error.to_string());
            sample.push((state.patient, outcome));
        }
        Ok(BatchForeseen {
            total: found.len(),
            sample,
            seen,
        })
    }

    /// Asks for a batch. Whom it is for is fixed now; `seen` is the mark of what was foreseen, if somebody looked: for
    /// whom something else would come of it by now is left as they are and listed. To hold, to let go on and to stop
    /// are the same for everybody, and are for all who are found. Its id.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Trust`.
    pub async fn begin_batch(
        &self,
        permit: &Permit,
        who: Who,
        many: Many,
        reason: &str,
        rate: u32,
        seen: Option<&str>,
    ) -> Result<String, JourneyError> {
        steers(permit)?;
        if matches!(many, Many::Skip(_) | Many::Again) && who.step.is_none() {
            return Err(JourneyError::Cannot("a step has to be named".to_owned()));
        }
        if many == Many::TakeBack {
            let why = "a batch is taken back by its name, on its page";
            return Err(JourneyError::Cannot(why.to_owned()));
        }
        if matches!(many, Many::Migrate { .. }) {
            let why = "a move to another version has a preview of its own";
            return Err(JourneyError::Cannot(why.to_owned()));
        }
        let books = self.books(permit.tenant()).await?;
        let _place = many.has_marks().then(|| books.place()).transpose()?;
        let found = self.states_of(permit, &who).await?;
        let mut marks = self.act_marks(permit, &who, &many, &found).await?;
        if many.has_marks() {
            compare(seen, instances(&found), &mut marks)?;
        }
        let targets = found.into_iter();
        let order = Order {
            targets: targets.map(|(id, state)| (id, state.patient)).collect(),
            marks,
            who,
            many,
            of: None,
        };
        self.ask(permit, order, reason, rate).await
    }

    /// Asks for a batch whose targets are known. Its id.
    pub(crate) async fn ask(
        &self,
        permit: &Permit,
        order: Order,
        reason: &str,
        rate: u32,
    ) -> Result<String, JourneyError> {
        let targets = order.targets;
        if targets.is_empty() {
            return Err(JourneyError::Cannot("no journey is found".to_owned()));
        }
        let ledger = self.vault().ledger();
        let mut dice = [0; 16];
        ledger.entropy().fill(&mut dice);
        let name = format!("batch/{}", blake3::hash(&dice));
        let mut who = order.who;
        who.among = std::mem::take(&mut who.patients).len().max(who.among);
        let batch = Batch {
            id: ledger.derive_id(permit.tenant(), &Owner::Tenant, &name),
            who,
            many: order.many,
            of: order.of,
            reason: reason.to_owned(),
            by: name_of(permit),
            account: permit.agent().id.clone(),
            asked_ms: self.now_ms(),
            rate: rate.clamp(1, RATE_MAX),
            stage: Stage::Running,
            total: targets.len(),
            next: 0,
            failed: 0,
            waiting: 0,
            round: 0,
            ended_ms: None,
            paused: None,
        };
        let mut internals = vec![head(&batch, Expected::Absent)];
        for (number, targets) in targets.chunks(PART).enumerate() {
            let part = Part {
                targets: targets.to_vec(),
                failures: Vec::new(),
                waiting: Vec::new(),
                waiting_seen: Vec::new(),
                seen: order
                    .marks
                    .chunks(PART)
                    .nth(number)
                    .map_or_else(Vec::new, <[_]>::to_vec),
            };
            internals.push(self.part(permit, &batch.id, number, &part, Expected::Absent));
        }
        let note = format!(
            "{}: batch {} for {}",
            batch.who.journey, batch.id, batch.total
        );
        let unit = Unit {
            internals,
            note: Some(note),
            ..Unit::default()
        };
        self.vault().commit(permit, unit).await?;
        Ok(batch.id)
    }

    fn part_id(&self, tenant: TenantId, batch: &str, number: usize) -> String {
        let name = format!("batch-part/{batch}/{number}");
        let ledger = self.vault().ledger();
        ledger.derive_id(tenant, &Owner::Tenant, &name)
    }

    fn part(
        &self,
        permit: &Permit,
        batch: &str,
        number: usize,
        part: &Part,
        expected: Expected,
    ) -> Internal {
        Internal {
            kind: kinds::JOURNEY_BATCH_PART,
            id: self.part_id(permit.tenant(), batch, number),
            owner: Owner::Tenant,
            expected,
            body: serde_json::to_vec(part).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }

    /// Batches, newest first.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn batches(&self, permit: &Permit) -> Result<Vec<Batch>, JourneyError> {
        steers(permit)?;
        let mut batches = Vec::new();
        for kind in KINDS {
            let stored = self.vault().internals(permit, kind, &[], None, LISTED_MAX);
            for stored in stored.await? {
                batches.push(read(&stored.body)?);
            }
        }
        batches.sort_by_key(|batch: &Batch| std::cmp::Reverse(batch.asked_ms));
        batches.truncate(LISTED_MAX);
        Ok(batches)
    }

    async fn stored_batch(&self, permit: &Permit, id: &str) -> Result<(Batch, u32), JourneyError> {
        for kind in KINDS {
            if let Some(found) = self.vault().internal(permit, kind, id).await? {
                return Ok((read(&found.body)?, found.version));
            }
        }
        Err(JourneyError::Unknown(format!("batch {id}")))
    }

    /// Breaks a batch off: who was reached stays as they are, the others are left alone. Whether it went on until then.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn cancel_batch(&self, permit: &Permit, id: &str) -> Result<bool, JourneyError> {
        steers(permit)?;
        loop {
            let (mut batch, version) = self.stored_batch(permit, id).await?;
            if batch.stage != Stage::Running && batch.paused.is_none() {
                return Ok(false);
            }
            batch.stage = Stage::Cancelled;
            batch.paused = None;
            batch.ended_ms = Some(self.now_ms());
            let unit = Unit {
                internals: vec![head(&batch, Expected::Version(version))],
                note: Some(format!("{}: batch {id} broken off", batch.who.journey)),
                ..Unit::default()
            };
            match self.vault().commit(permit, unit).await {
                Ok(_) => return Ok(true),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    async fn stored_part(
        &self,
        permit: &Permit,
        batch: &str,
        number: usize,
    ) -> Result<(Part, u32), JourneyError> {
        let id = self.part_id(permit.tenant(), batch, number);
        let kind = kinds::JOURNEY_BATCH_PART;
        let found = self.vault().internal(permit, kind, &id).await?;
        let found = found.ok_or_else(|| JourneyError::Broken(format!("batch {batch}, a part")))?;
        let part = serde_json::from_slice(&found.body);
        let part = part.map_err(|_| TrustError::Damaged(format!("batch {batch}, a part")))?;
        Ok((part, found.version))
    }

    /// Works on the oldest batch for about a second's worth of patients. How long to wait before the next turn;
    /// nothing where no batch goes on.
    ///
    /// # Errors
    /// `Trust`, where the store fails: nothing is lost, and what was done is passed over next time.
    pub async fn batch_turn(&self, tenant: TenantId) -> Result<Option<Duration>, JourneyError> {
        let permit = self.engine_permit(tenant).await?;
        let running = [("stage", "running")];
        let mut batches = Vec::new();
        for kind in KINDS {
            let stored = self.vault().internals(&permit, kind, &running, None, PAGE);
            for stored in stored.await? {
                let batch: Batch = read(&stored.body)?;
                if batch.stage == Stage::Running {
                    batches.push(batch);
                }
            }
        }
        // One that only waits for somebody keeps no other waiting.
        let turn = |batch: &Batch| (batch.next >= batch.total, batch.asked_ms, batch.id.clone());
        batches.sort_by_key(turn);
        let Some(batch) = batches.into_iter().next() else {
            return Ok(None);
        };
        let ledger = self.vault().ledger();
        let shard = ledger.shard_of(tenant, &Owner::Tenant, &batch.id);
        if !ledger.holds(shard) {
            return Ok(Some(REST));
        }
        // Whoever asked for it has heard of its versions.
        self.hear(&*self.books(tenant).await?, &permit).await?;
        let waits = batch.next >= batch.total;
        Box::pin(self.reach(&permit, batch, shard)).await?;
        Ok(Some(if waits { LATER } else { Duration::from_secs(1) }))
    }

    /// The part that is worked on next.
    async fn next_part(
        &self,
        permit: &Permit,
        batch: &Batch,
    ) -> Result<(usize, Part, u32), JourneyError> {
        let parts = batch.total.div_ceil(PART).max(1);
        let mut number = batch.next / PART;
        let again = batch.next >= batch.total;
        if again {
            number = batch.round % parts;
        }
        for _ in 0..parts {
            let (part, version) = self.stored_part(permit, &batch.id, number).await?;
            if !again || !part.waiting.is_empty() {
                return Ok((number, part, version));
            }
            number = (number + 1) % parts;
        }
        let (part, version) = self.stored_part(permit, &batch.id, number).await?;
        Ok((number, part, version))
    }

    async fn reach(&self, permit: &Permit, batch: Batch, shard: Shard) -> Result<(), JourneyError> {
        let (number, mut part, version) = self.next_part(permit, &batch).await?;
        let rate = usize::try_from(batch.rate).unwrap_or(1).max(1);
        // When everybody was tried, those are tried again who could not be reached yet.
        let again = batch.next >= batch.total;
        let from = batch.next % PART;
        // A program that writes no marks for those who wait has left them without.
        part.waiting_seen.resize(part.waiting.len(), String::new());
        let targets: Vec<((String, String), String)> = if again {
            let count = rate.min(part.waiting.len());
            let marks = part.waiting_seen.drain(..count);
            part.waiting.drain(..count).zip(marks).collect()
        } else {
            let marks = part.seen.iter().cloned().chain(repeat(String::new()));
            let targets = part.targets.iter().cloned().zip(marks);
            targets.skip(from).take(rate).collect()
        };
        let (mut tried, mut failures, mut later) = (0, Vec::new(), 0);
        let mut targets = targets.into_iter();
        while let Some(((instance, patient), mark)) = targets.next() {
            // Whom a rest or a breaking off comes before is left as they are.
            if tried > 0 && self.batch_stage(permit, &batch.id).await? != Stage::Running {
                let rest = iter::once(((instance, patient), mark)).chain(targets);
                let rest = rest.filter(|_| again);
                let (rest, marks): (Vec<_>, Vec<_>) = rest.unzip();
                part.waiting.extend(rest);
                part.waiting_seen.extend(marks);
                break;
            }
            let seen = Some(mark.as_str()).filter(|mark| !mark.is_empty());
            let one = (patient.as_str(), instance.as_str());
            let reached = self.reach_one(permit, &batch, one, seen, again);
            match Box::pin(reached).await {
                Ok(Reached::Done) => {}
                Ok(Reached::Later) => {
                    later += 1;
                    part.waiting.push((instance, patient));
                    part.waiting_seen.push(mark);
                }
                // It isn't behind for ever.
                Err(JourneyError::Cannot(why)) if why == BEHIND => {
                    later += 1;
                    part.waiting.push((instance, patient));
                    part.waiting_seen.push(mark);
                }
                Err(error) => failures.push(Failure {
                    why: one::why(error)?,
                    patient,
                    instance,
                }),
            }
            tried += 1;
        }
        let failed = failures.len();
        part.failures.extend(failures);
        if part.waiting_seen.iter().all(String::is_empty) {
            part.waiting_seen.clear();
        }
        // Somebody may have broken it off meanwhile; what was reached is written down all the same.
        loop {
            let (mut now, head_version) = self.stored_batch(permit, &batch.id).await?;
            if (now.next, now.round) != (batch.next, batch.round) {
                return Ok(());
            }
            if again {
                now.waiting = (now.waiting + later).saturating_sub(tried);
                now.round = number + 1;
            } else {
                now.next += tried;
                now.waiting += later;
            }
            now.failed += failed;
            if now.stage == Stage::Running && now.next >= now.total && now.waiting == 0 {
                now.stage = Stage::Done;
                now.ended_ms = Some(self.now_ms());
            }
            let expected = Expected::Version(version);
            let unit = Unit {
                internals: vec![
                    head(&now, Expected::Version(head_version)),
                    self.part(permit, &batch.id, number, &part, expected),
                ],
                held: Some(shard),
                note: Some(format!(
                    "{}: batch {}: {} of {}",
                    now.who.journey, now.id, now.next, now.total
                )),
                ..Unit::default()
            };
            match self.vault().commit(permit, unit).await {
                Ok(_) => return Ok(()),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {
                    let (_, again) = self.stored_part(permit, &batch.id, number).await?;
                    if again != version {
                        return Ok(());
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Works on batches until `stop` turns true. It sleeps until one is asked for.
    pub(crate) async fn steer(
        &self,
        tenant: TenantId,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        while !*stop.borrow() {
            let journeys = self.clone();
            // In a task of its own, so that a fault in it doesn't end the following of the feed.
            let turn = tokio::spawn(async move { journeys.batch_turn(tenant).await }).await;
            let wait = match turn.unwrap_or_else(|_| Err(MoveError::Panicked.into())) {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "a batch of journeys stands still; trying again");
                    Some(REST)
                }
            };
            let asleep = async {
                match (wait, self.open_books(tenant)) {
                    // A new one need not wait for those who can't be reached yet.
                    (Some(LATER), Some(books)) => tokio::select! {
                        () = tokio::time::sleep(LATER) => {}
                        () = books.batches.notified() => {}
                    },
                    (Some(wait), _) => tokio::time::sleep(wait).await,
                    (None, Some(books)) => books.batches.notified().await,
                    (None, None) => tokio::time::sleep(REST).await,
                }
            };
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { return },
                () = asleep => {}
            }
        }
    }
}

/// The ids of those who were found.
pub(crate) fn instances(found: &[(String, State)]) -> impl Iterator<Item = &str> {
    found.iter().map(|(instance, _)| instance.as_str())
}

fn head(batch: &Batch, expected: Expected) -> Internal {
    let stage = match batch.stage {
        Stage::Running => "running",
        Stage::Cancelled => "cancelled",
        Stage::Done => "done",
    };
    Internal {
        kind: batch.kind(),
        id: batch.id.clone(),
        owner: Owner::Tenant,
        expected,
        body: serde_json::to_vec(batch).unwrap_or_default(),
        deleted: false,
        tokens: vec![("stage".to_owned(), stage.to_owned())],
    }
}

fn read(body: &[u8]) -> Result<Batch, JourneyError> {
    let batch = serde_json::from_slice(body);
    Ok(batch.map_err(|_| TrustError::Damaged("a batch of journeys".to_owned()))?)
}
