//! Systems that sign in with a key of their own (SMART Backend Services), and the access tokens that they
//! are given. An access token is opaque and short-lived; the store is asked for it, and for its client,
//! with each request, so that what was revoked is refused from the next one on.
//!
//! `apps.rs` and `grants.rs` have applications that people launch, and what these are let do for them,
//! `identity_tokens.rs` what they learn of who somebody is, `signing.rs` the keys for that, `origins.rs` where
//! their pages come from;
//! `systems.rs` has who is let in, `keys.rs` their keys, `assertion.rs` how they prove that they hold them.

mod apps;
mod assertion;
mod given;
mod grants;
mod identity_tokens;
mod kept_scopes;
mod keys;
mod launches;
mod lives;
mod origins;
#[cfg(test)]
pub(crate) mod signer;
mod signing;
mod still;
mod systems;

use std::sync::Arc;

use ledger::{Draft, Expected, LedgerError, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, draft, get};
use super::refusals::Why;
use super::{Identity, secrets, sign_in};
use crate::audit::{Event, Record, origin};
use crate::scopes::{SCOPES_BYTES_MAX, Scopes};
use crate::{Access, Agent, Role, TrustError, kinds};

use kept_scopes::KeptScopes;
pub use keys::KEYS_BYTES_MAX;
use keys::Keys;
pub(super) use systems::SystemDocument;
pub use systems::{NewSystem, SystemKeys, WAITING_MAX};

pub use apps::{App, NewApp, wanted_scopes};
pub use given::TokenState;
pub use grants::{
    APP_ACCESS_LIFE_S, AppTokens, GRANTS_MAX, NewGrant, OFFLINE_IDLE_MS, OFFLINE_LIFE_MS,
    ShownClient, is_challenge,
};
pub(super) use grants::{GrantDocument, s256};
pub use identity_tokens::{IDENTITY_TOKEN_LIFE_S, SignedIn};
pub(super) use launches::LaunchDocument;
pub use lives::GrantView;
pub(super) use origins::Origins;
pub use signing::{
    SIGNING_AHEAD_MS, SIGNING_KEPT_MS, SIGNING_LIFE_MS, SigningRotation, rotate_signing_key,
};

/// How long an access token lasts: SMART recommends no more than five minutes where there is no person.
pub const ACCESS_LIFE_S: u64 = 300;
/// What tells access tokens from the tokens of clients that have no key, which begin with a number.
pub(super) const ACCESS: &str = "t.";

/// What a client shows to prove who it is.
#[derive(Debug, Clone, Copy)]
pub struct ClientProof<'a> {
    /// Its signed JWT.
    pub assertion: &'a str,
    /// The address that it has to name.
    pub audience: &'a str,
    /// The client's keys, where they were fetched ([`Identity::keys_place`]).
    pub fetched: Option<&'a str>,
}

/// Whether a set has the key that a proof names. Nothing is proved by that.
#[must_use]
pub fn names_key(assertion: &str, set: &str) -> bool {
    let id = assertion::named_key(assertion);
    id.is_some_and(|id| Keys::parse(set).is_ok_and(|keys| keys.has(&id)))
}

/// The client that a proof says it is of. Nothing is proved by that.
#[must_use]
pub fn claims_client(assertion: &str) -> Option<String> {
    assertion::claimed(assertion)
}

/// Why a request for a token was refused, as OAuth 2.0 has it (RFC 6749, section 5.2).
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// The client is unknown, revoked, or did not prove who it is.
    #[error("{0}")]
    InvalidClient(&'static str),
    /// The scopes can't be granted.
    #[error("{0}")]
    InvalidScope(String),
    /// The code or the refresh token opens nothing.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// The client is one, but not for this.
    #[error("{0}")]
    UnauthorizedClient(&'static str),
    /// Something else than the request is wrong.
    #[error(transparent)]
    Inside(TrustError),
}

impl From<TrustError> for OauthError {
    fn from(error: TrustError) -> Self {
        Self::Inside(error)
    }
}

/// An access token as it is given out, once.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The token.
    pub token: String,
    /// How long it lasts.
    pub expires_in_s: u64,
    /// What it lets be done.
    pub scopes: Scopes,
}

/// An access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AccessDocument {
    /// SHA-256 of the token.
    secret: String,
    client: String,
    #[serde(flatten)]
    scopes: KeptScopes,
    pub(super) expires_ms: u64,
    /// Id of the grant that it came of, for an application that asks for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
}

/// A proof that was shown, until it can't be shown again anyway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ProofDocument {
    pub(super) ends_ms: u64,
}

impl Identity {
    /// Where the keys of the client have to be fetched from that an assertion says it is of, if they have
    /// to be. Nothing is proved yet.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn keys_place(
        &self,
        tenant: TenantId,
        assertion: &str,
    ) -> Result<Option<String>, TrustError> {
        let Some(id) = assertion::claimed(assertion).filter(|id| fhir::is_id(id)) else {
            return Ok(None);
        };
        let system = self.with_a_key(tenant, &id).await?;
        let system = system.filter(SystemDocument::is_active);
        Ok(system.and_then(|system| system.keys.place().map(str::to_owned)))
    }

    /// An access token for a system that proves who it is (`client_credentials`). `wanted` is `scope` as
    /// it was sent.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn grant_to_system(
        &self,
        tenant: TenantId,
        proof: ClientProof<'_>,
        wanted: &str,
    ) -> Result<Granted, OauthError> {
        let (id, system, proof) = self.prove(tenant, proof).await?;
        let agent = self.agent_of(tenant, &id, &system, None);
        if system.app.is_some() {
            return Err(OauthError::UnauthorizedClient(
                "an application acts for people: the grant_type must be authorization_code",
            ));
        }
        // What is granted now is what is registered now.
        let registered = self.registered_scopes(&id, &system)?;
        let scopes = match Scopes::parse(wanted) {
            Ok(wanted) if !wanted.has_resources() => {
                let words =
                    "scope is missing: name what the token is for, like system/Observation.rs";
                return self.refuse_scope(&agent, words.to_owned()).await;
            }
            Ok(wanted) => wanted.narrow(&registered),
            Err(error) => return self.refuse_scope(&agent, error.to_string()).await,
        };
        if !scopes.has_resources() {
            let words = "the client is registered for none of these scopes";
            return self.refuse_scope(&agent, words.to_owned()).await;
        }
        // What is kept has to be read again, and each scope that is asked for is joined with each that is
        // registered.
        if scopes.to_string().len() > SCOPES_BYTES_MAX {
            let words = "too many scopes, joined with those that the client is registered for";
            return self.refuse_scope(&agent, words.to_owned()).await;
        }
        let ledger = &self.inner.ledger;
        let token = secrets::mint(tenant, ledger.entropy().as_ref());
        let document = AccessDocument {
            secret: secrets::hash(&token),
            client: id.clone(),
            scopes: KeptScopes::of(&scopes),
            expires_ms: self.now_ms().saturating_add(ACCESS_LIFE_S * 1000),
            grant: None,
        };
        let access = draft(
            ledger,
            tenant,
            kinds::ACCESS_TOKEN,
            &self.id_of(tenant, "access token", &document.secret),
            Expected::Absent,
            &document,
            &[("client", &id)],
            Some(document.expires_ms),
        )?;
        let note = format!("access token given, scopes {scopes}");
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some(&note);
        match self.commit(tenant, vec![proof, access], record).await {
            Ok(()) => Ok(Granted {
                token: format!("{ACCESS}{token}"),
                expires_in_s: ACCESS_LIFE_S,
                scopes,
            }),
            // The proof was shown before, here or to another server of the same store.
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                let words = "the client_assertion was used before";
                self.refuse_client(&agent, words).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends an access token of the system that proves who it is (RFC 7009). A token that is none of its
    /// own, or none at all, is left alone, and no error.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn revoke_access(
        &self,
        tenant: TenantId,
        proof: ClientProof<'_>,
        token: &str,
    ) -> Result<(), OauthError> {
        let (id, system, proof) = self.prove(tenant, proof).await?;
        let agent = self.agent_of(tenant, &id, &system, None);
        let mut documents = vec![proof];
        if let Some((place, kept)) = self.access_document(token).await?
            && kept.body.client == id
        {
            documents.push(super::documents::deletion(
                kinds::ACCESS_TOKEN,
                &place,
                kept.version,
            ));
        }
        let mut record = Record::new(&agent, Event::LOGOUT);
        record.note = Some("access token given back");
        match self.commit(tenant, documents, record).await {
            Ok(()) => Ok(()),
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                let words = "the client_assertion was used before";
                self.refuse_client(&agent, words).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The agent behind a token that FHIR is asked with: one of a client without a key, or an access token.
    ///
    /// # Errors
    /// As [`Identity::bearer`].
    pub async fn fhir_bearer(&self, token: &str) -> Result<Agent, TrustError> {
        let Some(secret) = token.strip_prefix(ACCESS) else {
            return self.bearer(token).await;
        };
        let Some(tenant) = self.tenant_of(secret) else {
            Why::Token.count();
            return Err(TrustError::SignIn);
        };
        let hash = secrets::hash(secret);
        let place = self.id_of(tenant, "access token", &hash);
        let ledger = &self.inner.ledger;
        let found = self.inner.access.get(ledger, tenant, &place).await?;
        let Some(access) = found.filter(|access| secrets::same(&access.secret, &hash)) else {
            let stranger = sign_in::stranger(tenant);
            let record = Record::new(&stranger, Event::LOGIN);
            self.refused(Why::Token, "", record, "unknown access token")
                .await?;
            return Err(TrustError::SignIn);
        };
        if let Some(grant) = &access.grant {
            let subject = &access.client;
            return match self.person_of(tenant, &access, grant).await? {
                Ok(agent) => {
                    origin::known().await;
                    Ok(agent)
                }
                Err((agent, words)) => {
                    let record = Record::new(&agent, Event::LOGIN);
                    self.refused(Why::Token, subject, record, words).await?;
                    Err(TrustError::SignIn)
                }
            };
        }
        let id = &access.client;
        let Some(system) = self.inner.systems.get(ledger, tenant, id).await? else {
            return Err(TrustError::Damaged(format!(
                "an access token is of client {id}, which isn't there"
            )));
        };
        let scopes = access.scopes.parsed(id)?;
        let over = if !system.is_active() {
            Some("access token of a revoked client")
        } else if self.now_ms() >= access.expires_ms {
            Some("expired access token")
        } else {
            None
        };
        let agent = self.agent_of(tenant, id, &system, Some(scopes));
        if let Some(words) = over {
            let record = Record::new(&agent, Event::LOGIN);
            self.refused(Why::Token, id, record, words).await?;
            return Err(TrustError::SignIn);
        }
        origin::known().await;
        Ok(agent)
    }

    /// The system that an assertion proves, and what has to be written so that it isn't shown twice.
    pub(super) async fn prove(
        &self,
        tenant: TenantId,
        shown: ClientProof<'_>,
    ) -> Result<(String, SystemDocument, Draft), OauthError> {
        const UNKNOWN: &str =
            "there is no client of this client_id, or it was revoked, or waits for approval";
        let stranger = sign_in::stranger(tenant);
        let Some(id) = assertion::claimed(shown.assertion) else {
            let words = "the client_assertion is no signed JWT that names its client (iss)";
            return self.refuse_client(&stranger, words).await;
        };
        let known = fhir::is_id(&id);
        let system = match known {
            true => self.with_a_key(tenant, &id).await?,
            false => None,
        };
        let Some(system) = system else {
            return self.refuse_client(&stranger, UNKNOWN).await;
        };
        let agent = self.agent_of(tenant, &id, &system, None);
        if !system.is_active() {
            return self.refuse_client(&agent, UNKNOWN).await;
        }
        let place = system.keys.place();
        let keys = match (&system.keys, shown.fetched) {
            (SystemKeys::Set(text), _) => Keys::parse(text).map_err(|_| {
                TrustError::Damaged(format!("the keys of client {id} can't be read"))
            })?,
            (SystemKeys::None, _) => {
                let words = "this client has no key: send its client_id alone";
                return self.refuse_client(&agent, words).await;
            }
            (SystemKeys::At(_), None) => {
                let words = "the client's keys could not be fetched";
                return self.refuse_client(&agent, words).await;
            }
            (SystemKeys::At(_), Some(text)) => match Keys::parse(text) {
                Ok(keys) => keys,
                Err(_) => {
                    let words = "what is at the client's jwks_uri is no key set that can be used";
                    return self.refuse_client(&agent, words).await;
                }
            },
        };
        let now_ms = self.now_ms();
        let checked =
            assertion::check(shown.assertion, (&keys, place), &id, shown.audience, now_ms);
        let proved = match checked {
            Ok(proved) => proved,
            Err(words) => return self.refuse_client(&agent, words).await,
        };
        let name = format!("{id}\n{}", proved.id);
        let document = ProofDocument {
            ends_ms: proved.ends_ms,
        };
        let proof = draft(
            &self.inner.ledger,
            tenant,
            kinds::CLIENT_PROOF,
            &self.id_of(tenant, "client proof", &name),
            Expected::Absent,
            &document,
            &[],
            Some(document.ends_ms),
        )?;
        Ok((id, system, proof))
    }

    /// The client of an id: a system, or an application.
    async fn with_a_key(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<SystemDocument>, TrustError> {
        let system = self
            .inner
            .systems
            .get(&self.inner.ledger, tenant, id)
            .await?;
        match system {
            Some(system) => Ok(Some(system)),
            None => self.app_document(tenant, id).await,
        }
    }

    pub(super) async fn access_document(
        &self,
        token: &str,
    ) -> Result<Option<(String, Kept<AccessDocument>)>, TrustError> {
        let secret = token.strip_prefix(ACCESS);
        let Some((secret, tenant)) =
            secret.and_then(|secret| Some((secret, self.tenant_of(secret)?)))
        else {
            return Ok(None);
        };
        let hash = secrets::hash(secret);
        let place = self.id_of(tenant, "access token", &hash);
        let found: Option<Kept<AccessDocument>> =
            get(&self.inner.ledger, tenant, kinds::ACCESS_TOKEN, &place).await?;
        Ok(found
            .filter(|kept| secrets::same(&kept.body.secret, &hash))
            .map(|kept| (place, kept)))
    }

    fn registered_scopes(&self, id: &str, system: &SystemDocument) -> Result<Scopes, TrustError> {
        system.scopes.parsed(id)
    }

    pub(super) fn agent_of(
        &self,
        tenant: TenantId,
        id: &str,
        system: &SystemDocument,
        scopes: Option<Scopes>,
    ) -> Agent {
        Agent {
            tenant,
            id: id.to_owned(),
            name: system.name.clone(),
            role: Role::Client,
            patient: None,
            access: scopes.map(|scopes| {
                Arc::new(Access {
                    client: id.to_owned(),
                    client_name: system.name.clone(),
                    scopes,
                    patient: None,
                })
            }),
            signed_in: crate::SignedIn::default(),
        }
    }

    pub(super) async fn refuse_client<T>(
        &self,
        agent: &Agent,
        words: &'static str,
    ) -> Result<T, OauthError> {
        let subject = if agent.role == Role::Client {
            &agent.id
        } else {
            ""
        };
        let record = Record::new(agent, Event::LOGIN);
        self.refused(Why::Assertion, subject, record, words).await?;
        Err(OauthError::InvalidClient(words))
    }

    pub(super) async fn refuse_scope<T>(
        &self,
        agent: &Agent,
        words: String,
    ) -> Result<T, OauthError> {
        let record = Record::new(agent, Event::LOGIN);
        let note = "scopes that can't be granted were asked for";
        self.refused(Why::Scope, &agent.id, record, note).await?;
        Err(OauthError::InvalidScope(words))
    }
}

#[cfg(test)]
mod tests;
