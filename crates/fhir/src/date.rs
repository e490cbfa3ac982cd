//! FHIR `date`, `dateTime` and `instant`: partial dates as intervals of time.

use std::fmt;

/// A date of any FHIR precision, as the half-open interval of milliseconds that it covers.
/// Without a zone, UTC is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialDate {
    /// First millisecond covered, since the Unix epoch.
    pub start_ms: i64,
    /// First millisecond no longer covered.
    pub end_ms: i64,
}

/// Parses any precision from `YYYY` to milliseconds with zone. Minutes are needed where there are
/// hours; seconds and zone may be left out. Digits beyond milliseconds are cut off. Leap seconds,
/// the year 0 and days that no calendar has are refused.
#[must_use]
pub fn parse(text: &str) -> Option<PartialDate> {
    let parts = Parts::parse(text)?;
    (parts.hour.is_none() || parts.minute.is_some()).then(|| parts.interval())
}

/// `2026-11-26T19:23:32.123Z`. Times after the year 9999 are shown as its last millisecond.
#[must_use]
pub fn instant(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX).min(LAST_MS);
    Parts::from_unix_ms(unix_ms).to_string()
}

/// The same for times that may be before 1970: `1960-02-29T00:00:00.000Z`. Times before the year 1 are shown as its
/// first millisecond.
#[must_use]
pub fn moment(unix_ms: i64) -> String {
    Parts::from_unix_ms(unix_ms.clamp(FIRST_MS, LAST_MS)).to_string()
}

/// The days since 1970-01-01 of a time (rounds towards minus infinity).
#[must_use]
pub fn day(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(DAY_MS)
}

const DAY_MS: i64 = 86_400_000;
/// 0001-01-01T00:00:00.000Z.
const FIRST_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
const LAST_MS: i64 = 253_402_300_799_999;

/// A date, time of day, or both, as written: what isn't written is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) year: i64,
    pub(crate) month: Option<u8>,
    pub(crate) day: Option<u8>,
    pub(crate) hour: Option<u8>,
    pub(crate) minute: Option<u8>,
    pub(crate) second: Option<u8>,
    pub(crate) millisecond: Option<u16>,
    /// Minutes east of UTC.
    pub(crate) offset_min: Option<i16>,
}

impl Parts {
    /// A date or date-time of any precision, hours alone included (FHIRPath has those).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut parts = Self {
            year: number(bytes, 0, 4).filter(|year| *year > 0)?,
            month: None,
            day: None,
            hour: None,
            minute: None,
            second: None,
            millisecond: None,
            offset_min: None,
        };
        if bytes.len() == 4 {
            return Some(parts);
        }
        let month = two(bytes, 4, b'-').filter(|month| (1..=12).contains(month))?;
        parts.month = Some(month);
        if bytes.len() == 7 {
            return Some(parts);
        }
        parts.day = Some(
            two(bytes, 7, b'-')
                .filter(|day| (1..=days_in_month(parts.year, month)).contains(day))?,
        );
        if bytes.len() == 10 {
            return Some(parts);
        }
        (bytes[10] == b'T').then_some(())?;
        parts.time(&bytes[11..])?;
        Some(parts)
    }

    /// A time of day `hh[:mm[:ss[.fff]]]` without zone.
    pub(crate) fn parse_time(text: &str) -> Option<Self> {
        let mut parts = Self {
            year: 1,
            month: None,
            day: None,
            hour: None,
            minute: None,
            second: None,
            millisecond: None,
            offset_min: None,
        };
        parts.time(text.as_bytes())?;
        parts.offset_min.is_none().then_some(parts)
    }

    fn time(&mut self, bytes: &[u8]) -> Option<()> {
        self.hour = Some(
            u8::try_from(number(bytes, 0, 2)?)
                .ok()
                .filter(|hour| *hour < 24)?,
        );
        let mut at = 2;
        if bytes.get(at) == Some(&b':') {
            self.minute = Some(two(bytes, at, b':').filter(|minute| *minute < 60)?);
            at += 3;
            if bytes.get(at) == Some(&b':') {
                self.second = Some(two(bytes, at, b':').filter(|second| *second < 60)?);
                at += 3;
                if bytes.get(at) == Some(&b'.') {
                    let digits = bytes[at + 1..]
                        .iter()
                        .take_while(|byte| byte.is_ascii_digit())
                        .count();
                    let fraction = bytes[at + 1..][..digits].iter().chain(&[b'0'; 3]).take(3);
                    self.millisecond =
                        Some(fraction.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')));
                    at += 1 + digits;
                    (digits > 0).then_some(())?;
                }
            }
        }
        self.offset_min = match &bytes[at..] {
            [] => return Some(()),
            b"Z" => Some(0),
            zone @ [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let minutes =
                    number(zone, 1, 2)? * 60 + number(zone, 4, 2).filter(|minute| *minute < 60)?;
                let minutes = i16::try_from(minutes)
                    .ok()
                    .filter(|minutes| *minutes <= 14 * 60)?;
                Some(if *sign == b'-' { -minutes } else { minutes })
            }
            _ => return None,
        };
        Some(())
    }

    /// The time as UTC, to the millisecond.
    pub(crate) fn from_unix_ms(unix_ms: i64) -> Self {
        let (year, month, day) = civil(unix_ms.div_euclid(DAY_MS));
        let in_day = unix_ms.rem_euclid(DAY_MS);
        let small = |value: i64| u8::try_from(value).ok();
        Self {
            year,
            month: Some(month),
            day: Some(day),
            hour: small(in_day / 3_600_000),
            minute: small(in_day / 60_000 % 60),
            second: small(in_day / 1000 % 60),
            millisecond: u16::try_from(in_day % 1000).ok(),
            offset_min: Some(0),
        }
    }

    /// Milliseconds since the epoch of the first moment covered.
    pub(crate) fn start_ms(&self) -> i64 {
        let days = days(self.year, self.month.unwrap_or(1), self.day.unwrap_or(1));
        let minutes = i64::from(self.hour.unwrap_or(0)) * 60 + i64::from(self.minute.unwrap_or(0))
            - i64::from(self.offset_min.unwrap_or(0));
        days * DAY_MS
            + minutes * 60_000
            + i64::from(self.second.unwrap_or(0)) * 1000
            + i64::from(self.millisecond.unwrap_or(0))
    }

    /// The interval covered.
    pub(crate) fn interval(&self) -> PartialDate {
        let start_ms = self.start_ms();
        let end_ms = match (
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.millisecond,
        ) {
            (.., Some(_)) => start_ms + 1,
            (.., Some(_), None) => start_ms + 1000,
            (.., Some(_), None, None) => start_ms + 60_000,
            (.., Some(_), None, None, None) => start_ms + 3_600_000,
            (_, Some(_), ..) => start_ms + DAY_MS,
            (Some(month), ..) => start_ms + i64::from(days_in_month(self.year, month)) * DAY_MS,
            (None, ..) => days(self.year + 1, 1, 1) * DAY_MS,
        };
        PartialDate { start_ms, end_ms }
    }

    pub(crate) fn has_time(&self) -> bool {
        self.hour.is_some()
    }
}

/// As FHIR writes it; a time of day alone is written by [`Parts::time_text`].
impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.year)?;
        for part in [self.month, self.day].into_iter().flatten() {
            write!(f, "-{part:02}")?;
        }
        if self.has_time() {
            write!(f, "T{}", self.time_text())?;
        }
        match self.offset_min {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(
                    f,
                    "{sign}{:02}:{:02}",
                    minutes.abs() / 60,
                    minutes.abs() % 60
                )
            }
        }
    }
}

impl Parts {
    /// `hh[:mm[:ss[.fff]]]`.
    pub(crate) fn time_text(&self) -> String {
        let mut text = format!("{:02}", self.hour.unwrap_or(0));
        for part in [self.minute, self.second].into_iter().flatten() {
            text += &format!(":{part:02}");
        }
        if let Some(millisecond) = self.millisecond {
            text += &format!(".{millisecond:03}");
        }
        text
    }
}

/// Whether a text is a FHIR `date`: `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
pub(crate) fn is_date(text: &str) -> bool {
    text.len() <= 10 && Parts::parse(text).is_some()
}

/// Whether a text is a FHIR `dateTime`: a date, or down to the second at least and with a zone.
pub(crate) fn is_date_time(text: &str) -> bool {
    Parts::parse(text).is_some_and(|parts| {
        !parts.has_time() || (parts.second.is_some() && parts.offset_min.is_some())
    })
}

/// Whether a text is a FHIR `instant`: down to the second at least and with a zone.
pub(crate) fn is_instant(text: &str) -> bool {
    is_date_time(text) && text.len() > 10
}

/// Whether a text is a FHIR `time`: `hh:mm:ss` with optional fraction.
pub(crate) fn is_time(text: &str) -> bool {
    Parts::parse_time(text).is_some_and(|parts| parts.second.is_some())
}

fn number(bytes: &[u8], at: usize, digits: usize) -> Option<i64> {
    bytes.get(at..at + digits)?.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// Two digits behind a separator.
fn two(bytes: &[u8], at: usize, separator: u8) -> Option<u8> {
    (*bytes.get(at)? == separator).then_some(())?;
    u8::try_from(number(bytes, at + 1, 2)?).ok()
}

pub(crate) fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Own arithmetic, since the calendar
/// crate's time stamps end before the year 9999 does, and this is on the path of every indexed date.
pub(crate) fn days(year: i64, month: u8, day: u8) -> i64 {
    // Years that begin in March put the leap day last.
    let (month, day) = (i64::from(month), i64::from(day));
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
pub(crate) fn civil(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = u8::try_from(day_of_year - (153 * shifted + 2) / 5 + 1).unwrap_or(1);
    let month = u8::try_from(if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    })
    .unwrap_or(1);
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn intervals() {
        for (text, start, end) in [
            ("2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2024-02", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("2000-02-29", "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z"),
            ("2026-12-31", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("1969-12-31", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1900-03-01", "1900-03-01T00:00:00Z", "1900-03-02T00:00:00Z"),
            ("0001", "0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z"),
            (
                "2026-11-26T19:23",
                "2026-11-26T19:23:00Z",
                "2026-11-26T19:24:00Z",
            ),
            (
                "2026-11-26T19:23Z",
                "2026-11-26T19:23:00Z",
                "2026-11-26T19:24:00Z",
            ),
            (
                "2026-11-26T19:23:32",
                "2026-11-26T19:23:32Z",
                "2026-11-26T19:23:33Z",
            ),
            (
                "2026-11-26T19:23:32Z",
                "2026-11-26T19:23:32Z",
                "2026-11-26T19:23:33Z",
            ),
            (
                "2026-11-26T23:59:59+02:00",
                "2026-11-26T21:59:59Z",
                "2026-11-26T22:00:00Z",
            ),
            (
                "2026-11-26T23:59:59-05:30",
                "2026-11-27T05:29:59Z",
                "2026-11-27T05:30:00Z",
            ),
            (
                "2026-01-01T00:00:00+14:00",
                "2025-12-31T10:00:00Z",
                "2025-12-31T10:00:01Z",
            ),
            (
                "2026-11-26T19:23:32.1Z",
                "2026-11-26T19:23:32.1Z",
                "2026-11-26T19:23:32.101Z",
            ),
            (
                "2026-11-26T19:23:32.123456789Z",
                "2026-11-26T19:23:32.123Z",
                "2026-11-26T19:23:32.124Z",
            ),
            (
                "1955-05-01T00:00:00.000-04:00",
                "1955-05-01T04:00:00Z",
                "1955-05-01T04:00:00.001Z",
            ),
        ] {
            assert_eq!(
                parse(text),
                Some(PartialDate {
                    start_ms: ms(start),
                    end_ms: ms(end)
                }),
                "{text}"
            );
        }
        // The calendar crate's time stamps end before this one does.
        assert_eq!(parse("9999").map(|date| date.end_ms), Some(LAST_MS + 1));
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "26",
            "0000",
            "20261",
            "2026-",
            "2026-1",
            "2026-13",
            "2026-00",
            "2026-02-29",
            "1900-02-29",
            "2026-04-31",
            "2026-01-00",
            "2026-01-1",
            "2026/01/01",
            "2026-01-01T",
            "2026-01-01T10",
            "2026-01-01T24:00",
            "2026-01-01T10:60",
            "2026-01-01T10:00:60Z",
            "2016-12-31T23:59:60Z",
            "2026-01-01 10:00",
            "2026-01-01T10:00:00.",
            "2026-01-01T10:00:00+15:00",
            "2026-01-01T10:00:00+14:01",
            "2026-01-01T10:00:00+0200",
            "2026-01-01T10:00:00z",
            "2026-01-01Z",
            " 2026",
            "2026 ",
            "２０２６",
            "2026-01-01T10:00:00ZZ",
            "-2026",
            "2026-01-01T10:00:00+1a:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formats_of_the_data_types() {
        for (text, date, date_time, instant) in [
            ("2026", true, true, false),
            ("2026-11-26", true, true, false),
            ("2026-11-26T10:00:00Z", false, true, true),
            ("2026-11-26T10:00:00.5+01:00", false, true, true),
            ("2026-11-26T10:00:00", false, false, false),
            ("2026-11-26T10:00Z", false, false, false),
            ("x", false, false, false),
        ] {
            assert_eq!(
                (is_date(text), is_date_time(text), is_instant(text)),
                (date, date_time, instant),
                "{text}"
            );
        }
        for (text, fine) in [
            ("10:00:00", true),
            ("10:00:00.25", true),
            ("10:00", false),
            ("24:00:00", false),
            ("10:00:00Z", false),
        ] {
            assert_eq!(is_time(text), fine, "{text}");
        }
    }

    #[test]
    fn instants_and_days() {
        assert_eq!(instant(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(instant(1_795_721_012_123), "2026-11-26T19:23:32.123Z");
        assert_eq!(instant(u64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(moment(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(moment(i64::MIN), "0001-01-01T00:00:00.000Z");
        assert_eq!(moment(i64::MAX), instant(u64::MAX));
        assert_eq!(
            (day(-1), day(0), day(86_399_999), day(86_400_000)),
            (-1, 0, 0, 1)
        );
    }

    #[test]
    fn the_calendar_agrees_with_the_calendar_crate() {
        let mut date = jiff::civil::date(1583, 1, 1);
        let epoch = jiff::civil::date(1970, 1, 1);
        for _ in 0..3000 {
            let (year, month, day) = (
                i64::from(date.year()),
                u8::try_from(date.month()).unwrap(),
                u8::try_from(date.day()).unwrap(),
            );
            let count = i64::from((date - epoch).get_days());
            assert_eq!(days(year, month, day), count, "{date}");
            assert_eq!(civil(count), (year, month, day), "{date}");
            date = date.checked_add(jiff::ToSpan::days(97)).unwrap();
        }
    }
}
