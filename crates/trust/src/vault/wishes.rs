//! Which messages a patient wants: where that lies.

use fhir::ResourceType;
use ledger::{Owner, TenantId};

use super::Vault;
use crate::TrustError;
use crate::consent::Wishes;

impl Vault {
    /// The id of the resource that says which messages a patient wants. A patient has one, whoever writes it.
    #[must_use]
    pub fn wishes_id(&self, tenant: TenantId, patient: &str) -> String {
        let owner = Owner::Patient(patient.to_owned());
        let name = format!("message-wishes/{patient}");
        self.ledger().derive_id(tenant, &owner, &name)
    }

    /// Which messages a patient wants, as it is now. For parts of Cairn that write to them.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn wishes(&self, tenant: TenantId, patient: &str) -> Result<Wishes, TrustError> {
        let id = self.wishes_id(tenant, patient);
        let found = self.peek(tenant, ResourceType::Basic, &id).await?;
        Ok(found.map_or_else(Wishes::default, |found| Wishes::of(patient, &found)))
    }
}
