//! A profile with the evidence of a run.

use serde::Serialize;

use super::{Coverage, Evidence, Outcome, Profile, Proofs, Requirement, Test};

/// A profile with the evidence of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    profile: String,
    title: String,
    note: String,
    /// Version of this program, whose tests these are.
    cairn: &'static str,
    /// The run's own id and beginning.
    run: Option<String>,
    began: Option<String>,
    summary: Summary,
    requirements: Vec<Line>,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    requirements: usize,
    /// Requirements of which something is here and of which all tests passed.
    proved: usize,
    failed: usize,
    not_run: usize,
    /// Requirements that software alone can't meet, or of which nothing is here yet.
    left: usize,
    /// Tests that prove something, each once, and how they came out.
    tests: usize,
    tests_passed: usize,
    tests_failed: usize,
    tests_not_run: usize,
}

#[derive(Debug, Serialize)]
struct Line {
    citation: String,
    title: String,
    kind: &'static str,
    coverage: &'static str,
    outcome: &'static str,
    does: String,
    left: String,
    paths: Vec<String>,
    tests: Vec<Proof>,
}

#[derive(Debug, Serialize)]
struct Proof {
    #[serde(flatten)]
    test: Test,
    outcome: Outcome,
    when: Option<String>,
}

/// Puts a profile beside what a run came to.
#[must_use]
pub fn report(profile: &Profile, proofs: &Proofs, evidence: &Evidence) -> Report {
    let mut summary = Summary::default();
    let mut counted = std::collections::BTreeSet::new();
    let mut lines = Vec::new();
    for requirement in &profile.requirements {
        let line = line(requirement, &profile.tests(requirement, proofs), evidence);
        summary.requirements += 1;
        match line.outcome {
            "proved" => summary.proved += 1,
            "failed" => summary.failed += 1,
            "not run" => summary.not_run += 1,
            _ => summary.left += 1,
        }
        for proof in &line.tests {
            if !counted.insert(proof.test.clone()) {
                continue;
            }
            summary.tests += 1;
            match proof.outcome {
                Outcome::Passed | Outcome::Flaky => summary.tests_passed += 1,
                Outcome::Failed => summary.tests_failed += 1,
                Outcome::NotRun => summary.tests_not_run += 1,
            }
        }
        lines.push(line);
    }
    Report {
        profile: profile.name.clone(),
        title: profile.title.clone(),
        note: profile.note.clone(),
        cairn: env!("CARGO_PKG_VERSION"),
        run: evidence.run.clone(),
        began: evidence.began.clone(),
        summary,
        requirements: lines,
    }
}

fn line(requirement: &Requirement, tests: &[&Test], evidence: &Evidence) -> Line {
    let tests: Vec<Proof> = tests
        .iter()
        .map(|test| {
            let ran = evidence.of(test);
            Proof {
                test: (*test).clone(),
                outcome: ran.outcome,
                when: ran.when,
            }
        })
        .collect();
    let any = |outcome: Outcome| tests.iter().any(|proof| proof.outcome == outcome);
    let outcome = if requirement.coverage == Coverage::None {
        "left to the organisation"
    } else if any(Outcome::Failed) {
        "failed"
    } else if tests.is_empty() || any(Outcome::NotRun) {
        "not run"
    } else {
        "proved"
    };
    Line {
        citation: requirement.citation.clone(),
        title: requirement.title.clone(),
        kind: requirement.kind.name(),
        coverage: requirement.coverage.name(),
        outcome,
        does: requirement.does.clone(),
        left: requirement.left.clone(),
        paths: requirement.paths.clone(),
        tests,
    }
}

impl Report {
    /// Whether every requirement of which something is here is proved.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.summary.failed == 0 && self.summary.not_run == 0
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let began = self.began.as_deref().unwrap_or("at an unknown time");
        out.push(format!("{} ({})", self.title, self.profile));
        out.push(self.note.clone());
        out.push(format!("Tests of cairn {}, run {began}.", self.cairn));
        out.push(String::new());
        for line in &self.requirements {
            let coverage = if line.coverage == "part" {
                ", in part"
            } else {
                ""
            };
            out.push(format!(
                "{} {} ({}): {}{coverage}",
                line.citation, line.title, line.kind, line.outcome
            ));
            if !line.does.is_empty() {
                out.push(format!("  does   {}", line.does));
            }
            if line.left != "-" {
                out.push(format!("  left   {}", line.left));
            }
            if !line.paths.is_empty() {
                out.push(format!("  where  {}", line.paths.join(", ")));
            }
            for proof in &line.tests {
                out.push(format!(
                    "  {:<22} {} {}{}",
                    proof.outcome.name(),
                    proof.test.binary,
                    proof.test.name,
                    proof
                        .when
                        .as_ref()
                        .map_or_else(String::new, |when| format!(" ({when})"))
                ));
            }
        }
        let summary = &self.summary;
        out.push(String::new());
        out.push(format!(
            "{} requirements: {} proved, {} failed, {} not run, {} left to the organisation.",
            summary.requirements, summary.proved, summary.failed, summary.not_run, summary.left
        ));
        out.push(format!(
            "{} tests: {} passed, {} failed, {} not run.",
            summary.tests, summary.tests_passed, summary.tests_failed, summary.tests_not_run
        ));
        out.join("\n")
    }

    /// The report for programs.
    ///
    /// # Errors
    /// None that can happen with such a shape.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
