//! Reads a large bundle entry by entry.
use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ENTRY_BYTES_MAX;

/// How much of the input may still be read before the next name, value or entry ends. Each of them is
/// held in memory whole, so without this the input would decide how much memory that is.
struct Budget {
    max: u64,
    left: Cell<u64>,
    spent: Cell<bool>,
}

impl Budget {
    fn renew(&self) {
        self.left.set(self.max);
    }
    /// For what is passed over without being held.
    fn lift(&self) {
        self.left.set(u64::MAX);
    }
}

struct Bounded<'a, R> {
    inner: R,
    budget: &'a Budget,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.budget.left.get().checked_sub(count as u64);
        self.budget.spent.set(left.is_none());
        self.budget.left.set(left.unwrap_or(0));
        match left {
            Some(_) => Ok(count),
            None => Err(io::Error::other("too long")),
        }
    }
}

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
    read_within(ENTRY_BYTES_MAX, reader, take)
}

fn read_within(max: u64, reader: impl Read, take: Take<'_>) -> Result<Outline, Option<String>> {
    let budget = Budget {
        max,
        left: Cell::new(max),
        spent: Cell::new(false),
    };
    let mut json = serde_json::Deserializer::from_reader(Bounded {
        inner: reader,
        budget: &budget,
    });
    let mut stopped = false;
    let seed = Document {
        take,
        stopped: &mut stopped,
        budget: &budget,
    };
    let outline = seed
        .deserialize(&mut json)
        .and_then(|outline| json.end().map(|()| outline));
    outline.map_err(|error| {
        if stopped {
            None
        } else if budget.spent.get() {
            Some(format!(
                "has an entry of more than {max} bytes (line {})",
                error.line()
            ))
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
    budget: &'s Budget,
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
            self.budget.renew();
            match name.as_str() {
                "resourceType" => outline.is_bundle = map.next_value::<Value>()? == "Bundle",
                "type" => outline.kind = map.next_value::<Value>()?.as_str().map(str::to_owned),
                "entry" => map.next_value_seed(Entries {
                    take: &mut *self.take,
                    stopped: &mut *self.stopped,
                    budget: self.budget,
                })?,
                _ => {
                    self.budget.lift();
                    map.next_value::<IgnoredAny>()?;
                }
            }
            self.budget.renew();
        }
        Ok(outline)
    }
}

struct Entries<'a, 's> {
    take: Take<'a>,
    stopped: &'s mut bool,
    budget: &'s Budget,
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
            self.budget.renew();
            if !(self.take)(entry) {
                *self.stopped = true;
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_to_be_held_is_not_read_to_its_end() {
        const MAX: u64 = 1000;
        let filler = || io::repeat(b'x').take(MAX + 64);
        let mut taken = 0;
        let mut read = |before: &[u8], after: &[u8]| {
            let text = before.chain(filler()).chain(after);
            let outcome = read_within(MAX, io::BufReader::new(text), &mut |_| {
                taken += 1;
                true
            });
            outcome.err().flatten().unwrap_or_default()
        };
        // An entry, a name, a type: all of them would be held.
        for before in [
            &b"{\"entry\": [{}, {\"text\": \""[..],
            b"{\"",
            b"{\"type\": \"",
        ] {
            let words = read(before, b"\"}]}");
            assert!(words.contains("more than"), "{words}");
        }
        assert_eq!(taken, 1);
        // What is passed over isn't.
        let text = (&b"{\"text\": \""[..])
            .chain(filler())
            .chain(&b"\", \"entry\": [{}]}"[..]);
        let mut taken = 0;
        let outcome = read_within(MAX, io::BufReader::new(text), &mut |_| {
            taken += 1;
            true
        });
        assert!(outcome.is_ok());
        assert_eq!(taken, 1);
    }
}
