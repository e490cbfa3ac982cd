//! Journeys that begin at dates which the record says, and those that may not be taken again yet.

mod again;
mod order;

use crate::world::{DAY, HOUR, Mail, START, World};
use fhir::ResourceType;
use journey::{Beginnings, InstanceView};
use serde_json::{Value, json};
use trust::{Action, Role};

pub(crate) const NAME: &str = "dated";

/// A journey that begins by a date. `entry` is what is in it.
pub(crate) fn source(entry: &str) -> String {
    let look = if entry.contains("late: look") {
        "  look:
    title: Look
    task: {title: Look at the date, reason: It was past., role: clinician, due: 1d}
    next: end
    overdue: end
"
    } else {
        ""
    };
    format!(
        "name: {NAME}
title: By a date
owner: Team
purpose: TREAT
at_most: 5d
entry:
{entry}exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: tell
steps:
  tell:
    title: Tell
    task: {{title: Tell the patient, reason: The date has come., role: coordinator, due: 1d}}
    next: end
    overdue: end
{look}"
    )
}

/// Two weeks before a visit.
pub(crate) fn before_a_visit(past_due: &str, more: &str) -> String {
    source(&format!(
        "  date: {{of: Appointment, where: status = 'booked', begins: visit - 14d at 09:00, past_due: {past_due}}}
  anchors: {{visit: start}}
{more}"
    ))
}

pub(crate) const BIRTHDAY: &str =
    "  date: {of: Patient, begins: birth at 09:00, every: year, past_due: skip}
  anchors: {birth: birthDate}
  per: date
";

pub(crate) fn id(world: &World, patient: &str, name: &str) -> String {
    let owner = ledger::Owner::Patient(patient.to_owned());
    let ledger = world.trust.vault().ledger();
    ledger.derive_id(crate::world::TENANT, &owner, &format!("{patient}/{name}"))
}

/// A visit that is booked, or moved.
pub(crate) async fn visit(world: &World, patient: &str, name: &str, start: &str, status: &str) {
    let id = id(world, patient, name);
    world
        .put(vec![json!({
            "resourceType": "Appointment", "id": id, "status": status, "start": start, "end": start,
            "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
        })])
        .await;
}

pub(crate) async fn beginnings(world: &World, patient: &str) -> Beginnings {
    let permit = world.staff(Role::Coordinator, Action::Search).await;
    let found = world.journeys.beginnings(&permit, patient).await;
    found.unwrap()
}

pub(crate) async fn ahead(world: &World, patient: &str) -> Vec<String> {
    let ahead = beginnings(world, patient).await.ahead.into_iter();
    ahead.map(|one| fhir::date::instant(one.at_ms)).collect()
}

pub(crate) async fn refused(world: &World, patient: &str) -> Vec<String> {
    let refused = beginnings(world, patient).await.refused.into_iter();
    refused.map(|one| one.why).collect()
}

/// When a patient's journeys by this file began, oldest first.
pub(crate) async fn began(world: &World, patient: &str) -> Vec<String> {
    let views: Vec<InstanceView> = world.views(patient).await;
    let of_it = views.iter().filter(|view| view.journey == NAME);
    let mut began: Vec<u64> = of_it.map(|view| view.started_ms).collect();
    began.sort_unstable();
    began.into_iter().map(fhir::date::instant).collect()
}

/// Writes something that can't be read over a visit.
async fn damage(world: &World, patient: &str, name: &str) {
    let id = id(world, patient, name);
    world
        .damage_resource(patient, ResourceType::Appointment, &id)
        .await;
}

pub(crate) async fn change(world: &World, patient: &str, name: &str, value: Value) {
    let mut person = world.read(ResourceType::Patient, patient).await;
    person.set(name, value);
    world.put(vec![person.into_value()]).await;
}

#[tokio::test]
async fn a_date_that_moves_is_moved_and_one_that_is_gone_is_called_off() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: event\n")).await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    visit(&world, &patient, "b", "2026-12-20T10:00:00Z", "booked").await;
    visit(&world, &patient, "c", "2026-12-21T10:00:00Z", "proposed").await;
    world.drain().await;
    let both = ["2026-11-17T09:00:00.000Z", "2026-12-06T09:00:00.000Z"];
    assert_eq!(ahead(&world, &patient).await, both);
    assert_eq!(began(&world, &patient).await, [""; 0]);

    // Moved, cancelled, and come to life.
    visit(&world, &patient, "a", "2026-12-03T10:00:00Z", "booked").await;
    visit(&world, &patient, "b", "2026-12-20T10:00:00Z", "cancelled").await;
    visit(&world, &patient, "c", "2026-12-21T10:00:00Z", "booked").await;
    world.drain().await;
    let both = ["2026-11-19T09:00:00.000Z", "2026-12-07T09:00:00.000Z"];
    assert_eq!(ahead(&world, &patient).await, both);

    world.until(40 * DAY).await;
    assert_eq!(began(&world, &patient).await, both);
    assert_eq!(ahead(&world, &patient).await, [""; 0]);
    assert_eq!(refused(&world, &patient).await, [""; 0]);
    assert_eq!(world.tasks(&patient).await.len(), 2);
    // Touched again, they begin nothing more.
    visit(&world, &patient, "a", "2026-12-03T10:00:00Z", "booked").await;
    visit(&world, &patient, "a", "2027-02-03T10:00:00Z", "booked").await;
    world.until(130 * DAY).await;
    assert_eq!(began(&world, &patient).await.len(), 2);
    let timer = world.trust.vault().ledger().next_timer_ms().await.unwrap();
    assert_eq!(timer, None, "nobody is woken for nothing");
}

#[tokio::test]
async fn each_date_of_a_resource_begins_a_journey_where_the_file_says_so() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: date\n")).await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.until(25 * DAY).await;
    assert_eq!(began(&world, &patient).await.len(), 1);
    // The same time, written otherwise, is the same date.
    visit(&world, &patient, "a", "2026-12-01T11:00:00+01:00", "booked").await;
    world.until(26 * DAY).await;
    assert_eq!(began(&world, &patient).await.len(), 1);
    visit(&world, &patient, "a", "2027-01-20T10:00:00Z", "booked").await;
    world.until(100 * DAY).await;
    let both = ["2026-11-17T09:00:00.000Z", "2027-01-06T09:00:00.000Z"];
    assert_eq!(began(&world, &patient).await, both);
}

#[tokio::test]
async fn what_is_deleted_is_called_off_where_nobody_is_under_way() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: event\n")).await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await.len(), 1);
    world.delete(&patient, ResourceType::Appointment).await;
    assert_eq!(ahead(&world, &patient).await, [""; 0]);
    world.until(60 * DAY).await;
    assert_eq!(began(&world, &patient).await, [""; 0]);
}

#[tokio::test]
async fn a_date_that_is_past_when_it_is_learnt_does_what_the_file_says() {
    let escalate = "escalate, late: look";
    for (past_due, more, task) in [
        ("run", "  within: 30d\n", Some("Tell the patient")),
        (escalate, "  within: 30d\n", Some("Look at the date")),
        ("run", "  within: 2d\n", None),
        ("skip", "", None),
    ] {
        let entry = before_a_visit(past_due, &format!("{more}  per: date\n"));
        let world = World::with(Mail::Delivers, &entry).await;
        let patient = world.patient().await;
        // The date was six days ago.
        visit(&world, &patient, "a", "2026-11-10T10:00:00Z", "booked").await;
        world.drain().await;
        let tasks = world.tasks(&patient).await;
        match task {
            Some(title) => {
                assert_eq!(tasks.len(), 1, "{past_due}");
                assert!(tasks[0].contains(title), "{past_due}: {tasks:?}");
                assert_eq!(refused(&world, &patient).await, [""; 0]);
            }
            None => {
                assert_eq!(tasks.len(), 0, "{past_due}");
                let why = ["The date was past already when it was learnt"];
                assert_eq!(refused(&world, &patient).await, why);
            }
        }
        // It is told once, and stays so.
        visit(&world, &patient, "a", "2026-11-10T10:00:00Z", "booked").await;
        world.drain().await;
        let told = refused(&world, &patient).await.len();
        assert_eq!(told, usize::from(task.is_none()), "{past_due}");
        assert_eq!(world.tasks(&patient).await.len(), tasks.len(), "{past_due}");
    }
}

#[tokio::test]
async fn a_server_that_was_down_on_the_day_misses_nobody() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: event\n")).await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.drain().await;
    // Another is written while nobody follows, and its date passes before somebody does.
    visit(&world, &patient, "b", "2026-12-02T10:00:00Z", "booked").await;
    world.clock.advance(40 * DAY);
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    let world = world.reopen().await;
    world.drain().await;
    // The second finds the first under way, which is told.
    let (began, refused) = (
        began(&world, &patient).await,
        refused(&world, &patient).await,
    );
    assert_eq!(began.len(), 1, "{began:?} {refused:?}");
    assert_eq!(refused, ["The patient is in it already"]);
}

#[tokio::test]
async fn birthdays_come_each_year_by_the_patients_own_clock() {
    let world = World::with(Mail::Delivers, &source(BIRTHDAY)).await;
    let patient = world.patient().await;
    change(&world, &patient, "birthDate", json!("1960-02-29")).await;
    change(
        &world,
        &patient,
        "extension",
        json!([{
            "url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "Europe/Paris"
        }]),
    )
    .await;
    world.until(DAY).await;
    assert_eq!(ahead(&world, &patient).await, ["2027-02-28T08:00:00.000Z"]);
    world.until(500 * DAY).await;
    // The patient moves, and a leap year comes.
    change(&world, &patient, "extension", json!([{
        "url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "America/New_York"
    }]))
    .await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await, ["2029-02-28T14:00:00.000Z"]);
    let seen = ["2027-02-28T08:00:00.000Z", "2028-02-29T08:00:00.000Z"];
    assert_eq!(began(&world, &patient).await, seen);
}

#[tokio::test]
async fn who_has_died_or_says_no_is_led_nowhere() {
    let world = World::with(Mail::Delivers, &source(BIRTHDAY)).await;
    let dead = world.patient().await;
    let unwilling = world.patient().await;
    for patient in [&dead, &unwilling] {
        change(&world, patient, "birthDate", json!("1970-11-10")).await;
    }
    world.until(DAY).await;
    assert_eq!(ahead(&world, &dead).await.len(), 1);
    world.die(&dead).await;
    world.consent(&unwilling, false).await;
    world.until(30 * DAY).await;
    assert_eq!(began(&world, &dead).await, [""; 0]);
    assert_eq!(ahead(&world, &dead).await, [""; 0]);
    assert_eq!(began(&world, &unwilling).await, [""; 0]);
    assert_eq!(
        refused(&world, &unwilling).await,
        ["Consents don't allow it"]
    );
    assert_eq!(world.tasks(&unwilling).await.len(), 0);
    // Next year is another date, and by then consents may say otherwise; and a death was a mistake.
    world.consent(&unwilling, true).await;
    let mut person = world.read(ResourceType::Patient, &dead).await.into_value();
    person.as_object_mut().unwrap().remove("deceasedDateTime");
    world.put(vec![person]).await;
    world.until(400 * DAY).await;
    assert_eq!(began(&world, &unwilling).await.len(), 1);
    assert_eq!(began(&world, &dead).await.len(), 1);
}

#[tokio::test]
async fn a_patient_dies_in_a_journey_that_their_own_resource_began() {
    let world = World::with(Mail::Delivers, &source(BIRTHDAY)).await;
    let patient = world.patient().await;
    change(&world, &patient, "birthDate", json!("1970-11-03")).await;
    world.until(DAY).await;
    assert_eq!(began(&world, &patient).await.len(), 1);
    world.die(&patient).await;
    world.drain().await;
    let ended = world.view(&patient).await.ended.map(|(_, why)| why);
    assert_eq!(ended.as_deref(), Some("Died"));
}

/// Whom a visit belongs to now counts, and a visit of the dead comes back with their life.
#[tokio::test]
async fn dates_of_other_resources_follow_the_patient() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: event\n")).await;
    let patient = world.patient().await;
    world.die(&patient).await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await, [""; 0]);
    let mut person = world
        .read(ResourceType::Patient, &patient)
        .await
        .into_value();
    person.as_object_mut().unwrap().remove("deceasedDateTime");
    world.put(vec![person]).await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await, ["2026-11-17T09:00:00.000Z"]);
    change(&world, &patient, "extension", json!([{
        "url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "America/New_York"
    }]))
    .await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await, ["2026-11-17T14:00:00.000Z"]);
}

/// Whoever was in the record before is taken in, however often the look through it is broken off.
#[tokio::test]
async fn patients_who_are_there_already_are_taken_in() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for n in 0..230 {
        let patient = world.patient_without_condition().await;
        let day = 3 + n % 25;
        let born = format!("19{:02}-11-{day:02}", n % 90 + 10);
        patients.push((patient, born, day));
    }
    let mut resources = Vec::new();
    for (patient, born, _) in &patients {
        resources.push(json!({"resourceType": "Patient", "id": patient, "birthDate": born}));
    }
    for some in resources.chunks(50) {
        for one in some {
            world.put(vec![one.clone()]).await;
        }
    }
    world.drain().await;
    world.publish(&source(BIRTHDAY)).await;
    // Broken off in the middle, and the day of the first has come meanwhile.
    let (stop, task) = world.follow();
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        if !ahead(&world, &patients[229].0).await.is_empty() {
            break;
        }
    }
    stop.send(true).unwrap();
    task.await.unwrap();
    let world = world.after_crash();
    world.clock.advance(2 * DAY);
    world.drain().await;
    world.until(40 * DAY).await;
    for (patient, born, day) in &patients {
        let expected = [format!("2026-11-{day:02}T09:00:00.000Z")];
        // Whose day had come before the look through the record reached them begins late.
        let began = began(&world, patient).await;
        assert_eq!(began.len(), 1, "{born}: {began:?}");
        assert!(began[0] >= expected[0], "{born}: {began:?}");
        assert_eq!(ahead(&world, patient).await.len(), 1);
    }
    let _ = (HOUR, START);
}

/// Another version has its own dates, for those too who wait for the old ones.
#[tokio::test]
async fn a_new_version_plans_anew_and_a_retired_one_begins_nothing() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: event\n")).await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.drain().await;
    let sooner = before_a_visit("skip", "  per: event\n").replace("- 14d", "- 21d");
    world.publish(&sooner).await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await, ["2026-11-10T09:00:00.000Z"]);
    let other = before_a_visit("skip", "  per: event\n").replace(
        "of: Appointment, where: status = 'booked', begins: visit",
        "of: Encounter, begins: visit",
    );
    let other = other.replace("{visit: start}", "{visit: period.start}");
    world.publish(&other).await;
    world.until(40 * DAY).await;
    assert_eq!(began(&world, &patient).await, [""; 0]);
    assert_eq!(ahead(&world, &patient).await, [""; 0]);
}

/// Tenants of one store begin each their own, also where names and ids are the same.
#[tokio::test]
async fn two_tenants_begin_each_their_own() {
    use fhir::Resource;
    use ledger::{Expected, TenantId};
    use trust::{Agent, Change, Purpose, Target, Unit};

    let other = TenantId(2);
    let world = World::with(Mail::Delivers, &source(BIRTHDAY)).await;
    let ledger = world.trust.vault().ledger();
    ledger.create_tenant(other).await.unwrap();
    let decide = async |part: &str, purpose, action| {
        let agent = Agent::system(other, part);
        let decided = world
            .trust
            .decide(&agent, purpose, action, Target::default(), "test");
        decided.await.unwrap()
    };
    let permit = decide("command-line", Purpose::Operations, Action::Publish).await;
    let entry = BIRTHDAY.replace("09:00", "11:00");
    world
        .journeys
        .publish(&permit, &source(&entry))
        .await
        .unwrap();
    let patient = world.patient().await;
    change(&world, &patient, "birthDate", json!("1970-11-10")).await;
    let permit = decide("importer", Purpose::Operations, Action::Import).await;
    let theirs = json!({"resourceType": "Patient", "id": patient, "birthDate": "1980-11-12"});
    let unit = Unit {
        changes: vec![Change::Put {
            resource: Resource::from_value(theirs).unwrap(),
            expected: Expected::Absent,
        }],
        ..Unit::default()
    };
    world.trust.vault().commit(&permit, unit).await.unwrap();
    world.journeys.drain(other).await.unwrap();
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await, ["2026-11-10T09:00:00.000Z"]);
    let permit = decide("importer", Purpose::Operations, Action::Import).await;
    let found = world.journeys.beginnings(&permit, &patient).await.unwrap();
    assert_eq!(found.ahead.len(), 1);
    assert_eq!(
        fhir::date::instant(found.ahead[0].at_ms),
        "2026-11-12T11:00:00.000Z"
    );
    world.clock.advance(20 * DAY);
    // The one's turn does nothing of the other's.
    world.journeys.drain(other).await.unwrap();
    assert_eq!(began(&world, &patient).await, [""; 0]);
    assert_eq!(
        world
            .journeys
            .of_patient(&permit, &patient)
            .await
            .unwrap()
            .len(),
        1
    );
    world.drain().await;
    assert_eq!(began(&world, &patient).await.len(), 1);
}

/// Two followers of one store, as while a shard goes from one server to another: each date begins its journey once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_followers_begin_each_date_once() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: date\n")).await;
    let mut patients = Vec::new();
    for _ in 0..12 {
        let patient = world.patient().await;
        visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
        patients.push(patient);
    }
    world.drain().await;
    let other = journey::Journeys::new(world.trust.clone());
    other.drain(crate::world::TENANT).await.unwrap();
    world.clock.advance(16 * DAY);
    // What is written now is read by both while the dates come.
    for patient in &patients {
        visit(&world, patient, "b", "2026-12-08T10:00:00Z", "booked").await;
    }
    let drained = tokio::join!(
        world.journeys.drain(crate::world::TENANT),
        other.drain(crate::world::TENANT)
    );
    drained.0.unwrap();
    drained.1.unwrap();
    world.drain().await;
    for patient in &patients {
        assert_eq!(began(&world, patient).await.len(), 1);
        assert_eq!(ahead(&world, patient).await, ["2026-11-24T09:00:00.000Z"]);
    }
    assert_eq!(world.letters().await, []);
}

/// What was past when the journey went live was past, also where nobody had read of it before.
#[tokio::test]
async fn what_was_past_before_the_journey_is_past() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.clock.advance(20 * DAY);
    world
        .publish(&before_a_visit("skip", "  per: event\n"))
        .await;
    world.drain().await;
    assert_eq!(began(&world, &patient).await, [""; 0]);
    let why = ["The date was past already when it was learnt"];
    assert_eq!(refused(&world, &patient).await, why);
}

/// Whoever comes to the record after their day waits for the next one, whatever becomes of the journey's versions.
#[tokio::test]
async fn records_looked_through_again_begin_nothing_that_was_over() {
    let world = World::with(Mail::Delivers, &source(BIRTHDAY)).await;
    let permit = world.staff(Role::Squad, Action::Publish).await;
    let (journeys, staged) = (&world.journeys, journey::VersionStage::Staged);
    let of = |share| journey::Rollout {
        share,
        ..journey::Rollout::default()
    };
    let second = source(BIRTHDAY).replace("By a date", "By birth");
    let (few, half, all) = (of(10), of(50), of(100));
    let trial = journeys.stage_file(&permit, &second, staged, &few, "A trial");
    trial.await.unwrap();
    world.until(20 * DAY).await;
    let late = world.patient().await;
    change(&world, &late, "birthDate", json!("1960-11-10")).await;
    let next = world.patient().await;
    change(&world, &next, "birthDate", json!("1960-11-27")).await;
    world.until(30 * DAY).await;
    assert_eq!(began(&world, &late).await, [""; 0]);
    assert_eq!(began(&world, &next).await.len(), 1);
    // For more of them, and then for all.
    let more = journeys.set_stage(&permit, NAME, 2, staged, &half, "It goes well");
    more.await.unwrap();
    world.until(40 * DAY).await;
    let live = journey::VersionStage::Live;
    let more = journeys.set_stage(&permit, NAME, 2, live, &all, "For all");
    more.await.unwrap();
    world.until(50 * DAY).await;
    assert_eq!(began(&world, &late).await, [""; 0]);
    assert_eq!(began(&world, &next).await.len(), 1);
    assert_eq!(ahead(&world, &late).await, ["2027-11-10T09:00:00.000Z"]);
}

/// What can't be read of a patient is tried again later, and holds up nothing else of them.
#[tokio::test]
async fn a_date_that_cant_be_read_holds_up_no_other() {
    let world = World::with(Mail::Delivers, &before_a_visit("skip", "  per: event\n")).await;
    let patient = world.patient().await;
    for (name, start) in [
        ("a", "2026-12-01T10:00:00Z"),
        ("b", "2026-12-01T11:00:00Z"),
        ("c", "2026-12-02T10:00:00Z"),
    ] {
        visit(&world, &patient, name, start, "booked").await;
    }
    world.drain().await;
    damage(&world, &patient, "a").await;
    world.drain().await;
    world.until(16 * DAY).await;
    // Two of one moment and one of the next day: those that can be read begin in time.
    let both = ["2026-11-17T09:00:00.000Z", "2026-11-18T09:00:00.000Z"];
    assert_eq!(began(&world, &patient).await, both);
    let found = beginnings(&world, &patient).await;
    assert_eq!(found.refused, []);
    let causes: Vec<String> = found.ahead.into_iter().map(|one| one.cause).collect();
    let damaged = format!("Appointment/{}", id(&world, &patient, "a"));
    assert_eq!(causes, [damaged], "it is not lost");
}

/// One record that can't be read keeps nobody else from being found.
#[tokio::test]
async fn a_record_that_cant_be_read_stops_no_look_through_the_others() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for _ in 0..3 {
        let patient = world.patient().await;
        visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
        patients.push(patient);
    }
    world.drain().await;
    damage(&world, &patients[1], "a").await;
    world
        .publish(&before_a_visit("skip", "  per: event\n"))
        .await;
    world.drain().await;
    for (n, patient) in patients.iter().enumerate() {
        let found = ahead(&world, patient).await.len();
        assert_eq!(found, usize::from(n != 1), "{n}");
    }
}

/// Another program's document of one journey's dates leaves the patient's other journeys alone, and the page tells it.
#[tokio::test]
async fn what_another_program_wrote_of_one_journey_holds_up_no_other() {
    use trust::{Internal, Purpose, Unit};

    let entry = before_a_visit("skip", "  per: event\n");
    let world = World::with(Mail::Delivers, &entry).await;
    world
        .publish(&entry.replace("name: dated", "name: other"))
        .await;
    let patient = world.patient().await;
    visit(&world, &patient, "a", "2026-12-01T10:00:00Z", "booked").await;
    world.drain().await;
    assert_eq!(ahead(&world, &patient).await.len(), 2);
    let permit = world
        .part(
            "journey-engine",
            Purpose::CareManagement,
            Action::Orchestrate,
        )
        .await;
    let (vault, kind) = (world.trust.vault(), ledger::Kind(1096));
    let tokens = [("patient", patient.as_str())];
    let found = vault.internals(&permit, kind, &tokens, None, 10);
    let mut found = found.await.unwrap().into_iter();
    let of = |body: &[u8]| String::from_utf8_lossy(body).contains("\"journey\":\"dated\"");
    let found = found.find(|found| of(&found.body)).unwrap();
    let internal = Internal {
        kind,
        id: found.id,
        owner: ledger::Owner::Patient(patient.clone()),
        expected: ledger::Expected::Version(found.version),
        body: br#"{"format":2}"#.to_vec(),
        deleted: false,
        tokens: vec![("patient".to_owned(), patient.clone())],
    };
    let unit = Unit {
        internals: vec![internal],
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.unwrap();
    visit(&world, &patient, "a", "2026-12-03T10:00:00Z", "booked").await;
    world.drain().await;
    let found = beginnings(&world, &patient).await;
    assert_eq!((found.unread, found.cut), (1, false));
    assert_eq!(ahead(&world, &patient).await, ["2026-11-19T09:00:00.000Z"]);
    assert_eq!(world.letters().await.len(), 1);
}
