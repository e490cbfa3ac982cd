//! What administrators see of accounts and access tokens, and what they take away. Each function
//! takes a permit to administer, and each change is in the audit with its reason.
use fhir::ResourceType;
use ledger::{Draft, Expected, Kind, LedgerError, Query, TenantId};

use super::devices::Ending;
use super::documents::{
    AccountDocument, AttemptsDocument, ClientDocument, Kept, SessionDocument, Stage, deletion,
    draft, find, get,
};
use super::{Identity, RETRIES, Registered};
use crate::audit::{Event, Outcome, Record};
use crate::{Action, Permit, Refusal, Role, TrustError, kinds};

/// Accounts or clients that are listed. A hospital has fewer; beyond, the list says that it is not
/// complete.
pub(super) const LISTED_MAX: usize = 10_000;
/// Sessions of one account that are removed in one commit; whatever is left ends at its next use,
/// because the account is looked at then.
pub(super) const SESSIONS_AT_ONCE: usize = 1_000;
pub(super) const NO_ACCOUNT: &str = "there is no such account";
/// Characters of a reason that are kept.
const REASON_MAX: usize = 200;

/// An account, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Id.
    pub id: String,
    /// User name; empty where patients sign in by link only.
    pub user_name: String,
    /// Name to show.
    pub name: String,
    /// Role.
    pub role: Role,
    /// For patients: id of the `Patient`.
    pub patient: Option<String>,
    /// Whether it is open.
    pub active: bool,
    /// Whether a second factor is set up.
    pub second_factor: bool,
    /// Whether somebody can sign in with its password.
    pub password: bool,
}

/// Whether another system still has a way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// It asked to be let in, and waits for approval.
    Waiting,
    /// It does.
    Active,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

/// Another system, without its token or keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Whether it still has a way in.
    pub state: ClientState,
    /// When its token ends at the latest, wall clock; none for a system with a key.
    pub expires_ms: Option<u64>,
    /// For a system with a key and an application, what it may ask for.
    pub scopes: Option<String>,
    /// For an application that people launch, where they are sent back to.
    pub redirect_uris: Vec<String>,
    /// And where it is opened from a patient's page.
    pub launch_uri: Option<String>,
    /// What a system is registered for, where its role is registered for something. An application asks for
    /// what its people may.
    pub registered: Option<Registered>,
}

/// A list that says whether it is whole.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether these are all.
    pub complete: bool,
}

/// What a change of an account does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    Factor,
    /// Its sessions end.
    SessionsEnd,
    /// Its sessions end, and its passkeys.
    FactorsEnd,
    /// Its failed tries are forgiven.
    Forgives,
}

impl ClientDocument {
    pub(super) fn state(&self, now_ms: u64) -> ClientState {
        if !self.active {
            ClientState::Revoked
        } else if now_ms >= self.expires_ms {
            ClientState::Expired
        } else {
            ClientState::Active
        }
    }
}

/// A reason as the end of a sentence; empty when none was given.
pub(super) fn because(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(REASON_MAX).collect();
    if short.is_empty() {
        short
    } else {
        format!(": {short}")
    }
}

fn view(kept: Kept<AccountDocument>) -> AccountView {
    AccountView {
        id: kept.id,
        second_factor: kept.body.totp.is_some() || kept.body.passkeys > 0,
        password: kept.body.password.is_some(),
        user_name: kept.body.user_name,
        name: kept.body.name,
        role: kept.body.role,
        patient: kept.body.patient,
        active: kept.body.active,
    }
}

pub(super) fn invalid<T>(words: &str) -> Result<T, TrustError> {
    Err(TrustError::Invalid(words.to_owned()))
}

impl Identity {
    /// All accounts, by name.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Ledger`, `Damaged`.
    pub async fn accounts(&self, permit: &Permit) -> Result<Listing<AccountView>, TrustError> {
        self.administers(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let query = Query::Token(ledger.kind_token(tenant, kinds::ACCOUNT));
        let mut found: Vec<Kept<AccountDocument>> =
            find(ledger, tenant, kinds::ACCOUNT, &query, LISTED_MAX + 1).await?;
        let complete = found.len() <= LISTED_MAX;
        found.truncate(LISTED_MAX);
        let mut rows: Vec<AccountView> = found.into_iter().map(view).collect();
        rows.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
        let note = format!("{} accounts listed", rows.len());
        self.looked(permit, &note).await?;
        Ok(Listing { rows, complete })
    }
    /// How many sessions of an account are open now, counted up to a thousand.
    ///
    /// # Errors
    /// As [`Identity::accounts`].
    pub async fn open_sessions(&self, permit: &Permit, account: &str) -> Result<usize, TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        let Some(kept) = self.account(tenant, account).await? else {
            return Ok(0);
        };
        let mut sessions = self.sessions_of(tenant, account, &kept.body).await?;
        sessions.retain(|session| session.body.stage == Stage::Open);
        Ok(self.views(sessions, None).len())
    }
    /// An account.
    ///
    /// # Errors
    /// As [`Identity::accounts`]; `Invalid` when there is no such account.
    pub async fn account_of(&self, permit: &Permit, id: &str) -> Result<AccountView, TrustError> {
        self.administers(permit).await?;
        let found = match fhir::is_id(id) {
            true => self.account(permit.tenant(), id).await?,
            false => None,
        };
        match found {
            Some(kept) => Ok(view(kept)),
            None => invalid(NO_ACCOUNT),
        }
    }
    /// The patient that an account belongs to, if there is such an account and it is a patient's.
    pub(crate) async fn patient_of(
        &self,
        tenant: TenantId,
        account: &str,
    ) -> Result<Option<String>, TrustError> {
        let found = self.account(tenant, account).await?;
        Ok(found.and_then(|kept| kept.body.patient))
    }
    /// Closes an account or opens it again. Closing ends its sessions and its sign-ins under way at
    /// once, and a patient's links; opening forgives failed tries. Nobody closes their own account.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such account or
    /// it is one's own; `Ledger`.
    pub async fn set_active(
        &self,
        permit: &Permit,
        account: &str,
        active: bool,
    ) -> Result<(), TrustError> {
        if permit.agent().id == account {
            return invalid("nobody closes or opens their own account; ask another administrator");
        }
        let (word, effect) = if active {
            ("opened", Effect::Forgives)
        } else {
            ("closed", Effect::SessionsEnd)
        };
        let note = format!("account {account} was {word}");
        self.change_account(permit, account, &note, effect, |document| {
            document.active = active;
        })
        .await
    }
    /// Closes a patient's way into the portal, by links and by password, or opens it again. Works for
    /// patients without an account, too.
    ///
    /// # Errors
    /// As [`Identity::set_active`]; `Invalid` when there is no such patient.
    pub async fn set_patient_active(
        &self,
        permit: &Permit,
        patient: &str,
        active: bool,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        let known = fhir::is_id(patient)
            && self
                .inner
                .vault
                .peek(tenant, ResourceType::Patient, patient)
                .await?
                .is_some();
        if !known {
            return invalid("there is no such patient");
        }
        for _ in 0..RETRIES {
            let accounts = self.accounts_of_patient(tenant, patient).await?;
            if !accounts.is_empty() || active {
                for account in accounts {
                    self.set_active(permit, &account.id, active).await?;
                }
                return Ok(());
            }
            let closed = AccountDocument {
                user_name: String::new(),
                name: String::new(),
                role: Role::Patient,
                patient: Some(patient.to_owned()),
                password: None,
                password_kept: None,
                totp: None,
                totp_step: 0,
                passkeys: 0,
                active: false,
            };
            let id = self.id_of(tenant, "patient's account", patient);
            let mut documents = vec![self.account_draft(tenant, &id, Expected::Absent, &closed)?];
            documents.extend(self.session_deletions(tenant, &id, &closed).await?);
            let note = format!("account {id} was made closed: the patient signs in by link only");
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            record.patients.insert(patient.to_owned());
            if let Some(outcome) = self.tried(tenant, documents, record).await {
                self.inner.sessions.recheck_all();
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }
    /// Takes an account's second factors away (authenticator app and passkeys) and ends its sessions: the next sign-in with the password
    /// sets another one up. The reason stands in the audit.
    ///
    /// # Errors
    /// As [`Identity::set_active`].
    pub async fn reset_second_factor(
        &self,
        permit: &Permit,
        account: &str,
        reason: &str,
    ) -> Result<(), TrustError> {
        if permit.agent().id == account {
            return invalid("nobody resets their own second factor; ask another administrator");
        }
        let note = format!(
            "account {account} lost its second factor{}",
            because(reason)
        );
        self.change_account(permit, account, &note, Effect::FactorsEnd, |document| {
            document.totp = None;
            document.totp_step = 0;
            document.passkeys = 0;
        })
        .await
    }
    /// Switches signing in by password off for an account that is linked to somebody at an identity provider, or on
    /// again. Off, the password opens nothing, and sets no second factor up; sessions and sign-ins under way end.
    ///
    /// # Errors
    /// As [`Identity::set_active`]; `Invalid` when it is switched off for an account without a link, or on for one
    /// without a password.
    pub async fn set_password_sign_in(
        &self,
        permit: &Permit,
        account: &str,
        on: bool,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        if permit.agent().id == account {
            return invalid(
                "nobody changes how they sign in themselves; ask another administrator",
            );
        }
        let found = self.account(permit.tenant(), account).await?;
        let Some(found) = found.filter(|kept| kept.body.role != Role::Patient) else {
            return invalid("there is no such account of staff");
        };
        if on && found.body.password.is_none() && found.body.password_kept.is_none() {
            return invalid("the account has no password any more; make a new account");
        }
        if !on && self.links_of(permit, account).await?.is_empty() {
            return invalid(
                "the account is linked to nobody at an identity provider, so nobody could sign in with it; link it first",
            );
        }
        let note = match on {
            true => format!("account {account} can be signed in to by its password again"),
            false => format!("account {account} can't be signed in to by its password any more"),
        };
        let effect = match on {
            true => Effect::Factor,
            false => Effect::SessionsEnd,
        };
        self.change_account(permit, account, &note, effect, |document| {
            let (from, to) = match on {
                true => (&mut document.password_kept, &mut document.password),
                false => (&mut document.password, &mut document.password_kept),
            };
            *to = from.take().or(to.take());
        })
        .await
    }
    /// Ends the sessions of an account, and its sign-ins under way; says how many there were.
    ///
    /// # Errors
    /// As [`Identity::set_active`].
    pub async fn end_sessions(&self, permit: &Permit, account: &str) -> Result<usize, TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        let kept = self
            .account(tenant, account)
            .await?
            .ok_or_else(|| TrustError::Invalid("there is no such account".to_owned()))?;
        let mut ended = 0;
        let mut conflicts = 0;
        loop {
            let gone = self.session_deletions(tenant, account, &kept.body).await?;
            if gone.is_empty() {
                return Ok(ended);
            }
            // Devices go with them, and are none.
            let is_session = |draft: &&Draft| draft.kind != kinds::PUSH_DEVICES;
            let count = gone.iter().filter(is_session).count();
            let note = format!("account {account}: {count} sessions and applications ended");
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            record.patients.extend(kept.body.patient.clone());
            let done = self.commit(tenant, gone, record).await;
            self.inner.sessions.recheck_all();
            match done {
                Ok(()) => ended += count,
                Err(TrustError::Ledger(LedgerError::Conflict)) if conflicts < RETRIES => {
                    conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    /// All other systems, with tokens or with keys, by name.
    ///
    /// # Errors
    /// As [`Identity::accounts`].
    pub async fn clients(&self, permit: &Permit) -> Result<Listing<ClientView>, TrustError> {
        self.administers(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        // Where a list is cut, those that steer stand in it: there are few of them.
        let mut found: Vec<Kept<ClientDocument>> = Vec::new();
        for kind in [kinds::STEERER, kinds::CLIENT] {
            let query = Query::Token(ledger.kind_token(tenant, kind));
            found.extend(find(ledger, tenant, kind, &query, LISTED_MAX + 1).await?);
        }
        // Systems with a key, and applications.
        let systems = self.systems(tenant, LISTED_MAX + 1).await?;
        let complete = found.len() <= LISTED_MAX && systems.len() <= LISTED_MAX;
        found.truncate(LISTED_MAX);
        let now_ms = self.now_ms();
        let with_tokens = found.into_iter().map(|kept| ClientView {
            state: kept.body.state(now_ms),
            id: kept.id,
            name: kept.body.name,
            role: kept.body.role,
            expires_ms: Some(kept.body.expires_ms),
            scopes: None,
            redirect_uris: Vec::new(),
            launch_uri: None,
            registered: None,
        });
        let with_keys = systems.into_iter().take(LISTED_MAX).map(|kept| ClientView {
            launch_uri: (kept.body.app.as_ref()).and_then(|app| app.launch_uri.clone()),
            state: kept.body.state(),
            id: kept.id,
            name: kept.body.name,
            role: Role::Client,
            expires_ms: None,
            scopes: Some(kept.body.scopes.text()),
            redirect_uris: kept
                .body
                .app
                .map(|app| app.redirect_uris)
                .unwrap_or_default(),
            registered: None,
        });
        let mut rows: Vec<ClientView> = with_tokens.chain(with_keys).collect();
        for row in &mut rows {
            if row.redirect_uris.is_empty() {
                row.registered = self.listed_as(tenant, &row.id, row.role).await?;
            }
        }
        rows.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
        let note = format!("{} clients listed", rows.len());
        self.looked(permit, &note).await?;
        Ok(Listing { rows, complete })
    }
    /// Revokes the access token of a client, or a system with all of its tokens, for good and at once. The
    /// reason stands in the audit.
    ///
    /// # Errors
    /// As [`Identity::set_active`].
    pub async fn revoke_client(
        &self,
        permit: &Permit,
        client: &str,
        reason: &str,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        for _ in 0..RETRIES {
            let mut found: Option<(Kind, Kept<ClientDocument>)> = None;
            for kind in [kinds::CLIENT, kinds::STEERER] {
                let kept = get(ledger, tenant, kind, client).await?;
                found = found.or(kept.map(|kept| (kind, kept)));
            }
            let Some((kind, mut kept)) = found else {
                match self.revoke_system(permit, client, reason).await? {
                    Some(()) => return Ok(()),
                    None => continue,
                }
            };
            if !kept.body.active {
                return Ok(());
            }
            kept.body.active = false;
            let revoked = draft(
                ledger,
                tenant,
                kind,
                client,
                Expected::Version(kept.version),
                &kept.body,
                &[],
                None,
            )?;
            let note = format!("client {client} was revoked{}", because(reason));
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            if let Some(outcome) = self.tried(tenant, vec![revoked], record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Whether a permit is one to administer; a "no" is audited.
    pub(super) async fn administers(&self, permit: &Permit) -> Result<(), TrustError> {
        if permit.action() == Action::Administer {
            return Ok(());
        }
        let reason = format!("a permit to {} manages no accounts", permit.action().name());
        let mut record = Record::under(permit, Event::of(Action::Administer));
        record.outcome = Outcome::Refused;
        record.note = Some(&reason);
        self.inner.auditor.commit(&record).await?;
        Err(TrustError::Refused(Refusal {
            reason,
            because: Vec::new(),
        }))
    }

    /// Records a look at accounts or clients.
    pub(super) async fn looked(&self, permit: &Permit, note: &str) -> Result<(), TrustError> {
        let mut record = Record::under(permit, Event::ACCOUNTS);
        record.note = Some(note);
        self.inner.auditor.commit(&record).await?;
        Ok(())
    }

    /// Commits; `None` when somebody else was faster, so that it is to be tried again.
    pub(super) async fn tried(
        &self,
        tenant: TenantId,
        documents: Vec<Draft>,
        record: Record<'_>,
    ) -> Option<Result<(), TrustError>> {
        match self.commit(tenant, documents, record).await {
            Err(TrustError::Ledger(LedgerError::Conflict)) => None,
            outcome => Some(outcome),
        }
    }

    pub(super) async fn change_account(
        &self,
        permit: &Permit,
        account: &str,
        note: &str,
        effect: Effect,
        change: impl Fn(&mut AccountDocument),
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        for _ in 0..RETRIES {
            let mut kept = self
                .account(tenant, account)
                .await?
                .ok_or_else(|| TrustError::Invalid("there is no such account".to_owned()))?;
            change(&mut kept.body);
            let expected = Expected::Version(kept.version);
            let mut documents = vec![self.account_draft(tenant, account, expected, &kept.body)?];
            match effect {
                Effect::Factor => {}
                Effect::SessionsEnd => {
                    documents.extend(self.session_deletions(tenant, account, &kept.body).await?);
                }
                Effect::FactorsEnd => {
                    documents.extend(self.session_deletions(tenant, account, &kept.body).await?);
                    documents.extend(self.passkey_deletions(tenant, account).await?);
                }
                Effect::Forgives => {
                    documents.extend(self.forgiveness(tenant, &kept.body).await?);
                }
            }
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(note);
            record.patients.extend(kept.body.patient.clone());
            if let Some(outcome) = self.tried(tenant, documents, record).await {
                self.inner.sessions.recheck_all();
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// The accounts that belong to a patient.
    pub(super) async fn accounts_of_patient(
        &self,
        tenant: TenantId,
        patient: &str,
    ) -> Result<Vec<Kept<AccountDocument>>, TrustError> {
        let ledger = &self.inner.ledger;
        let query = Query::Token(ledger.token(tenant, kinds::ACCOUNT, "patient", patient));
        let mut found: Vec<Kept<AccountDocument>> =
            find(ledger, tenant, kinds::ACCOUNT, &query, LISTED_MAX).await?;
        found.retain(|kept| kept.body.patient.as_deref() == Some(patient));
        Ok(found)
    }

    /// Whether a patient has been shut out of the portal.
    pub(super) async fn is_shut_out(
        &self,
        tenant: TenantId,
        patient: &str,
    ) -> Result<bool, TrustError> {
        let accounts = self.accounts_of_patient(tenant, patient).await?;
        Ok(accounts.iter().any(|kept| !kept.body.active))
    }

    /// Sessions and sign-ins under way of an account, and those that a link of its patient opened.
    pub(super) async fn sessions_of(
        &self,
        tenant: TenantId,
        id: &str,
        account: &AccountDocument,
    ) -> Result<Vec<Kept<SessionDocument>>, TrustError> {
        let ledger = &self.inner.ledger;
        let by_account = ledger.token(tenant, kinds::SESSION, "account", id);
        let query = match &account.patient {
            None => Query::Token(by_account),
            Some(patient) => Query::Or(vec![
                Query::Token(by_account),
                Query::Token(ledger.token(tenant, kinds::SESSION, "patient", patient)),
            ]),
        };
        let mut found: Vec<Kept<SessionDocument>> =
            find(ledger, tenant, kinds::SESSION, &query, SESSIONS_AT_ONCE).await?;
        found.retain(|kept| {
            let by_link = account.patient.is_some() && kept.body.agent.patient == account.patient;
            by_link || kept.body.account.as_deref() == Some(id)
        });
        Ok(found)
    }

    async fn session_deletions(
        &self,
        tenant: TenantId,
        id: &str,
        account: &AccountDocument,
    ) -> Result<Vec<Draft>, TrustError> {
        let sessions = self.sessions_of(tenant, id, account).await?;
        let mut gone: Vec<Draft> = sessions
            .iter()
            .map(|kept| deletion(kinds::SESSION, &kept.id, kept.version))
            .collect();
        // Who is signed out everywhere is so in applications, too.
        let patient = account.patient.as_deref();
        gone.extend(self.grant_deletions(tenant, id, patient).await?);
        // What was an own device may be somebody else's by now.
        let ending = Ending::All;
        gone.extend(self.push_device_deletions(tenant, patient, ending).await?);
        Ok(gone)
    }

    /// The failed tries of an account, forgiven.
    async fn forgiveness(
        &self,
        tenant: TenantId,
        account: &AccountDocument,
    ) -> Result<Vec<Draft>, TrustError> {
        let mut ids = Vec::new();
        if !account.user_name.is_empty() {
            ids.push(self.attempts_id(tenant, "user", &account.user_name));
        }
        if let Some(patient) = &account.patient {
            ids.push(self.attempts_id(tenant, "patient", patient));
        }
        let mut drafts = Vec::new();
        for id in ids {
            let (attempts, expected) = self.attempts(tenant, &id).await?;
            if attempts.failures > 0 {
                let none = AttemptsDocument::default();
                drafts.push(self.attempts_draft(tenant, &id, expected, &none)?);
            }
        }
        Ok(drafts)
    }
}
