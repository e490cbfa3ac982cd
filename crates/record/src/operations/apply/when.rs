//! When the actions of a plan are, as times: their `timing[x]` and how they relate to each other, worked out. Pure.
//!
//! An action without either is when the group is that it lies in; a group without either, when the plan begins. What
//! comes after another begins when that one has ended (or begun), by its offset later; of several, after the last of
//! them. What comes before another has ended by then. A range of offsets is a window. Whoever has no length of their
//! own ends with the last of their parts, or at once.

use super::{Fault, fault};
use fhir::IssueCode;
use fhir::path::{Environment, Expression};
use serde_json::{Value, json};

/// The most milliseconds that a duration can have: a hundred years.
const LENGTH_MS_MAX: f64 = 100.0 * 366.0 * 86_400_000.0;

/// An action as far as times go.
#[derive(Debug, Default)]
pub(super) struct Timed<'a> {
    pub(super) id: Option<&'a str>,
    /// Where it stands, for those who wrote it.
    pub(super) place: String,
    /// The group that it lies in.
    pub(super) parent: Option<usize>,
    pub(super) parts: Vec<usize>,
    /// Its `timing[x]`: the `[x]`, and the value.
    pub(super) timing: Option<(&'static str, &'a Value)>,
    pub(super) related: Vec<&'a Value>,
}

/// When an action is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) start_ms: i64,
    /// None where it has no length of its own.
    pub(super) end_ms: Option<i64>,
    /// The `[x]` and the value that say so; none where nothing but the plan's beginning does.
    pub(super) says: Option<(&'static str, Value)>,
}

impl Span {
    /// What lasts from one moment on, or between two.
    fn between(start_ms: i64, end_ms: Option<i64>) -> Self {
        let says = match end_ms {
            Some(_) => ("Period", period(start_ms, end_ms)),
            None => ("DateTime", json!(instant(start_ms))),
        };
        Self {
            start_ms,
            end_ms,
            says: Some(says),
        }
    }
    /// As a `Period`.
    pub(super) fn period(&self) -> Value {
        match &self.says {
            Some(("Period", said)) => said.clone(),
            _ => period(self.start_ms, self.end_ms),
        }
    }
}

fn period(start_ms: i64, end_ms: Option<i64>) -> Value {
    let mut period = json!({"start": instant(start_ms)});
    if let Some(end_ms) = end_ms {
        period["end"] = json!(instant(end_ms));
    }
    period
}

pub(super) fn instant(unix_ms: i64) -> String {
    fhir::date::moment(unix_ms)
}

/// The `timing[x]` of an action or activity.
pub(super) fn timing_of(holder: &Value) -> Option<(&'static str, &Value)> {
    ["DateTime", "Age", "Period", "Duration", "Range", "Timing"]
        .into_iter()
        .find_map(|of| Some((of, holder.get(format!("timing{of}"))?)))
}

/// A moment moved by a quantity of time, forwards (1) or backwards (-1). Months and years are the calendar's.
pub(super) fn moved(at_ms: i64, by: &Value, way: i64, place: &str) -> Result<i64, Fault> {
    let no_time = |words: &str| fault(IssueCode::Value, place, words);
    if by.get("comparator").is_some() {
        return Err(no_time(
            "a length of time with a comparator can't be worked out",
        ));
    }
    let value = by.get("value").and_then(Value::as_f64);
    let unit = by.get("code").or_else(|| by.get("unit"));
    let (Some(value), Some(unit)) = (value, unit.and_then(Value::as_str)) else {
        return Err(no_time("is no length of time: it has a value and a unit"));
    };
    let unit_ms = match unit.trim() {
        "ms" => 1.0,
        "s" | "second" | "seconds" => 1000.0,
        "min" | "minute" | "minutes" => 60_000.0,
        "h" | "hour" | "hours" => 3_600_000.0,
        "d" | "day" | "days" => 86_400_000.0,
        "wk" | "week" | "weeks" => 604_800_000.0,
        "mo" | "month" | "months" => return by_calendar(at_ms, value, "month", way, place),
        "a" | "year" | "years" => return by_calendar(at_ms, value, "year", way, place),
        _ => {
            return Err(no_time(
                "has no unit of time: there are ms, s, min, h, d, wk, mo and a",
            ));
        }
    };
    let length_ms = value * unit_ms;
    if length_ms.abs() > LENGTH_MS_MAX {
        return Err(no_time("is longer than a hundred years"));
    }
    #[allow(clippy::cast_possible_truncation, reason = "bounded above")]
    Ok(at_ms + way * length_ms.round() as i64)
}

fn by_calendar(at_ms: i64, value: f64, unit: &str, way: i64, place: &str) -> Result<i64, Fault> {
    let bad = |words: &str| fault(IssueCode::Value, place, words);
    if value.fract() != 0.0 || value.abs() > 1200.0 {
        return Err(bad("months and years are whole numbers, up to 1200"));
    }
    let sign = if way < 0 { '-' } else { '+' };
    let text = format!("@{} {sign} {value} {unit}", instant(at_ms));
    let moved = Expression::compile(&text).ok().and_then(|text| {
        let items = text.evaluate(&Value::Null, &Environment::default()).ok()?;
        fhir::date::parse(items.first()?.value().as_str()?)
    });
    let moved = moved.ok_or_else(|| bad("leads out of the calendar"))?;
    Ok(moved.start_ms)
}

/// The end of a period: a day that is one is over with it.
fn ending(text: &Value, place: &str) -> Result<i64, Fault> {
    let is_day = text.as_str().is_some_and(|text| !text.contains('T'));
    let parsed = text.as_str().and_then(fhir::date::parse);
    match parsed.filter(|_| is_day) {
        Some(day) => Ok(day.end_ms),
        None => moment(text, place),
    }
}

/// The first moment that a dateTime covers.
fn moment(text: &Value, place: &str) -> Result<i64, Fault> {
    let parsed = text.as_str().and_then(fhir::date::parse);
    let parsed = parsed.ok_or_else(|| fault(IssueCode::Value, place, "is no moment"))?;
    Ok(parsed.start_ms)
}

/// Works out when actions are.
pub(super) struct Times<'a> {
    actions: &'a [Timed<'a>],
    start_ms: i64,
    born_ms: Option<i64>,
    known: Vec<Known>,
}

#[derive(Debug, Clone)]
enum Known {
    No,
    /// Somebody who depends on it is being worked out: asked for again, it depends on itself.
    Busy,
    Yes(Span),
}

impl<'a> Times<'a> {
    /// When the actions of a plan are that begins at a moment. `born_ms` is for ages.
    ///
    /// # Errors
    /// What depends on itself, can't be, or isn't known.
    pub(super) fn of(
        actions: &'a [Timed<'a>],
        start_ms: i64,
        born_ms: Option<i64>,
    ) -> Result<Vec<Span>, Fault> {
        let known = vec![Known::No; actions.len()];
        let mut times = Self {
            actions,
            start_ms,
            born_ms,
            known,
        };
        (0..actions.len()).map(|of| times.span(of)).collect()
    }

    fn span(&mut self, of: usize) -> Result<Span, Fault> {
        match self.known.get(of) {
            Some(Known::Yes(span)) => return Ok(span.clone()),
            Some(Known::Busy) | None => return Err(self.circle(of)),
            Some(Known::No) => {}
        }
        self.known[of] = Known::Busy;
        let span = self.work_out(of)?;
        self.known[of] = Known::Yes(span.clone());
        Ok(span)
    }

    fn circle(&self, of: usize) -> Fault {
        let place = self.actions.get(of).map_or("", |action| &action.place);
        fault(
            IssueCode::BusinessRule,
            place,
            "when this is depends on itself, by way of the actions that it is related to",
        )
    }

    /// When an action has ended: by its own length, with its parts, or as it begins.
    fn end(&mut self, of: usize) -> Result<i64, Fault> {
        let span = self.span(of)?;
        if let Some(end_ms) = span.end_ms {
            return Ok(end_ms);
        }
        let mut end_ms = span.start_ms;
        for part in self.actions[of].parts.clone() {
            end_ms = end_ms.max(self.end(part)?);
        }
        Ok(end_ms)
    }

    fn work_out(&mut self, of: usize) -> Result<Span, Fault> {
        let action = &self.actions[of];
        let place = action.place.clone();
        let (mut after, mut before) = (None::<(i64, Option<i64>)>, None::<(i64, Option<i64>)>);
        for (number, related) in action.related.iter().enumerate() {
            let place = format!("{place}.relatedAction[{number}]");
            let (early, late, is_before) = self.bound(of, related, &place)?;
            if is_before {
                // It has ended by the earliest of what it comes before.
                before = Some(match before {
                    Some((other, begun)) if other <= late => (other, begun),
                    _ => (late, (early != late).then_some(early)),
                });
            } else {
                after = Some(match after {
                    Some((other, latest)) if other >= early => (other, latest),
                    _ => (early, (early != late).then_some(late)),
                });
            }
        }
        let group_ms = match action.parent {
            Some(parent) => self.span(parent)?.start_ms,
            None => self.start_ms,
        };
        let length = action.timing.filter(|(of, _)| *of == "Duration");
        if let Some((by_ms, begun_ms)) = before {
            let start_ms = match (after, begun_ms, length) {
                (Some((after_ms, _)), ..) => after_ms,
                (None, Some(begun_ms), _) => begun_ms,
                (None, None, Some((_, length))) => moved(by_ms, length, -1, &place)?,
                (None, None, None) => by_ms,
            };
            if start_ms > by_ms {
                let words = "comes after what ends later than what it has to come before begins";
                return Err(fault(IssueCode::BusinessRule, &place, words));
            }
            if action.timing.is_none() || length.is_some() {
                return Ok(Span::between(
                    start_ms,
                    (start_ms != by_ms).then_some(by_ms),
                ));
            }
            return self.own(of, start_ms);
        }
        if let Some((after_ms, latest_ms)) = after {
            return match action.timing {
                None => Ok(Span::between(after_ms, latest_ms)),
                Some(_) => self.own(of, after_ms),
            };
        }
        self.own(of, group_ms)
    }

    /// By when, or from when on, what it is related to lets an action be: the earliest, the latest, and whether it
    /// comes before.
    fn bound(
        &mut self,
        of: usize,
        related: &Value,
        place: &str,
    ) -> Result<(i64, i64, bool), Fault> {
        let id = related.get("actionId").and_then(Value::as_str);
        let other = self
            .actions
            .iter()
            .position(|action| action.id == id && id.is_some());
        let Some(other) = other.filter(|other| *other != of) else {
            let words = "is related to no other action of this plan that applies";
            return Err(fault(IssueCode::NotFound, place, words));
        };
        let how = related.get("relationship").and_then(Value::as_str);
        let (at_start, is_before) = match how.unwrap_or_default() {
            "before" | "before-start" => (true, true),
            "before-end" => (false, true),
            "concurrent" | "concurrent-with-start" | "after-start" => (true, false),
            "concurrent-with-end" | "after" | "after-end" => (false, false),
            _ => {
                return Err(fault(
                    IssueCode::Value,
                    place,
                    "is no relationship that R4 knows",
                ));
            }
        };
        let at_ms = if at_start {
            self.span(other)?.start_ms
        } else {
            self.end(other)?
        };
        let way = if is_before { -1 } else { 1 };
        let (low, high) = match (related.get("offsetDuration"), related.get("offsetRange")) {
            (Some(offset), _) => {
                let at_ms = moved(at_ms, offset, way, place)?;
                (at_ms, at_ms)
            }
            (None, Some(range)) => {
                let end = |name: &str| match range.get(name) {
                    Some(offset) => moved(at_ms, offset, way, place),
                    None => Ok(at_ms),
                };
                let low = end("low")?;
                let high = range.get("high").map_or(Ok(low), |_| end("high"))?;
                (low.min(high), low.max(high))
            }
            (None, None) => (at_ms, at_ms),
        };
        Ok((low, high, is_before))
    }

    /// What an action's own timing makes of the moment at which it could begin.
    fn own(&self, of: usize, start_ms: i64) -> Result<Span, Fault> {
        let action = &self.actions[of];
        let place = format!("{}.timing", action.place);
        let Some((kind, timing)) = action.timing else {
            return Ok(Span {
                start_ms,
                end_ms: None,
                says: None,
            });
        };
        match kind {
            "DateTime" => {
                let at_ms = moment(timing, &place)?;
                Ok(Span {
                    start_ms: at_ms,
                    end_ms: None,
                    says: Some(("DateTime", timing.clone())),
                })
            }
            "Period" => {
                let of = |name: &str| {
                    timing
                        .get(name)
                        .map(|text| moment(text, &place))
                        .transpose()
                };
                let end = timing.get("end").map(|text| ending(text, &place));
                Ok(Span {
                    start_ms: of("start")?.unwrap_or(start_ms),
                    end_ms: end.transpose()?,
                    says: Some(("Period", timing.clone())),
                })
            }
            "Age" => {
                let born_ms = self.born_ms.ok_or_else(|| {
                    let words = "is an age, and when the subject was born is not known";
                    fault(IssueCode::BusinessRule, &place, words)
                })?;
                Ok(Span::between(moved(born_ms, timing, 1, &place)?, None))
            }
            "Duration" => {
                let end_ms = moved(start_ms, timing, 1, &place)?;
                Ok(Span::between(start_ms, Some(end_ms)))
            }
            "Range" => {
                let of = |name: &str| timing.get(name).map(|by| moved(start_ms, by, 1, &place));
                let low_ms = of("low").transpose()?.unwrap_or(start_ms);
                Ok(Span::between(low_ms, of("high").transpose()?))
            }
            _ => repeated(start_ms, timing, &place),
        }
    }
}

/// A `Timing`: its bounds become the times between which it is.
fn repeated(start_ms: i64, timing: &Value, place: &str) -> Result<Span, Fault> {
    let mut said = timing.clone();
    let events = timing.get("event").and_then(Value::as_array);
    let mut moments = Vec::new();
    for event in events.into_iter().flatten() {
        moments.push(moment(event, place)?);
    }
    if let (Some(first), Some(last)) = (moments.iter().min(), moments.iter().max()) {
        return Ok(Span {
            start_ms: *first,
            end_ms: (first != last).then_some(*last),
            says: Some(("Timing", said)),
        });
    }
    let Some(repeat) = said.get_mut("repeat").and_then(Value::as_object_mut) else {
        return Ok(Span {
            start_ms,
            end_ms: None,
            says: Some(("Timing", said)),
        });
    };
    let (mut from_ms, mut until_ms) = (start_ms, None);
    if let Some(bounds) = repeat.get("boundsPeriod") {
        let of = |name: &str| bounds.get(name).map(|text| moment(text, place)).transpose();
        from_ms = of("start")?.unwrap_or(start_ms);
        until_ms = bounds
            .get("end")
            .map(|text| ending(text, place))
            .transpose()?;
    } else if let Some(length) = repeat.shift_remove("boundsDuration") {
        until_ms = Some(moved(start_ms, &length, 1, place)?);
    } else if let Some(range) = repeat.shift_remove("boundsRange") {
        let length = range.get("high").or_else(|| range.get("low"));
        until_ms = length
            .map(|length| moved(start_ms, length, 1, place))
            .transpose()?;
    }
    repeat.insert("boundsPeriod".to_owned(), period(from_ms, until_ms));
    Ok(Span {
        start_ms: from_ms,
        end_ms: until_ms,
        says: Some(("Timing", said)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 March 2026, noon.
    const NOON_MS: i64 = 1_772_366_400_000;

    /// The times of actions, as `id start end`; each is written as `id`, `in` which group, `timing`, relations.
    fn times(actions: &Value) -> Result<Vec<String>, String> {
        let list = actions.as_array().unwrap();
        let place_of = |id: &Value| list.iter().position(|one| one["id"] == *id);
        let mut timed: Vec<Timed<'_>> = list
            .iter()
            .map(|one| Timed {
                id: one["id"].as_str(),
                place: format!("at {}", one["id"].as_str().unwrap()),
                parent: one.get("in").and_then(place_of),
                parts: Vec::new(),
                timing: timing_of(one),
                related: one["related"].as_array().into_iter().flatten().collect(),
            })
            .collect();
        for place in 0..timed.len() {
            if let Some(parent) = timed[place].parent {
                timed[parent].parts.push(place);
            }
        }
        let born_ms = fhir::date::parse("1960-02-29").unwrap().start_ms;
        let spans = Times::of(&timed, NOON_MS, Some(born_ms));
        let spans = spans.map_err(|fault| format!("{}: {}", fault.place, fault.words))?;
        let said = |(one, span): (&Value, &Span)| {
            let end = span.end_ms.map_or_else(|| "-".to_owned(), instant);
            format!(
                "{} {} {end}",
                one["id"].as_str().unwrap(),
                instant(span.start_ms)
            )
            .replace(":00.000Z", "")
        };
        Ok(list.iter().zip(&spans).map(said).collect())
    }

    fn check(actions: &Value, expected: &[&str]) {
        assert_eq!(times(actions).unwrap(), expected, "{actions}");
    }

    #[test]
    fn actions_are_when_their_timing_says() {
        let d = |value: i64, unit: &str| json!({"value": value, "unit": unit});
        for (kind, timing, expected) in [
            ("DateTime", json!("2026-04-01"), "a 2026-04-01T00:00 -"),
            (
                "Period",
                json!({"start": "2026-04-01", "end": "2026-04-03"}),
                "a 2026-04-01T00:00 2026-04-04T00:00",
            ),
            (
                "Age",
                json!({"value": 65, "code": "a"}),
                "a 2025-02-28T00:00 -",
            ),
            ("Duration", d(2, "d"), "a 2026-03-01T12:00 2026-03-03T12:00"),
            (
                "Duration",
                d(1, "mo"),
                "a 2026-03-01T12:00 2026-04-01T12:00",
            ),
            (
                "Range",
                json!({"low": d(1, "h"), "high": d(2, "h")}),
                "a 2026-03-01T13:00 2026-03-01T14:00",
            ),
            (
                "Timing",
                json!({"event": ["2026-04-01", "2026-04-05"]}),
                "a 2026-04-01T00:00 2026-04-05T00:00",
            ),
            (
                "Timing",
                json!({"repeat": {"boundsDuration": d(1, "wk"), "frequency": 1}}),
                "a 2026-03-01T12:00 2026-03-08T12:00",
            ),
            (
                "Timing",
                json!({"repeat": {"frequency": 1}}),
                "a 2026-03-01T12:00 -",
            ),
        ] {
            let member = format!("timing{kind}");
            let actions = json!([{"id": "a", member: timing}]);
            check(&actions, &[expected]);
        }
    }

    #[test]
    fn actions_are_when_their_relations_say() {
        let lasts = json!({"value": 2, "unit": "h"});
        for (how, offset, expected) in [
            (
                "after-end",
                json!({"offsetDuration": {"value": 1, "unit": "h"}}),
                "b 2026-03-01T15:00 -",
            ),
            ("after", json!({}), "b 2026-03-01T14:00 -"),
            (
                "after-start",
                json!({"offsetDuration": {"value": 30, "unit": "min"}}),
                "b 2026-03-01T12:30 -",
            ),
            ("concurrent", json!({}), "b 2026-03-01T12:00 -"),
            ("concurrent-with-end", json!({}), "b 2026-03-01T14:00 -"),
            (
                "before-start",
                json!({"offsetDuration": {"value": 1, "unit": "d"}}),
                "b 2026-02-28T12:00 -",
            ),
            ("before-end", json!({}), "b 2026-03-01T14:00 -"),
            (
                "after-end",
                json!({"offsetRange": {"low": {"value": 1, "unit": "h"}, "high": {"value": 3, "unit": "h"}}}),
                "b 2026-03-01T15:00 2026-03-01T17:00",
            ),
            (
                "before",
                json!({"offsetRange": {"low": {"value": 1, "unit": "h"}, "high": {"value": 3, "unit": "h"}}}),
                "b 2026-03-01T09:00 2026-03-01T11:00",
            ),
        ] {
            let mut related = json!({"actionId": "a", "relationship": how});
            let members = offset.as_object().unwrap().clone();
            related.as_object_mut().unwrap().extend(members);
            // Whatever order they are written in.
            for actions in [
                json!([{"id": "b", "related": [related]}, {"id": "a", "timingDuration": lasts}]),
                json!([{"id": "a", "timingDuration": lasts}, {"id": "b", "related": [related]}]),
            ] {
                let found = times(&actions).unwrap();
                assert!(found.contains(&expected.to_owned()), "{how}: {found:?}");
            }
        }
    }

    #[test]
    fn groups_and_chains() {
        let hour = json!({"value": 1, "unit": "h"});
        let after = |of: &str| json!([{"actionId": of, "relationship": "after-end", "offsetDuration": hour}]);
        // A group ends with the last of its parts; what lies in one begins with it.
        check(
            &json!([
                {"id": "g", "related": after("x")},
                {"id": "x", "timingDuration": hour},
                {"id": "p", "in": "g"},
                {"id": "q", "in": "g", "related": after("p"), "timingDuration": hour},
                {"id": "z", "related": after("g")},
            ]),
            &[
                "g 2026-03-01T14:00 -",
                "x 2026-03-01T12:00 2026-03-01T13:00",
                "p 2026-03-01T14:00 -",
                "q 2026-03-01T15:00 2026-03-01T16:00",
                "z 2026-03-01T17:00 -",
            ],
        );
        // Of several, after the last; between two, for as long as they leave.
        let mut both = after("x");
        both.as_array_mut()
            .unwrap()
            .push(json!({"actionId": "y", "relationship": "before-start"}));
        check(
            &json!([
                {"id": "x", "timingDuration": hour},
                {"id": "y", "timingDateTime": "2026-03-02T00:00:00Z"},
                {"id": "z", "related": both},
            ]),
            &[
                "x 2026-03-01T12:00 2026-03-01T13:00",
                "y 2026-03-02T00:00 -",
                "z 2026-03-01T14:00 2026-03-02T00:00",
            ],
        );
        // As long before as it lasts.
        check(
            &json!([
                {"id": "y", "timingDateTime": "2026-03-02T00:00:00Z"},
                {"id": "z", "timingDuration": hour, "related": [{"actionId": "y", "relationship": "before-start"}]},
            ]),
            &[
                "y 2026-03-02T00:00 -",
                "z 2026-03-01T23:00 2026-03-02T00:00",
            ],
        );
    }

    #[test]
    fn what_can_not_be_is_said() {
        let related = |of: &str, how: &str| json!([{"actionId": of, "relationship": how}]);
        let mut squeezed = related("a", "after");
        let before = json!({"actionId": "b", "relationship": "before"});
        squeezed.as_array_mut().unwrap().push(before);
        for (actions, words) in [
            (
                json!([{"id": "a", "related": related("b", "after")}, {"id": "b", "related": related("a", "after")}]),
                "depends on itself",
            ),
            (
                json!([{"id": "a", "related": related("a", "after")}]),
                "no other action",
            ),
            (
                json!([{"id": "a", "related": related("gone", "after")}]),
                "no other action",
            ),
            (
                json!([{"id": "g"}, {"id": "a", "in": "g", "related": related("g", "after-end")}]),
                "depends on itself",
            ),
            (
                json!([{"id": "a", "timingDateTime": "2026-05-01"}, {"id": "b"}, {"id": "c", "related": squeezed}]),
                "ends later",
            ),
            (
                json!([{"id": "a", "timingDuration": {"value": 1, "unit": "kg"}}]),
                "unit of time",
            ),
            (
                json!([{"id": "a", "timingDuration": {"value": 1e9, "unit": "d"}}]),
                "hundred years",
            ),
            (
                json!([{"id": "a", "timingDuration": {"value": 1.5, "unit": "mo"}}]),
                "whole numbers",
            ),
            (
                json!([{"id": "a", "timingDuration": {"unit": "h"}}]),
                "no length",
            ),
            (
                json!([{"id": "a", "timingDuration": {"value": 1, "unit": "h", "comparator": "<"}}]),
                "comparator",
            ),
        ] {
            let said = times(&actions).unwrap_err();
            assert!(said.contains(words), "{actions}: {said}");
        }
    }
}
