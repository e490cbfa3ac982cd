//! What the commands do, but for the demo.

mod access;
mod analysing;
mod audit;
mod compliance;
mod database;
mod fhirpath;
mod import;
mod journey;
mod keep;
mod keys;
mod moving;
mod pathways;
mod policy;
mod replaying;
mod search_parameter;
mod serve;
mod subscription;
mod tenant;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::journey::{Finding, Inserted, Merged, NotMerged};
use anyhow::{Context, bail};
use ledger::{Ledger, Location, SystemClock, TenantId};
use trust::{Agent, Trust, TrustOptions};

pub(crate) use access::{
    Known, approve_client, create_account, create_client, link_account, list_accounts,
    list_clients, list_links, register_app, register_client, rekey_client, reset_second_factor,
    revoke_client, set_active, set_known_as, set_password_sign_in, set_registered, state_of,
    unlink_account,
};
pub(crate) use analysing::{JourneyAnalysis, journey_analysis};
pub(crate) use audit::{cosign, export, prove, verify, witnesses};
pub(crate) use compliance::{ComplianceCommand, compliance};
pub(crate) use database::init_store;
pub(crate) use fhirpath::fhirpath;
pub(crate) use import::{Bar, import};
pub use journey::{CheckOptions, StageName};
pub(crate) use journey::{check, dead_letters, publish, retry};
pub(crate) use keep::{
    backup, discard_outbox, doctor, list_outbox, parse_moment, release_outbox, restore, shred_list,
};
pub(crate) use keys::{create_key, rotate_key};
pub use moving::MigrateOptions;
pub(crate) use moving::migrate;
pub(crate) use pathways::{JourneyFiles, journey_files};
pub(crate) use policy::{PolicyCommand, policy, policy_lines};
pub use replaying::ReplayOptions;
pub(crate) use replaying::replay;
pub(crate) use search_parameter::status as search_parameter_status;
pub(crate) use serve::serve;
pub(crate) use subscription::{
    SubscriptionCommand, Subscriptions, carry_out as carry_out_subscriptions, subscription,
};
pub(crate) use tenant::{TenantCommand, tenant};

use crate::cli::StoreArguments;
use crate::config::{SessionSettings, StoreSettings};
use crate::store::{self, RootKeySource, TENANT};
use crate::tenancy;
use crate::terminal::{say, warn};

/// How long a server may take to answer a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// A client of a running server. It waits for nothing without end: one whose connection is turned away just when it is
/// made may otherwise wait for another for ever.
fn asking() -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .http1_only()
        .timeout(ANSWER_WITHIN);
    builder.build().context("can't make an HTTP client")
}

/// Where a store's root key is.
fn root_key(arguments: &StoreArguments) -> anyhow::Result<RootKeySource> {
    match (&arguments.root_key, &arguments.data) {
        (Some(given), _) => Ok(given.clone()),
        (None, Some(data)) => Ok(RootKeySource::File(store::root_key_path(data))),
        (None, None) => bail!("give --root-key FILE"),
    }
}

/// Where a store is.
fn location(arguments: &StoreArguments) -> anyhow::Result<Location> {
    Ok(match (&arguments.store_url, &arguments.data) {
        (Some(url), _) => store::in_database(
            url,
            arguments.store_password_file.as_deref(),
            arguments.store_ca_file.as_deref(),
            &arguments.store_schema,
            // A command looks at what holds now.
            "",
        )?,
        (None, Some(data)) => store::in_folder(data),
        (None, None) => bail!("give --data DIR or --store-url URL"),
    })
}

/// Where a store is that has to be there: an empty one made for a mistyped folder or schema would be found
/// sound.
async fn existing(arguments: &StoreArguments) -> anyhow::Result<Location> {
    let location = location(arguments)?;
    let source = root_key(arguments)?;
    // Where the key is missing too, opening says what to do.
    if matches!(&source, RootKeySource::File(key) if !key.exists()) {
        return Ok(location);
    }
    let place = location.clone();
    let is_there = tokio::task::spawn_blocking(move || ledger::store_exists(&place)).await??;
    if is_there {
        return Ok(location);
    }
    // A token that can't be used is told first, as where there is a store.
    source.read()?;
    match &location {
        Location::Folder(path) => bail!("there is no store in {}", path.display()),
        Location::Postgres(at) => bail!(
            "there is no store in the schema {} of that database: check --store-url and --store-schema",
            at.schema
        ),
    }
}

/// Opens a store that has to be there, with all of its tenants.
async fn open_existing(arguments: &StoreArguments) -> anyhow::Result<Ledger> {
    existing(arguments).await?;
    open_whole(arguments).await
}

/// Opens a store that has to be there, for the tenant that the command is about.
async fn open_existing_of(arguments: &StoreArguments) -> anyhow::Result<Ledger> {
    existing(arguments).await?;
    open(arguments).await
}

/// Opens a store, or makes it; one in a folder must not be open in a server.
async fn open_whole(arguments: &StoreArguments) -> anyhow::Result<Ledger> {
    let ledger = store::open(
        location(arguments)?,
        root_key(arguments)?,
        Arc::new(SystemClock),
        StoreSettings::default().cache_bytes,
    )
    .await?;
    Ok(ledger)
}

/// The same, for the tenant that the command is about: nothing of any other is to be had through it.
async fn open(arguments: &StoreArguments) -> anyhow::Result<Ledger> {
    let ledger = open_whole(arguments).await?;
    match tenancy::named(&ledger, arguments.of.as_deref()).await {
        Ok(tenant) => Ok(ledger.only(tenant.id)),
        Err(error) => closing(&ledger, Err(error)).await,
    }
}

/// The tenant that a store was opened for.
fn tenant_of(ledger: &Ledger) -> TenantId {
    ledger.tenant().unwrap_or(TENANT)
}

/// Trust over an opened store, with the built-in policies.
pub(crate) fn trust_over(ledger: &Ledger) -> anyhow::Result<Trust> {
    trust_under(ledger, None)
}

/// The same under the policies of a folder.
pub(crate) fn trust_under(ledger: &Ledger, policies: Option<&Path>) -> anyhow::Result<Trust> {
    let session = SessionSettings::default();
    Ok(Trust::new(TrustOptions {
        ledger: ledger.clone(),
        wall_clock: Arc::new(SystemClock),
        policy_folder: policies.map(Path::to_path_buf),
        session_idle_s: session.idle_s,
        session_absolute_s: session.absolute_s,
    })?)
}

/// Who acts when an operator works on the store from the command line.
pub(crate) fn operator(ledger: &Ledger) -> Agent {
    Agent::system(tenant_of(ledger), "command-line")
}

/// Closes the store and hands on what the command came to.
async fn closing<T>(ledger: &Ledger, result: anyhow::Result<T>) -> anyhow::Result<T> {
    let closed = ledger.close().await;
    let value = result?;
    closed.context("closing the store")?;
    Ok(value)
}

/// A file beside journeys that has what they share.
struct Shared {
    file: &'static str,
    /// What is wrong with it.
    check: fn(&str) -> Vec<Finding>,
    /// A journey's text with what it names of it.
    with: fn(&str, &str) -> Result<Merged, NotMerged>,
}

static SHARED: [Shared; 2] = [
    Shared {
        file: "segments.yaml",
        check: ::journey::check_segments,
        with: ::journey::with_segments,
    },
    Shared {
        file: "connectors.yaml",
        check: ::journey::check_connectors,
        with: ::journey::with_connectors,
    },
];

/// A journey's text, and the files that it comes from.
struct Source {
    file: PathBuf,
    text: String,
    /// What was put into it of the files beside it, in this order.
    taken: Vec<(PathBuf, Inserted)>,
}

impl Source {
    /// A file of which nothing but where something stands is told.
    fn alone(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            text: String::new(),
            taken: Vec::new(),
        }
    }

    /// The file, line and column of a place in the text.
    fn origin(&self, mut line: usize, mut column: usize) -> (&Path, usize, usize) {
        for (file, inserted) in self.taken.iter().rev() {
            let is_shared;
            (is_shared, line, column) = inserted.origin(line, column);
            if is_shared {
                return (file, line, column);
            }
        }
        (&self.file, line, column)
    }

    /// A finding in the form that editors jump to, where whoever reads it has written what it is about.
    fn line(&self, finding: &Finding) -> String {
        let (file, line, column) = self.origin(finding.line, finding.column);
        let there = Finding {
            line,
            column,
            ..finding.clone()
        };
        self::journey::finding_line(file, &there)
    }

    fn tell(&self, findings: &[Finding]) {
        for finding in findings {
            say(&self.line(finding));
        }
    }
}

/// Reads a journey's file, with what it names of the files beside it. What is wrong with these is told.
fn read_journey(path: &Path) -> anyhow::Result<Source> {
    let mut source = Source {
        file: path.to_path_buf(),
        text: read_text(path)?,
        taken: Vec::new(),
    };
    for shared in &SHARED {
        let file = path.with_file_name(shared.file);
        if !file.exists() {
            continue;
        }
        match (shared.with)(&source.text, &read_text(&file)?) {
            Ok(merged) => {
                // Beside what the command prints, which other programs may read.
                for finding in &merged.warnings {
                    warn(&source.line(finding));
                }
                source.text = merged.text;
                source
                    .taken
                    .extend(merged.inserted.map(|inserted| (file, inserted)));
            }
            Err(NotMerged {
                findings,
                in_journey: true,
            }) => {
                source.tell(&findings);
                anyhow::bail!(
                    "{} can't take what it names of {}",
                    path.display(),
                    file.display()
                )
            }
            Err(NotMerged { findings, .. }) => {
                self::journey::tell(&file, &findings);
                anyhow::bail!("{} has errors", file.display())
            }
        }
    }
    Ok(source)
}

/// Reads a text file with its name in the error.
fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
