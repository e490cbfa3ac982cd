//! What is on its way to somebody who has come into hospital meanwhile: held, left out, or sent, as its journey says.

use serde_json::{Value, json};
use trust::attempts::Did;
use trust::outgoing::{Message, WhileAdmitted};

use crate::attempts::{dids, of};
use crate::centre::Centre;
use crate::letters::{BOUND, HOUR_MS, Partner, call, home, letter, until_handed};
use crate::patience::Patience;
use crate::peer::Peer;
use crate::provider::Provider;
use crate::push::{browsers, push};
use crate::pusher::Pusher;
use crate::texts::{mobile, text};
use crate::world::{NOW_MS, World};

const MINUTE_MS: u64 = 60_000;
/// How often it is asked anew whether a stay has ended.
const AGAIN_MS: u64 = 15 * MINUTE_MS;

/// Writes the patient's stay with this status; returns its id.
pub(crate) async fn stay(
    world: &World,
    patient: &str,
    id: Option<&str>,
    (class, status): (&str, &str),
) -> String {
    let owner = ledger::Owner::Patient(patient.to_owned());
    let minted = || {
        world
            .trust
            .vault()
            .ledger()
            .mint_id(crate::world::TENANT, &owner)
    };
    let id = id.map_or_else(minted, str::to_owned);
    let system = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
    let encounter = json!({
        "resourceType": "Encounter", "id": id, "status": status,
        "class": { "system": system, "code": class },
        "subject": { "reference": format!("Patient/{patient}") },
        "period": { "start": fhir::date::instant(NOW_MS - 60 * MINUTE_MS) }
    });
    world.put(patient, encounter).await;
    id
}

pub(crate) fn holding(message: &mut Message) {
    message.while_admitted = WhileAdmitted::Hold;
}

/// Waits until a message waits for the end of a stay.
pub(crate) async fn held(world: &World, patient: &str, id: &str) -> Value {
    let mut patience = Patience::new();
    loop {
        let found = world.communication(patient, id).await;
        if dids(&found).last() == Some(&Did::Waits) {
            return found;
        }
        patience.wait(&format!("not held: {found}")).await;
    }
}

/// Waits until the entry of a message is due later than now.
async fn put_off(world: &World) -> u64 {
    let mut patience = Patience::new();
    loop {
        let now_ms = world.trust.vault().ledger().clock().now_ms();
        let due_ms = world.outbox().await[0].key.due_ms;
        if due_ms > now_ms {
            return due_ms;
        }
        patience.wait("it is asked again").await;
    }
}

/// A message of a channel that was on its way when the patient came into hospital waits there, and leaves when they are
/// out: by each channel alike.
#[tokio::test]
async fn by_each_channel_messages_wait_until_the_patient_is_out() {
    for channel in ["email", "sms", "smpp", "push"] {
        let world = World::new().await;
        let peer = Peer::start(&[]).await;
        let (provider, centre) = (Provider::start().await, Centre::start().await);
        let pusher = Pusher::start().await;
        let patient = world.patient(&mobile("(617) 555-0142")).await;
        world
            .put(&patient, {
                let mut record = world.record(&patient).await;
                let mails = json!({ "system": "email", "value": crate::world::ADDRESS });
                record["telecom"]
                    .as_array_mut()
                    .expect("telecoms")
                    .push(mails);
                record
            })
            .await;
        let _browser = browsers(&world, &pusher, &patient, 1).await;
        let id = world
            .queue_for(&patient, MINUTE_MS, |message| {
                match channel {
                    "email" => {}
                    "push" => push(message),
                    _ => text(message),
                }
                message.expires_ms = Some(NOW_MS + 100 * MINUTE_MS);
                holding(message);
            })
            .await;
        let encounter = stay(&world, &patient, None, ("EMER", "arrived")).await;
        let running = match channel {
            "email" => world.run(world.options(peer.port)),
            "sms" => world.run_texts(provider.options()),
            "smpp" => world.run_texts(centre.options()),
            _ => world.run_push(pusher.options()),
        };
        world.clock.advance(MINUTE_MS);
        let found = held(&world, &patient, &id).await;
        let line = of(&found).pop().expect("an attempt");
        assert_eq!(
            (
                found["status"].as_str(),
                line.reason.as_deref(),
                line.next_ms
            ),
            (Some("preparation"), Some("admitted"), None),
            "{channel}: {found}"
        );
        // Asked again it is no news, whatever ward they are on by now.
        assert_eq!(put_off(&world).await, NOW_MS + MINUTE_MS + AGAIN_MS);
        stay(&world, &patient, Some(&encounter), ("IMP", "in-progress")).await;
        world.clock.advance(AGAIN_MS);
        let due_ms = put_off(&world).await;
        assert_eq!(world.communication(&patient, &id).await, found, "{channel}");
        assert!(peer.seen().is_empty() && provider.taken().is_empty() && pusher.heard().is_empty());
        assert!(centre.taken().is_empty());

        stay(&world, &patient, Some(&encounter), ("IMP", "finished")).await;
        world.clock.set(due_ms);
        let status = if matches!(channel, "sms" | "smpp") {
            "in-progress"
        } else {
            "completed"
        };
        let done = world.wait_for(&patient, &id, status).await;
        running.stop().await;
        assert_eq!(
            dids(&done)[..2],
            [Did::Waits, Did::HandedOver],
            "{channel}: {done}"
        );
    }
}

/// A stay that outlasts a message ends it a minute before its time, so that its journey hears why; what isn't to go to
/// anybody in hospital ends at once; and what is to go, goes.
#[tokio::test]
async fn what_a_stay_outlasts_or_leaves_out_is_not_sent() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    stay(&world, &patient, None, ("IMP", "onleave")).await;
    let running = world.run(world.options(peer.port));
    let late = world
        .queue(&patient, |message| {
            message.expires_ms = Some(NOW_MS + 20 * MINUTE_MS);
            holding(message);
        })
        .await;
    held(&world, &patient, &late).await;
    assert_eq!(put_off(&world).await, NOW_MS + AGAIN_MS);
    world.clock.advance(AGAIN_MS);
    assert_eq!(put_off(&world).await, NOW_MS + 19 * MINUTE_MS);
    world.clock.set(NOW_MS + 19 * MINUTE_MS);
    let late = world.wait_for(&patient, &late, "not-done").await;
    let left_out = world
        .queue(&patient, |message| {
            message.while_admitted = WhileAdmitted::Skip;
        })
        .await;
    let left_out = world.wait_for(&patient, &left_out, "not-done").await;
    assert!(peer.seen().is_empty());
    for (message, expected) in [
        (&late, &[Did::Waits, Did::NotSent][..]),
        (&left_out, &[Did::NotSent]),
    ] {
        assert_eq!(message["statusReason"]["coding"][0]["code"], "admitted");
        assert_eq!(dids(message), expected);
    }
    // What can't wait goes, and so does what other programs have put out.
    let urgent = world.queue(&patient, |_| {}).await;
    world.wait_for(&patient, &urgent, "completed").await;
    assert_eq!(peer.seen().len(), 1);
    running.stop().await;
}

/// A stay that nobody closes is asked about more and more seldom, and each look changes nothing.
#[tokio::test]
async fn what_waits_for_long_is_asked_about_seldom() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let encounter = stay(&world, &patient, None, ("IMP", "in-progress")).await;
    let running = world.run(world.options(peer.port));
    let id = world
        .queue(&patient, |message| {
            message.expires_ms = None;
            holding(message);
        })
        .await;
    let found = held(&world, &patient, &id).await;
    let mut now_ms = NOW_MS;
    for minutes in [15, 15, 30, 60, 120, 240, 360, 360] {
        let due_ms = put_off(&world).await;
        assert_eq!((due_ms - now_ms) / MINUTE_MS, minutes);
        world.clock.set(due_ms);
        now_ms = due_ms;
    }
    put_off(&world).await;
    assert_eq!(world.communication(&patient, &id).await, found);
    stay(&world, &patient, Some(&encounter), ("IMP", "finished")).await;
    world.clock.advance(360 * MINUTE_MS);
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
}

/// Letters and calls ask, too, whether the patient is in hospital. They are decided on when a batch is closed: what is held
/// waits for the next one, and opens none before; what no other comes in time for ends at once, so that its journey hears
/// why.
#[tokio::test]
async fn letters_and_calls_wait_for_a_closing_after_the_stay() {
    for (channel, make) in [("letter", letter as fn(&mut Message)), ("voice", call)] {
        let partner = Partner::new(BOUND);
        let world = World::under(partner.policies.path()).await;
        let patient = world.patient(&[home()]).await;
        let admitted = ("IMP", "in-progress");
        let encounter = stay(&world, &patient, None, admitted).await;
        let id = world
            .queue(&patient, |message| {
                make(message);
                holding(message);
            })
            .await;
        // Its time is over before eight of the next day.
        let short = world
            .queue(&patient, |message| {
                make(message);
                holding(message);
                message.expires_ms = Some(NOW_MS + 20 * HOUR_MS);
            })
            .await;
        let options = || match channel {
            "letter" => partner.letters(),
            _ => partner.calls(),
        };
        world.clock.set(NOW_MS + HOUR_MS);
        let running = world.run_files(options());
        let found = world.wait_for(&patient, &short, "not-done").await;
        assert_eq!(
            found["statusReason"]["coding"][0]["code"], "admitted",
            "{channel}: {found}"
        );
        let found = held(&world, &patient, &id).await;
        assert_eq!(found["status"], "preparation", "{channel}: {found}");
        let mut patience = Patience::new();
        while world.outbox().await.len() != 1 {
            patience.wait("a batch is left open").await;
        }
        let next_ms = NOW_MS + 24 * HOUR_MS + 26 * 60_000 + 40_000;
        assert_eq!(
            world.outbox().await[0].key.due_ms,
            next_ms,
            "{channel}: eight on the next day"
        );
        assert!(partner.rows("out").is_empty(), "{channel}");
        stay(&world, &patient, Some(&encounter), ("IMP", "finished")).await;
        world.clock.set(next_ms);
        world.wait_for(&patient, &id, "in-progress").await;
        until_handed(&world).await;
        running.stop().await;
        assert_eq!(partner.rows("out").len(), 1, "{channel}");
    }
}

/// Who is seen on one day, has a visit ahead, or was in hospital before, isn't in hospital; nor is somebody else's stay
/// theirs.
#[tokio::test]
async fn visits_and_stays_of_others_hold_nothing() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let (patient, other) = (world.patient(&[]).await, world.patient(&[]).await);
    stay(&world, &other, None, ("IMP", "in-progress")).await;
    for (class, status) in [
        ("AMB", "in-progress"),
        ("IMP", "planned"),
        ("EMER", "finished"),
        ("IMP", "cancelled"),
    ] {
        stay(&world, &patient, None, (class, status)).await;
    }
    let running = world.run(world.options(peer.port));
    let id = world.queue(&patient, holding).await;
    world.wait_for(&patient, &id, "completed").await;
    let id = world.queue(&other, holding).await;
    held(&world, &other, &id).await;
    assert_eq!(peer.seen().len(), 1);
    running.stop().await;
}
