//! Step-up: before something sensitive, whoever is signed in shows a second factor again, unless the last one is
//! fresh. When it was shown stands in the session's document and is read there, so that all servers agree.
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::{Draft, Expected, LedgerError};

use super::documents::{Kept, SessionDocument, Stage, get};
use super::passkeys::ceremony::RelyingParty;
use super::passkeys::{Asked, PasskeyQuestion};
use super::refusals::Why;
use super::sign_in::Whom;
use super::{Identity, RETRIES, Session, secrets};
use crate::audit::{Event, Record};
use crate::policy::Factor;
use crate::{TrustError, kinds};

/// How old a second factor may be for something sensitive, where nothing else is configured.
pub const STEP_UP_S: u64 = 900;

pub(super) struct FactorAge(AtomicU64);

impl Default for FactorAge {
    fn default() -> Self {
        Self(AtomicU64::new(STEP_UP_S * 1000))
    }
}

/// What somebody may confirm with that it is still them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepUpWays {
    /// Whether a password goes with the code.
    pub password: bool,
    /// A one-time code.
    pub code: bool,
    /// A passkey.
    pub passkey: Option<PasskeyQuestion>,
}

/// What somebody confirms with.
#[derive(Debug, Clone, Copy)]
pub enum StepUp<'a> {
    /// Password and one-time code.
    Code {
        /// The password; empty for accounts without one.
        password: &'a str,
        /// The code.
        code: &'a str,
    },
    /// A passkey.
    Passkey {
        /// Whom it is for.
        party: &'a RelyingParty,
        /// The question.
        sealed: &'a str,
        /// The browser's answer.
        answer: &'a str,
    },
}

impl Identity {
    /// Sets how old a second factor may be for something sensitive; 0 asks each time.
    pub fn limit_factor_age(&self, age_s: u64) {
        let age_ms = &self.inner.factor_age.0;
        age_ms.store(age_s.saturating_mul(1000), Ordering::Relaxed);
        self.inner
            .policies
            .limit_factor_age(age_s.saturating_mul(1000));
    }
    /// Whether the session's second factor is fresh enough for something sensitive.
    ///
    /// # Errors
    /// `SignIn` when the session is over; `Ledger`.
    pub async fn is_stepped_up(&self, session: &Session) -> Result<bool, TrustError> {
        let kept = self.own_session(session).await?;
        let age_ms = self.inner.factor_age.0.load(Ordering::Relaxed);
        Ok(self.now_ms().saturating_sub(kept.body.factor_ms) < age_ms)
    }
    /// What the person of a session may confirm with.
    ///
    /// # Errors
    /// `Invalid` for who has no account of staff; `Ledger`.
    pub async fn step_up_ways(
        &self,
        party: Option<&RelyingParty>,
        session: &Session,
    ) -> Result<StepUpWays, TrustError> {
        let account = self.own_account(session).await?;
        let (tenant, by) = (session.agent.tenant, session.id.clone());
        let asked = Asked::Again(account.id.clone());
        let passkey = self.ask_of(party, tenant, &account.id, asked, by).await?;
        Ok(StepUpWays {
            password: account.body.password.is_some(),
            code: account.body.totp.is_some(),
            passkey,
        })
    }
    /// Takes a second factor again, and gives the session as it is from then on. Counts as a try to sign in; what
    /// is wrong with it isn't said.
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`; `Invalid` for who has no account of staff; `Ledger`.
    pub async fn step_up(
        &self,
        session: &Session,
        shown: StepUp<'_>,
    ) -> Result<Session, TrustError> {
        let tenant = session.agent.tenant;
        let account = self.own_account(session).await?;
        match shown {
            StepUp::Passkey {
                party,
                sealed,
                answer,
            } => {
                let asked = Asked::Again(account.id.clone());
                let question = self.question(party, tenant, sealed, &asked, &session.id)?;
                let Some(question) = question else {
                    let words = "an answer to a question for a passkey that is unknown or over";
                    let dead = self.dead(tenant, Why::Passkey, &account.id, None, words);
                    return Err(dead.await?);
                };
                let proved = self
                    .proved(party, tenant, &question, answer, Some(&account.id))
                    .await?;
                let note = "confirmed with a passkey";
                self.confirmed(session, proved.documents, Factor::Passkey, note)
                    .await
            }
            StepUp::Code { password, code } => {
                let whom = Whom::SignedIn { id: &account.id };
                let trying = self.trying(tenant, whom).await?;
                // Another try may have used the code while this one waited for its turn.
                let mut account = self.own_account(session).await?;
                if let Some(hash) = account.body.password.clone() {
                    let password = password.to_owned();
                    let matches = self
                        .apart(move || secrets::password_matches(&password, &hash))
                        .await?;
                    if !matches {
                        let what = "password wrong where a second factor is asked for again";
                        return Err(self.failed(trying, None, Why::Password, what).await?);
                    }
                }
                let now_s = self.now_ms() / 1000;
                let step = match &account.body.totp {
                    Some(secret) => secrets::totp(secret)?.check(code.trim(), now_s),
                    None => None,
                };
                let Some(step) = step.filter(|step| *step > account.body.totp_step) else {
                    let what = "second factor wrong where it is asked for again";
                    return Err(self.failed(trying, None, Why::Code, what).await?);
                };
                account.body.totp_step = step;
                let expected = Expected::Version(account.version);
                let mut documents =
                    vec![self.account_draft(tenant, &account.id, expected, &account.body)?];
                documents.extend(self.forgiven(&trying)?);
                let note = "confirmed with password and code";
                self.confirmed(session, documents, Factor::Totp, note).await
            }
        }
    }

    pub(super) async fn own_session(
        &self,
        session: &Session,
    ) -> Result<Kept<SessionDocument>, TrustError> {
        let (tenant, id) = (session.agent.tenant, &session.id);
        let found: Option<Kept<SessionDocument>> =
            get(&self.inner.ledger, tenant, kinds::SESSION, id).await?;
        found
            .filter(|kept| kept.body.stage == Stage::Open)
            .ok_or(TrustError::SignIn)
    }

    /// That a session is there still, to be written with what it does. An administrator who takes factors away
    /// ends sessions in the same commit, so one of both meets the other.
    pub(super) async fn still_there(&self, session: &Session) -> Result<Draft, TrustError> {
        let kept = self.own_session(session).await?;
        let expected = Expected::Version(kept.version);
        self.session_draft(session.agent.tenant, &kept.id, expected, &kept.body)
    }

    /// Writes what a factor changed together with when it was shown.
    async fn confirmed(
        &self,
        session: &Session,
        documents: Vec<Draft>,
        factor: Factor,
        note: &str,
    ) -> Result<Session, TrustError> {
        let tenant = session.agent.tenant;
        let mut was = None;
        for _ in 0..RETRIES {
            let mut kept = self.own_session(session).await?;
            // The conflict was about the factor: it was used at the same time.
            if was == Some(kept.version) {
                return Err(TrustError::SignIn);
            }
            was = Some(kept.version);
            kept.body.factor_ms = self.now_ms();
            kept.body.factor = Some(factor);
            let expected = Expected::Version(kept.version);
            let mut all = documents.clone();
            all.push(self.session_draft(tenant, &kept.id, expected, &kept.body)?);
            let mut record = Record::new(&session.agent, Event::LOGIN);
            record.note = Some(note);
            if let Some(outcome) = self.tried(tenant, all, record).await {
                outcome?;
                let signed_in = kept.body.signed_in();
                self.inner.sessions.confirmed(&session.id, signed_in);
                let mut session = session.clone();
                session.agent.signed_in = signed_in;
                return Ok(session);
            }
        }
        Err(LedgerError::Conflict.into())
    }
}
