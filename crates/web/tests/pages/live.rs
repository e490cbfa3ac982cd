//! Live parts: they come when something happens, and end with the session.

use std::time::Duration;

use http_body_util::BodyExt;

use crate::world::World;

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
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .unwrap_or_else(|_| panic!("no {text:?} came"));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_task_comes_by_itself() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let page = carla.get("/console/worklist").await;
    page.shows("Nothing is waiting");
    let live = page
        .body
        .split("data-live=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
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
    let live = page
        .body
        .split("data-live=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
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
    let live = page
        .body
        .split("data-live=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
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
    let live = page
        .body
        .split("data-live=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
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

/// What an open page shows doesn't outlive the hour that let it be shown.
// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_is_drawn_anew_when_the_hour_is_another() {
    const EARLY: &str = r#"@id("early-alone")
@says("Coordinators look at tasks before nine.")
forbid (principal in Role::"coordinator", action in Action::"look", resource == Kind::"Task")
when { context.time.hour >= 9 };
"#;
    let folder = tempfile::tempdir().unwrap();
    // Without its tests, which say that coordinators look at tasks at noon.
    let files = trust::PolicySet::built_in_files();
    let files = files.filter(|(name, _)| !name.ends_with(".test.toml"));
    for (name, text) in files.chain([("early.cedar", EARLY)]) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let world = World::with_policies(folder.path()).await;
    let ida = world.patient("Ida", "Berg").await;
    world.task(&ida, "urgent", "Call her").await;
    let mut carla = world.staff("carla").await;
    // It is eight, and four minutes to nine after that.
    for _ in 0..4 {
        world.wall.advance(14 * 60_000);
        carla.get("/console/worklist").await.shows("Call her");
    }
    let page = carla.get("/console/worklist").await;
    let live = page.body.split("data-live=\"").nth(1).unwrap();
    let live = live.split('"').next().unwrap().replace("&amp;", "&");
    let mut body = carla.open(&live).await.into_body();
    until(&mut body, ": live").await;
    // Nothing happens but that it is nine: no news of the record has it drawn.
    world.wall.advance(5 * 60_000);
    until(&mut body, "You may no longer see this").await;
    let after = carla.get("/console/worklist").await;
    assert!(!after.has("Call her"), "{}", after.body);
}
