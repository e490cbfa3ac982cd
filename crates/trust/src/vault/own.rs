//! Search parameters of a tenant's own: which are in force, and how documents that were there before come
//! to be found by them.
//!
//! **No search depends on who has heard of a parameter.** A document that was written, or gone over, with
//! a parameter carries its *mark*, a token of the definition itself (code, type, expression). Up to one
//! number, which the store keeps, it has been seen that all documents of the type carry it;
//! above that number what doesn't carry it is a candidate of every search by that parameter and checked on
//! its opened body. So a server that hasn't heard yet, an earlier program, an import or a crash in the
//! middle can make a search slower and never wrong, and a parameter may be asked for from the moment it
//! is there.
//!
//! **Done is what was seen.** The number rises only after a walk through all documents without the mark
//! that had none to go over. There is no position to be lost: a walk's place is kept in memory only, and
//! who goes on after a crash begins at the top and meets those without the mark. A restored store has no such number, and begins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};

use fhir::search::{Own, Owns, define};
use fhir::{Resource, ResourceType};
use ledger::{Hit, LedgerError, Number, Query, RELISTED_MAX, TenantId, Token, View};

use super::{Vault, open};
use crate::{Action, Permit, TrustError, tokens};

/// The most parameters of one's own in force, one for each base type of a definition: each is a mark and
/// the work of finding its values in every write of the type.
pub const OWNS_MAX: usize = 100;
/// Hits looked up at once.
const PAGE: usize = 1024;
/// Documents since the number up to which all are known to have the mark, after which it is looked for a
/// higher one: so many are looked through by a search at most, some milliseconds' work.
const BEHIND_MAX: usize = 4 * PAGE;

/// What a tenant's definitions are, as they were last read.
#[derive(Default)]
pub(super) struct Known {
    /// Where the definitions lie.
    seen: Vec<Hit>,
    owns: Owns,
    /// The resources that define them.
    ids: BTreeMap<(ResourceType, String), String>,
    /// How many can't be read.
    unread: usize,
}

/// What each definition of a unit of work will define, by its id.
pub(super) type Definitions = Vec<(String, Vec<Own>)>;

/// How far one parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexing {
    /// Documents of the type.
    pub documents: usize,
    /// Those that searches by the parameter have to look at one by one.
    pub unindexed: usize,
    /// Up to which moment every document was seen to be indexed, milliseconds since the epoch; `None`
    /// before that.
    pub complete_ms: Option<u64>,
}

/// What a step of the work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexStep {
    /// So many documents were gone over; there may be more.
    Indexed(usize),
    /// All documents were seen to be indexed.
    Complete,
    /// All others are indexed, and these can't be: their rows can't be read, or they have no room for
    /// more tokens. The parameter doesn't become complete.
    Left(usize),
    /// Token keys rotate; the work goes on after it.
    Waiting,
}

impl Vault {
    /// The search parameters of one's own that are in force, as this process last heard
    /// ([`Vault::refresh_owns`]).
    #[must_use]
    pub fn owns(&self, tenant: TenantId) -> Owns {
        let known = self.inner.owns.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        (known.get(&tenant)).map_or_else(Owns::default, |known| known.owns.clone())
    }

    /// The resource that defines a parameter in force.
    #[must_use]
    pub fn defined_by(&self, tenant: TenantId, own: &Own) -> Option<String> {
        let known = self.inner.owns.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let key = (own.base(), own.code().to_owned());
        known.get(&tenant)?.ids.get(&key).cloned()
    }

    /// How many definitions can't be read, whose parameters are not in force, as last heard.
    #[must_use]
    pub fn unread_definitions(&self, tenant: TenantId) -> usize {
        let known = self.inner.owns.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        known.get(&tenant).map_or(0, |known| known.unread)
    }

    /// Reads the definitions, if there are others than last time. Who writes one does it before the
    /// answer; all servers do it every second. One that can't be read is passed over and counted
    /// ([`Vault::unread_definitions`]).
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn refresh_owns(&self, tenant: TenantId) -> Result<(), TrustError> {
        // One after the other, or what was read first could be put in place last.
        let _alone = self.inner.refreshing.lock().await;
        let ledger = self.ledger();
        let view = ledger.view()?;
        let kind = tokens::kind(ResourceType::SearchParameter);
        let every_one = Query::Token(ledger.kind_token(tenant, kind));
        let definitions = every(&view, tenant, &every_one).await?;
        let before = {
            let known = self.inner.owns.read();
            let known = known.unwrap_or_else(PoisonError::into_inner);
            match known.get(&tenant) {
                // What could not be read may have been mended where it lies.
                Some(known) if known.seen == definitions && known.unread == 0 => {
                    Some(known.owns.clone())
                }
                None if definitions.is_empty() => return Ok(()),
                _ => None,
            }
        };
        if let Some(owns) = before {
            let mut risen = false;
            for own in owns.iter() {
                risen |= self.through(tenant, own)?.0 > own.through();
            }
            if !risen {
                return Ok(());
            }
        }
        let mut defined: Vec<(String, Own)> = Vec::new();
        let mut unread = 0;
        for at in definitions.iter().copied() {
            let (id, resource) = match opened(&view, tenant, at).await {
                Ok(Some(found)) if found.1.kind() == ResourceType::SearchParameter => found,
                Ok(_) => continue,
                Err(error) if is_of_one_row(&error) => {
                    unread += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // One that a later program doesn't take any more is told of by `$status`.
            let owns = define(&resource).unwrap_or_default();
            defined.extend(owns.into_iter().map(|own| (id.clone(), own)));
        }
        // Of two with one code, which two servers may have taken at once, one counts everywhere.
        defined.sort_by(|a, b| a.0.cmp(&b.0));
        let mut known = Known {
            seen: definitions.clone(),
            unread,
            ..Known::default()
        };
        let mut owns = Vec::new();
        for (id, own) in defined {
            let key = (own.base(), own.code().to_owned());
            if owns.len() == OWNS_MAX || known.ids.contains_key(&key) {
                continue;
            }
            let through = self.through(tenant, &own)?;
            owns.push(own.indexed_through(through.0));
            known.ids.insert(key, id);
        }
        known.owns = Owns::new(owns);
        let all = self.inner.owns.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.insert(tenant, known);
        Ok(())
    }

    /// Up to which number all documents of a type have a parameter's mark.
    fn through(&self, tenant: TenantId, own: &Own) -> Result<Number, LedgerError> {
        let mark = tokens::mark(self.ledger(), tenant, own);
        match self.ledger().indexed_through(tenant, mark) {
            // Nobody knows then, and all are looked at.
            Err(LedgerError::Damaged(_)) => Ok(Number(0)),
            through => through,
        }
    }

    /// Goes over some documents that a parameter of one's own was not there for, newest first, and gives
    /// them the tokens that they are found by; the next call goes on from there. Commits and searches go on meanwhile; several processes may
    /// do it at once, and one that was killed leaves nothing undone that the next one wouldn't meet.
    ///
    /// # Errors
    /// `Refused` without a permit to index; `Ledger`.
    pub async fn index_own(
        &self,
        permit: &Permit,
        own: &Arc<Own>,
    ) -> Result<IndexStep, TrustError> {
        self.require_indexing(permit).await?;
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let through = Number(own.through());
        let as_of = ledger.view()?.as_of().await?;
        let unmarked = tokens::unmarked(ledger, tenant, own);
        let owns = self.owns(tenant);
        let walk = (tenant, tokens::mark(ledger, tenant, own));
        let mut before = self.walks().get(&walk).copied();
        let is_whole = before.is_none();
        let (mut done, mut seen, mut left) = (0, 0, 0);
        loop {
            // One for each batch, since it keeps what is superseded meanwhile.
            let view = ledger.view()?;
            let since = Some(Number(through.0.saturating_add(1)));
            let hits = view
                .search(tenant, &unmarked, before, since, RELISTED_MAX)
                .await?;
            let mut rows = Vec::with_capacity(hits.len());
            for at in &hits {
                let resource = match opened(&view, tenant, *at).await {
                    Ok(Some((_, resource))) => resource,
                    // Nobody can read it any more, so nobody can miss it.
                    Ok(None) | Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => continue,
                    Err(error) if is_of_one_row(&error) => {
                        left += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                rows.push((*at, tokens::of_one(ledger, tenant, &resource, own, &owns)));
            }
            drop(view);
            seen += hits.len();
            if !rows.is_empty() {
                let Some(full) = ledger.add_tokens(tenant, &rows).await? else {
                    return Ok(IndexStep::Waiting);
                };
                done += rows.len() - full.len();
                let bare = tokens::bare(ledger, tenant, own).to_vec();
                let again: Vec<_> = full.iter().map(|at| (*at, bare.clone())).collect();
                let Some(full) = ledger.add_tokens(tenant, &again).await? else {
                    return Ok(IndexStep::Waiting);
                };
                done += again.len() - full.len();
                left += full.len();
            }
            match hits.last() {
                Some(last) if hits.len() == RELISTED_MAX => {
                    before = Some(last.number);
                    self.walks().insert(walk, last.number);
                }
                _ => {
                    self.walks().remove(&walk);
                    break;
                }
            }
            if done >= PAGE {
                return Ok(IndexStep::Indexed(done));
            }
            tokio::task::yield_now().await;
        }
        if done > 0 || !is_whole {
            return Ok(IndexStep::Indexed(done));
        }
        if left > 0 {
            return Ok(IndexStep::Left(left));
        }
        // All up to `as_of` were there when this began, and none of them was without the mark.
        let newer = {
            let view = ledger.view()?;
            let all = tokens::all(ledger, tenant, own.base());
            let since = Some(Number(through.0.saturating_add(1)));
            view.search(tenant, &all, None, since, BEHIND_MAX).await?
        };
        let is_due = through == Number(0) || newer.len() == BEHIND_MAX || seen > PAGE;
        if is_due && as_of > through {
            ledger.note_indexed(tenant, walk.1, as_of).await?;
            self.refresh_owns(tenant).await?;
        }
        Ok(IndexStep::Complete)
    }

    /// How far a parameter is, counted in the index at this moment.
    ///
    /// # Errors
    /// As [`Vault::index_own`].
    pub async fn indexing(&self, permit: &Permit, own: &Own) -> Result<Indexing, TrustError> {
        self.require_indexing(permit).await?;
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        // In this order: what was complete then is so in the view.
        let through = self.through(tenant, own)?;
        let view = ledger.view()?;
        let all = tokens::all(ledger, tenant, own.base());
        let unmarked = tokens::unmarked(ledger, tenant, own);
        let after = Some(Number(through.0.saturating_add(1)));
        Ok(Indexing {
            documents: count(&view, tenant, &all, None).await?,
            unindexed: count(&view, tenant, &unmarked, after).await?,
            complete_ms: (through > Number(0)).then(|| through.unix_ms()),
        })
    }

    fn walks(&self) -> MutexGuard<'_, HashMap<(TenantId, Token), Number>> {
        let walks = self.inner.walks.lock();
        walks.unwrap_or_else(PoisonError::into_inner)
    }

    async fn require_indexing(&self, permit: &Permit) -> Result<(), TrustError> {
        if permit.grants.service(Action::Index) {
            return Ok(());
        }
        Err(self.refuse(permit, Action::Index, None, None).await)
    }

    /// Checks a definition that is to be written or to go, and who may; what it will define, where that
    /// changes.
    pub(super) async fn check_definition(
        &self,
        permit: &Permit,
        before: Option<&Resource>,
        after: Option<&Resource>,
    ) -> Result<Option<Vec<Own>>, TrustError> {
        let of = |resource: Option<&Resource>| match resource.map(define) {
            Some(Ok(owns)) => Ok(owns),
            Some(Err(outcome)) => Err(outcome),
            None => Ok(Vec::new()),
        };
        let had = of(before).unwrap_or_default();
        let has = of(after).map_err(|outcome| TrustError::Invalid(outcome.summary()))?;
        if had == has {
            return Ok(None);
        }
        self.require_indexing(permit).await?;
        if !has.is_empty() && self.ledger().is_spread()? {
            return Err(TrustError::Invalid(
                "search parameters of one's own can't be active on Citus: it has no one moment over its servers, at which all documents could be seen to be indexed".to_owned(),
            ));
        }
        Ok(Some(has))
    }

    /// Checks that there is room for what a unit of work defines, with what is in force beside it.
    pub(super) async fn check_definitions(
        &self,
        tenant: TenantId,
        definitions: &Definitions,
    ) -> Result<(), TrustError> {
        if definitions.iter().all(|(_, has)| has.is_empty()) {
            return Ok(());
        }
        self.refresh_owns(tenant).await?;
        let owns = self.owns(tenant);
        let stays = |own: &&Arc<Own>| {
            let by = self.defined_by(tenant, own);
            (definitions.iter()).all(|(id, _)| by.as_deref() != Some(id.as_str()))
        };
        let mut all: BTreeSet<(ResourceType, String)> = (owns.iter().filter(stays))
            .map(|own| (own.base(), own.code().to_owned()))
            .collect();
        for own in definitions.iter().flat_map(|(_, has)| has) {
            if !all.insert((own.base(), own.code().to_owned())) {
                return Err(TrustError::Invalid(format!(
                    "another active SearchParameter defines `{}` of {} already",
                    own.code(),
                    own.base()
                )));
            }
        }
        if all.len() > OWNS_MAX {
            return Err(TrustError::Invalid(format!(
                "there would be more than {OWNS_MAX} search parameters of one's own, counted by base type; retire others"
            )));
        }
        Ok(())
    }
}

/// A row's id and its content, unless it is gone or deleted.
async fn opened(
    view: &View,
    tenant: TenantId,
    at: Hit,
) -> Result<Option<(String, Resource)>, TrustError> {
    let stored = view.fetch(tenant, at).await?;
    let Some(stored) = stored.filter(|stored| !stored.deleted) else {
        return Ok(None);
    };
    let resource = open(&stored)?.resource;
    Ok(Some((stored.id, resource)))
}

/// Whether it is one row that can't be read, which says nothing of others.
fn is_of_one_row(error: &TrustError) -> bool {
    matches!(
        error,
        TrustError::Damaged(_) | TrustError::Ledger(LedgerError::Damaged(_))
    )
}

/// How many hits a query has.
async fn count(
    view: &View,
    tenant: TenantId,
    query: &Query,
    since: Option<Number>,
) -> Result<usize, TrustError> {
    let (mut count, mut before) = (0, None);
    loop {
        let hits = view.search(tenant, query, before, since, PAGE).await?;
        count += hits.len();
        match hits.last() {
            Some(last) if hits.len() == PAGE => before = Some(last.number),
            _ => return Ok(count),
        }
        tokio::task::yield_now().await;
    }
}

/// All hits of a query.
async fn every(view: &View, tenant: TenantId, query: &Query) -> Result<Vec<Hit>, TrustError> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let hits = view.search(tenant, query, before, None, PAGE).await?;
        all.extend_from_slice(&hits);
        match hits.last() {
            Some(last) if hits.len() == PAGE => before = Some(last.number),
            _ => return Ok(all),
        }
    }
}
