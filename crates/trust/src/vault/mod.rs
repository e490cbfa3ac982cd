//! The Vault: FHIR resources in and out of the ledger, under a permit, audited.
//!
//! `search.rs` finds, `commit.rs` writes, `internal.rs` keeps Cairn's own documents, `export/` gives many out; here
//! is reading and what they share: opening a row, the row rule, and consent.

mod ahead;
mod codes;
mod commit;
mod compartment;
mod consents;
mod explain;
mod export;
mod include;
mod internal;
mod labels;
mod links;
mod model;
mod once;
mod own;
mod past;
mod proof;
mod relations;
mod search;
mod several;
mod short;
mod sorted;
mod what_if;
mod whole;
mod why;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, RwLock};

use fhir::{Resource, ResourceType, redaction, search::SearchQuery};
use ledger::{Hit, Ledger, LedgerError, Number, Owner, Stored, TenantId, Token, View};
use tokio::sync::Semaphore;

use crate::audit::{self, Auditor, Event, Outcome, Record, Touched};
use crate::consent::Rules;
use crate::policy::in_part_only;
use crate::{Action, Permit, Refusal, Role, TrustError, tokens};

use ahead::Ahead;
pub use compartment::SeriesPage;
use consents::Hidden;
pub use consents::KeptFrom;
pub use explain::{Explained, LookedAt, Step, Steps, Way};
pub use export::{AskAgain, ExportFile, ExportFound, ExportJob, ExportLayout};
pub use export::{ExportOf, ExportReading, ExportShape};
pub use internal::EveryInternal;
pub use model::{
    Change, HistoryPage, Internal, InternalStored, PageAt, SearchPage, Sought, SoughtRow, Unit,
    UnitReceipt, Versioned, kinds,
};
pub(crate) use once::OnceDocument;
pub use once::{Before, ONCE_KEPT_MS, Once};
pub use own::{IndexStep, Indexing, OWNS_MAX};
pub use past::{PastQuery, PastRow, PastRows};
pub use proof::AuditProof;
pub use relations::Relation;
#[cfg(test)]
pub(crate) use search::TEXTS_MAX;
use short::Form;
pub use sorted::SortedAt;
pub(crate) use what_if::Asker;
pub use what_if::{Counts, Effect, Foreseen, Party, WhatIf};
pub use whole::{EXPORTER, Whole};
pub use why::{ConsentWhy, RelationWhy, RowWhy};

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: Ledger,
    auditor: Auditor,
    owns: RwLock<HashMap<TenantId, own::Known>>,
    refreshing: tokio::sync::Mutex<()>,
    /// Looks at the store that bulk exports may take at once.
    exporting: Semaphore,
    /// Where bulk exports found the resources of a type, for the next of their files.
    exported: export::Walks,
    /// Where walks through documents without a mark go on, by the mark.
    walks: Mutex<HashMap<(TenantId, Token), Number>>,
    rules: Rules,
    consents: consents::Kept,
}

/// What one request looks at.
struct Sight {
    rows: View,
    /// What holds now, where the rows may be older.
    now: Option<View>,
}

impl Sight {
    fn now(rows: View) -> Self {
        Self { rows, now: None }
    }

    /// Where consents are read: one that was taken back counts at once, however old the rows may be.
    fn rules(&self) -> &View {
        self.now.as_ref().unwrap_or(&self.rows)
    }
}

impl Deref for Sight {
    type Target = View;
    fn deref(&self) -> &View {
        &self.rows
    }
}

/// Versions loaded at a time, so that one look at many bytes ends in time.
const VERSIONS: usize = 16;

impl Vault {
    pub(crate) fn new(ledger: Ledger, auditor: Auditor, rules: Rules) -> Self {
        Self {
            inner: Arc::new(Inner {
                ledger,
                auditor,
                owns: RwLock::default(),
                refreshing: tokio::sync::Mutex::default(),
                exporting: Semaphore::new(export::LOOKS),
                exported: export::Walks::default(),
                walks: Mutex::default(),
                rules,
                consents: consents::Kept::default(),
            }),
        }
    }
    /// The rule pack that consents are read by.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.inner.rules
    }
    /// The ledger below, for feeds, timers and outbox; it gives out no opened resource except
    /// through this vault.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }
    /// Reads the newest version (deleted ones too) and audits the read; the answer waits until the
    /// audit leaf is durable. A row that the permit doesn't cover is `None` (and audited as refused).
    ///
    /// # Errors
    /// `Refused` when the permit is for another action; `Ledger`, `Damaged`.
    pub async fn read(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<Versioned>, TrustError> {
        self.read_as(permit, (kind, id), Form::Whole).await
    }
    /// The same for who only passes it on: [`Versioned::json`].
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn read_text(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<Versioned>, TrustError> {
        self.read_as(permit, (kind, id), Form::Text).await
    }
    async fn read_as(
        &self,
        permit: &Permit,
        (kind, id): (ResourceType, &str),
        form: Form,
    ) -> Result<Option<Versioned>, TrustError> {
        self.require(permit, Action::Read, kind).await?;
        let view = self.sight(permit)?;
        let stored = view.get(permit.tenant(), tokens::kind(kind), id).await?;
        self.answer(&view, permit, Event::READ, (kind, id), stored, form)
            .await
    }
    /// Reads one version; audited.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn read_version(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
        version: u32,
    ) -> Result<Option<Versioned>, TrustError> {
        self.require(permit, Action::Read, kind).await?;
        let tenant = permit.tenant();
        let view = self.sight(permit)?;
        let stored = view
            .version(tenant, tokens::kind(kind), id, version)
            .await?;
        self.answer(&view, permit, Event::VREAD, (kind, id), stored, Form::Whole)
            .await
    }
    /// Reads versions, newest first, below `before`; audited.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn history(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Versioned>, TrustError> {
        let page = self
            .versions(permit, kind, id, (before, None), limit, usize::MAX)
            .await?;
        Ok(page.rows)
    }
    /// The same, but no more than two versions beyond about four megabytes, and none that was written at
    /// `until` or later.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn history_page(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
        before: Option<u32>,
        until: Option<Number>,
        limit: usize,
    ) -> Result<HistoryPage, TrustError> {
        let bounds = (before, until);
        self.versions(permit, kind, id, bounds, limit, search::PAGE_BYTES_MAX)
            .await
    }
    async fn versions(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
        (mut before, until): (Option<u32>, Option<Number>),
        limit: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, TrustError> {
        self.require(permit, Action::History, kind).await?;
        let tenant = permit.tenant();
        let view = self.sight(permit)?;
        let mut hidden = Hidden::default();
        let mut record = Record::under(permit, Event::HISTORY);
        let mut rows: Vec<Versioned> = Vec::new();
        let mut refused = false;
        let (mut loaded, mut bytes, mut cut) = (0, 0, false);
        if let Some(until) = until {
            let newest = view
                .version_below(tenant, tokens::kind(kind), id, until)
                .await?;
            let newest = newest.map_or(1, |newest| newest.saturating_add(1));
            before = Some(before.map_or(newest, |before| before.min(newest)));
        }
        while loaded < limit && !cut {
            let wanted = VERSIONS.min(limit - loaded);
            let stored = view
                .history(tenant, tokens::kind(kind), id, before, wanted)
                .await?;
            let last = stored.len() < wanted;
            loaded += stored.len();
            before = stored.last().map(|stored| stored.version);
            for one in stored {
                // What a page leaves out for its size is read with the next one.
                if rows.len() > 1 && bytes > bytes_max {
                    cut = true;
                    break;
                }
                bytes += one.body.len();
                let (mut row, patients, seen) = self
                    .open_seen(&view, permit, (Action::Read, one), &mut hidden)
                    .await?;
                if seen {
                    record.touch(touched(&row, patients.first().cloned()));
                    record.patients.extend(patients);
                    redact(permit, &mut row.resource);
                    self.show(permit, &mut row);
                    rows.push(row);
                } else {
                    refused = true;
                    record.patients.extend(patients);
                }
            }
            if last {
                break;
            }
            tokio::task::yield_now().await;
        }
        if rows.is_empty() {
            record.outcome = if refused {
                Outcome::Refused
            } else {
                Outcome::Missed
            };
            record.resources.push(missed(kind, id));
        }
        self.record(permit, record).await?;
        Ok(HistoryPage { rows, cut })
    }
    /// Searches, newest first, below `before`; filtered by the permit's row rule and patients'
    /// consents; each row verified against the query on the opened body; audited as one leaf that
    /// lists the rows.
    ///
    /// # Errors
    /// As [`Vault::read`]; `TooCostly` when more than 100,000 candidates would have to be checked, or
    /// more than 1,000 resources be included.
    pub async fn search(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
    ) -> Result<SearchPage, TrustError> {
        let at = before.map(|before| PageAt {
            before,
            first: Number(u64::MAX),
        });
        self.search_at(permit, query, at).await
    }
    /// The same for one page of several ([`SearchPage::next`] and [`SearchPage::as_of`]), which also
    /// says whether rows were changed since the first page. A page may have fewer rows than were
    /// asked for, when they are large, and a next page all the same.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn search_at(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        at: Option<PageAt>,
    ) -> Result<SearchPage, TrustError> {
        self.search_as(permit, query, at, Form::Whole).await
    }
    /// The same for who only passes the rows on: [`Versioned::json`].
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn search_texts(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        at: Option<PageAt>,
    ) -> Result<SearchPage, TrustError> {
        self.search_as(permit, query, at, Form::Text).await
    }
    async fn search_as(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        at: Option<PageAt>,
        form: Form,
    ) -> Result<SearchPage, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        let mut hidden = Hidden::default();
        let view = self.listing_of(permit, std::slice::from_ref(query), at.is_none())?;
        let before = at.map(|at| at.before);
        let asked = self.linked(&view, permit, query, Some(&mut hidden)).await?;
        let queries = std::slice::from_ref(&*asked.query);
        // What is included is told by all of the rows.
        let form = if query.includes.is_empty() {
            form
        } else {
            Form::Whole
        };
        let mut page = self
            .scan_all(&view, permit, queries, (before, form), Some(&mut hidden))
            .await?;
        if let Some(at) = at {
            // A row can come to match without a change of its own.
            page.moved = asked.newest > at.first
                || self
                    .has_moved(
                        &view,
                        permit,
                        std::slice::from_ref(&*asked.query),
                        at,
                        &mut hidden,
                    )
                    .await?;
        }
        self.include(&view, permit, query, &mut page, &mut hidden)
            .await?;
        drop(view);
        let mut pages = self.record_pages(permit, &[query], vec![page]).await?;
        pages
            .pop()
            .ok_or_else(|| TrustError::Damaged("a page was lost".to_owned()))
    }
    /// Several searches of one request under one audit leaf (a page that shows several lists).
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn search_many(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
    ) -> Result<Vec<SearchPage>, TrustError> {
        let mut hidden = Hidden::default();
        let view = Sight::now(self.ledger().listing()?);
        let mut pages = Vec::with_capacity(queries.len());
        for query in queries {
            self.require(permit, Action::Search, query.kind).await?;
            let asked = self.linked(&view, permit, query, Some(&mut hidden)).await?;
            let page = self
                .scan(&view, permit, &asked.query, None, Some(&mut hidden))
                .await?;
            pages.push(page);
        }
        drop(view);
        let queries: Vec<&SearchQuery> = queries.iter().collect();
        self.record_pages(permit, &queries, pages).await
    }
    /// Loads for a write that follows under the same permit (read-modify-write), or for a part of
    /// Cairn that acts by itself; not audited by itself because the commit that follows is. Only for
    /// permits whose action writes (`Create`…`Import`, `Work`, `Send`, `Orchestrate`, `Publish`).
    /// Consents that restrict access hide nothing here, but from who acts for a patient.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<Versioned>, TrustError> {
        self.require_writing(permit, Action::Read, kind).await?;
        let view = self.ledger().view()?;
        let stored = view.get(permit.tenant(), tokens::kind(kind), id).await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let (mut row, before) = open_live(&view, permit.tenant(), stored).await?;
        let live = before.as_ref().unwrap_or(&row.resource);
        if permit.covers(Action::Read, live) && !self.keeps_from_proxy(permit, live).await? {
            // Whoever sees a part of it writes nothing that follows.
            if permit.in_part(kind).is_some() {
                redact(permit, &mut row.resource);
                mark(permit, &mut row.resource);
            }
            return Ok(Some(row));
        }
        let mut record = Record::under(permit, Event::READ);
        record.outcome = Outcome::Refused;
        record.patients.extend(named(live));
        record.resources.push(missed(kind, id));
        self.record(permit, record).await?;
        Ok(None)
    }
    /// Like [`Vault::load`] for one page of a search. Pages of one list come from different moments, so
    /// whoever needs the whole of it takes [`Vault::load_all`].
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn load_search(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
    ) -> Result<SearchPage, TrustError> {
        self.require_writing(permit, Action::Search, query.kind)
            .await?;
        let view = Sight::now(self.ledger().listing()?);
        let asked = self.linked(&view, permit, query, None).await?;
        let mut hidden = hidden_from(permit);
        let mut page = self
            .scan(&view, permit, &asked.query, before, hidden.as_mut())
            .await?;
        let rows = page.rows.iter_mut();
        rows.for_each(|row| mark(permit, &mut row.resource));
        Ok(page)
    }
    /// All rows that [`Vault::load_search`] would page through, as they are at one moment.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn load_all(
        &self,
        permit: &Permit,
        query: &SearchQuery,
    ) -> Result<Vec<Versioned>, TrustError> {
        self.require_writing(permit, Action::Search, query.kind)
            .await?;
        let view = Sight::now(self.ledger().view()?);
        let asked = self.linked(&view, permit, query, None).await?;
        let mut rows = Vec::new();
        let mut before = None;
        let mut hidden = hidden_from(permit);
        loop {
            let page = self
                .scan(&view, permit, &asked.query, before, hidden.as_mut())
                .await?;
            rows.extend(page.rows);
            before = page.next;
            if before.is_none() {
                return Ok(rows);
            }
        }
    }
    /// The resource version at a place of the feed, for followers. `None` when it is no FHIR
    /// resource, or none that the permit covers.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load_at(&self, permit: &Permit, at: Hit) -> Result<Option<Versioned>, TrustError> {
        let tenant = permit.tenant();
        let view = self.ledger().view()?;
        let Some(stored) = view.fetch(tenant, at).await? else {
            return Ok(None);
        };
        let Some(kind) = ResourceType::from_code(stored.kind.0) else {
            return Ok(None);
        };
        if !permit.action.writes()
            || !permit.allows(Action::Read, kind)
            || permit.agent.role == Role::Proxy
        {
            return Ok(None);
        }
        let (row, before) = open_live(&view, tenant, stored).await?;
        let live = before.as_ref().unwrap_or(&row.resource);
        Ok(permit.covers(Action::Read, live).then_some(row))
    }
    /// Whose a resource is: its patient's, or the tenant's.
    #[must_use]
    pub fn owner(resource: &Resource) -> Owner {
        resource
            .patient()
            .map_or(Owner::Tenant, |patient| Owner::Patient(patient.to_owned()))
    }

    /// The newest version for parts of this crate that are told of it by somebody who may.
    pub(crate) async fn peek(
        &self,
        tenant: TenantId,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<Resource>, TrustError> {
        let stored = self.ledger().get(tenant, tokens::kind(kind), id).await?;
        match stored {
            Some(stored) if !stored.deleted => Ok(Some(open(&stored)?.resource)),
            _ => Ok(None),
        }
    }

    /// What a read looks at: the store as it is now, or as old as the request takes it.
    fn sight(&self, permit: &Permit) -> Result<Sight, LedgerError> {
        match permit.freshness.wanted() {
            None => Ok(Sight::now(self.ledger().view()?)),
            Some(number) => Ok(Sight {
                rows: self.ledger().view_at_least(number)?,
                now: Some(self.ledger().view()?),
            }),
        }
    }

    /// What a page of a list is read from. Only the first may be an older copy: a further one must not be
    /// older than it.
    fn listing(&self, permit: &Permit, is_first: bool) -> Result<Sight, LedgerError> {
        if is_first && permit.freshness.wanted().is_some() {
            return self.sight(permit);
        }
        Ok(Sight::now(self.ledger().listing()?))
    }

    /// The same for queries. What is known of parameters of one's own holds of the store as it is now, and
    /// not of older copies.
    fn listing_of(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        is_first: bool,
    ) -> Result<Sight, LedgerError> {
        if !queries.iter().any(SearchQuery::asks_owns) {
            return self.listing(permit, is_first);
        }
        Ok(Sight::now(self.ledger().listing()?))
    }

    /// Answers a read of one row: audited first, whatever comes of it.
    async fn answer(
        &self,
        view: &Sight,
        permit: &Permit,
        event: Event,
        (kind, id): (ResourceType, &str),
        stored: Option<Stored>,
        form: Form,
    ) -> Result<Option<Versioned>, TrustError> {
        let mut record = Record::under(permit, event);
        let mut answer = None;
        match stored {
            None => {
                record.outcome = Outcome::Missed;
                record.resources.push(missed(kind, id));
            }
            Some(stored) => {
                let mut hidden = Hidden::default();
                let short = match form {
                    Form::Text => self.short(view, permit, &stored, &mut hidden).await?,
                    Form::Whole => None,
                };
                let (mut row, patients, seen) = match short {
                    Some(short) => short,
                    None => {
                        self.open_seen(view, permit, (Action::Read, stored), &mut hidden)
                            .await?
                    }
                };
                if seen {
                    record.touch(touched(&row, patients.first().cloned()));
                    redact(permit, &mut row.resource);
                    self.show(permit, &mut row);
                    answer = Some(row);
                } else {
                    record.outcome = Outcome::Refused;
                    record.resources.push(missed(kind, id));
                }
                record.patients.extend(patients);
            }
        }
        self.record(permit, record).await?;
        Ok(answer)
    }

    /// Opens a row, with its patients and whether the permit and consent let it be seen.
    async fn open_seen(
        &self,
        view: &Sight,
        permit: &Permit,
        (interaction, stored): (Action, Stored),
        hidden: &mut Hidden,
    ) -> Result<(Versioned, Vec<String>, bool), TrustError> {
        let (row, before) = open_live(view, permit.tenant(), stored).await?;
        let live = before.as_ref().unwrap_or(&row.resource);
        let seen =
            permit.covers(interaction, live) && !self.hides(view, permit, live, hidden).await?;
        let patients = named(live);
        Ok((row, patients, seen))
    }

    /// Whether a row is hidden from somebody who acts for its patient, also where they would change it.
    async fn keeps_from_proxy(&self, permit: &Permit, live: &Resource) -> Result<bool, TrustError> {
        if permit.agent.role != Role::Proxy {
            return Ok(false);
        }
        let sight = Sight::now(self.ledger().view()?);
        self.hides(&sight, permit, live, &mut Hidden::default())
            .await
    }

    /// The permit must allow the interaction with the type.
    pub(crate) async fn require(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: ResourceType,
    ) -> Result<(), TrustError> {
        if permit.allows(interaction, kind) {
            return Ok(());
        }
        Err(self.refuse(permit, interaction, Some(kind), None).await)
    }

    /// The scopes of an access token must let an interaction with the type be done.
    async fn require_scope(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: ResourceType,
    ) -> Result<(), TrustError> {
        if permit.scopes_allow(interaction, kind) {
            return Ok(());
        }
        Err(self.refuse(permit, interaction, Some(kind), None).await)
    }

    async fn require_writing(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: ResourceType,
    ) -> Result<(), TrustError> {
        if permit.action.writes() && permit.allows(interaction, kind) {
            return Ok(());
        }
        Err(self.refuse(permit, interaction, Some(kind), None).await)
    }

    /// Audits a refusal and makes the error of it.
    async fn refuse(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: Option<ResourceType>,
        record: Option<Record<'_>>,
    ) -> TrustError {
        let what = kind.map_or_else(String::new, |kind| format!(" {kind}"));
        let by_scopes = kind.is_some_and(|kind| !permit.scopes_allow(interaction, kind));
        let unseen = kind.filter(|kind| permit.grants.changes_unseen(interaction, *kind));
        let reason = if let Some(kind) = unseen {
            in_part_only(permit.agent.role, permit.purpose, kind)
        } else if by_scopes {
            format!(
                "the scopes of this access token don't let {}{what}",
                interaction.name()
            )
        } else {
            format!(
                "a permit to {} of the role {} does not let {}{what} for {}",
                permit.action.name(),
                permit.agent.role.name(),
                interaction.name(),
                permit.purpose.code(),
            )
        };
        self.refuse_for(permit, interaction, reason, record).await
    }

    /// Refuses searches that look at what the permit does not show, before anything is looked for: what they
    /// find, how many these are and how long it takes would tell of it.
    pub(super) async fn require_shown(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
    ) -> Result<(), TrustError> {
        let Some(elements) = permit.grants.elements() else {
            return Ok(());
        };
        match queries.iter().find_map(|query| elements.refuses(query)) {
            None => Ok(()),
            Some(asked) => {
                let reason = asked.words(permit.agent.role, permit.purpose);
                Err(self.refuse_for(permit, Action::Search, reason, None).await)
            }
        }
    }

    /// Whether a search that is made later looks only at what the permit shows.
    ///
    /// # Errors
    /// `Refused` when it does not; `Ledger`.
    pub async fn may_search(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
    ) -> Result<(), TrustError> {
        self.require_shown(permit, queries).await
    }

    /// Audits a refusal for a reason and makes the error of it.
    async fn refuse_for(
        &self,
        permit: &Permit,
        interaction: Action,
        reason: String,
        record: Option<Record<'_>>,
    ) -> TrustError {
        let mut record = record.unwrap_or_else(|| Record::under(permit, Event::of(interaction)));
        record.outcome = Outcome::Refused;
        record.note = Some(&reason);
        record.patients.extend(permit.only_patient.clone());
        match self.inner.auditor.commit(&record).await {
            Ok(_) => TrustError::Refused(Refusal {
                reason,
                because: permit.because.clone(),
            }),
            Err(error) => error.into(),
        }
    }

    /// Commits the audit record of something that has been looked at.
    async fn record(&self, permit: &Permit, mut record: Record<'_>) -> Result<(), LedgerError> {
        self.tell_relations(permit, &mut record).await?;
        let patients = record.patients.clone();
        let receipt = self.inner.auditor.commit(&record).await?;
        permit
            .freshness
            .note(receipt.audit.map(|at| at.number), false);
        permit.name_patients(&patients);
        Ok(())
    }
}

/// What a look for a write hides: from who acts for a patient, as much as any other look.
fn hidden_from(permit: &Permit) -> Option<Hidden> {
    (permit.agent.role == Role::Proxy).then(Hidden::default)
}

/// Opens a hit of a search; what was sealed with a destroyed key is gone.
async fn fetch_in(view: &View, tenant: TenantId, hit: Hit) -> Result<Option<Stored>, LedgerError> {
    Ahead::default().first_of(view, tenant, &[hit]).await
}

/// The patients whom a look at a resource concerns. Who looks at the audit looks at no patient's record.
fn named(resource: &Resource) -> Vec<String> {
    if resource.kind() == ResourceType::AuditEvent {
        return Vec::new();
    }
    resource.patients().into_iter().map(str::to_owned).collect()
}

/// Opens a row; of a deletion, also the version before, whose content says whose it is.
async fn open_live(
    view: &View,
    tenant: TenantId,
    stored: Stored,
) -> Result<(Versioned, Option<Resource>), TrustError> {
    let row = open(&stored)?;
    if !row.deleted {
        return Ok((row, None));
    }
    let (kind, id) = (stored.kind, stored.id);
    let mut version = row.version;
    while version > 1 {
        version -= 1;
        match view.version(tenant, kind, &id, version).await? {
            Some(before) if !before.deleted => {
                let live = open(&before)?.resource;
                return Ok((row, Some(live)));
            }
            Some(_) => {}
            None => break,
        }
    }
    Err(TrustError::Damaged(format!(
        "no version of document {id} before its deletion"
    )))
}

/// From a row to a resource with its meta.
fn open(stored: &Stored) -> Result<Versioned, TrustError> {
    let damaged = |what: &str| TrustError::Damaged(format!("{what} (document {})", stored.id));
    let kind = ResourceType::from_code(stored.kind.0)
        .ok_or_else(|| damaged("a row is of no resource type"))?;
    let mut resource = if stored.deleted {
        let mut resource = Resource::new(kind);
        resource.set_id(&stored.id);
        resource
    } else {
        // The parser's own words may hold a patient's.
        Resource::parse(&stored.body).map_err(|_| damaged("its body is no FHIR resource"))?
    };
    if resource.kind() != kind || resource.id() != Some(&stored.id) {
        return Err(damaged("its body is another resource"));
    }
    resource.set_meta(stored.version, stored.at.number.unix_ms());
    let (version, at, deleted) = (stored.version, stored.at, stored.deleted);
    Ok(Versioned::new(resource, version, at, deleted))
}

fn touched(row: &Versioned, patient: Option<String>) -> Touched {
    Touched {
        kind: row.resource.kind(),
        id: row.resource.id().unwrap_or_default().to_owned(),
        version: Some(row.version),
        patient,
        interaction: None,
    }
}

/// Something that was asked for and is not shown.
fn missed(kind: ResourceType, id: &str) -> Touched {
    Touched {
        kind,
        id: id.to_owned(),
        version: None,
        patient: None,
        interaction: None,
    }
}

/// Leaves what the permit shows: to a patient, or staff whose permit is limited to one, of an audit event what
/// concerns them; of all else, what the purpose needs. Consents are asked before this, about the whole.
fn redact(permit: &Permit, resource: &mut Resource) {
    if resource.kind() == ResourceType::AuditEvent
        && let Some(patient) = permit.only_patient()
    {
        audit::keep_only(resource, patient);
    }
    if let Some(rule) = permit.in_part(resource.kind()) {
        rule.redaction.apply(resource);
    }
}

/// Marks what goes out as a part, whether or not there was anything that is not shown: the mark must not
/// tell. It is no content, so nothing is found by it.
fn mark(permit: &Permit, resource: &mut Resource) {
    if permit.in_part(resource.kind()).is_some() {
        redaction::mark(resource);
    }
}
