//! Many clients asking at once, each for its next answer as soon as it has the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::wire::{Door, Wire};
use crate::random::Random;

/// One request.
pub enum Call {
    /// GET of a path.
    Get(String),
    /// POST of a resource, a bundle or a form.
    Post(String, Bytes),
}

impl Call {
    fn parts(self) -> (Method, String, Bytes) {
        match self {
            Self::Get(path) => (Method::GET, path, Bytes::new()),
            Self::Post(path, body) => (Method::POST, path, body),
        }
    }
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
    /// The largest answer.
    pub bytes_max: usize,
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
    run_by(std::slice::from_ref(door), request, clients, time, seed).await
}

/// The same, the clients being these in turn.
///
/// # Errors
/// When an answer is not a success.
pub async fn run_by(
    doors: &[Door],
    request: Request,
    clients: usize,
    time: Duration,
    seed: u64,
) -> Result<Load> {
    let request = Arc::new(request);
    let mut wires = Vec::new();
    for door in doors.iter().cycle().take(clients) {
        wires.push(Wire::open(door).await?);
    }
    let is_fhir = doors.iter().all(|door| door.cookie.is_none());
    let started = Instant::now();
    let mut tasks = Vec::new();
    for (client, mut wire) in wires.into_iter().enumerate() {
        let request = Arc::clone(&request);
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed ^ ((client as u64) << 40));
            let (mut times_ms, mut resources, mut bytes_max) = (Vec::new(), 0, 0);
            while started.elapsed() < time {
                let (method, path, body) = request(&mut random).parts();
                let asked = Instant::now();
                let (status, answer) = wire.ask(method, &path, body).await?;
                times_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
                ensure!(
                    (200..300).contains(&status),
                    "an answer with status {status}"
                );
                bytes_max = answer.len().max(bytes_max);
                if is_fhir {
                    let entries: Entries =
                        serde_json::from_slice(&answer).context("an answer that is no JSON")?;
                    resources += entries.entry.len();
                }
            }
            Ok((times_ms, resources, bytes_max))
        }));
    }
    let (mut times_ms, mut resources, mut bytes_max) = (Vec::new(), 0, 0);
    for task in tasks {
        let (times, seen, largest): (Vec<f64>, usize, usize) = task.await??;
        times_ms.extend(times);
        resources += seen;
        bytes_max = largest.max(bytes_max);
    }
    ensure!(!times_ms.is_empty(), "no answer in time");
    let elapsed_s = started.elapsed().as_secs_f64();
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share) as usize];
    Ok(Load {
        count: times_ms.len(),
        resources,
        bytes_max,
        rate: times_ms.len() as f64 / elapsed_s,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    })
}

/// Clients that ask without a pause until they are told to stop, and take a "later" for an answer.
pub struct Flood {
    began: Instant,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<(usize, usize)>>>,
}

impl Flood {
    /// Begins with so many clients.
    ///
    /// # Errors
    /// When the server does not let them in.
    pub async fn begin(door: &Door, request: Request, clients: usize, seed: u64) -> Result<Self> {
        let (request, stop) = (Arc::new(request), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for client in 0..clients {
            let mut wire = Wire::open(door).await?;
            let (request, stop) = (Arc::clone(&request), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut random = Random::new(!seed ^ ((client as u64) << 40));
                let (mut answers, mut refused) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let (method, path, body) = request(&mut random).parts();
                    let (status, _) = wire.ask(method, &path, body).await?;
                    ensure!(
                        (200..300).contains(&status) || status == 429,
                        "an answer with status {status}"
                    );
                    answers += 1;
                    refused += usize::from(status == 429);
                }
                Ok((answers, refused))
            }));
        }
        Ok(Self {
            began: Instant::now(),
            stop,
            tasks,
        })
    }

    /// Ends it: how many answers there were a second, and what share of them was "later".
    ///
    /// # Errors
    /// When an answer was another.
    pub async fn end(self) -> Result<(f64, f64)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut refused) = (0, 0);
        for task in self.tasks {
            let (more, of_these) = task.await??;
            answers += more;
            refused += of_these;
        }
        ensure!(answers > 0, "the flood had no answer");
        let rate = answers as f64 / self.began.elapsed().as_secs_f64();
        Ok((rate, refused as f64 / answers as f64))
    }
}
