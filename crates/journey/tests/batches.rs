//! Acts by hand on many patients' journeys, over crashes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

mod analysing;
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "shared with the ledger's tests, which use all of it and wait in real time"
)]
#[path = "../../ledger/tests/postgres/cluster.rs"]
mod cluster;
mod cut;
mod migrating;
#[allow(dead_code, reason = "shared with the ledger's tests")]
#[path = "../../ledger/tests/postgres/patience.rs"]
mod patience;
mod replays;
mod seen;
mod servers;
mod stages;
mod world;

use journey::{Batch, JourneyError, Many, Stage, Who};
use ledger::{Expected, Owner};
use std::collections::BTreeSet;
use trust::{Action, Agent, Internal, Permit, Purpose, Role, Target, TrustError, Unit, kinds};
use world::{DAY, HOUR, Mail, TENANT, World};

const JOURNEY: &str = "heart-failure-discharge";

fn everybody() -> Who {
    Who {
        journey: JOURNEY.to_owned(),
        version: 1,
        step: None,
        for_ms: 0,
        held: None,
        patients: BTreeSet::new(),
        among: 0,
    }
}

async fn steers(world: &World) -> Permit {
    world.staff(Role::Coordinator, Action::Steer).await
}

/// Patients who were discharged now and have had their first message.
async fn patients(world: &World, count: usize) -> Vec<String> {
    let mut patients = Vec::new();
    for _ in 0..count {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        patients.push(patient);
    }
    world.drain().await;
    patients
}

/// How often the history of a patient says this.
async fn says(world: &World, patient: &str, words: &str) -> usize {
    let trail = world.view(patient).await.trail;
    trail
        .iter()
        .filter(|entry| entry.what.contains(words))
        .count()
}

async fn finish(world: &World) {
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
}

/// What the store would say had the server been killed before it noted how far it had come.
async fn forget(world: &World, id: &str) {
    let agent = Agent::system(TENANT, "journey-engine");
    let permit = world
        .trust
        .decide(
            &agent,
            Purpose::CareManagement,
            Action::Orchestrate,
            Target::default(),
            "test",
        )
        .await
        .unwrap();
    let vault = world.trust.vault();
    let stored = vault
        .internal(&permit, kinds::JOURNEY_BATCH, id)
        .await
        .unwrap()
        .unwrap();
    let batch: Batch = serde_json::from_slice(&stored.body).unwrap();
    let batch = Batch { next: 0, ..batch };
    let unit = Unit {
        internals: vec![Internal {
            kind: kinds::JOURNEY_BATCH,
            id: id.to_owned(),
            owner: Owner::Tenant,
            expected: Expected::Version(stored.version),
            body: serde_json::to_vec(&batch).unwrap(),
            deleted: false,
            tokens: vec![("stage".to_owned(), "running".to_owned())],
        }],
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.unwrap();
}

#[tokio::test]
async fn a_batch_goes_on_after_a_crash_and_does_nothing_twice() {
    let world = World::new(Mail::Delivers).await;
    let patients = patients(&world, 7).await;
    let permit = steers(&world).await;
    let foreseen = world
        .journeys
        .foresee_batch(&permit, &everybody(), &Many::Hold)
        .await
        .unwrap();
    assert_eq!((foreseen.total, foreseen.sample.len()), (7, 5));
    assert!(foreseen.sample.iter().all(|(_, would)| would.is_ok()));
    let begin = world
        .journeys
        .begin_batch(&permit, everybody(), Many::Hold, "Flood", 2, None);
    let id = begin.await.unwrap();
    // A second's worth.
    assert!(world.journeys.batch_turn(TENANT).await.unwrap().is_some());
    let (batch, _) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!(
        (batch.next, batch.total, batch.stage),
        (2, 7, Stage::Running)
    );
    // The server is killed, and what it had done last is not noted.
    let world = world.after_crash();
    forget(&world, &id).await;
    let permit = steers(&world).await;
    finish(&world).await;
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.next, batch.stage), (7, Stage::Done));
    assert_eq!(failures, []);
    for patient in &patients {
        assert_eq!(says(&world, patient, "Held by A Coordinator").await, 1);
    }
    // Held, nothing happens; let go on, everything does.
    world.pass(3 * DAY).await;
    for patient in &patients {
        assert_eq!(world.view(patient).await.planned.len(), 0);
    }
    let who = Who {
        held: Some(true),
        ..everybody()
    };
    let begin = world
        .journeys
        .begin_batch(&permit, who, Many::GoOn, "Over", 50, None);
    begin.await.unwrap();
    finish(&world).await;
    for patient in &patients {
        assert_eq!(says(&world, patient, "Goes on by A Coordinator").await, 1);
        assert_ne!(world.view(patient).await.planned.len(), 0);
    }
}

#[tokio::test]
async fn those_who_can_not_be_reached_are_told_and_keep_nobody_waiting() {
    let world = World::new(Mail::Delivers).await;
    let patients = patients(&world, 4).await;
    let permit = steers(&world).await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let held = world.view(&patients[0]).await.id;
    let hold = journey::Act::Pause;
    let acted = world
        .journeys
        .act(&work, &patients[0], &held, hold, "In hospital", None);
    acted.await.unwrap();
    let begin = world
        .journeys
        .begin_batch(&permit, everybody(), Many::Hold, "Flood", 50, None);
    let id = begin.await.unwrap();
    // One ends before the batch comes to them.
    world.admit(&patients[1]).await;
    finish(&world).await;
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.next, batch.failed, batch.stage), (4, 2, Stage::Done));
    let mut why: Vec<(&str, &str)> = failures
        .iter()
        .map(|failure| (failure.patient.as_str(), failure.why.as_str()))
        .collect();
    why.sort_unstable();
    let mut expected = [
        (patients[0].as_str(), "it is held already"),
        (patients[1].as_str(), "the journey has ended"),
    ];
    expected.sort_unstable();
    assert_eq!(why, expected);
}

/// Who has moved on since a batch was asked for is not what was asked for any more.
#[tokio::test]
async fn those_who_have_moved_on_are_left_alone() {
    let world = World::new(Mail::Delivers).await;
    let patients = patients(&world, 2).await;
    let permit = steers(&world).await;
    let who = Who {
        held: Some(false),
        ..everybody()
    };
    let begin = (world.journeys).begin_batch(&permit, who, Many::Stop, "Over", 50, None);
    let id = begin.await.unwrap();
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let instance = world.view(&patients[0]).await.id;
    let hold = journey::Act::Pause;
    let acted = (world.journeys).act(&work, &patients[0], &instance, hold, "In hospital", None);
    acted.await.unwrap();
    finish(&world).await;
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.next, batch.failed), (2, 1));
    assert_eq!(failures[0].patient, patients[0]);
    assert_eq!(world.view(&patients[0]).await.ended, None);
    let ended = world.view(&patients[1]).await.ended.unwrap();
    assert!(
        format!("{ended:?}").contains("Over (A Coordinator, for many patients)"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_batch_takes_back_what_a_batch_did_and_nobody_s_own_act() {
    let world = World::new(Mail::Delivers).await;
    let patients = patients(&world, 3).await;
    let permit = steers(&world).await;
    let at = async |patient: &str| {
        let view = world.view(patient).await;
        let steps = view.waiting.into_iter().map(|wait| wait.step);
        steps.collect::<BTreeSet<_>>()
    };
    let before = at(&patients[1]).await;
    let many = async |many: Many| {
        let begin = world
            .journeys
            .begin_batch(&permit, everybody(), many, "By mistake", 50, None);
        let id = begin.await.unwrap();
        finish(&world).await;
        world.journeys.batch(&permit, &id).await.unwrap()
    };
    let (_, failures) = many(Many::Send("welcome_call".to_owned())).await;
    assert_eq!(failures, []);
    let sent = ["welcome_call", "weight_missing", "weight_watch"].map(str::to_owned);
    assert_eq!(at(&patients[1]).await, BTreeSet::from(sent));
    // Somebody sends one of them on.
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let instance = world.view(&patients[0]).await.id;
    let act = journey::Act::Jump {
        from: None,
        to: "follow_up".to_owned(),
    };
    let acted = (world.journeys).act(&work, &patients[0], &instance, act, "Knows them", None);
    acted.await.unwrap();
    // A batch is taken back by its name, and no other with it.
    let nameless =
        world
            .journeys
            .begin_batch(&permit, everybody(), Many::TakeBack, "By mistake", 50, None);
    assert!(matches!(nameless.await, Err(JourneyError::Cannot(_))));
    let back = async |id: &str| {
        let begin = (world.journeys).begin_take_back(&permit, id, "By mistake", 50);
        let id = begin.await.unwrap();
        finish(&world).await;
        world.journeys.batch(&permit, &id).await.unwrap()
    };
    let listed = world.journeys.batches(&permit).await.unwrap();
    let sent = &listed[0].id;
    let who = Who {
        patients: BTreeSet::from([patients[2].clone()]),
        ..everybody()
    };
    let again = Many::Send("follow_up".to_owned());
    let begin = (world.journeys).begin_batch(&permit, who, again, "Elsewhere", 50, None);
    let other = begin.await.unwrap();
    finish(&world).await;
    let (batch, failures) = back(sent).await;
    assert_eq!((batch.next, batch.failed), (3, 2));
    let why: BTreeSet<&str> = failures.iter().map(|one| one.patient.as_str()).collect();
    assert_eq!(
        why,
        BTreeSet::from([patients[0].as_str(), patients[2].as_str()])
    );
    assert_eq!(says(&world, &patients[2], "Taken back").await, 0);
    let (batch, failures) = back(&other).await;
    assert_eq!((batch.next, failures.len()), (1, 0));
    assert_eq!(says(&world, &patients[2], "Taken back").await, 1);
    assert_eq!(says(&world, &patients[0], "Taken back").await, 0);
    assert_eq!(says(&world, &patients[1], "Taken back").await, 1);
    assert_eq!(at(&patients[1]).await, before);
    // What leads nobody elsewhere is not taken back.
    let held = (world.journeys).begin_batch(&permit, everybody(), Many::Hold, "Flood", 50, None);
    let held = held.await.unwrap();
    finish(&world).await;
    let refused = (world.journeys).begin_take_back(&permit, &held, "By mistake", 50);
    assert!(matches!(refused.await, Err(JourneyError::Cannot(_))));
}

#[tokio::test]
async fn a_batch_that_is_broken_off_leaves_the_others_alone() {
    let world = World::new(Mail::Delivers).await;
    let patients = patients(&world, 4).await;
    let permit = steers(&world).await;
    let begin = |many| {
        world
            .journeys
            .begin_batch(&permit, everybody(), many, "Flood", 1, None)
    };
    let first = begin(Many::Stop).await.unwrap();
    world.pass(1).await;
    let second = begin(Many::Hold).await.unwrap();
    world.journeys.batch_turn(TENANT).await.unwrap();
    assert!(world.journeys.cancel_batch(&permit, &first).await.unwrap());
    assert!(!world.journeys.cancel_batch(&permit, &first).await.unwrap());
    finish(&world).await;
    let (batch, _) = world.journeys.batch(&permit, &first).await.unwrap();
    assert_eq!((batch.next, batch.stage), (1, Stage::Cancelled));
    let mut stopped = 0;
    for patient in &patients {
        stopped += usize::from(world.view(patient).await.ended.is_some());
    }
    assert_eq!(stopped, 1);
    // The next one had waited for its turn.
    let (batch, failures) = world.journeys.batch(&permit, &second).await.unwrap();
    assert_eq!((batch.next, batch.failed, failures.len()), (4, 1, 1));
    let listed = world.journeys.batches(&permit).await.unwrap();
    let listed: Vec<&str> = listed.iter().map(|batch| batch.id.as_str()).collect();
    assert_eq!(listed, [second.as_str(), first.as_str()]);
}

#[tokio::test]
async fn journeys_are_found_by_step_time_and_patient() {
    let world = World::new(Mail::Delivers).await;
    let early = patients(&world, 2).await;
    world.pass(DAY + 20 * HOUR).await;
    let late = patients(&world, 1).await;
    let permit = steers(&world).await;
    let symptoms = Who {
        step: Some("symptoms".to_owned()),
        ..everybody()
    };
    let at = |step: &str| Who {
        step: Some(step.to_owned()),
        ..everybody()
    };
    for (who, expected) in [
        (everybody(), 3),
        (at("day_two"), 1),
        (symptoms.clone(), 2),
        (
            Who {
                for_ms: DAY,
                ..everybody()
            },
            2,
        ),
        (
            Who {
                for_ms: DAY,
                ..symptoms.clone()
            },
            0,
        ),
        (
            Who {
                held: Some(true),
                ..everybody()
            },
            0,
        ),
        (
            Who {
                held: Some(false),
                ..everybody()
            },
            3,
        ),
        (
            Who {
                patients: [late[0].clone()].into(),
                ..everybody()
            },
            1,
        ),
        (
            Who {
                patients: ["nobody".to_owned()].into(),
                ..everybody()
            },
            0,
        ),
    ] {
        let found = world.journeys.foresee_batch(&permit, &who, &Many::Hold);
        assert_eq!(found.await.unwrap().total, expected, "{who:?}");
    }
    for who in [
        at("nowhere"),
        Who {
            version: 9,
            ..everybody()
        },
        Who {
            journey: "none".to_owned(),
            ..everybody()
        },
    ] {
        let found = world
            .journeys
            .foresee_batch(&permit, &who, &Many::Hold)
            .await;
        assert!(matches!(found, Err(JourneyError::Unknown(_))), "{who:?}");
    }
    // A form is skipped for who is there.
    let begin = world.journeys.begin_batch(
        &permit,
        symptoms,
        Many::Skip(1),
        "No portal today",
        50,
        None,
    );
    begin.await.unwrap();
    finish(&world).await;
    for patient in &early {
        assert_eq!(
            says(
                &world,
                patient,
                "Skipped by A Coordinator (Symptom questions)"
            )
            .await,
            1
        );
    }
    assert_eq!(says(&world, &late[0], "Skipped").await, 0);
}

#[tokio::test]
async fn many_are_for_those_who_may() {
    let world = World::new(Mail::Delivers).await;
    patients(&world, 1).await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let refused =
        |error: JourneyError| matches!(error, JourneyError::Trust(TrustError::Refused(_)));
    let journeys = &world.journeys;
    let begun = journeys.begin_batch(&work, everybody(), Many::Hold, "Flood", 1, None);
    assert!(refused(begun.await.unwrap_err()));
    let who = everybody();
    let foreseen = journeys.foresee_batch(&work, &who, &Many::Hold);
    assert!(refused(foreseen.await.unwrap_err()));
    assert!(refused(journeys.batches(&work).await.unwrap_err()));
    assert!(refused(
        journeys.cancel_batch(&work, "x").await.unwrap_err()
    ));
    let permit = steers(&world).await;
    let nobody = Who {
        patients: ["nobody".to_owned()].into(),
        ..everybody()
    };
    for (who, many, words) in [
        (nobody, Many::Hold, "no journey is found"),
        (everybody(), Many::Again, "a step has to be named"),
    ] {
        let begun = journeys
            .begin_batch(&permit, who, many, "Flood", 1, None)
            .await;
        assert!(begun.unwrap_err().to_string().contains(words));
    }
}

/// Whom a batch is for lies in its parts; what is written with each turn doesn't grow with them.
#[tokio::test]
async fn the_document_that_each_turn_writes_names_no_patients() {
    let world = World::new(Mail::Delivers).await;
    let patients = patients(&world, 3).await;
    let permit = steers(&world).await;
    let who = Who {
        patients: patients[..2].iter().cloned().collect(),
        ..everybody()
    };
    let begin = (world.journeys).begin_batch(&permit, who, Many::Hold, "Flood", 1, None);
    let id = begin.await.unwrap();
    let vault = world.trust.vault();
    for turn in 0..3 {
        let kind = kinds::JOURNEY_BATCH;
        let stored = vault.internal(&permit, kind, &id).await.unwrap().unwrap();
        let body = String::from_utf8(stored.body).unwrap();
        let named = patients.iter().any(|patient| body.contains(patient));
        assert!(!named, "turn {turn}: {body}");
        world.journeys.batch_turn(TENANT).await.unwrap();
    }
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.who.among, batch.total, batch.next), (2, 2, 2));
    assert_eq!((batch.stage, failures), (Stage::Done, Vec::new()));
    for (patient, held) in patients.iter().zip([1, 1, 0]) {
        assert_eq!(says(&world, patient, "Held by A Coordinator").await, held);
    }
}
