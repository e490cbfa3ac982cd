//! What a partner is told: named values, each with what it tells of a person.

use crate::decode::build::{line, path};
use crate::definition::{Definition, Path};
use crate::resources::Maker;
use crate::spec::{Field, Focus, Record, Shape, may};
use crate::yaml::Node;
use fhir::Resource;
use fhir::path::Environment;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use trust::partners::DataClass;

/// The most characters of one value; the `Task` and the outbox keep it.
const VALUE_CHARS_MAX: usize = 2_000;

/// What can be told of the patient: name, data class, meaning.
const PATIENT: &[(&str, DataClass, &str)] = &[
    ("id", DataClass::Identity, ID),
    ("given", DataClass::Identity, GIVEN),
    ("family", DataClass::Identity, FAMILY),
    ("birth_date", DataClass::Identity, BIRTH_DATE),
    ("gender", DataClass::Identity, GENDER),
    ("phone", DataClass::Contact, PHONE),
    ("email", DataClass::Contact, EMAIL),
    ("address_line", DataClass::Contact, LINE),
    ("address_city", DataClass::Contact, CITY),
    ("address_postal_code", DataClass::Contact, POSTAL_CODE),
];
const ID: &str = "The id of the `Patient` resource. Class `identity`.";
const GIVEN: &str = "First given name. Class `identity`.";
const FAMILY: &str = "Family name. Class `identity`.";
const BIRTH_DATE: &str = "Date of birth, `YYYY-MM-DD`. Class `identity`.";
const GENDER: &str = "Administrative gender. Class `identity`.";
const PHONE: &str = "Telephone number that may be used. Class `contact`.";
const EMAIL: &str = "E-mail address that may be used. Class `contact`.";
const LINE: &str = "Street and number of the home address. Class `contact`.";
const CITY: &str = "Its city. Class `contact`.";
const POSTAL_CODE: &str = "Its postal code. Class `contact`.";

pub(super) const IS: Field = may(
    "is",
    Shape::Line,
    "These words. Never a secret: those are the partner's, in files of their own.",
);
pub(super) const OF_PATIENT: Field = may(
    "patient",
    Shape::Choice(&[
        ("id", ID),
        ("given", GIVEN),
        ("family", FAMILY),
        ("birth_date", BIRTH_DATE),
        ("gender", GENDER),
        ("phone", PHONE),
        ("email", EMAIL),
        ("address_line", LINE),
        ("address_city", CITY),
        ("address_postal_code", POSTAL_CODE),
    ]),
    "This of the patient.",
);
pub(super) const LEARNT: Field = may(
    "learnt",
    Shape::Path(Focus::Facts),
    "FHIRPath on what the journey has learnt, which has to give one text, number, or yes or no: `ride.booking`.",
);
pub(super) const SENT_AS: Field = may(
    "as",
    Shape::Line,
    "The name under which it is sent, if that isn't the value's own: `periodStart`.",
);
pub(super) const OR: Field = may(
    "or",
    Shape::Line,
    "These words, where it isn't there; without them the call is not made then.",
);

pub(super) static VALUE: Record = Record {
    name: "value",
    doc: "A value that a partner is told, and so its data class: fixed words have none, what the journey has learnt is `health` unless the call that learnt it says otherwise. A call with a value that isn't there is not made, and takes `failed`.",
    one_of: &["is", "patient", "learnt"],
    fields: &[IS, OF_PATIENT, LEARNT, SENT_AS, OR],
};

#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    from: From,
    sent_as: Option<String>,
    or: Option<String>,
}

#[derive(Debug)]
enum From {
    Is(String),
    Patient(String),
    Learnt(Path),
}

/// A step, and what it has learnt.
pub(super) type Own<'a> = (&'a str, &'a Map<String, Value>);

/// What came of values.
pub(super) struct Made {
    pub(super) there: Map<String, Value>,
    /// The first that isn't.
    pub(super) missing: Option<String>,
}

impl Made {
    /// All of them, or nothing.
    pub(super) fn whole(self) -> Option<Map<String, Value>> {
        self.missing.is_none().then_some(self.there)
    }
}

pub(super) fn decode(node: &Node) -> Vec<Named> {
    let members = node.get("values").map(Node::members).unwrap_or_default();
    let named = members
        .iter()
        .filter_map(|(key, value)| one(&key.name, value));
    named.collect()
}

fn one(name: &str, value: &Node) -> Option<Named> {
    let from = if let Some(is) = line(value, "is") {
        From::Is(is)
    } else if let Some(patient) = line(value, "patient") {
        From::Patient(patient)
    } else {
        From::Learnt(path(value.get("learnt")?)?)
    };
    Some(Named {
        name: name.to_owned(),
        from,
        sent_as: line(value, "as"),
        or: line(value, "or"),
    })
}

/// What a value in a file tells of a person.
pub(crate) fn classes_of_value(value: &Node, definition: &Definition) -> BTreeSet<DataClass> {
    one("", value).map_or_else(all, |named| named.classes(definition))
}

/// The values of names with dots in them as objects within each other.
pub(super) fn nested(flat: Map<String, Value>) -> Map<String, Value> {
    let mut whole = Map::new();
    for (name, value) in flat {
        put(&mut whole, &name, value);
    }
    whole
}

/// Puts a value where its name says. The checker lets no value stand within another.
fn put(within: &mut Map<String, Value>, name: &str, value: Value) {
    let Some((first, rest)) = name.split_once('.') else {
        within.insert(name.to_owned(), value);
        return;
    };
    let inner = within.entry(first).or_insert_with(|| json!({}));
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

impl Named {
    pub(super) fn is_of_patient(&self) -> bool {
        matches!(self.from, From::Patient(_))
    }

    /// The name under which it is sent.
    pub(super) fn sent_as(&self) -> &str {
        self.sent_as.as_deref().unwrap_or(&self.name)
    }

    /// The expression on what was learnt, if it is one.
    pub(super) fn learnt(&self) -> Option<&Path> {
        match &self.from {
            From::Learnt(path) => Some(path),
            _ => None,
        }
    }

    /// What it tells of a person.
    pub(super) fn classes(&self, definition: &Definition) -> BTreeSet<DataClass> {
        match &self.from {
            From::Is(_) => BTreeSet::new(),
            // One that isn't known here may be any.
            From::Patient(name) => (PATIENT.iter())
                .find(|(known, ..)| known == name)
                .map_or_else(all, |(_, class, _)| [*class].into()),
            From::Learnt(path) => classes_of(definition, &path.text),
        }
    }

    fn value(&self, maker: &Maker<'_>, facts: &Value) -> Option<Value> {
        let found = match &self.from {
            From::Is(text) => Some(json!(text)),
            From::Patient(name) => of_patient(maker, name).map(Value::String),
            From::Learnt(path) => learnt(facts, maker.now_ms, path),
        };
        let found = found.filter(|value| *value != json!(""));
        found.or_else(|| self.or.as_ref().map(|or| json!(or)))
    }
}

fn all() -> BTreeSet<DataClass> {
    DataClass::ALL.into_iter().map(|(class, _)| class).collect()
}

/// The data classes of what an expression on what was learnt may give. What can't be followed may give anything.
fn classes_of(definition: &Definition, text: &str) -> BTreeSet<DataClass> {
    let class = |(step, member): (&str, &str)| Some(definition.step(step)?.kind.class_of(member));
    let classes = plainly(text).and_then(|paths| paths.into_iter().map(class).collect());
    classes.unwrap_or_else(all)
}

/// The step and member of each path in an expression that is `step.member`, or such and quoted texts with `&` between.
/// Nothing for any other: what it reads can't be told from its text.
pub(super) fn plainly(text: &str) -> Option<Vec<(&str, &str)>> {
    let is_name = |name: &str| {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        starts && (name.chars()).all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut paths = Vec::new();
    let mut rest = text.trim();
    loop {
        let after = match rest.chars().next()? {
            quote @ ('\'' | '"') => {
                let (words, after) = rest[1..].split_once(quote)?;
                if words.contains(['\'', '"', '`', '\\', '/']) {
                    return None;
                }
                after
            }
            _ => {
                let (path, after) = rest.split_at(rest.find('&').unwrap_or(rest.len()));
                let (step, member) = path.trim().split_once('.')?;
                if !is_name(step) || !is_name(member) {
                    return None;
                }
                paths.push((step, member));
                after
            }
        };
        let after = after.trim_start();
        if after.is_empty() {
            return Some(paths);
        }
        rest = after.strip_prefix('&')?.trim_start();
    }
}

/// What is sent. `own` is a step and what is to be taken for what it has learnt, whatever the journey knows of it by now.
pub(super) fn made(named: &[Named], maker: &Maker<'_>, own: Option<Own<'_>>) -> Made {
    let facts = known(&maker.state.facts, own);
    let mut made = Made {
        there: Map::new(),
        missing: None,
    };
    for one in named {
        match one.value(maker, &facts) {
            Some(value) => {
                made.there.insert(one.sent_as().to_owned(), value);
            }
            None if made.missing.is_none() => made.missing = Some(one.name.clone()),
            None => {}
        }
    }
    made
}

fn known(facts: &Map<String, Value>, own: Option<Own<'_>>) -> Value {
    let mut facts = facts.clone();
    if let Some((step, learnt)) = own {
        facts.insert(step.to_owned(), Value::Object(learnt.clone()));
    }
    Value::Object(facts)
}

fn learnt(facts: &Value, now_ms: u64, path: &Path) -> Option<Value> {
    let environment = Environment {
        now_ms: i64::try_from(now_ms).ok(),
        ..Environment::default()
    };
    let found = path.expression.evaluate(facts, &environment).ok()?;
    let [item] = found.as_slice() else {
        return None;
    };
    match item.value() {
        Value::String(text) => Some(Value::String(text.chars().take(VALUE_CHARS_MAX).collect())),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.clone()),
        _ => None,
    }
}

fn of_patient(maker: &Maker<'_>, name: &str) -> Option<String> {
    let person = maker.patient?;
    match name {
        "id" => Some(maker.state.patient.clone()),
        "given" | "family" => maker.name(name),
        "birth_date" => person.text_at(&["birthDate"]).map(str::to_owned),
        "gender" => person.text_at(&["gender"]).map(str::to_owned),
        "email" => channel(maker, person, &["email"]),
        "phone" => channel(maker, person, &["phone", "sms"]),
        _ => address(person, name.strip_prefix("address_")?),
    }
}

/// An address that the patient lets be used, and their confidential ones alone where they have such.
fn channel(maker: &Maker<'_>, person: &Resource, kinds: &[&str]) -> Option<String> {
    let now_ms = i64::try_from(maker.now_ms).unwrap_or(i64::MAX);
    let channels = trust::consent::channels(person, now_ms);
    let mut channels = channels.into_iter();
    channels
        .find(|channel| channel.wanted && kinds.contains(&channel.kind.as_str()))
        .map(|channel| channel.address)
        .filter(|address| !address.is_empty())
}

fn address(person: &Resource, part: &str) -> Option<String> {
    let addresses = person.get("address")?.as_array()?;
    let is =
        |address: &&Value, wanted: &str| address.get("use").and_then(Value::as_str) == Some(wanted);
    let address = (addresses.iter().find(|address| is(address, "home")))
        .or_else(|| addresses.iter().find(|address| !is(address, "old")))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match part {
        "line" => {
            let lines = address.get("line")?.as_array()?;
            let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
            Some(lines.join(", "))
        }
        "city" => address.get("city").and_then(text),
        "postal_code" => address.get("postalCode").and_then(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_told_what_that_call_has_learnt() {
        let expression = fhir::path::Expression::compile("ride.booking").expect("FHIRPath");
        let path = Path {
            text: "ride.booking".to_owned(),
            expression,
            place: crate::yaml::Place::default(),
        };
        let mut facts = Map::new();
        facts.insert("ride".to_owned(), json!({"booking": "B2"}));
        for (own, expected) in [
            (None, Some("B2")),
            (Some(json!({"booking": "B1"})), Some("B1")),
            (Some(json!({})), None),
        ] {
            let own = own.as_ref().and_then(Value::as_object);
            let known = known(&facts, own.map(|own| ("ride", own)));
            assert_eq!(learnt(&known, 0, &path), expected.map(|text| json!(text)));
        }
    }

    #[test]
    fn names_with_dots_are_objects_within_each_other() {
        let flat = json!({"who": "Q", "booking.time.start": "9", "booking.time.end": "10", "booking.seats": 2});
        let Value::Object(flat) = flat else {
            panic!("an object");
        };
        let expected =
            json!({"who": "Q", "booking": {"seats": 2, "time": {"start": "9", "end": "10"}}});
        assert_eq!(Value::Object(nested(flat)), expected);
    }

    #[test]
    fn only_what_is_plain_is_followed() {
        for (text, expected) in [
            ("ride.booking", Some(vec![("ride", "booking")])),
            (
                " ride.booking & ' of ' &first.order ",
                Some(vec![("ride", "booking"), ("first", "order")]),
            ),
            ("\"a & b\" & ride.booking", Some(vec![("ride", "booking")])),
            ("'words'", Some(vec![])),
            // A quote in a text of the other kind, and comments, could hide a path.
            (
                "ride.booking & \" patient's weight \" & intake.weight",
                None,
            ),
            ("ride.booking & ' \" ' & intake.weight", None),
            ("ride.booking & 'a\\' & intake.weight & 'b'", None),
            ("ride.booking /* it's */ & intake.weight", None),
            ("ride.booking // it's", None),
            ("'a' intake.weight", None),
            ("ride.booking & 'open", None),
            ("ride.booking | intake.weight", None),
            ("ride.booking and.x", None),
            ("ride.booking.first()", None),
            ("ride.booking[0]", None),
            ("ride", None),
            ("%context", None),
            ("ride.booking &", None),
            ("", None),
        ] {
            assert_eq!(plainly(text), expected, "{text}");
        }
    }

    #[test]
    fn the_table_and_the_language_name_the_same_of_a_patient() {
        let said = VALUE.fields.iter().find(|field| field.name == "patient");
        let Some(Shape::Choice(choices)) = said.map(|field| &field.shape) else {
            panic!("a choice");
        };
        assert_eq!(choices.len(), PATIENT.len());
        for ((name, words), (known, class, meaning)) in choices.iter().zip(PATIENT) {
            assert_eq!((name, words), (known, meaning));
            assert!(words.contains(&format!("`{}`", class.name())), "{name}");
        }
    }
}
