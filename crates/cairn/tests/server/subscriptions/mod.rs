//! FHIR subscriptions: over HTTP on both sides, with a receiver of the test's own.

mod again;
mod asked;
mod changing;
mod decided;
mod delivered;
mod disclosed;
mod lost;
mod receiver;
pub(crate) mod signed;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use trust::outgoing::CHANNEL_HOOK;

use crate::house::{House, administers, house_with, put};
use receiver::{ByHand, Looks, Receiver};

const FHIR: &str = "/fhir/r4/";
const PAYLOAD: &str = "application/fhir+json";
const WEIGHTS: &str = "Observation?code=http://loinc.org|29463-7";

/// A server that may notify a receiver.
async fn house_of(receiver: &Receiver) -> House {
    house_to(receiver.origin()).await
}

/// A server that may notify whoever is at an origin.
async fn house_to(origin: String) -> House {
    house_with(|options| options.subscription_origins = origin).await
}

fn subscription(criteria: &str, endpoint: &str, payload: Option<&str>) -> Value {
    let mut channel = json!({"type": "rest-hook", "endpoint": endpoint});
    if let Some(payload) = payload {
        channel["payload"] = json!(payload);
    }
    json!({"resourceType": "Subscription", "status": "requested", "reason": "a test",
        "criteria": criteria, "channel": channel})
}

fn with(house: &House, token: &str, method: Method, path: &str, body: &Value) -> RequestBuilder {
    let asked = house.bare(method, &format!("{FHIR}{path}"));
    let asked = asked.bearer_auth(token);
    let asked = asked.header("content-type", "application/fhir+json");
    asked.body(body.to_string())
}

async fn json_of(answer: Result<Response, reqwest::Error>) -> (u16, Value) {
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// Subscribes, and gives the id.
async fn subscribed(house: &House, token: &str, subscription: &Value) -> String {
    let asked = with(house, token, Method::POST, "Subscription", subscription);
    let (status, body) = json_of(asked.send().await).await;
    assert_eq!((status, &body["status"]), (201, &json!("active")), "{body}");
    body["id"].as_str().expect("an id").to_owned()
}

async fn put_by(house: &House, token: &str, resource: &Value) {
    let text = |name: &str| resource[name].as_str().expect("text");
    let path = format!("{}/{}", text("resourceType"), text("id"));
    let sent = with(house, token, Method::PUT, &path, resource).send();
    let (status, body) = json_of(sent.await).await;
    assert!((200..300).contains(&status), "{path}: {status} {body}");
}

async fn get(house: &House, token: &str, path: &str) -> (u16, Value) {
    let asked = house.bare(Method::GET, &format!("{FHIR}{path}"));
    json_of(asked.bearer_auth(token).send().await).await
}

fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": "Zyzzyva"}]})
}

fn observation(id: &str, patient: &str, code: &str) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final",
        "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": "2026-02-01", "valueQuantity": {"value": 81}})
}

fn weight(id: &str, patient: &str) -> Value {
    observation(id, patient, "29463-7")
}

/// Waits until the outbox has no notification, or so many.
async fn until_waiting(house: &House, count: usize) {
    let mut patience = Looks::new();
    let ledger = house.server.ledger();
    loop {
        let look = ledger.outbox_look(&[CHANNEL_HOOK], u64::MAX, 1000).await;
        let waiting = look.expect("the outbox").entries.len();
        if waiting == count {
            return;
        }
        let words = format!("{waiting} notifications wait instead of {count}");
        patience.wait(&words).await;
    }
}

/// Waits until nothing is due: what was asked of an endpoint is written down, and what waits rests. Each attempt moves its
/// entry or takes it out in its own commit, and a subscription is off before its entry is taken out for that.
async fn until_rested(house: &House) {
    let mut patience = Looks::new();
    let ledger = house.server.ledger();
    loop {
        let now_ms = ledger.clock().now_ms();
        let look = ledger.outbox_look(&[CHANNEL_HOOK], now_ms, 1).await;
        if look.expect("the outbox").entries.is_empty() {
            return;
        }
        patience.wait("something is still due").await;
    }
}

/// Waits until all that was written so far has been decided: a row that is notified of stands behind it on the feed of
/// the same patient.
async fn until_decided(house: &House, receiver: &Receiver, patient: &str, before: usize) {
    put(house, &weight(&format!("last-{before}-{patient}"), patient)).await;
    receiver.until(before + 1).await;
    until_waiting(house, 0).await;
    assert_eq!(receiver.got().len(), before + 1);
}

/// How a subscription stands, and what is said to be wrong.
async fn stands(house: &House, id: &str) -> (String, String) {
    let (status, body) = get(house, &house.token, &format!("Subscription/{id}")).await;
    assert_eq!(status, 200, "{body}");
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("error"))
}

async fn until_stands(house: &House, id: &str, status: &str) -> String {
    let mut patience = Looks::new();
    loop {
        let (now, error) = stands(house, id).await;
        if now == status {
            return error;
        }
        let words = format!("{now} ({error}) instead of {status}");
        patience.wait(&words).await;
    }
}

async fn revoke(house: &House, client: &str) {
    let permit = administers(&house.server).await;
    let identity = house.server.trust().identity();
    let revoked = identity.revoke_client(&permit, client, "a test");
    revoked.await.expect("revoked");
}
