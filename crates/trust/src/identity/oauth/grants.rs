//! What people let applications do for them (authorization code with PKCE, refresh tokens).
//!
//! A grant is one document: it begins as a code, and becomes what a refresh token renews. Its id follows from
//! the code, so that a code which comes again finds what came of it; a refresh token is the code's secret and
//! one of its own that changes with each use, so that an older one is known as such. Access tokens name
//! their grant, which is asked for with each request, and so are the person's session and account: what ends
//! there ends here from the next request on. `lives.rs` has which of them are live, `given.rs` tokens that are
//! given back and asked about, `launches.rs` applications that are opened from a patient's page.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Draft, Expected, LedgerError, TenantId};
use serde::{Deserialize, Serialize};

use super::apps::App;
use super::context::{LaunchContext, with_encounter};
use super::identity_tokens::SignedIn;
use super::kept_scopes::KeptScopes;
use super::systems::SystemDocument;
use super::{ACCESS, AccessDocument, ClientProof, OauthError};
use crate::audit::{Event, Record};
use crate::identity::documents::{AgentDocument, Kept, deletion, draft, get};
use crate::identity::manage::invalid;
use crate::identity::refusals::Why;
use crate::identity::{Identity, RETRIES, Session, secrets, sign_in};
use crate::scopes::{Context, Level, Scopes};
use crate::{Agent, Role, TrustError, kinds};

/// How long a code is good for: it goes straight from the browser to the application.
const CODE_LIFE_MS: u64 = 60_000;
/// How long an access token of an application lasts.
pub const APP_ACCESS_LIFE_S: u64 = 900;
/// A grant that outlives the session ends when the application has not used it for so long.
pub const OFFLINE_IDLE_MS: u64 = 30 * 86_400_000;
/// And at the latest so long after it was given.
pub const OFFLINE_LIFE_MS: u64 = 365 * 86_400_000;
/// Grants that one person may have at a time. Each is one installation of one application.
pub const GRANTS_MAX: usize = 100;
/// How long is waited for a commit that is on its way, in all and from look to look: a flush to a disk that is
/// busy takes a second at most.
const LOOKS_MAX: usize = 500;
const LOOK_APART: std::time::Duration = std::time::Duration::from_millis(10);
/// What tells codes and refresh tokens from access tokens.
const CODE: &str = "c.";
const REFRESH: &str = "r.";
/// RFC 7636, section 4.1 and 4.2.
const VERIFIER_BYTES: std::ops::RangeInclusive<usize> = 43..=128;
const CHALLENGE_BYTES: usize = 43;

/// How far a grant has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum GrantStage {
    Code {
        redirect_uri: String,
        challenge: String,
    },
    /// SHA-256 of the secret that the present refresh token has; none without one.
    Open { refresh: Option<String> },
}

/// A grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::identity) struct GrantDocument {
    /// SHA-256 of the code.
    pub(super) code: String,
    pub(super) client: String,
    pub(super) agent: AgentDocument,
    pub(super) account: Option<String>,
    /// Id of the session that it was given in.
    pub(super) session: String,
    /// The patient that is worked on, if one was chosen.
    pub(super) patient: Option<String>,
    /// What it is about beside the patient.
    #[serde(default, skip_serializing_if = "LaunchContext::is_empty")]
    pub(super) context: LaunchContext,
    #[serde(flatten)]
    pub(super) scopes: KeptScopes,
    /// What ties an identity token to the application's request; gone with the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nonce: Option<String>,
    /// When its person had signed in, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signed_in_ms: Option<u64>,
    pub(super) stage: GrantStage,
    pub(super) created_ms: u64,
    pub(super) used_ms: u64,
    pub(in crate::identity) expires_ms: u64,
}

/// What a person lets an application do.
#[derive(Debug, Clone)]
pub struct NewGrant<'a> {
    /// The application.
    pub app: &'a App,
    /// Where the code goes.
    pub redirect_uri: &'a str,
    /// `code_challenge`, S256.
    pub challenge: &'a str,
    /// What the person agreed to.
    pub scopes: &'a Scopes,
    /// The patient that was chosen.
    pub patient: Option<&'a str>,
    /// The secret of the launch that it came from.
    pub launch: Option<&'a str>,
    /// `nonce`, if it sent one.
    pub nonce: Option<&'a str>,
    /// What it is about beside the patient, which the person has been shown.
    pub context: Option<&'a LaunchContext>,
}

/// Who asks for tokens.
#[derive(Debug, Clone, Copy)]
pub enum ShownClient<'a> {
    /// One with a key.
    Proof(ClientProof<'a>),
    /// One that keeps no secret, by its `client_id`.
    Public(&'a str),
}

/// Tokens as they are given out, once.
#[derive(Debug, Clone)]
pub struct AppTokens {
    /// The access token.
    pub access: String,
    /// How long it lasts.
    pub expires_in_s: u64,
    /// The refresh token, if there is one.
    pub refresh: Option<String>,
    /// What they let be done.
    pub scopes: Scopes,
    /// The patient that they are for.
    pub patient: Option<String>,
    /// What they are about beside the patient.
    pub context: LaunchContext,
    /// Who let the application in, where it is told.
    pub signed_in: Option<SignedIn>,
}

impl Identity {
    /// Lets an application in for the person of a session, and gives the code for it. What is granted is cut
    /// down once more to what can be.
    ///
    /// # Errors
    /// `Invalid` when it can't be granted; `SignIn` when the session is over; `Ledger`.
    pub async fn allow(&self, session: &Session, new: NewGrant<'_>) -> Result<String, TrustError> {
        let agent = &session.agent;
        let (tenant, ledger) = (agent.tenant, &self.inner.ledger);
        let scopes = self.grantable(session, new.app, new.scopes);
        let scopes = self.told_of(agent, &scopes).await?;
        let context = new.context.cloned().unwrap_or_default();
        let scopes = with_encounter(scopes, &context);
        let is_own = agent.role != Role::Patient || new.patient == agent.patient.as_deref();
        let has_patient = new.patient.is_some() || !scopes.at(&[Level::Patient]).has_resources();
        if !scopes.has_resources() || !is_own || !has_patient {
            return invalid("this can't be granted to an application");
        }
        if !new.app.comes_back_to(new.redirect_uri) || !is_challenge(new.challenge) {
            return invalid("the application's request is not the one that was shown");
        }
        let Some(opened) = self.live_session(tenant, &session.id).await? else {
            return Err(TrustError::SignIn);
        };
        if self.live_grants(agent).await?.len() >= GRANTS_MAX {
            return invalid(
                "You have let in as many applications as one person can. Take one away under \"Apps you allowed\", then try again.",
            );
        }
        let mut documents = Vec::new();
        let mut of_launch = LaunchContext::default();
        if let Some(secret) = new.launch {
            let Some(launch) = self.launch_document(session, new.app, secret).await? else {
                return invalid("the application was opened too long ago, or came back twice");
            };
            if new.patient != Some(&launch.body.patient) {
                return invalid("the application was opened for another patient");
            }
            of_launch = launch.body.context;
            documents.push(deletion(kinds::LAUNCH, &launch.id, launch.version));
        }
        // What it was opened for is told; an encounter may be chosen where none was.
        let chooses = of_launch.encounter.is_none() && scopes.has(Context::LaunchEncounter);
        if context.about != of_launch.about || context.encounter != of_launch.encounter && !chooses
        {
            return invalid("the application was opened for something else");
        }
        if self.still_of(tenant, new.patient, &context).await? != context {
            return invalid("what the application is about is not the patient's");
        }
        let code = secrets::mint(tenant, ledger.entropy().as_ref());
        let now_ms = self.now_ms();
        let grant = GrantDocument {
            code: secrets::hash(&code),
            client: new.app.id.clone(),
            agent: AgentDocument {
                id: agent.id.clone(),
                name: agent.name.clone(),
                role: agent.role,
                patient: agent.patient.clone(),
            },
            signed_in_ms: opened.signed_in_ms(),
            nonce: new.nonce.map(str::to_owned),
            account: opened.account,
            session: session.id.clone(),
            patient: new.patient.map(str::to_owned),
            context,
            scopes: KeptScopes::of(&scopes),
            stage: GrantStage::Code {
                redirect_uri: new.redirect_uri.to_owned(),
                challenge: new.challenge.to_owned(),
            },
            created_ms: now_ms,
            used_ms: now_ms,
            expires_ms: now_ms.saturating_add(CODE_LIFE_MS),
        };
        let id = self.grant_id(tenant, &grant.code);
        documents.push(self.grant_draft(tenant, &id, Expected::Absent, &grant)?);
        let note = format!(
            "let application {} in{}, scopes {scopes}",
            new.app.id, grant.context
        );
        let mut record = Record::new(agent, Event::LOGIN);
        record.note = Some(&note);
        record.patients.extend(grant.patient.clone());
        match self.commit(tenant, documents, record).await {
            Ok(()) => Ok(format!("{CODE}{code}")),
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                invalid("the application was opened too long ago, or came back twice")
            }
            Err(error) => Err(error),
        }
    }

    /// Records that a person did not let an application in.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn turn_down(&self, session: &Session, app: &App) -> Result<(), TrustError> {
        let note = format!("application {} was turned down", app.id);
        let record = Record::new(&session.agent, Event::LOGIN);
        self.refused(Why::Grant, &session.agent.id, record, &note)
            .await
    }

    /// The tokens for a code (RFC 6749, section 4.1.3). A code that comes twice ends what came of it.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn exchange_code(
        &self,
        tenant: TenantId,
        client: ShownClient<'_>,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<AppTokens, OauthError> {
        const UNKNOWN: &str = "the code is unknown, was used, is too old, or is another client's";
        let (client, proof) = self.known_app(tenant, client).await?;
        let secret = code.strip_prefix(CODE).unwrap_or_default();
        let Some(kept) = self.grant_of(tenant, secret, &client).await? else {
            return self.refuse_grant(tenant, &client, UNKNOWN).await;
        };
        let grant = &kept.body;
        let GrantStage::Code {
            redirect_uri: sent_to,
            challenge,
        } = &grant.stage
        else {
            self.end(tenant, &kept, "code used twice").await?;
            return self.refuse_grant(tenant, &client, UNKNOWN).await;
        };
        if !self.lives(tenant, grant).await? {
            return self.refuse_grant(tenant, &client, UNKNOWN).await;
        }
        if sent_to != redirect_uri {
            let words = "redirect_uri is not the one that the code was sent to";
            return self.refuse_grant(tenant, &client, words).await;
        }
        let fits = VERIFIER_BYTES.contains(&verifier.len())
            && verifier
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
            && secrets::same(challenge, &s256(verifier));
        if !fits {
            let words = "code_verifier does not fit the code_challenge";
            return self.refuse_grant(tenant, &client, words).await;
        }
        self.renew(tenant, &client, kept, (secret, None), proof)
            .await
    }

    /// New tokens for a refresh token (RFC 6749, section 6), which is used up. One that was used before ends
    /// the grant, because somebody else has it.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn refresh(
        &self,
        tenant: TenantId,
        client: ShownClient<'_>,
        token: &str,
        wanted: Option<&str>,
    ) -> Result<AppTokens, OauthError> {
        const UNKNOWN: &str =
            "the refresh token is unknown, was used, has ended, or is another client's";
        let (client, proof) = self.known_app(tenant, client).await?;
        let (family, own) = parts_of_refresh(token).unwrap_or_default();
        let Some(kept) = self.grant_of(tenant, family, &client).await? else {
            return self.refuse_grant(tenant, &client, UNKNOWN).await;
        };
        let current = match &kept.body.stage {
            GrantStage::Open { refresh } => refresh.as_deref().unwrap_or_default(),
            GrantStage::Code { .. } => return self.refuse_grant(tenant, &client, UNKNOWN).await,
        };
        if !secrets::same(current, &secrets::hash(own)) {
            self.end(tenant, &kept, "refresh token used twice").await?;
            return self.refuse_grant(tenant, &client, UNKNOWN).await;
        }
        if !self.lives(tenant, &kept.body).await? {
            return self.refuse_grant(tenant, &client, UNKNOWN).await;
        }
        let granted = kept.body.scopes.parsed(&client.id)?;
        // Who somebody is was told with the code, or not: what is asked of that again is passed over.
        let untold = Context::IDENTITY.into_iter();
        let untold: Vec<_> = untold.filter(|one| !granted.has(*one)).collect();
        let wanted = wanted.map(super::apps::wanted_scopes);
        let narrower = match wanted.map(|wanted| wanted.map(|all| all.without_all(&untold))) {
            None => None,
            Some(Ok(wanted)) if wanted.has_resources() && wanted.lies_in(&granted) => Some(wanted),
            Some(_) => {
                let agent = self.app_agent(tenant, &client, &kept.body, granted);
                let words = "scope is more than what was granted, or is none of SMART's";
                return self.refuse_scope(&agent, words.to_owned()).await;
            }
        };
        self.renew(tenant, &client, kept, (family, narrower), proof)
            .await
    }

    /// The application that a refresh token was given to. Nothing is proved by that; one that keeps no secret has
    /// nothing more to show, and need not name itself (RFC 6749, section 6).
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn client_of_refresh(
        &self,
        tenant: TenantId,
        token: &str,
    ) -> Result<Option<String>, TrustError> {
        let (family, _) = parts_of_refresh(token).unwrap_or_default();
        if self.tenant_of(family) != Some(tenant) {
            return Ok(None);
        }
        let hash = secrets::hash(family);
        let id = self.grant_id(tenant, &hash);
        let found: Option<Kept<GrantDocument>> =
            get(&self.inner.ledger, tenant, kinds::GRANT, &id).await?;
        let found = found.filter(|kept| secrets::same(&kept.body.code, &hash));
        Ok(found.map(|kept| kept.body.client))
    }

    /// Writes that a grant was used, and the tokens that come of it.
    async fn renew(
        &self,
        tenant: TenantId,
        client: &KnownApp,
        kept: Kept<GrantDocument>,
        (family, narrower): (&str, Option<Scopes>),
        proof: Option<Draft>,
    ) -> Result<AppTokens, OauthError> {
        let (ledger, now_ms) = (&self.inner.ledger, self.now_ms());
        let mut grant = kept.body.clone();
        let proves = proof.is_some();
        let granted = grant.scopes.parsed(&client.id)?;
        let offline = granted.has(Context::OfflineAccess);
        let renews = offline || granted.has(Context::OnlineAccess);
        let own = renews.then(|| secrets::mint(tenant, ledger.entropy().as_ref()));
        let access_ends_ms = now_ms.saturating_add(APP_ACCESS_LIFE_S * 1000);
        let is_first = matches!(grant.stage, GrantStage::Code { .. });
        // What somebody is known as may have changed since they agreed.
        let who = grant.agent.agent(tenant);
        let scopes = self.told_of(&who, &narrower.unwrap_or(granted)).await?;
        grant.context = self
            .still_of(tenant, grant.patient.as_deref(), &grant.context)
            .await?;
        let scopes = with_encounter(scopes, &grant.context);
        let signed_in = match is_first {
            true => self.signed_in(tenant, &grant, &scopes).await?,
            false => None,
        };
        grant.nonce = None;
        grant.stage = GrantStage::Open {
            refresh: own.as_deref().map(secrets::hash),
        };
        grant.used_ms = now_ms;
        grant.expires_ms = if offline {
            let latest = grant.created_ms.saturating_add(OFFLINE_LIFE_MS);
            now_ms.saturating_add(OFFLINE_IDLE_MS).min(latest)
        } else if renews {
            let session = self.live_session(tenant, &grant.session).await?;
            session.map_or(access_ends_ms, |session| session.expires_ms)
        } else {
            access_ends_ms
        };
        let token = secrets::mint(tenant, ledger.entropy().as_ref());
        let document = AccessDocument {
            secret: secrets::hash(&token),
            client: client.id.clone(),
            scopes: KeptScopes::of(&scopes),
            expires_ms: access_ends_ms.min(grant.expires_ms),
            grant: Some(kept.id.clone()),
            bound: None,
            bound_name: None,
            round: client.document.round,
        };
        let access = draft(
            ledger,
            tenant,
            kinds::ACCESS_TOKEN,
            &self.id_of(tenant, "access token", &document.secret),
            Expected::Absent,
            &document,
            &[("client", &client.id)],
            Some(document.expires_ms),
        )?;
        let expected = Expected::Version(kept.version);
        let mut documents = vec![
            access,
            self.grant_draft(tenant, &kept.id, expected, &grant)?,
        ];
        documents.extend(proof);
        let agent = self.app_agent(tenant, client, &grant, scopes.clone());
        let note = format!(
            "renewed the access of application {}, scopes {scopes}",
            client.id
        );
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some(&note);
        record.patients.extend(grant.patient.clone());
        match self.commit(tenant, documents, record).await {
            Ok(()) => Ok(AppTokens {
                access: format!("{ACCESS}{token}"),
                expires_in_s: document.expires_ms.saturating_sub(now_ms) / 1000,
                refresh: own.map(|own| format!("{REFRESH}{family}.{own}")),
                scopes,
                patient: grant.patient.clone(),
                context: grant.context,
                signed_in,
            }),
            // The same code, refresh token or proof came twice at the same time. Who came second is not
            // told from a thief, here or at another server.
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                match self.overtaken(tenant, &kept).await {
                    Ok(Some(again)) => {
                        self.end(tenant, &again, "code or refresh token used twice")
                            .await?;
                    }
                    Ok(None) => {}
                    // It was the proof alone that came twice.
                    Err(TrustError::Ledger(LedgerError::Conflict)) if proves => {}
                    Err(error) => return Err(error.into()),
                }
                let words = "the code, the refresh token or the client_assertion was used before";
                self.refuse_grant(tenant, client, words).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The person behind an access token of an application, if it still opens something; else why not.
    pub(super) async fn person_of(
        &self,
        tenant: TenantId,
        access: &AccessDocument,
        grant: &str,
    ) -> Result<Result<Agent, (Agent, &'static str)>, TrustError> {
        let ledger = &self.inner.ledger;
        let stranger = || sign_in::stranger(tenant);
        let id = grant;
        let Some(grant) = self.inner.grants.get(ledger, tenant, grant).await? else {
            return Ok(Err((stranger(), "access token of a grant that has ended")));
        };
        let Some(document) = self.app_document(tenant, &access.client).await? else {
            return Ok(Err((stranger(), "access token of an unknown application")));
        };
        let scopes = access.scopes.parsed(&access.client)?;
        let client = KnownApp {
            id: access.client.clone(),
            document,
        };
        let mut agent = self.app_agent(tenant, &client, &grant, scopes);
        if let Some(access) = &mut agent.access {
            std::sync::Arc::make_mut(access).grant = Some(id.to_owned());
        }
        if self.now_ms() >= access.expires_ms {
            return Ok(Err((agent, "expired access token")));
        }
        if !client.document.is_active() {
            return Ok(Err((agent, "access token of a revoked client")));
        }
        if access.round != client.document.round {
            let words = "access token from before the client's keys were ended";
            return Ok(Err((agent, words)));
        }
        if !self.lives(tenant, &grant).await? {
            return Ok(Err((
                agent,
                "access token of a session or an account that has ended",
            )));
        }
        Ok(Ok(agent))
    }

    /// The grant that a code's secret leads to, if it is this client's.
    pub(super) async fn grant_of(
        &self,
        tenant: TenantId,
        secret: &str,
        client: &KnownApp,
    ) -> Result<Option<Kept<GrantDocument>>, TrustError> {
        if self.tenant_of(secret) != Some(tenant) {
            return Ok(None);
        }
        let hash = secrets::hash(secret);
        let id = self.grant_id(tenant, &hash);
        let found: Option<Kept<GrantDocument>> =
            get(&self.inner.ledger, tenant, kinds::GRANT, &id).await?;
        Ok(found
            .filter(|kept| secrets::same(&kept.body.code, &hash) && kept.body.client == client.id))
    }

    /// The grant as somebody else wrote it who was faster. Their commit may still be on its way, when reading
    /// shows what was before; `None` when the grant is gone, and `Conflict` when nothing comes.
    async fn overtaken(
        &self,
        tenant: TenantId,
        kept: &Kept<GrantDocument>,
    ) -> Result<Option<Kept<GrantDocument>>, TrustError> {
        for _ in 0..LOOKS_MAX {
            let ledger = &self.inner.ledger;
            let again = get::<GrantDocument>(ledger, tenant, kinds::GRANT, &kept.id).await?;
            match again {
                Some(again) if again.version == kept.version => {
                    tokio::time::sleep(LOOK_APART).await;
                }
                other => return Ok(other),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Ends a grant because of what was done with its tokens.
    async fn end(
        &self,
        tenant: TenantId,
        kept: &Kept<GrantDocument>,
        why: &str,
    ) -> Result<(), TrustError> {
        let agent = kept.body.agent.agent(tenant);
        let note = format!("had application {} shut out: {why}", kept.body.client);
        let mut kept = kept.clone();
        for _ in 0..RETRIES {
            let gone = deletion(kinds::GRANT, &kept.id, kept.version);
            let mut record = Record::new(&agent, Event::LOGOUT);
            record.note = Some(&note);
            record.patients.extend(kept.body.patient.clone());
            if let Some(outcome) = self.tried(tenant, vec![gone], record).await {
                return outcome;
            }
            match self.overtaken(tenant, &kept).await? {
                Some(again) => kept = again,
                None => return Ok(()),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// The application that asks, and what has to be written so that its proof isn't shown twice.
    pub(super) async fn known_app(
        &self,
        tenant: TenantId,
        shown: ShownClient<'_>,
    ) -> Result<(KnownApp, Option<Draft>), OauthError> {
        const UNKNOWN: &str =
            "there is no application of this client_id, or it was revoked, or waits for approval";
        match shown {
            ShownClient::Proof(proof) => {
                let (id, document, proof) = self.prove(tenant, proof).await?;
                if document.app.is_none() {
                    return Err(OauthError::UnauthorizedClient(
                        "a system has no grants of people: the grant_type must be client_credentials",
                    ));
                }
                Ok((KnownApp { id, document }, Some(proof)))
            }
            ShownClient::Public(id) => {
                let stranger = sign_in::stranger(tenant);
                let document = self.app_document(tenant, id).await?;
                let Some(document) = document.filter(SystemDocument::is_active) else {
                    return self.refuse_client(&stranger, UNKNOWN).await;
                };
                if document.keys != super::SystemKeys::None {
                    let words = "this client has a key: send a client_assertion (private_key_jwt)";
                    return self.refuse_client(&stranger, words).await;
                }
                let id = id.to_owned();
                Ok((KnownApp { id, document }, None))
            }
        }
    }

    /// The person, narrowed to what an application may do.
    pub(super) fn app_agent(
        &self,
        tenant: TenantId,
        client: &KnownApp,
        grant: &GrantDocument,
        scopes: Scopes,
    ) -> Agent {
        let access = crate::Access {
            client: client.id.clone(),
            client_name: client.document.name.clone(),
            scopes,
            patient: grant.patient.clone(),
            round: client.document.round,
            grant: None,
        };
        Agent {
            access: Some(std::sync::Arc::new(access)),
            ..grant.agent.agent(tenant)
        }
    }

    pub(super) async fn refuse_grant<T>(
        &self,
        tenant: TenantId,
        client: &KnownApp,
        words: &'static str,
    ) -> Result<T, OauthError> {
        let agent = self.agent_of(tenant, &client.id, &client.document, None);
        let record = Record::new(&agent, Event::LOGIN);
        self.refused(Why::Grant, &client.id, record, words).await?;
        Err(OauthError::InvalidGrant(words))
    }

    fn grant_id(&self, tenant: TenantId, code_hash: &str) -> String {
        self.id_of(tenant, "grant", code_hash)
    }

    fn grant_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        grant: &GrantDocument,
    ) -> Result<Draft, TrustError> {
        let mut found_by = vec![("agent", grant.agent.id.as_str())];
        // However a patient signed in, these are theirs.
        found_by.extend(
            grant
                .agent
                .patient
                .as_deref()
                .map(|patient| ("patient", patient)),
        );
        draft(
            &self.inner.ledger,
            tenant,
            kinds::GRANT,
            id,
            expected,
            grant,
            &found_by,
            Some(grant.expires_ms),
        )
    }
}

/// An application that is let in.
pub(super) struct KnownApp {
    pub(super) id: String,
    pub(super) document: SystemDocument,
}

/// Whether a text can be the S256 of a verifier.
#[must_use]
pub fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// RFC 7636, section 4.2.
pub(in crate::identity) fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// The code's secret and the own one of a refresh token: `r.TENANT.RANDOM.TENANT.RANDOM`.
pub(super) fn parts_of_refresh(token: &str) -> Option<(&str, &str)> {
    let rest = token.strip_prefix(REFRESH)?;
    let (dot, _) = rest.match_indices('.').nth(1)?;
    Some((&rest[..dot], &rest[dot + 1..]))
}

#[cfg(test)]
pub(super) mod tests;
