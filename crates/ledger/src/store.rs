//! The ledger.
#![allow(unused_variables, clippy::unused_async)]

use std::path::PathBuf;
use std::sync::Arc;

use crate::{
    AuditReport, Clock, Commit, Entropy, Event, Hit, InclusionProof, Kind, LedgerError, Number,
    OutboxEntry, Owner, Query, Receipt, Shard, Stored, TenantId, Timer, Token,
};

/// The key that wraps all tenants' keys. Printed nowhere.
#[derive(Clone)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// Reads a root key file (64 hexadecimal digits), which must have mode 0600 or stricter.
    ///
    /// # Errors
    /// [`LedgerError::RootKey`] when it is missing, malformed or readable by others.
    pub fn read(path: &std::path::Path) -> Result<Self, LedgerError> {
        todo!()
    }
    /// Makes a new root key file with mode 0600; refuses to overwrite.
    ///
    /// # Errors
    /// [`LedgerError::RootKey`] when the file exists or cannot be written.
    pub fn create(path: &std::path::Path, entropy: &dyn Entropy) -> Result<Self, LedgerError> {
        todo!()
    }
    /// A key from bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// How to open a store.
pub struct OpenOptions {
    /// The folder.
    pub path: PathBuf,
    /// The root key.
    pub root_key: RootKey,
    /// The clock that numbers come from.
    pub clock: Arc<dyn Clock>,
    /// The source of ids, keys and nonces.
    pub entropy: Arc<dyn Entropy>,
    /// The zstd dictionary for new bodies (may be empty). Kept in the store by version, so a later
    /// program can still open what this one wrote.
    pub dictionary: Vec<u8>,
    /// Memory for block cache, bytes.
    pub cache_bytes: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {}

impl Ledger {
    /// Opens or makes a store. One process at a time.
    ///
    /// # Errors
    /// `RootKey` when the key does not open this store, `Storage` when the store is locked or fails.
    pub fn open(options: OpenOptions) -> Result<Self, LedgerError> {
        todo!()
    }
    /// Makes a tenant's keys; doing it again changes nothing.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn create_tenant(&self, tenant: TenantId) -> Result<(), LedgerError> {
        todo!()
    }
    /// The clock that this ledger was opened with.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        todo!()
    }
    /// The entropy that this ledger was opened with.
    #[must_use]
    pub fn entropy(&self) -> Arc<dyn Entropy> {
        todo!()
    }
    /// A new random id (UUID form) for a document of `owner`; its first two digits are the shard,
    /// so that a read by id alone needs to ask one shard only.
    #[must_use]
    pub fn mint_id(&self, tenant: TenantId, owner: &Owner) -> String {
        todo!()
    }
    /// A new random id for a patient (or another document that is its own owner).
    #[must_use]
    pub fn mint_own_id(&self, tenant: TenantId) -> String {
        todo!()
    }
    /// An id in UUID form derived from `name` by a keyed hash, the same each time, whose first two
    /// digits are the owner's shard. For imports that must add nothing when run twice.
    #[must_use]
    pub fn derive_id(&self, tenant: TenantId, owner: &Owner, name: &str) -> String {
        todo!()
    }
    /// Like [`Ledger::derive_id`] for a document that is its own owner (a patient).
    #[must_use]
    pub fn derive_own_id(&self, tenant: TenantId, name: &str) -> String {
        todo!()
    }
    /// The shard of a document: its owner's, or (for `Owner::Tenant`) its own.
    #[must_use]
    pub fn shard_of(&self, tenant: TenantId, owner: &Owner, id: &str) -> Shard {
        todo!()
    }
    /// The keyed token for a value of a parameter of a kind. Keyed per tenant.
    #[must_use]
    pub fn token(&self, tenant: TenantId, kind: Kind, parameter: &str, value: &str) -> Token {
        todo!()
    }
    /// The token that every live document of a kind has.
    #[must_use]
    pub fn kind_token(&self, tenant: TenantId, kind: Kind) -> Token {
        todo!()
    }
    /// Tokens for an integer position (e.g. a day number) at several precisions, so that ranges can
    /// be asked for without showing order. Six levels of base 8.
    #[must_use]
    pub fn range_tokens(&self, tenant: TenantId, kind: Kind, parameter: &str, value: i64) -> Vec<Token> {
        todo!()
    }
    /// The query for positions in `low..=high`; `None` when the range is so wide that it says nothing.
    #[must_use]
    pub fn range_query(&self, tenant: TenantId, kind: Kind, parameter: &str, low: i64, high: i64) -> Option<Query> {
        todo!()
    }
    /// Writes everything of one cause, and returns when it is durable.
    ///
    /// # Errors
    /// `Conflict`, `CursorMoved`, `Invalid`, `KeyDestroyed`, `Storage`; in each case nothing was written.
    pub async fn commit(&self, commit: Commit) -> Result<Receipt, LedgerError> {
        todo!()
    }
    /// The newest version of a document, deleted or not.
    ///
    /// # Errors
    /// `KeyDestroyed`, `Damaged`, `Storage`.
    pub async fn get(&self, tenant: TenantId, kind: Kind, id: &str) -> Result<Option<Stored>, LedgerError> {
        todo!()
    }
    /// One version of a document.
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn version(&self, tenant: TenantId, kind: Kind, id: &str, version: u32) -> Result<Option<Stored>, LedgerError> {
        todo!()
    }
    /// Versions of a document, newest first, starting below `before` (exclusive) if given.
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn history(&self, tenant: TenantId, kind: Kind, id: &str, before: Option<u32>, limit: usize) -> Result<Vec<Stored>, LedgerError> {
        todo!()
    }
    /// Places of live documents that the query holds for, newest first, below `before` if given, and
    /// not older than `since` if given. Blind: the caller verifies hits on the opened body, because
    /// tokens can collide.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn search(&self, tenant: TenantId, query: &Query, before: Option<Number>, since: Option<Number>, limit: usize) -> Result<Vec<Hit>, LedgerError> {
        todo!()
    }
    /// Opens a document version by its place.
    ///
    /// # Errors
    /// As [`Ledger::get`]. `Ok(None)` also when the place is another tenant's.
    pub async fn fetch(&self, tenant: TenantId, at: Hit) -> Result<Option<Stored>, LedgerError> {
        todo!()
    }
    /// Events of a shard after a position, oldest first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn events(&self, shard: Shard, after: Number, limit: usize) -> Result<Vec<Event>, LedgerError> {
        todo!()
    }
    /// Shards with new events, as they become durable. A receiver that lags must look at all shards.
    #[must_use]
    pub fn watch(&self) -> tokio::sync::broadcast::Receiver<Shard> {
        todo!()
    }
    /// The newest number given out.
    #[must_use]
    pub fn last_number(&self) -> Number {
        todo!()
    }
    /// The newest number on a shard's feed.
    #[must_use]
    pub fn shard_head(&self, shard: Shard) -> Number {
        todo!()
    }
    /// A follower's position on a shard; [`Number`] zero at first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn cursor(&self, consumer: &str, shard: Shard) -> Result<Number, LedgerError> {
        todo!()
    }
    /// Timers due at `until_ms` or before, soonest first, over all shards.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn timers_due(&self, consumer: u16, until_ms: u64, limit: usize) -> Result<Vec<Timer>, LedgerError> {
        todo!()
    }
    /// When the next timer of any consumer is due.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn next_timer_ms(&self) -> Result<Option<u64>, LedgerError> {
        todo!()
    }
    /// Outbox entries due at `until_ms` or before, soonest first, opened. Entries whose key was
    /// destroyed are removed and not returned.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn outbox_due(&self, channel: u16, until_ms: u64, limit: usize) -> Result<Vec<OutboxEntry>, LedgerError> {
        todo!()
    }
    /// When the next outbox entry is due, and when the oldest one was.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn next_outbox_ms(&self) -> Result<Option<u64>, LedgerError> {
        todo!()
    }
    /// Destroys a patient's key: every version of everything sealed with it, in every copy of this
    /// store made from now on, stays unreadable.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn destroy_patient_key(&self, tenant: TenantId, patient: &str, audit: crate::AuditDraft) -> Result<(), LedgerError> {
        todo!()
    }
    /// Signs a checkpoint over all trees now and keeps it; also done every second and on close.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn checkpoint(&self) -> Result<String, LedgerError> {
        todo!()
    }
    /// Checks the whole audit: each tree, each leaf's document versions, the signed checkpoint.
    ///
    /// # Errors
    /// `Storage`; a broken audit is a report, not an error.
    pub async fn verify_audit(&self, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<AuditReport, LedgerError> {
        todo!()
    }
    /// A proof that the leaf of an audit document (by its place) is in its shard's tree.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn prove(&self, tenant: TenantId, audit: Hit) -> Result<Option<InclusionProof>, LedgerError> {
        todo!()
    }
    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }
    /// Stops taking commits, finishes those taken, signs a checkpoint and flushes.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn close(&self) -> Result<(), LedgerError> {
        todo!()
    }
}
