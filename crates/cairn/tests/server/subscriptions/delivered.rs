//! What is sent, how often, and until when.

use std::sync::Arc;

use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    PAYLOAD, Receiver, WEIGHTS, house_of, json_of, observation, patient, put, put_by, stands,
    subscribed, subscription, until_decided, until_rested, until_stands, until_waiting, weight,
    with,
};
use crate::house::House;

const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn what_matches_is_notified_of_and_nothing_else() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    // What was there before is found by searching.
    put(&house, &weight("before", "p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    subscribed(&house, &house.token, &asked).await;
    put(&house, &weight("w", "p")).await;
    let got = receiver.until(1).await;
    let first = &got[0];
    assert_eq!(
        (
            first.method.as_str(),
            first.path.as_str(),
            first.body.as_str()
        ),
        ("POST", "/hook", "")
    );
    assert!(!format!("{first:?}").contains("Zyzzyva"), "{first:?}");
    first.key();
    // A version is told of, too, under a key of its own.
    put(&house, &weight("w", "p")).await;
    let got = receiver.until(2).await;
    assert_ne!(got[0].key(), got[1].key());
    // Neither what does not match, nor what matches no more, nor what is deleted.
    put(&house, &observation("other", "p", "8867-4")).await;
    put(&house, &observation("w", "p", "8867-4")).await;
    let path = "Observation/before";
    let sent = with(&house, &house.token, Method::DELETE, path, &json!({})).send();
    assert_eq!(json_of(sent.await).await.0, 204);
    until_decided(&house, &receiver, "p", 2).await;
    // What comes to match again does, in a transaction as well.
    let entry = |resource: Value| {
        let url = format!("Observation/{}", resource["id"].as_str().expect("an id"));
        json!({"resource": resource, "request": {"method": "PUT", "url": url}})
    };
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        entry(weight("w", "p")), entry(weight("x", "p")), entry(observation("y", "p", "8867-4"))]});
    let sent = with(&house, &house.token, Method::POST, "", &bundle).send();
    assert_eq!(json_of(sent.await).await.0, 200);
    receiver.until(5).await;
    until_decided(&house, &receiver, "p", 5).await;
    house.end().await;
}

#[tokio::test]
async fn the_resource_goes_along_where_it_is_asked_for() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription("Patient?name=Zyzzyva", &receiver.endpoint(), Some(PAYLOAD));
    subscribed(&house, &house.token, &asked).await;
    put(&house, &patient("q")).await;
    let got = receiver.until(1).await;
    let (method, path) = (got[0].method.as_str(), got[0].path.as_str());
    assert_eq!((method, path), ("PUT", "/hook/Patient/q"));
    assert!(got[0].header("content-type").starts_with(PAYLOAD));
    let (_, read) = super::get(&house, &house.token, "Patient/q").await;
    let sent: Value = serde_json::from_str(&got[0].body).expect("JSON");
    assert_eq!(sent, read);
    house.end().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_is_asked_again_under_the_same_key() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    receiver.answer(&[500, 302]);
    put(&house, &weight("w", "p")).await;
    receiver.until(1).await;
    assert_eq!(
        until_stands(&house, &id, "error").await,
        "the endpoint answered 500"
    );
    // While it rests, what comes rests with it.
    put(&house, &weight("x", "p")).await;
    until_waiting(&house, 2).await;
    receiver.until(1).await;
    for count in [2, 3] {
        until_rested(&house).await;
        house.clock.advance(60_000);
        receiver.until_at_least(count).await;
    }
    house.clock.advance(60_000);
    until_waiting(&house, 0).await;
    assert_eq!(until_stands(&house, &id, "active").await, "");
    let got = receiver.got();
    // Two that failed, and two that were taken.
    assert_eq!(got.len(), 4, "{got:?}");
    let keys = |path: &str| {
        let of = got.iter().filter(|got| got.path.ends_with(path));
        let mut keys: Vec<&str> = of.map(super::receiver::Got::key).collect();
        keys.dedup();
        keys.len()
    };
    assert_eq!((keys("/w"), keys("/x")), (1, 1), "{got:?}");
    house.end().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_for_a_day_is_given_up() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    let id = subscribed(&house, &house.token, &asked).await;
    receiver.answer(&[503; 100]);
    put(&house, &weight("w", "p")).await;
    put(&house, &weight("x", "p")).await;
    receiver.until_at_least(1).await;
    for _ in 0..40 {
        until_rested(&house).await;
        if stands(&house, &id).await.0 == "off" {
            break;
        }
        let before = receiver.got().len();
        house.clock.advance(2 * HOUR_MS);
        receiver.until_at_least(before + 1).await;
    }
    assert_eq!(
        until_stands(&house, &id, "off").await,
        "given up: the endpoint answered 503"
    );
    until_waiting(&house, 0).await;
    let before = receiver.got().len();
    put(&house, &weight("w", "p")).await;
    // Asked for anew it begins anew.
    let mut again = asked.clone();
    again["id"] = json!(id);
    let path = format!("Subscription/{id}");
    let sent = with(&house, &house.token, Method::PUT, &path, &again).send();
    let (status, body) = json_of(sent.await).await;
    assert_eq!((status, &body["error"]), (200, &Value::Null), "{body}");
    receiver.forget_answers();
    until_decided(&house, &receiver, "p", before).await;
    house.end().await;
}

#[tokio::test]
async fn a_failure_of_what_no_longer_goes_out_does_not_count_on() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    let id = subscribed(&house, &house.token, &asked).await;
    receiver.answer(&[500]);
    put(&house, &weight("w", "p")).await;
    until_stands(&house, &id, "error").await;
    // It matches no more, so that it is never taken.
    put(&house, &observation("w", "p", "8867-4")).await;
    house.clock.advance(60_000);
    until_waiting(&house, 0).await;
    assert_eq!(until_stands(&house, &id, "active").await, "");
    // One failure, more than a day later, is the first in a row.
    house.clock.advance(25 * HOUR_MS);
    receiver.answer(&[503]);
    put(&house, &weight("x", "p")).await;
    assert_eq!(
        until_stands(&house, &id, "error").await,
        "the endpoint answered 503"
    );
    until_waiting(&house, 1).await;
    house.end().await;
}

#[tokio::test]
async fn it_ends_at_its_time_and_with_its_deletion() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let mut ends = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    ends["end"] = json!("2026-03-01T13:00:00+00:00");
    let ends = subscribed(&house, &house.token, &ends).await;
    let endpoint = format!("{}/other", receiver.origin());
    let stays = subscription(WEIGHTS, &endpoint, Some(PAYLOAD));
    let stays = subscribed(&house, &house.token, &stays).await;
    receiver.answer(&[500, 500]);
    put(&house, &weight("w", "p")).await;
    receiver.until(2).await;
    until_waiting(&house, 2).await;
    // Both wait now. One ends, without anything that is written, and the other is deleted.
    let path = format!("Subscription/{stays}");
    let sent = with(&house, &house.token, Method::DELETE, &path, &json!({})).send();
    assert_eq!(json_of(sent.await).await.0, 204);
    house.clock.advance(HOUR_MS);
    assert_eq!(until_stands(&house, &ends, "off").await, "");
    until_waiting(&house, 0).await;
    put(&house, &weight("x", "p")).await;
    let third = subscription(
        WEIGHTS,
        &format!("{}/third", receiver.origin()),
        Some(PAYLOAD),
    );
    subscribed(&house, &house.token, &third).await;
    until_decided(&house, &receiver, "p", 2).await;
    house.end().await;
}

#[tokio::test]
async fn what_is_written_before_its_owner_changes_it_is_told_of() {
    const ROUNDS: usize = 10;
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let mut asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    asked["id"] = json!(id);
    for round in 0..ROUNDS {
        put(&house, &weight(&format!("w-{round}"), "p")).await;
        asked["reason"] = json!(format!("the reason of round {round}"));
        put_by(&house, &house.token, &asked).await;
    }
    receiver.until(ROUNDS).await;
    let mut paths = receiver.paths();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), ROUNDS, "{paths:?}");
    house.end().await;
}

/// The same store under another server.
pub(super) async fn restarted(house: House, receiver: &Receiver) -> House {
    let House {
        server,
        clock,
        http,
        token,
        folder,
    } = house;
    server.stop().await.expect("a clean end");
    let place = store::in_folder(folder.path());
    let key = store::root_key_path(folder.path());
    let ledger = store::open(place, key.as_path(), Arc::new(clock.clone()), 16 << 20).await;
    let mut options = ServerOptions::new(ledger.expect("a store"), TENANT);
    options.subscription_origins = receiver.origin();
    let server = Server::start(options).await.expect("a server");
    House {
        server,
        clock,
        http,
        token,
        folder,
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_a_restart() {
    let receiver = Receiver::start().await;
    let mut house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    // Written and not yet delivered: the endpoint was down.
    receiver.answer(&[500]);
    put(&house, &weight("down", "p")).await;
    until_stands(&house, &id, "error").await;
    house = restarted(house, &receiver).await;
    house.clock.advance(60_000);
    let got = receiver.until(2).await;
    assert_eq!(got[0].key(), got[1].key());
    assert_eq!(until_stands(&house, &id, "active").await, "");
    // Written and perhaps not even seen: the server stops with the answer.
    for round in 0..4 {
        for part in 0..3 {
            put(&house, &weight(&format!("w-{round}-{part}"), "p")).await;
        }
        house = restarted(house, &receiver).await;
        receiver.until(2 + 3 * (round + 1)).await;
    }
    until_waiting(&house, 0).await;
    let mut paths = receiver.paths();
    paths.dedup();
    assert_eq!(paths.len(), 1 + 12, "{paths:?}");
    house.end().await;
}
