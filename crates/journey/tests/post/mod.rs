//! Letters and telephone calls as channels of journeys, over a real store: to whom they go, what is in the outbox of them,
//! and what comes after them.

use crate::world::{HOUR, Mail, World};
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::conventions::{BATCH_SYSTEM, CONFIDENTIAL_EXTENSION, NOT_DONE_SYSTEM};
use trust::outgoing::{CHANNEL_LETTER, CHANNEL_VOICE, Message};

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
      channels: [letter, voice, portal]
      voice:
        words: Please call your care team.
        script: '12'
      translations:
        es: {title: Su rodilla, words: Doble la rodilla., voice: {words: Llame a su equipo.}}
      expires: 5d
    next: end
    on_failure: call
  call:
    title: Call
    task: {title: Call, reason: The news reached nobody., role: coordinator, due: 24h}
    next: end
    overdue: {role: clinician, priority: urgent}
";

const PARTNERS: &str = "[[partner]]
name = 'post'
title = 'Post'
carries = ['letters', 'calls']
contract = 'baa'
until = '2099-12-31'
data = ['identity', 'contact', 'health']
purposes = ['TREAT']
";

impl World {
    async fn leaving(&self, channel: u16) -> Vec<Message> {
        let ledger = self.trust.vault().ledger();
        let due = ledger.outbox_due(channel, u64::MAX >> 20, 1000).await;
        let due = due.expect("due").into_iter();
        due.map(|entry| serde_json::from_slice(&entry.body).expect("a message"))
            .collect()
    }

    /// The message with a medium, its status and why.
    async fn by_medium(&self, patient: &str, medium: &str) -> Option<(Resource, String, String)> {
        let all = self.of(patient, ResourceType::Communication).await;
        let found = all
            .into_iter()
            .find(|one| one.text_at(&["medium", "0", "coding", "0", "code"]) == Some(medium))?;
        let text = |path: &[&str]| found.text_at(path).unwrap_or_default().to_owned();
        let (status, why) = (
            text(&["status"]),
            text(&["statusReason", "coding", "0", "code"]),
        );
        Some((found, status, why))
    }

    /// Who hands over, or the partner, says something of it.
    async fn said(&self, patient: &str, medium: &str, change: impl Fn(&mut Resource)) {
        let (mut message, ..) = self.by_medium(patient, medium).await.expect("a message");
        change(&mut message);
        self.put(vec![message.into_value()]).await;
        self.drain().await;
    }

    async fn lives(&self, patient: &str, members: &[(&str, Value)]) {
        let record = self.read(ResourceType::Patient, patient).await;
        let mut record = record.into_value();
        for (name, value) in members {
            record[*name] = value.clone();
        }
        self.put(vec![record]).await;
    }
}

fn home() -> Value {
    json!([{"use": "home", "line": ["12 Alder Street"], "city": "Ashbrook", "postalCode": "01991"}])
}

fn batched(message: &mut Resource) {
    let all = message.get("identifier").and_then(Value::as_array);
    let mut all = all.cloned().unwrap_or_default();
    all.push(json!({"system": BATCH_SYSTEM, "value": "letters-1"}));
    message.set("identifier", Value::Array(all));
}

fn fails(message: &mut Resource, code: &str) {
    message.set("status", json!("not-done"));
    message.set(
        "statusReason",
        json!({"coding": [{"system": NOT_DONE_SYSTEM, "code": code}]}),
    );
}

/// The outbox holds no word of a letter; a call has the words that may be heard. What fails goes on by the next channel.
#[tokio::test]
async fn a_letter_comes_first_then_a_call_then_the_inbox() {
    let world = World::among(Mail::Silent, SOURCE, Some(PARTNERS)).await;
    let phone = json!([{"system": "phone", "value": "+1-617-555-0142"}]);
    let patient = world.patient_with_telecom(phone).await;
    world.lives(&patient, &[("address", home())]).await;
    world.operate(&patient).await;
    world.drain().await;
    let letters = world.leaving(CHANNEL_LETTER).await;
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!(
        (
            letter.channel.as_str(),
            letter.subject.as_str(),
            letter.text.as_str(),
            letter.language.as_deref()
        ),
        ("letter", "", "", Some("en"))
    );
    let body = serde_json::to_string(letter).expect("JSON");
    for detail in ["Ottilie", "knee", "Alder"] {
        assert!(!body.contains(detail), "{detail} in {body}");
    }
    assert!(world.leaving(CHANNEL_VOICE).await.is_empty());
    // A closed batch has it: nothing calls it off, and a journey that is held lets it go.
    world
        .said(&patient, "MAILWRIT", |message| {
            message.set("status", json!("in-progress"));
            batched(message);
        })
        .await;
    world
        .said(&patient, "MAILWRIT", |message| fails(message, "returned"))
        .await;
    let calls = world.leaving(CHANNEL_VOICE).await;
    let [call] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (
            call.text.as_str(),
            call.script.as_deref(),
            call.language.as_deref()
        ),
        ("Please call your care team.", Some("12"), Some("en"))
    );
    world
        .said(&patient, "PHONE", |message| fails(message, "no-answer"))
        .await;
    let (_, status, _) = world
        .by_medium(&patient, "PORTAL")
        .await
        .expect("in the inbox");
    assert_eq!(status, "completed");
}

/// Whom nothing reaches by post is called at once; in their own language, without a recording that speaks another.
#[tokio::test]
async fn who_has_no_address_is_called_and_who_asked_for_one_place_is_reached_there_alone() {
    let asked = json!([{"url": CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
    let phone = json!([{"system": "phone", "value": "+1-617-555-0142"}]);
    let spanish = json!([{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es"}]}, "preferred": true}]);
    let mut elsewhere = home();
    elsewhere[0]["extension"] = asked;
    for (name, address, letters, calls) in [
        ("no address", json!([]), 0, 1),
        ("an address", home(), 1, 0),
        ("that address alone", elsewhere, 1, 0),
    ] {
        let world = World::among(Mail::Silent, SOURCE, Some(PARTNERS)).await;
        let patient = world.patient_with_telecom(phone.clone()).await;
        let mut members = vec![("communication", spanish.clone())];
        if address.as_array().is_some_and(|all| !all.is_empty()) {
            members.push(("address", address));
        }
        world.lives(&patient, &members).await;
        world.operate(&patient).await;
        world.drain().await;
        let found = (
            world.leaving(CHANNEL_LETTER).await,
            world.leaving(CHANNEL_VOICE).await,
        );
        assert_eq!(
            (found.0.len(), found.1.len()),
            (letters, calls),
            "{name}: {found:?}"
        );
        if let Some(call) = found.1.first() {
            let said = (
                call.text.as_str(),
                call.script.as_deref(),
                call.language.as_deref(),
            );
            assert_eq!(said, ("Llame a su equipo.", None, Some("es")));
        }
        if name == "that address alone" {
            // The telephone was not asked for, so the inbox is what is left.
            world
                .said(&patient, "MAILWRIT", |message| fails(message, "returned"))
                .await;
            let (_, status, why) = world.by_medium(&patient, "PHONE").await.expect("a message");
            assert_eq!((status.as_str(), why.as_str()), ("not-done", "no-address"));
            assert!(world.by_medium(&patient, "PORTAL").await.is_some());
        }
    }
}

/// What stands in a closed batch when its time is over may be in the post: nobody says that it wasn't sent.
#[tokio::test]
async fn a_letter_of_a_closed_batch_is_not_called_off() {
    for (in_batch, expected) in [
        (true, ("not-done", "no-receipt")),
        (false, ("not-done", "expired")),
    ] {
        let world = World::among(Mail::Silent, SOURCE, Some(PARTNERS)).await;
        let patient = world.patient_with_telecom(json!([])).await;
        world.lives(&patient, &[("address", home())]).await;
        world.operate(&patient).await;
        world.drain().await;
        if in_batch {
            world
                .said(&patient, "MAILWRIT", |message| {
                    message.set("status", json!("in-progress"));
                    batched(message);
                })
                .await;
        }
        world.pass(121 * HOUR).await;
        let (_, status, why) = world
            .by_medium(&patient, "MAILWRIT")
            .await
            .expect("a letter");
        assert_eq!((status.as_str(), why.as_str()), expected);
    }
}
