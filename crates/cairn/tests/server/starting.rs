//! `Patient/ID/$start-journey`: who may, what it answers, and what it says where nothing is started.

use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, assert_outcome, house, house_with, known_as, put, token};

const JOURNEY: &str = "name: after-surgery
title: After surgery
owner: Surgical team
purpose: TREAT
at_most: 60d
entry:
  request: {by: [system, clinician], asks: {surgery: Day of the operation}}
  per: event
  while_running: beside
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: call
steps:
  call:
    title: Call the patient
    task: {title: Call, reason: Surgery, role: coordinator, due: 1d}
    next: end
    overdue: end
";

fn parameters(pairs: &[(&str, &str)]) -> Value {
    let parameters: Vec<Value> = pairs
        .iter()
        .map(|(name, value)| json!({"name": name, "valueString": value}))
        .collect();
    json!({"resourceType": "Parameters", "parameter": parameters})
}

/// How a request of somebody else's comes out.
async fn by(house: &House, token: &str, body: &Value) -> u16 {
    let path = "/fhir/r4/Patient/p/$start-journey";
    let sent = house.bare(Method::POST, path).bearer_auth(token);
    let sent = sent.header("content-type", "application/fhir+json");
    let sent = sent.body(body.to_string()).send().await;
    sent.expect("an answer").status().as_u16()
}

async fn publish(house: &House) {
    let squad = token(&house.server, Role::Squad).await;
    let asked = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let published = asked.body(JOURNEY).send().await.expect("an answer");
    assert_eq!(published.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_starts_a_journey_by_request() {
    let house = house().await;
    publish(&house).await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(
        &house,
        &json!({"resourceType": "Patient", "id": "dead", "deceasedBoolean": true}),
    )
    .await;
    let good = [
        ("journey", "after-surgery"),
        ("key", "k-1"),
        ("reason", "Hip replaced"),
        ("surgery", "2026-03-01"),
    ];
    let send = async |patient: &str, pairs: &[(&str, &str)], purpose: &str| {
        let path = format!("/fhir/r4/Patient/{patient}/$start-journey");
        let sent = house.sent(Method::POST, &path, &parameters(pairs));
        let sent = sent.header("x-purpose-of-use", purpose).send().await;
        sent.expect("an answer")
    };
    let mut instances = Vec::new();
    for started in [true, false] {
        let answer = send("p", &good, "TREAT").await;
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.expect("JSON");
        let of = |name: &str| {
            let all = answer["parameter"].as_array().expect("parameters");
            let one = all.iter().find(|one| one["name"] == name);
            one.expect("there").clone()
        };
        assert_eq!(of("started")["valueBoolean"], started, "{answer}");
        assert_eq!(of("running")["valueBoolean"], true, "{answer}");
        instances.push(of("instance")["valueString"].clone());
    }
    assert_eq!(instances[0], instances[1]);
    let tasks = house.asked(Method::GET, "/fhir/r4/Task?patient=Patient/p");
    let tasks = tasks.send().await.expect("an answer");
    let tasks: Value = tasks.json().await.expect("JSON");
    assert_eq!(tasks["total"], 1, "{tasks}");

    let with = |name: &'static str, value: &'static str| {
        let mut pairs = good.to_vec();
        pairs.retain(|(other, _)| *other != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
        pairs
    };
    for (patient, pairs, purpose, status, code) in [
        ("p", with("journey", "none"), "TREAT", 404, "not-found"),
        ("nobody", good.to_vec(), "TREAT", 404, "not-found"),
        ("dead", good.to_vec(), "TREAT", 422, "business-rule"),
        ("p", with("surgery", "2026-03-02"), "TREAT", 409, "conflict"),
        ("p", with("surgery", "soon"), "TREAT", 400, "value"),
        ("p", with("key", ""), "TREAT", 400, "required"),
        (
            "p",
            good.iter().chain(&good[..1]).copied().collect(),
            "TREAT",
            400,
            "value",
        ),
        ("p", good.to_vec(), "HPAYMT", 403, "forbidden"),
    ] {
        let answer = send(patient, &pairs, purpose).await;
        assert_outcome(answer, status, code).await;
    }
    // The journey says who may: a coordinator may create tasks, and is none of those.
    let coordinator = token(&house.server, Role::Coordinator).await;
    assert_eq!(by(&house, &coordinator, &parameters(&good)).await, 403);
    let sent = house.sent(
        Method::POST,
        "/fhir/r4/Group/p/$start-journey",
        &parameters(&good),
    );
    assert_eq!(sent.send().await.expect("an answer").status(), 404);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_care_for_a_patient_starts_nothing() {
    let house = house_with(|options| "england".clone_into(&mut options.consent_rules)).await;
    publish(&house).await;
    let of_p = json!({"reference": "Patient/p"});
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(
        &house,
        &json!({"resourceType": "CareTeam", "id": "t", "status": "active", "subject": of_p,
            "participant": [{"member": {"reference": "Practitioner/team"}}]}),
    )
    .await;
    let body = parameters(&[
        ("journey", "after-surgery"),
        ("key", "k-1"),
        ("reason", "Hip replaced"),
        ("surgery", "2026-03-01"),
    ]);
    for (name, status) in [("Practitioner/stranger", 403), ("Practitioner/team", 200)] {
        let token = token(&house.server, Role::Clinician).await;
        known_as(&house, &token, &[name]).await;
        assert_eq!(by(&house, &token, &body).await, status, "{name}");
    }
    house.end().await;
}
