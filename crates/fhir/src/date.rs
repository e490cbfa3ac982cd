//! FHIR `date`, `dateTime` and `instant`: partial dates as intervals of time.

/// A date of any FHIR precision, as the half-open interval of milliseconds that it covers.
/// Without a zone, UTC is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialDate {
    /// First millisecond covered, since the Unix epoch.
    pub start_ms: i64,
    /// First millisecond no longer covered.
    pub end_ms: i64,
}

/// Parses any precision from `YYYY` to milliseconds with zone.
#[must_use]
pub fn parse(text: &str) -> Option<PartialDate> {
    todo!("{text}")
}

/// `2026-11-26T19:23:32.123Z`.
#[must_use]
pub fn instant(unix_ms: u64) -> String {
    todo!("{unix_ms}")
}

/// The days since 1970-01-01 of a time (rounds towards minus infinity).
#[must_use]
pub fn day(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(86_400_000)
}
