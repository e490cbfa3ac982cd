//! Whose a scenario's resources are. There is one patient, and a journey sees nothing but their record.

use fhir::{Resource, ResourceType};
use serde_json::{Value, json};

/// The patient of every scenario.
pub(super) const PATIENT: &str = "patient";

/// The members that say whose a resource is, in the order in which they are tried.
const MEMBERS: [&str; 5] = ["patient", "subject", "beneficiary", "individual", "for"];

/// The resource as the patient's, where its type can be and it names nobody.
pub(super) fn of_patient(resource: Resource) -> Resource {
    if resource.kind() == ResourceType::Patient || names_somebody(&resource) {
        return resource;
    }
    let patient = json!({"reference": format!("Patient/{PATIENT}")});
    if resource.kind() == ResourceType::Appointment {
        let mut parts = resource.get("participant").cloned().unwrap_or(json!([]));
        if let Value::Array(parts) = &mut parts {
            parts.push(json!({"actor": patient, "status": "accepted"}));
        }
        return with(&resource, "participant", parts);
    }
    // These two can be of several.
    let several = [ResourceType::Account, ResourceType::Contract].contains(&resource.kind());
    let value = if several { json!([patient]) } else { patient };
    let free = MEMBERS.iter().filter(|name| resource.get(name).is_none());
    let found = free
        .map(|name| with(&resource, name, value.clone()))
        .find(|tried| tried.patient() == Some(PATIENT));
    found.unwrap_or(resource)
}

/// Why a resource can't be in the patient's record, if so.
pub(super) fn stranger(value: &Value) -> Option<String> {
    // One that is none is told of when it is played.
    let resource = Resource::from_value(value.clone()).ok()?;
    let kind = resource.kind();
    if kind == ResourceType::Patient && resource.id().is_none() {
        return None;
    }
    let resource = of_patient(resource);
    let other = match resource.patient() {
        Some(PATIENT) => return None,
        Some(other) => format!("of `Patient/{other}`"),
        None if resource.is_of_patient_elsewhere() => "of another server's patient".to_owned(),
        None => {
            return Some(format!(
                "this {kind} is in no patient's record, so the journey would not see it; if it can be of a patient, say in it that it is of `Patient/{PATIENT}`"
            ));
        }
    };
    Some(format!(
        "this {kind} is {other}, and the scenario's patient is `Patient/{PATIENT}`; leave out whose it is, and it is filled in"
    ))
}

fn names_somebody(resource: &Resource) -> bool {
    resource.patient().is_some() || resource.is_of_patient_elsewhere()
}

fn with(resource: &Resource, name: &str, value: Value) -> Resource {
    let mut changed = resource.clone();
    changed.set(name, value);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_nobody_becomes_the_patients() {
        for (kind, member) in [
            ("Observation", "/subject/reference"),
            ("Encounter", "/subject/reference"),
            ("Coverage", "/beneficiary/reference"),
            ("AllergyIntolerance", "/patient/reference"),
            ("Task", "/for/reference"),
            ("ResearchSubject", "/individual/reference"),
            ("Account", "/subject/0/reference"),
            ("Appointment", "/participant/0/actor/reference"),
        ] {
            let value = json!({"resourceType": kind});
            assert_eq!(stranger(&value), None, "{kind}");
            let made = of_patient(Resource::from_value(value).unwrap());
            assert_eq!(
                made.as_value().pointer(member),
                Some(&json!("Patient/patient")),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_is_somebody_elses_is_told() {
        let of = |reference: &str| json!({"resourceType": "Observation", "subject": {"reference": reference}});
        for (value, words) in [
            (of("Patient/patient"), None),
            (of("Patient/p"), Some("of `Patient/p`")),
            (
                of("https://elsewhere.example/Patient/patient"),
                Some("another server's"),
            ),
            (of("Group/g"), Some("no patient's record")),
            (
                json!({"resourceType": "Organization"}),
                Some("no patient's record"),
            ),
            (json!({"resourceType": "Patient"}), None),
            (json!({"resourceType": "Patient", "id": "patient"}), None),
            (
                json!({"resourceType": "Patient", "id": "p"}),
                Some("of `Patient/p`"),
            ),
        ] {
            let told = stranger(&value);
            assert_eq!(told.is_some(), words.is_some(), "{value}: {told:?}");
            assert!(
                told.unwrap_or_default().contains(words.unwrap_or_default()),
                "{value}"
            );
        }
    }
}
