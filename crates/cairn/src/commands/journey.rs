//! `cairn journey`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use journey::{DeadLetter, Finding, JourneyError, Journeys, Rollout, VersionStage};
use ledger::{Clock, SystemClock};
use trust::{Action, PolicySet, Purpose, Target};

use super::{SEGMENTS, closing, open, operator, read_journey, read_text, trust_over, trust_under};
use crate::cli::{PublishOptions, StoreArguments};
use crate::terminal::{say, warn};

/// Whether a file is one of segments, and no journey.
fn is_of_segments(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == SEGMENTS)
}

/// `cairn journey check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Folder of the policies, whose partners.toml says whom the journey may call and with what; without it that is
    /// not looked at
    #[arg(long, value_name = "DIR")]
    policy_folder: Option<PathBuf>,
    /// One line for each finding, in the form that editors jump to, without why it matters
    #[arg(long)]
    terse: bool,
    /// The file
    file: PathBuf,
}

/// Why a finding matters and where its page is, beneath it.
fn explain(code: &str) {
    if let Some((why, page)) = journey::why(code) {
        say(&format!("    why: {why}"));
        say(&format!("    see: {page}"));
    }
}

pub(crate) fn check(options: &CheckOptions) -> anyhow::Result<ExitCode> {
    let (policies, file) = (options.policy_folder.as_deref(), options.file.as_path());
    let tell = |findings: &[Finding]| {
        for finding in findings {
            tell(file, std::slice::from_ref(finding));
            if !options.terse {
                explain(&finding.code);
            }
        }
    };
    if is_of_segments(file) {
        let findings = journey::check_segments(&read_text(file)?);
        tell(&findings);
        if findings.iter().any(|finding| finding.error) {
            return Ok(ExitCode::FAILURE);
        }
        say(&format!("{}: may be used.", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let source = read_journey(file)?;
    let findings = match policies {
        None => journey::check(&source),
        Some(folder) => match PolicySet::load(Some(folder)) {
            Ok(set) => journey::check_with(&source, set.partners(), SystemClock.now_ms()),
            Err(faults) => {
                for fault in faults {
                    warn(&fault.to_string());
                }
                return Ok(ExitCode::FAILURE);
            }
        },
    };
    tell(&findings);
    if findings.iter().any(|finding| finding.error) {
        return Ok(ExitCode::FAILURE);
    }
    say(&format!("{}: may be published.", file.display()));
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn publish(options: PublishOptions) -> anyhow::Result<ExitCode> {
    let source = read_journey(&options.file)?;
    let wanted = Wanted::of(&options)?;
    match (options.data, options.server, options.token) {
        (Some(data), _, _) => {
            let store = StoreArguments::in_folder(data, options.root_key);
            let policies = options.policy_folder.as_deref();
            publish_to_store((&store, policies), &options.file, &source, wanted.as_ref()).await
        }
        (None, Some(server), Some(token)) => {
            publish_to_server(&server, &token, &options.file, &source, wanted.as_ref()).await
        }
        _ => bail!("give --data DIR, or --server URL and --token TOKEN"),
    }
}

/// How far a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageName {
    /// Kept with its errors, starts nobody
    Draft,
    /// Has no errors, starts nobody
    Checked,
    /// Some of the new patients start on it
    Staged,
    /// All new patients start on it
    Live,
    /// Starts nobody; those on it go on to their end
    Retired,
}

impl From<StageName> for VersionStage {
    fn from(name: StageName) -> Self {
        match name {
            StageName::Draft => Self::Draft,
            StageName::Checked => Self::Checked,
            StageName::Staged => Self::Staged,
            StageName::Live => Self::Live,
            StageName::Retired => Self::Retired,
        }
    }
}

/// A stage that is asked for, and why. To be live without a word is to be published as ever.
struct Wanted {
    to: VersionStage,
    rollout: Rollout,
    why: String,
}

impl Wanted {
    fn of(options: &PublishOptions) -> anyhow::Result<Option<Self>> {
        let to = VersionStage::from(options.stage);
        let staged = to == VersionStage::Staged;
        if !staged && (options.share.is_some() || !options.sites.is_empty()) {
            bail!("--share and --site go with --stage staged");
        }
        if staged && options.share.is_none() && options.sites.is_empty() {
            bail!("say for whom it is staged: --share P, --site ID or both");
        }
        let Some(why) = options.reason.clone() else {
            if to == VersionStage::Live {
                return Ok(None);
            }
            bail!("say why: --reason TEXT");
        };
        let share = options.share.unwrap_or(100);
        let sites = options.sites.clone();
        let rollout = Rollout { share, sites };
        Ok(Some(Self { to, rollout, why }))
    }
}

/// What became of a version.
fn became(name: &str, version: u64, stage: &str) -> String {
    match stage {
        "live" => format!("Published {name} version {version}."),
        stage => format!("{name} version {version} is {stage}."),
    }
}

async fn publish_to_store(
    (store, policies): (&StoreArguments, Option<&Path>),
    file: &Path,
    source: &str,
    wanted: Option<&Wanted>,
) -> anyhow::Result<ExitCode> {
    let ledger = open(store).await?;
    let result = async {
        let trust = trust_under(&ledger, policies)?;
        let permit = trust
            .decide(
                &operator(&ledger),
                Purpose::Operations,
                Action::Publish,
                Target::default(),
                "command-line",
            )
            .await?;
        let journeys = Journeys::new(trust);
        let done = match wanted {
            None => journeys.publish(&permit, source).await,
            Some(Wanted { to, rollout, why }) => {
                journeys
                    .stage_file(&permit, source, *to, rollout, why)
                    .await
            }
        };
        match done {
            Ok(version) => Ok(Ok(version)),
            Err(JourneyError::Findings(findings)) => Ok(Err(findings)),
            Err(error) => Err(error.into()),
        }
    };
    let result = result.await;
    match closing(&ledger, result).await? {
        Ok(version) => {
            let (number, stage) = (u64::from(version.version), version.stage.name());
            say(&became(&version.name, number, stage));
            tell(file, &version.findings);
            Ok(ExitCode::SUCCESS)
        }
        Err(findings) => {
            tell(file, &findings);
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn publish_to_server(
    server: &str,
    token: &str,
    file: &Path,
    source: &str,
    wanted: Option<&Wanted>,
) -> anyhow::Result<ExitCode> {
    let url = format!("{}/api/journeys", server.trim_end_matches('/'));
    let request = super::asking()?.post(&url).bearer_auth(token);
    let request = match wanted {
        None => request
            .header("content-type", "application/yaml")
            .body(source.to_owned()),
        Some(Wanted { to, rollout, why }) => request.json(&serde_json::json!({
            "file": source, "stage": to.name(), "share": rollout.share, "sites": rollout.sites, "reason": why,
        })),
    };
    let answer = request
        .send()
        .await
        .with_context(|| format!("can't reach {url}"))?;
    let status = answer.status();
    let body: serde_json::Value = answer
        .json()
        .await
        .with_context(|| format!("{url} answered {status} without JSON"))?;
    if status.is_success() {
        let version = body["version"].as_u64().unwrap_or_default();
        // A server from before stages has none to tell of.
        let stage = body["stage"].as_str().unwrap_or("live");
        say(&became(text(&body["name"]), version, stage));
        tell_answered(file, body["findings"].as_array().map_or(&[], Vec::as_slice));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(findings) = body["findings"].as_array() else {
        bail!("{url} answered {status}: {}", text(&body["error"]));
    };
    tell_answered(file, findings);
    Ok(ExitCode::FAILURE)
}

/// What a server has found in a file.
fn tell_answered(file: &Path, findings: &[serde_json::Value]) {
    for finding in findings {
        let severity = if finding["error"] == true {
            "error"
        } else {
            "warning"
        };
        let (line, column) = (&finding["line"], &finding["column"]);
        let (code, message) = (text(&finding["code"]), text(&finding["message"]));
        say(&format!(
            "{}:{line}:{column}: {severity} {code}: {message}",
            file.display()
        ));
    }
}

/// The most letters that are listed; beyond it the list says that there are more.
const LETTERS_MAX: usize = 10_000;

pub(crate) async fn dead_letters(store: &StoreArguments, json: bool) -> anyhow::Result<ExitCode> {
    let ledger = open(store).await?;
    let found = async {
        let trust = trust_over(&ledger)?;
        let permit = trust
            .decide(
                &operator(&ledger),
                Purpose::Operations,
                Action::Observe,
                Target::default(),
                "command-line",
            )
            .await?;
        Ok(Journeys::new(trust)
            .dead_letters(&permit, LETTERS_MAX)
            .await?)
    };
    let found = found.await;
    let letters = closing(&ledger, found).await?;
    for letter in &letters {
        if json {
            say(&serde_json::to_string(letter)?);
        } else {
            say(&line(letter));
        }
    }
    if letters.len() == LETTERS_MAX {
        warn("There may be more; these are the newest.");
    }
    if letters.is_empty() {
        if !json {
            say("There are none.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

pub(crate) async fn retry(store: &StoreArguments, letters: &[String]) -> anyhow::Result<ExitCode> {
    let ledger = open(store).await?;
    let played = async {
        let journeys = Journeys::new(trust_over(&ledger)?);
        if letters.is_empty() {
            let (done, left) = journeys.retry_all(super::tenant_of(&ledger)).await?;
            let left: Vec<String> = left
                .iter()
                .map(|(letter, error)| format!("{}: {error}", letter.id))
                .collect();
            return Ok((done, left));
        }
        let (mut done, mut left) = (0, Vec::new());
        for letter in letters {
            match journeys.retry(super::tenant_of(&ledger), letter).await {
                Ok(()) => done += 1,
                Err(error) => left.push(format!("{letter}: {error}")),
            }
        }
        Ok((done, left))
    };
    let played = played.await;
    let (done, left) = closing(&ledger, played).await?;
    say(&format!(
        "{done} played again and gone, {} left.",
        left.len()
    ));
    for line in &left {
        say(line);
    }
    Ok(if left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(letter: &DeadLetter) -> String {
    let what = match fhir::ResourceType::from_code(letter.kind) {
        _ if letter.kind == 0 => "timers".to_owned(),
        Some(kind) => kind.to_string(),
        None => format!("kind {}", letter.kind),
    };
    let whose = letter
        .instance
        .as_ref()
        .map_or_else(String::new, |instance| format!(" of journey {instance}"));
    let waits = if letter.waits {
        "; waits for a program that can, and is then played again by itself"
    } else {
        ""
    };
    format!(
        "{} {} {what}{whose}: {}{waits}",
        letter.id,
        fhir::date::instant(letter.at_ms),
        letter.error
    )
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// One line each, in the form that editors jump to.
pub(super) fn tell(file: &Path, findings: &[Finding]) {
    for finding in findings {
        let severity = if finding.error { "error" } else { "warning" };
        say(&format!(
            "{}:{}:{}: {severity} {}: {}",
            file.display(),
            finding.line,
            finding.column,
            finding.code,
            finding.message
        ));
    }
}
