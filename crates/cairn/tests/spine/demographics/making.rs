//! New records: who gets a number, who has one already, and requests that come again, also to a server that was
//! killed in between.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use super::{Answer, BASE, Spine, marked, new_id, patient};
use crate::house::{cairn, client, house, token};

fn person(family: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "name": [{"use": "usual", "given": ["Mickey"], "family": family, "prefix": ["Mr"], "period": {"start": "1954-10-26"}}],
        "address": [{"use": "home", "line": ["", "317 Stuart Streets", "", "Glasgow"], "postalCode": "G1 1AA", "period": {"start": "2024-05-09"}}],
        "gender": "male", "birthDate": "1954-10-26",
        "extension": [{"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority", "extension": [{"url": "organisationIdentifier", "valueString": "RGS"}]}],
    })
}

/// The number and status of who is made.
fn made(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let number = answer.body["id"].as_str().expect("a number").to_owned();
    assert!(number.starts_with("999") && number.len() == 10, "{number}");
    number
}

#[tokio::test]
async fn a_new_person_gets_a_number() {
    let spine = Spine::new().await;
    let answer = Answer::of(spine.post(&person("Mouse"))).await;
    let number = made(&answer);
    assert_eq!(answer.etag, "W/\"1\"");
    assert_eq!(
        answer.body["address"][0]["line"],
        json!(["317 Stuart Streets", "Glasgow"])
    );
    let coding = &answer.body["identifier"][0]["extension"][0]["valueCodeableConcept"]["coding"][0];
    assert_eq!(coding["code"], "01");
    assert_eq!(
        spine.get(&format!("/Patient/{number}")).await.body,
        answer.body
    );
    let found = spine
        .get("/Patient?family=Mouse&birthdate=eq1954-10-26&given=Mickey")
        .await;
    assert_eq!(found.numbers(), std::slice::from_ref(&number));
    // Somebody else gets another.
    let other = made(&Answer::of(spine.post(&person("Duck"))).await);
    assert_ne!(number, other);
    // They can be changed right away.
    let patches = json!([{"op": "replace", "path": "/gender", "value": "unknown"}]);
    let changed = Answer::of(spine.patch(&number, 1, &patches)).await;
    assert_eq!(changed.fine()["gender"], "unknown");
    spine.house.end().await;
}

#[tokio::test]
async fn who_is_there_already_is_not_made_again() {
    let spine = Spine::new().await;
    let number = made(&Answer::of(spine.post(&person("Mouse"))).await);
    let again = Answer::of(spine.post(&person("MOUSE"))).await;
    again.refused(200, "SINGLE_MATCH");
    let words = again.body["issue"][0]["diagnostics"]
        .as_str()
        .expect("words");
    assert!(words.contains(&number), "{words}");
    let mut moved = person("Mouse");
    moved["address"][0]["postalCode"] = json!("G2 2BB");
    assert_ne!(made(&Answer::of(spine.post(&moved)).await), number);
    // Of somebody restricted a postcode says nothing: not that they live there, nor that they don't.
    let restricted = json!({
        "meta": marked("R"), "gender": "male", "birthDate": "1960-01-01",
        "name": [{"use": "usual", "family": "Hidden", "given": ["Mickey"]}],
    });
    spine.keep(&patient("r1", "9000000009", &restricted)).await;
    for postcode in ["LS1 6AE", "G1 1AA"] {
        let mut person = person("Hidden");
        person["birthDate"] = json!("1960-01-01");
        person["address"][0]["postalCode"] = json!(postcode);
        Answer::of(spine.post(&person))
            .await
            .refused(200, "SINGLE_MATCH");
    }
    // Two who are alike.
    for (id, number) in [("r2", "9000000017"), ("r3", "9000000025")] {
        let changes = json!({"gender": "male", "name": [{"use": "usual", "family": "Twin", "given": ["Mickey"]}], "birthDate": "1954-10-26", "address": []});
        let mut twin = patient(id, number, &changes);
        twin.as_object_mut().expect("an object").remove("address");
        spine.keep(&twin).await;
    }
    Answer::of(spine.post(&person("Twin")))
        .await
        .refused(200, "MULTIPLE_MATCHES");
    spine.house.end().await;
}

#[tokio::test]
async fn requests_that_make_nobody() {
    let spine = Spine::new().await;
    for (path, value, status, code) in [
        ("/gender", Value::Null, 400, "MISSING_VALUE"),
        ("/gender", json!("other"), 400, "UNSUPPORTED_VALUE"),
        ("/birthDate", json!("not-a-date"), 400, "INVALID_VALUE"),
        ("/pets", json!("cat"), 400, "ADDITIONAL_PROPERTIES"),
        (
            "/name/0/given",
            json!(["O`Brien"]),
            400,
            "UNSUPPORTED_CHARACTERS_IN_FIELD",
        ),
        ("/name/0/given", json!([]), 400, "TOO_FEW_VALUES_SUBMITTED"),
        (
            "/name/0/given",
            json!(["1", "2", "3", "4", "5", "6"]),
            400,
            "TOO_MANY_VALUES_SUBMITTED",
        ),
        ("/address/0/line", json!(["one"]), 400, "INVALID_CREATE"),
        ("/extension", json!([]), 400, "MISSING_VALUE"),
    ] {
        let mut person = person("Mouse");
        let (parent, last) = path.rsplit_once('/').expect("a path");
        person.pointer_mut(parent).expect("a place")[last] = value.clone();
        Answer::of(spine.post(&person)).await.refused(status, code);
    }
    for (kind, body, status, code) in [
        ("text/plain", "{}", 400, "UNSUPPORTED_SERVICE"),
        ("application/fhir+json", "[", 400, "VALIDATION_ERROR"),
        ("application/json", "{}", 400, "MISSING_VALUE"),
    ] {
        let request = spine
            .ask(Method::POST, "/Patient")
            .header("content-type", kind);
        Answer::of(request.body(body)).await.refused(status, code);
    }
    let app = spine.house.token.clone();
    let request = spine.ask_as(&app, Method::POST, "/Patient");
    let request = request.header("content-type", "application/json");
    let answer = Answer::of(request.body(person("Mouse").to_string())).await;
    answer.refused(403, "INVALID_METHOD");
    // Whom policies don't let make records.
    let coordinator = token(&spine.house.server, Role::Coordinator).await;
    let request = spine.ask_as(&coordinator, Method::POST, "/Patient");
    let request = request.header("content-type", "application/json");
    let answer = Answer::of(request.body(person("Mouse").to_string())).await;
    answer.refused(403, "ACCESS_DENIED");
    assert_eq!(spine.versions().await, 0);
    spine.house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_ask_at_once_one_record_is_made() {
    let spine = Spine::new().await;
    let body = person("Mouse");
    // Each by a request of its own.
    let asked = (0..8).map(|_| Answer::of(spine.post(&body)));
    let answers = futures_util::future::join_all(asked).await;
    let made: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CREATED)
        .collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    for answer in answers
        .iter()
        .filter(|answer| answer.status != StatusCode::CREATED)
    {
        answer.refused(200, "SINGLE_MATCH");
    }
    // All by the same request.
    let (id, body) = (new_id(), person("Duck").to_string());
    let asked = (0..8).map(|_| {
        let request = spine.house.bare(Method::POST, &format!("{BASE}/Patient"));
        let request = request
            .bearer_auth(&spine.worker)
            .header("x-request-id", &id);
        let request = request.header("content-type", "application/json");
        Answer::of(request.body(body.clone()))
    });
    let answers = futures_util::future::join_all(asked).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        assert_eq!(answer.body, answers[0].body);
    }
    assert_eq!(spine.versions().await, 2);
    spine.house.end().await;
}

/// A server as a process, over a store that another has left.
fn serve(data: &std::path::Path) -> (Child, String) {
    let mut command = cairn();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    command.args(["--set", "demographics.serve=true"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("cairn runs");
    let mut line = String::new();
    let out = child.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let base = line
        .trim()
        .strip_prefix("Cairn is at ")
        .expect("an address");
    (child, base.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_again_to_a_server_that_was_killed_is_answered_again() {
    let before = house().await;
    let worker = token(&before.server, Role::Clinician).await;
    let data = before.folder;
    before.server.stop().await.expect("a clean end");
    let http = client().build().expect("a client");
    let (make, change) = (new_id(), new_id());
    let (mut answers, mut numbers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (mut child, base) = serve(data.path());
        let at = |method: Method, path: &str, id: &str| {
            let request = http.request(method, format!("{base}{BASE}{path}"));
            request.bearer_auth(&worker).header("x-request-id", id)
        };
        let request = at(Method::POST, "/Patient", &make);
        let request = request.header("content-type", "application/json");
        let answer = Answer::of(request.body(person("Mouse").to_string())).await;
        let number = made(&answer);
        let request = at(Method::PATCH, &format!("/Patient/{number}"), &change)
            .header("if-match", "W/\"1\"")
            .header("content-type", "application/json-patch+json");
        let patches =
            json!({"patches": [{"op": "replace", "path": "/gender", "value": "unknown"}]});
        let changed = Answer::of(request.body(patches.to_string())).await;
        assert_eq!(changed.fine()["meta"]["versionId"], "2");
        // SIGKILL: nothing is tidied up.
        child.kill().expect("killed");
        child.wait().expect("ended");
        answers.push((answer.body, changed.body));
        numbers.push(number);
    }
    assert_eq!(answers[0], answers[1]);
    let (mut child, base) = serve(data.path());
    let path = format!("{base}{BASE}/Patient?family=Mouse&birthdate=eq1954-10-26");
    let request = http
        .get(path)
        .bearer_auth(&worker)
        .header("x-request-id", new_id());
    assert_eq!(Answer::of(request).await.numbers(), [numbers[0].clone()]);
    child.kill().expect("killed");
    child.wait().expect("ended");
}
