//! Passwords, second factors and links.
use fhir::ResourceType;
use ledger::{Draft, Expected, Kind, TenantId};

use super::documents::{
    AccountDocument, AgentDocument, AttemptsDocument, Kept, LinkDocument, SessionDocument, Stage,
    deletion, draft, get,
};
use super::{Identity, LOCKS, SignIn, fold, secrets};
use crate::audit::{Event, Outcome, Record};
use crate::{Agent, Role, TrustError, kinds};

/// How long a second factor may take after the password.
const TICKET_LIFE_MS: u64 = 300_000;
/// A link is dead after this many wrong birth dates, whatever the time between them: with about
/// 36,500 dates to guess, and most patients in a third of them, ten tries are one in a thousand.
const LINK_TRIES_MAX: u32 = 10;

/// The tries for one user name or link, held while one is made.
struct Trying<'a> {
    tenant: TenantId,
    id: String,
    attempts: AttemptsDocument,
    expected: Expected,
    _turn: tokio::sync::MutexGuard<'a, ()>,
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
        let trying = self.trying(tenant, "user", &user_name).await?;
        let id = self.account_id(tenant, &user_name);
        let account = self
            .account(tenant, &id)
            .await?
            .filter(|kept| kept.body.active);
        let known = account.as_ref().and_then(|kept| kept.body.password.clone());
        let hash = known
            .clone()
            .unwrap_or_else(|| self.inner.no_ones_password.clone());
        let password = password.to_owned();
        let matches = self
            .apart(move || secrets::password_matches(&password, &hash))
            .await?;
        let (Some(account), true) = (account, matches && known.is_some()) else {
            return Err(self
                .failed(trying, stranger(tenant), None, "password")
                .await?);
        };
        let agent = agent_of(&account);
        let second_factor = match (&account.body.totp, account.body.role) {
            (Some(_), _) => Some(Stage::SecondFactor),
            (None, Role::Patient) => None,
            (None, _) => Some(Stage::Enrol {
                totp: secrets::mint_totp(self.inner.ledger.entropy().as_ref()),
            }),
        };
        let Some(stage) = second_factor else {
            let mut documents = Vec::new();
            documents.extend(self.forgiven(&trying)?);
            let note = "signed in with a password";
            return self
                .open(tenant, Some(account.id), agent, documents, note)
                .await;
        };
        let ticket = secrets::mint(tenant, self.inner.ledger.entropy().as_ref());
        let now_ms = self.now_ms();
        let document = SessionDocument {
            secret: secrets::hash(&ticket),
            stage: stage.clone(),
            account: Some(account.id.clone()),
            agent,
            csrf: String::new(),
            created_ms: now_ms,
            last_seen_ms: now_ms,
            expires_ms: now_ms + TICKET_LIFE_MS,
        };
        let id = self.id_of(tenant, "session", &document.secret);
        let draft = draft(
            &self.inner.ledger,
            tenant,
            kinds::SESSION,
            &id,
            Expected::Absent,
            &document,
            &[],
        )?;
        let agent = document.agent.agent(tenant);
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some("password right, second factor asked for");
        self.commit(tenant, vec![draft], record).await?;
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
        let tenant = secrets::tenant_of(ticket).ok_or(TrustError::SignIn)?;
        let hash = secrets::hash(ticket);
        let id = self.id_of(tenant, "session", &hash);
        let ledger = &self.inner.ledger;
        let find = async || -> Result<Option<Kept<SessionDocument>>, TrustError> {
            let found: Option<Kept<SessionDocument>> =
                get(ledger, tenant, kinds::SESSION, &id).await?;
            Ok(found.filter(|kept| {
                secrets::same(&kept.body.secret, &hash)
                    && kept.body.stage != Stage::Open
                    && self.now_ms() < kept.body.expires_ms
            }))
        };
        let first_look = find().await?.ok_or(TrustError::SignIn)?;
        let account_id = first_look.body.account.clone().ok_or(TrustError::SignIn)?;
        let account = self
            .account(tenant, &account_id)
            .await?
            .ok_or(TrustError::SignIn)?;
        let trying = self.trying(tenant, "user", &account.body.user_name).await?;
        // Another try may have used the ticket or the code while this one waited for its turn.
        let session = find().await?.ok_or(TrustError::SignIn)?;
        let account = self
            .account(tenant, &account_id)
            .await?
            .filter(|kept| kept.body.active)
            .ok_or(TrustError::SignIn)?;
        let secret = match (&session.body.stage, &account.body.totp) {
            (Stage::Enrol { totp }, None) | (Stage::SecondFactor, Some(totp)) => totp.clone(),
            // Somebody else enrolled in between, or the factor was taken away.
            _ => return Err(TrustError::SignIn),
        };
        let now_s = self.now_ms() / 1000;
        let step = secrets::totp(&secret)?
            .check(code.trim(), now_s)
            .filter(|step| *step > account.body.totp_step);
        let Some(step) = step else {
            let agent = session.body.agent.agent(tenant);
            return Err(self.failed(trying, agent, None, "second factor").await?);
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
        let note = "signed in with password and second factor";
        self.open(
            tenant,
            Some(account_id),
            agent_of(&account),
            documents,
            note,
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
        if secrets::tenant_of(secret) != Some(tenant) {
            return Err(TrustError::SignIn);
        }
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "link", &hash);
        let trying = self.trying(tenant, "link", &id).await?;
        let link: Option<Kept<LinkDocument>> =
            get(&self.inner.ledger, tenant, kinds::SIGN_IN_LINK, &id).await?;
        let link = link
            .filter(|kept| {
                secrets::same(&kept.body.secret, &hash)
                    && !kept.body.used
                    && kept.body.wrong < LINK_TRIES_MAX
                    && self.now_ms() < kept.body.expires_ms
            })
            .ok_or(TrustError::SignIn)?;
        let patient = link.body.patient.clone();
        let found = self
            .inner
            .vault
            .peek(tenant, ResourceType::Patient, &patient)
            .await?;
        let birth_date = birth_date.trim();
        let right = found
            .and_then(|found| found.text_at(&["birthDate"]).map(str::to_owned))
            .is_some_and(|on_record| secrets::same(&on_record, birth_date));
        let agent = AgentDocument {
            id: patient.clone(),
            name: String::new(),
            role: Role::Patient,
            patient: Some(patient),
        };
        if !right {
            // Whoever has the link and not the birth date isn't shown to be the patient.
            let wrong = LinkDocument {
                wrong: link.body.wrong + 1,
                ..link.body
            };
            return Err(self
                .failed(
                    trying,
                    stranger(tenant),
                    Some((id, link.version, wrong)),
                    "birth date",
                )
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
        let note = "signed in with a link and the birth date";
        self.open(tenant, None, agent, documents, note).await
    }

    /// Waits for the turn to try, and checks that trying is allowed.
    async fn trying(
        &self,
        tenant: TenantId,
        what: &str,
        name: &str,
    ) -> Result<Trying<'_>, TrustError> {
        let id = self.id_of(tenant, "attempts", &format!("{what} {name}"));
        let slot = id.bytes().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let turn = self.inner.locks[slot % LOCKS].lock().await;
        let (attempts, expected) = self.attempts(tenant, &id).await?;
        let wait_ms = attempts.wait_ms(self.now_ms());
        if wait_ms > 0 {
            return Err(TrustError::LockedOut {
                wait_s: wait_ms.div_ceil(1000),
            });
        }
        Ok(Trying {
            tenant,
            id,
            attempts,
            expected,
            _turn: turn,
        })
    }

    /// Counts a failure and records it; the same for known and unknown names.
    async fn failed(
        &self,
        trying: Trying<'_>,
        agent: Agent,
        link: Option<(String, u32, LinkDocument)>,
        what: &str,
    ) -> Result<TrustError, TrustError> {
        let mut attempts = trying.attempts.clone();
        attempts.fail(self.now_ms());
        let mut documents = vec![self.attempts_draft(&trying, &attempts)?];
        let note = format!("{what} wrong, failure {}", attempts.failures);
        let mut record = Record::new(&agent, Event::LOGIN);
        record.outcome = Outcome::Refused;
        record.note = Some(&note);
        record.anchor = Some(&trying.id);
        if let Some((id, version, link)) = link {
            documents.push(self.link_draft(trying.tenant, &id, version, &link)?);
            // The patient should find in their trail that somebody tried.
            record.patients.insert(link.patient);
        }
        self.commit(trying.tenant, documents, record).await?;
        Ok(TrustError::SignIn)
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
        draft(&self.inner.ledger, tenant, KIND, id, expected, link, &[])
    }

    /// The failures before a success are forgiven; nothing to write when there were none.
    fn forgiven(&self, trying: &Trying<'_>) -> Result<Option<Draft>, TrustError> {
        if trying.attempts.failures == 0 {
            return Ok(None);
        }
        self.attempts_draft(trying, &AttemptsDocument::default())
            .map(Some)
    }

    fn attempts_draft(
        &self,
        trying: &Trying<'_>,
        attempts: &AttemptsDocument,
    ) -> Result<Draft, TrustError> {
        const KIND: Kind = kinds::SIGN_IN_ATTEMPTS;
        let ledger = &self.inner.ledger;
        draft(
            ledger,
            trying.tenant,
            KIND,
            &trying.id,
            trying.expected,
            attempts,
            &[],
        )
    }
}

fn agent_of(account: &Kept<AccountDocument>) -> AgentDocument {
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
fn stranger(tenant: TenantId) -> Agent {
    Agent::system(tenant, "sign-in")
}
