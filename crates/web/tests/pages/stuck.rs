//! Who is stuck in journeys.

use axum::http::StatusCode;
use journey::{DEAD_LETTER, DeadLetter};
use ledger::{Expected, Owner};
use trust::{Action, Agent, Internal, Purpose, Target, Unit};

use crate::world::{TENANT, World, check_html};

/// A dead letter about a journey that is not there any more.
pub(crate) async fn letter(world: &World) -> String {
    let agent = Agent::system(TENANT, "journey-engine");
    let target = Target::default();
    let (purpose, action) = (Purpose::CareManagement, Action::Orchestrate);
    let permit = world.trust.decide(&agent, purpose, action, target, "test");
    let permit = permit.await.unwrap();
    let id = world.ledger().derive_id(TENANT, &Owner::Tenant, "letter");
    let letter = DeadLetter {
        id: id.clone(),
        shard: 0,
        number: 1,
        kind: 0,
        instance: Some("gone".to_owned()),
        waits: false,
        error: "the state does not parse".to_owned(),
        at_ms: 1,
    };
    let unit = Unit {
        internals: vec![Internal {
            kind: DEAD_LETTER,
            id: id.clone(),
            owner: Owner::Tenant,
            expected: Expected::Absent,
            body: serde_json::to_vec(&letter).unwrap(),
            deleted: false,
            tokens: vec![("state".to_owned(), "open".to_owned())],
        }],
        ..Unit::default()
    };
    world.trust.vault().commit(&permit, unit).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stuck_is_shown_and_a_squad_tries_again() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    sam.get("/console/stuck").await.shows("Nobody is stuck");
    let letter = letter(&world).await;
    let retry = format!("/console/stuck/{letter}/retry");
    let mut carla = world.staff("carla").await;
    let seen = carla.get("/console/stuck").await;
    check_html("/console/stuck", &seen.body);
    seen.shows("the state does not parse");
    assert!(!seen.has("Try again"));
    let tried = carla.act("/console/stuck", &retry, &[]).await;
    assert_eq!(tried.status, StatusCode::FORBIDDEN);
    let seen = sam.get("/console/stuck").await;
    check_html("/console/stuck", &seen.body);
    seen.shows("Try again");
    let done = sam.act("/console/stuck", &retry, &[]).await;
    assert_eq!(done.location(), "/console/stuck?tried=gone");
    let seen = sam.get(done.location()).await;
    seen.shows("It was worked on.");
    seen.shows("Nobody is stuck");
    let again = sam.act("/console/stuck", &retry, &[]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
}
