//! Live parts: they come when something happens, and end with the session.

use std::time::Duration;

use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;

use crate::patience::in_time;
use crate::world::{Browser, Page, World};

/// Reads a stream until it holds `text`; panics after a while.
pub(crate) async fn until(body: &mut axum::body::Body, text: &str) -> String {
    let mut all = String::new();
    let read = async {
        while !all.contains(text) {
            let Some(frame) = body.frame().await else {
                panic!("the stream ended: {all}")
            };
            if let Ok(data) = frame.unwrap().into_data() {
                all.push_str(&String::from_utf8_lossy(&data));
            }
        }
    };
    in_time(&format!("no {text:?} came"), read).await;
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_task_comes_by_itself() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let page = carla.get("/console/worklist").await;
    page.shows("Nothing is waiting");
    let live = page.live();
    // What happens between the page and the stream counts too.
    world.task(&ida, "urgent", "Call her").await;
    let mut body = carla.open(&live).await.into_body();
    let first = until(&mut body, "Call her").await;
    assert!(
        first.contains("event: part") && first.contains("\\\"worklist\\\"")
            || first.contains("\"worklist\"")
    );
    world.task(&ida, "stat", "Go there").await;
    until(&mut body, "Go there").await;
}

// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let page = carla.get(&format!("/console/patients/{ida}")).await;
    let live = page.live();
    let mut body = carla.open(&live).await.into_body();
    until(&mut body, ": live").await;
    carla.act("/console/worklist", "/sign-out", &[]).await;
    world.task(&ida, "urgent", "Call her").await;
    let rest = until(&mut body, "event: end").await;
    assert!(!rest.contains("Call her"));
}

// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_keeps_no_session_awake() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let page = carla.get("/console/worklist").await;
    let live = page.live();
    let mut body = carla.open(&live).await.into_body();
    for minutes in [5, 5, 4] {
        world.wall.advance(minutes * 60_000);
        let title = format!("After {minutes} at {}", ledger::Clock::now_ms(&world.wall));
        world.task(&ida, "urgent", &title).await;
        until(&mut body, &title).await;
    }
    world.wall.advance(2 * 60_000);
    world.task(&ida, "urgent", "Too late").await;
    let rest = until(&mut body, "event: end").await;
    assert!(!rest.contains("Too late"));
}

// Proves: 45 CFR 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn reading_for_a_stream_is_audited_and_does_not_feed_itself() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let page = carla.get(&format!("/console/patients/{ida}")).await;
    let live = page.live();
    let mut body = carla.open(&live).await.into_body();
    world.task(&ida, "urgent", "Call her").await;
    until(&mut body, "Call her").await;
    let audited = world.all(fhir::ResourceType::AuditEvent, &ida).await.len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        world.all(fhir::ResourceType::AuditEvent, &ida).await.len(),
        audited,
        "reading caused reading"
    );
}

/// The built-in policies and one more, without their tests, which say that people do what it forbids.
pub(crate) fn policies_with(one_more: &'static str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = trust::PolicySet::built_in_files();
    let files = files.filter(|(name, _)| !name.ends_with(".test.toml"));
    for (name, text) in files.chain([("more.cedar", one_more)]) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// It is eight in this world, and four minutes to nine after that.
pub(crate) async fn until_nearly_nine(
    world: &World,
    browser: &mut Browser,
    page: &str,
    text: &str,
) -> Page {
    for _ in 0..4 {
        world.wall.advance(14 * 60_000);
        browser.get(page).await.shows(text);
    }
    browser.get(page).await
}

const EARLY_TASKS: &str = r#"@id("early-alone")
@says("Coordinators look at tasks before nine.")
forbid (principal in Role::"coordinator", action in Action::"look", resource == Kind::"Task")
when { context.time.hour >= 9 };
"#;

/// What an open page shows doesn't outlive the hour that let it be shown: where nothing of it may be seen any more,
/// the script is told to empty it (`tests/browser/live.mjs` of `cohort` has that it does).
// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_is_drawn_anew_when_the_hour_is_another() {
    let folder = policies_with(EARLY_TASKS);
    let world = World::with_policies(folder.path()).await;
    let ida = world.patient("Ida", "Berg").await;
    world.task(&ida, "urgent", "Call her").await;
    let mut carla = world.staff("carla").await;
    let page = until_nearly_nine(&world, &mut carla, "/console/worklist", "Call her").await;
    let mut body = carla.listen(&page.live()).await.into_body();
    until(&mut body, ": live").await;
    // Nothing happens but that it is nine: no news of the record has it drawn.
    world.wall.advance(5 * 60_000);
    let said = until(&mut body, "You may no longer see this").await;
    assert!(said.contains("event: end"), "{said}");
    let after = carla.get("/console/worklist").await;
    assert!(!after.has("Call her"), "{}", after.body);

    // A tab that was hidden meanwhile is told the same when it asks again, and not an error that no script sees.
    let again = carla.listen(&page.live()).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.headers()["content-type"], "text/event-stream");
    assert_eq!(again.headers()["cache-control"], "no-store");
    let said = until(&mut again.into_body(), "You may no longer see this").await;
    assert!(said.starts_with("event: end"), "{said}");
    // Others are told as ever.
    let bare = carla.get(&page.live()).await;
    assert_eq!(bare.status, StatusCode::FORBIDDEN);
    world.wall.advance(16 * 60_000);
    let again = carla.listen(&page.live()).await;
    let said = until(&mut again.into_body(), "You are signed out").await;
    assert!(said.starts_with("event: end"), "{said}");
}

fn illness(world: &World, patient: &str) -> serde_json::Value {
    json!({ "resourceType": "Condition", "id": world.id_of(patient), "code": { "text": "Scabies" },
        "subject": { "reference": format!("Patient/{patient}") }, "recordedDate": "2026-02-02" })
}

/// A page that looked away (a hidden tab, a broken connection) is drawn anew where it is another hour when it comes
/// back, whatever else happened, and not for nothing before.
// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_back_at_another_hour_is_drawn_anew() {
    let folder = policies_with(EARLY_TASKS);
    let world = World::with_policies(folder.path()).await;
    let ida = world.patient("Ida", "Berg").await;
    world.put(vec![illness(&world, &ida)]).await;
    let mut devi = world.staff("devi").await;
    let path = format!("/console/patients/{ida}");
    let page = until_nearly_nine(&world, &mut devi, &path, "Scabies").await;
    let mut body = devi.listen(&page.live()).await.into_body();
    until(&mut body, ": live").await;
    let nothing = tokio::time::timeout(Duration::from_secs(2), body.frame()).await;
    assert!(nothing.is_err(), "a page is drawn anew for nothing");
    drop(body);
    world.wall.advance(5 * 60_000);
    let mut body = devi.listen(&page.live()).await.into_body();
    let said = until(&mut body, "\"timeline\"").await;
    // Also where somebody types.
    assert!(said.contains("\"must\":true"), "{said}");
}

/// The same from another network: a page that was opened on the ward is another one at home.
// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_back_from_elsewhere_is_drawn_anew() {
    const WARD: &str = r#"@id("ward-alone")
@says("Clinicians look at conditions on the ward.")
forbid (principal in Role::"clinician", action in Action::"look", resource == Kind::"Condition")
unless { context.networks.contains("ward") };
"#;
    let folder = policies_with(WARD);
    let world = World::with_policies(folder.path()).await;
    let place = trust::Surroundings::of("main", "UTC", [("ward", "10.1.0.0/16")]);
    world.trust.situate(place.unwrap());
    let ida = world.patient("Ida", "Berg").await;
    world.put(vec![illness(&world, &ida)]).await;
    let mut devi = world.staff("devi").await;
    let path = format!("/console/patients/{ida}");
    let (ward, home) = ([10, 1, 0, 7].into(), [192, 0, 2, 7].into());
    let page = trust::origin::at(ward, devi.get(&path)).await;
    page.shows("Scabies");
    let answer = trust::origin::at(home, devi.listen(&page.live())).await;
    let said = until(&mut answer.into_body(), "You may no longer see this").await;
    assert!(
        said.contains("event: end") && !said.contains("Scabies"),
        "{said}"
    );
}
