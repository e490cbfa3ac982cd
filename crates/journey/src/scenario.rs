//! Scenarios of a journey: `given`, `when`, `then`, played by the production engine.
//!
//! The file stands beside the journey (`NAME.test.yaml`). Events are real FHIR resources, or short forms
//! that become such, and are read by the same code as on the feed; conditions are evaluated by the same
//! FHIRPath.

mod calls;
mod compare;
mod file;
mod known;
mod play;
mod replies;
mod whose;

use crate::counts::{Before, VersionCounts};
use crate::decode::Findings;
use crate::definition::Definition;
use crate::spec::END;
use crate::state::State;
use crate::time::say_minute;
use crate::{Finding, form, words};
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

/// What came of one scenario.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// What is not as expected, in lines; none when it passed.
    pub differences: Vec<String>,
    /// What happened, in words, oldest first.
    pub trail: Vec<String>,
}

/// What came of all scenarios of a file.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Tested {
    /// Each scenario, in the order of the file.
    pub scenarios: Vec<ScenarioResult>,
    /// How many steps the journey has.
    pub steps: usize,
    /// Steps where no scenario brings the patient.
    pub steps_missed: Vec<String>,
    /// How many ways it has.
    pub ways: usize,
    /// Ways that no scenario goes, `from -> to (label)`.
    pub ways_missed: Vec<String>,
}

impl Tested {
    /// Whether all passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let mut all = self.scenarios.iter();
        all.all(|scenario| scenario.differences.is_empty())
    }

    /// Steps and ways that scenarios reach, in a hundred, cut off: 100 means all.
    #[must_use]
    pub fn coverage(&self) -> u8 {
        let all = self.steps + self.ways;
        let missed = self.steps_missed.len() + self.ways_missed.len();
        let share = ((all - missed.min(all)) * 100).checked_div(all);
        share
            .and_then(|share| u8::try_from(share).ok())
            .unwrap_or(100)
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for scenario in &self.scenarios {
            if scenario.differences.is_empty() {
                let _ = writeln!(text, "ok      {}", scenario.name);
                continue;
            }
            let _ = writeln!(text, "FAILED  {}", scenario.name);
            for line in &scenario.differences {
                let _ = writeln!(text, "        {line}");
            }
            let _ = writeln!(text, "        what happened:");
            for line in &scenario.trail {
                let _ = writeln!(text, "          {line}");
            }
        }
        let passed = self.scenarios.iter();
        let passed = passed.filter(|scenario| scenario.differences.is_empty());
        let _ = writeln!(
            text,
            "{} of {} scenarios passed; {} of {} steps and {} of {} ways covered ({} %)",
            passed.count(),
            self.scenarios.len(),
            self.steps - self.steps_missed.len(),
            self.steps,
            self.ways - self.ways_missed.len(),
            self.ways,
            self.coverage()
        );
        for step in &self.steps_missed {
            let _ = writeln!(text, "  no scenario comes to {step}");
        }
        for way in &self.ways_missed {
            let _ = writeln!(text, "  no scenario goes {way}");
        }
        text
    }
}

/// The form of files of scenarios as JSON Schema (2020-12), for completion and checks in an editor.
#[must_use]
pub fn scenario_schema() -> Value {
    form::schema(
        "urn:cairn:schema:scenarios",
        "Cairn journey scenarios",
        &file::SCENARIOS,
    )
}

/// Plays the scenarios of a file.
///
/// # Errors
/// What is wrong with the file of scenarios, each at its place.
pub fn test(definition: &Arc<Definition>, source: &str) -> Result<Tested, Vec<Finding>> {
    let mut findings = Findings {
        source,
        list: Vec::new(),
    };
    let scenarios = file::decode(definition, &mut findings);
    if findings.failed() {
        let mut list = findings.list;
        list.sort_by_key(|finding| (finding.line, finding.column));
        return Err(list);
    }
    let mut counts = VersionCounts::default();
    let results = scenarios
        .iter()
        .map(|scenario| {
            let played = play::play(definition, scenario);
            if let Some(state) = &played.state {
                counts.apply(&Before::default(), played.trail.iter(), state);
            }
            ScenarioResult {
                name: scenario.name.clone(),
                differences: compare::compare(definition, &scenario.then, &played),
                trail: played
                    .state
                    .as_ref()
                    .map(|state| trail(definition, state, &played))
                    .unwrap_or_default(),
            }
        })
        .collect();
    let (nodes, edges) = counts.graph(definition);
    let nodes: Vec<_> = nodes
        .iter()
        .filter(|node| definition.step(&node.id).is_some())
        .collect();
    Ok(Tested {
        scenarios: results,
        steps: nodes.len(),
        steps_missed: nodes
            .iter()
            .filter(|node| node.entered == 0)
            .map(|node| node.id.clone())
            .collect(),
        ways: edges.len(),
        ways_missed: edges
            .iter()
            .filter(|edge| edge.count == 0)
            .map(|edge| {
                let to = if edge.to == END { END } else { &edge.to };
                format!("{} -> {to} ({})", edge.from, edge.label)
            })
            .collect(),
    })
}

fn trail(definition: &Definition, state: &State, played: &play::Played) -> Vec<String> {
    played
        .trail
        .iter()
        .filter_map(|entry| {
            let view = words::trail(definition, state, entry)?;
            let at = say_minute(view.at_ms, &definition.zone);
            Some(format!("{at} {} ({})", view.what, view.why))
        })
        .collect()
}
