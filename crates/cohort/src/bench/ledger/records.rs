//! Audit events of the shape that the server writes: as `audit.rs` of the `trust` crate.

use serde_json::{Value, json};

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

fn entity(
    reference: &str,
    kind: (&str, &str),
    role: (&str, &str),
    details: &[(&str, &str)],
) -> Value {
    let detail: Vec<Value> = (details.iter())
        .map(|(name, value)| json!({"type": name, "valueString": value}))
        .collect();
    json!({
        "what": {"reference": reference},
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", kind.0, kind.1),
        "role": coding("http://terminology.hl7.org/CodeSystem/object-role", role.0, role.1),
        "detail": detail,
    })
}

/// An audit event of the shape that `trust` writes.
fn record(id: &str, interaction: &str, action: &str, mut entities: Vec<Value>) -> Value {
    entities.push(json!({
        "type": coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId", "X-Request-Id"),
        "what": {"identifier": {"value": "0192f3a0-77aa-4cab-8cab-0123456789ab"}},
    }));
    let purpose = json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}]);
    json!({
        "resourceType": "AuditEvent", "id": id,
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest", "RESTful Operation"),
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": interaction}],
        "action": action,
        "recorded": "2026-06-15T13:00:00.000Z",
        "outcome": "0",
        "purposeOfEvent": purpose,
        "agent": [
            {
                "type": {"coding": [coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient")]},
                "role": [{"coding": [{"system": "urn:cairn:role", "code": "client"}]}],
                "who": {"identifier": {"system": "urn:cairn:agent", "value": "client-bench"}},
                "altId": "client-bench",
                "requestor": true,
                "name": "bench",
                "policy": ["urn:cairn:policy:client-works-with-records"],
                "purposeOfUse": purpose,
            },
            {
                "type": {"coding": [coding("http://dicom.nema.org/resources/ontology/DCM", "110152", "Destination Role ID")]},
                "who": {"display": "cairn"},
                "requestor": false,
            },
        ],
        "source": {
            "observer": {"display": "cairn"},
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
        "entity": entities,
    })
}

/// The record of an import; the patient comes first.
pub(super) fn import_record(id: &str, touched: &[String]) -> Value {
    let patient = touched[0].trim_start_matches("Patient/");
    let entities = touched.iter().enumerate().map(|(place, reference)| {
        let (kind, role) = match place {
            0 => (("1", "Person"), ("1", "Patient")),
            _ => (("2", "System Object"), ("4", "Domain Resource")),
        };
        let details = [
            ("patient", patient),
            ("version", "1"),
            ("interaction", "create"),
        ];
        entity(reference, kind, role, &details[usize::from(place == 0)..])
    });
    record(id, "transaction", "E", entities.collect())
}

/// The record of a read. `ids`: its own, the patient's, the document's.
pub(super) fn read_record(ids: &[String]) -> Value {
    let patient = format!("Patient/{}", ids[1]);
    let entities = vec![
        entity(&patient, ("1", "Person"), ("1", "Patient"), &[]),
        entity(
            &format!("Observation/{}", ids[2]),
            ("2", "System Object"),
            ("4", "Domain Resource"),
            &[("patient", &ids[1]), ("version", "1")],
        ),
    ];
    record(&ids[0], "read", "R", entities)
}
