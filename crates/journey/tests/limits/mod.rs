//! Quiet hours, and limits over all journeys of a patient, over a real store.

use crate::world::{DAY, HOUR, Mail, START, World};
use serde_json::json;
use trust::{Action, Role};

/// A journey that sends one message as soon as somebody is operated upon.
fn source(name: &str, limits: &str, urgency: &str) -> String {
    format!(
        "name: {name}
title: {name}
owner: Team
purpose: TREAT
at_most: 30d
messages: {limits}
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
    send:
      title: News of {name}
      words: News for you.
      channels: [email, portal]
      expires: 2d{urgency}
    next: end
    on_failure: call
  call:
    title: Call
    task: {{title: Call, reason: The news reached nobody., role: coordinator, due: 24h}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

const ONE_A_DAY: &str = "{per_day: 1}";
/// The world begins at 14:00 UTC, which is evening in Auckland.
const NIGHT: &str = "{quiet: {from: \"21:00\", until: \"08:00\"}}";

async fn told(world: &World, patient: &str) -> Vec<String> {
    let views = world.views(patient).await;
    let trail = views.iter().flat_map(|view| &view.trail);
    let told = trail.filter(|entry| entry.what.contains(" by email"));
    let mut told: Vec<(u64, String)> = told
        .map(|entry| ((entry.at_ms - START) / HOUR, entry.what.clone()))
        .collect();
    told.sort();
    told.into_iter()
        .map(|(hour, what)| format!("{hour}h {what}"))
        .collect()
}

#[tokio::test]
async fn two_journeys_that_begin_by_one_event_share_one_place() {
    let world = World::with(Mail::Delivers, &source("after", ONE_A_DAY, "")).await;
    let important = "\n      urgency: important";
    world.publish(&source("before", ONE_A_DAY, important)).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let world = world.reopen().await;
    world.pass(2 * DAY).await;
    let told = told(&world, &patient).await;
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].starts_with("0h Message by email held because the patient has had as many messages as they may until 2026-11-03 14:00: Tell"), "{told:#?}");
    assert_eq!(
        told[1..],
        ["0h Message by email: Tell", "24h Message by email: Tell"]
    );
}

#[tokio::test]
async fn neighbours_in_a_shard_do_not_share_a_place() {
    let world = World::with(Mail::Delivers, &source("after", ONE_A_DAY, "")).await;
    for patient in world.neighbours(3).await {
        world.operate(&patient).await;
        world.pass(HOUR).await;
        let told = told(&world, &patient).await;
        assert!(
            told.len() == 1 && told[0].ends_with("h Message by email: Tell"),
            "{told:#?}"
        );
    }
}

#[tokio::test]
async fn what_is_clinical_goes_out_at_night_and_beyond_the_limit() {
    let both = "{per_day: 1, quiet: {from: \"12:00\", until: \"16:00\"}}";
    let world = World::with(Mail::Delivers, &source("routine", both, "")).await;
    let clinical = "\n      urgency: clinical\n      because: The wound may be infected.";
    world.publish(&source("urgent", both, clinical)).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.pass(3 * DAY).await;
    let told = told(&world, &patient).await;
    let sent: Vec<&String> = told
        .iter()
        .filter(|told| told.contains("by email: "))
        .collect();
    // The routine one is free a day later, and it is quiet then until four.
    let expected = ["0h Message by email: Tell", "26h Message by email: Tell"];
    assert_eq!(sent, expected, "{told:#?}");
}

/// The hours of one message, where nothing else is limited.
#[tokio::test]
async fn a_message_waits_for_its_window_and_goes_when_it_opens() {
    let window = "\n      window: {from: \"08:00\", until: \"10:00\"}";
    let source = source("news", NIGHT, window).replace(&format!("messages: {NIGHT}\n"), "");
    let world = World::with(Mail::Delivers, &source).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let held = "0h Message by email held for quiet hours until 2026-11-03 08:00: Tell";
    assert_eq!(told(&world, &patient).await, [held]);
    assert_eq!(world.outbox().await, 0);
    let world = world.reopen().await;
    world.pass(17 * HOUR).await;
    assert_eq!(told(&world, &patient).await, [held]);
    world.pass(HOUR).await;
    assert_eq!(
        told(&world, &patient).await,
        [held, "18h Message by email: Tell"]
    );
    // One that comes to it while it is open goes at once.
    world.pass(HOUR).await;
    let other = world.patient().await;
    world.operate(&other).await;
    assert_eq!(told(&world, &other).await, ["19h Message by email: Tell"]);
}

#[tokio::test]
async fn the_night_is_the_patients_and_moves_with_them() {
    let world = World::with(Mail::Delivers, &source("notes", NIGHT, "")).await;
    let patient = world.patient().await;
    let at_home = async |zone: &str| {
        let url = "http://hl7.org/fhir/StructureDefinition/tz-code";
        let person = json!({
            "resourceType": "Patient", "id": patient, "name": [{"family": "Quandt"}], "birthDate": "1941-03-07",
            "telecom": [{"system": "email", "value": "ottilie.quandt@example.com"}],
            "extension": [{"url": url, "valueCode": zone}]
        });
        world.put(vec![person]).await;
        world.drain().await;
    };
    // Three in the morning there, and two in the afternoon where the journey is.
    at_home("Pacific/Auckland").await;
    world.operate(&patient).await;
    let held = "0h Message by email held for quiet hours until 2026-11-02 19:00: Tell";
    assert_eq!(told(&world, &patient).await, [held]);
    let view = world.view(&patient).await;
    let waits = &view.waiting[0].what;
    assert!(
        waits.contains("held for quiet hours until 2026-11-02 19:00"),
        "{waits}"
    );
    assert_eq!(world.outbox().await, 0);
    world.pass(2 * HOUR).await;
    // In Perth it is midnight.
    at_home("Australia/Perth").await;
    let longer = "2h Message by email held for quiet hours until 2026-11-03 00:00: Tell";
    assert_eq!(told(&world, &patient).await, [held, longer]);
    world.pass(HOUR).await;
    at_home("Europe/London").await;
    let told = told(&world, &patient).await;
    assert_eq!(told, [held, longer, "3h Message by email: Tell"]);
}

/// Two messages, of which one goes and one waits; what waits is stopped, and others don't wait behind it.
#[tokio::test]
async fn what_is_called_off_while_it_waits_takes_nobodys_place() {
    let world = World::with(Mail::Delivers, &source("after", ONE_A_DAY, "")).await;
    world.publish(&source("before", ONE_A_DAY, "")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let views = world.views(&patient).await;
    let waits: Vec<_> = views.iter().filter(|view| view.ended.is_none()).collect();
    assert_eq!(waits.len(), 1);
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    let stopped = world.journeys.stop(&permit, &waits[0].id, "Enough").await;
    stopped.expect("stopped");
    world.pass(25 * HOUR).await;
    world.operate(&patient).await;
    let told = told(&world, &patient).await;
    let sent = told
        .iter()
        .filter(|told| **told == "25h Message by email: Tell");
    assert_eq!(sent.count(), 1, "{told:#?}");
}

/// A journey that writes so often on the day of an operation.
fn writes(name: &str, count: usize, urgency: &str, limits: &str) -> String {
    let mut steps = String::new();
    for n in 0..count {
        let next = if n + 1 == count {
            "end".to_owned()
        } else {
            format!("s{}", n + 1)
        };
        steps.push_str(&format!(
            "  s{n}:
    title: Write
    send:
      title: News
      words: There is news.
      channels: [email, portal]
      urgency: {urgency}
      email: {{subject: News, text: 'Read it at {{link}}'}}
    next: {next}
    on_failure: {next}
"
        ));
    }
    format!(
        "name: {name}
title: Writes
owner: Team
purpose: TREAT
at_most: 5d
{limits}entry:
  event: Procedure
  where: status = 'completed'
  anchors: {{done: performedDateTime}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: s0
steps:
{steps}"
    )
}

/// What a journey and another that is live come to is told when it is published.
#[tokio::test]
async fn limits_among_live_journeys_are_told_when_one_is_published() {
    let world = World::with(
        Mail::Delivers,
        &writes("first", 2, "routine", "messages: {per_day: 3}\n"),
    )
    .await;
    let permit = world.staff(Role::Squad, Action::Publish).await;
    let publish = async |source: &str| world.journeys.publish(&permit, source).await;
    let alone =
        publish(&writes("alone", 1, "routine", "").replace("completed", "in-progress")).await;
    assert_eq!(alone.expect("published").findings, []);
    let second = publish(&writes("second", 2, "routine", ""))
        .await
        .expect("published");
    let told: Vec<(&str, bool)> = (second.findings.iter())
        .map(|found| (found.code.as_str(), found.error))
        .collect();
    assert_eq!(told, [("J072", false)], "{:#?}", second.findings);
    let third = publish(&writes("third", 3, "important", "")).await;
    let third = third.expect("published").findings;
    let words = "3 important messages of `third` in a day";
    let starved = third.iter().filter(|found| found.message.contains(words));
    assert_eq!(starved.count(), 1, "{third:#?}");
}

/// The orders of a patient's messages.
async fn orders(world: &World, patient: &str) -> Vec<fhir::Resource> {
    let kind = fhir::ResourceType::CommunicationRequest;
    world.of(patient, kind).await
}

fn status(order: &fhir::Resource) -> &str {
    order.text_at(&["status"]).unwrap_or_default()
}

/// What waits is an order that others see; it is completed when the message leaves. What leaves at once is none.
#[tokio::test]
async fn a_message_that_waits_is_a_communication_request_until_it_leaves() {
    let world = World::with(Mail::Delivers, &source("after", ONE_A_DAY, "")).await;
    let patient = world.patient().await;
    let first_ms = world.now();
    world.operate(&patient).await;
    assert!(orders(&world, &patient).await.is_empty());
    // The second of the day waits.
    world.pass(HOUR).await;
    world.operate(&patient).await;
    let order = orders(&world, &patient).await.pop().expect("an order");
    assert_eq!(status(&order), "active");
    let said = order.as_value();
    assert_eq!(
        said["occurrencePeriod"]["start"],
        fhir::date::instant(first_ms + DAY)
    );
    assert_eq!(said["payload"][0]["contentString"], "News for you.");
    assert_eq!(said["medium"][0]["coding"][0]["code"], "EMAILWRIT");
    let plan = said["basedOn"][0]["reference"].as_str().expect("a plan");
    let plans = world.of(&patient, fhir::ResourceType::CarePlan).await;
    let ids = plans.iter().filter_map(fhir::Resource::id);
    assert!(
        ids.map(|id| format!("CarePlan/{id}"))
            .any(|named| named == plan)
    );
    assert_eq!(world.messages_now(&patient).await, 1);
    // While the journey is held, so is its order.
    let view = world
        .views(&patient)
        .await
        .into_iter()
        .find(|view| view.ended.is_none());
    let instance = view.expect("one runs").id;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    for (act, says) in [
        (journey::Act::Pause, "on-hold"),
        (journey::Act::Resume, "active"),
    ] {
        let acted = world
            .journeys
            .act(&work, &patient, &instance, act, "In hospital", None);
        acted.await.expect("done");
        assert_eq!(status(&orders(&world, &patient).await[0]), says);
    }
    let world = world.reopen().await;
    world.pass(DAY).await;
    let after = orders(&world, &patient).await;
    assert_eq!((after.len(), status(&after[0])), (1, "completed"));
    assert_eq!(world.messages_now(&patient).await, 2);
    // The words of both are the same: an order says no more than its message.
    let messages = world.of(&patient, fhir::ResourceType::Communication).await;
    assert!(
        messages
            .iter()
            .all(|message| message.get("payload") == after[0].get("payload"))
    );
}

/// Who revokes it over FHIR calls the message off: it goes out by no channel, and the journey goes on as if none
/// had taken it.
#[tokio::test]
async fn a_request_that_is_revoked_calls_its_message_off() {
    for written in ["revoked", "entered-in-error", "on-hold"] {
        let world = World::with(Mail::Delivers, &source("notes", NIGHT, "")).await;
        let patient = world.patient().await;
        world.pass(9 * HOUR).await;
        world.operate(&patient).await;
        let mut order = orders(&world, &patient).await.pop().expect("an order");
        assert_eq!(status(&order), "active");
        order.set("status", json!(written));
        world.put(vec![order.clone().into_value()]).await;
        // The server dies before it has read of it.
        let world = world.after_crash();
        world.drain().await;
        let is_off = written != "on-hold";
        let view = world.view(&patient).await;
        // It went on as from any message that could not be delivered.
        let goes_on = view
            .trail
            .iter()
            .any(|entry| entry.what.contains("called off"));
        assert_eq!(goes_on, is_off, "{written}");
        world.pass(DAY).await;
        assert_eq!(
            world.messages_now(&patient).await,
            usize::from(!is_off),
            "{written}"
        );
        let told = told(&world, &patient).await;
        let off = "9h Message by email called off before it left: Tell";
        assert_eq!(told.iter().any(|told| told == off), is_off, "{told:#?}");
        if is_off {
            // It stays as whoever has revoked it left it.
            assert_eq!(status(&orders(&world, &patient).await[0]), written);
            let why = view
                .trail
                .iter()
                .find(|entry| entry.what.contains("called off"));
            assert!(
                why.is_some_and(|entry| entry.why.contains("communication request")),
                "{view:#?}"
            );
        }
    }
}

/// A journey that ends takes its orders back.
#[tokio::test]
async fn what_is_not_needed_any_more_is_revoked() {
    let world = World::with(Mail::Delivers, &source("notes", NIGHT, "")).await;
    let patient = world.patient().await;
    world.pass(9 * HOUR).await;
    world.operate(&patient).await;
    world.die(&patient).await;
    let orders = orders(&world, &patient).await;
    assert_eq!((orders.len(), status(&orders[0])), (1, "revoked"));
}

/// What an insurer answered, looked at by the journeys' engine over a real record.
#[tokio::test]
async fn an_insurers_answer_is_looked_at() {
    let source = source("covered", NIGHT, "")
        .replace("start: tell", "start: covered")
        .replace(
            "steps:\n",
            "steps:\n  covered:\n    title: Covered?\n    check: {coverage: eligible}\n    yes: call\n    no: tell\n",
        );
    let world = World::with(Mail::Delivers, &source).await;
    let (insured, other) = (world.patient().await, world.patient().await);
    let answer = |patient: &str, in_force: bool| {
        json!({
            "resourceType": "CoverageEligibilityResponse", "id": world.mint(patient), "status": "active",
            "purpose": ["validation"], "outcome": "complete", "created": "2026-11-01",
            "patient": {"reference": format!("Patient/{patient}")}, "insurer": {"display": "Payer"},
            "request": {"display": "asked by telephone"},
            "insurance": [{"coverage": {"display": "policy"}, "inforce": in_force}]
        })
    };
    world.put(vec![answer(&insured, true)]).await;
    world.put(vec![answer(&other, false)]).await;
    for (patient, expected) in [(&insured, "call"), (&other, "tell")] {
        world.operate(patient).await;
        let view = world.view(patient).await;
        let steps: Vec<&str> = view.trail.iter().map(|entry| entry.step.as_str()).collect();
        assert!(steps.contains(&expected), "{steps:?}");
        assert_eq!(steps.contains(&"call"), expected == "call", "{steps:?}");
    }
}
