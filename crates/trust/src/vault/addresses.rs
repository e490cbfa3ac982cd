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
    /// Something that a newer program knows of.
    #[serde(other)]
    Other,
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

/// What is known of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressStanding {
    /// Why it is not written to, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<AddressMark>,
    /// When somebody last let it be written to again, milliseconds since the epoch (care clock).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_ms: Option<u64>,
    /// When something came back that marks it if it does so on another day, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted_ms: Option<u64>,
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

    /// What is known of an address, by what stands for it; and which version the next takes the place of.
    ///
    /// # Errors
    /// As [`Vault::internal`]; `Damaged`.
    pub async fn address_standing(
        &self,
        permit: &Permit,
        address_id: &str,
    ) -> Result<(AddressStanding, Expected), TrustError> {
        let found = self
            .internal(permit, kinds::ADDRESS_MARK, address_id)
            .await?;
        let Some(found) = found else {
            return Ok((AddressStanding::default(), Expected::Absent));
        };
        let standing = serde_json::from_slice(&found.body)
            .map_err(|error| TrustError::Damaged(format!("mark of an address: {error}")))?;
        Ok((standing, Expected::Version(found.version)))
    }

    /// The document that a unit of work writes to say how an address of a patient stands.
    #[must_use]
    pub fn stand_address(
        patient: &str,
        address_id: &str,
        standing: &AddressStanding,
        expected: Expected,
    ) -> Internal {
        Internal {
            kind: kinds::ADDRESS_MARK,
            id: address_id.to_owned(),
            owner: Owner::Patient(patient.to_owned()),
            expected,
            // A struct of strings and numbers can't fail to serialise.
            body: serde_json::to_vec(standing).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_not_known_is_one() {
        let text = br#"{"mark":{"why":"haunted","at_ms":1}}"#;
        let standing: AddressStanding = serde_json::from_slice(text).expect("a standing");
        let mark = standing.mark.expect("a mark");
        assert_eq!((mark.why, mark.at_ms), (AddressTrouble::Other, 1));
    }
}
