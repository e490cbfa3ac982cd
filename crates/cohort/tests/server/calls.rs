//! A server killed while its journeys call a partner that breaks off, is slow and isn't there: every call is answered,
//! and what is called twice comes under one key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, run};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::crash::{encounter, entries, now_ms, patient, text};
use crate::patience::Patience;
use crate::peers::root;

const PATIENTS: usize = 16;
const KILLS: usize = 8;

const JOURNEY: &str = "name: ride
title: Ride home
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 9d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: ride
steps:
  ride:
    title: Order a ride
    call:
      partner: rides
      path: /flaky/bookings
      values:
        name: {patient: family}
      learns:
        booking: {path: booking.id, class: contact}
      timeout_s: 2
      retry: {times: 50, backoff_s: 1}
      up_to: 12h
    next: booked
    failed: lost
    timed_out: lost
  booked:
    title: Booked
    task: {title: Tell them, reason: \"Booked as {ride.booking|nothing}.\", role: coordinator, due: 2d}
    next: end
    overdue: {role: clinician, priority: stat}
  lost:
    title: Lost
    task: {title: Lost, reason: No ride., role: coordinator, due: 2d}
    next: end
    overdue: {role: clinician, priority: stat}
";

/// The partner of the server's own tests: an HTTP server of Python's standard library.
struct Partner {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Partner {
    fn start(space: &Path, seed: u64) -> Self {
        let log = space.join("partner.log");
        let mut child = Command::new("python3")
            .arg(root().join("crates/cairn/tests/server/calls/partner.py"))
            .args([text(&log), &seed.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("a port");
        Self {
            child,
            port: line.trim().parse().expect("a port"),
            log,
        }
    }

    /// The keys under which it was called, by whom it was called for, and how many calls there were.
    fn keys(&self) -> (BTreeMap<String, BTreeSet<String>>, usize) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let (mut keys, mut count) = (BTreeMap::<String, BTreeSet<String>>::new(), 0);
        for line in log.lines() {
            let asked: Value = serde_json::from_str(line).expect("JSON");
            let body: Value =
                serde_json::from_str(asked["body"].as_str().expect("a body")).expect("JSON");
            let of = |value: &Value| value.as_str().expect("text").to_owned();
            let key = of(&asked["headers"]["idempotency-key"]);
            keys.entry(of(&body["name"])).or_default().insert(key);
            count += 1;
        }
        (keys, count)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_loses_no_call_to_a_partner() {
    let seed = 0xca_11;
    let mut random = Random::new(seed);
    let space = tempfile::tempdir().expect("a folder");
    let (data, log) = (space.path().join("data"), space.path().join("log"));
    let policies = space.path().join("policies");
    let partner = Partner::start(space.path(), seed);
    fs::create_dir(&policies).expect("a folder");
    run(&["policy", "init", text(&policies)], "").expect("policies");
    let rides = format!(
        "[[partner]]\nname = 'rides'\ntitle = 'Rides'\nbase = 'http://127.0.0.1:{}'\ncontract = 'baa'\n\
         until = '2099-12-31'\ndata = ['identity', 'contact']\npurposes = ['TREAT']\ntimeout_s = 2\n",
        partner.port
    );
    fs::write(policies.join("partners.toml"), rides).expect("written");
    let file = space.path().join("ride.yaml");
    fs::write(&file, JOURNEY).expect("written");
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let store = ["--data", text(&data)];
    let client = ["client", "create", "--name", "ward", "--role", "client"];
    let printed = run(&[&client[..], &store].concat(), "").expect("a token");
    let token = printed.lines().last().expect("a token").to_owned();
    let publish = [
        "journey",
        "publish",
        "--policy-folder",
        text(&policies),
        text(&file),
    ];
    run(&[&publish[..], &store].concat(), "").expect("published");
    let folder = format!("policy_folder={}", text(&policies));
    let more = ["--set", folder.as_str()];
    let mut server = ServerProcess::start(&data, &log, &more)
        .await
        .expect("a server");
    let mut written = 0;
    let ends = fhir::date::instant(now_ms());
    for kill in 0..=KILLS {
        // Some more patients between the kills, so that there are calls under way through all of them.
        let upto = PATIENTS * (kill + 1) / (KILLS + 1);
        while written < upto {
            let fhir = Fhir::new(&server.base, &token);
            for resource in [patient(written), encounter(written, &ends)] {
                let of = |name: &str| resource[name].as_str().expect("text").to_owned();
                let path = format!("{}/{}", of("resourceType"), of("id"));
                let (status, said) = fhir.put(&path, &resource).await.expect("an answer");
                assert!(matches!(status, 200 | 201), "{said}");
            }
            written += 1;
        }
        if kill < KILLS {
            sleep(Duration::from_millis(50 + random.below(600))).await;
            server.kill().expect("killed");
            server = ServerProcess::start(&data, &log, &more)
                .await
                .expect("a server");
        }
    }
    let fhir = Fhir::new(&server.base, &token);
    let mut patience = Patience::every(Duration::from_millis(250));
    let mut calls = BTreeMap::new();
    let mut told = BTreeMap::new();
    while told.len() < PATIENTS {
        let (_, keys) = partner.keys();
        let words = format!(
            "seed {seed:#x}: {} of {PATIENTS} are booked, {keys} calls",
            told.len()
        );
        patience.wait(&words).await;
        let (status, found) = fhir.get("Task?_count=500").await.expect("an answer");
        assert_eq!(status, 200, "{found}");
        for task in entries(&found) {
            let who = task["for"]["reference"].as_str().expect("whose").to_owned();
            let code = task["code"]["coding"][0]["code"].as_str().expect("a code");
            match code {
                "call" => calls.insert(who, task.clone()),
                _ => told.insert(who, task.clone()),
            };
        }
    }
    // Each was called for under one key, which is nobody else's, and the answer is the one to that key.
    let (keys, count) = partner.keys();
    assert_eq!(keys.len(), PATIENTS, "seed {seed:#x}");
    let all: BTreeSet<&String> = keys.values().flatten().collect();
    assert_eq!(all.len(), PATIENTS, "seed {seed:#x}: {keys:#?}");
    for number in 0..PATIENTS {
        let who = format!("Patient/crash-{number}");
        let key = keys[&format!("Crash{number}")]
            .first()
            .expect("a key")
            .as_str();
        assert_eq!(calls[&who]["id"], json!(key), "seed {seed:#x}");
        assert_eq!(
            calls[&who]["status"], "completed",
            "seed {seed:#x}: {:#}",
            calls[&who]
        );
        let reason = &told[&who]["reasonCode"]["text"];
        assert_eq!(
            *reason,
            json!(format!("Booked as B-{}.", &key[..8])),
            "seed {seed:#x}"
        );
    }
    // Nothing comes that nobody waits for.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(partner.keys().1, count, "seed {seed:#x}");
    println!(
        "calls: seed {seed:#x}, {KILLS} kills; {PATIENTS} answered, {count} calls, {} of them repeats",
        count - PATIENTS
    );
    assert!(server.terminate().expect("ended"), "a clean end");
}
