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
    world.task(&ida, "urgent", "Fresh thing").await;
    let overdue = carla.get("/console/worklist?due=overdue").await;
    overdue.shows("3 open tasks");
    assert!(!overdue.has("Fresh thing"), "the number leads to its list");
    let all = carla.get("/console/worklist?who=all").await;
    all.shows("4 open tasks");
    all.shows("href=\"/console/worklist?who=all&amp;due=overdue\"");

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

/// Of a long list those are in the audit who stand on the page, and no others: who is counted was not looked at.
#[tokio::test]
async fn the_audit_has_the_tasks_that_stand_on_the_page() {
    let world = World::new().await;
    let mut patients = Vec::new();
    for number in 0..53 {
        let patient = world.patient("Ida", &format!("Berg {number}")).await;
        let priority = if number < 50 { "urgent" } else { "routine" };
        world.task(&patient, priority, "Something").await;
        patients.push(patient);
    }
    let told = async |patient: &str| -> Vec<String> {
        let events = world.all(ResourceType::AuditEvent, patient).await;
        let words = events
            .iter()
            .filter_map(|event| event.text_at(&["outcomeDesc"]).map(str::to_owned));
        words.filter(|words| words.contains("shown")).collect()
    };
    let mut carla = world.staff("carla").await;
    let page = carla.get("/console/worklist").await;
    page.shows("53 open tasks");
    page.shows("Page 1 of 2");
    assert_eq!(told(&patients[0]).await, ["50 of 53 rows shown"]);
    assert_eq!(told(&patients[49]).await, ["50 of 53 rows shown"]);
    for patient in &patients[50..] {
        assert_eq!(told(patient).await, [""; 0], "not on the page");
    }
    carla.get("/console/worklist?page=2").await.shows("Berg 52");
    assert_eq!(told(&patients[52]).await, ["3 of 53 rows shown"]);
    assert_eq!(told(&patients[0]).await, ["50 of 53 rows shown"]);
    // Nobody stands on an empty page.
    carla
        .get("/console/worklist?who=mine")
        .await
        .shows("Nothing is waiting");
    assert_eq!(told(&patients[0]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_handed_on_to_another_role() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let task = world.task(&ida, "urgent", "Odd thing").await;
    let mut carla = world.staff("carla").await;
    let path = format!("/console/tasks/{task}");
    carla
        .act("/console/worklist", &format!("{path}/claim"), &[])
        .await;
    let page = carla
        .act(
            "/console/worklist",
            &format!("{path}/delegate"),
            &[
                ("role", "clinician"),
                ("note", "Please look <b>yourself</b>"),
            ],
        )
        .await;
    assert_eq!(
        page.location(),
        format!("/console/worklist?delegated={task}")
    );
    let page = carla.get(page.location()).await;
    page.shows("Task handed on");
    assert!(!page.has("Odd thing"), "it is no coordinator's any more");
    carla
        .get("/console/worklist?who=clinician")
        .await
        .shows("Odd thing");
    let kept = world.get(ResourceType::Task, &task).await;
    assert_eq!(kept.text_at(&["status"]), Some("requested"));
    assert!(kept.get("owner").is_none());
    assert_eq!(
        kept.text_at(&["note", "0", "authorString"]),
        Some("Carla Ortiz")
    );
    let page = carla
        .act(
            "/console/worklist?who=all",
            &format!("{path}/delegate"),
            &[("role", "admin")],
        )
        .await;
    assert!(page.status.is_client_error(), "{}", page.status);
}

/// A ward's work is told apart, goes to somebody and comes back, and stays the ward's.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_queue_are_handed_to_somebody_and_given_back() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let task = world.task(&ida, "urgent", "Odd thing").await;
    world.task(&ida, "urgent", "Other thing").await;
    let mut kept = world.get(ResourceType::Task, &task).await;
    let role = kept.get("performerType").unwrap()[0].clone();
    let queue =
        json!({ "coding": [{ "system": trust::conventions::QUEUE_SYSTEM, "code": "ward-3" }] });
    kept.set("performerType", json!([role, queue]));
    kept.strip_meta();
    world.change(kept.into_value(), 1).await;
    let mut carla = world.staff("carla").await;
    let mut devi = world.staff("devi").await;
    let page = carla.get("/console/worklist?queue=ward-3").await;
    page.shows("Odd thing");
    page.shows("ward 3");
    assert!(!page.has("Other thing"));
    let path = format!("/console/tasks/{task}");
    let delegate = format!("{path}/delegate");
    let hand_on = [("role", "coordinator"), ("person", " Devi ")];
    carla.act("/console/worklist", &delegate, &hand_on).await;
    let kept = world.get(ResourceType::Task, &task).await;
    assert_eq!(kept.text_at(&["status"]), Some("requested"));
    assert_eq!(kept.text_at(&["owner", "display"]), Some("Devi Rao"));
    // It is hers to begin, in her own role's worklist, and still the ward's.
    let page = devi.get("/console/worklist?who=mine&queue=ward-3").await;
    page.shows("Odd thing");
    devi.act("/console/worklist", &format!("{path}/claim"), &[])
        .await;
    let kept = world.get(ResourceType::Task, &task).await;
    assert_eq!(kept.text_at(&["status"]), Some("accepted"));
    devi.act("/console/worklist", &format!("{path}/release"), &[])
        .await;
    let kept = world.get(ResourceType::Task, &task).await;
    assert_eq!(kept.text_at(&["status"]), Some("requested"));
    assert!(kept.get("owner").is_none());
    for nobody in ["nobody", "ada"] {
        let hand_on = [("role", "clinician"), ("person", nobody)];
        let page = carla
            .act("/console/worklist?who=all", &delegate, &hand_on)
            .await;
        assert!(page.status.is_client_error(), "{nobody} {}", page.status);
        let kept = world.get(ResourceType::Task, &task).await;
        assert!(kept.get("owner").is_none());
    }
}

/// Who did something neither claims nor does what confirms it; others do.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_confirms() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let task = world.task(&ida, "urgent", "Confirm: Odd thing").await;
    let mut carla = world.staff("carla").await;
    let path = format!("/console/tasks/{task}");
    carla
        .act("/console/worklist", &format!("{path}/claim"), &[])
        .await;
    let mut kept = world.get(ResourceType::Task, &task).await;
    let account = kept.text_at(&["owner", "identifier", "value"]).unwrap();
    let by = json!({ "type": { "text": trust::conventions::DONE_BY }, "valueString": account });
    kept.set("input", json!([by]));
    kept.set("status", json!("requested"));
    kept.remove("owner");
    kept.strip_meta();
    world.change(kept.into_value(), 2).await;
    let page = carla.get("/console/worklist").await;
    page.shows("You did it: somebody else confirms it");
    assert!(!page.has(&format!("{path}/done")));
    for deed in ["claim", "done"] {
        let page = carla
            .act("/console/worklist", &format!("{path}/{deed}"), &[])
            .await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{deed}");
    }
    let mut devi = world.staff("devi").await;
    devi.act(
        "/console/worklist?who=all",
        &format!("{path}/done"),
        &[("outcome", "confirmed")],
    )
    .await;
    let kept = world.get(ResourceType::Task, &task).await;
    assert_eq!(kept.text_at(&["status"]), Some("completed"));
    assert_ne!(
        kept.text_at(&["owner", "identifier", "value"]),
        Some(account_of(&by))
    );
}

fn account_of(input: &serde_json::Value) -> &str {
    input["valueString"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_s_form_is_no_task_of_the_staff() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let (_, form) = crate::patients_own::with_form(&world, &ida).await;
    let mut carla = world.staff("carla").await;
    for deed in ["claim", "done"] {
        let page = carla
            .act(
                "/console/worklist",
                &format!("/console/tasks/{form}/{deed}"),
                &[],
            )
            .await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{deed}");
    }
    let kept = world.get(ResourceType::Task, &form).await;
    assert_eq!(kept.text_at(&["status"]), Some("requested"));
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

pub(crate) const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");

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
    checked.shows("No findings");
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
    assert!(!page.has("branch"), "no word of the engine's");
    check_html("patient in a journey", &page.body);
    let graph = carla.get("/console/journeys/heart-failure-discharge").await;
    graph.shows("1</a></span> in it now");
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal")
        .await
        .shows("Heart failure follow-up after discharge");
}

/// Publishes the journey, and lets so many patients leave the hospital with heart failure.
pub(crate) async fn journey_of(world: &World, patients: usize) -> Vec<String> {
    let mut sam = world.staff("sam").await;
    let publish = "/console/journeys/publish";
    let done = sam
        .act(publish, publish, &[("source", JOURNEY), ("do", "publish")])
        .await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let mut ids = Vec::new();
    for number in 0..patients {
        ids.push(another(world, number).await);
    }
    while world.journeys.drain(crate::world::TENANT).await.unwrap() > 0 {}
    ids
}

/// A patient who was discharged, so that the journey is theirs.
pub(crate) async fn another(world: &World, number: usize) -> String {
    let id = world.patient("Ida", &format!("Berg-{number}")).await;
    world
        .put(vec![json!({ "resourceType": "Encounter", "id": world.id_of(&id), "status": "finished", "class": { "code": "IMP" }, "subject": { "reference": format!("Patient/{id}") }, "period": { "start": "2026-02-20T10:00:00Z", "end": "2026-02-28T20:00:00Z" }, "reasonCode": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }] }] })])
        .await;
    id
}

/// Links to lists of people, with the number that leads there.
fn numbers(page: &str) -> Vec<(String, u64)> {
    page.split("<a href=\"")
        .skip(1)
        .filter_map(|rest| {
            let (href, rest) = rest.split_once('"')?;
            let number = rest.strip_prefix('>')?.split('<').next()?;
            let number = number.replace(',', "").parse().ok()?;
            href.contains("/people?")
                .then(|| (href.replace("&amp;", "&"), number))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_of_a_journey_leads_to_its_people() {
    let world = World::new().await;
    let patients = journey_of(&world, 3).await;
    // The welcome goes out by e-mail, which nobody delivers here, so it is given up after a day, by the
    // portal; then all three come to the branches.
    world.clock.advance(2 * crate::world::DAY_MS);
    while world.journeys.drain(crate::world::TENANT).await.unwrap() > 0 {}
    let away = patients[1].clone();
    world
        .put(vec![json!({ "resourceType": "Encounter", "id": world.id_of(&away), "status": "in-progress", "class": { "code": "IMP" }, "subject": { "reference": format!("Patient/{away}") }, "period": { "start": "2026-03-03T07:00:00Z" } })])
        .await;
    while world.journeys.drain(crate::world::TENANT).await.unwrap() > 0 {}

    let mut carla = world.staff("carla").await;
    let journey = "/console/journeys/heart-failure-discharge";
    let step = format!("{journey}/steps/welcome?version=1");
    let mut followed = Vec::new();
    for path in [
        "/console/journeys",
        &format!("{journey}?version=1&step=visit"),
        &step,
        &format!("{journey}/analysis?version=1"),
    ] {
        let page = carla.get(path).await;
        check_html(path, &page.body);
        for (href, number) in numbers(&page.body) {
            if followed.contains(&href) {
                continue;
            }
            let list = carla.get(&href).await;
            check_html(&href, &list.body);
            list.shows(&format!("of {number}, "));
            let rows = list.body.matches("data-act=\"open\"").count();
            assert_eq!(rows as u64, number, "{href}");
            followed.push(href);
        }
    }
    let led = |part: &str| followed.iter().any(|href| href.contains(part));
    for part in [
        "list=here",
        "list=here&step=visit",
        "list=came&step=welcome",
        "list=left&step=welcome",
        "list=left&step=welcome&stay=3d",
        "list=way&step=welcome&to=reached&label=delivered",
        "list=ended",
        "list=ended&step=visit",
        "list=ended&reason=Back%20in%20hospital",
    ] {
        assert!(led(part), "nothing led to {part}: {followed:#?}");
    }
    // The lines of the graph lead there too.
    carla
        .get(&format!("{journey}?version=1"))
        .await
        .shows("class=\"way\" href=\"/console/journeys/heart-failure-discharge/people?version=1&amp;list=way&amp;step=welcome&amp;to=reached&amp;label=delivered\"");

    let page = carla.get(&step).await;
    page.shows("How long they stayed");
    page.shows("2 to 3 days");
    page.shows("Welcome home");
    page.shows("Hello [first name]. You are home again");
    page.shows("Where they go");
    let gone = carla
        .get(&format!("{journey}/people?version=1&list=ended&step=visit"))
        .await;
    gone.shows("Ida Berg-1");
    gone.shows("Back in hospital");
    assert!(!gone.has("Ida Berg-0"));

    // Whoever sees how many but not who gets the numbers without the way to the names.
    let mut sam = world.staff("sam").await;
    for path in ["/console/journeys", &format!("{journey}?version=1"), &step] {
        let page = sam.get(path).await;
        check_html(path, &page.body);
        assert!(!page.has("/people?") && !page.has("Ida Berg"), "{path}");
    }
    let refused = sam.get(&format!("{journey}/people?version=1")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    for nothing in [
        "people?version=1&list=came&step=nowhere",
        "people?version=1&list=way&step=welcome",
        "people?version=1&list=made-up",
        "people?version=1&list=left&step=welcome&stay=5d",
        "people?version=7",
        "steps/nowhere?version=1",
    ] {
        let page = carla.get(&format!("{journey}/{nothing}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{nothing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_of_people_say_where_they_are() {
    let world = World::new().await;
    journey_of(&world, 53).await;
    let mut carla = world.staff("carla").await;
    let people = "/console/journeys/heart-failure-discharge/people?version=1";
    for list in ["list=here&step=welcome", "list=came&step=welcome"] {
        let page = carla.get(&format!("{people}&{list}")).await;
        page.shows("1–50 of 53, ");
        let next = page
            .body
            .split("href=\"")
            .find(|rest| rest.contains(">Next page<"))
            .and_then(|rest| rest.split('"').next())
            .unwrap()
            .replace("&amp;", "&");
        let rest = carla.get(&next).await;
        rest.shows("51–53 of 53, ");
        rest.shows("First page");
        assert!(!rest.has("Next page") && !rest.has("can't be listed"));
        let names = |body: &str| -> Vec<String> {
            body.split("Ida Berg-")
                .skip(1)
                .map(|rest| rest.split('<').next().unwrap().to_owned())
                .collect()
        };
        let mut all = names(&page.body);
        all.extend(names(&rest.body));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 53, "each of them once");
    }
}

/// Where the first number of patients in the audit leads to.
async fn page_of_many(browser: &mut crate::world::Browser) -> crate::world::Page {
    let page = browser.get("/console/audit").await;
    let before = page.body.split("#patients\">2 patients<").next().unwrap();
    let path = before.rsplit("href=\"").next().unwrap().to_owned();
    browser.get(&path).await
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D), 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_says_who_did_what_and_proves_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    carla
        .get(&format!("/console/patients/{ida}"))
        .await
        .shows("Ida Berg");
    // A list of tasks shows two patients.
    let olaf = world.patient("Olaf", "Lie").await;
    world.task(&ida, "routine", "Call her").await;
    world.task(&olaf, "routine", "Call him").await;
    carla.get("/console/worklist").await.shows("2 open tasks");
    let mut priya = world.staff("priya").await;
    let page = priya.get(&format!("/console/audit?patient={ida}")).await;
    page.shows("Carla Ortiz (coordinator)");
    page.shows("to manage care");
    page.shows("Ida Berg");
    check_html("audit", &page.body);
    let many = page_of_many(&mut priya).await;
    many.shows("id=\"patients\"");
    many.shows("Ida Berg");
    many.shows("Olaf Lie");
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
    // Whoever may see the whole audit gets every part of the record.
    let parts = file["parts"].as_array().unwrap();
    assert!(parts.len() > 1 && parts.iter().all(|part| part["text"].is_string()));
    let event: serde_json::Value =
        serde_json::from_str(parts[0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(event["id"], id.as_str());
    assert_eq!(event["entity"].as_array().unwrap().len(), parts.len() - 1);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_signed_state_of_the_audit_can_be_taken_away() {
    let world = World::new().await;
    let mut priya = world.staff("priya").await;
    priya
        .get("/console/audit")
        .await
        .shows("href=\"/console/checkpoint\"");
    world.ledger().checkpoint().await.unwrap();
    let page = priya.get("/console/checkpoint").await;
    page.shows("No witness is named");
    page.shows("cairn.ledger/");
    check_html("audit log", &page.body);
    let checkpoint = priya.get("/console/checkpoint/file").await;
    let newest = world.ledger().newest_checkpoint().await.unwrap();
    assert_eq!(checkpoint.body, newest.note);
    let keys = priya.get("/console/checkpoint/keys").await;
    assert_eq!(keys.body.lines().count(), 257);

    let key = "w.example+9d66859f+BAkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ";
    let witnesses = ledger::Witnesses::parse(key, 1).unwrap();
    world.ledger().trust_witnesses(witnesses).unwrap();
    let page = priya.get("/console/checkpoint").await;
    page.shows("w.example");
    page.shows("Not heard of yet");
    check_html("audit log with a witness", &page.body);

    let mut carla = world.staff("carla").await;
    for path in ["", "/file", "/keys"] {
        let page = carla.get(&format!("/console/checkpoint{path}")).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
    }
}
