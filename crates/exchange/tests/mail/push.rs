//! Notifications: what leaves, whom it reaches, what push services say, and what is asked again before.

use exchange::PUSH_WORDS;
use serde_json::{Value, json};
use trust::consent::{Hours, Pressing, Sort, Topic, Via};
use trust::conventions::CONFIDENTIAL_EXTENSION;
use trust::identity::NewPushDevice;
use trust::outgoing::Message;

use crate::pusher::{Pusher, Subscribed};
use crate::world::{NOW_MS, TENANT, World};

const HOUR_MS: u64 = 3_600_000;

/// A notification as a journey puts it out: it has no words.
pub fn push(message: &mut Message) {
    message.channel = "push".to_owned();
    message.subject = String::new();
    message.text = String::new();
    message.expires_ms = Some(NOW_MS + 2 * HOUR_MS);
}

/// Browsers of a patient in which notifications are on.
pub async fn browsers(
    world: &World,
    pusher: &Pusher,
    patient: &str,
    count: usize,
) -> Vec<Subscribed> {
    let identity = world.trust.identity();
    let key = identity.push_key(TENANT).await.expect("a key");
    let session = world.session(patient).await;
    let mut found = Vec::new();
    for number in 0..count {
        let browser = pusher.subscribe(key.public()).await;
        let new = browser.device(&format!("Telephone {number}"));
        let added = identity.add_push_device(&session, &new).await;
        added.expect("added");
        found.push(browser);
    }
    found
}

async fn devices(world: &World, patient: &str) -> usize {
    let session = world.session(patient).await;
    let identity = world.trust.identity();
    identity.push_devices(&session).await.expect("listed").len()
}

fn reason(communication: &Value) -> &str {
    let code = communication["statusReason"]["coding"][0]["code"].as_str();
    code.unwrap_or_default()
}

/// Nothing of where a device is stands in what is written of an attempt.
fn assert_clean(communication: &Value) {
    let shown = communication.to_string();
    for detail in ["127.0.0.1", "notify", "Telephone", "uandt"] {
        assert!(!shown.contains(detail), "{detail} in {shown}");
    }
}

#[tokio::test]
async fn every_device_is_told_once_and_only_the_browser_can_read_it() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    let other = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let own = browsers(&world, &pusher, &patient, 2).await;
    let theirs = browsers(&world, &pusher, &other, 1).await;
    // Whatever a program puts into the outbox, a locked screen shows words of ours.
    let id = world
        .queue(&patient, |message| {
            push(message);
            message.subject = "Your result".to_owned();
            message.text = "It is bad news".to_owned();
        })
        .await;
    let running = world.run_push(pusher.options());
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert!(world.outbox().await.is_empty());
    let link = format!("https://portal.example/portal/inbox/{id}");
    for browser in &own {
        let shown = pusher.read(browser).await;
        assert_eq!(shown.len(), 1);
        assert_eq!(
            (&shown[0]["title"], &shown[0]["body"], &shown[0]["url"]),
            (
                &json!("Northmoor General"),
                &json!(PUSH_WORDS),
                &json!(link)
            )
        );
        let members = shown[0].as_object().expect("an object").len();
        assert_eq!(members, 4, "{shown:?}");
    }
    assert!(pusher.read(&theirs[0]).await.is_empty());
    let heard = pusher.heard();
    assert_eq!(heard.len(), 2);
    // A push service doesn't learn which browsers are of one patient.
    assert_ne!(heard[0]["topic"], heard[1]["topic"]);
    for one in &heard {
        assert_eq!(
            (&one["ttl"], &one["urgency"]),
            (&json!("7200"), &json!("high"))
        );
        let topic = one["topic"].as_str().expect("a topic");
        assert!(topic.len() == 32 && !topic.contains(&id[..8]), "{topic}");
        let claims = &one["claims"];
        let audience = claims["aud"].as_str().expect("an audience");
        assert!(own[0].endpoint.starts_with(&format!("{audience}/")));
        assert_eq!(claims["sub"], "mailto:it@hospital.example");
        let now_s = world.trust.wall_clock().now_ms() / 1_000;
        let left_s = claims["exp"]
            .as_u64()
            .expect("a time")
            .saturating_sub(now_s);
        assert!((1..=86_400).contains(&left_s), "{left_s}");
    }
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 2 of 2 devices."
    );
    assert_eq!(done["sent"], fhir::date::instant(NOW_MS));
    assert_clean(&done);
}

#[tokio::test]
async fn who_has_no_device_is_told_of_as_unreachable_and_nobody_is_asked() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let running = world.run_push(pusher.options());
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(reason(&done), "no-address");
    running.stop().await;
    assert!(pusher.heard().is_empty());
}

#[tokio::test]
async fn what_is_asked_of_other_channels_is_asked_again_here() {
    let world = World::ruled("quiet = { from = \"21:00\", until = \"08:00\" }").await;
    let pusher = Pusher::start().await;
    let asked = json!([{
        "extension": [{ "url": CONFIDENTIAL_EXTENSION, "valueBoolean": true }],
        "system": "email", "value": "own@example.com"
    }]);
    type Case = (&'static str, Option<(&'static str, Value)>, &'static str);
    let cases: [Case; 4] = [
        ("consent", None, "inactive"),
        ("preference", Some(("telecom", asked)), "active"),
        ("deceased", Some(("deceasedBoolean", json!(true))), "active"),
        ("expired", None, "active"),
    ];
    let running = world.run_push(pusher.options());
    for (expected, change, consent) in cases {
        let patient = world.patient(&[]).await;
        world.consent(&patient, consent).await;
        browsers(&world, &pusher, &patient, 1).await;
        if let Some((name, value)) = change {
            let mut record = world.record(&patient).await;
            record[name] = value;
            world.put(&patient, record).await;
        }
        let id = world
            .queue(&patient, |message| {
                push(message);
                if expected == "expired" {
                    message.expires_ms = Some(NOW_MS - 1);
                }
            })
            .await;
        let done = world.wait_for(&patient, &id, "not-done").await;
        assert_eq!(reason(&done), expected, "{done}");
    }
    // Quiet hours hold what can wait.
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    browsers(&world, &pusher, &patient, 1).await;
    world.clock.set(night());
    let late = world.queue(&patient, |message| {
        push(message);
        message.expires_ms = Some(NOW_MS + 72 * HOUR_MS);
        message.hours = Some(Hours {
            zone: "UTC".to_owned(),
            ..Hours::default()
        });
    });
    let late = late.await;
    let mut patience = crate::patience::Patience::new();
    loop {
        let found = world.communication(&patient, &late).await;
        let text = found["statusReason"]["text"].as_str().unwrap_or_default();
        if text.starts_with("It waits for the end of quiet hours") {
            break;
        }
        patience.wait(&format!("it waits: {found}")).await;
    }
    running.stop().await;
}

/// A notification is a way that patients choose like the others, and what they choose counts when it leaves.
// Proves: 45 CFR 164.522(b)(1)
#[tokio::test]
async fn who_wants_none_about_something_gets_none_about_it() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = told(&world, &pusher).await;
    let about = |topic| {
        move |message: &mut Message| {
            push(message);
            let pressing = Pressing::Routine;
            message.sort = Some(Sort { topic, pressing });
        }
    };
    let care = world.queue(&patient, about(Topic::Care)).await;
    let visits = world.queue(&patient, about(Topic::Visits)).await;
    let forms = world.queue(&patient, about(Topic::Forms)).await;
    crate::wishes::say(&world, &patient, |wishes| {
        wishes.set_ways(Topic::Care, Some(vec![Via::Email, Via::Sms]));
        wishes.set_ways(Topic::Visits, Some(vec![Via::Email, Via::Push]));
    })
    .await;
    let running = world.run_push(pusher.options());
    let done = world.wait_for(&patient, &care, "not-done").await;
    assert_eq!(reason(&done), "unwelcome");
    assert_eq!(
        done["statusReason"]["text"],
        "The patient does not want notifications about the care plan."
    );
    world.wait_for(&patient, &visits, "completed").await;
    world.wait_for(&patient, &forms, "completed").await;
    running.stop().await;
    assert_eq!(pusher.heard().len(), 2);
}

/// Ten in the evening (UTC) of the day after the tests begin.
fn night() -> u64 {
    const DAY_MS: u64 = 24 * HOUR_MS;
    (NOW_MS / DAY_MS + 1) * DAY_MS + 22 * HOUR_MS
}

#[tokio::test]
async fn devices_that_are_gone_are_forgotten_and_the_others_are_told() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let own = browsers(&world, &pusher, &patient, 2).await;
    pusher.expire(&own[0]).await;
    let id = world.queue(&patient, push).await;
    let running = world.run_push(pusher.options());
    let done = world.wait_for(&patient, &id, "completed").await;
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 1 of 2 devices."
    );
    assert_eq!(pusher.read(&own[1]).await.len(), 1);
    assert_eq!(devices(&world, &patient).await, 1);
    // The last one is gone, by the other answer that says so.
    pusher.next(json!([{ "status": 404 }])).await;
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(reason(&done), "no-address");
    assert_eq!(devices(&world, &patient).await, 0);
    running.stop().await;
    assert_clean(&done);
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_under_the_same_topic() {
    for planned in [
        json!([{ "reset": "before" }]),
        json!([{ "reset": "after" }]),
        json!([{ "hang": true }]),
        json!([{ "status": 503 }]),
        json!([{ "status": 500 }]),
    ] {
        let world = World::new().await;
        let pusher = Pusher::start().await;
        let patient = world.patient(&[]).await;
        world.consent(&patient, "active").await;
        let own = browsers(&world, &pusher, &patient, 1).await;
        pusher.next(planned.clone()).await;
        let id = world.queue(&patient, push).await;
        let mut options = pusher.options();
        options.timeout_ms = 2_000;
        let running = world.run_push(options);
        let put_off = world.wait_put_off(&patient, &id, 1).await;
        assert_clean(&put_off);
        world.to_next_attempt().await;
        world.wait_for(&patient, &id, "completed").await;
        running.stop().await;
        let heard = pusher.heard();
        assert_eq!(heard.len(), 2, "{planned}");
        assert_eq!(heard[0]["topic"], heard[1]["topic"]);
        let shown = pusher.read(&own[0]).await;
        // Where it was taken without an answer, the browser has it twice, under one tag: one notification.
        let twice = planned[0]["reset"] == "after";
        assert_eq!(shown.len(), if twice { 2 } else { 1 }, "{planned}");
        assert!(shown.iter().all(|one| one["tag"] == shown[0]["tag"]));
        assert_eq!(devices(&world, &patient).await, 1, "{planned}");
    }
}

/// What one device is sent too much of waits alone.
#[tokio::test]
async fn a_message_that_came_too_soon_for_its_device_waits_and_no_other_does() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let busy = told(&world, &pusher).await;
    let other = told(&world, &pusher).await;
    let answer = json!({ "status": 429, "retryAfter": "3600" });
    pusher.next(json!([answer])).await;
    let id = world.queue(&busy, push).await;
    let running = world.run_push(pusher.options());
    let entry = put_off(&world).await;
    // It was not looked at, so that was no attempt.
    let hour = NOW_MS + HOUR_MS;
    assert_eq!((entry.key.due_ms, entry.attempt), (hour, 0));
    let quick = world.queue(&other, push).await;
    world.wait_for(&other, &quick, "completed").await;
    assert_eq!(world.outbox().await[0].key.due_ms, hour);
    world.clock.set(hour);
    world.wait_for(&busy, &id, "completed").await;
    running.stop().await;
    assert_eq!(pusher.heard().len(), 3);
}

/// A service that says that it has too much to do is asked nothing until then. What waits for it is put off once, keeps no
/// place from others, and nothing else is written of it: each time would be another link that signs in.
#[tokio::test]
async fn a_service_that_wants_fewer_is_left_alone_and_so_is_what_waits_for_it() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let elsewhere = Pusher::start().await;
    let first = told(&world, &pusher).await;
    let second = told(&world, &pusher).await;
    // One device is where nobody may be asked any more; it doesn't count.
    let nowhere = Pusher::start().await;
    browsers(&world, &nowhere, &second, 1).await;
    let other = told(&world, &elsewhere).await;
    let answer = json!({ "status": 503, "retryAfter": "3600" });
    pusher.next(json!([answer])).await;
    world.queue(&first, push).await;
    let mut options = pusher.options();
    let both = format!("{} {}", pusher.origin(), elsewhere.origin());
    options.services = exchange::PushServices::parse(&both).expect("a list");
    options.magic_links = true;
    options.parallel = 2;
    let running = world.run_push(options);
    let entry = put_off(&world).await;
    assert_eq!((entry.key.due_ms, entry.attempt), (NOW_MS + HOUR_MS, 0));
    // More than are sent at once.
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let id = world.queue(&second, push).await;
        let before = world.communication(&second, &id).await;
        waiting.push((id, before));
    }
    let id = world.queue(&other, push).await;
    world.wait_for(&other, &id, "completed").await;
    all_put_off(&world, 7).await;
    for entry in world.outbox().await {
        let due_ms = entry.key.due_ms;
        // The rest is real time, of which some is over by now.
        assert!(due_ms > NOW_MS + HOUR_MS / 2 && due_ms <= NOW_MS + HOUR_MS);
        assert_eq!(entry.attempt, 0);
    }
    for (id, before) in waiting {
        assert_eq!(world.communication(&second, &id).await, before);
    }
    // What would be of no use by then goes on at once.
    let soon = world.queue(&second, |message| {
        push(message);
        message.expires_ms = Some(NOW_MS + HOUR_MS / 2);
    });
    let done = world.wait_for(&second, &soon.await, "not-done").await;
    assert_eq!(reason(&done), "expired");
    running.stop().await;
    assert_eq!(world.outbox().await.len(), 7);
    assert_eq!(pusher.heard().len(), 1);
    assert!(nowhere.heard().is_empty());
}

/// A message for a patient who is told on one device.
async fn told(world: &World, pusher: &Pusher) -> String {
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    browsers(world, pusher, &patient, 1).await;
    patient
}

/// The only entry, once it is put off.
async fn put_off(world: &World) -> ledger::OutboxEntry {
    let mut patience = crate::patience::Patience::new();
    loop {
        if let Some(entry) =
            (world.outbox().await.into_iter()).find(|entry| entry.key.due_ms > NOW_MS)
        {
            return entry;
        }
        patience.wait("it is put off").await;
    }
}

/// Waits until all entries are put off, which are so many.
async fn all_put_off(world: &World, count: usize) {
    let mut patience = crate::patience::Patience::new();
    loop {
        let outbox = world.outbox().await;
        if outbox.len() == count && outbox.iter().all(|entry| entry.key.due_ms > NOW_MS) {
            return;
        }
        patience.wait(&format!("all are put off: {outbox:?}")).await;
    }
}

/// A browser that named another key takes nothing of ours: its device is gone, and nobody is asked. Where a service doesn't
/// believe our signature all the same, the next channel has the message at once, the devices stay, and no other message
/// waits for it.
#[tokio::test]
async fn another_key_is_another_device_and_a_signature_that_is_refused_ends_its_message_alone() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = told(&world, &pusher).await;
    for status in [401, 403, 401, 403, 401, 403] {
        pusher.next(json!([{ "status": status }])).await;
        let id = world.queue(&patient, push).await;
        let running = world.run_push(pusher.options());
        let done = world.wait_for(&patient, &id, "not-done").await;
        assert_eq!(reason(&done), "permanent-failure");
        running.stop().await;
    }
    assert_eq!(devices(&world, &patient).await, 1);
    let running = world.run_push(pusher.options());
    let id = world.queue(&patient, push).await;
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(pusher.heard().len(), 7);
    // The key is another one from now on.
    world.change_push_key().await;
    let id = world.queue(&patient, push).await;
    let running = world.run_push(pusher.options());
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(reason(&done), "no-address");
    running.stop().await;
    assert_eq!(pusher.heard().len(), 7);
    assert_eq!(devices(&world, &patient).await, 0);
}

#[tokio::test]
async fn what_a_service_never_takes_ends_the_message_and_redirects_are_not_followed() {
    for planned in [
        json!([{ "status": 400 }]),
        json!([{ "status": 413 }]),
        json!([{ "status": 307, "location": "/elsewhere" }]),
    ] {
        let world = World::new().await;
        let pusher = Pusher::start().await;
        let patient = world.patient(&[]).await;
        world.consent(&patient, "active").await;
        browsers(&world, &pusher, &patient, 1).await;
        pusher.next(planned.clone()).await;
        let id = world.queue(&patient, push).await;
        let running = world.run_push(pusher.options());
        let done = world.wait_for(&patient, &id, "not-done").await;
        running.stop().await;
        assert_eq!(reason(&done), "permanent-failure", "{planned}");
        assert_eq!(pusher.heard().len(), 1, "{planned}");
        assert_eq!(devices(&world, &patient).await, 1, "{planned}");
        assert_clean(&done);
    }
}

#[tokio::test]
async fn whoever_is_killed_while_sending_loses_none_and_repeats_recognisably() {
    let mut world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let own = browsers(&world, &pusher, &patient, 2).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.queue(&patient, push).await);
    }
    // Nobody hears of what the first round has taken.
    let hangs = vec![json!({ "hang": true }); 2];
    pusher.next(Value::Array(hangs)).await;
    let mut options = pusher.options();
    options.parallel = 1;
    let running = world.run_push(options.clone());
    pusher.wait_for(2).await;
    running.kill().await;
    world = world.reopen().await;
    let running = world.run_push(options);
    for id in &ids {
        world.wait_for(&patient, id, "completed").await;
    }
    running.stop().await;
    for browser in &own {
        let shown = pusher.read(browser).await;
        let mut tags: Vec<&Value> = shown.iter().map(|one| &one["tag"]).collect();
        tags.dedup();
        assert_eq!(tags.len(), 3, "{shown:?}");
    }
    // The two that nobody answered came again, each under the topic that it had.
    let heard = pusher.heard();
    assert_eq!(heard.len(), 8);
    for first in &heard[..2] {
        let topic = &first["topic"];
        let same = heard.iter().filter(|one| &one["topic"] == topic).count();
        assert_eq!(same, 2);
    }
}

/// Whoever holds a session can say any address; one that came into the store all the same is not asked.
#[tokio::test]
async fn only_push_services_that_are_named_are_asked() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let elsewhere = Pusher::start().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    browsers(&world, &elsewhere, &patient, 1).await;
    let id = world.queue(&patient, push).await;
    let running = world.run_push(pusher.options());
    let done = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(reason(&done), "permanent-failure");
    assert!(elsewhere.heard().is_empty() && pusher.heard().is_empty());
}

/// One service that isn't there keeps nothing from the patients of another.
#[tokio::test]
async fn a_service_that_is_not_there_holds_up_no_other() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let gone = Pusher::start().await;
    let mut options = pusher.options();
    let both = format!("{} {}", pusher.origin(), gone.origin());
    options.services = exchange::PushServices::parse(&both).expect("a list");
    let ill = world.patient(&[]).await;
    world.consent(&ill, "active").await;
    browsers(&world, &gone, &ill, 1).await;
    drop(gone);
    for _ in 0..8 {
        world.queue(&ill, push).await;
    }
    options.parallel = 2;
    let running = world.run_push(options);
    all_put_off(&world, 8).await;
    let well = world.patient(&[]).await;
    world.consent(&well, "active").await;
    browsers(&world, &pusher, &well, 1).await;
    let id = world.queue(&well, push).await;
    world.wait_for(&well, &id, "completed").await;
    running.stop().await;
}

#[tokio::test]
async fn links_sign_in_with_the_birth_date_and_stand_in_what_is_sealed_alone() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let own = browsers(&world, &pusher, &patient, 1).await;
    let id = world.queue(&patient, push).await;
    let mut options = pusher.options();
    options.magic_links = true;
    let running = world.run_push(options);
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let shown = pusher.read(&own[0]).await.remove(0);
    let url = shown["url"].as_str().expect("a link");
    let rest = url.strip_prefix("https://portal.example/sign-in/link/");
    let (secret, next) = rest.and_then(|rest| rest.split_once("?next=")).expect(url);
    assert_eq!(next, format!("/portal/inbox/{id}"));
    let identity = world.trust.identity();
    assert!(
        identity
            .use_link(TENANT, secret, "1950-01-01")
            .await
            .is_err()
    );
    assert!(
        identity
            .use_link(TENANT, secret, "1941-03-07")
            .await
            .is_ok()
    );
    let told = format!("{done}{:?}", pusher.heard());
    assert!(!told.contains(secret));
}

/// A browser's key that is no point of the curve ends that device's message, and no other's.
#[tokio::test]
async fn a_device_that_nothing_can_be_sealed_for_harms_no_other() {
    let world = World::new().await;
    let pusher = Pusher::start().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let own = browsers(&world, &pusher, &patient, 1).await;
    let off_the_curve = NewPushDevice {
        name: "Broken".to_owned(),
        endpoint: format!("{}/notify/none", pusher.origin()),
        key: format!("BA{}", "A".repeat(85)),
        auth: "A".repeat(22),
        signer: own[0].signer.clone(),
    };
    let session = world.session(&patient).await;
    let identity = world.trust.identity();
    let added = identity.add_push_device(&session, &off_the_curve).await;
    added.expect("added");
    let id = world.queue(&patient, push).await;
    let running = world.run_push(pusher.options());
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 1 of 2 devices."
    );
    assert_eq!(pusher.read(&own[0]).await.len(), 1);
}
