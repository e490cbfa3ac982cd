//! Every kind of step, and every step of the heart-failure journey, failed and repeated: whatever goes wrong and
//! whenever it does, everybody comes to where they come to when nothing goes wrong, and nothing is there twice.
//!
//! A cast of patients goes through the same rounds of acts. In each round the store is copied at moments at which a
//! process can end, or something is done to the copy that can go wrong; then the copy goes on to the end, and is compared.

mod heart;
mod kinds;
mod scene;
mod starters;
mod time;

use crate::world::{DAY, HOUR, Mail, START, TENANT, World};
use fhir::{Resource, ResourceType};
use ledger::{Commit, CursorMove, Number, SHARDS, Shard};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use trust::{Action, Role};

/// What somebody does in a round.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A stay of this class is over.
    Stay(&'static str),
    /// The form with this heading is answered.
    Answer(&'static str, &'static [(&'static str, Said)]),
    /// The patient replies to the text message of the form with this heading with what is no answer.
    Write(&'static str, &'static str),
    /// The work of this name is done, with this outcome.
    Work(&'static str, Option<&'static str>),
    /// The work of this name is done by somebody with this account.
    Sign(&'static str, &'static str),
    /// The patient is weighed, kilograms.
    Weigh(f64),
    /// An operation is done.
    Operate,
    /// The visit is in this status.
    Visit(&'static str),
    /// The partner answers with this booking.
    Partner(&'static str),
}

/// An answer.
#[derive(Debug, Clone, Copy)]
enum Said {
    Yes(bool),
    Number(i64),
}

impl Said {
    fn value(self) -> Value {
        match self {
            Self::Yes(yes) => json!({"valueBoolean": yes}),
            Self::Number(number) => json!({"valueInteger": number}),
        }
    }
}

/// What a patient does, by round.
type Part = &'static [(usize, Act)];

/// A play: who takes part, and when each round is, counted from the beginning.
struct Play {
    journeys: Vec<String>,
    partners: Option<&'static str>,
    mail: Mail,
    /// Whether the patients can be reached by e-mail.
    parts: Vec<Part>,
    rounds: &'static [u64],
}

/// What goes wrong in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The process ends when what was done is durable and nobody has read it.
    Unread,
    /// It ends when the moves are durable and nothing has been heard of what they have sent.
    Moved,
    /// The store closes under the moves: those that have not committed fail.
    Cut,
    /// A move breaks off in the middle, once on the feed and once when time passes.
    Broken,
    /// Everything that was ever written is told once more.
    Again,
    /// The clock jumps forward by an hour, and back after some moves.
    Jump,
}

impl Play {
    async fn world(&self) -> (World, Vec<String>) {
        let (first, others) = self.journeys.split_first().unwrap();
        let world = World::among(self.mail, first, self.partners).await;
        for other in others {
            world.publish(other).await;
        }
        let mut patients = Vec::new();
        for _ in &self.parts {
            patients.push(world.patient().await);
        }
        world.drain().await;
        (world, patients)
    }

    /// Everything that is done in a round, and nothing of what comes of it.
    async fn act(&self, world: &World, patients: &[String], round: usize) {
        for (patient, part) in patients.iter().zip(&self.parts) {
            for (_, act) in part.iter().filter(|(when, _)| *when == round) {
                perform(world, patient, *act).await;
            }
        }
    }

    /// From a round to the end.
    async fn go_on(&self, world: &World, patients: &[String], from: usize) -> Vec<Vec<String>> {
        for round in from..self.rounds.len() {
            world.until(self.rounds[round]).await;
            self.act(world, patients, round).await;
            world.drain().await;
            says_why(world, patients).await;
        }
        all(world, patients).await
    }

    /// Plays it once with nothing wrong; and once for each round with this going wrong in it.
    async fn with(&self, wrong: Wrong) {
        let (world, patients) = self.world().await;
        let mut copies = Vec::new();
        for round in 0..self.rounds.len() {
            world.until(self.rounds[round]).await;
            self.act(&world, &patients, round).await;
            if wrong == Wrong::Moved {
                world.journeys.drain(TENANT).await.unwrap();
                copies.push(world.after_crash());
                world.drain().await;
            } else {
                copies.push(world.after_crash());
                world.drain().await;
            }
        }
        let expected = all(&world, &patients).await;
        let mut struck = 0;
        for (round, copy) in copies.into_iter().enumerate() {
            let next = self.rounds.get(round + 1).map(|since| START + since);
            let (copy, times) = go_wrong(copy, wrong, next).await;
            struck += times;
            copy.drain().await;
            let found = self.go_on(&copy, &patients, round + 1).await;
            for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let (found, expected) = match wrong {
                    // What was due in that hour came earlier by so much.
                    Wrong::Jump => (timeless(found), timeless(expected)),
                    _ => (found.clone(), expected.clone()),
                };
                assert_eq!(found, expected, "{wrong:?} in round {round}, part {part}");
            }
            let letters = copy.letters().await;
            assert!(
                letters.is_empty(),
                "{wrong:?} in round {round}: {letters:?}"
            );
        }
        assert!(struck > 0, "{wrong:?} has never happened");
    }
}

/// Does it to a copy, before the next round. And how often it has happened: a move may be over before it is cut off, and
/// there may be none to break off.
async fn go_wrong(world: World, wrong: Wrong, next_round_ms: Option<u64>) -> (World, usize) {
    let mut struck = 1;
    let world = match wrong {
        Wrong::Unread | Wrong::Moved => world,
        Wrong::Cut => {
            let ledger = world.trust.vault().ledger().clone();
            let (moved, closed) = tokio::join!(world.journeys.drain(TENANT), ledger.close());
            closed.unwrap();
            // It came in time or it didn't; both have to be survived.
            struck = usize::from(moved.is_err());
            world.after_crash()
        }
        Wrong::Broken => {
            struck = usize::from(break_off(&world).await);
            world.drain().await;
            let ledger = world.trust.vault().ledger();
            let due = ledger.next_timer_ms().await.unwrap();
            let due = due.zip(next_round_ms).filter(|(due, next)| due <= next);
            if let Some((due_ms, _)) = due {
                world.clock.set(due_ms.max(world.now()));
                struck += usize::from(break_off(&world).await);
            }
            world
        }
        Wrong::Again => {
            world.drain().await;
            rewind(&world).await;
            world.after_crash()
        }
        Wrong::Jump => {
            let now = world.now();
            world.clock.set(now + HOUR);
            world.drain().await;
            world.clock.set(now);
            world
        }
    };
    (world, struck)
}

/// A move panics, where there is one. Whether there was.
async fn break_off(world: &World) -> bool {
    world.odd.panics.store(true, Ordering::SeqCst);
    let moved = world.journeys.drain(TENANT).await;
    let broke = !world.odd.panics.swap(false, Ordering::SeqCst);
    assert_eq!(moved.is_err(), broke);
    broke
}

/// Sets the place to which the feed was read back to its beginning.
async fn rewind(world: &World) {
    let ledger = world.trust.vault().ledger();
    let consumer = format!("journey/{}", TENANT.0);
    let mut some = false;
    for shard in (0..SHARDS).map(Shard) {
        let from = ledger.cursor(&consumer, shard).await.unwrap();
        if from == Number::default() {
            continue;
        }
        some = true;
        let commit = Commit {
            cursor: Some(CursorMove {
                consumer: consumer.clone(),
                shard,
                from,
                to: Number::default(),
            }),
            ..Commit::new(TENANT)
        };
        ledger.commit(commit).await.unwrap();
    }
    assert!(some, "something was read");
}

async fn perform(world: &World, patient: &str, act: Act) {
    match act {
        Act::Stay(class) => {
            let end = fhir::date::instant(world.now());
            world
                .put(vec![json!({
                    "resourceType": "Encounter", "id": world.mint(patient), "status": "finished",
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": class},
                    "subject": {"reference": format!("Patient/{patient}")},
                    "period": {"start": fhir::date::instant(world.now() - 3 * DAY), "end": end}
                })])
                .await;
        }
        Act::Answer(form, answers) => {
            let form = world.task(patient, form).await;
            let answers: Vec<(&str, Value)> = answers
                .iter()
                .map(|(question, said)| (*question, said.value()))
                .collect();
            world.answer_quietly(&form, &answers).await;
        }
        Act::Write(form, text) => {
            let form = world.task(patient, form).await;
            let mut message = trust::sms::came(&trust::sms::Came {
                patient,
                reference: None,
                asked: None,
                task: form.id().unwrap(),
                taken_for: trust::conventions::REPLY_UNCLEAR,
                text,
                at_ms: world.now(),
            });
            message.set_id(&world.mint(patient));
            world.put(vec![message.into_value()]).await;
        }
        Act::Work(name, outcome) => {
            let mut task = open_task(world, patient, name).await;
            if let Some(outcome) = outcome {
                let output = json!([{"type": {"text": "outcome"}, "valueString": outcome}]);
                task.set("output", output);
            }
            world.put(vec![task.into_value()]).await;
        }
        Act::Sign(name, account) => {
            let mut task = open_task(world, patient, name).await;
            task.set(
                "owner",
                json!({"identifier": {"system": trust::conventions::ACCOUNT_SYSTEM, "value": account}}),
            );
            world.put(vec![task.into_value()]).await;
        }
        Act::Weigh(kg) => world.weight_quietly(patient, kg).await,
        Act::Operate => {
            world
                .put(vec![json!({
                    "resourceType": "Procedure", "id": world.mint(patient), "status": "completed",
                    "subject": {"reference": format!("Patient/{patient}")}
                })])
                .await;
        }
        Act::Visit(status) => {
            for mut visit in world.of(patient, ResourceType::Appointment).await {
                visit.set("status", json!(status));
                world.put(vec![visit.into_value()]).await;
            }
        }
        Act::Partner(booking) => {
            let tasks = world.of(patient, ResourceType::Task).await.into_iter();
            let mut calls = tasks.filter(|task| code(task) == "call");
            let mut call = calls.next().expect("a call");
            call.set("status", json!("completed"));
            call.set(
                "output",
                json!([
                    {"type": {"text": "booking"}, "valueString": booking},
                    {"type": {"text": "status"}, "valueInteger": 201}
                ]),
            );
            world.put(vec![call.into_value()]).await;
        }
    }
}

/// The open task of this name, as it is when it is done.
async fn open_task(world: &World, patient: &str, name: &str) -> Resource {
    let open = world.of(patient, ResourceType::Task).await.into_iter();
    let mut open = open.filter(|task| {
        task.text_at(&["description"]) == Some(name)
            && task.text_at(&["status"]) == Some("requested")
    });
    let mut task = open.next().unwrap_or_else(|| panic!("no open {name}"));
    task.set("status", json!("completed"));
    task
}

fn code(task: &Resource) -> &str {
    task.text_at(&["code", "coding", "0", "code"]).unwrap_or("")
}

/// What has become of each of them, in words, with times.
async fn all(world: &World, patients: &[String]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for patient in patients {
        all.push(told(world, patient).await);
    }
    all.push(counted(world).await);
    all
}

/// Each journey that is under way says what it waits for, since when, and what would wake it: a time ahead, something
/// that somebody can act on, or what has to come.
async fn says_why(world: &World, patients: &[String]) {
    let now_ms = world.now();
    for patient in patients {
        for view in world.views(patient).await {
            if view.ended.is_some() {
                continue;
            }
            let journey = &view.journey;
            assert!(!view.waiting.is_empty(), "{journey} waits for nothing");
            for wait in &view.waiting {
                // The clock may have gone back by an hour since. And where it had jumped, what is written is numbered
                // some milliseconds after what the clock says.
                let since = view.started_ms - 1_000..=now_ms + HOUR;
                assert!(
                    since.contains(&wait.since_ms),
                    "{journey}: {since:?}, {wait:?}"
                );
                assert!(!wait.what.is_empty(), "{journey}: {wait:?}");
                assert!(
                    wait.until_ms.is_none_or(|until_ms| until_ms > now_ms),
                    "{journey} waits for what is past: {wait:?}"
                );
                let comes = wait.until_ms.is_some()
                    || wait.reference.is_some()
                    || wait.what.contains(" for ")
                    || wait.what.starts_with("Watches whether ");
                assert!(comes, "{journey} says not what would wake it: {wait:?}");
            }
        }
    }
}

/// How often each step was come to and left, and how journeys ended, as their pages say.
async fn counted(world: &World) -> Vec<String> {
    let permit = world.staff(Role::Squad, Action::Observe).await;
    let mut lines = Vec::new();
    for version in world.journeys.versions(&permit).await.unwrap() {
        let graph = world.journeys.graph(&permit, &version.name, None);
        let graph = graph.await.unwrap();
        for node in graph.nodes.iter().filter(|node| node.entered > 0) {
            let (id, entered, left, here) = (&node.id, node.entered, node.left, node.here);
            lines.push(format!(
                "- {}/{id} {entered} came, {left} left, {here} here",
                version.name
            ));
        }
        lines.push(format!("- {} {:?}", version.name, graph.endings));
    }
    lines
}

async fn told(world: &World, patient: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut views = world.views(patient).await;
    views.sort_by(|one, other| {
        (&one.journey, one.started_ms).cmp(&(&other.journey, other.started_ms))
    });
    for view in &views {
        let journey = &view.journey;
        lines.push(format!("{} {journey} begins", instant(view.started_ms)));
        for entry in &view.trail {
            let (at, step, what) = (instant(entry.at_ms), &entry.step, &entry.what);
            lines.push(format!("{at} {journey}/{step}: {what}"));
        }
        let at = view.ended.as_ref().map(|(at_ms, _)| instant(*at_ms));
        let how = view.ended.as_ref().map(|(_, how)| how);
        lines.push(format!(
            "{} {journey} ends: {how:?}",
            at.unwrap_or_default()
        ));
        for wait in &view.waiting {
            let (at, step, what) = (instant(wait.since_ms), &wait.step, &wait.what);
            lines.push(format!("{at} {journey}/{step} waits: {what}"));
        }
    }
    let mut there: Vec<String> = Vec::new();
    for kind in [
        ResourceType::Task,
        ResourceType::Communication,
        ResourceType::CommunicationRequest,
        ResourceType::Appointment,
        ResourceType::CarePlan,
        ResourceType::QuestionnaireResponse,
    ] {
        for one in world.of(patient, kind).await {
            let text = |path: &[&str]| one.text_at(path).unwrap_or("").to_owned();
            there.push(format!(
                "- {kind} {} {} {} {} {}",
                code(&one),
                text(&["description"]),
                text(&["topic", "text"]),
                text(&["medium", "0", "coding", "0", "code"]),
                text(&["status"]),
            ));
        }
    }
    there.sort();
    lines.extend(there);
    lines
}

fn instant(at_ms: u64) -> String {
    fhir::date::instant(at_ms)
}

/// Without the times, in no order.
fn timeless(lines: &[String]) -> Vec<String> {
    let words = lines.iter().map(|line| {
        let words = line
            .split_once(' ')
            .map_or(line.as_str(), |(_, words)| words);
        words.to_owned()
    });
    let mut words: Vec<String> = words.collect();
    words.sort();
    words
}

/// The steps that anybody has come to, of what was told.
fn visited(told: &[Vec<String>]) -> BTreeSet<String> {
    let lines = told.iter().flatten();
    let steps = lines.filter_map(|line| {
        let (step, rest) = line.strip_prefix("- ")?.split_once(' ')?;
        rest.contains(" came,").then(|| step.to_owned())
    });
    steps.collect()
}
