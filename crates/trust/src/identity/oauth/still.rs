//! Whether whoever was let in still would be, for what has been under way for a while.

use ledger::TenantId;

use super::systems::SystemDocument;
use crate::identity::{ClientState, Identity};
use crate::{Agent, Role, TrustError};

impl Identity {
    /// Whether the client, or the account and the grant, behind an agent still has a way in. That an access token
    /// ends by its time ends nothing that it began.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub(crate) async fn is_still_in(&self, agent: &Agent) -> Result<bool, TrustError> {
        let tenant = agent.tenant;
        if let Some(app) = agent.app() {
            let document = self.app_document(tenant, &app.client).await?;
            if !document.is_some_and(|document| document.is_active()) {
                return Ok(false);
            }
            let grants = self.live_grants(agent).await?;
            return Ok(grants.iter().any(|kept| kept.body.client == app.client));
        }
        if agent.access.is_some() {
            let system = self.system(tenant, &agent.id).await?;
            return Ok(system.is_some_and(|system| system.is_active()));
        }
        if agent.role == Role::System {
            return Ok(true);
        }
        let clients = &self.inner.clients;
        let client = clients.get(&self.inner.ledger, tenant, &agent.id).await?;
        if let Some(client) = client {
            return Ok(client.state(self.now_ms()) == ClientState::Active);
        }
        let account = self.account(tenant, &agent.id).await?;
        Ok(account.is_some_and(|kept| kept.body.active))
    }

    async fn system(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<SystemDocument>, TrustError> {
        let systems = &self.inner.systems;
        systems.get(&self.inner.ledger, tenant, id).await
    }
}
