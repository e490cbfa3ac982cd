//! What one tenant's flood costs its neighbour: two tenants on one server, and the requests of one measured alone
//! and beside a flood of the other's.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::load::{self, Flood};
use super::requests::{self, EVERYTHING, Ids};
use super::wire::Door;
use super::{Figure, report, write_cohort};
use crate::server::{ServerProcess, run};

const QUIET: &str = "quiet";
const NOISY: &str = "noisy";
/// How long a flood runs before its neighbour is measured.
const SWELL: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct NeighbourOptions {
    /// Synthetic patients of each tenant.
    #[arg(long, default_value_t = 500)]
    pub patients: u64,
    /// Seed of the cohort and of the order of requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Requests at once of the tenant that is measured.
    #[arg(long, default_value_t = 2)]
    pub clients: usize,
    /// Requests at once of the one that floods.
    #[arg(long, default_value_t = 64)]
    pub flood: usize,
    /// How many of these the quota of the one that floods lets in; the server's bound if not given.
    #[arg(long)]
    pub at_once: Option<u32>,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// The door of one tenant.
fn door(server: &ServerProcess, tenant: &str, token: &str) -> Door {
    Door {
        host: Some(format!("{tenant}.example")),
        ..Door::of(server, token.to_owned())
    }
}

/// The requests of a tenant; the whole record of a patient is left out, because one answer of it is as much as a
/// hundred others.
fn requests_of(ids: &Ids) -> Result<Vec<(&'static str, load::Request)>> {
    let all = requests::all(ids)?.into_iter();
    Ok(all.filter(|(name, _)| *name != EVERYTHING).collect())
}

/// Measures and prints a table.
///
/// # Errors
/// When the server can't be run or answers wrongly.
pub async fn run_all(options: &NeighbourOptions) -> Result<()> {
    let space = tempfile::tempdir()?;
    let data = space.path().join("data");
    let data_text = data.to_str().context("a path in UTF-8")?;
    let on = |arguments: &[&str]| run(&[arguments, &["--data", data_text]].concat(), "");
    let input = write_cohort(space.path(), options.seed, options.patients)?;
    let input = input.to_str().context("a path in UTF-8")?;
    on(&["key", "create"])?;
    on(&["client", "list"])?;
    on(&[
        "tenant",
        "set",
        "main",
        "--host",
        "quiet.example",
        "--rename",
        QUIET,
    ])?;
    on(&["tenant", "create", NOISY, "--host", "noisy.example"])?;
    if let Some(at_once) = options.at_once {
        on(&["tenant", "set", NOISY, "--at-once", &at_once.to_string()])?;
    }
    let mut tokens = Vec::new();
    for tenant in [QUIET, NOISY] {
        on(&["import", input, "--of", tenant])?;
        let said = on(&[
            "client", "create", "--name", "bench", "--role", "client", "--of", tenant,
        ])?;
        tokens.push(said.trim().lines().last().unwrap_or("").to_owned());
    }
    let server = ServerProcess::start(&data, &space.path().join("log"), &[]).await?;
    let (quiet, noisy) = (
        door(&server, QUIET, &tokens[0]),
        door(&server, NOISY, &tokens[1]),
    );
    let (own, others) = (Ids::collect(&quiet).await?, Ids::collect(&noisy).await?);

    let mut figures = Vec::new();
    let mut add = |what: String, value: f64, unit: &'static str| {
        figures.push(Figure { what, value, unit });
    };
    let time = Duration::from_secs(options.seconds);
    for (name, _) in requests_of(&own)? {
        // A request is made anew for each run.
        let again = || -> Result<load::Request> {
            let mut all = requests_of(&own)?.into_iter();
            let found = all.find(|(other, _)| *other == name);
            Ok(found.context("a request of that name")?.1)
        };
        let alone = load::run(&quiet, again()?, options.clients, time, options.seed).await?;
        add(format!("{name}, alone: p50"), alone.p50_ms, "ms");
        add(format!("{name}, alone: p99"), alone.p99_ms, "ms");
        for (flooding, request) in requests_of(&others)? {
            let flood = Flood::begin(&noisy, request, options.flood, options.seed).await?;
            tokio::time::sleep(SWELL).await;
            let beside = load::run(&quiet, again()?, options.clients, time, options.seed).await;
            let (rate, refused) = flood.end().await?;
            let beside = beside?;
            let what = format!("{name}, beside {} × {flooding}", options.flood);
            add(format!("{what}: p50"), beside.p50_ms, "ms");
            add(format!("{what}: p99"), beside.p99_ms, "ms");
            add(
                format!("{what}: p50, ratio"),
                beside.p50_ms / alone.p50_ms,
                "",
            );
            add(
                format!("{what}: p99, ratio"),
                beside.p99_ms / alone.p99_ms,
                "",
            );
            add(format!("{what}: the flood"), rate, "answers/s");
            add(format!("{what}: of these refused"), refused * 100.0, "%");
        }
    }
    ensure!(server.terminate()?, "the server drains cleanly");
    let machine = format!(
        "two tenants of {} patients each; {} requests at once beside a flood of {}",
        options.patients, options.clients, options.flood
    );
    report(
        &machine,
        options.json.as_deref(),
        &json!({"clients": options.clients, "flood": options.flood, "at_once": options.at_once, "seed": options.seed}),
        &figures,
    )
}
