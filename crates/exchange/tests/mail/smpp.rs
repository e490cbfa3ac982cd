//! Text messages by SMPP, to a message centre that nobody here wrote.

use std::collections::HashMap;
use std::time::Duration;

use exchange::{DeliveredWhen, MessageIds, SmsOptions, SmsProvider};
use serde_json::{Value, json};
use trust::conventions::SMS_SEGMENTS_URL;
use trust::outgoing::Message;

use crate::centre::{Centre, DELIVERED, EXPIRED, UNDELIVERABLE, unhex, words};
use crate::patience::Patience;
use crate::texts::{NUMBER, assert_clean, mobile, references, text};
use crate::world::{Running, TENANT, World};

/// The same number as a centre writes it.
pub const PLAIN: &str = "16175550142";

/// A world, a centre, and a session between them.
pub async fn connected() -> (World, Centre, Running) {
    let (world, centre) = (World::new().await, Centre::start().await);
    let running = world.run_texts(centre.options());
    centre.bound(1).await;
    (world, centre, running)
}

pub fn saying(words: &str) -> impl FnOnce(&mut Message) + use<> {
    let words = words.to_owned();
    move |message: &mut Message| {
        text(message);
        message.text = words;
    }
}

pub async fn until_done(world: &World) {
    let mut patience = Patience::new();
    while !world.outbox().await.is_empty() {
        patience.wait("the entry is done with").await;
    }
}

/// Goes on to the next attempt until a message has this status.
pub async fn goes_on_to(world: &World, patient: &str, id: &str, status: &str) -> Value {
    let mut patience = Patience::new();
    loop {
        let found = world.communication(patient, id).await;
        if found["status"] == status {
            return found;
        }
        let due_ms = world.outbox().await.iter().map(|one| one.key.due_ms).max();
        let now_ms = world.trust.vault().ledger().clock().now_ms();
        if let Some(due_ms) = due_ms.filter(|due_ms| *due_ms > now_ms) {
            world.clock.set(due_ms);
        }
        patience.wait(&format!("no {status}: {found}")).await;
    }
}

pub async fn is_stopped(world: &World, number: &str) -> bool {
    let number = trust::sms::Number::parse(number, None).expect("a number");
    let found = world.trust.vault().is_stopped(TENANT, &number).await;
    found.expect("known")
}

/// What leaves, octet for octet as the centre has it, and what a receipt makes of it.
#[tokio::test]
async fn texts_go_out_by_one_session_and_receipts_come_back_by_it() {
    let (world, centre, running) = connected().await;
    let long = format!(
        "News for you. {} {{link}}",
        "Please read it soon. ".repeat(8)
    );
    for (words, coding, segments, state, status) in [
        ("News for you: {link}", 0, 1, DELIVERED, "completed"),
        (
            "{link} costs 3 € [_@~] à Ç",
            0,
            1,
            UNDELIVERABLE,
            "not-done",
        ),
        ("Новости 😀: {link}", 8, 2, DELIVERED, "completed"),
        (long.as_str(), 0, 2, EXPIRED, "not-done"),
    ] {
        let patient = world.patient(&mobile("(617) 555-0142")).await;
        let id = world.queue(&patient, saying(words)).await;
        let taken = world.wait_for(&patient, &id, "in-progress").await;
        let message = centre.taken().pop().expect("a message");
        let link = format!("https://portal.example/portal/inbox/{id}");
        let text = words.replace("{link}", &link);
        assert_eq!(message["text"], text.as_str());
        assert_eq!(
            (&message["to"], &message["from"]),
            (&json!(PLAIN), &json!("16175550100"))
        );
        assert_eq!(
            (&message["ton"], &message["source_ton"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(
            (&message["coding"], &message["receipts"]),
            (&json!(coding), &json!(1))
        );
        assert_eq!(message["payload"], segments > 1, "{words}");
        let (_, octets) = trust::sms::octets(&text);
        let whole = unhex(message["octets"].as_str().expect("octets"));
        let at = whole.windows(octets.len()).position(|part| part == octets);
        assert!(at.is_some(), "{words}");
        assert_eq!(
            references(&taken),
            [message["id"].as_str().expect("a name")]
        );
        let extension = &taken["extension"][0];
        assert_eq!(extension["url"], SMS_SEGMENTS_URL);
        assert_eq!(extension["valuePositiveInt"], segments, "{words}");
        // It is answered after it was written down.
        assert_eq!(centre.receipt(&message, state).await, Some(0));
        let done = world.communication(&patient, &id).await;
        assert_eq!(done["status"], status, "{done}");
        if status == "not-done" {
            let reason = &done["statusReason"];
            assert_eq!(reason["coding"][0]["code"], "permanent-failure");
            assert!(reason.to_string().contains("error 34"), "{reason}");
        }
        assert_clean(&done);
        // Brought again it is the same.
        assert_eq!(centre.receipt(&message, state).await, Some(0));
        assert_eq!(world.communication(&patient, &id).await, done);
    }
    assert!(world.outbox().await.is_empty());
    running.stop().await;
    // It says when it goes.
    centre.unbound(1).await;
}

/// Centres write receipts in their own ways.
#[tokio::test]
async fn receipts_are_known_however_a_centre_writes_them() {
    let (world, centre, running) = connected().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let sent = async || {
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        (id, centre.taken().pop().expect("a message"))
    };
    let status = async |id: &str| world.communication(&patient, id).await["status"].clone();
    // By words alone.
    let (id, message) = sent().await;
    let name = message["id"].as_str().expect("a name").to_owned();
    for (stat, expected) in [("ACCEPTD", "in-progress"), ("DELIVRD", "completed")] {
        let receipt = words(&message, &name, stat);
        assert_eq!(centre.bring(receipt).await, Some(0));
        assert_eq!(status(&id).await, expected);
    }
    // By parameters alone, with nothing that says that it is none of a person's.
    let (id, message) = sent().await;
    let receipt = json!({
        "source_addr": message["to"], "destination_addr": message["from"], "short_message": "",
        "receipted_message_id": message["id"], "message_state": DELIVERED
    });
    assert_eq!(centre.bring(receipt).await, Some(0));
    assert_eq!(status(&id).await, "completed");
    // By the other command that has them.
    let (id, message) = sent().await;
    let receipt = json!({
        "esm_class": 4, "source_addr": message["to"], "destination_addr": message["from"],
        "receipted_message_id": message["id"], "message_state": UNDELIVERABLE
    });
    assert_eq!(centre.data(receipt).await, Some(0));
    assert_eq!(status(&id).await, "not-done");
    // What names nothing of ours is answered, so that it doesn't come for ever, and so is what says nothing.
    let stranger = words(
        &json!({"to": "16175550199", "from": "16175550100"}),
        "m777",
        "DELIVRD",
    );
    assert_eq!(centre.bring(stranger).await, Some(0));
    let nothing = json!({ "esm_class": 4, "source_addr": PLAIN, "short_message": "hello" });
    assert_eq!(centre.bring(nothing).await, Some(0));
    running.stop().await;
}

/// Some say in hexadecimal digits in the answer what they say in decimal ones in receipts.
#[tokio::test]
async fn a_name_in_other_digits_is_the_same_where_that_is_configured() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let options = centre.options_with(|smpp| smpp.message_ids = MessageIds::DecimalThenHex);
    let running = world.run_texts(options);
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "in-progress").await;
    // The centre of the tests calls them m000000001, which is no number and stays as it is.
    let message = centre.taken().pop().expect("a message");
    let mut found = world.communication(&patient, &id).await;
    for identifier in found["identifier"].as_array_mut().expect("identifiers") {
        if identifier["system"] == trust::conventions::SMS_SYSTEM {
            identifier["value"] = json!("255");
        }
    }
    world.put(&patient, found).await;
    assert_eq!(
        centre.bring(words(&message, "000000FF", "DELIVRD")).await,
        Some(0)
    );
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "completed"
    );
    running.stop().await;
}

/// Where a provider tells nothing later, nothing is asked for.
#[tokio::test]
async fn what_counts_as_delivered_when_taken_asks_for_no_receipt() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let mut options = centre.options();
    options.delivered_when = DeliveredWhen::Taken;
    let running = world.run_texts(options);
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "completed").await;
    assert_eq!(centre.taken()[0]["receipts"], 0);
    running.stop().await;
}

/// A centre that wants fewer is left alone, and the message loses no attempt.
#[tokio::test]
async fn what_is_throttled_waits_and_is_delivered() {
    let (world, centre, running) = connected().await;
    centre.next(json!([0x58, 0x14])).await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let mut patience = Patience::new();
    loop {
        let found = world.communication(&patient, &id).await;
        let why = found["statusReason"]["text"].as_str().unwrap_or_default();
        if why.contains("0x00000058") {
            break;
        }
        patience.wait("it is told to wait").await;
    }
    let entry = world.outbox().await.pop().expect("an entry");
    assert_eq!(entry.attempt, 0);
    let kept: Message = serde_json::from_slice(&entry.body).expect("a message");
    assert_eq!(kept.unanswered, 0, "it was answered");
    goes_on_to(&world, &patient, &id, "in-progress").await;
    running.stop().await;
    assert_eq!(centre.taken().len(), 1);
}

/// What a refusal means: some are about the message, some about the moment, and some are ours.
#[tokio::test]
async fn refusals_end_a_message_or_put_it_off() {
    let (world, centre, running) = connected().await;
    for (status, ends) in [
        (0x0B, true),
        (0x01, true),
        (0x08, false),
        (0x0A, false),
        (0xC1, false),
    ] {
        centre.next(json!([status])).await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        if ends {
            let ended = world.wait_for(&patient, &id, "not-done").await;
            assert_eq!(
                ended["statusReason"]["coding"][0]["code"],
                "permanent-failure"
            );
        } else {
            let off = world.wait_put_off(&patient, &id, 1).await;
            assert_eq!(off["statusReason"].get("coding"), None, "{off}");
            goes_on_to(&world, &patient, &id, "in-progress").await;
        }
    }
    running.stop().await;
    assert_eq!(centre.taken().len(), 3);
}

/// The connection breaks: while nothing is said, before a message is taken, and after. Nothing is lost, and what may have
/// come twice is known.
#[tokio::test]
async fn a_broken_connection_loses_nothing_and_a_repeat_is_known() {
    let (world, centre, running) = connected().await;
    centre.does(json!({ "drop": true })).await;
    centre.bound(2).await;
    let mut all = Vec::new();
    for plan in ["drop", "take_and_drop"] {
        centre.next(json!([plan])).await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        let off = world.wait_put_off(&patient, &id, 1).await;
        let why = off["statusReason"]["text"].as_str().expect("words");
        assert!(why.contains("may have taken it"), "{off}");
        goes_on_to(&world, &patient, &id, "in-progress").await;
        all.push((patient, id));
    }
    let messages = centre.taken();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(messages[1]["mark"], messages[2]["mark"]);
    for message in &messages {
        assert_eq!(centre.receipt(message, DELIVERED).await, Some(0));
    }
    for ((patient, id), count) in all.iter().zip([1, 2]) {
        let done = world.communication(patient, id).await;
        assert_eq!(done["status"], "completed");
        assert_eq!(references(&done).len(), count, "{done}");
        let notes = done["note"].to_string();
        assert_eq!(
            notes.contains("The provider has it twice"),
            count == 2,
            "{notes}"
        );
    }
    running.stop().await;
}

/// A text of which no answer ever comes is handed over three times and no more.
#[tokio::test]
async fn what_is_never_answered_is_handed_over_three_times() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let running = world.run_texts(centre.options_with(|smpp| smpp.timeout_ms = 300));
    centre
        .next(json!(["take_and_hang", "take_and_hang", "take_and_hang"]))
        .await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let ended = goes_on_to(&world, &patient, &id, "not-done").await;
    assert_eq!(ended["statusReason"]["coding"][0]["code"], "no-receipt");
    running.stop().await;
    assert_eq!(centre.taken().len(), 3);
    assert!(world.outbox().await.is_empty());
}

/// A receipt may come before the answer that it is about, and before what that says is written down.
#[tokio::test]
async fn a_receipt_that_comes_before_the_answer_is_kept() {
    let (world, centre, running) = connected().await;
    for plan in ["receipt_beside", "receipt_first"] {
        centre.next(json!([plan])).await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        let done = world.wait_for(&patient, &id, "completed").await;
        until_done(&world).await;
        let done = match references(&done).len() {
            1 => world.communication(&patient, &id).await,
            _ => done,
        };
        assert_eq!(done["status"], "completed");
        assert_eq!(references(&done).len(), 1, "{plan}: {done}");
    }
    assert_eq!(centre.taken().len(), 2);
    running.stop().await;
}

/// Killed after the centre took it; its receipt comes to the next process. It is known by its number and its mark, and
/// nothing is handed over again.
#[tokio::test]
async fn a_receipt_after_a_kill_is_known_by_the_mark_of_its_message() {
    let mut world = World::new().await;
    let centre = Centre::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    // Others of the patient, and of others, are not taken for it.
    let others = world.queue_for(&patient, 3_600_000, text).await;
    let stranger = world.patient(&mobile("+16175550143")).await;
    let strangers = world.queue_for(&stranger, 3_600_000, text).await;
    let id = world.queue(&patient, text).await;
    centre.next(json!(["take_and_hang"])).await;
    let running = world.run_texts(centre.options());
    let message = centre.wait_for(1).await.remove(0);
    running.kill().await;
    world = world.reopen().await;
    // It is put off once more, so that its receipt comes before it is handed over again.
    centre.next(json!([0x58])).await;
    let running = world.run_texts(centre.options());
    let mut patience = Patience::new();
    while world
        .communication(&patient, &id)
        .await
        .get("statusReason")
        .is_none()
    {
        patience.wait("it is put off").await;
    }
    assert_eq!(centre.receipt(&message, DELIVERED).await, Some(0));
    let done = world.communication(&patient, &id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(references(&done), [message["id"].as_str().expect("a name")]);
    for (patient, id) in [(&patient, &others), (&stranger, &strangers)] {
        assert_eq!(
            world.communication(patient, id).await["status"],
            "preparation"
        );
    }
    world.clock.set(crate::world::NOW_MS + 60_000);
    let mut patience = Patience::new();
    while world.outbox().await.len() > 2 {
        patience.wait("the message is done with").await;
    }
    // Without a mark nothing is known of it.
    let mut bare = words(&message, "m888", "DELIVRD");
    bare["receipted_message_id"] = json!("m888");
    assert_eq!(centre.bring(bare).await, Some(0));
    running.stop().await;
    assert_eq!(centre.taken().len(), 1);
}

/// Killed and restarted in the middle, again and again: each message arrives, and each that was handed over twice is known.
#[tokio::test]
async fn nothing_is_lost_when_the_server_is_killed_in_the_middle() {
    const COUNT: usize = 30;
    let mut world = World::new().await;
    let centre = Centre::start().await;
    let mut all = Vec::new();
    for number in 0..COUNT {
        let patient = world
            .patient(&mobile(&format!("+161755501{number:02}")))
            .await;
        all.push((patient.clone(), world.queue(&patient, text).await));
    }
    for taken in [4, 11, 19] {
        // Some are taken, and the answer is on its way when the process ends.
        centre
            .next(json!(["take_and_hang", 0, 0, "take_and_hang"]))
            .await;
        let running = world.run_texts(centre.options());
        centre.wait_for(taken).await;
        running.kill().await;
        world = world.reopen().await;
    }
    let running = world.run_texts(centre.options());
    centre.bound(4).await;
    // All that it took, it tells of, some of it before it is handed over again.
    let mut told = 0;
    let mut patience = Patience::new();
    loop {
        let taken = centre.taken();
        for message in &taken[told..] {
            assert_eq!(centre.receipt(message, DELIVERED).await, Some(0));
        }
        told = taken.len();
        if world.outbox().await.is_empty() && centre.taken().len() == told {
            break;
        }
        patience.wait("all are handed over").await;
    }
    running.stop().await;
    let mut times: HashMap<String, usize> = HashMap::new();
    for message in centre.taken() {
        let text = message["text"].as_str().expect("a text").to_owned();
        *times.entry(text).or_default() += 1;
    }
    assert_eq!(times.len(), COUNT, "none is lost");
    let mut twice = 0;
    for (patient, id) in &all {
        let done = world.communication(patient, id).await;
        assert_eq!(done["status"], "completed", "{done}");
        let text = times.iter().find(|(text, _)| text.contains(id));
        let (_, count) = text.expect("it was handed over");
        assert_eq!(references(&done).len(), *count, "{done}");
        let notes = done["note"].to_string();
        let again = notes.matches("twice").count() + notes.matches("again").count();
        assert!(*count == 1 || again >= 1, "{notes}");
        twice += count - 1;
    }
    assert_eq!(centre.taken().len(), COUNT + twice);
}

/// What people send, in the order in which they send it.
#[tokio::test]
async fn stop_start_and_help_are_heard_by_the_session() {
    let (world, centre, running) = connected().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    assert_eq!(centre.text(PLAIN, "Stop").await, Some(0));
    // It is answered after it was written down, and brought again it is the same.
    assert!(is_stopped(&world, NUMBER).await);
    assert_eq!(centre.text(PLAIN, "Stop").await, Some(0));
    let replies = centre.wait_for(2).await;
    for reply in &replies {
        assert_eq!(reply["to"], PLAIN);
        assert!(
            reply["text"].as_str().expect("a text").contains("START"),
            "{reply}"
        );
        assert_eq!(
            (&reply["receipts"], &reply["mark"]),
            (&json!(0), &Value::Null)
        );
    }
    let id = world.queue(&patient, text).await;
    let ended = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(ended["statusReason"]["coding"][0]["code"], "preference");
    assert_eq!(centre.text(PLAIN, "What is this?").await, Some(0));
    assert_eq!(
        centre.wait_for(3).await[2]["text"],
        "Nobody reads this number."
    );
    assert_eq!(centre.text(PLAIN, "START").await, Some(0));
    assert!(!is_stopped(&world, NUMBER).await);
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "in-progress").await;
    // Other alphabets, and a payload.
    let other = json!({ "source_addr": "16175550144", "source_addr_ton": 1, "short_message": "", "message_payload": "ARRÊT", "data_coding": 8 });
    assert_eq!(centre.bring(other).await, Some(0));
    assert!(is_stopped(&world, "+16175550144").await);
    // The second part of a longer text is no word, and neither is what is no number.
    let part = json!({ "source_addr": "16175550145", "source_addr_ton": 1, "sar_msg_ref_num": 7, "sar_total_segments": 2, "sar_segment_seqnum": 2, "short_message": "stop" });
    assert_eq!(centre.bring(part).await, Some(0));
    assert!(!is_stopped(&world, "+16175550145").await);
    let machine =
        json!({ "source_addr": "NORTHBANK", "source_addr_ton": 5, "short_message": "STOP" });
    assert_eq!(centre.bring(machine).await, Some(0));
    running.stop().await;
}

/// STOP and START that come at once are one after the other.
#[tokio::test]
async fn what_comes_at_once_is_taken_in_its_order() {
    let (world, centre, running) = connected().await;
    for _ in 0..10 {
        for (words, stopped) in [
            (["STOP", "START", "STOP", "START"], false),
            (["START", "STOP", "START", "STOP"], true),
        ] {
            let all = words.map(
                |word| json!({ "source_addr": PLAIN, "source_addr_ton": 1, "short_message": word }),
            );
            assert_eq!(centre.burst(&all).await, Some(0));
            assert_eq!(is_stopped(&world, NUMBER).await, stopped);
        }
    }
    running.stop().await;
}

/// What can't be written down has no answer that it is, and is brought again.
#[tokio::test]
async fn what_cannot_be_written_down_is_brought_again() {
    let (world, centre, running) = connected().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "in-progress").await;
    let message = centre.taken().pop().expect("a message");
    until_done(&world).await;
    world.trust.vault().ledger().close().await.expect("closed");
    assert_eq!(centre.receipt(&message, DELIVERED).await, Some(0x64));
    // What people send gets no answer, nor what is behind it, and the session ends: all of it comes again in its order.
    centre.does(json!({ "shut": true })).await;
    let all = ["STOP", "START"]
        .map(|word| json!({ "source_addr": PLAIN, "source_addr_ton": 1, "short_message": word }));
    assert_eq!(centre.burst(&all).await, None);
    assert_eq!(centre.unbinds(), 1);
    running.kill().await;
    let world = world.reopen().await;
    centre.does(json!({ "shut": false })).await;
    assert!(!is_stopped(&world, NUMBER).await);
    let running = world.run_texts(centre.options());
    centre.bound(2).await;
    assert_eq!(centre.receipt(&message, DELIVERED).await, Some(0));
    assert_eq!(centre.text(PLAIN, "STOP").await, Some(0));
    assert!(is_stopped(&world, NUMBER).await);
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "completed"
    );
    running.stop().await;
}

/// One that is silent is taken for gone, and called again.
#[tokio::test]
async fn a_silent_centre_is_called_again() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let running = world.run_texts(centre.options_with(|smpp| {
        (smpp.enquire_ms, smpp.timeout_ms) = (200, 300);
    }));
    centre.bound(1).await;
    // One that answers is left as it is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(centre.binds(), 1);
    centre.does(json!({ "mute": true })).await;
    centre.bound(2).await;
    centre.does(json!({ "mute": false })).await;
    // So is one that says that it goes.
    centre.does(json!({ "unbind": true })).await;
    centre.bound(3).await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    goes_on_to(&world, &patient, &id, "in-progress").await;
    running.stop().await;
}

/// One that refuses us leaves messages where they are, and they leave once it doesn't.
#[tokio::test]
async fn messages_wait_for_a_centre_that_refuses_us() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let running = world.run_texts(centre.options_with(|smpp| smpp.password = "wrong".to_owned()));
    let off = world.wait_put_off(&patient, &id, 1).await;
    let why = off["statusReason"]["text"].as_str().expect("words");
    assert!(why.contains("no session"), "{off}");
    centre.refused(2).await;
    running.stop().await;
    centre.does(json!({ "shut": true })).await;
    let running = world.run_texts(centre.options());
    centre.refused(4).await;
    centre.does(json!({ "shut": false })).await;
    centre.bound(1).await;
    goes_on_to(&world, &patient, &id, "in-progress").await;
    running.stop().await;
    assert_eq!(centre.taken().len(), 1);
}

/// A server that ends waits for the answers of what is under way, and says then that it goes.
#[tokio::test]
async fn a_server_that_ends_waits_for_its_answers() {
    let (world, centre, running) = connected().await;
    centre.next(json!(["hold"])).await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    centre.wait_for(1).await;
    let released = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        centre.does(json!({ "release": true })).await;
    };
    tokio::join!(running.stop(), released);
    centre.unbound(1).await;
    let taken = world.communication(&patient, &id).await;
    assert_eq!(taken["status"], "in-progress", "{taken}");
    assert!(world.outbox().await.is_empty());
}

/// No more messages wait for their answers than the window says, and all of them leave.
#[tokio::test]
async fn no_more_are_under_way_than_the_window_lets() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let mut options = centre.options_with(|smpp| smpp.window = 2);
    options.parallel = 6;
    let mut all = Vec::new();
    for _ in 0..6 {
        let patient = world.patient(&mobile(NUMBER)).await;
        all.push((patient.clone(), world.queue(&patient, text).await));
    }
    centre.next(json!(["hold", "hold"])).await;
    let running = world.run_texts(options);
    centre.wait_for(2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(centre.taken().len(), 2);
    centre.does(json!({ "release": true })).await;
    for (patient, id) in &all {
        world.wait_for(patient, id, "in-progress").await;
    }
    running.stop().await;
    let most = centre
        .taken()
        .iter()
        .filter_map(|one| one["most"].as_u64())
        .max();
    assert_eq!(most, Some(2));
}

/// What makes no sense is told so where that can be told, and what comes behind it is heard.
#[tokio::test]
async fn what_makes_no_sense_keeps_nothing_behind_it() {
    let (world, centre, running) = connected().await;
    // A command that is none, an answer to nothing, and a message that is cut short.
    for raw in [
        "00000010000000fe0000000000000007",
        "00000010800000040000000000000063",
        "00000013000000050000000000000008000101",
    ] {
        centre.does(json!({ "raw": raw })).await;
    }
    assert_eq!(centre.text(PLAIN, "STOP").await, Some(0));
    assert!(is_stopped(&world, NUMBER).await);
    let told = |octets: &[u8]| centre.octets().iter().any(|one| one == octets);
    assert!(
        told(&unhex("00000010800000000000000300000007")),
        "a refusal"
    );
    assert!(
        told(&unhex("00000010800000050000006500000008")),
        "a refusal"
    );
    // A length that can't be one ends the session, and the next is another.
    centre.does(json!({ "raw": "ffffffff" })).await;
    centre.bound(2).await;
    assert_eq!(centre.text(PLAIN, "START").await, Some(0));
    running.stop().await;
}

/// Nothing of a patient but the number is in anything that is sent.
#[tokio::test]
async fn nothing_of_a_patient_is_in_any_command() {
    let (world, centre, running) = connected().await;
    let patient = world.patient(&mobile("(617) 555-0142")).await;
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "in-progress").await;
    let message = centre.taken().pop().expect("a message");
    centre.receipt(&message, DELIVERED).await;
    centre.text(PLAIN, "Who is this?").await;
    centre.wait_for(2).await;
    // Words that hold something of the patient are not handed over.
    let named = world.queue(&patient, saying("Dear Ottilie: {link}")).await;
    let ended = world.wait_for(&patient, &named, "not-done").await;
    assert_eq!(ended["statusReason"]["coding"][0]["code"], "phi-guard");
    running.stop().await;
    let planted = [
        "Ottilie",
        "Quandt",
        "1941-03-07",
        "0081277",
        "Alder",
        "Ashbrook",
        "01991",
        "quandt",
        &patient,
        "heart",
        "welcome",
        "Who is this",
    ];
    let mut is_seen = false;
    for octets in centre.octets() {
        let shown: String = octets.iter().copied().map(char::from).collect();
        // In each alphabet that a text may be in.
        let wide: String = octets
            .iter()
            .filter(|one| **one != 0)
            .copied()
            .map(char::from)
            .collect();
        is_seen |= shown.contains(PLAIN);
        for detail in planted {
            assert!(
                !shown.contains(detail) && !wide.contains(detail),
                "{detail} in {shown}"
            );
        }
    }
    assert!(is_seen, "the commands were looked at");
}

/// By TLS: to whom a certificate says it is, and to nobody else.
#[tokio::test]
async fn a_session_by_tls_is_with_whom_its_certificate_names() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let openssl = |arguments: &str| {
        let made = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder.path())
            .output()
            .expect("openssl is installed (scripts/test installs it)");
        assert!(made.status.success(), "{made:?}");
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    for name in ["ours", "other"] {
        openssl(&format!(
            "{new} -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }
    openssl(&format!(
        "{new} -subj /CN=centre -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost -CA ours.pem -CAkey ours.key -keyout centre.key -out centre.pem"
    ));
    let [key, certificate, file, other] =
        ["centre.key", "centre.pem", "ours.pem", "other.pem"].map(|name| folder.path().join(name));
    let centre = Centre::start_as("cairn", &[&key, &certificate]).await;
    let options = |host: &str, authority: &std::path::Path| {
        centre.options_with(|smpp| {
            smpp.host = host.to_owned();
            smpp.tls = true;
            smpp.ca_file = Some(authority.to_owned());
        })
    };
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let mut attempt = 0;
    for (host, authority) in [("localhost", &other), ("127.0.0.1", &file)] {
        attempt += 1;
        let running = world.run_texts(options(host, authority));
        let off = world.wait_put_off(&patient, &id, attempt).await;
        let why = off["statusReason"]["text"].as_str().expect("words");
        assert!(why.contains("no session"), "{off}");
        running.stop().await;
        world.to_next_attempt().await;
    }
    assert!(centre.octets().is_empty(), "nothing was said to it");
    let running = world.run_texts(options("localhost", &file));
    centre.bound(1).await;
    goes_on_to(&world, &patient, &id, "in-progress").await;
    let message = centre.taken().pop().expect("a message");
    assert_eq!(centre.receipt(&message, DELIVERED).await, Some(0));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    centre.unbound(1).await;
}

/// Each organisation has an account of its own: what comes by its session is of nobody else.
#[tokio::test]
async fn two_organisations_hear_nothing_of_each_other() {
    let (ours, theirs) = (World::new().await, World::new().await);
    let (north, south) = (Centre::start().await, Centre::start_as("south", &[]).await);
    let options = south.options_with(|smpp| {
        smpp.system_id = "south".to_owned();
        smpp.from = "+16175550177".to_owned();
    });
    let running = [ours.run_texts(north.options()), theirs.run_texts(options)];
    let mut all = Vec::new();
    for (world, centre, from) in [
        (&ours, &north, "16175550100"),
        (&theirs, &south, "16175550177"),
    ] {
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        let message = centre.taken().pop().expect("a message");
        assert_eq!(message["from"], from);
        all.push((patient, id, message));
    }
    // Both are called the same by their providers, and went to the same number.
    assert_eq!(all[0].2["id"], all[1].2["id"]);
    assert_eq!(north.receipt(&all[0].2, DELIVERED).await, Some(0));
    assert_eq!(north.text(PLAIN, "STOP").await, Some(0));
    let (patient, id, _) = &all[0];
    assert_eq!(ours.communication(patient, id).await["status"], "completed");
    let (patient, id, _) = &all[1];
    assert_eq!(
        theirs.communication(patient, id).await["status"],
        "in-progress"
    );
    assert!(is_stopped(&ours, NUMBER).await && !is_stopped(&theirs, NUMBER).await);
    for one in running {
        one.stop().await;
    }
}

/// Its parts keep to the pace together with all others: a second's worth in a second.
#[tokio::test]
async fn no_more_leave_in_a_second_than_the_provider_takes() {
    let (world, centre) = (World::new().await, Centre::start().await);
    let mut options: SmsOptions = centre.options();
    options.per_second = 5;
    assert!(matches!(options.provider, SmsProvider::Smpp(_)));
    let mut all = Vec::new();
    for _ in 0..6 {
        let patient = world.patient(&mobile(NUMBER)).await;
        all.push((patient.clone(), world.queue(&patient, text).await));
    }
    let began = tokio::time::Instant::now();
    let running = world.run_texts(options);
    for (patient, id) in &all {
        world.wait_for(patient, id, "in-progress").await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1_000));
    running.stop().await;
    assert_eq!(centre.taken().len(), 6);
}
