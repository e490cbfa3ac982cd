//! The little of URLs that FHIR needs here: query strings and percent-encoding (RFC 3986).
use std::fmt::Write as _;

/// Percent-encodes one name or value of a query. `,`, `|`, `:` and `/` stay readable, as R4's own
/// examples write them, save `|`, which RFC 3986 does not allow.
pub(crate) fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b','
            | b':'
            | b'/'
            | b'$' => out.push(byte as char),
            _ => {
                // Writing to a `String` can't fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// `name=value&…` without `?`.
pub(crate) fn query<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

/// Decodes `%xx` and `+`; `None` for a broken escape or what is not UTF-8 then.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// The pairs of a query string; `None` when it is malformed.
pub(crate) fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_survive_the_round_trip() {
        for (name, value) in [
            ("a", "b"),
            ("identifier", "http://x.org/a|1&2"),
            ("name", "Müller+Søn 100%"),
            ("", ""),
            ("q", "a=b#?"),
        ] {
            let text = query([(name, value)].into_iter());
            assert!(text.is_ascii() && !text.contains([' ', '#', '|']), "{text}");
            assert_eq!(
                pairs(&text),
                Some(vec![(name.to_owned(), value.to_owned())]),
                "{text}"
            );
        }
    }

    #[test]
    fn broken_escapes_are_seen() {
        for text in ["a=%", "a=%4", "a=%zz", "a=%ff", "%f=1"] {
            assert_eq!(pairs(text), None, "{text}");
        }
        assert_eq!(
            pairs("a=1+2&&b"),
            Some(vec![
                ("a".to_owned(), "1 2".to_owned()),
                ("b".to_owned(), String::new())
            ])
        );
    }
}
