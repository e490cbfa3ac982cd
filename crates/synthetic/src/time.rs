//! Times as FHIR spells them.

use jiff::{Timestamp, tz::Offset};

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// A `dateTime` to the second, in UTC.
pub(crate) fn date_time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::MAX)
        .to_string()
}

/// The `date` of a day counted from 1970-01-01.
pub(crate) fn date(day: i64) -> String {
    let midnight = Timestamp::from_second(day.saturating_mul(86_400)).unwrap_or(Timestamp::MIN);
    Offset::UTC.to_datetime(midnight).date().to_string()
}

/// The day of a time, counted from 1970-01-01.
pub(crate) fn day(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / DAY_MS).unwrap_or(i64::MAX)
}
