//! Proofs of lines of the audit, for who may read them.

use fhir::ResourceType;
use ledger::{DisclosedPart, InclusionProof};

use super::{Vault, Versioned};
use crate::{Permit, TrustError, audit};

/// A line of the audit and what proves it, for a file that can be checked without Cairn.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AuditProof {
    /// The `AuditEvent`'s text: first the event with `null` for each entity, then the entities. Those
    /// that are not for this reader are withheld. Empty when the event was written before leaves
    /// committed to texts; the proof then shows only that a record of this number is in the tree.
    pub parts: Vec<DisclosedPart>,
    /// The way from the leaf to a signed checkpoint.
    pub proof: InclusionProof,
}

impl Vault {
    /// Reads an audit event as [`Vault::read`] does, and proves it. A permit that is limited to a
    /// patient gets the entities that concern them, and of the others that something was left out.
    ///
    /// # Errors
    /// As [`Vault::read`]; `Damaged` when the text is not the one that the tree commits to.
    pub async fn prove(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<Option<(Versioned, AuditProof)>, TrustError> {
        let found = self.read(permit, ResourceType::AuditEvent, id).await?;
        let Some(found) = found.filter(|found| !found.deleted) else {
            return Ok(None);
        };
        let Some(leaf) = self.ledger().audit_leaf(permit.tenant(), found.at).await? else {
            return Ok(None);
        };
        let proof = self.ledger().prove(&leaf).await?;
        let own = permit.only_patient();
        let parts = self
            .ledger()
            .disclose(&leaf, audit::entities, |entity| {
                own.is_none_or(|patient| audit::concerns_text(entity, patient))
            })
            .await?;
        let parts = parts.unwrap_or_default();
        Ok(Some((found, AuditProof { parts, proof })))
    }
}
