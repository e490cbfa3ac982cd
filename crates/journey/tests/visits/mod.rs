//! Reminders of a booked visit over a real store: the `Appointment` moves over FHIR, and they move with it.

use crate::world::{DAY, HOUR, Mail, START, World};
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};

/// A visit ten days after an operation, with reminders; `more` stands at the head.
fn source(more: &str) -> String {
    format!(
        "name: checks
title: Checks
owner: Team
purpose: TREAT
at_most: 60d
{more}entry:
  event: Procedure
  where: status = 'completed'
  anchors: {{done: performedDateTime}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: visit
steps:
  visit:
    title: Check-up
    book:
      title: Check-up
      time: done + 10d at 10:00
      minutes: 30
      book_by: done + 2d at 12:00
      remind: [7d, 1d, 2h]
      reminder: Hello {{patient.given|there}}. Your visit is on {{visit.day}} at {{visit.time}}.
      email: {{subject: Your visit, text: 'Day and time are here: {{link}}'}}
    next: end
    not_booked: end
"
    )
}

/// A patient whose visit is proposed for START + 9 days and 20 hours.
async fn operated(mail: Mail, more: &str) -> (World, String) {
    let world = World::with(mail, &source(more)).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    (world, patient)
}

/// The history of messages: hours after the beginning, and what is said.
async fn told(world: &World, patient: &str) -> Vec<String> {
    let view = world.view(patient).await;
    let trail = view.trail.iter();
    let told = trail.filter(|entry| {
        ["eminder", "nvitation"]
            .iter()
            .any(|word| entry.what.contains(word))
    });
    let told = told.map(|entry| {
        let hour = (entry.at_ms - START) / HOUR;
        (entry.at_ms, format!("{hour}h {}", entry.what))
    });
    let mut told: Vec<(u64, String)> = told.collect();
    told.sort_by_key(|(at_ms, _)| *at_ms);
    told.into_iter().map(|(_, what)| what).collect()
}

/// The hospital's system moves the visit.
async fn moved(world: &World, patient: &str, start_ms: u64) {
    for mut visit in world.of(patient, ResourceType::Appointment).await {
        visit.set("status", json!("booked"));
        visit.set("start", json!(fhir::date::instant(start_ms)));
        visit.set("end", json!(fhir::date::instant(start_ms + HOUR)));
        world.put(vec![visit.into_value()]).await;
    }
    world.drain().await;
}

fn said(message: &Resource) -> &str {
    message
        .text_at(&["payload", "0", "contentString"])
        .unwrap_or_default()
}

#[tokio::test]
async fn a_visit_that_is_moved_over_fhir_takes_its_reminders_along() {
    let (world, patient) = operated(Mail::Delivers, "").await;
    world.visit(&patient, "booked").await;
    world.until(4 * DAY).await;
    let first = "68h Reminder 7 days before by email: Check-up";
    assert_eq!(told(&world, &patient).await, [first]);
    let wait = world.view(&patient).await.waiting[0].what.clone();
    assert_eq!(
        wait,
        "Visit booked for Thursday 12 November 2026, 10:00; the next reminder goes out at 2026-11-11 10:00"
    );

    let planned = world.view(&patient).await.planned;
    let planned = planned.iter().filter(|item| item.what.contains("before"));
    let planned: Vec<(u64, &str, &str)> = planned
        .map(|item| {
            let hour = (item.at_ms - START) / HOUR;
            (hour, item.what.as_str(), item.plain.as_str())
        })
        .collect();
    let plain = "We will remind you of your visit: Check-up";
    let ahead = [
        (212, "Reminder 24 hours before: Check-up", plain),
        (234, "Reminder 2 hours before: Check-up", plain),
    ];
    assert_eq!(planned, ahead);

    // What a crash would leave knows of what was sent.
    let world = world.after_crash();
    moved(&world, &patient, START + 14 * DAY).await;
    let world = world.reopen().await;
    world.until(13 * DAY).await;
    let world = world.after_crash();
    world.until(20 * DAY).await;
    let expected = [
        first,
        "168h Reminder 7 days before by email: Check-up",
        "312h Reminder 24 hours before by email: Check-up",
        "334h Reminder 2 hours before by email: Check-up",
    ];
    assert_eq!(told(&world, &patient).await, expected);
    assert!(world.view(&patient).await.ended.is_some());

    let messages = world.of(&patient, ResourceType::Communication).await;
    let visits = world.of(&patient, ResourceType::Appointment).await;
    let about = json!([{"reference": format!("Appointment/{}", visits[0].id().unwrap())}]);
    assert_eq!(messages.len(), 4);
    let mut words: Vec<&str> = messages.iter().map(said).collect();
    words.sort_unstable();
    let new = "Hello Ottilie. Your visit is on Monday 16 November 2026 at 14:00.";
    let old = "Hello Ottilie. Your visit is on Thursday 12 November 2026 at 10:00.";
    assert_eq!(words, [new, new, new, old]);
    for message in &messages {
        assert_eq!(message.get("about"), Some(&about));
        assert_eq!(message.text_at(&["status"]), Some("completed"));
        assert_eq!(
            message.text_at(&["topic", "text"]),
            Some("Reminder: Check-up")
        );
    }
}

/// Mail that hasn't left is called off when the visit moves, and nothing is sent of one that is called off.
#[tokio::test]
async fn mail_of_another_time_is_called_off() {
    for (status, ends) in [("booked", false), ("cancelled", true), ("noshow", true)] {
        let (world, patient) = operated(Mail::Silent, "").await;
        world.visit(&patient, "booked").await;
        world.until(3 * DAY).await;
        let sent = world.of(&patient, ResourceType::Communication).await;
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].text_at(&["status"]), Some("preparation"));
        let mail = world.outgoing().await;
        assert_eq!(mail.len(), 1);
        assert_eq!(mail[0].text, "Day and time are here: {link}");
        if status == "booked" {
            moved(&world, &patient, START + 14 * DAY).await;
        } else {
            world.visit(&patient, status).await;
        }
        let id = sent[0].id().unwrap();
        let found = world.read(ResourceType::Communication, id).await;
        assert_eq!(found.text_at(&["status"]), Some("stopped"), "{status}");
        assert_eq!(
            told(&world, &patient).await,
            [
                "68h Reminder 7 days before by email: Check-up",
                "72h Reminder 7 days before by email called off before it left: Check-up"
            ],
            "{status}"
        );
        assert_eq!(world.view(&patient).await.ended.is_some(), ends, "{status}");
        world.until(6 * DAY).await;
        assert_eq!(world.messages_now(&patient).await, 1, "{status}");
    }
}

/// What the mail server refuses lies in the portal, and the visit is waited for; so does what it refuses late.
#[tokio::test]
async fn what_no_mail_server_takes_lies_in_the_portal() {
    let (world, patient) = operated(Mail::Refuses, "").await;
    world.visit(&patient, "booked").await;
    let world = world.reopen().await;
    world.until(9 * DAY).await;
    let expected = [
        "68h Reminder 7 days before by email: Check-up",
        "68h Reminder 7 days before by email not delivered: Check-up.",
        "68h Reminder 7 days before by portal: Check-up",
        "212h Reminder 24 hours before by email: Check-up",
        "212h Reminder 24 hours before by email not delivered: Check-up.",
        "212h Reminder 24 hours before by portal: Check-up",
    ];
    let told = told(&world, &patient).await;
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
    let view = world.view(&patient).await;
    assert_eq!(view.waiting[0].step, "visit");
}

/// A reminder that waits for the end of quiet hours is a request that others see; when the visit moves, it is revoked.
#[tokio::test]
async fn a_reminder_that_waits_for_the_morning_is_revoked_when_the_visit_moves() {
    let quiet = "messages: {quiet: {from: \"09:00\", until: \"13:00\"}}\n";
    let (world, patient) = operated(Mail::Delivers, quiet).await;
    world.visit(&patient, "booked").await;
    world.until(2 * DAY + 21 * HOUR).await;
    let orders = world.of(&patient, ResourceType::CommunicationRequest).await;
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].text_at(&["status"]), Some("active"));
    assert!(said(&orders[0]).contains("Thursday 12 November 2026 at 10:00"));
    let visits = world.of(&patient, ResourceType::Appointment).await;
    let about = json!([{"reference": format!("Appointment/{}", visits[0].id().unwrap())}]);
    assert_eq!(orders[0].get("about"), Some(&about));

    // At eleven it is moved to two in the afternoon of another day.
    moved(&world, &patient, START + 14 * DAY).await;
    let world = world.reopen().await;
    let orders = world.of(&patient, ResourceType::CommunicationRequest).await;
    assert_eq!(orders[0].text_at(&["status"]), Some("revoked"));
    world.until(4 * DAY).await;
    assert_eq!(world.messages_now(&patient).await, 0, "nobody was reminded");
    world.until(8 * DAY).await;
    assert_eq!(world.messages_now(&patient).await, 1);

    // Of one that is called off, nothing is sent either.
    let (world, patient) = operated(Mail::Delivers, quiet).await;
    world.visit(&patient, "booked").await;
    world.until(2 * DAY + 21 * HOUR).await;
    world.die(&patient).await;
    world.until(12 * DAY).await;
    let orders = world.of(&patient, ResourceType::CommunicationRequest).await;
    let status = |order: &Resource| order.get("status").cloned();
    let all: Vec<Option<Value>> = orders.iter().map(status).collect();
    assert_eq!(all, [Some(json!("revoked"))]);
    assert_eq!(world.messages_now(&patient).await, 0);
}

/// The same visit, which the patient is asked to book.
fn invited(more: &str) -> String {
    let invite = "      invite:
        words: Hello {patient.given|there}. Please book your visit on {visit.day} at {visit.time} until {due.day}.
        again: [12h, 36h]
        reminder: Please book by {due.day}.
        email: {subject: Please answer, text: 'What we ask is here: {link}'}
        translations:
          es:
            title: Control
            words: Reserve para el {visit.day}.
            reminder: Reserve antes del {due.day}.
            email: {subject: Conteste, text: 'Lo que preguntamos: {link}'}
      remind";
    source(more).replacen("      remind", invite, 1)
}

#[tokio::test]
async fn the_proposal_is_told_and_reminded_of_until_somebody_books() {
    let world = World::with(Mail::Delivers, &invited("")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let world = world.after_crash();
    world.drain().await;
    let first = "0h Invitation by email: Check-up";
    assert_eq!(told(&world, &patient).await, [first]);
    let wait = world.view(&patient).await.waiting[0].what.clone();
    let proposed = "Waits for the visit to be booked (proposed for Thursday 12 November 2026)";
    assert!(wait.starts_with(proposed), "{wait}");
    assert!(
        wait.contains("; the next reminder goes out at 2026-11-03"),
        "{wait}"
    );

    let planned = world.view(&patient).await.planned;
    let planned: Vec<(u64, &str, &str)> = (planned.iter())
        .filter(|item| item.what.contains("after the proposal"))
        .map(|item| {
            (
                (item.at_ms - START) / HOUR,
                item.what.as_str(),
                item.plain.as_str(),
            )
        })
        .collect();
    let plain = "We will remind you if you have not booked: Check-up";
    let ahead = [
        (12, "Reminder 12 hours after the proposal: Check-up", plain),
        (36, "Reminder 36 hours after the proposal: Check-up", plain),
    ];
    assert_eq!(planned, ahead);

    let world = world.reopen().await;
    world.until(DAY).await;
    let world = world.after_crash();
    world.visit(&patient, "booked").await;
    let world = world.after_crash();
    world.until(4 * DAY).await;
    let expected = [
        first,
        "12h Reminder 12 hours after the proposal by email: Check-up",
        "68h Reminder 7 days before by email: Check-up",
    ];
    assert_eq!(told(&world, &patient).await, expected);

    let messages = world.of(&patient, ResourceType::Communication).await;
    let visits = world.of(&patient, ResourceType::Appointment).await;
    let about = json!([{"reference": format!("Appointment/{}", visits[0].id().unwrap())}]);
    let mut words: Vec<&str> = messages.iter().map(said).collect();
    words.sort_unstable();
    let expected = [
        "Hello Ottilie. Please book your visit on Thursday 12 November 2026 at 10:00 until Wednesday 4 November 2026.",
        "Hello Ottilie. Your visit is on Thursday 12 November 2026 at 10:00.",
        "Please book by Wednesday 4 November 2026.",
    ];
    assert_eq!(words, expected);
    for message in &messages {
        assert_eq!(message.get("about"), Some(&about));
        assert_eq!(message.text_at(&["status"]), Some("completed"));
    }
}

/// What has not left is called off with the proposal, and nobody is asked who can't be any more.
#[tokio::test]
async fn mail_that_asks_is_called_off_when_the_visit_is_booked_called_off_or_the_patient_stopped() {
    for (status, ends) in [("booked", false), ("cancelled", true), ("", true)] {
        let world = World::with(Mail::Silent, &invited("")).await;
        let patient = world.patient().await;
        world.operate(&patient).await;
        let sent = world.of(&patient, ResourceType::Communication).await;
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].text_at(&["status"]), Some("preparation"));
        let mail = world.outgoing().await;
        assert_eq!(mail.len(), 1);
        assert_eq!(mail[0].text, "What we ask is here: {link}");
        if status.is_empty() {
            world.die(&patient).await;
        } else {
            world.visit(&patient, status).await;
        }
        let world = world.after_crash();
        world.drain().await;
        let id = sent[0].id().unwrap();
        let found = world.read(ResourceType::Communication, id).await;
        assert_eq!(found.text_at(&["status"]), Some("stopped"), "{status}");
        assert_eq!(world.view(&patient).await.ended.is_some(), ends, "{status}");
        world.until(2 * DAY + 12 * HOUR).await;
        assert_eq!(world.messages_now(&patient).await, 1, "{status}");
    }
}

/// Staff propose another time, and the reminder says it; it comes in the patient's language.
#[tokio::test]
async fn a_reminder_says_the_time_that_is_proposed_now_in_the_patient_s_language() {
    let world = World::with(Mail::Delivers, &invited("")).await;
    let patient = world.patient().await;
    let mut person = world.read(ResourceType::Patient, &patient).await;
    let spanish = json!([{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es-MX"}]}, "preferred": true}]);
    person.set("communication", spanish);
    world.put(vec![person.into_value()]).await;
    world.operate(&patient).await;
    for mut visit in world.of(&patient, ResourceType::Appointment).await {
        assert_eq!(visit.text_at(&["status"]), Some("proposed"));
        visit.set("start", json!(fhir::date::instant(START + 8 * DAY)));
        visit.set("end", json!(fhir::date::instant(START + 8 * DAY + HOUR)));
        world.put(vec![visit.into_value()]).await;
    }
    world.drain().await;
    let proposed = "Waits for the visit to be booked (proposed for Tuesday 10 November 2026)";
    let wait = world.view(&patient).await.waiting[0].what.clone();
    assert!(wait.starts_with(proposed), "{wait}");
    world.until(DAY).await;
    let mut messages = world.of(&patient, ResourceType::Communication).await;
    messages.sort_by_key(|message| said(message).to_owned());
    let words: Vec<&str> = messages.iter().map(said).collect();
    let expected = [
        "Reserve antes del 2026-11-04.",
        "Reserve para el 2026-11-12.",
    ];
    assert_eq!(words, expected);
    for message in &messages {
        assert_eq!(message.text_at(&["language"]), Some("es"));
        assert_eq!(message.text_at(&["topic", "text"]), Some("Control"));
    }
}

/// An invitation that waits for the end of quiet hours is a request, which is revoked when the visit is booked.
#[tokio::test]
async fn an_invitation_that_waits_is_revoked_when_the_visit_is_booked() {
    let quiet = "messages: {quiet: {from: \"09:00\", until: \"20:00\"}}\n";
    let world = World::with(Mail::Delivers, &invited(quiet)).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let orders = world.of(&patient, ResourceType::CommunicationRequest).await;
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].text_at(&["status"]), Some("active"));
    assert!(said(&orders[0]).contains("Please book your visit on Thursday 12 November 2026"));
    world.visit(&patient, "booked").await;
    let world = world.reopen().await;
    world.until(2 * DAY).await;
    let orders = world.of(&patient, ResourceType::CommunicationRequest).await;
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].text_at(&["status"]), Some("revoked"));
    assert_eq!(world.messages_now(&patient).await, 0);
}

/// The same visit, of which the patient is told when it is booked, moved or called off.
fn confirmed(more: &str) -> String {
    let confirm = "      confirm:
        words: Your visit is booked for {visit.day} at {visit.time}.
        calendar: true
        email: {subject: Your visit, text: 'It is here: {link}'}
        translations:
          es:
            title: Control
            words: Su cita es el {visit.day} a las {visit.time}.
            called_off: Su cita del {visit.day} se ha cancelado.
            email: {subject: Su cita, text: 'Lo que hay: {link}'}
      remind";
    let source = source(more).replacen("      remind", confirm, 1);
    let call = "not_booked: call\n  call: {title: Somebody calls, wait: {for: 5d}, next: end}\n";
    source.replacen("not_booked: end\n", call, 1)
}

/// What was said of the visit itself, by what the heading says.
async fn words(world: &World, patient: &str) -> Vec<(String, String)> {
    let messages = world.of(patient, ResourceType::Communication).await;
    let heading = |message: &Resource| message.text_at(&["topic", "text"]).map(str::to_owned);
    let mut words: Vec<(String, String)> = messages
        .iter()
        .map(|message| {
            (
                heading(message).unwrap_or_default(),
                said(message).to_owned(),
            )
        })
        .filter(|(heading, _)| !heading.starts_with("Reminder"))
        .collect();
    words.sort_unstable();
    words
}

#[tokio::test]
async fn word_of_a_booked_visit_brings_an_entry_that_follows_it() {
    let world = World::with(Mail::Silent, &confirmed("")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let entries = async |world: &World| {
        let mut mails = world.outgoing().await;
        mails.retain(|mail| mail.subject == "Your visit" && mail.visit.is_some());
        let mut entries: Vec<_> = mails.into_iter().filter_map(|mail| mail.visit).collect();
        entries.sort_by_key(|visit| (visit.sequence, visit.start_ms));
        entries
    };
    assert!(entries(&world).await.is_empty(), "nothing is booked yet");
    world.visit(&patient, "booked").await;
    let world = world.after_crash();
    world.drain().await;
    let visits = world.of(&patient, ResourceType::Appointment).await;
    let appointment = visits[0].id().unwrap().to_owned();
    let first = entries(&world).await;
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].sequence, first[0].cancelled), (0, false));
    assert_eq!(first[0].appointment, appointment);
    assert_eq!(first[0].end_ms - first[0].start_ms, HOUR / 2);
    moved(&world, &patient, START + 14 * DAY).await;
    let world = world.reopen().await;
    let all = entries(&world).await;
    assert_eq!(all.len(), 2);
    let second = all[1].clone();
    assert_eq!((second.sequence, second.cancelled), (1, false));
    assert_eq!(
        (second.start_ms, second.end_ms),
        (START + 14 * DAY, START + 14 * DAY + HOUR)
    );
    // The reminder brings the entry as it is, whatever the zone's clocks do meanwhile.
    world.until(7 * DAY + HOUR).await;
    let reminded = entries(&world).await;
    assert_eq!(reminded.len(), 3);
    assert_eq!(reminded[2], second);
    world.visit(&patient, "cancelled").await;
    let world = world.after_crash();
    world.drain().await;
    let last = entries(&world).await.pop().unwrap();
    assert_eq!((last.sequence, last.cancelled), (2, true));
    assert_eq!(
        (last.appointment.as_str(), last.start_ms),
        (appointment.as_str(), second.start_ms)
    );

    let expected = [
        (
            "Called off: Check-up",
            "Your visit on Monday 16 November 2026 at 14:00 was called off.",
        ),
        (
            "Check-up",
            "Your visit is booked for Thursday 12 November 2026 at 10:00.",
        ),
        (
            "New time: Check-up",
            "Your visit is booked for Monday 16 November 2026 at 14:00.",
        ),
    ];
    let expected = expected.map(|(heading, words)| (heading.to_owned(), words.to_owned()));
    assert_eq!(words(&world, &patient).await, expected);
    // That it was called off leaves at once, whatever the hour, and takes no room from what follows; the others wait.
    for mail in world.outgoing().await {
        let off = mail.visit.as_ref().is_some_and(|visit| visit.cancelled);
        assert_eq!(mail.hours.is_none(), off, "{mail:?}");
        let kind = ResourceType::Communication;
        let message = world.read(kind, &mail.communication).await;
        assert_eq!(trust::outgoing::is_beyond_limits(&message), off, "{mail:?}");
    }
    // Staff hear of it whether or not the patient did.
    assert_eq!(world.view(&patient).await.waiting[0].step, "call");
    for mail in world.outgoing().await {
        let whole = format!("{} {}", mail.subject, mail.text);
        assert!(
            !whole.contains("November") && !whole.contains("Check-up"),
            "{whole}"
        );
    }
}

#[tokio::test]
async fn word_that_no_mail_server_takes_lies_in_the_portal() {
    let world = World::with(Mail::Refuses, &confirmed("")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.visit(&patient, "booked").await;
    world.visit(&patient, "cancelled").await;
    world.until(DAY).await;
    let messages = world.of(&patient, ResourceType::Communication).await;
    let mut seen: Vec<(&str, &str, &str)> = messages
        .iter()
        .map(|message| {
            let text = |path: &[&str]| message.text_at(path).unwrap_or_default();
            let medium = text(&["medium", "0", "coding", "0", "code"]);
            (text(&["topic", "text"]), medium, text(&["status"]))
        })
        .collect();
    seen.sort_unstable();
    let expected = [
        ("Called off: Check-up", "EMAILWRIT", "not-done"),
        ("Called off: Check-up", "PORTAL", "completed"),
        ("Check-up", "EMAILWRIT", "not-done"),
        ("Check-up", "PORTAL", "completed"),
    ];
    assert_eq!(seen, expected);
}

/// Word in the language that the patient prefers, also of what was called off.
#[tokio::test]
async fn word_of_a_visit_is_in_the_language_of_the_patient() {
    let world = World::with(Mail::Delivers, &confirmed("")).await;
    let patient = world.patient().await;
    let mut said = world.read(ResourceType::Patient, &patient).await;
    let spanish = json!([{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es"}]}}]);
    said.set("communication", spanish);
    world.put(vec![said.into_value()]).await;
    world.operate(&patient).await;
    world.visit(&patient, "booked").await;
    world.visit(&patient, "cancelled").await;
    world.drain().await;
    let words = words(&world, &patient).await;
    let words: Vec<&str> = words.iter().map(|(_, words)| words.as_str()).collect();
    let expected = [
        "Su cita del 2026-11-12 se ha cancelado.",
        "Su cita es el 2026-11-12 a las 10:00.",
    ];
    assert_eq!(words, expected);
}

/// Word by text message has words of its own, in the patient's language too; that it was called off goes by it, too.
#[tokio::test]
async fn word_of_a_visit_comes_by_text_message() {
    let source = confirmed("")
        .replacen(
            "        calendar: true\n",
            "        channels: [sms, portal]\n        sms: {words: 'Your visit: {link}'}\n",
            1,
        )
        .replacen(
            "            called_off:",
            "            sms: {words: 'Su cita: {link}'}\n            called_off:",
            1,
        );
    for (language, expected) in [("en", "Your visit: {link}"), ("es", "Su cita: {link}")] {
        let world = World::with(Mail::Silent, &source).await;
        let telecom = json!([{"system": "phone", "use": "mobile", "value": "+1-617-555-0142"}]);
        let patient = world.patient_with_telecom(telecom).await;
        let mut said = world.read(ResourceType::Patient, &patient).await;
        let prefers =
            json!([{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}}]);
        said.set("communication", prefers);
        world.put(vec![said.into_value()]).await;
        world.operate(&patient).await;
        world.visit(&patient, "booked").await;
        world.visit(&patient, "cancelled").await;
        world.drain().await;
        let ledger = world.trust.vault().ledger();
        let due = ledger.outbox_due(trust::outgoing::CHANNEL_SMS, world.now(), 1000);
        let due = due.await.expect("due").into_iter();
        let texts: Vec<trust::outgoing::Message> = due
            .map(|entry| serde_json::from_slice(&entry.body).expect("a message"))
            .collect();
        // That it is booked was called off with the visit, and waits for who takes it out.
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts.iter().all(|text| text.text == expected), "{texts:?}");
        let all = world.of(&patient, ResourceType::Communication).await;
        let mut statuses: Vec<_> = all
            .iter()
            .filter_map(|one| one.text_at(&["status"]))
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, ["preparation", "stopped"]);
    }
}

/// A message to somebody operated on, and a call where it reaches nobody.
fn written(channels: &str) -> String {
    let source = source("");
    let (head, _) = source.split_once("start: visit").expect("a start");
    format!(
        "{head}start: tell
steps:
  tell:
    title: Tell
    send:
      title: News
      words: There is news.
      channels: [{channels}]
      expires: 2h
    next: end
    on_failure: call
  call:
    title: Call
    task: {{title: Call, reason: The news reached nobody., role: coordinator, due: 24h}}
    next: end
    overdue: end
"
    )
}

/// What a mail server has, and what hasn't come back, counts as delivered when its time is over: whoever counts it as such
/// may be away just then.
#[tokio::test]
async fn what_has_left_is_not_taken_to_have_failed() {
    let world = World::with(Mail::Silent, &written("email")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.until(HOUR).await;
    for mut message in world.of(&patient, ResourceType::Communication).await {
        message.set("status", json!("in-progress"));
        message.set("sent", json!(fhir::date::instant(START + HOUR)));
        world.put(vec![message.into_value()]).await;
    }
    assert!(world.view(&patient).await.ended.is_none());
    let world = world.reopen().await;
    world.until(3 * HOUR).await;
    let tasks = world.of(&patient, ResourceType::Task).await;
    assert!(tasks.is_empty(), "{tasks:?}");
    assert!(world.view(&patient).await.ended.is_some());
    // Who counts it as delivered finds it as it was.
    let messages = world.of(&patient, ResourceType::Communication).await;
    assert_eq!(messages[0].text_at(&["status"]), Some("in-progress"));
}

/// What comes back from an address is known before the next message, which takes the next channel at once.
#[tokio::test]
async fn nobody_is_written_to_where_mail_comes_back() {
    let world = World::with(Mail::Delivers, &written("email, portal")).await;
    let patient = world.patient().await;
    let vault = world.trust.vault();
    let permit = world
        .part(
            "mail-deliverer",
            trust::Purpose::Treatment,
            trust::Action::Send,
        )
        .await;
    let found = vault.load(&permit, ResourceType::Patient, &patient).await;
    let found = found.expect("loaded").expect("a patient").resource;
    let channels = trust::consent::channels(&found, 0);
    let mut internals = Vec::new();
    for channel in channels.iter().filter(|channel| channel.kind == "email") {
        let id = vault.address_id(crate::world::TENANT, &patient, &channel.address);
        let standing = trust::AddressStanding {
            mark: Some(trust::AddressMark {
                why: trust::AddressTrouble::Bounced,
                code: None,
                at_ms: 0,
            }),
            ..trust::AddressStanding::default()
        };
        let expected = ledger::Expected::Absent;
        let made = trust::Vault::stand_address(&patient, &id, &standing, expected);
        internals.push(made);
    }
    assert!(!internals.is_empty());
    let unit = trust::Unit {
        internals,
        patient: Some(patient.clone()),
        ..trust::Unit::default()
    };
    vault.commit(&permit, unit).await.expect("committed");
    world.operate(&patient).await;
    assert!(world.view(&patient).await.ended.is_some());
    let messages = world.of(&patient, ResourceType::Communication).await;
    let mut statuses: Vec<Option<&str>> = (messages.iter())
        .map(|message| message.text_at(&["status"]))
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [Some("completed"), Some("not-done")]);
}

/// What the visit itself says counts, and not what its step would propose today.
#[tokio::test]
async fn an_entry_says_whether_the_visit_is_by_video_as_the_visit_has_it() {
    for by_video in [true, false] {
        // Proposed one way, and changed by the hospital's system to the other.
        let by = if by_video {
            "      minutes: 30"
        } else {
            "      by: video\n      minutes: 30"
        };
        let source = confirmed("").replacen("      minutes: 30", by, 1);
        let world = World::with(Mail::Silent, &source).await;
        let patient = world.patient().await;
        world.operate(&patient).await;
        for mut visit in world.of(&patient, ResourceType::Appointment).await {
            let was = trust::conventions::is_by_video(&visit);
            assert_eq!(was, !by_video);
            visit.set("status", json!("booked"));
            visit.remove("extension");
            if by_video {
                visit.set("extension", trust::conventions::by_video());
            }
            world.put(vec![visit.into_value()]).await;
        }
        world.drain().await;
        let mails = world.outgoing().await;
        let entry = mails.iter().find_map(|mail| mail.visit.as_ref()).unwrap();
        assert_eq!(entry.online, by_video, "{entry:?}");
    }
}
