//! Journeys of a patient, as staff stop them.

use axum::http::StatusCode;
use fhir::ResourceType;
use serde_json::json;

use crate::consents::{JOURNEY, drain, followed};
use crate::world::{World, check_html};

#[tokio::test(flavor = "multi_thread")]
async fn staff_stop_one_journey_or_all_and_the_rest_goes_on() {
    let world = World::new().await;
    let ida = followed(&world).await;
    // A second journey, for her and for somebody else.
    let second = JOURNEY.replace("name: heart-failure-discharge", "name: second");
    let form = "/console/journeys/publish";
    let mut sam = world.staff("sam").await;
    sam.act(form, form, &[("source", &second), ("do", "publish")])
        .await;
    let olaf = world.patient("Olaf", "Berg").await;
    let discharged = |patient: &str| json!({ "resourceType": "Encounter", "id": world.id_of(patient), "status": "finished", "class": { "code": "IMP" }, "subject": { "reference": format!("Patient/{patient}") }, "period": { "start": "2026-02-20T10:00:00Z", "end": "2026-02-28T21:00:00Z" }, "reasonCode": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }] }] });
    world.put(vec![discharged(&ida), discharged(&olaf)]).await;
    drain(&world).await;

    let chart = format!("/console/patients/{ida}");
    let page = format!("{chart}/journeys");
    let stop = format!("{page}/stop");
    let mut carla = world.staff("carla").await;
    carla.get(&chart).await.shows("Journeys by hand");
    let shown = carla.get(&page).await;
    check_html(&page, &shown.body);
    assert_eq!(shown.body.matches("Stop this journey").count(), 2);
    shown.shows("Ida Berg");
    shown.shows("All 2 at once");
    shown.shows("Would not happen any more:");
    // A reason is needed, and a journey of hers.
    let long = "a".repeat(201);
    for reason in ["", "  ", &long] {
        let refused = carla.act(&page, &stop, &[("reason", reason)]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{reason}");
    }
    let olafs = carla
        .get(&format!("/console/patients/{olaf}/journeys"))
        .await;
    for journey in [olafs.field("journey").as_str(), "nobody"] {
        let fields = [("reason", "Moved away"), ("journey", journey)];
        let unknown = carla.act(&page, &stop, &fields).await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{journey}");
    }
    // One.
    let journey = shown.field("journey");
    let fields = [("reason", "Moved away"), ("journey", journey.as_str())];
    let done = carla.act(&page, &stop, &fields).await;
    assert_eq!(done.location(), format!("{page}?stopped=1&failed=0"));
    let left = carla.get(done.location()).await;
    left.shows("1 journey was stopped.");
    assert_eq!(left.body.matches("Stop this journey").count(), 1);
    assert!(left.field("journey") != journey && !left.has("at once"));
    // Again, from a page that was left open.
    let again = carla.act(&page, &stop, &fields).await;
    let again = carla.get(again.location()).await;
    again.shows("Nothing ran any more, and nothing was stopped.");
    // All.
    let all = carla.act(&page, &stop, &[("reason", "In a hospice")]).await;
    assert_eq!(all.location(), format!("{page}?stopped=1&failed=0"));
    carla
        .get(&page)
        .await
        .shows("The patient is in no journey now.");
    let seen = carla.get(&chart).await;
    seen.shows("In a hospice");
    assert!(!seen.has("Journeys by hand"));
    // Nothing of hers waits, and his goes on.
    for (of, stopped) in [(&ida, 2), (&olaf, 0)] {
        let mails = world.all(ResourceType::Communication, of).await;
        let is_stopped = |mail: &&fhir::Resource| mail.text_at(&["status"]) == Some("stopped");
        assert_eq!(mails.len(), 2);
        assert_eq!(
            mails.iter().filter(is_stopped).count(),
            stopped,
            "{mails:?}"
        );
    }
    // Somebody did it, and the audit says so.
    let mut priya = world.staff("priya").await;
    let audit = priya.get(&format!("/console/audit?patient={ida}")).await;
    let events = audit.body.split("href=\"/console/audit/").skip(1);
    let mut said = 0;
    for event in events.filter_map(|rest| rest.split('"').next()) {
        let event = priya.get(&format!("/console/audit/{event}")).await;
        said += usize::from(event.has("stopped by hand"));
    }
    assert_eq!(said, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn journeys_are_stopped_by_those_who_care_for_patients() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let page = format!("/console/patients/{ida}/journeys");
    let stop = format!("{page}/stop");
    for user in ["priya", "sam", "ada"] {
        let mut browser = world.staff(user).await;
        assert_eq!(
            browser.get(&page).await.status,
            StatusCode::FORBIDDEN,
            "{user}"
        );
        let tried = browser
            .act("/console/sign-in", &stop, &[("reason", "Moved away")])
            .await;
        assert_eq!(tried.status, StatusCode::FORBIDDEN, "{user}");
    }
    let mut carla = world.staff("carla").await;
    let unknown = carla.get("/console/patients/nobody/journeys").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    carla.get(&page).await.shows("Stop this journey");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_do_with_a_patient_stops_nothing() {
    let world = World::under("england", |_| {}).await;
    let ida = world.patient("Ida", "Berg").await;
    let page = format!("/console/patients/{ida}/journeys");
    let mut carla = world.staff("carla").await;
    let refused = carla.get(&page).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.has("Journeys are led and stopped by those who care for the patient"));
}
