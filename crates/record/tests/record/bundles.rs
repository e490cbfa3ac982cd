//! Batch and transaction.
use std::collections::HashSet;

use fhir::ResourceType as T;
use record::{BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX, Caller};
use serde_json::{Value, json};

use crate::house::{BASE, House, client, json_of, minimal, observation, wrong};

fn post(full_url: &str, resource: Value) -> Value {
    json!({"fullUrl": full_url, "request": {"method": "POST", "url": resource["resourceType"]}, "resource": resource})
}

fn put(resource: Value) -> Value {
    let url = format!(
        "{}/{}",
        resource["resourceType"].as_str().unwrap(),
        resource["id"].as_str().unwrap()
    );
    json!({"fullUrl": format!("{BASE}/{url}"), "request": {"method": "PUT", "url": url}, "resource": resource})
}

fn statuses(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["response"]["status"].as_str().unwrap()[..3].to_owned())
        .collect()
}

/// `Type/id` of what an entry of the answer wrote.
fn target(bundle: &Value, place: usize) -> String {
    let location = bundle["entry"][place]["response"]["location"]
        .as_str()
        .unwrap();
    location.split("/_history").next().unwrap().to_owned()
}

fn id(bundle: &Value, place: usize) -> String {
    target(bundle, place).split('/').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_transaction_resolves_its_own_references() {
    let house = House::new().await;
    // The order is the wrong way round on purpose.
    let mut weight = observation("x", "29463-7");
    weight["subject"]["reference"] = json!("urn:uuid:11111111-0000-4000-8000-000000000001");
    weight["encounter"] = json!({"reference": "urn:uuid:11111111-0000-4000-8000-000000000002"});
    weight["extension"] = json!([{"url": "http://x.org/e", "valueUri": "urn:uuid:11111111-0000-4000-8000-000000000002"}]);
    let encounter = json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "IMP"},
                           "subject": {"reference": "urn:uuid:11111111-0000-4000-8000-000000000001"}});
    let answer = house
        .bundle(
            &minimal(),
            "transaction",
            vec![
                post("urn:uuid:11111111-0000-4000-8000-000000000003", weight),
                post("urn:uuid:11111111-0000-4000-8000-000000000002", encounter),
                post(
                    "urn:uuid:11111111-0000-4000-8000-000000000001",
                    json!({"resourceType": "Patient"}),
                ),
            ],
        )
        .await
        .unwrap();
    assert_eq!(answer["type"], "transaction-response");
    assert_eq!(statuses(&answer), ["201", "201", "201"]);
    assert!(
        answer["entry"]
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry.get("resource").is_none())
    );
    let weight = house.read(T::Observation, &id(&answer, 0)).await;
    assert_eq!(weight["subject"]["reference"], target(&answer, 2));
    assert_eq!(weight["encounter"]["reference"], target(&answer, 1));
    assert_eq!(weight["extension"][0]["valueUri"], target(&answer, 1));
    // What belongs to the patient lies in the patient's shard, which the ids say.
    let prefixes: HashSet<String> = (0..3)
        .map(|place| id(&answer, place)[..2].to_owned())
        .collect();
    assert_eq!(prefixes.len(), 1);
    // One cause, one commit, one moment.
    let times: HashSet<String> = answer["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["response"]["lastModified"].to_string())
        .collect();
    assert_eq!(times.len(), 1);
}

#[tokio::test]
async fn relative_references_follow_restful_full_urls() {
    let house = House::new().await;
    let answer = house
        .bundle(
            &client(),
            "transaction",
            vec![
                post(
                    "http://old.org/fhir/Patient/7",
                    json!({"resourceType": "Patient", "id": "7"}),
                ),
                post(
                    "http://old.org/fhir/Observation/8",
                    observation("7", "29463-7"),
                ),
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        answer["entry"][1]["resource"]["subject"]["reference"],
        target(&answer, 0)
    );
    assert_ne!(target(&answer, 0), "Patient/7");
}

#[tokio::test]
async fn a_transaction_goes_by_the_order_of_methods() {
    let house = House::new().await;
    let old = house.create(&json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:npi", "value": "1"}]})).await;
    let answer = house
        .bundle(
            &client(),
            "transaction",
            vec![
                json!({"request": {"method": "GET", "url": "Practitioner?identifier=urn:npi|2"}}),
                json!({"request": {"method": "GET", "url": format!("Practitioner/{old}")}}),
                put(json!({"resourceType": "Practitioner", "id": "chosen", "active": true})),
                post("urn:uuid:1", json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:npi", "value": "2"}]})),
                json!({"request": {"method": "DELETE", "url": format!("Practitioner/{old}")}}),
                json!({"request": {"method": "DELETE", "url": "Practitioner/never-there"}}),
                json!({"request": {"method": "GET", "url": "Practitioner/chosen/_history"}}),
                json!({"request": {"method": "GET", "url": "Practitioner/chosen/_history/1"}}),
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        statuses(&answer),
        ["200", "410", "201", "201", "204", "204", "200", "200"]
    );
    assert_eq!(
        answer["entry"][0]["resource"]["entry"][0]["resource"]["id"],
        id(&answer, 3)
    );
    assert_eq!(
        answer["entry"][1]["response"]["outcome"]["issue"][0]["code"],
        "deleted"
    );
    assert_eq!(answer["entry"][6]["resource"]["type"], "history");
    assert_eq!(answer["entry"][7]["resource"]["active"], true);
    assert_eq!(
        fhir::validate::check(&fhir::Resource::from_value(answer).unwrap()),
        []
    );
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test]
async fn all_of_a_transaction_or_nothing() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let fine = || {
        post(
            "urn:uuid:1",
            json!({"resourceType": "Patient", "active": true}),
        )
    };
    let with = |mut entry: Value, name: &str, value: Value| {
        entry["request"][name] = value;
        entry
    };
    let berg = json!({"resourceType": "Patient", "id": patient});
    let mut to_none = observation("x", "1");
    to_none["subject"]["reference"] = json!("Patient?identifier=urn:mrn|nobody");
    let mut bad_reference = observation("x", "1");
    bad_reference["subject"]["reference"] = json!("Patient?colour=red");
    for (entry, status, code) in [
        (
            post("urn:uuid:2", json!({"resourceType": "Observation"})),
            422,
            "required",
        ),
        (
            with(put(berg.clone()), "ifMatch", json!("W/\"7\"")),
            412,
            "conflict",
        ),
        (
            json!({"request": {"method": "DELETE", "url": format!("Patient/{patient}"), "ifMatch": "W/\"7\""}}),
            412,
            "conflict",
        ),
        (post("urn:uuid:2", to_none), 412, "not-found"),
        (post("urn:uuid:2", bad_reference), 400, "not-supported"),
        (
            json!({"request": {"method": "PUT", "url": "Patient?identifier=a|b"}, "resource": {"resourceType": "Patient"}}),
            422,
            "business-rule",
        ),
        (
            json!({"request": {"method": "DELETE", "url": "Patient?identifer=a|b"}}),
            400,
            "not-supported",
        ),
        (
            json!({"request": {"method": "PATCH", "url": "Patient/1"}}),
            400,
            "required",
        ),
        (
            json!({"request": {"method": "POST", "url": "Patient"}}),
            400,
            "required",
        ),
        (
            json!({"resource": {"resourceType": "Patient"}}),
            400,
            "required",
        ),
        (
            json!({"request": {"method": "POST", "url": "Pet"}, "resource": {"resourceType": "Patient"}}),
            400,
            "not-supported",
        ),
        (
            json!({"request": {"method": "POST", "url": "Group"}, "resource": {"resourceType": "Patient"}}),
            400,
            "invalid",
        ),
        (
            json!({"request": {"method": "POST", "url": "AuditEvent"}, "resource": {"resourceType": "AuditEvent"}}),
            405,
            "not-supported",
        ),
        (
            with(
                post("urn:uuid:2", json!({"resourceType": "Patient"})),
                "ifMatch",
                json!("W/\"1\""),
            ),
            400,
            "invalid",
        ),
        (
            with(
                post("urn:uuid:2", json!({"resourceType": "Patient"})),
                "ifNoneExist",
                json!("colour=red"),
            ),
            400,
            "not-supported",
        ),
        (
            with(put(berg.clone()), "ifNoneMatch", json!("*")),
            400,
            "not-supported",
        ),
        (
            post("urn:uuid:1", json!({"resourceType": "Patient"})),
            400,
            "duplicate",
        ),
        (json!(7), 400, "structure"),
    ] {
        let result = house
            .bundle(&client(), "transaction", vec![fine(), entry.clone()])
            .await;
        let places = result.as_ref().err().map(|error| {
            error.outcome.issues[0]
                .expression
                .clone()
                .unwrap_or_default()
        });
        assert_eq!(wrong(result), (status, code.to_owned()), "{entry}");
        assert!(
            places.is_some_and(|place| place.starts_with("Bundle.entry[1]")),
            "{entry}"
        );
    }
    let twice = vec![
        put(berg.clone()),
        json!({"request": {"method": "DELETE", "url": format!("Patient/{patient}")}}),
    ];
    assert_eq!(
        wrong(house.bundle(&client(), "transaction", twice).await),
        (400, "duplicate".to_owned())
    );
    assert_eq!(house.count(T::Patient).await, 1);
    assert_eq!(
        house.read(T::Patient, &patient).await["meta"]["versionId"],
        "1"
    );
    // All that is wrong is told at once.
    let many = vec![json!(7), json!({}), fine()];
    assert_eq!(
        house
            .bundle(&client(), "transaction", many)
            .await
            .unwrap_err()
            .outcome
            .issues
            .len(),
        2
    );
}

#[tokio::test]
async fn conditional_references_mean_one_resource() {
    let house = House::new().await;
    let npi = |value: &str| json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:npi", "value": value}]});
    let there = house.create(&npi("1")).await;
    let patient = house.patient("Berg").await;
    let refer = |value: &str| {
        let mut observation = observation(&patient, "29463-7");
        observation["performer"] =
            json!([{"reference": format!("Practitioner?identifier=urn:npi|{value}")}]);
        post("urn:uuid:o", observation)
    };
    let answer = house
        .bundle(&client(), "transaction", vec![refer("1")])
        .await
        .unwrap();
    assert_eq!(
        answer["entry"][0]["resource"]["performer"][0]["reference"],
        format!("Practitioner/{there}")
    );
    // What the transaction itself makes counts too.
    let answer = house
        .bundle(
            &client(),
            "transaction",
            vec![refer("2"), post("urn:uuid:p", npi("2"))],
        )
        .await
        .unwrap();
    assert_eq!(
        answer["entry"][0]["resource"]["performer"][0]["reference"],
        target(&answer, 1)
    );
    // A conditional create that finds the same.
    let mut same = post("urn:uuid:p", npi("1"));
    same["request"]["ifNoneExist"] = json!("identifier=urn:npi|1");
    let answer = house
        .bundle(&client(), "transaction", vec![refer("1"), same])
        .await
        .unwrap();
    assert_eq!(statuses(&answer), ["201", "200"]);
    assert_eq!(
        answer["entry"][0]["resource"]["performer"][0]["reference"],
        format!("Practitioner/{there}")
    );
    // Several.
    house.create(&npi("1")).await;
    assert_eq!(
        wrong(
            house
                .bundle(&client(), "transaction", vec![refer("1")])
                .await
        ),
        (412, "multiple-matches".to_owned())
    );
}

#[tokio::test]
async fn a_patient_by_conditional_reference_owns_what_refers() {
    let house = House::new().await;
    let patient = house.create(&json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "1"}]})).await;
    let mut weight = observation("x", "29463-7");
    weight["subject"]["reference"] = json!("Patient?identifier=urn:mrn|1");
    let answer = house
        .bundle(&client(), "transaction", vec![post("urn:uuid:o", weight)])
        .await
        .unwrap();
    assert_eq!(
        answer["entry"][0]["resource"]["subject"]["reference"],
        format!("Patient/{patient}")
    );
    assert_eq!(id(&answer, 0)[..2], patient[..2]);
}

#[tokio::test]
async fn if_none_exist_in_a_transaction() {
    let house = House::new().await;
    let entry = |full_url: &str| {
        let organization = json!({"resourceType": "Organization", "name": "Ward", "identifier": [{"system": "urn:org", "value": "1"}]});
        let mut entry = post(full_url, organization);
        entry["request"]["ifNoneExist"] = json!("identifier=urn:org|1");
        entry
    };
    let role = |full_url: &str| {
        post(
            "urn:uuid:r",
            json!({"resourceType": "PractitionerRole", "organization": {"reference": full_url}}),
        )
    };
    let first = house
        .bundle(
            &client(),
            "transaction",
            vec![entry("urn:uuid:a"), entry("urn:uuid:b"), role("urn:uuid:b")],
        )
        .await
        .unwrap();
    assert_eq!(statuses(&first), ["201", "200", "201"]);
    assert_eq!(target(&first, 0), target(&first, 1));
    assert_eq!(
        first["entry"][2]["resource"]["organization"]["reference"],
        target(&first, 0)
    );
    let second = house
        .bundle(
            &client(),
            "transaction",
            vec![entry("urn:uuid:a"), role("urn:uuid:a")],
        )
        .await
        .unwrap();
    assert_eq!(statuses(&second), ["200", "201"]);
    assert_eq!(
        second["entry"][1]["resource"]["organization"]["reference"],
        target(&first, 0)
    );
    assert_eq!(house.count(T::Organization).await, 1);
}

#[tokio::test]
async fn what_its_criteria_would_not_find_stops_a_transaction() {
    let house = House::new().await;
    let organization = json!({"resourceType": "Organization", "identifier": [{"system": "urn:org", "value": "2"}]});
    let mut entry = post("urn:uuid:a", organization);
    entry["request"]["ifNoneExist"] = json!("identifier=urn:org|1");
    let answer = house.bundle(&client(), "transaction", vec![entry]).await;
    assert_eq!(wrong(answer), (422, "business-rule".to_owned()));
    assert_eq!(house.count(T::Organization).await, 0);
}

#[tokio::test]
async fn conditional_creates_in_transactions_at_once_make_one_resource() {
    let house = House::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let record = house.record.clone();
        tasks.spawn(async move {
            let patient = json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "1"}]});
            let mut first = post("urn:uuid:p", patient);
            first["request"]["ifNoneExist"] = json!("identifier=urn:mrn|1");
            let mut weight = observation("x", "29463-7");
            weight["subject"]["reference"] = json!("urn:uuid:p");
            let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [first, post("urn:uuid:o", weight)]});
            let answer = json_of(&record.bundle(&client(), bundle.to_string().as_bytes()).await.unwrap());
            (statuses(&answer)[0].clone(), target(&answer, 0), answer["entry"][1]["resource"]["subject"]["reference"].clone())
        });
    }
    let done = tasks.join_all().await;
    assert_eq!(
        done.iter().filter(|(status, ..)| status == "201").count(),
        1
    );
    assert!(
        done.iter()
            .all(|(_, patient, subject)| subject == patient.as_str())
    );
    assert_eq!(house.count(T::Patient).await, 1);
    assert_eq!(house.count(T::Observation).await, 32);
}

#[tokio::test]
async fn a_batch_does_each_entry_for_itself() {
    let house = House::new().await;
    let old = house.patient("Berg").await;
    let mut depends = observation("x", "1");
    depends["subject"]["reference"] = json!("urn:uuid:1");
    let answer = house
        .bundle(
            &client(),
            "batch",
            vec![
                json!({"request": {"method": "GET", "url": "Patient/chosen"}}),
                post("urn:uuid:1", json!({"resourceType": "Patient"})),
                put(json!({"resourceType": "Patient", "id": "chosen"})),
                json!({"request": {"method": "DELETE", "url": format!("Patient/{old}")}}),
                post("urn:uuid:2", json!({"resourceType": "Observation"})),
                post("urn:uuid:3", depends),
                json!({"request": {"method": "GET", "url": "Patient/unknown"}}),
                json!({"request": {"method": "GET", "url": "Patient?colour=red"}}),
                json!({}),
                json!({"request": {"method": "GET", "url": format!("{BASE}/Patient")}}),
            ],
        )
        .await
        .unwrap();
    assert_eq!(answer["type"], "batch-response");
    assert_eq!(
        statuses(&answer),
        [
            "200", "201", "201", "204", "422", "400", "404", "400", "400", "200"
        ]
    );
    assert_eq!(
        answer["entry"][4]["response"]["outcome"]["issue"][0]["code"],
        "required"
    );
    assert_eq!(
        answer["entry"][9]["resource"]["entry"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn bundles_have_limits() {
    let house = House::new().await;
    let large = vec![b' '; BUNDLE_BYTES_MAX + 1];
    assert_eq!(
        wrong(house.record.bundle(&client(), &large).await),
        (413, "too-long".to_owned())
    );
    let many =
        vec![json!({"request": {"method": "GET", "url": "Patient"}}); BUNDLE_ENTRIES_MAX + 1];
    assert_eq!(
        wrong(house.bundle(&client(), "batch", many).await),
        (413, "too-long".to_owned())
    );
    for kind in ["collection", "history", "x"] {
        assert_eq!(
            wrong(house.bundle(&client(), kind, vec![]).await),
            (400, "invalid".to_owned())
        );
    }
    assert_eq!(
        wrong(
            house
                .record
                .bundle(&client(), b"{\"resourceType\":\"Patient\"}")
                .await
        )
        .0,
        400
    );
    assert_eq!(
        wrong(
            house
                .record
                .bundle(&client(), b"{\"resourceType\":\"Bundle\"}")
                .await
        )
        .0,
        400
    );
    let empty = house
        .bundle(&client(), "transaction", vec![])
        .await
        .unwrap();
    assert_eq!(
        empty,
        json!({"resourceType": "Bundle", "type": "transaction-response"})
    );
}

#[tokio::test]
async fn prefer_return_in_bundles() {
    let house = House::new().await;
    let outcome = Caller {
        prefer_return: record::PreferReturn::OperationOutcome,
        ..client()
    };
    let answer = house
        .bundle(
            &outcome,
            "transaction",
            vec![post("urn:uuid:1", json!({"resourceType": "Patient"}))],
        )
        .await
        .unwrap();
    assert_eq!(
        answer["entry"][0]["response"]["outcome"]["resourceType"],
        "OperationOutcome"
    );
    assert!(answer["entry"][0].get("resource").is_none());
}
