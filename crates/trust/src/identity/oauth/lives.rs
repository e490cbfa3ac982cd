//! Which grants are live: for whom they were given, who sees them and takes them away, and what ends them.

use ledger::{Draft, LedgerError, Query, TenantId};

use super::grants::{GrantDocument, GrantStage};
use crate::audit::{Event, Record};
use crate::identity::documents::{Kept, SessionDocument, Stage, deletion, find, get};
use crate::identity::manage::{NO_ACCOUNT, invalid};
use crate::identity::sign_in::agent_of;
use crate::identity::{Identity, RETRIES, Session};
use crate::scopes::{Context, Scopes};
use crate::{Agent, Permit, TrustError, kinds};

/// A grant as its person sees it.
#[derive(Debug, Clone)]
pub struct GrantView {
    /// Id.
    pub id: String,
    /// Name of the application.
    pub app: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was given.
    pub created_ms: u64,
    /// When the application last got a token.
    pub used_ms: u64,
    /// When it ends at the latest.
    pub expires_ms: u64,
    /// Whether it outlives the session.
    pub offline: bool,
}

impl Identity {
    /// The grants of a person that are live now, newest first.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn grants_of(&self, session: &Session) -> Result<Vec<GrantView>, TrustError> {
        self.views_of_grants(&session.agent).await
    }

    async fn views_of_grants(&self, agent: &Agent) -> Result<Vec<GrantView>, TrustError> {
        let mut views = Vec::new();
        for kept in self.live_grants(agent).await? {
            let client = &kept.body.client;
            let Some(app) = self.app(agent.tenant, client).await? else {
                continue;
            };
            let scopes = kept.body.scopes.parsed(client)?;
            views.push(GrantView {
                id: kept.id,
                app: app.name,
                offline: scopes.has(Context::OfflineAccess),
                scopes,
                created_ms: kept.body.created_ms,
                used_ms: kept.body.used_ms,
                expires_ms: kept.body.expires_ms,
            });
        }
        Ok(views)
    }

    /// Takes a grant away; its tokens open nothing from the next request on.
    ///
    /// # Errors
    /// `Invalid` when it is not this person's; `Ledger`.
    pub async fn end_grant(&self, session: &Session, id: &str) -> Result<(), TrustError> {
        let agent = &session.agent;
        let record = Record::new(agent, Event::LOGOUT);
        self.take_away(agent, id, record, |app| {
            format!("took application {app} away")
        })
        .await
    }

    async fn take_away(
        &self,
        agent: &Agent,
        id: &str,
        record: Record<'_>,
        note: impl Fn(&str) -> String,
    ) -> Result<(), TrustError> {
        let (tenant, ledger) = (agent.tenant, &self.inner.ledger);
        for _ in 0..RETRIES {
            let found: Option<Kept<GrantDocument>> = match fhir::is_id(id) {
                true => get(ledger, tenant, kinds::GRANT, id).await?,
                false => None,
            };
            let Some(kept) = found.filter(|kept| is_of(&kept.body, agent)) else {
                return invalid("there is no such application, or it has been taken away");
            };
            let note = note(&kept.body.client);
            let gone = deletion(kinds::GRANT, &kept.id, kept.version);
            let mut record = record.clone();
            record.note = Some(&note);
            record.patients.extend(kept.body.patient.clone());
            if let Some(outcome) = self.tried(tenant, vec![gone], record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// The live grants of an account, of a patient's however they signed in, newest first.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such account; `Ledger`.
    pub async fn grants_of_account(
        &self,
        permit: &Permit,
        account: &str,
    ) -> Result<Vec<GrantView>, TrustError> {
        let agent = self.agent_of_account(permit, account).await?;
        let views = self.views_of_grants(&agent).await?;
        let note = format!("{} applications of account {account} listed", views.len());
        self.looked(permit, &note).await?;
        Ok(views)
    }

    /// Takes away what the person of an account let in.
    ///
    /// # Errors
    /// As [`Identity::grants_of_account`]; `Invalid` when the account has no such grant.
    pub async fn end_grant_of(
        &self,
        permit: &Permit,
        account: &str,
        id: &str,
    ) -> Result<(), TrustError> {
        let agent = self.agent_of_account(permit, account).await?;
        let record = Record::under(permit, Event::ACCOUNT_CHANGED);
        self.take_away(&agent, id, record, |app| {
            format!("account {account}: application {app} taken away")
        })
        .await
    }

    async fn agent_of_account(&self, permit: &Permit, account: &str) -> Result<Agent, TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        match self.account(tenant, account).await? {
            Some(kept) => Ok(agent_of(&kept).agent(tenant)),
            None => invalid(NO_ACCOUNT),
        }
    }

    /// The grants of an account, or of a patient who came by a link, to be taken away.
    pub(in crate::identity) async fn grant_deletions(
        &self,
        tenant: TenantId,
        account: &str,
        patient: Option<&str>,
    ) -> Result<Vec<Draft>, TrustError> {
        let mut found = self.found_grants(tenant, "agent", account).await?;
        if let Some(patient) = patient {
            for name in ["agent", "patient"] {
                found.extend(self.found_grants(tenant, name, patient).await?);
            }
        }
        found.sort_by(|left, right| left.id.cmp(&right.id));
        found.dedup_by(|left, right| left.id == right.id);
        Ok(found
            .iter()
            .map(|kept| deletion(kinds::GRANT, &kept.id, kept.version))
            .collect())
    }

    /// The grants of an agent, or of a patient who may have signed in in several ways, whether live or not.
    async fn found_grants(
        &self,
        tenant: TenantId,
        name: &str,
        id: &str,
    ) -> Result<Vec<Kept<GrantDocument>>, TrustError> {
        // Some may have ended and not been swept yet.
        const LOOKED_AT_MAX: usize = 10_000;
        let ledger = &self.inner.ledger;
        let query = Query::Token(ledger.token(tenant, kinds::GRANT, name, id));
        let mut found: Vec<Kept<GrantDocument>> =
            find(ledger, tenant, kinds::GRANT, &query, LOOKED_AT_MAX).await?;
        found.retain(|kept| match name {
            "patient" => kept.body.agent.patient.as_deref() == Some(id),
            _ => kept.body.agent.id == id,
        });
        Ok(found)
    }

    pub(super) async fn live_grants(
        &self,
        agent: &Agent,
    ) -> Result<Vec<Kept<GrantDocument>>, TrustError> {
        let mut live = Vec::new();
        let mut found = self.found_grants(agent.tenant, "agent", &agent.id).await?;
        if let Some(patient) = &agent.patient {
            let theirs = self.found_grants(agent.tenant, "patient", patient).await?;
            let other = |kept: &Kept<GrantDocument>| kept.body.agent.id != agent.id;
            found.extend(theirs.into_iter().filter(other));
            found.sort_by_key(|kept| std::cmp::Reverse(kept.body.created_ms));
        }
        for kept in found {
            if is_of(&kept.body, agent) && self.lives(agent.tenant, &kept.body).await? {
                live.push(kept);
            }
        }
        Ok(live)
    }

    /// Whether a grant still opens something: its time, the session that it was given in unless it outlives
    /// it, and the person's account.
    pub(super) async fn lives(
        &self,
        tenant: TenantId,
        grant: &GrantDocument,
    ) -> Result<bool, TrustError> {
        if self.now_ms() >= grant.expires_ms {
            return Ok(false);
        }
        let offline = matches!(grant.stage, GrantStage::Open { .. })
            && grant
                .scopes
                .parsed(&grant.client)?
                .has(Context::OfflineAccess);
        if !offline && self.live_session(tenant, &grant.session).await?.is_none() {
            return Ok(false);
        }
        if let Some(account) = &grant.account {
            let account = self.account(tenant, account).await?;
            if !account.is_some_and(|kept| kept.body.active) {
                return Ok(false);
            }
        }
        match &grant.agent.patient {
            Some(patient) => Ok(!self.is_shut_out(tenant, patient).await?),
            None => Ok(true),
        }
    }

    /// The session with an id, if it is not over. An application's requests don't keep it awake.
    pub(super) async fn live_session(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<SessionDocument>, TrustError> {
        let found: Option<Kept<SessionDocument>> =
            get(&self.inner.ledger, tenant, kinds::SESSION, id).await?;
        if let Some(at) = found.as_ref().and_then(|kept| kept.body.provider.as_ref())
            && self.has_ended(tenant, at).await?
        {
            return Ok(None);
        }
        let in_memory_ms = self.inner.sessions.last_seen_ms(id).unwrap_or(0);
        Ok(found.map(|kept| kept.body).filter(|session| {
            let seen_ms = session.last_seen_ms.max(in_memory_ms);
            session.stage == Stage::Open && !self.over(seen_ms, session.expires_ms, self.now_ms())
        }))
    }
}

fn is_of(grant: &GrantDocument, agent: &Agent) -> bool {
    let same = grant.agent.id == agent.id
        || agent.patient.is_some() && grant.agent.patient == agent.patient;
    same && grant.agent.role == agent.role
}
