//! Which messages a patient wants, as journeys go by it, over a real store.

use crate::world::{DAY, HOUR, Mail, World};
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::consent::{QuietHours, Topic, Via, Wishes};

/// A journey that sends one message as soon as somebody is operated upon.
fn source(step: &str) -> String {
    format!(
        "name: notes
title: Notes
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {{done: performedDateTime}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: tell
steps:
  tell:
    title: Tell
    {step}
  call:
    title: Call
    task: {{title: Call, reason: The news reached nobody., role: coordinator, due: 24h}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

fn send(more: &str) -> String {
    source(&format!(
        "send: {{title: News, words: News for you., channels: [email, sms, portal], expires: 6h{more}}}
    next: end
    on_failure: call"
    ))
}

fn ask() -> String {
    source(
        "ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Are you well?, type: yes-no}]
      give_up_after: 2d
      channels: [email, portal]
    answered: end
    no_answer: call",
    )
}

async fn say(world: &World, patient: &str, change: impl FnOnce(&mut Wishes)) {
    let vault = world.trust.vault();
    let mut wishes = Wishes::default();
    change(&mut wishes);
    let mut resource = Resource::new(ResourceType::Basic);
    resource.set_id(&vault.wishes_id(crate::world::TENANT, patient));
    wishes.write(patient, &mut resource);
    world.put(vec![resource.into_value()]).await;
}

fn reached() -> Value {
    json!([
        {"system": "email", "value": "ottilie.quandt@example.com"},
        {"system": "sms", "value": "+16175550142"}
    ])
}

/// Medium, status and why not of each message, in the order in which they were written.
async fn came_to(world: &World, patient: &str) -> Vec<String> {
    let mut all = world.of(patient, ResourceType::Communication).await;
    all.sort_by_key(|one| one.text_at(&["meta", "lastUpdated"]).map(str::to_owned));
    let shown = all.iter().map(|one| {
        let text = |path: &[&str]| one.text_at(path).unwrap_or_default().to_owned();
        let medium = text(&["medium", "0", "coding", "0", "code"]);
        let (status, why) = (text(&["status"]), text(&["statusReason", "text"]));
        format!("{medium} {status} {why}").trim_end().to_owned()
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

async fn operated(source: &str, change: impl FnOnce(&mut Wishes)) -> (World, String) {
    let world = World::with(Mail::Silent, source).await;
    let patient = world.patient_with_telecom(reached()).await;
    say(&world, &patient, change).await;
    world.operate(&patient).await;
    world.drain().await;
    (world, patient)
}

#[tokio::test]
async fn what_is_not_wanted_goes_by_the_next_way_that_is() {
    let no_mail = |topic: Topic, reach: &'static [Via]| {
        move |wishes: &mut Wishes| wishes.set_ways(topic, Some(reach.to_vec()))
    };
    let mail = "EMAILWRIT preparation";
    let text = "SMSWRIT preparation";
    let inbox = "PORTAL completed";
    let no_mail_on =
        |what: &str| format!("EMAILWRIT not-done The patient does not want e-mail about {what}.");
    let no_text_on = |what: &str| {
        format!("SMSWRIT not-done The patient does not want text messages about {what}.")
    };
    let care = "the care plan";
    // By topic: what is said of another means nothing to it.
    let (world, patient) = operated(&send(""), no_mail(Topic::Visits, &[])).await;
    assert_eq!(came_to(&world, &patient).await, [mail]);
    let (world, patient) = operated(&send(""), no_mail(Topic::Care, &[Via::Sms])).await;
    assert_eq!(
        came_to(&world, &patient).await,
        [text],
        "the way that is wanted is tried first, and e-mail not at all"
    );
    let (world, patient) = operated(&send(""), no_mail(Topic::Care, &[])).await;
    let expected = [no_mail_on(care), inbox.to_owned(), no_text_on(care)];
    assert_eq!(came_to(&world, &patient).await, expected);
    let view = world.view(&patient).await;
    let told = "does not want messages of this kind by this channel";
    assert!(
        view.trail.iter().any(|entry| entry.what.contains(told)),
        "{:?}",
        view.trail
    );
    // What a message is about is what its file says.
    let visits = send(", topic: visits");
    let (world, patient) = operated(&visits, no_mail(Topic::Visits, &[])).await;
    let expected = [no_mail_on("visits"), inbox.to_owned(), no_text_on("visits")];
    assert_eq!(came_to(&world, &patient).await, expected);
    // A form's invitation is about forms.
    let (world, patient) = operated(&ask(), no_mail(Topic::Forms, &[])).await;
    let expected = [no_mail_on("questions and forms"), inbox.to_owned()];
    assert_eq!(came_to(&world, &patient).await, expected);
    assert_eq!(world.forms(&patient).await.len(), 1, "the form is there");
}

#[tokio::test]
async fn only_what_is_important_reaches_out_where_no_more_is_wanted() {
    let few = |wishes: &mut Wishes| wishes.set_only_important(true);
    let (world, patient) = operated(&send(""), few).await;
    let all = came_to(&world, &patient).await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[1].starts_with("PORTAL completed"), "{all:?}");
    assert!(all[0].contains("nothing but what is important"), "{all:?}");
    let (world, patient) = operated(&send(", urgency: important"), few).await;
    assert_eq!(came_to(&world, &patient).await, ["EMAILWRIT preparation"]);
    // What can't wait is held back by none of it.
    let clinical = send(", urgency: clinical, because: The wound may be infected.");
    let nothing = |wishes: &mut Wishes| {
        wishes.set_only_important(true);
        wishes.set_ways(Topic::Care, Some(Vec::new()));
        wishes.set_quiet(Some(night("10:00", "20:00")));
    };
    let (world, patient) = operated(&clinical, nothing).await;
    assert_eq!(came_to(&world, &patient).await, ["EMAILWRIT preparation"]);
}

fn night(from: &str, until: &str) -> QuietHours {
    let time = |text: &str| text.parse().expect("a time");
    QuietHours {
        from: time(from),
        until: time(until),
    }
}

/// The way that the patient wants first is tried first, the other when it fails, the portal last; also by a server that
/// was started anew in between.
#[tokio::test]
async fn the_patients_order_is_kept_until_something_arrives() {
    let text_first = |wishes: &mut Wishes| {
        wishes.set_ways(Topic::Care, Some(vec![Via::Sms, Via::Email]));
    };
    let (world, patient) = operated(&send(""), text_first).await;
    assert_eq!(came_to(&world, &patient).await, ["SMSWRIT preparation"]);
    let world = world.reopen().await;
    world.pass(6 * HOUR).await;
    let all = came_to(&world, &patient).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0], "EMAILWRIT preparation");
    assert!(all[1].starts_with("SMSWRIT not-done"), "{all:?}");
    world.pass(6 * HOUR).await;
    let all = came_to(&world, &patient).await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all[1], "PORTAL completed");
    assert!(world.view(&patient).await.ended.is_some());
    // Who says nothing of an order gets the file's.
    let (world, patient) = operated(&send(""), |_| {}).await;
    assert_eq!(came_to(&world, &patient).await, ["EMAILWRIT preparation"]);
    // Of a way without an address the next is taken at once.
    let world = World::with(Mail::Silent, &send("")).await;
    let mail = json!([{"system": "email", "value": "ottilie.quandt@example.com"}]);
    let patient = world.patient_with_telecom(mail).await;
    say(&world, &patient, text_first).await;
    world.operate(&patient).await;
    world.drain().await;
    let all = came_to(&world, &patient).await;
    assert_eq!(all[0], "EMAILWRIT preparation");
    assert!(all[1].starts_with("SMSWRIT not-done"), "{all:?}");
}

/// Where the journey asks for room, hours of one's own hold beside its own.
#[tokio::test]
async fn ones_own_quiet_hours_are_asked_with_the_others() {
    // It is 14:00.
    let (world, patient) = operated(&send(""), |wishes| {
        wishes.set_quiet(Some(night("13:00", "17:00")));
    })
    .await;
    assert!(came_to(&world, &patient).await.is_empty());
    let view = world.view(&patient).await;
    let held = "held for quiet hours until 2026-11-02 17:00";
    assert!(
        view.trail.iter().any(|entry| entry.what.contains(held)),
        "{:?}",
        view.trail
    );
    world.pass(3 * HOUR).await;
    assert_eq!(came_to(&world, &patient).await, ["EMAILWRIT preparation"]);
    // What would end too late lies in the inbox at once.
    let (world, patient) = operated(&send(""), |wishes| {
        wishes.set_quiet(Some(night("13:00", "21:00")));
    })
    .await;
    assert_eq!(came_to(&world, &patient).await, ["PORTAL completed"]);
    world.pass(DAY).await;
}
