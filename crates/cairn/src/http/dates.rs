//! HTTP's dates (RFC 9110, section 5.6.7), which are of whole seconds.
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

const FORMAT: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// The form that is sent.
pub(super) fn http_date(unix_ms: u64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
    Some(time.strftime(FORMAT).to_string())
}

/// Seconds since the epoch. The two forms of former times, which nobody sends any more, are not read.
pub(super) fn parse(text: &str) -> Option<u64> {
    let time = BrokenDownTime::parse(FORMAT, text.trim()).ok()?;
    let time = TimeZone::UTC.to_timestamp(time.to_datetime().ok()?).ok()?;
    u64::try_from(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(http_date(784_111_777_999).as_deref(), Some(text));
        assert_eq!(parse(text), Some(784_111_777));
        for wrong in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
