//! The Vault: FHIR resources in and out of the ledger, under a permit, audited.
#![allow(unused_variables, clippy::unused_async, clippy::needless_pass_by_value)]
use fhir::{Resource, ResourceType, search::SearchQuery};
use ledger::{CursorMove, Expected, Hit, Kind, Ledger, Number, OutboxDraft, OutboxKey, Owner, Timer, TimerKey};

use crate::{Permit, TrustError};

/// Kinds of Cairn's own documents (FHIR types are `Kind(ResourceType::code())`).
pub mod kinds {
    use ledger::Kind;
    /// An account of a person.
    pub const ACCOUNT: Kind = Kind(1000);
    /// A session.
    pub const SESSION: Kind = Kind(1001);
    /// A published journey definition, one version each.
    pub const JOURNEY_DEFINITION: Kind = Kind(1002);
    /// A patient's place in a journey.
    pub const JOURNEY_INSTANCE: Kind = Kind(1003);
    /// Progress of an import.
    pub const IMPORT: Kind = Kind(1004);
    /// A sign-in link.
    pub const SIGN_IN_LINK: Kind = Kind(1005);
    /// A step that a patient has passed in a journey (for counts, drop-off and the timeline).
    pub const JOURNEY_TRAIL: Kind = Kind(1006);
}

/// A resource with what the store knows of it. `resource.meta` has versionId and lastUpdated.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// The resource; for a deleted version only type and id.
    pub resource: Resource,
    /// Its version.
    pub version: u32,
    /// Where it lies.
    pub at: Hit,
    /// Whether this version says that it is deleted.
    pub deleted: bool,
}

/// A change to a resource.
#[derive(Debug, Clone)]
pub enum Change {
    /// Write this resource (with its id set).
    Put {
        /// The resource.
        resource: Resource,
        /// Which version must be there.
        expected: Expected,
    },
    /// Delete.
    Delete {
        /// Type.
        kind: ResourceType,
        /// Id.
        id: String,
        /// Which version must be there.
        expected: Expected,
        /// Whose it was.
        owner: Owner,
    },
}

/// A document of Cairn's own to be written.
#[derive(Debug, Clone)]
pub struct Internal {
    /// Kind, from [`kinds`].
    pub kind: Kind,
    /// Id.
    pub id: String,
    /// Whose.
    pub owner: Owner,
    /// Which version must be there.
    pub expected: Expected,
    /// JSON body.
    pub body: Vec<u8>,
    /// Delete it instead.
    pub deleted: bool,
    /// What it can be found by: (parameter, value).
    pub tokens: Vec<(String, String)>,
}

/// A document of Cairn's own, opened.
#[derive(Debug, Clone)]
pub struct InternalStored {
    /// Id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// Place.
    pub at: Hit,
    /// Body.
    pub body: Vec<u8>,
}

/// A unit of work: everything of one cause.
#[derive(Debug, Default)]
pub struct Unit {
    /// Changes to resources.
    pub changes: Vec<Change>,
    /// Cairn's own documents.
    pub internals: Vec<Internal>,
    /// Timers to set.
    pub timers_set: Vec<Timer>,
    /// Timers to clear.
    pub timers_clear: Vec<TimerKey>,
    /// Outbox entries to add.
    pub outbox_add: Vec<OutboxDraft>,
    /// Outbox entries to settle.
    pub outbox_remove: Vec<OutboxKey>,
    /// A follower's move.
    pub cursor: Option<CursorMove>,
    /// The event that caused it.
    pub cause: Option<Number>,
    /// A sentence for the audit record about what was done, without patient details
    /// (`heart-failure-discharge: reminder sent`); optional.
    pub note: Option<String>,
    /// The patient concerned, where no change names one.
    pub patient: Option<String>,
}

/// What a unit became.
#[derive(Debug, Clone)]
pub struct UnitReceipt {
    /// For each change, in order: place and version.
    pub changes: Vec<ledger::Written>,
    /// Place of the audit record.
    pub audit: Option<Hit>,
}

/// A page of a search.
#[derive(Debug, Clone)]
pub struct SearchPage {
    /// Rows that match and may be seen, newest first.
    pub rows: Vec<Versioned>,
    /// Where the next page starts, if there is one.
    pub next: Option<Number>,
    /// The exact number of matches that may be seen, where asked for.
    pub total: Option<usize>,
}

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct Vault {}

impl Vault {
    /// The ledger below, for feeds, timers and outbox; it gives out no opened resource except
    /// through this vault.
    #[must_use]
    pub fn ledger(&self) -> &Ledger { todo!() }
    /// Reads the newest version (deleted ones too) and audits the read; the answer waits until the
    /// audit leaf is durable. A row that the permit doesn't cover is `None` (and audited as refused).
    ///
    /// # Errors
    /// `Refused` when the permit is for another action; `Ledger`, `Damaged`.
    pub async fn read(&self, permit: &Permit, kind: ResourceType, id: &str) -> Result<Option<Versioned>, TrustError> { todo!() }
    /// Reads one version; audited.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn read_version(&self, permit: &Permit, kind: ResourceType, id: &str, version: u32) -> Result<Option<Versioned>, TrustError> { todo!() }
    /// Reads versions, newest first, below `before`; audited.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn history(&self, permit: &Permit, kind: ResourceType, id: &str, before: Option<u32>, limit: usize) -> Result<Vec<Versioned>, TrustError> { todo!() }
    /// Searches, newest first, below `before`; filtered by the permit's row rule and patients'
    /// consents; each row verified against the query on the opened body; audited as one leaf that
    /// lists the rows.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn search(&self, permit: &Permit, query: &SearchQuery, before: Option<Number>) -> Result<SearchPage, TrustError> { todo!() }
    /// Several searches of one request under one audit leaf (a page that shows several lists).
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn search_many(&self, permit: &Permit, queries: &[SearchQuery]) -> Result<Vec<SearchPage>, TrustError> { todo!() }
    /// Loads for a write that follows under the same permit (read-modify-write), or for a part of
    /// Cairn that acts by itself; not audited by itself because the commit that follows is. Only for
    /// permits whose action writes (`Create`…`Import`, `Work`, `Send`, `Orchestrate`, `Publish`).
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load(&self, permit: &Permit, kind: ResourceType, id: &str) -> Result<Option<Versioned>, TrustError> { todo!() }
    /// Like [`Vault::load`] for a search.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load_search(&self, permit: &Permit, query: &SearchQuery, before: Option<Number>) -> Result<SearchPage, TrustError> { todo!() }
    /// The resource version at a place of the feed, for followers.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load_at(&self, permit: &Permit, at: Hit) -> Result<Option<Versioned>, TrustError> { todo!() }
    /// A document of Cairn's own.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn internal(&self, permit: &Permit, kind: Kind, id: &str) -> Result<Option<InternalStored>, TrustError> { todo!() }
    /// Documents of Cairn's own with all of these (parameter, value) tokens, newest first; verified
    /// by the caller on the body (tokens can collide).
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn internals(&self, permit: &Permit, kind: Kind, tokens: &[(&str, &str)], before: Option<Number>, limit: usize) -> Result<Vec<InternalStored>, TrustError> { todo!() }
    /// Commits a unit of work with its audit record; returns when durable.
    ///
    /// # Errors
    /// `Refused` when a change is outside the permit; `Ledger(Conflict)` and other store errors.
    pub async fn commit(&self, permit: &Permit, unit: Unit) -> Result<UnitReceipt, TrustError> { todo!() }
    /// Whose a resource is: its patient's, or the tenant's.
    #[must_use]
    pub fn owner(resource: &Resource) -> Owner { todo!() }
}
