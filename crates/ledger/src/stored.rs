//! How many documents a tenant stores, where it may store so many: those of FHIR that are there, in whatever
//! version; audit records and the store's own kinds are not counted.
//!
//! Each writer of each process counts what it adds and takes away in a meta row of its own, in the batch that does it,
//! so nobody waits for a row that others count in, and a row that is not there yet is nobody else's to write. What was
//! there before is counted once, when the bound is set, and lies in another row; the sum of all is the number. Where
//! nothing is bounded nothing is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Blind, Snapshot};
use crate::codec::Decoder;
use crate::reads::MAX_ROWS;
use crate::root_key::encode_hex;
use crate::shared::Core;
use crate::writer::Request;
use crate::{Kind, Ledger, LedgerError, Query, Tenant, TenantId};

/// How the names of the rows begin.
pub(crate) const STORED: &str = "stored/";
/// Kinds below are FHIR's.
pub(crate) const OWN_KINDS: u16 = 1000;

/// The row of what was there when it was counted.
fn base_row(tenant: TenantId) -> String {
    format!("{STORED}{:08x}", tenant.0)
}

/// The row of what a process has added since, which its writers' begin with where it has several; of a store that is
/// one process's there is one.
fn own_row(tenant: TenantId, node: Option<Blind>) -> String {
    format!(
        "{}/{}",
        base_row(tenant),
        encode_hex(&node.unwrap_or_default())
    )
}

/// What a row counts; nothing for one that is not there, or was taken away.
pub(crate) fn decode(row: Option<&[u8]>) -> Result<i64, LedgerError> {
    match row {
        None | Some([]) => Ok(0),
        Some(row) => {
            let mut decoder = Decoder::new(row, "stored");
            let count = i64::from_be_bytes(decoder.array()?);
            decoder.end()?;
            Ok(count)
        }
    }
}

pub(crate) fn encode(count: i64) -> Vec<u8> {
    count.to_be_bytes().to_vec()
}

/// What a commit has to know of what its tenant stores.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// The row that its writer counts in.
    pub(crate) row: String,
    /// How many there may be; nothing until those that were there have been counted.
    pub(crate) most: Option<u64>,
    /// How many the rows of others count.
    pub(crate) others: i64,
    /// What this process counts.
    pub(crate) own: Own,
}

impl Room {
    /// For one of several writers.
    pub(crate) fn in_lane(&mut self, lane: usize) {
        self.row = format!("{}/{lane}", self.row);
    }
}

/// What each row of this process counts, as far as its writers have planned: they don't see each other's rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own(Arc<Mutex<HashMap<String, Count>>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    count: i64,
    /// Whether it was planned since the rows were read.
    is_new: bool,
}

impl Own {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans what a row is to count, if `may` says so of what the other rows of the process count.
    pub(crate) fn plan<E>(
        &self,
        row: &str,
        count: i64,
        may: impl FnOnce(i64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut counts = self.counts();
        let rest = counts.iter().filter(|(name, _)| *name != row);
        may(rest.fold(0_i64, |sum, (_, rest)| sum.saturating_add(rest.count)))?;
        counts.insert(
            row.to_owned(),
            Count {
                count,
                is_new: true,
            },
        );
        Ok(())
    }

    /// Takes in what the rows say, but for those with something on its way.
    fn read(&self, rows: &HashMap<String, i64>) {
        let mut counts = self.counts();
        counts.retain(|name, count| count.is_new || rows.contains_key(name));
        for (name, read) in rows {
            let known = counts.entry(name.clone()).or_insert(Count {
                count: *read,
                is_new: false,
            });
            if !known.is_new {
                known.count = *read;
            }
        }
        counts.values_mut().for_each(|count| count.is_new = false);
    }
}

/// What a tenant's rows count.
#[derive(Default)]
struct Counts {
    /// Those of this process, each by itself.
    own: HashMap<String, i64>,
    others: i64,
    /// Whether what was there before is among them.
    is_counted: bool,
}

/// Reads a tenant's rows; `own` is how the names of those begin that are told apart.
fn read(rows: &dyn Snapshot, tenant: TenantId, own: Option<&str>) -> Result<Counts, LedgerError> {
    let base = base_row(tenant);
    let mut counts = Counts::default();
    for (name, row) in rows.metas(&base)? {
        let count = decode(Some(&row))?;
        counts.is_counted |= name == base && !row.is_empty();
        if own.is_some_and(|own| name.starts_with(own)) {
            counts.own.insert(name, count);
        } else {
            counts.others = counts.others.saturating_add(count);
        }
    }
    Ok(counts)
}

/// What commits of a tenant have to know; nothing where it has no bound.
pub(crate) fn room(
    core: &Core,
    rows: &dyn Snapshot,
    tenant: &Tenant,
) -> Result<Option<Room>, LedgerError> {
    let Some(most) = tenant.quota.documents.filter(|_| tenant.is_there()) else {
        return Ok(None);
    };
    let row = own_row(tenant.id, core.is_shared().then_some(core.held.node));
    let counts = read(rows, tenant.id, Some(&row))?;
    let own = core.room(tenant.id).map(|room| room.own);
    let own = own.unwrap_or_default();
    own.read(&counts.own);
    Ok(Some(Room {
        row,
        most: counts.is_counted.then_some(most),
        others: counts.others,
        own,
    }))
}

impl Ledger {
    /// How many documents a tenant stores, as far as they are counted: where it may store so many. Nothing where
    /// they are not, or those of before have yet to be.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn stored(&self, tenant: TenantId) -> Result<Option<u64>, LedgerError> {
        let counts = read(&*self.backend()?.now(), tenant, None)?;
        Ok((counts.is_counted).then(|| u64::try_from(counts.others).unwrap_or(0)))
    }

    /// Counts what is there of a tenant that may store so many documents, of these kinds; gives how many there are.
    /// To be called when the bound is set, and after a restore. What is being written in the same moment may be
    /// missed, or be counted twice.
    ///
    /// # Errors
    /// `UnknownTenant`, `Damaged`, `Storage`, `Closed`.
    pub async fn count_stored(&self, tenant: TenantId, kinds: &[Kind]) -> Result<u64, LedgerError> {
        // From here on this process counts what it adds.
        self.tenants().await?;
        let view = self.view()?;
        let counts = read(view.rows(), tenant, None)?;
        let before = decode(view.rows().meta(&base_row(tenant))?.as_deref())?;
        let since = counts.others.saturating_sub(before);
        let mut there = 0_i64;
        for kind in kinds {
            let query = Query::Token(self.kind_token(tenant, *kind));
            let mut before = None;
            loop {
                let hits = view.search(tenant, &query, before, None, MAX_ROWS).await?;
                there = there.saturating_add(i64::try_from(hits.len()).unwrap_or(i64::MAX));
                match hits.last() {
                    Some(last) if hits.len() == MAX_ROWS => before = Some(last.number),
                    _ => break,
                }
            }
        }
        let base = encode(there.saturating_sub(since));
        let rows = vec![(base_row(tenant), base)];
        self.ask(1, |reply| Request::Meta(rows, reply)).await?;
        self.tenants().await?;
        Ok(u64::try_from(there).unwrap_or(0))
    }

    /// Forgets what was counted of a tenant that has no bound any more.
    ///
    /// # Errors
    /// `Storage`, `Closed`.
    pub async fn forget_stored(&self, tenant: TenantId) -> Result<(), LedgerError> {
        let rows = vec![(base_row(tenant), Vec::new())];
        self.ask(1, |reply| Request::Meta(rows, reply)).await
    }
}
