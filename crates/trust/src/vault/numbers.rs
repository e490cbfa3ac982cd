//! Whose a telephone number is.

use fhir::ResourceType;
use ledger::Number;

use super::opening::{fetch_in, open_live};
use super::{Vault, Versioned};
use crate::{Action, Permit, TrustError, tokens};

/// Patients looked up at once.
const PAGE: usize = 100;

impl Vault {
    /// Patients who may have a telephone number, found by blind tokens; whoever asks compares the numbers. `forms` are
    /// ways in which it is written: patients whom a program wrote that knew no tokens of numbers are found by these
    /// alone. For parts of Cairn that act by themselves; what they write of it is audited.
    ///
    /// # Errors
    /// As [`Vault::load`].
    pub async fn patients_by_number(
        &self,
        permit: &Permit,
        number: &str,
        forms: &[String],
    ) -> Result<Vec<Versioned>, TrustError> {
        let kind = ResourceType::Patient;
        self.require_writing(permit, Action::Search, kind).await?;
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let Some(query) = tokens::of_number(ledger, tenant, number, forms) else {
            return Ok(Vec::new());
        };
        let view = ledger.view()?;
        let mut found = Vec::new();
        let mut before: Option<Number> = None;
        loop {
            let hits = view.search(tenant, &query, before, None, PAGE).await?;
            for hit in &hits {
                let Some(stored) = fetch_in(&view, tenant, *hit).await? else {
                    continue;
                };
                if stored.kind != tokens::kind(kind) || stored.deleted {
                    continue;
                }
                let (row, _) = open_live(&view, tenant, stored).await?;
                if permit.covers(Action::Read, &row.resource) {
                    found.push(row);
                }
            }
            match hits.last() {
                Some(last) if hits.len() == PAGE => before = Some(last.number),
                _ => return Ok(found),
            }
        }
    }
}
