//! What is to begin of a patient's journeys, and what did not begin, on the patient's page.

use serde_json::json;

use crate::consents::drain;
use crate::world::{World, check_html};

const JOURNEY: &str = "name: before-visits
title: Before a visit
owner: Team
purpose: TREAT
at_most: 30d
entry:
  date: {of: Appointment, where: status = 'booked', begins: visit - 14d, past_due: skip}
  anchors: {visit: start}
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: call
steps:
  call:
    title: Call the patient
    task: {title: Call, reason: A visit is near., role: coordinator, due: 5d}
    next: end
    overdue: end
";

#[tokio::test(flavor = "multi_thread")]
async fn a_patients_page_shows_what_is_to_begin_and_what_did_not() {
    let world = World::new().await;
    let form = "/console/journeys/publish";
    let mut sam = world.staff("sam").await;
    sam.act(form, form, &[("source", JOURNEY), ("do", "publish")])
        .await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Berg").await;
    let visit = |year: u32| {
        json!({"resourceType": "Appointment", "id": world.id_of(&ida), "status": "booked",
            "start": format!("{year}-06-01T10:00:00Z"), "end": format!("{year}-06-01T11:00:00Z"),
            "participant": [{"actor": {"reference": format!("Patient/{ida}")}, "status": "accepted"}]})
    };
    world.put(vec![visit(2001), visit(2099)]).await;
    drain(&world).await;
    let chart = format!("/console/patients/{ida}");
    let mut carla = world.staff("carla").await;
    let page = carla.get(&chart).await;
    check_html(&chart, &page.body);
    page.shows("To begin (1)");
    page.shows("Before a visit");
    page.shows("Did not begin (1)");
    page.shows("The date was past already when it was learnt");
    let other = carla.get(&format!("/console/patients/{olaf}")).await;
    assert!(!other.has("To begin") && !other.has("Did not begin"));
}
