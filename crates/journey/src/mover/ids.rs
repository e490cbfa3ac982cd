//! Ids of what journeys make: the same for the same cause.

use ledger::{Ledger, Owner, TenantId};

use crate::engine::Ids;

/// Ids of one patient's journey: keyed hashes of the store, in the patient's shard.
pub(crate) struct PatientIds<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) tenant: TenantId,
    pub(crate) owner: Owner,
    pub(crate) journey: String,
}

impl Ids for PatientIds<'_> {
    fn id(&self, name: &str) -> String {
        self.ledger.derive_id(self.tenant, &self.owner, name)
    }
    fn questionnaire(&self, step: &str) -> String {
        format!(
            "Questionnaire/{}",
            questionnaire_id(self.ledger, self.tenant, &self.journey, step)
        )
    }
    fn questionnaire_of(&self, version: u32, step: &str) -> String {
        let name = self.journey.rsplit_once('/').map_or("", |(name, _)| name);
        let journey = format!("{name}/{version}");
        format!(
            "Questionnaire/{}",
            questionnaire_id(self.ledger, self.tenant, &journey, step)
        )
    }
}

/// The id of a step's questionnaire; `journey` is `name/version`.
pub(crate) fn questionnaire_id(
    ledger: &Ledger,
    tenant: TenantId,
    journey: &str,
    step: &str,
) -> String {
    ledger.derive_id(
        tenant,
        &Owner::Tenant,
        &format!("questionnaire/{journey}/{step}"),
    )
}

/// The id of an instance; `key` is what the entry keys it by, and says whose it is where others can have the
/// same; `again` how often it was started in error before.
pub(crate) fn instance_id(
    ledger: &Ledger,
    tenant: TenantId,
    patient: &str,
    journey: &str,
    key: &str,
    again: u32,
) -> String {
    let name = match again {
        0 => format!("journey/{journey}/{key}"),
        again => format!("journey/{journey}/{key}/{again}"),
    };
    ledger.derive_id(tenant, &Owner::Patient(patient.to_owned()), &name)
}
