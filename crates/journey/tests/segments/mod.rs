//! Journeys that begin by a segment, end by one and wait for one.

mod order;

use crate::world::{DAY, Mail, World};
use fhir::ResourceType;
use journey::InstanceView;
use serde_json::{Value, json};

pub(crate) const NAME: &str = "segmented";
/// Longer than a look is put off.
pub(crate) const MINUTE: u64 = 60_000;

const OVERDUE: &str = "  overdue:
    title: Nothing measured in a year
    all:
      - has: Condition
        where: code.coding.exists(code = '84114007')
      - has_no: Observation
        where: status = 'final' and code.coding.exists(code = '4548-4')
        dated: effective
        within: 12mo
";

/// A journey with these segments, entry, exits besides, and steps.
fn file(segments: &str, entry: &str, exits: &str, steps: &str) -> String {
    format!(
        "name: {NAME}
title: By a segment
owner: Team
purpose: TREAT
at_most: 3000d
segments:
{segments}entry:
{entry}exits:
{exits}  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: first
steps:
{steps}"
    )
}

const CALL: &str = "  first:
    title: Call
    task: {title: Call, reason: Overdue., role: coordinator, due: 2000d}
    next: end
    overdue: end
";

pub(crate) fn overdue(more: &str) -> String {
    file(
        OVERDUE,
        &format!("  segment: overdue\n  per: event\n{more}"),
        "  measured: {title: Measured, segment: {left: overdue}}\n",
        CALL,
    )
}

pub(crate) async fn measure(world: &World, patient: &str, name: &str, at_ms: u64, status: &str) {
    let owner = ledger::Owner::Patient(patient.to_owned());
    let ledger = world.trust.vault().ledger();
    let id = ledger.derive_id(crate::world::TENANT, &owner, &format!("{patient}/{name}"));
    world
        .put(vec![json!({
            "resourceType": "Observation", "id": id, "status": status,
            "subject": {"reference": format!("Patient/{patient}")},
            "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]},
            "effectiveDateTime": fhir::date::instant(at_ms)
        })])
        .await;
}

/// A patient's journeys by this file, oldest first.
pub(crate) async fn of_it(world: &World, patient: &str) -> Vec<InstanceView> {
    let mut views: Vec<InstanceView> = world.views(patient).await;
    views.retain(|view| view.journey == NAME);
    views.sort_by_key(|view| view.started_ms);
    views
}

async fn ends(world: &World, patient: &str) -> Vec<Option<String>> {
    let views = of_it(world, patient).await.into_iter();
    views.map(|view| view.ended.map(|(_, why)| why)).collect()
}

pub(crate) fn looks(world: &World) -> u64 {
    let figures = world.journeys.figures(crate::world::TENANT);
    figures.map_or(0, |figures| figures.looks)
}

#[tokio::test]
async fn patients_come_in_and_leave_by_what_is_written_and_by_time_alone() {
    let world = World::with(Mail::Delivers, &overdue("")).await;
    world.drain().await;
    let patient = world.patient().await;
    world.drain().await;
    assert_eq!(
        ends(&world, &patient).await,
        [],
        "a look comes a little later"
    );
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &patient).await, [None]);
    assert_eq!(world.tasks(&patient).await.len(), 1);
    // A look that finds the same changes nothing.
    world.condition(&patient).await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &patient).await, [None]);

    let measured_ms = world.now();
    measure(&world, &patient, "a", measured_ms, "final").await;
    world.pass(MINUTE).await;
    let left = Some("Measured".to_owned());
    assert_eq!(ends(&world, &patient).await, std::slice::from_ref(&left));

    // Time alone, over a restart.
    let world = world.reopen().await;
    world.pass(364 * DAY).await;
    assert_eq!(ends(&world, &patient).await, std::slice::from_ref(&left));
    world.pass(2 * DAY).await;
    assert_eq!(ends(&world, &patient).await, [left.clone(), None]);
    let second = &of_it(&world, &patient).await[1];
    assert_eq!(second.started_ms, measured_ms + 365 * DAY);
    let why = &second.trail[0].why;
    assert_eq!(why, "a segment was looked at");

    // What is corrected and what is deleted is looked at, too.
    measure(&world, &patient, "b", world.now(), "final").await;
    world.pass(MINUTE).await;
    measure(&world, &patient, "b", world.now(), "entered-in-error").await;
    world.pass(MINUTE).await;
    assert_eq!(
        ends(&world, &patient).await,
        [left.clone(), left.clone(), None]
    );
    world.delete(&patient, ResourceType::Condition).await;
    world.pass(MINUTE).await;
    assert_eq!(
        ends(&world, &patient).await,
        [left.clone(), left.clone(), left]
    );
    let timer = world.trust.vault().ledger().next_timer_ms().await.unwrap();
    assert_eq!(timer, None, "nobody is woken for nothing");
    assert_eq!(world.letters().await.len(), 0);
}

#[tokio::test]
async fn consents_labels_and_death_are_asked() {
    let world = World::with(Mail::Delivers, &overdue("")).await;
    world.drain().await;
    let (unwilling, dead, labelled) = (
        world.patient().await,
        world.patient().await,
        world.patient().await,
    );
    // What coordinators may not see is not taken to be missing.
    let owner = ledger::Owner::Patient(labelled.clone());
    let id = world
        .trust
        .vault()
        .ledger()
        .mint_id(crate::world::TENANT, &owner);
    let secret = |meta: Value| {
        json!({
            "resourceType": "Observation", "id": id, "status": "final", "meta": meta,
            "subject": {"reference": format!("Patient/{labelled}")},
            "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]},
            "effectiveDateTime": "2020-01-01"
        })
    };
    let label = json!({"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"}]});
    world.put(vec![secret(label)]).await;
    world.consent(&unwilling, false).await;
    world.die(&dead).await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &unwilling).await, []);
    assert_eq!(ends(&world, &dead).await, []);
    assert_eq!(ends(&world, &labelled).await, []);
    // They may now, and are in still.
    world.consent(&unwilling, true).await;
    world.put(vec![secret(json!({"source": "urn:x"}))]).await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &unwilling).await, [None]);
    assert_eq!(ends(&world, &labelled).await, [None]);
    // Withdrawn, and given again, in the same stay: it has begun.
    world.consent(&unwilling, false).await;
    world.pass(MINUTE).await;
    world.consent(&unwilling, true).await;
    world.pass(MINUTE).await;
    let withdrawn = Some("Consent withdrawn".to_owned());
    assert_eq!(ends(&world, &unwilling).await, [withdrawn]);
    // Death ends it by the exit for that.
    world.die(&labelled).await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &labelled).await, [Some("Died".to_owned())]);
}

/// Who was in the record before is taken in, however often the look through it is broken off.
#[tokio::test]
async fn patients_who_are_there_already_are_taken_in() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for n in 0..130 {
        let patient = world.patient_without_condition().await;
        if n % 3 != 0 {
            world.condition(&patient).await;
        }
        if n % 3 == 2 {
            measure(&world, &patient, "a", world.now() - DAY, "final").await;
        }
        patients.push(patient);
    }
    world.drain().await;
    world.publish(&overdue("")).await;
    let (stop, task) = world.follow();
    world
        .wait_for(|| async {
            let mut any = false;
            for patient in &patients {
                any |= !of_it(&world, patient).await.is_empty();
            }
            any
        })
        .await;
    stop.send(true).unwrap();
    task.await.unwrap();
    let world = world.after_crash();
    world.drain().await;
    for (n, patient) in patients.iter().enumerate() {
        let expected = usize::from(n % 3 == 1);
        assert_eq!(of_it(&world, patient).await.len(), expected, "{n}");
    }
    // Whose time had not come is known.
    world.pass(366 * DAY).await;
    for (n, patient) in patients.iter().enumerate() {
        let expected = usize::from(n % 3 != 0);
        assert_eq!(of_it(&world, patient).await.len(), expected, "{n}");
    }
    assert_eq!(world.letters().await.len(), 0);
}

/// However much is written of a patient, they are looked at once; and who is asked about by nobody not at all.
#[tokio::test]
async fn many_events_are_one_look() {
    let world = World::with(Mail::Delivers, &overdue("")).await;
    let (busy, other) = (
        world.patient().await,
        world.patient_without_condition().await,
    );
    world.pass(MINUTE).await;
    let before = looks(&world);
    for n in 0..300 {
        measure(
            &world,
            &busy,
            &n.to_string(),
            world.now() - n * DAY,
            "final",
        )
        .await;
        if n % 50 == 0 {
            world.drain().await;
        }
    }
    world.pass(MINUTE).await;
    assert_eq!(looks(&world) - before, 1);
    // An import that goes on: the more there is, the less often it is looked at.
    let (before, start_ms) = (looks(&world), world.now());
    for n in 0..600 {
        measure(
            &world,
            &busy,
            &format!("more {n}"),
            world.now() - n * DAY,
            "final",
        )
        .await;
        world.clock.advance(100);
        world.drain().await;
    }
    let (looked, time_ms) = (looks(&world) - before, world.now() - start_ms);
    assert!(
        looked <= time_ms / 2300 + 1,
        "{looked} looks in {time_ms} ms"
    );
    assert!(looked >= 10, "{looked} looks in {time_ms} ms");
    // What no segment asks about.
    world.pass(MINUTE).await;
    let before = looks(&world);
    world.cover(&other, "active", "2030-01-01").await;
    world.pass(MINUTE).await;
    assert_eq!(looks(&world), before);
}

const WAITS: &str = "  first:
    title: Until both
    wait:
      all_of:
        - segment: {left: overdue}
        - first_of: [{segment: {entered: old}}, {for: 40d}]
      at_most: 60d
    next: which
    not_come: end
  which:
    title: Until one
    wait:
      first_of:
        - {segment: {entered: overdue}, next: again}
        - {for: 500d, next: end}
  again:
    title: Again
    task: {title: Again, reason: Overdue., role: coordinator, due: 2000d}
    next: end
    overdue: end
";

#[tokio::test]
async fn waits_for_segments_come_with_others() {
    let segments = format!("{OVERDUE}  old:\n    title: Old\n    all: [{{aged: {{from: 86}}}}]\n");
    let entry = "  event: Procedure\n  where: status = 'completed'\n  anchors: {done: performedDateTime}\n  within: 3d\n  per: event\n";
    let world = World::with(Mail::Delivers, &file(&segments, entry, "", WAITS)).await;
    // Born on 1941-03-07: 86 next year.
    let (first, second, never) = (
        world.patient().await,
        world.patient().await,
        world.patient().await,
    );
    for patient in [&first, &second, &never] {
        world.operate(patient).await;
    }
    world.pass(MINUTE).await;
    let waits = async |world: &World, patient: &str| {
        let view = of_it(world, patient).await.remove(0);
        view.waiting
            .into_iter()
            .map(|wait| (wait.step, wait.what))
            .next()
    };
    let (step, what) = waits(&world, &first).await.unwrap();
    assert_eq!(step, "first");
    assert!(
        what.contains("the patient to be not in “Nothing measured in a year”"),
        "{what}"
    );
    measure(&world, &first, "a", world.now(), "final").await;
    measure(&world, &second, "a", world.now() - 350 * DAY, "final").await;
    let world = world.reopen().await;
    world.pass(39 * DAY).await;
    assert_eq!(waits(&world, &first).await.unwrap().0, "first");
    world.pass(2 * DAY).await;
    assert_eq!(waits(&world, &first).await.unwrap().0, "which");
    // Who is in already goes on at once: the value of the second is a year old by now.
    assert_eq!(waits(&world, &second).await.unwrap().0, "again");
    assert_eq!(waits(&world, &never).await.unwrap().0, "first");
    world.pass(20 * DAY).await;
    assert_eq!(
        ends(&world, &never).await,
        [Some("Completed".to_owned())],
        "given up"
    );
    world.pass(320 * DAY).await;
    assert_eq!(waits(&world, &first).await.unwrap().0, "again");
    assert_eq!(world.letters().await.len(), 0);
}

/// Who is under way keeps the segments of their version; who begins has those of the new one, and nobody begins anew
/// because of the change.
#[tokio::test]
async fn a_changed_segment_is_another_version() {
    let world = World::with(Mail::Delivers, &overdue("")).await;
    let (early, late) = (world.patient().await, world.patient().await);
    measure(&world, &late, "a", world.now() - 200 * DAY, "final").await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &early).await, [None]);
    assert_eq!(ends(&world, &late).await, []);
    // Overdue after six months.
    world
        .publish(&overdue("").replace("within: 12mo", "within: 6mo"))
        .await;
    world.pass(MINUTE).await;
    assert_eq!(of_it(&world, &early).await.len(), 1);
    let begun = of_it(&world, &late).await;
    assert_eq!(begun.len(), 1);
    assert_eq!(begun[0].version, 2);
    // A value of eight months ago: in time for the first version alone.
    measure(&world, &early, "a", world.now() - 240 * DAY, "final").await;
    measure(&world, &late, "b", world.now() - 240 * DAY, "final").await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &early).await, [Some("Measured".to_owned())]);
    assert_eq!(ends(&world, &late).await, [None]);
}

/// What a rule keeps from beginning stands on the patient's page, and doesn't begin later in the same stay.
#[tokio::test]
async fn what_is_refused_is_told_and_stays_so() {
    let world = World::with(Mail::Delivers, &overdue("  again: {after: 30d}\n")).await;
    let patient = world.patient().await;
    world.pass(MINUTE).await;
    measure(&world, &patient, "a", world.now(), "final").await;
    world.pass(MINUTE).await;
    measure(&world, &patient, "a", world.now(), "entered-in-error").await;
    world.pass(MINUTE).await;
    let left = Some("Measured".to_owned());
    assert_eq!(ends(&world, &patient).await, std::slice::from_ref(&left));
    let permit = world
        .staff(trust::Role::Coordinator, trust::Action::Search)
        .await;
    let found = world.journeys.beginnings(&permit, &patient).await.unwrap();
    let why: Vec<&str> = found.refused.iter().map(|one| one.why.as_str()).collect();
    assert_eq!(why, ["The last time ended less than 30 days ago"]);
    world.pass(60 * DAY).await;
    world.condition(&patient).await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &patient).await.len(), 1);
}

/// A journey that is held is told of its segment by looks as well, and looks fill nothing up.
#[tokio::test]
async fn held_journeys_are_told_when_they_go_on() {
    use journey::Act;
    let segments = format!("{OVERDUE}  old:\n    title: Old\n    all: [{{aged: {{from: 86}}}}]\n");
    let steps = "  first: {title: A day, wait: {for: 24h}, next: which}
  which:
    title: Until one
    wait:
      first_of:
        - {segment: {left: overdue}, next: end}
        - {for: 500d, next: end}
";
    let entry = "  event: Procedure\n  where: status = 'completed'\n  anchors: {done: performedDateTime}\n  within: 3d\n  per: event\n";
    let exits = "  old: {title: Old, segment: {entered: old}}\n";
    let world = World::with(Mail::Delivers, &file(&segments, entry, exits, steps)).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.pass(MINUTE).await;
    let instance = of_it(&world, &patient).await[0].id.clone();
    let permit = world
        .staff(trust::Role::Coordinator, trust::Action::Work)
        .await;
    let act = async |act: Act| {
        let acted = world
            .journeys
            .act(&permit, &patient, &instance, act, "Because.", None);
        acted.await.unwrap();
    };
    act(Act::Pause).await;
    // What is put off is begun when it goes on.
    act(Act::Skip { n: 1, way: 0 }).await;
    for n in 0..80 {
        measure(&world, &patient, "a", world.now() - n * DAY, "cancelled").await;
        world.pass(MINUTE).await;
    }
    measure(&world, &patient, "a", world.now(), "final").await;
    world.pass(MINUTE).await;
    assert_eq!(ends(&world, &patient).await, [None]);
    assert_eq!(world.letters().await.len(), 0);
    act(Act::Resume).await;
    world.drain().await;
    assert_eq!(ends(&world, &patient).await, [Some("Completed".to_owned())]);
}
