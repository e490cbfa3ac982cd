//! Windowed rules over measurements: has a value risen (or fallen) by more than so much within so long, is
//! the mean beyond a bound, has there been no reading at all?

use crate::kinds::{Observe, Rule};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most readings that a watch keeps. A scale that reports each minute gives 4,320 in three days;
/// beyond this, of two neighbours the one that can't start a greater rise is dropped.
const READINGS_MAX: usize = 256;
/// Most readings that are kept to know the newest, or a single one, of which the last may turn out to be mistakes.
const NEWEST_MAX: usize = 16;

/// What a rule remembers of one patient.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watch {
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    readings: Vec<Reading>,
    /// Only readings at or after this may start a rise, and those after it are in a mean: the one that fired
    /// last. Of a silence, when the one that fired last began.
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
    /// Of a rule about single readings, those for which it has fired: a reading fires once, whatever its time says.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    fired: Vec<Reading>,
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

/// Measurements whose mean fulfils a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mean {
    pub(crate) mean_millionths: i64,
    pub(crate) readings: usize,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// What fulfils a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Change(Change),
    Mean(Mean),
}

impl Found {
    fn to_ms(&self) -> u64 {
        match self {
            Self::Change(change) => change.to_ms,
            Self::Mean(mean) => mean.to_ms,
        }
    }
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
        if rule.rule.is_single() {
            return self.record_single(rule.rule, id, at_ms, value);
        }
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
        self.bound(rule.rule);
        true
    }
    /// Takes in one reading that is beyond the bound by itself, or takes it out. Those that are not say nothing, and
    /// neither does one for which the rule has fired.
    fn record_single(&mut self, rule: Rule, id: &str, at_ms: u64, value: Option<i64>) -> bool {
        let before = self.readings.len();
        self.readings.retain(|reading| reading.id != id);
        let was_known = self.readings.len() < before;
        let Some(value_millionths) = value.filter(|value| rule.is_beyond(*value)) else {
            return was_known;
        };
        let reading = Reading {
            id: id.to_owned(),
            at_ms,
            value_millionths,
        };
        let has_fired =
            |fired: &Reading| fired.id == id && fired.value_millionths == reading.value_millionths;
        if at_ms <= self.after_ms || self.fired.iter().any(has_fired) {
            return was_known;
        }
        let place = (self.readings)
            .partition_point(|other| (other.at_ms, &other.id) < (at_ms, &reading.id));
        self.readings.insert(place, reading);
        if self.readings.len() > NEWEST_MAX {
            self.readings.remove(0);
        }
        true
    }
    /// The newest reading beyond the bound; none of those that are there now fires again.
    fn single(&mut self, rule: &Observe, now_ms: u64) -> Option<Mean> {
        self.readings
            .retain(|reading| rule.rule.is_beyond(reading.value_millionths));
        let newest = self.readings.last()?.clone();
        if now_ms < self.quiet_until_ms {
            self.pending = true;
            return None;
        }
        self.pending = false;
        self.quiet_until_ms = now_ms + rule.quiet_ms;
        self.fired.append(&mut self.readings);
        self.fired.sort_by_key(|reading| reading.at_ms);
        let over = self.fired.len().saturating_sub(NEWEST_MAX);
        for forgotten in self.fired.drain(..over) {
            // What is dated ahead hides nothing of now.
            self.after_ms = self.after_ms.max(forgotten.at_ms.min(now_ms));
        }
        Some(Mean {
            mean_millionths: newest.value_millionths,
            readings: 1,
            from_ms: newest.at_ms,
            to_ms: newest.at_ms,
        })
    }
    /// Lets go of a reading when there are too many.
    fn bound(&mut self, rule: Rule) {
        let most = match rule {
            Rule::None | Rule::Over(_) | Rule::Under(_) => NEWEST_MAX,
            _ => READINGS_MAX,
        };
        let [first, second, ..] = self.readings.as_slice() else {
            return;
        };
        if self.readings.len() <= most {
            return;
        }
        // The newest stays; of the two oldest the better start of a change stays.
        let keeps_first = match rule {
            Rule::Rises(_) => first.value_millionths <= second.value_millionths,
            Rule::Falls(_) => first.value_millionths >= second.value_millionths,
            _ => false,
        };
        self.readings.remove(usize::from(keeps_first));
    }
    /// When the silence began that lasts now, if it hasn't fired: with the newest reading, or the journey.
    pub(crate) fn silence_ms(&self, started_ms: u64) -> Option<u64> {
        let newest_ms = self.readings.last().map_or(0, |newest| newest.at_ms);
        let began_ms = newest_ms.max(started_ms);
        (began_ms > self.base_ms).then_some(began_ms)
    }
    /// The silence that began then has fired.
    pub(crate) fn fired(&mut self, began_ms: u64) {
        self.base_ms = began_ms;
    }
    /// Looks for what the rule is about; when there is such and the watch isn't quiet, it fires.
    pub(crate) fn look(&mut self, rule: &Observe, now_ms: u64) -> Option<Found> {
        let found = match rule.rule {
            Rule::Rises(more_than) => self.change(rule.within_ms, more_than, 1).map(Found::Change),
            Rule::Falls(more_than) => self
                .change(rule.within_ms, more_than, -1)
                .map(Found::Change),
            Rule::Above(mean, of) => self.mean(rule.within_ms, mean, of, 1).map(Found::Mean),
            Rule::Below(mean, of) => self.mean(rule.within_ms, mean, of, -1).map(Found::Mean),
            Rule::Over(_) | Rule::Under(_) => {
                return self.single(rule, now_ms).map(Found::Mean);
            }
            Rule::None => None,
        };
        if found.is_some() && now_ms < self.quiet_until_ms {
            self.pending = true;
            return None;
        }
        self.pending = false;
        let found = found?;
        self.base_ms = found.to_ms();
        self.after_ms = found.to_ms();
        self.quiet_until_ms = now_ms + rule.quiet_ms;
        Some(found)
    }
    /// The mean beyond a bound whose window ends last.
    fn mean(&self, within_ms: u64, bound: f64, of: u32, sign: i128) -> Option<Mean> {
        let bound = i128::from(millionths(bound));
        let ends = self.readings.iter().enumerate().rev();
        ends.take_while(|(_, end)| end.at_ms > self.after_ms)
            .find_map(|(last, end)| {
                let since_ms = end.at_ms.saturating_sub(within_ms);
                let first = self.readings.partition_point(|reading| {
                    reading.at_ms < since_ms || self.base_ms > 0 && reading.at_ms <= self.base_ms
                });
                let window = self.readings.get(first..=last)?;
                let sum: i128 = (window.iter())
                    .map(|reading| i128::from(reading.value_millionths))
                    .sum();
                let readings = i128::try_from(window.len()).ok()?;
                let beyond = sign * (sum - bound * readings) > 0;
                (beyond && readings >= i128::from(of)).then_some(Mean {
                    mean_millionths: i64::try_from(sum / readings).ok()?,
                    readings: window.len(),
                    from_ms: window.first()?.at_ms,
                    to_ms: end.at_ms,
                })
            })
    }
    /// The change that ends last, and of those the greatest.
    fn change(&self, within_ms: u64, more_than: f64, sign: i64) -> Option<Change> {
        let more_than = millionths(more_than);
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
                            && end.at_ms - begin.at_ms <= within_ms
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
            rule: Rule::Rises(2.0),
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

    /// The change that a rule fires at, looked at in this hour.
    fn change(watch: &mut Watch, rule: &Observe, hour: u64) -> Change {
        match watch.look(rule, hour * HOUR_MS) {
            Some(Found::Change(change)) => change,
            other => panic!("{other:?}"),
        }
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
        let change = change(&mut watch, &rule, 72);
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
            rule: Rule::Falls(2.0),
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
        assert_eq!(change(&mut watch, &rule, 11).from_millionths, 80_000_000);
    }

    #[test]
    fn means_fire_by_themselves_and_anew_by_what_comes_after() {
        type Case = (&'static str, &'static [(u64, f64)], &'static [usize]);
        let above = |of| Observe {
            rule: Rule::Above(140.0, of),
            ..rule()
        };
        let table: &[(u32, Case)] = &[
            (2, ("one is no mean", &[(24, 180.0)], &[])),
            (
                2,
                ("exactly is not above", &[(24, 130.0), (48, 150.0)], &[]),
            ),
            (2, ("above", &[(24, 130.0), (48, 150.2)], &[1])),
            (3, ("too few", &[(24, 150.0), (48, 150.0)], &[])),
            (
                3,
                ("enough", &[(24, 150.0), (48, 150.0), (72, 150.0)], &[2]),
            ),
            (
                2,
                (
                    "the window's edge counts",
                    &[(24, 150.0), (96, 150.0)],
                    &[1],
                ),
            ),
            (2, ("beyond the window", &[(24, 150.0), (97, 150.0)], &[])),
            (2, ("late ones", &[(72, 150.0), (24, 150.0)], &[1])),
            (
                2,
                (
                    "what has fired is in no mean again",
                    &[(24, 150.0), (48, 150.0), (84, 150.0), (90, 150.0)],
                    &[1, 3],
                ),
            ),
            (
                2,
                (
                    "what was high before it was low",
                    &[(24, 180.0), (48, 100.0), (72, 100.0), (96, 100.0)],
                    &[],
                ),
            ),
        ];
        for (of, (name, readings, expected)) in table {
            assert_eq!(&fires(&above(*of), readings), expected, "{name}");
        }
        let below = Observe {
            rule: Rule::Below(140.0, 2),
            ..rule()
        };
        assert_eq!(fires(&below, &[(24, 150.0), (48, 129.0)]), [1]);
        assert_eq!(
            fires(&below, &[(24, 150.0), (48, 131.0)]),
            Vec::<usize>::new()
        );
    }

    #[test]
    fn a_single_reading_fires_once() {
        let over = Observe {
            rule: Rule::Over(180.0),
            within_ms: DAY_MS,
            ..rule()
        };
        type Case = (&'static str, &'static [(u64, f64)], &'static [usize]);
        let table: &[Case] = &[
            ("exactly is not above", &[(24, 180.0)], &[]),
            ("above", &[(24, 180.1)], &[0]),
            (
                "one that was normal before it",
                &[(24, 120.0), (25, 181.0)],
                &[1],
            ),
            (
                "normal after it",
                &[(24, 181.0), (25, 120.0), (50, 120.0)],
                &[0],
            ),
            (
                "in the quiet time, and again after it",
                &[(24, 181.0), (30, 190.0), (49, 185.0)],
                &[0, 2],
            ),
            ("told of late", &[(30, 120.0), (24, 185.0)], &[1]),
            (
                "beside another of the same time",
                &[(24, 150.0), (24, 200.0)],
                &[1],
            ),
            (
                "beside another of the same time, before it",
                &[(24, 200.0), (24, 150.0)],
                &[0],
            ),
            (
                "dated ahead, then a normal one, then one of now",
                &[(10, 150.0), (2, 185.0)],
                &[1],
            ),
        ];
        for (name, readings, expected) in table {
            assert_eq!(&fires(&over, readings), expected, "{name}");
        }
        let under = Observe {
            rule: Rule::Under(90.0),
            ..over
        };
        assert_eq!(fires(&under, &[(24, 90.0), (25, 89.9)]), [1]);
        // One that waits for the end of the quiet time is lost neither among many nor by its age.
        let slow = Observe {
            quiet_ms: 3 * DAY_MS,
            ..under
        };
        let mut watch = Watch::new(0);
        for minute in 1..3000u64 {
            let value = if matches!(minute, 1 | 4) { 80.0 } else { 100.0 };
            watch.record(
                &slow,
                &format!("o{minute:04}"),
                minute * 60_000,
                Some(value),
            );
            let fires = watch.look(&slow, minute * 60_000).is_some();
            assert_eq!(fires, minute == 1, "{minute}");
        }
        assert!(watch.readings.len() <= NEWEST_MAX);
        assert_eq!(watch.timer_ms(), Some(3 * DAY_MS + 60_000));
        assert!(watch.look(&slow, 3 * DAY_MS + 60_000).is_some());
        assert!(watch.look(&slow, 9 * DAY_MS).is_none());
    }

    /// The same reading fires once, however often it is told of and whatever its time says; a correction is another.
    #[test]
    fn a_reading_that_has_fired_does_not_fire_again() {
        let over = Observe {
            rule: Rule::Over(180.0),
            quiet_ms: 0,
            ..rule()
        };
        let mut watch = Watch::new(0);
        let mut told = |id: &str, at_ms: u64, value: Option<f64>, now_ms: u64| {
            watch.record(&over, id, at_ms, value);
            watch.look(&over, now_ms).is_some()
        };
        let now = 10 * HOUR_MS;
        assert!(told("ahead", 30 * HOUR_MS, Some(190.0), now));
        assert!(
            !told("ahead", 30 * HOUR_MS, Some(190.0), 31 * HOUR_MS),
            "again"
        );
        assert!(told("now", 32 * HOUR_MS, Some(190.0), 32 * HOUR_MS));
        assert!(
            !told("now", 32 * HOUR_MS, Some(150.0), 33 * HOUR_MS),
            "it was a mistake"
        );
        assert!(
            told("now", 32 * HOUR_MS, Some(200.0), 34 * HOUR_MS),
            "and is worse"
        );
        for number in 0..40u64 {
            let at_ms = (40 + number) * HOUR_MS;
            assert!(told(&format!("n{number}"), at_ms, Some(181.0), at_ms));
        }
        for number in 0..40u64 {
            let at_ms = (40 + number) * HOUR_MS;
            assert!(
                !told(&format!("n{number}"), at_ms, Some(181.0), 90 * HOUR_MS),
                "{number}"
            );
        }
    }

    #[test]
    fn many_readings_have_the_mean_of_the_newest() {
        let rule = Observe {
            rule: Rule::Above(140.0, 2),
            ..rule()
        };
        let mut watch = Watch::new(0);
        for minute in 0..1000u64 {
            let value = if minute < 744 { 150.0 } else { 130.0 };
            watch.record(
                &rule,
                &format!("o{minute:04}"),
                minute * 60_000,
                Some(value),
            );
        }
        assert_eq!(watch.readings.len(), READINGS_MAX);
        assert_eq!(watch.look(&rule, 1000 * 60_000), None);
    }

    #[test]
    fn a_silence_fires_once_and_a_reading_ends_it() {
        let rule = Observe {
            rule: Rule::None,
            ..rule()
        };
        let mut watch = Watch::new(0);
        assert_eq!(watch.silence_ms(50), Some(50));
        for hour in 1..40u64 {
            watch.record(&rule, &format!("o{hour:02}"), hour * HOUR_MS, Some(80.0));
        }
        assert_eq!(watch.silence_ms(50), Some(39 * HOUR_MS));
        // The newest was a mistake.
        watch.record(&rule, "o39", 39 * HOUR_MS, None);
        assert_eq!(watch.silence_ms(50), Some(38 * HOUR_MS));
        watch.fired(38 * HOUR_MS);
        assert_eq!(watch.silence_ms(50), None);
        watch.record(&rule, "o40", 40 * HOUR_MS, Some(80.0));
        assert_eq!(watch.silence_ms(50), Some(40 * HOUR_MS));
        assert!(watch.readings.len() <= NEWEST_MAX);
    }
}
