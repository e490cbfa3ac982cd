//! Benchmarks of the ledger by itself: a load that goes on, commits of one document, audited reads,
//! searches, the feed, a mixed load, opening after an abort, disk and memory.
//!
//! Documents are resources of FHIR bundles with the tokens that they get in the server; everything is
//! on: sealed, indexed, audited, durable. Making them is part of the processor time that is given, and
//! small beside it.

mod documents;
mod measure;
mod mixed;
mod records;
mod reopen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::{
    Ledger, Location, Number, OpenOptions, Postgres, RootKey, SHARDS, Shard, SystemClock,
    SystemEntropy,
};
use tokio::time::Instant;

pub use self::reopen::{AbortOptions, load_and_abort};

use self::documents::{Documents, TENANT, by_own_token};
use self::measure::{Figures, Worst, flush_floor, in_turn, together};
use crate::bench::Figure;
use crate::bench::machine::{forget_memory_peak, machine_cpu_ms, own_cpu_ms};
use crate::random::Random;

/// Commits under way at once while loading, as in an import.
const LOADERS: usize = 8;
/// How many at once single commits and reads are measured with.
const AT_ONCE: [usize; 3] = [1, 16, 64];
/// Documents that share one group's token; the "500" of "newest 20 of 500".
const GROUP_DOCUMENTS: u64 = 500;
/// Patients in the pool that documents are made from, if there are that many.
const POOL_PATIENTS: u64 = 500;
/// How often a search is asked, one after the other.
const SEARCHES: usize = 2000;
/// Rows of a page of a search.
const PAGE: usize = 20;
/// Events taken at once.
const FEED_PAGE: usize = 1000;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct LedgerOptions {
    /// Documents to load.
    #[arg(long, default_value_t = 100_000)]
    pub documents: u64,
    /// Make documents from this file (FHIR bundles, one a line, may be gzip) instead of synthetic
    /// patients.
    #[arg(long)]
    pub input: Option<PathBuf>,
    /// Seed of the documents and of the order of questions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds for each number of writers and readers.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Seconds of the mixed load.
    #[arg(long, default_value_t = 60)]
    pub mixed_seconds: u64,
    /// Memory for the store's block cache, MiB.
    #[arg(long, default_value_t = 256)]
    pub cache_mib: u64,
    /// Make the embedded store in this folder, which must not exist yet, and leave it there; otherwise
    /// it is a temporary one.
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// After the embedded store, measure one in this PostgreSQL database, which is made anew in a schema
    /// of its own. `CPU` is then this program's, without the database's; `CPU of the machine` is all.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Leave the embedded store out.
    #[arg(long, requires = "postgres")]
    pub only_postgres: bool,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Opens the store that is measured.
///
/// # Errors
/// The ledger's.
pub(super) fn open(location: &Location, options: &LedgerOptions) -> Result<Ledger> {
    Ok(Ledger::open(OpenOptions {
        location: location.clone(),
        root_key: RootKey::from_bytes([7; 32]),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        dictionary: cairn::dictionaries::dictionaries(),
        cache_bytes: options.cache_mib << 20,
    })?)
}

fn documents(ledger: &Ledger, options: &LedgerOptions) -> Result<Documents> {
    match &options.input {
        Some(path) => Documents::new(
            ledger,
            documents::from_file(path)?,
            options.documents,
            GROUP_DOCUMENTS,
        ),
        None => {
            let cohort = synthetic::CohortOptions {
                seed: options.seed,
                now_ms: 1_764_547_200_000,
                heart_failure_share: 0.2,
            };
            // A patient has more than ten documents.
            let patients = POOL_PATIENTS.min(options.documents / 10 + 1);
            let bundles = (0..patients).map(|index| Ok(synthetic::patient_bundle(&cohort, index)));
            Documents::new(ledger, bundles, options.documents, GROUP_DOCUMENTS)
        }
    }
}

/// A store that is measured.
#[derive(Clone)]
struct Bench {
    ledger: Ledger,
    documents: Arc<Documents>,
    /// Bundles loaded.
    bundles: u64,
    options: Arc<LedgerOptions>,
}

/// Measures each store that is asked for, one after the other, and prints a table.
///
/// # Errors
/// When a store fails or answers wrongly.
pub async fn run_all(options: &LedgerOptions) -> Result<()> {
    let space = tempfile::tempdir()?;
    let mut stores = Vec::new();
    if !options.only_postgres {
        let folder = match &options.store {
            Some(folder) => {
                ensure!(!folder.exists(), "{} exists already", folder.display());
                folder.clone()
            }
            None => space.path().join("store"),
        };
        let location = Location::Folder(folder);
        let figures = run_store(&location, space.path(), options).await?;
        stores.push(("embedded", figures));
    }
    if let Some(url) = &options.postgres {
        let location = Location::Postgres(Postgres {
            url: url.clone(),
            password: None,
            ca_file: None,
            schema: format!("bench_{}", std::process::id()),
            replicas: Vec::new(),
        });
        let figures = run_store(&location, space.path(), options).await?;
        stores.push(("PostgreSQL", figures));
    }
    report_stores(options, &stores)
}

/// Everything that is measured of one store. `space` is a folder on the disk that is measured.
async fn run_store(
    location: &Location,
    space: &Path,
    options: &LedgerOptions,
) -> Result<Vec<Figure>> {
    forget_memory_peak()?;
    let mut figures = Figures::default();
    figures.times(
        "small durable writes to the disk itself",
        &flush_floor(space)?,
    );
    let ledger = open(location, options)?;
    ledger.create_tenant(TENANT).await?;
    let documents = Arc::new(documents(&ledger, options)?);
    let (body, tokens) = documents.means();
    figures.add("JSON of a document", body, "bytes");
    figures.add("tokens of a document", tokens, "");
    let bench = Bench {
        bundles: documents.bundles_for(options.documents),
        ledger,
        documents,
        options: Arc::new(options.clone()),
    };
    load(&bench, &mut figures).await?;
    figures.memory("after the load")?;
    singles(&bench, &mut figures).await?;
    reads(&bench, &mut figures).await?;
    searches(&bench, &mut figures).await?;
    feed(&bench, &mut figures).await?;
    mixed::run(&bench, &mut figures).await?;
    figures.memory("after all of this")?;
    let Bench { ledger, .. } = bench;
    ledger.close().await?;
    drop(ledger);
    if let Location::Folder(folder) = location {
        reopen::run(folder, options, &mut figures).await?;
    }
    Ok(figures.0)
}

/// One column a store, and the second as a multiple of the first.
#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
fn report_stores(options: &LedgerOptions, stores: &[(&str, Vec<Figure>)]) -> Result<()> {
    let machine = crate::bench::machine::describe();
    println!("machine: {machine}; {} documents\n", options.documents);
    let (_, longest) = stores
        .iter()
        .max_by_key(|(_, figures)| figures.len())
        .context("no store was asked for")?;
    let names: Vec<&str> = stores.iter().map(|(name, _)| *name).collect();
    let compared = stores.len() > 1;
    println!(
        "| measure | {} |{} unit |\n|---|{}{}---|",
        names.join(" | "),
        if compared { " ratio |" } else { "" },
        "---:|".repeat(stores.len()),
        if compared { "---:|" } else { "" },
    );
    for figure in longest {
        let values: Vec<Option<f64>> = stores
            .iter()
            .map(|(_, figures)| {
                let same = figures.iter().find(|other| other.what == figure.what);
                same.map(|other| other.value)
            })
            .collect();
        let cells: Vec<String> = values
            .iter()
            .map(|value| value.map_or("–".to_owned(), crate::bench::rounded))
            .collect();
        let ratio = match values[..] {
            [Some(first), Some(second)] if first != 0.0 => {
                format!(" {} |", crate::bench::rounded(second / first))
            }
            [_, _] => " – |".to_owned(),
            _ => String::new(),
        };
        println!(
            "| {} | {} |{ratio} {} |",
            figure.what,
            cells.join(" | "),
            figure.unit
        );
    }
    if let Some(path) = &options.json {
        let all = serde_json::json!({
            "machine": machine, "documents": options.documents, "seed": options.seed,
            "cache_mib": options.cache_mib,
            "stores": stores.iter().map(|(name, figures)| serde_json::json!({"store": name, "figures": figures})).collect::<Vec<_>>(),
        });
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}

fn progress(what: &'static str, length: u64) -> Result<ProgressBar> {
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {wide_bar} {pos}/{len} {eta}",
    )?);
    bar.set_message(what);
    Ok(bar)
}

/// Commits bundles from `from` on; tells what each commit took.
async fn commit_bundles(
    bench: &Bench,
    bundles: std::ops::Range<u64>,
    done: Arc<dyn Fn(usize, Duration) + Send + Sync>,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(bundles.start));
    let mut tasks = Vec::new();
    for _ in 0..LOADERS {
        let (bench, next, done) = (bench.clone(), Arc::clone(&next), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= bundles.end {
                    return Ok::<_, anyhow::Error>(());
                }
                for commit in bench.documents.commits(&bench.ledger, number) {
                    let count = commit.documents.len();
                    let began = Instant::now();
                    bench.ledger.commit(commit).await?;
                    done(count, began.elapsed());
                }
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The load: rate by tenth, processor time, the worst commit, bytes on disk.
async fn load(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let total = bench.options.documents;
    let bar = progress("load", total)?;
    let worst = Arc::new(Worst::default());
    let loaded = Arc::new(AtomicU64::new(0));
    let mut rates = Vec::new();
    let (started, cpu, all) = (Instant::now(), own_cpu_ms()?, machine_cpu_ms()?);
    for tenth in 0..10 {
        let (before, began) = (loaded.load(Ordering::Relaxed), Instant::now());
        let range = bench.bundles * tenth / 10..bench.bundles * (tenth + 1) / 10;
        let done = {
            let (worst, loaded, bar) = (Arc::clone(&worst), Arc::clone(&loaded), bar.clone());
            Arc::new(move |count: usize, time| {
                worst.tell(time);
                loaded.fetch_add(count as u64, Ordering::Relaxed);
                bar.inc(count as u64);
            })
        };
        commit_bundles(bench, range, done).await?;
        let documents = loaded.load(Ordering::Relaxed) - before;
        rates.push(documents as f64 / began.elapsed().as_secs_f64());
    }
    bar.finish_and_clear();
    let documents = loaded.load(Ordering::Relaxed) as f64;
    figures.add("load: documents", documents, "");
    figures.add(
        "load",
        documents / started.elapsed().as_secs_f64(),
        "documents/s",
    );
    for (tenth, rate) in rates.iter().enumerate() {
        figures.add(format!("load: tenth {}", tenth + 1), *rate, "documents/s");
    }
    figures.add(
        "load: last tenth of the first",
        100.0 * rates[9] / rates[0],
        "%",
    );
    let cpu = own_cpu_ms()?.saturating_sub(cpu) as f64;
    figures.add("load: CPU", cpu / documents, "ms/document");
    let all = machine_cpu_ms()?.saturating_sub(all) as f64;
    figures.add("load: CPU of the machine", all / documents, "ms/document");
    figures.add("load: worst commit", worst.ms(), "ms");
    let disk = bench.ledger.disk_bytes() as f64;
    figures.add("disk, all in", disk / documents, "bytes/document");
    for part in bench.ledger.storage()? {
        figures.add(
            format!("disk: {}", part.name),
            part.bytes as f64 / documents,
            "bytes/document",
        );
    }
    Ok(())
}

/// Commits of one document each, with its audit record.
async fn singles(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for writers in AT_ONCE {
        let mine = bench.clone();
        let work = move |mut random: Random| {
            let bench = mine.clone();
            async move {
                let number = random.below(bench.bundles);
                let commit = bench.documents.single(&bench.ledger, number);
                bench.ledger.commit(commit).await?;
                Ok(())
            }
        };
        let time = Duration::from_secs(bench.options.seconds);
        let times = together(writers, time, bench.options.seed, work).await?;
        figures.times(&format!("commit of 1 document, {writers} at once"), &times);
    }
    Ok(())
}

/// Reads of one document each; answered when the record of the read is durable.
async fn reads(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for readers in AT_ONCE {
        let mine = bench.clone();
        let work = move |mut random: Random| {
            let bench = mine.clone();
            async move { read(&bench, &mut random).await }
        };
        let time = Duration::from_secs(bench.options.seconds);
        let times = together(readers, time, bench.options.seed, work).await?;
        figures.times(&format!("audited read, {readers} at once"), &times);
    }
    Ok(())
}

async fn read(bench: &Bench, random: &mut Random) -> Result<()> {
    let number = random.below(bench.bundles);
    let known = bench
        .documents
        .known(&bench.ledger, number, random.next_u64());
    let record = bench.documents.read_of(&bench.ledger, &known);
    let stored = bench.ledger.get(TENANT, known.kind, &known.id).await?;
    bench.ledger.commit(record).await?;
    stored.with_context(|| format!("document {} is not there", known.id))?;
    Ok(())
}

/// Searches one after the other; only the ledger's part, no audit.
async fn searches(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let (ledger, documents) = (&bench.ledger, &bench.documents);
    let seed = bench.options.seed;
    let rare = in_turn(SEARCHES, seed, |mut random| async move {
        let number = random.below(bench.bundles);
        let known = documents.known_besides_patient(ledger, number, random.next_u64());
        let query = by_own_token(ledger, &known);
        let hits = ledger.search(TENANT, &query, None, None, PAGE).await?;
        ensure!(
            hits.len() == 1,
            "one document has a token of its own, not {}",
            hits.len()
        );
        Ok(())
    });
    figures.times("rare token", &rare.await?);
    let newest = in_turn(SEARCHES, seed, |mut random| async move {
        let query = documents.group(ledger, random.next_u64());
        let hits = ledger.search(TENANT, &query, None, None, PAGE).await?;
        ensure!(hits.len() == PAGE, "a page has {} hits", hits.len());
        Ok(())
    });
    figures.times("newest 20 of 500", &newest.await?);
    let opened = in_turn(SEARCHES, seed, |mut random| async move {
        let query = documents.group(ledger, random.next_u64());
        let view = ledger.view()?;
        let hits = view.search(TENANT, &query, None, None, PAGE).await?;
        let mut opened = 0;
        while opened < hits.len() {
            for stored in view.fetch_some(TENANT, &hits[opened..]).await? {
                stored?.context("a hit is not there")?;
                opened += 1;
            }
        }
        Ok(())
    });
    figures.times("newest 20 of 500, opened", &opened.await?);
    let both = in_turn(SEARCHES, seed, |mut random| async move {
        let query = documents.two_groups(ledger, random.next_u64());
        let hits = ledger.search(TENANT, &query, None, None, 1000).await?;
        ensure!(
            hits.len() >= PAGE,
            "two groups share {} documents",
            hits.len()
        );
        Ok(())
    });
    figures.times("all of the intersection of two tokens of 500", &both.await?);
    Ok(())
}

/// Every event of every shard, as a follower takes them.
async fn feed(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let (started, cpu) = (Instant::now(), own_cpu_ms()?);
    let mut events = 0;
    for shard in (0..SHARDS).map(Shard) {
        let mut after = Number(0);
        loop {
            let page = bench.ledger.events(shard, after, FEED_PAGE).await?;
            events += page.len();
            match page.last() {
                Some(last) if page.len() == FEED_PAGE => after = last.at.number,
                _ => break,
            }
        }
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    figures.add("feed followed", events as f64 / elapsed_s, "events/s");
    let cpu_us = own_cpu_ms()?.saturating_sub(cpu) as f64 * 1000.0;
    figures.add("feed followed: CPU", cpu_us / events as f64, "µs/event");
    Ok(())
}
