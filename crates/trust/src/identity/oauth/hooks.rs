//! Clients of CDS Hooks: each request is signed by itself (CDS Hooks 2.0, "Trusting CDS Clients").

use ledger::{LedgerError, TenantId};

use super::super::Identity;
use super::{ClientProof, OauthError};
use crate::audit::{Event, Record};
use crate::{Agent, TrustError};

impl Identity {
    /// The agent behind the JWT of a request to a service. It is proved as a system's is for a token, by the keys that
    /// the system registered, once and for a few minutes, but names no `sub`, and as `aud` the service's own address.
    /// Its rights are those of the scopes that it is registered for.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn hook_client(
        &self,
        tenant: TenantId,
        shown: ClientProof<'_>,
    ) -> Result<Agent, OauthError> {
        let (id, system, once) = self.prove_by(tenant, shown, false).await?;
        let agent = self.agent_of(tenant, &id, &system, None);
        if system.app.is_some() {
            return Err(OauthError::UnauthorizedClient(
                "an application acts for people, and is no client of CDS Hooks",
            ));
        }
        let scopes = self.registered_scopes(&id, &system)?;
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some("CDS Hooks request");
        match self.commit(tenant, vec![once], record).await {
            Ok(()) => {
                crate::audit::origin::known().await;
                Ok(self.agent_of(tenant, &id, &system, Some(scopes)))
            }
            // It was shown before, here or to another server of the same store.
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                let words = "the client_assertion was used before";
                self.refuse_client(&agent, words).await
            }
            Err(error) => Err(error.into()),
        }
    }
}
