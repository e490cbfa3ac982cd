//! JSON text to a value, stricter than JSON itself: no member twice, bounded nesting.
use crate::{IssueCode, OperationOutcome};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Objects and arrays within each other. Real resources stay below 20; what is deeper is an attack
/// on the stack of whoever walks it.
pub(crate) const NESTING_MAX: usize = 64;

/// The member under which `serde_json` hands over a number's text with `arbitrary_precision`.
const NUMBER: &str = "$serde_json::private::Number";

/// Parses a text. The outcome's words hold line and column, never content.
pub(crate) fn parse(text: &[u8]) -> Result<Value, OperationOutcome> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Level(0)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            OperationOutcome::error(
                IssueCode::Structure,
                format!("not JSON that FHIR allows: {error}"),
            )
        })
}

/// Whether a value keeps the bound on nesting.
pub(crate) fn is_flat_enough(value: &Value, level: usize) -> bool {
    let fine = level < NESTING_MAX;
    match value {
        Value::Array(items) => fine && items.iter().all(|item| is_flat_enough(item, level + 1)),
        Value::Object(members) => {
            fine && members.values().all(|item| is_flat_enough(item, level + 1))
        }
        _ => true,
    }
}

/// A value that lies in so many others.
pub(crate) struct Level(pub(crate) usize);

impl Level {
    fn down<E: de::Error>(&self) -> Result<usize, E> {
        if self.0 >= NESTING_MAX {
            return Err(E::custom(format_args!(
                "more than {NESTING_MAX} levels of nesting"
            )));
        }
        Ok(self.0 + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let level = self.down()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Level(level))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let mut level = None;
        while let Some(name) = access.next_key::<String>()? {
            if members.is_empty() && name == NUMBER {
                let digits: String = access.next_value()?;
                return digits
                    .parse::<Number>()
                    .map(Value::Number)
                    .map_err(de::Error::custom);
            }
            let level = match level {
                Some(level) => level,
                None => *level.insert(self.down()?),
            };
            let value = access.next_value_seed(Level(level))?;
            match members.entry(name) {
                serde_json::map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                serde_json::map::Entry::Occupied(entry) => {
                    let name: String = entry.key().chars().take(64).collect();
                    return Err(de::Error::custom(format_args!(
                        "member `{}` appears twice",
                        name.escape_debug()
                    )));
                }
            }
        }
        Ok(Value::Object(members))
    }
}
