//! Journeys that other journeys begin: over the store, through crashes, and what they are told of each other.

use crate::world::{DAY, HOUR, Mail, World, a_member};
use fhir::{Resource, ResourceType};
use journey::{Act, InstanceView, JourneyError, Wish};
use serde_json::json;
use std::collections::BTreeMap;
use trust::{Action, Purpose, Role, Target};

const EXITS: &str = "exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
";

/// Wound care: somebody looks at the wound, and that is that.
fn wound(more: &str) -> String {
    format!(
        "name: wound-care
title: Wound care
owner: Surgical team
purpose: TREAT
at_most: 60d
entry: {{request: {{by: [clinician]}}, per: event{more}}}
{EXITS}start: look
steps:
  look:
    title: Look at the wound
    task: {{title: Look at the wound, reason: Surgery, role: clinician, due: 20d, outcomes: {{well: healed}}}}
    next: end
    overdue: end
  healed: {{title: Healed, exit: {{reason: Healed}}}}
"
    )
}

/// What begins it, and then calls in each case.
fn surgery(more: &str) -> String {
    let call = |id: &str| {
        format!(
            "  {id}:
    title: Call
    task: {{title: \"{id}\", reason: Surgery, role: coordinator, due: 1d}}
    next: end
    overdue: end
"
        )
    };
    let calls: String = ["good", "other", "refused", "late"].map(call).concat();
    format!(
        "name: surgery
title: After surgery
owner: Surgical team
purpose: TREAT
at_most: 90d
entry: {{request: {{by: [clinician]}}, per: event}}
{EXITS}start: wound
steps:
  wound:
    title: The wound
    journey: {{begins: wound-care, up_to: 10d, endings: {{healed: good}}{more}}}
    next: other
    not_begun: refused
    time_over: late
{calls}"
    )
}

async fn start(world: &World, patient: &str, journey: &str) {
    let target = Target {
        kind: Some(ResourceType::Task),
        patient: None,
    };
    let agent = a_member(Role::Clinician);
    let permit = world
        .trust
        .decide(&agent, Purpose::Treatment, Action::Create, target, "test")
        .await
        .expect("a permit");
    let wish = Wish {
        journey: journey.to_owned(),
        patient: patient.to_owned(),
        key: format!("{journey}-1"),
        times: BTreeMap::new(),
        reason: "Hip replaced".to_owned(),
    };
    world.journeys.start(&permit, &wish).await.expect("started");
}

async fn both(more: &str, of_child: &str) -> (World, String) {
    let world = World::with(Mail::Delivers, &wound(of_child)).await;
    world.publish(&surgery(more)).await;
    let patient = world.patient().await;
    world.drain().await;
    (world, patient)
}

async fn views(world: &World, patient: &str) -> Vec<InstanceView> {
    world.views(patient).await
}

/// How a journey ended; `runs` where it does, nothing where the patient isn't in it.
async fn ending(world: &World, patient: &str, journey: &str) -> Option<String> {
    let views = views(world, patient).await;
    let mut found = views.iter().filter(|view| view.journey == journey);
    let view = found.next()?;
    assert!(found.next().is_none(), "{journey} runs twice");
    let ended = view.ended.as_ref();
    Some(ended.map_or_else(|| "runs".to_owned(), |(_, title)| title.clone()))
}

async fn task(world: &World, patient: &str, title: &str) -> Option<Resource> {
    let tasks = world.of(patient, ResourceType::Task).await;
    let mut found = tasks.into_iter();
    found.find(|task| task.text_at(&["description"]) == Some(title))
}

#[tokio::test]
async fn a_part_is_begun_once_and_its_ending_leads_on_through_a_crash() {
    let (world, patient) = both("", "").await;
    start(&world, &patient, "surgery").await;
    // The order is durable, and nobody has read it: the crash between the two journeys.
    let world = world.after_crash();
    assert_eq!(ending(&world, &patient, "wound-care").await, None);
    world.drain().await;
    assert_eq!(
        ending(&world, &patient, "wound-care").await.unwrap(),
        "runs"
    );
    let views_now = views(&world, &patient).await;
    let parent = views_now.iter().find(|view| view.journey == "surgery");
    let waits = &parent.expect("the first").waiting[0];
    assert!(waits.what.contains("wound-care"), "{waits:?}");

    let look = task(&world, &patient, "Look at the wound").await;
    world
        .finish_task(&look.expect("a task"), Some("well"))
        .await;
    world.drain().await;
    let world = world.reopen().await;
    world.drain().await;
    let wound_care = ending(&world, &patient, "wound-care").await;
    assert_eq!(wound_care.as_deref(), Some("Healed"));
    assert!(task(&world, &patient, "good").await.is_some());
    let order = task(&world, &patient, "Journey wound-care").await.unwrap();
    assert_eq!(order.text_at(&["status"]), Some("completed"));
}

#[tokio::test]
async fn other_endings_take_the_way_on_and_time_ends_the_part() {
    let (world, patient) = both("", "").await;
    start(&world, &patient, "surgery").await;
    world.drain().await;
    let look = task(&world, &patient, "Look at the wound").await;
    world.finish_task(&look.expect("a task"), None).await;
    world.drain().await;
    assert!(task(&world, &patient, "other").await.is_some());

    for (more, left) in [
        ("", "Ended with the journey that began it"),
        (", when_left: go_on", "runs"),
    ] {
        let (world, patient) = both(more, "").await;
        start(&world, &patient, "surgery").await;
        world.until(10 * DAY - HOUR).await;
        assert_eq!(
            ending(&world, &patient, "wound-care").await.unwrap(),
            "runs"
        );
        world.until(10 * DAY + HOUR).await;
        assert!(task(&world, &patient, "late").await.is_some(), "{more}");
        assert_eq!(ending(&world, &patient, "wound-care").await.unwrap(), left);
        // It tells of its end, and nobody waits for that any more.
        world.until(40 * DAY).await;
        assert!(task(&world, &patient, "other").await.is_none());
    }
}

#[tokio::test]
async fn what_is_stopped_by_hand_takes_its_part_along() {
    let (world, patient) = both("", "").await;
    start(&world, &patient, "surgery").await;
    world.drain().await;
    let views_now = views(&world, &patient).await;
    let parent = views_now.iter().find(|view| view.journey == "surgery");
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    let id = &parent.expect("the first").id;
    world
        .journeys
        .stop(&permit, id, "Moved away")
        .await
        .expect("stopped");
    world.drain().await;
    let left = ending(&world, &patient, "wound-care").await;
    assert_eq!(
        left.as_deref(),
        Some("Ended with the journey that began it")
    );
    let look = task(&world, &patient, "Look at the wound").await.unwrap();
    assert_eq!(look.text_at(&["status"]), Some("cancelled"));
}

/// Of several patients, because the new order and the end of the old one come in either order.
#[tokio::test]
async fn a_part_that_is_begun_anew_by_hand_takes_the_place_of_the_old_one() {
    let (world, _) = both("", "").await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    for _ in 0..6 {
        let patient = world.patient().await;
        start(&world, &patient, "surgery").await;
        world.drain().await;
        let views_now = views(&world, &patient).await;
        let parent = views_now.iter().find(|view| view.journey == "surgery");
        let id = parent.expect("the first").id.clone();
        let anew = journey::Act::Retry { n: 1 };
        let acted = world
            .journeys
            .act(&work, &patient, &id, anew, "Again", None);
        acted.await.expect("begun anew");
        world.drain().await;
        let views_now = views(&world, &patient).await;
        let parts = views_now.iter().filter(|view| view.journey == "wound-care");
        let runs: Vec<bool> = parts.map(|view| view.ended.is_none()).collect();
        assert_eq!(runs.len(), 2, "the old one and the new one");
        assert_eq!(runs.iter().filter(|runs| **runs).count(), 1);
        assert!(task(&world, &patient, "refused").await.is_none());
    }
}

#[tokio::test]
async fn a_part_that_cant_begin_says_so() {
    // The patient is in it already.
    let (world, patient) = both("", "").await;
    start(&world, &patient, "wound-care").await;
    start(&world, &patient, "surgery").await;
    world.drain().await;
    assert!(task(&world, &patient, "refused").await.is_some());
    assert_eq!(
        ending(&world, &patient, "wound-care").await.unwrap(),
        "runs"
    );
    // It is for others.
    let of_child = ", who: {any: [{has: Condition, where: code.coding.exists(code = 'none')}]}";
    let (world, patient) = both("", of_child).await;
    start(&world, &patient, "surgery").await;
    world.drain().await;
    assert!(task(&world, &patient, "refused").await.is_some());
    assert_eq!(ending(&world, &patient, "wound-care").await, None);
    let order = task(&world, &patient, "Journey wound-care").await.unwrap();
    assert_eq!(order.text_at(&["status"]), Some("rejected"));
}

/// An order that no place of a journey stands for, by whoever wrote it, begins nothing.
#[tokio::test]
async fn nobody_else_can_order_a_journey() {
    let (world, patient) = both("", "").await;
    start(&world, &patient, "surgery").await;
    world.drain().await;
    let order = task(&world, &patient, "Journey wound-care").await.unwrap();
    let look = task(&world, &patient, "Look at the wound").await.unwrap();
    world.finish_task(&look, Some("well")).await;
    world.drain().await;
    let mut forged = order.into_value();
    forged["id"] = json!("forged");
    forged["status"] = json!("in-progress");
    world.put(vec![forged]).await;
    world.drain().await;
    assert_eq!(views(&world, &patient).await.len(), 2);
}

#[tokio::test]
async fn what_begins_itself_or_nobody_knows_is_not_published() {
    let world = World::with(Mail::Delivers, &wound("")).await;
    let permit = world.staff(Role::Squad, Action::Publish).await;
    let refused = async |source: &str| match world.journeys.publish(&permit, source).await {
        Err(JourneyError::Findings(found)) => found
            .iter()
            .map(|one| format!("{} {}", one.code, one.message))
            .collect::<Vec<_>>()
            .join("\n"),
        other => panic!("{other:?}"),
    };
    let unknown = surgery("").replace("begins: wound-care", "begins: nowhere");
    assert!(
        refused(&unknown)
            .await
            .contains("J058 no journey `nowhere` is live")
    );
    let itself = surgery("").replace("begins: wound-care", "begins: surgery");
    assert!(
        refused(&itself)
            .await
            .contains("J058 this journey would begin itself")
    );
    world.publish(&surgery("")).await;
    let round = surgery("")
        .replace("name: surgery", "name: wound-care")
        .replace("begins: wound-care", "begins: surgery");
    assert!(
        refused(&round)
            .await
            .contains("J058 `surgery` begins `wound-care` again")
    );
}

/// A file alone: a scenario says how the part ended, a simulation draws it and lets staff do nothing for it.
#[test]
fn scenarios_say_how_a_part_ended_and_simulations_assume_it() {
    let definition = journey::Definition::compile(&surgery(""), 1).expect("compiled");
    for (said, leads_to) in [
        ("outcome: healed", "good"),
        ("outcome: completed", "other"),
        ("status: cancelled", "other"),
        ("status: rejected", "refused"),
    ] {
        let scenarios = format!(
            "given:
  now: 2026-03-02T11:00:00Z
  request: {{}}
scenarios:
  - name: It ends
    when:
      - after: 2d
        task: {{step: wound, {said}}}
    then:
      is_at: [{leads_to}]
"
        );
        let tested = journey::test(&definition, &scenarios).expect("a scenario");
        assert!(tested.passed(), "{said}: {}", tested.text());
    }
    let behaviour = journey::Behaviour::parse(
        &definition,
        "steps: {wound: {outcomes: {healed: 1}, within: 2d}}\n",
    );
    let size = journey::Size {
        patients: 20,
        days: 60,
        seed: 7,
        threads: 1,
    };
    let report = journey::simulate(&definition, &behaviour.expect("behaviour"), size);
    let tasks: u64 = report.tasks_by_day.iter().sum();
    assert_eq!(tasks, 20, "one call for each, and none for the order");
    let says = report.assumptions.join("\n");
    assert!(
        says.contains("The journeys that it begins are not led"),
        "{says}"
    );
}

/// Nor does it go live by its stages, though what it is now may be kept and checked.
#[tokio::test]
async fn what_begins_itself_or_nobody_knows_is_neither_staged_nor_live() {
    use journey::VersionStage::{Checked, Live, Staged};
    let world = World::with(Mail::Delivers, &wound("")).await;
    world.publish(&surgery("")).await;
    let permit = world.staff(Role::Squad, Action::Publish).await;
    let all = journey::Rollout {
        share: 100,
        sites: Vec::new(),
    };
    let round = surgery("")
        .replace("name: surgery", "name: wound-care")
        .replace("begins: wound-care", "begins: surgery");
    let unknown = surgery("").replace("begins: wound-care", "begins: nowhere");
    for (source, words) in [
        (&round, "J058 `surgery` begins `wound-care` again"),
        (&unknown, "J058 no journey `nowhere` is live"),
    ] {
        let journeys = &world.journeys;
        let checked = journeys.stage_file(&permit, source, Checked, &all, "x");
        assert_eq!(checked.await.expect("kept").stage, Checked);
        let mut answers = Vec::new();
        for to in [Staged, Live] {
            answers.push(journeys.stage_file(&permit, source, to, &all, "x").await);
        }
        answers.push(journeys.publish(&permit, source).await);
        for answer in answers {
            let Err(JourneyError::Findings(found)) = answer else {
                panic!("{answer:?}");
            };
            let found = format!("{} {}", found[0].code, found[0].message);
            assert!(found.contains(words), "{found}");
        }
    }
}

/// What an act has begun runs for days; the act is not taken back under it.
#[tokio::test]
async fn an_act_that_began_a_journey_is_not_taken_back_while_that_runs() {
    let (world, patient) = both("", "").await;
    start(&world, &patient, "surgery").await;
    world.drain().await;
    let look = world.staff(Role::Coordinator, Action::Search).await;
    let running = async || {
        world
            .journeys
            .running(&look, &patient)
            .await
            .expect("views")
            .0
    };
    let of = |views: &[InstanceView], journey: &str| {
        let mut views = views.iter();
        let found = views.find(|view| view.journey == journey && view.ended.is_none());
        found.expect("it runs").clone()
    };
    let surgery = of(&running().await, "surgery");
    let first = of(&running().await, "wound-care").id;
    let n = surgery.hand.places[0].n;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let act = |act| {
        world
            .journeys
            .act(&work, &patient, &surgery.id, act, "Again", None)
    };
    act(Act::Retry { n }).await.expect("done");
    // Nothing of it has begun yet, so it could be taken back still.
    let foreseen = world
        .journeys
        .foresee(&look, &patient, &surgery.id, &Act::Undo)
        .await;
    assert!(foreseen.is_ok(), "{foreseen:?}");
    world.drain().await;
    world.pass(3 * DAY).await;
    let second = of(&running().await, "wound-care").id;
    assert_ne!(first, second);
    let foreseen = world
        .journeys
        .foresee(&look, &patient, &surgery.id, &Act::Undo)
        .await;
    for refused in [foreseen.map(drop), act(Act::Undo).await] {
        let Err(JourneyError::Cannot(why)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(
            why,
            "it has begun the journey wound-care, which is under way; end that one first"
        );
    }
    assert_eq!(of(&running().await, "wound-care").id, second);
}
