//! When the actions of a plan are, as times: their `timing[x]` and how they relate to each other, worked out. Pure.
//!
//! An action without either is when the group is that it lies in; a group without either, when the plan begins. What
//! comes after another begins when that one has ended (or begun), by its offset later; of several, after the last of
//! them. What comes before another has ended by then. A range of offsets is a window. Whoever has no length of their
//! own ends with the last of their parts, or at once. What repeats so many times ends with the last period; what
//! repeats without end has none, so nothing comes after it. Days of a cycle are counted in the group that repeats.

use super::{Fault, fault};
use fhir::IssueCode;
use fhir::path::{Environment, Expression};
use serde_json::{Map, Value, json};

/// The most moments that days of cycles are worked out to.
const MOMENTS_MAX: usize = 500;
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
    /// The days of a cycle on which it is done (R4's extension `timing-daysOfCycle`), the first of which is 1.
    pub(super) days: Vec<i64>,
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
        let action = &self.actions[of];
        if action
            .timing
            .is_some_and(|(_, timing)| repeats_for_ever(timing))
        {
            let place = format!("{}.timing", action.place);
            let words = "repeats without an end, so nothing can be after it";
            return Err(fault(IssueCode::BusinessRule, &place, words));
        }
        let mut end_ms = span.start_ms;
        for part in self.actions[of].parts.clone() {
            end_ms = end_ms.max(self.end(part)?);
        }
        Ok(end_ms)
    }

    fn work_out(&mut self, of: usize) -> Result<Span, Fault> {
        if !self.actions[of].days.is_empty() {
            return self.in_cycles(of);
        }
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

    /// When an action is that is done on days of a cycle, which the nearest group that repeats has.
    fn in_cycles(&mut self, of: usize) -> Result<Span, Fault> {
        let action = &self.actions[of];
        let place = format!("{}.extension", action.place);
        if action.timing.is_some() {
            let words = "names days of a cycle, and the action has a timing besides";
            return Err(fault(IssueCode::NotSupported, &place, words));
        }
        let mut around = action.parent;
        let (group, count, length, unit) = loop {
            let Some(group) = around else {
                let words = "names days of a cycle, and no group around says how long one is and how many there are (timingTiming.repeat)";
                return Err(fault(IssueCode::BusinessRule, &place, words));
            };
            let timing = self.actions[group].timing.map(|(_, timing)| timing);
            let repeat = timing.and_then(|timing| timing.get("repeat")?.as_object());
            let cycles = repeat.and_then(|repeat| {
                let (length, unit) = period_of(repeat)?;
                Some((repeat.get("count")?.as_u64()?, length, unit))
            });
            match cycles {
                Some((count, length, unit)) => break (group, count, length, unit),
                None => around = self.actions[group].parent,
            }
        };
        let start_ms = self.span(group)?.start_ms;
        let days = self.actions[of].days.clone();
        let many = usize::try_from(count).unwrap_or(usize::MAX);
        if many.saturating_mul(days.len()) > MOMENTS_MAX {
            let words = format!("leads to more than {MOMENTS_MAX} days");
            return Err(fault(IssueCode::TooLong, &place, words));
        }
        let begins = |cycle: u64| {
            #[allow(clippy::cast_precision_loss, reason = "bounded above")]
            let by = json!({"value": length * cycle as f64, "code": unit});
            moved(start_ms, &by, 1, &place)
        };
        let mut moments = Vec::new();
        for cycle in 0..count {
            let (from_ms, until_ms) = (begins(cycle)?, begins(cycle + 1)?);
            for day in &days {
                let strange = || {
                    let words = "names a day that the cycle doesn't have";
                    fault(IssueCode::Value, &place, words)
                };
                if *day < 1 {
                    return Err(strange());
                }
                let at_ms = moved(from_ms, &json!({"value": day - 1, "code": "d"}), 1, &place)?;
                if at_ms >= until_ms {
                    return Err(strange());
                }
                moments.push(at_ms);
            }
        }
        moments.sort_unstable();
        moments.dedup();
        let (Some(first_ms), Some(last_ms)) = (moments.first().copied(), moments.last().copied())
        else {
            let words = "names days of a cycle that there is none of";
            return Err(fault(IssueCode::Value, &place, words));
        };
        for (number, related) in self.actions[of].related.clone().into_iter().enumerate() {
            let place = format!("{}.relatedAction[{number}]", self.actions[of].place);
            let (early_ms, late_ms, is_before) = self.bound(of, related, &place)?;
            let fits = if is_before {
                last_ms <= late_ms
            } else {
                early_ms <= first_ms
            };
            if !fits {
                let words = "is not so on the days of the cycle that the action is on";
                return Err(fault(IssueCode::BusinessRule, &place, words));
            }
        }
        let events: Vec<String> = moments.into_iter().map(instant).collect();
        Ok(Span {
            start_ms: first_ms,
            end_ms: (first_ms != last_ms).then_some(last_ms),
            says: Some(("Timing", json!({"event": events}))),
        })
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
    let mut from_ms = start_ms;
    let mut until_ms = None;
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
    if until_ms.is_none() {
        until_ms = counted(from_ms, repeat, place)?;
    }
    repeat.insert("boundsPeriod".to_owned(), period(from_ms, until_ms));
    Ok(Span {
        start_ms: from_ms,
        end_ms: until_ms,
        says: Some(("Timing", said)),
    })
}

/// How long one period of a schedule is: its `period`, and where it has none, how long each of what is repeated lasts.
fn period_of(repeat: &Map<String, Value>) -> Option<(f64, &str)> {
    [("period", "periodUnit"), ("duration", "durationUnit")]
        .into_iter()
        .find_map(|(length, unit)| {
            let length = repeat.get(length)?.as_f64()?;
            Some((length, repeat.get(unit)?.as_str()?))
        })
}

/// When a schedule that is gone through so many times is over. Its last period counts whole.
fn counted(start_ms: i64, repeat: &Map<String, Value>, place: &str) -> Result<Option<i64>, Fault> {
    let number = |name: &str| repeat.get(name).and_then(Value::as_u64);
    let (Some(count), Some((length, unit))) = (
        number("countMax").or_else(|| number("count")),
        period_of(repeat),
    ) else {
        return Ok(None);
    };
    let periods = count.div_ceil(number("frequency").unwrap_or(1).max(1));
    #[allow(
        clippy::cast_precision_loss,
        reason = "what is longer than a hundred years is refused"
    )]
    let by = json!({"value": length * periods as f64, "code": unit});
    moved(start_ms, &by, 1, place).map(Some)
}

/// Whether a `Timing` goes on and on.
fn repeats_for_ever(timing: &Value) -> bool {
    let Some(repeat) = timing.get("repeat") else {
        return false;
    };
    let ends = ["boundsDuration", "boundsRange", "count", "countMax"];
    let is_bounded = repeat
        .get("boundsPeriod")
        .is_some_and(|bounds| bounds.get("end").is_some())
        || ends.iter().any(|name| repeat.get(name).is_some());
    repeat.get("period").is_some() && !is_bounded && timing.get("event").is_none()
}

#[cfg(test)]
mod tests;
