//! The engine: a pure function of definition, state, input and time.
//!
//! It asks nobody, stores nothing and knows no clock. Ids of what it causes are derived from the
//! instance and the number of the token, so a replay names the same things. Timers are not set one by
//! one but follow from the state ([`timers`]): what is waited for can't disagree with what wakes it.

mod due;
mod events;
mod messages;
mod model;

pub(crate) use messages::{CALLED_OFF, awaited_messages};
pub use model::{
    Context, Decision, Effect, EngineError, Event, Fact, Ids, Input, Manual, Outcome, Sent, Start,
};

use crate::definition::{Definition, Step, StepKind, Target, Trigger};
use crate::spec::START_ANCHOR;
use crate::state::{Ended, Stand, State, Token, TrailEntry, What, Which};
use crate::time::{DAY_MS, Slot};
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

/// Starts a journey.
///
/// # Errors
/// [`EngineError`].
pub fn start(
    definition: &Definition,
    facts: Start,
    context: &Context<'_>,
) -> Result<Decision, EngineError> {
    let begin_ms = definition
        .entry
        .anchors
        .first()
        .and_then(|(name, _)| facts.anchors.get(name))
        .copied()
        .unwrap_or(context.now_ms);
    let state = State {
        last: facts.number,
        watches: definition
            .steps
            .iter()
            .filter(|step| matches!(step.kind, StepKind::Observe(_)))
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
    engine.go(&definition.start, None);
    engine.run()?;
    engine.look_at_watches()?;
    engine.decision(true)
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
        // A consequence of what was just done, so it has no cause of its own.
        let mut engine = Engine::new(definition, state.clone(), context, String::new());
        engine.called_off(message);
        return engine.decision(true);
    }
    if state.ended.is_some() {
        return unchanged();
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
            if engine.state == *state && engine.effects.is_empty() {
                return unchanged();
            }
            engine.state.last = engine.state.last.max(event.number);
            engine.decision(true)
        }
        Input::Timer { read } => {
            let mut engine = Engine::new(definition, state.clone(), context, "timer".to_owned());
            engine.due()?;
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
            let mut engine = Engine::new(definition, state.clone(), context, String::new());
            engine.receipt(&communication, &outcome)?;
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

/// The timer that wakes a journey when consents may come to say something else.
const CONSENTS: &str = "consents";

/// When the state wants to be woken, by name. Empty once the journey has ended.
#[must_use]
pub fn timers(definition: &Definition, state: &State) -> BTreeMap<String, u64> {
    let mut timers = BTreeMap::new();
    if state.ended.is_some() {
        return timers;
    }
    timers.insert(
        "life".to_owned(),
        state.started_ms.saturating_add(definition.at_most_ms),
    );
    if let Some(due_ms) = state.consents_ms {
        timers.insert(CONSENTS.to_owned(), due_ms);
    }
    for (step, watch) in &state.watches {
        if let Some(due_ms) = watch.timer_ms() {
            timers.insert(format!("watch/{step}"), due_ms);
        }
    }
    for token in &state.tokens {
        let Some(step) = definition.step(&token.step) else {
            continue;
        };
        let mut add =
            |slot: &str, due_ms: u64| timers.insert(format!("{}/{slot}", token.n), due_ms);
        match (&step.kind, &token.stand) {
            (StepKind::Send(_), Stand::Sending { until_ms, .. }) => {
                add("until", *until_ms);
            }
            (StepKind::Ask(ask), Stand::Asking { reminded_by, .. }) => {
                if let (Some(after_ms), None) = (ask.remind_after_ms, reminded_by) {
                    add("remind", token.since_ms + after_ms);
                }
                add("until", token.since_ms + ask.give_up_after_ms);
            }
            (StepKind::Wait(_), Stand::Waiting) => {
                if let Some((_, due_ms)) = wait_end(definition, state, token, step) {
                    add("until", due_ms);
                }
            }
            (StepKind::Task(task), Stand::Working { handed_over: false })
                if task.overdue.is_some() =>
            {
                add("due", token.since_ms + task.due_ms);
            }
            (StepKind::Book(book), Stand::Booking { booked, .. }) => match booked {
                // Somebody may still say that the patient did not come, so the day is waited out.
                Some(slot) => {
                    add("over", slot.end_ms + DAY_MS);
                }
                None => {
                    add("by", moment(definition, state, &book.book_by));
                }
            },
            _ => {}
        }
    }
    timers
}

pub(crate) fn moment(definition: &Definition, state: &State, moment: &crate::time::Moment) -> u64 {
    let anchor_ms = if moment.anchor == START_ANCHOR {
        None
    } else {
        state.anchors.get(&moment.anchor).copied()
    };
    moment.resolve(anchor_ms.unwrap_or(state.started_ms), &definition.zone)
}

/// The alternative of a wait that time brings first, and when.
pub(crate) fn wait_end(
    definition: &Definition,
    state: &State,
    token: &Token,
    step: &Step,
) -> Option<(usize, u64)> {
    let StepKind::Wait(wait) = &step.kind else {
        return None;
    };
    wait.alternatives
        .iter()
        .enumerate()
        .filter_map(|(index, alternative)| match &alternative.trigger {
            Trigger::For(length_ms) => Some((index, token.since_ms + length_ms)),
            Trigger::Until(until) => Some((index, moment(definition, state, until))),
            Trigger::Event(_) => None,
        })
        .min_by_key(|(_, due_ms)| *due_ms)
}

struct Engine<'a> {
    definition: &'a Definition,
    context: &'a Context<'a>,
    state: State,
    effects: Vec<Effect>,
    why: String,
    ahead: VecDeque<(usize, Option<u32>)>,
    moves: u32,
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
            ahead: VecDeque::new(),
            moves: 0,
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "the callers' last word")]
    fn decision(self, changed: bool) -> Result<Decision, EngineError> {
        Ok(Decision {
            state: self.state,
            effects: self.effects,
            changed,
        })
    }

    fn trail(&mut self, step: &str, what: What, reference: Option<String>) {
        let entry = TrailEntry {
            at_ms: self.context.now_ms,
            step: step.to_owned(),
            what,
            why: self.why.clone(),
            reference,
        };
        self.state.trail.push(entry);
    }

    fn resource_id(&self, n: u32, slot: &str) -> String {
        self.context
            .ids
            .id(&format!("{}/{n}/{slot}", self.context.instance))
    }

    fn learn(&mut self, step: &str, member: &str, value: Value) {
        if let Value::Object(members) = self
            .state
            .facts
            .entry(step.to_owned())
            .or_insert_with(|| json!({}))
        {
            members.insert(member.to_owned(), value);
        }
    }

    fn token(&self, n: u32) -> Option<&Token> {
        self.state.tokens.iter().find(|token| token.n == n)
    }

    fn stand_mut(&mut self, n: u32) -> Option<&mut Stand> {
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

    fn names(&self, target: &Target) -> Vec<String> {
        target
            .steps
            .iter()
            .map(|index| self.definition.steps[*index].id.clone())
            .collect()
    }

    /// Queues a target's steps; nothing to queue ends the branch.
    fn go(&mut self, target: &Target, parent: Option<u32>) {
        if let Some(join) = parent
            && let Some(Stand::Joining { left }) = self.stand_mut(join)
        {
            // One token of the branch goes, as many as the target names come.
            *left = (*left + u32::try_from(target.steps.len()).unwrap_or(0)).saturating_sub(1);
        }
        self.ahead
            .extend(target.steps.iter().map(|step| (*step, parent)));
    }

    /// Queues steps that run beside everything else.
    fn spawn(&mut self, target: &Target) {
        self.ahead
            .extend(target.steps.iter().map(|step| (*step, None)));
    }

    fn leave(&mut self, n: u32, label: &str, target: &Target) {
        let Some(place) = self.state.tokens.iter().position(|token| token.n == n) else {
            return;
        };
        let token = self.state.tokens.remove(place);
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
                .find(|token| matches!(token.stand, Stand::Joining { left: 0 }))
                .map(|token| token.n);
            let Some(n) = joined else { break };
            let (step, _) = self.step_of(n)?;
            if let StepKind::Parallel { next, .. } = &step.kind {
                self.leave(n, "all ended", next);
            }
        }
        if self.state.tokens.is_empty() {
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
        let stand = match &step.kind {
            StepKind::Send(send) => Stand::Sending {
                channel: 0,
                until_ms: now_ms + send.expires_ms,
            },
            StepKind::Ask(_) => Stand::Asking {
                invited_by: 0,
                reminded_by: None,
            },
            StepKind::Task(_) => Stand::Working { handed_over: false },
            StepKind::Book(book) => {
                let start_ms = moment(definition, &self.state, &book.on);
                Stand::Booking {
                    proposed: Slot {
                        start_ms,
                        end_ms: start_ms + book.minutes * crate::time::MINUTE_MS,
                    },
                    booked: None,
                }
            }
            StepKind::Parallel { branches, .. } => Stand::Joining {
                left: branches
                    .iter()
                    .map(|branch| u32::try_from(branch.steps.len()).unwrap_or(0))
                    .sum(),
            },
            StepKind::Wait(_)
            | StepKind::Observe(_)
            | StepKind::Branch(_)
            | StepKind::Exit { .. } => Stand::Waiting,
        };
        self.state.tokens.push(Token {
            n,
            step: step.id.clone(),
            parent,
            since_ms: now_ms,
            stand,
        });
        let reference = match &step.kind {
            StepKind::Ask(_) | StepKind::Task(_) => {
                Some(format!("Task/{}", self.resource_id(n, "task")))
            }
            StepKind::Book(_) => Some(format!("Appointment/{}", self.resource_id(n, "visit"))),
            _ => None,
        };
        self.trail(&step.id, What::Entered, reference);
        match &step.kind {
            StepKind::Send(_) => self.send(step, n, Which::Message, 0),
            StepKind::Ask(ask) => {
                let task = self.resource_id(n, "task");
                self.effects.push(Effect::OpenForm {
                    step: step.id.clone(),
                    task,
                    due_ms: now_ms + ask.give_up_after_ms,
                });
                self.send(step, n, Which::Invitation, 0);
            }
            StepKind::Task(task) => {
                let id = self.resource_id(n, "task");
                self.effects.push(Effect::OpenTask {
                    step: step.id.clone(),
                    task: id,
                    due_ms: now_ms + task.due_ms,
                });
            }
            StepKind::Book(book) => self.propose(step, book, n),
            StepKind::Parallel { branches, .. } => {
                for branch in branches {
                    self.ahead
                        .extend(branch.steps.iter().map(|step| (*step, Some(n))));
                }
            }
            StepKind::Branch(branch) => self.decide(step, branch, n),
            StepKind::Exit {
                reason,
                close_tasks,
            } => self.end(&step.id, reason, *close_tasks),
            StepKind::Wait(_) => self.wait_if_not_over(step, n),
            StepKind::Observe(_) => {}
        }
    }

    fn propose(&mut self, step: &Step, book: &crate::definition::Book, n: u32) {
        let by_ms = moment(self.definition, &self.state, &book.book_by);
        let Some(Stand::Booking { proposed, .. }) = self.token(n).map(|token| token.stand.clone())
        else {
            return;
        };
        if by_ms <= self.context.now_ms {
            // Proposing what can't be booked any more would only confuse the patient.
            let target = book.not_booked.clone().unwrap_or_default();
            self.learn(&step.id, "status", json!("too-late"));
            self.leave(n, "not booked", &target);
            return;
        }
        let appointment = self.resource_id(n, "visit");
        self.effects.push(Effect::ProposeVisit {
            step: step.id.clone(),
            appointment,
            start_ms: proposed.start_ms,
            end_ms: proposed.end_ms,
            by_ms,
        });
    }

    fn decide(&mut self, step: &Step, branch: &crate::definition::Branch, n: u32) {
        let focus = Value::Object(self.state.facts.clone());
        let environment = fhir::path::Environment {
            now_ms: i64::try_from(self.context.now_ms).ok(),
            ..fhir::path::Environment::default()
        };
        for case in &branch.cases {
            match case.when.expression.test(&focus, &environment) {
                Ok(Some(true)) => {
                    self.leave(n, &case.label, &case.next);
                    return;
                }
                Ok(_) => {}
                Err(_) => self.trail(
                    &step.id,
                    What::Unclear {
                        label: case.label.clone(),
                    },
                    None,
                ),
            }
        }
        self.leave(n, "otherwise", &branch.otherwise);
    }

    fn wait_if_not_over(&mut self, step: &Step, n: u32) {
        let Some(token) = self.token(n).cloned() else {
            return;
        };
        if let Some((index, due_ms)) = wait_end(self.definition, &self.state, &token, step)
            && due_ms <= self.context.now_ms
            && let StepKind::Wait(wait) = &step.kind
        {
            let alternative = &wait.alternatives[index];
            self.leave(n, &alternative.label, &alternative.next);
        }
    }

    fn end(&mut self, code: &str, title: &str, close_tasks: bool) {
        let at: Vec<String> = self.state.at().into_iter().map(str::to_owned).collect();
        let tokens = std::mem::take(&mut self.state.tokens);
        for token in &tokens {
            self.call_off(token, messages::CALLED_OFF, title);
            match &token.stand {
                Stand::Asking { .. } => {
                    let task = self.resource_id(token.n, "task");
                    self.effects.push(Effect::CloseTask {
                        task,
                        done: false,
                        why: title.to_owned(),
                    });
                }
                Stand::Working { .. } if close_tasks => {
                    let task = self.resource_id(token.n, "task");
                    self.effects.push(Effect::CloseTask {
                        task,
                        done: false,
                        why: title.to_owned(),
                    });
                }
                Stand::Booking { booked: None, .. } => {
                    let appointment = self.resource_id(token.n, "visit");
                    self.effects.push(Effect::CancelVisit {
                        appointment,
                        why: title.to_owned(),
                    });
                }
                _ => {}
            }
        }
        for late in std::mem::take(&mut self.state.late) {
            let task = self.resource_id(late.n, "task");
            self.effects.push(Effect::CloseTask {
                task,
                done: false,
                why: title.to_owned(),
            });
        }
        self.state.watches.clear();
        self.ahead.clear();
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
