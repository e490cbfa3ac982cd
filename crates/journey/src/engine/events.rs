//! Events of the patient's record, and what each means to where the patient stands.

use super::{Effect, Engine, EngineError, Event, Fact, moment};
use crate::definition::{ExitTrigger, StepKind, Trigger};
use crate::state::{Stand, What};
use crate::time::{DAY_MS, Slot};
use crate::units;
use crate::watch::number;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl Engine<'_> {
    pub(super) fn event(&mut self, event: &Event) -> Result<(), EngineError> {
        let definition = self.definition;
        if event.fact == Fact::EntryGone {
            self.end(super::STARTED_IN_ERROR, "Started in error", true);
            return Ok(());
        }
        let own = event.reference == format!("{}/{}", definition.entry.event, self.state.key);
        for exit in &definition.exits {
            let hit = match exit.trigger {
                ExitTrigger::Event(condition) => !own && event.holds.contains(&condition),
                ExitTrigger::ConsentWithdrawn => {
                    matches!(
                        event.fact,
                        Fact::Consent {
                            permitted: false,
                            ..
                        }
                    )
                }
            };
            if hit {
                self.end(&exit.id, &exit.title, exit.close_tasks);
                return Ok(());
            }
        }
        match &event.fact {
            Fact::Observation { .. } => {
                self.measure(&event.fact);
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
            Fact::Anchors(anchors) => {
                // Nobody has asked the consents for this: what wakes the journey for them still has to.
                let consents_ms = self.state.consents_ms;
                self.anchors(anchors)?;
                if self.state.running() {
                    self.state.consents_ms = consents_ms;
                }
            }
            Fact::Consent { next_ms, .. } => self.state.consents_ms = *next_ms,
            Fact::EntryGone | Fact::Other => {}
        }
        self.awaited_events(event)
    }

    /// Waits for an event whose condition holds. Only those are moved on that waited before the event
    /// came, so one event can't run through two waits.
    pub(super) fn awaited_events(&mut self, event: &Event) -> Result<(), EngineError> {
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

    pub(super) fn anchors(&mut self, anchors: &BTreeMap<String, u64>) -> Result<(), EngineError> {
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

    pub(super) fn measure(&mut self, fact: &Fact) {
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
            // A clock that runs wrong must not push the window into the future: readings of now would lie
            // before it, and nobody would look at them. What was dated anew like that is taken out.
            let usable = !over && *at_ms <= self.context.now_ms + DAY_MS;
            let value = value
                .as_ref()
                .filter(|_| usable)
                .and_then(|(value, unit)| units::convert(*value, unit, &rule.unit));
            if let Some(watch) = self.state.watches.get_mut(&step.id) {
                watch.record(rule, id, *at_ms, value);
            }
        }
    }

    pub(super) fn look_at_watches(&mut self) -> Result<(), EngineError> {
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

    pub(super) fn answers(
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
        if let Some(token) = open.and_then(|n| self.token(n).cloned()) {
            self.call_off(&token, super::CALLED_OFF, "Answered");
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

    pub(super) fn task(
        &mut self,
        id: &str,
        status: &str,
        outcome: Option<&str>,
    ) -> Result<(), EngineError> {
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

    pub(super) fn visit(
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
}
