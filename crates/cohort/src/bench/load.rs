//! Many clients asking at once, each for its next answer as soon as it has the last.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use super::wire::{Door, Wire};
use crate::random::Random;

/// One request.
pub enum Call {
    /// GET of a path.
    Get(String),
    /// POST of a resource or bundle.
    Post(String, Bytes),
}

/// As much of a bundle as is counted.
#[derive(Deserialize)]
struct Entries {
    #[serde(default)]
    entry: Vec<IgnoredAny>,
}

/// Makes the next request.
pub type Request = Box<dyn Fn(&mut Random) -> Call + Send + Sync>;

/// What was measured.
pub struct Load {
    /// Answers.
    pub count: usize,
    /// Resources in bundles that were answered.
    pub resources: usize,
    /// Answers a second.
    pub rate: f64,
    /// Half of the answers came within this time.
    pub p50_ms: f64,
    /// 99 % of the answers came within this time.
    pub p99_ms: f64,
}

/// Asks for `time` with `clients` at once, each on a connection of its own.
///
/// # Errors
/// When an answer is not a success.
pub async fn run(
    door: &Door,
    request: Request,
    clients: usize,
    time: Duration,
    seed: u64,
) -> Result<Load> {
    let request = Arc::new(request);
    let mut wires = Vec::new();
    for _ in 0..clients {
        wires.push(Wire::open(door).await?);
    }
    let started = Instant::now();
    let mut tasks = Vec::new();
    for (client, mut wire) in wires.into_iter().enumerate() {
        let request = Arc::clone(&request);
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed ^ ((client as u64) << 40));
            let (mut times_ms, mut resources) = (Vec::new(), 0);
            while started.elapsed() < time {
                let (method, path, body) = match request(&mut random) {
                    Call::Get(path) => (Method::GET, path, Bytes::new()),
                    Call::Post(path, body) => (Method::POST, path, body),
                };
                let asked = Instant::now();
                let (status, answer) = wire.ask(method, &path, body).await?;
                times_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
                ensure!(
                    (200..300).contains(&status),
                    "an answer with status {status}"
                );
                let entries: Entries =
                    serde_json::from_slice(&answer).context("an answer that is no JSON")?;
                resources += entries.entry.len();
            }
            Ok((times_ms, resources))
        }));
    }
    let (mut times_ms, mut resources) = (Vec::new(), 0);
    for task in tasks {
        let (times, seen): (Vec<f64>, usize) = task.await??;
        times_ms.extend(times);
        resources += seen;
    }
    ensure!(!times_ms.is_empty(), "no answer in time");
    let elapsed_s = started.elapsed().as_secs_f64();
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share) as usize];
    Ok(Load {
        count: times_ms.len(),
        resources,
        rate: times_ms.len() as f64 / elapsed_s,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    })
}
