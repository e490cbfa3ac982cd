//! The rule pack `england` over HTTP: who has a legitimate relationship sees a record, sealed entries need more, an
//! emergency access opens both of one patient; and lists, pages and totals are what reading one by one shows.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, house_with, known_as, names, put, token};

const FHIR: &str = "/fhir/r4/";

/// Patient p's, all but the last, which is q's.
const ROWS: [&str; 9] = [
    "Composition/letter",
    "DocumentReference/scan",
    "Observation/both",
    "Observation/by-visit",
    "Observation/normal",
    "Observation/other",
    "Observation/plain",
    "Observation/restricted",
    "Observation/very",
];

fn marked(level: &str) -> Value {
    json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": level}])
}

fn observation(id: &str, patient: &str, level: Option<&str>, by: &str) -> Value {
    let mut row = json!({"resourceType": "Observation", "id": id, "status": "final",
        "subject": {"reference": format!("Patient/{patient}")}, "code": {"text": "x"}});
    if let Some(level) = level {
        row["meta"] = json!({"security": marked(level)});
    }
    if !by.is_empty() {
        row["performer"] = json!([{"reference": by}]);
    }
    row
}

async fn record(house: &House) {
    let of_p = json!({"reference": "Patient/p"});
    for patient in ["p", "q"] {
        put(house, &json!({"resourceType": "Patient", "id": patient})).await;
    }
    for row in [
        observation("plain", "p", None, ""),
        observation("normal", "p", Some("N"), ""),
        observation("restricted", "p", Some("R"), "Practitioner/team"),
        observation("by-visit", "p", Some("R"), "Practitioner/visit"),
        observation("very", "p", Some("V"), "Organization/clinic"),
        // Of two patients: it takes a relationship with each.
        observation("both", "p", Some("R"), "Patient/q"),
        observation("other", "q", None, ""),
        json!({"resourceType": "DocumentReference", "id": "scan", "status": "current", "subject": of_p,
            "securityLabel": [{"coding": marked("R")}],
            "content": [{"attachment": {"contentType": "text/plain", "data": "eA=="}}]}),
        json!({"resourceType": "Composition", "id": "letter", "status": "final", "type": {"text": "letter"},
            "subject": of_p, "date": "2026-02-01", "title": "Letter", "confidentiality": "V",
            "author": [{"reference": "Organization/clinic"}]}),
        json!({"resourceType": "CareTeam", "id": "t", "status": "active", "subject": of_p,
            "participant": [{"member": {"reference": "Practitioner/team"}}]}),
        json!({"resourceType": "Appointment", "id": "a", "status": "booked", "start": "2026-03-05T10:00:00Z",
            "end": "2026-03-05T11:00:00Z",
            "participant": [{"actor": of_p, "status": "accepted"},
                {"actor": {"reference": "Practitioner/visit"}, "status": "accepted"}]}),
        json!({"resourceType": "ServiceRequest", "id": "s", "status": "active", "intent": "order",
            "subject": of_p, "authoredOn": "2026-02-20", "performer": [{"reference": "Practitioner/clinic"}]}),
    ] {
        put(house, &row).await;
    }
}

/// A clinician's token; who they are is said by an administrator.
async fn clinician(house: &House, entries: &[&str]) -> String {
    let made = token(&house.server, Role::Clinician).await;
    known_as(house, &made, entries).await;
    made
}

async fn asked(house: &House, (token, purpose): (&str, &str), path: &str) -> (u16, Value) {
    let asked = house.bare(Method::GET, path).bearer_auth(token);
    let asked = asked.header("x-purpose-of-use", purpose);
    let answer = asked.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// All pages of a search, one row each, and the total of each page.
async fn pages(house: &House, who: (&str, &str), search: &str) -> (BTreeSet<String>, Vec<u64>) {
    let mut path = format!("{FHIR}{search}&_count=1&_total=accurate");
    let (mut found, mut totals) = (BTreeSet::new(), Vec::new());
    loop {
        let (status, bundle) = asked(house, who, &path).await;
        assert_eq!(status, 200, "{path}: {bundle}");
        let of_page = names(&bundle);
        assert!(of_page.len() <= 1, "{bundle}");
        found.extend(of_page);
        totals.extend(bundle["total"].as_u64());
        let links = bundle["link"].as_array().expect("links");
        let Some(next) = links.iter().find(|link| link["relation"] == "next") else {
            return (found, totals);
        };
        let url = next["url"].as_str().expect("an address");
        path = url[url.find(FHIR).expect("an address here")..].to_owned();
    }
}

/// Which rows somebody sees for a purpose. Each way to them has to say what reading them one by one does.
async fn seen(house: &House, who: (&str, &str)) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for row in ROWS {
        let (status, _) = asked(house, who, &format!("{FHIR}{row}")).await;
        assert!([200, 404].contains(&status), "{row}: {status}");
        for way in ["_history", "_history/1"] {
            let (past, _) = asked(house, who, &format!("{FHIR}{row}/{way}")).await;
            assert_eq!(past, status, "{row}/{way}");
        }
        if status == 200 {
            seen.push(row);
        }
    }
    let of = |kind: &str, patient: &str| -> BTreeSet<String> {
        (seen.iter())
            .filter(|row| row.starts_with(&format!("{kind}/")))
            .filter(|row| (**row == "Observation/other") == (patient == "q"))
            .map(|row| (*row).to_owned())
            .collect()
    };
    for kind in ["Composition", "DocumentReference", "Observation"] {
        let expected = of(kind, "p");
        for search in [
            format!("{kind}?patient=p"),
            format!("{kind}?patient=p&_sort=_id"),
            format!("{kind}?subject=Patient/p&_lastUpdated=ge2020-01-01"),
        ] {
            let (found, totals) = pages(house, who, &search).await;
            assert_eq!(found, expected, "{search}");
            let total = expected.len() as u64;
            assert!(
                totals.iter().all(|one| *one == total),
                "{search}: {totals:?}"
            );
        }
        let count = format!("{FHIR}{kind}?patient=p&_summary=count");
        let (_, counted) = asked(house, who, &count).await;
        assert_eq!(counted["total"], expected.len() as u64, "{counted}");
        // A mark that somebody doesn't see finds nothing.
        let marked = format!("{kind}?patient=p&_security=R,V,N");
        let (found, _) = pages(house, who, &marked).await;
        assert!(found.is_subset(&expected), "{found:?}");
    }
    let (_, everything) = asked(
        house,
        who,
        &format!("{FHIR}Patient/p/$everything?_count=100"),
    )
    .await;
    let (_, included) = asked(
        house,
        who,
        &format!("{FHIR}Patient?_id=p&_revinclude=Observation:patient&_revinclude=Composition:patient&_revinclude=DocumentReference:patient"),
    )
    .await;
    for (way, bundle) in [("everything", &everything), ("included", &included)] {
        let listed: Vec<&str> = (ROWS.into_iter())
            .filter(|row| *row != "Observation/other" && names(bundle).contains(*row))
            .collect();
        let expected: Vec<&str> = (seen.iter().copied())
            .filter(|row| *row != "Observation/other")
            .collect();
        assert_eq!(listed, expected, "{way}");
    }
    seen
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_relationship_opens_a_record_and_not_its_seals() {
    let house = house_with(|options| "england".clone_into(&mut options.consent_rules)).await;
    record(&house).await;
    let stranger = clinician(&house, &["Practitioner/stranger"]).await;
    let visit = clinician(&house, &["Practitioner/visit"]).await;
    let team = clinician(&house, &["Practitioner/team"]).await;
    let clinic = clinician(&house, &["Practitioner/clinic", "Organization/clinic"]).await;
    let of_stranger = (stranger.as_str(), "TREAT");
    let of_visit = (visit.as_str(), "TREAT");
    let of_team = (team.as_str(), "TREAT");
    assert_eq!(seen(&house, of_stranger).await, [] as [&str; 0]);
    // An appointment opens what isn't sealed, and what one wrote oneself.
    let by_visit = [
        "Observation/by-visit",
        "Observation/normal",
        "Observation/plain",
    ];
    assert_eq!(seen(&house, of_visit).await, by_visit);
    // The team sees what is restricted; of two patients, that takes both.
    let by_team = [
        "DocumentReference/scan",
        "Observation/by-visit",
        "Observation/normal",
        "Observation/plain",
        "Observation/restricted",
    ];
    assert_eq!(seen(&house, of_team).await, by_team);
    // Who is sent to, and is the clinic that wrote what is very restricted, sees that.
    assert_eq!(
        seen(&house, (&clinic, "TREAT")).await,
        [
            "Composition/letter",
            "Observation/normal",
            "Observation/plain",
            "Observation/very",
        ]
    );
    // Another system needs no relationship, and comes to a seal like anybody.
    let of_system = (house.token.as_str(), "TREAT");
    let unsealed = [
        "Observation/normal",
        "Observation/other",
        "Observation/plain",
    ];
    assert_eq!(seen(&house, of_system).await, unsealed);
    known_as(&house, &house.token, &["Organization/clinic"]).await;
    let with_own = [
        "Composition/letter",
        "Observation/normal",
        "Observation/other",
        "Observation/plain",
        "Observation/very",
    ];
    assert_eq!(seen(&house, of_system).await, with_own);

    // An emergency access in the midst of it: of one patient, for who has it, for that purpose alone.
    let identity = house.server.trust().identity();
    let agent = identity.bearer(&stranger).await.expect("an agent");
    let (status, _) = asked(
        &house,
        (&stranger, "ETREAT"),
        &format!("{FHIR}Observation/plain"),
    )
    .await;
    assert_eq!(status, 403);
    let begun = identity.break_glass(&agent, "p", "Unconscious, nobody to ask", "r");
    let begun = begun.await.expect("emergency access");
    // What is of q, too, needs more: q is in no emergency.
    let of_p: Vec<&str> = (ROWS.into_iter())
        .filter(|row| !["Observation/other", "Observation/both"].contains(row))
        .collect();
    assert_eq!(seen(&house, (&stranger, "ETREAT")).await, of_p);
    assert_eq!(seen(&house, of_stranger).await, [] as [&str; 0]);
    assert_eq!(seen(&house, of_visit).await, by_visit);
    let (status, _) = asked(
        &house,
        (&visit, "ETREAT"),
        &format!("{FHIR}Observation/very"),
    )
    .await;
    assert_eq!(status, 403);
    // What is sealed while it stands is open under it, and closed to who saw it until then.
    put(
        &house,
        &observation("normal", "p", Some("V"), "Practitioner/clinic"),
    )
    .await;
    let read = async |who: (&str, &str)| {
        asked(&house, who, &format!("{FHIR}Observation/normal"))
            .await
            .0
    };
    assert_eq!(read((&stranger, "ETREAT")).await, 200);
    assert_eq!(read(of_visit).await, 404);
    assert_eq!(read((&clinic, "TREAT")).await, 200);
    let ended = identity.end_emergency(&agent, &begun.id, "r");
    ended.await.expect("ended");
    assert_eq!(read((&stranger, "ETREAT")).await, 403);
    // The relationship ends, and with it what it opened, seals among it.
    put(
        &house,
        &json!({"resourceType": "CareTeam", "id": "t", "status": "inactive",
            "subject": {"reference": "Patient/p"},
            "participant": [{"member": {"reference": "Practitioner/team"}}]}),
    )
    .await;
    let (status, _) = asked(&house, of_team, &format!("{FHIR}Observation/restricted")).await;
    assert_eq!(status, 404);
    house.end().await;
}

/// Labels that Cairn tells seal nothing when they come back, whatever a client makes of them; somebody's mark does.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_with_told_labels_is_not_sealed() {
    let house = house_with(|options| "england".clone_into(&mut options.consent_rules)).await;
    record(&house).await;
    let visit = clinician(&house, &["Practitioner/visit"]).await;
    let path = format!("{FHIR}Condition/hiv");
    let read = async || asked(&house, (&visit, "TREAT"), &path).await;
    let hiv = json!({"resourceType": "Condition", "id": "hiv", "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "B20"}]}});
    put(&house, &hiv).await;
    let (status, shown) = read().await;
    assert_eq!(status, 200, "{shown}");
    let security = shown["meta"]["security"].clone();
    assert_eq!(security[0]["code"], "R", "{shown}");
    // Back as it was told, and by a client that drops extensions.
    put(&house, &shown).await;
    assert_eq!(read().await.0, 200);
    let mut dropped = shown.clone();
    for label in dropped["meta"]["security"].as_array_mut().expect("labels") {
        label.as_object_mut().expect("a label").remove("extension");
    }
    put(&house, &dropped).await;
    assert_eq!(read().await.0, 200);
    // The code is gone: what it stood for is kept, and no seal comes of it.
    let mut gone = shown.clone();
    gone["code"] = json!({"text": "infection"});
    put(&house, &gone).await;
    assert_eq!(read().await.0, 200);
    // Somebody marks it, beside what is told.
    let mut mark = shown.clone();
    let labels = mark["meta"]["security"].as_array_mut().expect("labels");
    labels.push(marked("R")[0].clone());
    put(&house, &mark).await;
    assert_eq!(read().await.0, 404);
    house.end().await;
}

/// Who marks a row has to be among those who see it; whoever merely attended has not written it.
#[tokio::test(flavor = "multi_thread")]
async fn who_seals_a_row_sees_it_afterwards() {
    let house = house_with(|options| "england".clone_into(&mut options.consent_rules)).await;
    record(&house).await;
    let visit = clinician(&house, &["Practitioner/visit"]).await;
    let of_p = json!({"reference": "Patient/p"});
    let by = json!({"reference": "Practitioner/visit"});
    let write = async |kind: &str, id: &str, members: Value| {
        let mut row = json!({"resourceType": kind, "id": id, "meta": {"security": marked("V")}});
        for (name, value) in members.as_object().expect("members") {
            row[name] = value.clone();
        }
        let path = format!("{FHIR}{kind}/{id}");
        let sent = house.bare(Method::PUT, &path).bearer_auth(&visit);
        let sent = sent
            .header("x-purpose-of-use", "TREAT")
            .header("content-type", "application/fhir+json")
            .body(row.to_string());
        let answer = sent.send().await.expect("an answer");
        let (status, body) = (answer.status().as_u16(), answer.text().await.expect("text"));
        (
            status,
            body,
            asked(&house, (&visit, "TREAT"), &path).await.0,
        )
    };
    for (kind, members) in [
        (
            "VisionPrescription",
            json!({"status": "active", "created": "2026-03-05", "patient": of_p, "encounter": {"display": "x"},
                "dateWritten": "2026-03-05", "prescriber": by,
                "lensSpecification": [{"product": {"text": "lens"}, "eye": "right"}]}),
        ),
        (
            "Media",
            json!({"status": "completed", "subject": of_p, "operator": by, "content": {"data": "eA=="}}),
        ),
        (
            "Specimen",
            json!({"subject": of_p, "collection": {"collector": by}}),
        ),
        (
            "Goal",
            json!({"lifecycleStatus": "active", "description": {"text": "x"}, "subject": of_p, "expressedBy": by}),
        ),
    ] {
        let (status, body, read) = write(kind, "own", members.clone()).await;
        assert_eq!((status, read), (201, 200), "{kind}: {body}");
        let mut without = members;
        for name in ["prescriber", "operator", "expressedBy", "collection"] {
            if without.get(name).is_some() {
                without[name] = json!({"display": "somebody"});
            }
        }
        if kind == "Specimen" {
            without["collection"] = json!({"collector": {"display": "somebody"}});
        }
        let (status, body, read) = write(kind, "other", without).await;
        assert_eq!((status, read), (422, 404), "{kind}: {body}");
        let outcome: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        assert!(body.contains("name yourself as who made it"), "{body}");
    }
    // Another system wrote of a visit; who attended it is not who made that.
    put(
        &house,
        &json!({"resourceType": "Encounter", "id": "visit", "status": "finished", "class": {"code": "AMB"},
            "meta": {"security": marked("V")}, "subject": of_p, "participant": [{"individual": by}]}),
    )
    .await;
    let (status, _) = asked(&house, (&visit, "TREAT"), &format!("{FHIR}Encounter/visit")).await;
    assert_eq!(status, 404);
    house.end().await;
}
