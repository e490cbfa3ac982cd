//! Text messages whose answers are lost: how often they are handed over, and what is said of them.

use serde_json::{Value, json};
use trust::consent::Hours;
use trust::conventions::{LET_GO_URL, SMS_UNANSWERED_URL};
use trust::outgoing::Message;

use crate::patience::Patience;
use crate::provider::Provider;
use crate::texts::{NUMBER, assert_clean, comes_to, mobile, references, text};
use crate::world::{NOW_MS, TENANT, World};

const HOUR_MS: u64 = 3_600_000;

/// The codes of why a message is where it is.
fn codes(communication: &Value) -> Vec<&str> {
    let codings = communication["statusReason"]["coding"].as_array();
    let codings = codings.into_iter().flatten();
    codings
        .filter_map(|coding| coding["code"].as_str())
        .collect()
}

fn extension<'a>(communication: &'a Value, url: &str) -> Option<&'a Value> {
    let extensions = communication["extension"].as_array()?;
    extensions.iter().find(|one| one["url"] == url)
}

/// The message that waits.
async fn waiting(world: &World) -> Message {
    let entry = world.outbox().await.pop().expect("an entry");
    serde_json::from_slice(&entry.body).expect("a message")
}

async fn until_done(world: &World) {
    let mut patience = Patience::new();
    while !world.outbox().await.is_empty() {
        patience.wait("the entry is done with").await;
    }
}

/// However a process ends after the provider has a message, it is handed over three times and no more.
#[tokio::test]
async fn what_crashes_each_time_is_handed_over_three_times() {
    let mut world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    for times in 1..=3 {
        provider.next(json!([{"take_and_hang": true}])).await;
        let running = world.run_texts(provider.options());
        provider.wait_for(times).await;
        running.kill().await;
        world = world.reopen().await;
        assert_eq!(usize::from(waiting(&world).await.unanswered), times);
    }
    let running = world.run_texts(provider.options());
    let ended = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(codes(&ended), ["no-receipt"]);
    assert_eq!(provider.taken().len(), 3);
    assert!(world.outbox().await.is_empty());
    assert_clean(&ended);
}

/// What the provider did not take is not counted as if it might have.
#[tokio::test]
async fn what_was_answered_is_taken_back() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let ours = json!({"status": 400, "code": 21606});
    provider
        .next(json!([ours, ours, ours, ours, {"status": 503}]))
        .await;
    let running = world.run_texts(provider.options());
    for attempt in 1..=5 {
        let off = world.wait_put_off(&patient, &id, attempt).await;
        let lost = u8::from(attempt == 5);
        assert_eq!(waiting(&world).await.unanswered, lost, "{attempt}");
        assert_eq!(codes(&off).len(), usize::from(lost), "{off}");
        // Pauses of the whole channel are in real time.
        if attempt < 5 {
            world.to_next_attempt().await;
        }
    }
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
}

/// Whatever ends a message whose answer was lost, it may be there, and that stays said.
#[tokio::test]
async fn what_may_be_there_is_said_whatever_ends_it() {
    for why in ["permanent-failure", "consent"] {
        let world = World::new().await;
        let provider = Provider::start().await;
        let patient = world.patient(&mobile(NUMBER)).await;
        world.consent(&patient, "active").await;
        let id = world.queue(&patient, text).await;
        provider
            .next(json!([{"take_and_drop": true}, {"status": 400, "code": 21211}]))
            .await;
        let running = world.run_texts(provider.options());
        let off = world.wait_put_off(&patient, &id, 1).await;
        assert_eq!(codes(&off), ["no-receipt"]);
        if why == "consent" {
            world.clock.set(NOW_MS + 1_000);
            world.consent(&patient, "inactive").await;
        }
        world.to_next_attempt().await;
        let ended = world.wait_for(&patient, &id, "not-done").await;
        running.stop().await;
        assert_eq!(codes(&ended), [why, "no-receipt"], "{ended}");
        assert_clean(&ended);
    }
}

/// A provider that knows a repeat by its key says that it is at it, or has it with another text.
#[tokio::test]
async fn a_repeat_that_the_provider_knows_may_be_there() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    provider
        .next(json!([{"take_and_drop": true}, {"status": 409, "code": 1}, {"status": 422, "code": 2}]))
        .await;
    let running = world.run_texts(provider.options());
    for attempt in 1..=2 {
        world.wait_put_off(&patient, &id, attempt).await;
        world.to_next_attempt().await;
    }
    let ended = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(codes(&ended), ["no-receipt"]);
    assert_eq!(provider.taken().len(), 1);
}

/// Its journey is held, or calls it off, while it is under way, and the answer is lost.
#[tokio::test]
async fn what_is_held_while_its_answer_is_lost_may_be_there() {
    for status in ["on-hold", "stopped"] {
        let world = World::new().await;
        let provider = Provider::start().await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let id = world.queue(&patient, text).await;
        provider.next(json!([{"take_and_hang": true}])).await;
        let mut options = provider.options();
        if let exchange::SmsProvider::Http(provider) = &mut options.provider {
            provider.timeout_ms = 2_000;
        }
        let running = world.run_texts(options);
        provider.wait_for(1).await;
        let mut message = world.communication(&patient, &id).await;
        message["status"] = json!(status);
        message["statusReason"] = json!({"text": "The journey is held"});
        world.put(&patient, message).await;
        until_done(&world).await;
        running.stop().await;
        let held = world.communication(&patient, &id).await;
        assert_eq!(held["status"], status);
        assert_eq!(codes(&held), ["no-receipt"], "{held}");
        let count = extension(&held, SMS_UNANSWERED_URL).expect("a count");
        assert_eq!(count["valuePositiveInt"], 1);
    }
}

/// Of what is let go again, all that went before counts.
#[tokio::test]
async fn what_was_held_and_let_go_is_not_handed_over_three_times_more() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let mut message = world.communication(&patient, &id).await;
    message["extension"] = json!([{"url": SMS_UNANSWERED_URL, "valuePositiveInt": 2}]);
    world.put(&patient, message).await;
    provider.next(json!([{"take_and_drop": true}])).await;
    let running = world.run_texts(provider.options());
    let ended = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(codes(&ended), ["no-receipt"]);
    assert_eq!(provider.taken().len(), 1);
}

/// A STOP that the provider knows and we don't is written down when it says so, at once or by a receipt.
#[tokio::test]
async fn a_stop_that_the_provider_knows_is_written_down() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let options = provider.options();
    let door = world.door(&options);
    let is_stopped = async |number: &str| {
        let number = trust::sms::Number::parse(number, None).expect("a number");
        let found = world.trust.vault().is_stopped(TENANT, &number).await;
        found.expect("known")
    };
    let patient = world.patient(&mobile(NUMBER)).await;
    provider.next(json!([{"status": 400, "code": 21610}])).await;
    assert_eq!(comes_to(&world, &provider, &patient).await, "preference");
    assert!(is_stopped(NUMBER).await);
    let other = world.patient(&mobile("+16175550143")).await;
    assert_eq!(comes_to(&world, &provider, &other).await, "in-progress");
    let message = provider.taken().pop().expect("a message");
    let told = provider
        .receipt(&door, &message, "failed", Some("30003"))
        .await;
    told.expect("noted");
    assert!(!is_stopped("+16175550143").await);
    let third = world.patient(&mobile("+16175550144")).await;
    assert_eq!(comes_to(&world, &provider, &third).await, "in-progress");
    let message = provider.taken().pop().expect("a message");
    let told = provider
        .receipt(&door, &message, "failed", Some("21610"))
        .await;
    told.expect("noted");
    assert!(is_stopped("+16175550144").await);
    // Nothing more is handed over there.
    assert_eq!(comes_to(&world, &provider, &patient).await, "preference");
    assert_eq!(provider.taken().len(), 2);
    // And START takes it off.
    provider.bring(&door, NUMBER, "START").await;
    assert_eq!(comes_to(&world, &provider, &patient).await, "in-progress");
}

/// Of a message that the provider has by two names, one that fails is no failure.
#[tokio::test]
async fn one_of_two_that_does_not_arrive_leaves_the_other() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let options = provider.options();
    let door = world.door(&options);
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    provider.next(json!([{"take_and_drop": true}])).await;
    let running = world.run_texts(options);
    world.wait_put_off(&patient, &id, 1).await;
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    let messages = provider.taken();
    let told = async |place: usize, status: &str, error: Option<&str>| {
        let told = provider
            .receipt(&door, &messages[place], status, error)
            .await;
        told.expect("noted");
        world.communication(&patient, &id).await
    };
    told(0, "sent", None).await;
    let one = told(1, "undelivered", Some("30003")).await;
    assert_eq!(one["status"], "in-progress", "{one}");
    assert_eq!(references(&one).len(), 2);
    let both = told(0, "undelivered", Some("30003")).await;
    assert_eq!(both["status"], "not-done");
    assert_eq!(codes(&both), ["permanent-failure"]);
}

/// Where nobody would hear of receipts and STOPs, nothing leaves; what waited leaves when policies say otherwise.
#[tokio::test]
async fn nothing_leaves_while_policies_keep_its_receiver_from_hearing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in trust::PolicySet::built_in_files() {
        let mut text = text.to_owned();
        if name == "parts.cedar" {
            let policies = text
                .split("@id(")
                .filter(|policy| !policy.contains("Part::\"sms-receiver\""));
            text = policies.collect::<Vec<_>>().join("@id(");
        }
        if name != "parts.test.toml" {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
    }
    let world = World::under(folder.path()).await;
    assert_eq!(
        exchange::unready_parts(&world.trust, false),
        ["sms-receiver"]
    );
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let id = world.queue(&patient, text).await;
    let running = world.run_texts(provider.options());
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    running.stop().await;
    assert!(provider.taken().is_empty());
    assert_eq!(waiting(&world).await.unanswered, 0);
    let world = world.reopen().await;
    let running = world.run_texts(provider.options());
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
}

/// What was late once makes nothing later that comes after it: limits count messages by when they were let go.
#[tokio::test]
async fn one_outage_does_not_make_each_later_day_later() {
    let world = World::ruled("per_day = 1").await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let day_ms = 24 * HOUR_MS;
    let let_go = |at_ms: u64| {
        move |message: &mut Message| {
            text(message);
            message.hours = Some(Hours {
                zone: "UTC".to_owned(),
                let_go_ms: Some(at_ms),
                ..Hours::default()
            });
            message.expires_ms = Some(NOW_MS + 9 * day_ms);
        }
    };
    let late = world.queue(&patient, let_go(NOW_MS)).await;
    world.clock.set(NOW_MS + 6 * HOUR_MS);
    let running = world.run_texts(provider.options());
    let late = world.wait_for(&patient, &late, "in-progress").await;
    assert_eq!(late["sent"], fhir::date::instant(NOW_MS + 6 * HOUR_MS));
    let at = extension(&late, LET_GO_URL).expect("when it was let go");
    assert_eq!(at["valueInstant"], fhir::date::instant(NOW_MS));
    world.clock.set(NOW_MS + day_ms);
    let next = world.queue(&patient, let_go(NOW_MS + day_ms)).await;
    world.wait_for(&patient, &next, "in-progress").await;
    // A third within the day waits, and counts as of when it is let go then.
    world.clock.set(NOW_MS + day_ms + HOUR_MS);
    world
        .queue(&patient, let_go(NOW_MS + day_ms + HOUR_MS))
        .await;
    let due_ms = NOW_MS + 2 * day_ms;
    let mut patience = Patience::new();
    while world.outbox().await[0].key.due_ms != due_ms {
        patience.wait("it waits for room").await;
    }
    running.stop().await;
    let hours = waiting(&world).await.hours.expect("hours");
    assert_eq!(hours.let_go_ms, Some(due_ms));
}
