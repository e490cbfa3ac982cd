//! Events of the patient's record, and what each means to where the patient stands.

use super::{Engine, EngineError, Event, Fact};
use crate::definition::ExitTrigger;
use crate::segments::CAUSE;
use crate::state::{Stand, What};
use fhir::ResourceType;
use serde_json::json;
use std::collections::BTreeMap;

impl Engine<'_> {
    pub(super) fn event(&mut self, event: &Event) -> Result<(), EngineError> {
        let definition = self.definition;
        if event.fact == Fact::EntryGone {
            self.end(super::STARTED_IN_ERROR, "Started in error", true);
            return Ok(());
        }
        if event.fact == Fact::LetGo {
            self.end("stopped", "Ended with the journey that began it", true);
            return Ok(());
        }
        let own = definition
            .entry
            .kind()
            // A patient starts journeys by a date in their own resource, and may die by it too.
            .filter(|kind| *kind != ResourceType::Patient)
            .is_some_and(|kind| event.reference == format!("{kind}/{}", self.state.key));
        for exit in &definition.exits {
            let hit = match exit.trigger {
                ExitTrigger::Event(condition) => !own && event.holds.contains(&condition),
                ExitTrigger::Segment(membership) => event.holds.contains(&membership.hold()),
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
        // Before anything comes of it: what that puts off is not for this event any more.
        // Who comes to a wait for a segment is told then how it is.
        if self.has_put_off() && event.reference != CAUSE {
            self.remember(&event.holds)?;
        }
        self.goals(event);
        if self.state.ended.is_some() {
            return Ok(());
        }
        match &event.fact {
            Fact::Observation { .. } => {
                let before = (self.state.paused.is_some()).then(|| self.state.watches.clone());
                self.measure(&event.fact);
                // No time is up while a journey is held: what is no news must not find out that it is.
                if before.is_none_or(|before| before != self.state.watches) {
                    self.look_at_watches()?;
                }
            }
            Fact::Answers { .. }
            | Fact::Reply { .. }
            | Fact::Task { .. }
            | Fact::Call { .. }
            | Fact::Visit { .. } => {
                self.told(&event.fact)?;
            }
            Fact::Message { id, outcome } => self.receipt(id, outcome)?,
            Fact::Anchors(anchors) => {
                // Nobody has asked the consents for this: what wakes the journey for them still has to.
                let consents_ms = self.state.consents_ms;
                self.anchors(anchors)?;
                if self.state.running() {
                    self.state.consents_ms = consents_ms;
                }
            }
            Fact::Consent { next_ms, .. } => self.state.consents_ms = *next_ms,
            Fact::EntryGone | Fact::LetGo | Fact::Other => {}
        }
        self.awaited(&event.holds)?;
        if event.reference.starts_with("Patient/") {
            // Who has moved may have another hour.
            self.ask_all()?;
        }
        Ok(())
    }

    /// Goals that the event reaches and none before it did.
    fn goals(&mut self, event: &Event) {
        let definition = self.definition;
        for step in &definition.steps {
            let aims = step.kind.aims();
            let hit = aims.is_some_and(|condition| event.holds.contains(&condition));
            if !hit || self.state.goals.contains_key(&step.id) {
                continue;
            }
            let now_ms = self.context.now_ms;
            self.state.goals.insert(step.id.clone(), now_ms);
            self.learn(&step.id, "reached", json!(true));
            self.trail(&step.id, What::Reached, None);
            step.kind.reached(self, step);
            if self.state.ended.is_some() {
                return;
            }
        }
    }

    /// Waits for an event whose condition holds, or for an answer. Only those are moved on that waited before the event
    /// came, so one event can't run through two waits.
    pub(super) fn awaited(&mut self, holds: &[usize]) -> Result<(), EngineError> {
        let waiting: Vec<u32> = self
            .state
            .tokens
            .iter()
            .filter(|token| matches!(token.stand, Stand::Waiting | Stand::Gathering { .. }))
            .map(|token| token.n)
            .collect();
        for n in waiting {
            if self.token(n).is_none() || self.state.ended.is_some() {
                continue;
            }
            let (step, _) = self.step_of(n)?;
            step.kind.heard(self, n, holds);
            self.run()?;
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
        let definition = self.definition;
        for step in &definition.steps {
            step.kind.measured(self, step, fact);
        }
    }

    pub(super) fn look_at_watches(&mut self) -> Result<(), EngineError> {
        let definition = self.definition;
        for step in &definition.steps {
            if !step.kind.look(self, step) {
                continue;
            }
            self.run()?;
            if self.state.ended.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A fact about what is waited for somewhere, or about what was given up on but still counts.
    fn told(&mut self, fact: &Fact) -> Result<(), EngineError> {
        let definition = self.definition;
        self.whole()?;
        let open = self.state.tokens.iter().find(|token| {
            definition
                .step(&token.step)
                .is_some_and(|step| step.kind.claims(self, token, fact))
        });
        if let Some(n) = open.map(|token| token.n) {
            let (step, token) = self.step_of(n)?;
            step.kind.told(self, step, &token, fact);
            return self.run();
        }
        let late = self.state.late.iter().position(|late| {
            definition
                .step(&late.step)
                .is_some_and(|step| step.kind.claims_late(self, late, fact))
        });
        let Some(place) = late else {
            return self.told_of_closed(fact);
        };
        let late = self.state.late.remove(place);
        let step = definition
            .step(&late.step)
            .ok_or_else(|| EngineError::NoStep(late.step.clone()))?;
        step.kind.told_late(self, step, &late, fact);
        self.run()
    }

    /// What a patient wrote while a form was open comes here when it is closed, as the two came in one moment: somebody
    /// reads it all the same, and it changes nothing else.
    fn told_of_closed(&mut self, fact: &Fact) -> Result<(), EngineError> {
        let Fact::Reply { task } = fact else {
            return Ok(());
        };
        let (definition, reference) = (self.definition, format!("Task/{task}"));
        let mut trail = self.state.trail.iter().rev();
        let opened = trail.find(|entry| {
            matches!(entry.what, What::Entered) && entry.reference.as_ref() == Some(&reference)
        });
        let step = opened.and_then(|entry| definition.step(&entry.step));
        let Some(step) = step else { return Ok(()) };
        step.kind.unread(self, step);
        self.run()
    }
}
