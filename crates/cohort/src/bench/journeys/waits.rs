//! Many who wait, and what happens when their time has come: of several tenants, all within a minute.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fhir::ResourceType;
use ledger::{Clock, Kind};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use trust::kinds;

use super::scene::{Ahead, READER, STARTS_NOTHING, Scene, Ward};
use super::{JourneyOptions, Line, Times};
use crate::bench::machine;

const SOURCE: &str = include_str!("reminder.yaml");
const DAY_MS: u64 = 86_400_000;
/// Within this all are due.
const MINUTE_MS: u64 = 60_000;
/// From the clock's being set ahead to the first that is due: more than the longest that a follower sleeps.
const AHEAD_MS: u64 = 35_000;
/// Writers at once while journeys are started.
const STARTS_AT_ONCE: usize = 64;
/// One tenant has so much less than the others: it must not wait for them.
const SMALL: usize = 100;
/// From so many on a journey's share of the disk can be told from what the store's journal takes, which is
/// filled up to 64 MB and then begins anew.
const WEIGHED: usize = 500_000;
/// How long processors are watched while nothing is due.
const IDLE: Duration = Duration::from_secs(10);
/// Readers at once, and how long each rests between reads.
const READERS: usize = 4;
const READ_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// No drain takes longer than this.
const NEVER: Duration = Duration::from_secs(3600);

/// A tenant's patients and when each is due.
type Due = HashMap<String, u64>;

pub(super) async fn measure(options: &JourneyOptions) -> Result<Vec<Line>> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    let clock = Ahead::default();
    let mut scene = Scene::open(&store, &clock, options.tenants).await?;
    let shares = shares(options.waiting, options.tenants)?;
    let mut lines = Vec::new();
    let base_ms = clock.now_ms() + DAY_MS;

    let mut due = Vec::new();
    let bare = match options.waiting {
        few if few < WEIGHED => None,
        many => Some(bare_bytes(&store, &scene.wards[0], base_ms, many / 4).await?),
    };
    for (ward, share) in scene.wards.iter().zip(&shares) {
        due.push(people(ward, *share, base_ms).await?);
    }
    let before = machine::folder_bytes(&store)? as f64;
    for ward in &scene.wards {
        ward.publish(SOURCE).await?;
    }
    scene.follow();
    let (cpu, began) = (machine::own_cpu_ms()?, Instant::now());
    start_all(&scene, &due).await?;
    let all = options.waiting as f64;
    let cpu = machine::own_cpu_ms()?.saturating_sub(cpu) as f64;
    lines.push(line(
        "starts",
        all / began.elapsed().as_secs_f64(),
        "/s",
        "",
    ));
    lines.push(line(
        "starts, CPU with the write that causes one",
        cpu / all,
        "ms",
        "",
    ));

    rest().await?;
    let cpu = machine::own_cpu_ms()?;
    tokio::time::sleep(IDLE).await;
    let idle = machine::own_cpu_ms()?.saturating_sub(cpu) as f64;
    let share = idle / IDLE.as_secs_f64() / 10.0;
    lines.push(line("idle, of one core", share, "%", "no CPU"));
    let each = (machine::folder_bytes(&store)? as f64 - before) / all;
    lines.push(line(
        "disk, with the write that causes one",
        each,
        "bytes each",
        "",
    ));
    if let Some(bare) = bare {
        lines.push(line("disk", each - bare, "bytes each", "< 500"));
    }
    let (now, _) = machine::own_memory_kib()?;
    lines.push(line(
        "memory of the process",
        now as f64 / 1024.0,
        "MiB",
        "",
    ));

    scene.close().await?;
    let began = Instant::now();
    let mut scene = Scene::open(&store, &clock, options.tenants).await?;
    let opened = began.elapsed();
    for ward in &scene.wards {
        ward.counts().await?;
    }
    let restarted = began.elapsed().as_secs_f64();
    lines.push(line("restart", restarted, "s", "< 2"));
    lines.push(line(
        "restart, of this the store's",
        opened.as_secs_f64(),
        "s",
        "",
    ));
    if !options.no_spike {
        scene.follow();
        lines.extend(spike(&scene, &due, base_ms).await?);
    }
    scene.close().await?;
    Ok(lines)
}

fn line(what: &str, value: f64, unit: &'static str, goal: &'static str) -> Line {
    Line {
        what: format!("waiting: {what}"),
        value,
        unit,
        goal,
    }
}

/// How many wait in each tenant: the last is small where there are several.
fn shares(all: usize, tenants: u32) -> Result<Vec<usize>> {
    let tenants = tenants as usize;
    ensure!(all >= SMALL * 2, "at least {} have to wait", SMALL * 2);
    if tenants == 1 {
        return Ok(vec![all]);
    }
    let small = all / SMALL;
    let mut shares = vec![(all - small) / (tenants - 1); tenants - 1];
    shares[0] += all - small - shares.iter().sum::<usize>();
    shares.push(small);
    Ok(shares)
}

/// Patients, each with a time within the minute.
async fn people(ward: &Ward, count: usize, base_ms: u64) -> Result<Due> {
    let ids = ward.people(count).await?;
    let times = (0..count as u64).map(|place| base_ms + place * MINUTE_MS / count as u64);
    Ok(ids.into_iter().zip(times).collect())
}

/// What the write that causes a start takes on disk, by itself.
async fn bare_bytes(store: &Path, ward: &Arc<Ward>, base_ms: u64, count: usize) -> Result<f64> {
    let due = people(ward, count, base_ms).await?;
    rest().await?;
    let before = machine::folder_bytes(store)?;
    write_stays(ward, &due, STARTS_NOTHING).await?;
    rest().await?;
    let bytes = machine::folder_bytes(store)?.saturating_sub(before);
    Ok(bytes as f64 / count as f64)
}

async fn write_stays(ward: &Arc<Ward>, due: &Due, class: &'static str) -> Result<()> {
    let all: Vec<(String, u64)> = due.iter().map(|(id, at)| (id.clone(), *at)).collect();
    let (all, next) = (Arc::new(all), Arc::new(AtomicUsize::new(0)));
    let mut writers = JoinSet::new();
    for _ in 0..STARTS_AT_ONCE {
        let (ward, all, next) = (ward.clone(), all.clone(), next.clone());
        writers.spawn(async move {
            while let Some((patient, due_ms)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                ward.put(ward.stay(patient, class, *due_ms)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok(())
}

/// Starts everybody's journey, and waits until all are under way.
async fn start_all(scene: &Scene, due: &[Due]) -> Result<()> {
    for (ward, due) in scene.wards.iter().zip(due) {
        write_stays(ward, due, "IMP").await?;
    }
    for (ward, due) in scene.wards.iter().zip(due) {
        until(async || Ok(ward.counts().await?.0 == due.len() as u64)).await?;
    }
    Ok(())
}

async fn until(holds: impl AsyncFn() -> Result<bool>) -> Result<Duration> {
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < NEVER, "it did not come true in time");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(began.elapsed())
}

/// Waits until this process has nothing to do, as when tables have been merged.
async fn rest() -> Result<()> {
    for _ in 0..120 {
        let cpu = machine::own_cpu_ms()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if machine::own_cpu_ms()?.saturating_sub(cpu) < 50 {
            break;
        }
    }
    Ok(())
}

/// Lets the minute come in which all are due.
async fn spike(scene: &Scene, due: &[Due], base_ms: u64) -> Result<Vec<Line>> {
    let all: usize = due.iter().map(HashMap::len).sum();
    let mut quiet = Readers::begin(scene, due).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut quiet = quiet.end().await?;
    let by_ms = base_ms.saturating_sub(scene.clock.now_ms() + AHEAD_MS);
    scene.clock.jump(by_ms);
    while scene.clock.now_ms() < base_ms {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut readers = Readers::begin(scene, due).await?;
    let (cpu, began) = (machine::own_cpu_ms()?, Instant::now());
    let seconds = drained(scene, due).await?;
    let whole = began.elapsed().as_secs_f64();
    let cpu = machine::own_cpu_ms()?.saturating_sub(cpu) as f64;
    let mut reads = readers.end().await?;
    let mut lines = vec![
        line("drained after the first was due", whole, "s", "< 300"),
        line("moves by timers", all as f64 / whole, "/s", ""),
        line("CPU of one, with the reads", cpu / all as f64, "ms", ""),
        line(
            "last tenant after the first",
            whole / seconds[0],
            "times",
            "",
        ),
        line("reads before, p99", quiet.at(0.99)?, "ms", ""),
        line("reads meanwhile, p50", reads.at(0.5)?, "ms", ""),
        line("reads meanwhile, p99", reads.at(0.99)?, "ms", "< 50"),
    ];
    let mut everyone = Times::default();
    let mut by_tenant = Vec::new();
    for (ward, due) in scene.wards.iter().zip(due) {
        let times = lateness(ward, due).await?;
        everyone.extend(times.clone());
        by_tenant.push(times);
    }
    lines.push(line("late, p50", everyone.at(0.5)? / 1000.0, "s", ""));
    lines.push(line("late, p99", everyone.at(0.99)? / 1000.0, "s", "shown"));
    let small = by_tenant.last_mut().context("a tenant")?;
    lines.push(line(
        "late in the small tenant, p99",
        small.at(0.99)? / 1000.0,
        "s",
        "",
    ));
    Ok(lines)
}

/// Seconds until each tenant has nobody left who waits, the first first.
async fn drained(scene: &Scene, due: &[Due]) -> Result<Vec<f64>> {
    let began = Instant::now();
    let mut left: Vec<(&Arc<Ward>, u64)> = (scene.wards.iter())
        .zip(due.iter().map(|due| due.len() as u64))
        .collect();
    let mut seconds = Vec::new();
    while !left.is_empty() {
        let mut others = Vec::new();
        for (ward, count) in left {
            if ward.counts().await?.1 >= count {
                seconds.push(began.elapsed().as_secs_f64());
            } else {
                others.push((ward, count));
            }
        }
        left = others;
        ensure!(began.elapsed() < NEVER, "it did not come true in time");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(seconds)
}

/// How late each move was durable, by the time in its number.
async fn lateness(ward: &Ward, due: &Due) -> Result<Times> {
    let mut times = Times::default();
    let kind: Kind = kinds::JOURNEY_INSTANCE;
    let mut every = ward.trust.vault().every_internal(&ward.engine, kind)?;
    while let Some(page) = every.next_page().await? {
        for stored in page {
            let patient = stored.patient.context("whose it is")?;
            let due_ms = due.get(&patient).context("somebody who waited")?;
            let at_ms = stored.at.number.unix_ms();
            times.add(Duration::from_millis(at_ms.saturating_sub(*due_ms)));
        }
    }
    ensure!(times.len() == due.len(), "each has moved once");
    Ok(times)
}

/// Clients that read patients, each after the other.
struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Times>>>,
}

impl Readers {
    async fn begin(scene: &Scene, due: &[Due]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for reader in 0..READERS {
            let place = reader % scene.wards.len();
            let ward = &scene.wards[place];
            let ids: Vec<String> = due[place].keys().take(1000).cloned().collect();
            let (reading, stop) = (ward.beside(&scene.ledger).await?, stop.clone());
            tasks.push(tokio::spawn(async move {
                let mut times = Times::default();
                for id in ids.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    let permit = reading.permit(&READER).await?;
                    let vault = reading.trust.vault();
                    let row = vault.read(&permit, ResourceType::Patient, id).await?;
                    ensure!(row.is_some(), "a patient is there");
                    times.add(began.elapsed());
                    tokio::time::sleep(READ_EVERY).await;
                }
                Ok(times)
            }));
        }
        Ok(Self { stop, tasks })
    }

    async fn end(&mut self) -> Result<Times> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Times::default();
        for task in self.tasks.drain(..) {
            times.extend(task.await??);
        }
        Ok(times)
    }
}
