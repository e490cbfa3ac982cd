//! Rotating the keys of tokens while everything goes on: a new outer layer is put on all tokens that are
//! written from then on, and those that are there are moved behind it, some documents at a time. Nothing
//! of it asks what a token stands for.

use std::collections::HashMap;

use crate::backend::{Backend, SharedStore, Snapshot, Table, Write};
use crate::bootstrap::{opens, rotated_store_row, wrap};
use crate::keys::TenantKeys;
use crate::outer::{LayerState, LayerStates, Moving, put_on, take_off, token_key_row};
use crate::plan::{NewLayer, Retoken, Retokening};
use crate::rows::{Header, SealedBy};
use crate::writer::Request;
use crate::{Hit, Ledger, LedgerError, Number, Shard, TenantId, Token};

/// Documents of the first batch, and of the largest: some ten milliseconds of the writer's time.
const FIRST_BATCH: usize = 8;
const LARGEST_BATCH: usize = 256;
/// Documents looked at for a list of tokens at once.
const PAGE: usize = 1024;
/// Documents without a list whose postings are looked for in one walk through all postings.
const WINDOW: usize = 65_536;
/// Lists written in one batch.
const LISTS: usize = 512;

/// How far a rotation of a tenant's token keys is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRotation {
    /// The version of the keys that it rotates to.
    pub version: u32,
    /// Document versions looked at since this call began.
    pub documents: u64,
}

const START: Hit = Hit {
    number: Number(0),
    shard: Shard(0),
};

impl Ledger {
    /// Rotates the keys of a tenant's search tokens: what is written from now on lies under a new one, and
    /// what is there is moved under it while commits and searches go on. A search finds the same before,
    /// meanwhile and afterwards. At the end the key before is destroyed.
    ///
    /// A rotation that is cut short goes on with [`Ledger::continue_token_rotation`]; one that is under way
    /// is finished first. From the first one on programs that know no rotation refuse the store.
    ///
    /// # Errors
    /// `Invalid` for a store that is spread over Citus, `UnknownTenant`, `Damaged` when a document's list of tokens is missing, `RootKey` when another
    /// process has rotated the root key since this one opened the store, `Storage`, `Closed`; what was done
    /// stays done.
    pub async fn rotate_token_keys(
        &self,
        tenant: TenantId,
        progress: &(dyn Fn(TokenRotation) + Send + Sync),
    ) -> Result<TokenRotation, LedgerError> {
        let core = self.core();
        self.tenant_keys(tenant)?;
        // A search has to see the postings as they were when it was told where they lie.
        if (self.backend()?.shared()).is_some_and(SharedStore::is_spread) {
            return Err(LedgerError::Invalid(
                "token keys of a store on Citus don't rotate: it has no one moment over its servers",
            ));
        }
        self.continue_token_rotation(tenant, progress).await?;
        self.list_what_has_no_list(tenant).await?;
        let version = {
            let _alone = self.changing_secrets().await;
            let snapshot = self.backend()?.snapshot();
            let root_wrap = core.root_wrap();
            opens(&*snapshot, &root_wrap)?;
            let version = LayerStates::read(&*snapshot)?.of(tenant).version + 1;
            let mut secret = [0; 32];
            core.entropy.fill(&mut secret);
            let name = token_key_row(tenant, version);
            let wrapped = wrap(&root_wrap, &*core.entropy, &name, &secret);
            let rows = vec![(name, wrapped), rotated_store_row(&*snapshot)?];
            drop(snapshot);
            let layer = NewLayer {
                tenant,
                version,
                root_wrap,
                rows,
            };
            // If another process was faster, its rotation is gone on with.
            self.ask(1, |reply| Request::StartLayer(layer, reply))
                .await?;
            version
        };
        let done = self.continue_token_rotation(tenant, progress).await?;
        Ok(done.unwrap_or(TokenRotation {
            version,
            documents: 0,
        }))
    }

    /// Goes on with a rotation of a tenant's token keys where it was cut short; `None` when there is none
    /// under way. May run beside commits and reads, and beside itself.
    ///
    /// # Errors
    /// As [`Ledger::rotate_token_keys`].
    pub async fn continue_token_rotation(
        &self,
        tenant: TenantId,
        progress: &(dyn Fn(TokenRotation) + Send + Sync),
    ) -> Result<Option<TokenRotation>, LedgerError> {
        let mut done: Option<TokenRotation> = None;
        let mut batch = FIRST_BATCH;
        loop {
            let backend = self.backend()?;
            let snapshot = backend.snapshot();
            let from = LayerStates::read(&*snapshot)?.of(tenant);
            let Some(moving) = from.moving else {
                break;
            };
            let page = snapshot.places(moving.after, batch)?;
            let is_last =
                page.len() < batch || page.last().is_some_and(|at| at.number > moving.through);
            let places: Vec<Hit> = (page.iter().copied())
                .filter(|at| at.number <= moving.through)
                .collect();
            let rows = self.moved(&*backend, &*snapshot, tenant, from, &places)?;
            drop(snapshot);
            let version = from.version;
            let looked_at = TokenRotation {
                version,
                documents: done.map_or(0, |done| done.documents) + places.len() as u64,
            };
            let after = places.last().copied().unwrap_or(moving.after);
            let (moving, metas) = if is_last {
                // The first layer is none and has no key.
                let key = (version > 2).then(|| (token_key_row(tenant, version - 1), Vec::new()));
                (None, key.into_iter().collect())
            } else {
                (Some(Moving { after, ..moving }), Vec::new())
            };
            let retokening = Retokening {
                tenant,
                from,
                to: LayerState { version, moving },
                rows,
                metas,
            };
            self.ask(64, |reply| Request::Retoken(retokening, reply))
                .await?;
            batch = (batch * 2).min(LARGEST_BATCH);
            done = Some(looked_at);
            #[allow(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("ledger_token_rotation_documents").set(looked_at.documents as f64);
            progress(looked_at);
            tokio::task::yield_now().await;
        }
        if let Some(done) = done {
            self.core().layers.forget_before(tenant, done.version);
            // Before the second version there is no key to destroy.
            if done.version > 2 {
                self.scrub().await?;
            }
        }
        Ok(done)
    }

    /// Lists of tokens at some places, behind the newest layer instead of the one before.
    fn moved(
        &self,
        backend: &dyn Backend,
        snapshot: &dyn Snapshot,
        tenant: TenantId,
        state: LayerState,
        places: &[Hit],
    ) -> Result<Vec<Retoken>, LedgerError> {
        let core = self.core();
        let keys = self.tenant_keys(tenant)?;
        let before = core.layer(snapshot, tenant, state.version - 1)?;
        let newest = core.layer(snapshot, tenant, state.version)?;
        let mut rows = Vec::new();
        for at in places.iter().copied() {
            let row = document(snapshot, at)?;
            let (header, _) = Header::decode(&row)?;
            if header.key.tenant != tenant {
                continue;
            }
            let listed = snapshot.posted(at)?;
            // A deleted version has no tokens, and one that was superseded has them only as long as a
            // backup waits for them.
            if listed.is_empty() {
                self.must_have_none(snapshot, at, &header)?;
                continue;
            }
            let key = match header.sealed_by {
                // Written once: no other version can follow.
                SealedBy::Audit => None,
                _ => Some(self.name_of(backend, &keys, at, &header, &row)?),
            };
            let tokens = (listed.iter())
                .map(|token| put_on(&newest, take_off(&before, *token)))
                .collect();
            rows.push(Retoken {
                at,
                key,
                listed,
                tokens,
            });
        }
        Ok(rows)
    }

    /// A document's name, with the shard that keeps its row where a store is spread by shards: that
    /// follows from the id, which is sealed. Of one that can't be opened any more there is no id, and no
    /// other version follows it under its owner.
    pub(crate) fn name_of(
        &self,
        backend: &dyn Backend,
        keys: &TenantKeys,
        at: Hit,
        header: &Header,
        row: &[u8],
    ) -> Result<crate::backend::HeadKey, LedgerError> {
        if backend.shared().is_none() {
            return Ok(header.key);
        }
        match self.core().open_row(backend, keys, at, row) {
            Ok((header, stored)) => Ok(keys.head_key(header.kind, &stored.id)),
            Err(LedgerError::KeyDestroyed) => Ok(header.key),
            Err(error) => Err(error),
        }
    }

    /// Whether a document without a list is one that has none.
    fn must_have_none(
        &self,
        snapshot: &dyn Snapshot,
        at: Hit,
        header: &Header,
    ) -> Result<(), LedgerError> {
        let is_living =
            !header.deleted && (snapshot.head(&header.key)?).is_some_and(|head| head.at == at);
        if is_living {
            return Err(LedgerError::Damaged(format!(
                "document {}/{} has no list of its tokens; run `cairn doctor --repair`",
                at.shard, at.number.0
            )));
        }
        Ok(())
    }

    /// Gives audit documents of an earlier program, which wrote no lists of their tokens, such lists.
    async fn list_what_has_no_list(&self, tenant: TenantId) -> Result<(), LedgerError> {
        let mut window: HashMap<Hit, Vec<Token>> = HashMap::new();
        let mut place = START;
        loop {
            let snapshot = self.backend()?.snapshot();
            let page = snapshot.places(place, PAGE)?;
            let is_last = page.len() < PAGE;
            place = page.last().copied().unwrap_or(place);
            for at in page {
                let (header, _) = Header::decode(&document(&*snapshot, at)?)?;
                if header.key.tenant == tenant
                    && header.sealed_by == SealedBy::Audit
                    && snapshot.posted(at)?.is_empty()
                {
                    window.insert(at, Vec::new());
                }
            }
            if window.len() >= WINDOW || is_last {
                find_postings(&*snapshot, &mut window)?;
                drop(snapshot);
                self.list(tenant, std::mem::take(&mut window)).await?;
            }
            if is_last {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn list(
        &self,
        tenant: TenantId,
        found: HashMap<Hit, Vec<Token>>,
    ) -> Result<(), LedgerError> {
        let mut rows: Vec<Retoken> = (found.into_iter())
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(at, tokens)| Retoken {
                at,
                key: None,
                listed: Vec::new(),
                tokens,
            })
            .collect();
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(LISTS));
            let state = LayerStates::read(&*self.backend()?.now())?.of(tenant);
            let retokening = Retokening {
                tenant,
                from: state,
                to: state,
                rows: std::mem::replace(&mut rows, rest),
                metas: Vec::new(),
            };
            // Where another process has begun to rotate, it has listed them before.
            self.ask(64, |reply| Request::Retoken(retokening, reply))
                .await?;
        }
        Ok(())
    }
}

pub(crate) fn document(snapshot: &dyn Snapshot, at: Hit) -> Result<Vec<u8>, LedgerError> {
    snapshot.document(at)?.ok_or_else(|| {
        LedgerError::Damaged(format!("document {}/{} is missing", at.shard, at.number.0))
    })
}

/// Finds the tokens of documents by going through all postings.
pub(crate) fn find_postings(
    snapshot: &dyn Snapshot,
    missing: &mut HashMap<Hit, Vec<Token>>,
) -> Result<(), LedgerError> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = snapshot.scan(Table::Posting, after.as_ref(), 4 * PAGE)?;
        for row in &page {
            if let Write::Posting { token, at } = row
                && let Some(tokens) = missing.get_mut(at)
            {
                tokens.push(*token);
            }
        }
        match page.into_iter().last() {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}
