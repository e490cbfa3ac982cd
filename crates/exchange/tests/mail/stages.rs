//! Servers that hang or break off at each stage of a conversation, and a deliverer that is killed again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use exchange::MailOptions;

use crate::peer::Peer;
use crate::world::World;

#[tokio::test]
async fn a_server_that_hangs_at_any_stage_costs_one_time_out_and_no_message() {
    for stage in ["hello", "sender", "recipient", "data"] {
        let world = World::new().await;
        let peer = Peer::start(&["--hang-at", stage, "--times", "1"]).await;
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        let running = world.run(MailOptions {
            timeout_ms: 700,
            ..world.options(peer.port)
        });
        let found = world.wait_put_off(&patient, &id, 1).await;
        let words = found["statusReason"]["text"].as_str().unwrap_or_default();
        assert!(words.contains("in time"), "{stage}: {words}");
        assert!(!words.contains("may have arrived"), "{stage}: {words}");
        world.to_next_attempt().await;
        world.wait_for(&patient, &id, "completed").await;
        running.stop().await;
        assert_eq!(peer.seen().len(), 1, "{stage}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_stage_costs_no_message() {
    for stage in ["hello", "sender", "recipient", "data"] {
        let world = World::new().await;
        let peer = Peer::start(&["--close-at", stage, "--times", "1"]).await;
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        let running = world.run(world.options(peer.port));
        world.wait_put_off(&patient, &id, 1).await;
        world.to_next_attempt().await;
        world.wait_for(&patient, &id, "completed").await;
        running.stop().await;
        assert_eq!(peer.seen().len(), 1, "{stage}");
    }
}

/// How often each message was seen, by its `Message-ID`.
fn counted(peer: &Peer) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for mail in peer.seen() {
        *counted.entry(mail.message_id().to_owned()).or_default() += 1;
    }
    counted
}

#[tokio::test]
async fn killed_again_and_again_it_loses_none_and_doubles_show_by_their_id() {
    const MESSAGES: usize = 40;
    const KILLS: usize = 8;
    let mut world = World::new().await;
    // Slow enough that some are under way whenever it is killed.
    let peer = Peer::start(&["--delay-ms", "120"]).await;
    let mut queued = Vec::new();
    for _ in 0..MESSAGES {
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        queued.push((patient, id));
    }
    for kill in 0..KILLS {
        let running = world.run(world.options(peer.port));
        tokio::time::sleep(Duration::from_millis(150 + 37 * kill as u64)).await;
        running.kill().await;
        world = world.reopen().await;
    }
    let running = world.run(world.options(peer.port));
    for (patient, id) in &queued {
        world.wait_for(patient, id, "completed").await;
    }
    running.stop().await;
    let counted = counted(&peer);
    assert_eq!(counted.len(), MESSAGES, "each was seen");
    let seen: usize = counted.values().sum();
    let doubles = seen - MESSAGES;
    // Each kill can double what was under way then, and no more than that.
    let most = KILLS * world.options(peer.port).parallel;
    assert!(doubles <= most, "{doubles} of at most {most}");
    assert!(
        doubles > 0,
        "nothing was under way when it was killed, so this proves nothing"
    );
    println!("{MESSAGES} messages, {KILLS} kills, {doubles} doubles");
    assert!(world.outbox().await.is_empty());
}
