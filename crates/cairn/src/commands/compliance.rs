//! `cairn compliance`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Subcommand;

use super::read_text;
use crate::compliance::{self, Evidence};
use crate::terminal::say;

#[derive(Debug, Subcommand)]
pub enum ComplianceCommand {
    /// Print what a regulation requires, where it is implemented, which tests prove it, and how these came out in the
    /// last run; exits with 1 when one of them failed or was not run
    Report {
        /// JUnit file of the run, as `scripts/test` leaves it in the work tree
        #[arg(
            long,
            value_name = "FILE",
            default_value = "target/nextest/evidence/junit.xml"
        )]
        evidence: PathBuf,
        /// Which regulation
        #[arg(long, value_name = "NAME", default_value = "us-hipaa")]
        profile: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn compliance(command: &ComplianceCommand) -> anyhow::Result<ExitCode> {
    let ComplianceCommand::Report {
        evidence,
        profile,
        json,
    } = command;
    let profile = compliance::profile(profile).map_err(|error| anyhow!(error))?;
    let proofs = compliance::proofs().map_err(|error| anyhow!(error))?;
    let run = Evidence::read(&read_text(evidence)?)
        .map_err(|error| anyhow!("{}: {error}", evidence.display()))?;
    let report = compliance::report(&profile, &proofs, &run);
    say(&if *json { report.json()? } else { report.text() });
    Ok(if report.is_proved() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
