//! The Vault: FHIR resources in and out of the ledger, under a permit, audited.
//!
//! `search.rs` finds, `commit.rs` writes, `internal.rs` keeps Cairn's own documents; here is reading
//! and what they share: opening a row, the row rule, and consent.

mod commit;
mod internal;
mod model;
mod proof;
mod search;

use std::collections::HashMap;
use std::sync::Arc;

use fhir::{Resource, ResourceType, search::SearchQuery};
use ledger::{Hit, Ledger, LedgerError, Number, Owner, Stored, TenantId};

use crate::audit::{self, Auditor, Event, Outcome, Record, Touched};
use crate::policy::Group;
use crate::{Action, Permit, Refusal, Role, TrustError, consent, tokens};

pub use model::{
    Change, Internal, InternalStored, SearchPage, Unit, UnitReceipt, Versioned, kinds,
};
pub use proof::AuditProof;

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: Ledger,
    auditor: Auditor,
}

/// Whether a patient's consents hide rows from this permit, found once a request.
#[derive(Default)]
struct Hidden(HashMap<String, bool>);

impl Vault {
    pub(crate) fn new(ledger: Ledger, auditor: Auditor) -> Self {
        Self {
            inner: Arc::new(Inner { ledger, auditor }),
        }
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
        self.require(permit, Action::Read, kind).await?;
        let stored = self
            .ledger()
            .get(permit.tenant(), tokens::kind(kind), id)
            .await?;
        self.answer(permit, Event::READ, kind, id, stored).await
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
        let stored = self
            .ledger()
            .version(tenant, tokens::kind(kind), id, version)
            .await?;
        self.answer(permit, Event::VREAD, kind, id, stored).await
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
        self.require(permit, Action::History, kind).await?;
        let tenant = permit.tenant();
        let stored = self
            .ledger()
            .history(tenant, tokens::kind(kind), id, before, limit)
            .await?;
        let mut hidden = Hidden::default();
        let mut record = Record::under(permit, Event::HISTORY);
        let mut rows = Vec::with_capacity(stored.len());
        let mut refused = false;
        for one in stored {
            let (mut row, patient, seen) = self.open_seen(permit, one, &mut hidden).await?;
            if seen {
                record.touch(touched(&row, patient));
                redact(permit, &mut row.resource);
                rows.push(row);
            } else {
                refused = true;
                record.patients.extend(patient);
            }
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
        Ok(rows)
    }
    /// Searches, newest first, below `before`; filtered by the permit's row rule and patients'
    /// consents; each row verified against the query on the opened body; audited as one leaf that
    /// lists the rows.
    ///
    /// # Errors
    /// As [`Vault::read`]; `Invalid` when more than 100,000 candidates would have to be checked.
    pub async fn search(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
    ) -> Result<SearchPage, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        let page = self
            .scan(permit, query, before, &mut Hidden::default())
            .await?;
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
        let mut pages = Vec::with_capacity(queries.len());
        for query in queries {
            self.require(permit, Action::Search, query.kind).await?;
            pages.push(self.scan(permit, query, None, &mut hidden).await?);
        }
        let queries: Vec<&SearchQuery> = queries.iter().collect();
        self.record_pages(permit, &queries, pages).await
    }
    /// Loads for a write that follows under the same permit (read-modify-write), or for a part of
    /// Cairn that acts by itself; not audited by itself because the commit that follows is. Only for
    /// permits whose action writes (`Create`…`Import`, `Work`, `Send`, `Orchestrate`, `Publish`).
    /// Consents that restrict access hide nothing here.
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
        let stored = self
            .ledger()
            .get(permit.tenant(), tokens::kind(kind), id)
            .await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let (row, live) = self.open_live(permit.tenant(), stored).await?;
        if permit.covers(&live) {
            return Ok(Some(row));
        }
        let mut record = Record::under(permit, Event::READ);
        record.outcome = Outcome::Refused;
        record.patients.extend(live.patient().map(str::to_owned));
        record.resources.push(missed(kind, id));
        self.record(permit, record).await?;
        Ok(None)
    }
    /// Like [`Vault::load`] for a search.
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
        let mut nothing = Hidden::default();
        self.scan_with(permit, query, before, &mut nothing, false)
            .await
    }
    /// The resource version at a place of the feed, for followers. `None` when it is no FHIR
    /// resource, or none that the permit covers.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load_at(&self, permit: &Permit, at: Hit) -> Result<Option<Versioned>, TrustError> {
        let tenant = permit.tenant();
        let Some(stored) = self.ledger().fetch(tenant, at).await? else {
            return Ok(None);
        };
        let Some(kind) = ResourceType::from_code(stored.kind.0) else {
            return Ok(None);
        };
        if !permit.action.writes() || !permit.allows(Action::Read, kind) {
            return Ok(None);
        }
        let (row, live) = self.open_live(tenant, stored).await?;
        Ok(permit.covers(&live).then_some(row))
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

    /// Answers a read of one row: audited first, whatever comes of it.
    async fn answer(
        &self,
        permit: &Permit,
        event: Event,
        kind: ResourceType,
        id: &str,
        stored: Option<Stored>,
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
                let (mut row, patient, seen) = self.open_seen(permit, stored, &mut hidden).await?;
                if seen {
                    record.touch(touched(&row, patient));
                    redact(permit, &mut row.resource);
                    answer = Some(row);
                } else {
                    record.outcome = Outcome::Refused;
                    record.patients.extend(patient);
                    record.resources.push(missed(kind, id));
                }
            }
        }
        self.record(permit, record).await?;
        Ok(answer)
    }

    /// Opens a row, with its patient and whether the permit and consent let it be seen.
    async fn open_seen(
        &self,
        permit: &Permit,
        stored: Stored,
        hidden: &mut Hidden,
    ) -> Result<(Versioned, Option<String>, bool), TrustError> {
        let (row, live) = self.open_live(permit.tenant(), stored).await?;
        // Whoever looks at the audit looks at no patient's record.
        let patient = (live.kind() != ResourceType::AuditEvent)
            .then(|| live.patient().map(str::to_owned))
            .flatten();
        let seen = permit.covers(&live) && !self.hides(permit, &live, hidden).await?;
        Ok((row, patient, seen))
    }

    /// Opens a row and the content that says whose it is: for a deletion, the version before.
    async fn open_live(
        &self,
        tenant: TenantId,
        stored: Stored,
    ) -> Result<(Versioned, Resource), TrustError> {
        let (kind, id) = (stored.kind, stored.id.clone());
        let row = open(&stored)?;
        if !row.deleted {
            let live = row.resource.clone();
            return Ok((row, live));
        }
        let mut version = row.version;
        while version > 1 {
            version -= 1;
            let before = self.ledger().version(tenant, kind, &id, version).await?;
            match before {
                Some(before) if !before.deleted => {
                    let live = open(&before)?.resource;
                    return Ok((row, live));
                }
                Some(_) => {}
                None => break,
            }
        }
        Err(TrustError::Damaged(format!(
            "no version of document {id} before its deletion"
        )))
    }

    /// Whether the patient's consents hide a row from this permit.
    async fn hides(
        &self,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let group = permit.grants.group(resource.kind());
        let restricted = matches!(permit.agent.role, Role::Coordinator | Role::Client)
            && matches!(group, Group::Clinical | Group::Financial);
        let Some(patient) = resource.patient().filter(|_| restricted) else {
            return Ok(false);
        };
        if let Some(known) = hidden.0.get(patient) {
            return Ok(*known);
        }
        let hides = self.access_denied(permit, patient).await?;
        hidden.0.insert(patient.to_owned(), hides);
        Ok(hides)
    }

    async fn access_denied(&self, permit: &Permit, patient: &str) -> Result<bool, TrustError> {
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let kind = ResourceType::Consent;
        let denying = tokens::of_patient(ledger, tenant, kind, patient, Some(tokens::DENIES));
        if ledger
            .search(tenant, &denying, None, None, 1)
            .await?
            .is_empty()
        {
            return Ok(false);
        }
        let consents = self.consents(tenant, patient).await?;
        let now_ms = i64::try_from(ledger.clock().now_ms()).unwrap_or(i64::MAX);
        Ok(!consent::access(&consents, permit.purpose, now_ms).permitted)
    }

    /// All live consents of a patient.
    async fn consents(&self, tenant: TenantId, patient: &str) -> Result<Vec<Resource>, TrustError> {
        const PAGE: usize = 256;
        let ledger = self.ledger();
        let query = tokens::of_patient(ledger, tenant, ResourceType::Consent, patient, None);
        let mut consents = Vec::new();
        let mut before = None;
        loop {
            let hits = ledger.search(tenant, &query, before, None, PAGE).await?;
            for hit in &hits {
                if let Some(stored) = fetch_open(ledger, tenant, *hit).await?
                    && !stored.deleted
                {
                    let consent = open(&stored)?.resource;
                    if consent.patient() == Some(patient) {
                        consents.push(consent);
                    }
                }
            }
            match hits.last() {
                Some(last) if hits.len() == PAGE => before = Some(last.number),
                _ => return Ok(consents),
            }
        }
    }

    /// The permit must allow the interaction with the type.
    async fn require(
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
        let reason = format!(
            "a permit to {} of the role {} does not let {}{what} for {}",
            permit.action.name(),
            permit.agent.role.name(),
            interaction.name(),
            permit.purpose.code(),
        );
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
    async fn record(&self, permit: &Permit, record: Record<'_>) -> Result<(), LedgerError> {
        let patients = record.patients.clone();
        self.inner.auditor.commit(&record).await?;
        permit.name_patients(&patients);
        Ok(())
    }
}

/// Opens a place; what was sealed with a destroyed key is gone.
async fn fetch_open(
    ledger: &Ledger,
    tenant: TenantId,
    hit: Hit,
) -> Result<Option<Stored>, LedgerError> {
    match ledger.fetch(tenant, hit).await {
        Err(LedgerError::KeyDestroyed) => Ok(None),
        other => other,
    }
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
    Ok(Versioned {
        resource,
        version: stored.version,
        at: stored.at,
        deleted: stored.deleted,
    })
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

/// What a patient sees of an audit event is what concerns them; the same holds for staff whose permit
/// is limited to a patient.
fn redact(permit: &Permit, resource: &mut Resource) {
    if resource.kind() == ResourceType::AuditEvent
        && let Some(patient) = permit.only_patient()
    {
        audit::keep_only(resource, patient);
    }
}
