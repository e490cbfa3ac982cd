//! Text messages: what leaves, what is asked again before it does, what comes back.

use exchange::{DeliveredWhen, Told, Unheard};
use serde_json::{Value, json};
use trust::consent::Hours;
use trust::conventions::{
    BEYOND_LIMITS_URL, NOT_WANTED_EXTENSION, SMS_COST_URL, SMS_SEGMENTS_URL, SMS_SYSTEM,
};
use trust::outgoing::Message;

use crate::provider::{BASE, Provider, owned};
use crate::world::{NOW_MS, TENANT, World};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
pub const NUMBER: &str = "+16175550142";

/// A message as a journey puts it out, without words of its own.
pub fn text(message: &mut Message) {
    message.channel = "sms".to_owned();
    message.subject = String::new();
    message.text = "There is a new message for you from your care team: {link}".to_owned();
}

/// A telephone that somebody carries with them.
pub fn mobile(value: &str) -> [(&'static str, Value); 1] {
    let phone = json!({ "system": "phone", "use": "mobile", "value": value });
    [("telecom", json!([phone]))]
}

/// What the provider calls a message, of each time that it was handed over.
pub fn references(communication: &Value) -> Vec<&str> {
    let identifiers = communication["identifier"].as_array();
    let identifiers = identifiers.into_iter().flatten();
    identifiers
        .filter(|one| one["system"] == SMS_SYSTEM)
        .filter_map(|one| one["value"].as_str())
        .collect()
}

/// What a message of one segment took.
fn taken_extensions() -> Value {
    json!([
        { "url": SMS_SEGMENTS_URL, "valuePositiveInt": 1 },
        { "url": SMS_COST_URL, "valueMoney": { "value": 0.0079, "currency": "USD" } }
    ])
}

/// Nothing of the number is in what is written of an attempt.
pub fn assert_clean(communication: &Value) {
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
        format!("{BASE}/channels/sms/status/{id}#rc=5&rp=all")
    );
    assert_eq!(
        message["key"], id,
        "a provider that knows keys knows a repeat"
    );
    assert_eq!(references(&taken), [message["sid"].as_str().unwrap()]);
    assert_eq!(taken["sent"], fhir::date::instant(NOW_MS));
    assert_eq!(taken["extension"], taken_extensions());
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
        // Of an error that nobody here knows, too.
        (json!({"status": 400, "code": 29999}), "permanent-failure"),
    ] {
        let number = if code == "preference" {
            "+16175550149"
        } else {
            NUMBER
        };
        let patient = world.patient(&mobile(number)).await;
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
        json!({"status": 400}),
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
        .next(json!([{"status": 429, "code": 20429, "retry_after": 3}, {"status": 429, "code": 20429}]))
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
    assert_eq!(due, NOW_MS + 3_000);
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
        // What it took is written down all the same.
        assert_eq!(after["extension"], taken_extensions(), "{status}");
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

/// Why a patient's text message doesn't go, if it doesn't.
pub async fn comes_to(world: &World, provider: &Provider, patient: &str) -> String {
    let id = world.queue(patient, text).await;
    let running = world.run_texts(provider.options());
    let mut patience = crate::patience::Patience::new();
    let found = loop {
        let found = world.communication(patient, &id).await;
        if found["status"] != "preparation" {
            break found;
        }
        patience.wait("something becomes of it").await;
    };
    running.stop().await;
    assert_clean(&found);
    match found["statusReason"]["coding"][0]["code"].as_str() {
        Some(code) => code.to_owned(),
        None => found["status"].as_str().unwrap_or_default().to_owned(),
    }
}

/// Where nobody has said of which country numbers are, one without a country is none.
#[tokio::test]
async fn a_number_without_a_country_is_none_where_nobody_says_which() {
    let world = World::nowhere().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile("(617) 555-0142")).await;
    let id = world.queue(&patient, text).await;
    let running = world.run_texts(provider.options());
    let ended = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(ended["statusReason"]["coding"][0]["code"], "no-address");
    assert_eq!(
        ended["statusReason"]["text"],
        "The number on record is none that texts can be sent to."
    );
    let patient = world.patient(&mobile(NUMBER)).await;
    assert_eq!(comes_to(&world, &provider, &patient).await, "in-progress");
}

/// A link that signs in goes to a telephone that is one person's alone. Nothing else goes there instead: a link that nobody
/// can open is no message, so the step goes another way.
#[tokio::test]
async fn nothing_goes_to_a_telephone_that_somebody_else_has_too() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let sms = |value: &str| json!([{ "system": "sms", "value": value }]);
    let alone = world.patient(&mobile("(617) 555-0140")).await;
    let shared = world.patient(&mobile("(617) 555-0141")).await;
    world.patient(&[("telecom", sms("617.555.0141"))]).await;
    let home = world.patient(&mobile("(617) 555-0143")).await;
    let line = json!([{ "system": "phone", "use": "home", "value": "6175550143" }]);
    world.patient(&[("telecom", line)]).await;
    let related = world.patient(&mobile("(617) 555-0144")).await;
    let child = world.patient(&mobile("(617) 555-0145")).await;
    let owner = ledger::Owner::Patient(child.clone());
    let mother = world.trust.vault().ledger().mint_id(TENANT, &owner);
    let mother = json!({
        "resourceType": "RelatedPerson", "id": mother,
        "patient": { "reference": format!("Patient/{child}") },
        "telecom": sms("+16175550144")
    });
    world.put(&child, mother).await;
    let contact = json!([{ "telecom": sms("+1 617 555 0146") }]);
    let called = world
        .patient(&[("contact", contact), ("telecom", sms("+16175550146"))])
        .await;
    let mut options = provider.options();
    options.magic_links = true;
    for (patient, signs_in) in [
        (&alone, true),
        (&shared, false),
        (&home, false),
        (&related, false),
        (&called, false),
    ] {
        let id = world.queue(patient, text).await;
        let running = world.run_texts(options.clone());
        if signs_in {
            world.wait_for(patient, &id, "in-progress").await;
            let message = provider.taken().pop().expect("a message");
            let body = message["Body"].as_str().expect("a text");
            assert!(body.contains("/sign-in/link/"), "{body}");
            assert!(body.contains(&id), "{body}");
        } else {
            let ended = world.wait_for(patient, &id, "not-done").await;
            assert_eq!(ended["statusReason"]["coding"][0]["code"], "shared-number");
            assert_clean(&ended);
        }
        running.stop().await;
    }
    assert_eq!(provider.taken().len(), 1);
}

/// Where nobody has said of which country numbers are, one that may be the same is taken for the same.
#[tokio::test]
async fn a_number_that_may_be_somebody_elses_is_taken_for_theirs() {
    let world = World::nowhere().await;
    let provider = Provider::start().await;
    let alone = world.patient(&mobile("+16175550140")).await;
    let shared = world.patient(&mobile("+16175550141")).await;
    let line = json!([{ "system": "phone", "use": "home", "value": "(617) 555-0141" }]);
    world.patient(&[("telecom", line)]).await;
    let mail = json!([{ "system": "email", "value": "6175550140@example.com" }]);
    world.patient(&[("telecom", mail)]).await;
    let mut options = provider.options();
    options.magic_links = true;
    let running = world.run_texts(options);
    for (patient, status) in [(&alone, "in-progress"), (&shared, "not-done")] {
        let id = world.queue(patient, text).await;
        let found = world.wait_for(patient, &id, status).await;
        if status == "not-done" {
            assert_eq!(found["statusReason"]["coding"][0]["code"], "shared-number");
        }
    }
    running.stop().await;
}

/// What is tried again in the night waits for the morning; what can't wait doesn't.
#[tokio::test]
async fn a_retry_that_falls_into_the_night_waits_for_its_end() {
    // It is 07:33 now, and the night begins at 07:34.
    let world = World::ruled("quiet = { from = \"07:34\", until = \"09:00\" }").await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let hours = |message: &mut Message| {
        text(message);
        message.hours = Some(Hours {
            zone: "UTC".to_owned(),
            ..Hours::default()
        });
        message.expires_ms = Some(NOW_MS + 6 * HOUR_MS);
    };
    let id = world.queue(&patient, hours).await;
    provider.next(json!([{"status": 503}])).await;
    let running = world.run_texts(provider.options());
    world.wait_put_off(&patient, &id, 1).await;
    // The next attempt is after 07:34.
    world.to_next_attempt().await;
    let end_ms = NOW_MS / DAY_MS * DAY_MS + 9 * HOUR_MS;
    let mut patience = crate::patience::Patience::new();
    while world.outbox().await[0].key.due_ms != end_ms {
        patience.wait("it waits until nine").await;
    }
    let waits = world.communication(&patient, &id).await;
    assert_eq!(waits["status"], "preparation");
    let why = waits["statusReason"]["text"].as_str().expect("words");
    assert!(why.contains("the end of quiet hours"), "{why}");
    assert_eq!(world.outbox().await[0].attempt, 1, "waiting is no attempt");
    assert!(provider.taken().is_empty());
    // What can't wait has no hours, and one whose time would be over by then goes another way at once.
    let urgent = world.queue(&patient, text).await;
    world.wait_for(&patient, &urgent, "in-progress").await;
    let short = world
        .queue(&patient, |message| {
            hours(message);
            message.expires_ms = Some(end_ms - 1);
        })
        .await;
    let ended = world.wait_for(&patient, &short, "not-done").await;
    assert_eq!(ended["statusReason"]["coding"][0]["code"], "quiet-hours");
    world.clock.set(end_ms);
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    assert_eq!(provider.taken().len(), 2);
}

/// Limits count what has left, when it leaves.
#[tokio::test]
async fn limits_are_asked_when_a_text_leaves() {
    let world = World::ruled("per_day = 2\nkept_for_important = 1").await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let limited = |important: bool| {
        move |message: &mut Message| {
            text(message);
            message.hours = Some(Hours {
                zone: "UTC".to_owned(),
                important,
                ..Hours::default()
            });
            message.expires_ms = Some(NOW_MS + 3 * DAY_MS);
        }
    };
    let running = world.run_texts(provider.options());
    let first = world.queue(&patient, limited(false)).await;
    world.wait_for(&patient, &first, "in-progress").await;
    world.clock.set(NOW_MS + HOUR_MS);
    let second = world.queue(&patient, limited(false)).await;
    let mut patience = crate::patience::Patience::new();
    loop {
        let all = world.outbox().await;
        if all.iter().any(|entry| entry.key.due_ms == NOW_MS + DAY_MS) {
            break;
        }
        patience.wait("the second waits for room").await;
    }
    let waits = world.communication(&patient, &second).await;
    let why = waits["statusReason"]["text"].as_str().expect("words");
    assert!(why.contains("room among the patient's messages"), "{why}");
    // One place is kept for what is important, and none is asked of what can't wait.
    let third = world.queue(&patient, limited(true)).await;
    world.wait_for(&patient, &third, "in-progress").await;
    let urgent = world.queue(&patient, text).await;
    world.wait_for(&patient, &urgent, "in-progress").await;
    // Another patient has their own.
    let other = world.patient(&mobile("+16175550143")).await;
    let theirs = world.queue(&other, limited(false)).await;
    world.wait_for(&other, &theirs, "in-progress").await;
    assert_eq!(provider.taken().len(), 4);
    world.clock.set(NOW_MS + DAY_MS + HOUR_MS);
    world.wait_for(&patient, &second, "in-progress").await;
    running.stop().await;
}

/// What goes out past limits, as that a visit was called off, takes no room from what follows.
#[tokio::test]
async fn what_no_limit_holds_counts_in_none() {
    let world = World::ruled("per_day = 1").await;
    let provider = Provider::start().await;
    for (beyond, waits) in [(true, false), (false, true)] {
        let patient = world.patient(&mobile(NUMBER)).await;
        let urgent = world.queue(&patient, text).await;
        let mut told = world.communication(&patient, &urgent).await;
        told["extension"] = json!([{"url": BEYOND_LIMITS_URL, "valueBoolean": beyond}]);
        world.put(&patient, told).await;
        let running = world.run_texts(provider.options());
        world.wait_for(&patient, &urgent, "in-progress").await;
        let routine = world
            .queue(&patient, |message| {
                text(message);
                message.hours = Some(Hours {
                    zone: "UTC".to_owned(),
                    ..Hours::default()
                });
                message.expires_ms = Some(NOW_MS + HOUR_MS);
            })
            .await;
        let expected = if waits { "not-done" } else { "in-progress" };
        let found = world.wait_for(&patient, &routine, expected).await;
        if waits {
            assert_eq!(found["statusReason"]["coding"][0]["code"], "capped");
        }
        running.stop().await;
    }
}

/// A text of which no answer ever comes is handed over three times and no more. It may be there: that is what is said.
#[tokio::test]
async fn what_is_never_answered_is_handed_over_three_times() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let options = provider.options();
    let door = world.door(&options);
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    provider
        .next(json!([{"take_and_drop": true}, {"take_and_drop": true}, {"take_and_drop": true}]))
        .await;
    let running = world.run_texts(options);
    for attempt in 1..=2 {
        world.wait_put_off(&patient, &id, attempt).await;
        world.to_next_attempt().await;
    }
    let ended = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(ended["statusReason"]["coding"][0]["code"], "no-receipt");
    let words = ended["statusReason"]["text"].as_str().expect("words");
    assert!(words.contains("may have arrived"), "{words}");
    assert!(world.outbox().await.is_empty());
    let messages = provider.taken();
    assert_eq!(messages.len(), 3);
    // Each time by the same key and address, by which a repeat is known.
    for message in &messages {
        assert_eq!(message["key"], id);
        assert_eq!(message["StatusCallback"], messages[0]["StatusCallback"]);
        provider
            .receipt(&door, message, "delivered", None)
            .await
            .expect("noted");
    }
    let done = world.communication(&patient, &id).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(references(&done).len(), 3);
    let notes = done["note"].to_string();
    assert_eq!(
        notes.matches("The provider has it twice").count(),
        2,
        "{notes}"
    );
}

/// Numbers that can't be reached say nothing about the provider: nobody else waits for them.
#[tokio::test]
async fn what_is_refused_for_its_recipient_keeps_nobody_waiting() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let refusals = vec![json!({"status": 400, "code": 21211}); 12];
    provider.next(Value::from(refusals)).await;
    let mut all = Vec::new();
    for _ in 0..12 {
        let patient = world.patient(&mobile(NUMBER)).await;
        all.push((patient.clone(), world.queue(&patient, text).await));
    }
    let mut options = provider.options();
    options.parallel = 1;
    let running = world.run_texts(options);
    for (patient, id) in &all {
        world.wait_for(patient, id, "not-done").await;
    }
    let began = tokio::time::Instant::now();
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    world.wait_for(&patient, &id, "in-progress").await;
    // The first pause would be a second.
    assert!(began.elapsed() < std::time::Duration::from_millis(900));
    running.stop().await;
}

/// Where a provider hears nothing of handsets, what the network has counts as delivered; where it tells nothing at all,
/// what it has taken.
#[tokio::test]
async fn what_counts_as_delivered_is_configured() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let mut options = provider.options();
    options.delivered_when = DeliveredWhen::Sent;
    let door = world.door(&options);
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let running = world.run_texts(options);
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    let message = provider.taken().pop().expect("a message");
    let told = provider.receipt(&door, &message, "sent", None).await;
    told.expect("noted");
    world.wait_for(&patient, &id, "completed").await;

    let mut options = provider.options();
    options.delivered_when = DeliveredWhen::Taken;
    let id = world.queue(&patient, text).await;
    let running = world.run_texts(options);
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let message = provider.taken().pop().expect("a message");
    assert_eq!(message.get("StatusCallback"), None, "{message}");
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
