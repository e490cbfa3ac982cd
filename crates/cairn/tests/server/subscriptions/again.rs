//! What became of notifications, and what is sent again.

use std::collections::{BTreeMap, BTreeSet};

use cairn::store::TENANT;
use fhir::ResourceType;
use ledger::{AuditDraft, Kind, Owner};
use reqwest::Method;
use serde_json::{Value, json};

use super::decided::consent;
use super::delivered::restarted;
use super::receiver::{Got, Looks};
use super::{
    PAYLOAD, Receiver, WEIGHTS, get, house_of, json_of, patient, put, subscribed, subscription,
    until_rested, until_stands, until_waiting, weight, with,
};
use crate::house::{House, token};

const HOUR_MS: u64 = 3_600_000;

/// What `$events` tells: the parts of each delivery by name.
pub(super) async fn events(house: &House, id: &str, more: &str) -> Vec<BTreeMap<String, Value>> {
    let path = format!("Subscription/{id}/$events{more}");
    let (status, bundle) = get(house, &house.token, &path).await;
    assert_eq!(
        (status, &bundle["type"]),
        (200, &json!("history")),
        "{bundle}"
    );
    let all = bundle["entry"][0]["resource"]["parameter"].as_array();
    let all = all.expect("parameters").iter();
    let parts = |one: &Value| {
        let parts = one["part"].as_array().expect("parts").iter();
        let value = |part: &Value| {
            let (_, value) = (part.as_object().expect("an object").iter())
                .find(|(name, _)| name.starts_with("value"))
                .expect("a value");
            (
                part["name"].as_str().expect("a name").to_owned(),
                value.clone(),
            )
        };
        parts.map(value).collect()
    };
    all.filter(|one| one["name"] == "notification-event")
        .map(parts)
        .collect()
}

pub(super) async fn status(house: &House, id: &str) -> Value {
    let path = format!("Subscription/{id}/$status");
    let (status, bundle) = get(house, &house.token, &path).await;
    assert_eq!(
        (status, &bundle["type"]),
        (200, &json!("searchset")),
        "{bundle}"
    );
    // Parameters have no address of their own.
    let called = bundle["entry"][0]["fullUrl"].as_str().expect("a name");
    assert!(called.starts_with("urn:uuid:"), "{called}");
    bundle["entry"][0]["resource"].clone()
}

pub(super) fn named<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let mut all = status["parameter"].as_array().into_iter().flatten();
    all.find(|one| one["name"] == name)
}

pub(super) async fn replay(house: &House, token: &str, id: &str, given: Value) -> (u16, Value) {
    let body = json!({"resourceType": "Parameters", "parameter": given});
    let path = format!("Subscription/{id}/$replay");
    json_of(with(house, token, Method::POST, &path, &body).send().await).await
}

pub(super) async fn replayed(house: &House, id: &str, given: Value) -> String {
    let (status, body) = replay(house, &house.token, id, given).await;
    assert_eq!(status, 202, "{body}");
    let replay = body["parameter"][0]["valueString"].as_str();
    replay.expect("a replay").to_owned()
}

/// Waits until all of a replay was put on its way and decided.
pub(super) async fn until_replayed(house: &House, id: &str, replay: &str) {
    let mut patience = Looks::new();
    loop {
        let status = status(house, id).await;
        let all = status["parameter"].as_array().expect("parameters");
        let found = all.iter().find(|one| {
            let parts = one["part"].as_array();
            one["name"] == "replay" && parts.is_some_and(|part| part[0]["valueString"] == replay)
        });
        if found.is_some_and(|one| one.to_string().contains("put-on-its-way")) {
            break;
        }
        patience.wait(&format!("{status}")).await;
    }
    until_waiting(house, 0).await;
}

pub(super) fn again_of<'a>(got: &'a [Got], replay: &str) -> Vec<&'a Got> {
    let all = got.iter();
    all.filter(|got| got.header("cairn-replay") == replay)
        .collect()
}

pub(super) async fn is_on(house: &House, id: &str, asked: &Value) {
    let mut again = asked.clone();
    again["id"] = json!(id);
    let path = format!("Subscription/{id}");
    let sent = with(house, &house.token, Method::PUT, &path, &again).send();
    let (status, body) = json_of(sent.await).await;
    assert_eq!((status, &body["status"]), (200, &json!("active")), "{body}");
}

#[tokio::test]
async fn what_became_of_each_is_told_and_each_can_be_sent_again() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    receiver.answer(&[503]);
    put(&house, &weight("w", "p")).await;
    until_stands(&house, &id, "error").await;
    house.clock.advance(60_000);
    receiver.until(2).await;
    until_waiting(&house, 0).await;
    put(&house, &weight("x", "p")).await;
    let got = receiver.until(3).await;
    until_waiting(&house, 0).await;
    let all = events(&house, &id, "").await;
    assert_eq!(all.len(), 2, "{all:?}");
    let first = &all[0];
    assert_eq!(first["focus"]["reference"], "Observation/w", "{first:?}");
    assert_eq!(first["id"], got[0].key());
    assert_eq!(
        (&first["attempts"], &first["outcome"]),
        (&json!(2), &json!("taken"))
    );
    assert_eq!(first["answer"], "200");
    let taken = status(&house, &id).await;
    let taken = named(&taken, "deliveries-taken");
    assert_eq!(taken.expect("a count")["valueString"], "2");
    // One, known by its id, which says that it is sent again.
    let one = replayed(
        &house,
        &id,
        json!([{"name": "id", "valueString": got[0].key()}]),
    )
    .await;
    let got = receiver.until(4).await;
    assert_eq!(again_of(&got, &one).len(), 1);
    assert_eq!(
        (got[3].key(), got[3].path.as_str()),
        (got[0].key(), "/hook/Observation/w")
    );
    until_replayed(&house, &id, &one).await;
    // By numbers: the second alone; and by times: both.
    let number = all[1]["event-number"].clone();
    let range = json!([{"name": "eventsSinceNumber", "valueString": number}]);
    let second = replayed(&house, &id, range).await;
    until_replayed(&house, &id, &second).await;
    let got = receiver.until(5).await;
    assert_eq!(again_of(&got, &second)[0].path, "/hook/Observation/x");
    let times = json!([{"name": "since", "valueInstant": "2026-03-01T00:00:00Z"}]);
    let both = replayed(&house, &id, times).await;
    until_replayed(&house, &id, &both).await;
    let got = receiver.until(7).await;
    assert_eq!(again_of(&got, &both).len(), 2);
    let keys: BTreeSet<&str> = got.iter().map(Got::key).collect();
    assert_eq!(keys.len(), 2, "two ids for all");
    // Since the failure, which was the first.
    let failure = json!([{"name": "what", "valueCode": "since-failure"}]);
    let failure = replayed(&house, &id, failure).await;
    until_replayed(&house, &id, &failure).await;
    receiver.until(9).await;
    let all = events(&house, &id, "").await;
    assert_eq!(all.len(), 2, "a delivery stays one: {all:?}");
    assert_eq!(all[0]["replays"], 3, "{all:?}");
    let since = number.as_str().expect("text");
    let bounds = format!("?eventsSinceNumber={since}&content=empty");
    let some = events(&house, &id, &bounds).await;
    assert!(
        some.len() == 1 && !some[0].contains_key("focus"),
        "{some:?}"
    );
    house.end().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_with_the_reason() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    let other = token(&house.server, trust::Role::Client).await;
    let since = json!([{"name": "since", "valueInstant": "2026-03-01T00:00:00Z"}]);
    assert_eq!(replay(&house, &other, &id, since.clone()).await.0, 403);
    assert_eq!(
        replay(&house, &house.token, "nobody", since.clone())
            .await
            .0,
        404
    );
    let code = |name: &str, value: &str| json!([{"name": name, "valueString": value}]);
    for (given, status, words) in [
        (code("id", "0123"), 422, "no such delivery"),
        (code("what", "missed"), 422, "nothing of that kind"),
        (code("what", "since-failure"), 422, "nothing of that kind"),
        (code("what", "everything"), 400, "missed or since-failure"),
        (code("since", "yesterday"), 400, "no instant"),
        (
            code("since", "2026-01-01T00:00:00Z"),
            422,
            "at most 31 days",
        ),
        (code("since", "2027-01-01T00:00:00Z"), 422, "in the future"),
        (code("eventsSinceNumber", "-1"), 400, "no number"),
        (code("until", "2026-03-01T00:00:00Z"), 400, "says one of"),
        (code("why", "so"), 400, "no parameter"),
    ] {
        let (answered, body) = replay(&house, &house.token, &id, given.clone()).await;
        assert_eq!(answered, status, "{given} {body}");
        assert!(body.to_string().contains(words), "{given} {body}");
    }
    // One at a time, and no more than there may be in a day.
    let mut patience = Looks::new();
    for count in 0..16 {
        let made = loop {
            let (status, body) = replay(&house, &house.token, &id, since.clone()).await;
            if status == 202 {
                break body;
            }
            assert!(body.to_string().contains("one at a time"), "{count} {body}");
            patience.wait("the one before is not over").await;
        };
        let made = made["parameter"][0]["valueString"].as_str().expect("an id");
        until_replayed(&house, &id, made).await;
    }
    let (status, body) = replay(&house, &house.token, &id, since.clone()).await;
    assert_eq!(
        (status, body.to_string().contains("16 replays")),
        (422, true),
        "{body}"
    );
    house.clock.advance(25 * HOUR_MS);
    assert_eq!(replay(&house, &house.token, &id, since).await.0, 202);
    house.end().await;
}

#[tokio::test]
async fn what_it_missed_while_it_was_off_is_sent_when_its_owner_asks() {
    let receiver = Receiver::start().await;
    let mut house = house_of(&receiver).await;
    for id in ["p", "q"] {
        put(&house, &patient(id)).await;
    }
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    receiver.answer(&[503; 100]);
    for (id, patient) in [("w", "p"), ("x", "q")] {
        put(&house, &weight(id, patient)).await;
    }
    receiver.until_at_least(1).await;
    for _ in 0..40 {
        until_rested(&house).await;
        if super::stands(&house, &id).await.0 == "off" {
            break;
        }
        let before = receiver.got().len();
        house.clock.advance(2 * HOUR_MS);
        receiver.until_at_least(before + 1).await;
    }
    until_stands(&house, &id, "off").await;
    until_waiting(&house, 0).await;
    receiver.forget_answers();
    // What is written while it is off is missed as well, over a restart.
    put(&house, &weight("y", "p")).await;
    house = restarted(house, &receiver).await;
    put(&house, &weight("z", "q")).await;
    let before = receiver.got().len();
    let missed = status(&house, &id).await;
    assert!(named(&missed, "missed").is_some(), "{missed}");
    let missed = json!([{"name": "what", "valueCode": "missed"}]);
    let (refused, body) = replay(&house, &house.token, &id, missed.clone()).await;
    assert_eq!(
        (refused, body.to_string().contains("turn it on first")),
        (422, true),
        "{body}"
    );
    is_on(&house, &id, &asked).await;
    let replay = replayed(&house, &id, missed.clone()).await;
    until_replayed(&house, &id, &replay).await;
    let got = receiver.until(before + 4).await;
    let again = again_of(&got, &replay);
    let paths: BTreeSet<&str> = again.iter().map(|got| got.path.as_str()).collect();
    let wanted = ["w", "x", "y", "z"].map(|id| format!("/hook/Observation/{id}"));
    assert_eq!(paths, wanted.iter().map(String::as_str).collect());
    // Those that were tried before are known by their ids.
    for got in &again {
        let of_path = receiver
            .got()
            .into_iter()
            .filter(|one| one.path == got.path);
        assert!(
            of_path.into_iter().all(|one| one.key() == got.key()),
            "{got:?}"
        );
    }
    // Then nothing is missed any more.
    assert!(named(&status(&house, &id).await, "missed").is_none());
    assert_eq!(
        super::again::replay(&house, &house.token, &id, missed)
            .await
            .0,
        422
    );
    house.end().await;
}

#[tokio::test]
async fn what_is_sent_again_is_decided_anew() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    for id in ["p", "q", "r"] {
        put(&house, &patient(id)).await;
    }
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    for (id, patient) in [("w", "p"), ("x", "q"), ("y", "r")] {
        put(&house, &weight(id, patient)).await;
    }
    receiver.until(3).await;
    until_waiting(&house, 0).await;
    // One says no, and of one the key is destroyed.
    put(&house, &consent("p", "active")).await;
    let ledger = house.server.ledger();
    let owner = Owner::Patient("q".to_owned());
    let audit = ledger.mint_id(TENANT, &owner);
    let draft = AuditDraft {
        kind: Kind(ResourceType::AuditEvent.code()),
        shard: ledger.shard_of(TENANT, &owner, &audit),
        body: format!("{{\"resourceType\":\"AuditEvent\",\"id\":\"{audit}\"}}").into_bytes(),
        parts: Vec::new(),
        tokens: Vec::new(),
        id: audit,
    };
    let destroyed = ledger.destroy_patient_key(TENANT, "q", draft).await;
    destroyed.expect("destroyed");
    let since = json!([{"name": "since", "valueInstant": "2026-03-01T00:00:00Z"}]);
    let replay = replayed(&house, &id, since.clone()).await;
    until_replayed(&house, &id, &replay).await;
    let got = receiver.until(4).await;
    assert_eq!(again_of(&got, &replay)[0].path, "/hook/Observation/y");
    let all = events(&house, &id, "").await;
    let outcome = |reference: &str| {
        let one = all
            .iter()
            .find(|one| one["focus"]["reference"] == reference);
        one.map(|one| one["outcome"].clone())
    };
    assert_eq!(outcome("Observation/w"), Some(json!("withheld")), "{all:?}");
    // Of one that was deleted nothing is sent again, and its deliveries are nobody's, whoever takes its id.
    let path = format!("Subscription/{id}");
    let sent = with(&house, &house.token, Method::DELETE, &path, &json!({})).send();
    assert_eq!(json_of(sent.await).await.0, 204);
    assert_eq!(
        super::again::replay(&house, &house.token, &id, since)
            .await
            .0,
        404
    );
    let mut anew = asked.clone();
    anew["id"] = json!(id);
    let other = token(&house.server, trust::Role::Client).await;
    let sent = with(&house, &other, Method::PUT, &path, &anew).send();
    let (status, body) = json_of(sent.await).await;
    assert_eq!(status, 201, "{body}");
    let (_, told) = get(&house, &other, &format!("{path}/$events")).await;
    assert!(!told.to_string().contains("notification-event"), "{told}");
    assert_eq!(receiver.got().len(), 4);
    house.end().await;
}
