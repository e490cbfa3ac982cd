//! The real server, killed again and again while journeys of every kind of step run against a mail server and a
//! partner; then a proof that nothing was lost, and a count of what was done twice and can be recognised.

mod door;
mod inside;
pub mod people;
mod proof;
mod story;
mod victim;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cairn::store;
use ledger::Location;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use self::door::{Door, UnderWay};
use self::proof::{Counts, Faults};
use self::story::Facts;
use self::victim::{Phase, Toll, Victim};
use crate::bench::machine;
use crate::peers::{Partner, Smtp, python};
use crate::random::Random;
use crate::server::run;

/// Stories that are told at once.
const AT_ONCE: usize = 16;
/// How often is looked who has come to an end.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long nobody may come to an end before it is said that they never will: longer than the pause of a minute in the
/// journey, and than a call that failed four times waits.
const PATIENCE: Duration = Duration::from_secs(240);
/// What a restart may begin has begun by then: on PostgreSQL after the shards of the dead one are free.
const AFTERMATH: Duration = Duration::from_secs(3);
const AFTERMATH_SHARED: Duration = Duration::from_secs(10);
/// Faults of a kind that are told in words.
const TOLD: usize = 20;

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct CrashOptions {
    /// How often the server is killed.
    #[arg(long, default_value_t = 1000)]
    pub kills: u64,
    /// Seed of the kills, the stories and the partner.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// `folder`, or the URL of an empty database of PostgreSQL.
    #[arg(long, default_value = "folder")]
    pub store: String,
    /// No more kills after so many minutes.
    #[arg(long = "for", value_name = "MINUTES", default_value_t = 120)]
    pub minutes: u64,
    /// Patients, who come in one after the other through all of the kills.
    #[arg(long, default_value_t = 500)]
    pub patients: usize,
    /// The longest life of a process, milliseconds. On PostgreSQL it has to be longer than the five seconds for which
    /// the shards of a dead one are not given to another.
    #[arg(long, default_value_t = 3000)]
    pub longest_ms: u64,
    /// A Python with aiosmtpd [default: that of the tests].
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Folder for the store, the logs and the list of what was acknowledged, which is made and kept [default: one that is
    /// removed].
    #[arg(long)]
    pub space: Option<PathBuf>,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl CrashOptions {
    /// A short run, for tests.
    #[must_use]
    pub fn short(store: &str, kills: u64, patients: usize, seed: u64) -> Self {
        Self {
            kills,
            seed,
            store: store.to_owned(),
            minutes: 10,
            patients,
            longest_ms: 3000,
            python: None,
            space: None,
            json: None,
        }
    }
}

/// Where everything is.
struct Place {
    folder: PathBuf,
    root_key: PathBuf,
    /// How commands name the store.
    store: Vec<String>,
    /// How the server is started.
    serve: Vec<String>,
    location: Location,
    token: String,
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// Runs a command on the store.
fn on_store(place: &[String], command: &[&str]) -> Result<String> {
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    Ok(run(&[command, &place].concat(), "")?)
}

impl Place {
    fn make(options: &CrashOptions, folder: &Path, smtp: &Smtp, partner: &Partner) -> Result<Self> {
        let owned = |arguments: &[&str]| -> Vec<String> {
            let arguments = arguments.iter().copied();
            arguments.map(str::to_owned).collect()
        };
        let (root_key, store, serve, location) = if options.store == "folder" {
            let data = folder.join("data");
            let store = ["--data", utf8(&data)?];
            run(&[&["key", "create"][..], &store].concat(), "")?;
            let root_key = store::root_key_path(&data);
            (
                root_key,
                owned(&store),
                owned(&store),
                store::in_folder(&data),
            )
        } else {
            let (url, root_key) = (options.store.as_str(), folder.join("root.key"));
            let key = ["--root-key", utf8(&root_key)?];
            run(&[&["key", "create"][..], &key].concat(), "")?;
            let location = store::in_database(url, None, None, "cairn", "")?;
            let store = owned(&[&["--store-url", url][..], &key].concat());
            let at = format!("store.url={url}");
            let serve = owned(&[&["--set", at.as_str()][..], &key].concat());
            (root_key, store, serve, location)
        };
        let policies = folder.join("policies");
        run(&["policy", "init", utf8(&policies)?], "")?;
        // The built-in set's tests are run at each start, and take most of it.
        for file in fs::read_dir(&policies)? {
            let path = file?.path();
            if utf8(&path)?.ends_with(".test.toml") {
                fs::remove_file(path)?;
            }
        }
        let rides = format!(
            "[[partner]]\nname = 'rides'\ntitle = 'Rides'\nbase = 'http://127.0.0.1:{}'\ncontract = 'baa'\n\
             until = '2099-12-31'\ndata = ['identity', 'contact']\npurposes = ['TREAT']\ntimeout_s = 1\n",
            partner.port()
        );
        fs::write(policies.join("partners.toml"), rides)?;
        let config = folder.join("cairn.toml");
        let settings = format!(
            "policy_folder = '{}'\n[smtp]\nhost = '127.0.0.1'\nport = {}\ntls = 'none'\nfrom = 'care@example.com'\n",
            utf8(&policies)?,
            smtp.port()
        );
        fs::write(&config, settings)?;
        let client = ["client", "create", "--name", "ward", "--role", "client"];
        let token = on_store(&store, &client)?;
        let token = token.lines().last().context("a token")?.to_owned();
        let config = ["--config".to_owned(), utf8(&config)?.to_owned()];
        Ok(Self {
            folder: folder.to_owned(),
            root_key,
            serve: [&config[..], &serve].concat(),
            store,
            location,
            token,
        })
    }

    /// Publishes the journeys at a running server: the same way for each store.
    fn publish(&self, base: &str, squad: &str) -> Result<()> {
        for (name, source) in [
            ("storm-letter", include_str!("storm-letter.yaml")),
            ("storm-visit", include_str!("storm-visit.yaml")),
            ("storm", include_str!("storm.yaml")),
        ] {
            let file = self.folder.join(format!("{name}.yaml"));
            fs::write(&file, source)?;
            let publish = ["journey", "publish", "--server", base, "--token", squad];
            run(&[&publish[..], &[utf8(&file)?]].concat(), "")?;
        }
        Ok(())
    }
}

/// What a run has come to.
#[derive(Debug)]
pub struct Outcome {
    seed: u64,
    patients: usize,
    toll: Toll,
    counts: Counts,
    /// What is not as it has to be.
    faults: Faults,
    audit: String,
    took: Duration,
}

/// Tells the patients' stories, so many at once, each no sooner than its part of the kills has come.
fn tell(
    options: &CrashOptions,
    door: &Door,
    facts: &Arc<Facts>,
    kills: watch::Receiver<u64>,
    over: watch::Receiver<bool>,
    fault: &Fault,
) -> JoinHandle<Result<usize>> {
    let (door, facts, seed) = (door.clone(), facts.clone(), options.seed);
    let fault = fault.clone();
    let (patients, all) = (options.patients, options.kills);
    tokio::spawn(async move {
        let (places, mut told) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        let mut seeds = Random::new(seed);
        for number in 0..patients {
            let after = all * number as u64 / patients as u64;
            let (mut kills, mut over) = (kills.clone(), over.clone());
            let place = places.clone().acquire_owned().await?;
            tokio::select! {
                _ = kills.wait_for(|kills| *kills >= after) => {}
                _ = over.wait_for(|over| *over) => {}
            }
            if *over.borrow() {
                break;
            }
            let (door, facts, seed) = (door.clone(), facts.clone(), seeds.next_u64());
            let fault = fault.clone();
            told.spawn(async move {
                let _place = place;
                let end = story::story(&door, &facts, number, seed).await;
                end.inspect_err(|error| tell_of(&fault, error))
            });
        }
        let mut count = 0;
        while let Some(one) = told.join_next().await {
            one??;
            count += 1;
        }
        Ok(count)
    })
}

/// What went wrong first, so that nobody waits for what won't come.
type Fault = watch::Sender<Option<String>>;

fn tell_of(fault: &Fault, error: &anyhow::Error) {
    fault.send_if_modified(|told| {
        let first = told.is_none();
        told.get_or_insert_with(|| error.to_string());
        first
    });
}

fn no_fault(fault: &Fault) -> Result<()> {
    match fault.borrow().as_deref() {
        Some(words) => bail!("a client was turned down: {words}"),
        None => Ok(()),
    }
}

/// Kills until it is enough.
async fn kill(
    options: &CrashOptions,
    victim: &mut Victim,
    kills: &watch::Sender<u64>,
    fault: &Fault,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60 * options.minutes);
    while victim.toll().sum() < options.kills && Instant::now() < end {
        victim.live_and_die().await?;
        kills.send_replace(victim.toll().sum());
        no_fault(fault)?;
    }
    Ok(())
}

/// Waits until all have come to the end of their journeys; those who have not within what patience there is.
async fn settle(door: &Door, patients: usize, fault: &Fault) -> Result<Vec<usize>> {
    let mut pending: Vec<usize> = (0..patients).collect();
    let mut last = Instant::now();
    while !pending.is_empty() && last.elapsed() < PATIENCE {
        let settled = proof::settled(door, &pending).await?;
        if !settled.is_empty() {
            last = Instant::now();
        }
        pending.retain(|number| !settled.contains(number));
        no_fault(fault)?;
        sleep(LOOK_EVERY).await;
    }
    Ok(pending)
}

/// Kills, and proves.
///
/// # Errors
/// When something can't be run, or a server ends by itself.
pub async fn run_all(options: &CrashOptions) -> Result<Outcome> {
    let begun = Instant::now();
    let removed = tempfile::tempdir()?;
    let folder = match &options.space {
        Some(space) => {
            fs::create_dir(space).with_context(|| space.display().to_string())?;
            space.clone()
        }
        None => removed.path().to_owned(),
    };
    let seed = options.seed;
    let python = options.python.clone().unwrap_or_else(python);
    let smtp = Smtp::start_with(&python, &folder, Some(seed))?;
    let partner = Partner::start(&folder, seed)?;
    let place = Place::make(options, &folder, &smtp, &partner)?;
    let squad = ["client", "create", "--name", "squad", "--role", "squad"];
    let squad = on_store(&place.store, &squad)?;
    let squad = squad.lines().last().context("a token")?;
    let (base, at) = watch::channel(None);
    let under_way = UnderWay::default();
    let longest = Duration::from_millis(options.longest_ms);
    let log = folder.join("log");
    let mut victim = Victim::new(
        place.serve.clone(),
        &log,
        seed,
        longest,
        base,
        under_way.clone(),
    );
    victim.start().await?;
    let address = at.borrow().clone().context("an address")?;
    place.publish(&address, squad)?;
    ensure!(victim.terminate()?, "the server does not end well");

    let door = Door::new(at, &place.token, under_way);
    let list = folder.join("acknowledged.ndjson");
    let facts = Arc::new(Facts::create(&list)?);
    let (kills, killed) = watch::channel(0);
    let (over, is_over) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let fault = Fault::new(None);
    let told = tell(options, &door, &facts, killed, is_over, &fault);
    let hands = tokio::spawn({
        let (door, facts, fault) = (door.clone(), facts.clone(), fault.clone());
        async move {
            let end = story::hands(door, facts, stopped).await;
            end.inspect_err(|error| tell_of(&fault, error))
        }
    });
    kill(options, &mut victim, &kills, &fault).await?;
    // Where there was time for all kills, everybody comes in.
    over.send_replace(victim.toll().sum() < options.kills);
    victim.start().await?;
    let patients = told.await??;
    let pending = settle(&door, patients, &fault).await?;
    stop.send_replace(true);
    hands.await??;
    // Whatever else a restart might begin has begun by then.
    victim.kill()?;
    victim.start().await?;
    let is_folder = options.store == "folder";
    sleep(if is_folder {
        AFTERMATH
    } else {
        AFTERMATH_SHARED
    })
    .await;

    let mut faults = Faults::default();
    for number in &pending {
        let words = proof::whereabouts(&door, *number).await?;
        faults.wrong.push(format!("not at the end: {words}"));
    }
    let all: Vec<usize> = (0..patients).collect();
    let acknowledged = Facts::read(&list)?;
    let asked = partner.asked();
    let (counts, faces) =
        proof::look(&door, &all, &acknowledged, &smtp, &asked, &mut faults).await?;
    ensure!(victim.terminate()?, "the server does not end well");
    inside::look(place.location.clone(), &place.root_key, &faces, &mut faults).await?;
    let audit = match on_store(&place.store, &["audit", "verify"]) {
        Ok(said) => said,
        Err(error) => {
            faults.wrong.push(error.to_string());
            error.to_string()
        }
    };
    Ok(Outcome {
        seed,
        patients,
        toll: victim.toll().clone(),
        counts,
        faults,
        audit,
        took: begun.elapsed(),
    })
}

/// A time among others, milliseconds.
fn at(times: &[Duration], share: f64) -> u128 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    times.get(place).map_or(0, Duration::as_millis)
}

impl Outcome {
    /// The figures, in their order.
    fn figures(&self) -> Vec<(String, u128)> {
        let counts = &self.counts;
        let number = |count: usize| count as u128;
        let mut figures = vec![("kills".to_owned(), u128::from(self.toll.sum()))];
        for phase in [
            Phase::Opening,
            Phase::Starting,
            Phase::Fresh,
            Phase::AtWork,
            Phase::Between,
            Phase::Stopping,
        ] {
            let kills = self.toll.kills.get(&phase).copied().unwrap_or_default();
            figures.push((format!("killed {}", phase.words()), kills.into()));
        }
        let ready = &self.toll.ready_after;
        for (what, figure) in [
            (
                "processes that ended before the kill",
                self.toll.ended.into(),
            ),
            ("processes that became ready", number(ready.len())),
            ("ready after, p50, ms", at(ready, 0.5)),
            ("ready after, p99, ms", at(ready, 0.99)),
            ("ready after, longest, ms", at(ready, 1.0)),
            (
                "ready after, p50 of the first hundred, ms",
                at(&ready[..ready.len().min(100)], 0.5),
            ),
            (
                "ready after, p50 of the last hundred, ms",
                at(&ready[ready.len().saturating_sub(100)..], 0.5),
            ),
            ("patients", number(self.patients)),
            ("facts acknowledged", number(counts.facts)),
            ("journeys that came to their end", number(counts.journeys)),
            (
                "tasks, forms, visits and messages that they left",
                number(counts.left),
            ),
            ("e-mails, by Message-ID", number(counts.mails)),
            (
                "e-mails that were called off because the form was answered",
                number(counts.called_off),
            ),
            (
                "e-mails handed over again under the same Message-ID",
                number(counts.deliveries.saturating_sub(counts.mails)),
            ),
            ("calls, by Idempotency-Key", number(counts.calls)),
            (
                "requests to the partner, with those that it failed",
                number(counts.requests),
            ),
            (
                "of these again what it had answered, under the same key",
                number(counts.asked_again),
            ),
            ("lost", number(self.faults.lost.len())),
            (
                "doubled so that nobody can tell",
                number(self.faults.doubled.len()),
            ),
            (
                "anything else that is wrong",
                number(self.faults.wrong.len()),
            ),
        ] {
            figures.push((what.to_owned(), figure));
        }
        figures
    }

    /// Prints what it has come to.
    ///
    /// # Errors
    /// When something was lost, is there twice or is wrong, with the first of each; and when the time ran out before all
    /// kills were done.
    #[allow(clippy::print_stdout, reason = "the table is what the command is for")]
    pub fn report(&self, options: &CrashOptions) -> Result<()> {
        let machine = machine::describe();
        let store = if options.store == "folder" {
            "a folder"
        } else {
            "PostgreSQL"
        };
        let killed = self.toll.sum();
        let short = (killed < options.kills).then(|| {
            format!(
                "not complete: {killed} of {} kills in {} minutes",
                options.kills, options.minutes
            )
        });
        if let Some(short) = &short {
            println!("{short}\n");
        }
        println!(
            "machine: {machine}; seed {:#x}, on {store}, {} s\n\n| | |\n|---|---:|",
            self.seed,
            self.took.as_secs()
        );
        let figures = self.figures();
        for (what, figure) in &figures {
            println!("| {what} | {figure} |");
        }
        println!("\n{}", self.audit.trim());
        if let Some(path) = &options.json {
            let figures: BTreeMap<String, u64> = figures
                .into_iter()
                .map(|(what, figure)| (what, u64::try_from(figure).unwrap_or(u64::MAX)))
                .collect();
            let all = json!({"machine": machine, "seed": self.seed, "figures": figures});
            fs::write(path, serde_json::to_vec_pretty(&all)?)?;
        }
        if self.faults.none() {
            ensure!(short.is_none(), "{}", short.unwrap_or_default());
            return Ok(());
        }
        let first = |faults: &[String]| {
            faults
                .iter()
                .take(TOLD)
                .cloned()
                .collect::<Vec<_>>()
                .join("\n  ")
        };
        bail!(
            "seed {:#x}\nlost:\n  {}\ndoubled:\n  {}\nwrong:\n  {}",
            self.seed,
            first(&self.faults.lost),
            first(&self.faults.doubled),
            first(&self.faults.wrong)
        )
    }
}
