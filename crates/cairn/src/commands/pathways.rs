//! What `cairn journey` does with files alone: scenarios, simulation, drawing, comparing, formatting.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use journey::Definition;

use super::journey::tell;
use super::{read_journey, read_text};
use crate::terminal::{say, warn};

/// The part of `cairn journey` that needs no store.
#[derive(Debug, Subcommand)]
pub enum JourneyFiles {
    /// Play the scenarios beside journey files (NAME.test.yaml beside NAME.yaml); exits with 1 when one
    /// fails
    Test(ScenarioOptions),
    /// Lead a cohort along a journey in virtual time: volumes, load, endings, cost
    Simulate(SimulateOptions),
    /// Say what one definition changes against another, as patients and staff meet it; exits with 1 when
    /// they differ
    Diff {
        /// The journey as it was
        before: PathBuf,
        /// The journey as it is
        after: PathBuf,
        /// Print the changes as JSON, one a line
        #[arg(long)]
        json: bool,
    },
    /// Write journey files in their canonical form, comments kept
    Fmt {
        /// Change nothing; exit with 1 when a file is not in its canonical form
        #[arg(long)]
        check: bool,
        /// Journey files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the language as JSON Schema, for completion and checks in an editor
    Schema {
        /// Of which files
        #[arg(long, value_enum, default_value_t = SchemaOf::Journey)]
        of: SchemaOf,
    },
    /// Draw a journey's graph for Graphviz or Mermaid
    Graph {
        /// In which language
        #[arg(long, value_enum, default_value_t = Language::Dot)]
        format: Language,
        /// The journey
        file: PathBuf,
    },
    /// Print a journey as a FHIR Bundle: a PlanDefinition and what its actions are defined by
    Export {
        /// The version that the definitions name; 0 is a draft
        #[arg(long = "as-version", value_name = "N", default_value_t = 0)]
        number: u32,
        /// The journey
        file: PathBuf,
    },
    /// Print a draft of a journey made of a PlanDefinition in JSON, or of a Bundle with one; what the
    /// draft leaves out is told beside it
    Import {
        /// The plan
        file: PathBuf,
    },
}

/// A language of graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
}

/// Files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Journeys.
    Journey,
    /// Segments that journeys share (`segments.yaml`).
    Segments,
    /// Scenarios beside a journey (`NAME.test.yaml`).
    Scenarios,
    /// What a simulated cohort does (`NAME.behaviour.yaml`).
    Behaviour,
}

/// Does one of them.
pub(crate) fn journey_files(command: &JourneyFiles) -> anyhow::Result<ExitCode> {
    match command {
        JourneyFiles::Test(options) => scenarios(options),
        JourneyFiles::Simulate(options) => simulate(options),
        JourneyFiles::Diff {
            before,
            after,
            json,
        } => diff(before, after, *json),
        JourneyFiles::Fmt { check, files } => fmt(*check, files),
        JourneyFiles::Schema { of } => schema(*of),
        JourneyFiles::Graph { format, file } => graph(*format, file),
        JourneyFiles::Export { number, file } => export(*number, file),
        JourneyFiles::Import { file } => import(file),
    }
}

/// `cairn journey test`.
#[derive(Debug, Args)]
pub struct ScenarioOptions {
    /// Fail when scenarios reach fewer than N in a hundred of the steps and ways of a journey
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// Print the results as JSON, one file a line
    #[arg(long)]
    json: bool,
    /// Journey files, or their files of scenarios
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Compiles a journey's file; what is wrong with it is told.
fn compiled(file: &Path) -> anyhow::Result<Option<Arc<Definition>>> {
    match Definition::compile(&read_journey(file)?, 1) {
        Ok(definition) => Ok(Some(definition)),
        Err(findings) => {
            tell(file, &findings);
            Ok(None)
        }
    }
}

/// `journeys/x.yaml` with another ending, `journeys/x.test.yaml`.
fn beside(file: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} is no file's name", file.display()))?;
    let stem = [".yaml", ".yml"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .with_context(|| format!("{} doesn't end in .yaml", file.display()))?;
    Ok(file.with_file_name(format!("{stem}{ending}")))
}

/// The journey's file and its scenarios', whichever of them was named.
fn pair(file: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let name = file.to_string_lossy();
    match name.strip_suffix(".test.yaml") {
        Some(stem) => Ok((PathBuf::from(format!("{stem}.yaml")), file.to_owned())),
        None => Ok((file.to_owned(), beside(file, ".test.yaml")?)),
    }
}

fn scenarios(options: &ScenarioOptions) -> anyhow::Result<ExitCode> {
    let mut good = true;
    for file in &options.files {
        let (journey, scenarios) = pair(file)?;
        if !scenarios.exists() {
            bail!(
                "{} has no scenarios: there is no {}",
                journey.display(),
                scenarios.display()
            );
        }
        let Some(definition) = compiled(&journey)? else {
            good = false;
            continue;
        };
        match journey::test(&definition, &read_text(&scenarios)?) {
            Err(findings) => {
                tell(&scenarios, &findings);
                good = false;
            }
            Ok(tested) => {
                let wanted = options.min_coverage.unwrap_or(0);
                if options.json {
                    say(&serde_json::to_string(&tested)?);
                } else {
                    say(&format!(
                        "{}\n{}",
                        scenarios.display(),
                        tested.text().trim_end()
                    ));
                    if tested.coverage() < wanted {
                        let reached = tested.coverage();
                        say(&format!(
                            "FAILED  {reached} % are covered, {wanted} % are asked for"
                        ));
                    }
                }
                good &= tested.passed() && tested.coverage() >= wanted;
            }
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `cairn journey simulate`.
#[derive(Debug, Args)]
pub struct SimulateOptions {
    /// The journey
    file: PathBuf,
    /// How many patients start
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    patients: u32,
    /// Over how many days they start, and after how many the simulation is over
    #[arg(long, value_name = "D", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
    /// What is drawn hangs on it: the same seed gives the same report
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How patients and staff behave [default: NAME.behaviour.yaml beside NAME.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    behaviour: Option<PathBuf>,
    /// Another definition, led through the same patients, to see what the journey changes
    #[arg(long, value_name = "OTHER")]
    against: Option<PathBuf>,
    /// Print the report as JSON; with --against, one a line
    #[arg(long)]
    json: bool,
}

/// The journey and how its patients and staff behave; nothing when one of the files has mistakes.
fn cohort(
    file: &Path,
    behaviour: Option<&Path>,
) -> anyhow::Result<Option<(Arc<Definition>, journey::Behaviour)>> {
    let Some(definition) = compiled(file)? else {
        return Ok(None);
    };
    let usual = beside(file, ".behaviour.yaml")?;
    let place = behaviour.or_else(|| usual.exists().then_some(usual.as_path()));
    let Some(place) = place else {
        return Ok(Some((definition, journey::Behaviour::default())));
    };
    match journey::Behaviour::parse(&definition, &read_text(place)?) {
        Ok(behaviour) => Ok(Some((definition, behaviour))),
        Err(findings) => {
            tell(place, &findings);
            Ok(None)
        }
    }
}

fn simulate(options: &SimulateOptions) -> anyhow::Result<ExitCode> {
    let size = journey::Size {
        patients: options.patients,
        days: options.days,
        seed: options.seed,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let Some((definition, behaviour)) = cohort(&options.file, options.behaviour.as_deref())? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut reports = vec![journey::simulate(&definition, &behaviour, size)];
    if let Some(other) = &options.against {
        let Some(definition) = compiled(other)? else {
            return Ok(ExitCode::FAILURE);
        };
        // The same people: only the journey is another.
        reports.push(journey::simulate(&definition, &behaviour, size));
    }
    for report in &reports {
        if options.json {
            say(&serde_json::to_string(report)?);
        } else {
            say(&report.text());
        }
    }
    if let ([this, against], false) = (reports.as_slice(), options.json) {
        say(&this.beside(against));
    }
    let refused = reports.iter().any(|report| !report.refused.is_empty());
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn diff(before: &Path, after: &Path, json: bool) -> anyhow::Result<ExitCode> {
    for file in [before, after] {
        if compiled(file)?.is_none() {
            bail!("{} has errors", file.display());
        }
    }
    let changes = journey::diff(&read_journey(before)?, &read_journey(after)?)
        .map_err(|_| anyhow::anyhow!("a journey has errors"))?;
    if json {
        for change in &changes {
            say(&serde_json::to_string(change)?);
        }
    } else if !changes.is_empty() {
        say(journey::diff_text(&changes).trim_end());
    }
    Ok(if changes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn graph(format: Language, file: &Path) -> anyhow::Result<ExitCode> {
    let Some(definition) = compiled(file)? else {
        return Ok(ExitCode::FAILURE);
    };
    let drawing = match format {
        Language::Dot => journey::Drawing::Dot,
        Language::Mermaid => journey::Drawing::Mermaid,
    };
    say(journey::draw(&definition, drawing).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn schema(of: SchemaOf) -> anyhow::Result<ExitCode> {
    let schema = match of {
        SchemaOf::Journey => journey::schema(),
        SchemaOf::Segments => journey::segments_schema(),
        SchemaOf::Scenarios => journey::scenario_schema(),
        SchemaOf::Behaviour => journey::behaviour_schema(),
    };
    say(&serde_json::to_string_pretty(&schema)?);
    Ok(ExitCode::SUCCESS)
}

fn export(version: u32, file: &Path) -> anyhow::Result<ExitCode> {
    match journey::export(&read_journey(file)?, version) {
        Ok(bundle) => {
            say(&serde_json::to_string_pretty(&bundle)?);
            Ok(ExitCode::SUCCESS)
        }
        Err(findings) => {
            tell(file, &findings);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn import(file: &Path) -> anyhow::Result<ExitCode> {
    let given = serde_json::from_str(&read_text(file)?)
        .with_context(|| format!("{} is no JSON", file.display()))?;
    let draft =
        journey::import(&given).map_err(|words| anyhow::anyhow!("{}: {words}", file.display()))?;
    say(draft.source.trim_end());
    for left in &draft.left {
        warn(&format!("{}: {}", left.place, left.words));
    }
    Ok(ExitCode::SUCCESS)
}

fn fmt(check: bool, files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut good = true;
    for file in files {
        let source = read_text(file)?;
        let formatted = match journey::format(&source) {
            Ok(formatted) => formatted,
            Err(findings) => {
                tell(file, &findings);
                good = false;
                continue;
            }
        };
        if formatted == source {
            continue;
        }
        if check {
            say(&format!("{} is not in its canonical form", file.display()));
            good = false;
        } else {
            std::fs::write(file, formatted).with_context(|| file.display().to_string())?;
            say(&format!("{} formatted", file.display()));
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
