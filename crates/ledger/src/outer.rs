//! The outer layer of tokens.
//!
//! Who asks for a token gets the inner one: a keyed hash of a value under the tenant's first secret, the
//! same for ever. What is stored is the inner one behind a keyed permutation, which can be taken off and
//! put on anew without knowing what the token stands for. Version 1 of it is no layer at all; each later
//! one has a random key of its own. Writers put the newest layer on; a search looks for each of its tokens
//! behind all layers that postings may be behind, as its own snapshot says it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use blowfish::Blowfish;
use blowfish::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::backend::Snapshot;
use crate::bootstrap::unwrap_32;
use crate::codec::{Decoder, put_varint};
use crate::keys::Secret;
use crate::shared::Core;
use crate::{Hit, LedgerError, Number, Shard, TenantId, Token};

/// The meta row of where the tenants' layers stand. There is none before the first rotation.
pub(crate) const TOKENS: &str = "tokens";
/// Meta rows of the layers' wrapped keys; empty once destroyed.
pub(crate) const TOKEN_KEY: &str = "token-key/";
const FORMAT: u8 = 1;

/// The meta row of a layer's wrapped key.
pub(crate) fn token_key_row(tenant: TenantId, version: u32) -> String {
    format!("{TOKEN_KEY}{:08x}/{version:08x}", tenant.0)
}

/// A keyed permutation of all 64-bit tokens.
pub(crate) struct Layer(Blowfish);

impl Layer {
    pub(crate) fn new(key: &Secret) -> Self {
        // 32 bytes are among the lengths of a key that the cipher takes, 4 to 56.
        #[allow(clippy::expect_used, reason = "32 bytes are a length that it takes")]
        Self(Blowfish::new_from_slice(key).expect("a key of 32 bytes"))
    }

    pub(crate) fn put_on(&self, token: Token) -> Token {
        let mut block = token.0.to_be_bytes().into();
        self.0.encrypt_block(&mut block);
        Token(u64::from_be_bytes(block.into()))
    }

    pub(crate) fn take_off(&self, token: Token) -> Token {
        let mut block = token.0.to_be_bytes().into();
        self.0.decrypt_block(&mut block);
        Token(u64::from_be_bytes(block.into()))
    }
}

/// Reads a meta row.
type ReadMeta<'a> = dyn Fn(&str) -> Result<Option<Vec<u8>>, LedgerError> + 'a;

/// A layer, or none.
pub(crate) type Outer = Option<Arc<Layer>>;

pub(crate) fn put_on(outer: &Outer, token: Token) -> Token {
    outer.as_ref().map_or(token, |layer| layer.put_on(token))
}

pub(crate) fn take_off(outer: &Outer, token: Token) -> Token {
    outer.as_ref().map_or(token, |layer| layer.take_off(token))
}

/// Tokens that are still behind the layer before the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moving {
    /// They are those of documents up to this number; later ones were written behind the newest.
    pub(crate) through: Number,
    /// Those of documents up to this place have been moved.
    pub(crate) after: Hit,
}

/// Where a tenant's layers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerState {
    pub(crate) version: u32,
    pub(crate) moving: Option<Moving>,
}

impl LayerState {
    /// Behind which layer the tokens of a document are listed.
    pub(crate) fn version_at(&self, at: Hit) -> u32 {
        match self.moving {
            Some(moving) if at > moving.after && at.number <= moving.through => self.version - 1,
            _ => self.version,
        }
    }

    /// All layers that tokens may be behind, the newest first.
    fn versions(&self) -> impl Iterator<Item = u32> {
        let before = self.moving.map(|_| self.version - 1);
        [Some(self.version), before].into_iter().flatten()
    }
}

/// Where the layers of all tenants stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LayerStates(BTreeMap<TenantId, LayerState>);

impl LayerStates {
    pub(crate) fn of(&self, tenant: TenantId) -> LayerState {
        let none = LayerState {
            version: 1,
            moving: None,
        };
        self.0.get(&tenant).copied().unwrap_or(none)
    }

    pub(crate) fn set(&mut self, tenant: TenantId, state: LayerState) {
        self.0.insert(tenant, state);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (TenantId, LayerState)> {
        self.0.iter().map(|(tenant, state)| (*tenant, *state))
    }

    /// As a snapshot has them.
    pub(crate) fn read(rows: &dyn Snapshot) -> Result<Self, LedgerError> {
        rows.layers()?
            .map_or_else(|| Ok(Self::default()), |row| Self::decode(&row))
    }

    /// format u8, count (variable), then for each tenant: tenant u32, version u32, whether it moves u8,
    /// and if it does: through u64, after: number u64, shard u16.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.0.len() as u64);
        for (tenant, state) in self.each() {
            out.extend_from_slice(&tenant.0.to_be_bytes());
            out.extend_from_slice(&state.version.to_be_bytes());
            out.push(state.moving.is_some().into());
            if let Some(Moving { through, after }) = state.moving {
                out.extend_from_slice(&through.0.to_be_bytes());
                out.extend_from_slice(&after.number.0.to_be_bytes());
                out.extend_from_slice(&after.shard.0.to_be_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, LedgerError> {
        let damaged = || LedgerError::Damaged("the meta row tokens does not decode".into());
        let mut decoder = Decoder::new(row, "tokens");
        if decoder.u8()? != FORMAT {
            return Err(damaged());
        }
        let count: usize = decoder.small()?;
        let mut states = Self::default();
        for _ in 0..count {
            let tenant = TenantId(decoder.u32()?);
            let version = decoder.u32()?;
            let moving = match decoder.u8()? {
                0 => None,
                1 => Some(Moving {
                    through: Number(decoder.u64()?),
                    after: Hit {
                        number: Number(decoder.u64()?),
                        shard: Shard(decoder.u16()?),
                    },
                }),
                _ => return Err(damaged()),
            };
            if version == 0 || version == 1 && moving.is_some() {
                return Err(damaged());
            }
            states.set(tenant, LayerState { version, moving });
        }
        decoder.end()?;
        Ok(states)
    }
}

/// Layers that were used lately.
#[derive(Default)]
pub(crate) struct LayerCache(RwLock<HashMap<(TenantId, u32), Arc<Layer>>>);

impl LayerCache {
    /// Forgets what a tenant's tokens are not behind any more.
    pub(crate) fn forget_before(&self, tenant: TenantId, version: u32) {
        let is_old = |key: &(TenantId, u32)| key.0 == tenant && key.1 < version;
        let has_old = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            known.keys().any(is_old)
        };
        if has_old {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            known.retain(|key, _| !is_old(key));
        }
    }
}

impl Core {
    /// A layer of a tenant, as a snapshot has it.
    pub(crate) fn layer(
        &self,
        rows: &dyn Snapshot,
        tenant: TenantId,
        version: u32,
    ) -> Result<Outer, LedgerError> {
        self.layer_of(&|name| rows.meta(name), tenant, version)
    }

    /// A layer of a tenant. `meta` reads from where it is said to be in use: the store may have its key no
    /// more, or not yet.
    pub(crate) fn layer_of(
        &self,
        meta: &ReadMeta<'_>,
        tenant: TenantId,
        version: u32,
    ) -> Result<Outer, LedgerError> {
        if version == 1 {
            return Ok(None);
        }
        let known = {
            let known = self.layers.0.read().unwrap_or_else(PoisonError::into_inner);
            known.get(&(tenant, version)).cloned()
        };
        if known.is_some() {
            return Ok(known);
        }
        let name = token_key_row(tenant, version);
        let is_there = |row: &Vec<u8>| !row.is_empty();
        let stored = self.backend()?.now().meta(&name)?.filter(is_there);
        let is_stored = stored.is_some();
        let wrapped = match stored {
            Some(wrapped) => Some(wrapped),
            None => meta(&name)?.filter(is_there),
        };
        let wrapped = wrapped.ok_or_else(|| {
            LedgerError::Damaged(format!(
                "version {version} of the key of a tenant's tokens is missing"
            ))
        })?;
        let layer = Arc::new(Layer::new(&unwrap_32(&self.root_wrap(), &name, &wrapped)?));
        // What is only about to be stored may come to nothing, and what was destroyed is not to be kept.
        if is_stored {
            let known = self.layers.0.write();
            let mut known = known.unwrap_or_else(PoisonError::into_inner);
            known.insert((tenant, version), Arc::clone(&layer));
        }
        Ok(Some(layer))
    }

    /// All layers that a tenant's tokens are behind in a snapshot.
    pub(crate) fn layers_in(
        &self,
        rows: &dyn Snapshot,
        tenant: TenantId,
    ) -> Result<Vec<Outer>, LedgerError> {
        let state = LayerStates::read(rows)?.of(tenant);
        if state.moving.is_none() {
            self.layers.forget_before(tenant, state.version);
        }
        (state.versions())
            .map(|version| self.layer(rows, tenant, version))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn at(number: u64, shard: u16) -> Hit {
        Hit {
            number: Number(number),
            shard: Shard(shard),
        }
    }

    #[test]
    fn a_layer_comes_off_and_no_other_does() {
        let (one, two) = (Layer::new(&[1; 32]), Layer::new(&[2; 32]));
        let mut seen = HashSet::new();
        for number in 0..2000_u64 {
            let token = Token(number);
            let covered = one.put_on(token);
            assert_eq!(one.take_off(covered), token);
            assert_ne!(two.take_off(covered), token);
            // No two become one, and little of the order is left.
            assert!(seen.insert(covered));
        }
        let rises = (0..2000).filter(|n| one.put_on(Token(*n)) < one.put_on(Token(n + 1)));
        assert!((800..1200).contains(&rises.count()));
        // A published vector: what is stored behind a layer must come off in every later program.
        let cipher = Layer(Blowfish::new_from_slice(&[0xff; 8]).unwrap());
        assert_eq!(cipher.put_on(Token(u64::MAX)), Token(0x5186_6fd5_b85e_cb8a));
    }

    #[test]
    fn states_come_back_and_cut_ones_are_damage() {
        let mut states = LayerStates::default();
        assert_eq!(states.of(TenantId(1)).version, 1);
        let moving = Moving {
            through: Number(9),
            after: at(5, 7),
        };
        states.set(
            TenantId(1),
            LayerState {
                version: 2,
                moving: Some(moving),
            },
        );
        states.set(
            TenantId(7),
            LayerState {
                version: 3,
                moving: None,
            },
        );
        let row = states.encode();
        assert_eq!(LayerStates::decode(&row).unwrap(), states);
        for length in 0..row.len() {
            assert!(LayerStates::decode(&row[..length]).is_err(), "{length}");
        }
        let state = states.of(TenantId(1));
        for (place, version) in [
            (at(5, 7), 2),
            (at(5, 8), 1),
            (at(9, 255), 1),
            (at(10, 0), 2),
            (at(1, 0), 2),
        ] {
            assert_eq!(state.version_at(place), version, "{place:?}");
        }
        assert_eq!(state.versions().collect::<Vec<_>>(), [2, 1]);
        assert_eq!(states.of(TenantId(7)).versions().collect::<Vec<_>>(), [3]);
    }
}
