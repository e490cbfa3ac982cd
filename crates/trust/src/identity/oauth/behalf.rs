//! Somebody for whom something goes on after their request is over: as they are kept, and whether they would still be
//! let in, with what they may now.

use std::sync::Arc;

use ledger::TenantId;
use serde::{Deserialize, Serialize};

use super::kept_scopes::KeptScopes;
use crate::identity::Identity;
use crate::identity::documents::AgentDocument;
use crate::{Access, Agent, TrustError};

/// An agent as they lie in the store. How they had signed in is not kept: whatever asks for that is not for what goes
/// on without them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnBehalf {
    agent: AgentDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<KeptAccess>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptAccess {
    client: String,
    client_name: String,
    #[serde(flatten)]
    scopes: KeptScopes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patient: Option<String>,
    #[serde(default)]
    round: u32,
}

impl OnBehalf {
    /// As they come with a request.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let access = agent.access.as_ref().map(|access| KeptAccess {
            client: access.client.clone(),
            client_name: access.client_name.clone(),
            scopes: KeptScopes::of(&access.scopes),
            patient: access.patient.clone(),
            round: access.round,
        });
        Self {
            agent: AgentDocument {
                id: agent.id.clone(),
                name: agent.name.clone(),
                role: agent.role,
                patient: agent.patient.clone(),
            },
            access,
        }
    }

    /// Whether a request comes from them: from the same person or system, by the same application.
    #[must_use]
    pub fn is(&self, agent: &Agent) -> bool {
        let client = agent.access.as_ref().map(|access| &access.client);
        self.agent.id == agent.id && self.access.as_ref().map(|kept| &kept.client) == client
    }

    /// What tells them from others.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.access {
            Some(access) if access.client != self.agent.id => {
                format!("{} {}", self.agent.id, access.client)
            }
            _ => self.agent.id.clone(),
        }
    }

    fn agent(&self, tenant: TenantId) -> Result<Agent, TrustError> {
        let mut agent = self.agent.agent(tenant);
        if let Some(kept) = &self.access {
            agent.access = Some(Arc::new(Access {
                client: kept.client.clone(),
                client_name: kept.client_name.clone(),
                scopes: kept.scopes.parsed(&kept.client)?,
                patient: kept.patient.clone(),
                round: kept.round,
                // What acts by itself later looks after no devices.
                grant: None,
            }));
        }
        Ok(agent)
    }
}

impl Identity {
    /// Them as they would be let in now; `None` when they would not be. That an access token ends by its time ends
    /// nothing, and what one application may is what its person lets it do now, if that is less than it was.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn still(
        &self,
        tenant: TenantId,
        behalf: &OnBehalf,
    ) -> Result<Option<Agent>, TrustError> {
        let mut agent = behalf.agent(tenant)?;
        if !self.is_still_in(&agent).await? {
            return Ok(None);
        }
        let Some(app) = agent.app().cloned() else {
            return Ok(Some(agent));
        };
        let mut least = None;
        for kept in self.live_grants(&agent).await? {
            let grant = kept.body;
            if grant.client != app.client || grant.patient != app.patient {
                continue;
            }
            let granted = grant.scopes.parsed(&grant.client)?;
            if app.scopes.lies_in(&granted) {
                return Ok(Some(agent));
            }
            let narrowed = app.scopes.narrow(&granted);
            if least.is_none() && narrowed.has_resources() {
                least = Some(narrowed);
            }
        }
        Ok(least.map(|scopes| {
            agent.access = Some(Arc::new(Access { scopes, ..app }));
            agent
        }))
    }
}
