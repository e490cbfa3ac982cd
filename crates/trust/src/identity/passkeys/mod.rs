//! Passkeys: enrolled by who is signed in, shown instead of a password or after it.
//!
//! A question (the challenge, what it is for and whose browser it was given to) isn't stored: it is sealed and
//! goes to the browser and back, so that any of several servers takes the answer, and strangers fill no store by
//! asking. What makes a challenge good once is a document that is written together with what the answer opens.
//!
//! `ceremony.rs` has what is checked of an answer, `own.rs` what people see and change of their own sign-in.

pub(super) mod ceremony;
mod own;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Draft, Expected, LedgerError, Query, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::ceremony::{ALGORITHMS, Credential, Fault, NewAnswer, RelyingParty, ShownAnswer};
use super::documents::{AccountDocument, Kept, SessionDocument, Stage, deletion, draft, find, get};
use super::manage::invalid;
use super::oauth::ProofDocument;
use super::refusals::Why;
use super::seen::OpenedBy;
use super::sign_in::{Whom, agent_of};
use super::{Identity, RETRIES, Session, SignIn, secrets};
use crate::audit::{Event, Record};
use crate::{Role, TrustError, kinds};

pub use own::{OwnCode, PasskeyView};

/// How long an answer may take: as long as a one-time code after its password.
pub(super) const QUESTION_LIFE_MS: u64 = 300_000;
/// Passkeys of one account: a few devices, and a few that were lost.
const PASSKEYS_MAX: usize = 10;
/// Characters of a passkey's name.
const NAME_MAX: usize = 64;
const CHALLENGE_BYTES: usize = 32;

/// A passkey, one document each, under a hash of its credential's id: the same one can't be two accounts'.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PasskeyDocument {
    account: String,
    name: String,
    credential: Credential,
    created_ms: u64,
    used_ms: Option<u64>,
}

/// What a browser is to ask of an authenticator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyQuestion {
    /// As JSON, for the script of the page.
    pub options: String,
    /// To come back with the answer.
    pub sealed: String,
}

/// What of a second factor a sign-in under way may be finished with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondFactors {
    /// A one-time code.
    pub code: bool,
    /// A passkey.
    pub passkey: Option<PasskeyQuestion>,
}

/// What a question is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Asked {
    /// A new passkey of this account.
    New(String),
    /// Any passkey, to sign in.
    SignIn,
    /// One of this account's, after its password.
    Second(String),
    /// One of this account's, before something sensitive.
    Again(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    challenge: String,
    asked: Asked,
    /// The session, or the hash of a secret that only the browser has that asked.
    by: String,
    expires_ms: u64,
}

/// A passkey that was shown and is right, before anything is written.
pub(super) struct Proved<'a> {
    pub(super) account: Kept<AccountDocument>,
    /// The passkey as it is now, the challenge as used, and failures forgiven.
    pub(super) documents: Vec<Draft>,
    /// Held until all is written.
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

fn allowed(passkeys: &[Kept<PasskeyDocument>]) -> Vec<Value> {
    passkeys
        .iter()
        .map(|kept| &kept.body.credential)
        .map(|one| json!({ "id": one.id, "transports": one.transports }))
        .collect()
}

fn for_party(party: &RelyingParty) -> String {
    format!("passkey question {}", party.origin)
}

impl Identity {
    /// A question for anybody's passkey, to sign in with. `browser` is a secret that only the browser has.
    ///
    /// # Errors
    /// `Ledger`.
    pub fn ask_for_passkey(
        &self,
        party: &RelyingParty,
        tenant: TenantId,
        browser: &str,
    ) -> Result<PasskeyQuestion, TrustError> {
        let by = secrets::hash(browser);
        self.pose(party, tenant, Asked::SignIn, by, &[])
    }
    /// Signs in with a passkey alone.
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn passkey(
        &self,
        party: &RelyingParty,
        tenant: TenantId,
        browser: &str,
        sealed: &str,
        answer: &str,
    ) -> Result<SignIn, TrustError> {
        let by = secrets::hash(browser);
        let Some(question) = self.question(party, tenant, sealed, &Asked::SignIn, &by)? else {
            let words = "an answer to a question for a passkey that is unknown or over";
            return Err(self.dead(tenant, Why::Passkey, "", None, words).await?);
        };
        let proved = self.proved(party, tenant, &question, answer, None).await?;
        let agent = agent_of(&proved.account);
        let account = Some(proved.account.id.clone());
        let by = OpenedBy::Passkey;
        self.open(tenant, account, agent, proved.documents, by, None)
            .await
    }
    /// What the second factor of a sign-in under way may be.
    ///
    /// # Errors
    /// `SignIn` when there is no such sign-in; `Ledger`.
    pub async fn second_factors(
        &self,
        party: Option<&RelyingParty>,
        ticket: &str,
        browser: &str,
    ) -> Result<SecondFactors, TrustError> {
        let (tenant, waiting) = self.under_way(ticket).await?.ok_or(TrustError::SignIn)?;
        let account = waiting.body.account.ok_or(TrustError::SignIn)?;
        let kept = self.account(tenant, &account).await?;
        let kept = kept.ok_or(TrustError::SignIn)?;
        let by = secrets::hash(browser);
        let asked = Asked::Second(account.clone());
        let passkey = self.ask_of(party, tenant, &account, asked, by).await?;
        Ok(SecondFactors {
            code: kept.body.totp.is_some(),
            passkey,
        })
    }
    /// Finishes a sign-in under way with a passkey of its account.
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn second_factor_passkey(
        &self,
        party: &RelyingParty,
        ticket: &str,
        browser: &str,
        sealed: &str,
        answer: &str,
    ) -> Result<SignIn, TrustError> {
        let Some(tenant) = self.tenant_of(ticket) else {
            Why::Ticket.count();
            return Err(TrustError::SignIn);
        };
        let Some((_, waiting)) = self.under_way(ticket).await? else {
            let words = "a sign-in that is unknown, or was finished or ended before";
            return Err(self.dead(tenant, Why::Ticket, "", None, words).await?);
        };
        let account = waiting.body.account.clone().ok_or(TrustError::SignIn)?;
        let (asked, by) = (Asked::Second(account.clone()), secrets::hash(browser));
        let Some(question) = self.question(party, tenant, sealed, &asked, &by)? else {
            let words = "an answer to a question for a passkey that is unknown or over";
            let dead = self.dead(tenant, Why::Passkey, &account, None, words);
            return Err(dead.await?);
        };
        let proved = self
            .proved(party, tenant, &question, answer, Some(&account))
            .await?;
        let mut documents = proved.documents;
        // Somebody who finishes it at the same time meets this.
        documents.push(deletion(kinds::SESSION, &waiting.id, waiting.version));
        let agent = agent_of(&proved.account);
        let provider = waiting.body.provider.clone();
        let by = match &provider {
            None => OpenedBy::PasswordAndPasskey,
            Some(_) => OpenedBy::ProviderAndPasskey,
        };
        self.open(tenant, Some(account), agent, documents, by, provider)
            .await
    }

    /// A sign-in that waits for its second factor.
    async fn under_way(
        &self,
        ticket: &str,
    ) -> Result<Option<(TenantId, Kept<SessionDocument>)>, TrustError> {
        let Some(tenant) = self.tenant_of(ticket) else {
            return Ok(None);
        };
        let hash = secrets::hash(ticket);
        let id = self.id_of(tenant, "session", &hash);
        let found: Option<Kept<SessionDocument>> =
            get(&self.inner.ledger, tenant, kinds::SESSION, &id).await?;
        let found = found.filter(|kept| {
            let body = &kept.body;
            secrets::same(&body.secret, &hash)
                && body.stage == Stage::SecondFactor
                && self.now_ms() < body.expires_ms
        });
        Ok(found.map(|kept| (tenant, kept)))
    }

    /// A new question.
    fn pose(
        &self,
        party: &RelyingParty,
        tenant: TenantId,
        asked: Asked,
        by: String,
        allow: &[Value],
    ) -> Result<PasskeyQuestion, TrustError> {
        let question = self.new_question(asked, by);
        let options = json!({
            "rpId": party.id,
            "challenge": question.challenge,
            "allow": allow,
            "timeout": QUESTION_LIFE_MS,
        });
        self.sealed(party, tenant, &question, &options)
    }

    fn new_question(&self, asked: Asked, by: String) -> Question {
        let mut challenge = [0; CHALLENGE_BYTES];
        self.inner.ledger.entropy().fill(&mut challenge);
        Question {
            challenge: URL_SAFE_NO_PAD.encode(challenge),
            asked,
            by,
            expires_ms: self.now_ms().saturating_add(QUESTION_LIFE_MS),
        }
    }

    fn sealed(
        &self,
        party: &RelyingParty,
        tenant: TenantId,
        question: &Question,
        options: &Value,
    ) -> Result<PasskeyQuestion, TrustError> {
        let text = serde_json::to_vec(question)
            .map_err(|_| TrustError::Damaged("a question can't be written as JSON".to_owned()))?;
        let sealed = self
            .inner
            .ledger
            .seal_note(tenant, &for_party(party), &text)?;
        Ok(PasskeyQuestion {
            options: options.to_string(),
            sealed: URL_SAFE_NO_PAD.encode(sealed),
        })
    }

    /// The question that an answer brings back, if it is one of ours, for this, by this browser, and in time.
    pub(super) fn question(
        &self,
        party: &RelyingParty,
        tenant: TenantId,
        sealed: &str,
        asked: &Asked,
        by: &str,
    ) -> Result<Option<Question>, TrustError> {
        let Ok(sealed) = URL_SAFE_NO_PAD.decode(sealed) else {
            return Ok(None);
        };
        let opened = self
            .inner
            .ledger
            .open_note(tenant, &for_party(party), &sealed)?;
        let question = opened.and_then(|text| serde_json::from_slice::<Question>(&text).ok());
        Ok(question.filter(|question| {
            question.asked == *asked
                && secrets::same(&question.by, by)
                && self.now_ms() < question.expires_ms
        }))
    }

    /// Checks an answer, and counts it as a try to sign in. `account`: whose passkey it has to be.
    pub(super) async fn proved(
        &self,
        party: &RelyingParty,
        tenant: TenantId,
        question: &Question,
        answer: &str,
        account: Option<&str>,
    ) -> Result<Proved<'_>, TrustError> {
        let answer: Option<ShownAnswer> = ceremony::read(answer).ok();
        let found = match &answer {
            Some(answer) => self.passkey_document(tenant, &answer.id).await?,
            None => None,
        };
        let Some(answer) = &answer else {
            let words = "a passkey that nobody has";
            return Err(self.dead(tenant, Why::Passkey, "", None, words).await?);
        };
        // As much is looked up, and as many tries there are, for a passkey that nobody has.
        let known = account.or(found.as_ref().map(|kept| kept.body.account.as_str()));
        let nobody = self.nobody(tenant, &answer.id);
        let whose = known.unwrap_or(&nobody);
        let kept = self.account(tenant, whose).await?;
        let whom = match &kept {
            Some(kept) => Whom::Account {
                user_name: &kept.body.user_name,
                id: whose,
            },
            None => Whom::NoPasskey { id: &nobody },
        };
        let trying = self.trying(tenant, whom).await?;
        // Another try may have changed either while this one waited for its turn.
        let account = self.account(tenant, whose).await?;
        let passkey = self.passkey_document(tenant, &answer.id).await?;
        let is_used = self.is_used(tenant, question).await?;
        let Some(account) = account.filter(|kept| kept.body.active) else {
            let words = match known {
                Some(_) => "passkey tried on a closed account",
                None => "a passkey that nobody has",
            };
            return Err(self.failed(trying, None, Why::Passkey, words).await?);
        };
        let Some(mut passkey) = passkey.filter(|kept| kept.body.account == whose) else {
            let words = Fault::Handle.words();
            return Err(self.failed(trying, None, Why::Passkey, words).await?);
        };
        if is_used {
            let words = "passkey: an answer that was used already";
            return Err(self.failed(trying, None, Why::Passkey, words).await?);
        }
        let handle = self.handle(tenant, whose);
        let expected = ceremony::Expected {
            party,
            challenge: &question.challenge,
            handle: &handle,
            says_handle: question.asked == Asked::SignIn,
        };
        let credential = match ceremony::check_shown(expected, answer, &passkey.body.credential) {
            Ok(credential) => credential,
            Err(fault) => {
                let failed = self.failed(trying, None, Why::Passkey, fault.words());
                return Err(failed.await?);
            }
        };
        passkey.body.credential = credential;
        passkey.body.used_ms = Some(self.now_ms());
        let mut documents = vec![
            self.passkey_draft(
                tenant,
                &passkey.id,
                Expected::Version(passkey.version),
                &passkey.body,
            )?,
            self.used(tenant, question)?,
        ];
        documents.extend(self.forgiven(&trying)?);
        Ok(Proved {
            account,
            documents,
            _turn: trying.into_turn(),
        })
    }

    /// That a challenge was answered: there can't be two of it.
    fn used(&self, tenant: TenantId, question: &Question) -> Result<Draft, TrustError> {
        let document = ProofDocument {
            ends_ms: question.expires_ms,
        };
        draft(
            &self.inner.ledger,
            tenant,
            kinds::CLIENT_PROOF,
            &self.used_id(tenant, question),
            Expected::Absent,
            &document,
            &[],
            Some(document.ends_ms),
        )
    }

    fn used_id(&self, tenant: TenantId, question: &Question) -> String {
        self.id_of(tenant, "passkey challenge", &question.challenge)
    }

    async fn is_used(&self, tenant: TenantId, question: &Question) -> Result<bool, TrustError> {
        let id = self.used_id(tenant, question);
        let found: Option<Kept<ProofDocument>> =
            get(&self.inner.ledger, tenant, kinds::CLIENT_PROOF, &id).await?;
        Ok(found.is_some())
    }

    /// What an authenticator keeps for whom a passkey is: no name, and nothing that another list has.
    fn handle(&self, tenant: TenantId, account: &str) -> String {
        self.id_of(tenant, "passkey handle", account)
    }

    async fn passkey_document(
        &self,
        tenant: TenantId,
        credential: &str,
    ) -> Result<Option<Kept<PasskeyDocument>>, TrustError> {
        let id = self.id_of(tenant, "passkey", credential);
        let found: Option<Kept<PasskeyDocument>> =
            get(&self.inner.ledger, tenant, kinds::PASSKEY, &id).await?;
        Ok(found.filter(|kept| kept.body.credential.id == credential))
    }

    /// A question for one of the passkeys of an account, if it has any.
    pub(super) async fn ask_of(
        &self,
        party: Option<&RelyingParty>,
        tenant: TenantId,
        account: &str,
        asked: Asked,
        by: String,
    ) -> Result<Option<PasskeyQuestion>, TrustError> {
        let Some(party) = party else {
            return Ok(None);
        };
        let passkeys = self.passkeys_of(tenant, account).await?;
        if passkeys.is_empty() {
            return Ok(None);
        }
        self.pose(party, tenant, asked, by, &allowed(&passkeys))
            .map(Some)
    }

    pub(super) async fn has_passkeys(
        &self,
        tenant: TenantId,
        account: &str,
    ) -> Result<bool, TrustError> {
        Ok(!self.passkeys_of(tenant, account).await?.is_empty())
    }

    async fn passkeys_of(
        &self,
        tenant: TenantId,
        account: &str,
    ) -> Result<Vec<Kept<PasskeyDocument>>, TrustError> {
        let ledger = &self.inner.ledger;
        let query = Query::Token(ledger.token(tenant, kinds::PASSKEY, "account", account));
        let mut found: Vec<Kept<PasskeyDocument>> =
            find(ledger, tenant, kinds::PASSKEY, &query, PASSKEYS_MAX).await?;
        found.retain(|kept| kept.body.account == account);
        Ok(found)
    }

    /// All passkeys of an account, taken away.
    pub(super) async fn passkey_deletions(
        &self,
        tenant: TenantId,
        account: &str,
    ) -> Result<Vec<Draft>, TrustError> {
        let passkeys = self.passkeys_of(tenant, account).await?;
        Ok(passkeys
            .iter()
            .map(|kept| deletion(kinds::PASSKEY, &kept.id, kept.version))
            .collect())
    }

    fn passkey_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        document: &PasskeyDocument,
    ) -> Result<Draft, TrustError> {
        draft(
            &self.inner.ledger,
            tenant,
            kinds::PASSKEY,
            id,
            expected,
            document,
            &[("account", &document.account)],
            None,
        )
    }

    /// A question for a new passkey of who is signed in.
    ///
    /// # Errors
    /// `Invalid` for who has no account of staff, or as many as there may be; `Ledger`.
    pub async fn ask_for_new_passkey(
        &self,
        party: &RelyingParty,
        session: &Session,
    ) -> Result<PasskeyQuestion, TrustError> {
        let tenant = session.agent.tenant;
        let account = self.own_account(session).await?;
        let passkeys = self.passkeys_of(tenant, &account.id).await?;
        let asked = Asked::New(account.id.clone());
        let question = self.new_question(asked, session.id.clone());
        let handle = self.handle(tenant, &account.id);
        let options = json!({
            "rp": { "id": party.id, "name": party.name },
            "user": {
                "id": URL_SAFE_NO_PAD.encode(handle),
                "name": account.body.user_name,
                "displayName": account.body.name,
            },
            "challenge": question.challenge,
            "algorithms": ALGORITHMS,
            "exclude": allowed(&passkeys),
            "timeout": QUESTION_LIFE_MS,
        });
        self.sealed(party, tenant, &question, &options)
    }
    /// Keeps a new passkey of who is signed in.
    ///
    /// # Errors
    /// `Invalid` when the answer is none to the question, or there is no room; `SignIn` when the session ended
    /// meanwhile; `Ledger`.
    pub async fn add_passkey(
        &self,
        party: &RelyingParty,
        session: &Session,
        sealed: &str,
        answer: &str,
        name: &str,
    ) -> Result<(), TrustError> {
        let tenant = session.agent.tenant;
        let name = name.trim();
        if name.is_empty() || name.chars().count() > NAME_MAX {
            return invalid("a passkey has a name of at most 64 characters");
        }
        let asked = Asked::New(session.agent.id.clone());
        let Some(question) = self.question(party, tenant, sealed, &asked, &session.id)? else {
            return invalid("The passkey came too late, or to another page. Try again.");
        };
        let handle = self.handle(tenant, &session.agent.id);
        let expected = ceremony::Expected {
            party,
            challenge: &question.challenge,
            handle: &handle,
            says_handle: false,
        };
        let checked = ceremony::read::<NewAnswer>(answer)
            .and_then(|answer| ceremony::check_new(expected, &answer));
        let credential = match checked {
            Ok(credential) => credential,
            Err(fault) => {
                let words = fault.words();
                let record = Record::new(&session.agent, Event::ACCOUNT_CHANGED);
                self.refused(Why::Passkey, &session.agent.id, record, words)
                    .await?;
                return invalid(
                    "This passkey can't be taken: it has to be made on this page, and to ask for a finger, a face or a PIN.",
                );
            }
        };
        let id = self.id_of(tenant, "passkey", &credential.id);
        let known = self.inner.ledger.get(tenant, kinds::PASSKEY, &id).await?;
        if known.is_some() {
            return invalid("This passkey is, or was, somebody's here. Make a new one.");
        }
        let document = PasskeyDocument {
            account: session.agent.id.clone(),
            name: name.to_owned(),
            credential,
            created_ms: self.now_ms(),
            used_ms: None,
        };
        for _ in 0..RETRIES {
            let still_there = self.still_there(session).await?;
            let mut account = self.own_account(session).await?;
            let passkeys = self.passkeys_of(tenant, &account.id).await?.len();
            if passkeys >= PASSKEYS_MAX {
                return invalid("There are ten passkeys already. Remove one that you don't use.");
            }
            account.body.passkeys = passkeys + 1;
            let expected = Expected::Version(account.version);
            let documents = vec![
                self.passkey_draft(tenant, &id, Expected::Absent, &document)?,
                self.account_draft(tenant, &account.id, expected, &account.body)?,
                self.used(tenant, &question)?,
                still_there,
            ];
            let note = format!("account {} added a passkey", account.id);
            let mut record = Record::new(&session.agent, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            if let Some(outcome) = self.tried(tenant, documents, record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// The open account of staff behind a session.
    pub(super) async fn own_account(
        &self,
        session: &Session,
    ) -> Result<Kept<AccountDocument>, TrustError> {
        let agent = &session.agent;
        let kept = if agent.role == Role::Patient {
            None
        } else {
            self.account(agent.tenant, &agent.id).await?
        };
        match kept.filter(|kept| kept.body.active) {
            Some(kept) => Ok(kept),
            None => invalid("Second factors are for accounts of staff."),
        }
    }
}
