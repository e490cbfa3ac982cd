//! Words for people: names, codes, quantities and ages as pages show them.
use crate::{Resource, ResourceType, date};
use serde_json::Value;

/// The name of a person or organisation: a `HumanName`'s `text`, else prefix, given, family and
/// suffix; `official` before `usual` before others, names that are no longer in use (`old`,
/// `maiden`) last; an organisation's or place's `name` as it stands. Empty when there is none.
#[must_use]
pub fn name(resource: &Resource) -> String {
    match resource.get("name") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let best = names
                .iter()
                .filter(|name| name.is_object())
                .min_by_key(|name| match name["use"].as_str() {
                    Some("official") => 0,
                    Some("usual") => 1,
                    Some("old" | "maiden") => 3,
                    _ => 2,
                });
            best.map_or_else(String::new, human_name)
        }
        Some(name @ Value::Object(_)) => human_name(name),
        _ => String::new(),
    }
}

/// A `HumanName` in one line.
#[must_use]
pub fn human_name(name: &Value) -> String {
    if let Some(text) = name["text"].as_str() {
        return text.to_owned();
    }
    let list = |member: &str| {
        name[member]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(Value::as_str)
    };
    let words: Vec<&str> = list("prefix")
        .chain(list("given"))
        .chain(name["family"].as_str())
        .chain(list("suffix"))
        .collect();
    words.join(" ")
}

/// Completed years of age at a time, by the UTC calendar. `None` when the date of birth is not a
/// full date (`YYYY-MM-DD`) or lies after the time.
#[must_use]
pub fn age_years(birth_date: &str, on_ms: i64) -> Option<i64> {
    let born = date::Parts::parse(birth_date)?;
    let today = date::Parts::from_unix_ms(on_ms);
    let years = today.year
        - born.year
        - i64::from((today.month, today.day) < (Some(born.month?), Some(born.day?)));
    (years >= 0).then_some(years)
}

/// A `CodeableConcept` or `Coding` in words: its text, else the first display, else the first code;
/// empty when there is none.
#[must_use]
pub fn codeable(value: &Value) -> String {
    let codings = || {
        value["coding"]
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice)
            .iter()
    };
    let words = value["text"]
        .as_str()
        .or_else(|| codings().find_map(|coding| coding["display"].as_str()))
        .or_else(|| codings().find_map(|coding| coding["code"].as_str()));
    words.unwrap_or_default().to_owned()
}

/// A `Quantity` in words, e.g. `72.5 kg` or `< 5 mg/L`, digits as recorded; empty without a value.
#[must_use]
pub fn quantity(value: &Value) -> String {
    let Value::Number(number) = &value["value"] else {
        return String::new();
    };
    let mut text = String::new();
    if let Some(comparator) = value["comparator"].as_str() {
        text += comparator;
        text.push(' ');
    }
    text += number.as_str();
    if let Some(unit) = value["unit"].as_str().or_else(|| value["code"].as_str()) {
        text.push(' ');
        text += unit;
    }
    text
}

/// See [`Resource::display`].
pub(crate) fn display(resource: &Resource) -> String {
    let named = name(resource);
    if !named.is_empty() {
        return named;
    }
    if let Some(title) = resource.text_at(&["title"]) {
        return title.to_owned();
    }
    let members: &[&str] = match resource.kind() {
        ResourceType::Encounter => &["type", "serviceType", "class"],
        ResourceType::Appointment => &["description", "serviceType", "appointmentType"],
        ResourceType::CarePlan | ResourceType::Communication => &["topic", "category"],
        _ => &[
            "code",
            "medicationCodeableConcept",
            "vaccineCode",
            "type",
            "description",
            "category",
        ],
    };
    for member in members {
        let value = resource
            .get(member)
            .map(|value| value.get(0).unwrap_or(value));
        let words = match value {
            Some(Value::String(text)) => text.clone(),
            Some(value) => codeable(value),
            None => continue,
        };
        if !words.is_empty() {
            return words;
        }
    }
    resource.kind().name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn names() {
        for (names, expected) in [
            (
                json!([{"family": "Berg", "given": ["Ida", "Maria"], "prefix": ["Dr."], "suffix": ["MD"]}]),
                "Dr. Ida Maria Berg MD",
            ),
            (
                json!([{"use": "old", "family": "Alt"}, {"use": "usual", "text": "Ida"}, {"use": "official", "family": "Berg"}]),
                "Berg",
            ),
            (
                json!([{"use": "maiden", "family": "Alt"}, {"use": "nickname", "text": "Idi"}]),
                "Idi",
            ),
            (json!([{"use": "official"}]), ""),
            (json!([]), ""),
            (json!("St. Mary"), "St. Mary"),
            (json!(7), ""),
        ] {
            assert_eq!(
                name(&resource(json!({"resourceType": "Patient", "name": names}))),
                expected
            );
        }
    }

    #[test]
    fn ages() {
        let at = |text| date::parse(text).unwrap().start_ms;
        for (born, on, years) in [
            ("1950-11-26", "2026-11-25T23:59:59Z", Some(75)),
            ("1950-11-26", "2026-11-26T00:00:00Z", Some(76)),
            ("2024-02-29", "2025-02-28", Some(0)),
            ("2024-02-29", "2025-03-01", Some(1)),
            ("2026-11-26", "2026-11-26", Some(0)),
            ("2026-11-27", "2026-11-26", None),
            ("1950", "2026-11-26", None),
            ("", "2026-11-26", None),
        ] {
            assert_eq!(age_years(born, at(on)), years, "{born} {on}");
        }
    }

    #[test]
    fn codes_and_quantities() {
        assert_eq!(
            codeable(&json!({"text": "Weight", "coding": [{"display": "Body weight"}]})),
            "Weight"
        );
        assert_eq!(
            codeable(
                &json!({"coding": [{"code": "29463-7"}, {"code": "x", "display": "Body weight"}]})
            ),
            "Body weight"
        );
        assert_eq!(
            codeable(&json!({"coding": [{"code": "29463-7"}]})),
            "29463-7"
        );
        assert_eq!(
            codeable(&json!({"system": "s", "code": "IMP", "display": "inpatient"})),
            "inpatient"
        );
        assert_eq!(codeable(&json!({})), "");
        assert_eq!(codeable(&json!(null)), "");
        let weight: Value = serde_json::from_str(r#"{"value": 72.50, "unit": "kg"}"#).unwrap();
        assert_eq!(quantity(&weight), "72.50 kg");
        assert_eq!(
            quantity(&json!({"value": 5, "comparator": "<", "code": "mg/L"})),
            "< 5 mg/L"
        );
        assert_eq!(quantity(&json!({"unit": "kg"})), "");
    }

    #[test]
    fn displays() {
        for (value, expected) in [
            (
                json!({"resourceType": "Patient", "name": [{"family": "Berg"}]}),
                "Berg",
            ),
            (
                json!({"resourceType": "Observation", "code": {"text": "Weight"}}),
                "Weight",
            ),
            (
                json!({"resourceType": "Encounter", "class": {"code": "IMP"}, "type": [{"text": "Admission"}]}),
                "Admission",
            ),
            (
                json!({"resourceType": "Encounter", "class": {"code": "IMP"}}),
                "IMP",
            ),
            (
                json!({"resourceType": "Questionnaire", "title": "Symptoms"}),
                "Symptoms",
            ),
            (
                json!({"resourceType": "MedicationRequest", "medicationCodeableConcept": {"text": "Furosemide"}}),
                "Furosemide",
            ),
            (json!({"resourceType": "Task"}), "Task"),
        ] {
            assert_eq!(resource(value).display(), expected);
        }
    }
}
