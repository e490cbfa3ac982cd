//! Planning of what the rotation of token keys writes: a new layer, and lists of tokens that are moved
//! behind it.

use super::Group;
use crate::backend::{HeadKey, Touched, Write};
use crate::bootstrap::{ROOT, opens_row};
use crate::keys::Secret;
use crate::outer::{LayerState, LayerStates, Moving, TOKENS};
use crate::{Hit, LedgerError, Number, Shard, TenantId, Token};

/// Lists of tokens to take the place of others, each only if the one that was read is still there.
pub(crate) struct Retokening {
    pub(crate) tenant: TenantId,
    /// Where the tenant's layers stand, or nothing of it is done.
    pub(crate) from: LayerState,
    /// Where they stand with it.
    pub(crate) to: LayerState,
    pub(crate) rows: Vec<Retoken>,
    /// Further meta rows that are written with it, and whether what they overwrite is a secret.
    pub(crate) metas: Vec<(String, Vec<u8>)>,
}

/// One document of a [`Retokening`].
pub(crate) struct Retoken {
    pub(crate) at: Hit,
    /// The document's name; none where no other version can follow.
    pub(crate) key: Option<HeadKey>,
    /// The list as it was read; empty where there is only to be one.
    pub(crate) listed: Vec<Token>,
    pub(crate) tokens: Vec<Token>,
}

/// Another outer layer of a tenant's tokens.
pub(crate) struct NewLayer {
    pub(crate) tenant: TenantId,
    pub(crate) version: u32,
    /// What wraps its key: refused if that is not the store's any more.
    pub(crate) root_wrap: Secret,
    /// Meta rows that are written with it, its key's among them.
    pub(crate) rows: Vec<(String, Vec<u8>)>,
}

impl Retokening {
    /// Adds the documents' rows, the shards that they lie in, and the one of the row of layers.
    pub(crate) fn touches(&self, touched: &mut Touched) {
        touched.shards.insert(Shard(0));
        for row in &self.rows {
            touched.shards.insert(row.at.shard);
            touched.posted.insert(row.at);
            if let Some(key) = row.key
                && let Some(home) = key.home.0
            {
                touched.shards.insert(home);
                touched.heads.insert(key);
            }
        }
    }
}

impl Group<'_> {
    /// Where a tenant's layers stand.
    pub(crate) fn layer_state(&mut self, tenant: TenantId) -> Result<LayerState, LedgerError> {
        if self.layers.is_none() {
            self.layers = Some(LayerStates::read(self.snapshot)?);
        }
        Ok(self.layers.as_ref().map_or_else(
            || LayerStates::default().of(tenant),
            |states| states.of(tenant),
        ))
    }

    /// Numbers that are given out from here on are above this one.
    pub(crate) fn raise(&mut self, number: Number) {
        self.planned.last = self.planned.last.max(number);
    }

    fn set_layer_state(&mut self, tenant: TenantId, state: LayerState) {
        let mut states = self.layers.take().unwrap_or_default();
        states.set(tenant, state);
        self.add_meta(TOKENS, states.encode());
        self.layers = Some(states);
    }

    /// Puts another layer on the tokens of a tenant's documents from here on; whether nobody else was
    /// faster.
    pub(crate) fn start_layer(&mut self, layer: NewLayer) -> Result<bool, LedgerError> {
        let NewLayer {
            tenant,
            version,
            root_wrap,
            rows: metas,
        } = layer;
        opens_row(&self.meta(ROOT)?.unwrap_or_default(), &root_wrap)?;
        let before = self.layer_state(tenant)?;
        if before.version + 1 != version || before.moving.is_some() {
            return Ok(false);
        }
        let moving = Some(Moving {
            through: self.planned.last,
            after: Hit {
                number: Number(0),
                shard: Shard(0),
            },
        });
        self.set_layer_state(tenant, LayerState { version, moving });
        for (name, value) in metas {
            self.add_meta(&name, value);
        }
        Ok(true)
    }

    /// Puts lists of tokens, and their postings, in the place of others; not if somebody else has done it.
    /// Comes after all commits of the group.
    pub(crate) fn retoken(&mut self, retokening: Retokening) -> Result<bool, LedgerError> {
        let Retokening {
            tenant,
            from,
            to,
            rows,
            metas,
        } = retokening;
        if self.layer_state(tenant)? != from {
            return Ok(false);
        }
        let (mut writes, mut relisted) = (Vec::new(), Vec::new());
        for Retoken {
            at,
            key,
            listed,
            tokens,
        } in rows
        {
            let newest = match key {
                None => true,
                Some(key) => {
                    let head = match self.heads.get(&key) {
                        Some(head) => Some(*head),
                        None => self.snapshot.head(&key)?,
                    };
                    head.is_some_and(|head| head.at == at)
                }
            };
            // What was superseded in this group is on its way out, unless a backup waits for it.
            let is_going = !newest && !self.state.redo.on;
            if is_going || self.relisted.contains(&at) || self.snapshot.posted(at)? != listed {
                continue;
            }
            let add = tokens.iter().filter(|token| !listed.contains(token));
            if !newest {
                // Its postings went when it was superseded. Those that have no row of their own yet are told
                // from its list when the store is opened next, so that none of these is one has to be said
                // after it.
                writes.extend(add.map(|token| Write::DropPosting { token: *token, at }));
            } else if !listed.is_empty() {
                let drop = listed.iter().filter(|token| !tokens.contains(token));
                writes.extend(drop.map(|token| Write::DropPosting { token: *token, at }));
                writes.extend(add.map(|token| Write::Posting { token: *token, at }));
            }
            relisted.push(at);
            writes.push(Write::Posted { at, tokens });
        }
        // From here on nothing fails.
        self.relisted.extend(relisted);
        self.rows.append(&mut writes);
        if from != to {
            self.set_layer_state(tenant, to);
        }
        if !metas.is_empty() {
            self.scrub_is_due();
        }
        for (name, value) in metas {
            self.add_meta(&name, value);
        }
        Ok(true)
    }
}
