//! When a journey may be taken again, and what is told where it may not.

use super::{NAME, refused, source};
use crate::world::{DAY, Mail, World, a_member};
use journey::{JourneyError, NotStarted, Wish};
use std::collections::BTreeMap;
use trust::{Action, Purpose, Role, Target};

/// A journey of at most five days that begins with an operation, or by request.
fn walk(more: &str) -> String {
    source(&format!(
        "  event: Procedure
  where: status = 'completed'
  request: {{by: [clinician], asks: {{done: When it was done}}}}
  anchors: {{done: performedDateTime}}
  within: 3d
  per: event
{more}"
    ))
}

async fn taken(world: &World, patient: &str) -> usize {
    let views = world.views(patient).await;
    views.iter().filter(|view| view.journey == NAME).count()
}

async fn ask(world: &World, patient: &str, key: &str) -> Result<bool, NotStarted> {
    let target = Target {
        kind: Some(fhir::ResourceType::Task),
        patient: None,
    };
    let agent = a_member(Role::Clinician);
    let permit = world
        .trust
        .decide(&agent, Purpose::Treatment, Action::Create, target, "test")
        .await
        .unwrap();
    let wish = Wish {
        journey: NAME.to_owned(),
        patient: patient.to_owned(),
        key: key.to_owned(),
        times: BTreeMap::from([("done".to_owned(), world.instant())]),
        reason: "Asked".to_owned(),
    };
    match world.journeys.start(&permit, &wish).await {
        Ok(begun) => Ok(begun.started),
        Err(JourneyError::NotStarted(why)) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn not_again_within_so_long_and_so_often() {
    for (more, after_begin, after_end) in [
        ("  again: {after: 20d}\n", 21, 20),
        ("  again: {after: 20d, since: began}\n", 20, 15),
    ] {
        let world = World::with(Mail::Delivers, &walk(more)).await;
        let patient = world.patient().await;
        world.operate(&patient).await;
        world.until(DAY / 2).await;
        // The task is overdue after a day, which ends it.
        world.until(3 * DAY).await;
        assert_eq!(taken(&world, &patient).await, 1, "{more}");
        world.until((after_begin.min(after_end) - 1) * DAY).await;
        world.operate(&patient).await;
        world.drain().await;
        assert_eq!(taken(&world, &patient).await, 1, "{more}");
        let why = refused(&world, &patient).await;
        assert_eq!(why.len(), 1, "{more}");
        assert!(why[0].starts_with("The last time"), "{why:?}");
        let told = ask(&world, &patient, "k-1").await;
        assert!(matches!(told, Err(NotStarted::Again(_))), "{told:?}");
        // What was refused stays so, also when it is written again while a new one may begin it.
        world.until(after_begin * DAY + DAY / 2).await;
        let procedures = world.of(&patient, fhir::ResourceType::Procedure).await;
        for procedure in procedures {
            world.put(vec![procedure.into_value()]).await;
        }
        world.drain().await;
        assert_eq!(taken(&world, &patient).await, 1, "{more}");
        world.operate(&patient).await;
        world.drain().await;
        assert_eq!(taken(&world, &patient).await, 2, "{more}");
    }
}

#[tokio::test]
async fn at_most_so_often_in_a_life() {
    let world = World::with(Mail::Delivers, &walk("  again: {at_most: 2}\n")).await;
    let patient = world.patient().await;
    for n in 0..4 {
        world.until(n * 10 * DAY).await;
        world.operate(&patient).await;
        world.drain().await;
    }
    assert_eq!(taken(&world, &patient).await, 2);
    let why = "The patient has taken it as often as it may be taken: 2 times";
    assert_eq!(refused(&world, &patient).await, [why, why]);
    let told = ask(&world, &patient, "k-1").await;
    assert_eq!(told, Err(NotStarted::Again(why.to_owned())));
}

/// What was started in error was never taken.
#[tokio::test]
async fn a_start_in_error_counts_for_nothing() {
    let world = World::with(Mail::Delivers, &walk("  again: {after: 30d}\n")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.drain().await;
    world.delete(&patient, fhir::ResourceType::Procedure).await;
    assert_eq!(taken(&world, &patient).await, 1);
    world.operate(&patient).await;
    world.drain().await;
    assert_eq!(taken(&world, &patient).await, 2);
    assert_eq!(refused(&world, &patient).await, [""; 0]);
}

/// Who is in a journey doesn't begin it again, and that is told; when it is over, what was refused for that may.
#[tokio::test]
async fn who_is_under_way_is_told_of() {
    let world = World::with(Mail::Delivers, &walk("")).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.drain().await;
    world.operate(&patient).await;
    world.drain().await;
    assert_eq!(taken(&world, &patient).await, 1);
    assert_eq!(
        refused(&world, &patient).await,
        ["The patient is in it already"]
    );
}
