//! A journey that asks about segments: who is in them, as the record and the time have it.

use super::{By, Player};
use crate::engine::Event;
use crate::scenario::file::Given;
use crate::segments::soonest;
use std::collections::BTreeMap;

/// What is known of the segments.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When time alone may change something.
    next_ms: Option<u64>,
    /// Whether the patient is in the segment that begins the journey.
    inside: bool,
    /// Since when.
    since_ms: u64,
    /// Whether it has begun for that, or was kept from beginning.
    told: bool,
    /// Whether that segment is waited for.
    waits: bool,
    arms: BTreeMap<String, String>,
    /// Why the journey did not begin.
    idle: Option<String>,
}

impl Player<'_> {
    /// Takes in who the patient is when the scenario begins.
    pub(super) fn await_segment(&mut self, given: &Given) -> Result<(), String> {
        self.now_ms = given
            .now_ms
            .ok_or("`given` needs `now`: when the patient is looked at first".to_owned())?;
        self.looks.arms = given.arms.clone();
        self.looks.waits = true;
        self.look_at_segments()
    }

    /// When time alone may bring the patient into a segment, or out of one.
    pub(super) fn looks_ms(&self) -> Option<u64> {
        let over = self.run.is_some() && self.running().is_none();
        self.looks.next_ms.filter(|_| !over)
    }

    /// Whether the journey waits for its segment still.
    pub(super) fn awaits_segment(&self) -> bool {
        self.looks.waits && self.run.is_none()
    }

    /// Looks at the segments, as the runner does when something was written or its timer is due.
    pub(super) fn look_at_segments(&mut self) -> Result<(), String> {
        let (definition, now_ms) = (self.definition, self.now_ms);
        self.looks.next_ms = None;
        if self.awaits_segment()
            && let Some(segment) = definition.begins_by()
        {
            let found = segment.look(&self.stage.known(definition), &definition.zone, now_ms);
            self.looks.next_ms = found.next_ms;
            let was = self.looks.inside;
            self.looks.inside = found.inside.unwrap_or(was);
            if self.looks.inside && !was {
                (self.looks.since_ms, self.looks.told) = (now_ms, false);
            }
            if self.looks.inside && !self.looks.told {
                if self.stage.permitted(definition, now_ms) {
                    self.looks.told = true;
                    let arms = std::mem::take(&mut self.looks.arms);
                    self.looks.idle = self.begin(&By::Segment, &arms)?;
                    self.looks.arms = arms;
                } else {
                    self.looks.idle = Some("consents don't allow it".to_owned());
                }
            }
        }
        if self.running().is_some() {
            let (holds, next_ms) = self.stage.segments(definition, now_ms);
            self.looks.next_ms = soonest(self.looks.next_ms, next_ms);
            if holds.is_empty() {
                return Ok(());
            }
            if let Some(run) = &mut self.run {
                let event = Event::of_segments(holds);
                run.input(crate::engine::Input::Event(event), &mut self.stage)
                    .map_err(|error| error.to_string())?;
            }
            self.read_own()?;
        }
        Ok(())
    }

    /// By what the instance is keyed.
    pub(super) fn segment_key(&self) -> String {
        let name = self
            .definition
            .begins_by()
            .map_or("", |segment| &segment.name);
        crate::segments::key(super::PATIENT, name, self.looks.since_ms)
    }

    /// Why the journey has not begun by its segment, if it waits for one.
    pub(super) fn why_not_in(&mut self) -> Option<String> {
        if !self.looks.waits {
            return None;
        }
        let why = self.looks.idle.take();
        Some(why.unwrap_or_else(|| "the patient is not in its segment".to_owned()))
    }
}
