//! `encode`, `decode`, `escape` and `unescape` (FHIRPath 2.1, section 5.6).
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::fmt::Write as _;

/// The text in an encoding (`base64`, `urlbase64`, `hex`); `None` for any other.
pub(super) fn encode(text: &str, encoding: &str) -> Option<String> {
    Some(match encoding {
        "base64" => STANDARD.encode(text),
        "urlbase64" => URL_SAFE.encode(text),
        "hex" => text.bytes().fold(String::new(), |mut out, byte| {
            // Writing to a text can't fail.
            let _ = write!(out, "{byte:02x}");
            out
        }),
        _ => return None,
    })
}

/// What was encoded; `None` for another encoding, and for what is not of it or no text.
pub(super) fn decode(text: &str, encoding: &str) -> Option<String> {
    let bytes = match encoding {
        "base64" => STANDARD.decode(text).ok()?,
        "urlbase64" => URL_SAFE.decode(text).ok()?,
        "hex" => {
            let digits = text.as_bytes();
            let pairs = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2)?;
                u8::from_str_radix(pair, 16).ok()
            });
            pairs.collect::<Option<Vec<u8>>>()?
        }
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

/// The text as it can stand in HTML or in a JSON string; `None` for any other target.
pub(super) fn escape(text: &str, target: &str) -> Option<String> {
    match target {
        "html" => Some(quick_xml::escape::escape(text).into_owned()),
        "json" => {
            let quoted = serde_json::to_string(text).ok()?;
            Some(quoted[1..quoted.len() - 1].to_owned())
        }
        _ => None,
    }
}

/// What was escaped; `None` for any other target and for what was not escaped by its rules.
pub(super) fn unescape(text: &str, target: &str) -> Option<String> {
    match target {
        "html" => Some(quick_xml::escape::unescape(text).ok()?.into_owned()),
        // Quotes need no escape here, as there is nothing around them that they could end.
        "json" => serde_json::from_str(&format!("\"{}\"", quotes_escaped(text))).ok(),
        _ => None,
    }
}

fn quotes_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        if c == '"' && !escaped {
            out.push('\\');
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}
