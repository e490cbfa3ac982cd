//! Flows from their start to their end, many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ledger::Clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ear::Ear;
use super::scene::{Ahead, STARTS_NOTHING, Scene, Ward};
use super::{JourneyOptions, Line, Times};
use crate::bench::machine;

/// What is waited for at most, so that a flow that is lost ends the measurement.
const LOST: Duration = Duration::from_secs(60);
/// How long it may take until all that is over is counted.
const COUNTED: Duration = Duration::from_secs(5);

/// A flow to be measured.
#[derive(Clone, Copy)]
struct Flow {
    name: &'static str,
    source: &'static str,
    /// Class of the stay that starts it.
    class: &'static str,
    /// The first version of its state with which it can be over.
    first_version: u32,
    /// How long after the start its timer is due; it waits for a signal before that.
    timer: Option<Duration>,
    rate_goal: &'static str,
    cpu_goal: &'static str,
}

const THREE: Flow = Flow {
    name: "three steps",
    source: include_str!("three-steps.yaml"),
    class: "SS",
    first_version: 1,
    timer: None,
    rate_goal: "≥ 4,000",
    cpu_goal: "≤ 0.3",
};
const SIGNAL: Flow = Flow {
    name: "signal and timer",
    source: include_str!("signal-timer.yaml"),
    class: "AMB",
    first_version: 2,
    timer: Some(Duration::from_secs(1)),
    rate_goal: "≥ 2,500",
    cpu_goal: "≤ 0.45",
};

pub(super) async fn three(options: &JourneyOptions) -> Result<Vec<Line>> {
    measure(THREE, options.flows, options.at_once).await
}

pub(super) async fn signal(options: &JourneyOptions) -> Result<Vec<Line>> {
    measure(SIGNAL, options.flows, options.signals_at_once).await
}

/// What one run of many flows, or of the writes by themselves, took.
struct Taken {
    seconds: f64,
    cpu_ms: u64,
    whole: Times,
    late: Times,
}

async fn measure(flow: Flow, count: usize, at_once: usize) -> Result<Vec<Line>> {
    let folder = tempfile::tempdir()?;
    let clock = Ahead::default();
    let mut scene = Scene::open(&folder.path().join("store"), &clock, 1).await?;
    let ward = scene.wards[0].clone();
    // The same writes while nobody follows them: what of all this is not the journeys'.
    let bare = ward.people((count / 4).max(1)).await?;
    let people = ward.people(count).await?;
    let bare_count = bare.len();
    let nothing = Flow {
        class: STARTS_NOTHING,
        ..flow
    };
    let alone = run(nothing, &ward, &clock, bare, at_once, None).await?;
    ward.publish(flow.source).await?;
    scene.follow();
    let ear = Arc::new(Ear::new(&ward.trust, &ward.engine, flow.first_version));
    let mut taken = run(flow, &ward, &clock, people, at_once, Some(ear)).await?;
    counted(&ward, count as u64).await?;
    scene.close().await?;

    let per = |ms: u64, of: usize| ms as f64 / of as f64;
    let line = |what: &str, value: f64, unit: &'static str, goal: &'static str| Line {
        what: format!("{}: {what}", flow.name),
        value,
        unit,
        goal,
    };
    let mut lines = vec![
        line(
            "rate",
            count as f64 / taken.seconds,
            "flows/s",
            flow.rate_goal,
        ),
        line(
            "CPU, with what the client writes",
            per(taken.cpu_ms, count),
            "ms/flow",
            flow.cpu_goal,
        ),
        line(
            "CPU of the client's writes by themselves",
            per(alone.cpu_ms, bare_count),
            "ms/flow",
            "",
        ),
        line("start to end, p50", taken.whole.at(0.5)?, "ms", ""),
        line("start to end, p99", taken.whole.at(0.99)?, "ms", ""),
    ];
    if flow.timer.is_some() {
        lines.push(line(
            "end after the timer was due, p50",
            taken.late.at(0.5)?,
            "ms",
            "",
        ));
        lines.push(line(
            "end after the timer was due, p99",
            taken.late.at(0.99)?,
            "ms",
            "",
        ));
    }
    Ok(lines)
}

/// Waits until all flows are counted as over: what is durable is heard of a moment before that.
async fn counted(ward: &Ward, all: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        let (running, ended) = ward.counts().await?;
        if (running, ended) == (0, all) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < COUNTED,
            "{running} journeys are under way and {ended} over, of {all}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run(
    flow: Flow,
    ward: &Arc<Ward>,
    clock: &Ahead,
    people: Vec<String>,
    at_once: usize,
    ear: Option<Arc<Ear>>,
) -> Result<Taken> {
    let (people, next) = (Arc::new(people), Arc::new(AtomicUsize::new(0)));
    let (cpu, began) = (machine::own_cpu_ms()?, Instant::now());
    let mut clients = JoinSet::new();
    for _ in 0..at_once {
        let (ward, clock, ear) = (ward.clone(), clock.clone(), ear.clone());
        let (people, next) = (people.clone(), next.clone());
        clients.spawn(async move {
            let (mut whole, mut late) = (Times::default(), Times::default());
            while let Some(patient) = people.get(next.fetch_add(1, Ordering::Relaxed)) {
                let began = Instant::now();
                let end = ear.as_ref().map(|ear| ear.end_of(patient));
                let due_ms = start(flow, &ward, &clock, patient).await?;
                if let Some(end) = end {
                    let end = tokio::time::timeout(LOST, end).await;
                    let end = end.context("a flow did not come to its end")??;
                    whole.add(end - began);
                    late.add(Duration::from_millis(clock.now_ms().saturating_sub(due_ms)));
                }
            }
            anyhow::Ok((whole, late))
        });
    }
    let (mut whole, mut late) = (Times::default(), Times::default());
    while let Some(client) = clients.join_next().await {
        let (one, other) = client??;
        whole.extend(one);
        late.extend(other);
    }
    Ok(Taken {
        seconds: began.elapsed().as_secs_f64(),
        cpu_ms: machine::own_cpu_ms()?.saturating_sub(cpu),
        whole,
        late,
    })
}

/// Writes what starts a flow, and its signal if it waits for one. Gives when its timer is due.
async fn start(flow: Flow, ward: &Ward, clock: &Ahead, patient: &str) -> Result<u64> {
    let after = flow.timer.unwrap_or_default();
    let due_ms = clock.now_ms() + u64::try_from(after.as_millis())?;
    ward.put(ward.stay(patient, flow.class, due_ms)).await?;
    if flow.timer.is_some() {
        ward.put(observation(ward, patient, clock.now_ms())).await?;
    }
    Ok(due_ms)
}

fn observation(ward: &Ward, patient: &str, at_ms: u64) -> Value {
    json!({"resourceType": "Observation", "id": ward.mint(patient), "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": fhir::date::instant(at_ms)})
}
