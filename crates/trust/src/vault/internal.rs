//! Cairn's own documents: journeys, their instances and trails, progress of imports.
//!
//! The owner stands in the sealed body, before the caller's: a line with the patient's id, empty for
//! the tenant's. So the row rule holds for these documents too.
use std::collections::BTreeSet;

use ledger::{Draft, Hit, Kind, LedgerError, Number, Owner, Query, Stored, TenantId, View};

use super::{Ahead, Internal, InternalStored, Vault, kinds};
use crate::audit::{Event, Record};
use crate::{Action, Permit, Role, TrustError, tokens};

/// Documents looked up at once where all of a kind are gone through.
const PAGE: usize = 500;

impl Vault {
    /// A document of Cairn's own. A patient's document is a look at the patient and audited as one,
    /// unless a part of Cairn looks, just counts are shown ([`Permit::shows_patients`]), or an audit
    /// record of the same request names the patient already.
    ///
    /// # Errors
    /// `Ledger`; `Invalid` for kinds that belong to identity.
    pub async fn internal(
        &self,
        permit: &Permit,
        kind: Kind,
        id: &str,
    ) -> Result<Option<InternalStored>, TrustError> {
        ours(kind)?;
        let Some(stored) = self.ledger().get(permit.tenant(), kind, id).await? else {
            return Ok(None);
        };
        if stored.deleted {
            return Ok(None);
        }
        let mut patients = BTreeSet::new();
        let Some(found) = unwrap(permit, stored, &mut patients)? else {
            return Ok(None);
        };
        self.audit_internals(permit, patients).await?;
        Ok(Some(found))
    }
    /// Every document of a kind of Cairn's own, newest first, as all of them are at one moment; for the
    /// parts of Cairn. As [`Vault::internal_at`].
    ///
    /// # Errors
    /// As [`Vault::internal_at`].
    pub fn every_internal<'a>(
        &self,
        permit: &'a Permit,
        kind: Kind,
    ) -> Result<EveryInternal<'a>, TrustError> {
        let query = Query::Token(self.ledger().kind_token(permit.tenant(), kind));
        self.every(permit, kind, query)
    }
    /// The same for those with a (parameter, value) token; verified by the caller on the body (tokens can collide).
    ///
    /// # Errors
    /// As [`Vault::internal_at`].
    pub fn every_internal_of<'a>(
        &self,
        permit: &'a Permit,
        kind: Kind,
        (name, value): (&str, &str),
    ) -> Result<EveryInternal<'a>, TrustError> {
        let token = self.ledger().token(permit.tenant(), kind, name, value);
        self.every(permit, kind, Query::Token(token))
    }
    fn every<'a>(
        &self,
        permit: &'a Permit,
        kind: Kind,
        query: Query,
    ) -> Result<EveryInternal<'a>, TrustError> {
        own_part(permit, kind)?;
        Ok(EveryInternal {
            permit,
            kind,
            query,
            view: self.ledger().view()?,
            place: None,
            over: false,
        })
    }

    /// A version of one of Cairn's own documents by its place on the feed, for the parts of Cairn that
    /// follow it; not audited, because only they may. `None` when it is of another kind, a deletion, or
    /// not there.
    ///
    /// # Errors
    /// As [`Vault::internal`]; `Invalid` for a permit that is not a part of Cairn's.
    pub async fn internal_at(
        &self,
        permit: &Permit,
        kind: Kind,
        at: Hit,
    ) -> Result<Option<InternalStored>, TrustError> {
        own_part(permit, kind)?;
        let stored = self.ledger().fetch(permit.tenant(), at).await?;
        version_of(permit, kind, stored)
    }

    /// One version of one of Cairn's own documents, for the parts of Cairn that follow the feed. As
    /// [`Vault::internal_at`].
    ///
    /// # Errors
    /// As [`Vault::internal_at`].
    pub async fn internal_version(
        &self,
        permit: &Permit,
        kind: Kind,
        id: &str,
        version: u32,
    ) -> Result<Option<InternalStored>, TrustError> {
        own_part(permit, kind)?;
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let stored = ledger.version(tenant, kind, id, version).await?;
        version_of(permit, kind, stored)
    }

    /// Documents of Cairn's own with all of these (parameter, value) tokens, newest first; verified
    /// by the caller on the body (tokens can collide). Audited as [`Vault::internal`].
    ///
    /// # Errors
    /// As [`Vault::internal`].
    pub async fn internals(
        &self,
        permit: &Permit,
        kind: Kind,
        tokens: &[(&str, &str)],
        before: Option<Number>,
        limit: usize,
    ) -> Result<Vec<InternalStored>, TrustError> {
        ours(kind)?;
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let token = |name: &str, value: &str| Query::Token(ledger.token(tenant, kind, name, value));
        let mut parts: Vec<Query> = tokens
            .iter()
            .map(|(name, value)| token(name, value))
            .collect();
        parts.extend(
            permit
                .only_patient()
                .map(|patient| token(tokens::OWNER, patient)),
        );
        if parts.is_empty() {
            parts.push(Query::Token(ledger.kind_token(tenant, kind)));
        }
        let query = match parts.len() {
            1 => parts.remove(0),
            _ => Query::And(parts),
        };
        let mut patients = BTreeSet::new();
        let mut found = Vec::new();
        let mut place = before;
        let view = ledger.view()?;
        while found.len() < limit {
            let wanted = limit - found.len();
            let hits = view.search(tenant, &query, place, None, wanted).await?;
            let mut ahead = Ahead::default();
            for position in 0..hits.len() {
                if let Some(stored) = ahead.first_of(&view, tenant, &hits[position..]).await?
                    && stored.kind == kind
                    && !stored.deleted
                {
                    found.extend(unwrap(permit, stored, &mut patients)?);
                }
            }
            match hits.last() {
                Some(last) if hits.len() == wanted => place = Some(last.number),
                _ => break,
            }
        }
        drop(view);
        self.audit_internals(permit, patients).await?;
        Ok(found)
    }

    /// Documents of Cairn's own by id, in the order asked for; those that are not there, or that the
    /// permit does not cover, are left out. Audited as [`Vault::internal`], in one record.
    ///
    /// For lists that a part of Cairn puts in order by itself: what it looks through on the way is shown
    /// to nobody, so that only what is read here needs to be in the audit.
    ///
    /// # Errors
    /// As [`Vault::internal`].
    pub async fn internals_of(
        &self,
        permit: &Permit,
        kind: Kind,
        ids: &[String],
    ) -> Result<Vec<InternalStored>, TrustError> {
        ours(kind)?;
        let mut patients = BTreeSet::new();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let stored = match self.ledger().get(permit.tenant(), kind, id).await {
                Err(LedgerError::KeyDestroyed) => None,
                other => other?,
            };
            if let Some(stored) = stored.filter(|stored| !stored.deleted) {
                found.extend(unwrap(permit, stored, &mut patients)?);
            }
        }
        self.audit_internals(permit, patients).await?;
        Ok(found)
    }

    /// Records that somebody looks at what patients' journeys did, before they are told: whose, and what for in a
    /// sentence without patient details.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn record_look(
        &self,
        permit: &Permit,
        patients: BTreeSet<String>,
        note: &str,
    ) -> Result<(), TrustError> {
        let mut record = Record::under(permit, Event::JOURNEY);
        record.patients = patients;
        record.note = Some(note);
        Ok(self.record(permit, record).await?)
    }

    async fn audit_internals(
        &self,
        permit: &Permit,
        patients: BTreeSet<String>,
    ) -> Result<(), TrustError> {
        if permit.agent.role == Role::System || !permit.shows_patients() {
            return Ok(());
        }
        let patients = permit.unnamed(patients);
        if patients.is_empty() {
            return Ok(());
        }
        let mut record = Record::under(permit, Event::JOURNEY);
        record.patients = patients;
        Ok(self.record(permit, record).await?)
    }

    /// A document to be written; checked against the permit by the caller.
    pub(super) fn internal_draft(&self, tenant: TenantId, internal: Internal) -> Draft {
        let token =
            |name: &str, value: &str| self.ledger().token(tenant, internal.kind, name, value);
        let mut found_by: Vec<_> = internal
            .tokens
            .iter()
            .map(|(name, value)| token(name, value))
            .collect();
        let mut body = Vec::with_capacity(internal.body.len() + 40);
        if let Owner::Patient(patient) = &internal.owner {
            found_by.push(token(tokens::OWNER, patient));
            body.extend_from_slice(patient.as_bytes());
        }
        body.push(b'\n');
        body.extend_from_slice(&internal.body);
        if internal.deleted {
            found_by.clear();
            body.clear();
        }
        Draft {
            kind: internal.kind,
            id: internal.id,
            owner: internal.owner,
            expected: internal.expected,
            body,
            deleted: internal.deleted,
            tokens: found_by,
        }
    }

    /// Whether a document may be written under this permit.
    pub(super) fn internal_allowed(permit: &Permit, internal: &Internal) -> bool {
        let action = match internal.kind {
            kinds::JOURNEY_DEFINITION | kinds::JOURNEY_STAGE => permit.action == Action::Publish,
            kinds::IMPORT => permit.action == Action::Import,
            // These are written by `export/`.
            kinds::EXPORT => false,
            kinds::JOURNEY_BATCH | kinds::JOURNEY_BATCH_PART | kinds::JOURNEY_MIGRATION => {
                matches!(permit.action, Action::Steer | Action::Orchestrate)
            }
            _ => permit.action.writes() && permit.action != Action::Steer,
        };
        let row = permit
            .only_patient()
            .is_none_or(|only| internal.owner == Owner::Patient(only.to_owned()));
        action && row && ours(internal.kind).is_ok()
    }
}

fn ours(kind: Kind) -> Result<(), TrustError> {
    if kind.0 < 1000 || kinds::OF_IDENTITY.contains(&kind) {
        return Err(TrustError::Invalid(
            "documents of this kind are not read or written this way".to_owned(),
        ));
    }
    Ok(())
}

/// All documents of a kind, page by page.
pub struct EveryInternal<'a> {
    permit: &'a Permit,
    kind: Kind,
    query: Query,
    view: View,
    place: Option<Number>,
    over: bool,
}

impl EveryInternal<'_> {
    /// The next page; it may be empty. `None` when there are no more.
    ///
    /// # Errors
    /// As [`Vault::internal_at`].
    pub async fn next_page(&mut self) -> Result<Option<Vec<InternalStored>>, TrustError> {
        if self.over {
            return Ok(None);
        }
        let tenant = self.permit.tenant();
        let hits = self
            .view
            .search(tenant, &self.query, self.place, None, PAGE)
            .await?;
        self.over = hits.len() < PAGE;
        self.place = hits.last().map(|last| last.number);
        let mut page = Vec::with_capacity(hits.len());
        let mut ahead = Ahead::default();
        for position in 0..hits.len() {
            let stored = ahead
                .first_of(&self.view, tenant, &hits[position..])
                .await?;
            page.extend(version_of(self.permit, self.kind, stored)?);
        }
        Ok(Some(page))
    }
}

/// What is not audited by itself is for parts of Cairn only.
fn own_part(permit: &Permit, kind: Kind) -> Result<(), TrustError> {
    ours(kind)?;
    if permit.agent.role == Role::System {
        return Ok(());
    }
    Err(TrustError::Invalid(
        "versions of Cairn's own documents are for parts of Cairn".to_owned(),
    ))
}

fn version_of(
    permit: &Permit,
    kind: Kind,
    stored: Option<Stored>,
) -> Result<Option<InternalStored>, TrustError> {
    match stored.filter(|stored| stored.kind == kind && !stored.deleted) {
        Some(stored) => unwrap(permit, stored, &mut BTreeSet::new()),
        None => Ok(None),
    }
}

/// The document, if the permit covers its owner.
fn unwrap(
    permit: &Permit,
    stored: Stored,
    patients: &mut BTreeSet<String>,
) -> Result<Option<InternalStored>, TrustError> {
    let damaged = || TrustError::Damaged(format!("document {} names no owner", stored.id));
    let end = stored
        .body
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(damaged)?;
    let owner = std::str::from_utf8(&stored.body[..end]).map_err(|_| damaged())?;
    // Definitions are nobody's and of use to everybody.
    if !owner.is_empty() {
        if permit.only_patient().is_some_and(|only| only != owner) {
            return Ok(None);
        }
        // Where a patient is in a journey can tell what it is about.
        let sees = permit
            .standing
            .is_some_and(|standing| standing.sees_journeys);
        if permit.agent.role == Role::Proxy && !sees {
            return Ok(None);
        }
        patients.insert(owner.to_owned());
    }
    Ok(Some(InternalStored {
        patient: (!owner.is_empty()).then(|| owner.to_owned()),
        id: stored.id,
        version: stored.version,
        at: stored.at,
        body: stored.body[end + 1..].to_vec(),
    }))
}
