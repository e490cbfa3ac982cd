//! `Patient/$match`: who somebody may be, with how sure that is and why.

use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, assert_outcome, house, names, put, token};

const NATIONAL: &str = "https://fhir.nhs.uk/Id/nhs-number";

fn patient(id: &str, changes: &Value) -> Value {
    let mut patient = json!({
        "resourceType": "Patient", "id": id,
        "name": [{ "family": "Abernathy", "given": ["Catherine", "Rose"] }],
        "birthDate": "1974-03-12", "gender": "female",
        "address": [{ "line": ["14 Orchard Street"], "city": "Leeds", "postalCode": "LS1 4AP" }],
        "telecom": [{ "system": "phone", "value": "0113 496 0123" }],
        "identifier": [{ "system": NATIONAL, "value": "9000000009" }]
    });
    let members = patient.as_object_mut().expect("a patient");
    for (name, value) in changes.as_object().expect("changes") {
        members.insert(name.clone(), value.clone());
    }
    // An empty list is none in FHIR's JSON.
    members.retain(|_, value| *value != json!([]));
    patient
}

async fn people() -> House {
    let house = house().await;
    let other = json!([{ "system": NATIONAL, "value": "9434765919" }]);
    for (id, changes) in [
        ("one", json!({})),
        (
            "twin",
            json!({ "name": [{ "family": "Abernathy", "given": ["Margaret"] }], "identifier": other }),
        ),
        (
            "mother",
            json!({ "birthDate": "1946-08-30", "identifier": other }),
        ),
        (
            "stranger",
            json!({ "name": [{ "family": "Okonkwo", "given": ["Emma"] }], "telecom": [], "identifier": [],
            "address": [{ "line": ["2 Mill Road"], "postalCode": "EX4 4QJ" }] }),
        ),
    ] {
        put(&house, &patient(id, &changes)).await;
    }
    house
}

fn parameters(patient: &Value, more: &[Value]) -> Value {
    let mut list = vec![json!({ "name": "resource", "resource": patient })];
    list.extend(more.iter().cloned());
    json!({ "resourceType": "Parameters", "parameter": list })
}

async fn asked(house: &House, body: &Value) -> Value {
    let answer = house
        .sent(Method::POST, "/fhir/r4/Patient/$match", body)
        .send()
        .await;
    let answer = answer.expect("an answer");
    let status = answer.status();
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(status, 200, "{answer}");
    answer
}

fn grade(entry: &Value) -> &str {
    let extensions = entry["search"]["extension"].as_array().expect("extensions");
    let grade = extensions.iter().find(|extension| {
        extension["url"] == "http://hl7.org/fhir/StructureDefinition/match-grade"
    });
    grade.expect("a grade")["valueCode"]
        .as_str()
        .expect("a code")
}

/// Somebody with a slip in the name, called by a short one, who doesn't know their number.
fn misspelt() -> Value {
    let mut misspelt = patient(
        "x",
        &json!({
            "name": [{ "family": "Abernethy", "given": ["Kate"] }], "identifier": [], "address": []
        }),
    );
    misspelt.as_object_mut().expect("a patient").remove("id");
    misspelt
}

#[tokio::test]
async fn a_misspelt_name_finds_who_is_meant_and_says_why() {
    let house = people().await;
    let found = asked(&house, &parameters(&misspelt(), &[])).await;
    assert_eq!(
        (&found["type"], &found["link"][0]["relation"]),
        (&json!("searchset"), &json!("self"))
    );
    let entries = found["entry"].as_array().expect("entries");
    assert_eq!(
        entries.len() as u64,
        found["total"].as_u64().expect("a total")
    );
    let first = &entries[0];
    assert_eq!(first["resource"]["id"], "one");
    assert_eq!(first["fullUrl"], house.url("/fhir/r4/Patient/one"));
    assert_eq!(grade(first), "certain");
    let scores: Vec<f64> = entries
        .iter()
        .map(|entry| entry["search"]["score"].as_f64().expect("a score"))
        .collect();
    assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
    assert!(
        scores.iter().all(|score| (0.0..1.0).contains(score)),
        "{scores:?}"
    );
    assert!(!names(&found).contains("Patient/stranger"), "{found}");
    assert!(
        entries
            .iter()
            .skip(1)
            .all(|entry| grade(entry) != "certain"),
        "{found}"
    );
    let reasons = first["search"]["extension"].as_array().expect("extensions");
    let nickname = reasons
        .iter()
        .find(|reason| reason["extension"][1]["valueCode"] == "nickname");
    let nickname = &nickname.expect("a reason")["extension"];
    assert_eq!(nickname[0]["valueCode"], "given");
    assert_eq!(
        nickname[3]["valueString"],
        "One given name is a short form of the other."
    );

    let certain = [json!({ "name": "onlyCertainMatches", "valueBoolean": true })];
    let found = asked(&house, &parameters(&misspelt(), &certain)).await;
    assert_eq!(names(&found), ["Patient/one".to_owned()].into());
    // Two that are certain are none.
    put(&house, &patient("again", &json!({}))).await;
    let found = asked(&house, &parameters(&misspelt(), &certain)).await;
    assert_eq!(
        (found["total"].as_u64(), found.get("entry")),
        (Some(0), None)
    );
    let one = asked(
        &house,
        &parameters(
            &misspelt(),
            &[json!({ "name": "count", "valueInteger": 1 })],
        ),
    )
    .await;
    // One is shown, and it is said that there are two.
    assert_eq!(one["total"], 2);
    let entries = one["entry"].as_array().expect("entries");
    let modes: Vec<&str> = (entries.iter())
        .filter_map(|entry| entry["search"]["mode"].as_str())
        .collect();
    assert_eq!(modes, ["match", "outcome"]);
    house.end().await;
}

#[tokio::test]
async fn who_is_shown_is_in_the_audit_and_who_was_only_compared_is_not() {
    let house = people().await;
    let certain = [json!({ "name": "onlyCertainMatches", "valueBoolean": true })];
    asked(&house, &parameters(&misspelt(), &certain)).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    for (id, expected) in [("one", 1), ("twin", 0)] {
        let path = format!("/fhir/r4/AuditEvent?patient=Patient/{id}&subtype=search&_count=50");
        let seen = house
            .bare(Method::GET, &path)
            .bearer_auth(&officer)
            .header("x-purpose-of-use", "HOPERAT");
        let seen = seen.send().await.expect("an answer");
        let seen: Value = seen.json().await.expect("JSON");
        assert_eq!(
            seen["entry"].as_array().map_or(0, Vec::len),
            expected,
            "{id}: {seen}"
        );
    }
    house.end().await;
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_words() {
    let house = people().await;
    for (body, code) in [
        (json!({ "resourceType": "Patient" }), "invalid"),
        (json!({ "resourceType": "Parameters" }), "required"),
        (
            parameters(
                &json!({ "resourceType": "Observation", "status": "final", "code": { "text": "x" } }),
                &[],
            ),
            "required",
        ),
        (
            parameters(
                &json!({ "resourceType": "Patient", "gender": "female" }),
                &[],
            ),
            "required",
        ),
        (
            parameters(
                &misspelt(),
                &[json!({ "name": "count", "valueInteger": 101 })],
            ),
            "value",
        ),
        (
            parameters(
                &misspelt(),
                &[json!({ "name": "count", "valueInteger": 0 })],
            ),
            "value",
        ),
        (
            parameters(
                &misspelt(),
                &[json!({ "name": "onlyCertainMatches", "valueString": "true" })],
            ),
            "value",
        ),
        (
            parameters(
                &misspelt(),
                &[json!({ "name": "other", "valueString": "x" })],
            ),
            "not-supported",
        ),
    ] {
        let answer = house
            .sent(Method::POST, "/fhir/r4/Patient/$match", &body)
            .send()
            .await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 400, "{body}");
        let outcome: Value = answer.json().await.expect("JSON");
        assert_eq!(outcome["issue"][0]["code"], code, "{body}: {outcome}");
        assert!(!outcome.to_string().contains("Abernethy"), "{outcome}");
    }
    let body = parameters(&misspelt(), &[]);
    let elsewhere = house
        .sent(Method::POST, "/fhir/r4/Observation/$match", &body)
        .send()
        .await;
    assert_eq!(elsewhere.expect("an answer").status(), 404);
    let stranger = house
        .bare(Method::POST, "/fhir/r4/Patient/$match")
        .json(&body)
        .send()
        .await;
    assert_outcome(stranger.expect("an answer"), 401, "login").await;
    house.end().await;
}
