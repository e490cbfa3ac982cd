//! A patient's journey as a case of an event log: activities and times, and nothing else of the patient.

use super::outcomes::Outcome;
use super::{ending, late_answer, reply};
use crate::definition::Definition;
use crate::state::{Done, State, TrailEntry, What as Trail};
use std::collections::BTreeMap;

/// One patient's journey.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Case {
    /// The version that it is on, or ended on.
    pub version: u32,
    /// When it began, care clock.
    pub started_ms: u64,
    /// When and how it ended: the exit's id, `completed`, `time_over` or `stopped`.
    pub ended: Option<(u64, String)>,
    /// Whether it came from another version: then the graph of this one says nothing of its path.
    pub moved: bool,
    /// The arms that were drawn, by experiment.
    pub arms: BTreeMap<String, String>,
    /// Where the patient is, and since when.
    pub here: Vec<(String, u64)>,
    /// Answers that are numbers, by step and question. They are added up, and go into no log.
    pub answers: Vec<Answer>,
    /// What came of the patient by the rest of the record, where an analysis has looked. It goes into no log.
    pub outcomes: Vec<Outcome>,
    /// What happened, in its order.
    pub events: Vec<CaseEvent>,
}

/// An answer that is a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The step that asked.
    pub step: String,
    /// The question, or what was made of several.
    pub question: String,
    /// What was answered last.
    pub value: f64,
}

/// Something that happened in a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseEvent {
    /// When, care clock.
    pub at_ms: u64,
    /// The step's id; `end:CODE` for the journey's end, `STEP:late` for an answer that was late.
    pub activity: String,
    /// What.
    pub what: What,
}

/// What happened at an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The patient came there.
    Came,
    /// They went on.
    Left {
        /// By the way with this label.
        way: String,
        /// Since when they had been there.
        since_ms: u64,
    },
    /// The journey ended while they were there.
    BrokenOff,
    /// It takes no time: a goal, a rule that fired, a late answer, the end.
    Done,
    /// A task there was overdue and went to another role.
    HandedOver,
    /// A message there did not arrive.
    Undelivered,
    /// Somebody led the patient on or elsewhere by hand.
    ByHand,
}

impl Case {
    pub(crate) fn of(state: &State, old: &[TrailEntry]) -> Self {
        let mut case = Self {
            version: state.version,
            started_ms: state.started_ms,
            ended: state
                .ended
                .as_ref()
                .map(|ended| (ended.at_ms, ended.code.clone())),
            arms: state.arms.clone(),
            here: here(state),
            answers: answers(state),
            ..Self::default()
        };
        for entry in old.iter().chain(&state.trail) {
            case.take(entry);
        }
        case
    }

    fn take(&mut self, entry: &TrailEntry) {
        let mut event = |activity: &str, what: What| {
            self.events.push(CaseEvent {
                at_ms: entry.at_ms,
                activity: activity.to_owned(),
                what,
            });
        };
        let step = entry.step.as_str();
        match &entry.what {
            Trail::Entered => event(step, What::Came),
            Trail::Left {
                label, since_ms, ..
            } => event(
                step,
                What::Left {
                    way: label.clone(),
                    since_ms: *since_ms,
                },
            ),
            Trail::Reached | Trail::Fired { .. } => event(step, What::Done),
            Trail::LateAnswer { .. } => event(&late_answer(step), What::Done),
            Trail::Reply { .. } => event(&reply(step), What::Done),
            Trail::HandedOver { .. } => event(step, What::HandedOver),
            Trail::Undelivered { .. } => event(step, What::Undelivered),
            Trail::Hand {
                act: Done::Skipped | Done::Jumped | Done::Retried,
                ..
            } => event(step, What::ByHand),
            Trail::Ended { code, at, .. } => {
                for step in at {
                    event(step, What::BrokenOff);
                }
                event(&ending(code), What::Done);
            }
            Trail::Moved { .. } => self.moved = true,
            Trail::Started
            | Trail::Sent { .. }
            | Trail::Held { .. }
            | Trail::Passed { .. }
            | Trail::Answered
            | Trail::Booked { .. }
            | Trail::AnchorMoved { .. }
            | Trail::Unclear { .. }
            | Trail::FirstDone
            | Trail::NotCounted
            | Trail::Round { .. }
            | Trail::Drawn { .. }
            | Trail::Called { .. }
            | Trail::Hand { .. } => {}
        }
    }

    /// The path: what the patient came to, in its order. It is what process mining calls a variant.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        self.events
            .iter()
            .filter(|event| matches!(event.what, What::Came | What::Done))
            .map(|event| event.activity.as_str())
    }
}

/// The steps where the patient is, each once, and since when.
fn here(state: &State) -> Vec<(String, u64)> {
    let mut here: BTreeMap<&str, u64> = BTreeMap::new();
    for token in &state.tokens {
        let since_ms = here.entry(&token.step).or_insert(token.since_ms);
        *since_ms = token.since_ms.min(*since_ms);
    }
    here.into_iter()
        .map(|(step, since_ms)| (step.to_owned(), since_ms))
        .collect()
}

/// The numbers among all that was learnt.
fn answers(state: &State) -> Vec<Answer> {
    let members = state.facts.iter().filter_map(|(step, learnt)| {
        let learnt = learnt.as_object()?;
        Some(learnt.iter().map(move |member| (step, member)))
    });
    let numbers = members.flatten().filter_map(|(step, (question, value))| {
        Some(Answer {
            step: step.clone(),
            question: question.clone(),
            value: value.as_f64()?,
        })
    });
    numbers.collect()
}

/// How much an activity counts where conformance is weighted: 4 for what is about a risk and can't wait, 2 for work of
/// staff, visits, partners, other journeys and goals, 1 for everything else.
pub(crate) fn weight(definition: &Definition, activity: &str) -> u64 {
    let step = activity.strip_suffix(":late").unwrap_or(activity);
    let Some(step) = definition.step(step) else {
        return 1;
    };
    if step.kind.cannot_wait() || step.kind.rule().is_some() {
        4
    } else if step.kind.hands_on() || step.kind.aims().is_some() {
        2
    } else {
        1
    }
}
