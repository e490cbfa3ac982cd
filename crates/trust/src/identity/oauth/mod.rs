//! Systems that sign in with a key of their own (SMART Backend Services), and the access tokens that they
//! are given. An access token is opaque and short-lived; the store is asked for it, and for its client,
//! with each request, so that what was revoked is refused from the next one on.
//!
//! `apps.rs` and `grants.rs` have applications that people launch, and what these are let do for them,
//! `identity_tokens.rs` what they learn of who somebody is, `signing.rs` the keys for that, `visits.rs` what lets somebody into a visit by video, `origins.rs` where
//! their pages come from, `launches.rs` and `context.rs` what they are opened for;
//! `systems.rs` has who is let in, `keys.rs` their keys, `assertion.rs` how they prove that they hold them,
//! `certificates.rs` and `connected.rs` those who prove themselves by the certificate that they connect with, and `rekey.rs` how keys
//! and certificates change.

mod apps;
mod assertion;
mod behalf;
mod certificates;
mod connected;
mod context;
mod given;
mod grants;
mod hooks;
mod identity_tokens;
mod kept_scopes;
mod keys;
mod launches;
mod lives;
mod origins;
mod rekey;
#[cfg(test)]
pub(crate) mod signer;
mod signing;
mod still;
mod systems;
mod told;
mod visits;

use std::sync::Arc;

use ledger::{Draft, Expected, LedgerError, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, draft, get};
use super::refusals::Why;
use super::{Identity, secrets, sign_in};
use crate::audit::{Event, Record, origin};
use crate::scopes::{SCOPES_BYTES_MAX, Scopes};
use crate::{Access, Agent, Role, TrustError, kinds};

use assertion::Proved;
pub use behalf::OnBehalf;
pub use certificates::{CERTIFICATE_BYTES_MAX, Certificates, PeerCertificate, SubjectName};
use connected::Proven;
pub use connected::{ConnectedClient, ShownSystem};
use kept_scopes::KeptScopes;
pub use keys::KEYS_BYTES_MAX;
use keys::Keys;
pub(super) use systems::SystemDocument;
pub use systems::{NewSystem, SystemKeys, WAITING_MAX};
pub use told::NewAppDevice;
pub use visits::VISIT_TOKEN_TYPE;

pub use apps::{App, NewApp, wanted_scopes};
pub use context::LaunchContext;
pub use given::TokenState;
#[cfg(test)]
pub(crate) use grants::tests::let_in;
pub use grants::{
    APP_ACCESS_LIFE_S, AppTokens, GRANTS_MAX, NewGrant, OFFLINE_IDLE_MS, OFFLINE_LIFE_MS,
    ShownClient, is_challenge,
};
pub(super) use grants::{GrantDocument, s256};
pub use identity_tokens::{IDENTITY_TOKEN_LIFE_S, SignedIn};
pub(super) use launches::LaunchDocument;
pub use launches::Launched;
pub use lives::GrantView;
pub(super) use origins::Origins;
pub use rekey::{EARLIER_KEYS_MAX_MS, KeysOfBefore};
pub use signing::{
    SIGNING_AHEAD_MS, SIGNING_KEPT_MS, SIGNING_LIFE_MS, SigningRotation, rotate_signing_key,
};

/// How long an access token lasts: SMART recommends no more than five minutes where there is no person.
pub const ACCESS_LIFE_S: u64 = 300;
/// What tells access tokens from the tokens of clients that have no key, which begin with a number.
pub(super) const ACCESS: &str = "t.";
/// The same of those that are bound to the certificate of a client (RFC 8705, section 3). They begin otherwise and
/// lie elsewhere, so that a server of a build that does not ask for the certificate finds none of them.
const BOUND: &str = "m.";

/// What a client shows to prove who it is.
#[derive(Debug, Clone, Copy)]
pub struct ClientProof<'a> {
    /// Its signed JWT.
    pub assertion: &'a str,
    /// The address that it has to name.
    pub audience: &'a str,
    /// The client's keys, where they were fetched ([`Identity::keys_wanted`]).
    pub fetched: &'a [FetchedKeys],
}

/// Where keys of a client are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysPlace {
    /// Whose they are.
    pub client: String,
    /// The client's round: keys that were fetched in another may be those that were ended with it.
    pub round: u32,
    /// Where they are (`jwks_uri`).
    pub address: String,
}

/// Keys of a client as they were fetched.
#[derive(Debug, Clone)]
pub struct FetchedKeys {
    /// From where.
    pub place: KeysPlace,
    /// The set; none where it could not be had.
    pub set: Option<String>,
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

const UNKNOWN: &str =
    "there is no client of this client_id, or it was revoked, or waits for approval";

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
    /// The certificate that it is good together with (`x5t#S256`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<String>,
    /// The name in that certificate which its client was known by, if it was known by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound_name: Option<SubjectName>,
    /// The client's round in which it was given.
    #[serde(default)]
    round: u32,
}

/// The secret of an access token, and what its place is made of.
fn parts_of_access(token: &str) -> Option<(&str, &'static str)> {
    let plain = token
        .strip_prefix(ACCESS)
        .map(|secret| (secret, "access token"));
    plain.or_else(|| Some((token.strip_prefix(BOUND)?, "bound access token")))
}

/// A proof that was shown, until it can't be shown again anyway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ProofDocument {
    pub(super) ends_ms: u64,
}

impl Identity {
    /// From where keys have to be fetched next for the client that a proof says it is of: those of now first. None
    /// where the keys that are here prove it, so that a place of before that answers no more holds nobody up, and where
    /// there are no more places. Nothing is proved by that.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn keys_wanted(
        &self,
        tenant: TenantId,
        shown: ClientProof<'_>,
    ) -> Result<Option<KeysPlace>, TrustError> {
        let Some(id) = assertion::claimed(shown.assertion).filter(|id| fhir::is_id(id)) else {
            return Ok(None);
        };
        let system = self.with_a_key(tenant, &id).await?;
        let Some(system) = system.filter(SystemDocument::is_active) else {
            return Ok(None);
        };
        let place = |address: &str| KeysPlace {
            client: id.clone(),
            round: system.round,
            address: address.to_owned(),
        };
        let was_tried = |place: &KeysPlace| shown.fetched.iter().any(|one| one.place == *place);
        let places = system.keys_now(self.now_ms()).filter_map(SystemKeys::place);
        let next = places.map(place).find(|place| !was_tried(place));
        match next {
            // Whether it has to name a `sub` is for who takes it; that needs no other keys.
            Some(place) if self.signed_by(&id, &system, shown, false)?.is_err() => Ok(Some(place)),
            _ => Ok(None),
        }
    }

    /// An access token for a system that proves who it is (`client_credentials`). `wanted` is `scope` as
    /// it was sent.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn grant_to_system(
        &self,
        tenant: TenantId,
        shown: impl Into<ShownSystem<'_>>,
        wanted: &str,
    ) -> Result<Granted, OauthError> {
        let Proven {
            id,
            system,
            once,
            bound,
        } = self.prove_system(tenant, shown.into()).await?;
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
        let now_ms = self.now_ms();
        let latest_ms = now_ms.saturating_add(ACCESS_LIFE_S * 1000);
        // A token does not outlive the certificate that it is bound to.
        let ends_ms = bound.as_ref().map_or(latest_ms, |bound| bound.ends_ms);
        let (bound, bound_name) = match bound {
            Some(bound) => (Some(bound.thumbprint), bound.name),
            None => (None, None),
        };
        let document = AccessDocument {
            secret: secrets::hash(&token),
            client: id.clone(),
            scopes: KeptScopes::of(&scopes),
            expires_ms: latest_ms.min(ends_ms),
            grant: None,
            bound,
            bound_name,
            round: system.round,
        };
        let (prefix, place) = match document.bound {
            Some(_) => (BOUND, "bound access token"),
            None => (ACCESS, "access token"),
        };
        let access = draft(
            ledger,
            tenant,
            kinds::ACCESS_TOKEN,
            &self.id_of(tenant, place, &document.secret),
            Expected::Absent,
            &document,
            &[("client", &id)],
            Some(document.expires_ms),
        )?;
        let note = match document.bound {
            Some(_) => format!("access token given by a certificate, scopes {scopes}"),
            None => format!("access token given, scopes {scopes}"),
        };
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some(&note);
        let documents = once.into_iter().chain([access]).collect();
        match self.commit(tenant, documents, record).await {
            Ok(()) => Ok(Granted {
                token: format!("{prefix}{token}"),
                expires_in_s: document.expires_ms.saturating_sub(now_ms) / 1000,
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
        shown: impl Into<ShownSystem<'_>>,
        token: &str,
    ) -> Result<(), OauthError> {
        let proven = self.prove_system(tenant, shown.into()).await?;
        let (id, system) = (proven.id, proven.system);
        let agent = self.agent_of(tenant, &id, &system, None);
        let mut documents: Vec<Draft> = proven.once.into_iter().collect();
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
                let words = "the client_assertion was used before, or the token is ended by somebody else just now";
                self.refuse_client(&agent, words).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The agent behind a token that FHIR is asked with over a connection without a certificate.
    ///
    /// # Errors
    /// As [`Identity::bearer`].
    pub async fn fhir_bearer(&self, token: &str) -> Result<Agent, TrustError> {
        self.fhir_bearer_over(token, None).await
    }

    /// The agent behind a token that FHIR is asked with: one of a client without a key, or an access token. One
    /// that is bound to a certificate opens nothing without it.
    ///
    /// # Errors
    /// As [`Identity::bearer`].
    pub async fn fhir_bearer_over(
        &self,
        token: &str,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Agent, TrustError> {
        let Some((secret, named)) = parts_of_access(token) else {
            return self.bearer(token).await;
        };
        let Some(tenant) = self.tenant_of(secret) else {
            Why::Token.count();
            return Err(TrustError::SignIn);
        };
        let hash = secrets::hash(secret);
        let place = self.id_of(tenant, named, &hash);
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
        } else if access.round != system.round {
            Some("access token from before the client's keys were ended")
        } else if !self.holds(&access, &system, certificate) {
            Some("access token shown without the certificate that it is bound to")
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

    /// The client that an assertion proves, and what has to be written so that it isn't shown twice.
    pub(super) async fn prove(
        &self,
        tenant: TenantId,
        shown: ClientProof<'_>,
    ) -> Result<(String, SystemDocument, Draft), OauthError> {
        self.prove_by(tenant, shown, true).await
    }

    /// The same; `named` says whether its `sub` has to be the client, too, or may be missing.
    async fn prove_by(
        &self,
        tenant: TenantId,
        shown: ClientProof<'_>,
        named: bool,
    ) -> Result<(String, SystemDocument, Draft), OauthError> {
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
        let proved = match self.signed_by(&id, &system, shown, named)? {
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

    /// The proof that an assertion is, by one of the keys that a client has now; else what is wrong with it by the
    /// first of them.
    fn signed_by(
        &self,
        id: &str,
        system: &SystemDocument,
        shown: ClientProof<'_>,
        named: bool,
    ) -> Result<Result<Proved, &'static str>, TrustError> {
        let now_ms = self.now_ms();
        let mut refusal = None;
        for keys in system.keys_now(now_ms) {
            let place = keys.place();
            let set = match (keys, place) {
                (SystemKeys::Set(text), _) => Keys::parse(text).map_err(|_| {
                    TrustError::Damaged(format!("the keys of client {id} can't be read"))
                })?,
                (_, Some(place)) => {
                    let is_there = |place: &str, at: &KeysPlace| {
                        at.client == id && at.round == system.round && at.address == place
                    };
                    let mut fetched = shown.fetched.iter();
                    let fetched = fetched.find(|one| is_there(place, &one.place));
                    match fetched.and_then(|one| Some(Keys::parse(one.set.as_deref()?))) {
                        Some(Ok(keys)) => keys,
                        Some(Err(_)) => {
                            refusal.get_or_insert(
                                "what is at the client's jwks_uri is no key set that can be used",
                            );
                            continue;
                        }
                        None => {
                            refusal.get_or_insert("the client's keys could not be fetched");
                            continue;
                        }
                    }
                }
                _ => continue,
            };
            let client = assertion::Of { client: id, named };
            match assertion::check(
                shown.assertion,
                (&set, place),
                client,
                shown.audience,
                now_ms,
            ) {
                Ok(proved) => return Ok(Ok(proved)),
                Err(words) => {
                    refusal.get_or_insert(words);
                }
            }
        }
        Ok(Err(refusal.unwrap_or(match &system.certificates {
            Some(_) => {
                "this client proves itself by the certificate that it connects with: send its client_id alone"
            }
            None => "this client has no key: send its client_id alone",
        })))
    }

    /// The client of an id: a system, or an application.
    pub(super) async fn with_a_key(
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
        let parts = parts_of_access(token);
        let Some((secret, named, tenant)) =
            parts.and_then(|(secret, named)| Some((secret, named, self.tenant_of(secret)?)))
        else {
            return Ok(None);
        };
        let hash = secrets::hash(secret);
        let place = self.id_of(tenant, named, &hash);
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
                    round: system.round,
                    grant: None,
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
