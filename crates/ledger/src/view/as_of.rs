//! Reading what was there at an earlier moment, for who goes through many documents over a long time
//! and keeps no view open for it.

use super::{Head, Header, View, place_of};
use crate::backend::SharedStore;
use crate::keys::TenantKeys;
use crate::{Hit, LedgerError, Number, Stored, TenantId};

/// Documents that are opened at once: enough that a store behind a network is asked rarely.
const AT_ONCE: usize = 128;
/// Bytes of documents that are opened at once, unless a single one is larger.
const BYTES: usize = 4 << 20;

impl View {
    /// Opens documents that were found at some places, now or before, as they were at a number: the
    /// newest version that is not newer than `as_of`. As many of the first as are well opened at once,
    /// and at least one. `None` for what was not there then, or is deleted now.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`; of one document `KeyDestroyed`, `Damaged`.
    pub async fn fetch_as_of(
        &self,
        tenant: TenantId,
        places: &[Hit],
        as_of: Number,
    ) -> Result<Vec<Result<Option<Stored>, LedgerError>>, LedgerError> {
        let keys = self.enter(tenant)?;
        let places = &places[..places.len().min(AT_ONCE)];
        let rows = self.snapshot.documents(places, BYTES)?;
        let headers: Vec<Option<Header>> = (rows.iter())
            .map(|row| Some(Header::decode(row.as_ref()?).ok()?.0))
            .map(|header| header.filter(|header| header.key.tenant == tenant))
            .collect();
        let heads = self.heads_of(&keys, places, &headers)?;
        Ok((rows.into_iter().zip(headers).zip(places).zip(heads))
            .map(|(((row, header), at), head)| {
                let missing = || {
                    LedgerError::Damaged(format!(
                        "document {}/{} is missing",
                        at.shard, at.number.0
                    ))
                };
                let header = header.ok_or_else(missing)?;
                let head = head.ok_or_else(missing)?;
                self.as_it_was(&keys, (*at, row), &header, &head, as_of)
            })
            .collect())
    }

    fn as_it_was(
        &self,
        keys: &TenantKeys,
        (found, row): (Hit, Option<Vec<u8>>),
        header: &Header,
        head: &Head,
        as_of: Number,
    ) -> Result<Option<Stored>, LedgerError> {
        if head.deleted {
            return Ok(None);
        }
        // On several servers the head may be of a later moment than the place, never of an earlier one.
        let is_of_one_moment = !(self.backend.shared()).is_some_and(SharedStore::is_spread);
        let place = place_of(&*self.snapshot, &header.key, head, header.version)?;
        if place != Some(found) && is_of_one_moment {
            return Err(LedgerError::Damaged(format!(
                "document {}/{} lies in another's place",
                found.shard, found.number.0
            )));
        }
        let (mut at, mut row, mut version) = (found, row, header.version);
        while at.number > as_of {
            version -= 1;
            match place_of(&*self.snapshot, &header.key, head, version)? {
                Some(before) => at = before,
                None => return Ok(None),
            }
            row = None;
        }
        if row.is_none() {
            row = self.snapshot.document(at)?;
        }
        let stored = self.open_at(keys, &header.key, head, version, at, row)?;
        Ok((!stored.deleted).then_some(stored))
    }
}
