//! The lexical forms of primitive types (R4, section 2.24.0.1).

use super::narrative::is_harmless;
use crate::{date, is_id, xml};
use serde_json::Value;

/// The longest string, characters (R4, section 2.24.0.1, `string`: 1 MB).
const STRING_MAX: usize = 1024 * 1024;

/// A primitive type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Primitive {
    Base64Binary,
    Boolean,
    Code,
    Date,
    DateTime,
    Decimal,
    Id,
    Instant,
    Integer,
    Oid,
    PositiveInt,
    /// `string` and `markdown`.
    Text,
    Time,
    UnsignedInt,
    /// `uri`, `url` and `canonical`.
    Uri,
    Uuid,
    Xhtml,
}

impl Primitive {
    pub(crate) fn of(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "base64Binary" => Self::Base64Binary,
            "boolean" => Self::Boolean,
            "code" => Self::Code,
            "date" => Self::Date,
            "dateTime" => Self::DateTime,
            "decimal" => Self::Decimal,
            "id" => Self::Id,
            "instant" => Self::Instant,
            "integer" => Self::Integer,
            "oid" => Self::Oid,
            "positiveInt" => Self::PositiveInt,
            "string" | "markdown" => Self::Text,
            "time" => Self::Time,
            "unsignedInt" => Self::UnsignedInt,
            "uri" | "url" | "canonical" => Self::Uri,
            "uuid" => Self::Uuid,
            "xhtml" => Self::Xhtml,
            _ => return None,
        })
    }

    /// Whether a value has the JSON type of this one.
    pub(crate) fn fits(self, value: &Value) -> bool {
        match self {
            Self::Boolean => value.is_boolean(),
            Self::Integer | Self::PositiveInt | Self::UnsignedInt | Self::Decimal => {
                value.is_number()
            }
            _ => value.is_string(),
        }
    }

    /// What is wrong with a value, if anything is.
    pub(crate) fn malformed(self, value: &Value) -> Option<&'static str> {
        let (fine, words) = match self {
            // JSON allows these no other forms than FHIR does.
            Self::Boolean | Self::Decimal => return None,
            Self::Integer => (
                is_integer(value, i64::from(i32::MIN)),
                "is no integer of 32 bits",
            ),
            Self::UnsignedInt => (is_integer(value, 0), "is no integer from 0 on"),
            Self::PositiveInt => (is_integer(value, 1), "is no integer from 1 on"),
            _ => {
                let text = value.as_str()?;
                if text.trim().is_empty() {
                    return Some("is empty");
                }
                // R4, section 2.24.0.1: of the characters below 32, strings have tabs and line breaks alone; and
                // what is no character has no form in XML.
                if text.contains(is_no_text) {
                    return Some("has a control character that no text can hold");
                }
                self.judge(text)
            }
        };
        (!fine).then_some(words)
    }

    fn judge(self, text: &str) -> (bool, &'static str) {
        match self {
            Self::Date => (
                date::is_date(text),
                "is no date: YYYY, YYYY-MM or YYYY-MM-DD",
            ),
            Self::DateTime => (
                date::is_date_time(text),
                "is no dateTime: a date, or YYYY-MM-DDThh:mm:ss with zone",
            ),
            Self::Instant => (
                date::is_instant(text),
                "is no instant: YYYY-MM-DDThh:mm:ss with zone",
            ),
            Self::Time => (date::is_time(text), "is no time: hh:mm:ss"),
            Self::Id => (
                is_id(text),
                "is no id: 1 to 64 letters, digits, `-` and `.`",
            ),
            Self::Code => (is_code(text), "is no code: single spaces within at most"),
            Self::Uri => (
                !text.contains(char::is_whitespace),
                "is no URI: there is white space in it",
            ),
            Self::Oid => (
                is_oid(text),
                "is no oid: urn:oid: and numbers with dots between",
            ),
            Self::Uuid => (
                is_uuid(text),
                "is no uuid: urn:uuid: and 36 digits in small letters",
            ),
            Self::Base64Binary => (is_base64(text), "is no base64"),
            Self::Xhtml if !xml::is_narrative(text) => (
                false,
                "is no well-formed `div` of XHTML with its name space",
            ),
            Self::Xhtml => (
                is_harmless(text),
                "has more than formatting in it: an element, an attribute or a link that could act",
            ),
            _ => (
                text.len() <= STRING_MAX || text.chars().count() <= STRING_MAX,
                "is longer than 1 MB",
            ),
        }
    }
}

fn is_no_text(letter: char) -> bool {
    matches!(letter, '\u{fffe}' | '\u{ffff}')
        || letter < ' ' && !matches!(letter, '\t' | '\n' | '\r')
}

/// Digits only (`1.0` and `1e3` are decimals in FHIR), and no minus before a zero.
fn is_integer(value: &Value, least: i64) -> bool {
    let Value::Number(number) = value else {
        return false;
    };
    let text = number.as_str();
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && text != "-0"
        && number
            .as_i64()
            .is_some_and(|number| (least..=i64::from(i32::MAX)).contains(&number))
}

fn is_code(text: &str) -> bool {
    text.trim() == text && !text.contains("  ") && !text.contains(['\t', '\n', '\r'])
}

fn is_oid(text: &str) -> bool {
    let Some(numbers) = text.strip_prefix("urn:oid:") else {
        return false;
    };
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let mut parts = numbers.split('.');
    matches!(parts.next(), Some("0" | "1" | "2")) && numbers.contains('.') && parts.all(number)
}

fn is_uuid(text: &str) -> bool {
    let Some(digits) = text.strip_prefix("urn:uuid:") else {
        return false;
    };
    digits.len() == 36
        && digits.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Groups of four, with white space between the groups only, and padding at the end only.
fn is_base64(text: &str) -> bool {
    let (mut digits, mut padding) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => digits += 1,
            b'=' if padding < 2 => padding += 1,
            b' ' | b'\t' | b'\r' | b'\n' if (digits + padding) % 4 == 0 => {}
            _ => return false,
        }
    }
    (digits + padding) % 4 == 0
}
