//! SIGKILL while patients come into a segment, by what is written and by time alone: nobody is missed, nobody begins
//! twice.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::crash::{now_ms, patient};
use crate::dates::{KILLS, PATIENTS, Victim, in_a_database, in_a_folder};

/// Those who are in the record before the journey is published.
const BEFORE: usize = 10;
const DAY_MS: u64 = 86_400_000;
/// Of so many one never comes in.
const MEASURED: usize = 6;

const JOURNEY: &str = "name: overdue
title: Overdue
owner: Team
purpose: TREAT
at_most: 30d
entry:
  segment: overdue
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: call
steps:
  call:
    title: Call the patient
    task: {title: Call, reason: A value is missing., role: coordinator, due: 5d}
    next: end
    overdue: end
";

const SEGMENTS: &str = "segments:
  overdue:
    title: Nothing measured in a day
    all:
      - has: Condition
        where: clinicalStatus.coding.exists(code = 'active')
      - has_no: Observation
        where: status = 'final'
        dated: effective
        within: 24h
";

fn condition(number: usize) -> Value {
    json!({
        "resourceType": "Condition", "id": format!("crash-{number}-condition"),
        "subject": {"reference": format!("Patient/crash-{number}")},
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}
    })
}

fn value(number: usize, at_ms: u64) -> Value {
    json!({
        "resourceType": "Observation", "id": format!("crash-{number}-value"), "status": "final",
        "subject": {"reference": format!("Patient/crash-{number}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]},
        "effectiveDateTime": fhir::date::instant(at_ms)
    })
}

/// A patient who comes in at once, when a value is a day old, or not at all.
async fn write(victim: &mut Victim, number: usize, at_ms: u64) {
    let at = |path: &str| format!("{path}/crash-{number}");
    victim.put(&at("Patient"), &patient(number)).await;
    let measured_ms = if number.is_multiple_of(MEASURED) {
        Some(now_ms())
    } else if number % 2 == 1 {
        Some(at_ms - DAY_MS)
    } else {
        None
    };
    if let Some(measured_ms) = measured_ms {
        let path = format!("{}-value", at("Observation"));
        victim.put(&path, &value(number, measured_ms)).await;
    }
    let path = format!("{}-condition", at("Condition"));
    victim.put(&path, &condition(number)).await;
}

async fn killed(
    space: &Path,
    (arguments, token, squad): (Vec<String>, String, String),
    seed: u64,
) -> String {
    let mut victim = Victim::new(space, arguments, token, seed).await;
    let from_ms = now_ms() + 12_000;
    for number in 0..BEFORE {
        write(&mut victim, number, from_ms + 700 * number as u64).await;
    }
    let file = space.join("overdue.yaml");
    std::fs::write(&file, JOURNEY).expect("written");
    std::fs::write(space.join("segments.yaml"), SEGMENTS).expect("written");
    victim.publish(&file, &squad);
    // From here on, while records are looked through and patients come in.
    victim.next_kill = Instant::now() + Duration::from_millis(100);
    for number in BEFORE..PATIENTS {
        let at_ms = now_ms() + 4000;
        write(&mut victim, number, at_ms).await;
    }
    while victim.kills < KILLS {
        sleep_until(victim.next_kill).await;
        victim.kill().await;
    }
    let expected: Vec<usize> = (0..PATIENTS)
        .map(|number| usize::from(!number.is_multiple_of(MEASURED)))
        .collect();
    victim.comes_to(&expected, seed).await;
    let server = victim.server.take().expect("running");
    assert!(server.terminate().expect("ended"), "a clean end");
    format!("segments: seed {seed:#x}, {} kills", victim.kills)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patients_who_come_into_a_segment_while_the_server_is_killed_begin_once() {
    let space = tempfile::tempdir().expect("a folder");
    let told = killed(space.path(), in_a_folder(space.path()), 0x5e9).await;
    println!("{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patients_who_come_into_a_segment_while_a_server_on_postgresql_is_killed_begin_once() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let store = in_a_database(space.path(), &cluster);
    let told = killed(space.path(), store, 0x5ea).await;
    println!("{told}");
}
