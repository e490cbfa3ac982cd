//! What goes wrong around a journey: mistakes in the record, clocks, other versions of the program,
//! panics, crashes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

mod world;

use fhir::ResourceType;
use journey::Reason;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trust::{Action, Role};
use world::odd::CANARY;
use world::{DAY, HOUR, Mail, START, World};

const WEIGHT_TASK: &str = "coordinator asap Call the patient about their weight: requested";

#[tokio::test]
async fn a_weight_of_the_future_does_not_hide_those_of_now() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world
        .weight_of(&patient, 80.0, world.now() + 20 * DAY)
        .await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    world.weight(&patient, 80.0).await;
    world.pass(20 * HOUR).await;
    world.weight(&patient, 86.0).await;
    assert_eq!(world.tasks(&patient).await, [WEIGHT_TASK]);
}

#[tokio::test]
async fn a_readmission_that_is_told_of_when_it_is_over_ends_the_journey() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    world.pass(3 * DAY).await;
    world.stay(&patient, START + DAY, world.now()).await;
    world.drain().await;
    let views = world.views(&patient).await;
    assert_eq!(views.len(), 2);
    assert!(views[0].ended.is_none());
    assert_eq!(views[1].ended.as_ref().unwrap().1, "Back in hospital");
    // A stay of before that is told of late is no readmission, and nothing to follow.
    world
        .stay(&patient, START - 9 * DAY, world.now() - HOUR)
        .await;
    world.drain().await;
    let views = world.views(&patient).await;
    assert_eq!(views.len(), 2, "{views:#?}");
    assert!(views[0].ended.is_none());
}

fn walk(more: &str) -> String {
    format!(
        "name: walk
title: Walk
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {{done: performedDateTime}}
  per: event
{more}exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: rest
steps:
  rest:
    title: Rest
    wait: {{event: Observation, at_most: 20d}}
    next: end
    not_come: end
"
    )
}

#[tokio::test]
async fn a_journey_is_taken_once_at_a_time_unless_its_file_says_otherwise() {
    for (more, running) in [
        ("", 1),
        ("  while_running: skip\n", 1),
        ("  while_running: beside\n", 2),
    ] {
        let world = World::new(Mail::Delivers).await;
        world.publish(&walk(more)).await;
        let patient = world.patient().await;
        world.operate(&patient).await;
        world.pass(DAY).await;
        world.operate(&patient).await;
        let views = world.views(&patient).await;
        assert_eq!(views.len(), running, "{more}");
        // When it is over, the next event starts it again.
        world.weight(&patient, 80.0).await;
        world.operate(&patient).await;
        assert_eq!(world.views(&patient).await.len(), running + 1, "{more}");
    }
}

#[tokio::test]
async fn a_discharge_that_was_none_ends_the_journey_and_a_true_one_starts_it_anew() {
    let world = World::new(Mail::Silent).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    world.pass(HOUR).await;
    world.stays_are(&patient, "entered-in-error").await;
    assert_eq!(
        world.view(&patient).await.ended.unwrap().1,
        "Started in error"
    );
    assert_eq!(
        world.messages(&patient).await,
        ["Welcome home by EMAILWRIT: stopped called-off"]
    );
    // It was the right patient after all.
    world.stays_are(&patient, "finished").await;
    let views = world.views(&patient).await;
    assert_eq!(views.len(), 2);
    assert!(views[0].ended.is_none());
    world.delete(&patient, ResourceType::Encounter).await;
    let views = world.views(&patient).await;
    assert!(views.iter().all(|view| view.ended.is_some()), "{views:#?}");
    // Nobody else's journey ends by it.
    let other = world.patient().await;
    world.discharge(&other, 0).await;
    world.drain().await;
    world.delete(&other, ResourceType::Condition).await;
    assert!(world.view(&other).await.ended.is_none());
}

#[tokio::test]
async fn what_waits_in_the_outbox_when_the_journey_ends_is_called_off() {
    let world = World::new(Mail::Silent).await;
    let readmitted = world.patient().await;
    let stopped = world.patient().await;
    for patient in [&readmitted, &stopped] {
        world.discharge(patient, 0).await;
    }
    world.drain().await;
    world.admit(&readmitted).await;
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    let id = world.view(&stopped).await.id;
    world
        .journeys
        .stop(&permit, &id, "Moved to a hospice")
        .await
        .unwrap();
    for patient in [&readmitted, &stopped] {
        assert_eq!(
            world.messages(patient).await,
            ["Welcome home by EMAILWRIT: stopped called-off"]
        );
        let view = world.view(patient).await;
        assert!(
            view.trail
                .iter()
                .any(|entry| entry.what
                    == "Message by email called off before it left: Welcome message"),
            "{:#?}",
            view.trail
        );
    }
}

/// What this program doesn't know can't be stopped by it, is told, and keeps nothing else running.
#[tokio::test]
async fn what_is_not_known_keeps_nothing_else_running() {
    let world = World::new(Mail::Delivers).await;
    world.publish(&walk("")).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.operate(&patient).await;
    world.drain().await;
    world
        .rewrite_definition(|source| format!("dialect: of the future\n{source}"))
        .await;
    let world = world.reopen().await;
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    let (running, unknown) = world.journeys.running(&permit, &patient).await.unwrap();
    let names: Vec<&str> = running.iter().map(|one| one.journey.as_str()).collect();
    assert_eq!((names, unknown), (vec!["walk"], 1));
    for expected in [(1, 1), (0, 1)] {
        let stopped = world.journeys.stop_all(&permit, &patient, "Moved");
        let stopped = stopped.await.unwrap();
        assert_eq!((stopped.stopped, stopped.failed), expected);
    }
    let (running, unknown) = world.journeys.running(&permit, &patient).await.unwrap();
    assert_eq!((running.len(), unknown), (0, 1));
}

/// A roll-back: this program doesn't know what a newer one published. Nothing is lost, nobody else
/// waits, and when the newer program is back it catches up.
#[tokio::test]
async fn what_another_version_of_the_program_knows_waits_for_it() {
    let world = World::new(Mail::Delivers).await;
    world.publish(&walk("")).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.operate(&patient).await;
    world.weight(&patient, 80.0).await;
    world.operate(&patient).await;
    world.pass(DAY).await;

    world
        .rewrite_definition(|source| format!("dialect: of the future\n{source}"))
        .await;
    let world = world.reopen().await;
    world.weight_quietly(&patient, 86.0).await;
    world.until(2 * DAY + 12 * HOUR).await;
    let letters = world.letters().await;
    assert!(letters.iter().all(|letter| letter.waits), "{letters:?}");
    let kinds: BTreeSet<bool> = letters.iter().map(|letter| letter.kind == 0).collect();
    assert_eq!(kinds.len(), 2, "timers and events: {letters:?}");
    assert_eq!(world.tasks(&patient).await, Vec::<String>::new());
    // The patient's other journey went on with the same event.
    let permit = world.staff(Role::Squad, Action::Observe).await;
    let graph = world.journeys.graph(&permit, "walk", None).await.unwrap();
    assert_eq!(graph.version.running, 0);

    world
        .rewrite_definition(|source| {
            source
                .strip_prefix("dialect: of the future\n")
                .unwrap()
                .to_owned()
        })
        .await;
    let world = world.reopen().await;
    world.drain().await;
    assert_eq!(world.letters().await, []);
    assert_eq!(world.tasks(&patient).await, [WEIGHT_TASK]);
    assert_eq!(
        world.forms(&patient).await,
        ["How are you today?: requested"]
    );
    // Its timers are there again: it comes to its end by itself.
    world.until(60 * DAY).await;
    assert!(
        world
            .views(&patient)
            .await
            .iter()
            .all(|view| view.ended.is_some())
    );
}

/// Two versions of the program in turn on the same store: what one has passed over is handled by the
/// other though it has moved the patient on since.
#[tokio::test]
async fn what_waits_is_no_repeat_because_others_came_since() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.weight(&patient, 80.0).await;
    let future = |source: &str| format!("dialect: of the future\n{source}");
    let now = |source: &str| {
        source
            .strip_prefix("dialect: of the future\n")
            .unwrap()
            .to_owned()
    };
    let id = world.view(&patient).await.id;
    world.pass(DAY).await;
    world.rewrite_definition(future).await;
    let world = world.reopen().await;
    world.weight(&patient, 86.0).await;
    let letters = world.letters().await;
    assert!(letters.iter().all(|letter| letter.waits), "{letters:?}");
    let newest = letters.iter().map(|letter| letter.number).max();
    let newest =
        newest.expect("the weight is kept, though nothing that can be read is about weights");
    // A program that knows the language, and has looked at what waits before it came.
    world.rewrite_definition(now).await;
    world.moved_on(&patient, &id, newest + (1 << 30)).await;
    assert_eq!(world.tasks(&patient).await, Vec::<String>::new());
    let world = world.reopen().await;
    world.drain().await;
    assert_eq!(world.letters().await, []);
    assert_eq!(world.tasks(&patient).await, [WEIGHT_TASK]);
}

#[tokio::test]
async fn a_state_of_a_newer_form_waits_too() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    let id = world.view(&patient).await.id;
    let good = world
        .write_instance(&patient, &id, br#"{"f":2,"news":true}"#.to_vec())
        .await;
    let world = world.reopen().await;
    world.weight_quietly(&patient, 80.0).await;
    world.until(2 * DAY + HOUR).await;
    let letters = world.letters().await;
    assert!(letters.iter().all(|letter| letter.waits), "{letters:?}");
    let kinds: BTreeSet<bool> = letters.iter().map(|letter| letter.kind == 0).collect();
    assert_eq!(kinds.len(), 2, "timers and events: {letters:?}");
    world.write_instance(&patient, &id, good).await;
    let world = world.reopen().await;
    world.drain().await;
    assert_eq!(world.letters().await, []);
    assert_eq!(
        world.forms(&patient).await,
        ["How are you today?: requested"]
    );
    world.weight(&patient, 86.0).await;
    assert_eq!(world.tasks(&patient).await, [WEIGHT_TASK]);
}

/// As a newer server beside this one writes it, once it uses a member that this one doesn't know.
#[tokio::test]
async fn a_state_that_says_more_than_is_known_is_not_written_again() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    let id = world.view(&patient).await.id;
    let good = world.write_instance(&patient, &id, Vec::new()).await;
    let mut newer: serde_json::Value = serde_json::from_slice(&good).unwrap();
    assert_eq!(newer["f"], 1, "nothing here needs the second form");
    newer["f"] = 2.into();
    newer["paused"] = true.into();
    let newer = serde_json::to_vec(&newer).unwrap();
    world.write_instance(&patient, &id, newer.clone()).await;
    world.weight_quietly(&patient, 80.0).await;
    world.until(2 * DAY + HOUR).await;
    let letters = world.letters().await;
    assert!(!letters.is_empty() && letters.iter().all(|letter| letter.waits));
    let stored = world.write_instance(&patient, &id, good).await;
    assert_eq!(stored, newer);
    let world = world.reopen().await;
    world.drain().await;
    assert_eq!(world.letters().await, []);
    assert_eq!(
        world.forms(&patient).await,
        ["How are you today?: requested"]
    );
}

#[tokio::test]
async fn all_letters_are_played_again_in_their_order() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    let id = world.view(&patient).await.id;
    let good = world.damage(&patient, &id).await;
    world.weight_quietly(&patient, 80.0).await;
    world.until(3 * DAY).await;
    world.weight_quietly(&patient, 86.0).await;
    world.drain().await;
    let (done, left) = world.journeys.retry_all(world::TENANT).await.unwrap();
    assert_eq!((done, left.len()), (0, 3), "{left:?}");
    world.repair(&patient, &id, good).await;
    let (done, left) = world.journeys.retry_all(world::TENANT).await.unwrap();
    assert_eq!((done, left.len()), (3, 0), "{left:?}");
    assert_eq!(world.tasks(&patient).await, [WEIGHT_TASK]);
    world.until(60 * DAY).await;
    assert!(world.view(&patient).await.ended.is_some());
}

/// One shard's task panics while another's commit is on its way to the disk.
#[tokio::test]
async fn a_panic_on_one_shard_makes_no_other_forget_what_it_has_done() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for _ in 0..6 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        patients.push(patient);
    }
    world.until(DAY).await;
    // All of them get their form now.
    world.clock.set(START + 2 * DAY);
    world.odd.panics.store(true, Ordering::SeqCst);
    assert!(world.journeys.drain(world::TENANT).await.is_err());
    let graph = world.graph(None).await;
    let entered = |graph: &journey::GraphView| {
        graph
            .nodes
            .iter()
            .find(|node| node.id == "symptoms")
            .unwrap()
            .entered
    };
    let mut written = 0;
    for patient in &patients {
        written += u64::try_from(world.forms(patient).await.len()).unwrap();
    }
    assert!(written >= 1, "the others went on");
    assert_eq!(entered(&graph), written, "and what they did is counted");
    world.drain().await;
    assert_eq!(entered(&world.graph(None).await), 6);
}

/// A writer that keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panics_words_stay_out_of_the_log() {
    let log = Kept::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || to.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new(Mail::Silent).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    // On the feed: the follower's first look finds the discharge.
    world.odd.panics.store(true, Ordering::SeqCst);
    let (stop, task) = world.follow();
    world
        .wait_for(|| async { world.messages_now(&patient).await == 1 })
        .await;
    stop.send(true).unwrap();
    task.await.unwrap();
    // On the timers.
    world.clock.set(START + 2 * DAY);
    world.odd.panics.store(true, Ordering::SeqCst);
    let error = world.journeys.drain(world::TENANT).await.unwrap_err();
    assert!(!error.to_string().contains(CANARY), "{error}");
    tracing::error!(%error, "drained");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("a task of the journeys panicked"), "{log}");
    assert!(!log.contains(CANARY), "{log}");
}

#[tokio::test]
async fn the_lag_is_the_age_of_the_oldest_event_that_nobody_has_read() {
    let world = World::new(Mail::Delivers).await;
    let lag = async || world.journeys.feed_lag_ms(world::TENANT).await.unwrap();
    world.drain().await;
    assert_eq!(lag().await, 0);
    let patient = world.patient().await;
    world.clock.advance(90_000);
    world.discharge(&patient, 0).await;
    world.clock.advance(30_000);
    // The patient was written a moment before the consent that moved the clock by a millisecond.
    assert_eq!(lag().await / 1000, 120);
    // It doesn't become true by somebody trying.
    world.odd.panics.store(true, Ordering::SeqCst);
    assert!(world.journeys.drain(world::TENANT).await.is_err());
    assert_eq!(lag().await / 1000, 120);
    world.drain().await;
    assert_eq!(lag().await, 0);
    // Asked by a process in which nothing follows: what one that followed would have to read.
    let world = world.reopen().await;
    world.weight_quietly(&patient, 80.0).await;
    world.clock.advance(7_000);
    assert!(world.journeys.feed_lag_ms(world::TENANT).await.unwrap() >= 7_000);
}

/// The machine was suspended, or its clock set: the sleep until the next timer knows nothing of it.
#[tokio::test]
async fn what_became_due_while_the_clock_was_set_is_noticed_soon() {
    let world = World::new(Mail::Silent).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    world.odd.long_sleeps.store(true, Ordering::SeqCst);
    let (stop, task) = world.follow();
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.clock.advance(2 * DAY);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    world
        .wait_for(|| async { world.forms(&patient).await.len() == 1 })
        .await;
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_and_doubles_no_timer() {
    let world = World::new(Mail::Silent).await;
    let mut patients = Vec::new();
    for _ in 0..4 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        patients.push(patient);
    }
    world.drain().await;
    let (stop, task) = world.follow();
    let mut crashed = Vec::new();
    // Reminders, calls, hand-overs, the visit, the survey: all come by time alone.
    for step in 1..=70u64 {
        world.clock.set(START + step * 12 * HOUR);
        // Some copies are made before the follower has woken, some while it commits, some after.
        tokio::time::sleep(Duration::from_millis(step * 7 % 23)).await;
        if step % 10 == 4 {
            crashed.push(world.after_crash());
        }
    }
    stop.send(true).unwrap();
    task.await.unwrap();
    crashed.push(world);
    for after in crashed {
        let at = after.now();
        after.until(60 * DAY).await;
        assert_eq!(after.letters().await, []);
        for patient in &patients {
            let view = after.view(patient).await;
            assert!(view.ended.is_some(), "crashed at {at}: {:?}", view.waiting);
            assert_eq!(
                after.forms(patient).await,
                [
                    "How are you today?: cancelled",
                    "How was your follow-up?: cancelled"
                ],
                "crashed at {at}"
            );
            let tasks = after.tasks(patient).await;
            let titles: BTreeSet<&String> = tasks.iter().collect();
            assert_eq!(titles.len(), tasks.len(), "crashed at {at}: {tasks:?}");
            assert_eq!(tasks.len(), 4, "crashed at {at}: {tasks:?}");
            let messages = after.messages(patient).await;
            let different: BTreeSet<&String> = messages.iter().collect();
            assert_eq!(
                different.len(),
                messages.len(),
                "crashed at {at}: {messages:?}"
            );
        }
    }
}

#[tokio::test]
async fn who_is_stuck_is_told_with_why_and_since_when() {
    let world = World::new(Mail::Delivers).await;
    let mut instances = Vec::new();
    for _ in 0..3 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        world.drain().await;
        instances.push((world.view(&patient).await.id, patient));
    }
    let permit = world.staff(Role::Coordinator, Action::Observe).await;
    let told = async |world: &World| {
        let (rows, whole) = world.journeys.stuck(&permit).await.unwrap();
        assert!(whole);
        let rows = rows.into_iter();
        let mut told: Vec<_> = rows
            .map(|row| (row.reason, row.instance.unwrap(), row.since_ms))
            .collect();
        told.sort();
        told
    };
    assert_eq!(told(&world).await, []);
    // What was due has not happened: nobody works on it.
    let began = world.now();
    world.clock.advance(3 * DAY);
    let late = told(&world).await;
    assert_eq!(late.len(), 3);
    let is_late = |(reason, _, since_ms): &(Reason, String, u64)| {
        *reason == Reason::Late && (began..world.now()).contains(since_ms)
    };
    assert!(late.iter().all(is_late), "{late:?}");
    world.drain().await;
    assert_eq!(told(&world).await, [], "it was late, and has happened");
    // A dead letter, and a journey that is held for longer than it may last.
    let (damaged, of) = &instances[0];
    world.damage(of, damaged).await;
    world.weight(of, 82.0).await;
    world.drain().await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let (held, of) = &instances[1];
    let hold = journey::Act::Pause;
    let acted = world.journeys.act(&work, of, held, hold, "Abroad", None);
    acted.await.unwrap();
    let held_ms = world.now();
    let letters: Vec<Reason> = told(&world).await.into_iter().map(|row| row.0).collect();
    assert_eq!(letters, [Reason::Letter], "being held is no fault");
    world.pass(50 * DAY).await;
    let stuck = told(&world).await;
    assert!(
        stuck.contains(&(Reason::Held, held.clone(), held_ms)),
        "{stuck:?}"
    );
    assert!(stuck.iter().all(|row| row.1 != instances[2].0), "{stuck:?}");
}

/// What came in a hold and was more than could be remembered is played again when the plan lets the journey go on.
#[tokio::test]
async fn what_was_put_aside_in_a_hold_is_played_when_the_care_plan_goes_on() {
    let source = "name: waits
title: Waits
owner: Team
purpose: TREAT
at_most: 60d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: first
steps:
  first: {title: Pause, wait: {for: 1d}, next: stay}
  stay: {title: Stay, wait: {event: Encounter, at_most: 20d}, next: again, not_come: again}
  again: {title: Again, wait: {for: 9d}, next: end}
";
    let world = World::with(Mail::Delivers, source).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let write = async |status: &str| {
        let mut plans = world.of(&patient, ResourceType::CarePlan).await;
        let mut plan = plans.remove(0);
        plan.set("status", serde_json::json!(status));
        world.put(vec![plan.into_value()]).await;
        world.drain().await;
    };
    let look = world.staff(Role::Coordinator, Action::Observe).await;
    write("on-hold").await;
    let work = world.staff(Role::Coordinator, Action::Work).await;
    let instance = world.view(&patient).await.id;
    let on = journey::Act::Skip { n: 1, way: 0 };
    let acted = (world.journeys).act(&work, &patient, &instance, on, "On", None);
    acted.await.unwrap();
    for _ in 0..66 {
        world.admit(&patient).await;
    }
    assert_eq!(
        world.journeys.dead_letters(&look, 10).await.unwrap().len(),
        2
    );
    write("active").await;
    assert_eq!(
        world.journeys.dead_letters(&look, 10).await.unwrap().len(),
        0
    );
    let view = world.view(&patient).await;
    let at: Vec<&str> = view.waiting.iter().map(|wait| wait.step.as_str()).collect();
    assert_eq!(at, ["again"]);
}
