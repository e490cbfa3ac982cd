//! The check of everything that a store holds: each row against those that it can be told from.
//!
//! Documents and leaves are what can't be told from anything else. Heads, places of superseded
//! versions, events, postings and the trees' hashes follow from them, and are written anew where they
//! are wrong, if somebody wants it and nothing else is damaged. `documents.rs` checks what belongs to
//! documents, `audit.rs` the trees, `queues.rs` the rest.

mod audit;
mod documents;
mod queues;

use std::sync::Arc;

use serde::Serialize;

use crate::backend::{Backend, Snapshot, Write};
use crate::bootstrap::{open_core, store_exists};
use crate::shared::Core;
use crate::store::open_backend;
use crate::{Hit, LedgerError, Location, OpenOptions};

/// Findings that are told one by one; the others are counted.
const LISTED: usize = 1000;
/// Rows that are repaired in one run.
const REPAIRS_MAX: usize = 1_000_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong, but somebody should know.
    Notice,
    /// Wrong, and can be made right from what the store holds.
    Repairable,
    /// Wrong, and can't be told from the rest of the store: restore a backup.
    Damage,
}

/// Something that the check has found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where: rows by shard and number, blind.
    pub place: String,
    /// What is wrong, in words.
    pub what: String,
    /// What a repair would write, in words, or what else to do.
    pub remedy: String,
}

/// How the check came out.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DoctorReport {
    /// Document versions checked.
    pub documents: u64,
    /// Of them, sealed with a key that has been destroyed, so that their bodies can't be opened.
    pub unreadable_documents: u64,
    /// Audit leaves checked.
    pub leaves: u64,
    /// Postings checked.
    pub postings: u64,
    /// Patients' keys checked.
    pub keys: u64,
    /// Timers, outbox entries, positions of followers and redo rows checked.
    pub queued: u64,
    /// Up to 1,000 findings.
    pub findings: Vec<Finding>,
    /// Damage, in all.
    pub damaged: u64,
    /// What can be repaired, in all.
    pub repairable: u64,
    /// What was repaired; a second run shows what is left.
    pub repaired: u64,
    /// The moment that the newest backup shows, milliseconds since the Unix epoch; none before the first.
    pub last_backup_ms: Option<u64>,
}

impl DoctorReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && self.repairable == self.repaired
    }
}

/// Checks a store, and with `repair` writes anew what follows from the rest. Nobody may have it open,
/// unless it is in PostgreSQL, where it is checked as it is at one moment, and not repaired.
/// Nothing is repaired where anything is damaged beyond that. Without `repair` no row is written.
///
/// `progress` is told the number of documents checked so far.
///
/// # Errors
/// `RootKey`, `Invalid` when there is no store, `Storage` when the store can't be read at all. What is
/// wrong with its rows is a finding, not an error.
pub async fn doctor(
    options: OpenOptions,
    repair: bool,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Result<DoctorReport, LedgerError> {
    match &options.location {
        Location::Folder(_) if !store_exists(&options.location)? => {
            return Err(LedgerError::Invalid("there is no store in that folder"));
        }
        Location::Postgres(_) if repair => {
            return Err(LedgerError::Invalid(
                "a store in PostgreSQL is checked but not repaired: restore it",
            ));
        }
        _ => {}
    }
    let (location, cache_bytes) = (options.location.clone(), options.cache_bytes);
    let opening = tokio::task::spawn_blocking(move || open_backend(&location, cache_bytes));
    let backend = opening
        .await
        .map_err(|error| LedgerError::Storage(error.to_string()))?;
    match backend {
        Ok(backend) => doctor_on(backend, options, repair, progress).await,
        Err(LedgerError::Damaged(what)) => Ok(beyond_opening(&what)),
        Err(error) => Err(error),
    }
}

fn beyond_opening(what: &str) -> DoctorReport {
    DoctorReport {
        findings: vec![Finding {
            severity: Severity::Damage,
            place: "the store".into(),
            what: what.to_owned(),
            remedy: RESTORE.into(),
        }],
        damaged: 1,
        ..DoctorReport::default()
    }
}

pub(crate) async fn doctor_on(
    backend: Arc<dyn Backend>,
    options: OpenOptions,
    repair: bool,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Result<DoctorReport, LedgerError> {
    let checking = tokio::task::spawn_blocking(move || {
        let options = OpenOptions {
            // A new one would be stored.
            dictionary: Vec::new(),
            ..options
        };
        let snapshot = backend.snapshot();
        let core =
            match (snapshot.last_number()).and_then(|last| open_core(&backend, &options, last)) {
                Ok(core) => core,
                Err(LedgerError::Damaged(what)) => return Ok(beyond_opening(&what)),
                Err(error) => return Err(error),
            };
        let mut doctor = Doctor {
            core: &core,
            backend: &*backend,
            snapshot: &*snapshot,
            report: DoctorReport::default(),
            repairs: Vec::new(),
        };
        doctor.trees()?;
        doctor.documents(&progress)?;
        doctor.queues()?;
        doctor.report.last_backup_ms = crate::backup::last_backup(&*snapshot)?;
        let Doctor {
            mut report,
            repairs,
            ..
        } = doctor;
        if repair && report.damaged == 0 {
            for writes in repairs {
                backend.apply(writes)?;
                report.repaired += 1;
            }
        }
        Ok(report)
    });
    checking
        .await
        .map_err(|error| LedgerError::Storage(error.to_string()))?
}

const RESTORE: &str =
    "restore from a backup: cairn restore --from BACKUP --data NEW-DIR, into another folder";

struct Doctor<'a> {
    core: &'a Core,
    backend: &'a dyn Backend,
    snapshot: &'a dyn Snapshot,
    report: DoctorReport,
    /// The writes of each finding that can be repaired.
    repairs: Vec<Vec<Write>>,
}

fn place_of(at: Hit) -> String {
    format!("document {}/{}", at.shard, at.number.0)
}

impl Doctor<'_> {
    fn list(&mut self, severity: Severity, place: String, what: String, remedy: String) {
        if self.report.findings.len() < LISTED {
            self.report.findings.push(Finding {
                severity,
                place,
                what,
                remedy,
            });
        }
    }

    fn damage(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.report.damaged += 1;
        self.list(Severity::Damage, place.into(), what.into(), RESTORE.into());
    }

    /// Damage that something else than a restore helps against.
    fn damage_but(&mut self, place: impl Into<String>, what: impl Into<String>, remedy: &str) {
        self.report.damaged += 1;
        self.list(
            Severity::Damage,
            place.into(),
            what.into(),
            remedy.to_owned(),
        );
    }

    fn notice(&mut self, place: &str, what: impl Into<String>, remedy: &str) {
        let (place, remedy) = (place.to_owned(), remedy.to_owned());
        self.list(Severity::Notice, place, what.into(), remedy);
    }

    fn repairable(
        &mut self,
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: &str,
        writes: Vec<Write>,
    ) {
        self.report.repairable += 1;
        self.list(
            Severity::Repairable,
            place.into(),
            what.into(),
            remedy.to_owned(),
        );
        if self.repairs.len() < REPAIRS_MAX {
            self.repairs.push(writes);
        }
    }

    /// What was read, or a finding where it can't be: a store that fails for another reason than
    /// damage stops the check.
    fn read<T>(
        &mut self,
        place: impl Into<String>,
        outcome: Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(LedgerError::Damaged(what)) => {
                self.damage(place, what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
