//! Four eyes: a second person confirms what the first did.
//!
//! Each has a task of their own. Who did one is who owns it when it is completed; a task that nobody owns
//! then, or that is confirmed by who did it, doesn't count and is opened anew. What a person is known as besides
//! is looked up before this is asked (`runner/persons.rs`).

use super::{Task, input};
use crate::check::Check;
use crate::definition::Step;
use crate::engine::{Confirms, Effect, Engine};
use crate::state::{Eyes, Stand, Token, What};
use serde_json::{Value, json};

/// The label of the way that is gone when the second person doesn't confirm it, and their outcome.
pub(super) const NOT_CONFIRMED: &str = "not confirmed";
/// What confirms: the outcome that is offered, and none at all.
const CONFIRMED: &str = "confirmed";

impl Eyes {
    /// The name of the task that is open.
    pub(super) fn slot(&self) -> String {
        format!("task/{}", self.attempt)
    }
}

/// Whether what two tasks name is one person. Who did the first was noted without the system of their identifier by
/// programs before.
fn is_one(first: &str, second: &str) -> bool {
    let value = second.rsplit_once('|').map(|(_, value)| value);
    first == second || value == Some(first)
}

/// Whether a name is that of a system that has named no person: it confirms nothing.
fn is_system(name: &str) -> bool {
    let name = name.strip_prefix(trust::conventions::CLIENT_SYSTEM);
    name.is_some_and(|name| name.starts_with('|'))
}

impl Task {
    /// A task was completed where two persons are needed.
    pub(super) fn seen_by(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        outcome: Option<&str>,
        by: Option<&str>,
    ) {
        let Stand::Working { eyes, .. } = &token.stand else {
            return;
        };
        let mut eyes = eyes.clone().unwrap_or_default();
        match (eyes.first.as_deref(), by) {
            (Some(first), Some(second)) if !is_one(first, second) && !is_system(second) => {
                if outcome.is_none_or(|outcome| matches!(outcome, CONFIRMED | "done")) {
                    self.finish(engine, step, token.n, true, eyes.outcome.as_deref());
                } else {
                    engine.learn(&step.id, "outcome", json!("not_confirmed"));
                    let target = self.not_confirmed.clone().unwrap_or_default();
                    engine.leave(token.n, NOT_CONFIRMED, &target);
                }
                return;
            }
            (None, Some(first)) => {
                eyes.first = Some(first.to_owned());
                eyes.outcome = outcome.map(str::to_owned);
                engine.trail(&step.id, What::FirstDone, None);
            }
            _ => engine.trail(&step.id, What::NotCounted, None),
        }
        eyes.attempt = eyes.attempt.saturating_add(1);
        self.open_next(engine, step, token, eyes);
    }

    /// Opens the next task of a place, for whom it would be for now.
    fn open_next(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, eyes: Eyes) {
        let confirms = eyes.first.clone().map(|by| Confirms {
            by,
            outcome: eyes.outcome.clone(),
        });
        let task = engine.resource_id(token.n, &eyes.slot());
        if let Some(Stand::Working { eyes: kept, .. }) = engine.stand_mut(token.n) {
            *kept = Some(eyes);
        }
        let (role, priority) = self.whose(token);
        engine.effects.push(Effect::OpenTask {
            step: step.id.clone(),
            task,
            due_ms: token.since_ms + self.due_ms,
            whose: Some((role.to_owned(), priority.to_owned())),
            confirms,
        });
    }

    /// Title, reason and input of the task by which a second person confirms it.
    pub(super) fn confirming(
        &self,
        confirms: &Confirms,
        reason: &str,
    ) -> (String, String, Vec<Value>) {
        let said = confirms.outcome.as_deref().unwrap_or("done");
        let reason = format!(
            "Another person did this ({}). Please look at it and confirm it. {reason}",
            said.replace('_', " ")
        );
        let inputs = vec![
            input("outcome", CONFIRMED),
            input("outcome", "not_confirmed"),
            input(trust::conventions::DONE_BY, &confirms.by),
        ];
        (format!("Confirm: {}", self.title), reason, inputs)
    }

    pub(super) fn check_eyes(&self, check: &mut Check<'_, '_>, step: &Step) {
        if self.four_eyes && self.not_confirmed.is_none() {
            let words = format!(
                "`{}` has no `not_confirmed`: say what happens when the second person doesn't confirm it",
                step.id
            );
            check.findings.error("J013", step.place, words);
        }
        if !self.four_eyes && self.not_confirmed.is_some() {
            let place = check.at(step, &["not_confirmed"]);
            let words = "`not_confirmed` goes with `four_eyes: true` only, so it is never gone";
            check.findings.error("J043", place, words);
        }
    }
}
