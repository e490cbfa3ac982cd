//! Journeys that are started by request: what becomes of it, and what is told where nothing does.

use crate::world::{DAY, HOUR, Mail, World, a_member};
use journey::{Begun, JourneyError, NotStarted, Rollout, VersionStage, Wish};
use serde_json::json;
use std::collections::BTreeMap;
use trust::{Action, Permit, Purpose, Role, Target};

const NAME: &str = "after-surgery";

/// A journey that staff start, or a system.
fn source(per: &str, more: &str) -> String {
    format!(
        "name: {NAME}
title: After surgery
owner: Surgical team
purpose: TREAT
at_most: 60d
entry:
  request:
    by: [clinician, system]
    asks:
      surgery: Day of the operation
  within: 30d
  per: {per}
{more}  who:
    any:
      - has: Condition
        where: code.coding.where(code = '84114007').exists()
exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: call
steps:
  call:
    title: Call the patient
    task: {{title: Call, reason: Surgery, role: coordinator, due: 1d}}
    next: pause
    overdue: pause
  pause:
    title: A week after
    wait: {{until: surgery + 7d, past_due: run}}
    next: end
"
    )
}

fn wish(patient: &str, key: &str, day: &str) -> Wish {
    Wish {
        journey: NAME.to_owned(),
        patient: patient.to_owned(),
        key: key.to_owned(),
        times: BTreeMap::from([("surgery".to_owned(), day.to_owned())]),
        reason: "Hip / replaced".to_owned(),
    }
}

async fn permit(world: &World, role: Role, purpose: Purpose) -> Permit {
    let agent = a_member(role);
    let target = Target {
        kind: Some(fhir::ResourceType::Task),
        patient: None,
    };
    let decided = world
        .trust
        .decide(&agent, purpose, Action::Create, target, "test");
    decided.await.expect("a permit")
}

async fn start(world: &World, permit: &Permit, wish: &Wish) -> Result<Begun, NotStarted> {
    match world.journeys.start(permit, wish).await {
        Ok(begun) => Ok(begun),
        Err(JourneyError::NotStarted(why)) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

/// What is derived from a name is the same in the whole shard, whose number an id begins with: neighbours there are
/// two patients none the less.
#[tokio::test]
async fn neighbours_in_a_shard_start_by_the_same_key() {
    for per in ["event", "patient"] {
        let world = World::with(Mail::Delivers, &source(per, "")).await;
        let clinician = permit(&world, Role::Clinician, Purpose::Treatment).await;
        let mut begun = BTreeMap::new();
        for patient in world.neighbours(3).await {
            let wish = wish(&patient, "a-1", "2026-11-01");
            let first = start(&world, &clinician, &wish).await.expect("started");
            assert!(first.started, "{per}: {first:?}");
            world.drain().await;
            assert_eq!(world.view(&patient).await.id, first.instance, "{per}");
            begun.insert(patient, first.instance);
        }
        let world = world.reopen().await;
        for (patient, instance) in begun {
            let wish = wish(&patient, "a-1", "2026-11-01");
            let again = start(&world, &clinician, &wish).await.expect("there");
            assert_eq!((again.started, again.instance), (false, instance), "{per}");
        }
    }
}

#[tokio::test]
async fn a_request_starts_a_journey_once_and_the_audit_has_who_asked() {
    let world = World::with(Mail::Delivers, &source("event", "")).await;
    let clinician = permit(&world, Role::Clinician, Purpose::Treatment).await;
    let patient = world.patient().await;
    world.drain().await;
    let first = start(&world, &clinician, &wish(&patient, "a-1", "2026-11-01"))
        .await
        .expect("started");
    assert!(first.started && first.running, "{first:?}");
    // The same again is the same, from whoever asks, also when the server was started anew.
    let world = world.reopen().await;
    let system = permit(&world, Role::Client, Purpose::Treatment).await;
    let again = start(&world, &system, &wish(&patient, "a-1", "2026-11-01"))
        .await
        .expect("there");
    assert_eq!((again.started, &again.instance), (false, &first.instance));
    world.drain().await;
    let view = world.view(&patient).await;
    assert_eq!(view.id, first.instance);
    let begun = &view.trail[0];
    assert!(begun.what.starts_with("Started by request"), "{begun:?}");
    assert_eq!(begun.why, "it was asked for: Hip / replaced");
    assert_eq!(begun.reference, None);
    assert_eq!(world.of(&patient, fhir::ResourceType::Task).await.len(), 1);

    let audits = world.audits(&patient).await;
    let by_hand: Vec<String> = audits
        .iter()
        .map(|event| event.as_value().to_string())
        .filter(|event| event.contains("after-surgery: started by hand"))
        .collect();
    assert_eq!(by_hand.len(), 1);
    assert!(by_hand[0].contains("A Clinician") && !by_hand[0].contains("journey-engine"));

    // The counts know of it as of others, and time goes on.
    let squad = world.staff(Role::Squad, Action::Observe).await;
    let counted = async |world: &World| {
        let graph = world.journeys.graph(&squad, NAME, None).await;
        let graph = graph.expect("a graph");
        (graph.version.running, graph.version.ended)
    };
    assert_eq!(counted(&world).await, (1, 0));
    world.clock.advance(DAY);
    for _ in 0..3 {
        world.clock.advance(HOUR);
        world.drain().await;
    }
    assert_eq!(counted(&world).await.0, 1);
}

#[tokio::test]
async fn what_keeps_a_journey_from_starting_is_told() {
    let world = World::with(Mail::Delivers, &source("event", "")).await;
    world.publish(&crate::world::heart_failure()).await;
    let clinician = permit(&world, Role::Clinician, Purpose::Treatment).await;
    let coordinator = permit(&world, Role::Coordinator, Purpose::Treatment).await;
    let payer = permit(&world, Role::Client, Purpose::Payment).await;
    let patient = world.patient().await;
    let other = world.patient_without_condition().await;
    let refuses = world.patient().await;
    world.consent(&refuses, false).await;
    let dead = world.patient().await;
    world
        .put(vec![
            json!({"resourceType": "Patient", "id": dead, "deceasedBoolean": true}),
        ])
        .await;
    let base = |patient: &str| wish(patient, "k", "2026-11-01");
    let named = |journey: &str| Wish {
        journey: journey.to_owned(),
        ..base(&patient)
    };
    let keyed = |key: &str| wish(&patient, key, "2026-11-01");
    let timed = |name: &str, time: &str| {
        let mut wish = base(&patient);
        wish.times.insert(name.to_owned(), time.to_owned());
        wish
    };
    let silent = Wish {
        reason: " ".to_owned(),
        ..base(&patient)
    };
    let timeless = Wish {
        times: BTreeMap::new(),
        ..base(&patient)
    };
    for (permit, wish, words) in [
        (&clinician, named("none"), "there is no journey none"),
        (
            &clinician,
            named("heart-failure-discharge"),
            "is not started by request",
        ),
        (&coordinator, base(&patient), "doesn't name you"),
        (&payer, base(&patient), "to treat or to manage care"),
        (&clinician, base("nobody"), "no such patient"),
        (&clinician, base(&other), "not for this patient"),
        (&clinician, base(&refuses), "consents don't allow it"),
        (&clinician, base(&dead), "would end at once: Died"),
        (&clinician, keyed(""), "`key` has"),
        (&clinician, keyed("a/b"), "`key` has"),
        (&clinician, silent, "`reason` says why"),
        (
            &clinician,
            timeless,
            "`surgery` is missing: Day of the operation",
        ),
        (
            &clinician,
            timed("surgery", "2026-11"),
            "is no date or time",
        ),
        (&clinician, timed("surgery", "2026-06-01"), "`within`"),
        (
            &clinician,
            timed("other", "2026-11-01"),
            "`other` is nothing that",
        ),
    ] {
        let why = start(&world, permit, &wish).await.expect_err(words);
        assert!(why.to_string().contains(words), "{words}: {why}");
    }
    world.drain().await;
    for patient in [&patient, &other, &refuses, &dead] {
        assert!(world.views(patient).await.is_empty());
    }
    // Who may not create tasks starts nothing at all.
    let squad = world.staff(Role::Squad, Action::Observe).await;
    let wish = wish(&patient, "k", "2026-11-01");
    let refused = world.journeys.start(&squad, &wish);
    assert!(matches!(refused.await, Err(JourneyError::Trust(_))));
}

#[tokio::test]
async fn a_patient_takes_a_journey_as_often_as_it_says() {
    for (per, more, second, changed) in [
        (
            "event",
            "",
            Err(NotStarted::Running),
            Err(NotStarted::KeyUsed),
        ),
        (
            "event",
            "  while_running: beside\n",
            Ok(()),
            Err(NotStarted::KeyUsed),
        ),
        (
            "patient",
            "",
            Err(NotStarted::Once),
            Err(NotStarted::KeyUsed),
        ),
    ] {
        let world = World::with(Mail::Delivers, &source(per, more)).await;
        let clinician = permit(&world, Role::Clinician, Purpose::Treatment).await;
        let patient = world.patient().await;
        let one = wish(&patient, "one", "2026-11-01");
        start(&world, &clinician, &one).await.expect("started");
        let told = start(&world, &clinician, &wish(&patient, "two", "2026-11-01")).await;
        assert_eq!(told.map(|_| ()), second, "{per} {more}");
        let told = start(&world, &clinician, &wish(&patient, "one", "2026-11-02")).await;
        assert_eq!(told.map(|_| ()), changed, "{per} {more}");
    }
}

/// An older version is no stand-in for one that this program can't read.
#[tokio::test]
async fn of_a_newer_program_s_journey_nothing_is_started() {
    let world = World::with(Mail::Delivers, &source("event", "")).await;
    let clinician = permit(&world, Role::Clinician, Purpose::Treatment).await;
    let patient = world.patient().await;
    let newer = source("event", "  of_tomorrow: true\n");
    let stored = json!({"name": NAME, "version": 2, "source": newer, "published_ms": world.now(), "published_by": "x"});
    let engine = world
        .part("command-line", Purpose::Operations, Action::Publish)
        .await;
    let unit = trust::Unit {
        internals: vec![trust::Internal {
            kind: trust::kinds::JOURNEY_DEFINITION,
            id: "00000000-0000-4000-8000-000000000002".to_owned(),
            owner: ledger::Owner::Tenant,
            expected: ledger::Expected::Absent,
            body: stored.to_string().into_bytes(),
            deleted: false,
            tokens: vec![("name".to_owned(), NAME.to_owned())],
        }],
        ..trust::Unit::default()
    };
    world
        .trust
        .vault()
        .commit(&engine, unit)
        .await
        .expect("published");
    let told = start(&world, &clinician, &wish(&patient, "k", "2026-11-01")).await;
    assert_eq!(told, Err(NotStarted::Unread(NAME.to_owned())));
    assert!(world.views(&patient).await.is_empty());
}

/// A request starts each patient on the version that they are drawn for while one is staged, and what has been started
/// stays what it is.
#[tokio::test]
async fn a_request_starts_on_the_version_that_the_patient_is_drawn_for() {
    let world = World::with(Mail::Delivers, &source("event", "")).await;
    let squad = world.staff(Role::Squad, Action::Publish).await;
    let second = source("event", "").replace("title: Call the patient", "title: Ring the patient");
    let some = |share| Rollout {
        share,
        sites: Vec::new(),
    };
    let (staged, checked) = (VersionStage::Staged, VersionStage::Checked);
    let half = some(50);
    let kept = (world.journeys).stage_file(&squad, &second, staged, &half, "Try it");
    assert_eq!(kept.await.expect("staged").version, 2);
    let clinician = permit(&world, Role::Clinician, Purpose::Treatment).await;
    let started = async |count: usize| {
        let mut started = Vec::new();
        for _ in 0..count {
            let patient = world.patient().await;
            world.drain().await;
            let first = start(&world, &clinician, &wish(&patient, "a-1", "2026-11-01")).await;
            let first = first.expect("started");
            assert!(first.started);
            world.drain().await;
            let view = world.view(&patient).await;
            assert_eq!(view.id, first.instance);
            started.push((patient, view.id, view.version));
        }
        started
    };
    let first = started(24).await;
    let on = |version| first.iter().filter(|one| one.2 == version).count();
    // By ids that are drawn anew each time: all alike once in some million runs.
    assert!(on(1) > 0 && on(2) > 0 && on(1) + on(2) == 24, "{first:?}");
    for (rollout, to, expected) in [(some(100), staged, 2), (some(1), checked, 1)] {
        let set = (world.journeys).set_stage(&squad, NAME, 2, to, &rollout, "Because");
        set.await.expect("set");
        for (patient, instance, version) in &first {
            let wish = wish(patient, "a-1", "2026-11-01");
            let again = start(&world, &clinician, &wish).await.expect("there");
            assert_eq!((again.started, &again.instance), (false, instance));
            assert_eq!(world.view(patient).await.version, *version);
        }
        for (_, _, version) in started(3).await {
            assert_eq!(version, expected, "{to:?}");
        }
    }
}
