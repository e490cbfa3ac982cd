//! Rows that are passed on as the text that is stored: values are made of those elements only that tell
//! whose a row is and whether it matches.

use fhir::{Resource, ResourceType};
use ledger::Stored;

use super::{Hidden, Sight, Vault, Versioned, named, open};
use crate::{Action, Permit, TrustError};

/// What of a row somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The resource, whole.
    Whole,
    /// [`Versioned::json`] and whose it is.
    Text,
}

/// Those elements of a row, if the permit lets it be seen or not by them and nothing of it is cut. Whether
/// consents look at more is to be asked ([`Vault::consents_look_into`]).
pub(super) fn part(permit: &Permit, stored: &Stored, elements: &[&str]) -> Option<Resource> {
    let kind = ResourceType::from_code(stored.kind.0).filter(|_| !stored.deleted)?;
    if permit.in_part(kind).is_some() || permit.looks_into(kind) {
        return None;
    }
    let mut part = match kind {
        // Whose an event is matters to those alone who see some patients' only.
        ResourceType::AuditEvent if permit.sees_all_events() => {
            fhir::stored::elements(kind, &stored.body, elements)
        }
        ResourceType::AuditEvent => None,
        _ => fhir::stored::part(kind, &stored.body, elements),
    }
    .filter(|part| part.id() == Some(&stored.id))?;
    if elements.contains(&"meta") {
        part.set_meta(stored.version, stored.at.number.unix_ms());
    }
    Some(part)
}

impl Vault {
    /// The row of a part: its text, or all of it where labels have to be told with it.
    pub(super) fn short_row(
        &self,
        part: Resource,
        stored: &Stored,
    ) -> Result<Versioned, TrustError> {
        let (kind, ms) = (part.kind(), stored.at.number.unix_ms());
        if self.may_label(kind, &stored.body) {
            return open(stored);
        }
        let mut text = Vec::with_capacity(stored.body.len() + 128);
        let name = (kind, stored.id.as_str());
        if !fhir::stored::write_with_meta(name, &stored.body, stored.version, ms, &mut text) {
            return open(stored);
        }
        Ok(Versioned {
            resource: part,
            text: Some(text),
            version: stored.version,
            at: stored.at,
            deleted: false,
        })
    }

    /// A row that is read, with its patients and whether the permit and consents let it be seen; `None` if
    /// its text isn't enough to tell.
    pub(super) async fn short(
        &self,
        view: &Sight,
        permit: &Permit,
        stored: &Stored,
        hidden: &mut Hidden,
    ) -> Result<Option<(Versioned, Vec<String>, bool)>, TrustError> {
        let Some(part) = part(permit, stored, &[]) else {
            return Ok(None);
        };
        let of = (&part, stored.body.as_slice());
        if self.consents_look_into(view, permit, of, hidden).await? {
            return Ok(None);
        }
        let seen =
            permit.covers(Action::Read, &part) && !self.hides(view, permit, &part, hidden).await?;
        let patients = named(&part);
        Ok(Some((self.short_row(part, stored)?, patients, seen)))
    }
}
