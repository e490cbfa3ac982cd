//! Time: what is due, soonest first.

use super::{CONSENTS, Engine, EngineError, MOVES_MAX, timers};

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
            if name.starts_with(super::room::TIMER) {
                self.ask_again()?;
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
            let (step, token) = self.step_of(n)?;
            step.kind.due(self, step, &token, slot)?;
            self.run()?;
        }
    }
}
