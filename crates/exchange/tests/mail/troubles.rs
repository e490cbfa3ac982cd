//! Servers that greylist, refuse, hang, break, or aren't there.

use std::time::Duration;

use exchange::{MailOptions, MailTls};
use serde_json::{Value, json};

use crate::patience::until;
use crate::peer::Peer;
use crate::world::{NOW_MS, World, assert_clean};

#[tokio::test]
async fn greylisted_mail_arrives_at_the_second_attempt() {
    let world = World::new().await;
    let peer = Peer::start(&[
        "--reply-to-recipient",
        "451 4.7.1 Greylisted, {address}",
        "--times",
        "1",
    ])
    .await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let first = world.outbox().await.remove(0);
    let running = world.run(world.options(peer.port));
    let found = world.wait_put_off(&patient, &id, 1).await;
    assert_clean(&found);
    let text = found["statusReason"]["text"].as_str().unwrap();
    assert!(
        text.contains("451") && text.contains("Next at 2026-10-26T"),
        "{text}"
    );
    let again = world.outbox().await.remove(0);
    assert_eq!((again.key.id, again.attempt), (first.key.id, 1));
    let pause_ms = again.key.due_ms - NOW_MS;
    assert!((48_000..=72_000).contains(&pause_ms), "{pause_ms} ms");
    assert!(peer.seen().is_empty());

    world.clock.set(again.key.due_ms - 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(peer.seen().is_empty(), "not before its time");
    world.clock.set(again.key.due_ms);
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(done.get("statusReason"), None);
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn permanent_refusals_end_the_message_at_once() {
    for arguments in [
        [
            "--reply-to-recipient",
            "550 5.1.1 <{address}>: no such user at peer.example",
        ],
        ["--reply-to-recipient", "552 5.2.2 <{address}> over quota"],
        [
            "--reply-to-content",
            "554 5.7.1 Looks like spam, ottilie.quandt@example.com",
        ],
    ] {
        let world = World::new().await;
        let peer = Peer::start(&arguments).await;
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        let running = world.run(world.options(peer.port));
        let done = world.wait_for(&patient, &id, "not-done").await;
        running.stop().await;
        assert_eq!(
            done["statusReason"]["coding"][0]["code"], "permanent-failure",
            "{arguments:?}"
        );
        assert!(
            done["statusReason"]["text"]
                .as_str()
                .unwrap()
                .contains(&arguments[1][..3]),
            "{done}"
        );
        assert_clean(&done);
        assert!(world.outbox().await.is_empty());
    }
}

#[tokio::test]
async fn a_wrong_password_or_a_refused_sender_is_not_the_patients_fault() {
    let world = World::new().await;
    let (certificate, key) = crate::peer::certificate(world.folder.path()).await;
    let (pem, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let peer = Peer::start(&[
        "--certificate",
        pem,
        "--key",
        key,
        "--auth",
        "cairn:open sesame",
    ])
    .await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        tls: MailTls::Starttls,
        credentials: Some(("cairn".to_owned(), "wrong".to_owned())),
        ca_file: Some(certificate),
        ..world.options(peer.port)
    });
    let found = world.wait_put_off(&patient, &id, 1).await;
    running.stop().await;
    assert!(
        found["statusReason"]["text"]
            .as_str()
            .unwrap()
            .contains("535 to the sign-in"),
        "{found}"
    );

    let peer = Peer::start(&["--reply-to-sender", "550 5.7.1 Sender not welcome"]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    world.wait_put_off(&patient, &id, 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_broken_connection_after_the_message_sends_it_again_under_the_same_id() {
    let world = World::new().await;
    let peer = Peer::start(&["--drop", "--times", "2"]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    for attempt in 1..=2 {
        let found = world.wait_put_off(&patient, &id, attempt).await;
        assert!(
            found["statusReason"]["text"]
                .as_str()
                .unwrap()
                .contains("may have arrived"),
            "{found}"
        );
        world.to_next_attempt().await;
    }
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let seen = peer.seen();
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter()
            .all(|mail| mail.message_id() == seen[0].message_id()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn silence_and_a_hang_end_with_the_time_out() {
    for (arguments, words, arrived) in [
        (&["--silent"][..], "no answer to the connection in time", 0),
        (&["--hang-after-data"][..], "may have arrived", 1),
    ] {
        let world = World::new().await;
        let peer = Peer::start(arguments).await;
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        let running = world.run(MailOptions {
            timeout_ms: 500,
            ..world.options(peer.port)
        });
        let found = world.wait_put_off(&patient, &id, 1).await;
        running.stop().await;
        assert!(
            found["statusReason"]["text"]
                .as_str()
                .unwrap()
                .contains(words),
            "{found}"
        );
        assert_eq!(peer.seen().len(), arrived);
    }
}

#[tokio::test]
async fn a_temporary_answer_to_the_message_is_tried_again() {
    let world = World::new().await;
    let peer = Peer::start(&[
        "--reply-to-content",
        "452 4.3.1 Out of room",
        "--times",
        "1",
    ])
    .await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    world.wait_put_off(&patient, &id, 1).await;
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let seen = peer.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].message_id(), seen[1].message_id());
}

#[tokio::test]
async fn attempts_run_out_and_so_does_worth() {
    let world = World::new().await;
    let peer = Peer::start(&["--reply-to-recipient", "450 4.2.1 Later"]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let short = world
        .queue(&patient, |message| {
            message.expires_ms = Some(NOW_MS + 30_000);
        })
        .await;
    let running = world.run(world.options(peer.port));
    let done = world.wait_for(&patient, &short, "not-done").await;
    assert_eq!(done["statusReason"]["coding"][0]["code"], "expired");
    for attempt in 1..20 {
        world.wait_put_off(&patient, &id, attempt).await;
        world.to_next_attempt().await;
    }
    let done = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(
        done["statusReason"]["coding"][0]["code"],
        "retries-exhausted"
    );
    assert!(
        done["statusReason"]["text"]
            .as_str()
            .unwrap()
            .contains("20 attempts"),
        "{done}"
    );
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn deliveries_pause_while_the_server_is_gone_and_go_on_when_it_is_back() {
    let world = World::new().await;
    // A port that nobody listens on: taken and given back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut queued = Vec::new();
    for _ in 0..20 {
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        queued.push((patient, id));
    }
    let running = world.run(world.options(port));
    until("five are tried", async || {
        let waiting = world.outbox().await;
        waiting.iter().filter(|entry| entry.attempt > 0).count() >= 5
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let tried = world
        .outbox()
        .await
        .iter()
        .filter(|entry| entry.attempt > 0)
        .count();
    // Five open the breaker; up to three more were under way.
    assert!(
        (5..=8).contains(&tried),
        "{tried} messages were tried on a server that is gone"
    );

    let peer = Peer::start(&["--port", &port.to_string()]).await;
    world.clock.advance(3_600_000);
    for (patient, id) in &queued {
        world.wait_for(patient, id, "completed").await;
    }
    running.stop().await;
    assert_eq!(peer.seen().len(), 20);
}

#[tokio::test]
async fn goes_on_after_a_crash_with_the_same_id() {
    let world = World::new().await;
    let peer = Peer::start(&["--hang-after-data", "--times", "1"]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    // The server has the message, the store doesn't know yet: the worst moment.
    peer.wait_for(1).await;
    running.kill().await;
    let world = world.reopen().await;
    assert_eq!(world.outbox().await.len(), 1);
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "preparation"
    );

    let running = world.run(world.options(peer.port));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let seen = peer.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].message_id(), seen[1].message_id());
    let world = world.reopen().await;
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn stopping_finishes_the_conversation_under_way() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    peer.wait_for(1).await;
    running.stop().await;
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "completed"
    );
}

#[tokio::test]
async fn a_change_to_the_communication_meanwhile_is_kept() {
    for (member, value) in [
        ("note", json!([{ "text": "Called too." }])),
        ("status", json!("stopped")),
    ] {
        let world = World::new().await;
        let peer = Peer::start(&["--delay-ms", "1000"]).await;
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        let running = world.run(world.options(peer.port));
        peer.wait_for(1).await;
        let mut changed = world.communication(&patient, &id).await;
        assert_eq!(changed["status"], "preparation");
        changed[member] = value;
        world.put(&patient, changed.clone()).await;
        // What has left has left, even if somebody called it off a moment before.
        let done = world.wait_for(&patient, &id, "completed").await;
        running.stop().await;
        let notes = |message: &Value| message["note"].as_array().cloned().unwrap_or_default();
        assert!(notes(&done).starts_with(&notes(&changed)), "{done}");
        assert_eq!(done["meta"]["versionId"], "3");
        assert_eq!(peer.seen().len(), 1);
        assert!(world.outbox().await.is_empty());
    }
}
