//! Tokens of applications that are given back (RFC 7009) and asked about (RFC 7662), by their own clients.

use ledger::{Draft, LedgerError, TenantId};

use super::context::{LaunchContext, with_encounter};
use super::grants::{GrantDocument, GrantStage, KnownApp, ShownClient, parts_of_refresh};
use super::{OauthError, ShownSystem};
use crate::audit::{Event, Record};
use crate::identity::documents::{Kept, deletion, get};
use crate::identity::{Identity, secrets};
use crate::scopes::Scopes;
use crate::{TrustError, kinds};

/// What a token is, for its client (RFC 7662).
#[derive(Debug, Clone)]
pub struct TokenState {
    /// What it lets be done.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_ms: u64,
    /// The patient that it is for.
    pub patient: Option<String>,
    /// What it is about beside the patient.
    pub context: LaunchContext,
    /// Who it acts as: a person as identity tokens name them, or a system by its `client_id`.
    pub subject: String,
    /// The certificate that it is bound to, if it is (`x5t#S256`).
    pub certificate: Option<String>,
}

impl Identity {
    /// Ends what a token of this client stands for (RFC 7009): an access token by itself, a refresh token with
    /// its grant. What is none of the client's is left alone, and no error.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn revoke_app_token(
        &self,
        tenant: TenantId,
        client: ShownClient<'_>,
        token: &str,
    ) -> Result<(), OauthError> {
        let (client, proof) = self.known_app(tenant, client).await?;
        let mut gone: Vec<Draft> = Vec::new();
        let mut of = None;
        // An older one as well: whoever gives it back means the whole, or it is out where it should not be.
        if let Some((family, _)) = parts_of_refresh(token)
            && let Some(kept) = self.grant_of(tenant, family, &client).await?
            && matches!(&kept.body.stage, GrantStage::Open { refresh: Some(_) })
        {
            gone.push(deletion(kinds::GRANT, &kept.id, kept.version));
            of = Some(kept.body);
        }
        if let Some((place, kept)) = self.access_document(token).await?
            && kept.body.client == client.id
        {
            gone.push(deletion(kinds::ACCESS_TOKEN, &place, kept.version));
            if let Some(grant) = &kept.body.grant {
                let found: Option<Kept<GrantDocument>> =
                    get(&self.inner.ledger, tenant, kinds::GRANT, grant).await?;
                of = found.map(|kept| kept.body);
            }
        }
        gone.extend(proof);
        let agent = match &of {
            Some(grant) => self.app_agent(tenant, &client, grant, Scopes::default()),
            None => self.agent_of(tenant, &client.id, &client.document, None),
        };
        let mut record = Record::new(&agent, Event::LOGOUT);
        record.note = Some("gave an application's token back");
        record
            .patients
            .extend(of.as_ref().and_then(|grant| grant.patient.clone()));
        if gone.is_empty() {
            return Ok(());
        }
        match self.commit(tenant, gone, record).await {
            Ok(()) => Ok(()),
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                let words = "the client_assertion or the token was used at the same time";
                self.refuse_grant(tenant, &client, words).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a client's own access or refresh token is (RFC 7662); `None` for one that opens nothing, and for
    /// those of others. Only clients with a key ask.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn introspect(
        &self,
        tenant: TenantId,
        shown: impl Into<ShownSystem<'_>>,
        token: &str,
    ) -> Result<Option<(String, TokenState)>, OauthError> {
        let proven = self.prove_system(tenant, shown.into()).await?;
        let (id, document, by) = (proven.id, proven.system, proven.bound);
        let is_proven_by = |bound: &Option<String>| {
            let by = by.as_ref().map(|by| &by.thumbprint);
            by.is_some() && by == bound.as_ref()
        };
        let proof: Vec<Draft> = proven.once.into_iter().collect();
        let agent = self.agent_of(tenant, &id, &document, None);
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some("asked what a token is");
        match self.commit(tenant, proof, record).await {
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                let words = "the client_assertion was used before";
                return self.refuse_client(&agent, words).await;
            }
            other => other?,
        }
        let client = KnownApp { id, document };
        let state = if let Some((family, own)) = parts_of_refresh(token) {
            let kept = self.grant_of(tenant, family, &client).await?;
            let kept = kept.filter(|kept| matches!(&kept.body.stage, GrantStage::Open { refresh: Some(current) } if secrets::same(current, &secrets::hash(own))));
            match kept {
                Some(kept) if self.lives(tenant, &kept.body).await? => Some(TokenState {
                    subject: self.subject_of(tenant, &kept.body.agent)?,
                    scopes: kept.body.scopes.parsed(&client.id)?,
                    expires_ms: kept.body.expires_ms,
                    patient: kept.body.patient,
                    context: kept.body.context,
                    certificate: None,
                }),
                _ => None,
            }
        } else if let Some((_, kept)) = self.access_document(token).await?
            && kept.body.client == client.id
            && self.now_ms() < kept.body.expires_ms
            && kept.body.round == client.document.round
            && (is_proven_by(&kept.body.bound) || self.is_bound_yet(&kept.body, &client.document))
        {
            let grant = match &kept.body.grant {
                None => None,
                Some(id) => {
                    get::<GrantDocument>(&self.inner.ledger, tenant, kinds::GRANT, id).await?
                }
            };
            let lives = match (&kept.body.grant, &grant) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(_), Some(grant)) => self.lives(tenant, &grant.body).await?,
            };
            let grant = grant.map(|grant| grant.body);
            let context = grant.as_ref().map(|grant| grant.context.clone());
            lives.then_some(TokenState {
                scopes: kept.body.scopes.parsed(&client.id)?,
                expires_ms: kept.body.expires_ms,
                subject: match &grant {
                    Some(grant) => self.subject_of(tenant, &grant.agent)?,
                    None => client.id.clone(),
                },
                patient: grant.and_then(|grant| grant.patient),
                context: context.unwrap_or_default(),
                certificate: kept.body.bound.clone(),
            })
        } else {
            None
        };
        let Some(mut state) = state else {
            return Ok(None);
        };
        let patient = state.patient.as_deref();
        state.context = self.still_of(tenant, patient, &state.context).await?;
        state.scopes = with_encounter(state.scopes, &state.context);
        Ok(Some((client.id, state)))
    }
}
