//! Search criteria that say which resource is meant: conditional writes and references.
//!
//! **Two conditional creates at once never make two resources.** A conditional create, or a conditional
//! update, that finds nothing writes to an id that a keyed hash derives from its criteria, and demands that this id was
//! never used. Of several at once the store lets one through; the others conflict, look again and
//! find it. An id of a resource that was deleted, or changed so that it no longer matches, is passed
//! over for the next one in the same fixed order, so that those who race still meet. (A deleted one
//! may have been another patient's, in whose record its versions stay.)
//!
//! **What is made under criteria has to match them,** or a client that tries again would not find what
//! it has made, and make another. Criteria of a search parameter of one's own mean what its definition in
//! force says: who tries again after that was changed asks for something else.
//!
//! **What criteria find is told to who asks**, even by a write that fails, so a look-up for a request is
//! audited before the answer, and says nothing of what a patient's consent hides. An import looks
//! things up for itself.
use fhir::search::{Owns, SearchQuery};
use fhir::{IssueCode, OperationOutcome, ResourceType};
use ledger::{LedgerError, Owner, TenantId};
use trust::{Permit, Sought, SoughtRow, TrustError, Vault, Versioned};

use crate::{CONDITIONAL_DELETES_MAX, RecordError, url};

/// How many ids are tried for one set of criteria. Each means that a resource once created under
/// these criteria was deleted, or changed so that it no longer fits them.
const SLOTS_MAX: u32 = 64;

/// Why nothing is made under criteria that would not find it.
pub(crate) const UNLIKE: &str =
    "the resource does not match the criteria under which it is to be created";

/// What criteria are read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The address of the server.
    pub(crate) base: &'a str,
    /// The search parameters of one's own.
    pub(crate) owns: &'a Owns,
}

/// Criteria of one resource type.
#[derive(Debug, Clone)]
pub(crate) struct Criteria {
    query: SearchQuery,
    /// The same text for criteria that are the same but for order and encoding.
    canonical: String,
    /// System and value, where the criteria are just `identifier=system|value`.
    identifier: Option<(String, String)>,
    /// How many resources can be made under them, one after the other.
    slots: u32,
}

/// What criteria found.
#[derive(Clone)]
pub(crate) enum Found {
    Nothing,
    One(Box<Versioned>),
    /// One that a patient's consent hides from who asks.
    Hidden,
    Several,
}

impl Found {
    pub(crate) fn of(mut sought: Sought) -> Self {
        match (sought.rows.pop(), sought.rows.is_empty() && !sought.more) {
            (None, _) => Self::Nothing,
            (Some(_), false) => Self::Several,
            (Some(SoughtRow { hidden: true, .. }), _) => Self::Hidden,
            (Some(SoughtRow { row, .. }), _) => Self::One(Box::new(row)),
        }
    }
}

/// Where a conditional create goes.
pub(crate) enum Slot {
    /// Write here; the id was never used.
    Free(String),
    /// Somebody just did.
    Taken(Box<Versioned>),
    /// All ids are used up.
    Exhausted,
}

impl Criteria {
    /// Parses `name=value&…`, also behind `?` or `Type?`.
    pub(crate) fn parse(
        reading: Reading<'_>,
        kind: ResourceType,
        text: &str,
    ) -> Result<Self, OperationOutcome> {
        let text = text
            .strip_prefix(kind.name())
            .filter(|rest| rest.starts_with('?'))
            .unwrap_or(text);
        let text = text.strip_prefix('?').unwrap_or(text);
        let malformed =
            || OperationOutcome::error(IssueCode::Invalid, "the criteria are no query string");
        Self::of_pairs(reading, kind, &url::pairs(text).ok_or_else(malformed)?)
    }
    /// Criteria whose names and values are known already.
    pub(crate) fn of_pairs(
        reading: Reading<'_>,
        kind: ResourceType,
        pairs: &[(String, String)],
    ) -> Result<Self, OperationOutcome> {
        let mut query = SearchQuery::parse_with(kind, pairs, false, reading.owns)?;
        if query.has_links() {
            return Err(OperationOutcome::error(
                IssueCode::NotSupported,
                "criteria are about the resource itself; chains and _has can't be used in them",
            ));
        }
        if query.needs_codes() {
            return Err(OperationOutcome::error(
                IssueCode::NotSupported,
                "criteria are about the resource itself; what value sets and code systems say can't be used in them",
            ));
        }
        if query.depends_on_now() {
            return Err(OperationOutcome::error(
                IssueCode::NotSupported,
                "criteria mean the same whenever they are used; what is about a date (ap) can't be used in them",
            ));
        }
        if query.clauses.is_empty() && query.conditions.is_empty() {
            return Err(OperationOutcome::error(
                IssueCode::Invalid,
                "criteria need at least one search parameter",
            ));
        }
        if !query.includes.is_empty() {
            return Err(OperationOutcome::error(
                IssueCode::Invalid,
                "criteria say which resource is meant; they can't include others",
            ));
        }
        query.of_server(reading.base);
        query.count = 2;
        query.total = false;
        let mut used: Vec<(&str, &str)> = query
            .used
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        used.retain(|(name, _)| !matches!(*name, "_count" | "_total" | "_sort" | "_format"));
        used.sort_unstable();
        let canonical = format!("{kind}?{}", url::query(used.iter().copied()));
        let identifier = match used.as_slice() {
            [("identifier", value)] if !value.contains([',', '\\']) => value
                .split_once('|')
                .map(|(system, value)| (system.to_owned(), value.to_owned())),
            _ => None,
        };
        Ok(Self {
            query,
            canonical,
            identifier,
            slots: SLOTS_MAX,
        })
    }
    /// The same criteria for what is made once and never again, also when it is deleted.
    pub(crate) fn for_ever(mut self) -> Self {
        self.slots = 1;
        self
    }
    /// The same criteria for all that match, as far as one request deletes them.
    pub(crate) fn for_all(mut self) -> Self {
        self.query.count = CONDITIONAL_DELETES_MAX + 1;
        self
    }
    pub(crate) fn kind(&self) -> ResourceType {
        self.query.kind
    }
    pub(crate) fn canonical(&self) -> &str {
        &self.canonical
    }
    pub(crate) fn identifier(&self) -> Option<(&str, &str)> {
        self.identifier
            .as_ref()
            .map(|(system, value)| (system.as_str(), value.as_str()))
    }
    pub(crate) fn matches(&self, resource: &fhir::Resource) -> bool {
        self.query.matches(resource)
    }
    /// What is in the store, for a request; audited as one search, however many criteria there are.
    pub(crate) async fn seek(
        vault: &Vault,
        permit: &Permit,
        criteria: &[&Self],
    ) -> Result<Vec<Found>, TrustError> {
        let sought = Self::seek_rows(vault, permit, criteria).await?;
        Ok(sought.into_iter().map(Found::of).collect())
    }
    /// The same as the rows that were found.
    pub(crate) async fn seek_rows(
        vault: &Vault,
        permit: &Permit,
        criteria: &[&Self],
    ) -> Result<Vec<Sought>, TrustError> {
        let queries: Vec<&SearchQuery> = criteria.iter().map(|criteria| &criteria.query).collect();
        vault.seek(permit, &queries).await
    }
    /// What is in the store, for an import.
    pub(crate) async fn find(&self, vault: &Vault, permit: &Permit) -> Result<Found, TrustError> {
        let mut page = vault.load_search(permit, &self.query, None).await?;
        Ok(match page.rows.len() {
            0 => Found::Nothing,
            1 if page.next.is_none() => Found::One(Box::new(page.rows.remove(0))),
            _ => Found::Several,
        })
    }
    fn id(&self, vault: &Vault, tenant: TenantId, slot: u32) -> String {
        let name = format!("if-none-exist\n{}\n{slot}", self.canonical);
        // The id must not depend on whose the resource will be, or two that race with the same
        // criteria for different patients would not meet.
        if self.kind() == ResourceType::Patient {
            vault.ledger().derive_own_id(tenant, &name)
        } else {
            vault.ledger().derive_id(tenant, &Owner::Tenant, &name)
        }
    }
    /// Where a create goes after [`Criteria::find`] found nothing.
    pub(crate) async fn slot(&self, vault: &Vault, permit: &Permit) -> Result<Slot, TrustError> {
        for slot in 0..self.slots {
            let id = self.id(vault, permit.tenant(), slot);
            let row = match vault.load(permit, self.kind(), &id).await {
                // Whose key is destroyed was there.
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => continue,
                row => row?,
            };
            match row {
                None => return Ok(Slot::Free(id)),
                Some(row) if !row.deleted && self.matches(&row.resource) => {
                    return Ok(Slot::Taken(Box::new(row)));
                }
                Some(_) => {}
            }
        }
        Ok(Slot::Exhausted)
    }
}

pub(crate) fn several() -> RecordError {
    RecordError::new(
        412,
        IssueCode::MultipleMatches,
        "the criteria match several resources",
    )
}

/// There is one, but not for this caller to see: making another would make two of what is one.
pub(crate) fn hidden() -> RecordError {
    let words = "the criteria match a resource that the patient's consent keeps from you";
    RecordError::new(412, IssueCode::Forbidden, words)
}

/// A resource that its own criteria don't find: doing the request again would make another.
pub(crate) fn unlike() -> RecordError {
    RecordError::new(422, IssueCode::BusinessRule, UNLIKE)
}

pub(crate) fn exhausted() -> RecordError {
    let words = format!(
        "{SLOTS_MAX} resources created under these criteria were deleted or changed so that they no longer fit; create it without them"
    );
    RecordError::new(409, IssueCode::Conflict, words)
}
