//! `cairn compliance`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::json;
use trust::consent::Rules;

use super::keep::order;
use super::read_text;
use super::serve::settings;
use crate::cli::{ServeOptions, StoreArguments};
use crate::compliance::{self, Evidence};
use crate::config::Settings;
use crate::control::{KnownClient, Order};
use crate::floors::Configured;
use crate::terminal::{say, warn};

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
    /// Print what the server listens on, keeps and talks to by its configuration, and with --clients which systems and
    /// apps may come in; exits with 1 when the rule pack refuses the configuration
    Inventory {
        #[command(flatten)]
        configuration: ServeOptions,
        /// Also the registered systems and apps, from the store or the server that has it open
        #[arg(long)]
        clients: bool,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn compliance(command: ComplianceCommand) -> anyhow::Result<ExitCode> {
    match command {
        ComplianceCommand::Report {
            evidence,
            profile,
            json,
        } => report(&evidence, &profile, json),
        ComplianceCommand::Inventory {
            configuration,
            clients,
            json,
        } => inventory(&settings(configuration)?, clients, json).await,
    }
}

async fn inventory(settings: &Settings, clients: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let configured = Configured::of(settings)?;
    let rules = Rules::load(&settings.consent_rules)?;
    let held = configured.check(&rules);
    let clients: Option<Vec<KnownClient>> = if clients {
        let store = StoreArguments::configured(settings);
        Some(serde_json::from_value(
            order(&store, Order::Clients).await?,
        )?)
    } else {
        None
    };
    if as_json {
        let below = held.as_ref().err().map(|refused| {
            let below = refused.below.iter();
            below.map(ToString::to_string).collect::<Vec<_>>()
        });
        let all = json!({
            "inventory": configured.inventory,
            "rulePack": rules.name(),
            "below": below.unwrap_or_default(),
            "clients": clients,
        });
        say(&serde_json::to_string_pretty(&all)?);
    } else {
        say(configured.inventory.text().trim_end());
        for client in clients.iter().flatten() {
            say(&format!(
                "in    client                {}  {}  {}  {}  [{}]",
                client.state, client.role, client.id, client.name, client.tenant
            ));
        }
        match &held {
            Ok(()) if rules.security().is_empty() => {
                say(&format!("The rule pack {} has no floors.", rules.name()));
            }
            Ok(()) => say(&format!(
                "The floors of the rule pack {} hold.",
                rules.name()
            )),
            Err(refused) => warn(&refused.to_string()),
        }
    }
    Ok(if held.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(evidence: &Path, profile: &str, json: bool) -> anyhow::Result<ExitCode> {
    let profile = compliance::profile(profile).map_err(|error| anyhow!(error))?;
    let proofs = compliance::proofs().map_err(|error| anyhow!(error))?;
    let run = Evidence::read(&read_text(evidence)?)
        .map_err(|error| anyhow!("{}: {error}", evidence.display()))?;
    let report = compliance::report(&profile, &proofs, &run);
    say(&if json { report.json()? } else { report.text() });
    Ok(if report.is_proved() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
