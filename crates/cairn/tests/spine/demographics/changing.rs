//! Changes: the published rules of patches, versions, repeats, and two who write at once.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Spine, marked, new_id, patient};

fn gender(to: &str) -> Value {
    json!([{"op": "replace", "path": "/gender", "value": to}])
}

#[tokio::test]
async fn all_of_a_change_or_nothing() {
    let spine = Spine::new().await;
    let changes = json!({"maritalStatus": {"text": "kept"}, "extension": [{"url": "urn:other", "valueString": "kept"}]});
    spine.keep(&patient("r1", "9000000009", &changes)).await;
    let patches = json!([
        {"op": "replace", "path": "/gender", "value": "male"},
        {"op": "add", "path": "/name/-", "value": {"use": "nickname", "family": "Smith", "given": ["Jo"], "prefix": ["Mrs."]}},
        {"op": "replace", "path": "/address/0/id", "value": "a0"},
        {"op": "replace", "path": "/address/0/line/0", "value": "2 Whitehall Quay"},
    ]);
    let answer = Answer::of(spine.patch("9000000009", 1, &patches)).await;
    let told = answer.fine();
    assert_eq!(answer.etag, "W/\"2\"");
    assert_eq!(
        (&told["gender"], &told["meta"]["versionId"]),
        (&json!("male"), &json!("2"))
    );
    assert_eq!(told["name"][1]["prefix"], json!(["Mrs"]));
    assert_eq!(told["name"][1]["period"]["start"], "2026-03-01");
    assert!(told["name"][1]["id"].is_string());
    assert_eq!(told["address"][0]["line"][0], "2 Whitehall Quay");
    assert_eq!(spine.get("/Patient/9000000009").await.body, *told);
    // What isn't told of stays in the record.
    let kept = spine
        .house
        .asked(Method::GET, "/fhir/r4/Patient/r1")
        .send()
        .await;
    let kept: Value = kept.expect("an answer").json().await.expect("JSON");
    assert_eq!(kept["maritalStatus"]["text"], "kept");
    assert_eq!(kept["extension"][0]["valueString"], "kept");
    // The last one can't be done, so none is.
    let patches = json!([
        {"op": "replace", "path": "/gender", "value": "female"},
        {"op": "remove", "path": "/name/1"},
    ]);
    let answer = Answer::of(spine.patch("9000000009", 2, &patches)).await;
    answer.refused(400, "INVALID_UPDATE");
    let after = spine.get("/Patient/9000000009").await;
    assert_eq!(
        (&after.fine()["gender"], after.etag.as_str()),
        (&json!("male"), "W/\"2\"")
    );
    // Tested immediately before, it can.
    let id = told["name"][1]["id"].clone();
    let patches = json!([
        {"op": "test", "path": "/name/1/id", "value": id},
        {"op": "remove", "path": "/name/1"},
    ]);
    let answer = Answer::of(spine.patch("9000000009", 2, &patches)).await;
    assert_eq!(answer.fine()["name"].as_array().map(Vec::len), Some(1));
    spine.house.end().await;
}

#[tokio::test]
async fn items_that_the_record_gave_no_id_are_changed_by_the_one_that_is_told() {
    let spine = Spine::new().await;
    let changes = json!({"name": [{"use": "usual", "family": "Smith"}, {"use": "nickname", "family": "Smithy"}]});
    spine.keep(&patient("r1", "9000000009", &changes)).await;
    let told = spine.get("/Patient/9000000009").await;
    let id = told.fine()["name"][1]["id"].clone();
    let patches = json!([
        {"op": "test", "path": "/name/1/id", "value": id},
        {"op": "remove", "path": "/name/1"},
    ]);
    let answer = Answer::of(spine.patch("9000000009", 1, &patches)).await;
    assert_eq!(answer.fine()["name"].as_array().map(Vec::len), Some(1));
    spine.house.end().await;
}

#[tokio::test]
async fn changes_that_are_refused() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    spine
        .keep(&patient("r2", "9000000017", &json!({"meta": marked("R")})))
        .await;
    spine
        .keep(&patient(
            "r3",
            "9000000033",
            &json!({"meta": marked("REDACTED")}),
        ))
        .await;
    let name = |what: Value| {
        let mut name = json!({"use": "temp", "family": "Bloggs"});
        for (member, value) in what.as_object().into_iter().flatten() {
            name[member] = value.clone();
        }
        json!([{"op": "add", "path": "/name/-", "value": name}])
    };
    for (patches, status, code) in [
        (json!([]), 400, "INVALID_UPDATE"),
        (
            json!([{"op": "bad_value", "path": "not a path"}]),
            400,
            "INVALID_VALUE",
        ),
        (
            json!([{"op": "add", "path": "/gender"}]),
            400,
            "MISSING_VALUE",
        ),
        (
            json!([{"op": "add", "path": "/pets/-", "value": 1}]),
            400,
            "INVALID_UPDATE",
        ),
        (
            json!([{"op": "remove", "path": "/birthDate"}]),
            403,
            "FORBIDDEN_UPDATE",
        ),
        (name(json!({"use": "usual"})), 403, "FORBIDDEN_UPDATE"),
        (name(json!({"pets": 1})), 400, "ADDITIONAL_PROPERTIES"),
        (
            name(json!({"family": "O`Brien"})),
            400,
            "UNSUPPORTED_CHARACTERS_IN_FIELD",
        ),
        (name(json!({"given": []})), 400, "TOO_FEW_VALUES_SUBMITTED"),
        (
            name(json!({"given": ["1", "2", "3", "4", "5", "6"]})),
            400,
            "TOO_MANY_VALUES_SUBMITTED",
        ),
        (gender("other"), 400, "UNSUPPORTED_VALUE"),
        (
            json!([{"op": "replace", "path": "/address/0/line/0", "value": "2"}]),
            400,
            "INVALID_UPDATE",
        ),
    ] {
        let answer = Answer::of(spine.patch("9000000009", 1, &patches)).await;
        answer.refused(status, code);
        let text = answer.body.to_string();
        assert!(
            !text.contains("Brien") && !text.contains("Bloggs"),
            "{text}"
        );
    }
    for (number, status, code) in [
        ("9000000000", 400, "INVALID_RESOURCE_ID"),
        ("9111231130", 404, "RESOURCE_NOT_FOUND"),
        ("9000000033", 404, "INVALIDATED_RESOURCE"),
        // Who is restricted is changed elsewhere.
        ("9000000017", 403, "FORBIDDEN_UPDATE"),
    ] {
        let answer = Answer::of(spine.patch(number, 1, &gender("male"))).await;
        answer.refused(status, code);
    }
    // Versions.
    let path = "/Patient/9000000009";
    let body = json!({"patches": gender("male")}).to_string();
    for (if_match, status, code) in [
        (None, 412, "PRECONDITION_FAILED"),
        (Some("1"), 412, "PRECONDITION_FAILED"),
        (Some("\"1\""), 412, "PRECONDITION_FAILED"),
        (Some("W/\"x\""), 412, "PRECONDITION_FAILED"),
        (Some("*"), 412, "PRECONDITION_FAILED"),
        (Some("W/\"2\""), 409, "RESOURCE_VERSION_MISMATCH"),
    ] {
        let mut request = spine
            .ask(Method::PATCH, path)
            .header("content-type", "application/json-patch+json")
            .body(body.clone());
        if let Some(value) = if_match {
            request = request.header("if-match", value);
        }
        Answer::of(request).await.refused(status, code);
    }
    // Bodies.
    for (kind, body, status, code) in [
        (
            "application/bananas",
            body.as_str(),
            400,
            "UNSUPPORTED_SERVICE",
        ),
        ("application/json-patch+json", "{}", 400, "INVALID_UPDATE"),
        ("application/json-patch+json", "{", 400, "INVALID_UPDATE"),
    ] {
        let request = spine.ask(Method::PATCH, path).header("if-match", "W/\"1\"");
        let request = request.header("content-type", kind).body(body.to_owned());
        Answer::of(request).await.refused(status, code);
    }
    // Systems by themselves change nothing.
    let request = spine
        .ask_as(&spine.house.token, Method::PATCH, path)
        .header("if-match", "W/\"1\"")
        .header("content-type", "application/json-patch+json");
    let answer = Answer::of(request.body(body)).await;
    answer.refused(403, "INVALID_METHOD");
    assert_eq!(spine.get(path).await.etag, "W/\"1\"");
    spine.house.end().await;
}

#[tokio::test]
async fn a_change_that_comes_again_is_made_once() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    let id = new_id();
    let send = |patches: Value| {
        let request = spine
            .house
            .bare(
                Method::PATCH,
                &format!("{}/Patient/9000000009", super::BASE),
            )
            .bearer_auth(&spine.worker)
            .header("x-request-id", &id)
            .header("if-match", "W/\"1\"")
            .header("content-type", "application/json-patch+json")
            .body(json!({"patches": patches}).to_string());
        Answer::of(request)
    };
    let first = send(gender("male")).await;
    assert_eq!(first.fine()["meta"]["versionId"], "2");
    assert_eq!(first.request_id, id);
    let versions = spine.versions().await;
    // Something else is written in between: the answer is the first one's all the same.
    let between = Answer::of(spine.patch("9000000009", 2, &gender("unknown"))).await;
    between.fine();
    for _ in 0..2 {
        assert_eq!(send(gender("male")).await, first);
    }
    assert_eq!(spine.versions().await, versions + 1);
    // The same id of another request is told of.
    send(gender("female")).await.refused(400, "INVALID_VALUE");
    // What was refused did nothing, and may be done when it is mended.
    spine.house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_write_at_once_one_is_told() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    for round in 0..10 {
        let version = 1 + round;
        let to = ["male", "female", "unknown"];
        let patches = [
            gender(to[round as usize % 3]),
            gender(to[(round as usize + 1) % 3]),
        ];
        let (one, other) = tokio::join!(
            Answer::of(spine.patch("9000000009", version, &patches[0])),
            Answer::of(spine.patch("9000000009", version, &patches[1])),
        );
        let (won, lost) = match one.status {
            StatusCode::OK => (one, other),
            _ => (other, one),
        };
        assert_eq!(won.fine()["meta"]["versionId"], (version + 1).to_string());
        lost.refused(409, "RESOURCE_VERSION_MISMATCH");
        assert_eq!(spine.get("/Patient/9000000009").await.body, won.body);
    }
    // The same request twice at once is one change, told twice.
    let id = new_id();
    let send = || {
        let request = spine
            .house
            .bare(
                Method::PATCH,
                &format!("{}/Patient/9000000009", super::BASE),
            )
            .bearer_auth(&spine.worker)
            .header("x-request-id", &id)
            .header("if-match", "W/\"11\"")
            .header("content-type", "application/json-patch+json")
            .body(
                json!({"patches": [{"op": "add", "path": "/multipleBirthInteger", "value": 2}]})
                    .to_string(),
            );
        Answer::of(request)
    };
    let (one, other) = tokio::join!(send(), send());
    assert_eq!(one.fine()["meta"]["versionId"], "12");
    assert_eq!(one, other);
    spine.house.end().await;
}
