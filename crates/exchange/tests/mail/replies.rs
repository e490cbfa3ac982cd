//! Questions that are answered by replying to a text message: what goes out, whose a reply is, and what becomes of it.

use exchange::SmsDoor;
use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Expected, Owner, TenantId};
use serde_json::{Value, json};
use trust::outgoing::{Message, Question};
use trust::{Action, Agent, Change, Purpose, Role, Target, Unit};

use crate::patience::Patience;
use crate::provider::Provider;
use crate::texts::{NUMBER, mobile};
use crate::world::{NOW_MS, World};

pub const HOUR_MS: u64 = 3_600_000;
const OTHER: &str = "+16175550143";
pub const AGAIN: &str = "Please reply YES or NO.";
pub const HELP: &str = "Nobody reads this number.";

pub fn yes_no() -> Value {
    json!({"linkId": "out", "text": "Did you go out today?", "type": "boolean", "required": true})
}

/// A form of a patient's with one question, as a journey opens it: the id of its `Task`.
pub async fn form(world: &World, patient: &str, item: Value) -> String {
    let ledger = world.trust.vault().ledger();
    let owner = Owner::Patient(patient.to_owned());
    let task = ledger.mint_id(crate::world::TENANT, &owner);
    let form = ledger.mint_own_id(crate::world::TENANT);
    let questionnaire = json!({
        "resourceType": "Questionnaire", "id": form, "status": "active", "item": [item]
    });
    publish(world, questionnaire).await;
    let input = json!([{"type": {"text": "questionnaire"}, "valueCanonical": format!("Questionnaire/{form}")}]);
    let resource = json!({
        "resourceType": "Task", "id": task, "status": "requested", "intent": "order",
        "code": {"coding": [{"system": "urn:cairn:task-code", "code": "complete-questionnaire"}]},
        "for": {"reference": format!("Patient/{patient}")}, "input": input
    });
    world.put(patient, resource).await;
    task
}

/// Writes a form as a journey's publishing does.
async fn publish(world: &World, questionnaire: Value) {
    let squad = Agent {
        role: Role::Squad,
        ..crate::notices::clinician()
    };
    let (purpose, action) = (Purpose::Operations, Action::Publish);
    let permit = (world.trust).decide(&squad, purpose, action, Target::default(), "test");
    let permit = permit.await.expect("a permit");
    let unit = Unit {
        changes: vec![Change::Put {
            resource: Resource::from_value(questionnaire).expect("a resource"),
            expected: Expected::Absent,
        }],
        ..Unit::default()
    };
    let vault = world.trust.vault();
    vault.commit(&permit, unit).await.expect("committed");
}

pub fn question(task: &str) -> impl FnOnce(&mut Message) + use<> {
    let task = task.to_owned();
    move |message| {
        message.channel = "sms".to_owned();
        message.subject = String::new();
        message.text = "Did you go out today? Reply YES or NO, or use {link}".to_owned();
        message.question = Some(Question {
            task,
            again: AGAIN.to_owned(),
            language: "en".to_owned(),
        });
    }
}

/// Sends a question, and waits until something becomes of it: its `Communication`.
pub async fn asks(world: &World, provider: &Provider, patient: &str, task: &str) -> Value {
    let id = world.queue(patient, question(task)).await;
    let running = world.run_texts(provider.options());
    let mut patience = Patience::new();
    let found = loop {
        let found = world.communication(patient, &id).await;
        if found["status"] != "preparation" {
            break found;
        }
        patience.wait("something becomes of it").await;
    };
    running.stop().await;
    found
}

pub fn code(communication: &Value) -> &str {
    let code = communication["statusReason"]["coding"][0]["code"].as_str();
    code.unwrap_or_else(|| communication["status"].as_str().unwrap_or_default())
}

/// What a patient's record has of a type.
pub async fn all(world: &World, patient: &str, kind: ResourceType) -> Vec<Value> {
    let parameters = [("patient".to_owned(), format!("Patient/{patient}"))];
    let query = SearchQuery::parse(kind, &parameters, false).expect("a query");
    let permit = world.journey(patient).await;
    let rows = world.trust.vault().load_all(&permit, &query).await;
    let rows = rows.expect("rows").into_iter();
    rows.map(|row| row.resource.into_value()).collect()
}

pub async fn responses(world: &World, patient: &str) -> Vec<Value> {
    all(world, patient, ResourceType::QuestionnaireResponse).await
}

/// What came from a patient, oldest first: what it was taken for, and the words.
pub async fn came(world: &World, patient: &str) -> Vec<(String, String)> {
    let messages = all(world, patient, ResourceType::Communication).await;
    let mut found: Vec<(String, String, String)> = messages
        .iter()
        .filter_map(|message| {
            let coding = &message["category"][0]["coding"][0];
            assert!(coding.is_null() || coding["system"] == "urn:cairn:reply");
            let words = &message["payload"][0]["contentString"];
            Some((
                message["identifier"][0]["value"].as_str()?.to_owned(),
                coding["code"].as_str()?.to_owned(),
                words.as_str()?.to_owned(),
            ))
        })
        .collect();
    found.sort();
    let found = found.into_iter();
    found.map(|(_, code, words)| (code, words)).collect()
}

pub async fn status(world: &World, patient: &str, task: &str) -> Value {
    let tasks = all(world, patient, ResourceType::Task).await;
    let task = tasks.into_iter().find(|one| one["id"] == task);
    task.expect("a task")["status"].clone()
}

/// Brings what somebody sends, by the name that the provider has for it.
pub async fn bring(
    provider: &Provider,
    door: &SmsDoor,
    from: &str,
    (name, text): (&str, &str),
) -> Option<String> {
    let more = [("MessageSid", name)];
    provider.bring_with(door, from, text, &more).await
}

#[tokio::test]
async fn a_reply_is_the_answer_of_the_form_and_is_written_once() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile("(617) 555-0142")).await;
    let task = form(&world, &patient, yes_no()).await;
    let asked = asks(&world, &provider, &patient, &task).await;
    assert_eq!(asked["status"], "in-progress");
    let sent = provider.taken().remove(0);
    let body = sent["Body"].as_str().expect("a text");
    assert!(
        body.starts_with(
            "Did you go out today? Reply YES or NO, or use https://portal.example/portal/inbox/"
        ),
        "{body}"
    );
    world.clock.set(NOW_MS + HOUR_MS);
    // Whoever has answered is told nothing; brought again, it is the same.
    for _ in 0..3 {
        let told = bring(&provider, &door, NUMBER, ("SM1", " Yes. ")).await;
        assert_eq!(told, None);
    }
    let found = responses(&world, &patient).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let (own, now) = (
        json!({"reference": format!("Patient/{patient}")}),
        fhir::date::instant(NOW_MS + HOUR_MS),
    );
    let response = &found[0];
    for (member, expected) in [
        ("subject", own.clone()),
        ("source", own.clone()),
        ("author", own),
        ("status", json!("completed")),
        ("authored", json!(now)),
        (
            "identifier",
            json!({"system": "urn:cairn:task", "value": task}),
        ),
        (
            "item",
            json!([{"linkId": "out", "text": "Did you go out today?", "answer": [{"valueBoolean": true}]}]),
        ),
    ] {
        assert_eq!(response[member], expected, "{member}");
    }
    let mode = &response["extension"][0]["valueCodeableConcept"]["coding"][0];
    assert_eq!(mode["code"], "SMSWRIT");
    assert_eq!(status(&world, &patient, &task).await, "completed");
    assert_eq!(
        came(&world, &patient).await,
        [("answer".to_owned(), " Yes. ".to_owned())]
    );
    let notes = crate::notices::notes(&world).await;
    let answered = notes
        .iter()
        .filter(|note| *note == "form answered by text message");
    assert_eq!(answered.count(), 1, "{notes:?}");
    assert!(!notes.iter().any(|note| note.contains("5550142")));
}

#[tokio::test]
async fn what_is_no_answer_is_kept_and_told_and_asked_for_twice() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let expected = format!("{AGAIN} {HELP}");
    for (name, text, told) in [
        ("SM1", "I have pain in my chest", expected.as_str()),
        ("SM1", "I have pain in my chest", &expected),
        ("SM2", "yes but it hurts", &expected),
        ("SM3", "please call me", HELP),
        ("SM4", "hello?", HELP),
    ] {
        let reply = bring(&provider, &door, NUMBER, (name, text)).await;
        assert_eq!(reply.as_deref(), Some(told), "{name} {text}");
    }
    assert!(responses(&world, &patient).await.is_empty());
    assert_eq!(status(&world, &patient, &task).await, "requested");
    let texts = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    assert_eq!(
        came(&world, &patient).await,
        [
            texts("unclear", "I have pain in my chest"),
            texts("unclear", "yes but it hurts"),
            texts("unclear", "please call me"),
            texts("kept", "hello?"),
        ]
    );
    // The answer may still come.
    bring(&provider, &door, NUMBER, ("SM5", "no")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
}

#[tokio::test]
async fn numbers_and_choices_are_answers_within_what_was_asked() {
    let bound = |name: &str, value: i64| json!({"url": format!("http://hl7.org/fhir/StructureDefinition/{name}"), "valueInteger": value});
    let number = json!({"linkId": "kg", "text": "Weight", "type": "decimal", "extension": [bound("minValue", 30), bound("maxValue", 250)]});
    let option = |code: &str, words: &str| json!({"valueCoding": {"code": code, "display": words}});
    let choice = json!({"linkId": "how", "text": "How?", "type": "choice", "answerOption": [option("b", "Better"), option("w", "Worse")]});
    for (item, wrong, right, expected) in [
        (number, "820", "82,5", json!({"valueDecimal": 82.5})),
        (
            choice,
            "3",
            "2",
            json!({"valueCoding": {"code": "w", "display": "Worse"}}),
        ),
    ] {
        let world = World::new().await;
        let provider = Provider::start().await;
        let door = world.door(&provider.options());
        let patient = world.patient(&mobile(NUMBER)).await;
        let task = form(&world, &patient, item).await;
        asks(&world, &provider, &patient, &task).await;
        let told = bring(&provider, &door, NUMBER, ("SM1", wrong)).await;
        assert!(told.is_some_and(|told| told.starts_with(AGAIN)));
        bring(&provider, &door, NUMBER, ("SM2", right)).await;
        let found = responses(&world, &patient).await;
        assert_eq!(found[0]["item"][0]["answer"][0], expected);
    }
}

/// STOP, START and HELP come first, and "no" is none of them.
#[tokio::test]
async fn a_stop_is_no_answer_and_no_is_no_stop() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let number = trust::sms::Number::parse(NUMBER, None).expect("a number");
    let is_stopped = async || {
        let vault = world.trust.vault();
        let found = vault.is_stopped(crate::world::TENANT, &number).await;
        found.expect("known")
    };
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let told = bring(&provider, &door, NUMBER, ("SM1", "help")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    let told = bring(&provider, &door, NUMBER, ("SM2", "stop")).await;
    assert!(told.is_some_and(|told| told.contains("no more text messages")));
    assert!(is_stopped().await);
    // Who wants no texts answers none, and is asked nothing again.
    let told = bring(&provider, &door, NUMBER, ("SM3", "maybe")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    bring(&provider, &door, NUMBER, ("SM4", "yes")).await;
    assert!(came(&world, &patient).await.is_empty());
    assert!(responses(&world, &patient).await.is_empty());
    bring(&provider, &door, NUMBER, ("SM5", "start")).await;
    assert!(!is_stopped().await);
    bring(&provider, &door, NUMBER, ("SM6", "no")).await;
    assert!(!is_stopped().await);
    let found = responses(&world, &patient).await;
    assert_eq!(found[0]["item"][0]["answer"][0]["valueBoolean"], false);
}

/// Some providers take "yes" for START.
#[tokio::test]
async fn a_yes_that_the_provider_took_for_start_is_an_answer() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    for (name, text, said) in [
        ("SM1", "start", "START"),
        ("SM2", "HELP me", "HELP"),
        ("SM3", "YES", "START"),
    ] {
        let more = [("MessageSid", name), ("OptOutType", said)];
        let told = provider.bring_with(&door, NUMBER, text, &more).await;
        assert_eq!(told, None, "the provider has answered {text}");
    }
    assert_eq!(responses(&world, &patient).await.len(), 1);
    assert_eq!(came(&world, &patient).await.len(), 1);
}

/// What comes after the question is closed is no answer to it, and isn't lost.
#[tokio::test]
async fn what_comes_late_is_kept_and_changes_nothing() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let tasks = all(&world, &patient, ResourceType::Task).await;
    let mut closed = tasks[0].clone();
    closed["status"] = json!("cancelled");
    world.put(&patient, closed).await;
    let told = bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    assert!(responses(&world, &patient).await.is_empty());
    assert_eq!(
        came(&world, &patient).await,
        [("late".to_owned(), "yes".to_owned())]
    );
    assert_eq!(status(&world, &patient, &task).await, "cancelled");
    // After a fortnight it has nothing to do with the question any more.
    world.clock.set(NOW_MS + 15 * 24 * HOUR_MS);
    bring(&provider, &door, NUMBER, ("SM2", "yes")).await;
    assert_eq!(came(&world, &patient).await.len(), 1);
}

/// Whose a reply is has to be certain: when it is asked, and when the reply comes.
#[tokio::test]
async fn a_telephone_of_several_is_not_asked_and_not_heard() {
    for sharer in [
        json!({"resourceType": "Patient"}),
        json!({"resourceType": "RelatedPerson"}),
    ] {
        let world = World::new().await;
        let provider = Provider::start().await;
        let door = world.door(&provider.options());
        let patient = world.patient(&mobile(NUMBER)).await;
        let share = async |number: &str| {
            if sharer["resourceType"] == "Patient" {
                world.patient(&mobile(number)).await;
                return;
            }
            let ledger = world.trust.vault().ledger();
            let owner = Owner::Patient(patient.clone());
            let id = ledger.mint_id(crate::world::TENANT, &owner);
            let person = json!({
                "resourceType": "RelatedPerson", "id": id,
                "patient": {"reference": format!("Patient/{patient}")},
                "telecom": [{"system": "phone", "value": number}]
            });
            world.put(&patient, person).await;
        };
        let task = form(&world, &patient, yes_no()).await;
        asks(&world, &provider, &patient, &task).await;
        // It is somebody else's too since it was asked.
        share("617-555-0142").await;
        let told = bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
        assert_eq!(told.as_deref(), Some(HELP));
        assert!(came(&world, &patient).await.is_empty());
        assert!(responses(&world, &patient).await.is_empty());
        let again = form(&world, &patient, yes_no()).await;
        let refused = asks(&world, &provider, &patient, &again).await;
        assert_eq!(code(&refused), "shared-number");
        assert_eq!(provider.taken().len(), 1);
    }
}

/// A reply names no question, so there is one at a time.
#[tokio::test]
async fn one_question_is_open_on_a_telephone_at_a_time() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let first = form(&world, &patient, yes_no()).await;
    let second = form(&world, &patient, yes_no()).await;
    assert_eq!(
        code(&asks(&world, &provider, &patient, &first).await),
        "in-progress"
    );
    assert_eq!(
        code(&asks(&world, &provider, &patient, &second).await),
        "question-open"
    );
    // A reminder of the same one goes out, and what was no answer before still counts.
    bring(&provider, &door, NUMBER, ("SM1", "well")).await;
    assert_eq!(
        code(&asks(&world, &provider, &patient, &first).await),
        "in-progress"
    );
    bring(&provider, &door, NUMBER, ("SM2", "yes")).await;
    assert_eq!(status(&world, &patient, &first).await, "completed");
    assert_eq!(status(&world, &patient, &second).await, "requested");
    world.clock.set(NOW_MS + HOUR_MS);
    assert_eq!(
        code(&asks(&world, &provider, &patient, &second).await),
        "in-progress"
    );
    world.clock.set(NOW_MS + 2 * HOUR_MS);
    bring(&provider, &door, NUMBER, ("SM3", "no")).await;
    assert_eq!(responses(&world, &patient).await.len(), 2);
}

/// Of several that leave in the same moment one is asked; the others go by their next channel, or wait for nobody.
#[tokio::test]
async fn of_questions_in_one_moment_one_goes_out() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let task = form(&world, &patient, yes_no()).await;
        all.push(world.queue(&patient, question(&task)).await);
    }
    let running = world.run_texts(provider.options());
    let mut patience = Patience::new();
    let codes = loop {
        let mut codes = Vec::new();
        for id in &all {
            let found = world.communication(&patient, id).await;
            codes.push(code(&found).to_owned());
        }
        if codes.iter().all(|code| code != "preparation") {
            break codes;
        }
        patience.wait("something becomes of all").await;
    };
    running.stop().await;
    let count = |wanted: &str| codes.iter().filter(|code| *code == wanted).count();
    assert_eq!(
        (count("in-progress"), count("question-open")),
        (1, 3),
        "{codes:?}"
    );
    assert_eq!(provider.taken().len(), 1);
}

/// Whoever is asked is known before the provider has the message: a reply that comes before we know that it was taken is
/// an answer.
#[tokio::test]
async fn a_reply_that_overtakes_our_commit_is_an_answer() {
    let mut world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    world.queue(&patient, question(&task)).await;
    provider.next(json!([{"take_and_hang": true}])).await;
    let running = world.run_texts(provider.options());
    provider.wait_for(1).await;
    running.kill().await;
    world = world.reopen().await;
    let door = world.door(&provider.options());
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
    assert_eq!(status(&world, &patient, &task).await, "completed");
}

/// A provider that brings several at once, and the same several times: one of them is the answer.
#[tokio::test]
async fn replies_at_once_are_one_answer() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    tokio::join!(
        bring(&provider, &door, NUMBER, ("SM1", "yes")),
        bring(&provider, &door, NUMBER, ("SM2", "no")),
        bring(&provider, &door, NUMBER, ("SM1", "yes")),
        bring(&provider, &door, NUMBER, ("SM3", "no")),
    );
    assert_eq!(responses(&world, &patient).await.len(), 1);
    let came = came(&world, &patient).await;
    let answers = came.iter().filter(|(code, _)| code == "answer");
    assert_eq!((answers.count(), came.len()), (1, 3), "{came:?}");
}

/// Where replies are brought to somebody else, or policies keep them from being heard, nobody is asked so; all other
/// texts leave.
#[tokio::test]
async fn nobody_is_asked_where_nobody_hears() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in trust::PolicySet::built_in_files() {
        let mut text = text.to_owned();
        if name == "parts.cedar" {
            let policies = text
                .split("@id(")
                .filter(|policy| !policy.contains("sms-receiver-writes-answer"));
            text = policies.collect::<Vec<_>>().join("@id(");
        }
        if name != "parts.test.toml" {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
    }
    for world in [World::nowhere().await, World::under(folder.path()).await] {
        let provider = Provider::start().await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let task = form(&world, &patient, yes_no()).await;
        let refused = asks(&world, &provider, &patient, &task).await;
        assert_eq!(code(&refused), "no-replies");
        assert!(exchange::unready_parts(&world.trust, false).is_empty());
        let plain = crate::texts::comes_to(&world, &provider, &patient).await;
        assert_eq!(plain, "in-progress");
        assert_eq!(provider.taken().len(), 1);
    }
}

/// The words of the repeat are looked at as those of the message are.
#[tokio::test]
async fn what_is_said_again_holds_nothing_of_the_patient() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    let id = world
        .queue(&patient, |message| {
            question(&task)(message);
            if let Some(question) = &mut message.question {
                question.again = "Please reply YES or NO, Mrs Quandt.".to_owned();
            }
        })
        .await;
    let running = world.run_texts(provider.options());
    let refused = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(code(&refused), "phi-guard");
    assert!(provider.taken().is_empty());
}

/// What comes without a name of the provider's can't be known as a repeat, and what comes from a stranger is nobody's.
#[tokio::test]
async fn strangers_and_what_has_no_name_answer_nothing() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let help = Some(HELP.to_owned());
    assert_eq!(provider.bring(&door, NUMBER, "yes").await, help);
    let told = bring(&provider, &door, NUMBER, ("no name!", "yes")).await;
    assert_eq!(told, help);
    assert_eq!(bring(&provider, &door, OTHER, ("SM1", "yes")).await, help);
    assert_eq!(bring(&provider, &door, "YES", ("SM2", "yes")).await, None);
    assert!(came(&world, &patient).await.is_empty());
    assert_eq!(status(&world, &patient, &task).await, "requested");
}

/// Two organisations know one telephone: what is told to one is the other's neither to read nor to keep.
#[tokio::test]
async fn a_reply_is_of_the_organisation_that_it_was_sent_to() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let other = TenantId(2);
    let vault = world.trust.vault();
    vault.ledger().create_tenant(other).await.expect("a tenant");
    let theirs = vault.ledger().mint_own_id(other);
    let agent = Agent::system(other, "importer");
    let target = Target {
        kind: None,
        patient: Some(theirs.clone()),
    };
    let (purpose, action) = (Purpose::Operations, Action::Import);
    let permit = world.trust.decide(&agent, purpose, action, target, "test");
    let permit = permit.await.expect("a permit");
    let person = json!({
        "resourceType": "Patient", "id": theirs, "birthDate": "1950-01-01",
        "telecom": [{"system": "phone", "use": "mobile", "value": NUMBER}]
    });
    let unit = Unit {
        changes: vec![Change::Put {
            resource: Resource::from_value(person).expect("a resource"),
            expected: Expected::Absent,
        }],
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.expect("committed");
    let options = provider.options();
    let door = SmsDoor::new(world.trust.clone(), other, &options).expect("a door");
    let told = bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    assert!(came(&world, &patient).await.is_empty());
    // Ours is not shared with theirs, and is answered at our door.
    let door = world.door(&options);
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
}

/// Which number answers is looked at, not only whose it is.
#[tokio::test]
async fn another_number_of_the_patient_answers_nothing() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let two = json!([
        {"system": "sms", "value": NUMBER, "rank": 1},
        {"system": "sms", "value": OTHER, "rank": 2}
    ]);
    let patient = world.patient(&[("telecom", two)]).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    bring(&provider, &door, OTHER, ("SM1", "yes")).await;
    assert!(came(&world, &patient).await.is_empty());
    bring(&provider, &door, NUMBER, ("SM2", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
}

/// A question that the provider turned down has asked nothing: what comes then answers nothing, and another may be asked.
#[tokio::test]
async fn what_never_left_has_asked_nothing() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let first = form(&world, &patient, yes_no()).await;
    provider.next(json!([{"status": 400, "code": 21211}])).await;
    let refused = asks(&world, &provider, &patient, &first).await;
    assert_eq!(code(&refused), "permanent-failure");
    let told = bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    assert!(came(&world, &patient).await.is_empty());
    assert_eq!(status(&world, &patient, &first).await, "requested");
    let second = form(&world, &patient, yes_no()).await;
    let asked = asks(&world, &provider, &patient, &second).await;
    assert_eq!(code(&asked), "in-progress");
    bring(&provider, &door, NUMBER, ("SM2", "yes")).await;
    assert_eq!(status(&world, &patient, &first).await, "requested");
    assert_eq!(status(&world, &patient, &second).await, "completed");
}

/// A reminder that doesn't leave takes nothing from the invitation that did.
#[tokio::test]
async fn an_invitation_is_answered_though_its_reminder_did_not_leave() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    provider.next(json!([{"status": 400, "code": 21211}])).await;
    let reminder = asks(&world, &provider, &patient, &task).await;
    assert_eq!(code(&reminder), "permanent-failure");
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
}

/// What comes with a picture, or without a word, is no answer, and it is said that there was more.
#[tokio::test]
async fn a_picture_is_told_of_and_no_answer() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let picture = [("MessageSid", "SM1"), ("NumMedia", "1")];
    provider.bring_with(&door, NUMBER, "yes", &picture).await;
    bring(&provider, &door, NUMBER, ("SM2", " ")).await;
    assert!(responses(&world, &patient).await.is_empty());
    let unclear = |text: &str| ("unclear".to_owned(), text.to_owned());
    assert_eq!(
        came(&world, &patient).await,
        [
            unclear("yes\n(a picture or file came with it, and is not kept)"),
            unclear("(no words)")
        ]
    );
}
