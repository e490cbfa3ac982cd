//! Times as people read them: relative, with the exact time and its zone behind.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// Both clocks at the moment when a page is made, and the zone to show times in.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// The care clock.
    pub(crate) care_ms: i64,
    /// The wall clock.
    pub(crate) wall_ms: i64,
    /// The zone of the server.
    pub(crate) zone: TimeZone,
}

/// Milliseconds as the store counts them, as pages reckon with them.
pub(crate) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// How far `then` is from `now`, in words. `assets/cairn.js` has the same rules; keep them alike.
pub(crate) fn relative(then: i64, now: i64) -> String {
    let gap = (then - now).abs();
    if gap < 45_000 {
        return "now".to_owned();
    }
    let words = duration(gap);
    if then > now {
        format!("in {words}")
    } else {
        format!("{words} ago")
    }
}

/// A length of time in one unit, rounded.
pub(crate) fn duration(gap_ms: i64) -> String {
    let rounded = |unit: i64| (gap_ms + unit / 2) / unit;
    let (count, unit) = if gap_ms < 45 * MINUTE_MS {
        (rounded(MINUTE_MS), "minute")
    } else if gap_ms < 22 * HOUR_MS {
        (rounded(HOUR_MS), "hour")
    } else if gap_ms < 45 * DAY_MS {
        (rounded(DAY_MS), "day")
    } else if gap_ms < 548 * DAY_MS {
        (rounded(DAY_MS * 3044 / 100), "month")
    } else {
        (rounded(DAY_MS * 36525 / 100), "year")
    };
    let count = count.max(1);
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

impl Times {
    fn strftime(&self, ms: i64, format: &str) -> String {
        Timestamp::from_millisecond(ms).map_or_else(
            |_| "a time out of range".to_owned(),
            |at| {
                at.to_zoned_datetime(self.zone.clone())
                    .strftime(format)
                    .to_string()
            },
        )
    }
    /// `Thu 26 Nov 2026, 19:23 UTC`.
    pub(crate) fn exact(&self, ms: i64) -> String {
        self.strftime(ms, "%a %-d %b %Y, %H:%M %Z")
    }
    /// `26 Nov 2026`.
    pub(crate) fn date(&self, ms: i64) -> String {
        self.strftime(ms, "%-d %b %Y")
    }
    /// `Thursday 26 November, 19:23`; with the year when it is another than now.
    pub(crate) fn plain(&self, ms: i64) -> String {
        let format = if self.strftime(ms, "%Y") == self.strftime(self.care_ms, "%Y") {
            "%A %-d %B, %H:%M"
        } else {
            "%A %-d %B %Y, %H:%M"
        };
        self.strftime(ms, format)
    }
    /// `Thursday 26 November`; with the year when it is another than now.
    pub(crate) fn plain_date(&self, ms: i64) -> String {
        let format = if self.strftime(ms, "%Y") == self.strftime(self.care_ms, "%Y") {
            "%A %-d %B"
        } else {
            "%A %-d %B %Y"
        };
        self.strftime(ms, format)
    }
    /// `19:23`.
    pub(crate) fn hour(&self, ms: i64) -> String {
        self.strftime(ms, "%H:%M")
    }
    /// The day in the zone, as a key to group by (`2026-11-26`).
    pub(crate) fn day_key(&self, ms: i64) -> String {
        self.strftime(ms, "%Y-%m-%d")
    }
    /// `Thu 26 Nov 2026`.
    pub(crate) fn day_title(&self, ms: i64) -> String {
        self.strftime(ms, "%a %-d %b %Y")
    }
    /// How many days of the calendar lie between two times, in the zone.
    pub(crate) fn days_between(&self, from_ms: i64, to_ms: i64) -> i64 {
        let day = |ms: i64| {
            // The wall clock of the zone, read as if it were UTC, counts the zone's days.
            Timestamp::from_millisecond(ms).map_or(0, |at| {
                let offset_s = self.zone.to_offset(at).seconds();
                fhir::date::day(ms + i64::from(offset_s) * 1000)
            })
        };
        day(to_ms) - day(from_ms)
    }
    /// `Thu 26 Nov`; with the year when it is another than now.
    pub(crate) fn day_short(&self, ms: i64) -> String {
        let format = if self.strftime(ms, "%Y") == self.strftime(self.care_ms, "%Y") {
            "%a %-d %b"
        } else {
            "%-d %b %Y"
        };
        self.strftime(ms, format)
    }
    /// The zone in short, now: `UTC`.
    pub(crate) fn zone_short(&self) -> String {
        self.strftime(self.care_ms, "%Z")
    }
    /// The name of the zone as browsers know it; `UTC` when it has none.
    pub(crate) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
    /// A care time: relative, exact behind it.
    pub(crate) fn ago(&self, ms: i64) -> Markup {
        html! { time datetime=(iso(ms)) title=(self.exact(ms)) data-ms=(ms) { (relative(ms, self.care_ms)) } }
    }
    /// A care time: exact, then relative.
    pub(crate) fn both(&self, ms: i64) -> Markup {
        html! { (self.exact(ms)) " (" (self.ago(ms)) ")" }
    }
    /// A time of the wall clock (sessions, the mailbox): relative, exact behind it.
    pub(crate) fn wall(&self, ms: i64) -> Markup {
        html! { time datetime=(iso(ms)) title=(self.exact(ms)) data-ms=(ms) data-clock="wall" { (relative(ms, self.wall_ms)) } }
    }
}

/// ISO 8601 in UTC.
pub(crate) fn iso(ms: i64) -> String {
    u64::try_from(ms).map_or_else(
        |_| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string()),
        fhir::date::instant,
    )
}

/// A FHIR date or time string as shown: to the precision that it has. `(sort position, text, has a time of day)`.
pub(crate) fn fhir_time(times: &Times, text: &str) -> Option<(i64, String, bool)> {
    let parsed = fhir::date::parse(text)?;
    Some(match text.len() {
        0..=4 => (parsed.start_ms, text.to_owned(), false),
        5..=7 => (parsed.start_ms, month(text), false),
        8..=10 => (parsed.start_ms, day(text), false),
        _ => (parsed.start_ms, times.exact(parsed.start_ms), true),
    })
}

/// `1941-03-07` as `7 Mar 1941`: a calendar date has no zone, so none may move it.
pub(crate) fn day(text: &str) -> String {
    text.parse::<jiff::civil::Date>().map_or_else(
        |_| text.to_owned(),
        |date| date.strftime("%-d %b %Y").to_string(),
    )
}

fn month(text: &str) -> String {
    format!("{text}-01")
        .parse::<jiff::civil::Date>()
        .map_or_else(
            |_| text.to_owned(),
            |date| date.strftime("%b %Y").to_string(),
        )
}

/// When a day begins in a zone, as FHIR's searches take it.
pub(crate) fn day_begins(day: jiff::civil::Date, zone: &jiff::tz::TimeZone) -> Option<String> {
    let midnight = day.to_datetime(jiff::civil::Time::midnight());
    let start = midnight.to_zoned_datetime(zone.clone()).ok()?;
    let start_ms = u64::try_from(start.timestamp().as_millisecond()).ok()?;
    Some(fhir::date::instant(start_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_words() {
        for (gap, words) in [
            (0, "now"),
            (44_000, "now"),
            (-46_000, "1 minute ago"),
            (5 * MINUTE_MS, "in 5 minutes"),
            (50 * MINUTE_MS, "in 1 hour"),
            (-23 * HOUR_MS, "1 day ago"),
            (3 * DAY_MS, "in 3 days"),
            (-60 * DAY_MS, "2 months ago"),
            (-800 * DAY_MS, "2 years ago"),
        ] {
            assert_eq!(relative(1_000_000_000_000 + gap, 1_000_000_000_000), words);
        }
    }

    #[test]
    fn exact_times_name_their_zone() {
        let times = Times {
            care_ms: 0,
            wall_ms: 0,
            zone: TimeZone::UTC,
        };
        assert_eq!(times.exact(0), "Thu 1 Jan 1970, 00:00 UTC");
        assert_eq!(times.day_key(-1), "1969-12-31");
        assert_eq!(day("1941-03-07"), "7 Mar 1941");
    }

    #[test]
    fn days_are_those_of_the_calendar_in_the_zone() {
        let at = |hours: i64| hours * HOUR_MS;
        let utc = Times {
            care_ms: 0,
            wall_ms: 0,
            zone: TimeZone::UTC,
        };
        let east = Times {
            zone: TimeZone::fixed(jiff::tz::offset(2)),
            ..utc.clone()
        };
        assert_eq!(utc.days_between(at(20), at(26)), 1);
        assert_eq!(utc.days_between(at(1), at(23)), 0);
        assert_eq!(east.days_between(at(1), at(23)), 1);
    }
}
