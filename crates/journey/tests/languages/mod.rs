//! Messages in the language that each patient prefers, over a real store.

use crate::world::{Mail, START, World};
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};

const SOURCE: &str = "name: after-surgery
title: After surgery
owner: Team
purpose: TREAT
at_most: 30d
language: en
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: [tell, ask]
steps:
  tell:
    title: Tell
    send:
      title: Your visit
      words: Hello {patient.given|there}, we see you soon.
      channels: [email]
      email: {subject: News, text: 'Read it: {link}'}
      translations:
        es:
          title: Su visita
          words: Hola {patient.given|}, nos vemos pronto.
          email: {subject: Noticias, text: 'Léalo: {link}'}
        pt-BR: {title: Sua visita, words: 'Olá, {patient.given|}.'}
    next: end
    on_failure: end
  ask:
    title: Ask
    ask:
      title: How are you?
      words: Please answer by {due.day}.
      questions: [{id: well, text: Are you well?, type: yes-no}]
      channels: [portal]
      remind_after: 1d
      reminder: Please answer still.
      give_up_after: 3d
      translations:
        es:
          title: ¿Cómo está?
          words: 'Conteste antes del {due.day}.'
          reminder: Conteste todavía.
          questions: [{id: well, text: ¿Está bien?}]
    answered: end
    no_answer: end
";

async fn speaks(world: &World, patient: &str, languages: &[&str]) {
    let mut said = world.read(ResourceType::Patient, patient).await;
    let all: Vec<Value> = (languages.iter())
        .map(|code| json!({"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]}}))
        .collect();
    said.set("communication", Value::Array(all));
    world.put(vec![said.into_value()]).await;
}

/// Language, heading and words of each message, in the order of their headings.
async fn messages(world: &World, patient: &str) -> Vec<(Option<String>, String, String)> {
    let all = world.of(patient, ResourceType::Communication).await;
    let text = |message: &Resource, path: &[&str]| message.text_at(path).map(str::to_owned);
    let mut all: Vec<_> = (all.iter())
        .map(|message| {
            let words = message
                .get("payload")
                .and_then(|all| all[0]["contentString"].as_str());
            (
                text(message, &["language"]),
                text(message, &["topic", "text"]).unwrap(),
                words.unwrap_or_default().to_owned(),
            )
        })
        .collect();
    all.sort_by(|one, other| one.1.cmp(&other.1));
    all
}

#[tokio::test]
async fn each_patient_is_written_to_in_the_language_that_they_prefer() {
    let world = World::with(Mail::Silent, SOURCE).await;
    let (spanish, brazilian, english) = (
        world.patient().await,
        world.patient().await,
        world.patient().await,
    );
    speaks(&world, &spanish, &["fr", "es-MX"]).await;
    speaks(&world, &brazilian, &["pt-BR"]).await;
    for patient in [&spanish, &brazilian, &english] {
        world.operate(patient).await;
    }
    world.drain().await;
    let mail: Vec<(String, String, String)> = (world.outgoing().await.into_iter())
        .map(|message| (message.patient, message.subject, message.text))
        .collect();
    for (patient, subject, text) in [
        (&spanish, "Noticias", "Léalo: {link}"),
        // There is no e-mail in that language.
        (&brazilian, "News", "Read it: {link}"),
        (&english, "News", "Read it: {link}"),
    ] {
        let expected = (patient.clone(), subject.to_owned(), text.to_owned());
        assert!(mail.contains(&expected), "{mail:?}");
    }
    let es = Some("es".to_owned());
    let day = fhir::date::instant(START + 3 * 86_400_000)[..10].to_owned();
    assert_eq!(
        messages(&world, &spanish).await,
        [
            (
                es.clone(),
                "Su visita".to_owned(),
                "Hola Ottilie, nos vemos pronto.".to_owned()
            ),
            (
                es.clone(),
                "¿Cómo está?".to_owned(),
                format!("Conteste antes del {day}.")
            ),
        ]
    );
    let brazilians = messages(&world, &brazilian).await;
    assert_eq!(brazilians[0].0, None);
    assert_eq!(brazilians[0].1, "How are you?");
    assert_eq!(
        brazilians[1],
        (
            Some("pt-BR".to_owned()),
            "Sua visita".to_owned(),
            "Olá, Ottilie.".to_owned()
        )
    );
    let english_ones = messages(&world, &english).await;
    assert!(english_ones.iter().all(|(language, ..)| language.is_none()));
    // The form is one for all, with each language beside its texts; its task has its name in them.
    let tasks = world.of(&spanish, ResourceType::Task).await;
    assert_eq!(tasks[0].text_at(&["description"]), Some("How are you?"));
    assert_eq!(tasks[0].text_at(&["language"]), Some("en"));
    let canonical = tasks[0]
        .at(&["input", "0", "valueCanonical"])
        .and_then(Value::as_str);
    let form = canonical.unwrap().strip_prefix("Questionnaire/").unwrap();
    let form = world.read(ResourceType::Questionnaire, form).await;
    let said = |words: &str| {
        json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/translation", "extension": [
        {"url": "lang", "valueCode": "es"}, {"url": "content", "valueString": words}]}]})
    };
    assert_eq!(tasks[0].get("_description"), Some(&said("¿Cómo está?")));
    assert_eq!(form.get("_title"), Some(&said("¿Cómo está?")));
    assert_eq!(form.at(&["item", "0", "_text"]), Some(&said("¿Está bien?")));
    // Whoever has come to prefer another language is written to in that from then on.
    speaks(&world, &spanish, &["en"]).await;
    speaks(&world, &english, &["es"]).await;
    world.until(26 * 3_600_000).await;
    let reminders = |all: Vec<(Option<String>, String, String)>| -> Vec<String> {
        let words = all.into_iter().map(|(_, _, words)| words);
        words
            .filter(|words| words.contains("toda") || words.contains("still"))
            .collect()
    };
    assert_eq!(
        reminders(messages(&world, &spanish).await),
        ["Please answer still."]
    );
    assert_eq!(
        reminders(messages(&world, &english).await),
        ["Conteste todavía."]
    );
}
