//! Patches, alone and in bundles.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::ResourceType as T;
use record::{Answer, Caller, PatchForm, Preconditions, RecordError};
use serde_json::{Value, json};

use crate::house::{House, client, json_of, minimal, observation, wrong};
use crate::privacy::{deny, looks_at};

const NOTHING: Preconditions<'static> = Preconditions {
    if_match: None,
    if_none_match: None,
    if_unmodified_since_s: None,
};

async fn patch(
    house: &House,
    caller: &Caller,
    (kind, id): (T, &str),
    patch: Value,
) -> Result<Answer, RecordError> {
    let body = patch.to_string();
    let form = if patch.is_array() {
        PatchForm::Json
    } else {
        PatchForm::Parameters
    };
    house
        .record
        .patch(caller, kind, id, NOTHING, form, body.as_bytes())
        .await
}

/// A FHIRPath patch of one operation.
fn by_path(parts: Vec<Value>) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]})
}

fn as_binary(patch: &Value) -> Value {
    json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": STANDARD.encode(patch.to_string())})
}

#[tokio::test]
async fn a_patch_makes_the_next_version() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let weight: Value = serde_json::from_str(&format!(
        r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"subject":{{"reference":"Patient/{patient}"}},"valueQuantity":{{"value":71.50,"unit":"kg"}}}}"#
    ))
    .unwrap();
    let id = house.create(&weight).await;
    let on = (T::Observation, id.as_str());
    let change = json!([{"op": "test", "path": "/status", "value": "final"}, {"op": "replace", "path": "/status", "value": "amended"}]);
    let answer = patch(&house, &client(), on, change).await.unwrap();
    assert_eq!((answer.status, answer.version), (200, Some(2)));
    assert_eq!(
        answer.location,
        Some(format!("Observation/{id}/_history/2"))
    );
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(text.contains("\"value\":71.50"), "{text}");
    assert!(text.contains("\"status\":\"amended\""), "{text}");
    assert_eq!(json_of(&answer), house.read(T::Observation, &id).await);

    let replace = by_path(vec![
        json!({"name": "type", "valueCode": "replace"}),
        json!({"name": "path", "valueString": "Observation.value"}),
        json!({"name": "value", "valueString": "too heavy"}),
    ]);
    let answer = patch(&house, &minimal(), on, replace).await.unwrap();
    assert_eq!((answer.version, answer.body.len()), (Some(3), 0));
    let after = house.read(T::Observation, &id).await;
    assert_eq!(after["valueString"], "too heavy");
    assert_eq!(after.get("valueQuantity"), None);
    // What is found by search is what the patch made.
    let found = house.find(T::Observation, "status=amended").await;
    assert_eq!(found["total"], 1);
}

#[tokio::test]
async fn what_a_patch_can_not_do_is_said() {
    let house = House::new().await;
    let (patient, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let id = house.create(&observation(&patient, "1-8")).await;
    let gone = house.create(&observation(&patient, "1-8")).await;
    house
        .record
        .delete(&client(), T::Observation, &gone, None)
        .await
        .unwrap();
    let replace =
        |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    let table = [
        (
            id.as_str(),
            json!([{"op": "test", "path": "/status", "value": "x"}]),
            422,
            "business-rule",
        ),
        (
            &id,
            json!([{"op": "remove", "path": "/note"}]),
            422,
            "not-found",
        ),
        (&id, json!([{"op": "remove", "path": "note"}]), 400, "value"),
        (&id, json!({"resourceType": "Patient"}), 400, "invalid"),
        (
            &id,
            replace("/status", json!("nonsense")),
            422,
            "code-invalid",
        ),
        (
            &id,
            json!([{"op": "remove", "path": "/status"}]),
            422,
            "required",
        ),
        (
            &id,
            json!([{"op": "remove", "path": "/id"}]),
            422,
            "invalid",
        ),
        (&id, replace("/id", json!("other")), 422, "invalid"),
        (
            &id,
            replace("/resourceType", json!("Basic")),
            422,
            "business-rule",
        ),
        (
            &id,
            replace("/subject/reference", json!(format!("Patient/{other}"))),
            422,
            "business-rule",
        ),
        (
            &id,
            replace("/subject/reference", json!("Patient?name=x")),
            400,
            "not-supported",
        ),
        ("nowhere", json!([]), 404, "not-found"),
        (&gone, json!([]), 410, "deleted"),
    ];
    for (on, change, status, code) in table {
        let result = patch(&house, &client(), (T::Observation, on), change.clone()).await;
        assert_eq!(wrong(result), (status, code.to_owned()), "{change}");
    }
    let before = house.read(T::Observation, &id).await;
    assert_eq!(before["meta"]["versionId"], "1");
    let stale = Preconditions {
        if_match: Some("W/\"2\""),
        ..NOTHING
    };
    let change = json!([{"op": "add", "path": "/language", "value": "en"}]).to_string();
    let form = PatchForm::Json;
    let result = house
        .record
        .patch(
            &client(),
            T::Observation,
            &id,
            stale,
            form,
            change.as_bytes(),
        )
        .await;
    assert_eq!(wrong(result), (412, "conflict".to_owned()));
    let right = Preconditions {
        if_match: Some("W/\"1\""),
        ..NOTHING
    };
    let answer = house
        .record
        .patch(
            &client(),
            T::Observation,
            &id,
            right,
            form,
            change.as_bytes(),
        )
        .await;
    assert_eq!(answer.unwrap().version, Some(2));
    let result = patch(&house, &client(), (T::AuditEvent, "x"), json!([])).await;
    assert_eq!(wrong(result), (405, "not-supported".to_owned()));
}

#[tokio::test]
async fn patches_at_once_are_all_done() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let one = async |number: usize| {
        let change =
            json!([{"op": "add", "path": "/name/-", "value": {"family": format!("F{number}")}}]);
        patch(&house, &minimal(), (T::Patient, &id), change).await
    };
    let (a, b, c, d, e, f) = tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6));
    for answer in [a, b, c, d, e, f] {
        assert_eq!(answer.unwrap().status, 200);
    }
    let after = house.read(T::Patient, &id).await;
    assert_eq!(after["meta"]["versionId"], "7");
    assert_eq!(after["name"].as_array().unwrap().len(), 7);
}

// Proves: 45 CFR 164.522(a)(1)(iii)
#[tokio::test]
async fn a_patch_asks_no_questions_of_what_consent_hides() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let id = house.create(&observation(&patient, "75622-1")).await;
    let on = (T::Observation, id.as_str());
    let test = json!([{"op": "test", "path": "/code/coding/0/code", "value": "x"}]);
    let before = looks_at(&house, &patient).await.len();
    let result = patch(&house, &client(), on, test.clone()).await;
    assert_eq!(wrong(result).0, 422);
    // The question was answered, so there is a trace of it.
    assert_eq!(looks_at(&house, &patient).await.len(), before + 1);
    deny(&house, &patient).await;
    let nothing = json!([]);
    for (change, in_bundle) in [
        (&test, false),
        (&nothing, false),
        (&test, true),
        (&nothing, true),
    ] {
        let before = looks_at(&house, &patient).await.len();
        let result = if in_bundle {
            let entry = json!({"request": {"method": "PATCH", "url": format!("Observation/{id}")}, "resource": as_binary(change)});
            house
                .bundle(&client(), "transaction", vec![entry])
                .await
                .map(drop)
        } else {
            patch(&house, &client(), on, change.clone()).await.map(drop)
        };
        assert_eq!(wrong(result), (404, "not-found".to_owned()));
        // The look, and what the consent decided.
        assert_eq!(looks_at(&house, &patient).await.len(), before + 2);
    }
}

#[tokio::test]
async fn bundles_have_patches() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let id = house.create(&observation(&patient, "1-8")).await;
    let entry = |resource: Value| json!({"request": {"method": "PATCH", "url": format!("Observation/{id}")}, "resource": resource});
    let performer = by_path(vec![
        json!({"name": "type", "valueCode": "add"}),
        json!({"name": "path", "valueString": "Observation"}),
        json!({"name": "name", "valueString": "performer"}),
        json!({"name": "value", "valueReference": {"reference": "urn:uuid:7c1a2b8e-0000-4000-8000-000000000001"}}),
    ]);
    let practitioner = json!({"fullUrl": "urn:uuid:7c1a2b8e-0000-4000-8000-000000000001",
        "resource": {"resourceType": "Practitioner", "active": true}, "request": {"method": "POST", "url": "Practitioner"}});
    let answer = house
        .bundle(
            &client(),
            "transaction",
            vec![entry(performer), practitioner],
        )
        .await
        .unwrap();
    assert_eq!(answer["entry"][0]["response"]["status"], "200 OK");
    let after = house.read(T::Observation, &id).await;
    let made = answer["entry"][1]["resource"]["id"].as_str().unwrap();
    assert_eq!(
        after["performer"][0]["reference"],
        format!("Practitioner/{made}")
    );

    // A failed test fails the whole transaction.
    let failing = as_binary(&json!([{"op": "test", "path": "/status", "value": "x"}]));
    let create = json!({"resource": {"resourceType": "Basic", "code": {"text": "x"}}, "request": {"method": "POST", "url": "Basic"}});
    let result = house
        .bundle(
            &client(),
            "transaction",
            vec![create.clone(), entry(failing.clone())],
        )
        .await;
    let error = result.unwrap_err();
    assert_eq!(error.status, 422);
    let issue = &serde_json::from_slice::<Value>(&error.to_json()).unwrap()["issue"][0];
    assert_eq!(issue["expression"][0], "Bundle.entry[1].request");
    assert_eq!(house.count(T::Basic).await, 0);
    // Of a batch only its entry.
    let amend = as_binary(&json!([{"op": "replace", "path": "/status", "value": "amended"}]));
    let mut stale = entry(amend.clone());
    stale["request"]["ifMatch"] = json!("W/\"1\"");
    let answer = house
        .bundle(
            &client(),
            "batch",
            vec![create, entry(failing), entry(amend), stale],
        )
        .await
        .unwrap();
    let status = |place: usize| {
        answer["entry"][place]["response"]["status"]
            .as_str()
            .unwrap()[..3]
            .to_owned()
    };
    assert_eq!(
        [status(0), status(1), status(2), status(3)],
        ["201", "422", "200", "412"]
    );

    for (resource, code) in [
        (json!({"resourceType": "Patient"}), "invalid"),
        (
            json!({"resourceType": "Binary", "contentType": "text/plain"}),
            "not-supported",
        ),
        (
            json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "?"}),
            "value",
        ),
        (as_binary(&json!({})), "structure"),
    ] {
        let result = house
            .bundle(&client(), "transaction", vec![entry(resource.clone())])
            .await;
        assert_eq!(wrong(result), (400, code.to_owned()), "{resource}");
    }
    let twice = vec![entry(as_binary(&json!([]))), entry(as_binary(&json!([])))];
    let result = house.bundle(&client(), "transaction", twice).await;
    assert_eq!(wrong(result), (400, "duplicate".to_owned()));
}

#[tokio::test]
async fn patches_of_one_request_have_a_budget() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let large = json!({"resourceType": "Basic", "code": {"text": "x".repeat(1_000_000), "coding": [{"display": "y".repeat(1_000_000)}]}});
        ids.push(house.create(&large).await);
    }
    let tests = |count: usize| {
        let test = json!({"op": "test", "path": "/resourceType", "value": "Basic"});
        serde_json::to_vec(&vec![test; count]).unwrap()
    };
    let patch = async |count: usize| {
        let body = tests(count);
        let (caller, preconditions) = (client(), record::Preconditions::default());
        let form = record::PatchForm::Json;
        let patch = house
            .record
            .patch(&caller, T::Basic, &ids[0], preconditions, form, &body);
        patch.await
    };
    assert_eq!(patch(300).await.unwrap().status, 200);
    assert_eq!(wrong(patch(600).await), (422, "too-costly".to_owned()));
    // Each by itself is small enough, both together are not.
    let entry = |id: &String| {
        let data = STANDARD.encode(tests(300));
        let patch = json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data});
        json!({"resource": patch, "request": {"method": "PATCH", "url": format!("Basic/{id}")}})
    };
    let both: Vec<_> = ids.iter().map(entry).collect();
    let refused = house.bundle(&minimal(), "transaction", both.clone()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.status, 422);
    let issue = &error.outcome.issues[0];
    assert_eq!(issue.expression.as_deref(), Some("Bundle.entry[1].request"));
    assert!(issue.diagnostics.contains("patch"));
    house
        .bundle(&minimal(), "transaction", both[..1].to_vec())
        .await
        .unwrap();
}

/// Labels that codes stand for are told with what is read, and not stored: a patch is of what is read.
#[tokio::test]
async fn a_patch_is_of_what_is_read() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let hiv = json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "B20"}]}});
    let id = house.create(&hiv).await;
    let on = (T::Condition, id.as_str());
    let very =
        json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"});
    let change = json!([{"op": "test", "path": "/meta/security/1/code", "value": "HIV"},
        {"op": "add", "path": "/meta/security/-", "value": very}]);
    let answer = patch(&house, &client(), on, change).await.unwrap();
    assert_eq!((answer.status, answer.version), (200, Some(2)));
    // What was told is not stored by it: it is told again, and the level that was said stands for itself.
    let security = json_of(&answer)["meta"]["security"].clone();
    assert_eq!(security[0], very, "{security}");
    assert_eq!(security[1]["code"], "HIV", "{security}");
    assert_eq!(security[1]["extension"].as_array().map(Vec::len), Some(1));
    assert_eq!(security[2], Value::Null);
    // The same in a transaction.
    let remove = json!([{"op": "remove", "path": "/meta/security/0"},
        {"op": "test", "path": "/meta/security/0/code", "value": "HIV"}]);
    let entry = json!({"resource": as_binary(&remove),
        "request": {"method": "PATCH", "url": format!("Condition/{id}")}});
    house
        .bundle(&client(), "transaction", vec![entry])
        .await
        .unwrap();
    let row = house.read(T::Condition, &id).await;
    let codes = ["R", "HIV"].map(Value::from);
    let told = [0, 1].map(|place: usize| row["meta"]["security"][place]["code"].clone());
    assert_eq!((told, &row["meta"]["versionId"]), (codes, &json!("3")));
}
