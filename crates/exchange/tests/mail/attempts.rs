//! What is written of each attempt and receipt, for programs: what came of it, why, and when it is tried again.

use fhir::Resource;
use serde_json::Value;
use trust::attempts::{Attempted, Did, attempts};

use crate::peer::Peer;
use crate::provider::Provider;
use crate::texts::{mobile, text};
use crate::world::{NOW_MS, World};

/// The attempts and receipts of a message.
pub fn of(communication: &Value) -> Vec<Attempted> {
    attempts(&Resource::from_value(communication.clone()).expect("a message"))
}

/// What came of them.
pub fn dids(communication: &Value) -> Vec<Did> {
    of(communication).iter().map(|one| one.did).collect()
}

#[tokio::test]
async fn each_attempt_at_an_e_mail_is_written_down() {
    let world = World::new().await;
    let reply = "451 4.7.1 Greylisted, {address}";
    let peer = Peer::start(&["--reply-to-recipient", reply, "--times", "2"]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    world.wait_put_off(&patient, &id, 1).await;
    world.to_next_attempt().await;
    let twice = world.wait_put_off(&patient, &id, 2).await;
    let next_ms = world.outbox().await[0].key.due_ms;
    world.to_next_attempt().await;
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(dids(&twice), [Did::PutOff, Did::PutOff]);
    assert_eq!(dids(&done), [Did::PutOff, Did::PutOff, Did::HandedOver]);
    let lines = of(&done);
    assert_eq!(
        (lines[0].at_ms, lines[1].next_ms, lines[2].at_ms),
        (NOW_MS, Some(next_ms), next_ms)
    );
    assert!(lines[0].words.starts_with("Attempt 1 put off: "));
    assert!(lines[1].words.contains("451"), "{:?}", lines[1]);
    let shown = done["note"].to_string();
    for detail in ["Greylisted", "@", "example.com", "uandt"] {
        assert!(!shown.contains(detail), "{detail} in {shown}");
    }
}

#[tokio::test]
async fn what_is_not_sent_says_why() {
    let world = World::new().await;
    let peer = Peer::start(&["--reply-to-recipient", "550 5.1.1 no such user {address}"]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    let done = world.wait_for(&patient, &id, "not-done").await;
    world.consent(&patient, "inactive").await;
    let denied = world.queue(&patient, |_| {}).await;
    let denied = world.wait_for(&patient, &denied, "not-done").await;
    running.stop().await;
    for (message, reason) in [(&done, "permanent-failure"), (&denied, "consent")] {
        let [line] = &of(message)[..] else {
            panic!("one attempt: {message}");
        };
        assert_eq!(
            (line.did, line.reason.as_deref()),
            (Did::NotSent, Some(reason))
        );
        assert_eq!(
            Some(line.words.as_str()),
            message["statusReason"]["text"].as_str()
        );
    }
}

#[tokio::test]
async fn each_receipt_of_a_text_is_written_down() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile("(617) 555-0142")).await;
    let options = provider.options();
    let door = world.door(&options);
    let running = world.run_texts(options);
    for (receipt, error, status, did, reason) in [
        ("delivered", None, "completed", Did::Arrived, None),
        (
            "undelivered",
            Some("30003"),
            "not-done",
            Did::Returned,
            Some("permanent-failure"),
        ),
    ] {
        let before = provider.taken().len();
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        let message = provider.taken().remove(before);
        let told = provider.receipt(&door, &message, receipt, error).await;
        told.expect("noted");
        let done = world.wait_for(&patient, &id, status).await;
        assert_eq!(dids(&done), [Did::HandedOver, did], "{done}");
        let last = of(&done).pop().expect("a receipt");
        assert_eq!(last.reason.as_deref(), reason);
        crate::texts::assert_clean(&done);
    }
    running.stop().await;
}
