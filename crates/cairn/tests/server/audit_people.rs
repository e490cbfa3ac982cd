//! The audit as people and their systems look at it: events over HTTP in the patterns of IHE BALP, found
//! at once by what is asked of them.

use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use crate::balp;
use crate::house::{House, house, token};

const FHIR: &str = "/fhir/r4/";

/// The audit events that a search of a privacy officer finds.
async fn found(house: &House, officer: &str, query: &str) -> Vec<Value> {
    let path = format!("{FHIR}AuditEvent?{query}");
    let answer = house
        .bare(Method::GET, &path)
        .bearer_auth(officer)
        .header("x-purpose-of-use", "HOPERAT")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "{query}");
    let bundle: Value = answer.json().await.expect("JSON");
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| entry["resource"].clone())
        .collect()
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    (
        response.status().as_u16(),
        response.json().await.unwrap_or_default(),
    )
}

// Proves: 45 CFR 164.312(b), 164.308(a)(1)(ii)(D)
#[tokio::test]
async fn every_interaction_is_in_the_audit_at_once_in_its_pattern() {
    let house = house().await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let patient = json!({"resourceType": "Patient", "name": [{"family": "Berg"}]});
    let (status, made) =
        answer(house.sent(Method::POST, &format!("{FHIR}Patient"), &patient)).await;
    assert_eq!(status, 201);
    let id = made["id"].as_str().expect("an id").to_owned();
    let observation = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{id}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    });
    let (status, made) =
        answer(house.sent(Method::POST, &format!("{FHIR}Observation"), &observation)).await;
    assert_eq!(status, 201);
    let row = format!("Observation/{}", made["id"].as_str().expect("an id"));
    let mut changed = made.clone();
    changed["status"] = "amended".into();

    let get = |path: &str| house.asked(Method::GET, &format!("{FHIR}{path}"));
    let about_row = format!("entity={row}");
    let about_patient = format!("patient={id}");
    let transaction = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": observation, "request": {"method": "POST", "url": "Observation"}},
        {"resource": observation, "request": {"method": "POST", "url": "Observation"}},
    ]});
    // What is done, what comes of it, what it is found by at once, and its pattern.
    let acts = [
        (
            get(&row),
            200,
            format!("{about_row}&subtype=read&action=R"),
            Some("read"),
        ),
        (
            get(&format!("{row}/_history/1")),
            200,
            format!("{about_row}&subtype=vread"),
            Some("read"),
        ),
        (
            get(&format!("{row}/_history")),
            200,
            format!("{about_row}&subtype=history-instance"),
            None,
        ),
        (
            get(&format!("Patient/{id}")),
            200,
            format!("{about_patient}&subtype=read&entity=Patient/{id}"),
            Some("read"),
        ),
        (
            get(&format!("Observation?patient={id}")),
            200,
            format!("{about_patient}&subtype=search-type&subtype=search"),
            Some("search"),
        ),
        (
            get("Observation/none"),
            404,
            "entity=Observation/none&outcome=4".to_owned(),
            Some("read"),
        ),
        (
            house.sent(Method::PUT, &format!("{FHIR}{row}"), &changed),
            200,
            format!("{about_row}&action=U"),
            Some("update"),
        ),
        (
            house.asked(Method::DELETE, &format!("{FHIR}{row}")),
            204,
            format!("{about_row}&action=D&date=ge2026-03-01"),
            Some("delete"),
        ),
        (
            house.sent(Method::POST, FHIR.trim_end_matches('/'), &transaction),
            200,
            format!("{about_patient}&subtype=transaction"),
            None,
        ),
    ];
    for (act, status, query, pattern) in acts {
        let before = found(&house, &officer, &query).await.len();
        let (said, body) = answer(act).await;
        assert_eq!(said, status, "{query}: {body}");
        // Nobody waits: what was answered is in the audit, and found.
        let events = found(&house, &officer, &query).await;
        assert_eq!(events.len(), before + 1, "{query}");
        assert_eq!(
            balp::pattern(&events[0]),
            pattern,
            "{query}: {:#}",
            events[0]
        );
    }
    let created = found(&house, &officer, &format!("{about_patient}&action=C")).await;
    assert_eq!(created.len(), 2, "the patient and the observation");
    let altid = created[0]["agent"][0]["altId"]
        .as_str()
        .expect("an id")
        .to_owned();
    for (query, any) in [
        (format!("{about_patient}&altid={altid}"), true),
        (
            format!("{about_patient}&agent-role=client&agent-name=test"),
            true,
        ),
        (format!("{about_patient}&agent-role=clinician"), false),
        (format!("{about_patient}&date=2026-03-01"), true),
        (format!("{about_patient}&date=lt2026-03-01"), false),
    ] {
        assert_eq!(
            !found(&house, &officer, &query).await.is_empty(),
            any,
            "{query}"
        );
    }

    // All that there is, refusals and what the server did by itself included.
    let (status, _) = answer(
        house
            .bare(Method::GET, &format!("{FHIR}{row}"))
            .bearer_auth("nonsense"),
    )
    .await;
    assert_eq!(status, 401);
    let (status, _) = answer(
        house
            .bare(Method::GET, &format!("{FHIR}{row}"))
            .bearer_auth(&officer),
    )
    .await;
    assert_eq!(status, 403);
    let all = found(&house, &officer, "_count=1000").await;
    assert!(all.len() > 20, "{}", all.len());
    let mut over_the_network = 0;
    for event in &all {
        assert_eq!(balp::faults(event), Vec::<String>::new(), "{event:#}");
        let comes_from = event["entity"]
            .to_string()
            .contains(r#"{"type":"client-address","valueString":"127.0.0.1"}"#);
        over_the_network += usize::from(comes_from);
        let ends = event["agent"].as_array().expect("agents").len();
        assert_eq!(ends, 2 + usize::from(comes_from), "{event:#}");
        assert!(
            !event["agent"].to_string().contains("127.0.0.1"),
            "{event:#}"
        );
    }
    assert!(over_the_network > 15, "{over_the_network}");
    house.end().await;
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn each_row_of_a_large_answer_is_in_the_audit() {
    let house = house().await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let rows = 1000;
    let mut entries = vec![json!({
        "resource": {"resourceType": "Patient", "id": "p", "name": [{"family": "Berg"}]},
        "request": {"method": "PUT", "url": "Patient/p"},
    })];
    entries.extend((0..rows).map(|number| {
        json!({
            "resource": {"resourceType": "Observation", "id": format!("o{number}"), "status": "final",
                "subject": {"reference": "Patient/p"}, "code": {"text": "x"}},
            "request": {"method": "PUT", "url": format!("Observation/o{number}")},
        })
    }));
    for some in entries.chunks(200) {
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": some});
        let (status, said) =
            answer(house.sent(Method::POST, FHIR.trim_end_matches('/'), &bundle)).await;
        assert_eq!(status, 200, "{said}");
    }
    let (status, page) = answer(house.asked(
        Method::GET,
        &format!("{FHIR}Observation?patient=p&_count={rows}"),
    ))
    .await;
    assert_eq!(status, 200);
    let shown = page["entry"].as_array().expect("rows");
    assert_eq!(shown.len(), rows);
    let ids = shown.iter().map(|entry| entry["resource"]["id"].as_str());
    for id in [
        ids.clone().next(),
        ids.clone().nth(500),
        ids.clone().next_back(),
    ] {
        let row = format!("Observation/{}", id.flatten().expect("an id"));
        let events = found(
            &house,
            &officer,
            &format!("entity={row}&subtype=search-type"),
        )
        .await;
        let [event] = events.as_slice() else {
            panic!("{row}: {} events", events.len());
        };
        let entities = event["entity"].as_array().expect("entities");
        let listed = entities.iter().filter(|one| {
            let what = one["what"]["reference"].as_str();
            what.is_some_and(|what| what.starts_with("Observation/"))
        });
        assert_eq!(listed.count(), rows);
    }
}
