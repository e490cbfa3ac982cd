//! Which messages a patient wants, asked again when a message leaves: what was said since it was queued counts.

use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::consent::{Hours, Pressing, QuietHours, Sort, Topic, Via, Wishes};
use trust::outgoing::Message;

use crate::peer::Peer;
use crate::provider::Provider;
use crate::texts::{NUMBER, mobile, text};
use crate::world::{NOW_MS, TENANT, World, assert_clean};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What is asked of the wishes about a message.
fn about(topic: Topic, pressing: Pressing) -> impl Fn(&mut Message) {
    move |message| message.sort = Some(Sort { topic, pressing })
}

pub(crate) async fn say(world: &World, patient: &str, change: impl FnOnce(&mut Wishes)) {
    let vault = world.trust.vault();
    let mut wishes = vault.wishes(TENANT, patient).await.expect("read");
    change(&mut wishes);
    let mut resource = Resource::new(ResourceType::Basic);
    resource.set_id(&vault.wishes_id(TENANT, patient));
    wishes.write(patient, &mut resource);
    world.put(patient, resource.into_value()).await;
}

fn why(communication: &Value) -> (&str, &str) {
    let reason = &communication["statusReason"];
    let code = reason["coding"][0]["code"].as_str();
    (
        code.unwrap_or_default(),
        reason["text"].as_str().unwrap_or_default(),
    )
}

/// What was queued when it was welcome doesn't leave when it isn't any more, and says why; what can't wait leaves.
// Proves: 45 CFR 164.522(b)(1)
#[tokio::test]
async fn what_is_not_wanted_since_it_was_queued_does_not_leave() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let peer = Peer::start(&[]).await;
    let queue = async |topic, pressing| world.queue(&patient, about(topic, pressing)).await;
    let forms = queue(Topic::Forms, Pressing::Important).await;
    let urgent = queue(Topic::Forms, Pressing::Clinical).await;
    let visits = queue(Topic::Visits, Pressing::Routine).await;
    let care = queue(Topic::Care, Pressing::Routine).await;
    let pressing = queue(Topic::Care, Pressing::Important).await;
    // What programs put out that knew nothing of wishes.
    let before = world.queue(&patient, |_| {}).await;
    say(&world, &patient, |wishes| {
        wishes.set_ways(Topic::Forms, Some(vec![Via::Sms]));
        wishes.set_ways(Topic::Visits, Some(Vec::new()));
        wishes.set_only_important(true);
    })
    .await;
    let running = world.run(world.options(peer.port));
    for (id, status, expected) in [
        (
            &forms,
            "not-done",
            (
                "unwelcome",
                "The patient does not want e-mail about questions and forms.",
            ),
        ),
        (&urgent, "completed", ("", "")),
        (
            &visits,
            "not-done",
            (
                "unwelcome",
                "The patient does not want e-mail about visits.",
            ),
        ),
        (
            &care,
            "not-done",
            (
                "only-important",
                "The patient wants e-mail about nothing but what is important.",
            ),
        ),
        (&pressing, "completed", ("", "")),
        (&before, "completed", ("", "")),
    ] {
        let done = world.wait_for(&patient, id, status).await;
        assert_eq!(why(&done), expected);
        assert_clean(&done);
    }
    assert_eq!(peer.seen().len(), 3);
    // Taken back, the next one leaves again.
    say(&world, &patient, |wishes| *wishes = Wishes::default()).await;
    let next = queue(Topic::Visits, Pressing::Routine).await;
    world.wait_for(&patient, &next, "completed").await;
    running.stop().await;
}

/// A text that isn't welcome isn't handed over, whatever number there is; and one channel's wish is no other's.
#[tokio::test]
async fn texts_are_unwelcome_where_e_mail_is_not() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let queue = async |topic| {
        world
            .queue(&patient, |message| {
                text(message);
                about(topic, Pressing::Routine)(message);
            })
            .await
    };
    let visits = queue(Topic::Visits).await;
    let forms = queue(Topic::Forms).await;
    say(&world, &patient, |wishes| {
        wishes.set_ways(Topic::Visits, Some(vec![Via::Email]));
        wishes.set_ways(Topic::Forms, Some(vec![Via::Email, Via::Sms]));
    })
    .await;
    let running = world.run_texts(provider.options());
    let done = world.wait_for(&patient, &visits, "not-done").await;
    assert_eq!(
        why(&done),
        (
            "unwelcome",
            "The patient does not want text messages about visits."
        )
    );
    world.wait_for(&patient, &forms, "in-progress").await;
    running.stop().await;
    assert_eq!(provider.taken().len(), 1);
}

/// What another patient says, or who writes something else under that id, changes nothing.
#[tokio::test]
async fn wishes_are_this_patients_and_mean_something() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let other = world.patient(&[]).await;
    let peer = Peer::start(&[]).await;
    say(&world, &other, |wishes| {
        wishes.set_ways(Topic::Care, Some(Vec::new()));
    })
    .await;
    let vault = world.trust.vault();
    let odd = json!({
        "resourceType": "Basic", "id": vault.wishes_id(TENANT, &patient),
        "code": {"coding": [{"system": trust::conventions::BASIC_SYSTEM, "code": trust::conventions::MESSAGE_WISHES}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "extension": [
            {"url": trust::conventions::MESSAGE_TOPIC_URL, "extension": [{"url": "topic", "valueCode": "<script>"}]},
            {"url": trust::conventions::MESSAGE_HOURS_URL, "extension": [{"url": "from", "valueTime": "00:00:00"}]},
            {"url": trust::conventions::MESSAGE_LEVEL_URL, "valueCode": "nothing"}
        ]
    });
    world.put(&patient, odd).await;
    let id = world
        .queue(&patient, about(Topic::Care, Pressing::Routine))
        .await;
    let running = world.run(world.options(peer.port));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
}

/// Hours of one's own hold when a message leaves, also for what was queued before they were said.
#[tokio::test]
async fn ones_own_quiet_hours_hold_when_a_message_leaves() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let peer = Peer::start(&[]).await;
    // It is 07:33.
    let end_ms = NOW_MS / DAY_MS * DAY_MS + 8 * HOUR_MS;
    let hours = |expires_ms: u64| {
        move |message: &mut Message| {
            about(Topic::Care, Pressing::Important)(message);
            message.expires_ms = Some(expires_ms);
            message.hours = Some(Hours {
                zone: "UTC".to_owned(),
                important: true,
                ..Hours::default()
            });
        }
    };
    let waits = world.queue(&patient, hours(end_ms + HOUR_MS)).await;
    let short = world.queue(&patient, hours(end_ms - 1)).await;
    let urgent = world
        .queue(&patient, about(Topic::Care, Pressing::Clinical))
        .await;
    say(&world, &patient, |wishes| {
        let time = |text: &str| text.parse().expect("a time");
        wishes.set_quiet(Some(QuietHours {
            from: time("22:00"),
            until: time("08:00"),
        }));
    })
    .await;
    let running = world.run(world.options(peer.port));
    world.wait_for(&patient, &urgent, "completed").await;
    let ended = world.wait_for(&patient, &short, "not-done").await;
    assert_eq!(why(&ended).0, "quiet-hours");
    let mut patience = crate::patience::Patience::new();
    while world.outbox().await[0].key.due_ms != end_ms {
        patience.wait("it waits until eight").await;
    }
    assert_eq!(peer.seen().len(), 1);
    world.clock.set(end_ms);
    world.wait_for(&patient, &waits, "completed").await;
    running.stop().await;
}
