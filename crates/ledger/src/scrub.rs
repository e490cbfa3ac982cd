//! Removing overwritten secrets from the store's files, where it was not done at once: a process died in
//! between, or something still looked at what was overwritten.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::LedgerError;
use crate::backend::{Backend, Write};
use crate::plan::SCRUB_DUE;

/// How often a shared store is asked whether a scrub is due. Most are done by who made them so.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Scrubs if that is due. Whether nothing is due any more.
pub(crate) fn if_due(backend: &dyn Backend) -> Result<bool, LedgerError> {
    let due = backend.now().meta(SCRUB_DUE)?;
    let Some(due) = due.filter(|due| !due.is_empty()) else {
        return Ok(true);
    };
    tracing::info!("a destroyed key may still lie in the store's files; removing it");
    if !backend.scrub_keys()? {
        return Ok(false);
    }
    match backend.shared() {
        // Another may have become due since.
        Some(store) => store.change_meta(SCRUB_DUE, due, Vec::new())?,
        None => backend.apply(vec![Write::Meta {
            name: SCRUB_DUE.to_owned(),
            value: Vec::new(),
        }])?,
    }
    Ok(true)
}

/// Looks after a shared store until the ledger is closed.
pub(crate) fn run(backend: &dyn Backend, closed: &Receiver<()>) {
    let mut was_left = false;
    loop {
        match if_due(backend) {
            Ok(true) => was_left = false,
            // Said once, and again when it has been done in between.
            Ok(false) if !was_left => {
                was_left = true;
                tracing::warn!(
                    "a destroyed key still lies in the database's files, because an old transaction, a \
                     replica or a replication slot may look at it; trying again"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "could not look whether a scrub is due"),
        }
        if closed.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
