//! What notifications are signed with, as libraries check it that nobody here wrote.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use super::receiver::Got;
use super::{
    PAYLOAD, Receiver, WEIGHTS, get, house_of, json_of, patient, put, subscribed, subscription,
    until_waiting, weight, with,
};
use crate::house::{House, token};

/// A request that is checked by a key.
pub(crate) fn checked(key: &str, headers: &[(String, String)], body: &str) -> Value {
    let headers: serde_json::Map<String, Value> = (headers.iter())
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({"key": key, "headers": headers, "body": body})
}

fn of(key: &str, got: &Got) -> Value {
    checked(key, &got.headers, &got.body)
}

fn said(command: &mut Command, all: &[Value]) -> Vec<String> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().expect("it runs");
    let text = json!(all).to_string();
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What PyPI's `standardwebhooks` and `cryptography` say of requests.
pub(crate) fn by_python(all: &[Value]) -> Vec<String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = home.join("../../target/peers/webhooks/bin/python");
    assert!(
        python.exists(),
        "the tests need a reader of signatures: run scripts/test once, which installs it into {}",
        python.display()
    );
    let script = home.join("tests/server/subscriptions/verify.py");
    said(Command::new(python).arg(script), all)
}

/// What npm's `standardwebhooks` says of them.
fn by_node(all: &[Value]) -> Vec<String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = home.join("../../target/peers/webhooks-npm/node_modules/standardwebhooks");
    let library = library.canonicalize().expect("run scripts/test once");
    let script = home.join("tests/server/subscriptions/verify.cjs");
    said(Command::new("node").arg(script).arg(library), all)
}

fn parameter<'a>(parameters: &'a Value, name: &str) -> Vec<&'a Value> {
    let all = parameters["parameter"].as_array().into_iter().flatten();
    all.filter(|one| one["name"] == name).collect()
}

async fn rotated(house: &House, token: &str, id: &str, given: &[(&str, Value)]) -> (u16, Value) {
    let given: Vec<Value> = (given.iter())
        .map(|(name, value)| {
            let member = if value.is_number() {
                "valueInteger"
            } else {
                "valueCode"
            };
            json!({"name": name, member: value})
        })
        .collect();
    let body = json!({"resourceType": "Parameters", "parameter": given});
    let body = match given.is_empty() {
        true => json!({"resourceType": "Parameters"}),
        false => body,
    };
    let path = format!("Subscription/{id}/$rotate-secret");
    json_of(with(house, token, Method::POST, &path, &body).send().await).await
}

async fn new_secret(house: &House, id: &str) -> String {
    let (status, made) = rotated(house, &house.token, id, &[]).await;
    assert_eq!(status, 200, "{made}");
    let secret = parameter(&made, "secret")[0]["valueString"].as_str();
    secret.expect("a secret").to_owned()
}

#[tokio::test]
async fn notifications_are_signed_so_that_others_libraries_know_them() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    let first = new_secret(&house, &id).await;
    assert!(first.starts_with("whsec_"), "a secret");
    put(&house, &weight("w", "p")).await;
    let second = new_secret(&house, &id).await;
    receiver.until(1).await;
    put(&house, &weight("x", "p")).await;
    let got = receiver.until(2).await;
    // The key that everybody may know.
    let path = format!("Subscription/{id}/$status");
    let (_, status) = get(&house, &house.token, &path).await;
    let status = &status["entry"][0]["resource"];
    let public = parameter(status, "verification-key")[0]["valueString"].as_str();
    let public = public.expect("a key");
    let mut other = of(&second, &got[1]);
    other["body"] = json!(got[1].body.replace("81", "82"));
    let mut id_of_another = of(&second, &got[1]);
    id_of_another["headers"]["webhook-id"] = json!("0".repeat(32));
    let mut old = of(&second, &got[1]);
    old["headers"]["webhook-timestamp"] = json!("1700000000");
    let stranger = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let all = [
        of(&first, &got[0]),
        of(&second, &got[1]),
        // While the receiver changes its secret both are good.
        of(&first, &got[1]),
        of(stranger, &got[1]),
        other.clone(),
        id_of_another,
        old,
    ];
    for outcomes in [by_python(&all), by_node(&all)] {
        assert_eq!(outcomes[..3], ["ok"; 3], "{outcomes:?}");
        for wrong in &outcomes[3..6] {
            assert_eq!(wrong, "No matching signature found", "{outcomes:?}");
        }
        assert_eq!(outcomes[6], "Message timestamp too old", "{outcomes:?}");
    }
    other["key"] = json!(public);
    let outcomes = by_python(&[of(public, &got[0]), of(public, &got[1]), other]);
    assert_eq!(outcomes, ["ok", "ok", "no signature fits"]);
    // Each stays as long as was said, whatever comes after it: whoever got no answer may ask again.
    let mut all = vec![first, second];
    for _ in 0..3 {
        all.push(new_secret(&house, &id).await);
    }
    put(&house, &weight("y", "p")).await;
    let got = receiver.until(3).await;
    let checks: Vec<Value> = all.iter().map(|key| of(key, &got[2])).collect();
    assert_eq!(by_python(&checks), ["ok"; 5]);
    assert_eq!(got[2].header("webhook-id"), got[2].key());
    // Five are as many as may be, and until when is said.
    let (status, no) = rotated(&house, &house.token, &id, &[]).await;
    assert_eq!(status, 422, "{no}");
    let words = no.to_string();
    assert!(words.contains("the first of them ends at 20"), "{no}");
    // Where a secret was lost to somebody, all others end at once.
    let at_once = ("overlap-hours", json!(0));
    let (status, made) = rotated(&house, &house.token, &id, &[at_once]).await;
    assert_eq!(status, 200, "{made}");
    let last = parameter(&made, "secret")[0]["valueString"].as_str();
    all.push(last.expect("a secret").to_owned());
    put(&house, &weight("z", "p")).await;
    let got = receiver.until(4).await;
    let checks: Vec<Value> = all.iter().map(|key| of(key, &got[3])).collect();
    let outcomes = by_python(&checks);
    assert_eq!(outcomes[5], "ok");
    assert_eq!(outcomes[..5], ["No matching signature found"; 5]);
    house.end().await;
}

#[tokio::test]
async fn an_attempt_is_signed_anew_under_the_same_id_with_a_body_or_without() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    let id = subscribed(&house, &house.token, &asked).await;
    let secret = new_secret(&house, &id).await;
    receiver.answer(&[500]);
    put(&house, &weight("w", "p")).await;
    receiver.until(1).await;
    until_waiting(&house, 1).await;
    super::until_stands(&house, &id, "error").await;
    house.clock.advance(60_000);
    let got = receiver.until(2).await;
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    assert_eq!(got[1].body, "");
    let all = [of(&secret, &got[0]), of(&secret, &got[1])];
    assert_eq!(by_python(&all), ["ok", "ok"]);
    assert_eq!(by_node(&all), ["ok", "ok"]);
    house.end().await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_to_its_owner_alone() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    let secret = new_secret(&house, &id).await;
    let encoded = secret.trim_start_matches("whsec_");
    // Another system may neither change it nor look at what became of anything.
    let other = token(&house.server, trust::Role::Client).await;
    let (status, body) = rotated(&house, &other, &id, &[]).await;
    assert_eq!(status, 403, "{body}");
    for operation in ["$status", "$events"] {
        let (status, body) = get(&house, &other, &format!("Subscription/{id}/{operation}")).await;
        assert_eq!(status, 403, "{operation} {body}");
    }
    // A pair of keys has one half that is told.
    let (status, made) = rotated(&house, &house.token, &id, &[("what", json!("key"))]).await;
    assert_eq!(status, 200, "{made}");
    let public = parameter(&made, "verification-key")[0]["valueString"].as_str();
    assert!(public.is_some_and(|key| key.starts_with("whpk_")), "{made}");
    for (given, status) in [
        (("overlap-hours", json!(169)), 400),
        (("overlap-hours", json!(168)), 200),
        (("what", json!("both")), 400),
        (("why", json!("so")), 400),
    ] {
        let (answered, body) =
            rotated(&house, &house.token, &id, std::slice::from_ref(&given)).await;
        assert_eq!(answered, status, "{given:?} {body}");
    }
    // Nowhere else, and the audit says that it was done.
    let officer = token(&house.server, trust::Role::PrivacyOfficer).await;
    let mut told = Vec::new();
    for (token, path) in [
        (&house.token, format!("Subscription/{id}")),
        (&house.token, format!("Subscription/{id}/$status")),
        (&house.token, format!("Subscription/{id}/$events")),
        (&house.token, "Subscription/_history".to_owned()),
        (&officer, "AuditEvent?_count=500".to_owned()),
    ] {
        let asked = house.bare(Method::GET, &format!("{}{path}", super::FHIR));
        let asked = asked.bearer_auth(token);
        let asked = match token == &officer {
            true => asked.header("x-purpose-of-use", "HOPERAT"),
            false => asked,
        };
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let body = answer.text().await.expect("text");
        assert!(!body.contains(encoded), "{path}");
        told.push(body);
    }
    let audit = told.last().expect("the audit");
    assert!(audit.contains("a new secret signs notifications"));
    assert!(audit.contains("a new pair of keys signs notifications"));
    house.end().await;
}
