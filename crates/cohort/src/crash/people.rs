//! Patients, and what other systems write of them.

use serde_json::{Value, json};

/// The time now, Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    use ledger::Clock as _;
    ledger::SystemClock.now_ms()
}

/// The id of a patient.
#[must_use]
pub fn id(number: usize) -> String {
    format!("crash-{number}")
}

/// A patient's family name, by which partners know them.
#[must_use]
pub fn family(number: usize) -> String {
    format!("Crash{number}")
}

/// A patient's address.
#[must_use]
pub fn address(number: usize) -> String {
    format!("crash-{number}@example.com")
}

fn subject(number: usize) -> Value {
    json!({"reference": format!("Patient/{}", id(number))})
}

/// A patient with an address.
#[must_use]
pub fn patient(number: usize) -> Value {
    json!({
        "resourceType": "Patient", "id": id(number), "active": true,
        "name": [{"family": family(number), "given": ["Test"]}], "gender": "female", "birthDate": "1950-03-04",
        "telecom": [{"system": "email", "value": address(number), "rank": 1}],
    })
}

/// Heart failure.
#[must_use]
pub fn condition(number: usize) -> Value {
    json!({
        "resourceType": "Condition", "id": format!("crash-{number}-hf"),
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "84114007", "display": "Heart failure"}]},
        "subject": subject(number),
    })
}

/// A stay in hospital for that, which is over at a time.
#[must_use]
pub fn encounter(number: usize, end: &str) -> Value {
    json!({
        "resourceType": "Encounter", "id": format!("crash-{number}-stay"), "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": subject(number),
        "period": {"start": "2026-01-01T10:00:00Z", "end": end},
        "reasonCode": [{"coding": [{"system": "http://snomed.info/sct", "code": "84114007"}]}],
    })
}

/// A body weight.
#[must_use]
pub fn weight(number: usize, kg: f64, at: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": subject(number), "effectiveDateTime": at,
        "valueQuantity": {"value": kg, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    })
}

/// An operation that is done.
#[must_use]
pub fn operation(number: usize) -> Value {
    json!({"resourceType": "Procedure", "status": "completed", "subject": subject(number)})
}

/// A visit that begins at a time.
#[must_use]
pub fn visit(number: usize, at: &str, status: &str) -> Value {
    json!({
        "resourceType": "Appointment", "id": format!("crash-{number}-visit"), "status": status, "description": "Check-up",
        "start": at, "end": at,
        "participant": [{"actor": subject(number), "status": "accepted"}],
    })
}

/// Whether a `Task` is work for staff.
#[must_use]
pub fn is_staff(task: &Value) -> bool {
    task["code"]["coding"][0]["code"] == "staff-task"
}

/// The resources of a bundle.
#[must_use]
pub fn entries(bundle: &Value) -> Vec<Value> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    entries.map(|entry| entry["resource"].clone()).collect()
}
