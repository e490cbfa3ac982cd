//! Whether a patient who has taken a journey may take it again now.

use super::starts::in_error;
use crate::Journeys;
use crate::books::all_internals;
use crate::definition::Definition;
use crate::mover::{MoveError, Mover};
use crate::state::State;
use crate::time::say_duration;
use trust::kinds;

/// The times that a patient has taken a journey.
#[derive(Debug, Default)]
struct Taken {
    times: usize,
    began_ms: Option<u64>,
    ended_ms: Option<u64>,
}

impl Taken {
    fn add(&mut self, state: &State) {
        // What was started in error was never taken.
        if in_error(state) {
            return;
        }
        self.times += 1;
        self.began_ms = self.began_ms.max(Some(state.started_ms));
        let ended = state.ended.as_ref().map(|ended| ended.at_ms);
        self.ended_ms = self.ended_ms.max(ended);
    }
}

impl Journeys {
    /// Why the entry's rule keeps a patient from taking a journey again, in words; nothing where it doesn't.
    pub(crate) async fn not_again(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        patient: &str,
        now_ms: u64,
    ) -> Result<Option<String>, MoveError> {
        let again = definition.entry.again;
        if again.after_ms.is_none() && again.at_most.is_none() {
            return Ok(None);
        }
        let is_it = |state: &State| state.patient == patient && state.journey == definition.name;
        let mut taken = Taken::default();
        let mut moved: Vec<&str> = Vec::new();
        for one in mover.movers() {
            // The last word on an instance is the state to which it came in this unit of work.
            if is_it(&one.after) && !moved.contains(&one.instance.as_str()) {
                moved.push(&one.instance);
                if let Some(after) = mover.moved(&one.instance) {
                    taken.add(after);
                }
            }
        }
        let tokens = [("patient", patient), ("journey", definition.name.as_str())];
        let kind = kinds::JOURNEY_INSTANCE;
        for stored in all_internals(self.vault(), mover.permit(), kind, &tokens).await? {
            if moved.contains(&stored.id.as_str()) {
                continue;
            }
            let state = State::from_json(&stored.body)?;
            // Tokens can collide.
            if is_it(&state) {
                taken.add(&state);
            }
        }
        if let Some(at_most) = again.at_most
            && taken.times >= at_most
        {
            return Ok(Some(format!(
                "The patient has taken it as often as it may be taken: {at_most} times"
            )));
        }
        let (last_ms, what) = if again.since_began {
            (taken.began_ms, "began")
        } else {
            (taken.ended_ms, "ended")
        };
        let early = again.after_ms.zip(last_ms).filter(|(after_ms, last_ms)| {
            // A clock that was set back makes nobody wait for longer than that.
            now_ms.saturating_sub(*last_ms) < *after_ms
        });
        Ok(early.map(|(after_ms, _)| {
            format!(
                "The last time {what} less than {} ago",
                say_duration(after_ms)
            )
        }))
    }
}
