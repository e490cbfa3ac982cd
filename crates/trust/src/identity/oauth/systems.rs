//! Systems that sign in with a key: registered by an administrator, or asking for it themselves (dynamic
//! client registration, RFC 7591) and approved by one. Until then they get no token.

use ledger::{Draft, Expected, Kind, LedgerError, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::apps::{AppPart, scopes_of_app};
use super::certificates::Certificates;
use super::kept_scopes::KeptScopes;
use super::keys::Keys;
use crate::audit::{Event, Record};
use crate::identity::documents::{Kept, draft, find, get};
use crate::identity::manage::{because, invalid};
use crate::identity::{ClientState, Identity, RETRIES, Registered, sign_in};
use crate::scopes::{Context, Level, SCOPES_BYTES_MAX, Scopes};
use crate::{Action, Agent, Permit, TrustError, kinds};

/// The most bytes of a name.
const NAME_BYTES_MAX: usize = 200;
/// The most bytes of an address of keys.
const URL_BYTES_MAX: usize = 1000;
/// The most that wait for approval: whoever asks is a stranger, and must not fill the list.
pub const WAITING_MAX: usize = 20;
/// How long one waits; then it is forgotten, and has to ask anew.
const WAITS_MS: u64 = 7 * 86_400_000;
/// What those that wait are found by.
const STATE: (&str, &str) = ("state", "waiting");
/// Where they lie: systems, and applications.
const BOTH: [Kind; 2] = [kinds::OAUTH_CLIENT, kinds::OAUTH_APP];

/// Where the public keys of a system are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemKeys {
    /// Here, as a JSON Web Key Set.
    Set(String),
    /// Where they are fetched from (`jwks_uri`).
    At(String),
    /// Nowhere: an application on people's own devices keeps no secret.
    None,
    /// None either: the system proves itself by the certificate that it connects with. It lies in a field of its
    /// own in the store, and `None` here, so that a server of a build that knows nothing of certificates reads the
    /// client, and lets it have nothing.
    #[serde(skip)]
    Certificates(Certificates),
}

impl SystemKeys {
    pub(super) fn check(&self, now_ms: u64) -> Result<(), TrustError> {
        match self {
            Self::None => invalid("a system has keys"),
            Self::Set(text) => Keys::parse(text).map(|_| ()),
            Self::Certificates(certificates) => certificates.check(now_ms),
            // Whether it may be asked is looked at when it is; this is for who mistypes it.
            Self::At(url) => {
                let formed = (url.starts_with("https://") || url.starts_with("http://"))
                    && url.len() <= URL_BYTES_MAX
                    && url.bytes().all(|byte| byte.is_ascii_graphic());
                if formed {
                    return Ok(());
                }
                invalid("the address of keys is like https://keys.example.org/jwks.json")
            }
        }
    }
    pub(super) fn place(&self) -> Option<&str> {
        match self {
            Self::Set(_) | Self::None | Self::Certificates(_) => None,
            Self::At(url) => Some(url),
        }
    }
}

/// A system to be registered.
#[derive(Debug, Clone)]
pub struct NewSystem {
    /// Name, for the audit and for who administers.
    pub name: String,
    /// What it proves itself by: its public keys, or certificates.
    pub keys: SystemKeys,
    /// What it may ask for at most: `system/` scopes.
    pub scopes: String,
}

/// Whether a system is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Waiting { ends_ms: u64 },
    Active,
    Revoked,
}

/// What a client proved itself by before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Earlier {
    pub(super) keys: SystemKeys,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificates: Option<Certificates>,
    /// Until when it may.
    pub(super) until_ms: u64,
}

/// Keys and certificates as they lie in the store.
pub(super) fn apart(keys: SystemKeys) -> (SystemKeys, Option<Certificates>) {
    match keys {
        SystemKeys::Certificates(certificates) => (SystemKeys::None, Some(certificates)),
        keys => (keys, None),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A system that signs in with its key, or an application that people launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::identity) struct SystemDocument {
    pub(in crate::identity) name: String,
    pub(super) keys: SystemKeys,
    /// What it is known by, where it proves itself by certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificates: Option<Certificates>,
    /// Keys and certificates of before, which are good for a while yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<Earlier>,
    /// How often everything of before was taken away at once; access tokens of another time open nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) round: u32,
    #[serde(flatten)]
    pub(in crate::identity) scopes: KeptScopes,
    pub(super) state: State,
    /// What only an application has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::identity) app: Option<AppPart>,
}

impl SystemDocument {
    /// Applications lie by themselves, so that a server which doesn't know of them passes them over.
    fn kind(&self) -> Kind {
        match self.app {
            Some(_) => kinds::OAUTH_APP,
            None => kinds::OAUTH_CLIENT,
        }
    }
    pub(in crate::identity) fn state(&self) -> ClientState {
        match self.state {
            State::Waiting { .. } => ClientState::Waiting,
            State::Active => ClientState::Active,
            State::Revoked => ClientState::Revoked,
        }
    }
    /// The keys that it may sign with now, those of now first and the oldest last.
    pub(super) fn keys_now(&self, now_ms: u64) -> impl Iterator<Item = &SystemKeys> {
        let earlier = self.earlier.iter().rev();
        let earlier = earlier.filter(move |one| now_ms < one.until_ms);
        let all = std::iter::once(&self.keys).chain(earlier.map(|one| &one.keys));
        all.filter(|keys| **keys != SystemKeys::None)
    }
    /// What it may be known by now where it connects with a certificate, that of now first.
    pub(super) fn certificates_now(&self, now_ms: u64) -> impl Iterator<Item = &Certificates> {
        let earlier = self.earlier.iter().filter(move |one| now_ms < one.until_ms);
        let earlier = earlier.filter_map(|one| one.certificates.as_ref());
        self.certificates.iter().chain(earlier)
    }
    pub(super) fn is_active(&self) -> bool {
        self.state == State::Active
    }
    /// Whether it has waited for too long.
    pub(in crate::identity) fn is_over(&self, now_ms: u64) -> bool {
        matches!(self.state, State::Waiting { ends_ms } if ends_ms <= now_ms)
    }
}

/// A name that can be shown.
pub(super) fn checked_name(name: &str) -> Result<String, TrustError> {
    let name = name.trim();
    let is_shown = name.chars().all(|c| !c.is_control());
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_shown {
        return invalid("a client has a name of at most 200 bytes");
    }
    Ok(name.to_owned())
}

/// The document of a new system, if it can be one.
fn checked(system: &NewSystem, state: State, now_ms: u64) -> Result<SystemDocument, TrustError> {
    system.keys.check(now_ms)?;
    let (keys, certificates) = apart(system.keys.clone());
    Ok(SystemDocument {
        name: checked_name(&system.name)?,
        keys,
        certificates,
        earlier: Vec::new(),
        round: 0,
        scopes: KeptScopes::of(&scopes_of_system(&system.scopes)?),
        state,
        app: None,
    })
}

fn scopes_of_system(text: &str) -> Result<Scopes, TrustError> {
    let scopes = Scopes::parse(text).map_err(|error| TrustError::Invalid(error.to_string()))?;
    let no_context = Context::ALL.iter().all(|context| !scopes.has(*context));
    if scopes.has_resources() && scopes.are_all(Level::System) && no_context {
        // They are kept as they are printed, which can be longer than they were written.
        if scopes.to_string().len() > SCOPES_BYTES_MAX {
            return invalid("written out, the scopes are too long; give fewer of them");
        }
        return Ok(scopes);
    }
    invalid("a system has scopes, all of them like system/Observation.rs")
}

impl Identity {
    /// Registers a system, and gives its `client_id`.
    ///
    /// # Errors
    /// `Refused`; `Invalid` when keys, scopes or name can't be taken; `Ledger`.
    pub async fn register_system(
        &self,
        by: &Agent,
        system: &NewSystem,
    ) -> Result<String, TrustError> {
        self.register_system_for(by, system, &Registered::default())
            .await
    }

    /// The same, for what it is registered for.
    ///
    /// # Errors
    /// As [`Identity::register_system`].
    pub async fn register_system_for(
        &self,
        by: &Agent,
        system: &NewSystem,
        registered: &Registered,
    ) -> Result<String, TrustError> {
        let permit = self.permit(by, Action::Administer).await?;
        let document = checked(system, State::Active, self.now_ms())?;
        let how = match &document.certificates {
            Some(certificates) => format!("by {}", certificates.words()),
            None => "with a key".to_owned(),
        };
        self.register(&permit, &document, &how, Some(registered))
            .await
    }

    pub(super) async fn register(
        &self,
        permit: &Permit,
        document: &SystemDocument,
        how: &str,
        registered: Option<&Registered>,
    ) -> Result<String, TrustError> {
        let tenant = permit.tenant();
        let id = self.inner.ledger.mint_own_id(tenant);
        let draft = self.system_draft(tenant, &id, Expected::Absent, document)?;
        let scopes = document.scopes.text();
        let mut note = format!("client {id} registered {how}, scopes {scopes}");
        let mut documents = vec![draft];
        if let Some(registered) = registered {
            documents.push(self.registered_draft(tenant, &id, registered).await?);
            note = format!("{note}, {}", registered.words());
        }
        let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
        record.note = Some(&note);
        self.commit(tenant, documents, record).await?;
        Ok(id)
    }

    /// Takes a stranger's wish to be registered, and gives the `client_id` that it will have. `None` when
    /// too many wait already.
    ///
    /// # Errors
    /// `Invalid` when keys, scopes or name can't be taken; `Ledger`.
    pub async fn ask_to_register(
        &self,
        tenant: TenantId,
        system: &NewSystem,
    ) -> Result<Option<String>, TrustError> {
        let document = checked(system, self.waits_from_now(), self.now_ms())?;
        self.ask(tenant, &document).await
    }

    /// The state of who asks now.
    pub(super) fn waits_from_now(&self) -> State {
        State::Waiting {
            ends_ms: self.now_ms().saturating_add(WAITS_MS),
        }
    }

    pub(super) async fn ask(
        &self,
        tenant: TenantId,
        document: &SystemDocument,
    ) -> Result<Option<String>, TrustError> {
        // One after the other, so that what is counted is what there is.
        let _turn = self.inner.registering.lock().await;
        let ledger = &self.inner.ledger;
        let mut waiting = 0;
        for kind in BOTH {
            let query = Query::Token(ledger.token(tenant, kind, STATE.0, STATE.1));
            let found: Vec<Kept<SystemDocument>> =
                find(ledger, tenant, kind, &query, WAITING_MAX).await?;
            waiting += found.len();
        }
        if waiting >= WAITING_MAX {
            return Ok(None);
        }
        let id = ledger.mint_own_id(tenant);
        let draft = self.system_draft(tenant, &id, Expected::Absent, document)?;
        let stranger = sign_in::stranger(tenant);
        let note = format!("client {id} asks to be registered");
        let mut record = Record::new(&stranger, Event::ACCOUNT_CHANGED);
        record.note = Some(&note);
        self.commit(tenant, vec![draft], record).await?;
        Ok(Some(id))
    }

    /// Lets a system in that waits for it, with the scopes that an administrator gives it.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is none of this id that
    /// waits, or the scopes can't be taken; `Ledger`.
    pub async fn approve_system(
        &self,
        permit: &Permit,
        id: &str,
        scopes: &str,
    ) -> Result<(), TrustError> {
        self.approve_system_for(permit, id, scopes, None).await
    }

    /// The same, for what an administrator registers it for. An application asks for what its people may, so
    /// it is registered for nothing.
    ///
    /// # Errors
    /// As [`Identity::approve_system`].
    pub async fn approve_system_for(
        &self,
        permit: &Permit,
        id: &str,
        scopes: &str,
        registered: Option<&Registered>,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        for _ in 0..RETRIES {
            let found = self.registered(tenant, id).await?;
            let waits = found.filter(|kept| {
                kept.body.state() == ClientState::Waiting && !kept.body.is_over(self.now_ms())
            });
            let Some(mut kept) = waits else {
                return invalid("there is no such client that waits for approval");
            };
            let scopes = match kept.body.app {
                Some(_) => scopes_of_app(scopes)?,
                None => scopes_of_system(scopes)?,
            };
            kept.body.state = State::Active;
            kept.body.scopes = KeptScopes::of(&scopes);
            let expected = Expected::Version(kept.version);
            let mut documents = vec![self.system_draft(tenant, id, expected, &kept.body)?];
            let mut note = format!("client {id} was approved, scopes {scopes}");
            match (&kept.body.app, registered) {
                (Some(_), Some(_)) => {
                    return invalid(
                        "an application acts for people: it is registered for no purposes",
                    );
                }
                (Some(_), None) => {}
                (None, registered) => {
                    let registered = registered.cloned().unwrap_or_default();
                    documents.push(self.registered_draft(tenant, id, &registered).await?);
                    note = format!("{note}, {}", registered.words());
                }
            }
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            match self.commit(tenant, documents, record).await {
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Ok(()) => return self.signs_for(tenant, &kept.body.scopes).await,
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// All systems with a key, and all applications.
    pub(in crate::identity) async fn systems(
        &self,
        tenant: TenantId,
        most: usize,
    ) -> Result<Vec<Kept<SystemDocument>>, TrustError> {
        let ledger = &self.inner.ledger;
        let mut all = Vec::new();
        for kind in BOTH {
            let query = Query::Token(ledger.kind_token(tenant, kind));
            let found: Vec<Kept<SystemDocument>> =
                find(ledger, tenant, kind, &query, most - all.len()).await?;
            all.extend(found);
        }
        Ok(all)
    }

    pub(super) async fn registered(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<Kept<SystemDocument>>, TrustError> {
        for kind in BOTH {
            let found = get(&self.inner.ledger, tenant, kind, id).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Revokes a system; `None` when somebody else wrote in between.
    pub(in crate::identity) async fn revoke_system(
        &self,
        permit: &Permit,
        id: &str,
        reason: &str,
    ) -> Result<Option<()>, TrustError> {
        let tenant = permit.tenant();
        let found = self.registered(tenant, id).await?;
        let Some(mut kept) = found else {
            return invalid("there is no such client");
        };
        if kept.body.state == State::Revoked {
            return Ok(Some(()));
        }
        kept.body.state = State::Revoked;
        let expected = Expected::Version(kept.version);
        let revoked = self.system_draft(tenant, id, expected, &kept.body)?;
        let note = format!("client {id} was revoked{}", because(reason));
        let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
        record.note = Some(&note);
        match self.commit(tenant, vec![revoked], record).await {
            Ok(()) => Ok(Some(())),
            Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn system_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        document: &SystemDocument,
    ) -> Result<Draft, TrustError> {
        let ledger = &self.inner.ledger;
        let (found_by, ends_ms) = match document.state {
            State::Waiting { ends_ms } => (vec![STATE], Some(ends_ms)),
            State::Active | State::Revoked => (Vec::new(), None),
        };
        draft(
            ledger,
            tenant,
            document.kind(),
            id,
            expected,
            document,
            &found_by,
            ends_ms,
        )
    }
}
