//! Patients who are moved to another version of their journey: what would come of it, for all of them and for
//! each, and doing it.
//!
//! What would come of it is found by the production engine on copies of the real states: where each patient
//! would be, and what is planned on the version that they are on against what would be planned on the other.
//! The move itself is a batch (`batches.rs`), each patient a unit of work of its own.

mod map;
mod named;

use crate::batches::{
    Batch, Many, Order, Reached, Who, compare, decision_mark, instances, mark, not_as_foreseen,
    steers, whole,
};
use crate::definition::Definition;
use crate::engine::{self, Act, Context, Goes, Hand, Input, Manual, Map, Migration};
use crate::mover::{MoveError, Mover};
use crate::runner::Cause;
use crate::state::State;
use crate::{JourneyError, Journeys, PlannedView, diff, words};
use ledger::LedgerError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trust::{Permit, TrustError, Unit};

pub use named::{NAMED_MAX, NamedPage, Which};

/// Things that are planned of which two versions are compared, each: more than a journey of the longest file
/// has.
const COMPARED_MAX: usize = 400;
/// Differences of which a preview has sums; those of most patients come first.
const SUMS_MAX: usize = 200;

/// Which of those who are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Portion {
    /// All of them.
    #[default]
    All,
    /// So many. They come in the order of ids, which say nothing of anybody.
    First(usize),
    /// So many in a hundred.
    Share(u8),
}

impl Portion {
    fn of(self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::First(count) => count.min(all),
            Self::Share(share) => (all * usize::from(share.min(100))).div_ceil(100),
        }
    }
}

/// A move to another version that is asked about, or for.
#[derive(Debug, Clone)]
pub struct Moving {
    /// Whose journeys: they are on this version.
    pub who: Who,
    /// Which of those who are found.
    pub portion: Portion,
    /// The version that they go on by.
    pub to: u32,
    /// Where those go on whose step that version doesn't name, or shall go elsewhere.
    pub map: Map,
}

/// What becomes of one patient's journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is moved.
    Moves,
    /// The map leaves it where it is.
    Stays,
    /// The map has it held, where it is.
    Held,
    /// It is moved when something is over; what, in words.
    Waits(String),
    /// It can't be moved; why, in words.
    Cannot(String),
}

/// How something that is planned differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanChange {
    /// It is planned no more.
    Gone,
    /// It is planned now.
    New,
    /// It comes at another time.
    OtherTime,
    /// It says something else.
    OtherWords,
}

/// Something planned that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Differs {
    /// How.
    pub change: PlanChange,
    /// Step id, of the other version where it has it; empty for the journey's end.
    pub step: String,
    /// What, in words.
    pub what: String,
    /// When it was planned, if it was.
    pub before_ms: Option<u64>,
    /// When it is planned then, if it is.
    pub after_ms: Option<u64>,
}

/// What would come of it for one patient.
#[derive(Debug, Clone, Serialize)]
pub struct OneMoved {
    /// The patient.
    pub patient: String,
    /// The instance.
    pub instance: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What of what is planned differs, soonest first; nothing for who isn't moved.
    pub differs: Vec<Differs>,
    /// What is planned then, what happens at once included; nothing for who isn't moved.
    pub planned: Vec<PlannedView>,
    #[serde(skip)]
    mark: String,
}

/// A difference, for all whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// How it differs.
    pub change: PlanChange,
    /// Step id; empty for the journey's end.
    pub step: String,
    /// What, in words.
    pub what: String,
    /// For how many patients' journeys.
    pub patients: usize,
    /// How often in all.
    pub times: usize,
}

/// What would come of it for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Journeys that are found.
    pub found: usize,
    /// Those of them that it is for.
    pub total: usize,
    /// Those that are moved.
    pub moves: usize,
    /// Those that the map leaves where they are.
    pub stays: usize,
    /// Those that the map has held.
    pub held: usize,
    /// Those that are moved when something is over.
    pub waits: usize,
    /// Those that can't be moved.
    pub cannot: usize,
    /// Why of the last two, with how many.
    pub why: Vec<(String, usize)>,
    /// Those of the moved for whom something that is planned differs.
    pub changed: usize,
    /// What differs, by step: that of most patients first.
    pub differs: Vec<Sum>,
    /// The mark of whom it is for and what would come of it, for whoever asks for what they have seen.
    #[serde(skip)]
    pub seen: String,
}

/// Two versions, and what has to be asked besides for who goes from one to the other.
pub(crate) struct Pair {
    pub(crate) from: Arc<Definition>,
    pub(crate) to: Arc<Definition>,
    /// Rules that want to know what was measured.
    rules: bool,
    /// Consents are asked something else.
    consents: bool,
    /// Steps of the new version that say other words.
    words: BTreeSet<String>,
}

impl Pair {
    pub(crate) fn new(from: Arc<Definition>, to: Arc<Definition>, map: &Map) -> Self {
        let consents = from.purpose != to.purpose || from.about() != to.about();
        let rules = engine::new_rules(&from, &to, map).next().is_some();
        let words = from.steps.iter().filter_map(|before| {
            let after = to.step(after_of(map, &before.id))?;
            let other = before.kind_name() == after.kind_name()
                && diff::other_words(&before.said, &after.said);
            other.then(|| after.id.clone())
        });
        Self {
            words: words.collect(),
            rules,
            consents,
            from,
            to,
        }
    }
}

fn after_of<'a>(map: &'a Map, step: &'a str) -> &'a str {
    match map.get(step) {
        Some(Goes::Step(to)) => to,
        _ => step,
    }
}

/// What is planned differently, soonest first.
fn differs(pair: &Pair, map: &Map, before: &[PlannedView], after: &[PlannedView]) -> Vec<Differs> {
    // What is the same but for its step's title is the same thing, said differently.
    let key = |definition: &Definition, item: &PlannedView, step: &str| {
        let title = definition.step(&item.step).map(|step| step.title.as_str());
        let title = title.filter(|title| !title.is_empty());
        let kind = title.map_or_else(|| item.what.clone(), |title| item.what.replace(title, ""));
        (step.to_owned(), kind)
    };
    let mut things: BTreeMap<_, (Vec<&PlannedView>, Vec<&PlannedView>)> = BTreeMap::new();
    for item in before {
        let key = key(&pair.from, item, after_of(map, &item.step));
        things.entry(key).or_default().0.push(item);
    }
    for item in after {
        let key = key(&pair.to, item, &item.step);
        things.entry(key).or_default().1.push(item);
    }
    let mut found = Vec::new();
    for ((step, _), (mut before, mut after)) in things {
        let mut push = |change, was: Option<&PlannedView>, is: Option<&PlannedView>| {
            found.push(Differs {
                change,
                step: step.clone(),
                what: is
                    .or(was)
                    .map_or_else(String::new, |item| item.what.clone()),
                before_ms: was.map(|item| item.at_ms),
                after_ms: is.map(|item| item.at_ms),
            });
        };
        after.retain(|is| {
            let Some(same) = before.iter().position(|was| was.at_ms == is.at_ms) else {
                return true;
            };
            let was = before.remove(same);
            if pair.words.contains(&step) {
                push(PlanChange::OtherWords, Some(was), Some(is));
            }
            false
        });
        let pairs = before.len().min(after.len());
        for (was, is) in before.drain(..pairs).zip(after.drain(..pairs)) {
            push(PlanChange::OtherTime, Some(was), Some(is));
        }
        for was in before {
            push(PlanChange::Gone, Some(was), None);
        }
        for is in after {
            push(PlanChange::New, None, Some(is));
        }
    }
    found.sort_by_key(|differs| differs.after_ms.or(differs.before_ms));
    found
}

/// The mark of who waits: what comes of it then isn't known yet.
const WAITS: &str = "waits";

/// An act that nobody has done yet.
fn nobody() -> Hand {
    Hand {
        act: Act::Resume,
        reason: String::new(),
        by: String::new(),
        batch: None,
    }
}

impl Journeys {
    /// The mark of what a move comes to for one patient.
    fn move_mark(
        &self,
        permit: &Permit,
        pair: &Pair,
        (instance, state): (&str, &State),
        found: Result<&Migration, &MoveError>,
    ) -> String {
        let decision = match found {
            Ok(Migration::Moves(decision)) => (**decision).clone(),
            Ok(Migration::Stays(_)) => return mark(["stays"]),
            Ok(Migration::Holds(_)) => return mark(["held"]),
            Ok(Migration::Waits(_)) => return WAITS.to_owned(),
            Ok(Migration::Cannot(_)) | Err(_) => return mark(["cannot"]),
        };
        let ids = self.ids_of(permit, state, pair.to.version);
        let context = Context {
            now_ms: self.now_ms(),
            instance,
            ids: &ids,
            limited: false,
        };
        decision_mark((&pair.from, &pair.to), state, decision, &context)
    }

    /// The two versions, if the map fits them.
    pub(crate) async fn pair(
        &self,
        permit: &Permit,
        who: &Who,
        to: u32,
        map: &Map,
    ) -> Result<Pair, JourneyError> {
        let books = self.books(permit.tenant()).await?;
        let version = |version| Self::published(&books, &who.journey, Some(version));
        let (from, to) = (version(who.version)?, version(to)?);
        if !books.takes_patients(&who.journey, to.stored.version) {
            return Err(JourneyError::Cannot(format!(
                "version {} is not staged: nobody can come to it",
                to.stored.version
            )));
        }
        let (from, to) = (from.definition.clone(), to.definition.clone());
        let cannot = |words: String| Err(JourneyError::Cannot(words));
        if from.version == to.version {
            return cannot("both versions are the same".to_owned());
        }
        for (step, goes) in map {
            if from.step(step).is_none() {
                let version = from.version;
                return cannot(format!("{step} is no step of version {version}"));
            }
            if let Goes::Step(step) = goes
                && to.step(step).is_none_or(|step| step.kind.watches())
            {
                let version = to.version;
                return cannot(format!(
                    "nobody can go on at {step}: it is no step of version {version} where somebody can be"
                ));
            }
        }
        Ok(Pair::new(from, to, map))
    }

    /// What a move comes to for one patient, all that the record has to say to it included.
    async fn migration(
        &self,
        mover: &mut Mover<'_>,
        pair: &Pair,
        map: &Map,
        instance: &str,
        state: &State,
        hand: &Hand,
    ) -> Result<Migration, MoveError> {
        let now_ms = self.now_ms();
        let measured = if pair.rules {
            self.history(mover, &pair.to, now_ms).await?
        } else {
            Vec::new()
        };
        let (from, to) = (&pair.from, &pair.to);
        let mut migration = {
            let ids = mover.ids(to);
            let context = Context {
                now_ms,
                instance,
                ids: &ids,
                limited: mover.asks_before(to),
            };
            engine::migrate(state, from, to, map, &measured, hand, &context)?
        };
        if let Migration::Moves(decision) = &mut migration
            && pair.consents
        {
            if !mover.permitted(to).await? {
                let why = "the patient's consents don't allow what the new version does";
                return Ok(Migration::Cannot(why.to_owned()));
            }
            if decision.state.running() {
                decision.state.consents_ms = mover.consents_next(to).await?;
            }
        }
        Ok(migration)
    }

    /// What would come of a move for one patient. Nothing is written.
    async fn one_moved(
        &self,
        permit: &Permit,
        pair: &Pair,
        map: &Map,
        instance: &str,
        state: &State,
    ) -> Result<OneMoved, JourneyError> {
        let now_ms = self.now_ms();
        let mut mover = Mover::new(self.vault(), permit, &state.patient, now_ms);
        let found = self
            .migration(&mut mover, pair, map, instance, state, &nobody())
            .await;
        let mut one = OneMoved {
            patient: state.patient.clone(),
            instance: instance.to_owned(),
            outcome: Outcome::Moves,
            differs: Vec::new(),
            planned: Vec::new(),
            mark: String::new(),
        };
        one.mark = self.move_mark(permit, pair, (instance, state), found.as_ref());
        let decision = match found {
            Ok(Migration::Moves(decision)) => *decision,
            other => {
                one.outcome = match other {
                    Ok(Migration::Stays(_)) => Outcome::Stays,
                    Ok(Migration::Holds(_)) => Outcome::Held,
                    Ok(Migration::Waits(what)) => Outcome::Waits(what),
                    Ok(Migration::Cannot(why)) => Outcome::Cannot(why),
                    Err(MoveError::Engine(error)) => Outcome::Cannot(error.to_string()),
                    Ok(Migration::Moves(_)) => one.outcome,
                    Err(error) => return Err(error.into()),
                };
                return Ok(one);
            }
        };
        let (from, to) = (&pair.from, &pair.to);
        let before = self.ids_of(permit, state, from.version);
        let before = words::planned_up_to(from, state, instance, &before, now_ms, COMPARED_MAX);
        let ids = self.ids_of(permit, state, to.version);
        let context = Context {
            now_ms,
            instance,
            ids: &ids,
            limited: false,
        };
        let (next, mut after) = words::at_once(to, state, decision, &context);
        let then = words::planned_up_to(to, &next, instance, &ids, now_ms, COMPARED_MAX);
        after.extend(then);
        one.differs = differs(pair, map, &before, &after);
        one.planned = after;
        Ok(one)
    }

    /// Those whom a move is for, in the order in which they are moved, and how many are found.
    async fn those_moved(
        &self,
        permit: &Permit,
        moving: &Moving,
    ) -> Result<(Vec<(String, State)>, usize), JourneyError> {
        let mut states = self.states_of(permit, &moving.who).await?;
        let found = states.len();
        states.truncate(moving.portion.of(found));
        Ok((states, found))
    }

    /// What would come of moving patients to another version: for how many, who can't be moved and why, and what
    /// of all that is planned would differ. Nothing is changed; that it was looked at is in the audit.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Busy`, `Trust`.
    pub async fn preview_migration(
        &self,
        permit: &Permit,
        moving: &Moving,
    ) -> Result<Preview, JourneyError> {
        steers(permit)?;
        let pair = self
            .pair(permit, &moving.who, moving.to, &moving.map)
            .await?;
        let books = self.books(permit.tenant()).await?;
        let _place = books.place()?;
        let (states, found) = self.those_moved(permit, moving).await?;
        // Everybody is looked at by the engine, for nobody's eyes: what comes of it here are counts.
        let engine = self.engine_permit(permit.tenant()).await?;
        let mut preview = Preview {
            found,
            total: states.len(),
            ..Preview::default()
        };
        let mut marks = Vec::with_capacity(states.len());
        let mut why: BTreeMap<String, usize> = BTreeMap::new();
        let mut sums: BTreeMap<(PlanChange, String, String), (usize, usize)> = BTreeMap::new();
        for (instance, state) in &states {
            let one = self
                .one_moved(&engine, &pair, &moving.map, instance, state)
                .await?;
            match one.outcome {
                Outcome::Moves => preview.moves += 1,
                Outcome::Stays => preview.stays += 1,
                Outcome::Held => preview.held += 1,
                Outcome::Waits(what) => {
                    preview.waits += 1;
                    *why.entry(what).or_default() += 1;
                }
                Outcome::Cannot(words) => {
                    preview.cannot += 1;
                    *why.entry(words).or_default() += 1;
                }
            }
            preview.changed += usize::from(!one.differs.is_empty());
            marks.push(one.mark);
            let mut seen = BTreeSet::new();
            for differs in one.differs {
                let key = (differs.change, differs.step, differs.what);
                let sum = sums.entry(key.clone()).or_default();
                sum.0 += usize::from(seen.insert(key));
                sum.1 += 1;
            }
        }
        preview.seen = whole(instances(&states).zip(marks.iter().map(String::as_str)));
        preview.why = why.into_iter().collect();
        preview
            .why
            .sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let sums = sums.into_iter();
        preview.differs = sums
            .map(|((change, step, what), (patients, times))| Sum {
                change,
                step,
                what,
                patients,
                times,
            })
            .collect();
        preview
            .differs
            .sort_by_key(|sum| std::cmp::Reverse(sum.patients));
        preview.differs.truncate(SUMS_MAX);
        let note = format!(
            "{}: what a move of {} from version {} to version {} would change",
            moving.who.journey, preview.total, moving.who.version, moving.to
        );
        let unit = Unit {
            note: Some(note),
            ..Unit::default()
        };
        self.vault().commit(permit, unit).await?;
        Ok(preview)
    }

    /// Asks for a move: a batch. Whom it is for is fixed now; `seen` is the mark of a preview, if somebody looked: for
    /// whom something else would come of it by now is left as they are and listed. Its id.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Busy`, `Trust`.
    pub async fn begin_migration(
        &self,
        permit: &Permit,
        moving: Moving,
        reason: &str,
        rate: u32,
        seen: Option<&str>,
    ) -> Result<String, JourneyError> {
        steers(permit)?;
        let pair = self
            .pair(permit, &moving.who, moving.to, &moving.map)
            .await?;
        let books = self.books(permit.tenant()).await?;
        let _place = books.place()?;
        let (states, _) = self.those_moved(permit, &moving).await?;
        let engine = self.engine_permit(permit.tenant()).await?;
        let mut marks = Vec::with_capacity(states.len());
        for (instance, state) in &states {
            let mut mover = Mover::new(self.vault(), &engine, &state.patient, self.now_ms());
            let found = self
                .migration(&mut mover, &pair, &moving.map, instance, state, &nobody())
                .await;
            marks.push(match found {
                Err(error @ MoveError::Trust(_)) => return Err(error.into()),
                found => self.move_mark(&engine, &pair, (instance, state), found.as_ref()),
            });
        }
        compare(seen, instances(&states), &mut marks)?;
        let targets = states.into_iter();
        let targets = targets.map(|(instance, state)| (instance, state.patient));
        let order = Order {
            who: moving.who,
            many: Many::Migrate {
                to: moving.to,
                map: moving.map,
            },
            of: None,
            targets: targets.collect(),
            marks,
        };
        self.ask(permit, order, reason, rate).await
    }

    /// Asks for a batch that led patients elsewhere to be taken back, a move to another version or steps that were
    /// skipped, begun anew or sent to: for all whom it reached, and to whom nothing has happened since. The id of
    /// the batch that does it.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Trust`.
    pub async fn begin_take_back(
        &self,
        permit: &Permit,
        batch: &str,
        reason: &str,
        rate: u32,
    ) -> Result<String, JourneyError> {
        steers(permit)?;
        let (moved, targets) = self.reached(permit, batch).await?;
        if !moved.many.leads() {
            return Err(JourneyError::Cannot(
                "that led nobody elsewhere: what is held is let go on, and what was stopped is over"
                    .to_owned(),
            ));
        }
        let to = match &moved.many {
            Many::Migrate { to, .. } => *to,
            _ => moved.who.version,
        };
        let order = Order {
            who: Who {
                step: None,
                for_ms: 0,
                held: None,
                patients: BTreeSet::new(),
                among: 0,
                version: to,
                ..moved.who
            },
            many: Many::TakeBack,
            of: Some(batch.to_owned()),
            targets,
            marks: Vec::new(),
        };
        self.ask(permit, order, reason, rate).await
    }

    /// Moves one patient for a batch, in one unit of work.
    pub(crate) async fn move_one(
        &self,
        permit: &Permit,
        batch: &Batch,
        (patient, instance): (&str, &str),
        (to, map): (u32, &Map),
        seen: Option<&str>,
    ) -> Result<Reached, JourneyError> {
        let books = self.books(permit.tenant()).await?;
        let (_turn, known) = self.turn_of(&books, patient, instance).await?;
        let hand = Hand {
            act: Act::Pause,
            reason: batch.reason.clone(),
            by: batch.by.clone(),
            batch: Some(batch.id.clone()),
        };
        loop {
            let (mut state, version) = self.own(permit, patient, instance).await?;
            // What was read and changed nothing may be read again, and is not news to what goes on by the move.
            state.knows(known);
            if !state.running() {
                return Err(JourneyError::Cannot("the journey has ended".to_owned()));
            }
            if state.version == to || state.batch.as_ref() == Some(&batch.id) {
                return Ok(Reached::Done);
            }
            // Who has waited may have been led elsewhere, and the version taken back, since it was asked for.
            let cannot = |why: &str| Err(JourneyError::Cannot(why.to_owned()));
            if state.version != batch.who.version {
                return cannot("it is on another version by now");
            }
            if !books.takes_patients(&state.journey, to) {
                return cannot("that version takes nobody any more");
            }
            let from = self.known_version(&books, permit, &state).await?;
            let after = Self::published(&books, &state.journey, Some(to))?;
            let pair = Pair::new(from, after.definition.clone(), map);
            let mut mover = Mover::new(self.vault(), permit, patient, self.now_ms());
            let found = self.migration(&mut mover, &pair, map, instance, &state, &hand);
            let found = found.await;
            // Who was foreseen to wait is moved when that is over, and who has to wait now is tried again.
            let waits = matches!(found, Ok(Migration::Waits(_)));
            let now = self.move_mark(permit, &pair, (instance, &state), found.as_ref());
            if !waits && seen.is_some_and(|seen| seen != now && seen != WAITS) {
                return Err(not_as_foreseen());
            }
            let before = Some((&state, version));
            let deed = match found? {
                Migration::Moves(decision) => {
                    let (from, to) = (&pair.from, &pair.to);
                    mover
                        .take_over(from, to, instance, before, *decision)
                        .await?;
                    format!("moved to version {} in batch {}", to.version, batch.id)
                }
                Migration::Holds(_) if state.paused.is_none() => {
                    let decision = {
                        let ids = mover.ids(&pair.from);
                        let context = Context {
                            now_ms: self.now_ms(),
                            instance,
                            ids: &ids,
                            limited: mover.asks_before(&pair.from),
                        };
                        let input = Input::Manual(Manual::Hand(hand.clone()));
                        engine::step(&pair.from, &state, input, &context)?
                    };
                    mover.take(&pair.from, instance, before, decision).await?;
                    format!("held by hand in batch {}", batch.id)
                }
                Migration::Stays(_) | Migration::Holds(_) => return Ok(Reached::Done),
                Migration::Waits(_) => return Ok(Reached::Later),
                Migration::Cannot(why) => return Err(JourneyError::Cannot(why)),
            };
            match self
                .commit(&books, permit, mover, Cause::by_hand(deed))
                .await
            {
                Ok(_) => return Ok(Reached::Done),
                Err(MoveError::Trust(TrustError::Ledger(LedgerError::Conflict))) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Takes the move of one patient back for a batch, if it was that batch's and nothing has happened since.
    pub(crate) async fn take_one_back(
        &self,
        permit: &Permit,
        batch: &Batch,
        (patient, instance): (&str, &str),
        of: &str,
    ) -> Result<(), JourneyError> {
        let (state, version) = self.own(permit, patient, instance).await?;
        if state.batch.as_ref() == Some(&batch.id) {
            return Ok(());
        }
        let led = state.undo.as_ref();
        let led = led.is_some_and(|undo| undo.batch.as_deref() == Some(of));
        let moved = state.batch.as_deref() == Some(of) && state.moved_from().is_some();
        if !led && !moved {
            let why = "what the batch did is not what was done last to this journey";
            return Err(JourneyError::Cannot(why.to_owned()));
        }
        let hand = Hand {
            act: Act::Undo,
            reason: batch.reason.clone(),
            by: batch.by.clone(),
            batch: Some(batch.id.clone()),
        };
        // On that version of the state only: what comes between is a reason to look again.
        self.by_hand(permit, patient, instance, &hand, Some(version))
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
