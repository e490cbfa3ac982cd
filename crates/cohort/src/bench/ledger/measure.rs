//! Taking times, and what this process has used.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::bench::Figure;
use crate::bench::machine::{own_cpu_ms, own_memory_kib};
use crate::random::Random;

/// How often the disk is asked for its floor.
const FLUSHES: usize = 300;
/// Bytes of one of these writes: a group of one small commit.
const FLUSH_BYTES: usize = 4096;

/// The figures so far.
#[derive(Default)]
pub(super) struct Figures(pub(super) Vec<Figure>);

impl Figures {
    pub(super) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.0.push(Figure {
            what: what.into(),
            value,
            unit,
        });
    }

    /// Rate, the usual shares, the worst, and the processor time of each.
    pub(super) fn times(&mut self, what: &str, times: &Times) {
        self.add(format!("{what}: rate"), times.rate(), "/s");
        self.add(format!("{what}: p50"), times.at(0.5), "ms");
        self.add(format!("{what}: p99"), times.at(0.99), "ms");
        self.add(format!("{what}: worst"), times.at(1.0), "ms");
        self.add(
            format!("{what}: CPU"),
            times.cpu_ms / times.len() as f64,
            "ms each",
        );
    }

    /// Memory of this process now, and the most it has had.
    pub(super) fn memory(&mut self, when: &str) -> Result<()> {
        let (now, peak) = own_memory_kib()?;
        self.add(format!("memory {when}"), now as f64 / 1024.0, "MiB");
        self.add(format!("memory {when}, peak"), peak as f64 / 1024.0, "MiB");
        Ok(())
    }
}

/// How long each of many things took.
pub(super) struct Times {
    /// Rising.
    times_ms: Vec<f64>,
    elapsed_s: f64,
    /// Of the whole process.
    pub(super) cpu_ms: f64,
}

impl Times {
    pub(super) fn of(mut times_ms: Vec<f64>, elapsed_s: f64, cpu_ms: f64) -> Result<Self> {
        ensure!(!times_ms.is_empty(), "nothing was done in time");
        times_ms.sort_by(f64::total_cmp);
        Ok(Self {
            times_ms,
            elapsed_s,
            cpu_ms,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.times_ms.len()
    }

    pub(super) fn rate(&self) -> f64 {
        self.len() as f64 / self.elapsed_s
    }

    /// The time within which a share (0–1) was done.
    pub(super) fn at(&self, share: f64) -> f64 {
        self.times_ms[((self.len() - 1) as f64 * share) as usize]
    }
}

/// Does something again and again for `time`, `at_once` of it at a time. It is told which of them it
/// is by a generator of its own.
pub(super) async fn together<F>(
    at_once: usize,
    time: Duration,
    seed: u64,
    work: impl Fn(Random) -> F + Send + Sync + 'static,
) -> Result<Times>
where
    F: Future<Output = Result<()>> + Send,
{
    let work = Arc::new(work);
    let (started, cpu) = (Instant::now(), own_cpu_ms()?);
    let mut tasks = Vec::new();
    for worker in 0..at_once {
        let work = Arc::clone(&work);
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed ^ ((worker as u64) << 40));
            let mut times_ms = Vec::new();
            while started.elapsed() < time {
                let began = Instant::now();
                work(Random::new(random.next_u64())).await?;
                times_ms.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, anyhow::Error>(times_ms)
        }));
    }
    let mut times_ms = Vec::new();
    for task in tasks {
        times_ms.extend(task.await??);
    }
    let cpu_ms = own_cpu_ms()?.saturating_sub(cpu) as f64;
    Times::of(times_ms, started.elapsed().as_secs_f64(), cpu_ms)
}

/// Does something `times` times, one after the other.
pub(super) async fn in_turn<F>(
    times: usize,
    seed: u64,
    mut work: impl FnMut(Random) -> F,
) -> Result<Times>
where
    F: Future<Output = Result<()>>,
{
    let mut random = Random::new(seed);
    let (started, cpu) = (Instant::now(), own_cpu_ms()?);
    let mut times_ms = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        work(Random::new(random.next_u64())).await?;
        times_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu_ms = own_cpu_ms()?.saturating_sub(cpu) as f64;
    Times::of(times_ms, started.elapsed().as_secs_f64(), cpu_ms)
}

/// The greatest of what it is told.
#[derive(Default)]
pub(super) struct Worst(AtomicU64);

impl Worst {
    pub(super) fn tell(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros, Ordering::Relaxed);
    }
    pub(super) fn ms(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

/// What the disk itself takes for small durable writes, one after the other, into a file that is as
/// long beforehand as it will be.
pub(super) fn flush_floor(folder: &Path) -> Result<Times> {
    use std::io::{Seek, SeekFrom, Write};
    let path = folder.join("flush-floor");
    let mut file = std::fs::File::create(&path)?;
    file.set_len((FLUSHES * FLUSH_BYTES) as u64)?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let bytes = [0x5a; FLUSH_BYTES];
    let started = Instant::now();
    let mut times_ms = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        let began = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Times::of(times_ms, elapsed_s, 0.0)
}
