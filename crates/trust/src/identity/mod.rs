//! People's accounts, sign-in and sessions.
//!
//! `sign_in.rs` has passwords, second factors and links, `passkeys/` passkeys, `oidc/` sign-in at an identity
//! provider, `oauth/` systems that sign in with a key and applications that people launch; `sessions.rs` what
//! comes of them, `seen.rs` what people see of those and end, `browsers.rs` what opened them, in words,
//! `step_up.rs` a second factor that is asked for again, `devices.rs` where patients want notifications,
//! `manage.rs` what administrators see and take away, `registered.rs` what systems are registered for, `known.rs` what somebody is known as in FHIR, `documents.rs` what is kept, `secrets.rs` how,
//! and `sweep.rs` how long. All times here are the wall clock's. Sign-ins, failed ones too, are in
//! the audit; names that somebody typed are not, because some type their password there. Where
//! somebody may fail without end, `refusals.rs` bounds what is recorded, and says how much was not.

mod browsers;
mod devices;
mod documents;
mod emergency;
mod known;
mod manage;
mod oauth;
mod oidc;
mod passkeys;
mod places;
mod proxies;
mod push_key;
mod recent;
mod refusals;
mod registered;
mod secrets;
mod seen;
mod sessions;
mod sign_in;
mod step_up;
mod sweep;
mod unexplained;

use std::sync::Arc;

use ledger::{Clock, Draft, Expected, Ledger, LedgerError, Query, TenantId};
use tokio::sync::{Mutex, Semaphore};

pub(crate) use self::documents::end_tokens;
pub(crate) use self::known::known_as;

use self::documents::{
    AccountDocument, AttemptsDocument, ClientDocument, Kept, LinkDocument, commit, draft, get,
};
use self::oauth::{AccessDocument, GrantDocument, Origins, SystemDocument};
use self::recent::Recent;
use self::refusals::{Refusals, Why};
use self::sessions::Sessions;
use crate::audit::{Auditor, Event, Outcome, Record, origin};
use crate::policy::Policies;
use crate::{Action, Agent, Permit, Purpose, Refusal, Role, Target, TrustError, Vault, kinds};

pub use browsers::in_browser;
pub use devices::{
    NewPushDevice, PUSH_DEVICES_MAX, PUSH_ENDPOINT_MAX, PUSH_NAME_MAX, PushDeviceView,
};
pub use emergency::{
    ALERTED_MAX, EMERGENCY_REVIEW_S, EMERGENCY_S, EmergenciesWaiting, EmergencyAccess,
    EmergencyPage, EmergencyReview, emergency_in_note,
};
pub use known::{KnownAgent, PROGRAMMES};
pub use manage::{AccountView, ClientState, ClientView, Listing};
pub use oauth::{
    ACCESS_LIFE_S, APP_ACCESS_LIFE_S, App, AppTokens, CERTIFICATE_BYTES_MAX, Certificates,
    ClientProof, ConnectedClient, EARLIER_KEYS_MAX_MS, FetchedKeys, GRANTS_MAX, GrantView, Granted,
    IDENTITY_TOKEN_LIFE_S, KEYS_BYTES_MAX, KeysOfBefore, KeysPlace, LaunchContext, Launched,
    NewApp, NewAppDevice, NewGrant, NewSystem, OFFLINE_IDLE_MS, OFFLINE_LIFE_MS, OauthError,
    OnBehalf, PeerCertificate, SIGNING_AHEAD_MS, SIGNING_KEPT_MS, SIGNING_LIFE_MS, ShownClient,
    ShownSystem, SignedIn, SigningRotation, SubjectName, SystemKeys, TokenState, VISIT_TOKEN_TYPE,
    WAITING_MAX, claims_client, is_challenge, names_key, rotate_signing_key, wanted_scopes,
};
#[cfg(test)]
pub(crate) use oauth::{let_in, signer::Signer};
pub use oidc::{
    AWAY_NEXT_BYTES_MAX, Admission, Arrival, Asked, Away, ClientKey, IdToken, IssuerKeys, LinkView,
    LogoutToken, Lost, TokenFault, check_id_token, check_logout_token,
};
pub use passkeys::ceremony::RelyingParty;
pub use passkeys::{OwnCode, PasskeyQuestion, PasskeyView, SecondFactors};
pub use places::{AppService, NoPush, PushBrowser, PushDevice, PushPlace, PushWays};
pub use proxies::{Acting, NewProxy, Proxy};
pub use push_key::PushKey;
pub use registered::{Contract, Registered};
pub use seen::{OpenedBy, SessionView};
pub use step_up::{STEP_UP_S, StepUp, StepUpWays};
pub use unexplained::{
    AccessReview, AskedUnexplained, LOOKED_AT_MAX, UnexplainedAccess, UnexplainedPage,
};

/// How long a client's token lasts; then a new one has to be made.
const CLIENT_LIFE_MS: u64 = 365 * 86_400_000;
/// The same of one that steers journeys. A person shows a second factor each time; a program shows what was put into
/// its hands once, so that is given anew each quarter.
const STEERER_LIFE_MS: u64 = 90 * 86_400_000;
/// Passwords that are hashed at once: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 4;
/// Locks that keep tries for one name one after the other. More names than locks just wait a little.
const LOCKS: usize = 64;
/// How often a write is tried again when something else wrote in between.
const RETRIES: usize = 5;

/// A new account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Tenant.
    pub tenant: TenantId,
    /// User name (staff) or empty (patients sign in by link).
    pub user_name: String,
    /// Name to show.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Password; empty for accounts that sign in by link only.
    pub password: String,
    /// For patients: id of the `Patient`.
    pub patient: Option<String>,
}

/// A signed-in session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Opaque public id (not the cookie's secret).
    pub id: String,
    /// Who.
    pub agent: Agent,
    /// CSRF token that forms carry.
    pub csrf: String,
    /// Issuer of the identity provider that opened it, if one did.
    pub provider: Option<String>,
    /// When it ends at the latest, wall clock.
    pub expires_ms: u64,
}

/// Outcome of a password check.
#[derive(Debug, Clone)]
pub enum SignIn {
    /// A second factor is needed: present this ticket with the code.
    SecondFactor {
        /// Short-lived ticket.
        ticket: String,
    },
    /// The account must set up a second factor first: show this secret (and its otpauth URL).
    EnrolTotp {
        /// Short-lived ticket.
        ticket: String,
        /// Base32 secret.
        secret: String,
        /// `otpauth://` URL.
        url: String,
    },
    /// Done: the cookie's secret.
    Done {
        /// Secret for the cookie.
        secret: String,
        /// The session.
        session: Session,
    },
}

/// Accounts and sessions. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: Ledger,
    policies: Arc<Policies>,
    auditor: Auditor,
    vault: Vault,
    wall_clock: Arc<dyn Clock>,
    idle_ms: u64,
    absolute_ms: u64,
    /// Verified against when there is no account, so that unknown names take as long as known ones.
    no_ones_password: String,
    hashing: Semaphore,
    locks: Vec<Mutex<()>>,
    sessions: Sessions,
    clients: Recent<ClientDocument>,
    steerers: Recent<ClientDocument>,
    systems: Recent<SystemDocument>,
    registered: Recent<Registered>,
    apps: Recent<SystemDocument>,
    grants: Recent<GrantDocument>,
    access: Recent<AccessDocument>,
    origins: Origins,
    back: oidc::Back,
    registering: Mutex<()>,
    refusals: Refusals,
    emergencies: emergency::Limits,
    factor_age: step_up::FactorAge,
}

impl Identity {
    pub(crate) fn new(
        policies: Arc<Policies>,
        auditor: Auditor,
        vault: Vault,
        wall_clock: Arc<dyn Clock>,
        session_idle_s: u64,
        session_absolute_s: u64,
    ) -> Result<Self, TrustError> {
        let ledger = vault.ledger().clone();
        let entropy = ledger.entropy();
        let no_one = secrets::mint(TenantId(0), entropy.as_ref());
        Ok(Self {
            inner: Arc::new(Inner {
                no_ones_password: secrets::hash_password(&no_one, entropy.as_ref())?,
                ledger,
                policies,
                auditor,
                vault,
                wall_clock,
                idle_ms: session_idle_s.saturating_mul(1000),
                absolute_ms: session_absolute_s.saturating_mul(1000),
                hashing: Semaphore::new(HASHES_AT_ONCE),
                locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
                sessions: Sessions::default(),
                clients: Recent::of(kinds::CLIENT),
                steerers: Recent::of(kinds::STEERER),
                systems: Recent::of(kinds::OAUTH_CLIENT),
                registered: Recent::of(kinds::REGISTERED),
                apps: Recent::of(kinds::OAUTH_APP),
                grants: Recent::of(kinds::GRANT),
                access: Recent::of(kinds::ACCESS_TOKEN),
                origins: Origins::default(),
                back: oidc::Back::default(),
                registering: Mutex::default(),
                refusals: Refusals::default(),
                emergencies: emergency::Limits::default(),
                factor_age: step_up::FactorAge::default(),
            }),
        })
    }
    /// Makes an account and returns its id. The audit says who did.
    ///
    /// # Errors
    /// `Refused`; `Invalid` when the user name is taken or the password is too weak.
    pub async fn create(&self, by: &Agent, account: NewAccount) -> Result<String, TrustError> {
        let permit = self.permit(by, Action::Administer).await?;
        let tenant = account.tenant;
        let invalid = |words: &str| Err(TrustError::Invalid(words.to_owned()));
        if tenant != by.tenant {
            return invalid("an account is made by somebody of the same tenant");
        }
        match (account.role, &account.patient) {
            (Role::System | Role::Client | Role::Steerer | Role::Proxy, _) => {
                return invalid("this role is not a person's");
            }
            (Role::Patient, None) => return invalid("a patient's account needs the patient"),
            (Role::Patient, Some(_)) | (_, None) => {}
            (_, Some(_)) => return invalid("only a patient's account belongs to a patient"),
        }
        let user_name = fold(&account.user_name);
        let by_link = account.role == Role::Patient && account.password.is_empty();
        if !by_link {
            let named = !user_name.is_empty()
                && user_name.len() <= 64
                && user_name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "._-@+".contains(c));
            if !named {
                return invalid("a user name is 1 to 64 letters, digits and . _ - @ +");
            }
            secrets::check_password(&user_name, &account.password)?;
        }
        let password = if by_link {
            None
        } else {
            Some(self.hash_password(account.password).await?)
        };
        let id = if user_name.is_empty() {
            self.inner.ledger.mint_own_id(tenant)
        } else {
            self.account_id(tenant, &user_name)
        };
        let patient = account.patient.clone();
        let document = AccountDocument {
            user_name,
            name: account.name,
            role: account.role,
            patient: account.patient,
            password,
            password_kept: None,
            totp: None,
            totp_step: 0,
            passkeys: 0,
            active: true,
        };
        let draft = self.account_draft(tenant, &id, Expected::Absent, &document)?;
        let note = format!("account {id} made, role {}", account.role.name());
        let mut record = Record::under(&permit, Event::ACCOUNT_CHANGED);
        record.note = Some(&note);
        record.patients.extend(patient);
        match self.commit(tenant, vec![draft], record).await {
            Ok(()) => Ok(id),
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                Err(TrustError::Invalid("the user name is taken".to_owned()))
            }
            Err(error) => Err(error),
        }
    }
    /// How many accounts a tenant has (0: first start).
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn count(&self, tenant: TenantId) -> Result<usize, TrustError> {
        const PAGE: usize = 1000;
        let query = Query::Token(self.inner.ledger.kind_token(tenant, kinds::ACCOUNT));
        let mut count = 0;
        let mut before = None;
        loop {
            let hits = self
                .inner
                .ledger
                .search(tenant, &query, before, None, PAGE)
                .await?;
            count += hits.len();
            match hits.last() {
                Some(last) if hits.len() == PAGE => before = Some(last.number),
                _ => return Ok(count),
            }
        }
    }
    /// The id of the account with a user name, if there is one; for those who manage accounts.
    ///
    /// # Errors
    /// `Refused`, `Ledger`.
    pub async fn account_named(
        &self,
        by: &Agent,
        user_name: &str,
    ) -> Result<Option<String>, TrustError> {
        self.permit(by, Action::Administer).await?;
        let id = self.account_id(by.tenant, &fold(user_name));
        let found = self.account(by.tenant, &id).await?;
        Ok(found.map(|kept| kept.id))
    }
    /// The open account of a colleague who may be given work, by user name: id, name and role.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to work; `Invalid` when there is no such colleague; `Ledger`.
    pub async fn colleague(
        &self,
        permit: &Permit,
        user_name: &str,
    ) -> Result<(String, String, Role), TrustError> {
        if permit.action() != Action::Work {
            return Err(TrustError::Refused(Refusal {
                reason: format!("a permit to {} gives nobody work", permit.action().name()),
                because: Vec::new(),
            }));
        }
        let tenant = permit.tenant();
        let id = self.account_id(tenant, &fold(user_name));
        let found = self.account(tenant, &id).await?;
        let may = |role| matches!(role, Role::Coordinator | Role::Clinician);
        match found.filter(|kept| kept.body.active && may(kept.body.role)) {
            Some(kept) => Ok((kept.id, kept.body.name, kept.body.role)),
            None => {
                // Whoever tries names is seen to do so.
                let note = "no coordinator or clinician has a user name that was given";
                self.looked(permit, note).await?;
                manage::invalid(
                    "There is no coordinator or clinician with this user name. Look at how it is written.",
                )
            }
        }
    }
    /// Gives an account a TOTP secret without the enrolment dance (demo and recovery); returns it in base32.
    ///
    /// # Errors
    /// `Refused`, `Ledger`, `Invalid`.
    pub async fn set_totp(
        &self,
        by: &Agent,
        account: &str,
        secret_base32: Option<&str>,
    ) -> Result<String, TrustError> {
        let entropy = self.inner.ledger.entropy();
        let secret =
            secret_base32.map_or_else(|| secrets::mint_totp(entropy.as_ref()), str::to_owned);
        secrets::totp(&secret)?;
        let note = format!("account {account} was given a second factor");
        let permit = self.permit(by, Action::Administer).await?;
        self.change_account(
            &permit,
            account,
            &note,
            manage::Effect::Factor,
            |document| {
                document.totp = Some(secret.clone());
                document.totp_step = 0;
            },
        )
        .await?;
        Ok(secret)
    }
    /// Makes a sign-in link's secret for a patient, good within its life together with the birth date:
    /// once, or (`reusable`) as often as it is needed.
    ///
    /// # Errors
    /// `Refused`, `Ledger`; `Invalid` when there is no such patient or no birth date on record.
    pub async fn make_link(
        &self,
        by: &Agent,
        patient: &str,
        life_s: u64,
        reusable: bool,
    ) -> Result<String, TrustError> {
        let permit = self.permit(by, Action::Invite).await?;
        let tenant = by.tenant;
        let found = self
            .inner
            .vault
            .peek(tenant, fhir::ResourceType::Patient, patient)
            .await?;
        if found.is_none_or(|found| found.text_at(&["birthDate"]).is_none()) {
            return Err(TrustError::Invalid(
                "there is no such patient, or no birth date to check a link with".to_owned(),
            ));
        }
        let secret = secrets::mint(tenant, self.inner.ledger.entropy().as_ref());
        let document = LinkDocument {
            secret: secrets::hash(&secret),
            patient: patient.to_owned(),
            proxy: None,
            reusable,
            used: false,
            wrong: 0,
            expires_ms: self.now_ms().saturating_add(life_s.saturating_mul(1000)),
        };
        let id = self.id_of(tenant, "link", &document.secret);
        let draft = draft(
            &self.inner.ledger,
            tenant,
            kinds::SIGN_IN_LINK,
            &id,
            Expected::Absent,
            &document,
            &[],
            Some(document.expires_ms),
        )?;
        let mut record = Record::under(&permit, Event::of(Action::Invite));
        record.patients.insert(patient.to_owned());
        self.commit(tenant, vec![draft], record).await?;
        Ok(secret)
    }
    /// Makes an access token for another program (shown once; only its hash is kept). It lasts a year, one that steers
    /// journeys 90 days. Nothing is said of what it is there for, so that is what its role has.
    ///
    /// # Errors
    /// `Refused`, `Ledger`, `Invalid`.
    pub async fn create_client(
        &self,
        by: &Agent,
        name: &str,
        role: Role,
    ) -> Result<String, TrustError> {
        self.create_client_for(by, name, role, None).await
    }
    /// The same, for what it is registered for.
    ///
    /// # Errors
    /// As [`Identity::create_client`]; `Invalid`, too, when its role can't be registered so.
    pub async fn create_client_for(
        &self,
        by: &Agent,
        name: &str,
        role: Role,
        registered: Option<&Registered>,
    ) -> Result<String, TrustError> {
        let permit = self.permit(by, Action::Administer).await?;
        if matches!(role, Role::System | Role::Patient | Role::Proxy) {
            return Err(TrustError::Invalid(
                "a client has the role `client`, `steerer` or one of staff".to_owned(),
            ));
        }
        if name.trim().is_empty() || name.len() > 200 {
            return Err(TrustError::Invalid("a client has a name".to_owned()));
        }
        let tenant = by.tenant;
        let registered = match registered {
            Some(registered) => {
                registered::check(role, registered)?;
                Some(registered.clone())
            }
            None => registered::is_registered(role).then(|| registered::of_role(role)),
        };
        let (kind, life_ms) = match role {
            Role::Steerer => (kinds::STEERER, STEERER_LIFE_MS),
            _ => (kinds::CLIENT, CLIENT_LIFE_MS),
        };
        let secret = secrets::mint(tenant, self.inner.ledger.entropy().as_ref());
        let document = ClientDocument {
            secret: secrets::hash(&secret),
            name: name.trim().to_owned(),
            role,
            active: true,
            expires_ms: self.now_ms().saturating_add(life_ms),
        };
        let id = self.id_of(tenant, "client", &document.secret);
        let draft = draft(
            &self.inner.ledger,
            tenant,
            kind,
            &id,
            Expected::Absent,
            &document,
            &[],
            None,
        )?;
        let mut note = format!("client {id} made, role {}", role.name());
        let mut documents = vec![draft];
        if let Some(registered) = &registered {
            documents.push(self.registered_draft(tenant, &id, registered).await?);
            note = format!("{note}, {}", registered.words());
        }
        let mut record = Record::under(&permit, Event::ACCOUNT_CHANGED);
        record.note = Some(&note);
        self.commit(tenant, documents, record).await?;
        Ok(secret)
    }
    /// The agent behind a bearer token. The store is asked each time, so a token that was revoked is
    /// refused at once.
    ///
    /// # Errors
    /// `SignIn`.
    pub async fn bearer(&self, token: &str) -> Result<Agent, TrustError> {
        let Some(tenant) = self.tenant_of(token) else {
            Why::Token.count();
            return Err(TrustError::SignIn);
        };
        let hash = secrets::hash(token);
        let id = self.id_of(tenant, "client", &hash);
        let found = self.client_with_token(tenant, &id);
        let client = found
            .await?
            .filter(|client| secrets::same(&client.secret, &hash));
        let Some(client) = client else {
            let stranger = sign_in::stranger(tenant);
            let record = Record::new(&stranger, Event::LOGIN);
            self.refused(Why::Token, "", record, "unknown access token")
                .await?;
            return Err(TrustError::SignIn);
        };
        let over = match client.state(self.now_ms()) {
            ClientState::Active => None,
            ClientState::Revoked => Some("revoked access token"),
            // What has no token at all.
            ClientState::Waiting => Some("access token that was not given out"),
            ClientState::Expired => Some("expired access token"),
        };
        let agent = Agent {
            tenant,
            id,
            name: client.name,
            role: client.role,
            patient: None,
            access: None,
            signed_in: crate::SignedIn::default(),
        };
        if let Some(words) = over {
            let record = Record::new(&agent, Event::LOGIN);
            self.refused(Why::Token, &agent.id, record, words).await?;
            return Err(TrustError::SignIn);
        }
        origin::known().await;
        Ok(agent)
    }

    /// A client with a token of its own, whatever that opens.
    async fn client_with_token(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<ClientDocument>, TrustError> {
        let (inner, ledger) = (&self.inner, &self.inner.ledger);
        match inner.clients.get(ledger, tenant, id).await? {
            Some(client) => Ok(Some(client)),
            None => inner.steerers.get(ledger, tenant, id).await,
        }
    }

    fn now_ms(&self) -> u64 {
        self.inner.wall_clock.now_ms()
    }

    /// The tenant that a secret is looked up for: the one that this is for, if it is for one. So another
    /// tenant's is looked up like any that never was, and takes as long.
    fn tenant_of(&self, secret: &str) -> Option<TenantId> {
        let named = secrets::tenant_of(secret)?;
        Some(self.inner.ledger.tenant().unwrap_or(named))
    }

    async fn permit(&self, by: &Agent, action: Action) -> Result<Permit, TrustError> {
        // Inviting is part of the care that a message or a coordinator gives.
        let purpose = match action {
            Action::Invite => Purpose::Treatment,
            _ => Purpose::Administration,
        };
        let target = Target::default();
        let mut known = self.organizations_looked_at(by).await?;
        let judged = self.judged((by, &mut known), purpose, action, &target, "");
        match judged.await? {
            Ok(permit) => Ok(permit),
            Err(refusal) => {
                let mut record = Record::new(by, Event::of(action));
                record.purpose = Some(purpose);
                record.outcome = Outcome::Refused;
                record.note = Some(&refusal.reason);
                self.inner.auditor.commit(&record).await?;
                Err(TrustError::Refused(refusal))
            }
        }
    }

    /// A document's id from what it is looked up by.
    fn id_of(&self, tenant: TenantId, what: &str, value: &str) -> String {
        self.inner
            .ledger
            .derive_own_id(tenant, &format!("identity {what} {value}"))
    }

    fn account_id(&self, tenant: TenantId, user_name: &str) -> String {
        self.id_of(tenant, "account", user_name)
    }

    fn account_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        account: &AccountDocument,
    ) -> Result<Draft, TrustError> {
        let mut found_by = vec![("role", account.role.name())];
        found_by.extend(
            account
                .patient
                .as_deref()
                .map(|patient| ("patient", patient)),
        );
        let ledger = &self.inner.ledger;
        draft(
            ledger,
            tenant,
            kinds::ACCOUNT,
            id,
            expected,
            account,
            &found_by,
            None,
        )
    }

    async fn account(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<Kept<AccountDocument>>, TrustError> {
        get(&self.inner.ledger, tenant, kinds::ACCOUNT, id).await
    }

    async fn commit(
        &self,
        tenant: TenantId,
        documents: Vec<Draft>,
        record: Record<'_>,
    ) -> Result<(), TrustError> {
        let audit = self.inner.auditor.draft(&record);
        Ok(commit(&self.inner.ledger, tenant, documents, audit).await?)
    }

    async fn hash_password(&self, password: String) -> Result<String, TrustError> {
        let entropy = self.inner.ledger.entropy();
        self.apart(move || secrets::hash_password(&password, entropy.as_ref()))
            .await
    }

    /// Runs what takes a core for a while away from the threads that serve requests.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, TrustError> + Send + 'static,
    ) -> Result<T, TrustError> {
        let _turn = self
            .inner
            .hashing
            .acquire()
            .await
            .map_err(|_| TrustError::SignIn)?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| TrustError::Invalid("hashing a password was broken off".to_owned()))?
    }

    async fn attempts(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<(AttemptsDocument, Expected), TrustError> {
        let ledger = &self.inner.ledger;
        // A deleted record of attempts still has its version.
        let stored = match ledger.get(tenant, kinds::SIGN_IN_ATTEMPTS, id).await {
            Err(LedgerError::UnknownTenant(_)) => return Err(TrustError::SignIn),
            other => other?,
        };
        let Some(stored) = stored else {
            return Ok((AttemptsDocument::default(), Expected::Absent));
        };
        if stored.deleted {
            let none = AttemptsDocument::default();
            return Ok((none, Expected::Version(stored.version)));
        }
        let attempts = serde_json::from_slice(&stored.body)
            .map_err(|_| TrustError::Damaged(format!("document {id} does not parse")))?;
        Ok((attempts, Expected::Version(stored.version)))
    }
}

/// User names are the same in any case.
fn fold(user_name: &str) -> String {
    user_name.trim().to_lowercase()
}

#[cfg(test)]
mod tests;
