//! A batch does what was foreseen, or says that it is another by now.

use crate::steers;
use crate::world::{HOUR, Mail, TENANT, World};
use fhir::ResourceType;
use journey::{Act, JourneyError, Many, Map, Moving, Portion, Stage, Who};
use std::collections::BTreeSet;
use trust::{Action, Role};

pub(crate) fn file(title: &str) -> String {
    file_with(title, "after")
}

/// The same, with another name for what comes after the task.
pub(crate) fn file_with(title: &str, after: &str) -> String {
    format!(
        "name: seen
title: Seen
owner: Team
purpose: TREAT
at_most: 60d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {{done: performedDateTime}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: call
steps:
  call:
    title: Call
    task: {{title: {title}, reason: It is time., role: coordinator, due: 20d}}
    next: {after}
    overdue: {{role: coordinator, priority: urgent}}
  {after}: {{title: After, wait: {{for: 30d}}, next: end}}
"
    )
}

fn who() -> Who {
    Who {
        journey: "seen".to_owned(),
        version: 1,
        step: None,
        for_ms: 0,
        held: None,
        patients: BTreeSet::new(),
        among: 0,
    }
}

pub(crate) fn moving() -> Moving {
    Moving {
        who: who(),
        portion: Portion::All,
        to: 2,
        map: Map::new(),
    }
}

async fn operated(world: &World) -> String {
    let patient = world.patient().await;
    world.operate(&patient).await;
    patient
}

fn has_changed<T: std::fmt::Debug>(outcome: Result<T, JourneyError>) {
    let words = outcome.expect_err("it has changed").to_string();
    assert!(words.contains("has changed since you looked"), "{words}");
}

/// Works on batches until none goes on.
async fn turns(world: &World) {
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
}

/// Whether a patient's only journey is held.
pub(crate) async fn held(world: &World, patient: &str) -> bool {
    let permit = world.staff(Role::Coordinator, Action::Search).await;
    let running = world.journeys.running(&permit, patient).await;
    let (running, _) = running.unwrap();
    assert_eq!(running.len(), 1, "one journey");
    running[0].hand.paused.is_some()
}

/// What is the same for everybody is done to all who are there, whoever came or went since it was looked at.
#[tokio::test]
async fn who_comes_while_a_hold_is_looked_at_is_held_too() {
    let world = World::with(Mail::Delivers, &file("Call")).await;
    let (first, gone) = (operated(&world).await, operated(&world).await);
    let permit = steers(&world).await;
    let journeys = &world.journeys;
    let foreseen = journeys.foresee_batch(&permit, &who(), &Many::Hold).await;
    let foreseen = foreseen.unwrap();
    assert_eq!(foreseen.total, 2);
    world.die(&gone).await;
    let second = operated(&world).await;
    let seen = Some(foreseen.seen.as_str());
    for (many, is_held) in [(Many::Hold, true), (Many::GoOn, false)] {
        let begin = journeys.begin_batch(&permit, who(), many, "Flood", 50, seen);
        let id = begin.await.unwrap();
        turns(&world).await;
        let (batch, _) = journeys.batch(&permit, &id).await.unwrap();
        assert_eq!((batch.total, batch.failed), (2, 0));
        for patient in [&first, &second] {
            assert_eq!(held(&world, patient).await, is_held);
        }
    }
}

#[tokio::test]
async fn a_batch_is_for_those_who_were_foreseen() {
    let world = World::with(Mail::Delivers, &file("Call")).await;
    let patients = [operated(&world).await, operated(&world).await];
    let permit = steers(&world).await;
    let journeys = &world.journeys;
    let skip = || Who {
        step: Some("call".to_owned()),
        ..who()
    };
    let foreseen = journeys
        .foresee_batch(&permit, &skip(), &Many::Skip(0))
        .await;
    let foreseen = foreseen.unwrap();
    let stale = journeys.begin_batch(&permit, skip(), Many::Skip(0), "By hand", 50, Some("x"));
    has_changed(stale.await);
    // Time alone changes nothing, and who has come since is left as they are.
    world.pass(HOUR).await;
    let third = operated(&world).await;
    let seen = Some(foreseen.seen.as_str());
    let begin = journeys.begin_batch(&permit, skip(), Many::Skip(0), "By hand", 50, seen);
    let id = begin.await.unwrap();
    turns(&world).await;
    let (batch, failures) = journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.total, batch.failed, failures.len()), (3, 1, 1));
    assert_eq!(failures[0].patient, third);
    assert!(
        failures[0].why.contains("not what was foreseen"),
        "{failures:?}"
    );
    for patient in &patients {
        assert_eq!(world.view(patient).await.waiting[0].step, "after");
    }
    assert_eq!(world.view(&third).await.waiting[0].step, "call");
}

/// Who has to wait when they are reached is moved only as was foreseen, too; who was foreseen to wait, when that is over.
#[tokio::test]
async fn who_waits_is_moved_as_foreseen_or_not_at_all() {
    let world = World::with(Mail::Delivers, &file("Call")).await;
    let (moves, waits) = (operated(&world).await, operated(&world).await);
    world.publish(&file("Call again")).await;
    let permit = steers(&world).await;
    let works = world.staff(Role::Coordinator, Action::Work).await;
    let journeys = &world.journeys;
    let act = async |patient: &str, act: Act| {
        let instance = world.view(patient).await.id;
        let acted = journeys.act(&works, patient, &instance, act, "By hand", None);
        acted.await.unwrap();
    };
    let put_off = async |patient: &str| {
        act(patient, Act::Pause).await;
        act(patient, Act::Skip { n: 1, way: 0 }).await;
    };
    put_off(&waits).await;
    let preview = journeys.preview_migration(&permit, &moving()).await;
    let preview = preview.unwrap();
    assert_eq!((preview.moves, preview.waits), (1, 1));
    let seen = Some(preview.seen.as_str());
    let id = journeys.begin_migration(&permit, moving(), "Other words", 50, seen);
    let id = id.await.unwrap();
    put_off(&moves).await;
    journeys.batch_turn(TENANT).await.unwrap();
    let (batch, _) = journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.next, batch.waiting, batch.failed), (2, 2, 0));
    act(&moves, Act::Resume).await;
    act(&waits, Act::Resume).await;
    turns(&world).await;
    let (batch, failures) = journeys.batch(&permit, &id).await.unwrap();
    assert_eq!(
        (batch.stage, batch.waiting, batch.failed),
        (Stage::Done, 0, 1)
    );
    assert_eq!(failures[0].patient, moves);
    assert_eq!(world.view(&moves).await.version, 1);
    assert_eq!(world.view(&waits).await.version, 2);
}

#[tokio::test]
async fn who_would_be_moved_otherwise_than_foreseen_stays_and_is_listed() {
    let world = World::with(Mail::Delivers, &file("Call")).await;
    let (called, open) = (operated(&world).await, operated(&world).await);
    world.publish(&file("Call again")).await;
    let permit = steers(&world).await;
    let journeys = &world.journeys;
    let preview = journeys.preview_migration(&permit, &moving()).await;
    let preview = preview.unwrap();
    assert_eq!((preview.moves, preview.changed), (2, 2));
    let seen = Some(preview.seen.as_str());
    let id = journeys.begin_migration(&permit, moving(), "Other words", 50, seen);
    let id = id.await.unwrap();
    // The one is called before the batch comes to them, so nobody has to be called again.
    let task = world.task(&called, "Call").await;
    world.finish_task(&task, None).await;
    turns(&world).await;
    let (batch, failures) = journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.stage, batch.next, batch.failed), (Stage::Done, 2, 1));
    assert_eq!(failures[0].patient, called);
    assert!(
        failures[0].why.contains("not what was foreseen"),
        "{failures:?}"
    );
    assert_eq!(world.view(&called).await.version, 1);
    assert_eq!(world.view(&open).await.version, 2);
    let tasks = world.of(&called, ResourceType::Task).await;
    assert_eq!(tasks.len(), 1, "and no task was opened for them");
    // Looked at again, it is what is foreseen.
    let preview = journeys.preview_migration(&permit, &moving()).await;
    let preview = preview.unwrap();
    assert_eq!((preview.moves, preview.changed), (1, 0));
    let stale = journeys.begin_migration(&permit, moving(), "Other words", 50, seen);
    has_changed(stale.await);
    let seen = Some(preview.seen.as_str());
    let id = journeys.begin_migration(&permit, moving(), "Other words", 50, seen);
    let id = id.await.unwrap();
    turns(&world).await;
    let (batch, _) = journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.stage, batch.failed), (Stage::Done, 0));
    assert_eq!(world.view(&called).await.version, 2);
}
