//! SIGKILL at random points, during import and while a journey runs against a real SMTP server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cohort::bench::write_cohort;
pub(crate) use cohort::crash::people::{
    condition, encounter, entries, is_staff, now_ms, patient, weight,
};
use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, binary, run};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::patience::Patience;
use crate::peers::smtp;

const IMPORT_KILLS: u64 = 12;
const JOURNEY_KILLS: u64 = 15;
const PATIENTS: usize = 60;

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

async fn count(fhir: &Fhir, kind: &str) -> u64 {
    let (status, bundle) = fhir
        .get(&format!("{kind}?_count=1&_total=accurate"))
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{bundle}");
    bundle["total"].as_u64().expect("a total")
}

fn verify(data: &Path) {
    let report =
        run(&["audit", "verify", "--data", text(data)], "").expect("the audit tree verifies");
    assert!(!report.is_empty());
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_again_and_again_ends_whole() {
    let seed = 0x1a4d;
    let space = tempfile::tempdir().expect("a folder");
    let input = write_cohort(space.path(), seed, 150).expect("a cohort");
    let (data, whole) = (space.path().join("data"), space.path().join("whole"));
    let mut random = Random::new(seed);
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let mut kills = 0;
    for _ in 0..IMPORT_KILLS {
        let mut child = Command::new(binary().expect("built"))
            .args(["import", "--data", text(&data), text(&input)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the import starts");
        sleep(Duration::from_millis(50 + random.below(700))).await;
        kills += u64::from(child.try_wait().expect("asked").is_none());
        let _ = child.kill();
        child.wait().expect("ended");
    }
    run(&["import", "--data", text(&data), text(&input)], "").expect("the import ends");
    verify(&data);
    // The same input, imported once without being killed, says what must be there.
    run(&["key", "create", "--data", text(&whole)], "").expect("a key");
    run(&["import", "--data", text(&whole), text(&input)], "").expect("the import ends");
    let mut totals = Vec::new();
    for folder in [&data, &whole] {
        let token = run(
            &[
                "client",
                "create",
                "--data",
                text(folder),
                "--name",
                "test",
                "--role",
                "client",
            ],
            "",
        )
        .expect("a token");
        let server = ServerProcess::start(folder, &space.path().join("log"), &[])
            .await
            .expect("a server");
        let fhir = Fhir::new(&server.base, token.lines().last().expect("a token"));
        let mut counts = BTreeMap::new();
        for kind in [
            "Patient",
            "Encounter",
            "Condition",
            "Observation",
            "MedicationRequest",
            "Consent",
            "Practitioner",
            "Organization",
        ] {
            counts.insert(kind, count(&fhir, kind).await);
        }
        totals.push(counts);
        assert!(server.terminate().expect("ended"), "a clean end");
    }
    assert_eq!(
        totals[0], totals[1],
        "seed {seed:#x}: killed imports lose and double nothing"
    );
    assert_eq!(totals[0]["Patient"], 150);
    println!("import: seed {seed:#x}, {kills} kills, {:?}", totals[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journey_that_is_killed_again_and_again_loses_no_step() {
    let seed = 0x3e11;
    let mut random = Random::new(seed);
    let space = tempfile::tempdir().expect("a folder");
    let (data, log) = (space.path().join("data"), space.path().join("log"));
    let smtp = smtp(space.path());
    let config = space.path().join("cairn.toml");
    fs::write(&config, format!("[smtp]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"care@example.com\"\n", smtp.port())).expect("written");
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let token = run(
        &[
            "client",
            "create",
            "--data",
            text(&data),
            "--name",
            "test",
            "--role",
            "client",
        ],
        "",
    )
    .expect("a token");
    let token = token.lines().last().expect("a token").to_owned();
    let journey = crate::peers::root().join("journeys/heart-failure-discharge.yaml");
    run(
        &["journey", "publish", "--data", text(&data), text(&journey)],
        "",
    )
    .expect("published");
    let config = text(&config).to_owned();
    let arguments = ["--config", config.as_str()];

    let mut server = Some(
        ServerProcess::start(&data, &log, &arguments)
            .await
            .expect("a server"),
    );
    let mut fhir = Fhir::new(&server.as_ref().expect("running").base, &token);
    let (mut kills, mut acknowledged) = (0, HashMap::new());
    let mut next_kill = Instant::now() + Duration::from_millis(200 + random.below(600));
    // Everything that a patient does, in order; a request without an answer is made again.
    for number in 0..PATIENTS {
        let end = fhir::date::instant(now_ms() - 3_600_000);
        let mut wanted: Vec<(String, Value)> = vec![
            (format!("Patient/crash-{number}"), patient(number)),
            (format!("Condition/crash-{number}-hf"), condition(number)),
            (
                format!("Encounter/crash-{number}-stay"),
                encounter(number, &end),
            ),
        ];
        for (day, kg) in [(2, 80.0), (1, 81.0), (0, 83.5)] {
            let id = format!("crash-{number}-weight-{day}");
            let mut reading = weight(
                number,
                kg,
                &fhir::date::instant(now_ms() - day * 86_400_000),
            );
            reading["id"] = json!(id);
            wanted.push((format!("Observation/{id}"), reading));
        }
        for (path, body) in wanted {
            loop {
                if kills < JOURNEY_KILLS && Instant::now() >= next_kill {
                    server.take().expect("running").kill().expect("killed");
                    kills += 1;
                    server = Some(
                        ServerProcess::start(&data, &log, &arguments)
                            .await
                            .expect("a server"),
                    );
                    fhir = Fhir::new(&server.as_ref().expect("running").base, &token);
                    next_kill = Instant::now() + Duration::from_millis(100 + random.below(900));
                }
                let put = fhir.put(&path, &body);
                let answered = tokio::select! {
                    answer = put => Some(answer),
                    () = tokio::time::sleep_until(next_kill), if kills < JOURNEY_KILLS => None,
                };
                if let Some(Ok((status, answer))) = answered {
                    assert!(status == 200 || status == 201, "{path}: {status} {answer}");
                    acknowledged.insert(path.clone(), body.clone());
                    break;
                }
            }
        }
    }
    // Kill until all kills are done, then let it settle.
    while kills < JOURNEY_KILLS {
        sleep(Duration::from_millis(100 + random.below(500))).await;
        server.take().expect("running").kill().expect("killed");
        kills += 1;
        server = Some(
            ServerProcess::start(&data, &log, &arguments)
                .await
                .expect("a server"),
        );
    }
    let fhir = Fhir::new(&server.as_ref().expect("running").base, &token);
    let mut patience = Patience::every(Duration::from_millis(500));
    let (mut sent, mut tasks);
    loop {
        (sent, tasks) = (Vec::new(), Vec::new());
        for number in 0..PATIENTS {
            let (_, bundle) = fhir
                .get(&format!("Communication?subject=Patient/crash-{number}"))
                .await
                .expect("an answer");
            sent.extend(
                entries(&bundle)
                    .into_iter()
                    .filter(|communication| communication["status"] == "completed"),
            );
            let (_, bundle) = fhir
                .get(&format!("Task?patient=Patient/crash-{number}"))
                .await
                .expect("an answer");
            tasks.extend(entries(&bundle));
        }
        let welcomed: BTreeSet<&str> = sent
            .iter()
            .filter_map(|communication| communication["subject"]["reference"].as_str())
            .collect();
        let warned: BTreeSet<&str> = tasks
            .iter()
            .filter(|task| is_staff(task))
            .filter_map(|task| task["for"]["reference"].as_str())
            .collect();
        if welcomed.len() == PATIENTS && warned.len() == PATIENTS {
            break;
        }
        let (welcomed, warned) = (welcomed.len(), warned.len());
        let words = format!("{welcomed} welcomed and {warned} warned of {PATIENTS}");
        patience.wait(&format!("seed {seed:#x}: {words}")).await;
    }
    for (path, body) in &acknowledged {
        let (status, stored) = fhir.get(path).await.expect("an answer");
        assert_eq!(
            status, 200,
            "seed {seed:#x}: acknowledged {path} is missing"
        );
        assert_eq!(stored["subject"], body["subject"], "{path} is whole");
    }
    for number in 0..PATIENTS {
        let who = format!("Patient/crash-{number}");
        let staff = tasks
            .iter()
            .filter(|task| is_staff(task) && task["for"]["reference"] == who.as_str())
            .count();
        assert_eq!(
            staff, 1,
            "seed {seed:#x}: one rise of weight, one task for {who}"
        );
        assert!(
            sent.iter()
                .any(|communication| communication["subject"]["reference"] == who.as_str()),
            "seed {seed:#x}: {who} was welcomed"
        );
    }
    assert!(
        server.take().expect("running").terminate().expect("ended"),
        "a clean end"
    );
    verify(&data);
    // Each message arrived at least once; what arrived twice can be recognised.
    let (by_recipient, taken) = smtp.by_recipient();
    let distinct: usize = by_recipient.values().map(BTreeSet::len).sum();
    let mails = sent
        .iter()
        .filter(|communication| communication["medium"][0]["coding"][0]["code"] == "EMAILWRIT")
        .count();
    assert_eq!(
        by_recipient.len(),
        PATIENTS,
        "seed {seed:#x}: everybody was written to"
    );
    assert_eq!(
        distinct, mails,
        "seed {seed:#x}: as many different Message-IDs as messages; the rest are recognisable repeats"
    );
    println!(
        "journey: seed {seed:#x}, {kills} kills, {} acknowledged writes, {mails} messages, {} deliveries, {} recognisable repeats, {} tasks",
        acknowledged.len(),
        taken,
        taken - distinct,
        tasks.len()
    );
}

/// Runs `cohort crash`, which says how it went by how it ends.
fn storm(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
    let output = command.arg("crash").args(arguments).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    said
}

/// A figure of what it printed.
fn figure(said: &str, what: &str) -> u64 {
    let row = said
        .lines()
        .find(|line| line.starts_with(&format!("| {what} |")));
    let row = row.unwrap_or_else(|| panic!("{what} is not in {said}"));
    let figure = row.trim_end_matches(" |").rsplit(' ').next();
    figure.expect("a figure").parse().expect("a number")
}

#[test]
fn every_kind_of_step_goes_through_a_few_kills_with_nothing_lost() {
    let said = storm(&["--kills", "8", "--patients", "8", "--seed", "49317"]);
    // And once more before it is looked at.
    assert_eq!(figure(&said, "kills"), 9, "{said}");
    // Of each patient three journeys, eight facts at least, three e-mails and a call.
    assert_eq!(figure(&said, "journeys that came to their end"), 24);
    assert!(figure(&said, "facts acknowledged") >= 64, "{said}");
    let (mails, called_off) = (
        figure(&said, "e-mails, by Message-ID"),
        figure(
            &said,
            "e-mails that were called off because the form was answered",
        ),
    );
    assert!(mails + called_off >= 24 && mails >= 16, "{said}");
    assert_eq!(figure(&said, "calls, by Idempotency-Key"), 8);
    assert_eq!(figure(&said, "lost"), 0);
    assert!(said.contains("Sound."), "{said}");
    println!("{said}");
}

#[test]
fn every_kind_of_step_goes_through_a_few_kills_on_postgresql_with_nothing_lost() {
    let cluster = Cluster::new();
    let url = cluster.url("cairn");
    let few = ["--kills", "4", "--patients", "4", "--seed", "49318"];
    let long = ["--longest-ms", "9000", "--store", url.as_str()];
    let said = storm(&[&few[..], &long].concat());
    assert_eq!(figure(&said, "journeys that came to their end"), 12);
    assert_eq!(figure(&said, "lost"), 0);
    println!("{said}");
}
