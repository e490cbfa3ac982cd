//! The hospital, its wards and its staff: the same for every cohort, under fixed ids.

use serde_json::{Map, Value, json};

use crate::bundle::transaction;

/// The hospital.
pub(crate) const HOSPITAL: &str = "0c5e0a11-0000-4000-8000-000000000001";
/// The practice that sees patients outside of hospital.
pub(crate) const PRACTICE: &str = "0c5e0a11-0000-4000-8000-000000000002";
/// The ward for heart failure.
pub(crate) const CARDIOLOGY_WARD: &str = "0c5e0a11-0000-4000-8000-000000000101";
/// Other wards.
pub(crate) const MEDICAL_WARD: &str = "0c5e0a11-0000-4000-8000-000000000102";
/// Where patients are seen by appointment.
pub(crate) const OUTPATIENT_CLINIC: &str = "0c5e0a11-0000-4000-8000-000000000103";

/// Cardiologists by id, given and family name.
pub(crate) const CARDIOLOGISTS: &[(&str, &str, &str)] = &[
    (
        "0c5e0a11-0000-4000-8000-000000000201",
        "Miriam",
        "Castellane",
    ),
    ("0c5e0a11-0000-4000-8000-000000000202", "Tobias", "Hartigan"),
    ("0c5e0a11-0000-4000-8000-000000000203", "Ifeoma", "Balogun"),
];
/// Family physicians.
pub(crate) const PHYSICIANS: &[(&str, &str, &str)] = &[
    ("0c5e0a11-0000-4000-8000-000000000211", "Rowena", "Prescott"),
    ("0c5e0a11-0000-4000-8000-000000000212", "Anand", "Krishnan"),
    ("0c5e0a11-0000-4000-8000-000000000213", "Beatriz", "Salgado"),
    (
        "0c5e0a11-0000-4000-8000-000000000214",
        "Piotr",
        "Malinowski",
    ),
];

pub(crate) fn bundle() -> Value {
    let mut entries = vec![
        organisation(
            HOSPITAL,
            "Northmoor General Hospital",
            "prov",
            "Healthcare Provider",
        ),
        organisation(
            PRACTICE,
            "Northmoor Family Practice",
            "prov",
            "Healthcare Provider",
        ),
        location(
            CARDIOLOGY_WARD,
            "Cardiology ward",
            "HU",
            "Hospital unit",
            HOSPITAL,
        ),
        location(
            MEDICAL_WARD,
            "Medical and surgical ward",
            "HU",
            "Hospital unit",
            HOSPITAL,
        ),
        location(
            OUTPATIENT_CLINIC,
            "Heart failure clinic",
            "OF",
            "Outpatient facility",
            HOSPITAL,
        ),
    ];
    for person in CARDIOLOGISTS {
        entries.push(practitioner(person));
    }
    for person in PHYSICIANS {
        entries.push(practitioner(person));
    }
    transaction(entries)
}

fn entry(kind: &str, id: &str, resource: Value) -> Value {
    let mut entry = Map::new();
    entry.insert("fullUrl".to_owned(), format!("urn:uuid:{id}").into());
    entry.insert("resource".to_owned(), resource);
    entry.insert(
        "request".to_owned(),
        json!({ "method": "PUT", "url": format!("{kind}/{id}") }),
    );
    Value::Object(entry)
}

fn organisation(id: &str, name: &str, code: &str, display: &str) -> Value {
    entry(
        "Organization",
        id,
        json!({
            "resourceType": "Organization",
            "id": id,
            "active": true,
            "type": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": code, "display": display
            }] }],
            "name": name,
            "telecom": [{ "system": "phone", "value": "+1-978-555-0100", "use": "work" }],
            "address": [{ "line": ["1 Hospital Hill"], "city": "Northmoor", "state": "MA", "postalCode": "01993", "country": "US" }]
        }),
    )
}

fn location(id: &str, name: &str, code: &str, display: &str, organisation: &str) -> Value {
    entry(
        "Location",
        id,
        json!({
            "resourceType": "Location",
            "id": id,
            "status": "active",
            "name": name,
            "mode": "instance",
            "type": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": code, "display": display
            }] }],
            "managingOrganization": { "reference": format!("Organization/{organisation}") }
        }),
    )
}

fn practitioner((id, given, family): &(&str, &str, &str)) -> Value {
    entry(
        "Practitioner",
        id,
        json!({
            "resourceType": "Practitioner",
            "id": id,
            "identifier": [{ "system": "urn:cairn:synthetic:staff", "value": id[id.len() - 4..] }],
            "active": true,
            "name": [{ "use": "official", "family": family, "given": [given], "prefix": ["Dr."] }]
        }),
    )
}
