//! Whether two patients of one id are one person.
use std::collections::HashSet;

use fhir::search::normalise;
use fhir::{Resource, ResourceType};
use serde_json::Value;

fn list<'a>(patient: &'a Resource, name: &str) -> &'a [Value] {
    patient
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn identifiers(patient: &Resource) -> HashSet<(&str, &str)> {
    list(patient, "identifier")
        .iter()
        .map(|identifier| (text(identifier, "system"), text(identifier, "value")))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Family and first given name of each name that says something, without case and accents.
fn names(patient: &Resource) -> Vec<(String, String)> {
    list(patient, "name")
        .iter()
        .map(|name| {
            let given = name.get("given").and_then(|given| given.get(0));
            let given = given.and_then(Value::as_str).unwrap_or_default();
            let family = match text(name, "family") {
                "" if given.is_empty() => text(name, "text"),
                family => family,
            };
            (normalise(family), normalise(given))
        })
        .filter(|(family, given)| !(family.is_empty() && given.is_empty()))
        .collect()
}

/// Whether a patient who comes in is another person than the one who is there: they share no
/// identifier, and their birth dates or their names contradict each other. What one of them doesn't
/// say contradicts nothing.
pub(super) fn is_another(there: &Resource, new: &Resource) -> bool {
    if there.kind() != ResourceType::Patient || new.kind() != ResourceType::Patient {
        return false;
    }
    if !identifiers(there).is_disjoint(&identifiers(new)) {
        return false;
    }
    let (born, born_too) = (
        there.text_at(&["birthDate"]).unwrap_or_default(),
        new.text_at(&["birthDate"]).unwrap_or_default(),
    );
    // `1950` and `1950-02-03` agree.
    if !born.starts_with(born_too) && !born_too.starts_with(born) {
        return true;
    }
    let (names, names_too) = (names(there), names(new));
    let agree = |one: &str, other: &str| one == other || one.is_empty() || other.is_empty();
    let shared = names.iter().any(|(family, given)| {
        names_too
            .iter()
            .any(|(family_too, given_too)| agree(family, family_too) && agree(given, given_too))
    });
    !names.is_empty() && !names_too.is_empty() && !shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_is_another() {
        let patient = |value: &Value| {
            let mut patient = value.clone();
            patient["resourceType"] = json!("Patient");
            Resource::from_value(patient).unwrap()
        };
        let smith = json!({"name": [{"family": "Smith", "given": ["Anna", "B."]}], "birthDate": "1950-02-03",
                           "identifier": [{"system": "urn:mrn", "value": "1"}]});
        for (there, new, expected) in [
            (smith.clone(), smith.clone(), false),
            (smith.clone(), json!({}), false),
            (json!({}), smith.clone(), false),
            // A shared identifier outweighs all.
            (
                smith.clone(),
                json!({"name": [{"family": "Jones"}], "birthDate": "1980", "identifier": [{"system": "urn:mrn", "value": "1"}]}),
                false,
            ),
            (
                smith.clone(),
                json!({"name": [{"family": "Jones"}], "identifier": [{"system": "urn:other", "value": "1"}]}),
                true,
            ),
            (smith.clone(), json!({"name": [{"family": "Jones"}]}), true),
            (
                smith.clone(),
                json!({"name": [{"family": "SMITH", "given": ["anna"]}]}),
                false,
            ),
            (
                smith.clone(),
                json!({"name": [{"family": "Smith"}], "birthDate": "1950"}),
                false,
            ),
            (
                smith.clone(),
                json!({"name": [{"family": "Smith", "given": ["Bert"]}]}),
                true,
            ),
            (
                smith.clone(),
                json!({"name": [{"family": "Miller"}, {"family": "Smith"}]}),
                false,
            ),
            (smith.clone(), json!({"birthDate": "1950-02-04"}), true),
            (
                smith,
                json!({"name": [{"family": "Smith"}], "birthDate": "1951"}),
                true,
            ),
            (json!({"active": true}), json!({"active": false}), false),
            (
                json!({"name": [{"text": "Ann"}]}),
                json!({"name": [{"text": "Ben"}]}),
                true,
            ),
        ] {
            assert_eq!(
                is_another(&patient(&there), &patient(&new)),
                expected,
                "{there} {new}"
            );
        }
    }
}
