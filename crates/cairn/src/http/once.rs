//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that may come again is carried
//! out once.

use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode, header};
use bytes::Bytes;
use fhir::IssueCode;
use trust::Once;

use super::fhir::{Refused, refuse};

const NAME: &str = "idempotency-key";
/// The longest key, characters: a UUID has 36.
const KEY_MAX: usize = 255;
/// Headers that change what a request does, or what it is answered.
const COUNT: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    HeaderName::from_static("if-none-exist"),
];

/// The key of a request that writes, with all that tells the request from others.
pub(super) fn of(parts: &Parts, body: &Bytes) -> Result<Option<Once>, Refused> {
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if !writes.contains(&parts.method) {
        return Ok(None);
    }
    let mut values = parts.headers.get_all(NAME).iter();
    let key = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(one), None) => one.to_str().ok().and_then(key),
        (Some(_), Some(_)) => None,
    };
    let Some(key) = key else {
        return refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Value,
            format!(
                "Idempotency-Key must be there once: 1 to {KEY_MAX} printable characters of ASCII without blanks, quotes and backslashes, in quotes or not"
            ),
        );
    };
    let address = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut request: Vec<&[u8]> = vec![parts.method.as_str().as_bytes(), address.as_bytes(), body];
    for name in &COUNT {
        let value = parts.headers.get(name);
        request.push(value.map_or(&[][..], |value| value.as_bytes()));
    }
    Ok(Some(Once::new(key, &request)))
}

/// A key is a string as RFC 8941 has them, in quotes; many clients leave these out.
fn key(text: &str) -> Option<&str> {
    let text = text.trim();
    let inner = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let formed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    ((1..=KEY_MAX).contains(&inner.len()) && inner.bytes().all(formed)).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let long = "k".repeat(KEY_MAX + 1);
        for (text, expected) in [
            ("\"8e03978e-40d5\"", Some("8e03978e-40d5")),
            ("8e03978e-40d5", Some("8e03978e-40d5")),
            (" a ", Some("a")),
            (&long[1..], Some(&long[1..])),
            ("", None),
            ("\"\"", None),
            ("\"a", None),
            ("a\"", None),
            ("a b", None),
            ("a\\b", None),
            ("\u{e4}", None),
            (&long, None),
        ] {
            assert_eq!(key(text), expected, "{text}");
        }
    }
}
