//! What is to be done several times: `timingTiming` as rounds.
//!
//! A round begins a period after the one before, because beside what is done in it a wait as long as the period runs;
//! where what is done takes longer, the next round begins when it is over.

use super::Importing;
use super::texts::{LONGEST_MINUTES, minutes, written};
use serde_json::Value;

/// The most rounds of a `repeat`.
const ROUNDS_MAX: f64 = 1000.0;
/// How long a journey that is imported may last at least, in minutes: what its header says where nothing takes longer.
pub(super) const AT_MOST_MINUTES: f64 = 365.0 * 1440.0;

/// Rounds of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rounds {
    pub(super) times: u32,
    /// From the beginning of a round to that of the next.
    pub(super) period_minutes: f64,
    /// How long what is done in one lasts, if that is said.
    pub(super) lasts: Option<String>,
}

impl Rounds {
    /// The wait that runs beside what is done in a round: all of the period but the pause.
    pub(super) fn gap(&self) -> String {
        written(self.period_minutes - 1.0).unwrap_or_else(|| "1m".to_owned())
    }
}

impl Importing<'_> {
    /// Reads how often an action is done: its own timing, or else that of what it is defined by.
    pub(super) fn read_rounds(&mut self, of: usize) {
        let action = &self.actions[of];
        let own_place = action.place.clone();
        if !days_of_cycle(action.value).is_empty() {
            self.leave(
                &format!("{own_place}.extension"),
                "days of a cycle are not carried over; write a `wait` in the round for each",
            );
        }
        let has_own = TIMINGS
            .iter()
            .any(|name| self.actions[of].value.get(name).is_some());
        let (timing, place) = match self.actions[of].value.get("timingTiming") {
            Some(timing) => (timing, format!("{own_place}.timingTiming")),
            None if has_own => return,
            None => {
                let defined = self.definition(of);
                let timing = defined.and_then(|one| one.get("timingTiming"));
                let Some(timing) = timing else { return };
                (
                    timing,
                    format!("{own_place}.definitionCanonical.timingTiming"),
                )
            }
        };
        match rounds(timing) {
            Ok((rounds, told)) => {
                for words in told {
                    self.leave(&place, words);
                }
                self.actions[of].rounds = rounds;
            }
            Err(words) => self.leave(&place, words),
        }
    }
}

/// The forms of `timing[x]`.
const TIMINGS: [&str; 6] = [
    "timingDateTime",
    "timingAge",
    "timingPeriod",
    "timingDuration",
    "timingRange",
    "timingTiming",
];

fn days_of_cycle(action: &Value) -> Vec<&Value> {
    let list = action["extension"].as_array();
    let is =
        |one: &&Value| one["url"] == "http://hl7.org/fhir/StructureDefinition/timing-daysOfCycle";
    list.into_iter().flatten().filter(is).collect()
}

/// The rounds of a `Timing`, none where it is done once, and what of it is not in them; in words why there are none.
fn rounds(timing: &Value) -> Result<(Option<Rounds>, Vec<String>), String> {
    let mut told = Vec::new();
    let Some(repeat) = timing.get("repeat").filter(|repeat| repeat.is_object()) else {
        return Err(
            if timing.get("event").is_some() || timing.get("_event").is_some() {
                "are moments of their own; say after what it comes".to_owned()
            } else {
                "is a code or nothing that says how often; write a `repeat` around the step"
                    .to_owned()
            },
        );
    };
    let number = |name: &str| repeat.get(name).and_then(Value::as_f64);
    let length = |value: &str, unit: &str| {
        let (value, unit) = (number(value)?, repeat.get(unit)?.as_str()?);
        minutes(value, unit)
    };
    let period = length("period", "periodUnit");
    let lasts = length("duration", "durationUnit");
    let Some(period) = period.or(lasts) else {
        return Err(
            "doesn't say how far apart the times are; write a `repeat` around the step".to_owned(),
        );
    };
    let frequency = number("frequency").unwrap_or(1.0).max(1.0);
    let each = (period / frequency).floor();
    if each < 2.0 {
        return Err("is more often than every two minutes, which no journey does".to_owned());
    }
    if each > LONGEST_MINUTES {
        return Err("has times more than ten years apart, which no journey waits".to_owned());
    }
    if each * frequency < period {
        told.push(format!(
            "is {frequency} times in a period that doesn't divide by it; rounds begin every {each} minutes, which is a little sooner"
        ));
    }
    for (name, words) in [
        (
            "countMax",
            "may be more often; the smaller number is written",
        ),
        (
            "frequencyMax",
            "may be more often; the smaller number is written",
        ),
        (
            "periodMax",
            "may be further apart; the shorter time is written",
        ),
        (
            "durationMax",
            "may last longer; the shorter time is written",
        ),
        (
            "dayOfWeek",
            "names days of the week, which rounds don't keep; so long after each other they begin",
        ),
        (
            "timeOfDay",
            "names times of day, which rounds don't keep; so long after each other they begin",
        ),
        (
            "when",
            "is tied to events of the day, which rounds don't keep; so long after each other they begin",
        ),
    ] {
        if repeat.get(name).is_some() {
            told.push(format!("{name} {words}"));
        }
    }
    let bounded = bounds(repeat);
    let times = match (number("count"), bounded) {
        // What is bounded by both ends with the first of them.
        (Some(count), Some(Ok(bounds))) => count.min((bounds / each).floor()),
        (Some(count), _) => count,
        (None, Some(Ok(bounds))) => (bounds / each).floor(),
        (None, Some(Err(words))) => return Err(words),
        (None, None) => {
            told.push(
                "has no end; as many rounds are written as there are in `at_most`, or a thousand"
                    .to_owned(),
            );
            (AT_MOST_MINUTES / each).floor()
        }
    };
    if times > ROUNDS_MAX {
        told.push(format!(
            "is {times} rounds; a journey has at most {ROUNDS_MAX}"
        ));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded just here"
    )]
    let times = times.clamp(1.0, ROUNDS_MAX) as u32;
    let lasts = lasts.and_then(written);
    let rounds = Rounds {
        times,
        period_minutes: each,
        lasts,
    };
    Ok(((times > 1).then_some(rounds), told))
}

/// For how long, in minutes; in words where that can't be said.
fn bounds(repeat: &Value) -> Option<Result<f64, String>> {
    let of = |length: &Value| {
        let unit = length["code"].as_str().or_else(|| length["unit"].as_str());
        let found = length["value"].as_f64().zip(unit);
        let found = found.and_then(|(value, unit)| minutes(value, unit));
        found.ok_or_else(|| {
            "is bounded by what is no length of time here; write a `repeat` around the step"
                .to_owned()
        })
    };
    if let Some(length) = repeat.get("boundsDuration") {
        return Some(of(length));
    }
    if let Some(range) = repeat.get("boundsRange") {
        return Some(of(range.get("low").or_else(|| range.get("high"))?));
    }
    repeat.get("boundsPeriod").map(|_| {
        Err("is between two days that are the same for all patients; write a `repeat` around the step".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schedules_become_rounds() {
        for (repeat, expected) in [
            (
                json!({"count": 3, "frequency": 1, "period": 1, "periodUnit": "d"}),
                "3 of 1440, 0",
            ),
            (
                json!({"count": 4, "frequency": 2, "period": 1, "periodUnit": "d"}),
                "4 of 720, 0",
            ),
            (
                json!({"count": 6, "duration": 21, "durationUnit": "d"}),
                "6 of 30240, 0",
            ),
            (
                json!({"frequency": 1, "period": 1, "periodUnit": "wk", "boundsDuration": {"value": 1, "unit": "mo"}}),
                "4 of 10080, 0",
            ),
            (
                json!({"count": 9, "period": 1, "periodUnit": "wk", "boundsDuration": {"value": 2, "code": "wk"}}),
                "2 of 10080, 0",
            ),
            (json!({"period": 1, "periodUnit": "h"}), "1000 of 60, 2"),
            (
                json!({"period": 1, "periodUnit": "mo", "dayOfWeek": ["mon"]}),
                "12 of 43200, 2",
            ),
            (
                json!({"count": 1, "period": 1, "periodUnit": "d"}),
                "once, 0",
            ),
            (
                json!({"count": 7, "frequency": 7, "period": 1, "periodUnit": "d"}),
                "7 of 205, 1",
            ),
            (
                json!({"count": 2, "period": 11, "periodUnit": "a"}),
                "ten years apart",
            ),
            (json!({"frequency": 1}), "doesn't say how far"),
            (
                json!({"count": 3, "period": 10, "periodUnit": "s"}),
                "doesn't say how far",
            ),
            (
                json!({"count": 3, "period": 1, "periodUnit": "min"}),
                "every two minutes",
            ),
            (
                json!({"period": 1, "periodUnit": "d", "boundsPeriod": {"start": "2026-01-01"}}),
                "same for all",
            ),
        ] {
            let said = match rounds(&json!({"repeat": repeat})) {
                Ok((Some(rounds), told)) => {
                    format!(
                        "{} of {}, {}",
                        rounds.times,
                        rounds.period_minutes,
                        told.len()
                    )
                }
                Ok((None, told)) => format!("once, {}", told.len()),
                Err(words) => words,
            };
            assert!(said.contains(expected), "{repeat}: {said}");
        }
        assert!(
            rounds(&json!({"event": ["2026-01-01"]}))
                .unwrap_err()
                .contains("moments")
        );
    }
}
