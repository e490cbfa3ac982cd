//! How long opening takes after a process that was writing is gone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ledger::Location;
use tokio::time::Instant;

use super::documents::TENANT;
use super::measure::Figures;
use super::{Bench, LedgerOptions, commit_bundles, documents, open};

/// Documents that each process writes before it aborts. Not round, so that the journals are filled
/// differently each time.
const DOCUMENTS: [u64; 3] = [3_000, 17_000, 31_000];

/// A process that opens the store, writes and aborts.
#[derive(Debug, Clone, clap::Args)]
pub struct AbortOptions {
    /// The store's folder.
    pub folder: PathBuf,
    /// Documents to write before it aborts.
    pub more: u64,
    /// From which bundle on.
    pub from: u64,
    #[command(flatten)]
    pub(super) options: LedgerOptions,
}

/// Opens the store, writes, and aborts as soon as the last document is durable.
///
/// # Errors
/// When the store can't be opened or written.
pub async fn load_and_abort(abort: &AbortOptions) -> Result<()> {
    let ledger = open(&Location::Folder(abort.folder.clone()), &abort.options)?;
    let documents = Arc::new(documents(&ledger, &abort.options)?);
    let more = documents.bundles_for(abort.more);
    let bench = Bench {
        ledger,
        documents,
        bundles: 0,
        options: Arc::new(abort.options.clone()),
    };
    commit_bundles(&bench, abort.from..abort.from + more, Arc::new(|_, _| {})).await?;
    std::process::abort();
}

/// Lets processes abort and opens after each.
pub(super) async fn run(
    folder: &Path,
    options: &LedgerOptions,
    figures: &mut Figures,
) -> Result<()> {
    let program = std::env::current_exe()?;
    let location = Location::Folder(folder.to_owned());
    // Beyond everything that was loaded.
    let mut from = options.documents;
    for more in DOCUMENTS.map(|more| more.min(options.documents)) {
        let mut child = Command::new(&program);
        child.arg("ledger-abort").arg(folder).arg(more.to_string());
        child.arg(from.to_string());
        child.args(["--documents", &options.documents.to_string()]);
        child.args(["--seed", &options.seed.to_string()]);
        child.args(["--cache-mib", &options.cache_mib.to_string()]);
        if let Some(input) = &options.input {
            child.arg("--input").arg(input);
        }
        let status = child.status().context("starting a process that aborts")?;
        ensure!(
            std::os::unix::process::ExitStatusExt::signal(&status).is_some(),
            "the writing process ended with {status} instead of aborting"
        );
        from += more;
        let began = Instant::now();
        let ledger = open(&location, options)?;
        figures.add(
            format!("opening after an abort, {more} documents later"),
            began.elapsed().as_secs_f64() * 1000.0,
            "ms",
        );
        ensure!(ledger.last_number().0 > 0, "the store has lost everything");
        ledger.create_tenant(TENANT).await?;
        // Not closed: the next process finds it as an abort leaves it.
        drop(ledger);
    }
    let ledger = open(&location, options)?;
    ledger.close().await?;
    drop(ledger);
    let began = Instant::now();
    let ledger = open(&location, options)?;
    figures.add(
        "opening after closing",
        began.elapsed().as_secs_f64() * 1000.0,
        "ms",
    );
    ledger.close().await?;
    Ok(())
}
