//! FHIR R4 interactions and search over the record, and the import of bundles.
//!
//! Knows HTTP's words (status, `ETag`, `Location`) because FHIR's RESTful API is defined in them,
//! but no server: `cairn` maps routes onto [`Record`]. Touches data only through `trust::Vault`.
//!
//! Start reading at [`Record`]; `interact.rs` and `patch.rs` have what touches one resource,
//! `transaction/` and `batch.rs` the bundles, `conditional.rs` what criteria are written by,
//! `criteria.rs` how conditional writes stay single under a race, `operations/` what is asked for by `$name`,
//! `bulk/` what goes out and comes in by the thousands, `subscriptions/` who is notified of what is written.

mod batch;
mod bulk;
mod capability;
mod conditional;
mod criteria;
mod emergency;
mod error;
mod history;
pub mod import;
mod interact;
mod may;
mod once;
mod operations;
mod part;
mod past;
mod patch;
mod refs;
mod render;
mod search;
mod searched;
mod step;
mod subscriptions;
mod transaction;
mod url;
mod validation;
mod write;

use fhir::ResourceType;
use trust::{Action, Agent, Freshness, Once, Permit, Purpose, Target, Trust, Vault};

pub use bulk::{
    EXPORT_DOWNLOADS_MAX, EXPORT_JOBS_MAX, ExportDownload, ExportLevel, ExportStatus,
    IMPORT_REJECTS_MAX, IMPORTS_MAX, ImportPart, export_parameters_of,
};
pub use emergency::named_patient;
pub use error::RecordError;
pub use may::Interaction;
pub use operations::{Among, MetaChange, parameters_of, parameters_resource};
pub use patch::PatchForm;
pub use subscriptions::{SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_OF_ONE_MAX};
pub use validation::{Validation, asks_for_a_journey};

/// The greatest body of a single resource, bytes. The largest R4 example is under 4 MiB, and a
/// reader has to hold a resource whole.
pub const RESOURCE_BYTES_MAX: usize = 5 * 1024 * 1024;
/// The greatest body of a batch or transaction, bytes.
pub const BUNDLE_BYTES_MAX: usize = 50 * 1024 * 1024;
/// The most entries of a batch or transaction: they are one commit, which others wait for.
pub const BUNDLE_ENTRIES_MAX: usize = 5_000;
/// The most resources that one conditional delete deletes: they are one commit, and each of them is in
/// its audit record.
pub const CONDITIONAL_DELETES_MAX: usize = 1_000;
/// The most bytes of what GETs of one batch or transaction answer, and of resources that its writes
/// show; the answer is held in memory whole.
pub const ANSWER_BYTES_MAX: usize = 50 * 1024 * 1024;
/// The most work of the patches of one request: bytes of each resource times operations of its patch,
/// each of which may look through all of it. About a second of it.
pub const PATCH_WORK_MAX: usize = 1 << 30;
/// How often a write is tried again when somebody else wrote the same resource in between.
pub(crate) const ATTEMPTS_MAX: u32 = 8;

/// An answer in HTTP's words.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `ETag` version, if there is one.
    pub version: Option<u32>,
    /// `Last-Modified`, milliseconds since the epoch.
    pub last_modified_ms: Option<u64>,
    /// `Location`, relative to the base (`Patient/ID/_history/1`).
    pub location: Option<String>,
    /// JSON body; empty for 204 and for `Prefer: return=minimal`.
    pub body: Vec<u8>,
}

/// Who asks, as the routes know it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub agent: Agent,
    /// What for.
    pub purpose: Purpose,
    /// Request id.
    pub request_id: String,
    /// External base URL (`http://127.0.0.1:8080/fhir/r4`).
    pub base: String,
    /// `Prefer: handling=lenient`.
    pub lenient: bool,
    /// How old what is read may be.
    pub freshness: Freshness,
    /// `Prefer: return=minimal|representation|OperationOutcome`. Where a client of a batch or
    /// transaction says nothing, `Minimal` keeps the answer small.
    pub prefer_return: PreferReturn,
    /// The key of a request that is to be carried out once (`Idempotency-Key`).
    pub once: Option<Once>,
}

/// What an update depends on, as its headers say it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preconditions<'a> {
    /// `If-Match`: `W/"3"`, a list of these, or `*`.
    pub if_match: Option<&'a str>,
    /// `If-None-Match`: the same; `*` when nothing may be there.
    pub if_none_match: Option<&'a str>,
    /// `If-Unmodified-Since`, seconds since the epoch.
    pub if_unmodified_since_s: Option<u64>,
}

/// `Prefer: return`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum PreferReturn {
    #[default]
    Representation,
    Minimal,
    OperationOutcome,
}

/// The FHIR service. Cheap to clone. Each call decides (mints its own permit), does the work and answers.
#[derive(Clone)]
pub struct Record {
    trust: Trust,
    /// When this service was set up: the date of the `CapabilityStatement`, whose content can't
    /// change later.
    since_ms: u64,
    validation: Validation,
    bulk: std::sync::Arc<bulk::Bulk>,
    subscribing: std::sync::Arc<subscriptions::Subscribing>,
}

impl Record {
    /// Over trust's vault.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        let since_ms = trust.wall_clock().now_ms();
        Self {
            trust,
            since_ms,
            validation: Validation::default(),
            bulk: std::sync::Arc::default(),
            subscribing: std::sync::Arc::default(),
        }
    }
    /// The same with the places that notifications of subscriptions may go to.
    #[must_use]
    pub fn with_subscriptions(mut self, cleared: trust::outgoing::Cleared) -> Self {
        self.subscribing = std::sync::Arc::new(subscriptions::Subscribing::to(cleared));
        self
    }
    pub(crate) fn vault(&self) -> &Vault {
        self.trust.vault()
    }
    /// Now, by the clock that records are numbered by.
    pub(crate) fn now_ms(&self) -> i64 {
        let now_ms = self.vault().ledger().clock().now_ms();
        i64::try_from(now_ms).unwrap_or(i64::MAX)
    }
    pub(crate) async fn permit(
        &self,
        caller: &Caller,
        action: Action,
        kind: Option<ResourceType>,
        patient: Option<String>,
    ) -> Result<Permit, RecordError> {
        self.permit_for(caller, action, Target { kind, patient })
            .await
    }
    pub(crate) async fn permit_for(
        &self,
        caller: &Caller,
        action: Action,
        target: Target,
    ) -> Result<Permit, RecordError> {
        let decided = self
            .trust
            .decide(
                &caller.agent,
                caller.purpose,
                action,
                target,
                &caller.request_id,
            )
            .await;
        decided
            .map(|permit| {
                permit
                    .with(caller.freshness.clone())
                    .once(caller.once.clone())
            })
            .map_err(|error| RecordError::from_trust(error, &caller.request_id))
    }
}

/// Whether resources of this type can be searched for.
#[must_use]
pub fn is_searchable(kind: ResourceType) -> bool {
    is_kept(kind)
}

/// Whether resources of this type are kept at all. `Parameters` has no RESTful endpoint
/// (R4, section 2.4).
pub(crate) fn is_kept(kind: ResourceType) -> bool {
    kind.name() != "Parameters"
}

/// Whether clients may write this type. The audit is written by the store itself, together with what
/// it is about.
#[must_use]
pub fn is_writable(kind: ResourceType) -> bool {
    is_kept(kind) && kind != ResourceType::AuditEvent
}

/// Whether clients may write this type in any way, and not by requests of its own alone.
#[must_use]
pub fn is_written_freely(kind: ResourceType) -> bool {
    is_writable(kind) && kind != ResourceType::Subscription
}
