//! Passwords, second factors and links.
use fhir::ResourceType;
use ledger::{Draft, Expected, Kind, LedgerError, TenantId};

use super::documents::{
    AccountDocument, AgentDocument, AttemptsDocument, Kept, LinkDocument, OF_NAMES, OF_PATIENTS,
    Patience, SessionDocument, Stage, deletion, draft, get,
};
use super::oidc::AtProvider;
use super::refusals::{Stranger, Why};
use super::seen::OpenedBy;
use super::{Identity, LOCKS, RETRIES, SignIn, fold, secrets};
use crate::audit::{Event, Outcome, Record};
use crate::{Agent, Role, TrustError, kinds};

/// How long a second factor may take after the password.
const TICKET_LIFE_MS: u64 = 300_000;
/// A link is dead after this many wrong birth dates, whatever the time between them: with about
/// 36,500 dates to guess, and most patients in a third of them, ten tries are one in a thousand.
const LINK_TRIES_MAX: u32 = 10;

/// Whose tries are counted.
#[derive(Clone, Copy)]
pub(super) enum Whom<'a> {
    /// The user name of this account.
    Account { user_name: &'a str, id: &'a str },
    /// A user name that nobody has. Its failures are kept in memory only, or a stranger could fill
    /// the store with them.
    Nobody { user_name: &'a str },
    /// A passkey that nobody has. Trying one costs a stranger nothing, so its failures are kept apart from those of
    /// names, which they would push out.
    NoPasskey { id: &'a str },
    /// The account of somebody who is signed in. Strangers who know the user name don't count among these, or
    /// they could keep somebody from an emergency.
    SignedIn { id: &'a str },
    /// A patient, whichever of their links is tried.
    Patient(&'a str),
    /// Somebody who acts for a patient, whichever of their links is tried.
    Proxy { person: &'a str, patient: &'a str },
}

impl Whom<'_> {
    fn patience(self) -> Patience {
        match self {
            Self::Account { .. }
            | Self::SignedIn { .. }
            | Self::Nobody { .. }
            | Self::NoPasskey { .. } => OF_NAMES,
            Self::Patient(_) | Self::Proxy { .. } => OF_PATIENTS,
        }
    }
    fn is_known(self) -> bool {
        self.stranger().is_none()
    }
    /// What a stranger says to have, where nobody has it.
    fn stranger(self) -> Option<Stranger> {
        match self {
            Self::Nobody { .. } => Some(Stranger::Name),
            Self::NoPasskey { .. } => Some(Stranger::Passkey),
            Self::Account { .. }
            | Self::SignedIn { .. }
            | Self::Patient(_)
            | Self::Proxy { .. } => None,
        }
    }
    fn patient(self) -> Option<String> {
        match self {
            Self::Patient(id) | Self::Proxy { patient: id, .. } => Some(id.to_owned()),
            Self::Account { .. }
            | Self::SignedIn { .. }
            | Self::Nobody { .. }
            | Self::NoPasskey { .. } => None,
        }
    }
    /// For the audit: ids, but nothing that was typed.
    fn words(self) -> String {
        match self {
            Self::Account { id, .. } => format!("account {id}"),
            Self::SignedIn { id } => format!("account {id}, signed in"),
            Self::Nobody { .. } | Self::NoPasskey { .. } => "no such account".to_owned(),
            Self::Patient(_) => "a patient's link".to_owned(),
            Self::Proxy { .. } => "a link of somebody who acts for a patient".to_owned(),
        }
    }
}

/// The tries for one user name or patient, held while one is made.
pub(super) struct Trying<'a, 'w> {
    tenant: TenantId,
    whom: Whom<'w>,
    id: String,
    attempts: AttemptsDocument,
    expected: Expected,
    turn: tokio::sync::MutexGuard<'a, ()>,
}

impl<'a> Trying<'a, '_> {
    /// The turn alone, to be held until what the try opens is written.
    pub(super) fn into_turn(self) -> tokio::sync::MutexGuard<'a, ()> {
        self.turn
    }
}

impl Identity {
    /// Checks a password (argon2id). Takes as long for unknown names.
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn password(
        &self,
        tenant: TenantId,
        user_name: &str,
        password: &str,
    ) -> Result<SignIn, TrustError> {
        let user_name = fold(user_name);
        let id = self.account_id(tenant, &user_name);
        let whom = match self.account(tenant, &id).await? {
            Some(_) => Whom::Account {
                user_name: &user_name,
                id: &id,
            },
            None => Whom::Nobody {
                user_name: &user_name,
            },
        };
        let trying = self.trying(tenant, whom).await?;
        let account = self.account(tenant, &id).await?;
        let closed = account.as_ref().is_some_and(|kept| !kept.body.active);
        let account = account.filter(|kept| kept.body.active);
        let known = account.as_ref().and_then(|kept| kept.body.password.clone());
        let hash = known
            .clone()
            .unwrap_or_else(|| self.inner.no_ones_password.clone());
        let password = password.to_owned();
        let matches = self
            .apart(move || secrets::password_matches(&password, &hash))
            .await?;
        let (Some(account), true) = (account, matches && known.is_some()) else {
            let what = if closed {
                "password tried on a closed account"
            } else {
                "password wrong"
            };
            return Err(self.failed(trying, None, Why::Password, what).await?);
        };
        let second_factor = match (&account.body.totp, account.body.role) {
            (Some(_), _) => Some(Stage::SecondFactor),
            (None, Role::Patient) => None,
            (None, _) if self.has_passkeys(tenant, &account.id).await? => Some(Stage::SecondFactor),
            (None, _) => Some(Stage::Enrol {
                totp: secrets::mint_totp(self.inner.ledger.entropy().as_ref()),
            }),
        };
        let Some(stage) = second_factor else {
            let agent = agent_of(&account);
            let mut documents = Vec::new();
            documents.extend(self.forgiven(&trying)?);
            let (account, by) = (Some(account.id), OpenedBy::Password);
            return self.open(tenant, account, agent, documents, by, None).await;
        };
        let note = "password right, second factor asked for";
        self.ask_second_factor(tenant, &account, stage, note, None)
            .await
    }
    /// Goes on to the second factor after the first: gives a ticket for it. With a provider comes what makes its
    /// answer good once.
    pub(super) async fn ask_second_factor(
        &self,
        tenant: TenantId,
        account: &Kept<AccountDocument>,
        stage: Stage,
        note: &str,
        provider: Option<(AtProvider, Draft)>,
    ) -> Result<SignIn, TrustError> {
        let (provider, used) = provider.unzip();
        let ticket = secrets::mint(tenant, self.inner.ledger.entropy().as_ref());
        let now_ms = self.now_ms();
        let document = SessionDocument {
            secret: secrets::hash(&ticket),
            stage: stage.clone(),
            account: Some(account.id.clone()),
            agent: agent_of(account),
            provider,
            opened: None,
            browser: None,
            csrf: String::new(),
            created_ms: now_ms,
            last_seen_ms: now_ms,
            expires_ms: now_ms + TICKET_LIFE_MS,
            factor_ms: 0,
            factor: None,
        };
        let id = self.id_of(tenant, "session", &document.secret);
        let draft = self.session_draft(tenant, &id, Expected::Absent, &document)?;
        let agent = document.agent.agent(tenant);
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some(note);
        let documents = std::iter::once(draft).chain(used).collect();
        match self.commit(tenant, documents, record).await {
            // It came back here and to another server.
            Err(TrustError::Ledger(LedgerError::Conflict)) => return Err(TrustError::SignIn),
            other => other?,
        }
        Ok(match stage {
            Stage::Enrol { totp } => SignIn::EnrolTotp {
                ticket,
                url: secrets::totp_url(&account.body.user_name, &totp),
                secret: totp,
            },
            Stage::SecondFactor | Stage::Open => SignIn::SecondFactor { ticket },
        })
    }
    /// Checks the second factor (TOTP, RFC 6238; each code once). With a ticket for enrolment, the
    /// first right code sets the second factor up.
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn second_factor(&self, ticket: &str, code: &str) -> Result<SignIn, TrustError> {
        let Some(tenant) = self.tenant_of(ticket) else {
            Why::Ticket.count();
            return Err(TrustError::SignIn);
        };
        let hash = secrets::hash(ticket);
        let id = self.id_of(tenant, "session", &hash);
        let ledger = &self.inner.ledger;
        let find = async || -> Result<Option<Kept<SessionDocument>>, TrustError> {
            let found: Option<Kept<SessionDocument>> =
                get(ledger, tenant, kinds::SESSION, &id).await?;
            Ok(found.filter(|kept| {
                secrets::same(&kept.body.secret, &hash) && kept.body.stage != Stage::Open
            }))
        };
        let first_look = find().await?;
        let known = first_look.and_then(|kept| kept.body.account);
        let is_known = known.is_some();
        // As much is looked up for a ticket that nobody has.
        let account_id = known.unwrap_or_else(|| self.nobody(tenant, &hash));
        let account = self.account(tenant, &account_id).await?;
        let whom = match &account {
            Some(account) => Whom::Account {
                user_name: &account.body.user_name,
                id: &account_id,
            },
            None => Whom::Nobody {
                user_name: &account_id,
            },
        };
        let trying = self.trying(tenant, whom).await?;
        // Another try may have used the ticket or the code while this one waited for its turn.
        let session = find()
            .await?
            .filter(|kept| self.now_ms() < kept.body.expires_ms);
        let account = self
            .account(tenant, &account_id)
            .await?
            .filter(|kept| kept.body.active);
        let over = format!("a sign-in to account {account_id} that is over");
        let (Some(session), Some(account)) = (session, account) else {
            drop(trying);
            let (subject, words) = match is_known {
                true => (account_id.as_str(), over.as_str()),
                false => (
                    "",
                    "a sign-in that is unknown, or was finished or ended before",
                ),
            };
            let dead = self.dead(tenant, Why::Ticket, subject, None, words);
            return Err(dead.await?);
        };
        let secret = match (&session.body.stage, &account.body.totp) {
            (Stage::Enrol { totp }, None) | (Stage::SecondFactor, Some(totp)) => totp.clone(),
            // It has passkeys alone, or the factor was taken away.
            (_, None) => {
                let words = "a one-time code for an account that has none";
                return Err(self.failed(trying, None, Why::Code, words).await?);
            }
            // Somebody else enrolled in between.
            _ => {
                drop(trying);
                let dead = self.dead(tenant, Why::Ticket, &account_id, None, &over);
                return Err(dead.await?);
            }
        };
        let now_s = self.now_ms() / 1000;
        let step = secrets::totp(&secret)?
            .check(code.trim(), now_s)
            .filter(|step| *step > account.body.totp_step);
        let Some(step) = step else {
            return Err(self
                .failed(trying, None, Why::Code, "second factor wrong")
                .await?);
        };
        let mut changed = account.body.clone();
        changed.totp = Some(secret);
        changed.totp_step = step;
        let expected = Expected::Version(account.version);
        let mut documents = vec![
            self.account_draft(tenant, &account_id, expected, &changed)?,
            deletion(kinds::SESSION, &session.id, session.version),
        ];
        documents.extend(self.forgiven(&trying)?);
        let provider = session.body.provider.clone();
        let by = match &provider {
            None => OpenedBy::Code,
            Some(_) => OpenedBy::ProviderAndCode,
        };
        self.open(
            tenant,
            Some(account_id.clone()),
            agent_of(&account),
            documents,
            by,
            provider,
        )
        .await
    }
    /// Uses a link with the patient's birth date (`YYYY-MM-DD`).
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn use_link(
        &self,
        tenant: TenantId,
        secret: &str,
        birth_date: &str,
    ) -> Result<SignIn, TrustError> {
        if self.tenant_of(secret) != Some(tenant) {
            Why::Link.count();
            return Err(TrustError::SignIn);
        }
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "link", &hash);
        let find = async || -> Result<Option<Kept<LinkDocument>>, TrustError> {
            let found: Option<Kept<LinkDocument>> =
                get(&self.inner.ledger, tenant, kinds::SIGN_IN_LINK, &id).await?;
            Ok(found.filter(|kept| secrets::same(&kept.body.secret, &hash)))
        };
        let first_look = find().await?.map(|kept| kept.body);
        let proxy = match first_look.as_ref().and_then(|link| link.proxy.as_ref()) {
            None => None,
            Some(proxy) => Some(self.who_acts(tenant, proxy).await?),
        };
        // As much is looked up for a link that nobody has, or that opens nothing any more, as for one that does.
        let is_known = first_look.is_some();
        let patient = match first_look {
            Some(link) => link.patient,
            None => self.nobody(tenant, &hash),
        };
        let whom = match &proxy {
            Some(acts) => Whom::Proxy {
                person: &acts.person,
                patient: &patient,
            },
            None if is_known => Whom::Patient(&patient),
            None => Whom::Nobody {
                user_name: &patient,
            },
        };
        let trying = self.trying(tenant, whom).await?;
        // Another try may have used it up while this one waited for its turn.
        let link = find().await?;
        let shut_out = self.is_shut_out(tenant, &patient).await?;
        let vault = &self.inner.vault;
        let found = vault.peek(tenant, ResourceType::Patient, &patient).await;
        let is_erased = matches!(found, Err(TrustError::Ledger(LedgerError::KeyDestroyed)));
        let found = if is_erased { None } else { found? };
        let over = match &link {
            None => Some("a link that is unknown, or ended a while ago"),
            Some(link) if link.body.used => Some("a link that was used already"),
            Some(link) if link.body.wrong >= LINK_TRIES_MAX => {
                Some("a link that ended by wrong dates of birth")
            }
            Some(link) if self.now_ms() >= link.body.expires_ms => {
                Some("a link whose time is over")
            }
            Some(_) if is_erased => Some("a link of a patient whose key is destroyed"),
            Some(_) if shut_out => Some("a link of a closed account"),
            Some(_) if proxy.as_ref().is_some_and(|acts| !acts.stands) => {
                Some("a link of somebody who acts for the patient no more")
            }
            Some(_) => None,
        };
        let (Some(link), None) = (link, over) else {
            drop(trying);
            let words = over.unwrap_or_default();
            let (subject, patient) = match is_known {
                true => (id.as_str(), Some(patient.as_str())),
                false => ("", None),
            };
            let dead = self.dead(tenant, Why::Link, subject, patient, words);
            return Err(dead.await?);
        };
        let birth_date = birth_date.trim();
        let on_record = match &proxy {
            Some(acts) => Some(acts.birth_date.clone()),
            None => found.and_then(|found| found.text_at(&["birthDate"]).map(str::to_owned)),
        };
        let right = on_record.is_some_and(|on_record| secrets::same(&on_record, birth_date));
        let (id_of_agent, role) = match &proxy {
            Some(acts) => (acts.id.clone(), Role::Proxy),
            None => (patient.clone(), Role::Patient),
        };
        let agent = AgentDocument {
            id: id_of_agent,
            name: String::new(),
            role,
            patient: Some(patient.clone()),
        };
        if !right {
            // Whoever has the link and not the birth date isn't shown to be the patient.
            let wrong = LinkDocument {
                wrong: link.body.wrong + 1,
                ..link.body
            };
            let link = Some((id, link.version, wrong));
            return Err(self
                .failed(trying, link, Why::BirthDate, "birth date wrong")
                .await?);
        }
        let mut documents = Vec::new();
        documents.extend(self.forgiven(&trying)?);
        if !link.body.reusable {
            let used = LinkDocument {
                used: true,
                ..link.body.clone()
            };
            documents.push(self.link_draft(tenant, &id, link.version, &used)?);
        }
        let by = OpenedBy::Link;
        self.open(tenant, None, agent, documents, by, None).await
    }

    /// Who stands in the place of an account or a patient where a secret is nobody's.
    pub(super) fn nobody(&self, tenant: TenantId, hash: &str) -> String {
        self.id_of(tenant, "nobody", hash)
    }

    /// Waits for the turn to try, and checks that trying is allowed.
    pub(super) async fn trying<'a, 'w>(
        &'a self,
        tenant: TenantId,
        whom: Whom<'w>,
    ) -> Result<Trying<'a, 'w>, TrustError> {
        let id = match whom {
            Whom::Account { user_name, .. } | Whom::Nobody { user_name } => {
                self.attempts_id(tenant, "user", user_name)
            }
            Whom::NoPasskey { id } => self.attempts_id(tenant, "user", id),
            Whom::SignedIn { id } => self.attempts_id(tenant, "signed-in", id),
            Whom::Patient(patient) => self.attempts_id(tenant, "patient", patient),
            Whom::Proxy { person, .. } => self.attempts_id(tenant, "proxy", person),
        };
        let slot = id.bytes().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let turn = self.inner.locks[slot % LOCKS].lock().await;
        // Read for nobody, too, so that it takes as long.
        let (stored, expected) = self.attempts(tenant, &id).await?;
        let attempts = match whom.stranger() {
            None => stored,
            Some(stranger) => self.inner.refusals.of_nobody(stranger, &id),
        };
        let wait_ms = attempts.wait_ms(whom.patience(), self.now_ms());
        if wait_ms > 0 {
            drop(turn);
            let subject = if whom.is_known() { &id } else { "" };
            let words = format!("tried while locked out ({})", whom.words());
            let stranger = stranger(tenant);
            let mut record = Record::new(&stranger, Event::LOGIN);
            record.anchor = Some(&id);
            record.patients.extend(whom.patient());
            self.refused(Why::LockedOut, subject, record, &words)
                .await?;
            return Err(TrustError::LockedOut {
                wait_s: wait_ms.div_ceil(1000),
            });
        }
        Ok(Trying {
            tenant,
            whom,
            id,
            attempts,
            expected,
            turn,
        })
    }

    /// A link or ticket that opens nothing. Not counted as a failure, because no guess can make it
    /// open something; recorded all the same.
    pub(super) async fn dead(
        &self,
        tenant: TenantId,
        why: Why,
        subject: &str,
        patient: Option<&str>,
        words: &str,
    ) -> Result<TrustError, TrustError> {
        let stranger = stranger(tenant);
        let mut record = Record::new(&stranger, Event::LOGIN);
        record.anchor = (!subject.is_empty()).then_some(subject);
        record.patients.extend(patient.map(str::to_owned));
        self.refused(why, subject, record, words).await?;
        Ok(TrustError::SignIn)
    }

    /// Counts a failure and records it; what is seen from outside is the same for known and unknown
    /// names. Whoever failed isn't shown to be whom they claim to be, so a stranger stands in the
    /// record, beside the account or patient that it was tried on.
    pub(super) async fn failed(
        &self,
        trying: Trying<'_, '_>,
        link: Option<(String, u32, LinkDocument)>,
        why: Why,
        what: &str,
    ) -> Result<TrustError, TrustError> {
        let (tenant, whom, now_ms) = (trying.tenant, trying.whom, self.now_ms());
        let mut attempts = trying.attempts.clone();
        attempts.fail(whom.patience(), now_ms);
        let note = format!("{what} ({}), failure {}", whom.words(), attempts.failures);
        let stranger = stranger(tenant);
        let mut record = Record::new(&stranger, Event::LOGIN);
        record.anchor = Some(&trying.id);
        // The patient should find in their trail that somebody tried.
        record.patients.extend(whom.patient());
        if let Some(stranger) = whom.stranger() {
            let refusals = &self.inner.refusals;
            refusals.keep_of_nobody(stranger, &trying.id, attempts, now_ms);
            self.refused(why, "", record, &note).await?;
            return Ok(TrustError::SignIn);
        }
        why.count();
        record.outcome = Outcome::Refused;
        record.note = Some(&note);
        let began = tokio::time::Instant::now();
        let mut expected = trying.expected;
        for _ in 0..RETRIES {
            let mut documents = vec![self.attempts_draft(tenant, &trying.id, expected, &attempts)?];
            if let Some((id, version, link)) = &link {
                documents.push(self.link_draft(tenant, id, *version, link)?);
            }
            match self.commit(tenant, documents, record.clone()).await {
                // Old failures were swept away in between.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {
                    // Or another server counted one: this one is one more.
                    (attempts, expected) = self.attempts(tenant, &trying.id).await?;
                    attempts.fail(whom.patience(), now_ms);
                }
                other => {
                    self.inner.refusals.took(began);
                    return other.map(|()| TrustError::SignIn);
                }
            }
        }
        Err(LedgerError::Conflict.into())
    }

    fn link_draft(
        &self,
        tenant: TenantId,
        id: &str,
        version: u32,
        link: &LinkDocument,
    ) -> Result<Draft, TrustError> {
        const KIND: Kind = kinds::SIGN_IN_LINK;
        let expected = Expected::Version(version);
        let ends_ms = Some(link.expires_ms);
        let ledger = &self.inner.ledger;
        draft(ledger, tenant, KIND, id, expected, link, &[], ends_ms)
    }

    /// The failures before a success are forgiven; nothing to write when there were none.
    pub(super) fn forgiven(&self, trying: &Trying<'_, '_>) -> Result<Option<Draft>, TrustError> {
        if trying.attempts.failures == 0 {
            return Ok(None);
        }
        let none = AttemptsDocument::default();
        self.attempts_draft(trying.tenant, &trying.id, trying.expected, &none)
            .map(Some)
    }

    pub(super) fn attempts_id(&self, tenant: TenantId, what: &str, name: &str) -> String {
        self.id_of(tenant, "attempts", &format!("{what} {name}"))
    }

    pub(super) fn attempts_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        attempts: &AttemptsDocument,
    ) -> Result<Draft, TrustError> {
        const KIND: Kind = kinds::SIGN_IN_ATTEMPTS;
        let ends_ms = Some(attempts.ends_ms());
        let ledger = &self.inner.ledger;
        draft(ledger, tenant, KIND, id, expected, attempts, &[], ends_ms)
    }
}

pub(super) fn agent_of(account: &Kept<AccountDocument>) -> AgentDocument {
    let body = &account.body;
    AgentDocument {
        id: account.id.clone(),
        name: if body.role == Role::Patient {
            String::new()
        } else {
            body.name.clone()
        },
        role: body.role,
        patient: body.patient.clone(),
    }
}

/// Who tries with a name that may be nobody's.
pub(super) fn stranger(tenant: TenantId) -> Agent {
    Agent::system(tenant, "sign-in")
}
