//! Import of FHIR bundles and NDJSON: streaming, resumable, idempotent.
#![allow(unused_variables, clippy::unused_async)]
use std::path::PathBuf;

use trust::{Agent, Trust};

/// What to import and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Files or folders; `-` is standard input.
    pub paths: Vec<PathBuf>,
    /// Where refused entries go (NDJSON: source, line, entry, reason, original).
    pub rejects: PathBuf,
    /// How many bundles are worked on at once.
    pub parallel: usize,
}

/// Progress, told as it happens.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct ImportProgress {
    /// Bytes of input read (as stored, before decompression).
    pub bytes_read: u64,
    /// Bytes of input in all, where known.
    pub bytes_total: Option<u64>,
    /// Resources newly written.
    pub written: u64,
    /// Resources that were there already, the same.
    pub unchanged: u64,
    /// Entries refused.
    pub rejected: u64,
}

/// Why an import as a whole failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An input can't be read.
    #[error("{path}: {reason}")]
    Input { /// which
        path: String, /// why
        reason: String },
    /// The rejects file can't be written.
    #[error("rejects file {path}: {reason}")]
    Rejects { /// which
        path: String, /// why
        reason: String },
    /// The store failed.
    #[error(transparent)]
    Trust(trust::TrustError),
}

/// Runs an import; `progress` is called often.
///
/// # Errors
/// [`ImportError`]; entries that are refused are counted, not errors.
pub async fn run(trust: &Trust, agent: &Agent, options: &ImportOptions, progress: &(dyn Fn(ImportProgress) + Send + Sync)) -> Result<ImportProgress, ImportError> { todo!() }
