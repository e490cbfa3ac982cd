//! `cairn journey analyse` and `cairn journey export-log`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use journey::{DAYS, DAYS_OF, Exported, Journeys, LogOf, LogSink, Ocel, Pseudonyms, Times, Xes};
use ledger::{Entropy as _, Ledger, SystemEntropy};
use trust::{Action, Agent, Permit, Purpose, Target, Trust};

use super::replaying::decides;
use super::{closing, open_existing_of, operator, tenant_of};
use crate::cli::StoreArguments;
use crate::operator::Operator;
use crate::terminal::{say, warn};

/// The part of Cairn that takes logs away, with the operator's name.
const EXPORTER: &str = "journey-log-exporter";

/// What `cairn journey` learns from how journeys went.
#[derive(Debug, Subcommand)]
pub enum JourneyAnalysis {
    /// Tell how a journey went: where everyone is, how far they come, where they stay and drop off, what is late, which
    /// paths were gone and how far these are the drawn ones, what came of patients, and groups side by side; names nobody
    Analyse(Box<AnalyseOptions>),
    /// Write a journey's event log for process mining, under pseudonyms; every patient in it is in the audit
    ExportLog(Box<ExportLogOptions>),
}

/// `cairn journey analyse`.
#[derive(Debug, Args)]
pub struct AnalyseOptions {
    #[command(flatten)]
    of: Of,
    /// For how many days patients are observed for what came of them: whether they were in hospital again, and whether
    /// what was missing was done: 7, 14, 30, 60, 90, 180 or 365
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = days)]
    days: u64,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// One of the days that there are.
fn days(text: &str) -> Result<u64, String> {
    let days = text.parse().ok().filter(|days| DAYS_OF.contains(days));
    days.ok_or_else(|| format!("one of {}", DAYS_OF.map(|days| days.to_string()).join(", ")))
}

/// `cairn journey export-log`.
#[derive(Debug, Args)]
pub struct ExportLogOptions {
    #[command(flatten)]
    of: Of,
    /// In which form
    #[arg(long, value_enum)]
    format: LogFormat,
    /// The file; it must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// What for: those are left out whose consents don't allow that
    #[arg(long = "for", value_enum, default_value_t = LogPurpose::Operations)]
    purpose: LogPurpose,
    /// Write the real times; without it each journey starts on 2000-01-01
    #[arg(long)]
    real_times: bool,
}

#[derive(Debug, Args)]
struct Of {
    #[command(flatten)]
    store: StoreArguments,
    /// The journey's name
    name: String,
    /// Its version; of an analysis and a net the live one is meant if none is given, of a log all
    #[arg(long = "on-version", value_name = "N")]
    on_version: Option<u32>,
    /// Configuration file (TOML) that the server has: its policies and its rule pack decide about consents
    /// [default: those that are built in]
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    config: Option<PathBuf>,
}

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// XES (IEEE 1849), one trace a journey.
    Xes,
    /// OCEL 2.0 as JSON, with journeys and patients as objects.
    Ocel,
    /// No log, but the version's graph as a Petri net (PNML), to hold a log against.
    Pnml,
}

/// What a log is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogPurpose {
    Operations,
    Research,
}

/// Carries it out.
pub(crate) async fn journey_analysis(command: &JourneyAnalysis) -> anyhow::Result<ExitCode> {
    match command {
        JourneyAnalysis::Analyse(options) => analyse(options).await,
        JourneyAnalysis::ExportLog(options) => export_log(options).await,
    }
}

async fn observes(ledger: &Ledger, trust: &Trust) -> anyhow::Result<Permit> {
    let (agent, whom) = (operator(ledger), Target::default());
    let purpose = Purpose::Operations;
    let decided = trust.decide(&agent, purpose, Action::Observe, whom, "command-line");
    Ok(decided.await?)
}

async fn analyse(options: &AnalyseOptions) -> anyhow::Result<ExitCode> {
    let Of {
        store,
        name,
        on_version: version,
        config,
    } = &options.of;
    let ledger = open_existing_of(store).await?;
    let result = async {
        let trust = decides(store, config.as_deref(), options.json, &ledger).await?;
        let permit = observes(&ledger, &trust).await?;
        let journeys = Journeys::new(trust);
        Ok(journeys
            .analyse(&permit, name, *version, options.days)
            .await?)
    };
    let result = Box::pin(result).await;
    let report = closing(&ledger, result).await?;
    say(&match options.json {
        true => serde_json::to_string(&report)?,
        false => report.text().trim_end().to_owned(),
    });
    Ok(ExitCode::SUCCESS)
}

/// A file that was not there, for its owner alone.
fn new_file(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .with_context(|| format!("can't make {}", path.display()))
}

async fn export_log(options: &ExportLogOptions) -> anyhow::Result<ExitCode> {
    let ledger = open_existing_of(&options.of.store).await?;
    let file = match new_file(&options.to) {
        Ok(file) => file,
        Err(error) => return closing(&ledger, Err(error)).await,
    };
    let result = Box::pin(written(options, &ledger, &file)).await;
    let result = closing(&ledger, result).await;
    if result.is_err() {
        // Half a log is none.
        std::fs::remove_file(&options.to)?;
    }
    say(&result?);
    Ok(ExitCode::SUCCESS)
}

/// Writes the file, and says what is in it.
async fn written(
    options: &ExportLogOptions,
    ledger: &Ledger,
    file: &File,
) -> anyhow::Result<String> {
    let Of {
        store,
        name,
        on_version: version,
        config,
    } = &options.of;
    let trust = decides(store, config.as_deref(), false, ledger).await?;
    let mut to = BufWriter::new(file);
    if options.format == LogFormat::Pnml {
        let permit = observes(ledger, &trust).await?;
        let (net, version) = Journeys::new(trust).net(&permit, name, *version).await?;
        to.write_all(net.pnml(name).as_bytes())?;
        to.flush()?;
        drop(to);
        file.sync_all()?;
        return Ok(format!(
            "{name}, version {version}: its graph as a net is in {}.",
            options.to.display()
        ));
    }
    let agent = Agent {
        name: Operator::here().name().to_owned(),
        ..Agent::system(tenant_of(ledger), EXPORTER)
    };
    let purpose = match options.purpose {
        LogPurpose::Operations => Purpose::Operations,
        LogPurpose::Research => Purpose::Research,
    };
    let whom = Target::default();
    let decided = trust.decide(&agent, purpose, Action::Export, whom, "command-line");
    let permit = decided.await?;
    let times = match options.real_times {
        true => Times::Real,
        false => Times::SinceStart,
    };
    let mut key = [0; 32];
    SystemEntropy.fill(&mut key);
    let pseudonyms = Pseudonyms::new(&key);
    let mut log: Box<dyn LogSink + Send> = match options.format {
        LogFormat::Ocel => {
            let mut beside = options.to.clone().into_os_string();
            beside.push(".objects");
            let beside = PathBuf::from(beside);
            let objects = new_file(&beside)?;
            // It stays for as long as it is open, and for nobody else.
            std::fs::remove_file(&beside)?;
            Box::new(Ocel::new(&mut to, objects, times)?)
        }
        _ => Box::new(Xes::new(&mut to, name, times)?),
    };
    let of = LogOf {
        journey: name,
        version: *version,
        pseudonyms: &pseudonyms,
    };
    let journeys = Journeys::new(trust);
    let done = journeys.export_log(&permit, &of, log.as_mut()).await?;
    drop(log);
    drop(to);
    file.sync_all()?;
    if options.real_times {
        warn("The log has real dates, by which people can be found: it is not de-identified.");
    }
    Ok(words(options, &done))
}

fn words(options: &ExportLogOptions, done: &Exported) -> String {
    let mut words = format!(
        "{} journeys of {} are in {}.",
        done.cases,
        options.of.name,
        options.to.display()
    );
    for (count, why) in [
        (
            done.left_out,
            "were left out, because the patient's consents don't allow this purpose",
        ),
        (
            done.unreadable,
            "were left out, because this program can't read them",
        ),
    ] {
        if count > 0 {
            words.push_str(&format!(" {count} {why}."));
        }
    }
    words
}
