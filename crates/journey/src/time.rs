//! Durations and moments of the language, and how people say them.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;
/// Longest duration that the language takes: ten years, so that no sum can overflow a date.
const LONGEST_MS: u64 = 3660 * DAY_MS;

/// Parses `90m`, `24h`, `2d`, `1w`, sums of them in falling order (`1d12h`), and the ISO 8601 forms
/// of the same (`PT24H`, `P2D`, `P1W`).
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is no duration; write it like `90m`, `24h`, `2d`, `1w` or `1d12h`");
    let upper = text.trim().to_ascii_uppercase();
    let (body, iso) = upper
        .strip_prefix('P')
        .map_or((upper.as_str(), false), |body| (body, true));
    let mut total = 0u64;
    let mut number = String::new();
    let mut last_unit = u64::MAX;
    let mut in_time = !iso;
    for character in body.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        if character == 'T' && iso && number.is_empty() && !in_time {
            in_time = true;
            continue;
        }
        let unit = match character {
            'M' if in_time => MINUTE_MS,
            'H' if in_time => HOUR_MS,
            'D' if !iso || !in_time => DAY_MS,
            'W' if !iso || !in_time => WEEK_MS,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        if unit >= last_unit {
            return Err(wrong());
        }
        last_unit = unit;
        total = count
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() || last_unit == u64::MAX || (iso && in_time && body.ends_with('T')) {
        return Err(wrong());
    }
    if total == 0 {
        return Err(format!("`{text}` is no time at all; give at least `1m`"));
    }
    if total > LONGEST_MS {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Ok(total)
}

/// `2 days`, `24 hours`, `1 day 12 hours`: as people say it.
pub(crate) fn say_duration(duration_ms: u64) -> String {
    let hours = duration_ms / HOUR_MS;
    let minutes = duration_ms % HOUR_MS / MINUTE_MS;
    let part = |count: u64, unit: &str| {
        if count == 1 {
            format!("1 {unit}")
        } else {
            format!("{count} {unit}s")
        }
    };
    // One or two days read better as hours, which is how clinicians state them.
    let (days, hours) = if hours > 48 {
        (hours / 24, hours % 24)
    } else if hours == 48 {
        (2, 0)
    } else {
        (0, hours)
    };
    let mut parts = Vec::new();
    if days > 0 {
        parts.push(part(days, "day"));
    }
    if hours > 0 {
        parts.push(part(hours, "hour"));
    }
    if minutes > 0 {
        parts.push(part(minutes, "minute"));
    }
    if parts.is_empty() {
        "no time".to_owned()
    } else {
        parts.join(" ")
    }
}

/// A time of day.
pub(crate) fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is no time of day; write it like `09:00`");
    let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
    if hour.is_empty() || hour.len() > 2 || minute.len() != 2 {
        return Err(wrong());
    }
    let hour: i8 = hour.parse().map_err(|_| wrong())?;
    let minute: i8 = minute.parse().map_err(|_| wrong())?;
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

/// A point in time that hangs on a fact: `discharge + 2d at 09:00`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moment {
    /// Name of the anchor; `start` is when the journey began.
    pub(crate) anchor: String,
    /// Whole days after (or before) it, counted in the journey's time zone when `at` is given.
    pub(crate) offset_ms: i64,
    /// Time of day in the journey's time zone.
    pub(crate) at: Option<Time>,
}

impl Moment {
    /// Parses `ANCHOR [+|- DURATION] [at HH:MM]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no moment; write it like `discharge + 2d` or `discharge + 2d at 09:00`"
            )
        };
        let (rest, at) = match text.split_once(" at ") {
            Some((rest, at)) => (rest, Some(time_of_day(at)?)),
            None => (text, None),
        };
        let split = rest.find(['+', '-']);
        let (anchor, offset_ms) = match split {
            Some(place) => {
                let length =
                    i64::try_from(duration(rest[place + 1..].trim())?).map_err(|_| wrong())?;
                (
                    &rest[..place],
                    if rest[place..].starts_with('-') {
                        -length
                    } else {
                        length
                    },
                )
            }
            None => (rest, 0),
        };
        let anchor = anchor.trim();
        if anchor.is_empty()
            || !anchor
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return Err(wrong());
        }
        if at.is_some() && offset_ms % i64::try_from(DAY_MS).unwrap_or(1) != 0 {
            return Err(format!(
                "`{text}`: with a time of day the distance must be whole days"
            ));
        }
        Ok(Self {
            anchor: anchor.to_owned(),
            offset_ms,
            at,
        })
    }
    /// The moment, given the anchor's time.
    pub(crate) fn resolve(&self, anchor_ms: u64, zone: &TimeZone) -> u64 {
        let plain = i64::try_from(anchor_ms)
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset_ms)
            .max(0);
        let plain_ms = u64::try_from(plain).unwrap_or(0);
        let Some(at) = self.at else { return plain_ms };
        let days = self.offset_ms / i64::try_from(DAY_MS).unwrap_or(1);
        let resolved = timestamp(anchor_ms)
            .to_zoned_datetime(zone.clone())
            .date()
            .checked_add(Span::new().days(days))
            .ok()
            .and_then(|date| date.to_datetime(at).to_zoned_datetime(zone.clone()).ok());
        resolved.map_or(plain_ms, |zoned| {
            u64::try_from(zoned.timestamp().as_millisecond()).unwrap_or(0)
        })
    }
}

/// So long before a time. Whole days are counted in the zone, to the same time of day, as with `at` in a moment; all
/// else is exact.
pub(crate) fn before(at_ms: u64, length_ms: u64, zone: &TimeZone) -> u64 {
    let exact_ms = at_ms.saturating_sub(length_ms);
    let offset_ms = i64::try_from(length_ms).ok().map(|length_ms| -length_ms);
    let Some(offset_ms) = offset_ms.filter(|_| length_ms.is_multiple_of(DAY_MS)) else {
        return exact_ms;
    };
    let time = timestamp(at_ms).to_zoned_datetime(zone.clone()).time();
    let moment = Moment {
        anchor: String::new(),
        offset_ms,
        at: Some(time),
    };
    moment.resolve(at_ms, zone)
}

/// `2026-03-04 09:00`, in a time zone.
pub(crate) fn say_minute(unix_ms: u64, zone: &TimeZone) -> String {
    let zoned = timestamp(unix_ms).to_zoned_datetime(zone.clone());
    zoned.strftime("%Y-%m-%d %H:%M").to_string()
}

fn timestamp(unix_ms: u64) -> Timestamp {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `Thursday 3 December 2026`, in the journey's time zone.
pub(crate) fn say_day(unix_ms: u64, zone: &TimeZone) -> String {
    timestamp(unix_ms)
        .to_zoned_datetime(zone.clone())
        .strftime("%A %-d %B %Y")
        .to_string()
}

/// `2026-12-03`, in the journey's time zone: for words in a language of which this program knows no names of days.
pub(crate) fn say_date(unix_ms: u64, zone: &TimeZone) -> String {
    timestamp(unix_ms)
        .to_zoned_datetime(zone.clone())
        .strftime("%Y-%m-%d")
        .to_string()
}

/// `09:00`, in the journey's time zone.
pub(crate) fn say_time(unix_ms: u64, zone: &TimeZone) -> String {
    timestamp(unix_ms)
        .to_zoned_datetime(zone.clone())
        .strftime("%H:%M")
        .to_string()
}

/// A time zone by its IANA name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| format!("`{name}` is no time zone that this machine knows; write an IANA name like `Europe/London` or `UTC`"))
}

/// A half-open span of time in milliseconds; kept as two numbers in state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    #[serde(rename = "s")]
    pub(crate) start_ms: u64,
    #[serde(rename = "e")]
    pub(crate) end_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("90m", 90 * MINUTE_MS),
            ("24h", DAY_MS),
            ("2d", 2 * DAY_MS),
            ("1w", 7 * DAY_MS),
            ("1d12h", 36 * HOUR_MS),
            ("PT24H", DAY_MS),
            ("P2D", 2 * DAY_MS),
            ("P1DT12H", 36 * HOUR_MS),
        ];
        for (text, expected) in table {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "2",
            "d",
            "0h",
            "2x",
            "12h1d",
            "1d1d",
            "PT",
            "P",
            "9999w",
            "-2d",
            "99999999999999999999h",
            "P1DT",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn days_before_are_those_of_the_calendar() {
        let london = zone("Europe/London").unwrap();
        let at = |text: &str| {
            u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
        };
        // The clocks go back in London on 2026-10-25, and forward on 2027-03-28 at one.
        let table = [
            ("2026-10-26T10:00:00Z", "7d", "2026-10-19T09:00:00Z"),
            ("2026-10-25T10:00:00Z", "1d", "2026-10-24T09:00:00Z"),
            ("2026-10-25T10:00:00Z", "24h", "2026-10-24T09:00:00Z"),
            ("2026-10-25T10:00:00Z", "26h", "2026-10-24T08:00:00Z"),
            ("2026-10-25T02:00:00Z", "2h", "2026-10-25T00:00:00Z"),
            ("2027-03-28T09:00:00Z", "1d", "2027-03-27T10:00:00Z"),
            // Half past one isn't there on that day.
            ("2027-03-29T00:30:00Z", "1d", "2027-03-28T01:30:00Z"),
            ("2028-03-01T10:00:00Z", "1d", "2028-02-29T10:00:00Z"),
        ];
        for (visit, length, expected) in table {
            let before_ms = before(at(visit), duration(length).unwrap(), &london);
            assert_eq!(before_ms, at(expected), "{length} before {visit}");
        }
    }

    #[test]
    fn durations_are_said_as_people_say_them() {
        let table = [
            ("90m", "1 hour 30 minutes"),
            ("24h", "24 hours"),
            ("2d", "2 days"),
            ("36h", "36 hours"),
            ("30d", "30 days"),
            ("1h", "1 hour"),
        ];
        for (text, words) in table {
            assert_eq!(say_duration(duration(text).unwrap()), words);
        }
    }

    #[test]
    fn moments_follow_the_zone_through_the_clock_change() {
        let london = zone("Europe/London").unwrap();
        let at = |text: &str| {
            u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
        };
        // The clocks go back in London on 2026-10-25.
        let discharge = at("2026-10-24T14:30:00Z");
        let table = [
            ("discharge + 2d", "2026-10-26T14:30:00Z"),
            ("discharge + 2d at 09:00", "2026-10-26T09:00:00Z"),
            ("discharge at 09:00", "2026-10-24T08:00:00Z"),
            ("discharge - 1d at 09:00", "2026-10-23T08:00:00Z"),
            ("discharge + 36h", "2026-10-26T02:30:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(
                Moment::parse(text).unwrap().resolve(discharge, &london),
                at(expected),
                "{text}"
            );
        }
        for text in [
            "",
            "+ 2d",
            "discharge + ",
            "discharge + 36h at 09:00",
            "discharge + 2d at 9",
            "dis charge + 2d",
            "discharge * 2",
        ] {
            assert!(Moment::parse(text).is_err(), "{text}");
        }
    }
}
