//! What the commands do, but for the demo.

mod access;
mod audit;
mod import;
mod journey;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use ledger::{Ledger, SystemClock};
use trust::{Agent, Trust, TrustOptions};

pub(crate) use access::{
    create_account, create_client, list_accounts, list_clients, reset_second_factor, revoke_client,
    set_active,
};
pub(crate) use audit::{cosign, export, prove, verify, witnesses};
pub(crate) use import::{Bar, import};
pub(crate) use journey::{check, dead_letters, publish, retry};
pub(crate) use serve::serve;

use crate::cli::StoreArguments;
use crate::config::{SessionSettings, StoreSettings};
use crate::store::{self, TENANT};
use crate::terminal::say;

/// Opens a store that no server has open.
async fn open(arguments: &StoreArguments) -> anyhow::Result<Ledger> {
    let key = arguments
        .root_key
        .clone()
        .unwrap_or_else(|| store::root_key_path(&arguments.data));
    let ledger = store::open(
        &arguments.data,
        &key,
        Arc::new(SystemClock),
        StoreSettings::default().cache_bytes,
    )
    .await?;
    Ok(ledger)
}

/// Trust over an opened store, with the built-in policies.
fn trust_over(ledger: &Ledger) -> anyhow::Result<Trust> {
    let session = SessionSettings::default();
    Ok(Trust::new(TrustOptions {
        ledger: ledger.clone(),
        wall_clock: Arc::new(SystemClock),
        policy_folder: None,
        session_idle_s: session.idle_s,
        session_absolute_s: session.absolute_s,
    })?)
}

/// Who acts when an operator works on the store from the command line.
fn operator() -> Agent {
    Agent::system(TENANT, "command-line")
}

/// Closes the store and hands on what the command came to.
async fn closing<T>(ledger: &Ledger, result: anyhow::Result<T>) -> anyhow::Result<T> {
    let closed = ledger.close().await;
    let value = result?;
    closed.context("closing the store")?;
    Ok(value)
}

pub(crate) fn create_key(
    data: Option<PathBuf>,
    root_key: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let path = match (root_key, data) {
        (Some(path), _) => path,
        (None, Some(data)) => store::root_key_path(&data),
        (None, None) => bail!("give --data DIR or --root-key FILE"),
    };
    store::create_root_key(&path)?;
    say(&format!("Made root key {} (mode 0600).", path.display()));
    say(
        "Whoever has this file and the store can read everything; without it nobody can read anything.",
    );
    say("Keep a copy in another place than the store's backups.");
    Ok(ExitCode::SUCCESS)
}

/// Reads a text file with its name in the error.
fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
