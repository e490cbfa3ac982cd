//! A journey that goes on for years costs each day what it cost on its first days: what is asked of the store, what is
//! written to it, and how large the patient's place is, don't grow with what lies behind.

use crate::world::{DAY, Mail, World};
use std::collections::BTreeMap;
use trust::{Action, Purpose, kinds};

const ROUNDS: &str = "name: heart-failure-discharge
title: A pause each day
owner: Team
purpose: TREAT
at_most: 900d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: daily
steps:
  daily:
    title: Each day
    repeat: {body: pause, times: 800, pause: 23h}
    next: end
  pause: {title: A pause, wait: {for: 1h}, next: end}
";

/// What so many days ask of the store, and how many bytes the patient's place has after each, at most.
async fn days(world: &World, instance: &str, days: u64) -> (BTreeMap<&'static str, u64>, usize) {
    let permit = (world.part(
        "journey-engine",
        Purpose::CareManagement,
        Action::Orchestrate,
    ))
    .await;
    let (mut asked, mut largest) = (BTreeMap::new(), 0);
    for _ in 0..days {
        let before = world.odd.asked.so_far();
        world.pass(DAY).await;
        for (what, count) in world.odd.asked.so_far() {
            *asked.entry(what).or_default() += count - before.get(what).copied().unwrap_or(0);
        }
        let place = (world.trust.vault())
            .internal(&permit, kinds::JOURNEY_INSTANCE, instance)
            .await
            .unwrap()
            .unwrap();
        largest = largest.max(place.body.len());
    }
    (asked, largest)
}

#[tokio::test]
async fn the_seven_hundredth_day_costs_what_the_seventieth_did() {
    // In this time whole pieces of the history leave the patient's place, three lines a day.
    const PERIOD: u64 = 64;
    let world = World::with(Mail::Delivers, ROUNDS).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let instance = world.view(&patient).await.id;
    world.pass(PERIOD * DAY).await;
    let (early, early_bytes) = days(&world, &instance, PERIOD).await;
    world.pass(8 * PERIOD * DAY).await;
    let (late, late_bytes) = days(&world, &instance, PERIOD).await;

    let view = world.view(&patient).await;
    let rounds = (view.trail.iter()).filter(|line| line.what.contains("ound"));
    assert!(
        rounds.count() > 600,
        "it is gone through, and all of it is shown"
    );
    assert!(early.values().sum::<u64>() > PERIOD, "{early:?}");
    for (what, count) in &late {
        let before = early.get(what).copied().unwrap_or(0);
        assert!(
            *count <= before + before / 50 + 2,
            "{what}: {before} times in the first days, {count} in the last"
        );
    }
    // Numbers of rounds and events have more digits than they had.
    assert!(
        late_bytes <= early_bytes + early_bytes / 20,
        "{early_bytes} bytes, and {late_bytes} later"
    );
}
