//! Journeys: flows from start to end, a morning's spike of timers, and what many who wait cost. In this
//! process over the embedded store, sealed, audited and durable; followed as the server follows them. The
//! writes that start journeys are part of what is measured.

mod ear;
mod flows;
mod peers;
mod scene;
mod waits;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::{machine, rounded};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct JourneyOptions {
    /// Flows of each kind.
    #[arg(long, default_value_t = 20_000)]
    pub flows: usize,
    /// Flows of three steps at once.
    #[arg(long, default_value_t = 50)]
    pub at_once: usize,
    /// Flows with a signal and a timer of a second at once.
    #[arg(long, default_value_t = 4_000)]
    pub signals_at_once: usize,
    /// Journeys that wait for timers which are all due in one minute.
    #[arg(long, default_value_t = 1_000_000)]
    pub waiting: usize,
    /// Tenants among which these are spread, the last with a hundredth of them.
    #[arg(long, default_value_t = 4)]
    pub tenants: u32,
    /// Folder with Restate's server and library in `node_modules`, to run the two flows there as well.
    #[arg(long)]
    pub restate: Option<PathBuf>,
    /// Virtual environment with Temporal's development server and library, to run them there as well.
    #[arg(long)]
    pub temporal: Option<PathBuf>,
    /// Flows of each kind on those servers.
    #[arg(long, default_value_t = 2_000)]
    pub peers_flows: usize,
    /// Flows with a signal and a timer of a second at once there.
    #[arg(long, default_value_t = 400)]
    pub peers_signals_at_once: usize,
    /// Don't let the timers come due.
    #[arg(long)]
    pub no_spike: bool,
    /// Measure this alone.
    #[arg(long)]
    pub only: Option<Part>,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Three messages by one event.
    Three,
    /// A signal, then a timer.
    Signal,
    /// Many who wait, and their timers.
    Waiting,
    /// The first two on other servers.
    Peers,
}

/// A figure beside its goal.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    goal: &'static str,
}

/// Times, to be put in order.
#[derive(Debug, Clone, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }
    fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    /// Milliseconds of a share of them.
    fn at(&mut self, share: f64) -> Result<f64> {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1).context("something measured")?;
        let place = (last as f64 * share).round() as usize;
        Ok(self.0[place].as_secs_f64() * 1000.0)
    }
}

/// Measures, and prints a table.
///
/// # Errors
/// When a journey is lost, or the store fails.
pub async fn run_all(options: &JourneyOptions) -> Result<()> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut lines = Vec::new();
    if wanted(Part::Three) {
        lines.extend(flows::three(options).await?);
    }
    if wanted(Part::Signal) {
        lines.extend(flows::signal(options).await?);
    }
    if wanted(Part::Waiting) {
        lines.extend(waits::measure(options).await?);
    }
    let mut missing = Vec::new();
    if wanted(Part::Peers) {
        let (of_peers, lacking) = peers::measure(options).await?;
        lines.extend(of_peers);
        missing = lacking;
    }
    report(options, &lines, &missing)
}

#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
fn report(options: &JourneyOptions, lines: &[Line], missing: &[String]) -> Result<()> {
    let machine = machine::describe();
    println!(
        "machine: {machine}; {} flows, {} and {} at once; {} waiting in {} tenants\n",
        options.flows, options.at_once, options.signals_at_once, options.waiting, options.tenants
    );
    println!("| measure | figure | unit | goal |\n|---|---:|---|---|");
    for line in lines {
        let value = rounded(line.value);
        println!(
            "| {} | {value} | {} | {} |",
            line.what, line.unit, line.goal
        );
    }
    for what in missing {
        println!("\n{what}.");
    }
    if let Some(path) = &options.json {
        let all = json!({"machine": machine, "flows": options.flows, "at_once": options.at_once,
            "signals_at_once": options.signals_at_once, "waiting": options.waiting,
            "tenants": options.tenants, "figures": lines});
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
