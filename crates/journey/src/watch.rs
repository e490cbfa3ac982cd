//! Windowed rules over measurements: has a value risen (or fallen) by more than so much within so long?

use crate::kinds::Observe;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most readings that a watch keeps. A scale that reports each minute gives 4,320 in three days;
/// beyond this, of two neighbours the one that can't start a greater rise is dropped.
const READINGS_MAX: usize = 256;

/// What a rule remembers of one patient.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watch {
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    readings: Vec<Reading>,
    /// Only readings at or after this may start a rise: the one that fired last.
    #[serde(rename = "b", default)]
    base_ms: u64,
    /// Only readings after this may end a rise: the journey's beginning, then the one that fired last.
    #[serde(rename = "a", default)]
    after_ms: u64,
    /// Quiet until then.
    #[serde(rename = "q", default)]
    quiet_until_ms: u64,
    /// Whether a rise waits for the quiet time to end.
    #[serde(rename = "p", default)]
    pending: bool,
}

/// One measurement, in the rule's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reading {
    #[serde(rename = "i")]
    pub(crate) id: String,
    #[serde(rename = "t")]
    pub(crate) at_ms: u64,
    /// In millionths: whole numbers compare exactly and come back from the store as they went in.
    #[serde(rename = "v")]
    pub(crate) value_millionths: i64,
}

/// Two measurements that fulfil a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) from_millionths: i64,
    pub(crate) to_millionths: i64,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// A value in millionths. What no measurement of a living being reaches is cut off.
#[allow(clippy::cast_possible_truncation, reason = "bounded just before")]
pub(crate) fn millionths(value: f64) -> i64 {
    (value.clamp(-1e9, 1e9) * 1e6).round() as i64
}

/// A number for people and conditions, with no more digits than it has.
pub(crate) fn number(millionths: i64) -> Value {
    let (whole, part) = (
        millionths.unsigned_abs() / 1_000_000,
        millionths.unsigned_abs() % 1_000_000,
    );
    let sign = if millionths < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{part:06}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    serde_json::from_str(text).unwrap_or(Value::Null)
}

impl Watch {
    /// A watch that looks for rises that end after `after_ms`.
    pub(crate) fn new(after_ms: u64) -> Self {
        Self {
            after_ms,
            ..Self::default()
        }
    }
    /// When the watch wants to be looked at though nothing was measured.
    pub(crate) fn timer_ms(&self) -> Option<u64> {
        self.pending.then_some(self.quiet_until_ms)
    }
    /// Takes a measurement in, or its correction; `None` for the value takes it out. Whether anything changed.
    pub(crate) fn record(
        &mut self,
        rule: &Observe,
        id: &str,
        at_ms: u64,
        value: Option<f64>,
    ) -> bool {
        let value = value.map(millionths);
        let known = self.readings.iter().position(|reading| reading.id == id);
        if let Some(place) = known {
            let reading = &self.readings[place];
            if value == Some(reading.value_millionths) && at_ms == reading.at_ms {
                return false;
            }
            self.readings.remove(place);
        }
        let Some(value) = value else {
            return known.is_some();
        };
        let newest = self
            .readings
            .last()
            .map_or(at_ms, |reading| reading.at_ms.max(at_ms));
        // Twice the window, because a late reading may still pair with one before it.
        let horizon = newest
            .saturating_sub(rule.within_ms.saturating_mul(2))
            .max(self.base_ms);
        if at_ms < horizon {
            self.readings.retain(|reading| reading.at_ms >= horizon);
            return known.is_some();
        }
        let place = self
            .readings
            .partition_point(|reading| (reading.at_ms, reading.id.as_str()) < (at_ms, id));
        self.readings.insert(
            place,
            Reading {
                id: id.to_owned(),
                at_ms,
                value_millionths: value,
            },
        );
        self.readings.retain(|reading| reading.at_ms >= horizon);
        if self.readings.len() > READINGS_MAX {
            // The newest stays; of the two oldest the better start of a change stays.
            let first_is_better = if rule.falls {
                self.readings[0].value_millionths >= self.readings[1].value_millionths
            } else {
                self.readings[0].value_millionths <= self.readings[1].value_millionths
            };
            self.readings.remove(usize::from(first_is_better));
        }
        true
    }
    /// Looks for a change that the rule is about; when there is one and the watch isn't quiet, it fires.
    pub(crate) fn look(&mut self, rule: &Observe, now_ms: u64) -> Option<Change> {
        let found = self.find(rule);
        if found.is_some() && now_ms < self.quiet_until_ms {
            self.pending = true;
            return None;
        }
        self.pending = false;
        let change = found?;
        self.base_ms = change.to_ms;
        self.after_ms = change.to_ms;
        self.quiet_until_ms = now_ms + rule.quiet_ms;
        Some(change)
    }
    /// The change that ends last, and of those the greatest.
    fn find(&self, rule: &Observe) -> Option<Change> {
        let sign = if rule.falls { -1 } else { 1 };
        let more_than = millionths(rule.more_than);
        self.readings
            .iter()
            .rev()
            .filter(|end| end.at_ms > self.after_ms)
            .find_map(|end| {
                self.readings
                    .iter()
                    .filter(|begin| {
                        begin.at_ms < end.at_ms
                            && begin.at_ms >= self.base_ms
                            && end.at_ms - begin.at_ms <= rule.within_ms
                    })
                    .map(|begin| {
                        (
                            sign * (end.value_millionths - begin.value_millionths),
                            begin,
                        )
                    })
                    .filter(|(difference, _)| *difference > more_than)
                    .max_by_key(|(difference, _)| *difference)
                    .map(|(_, begin)| Change {
                        from_millionths: begin.value_millionths,
                        to_millionths: end.value_millionths,
                        from_ms: begin.at_ms,
                        to_ms: end.at_ms,
                    })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Target;
    use crate::time::{DAY_MS, HOUR_MS};

    fn rule() -> Observe {
        Observe {
            code: "29463-7".into(),
            unit: "kg".into(),
            more_than: 2.0,
            falls: false,
            within_ms: 3 * DAY_MS,
            quiet_ms: DAY_MS,
            until: None,
            then: Target::default(),
        }
    }

    /// Runs readings (hour, kg) in order of arrival; says after which arrivals the rule fired.
    fn fires(rule: &Observe, readings: &[(u64, f64)]) -> Vec<usize> {
        let mut watch = Watch::new(0);
        let mut now = 0;
        readings
            .iter()
            .enumerate()
            .filter_map(|(place, (hour, value))| {
                now = now.max(hour * HOUR_MS);
                watch.record(rule, &format!("o{place}"), hour * HOUR_MS, Some(*value));
                watch.look(rule, now).map(|_| place)
            })
            .collect()
    }

    #[test]
    fn numbers_have_no_more_digits_than_they_need() {
        for (value, expected) in [
            (2.0, "2"),
            (2.4, "2.4"),
            (-0.25, "-0.25"),
            (84.31 - 82.3, "2.01"),
            (0.0, "0"),
        ] {
            assert_eq!(number(millionths(value)).to_string(), expected);
        }
    }

    #[test]
    fn a_rise_fires_once() {
        type Case = (&'static str, &'static [(u64, f64)], &'static [usize]);
        let table: &[Case] = &[
            (
                "exactly two kilograms is not more than two",
                &[(24, 82.3), (48, 84.3)],
                &[],
            ),
            (
                "more than two within three days",
                &[(24, 82.0), (48, 83.0), (72, 84.1)],
                &[2],
            ),
            (
                "too slow",
                &[(24, 82.0), (48, 82.5), (72, 83.0), (97, 84.2)],
                &[],
            ),
            ("the window's edge counts", &[(24, 82.0), (96, 84.1)], &[1]),
            (
                "the same rise again",
                &[(24, 82.0), (48, 84.1), (72, 84.2), (96, 84.3)],
                &[1],
            ),
            (
                "a further rise after the quiet time",
                &[(24, 82.0), (48, 84.1), (84, 86.2)],
                &[1, 2],
            ),
            (
                "down and up again",
                &[(24, 84.5), (48, 82.0), (72, 84.1)],
                &[2],
            ),
            ("readings that come late", &[(72, 84.1), (24, 82.0)], &[1]),
            (
                "a late reading of the rise that fired",
                &[(24, 82.0), (72, 84.1), (48, 81.0)],
                &[1],
            ),
        ];
        for (name, readings, expected) in table {
            assert_eq!(&fires(&rule(), readings), expected, "{name}");
        }
    }

    #[test]
    fn a_rise_in_the_quiet_time_fires_when_it_ends() {
        let rule = rule();
        let mut watch = Watch::new(0);
        for (id, hour, value, fires) in [
            ("a", 24, 82.0, false),
            ("b", 48, 84.5, true),
            ("c", 50, 87.0, false),
        ] {
            watch.record(&rule, id, hour * HOUR_MS, Some(value));
            assert_eq!(watch.look(&rule, hour * HOUR_MS).is_some(), fires, "{id}");
        }
        assert_eq!(watch.timer_ms(), Some(72 * HOUR_MS));
        let change = watch.look(&rule, 72 * HOUR_MS).unwrap();
        assert_eq!(
            (change.from_millionths, change.to_millionths),
            (84_500_000, 87_000_000)
        );
        assert_eq!(watch.timer_ms(), None);
    }

    #[test]
    fn repeats_and_corrections() {
        let rule = rule();
        let mut watch = Watch::new(0);
        assert!(watch.record(&rule, "a", 24 * HOUR_MS, Some(82.0)));
        assert!(!watch.record(&rule, "a", 24 * HOUR_MS, Some(82.0)));
        assert!(watch.record(&rule, "b", 48 * HOUR_MS, Some(92.0)));
        // A mistyped value is withdrawn before anybody looked.
        assert!(watch.record(&rule, "b", 48 * HOUR_MS, None));
        assert!(watch.look(&rule, 48 * HOUR_MS).is_none());
        assert!(watch.record(&rule, "a", 24 * HOUR_MS, Some(80.0)));
        watch.record(&rule, "c", 49 * HOUR_MS, Some(82.1));
        assert!(watch.look(&rule, 49 * HOUR_MS).is_some());
    }

    #[test]
    fn a_rise_that_ended_before_the_journey_began_is_none() {
        let rule = rule();
        let mut watch = Watch::new(50 * HOUR_MS);
        watch.record(&rule, "a", 24 * HOUR_MS, Some(82.0));
        watch.record(&rule, "b", 48 * HOUR_MS, Some(85.0));
        assert!(watch.look(&rule, 51 * HOUR_MS).is_none());
        watch.record(&rule, "c", 60 * HOUR_MS, Some(85.0));
        assert!(watch.look(&rule, 60 * HOUR_MS).is_some());
    }

    #[test]
    fn falls_and_bounds() {
        let rule = Observe {
            falls: true,
            ..rule()
        };
        assert_eq!(fires(&rule, &[(24, 84.0), (48, 81.9)]), [1]);
        let mut watch = Watch::new(0);
        for minute in 0..600u64 {
            watch.record(
                &rule,
                &format!("o{minute}"),
                minute * 60_000,
                Some(80.0 - f64::from(u32::try_from(minute).unwrap()) / 10_000.0),
            );
            assert!(watch.look(&rule, minute * 60_000).is_none());
        }
        assert!(watch.readings.len() <= READINGS_MAX);
        // The highest reading of the window is still known.
        watch.record(&rule, "last", 601 * 60_000, Some(77.9));
        assert_eq!(
            watch.look(&rule, 601 * 60_000).unwrap().from_millionths,
            80_000_000
        );
    }
}
