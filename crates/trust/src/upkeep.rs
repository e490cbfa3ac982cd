//! What operators do to a store as a whole, in its audit: who, when, what.

use std::sync::Arc;

use ledger::{Clock, Ledger, TenantId};

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
        }
    }
}

/// Records what an operator has done; returns when that is durable. `operator` is how the machine knows
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
) -> Result<(), TrustError> {
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
    Auditor::new(ledger.clone(), wall_clock)
        .commit(&record)
        .await?;
    Ok(())
}
