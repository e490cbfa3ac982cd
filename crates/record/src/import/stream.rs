//! Reads a large bundle entry by entry.
use std::fmt;
use std::io::Read;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use serde_json::value::RawValue;

/// What a document is, apart from its entries.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) is_bundle: bool,
    pub(super) kind: Option<String>,
}

/// Takes an entry; `false` ends the reading.
pub(super) type Take<'a> = &'a mut dyn FnMut(Box<RawValue>) -> bool;

/// Reads a document, handing each element of its `entry` to `take`.
///
/// # Errors
/// `None` when `take` ended it; otherwise what is wrong with the JSON and where, without content.
pub(super) fn read(reader: impl Read, take: Take<'_>) -> Result<Outline, Option<String>> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    let mut stopped = false;
    let seed = Document {
        take,
        stopped: &mut stopped,
    };
    let outline = seed
        .deserialize(&mut json)
        .and_then(|outline| json.end().map(|()| outline));
    outline.map_err(|error| {
        if stopped {
            None
        } else {
            Some(describe(&error))
        }
    })
}

/// What is wrong with JSON, without quoting it.
pub(super) fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "can't be read",
        serde_json::error::Category::Syntax => "is not JSON",
        serde_json::error::Category::Data => "has not the shape of a bundle",
        serde_json::error::Category::Eof => "ends in the middle",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

struct Document<'a, 's> {
    take: Take<'a>,
    stopped: &'s mut bool,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = Outline;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = Outline;
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a resource")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut outline = Outline::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "resourceType" => outline.is_bundle = map.next_value::<Value>()? == "Bundle",
                "type" => outline.kind = map.next_value::<Value>()?.as_str().map(str::to_owned),
                "entry" => map.next_value_seed(Entries {
                    take: &mut *self.take,
                    stopped: &mut *self.stopped,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(outline)
    }
}

struct Entries<'a, 's> {
    take: Take<'a>,
    stopped: &'s mut bool,
}

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of entries")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<Box<RawValue>>()? {
            if !(self.take)(entry) {
                *self.stopped = true;
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
