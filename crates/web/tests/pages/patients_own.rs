//! The portal: forms, messages, visits, consent, weight, preferences, who looked.

use axum::http::StatusCode;
use fhir::ResourceType;
use serde_json::json;

use crate::world::{World, check_html};

pub(crate) async fn with_form(world: &World, patient: &str) -> (String, String) {
    let (form, task) = (world.id_of(patient), world.id_of(patient));
    world
        .put(vec![
            json!({ "resourceType": "Questionnaire", "id": form, "url": "urn:cairn:questionnaire:hf:symptoms", "version": "1", "status": "active", "title": "How are you today?", "item": [
                { "linkId": "breathless", "text": "Are you out of breath?", "type": "boolean", "required": true },
                { "linkId": "score", "text": "How well are you?", "type": "integer", "required": true, "extension": [
                    { "url": "http://hl7.org/fhir/StructureDefinition/minValue", "valueInteger": 0 }, { "url": "http://hl7.org/fhir/StructureDefinition/maxValue", "valueInteger": 10 }] },
            ] }),
            json!({ "resourceType": "Task", "id": task, "status": "requested", "intent": "order", "code": { "coding": [{ "system": "urn:cairn:task-code", "code": "complete-questionnaire" }] }, "description": "How are you today?",
                "for": { "reference": format!("Patient/{patient}") }, "owner": { "reference": format!("Patient/{patient}") }, "authoredOn": "2026-03-01T08:00:00Z", "restriction": { "period": { "end": "2026-03-03T08:00:00Z" } },
                "input": [{ "type": { "text": "questionnaire" }, "valueCanonical": "urn:cairn:questionnaire:hf:symptoms|1" }] }),
        ])
        .await;
    (form, task)
}

/// A journey whose form has other languages, one of them in part.
const ASKS: &str = "name: asks
title: Asks
owner: Team
purpose: TREAT
at_most: 30d
entry: {request: {by: [clinician]}, per: event}
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: ask
steps:
  ask:
    title: Ask
    ask:
      title: How are you today?
      words: Please answer.
      questions:
        - {id: breathless, text: Are you out of breath?, help: For example on stairs., type: yes-no}
        - {id: where, text: Where?, type: choice, options: {leg: In the leg, arm: In the arm}, required: false}
      give_up_after: 2d
      translations:
        es:
          title: ¿Cómo está hoy?
          words: Conteste, por favor.
          questions:
            - {id: breathless, text: ¿Le falta el aire?, help: Por ejemplo al subir escaleras., }
            - {id: where, text: ¿Dónde?, options: {leg: En la pierna, arm: En el brazo}}
        pt:
          title: Como está hoje?
          words: Responda, por favor.
          questions:
            - {id: where, text: Onde?, options: {leg: Na perna}}
    answered: end
    no_answer: end
";

/// The form as it is published with the journey, and a task to fill it in, as the journey makes it.
async fn with_translated_form(world: &World, patient: &str) -> String {
    let bundle = journey::export(ASKS, 1).unwrap();
    let mut form = bundle["entry"][1]["resource"].clone();
    assert_eq!(form["resourceType"], "Questionnaire");
    form["id"] = json!(world.id_of(patient));
    let task = world.id_of(patient);
    let name = form["_title"].clone();
    let canonical = format!("{}|1", form["url"].as_str().unwrap());
    world
        .put(vec![
            form,
            json!({ "resourceType": "Task", "id": task, "status": "requested", "intent": "order", "language": "en", "code": { "coding": [{ "system": "urn:cairn:task-code", "code": "complete-questionnaire" }] }, "description": "How are you today?", "_description": name,
                "for": { "reference": format!("Patient/{patient}") }, "owner": { "reference": format!("Patient/{patient}") }, "authoredOn": "2026-03-01T08:00:00Z", "restriction": { "period": { "end": "2026-03-03T08:00:00Z" } },
                "input": [{ "type": { "text": "questionnaire" }, "valueCanonical": canonical }] }),
        ])
        .await;
    task
}

async fn speaks(world: &World, patient: &str, code: &str) {
    let mut person = world.get(ResourceType::Patient, patient).await;
    let version = person
        .text_at(&["meta", "versionId"])
        .unwrap()
        .parse()
        .unwrap();
    person.strip_meta();
    person.set("communication", json!([{ "language": { "coding": [{ "system": "urn:ietf:bcp:47", "code": code }] }, "preferred": true }]));
    world.change(person.into_value(), version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_in_the_language_that_the_patient_prefers() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let task = with_translated_form(&world, &ida).await;
    let path = format!("/portal/forms/{task}");
    let mut own = world.patients_browser(&ida).await;
    // Who prefers nothing that is there is asked in the journey's own language.
    let english = own.get(&path).await;
    for words in [
        "How are you today?",
        "Are you out of breath?",
        "In the leg",
        "Send my answers",
    ] {
        english.shows(words);
    }
    assert!(
        !english.has("lang=\"es\"") && !english.has("¿"),
        "{}",
        english.body
    );

    speaks(&world, &ida, "es-MX").await;
    let home = own.get("/portal").await;
    home.shows("<h2 id=\"next\" lang=\"es\">¿Cómo está hoy?</h2>");
    check_html("home in Spanish", &home.body);
    let spanish = own.get(&path).await;
    for words in [
        "<span lang=\"es\">¿Cómo está hoy?</span>",
        "<span lang=\"es\">¿Le falta el aire?</span>",
        "<span lang=\"es\">Por ejemplo al subir escaleras.</span>",
        "<span lang=\"es\">En la pierna</span>",
        "<span lang=\"es\">Sí</span>",
        "<span lang=\"es\">(puede quedar vacío)</span>",
        "<span lang=\"es\">Enviar mis respuestas</span>",
        "2026-03-03.",
    ] {
        spanish.shows(words);
    }
    for english in [
        "Are you out of breath?",
        "In the leg",
        "Send my answers",
        "Please answer",
    ] {
        assert!(!spanish.has(english), "{english}");
    }
    check_html("form in Spanish", &spanish.body);
    let wrong = own.act(&path, &path, &[("q-where", "leg")]).await;
    wrong.shows("<span lang=\"es\">Por favor, conteste esta pregunta.</span>");
    wrong.shows("<span lang=\"es\">Todavía no se ha enviado nada. Por favor, revise:</span>");
    check_html("form with a problem in Spanish", &wrong.body);

    // What isn't there in it stays in the journey's own, and isn't said to be Portuguese.
    speaks(&world, &ida, "pt-BR").await;
    let portuguese = own.get(&path).await;
    portuguese.shows("<span lang=\"pt\">Na perna</span>");
    portuguese.shows("<span>In the arm</span>");
    portuguese.shows("Are you out of breath?");
    portuguese.shows("<span lang=\"pt\">Não</span>");

    // Staff and conditions are told the same as ever.
    let fields = [("q-breathless", "yes"), ("q-where", "arm")];
    assert_eq!(
        own.act(&path, &path, &fields).await.location(),
        "/portal?said=answered"
    );
    let responses = world.all(ResourceType::QuestionnaireResponse, &ida).await;
    assert_eq!(
        responses[0].at(&["item"]),
        Some(&json!([
            { "linkId": "breathless", "text": "Are you out of breath?", "answer": [{ "valueBoolean": true }] },
            { "linkId": "where", "text": "Where?", "answer": [{ "valueCoding": { "code": "arm", "display": "In the arm" } }] },
        ]))
    );
    let done = own.get(&path).await;
    done.shows("<span lang=\"pt\">Como está hoje?</span>");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_answered_once_and_completes_its_task() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let (_, task) = with_form(&world, &ida).await;
    let mut own = world.patients_browser(&ida).await;
    let home = own.get("/portal").await;
    home.shows("Please do this");
    home.shows("How are you today?");
    check_html("home", &home.body);
    let path = format!("/portal/forms/{task}");
    let page = own.get(&path).await;
    page.shows("Are you out of breath?");
    check_html("form", &page.body);
    let wrong = own
        .act(&path, &path, &[("q-breathless", "yes"), ("q-score", "11")])
        .await;
    wrong.shows("This number is too small or too large.");
    check_html("form with a problem", &wrong.body);
    assert!(
        world
            .all(ResourceType::QuestionnaireResponse, &ida)
            .await
            .is_empty()
    );
    let csrf = page.field("csrf");
    let fields = [
        ("csrf", csrf.as_str()),
        ("q-breathless", "yes"),
        ("q-score", "4"),
    ];
    assert_eq!(
        own.post(&path, &fields).await.location(),
        "/portal?said=answered"
    );
    let responses = world.all(ResourceType::QuestionnaireResponse, &ida).await;
    assert_eq!(responses.len(), 1);
    let response = &responses[0];
    assert_eq!(
        response.text_at(&["identifier", "value"]),
        Some(task.as_str())
    );
    assert_eq!(
        response.text_at(&["identifier", "system"]),
        Some("urn:cairn:task")
    );
    assert_eq!(
        response.at(&["item", "0", "answer", "0", "valueBoolean"]),
        Some(&json!(true))
    );
    assert_eq!(
        world
            .get(ResourceType::Task, &task)
            .await
            .text_at(&["status"]),
        Some("completed")
    );
    assert_eq!(own.post(&path, &fields).await.status, StatusCode::CONFLICT);
    assert_eq!(
        world
            .all(ResourceType::QuestionnaireResponse, &ida)
            .await
            .len(),
        1
    );
    own.get(&path)
        .await
        .shows("You have answered these questions");
    // Somebody else's form is not there.
    let olaf = world.patient("Olaf", "Lie").await;
    let mut other = world.patients_browser(&olaf).await;
    let page = other.get(&path).await;
    assert!(!page.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_a_message_notes_that_it_was_read() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let message = world.id_of(&ida);
    world
        .put(vec![json!({ "resourceType": "Communication", "id": message, "status": "completed", "subject": { "reference": format!("Patient/{ida}") }, "sent": "2026-02-28T10:00:00Z", "topic": { "text": "Welcome home" }, "payload": [{ "contentString": "Please weigh yourself." }] })])
        .await;
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal").await.shows("Welcome home");
    let page = own.get(&format!("/portal/inbox/{message}")).await;
    page.shows("Please weigh yourself.");
    check_html("message", &page.body);
    let received = world
        .get(ResourceType::Communication, &message)
        .await
        .text_at(&["received"])
        .map(str::to_owned);
    assert_eq!(received.as_deref(), Some("2026-03-01T08:00:00.000Z"));
    world.clock.advance(60_000);
    own.get(&format!("/portal/inbox/{message}")).await;
    assert_eq!(
        world
            .get(ResourceType::Communication, &message)
            .await
            .text_at(&["received"])
            .map(str::to_owned),
        received
    );
    own.get("/portal").await.shows("No new messages.");
}

/// What was sent to a patient is theirs to read, also when it came back; what was not sent isn't.
#[tokio::test(flavor = "multi_thread")]
async fn the_portal_has_what_was_sent() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    for (status, was_sent, listed, opens) in [
        ("completed", true, true, true),
        ("in-progress", true, true, true),
        ("not-done", true, true, true),
        // The draft of another system, and what nobody sent.
        ("in-progress", false, false, false),
        ("not-done", false, false, false),
        // The link of an e-mail that is just leaving.
        ("preparation", false, false, true),
        ("on-hold", false, false, false),
        ("stopped", false, false, false),
        ("entered-in-error", true, false, false),
    ] {
        let id = world.id_of(&ida);
        let title = format!("Titled {status} {was_sent}");
        let mut message = json!({ "resourceType": "Communication", "id": id, "status": status, "subject": { "reference": format!("Patient/{ida}") }, "topic": { "text": title }, "payload": [{ "contentString": "Please weigh yourself." }] });
        if was_sent {
            message["sent"] = json!("2026-02-28T10:00:00Z");
        }
        world.put(vec![message]).await;
        for page in ["/portal", "/portal/inbox"] {
            assert_eq!(own.get(page).await.has(&title), listed, "{page}: {title}");
        }
        let page = own.get(&format!("/portal/inbox/{id}")).await;
        assert_eq!(page.status.is_success(), opens, "{title}");
        let kept = world.get(ResourceType::Communication, &id).await;
        assert_eq!(kept.get("received").is_some(), listed, "{title}");
        // Who reads it has it; that it came back by e-mail stays said.
        let expected = if opens && was_sent && status == "in-progress" {
            "completed"
        } else {
            status
        };
        assert_eq!(kept.text_at(&["status"]), Some(expected), "{title}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_is_accepted_or_declined() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let visit = world.id_of(&ida);
    world
        .put(vec![json!({ "resourceType": "Appointment", "id": visit, "status": "proposed", "start": "2026-03-08T10:00:00Z", "end": "2026-03-08T10:30:00Z", "minutesDuration": 30, "description": "Visit after a week", "patientInstruction": "Bring your medicines.", "participant": [{ "actor": { "reference": format!("Patient/{ida}") }, "status": "needs-action" }] })])
        .await;
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal").await.shows("Bring your medicines.");
    let path = format!("/portal/visits/{visit}");
    let page = own.act(&path, &path, &[("answer", "accept")]).await;
    assert_eq!(page.location(), "/portal?said=booked");
    let kept = world.get(ResourceType::Appointment, &visit).await;
    assert_eq!(
        (
            kept.text_at(&["status"]),
            kept.text_at(&["participant", "0", "status"])
        ),
        (Some("booked"), Some("accepted"))
    );
    let page = own.get(&path).await;
    page.shows("Booked");
    check_html("visit", &page.body);
    own.act(&path, &path, &[("answer", "decline")]).await;
    assert_eq!(
        world
            .get(ResourceType::Appointment, &visit)
            .await
            .text_at(&["status"]),
        Some("cancelled")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_about_a_visit_leads_to_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let (visit, message) = (world.id_of(&ida), world.id_of(&ida));
    let about = json!([{ "reference": format!("Appointment/{visit}") }]);
    world
        .put(vec![
            json!({ "resourceType": "Appointment", "id": visit, "status": "proposed", "start": "2026-03-08T10:00:00Z", "end": "2026-03-08T10:30:00Z", "description": "Visit after a week", "participant": [{ "actor": { "reference": format!("Patient/{ida}") }, "status": "needs-action" }] }),
            json!({ "resourceType": "Communication", "id": message, "status": "completed", "language": "es", "subject": { "reference": format!("Patient/{ida}") }, "about": about, "sent": "2026-02-28T10:00:00Z", "topic": { "text": "Control" }, "payload": [{ "contentString": "Díganos si puede venir." }] }),
        ])
        .await;
    let mut own = world.patients_browser(&ida).await;
    let (inbox, path) = (
        format!("/portal/inbox/{message}"),
        format!("/portal/visits/{visit}"),
    );
    let page = own.get(&inbox).await;
    page.shows("Accept or decline the visit");
    page.shows(&format!("href=\"{path}\""));
    page.shows("<h1 lang=\"es\">Control</h1>");
    page.shows("<p class=\"words\" lang=\"es\">Díganos si puede venir.</p>");
    check_html("message about a visit", &page.body);
    own.act(&path, &path, &[("answer", "accept")]).await;
    own.get(&inbox).await.shows("See the visit");
    own.act(&path, &path, &[("answer", "decline")]).await;
    let page = own.get(&inbox).await;
    assert!(!page.has(&path), "{}", page.body);
}

// Proves: 45 CFR 164.508(b)
#[tokio::test(flavor = "multi_thread")]
async fn consent_is_withdrawn_and_given_and_counts() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let rules = world.trust.vault().rules().clone();
    let decided = async |expected: bool| {
        let consents = world.all(ResourceType::Consent, &ida).await;
        let now = i64::try_from(ledger::Clock::now_ms(&world.clock)).unwrap();
        assert_eq!(
            trust::consent::decide(&rules, &consents, trust::Purpose::Treatment, now).permitted,
            expected
        );
    };
    let page = own
        .act("/portal/consent", "/portal/consent", &[("do", "withdraw")])
        .await;
    assert_eq!(page.location(), "/portal/consent?said=withdrawn");
    decided(false).await;
    own.get("/portal/consent").await.shows("You said no");
    world.clock.advance(60_000);
    own.act("/portal/consent", "/portal/consent", &[("do", "give")])
        .await;
    decided(true).await;
    let page = own.get("/portal/consent").await;
    page.shows("You said yes");
    check_html("consent", &page.body);
    // The clock had been fast and is set back: what is said next is still the newest word.
    let now_ms = ledger::Clock::now_ms(&world.clock);
    world.clock.set(now_ms - 40_000);
    own.act("/portal/consent", "/portal/consent", &[("do", "withdraw")])
        .await;
    decided(false).await;
    own.get("/portal/consent").await.shows("You said no");
    assert_eq!(
        world.all(ResourceType::Consent, &ida).await.len(),
        3,
        "nothing is overwritten"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn weight_is_noted_with_its_digits() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    own.act("/portal/weight", "/portal/weight", &[("kg", "8")])
        .await
        .shows("be a weight in kilograms");
    let page = own
        .act("/portal/weight", "/portal/weight", &[("kg", "81,40")])
        .await;
    assert_eq!(page.location(), "/portal?said=weighed");
    let noted = world.all(ResourceType::Observation, &ida).await;
    assert_eq!(
        noted[0]
            .at(&["valueQuantity", "value"])
            .unwrap()
            .to_string(),
        "81.40"
    );
    own.get("/portal").await.shows("81.4 kg</span>");
}

// Proves: 45 CFR 164.522(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn channels_are_switched_off() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let page = own
        .act(
            "/portal/preferences",
            "/portal/preferences",
            &[("wanted", "1")],
        )
        .await;
    assert_eq!(
        page.location(),
        "/portal/preferences?said=saved",
        "{}",
        page.body
    );
    let now = i64::try_from(ledger::Clock::now_ms(&world.clock)).unwrap();
    let channels = trust::consent::channels(&world.get(ResourceType::Patient, &ida).await, now);
    let wanted = |kind: &str| {
        channels
            .iter()
            .find(|channel| channel.kind == kind)
            .unwrap()
            .wanted
    };
    assert!(!wanted("email") && wanted("phone"));
    check_html("preferences", &own.get("/portal/preferences").await.body);
}

// Proves: 45 CFR 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_sees_who_looked_and_gets_the_proof() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lie").await;
    let mut carla = world.staff("carla").await;
    carla
        .get(&format!("/console/patients/{ida}"))
        .await
        .shows("Ida Berg");
    carla
        .get(&format!("/console/patients/{olaf}"))
        .await
        .shows("Olaf Lie");
    let mut own = world.patients_browser(&ida).await;
    let page = own.get("/portal/record").await;
    page.shows("Carla Ortiz (coordinator)");
    page.shows("to look after you");
    check_html("record", &page.body);
    assert!(!page.has(">You</span>"), "their own looks are left out");
    let with_own = own.get("/portal/record?own=yes").await;
    with_own.shows(">You</span> signed in with a link");
    let id = page
        .body
        .split("/portal/record/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    world.ledger().checkpoint().await.unwrap();
    let proof = own.get(&format!("/portal/record/{id}")).await;
    proof.shows("How to check it without us");
    check_html("proof", &proof.body);
    let file = own.get(&format!("/portal/record/{id}/proof.json")).await;
    assert_eq!(file.status, StatusCode::OK);
    let parsed: serde_json::Value = serde_json::from_str(&file.body).unwrap();
    let parts = parsed["parts"].as_array().unwrap();
    let shown: Vec<_> = parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    assert!(
        shown[0].contains(&id) && shown.iter().any(|text| text.contains(&ida)),
        "{shown:?}"
    );
    // Somebody else's entities of the same event are a hash each.
    assert!(
        parts.iter().any(|part| part["hash"].is_string()),
        "{parts:?}"
    );
    assert!(!file.body.contains(&olaf), "{}", file.body);
    let mut other = world.patients_browser(&olaf).await;
    let page = other.get(&format!("/portal/record/{id}")).await;
    assert!(!page.status.is_success(), "another patient's line");
}

// Proves: 45 CFR 164.522(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn one_address_alone_is_used_where_a_patient_asks_for_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let page = "/portal/preferences";
    let now = i64::try_from(ledger::Clock::now_ms(&world.clock)).unwrap();
    let addresses = async || {
        let patient = world.get(ResourceType::Patient, &ida).await;
        let channels = trust::consent::channels(&patient, now);
        let used = channels
            .into_iter()
            .filter(|channel| channel.kind != "portal");
        used.map(|channel| channel.address).collect::<Vec<_>>()
    };
    let before = addresses().await;
    assert_eq!(before.len(), 2);
    for wrong in [
        "nobody",
        "a@b",
        "a@b.c, d@e.f",
        "a b@example.com",
        "@example.com",
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\rb@example.com",
        "a\r\n@example.com",
    ] {
        let fields = [("do", "confidential"), ("address", wrong)];
        let tried = own.act(page, page, &fields).await;
        assert_eq!(tried.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for address in ["first@example.org", "apart@example.org"] {
        let fields = [("do", "confidential"), ("address", address)];
        let done = own.act(page, page, &fields).await;
        assert_eq!(
            done.location(),
            "/portal/preferences?said=saved",
            "{}",
            done.body
        );
    }
    assert_eq!(addresses().await, ["apart@example.org"]);
    let shown = own.get(page).await;
    shown.shows("whatever is chosen below: only by e-mail apart@example.org.");
    check_html(page, &shown.body);
    // What is chosen of the others takes nothing of it back.
    own.act(page, page, &[("wanted", "0"), ("wanted", "1")])
        .await;
    assert_eq!(addresses().await, ["apart@example.org"]);
    // Staff see this one and no other on the patient's page, so that nobody calls at home.
    let mut carla = world.staff("carla").await;
    let chart = carla.get(&format!("/console/patients/{ida}")).await;
    chart.shows("apart@example.org");
    assert!(!chart.has("somebody@example.com") && !chart.has("+1 555 0100"));
    // What clinicians wrote down takes its place, and the other way round: there is one.
    let contact = format!("/console/patients/{ida}/contact");
    let mut devi = world.staff("devi").await;
    let number = [("kind", "phone"), ("address", "+1 555 0177")];
    devi.act(&contact, &contact, &number).await;
    assert_eq!(addresses().await, ["+1 555 0177"]);
    own.get(page)
        .await
        .shows("whatever is chosen below: only by telephone +1 555 0177.");
    let fields = [("do", "confidential"), ("address", "again@example.org")];
    own.act(page, page, &fields).await;
    assert_eq!(addresses().await, ["again@example.org"]);
    // An empty field takes nothing back.
    let empty = own
        .act(page, page, &[("do", "confidential"), ("address", "")])
        .await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST);
    assert_eq!(addresses().await, ["again@example.org"]);
    own.act(page, page, &[("do", "as-before")]).await;
    assert_eq!(addresses().await, before);
}
