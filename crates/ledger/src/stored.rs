//! How many documents a tenant stores, where it may store so many: those of FHIR that are there, in whatever
//! version; audit records and the store's own kinds are not counted.
//!
//! Each process counts what it adds and takes away in a meta row of its own, in the batch that does it, so nobody
//! waits for a row that others count in. What was there before is counted once, when the bound is set, and lies in
//! another row; the sum of all is the number. Where nothing is bounded nothing is counted.

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

/// The row of what a process has added since; of a store that is one process's there is one.
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
    /// The row that this process counts in.
    pub(crate) row: String,
    /// How many there may be; nothing until those that were there have been counted.
    pub(crate) most: Option<u64>,
    /// How many all other rows count.
    pub(crate) others: i64,
}

/// The sum of a tenant's rows but one, and whether what was there before is among them.
fn others(rows: &dyn Snapshot, tenant: TenantId, but: &str) -> Result<(i64, bool), LedgerError> {
    let base = base_row(tenant);
    let (mut sum, mut is_counted) = (0_i64, false);
    for (name, row) in rows.metas(&base)? {
        if name != but {
            sum = sum.saturating_add(decode(Some(&row))?);
        }
        is_counted |= name == base && !row.is_empty();
    }
    Ok((sum, is_counted))
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
    let (others, is_counted) = others(rows, tenant.id, &row)?;
    Ok(Some(Room {
        row,
        most: is_counted.then_some(most),
        others,
    }))
}

impl Ledger {
    /// How many documents a tenant stores, as far as they are counted: where it may store so many. Nothing where
    /// they are not, or those of before have yet to be.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn stored(&self, tenant: TenantId) -> Result<Option<u64>, LedgerError> {
        let (sum, is_counted) = others(&*self.backend()?.now(), tenant, "")?;
        Ok(is_counted.then(|| u64::try_from(sum).unwrap_or(0)))
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
        let (since, _) = others(view.rows(), tenant, &base_row(tenant))?;
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
