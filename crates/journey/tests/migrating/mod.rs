//! Patients moved to another version over a real store: what was foreseen, and what then happens.

use crate::world::{DAY, HOUR, Mail, START, TENANT, World};
use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use journey::{
    Goes, JourneyError, Map, MoveOutcome, Moving, OneMoved, PlanChange, Portion, Stage, Who,
};
use ledger::{Expected, Owner};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use trust::{Action, Change, Permit, Purpose, Role, Unit};

const NAME: &str = "moving";
pub(crate) const FIRST: &str = "name: moving
title: After the operation
owner: Team
purpose: TREAT
at_most: 90d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: hello
steps:
  hello:
    title: Hello
    send: {title: Hello, words: Hello., channels: [email], expires: 3d}
    next: rest
    on_failure: rest
  rest: {title: Rest, wait: {for: 2d}, next: how}
  how:
    title: How are you?
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Well?, type: yes-no}]
      remind_after: 1d
      give_up_after: 2d
      channels: [portal]
    answered: call
    no_answer: call
  call:
    title: Call
    task: {title: Call, reason: Because., role: coordinator, due: 1d}
    next: visit
    overdue: visit
  visit:
    title: Visit
    book: {title: Visit, time: done + 20d at 10:00, minutes: 30, book_by: done + 9d at 12:00}
    next: after
    not_booked: after
  after: {title: After, wait: {for: 3d}, next: bye}
  bye:
    title: Goodbye
    send: {title: Goodbye, words: Goodbye., channels: [portal], expires: 1d}
    next: end
    on_failure: end
";

/// Shorter rest, more time to answer, another role, another visit, other words, and one message more.
pub(crate) fn second() -> String {
    let mut source = FIRST.to_owned();
    for (was, is) in [
        ("wait: {for: 2d}, next: how", "wait: {for: 1d}, next: how"),
        ("give_up_after: 2d", "give_up_after: 3d"),
        ("role: coordinator", "role: clinician"),
        ("next: visit\n", "next: see\n"),
        ("overdue: visit\n", "overdue: see\n"),
        ("  visit:\n", "  see:\n"),
        ("done + 20d at", "done + 21d at"),
        ("words: Goodbye.", "words: Farewell."),
        (
            "    next: end\n    on_failure: end\n",
            "    next: more\n    on_failure: end
  more: {title: Some days, wait: {for: 2d}, next: poll}
  poll:
    title: How was it?
    send: {title: How was it?, words: Tell us., channels: [portal], expires: 1d}
    next: end
    on_failure: end
",
        ),
    ] {
        assert!(source.contains(was), "{was}");
        source = source.replace(was, is);
    }
    source
}

pub(crate) fn moving(pairs: &[(&str, Goes)], portion: Portion) -> Moving {
    let map = pairs.iter();
    let map: Map = map
        .map(|(step, goes)| ((*step).to_owned(), goes.clone()))
        .collect();
    Moving {
        who: Who {
            journey: NAME.to_owned(),
            version: 1,
            step: None,
            for_ms: 0,
            held: None,
            patients: BTreeSet::new(),
            among: 0,
        },
        portion,
        to: 2,
        map,
    }
}

async fn steers(world: &World) -> Permit {
    world.staff(Role::Coordinator, Action::Steer).await
}

/// Patients who were operated on now; each is one unit of work of the hospital, many at once.
pub(crate) async fn operated(world: &World, count: usize) -> Vec<String> {
    let permit = world
        .part("importer", Purpose::Operations, Action::Import)
        .await;
    let (ledger, at) = (world.trust.vault().ledger(), world.instant());
    let mut patients = Vec::new();
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..count {
        let id = ledger.mint_own_id(TENANT);
        let mint = || ledger.mint_id(TENANT, &Owner::Patient(id.clone()));
        let mut consent = trust::consent::care_messages(&id, true, world.now());
        consent.set_id(&mint());
        let resources = [
            json!({"resourceType": "Patient", "id": id, "birthDate": "1941-03-07", "telecom": [{"system": "email", "value": "ottilie.quandt@example.com"}]}),
            consent.into_value(),
            json!({"resourceType": "Procedure", "id": mint(), "status": "completed", "subject": {"reference": format!("Patient/{id}")}, "performedDateTime": at}),
        ];
        let changes = resources.into_iter().map(|resource| {
            let mut resource = Resource::from_value(resource).unwrap();
            resource.strip_meta();
            Change::Put {
                resource,
                expected: Expected::Absent,
            }
        });
        let unit = Unit {
            changes: changes.collect(),
            ..Unit::default()
        };
        let (trust, permit) = (world.trust.clone(), permit.clone());
        work.spawn(async move { trust.vault().commit(&permit, unit).await.unwrap() });
        if work.len() >= 64 {
            work.join_next().await.unwrap().unwrap();
        }
        patients.push(id);
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    world.drain().await;
    patients
}

/// Patients at every place of the journey, the last of them in the middle of a message.
async fn everywhere(world: &mut World, each: usize, last: usize) -> Vec<String> {
    let mut patients = Vec::new();
    // How long ago each of them was operated on, at the end.
    for (ago, next) in [
        (11 * DAY + 12 * HOUR, 10 * DAY),
        (10 * DAY, 6 * DAY),
        (6 * DAY, 4 * DAY + 12 * HOUR),
        (4 * DAY + 12 * HOUR, 3 * DAY + 12 * HOUR),
        (3 * DAY + 12 * HOUR, 2 * DAY + 12 * HOUR),
        (2 * DAY + 12 * HOUR, DAY + 12 * HOUR),
        (DAY + 12 * HOUR, DAY / 2),
        (DAY / 2, 0),
    ] {
        patients.extend(operated(world, each).await);
        world.pass(ago - next).await;
    }
    world.mail = Mail::Silent;
    patients.extend(operated(world, last).await);
    patients
}

/// Kind, step and time.
type Made = (String, String, u64);

/// What is in the records and wasn't before, by patient.
async fn made(world: &World, before: &mut BTreeSet<String>) -> BTreeMap<String, Vec<Made>> {
    let permit = world
        .part("importer", Purpose::Operations, Action::Import)
        .await;
    let mut made: BTreeMap<String, Vec<Made>> = BTreeMap::new();
    for kind in [
        ResourceType::Communication,
        ResourceType::Task,
        ResourceType::Appointment,
    ] {
        let parameters = [("_count".to_owned(), "1000".to_owned())];
        let query = SearchQuery::parse(kind, &parameters, false).unwrap();
        for row in world.trust.vault().load_all(&permit, &query).await.unwrap() {
            let resource = row.resource;
            let id = format!("{kind}/{}", resource.id().unwrap());
            if !before.insert(id) {
                continue;
            }
            let text = |path: &[&str]| resource.text_at(path).unwrap_or_default().to_owned();
            let what = match kind {
                ResourceType::Communication
                    if text(&["topic", "text"]).starts_with("Reminder: ") =>
                {
                    "reminder"
                }
                // An invitation comes with its form.
                ResourceType::Communication if resource.get("about").is_some() => continue,
                ResourceType::Communication => "message",
                ResourceType::Appointment => "visit",
                _ if text(&["code", "coding", "0", "code"]) == "staff-task" => "task",
                _ => "form",
            };
            let at = [&["sent"][..], &["authoredOn"], &["created"]];
            // What is on its way has no time yet.
            let Some(at) = at.iter().find_map(|path| resource.text_at(path)) else {
                continue;
            };
            let at_ms = fhir::date::parse(at).unwrap().start_ms;
            let step = text(&["identifier", "1", "value"]);
            let step = step.rsplit('/').next().unwrap().to_owned();
            let patient = resource.patient().unwrap().to_owned();
            let of_patient = made.entry(patient).or_default();
            of_patient.push((what.to_owned(), step, u64::try_from(at_ms).unwrap()));
        }
    }
    made.values_mut().for_each(|made| made.sort());
    made
}

/// The same of what was foreseen.
fn foreseen(one: &OneMoved) -> Vec<Made> {
    let items = one.planned.iter().filter_map(|item| {
        let (what, _) = item.what.split_once(':')?;
        let what = match what {
            "Message" => "message",
            "Form" => "form",
            "Reminder if there is no answer" => "reminder",
            "Visit proposed" => "visit",
            task if task.starts_with("Task for") => "task",
            _ => return None,
        };
        Some((what.to_owned(), item.step.clone(), item.at_ms))
    });
    let mut items: Vec<Made> = items.collect();
    items.sort();
    items
}

async fn finish(world: &World) {
    let permit = steers(world).await;
    for _ in 0..100_000 {
        let batches = world.journeys.batches(&permit).await.unwrap();
        let open =
            |batch: &journey::Batch| batch.stage == Stage::Running && batch.next < batch.total;
        if !batches.iter().any(open) {
            return;
        }
        world.journeys.batch_turn(TENANT).await.unwrap();
    }
    panic!("the batch has no end");
}

/// Previews all, moves all, lets everything come that comes, and compares, patient by patient.
async fn what_is_foreseen_comes(each: usize, last: usize) {
    let mut world = World::with(Mail::Delivers, FIRST).await;
    let patients = everywhere(&mut world, each, last).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let asked = moving(
        &[
            ("visit", Goes::Step("see".to_owned())),
            ("after", Goes::Stay),
        ],
        Portion::All,
    );
    let preview = world
        .journeys
        .preview_migration(&permit, &asked)
        .await
        .unwrap();
    assert_eq!(
        (
            preview.total,
            preview.moves,
            preview.stays,
            preview.waits,
            preview.cannot
        ),
        (8 * each + last, 6 * each, 2 * each, last, 0)
    );
    let mut named: Vec<OneMoved> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = world
            .journeys
            .preview_named(&permit, &asked, after.as_deref(), 2500);
        let page = page.await.unwrap();
        assert_eq!(page.hidden, 0);
        named.extend(page.each);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(named.len(), preview.total);
    let ids: BTreeSet<&str> = named.iter().map(|one| one.patient.as_str()).collect();
    assert_eq!(ids.len(), patients.len());
    // The sums are those of the patients one by one.
    let changed = named.iter().filter(|one| !one.differs.is_empty()).count();
    assert_eq!(preview.changed, changed);
    for sum in &preview.differs {
        let is = |differs: &&journey::Differs| {
            (differs.change, &differs.step, &differs.what) == (sum.change, &sum.step, &sum.what)
        };
        let times = named.iter().flat_map(|one| &one.differs).filter(is).count();
        assert_eq!(sum.times, times, "{sum:?}");
    }

    let mut seen = BTreeSet::new();
    made(&world, &mut seen).await;
    let begun = world
        .journeys
        .begin_migration(&permit, asked, "Shorter", 50, None);
    let id = begun.await.unwrap();
    finish(&world).await;
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!(failures, []);
    assert_eq!((batch.stage, batch.waiting), (Stage::Running, last));
    let moved_ms = world.now();
    // Those who wait are moved when their message has arrived.
    world.mail = Mail::Delivers;
    world.drain().await;
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
    let (batch, _) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!(
        (batch.stage, batch.waiting, batch.failed),
        (Stage::Done, 0, 0)
    );

    world.pass(80 * DAY).await;
    let made = made(&world, &mut seen).await;
    let none = Vec::new();
    let mut compared = 0;
    for one in &named {
        if one.outcome != MoveOutcome::Moves {
            continue;
        }
        compared += 1;
        let came = made.get(&one.patient).unwrap_or(&none);
        assert_eq!(&foreseen(one), came, "{one:?}");
    }
    assert_eq!(compared, 6 * each);
    // Of the journey's end, too; and who is where is what the books say.
    let sample = named.iter().step_by(each.max(20) / 4);
    for one in sample {
        let view = world.view(&one.patient).await;
        let version = if one.outcome == MoveOutcome::Stays {
            1
        } else {
            2
        };
        assert_eq!(view.version, version);
        let end = one
            .planned
            .iter()
            .find(|item| item.what.starts_with("The journey ends"));
        if let Some(end) = end {
            assert_eq!(view.ended.map(|(at_ms, _)| at_ms), Some(end.at_ms));
        }
    }
    let squad = world.staff(Role::Squad, Action::Observe).await;
    let counts = |versions: &[journey::VersionView]| -> Vec<(u32, u64, u64)> {
        let versions = versions.iter();
        versions
            .map(|version| (version.version, version.running, version.ended))
            .collect()
    };
    let now = world.journeys.versions(&squad).await.unwrap();
    let of = |count: usize| count as u64;
    assert_eq!(
        counts(&now),
        [(2, 0, of(6 * each + last)), (1, 0, of(2 * each))]
    );
    assert!(moved_ms > START);
    let world = world.reopen().await;
    let squad = world.staff(Role::Squad, Action::Observe).await;
    assert_eq!(
        counts(&world.journeys.versions(&squad).await.unwrap()),
        counts(&now)
    );
}

/// With `CAIRN_TEST_LARGE=1` for ten thousand journeys; else for as many as a debug build moves in seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_preview_says_is_what_then_happens() {
    #[allow(
        clippy::disallowed_methods,
        reason = "whoever runs the tests says how many patients there are to be"
    )]
    let large = std::env::var_os("CAIRN_TEST_LARGE").is_some_and(|large| large == "1");
    let (each, last) = if large { (1111, 1112) } else { (12, 14) };
    what_is_foreseen_comes(each, last).await;
}

async fn graph(world: &World, version: u32) -> journey::GraphView {
    let permit = world.staff(Role::Squad, Action::Observe).await;
    let graph = world.journeys.graph(&permit, NAME, Some(version));
    graph.await.unwrap()
}

/// Who started a version, who came to it and went from it by a move, and who is under way in it.
async fn started_and_moved(world: &World, version: u32) -> (u64, u64, u64, u64) {
    let graph = graph(world, version).await;
    let running = graph.version.running;
    (graph.started, graph.moved_in, graph.moved_out, running)
}

/// Of each version: how many went from the start to the first step, and came to the second.
async fn of_rest(world: &World) -> Vec<(u64, u64)> {
    let mut counts = Vec::new();
    for version in [1, 2] {
        let graph = graph(world, version).await;
        let begun = graph.edges.iter().find(|edge| edge.from == "start");
        let rest = graph.nodes.iter().find(|node| node.id == "rest");
        counts.push((begun.unwrap().count, rest.unwrap().entered));
    }
    counts
}

#[tokio::test]
async fn a_part_is_moved_first_and_taken_back_where_nothing_has_happened() {
    let world = World::with(Mail::Delivers, FIRST).await;
    let mut patients = operated(&world, 10).await;
    world.pass(DAY / 2).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let pairs = [("visit", Goes::Step("see".to_owned()))];
    for (portion, total) in [
        (Portion::All, 10),
        (Portion::First(4), 4),
        (Portion::Share(25), 3),
    ] {
        let asked = moving(&pairs, portion);
        let preview = world.journeys.preview_migration(&permit, &asked);
        let preview = preview.await.unwrap();
        assert_eq!(
            (preview.found, preview.total, preview.moves),
            (10, total, total)
        );
    }
    let begun =
        world
            .journeys
            .begin_migration(&permit, moving(&pairs, Portion::First(4)), "Try", 50, None);
    let id = begun.await.unwrap();
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
    let mut moved = Vec::new();
    for patient in &patients {
        if world.view(patient).await.version == 2 {
            moved.push(patient.clone());
        }
    }
    assert_eq!(moved.len(), 4);
    patients.retain(|patient| !moved.contains(patient));
    // Ten started the first version, wherever they are now; nobody started the second.
    assert_eq!(started_and_moved(&world, 1).await, (10, 0, 4, 6));
    assert_eq!(started_and_moved(&world, 2).await, (0, 4, 0, 4));
    let came: Vec<(u64, u64)> = of_rest(&world).await;
    assert_eq!(came, [(10, 10), (0, 0)]);
    let history = world.view(&moved[0]).await.trail;
    let told = history
        .iter()
        .any(|entry| entry.what == "Moved from version 1 to version 2 by A Coordinator: Try");
    assert!(told, "{history:?}");
    assert_eq!(history[0].what, "Started: After the operation (version 1)");
    // Something happens to one of them.
    let view = world.view(&moved[0]).await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let skip = journey::Act::Skip {
        n: view_place(&world, &moved[0]).await,
        way: 0,
    };
    world
        .journeys
        .act(&work, &moved[0], &view.id, skip, "Well already", None)
        .await
        .unwrap();
    let back = world
        .journeys
        .begin_take_back(&permit, &id, "Too early", 50)
        .await
        .unwrap();
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
    let (batch, failures) = world.journeys.batch(&permit, &back).await.unwrap();
    assert_eq!((batch.total, batch.failed), (4, 1));
    assert_eq!(failures[0].patient, moved[0]);
    assert_eq!(
        failures[0].why,
        "what the batch did is not what was done last to this journey"
    );
    for patient in &moved[1..] {
        assert_eq!(world.view(patient).await.version, 1);
    }
    // Counted as it happened, and counted anew from what is stored.
    let moved_and_back = [(10, 3, 4, 9), (0, 4, 3, 1)];
    for (version, expected) in [1, 2].into_iter().zip(moved_and_back) {
        assert_eq!(
            started_and_moved(&world, version).await,
            expected,
            "{version}"
        );
    }
    let world = world.reopen().await;
    for (version, expected) in [1, 2].into_iter().zip(moved_and_back) {
        assert_eq!(
            started_and_moved(&world, version).await,
            expected,
            "{version}"
        );
    }
    // Nothing of it is left but the history: they rest for two days.
    world.pass(DAY + DAY / 4).await;
    assert_eq!(world.forms(&moved[1]).await, [""; 0]);
    world.pass(DAY / 2).await;
    assert_eq!(world.forms(&moved[1]).await, ["How are you?: requested"]);
}

async fn view_place(world: &World, patient: &str) -> u32 {
    let permit = world.staff(Role::Coordinator, Action::Search).await;
    let (running, _) = world.journeys.running(&permit, patient).await.unwrap();
    running[0].hand.places[0].n
}

#[tokio::test]
async fn what_differs_is_told_by_patient_and_by_step() {
    use PlanChange::{Gone, New, OtherTime};
    let world = World::with(Mail::Delivers, FIRST).await;
    let patients = operated(&world, 3).await;
    world.pass(DAY / 2).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let pairs = [("visit", Goes::Step("see".to_owned()))];
    let asked = moving(&pairs, Portion::All);
    let page = world.journeys.preview_named(&permit, &asked, None, 2);
    let page = page.await.unwrap();
    let (named, next) = (page.each, page.next);
    assert_eq!(named.len(), 2);
    assert_eq!(next.as_ref(), Some(&named[1].instance));
    let page = (world.journeys).preview_named(&permit, &asked, next.as_deref(), 2);
    let page = page.await.unwrap();
    let (rest, next) = (page.each, page.next);
    assert_eq!((rest.len(), next), (1, None));
    assert!(patients.contains(&rest[0].patient));
    let told: Vec<(PlanChange, &str, Option<u64>, Option<u64>)> = named[0]
        .differs
        .iter()
        .map(|differs| {
            let days = |at_ms: Option<u64>| at_ms.map(|at_ms| (at_ms - START) / DAY);
            (
                differs.change,
                differs.what.as_str(),
                days(differs.before_ms),
                days(differs.after_ms),
            )
        })
        .collect();
    for expected in [
        (OtherTime, "Form: How are you?", Some(2), Some(1)),
        (New, "Task for a clinician: Call", None, Some(4)),
        (Gone, "Task for a coordinator: Call", Some(4), None),
        (New, "Message: How was it?", None, Some(13)),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:#?}");
    }
    let preview = world
        .journeys
        .preview_migration(&permit, &asked)
        .await
        .unwrap();
    assert_eq!((preview.moves, preview.changed), (3, 3));
    let sum = |change: PlanChange, what: &str| {
        let mut sums = preview.differs.iter();
        let found = sums.find(|sum| sum.change == change && sum.what == what);
        found.map(|sum| (sum.patients, sum.times))
    };
    assert_eq!(sum(New, "Message: How was it?"), Some((3, 3)));
    assert_eq!(
        sum(PlanChange::OtherWords, "Message: Goodbye"),
        Some((3, 3))
    );
    // That it was looked at is in the audit, with whom.
    let audits = world.audits(&named[0].patient).await;
    assert!(!audits.is_empty());
}

#[tokio::test]
async fn a_move_is_refused_where_it_makes_no_sense() {
    let world = World::with(Mail::Delivers, FIRST).await;
    operated(&world, 1).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let journeys = &world.journeys;
    for (change, words) in [
        (
            Moving {
                to: 1,
                ..moving(&[], Portion::All)
            },
            "both versions are the same",
        ),
        (
            Moving {
                to: 9,
                ..moving(&[], Portion::All)
            },
            "version 9",
        ),
        (
            moving(&[("nowhere", Goes::Stay)], Portion::All),
            "nowhere is no step of version 1",
        ),
        (
            moving(&[("visit", Goes::Step("visit".to_owned()))], Portion::All),
            "nobody can go on at visit",
        ),
    ] {
        let error = journeys
            .preview_migration(&permit, &change)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        let error = journeys
            .begin_migration(&permit, change, "x", 1, None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let asked = moving(&[], Portion::All);
    let refused = journeys.preview_migration(&work, &asked).await;
    assert!(matches!(
        refused,
        Err(JourneyError::Trust(trust::TrustError::Refused(_)))
    ));
    let refused = journeys.preview_named(&work, &asked, None, 1).await;
    assert!(matches!(
        refused,
        Err(JourneyError::Trust(trust::TrustError::Refused(_)))
    ));
}

/// A program from before sees nothing of it among the batches that it knows, and is not stopped by it.
#[tokio::test]
async fn a_move_lies_under_a_kind_of_its_own() {
    let world = World::with(Mail::Delivers, FIRST).await;
    operated(&world, 1).await;
    world.pass(DAY / 2).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let begun =
        world
            .journeys
            .begin_migration(&permit, moving(&[], Portion::All), "Shorter", 1, None);
    let id = begun.await.unwrap();
    let vault = world.trust.vault();
    let older = vault
        .internal(&permit, trust::kinds::JOURNEY_BATCH, &id)
        .await
        .unwrap();
    assert!(older.is_none());
    let stored = vault
        .internal(&permit, trust::kinds::JOURNEY_MIGRATION, &id)
        .await
        .unwrap();
    let stored: Value = serde_json::from_slice(&stored.unwrap().body).unwrap();
    assert_eq!(stored["many"]["migrate"]["to"], json!(2));
}

/// Who waits for a message to arrive is asked again which version they are on, and whether the other takes them.
#[tokio::test]
async fn those_who_waited_are_looked_at_again_before_they_are_moved() {
    let mut world = World::with(Mail::Silent, FIRST).await;
    let patients = operated(&world, 2).await;
    world.publish(&second()).await;
    let titled = |title: &str| second().replace("title: After the operation", title);
    world.publish(&titled("title: The third")).await;
    let squad = world.staff(Role::Squad, Action::Publish).await;
    let some = journey::Rollout {
        share: 50,
        sites: Vec::new(),
    };
    let fourth = titled("title: The fourth");
    let staged = journey::VersionStage::Staged;
    let kept = (world.journeys).stage_file(&squad, &fourth, staged, &some, "Try it");
    assert_eq!(kept.await.unwrap().version, 4);
    let permit = steers(&world).await;
    let mut batches = Vec::new();
    for (patient, to) in [(0, 2), (0, 3), (1, 4)] {
        let mut asked = moving(&[], Portion::All);
        asked.to = to;
        asked.who.patients.insert(patients[patient].clone());
        let begun = world
            .journeys
            .begin_migration(&permit, asked, "On", 50, None);
        batches.push(begun.await.unwrap());
    }
    finish(&world).await;
    let checked = journey::VersionStage::Checked;
    let back = (world.journeys).set_stage(&squad, NAME, 4, checked, &some, "Not yet");
    back.await.unwrap();
    world.mail = Mail::Delivers;
    world.drain().await;
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
    let mut why = Vec::new();
    for id in &batches {
        let (batch, failures) = world.journeys.batch(&permit, id).await.unwrap();
        assert_eq!((batch.stage, batch.waiting), (Stage::Done, 0));
        why.push(failures.first().map(|failure| failure.why.clone()));
    }
    // Of the first two either may have come first.
    why[..2].sort();
    let elsewhere = Some("it is on another version by now".to_owned());
    let nobody = Some("that version takes nobody any more".to_owned());
    assert_eq!(why, [None, elsewhere, nobody]);
    assert_eq!(world.view(&patients[1]).await.version, 1);
}

/// The statuses of a patient's plans, with the version that each says and whether it has an end.
async fn plans(world: &World, patient: &str) -> Vec<(String, String, bool)> {
    let plans = world.of(patient, ResourceType::CarePlan).await;
    let plans = plans.iter().map(|plan| {
        let says = plan.text_at(&["instantiatesCanonical", "0"]).unwrap();
        (
            plan.text_at(&["status"]).unwrap().to_owned(),
            says.rsplit('|').next().unwrap().to_owned(),
            plan.at(&["period", "end"]).is_some(),
        )
    });
    plans.collect()
}

#[tokio::test]
async fn the_care_plan_goes_along_and_is_put_away_by_a_version_without_one() {
    let without = |source: &str| source.replace("owner: Team", "owner: Team\ncare_plan: false");
    let world = World::with(Mail::Delivers, FIRST).await;
    let patients = operated(&world, 1).await;
    world.pass(DAY / 2).await;
    world.publish(&second()).await;
    world.publish(&without(&second())).await;
    let permit = steers(&world).await;
    let turn = async || while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {};
    let go = async |from: u32, to: u32| {
        let mut asked = moving(&[], Portion::All);
        (asked.who.version, asked.to) = (from, to);
        let begun = world
            .journeys
            .begin_migration(&permit, asked, "On", 50, None);
        let id = begun.await.unwrap();
        turn().await;
        assert_eq!(world.view(&patients[0]).await.version, to);
        world.drain().await;
        id
    };
    let is = async |status: &str, version: &str, has_end: bool| {
        let plans = plans(&world, &patients[0]).await;
        assert_eq!(plans, [(status.to_owned(), version.to_owned(), has_end)]);
        assert_eq!(world.view(&patients[0]).await.ended, None);
    };
    is("active", "1", false).await;
    go(1, 2).await;
    is("active", "2", false).await;
    let id = go(2, 3).await;
    is("revoked", "2", true).await;
    let back = (world.journeys).begin_take_back(&permit, &id, "It is wanted", 50);
    back.await.unwrap();
    turn().await;
    world.drain().await;
    assert_eq!(world.view(&patients[0]).await.version, 2);
    is("active", "2", false).await;
}

#[tokio::test]
async fn a_care_plan_begins_with_the_version_that_shows_one() {
    let first = FIRST.replace("owner: Team", "owner: Team\ncare_plan: false");
    let world = World::with(Mail::Delivers, &first).await;
    let patients = operated(&world, 1).await;
    world.pass(DAY / 2).await;
    assert_eq!(plans(&world, &patients[0]).await, []);
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let asked = moving(&[], Portion::All);
    let begun = world
        .journeys
        .begin_migration(&permit, asked, "On", 50, None);
    begun.await.unwrap();
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
    let expected = ("active".to_owned(), "2".to_owned(), false);
    assert_eq!(plans(&world, &patients[0]).await, [expected]);
}
