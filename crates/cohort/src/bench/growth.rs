//! Searches as the store grows: the same blend of searches on stores of several sizes, one after the
//! other in one run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire::{Door, Wire};
use super::{client_token, load, machine, rounded, write_cohort};
use crate::random::Random;
use crate::server::{ServerProcess, run};

/// Patients that are asked for, of however many there are.
const ASKED_FOR: u64 = 1000;
/// A server that uses less of a second than this rests.
const BUSY_MS: u64 = 100;
/// So long is waited for that.
const REST_MAX: Duration = Duration::from_secs(120);
const WEIGHT: &str = "http://loinc.org|29463-7";
const HYPERTENSION: &str = "http://snomed.info/sct|59621000";

/// Which sizes to measure, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct GrowthOptions {
    /// How many synthetic patients each store has.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 8000, 64_000])]
    pub sizes: Vec<u64>,
    /// Seed of the cohorts and of the order of requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Requests at once; each blend is also measured with one.
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Seconds for each blend; each search by itself has a quarter of it.
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What a search needs to know of a patient.
#[derive(Debug, Clone)]
struct Person {
    id: String,
    number: String,
    family: String,
    born: String,
}

/// What a search is called, and its path for a patient.
type Search = (&'static str, fn(&Person) -> String);

/// The blend, each as often as the others.
const SEARCHES: [Search; 12] = [
    ("Patient by family and birthdate", |person| {
        format!("Patient?family={}&birthdate={}", person.family, person.born)
    }),
    ("Patient by identifier", |person| {
        format!("Patient?identifier={}", person.number)
    }),
    ("Patient by start of a name, newest 20", |person| {
        let start: String = person.family.chars().take(3).collect();
        format!("Patient?name={start}&_count=20")
    }),
    ("Patient by gender and year of birth, newest 20", |person| {
        let year = person.born.get(..4).unwrap_or(&person.born);
        format!("Patient?gender=female&birthdate={year}&_count=20")
    }),
    ("Observation by subject, code, date, newest 20", |person| {
        format!(
            "Observation?subject=Patient/{}&code={WEIGHT}&date=ge2000-01-01&_count=20",
            person.id
        )
    }),
    ("Observation by subject, _sort=-date, 20", |person| {
        format!(
            "Observation?subject=Patient/{}&_sort=-date&_count=20",
            person.id
        )
    }),
    ("Observation by code, newest 20 of all", |_| {
        format!("Observation?code={WEIGHT}&_count=20")
    }),
    ("Observation by code and value, newest 20", |_| {
        format!("Observation?code={WEIGHT}&value-quantity=gt95&_count=20")
    }),
    ("Encounter by patient with _include", |person| {
        format!(
            "Encounter?patient={}&_include=Encounter:participant&_count=20",
            person.id
        )
    }),
    ("Condition by code, newest 20 of all", |_| {
        format!("Condition?code={HYPERTENSION}&_count=20")
    }),
    (
        "MedicationRequest by patient's identifier (chain)",
        |person| format!("MedicationRequest?patient.identifier={}", person.number),
    ),
    ("Patient by birthdate and condition (_has)", |person| {
        format!(
            "Patient?birthdate={}&_has:Condition:patient:code={HYPERTENSION}",
            person.born
        )
    }),
];

/// What was measured of one store: what it is, value, unit.
type Figures = Vec<(String, f64, &'static str)>;

/// Measures each size and prints a table, a column for each.
///
/// # Errors
/// When the server can't be run or answers wrongly.
pub async fn run_all(options: &GrowthOptions) -> Result<()> {
    let mut columns = Vec::new();
    for size in &options.sizes {
        let figures = measure(options, *size).await?;
        columns.push((*size, figures));
    }
    report(options, &columns)
}

async fn measure(options: &GrowthOptions, patients: u64) -> Result<Figures> {
    let space = tempfile::tempdir()?;
    let data = space.path().join("data");
    let data_text = data.to_str().context("a path in UTF-8")?;
    let cohort = write_cohort(space.path(), options.seed, patients)?;
    run(&["key", "create", "--data", data_text], "")?;
    let file = cohort.to_str().context("a path in UTF-8")?;
    run(&["import", "--data", data_text, file], "")?;
    let token = client_token(data_text)?;
    let server = ServerProcess::start(&data, &space.path().join("log"), &[]).await?;
    let door = Door::of(&server, token);
    let people = people(&door, options.seed, patients).await?;

    let mut figures = Figures::new();
    let rested = rest(&server).await?;
    figures.push((
        "compactions after the import".to_owned(),
        rested.as_secs_f64(),
        "s",
    ));
    for clients in [options.clients, 1] {
        let people = people.clone();
        let request: load::Request = Box::new(move |random: &mut Random| {
            let (_, search) = SEARCHES[random.below(SEARCHES.len() as u64) as usize];
            let person = &people[random.below(people.len() as u64) as usize];
            load::Call::Get(search(person))
        });
        let time = Duration::from_secs(options.seconds);
        let cpu = server.cpu_ms()?;
        let result = load::run(&door, request, clients, time, options.seed).await?;
        let cpu = server.cpu_ms()?.saturating_sub(cpu) as f64;
        let name = format!("blend, {clients} at once");
        figures.push((format!("{name}: p50"), result.p50_ms, "ms"));
        figures.push((format!("{name}: p99"), result.p99_ms, "ms"));
        figures.push((format!("{name}: rate"), result.rate, "/s"));
        figures.push((
            format!("{name}: server CPU"),
            cpu / result.count as f64,
            "ms/request",
        ));
    }
    for (name, search) in SEARCHES {
        let people = people.clone();
        let request: load::Request = Box::new(move |random: &mut Random| {
            load::Call::Get(search(&people[random.below(people.len() as u64) as usize]))
        });
        let time = Duration::from_millis(options.seconds * 250);
        let result = load::run(&door, request, 1, time, options.seed).await?;
        figures.push((format!("{name}: p50"), result.p50_ms, "ms"));
        figures.push((
            format!("{name}: rows"),
            result.resources as f64 / result.count as f64,
            "",
        ));
    }
    let (_, peak) = server.memory_kib()?;
    figures.push(("memory, peak".to_owned(), peak as f64 / 1024.0, "MiB"));
    ensure!(server.terminate()?, "the server drains cleanly");
    Ok(figures)
}

/// Waits until the server has nothing to do: what an import leaves to be merged takes a core for a while. How
/// long that was.
async fn rest(server: &ServerProcess) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let (before, cpu) = (started.elapsed(), server.cpu_ms()?);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let busy = server.cpu_ms()?.saturating_sub(cpu);
        if busy < BUSY_MS || started.elapsed() > REST_MAX {
            return Ok(before);
        }
    }
}

/// Patients spread over the whole store, found by their record numbers.
async fn people(door: &Door, seed: u64, patients: u64) -> Result<Vec<Person>> {
    let cohort = synthetic::CohortOptions {
        seed,
        now_ms: 0,
        heart_failure_share: 0.0,
    };
    let mut wire = Wire::open(door).await?;
    let mut people = Vec::new();
    let step = (patients / ASKED_FOR).max(1);
    let started = Instant::now();
    for index in (0..patients).step_by(step as usize) {
        let number = synthetic::record_number(&cohort, index);
        let path = format!("Patient?identifier={number}");
        let (status, body) = wire.ask(Method::GET, &path, Bytes::new()).await?;
        ensure!(status == 200, "GET {path}: {status}");
        let bundle: Value = serde_json::from_slice(&body)?;
        let entries = bundle["entry"].as_array().context("a patient is found")?;
        ensure!(entries.len() == 1, "one patient has a record number");
        let patient = &entries[0]["resource"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        people.push(Person {
            id: text(&patient["id"]),
            number,
            family: text(&patient["name"][0]["family"]).replace(' ', "%20"),
            born: text(&patient["birthDate"]),
        });
        ensure!(
            started.elapsed() < Duration::from_secs(120),
            "patients are found in time"
        );
    }
    Ok(people)
}

#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
fn report(options: &GrowthOptions, columns: &[(u64, Figures)]) -> Result<()> {
    let machine = machine::describe();
    println!("machine: {machine}; client on the same machine\n");
    let sizes: Vec<String> = (columns.iter())
        .map(|(size, _)| format!("{size} patients"))
        .collect();
    println!("| measure | {} | unit |", sizes.join(" | "));
    println!("|---|{}---|", "---:|".repeat(columns.len()));
    for (place, (what, _, unit)) in columns[0].1.iter().enumerate() {
        let row: Vec<String> = (columns.iter())
            .map(|(_, figures)| rounded(figures[place].1))
            .collect();
        println!("| {what} | {} | {unit} |", row.join(" | "));
    }
    if let Some(path) = &options.json {
        let all: Vec<Value> = (columns.iter())
            .map(|(size, figures)| json!({"patients": size, "figures": figures}))
            .collect();
        let all = json!({"machine": machine, "seed": options.seed, "sizes": all});
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
