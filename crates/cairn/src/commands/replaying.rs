//! `cairn journey replay`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use journey::{Definition, Journeys, REPLAYED_MAX};
use ledger::Ledger;
use trust::{Action, Agent, Permit, Purpose, Target, Trust};

use super::serve::settings;
use super::{closing, open_existing_of, read_journey, tenant_of, trust_over};
use crate::cli::{ServeOptions, StoreArguments};
use crate::explaining::Decides;
use crate::operator::Operator;
use crate::terminal::{say, warn};

/// The part of Cairn that asks for replays, with the operator's name.
const REPLAYER: &str = "journey-replayer";

/// `cairn journey replay`.
#[derive(Debug, Args)]
pub struct ReplayOptions {
    #[command(flatten)]
    store: StoreArguments,
    /// The draft
    file: PathBuf,
    /// A patient, by id: all journeys of the draft's name that they are or were in
    #[arg(long, value_name = "ID", conflicts_with_all = ["instances", "many"])]
    patient: Option<String>,
    /// A patient's journey, by its id; may be given several times
    #[arg(long = "instance", value_name = "ID", conflicts_with = "many")]
    instances: Vec<String>,
    /// A summary of so many journeys of the draft's name, which names nobody
    #[arg(long, value_name = "N", required_unless_present_any = ["patient", "instances"])]
    many: Option<usize>,
    /// Configuration file (TOML) that the server has: its rule pack decides about consents, quiet hours and limits
    /// [default: the rule pack that is built in]
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Print what came of it as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// Plays what really happened again with a draft.
pub(crate) async fn replay(options: &ReplayOptions) -> anyhow::Result<ExitCode> {
    let source = read_journey(&options.file)?;
    let draft = match Definition::compile(&source.text, 0) {
        Ok(draft) => draft,
        Err(findings) => {
            source.tell(&findings);
            return Ok(ExitCode::FAILURE);
        }
    };
    if options
        .many
        .is_some_and(|many| many == 0 || many > REPLAYED_MAX)
    {
        bail!("--many takes 1 to {REPLAYED_MAX}");
    }
    let ledger = open_existing_of(&options.store).await?;
    let result = async {
        let trust = decides(
            &options.store,
            options.config.as_deref(),
            options.json,
            &ledger,
        )
        .await?;
        let permit = permit(&ledger, &trust).await?;
        let journeys = Journeys::new(trust);
        if let Some(many) = options.many {
            let summary = journeys.replay_many(&permit, &draft, many).await?;
            say(&match options.json {
                true => serde_json::to_string(&summary)?,
                false => summary.text().trim_end().to_owned(),
            });
            return Ok(summary.same == summary.played
                && summary.failed.is_empty()
                && summary.hidden == 0);
        }
        let mut instances = options.instances.clone();
        if let Some(patient) = &options.patient {
            instances = journeys.replayable(&permit, &draft.name, patient).await?;
            if instances.is_empty() {
                bail!("the patient is not known to {}", draft.name);
            }
        }
        let mut same = true;
        for instance in &instances {
            let replayed = journeys.replay(&permit, &draft, instance).await?;
            same &= replayed.is_same();
            say(&match options.json {
                true => serde_json::to_string(&replayed)?,
                false => replayed.text().trim_end().to_owned(),
            });
        }
        Ok(same)
    };
    let result = result.await;
    let same = closing(&ledger, result).await?;
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What decides: as the server that has the configuration, or what is built in.
pub(super) async fn decides(
    store: &StoreArguments,
    config: Option<&Path>,
    silent: bool,
    ledger: &Ledger,
) -> anyhow::Result<Trust> {
    let Some(config) = config else {
        if !silent {
            warn(
                "Policies and the rules of consents, quiet hours and limits are those that are built in, not the organisation's own; --config says which a server has.",
            );
        }
        return trust_over(ledger);
    };
    let settings = settings(ServeOptions {
        data: store.data.clone(),
        listen: None,
        config: Some(config.to_path_buf()),
        root_key: store.root_key.clone(),
        set: Vec::new(),
    })?;
    let tenant = crate::tenancy::named(ledger, store.of.as_deref()).await?;
    Decides::Configured(&settings).of(ledger, &tenant)
}

async fn permit(ledger: &Ledger, trust: &Trust) -> anyhow::Result<Permit> {
    let agent = Agent {
        name: Operator::here().name().to_owned(),
        ..Agent::system(tenant_of(ledger), REPLAYER)
    };
    let decided = trust.decide(
        &agent,
        Purpose::CareManagement,
        Action::Steer,
        Target::default(),
        "command-line",
    );
    Ok(decided.await?)
}
