//! How long a plan takes at the longest, so that the journey's `at_most` cuts nothing of it off.

use super::repeats::AT_MOST_MINUTES;
use super::texts::{LONGEST_MINUTES, read, wait};
use super::{Importing, is_choice};

/// A day: what is written where a plan doesn't say how soon something is to be done.
const DAY_MINUTES: f64 = 1440.0;
/// What is left for work that is done late.
const LATE_MINUTES: f64 = 30.0 * DAY_MINUTES;

/// What was worked out of actions: when they begin after the beginning of their group, and how long they take.
#[derive(Default)]
struct Lasting {
    begins: Vec<Option<f64>>,
    lengths: Vec<Option<f64>>,
}

impl Importing<'_> {
    /// The days that a journey may last. What reaches past the longest that there is, is told.
    pub(super) fn days(&mut self) -> u64 {
        let none = vec![None; self.actions.len()];
        let mut lasting = Lasting {
            begins: none.clone(),
            lengths: none,
        };
        let mut longest = 0.0_f64;
        let mut past = Vec::new();
        for of in 0..self.actions.len() {
            let mut ends = self.begins(&mut lasting, of) + self.length(&mut lasting, of);
            let mut around = self.actions[of].parent;
            while let Some(parent) = around {
                ends += self.begins(&mut lasting, parent);
                around = self.actions[parent].parent;
            }
            longest = longest.max(ends);
            if ends > LONGEST_MINUTES && !self.actions[of].joins {
                past.push(self.actions[of].place.clone());
            }
        }
        for place in past {
            self.leave(
                &place,
                "reaches past `at_most`, which is ten years at the longest; what of it is later is not done",
            );
        }
        let minutes = (longest + LATE_MINUTES).clamp(AT_MOST_MINUTES, LONGEST_MINUTES);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded just here"
        )]
        let days = (minutes / DAY_MINUTES).ceil() as u64;
        days
    }

    /// How long after the beginning of its group an action begins.
    fn begins(&self, lasting: &mut Lasting, of: usize) -> f64 {
        if let Some(known) = lasting.begins[of] {
            return known;
        }
        let begins = match &self.actions[of].after {
            None => 0.0,
            Some(after) => {
                let begins = self.begins(lasting, after.of);
                let lasts = if after.end {
                    self.length(lasting, after.of)
                } else {
                    0.0
                };
                begins + lasts + after.wait.as_deref().map_or(0.0, read)
            }
        };
        lasting.begins[of] = Some(begins);
        begins
    }

    /// How long an action takes, all its rounds together.
    fn length(&self, lasting: &mut Lasting, of: usize) -> f64 {
        if let Some(known) = lasting.lengths[of] {
            return known;
        }
        let action = &self.actions[of];
        let mut once = if action.parts.is_empty() {
            self.own_length(of)
        } else {
            0.0
        };
        for part in &action.parts {
            let begins = self.begins(lasting, *part);
            let lasts = self.length(lasting, *part);
            once = once.max(begins + lasts);
            for leg in self.legs.iter().filter(|leg| leg.of == *part) {
                let from = if leg.end { begins + lasts } else { begins };
                once = once.max(from + read(&leg.wait));
            }
        }
        if is_choice(action.value) {
            once += DAY_MINUTES;
        }
        let length = action.rounds.as_ref().map_or(once, |rounds| {
            f64::from(rounds.times) * once.max(rounds.period_minutes)
        });
        lasting.lengths[of] = Some(length);
        length
    }

    /// How long what is done takes at the most: until it is due, or until no answer is waited for any more.
    fn own_length(&self, of: usize) -> f64 {
        let action = &self.actions[of];
        let definition = self.definition(of);
        let said = action.value.get("timingDuration");
        let said = said.or_else(|| definition?.get("timingDuration"));
        let said = said.and_then(wait);
        let in_round = action.rounds.as_ref().and_then(|one| one.lasts.clone());
        match said.or(in_round) {
            Some(lasts) => read(&lasts),
            None if definition.is_some_and(|one| one["resourceType"] == "Questionnaire") => {
                7.0 * DAY_MINUTES
            }
            None => DAY_MINUTES,
        }
    }
}
