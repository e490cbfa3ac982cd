//! Cairn beside another FHIR server: the same bundles, the same requests, the same client, one after
//! the other on the same machine.
//!
//! Cairn runs as always: sealed, indexed, audited, and durable before it answers. The other runs as its
//! makers ship it, without authentication; what it doesn't do is said in the table's words.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::requests::{self, Ids};
use super::wire::{Door, Wire};
use super::{BenchOptions, client_token, load, machine, rounded, write_cohort};
use crate::server::{ServerProcess, free_port, process_cpu_ms, process_memory_kib, run};

/// Clients that load bundles.
const LOADERS: usize = 4;
/// How long the other server may take to answer first; it fills its tables.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Which servers to measure, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerOptions {
    /// The `hfs` binary of Helios FHIR Server (crate `helios-hfs`), which is run on SQLite.
    #[arg(long)]
    pub helios: PathBuf,
    /// The folder with its `search-parameters-r4.json`.
    #[arg(long)]
    pub helios_data: PathBuf,
    /// As for Cairn alone.
    #[command(flatten)]
    pub bench: BenchOptions,
}

/// Measures both and prints a table with ratios.
///
/// # Errors
/// When a server can't be run or answers wrongly.
pub async fn run_all(options: &PeerOptions) -> Result<()> {
    let space = tempfile::tempdir()?;
    let input = match &options.bench.input {
        Some(path) => path.clone(),
        None => write_cohort(space.path(), options.bench.seed, options.bench.patients)?,
    };
    let bundles = Bundles::read(&input)?;

    let cairn = {
        let data = space.path().join("cairn");
        let data_text = data.to_str().context("a path in UTF-8")?;
        run(&["key", "create", "--data", data_text], "")?;
        let token = client_token(data_text)?;
        let server = ServerProcess::start(&data, &space.path().join("log"), &[]).await?;
        let door = Door::of(&server, token);
        let figures = measure(&door, server.id(), &bundles, &options.bench).await?;
        ensure!(server.terminate()?, "the server drains cleanly");
        figures
    };
    let helios = {
        let peer = Helios::start(options, space.path()).await?;
        measure(&peer.door, peer.child.id(), &bundles, &options.bench).await?
    };
    report(options, &cairn, &helios)
}

/// What was measured, by what it is: a value and its unit.
type Figures = BTreeMap<String, (f64, &'static str)>;

/// Lines of transaction bundles.
struct Bundles {
    /// Those without a patient come first: others refer to what is in them.
    shared: Vec<Bytes>,
    of_patients: Vec<Bytes>,
    resources: usize,
}

impl Bundles {
    fn read(path: &Path) -> Result<Self> {
        let mut bundles = Self {
            shared: Vec::new(),
            of_patients: Vec::new(),
            resources: 0,
        };
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        for line in BufReader::new(file).lines() {
            let line = line?;
            let bundle: Value = serde_json::from_str(&line).context("a line that is no bundle")?;
            let entries = bundle["entry"].as_array().context("a bundle has entries")?;
            bundles.resources += entries.len();
            let has_patient =
                (entries.iter()).any(|entry| entry["resource"]["resourceType"] == "Patient");
            if has_patient {
                bundles.of_patients.push(line.into());
            } else {
                bundles.shared.push(line.into());
            }
        }
        Ok(bundles)
    }

    /// Posts all of them.
    async fn load(&self, door: &Door) -> Result<()> {
        let mut wire = Wire::open(door).await?;
        for bundle in &self.shared {
            post(&mut wire, bundle).await?;
        }
        let next = Arc::new(AtomicUsize::new(0));
        let bundles: Arc<[Bytes]> = self.of_patients.clone().into();
        let mut tasks = Vec::new();
        for _ in 0..LOADERS {
            let (next, bundles) = (Arc::clone(&next), Arc::clone(&bundles));
            let mut wire = Wire::open(door).await?;
            tasks.push(tokio::spawn(async move {
                while let Some(bundle) = bundles.get(next.fetch_add(1, Ordering::Relaxed)) {
                    post(&mut wire, bundle).await?;
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    }
}

async fn post(wire: &mut Wire, bundle: &Bytes) -> Result<()> {
    let (status, body) = wire.ask(Method::POST, "", bundle.clone()).await?;
    if status != 200 {
        let start = body.get(..500).unwrap_or(&body);
        bail!("a bundle: {status}: {}", String::from_utf8_lossy(start));
    }
    Ok(())
}

async fn measure(
    door: &Door,
    process: u32,
    bundles: &Bundles,
    options: &BenchOptions,
) -> Result<Figures> {
    let mut figures = Figures::new();
    let cpu = process_cpu_ms(process)?;
    let started = Instant::now();
    bundles.load(door).await?;
    let resources = bundles.resources as f64;
    let cpu = process_cpu_ms(process)?.saturating_sub(cpu) as f64;
    let name = "1 transaction bundles, 4 clients".to_owned();
    let rate = resources / started.elapsed().as_secs_f64();
    figures.insert(format!("{name}: rate"), (rate, "resources/s"));
    figures.insert(
        format!("{name}: server CPU"),
        (cpu / resources, "ms/resource"),
    );

    let ids = Ids::collect(door).await?;
    let wanted = options.only.as_deref().unwrap_or_default();
    let kinds = requests::all(&ids)?.into_iter().enumerate();
    for (place, (name, request)) in kinds.filter(|(_, (name, _))| name.contains(wanted)) {
        let cpu = process_cpu_ms(process)?;
        let time = Duration::from_secs(options.seconds);
        let result = load::run(door, request, options.clients, time, options.seed).await?;
        let cpu = process_cpu_ms(process)?.saturating_sub(cpu) as f64;
        let name = format!("{} {name}", place + 2);
        let mut add = |what: &str, value: f64, unit: &'static str| {
            figures.insert(format!("{name}: {what}"), (value, unit));
        };
        add("rate", result.rate, "/s");
        add("p50", result.p50_ms, "ms");
        add("p99", result.p99_ms, "ms");
        add("server CPU", cpu / result.count as f64, "ms/request");
        if result.resources > 0 {
            let seconds = result.count as f64 / result.rate;
            add("resources", result.resources as f64 / seconds, "/s");
        }
    }
    let (now, peak) = process_memory_kib(process)?;
    figures.insert(
        "8 memory after all of this".to_owned(),
        (now as f64 / 1024.0, "MiB"),
    );
    figures.insert("8 memory, peak".to_owned(), (peak as f64 / 1024.0, "MiB"));
    Ok(figures)
}

/// Helios FHIR Server on SQLite, as it is shipped: without authentication and audit, and with SQLite's
/// `synchronous=NORMAL`, which makes no commit durable by itself.
struct Helios {
    child: Child,
    door: Door,
}

impl Helios {
    async fn start(options: &PeerOptions, space: &Path) -> Result<Self> {
        let port = free_port()?;
        let folder = space.join("helios");
        std::fs::create_dir(&folder)?;
        let log = File::create(space.join("helios.log"))?;
        let child = Command::new(&options.helios)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--log-level", "error", "--database-url", "fhir.db"])
            .arg("--data-dir")
            .arg(std::path::absolute(&options.helios_data)?)
            .env("HFS_BASE_URL", format!("http://127.0.0.1:{port}"))
            .env("HFS_UI_ENABLED", "false")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", options.helios.display()))?;
        let mut peer = Self {
            child,
            door: Door {
                address: format!("127.0.0.1:{port}"),
                base: String::new(),
                token: None,
                host: None,
                cookie: None,
            },
        };
        let started = Instant::now();
        loop {
            if let Some(status) = peer.child.try_wait()? {
                bail!("Helios ended with {status}");
            }
            if let Ok(mut wire) = Wire::open(&peer.door).await
                && let Ok((200, _)) = wire.ask(Method::GET, "metadata", Bytes::new()).await
            {
                return Ok(peer);
            }
            ensure!(started.elapsed() < READY_WITHIN, "Helios is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Helios {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
fn report(options: &PeerOptions, cairn: &Figures, helios: &Figures) -> Result<()> {
    let machine = machine::describe();
    println!(
        "machine: {machine}; client on the same machine, {} at once\n",
        options.bench.clients
    );
    println!(
        "| measure | Cairn | Helios on SQLite | unit | Cairn to Helios |\n|---|---:|---:|---|---:|"
    );
    for (what, (ours, unit)) in cairn {
        let name = what.split_once(' ').map_or(what.as_str(), |(_, name)| name);
        let (theirs, ratio) = match helios.get(what) {
            Some((theirs, _)) => (rounded(*theirs), rounded(ours / theirs)),
            None => ("–".to_owned(), "–".to_owned()),
        };
        println!(
            "| {name} | {} | {theirs} | {unit} | {ratio} |",
            rounded(*ours)
        );
    }
    if let Some(path) = &options.bench.json {
        let all = json!({"machine": machine, "cairn": cairn, "helios": helios});
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
