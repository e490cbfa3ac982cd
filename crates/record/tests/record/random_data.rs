//! The data of random searches: what is written, and the search parameters of one's own.
use fhir::ResourceType as T;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) const CODES: [&str; 3] = ["29463-7", "8480-6", "8462-4"];
pub(crate) const STATUSES: [&str; 2] = ["final", "preliminary"];
pub(crate) const NAMES: [&str; 4] = ["Berg", "Bergen", "Dahl", "van Dahl"];
const WORDS: [&str; 3] = ["morning dose", "evening dose", "no dose"];

/// One write: a resource by its place, in a variant.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) kind: T,
    which: u8,
    patient: u8,
    variant: u8,
    pub(crate) delete: bool,
}

pub(crate) fn pick<'a>(list: &[&'a str], place: u8) -> &'a str {
    list[usize::from(place) % list.len()]
}

pub(crate) fn id_of(write: &Write) -> String {
    let Write { which, patient, .. } = write;
    match write.kind {
        T::Patient => format!("p{patient}"),
        T::Observation => format!("o{patient}{which}"),
        T::Condition => format!("c{patient}{which}"),
        T::List => format!("l{}", which % 2),
        _ => format!("g{}", which % 2),
    }
}

pub(crate) fn coding(code: &str) -> Value {
    json!({"coding": [{"system": "http://loinc.org", "code": code}]})
}

pub(crate) fn body(write: &Write) -> Value {
    let Write {
        patient, variant, ..
    } = write;
    let v = *variant;
    let subject = json!({"reference": format!("Patient/p{patient}")});
    let mut value = match write.kind {
        T::Patient => json!({
            "name": [{"family": pick(&NAMES, v)}],
            "managingOrganization": {"reference": format!("Organization/g{}", v % 3)},
        }),
        T::Observation => {
            let mut value = json!({
                "status": pick(&STATUSES, v), "code": coding(pick(&CODES, v / 2)), "subject": subject,
                "component": [
                    {"code": coding(pick(&CODES, v)), "valueQuantity": {"value": v % 7}},
                    {"code": coding(pick(&CODES, v + 1)), "valueQuantity": {"value": v % 5 + 3}}],
            });
            if v % 4 == 0 {
                value["code"] = json!({"text": "in words"});
            }
            if v % 3 == 0 {
                value["performer"] = json!([{"reference": format!("Patient/p{}", v % 2)}]);
            }
            value
        }
        T::Condition => json!({"code": coding(pick(&CODES, v)), "subject": subject}),
        T::List => json!({"status": "current", "mode": "working",
            "entry": [{"item": {"reference": format!("Observation/o{}{}", v % 3, v % 2)}},
                {"item": {"reference": format!("Patient/p{}", v % 3)}}]}),
        _ => json!({"name": pick(&NAMES, v)}),
    };
    value["resourceType"] = write.kind.name().into();
    value["id"] = id_of(write).into();
    value["meta"] = json!({"tag": [{"code": "set"}]});
    let words = pick(&WORDS, v);
    value["text"] = json!({"status": "generated",
        "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><b>{words}</b></div>")});
    value
}

pub(crate) fn writes() -> impl Strategy<Value = Vec<Write>> {
    let kinds = vec![
        T::Patient,
        T::Observation,
        T::Observation,
        T::Condition,
        T::Organization,
        T::List,
    ];
    let write = (
        proptest::sample::select(kinds),
        0..3u8,
        0..3u8,
        0..60u8,
        proptest::bool::weighted(0.1),
    );
    let write = write.prop_map(|(kind, which, patient, variant, delete)| Write {
        kind,
        which,
        patient,
        variant,
        delete,
    });
    proptest::collection::vec(write, 8..40)
}

/// Search parameters of one's own, two of them of several types.
pub(crate) fn definitions() -> [Value; 3] {
    let of = |id: &str, code: &str, kind: &str, base: &[&str], expression: &str| {
        json!({"resourceType": "SearchParameter", "id": id, "url": format!("http://example.org/{id}"), "name": "x",
            "status": "active", "description": "x", "code": code, "base": base, "type": kind, "expression": expression})
    };
    let mut about = of(
        "about",
        "about",
        "reference",
        &["Observation", "Condition"],
        "Observation.subject | Condition.subject",
    );
    about["target"] = json!(["Patient"]);
    [
        about,
        of(
            "called",
            "called",
            "string",
            &["Patient", "Organization"],
            "Patient.name.family | Organization.name",
        ),
        of(
            "stage",
            "stage",
            "token",
            &["Observation"],
            "Observation.status",
        ),
    ]
}
