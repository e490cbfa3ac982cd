//! Whether whoever was let in still would be, for what has been under way for a while.

use ledger::TenantId;

use super::systems::SystemDocument;
use crate::identity::{ClientState, Identity};
use crate::{Access, Agent, Role, TrustError};

impl Identity {
    /// Whether the client, or the account and the grant, behind an agent still has a way in. That an access token
    /// ends by its time ends nothing that it began; that all of them were ended at once, because their keys may be
    /// known to others, does.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub(crate) async fn is_still_in(&self, agent: &Agent) -> Result<bool, TrustError> {
        let tenant = agent.tenant;
        if let Some(app) = agent.app() {
            let document = self.app_document(tenant, &app.client).await?;
            if !document.is_some_and(|document| of_this_round(&document, app)) {
                return Ok(false);
            }
            let grants = self.live_grants(agent).await?;
            return Ok(grants.iter().any(|kept| kept.body.client == app.client));
        }
        if let Some(access) = &agent.access {
            let system = self.system(tenant, &agent.id).await?;
            return Ok(system.is_some_and(|system| of_this_round(&system, access)));
        }
        if agent.role == Role::System {
            return Ok(true);
        }
        if let Some(client) = self.client_with_token(tenant, &agent.id).await? {
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

fn of_this_round(client: &SystemDocument, access: &Access) -> bool {
    client.is_active() && client.round == access.round
}
