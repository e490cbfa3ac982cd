//! YAML as a tree of nodes that know where they stand in the file.
//!
//! The language is not decoded into Rust types by serde, because that stops at the first mistake;
//! the checker wants to report all of them, each at its place.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// Values of a file, with those that aliases stand for.
const NODES_MAX: usize = 100_000;

/// A place in the file, both from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A node with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A member's name with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) name: String,
}

/// Why a file is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl Node {
    /// Parses one YAML document. Members that stand twice are kept, so that the checker can point at them.
    pub(crate) fn parse(source: &str) -> Result<Self, YamlError> {
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
            strict_booleans: true,
            // More than any journey has: a short file of aliases within aliases stands for ever so many.
            budget: serde_saphyr::budget! { max_nodes: NODES_MAX },
        };
        serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options)
            .map(node)
            .map_err(|error| {
                let place = error
                    .location()
                    .map_or(Place { line: 1, column: 1 }, |location| place(&location));
                YamlError {
                    place,
                    message: error.without_snippet().to_string(),
                }
            })
    }
    /// A member of a map.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.members()
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }
    /// The members of a map; none for anything else.
    pub(crate) fn members(&self) -> &[(Key, Node)] {
        match &self.content {
            Content::Map(members) => members,
            _ => &[],
        }
    }
    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }
    /// What kind of node this is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "true or false",
            Content::Number(_) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}

/// Maps a character position in a decoded scalar back to its place in the file. Quotes, folding and
/// block scalars change white space only, so both texts are walked side by side.
pub(crate) fn inside(source: &str, start: Place, text: &str, position: usize) -> Place {
    let mut line = start.line;
    let mut column = start.column;
    let mut rest = source
        .split_inclusive('\n')
        .skip(start.line.saturating_sub(1));
    let first: Vec<char> = rest
        .next()
        .unwrap_or_default()
        .chars()
        .skip(start.column.saturating_sub(1))
        .collect();
    let mut ahead = first
        .into_iter()
        .chain(rest.flat_map(str::chars))
        .peekable();
    let mut advance = |line: &mut usize, column: &mut usize| -> Option<char> {
        let next = ahead.next()?;
        if next == '\n' {
            *line += 1;
            *column = 1;
        } else {
            *column += 1;
        }
        ahead.peek().copied()
    };
    let mut here = source
        .split_inclusive('\n')
        .nth(start.line.saturating_sub(1))
        .and_then(|row| row.chars().nth(start.column.saturating_sub(1)));
    if matches!(here, Some('\'' | '"')) {
        here = advance(&mut line, &mut column);
    }
    for wanted in text.chars().take(position) {
        if wanted.is_whitespace() {
            while here.is_some_and(char::is_whitespace) {
                here = advance(&mut line, &mut column);
            }
        } else {
            while here.is_some_and(|found| found != wanted) {
                here = advance(&mut line, &mut column);
            }
            here = advance(&mut line, &mut column);
        }
    }
    while here.is_some_and(char::is_whitespace)
        && text
            .chars()
            .nth(position)
            .is_some_and(|c| !c.is_whitespace())
    {
        here = advance(&mut line, &mut column);
    }
    Place { line, column }
}

fn place(location: &serde_saphyr::Location) -> Place {
    let number = |value: u64| usize::try_from(value).unwrap_or(1).max(1);
    Place {
        line: number(location.line()),
        column: number(location.column()),
    }
}

fn node(raw: Spanned<Raw>) -> Node {
    let content = match raw.value {
        Raw::Null => Content::Null,
        Raw::Bool(value) => Content::Bool(value),
        Raw::Number(value) => Content::Number(value),
        Raw::Text(value) => Content::Text(value),
        Raw::List(items) => Content::List(items.into_iter().map(node).collect()),
        Raw::Map(members) => Content::Map(
            members
                .into_iter()
                .map(|(key, value)| {
                    (
                        Key {
                            place: place(&key.referenced),
                            name: key.value,
                        },
                        node(value),
                    )
                })
                .collect(),
        ),
    };
    Node {
        place: place(&raw.referenced),
        content,
    }
}

enum Raw {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNode;
        impl<'de> Visitor<'de> for AnyNode {
            type Value = Raw;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a YAML node")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(value))
            }
            #[allow(
                clippy::cast_precision_loss,
                reason = "the language has no whole number near 2^53"
            )]
            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Number(value as f64))
            }
            #[allow(
                clippy::cast_precision_loss,
                reason = "the language has no whole number near 2^53"
            )]
            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Number(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Raw::Map(members))
            }
        }
        deserializer.deserialize_any(AnyNode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_place() {
        let node = Node::parse("name: x\nsteps:\n  - a\n  - 'b'\n").unwrap();
        assert_eq!(
            node.get("name").unwrap().place,
            Place { line: 1, column: 7 }
        );
        let steps = node.get("steps").unwrap();
        assert_eq!(steps.items()[1].place, Place { line: 4, column: 5 });
        assert_eq!(node.members()[1].0.place, Place { line: 2, column: 1 });
    }

    #[test]
    fn a_position_in_a_scalar_is_found_in_the_file() {
        let table = [
            ("a: one two\n", "two", (1, 8)),
            ("a: 'one two'\n", "two", (1, 9)),
            ("a: >-\n  one\n  two\n", "two", (3, 3)),
            ("a: |\n  one\n  two three\n", "three", (3, 7)),
            ("a: \"it's here\"\n", "here", (1, 10)),
        ];
        for (source, word, (line, column)) in table {
            let node = Node::parse(source).unwrap();
            let value = node.get("a").unwrap();
            let text = value.text().unwrap();
            let position = text[..text.find(word).unwrap()].chars().count();
            assert_eq!(
                inside(source, value.place, text, position),
                Place { line, column },
                "{source:?}"
            );
        }
    }

    #[test]
    fn broken_yaml_names_its_place() {
        let error = Node::parse("a: 1\n b: 2\n").unwrap_err();
        assert_eq!(error.place.line, 2);
    }
}
