//! Text messages as a channel of journeys, over a real store: what leaves, and what the journey makes of what comes back.

use crate::world::{HOUR, Mail, World};
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::conventions::SMS_SYSTEM;
use trust::outgoing::{CHANNEL_QUESTION, CHANNEL_SMS, Message};
use trust::{Action, Purpose, Role, Unit};

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
      channels: [sms, email, portal]
      sms: {words: 'News for you: {link}'}
      translations:
        es:
          title: Su rodilla
          words: Hola {patient.given|}, doble la rodilla.
          sms: {words: 'Noticias para usted: {link}'}
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
    /// Text messages on their way.
    async fn texts(&self) -> Vec<Message> {
        let ledger = self.trust.vault().ledger();
        let due = ledger.outbox_due(CHANNEL_SMS, u64::MAX >> 20, 1000).await;
        let due = due.expect("due").into_iter();
        due.map(|entry| serde_json::from_slice(&entry.body).expect("a message"))
            .collect()
    }

    /// Those of them that are answered by reply.
    async fn questions(&self) -> Vec<Message> {
        let ledger = self.trust.vault().ledger();
        let due = ledger.outbox_due(CHANNEL_QUESTION, u64::MAX >> 20, 1000);
        let due = due.await.expect("due").into_iter();
        due.map(|entry| serde_json::from_slice(&entry.body).expect("a message"))
            .collect()
    }

    /// Takes them out, as who hands them over does.
    async fn drop_texts(&self) {
        let permit = self
            .part("sms-deliverer", Purpose::Treatment, Action::Send)
            .await;
        let ledger = self.trust.vault().ledger();
        let due = ledger.outbox_due(CHANNEL_SMS, u64::MAX >> 20, 1000).await;
        let unit = Unit {
            outbox_remove: due.expect("due").iter().map(|entry| entry.key).collect(),
            ..Unit::default()
        };
        self.trust
            .vault()
            .commit(&permit, unit)
            .await
            .expect("settled");
    }
}

fn telecom() -> Value {
    json!([
        {"system": "email", "value": "ottilie.quandt@example.com"},
        {"system": "phone", "use": "mobile", "value": "+1-617-555-0142"}
    ])
}

async fn operated(source: &str, telecom: Value) -> (World, String) {
    let world = World::with(Mail::Silent, source).await;
    let patient = world.patient_with_telecom(telecom).await;
    world.operate(&patient).await;
    world.drain().await;
    (world, patient)
}

/// What the provider's receipt makes of the text message.
async fn becomes(world: &World, patient: &str, change: impl Fn(&mut Resource)) {
    let all = world.of(patient, ResourceType::Communication).await;
    let mut message = all
        .into_iter()
        .find(|one| one.text_at(&["medium", "0", "coding", "0", "code"]) == Some("SMSWRIT"))
        .expect("a text message");
    change(&mut message);
    world.put(vec![message.into_value()]).await;
    world.drain().await;
}

/// The provider has it.
fn taken(message: &mut Resource) {
    message.set("status", json!("in-progress"));
    let mut identifiers = message.get("identifier").cloned().unwrap_or_default();
    let known = identifiers.as_array_mut().expect("identifiers");
    known.push(json!({"system": SMS_SYSTEM, "value": "SM1"}));
    message.set("identifier", identifiers);
}

/// Medium and status of each.
fn mediums(all: &[String]) -> Vec<String> {
    let shown = all.iter().map(|one| {
        let said = one.rsplit(" by ").next().unwrap_or_default();
        let words: Vec<&str> = said.split(' ').take(2).collect();
        words.join(" ")
    });
    shown.collect()
}

fn has(all: &[String], one: &str) -> bool {
    mediums(all).iter().any(|found| found == one)
}

#[tokio::test]
async fn a_text_message_leaves_with_its_own_words_and_nothing_of_the_patient() {
    let (world, patient) = operated(SOURCE, telecom()).await;
    let texts = world.texts().await;
    assert_eq!(texts.len(), 1);
    assert_eq!(
        (texts[0].channel.as_str(), texts[0].subject.as_str()),
        ("sms", "")
    );
    assert_eq!(texts[0].text, "News for you: {link}");
    let whole = serde_json::to_string(&texts[0]).expect("JSON");
    for planted in [
        "Quandt",
        "Ottilie",
        "knee",
        "1941",
        "5550142",
        "555-0142",
        "example.com",
    ] {
        assert!(!whole.contains(planted), "{planted} in {whole}");
    }
    assert_eq!(world.outbox().await, 0, "no e-mail beside it");
    assert_eq!(
        mediums(&world.messages(&patient).await),
        ["SMSWRIT: preparation"]
    );
    // A plain notice, where the file has no words for it.
    let plain = SOURCE.replacen("      sms: {words: 'News for you: {link}'}\n", "", 1);
    let (world, _) = operated(&plain, telecom()).await;
    assert_eq!(
        world.texts().await[0].text,
        "There is a new message for you from your care team: {link}"
    );
}

#[tokio::test]
async fn it_is_delivered_when_the_handset_has_it() {
    let (world, patient) = operated(SOURCE, telecom()).await;
    becomes(&world, &patient, taken).await;
    let waits = world.view(&patient).await.waiting;
    assert!(waits[0].what.contains("delivered by sms"), "{waits:?}");
    let world = world.reopen().await;
    becomes(&world, &patient, |message| {
        message.set("status", json!("completed"));
    })
    .await;
    let view = world.view(&patient).await;
    assert!(view.ended.is_some(), "{view:?}");
    assert_eq!(
        mediums(&world.messages(&patient).await),
        ["SMSWRIT: completed"]
    );
}

/// What is known not to arrive, and what nothing is heard of in its time, goes by the next channel.
#[tokio::test]
async fn without_a_receipt_in_its_time_the_next_channel_is_tried() {
    let (world, patient) = operated(SOURCE, telecom()).await;
    becomes(&world, &patient, taken).await;
    world.pass(4 * HOUR).await;
    let all = world.messages(&patient).await;
    assert!(
        has(&all, "SMSWRIT: not-done") && has(&all, "EMAILWRIT: preparation"),
        "{all:?}"
    );
    // It may be there, so nobody says that it isn't.
    let messages = world.of(&patient, ResourceType::Communication).await;
    let late = messages
        .iter()
        .find(|one| one.text_at(&["status"]) == Some("not-done"));
    let late = late.expect("the text message");
    let code = late.text_at(&["statusReason", "coding", "0", "code"]);
    assert_eq!(code, Some("no-receipt"));
    let view = world.view(&patient).await;
    let words = "by sms: no receipt came in its time";
    let is_told = view.trail.iter().any(|entry| entry.what.contains(words));
    assert!(is_told, "{:?}", view.trail);
    let before = format!("{:?}", world.view(&patient).await.waiting);
    // It arrives after all; the journey has gone on.
    becomes(&world, &patient, |message| {
        message.set("status", json!("completed"));
    })
    .await;
    assert_eq!(format!("{:?}", world.view(&patient).await.waiting), before);

    let (world, patient) = operated(SOURCE, telecom()).await;
    becomes(&world, &patient, |message| {
        taken(message);
        message.set("status", json!("not-done"));
    })
    .await;
    let all = world.messages(&patient).await;
    assert!(has(&all, "EMAILWRIT: preparation"), "{all:?}");
}

/// Where there is no number, or texts are not wanted, the next channel is tried at once; where it may be used alone, that
/// is what is used.
#[tokio::test]
async fn numbers_are_used_as_the_patient_wants() {
    let not_wanted =
        json!([{"url": trust::conventions::NOT_WANTED_EXTENSION, "valueBoolean": true}]);
    let alone = json!([{"url": trust::conventions::CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
    let mail = json!({"system": "email", "value": "a@example.com"});
    for (telecom, expected) in [
        (json!([mail]), "email"),
        (
            json!([mail, {"system": "phone", "use": "home", "value": "+16175550142"}]),
            "email",
        ),
        (
            json!([mail, {"system": "sms", "value": "+16175550142", "extension": not_wanted}]),
            "email",
        ),
        (
            json!([mail, {"system": "phone", "use": "mobile", "value": "617-555-0142"},
                   {"system": "sms", "value": "+16175550142", "extension": not_wanted}]),
            "email",
        ),
        (
            json!([mail, {"system": "sms", "value": "+16175550142", "use": "old"}]),
            "email",
        ),
        (
            json!([mail, {"system": "sms", "value": "+16175550142", "period": {"end": "2020"}}]),
            "email",
        ),
        (
            json!([mail, {"system": "sms", "value": "+16175550142"}]),
            "sms",
        ),
        (
            json!([mail, {"system": "phone", "use": "mobile", "value": "+16175550142", "extension": alone}]),
            "sms",
        ),
        (
            json!([{"system": "email", "value": "a@example.com", "extension": alone},
                   {"system": "sms", "value": "+16175550142"}]),
            "email",
        ),
    ] {
        let (world, patient) = operated(SOURCE, telecom.clone()).await;
        let (texts, mails) = (world.texts().await.len(), world.outbox().await);
        let found = if texts == 1 { "sms" } else { "email" };
        assert_eq!((found, texts + mails), (expected, 1), "{telecom} {patient}");
    }
}

/// Of a text whose answer never came nobody knows whether it is there: that is what is said of it in the end, also after
/// its journey was held.
#[tokio::test]
async fn a_text_without_an_answer_may_be_there() {
    for is_held in [false, true] {
        let (world, patient) = operated(SOURCE, telecom()).await;
        becomes(&world, &patient, |message| {
            let coding =
                json!([{"system": trust::conventions::NOT_DONE_SYSTEM, "code": "no-receipt"}]);
            message.set(
                "statusReason",
                json!({"coding": coding, "text": "Attempt 1 put off"}),
            );
            trust::outgoing::set_unanswered(message, 2);
        })
        .await;
        if is_held {
            let view = world.view(&patient).await;
            let work = world.staff(Role::Coordinator, Action::Work).await;
            for act in [journey::Act::Pause, journey::Act::Resume] {
                let act = (world.journeys).act(&work, &patient, &view.id, act, "x", None);
                act.await.expect("done");
            }
            world.drain().await;
            // It is handed over once more at most, and not three times again.
            let texts = world.texts().await;
            let counts = texts.iter().map(|text| text.unanswered);
            assert_eq!(counts.max(), Some(2), "{texts:?}");
        }
        world.pass(4 * HOUR).await;
        let messages = world.of(&patient, ResourceType::Communication).await;
        let late = messages
            .iter()
            .find(|one| one.text_at(&["status"]) == Some("not-done"));
        let code = late.and_then(|late| late.text_at(&["statusReason", "coding", "0", "code"]));
        assert_eq!(code, Some("no-receipt"), "{is_held} {late:?}");
    }
}

/// A telephone that has sent STOP gets none, and the next channel is tried at once.
#[tokio::test]
async fn a_telephone_that_has_sent_stop_gets_no_text() {
    let world = World::with(Mail::Silent, SOURCE).await;
    let patient = world.patient_with_telecom(telecom()).await;
    let number = trust::sms::Number::parse("+16175550142", None).expect("a number");
    let permit = world
        .part("sms-receiver", Purpose::Operations, Action::Send)
        .await;
    let vault = world.trust.vault();
    let stopped = vault.set_stopped(&permit, &number, true).await;
    stopped.expect("written down");
    world.operate(&patient).await;
    world.drain().await;
    assert_eq!((world.texts().await.len(), world.outbox().await), (0, 1));
    let all = world.messages(&patient).await;
    assert!(
        has(&all, "SMSWRIT: not-done") && has(&all, "EMAILWRIT: preparation"),
        "{all:?}"
    );
}

/// A number that doesn't say of which country it is gets none, where nobody has said which that is.
#[tokio::test]
async fn a_number_without_a_country_is_none() {
    let national = json!([{"system": "sms", "value": "(617) 555-0142"},
                          {"system": "email", "value": "a@example.com"}]);
    let (world, _) = operated(SOURCE, national.clone()).await;
    assert_eq!((world.texts().await.len(), world.outbox().await), (0, 1));
    let world = World::with(Mail::Silent, SOURCE).await;
    world.trust.vault().set_texts(trust::TextRules {
        country: trust::sms::Country::parse("US"),
        from: None,
        replies: true,
    });
    let patient = world.patient_with_telecom(national).await;
    world.operate(&patient).await;
    world.drain().await;
    assert_eq!((world.texts().await.len(), world.outbox().await), (1, 0));
}

/// What leaves says by which hours it may, and what can't wait says none.
#[tokio::test]
async fn a_text_says_when_it_may_leave() {
    let hours = "messages: {quiet: {from: \"21:00\", until: \"08:00\"}, per_day: 3}\nentry:";
    let source = SOURCE.replacen("entry:", hours, 1);
    let window = "      expires: 4h\n      urgency: important\n      window: {from: '09:00', until: '17:00'}\n";
    let source = source.replacen("      expires: 4h\n", window, 1);
    let (world, _) = operated(&source, telecom()).await;
    let said = world.texts().await.remove(0).hours.expect("hours");
    let mut text = serde_json::to_value(&said).expect("JSON");
    let let_go = text["let_go_ms"].take();
    assert_eq!(let_go, said.let_go_ms.expect("a time"));
    text.as_object_mut().expect("members").remove("let_go_ms");
    assert_eq!(
        text,
        json!({
            "zone": "UTC", "quiet": {"from": "21:00", "until": "08:00"},
            "window": {"from": "09:00", "until": "17:00"}, "per_day": 3, "important": true
        })
    );
    let urgent = "      expires: 4h\n      urgency: clinical\n      because: Bleeding.\n";
    let source = SOURCE.replacen("      expires: 4h\n", urgent, 1);
    let (world, _) = operated(&source, telecom()).await;
    assert_eq!(world.texts().await[0].hours, None);
}

/// A text that leaves while its journey is being held has left. What the provider says of it then counts, and it isn't
/// sent again when the journey goes on.
#[tokio::test]
async fn a_failure_that_is_told_while_the_journey_is_held_counts() {
    let (world, patient) = operated(SOURCE, telecom()).await;
    let view = world.view(&patient).await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let act = |act| (world.journeys).act(&work, &patient, &view.id, act, "In hospital", None);
    act(journey::Act::Pause).await.expect("held");
    assert_eq!(
        mediums(&world.messages(&patient).await),
        ["SMSWRIT: on-hold"]
    );
    // As a receipt writes it down.
    world.drop_texts().await;
    becomes(&world, &patient, |message| {
        taken(message);
        message.set("status", json!("not-done"));
    })
    .await;
    act(journey::Act::Resume).await.expect("let go on");
    world.drain().await;
    let all = world.messages(&patient).await;
    assert!(
        has(&all, "SMSWRIT: not-done") && has(&all, "EMAILWRIT: preparation"),
        "{all:?}"
    );
    assert_eq!(world.texts().await.len(), 0, "sent again");
}

/// While the journey is held, a text that has not left waits, and one that has left is not sent again.
#[tokio::test]
async fn what_has_left_is_not_held_back_and_not_sent_twice() {
    for has_left in [false, true] {
        let (world, patient) = operated(SOURCE, telecom()).await;
        if has_left {
            becomes(&world, &patient, taken).await;
            world.drop_texts().await;
        }
        let view = world.view(&patient).await;
        let work = world.staff(Role::Coordinator, Action::Work).await;
        let act = |act| (world.journeys).act(&work, &patient, &view.id, act, "In hospital", None);
        act(journey::Act::Pause).await.expect("held");
        let held = if has_left {
            "SMSWRIT: in-progress"
        } else {
            "SMSWRIT: on-hold"
        };
        assert_eq!(mediums(&world.messages(&patient).await), [held]);
        act(journey::Act::Resume).await.expect("let go on");
        world.drain().await;
        let after = if has_left {
            "SMSWRIT: in-progress"
        } else {
            "SMSWRIT: preparation"
        };
        assert_eq!(mediums(&world.messages(&patient).await), [after]);
        if has_left {
            assert_eq!(world.texts().await.len(), 0, "sent twice");
        }
    }
}

/// A journey that ends calls off what has not left, and nothing else.
#[tokio::test]
async fn what_has_left_is_not_called_off() {
    for (has_left, expected) in [(false, "SMSWRIT: stopped"), (true, "SMSWRIT: in-progress")] {
        let (world, patient) = operated(SOURCE, telecom()).await;
        if has_left {
            becomes(&world, &patient, taken).await;
        }
        world.die(&patient).await;
        world.drain().await;
        assert_eq!(mediums(&world.messages(&patient).await), [expected]);
        let view = world.view(&patient).await;
        let called_off = view
            .trail
            .iter()
            .any(|entry| entry.what.contains("called off"));
        assert_eq!(called_off, !has_left, "{:?}", view.trail);
    }
}

#[tokio::test]
async fn quiet_hours_hold_texts_as_they_hold_e_mails() {
    // It is 14:00 when the world begins.
    let quiet = "messages: {quiet: {from: \"12:00\", until: \"18:00\"}}\nentry:";
    let source = SOURCE.replacen("entry:", quiet, 1);
    let source = source.replacen("expires: 4h", "expires: 8h", 1);
    let (world, patient) = operated(&source, telecom()).await;
    assert_eq!(world.texts().await.len(), 0);
    world.pass(3 * HOUR).await;
    assert_eq!(world.texts().await.len(), 0);
    world.pass(HOUR + HOUR / 2).await;
    assert_eq!(world.texts().await.len(), 1);
    assert_eq!(
        mediums(&world.messages(&patient).await),
        ["SMSWRIT: preparation"]
    );
}

/// A form that is answered by reply.
fn asking() -> String {
    let (head, _) = SOURCE.split_once("steps:\n").expect("steps");
    format!(
        "{head}steps:
  tell:
    title: How it is
    ask:
      title: Your knee
      words: Please say how your knee is.
      questions:
        - {{id: how, text: How is your knee?, type: choice, options: {{b: Better, w: Worse}}}}
      channels: [sms, portal]
      sms: {{words: 'How is it today? Reply with a number, or use {{link}}'}}
      reply: {{again: Please reply with 1 or 2.}}
      translations:
        es:
          title: Su rodilla
          words: Diga cómo está su rodilla.
          questions: [{{id: how, text: ¿Cómo está su rodilla?, options: {{b: Mejor, w: Peor}}}}]
          sms: {{words: '¿Cómo está hoy? Responda con un número, o aquí: {{link}}'}}
          reply: {{again: Responda con 1 o 2.}}
      give_up_after: 2d
    answered: end
    no_answer: call
    unclear: call
  call:
    title: Call
    task: {{title: Call, reason: The patient wrote., role: coordinator, due: 24h}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

/// What is asked stands in the message with its options and their numbers, in the patient's language; older servers, which
/// would hear no reply, leave it where it is.
#[tokio::test]
async fn a_question_leaves_with_its_options_by_a_channel_of_its_own() {
    let (world, patient) = operated(&asking(), telecom()).await;
    assert_eq!(world.texts().await, []);
    let message = world.questions().await.remove(0);
    assert_eq!(
        message.text,
        "How is it today? Reply with a number, or use {link}\n1 = Better\n2 = Worse"
    );
    let question = message.question.as_ref().expect("a question");
    assert_eq!(question.again, "Please reply with 1 or 2.");
    let form = world.task(&patient, "Your knee").await;
    assert_eq!(form.id(), Some(question.task.as_str()));
    let whole = serde_json::to_string(&message).expect("JSON");
    for planted in ["knee", "Quandt", "5550142"] {
        assert!(!whole.contains(planted), "{planted} in {whole}");
    }
    let waits = world.view(&patient).await.waiting;
    assert!(
        waits[0].what.contains("by text message or in the portal"),
        "{waits:?}"
    );
    // Held and let go it is the same question.
    let view = world.view(&patient).await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    for act in [journey::Act::Pause, journey::Act::Resume] {
        let done = world
            .journeys
            .act(&work, &patient, &view.id, act, "In hospital", None);
        done.await.expect("done");
    }
    world.drain().await;
    let again = world.questions().await;
    assert!(
        again.iter().all(|one| one.question == message.question),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_question_is_asked_in_the_patients_language() {
    let world = World::with(Mail::Silent, &asking()).await;
    let patient = world.patient_with_telecom(telecom()).await;
    let mut person = world.read(ResourceType::Patient, &patient).await;
    person.set(
        "communication",
        json!([{"language": {"coding": [{"code": "es-MX"}]}, "preferred": true}]),
    );
    world.put(vec![person.into_value()]).await;
    world.operate(&patient).await;
    world.drain().await;
    let message = world.questions().await.remove(0);
    assert_eq!(
        message.text,
        "¿Cómo está hoy? Responda con un número, o aquí: {link}\n1 = Mejor\n2 = Peor"
    );
    let again = message.question.map(|question| question.again);
    assert_eq!(again.as_deref(), Some("Responda con 1 o 2."));
}

/// What the patient wrote that is no answer is work for somebody, and the history says it.
#[tokio::test]
async fn what_is_no_answer_comes_to_somebody() {
    let (world, patient) = operated(&asking(), telecom()).await;
    let form = world.task(&patient, "Your knee").await;
    for (taken_for, open) in [
        (trust::conventions::REPLY_KEPT, 0),
        (trust::conventions::REPLY_UNCLEAR, 1),
    ] {
        let mut message = trust::sms::came(&trust::sms::Came {
            patient: &patient,
            reference: Some("SM7"),
            asked: None,
            task: form.id().expect("an id"),
            taken_for,
            text: "I have pain in my chest",
            at_ms: world.now(),
        });
        message.set_id(&world.mint(&patient));
        world.put(vec![message.into_value()]).await;
        world.drain().await;
        let tasks = world.of(&patient, ResourceType::Task).await;
        let calls = tasks
            .iter()
            .filter(|task| task.text_at(&["description"]) == Some("Call"));
        assert_eq!(calls.count(), open, "{taken_for}");
    }
    let view = world.view(&patient).await;
    let told = |entry: &&journey::TrailView| entry.what.contains("with what is no answer");
    assert_eq!(
        view.trail.iter().filter(told).count(),
        1,
        "{:?}",
        view.trail
    );
    // The form is still open.
    assert_eq!(view.waiting.len(), 2, "{:?}", view.waiting);
}
