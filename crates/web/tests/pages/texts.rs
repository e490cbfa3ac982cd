//! Text messages on pages: telephones that have sent STOP, and messages of which nothing was heard.

use axum::http::StatusCode;
use fhir::ResourceType;
use serde_json::{Value, json};
use trust::conventions::{MEDIUM_SYSTEM, NOT_DONE_SYSTEM, SMS_SYSTEM};
use trust::sms::{Country, Number};
use trust::{Action, Agent, Purpose, Target, TextRules};

use crate::world::{TENANT, World, check_html};

const NUMBER: &str = "+16175550142";

impl World {
    /// A telephone sends STOP, or START.
    async fn set_stopped(&self, stopped: bool) {
        let agent = Agent::system(TENANT, "sms-receiver");
        let (purpose, action) = (Purpose::Operations, Action::Send);
        let permit = self
            .trust
            .decide(&agent, purpose, action, Target::default(), "test");
        let permit = permit.await.unwrap();
        let number = Number::parse(NUMBER, None).unwrap();
        let vault = self.trust.vault();
        vault.set_stopped(&permit, &number, stopped).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_that_a_telephone_has_sent_stop_and_how_to_start_again() {
    let world = World::new().await;
    world.trust.vault().set_texts(TextRules {
        country: Country::parse("US"),
        from: Some("+16175550100".to_owned()),
    });
    let ida = world.patient("Ida", "Berg").await;
    let mut record = world.get(ResourceType::Patient, &ida).await;
    record.strip_meta();
    let telecom = json!([
        { "system": "sms", "value": "(617) 555-0142" },
        { "system": "sms", "value": "(617) 555-0143" }
    ]);
    record.set("telecom", telecom);
    world.change(record.into_value(), 1).await;
    let page = "/portal/preferences";
    let chart = format!("/console/patients/{ida}");
    let words = "send START from it to +16175550100";
    let mut own = world.patients_browser(&ida).await;
    let mut carla = world.staff("carla").await;
    for stopped in [false, true, false] {
        world.set_stopped(stopped).await;
        let seen = own.get(page).await;
        assert_eq!(seen.body.matches(words).count(), usize::from(stopped));
        check_html(page, &seen.body);
        let seen = carla.get(&chart).await;
        let tag = "sent STOP: gets no text messages";
        assert_eq!(seen.body.matches(tag).count(), usize::from(stopped));
        check_html(&chart, &seen.body);
    }
}

/// What a text message says behind the sign-in opens by its link, whatever is heard of it; who has read it has it.
#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_a_text_of_which_nothing_was_heard_opens() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let reference = json!([{ "system": SMS_SYSTEM, "value": "SM1" }]);
    let reason = |code: &str| json!({ "coding": [{ "system": NOT_DONE_SYSTEM, "code": code }], "text": "No receipt came in its time" });
    let no = Value::Null;
    let mut both = reason("consent");
    let codings = both["coding"].as_array_mut().unwrap();
    codings.push(json!({ "system": NOT_DONE_SYSTEM, "code": "no-receipt" }));
    for (status, reference, reason, opens, said) in [
        ("in-progress", &reference, &no, true, "On its way"),
        (
            "not-done",
            &reference,
            &reason("no-receipt"),
            true,
            "No receipt came",
        ),
        (
            "not-done",
            &no,
            &reason("no-receipt"),
            true,
            "No receipt came",
        ),
        (
            "not-done",
            &reference,
            &reason("permanent-failure"),
            true,
            "Not sent",
        ),
        // It may be there, whatever it was given up for in the end.
        ("not-done", &no, &both, true, "No receipt came"),
        ("stopped", &no, &both, true, "No receipt came"),
        ("not-done", &no, &reason("preference"), false, "Not sent"),
        ("stopped", &no, &reason("called-off"), false, "Not sent"),
    ] {
        let id = world.id_of(&ida);
        let mut message = json!({
            "resourceType": "Communication", "id": id, "status": status,
            "subject": { "reference": format!("Patient/{ida}") },
            "medium": [{ "coding": [{ "system": MEDIUM_SYSTEM, "code": "SMSWRIT" }] }],
            "topic": { "text": "Welcome home" },
            "payload": [{ "contentString": "Please weigh yourself." }]
        });
        // What a provider has taken has left.
        if !reference.is_null() {
            message["sent"] = json!("2026-02-28T10:00:00Z");
        }
        for (name, value) in [("identifier", reference), ("statusReason", reason)] {
            if !value.is_null() {
                message[name] = value.clone();
            }
        }
        world.put(vec![message]).await;
        let mut carla = world.staff("carla").await;
        let chart = carla.get(&format!("/console/patients/{ida}")).await;
        assert!(chart.has(said), "{status} {said}");
        let page = own.get(&format!("/portal/inbox/{id}")).await;
        if !opens {
            assert_eq!(page.status, StatusCode::NOT_FOUND, "{status}");
            continue;
        }
        page.shows("Please weigh yourself.");
        let read = world.get(ResourceType::Communication, &id).await;
        assert_eq!(read.text_at(&["status"]), Some("completed"), "{status}");
        assert!(read.get("received").is_some() && read.get("statusReason").is_none());
    }
}
