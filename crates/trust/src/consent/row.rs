//! What provisions ask of a row, found when one asks, and once.
use std::cell::OnceCell;

use fhir::{Resource, ResourceType, date};
use serde_json::Value;

use super::labels::{Labels, Tables, acts, each_coding, is_within};

/// Elements with the time that a row is about, in the order in which they count.
const TIMES: [&str; 29] = [
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveInstant",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "occurrencePeriod",
    "onsetDateTime",
    "onsetPeriod",
    "servicedDate",
    "servicedPeriod",
    "billablePeriod",
    "period",
    "start",
    "started",
    "startDate",
    "receivedTime",
    "executionPeriod",
    "authoredOn",
    "authored",
    "date",
    "dateTime",
    "dateAsserted",
    "recordedDate",
    "recorded",
    "whenHandedOver",
    "created",
    "issued",
    "sent",
];

/// Elements that name who made a row.
const AUTHORS: [&str; 20] = [
    "author",
    "performer",
    "recorder",
    "asserter",
    "requester",
    "informationSource",
    "source",
    "sender",
    "enterer",
    "provider",
    "resultsInterpreter",
    "practitioner",
    "assessor",
    "orderer",
    "prescriber",
    "operator",
    "referrer",
    "interpreter",
    "careManager",
    "expressedBy",
];
/// Who made a specimen, which is said further in.
const COLLECTOR: [&str; 2] = ["collection", "collector"];
/// Who took part: whoever attended has not written of it by that.
const ATTENDED: &str = "participant";

/// A row that is decided about.
pub struct Row<'a> {
    pub(crate) resource: &'a Resource,
    tables: &'a Tables,
    reference: OnceCell<String>,
    acts: OnceCell<Vec<&'a str>>,
    labels: OnceCell<Labels<'a>>,
    codings: OnceCell<Vec<(&'a str, &'a str)>>,
    references: OnceCell<Vec<&'a str>>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(tables: &'a Tables, resource: &'a Resource) -> Self {
        Self {
            resource,
            tables,
            reference: OnceCell::new(),
            acts: OnceCell::new(),
            labels: OnceCell::new(),
            codings: OnceCell::new(),
            references: OnceCell::new(),
        }
    }

    /// `Type/id`.
    pub(crate) fn reference(&self) -> &str {
        self.reference.get_or_init(|| {
            let id = self.resource.id().unwrap_or_default();
            format!("{}/{id}", self.resource.kind())
        })
    }

    /// Whether it, or anything in it, was labelled with a code of `v3-ActCode` or a kind of it.
    pub(crate) fn is_labelled(&self, label: &str) -> bool {
        let acts = self.acts.get_or_init(|| acts(self.resource));
        acts.iter().any(|act| is_within(act, label))
    }

    pub(crate) fn labels(&self) -> &Labels<'a> {
        self.labels
            .get_or_init(|| Labels::of(self.tables, self.resource))
    }

    /// System and code of all codings that are no labels.
    pub(crate) fn codings(&self) -> &[(&'a str, &'a str)] {
        self.codings.get_or_init(|| {
            let mut codings = Vec::new();
            each_coding(self.resource.as_value(), false, &mut |coding, is_label| {
                let text = |name: &str| coding.get(name).and_then(Value::as_str);
                if let (false, Some(system), Some(code)) = (is_label, text("system"), text("code"))
                {
                    codings.push((system, code));
                }
            });
            codings
        })
    }

    pub(crate) fn refers_to(&self, reference: &str) -> bool {
        self.references().contains(&reference)
    }

    /// `Type/id` of all that it refers to here.
    fn references(&self) -> &[&'a str] {
        self.references.get_or_init(|| {
            let mut references = Vec::new();
            self.resource.each_reference(&mut |text| {
                references.extend(unversioned(text));
            });
            references
        })
    }

    /// Whether somebody is named as one who made it.
    pub(crate) fn is_by(&self, who: &str) -> bool {
        let collector = self.resource.at(&COLLECTOR);
        let made = AUTHORS.iter().filter_map(|name| self.resource.get(name));
        made.chain(collector).any(|value| names(value, who))
    }

    /// Whether somebody is named as one who made it, or took part in what it is of.
    pub(crate) fn is_of(&self, who: &str) -> bool {
        let attended = self.resource.get(ATTENDED);
        self.is_by(who) || attended.is_some_and(|value| names(value, who))
    }

    /// The time that it is about; else when it was written, if that is known.
    pub(crate) fn time(&self) -> Option<(i64, i64)> {
        TIMES
            .iter()
            .find_map(|name| interval(self.resource.get(name)?))
            .or_else(|| interval(self.resource.at(&["meta", "lastUpdated"])?))
    }

    /// Whether what is in it can't be told by codes.
    pub(crate) fn is_opaque(&self) -> bool {
        self.resource.kind() == ResourceType::Binary
    }
}

/// `Type/id` of a relative reference, with or without a version.
pub(crate) fn unversioned(text: &str) -> Option<&str> {
    fhir::Reference::relative(text)?;
    let head = text.find("/_history/").map_or(text, |end| &text[..end]);
    Some(head)
}

/// Whether a reference is anywhere in a value.
fn names(value: &Value, who: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names(item, who)),
        Value::Object(members) => members.iter().any(|(name, value)| match value {
            Value::String(text) => name == "reference" && unversioned(text) == Some(who),
            other => names(other, who),
        }),
        _ => false,
    }
}

/// A date or a `Period` as milliseconds, half open.
pub(crate) fn interval(value: &Value) -> Option<(i64, i64)> {
    let date = |value: &Value| date::parse(value.as_str()?);
    if let Value::Object(period) = value {
        let start = period.get("start").map(date);
        let end = period.get("end").map(date);
        // What is there and can't be read is not the same as what isn't there.
        let (start, end) = match (start, end) {
            (None, None) | (Some(None), _) | (_, Some(None)) => return None,
            (start, end) => (start.flatten(), end.flatten()),
        };
        return Some((
            start.map_or(i64::MIN, |start| start.start_ms),
            end.map_or(i64::MAX, |end| end.end_ms),
        ));
    }
    date(value).map(|date| (date.start_ms, date.end_ms))
}
