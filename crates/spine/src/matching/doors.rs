//! What to ask a record that is searched as FHIR says, so that whoever may be somebody is among what is
//! found: the same thought as [`super::blocking`], in search parameters that every patient is indexed by
//! already. So stores of before are asked at once, and nothing has to be indexed anew.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::nicknames;
use super::normal;

/// Comparisons in one filter; a search takes fifty ([`fhir::search`]).
const COMPARISONS_MAX: usize = 48;
/// Letters of a name that it is asked for by. Three leave what follows to be mistyped.
const LETTERS: usize = 3;
/// Names, identifiers, numbers and mailboxes that are asked for, the first of each.
const EACH_MAX: usize = 3;

/// The longest identifier, number or mailbox that is asked for, in bytes; longer ones are nobody's.
const VALUE_BYTES_MAX: usize = 254;

/// The `_filter`s (FHIR R4, section 3.1.3) that find whoever may be this patient, the widest first; the second is for
/// populations in which too many are born on one day. None where there is nothing to find anybody by: an identifier, a
/// telephone number, an e-mail address, a whole day of birth, or a name with a year or a postcode.
#[must_use]
pub fn filters(patient: &Value) -> Vec<String> {
    let filters = [true, false].map(|wide| filter(patient, wide));
    let mut filters: Vec<String> = filters.into_iter().flatten().collect();
    filters.dedup();
    filters
}

fn filter(patient: &Value, wide: bool) -> Option<String> {
    let mut doors = Doors::default();
    for identifier in list(patient, "identifier").take(EACH_MAX) {
        let (system, value) = (text(identifier, "system"), text(identifier, "value"));
        if !value.is_empty() {
            let token = if system.is_empty() {
                value.to_owned()
            } else {
                format!("{system}|{value}")
            };
            doors.add(&[("identifier", "eq", &[&token])]);
        }
    }
    for (system, parameter) in [("phone", "phone"), ("sms", "phone"), ("email", "email")] {
        let of_system =
            list(patient, "telecom").filter(|telecom| text(telecom, "system") == system);
        for telecom in of_system.take(EACH_MAX) {
            doors.add(&[(parameter, "eq", &[text(telecom, "value")])]);
        }
    }
    // What is no day is asked of nobody: a mistyped one is still compared.
    let birth = Some(text(patient, "birthDate")).filter(|birth| fhir::date::parse(birth).is_some());
    let birth = birth.unwrap_or_default();
    let day = Some(birth).filter(|birth| birth.len() == 10);
    if let Some(day) = day.filter(|_| wide) {
        doors.add(&[("birthdate", "eq", &[day])]);
    }
    let year = birth.get(..4).unwrap_or_default();
    let codes: BTreeSet<&str> = list(patient, "address")
        .map(|address| text(address, "postalCode"))
        .take(EACH_MAX)
        .collect();
    for name in list(patient, "name").take(EACH_MAX) {
        let family = beginning(text(name, "family"));
        let first = list(name, "given").find_map(Value::as_str);
        let given = first.map_or(String::new(), beginning);
        let called = first.map(called).unwrap_or_default();
        let called: Vec<&str> = called.iter().map(String::as_str).collect();
        // Also where given and family name have changed places.
        doors.add(&[
            ("family", "sw", &[&family]),
            ("given", "sw", &called),
            ("birthdate", "eq", &[year]),
        ]);
        doors.add(&[
            ("family", "sw", &[&given]),
            ("given", "sw", &[&family]),
            ("birthdate", "eq", &[year]),
        ]);
        if let Some(day) = day.filter(|_| !wide) {
            let all: Vec<&str> = called.iter().copied().chain([family.as_str()]).collect();
            doors.add(&[
                ("birthdate", "eq", &[day]),
                ("family", "sw", &[&family, &given]),
            ]);
            doors.add(&[("birthdate", "eq", &[day]), ("given", "sw", &all)]);
        }
        for code in &codes {
            doors.add(&[
                ("address-postalcode", "eq", &[code]),
                ("family", "sw", &[&family]),
            ]);
            doors.add(&[
                ("address-postalcode", "eq", &[code]),
                ("given", "sw", &called),
            ]);
        }
    }
    (!doors.text.is_empty()).then_some(doors.text)
}

/// The `_filter` that finds those one of whose names begins as one of these, in either place.
#[must_use]
pub fn of_names(family: Option<&str>, given: Option<&str>) -> Option<String> {
    let mut doors = Doors::default();
    let family = family.map(beginning).unwrap_or_default();
    let called = given.map(called).unwrap_or_default();
    let given = given.map(beginning).unwrap_or_default();
    for name in [&family, &given] {
        doors.add(&[("family", "sw", &[name])]);
    }
    for name in called.iter().chain([&family]) {
        doors.add(&[("given", "sw", &[name])]);
    }
    (!doors.text.is_empty()).then_some(doors.text)
}

/// How a given name and the names begin that it is short for.
fn called(first: &str) -> BTreeSet<String> {
    let words = normal::words(first);
    let full = nicknames::full_names(&words).map(beginning);
    let mut called: BTreeSet<String> = full.collect();
    called.insert(beginning(first));
    called
}

/// The beginning of a name as it is written.
fn beginning(name: &str) -> String {
    let beginning: String = name.trim().chars().take(LETTERS).collect();
    // Nothing can be asked for that is signs alone.
    if normal::words(&beginning).is_empty() {
        return String::new();
    }
    beginning
}

#[derive(Default)]
struct Doors {
    text: String,
    comparisons: usize,
}

impl Doors {
    /// One more way to be found: all parts hold, each with one of its values. A part without a value shuts it,
    /// and so does the bound.
    fn add(&mut self, parts: &[(&str, &str, &[&str])]) {
        let asked: usize = parts.iter().map(|(_, _, values)| values.len()).sum();
        let is_shut = parts.iter().any(|(_, _, values)| {
            let is_none = |value: &&str| value.trim().is_empty() || value.len() > VALUE_BYTES_MAX;
            values.is_empty() || values.iter().any(is_none)
        });
        if is_shut || self.comparisons + asked > COMPARISONS_MAX {
            return;
        }
        self.comparisons += asked;
        if !self.text.is_empty() {
            self.text.push_str(" or ");
        }
        self.text.push('(');
        for (at, (parameter, operator, values)) in parts.iter().enumerate() {
            if at > 0 {
                self.text.push_str(" and ");
            }
            self.text.push('(');
            for (at, value) in values.iter().enumerate() {
                let or = if at > 0 { " or " } else { "" };
                // A filter's texts are JSON's.
                let _ = write!(
                    self.text,
                    "{or}{parameter} {operator} {}",
                    Value::from(*value)
                );
            }
            self.text.push(')');
        }
        self.text.push(')');
    }
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn doors_open_by_what_is_known() {
        for (patient, expected) in [
            (json!({}), None),
            (
                json!({ "name": [{ "family": "Smith" }], "gender": "male" }),
                None,
            ),
            (
                json!({ "birthDate": "1970-02-01" }),
                Some(r#"((birthdate eq "1970-02-01"))"#),
            ),
            (json!({ "birthDate": "1970" }), None),
            (
                json!({ "identifier": [{ "system": "urn:x", "value": "a\"b" }], "telecom": [{ "system": "email", "value": "a@example.com" }] }),
                Some(r#"((identifier eq "urn:x|a\"b")) or ((email eq "a@example.com"))"#),
            ),
            (
                json!({ "name": [{ "family": "O'Neill", "given": ["Bob"] }], "birthDate": "1970-02" }),
                Some(
                    r#"((family sw "O'N") and (given sw "Bob" or given sw "rob") and (birthdate eq "1970")) or ((family sw "Bob") and (given sw "O'N") and (birthdate eq "1970"))"#,
                ),
            ),
        ] {
            assert_eq!(filter(&patient, true).as_deref(), expected, "{patient}");
        }
    }

    #[test]
    fn a_filter_is_bounded_and_one_that_searches_take() {
        let names: Vec<Value> = (0..40)
            .map(|number| json!({ "family": format!("{number}Family"), "given": [format!("Fred{number}"), "x"] }))
            .collect();
        let patient = json!({ "name": names, "birthDate": "1970-02-01",
            "address": (0..9).map(|number| json!({ "postalCode": format!("LS{number} 1AA") })).collect::<Vec<_>>() });
        let filters = filters(&patient);
        assert_eq!(filters.len(), 2);
        let names = of_names(Some("O'Neill \"x\""), Some("Bob")).expect("names");
        for filter in filters.into_iter().chain([names]) {
            let parameters = [("_filter".to_owned(), filter)];
            let query =
                fhir::search::SearchQuery::parse(fhir::ResourceType::Patient, &parameters, false);
            assert!(query.is_ok(), "{query:?}");
        }
    }

    #[test]
    fn what_can_open_no_door_opens_none() {
        for patient in [
            json!({ "birthDate": "1970-13-41" }),
            json!({ "name": [{ "family": "--", "given": ["."] }], "birthDate": "1970-01" }),
            json!({ "identifier": [{ "value": "x".repeat(300) }] }),
        ] {
            assert!(filters(&patient).is_empty(), "{patient}");
        }
        assert_eq!(of_names(Some("-"), None), None);
    }
}
