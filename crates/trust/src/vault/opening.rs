//! From a row of the ledger to a resource, and what of it is seen.

use fhir::{Resource, ResourceType, redaction};
use ledger::{Hit, LedgerError, Stored, TenantId, View};

use super::{Ahead, Hidden, Sight, Vault, Versioned};
use crate::audit::{self, Touched};
use crate::{Action, Permit, Role, TrustError};

impl Vault {
    /// Opens a row, with its patients and whether the permit and consent let it be seen.
    pub(super) async fn open_seen(
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
    pub(super) async fn keeps_from_proxy(
        &self,
        permit: &Permit,
        live: &Resource,
    ) -> Result<bool, TrustError> {
        if permit.agent.role != Role::Proxy {
            return Ok(false);
        }
        let sight = Sight::now(self.ledger().view()?);
        self.hides(&sight, permit, live, &mut Hidden::default())
            .await
    }
}

/// What a look for a write hides: from who acts for a patient, as much as any other look.
pub(super) fn hidden_from(permit: &Permit) -> Option<Hidden> {
    (permit.agent.role == Role::Proxy).then(Hidden::default)
}

/// Opens a hit of a search; what was sealed with a destroyed key is gone.
pub(super) async fn fetch_in(
    view: &View,
    tenant: TenantId,
    hit: Hit,
) -> Result<Option<Stored>, LedgerError> {
    Ahead::default().first_of(view, tenant, &[hit]).await
}

/// The patients whom a look at a resource concerns. Who looks at the audit looks at no patient's record.
pub(super) fn named(resource: &Resource) -> Vec<String> {
    if resource.kind() == ResourceType::AuditEvent {
        return Vec::new();
    }
    resource.patients().into_iter().map(str::to_owned).collect()
}

/// Opens a row; of a deletion, also the version before, whose content says whose it is.
pub(super) async fn open_live(
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
pub(super) fn open(stored: &Stored) -> Result<Versioned, TrustError> {
    open_with(stored, |_, _| None)
}

/// The same for a permit, where nothing has to be known of what [`redact`] would leave out of an audit event: whether
/// the permit covers it is told by what is left.
pub(super) fn open_for(permit: &Permit, stored: &Stored) -> Result<Versioned, TrustError> {
    open_with(stored, |kind, text| {
        let patient = permit.only_patient()?;
        let is_event = kind == ResourceType::AuditEvent;
        is_event.then(|| audit::part_for(text, patient)).flatten()
    })
}

fn open_with(
    stored: &Stored,
    part: impl FnOnce(ResourceType, &[u8]) -> Option<Resource>,
) -> Result<Versioned, TrustError> {
    let damaged = |what: &str| TrustError::Damaged(format!("{what} (document {})", stored.id));
    let kind = ResourceType::from_code(stored.kind.0)
        .ok_or_else(|| damaged("a row is of no resource type"))?;
    let mut resource = if stored.deleted {
        let mut resource = Resource::new(kind);
        resource.set_id(&stored.id);
        resource
    } else if let Some(part) = part(kind, &stored.body) {
        part
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

pub(super) fn touched(row: &Versioned, patient: Option<String>) -> Touched {
    Touched {
        kind: row.resource.kind(),
        id: row.resource.id().unwrap_or_default().to_owned(),
        version: Some(row.version),
        patient,
        interaction: None,
    }
}

/// Something that was asked for and is not shown.
pub(super) fn missed(kind: ResourceType, id: &str) -> Touched {
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
pub(super) fn redact(permit: &Permit, resource: &mut Resource) {
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
pub(super) fn mark(permit: &Permit, resource: &mut Resource) {
    if permit.in_part(resource.kind()).is_some() {
        redaction::mark(resource);
    }
}
