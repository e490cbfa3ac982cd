//! Reading documents from one snapshot, so that one answer shows one moment: an update moves a document
//! to another place, and from snapshot to snapshot it could be met twice or not at all.

mod as_of;
mod past;

use std::sync::Arc;

pub use self::past::{PastPage, PastVersion};

use crate::backend::{Backend, Head, HeadKey, Home, SharedStore, Snapshot, SubjectKey};
use crate::keys::TenantKeys;
use crate::outer::put_on;
use crate::prepare::same;
use crate::query::tokens_of;
use crate::reads::MAX_ROWS;
use crate::rows::{Header, SealedBy};
use crate::shared::{Core, check_id};
use crate::{Hit, Kind, Ledger, LedgerError, Number, Query, Shard, Stored, TenantId, Token};

/// The store at one moment, which lies between its making and the first read from it. Meant for one
/// answer: while it lives, what was superseded since can't be cleared away, and a store behind a network
/// keeps a connection for it. It reads for one tenant at a time.
pub struct View {
    core: Arc<Core>,
    backend: Arc<dyn Backend>,
    snapshot: Box<dyn Snapshot>,
    /// The newest number that was known before it was made.
    known: Number,
    /// The tenant that it is for; all if none is named.
    only: Option<TenantId>,
}

/// Of which moment a view is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Now,
    /// As [`Of::Now`], for a list that goes on from another moment.
    Listing,
    /// The store may have gone on since, but had everything up to a number.
    AtLeast(Number),
}

/// Documents that are opened at once: a page of a list, and a few that turn out not to match.
const AHEAD: usize = 32;
/// Bytes of documents that are opened at once, unless a single one is larger.
const AHEAD_BYTES: usize = 4 << 20;

/// Where one version lies; `None` when there is no such version.
fn place_of(
    snapshot: &dyn Snapshot,
    key: &HeadKey,
    head: &Head,
    version: u32,
) -> Result<Option<Hit>, LedgerError> {
    if version == head.version {
        return Ok(Some(head.at));
    }
    if version == 0 || version > head.version {
        return Ok(None);
    }
    let at = snapshot.superseded(key, version)?;
    at.map(Some)
        .ok_or_else(|| LedgerError::Damaged("a version of a document has no place".into()))
}

impl View {
    pub(crate) fn of(ledger: &Ledger, moment: Of) -> Result<Self, LedgerError> {
        let backend = ledger.backend()?;
        let core = ledger.shared_core();
        // In this order: what is written between the two is newer than the number.
        let known = core.last();
        let snapshot = match moment {
            Of::Now => backend.snapshot(),
            Of::Listing => backend.listing(),
            Of::AtLeast(number) => backend.at_least(number),
        };
        Ok(Self {
            core,
            backend,
            snapshot,
            known,
            only: ledger.tenant(),
        })
    }

    /// A number up to which the view holds everything that there will ever be. What is found later on
    /// with a higher one may not have been there; with a lower one it was.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn as_of(&self) -> Result<Number, LedgerError> {
        Ok(self.snapshot.horizon()?.unwrap_or(self.known))
    }

    /// Whether looking into the store costs microseconds, and no flight over a network.
    #[must_use]
    pub fn answers_in_place(&self) -> bool {
        !self.snapshot.is_far()
    }

    /// The rows that it shows.
    pub(crate) fn rows(&self) -> &dyn Snapshot {
        &*self.snapshot
    }

    /// A tenant's keys; from here on the snapshot shows that tenant's rows.
    fn enter(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, LedgerError> {
        if self.only.is_some_and(|only| only != tenant) {
            return Err(LedgerError::UnknownTenant(tenant.0));
        }
        let keys = self.core.tenant(tenant)?;
        self.snapshot.enter(tenant);
        Ok(keys)
    }

    /// Opens the version that must lie at a place.
    fn open_version(
        &self,
        keys: &TenantKeys,
        key: &HeadKey,
        head: &Head,
        version: u32,
    ) -> Result<Option<Stored>, LedgerError> {
        let Some(at) = place_of(&*self.snapshot, key, head, version)? else {
            return Ok(None);
        };
        let row = self.snapshot.document(at)?;
        self.open_at(keys, key, head, version, at, row).map(Some)
    }

    /// Opens the row of a version.
    fn open_at(
        &self,
        keys: &TenantKeys,
        key: &HeadKey,
        head: &Head,
        version: u32,
        at: Hit,
        row: Option<Vec<u8>>,
    ) -> Result<Stored, LedgerError> {
        let row = row.ok_or_else(|| {
            LedgerError::Damaged(format!("document {}/{} is missing", at.shard, at.number.0))
        })?;
        let (header, stored) = self.core.open_row(&*self.backend, keys, at, &row)?;
        let deleted = if version == head.version {
            head.deleted
        } else {
            header.deleted
        };
        same(&header, key, version, deleted)?;
        Ok(stored)
    }

    /// As [`Ledger::get`].
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn get(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Stored>, LedgerError> {
        check_id(id)?;
        let keys = self.enter(tenant)?;
        let key = keys.head_key(kind, id);
        let Some((head, row)) = self.snapshot.newest(&key)? else {
            return Ok(None);
        };
        self.open_at(&keys, &key, &head, head.version, head.at, row)
            .map(Some)
    }

    /// As [`Ledger::version`].
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn version(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
        version: u32,
    ) -> Result<Option<Stored>, LedgerError> {
        check_id(id)?;
        let keys = self.enter(tenant)?;
        let key = keys.head_key(kind, id);
        let Some(head) = self.snapshot.head(&key)? else {
            return Ok(None);
        };
        self.open_version(&keys, &key, &head, version)
    }

    /// As [`Ledger::history`].
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn history(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Stored>, LedgerError> {
        check_id(id)?;
        let keys = self.enter(tenant)?;
        let key = keys.head_key(kind, id);
        let Some(head) = self.snapshot.head(&key)? else {
            return Ok(Vec::new());
        };
        let newest = before.map_or(head.version, |before| {
            head.version.min(before.saturating_sub(1))
        });
        let mut versions = Vec::new();
        for version in (1..=newest).rev().take(limit.min(MAX_ROWS)) {
            versions.extend(self.open_version(&keys, &key, &head, version)?);
        }
        Ok(versions)
    }

    /// As [`Ledger::search`].
    ///
    /// # Errors
    /// As [`Ledger::search`].
    pub async fn search(
        &self,
        tenant: TenantId,
        query: &Query,
        before: Option<Number>,
        since: Option<Number>,
        limit: usize,
    ) -> Result<Vec<Hit>, LedgerError> {
        let layers = self.core.layers_in(&*self.snapshot, tenant)?;
        // Tokens are keyed by tenant, so that those of one find nothing of another.
        let keys = self.enter(tenant)?;
        self.core.stand_ins.check(query)?;
        crate::query::search(&*self.snapshot, &keys, query, &layers, before, since, limit).await
    }

    /// How many lists of a query have to be looked for, because it isn't known where they begin; what there is
    /// to know of them is in memory and says nothing of what they hold.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`.
    pub fn lists_to_find(&self, tenant: TenantId, query: &Query) -> Result<usize, LedgerError> {
        Ok(self.unknown(tenant, query)?.count())
    }

    /// Finds where some of the lists begin that would have to be looked for, so many at most. The next search
    /// for them costs less then.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`.
    pub fn find_lists(
        &self,
        tenant: TenantId,
        query: &Query,
        most: usize,
    ) -> Result<(), LedgerError> {
        for token in self.unknown(tenant, query)?.take(most) {
            let newest = Hit {
                number: Number(u64::MAX),
                shard: Shard(0),
            };
            self.snapshot.postings(token, newest, Number(0), 1)?;
        }
        Ok(())
    }

    fn unknown(
        &self,
        tenant: TenantId,
        query: &Query,
    ) -> Result<impl Iterator<Item = Token> + '_, LedgerError> {
        let layers = self.core.layers_in(&*self.snapshot, tenant)?;
        let each = tokens_of(query).into_iter().flat_map(move |token| {
            let behind: Vec<Token> = layers.iter().map(|layer| put_on(layer, token)).collect();
            behind
        });
        Ok(each.filter(|token| !self.snapshot.knows(*token)))
    }

    /// As [`Ledger::fetch`].
    ///
    /// # Errors
    /// As [`Ledger::fetch`].
    pub async fn fetch(&self, tenant: TenantId, at: Hit) -> Result<Option<Stored>, LedgerError> {
        let keys = self.enter(tenant)?;
        let row = self.snapshot.document(at)?;
        let header = match &row {
            Some(row) => Header::decode(row)?.0,
            None => return Ok(None),
        };
        let head = if header.key.tenant == tenant {
            self.snapshot.head(&header.key)?
        } else {
            None
        };
        self.fetched(&keys, at, row, head)
    }

    /// Opens what a search of this view has found at the first of some places, at as many as are well
    /// opened at once and at least one: how each turns out, as [`View::fetch`] would say, but that a
    /// version is `None` if it is not the newest one, whatever it was found by. Over a network that takes
    /// two or three round trips for all of them; where the store answers in place, it is one document.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`.
    pub async fn fetch_some(
        &self,
        tenant: TenantId,
        places: &[Hit],
    ) -> Result<Vec<Result<Option<Stored>, LedgerError>>, LedgerError> {
        let keys = self.enter(tenant)?;
        let at_once = if self.snapshot.is_far() { AHEAD } else { 1 };
        let places = &places[..places.len().min(at_once)];
        let rows = self.snapshot.documents(places, AHEAD_BYTES)?;
        let headers: Vec<Option<Header>> = (rows.iter())
            .map(|row| Some(Header::decode(row.as_ref()?).ok()?.0))
            .map(|header| header.filter(|header| header.key.tenant == tenant))
            .collect();
        let heads = self.heads_of(&keys, places, &headers)?;
        // On several servers a head is read at a later moment than the search: what was the newest version
        // then is still what was found.
        let is_of_one_moment = !(self.backend.shared()).is_some_and(SharedStore::is_spread);
        Ok((places.iter().zip(rows).zip(heads))
            .map(|((at, row), head)| {
                let is_newest = head.is_none_or(|head| head.at == *at) || !is_of_one_moment;
                let stored = self.fetched(&keys, *at, row, head)?;
                Ok(stored.filter(|_| is_newest))
            })
            .collect())
    }

    /// Whether documents that were opened before lie where their newest versions are.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`.
    pub async fn are_newest(
        &self,
        tenant: TenantId,
        documents: &[(Kind, &str, Hit)],
    ) -> Result<Vec<bool>, LedgerError> {
        let keys = self.enter(tenant)?;
        let names: Vec<HeadKey> = (documents.iter())
            .map(|(kind, id, _)| keys.head_key(*kind, id))
            .collect();
        let heads = self.snapshot.heads(&names)?;
        Ok((heads.iter().zip(documents))
            .map(|(head, (_, _, at))| head.is_some_and(|head| head.at == *at))
            .collect())
    }

    /// The newest versions of the documents at some places, where their headers say which these are. Over a
    /// network, what opens them is fetched for all of them in one go, too.
    fn heads_of(
        &self,
        keys: &TenantKeys,
        places: &[Hit],
        headers: &[Option<Header>],
    ) -> Result<Vec<Option<Head>>, LedgerError> {
        let names: Vec<HeadKey> = headers.iter().flatten().map(|header| header.key).collect();
        let mut heads = self.snapshot.heads(&names)?.into_iter();
        if self.snapshot.is_far() {
            let subjects = headers.iter().zip(places).filter_map(|(header, at)| {
                match header.as_ref()?.sealed_by {
                    SealedBy::Patient(subject) => Some(SubjectKey {
                        tenant: keys.tenant,
                        subject,
                        home: Home(Some(at.shard)),
                    }),
                    SealedBy::Common | SealedBy::Audit => None,
                }
            });
            self.core.warm_keys(&*self.backend, keys, subjects)?;
        }
        Ok((headers.iter())
            .map(|header| header.as_ref().and_then(|_| heads.next().flatten()))
            .collect())
    }

    /// Opens what lies at a place; `head` is the newest version of what it says to be.
    fn fetched(
        &self,
        keys: &TenantKeys,
        at: Hit,
        row: Option<Vec<u8>>,
        head: Option<Head>,
    ) -> Result<Option<Stored>, LedgerError> {
        let Some(row) = row else {
            return Ok(None);
        };
        let (header, _) = Header::decode(&row)?;
        if header.key.tenant != keys.tenant {
            return Ok(None);
        }
        // The seal binds a body to its document and version, not to a place: the way back does.
        let place = head
            .map(|head| place_of(&*self.snapshot, &header.key, &head, header.version))
            .transpose()?
            .flatten();
        if place != Some(at) {
            return Err(LedgerError::Damaged(format!(
                "document {}/{} lies in another's place",
                at.shard, at.number.0
            )));
        }
        let (_, stored) = self.core.open_row(&*self.backend, keys, at, &row)?;
        Ok(Some(stored))
    }
}
