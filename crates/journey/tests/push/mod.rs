//! Notifications as a channel of journeys, over a real store: to whom they go, what is in them, and what comes after them.

use crate::world::{HOUR, Mail, TENANT, World};
use fhir::{Resource, ResourceType};
use journey::{Behaviour, Definition, Size, simulate};
use serde_json::{Value, json};
use trust::Agent;
use trust::consent::{Topic, Via};
use trust::conventions::CONFIDENTIAL_EXTENSION;
use trust::identity::{NewPushDevice, Session, SignIn};
use trust::outgoing::{CHANNEL_PUSH, Message};

const SOURCE: &str = "name: notes
title: Notes
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: tell
steps:
  tell:
    title: Tell
    send:
      title: How your knee is
      words: Hello {patient.given|there}, please bend your knee.
      channels: [push, email]
      expires: 4h
    next: end
    on_failure: call
  call:
    title: Call
    task: {title: Call, reason: The news reached nobody., role: coordinator, due: 24h}
    next: end
    overdue: {role: clinician, priority: urgent}
";

impl World {
    /// Notifications on their way.
    async fn pushes(&self) -> Vec<Message> {
        let ledger = self.trust.vault().ledger();
        let due = ledger.outbox_due(CHANNEL_PUSH, u64::MAX >> 20, 1000).await;
        let due = due.expect("due").into_iter();
        due.map(|entry| serde_json::from_slice(&entry.body).expect("a message"))
            .collect()
    }

    async fn signed_in(&self, patient: &str) -> Session {
        let identity = self.trust.identity();
        let operator = Agent::system(TENANT, "demo");
        let link = identity.make_link(&operator, patient, 3_600, true).await;
        let link = link.expect("a link");
        let done = identity.use_link(TENANT, &link, "1941-03-07").await;
        match done.expect("signed in") {
            SignIn::Done { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    /// The patient turns notifications on in a browser.
    async fn notify(&self, patient: &str) {
        let session = self.signed_in(patient).await;
        let ways = trust::identity::PushWays::BROWSERS;
        self.trust.vault().set_notifications(ways);
        let key = self.trust.identity().push_key(session.agent.tenant).await;
        let new = NewPushDevice {
            name: "Telephone".to_owned(),
            endpoint: format!("https://push.example/{patient}"),
            key: format!("B{}", "A".repeat(86)),
            auth: "A".repeat(22),
            signer: key.expect("a key").public().to_owned(),
        };
        let added = self.trust.identity().add_push_device(&session, &new).await;
        added.expect("added");
    }
}

fn telecom() -> Value {
    json!([{"system": "email", "value": "ottilie.quandt@example.com"}])
}

/// What is known of the notification by whoever hands it over.
async fn becomes(world: &World, patient: &str, change: impl Fn(&mut Resource)) {
    let all = world.of(patient, ResourceType::Communication).await;
    let mut message = all
        .into_iter()
        .find(|one| one.text_at(&["medium", "0", "coding", "0", "code"]) == Some("PUSH"))
        .expect("a notification");
    change(&mut message);
    world.put(vec![message.into_value()]).await;
    world.drain().await;
}

fn has(all: &[String], one: &str) -> bool {
    all.iter().any(|found| found.contains(one))
}

/// A notification is a way like the others: it is tried in the patient's order, and not at all by who doesn't want it.
#[tokio::test]
async fn a_notification_has_its_place_in_the_patients_order() {
    let other = |ways: &[Via], expected: &'static str, pushes: usize| {
        let (ways, expected) = (ways.to_vec(), expected);
        async move {
            let world = World::with(Mail::Silent, SOURCE).await;
            let patient = world.patient_with_telecom(telecom()).await;
            world.notify(&patient).await;
            let vault = world.trust.vault();
            let mut wishes = vault.wishes(TENANT, &patient).await.expect("read");
            wishes.set_ways(Topic::Care, Some(ways.clone()));
            let mut resource = Resource::new(ResourceType::Basic);
            resource.set_id(&vault.wishes_id(TENANT, &patient));
            wishes.write(&patient, &mut resource);
            world.put(vec![resource.into_value()]).await;
            world.operate(&patient).await;
            world.drain().await;
            let all = world.of(&patient, ResourceType::Communication).await;
            let waits = all
                .iter()
                .find(|one| one.text_at(&["status"]) == Some("preparation"));
            let medium = waits.and_then(|one| one.text_at(&["medium", "0", "coding", "0", "code"]));
            assert_eq!(medium, Some(expected), "{ways:?}: {all:?}");
            assert_eq!(world.pushes().await.len(), pushes, "{ways:?}");
        }
    };
    other(&[Via::Push, Via::Email], "PUSH", 1).await;
    other(&[Via::Email, Via::Push], "EMAILWRIT", 0).await;
    other(&[Via::Email], "EMAILWRIT", 0).await;
    other(&[Via::Push], "PUSH", 1).await;
}

/// Where the organisation sends none, the next channel is taken, and nothing waits for nobody.
#[tokio::test]
async fn where_no_notifications_are_sent_the_next_channel_is_taken() {
    let world = World::with(Mail::Silent, SOURCE).await;
    let patient = world.patient_with_telecom(telecom()).await;
    world.notify(&patient).await;
    let world = world.reopen().await;
    world.operate(&patient).await;
    world.drain().await;
    assert!(world.pushes().await.is_empty());
    let all = world.of(&patient, ResourceType::Communication).await;
    let mail = |one: &Resource| {
        one.text_at(&["medium", "0", "coding", "0", "code"]) == Some("EMAILWRIT")
            && one.text_at(&["status"]) == Some("preparation")
    };
    assert!(all.iter().any(mail), "{all:?}");
}

#[tokio::test]
async fn a_notification_has_no_words_and_nothing_of_the_patient() {
    let world = World::with(Mail::Silent, SOURCE).await;
    let patient = world.patient_with_telecom(telecom()).await;
    world.notify(&patient).await;
    world.operate(&patient).await;
    world.drain().await;
    let pushes = world.pushes().await;
    assert_eq!(pushes.len(), 1);
    let message = &pushes[0];
    assert_eq!(
        (
            message.channel.as_str(),
            message.subject.as_str(),
            message.text.as_str()
        ),
        ("push", "", "")
    );
    let whole = serde_json::to_string(message).expect("JSON");
    for planted in [
        "Quandt",
        "Ottilie",
        "knee",
        "1941",
        "example.com",
        "push.example",
    ] {
        assert!(!whole.contains(planted), "{planted} in {whole}");
    }
    assert_eq!(world.outbox().await, 0, "no e-mail beside it");
    let all = world.messages(&patient).await;
    assert!(has(&all, "PUSH: preparation"), "{all:?}");
    becomes(&world, &patient, |message| {
        message.set("status", json!("completed"));
    })
    .await;
    let view = world.view(&patient).await;
    assert!(view.ended.is_some(), "{view:?}");
}

/// Where notifications are on nowhere, or the patient wants to be reached at one address alone, the next channel is tried
/// at once.
#[tokio::test]
async fn the_next_channel_is_tried_at_once_where_notifications_are_on_nowhere() {
    let alone = json!([{"url": CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
    let alone = json!([{"system": "email", "value": "own@example.com", "extension": alone}]);
    for (telecom, has_device, code) in [
        (telecom(), false, "no-address"),
        (alone, true, "preference"),
    ] {
        let world = World::with(Mail::Silent, SOURCE).await;
        let patient = world.patient_with_telecom(telecom).await;
        if has_device {
            world.notify(&patient).await;
        }
        world.operate(&patient).await;
        world.drain().await;
        assert!(world.pushes().await.is_empty());
        assert_eq!(world.outbox().await, 1);
        let all = world.messages(&patient).await;
        assert!(
            has(&all, "PUSH: not-done") && has(&all, "EMAILWRIT: preparation"),
            "{all:?}"
        );
        let messages = world.of(&patient, ResourceType::Communication).await;
        let refused = messages
            .iter()
            .find(|one| one.text_at(&["status"]) == Some("not-done"));
        let found = refused.and_then(|one| one.text_at(&["statusReason", "coding", "0", "code"]));
        assert_eq!(found, Some(code));
    }
    // One who has taken the last device away by then.
    let world = World::with(Mail::Silent, SOURCE).await;
    let patient = world.patient_with_telecom(telecom()).await;
    world.notify(&patient).await;
    let session = world.signed_in(&patient).await;
    let identity = world.trust.identity();
    identity.end_other_sessions(&session).await.expect("ended");
    world.operate(&patient).await;
    world.drain().await;
    assert!(world.pushes().await.is_empty());
}

/// What is known to have failed, and what nothing is heard of in its time, goes by the next channel.
#[tokio::test]
async fn what_no_push_service_takes_goes_by_the_next_channel() {
    for waits in [false, true] {
        let world = World::with(Mail::Silent, SOURCE).await;
        let patient = world.patient_with_telecom(telecom()).await;
        world.notify(&patient).await;
        world.operate(&patient).await;
        world.drain().await;
        if waits {
            world.pass(4 * HOUR).await;
        } else {
            becomes(&world, &patient, |message| {
                message.set("status", json!("not-done"));
            })
            .await;
        }
        let all = world.messages(&patient).await;
        assert!(
            has(&all, "PUSH: not-done") && has(&all, "EMAILWRIT: preparation"),
            "{all:?}"
        );
    }
}

fn codes(source: &str) -> Vec<String> {
    let found = journey::check(source).into_iter();
    found.map(|finding| finding.code).collect()
}

/// A locked screen shows words of ours alone: no file can put any there.
#[tokio::test]
async fn words_of_a_journey_s_own_are_an_error() {
    assert!(!codes(SOURCE).iter().any(|code| code == "J002"));
    let twice = SOURCE.replacen("[push, email]", "[push, email, push]", 1);
    assert!(codes(&twice).contains(&"J024".to_owned()));
    for more in [
        "push: {words: 'Hello {patient.given|there}'}",
        "push: {words: 'Your knee: {link}'}",
        "push: {title: 'Your result'}",
        "push: Your result",
    ] {
        let source = SOURCE.replacen(
            "      expires: 4h\n",
            &format!("      {more}\n      expires: 4h\n"),
            1,
        );
        let compiled = Definition::compile(&source, 1);
        assert!(compiled.is_err(), "{more}");
        assert!(codes(&source).contains(&"J002".to_owned()), "{more}");
    }
}

#[tokio::test]
async fn scenarios_and_simulations_say_who_has_turned_notifications_on() {
    let definition = Definition::compile(SOURCE, 1).expect("a journey");
    let given = "given:\n  now: 2026-03-02T11:00:00Z\n  entry: {status: completed, performedDateTime: 2026-03-02T10:00:00Z}\n";
    for (on, by, other) in [("on", "push", "email"), ("off", "email", "push")] {
        for (channel, passes) in [(by, true), (other, on == "off")] {
            let scenarios = format!(
                "{given}  notifications: {on}\nscenarios:\n  - name: one\n    then: {{sent: [{{step: tell, by: {channel}}}]}}\n"
            );
            let tested = journey::test(&definition, &scenarios).expect("scenarios");
            // What is refused was tried, and isn't what was sent.
            let expected = passes && !(on == "off" && channel == "push");
            assert_eq!(tested.passed(), expected, "{scenarios}{}", tested.text());
        }
    }
    let size = Size {
        patients: 200,
        days: 30,
        seed: 7,
        threads: 1,
    };
    let sent = |behaviour: &str| {
        let behaviour = Behaviour::parse(&definition, behaviour).expect("a behaviour");
        let report = simulate(&definition, &behaviour, size);
        let of = |name: &str| -> u64 {
            let found = report.messages_by_day.get(name);
            found.map_or(0, |days| days.iter().sum())
        };
        (of("push"), of("email"), report.assumptions.join("\n"))
    };
    let (push, email, told) = sent("patients: {email_arrives: 1}\n");
    assert_eq!((push, email), (0, 200));
    assert!(
        told.contains("0 % of patients have turned notifications on"),
        "{told}"
    );
    let (push, email, _) = sent("patients: {email_arrives: 1, notifications: 1}\n");
    assert_eq!((push, email), (200, 0));
    let (push, email, _) = sent("patients: {email_arrives: 1, notifications: 0.5}\n");
    assert!(push + email == 200 && (70..130).contains(&push), "{push}");
}
