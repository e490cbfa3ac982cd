//! The European Health Insurance Card of a person: the one coverage that the service tells of.

use fhir::Resource;
use serde_json::Value;

/// By what the record knows it.
const SYSTEM: &str = "urn:cairn:coverage-type";
const EHIC: &str = "ehic";
/// What the published form has.
const MEMBERS: [&str; 7] = [
    "resourceType",
    "status",
    "subscriber",
    "identifier",
    "payor",
    "beneficiary",
    "period",
];
/// Whether a coverage of the record is a card.
#[must_use]
pub fn is_card(resource: &Resource) -> bool {
    let codings = resource.at(&["type", "coding"]).and_then(Value::as_array);
    let mut codings = codings.into_iter().flatten();
    codings.any(|coding| coding["system"] == SYSTEM && coding["code"] == EHIC)
}

/// What is told of a card: nothing where a part is missing.
#[must_use]
pub fn told(resource: &Resource) -> Option<Value> {
    let mut value = resource.as_value().clone();
    let members = value.as_object_mut()?;
    members.retain(|name, _| MEMBERS.contains(&name.as_str()));
    members
        .get_mut("beneficiary")?
        .as_object_mut()?
        .remove("reference");
    let whole = ["/beneficiary/identifier/value", "/payor/0/identifier/value"]
        .iter()
        .all(|path| value.pointer(path).is_some());
    whole.then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_of_a_card() {
        let mut card = json!({
            "resourceType": "Coverage", "status": "active",
            "subscriber": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"}},
            "identifier": [{"value": "29401395498043123948"}],
            "payor": [{"identifier": {"value": "92847ADGJL"}}],
            "beneficiary": {"identifier": {"value": "178705ABC"}},
            "period": {"end": "2030-12-31"},
        });
        let expected = card.clone();
        card["id"] = json!("c");
        card["beneficiary"]["reference"] = json!("Patient/r1");
        let other = Resource::from_value(card.clone()).expect("a resource");
        assert!(!is_card(&other));
        card["type"] = json!({"coding": [{"system": SYSTEM, "code": EHIC}]});
        let mut resource = Resource::from_value(card).expect("a resource");
        assert!(is_card(&resource));
        assert_eq!(told(&resource), Some(expected));
        resource.set("beneficiary", json!({"reference": "Patient/r1"}));
        assert_eq!(told(&resource), None);
    }
}
