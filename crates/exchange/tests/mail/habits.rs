//! Message centres with habits of their own: what they call messages, when they answer, and how they write numbers.

use std::time::Duration;

use serde_json::json;

use crate::centre::{Centre, DELIVERED, words};
use crate::smpp::{connected, is_stopped, until_done};
use crate::texts::{NUMBER, mobile, references, text};
use crate::world::World;

/// A centre that calls a message one thing in its answer and another in its receipt has it once all the same.
#[tokio::test]
async fn a_message_that_is_called_otherwise_in_its_receipt_is_there_once() {
    let (world, centre, running) = connected().await;
    for (stat, status) in [("UNDELIV", "not-done"), ("DELIVRD", "completed")] {
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        let message = centre.taken().pop().expect("a message");
        until_done(&world).await;
        let mut receipt = words(&message, "255", stat);
        receipt["user_message_reference"] = message["mark"].clone();
        for _ in 0..2 {
            assert_eq!(centre.bring(receipt.clone()).await, Some(0));
            let done = world.communication(&patient, &id).await;
            assert_eq!(done["status"], status, "{done}");
            assert_eq!(references(&done), [message["id"].as_str().expect("a name")]);
            assert!(!done["note"].to_string().contains("twice"), "{done}");
        }
    }
    running.stop().await;
}

/// Centres begin their names anew: what a receipt says besides tells whose it is, or that it is nobody's.
#[tokio::test]
async fn a_receipt_is_of_no_message_that_its_mark_or_number_contradicts() {
    let (world, centre, running) = connected().await;
    let mut all = Vec::new();
    for number in [NUMBER, "+16175550143"] {
        let patient = world.patient(&mobile(number)).await;
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        until_done(&world).await;
        all.push((patient, id, centre.taken().pop().expect("a message")));
    }
    let (patient, id, message) = &all[0];
    let (other, others, newer) = &all[1];
    let status =
        async |patient: &str, id: &str| world.communication(patient, id).await["status"].clone();
    // Of somebody else, by number and mark.
    let name = message["id"].as_str().expect("a name");
    let mut stranger = words(
        &json!({"to": "16175550199", "from": "16175550100"}),
        name,
        "DELIVRD",
    );
    stranger["user_message_reference"] = json!(message["mark"].as_u64().expect("a mark") ^ 1);
    assert_eq!(centre.bring(stranger).await, Some(0));
    assert_eq!(status(patient, id).await, "in-progress");
    // Two are called the same, and nothing but the number says which it is.
    let mut found = world.communication(other, others).await;
    for identifier in found["identifier"].as_array_mut().expect("identifiers") {
        if identifier["system"] == trust::conventions::SMS_SYSTEM {
            identifier["value"] = json!(name);
        }
    }
    world.put(other, found).await;
    assert_eq!(centre.bring(words(message, name, "DELIVRD")).await, Some(0));
    assert_eq!(status(patient, id).await, "completed");
    assert_eq!(status(other, others).await, "in-progress");
    assert_eq!(centre.bring(words(newer, name, "UNDELIV")).await, Some(0));
    assert_eq!(status(other, others).await, "not-done");
    running.stop().await;
}

/// Whatever a centre calls a message that it takes, it has taken it.
#[tokio::test]
async fn a_message_that_is_taken_by_a_strange_name_is_handed_over_once() {
    let (world, centre, running) = connected().await;
    for name in ["".to_owned(), "a|b".to_owned(), "x".repeat(65)] {
        centre.next(json!([{ "name": name }])).await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        let message = centre.taken().pop().expect("a message");
        until_done(&world).await;
        let told = if name.is_empty() {
            centre.receipt(&message, DELIVERED).await
        } else {
            centre.bring(words(&message, &name, "DELIVRD")).await
        };
        assert_eq!(told, Some(0));
        let done = world.communication(&patient, &id).await;
        assert_eq!(done["status"], "completed", "{name}: {done}");
        assert_eq!(references(&done).len(), 1, "{done}");
    }
    running.stop().await;
    assert_eq!(centre.taken().len(), 3);
}

/// An answer that comes when nobody waits for it any more still says that the message was taken.
#[tokio::test]
async fn a_message_whose_answer_is_late_is_handed_over_once() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let running = world.run_texts(centre.options_with(|smpp| smpp.timeout_ms = 300));
    centre.next(json!(["hold"])).await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    world.wait_put_off(&patient, &id, 1).await;
    centre.does(json!({ "release": true })).await;
    let taken = world.wait_for(&patient, &id, "in-progress").await;
    let message = centre.taken().pop().expect("a message");
    assert_eq!(
        references(&taken),
        [message["id"].as_str().expect("a name")]
    );
    let due_ms = world.outbox().await[0].key.due_ms;
    world.clock.set(due_ms);
    until_done(&world).await;
    running.stop().await;
    assert_eq!(centre.taken().len(), 1);
}

/// What waits for its turn is asked about when it has it.
#[tokio::test]
async fn what_is_called_off_while_the_window_is_full_does_not_leave() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let first = world.patient(&mobile(NUMBER)).await;
    world.queue(&first, text).await;
    centre.next(json!(["hold"])).await;
    let running = world.run_texts(centre.options_with(|smpp| smpp.window = 1));
    centre.wait_for(1).await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut found = world.communication(&patient, &id).await;
    found["status"] = json!("stopped");
    world.put(&patient, found).await;
    centre.does(json!({ "release": true })).await;
    until_done(&world).await;
    running.stop().await;
    assert_eq!(centre.taken().len(), 1);
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "stopped"
    );
}

/// A STOP of what may be two numbers is of both, and nothing else is of either.
#[tokio::test]
async fn a_stop_of_a_number_without_its_type_is_of_all_that_it_may_be() {
    let (world, centre, running) = connected().await;
    let says = async |word: &str| {
        let what =
            json!({ "source_addr": "3232345678", "source_addr_ton": 0, "short_message": word });
        centre.bring(what).await
    };
    for word in ["STOP", "START"] {
        assert_eq!(says(word).await, Some(0));
        for number in ["+13232345678", "+3232345678"] {
            assert!(is_stopped(&world, number).await, "{word} {number}");
        }
    }
    running.stop().await;
    assert!(centre.taken().is_empty(), "nobody is answered");
}
