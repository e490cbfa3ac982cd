//! The console: worklist, patients, journeys, audit.

use axum::http::StatusCode;
use fhir::ResourceType;
use serde_json::json;

use crate::world::{DAY_MS, World, check_html};

const NASTY: &str = "<script>alert(1)</script>";

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_sorted_claimed_done_and_undone() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    world.task(&ida, "routine", "Routine thing").await;
    let urgent = world.task(&ida, "urgent", "Urgent thing").await;
    world.task(&ida, "stat", "Thing at once").await;
    let mut carla = world.staff("carla").await;
    let page = carla.get("/console/worklist").await;
    page.shows("3 open tasks");
    page.shows("Ida Berg");
    page.shows("Weight rose by 2.6 kg");
    let place = |text: &str| page.body.find(text).unwrap();
    assert!(
        place("Thing at once") < place("Urgent thing")
            && place("Urgent thing") < place("Routine thing")
    );
    world.clock.advance(2 * DAY_MS);
    carla.get("/console/worklist").await.shows("3 overdue");

    let page = carla
        .act(
            "/console/worklist",
            &format!("/console/tasks/{urgent}/claim"),
            &[("back", "/console/worklist?who=all")],
        )
        .await;
    assert_eq!(
        page.location(),
        format!("/console/worklist?who=all&claimed={urgent}")
    );
    let page = carla.get("/console/worklist?who=mine").await;
    page.shows("1 open task");
    page.shows("Urgent thing");
    let page = carla
        .act(
            "/console/worklist",
            &format!("/console/tasks/{urgent}/done"),
            &[("outcome", "not_reached"), ("note", "no answer")],
        )
        .await;
    assert_eq!(page.location(), format!("/console/worklist?done={urgent}"));
    carla.get(page.location()).await.shows("Task done");
    let task = world.get(ResourceType::Task, &urgent).await;
    assert_eq!(task.text_at(&["status"]), Some("completed"));
    assert_eq!(
        task.text_at(&["output", "0", "valueString"]),
        Some("not_reached")
    );
    assert_eq!(task.text_at(&["owner", "display"]), Some("Carla Ortiz"));
    carla
        .get("/console/worklist?state=done")
        .await
        .shows("Ended: not reached");
    let again = carla
        .act(
            "/console/worklist",
            &format!("/console/tasks/{urgent}/done"),
            &[],
        )
        .await;
    assert_eq!(again.status, StatusCode::CONFLICT);

    carla
        .act(
            "/console/worklist",
            &format!("/console/tasks/{urgent}/reopen"),
            &[],
        )
        .await;
    assert_eq!(
        world
            .get(ResourceType::Task, &urgent)
            .await
            .text_at(&["status"]),
        Some("accepted")
    );
    let page = carla.get("/console/worklist?priority=stat").await;
    page.shows("Thing at once");
    assert!(!page.has("Routine thing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_escaped_wherever_they_stand() {
    let world = World::new().await;
    let nasty = world.patient(NASTY, "\"><img src=x>").await;
    world.task(&nasty, "urgent", NASTY).await;
    world
        .put(vec![
            json!({ "resourceType": "Condition", "id": world.id_of(&nasty), "subject": { "reference": format!("Patient/{nasty}") }, "code": { "text": NASTY }, "recordedDate": "2026-01-01" }),
            json!({ "resourceType": "Communication", "id": world.id_of(&nasty), "status": "completed", "subject": { "reference": format!("Patient/{nasty}") }, "sent": "2026-02-01T10:00:00Z", "topic": { "text": NASTY }, "payload": [{ "contentString": NASTY }] }),
        ])
        .await;
    let mut carla = world.staff("carla").await;
    let csrf = carla.get("/console/patients").await.field("csrf");
    let found = carla
        .post(
            "/console/patients",
            &[("csrf", &csrf), ("identifier", "MRN-\"><img src=x>")],
        )
        .await;
    let mut own = world.patients_browser(&nasty).await;
    for (path, page) in [
        ("search", found),
        ("worklist", carla.get("/console/worklist").await),
        (
            "patient",
            carla.get(&format!("/console/patients/{nasty}")).await,
        ),
        ("portal", own.get("/portal").await),
        ("inbox", own.get("/portal/inbox").await),
    ] {
        page.shows("&lt;script&gt;alert(1)&lt;/script&gt;");
        assert!(!page.has(NASTY) && !page.has("<img"), "{path}");
        check_html(path, &page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patients_are_found_without_their_names_in_an_address() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    world.patient("Olaf", "Lie").await;
    let mut carla = world.staff("carla").await;
    for (fields, found) in [
        (&[("name", "ber id")][..], true),
        (&[("birth_date", "1941-03-07"), ("name", "ida")], true),
        (&[("identifier", "MRN-Berg")], true),
        (&[("name", "zzz")], false),
        (&[("identifier", "MRN|Berg")], false),
        (&[("birth_date", "yesterday")], false),
    ] {
        let csrf = carla.get("/console/patients").await.field("csrf");
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        let page = carla.post("/console/patients", &all).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert_eq!(
            page.has(&format!("/console/patients/{ida}")),
            found,
            "{fields:?}"
        );
        check_html("search", &page.body);
    }
    // Typed into the address it is no search.
    assert!(
        !carla
            .get("/console/patients?name=berg")
            .await
            .has("Ida Berg")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_is_one_stream_of_time() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let subject = json!({ "reference": format!("Patient/{ida}") });
    let mut facts = vec![
        json!({ "resourceType": "AllergyIntolerance", "id": world.id_of(&ida), "patient": subject, "code": { "text": "Penicillin" } }),
        json!({ "resourceType": "Encounter", "id": world.id_of(&ida), "status": "finished", "class": { "code": "IMP" }, "subject": subject, "period": { "start": "2026-02-20T10:00:00Z", "end": "2026-02-27T10:00:00Z" }, "reasonCode": [{ "text": "Heart failure" }] }),
        json!({ "resourceType": "Communication", "id": world.id_of(&ida), "status": "not-done", "subject": subject, "sent": "2026-02-28T10:00:00Z", "medium": [{ "coding": [{ "code": "EMAILWRIT" }] }], "topic": { "text": "Welcome home" }, "statusReason": { "coding": [{ "system": "urn:cairn:not-done", "code": "preference" }] } }),
        json!({ "resourceType": "Appointment", "id": world.id_of(&ida), "status": "booked", "start": "2026-03-09T10:00:00Z", "end": "2026-03-09T10:30:00Z", "description": "Day-7 visit", "participant": [{ "actor": subject, "status": "accepted" }] }),
        json!({ "resourceType": "Consent", "id": world.id_of(&ida), "status": "active", "scope": { "coding": [{ "code": "patient-privacy" }] }, "category": [{ "text": "x" }], "patient": subject, "dateTime": "2026-02-19T10:00:00Z", "provision": { "type": "permit", "purpose": [{ "code": "TREAT" }] } }),
    ];
    for (day, kg) in [(24, 80.0), (25, 80.4), (26, 83.1)] {
        facts.push(json!({ "resourceType": "Observation", "id": world.id_of(&ida), "status": "final", "subject": subject, "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7" }], "text": "Body weight" }, "effectiveDateTime": format!("2026-02-{day}T07:00:00Z"), "valueQuantity": { "value": kg, "unit": "kg", "code": "kg" } }));
    }
    world.put(facts).await;
    let mut carla = world.staff("carla").await;
    let path = format!("/console/patients/{ida}");
    let page = carla.get(&path).await;
    for text in [
        "Ida Berg",
        "84 years",
        "Allergies: Penicillin",
        "Inpatient stay",
        "Heart failure",
        "the patient does not want this channel",
        "Day-7 visit",
        "Consent for treatment",
        "83.1 kg",
        "rose by more than 2 kg in 3 days",
        "In no journey.",
    ] {
        page.shows(text);
    }
    check_html(&path, &page.body);
    let place = |text: &str| page.body.find(text).unwrap();
    assert!(
        place("Day-7 visit") < place(">Now<"),
        "the future stands above now"
    );
    assert!(place(">Now<") < place("Inpatient stay"));
    assert!(!page.has("<title>Ida"), "no name in the browser's history");
    let only = carla.get(&format!("{path}?show=messages")).await;
    only.shows("Welcome home");
    assert!(!only.has("Inpatient stay"));
    assert_eq!(
        carla.get("/console/patients/no-such-patient").await.status,
        StatusCode::NOT_FOUND
    );
}

const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_is_checked_published_and_drawn() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    let broken = sam
        .act(
            "/console/journeys/publish",
            "/console/journeys/publish",
            &[("source", "name: x\nsteps: 7\n"), ("do", "publish")],
        )
        .await;
    broken.shows("Line ");
    assert!(broken.has("error"));
    check_html("publish", &broken.body);
    let checked = sam
        .act(
            "/console/journeys/publish",
            "/console/journeys/publish",
            &[("source", JOURNEY), ("do", "check")],
        )
        .await;
    checked.shows("it can be published");
    assert!(
        !sam.get("/console/journeys")
            .await
            .has("heart-failure-discharge?")
    );
    let done = sam
        .act(
            "/console/journeys/publish",
            "/console/journeys/publish",
            &[("source", JOURNEY), ("do", "publish")],
        )
        .await;
    assert_eq!(
        done.location(),
        "/console/journeys/heart-failure-discharge?version=1",
        "{}",
        done.body
    );
    let page = sam.get(done.location()).await;
    page.shows("Heart failure follow-up after discharge");
    page.shows("<svg");
    page.shows("Welcome message");
    check_html("journey", &page.body);
    sam.get("/console/journeys")
        .await
        .shows("Heart failure follow-up after discharge");
    let panel = sam
        .get("/console/journeys/heart-failure-discharge?version=1&step=welcome")
        .await;
    panel.shows("Words to the patient");
    panel.shows("Your role sees how many patients are here, not who.");
    assert_eq!(
        sam.get("/console/journeys/none").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        sam.get("/console/journeys/heart-failure-discharge?version=9")
            .await
            .status,
        StatusCode::NOT_FOUND
    );

    // A patient walks it.
    let ida = world.patient("Ida", "Berg").await;
    let subject = json!({ "reference": format!("Patient/{ida}") });
    world
        .put(vec![json!({ "resourceType": "Encounter", "id": world.id_of(&ida), "status": "finished", "class": { "code": "IMP" }, "subject": subject, "period": { "start": "2026-02-20T10:00:00Z", "end": "2026-02-28T20:00:00Z" }, "reasonCode": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }] }] })])
        .await;
    while world.journeys.drain(crate::world::TENANT).await.unwrap() > 0 {}
    let mut carla = world.staff("carla").await;
    let page = carla.get(&format!("/console/patients/{ida}")).await;
    page.shows("Heart failure follow-up after discharge");
    page.shows("Waits");
    check_html("patient in a journey", &page.body);
    let graph = carla.get("/console/journeys/heart-failure-discharge").await;
    graph.shows("1</span> in it now");
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal")
        .await
        .shows("Heart failure follow-up after discharge");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_says_who_did_what_and_proves_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    carla
        .get(&format!("/console/patients/{ida}"))
        .await
        .shows("Ida Berg");
    let mut priya = world.staff("priya").await;
    let page = priya.get(&format!("/console/audit?patient={ida}")).await;
    page.shows("Carla Ortiz (coordinator)");
    page.shows("to manage care");
    page.shows("Ida Berg");
    check_html("audit", &page.body);
    let none = priya.get("/console/audit?action=delete").await;
    none.shows("Nothing recorded");
    let page = priya.get("/console/audit?purpose=CAREMGT").await;
    page.shows("Carla Ortiz");
    assert!(!page.has("Priya Shah (privacy officer)"));

    let page = priya
        .get(&format!("/console/audit?patient={ida}&action=search-type"))
        .await;
    let id = page
        .body
        .split("/console/audit/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let details = priya.get(&format!("/console/audit/{id}")).await;
    details.shows("The record as it is kept");
    details.shows("AuditEvent");
    check_html("audit details", &details.body);
    world.ledger().checkpoint().await.unwrap();
    let proof = priya.get(&format!("/console/audit/{id}/proof")).await;
    proof.shows("How to check it without us");
    check_html("proof", &proof.body);
    let file = priya.get(&format!("/console/audit/{id}/proof.json")).await;
    assert_eq!(file.status, StatusCode::OK);
    let file: serde_json::Value = serde_json::from_str(&file.body).unwrap();
    assert_eq!(file["event"]["id"], id.as_str());
    assert!(
        file["proof"]["checkpoint"]
            .as_str()
            .is_some_and(|note| !note.is_empty())
    );
    assert_eq!(
        priya.get("/console/audit/none").await.status,
        StatusCode::NOT_FOUND
    );
}
