//! Patients' data keys: random, wrapped by their tenant, each in one row with all its versions.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::backend::{Backend, KeyRow, SubjectKey};
use crate::codec::{Decoder, put_varint};
use crate::keys::{SealingKeys, Secret, TenantKeys, derive_for};
use crate::seal::{open, seal};
use crate::shared::Core;
use crate::{Entropy, LedgerError, Shard, TenantId};

/// The most versions of a patient's data key: 32 bytes each in a row that every look at the patient
/// reads.
pub(crate) const MAX_VERSIONS: usize = 64;

/// A wrapped row of the first format has no more than nonce, key and tag: one version, wrapped by the
/// tenant's first secret.
const FIRST_FORMAT_BYTES: usize = 12 + 32 + 16;
/// The second format: this, the version of the tenant's secret (variable), nonce, keys, tag. It is
/// never as long as the first.
const FORMAT: u8 = 2;

/// A patient's data key.
pub(crate) struct DataKey {
    pub(crate) row: SubjectKey,
    /// Version 1 first; never empty.
    secrets: Vec<Secret>,
    durable: AtomicBool,
    stale: AtomicBool,
}

fn named(what: &[u8], row: &SubjectKey) -> Vec<u8> {
    [what, &row.tenant.0.to_be_bytes(), &row.subject].concat()
}

/// A key of its own for each patient, so that nonces need to differ for one patient only.
fn wrapping_key(keys: &SealingKeys, row: &SubjectKey) -> Secret {
    derive_for(&keys.wrap, b"data keys", &row.subject)
}

/// The version of the tenant's secret that wraps a row.
pub(crate) fn wrapped_by(wrapped: &[u8]) -> Result<u32, LedgerError> {
    if wrapped.len() == FIRST_FORMAT_BYTES {
        return Ok(1);
    }
    let mut decoder = Decoder::new(wrapped, "key");
    if decoder.u8()? != FORMAT {
        return Err(LedgerError::Damaged(
            "a key row has an unknown format".into(),
        ));
    }
    decoder.small()
}

impl DataKey {
    fn new(row: SubjectKey, secrets: Vec<Secret>, durable: bool) -> Self {
        Self {
            row,
            secrets,
            durable: AtomicBool::new(durable),
            stale: AtomicBool::new(false),
        }
    }

    /// Takes a row apart; `keys` are those that [`wrapped_by`] names.
    fn unwrap(row: SubjectKey, keys: &SealingKeys, wrapped: &[u8]) -> Result<Self, LedgerError> {
        let damaged = || LedgerError::Damaged("a data key does not unwrap".into());
        let plain = if wrapped.len() == FIRST_FORMAT_BYTES {
            open(&keys.wrap, &named(b"data key", &row), wrapped)
        } else {
            let mut decoder = Decoder::new(wrapped, "key");
            decoder.u8()?;
            decoder.varint()?;
            let key = wrapping_key(keys, &row);
            open(&key, &named(b"data keys", &row), decoder.rest())
        };
        let plain = plain.ok_or_else(damaged)?;
        let (secrets, rest) = plain.as_chunks::<32>();
        if secrets.is_empty() || !rest.is_empty() {
            return Err(damaged());
        }
        Ok(Self::new(row, secrets.to_vec(), true))
    }

    /// The row's value.
    pub(crate) fn wrap(&self, keys: &SealingKeys, entropy: &dyn Entropy) -> Vec<u8> {
        let plain = self.secrets.concat();
        // As the version before wrote it, where it could have.
        if keys.version == 1 && self.secrets.len() == 1 {
            return seal(&keys.wrap, entropy, &named(b"data key", &self.row), plain);
        }
        let mut wrapped = vec![FORMAT];
        put_varint(&mut wrapped, u64::from(keys.version));
        let key = wrapping_key(keys, &self.row);
        let associated = named(b"data keys", &self.row);
        wrapped.extend_from_slice(&seal(&key, entropy, &associated, plain));
        wrapped
    }

    /// The same key with another version for what is sealed from now on.
    pub(crate) fn grown(&self, entropy: &dyn Entropy) -> Result<Self, LedgerError> {
        if self.secrets.len() >= MAX_VERSIONS {
            return Err(LedgerError::Invalid(
                "a patient's key has at most 64 versions",
            ));
        }
        let mut secrets = self.secrets.clone();
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        secrets.push(secret);
        Ok(Self::new(self.row, secrets, true))
    }

    /// The newest version, and its number.
    pub(crate) fn newest(&self) -> (u32, &Secret) {
        // Bounded by `MAX_VERSIONS` where a version is added.
        let version = u32::try_from(self.secrets.len()).unwrap_or(u32::MAX);
        (version, &self.secrets[self.secrets.len() - 1])
    }

    /// A version of it.
    pub(crate) fn version(&self, version: u32) -> Result<&Secret, LedgerError> {
        let position = usize::try_from(version)
            .ok()
            .and_then(|version| version.checked_sub(1));
        position
            .and_then(|position| self.secrets.get(position))
            .ok_or_else(|| {
                LedgerError::Damaged("a version of the key of a record is missing".into())
            })
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }
    pub(crate) fn set_durable(&self) {
        self.durable.store(true, Ordering::Release);
    }
    /// Whether somebody else turned out to have made the patient's key first.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }
    pub(crate) fn set_stale(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

/// Who keeps what was opened with keys, and lets go of it when keys are forgotten: see [`Ledger::tell_forgotten`].
///
/// [`Ledger::tell_forgotten`]: crate::Ledger::tell_forgotten
pub trait KeepsOpened: Send + Sync {
    /// Keys have been forgotten, by now so many times. It is called where keys are destroyed, so it must be quick,
    /// and must not ask the ledger for anything.
    fn keys_forgotten(&self, times: u64);
}

/// Data keys that were used lately. Two generations: what is used moves into the young one; when
/// that is full, the old one is dropped.
pub(crate) struct DataKeys {
    generations: Mutex<Generations>,
    half_capacity: usize,
    /// Who is told that keys are forgotten.
    keepers: Mutex<Vec<Weak<dyn KeepsOpened>>>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<SubjectKey, Arc<DataKey>>,
    old: HashMap<SubjectKey, Arc<DataKey>>,
    /// How often a key has been forgotten: one that was read before may be that one.
    forgotten: u64,
}

impl DataKeys {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            generations: Mutex::default(),
            half_capacity: (capacity / 2).max(1),
            keepers: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a key that has been destroyed, has another version, or is not the patient's.
    pub(crate) fn forget(&self, row: &SubjectKey) {
        self.forget_some(|generations| {
            generations.young.remove(row);
            generations.old.remove(row);
        });
    }
}

impl DataKeys {
    /// How often keys have been forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// From here on somebody is told when keys are forgotten, as long as they are there.
    pub(crate) fn tell(&self, keeper: Weak<dyn KeepsOpened>) {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        keepers.retain(|keeper| keeper.strong_count() > 0);
        keepers.push(keeper);
    }

    /// Forgets, and tells who keeps what was opened. The count is higher before they hear of it: what somebody opens
    /// meanwhile is known to be of before.
    fn forget_some(&self, forget: impl FnOnce(&mut Generations)) {
        let times = {
            let mut generations = self.lock();
            generations.forgotten += 1;
            forget(&mut generations);
            generations.forgotten
        };
        let keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        let there: Vec<_> = keepers.iter().filter_map(Weak::upgrade).collect();
        drop(keepers);
        for keeper in there {
            keeper.keys_forgotten(times);
        }
    }

    /// Forgets the keys of a tenant, whose secrets have been destroyed.
    pub(crate) fn forget_tenant(&self, tenant: TenantId) {
        self.forget_some(|Generations { young, old, .. }| {
            for keys in [young, old] {
                keys.retain(|row, _| row.tenant != tenant);
            }
        });
    }

    /// Forgets the keys of some shards, of which others have destroyed or rotated some. Those that are
    /// not stored yet are nobody else's.
    pub(crate) fn forget_shards(&self, shards: &BTreeSet<Shard>) {
        self.forget_some(|Generations { young, old, .. }| {
            for keys in [young, old] {
                keys.retain(|row, key| {
                    let elsewhere = row.home.0.is_some_and(|home| !shards.contains(&home));
                    elsewhere || !key.is_durable()
                });
            }
        });
    }
}

impl Core {
    /// The patient's key for writing; a new one where there is none yet. A new key is not stored
    /// here: it goes into the commit that uses it first, wrapped by the writer.
    pub(crate) fn key_for_writing(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
    ) -> Result<Arc<DataKey>, LedgerError> {
        // Who writes has to know where the row lies.
        let does = |key: &DataKey| key.row.home.0.is_some();
        self.find_key(backend, keys, row, does, || {
            let mut secret = [0; 32];
            self.entropy.fill(&mut secret);
            Ok(DataKey::new(row, vec![secret], false))
        })
    }

    /// The patient's key for reading something that this version of it sealed.
    pub(crate) fn key_for_reading(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
        version: u32,
    ) -> Result<Arc<DataKey>, LedgerError> {
        // Another process may have made the version since the key was read, or the key itself while one
        // that was made here waits to be written: what is stored was sealed by what is stored.
        let does = |key: &DataKey| key.is_durable() && key.newest().0 >= version;
        self.find_key(backend, keys, row, does, || {
            Err(LedgerError::Damaged(
                "the key of a record is missing".into(),
            ))
        })
    }

    /// The key in the cache if it does, or else in the store, or else the one that `absent` makes. The
    /// store is asked without the lock, since it may be across a network; what it says counts only if
    /// no key was forgotten meanwhile, so that none gets into the cache after [`DataKeys::forget`].
    fn find_key(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
        does: impl Fn(&DataKey) -> bool,
        absent: impl Fn() -> Result<DataKey, LedgerError>,
    ) -> Result<Arc<DataKey>, LedgerError> {
        let half_capacity = self.data_keys.half_capacity;
        loop {
            let forgotten = {
                let mut generations = self.data_keys.lock();
                match generations.get(&row, half_capacity) {
                    Some(key) if does(&key) => return Ok(key),
                    _ => generations.forgotten,
                }
            };
            let loaded = self.load_key(backend, keys, row)?;
            let mut generations = self.data_keys.lock();
            if generations.forgotten != forgotten {
                continue;
            }
            // Somebody else may have been faster, and what they made is in use already.
            if let Some(key) = generations.get(&row, half_capacity).filter(|key| does(key)) {
                return Ok(key);
            }
            let key = loaded.map_or_else(&absent, Ok)?;
            return Ok(generations.insert(key, half_capacity));
        }
    }

    /// Loads keys that will be needed and are not in the cache, in one round trip. What can't be loaded
    /// is told to who then asks for it.
    pub(crate) fn warm_keys(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        rows: impl IntoIterator<Item = SubjectKey>,
    ) -> Result<(), LedgerError> {
        let half_capacity = self.data_keys.half_capacity;
        let rows: BTreeSet<SubjectKey> = rows.into_iter().collect();
        let (missing, forgotten) = {
            let mut generations = self.data_keys.lock();
            let missing: Vec<SubjectKey> = (rows.into_iter())
                .filter(|row| generations.get(row, half_capacity).is_none())
                .collect();
            (missing, generations.forgotten)
        };
        if missing.len() < 2 {
            return Ok(());
        }
        let store = backend.now();
        store.enter(keys.tenant);
        for (row, stored) in missing.iter().zip(store.keys(&missing)?) {
            let Some(KeyRow::Wrapped(wrapped)) = stored else {
                continue;
            };
            let Ok(key) = self.unwrap_key(backend, keys, *row, &wrapped) else {
                continue;
            };
            let mut generations = self.data_keys.lock();
            // One that was forgotten meanwhile may be this one.
            if generations.forgotten == forgotten && generations.get(row, half_capacity).is_none() {
                generations.insert(key, half_capacity);
            }
        }
        Ok(())
    }

    fn load_key(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
    ) -> Result<Option<DataKey>, LedgerError> {
        let rows = backend.now();
        rows.enter(row.tenant);
        match rows.key(&row)? {
            None => Ok(None),
            Some(KeyRow::Destroyed { .. }) => Err(LedgerError::KeyDestroyed),
            Some(KeyRow::Wrapped(wrapped)) => {
                self.unwrap_key(backend, keys, row, &wrapped).map(Some)
            }
        }
    }

    /// Takes a key row apart.
    pub(crate) fn unwrap_key(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        row: SubjectKey,
        wrapped: &[u8],
    ) -> Result<DataKey, LedgerError> {
        let sealing = self.sealing_keys(backend, keys, wrapped_by(wrapped)?)?;
        DataKey::unwrap(row, &sealing, wrapped)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SystemEntropy, TenantId};

    #[test]
    fn keys_come_back_from_their_rows_and_from_no_others() {
        let tenant = TenantKeys::derive(TenantId(1), &[1; 32]).with(&[2; 32]);
        let (first, second) = (
            tenant.sealing(1).unwrap().clone(),
            tenant.sealing(2).unwrap().clone(),
        );
        let (row, other) = (tenant.subject_key("p"), tenant.subject_key("q"));
        let one = DataKey::new(row, vec![[7; 32]], true);
        let two = one.grown(&SystemEntropy).unwrap();
        for key in [&one, &two] {
            for (keys, wrong) in [(&first, &second), (&second, &first)] {
                let wrapped = key.wrap(keys, &SystemEntropy);
                assert_eq!(wrapped_by(&wrapped).unwrap(), keys.version);
                let opened = DataKey::unwrap(row, keys, &wrapped).unwrap();
                assert_eq!(opened.secrets, key.secrets);
                assert!(DataKey::unwrap(row, wrong, &wrapped).is_err());
                assert!(DataKey::unwrap(other, keys, &wrapped).is_err());
                for cut in 0..wrapped.len() {
                    assert!(
                        DataKey::unwrap(row, keys, &wrapped[..cut]).is_err(),
                        "{cut}"
                    );
                }
            }
        }
        // What the version before can read, it gets.
        assert_eq!(one.wrap(&first, &SystemEntropy).len(), FIRST_FORMAT_BYTES);
        assert_eq!(two.newest().0, 2);
        assert_eq!(two.version(1).unwrap(), &[7; 32]);
        for missing in [0, 3, u32::MAX] {
            assert!(matches!(two.version(missing), Err(LedgerError::Damaged(_))));
        }
    }

    #[test]
    fn versions_of_a_key_are_bounded() {
        let row = TenantKeys::derive(TenantId(1), &[1; 32]).subject_key("p");
        let mut key = DataKey::new(row, vec![[7; 32]], true);
        for _ in 1..MAX_VERSIONS {
            key = key.grown(&SystemEntropy).unwrap();
        }
        assert!(matches!(
            key.grown(&SystemEntropy),
            Err(LedgerError::Invalid(_))
        ));
    }
}
