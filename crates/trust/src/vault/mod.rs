//! The Vault: FHIR resources in and out of the ledger, under a permit, audited.
//!
//! `search.rs` finds, `commit.rs` writes, `internal.rs` keeps Cairn's own documents, `export/` gives many out. Here is
//! reading with a leaf of its own; `load.rs` reads for what follows. What they share: `guard.rs` asks the permit and
//! tells the audit, `opening.rs` opens rows by the row rule, `consents.rs` and `relations.rs` hide some.

mod addresses;
mod ahead;
mod care;
mod codes;
mod commit;
mod compartment;
mod consents;
mod doers;
mod explain;
mod export;
mod guard;
mod hooks;
mod include;
mod internal;
mod labels;
mod links;
mod load;
mod looks;
mod model;
mod numbers;
mod once;
mod opening;
mod own;
mod part;
mod past;
mod proof;
mod questions;
mod relations;
mod search;
mod several;
mod shelf;
mod short;
mod sorted;
mod stops;
mod subscriptions;
mod taken;
mod telling;
mod what_if;
mod whole;
mod why;
mod wishes;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};

use fhir::{Resource, ResourceType, search::SearchQuery};
use ledger::{Ledger, LedgerError, Number, Owner, Stored, TenantId, Token, View};
use tokio::sync::Semaphore;

use crate::audit::{Auditor, Event, Outcome, Record};
use crate::consent::Rules;
use crate::identity::PushWays;
use crate::{Action, Permit, TrustError, tokens};

pub use addresses::{AddressMark, AddressStanding, AddressTrouble};
use ahead::Ahead;
pub use compartment::SeriesPage;
use consents::Hidden;
pub use consents::KeptFrom;
pub use explain::{Explained, LookedAt, Step, Steps, Way};
pub use export::{AskAgain, ExportFile, ExportFound, ExportJob, ExportLayout};
pub use export::{ExportOf, ExportReading, ExportShape};
pub use hooks::{
    HookAttempt, HookBook, HookBookKept, HookDelivery, HookFailure, HookKey, HookLog, HookOutcome,
    HookReplay, HookStanding, IN_FORCE_MAX, LOGGED_OF_SHARD, NoReplay, OVERLAP_MAX_MS,
    REPLAY_SPAN_MAX_MS, REPLAYS_MAX, ReplayOf,
};
pub use internal::EveryInternal;
pub use model::{
    Change, Disclosed, HistoryPage, Internal, InternalStored, PageAt, SearchPage, Sought,
    SoughtRow, Unit, UnitReceipt, Versioned, kinds,
};
pub(crate) use once::OnceDocument;
pub use once::{Before, ONCE_KEPT_MS, Once};
use opening::{fetch_in, mark, missed, named, open, open_for, open_live, redact, touched};
pub use own::{IndexStep, Indexing, OWNS_MAX};
pub use part::SearchPart;
pub use past::{PastQuery, PastRow, PastRows};
pub use proof::AuditProof;
pub use questions::{TextAnswer, TextQuestion};
pub use relations::Relation;
#[cfg(test)]
pub(crate) use search::TEXTS_MAX;
pub use shelf::{Shelf, Shelved};
use short::Form;
pub use sorted::SortedAt;
pub use stops::{NoText, TextRules};
pub use subscriptions::{Subscribed, SubscribedKept, SubscriptionRoll, SubscriptionState};
pub use taken::{TAKEN, Taken};
pub use telling::{Telling, ToldRow};
pub(crate) use what_if::Asker;
pub use what_if::{Counts, Effect, Foreseen, Party, WhatIf};
pub use whole::{EXPORTER, EarlierPage, EarlierVersion, OwnDocument, OwnPage, Whole};
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
    texts: OnceLock<TextRules>,
    /// Whether the number that texts come from is another organisation's too.
    number_shared: AtomicBool,
    /// Which devices the organisation sends notifications to.
    notifies: OnceLock<PushWays>,
    consents: Arc<consents::Kept>,
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
        let consents: Arc<consents::Kept> = Arc::default();
        let kept: Weak<consents::Kept> = Arc::downgrade(&consents);
        ledger.tell_forgotten(kept);
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
                texts: OnceLock::new(),
                number_shared: AtomicBool::new(false),
                notifies: OnceLock::new(),
                consents,
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
            if refused {
                self.tell_denied(permit, &mut hidden, (kind, id)).await?;
            }
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
    /// Whose a resource is: its patient's, or the tenant's.
    #[must_use]
    pub fn owner(resource: &Resource) -> Owner {
        resource
            .patient()
            .map_or(Owner::Tenant, |patient| Owner::Patient(patient.to_owned()))
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
                    self.tell_denied(permit, &mut hidden, (kind, id)).await?;
                    record.outcome = Outcome::Refused;
                    record.resources.push(missed(kind, id));
                }
                record.patients.extend(patients);
            }
        }
        self.record(permit, record).await?;
        Ok(answer)
    }
}
