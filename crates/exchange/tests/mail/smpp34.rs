//! Text messages by SMPP to another message centre that nobody here wrote: what one library takes for granted, another
//! may not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::centre::{Centre, DELIVERED, EXPIRED, UNDELIVERABLE, words};
use crate::patience::Patience;
use crate::smpp::{PLAIN, goes_on_to, is_stopped, saying, until_done};
use crate::texts::{NUMBER, assert_clean, mobile, references, text};
use crate::world::World;

/// What leaves, as this library reads it, and what its receipts make of it.
#[tokio::test]
async fn texts_and_receipts_are_the_same_to_another_library() {
    let (world, centre) = (World::new().await, Centre::start_smpp34("p", None).await);
    let running = world.run_texts(centre.options());
    centre.bound(1).await;
    let long = format!("News. {} {{link}}", "Please read it soon. ".repeat(8));
    for (words, coding, payload, state, status) in [
        ("News for you: {link}", 0, false, DELIVERED, "completed"),
        ("Новости 😀: {link}", 8, true, UNDELIVERABLE, "not-done"),
        (long.as_str(), 0, true, EXPIRED, "not-done"),
    ] {
        let patient = world.patient(&mobile("(617) 555-0142")).await;
        let id = world.queue(&patient, saying(words)).await;
        let taken = world.wait_for(&patient, &id, "in-progress").await;
        let message = centre.taken().pop().expect("a message");
        let link = format!("https://portal.example/portal/inbox/{id}");
        assert_eq!(message["text"], words.replace("{link}", &link));
        for (name, expected) in [
            ("to", json!(PLAIN)),
            ("from", json!("16175550100")),
            ("ton", json!(1)),
            ("source_ton", json!(1)),
            ("coding", json!(coding)),
            ("payload", json!(payload)),
            ("receipts", json!(1)),
        ] {
            assert_eq!(message[name], expected, "{name} of {words}");
        }
        let name = message["id"].as_str().expect("a name");
        assert_eq!(references(&taken), [name]);
        assert_eq!(centre.receipt(&message, state).await, Some(0));
        let done = world.communication(&patient, &id).await;
        assert_eq!(done["status"], status, "{done}");
        assert_clean(&done);
    }
    // By words alone, and what somebody sends.
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "in-progress").await;
    let message = centre.taken().pop().expect("a message");
    let name = message["id"].as_str().expect("a name");
    let receipt = words(&message, name, "DELIVRD");
    assert_eq!(centre.bring(receipt).await, Some(0));
    let done = world.communication(&patient, &id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(centre.text(PLAIN, "STOP").await, Some(0));
    assert!(is_stopped(&world, NUMBER).await);
    let reply = centre.wait_for(5).await.remove(4);
    let said = reply["text"].as_str().expect("a text");
    assert!(said.contains("START"), "{said}");
    running.stop().await;
    centre.unbound(1).await;
    assert!(world.outbox().await.is_empty());
}

/// Told to send fewer, and that its queue is full, by another library: each waits, and leaves once.
#[tokio::test]
async fn what_another_library_throttles_waits_and_leaves_once() {
    let (world, centre) = (World::new().await, Centre::start_smpp34("p", None).await);
    let running = world.run_texts(centre.options());
    centre.bound(1).await;
    centre.next(json!([0x58, 0x14, 0x58])).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let patient = world.patient(&mobile(NUMBER)).await;
        all.push((patient.clone(), world.queue(&patient, text).await));
    }
    let mut patience = Patience::new();
    loop {
        let mut why = Vec::new();
        for (patient, id) in &all {
            why.push(world.communication(patient, id).await["statusReason"]["text"].clone());
        }
        if why.iter().any(|why| told(why, "0x00000058")) {
            break;
        }
        patience
            .wait(&format!("none is told to wait: {why:?}"))
            .await;
    }
    for (patient, id) in &all {
        goes_on_to(&world, patient, id, "in-progress").await;
    }
    until_done(&world).await;
    running.stop().await;
    let taken = centre.taken();
    assert_eq!(taken.len(), 3, "what was refused is none that it has");
    let texts: BTreeSet<String> = taken.iter().map(|one| one["text"].to_string()).collect();
    assert_eq!(texts.len(), 3, "each is a message of its own");
}

fn told(why: &Value, what: &str) -> bool {
    why.as_str().is_some_and(|why| why.contains(what))
}

/// Its session is ended by a good-bye, and by SIGKILL with a message that it took and didn't answer: it is called again,
/// the message comes again under the same mark, and both receipts are of the one message.
#[tokio::test]
async fn a_centre_that_is_killed_is_called_again_and_what_it_has_twice_is_known() {
    let (world, centre) = (World::new().await, Centre::start_smpp34("p", None).await);
    let running = world.run_texts(centre.options());
    centre.bound(1).await;
    centre.does(json!({ "unbind": true })).await;
    centre.bound(2).await;
    let patient = world.patient(&mobile(NUMBER)).await;
    centre.next(json!(["hang"])).await;
    let id = world.queue(&patient, text).await;
    let first = centre.wait_for(1).await.remove(0);
    let port = centre.port();
    centre.kill().await;
    let off = world.wait_put_off(&patient, &id, 1).await;
    assert!(
        told(&off["statusReason"]["text"], "may have taken it"),
        "{off}"
    );
    let centre = Centre::start_smpp34("q", Some(port)).await;
    centre.bound(1).await;
    let taken = goes_on_to(&world, &patient, &id, "in-progress").await;
    let second = centre.taken().pop().expect("a message");
    assert!(first["mark"].is_u64(), "{first}");
    assert_eq!(first["mark"], second["mark"], "a repeat is known by it");
    assert_eq!(references(&taken).len(), 1, "the first has no name yet");
    for message in [&second, &first] {
        assert_eq!(centre.receipt(message, DELIVERED).await, Some(0));
    }
    let done = world.communication(&patient, &id).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(references(&done).len(), 2, "{done}");
    let notes = done["note"].to_string();
    assert!(notes.contains("The provider has it twice"), "{notes}");
    running.stop().await;
    assert_eq!(centre.taken().len(), 1);
    assert!(world.outbox().await.is_empty());
}
