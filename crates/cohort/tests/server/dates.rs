//! SIGKILL around the moments at which journeys begin by a date: nobody is missed, nobody begins twice.

use std::path::Path;
use std::time::Duration;

use cohort::crash::people;
use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, run};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Cluster;
use crate::crash::{entries, is_staff, now_ms, patient, text};
use crate::patience::Patience;

pub(crate) const PATIENTS: usize = 24;
/// Those who are in the record before the journey is published.
const BEFORE: usize = 10;
pub(crate) const KILLS: u64 = 8;
const DAY_MS: u64 = 86_400_000;
/// Of so many one is called off before its date.
const CALLED_OFF: usize = 6;

/// A journey two weeks before a visit: to the second, so that the dates lie among the kills.
const JOURNEY: &str = "name: before-visits
title: Before a visit
owner: Team
purpose: TREAT
at_most: 30d
entry:
  date: {of: Appointment, where: status = 'booked', begins: visit - 14d, past_due: run}
  anchors: {visit: start}
  within: 1d
  per: date
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: call
steps:
  call:
    title: Call the patient
    task: {title: Call, reason: A visit is near., role: coordinator, due: 5d}
    next: end
    overdue: end
";

fn visit(number: usize, at_ms: u64, status: &str) -> Value {
    people::visit(number, &fhir::date::instant(at_ms + 14 * DAY_MS), status)
}

/// A server that is killed again and again.
pub(crate) struct Victim {
    arguments: Vec<String>,
    log: std::path::PathBuf,
    token: String,
    pub(crate) server: Option<ServerProcess>,
    random: Random,
    pub(crate) kills: u64,
    pub(crate) next_kill: Instant,
}

impl Victim {
    /// One that runs, and isn't killed before somebody says when.
    pub(crate) async fn new(
        space: &Path,
        arguments: Vec<String>,
        token: String,
        seed: u64,
    ) -> Self {
        let mut victim = Self {
            arguments,
            log: space.join("log"),
            token,
            server: None,
            random: Random::new(seed),
            kills: 0,
            next_kill: Instant::now(),
        };
        victim.start().await;
        victim.next_kill = Instant::now() + Duration::from_secs(3600);
        victim
    }
    /// Publishes a journey by its server.
    pub(crate) fn publish(&self, file: &Path, squad: &str) {
        let base = self.server.as_ref().expect("running").base.clone();
        let publish = [
            "journey",
            "publish",
            "--server",
            &base,
            "--token",
            squad,
            text(file),
        ];
        run(&publish, "").expect("published");
    }
    async fn start(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let server = ServerProcess::start_with(&self.log, &arguments).await;
        self.server = Some(server.expect("a server"));
        self.next_kill = Instant::now() + Duration::from_millis(150 + self.random.below(900));
    }
    pub(crate) async fn kill(&mut self) {
        self.server.take().expect("running").kill().expect("killed");
        self.kills += 1;
        self.start().await;
    }
    fn fhir(&self) -> Fhir {
        Fhir::new(&self.server.as_ref().expect("running").base, &self.token)
    }
    /// Writes until it is acknowledged, killed in between.
    pub(crate) async fn put(&mut self, path: &str, body: &Value) {
        loop {
            if self.kills < KILLS && Instant::now() >= self.next_kill {
                self.kill().await;
            }
            let (fhir, kills) = (self.fhir(), self.kills < KILLS);
            let answered = tokio::select! {
                answer = fhir.put(path, body) => Some(answer),
                () = sleep_until(self.next_kill), if kills => None,
            };
            if let Some(Ok((status, answer))) = answered {
                assert!(status == 200 || status == 201, "{path}: {status} {answer}");
                return;
            }
        }
    }
    async fn write(&mut self, number: usize, at_ms: u64) {
        self.put(&format!("Patient/crash-{number}"), &patient(number))
            .await;
        let path = format!("Appointment/crash-{number}-visit");
        self.put(&path, &visit(number, at_ms, "booked")).await;
        if number.is_multiple_of(CALLED_OFF) {
            self.put(&path, &visit(number, at_ms, "cancelled")).await;
        }
    }
    /// Waits until so many tasks are there and no more come, whatever a restart might begin.
    pub(crate) async fn comes_to(&mut self, expected: &[usize], seed: u64) {
        let mut patience = Patience::every(Duration::from_millis(500));
        loop {
            let tasks = self.tasks().await;
            let missed = tasks
                .iter()
                .zip(expected)
                .any(|(found, wanted)| found < wanted);
            if !missed {
                break;
            }
            patience
                .wait(&format!(
                    "seed {seed:#x}: {tasks:?} instead of {expected:?}"
                ))
                .await;
        }
        // Whatever else a restart might begin has begun by now.
        self.kill().await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(self.tasks().await, expected, "seed {seed:#x}");
    }
    /// How many tasks of staff each patient has.
    pub(crate) async fn tasks(&self) -> Vec<usize> {
        let fhir = self.fhir();
        let mut tasks = Vec::new();
        for number in 0..PATIENTS {
            let path = format!("Task?patient=Patient/crash-{number}");
            let (_, bundle) = fhir.get(&path).await.expect("an answer");
            tasks.push(
                entries(&bundle)
                    .iter()
                    .filter(|task| is_staff(task))
                    .count(),
            );
        }
        tasks
    }
}

async fn killed(
    space: &Path,
    arguments: Vec<String>,
    token: String,
    squad: &str,
    seed: u64,
) -> String {
    let mut victim = Victim::new(space, arguments, token, seed).await;
    // Those who are called off are so far ahead that nothing has begun by then.
    let at = |number: usize, from_ms: u64| {
        let far_ms = if number.is_multiple_of(CALLED_OFF) {
            DAY_MS
        } else {
            0
        };
        from_ms + far_ms + 700 * number as u64
    };
    let from_ms = now_ms() + 12_000;
    for number in 0..BEFORE {
        victim.write(number, at(number, from_ms)).await;
    }
    let file = space.join("before-visits.yaml");
    std::fs::write(&file, JOURNEY).expect("written");
    victim.publish(&file, squad);
    // From here on, while records are looked through and dates come.
    victim.next_kill = Instant::now() + Duration::from_millis(100);
    for number in BEFORE..PATIENTS {
        let from_ms = now_ms() + 1500;
        let ahead_ms = at(number, from_ms) - 700 * number as u64;
        victim.write(number, ahead_ms).await;
    }
    while victim.kills < KILLS {
        sleep_until(victim.next_kill).await;
        victim.kill().await;
    }
    let expected: Vec<usize> = (0..PATIENTS)
        .map(|number| usize::from(!number.is_multiple_of(CALLED_OFF)))
        .collect();
    victim.comes_to(&expected, seed).await;
    let server = victim.server.take().expect("running");
    assert!(server.terminate().expect("ended"), "a clean end");
    format!(
        "dates: seed {seed:#x}, {} kills, {expected:?}",
        victim.kills
    )
}

/// A store in a folder: the server's arguments, and tokens of a client and of a squad.
pub(crate) fn in_a_folder(space: &Path) -> (Vec<String>, String, String) {
    let data = space.join("data");
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let client = |role: &str| {
        let command = [
            "client",
            "create",
            "--data",
            text(&data),
            "--name",
            role,
            "--role",
            role,
        ];
        let printed = run(&command, "").expect("a token");
        printed.lines().last().expect("a token").to_owned()
    };
    let (token, squad) = (client("client"), client("squad"));
    (
        vec!["--data".to_owned(), text(&data).to_owned()],
        token,
        squad,
    )
}

/// The same of a store in PostgreSQL.
pub(crate) fn in_a_database(space: &Path, cluster: &Cluster) -> (Vec<String>, String, String) {
    let url = cluster.url("cairn");
    let key = space.join("root.key");
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let store = ["--store-url", url.as_str(), "--root-key", text(&key)];
    let client = |role: &str| {
        let command = ["client", "create", "--name", role, "--role", role];
        let printed = run(&[&command[..], &store[..]].concat(), "").expect("a token");
        printed.lines().last().expect("a token").to_owned()
    };
    let (token, squad) = (client("client"), client("squad"));
    let arguments = vec![
        "--root-key".to_owned(),
        text(&key).to_owned(),
        "--set".to_owned(),
        format!("store.url={url}"),
    ];
    (arguments, token, squad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_that_come_while_the_server_is_killed_begin_each_journey_once() {
    let space = tempfile::tempdir().expect("a folder");
    let (arguments, token, squad) = in_a_folder(space.path());
    let told = killed(space.path(), arguments, token, &squad, 0xda7e).await;
    println!("{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_that_come_while_a_server_on_postgresql_is_killed_begin_each_journey_once() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let (arguments, token, squad) = in_a_database(space.path(), &cluster);
    let told = killed(space.path(), arguments, token, &squad, 0xda7f).await;
    println!("{told}");
}
