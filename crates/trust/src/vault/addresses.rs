//! Addresses of patients that are not written to any more: what was sent there came back, or whoever reads there does
//! not want it.
//!
//! Kept beside the record and not in it: another system that writes the patient anew takes nothing of it back, and an
//! address that takes the place of another is free of it. The id of a mark is a keyed hash of the patient and the
//! address; neither is in it.

use ledger::{Expected, Owner, TenantId};

use super::{Internal, Vault, kinds};
use crate::{Permit, TrustError};

/// Why an address is not written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressTrouble {
    /// What was sent there came back, because there is no such mailbox.
    Bounced,
    /// Whoever reads there told their provider that it is unwanted.
    Complained,
}

/// That a patient is not written to at an address.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressMark {
    /// Why.
    pub why: AddressTrouble,
    /// The code of the mail server's answer (RFC 3463), if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Since when, milliseconds since the epoch (care clock).
    pub at_ms: u64,
}

impl Vault {
    /// What stands for an address of a patient, or of somebody who acts for them: the same whatever the case of its
    /// letters, and nothing by which it could be known.
    #[must_use]
    pub fn address_id(&self, tenant: TenantId, patient: &str, address: &str) -> String {
        let owner = Owner::Patient(patient.to_owned());
        let address = address.trim().to_lowercase();
        let name = format!("\u{1f}address/{patient}/{address}");
        self.ledger().derive_id(tenant, &owner, &name)
    }

    /// What is known against an address, by what stands for it; and which version the next mark takes the place of.
    ///
    /// # Errors
    /// As [`Vault::internal`]; `Damaged`.
    pub async fn address_mark(
        &self,
        permit: &Permit,
        address_id: &str,
    ) -> Result<(Option<AddressMark>, Expected), TrustError> {
        let found = self
            .internal(permit, kinds::ADDRESS_MARK, address_id)
            .await?;
        let Some(found) = found else {
            return Ok((None, Expected::Absent));
        };
        let mark = serde_json::from_slice(&found.body)
            .map_err(|error| TrustError::Damaged(format!("mark of an address: {error}")))?;
        Ok((mark, Expected::Version(found.version)))
    }

    /// The document that a unit of work writes to mark an address of a patient, or to take its mark away.
    #[must_use]
    pub fn mark_address(
        patient: &str,
        address_id: &str,
        mark: Option<&AddressMark>,
        expected: Expected,
    ) -> Internal {
        Internal {
            kind: kinds::ADDRESS_MARK,
            id: address_id.to_owned(),
            owner: Owner::Patient(patient.to_owned()),
            expected,
            // A struct of strings and numbers can't fail to serialise. One that was taken away stays as an empty one, so
            // that the address can be marked again.
            body: serde_json::to_vec(&mark).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }
}
