//! The engine: a pure function of definition, state, input and time.
//!
//! It asks nobody, stores nothing and knows no clock. Ids of what it causes are derived from the
//! instance and the number of the token, so a replay names the same things. Timers are not set one by
//! one but follow from the state ([`timers`]): what is waited for can't disagree with what wakes it.

mod calls;
mod due;
mod events;
mod hands;
mod messages;
mod migrate;
mod model;
mod room;

pub(crate) use hands::{NOT_A_BATCHS, goes, orders_since, sent_since, why_not_undone};
pub(crate) use messages::{
    CALLED_OFF, EXPIRED, about, awaited_messages, channel_of, message_slot, overdue_messages,
};
pub(crate) use migrate::new_rules;
pub use migrate::{Goes, Map, Migration, migrate, take_back};
pub use model::{
    About, Act, Calendar, Confirms, Context, Decision, Effect, EngineError, Event, Fact, Hand, Ids,
    Input, Manual, Outcome, Sent, Start,
};

use crate::definition::{Definition, Path, Step, Target};
use crate::spec::START_ANCHOR;
use crate::state::{Ahead, Ended, Stand, State, Token, TrailEntry, What};
use crate::watch::Watch;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Most moves of one input. A checked journey can't loop without waiting, so a branching of all 200
/// steps several times over fits; beyond it something is wrong and the input is refused as a whole.
const MOVES_MAX: u32 = 2000;

/// The number of an event that is played again on purpose, long after its turn.
pub const REPLAYED: u64 = 0;

/// How a journey ends whose entry event turns out to be none. It doesn't count as one that was taken:
/// when the event becomes one again, the journey starts anew.
pub(crate) const STARTED_IN_ERROR: &str = "started_in_error";
/// Endings that are the engine's own.
pub(crate) const RESERVED_ENDINGS: [&str; 4] =
    ["completed", "stopped", "time_over", STARTED_IN_ERROR];

/// Starts a journey.
///
/// # Errors
/// [`EngineError`].
pub fn start(
    definition: &Definition,
    facts: Start,
    context: &Context<'_>,
) -> Result<Decision, EngineError> {
    // A date by which a journey begins may lie years before it, or ahead of it. An event or a request may be about
    // what is still to come, as an operation that is booked: rules watch from now on, not from then.
    let by_event = definition.entry.date.is_none();
    let begin_ms = definition
        .entry
        .anchors
        .first()
        .filter(|_| by_event)
        .and_then(|(name, _)| facts.anchors.get(name))
        .map_or(context.now_ms, |at_ms| (*at_ms).min(context.now_ms));
    let state = State {
        last: facts.number,
        watches: definition
            .steps
            .iter()
            .filter(|step| step.kind.compares().is_some())
            .map(|step| (step.id.clone(), Watch::new(begin_ms)))
            .collect(),
        ..State::probe(
            definition,
            &facts.patient,
            &facts.key,
            facts.anchors,
            context.now_ms,
        )
    };
    let mut engine = Engine::new(definition, state, context, facts.cause);
    engine.trail("", What::Started, None);
    if let Some((code, title)) = facts.exit {
        engine.end(&code, &title, true);
        return engine.decision(true);
    }
    for observation in &facts.observations {
        engine.measure(observation);
    }
    let late = definition.entry.late().filter(|_| facts.late);
    engine.go(late.unwrap_or(&definition.start), None);
    engine.run()?;
    engine.look_at_watches()?;
    engine.decision(true)
}

/// Works on inputs that come at once, one after the other, as one decision.
///
/// # Errors
/// As [`step`].
pub(crate) fn steps(
    definition: &Definition,
    state: &State,
    (first, last): (impl Iterator<Item = Input>, Input),
    context: &Context<'_>,
) -> Result<Decision, EngineError> {
    let mut before: Option<Decision> = None;
    for input in first {
        let from = before.as_ref().map_or(state, |before| &before.state);
        let next = step(definition, from, input, context)?;
        before = Some(next.after(before));
    }
    let from = before.as_ref().map_or(state, |before| &before.state);
    let next = step(definition, from, last, context)?;
    Ok(next.after(before))
}

/// Moves a journey.
///
/// # Errors
/// [`EngineError`]; the state is then as it was.
pub fn step(
    definition: &Definition,
    state: &State,
    input: Input,
    context: &Context<'_>,
) -> Result<Decision, EngineError> {
    if state.journey != definition.name || state.version != definition.version {
        return Err(EngineError::Pinned(format!(
            "{}/{}",
            state.journey, state.version
        )));
    }
    let unchanged = || {
        Ok(Decision {
            state: state.clone(),
            effects: Vec::new(),
            changed: false,
        })
    };
    if let Input::CalledOff(message) = &input {
        let mut engine = Engine::following(definition, state.clone(), context);
        engine.called_off(message);
        return engine.decision(true);
    }
    if state.ended.is_some() {
        // Who can't be reached by e-mail is told in the portal that a visit was called off, also where the journey ended by it.
        let Input::Receipt {
            communication,
            outcome,
        } = input
        else {
            return unchanged();
        };
        let mut engine = Engine::following(definition, state.clone(), context);
        engine.told_of_what_is_left(&communication, &outcome);
        let changed = engine.state != *state;
        return engine.decision(changed);
    }
    match input {
        Input::CalledOff(_) => unchanged(),
        Input::Event(event) => {
            if event.number != REPLAYED && event.number <= state.last {
                return unchanged();
            }
            let mut engine =
                Engine::new(definition, state.clone(), context, event.reference.clone());
            engine.event(&event)?;
            engine.asked_since();
            if engine.state == *state && engine.effects.is_empty() {
                return unchanged();
            }
            engine.state.last = engine.state.last.max(event.number);
            engine.decision(true)
        }
        Input::Timer { read } => {
            let mut engine = Engine::new(definition, state.clone(), context, "timer".to_owned());
            engine.due()?;
            engine.asked_since();
            let changed = engine.state != *state;
            if changed {
                engine.state.last = engine.state.last.max(read);
            }
            engine.decision(changed)
        }
        Input::Receipt {
            communication,
            outcome,
        } => {
            let mut engine = Engine::following(definition, state.clone(), context);
            engine.receipt(&communication, &outcome)?;
            let changed = engine.state != *state;
            engine.decision(changed)
        }
        Input::Unclear { n } => {
            let mut engine = Engine::following(definition, state.clone(), context);
            engine.unclear(n)?;
            let changed = engine.state != *state;
            engine.decision(changed)
        }
        Input::Seen { n, holds } => {
            let mut engine = Engine::following(definition, state.clone(), context);
            engine.seen(n, holds)?;
            let changed = engine.state != *state;
            engine.decision(changed)
        }
        Input::Room {
            n,
            which,
            place,
            room,
        } => {
            let mut engine = Engine::following(definition, state.clone(), context);
            engine.room(n, which, place, room)?;
            let changed = engine.state != *state;
            engine.decision(changed)
        }
        Input::Ways { n, which, places } => {
            let mut engine = Engine::following(definition, state.clone(), context);
            engine.ways(n, which, places)?;
            let changed = engine.state != *state;
            engine.decision(changed)
        }
        Input::Manual(Manual::Hand(hand)) => {
            if hand.batch.is_some() && hand.batch == state.batch {
                return unchanged();
            }
            let mut engine = Engine::new(definition, state.clone(), context, "staff".to_owned());
            engine.hand(&hand)?;
            engine.decision(true)
        }
        Input::Manual(Manual::CallOff { n, which, by }) => {
            let mut engine = Engine::new(definition, state.clone(), context, by);
            engine.call_off_held(n, which)?;
            let changed = engine.state != *state;
            engine.decision(changed)
        }
        Input::Manual(Manual::Stop(reason)) => {
            let mut engine = Engine::new(definition, state.clone(), context, "staff".to_owned());
            engine.end("stopped", &reason, true);
            engine.decision(true)
        }
    }
}

/// Whether a journey that ends so is broken off: by an exit rule or by an ending of the engine's own, and not because
/// it has come to its end.
pub(crate) fn gives_up(definition: &Definition, code: &str) -> bool {
    let by_rule = definition.exits.iter().any(|exit| exit.id == code);
    by_rule || (RESERVED_ENDINGS.contains(&code) && code != "completed")
}

/// The timer that wakes a journey when consents may come to say something else.
const CONSENTS: &str = "consents";

/// When the state wants to be woken, by name. Empty once the journey has ended.
#[must_use]
pub fn timers(definition: &Definition, state: &State) -> BTreeMap<String, u64> {
    let mut timers = BTreeMap::new();
    if state.ended.is_some() {
        return timers;
    }
    // A denial ends a journey that is held too.
    if let Some(due_ms) = state.consents_ms {
        timers.insert(CONSENTS.to_owned(), due_ms);
    }
    if state.paused.is_some() {
        return timers;
    }
    timers.insert(
        "life".to_owned(),
        state.started_ms.saturating_add(definition.at_most_ms),
    );
    for (step, due_ms) in watch_timers(definition, state) {
        timers.insert(format!("watch/{step}"), due_ms);
    }
    for held in state.held.iter().filter(|held| !held.asked) {
        timers.insert(room::timer(held), held.at_ms);
    }
    for token in &state.tokens {
        let Some(step) = definition.step(&token.step) else {
            continue;
        };
        for (slot, due_ms) in step.kind.timers(definition, state, token) {
            timers.insert(format!("{}/{slot}", token.n), due_ms);
        }
    }
    timers
}

fn watch_timers<'a>(
    definition: &'a Definition,
    state: &'a State,
) -> impl Iterator<Item = (&'a str, u64)> {
    state.watches.iter().filter_map(|(id, watch)| {
        let step = definition.step(id)?;
        let due_ms = step.kind.watch_timer(definition, state, watch)?;
        Some((id.as_str(), due_ms))
    })
}

/// When the state wants to be woken next. The same as the soonest of [`timers`], without their names.
#[must_use]
pub(crate) fn next_timer_ms(definition: &Definition, state: &State) -> Option<u64> {
    if state.ended.is_some() {
        return None;
    }
    if state.paused.is_some() {
        return state.consents_ms;
    }
    let mut soonest_ms = state.started_ms.saturating_add(definition.at_most_ms);
    let held = state.held.iter().filter(|held| !held.asked);
    let held = held.map(|held| held.at_ms);
    let others = state
        .consents_ms
        .into_iter()
        .chain(held)
        .chain(watch_timers(definition, state).map(|(_, due_ms)| due_ms));
    for due_ms in others {
        soonest_ms = soonest_ms.min(due_ms);
    }
    for token in &state.tokens {
        if let Some(step) = definition.step(&token.step) {
            for (_, due_ms) in step.kind.timers(definition, state, token) {
                soonest_ms = soonest_ms.min(due_ms);
            }
        }
    }
    Some(soonest_ms)
}

pub(crate) fn moment(definition: &Definition, state: &State, moment: &crate::time::Moment) -> u64 {
    let anchor_ms = if moment.anchor == START_ANCHOR {
        None
    } else {
        state.anchors.get(&moment.anchor).copied()
    };
    moment.resolve(anchor_ms.unwrap_or(state.started_ms), &definition.zone)
}

/// One input being worked on. The kinds of steps act on it.
pub(crate) struct Engine<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) context: &'a Context<'a>,
    pub(crate) state: State,
    pub(crate) effects: Vec<Effect>,
    why: String,
    /// The step whose form this input answers.
    pub(crate) answered: Option<String>,
    pub(crate) ahead: VecDeque<(usize, Option<u32>)>,
    moves: u32,
    /// Entries of the trail before, where this is a consequence of what was just done.
    follows: Option<usize>,
    /// What was put off in a hold that ends now, and is begun only behind events that came before it.
    later: VecDeque<Ahead>,
    /// Since when the journey was held that goes on now: dates of then have passed meanwhile.
    pub(crate) held_since_ms: Option<u64>,
    /// Whether a partner was called, or a call broken off.
    outside: bool,
    /// The `Task` of the call that was taken back last: the next is taken back behind it.
    taken_back: Option<String>,
}

impl<'a> Engine<'a> {
    fn new(
        definition: &'a Definition,
        state: State,
        context: &'a Context<'a>,
        why: String,
    ) -> Self {
        Self {
            definition,
            context,
            state,
            effects: Vec::new(),
            why,
            answered: None,
            ahead: VecDeque::new(),
            moves: 0,
            follows: None,
            later: VecDeque::new(),
            held_since_ms: None,
            outside: false,
            taken_back: None,
        }
    }

    /// For a consequence of what was just done, which has no cause of its own and is part of it.
    fn following(definition: &'a Definition, state: State, context: &'a Context<'a>) -> Self {
        let follows = Some(state.trail_total());
        Self {
            follows,
            ..Self::new(definition, state, context, String::new())
        }
    }

    /// Who asks now whether a message may go out is answered in an input of its own, which is no consequence of the
    /// last act any more.
    fn asked_since(&mut self) {
        let mut effects = self.effects.iter();
        if effects.any(|effect| matches!(effect, Effect::Ask { .. })) {
            self.state.undo = None;
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "the callers' last word")]
    fn decision(mut self, changed: bool) -> Result<Decision, EngineError> {
        if self.outside {
            self.state.undo = None;
        }
        // An order of channels is of its place: who has left it needs none.
        let State { tokens, ways, .. } = &mut self.state;
        ways.retain(|ways| tokens.iter().any(|token| token.n == ways.n));
        let total = self.state.trail_total();
        if let (Some(before), Some(undo)) = (self.follows, &mut self.state.undo)
            && undo.after as usize == before
        {
            undo.after = u32::try_from(total).unwrap_or(u32::MAX);
        }
        if changed {
            self.state.format = self.state.needs();
        }
        Ok(Decision {
            state: self.state,
            effects: self.effects,
            changed,
        })
    }

    pub(crate) fn trail(&mut self, step: &str, what: What, reference: Option<String>) {
        let entry = TrailEntry {
            at_ms: self.context.now_ms,
            step: step.to_owned(),
            what,
            why: self.why.clone(),
            reference,
        };
        self.state.trail.push(entry);
    }

    pub(crate) fn resource_id(&self, n: u32, slot: &str) -> String {
        self.context
            .ids
            .id(&format!("{}/{n}/{slot}", self.context.instance))
    }

    pub(crate) fn learn(&mut self, step: &str, member: &str, value: Value) {
        if let Value::Object(members) = self
            .state
            .facts
            .entry(step.to_owned())
            .or_insert_with(|| json!({}))
        {
            members.insert(member.to_owned(), value);
        }
    }

    /// A patient's number in an experiment of this journey: the same each time, and any equally likely.
    pub(crate) fn draw(&self, experiment: &str) -> u64 {
        let State {
            journey, patient, ..
        } = &self.state;
        let name = format!("experiment/{journey}/{experiment}/{patient}");
        // Ids are made for other ends, and not every digit of one is free.
        let hash = blake3::hash(self.context.ids.id(&name).as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_be_bytes(first)
    }

    /// Whether a condition holds of what the journey has learnt. One that can't be evaluated doesn't, and
    /// the trail says so.
    pub(crate) fn holds(&mut self, condition: &Path, step: &str, label: &str) -> bool {
        // Lent for as long as it is looked at.
        let focus = Value::Object(std::mem::take(&mut self.state.facts));
        let environment = fhir::path::Environment {
            now_ms: i64::try_from(self.context.now_ms).ok(),
            ..fhir::path::Environment::default()
        };
        let holds = condition.expression.test(&focus, &environment);
        if let Value::Object(facts) = focus {
            self.state.facts = facts;
        }
        if holds.is_err() {
            let label = label.to_owned();
            self.trail(step, What::Unclear { label }, None);
        }
        holds == Ok(Some(true))
    }

    pub(crate) fn token(&self, n: u32) -> Option<&Token> {
        self.state.tokens.iter().find(|token| token.n == n)
    }

    pub(crate) fn stand_mut(&mut self, n: u32) -> Option<&mut Stand> {
        self.state
            .tokens
            .iter_mut()
            .find(|token| token.n == n)
            .map(|token| &mut token.stand)
    }

    fn step_of(&self, n: u32) -> Result<(&'a Step, Token), EngineError> {
        let token = self
            .token(n)
            .ok_or_else(|| EngineError::NoStep(n.to_string()))?
            .clone();
        let definition = self.definition;
        let step = definition
            .step(&token.step)
            .ok_or_else(|| EngineError::NoStep(token.step.clone()))?;
        Ok((step, token))
    }

    /// Refuses a state that is at a step which the definition doesn't have: whose fact or receipt it is
    /// can't be told then, and passing over it in silence would lose it.
    fn whole(&self) -> Result<(), EngineError> {
        let lost = self
            .state
            .tokens
            .iter()
            .map(|token| &token.step)
            .chain(self.state.late.iter().map(|late| &late.step))
            .find(|step| self.definition.step(step).is_none());
        lost.map_or(Ok(()), |step| Err(EngineError::NoStep(step.clone())))
    }

    pub(crate) fn names(&self, target: &Target) -> Vec<String> {
        target
            .steps
            .iter()
            .map(|index| self.definition.steps[*index].id.clone())
            .collect()
    }

    /// Queues a target's steps; nothing to queue ends the branch.
    fn go(&mut self, target: &Target, parent: Option<u32>) {
        if let Some(join) = parent
            && let Some(left) = self.stand_mut(join).and_then(Stand::left_mut)
        {
            // One token of the branch goes, as many as the target names come.
            *left = (*left + u32::try_from(target.steps.len()).unwrap_or(0)).saturating_sub(1);
        }
        self.ahead
            .extend(target.steps.iter().map(|step| (*step, parent)));
    }

    /// Queues steps that run beside everything else.
    pub(crate) fn spawn(&mut self, target: &Target) {
        self.ahead
            .extend(target.steps.iter().map(|step| (*step, None)));
    }

    pub(crate) fn leave(&mut self, n: u32, label: &str, target: &Target) {
        let Some(place) = self.state.tokens.iter().position(|token| token.n == n) else {
            return;
        };
        let token = self.state.tokens.remove(place);
        let definition = self.definition;
        if let Some(step) = definition.step(&token.step) {
            self.held_no_more(step, n);
        }
        let to = self.names(target);
        self.trail(
            &token.step,
            What::Left {
                label: label.to_owned(),
                since_ms: token.since_ms,
                to,
            },
            None,
        );
        self.go(target, token.parent);
    }

    /// Enters what is queued until nothing is; then sees whether branches have joined or all is over.
    fn run(&mut self) -> Result<(), EngineError> {
        if self.holds_back() {
            return Ok(());
        }
        loop {
            while let Some((step, parent)) = self.ahead.pop_front() {
                if self.state.ended.is_some() {
                    self.ahead.clear();
                    return Ok(());
                }
                self.moves += 1;
                if self.moves > MOVES_MAX {
                    return Err(EngineError::Loop(self.definition.steps[step].id.clone()));
                }
                self.enter(step, parent);
            }
            if self.state.ended.is_some() {
                return Ok(());
            }
            let joined = self
                .state
                .tokens
                .iter()
                .find(|token| token.stand.has_joined())
                .map(|token| token.n);
            let Some(n) = joined else { break };
            let (step, _) = self.step_of(n)?;
            self.moves += 1;
            if self.moves > MOVES_MAX {
                return Err(EngineError::Loop(step.id.clone()));
            }
            step.kind.joined(self, step, n);
        }
        if self.state.tokens.is_empty() && self.later.is_empty() {
            self.end("completed", "Completed", false);
        }
        Ok(())
    }

    fn enter(&mut self, index: usize, parent: Option<u32>) {
        let definition = self.definition;
        let step = &definition.steps[index];
        let n = self.state.next;
        self.state.next += 1;
        let now_ms = self.context.now_ms;
        let stand = step.kind.stand(definition, &self.state, now_ms);
        self.state.tokens.push(Token {
            n,
            step: step.id.clone(),
            parent,
            since_ms: now_ms,
            stand,
        });
        let reference = step
            .kind
            .makes()
            .map(|(kind, slot)| format!("{kind}/{}", self.resource_id(n, slot)));
        self.trail(&step.id, What::Entered, reference);
        step.kind.enter(self, step, n);
    }

    /// A place that asked is told whether it is so. Who has left it meanwhile is told nothing.
    fn seen(&mut self, n: u32, holds: bool) -> Result<(), EngineError> {
        if self.token(n).is_none() {
            return Ok(());
        }
        let (step, _) = self.step_of(n)?;
        step.kind.seen(self, step, n, holds);
        self.run()
    }

    /// What a place asked can't be told: the trail says so, and it goes on as if it were not so.
    fn unclear(&mut self, n: u32) -> Result<(), EngineError> {
        if self.token(n).is_some() {
            let (step, _) = self.step_of(n)?;
            let label = "no".to_owned();
            self.trail(&step.id, What::Unclear { label }, None);
        }
        self.seen(n, false)
    }

    /// Closes the task or form of a place.
    pub(crate) fn close_task(&mut self, n: u32, done: bool, why: &str) {
        let task = self.resource_id(n, "task");
        self.effects.push(Effect::CloseTask {
            task,
            done,
            why: why.to_owned(),
        });
    }

    pub(crate) fn end(&mut self, code: &str, title: &str, close_tasks: bool) {
        let at: Vec<String> = self.state.at().into_iter().map(str::to_owned).collect();
        let definition = self.definition;
        let open: Vec<u32> = self.state.tokens.iter().map(|token| token.n).collect();
        for token in std::mem::take(&mut self.state.tokens) {
            self.call_off(&token, CALLED_OFF, title);
            if let Some(step) = definition.step(&token.step) {
                step.kind.close(self, &token, title, close_tasks);
            }
        }
        for late in std::mem::take(&mut self.state.late) {
            if let Some(step) = definition.step(&late.step) {
                step.kind.close_late(self, &late, title);
            }
        }
        // What was not answered yet may be done all the same, and nobody waits for the answer any more.
        let breaks_off = gives_up(definition, code);
        self.take_back_calls(|owed| breaks_off || open.contains(&owed.n));
        self.state.owed.clear();
        self.state.watches.clear();
        self.ahead.clear();
        self.later.clear();
        self.state.paused = None;
        self.state.undo = None;
        self.state.ended = Some(Ended {
            at_ms: self.context.now_ms,
            code: code.to_owned(),
            title: title.to_owned(),
        });
        self.trail(
            "",
            What::Ended {
                code: code.to_owned(),
                title: title.to_owned(),
                at,
            },
            None,
        );
    }
}
