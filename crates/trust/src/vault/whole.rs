//! Everything of a tenant, for an operator who takes it out of the store for the organisation that it is of.
//! Consents hide nothing of it: the organisation is told nothing that it does not have, and its patients'
//! consents go with it.

use fhir::ResourceType;
use ledger::{Ledger, Number, Query, TenantId, View};

use super::{Vault, Versioned, fetch_in, open};
use crate::{Action, Permit, Refusal, Role, TrustError, tokens};

/// The part of Cairn that takes everything.
pub const EXPORTER: &str = "tenant-exporter";
/// Resources of one page.
const PAGE: usize = 500;

/// What a tenant has at one moment.
pub struct Whole {
    ledger: Ledger,
    tenant: TenantId,
    view: View,
}

impl Vault {
    /// Everything that a tenant has now. The caller has written into the audit that it is taken.
    ///
    /// # Errors
    /// `Refused` when the permit is not the exporter's; `Ledger`.
    pub fn everything(&self, permit: &Permit) -> Result<Whole, TrustError> {
        let agent = permit.agent();
        let ours = agent.role == Role::System && agent.id == EXPORTER;
        if !ours || permit.action() != Action::Export {
            return Err(TrustError::Refused(Refusal {
                reason: "everything of an organisation is for its operator alone".to_owned(),
                because: Vec::new(),
            }));
        }
        Ok(Whole {
            ledger: self.ledger().clone(),
            tenant: permit.tenant(),
            view: self.ledger().view()?,
        })
    }
}

impl Whole {
    /// The newest versions of living resources of a type, newest first, below a number, and the number to go on
    /// below; `None` at the end.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn page(
        &self,
        kind: ResourceType,
        before: Option<Number>,
    ) -> Result<(Vec<Versioned>, Option<Number>), TrustError> {
        let (tenant, view) = (self.tenant, &self.view);
        let query = Query::Token(self.ledger.kind_token(tenant, tokens::kind(kind)));
        let hits = view.search(tenant, &query, before, None, PAGE).await?;
        let mut rows = Vec::with_capacity(hits.len());
        for hit in &hits {
            // `None`: its patient's key was destroyed.
            if let Some(stored) = fetch_in(view, tenant, *hit).await? {
                rows.push(open(&stored)?);
            }
        }
        // No two documents have one number.
        let next = hits
            .last()
            .filter(|_| hits.len() == PAGE)
            .map(|hit| hit.number);
        Ok((rows, next))
    }

    /// The number that this is of: what was written up to it is in.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn as_of(&self) -> Result<Number, TrustError> {
        Ok(self.view.as_of().await?)
    }
}
