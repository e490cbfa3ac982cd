//! FHIR R4 interactions and search over the record, and the import of bundles.
//!
//! Knows HTTP's words (status, `ETag`, `Location`) because FHIR's RESTful API is defined in them,
//! but no server: `cairn` maps routes onto [`Record`]. Touches data only through `trust::Vault`.
#![allow(unused_variables, clippy::unused_async)]

pub mod import;

use fhir::{OperationOutcome, ResourceType};
use trust::{Agent, Permit, Purpose, Trust, TrustError};

/// An error of the record: always an HTTP status and an outcome.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {outcome}")]
pub struct RecordError {
    /// HTTP status.
    pub status: u16,
    /// What to tell the caller.
    pub outcome: OperationOutcome,
    /// The inside story for the log, without patient details.
    pub inside: Option<String>,
}

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
    /// JSON body; empty for 204.
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
    /// `Prefer: return=minimal|representation|OperationOutcome`.
    pub prefer_return: PreferReturn,
}

/// `Prefer: return`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum PreferReturn { #[default] Representation, Minimal, OperationOutcome }

/// The FHIR service. Cheap to clone. Each call decides (mints its own permit), does the work and answers.
#[derive(Clone)]
pub struct Record {}

impl Record {
    /// Over trust's vault.
    #[must_use]
    pub fn new(trust: Trust) -> Self { todo!() }
    /// `CapabilityStatement`, generated from what is wired.
    #[must_use]
    pub fn metadata(&self, base: &str, software_version: &str) -> Answer { todo!() }
    /// `read`.
    ///
    /// # Errors
    /// 404, 410, 403, 500.
    pub async fn read(&self, caller: &Caller, kind: ResourceType, id: &str) -> Result<Answer, RecordError> { todo!() }
    /// `vread`.
    ///
    /// # Errors
    /// 404, 410, 403, 500.
    pub async fn version(&self, caller: &Caller, kind: ResourceType, id: &str, version: &str) -> Result<Answer, RecordError> { todo!() }
    /// Instance `history` (`_count`, `_since`, paging by version).
    ///
    /// # Errors
    /// 404, 403, 500.
    pub async fn history(&self, caller: &Caller, kind: ResourceType, id: &str, parameters: &[(String, String)]) -> Result<Answer, RecordError> { todo!() }
    /// `create`.
    ///
    /// # Errors
    /// 400, 403, 422, 500.
    pub async fn create(&self, caller: &Caller, kind: ResourceType, body: &[u8]) -> Result<Answer, RecordError> { todo!() }
    /// `update` (and update-as-create); `if_match` is the version of an `If-Match: W/"n"` header.
    ///
    /// # Errors
    /// 400, 403, 409, 412, 422, 500.
    pub async fn update(&self, caller: &Caller, kind: ResourceType, id: &str, if_match: Option<&str>, body: &[u8]) -> Result<Answer, RecordError> { todo!() }
    /// `delete`.
    ///
    /// # Errors
    /// 403, 409, 412, 500.
    pub async fn delete(&self, caller: &Caller, kind: ResourceType, id: &str, if_match: Option<&str>) -> Result<Answer, RecordError> { todo!() }
    /// Type-level search.
    ///
    /// # Errors
    /// 400, 403, 500.
    pub async fn search(&self, caller: &Caller, kind: ResourceType, parameters: &[(String, String)]) -> Result<Answer, RecordError> { todo!() }
    /// `transaction` or `batch`.
    ///
    /// # Errors
    /// 400, 403, 409, 412, 422, 500.
    pub async fn bundle(&self, caller: &Caller, body: &[u8]) -> Result<Answer, RecordError> { todo!() }
}
