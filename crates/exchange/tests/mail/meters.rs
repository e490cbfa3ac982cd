//! How many a second a mail server and a push service get, and what each message cost.

use std::time::Duration;

use exchange::{Meter, Price};
use serde_json::{Value, json};
use tokio::time::Instant;
use trust::costs::MESSAGE_COST_URL;

use crate::peer::Peer;
use crate::push::{browsers, push};
use crate::pusher::Pusher;
use crate::world::World;

fn meter() -> Meter {
    Meter {
        price: Price::parse("0.0004", "USD"),
        per_second: Some(5),
    }
}

/// What a message says that it cost.
fn costs(communication: &Value) -> Vec<&Value> {
    let extensions = communication["extension"].as_array().into_iter().flatten();
    let costs = extensions.filter(|one| one["url"] == MESSAGE_COST_URL);
    costs.map(|one| &one["valueMoney"]).collect()
}

#[tokio::test]
async fn a_mail_server_gets_no_more_in_a_second_and_each_mail_has_its_price() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(world.queue(&patient, |_| {}).await);
    }
    let mut options = world.options(peer.port);
    options.meter = meter();
    let began = Instant::now();
    let running = world.run(options);
    for id in &ids {
        let done = world.wait_for(&patient, id, "completed").await;
        let price = json!({ "value": 0.0004, "currency": "USD" });
        assert_eq!(costs(&done), [&price], "{done}");
    }
    let took = began.elapsed();
    // Five pauses of a fifth of a second at the least.
    assert!(took >= Duration::from_millis(1_000), "{took:?}");
    // What doesn't leave costs nothing.
    world.consent(&patient, "inactive").await;
    let denied = world.queue(&patient, |_| {}).await;
    let denied = world.wait_for(&patient, &denied, "not-done").await;
    assert!(costs(&denied).is_empty());
    running.stop().await;
    assert_eq!(peer.seen().len(), 6);
}

#[tokio::test]
async fn a_push_service_gets_no_more_in_a_second_and_a_message_has_one_price() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    let _own = browsers(&world, &pusher, &patient, 2).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.queue(&patient, push).await);
    }
    let mut options = pusher.options();
    options.meter = meter();
    let began = Instant::now();
    let running = world.run_push(options);
    for id in &ids {
        let done = world.wait_for(&patient, id, "completed").await;
        // Two devices, and one message.
        assert_eq!(costs(&done).len(), 1, "{done}");
    }
    let took = began.elapsed();
    running.stop().await;
    assert!(took >= Duration::from_millis(1_000), "{took:?}");
    assert_eq!(pusher.heard().len(), 6);
}

/// Where no price is configured, a message says nothing of one: that is not the same as nothing.
#[tokio::test]
async fn without_a_price_a_message_says_nothing_of_one() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert!(costs(&done).is_empty(), "{done}");
}
