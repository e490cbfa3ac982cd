//! Sessions as people see them, and end them: each their own, and administrators those of accounts. What ends
//! is refused at once here, and within [`super::sessions::RECHECK_MS`] at the other servers.
use std::collections::BTreeSet;

use ledger::{Draft, LedgerError, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::devices::Ending;
use super::documents::{Kept, SessionDocument, Stage, deletion, find, get};
use super::manage::{Listing, NO_ACCOUNT, SESSIONS_AT_ONCE, invalid};
use super::oidc::AtProvider;
use super::{Identity, RETRIES, Session};
use crate::audit::{Event, Record};
use crate::policy::Factor;
use crate::{Permit, Role, TrustError, kinds};

/// How a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenedBy {
    /// A link of a message, with the date of birth.
    Link,
    /// A password alone, which is enough for patients.
    Password,
    /// A password and a code.
    Code,
    /// A passkey alone.
    Passkey,
    /// A password and a passkey.
    PasswordAndPasskey,
    /// An identity provider by itself.
    Provider,
    /// An identity provider, and a code here.
    ProviderAndCode,
    /// An identity provider, and a passkey here.
    ProviderAndPasskey,
}

impl OpenedBy {
    /// The second factor of it.
    pub(super) fn factor(self) -> Factor {
        match self {
            Self::Link | Self::Password => Factor::None,
            Self::Code | Self::ProviderAndCode => Factor::Totp,
            Self::Passkey | Self::PasswordAndPasskey | Self::ProviderAndPasskey => Factor::Passkey,
            Self::Provider => Factor::Provider,
        }
    }
    /// What the audit says of it.
    pub(super) fn note(self, provider: Option<&AtProvider>) -> String {
        let issuer = provider.map_or("an identity provider", |at| &at.issuer);
        match self {
            Self::Link => "signed in with a link and the birth date".to_owned(),
            Self::Password => "signed in with a password".to_owned(),
            Self::Code => "signed in with password and second factor".to_owned(),
            Self::Passkey => "signed in with a passkey".to_owned(),
            Self::PasswordAndPasskey => "signed in with password and passkey".to_owned(),
            Self::Provider => format!("signed in at {issuer} with two factors"),
            Self::ProviderAndCode => format!("signed in at {issuer} and with second factor"),
            Self::ProviderAndPasskey => format!("signed in at {issuer} and with passkey"),
        }
    }
}

/// A session, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Id.
    pub id: String,
    /// In which role. Beside those of a patient, an administrator sees those of who acts for them.
    pub role: Role,
    /// Since when, by the wall clock.
    pub created_ms: u64,
    /// When it was last used, as far as this server knows.
    pub last_seen_ms: u64,
    /// When a second factor was last shown in it, if one was.
    pub factor_ms: Option<u64>,
    /// How it was opened; none of one that an earlier build opened.
    pub opened: Option<OpenedBy>,
    /// The browser that opened it in plain words, as far as it is known.
    pub browser: Option<String>,
    /// Issuer of the identity provider that opened it, if one did.
    pub provider: Option<String>,
    /// Whether it is the one that asks.
    pub this: bool,
}

/// Whose sessions are one's own.
enum Own {
    /// The account of a member of staff.
    Account(String),
    /// A patient, by whichever account or link they signed in.
    Patient(String),
    /// All records by which the same person acts for patients, and those patients.
    Proxy {
        ids: BTreeSet<String>,
        patients: BTreeSet<String>,
    },
}

impl Own {
    fn has(&self, session: &SessionDocument) -> bool {
        let agent = &session.agent;
        let theirs = match self {
            Self::Account(id) => session.account.as_ref() == Some(id),
            Self::Patient(id) => agent.role == Role::Patient && agent.patient.as_ref() == Some(id),
            Self::Proxy { ids, .. } => agent.role == Role::Proxy && ids.contains(&agent.id),
        };
        theirs && session.stage == Stage::Open
    }
}

const NO_SESSION: &str = "There is no such session; it may have ended.";

impl Identity {
    /// One's own open sessions, newest first.
    ///
    /// # Errors
    /// `Invalid` for who has none of their own; `Ledger`.
    pub async fn own_sessions(&self, session: &Session) -> Result<Vec<SessionView>, TrustError> {
        let found = self.found_own(session).await?;
        Ok(self.views(found, Some(&session.id)))
    }
    /// Ends a session of one's own.
    ///
    /// # Errors
    /// `Invalid` when there is none; `Ledger`.
    pub async fn end_own_session(&self, session: &Session, id: &str) -> Result<(), TrustError> {
        let (tenant, own) = (session.agent.tenant, self.own(session).await?);
        for _ in 0..RETRIES {
            let found = self.session_named(tenant, id).await?;
            let Some(kept) = found.filter(|kept| own.has(&kept.body)) else {
                return invalid(NO_SESSION);
            };
            let mut record = Record::new(&session.agent, Event::LOGOUT);
            record.note = Some("ended from another session of the same person");
            record.patients.extend(kept.body.agent.patient.clone());
            let gone = self.session_with_devices(tenant, &kept).await?;
            if let Some(outcome) = self.tried(tenant, gone, record).await {
                self.inner.sessions.recheck_all();
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }
    /// Ends all sessions of one's own but this one, and a patient's notifications on all devices but this one; says how
    /// many sessions there were.
    ///
    /// # Errors
    /// As [`Identity::end_own_session`].
    pub async fn end_other_sessions(&self, session: &Session) -> Result<usize, TrustError> {
        let tenant = session.agent.tenant;
        let mut ended = 0;
        let mut conflicts = 0;
        loop {
            let mut others = self.found_own(session).await?;
            others.retain(|kept| kept.id != session.id);
            if others.is_empty() {
                // After the sessions: until they have ended, devices can come by them.
                self.end_push_devices(session).await?;
                return Ok(ended);
            }
            let count = others.len();
            let note = format!("{count} ended from another session of the same person");
            let mut record = Record::new(&session.agent, Event::LOGOUT);
            record.note = Some(&note);
            let patients = others
                .iter()
                .filter_map(|kept| kept.body.agent.patient.clone());
            record.patients.extend(patients);
            let gone = others
                .iter()
                .map(|kept| deletion(kinds::SESSION, &kept.id, kept.version));
            let done = self.commit(tenant, gone.collect(), record).await;
            self.inner.sessions.recheck_all();
            match done {
                Ok(()) => ended += count,
                // One of them was used or ended in between.
                Err(TrustError::Ledger(LedgerError::Conflict)) if conflicts < RETRIES => {
                    conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    /// The open sessions of an account, newest first; of a patient's also those that a link opened, and of who
    /// acts for them. `complete` is false past a thousand.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such account; `Ledger`.
    pub async fn sessions_of_account(
        &self,
        permit: &Permit,
        account: &str,
    ) -> Result<Listing<SessionView>, TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        let kept = self.account(tenant, account).await?;
        let Some(kept) = kept else {
            return invalid(NO_ACCOUNT);
        };
        let mut found = self.sessions_of(tenant, account, &kept.body).await?;
        let complete = found.len() < SESSIONS_AT_ONCE;
        found.retain(|kept| kept.body.stage == Stage::Open);
        let rows = self.views(found, None);
        let note = format!("{} sessions of account {account} listed", rows.len());
        self.looked(permit, &note).await?;
        Ok(Listing { rows, complete })
    }
    /// Ends one session of an account.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when the account has no such session;
    /// `Ledger`.
    pub async fn end_session_of(
        &self,
        permit: &Permit,
        account: &str,
        id: &str,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        let Some(owner) = self.account(tenant, account).await? else {
            return invalid(NO_ACCOUNT);
        };
        for _ in 0..RETRIES {
            let found = self.session_named(tenant, id).await?;
            let its = |session: &SessionDocument| {
                let of_patient =
                    owner.body.patient.is_some() && session.agent.patient == owner.body.patient;
                of_patient || session.account.as_deref() == Some(account)
            };
            let Some(kept) = found.filter(|kept| its(&kept.body)) else {
                return invalid(NO_SESSION);
            };
            let note = format!("account {account}: a session ended");
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            record.patients.extend(kept.body.agent.patient.clone());
            let gone = self.session_with_devices(tenant, &kept).await?;
            if let Some(outcome) = self.tried(tenant, gone, record).await {
                self.inner.sessions.recheck_all();
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// What goes where a session is ended: itself, and the notifications in its browser, which somebody else may have by
    /// now.
    pub(super) async fn session_with_devices(
        &self,
        tenant: TenantId,
        kept: &Kept<SessionDocument>,
    ) -> Result<Vec<Draft>, TrustError> {
        let agent = &kept.body.agent;
        let patient = agent.patient.as_deref();
        let patient = patient.filter(|_| agent.role == Role::Patient);
        let ending = Ending::Of(&kept.id);
        let mut gone = vec![deletion(kinds::SESSION, &kept.id, kept.version)];
        gone.extend(self.push_device_deletions(tenant, patient, ending).await?);
        Ok(gone)
    }

    async fn session_named(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<Kept<SessionDocument>>, TrustError> {
        if !fhir::is_id(id) {
            return Ok(None);
        }
        get(&self.inner.ledger, tenant, kinds::SESSION, id).await
    }

    async fn own(&self, session: &Session) -> Result<Own, TrustError> {
        let agent = &session.agent;
        match (agent.role, &agent.patient) {
            (Role::Patient, Some(patient)) => Ok(Own::Patient(patient.clone())),
            (Role::Proxy, Some(_)) => {
                let (ids, patients) = self.records_of_person(agent).await?;
                Ok(Own::Proxy { ids, patients })
            }
            _ => Ok(Own::Account(self.own_account(session).await?.id)),
        }
    }

    async fn found_own(&self, session: &Session) -> Result<Vec<Kept<SessionDocument>>, TrustError> {
        let (ledger, tenant) = (&self.inner.ledger, session.agent.tenant);
        let own = self.own(session).await?;
        let token = |name: &str, value: &str| {
            Query::Token(ledger.token(tenant, kinds::SESSION, name, value))
        };
        let queries = match &own {
            Own::Account(id) => vec![token("account", id)],
            Own::Patient(id) => vec![token("patient", id)],
            Own::Proxy { patients, .. } => patients.iter().map(|id| token("patient", id)).collect(),
        };
        let query = Query::Or(queries);
        let mut found: Vec<Kept<SessionDocument>> =
            find(ledger, tenant, kinds::SESSION, &query, SESSIONS_AT_ONCE).await?;
        found.retain(|kept| own.has(&kept.body));
        Ok(found)
    }

    /// Those that are not over, newest first.
    pub(super) fn views(
        &self,
        found: Vec<Kept<SessionDocument>>,
        this: Option<&str>,
    ) -> Vec<SessionView> {
        let now_ms = self.now_ms();
        let mut rows: Vec<SessionView> = Vec::with_capacity(found.len());
        for Kept { id, body, .. } in found {
            let in_memory_ms = self.inner.sessions.last_seen_ms(&id).unwrap_or(0);
            let last_seen_ms = in_memory_ms.max(body.last_seen_ms);
            if self.over(last_seen_ms, body.expires_ms, now_ms) {
                continue;
            }
            rows.push(SessionView {
                this: this == Some(id.as_str()),
                id,
                role: body.agent.role,
                created_ms: body.created_ms,
                last_seen_ms,
                factor_ms: (body.factor_ms > 0).then_some(body.factor_ms),
                opened: body.opened,
                browser: body.browser,
                provider: body.provider.map(|provider| provider.issuer),
            });
        }
        rows.sort_by(|left, right| (right.created_ms, &right.id).cmp(&(left.created_ms, &left.id)));
        rows
    }
}
