//! Many clients asking at once, each for its next answer as soon as it has the last.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::random::Random;
use crate::server::Fhir;

/// One request.
pub enum Call {
    /// GET of a path.
    Get(String),
    /// POST of a resource.
    Post(String, Value),
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

/// Asks for `time` with `clients` at once.
///
/// # Errors
/// When an answer is not a success.
pub async fn run(
    fhir: &Fhir,
    request: Request,
    clients: usize,
    time: Duration,
    seed: u64,
) -> Result<Load> {
    let request = Arc::new(request);
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (fhir, request) = (fhir.clone(), Arc::clone(&request));
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed ^ ((client as u64) << 40));
            let (mut times_ms, mut resources) = (Vec::new(), 0);
            while started.elapsed() < time {
                let call = request(&mut random);
                let asked = Instant::now();
                let (status, answer) = match call {
                    Call::Get(path) => fhir.get(&path).await?,
                    Call::Post(path, body) => fhir.post(&path, &body).await?,
                };
                ensure!(
                    (200..300).contains(&status),
                    "an answer with status {status}"
                );
                times_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
                resources += answer["entry"].as_array().map_or(0, Vec::len);
            }
            Ok((times_ms, resources))
        }));
    }
    let (mut times_ms, mut resources) = (Vec::new(), 0);
    for task in tasks {
        let (times, seen) = task.await??;
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
