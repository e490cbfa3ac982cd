//! Dates that the record says, and the moments at which journeys begin by them. Pure.
//!
//! What is counted in days, weeks, months and years is counted by the calendar of the patient's time zone, so a day
//! in which the clocks change keeps its hour, and a year keeps its date.

use crate::definition::{Path, Target};
use crate::time::{HOUR_MS, MINUTE_MS, time_of_day};
use fhir::Resource;
use fhir::path::Environment;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Most years, months, weeks, days, hours or minutes of a distance: more than anybody lives.
const COUNT_MAX: i64 = 100_000;
/// Most years that a distance may be.
const YEARS_MAX: i64 = 150;
/// Most anniversaries of a date that are looked through: more than anybody lives.
const ANNIVERSARIES_MAX: i32 = 200;

/// A date or time as the record says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// A day, wherever the patient is.
    Day(Date),
    /// A moment, milliseconds since the epoch.
    At(i64),
}

impl Said {
    /// Reads a FHIR `date`, `dateTime` or `instant`. A year or a month is no day that something could hang on.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() == "2026-01-01".len() && fhir::date::parse(text).is_some() {
            return text.parse().ok().map(Self::Day);
        }
        text.contains('T').then_some(())?;
        Some(Self::At(fhir::date::parse(text)?.start_ms))
    }

    /// What it is known by: the same however it is written.
    fn key(self) -> String {
        match self {
            Self::Day(day) => day.to_string(),
            Self::At(at_ms) => at_ms.to_string(),
        }
    }
}

/// The moment at which a journey begins: `visit - 14d at 09:00`, `birth + 65y`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begins {
    /// Name of the anchor that it hangs on.
    pub(crate) anchor: String,
    years: i64,
    months: i64,
    days: i64,
    /// Hours and minutes.
    rest_ms: i64,
    at: Option<Time>,
}

impl Begins {
    /// Parses `ANCHOR [+|- DISTANCE] [at HH:MM]`; a distance is like `65y`, `6mo`, `2w`, `14d`, `36h`, `90m`, or a sum of
    /// these in falling order.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` says no moment; write it like `visit - 14d`, `visit - 14d at 09:00` or `birth + 65y`"
            )
        };
        let (rest, at) = match text.split_once(" at ") {
            Some((rest, at)) => (rest, Some(time_of_day(at)?)),
            None => (text, None),
        };
        let (anchor, sign, distance) = match rest.find(['+', '-']) {
            Some(place) => {
                let sign = if rest[place..].starts_with('-') {
                    -1
                } else {
                    1
                };
                (&rest[..place], sign, rest[place + 1..].trim())
            }
            None => (rest, 1, ""),
        };
        let anchor = anchor.trim();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if anchor.is_empty() || !anchor.chars().all(is_name) {
            return Err(wrong());
        }
        let mut begins = Self {
            anchor: anchor.to_owned(),
            years: 0,
            months: 0,
            days: 0,
            rest_ms: 0,
            at,
        };
        if rest.contains(['+', '-']) {
            begins.distance(distance, sign).ok_or_else(wrong)?;
        }
        if at.is_some() && begins.rest_ms != 0 {
            return Err(format!(
                "`{text}`: with a time of day the distance must be whole days, weeks, months or years"
            ));
        }
        if begins.years.abs() > YEARS_MAX {
            return Err(format!(
                "`{text}`: the distance is longer than {YEARS_MAX} years"
            ));
        }
        Ok(begins)
    }

    /// A length of calendar time after something: `12mo`, `1y`, `90d`, `36h`.
    pub(crate) fn span(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` says no length; write it like `12mo`, `1y`, `90d` or `36h`");
        if text.contains(|c: char| !(c.is_ascii_digit() || c.is_ascii_lowercase())) {
            return Err(wrong());
        }
        Self::parse(&format!("said + {text}")).map_err(|_| wrong())
    }

    fn distance(&mut self, text: &str, sign: i64) -> Option<()> {
        let mut rest = text;
        let mut last = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let count: i64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let unit = rest
                .find(|c: char| !c.is_ascii_lowercase())
                .unwrap_or(rest.len());
            let (unit, after) = rest.split_at(unit);
            rest = after;
            if count == 0 || count > COUNT_MAX {
                return None;
            }
            let count = count * sign;
            let order = match unit {
                "y" => {
                    self.years = count;
                    1
                }
                "mo" => {
                    self.months = count;
                    2
                }
                "w" => {
                    self.days += 7 * count;
                    3
                }
                "d" => {
                    self.days += count;
                    4
                }
                "h" => {
                    self.rest_ms += count * i64::try_from(HOUR_MS).ok()?;
                    5
                }
                "m" => {
                    self.rest_ms += count * i64::try_from(MINUTE_MS).ok()?;
                    6
                }
                _ => return None,
            };
            if order <= last {
                return None;
            }
            last = order;
        }
        (last > 0).then_some(())
    }

    /// The distance of an anniversary, as parts to be gone one after the other: a length of time has one sign, and
    /// years are counted from the date itself, so that a leap day comes back.
    fn spans(&self, anniversary: i32) -> Option<[Span; 2]> {
        let before = self.years < 0 || self.months < 0 || self.days < 0;
        let more = i64::from(anniversary);
        let (first, years) = if before {
            (more, self.years)
        } else {
            (0, self.years + more)
        };
        let span = Span::new().try_years(years).ok()?;
        let span = span.try_months(self.months).ok()?;
        let span = span.try_days(self.days).ok()?;
        Some([Span::new().try_years(first).ok()?, span])
    }

    /// The moment, given what the record says. Without a time of day a day begins at midnight. A date that a year
    /// doesn't have is the last one of its month: who was born on 29 February has a birthday on the 28th in other
    /// years.
    pub(crate) fn resolve(&self, said: Said, zone: &TimeZone, anniversary: i32) -> Option<i64> {
        let [first, then] = self.spans(anniversary)?;
        let on = |day: Date| {
            let day = day.checked_add(first).ok()?.checked_add(then).ok()?;
            let time = self.at.unwrap_or(Time::midnight());
            day.to_datetime(time).to_zoned_datetime(zone.clone()).ok()
        };
        let zoned = match (said, self.at) {
            (Said::Day(day), _) => on(day)?,
            (Said::At(at_ms), at) => {
                let there = Timestamp::from_millisecond(at_ms).ok()?;
                let there = there.to_zoned_datetime(zone.clone());
                match at {
                    Some(_) => on(there.date())?,
                    None => there.checked_add(first).ok()?.checked_add(then).ok()?,
                }
            }
        };
        zoned.timestamp().as_millisecond().checked_add(self.rest_ms)
    }

    /// About what the record says of somebody whose journey begins now; for cohorts that are made up.
    pub(crate) fn before_ms(&self, begins_ms: u64, zone: &TimeZone) -> u64 {
        let said = || {
            let begins_ms = i64::try_from(begins_ms).ok()? - self.rest_ms;
            let there = Timestamp::from_millisecond(begins_ms).ok()?;
            let there = there.to_zoned_datetime(zone.clone());
            let [_, distance] = self.spans(0)?;
            let said = there.checked_sub(distance).ok()?;
            u64::try_from(said.timestamp().as_millisecond()).ok()
        };
        said().unwrap_or(0)
    }
}

/// What a journey does whose date is past already when it is learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Past {
    /// It begins at once.
    Run,
    /// It doesn't begin, which is written down.
    Skip,
    /// It begins at once, at another step, which is a task for staff.
    Escalate(Target),
}

/// A journey's entry by a date.
#[derive(Debug, Clone)]
pub(crate) struct EntryDate {
    pub(crate) begins: Begins,
    /// Whether it comes again each year.
    pub(crate) yearly: bool,
    pub(crate) past: Past,
}

/// A moment at which a journey is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occurrence {
    /// What it is known by beside the resource: what the record says, and which anniversary it is.
    pub(crate) key: String,
    pub(crate) at_ms: u64,
}

/// When a journey is to begin by one fact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Occurrences {
    /// The latest that is not ahead.
    pub(crate) past: Option<Occurrence>,
    /// The first that is ahead.
    pub(crate) next: Option<Occurrence>,
}

impl EntryDate {
    /// When it is to begin by what the record says, seen from a time.
    pub(crate) fn occurrences(&self, said: Said, zone: &TimeZone, now_ms: u64) -> Occurrences {
        let mut found = Occurrences::default();
        let last = if self.yearly { ANNIVERSARIES_MAX } else { 0 };
        for anniversary in 0..=last {
            let Some(at_ms) = self.begins.resolve(said, zone, anniversary) else {
                break;
            };
            let key = match anniversary {
                0 => said.key(),
                anniversary => format!("{}+{anniversary}y", said.key()),
            };
            let occurrence = Occurrence {
                key,
                // Before 1970 is past, and no clock here was ever there.
                at_ms: u64::try_from(at_ms).unwrap_or(0),
            };
            if occurrence.at_ms > now_ms {
                found.next = Some(occurrence);
                break;
            }
            found.past = Some(occurrence);
        }
        found
    }
}

/// What a resource says at a path, if it is a day or a moment.
pub(crate) fn said(path: &Path, resource: &Resource) -> Option<Said> {
    let items = path
        .expression
        .evaluate(resource.as_value(), &Environment::default())
        .ok()?;
    Said::parse(items.first()?.value().as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::zone;
    use proptest::prelude::*;

    fn ms(text: &str) -> u64 {
        u64::try_from(fhir::date::parse(text).unwrap().start_ms).unwrap()
    }

    fn date(begins: &str, yearly: bool) -> EntryDate {
        EntryDate {
            begins: Begins::parse(begins).unwrap(),
            yearly,
            past: Past::Skip,
        }
    }

    #[test]
    fn moments_by_the_calendar_of_the_patients_zone() {
        // The clocks in London go forward on 2026-03-29 at 01:00 and back on 2026-10-25 at 02:00.
        let table = [
            (
                "1961-11-29",
                "b + 65y at 09:00",
                "UTC",
                "2026-11-29T09:00:00Z",
            ),
            (
                "1961-11-29",
                "b + 65y at 09:00",
                "America/New_York",
                "2026-11-29T14:00:00Z",
            ),
            (
                "1961-11-29",
                "b + 65y at 09:00",
                "Pacific/Auckland",
                "2026-11-28T20:00:00Z",
            ),
            (
                "1961-11-29",
                "b + 65y",
                "America/New_York",
                "2026-11-29T05:00:00Z",
            ),
            // 29 February.
            (
                "1960-02-29",
                "b + 65y at 09:00",
                "UTC",
                "2025-02-28T09:00:00Z",
            ),
            (
                "1960-02-29",
                "b + 64y at 09:00",
                "UTC",
                "2024-02-29T09:00:00Z",
            ),
            (
                "2026-01-31",
                "b + 1mo at 09:00",
                "UTC",
                "2026-02-28T09:00:00Z",
            ),
            // The same hour of another day, through the change of the clocks.
            (
                "2026-03-30T09:00:00+01:00",
                "b - 2d",
                "Europe/London",
                "2026-03-28T09:00:00Z",
            ),
            (
                "2026-03-30T09:00:00+01:00",
                "b - 48h",
                "Europe/London",
                "2026-03-28T08:00:00Z",
            ),
            (
                "2026-10-26T09:00:00Z",
                "b - 14d at 09:00",
                "Europe/London",
                "2026-10-12T08:00:00Z",
            ),
            // An hour that there isn't comes as much later; of one that there is twice it is the first.
            (
                "2026-03-28",
                "b + 1d at 01:30",
                "Europe/London",
                "2026-03-29T01:30:00Z",
            ),
            (
                "2026-10-24",
                "b + 1d at 01:30",
                "Europe/London",
                "2026-10-25T00:30:00Z",
            ),
            // The day on which it is there, not in UTC.
            (
                "2026-06-01T23:30:00Z",
                "b + 1d at 08:00",
                "Pacific/Auckland",
                "2026-06-02T20:00:00Z",
            ),
            ("2016-02-29", "b + 10y", "UTC", "2026-02-28T00:00:00Z"),
            (
                "2025-11-29",
                "b + 1y1d at 06:00",
                "UTC",
                "2026-11-30T06:00:00Z",
            ),
            ("2026-03-31", "b - 1mo", "UTC", "2026-02-28T00:00:00Z"),
        ];
        for (said, begins, there, expected) in table {
            let said = Said::parse(said).unwrap();
            let zone = zone(there).unwrap();
            let found = date(begins, false).occurrences(said, &zone, 0).next;
            assert_eq!(
                found.unwrap().at_ms,
                ms(expected),
                "{said:?} {begins} {there}"
            );
        }
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "+ 2d",
            "birth +",
            "birth + y",
            "birth + 2",
            "birth + 2x",
            "birth + 0d",
            "birth + 2d1y",
            "birth + 1d1d",
            "birth + 151y",
            "birth + 36h at 09:00",
            "birth at 9",
            "Birth + 1d",
            "a b",
            "birth + 1d 2h",
        ] {
            assert!(Begins::parse(text).is_err(), "{text}");
        }
        for text in ["2026", "2026-02", "2026-02-30", "today", ""] {
            assert_eq!(Said::parse(text), None, "{text}");
        }
    }

    #[test]
    fn anniversaries_are_counted_from_the_date_itself() {
        let birthday = date("b at 09:00", true);
        let said = Said::parse("1960-02-29").unwrap();
        let mut seen = Vec::new();
        let mut now_ms = ms("2023-03-01T00:00:00Z");
        for _ in 0..3 {
            let next = birthday
                .occurrences(said, &TimeZone::UTC, now_ms)
                .next
                .unwrap();
            now_ms = next.at_ms;
            seen.push((next.key, fhir::date::instant(next.at_ms)));
        }
        let expected = [
            ("1960-02-29+64y", "2024-02-29T09:00:00.000Z"),
            ("1960-02-29+65y", "2025-02-28T09:00:00.000Z"),
            ("1960-02-29+66y", "2026-02-28T09:00:00.000Z"),
        ];
        let expected = expected.map(|(key, at)| (key.to_owned(), at.to_owned()));
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_time_is_known_by_the_same_key_however_it_is_written() {
        let one = Said::parse("2026-11-29T09:00:00+01:00").unwrap();
        let other = Said::parse("2026-11-29T08:00:00.000Z").unwrap();
        assert_eq!(one.key(), other.key());
    }

    proptest! {
        /// Whatever the date, distance, zone and time: what is past is past, what is ahead is ahead, each of them has
        /// its own key, and looking again at the moment itself finds it past.
        #[test]
        fn what_is_past_and_what_is_ahead(
            day in 0i64..40_000, now_day in 0u64..40_000, hour in 0u64..24, years in 0i64..90, yearly: bool,
            there in prop::sample::select(vec!["UTC", "Europe/London", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"]),
            timed in prop::option::of(0u32..24),
        ) {
            let said = Said::Day(Date::constant(1930, 1, 1).checked_add(Span::new().days(day)).unwrap());
            let mut text = if years > 0 { format!("b + {years}y") } else { "b".to_owned() };
            if let Some(hour) = timed {
                text.push_str(&format!(" at {hour:02}:00"));
            }
            let entry = date(&text, yearly);
            let zone = zone(there).unwrap();
            let now_ms = now_day * crate::time::DAY_MS + hour * HOUR_MS;
            let found = entry.occurrences(said, &zone, now_ms);
            prop_assert!(found.past.as_ref().is_none_or(|past| past.at_ms <= now_ms));
            if let Some(next) = &found.next {
                prop_assert!(next.at_ms > now_ms);
                prop_assert_ne!(Some(&next.key), found.past.as_ref().map(|past| &past.key));
                let then = entry.occurrences(said, &zone, next.at_ms);
                prop_assert_eq!(then.past.as_ref(), Some(next));
            }
            prop_assert!(yearly || found.past.is_none() || found.next.is_none());
        }
    }
}
