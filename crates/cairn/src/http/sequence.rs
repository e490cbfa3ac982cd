//! `Cairn-Sequence`: how new an answer has to be.
//!
//! An answer to a FHIR request says by this header which sequence number it has reached. A read that sends
//! the header takes an answer that is at least so new, which a read replica may give; without it, it gets
//! what holds now. What a read with the header is answered repeats its number.
//!
//! The answer also has as `Warning` headers the notices that the law wants beside what is in it, as that of
//! 42 CFR 2.32.

use axum::http::header::WARNING;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use fhir::{IssueCode, OperationOutcome};
use ledger::Number;
use trust::Freshness;

const NAME: HeaderName = HeaderName::from_static("cairn-sequence");

/// How new the answer to a request has to be, by its header.
pub(super) fn asked(headers: &HeaderMap) -> Result<Freshness, OperationOutcome> {
    let mut values = headers.get_all(&NAME).iter();
    let freshness = match (values.next(), values.next()) {
        (None, _) => Some(Freshness::default()),
        (Some(one), None) => number(one).map(Freshness::at_least),
        (Some(_), Some(_)) => None,
    };
    freshness.ok_or_else(|| {
        let words =
            "Cairn-Sequence must be there once, and be the number of an answer's Cairn-Sequence";
        OperationOutcome::error(IssueCode::Value, words)
    })
}

/// Says in the header of an answer how new it is.
pub(super) fn tell(freshness: &Freshness, response: &mut Response) {
    if let Some(Number(reached)) = freshness.reached() {
        response
            .headers_mut()
            .insert(NAME, HeaderValue::from(reached));
    }
    tell_notices(freshness, response);
}

/// Puts into the header of an answer the notices that go with what was read for it.
pub(super) fn tell_notices(freshness: &Freshness, response: &mut Response) {
    for notice in freshness.notices() {
        // RFC 7234, section 5.5: a miscellaneous warning that stays with the answer. Rule packs have no
        // notices that aren't plain text.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{notice}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

fn number(value: &HeaderValue) -> Option<Number> {
    let text = value.to_str().ok()?;
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits).map(Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_sequences() {
        let read = |text: &str| number(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("0"), Some(Number(0)));
        assert_eq!(read("18446744073709551615"), Some(Number(u64::MAX)));
        for wrong in [
            "",
            "+1",
            "-1",
            "1 ",
            "1,2",
            "0x1",
            "18446744073709551616",
            "now",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
