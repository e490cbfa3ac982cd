//! What of an `AuditEvent` a sentence needs, read from its text: of a list of work's record, which names a hundred
//! resources, no values are made that are thrown away at once. What isn't as FHIR has it counts as not there.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// A text; borrowed where nothing in it is escaped.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) recorded: Text<'a>,
    #[serde(borrow)]
    pub(super) action: Text<'a>,
    #[serde(borrow)]
    pub(super) outcome: Text<'a>,
    #[serde(borrow)]
    pub(super) outcome_desc: Text<'a>,
    #[serde(borrow)]
    subtype: Vec<Coding<'a>>,
    #[serde(borrow)]
    purpose_of_event: Vec<Concept<'a>>,
    #[serde(borrow)]
    pub(super) agent: Vec<Agent<'a>>,
    #[serde(borrow)]
    pub(super) entity: Vec<Entity<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Coding<'a> {
    #[serde(borrow)]
    pub(super) code: Text<'a>,
    #[serde(borrow)]
    pub(super) display: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Concept<'a> {
    #[serde(borrow)]
    coding: Vec<Coding<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Agent<'a> {
    #[serde(borrow)]
    r#type: Concept<'a>,
    #[serde(borrow)]
    role: Vec<Concept<'a>>,
    #[serde(borrow)]
    pub(super) who: What<'a>,
    #[serde(borrow)]
    pub(super) alt_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    pub(super) requestor: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct What<'a> {
    #[serde(borrow)]
    pub(super) reference: Text<'a>,
    #[serde(borrow)]
    pub(super) identifier: Identifier<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Identifier<'a> {
    #[serde(borrow)]
    pub(super) value: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entity<'a> {
    #[serde(borrow)]
    pub(super) what: What<'a>,
    #[serde(borrow)]
    pub(super) role: Coding<'a>,
    #[serde(borrow)]
    pub(super) query: Option<Text<'a>>,
    #[serde(borrow)]
    detail: Vec<Detail<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow)]
    value_string: Text<'a>,
}

impl<'a> Event<'a> {
    /// Reads a text.
    pub(super) fn of_text(text: &'a [u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }
    /// Reads a value.
    pub(super) fn of_value(value: &'a Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }
    pub(super) fn subtype(&self) -> &str {
        self.subtype.first().map_or("", |one| one.code.as_ref())
    }
    /// A coding of the purpose of the whole.
    pub(super) fn purpose(&self, place: usize) -> Option<&Coding<'a>> {
        self.purpose_of_event.first()?.coding.get(place)
    }
}

impl Agent<'_> {
    pub(super) fn role(&self) -> Option<&str> {
        let coding = self.role.first()?.coding.first()?;
        Some(coding.code.as_ref())
    }
    pub(super) fn is(&self, code: &str) -> bool {
        let coding = self.r#type.coding.first();
        coding.is_some_and(|coding| coding.code.as_ref() == code)
    }
}

impl Entity<'_> {
    /// The first detail of a name.
    pub(super) fn detail(&self, name: &str) -> Option<&str> {
        let mut details = self.detail.iter();
        let found = details.find(|detail| detail.r#type.as_ref() == name)?;
        Some(found.value_string.as_ref())
    }
}
