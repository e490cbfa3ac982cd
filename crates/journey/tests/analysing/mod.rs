//! How journeys went, added up and written as logs, over a store in which all sorts of things happened.

mod outcomes;
mod pm4py;

use crate::replays::{Chance, all_sorts, happens};
use crate::world::{DAY, HOUR, Mail, TENANT, World, heart_failure};
use journey::{DAYS, JourneyError, LogOf, Pseudonyms, Report, SplitRow, Times, Xes};
use pm4py::{analysed, are_as_pm4py_finds, exports, log, object_log, observes, written};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use trust::{Action, Purpose, Role, TrustError};

const HEART: &str = "heart-failure-discharge";

/// Patients to whom all sorts of things happened.
async fn a_ward(
    source: &str,
    seed: u64,
    patients: usize,
    happenings: usize,
) -> (World, Vec<String>) {
    let mut chance = Chance(seed);
    let world = World::with(Mail::Delivers, source).await;
    let mut ids = Vec::new();
    for _ in 0..patients {
        let patient = world.patient().await;
        world
            .discharge(&patient, chance.below(48) as u64 * HOUR)
            .await;
        ids.push(patient);
    }
    world.drain().await;
    for _ in 0..happenings {
        let patient = chance.one(&ids).clone();
        happens(&world, &patient, &mut chance).await;
    }
    (world, ids)
}

/// What the live counts say, which are made in another way, move by move.
async fn is_as_counted(world: &World, report: &Report) {
    let (permit, version) = (observes(world).await, Some(report.version));
    let graph = world.journeys.graph(&permit, &report.journey, version);
    let graph = graph.await.unwrap();
    assert_eq!(
        (graph.version.running, graph.version.ended),
        (report.running, report.ended)
    );
    let steps: BTreeMap<&str, _> = (report.steps.iter())
        .map(|step| (step.id.as_str(), step))
        .collect();
    let mut compared = 0;
    for node in graph.nodes.iter().filter(|node| node.passes) {
        let Some(step) = steps.get(node.id.as_str()) else {
            continue;
        };
        assert_eq!(
            (node.here, node.entered, node.left, node.ended_here),
            (step.here, step.came, step.left, step.ended_here),
            "{}",
            node.id
        );
        assert_eq!(node.dwell_median_ms, step.dwell.p50_ms, "{}", node.id);
        compared += usize::from(step.came > 0);
    }
    assert!(compared >= 6, "only {compared} steps were come to");
    let ended: u64 = graph.endings.iter().map(|(_, count)| count).sum();
    let told: u64 = report.endings.iter().map(|ending| ending.count).sum();
    assert_eq!((ended, told), (report.ended, report.ended));
}

/// Somebody sends every second patient elsewhere. How many could be sent.
async fn led_by_hand(world: &World, patients: &[String]) -> usize {
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let look = world.staff(Role::Coordinator, Action::Search).await;
    let mut led = 0;
    for (number, patient) in patients.iter().enumerate().step_by(2) {
        let (running, _) = world.journeys.running(&look, patient).await.unwrap();
        let places = running.first().map(|view| view.hand.places.iter());
        let mut places = places.into_iter().flatten();
        let Some(place) = places.find(|place| !place.goes.is_empty()) else {
            continue;
        };
        let act = journey::Act::Jump {
            from: Some(place.n),
            to: place.goes[number % place.goes.len()].step.clone(),
        };
        let id = &running[0].id;
        let done = (world.journeys).act(&work, patient, id, act, "By hand", None);
        led += usize::from(done.await.is_ok());
    }
    led
}

#[tokio::test]
async fn a_journey_is_analysed_as_pm4py_does() {
    let (world, _) = a_ward(&heart_failure(), 3, 8, 40).await;
    let report = analysed(&world, HEART).await;
    is_as_counted(&world, &report).await;
    // Its net is so large that the other tool had not found the fitness after nine minutes.
    are_as_pm4py_finds(&[written(&world, HEART, false).await]);
}

#[tokio::test]
async fn so_is_one_with_rounds_arms_and_branches_that_was_led_by_hand() {
    let (world, patients) = a_ward(&all_sorts(), 7, 12, 10).await;
    let led = led_by_hand(&world, &patients).await;
    assert!(led > 2, "{led}");
    let mut chance = Chance(4);
    for _ in 0..30 {
        let patient = chance.one(&patients).clone();
        happens(&world, &patient, &mut chance).await;
    }
    world.pass(90 * DAY).await;
    let report = analysed(&world, "all-sorts").await;
    is_as_counted(&world, &report).await;
    let splits = report.splits.iter();
    assert!(
        splits
            .map(|split| &split.by)
            .any(|by| by == "arm of two-ways")
    );
    let fitness = &report.fitness;
    assert!(fitness.fit < fitness.measured, "somebody was led by hand");
    assert!(fitness.fit > 0, "somebody went as drawn");
    are_as_pm4py_finds(&[written(&world, "all-sorts", true).await]);
}

/// Nothing of a patient is in a log but activities and times, and whoever is in one is in the audit.
#[tokio::test]
async fn a_log_has_nobody_s_name_and_the_audit_has_everybody_s() {
    let (world, patients) = a_ward(&heart_failure(), 11, 4, 25).await;
    let permit = exports(&world, Purpose::Operations).await;
    let (_, with_times) = log(&world, &permit, HEART, Times::Real, 1).await;
    let (exported, text) = log(&world, &permit, HEART, Times::SinceStart, 2).await;
    assert_eq!((exported.cases, exported.left_out), (4, 0));
    assert!(with_times.contains("2026-11-0") && !text.contains("2026-"));
    let ocel = object_log(&world, &permit, HEART, 3).await;
    for text in [&with_times, &text, &ocel] {
        for told in [
            "Quandt",
            "Ottilie",
            "1941",
            "By chance",
            "Coordinator",
            "84114007",
        ] {
            assert!(!text.contains(told), "{told}");
        }
        for patient in &patients {
            let instance = world.view(patient).await.id;
            assert!(!text.contains(patient.as_str()) && !text.contains(&instance));
        }
    }
    // Two logs have nobody in common.
    let names = |text: &str| -> BTreeSet<String> {
        let cases = text.split("<trace><string key=\"concept:name\" value=\"");
        cases
            .skip(1)
            .map(|case| case[..case.find('"').unwrap()].to_owned())
            .collect()
    };
    assert_eq!(names(&text).len(), 4);
    assert!(names(&text).is_disjoint(&names(&with_times)));
    for patient in &patients {
        let audits = world.audits(patient).await;
        let taken = audits.iter().filter(|audit| {
            let audit = audit.as_value().to_string();
            audit.contains("taken away for HOPERAT in an event log, under a pseudonym")
        });
        assert_eq!(taken.count(), 3);
    }
}

/// Whose consents don't allow a purpose is in no analysis and no log for that, and how many that are is said.
#[tokio::test]
async fn who_denies_it_is_left_out_and_counted() {
    let (world, patients) = a_ward(&heart_failure(), 5, 3, 8).await;
    // The first denies operations, and the second authorizes research, which nobody else has.
    for (patient, sort, purpose) in [
        (&patients[0], "deny", "HOPERAT"),
        (&patients[1], "permit", "HRESCH"),
    ] {
        world.clock.advance(1);
        let consent = json!({
            "resourceType": "Consent", "id": world.mint(patient), "status": "active", "dateTime": world.instant(),
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "patient": {"reference": format!("Patient/{patient}")},
            "provision": {"type": sort, "purpose": [{"system": Purpose::SYSTEM, "code": purpose}]}
        });
        world.put(vec![consent]).await;
    }
    world.drain().await;
    let report = analysed(&world, HEART).await;
    assert_eq!((report.cases, report.left_out), (2, 1));
    let text = report.text();
    assert!(
        text.contains("1 left out: the patient's consents don't allow"),
        "{text}"
    );
    for (purpose, there) in [
        (Purpose::Operations, [false, true, true]),
        (Purpose::Research, [false, true, false]),
    ] {
        let permit = exports(&world, purpose).await;
        let (exported, text) = log(&world, &permit, HEART, Times::SinceStart, 9).await;
        let cases = there.iter().filter(|there| **there).count() as u64;
        assert_eq!((exported.cases, exported.left_out), (cases, 3 - cases));
        assert_eq!(text.matches("<trace>").count() as u64, cases);
        for (patient, there) in patients.iter().zip(there) {
            let instance = world.view(patient).await.id;
            let hash = blake3::Hasher::new_keyed(&[9; 32])
                .update(format!("journey/{instance}").as_bytes())
                .finalize()
                .to_hex();
            assert_eq!(text.contains(&hash[..20]), there, "{purpose:?}");
            let named = format!("taken away for {}", purpose.code());
            let audits = world.audits(patient).await;
            let mut audits = audits.iter().map(|audit| audit.as_value().to_string());
            assert_eq!(
                audits.any(|audit| audit.contains(&named)),
                there,
                "{purpose:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_analysis_is_kept_and_made_one_at_a_time() {
    let (world, _) = a_ward(&heart_failure(), 2, 3, 4).await;
    let permit = observes(&world).await;
    let journeys = &world.journeys;
    let kept = journeys.kept_analysis(&permit, HEART, 1).await.unwrap();
    assert_eq!(kept, (None, false));
    for _ in 0..2 {
        let again = observes(&world).await;
        journeys
            .begin_analysis(again, HEART, 1, DAYS)
            .await
            .unwrap();
        let (_, under_way) = journeys.kept_analysis(&permit, HEART, 1).await.unwrap();
        assert!(under_way);
        let second = observes(&world).await;
        let second = journeys.begin_analysis(second, HEART, 1, DAYS).await;
        assert!(matches!(second, Err(JourneyError::Cannot(_))), "{second:?}");
        while journeys.kept_analysis(&permit, HEART, 1).await.unwrap().1 {
            tokio::task::yield_now().await;
        }
    }
    let (kept, _) = journeys.kept_analysis(&permit, HEART, 1).await.unwrap();
    let kept = kept.unwrap();
    assert_eq!(kept, analysed(&world, HEART).await);
    assert_eq!(kept.cases, 3);
    // Groups of three tell nothing of anybody.
    let splits: BTreeSet<&str> = kept.splits.iter().map(|split| split.by.as_str()).collect();
    assert_eq!(splits, BTreeSet::from(["age", "language", "sex"]));
    let rows = kept.splits.iter().flat_map(|split| &split.rows);
    for row in rows {
        let group = row.group.clone();
        assert_eq!(
            *row,
            SplitRow {
                group,
                ..SplitRow::default()
            }
        );
    }
    let permit = observes(&world).await;
    let unknown = journeys.begin_analysis(permit, HEART, 7, DAYS).await;
    assert!(matches!(unknown, Err(JourneyError::Unknown(_))));
}

#[tokio::test]
async fn analyses_and_logs_are_for_those_who_may() {
    let (world, _) = a_ward(&heart_failure(), 2, 1, 0).await;
    let refused = |error: JourneyError| {
        assert!(
            matches!(error, JourneyError::Trust(TrustError::Refused(_))),
            "{error}"
        );
    };
    let looks = world.staff(Role::Coordinator, Action::Search).await;
    let journeys = &world.journeys;
    refused(
        journeys
            .analyse(&looks, HEART, None, DAYS)
            .await
            .unwrap_err(),
    );
    refused(journeys.kept_analysis(&looks, HEART, 1).await.unwrap_err());
    refused(journeys.net(&looks, HEART, None).await.unwrap_err());
    let observes = observes(&world).await;
    let pseudonyms = Pseudonyms::new(&[1; 32]);
    let of = |journey| LogOf {
        journey,
        version: None,
        pseudonyms: &pseudonyms,
    };
    let mut log = Xes::new(Vec::new(), HEART, Times::Real).unwrap();
    let taken = journeys.export_log(&observes, &of(HEART), &mut log).await;
    refused(taken.unwrap_err());
    let permit = exports(&world, Purpose::Operations).await;
    let none = journeys.export_log(&permit, &of("nothing"), &mut log).await;
    assert!(matches!(none, Err(JourneyError::Unknown(_))));
    let agent = trust::Agent::system(TENANT, "journey-log-exporter");
    for purpose in [Purpose::Treatment, Purpose::CareManagement] {
        let whom = trust::Target::default();
        let decided = world
            .trust
            .decide(&agent, purpose, Action::Export, whom, "test");
        assert!(decided.await.is_err());
    }
}
