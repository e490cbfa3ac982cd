//! Dates that may be past when somebody comes to wait for them.
//!
//! For each step: how long after the journey's start somebody may come there at the latest, by what each
//! kind says of its ways. Where nobody can know, it is the longest that the journey lasts.

use super::Check;
use crate::spec::START_ANCHOR;
use crate::time::{HOUR_MS, Moment};

/// With a time of day a moment may lie this much before the same distance in hours: a day that is longer by
/// the change of the clocks.
const DAY_AT_MOST_MS: u64 = 25 * HOUR_MS;

impl Check<'_, '_> {
    /// The latest that each step is come to, after the start.
    pub(super) fn arrivals(&self) -> Vec<u64> {
        let (definition, most_ms) = (self.definition, self.definition.at_most_ms);
        let steps = &definition.steps;
        let mut latest: Vec<Option<u64>> = steps
            .iter()
            .map(|step| step.kind.watches().then_some(most_ms))
            .collect();
        let late = definition.entry.late().into_iter();
        for first in late
            .chain([&definition.start])
            .flat_map(|start| &start.steps)
        {
            latest[*first] = Some(latest[*first].unwrap_or(0));
        }
        // Each pass takes the times one way further; what still grows then goes round.
        for pass in 0..=steps.len() {
            let mut grew = false;
            for (index, step) in steps.iter().enumerate() {
                let Some(here_ms) = latest[index] else {
                    continue;
                };
                for way in step.ways() {
                    let stay_ms = step.kind.leaves_within(definition, &way.label);
                    let there_ms = match stay_ms {
                        Some(stay_ms) if pass < steps.len() => here_ms.saturating_add(stay_ms),
                        _ => most_ms,
                    };
                    let there_ms = there_ms.min(most_ms);
                    for target in &way.target.steps {
                        if latest[*target].is_none_or(|known_ms| known_ms < there_ms) {
                            latest[*target] = Some(there_ms);
                            grew = true;
                        }
                    }
                }
            }
            if !grew {
                break;
            }
        }
        latest
            .into_iter()
            .map(|latest_ms| latest_ms.unwrap_or(0))
            .collect()
    }

    /// Whether a moment may be past for who comes this long after the start at the latest.
    fn may_be_past(&self, moment: &Moment, arrival_ms: u64) -> bool {
        let entry = &self.definition.entry;
        let first = entry.anchors.first().map(|(name, _)| name);
        // How long before the start the anchor may lie.
        let before_ms = if moment.anchor == START_ANCHOR {
            Some(0)
        } else if first == Some(&moment.anchor) {
            entry.before_ms()
        } else {
            None
        };
        let Some(before_ms) = before_ms else {
            return true;
        };
        let day_ms = if moment.at.is_some() {
            DAY_AT_MOST_MS
        } else {
            0
        };
        let before = i128::from(before_ms) + i128::from(day_ms);
        i128::from(moment.offset_ms) - before < i128::from(arrival_ms)
    }

    pub(super) fn dates(&mut self) {
        let arrivals = self.arrivals();
        for (step, arrival_ms) in self.definition.steps.iter().zip(arrivals) {
            let Some(moment) = step.kind.comes_to_late() else {
                continue;
            };
            if self.may_be_past(moment, arrival_ms) {
                let place = self.at(step, &["wait", "until"]);
                let words = format!(
                    "this may be past when a patient comes to `{}`; say with `past_due` what happens then: `run`, `skip` or `escalate`",
                    step.id
                );
                self.findings.error("J044", place, words);
            }
        }
    }
}
