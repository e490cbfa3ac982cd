//! What the audit says of what went out.

use std::slice;

use cairn::store::TENANT;
use ledger::Commit;
use reqwest::Method;
use serde_json::Value;
use trust::identity::{Contract, Registered};
use trust::outgoing::CHANNEL_HOOK;
use trust::{Agent, Role};

use super::{
    ByHand, PAYLOAD, Receiver, WEIGHTS, house_of, house_to, json_of, patient, put, subscribed,
    subscription, until_stands, until_waiting, weight, with,
};
use crate::balp;
use crate::collector::events;
use crate::house::{House, house_with, token};
use crate::policies;

const DAY_MS: u64 = 24 * 3_600_000;

fn disclosures(events: &[Value]) -> Vec<&Value> {
    let is_one = |event: &&Value| balp::pattern(event) == Some("disclose");
    events.iter().filter(is_one).collect()
}

/// What the audit says of notifications, the newest first: whether it is a disclosure, and its words.
async fn told(house: &House) -> Vec<(bool, String)> {
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let events = events(house, &officer).await;
    let mut told = Vec::new();
    for event in &events {
        let words = event["outcomeDesc"].as_str().unwrap_or_default();
        let Some((_, words)) = words.split_once(": notification ") else {
            continue;
        };
        assert_eq!(balp::faults(event), Vec::<String>::new(), "{event:#}");
        assert_eq!(event["outcome"], "0", "{event:#}");
        let is_disclosure = !disclosures(slice::from_ref(event)).is_empty();
        let names = |what: &str| event["entity"].to_string().contains(what);
        assert_eq!(names("\"Observation/w\""), is_disclosure, "{event:#}");
        told.push((is_disclosure, words.to_owned()));
    }
    told
}

/// A server with a patient and a subscription to their weights, to be sent to an origin.
async fn house_and_subscription(origin: String) -> (House, String) {
    let endpoint = format!("{origin}/hook");
    let house = house_to(origin).await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &endpoint, Some(PAYLOAD));
    let id = subscribed(&house, &house.token, &asked).await;
    (house, id)
}

fn disclosure(words: &str) -> (bool, String) {
    (true, words.to_owned())
}

fn note(words: &str) -> (bool, String) {
    (false, words.to_owned())
}

// Proves: 45 CFR 164.312(b)
// Proves: 42 CFR 2.25
#[tokio::test]
async fn what_goes_along_is_a_disclosure_in_the_audit_and_a_hint_is_none() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    put(&house, &patient("p")).await;
    for (criteria, payload) in [(WEIGHTS, Some(PAYLOAD)), ("Patient?name=Zyzzyva", None)] {
        let asked = subscription(criteria, &receiver.endpoint(), payload);
        subscribed(&house, &house.token, &asked).await;
    }
    put(&house, &patient("q")).await;
    put(&house, &weight("w", "q")).await;
    receiver.until(2).await;
    until_waiting(&house, 0).await;
    let events = events(&house, &officer).await;
    let disclosed = disclosures(&events);
    // The hint that there is a patient has nothing of them in it.
    assert_eq!(disclosed.len(), 1, "{disclosed:#?}");
    let event = disclosed[0];
    assert_eq!(balp::faults(event), Vec::<String>::new(), "{event:#}");
    let text = event.to_string();
    for part in [
        "\"Patient/q\"",
        "\"Observation/w\"",
        &format!("\"address\":\"{}\"", receiver.origin()),
        "notification sent",
    ] {
        assert!(text.contains(part), "{part} in {event:#}");
    }
    // A path may be a secret between the two.
    assert!(!text.contains("/hook"), "{event:#}");
    assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "TREAT");
    house.end().await;
}

/// What was asked for is decided with what the policy folder says of the purpose by now, and told so.
// Proves: 45 CFR 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn a_disclosure_has_the_purpose_that_it_was_decided_for() {
    let folder = policies::folder();
    let foo_bar = |display: &str| {
        let text = format!(
            "[[purpose]]\nsystem = 'urn:purposes'\ncode = 'FooBar'\ndisplay = '{display}'\nis = 'TREAT'\n"
        );
        policies::put(&folder, "purposes.toml", &text);
    };
    foo_bar("the first words");
    let receiver = Receiver::start().await;
    let house = house_with(|options| {
        options.policy_folder = Some(folder.path().to_owned());
        options.subscription_origins = receiver.origin();
    })
    .await;
    put(&house, &patient("p")).await;
    let (trust, by) = (house.server.trust(), Agent::system(TENANT, "command-line"));
    let set = trust.policy_set();
    let registered = Registered::parse_among(set.purposes(), "FooBar", Contract::Signed);
    let registered = registered.expect("purposes");
    let made = (trust.identity()).create_client_for(&by, "study", Role::Client, Some(&registered));
    let study = made.await.expect("a token");
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let sent = with(&house, &study, Method::POST, "Subscription", &asked);
    let sent = sent.header("x-purpose-of-use", "FooBar").send();
    let (status, body) = json_of(sent.await).await;
    assert_eq!(status, 201, "{body}");
    foo_bar("the second words");
    let is_new = || {
        let set = trust.policy_set();
        let own = set.purposes().own().find_map(trust::Purpose::own);
        own.is_some_and(|own| own.display() == "the second words")
    };
    let mut patience = super::Looks::new();
    while !is_new() {
        patience.wait("the purpose is not changed").await;
    }
    put(&house, &weight("w", "p")).await;
    receiver.until(1).await;
    until_waiting(&house, 0).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let events = events(&house, &officer).await;
    let told = disclosures(&events);
    assert_eq!(told.len(), 1, "{told:#?}");
    let words = &told[0]["purposeOfEvent"][0]["coding"][0]["display"];
    assert_eq!(words, "the second words", "{:#}", told[0]);
    house.end().await;
}

// Proves: 42 CFR 2.25
#[tokio::test]
async fn what_is_taken_and_answered_with_an_error_is_a_disclosure_each_time() {
    let receiver = Receiver::start().await;
    let (house, id) = house_and_subscription(receiver.origin()).await;
    receiver.answer(&[500, 503]);
    put(&house, &weight("w", "p")).await;
    assert_eq!(
        until_stands(&house, &id, "error").await,
        "the endpoint answered 500"
    );
    // After a day it is given up.
    house.clock.advance(DAY_MS + 1);
    until_stands(&house, &id, "off").await;
    until_waiting(&house, 0).await;
    assert_eq!(receiver.got().len(), 2);
    assert_eq!(
        told(&house).await,
        [
            note("not delivered: the subscription was turned off"),
            disclosure("sent, no receipt: the endpoint answered 503"),
            note("put off"),
            disclosure("sent, no receipt: the endpoint answered 500"),
        ]
    );
    house.end().await;
}

#[tokio::test]
async fn what_is_taken_before_the_connection_breaks_off_is_a_disclosure() {
    let endpoint = ByHand::start().await;
    let (house, id) = house_and_subscription(endpoint.origin()).await;
    put(&house, &weight("w", "p")).await;
    let taken = endpoint.taken().await;
    assert!(taken.text.starts_with("PUT /hook/Observation/w "));
    drop(taken);
    let broken = "the conversation with the endpoint broke off";
    assert_eq!(until_stands(&house, &id, "error").await, broken);
    house.clock.advance(60_000);
    endpoint.taken().await.answer(200).await;
    until_waiting(&house, 0).await;
    assert_eq!(
        told(&house).await,
        [
            disclosure("sent"),
            note("put off"),
            disclosure(&format!("sent, no receipt: {broken}")),
        ]
    );
    house.end().await;
}

#[tokio::test]
async fn what_nobody_listens_for_is_no_disclosure() {
    // A port that was free a moment ago.
    let origin = ByHand::start().await.origin();
    let (house, id) = house_and_subscription(origin).await;
    put(&house, &weight("w", "p")).await;
    assert_eq!(
        until_stands(&house, &id, "error").await,
        "the endpoint can't be reached"
    );
    assert_eq!(told(&house).await, [note("put off")]);
    house.end().await;
}

#[tokio::test]
async fn what_another_settles_meanwhile_is_a_disclosure_of_who_sent_it() {
    let endpoint = ByHand::start().await;
    let (house, _) = house_and_subscription(endpoint.origin()).await;
    put(&house, &weight("w", "p")).await;
    let taken = endpoint.taken().await;
    let ledger = house.server.ledger();
    let look = ledger.outbox_look(&[CHANNEL_HOOK], u64::MAX, 10).await;
    let mut settled = Commit::new(cairn::store::TENANT);
    settled.outbox_remove = vec![look.expect("the outbox").entries[0].key];
    ledger.commit(settled).await.expect("a commit");
    taken.answer(200).await;
    let mut patience = super::Looks::new();
    while told(&house).await.is_empty() {
        patience.wait("nothing is told").await;
    }
    assert_eq!(told(&house).await, [disclosure("sent")]);
    house.end().await;
}
