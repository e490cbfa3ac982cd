//! What operators do to a store as a whole, in its audit: who, when, what.

use std::sync::Arc;

use ledger::{Clock, Ledger, Receipt, TenantId};

use crate::audit::{Auditor, Event, Record};
use crate::{Agent, Purpose, TrustError};

/// What was done to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// A backup was taken.
    BackedUp,
    /// The store was restored from a backup.
    Restored,
    /// The root key was rotated.
    RootKeyRotated,
    /// The organisation's keys were rotated.
    TenantKeysRotated,
    /// The key of the patient with this id was rotated.
    PatientKeyRotated(String),
    /// The key of the organisation's search tokens was rotated.
    TokenKeyRotated,
    /// The outbox was let go after a restore.
    OutboxReleased,
    /// Entries were taken out of the outbox unsent.
    OutboxDiscarded,
    /// A tenant was made, or its name, hosts or quota changed.
    TenantChanged,
    /// A tenant was suspended or resumed.
    TenantSuspended,
    /// Everything of a tenant was exported.
    TenantExported,
    /// A tenant's keys were destroyed.
    TenantDestroyed,
}

impl Upkeep {
    fn event(&self) -> Event {
        match self {
            Self::BackedUp => Event::BACKED_UP,
            Self::Restored => Event::RESTORED,
            Self::RootKeyRotated
            | Self::TenantKeysRotated
            | Self::PatientKeyRotated(_)
            | Self::TokenKeyRotated => Event::KEYS_ROTATED,
            Self::OutboxReleased | Self::OutboxDiscarded => Event::OUTBOX,
            Self::TenantChanged => Event::TENANT_CHANGED,
            Self::TenantSuspended => Event::TENANT_SUSPENDED,
            Self::TenantExported => Event::TENANT_EXPORTED,
            Self::TenantDestroyed => Event::TENANT_DESTROYED,
        }
    }
}

/// Records what an operator has done; returns when that is durable, with its place in the audit. `operator` is how the machine knows
/// who it was, `note` a sentence without patient details.
///
/// # Errors
/// `Ledger`.
pub async fn record_upkeep(
    ledger: &Ledger,
    wall_clock: Arc<dyn Clock>,
    tenant: TenantId,
    operator: &str,
    upkeep: &Upkeep,
    note: &str,
) -> Result<Receipt, TrustError> {
    let agent = Agent {
        name: operator.to_owned(),
        ..Agent::system(tenant, "command-line")
    };
    let mut record = Record::new(&agent, upkeep.event());
    record.purpose = Some(Purpose::Administration);
    record.note = Some(note);
    if let Upkeep::PatientKeyRotated(patient) = upkeep {
        record.patients.insert(patient.clone());
    }
    let auditor = Auditor::new(ledger.clone(), wall_clock);
    Ok(auditor.commit(&record).await?)
}
