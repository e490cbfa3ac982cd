//! What the ledger's callers and its writer share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::broadcast;

use crate::backend::{Backend, Home, SubjectKey};
use crate::bootstrap::{dictionary_of, opens, tenant_keys};
use crate::data_keys::DataKeys;
use crate::due::{Earliest, Floors};
use crate::held::Held;
use crate::keys::{SealingKeys, Secret, TenantKeys, derive_for};
use crate::outer::LayerCache;
use crate::query::tokens_of;
use crate::rows::{Header, SealedBy};
use crate::seal::{Packer, open};
use crate::stored::Room;
use crate::tree::Signer;
use crate::{
    Clock, Entropy, Hit, LedgerError, Number, Query, SHARDS, Shard, Stored, TenantId, Token,
    Witnesses,
};

pub(crate) struct Core {
    /// Taken out on closing, so that a clone of the ledger somewhere does not keep the store locked.
    pub(crate) backend: RwLock<Option<Arc<dyn Backend>>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    root_wrap: RwLock<Secret>,
    /// Proves the files of backups.
    pub(crate) backup_key: Secret,
    pub(crate) signer: Signer,
    pub(crate) witnesses: RwLock<Arc<Witnesses>>,
    pub(crate) packer: Packer,
    /// Nothing for those whose keys have been destroyed.
    tenants: RwLock<HashMap<TenantId, Option<Arc<TenantKeys>>>>,
    pub(crate) data_keys: DataKeys,
    pub(crate) timer_floors: Floors,
    pub(crate) outbox_floors: Floors,
    /// Nothing leaves the outbox: the store was restored, and what it holds may have been sent.
    pub(crate) outbox_held: AtomicBool,
    pub(crate) news: broadcast::Sender<Shard>,
    /// Whether other processes write to the store too.
    is_shared: bool,
    pub(crate) held: Held,
    pub(crate) stand_ins: StandIns,
    /// Of tenants that may store so many documents.
    rooms: RwLock<HashMap<TenantId, Room>>,
    pub(crate) layers: LayerCache,
    /// Documents from this number on have all tokens.
    pub(crate) indexed_since: AtomicU64,
    /// Documents from this number on have the token of what is nobody's, where they are.
    pub(crate) ownerless_since: AtomicU64,
    last: AtomicU64,
    feeds: Vec<AtomicU64>,
}

/// What a core begins with.
pub(crate) struct Parts {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) root_wrap: Secret,
    /// Proves the files of backups.
    pub(crate) backup_key: Secret,
    pub(crate) signer: Signer,
    pub(crate) packer: Packer,
    /// Nothing for those whose keys have been destroyed.
    pub(crate) tenants: HashMap<TenantId, Option<Arc<TenantKeys>>>,
    pub(crate) last: Number,
    pub(crate) outbox_held: bool,
}

/// Data keys kept unwrapped: 65,536 patients take about 16 MB.
const DATA_KEYS: usize = 65_536;
/// News of shards that a slow watcher can fall behind by before it is told to look at all.
const NEWS: usize = 1024;

impl Core {
    pub(crate) fn new(parts: Parts) -> Result<Self, LedgerError> {
        let snapshot = parts.backend.snapshot();
        let mut feeds = Vec::with_capacity(usize::from(SHARDS));
        for shard in (0..SHARDS).map(Shard) {
            feeds.push(AtomicU64::new(snapshot.last_event(shard)?.0));
        }
        let is_shared = parts.backend.shared().is_some();
        let mut node = [0; 16];
        parts.entropy.fill(&mut node);
        Ok(Self {
            backend: RwLock::new(Some(parts.backend)),
            clock: parts.clock,
            entropy: parts.entropy,
            root_wrap: RwLock::new(parts.root_wrap),
            backup_key: parts.backup_key,
            signer: parts.signer,
            witnesses: RwLock::default(),
            packer: parts.packer,
            tenants: RwLock::new(parts.tenants),
            data_keys: DataKeys::new(DATA_KEYS),
            timer_floors: Floors::new(!is_shared),
            outbox_floors: Floors::new(!is_shared),
            outbox_held: AtomicBool::new(parts.outbox_held),
            is_shared,
            news: broadcast::Sender::new(NEWS),
            held: Held::new(node),
            stand_ins: StandIns::default(),
            rooms: RwLock::default(),
            layers: LayerCache::default(),
            indexed_since: AtomicU64::new(0),
            ownerless_since: AtomicU64::new(0),
            last: AtomicU64::new(parts.last.0),
            feeds,
        })
    }

    pub(crate) fn backend(&self) -> Result<Arc<dyn Backend>, LedgerError> {
        self.backend
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(LedgerError::Closed)
    }

    /// The key that wraps the store's own secrets.
    pub(crate) fn root_wrap(&self) -> Secret {
        *self
            .root_wrap
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a rotation of the root key that has become durable.
    pub(crate) fn set_root_wrap(&self, root_wrap: Secret) {
        *self
            .root_wrap
            .write()
            .unwrap_or_else(PoisonError::into_inner) = root_wrap;
    }

    /// A tenant's keys.
    pub(crate) fn tenant(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, LedgerError> {
        let known = {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            tenants.get(&tenant).cloned()
        };
        match known {
            Some(Some(keys)) => Ok(keys),
            Some(None) => Err(LedgerError::KeyDestroyed),
            // Another process may have made it since.
            None if self.is_shared => self.reload_tenant(&*self.backend()?, tenant),
            None => Err(LedgerError::UnknownTenant(tenant.0)),
        }
    }

    /// Takes apart what was packed, with a dictionary that another process may have brought since.
    pub(crate) fn unpack(
        &self,
        dictionary: u32,
        packed: &[u8],
    ) -> Result<(String, Vec<u8>), LedgerError> {
        if self.is_shared && !self.packer.knows(dictionary) {
            let rows = self.backend()?.now();
            if let Some(bytes) = dictionary_of(&*rows, &self.root_wrap(), dictionary)? {
                self.packer.learn(dictionary, &bytes);
            }
        }
        self.packer.unpack(dictionary, packed)
    }

    /// A tenant's keys where no error can be told, or stand-ins and whether these stand for keys that
    /// could not be read. Nothing can be stored for a tenant that does not exist, so what is hashed
    /// under a stand-in for its keys is never found, and rightly. What is hashed for a tenant whose keys
    /// could not be read must never count as absent: see [`StandIns`].
    pub(crate) fn tenant_or_stand_in(&self, tenant: TenantId) -> (Arc<TenantKeys>, bool) {
        let failed = match self.tenant(tenant) {
            Ok(keys) => return (keys, false),
            // Everything that is asked of a closed ledger fails.
            Err(
                LedgerError::UnknownTenant(_) | LedgerError::KeyDestroyed | LedgerError::Closed,
            ) => false,
            Err(error) => {
                tracing::warn!(%error, "a tenant's keys could not be read");
                true
            }
        };
        (self.stand_in(tenant), failed)
    }

    /// Keys of a tenant under which nothing lies.
    pub(crate) fn stand_in(&self, tenant: TenantId) -> Arc<TenantKeys> {
        let secret = derive_for(&self.root_wrap(), b"nobody", &[]);
        Arc::new(TenantKeys::derive(tenant, &secret))
    }

    /// One version of what seals for a tenant.
    pub(crate) fn sealing_keys(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        version: u32,
    ) -> Result<Arc<SealingKeys>, LedgerError> {
        if let Some(known) = keys.sealing(version) {
            return Ok(Arc::clone(known));
        }
        // Another process may have made it since this one read the tenant's secrets.
        let keys = self.reload_tenant(backend, keys.tenant)?;
        keys.sealing(version).map(Arc::clone).ok_or_else(|| {
            LedgerError::Damaged(format!(
                "something is sealed under version {version} of a tenant's keys, which is missing"
            ))
        })
    }

    /// Reads a tenant's secrets again.
    pub(crate) fn reload_tenant(
        &self,
        backend: &dyn Backend,
        tenant: TenantId,
    ) -> Result<Arc<TenantKeys>, LedgerError> {
        let (rows, root_wrap) = (backend.now(), self.root_wrap());
        let keys = tenant_keys(&*rows, &root_wrap, tenant);
        if matches!(keys, Err(LedgerError::Damaged(_))) {
            // Not damage, if another process has rotated the root key.
            opens(&*rows, &root_wrap)?;
        }
        let keys = Arc::new(keys?.ok_or(LedgerError::UnknownTenant(tenant.0))?);
        self.set_tenant(Arc::clone(&keys));
        Ok(keys)
    }

    /// Reads the secrets of all tenants again that this process knows.
    pub(crate) fn reload_tenants(&self, backend: &dyn Backend) -> Result<(), LedgerError> {
        let known: Vec<TenantId> = {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            tenants.keys().copied().collect()
        };
        for tenant in known {
            match self.reload_tenant(backend, tenant) {
                Ok(_) => {}
                Err(LedgerError::KeyDestroyed) => self.forget_tenant(tenant),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Follows a change of a tenant's secrets that has become durable. Who read them earlier may come
    /// later, so the most secrets stand.
    pub(crate) fn set_tenant(&self, keys: Arc<TenantKeys>) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        match tenants.get(&keys.tenant) {
            // Who read them before they were destroyed may come later, too.
            Some(None) => {}
            Some(Some(known)) if known.newest().version >= keys.newest().version => {}
            _ => drop(tenants.insert(keys.tenant, Some(keys))),
        }
    }

    /// What commits of a tenant have to know of what it stores.
    pub(crate) fn room(&self, tenant: TenantId) -> Option<Room> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.get(&tenant).cloned()
    }

    pub(crate) fn set_room(&self, tenant: TenantId, room: Option<Room>) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        match room {
            Some(room) => drop(rooms.insert(tenant, room)),
            None => drop(rooms.remove(&tenant)),
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Follows the destruction of a tenant's keys.
    pub(crate) fn forget_tenant(&self, tenant: TenantId) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(tenants.insert(tenant, None), Some(None)) {
            return;
        }
        drop(tenants);
        self.data_keys.forget_tenant(tenant);
    }

    pub(crate) fn last(&self) -> Number {
        Number(self.last.load(Ordering::Acquire))
    }

    pub(crate) fn feed(&self, shard: Shard) -> Number {
        self.feeds
            .get(usize::from(shard.0))
            .map_or(Number(0), |head| Number(head.load(Ordering::Acquire)))
    }

    /// Lets everybody see what has become durable, here or elsewhere.
    pub(crate) fn publish(
        &self,
        last: Number,
        feeds: &BTreeMap<Shard, Number>,
        timers: &Earliest,
        outbox: &Earliest,
    ) {
        self.timer_floors.lower(timers);
        self.outbox_floors.lower(outbox);
        self.last.fetch_max(last.0, Ordering::AcqRel);
        for (shard, number) in feeds {
            let before = self.feeds[usize::from(shard.0)].fetch_max(number.0, Ordering::AcqRel);
            if before < number.0 {
                // Nobody may be watching.
                let _ = self.news.send(*shard);
            }
        }
    }

    /// Opens a stored row: the body, and that it is what its header says.
    pub(crate) fn open_row(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        at: Hit,
        row: &[u8],
    ) -> Result<(Header, Stored), LedgerError> {
        let (header, length) = Header::decode(row)?;
        if header.key.tenant != keys.tenant {
            return Err(LedgerError::Damaged(
                "a document lies under another tenant's name".into(),
            ));
        }
        let data_key = match header.sealed_by {
            SealedBy::Common => self.sealing_keys(backend, keys, header.key_version)?.common,
            SealedBy::Audit => self.sealing_keys(backend, keys, header.key_version)?.audit,
            SealedBy::Patient(subject) => {
                let row = SubjectKey {
                    tenant: keys.tenant,
                    subject,
                    // A patient's documents lie in the patient's own shard.
                    home: Home(Some(at.shard)),
                };
                let patient = self.key_for_reading(backend, keys, row, header.key_version)?;
                *patient.version(header.key_version)?
            }
        };
        let (associated, sealed) = row.split_at(length);
        let key = document_key(&data_key, &header);
        let packed = open(&key, associated, sealed).ok_or_else(|| {
            LedgerError::Damaged(format!(
                "document {}/{} cannot be opened",
                at.shard, at.number.0
            ))
        })?;
        let (id, body) = self.unpack(header.dictionary, &packed)?;
        if keys.head_key(header.kind, &id) != header.key {
            return Err(LedgerError::Damaged(format!(
                "document {}/{} is not the one it says",
                at.shard, at.number.0
            )));
        }
        let stored = Stored {
            kind: header.kind,
            id,
            at,
            version: header.version,
            deleted: header.deleted,
            body,
        };
        Ok((header, stored))
    }
}

/// The key that seals one version of one document.
pub(crate) fn document_key(data_key: &Secret, header: &Header) -> Secret {
    let mut name = [0; 20];
    name[..16].copy_from_slice(&header.key.id);
    name[16..].copy_from_slice(&header.version.to_be_bytes());
    derive_for(data_key, b"document", &name)
}

/// Tokens that were made while a tenant's keys could not be read. They find nothing, which says nothing,
/// so whoever asks for one, or would store one, is told of the fault.
#[derive(Default)]
pub(crate) struct StandIns {
    is_some: AtomicBool,
    tokens: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    tokens: HashSet<Token>,
    /// There were more than can be remembered: any may be one.
    is_full: bool,
}

/// The id in the place of one that could not be derived. No document can have it.
pub(crate) const STAND_IN_ID: &str = "!the tenant's keys could not be read!";
/// Stand-ins remembered: 16 MB. A request makes some hundred and fails with the store, so that this
/// many come only of a fault that lasts for hours, and whoever opens the store again is rid of it.
const STAND_INS_MAX: usize = 1 << 20;

impl StandIns {
    pub(crate) fn remember(&self, tokens: impl IntoIterator<Item = Token>) {
        let mut remembered = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.tokens.len() >= STAND_INS_MAX {
            remembered.is_full = true;
        } else {
            remembered.tokens.extend(tokens);
        }
        self.is_some.store(true, Ordering::Release);
    }

    /// Whether a query asks for none of them.
    pub(crate) fn check(&self, query: &Query) -> Result<(), LedgerError> {
        if !self.is_some.load(Ordering::Acquire) {
            return Ok(());
        }
        self.check_all(&tokens_of(query))
    }

    /// Whether none of them is to be stored.
    pub(crate) fn check_draft(&self, id: &str, tokens: &[Token]) -> Result<(), LedgerError> {
        check_id(id)?;
        if !self.is_some.load(Ordering::Acquire) {
            return Ok(());
        }
        self.check_all(tokens)
    }

    fn check_all(&self, tokens: &[Token]) -> Result<(), LedgerError> {
        let remembered = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let is_one = |token| remembered.tokens.contains(token);
        if remembered.is_full || tokens.iter().any(is_one) {
            return Err(keys_unread());
        }
        Ok(())
    }
}

/// Whether an id is none of those that could not be derived.
pub(crate) fn check_id(id: &str) -> Result<(), LedgerError> {
    if id == STAND_IN_ID {
        return Err(keys_unread());
    }
    Ok(())
}

fn keys_unread() -> LedgerError {
    LedgerError::Storage("the keys of the tenant could not be read; try again".into())
}
