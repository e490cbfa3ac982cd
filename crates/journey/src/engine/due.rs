//! Time: what is due, soonest first.

use super::messages::{CALLED_OFF, EXPIRED};
use super::{CONSENTS, Effect, Engine, EngineError, MOVES_MAX, timers, wait_end};
use crate::definition::{Overdue, StepKind};
use crate::state::{Late, Stand, What, Which};
use serde_json::json;

impl Engine<'_> {
    /// Does what is due, soonest first.
    pub(super) fn due(&mut self) -> Result<(), EngineError> {
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
            // Whoever wakes the journey has asked the consents before, and said what they say.
            if name == CONSENTS {
                self.state.consents_ms = None;
                continue;
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

    pub(super) fn timer(&mut self, n: u32, slot: &str) -> Result<(), EngineError> {
        let (step, token) = self.step_of(n)?;
        match (&step.kind, &token.stand, slot) {
            (StepKind::Send(send), Stand::Sending { channel, .. }, _) => {
                if let Some(used) = send.message.channels.get(usize::from(*channel)).copied() {
                    self.trail(
                        &step.id,
                        What::Undelivered {
                            channel: used,
                            which: Which::Message,
                            code: EXPIRED.to_owned(),
                        },
                        None,
                    );
                }
                self.call_off(&token, EXPIRED, "Not delivered in time");
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
                self.call_off(&token, CALLED_OFF, "No answer in time");
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
}
