//! What an application learns of who a person is (OpenID Connect Core 1.0, as SMART App Launch 2.2 has it): an
//! identity token beside the first access token of a grant. It says who signed in and when, and opens nothing.

use ledger::TenantId;
use serde_json::{Value, json};

use super::grants::{AppTokens, GrantDocument};
use crate::identity::documents::{AgentDocument, SessionDocument};
use crate::identity::known::known_as;
use crate::identity::oidc::half_hash;
use crate::identity::{Identity, Session};
use crate::scopes::{Context, Scopes};
use crate::{Agent, Role, TrustError};

/// How long an identity token is good for: an application looks at it when it gets it.
pub const IDENTITY_TOKEN_LIFE_S: u64 = 300;
/// What an account can be in the record for an application (SMART App Launch 2.2, section 2.3), the first that
/// there is one of.
const ENTRIES: [fhir::ResourceType; 3] = [
    fhir::ResourceType::Practitioner,
    fhir::ResourceType::PractitionerRole,
    fhir::ResourceType::RelatedPerson,
];

/// Who let an application in, for its identity token.
#[derive(Debug, Clone)]
pub struct SignedIn {
    client: String,
    subject: String,
    /// When they signed in; none where nobody knows.
    signed_in_ms: Option<u64>,
    nonce: Option<String>,
    /// Their entry in the record (`Type/id`).
    entry: Option<String>,
}

impl SessionDocument {
    /// When its person last showed who they are. A provider that asked for nothing here may have done so long
    /// before, and not say when.
    pub(super) fn signed_in_ms(&self) -> Option<u64> {
        match self.provider.as_ref().and_then(|at| at.factor_s) {
            None => Some(self.created_ms),
            Some(0) => None,
            Some(at_s) => Some(at_s.saturating_mul(1000).min(self.created_ms)),
        }
    }
}

impl Identity {
    /// When the person of a session signed in, as far as that is known.
    ///
    /// # Errors
    /// `SignIn` when the session is over; `Ledger`.
    pub async fn signed_in_ms(&self, session: &Session) -> Result<Option<u64>, TrustError> {
        let found = self.live_session(session.agent.tenant, &session.id).await?;
        found.map_or(Err(TrustError::SignIn), |found| Ok(found.signed_in_ms()))
    }

    /// What is granted of who a person is: nothing without `openid`, and no entry of somebody who has none.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn told_of(&self, agent: &Agent, scopes: &Scopes) -> Result<Scopes, TrustError> {
        if !scopes.has(Context::OpenId) {
            return Ok(scopes.without_all(&Context::IDENTITY));
        }
        if Context::ENTRY.iter().any(|entry| scopes.has(*entry))
            && self.entry_of(agent).await?.is_none()
        {
            return Ok(scopes.without_all(&Context::ENTRY));
        }
        Ok(scopes.clone())
    }

    /// Somebody's entry in the record, as `Type/id`: a patient's own, and what administrators say that an account
    /// is known as. It is nobody's where that is unclear, or where there is no such resource.
    async fn entry_of(&self, agent: &Agent) -> Result<Option<String>, TrustError> {
        let (kind, id) = match (agent.role, &agent.patient) {
            (Role::Patient, Some(patient)) => (fhir::ResourceType::Patient, patient.clone()),
            (Role::Patient | Role::Proxy, _) => return Ok(None),
            _ => {
                let known = known_as(&self.inner.ledger, agent.tenant, &agent.id).await?;
                let known: Vec<_> = (known.iter())
                    .filter_map(|one| fhir::Reference::relative(one))
                    .collect();
                let of = |kind| known.iter().filter(move |(other, _)| *other == kind);
                let Some(kind) = ENTRIES.into_iter().find(|kind| of(*kind).count() > 0) else {
                    return Ok(None);
                };
                match (of(kind).next(), of(kind).nth(1)) {
                    (Some((_, id)), None) => (kind, id.to_string()),
                    _ => return Ok(None),
                }
            }
        };
        let found = self.inner.vault.peek(agent.tenant, kind, &id).await?;
        Ok(found.map(|_| format!("{}/{id}", kind.name())))
    }

    /// What every application of the organisation knows somebody by: the same each time, and of nobody else. A
    /// patient is the same one however they signed in.
    pub(super) fn subject_of(
        &self,
        tenant: TenantId,
        agent: &AgentDocument,
    ) -> Result<String, TrustError> {
        // Who writes patients chooses their ids, so it has to be told from an account's.
        let whose = match (agent.role, &agent.patient) {
            (Role::Patient, Some(patient)) => format!("patient {patient}"),
            _ => format!("account {}", agent.id),
        };
        let subject = self.id_of(tenant, "subject", &whose);
        // Without the organisation's keys the ledger has one id for all.
        if subject == self.id_of(tenant, "subject", "nobody") {
            return Err(TrustError::Damaged(
                "the organisation's keys can't be used".to_owned(),
            ));
        }
        Ok(subject)
    }

    /// Who let an application in, if it may know.
    pub(super) async fn signed_in(
        &self,
        tenant: TenantId,
        grant: &GrantDocument,
        scopes: &Scopes,
    ) -> Result<Option<SignedIn>, TrustError> {
        if !scopes.has(Context::OpenId) {
            return Ok(None);
        }
        let entry = match Context::ENTRY.iter().any(|entry| scopes.has(*entry)) {
            true => self.entry_of(&grant.agent.agent(tenant)).await?,
            false => None,
        };
        Ok(Some(SignedIn {
            client: grant.client.clone(),
            subject: self.subject_of(tenant, &grant.agent)?,
            signed_in_ms: grant.signed_in_ms,
            nonce: grant.nonce.clone(),
            entry,
        }))
    }

    /// The identity token that goes with tokens, if one does. `issuer` is the base of FHIR here.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn identity_token(
        &self,
        tenant: TenantId,
        issuer: &str,
        given: &AppTokens,
    ) -> Result<Option<String>, TrustError> {
        let Some(who) = &given.signed_in else {
            return Ok(None);
        };
        let now_s = self.now_ms() / 1000;
        let mut claims = json!({
            "iss": issuer,
            "sub": who.subject,
            "aud": who.client,
            "iat": now_s,
            "exp": now_s + IDENTITY_TOKEN_LIFE_S,
            "at_hash": half_hash(&given.access, jsonwebtoken::Algorithm::RS256),
        });
        let mut say = |name: &str, value: Value| claims[name] = value;
        if let Some(at_ms) = who.signed_in_ms {
            say("auth_time", (at_ms / 1000).into());
        }
        if let Some(nonce) = &who.nonce {
            say("nonce", nonce.as_str().into());
        }
        if let Some(entry) = &who.entry {
            for context in Context::ENTRY {
                if given.scopes.has(context) {
                    say(context.name(), format!("{issuer}/{entry}").into());
                }
            }
        }
        self.signed(tenant, "JWT", &claims).await.map(Some)
    }
}
