//! Two servers on one database: what one has written, published or begun, and the other has not heard of yet.

use crate::cluster::Cluster;
use crate::patience;
use crate::seen::{file, file_with, held as is_held, moving};
use crate::steers;
use crate::world::{DAY, HOUR, START, TENANT, World};
use fhir::ResourceType;
use journey::{Act, Rollout, Stage, VersionStage};
use ledger::{ManualClock, Owner, SHARDS, Shard};
use serde_json::json;
use std::future::Future;
use std::pin::Pin;
use trust::{Action, Role};

/// A journey that begins by an event of this status, or by a date.
fn source(name: &str, entry: &str) -> String {
    format!(
        "name: {name}
title: {name}
owner: Team
purpose: TREAT
at_most: 30d
entry:
{entry}exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: weighed
steps:
  weighed:
    title: Weighed
    wait: {{event: Observation, where: status = 'final', at_most: 9d}}
    next: tell
    not_come: tell
  tell:
    title: Tell
    task: {{title: Tell, reason: It is time., role: coordinator, due: 20d}}
    next: end
    overdue: end
"
    )
}

fn by_procedure(name: &str) -> String {
    source(
        name,
        "  event: Procedure\n  where: status = 'completed'\n  anchors: {done: performedDateTime}\n  within: 3d\n  per: event\n",
    )
}

fn held(world: &World) -> usize {
    let ledger = world.trust.vault().ledger();
    let held = (0..SHARDS).filter(|shard| ledger.holds(Shard(*shard)));
    held.count()
}

/// Two servers, each with half of the shards.
async fn two() -> (Cluster, World, World) {
    let cluster = Cluster::new();
    let clock = ManualClock::new(START);
    let url = cluster.url("cairn");
    let one = World::server(&url, &clock).await;
    let ledger = one.trust.vault().ledger();
    ledger.create_tenant(TENANT).await.unwrap();
    let other = World::server(&url, &clock).await;
    patience::until("each holds half", async || {
        (held(&one), held(&other)) == (128, 128)
    })
    .await;
    // The books of both are open before anything happens.
    one.journeys.drain(TENANT).await.unwrap();
    other.journeys.drain(TENANT).await.unwrap();
    (cluster, one, other)
}

async fn close(worlds: [World; 2]) {
    for world in worlds {
        world.trust.vault().ledger().close().await.unwrap();
    }
}

/// A patient whose shard a server holds.
async fn patient_of(world: &World) -> String {
    let ledger = world.trust.vault().ledger();
    loop {
        let id = ledger.mint_own_id(TENANT);
        let owner = Owner::Patient(id.clone());
        if ledger.holds(ledger.shard_of(TENANT, &owner, &id)) {
            world.patient_named(&id).await;
            return id;
        }
    }
}

fn journeys(views: &[journey::InstanceView]) -> Vec<&str> {
    let mut names: Vec<&str> = views.iter().map(|view| view.journey.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_at_a_server_right_after_another_has_published_begins() {
    let (_cluster, one, other) = two().await;
    let patient = patient_of(&other).await;
    other.journeys.drain(TENANT).await.unwrap();
    let mut names = Vec::new();
    for number in 0..6 {
        let name = format!("journey-{number}");
        // Without the other one being told.
        one.publish(&by_procedure(&name)).await;
        other.operate(&patient).await;
        names.push(name);
        let views = other.views(&patient).await;
        let found = journeys(&views)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>();
        assert_eq!(found.len(), names.len(), "{found:?}");
    }
    close([one, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journey_begun_by_a_look_through_the_records_elsewhere_is_told_of_nothing_before_it() {
    let (_cluster, one, other) = two().await;
    let patient = patient_of(&other).await;
    other
        .put(vec![json!({
            "resourceType": "Appointment", "id": "visit", "status": "booked",
            "start": fhir::date::instant(START + HOUR), "end": fhir::date::instant(START + 2 * HOUR),
            "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
        })])
        .await;
    // Written before it begins, and read by nobody yet.
    other.weight_quietly(&patient, 80.0).await;
    // A name whose look through the records is the first one's.
    let ledger = one.trust.vault().ledger();
    let name = (0..)
        .map(|number| format!("visit-{number}"))
        .find(|name| {
            let id = ledger.derive_id(TENANT, &Owner::Tenant, &format!("scan/{name}"));
            ledger.holds(ledger.shard_of(TENANT, &Owner::Tenant, &id))
        })
        .unwrap();
    let entry = "  date: {of: Appointment, where: status = 'booked', begins: visit - 2h, past_due: run}\n  anchors: {visit: start}\n  per: event\n";
    one.publish(&source(&name, entry)).await;
    one.journeys.drain(TENANT).await.unwrap();
    let begun = one.views(&patient).await;
    assert_eq!(journeys(&begun), [name.as_str()]);
    // The other reads its feed now, with a weight that was there before the journey.
    other.journeys.drain(TENANT).await.unwrap();
    let waits = |views: &[journey::InstanceView]| views[0].waiting[0].step.clone();
    assert_eq!(waits(&other.views(&patient).await), "weighed");
    other.weight_quietly(&patient, 81.0).await;
    other.journeys.drain(TENANT).await.unwrap();
    assert_eq!(waits(&other.views(&patient).await), "tell");
    close([one, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_at_another_server_comes_after_what_is_on_the_feed() {
    let (_cluster, one, other) = two().await;
    one.publish(&by_procedure("acts")).await;
    let patient = patient_of(&other).await;
    other.operate(&patient).await;
    let instance = other.view(&patient).await.id;
    one.journeys.drain(TENANT).await.unwrap();
    // It is written, and the one who follows that shard hasn't come to it.
    one.weight_quietly(&patient, 80.0).await;
    let permit = one.staff(Role::Coordinator, Action::Work).await;
    let act = one.journeys.act(
        &permit,
        &patient,
        &instance,
        Act::Pause,
        "In hospital",
        None,
    );
    act.await.unwrap();
    let view = one.view(&patient).await;
    assert!(at(&view, "tell") && !at(&view, "weighed"), "{view:#?}");
    // Who follows the shard finds it done.
    other.journeys.drain(TENANT).await.unwrap();
    let view = other.view(&patient).await;
    assert!(at(&view, "tell") && !at(&view, "weighed"), "{view:#?}");
    let begun = view.trail.iter().filter(|entry| entry.step == "tell");
    assert_eq!(begun.count(), 1, "{:#?}", view.trail);
    assert_eq!(other.of(&patient, ResourceType::Task).await.len(), 1);
    close([one, other]).await;
}

/// A task, and then a weight that is waited for.
fn then_weighed(name: &str) -> String {
    by_procedure(name).replace(
        "start: weighed\nsteps:\n",
        "start: call
steps:
  call:
    title: Call
    task: {title: Call, reason: It is time., role: coordinator, due: 20d}
    next: weighed
    overdue: end
",
    )
}

fn at(view: &journey::InstanceView, step: &str) -> bool {
    let mut waiting = view.waiting.iter();
    waiting.any(|wait| wait.step == step)
}

/// Where the one who follows a shard has come to is stored now and then. What it has read since, and what changed
/// nothing, is no news to a step that began after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_nothing_is_told_to_no_step_that_begins_later() {
    let (_cluster, one, other) = two().await;
    one.publish(&then_weighed("acts")).await;
    let patient = patient_of(&other).await;
    other.operate(&patient).await;
    let instance = other.view(&patient).await.id;
    other.journeys.drain(TENANT).await.unwrap();
    other.weight_quietly(&patient, 80.0).await;
    other.journeys.drain(TENANT).await.unwrap();
    let act = async |world: &World, act: Act| {
        let permit = world.staff(Role::Coordinator, Action::Work).await;
        let acted = world
            .journeys
            .act(&permit, &patient, &instance, act, "By hand", None);
        acted.await.unwrap();
    };
    act(&other, Act::Skip { n: 1, way: 0 }).await;
    act(&one, Act::Pause).await;
    act(&one, Act::Resume).await;
    let view = other.view(&patient).await;
    assert!(at(&view, "weighed"), "{view:#?}");
    // And what is written after that is.
    other.weight_quietly(&patient, 81.0).await;
    act(&one, Act::Pause).await;
    let view = other.view(&patient).await;
    assert!(at(&view, "tell"), "{view:#?}");
    close([one, other]).await;
}

/// What can't be told here may be told by the one who follows the shard: nothing is set aside, and the act waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_is_refused_before_which_something_cannot_be_told() {
    let (_cluster, one, other) = two().await;
    one.publish(&by_procedure("acts")).await;
    one.publish(&by_procedure("news")).await;
    let patient = patient_of(&other).await;
    other.operate(&patient).await;
    let views = other.views(&patient).await;
    let of = |name: &str| {
        let view = views.iter().find(|view| view.journey == name);
        view.expect("a journey").id.clone()
    };
    other.journeys.drain(TENANT).await.unwrap();
    // As a newer program has left it.
    other
        .write_instance(&patient, &of("news"), br#"{"f":2,"news":true}"#.to_vec())
        .await;
    other.journeys.drain(TENANT).await.unwrap();
    one.weight_quietly(&patient, 80.0).await;
    let permit = one.staff(Role::Coordinator, Action::Work).await;
    let instance = of("acts");
    let act = async || {
        let act = one.journeys.act(
            &permit,
            &patient,
            &instance,
            Act::Pause,
            "In hospital",
            None,
        );
        act.await
    };
    let refused = act().await.unwrap_err().to_string();
    assert!(refused.contains("is behind; try again"), "{refused}");
    assert_eq!(one.letters().await, []);
    // The one who follows sets it aside; what else comes of it is an event again.
    patience::until("the act goes through", async || {
        other.journeys.drain(TENANT).await.unwrap();
        act().await.is_ok()
    })
    .await;
    assert_ne!(other.letters().await, []);
    let (running, unknown) = one.journeys.running(&permit, &patient).await.unwrap();
    assert!(at(&running[0], "tell") && running[0].hand.paused.is_some());
    assert_eq!((running.len(), unknown), (1, 1));
    close([one, other]).await;
}

/// So much of another server's feed is looked at for one act, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_does_not_wait_for_all_that_another_server_has_to_read() {
    const MANY: usize = 2_100;
    let (_cluster, one, other) = two().await;
    one.publish(&by_procedure("acts")).await;
    let patient = patient_of(&other).await;
    other.operate(&patient).await;
    let instance = other.view(&patient).await.id;
    other.journeys.drain(TENANT).await.unwrap();
    for some in (0..MANY).collect::<Vec<_>>().chunks(100) {
        let weights = some.iter().map(|_| {
            json!({
                "resourceType": "Observation", "id": other.mint(&patient), "status": "preliminary",
                "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
                "subject": {"reference": format!("Patient/{patient}")},
                "effectiveDateTime": other.instant(),
                "valueQuantity": {"value": 80, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
            })
        });
        other.put(weights.collect()).await;
    }
    let permit = one.staff(Role::Coordinator, Action::Work).await;
    let act = async || {
        let act = one.journeys.act(
            &permit,
            &patient,
            &instance,
            Act::Pause,
            "In hospital",
            None,
        );
        act.await
    };
    let refused = act().await.unwrap_err().to_string();
    assert!(refused.contains("is behind; try again"), "{refused}");
    assert!(!is_held(&one, &patient).await);
    patience::until("the act goes through", async || {
        other.journeys.drain(TENANT).await.unwrap();
        act().await.is_ok()
    })
    .await;
    assert!(is_held(&one, &patient).await);
    close([one, other]).await;
}

/// A batch over patients of the shards of both. The server that works on it goes away in the middle of its turn, when
/// some were reached and nothing of it was noted; the other goes on. (Of a process that is killed the same is left in
/// the store, and its shards come five seconds later.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_loses_its_server_moves_everybody_once_and_lists_who_is_not() {
    const EACH: usize = 10;
    let (_cluster, one, other) = two().await;
    one.publish(&file("Call")).await;
    let mut patients = Vec::new();
    for world in [&one, &other] {
        for number in 0..EACH {
            let patient = patient_of(world).await;
            world.operate(&patient).await;
            // Who has gone on is at a step that the new version doesn't have.
            let gone = number == 0;
            if gone {
                let task = world.task(&patient, "Call").await;
                world.finish_task(&task, None).await;
            }
            let view = world.view(&patient).await;
            patients.push((view.id, patient, gone));
        }
    }
    patients.sort_unstable();
    one.publish(&file_with("Call again", "later")).await;
    let permit = steers(&one).await;
    let preview = one.journeys.preview_migration(&permit, &moving()).await;
    let preview = preview.unwrap();
    assert_eq!((preview.total, preview.cannot), (2 * EACH, 2));
    let seen = Some(preview.seen.as_str());
    let begun = one
        .journeys
        .begin_migration(&permit, moving(), "Other words", 10, seen);
    let id = begun.await.unwrap();
    let ledger = one.trust.vault().ledger();
    let is_ones = ledger.holds(ledger.shard_of(TENANT, &Owner::Tenant, &id));
    let (gone, stays) = if is_ones { (one, other) } else { (other, one) };
    let (first, again) = (gone.follow(), stays.follow());
    let (_, reached, _) = patients.iter().find(|(_, _, gone)| !gone).unwrap();
    patience::until("the first is moved", async || {
        stays.view(reached).await.version == 2
    })
    .await;
    gone.trust.vault().ledger().close().await.unwrap();
    first.1.abort();
    let (before, _) = stays.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!(
        (before.next, before.stage),
        (0, Stage::Running),
        "it was in its turn"
    );
    patience::until("the other has done the rest", async || {
        let (batch, _) = stays.journeys.batch(&permit, &id).await.unwrap();
        batch.stage == Stage::Done
    })
    .await;
    let (batch, failures) = stays.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.next, batch.failed, batch.waiting), (2 * EACH, 2, 0));
    let listed: Vec<&str> = failures.iter().map(|one| one.patient.as_str()).collect();
    for (_, patient, gone) in &patients {
        assert_eq!(listed.contains(&patient.as_str()), *gone, "{failures:?}");
        let mut tasks = stays.tasks(patient).await;
        tasks.sort_unstable();
        let expected = if *gone {
            vec!["coordinator routine Call: completed"]
        } else {
            vec![
                "coordinator routine Call again: requested",
                "coordinator routine Call: cancelled",
            ]
        };
        assert_eq!(tasks, expected);
        let view = stays.view(patient).await;
        let moved = view
            .trail
            .iter()
            .filter(|one| one.what.contains("version 2"));
        assert_eq!(moved.count(), usize::from(!gone), "{:#?}", view.trail);
    }
    let _ = again.0.send(true);
    again.1.await.unwrap();
    stays.trust.vault().ledger().close().await.unwrap();
}

/// A version that is staged for everybody, heard of when it was checked or when it was staged.
#[tokio::test]
async fn when_a_version_was_heard_of_changes_nothing() {
    let entry = "  date: {of: Appointment, where: status = 'booked', begins: visit - 1d, past_due: skip}\n  anchors: {visit: start}\n  per: event\n";
    let mut outcomes = Vec::new();
    for early in [true, false] {
        let world = World::with(crate::world::Mail::Delivers, &by_procedure("other")).await;
        let patient = world.patient().await;
        world.drain().await;
        let permit = world.staff(Role::Squad, Action::Publish).await;
        let file = source("dated", entry);
        let staged = |to: VersionStage| -> Pin<Box<dyn Future<Output = ()> + '_>> {
            let (world, permit, file) = (&world, &permit, &file);
            Box::pin(async move {
                let rollout = Rollout::default();
                let done = world
                    .journeys
                    .stage_file(permit, file, to, &rollout, "Because");
                done.await.unwrap();
            })
        };
        // The date is an hour after the check and an hour before it is staged, and was written before both.
        let start = fhir::date::instant(START + DAY + HOUR);
        world
            .put(vec![json!({
                "resourceType": "Appointment", "id": "visit", "status": "booked", "start": start, "end": start,
                "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
            })])
            .await;
        staged(VersionStage::Checked).await;
        world.clock.advance(2 * HOUR);
        staged(VersionStage::Staged).await;
        let world = if early { world } else { world.reopen().await };
        world.drain().await;
        let permit = world.staff(Role::Coordinator, Action::Search).await;
        let found = world.journeys.beginnings(&permit, &patient).await.unwrap();
        let why: Vec<String> = found.refused.into_iter().map(|one| one.why).collect();
        outcomes.push((world.views(&patient).await.len(), why));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    let (begun, why) = &outcomes[0];
    assert_eq!((*begun, why.len()), (0, 1), "{why:?}");
}
