//! Where a letter to a patient goes.

use fhir::Resource;
use serde_json::Value;

use super::channels::is_extended;
use super::{holds, list};
use crate::conventions::{CONFIDENTIAL_EXTENSION, NOT_WANTED_EXTENSION};

/// The most lines between name and town: what fits into the window of an envelope.
const LINES_MAX: usize = 4;
/// The most characters of a line of it.
const CHARS_MAX: usize = 60;

/// An address as it is written on an envelope.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Postal {
    /// Whose it is.
    pub name: String,
    /// Street, house, floor.
    pub lines: Vec<String>,
    /// Postal code; empty where there is none.
    pub postal_code: String,
    /// Town; empty where there is none.
    pub city: String,
    /// State or county; empty where there is none.
    pub state: String,
    /// Country as the record has it, in capitals where it is a code of two letters; empty where there is none.
    pub country: String,
}

/// Why a patient gets no letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPostal {
    /// There is no address that letters may go to.
    Nowhere,
    /// There is one, and it can't be written on an envelope.
    Unusable,
    /// The patient wants no letters there.
    Unwanted,
}

/// The address that letters to a patient go to at a time (milliseconds since the epoch).
///
/// Of `Patient.address` (FHIR R4, `Address.use` and `Address.type`): a temporary one that holds now first, then one that
/// is for post, then the home, then one that doesn't say what it is. Never one that is old or over, for bills, or for
/// visits alone (`physical`), nor that of work, where others open what comes. Where the patient has asked for
/// confidential communications ([`CONFIDENTIAL_EXTENSION`]), only what they asked for: whatever its use is, and nothing
/// where that is no address.
///
/// # Errors
/// Why there is none.
pub fn postal(patient: &Resource, now_ms: i64) -> Result<Postal, NoPostal> {
    let is_confidential = asks_for_one(patient);
    let mut found: Vec<(usize, &Value)> = Vec::new();
    for address in list(patient.get("address")) {
        let text = |name: &str| address.get(name).and_then(Value::as_str);
        let is_asked_for = is_extended(address, CONFIDENTIAL_EXTENSION);
        if (is_confidential && !is_asked_for) || !holds(address, now_ms) {
            continue;
        }
        let rank = match (text("use"), text("type")) {
            (Some("old"), _) | (_, Some("physical")) => continue,
            _ if is_asked_for => 0,
            (Some("billing" | "work"), _) => continue,
            (Some("temp"), _) => 1,
            (_, Some("postal")) => 2,
            (Some("home"), _) => 3,
            _ => 4,
        };
        found.push((rank, address));
    }
    found.sort_by_key(|(rank, _)| *rank);
    let mut why = NoPostal::Nowhere;
    for (_, address) in found {
        // What is said of the best one is said of post: another one is no way around it.
        if is_extended(address, NOT_WANTED_EXTENSION) {
            return Err(NoPostal::Unwanted);
        }
        match read(patient, address, now_ms) {
            Some(postal) => return Ok(postal),
            None => why = NoPostal::Unusable,
        }
    }
    Err(why)
}

/// Whether the patient has asked that they are reached at one place alone (45 CFR 164.522(b)), by whichever way.
pub(super) fn asks_for_one(patient: &Resource) -> bool {
    let all = list(patient.get("telecom")).chain(list(patient.get("address")));
    let mut all = all.filter(|one| is_extended(one, CONFIDENTIAL_EXTENSION));
    all.next().is_some()
}

fn read(patient: &Resource, address: &Value, now_ms: i64) -> Option<Postal> {
    let text = |name: &str| {
        address
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut lines: Vec<String> = (list(address.get("line")).filter_map(Value::as_str))
        .map(one_line)
        .filter(|line| !line.is_empty())
        .collect();
    // The whole as text says the town too.
    let is_whole = lines.is_empty();
    if is_whole {
        lines = (text("text").lines().map(one_line))
            .filter(|line| !line.is_empty())
            .collect();
        if lines.len() < 2 {
            return None;
        }
    }
    let part = |name: &str| {
        if is_whole {
            String::new()
        } else {
            one_line(text(name))
        }
    };
    let mut country = part("country");
    if country.len() == 2 {
        country.make_ascii_uppercase();
    }
    let postal = Postal {
        name: name(patient, now_ms)?,
        lines,
        postal_code: part("postalCode"),
        city: part("city"),
        state: part("state"),
        country,
    };
    let is_placed = is_whole || !postal.city.is_empty() || !postal.postal_code.is_empty();
    let parts = postal.lines.iter().chain([
        &postal.name,
        &postal.postal_code,
        &postal.city,
        &postal.state,
        &postal.country,
    ]);
    let fits =
        |text: &String| text.chars().count() <= CHARS_MAX && !text.chars().any(char::is_control);
    let mut parts = parts;
    let all_fit = parts.all(fits);
    drop(parts);
    (is_placed && postal.lines.len() <= LINES_MAX && all_fit).then_some(postal)
}

/// The name on the envelope: the official one, or else the usual one, or else the first. Never one that is over, as that
/// before a marriage or a transition is.
fn name(patient: &Resource, now_ms: i64) -> Option<String> {
    let names: Vec<&Value> = list(patient.get("name"))
        .filter(|name| holds(name, now_ms))
        .filter(|name| name["use"] != "old" && name["use"] != "maiden" && name["use"] != "nickname")
        .collect();
    let of = |wanted: &str| names.iter().find(|name| name["use"] == wanted);
    let name = of("official")
        .or_else(|| of("usual"))
        .or_else(|| names.first())?;
    let words = |member: &str| list(name.get(member)).filter_map(Value::as_str);
    let family = name.get("family").and_then(Value::as_str);
    let all = words("prefix")
        .chain(words("given"))
        .chain(family)
        .chain(words("suffix"));
    let whole = one_line(&all.collect::<Vec<_>>().join(" "));
    if !whole.is_empty() {
        return Some(whole);
    }
    let text = one_line(name.get("text").and_then(Value::as_str).unwrap_or_default());
    (!text.is_empty()).then_some(text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::consent::{channels, only_at};

    const NOW_MS: i64 = 1_796_000_000_000;

    fn patient(addresses: &Value, telecom: &Value) -> Resource {
        let patient = json!({
            "resourceType": "Patient", "id": "p", "address": addresses, "telecom": telecom,
            "name": [{"use": "usual", "given": ["Otti"]}, {"use": "official", "given": ["Ottilie", "A."], "family": "Quandt"}]
        });
        Resource::from_value(patient).expect("a patient")
    }

    fn at(street: &str, change: &Value) -> Value {
        let mut address =
            json!({"line": [street], "postalCode": "04109", "city": "Leipzig", "country": "de"});
        for (name, value) in change.as_object().into_iter().flatten() {
            address[name] = value.clone();
        }
        address
    }

    #[test]
    fn the_address_is_chosen_by_use_type_and_period() {
        let asked = json!([{"url": CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
        let no = json!([{"url": NOT_WANTED_EXTENSION, "valueBoolean": true}]);
        let over = json!({"end": "2026-01-01"});
        let home = at("Home 1", &json!({"use": "home"}));
        let table: Vec<(Vec<Value>, Result<&str, NoPostal>)> = vec![
            (vec![], Err(NoPostal::Nowhere)),
            (vec![home.clone()], Ok("Home 1")),
            (
                vec![home.clone(), at("Box 2", &json!({"type": "postal"}))],
                Ok("Box 2"),
            ),
            (
                vec![home.clone(), at("Stay 3", &json!({"use": "temp"}))],
                Ok("Stay 3"),
            ),
            (
                vec![
                    home.clone(),
                    at("Stay 3", &json!({"use": "temp", "period": over})),
                ],
                Ok("Home 1"),
            ),
            (
                vec![at("Old 4", &json!({"use": "old"}))],
                Err(NoPostal::Nowhere),
            ),
            (
                vec![at("Desk 5", &json!({"use": "work"}))],
                Err(NoPostal::Nowhere),
            ),
            (
                vec![at("Bill 6", &json!({"use": "billing"}))],
                Err(NoPostal::Nowhere),
            ),
            (
                vec![at("House 7", &json!({"type": "physical"}))],
                Err(NoPostal::Nowhere),
            ),
            (
                vec![at("Home 1", &json!({"use": "home", "extension": no}))],
                Err(NoPostal::Unwanted),
            ),
            (
                vec![json!({"use": "home", "city": "Leipzig"})],
                Err(NoPostal::Unusable),
            ),
            (
                vec![json!({"line": ["Somewhere"]})],
                Err(NoPostal::Unusable),
            ),
            (
                vec![at(&"x".repeat(61), &json!({}))],
                Err(NoPostal::Unusable),
            ),
            (vec![json!({"text": "Home 8\n04109 Leipzig"})], Ok("Home 8")),
            // What they asked for alone, also where it is at work.
            (
                vec![
                    home.clone(),
                    at("Desk 9", &json!({"use": "work", "extension": asked})),
                ],
                Ok("Desk 9"),
            ),
            (
                vec![
                    home.clone(),
                    at("Desk 9", &json!({"extension": asked, "period": over})),
                ],
                Err(NoPostal::Nowhere),
            ),
        ];
        for (addresses, expected) in table {
            let found = postal(&patient(&json!(addresses), &json!([])), NOW_MS);
            let street = found.as_ref().map(|found| found.lines[0].as_str());
            assert_eq!(
                street,
                expected
                    .as_ref()
                    .copied()
                    .map_err(|_| found.as_ref().expect_err("none")),
                "{addresses:?}"
            );
            if let (Err(found), Err(expected)) = (&found, &expected) {
                assert_eq!(found, expected, "{addresses:?}");
            }
            if let Ok(found) = found {
                assert_eq!(found.name, "Ottilie A. Quandt");
            }
        }
    }

    #[test]
    fn a_name_that_is_over_is_not_on_the_envelope() {
        let mut record = patient(&json!([at("Home 1", &json!({}))]), &json!([])).into_value();
        record["name"] = json!([
            {"use": "official", "given": ["Before"], "period": {"end": "2024-05-01"}},
            {"use": "official", "given": ["Ottilie"], "period": {"start": "2024-05-01"}}
        ]);
        let record = Resource::from_value(record).expect("a patient");
        let found = postal(&record, NOW_MS).map(|found| found.name);
        assert_eq!(found, Ok("Ottilie".to_owned()));
    }

    /// One place alone is one place alone, whichever way it is.
    #[test]
    fn who_asked_for_another_address_is_reached_there_and_nowhere_else() {
        let asked = json!([{"url": CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
        let mail = json!({"system": "email", "value": "o.quandt@example.com"});
        let home = at("Home 1", &json!({"use": "home"}));
        let of_post = patient(
            &json!([home, at("Box 2", &json!({"extension": asked}))]),
            &json!([mail]),
        );
        let kinds: Vec<String> = (channels(&of_post, NOW_MS).into_iter())
            .map(|one| one.kind)
            .collect();
        assert_eq!(kinds, ["portal"], "e-mail was not asked for");
        assert_eq!(only_at(&of_post, NOW_MS), Some(Vec::new()));
        let mut mail = mail;
        mail["extension"] = asked;
        let of_mail = patient(&json!([home]), &json!([mail]));
        assert_eq!(
            postal(&of_mail, NOW_MS),
            Err(NoPostal::Nowhere),
            "no letter was asked for"
        );
    }
}
