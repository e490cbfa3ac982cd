//! The ledger: opening, writing, closing. Reading is in `reads.rs`, the audit in `audit.rs`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use crate::backend::{Backend, SharedStore, Touched};
use crate::bootstrap::{check_whole, open_store, opens, tenant_row, wrap};
use crate::embedded::FjallBackend;
use crate::keys::TenantKeys;
use crate::leases::Keeper;
use crate::news::News;
use crate::plan::{NewSecret, SealedCommit};
use crate::postgres::{PgBackend, Postgres};
use crate::prepare::{seal_commit, weight};
use crate::query::tokens_of;
use crate::scrub;
use crate::shared::{Core, STAND_IN_ID};
use crate::writer::{Job, Request, Writer};
use crate::{
    CLOCK_STEP_MAX_MS, Clock, Commit, Entropy, Kind, LedgerError, Number, Owner, Query, Receipt,
    RootKey, SHARDS, Shard, StoragePart, TenantId, Token,
};

/// Room of the queue before the writer, KiB; who would go over it waits.
const QUEUE_KIB: u32 = 64 << 10;

/// A zstd dictionary.
#[derive(Debug, Clone)]
pub struct Dictionary {
    /// The kinds of document that it is for; none stands for all that no other dictionary is for.
    pub kinds: Vec<Kind>,
    /// The dictionary, at most 1 MiB.
    pub bytes: Vec<u8>,
}

/// How often a commit is sealed when others make keys for the same new patients at the same time.
const MAX_SEALINGS: usize = 4;

/// Where a store is.
#[derive(Clone)]
pub enum Location {
    /// In a folder of this machine, for this process alone.
    Folder(PathBuf),
    /// In a PostgreSQL database, for any number of processes.
    Postgres(Postgres),
}

/// How to open a store.
pub struct OpenOptions {
    /// Where it is.
    pub location: Location,
    /// The root key.
    pub root_key: RootKey,
    /// The clock that numbers come from.
    pub clock: Arc<dyn Clock>,
    /// The source of ids, keys and nonces.
    pub entropy: Arc<dyn Entropy>,
    /// The zstd dictionaries for new bodies (may be none). Kept in the store by version, so a later
    /// program can still open what this one wrote.
    pub dictionary: Vec<Dictionary>,
    /// Memory for the block cache of a store in a folder, bytes.
    pub cache_bytes: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
    /// The tenant that this handle is for; all if none is named.
    only: Option<TenantId>,
}

struct Inner {
    core: Arc<Core>,
    /// One for each writer.
    jobs: Mutex<Vec<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Dropped on closing, which ends the look for what others write, and the keeping of leases.
    open: Mutex<Vec<Sender<()>>>,
    /// Whether the audit did not hold on opening.
    is_suspect: bool,
    room: Arc<Semaphore>,
    /// Held while the store's own secrets change, so that a tenant gets one secret and a rotation
    /// leaves none behind.
    secrets: tokio::sync::Mutex<()>,
    /// Held while a backup is taken.
    backing_up: Arc<tokio::sync::Mutex<()>>,
    /// Held while cosignatures are added to those that are kept.
    cosigning: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    (thread.spawn(work))
        .map_err(|error| LedgerError::Storage(format!("no thread for {name}: {error}")))
}

fn send_to(writer: Option<&Sender<Job>>, job: Job) -> Result<(), LedgerError> {
    let writer = writer.ok_or(LedgerError::Closed)?;
    writer.send(job).map_err(|_| LedgerError::Closed)?;
    metrics::gauge!("ledger_queue_depth").increment(1.0);
    Ok(())
}

impl Inner {
    /// Lets the writer finish what it has and waits for it.
    fn stop(&self) {
        lock(&self.jobs).clear();
        lock(&self.open).clear();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread of the ledger has panicked");
            }
        }
        drop(
            self.core
                .backend
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The backend of a store.
pub(crate) fn open_backend(
    location: &Location,
    cache_bytes: u64,
) -> Result<Arc<dyn Backend>, LedgerError> {
    Ok(match location {
        Location::Folder(path) => Arc::new(FjallBackend::open(path, cache_bytes)?),
        Location::Postgres(location) => Arc::new(PgBackend::open(location)?),
    })
}

impl Ledger {
    /// Opens or makes a store. One in a folder is for one process at a time.
    ///
    /// A store whose audit trees are not those that were last signed opens for reading and for
    /// [`Ledger::verify_audit`]; every commit is then refused with `Damaged`.
    ///
    /// # Errors
    /// `RootKey` when the key does not open this store, `Storage` when the store is locked or fails.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the key should not stay behind with the caller"
    )]
    pub fn open(options: OpenOptions) -> Result<Self, LedgerError> {
        Self::open_on(
            open_backend(&options.location, options.cache_bytes)?,
            &options,
        )
    }

    pub(crate) fn open_on(
        backend: Arc<dyn Backend>,
        options: &OpenOptions,
    ) -> Result<Self, LedgerError> {
        check_whole(&*backend)?;
        Self::open_restored(backend, options)
    }

    /// Opens a store that may not have been checked yet after a restore.
    pub(crate) fn open_restored(
        backend: Arc<dyn Backend>,
        options: &OpenOptions,
    ) -> Result<Self, LedgerError> {
        let opened = open_store(&backend, options)?;
        if backend.shared().is_none() {
            scrub::if_due(&*backend)?;
        }
        if let Some(reason) = &opened.suspect {
            tracing::error!(
                reason,
                "the audit does not hold, so the ledger takes no commits"
            );
        }
        if opened.core.outbox_held.load(Ordering::Relaxed) {
            tracing::warn!(
                "this store was restored, and nothing leaves its outbox until it is released: `cairn outbox list`, then \
                 `cairn outbox release`"
            );
        }
        let is_suspect = opened.suspect.is_some();
        let lanes = backend.shared().map_or(1, SharedStore::lanes);
        let mut jobs = Vec::with_capacity(lanes);
        let mut threads = Vec::with_capacity(lanes + 1);
        for _ in 0..lanes {
            let (sender, receiver) = mpsc::channel();
            let writer = Writer::new(
                Arc::clone(&opened.core),
                Arc::clone(&backend),
                receiver,
                opened.state.clone(),
                opened.checkpoint.clone(),
                opened.suspect.clone(),
            );
            jobs.push(sender);
            threads.push(spawn("ledger-writer", move || writer.run())?);
        }
        let (open, closed) = mpsc::channel();
        let mut also_open = Vec::new();
        if backend.shared().is_some() {
            let core = Arc::clone(&opened.core);
            let shared = Arc::clone(&backend);
            let news = News::new(core, backend, closed, is_suspect);
            threads.push(spawn("ledger-news", move || news.run())?);
            let (open, closed) = mpsc::channel();
            threads.push(spawn("ledger-scrub", move || {
                scrub::run(&*shared, &closed);
            })?);
            also_open.push(open);
        }
        also_open.push(open);
        let inner = Inner {
            core: opened.core,
            jobs: Mutex::new(jobs),
            threads: Mutex::new(threads),
            open: Mutex::new(also_open),
            is_suspect,
            room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            secrets: tokio::sync::Mutex::default(),
            backing_up: Arc::default(),
            cosigning: tokio::sync::Mutex::default(),
        };
        let ledger = Self {
            inner: Arc::new(inner),
            only: None,
        };
        let ahead_ms = ledger.newest_ahead_ms();
        if ahead_ms > CLOCK_STEP_MAX_MS {
            tracing::warn!(
                seconds = ahead_ms / 1000,
                "the newest record is ahead of this clock: times of new ones follow it until the clock has come there"
            );
        }
        Ok(ledger)
    }

    /// Takes part in the work on shards from now on: of a store that several processes share, this one
    /// holds its part of the shards, and [`Ledger::holds`] says which. Closing gives them back. Does
    /// nothing for a store that this process has to itself: it holds all.
    ///
    /// # Errors
    /// `Storage` when there is no thread for it, `Closed`.
    pub fn lease_shards(&self) -> Result<(), LedgerError> {
        let backend = self.backend()?;
        if backend.shared().is_none() || !self.core().held.begin() {
            return Ok(());
        }
        let (open, closed) = mpsc::channel();
        let keeper = Keeper {
            core: self.shared_core(),
            backend,
            closed,
        };
        let thread = spawn("ledger-leases", move || keeper.run())?;
        lock(&self.inner.threads).push(thread);
        lock(&self.inner.open).push(open);
        Ok(())
    }

    pub(crate) fn core(&self) -> &Core {
        &self.inner.core
    }

    pub(crate) async fn changing_secrets(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.secrets.lock().await
    }

    pub(crate) fn shared_core(&self) -> Arc<Core> {
        Arc::clone(&self.inner.core)
    }

    pub(crate) fn backing_up(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.inner.backing_up)
    }

    pub(crate) fn backend(&self) -> Result<Arc<dyn Backend>, LedgerError> {
        self.core().backend()
    }

    pub(crate) async fn cosigning(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.cosigning.lock().await
    }

    /// The same store for one tenant: to whoever holds this, any other tenant is one that there is not, and
    /// timers and the outbox hold nothing of it.
    #[must_use]
    pub fn only(&self, tenant: TenantId) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            only: Some(tenant),
        }
    }

    /// The tenant that this handle is for, if it is for one.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.only
    }

    /// Whether this handle is for a tenant.
    pub(crate) fn is_for(&self, tenant: TenantId) -> Result<(), LedgerError> {
        match self.only {
            Some(only) if only != tenant => Err(LedgerError::UnknownTenant(tenant.0)),
            _ => Ok(()),
        }
    }

    /// A tenant's keys, if this handle is for it.
    pub(crate) fn tenant_keys(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, LedgerError> {
        self.is_for(tenant)?;
        self.core().tenant(tenant)
    }

    /// A tenant's keys where no error can be told; see [`Core::tenant_or_stand_in`].
    fn keys_or_stand_in(&self, tenant: TenantId) -> (Arc<TenantKeys>, bool) {
        match self.is_for(tenant) {
            Ok(()) => self.core().tenant_or_stand_in(tenant),
            Err(_) => (self.core().stand_in(tenant), false),
        }
    }

    /// A tenant's keys; stand-ins where there are none.
    fn keys(&self, tenant: TenantId) -> Arc<TenantKeys> {
        self.keys_or_stand_in(tenant).0
    }

    /// Makes tokens; those that are made while the tenant's keys can't be read are remembered, and a
    /// search or commit with one of them fails.
    fn tokens(&self, tenant: TenantId, make: impl FnOnce(&TenantKeys) -> Vec<Token>) -> Vec<Token> {
        let (keys, failed) = self.keys_or_stand_in(tenant);
        let tokens = make(&keys);
        if failed {
            self.core().stand_ins.remember(tokens.iter().copied());
        }
        tokens
    }

    fn made_query(
        &self,
        tenant: TenantId,
        make: impl FnOnce(&TenantKeys) -> Option<Query>,
    ) -> Option<Query> {
        let (keys, failed) = self.keys_or_stand_in(tenant);
        let query = make(&keys)?;
        if failed {
            self.core().stand_ins.remember(tokens_of(&query));
        }
        Some(query)
    }

    /// Asks the writer and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        kib: u32,
        request: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Request,
    ) -> Result<T, LedgerError> {
        let room = Arc::clone(&self.inner.room)
            .acquire_many_owned(kib.clamp(1, QUEUE_KIB))
            .await;
        let room = room.map_err(|_| LedgerError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.send(Job {
            request: request(reply),
            room: Some(room),
        })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    fn send(&self, mut job: Job) -> Result<(), LedgerError> {
        let jobs = lock(&self.inner.jobs);
        // Which writer takes a commit is no matter of correctness: they share out the shards so that
        // they seldom wait for each other in the store.
        let lane = job.request.shard().map_or(0, |shard| usize::from(shard.0)) % jobs.len().max(1);
        if jobs.len() > 1
            && let Request::Commit(commit, _) = &mut job.request
            && let Some(room) = &mut commit.room
        {
            room.in_lane(lane);
        }
        send_to(jobs.get(lane), job)
    }

    /// Returns when everything is written that a writer, of whatever process, had begun to plan before
    /// this was called.
    pub(crate) async fn finish_planned(&self) -> Result<(), LedgerError> {
        let backend = self.backend()?;
        if let Some(store) = backend.shared() {
            // Each turn holds the shards that it writes to.
            let touched = Touched {
                shards: (0..SHARDS).map(Shard).collect(),
                ..Touched::default()
            };
            drop(store.turn(touched)?);
            return Ok(());
        }
        let writers = lock(&self.inner.jobs).clone();
        if writers.is_empty() {
            return Err(LedgerError::Closed);
        }
        for writer in &writers {
            let (reply, answer) = oneshot::channel();
            let job = Job {
                request: Request::Meta(Vec::new(), reply),
                room: None,
            };
            send_to(Some(writer), job)?;
            answer.await.unwrap_or(Err(LedgerError::Closed))?;
        }
        Ok(())
    }

    /// Makes a tenant's keys; doing it again changes nothing.
    ///
    /// # Errors
    /// `Storage`; `Invalid` for a number of 2^31 or more.
    pub async fn create_tenant(&self, tenant: TenantId) -> Result<(), LedgerError> {
        let core = self.core();
        self.is_for(tenant)?;
        if i32::try_from(tenant.0).is_err() {
            return Err(LedgerError::Invalid("a tenant's number is below 2^31"));
        }
        let _one_at_a_time = self.changing_secrets().await;
        if core.tenant(tenant).is_ok() {
            return Ok(());
        }
        let root_wrap = core.root_wrap();
        // Another process may have rotated the root key; what is wrapped under the old one would never
        // open again.
        opens(&*core.backend()?.snapshot(), &root_wrap)?;
        let mut secret = [0; 32];
        core.entropy.fill(&mut secret);
        let name = tenant_row(tenant);
        let value = wrap(&root_wrap, &*core.entropy, &name, &secret);
        self.ask(1, |reply| {
            let secret = NewSecret {
                root_wrap,
                name,
                value,
            };
            Request::NewSecret(secret, reply)
        })
        .await?;
        // Another process may have been first; then its secret stands.
        core.reload_tenant(&*core.backend()?, tenant).map(drop)
    }

    /// The clock that this ledger was opened with.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.core().clock)
    }

    /// The entropy that this ledger was opened with.
    #[must_use]
    pub fn entropy(&self) -> Arc<dyn Entropy> {
        Arc::clone(&self.core().entropy)
    }

    /// A new random id (UUID form) for a document of `owner`; its first two digits are the shard,
    /// so that a read by id alone needs to ask one shard only.
    #[must_use]
    pub fn mint_id(&self, tenant: TenantId, owner: &Owner) -> String {
        self.keys(tenant).mint_id(owner, &*self.core().entropy)
    }

    /// A new random id for a patient (or another document that is its own owner).
    #[must_use]
    pub fn mint_own_id(&self, tenant: TenantId) -> String {
        self.mint_id(tenant, &Owner::Tenant)
    }

    /// An id in UUID form derived from `name` by a keyed hash, the same each time, whose first two
    /// digits are the owner's shard. For imports that must add nothing when run twice. Nothing else of the owner is
    /// in it: a name that documents of several owners may have must say whose it is.
    #[must_use]
    pub fn derive_id(&self, tenant: TenantId, owner: &Owner, name: &str) -> String {
        match self.keys_or_stand_in(tenant) {
            (keys, false) => keys.derive_id(owner, name),
            // Whoever reads or writes under it is told of the fault.
            (_, true) => STAND_IN_ID.to_owned(),
        }
    }

    /// Like [`Ledger::derive_id`] for a document that is its own owner (a patient).
    #[must_use]
    pub fn derive_own_id(&self, tenant: TenantId, name: &str) -> String {
        self.derive_id(tenant, &Owner::Tenant, name)
    }

    /// The shard of a document: its owner's, or (for `Owner::Tenant`) its own.
    #[must_use]
    pub fn shard_of(&self, tenant: TenantId, owner: &Owner, id: &str) -> Shard {
        self.keys(tenant).shard_of(owner, id)
    }

    /// Documents below this number were written by a program that gave them fewer tokens than today's:
    /// what numbers and quantities they have, no token says. Zero where all documents have all.
    #[must_use]
    pub fn indexed_since(&self) -> Number {
        Number(self.core().indexed_since.load(Ordering::Relaxed))
    }

    /// Documents below this number were written by a program that gave no token to those that are nobody's in
    /// particular, or one may yet be (the highest number). Zero where all such documents have it.
    #[must_use]
    pub fn ownerless_since(&self) -> Number {
        Number(self.core().ownerless_since.load(Ordering::Relaxed))
    }

    /// The keyed token for a value of a parameter of a kind. Keyed per tenant.
    #[must_use]
    pub fn token(&self, tenant: TenantId, kind: Kind, parameter: &str, value: &str) -> Token {
        self.tokens(tenant, |keys| vec![keys.token(kind, parameter, value)])[0]
    }

    /// The token that every live document of a kind has.
    #[must_use]
    pub fn kind_token(&self, tenant: TenantId, kind: Kind) -> Token {
        self.tokens(tenant, |keys| vec![keys.kind_token(kind)])[0]
    }

    /// Tokens for an integer position (e.g. a day number) at several precisions, so that ranges can
    /// be asked for without showing order. Six levels of base 8.
    #[must_use]
    pub fn range_tokens(
        &self,
        tenant: TenantId,
        kind: Kind,
        parameter: &str,
        value: i64,
    ) -> Vec<Token> {
        self.tokens(tenant, |keys| keys.range_tokens(kind, parameter, value))
    }

    /// The query for positions in `low..=high`, exact; `None` when the range is so wide that it says
    /// nothing: more than 128 cells of the widest level (32,768 positions each). With days as
    /// positions the years 1 to 9999 fit.
    #[must_use]
    pub fn range_query(
        &self,
        tenant: TenantId,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        self.made_query(tenant, |keys| keys.range_query(kind, parameter, low, high))
    }

    /// As [`Ledger::range_tokens`], in four levels of base 16, for positions that are coarse themselves.
    #[must_use]
    pub fn coarse_range_tokens(
        &self,
        tenant: TenantId,
        kind: Kind,
        parameter: &str,
        value: i64,
    ) -> Vec<Token> {
        self.tokens(tenant, |keys| keys.coarse_tokens(kind, parameter, value))
    }

    /// The query for positions in `low..=high` of [`Ledger::coarse_range_tokens`], exact, of at most 154
    /// tokens; `None` when the range is wider than 64 cells of the widest level (4,096 positions each).
    #[must_use]
    pub fn coarse_range_query(
        &self,
        tenant: TenantId,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        self.made_query(tenant, |keys| keys.coarse_query(kind, parameter, low, high))
    }

    /// Two of the tokens of [`Ledger::coarse_range_tokens`]: those of 16 and of 4,096 positions.
    #[must_use]
    pub fn rough_range_tokens(
        &self,
        tenant: TenantId,
        kind: Kind,
        parameter: &str,
        value: i64,
    ) -> Vec<Token> {
        self.tokens(tenant, |keys| keys.rough_tokens(kind, parameter, value))
    }

    /// The query for positions in `low..=high` of [`Ledger::rough_range_tokens`], and of
    /// [`Ledger::coarse_range_tokens`], of at most 574 tokens; holds up to 15 positions more at both ends.
    /// `None` when the range is wider than 64 cells of the widest level.
    #[must_use]
    pub fn rough_range_query(
        &self,
        tenant: TenantId,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        self.made_query(tenant, |keys| keys.rough_query(kind, parameter, low, high))
    }

    /// Writes everything of one cause, and returns when it is durable. Numbers rise in the order of
    /// the drafts; the audit document's is the last. Audit documents have no event on the feed:
    /// their order is the audit tree's, and a read must not wake those who follow facts.
    ///
    /// Bounds of a commit: 16,384 documents, 64 MiB, 16 MiB a body. Dropping the future does not
    /// take back a commit that is on its way.
    ///
    /// # Errors
    /// `Conflict`, `CursorMoved`, `Invalid`, `UnknownTenant`, `KeyDestroyed`, `Storage`, `Closed`;
    /// in each case nothing was written. After `Storage` the store may refuse all writes until it is
    /// opened again, and opening decides whether the commit that failed is there, whole, or not.
    pub async fn commit(&self, commit: Commit) -> Result<Receipt, LedgerError> {
        self.is_for(commit.tenant)?;
        let kib = u32::try_from(weight(&commit) / 1024).unwrap_or(u32::MAX);
        let backend = self.backend()?;
        let mut kept = backend.shared().is_some().then(|| commit.clone());
        let mut next = Some(commit);
        let mut attempts = 0;
        while let Some(commit) = next.take() {
            let sealed = seal_commit(self.core(), &*backend, commit).await?;
            let keys = sealed.keys.clone();
            let outcome = self.write(sealed, kib).await;
            let stale = keys.iter().filter(|key| key.is_stale());
            let stale = stale.inspect(|key| self.core().data_keys.forget(&key.row));
            attempts += 1;
            if outcome.is_ok() || stale.count() == 0 || attempts == MAX_SEALINGS {
                return outcome;
            }
            // Sealed again, with the key that the store has.
            next = if attempts + 1 == MAX_SEALINGS {
                kept.take()
            } else {
                kept.clone()
            };
        }
        Err(LedgerError::Storage(
            "the patient's key was made by another at the same time; try again".into(),
        ))
    }

    pub(crate) async fn write(
        &self,
        sealed: SealedCommit,
        kib: u32,
    ) -> Result<Receipt, LedgerError> {
        self.ask(kib.saturating_add(1), |reply| {
            Request::Commit(Box::new(sealed), reply)
        })
        .await
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.backend().map_or(0, |backend| backend.disk_bytes())
    }

    /// Bytes on disk by table. What has been written lately may be in the journal only.
    ///
    /// # Errors
    /// `Closed`, `Storage`.
    pub fn storage(&self) -> Result<Vec<StoragePart>, LedgerError> {
        self.backend()?.storage()
    }

    /// Stops taking commits, finishes those taken, signs a checkpoint and flushes. Everything asked
    /// of the ledger or a clone of it afterwards is `Closed`; the folder can be opened again.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.inner.room.close();
        let writers = lock(&self.inner.jobs).clone();
        if writers.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        for writer in writers {
            let (reply, answer) = oneshot::channel();
            let job = Job {
                request: Request::Close(reply),
                room: None,
            };
            // Who can't be told has been closed by somebody else, who is told the outcome.
            if send_to(Some(&writer), job).is_ok() {
                outcome = outcome.and(answer.await.unwrap_or(Err(LedgerError::Closed)));
            }
        }
        if outcome.is_ok()
            && !self.inner.is_suspect
            && let Ok(backend) = self.backend()
            && let Some(store) = backend.shared()
        {
            outcome = crate::news::cover(self.core(), store).map(drop);
        }
        let inner = Arc::clone(&self.inner);
        let stopped = tokio::task::spawn_blocking(move || inner.stop()).await;
        stopped.map_err(|error| LedgerError::Storage(error.to_string()))?;
        outcome
    }
}
