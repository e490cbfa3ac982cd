//! What the demo keeps beside its store, so that starting again shows the same logins and goes on
//! where it was. Holds passwords, so its mode is 0600; holds ids but nobody's details.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An account of the demo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) user_name: String,
    pub(super) name: String,
    pub(super) role: trust::Role,
    pub(super) password: String,
    /// Base32.
    pub(super) totp: String,
}

/// A patient's way into the portal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) patient: String,
    pub(super) secret: String,
}

/// Where the patients come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    Synthetic { seed: u64, patients: u64 },
    Import { paths: Vec<PathBuf> },
}

/// The demo as it was set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DemoState {
    pub(super) source: Source,
    /// Where the care clock stood while the hospital was set up, milliseconds since the epoch.
    pub(super) started_ms: u64,
    /// Whether all patients are in the store.
    pub(super) imported: bool,
    pub(super) logins: Vec<Login>,
    /// Access token of a client with the role squad, to publish journeys.
    pub(super) squad_token: Option<String>,
    pub(super) links: Vec<Link>,
}

/// One patient that the driver plays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) patient: String,
    /// Number in the cohort.
    pub(super) index: u64,
    /// The time that the patient was made for; with the seed and the number it decides what they do.
    pub(super) made_ms: u64,
    pub(super) heart_failure_share: f64,
    /// When the hospital lets the patient go.
    pub(super) discharge_due_ms: u64,
    pub(super) discharged_ms: Option<u64>,
    /// How many acts since the discharge are behind us.
    pub(super) done: usize,
    /// Acts that wait for their counterpart, e.g. an answer for its form.
    pub(super) waiting: Vec<usize>,
    /// When the patient last looked whether the counterpart is there.
    #[serde(default)]
    pub(super) looked_ms: u64,
    /// 1 for the first stay.
    pub(super) stay: u32,
    /// Nothing more will happen.
    pub(super) over: bool,
}

/// How far the driver is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct DriverState {
    pub(super) cases: Vec<Case>,
    /// The next patient to come in, and when.
    pub(super) next_index: u64,
    pub(super) next_admission_ms: u64,
    /// When the staff next work off tasks that were left lying.
    pub(super) next_round_ms: u64,
}

/// Reads a state file; `None` when there is none.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Writes a state file whole or not at all.
pub(super) fn save<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let next = path.with_extension("next");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_data()?;
        std::fs::rename(&next, path)
    };
    write().with_context(|| path.display().to_string())
}
