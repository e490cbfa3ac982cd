//! Reading without a leaf of its own: for a write that follows, and for parts of Cairn that act by themselves.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Hit, LedgerError, Number, TenantId};

use super::opening::{hidden_from, mark, missed, named, open, open_live, redact};
use super::{SearchPage, Sight, Vault, Versioned};
use crate::audit::{Event, Outcome, Record};
use crate::{Action, Permit, Role, TrustError, tokens};

impl Vault {
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
        let mut rows = Vec::new();
        let all = |row| {
            rows.push(row);
            false
        };
        self.load_until(permit, query, all).await?;
        Ok(rows)
    }
    /// Goes through all rows that [`Vault::load_search`] would page through, as they are at one moment, page by page,
    /// until something says of one that it is enough.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn load_until(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        mut is_enough: impl FnMut(Versioned) -> bool + Send,
    ) -> Result<(), TrustError> {
        self.require_writing(permit, Action::Search, query.kind)
            .await?;
        let view = Sight::now(self.ledger().view()?);
        let asked = self.linked(&view, permit, query, None).await?;
        let mut before = None;
        let mut hidden = hidden_from(permit);
        loop {
            let page = self
                .scan(&view, permit, &asked.query, before, hidden.as_mut())
                .await?;
            before = page.next;
            if page.rows.into_iter().any(&mut is_enough) || before.is_none() {
                return Ok(());
            }
        }
    }
    /// The resource version at a place of the feed, for followers. `None` when it is no FHIR
    /// resource, or none that the permit covers.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load_at(&self, permit: &Permit, at: Hit) -> Result<Option<Versioned>, TrustError> {
        Ok(self.load_both_at(permit, at).await?.map(|(row, _)| row))
    }
    /// The same, with the resource as it was before, where the version is a deletion.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub async fn load_both_at(
        &self,
        permit: &Permit,
        at: Hit,
    ) -> Result<Option<(Versioned, Option<Resource>)>, TrustError> {
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
        let covered = permit.covers(Action::Read, live);
        Ok(covered.then_some((row, before)))
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

    /// [`Self::peek`]; nothing as well where the patient's key is destroyed.
    pub(crate) async fn peek_unless_erased(
        &self,
        tenant: TenantId,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<Resource>, TrustError> {
        match self.peek(tenant, kind, id).await {
            Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => Ok(None),
            found => found,
        }
    }
}
