//! Calls to partners: that they were made, and what takes them back.

use super::Engine;
use crate::definition::Step;
use crate::state::{Owed, What};
use serde_json::{Map, Value};

/// Most calls of one journey that are remembered to be taken back. Rounds without end could make any number.
const OWED_MAX: usize = 100;

impl Engine<'_> {
    /// Notes that a partner is called from a place; `owed` says whether that may have to be taken back.
    pub(crate) fn called(&mut self, step: &Step, n: u32, partner: &str, owed: bool) {
        self.reached_out();
        let what = What::Called {
            partner: partner.to_owned(),
            back: false,
        };
        self.trail(&step.id, what, None);
        if owed {
            self.state.owed.push(Owed {
                n,
                step: step.id.clone(),
                learnt: Some(Map::new()),
            });
            let over = self.state.owed.len().saturating_sub(OWED_MAX);
            self.state.owed.drain(..over);
        }
    }

    /// Nobody can take an act by hand back that called a partner, or broke a call off: it may be done there.
    pub(crate) fn reached_out(&mut self) {
        self.outside = true;
    }

    /// Keeps what a call has learnt for what takes it back.
    pub(crate) fn keep_for_taking_back(&mut self, n: u32, learnt: Map<String, Value>) {
        let mut owed = self.state.owed.iter_mut();
        if let Some(owed) = owed.find(|owed| owed.n == n) {
            owed.learnt = Some(learnt);
        }
    }

    /// The partner is known to have done nothing of what a place asked for.
    pub(crate) fn owes_no_more(&mut self, n: u32) {
        self.state.owed.retain(|owed| owed.n != n);
    }

    /// Takes calls back, the newest first, each once.
    pub(crate) fn take_back_calls(&mut self, which: impl Fn(&Owed) -> bool) {
        let (back, stay): (Vec<Owed>, Vec<Owed>) = std::mem::take(&mut self.state.owed)
            .into_iter()
            .partition(|owed| which(owed));
        self.state.owed = stay;
        let definition = self.definition;
        for owed in back.into_iter().rev() {
            if let Some(step) = definition.step(&owed.step) {
                self.reached_out();
                let after = self.taken_back.take();
                self.taken_back = step.kind.take_back(self, step, owed, after);
            }
        }
    }
}
