//! Benchmarks over the real binary: import, disk, reads, searches, writes, start-up, memory. Those of
//! the ledger by itself are in `ledger/`.
//!
//! Everything is on: sealed, indexed, audited, durable. Figures come with the machine they were
//! measured on; the client runs on the same machine and takes its share of the cores.

pub mod decisions;
mod export;
pub mod growth;
pub mod journeys;
pub mod ledger;
mod load;
pub(crate) mod machine;
pub mod matching;
pub mod neighbours;
pub mod pages;
pub mod peers;
mod requests;
mod wire;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::requests::Ids;
use self::wire::Door;
use crate::server::{ServerProcess, run};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchOptions {
    /// Synthetic patients to import.
    #[arg(long, default_value_t = 1000)]
    pub patients: u64,
    /// Import this file (bundles, one a line) instead of synthetic patients.
    #[arg(long)]
    pub input: Option<PathBuf>,
    /// Seed of the cohort and of the order of requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Requests at once.
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Seconds for each kind of request.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Measure only requests whose name contains this, `read` for example.
    #[arg(long)]
    pub only: Option<String>,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// A figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
}

/// Runs everything and prints a table.
///
/// # Errors
/// When the server can't be run or answers wrongly.
pub async fn run_all(options: &BenchOptions) -> Result<()> {
    let space = tempfile::tempdir()?;
    let data = space.path().join("data");
    let data_text = data.to_str().context("a path in UTF-8")?;
    let log = space.path().join("log");
    let mut figures = Vec::new();
    let mut add = |what: &str, value: f64, unit: &'static str| {
        figures.push(Figure {
            what: what.to_owned(),
            value,
            unit,
        });
    };

    let input = match &options.input {
        Some(path) => path.clone(),
        None => write_cohort(space.path(), options.seed, options.patients)?,
    };
    run(&["key", "create", "--data", data_text], "")?;
    let started = Instant::now();
    let cpu_before = machine::children_cpu_ms()?;
    run(
        &[
            "import",
            "--data",
            data_text,
            input.to_str().context("a path in UTF-8")?,
        ],
        "",
    )?;
    let import_s = started.elapsed().as_secs_f64();
    let import_cpu_ms = machine::children_cpu_ms()?.saturating_sub(cpu_before);
    let token = client_token(data_text)?;

    let started = Instant::now();
    let server = ServerProcess::start(&data, &log, &[]).await?;
    let start_ms = started.elapsed().as_secs_f64() * 1000.0;
    let door = Door::of(&server, token);

    let ids = Ids::collect(&door).await?;
    let resources = requests::count(&door).await? as f64;
    let disk = machine::folder_bytes(&data)? as f64;
    add("import", resources / import_s, "resources/s");
    add(
        "import, CPU",
        import_cpu_ms as f64 / resources,
        "ms/resource",
    );
    add("disk, all in", disk / resources, "bytes/resource");
    add("resources", resources, "");
    add("start-up to ready", start_ms, "ms");

    let runs = requests::all(&ids)?;
    let wanted = options.only.as_deref().unwrap_or_default();
    for (name, request) in runs.into_iter().filter(|(name, _)| name.contains(wanted)) {
        let cpu = server.cpu_ms()?;
        let result = load::run(
            &door,
            request,
            options.clients,
            Duration::from_secs(options.seconds),
            options.seed,
        )
        .await?;
        let cpu = server.cpu_ms()?.saturating_sub(cpu);
        add(&format!("{name}: rate"), result.rate, "/s");
        add(&format!("{name}: p50"), result.p50_ms, "ms");
        add(&format!("{name}: p99"), result.p99_ms, "ms");
        add(
            &format!("{name}: server CPU"),
            cpu as f64 / result.count as f64,
            "ms/request",
        );
        if name == requests::EVERYTHING {
            let seconds = result.count as f64 / result.rate;
            let resources = result.resources as f64;
            add(&format!("{name}: resources"), resources / seconds, "/s");
            add(
                &format!("{name}: server CPU of a resource"),
                cpu as f64 / resources,
                "ms",
            );
        }
    }
    if export::NAME.contains(wanted) {
        let cpu = server.cpu_ms()?;
        let result = export::run(&door, options.seconds).await?;
        let cpu = server.cpu_ms()?.saturating_sub(cpu);
        add(
            &format!("{}: resources", export::NAME),
            result.resources as f64 / result.seconds,
            "/s",
        );
        add(
            &format!("{}: bytes", export::NAME),
            result.bytes as f64 / result.seconds / 1e6,
            "MB/s",
        );
        add(
            &format!("{}: server CPU of a resource", export::NAME),
            cpu as f64 / result.resources as f64,
            "ms",
        );
    }
    let (now, peak) = server.memory_kib()?;
    add("memory after all of this", now as f64 / 1024.0, "MiB");
    add("memory, peak", peak as f64 / 1024.0, "MiB");

    server.kill()?;
    let started = Instant::now();
    let server = ServerProcess::start(&data, &log, &[]).await?;
    add(
        "start-up to ready after SIGKILL",
        started.elapsed().as_secs_f64() * 1000.0,
        "ms",
    );
    ensure!(server.terminate()?, "the server drains cleanly");
    report(
        &format!("client on the same machine, {} at once", options.clients),
        options.json.as_deref(),
        &json!({"clients": options.clients, "seed": options.seed}),
        &figures,
    )
}

#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
fn report(what: &str, json_file: Option<&Path>, options: &Value, figures: &[Figure]) -> Result<()> {
    let machine = machine::describe();
    println!("machine: {machine}; {what}\n");
    println!("| measure | figure | unit |\n|---|---:|---|");
    for figure in figures {
        println!(
            "| {} | {} | {} |",
            figure.what,
            rounded(figure.value),
            figure.unit
        );
    }
    if let Some(path) = json_file {
        let mut all = json!({"machine": machine, "figures": figures});
        for (name, value) in options.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}

/// A figure with as many digits as say something.
fn rounded(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// Makes a client of a store that no server has open, and gives its token.
fn client_token(data: &str) -> Result<String> {
    let client = ["client", "create", "--data", data];
    let said = run(
        &[&client[..], &["--name", "bench", "--role", "client"]].concat(),
        "",
    )?;
    Ok(said.trim().lines().last().unwrap_or("").to_owned())
}

/// Writes a synthetic cohort as bundles, one a line.
///
/// # Errors
/// When the file can't be written.
pub fn write_cohort(folder: &Path, seed: u64, patients: u64) -> Result<PathBuf> {
    write_cohort_at(folder, seed, patients, 1_764_547_200_000)
}

/// The same, with histories that end at this time, milliseconds since the epoch.
fn write_cohort_at(folder: &Path, seed: u64, patients: u64, now_ms: u64) -> Result<PathBuf> {
    let cohort = synthetic::CohortOptions {
        seed,
        now_ms,
        heart_failure_share: 0.2,
    };
    let path = folder.join("cohort.ndjson");
    let mut file = BufWriter::new(fs::File::create(&path)?);
    serde_json::to_writer(&mut file, &synthetic::organisation_bundle(&cohort))?;
    file.write_all(b"\n")?;
    for index in 0..patients {
        serde_json::to_writer(&mut file, &synthetic::patient_bundle(&cohort, index))?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(path)
}
