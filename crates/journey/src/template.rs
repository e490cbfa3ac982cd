//! Words with variables, and what each variable tells of a person.

use serde_json::{Map, Value};

/// What a variable tells of a person (its data class).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A link behind which the patient signs in.
    Link,
    /// Protected health information, or something that identifies.
    Phi,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Fixed words.
    Text(String),
    /// `{name|fallback}`.
    Variable {
        name: String,
        fallback: Option<String>,
        /// Character position of the brace.
        position: usize,
    },
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Template {
    pub(crate) pieces: Vec<Piece>,
}

/// Variables that any words may have: name, class, whether it is always there, meaning.
pub(crate) const VARIABLES: &[(&str, Class, bool, &str)] = &[
    (
        "link",
        Class::Link,
        true,
        "The link into the portal (e-mails and text messages only).",
    ),
    (
        "owner",
        Class::Phi,
        true,
        "The team that answers for the journey. Its name may tell what it treats.",
    ),
    (
        "journey.title",
        Class::Phi,
        true,
        "The journey's title. It tells what somebody is treated for.",
    ),
    (
        "patient.given",
        Class::Phi,
        false,
        "The patient's first given name.",
    ),
    (
        "patient.family",
        Class::Phi,
        false,
        "The patient's family name.",
    ),
    (
        "due.day",
        Class::Phi,
        true,
        "The day by when something must be done (`Thursday 3 December 2026`).",
    ),
    (
        "visit.day",
        Class::Phi,
        false,
        "The day of the proposed visit; once it is booked, of the booked one.",
    ),
    (
        "visit.time",
        Class::Phi,
        false,
        "The time of day of the proposed visit; in reminders, of the booked one.",
    ),
];

/// Characters of a variable of which nothing is known, where the length of a text is counted.
const VARIABLE_CHARS: usize = 20;

impl Template {
    /// A text as long as it may be: the link takes so many characters, other variables [`VARIABLE_CHARS`] or their
    /// fallback. Where there is no link, it is put behind the words.
    pub(crate) fn longest(&self, link_chars: usize) -> String {
        let mut has_link = false;
        let mut text: String = (self.pieces.iter())
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable { name, .. } if name == "link" => {
                    has_link = true;
                    "x".repeat(link_chars)
                }
                Piece::Variable { fallback, .. } => {
                    let plain = "x".repeat(VARIABLE_CHARS);
                    let longer = fallback.clone().filter(|text| text.len() > VARIABLE_CHARS);
                    longer.unwrap_or(plain)
                }
            })
            .collect();
        if !has_link {
            text.push(' ');
            text.push_str(&"x".repeat(link_chars));
        }
        text
    }
    /// Parses `Hello {patient.given|there}`. A brace that is meant as a brace is doubled.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut pieces = Vec::new();
        let mut words = String::new();
        let characters: Vec<char> = text.chars().collect();
        let mut place = 0;
        while place < characters.len() {
            let character = characters[place];
            if (character == '{' || character == '}')
                && characters.get(place + 1) == Some(&character)
            {
                words.push(character);
                place += 2;
                continue;
            }
            if character == '}' {
                return Err((
                    place,
                    "a `}` without `{`; double it if a brace is meant".to_owned(),
                ));
            }
            if character != '{' {
                words.push(character);
                place += 1;
                continue;
            }
            let Some(length) = characters[place..].iter().position(|c| *c == '}') else {
                return Err((
                    place,
                    "a `{` that is not closed; double it if a brace is meant".to_owned(),
                ));
            };
            let inner: String = characters[place + 1..place + length].iter().collect();
            let (name, fallback) = match inner.split_once('|') {
                Some((name, fallback)) => (name.trim(), Some(fallback.trim().to_owned())),
                None => (inner.trim(), None),
            };
            if name.is_empty()
                || !name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_')
            {
                return Err((
                    place,
                    format!(
                        "`{{{inner}}}` is no variable; write it like `{{patient.given|there}}`"
                    ),
                ));
            }
            if !words.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut words)));
            }
            pieces.push(Piece::Variable {
                name: name.to_owned(),
                fallback,
                position: place,
            });
            place += length + 1;
        }
        if !words.is_empty() {
            pieces.push(Piece::Text(words));
        }
        Ok(Self { pieces })
    }
    /// The variables: name, whether there is a fallback, position.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, bool, usize)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable {
                name,
                fallback,
                position,
            } => Some((name.as_str(), fallback.is_some(), *position)),
            Piece::Text(_) => None,
        })
    }
    /// The words with each variable replaced by its value, its fallback, or an ellipsis.
    pub(crate) fn render(&self, value: &dyn Fn(&str) -> Option<String>) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable { name, fallback, .. } => value(name)
                    .filter(|value| !value.is_empty())
                    .or_else(|| fallback.clone())
                    .unwrap_or_else(|| "…".to_owned()),
            })
            .collect()
    }
    /// Whether a variable of this family (`patient.`) occurs.
    pub(crate) fn mentions(&self, prefix: &str) -> bool {
        self.variables()
            .any(|(name, _, _)| name.starts_with(prefix))
    }
}

/// The class of a variable; `None` if there is none of that name. `facts` says whether a step has a member.
pub(crate) fn class(name: &str, facts: &dyn Fn(&str, &str) -> bool) -> Option<(Class, bool)> {
    if let Some((_, class, always, _)) = VARIABLES.iter().find(|(known, _, _, _)| *known == name) {
        return Some((*class, *always));
    }
    let (step, member) = name.split_once('.')?;
    facts(step, member).then_some((Class::Phi, false))
}

/// The value of `step.member` among what the journey has learnt, as words.
pub(crate) fn fact(facts: &Map<String, Value>, name: &str) -> Option<String> {
    let (step, member) = name.split_once('.')?;
    match facts.get(step)?.get(member)? {
        Value::Null => None,
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_render_with_fallbacks() {
        let values = |name: &str| (name == "patient.given").then(|| "Ada".to_owned());
        let table = [
            ("Hello {patient.given|there}.", "Hello Ada."),
            ("Hello {patient.family|there}.", "Hello there."),
            ("{patient.family}", "…"),
            ("100 {{per cent}}", "100 {per cent}"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(Template::parse(text).unwrap().render(&values), expected);
        }
    }

    #[test]
    fn broken_templates_name_the_place() {
        for (text, position) in [("a {b", 2), ("a } b", 2), ("{}", 0), ("{a b}", 0)] {
            assert_eq!(Template::parse(text).unwrap_err().0, position, "{text}");
        }
    }
}
