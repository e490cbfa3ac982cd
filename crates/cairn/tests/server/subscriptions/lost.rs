//! What could get lost between going off, being on again and being sent again, and what takes the place of what.

use std::collections::BTreeSet;

use cairn::store::TENANT;
use fhir::ResourceType;
use ledger::{AuditDraft, Commit, Draft, Expected, Kind, Owner, Shard};
use reqwest::Method;
use serde_json::{Value, json};
use trust::kinds;
use trust::outgoing::CHANNEL_HOOK;

use super::again::{again_of, events, is_on, named, replay, replayed, status, until_replayed};
use super::decided::consent;
use super::receiver::Looks;
use super::{
    ByHand, PAYLOAD, Receiver, WEIGHTS, get, house_of, house_to, json_of, patient, put, stands,
    subscribed, subscription, until_rested, until_stands, until_waiting, weight, with,
};
use crate::house::{House, token};

const HOUR_MS: u64 = 3_600_000;

fn missed() -> Value {
    json!([{"name": "what", "valueCode": "missed"}])
}

async fn is_off(house: &House, id: &str, asked: &Value, reason: &str) {
    let mut off = asked.clone();
    (off["id"], off["status"], off["reason"]) = (json!(id), json!("off"), json!(reason));
    let path = format!("Subscription/{id}");
    let sent = with(house, &house.token, Method::PUT, &path, &off).send();
    let (status, body) = json_of(sent.await).await;
    assert_eq!((status, &body["status"]), (200, &json!("off")), "{body}");
}

/// Writes over a document of the store's own, and gives what it was.
async fn write_over(house: &House, kind: Kind, id: &str, body: &[u8]) -> Vec<u8> {
    let ledger = house.server.ledger();
    let before = ledger.get(TENANT, kind, id).await.expect("the store");
    let before = before.expect("a document");
    let mut commit = Commit::new(TENANT);
    commit.documents.push(Draft {
        kind,
        id: id.to_owned(),
        owner: Owner::Tenant,
        expected: Expected::Version(before.version),
        body: body.to_vec(),
        deleted: false,
        tokens: Vec::new(),
    });
    commit.audit = Some(AuditDraft {
        kind: Kind(ResourceType::AuditEvent.code()),
        id: ledger.mint_own_id(TENANT),
        shard: Shard(0),
        body: b"{}".to_vec(),
        parts: Vec::new(),
        tokens: Vec::new(),
    });
    ledger.commit(commit).await.expect("written");
    before.body
}

#[tokio::test]
async fn a_replay_that_is_cut_off_covers_nothing_of_what_was_missed() {
    const PATIENTS: usize = 12;
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    is_off(&house, &id, &asked, "a pause").await;
    // In shards of all sorts, so that not all of it is put on its way at once.
    for number in 0..PATIENTS {
        put(&house, &patient(&format!("p{number}"))).await;
        put(
            &house,
            &weight(&format!("w{number}"), &format!("p{number}")),
        )
        .await;
    }
    is_on(&house, &id, &asked).await;
    receiver.answer(&[503; 1000]);
    let first = replayed(&house, &id, missed()).await;
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
    until_stands(&house, &id, "off").await;
    until_waiting(&house, 0).await;
    receiver.forget_answers();
    // On again, the replay goes on behind what was taken out.
    is_on(&house, &id, &asked).await;
    until_replayed(&house, &id, &first).await;
    let second = replayed(&house, &id, missed()).await;
    until_replayed(&house, &id, &second).await;
    let got = receiver.got();
    let again = again_of(&got, &second);
    let paths: BTreeSet<&str> = again.iter().map(|got| got.path.as_str()).collect();
    assert_eq!(paths.len(), PATIENTS, "{paths:?}");
    assert!(named(&status(&house, &id).await, "missed").is_none());
    house.end().await;
}

#[tokio::test]
async fn what_is_missed_stays_so_where_it_is_turned_off_twice() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    is_off(&house, &id, &asked, "a pause").await;
    put(&house, &weight("w", "p")).await;
    is_off(&house, &id, &asked, "a longer pause").await;
    put(&house, &weight("x", "p")).await;
    is_on(&house, &id, &asked).await;
    let replay = replayed(&house, &id, missed()).await;
    until_replayed(&house, &id, &replay).await;
    receiver.until(2).await;
    let wanted = ["w", "x"].map(|id| format!("/hook/Observation/{id}"));
    assert_eq!(receiver.paths(), wanted);
    house.end().await;
}

#[tokio::test]
async fn what_was_never_handed_over_is_nothing_that_its_owner_knows_of() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    put(&house, &consent("p", "active")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    put(&house, &weight("w", "p")).await;
    let since = json!([{"name": "since", "valueInstant": "2026-03-01T00:00:00Z"}]);
    let replay = replayed(&house, &id, since).await;
    until_replayed(&house, &id, &replay).await;
    assert!(events(&house, &id, "").await.is_empty());
    let taken = status(&house, &id).await;
    let taken = named(&taken, "deliveries-taken").expect("a count");
    assert_eq!(taken["valueString"], "0");
    assert!(receiver.got().is_empty());
    house.end().await;
}

/// A replay fills the room that there is and no more, and what is written now is not kept waiting by it.
#[tokio::test]
async fn a_replay_is_bounded_and_what_is_new_goes_before_it() {
    const PATIENTS: usize = 30;
    const OF_EACH: usize = 50;
    /// The room, and a run of events more.
    const MOST: usize = 1000 + 256;
    let endpoint = ByHand::start().await;
    let house = house_to(endpoint.origin()).await;
    for number in 0..PATIENTS {
        let whose = format!("p{number}");
        put(&house, &patient(&whose)).await;
        let entries = (0..OF_EACH).map(|count| {
            let one = weight(&format!("w-{number}-{count}"), &whose);
            let url = format!("Observation/w-{number}-{count}");
            json!({"resource": one, "request": {"method": "PUT", "url": url}})
        });
        let entries: Vec<Value> = entries.collect();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        let sent = with(&house, &house.token, Method::POST, "", &bundle).send();
        let (status, body) = json_of(sent.await).await;
        assert_eq!(status, 200, "{body}");
    }
    let hook = format!("{}/hook", endpoint.origin());
    let asked = subscription(WEIGHTS, &hook, Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    let since = json!([{"name": "since", "valueInstant": "2026-03-01T00:00:00Z"}]);
    replayed(&house, &id, since).await;
    let ledger = house.server.ledger();
    let waiting = async || {
        let look = ledger.outbox_look(&[CHANNEL_HOOK], u64::MAX, 2000).await;
        look.expect("the outbox").entries.len()
    };
    let mut patience = Looks::new();
    while waiting().await < 1000 {
        patience.wait("it is put on its way").await;
    }
    // It looks for room again and again.
    let held = endpoint.taken().await;
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let now = waiting().await;
        assert!(now <= MOST, "{now} wait");
    }
    put(&house, &weight("new", "p0")).await;
    held.answer(200).await;
    // All others would be before it, if it came in its turn.
    let mut before = 0;
    loop {
        let next = endpoint.taken().await;
        let is_new = next.text.starts_with("PUT /hook/Observation/new ");
        next.answer(200).await;
        if is_new {
            break;
        }
        before += 1;
        assert!(before < 600, "what is new waits");
    }
    drop(endpoint);
    house.end().await;
}

/// What becomes of a notification comes before what is told of it.
#[tokio::test]
async fn what_is_kept_and_can_not_be_read_sends_nothing_twice() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    put(&house, &weight("w", "p")).await;
    receiver.until(1).await;
    until_waiting(&house, 0).await;
    let ledger = house.server.ledger();
    let owner = Owner::Patient("p".to_owned());
    let shard = ledger.shard_of(TENANT, &owner, "w");
    let log = ledger.derive_own_id(TENANT, &format!("\u{1f}hook log/{id}/{shard}"));
    write_over(&house, kinds::SUBSCRIPTION_LOG, &log, b"another form").await;
    put(&house, &weight("x", "p")).await;
    receiver.until(2).await;
    until_waiting(&house, 0).await;
    // Unsigned is worse than late: without keys nobody is asked.
    let whole = write_over(&house, kinds::SUBSCRIPTION_BOOK, &id, b"another form").await;
    put(&house, &weight("y", "p")).await;
    let error = until_stands(&house, &id, "error").await;
    assert!(error.contains("signed with can't be read"), "{error}");
    until_rested(&house).await;
    until_waiting(&house, 1).await;
    write_over(&house, kinds::SUBSCRIPTION_BOOK, &id, &whole).await;
    house.clock.advance(60_000);
    until_waiting(&house, 0).await;
    assert_eq!(receiver.until(3).await[2].path, "/hook/Observation/y");
    assert_eq!(until_stands(&house, &id, "active").await, "");
    house.end().await;
}

/// What one was told is in no history of whoever has the id of their subscription next.
#[tokio::test]
async fn an_answer_that_comes_after_a_deletion_is_noted_of_nobody() {
    for answer in [200, 503] {
        let endpoint = ByHand::start().await;
        let house = house_to(endpoint.origin()).await;
        put(&house, &patient("p")).await;
        let hook = format!("{}/hook", endpoint.origin());
        let mut asked = subscription(WEIGHTS, &hook, Some(PAYLOAD));
        let id = subscribed(&house, &house.token, &asked).await;
        put(&house, &weight("w", "p")).await;
        let taken = endpoint.taken().await;
        let path = format!("Subscription/{id}");
        let sent = with(&house, &house.token, Method::DELETE, &path, &json!({})).send();
        assert_eq!(json_of(sent.await).await.0, 204);
        let other = token(&house.server, trust::Role::Client).await;
        asked["id"] = json!(id);
        let sent = with(&house, &other, Method::PUT, &path, &asked).send();
        assert_eq!(json_of(sent.await).await.0, 201);
        taken.answer(answer).await;
        until_rested(&house).await;
        let (status, told) = get(&house, &other, &format!("{path}/$events")).await;
        let told = told["entry"][0]["resource"].clone();
        assert_eq!(status, 200, "{told}");
        assert!(named(&told, "notification-event").is_none(), "{told}");
        assert!(named(&told, "failed").is_none(), "{told}");
        let count = named(&told, "deliveries-taken").expect("a count");
        assert_eq!(count["valueString"], "0", "{told}");
        drop(endpoint);
        house.end().await;
    }
}

/// Of one that is deleted nothing is asked for any more.
#[tokio::test]
async fn nothing_is_sent_again_of_one_that_is_gone() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    let path = format!("Subscription/{id}");
    let sent = with(&house, &house.token, Method::DELETE, &path, &json!({})).send();
    assert_eq!(json_of(sent.await).await.0, 204);
    assert_eq!(replay(&house, &house.token, &id, missed()).await.0, 404);
    house.end().await;
}
