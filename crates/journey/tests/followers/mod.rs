//! Several processes that follow one feed: each patient is moved once, and the books of each say the
//! same.

use crate::world::{DAY, Mail, START, TENANT, World};
use journey::Journeys;
use serde_json::Value;
use trust::{Action, Role};

mod cost;
mod idle;
mod kept;

/// What a service's page says.
async fn page(world: &World, journeys: &Journeys) -> Value {
    page_of(world, journeys, "heart-failure-discharge").await
}

async fn page_of(world: &World, journeys: &Journeys, name: &str) -> Value {
    let permit = world.staff(Role::Squad, Action::Observe).await;
    let graph = journeys.graph(&permit, name, None).await.unwrap();
    serde_json::to_value(graph).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_followers_of_one_feed_move_each_patient_once_and_count_alike() {
    const PATIENTS: usize = 8;
    let world = World::new(Mail::Delivers).await;
    let other = Journeys::new(world.trust.clone());
    // Its books are opened before anybody moves, so that it has all to learn from the feed.
    page(&world, &other).await;
    let mut patients = Vec::new();
    for _ in 0..PATIENTS {
        patients.push(world.patient().await);
    }
    for days in 0..32 {
        if let Some(patient) = patients.get(days) {
            world.discharge(patient, 0).await;
        }
        world.clock.set(world.now().max(START + days as u64 * DAY));
        // Both go after the same events and timers; whoever comes second finds it done.
        let (one, two) = tokio::join!(world.journeys.drain(TENANT), other.drain(TENANT));
        let moves = one.unwrap() + two.unwrap();
        if days < PATIENTS {
            assert!(moves > 0, "day {days}");
        }
        world.drain().await;
    }
    other.drain(TENANT).await.unwrap();
    let by_one = page(&world, &world.journeys).await;
    let by_two = page(&world, &other).await;
    // Who counts from the store has it from neither.
    let from_store = page(&world, &Journeys::new(world.trust.clone())).await;
    assert_eq!(by_one, from_store);
    assert_eq!(by_two, from_store);
    let started = from_store["nodes"][0]["entered"].as_u64();
    assert_eq!(started, Some(PATIENTS as u64));
    // Nobody got a message twice.
    for patient in &patients {
        let mut messages = world.messages(patient).await;
        let all = messages.len();
        messages.sort_unstable();
        messages.dedup();
        assert_eq!(messages.len(), all, "{messages:?}");
    }
}
