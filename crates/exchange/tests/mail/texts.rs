//! Text messages: what leaves, what is asked again before it does, what comes back.

use exchange::{Told, Unheard};
use serde_json::{Value, json};
use trust::conventions::{NOT_WANTED_EXTENSION, SMS_COST_URL, SMS_SEGMENTS_URL, SMS_SYSTEM};
use trust::outgoing::Message;

use crate::provider::{BASE, Provider, owned};
use crate::world::{NOW_MS, World};

const NUMBER: &str = "+16175550142";

/// A message as a journey puts it out, without words of its own.
fn text(message: &mut Message) {
    message.channel = "sms".to_owned();
    message.subject = String::new();
    message.text = "There is a new message for you from your care team: {link}".to_owned();
}

/// A telephone that somebody carries with them.
fn mobile(value: &str) -> [(&'static str, Value); 1] {
    let phone = json!({ "system": "phone", "use": "mobile", "value": value });
    [("telecom", json!([phone]))]
}

/// What the provider calls a message, of each time that it was handed over.
fn references(communication: &Value) -> Vec<&str> {
    let identifiers = communication["identifier"].as_array();
    let identifiers = identifiers.into_iter().flatten();
    identifiers
        .filter(|one| one["system"] == SMS_SYSTEM)
        .filter_map(|one| one["value"].as_str())
        .collect()
}

/// Nothing of the number is in what is written of an attempt.
fn assert_clean(communication: &Value) {
    let shown = communication.to_string();
    for detail in ["5550142", "555-0142", "uandt", "not to our liking"] {
        assert!(!shown.contains(detail), "{detail} in {shown}");
    }
}

#[tokio::test]
async fn a_text_leaves_with_its_link_and_its_receipt_completes_it() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile("(617) 555-0142")).await;
    world.consent(&patient, "active").await;
    let id = world.queue(&patient, text).await;
    let options = provider.options();
    let door = world.door(&options);
    let running = world.run_texts(options);
    let taken = world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    assert!(world.outbox().await.is_empty());
    let messages = provider.taken();
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(
        (&message["To"], &message["From"]),
        (&json!(NUMBER), &json!("+16175550100"))
    );
    assert_eq!(
        message["Body"],
        format!(
            "There is a new message for you from your care team: https://portal.example/portal/inbox/{id}"
        )
    );
    assert_eq!(
        message["StatusCallback"],
        format!("{BASE}/channels/sms/status/{id}")
    );
    assert_eq!(references(&taken), [message["sid"].as_str().unwrap()]);
    assert_eq!(taken["sent"], fhir::date::instant(NOW_MS));
    assert_eq!(
        taken["extension"],
        json!([
            { "url": SMS_SEGMENTS_URL, "valuePositiveInt": 1 },
            { "url": SMS_COST_URL, "valueMoney": { "value": 0.0079, "currency": "USD" } }
        ])
    );
    assert_clean(&taken);

    provider
        .receipt(&door, message, "sent", None)
        .await
        .expect("noted");
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "in-progress"
    );
    provider
        .receipt(&door, message, "delivered", None)
        .await
        .expect("noted");
    let done = world.wait_for(&patient, &id, "completed").await;
    assert_eq!(done["note"].as_array().unwrap().len(), 2, "{done}");
    // Told twice, and out of order, it says the same.
    for status in ["delivered", "sent", "queued"] {
        provider
            .receipt(&door, message, status, None)
            .await
            .expect("noted");
    }
    assert_eq!(world.communication(&patient, &id).await, done);
    assert_clean(&done);
}

#[tokio::test]
async fn receipts_that_nobody_signed_change_nothing() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let before = world.communication(&patient, &id).await;
    let door = world.door(&provider.options());
    let path = format!("/channels/sms/status/{id}");
    let form = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    let good = provider.sign(&path, &form).await;
    let other = provider.sign("/channels/sms/status/x", &form).await;
    let altered = [("MessageSid", "SM1"), ("MessageStatus", "failed")];
    let more = [
        ("MessageSid", "SM1"),
        ("MessageStatus", "delivered"),
        ("A", "b"),
    ];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let cases: [Case<'_>; 6] = [
        ("none", &form, None),
        ("empty", &form, Some("")),
        ("no signature", &form, Some("bm90IGEgc2lnbmF0dXJlIQ==")),
        ("of another message", &form, Some(&other)),
        ("of another status", &altered, Some(&good)),
        ("with more in it", &more, Some(&good)),
    ];
    for (what, form, signature) in cases {
        let members = owned(form);
        let told = Told {
            path: &path,
            members: &members,
            signature,
            request_id: "test",
        };
        let outcome = door.receipt(&id, &told).await;
        assert!(
            matches!(outcome, Err(Unheard::Forged)),
            "{what}: {outcome:?}"
        );
        assert!(
            matches!(door.heard(&told).await, Err(Unheard::Forged)),
            "{what}"
        );
    }
    assert_eq!(world.communication(&patient, &id).await, before);
    // And what is signed, but of a message that isn't there, or says nothing.
    let asked = |id: String, form: Vec<(&'static str, &'static str)>| {
        let (door, provider) = (&door, &provider);
        async move {
            let path = format!("/channels/sms/status/{id}");
            let signature = provider.sign(&path, &form).await;
            let members = owned(&form);
            let told = Told {
                path: &path,
                members: &members,
                signature: Some(&signature),
                request_id: "test",
            };
            door.receipt(&id, &told).await
        }
    };
    let unknown = asked("nobody".to_owned(), form.to_vec()).await;
    assert!(matches!(unknown, Err(Unheard::Unknown)), "{unknown:?}");
    let nothing = asked(id.clone(), vec![("MessageSid", "SM1")]).await;
    assert!(matches!(nothing, Err(Unheard::Malformed)), "{nothing:?}");
    let strange = asked(id, vec![("MessageSid", "SM 1<"), ("MessageStatus", "sent")]).await;
    assert!(matches!(strange, Err(Unheard::Malformed)), "{strange:?}");
}

/// Withdrawn consent, a STOP, death, a choice in the portal and words with patient details stop what is queued already.
#[tokio::test]
async fn what_changed_since_it_was_queued_is_asked_again() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let options = provider.options();
    let door = world.door(&options);
    let mut queued = Vec::new();
    for (place, (why, words)) in [
        ("consent", "See {link}"),
        ("preference", "See {link}"),
        ("preference", "See {link}"),
        ("deceased", "See {link}"),
        ("no-address", "See {link}"),
        ("phi-guard", "Dear Mrs Quandt, see {link}"),
        ("phi-guard", "Born 1941-03-07: {link}"),
        ("phi-guard", "We called 617 555 0147: {link}"),
        ("expired", "See {link}"),
        ("", "See {link}"),
    ]
    .into_iter()
    .enumerate()
    {
        let patient = world
            .patient(&mobile(&format!("+1 617 555 014{place}")))
            .await;
        world.consent(&patient, "active").await;
        let id = world
            .queue(&patient, |message| {
                text(message);
                message.text = words.to_owned();
                message.expires_ms = (why == "expired").then_some(NOW_MS - 1);
            })
            .await;
        queued.push((patient, id, why));
    }
    // What is said later counts.
    world.clock.set(NOW_MS + 1_000);
    world.consent(&queued[0].0, "inactive").await;
    let reply = provider.bring(&door, "+16175550141", "Stop").await;
    assert!(reply.is_some_and(|reply| reply.contains("START")));
    let mut chosen = world.record(&queued[2].0).await;
    chosen["telecom"][0]["extension"] =
        json!([{ "url": NOT_WANTED_EXTENSION, "valueBoolean": true }]);
    world.put(&queued[2].0, chosen).await;
    let mut dead = world.record(&queued[3].0).await;
    dead["deceasedBoolean"] = json!(true);
    world.put(&queued[3].0, dead).await;
    let mut home = world.record(&queued[4].0).await;
    home["telecom"][0]["use"] = json!("home");
    world.put(&queued[4].0, home).await;

    let running = world.run_texts(options);
    for (patient, id, why) in &queued {
        if why.is_empty() {
            world.wait_for(patient, id, "in-progress").await;
            continue;
        }
        let ended = world.wait_for(patient, id, "not-done").await;
        assert_eq!(ended["statusReason"]["coding"][0]["code"], *why, "{ended}");
        assert_clean(&ended);
    }
    running.stop().await;
    let taken = provider.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0]["To"], "+16175550149");
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn refusals_end_a_message_or_put_it_off() {
    let world = World::new().await;
    let provider = Provider::start().await;
    for (answer, code) in [
        (json!({"status": 400, "code": 21211}), "permanent-failure"),
        (json!({"status": 400, "code": 21614}), "permanent-failure"),
        (json!({"status": 400, "code": 21610}), "preference"),
    ] {
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        provider.next(json!([answer])).await;
        let running = world.run_texts(provider.options());
        let ended = world.wait_for(&patient, &id, "not-done").await;
        running.stop().await;
        assert_eq!(ended["statusReason"]["coding"][0]["code"], code, "{ended}");
        assert_clean(&ended);
    }
    for answer in [
        json!({"status": 400, "code": 21606}),
        json!({"status": 401, "code": 20003}),
        json!({"status": 503}),
        json!({"drop": true}),
    ] {
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        provider.next(json!([answer])).await;
        let running = world.run_texts(provider.options());
        let off = world.wait_put_off(&patient, &id, 1).await;
        assert_clean(&off);
        world.to_next_attempt().await;
        world.wait_for(&patient, &id, "in-progress").await;
        running.stop().await;
    }
}

/// A provider that wants fewer is left alone for as long as it says, and the message has lost no attempt by it.
#[tokio::test]
async fn a_provider_that_wants_fewer_is_left_alone() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    provider
        .next(json!([{"status": 429, "code": 20429, "retry_after": 90}, {"status": 429, "code": 20429}]))
        .await;
    let running = world.run_texts(provider.options());
    let off = world.wait_put_off(&patient, &id, 0).await;
    assert!(
        off["statusReason"]["text"]
            .as_str()
            .unwrap()
            .contains("429"),
        "{off}"
    );
    let due = world.outbox().await[0].key.due_ms;
    assert_eq!(due, NOW_MS + 90_000);
    world.to_next_attempt().await;
    let mut patience = crate::patience::Patience::new();
    while world.outbox().await[0].key.due_ms == due {
        patience.wait("it is put off again").await;
    }
    assert_eq!(world.outbox().await[0].attempt, 0);
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    assert_eq!(provider.taken().len(), 1);
}

#[tokio::test]
async fn what_does_not_arrive_is_told_by_its_receipt() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let options = provider.options();
    let door = world.door(&options);
    let running = world.run_texts(options);
    for (status, error, code) in [
        ("undelivered", "30003", "permanent-failure"),
        ("failed", "30008", "permanent-failure"),
        ("undelivered", "21610", "preference"),
    ] {
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        world.wait_for(&patient, &id, "in-progress").await;
        let message = provider.taken().pop().expect("a message");
        provider
            .receipt(&door, &message, status, Some(error))
            .await
            .expect("noted");
        let ended = world.wait_for(&patient, &id, "not-done").await;
        assert_eq!(ended["statusReason"]["coding"][0]["code"], code, "{ended}");
        assert!(
            ended["statusReason"]["text"]
                .as_str()
                .unwrap()
                .contains(error)
        );
        assert_clean(&ended);
    }
    running.stop().await;
}

/// The process ends after the provider has a message and before that is written down. Nothing is lost; whoever gets it
/// twice is known, because the message is known by two names then.
#[tokio::test]
async fn killed_after_the_provider_took_it_nothing_is_lost_and_a_repeat_is_known() {
    let mut world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    provider.next(json!([{"take_and_hang": true}])).await;
    let running = world.run_texts(provider.options());
    provider.wait_for(1).await;
    running.kill().await;
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "preparation"
    );
    world = world.reopen().await;
    let door = world.door(&provider.options());
    let running = world.run_texts(provider.options());
    let taken = world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    let messages = provider.taken();
    assert_eq!(messages.len(), 2, "handed over again");
    assert_eq!(references(&taken), [messages[1]["sid"].as_str().unwrap()]);
    // Each names the same message, and each has a name of its own.
    assert_eq!(messages[0]["StatusCallback"], messages[1]["StatusCallback"]);
    for message in &messages {
        provider
            .receipt(&door, message, "delivered", None)
            .await
            .expect("noted");
    }
    let done = world.communication(&patient, &id).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(references(&done).len(), 2, "{done}");
    let notes = done["note"].to_string();
    assert!(notes.contains("The provider has it twice"), "{notes}");
    assert_clean(&done);
}

/// The receipt is quicker than we were: then nothing is handed over again.
#[tokio::test]
async fn a_receipt_that_comes_before_we_wrote_it_down_keeps_it_from_going_out_twice() {
    for status in ["sent", "delivered", "undelivered"] {
        let mut world = World::new().await;
        let provider = Provider::start().await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        provider.next(json!([{"take_and_hang": true}])).await;
        let running = world.run_texts(provider.options());
        let message = provider.wait_for(1).await.remove(0);
        running.kill().await;
        world = world.reopen().await;
        let door = world.door(&provider.options());
        provider
            .receipt(&door, &message, status, None)
            .await
            .expect("noted");
        let before = world.communication(&patient, &id).await;
        let running = world.run_texts(provider.options());
        let mut patience = crate::patience::Patience::new();
        while !world.outbox().await.is_empty() {
            patience.wait("the entry is done with").await;
        }
        running.stop().await;
        assert_eq!(provider.taken().len(), 1, "{status}");
        let after = world.communication(&patient, &id).await;
        assert_eq!(after["status"], before["status"], "{status}");
        assert_eq!(references(&after), [message["sid"].as_str().unwrap()]);
    }
}

#[tokio::test]
async fn an_answer_that_never_came_is_tried_again() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    provider.next(json!([{"take_and_drop": true}])).await;
    let running = world.run_texts(provider.options());
    let off = world.wait_put_off(&patient, &id, 1).await;
    assert!(
        off["statusReason"]["text"]
            .as_str()
            .unwrap()
            .contains("may have taken it"),
        "{off}"
    );
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    assert_eq!(provider.taken().len(), 2);
}

#[tokio::test]
async fn stop_and_start_are_the_preference_of_everybody_with_the_number() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let sms = |value: &str| json!([{ "system": "sms", "value": value }]);
    let forms = [
        "+16175550142",
        "617-555-0142",
        "(617) 555-0142",
        "1.617.555.0142",
        "+1/617/5550142",
    ];
    let mut theirs = Vec::new();
    for form in forms {
        theirs.push(world.patient(&[("telecom", sms(form))]).await);
        theirs.push(world.patient(&mobile(form)).await);
    }
    // The same last digits in another place, and nobody's.
    let other = world.patient(&[("telecom", sms("+12125550142"))]).await;
    let home = world
        .patient(&[(
            "telecom",
            json!([{ "system": "phone", "use": "home", "value": NUMBER }]),
        )])
        .await;
    let untouched = [world.record(&other).await, world.record(&home).await];
    let wants = |record: &Value| {
        let record = fhir::Resource::from_value(record.clone()).expect("a patient");
        let texts = trust::consent::texts(&record, i64::try_from(NOW_MS).unwrap());
        texts.iter().any(|one| one.wanted)
    };
    let stopped = provider.bring(&door, NUMBER, " STOP. ").await;
    assert_eq!(
        stopped.as_deref(),
        Some("You will get no more text messages from us. Send START to get them again.")
    );
    for patient in &theirs {
        assert!(!wants(&world.record(patient).await), "{patient}");
    }
    // What is said of calls stands.
    let phone = world.record(&theirs[1]).await;
    assert_eq!(phone["telecom"][0]["system"], "phone");
    assert_eq!(phone["telecom"][0].get("extension"), None);
    // Said again, nothing is written.
    let version = phone["meta"]["versionId"].clone();
    provider.bring(&door, NUMBER, "unsubscribe").await;
    assert_eq!(world.record(&theirs[1]).await["meta"]["versionId"], version);
    let started = provider.bring(&door, NUMBER, "start").await;
    assert!(started.is_some_and(|reply| reply.contains("STOP")));
    for patient in &theirs {
        assert!(wants(&world.record(patient).await), "{patient}");
    }
    assert_eq!(
        [world.record(&other).await, world.record(&home).await],
        untouched
    );
}

#[tokio::test]
async fn everybody_is_told_the_same_and_nothing_is_kept() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let before = world.record(&patient).await;
    let help = Some("Nobody reads this number.".to_owned());
    for from in [NUMBER, "+12125550199"] {
        for text in ["HELP", "info", "I have pain in my chest", "yes"] {
            assert_eq!(
                provider.bring(&door, from, text).await,
                help,
                "{from} {text}"
            );
        }
    }
    // Who has no patient with the number is told the same as who has.
    let nobody = provider.bring(&door, "+12125550199", "STOP").await;
    assert!(nobody.is_some());
    // A short code or a name is a machine; it gets no answer that it could answer.
    for from in ["12345", "BANK"] {
        assert_eq!(provider.bring(&door, from, "STOP").await, None, "{from}");
    }
    assert_eq!(world.record(&patient).await, before);
}

/// What is queued is paced, and all of it arrives.
#[tokio::test]
async fn no_more_leave_in_a_second_than_the_provider_takes() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let mut all = Vec::new();
    for _ in 0..6 {
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        all.push((patient, id));
    }
    let mut options = provider.options();
    options.per_second = 5;
    let began = tokio::time::Instant::now();
    let running = world.run_texts(options);
    for (patient, id) in &all {
        world.wait_for(patient, id, "in-progress").await;
    }
    let took = began.elapsed();
    running.stop().await;
    // Five pauses of a fifth of a second at the least.
    assert!(took >= std::time::Duration::from_millis(1_000), "{took:?}");
    assert_eq!(provider.taken().len(), 6);
}
