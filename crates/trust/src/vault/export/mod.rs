//! Bulk export (HL7 Bulk Data Access 2.0): jobs, how they are cut into files, and the files.
//!
//! A job keeps what was asked and how the answer is cut: for each file a resource type and a range of
//! shards. It keeps nothing of the data. A file is made while it is downloaded, from the ledger, so no
//! copy outlives a patient's key, and permit and consents are those of the download. A document never
//! leaves its shard, so whatever is written meanwhile, it is in exactly one file. `job.rs` keeps jobs,
//! `layout.rs` cuts, `walk.rs` finds the places of files, `file.rs` reads; the choice is in
//! `docs/decisions/0038-bulk-export.md`.

mod file;
mod job;
mod layout;
mod walk;

use std::collections::BTreeSet;

use fhir::{Resource, ResourceType};
use ledger::{Hit, LedgerError, Number, Query, TenantId, View};
use serde::{Deserialize, Serialize};
use tokio::sync::SemaphorePermit;

use super::Vault;
use crate::{Purpose, TrustError, tokens};

pub use file::{AskAgain, ExportReading, ExportShape};
pub(super) use walk::Walks;

/// Looks at the store that the exports of one server take at once, each of them a walk over places or the
/// making of a chunk: a database has 16 connections for views, and the other 12 are everybody else's.
pub(super) const LOOKS: usize = 4;
/// Hits asked for at a time.
const HITS: usize = 8192;
/// Patients that one query names: the ledger takes 4,096 tokens, which may be behind two layers.
const PATIENTS_A_QUERY: usize = 1000;

/// Whose resources are exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportOf {
    /// Everybody's and nobody's.
    System,
    /// Those that are in some patient's record.
    Patients,
    /// Those in the records of these patients, by id.
    These(BTreeSet<String>),
}

impl ExportOf {
    /// Whether a resource is among them.
    fn has(&self, resource: &Resource) -> bool {
        match self {
            Self::System => true,
            Self::Patients => resource.patient().is_some(),
            Self::These(patients) => resource
                .patient()
                .is_some_and(|patient| patients.contains(patient)),
        }
    }
}

/// A bulk export as it is kept, sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportJob {
    /// Id of the agent that asked; nobody else sees the job.
    pub caller: String,
    /// What it was asked for; its files are given out for nothing else.
    pub purpose: Purpose,
    /// The address that was asked, as the manifest repeats it.
    pub request: String,
    /// Names of the resource types, each once. Kept under the other name where there are filters: a server
    /// of before there were any then can't read the job, and gives out nothing instead of everything.
    #[serde(alias = "kinds_filtered")]
    pub kinds: Vec<String>,
    /// Whose.
    pub of: ExportOf,
    /// `_since`: the first number that counts.
    pub since: Option<u64>,
    /// `_elements` as it was given.
    pub elements: Vec<String>,
    /// `_typeFilter`: queries of types, `Type?name=value`. Of a type that has some, what matches one of them
    /// is in.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Names of parameters that were passed over.
    pub ignored: Vec<String>,
    /// When it is over, by the wall clock; milliseconds since the epoch.
    pub expires_ms: u64,
    /// How it is cut; none until that is done.
    pub layout: Option<ExportLayout>,
}

impl ExportJob {
    /// The resource types.
    pub fn kinds(&self) -> impl Iterator<Item = ResourceType> {
        self.kinds
            .iter()
            .filter_map(|name| ResourceType::parse(name))
    }
}

/// How a job is cut into files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportLayout {
    /// Everything up to this number is in, as it was then.
    pub as_of: u64,
    /// The files; their places in this list are in their addresses.
    pub files: Vec<ExportFile>,
}

impl ExportLayout {
    /// The instant that the export is of, milliseconds since the epoch.
    #[must_use]
    pub fn as_of_ms(&self) -> u64 {
        Number(self.as_of).unix_ms()
    }
}

/// What a file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFile {
    /// Resources of this type; none where it says what was deleted.
    pub kind: Option<String>,
    /// The first of its shards.
    pub first: u16,
    /// The last of its shards.
    pub last: u16,
}

/// A job as it is found.
#[derive(Debug, Clone)]
pub struct ExportFound {
    /// The job.
    pub job: ExportJob,
    version: u32,
}

impl Vault {
    /// Waits for a look at the store; the longest waiting is the next.
    async fn look(&self) -> Result<SemaphorePermit<'_>, TrustError> {
        let look = self.inner.exporting.acquire().await;
        look.map_err(|_| TrustError::from(LedgerError::Closed))
    }
}

/// The queries that together find the resources of a type, and maybe more.
fn queries(
    ledger: &ledger::Ledger,
    tenant: TenantId,
    kind: ResourceType,
    of: &ExportOf,
) -> Vec<Query> {
    match of {
        ExportOf::System | ExportOf::Patients => {
            vec![Query::Token(ledger.kind_token(tenant, tokens::kind(kind)))]
        }
        ExportOf::These(patients) => {
            let patients: Vec<&String> = patients.iter().collect();
            (patients.chunks(PATIENTS_A_QUERY))
                .map(|some| {
                    let owned =
                        |patient: &&String| tokens::of_patient(ledger, tenant, kind, patient);
                    Query::Or(some.iter().map(owned).collect())
                })
                .collect()
        }
    }
}

/// Calls `each` with all places that a query finds, from a number on.
async fn places(
    view: &View,
    tenant: TenantId,
    query: &Query,
    since: Option<u64>,
    mut each: impl FnMut(Hit),
) -> Result<(), TrustError> {
    let mut last: Option<Hit> = None;
    loop {
        // From the last number on, which other shards may have too.
        let before = last.map(|hit| Number(hit.number.0.saturating_add(1)));
        let hits = view
            .search(tenant, query, before, since.map(Number), HITS)
            .await?;
        let new = |hit: &&Hit| {
            last.is_none_or(|last| {
                hit.number < last.number || hit.number == last.number && hit.shard > last.shard
            })
        };
        hits.iter().filter(new).for_each(|hit| each(*hit));
        if hits.len() < HITS {
            return Ok(());
        }
        last = hits.last().copied();
        tokio::task::yield_now().await;
    }
}
