//! The hierarchy of keys: root key → tenant's secrets → what is derived from them. The patients' random
//! data keys, which the tenant wraps, are in `data_keys.rs`.

use std::sync::Arc;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};

use crate::backend::{Blind, HeadKey, Home, SubjectKey};
use crate::{Kind, TenantId};

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
pub(crate) fn derive(secret: &Secret, info: &[&[u8]]) -> Secret {
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

/// What one version of a tenant's secret gives to seal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealingKeys {
    /// From 1.
    pub(crate) version: u32,
    pub(crate) audit: Secret,
    pub(crate) common: Secret,
    pub(crate) wrap: Secret,
}

impl SealingKeys {
    fn derive(tenant: TenantId, version: u32, secret: &Secret) -> Self {
        let key = |purpose: &[u8]| derive_for(secret, purpose, &tenant.0.to_be_bytes());
        Self {
            version,
            audit: key(b"audit"),
            common: key(b"common"),
            wrap: key(b"wrap"),
        }
    }
}

/// What a tenant's secrets give. Names come from the first one for ever: a document is found under the
/// keyed hash of its id, and its shard may follow from one. What seals comes from each in turn.
#[derive(Clone)]
pub(crate) struct TenantKeys {
    pub(crate) tenant: TenantId,
    pub(crate) token: Secret,
    pub(crate) id: Secret,
    subject: Secret,
    /// Version 1 first; never empty.
    sealing: Vec<Arc<SealingKeys>>,
}

impl TenantKeys {
    /// The keys of a tenant that has one secret.
    pub(crate) fn derive(tenant: TenantId, secret: &Secret) -> Self {
        let key = |purpose: &[u8]| derive_for(secret, purpose, &tenant.0.to_be_bytes());
        Self {
            tenant,
            token: key(b"token"),
            id: key(b"id"),
            subject: key(b"subject"),
            sealing: vec![Arc::new(SealingKeys::derive(tenant, 1, secret))],
        }
    }

    /// The same with one secret more.
    pub(crate) fn with(mut self, secret: &Secret) -> Self {
        let version = self.newest().version + 1;
        let keys = SealingKeys::derive(self.tenant, version, secret);
        self.sealing.push(Arc::new(keys));
        self
    }

    /// What seals from now on.
    pub(crate) fn newest(&self) -> &Arc<SealingKeys> {
        &self.sealing[self.sealing.len() - 1]
    }

    /// All versions, oldest first.
    pub(crate) fn each_sealing(&self) -> impl DoubleEndedIterator<Item = &Arc<SealingKeys>> {
        self.sealing.iter()
    }

    /// What sealed then, if this process knows the version.
    pub(crate) fn sealing(&self, version: u32) -> Option<&Arc<SealingKeys>> {
        let position = usize::try_from(version.checked_sub(1)?).ok()?;
        self.sealing.get(position)
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
            home: Home(Some(self.own_shard(id))),
        }
    }

    /// Stands for a patient in rows of keys and headers.
    pub(crate) fn subject_key(&self, patient: &str) -> SubjectKey {
        let hash = blake3::keyed_hash(&self.subject, patient.as_bytes());
        SubjectKey {
            tenant: self.tenant,
            subject: half(&hash),
            home: Home(Some(self.own_shard(patient))),
        }
    }
}

fn half(hash: &blake3::Hash) -> Blind {
    let mut blind = [0; 16];
    blind.copy_from_slice(&hash.as_bytes()[..16]);
    blind
}
