//! What people can do by hand to one patient's journey, what would come of it, and doing it.

use crate::books::{Books, Position};
use crate::definition::Definition;
use crate::engine::{self, Act, Context, Decision, EngineError, Hand, Input, Manual};
use crate::mover::{MoveError, Mover, PatientIds};
use crate::runner::Cause;
use crate::service::{staff, works};
use crate::state::{Done, Stand, State, What};
use crate::{JourneyError, Journeys, PlannedView, runner, words};
use fhir::ResourceType;
use ledger::{LedgerError, Number, Owner};
use std::sync::Arc;
use tokio::sync::MutexGuard;
use trust::{Permit, TrustError, kinds};

/// Why an act isn't done that was foreseen from another version of the state.
pub(crate) const MOVED_ON: &str = "the journey has moved on since you looked; look again";

/// A step that somebody can be sent to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GoesView {
    /// Step id.
    pub step: String,
    /// Title.
    pub title: String,
}

/// A place where the patient is, and what can be done there by hand.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlaceView {
    /// Its number.
    pub n: u32,
    /// Step id.
    pub step: String,
    /// Title.
    pub title: String,
    /// Since when.
    pub since_ms: u64,
    /// The ways by which it can be left, by their labels and where they lead. Their order is their number.
    pub ways: Vec<(String, Vec<String>)>,
    /// The steps that it can be sent to.
    pub goes: Vec<GoesView>,
}

/// A step of a version, and what can be done by hand with those who are there.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepView {
    /// Step id.
    pub step: String,
    /// Title.
    pub title: String,
    /// The ways by which it can be left, by their labels. Their order is their number.
    pub ways: Vec<String>,
}

/// A journey that is held.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PausedView {
    /// Since when.
    pub since_ms: u64,
    /// Titles of the steps that wait to be begun.
    pub ahead: Vec<String>,
    /// How many messages wait to go out that have failed by another channel meanwhile.
    pub unsent: usize,
}

/// What can be done by hand to a journey under way.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct HandView {
    /// The version of what is stored: who acts on what they have seen names it.
    pub version: u32,
    /// Whether it is held.
    pub paused: Option<PausedView>,
    /// Where the patient is.
    pub places: Vec<PlaceView>,
    /// The steps that the patient can be sent to from everywhere.
    pub goes: Vec<GoesView>,
    /// Why the last act can't be taken back; none where it can.
    pub not_undone: Option<String>,
}

/// What would come of an act.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Foreseen {
    /// The version of what is stored that this was foreseen from.
    pub version: u32,
    /// What is called off: titles of the places that are left.
    pub called_off: Vec<String>,
    /// What happens at once.
    pub at_once: Vec<PlannedView>,
    /// What is planned then.
    pub planned: Vec<PlannedView>,
}

impl Foreseen {
    /// What would come of a stop.
    pub(crate) fn stopped(definition: &Definition, state: &State) -> Self {
        let left = state.tokens.iter();
        let left = left.filter_map(|token| Some(definition.step(&token.step)?.title.clone()));
        Self {
            version: 0,
            called_off: left.collect(),
            at_once: Vec::new(),
            planned: Vec::new(),
        }
    }
}

fn goes(definition: &Definition, state: &State, parent: Option<u32>) -> Vec<GoesView> {
    let steps = engine::goes(definition, state, parent).into_iter();
    steps
        .map(|step| GoesView {
            step: step.id.clone(),
            title: step.title.clone(),
        })
        .collect()
}

fn titles(definition: &Definition, steps: &[usize]) -> Vec<String> {
    let steps = steps
        .iter()
        .filter_map(|index| definition.steps.get(*index));
    steps.map(|step| step.title.clone()).collect()
}

/// What can be done by hand where a patient stands.
pub(crate) fn view(definition: &Definition, state: &State, version: u32) -> HandView {
    if !state.running() {
        return HandView::default();
    }
    let title = |step: &str| definition.step(step).map(|step| step.title.clone());
    let places = state.tokens.iter().filter_map(|token| {
        let step = definition.step(&token.step)?;
        let ways = step.kind.skips(&token.stand).into_iter();
        Some(PlaceView {
            n: token.n,
            step: step.id.clone(),
            title: step.title.clone(),
            since_ms: token.since_ms,
            ways: ways
                .map(|way| (way.label, titles(definition, &way.target.steps)))
                .collect(),
            goes: goes(definition, state, token.parent),
        })
    });
    HandView {
        version,
        paused: state.paused.as_ref().map(|paused| PausedView {
            since_ms: paused.at_ms,
            ahead: paused
                .ahead
                .iter()
                .filter_map(|ahead| title(&ahead.step))
                .collect(),
            unsent: paused.unsent.len(),
        }),
        places: places.collect(),
        goes: goes(definition, state, None),
        not_undone: engine::why_not_undone(state),
    }
}

/// What would come of an act, by the production engine on a copy of the state.
/// `to` is the version that they are on then: another one where a move to this one is taken back.
pub(crate) fn foreseen(
    definition: &Definition,
    to: &Definition,
    state: &State,
    version: u32,
    act: &Act,
    context: &Context<'_>,
) -> Result<Foreseen, EngineError> {
    let decision = decided(definition, to, state, act, context)?;
    let (next, at_once) = words::at_once(to, state, decision, context);
    let stays = |n: u32| next.tokens.iter().any(|token| token.n == n);
    let left = state.tokens.iter().filter(|token| !stays(token.n));
    let called_off = left.filter_map(|token| Some(definition.step(&token.step)?.title.clone()));
    Ok(Foreseen {
        version,
        called_off: called_off.collect(),
        at_once,
        planned: words::planned(to, &next, context.instance, context.ids, context.now_ms),
    })
}

/// What the engine makes of an act that nobody has done yet.
pub(crate) fn decided(
    definition: &Definition,
    to: &Definition,
    state: &State,
    act: &Act,
    context: &Context<'_>,
) -> Result<Decision, EngineError> {
    let hand = Hand {
        act: act.clone(),
        reason: String::new(),
        by: String::new(),
        batch: None,
    };
    if to.version == definition.version {
        let input = Input::Manual(Manual::Hand(hand));
        engine::step(definition, state, input, context)
    } else {
        engine::take_back(state, definition, to, &hand, context)
    }
}

/// What the audit says that was done.
fn deed(act: &Act) -> &'static str {
    match act {
        Act::Pause => "held by hand",
        Act::Resume => "let go on by hand",
        Act::Skip { .. } => "skipped a step by hand",
        Act::Retry { .. } => "began a step anew by hand",
        Act::Jump { .. } => "sent to a step by hand",
        Act::Undo => "took an act by hand back",
    }
}

/// Who acts, as the history says it.
pub(crate) fn name_of(permit: &Permit) -> String {
    let agent = permit.agent();
    if agent.name.is_empty() {
        agent.id.clone()
    } else {
        agent.name.clone()
    }
}

impl Journeys {
    /// The steps of a version where somebody may wait, as acts on many name them.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn steps(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
    ) -> Result<Vec<StepView>, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let published = Self::published(&books, name, Some(version))?;
        let steps = published.definition.steps.iter();
        let steps = steps.filter(|step| !step.kind.watches()).map(|step| {
            // What waits for others is not skipped; they are.
            let waits = step.kind.branches().is_none();
            let ways = step.kind.skips(&Stand::Waiting).into_iter();
            StepView {
                step: step.id.clone(),
                title: step.title.clone(),
                ways: ways.filter(|_| waits).map(|way| way.label).collect(),
            }
        });
        Ok(steps.collect())
    }

    /// What would come of an act by hand on a patient's journey.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Broken`, `Trust`.
    pub async fn foresee(
        &self,
        permit: &Permit,
        patient: &str,
        instance: &str,
        act: &Act,
    ) -> Result<Foreseen, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let (state, version) = self.own(permit, patient, instance).await?;
        let definition = Self::of_state(&books, &state)?;
        let to = Self::after(&books, &state, act, &definition)?;
        if !state.running() {
            return Err(JourneyError::Cannot("the journey has ended".to_owned()));
        }
        // Before ids and context, which no other thread may have.
        if *act == Act::Undo {
            let engine = self.engine_permit(permit.tenant()).await?;
            self.has_begun_nothing(&engine, &definition, &state).await?;
        }
        let ids = self.ids_of(permit, &state, to.version);
        let context = Context {
            now_ms: self.now_ms(),
            instance,
            ids: &ids,
            limited: false,
        };
        Ok(foreseen(&definition, &to, &state, version, act, &context)?)
    }

    /// Acts by hand on a patient's journey: one unit of work, with who and why in its history. `seen` is the
    /// version that whoever acts has seen; what has moved on since is refused.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Broken`, `Trust`.
    pub async fn act(
        &self,
        permit: &Permit,
        patient: &str,
        instance: &str,
        act: Act,
        reason: &str,
        seen: Option<u32>,
    ) -> Result<(), JourneyError> {
        staff(permit)?;
        self.own(permit, patient, instance).await?;
        let hand = Hand {
            act,
            reason: reason.to_owned(),
            by: name_of(permit),
            batch: None,
        };
        self.by_hand(permit, patient, instance, &hand, seen).await?;
        Ok(())
    }

    /// A patient's journey, if it is theirs.
    pub(crate) async fn own(
        &self,
        permit: &Permit,
        patient: &str,
        instance: &str,
    ) -> Result<(State, u32), JourneyError> {
        let unknown = || JourneyError::Unknown(format!("instance {instance}"));
        let kind = kinds::JOURNEY_INSTANCE;
        let found = self.vault().internal(permit, kind, instance).await?;
        let found = found.ok_or_else(unknown)?;
        let whose = found.patient.as_deref();
        if whose.is_some_and(|whose| whose != patient) {
            return Err(unknown());
        }
        let state = State::from_json(&found.body).map_err(MoveError::from)?;
        if state.patient != patient {
            return Err(unknown());
        }
        Ok((state, found.version))
    }

    pub(crate) fn of_state(books: &Books, state: &State) -> Result<Arc<Definition>, JourneyError> {
        // The journey is there; what isn't known is its version.
        let published = Self::published(books, &state.journey, Some(state.version));
        let published = published.map_err(|error| JourneyError::Broken(error.to_string()))?;
        Ok(published.definition.clone())
    }

    /// The version that a patient is on after an act by hand.
    pub(crate) fn after(
        books: &Books,
        state: &State,
        act: &Act,
        now: &Arc<Definition>,
    ) -> Result<Arc<Definition>, JourneyError> {
        let back = state.moved_from().filter(|_| *act == Act::Undo);
        let Some(version) = back else {
            return Ok(now.clone());
        };
        Ok(Self::published(books, &state.journey, Some(version))?
            .definition
            .clone())
    }

    /// Ids of a patient's journey, as one of its versions names things.
    pub(crate) fn ids_of(&self, permit: &Permit, state: &State, version: u32) -> PatientIds<'_> {
        PatientIds {
            ledger: self.vault().ledger(),
            tenant: permit.tenant(),
            owner: Owner::Patient(state.patient.clone()),
            journey: format!("{}/{version}", state.journey),
        }
    }

    /// The turn of a patient's shard, with all done that is on its feed, and up to where that is.
    pub(crate) async fn turn_of<'a>(
        &self,
        books: &'a Arc<Books>,
        patient: &str,
        instance: &str,
    ) -> Result<(MutexGuard<'a, Position>, Number), JourneyError> {
        // Whoever moves patients of a shard takes turns, so that the counts see moves in their order.
        let shard = books.shard_of(self.vault(), patient, instance);
        let unknown = || JourneyError::Unknown(format!("instance {instance}"));
        let position = books.positions.get(usize::from(shard.0));
        let mut position = position.ok_or_else(unknown)?.lock().await;
        // What has been answered comes before what is done about it.
        let known = self
            .read_feed(books, (shard, patient), &mut position)
            .await?;
        Ok((position, known))
    }

    /// Does it in one unit of work. Whether it changed anything: a batch that was here before doesn't.
    pub(crate) async fn by_hand(
        &self,
        permit: &Permit,
        patient: &str,
        instance: &str,
        hand: &Hand,
        seen: Option<u32>,
    ) -> Result<bool, JourneyError> {
        works(permit)?;
        let engine = self.engine_permit(permit.tenant()).await?;
        let books = self.books(permit.tenant()).await?;
        let (_turn, known) = self.turn_of(&books, patient, instance).await?;
        loop {
            let (mut state, version) = self.own(permit, patient, instance).await?;
            if seen.is_some_and(|seen| seen != version) {
                return Err(JourneyError::Cannot(MOVED_ON.to_owned()));
            }
            if !state.running() {
                return Err(JourneyError::Cannot("the journey has ended".to_owned()));
            }
            // What was read and changed nothing may be read again, and is not news to what begins by the act. Whether
            // something has happened since what is taken back is asked of the state as it is.
            if hand.act != Act::Undo {
                state.knows(known);
            }
            let definition = self.known_version(&books, &engine, &state).await?;
            let mut mover = Mover::new(self.vault(), &engine, patient, self.now_ms());
            mover.asked_by(permit);
            if hand.act == Act::Undo {
                self.can_be_undone(permit, &state).await?;
                self.has_begun_nothing(&engine, &definition, &state).await?;
            }
            let before = Some((&state, version));
            let to = Self::after(&books, &state, &hand.act, &definition)?;
            let mut decision = {
                let ids = mover.ids(&to);
                let context = Context {
                    now_ms: self.now_ms(),
                    instance,
                    ids: &ids,
                    limited: mover.asks_before(&to),
                };
                if to.version != definition.version {
                    engine::take_back(&state, &definition, &to, hand, &context)?
                } else {
                    let input = Input::Manual(Manual::Hand(hand.clone()));
                    engine::step(&definition, &state, input, &context)?
                }
            };
            decision.state.knows(known);
            mover
                .take_over(&definition, &to, instance, before, decision)
                .await?;
            let deed = match &hand.batch {
                Some(batch) => format!("{} in batch {batch}", deed(&hand.act)),
                None => deed(&hand.act).to_owned(),
            };
            let cause = Cause::by_hand(deed);
            match self.commit(&books, &engine, mover, cause).await {
                Ok(moved) => {
                    if hand.act == Act::Resume {
                        self.play_held(&books, instance).await;
                    }
                    return Ok(moved.is_some());
                }
                Err(MoveError::Trust(TrustError::Ledger(LedgerError::Conflict))) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Whether no other journey is under way that the last act has begun: it would end with what is taken back, with
    /// all that has come of it since.
    async fn has_begun_nothing(
        &self,
        engine: &Permit,
        definition: &Definition,
        state: &State,
    ) -> Result<(), JourneyError> {
        let orders = engine::orders_since(definition, state);
        if orders.is_empty() {
            return Ok(());
        }
        for stored in self.under_way(engine, &state.patient).await? {
            let part = State::from_json(&stored.body).map_err(MoveError::from)?;
            let by = runner::task_of(&part.key);
            if by.is_some_and(|by| orders.iter().any(|order| order == by)) {
                return Err(JourneyError::Cannot(format!(
                    "it has begun the journey {}, which is under way; end that one first",
                    part.journey
                )));
            }
        }
        Ok(())
    }

    /// Whether all that the last act sent can still be called off.
    async fn can_be_undone(&self, permit: &Permit, state: &State) -> Result<(), JourneyError> {
        for id in engine::sent_since(state) {
            let kind = ResourceType::Communication;
            let found = self.vault().load(permit, kind, &id).await?;
            let status = found
                .as_ref()
                .and_then(|found| found.resource.text_at(&["status"]));
            if matches!(status, Some("completed" | "in-progress")) {
                return Err(JourneyError::Cannot(
                    "a message has left for the patient already".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

impl From<EngineError> for JourneyError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cannot(why) => Self::Cannot(why),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// What an act by hand said in a trail, as far as pages ask.
pub(crate) fn paused_by(state: &State) -> Option<(&str, &str)> {
    state
        .trail
        .iter()
        .rev()
        .find_map(|entry| match &entry.what {
            What::Hand {
                act: Done::Paused,
                reason,
                by,
            } => Some((by.as_str(), reason.as_str())),
            _ => None,
        })
}
