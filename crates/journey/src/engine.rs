//! The engine: a pure function of definition, state, input and time.
//!
//! It asks nobody, stores nothing and knows no clock. Ids of what it causes are derived from the
//! instance and the number of the token, so a replay names the same things. Timers are not set one by
//! one but follow from the state ([`timers`]): what is waited for can't disagree with what wakes it.

use crate::definition::{
    Channel, Definition, ExitTrigger, Overdue, Step, StepKind, Target, Trigger,
};
use crate::spec::START_ANCHOR;
use crate::state::{Ended, Late, Stand, State, Token, TrailEntry, What, Which};
use crate::time::{DAY_MS, Slot};
use crate::units;
use crate::watch::{Watch, number};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Most moves of one input. A checked journey can't loop without waiting, so a branching of all 200
/// steps several times over fits; beyond it something is wrong and the input is refused as a whole.
const MOVES_MAX: u32 = 2000;

/// The number of an event that is played again on purpose, long after its turn.
pub const REPLAYED: u64 = 0;

/// Where ids come from: keyed hashes in production, plain names in tests.
pub trait Ids {
    /// The id of a resource or timer by its name, the same each time.
    fn id(&self, name: &str) -> String;
    /// The canonical reference of a step's questionnaire.
    fn questionnaire(&self, step: &str) -> String;
}

/// What the engine is told besides the input.
pub struct Context<'a> {
    /// The time, milliseconds since the epoch.
    pub now_ms: u64,
    /// The instance's id.
    pub instance: &'a str,
    /// Where ids come from.
    pub ids: &'a dyn Ids,
}

/// What a journey is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Something was written to the patient's record.
    Event(Event),
    /// Some timer is due.
    Timer {
        /// Feed number up to which the patient's events have been handled. Those that meant nothing
        /// before this move must not mean something when they are read again after a crash.
        read: u64,
    },
    /// What became of a message, known in the same unit of work.
    Receipt {
        /// Id of the `Communication`.
        communication: String,
        /// What became of it.
        outcome: Outcome,
    },
    /// Somebody steps in.
    Manual(Manual),
}

/// An event of the patient's record.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number on the feed.
    pub number: u64,
    /// The resource, `Type/id`.
    pub reference: String,
    /// What it says.
    pub fact: Fact,
    /// Which of the definition's conditions hold of the resource.
    pub holds: Vec<usize>,
}

/// A fact, extracted from a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A measurement; `value` is `None` when it was entered in error.
    Observation {
        /// Id.
        id: String,
        /// LOINC codes.
        codes: Vec<String>,
        /// Value and UCUM unit.
        value: Option<(f64, String)>,
        /// When it was measured.
        at_ms: u64,
    },
    /// A form was answered.
    Answers {
        /// The task that it answers, if it says so.
        task: Option<String>,
        /// The questionnaire's canonical reference, if it says so.
        questionnaire: Option<String>,
        /// Answers by `linkId`.
        answers: Map<String, Value>,
    },
    /// A task of staff.
    Task {
        /// Id.
        id: String,
        /// FHIR `Task.status`.
        status: String,
        /// Outcome, if there is one.
        outcome: Option<String>,
    },
    /// A message.
    Message {
        /// Id of the `Communication`.
        id: String,
        /// What became of it.
        outcome: Outcome,
    },
    /// A visit.
    Visit {
        /// Id of the `Appointment`.
        id: String,
        /// FHIR `Appointment.status`.
        status: String,
        /// Start, if there is one.
        start_ms: Option<u64>,
        /// End, if there is one.
        end_ms: Option<u64>,
    },
    /// The patient's consents were decided anew.
    Consent {
        /// Whether they allow the journey's purpose.
        permitted: bool,
    },
    /// The entry resource was written again: its anchors.
    Anchors(BTreeMap<String, u64>),
    /// Nothing but the conditions matters.
    Other,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was delivered.
    Delivered,
    /// It was not; the code says why (`urn:cairn:not-done`).
    NotDone(String),
    /// It is still on its way.
    UnderWay,
}

/// What somebody can do by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manual {
    /// End the journey, with the reason in words.
    Stop(String),
}

/// What is to be done outside the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Put a message on its way.
    Send {
        /// Step.
        step: String,
        /// Id of the `Communication` to make.
        communication: String,
        /// Channel.
        channel: Channel,
        /// Which words.
        which: Which,
        /// Not after this time.
        expires_ms: u64,
        /// The form that it invites to.
        form: Option<String>,
    },
    /// Open a form for the patient.
    OpenForm {
        /// Step.
        step: String,
        /// Id of the `Task` to make.
        task: String,
        /// Answer expected until.
        due_ms: u64,
    },
    /// Open a task for staff.
    OpenTask {
        /// Step.
        step: String,
        /// Id of the `Task` to make.
        task: String,
        /// Due.
        due_ms: u64,
    },
    /// Hand a task over.
    HandOver {
        /// Id of the `Task`.
        task: String,
        /// To whom.
        role: String,
        /// New priority.
        priority: String,
    },
    /// Close a task or form.
    CloseTask {
        /// Id of the `Task`.
        task: String,
        /// Whether it was done; cancelled otherwise.
        done: bool,
        /// Why, in words.
        why: String,
    },
    /// Propose a visit.
    ProposeVisit {
        /// Step.
        step: String,
        /// Id of the `Appointment` to make.
        appointment: String,
        /// Start.
        start_ms: u64,
        /// End.
        end_ms: u64,
        /// To be booked by.
        by_ms: u64,
    },
    /// Take a proposal back.
    CancelVisit {
        /// Id of the `Appointment`.
        appointment: String,
        /// Why, in words.
        why: String,
    },
}

/// What came of an input.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The new state.
    pub state: State,
    /// What is to be done.
    pub effects: Vec<Effect>,
    /// Whether the state is another one.
    pub changed: bool,
}

/// Why an input could not be worked on. Nothing has happened then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The journey went round without waiting.
    #[error("journey goes round without waiting at step {0}")]
    Loop(String),
    /// The state belongs to another definition or version.
    #[error("the state is of {0}, not of this definition")]
    Pinned(String),
    /// The state names a step that the definition doesn't have.
    #[error("the state is at a step that the definition doesn't have: {0}")]
    NoStep(String),
}

/// What a journey starts from.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The patient.
    pub patient: String,
    /// The id of the entry resource.
    pub key: String,
    /// What caused it, `Type/id`.
    pub cause: String,
    /// The event's number on the feed.
    pub number: u64,
    /// Anchors.
    pub anchors: BTreeMap<String, u64>,
    /// Measurements that are in the record already.
    pub observations: Vec<Fact>,
    /// Why the journey ends as soon as it begins: an exit's id and title.
    pub exit: Option<(String, String)>,
}

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
        engine.measure(observation, false);
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
    if state.ended.is_some() {
        return unchanged();
    }
    match input {
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

/// The messages whose receipts are waited for before the journey goes on.
pub(crate) fn awaited_messages(state: &State, context: &Context<'_>) -> Vec<String> {
    let slot = |token: &Token| match token.stand {
        Stand::Sending { channel, .. } => Some(context.ids.id(&format!(
            "{}/{}/{}",
            context.instance,
            token.n,
            message_slot(Which::Message, usize::from(channel))
        ))),
        _ => None,
    };
    state.tokens.iter().filter_map(slot).collect()
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

    /// Puts a message on its way by the channel with an index; past the last, it has failed.
    fn send(&mut self, step: &Step, n: u32, which: Which, index: usize) {
        let channels = match &step.kind {
            StepKind::Send(send) => &send.message.channels,
            StepKind::Ask(ask) => &ask.invitation.channels,
            _ => return,
        };
        let Some(channel) = channels.get(index).copied() else {
            // A form lies in the portal whether or not the invitation arrived; only a message has failed.
            if let StepKind::Send(send) = &step.kind {
                let target = send.on_failure.clone().unwrap_or_default();
                self.leave(n, "not delivered", &target);
            }
            return;
        };
        let place = u8::try_from(index).unwrap_or(u8::MAX);
        let now_ms = self.context.now_ms;
        let since_ms = self.token(n).map_or(now_ms, |token| token.since_ms);
        let expires_ms = match (&step.kind, self.stand_mut(n)) {
            (StepKind::Send(send), Some(stand)) => {
                *stand = Stand::Sending {
                    channel: place,
                    until_ms: now_ms + send.expires_ms,
                };
                now_ms + send.expires_ms
            }
            (
                StepKind::Ask(ask),
                Some(Stand::Asking {
                    invited_by,
                    reminded_by,
                }),
            ) => {
                if which == Which::Reminder {
                    *reminded_by = Some(place);
                } else {
                    *invited_by = place;
                }
                since_ms + ask.give_up_after_ms
            }
            _ => return,
        };
        let communication = self.resource_id(n, &message_slot(which, index));
        self.trail(
            &step.id,
            What::Sent { channel, which },
            Some(format!("Communication/{communication}")),
        );
        let form = matches!(step.kind, StepKind::Ask(_)).then(|| self.resource_id(n, "task"));
        self.effects.push(Effect::Send {
            step: step.id.clone(),
            communication,
            channel,
            which,
            expires_ms,
            form,
        });
    }

    fn receipt(&mut self, communication: &str, outcome: &Outcome) -> Result<(), EngineError> {
        let awaited = self.state.tokens.iter().find_map(|token| {
            let candidates: Vec<(Which, u8)> = match &token.stand {
                Stand::Sending { channel, .. } => vec![(Which::Message, *channel)],
                Stand::Asking {
                    invited_by,
                    reminded_by,
                } => std::iter::once((Which::Invitation, *invited_by))
                    .chain(reminded_by.map(|place| (Which::Reminder, place)))
                    .collect(),
                _ => return None,
            };
            candidates
                .into_iter()
                .find(|(which, place)| {
                    self.resource_id(token.n, &message_slot(*which, usize::from(*place)))
                        == communication
                })
                .map(|(which, place)| (token.n, which, place))
        });
        let Some((n, which, place)) = awaited else {
            return Ok(());
        };
        let (step, _) = self.step_of(n)?;
        let channels = match &step.kind {
            StepKind::Send(send) => &send.message.channels,
            StepKind::Ask(ask) => &ask.invitation.channels,
            _ => return Ok(()),
        };
        let Some(channel) = channels.get(usize::from(place)).copied() else {
            return Ok(());
        };
        match outcome {
            Outcome::UnderWay => {}
            Outcome::Delivered => {
                if let StepKind::Send(send) = &step.kind {
                    self.learn(&step.id, "delivered_by", json!(channel.name()));
                    self.leave(n, "delivered", &send.next);
                    return self.run();
                }
            }
            Outcome::NotDone(code) => {
                self.trail(
                    &step.id,
                    What::Undelivered {
                        channel,
                        which,
                        code: code.clone(),
                    },
                    Some(format!("Communication/{communication}")),
                );
                // Consent is about the purpose, not the channel, so no other channel helps; and the
                // dead get no more mail.
                let next = if code == "consent" || code == "deceased" {
                    channels.len()
                } else {
                    usize::from(place) + 1
                };
                if next >= channels.len() && matches!(step.kind, StepKind::Ask(_)) {
                    // Remembered as "past the last", so that a repeated receipt finds nothing to do.
                    let past = u8::try_from(channels.len()).unwrap_or(u8::MAX);
                    if let Some(Stand::Asking {
                        invited_by,
                        reminded_by,
                    }) = self.stand_mut(n)
                    {
                        match which {
                            Which::Reminder => *reminded_by = Some(past),
                            _ => *invited_by = past,
                        }
                    }
                }
                self.send(step, n, which, next);
                return self.run();
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), EngineError> {
        let definition = self.definition;
        let own = event.reference == format!("{}/{}", definition.entry.event, self.state.key);
        for exit in &definition.exits {
            let hit = match exit.trigger {
                ExitTrigger::Event(condition) => !own && event.holds.contains(&condition),
                ExitTrigger::ConsentWithdrawn => event.fact == Fact::Consent { permitted: false },
            };
            if hit {
                self.end(&exit.id, &exit.title, exit.close_tasks);
                return Ok(());
            }
        }
        match &event.fact {
            Fact::Observation { .. } => {
                self.measure(&event.fact, true);
                self.look_at_watches()?;
            }
            Fact::Answers {
                task,
                questionnaire,
                answers,
            } => self.answers(task.as_deref(), questionnaire.as_deref(), answers)?,
            Fact::Task {
                id,
                status,
                outcome,
            } => self.task(id, status, outcome.as_deref())?,
            Fact::Message { id, outcome } => self.receipt(id, outcome)?,
            Fact::Visit {
                id,
                status,
                start_ms,
                end_ms,
            } => self.visit(id, status, *start_ms, *end_ms)?,
            Fact::Anchors(anchors) => self.anchors(anchors)?,
            Fact::Consent { .. } | Fact::Other => {}
        }
        self.awaited_events(event)
    }

    /// Waits for an event whose condition holds. Only those are moved on that waited before the event
    /// came, so one event can't run through two waits.
    fn awaited_events(&mut self, event: &Event) -> Result<(), EngineError> {
        let waiting: Vec<u32> = self
            .state
            .tokens
            .iter()
            .filter(|token| token.stand == Stand::Waiting)
            .map(|token| token.n)
            .collect();
        for n in waiting {
            if self.token(n).is_none() || self.state.ended.is_some() {
                continue;
            }
            let (step, _) = self.step_of(n)?;
            let StepKind::Wait(wait) = &step.kind else {
                continue;
            };
            let came = wait.alternatives.iter().find(|alternative| matches!(alternative.trigger, Trigger::Event(condition) if event.holds.contains(&condition)));
            if let Some(alternative) = came {
                self.leave(n, &alternative.label, &alternative.next);
                self.run()?;
            }
        }
        Ok(())
    }

    fn anchors(&mut self, anchors: &BTreeMap<String, u64>) -> Result<(), EngineError> {
        for (name, at_ms) in anchors {
            if self.state.anchors.get(name) != Some(at_ms) {
                self.state.anchors.insert(name.clone(), *at_ms);
                self.trail(
                    "",
                    What::AnchorMoved {
                        anchor: name.clone(),
                    },
                    None,
                );
            }
        }
        self.due()
    }

    fn measure(&mut self, fact: &Fact, in_time: bool) {
        let Fact::Observation {
            id,
            codes,
            value,
            at_ms,
        } = fact
        else {
            return;
        };
        let definition = self.definition;
        for step in &definition.steps {
            let StepKind::Observe(rule) = &step.kind else {
                continue;
            };
            if !codes.contains(&rule.code) {
                continue;
            }
            let over = rule
                .until
                .as_ref()
                .is_some_and(|until| *at_ms > moment(definition, &self.state, until));
            // A clock that runs wrong must not push the window into the future.
            if over || (in_time && *at_ms > self.context.now_ms + DAY_MS) {
                continue;
            }
            let value = value
                .as_ref()
                .and_then(|(value, unit)| units::convert(*value, unit, &rule.unit));
            if let Some(watch) = self.state.watches.get_mut(&step.id) {
                watch.record(rule, id, *at_ms, value);
            }
        }
    }

    fn look_at_watches(&mut self) -> Result<(), EngineError> {
        let definition = self.definition;
        for step in &definition.steps {
            let StepKind::Observe(rule) = &step.kind else {
                continue;
            };
            let now_ms = self.context.now_ms;
            let Some(change) = self
                .state
                .watches
                .get_mut(&step.id)
                .and_then(|watch| watch.look(rule, now_ms))
            else {
                continue;
            };
            let hours = (change.to_ms - change.from_ms) / crate::time::HOUR_MS;
            for (member, value) in [
                (
                    "rise",
                    number(change.to_millionths - change.from_millionths),
                ),
                ("from", number(change.from_millionths)),
                ("to", number(change.to_millionths)),
                ("unit", json!(rule.unit)),
                ("hours", json!(hours)),
            ] {
                self.learn(&step.id, member, value);
            }
            let to = self.names(&rule.then);
            self.trail(&step.id, What::Fired { to }, None);
            self.spawn(&rule.then);
            self.run()?;
            if self.state.ended.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answers(
        &mut self,
        task: Option<&str>,
        questionnaire: Option<&str>,
        answers: &Map<String, Value>,
    ) -> Result<(), EngineError> {
        let fits = |n: u32, step: &str| match task {
            Some(task) => self.resource_id(n, "task") == task,
            None => {
                questionnaire.is_some_and(|found| found == self.context.ids.questionnaire(step))
            }
        };
        let open = self
            .state
            .tokens
            .iter()
            .find(|token| matches!(token.stand, Stand::Asking { .. }) && fits(token.n, &token.step))
            .map(|token| token.n);
        let late = self
            .state
            .late
            .iter()
            .position(|late| fits(late.n, &late.step));
        let definition = self.definition;
        let (n, id) = match (open, late) {
            (Some(n), _) => (n, self.step_of(n)?.1.step),
            (None, Some(place)) => {
                let late = self.state.late.remove(place);
                (late.n, late.step)
            }
            (None, None) => return Ok(()),
        };
        let step = definition.step(&id).ok_or(EngineError::NoStep(id))?;
        let StepKind::Ask(ask) = &step.kind else {
            return Ok(());
        };
        let known: Map<String, Value> = ask
            .questions
            .iter()
            .filter_map(|question| Some((question.id.clone(), answers.get(&question.id)?.clone())))
            .collect();
        self.state
            .facts
            .insert(step.id.clone(), Value::Object(known));
        let form = self.resource_id(n, "task");
        self.effects.push(Effect::CloseTask {
            task: form,
            done: true,
            why: "Answered".to_owned(),
        });
        if open.is_some() {
            self.trail(&step.id, What::Answered, None);
            self.leave(n, "answered", &ask.answered);
        } else {
            let target = ask.late_answer.clone().unwrap_or_default();
            let to = self.names(&target);
            self.trail(&step.id, What::LateAnswer { to }, None);
            self.spawn(&target);
        }
        self.run()
    }

    fn task(&mut self, id: &str, status: &str, outcome: Option<&str>) -> Result<(), EngineError> {
        let done = match status {
            "completed" => true,
            "cancelled" | "rejected" | "failed" | "entered-in-error" => false,
            _ => return Ok(()),
        };
        let found = self
            .state
            .tokens
            .iter()
            .find(|token| {
                matches!(token.stand, Stand::Working { .. })
                    && self.resource_id(token.n, "task") == id
            })
            .map(|token| token.n);
        let Some(n) = found else { return Ok(()) };
        let (step, _) = self.step_of(n)?;
        let StepKind::Task(task) = &step.kind else {
            return Ok(());
        };
        self.learn(
            &step.id,
            "outcome",
            json!(outcome.unwrap_or(if done { "done" } else { "not done" })),
        );
        let chosen = task
            .outcomes
            .iter()
            .find(|(name, _)| Some(name.as_str()) == outcome);
        match (done, chosen) {
            (true, Some((name, target))) => self.leave(n, name, target),
            (true, None) => self.leave(n, "done", &task.next),
            (false, _) => self.leave(n, "not done", task.not_done.as_ref().unwrap_or(&task.next)),
        }
        self.run()
    }

    fn visit(
        &mut self,
        id: &str,
        status: &str,
        start_ms: Option<u64>,
        end_ms: Option<u64>,
    ) -> Result<(), EngineError> {
        let found = self
            .state
            .tokens
            .iter()
            .find(|token| {
                matches!(token.stand, Stand::Booking { .. })
                    && self.resource_id(token.n, "visit") == id
            })
            .map(|token| token.n);
        let Some(n) = found else { return Ok(()) };
        let (step, token) = self.step_of(n)?;
        let (StepKind::Book(book), Stand::Booking { proposed, booked }) = (&step.kind, token.stand)
        else {
            return Ok(());
        };
        let not_booked = book.not_booked.clone().unwrap_or_default();
        let (label, target) = match status {
            "booked" => {
                let start_ms = start_ms.unwrap_or(proposed.start_ms);
                let slot = Slot {
                    start_ms,
                    end_ms: end_ms
                        .filter(|end| *end > start_ms)
                        .unwrap_or(start_ms + book.minutes * crate::time::MINUTE_MS),
                };
                if booked != Some(slot) {
                    if let Some(Stand::Booking { booked, .. }) = self.stand_mut(n) {
                        *booked = Some(slot);
                    }
                    self.learn(&step.id, "status", json!("booked"));
                    self.learn(
                        &step.id,
                        "day",
                        json!(crate::time::say_day(start_ms, &self.definition.zone)),
                    );
                    self.trail(
                        &step.id,
                        What::Booked { start_ms },
                        Some(format!("Appointment/{id}")),
                    );
                }
                return Ok(());
            }
            "arrived" | "checked-in" | "fulfilled" => ("visit over", &book.next),
            "cancelled" | "entered-in-error" => ("not booked", &not_booked),
            "noshow" => ("missed", book.missed.as_ref().unwrap_or(&not_booked)),
            _ => return Ok(()),
        };
        self.learn(&step.id, "status", json!(status));
        self.leave(n, label, target);
        self.run()
    }

    /// Does what is due, soonest first.
    fn due(&mut self) -> Result<(), EngineError> {
        loop {
            let due = timers(self.definition, &self.state)
                .into_iter()
                .filter(|(_, due_ms)| *due_ms <= self.context.now_ms)
                .min_by_key(|(_, due_ms)| *due_ms);
            let Some((name, _)) = due else { return Ok(()) };
            self.moves += 1;
            if self.moves > MOVES_MAX {
                return Err(EngineError::Loop(name));
            }
            if name == "life" {
                self.end("time_over", "Longest time over", false);
                return Ok(());
            }
            if name.starts_with("watch/") {
                self.look_at_watches()?;
                continue;
            }
            let Some((n, slot)) = name
                .split_once('/')
                .and_then(|(n, slot)| Some((n.parse().ok()?, slot)))
            else {
                return Err(EngineError::NoStep(name));
            };
            self.timer(n, slot)?;
            self.run()?;
        }
    }

    fn timer(&mut self, n: u32, slot: &str) -> Result<(), EngineError> {
        let (step, token) = self.step_of(n)?;
        match (&step.kind, &token.stand, slot) {
            (StepKind::Send(send), Stand::Sending { channel, .. }, _) => {
                if let Some(used) = send.message.channels.get(usize::from(*channel)).copied() {
                    self.trail(
                        &step.id,
                        What::Undelivered {
                            channel: used,
                            which: Which::Message,
                            code: "expired".to_owned(),
                        },
                        None,
                    );
                }
                self.send(step, n, Which::Message, usize::from(*channel) + 1);
            }
            (StepKind::Ask(ask), Stand::Asking { .. }, "remind") => {
                if token.since_ms + ask.give_up_after_ms <= self.context.now_ms {
                    // The house was dark past both; a reminder of what is given up at once helps nobody.
                    if let Some(Stand::Asking { reminded_by, .. }) = self.stand_mut(n) {
                        *reminded_by = Some(u8::MAX);
                    }
                } else {
                    self.send(step, n, Which::Reminder, 0);
                }
            }
            (StepKind::Ask(ask), Stand::Asking { .. }, _) => {
                if ask.late_answer.is_some() {
                    self.state.late.push(Late {
                        n,
                        step: step.id.clone(),
                    });
                } else {
                    let form = self.resource_id(n, "task");
                    self.effects.push(Effect::CloseTask {
                        task: form,
                        done: false,
                        why: "No answer in time".to_owned(),
                    });
                }
                let target = ask.no_answer.clone().unwrap_or_default();
                self.leave(n, "no answer", &target);
            }
            (StepKind::Wait(wait), Stand::Waiting, _) => {
                if let Some((index, _)) = wait_end(self.definition, &self.state, &token, step) {
                    let alternative = &wait.alternatives[index];
                    self.leave(n, &alternative.label, &alternative.next);
                }
            }
            (StepKind::Task(task), Stand::Working { .. }, _) => {
                let id = self.resource_id(n, "task");
                match &task.overdue {
                    Some(Overdue::Go(target)) => {
                        self.effects.push(Effect::CloseTask {
                            task: id,
                            done: false,
                            why: "Not done in time; handed on".to_owned(),
                        });
                        self.learn(&step.id, "outcome", json!("overdue"));
                        self.leave(n, "overdue", target);
                    }
                    Some(Overdue::HandOver { role, priority }) => {
                        if let Some(Stand::Working { handed_over }) = self.stand_mut(n) {
                            *handed_over = true;
                        }
                        self.trail(
                            &step.id,
                            What::HandedOver { role: role.clone() },
                            Some(format!("Task/{id}")),
                        );
                        self.effects.push(Effect::HandOver {
                            task: id,
                            role: role.clone(),
                            priority: priority.clone(),
                        });
                    }
                    None => {}
                }
            }
            (StepKind::Book(book), Stand::Booking { booked, .. }, _) => {
                if booked.is_some() {
                    self.leave(n, "visit over", &book.next);
                } else {
                    let appointment = self.resource_id(n, "visit");
                    self.effects.push(Effect::CancelVisit {
                        appointment,
                        why: "Not booked in time".to_owned(),
                    });
                    self.learn(&step.id, "status", json!("not-booked"));
                    let target = book.not_booked.clone().unwrap_or_default();
                    self.leave(n, "not booked", &target);
                }
            }
            _ => return Err(EngineError::NoStep(token.step)),
        }
        Ok(())
    }

    fn end(&mut self, code: &str, title: &str, close_tasks: bool) {
        let at: Vec<String> = self.state.at().into_iter().map(str::to_owned).collect();
        let tokens = std::mem::take(&mut self.state.tokens);
        for token in &tokens {
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

fn message_slot(which: Which, index: usize) -> String {
    let which = match which {
        Which::Message => "message",
        Which::Invitation => "invitation",
        Which::Reminder => "reminder",
    };
    format!("{which}/{index}")
}
