//! The hierarchy of keys: root key → tenant's secret → what is derived from it, and the patients'
//! random data keys, which the tenant wraps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};

use crate::backend::{Backend, Blind, HeadKey, KeyRow, SubjectKey};
use crate::seal::{open, seal};
use crate::{Entropy, Kind, LedgerError, TenantId};

/// A symmetric key.
pub(crate) type Secret = [u8; 32];
/// What makes the keys of one root key differ from store to store, and from rotation to rotation.
pub(crate) type Salt = [u8; 32];

struct SecretLength;

impl KeyType for SecretLength {
    fn len(&self) -> usize {
        32
    }
}

/// HKDF-Expand (RFC 5869) with SHA-256: a key of 32 bytes for one use.
fn derive(secret: &Secret, info: &[&[u8]]) -> Secret {
    let mut out = [0; 32];
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    // Expanding fails only for more than 255 blocks, filling only for another length than asked for.
    #[allow(
        clippy::expect_used,
        reason = "32 bytes are one block, and 32 are asked for"
    )]
    prk.expand(info, SecretLength)
        .and_then(|okm| okm.fill(&mut out))
        .expect("one block can be expanded");
    out
}

/// What the root key and a salt become: the key under which the store's own secrets lie in its meta
/// rows. The salt is of the store and of one rotation, so that one root key can serve several stores
/// and what it gave before a rotation opens nothing afterwards. Stores of before salts have none.
pub(crate) fn root_wrap(root: &Secret, salt: Option<&Salt>) -> Secret {
    match salt {
        None => derive(root, &[b"cairn ledger 1 root wrap"]),
        Some(salt) => derive(root, &[b"cairn ledger 2 root wrap\0", salt]),
    }
}

/// Another key for each sealed thing, so that a random nonce need not be unique over a key that
/// seals billions of them.
pub(crate) fn derive_for(key: &Secret, purpose: &[u8], name: &[u8]) -> Secret {
    derive(key, &[b"cairn ledger 1 ", purpose, b"\0", name])
}

/// What one tenant's secret gives.
pub(crate) struct TenantKeys {
    pub(crate) tenant: TenantId,
    pub(crate) token: Secret,
    pub(crate) id: Secret,
    subject: Secret,
    pub(crate) audit: Secret,
    pub(crate) common: Secret,
    wrap: Secret,
}

impl TenantKeys {
    pub(crate) fn derive(tenant: TenantId, secret: &Secret) -> Self {
        let key = |purpose: &[u8]| derive_for(secret, purpose, &tenant.0.to_be_bytes());
        Self {
            tenant,
            token: key(b"token"),
            id: key(b"id"),
            subject: key(b"subject"),
            audit: key(b"audit"),
            common: key(b"common"),
            wrap: key(b"wrap"),
        }
    }

    /// Stands for a document's kind and id in rows.
    pub(crate) fn head_key(&self, kind: Kind, id: &str) -> HeadKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.id);
        hasher
            .update(b"head")
            .update(&kind.0.to_be_bytes())
            .update(id.as_bytes());
        HeadKey {
            tenant: self.tenant,
            id: half(&hasher.finalize()),
        }
    }

    /// Stands for a patient in rows of keys and headers.
    pub(crate) fn subject_key(&self, patient: &str) -> SubjectKey {
        let hash = blake3::keyed_hash(&self.subject, patient.as_bytes());
        SubjectKey {
            tenant: self.tenant,
            subject: half(&hash),
        }
    }
}

fn half(hash: &blake3::Hash) -> Blind {
    let mut blind = [0; 16];
    blind.copy_from_slice(&hash.as_bytes()[..16]);
    blind
}

/// A patient's data key.
pub(crate) struct DataKey {
    pub(crate) row: SubjectKey,
    pub(crate) secret: Secret,
    /// The row to be written with the first commit that uses the key.
    pub(crate) wrapped: Vec<u8>,
    durable: AtomicBool,
}

impl DataKey {
    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }
    pub(crate) fn set_durable(&self) {
        self.durable.store(true, Ordering::Release);
    }
}

fn wrap_data(row: &SubjectKey) -> Vec<u8> {
    [
        b"data key".as_slice(),
        &row.tenant.0.to_be_bytes(),
        &row.subject,
    ]
    .concat()
}

/// Data keys that were used lately. Two generations: what is used moves into the young one; when
/// that is full, the old one is dropped.
pub(crate) struct DataKeys {
    generations: Mutex<Generations>,
    half_capacity: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<SubjectKey, Arc<DataKey>>,
    old: HashMap<SubjectKey, Arc<DataKey>>,
}

impl DataKeys {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            generations: Mutex::default(),
            half_capacity: (capacity / 2).max(1),
        }
    }

    /// The patient's key for writing; a new one where there is none yet. A new key is not stored
    /// here: it goes into the commit that uses it first.
    pub(crate) fn for_writing(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
        entropy: &dyn Entropy,
    ) -> Result<Arc<DataKey>, LedgerError> {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = generations.get(&row, self.half_capacity) {
            return Ok(key);
        }
        let key = match load(backend, keys, row)? {
            Some(key) => key,
            None => {
                let mut secret = [0; 32];
                entropy.fill(&mut secret);
                let wrapped = seal(&keys.wrap, entropy, &wrap_data(&row), secret.to_vec());
                DataKey {
                    row,
                    secret,
                    wrapped,
                    durable: AtomicBool::new(false),
                }
            }
        };
        Ok(generations.insert(key, self.half_capacity))
    }

    /// The patient's key for reading something that it sealed.
    pub(crate) fn for_reading(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
    ) -> Result<Arc<DataKey>, LedgerError> {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = generations.get(&row, self.half_capacity) {
            return Ok(key);
        }
        let key = load(backend, keys, row)?
            .ok_or_else(|| LedgerError::Damaged("the key of a record is missing".into()))?;
        Ok(generations.insert(key, self.half_capacity))
    }

    /// Forgets a key that has been destroyed.
    pub(crate) fn forget(&self, row: &SubjectKey) {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(row);
        generations.old.remove(row);
    }
}

/// Called with the cache locked: a key that was read before it was destroyed is in the cache before
/// [`DataKeys::forget`] takes it out again, never after.
fn load(
    backend: &dyn Backend,
    keys: &TenantKeys,
    row: SubjectKey,
) -> Result<Option<DataKey>, LedgerError> {
    match backend.snapshot().key(&row)? {
        None => Ok(None),
        Some(KeyRow::Destroyed { .. }) => Err(LedgerError::KeyDestroyed),
        Some(KeyRow::Wrapped(wrapped)) => {
            let secret = open(&keys.wrap, &wrap_data(&row), &wrapped)
                .and_then(|secret| secret.try_into().ok())
                .ok_or_else(|| LedgerError::Damaged("a data key does not unwrap".into()))?;
            Ok(Some(DataKey {
                row,
                secret,
                wrapped,
                durable: AtomicBool::new(true),
            }))
        }
    }
}

impl Generations {
    fn get(&mut self, row: &SubjectKey, half_capacity: usize) -> Option<Arc<DataKey>> {
        if let Some(key) = self.young.get(row) {
            return Some(Arc::clone(key));
        }
        let key = self.old.remove(row)?;
        self.make_room(half_capacity);
        self.young.insert(*row, Arc::clone(&key));
        Some(key)
    }

    fn insert(&mut self, key: DataKey, half_capacity: usize) -> Arc<DataKey> {
        self.make_room(half_capacity);
        let key = Arc::new(key);
        self.young.insert(key.row, Arc::clone(&key));
        key
    }

    fn make_room(&mut self, half_capacity: usize) {
        if self.young.len() < half_capacity {
            return;
        }
        let dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        // A key that a commit under way has used but not yet stored must stay, or the next commit
        // would make the patient a second one.
        self.young = dropped
            .into_iter()
            .filter(|(_, key)| !key.is_durable() && Arc::strong_count(key) > 1)
            .collect();
    }
}
