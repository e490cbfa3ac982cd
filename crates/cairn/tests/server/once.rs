//! `Idempotency-Key`: a request that comes again is carried out once.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, assert_outcome, header, house, token};

fn patient(family: &str) -> Value {
    json!({"resourceType": "Patient", "name": [{"family": family}]})
}

/// Status, address, version, date and body of an answer.
async fn all_of(answer: Response) -> (u16, [String; 3], String) {
    let headers =
        ["location", "etag", "last-modified"].map(|name| header(&answer, name).to_owned());
    let status = answer.status().as_u16();
    (status, headers, answer.text().await.expect("text"))
}

async fn send(request: RequestBuilder) -> (u16, [String; 3], String) {
    all_of(request.send().await.expect("an answer")).await
}

/// How many there are of a type, and the number of the newest version of all.
async fn standing(house: &House, kind: &str) -> (Value, usize) {
    let get = async |path: String| {
        let answer = house.asked(Method::GET, &path).send().await;
        answer
            .expect("an answer")
            .json::<Value>()
            .await
            .expect("JSON")
    };
    let found = get(format!("/fhir/r4/{kind}?_summary=count")).await;
    let past = get(format!("/fhir/r4/{kind}/_history?_count=1000")).await;
    let versions = past["entry"].as_array().map_or(0, Vec::len);
    (found["total"].clone(), versions)
}

// Proves: 45 CFR 164.312(e)(2)(i)
#[tokio::test]
async fn a_request_that_comes_again_gets_the_first_answer() {
    let house = house().await;
    let with = |request: RequestBuilder, key: &str| request.header("idempotency-key", key);
    let fhir = "/fhir/r4";
    let made = send(house.sent(Method::PUT, &format!("{fhir}/Patient/p"), &{
        let mut body = patient("Berg");
        body["id"] = json!("p");
        body
    }))
    .await;
    assert_eq!(made.0, 201);
    let mut changed = patient("Dahl");
    changed["id"] = json!("p");
    let patch = json!([{"op": "replace", "path": "/name/0/family", "value": "Lund"}]);
    let entry = |method: &str, url: &str, body: &Value| json!({"resource": body, "request": {"method": method, "url": url}});
    let entries = json!([
        entry("POST", "Patient", &patient("Entry")),
        {"request": {"method": "GET", "url": "Patient/p"}},
        {"resource": patient("Once"), "request": {"method": "POST", "url": "Patient", "ifNoneExist": "family=once"}},
        {"request": {"method": "DELETE", "url": "Patient/nobody"}},
    ]);
    let bundle = |kind: &str| json!({"resourceType": "Bundle", "type": kind, "entry": entries});
    let json_patch = || {
        house
            .asked(Method::PATCH, "/fhir/r4/Patient/p")
            .header("content-type", "application/json-patch+json")
            .body(patch.to_string())
    };
    type Make<'a> = Box<dyn Fn() -> RequestBuilder + 'a>;
    let requests: Vec<(&str, Make<'_>)> = vec![
        (
            "create",
            Box::new(|| house.sent(Method::POST, "/fhir/r4/Patient", &patient("New"))),
        ),
        (
            "minimal",
            Box::new(|| {
                let request = house.sent(Method::POST, "/fhir/r4/Patient", &patient("Small"));
                request.header("prefer", "return=minimal")
            }),
        ),
        (
            "outcome",
            Box::new(|| {
                let request = house.sent(Method::POST, "/fhir/r4/Patient", &patient("Told"));
                request.header("prefer", "return=OperationOutcome")
            }),
        ),
        (
            "conditional",
            Box::new(|| {
                let request = house.sent(Method::POST, "/fhir/r4/Patient", &patient("If"));
                request.header("if-none-exist", "family=if")
            }),
        ),
        (
            "update",
            Box::new(|| house.sent(Method::PUT, "/fhir/r4/Patient/p", &changed)),
        ),
        (
            "matched",
            Box::new(|| {
                let request = house.sent(Method::PUT, "/fhir/r4/Patient/p", &changed);
                request.header("if-match", "W/\"2\"")
            }),
        ),
        ("patch", Box::new(json_patch)),
        (
            "transaction",
            Box::new(|| house.sent(Method::POST, "/fhir/r4", &bundle("transaction"))),
        ),
        (
            "batch",
            Box::new(|| house.sent(Method::POST, "/fhir/r4", &bundle("batch"))),
        ),
        (
            "delete",
            Box::new(|| house.asked(Method::DELETE, "/fhir/r4/Patient/p")),
        ),
        (
            "by-criteria",
            Box::new(|| house.asked(Method::DELETE, "/fhir/r4/Patient?family=new,small")),
        ),
    ];
    for (key, request) in &requests {
        let first = send(with(request(), key)).await;
        assert!(first.0 < 300, "{key}: {first:?}");
        let before = standing(&house, "Patient").await;
        // Quoted, as the draft has it, and not.
        for again in [(*key).to_owned(), format!("\"{key}\"")] {
            assert_eq!(send(with(request(), &again)).await, first, "{key}");
        }
        assert_eq!(
            standing(&house, "Patient").await,
            before,
            "{key}: nothing is done twice"
        );
        // Another request under the same key.
        let other = house.sent(Method::POST, "/fhir/r4/Patient", &patient("Other"));
        let other = with(other, key).send().await.expect("an answer");
        assert_outcome(other, 422, "duplicate").await;
        assert_eq!(standing(&house, "Patient").await, before, "{key}");
        let other = json!({"resourceType": "Bundle", "type": "batch", "entry": [entry("POST", "Patient", &patient("Other"))]});
        let other = with(house.sent(Method::POST, fhir, &other), key);
        assert_outcome(other.send().await.expect("an answer"), 422, "duplicate").await;
        assert_eq!(standing(&house, "Patient").await, before, "{key}");
    }
    // Under a key of its own, or none, or of another caller, it is another request.
    let before = standing(&house, "Patient").await.1;
    let create = || house.sent(Method::POST, "/fhir/r4/Patient", &patient("New"));
    let first = send(with(create(), "create")).await;
    let another = token(&house.server, Role::Client).await;
    let theirs = house
        .bare(Method::POST, "/fhir/r4/Patient")
        .bearer_auth(&another);
    let theirs = theirs
        .header("content-type", "application/fhir+json")
        .body(patient("New").to_string());
    let mut made = BTreeSet::from([first.1[0].clone()]);
    for request in [with(create(), "create-2"), create(), with(theirs, "create")] {
        let answer = send(request).await;
        assert_eq!(answer.0, 201);
        assert!(made.insert(answer.1[0].clone()), "{answer:?}");
    }
    assert_eq!(standing(&house, "Patient").await.1, before + 3);
    // What isn't a key is told, and nothing is done.
    for wrong in ["", "a b", "\"", "a\\b", &"k".repeat(256)] {
        let answer = with(create(), wrong).send().await.expect("an answer");
        assert_outcome(answer, 400, "value").await;
    }
    let twice = with(with(create(), "a"), "b")
        .send()
        .await
        .expect("an answer");
    assert_outcome(twice, 400, "value").await;
    assert_eq!(standing(&house, "Patient").await.1, before + 3);
    // What fails keeps no key.
    let bad = house.sent(
        Method::POST,
        "/fhir/r4/Patient",
        &json!({"resourceType": "Patient", "active": "no"}),
    );
    assert!(
        with(bad, "mended")
            .send()
            .await
            .expect("an answer")
            .status()
            .is_client_error()
    );
    assert_eq!(send(with(create(), "mended")).await.0, 201);
    drop(requests);
    house.end().await;
}

// Proves: 45 CFR 164.312(e)(2)(i)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_carried_out() {
    let house = house().await;
    for kind in ["create", "transaction", "batch"] {
        let before = standing(&house, "Patient").await.1;
        let entry =
            json!({"resource": patient("Race"), "request": {"method": "POST", "url": "Patient"}});
        let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": [entry]});
        let racing: Vec<_> = (0..32)
            .map(|_| {
                let request = match kind {
                    "create" => house.sent(Method::POST, "/fhir/r4/Patient", &patient("Race")),
                    _ => house.sent(Method::POST, "/fhir/r4", &bundle),
                };
                tokio::spawn(send(request.header("idempotency-key", kind)))
            })
            .collect();
        let mut answers = BTreeSet::new();
        for one in racing {
            answers.insert(one.await.expect("an answer"));
        }
        assert_eq!(answers.len(), 1, "{kind}: {answers:?}");
        assert!(answers.first().expect("one").0 < 300);
        assert_eq!(standing(&house, "Patient").await.1, before + 1, "{kind}");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_keeps_its_key_by_the_first_entry_that_writes() {
    let house = house().await;
    let send_with = |key: &str, path: &str, body: &Value| {
        let request = house.sent(Method::POST, path, body);
        send(request.header("idempotency-key", key))
    };
    let entry = |resource: Value| json!({"resource": resource, "request": {"method": "POST", "url": "Patient"}});
    let bundle =
        |entries: Value| json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
    let bad = json!({"resourceType": "Patient", "active": "no"});
    let statuses = |answer: &(u16, [String; 3], String)| {
        let body: Value = serde_json::from_str(&answer.2).expect("JSON");
        let entries = body["entry"].as_array().expect("entries").clone();
        let status = |entry: Value| {
            entry["response"]["status"]
                .as_str()
                .map(|text| text[..3].to_owned())
        };
        entries.into_iter().filter_map(status).collect::<Vec<_>>()
    };
    // Those before it fail, those after it go on.
    let mixed = bundle(json!([
        entry(bad.clone()),
        entry(bad.clone()),
        entry(patient("A")),
        entry(patient("B"))
    ]));
    let first = send_with("mixed", "/fhir/r4", &mixed).await;
    assert_eq!(statuses(&first), ["422", "422", "201", "201"]);
    let before = standing(&house, "Patient").await;
    assert_eq!(send_with("mixed", "/fhir/r4", &mixed).await, first);
    let other = send_with("mixed", "/fhir/r4/Patient", &patient("C")).await;
    assert_eq!(other.0, 422, "{other:?}");
    assert_eq!(standing(&house, "Patient").await, before);
    // A batch that wrote nothing keeps no key, so that it can be mended.
    let wrong = bundle(json!([entry(bad.clone()), entry(bad)]));
    let answer = send_with("mended", "/fhir/r4", &wrong).await;
    assert_eq!(statuses(&answer), ["422", "422"]);
    let answer = send_with("mended", "/fhir/r4", &bundle(json!([entry(patient("D"))]))).await;
    assert_eq!(statuses(&answer), ["201"]);
    // Of a batch and another request at once one is carried out.
    for round in 0..12 {
        let key = format!("race-{round}");
        let before = standing(&house, "Patient").await.1;
        let many = bundle(json!([
            entry(patient("Race")),
            entry(patient("Race")),
            entry(patient("Race"))
        ]));
        let one = patient("Race");
        let (batch, create) = tokio::join!(
            send_with(&key, "/fhir/r4", &many),
            send_with(&key, "/fhir/r4/Patient", &one)
        );
        let made = standing(&house, "Patient").await.1 - before;
        match (batch.0, create.0) {
            (200, 422) => assert_eq!(made, 3),
            (422, 201) => assert_eq!(made, 1),
            other => panic!("{other:?}: {batch:?} {create:?}"),
        }
    }
    house.end().await;
}
