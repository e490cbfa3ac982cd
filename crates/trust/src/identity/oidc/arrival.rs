//! Somebody comes back from a provider, and the provider says later that they have left.

use ledger::{Draft, Expected, Kind, LedgerError, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::super::documents::{Kept, SessionDocument, Stage, deletion, draft, find, get};
use super::super::oauth::ProofDocument;
use super::super::refusals::Why;
use super::super::seen::OpenedBy;
use super::super::sign_in::{agent_of, stranger};
use super::super::{Identity, RETRIES, SignIn, secrets};
use super::away::Away;
use super::tokens::{IdToken, LogoutToken, SKEW_S};
use crate::audit::{Event, Record};
use crate::{Agent, Role, TrustError, kinds};

/// Sessions that one commit removes; the next takes the rest.
pub(super) const SESSIONS_AT_ONCE: usize = 1_000;
/// Ends of sessions that are looked at for one that begins. There are as many as somebody signed out there
/// within [`KEPT_MS`].
const ENDS_MAX: usize = 1_000;
/// How long is remembered that a session ended at the provider, if its token doesn't ask for longer: longer
/// than an identity token is taken after it was made (eleven minutes) and a second factor may take then (five).
const KEPT_MS: u64 = 1_200_000;

/// Where a session was opened by a provider: for whom, and which session there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::identity) struct AtProvider {
    pub(in crate::identity) issuer: String,
    pub(in crate::identity) subject: String,
    pub(in crate::identity) session: Option<String>,
    /// When the identity token was made, by the issuer's clock.
    pub(in crate::identity) made_s: u64,
    /// Where a second factor was shown there and not here: when, by the issuer's clock; 0 if it doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::identity) factor_s: Option<u64>,
}

impl AtProvider {
    /// What sessions are found by.
    pub(super) const SUBJECT: &str = "subject at a provider";
    const SESSION: &str = "session at a provider";

    pub(super) fn by_subject(issuer: &str, subject: &str) -> String {
        format!("{issuer}\n{subject}")
    }
    /// When a second factor was shown for a session that opens now. A provider may have asked for it long
    /// before.
    pub(in crate::identity) fn factor_ms(&self, now_ms: u64) -> u64 {
        let shown_s = self.factor_s.unwrap_or(u64::MAX);
        shown_s.saturating_mul(1000).min(now_ms)
    }
    /// Parameters and values that a session is found by.
    pub(in crate::identity) fn found_by(&self) -> Vec<(&'static str, String)> {
        let mut found_by = vec![(Self::SUBJECT, Self::by_subject(&self.issuer, &self.subject))];
        found_by.extend(
            (self.session.as_deref())
                .map(|session| (Self::SESSION, format!("{}\n{session}", self.issuer))),
        );
        found_by
    }
}

/// How far the clocks of both sides may be apart, milliseconds.
const SKEW_MS: u64 = SKEW_S * 1000;
/// So long ago a factor was shown at a provider that will do for what somebody signs in for, milliseconds.
const FRESH_MS: u64 = 5 * 60 * 1000;

/// A session that ended at a provider, or all of somebody's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::identity) struct ProviderLogoutDocument {
    issuer: String,
    subject: Option<String>,
    session: Option<String>,
    made_s: u64,
    pub(in crate::identity) ends_ms: u64,
}

impl ProviderLogoutDocument {
    /// Whether it ends what was opened so. A session there that ended opens nothing more. Without one, all of
    /// the subject's end that were there by then; of the same second, too, because which came first can't be
    /// told.
    fn ends(&self, at: &AtProvider) -> bool {
        let is_theirs = self.issuer == at.issuer
            && self
                .subject
                .as_ref()
                .is_none_or(|subject| *subject == at.subject);
        let is_meant = match &self.session {
            // Where it was never said which session it is, it may be this one.
            Some(session) => match &at.session {
                Some(at_session) => at_session == session,
                None => self.subject.is_some() && at.made_s <= self.made_s,
            },
            None => self.subject.is_some() && at.made_s <= self.made_s,
        };
        is_theirs && is_meant
    }
    /// What the sessions are found by that it ends.
    fn finds(&self) -> (&'static str, String) {
        let Self {
            issuer,
            subject,
            session,
            ..
        } = self;
        match (subject, session) {
            (None, Some(session)) => (AtProvider::SESSION, format!("{issuer}\n{session}")),
            (subject, _) => {
                let subject = subject.as_deref().unwrap_or_default();
                (AtProvider::SUBJECT, AtProvider::by_subject(issuer, subject))
            }
        }
    }
}

/// Somebody who came back with an identity token that holds.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// Who signed them in.
    pub issuer: &'a str,
    /// As whom.
    pub token: &'a IdToken,
    /// Whether they showed two factors there, so that none is asked for here.
    pub by_two_factors: bool,
    /// The sign-in that they come back from.
    pub away: &'a Away,
}

/// What becomes of somebody who comes back.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for a sign-in, taken apart at once"
)]
pub enum Admission {
    /// They have an account; this is the next step.
    Known(SignIn),
    /// No account is linked to them.
    Unlinked,
    /// The account that is linked to them is closed.
    Closed,
    /// The provider has to ask again who it is, and did not: they signed in there before a session ended here that
    /// nobody used any more, or before they left for it to be asked and have no factor of their own to show here.
    Stale,
}

impl Identity {
    /// Lets somebody in whom a provider signed in, if an account is linked to them and open. Roles come from
    /// the account. Unless two factors were shown there, the account's own second factor is asked for; so it is
    /// when the provider was to ask anew who it is, and did not.
    ///
    /// # Errors
    /// `SignIn` when they were signed out there meanwhile; `Ledger`, `Damaged`.
    pub async fn admit(
        &self,
        tenant: TenantId,
        arrival: Arrival<'_>,
    ) -> Result<Admission, TrustError> {
        let Arrival {
            issuer,
            token,
            by_two_factors,
            away,
        } = arrival;
        let refused = async |subject: &str, words: &str| {
            let stranger = stranger(tenant);
            let mut record = Record::new(&stranger, Event::LOGIN);
            record.anchor = (!subject.is_empty()).then_some(subject);
            self.refused(Why::Provider, subject, record, words).await
        };
        let Some(link) = self.link(tenant, issuer, &token.subject).await? else {
            let words = format!("{issuer} signed somebody in to whom no account is linked");
            refused("", &words).await?;
            return Ok(Admission::Unlinked);
        };
        let id = &link.body.account;
        let account = self.account(tenant, id).await?;
        let account = account.filter(|kept| kept.body.active && kept.body.role != Role::Patient);
        let Some(account) = account else {
            let words = format!("{issuer} signed somebody in whose account {id} is closed");
            refused(id, &words).await?;
            return Ok(Admission::Closed);
        };
        let signed_in_ms = token.signed_in_s().unwrap_or(0).saturating_mul(1000);
        // Clocks may differ.
        let is_anew = signed_in_ms.saturating_add(SKEW_MS) >= away.began_ms();
        let is_stale = !is_anew
            && (away.anew
                || self
                    .ended_since(tenant, issuer, &token.subject, signed_in_ms)
                    .await?);
        let has_own = account.body.totp.is_some() || self.has_passkeys(tenant, &account.id).await?;
        // A provider that was asked to sign them in anew, and doesn't, or doesn't say that it did: the account's
        // own factor, shown now, proves who sits there.
        if is_stale && !(away.anew && has_own) {
            let words = format!("{issuer} remembers account {id}, which has to sign in anew");
            refused(id, &words).await?;
            return Ok(Admission::Stale);
        }
        let by_two_factors = by_two_factors && !is_stale;
        let used = self.back_draft(tenant, away)?;
        let at = AtProvider {
            issuer: issuer.to_owned(),
            subject: token.subject.clone(),
            session: token.session.clone(),
            made_s: token.made_s,
            factor_s: by_two_factors.then(|| token.signed_in_s().unwrap_or(0)),
        };
        // A factor that is too old, or of no known age, has to be shown again before something sensitive: who has
        // none here sets one up while they sign in, or could not even ask for emergency access.
        let factor_s = token.signed_in_s().unwrap_or(0);
        let is_fresh = factor_s.saturating_mul(1000).saturating_add(FRESH_MS) > self.now_ms();
        let step = if by_two_factors && (has_own || is_fresh) {
            let by = OpenedBy::Provider;
            let (agent, account) = (agent_of(&account), Some(account.id.clone()));
            self.open(tenant, account, agent, vec![used], by, Some(at))
                .await?
        } else {
            let stage = match has_own {
                true => Stage::SecondFactor,
                false => Stage::Enrol {
                    totp: secrets::mint_totp(self.inner.ledger.entropy().as_ref()),
                },
            };
            let note = format!("signed in at {issuer}, second factor asked for");
            self.ask_second_factor(tenant, &account, stage, &note, Some((at, used)))
                .await?
        };
        Ok(Admission::Known(step))
    }

    /// Whether a session that a provider opened for a subject ended here, by idleness or age, after they had signed
    /// in there. Whoever sits down where it was open, and where the provider remembers them, is not let in by one
    /// press.
    async fn ended_since(
        &self,
        tenant: TenantId,
        issuer: &str,
        subject: &str,
        signed_in_ms: u64,
    ) -> Result<bool, TrustError> {
        let now_ms = self.now_ms();
        let found = self.sessions_of_subject(tenant, issuer, subject).await?;
        Ok(found.iter().any(|kept| {
            let in_memory_ms = self.inner.sessions.last_seen_ms(&kept.id).unwrap_or(0);
            let seen_ms = kept.body.last_seen_ms.max(in_memory_ms);
            kept.body.stage == Stage::Open
                && self.over(seen_ms, kept.body.expires_ms, now_ms)
                && signed_in_ms <= seen_ms
        }))
    }

    /// That a sign-in came back and opened something: no other server takes it again.
    fn back_draft(&self, tenant: TenantId, away: &Away) -> Result<Draft, TrustError> {
        let document = ProofDocument {
            ends_ms: away.ends_ms,
        };
        let ledger = &self.inner.ledger;
        let id = self.id_of(tenant, "sign-in at a provider", &away.state);
        let ends_ms = Some(away.ends_ms);
        let (kind, absent) = (kinds::CLIENT_PROOF, Expected::Absent);
        draft(ledger, tenant, kind, &id, absent, &document, &[], ends_ms)
    }

    /// Records that what a provider or somebody in its name sent was not taken, in fixed words.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn refuse_arrival(
        &self,
        tenant: TenantId,
        issuer: &str,
        words: &str,
    ) -> Result<(), TrustError> {
        let stranger = stranger(tenant);
        let record = Record::new(&stranger, Event::LOGIN);
        let words = format!("an answer of {issuer} was not taken: {words}");
        self.refused(Why::Provider, "", record, &words).await
    }

    /// Ends what a provider says has ended there: sessions, and sign-ins that wait for a second factor. Says
    /// how many. A token that comes again does what it did the first time, and ends nothing that came after.
    /// On this server sessions end at once; others look within half a minute.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn end_at_provider(
        &self,
        tenant: TenantId,
        issuer: &str,
        token: &LogoutToken,
    ) -> Result<usize, TrustError> {
        const KIND: Kind = kinds::PROVIDER_LOGOUT;
        let ledger = &self.inner.ledger;
        let mut logout = ProviderLogoutDocument {
            issuer: issuer.to_owned(),
            subject: token.subject.clone(),
            session: token.session.clone(),
            made_s: token.made_s,
            ends_ms: token.ends_ms.max(self.now_ms().saturating_add(KEPT_MS)),
        };
        let provider = Agent::system(tenant, "identity-provider");
        let id = self.id_of(tenant, "logout", &format!("{issuer}\n{}", token.id));
        let (name, value) = logout.finds();
        let found_by = [(name, value.as_str())];
        let ends_ms = Some(logout.ends_ms);
        let draft = draft(
            ledger,
            tenant,
            KIND,
            &id,
            Expected::Absent,
            &logout,
            &found_by,
            ends_ms,
        )?;
        let note = format!("{issuer} signed somebody out");
        let mut record = Record::new(&provider, Event::LOGOUT);
        record.note = Some(&note);
        // It is kept first: whoever signs in from now on finds it, and whoever did before is found.
        match self.commit(tenant, vec![draft], record).await {
            Ok(()) => {}
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                let first: Option<Kept<ProviderLogoutDocument>> =
                    get(ledger, tenant, KIND, &id).await?;
                match first {
                    Some(first) => logout = first.body,
                    // It was swept away, so the token is too old.
                    None => return Ok(0),
                }
            }
            Err(error) => return Err(error),
        }
        self.finish_logout(tenant, &logout).await
    }

    /// Ends what a logout ends that was kept: all of it, however often. Says how much that was.
    async fn finish_logout(
        &self,
        tenant: TenantId,
        logout: &ProviderLogoutDocument,
    ) -> Result<usize, TrustError> {
        let provider = Agent::system(tenant, "identity-provider");
        let issuer = &logout.issuer;
        let (mut ended, mut conflicts) = (0, 0);
        loop {
            let (name, value) = logout.finds();
            let mut found = self.sessions_by(tenant, name, &value).await?;
            found.retain(|kept| {
                let at = kept.body.provider.as_ref();
                at.is_some_and(|at| logout.ends(at))
            });
            found.truncate(SESSIONS_AT_ONCE);
            if found.is_empty() {
                return Ok(ended);
            }
            let gone = found
                .iter()
                .map(|kept| deletion(kinds::SESSION, &kept.id, kept.version));
            let note = format!("{} sessions ended that {issuer} had opened", found.len());
            let mut record = Record::new(&provider, Event::LOGOUT);
            record.note = Some(&note);
            let done = self.commit(tenant, gone.collect(), record).await;
            self.inner.sessions.recheck_all();
            match done {
                Ok(()) => ended += found.len(),
                // One was being used this moment.
                Err(TrustError::Ledger(LedgerError::Conflict)) if conflicts < RETRIES => {
                    conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends what logouts end that were kept and then cut short, before they are forgotten. Says how much that was.
    pub(in crate::identity) async fn finish_logouts(
        &self,
        tenant: TenantId,
    ) -> Result<usize, TrustError> {
        const KIND: Kind = kinds::PROVIDER_LOGOUT;
        // As many as are kept from a day; beyond, each session is looked at when it is used.
        const FINISHED_MAX: usize = 10_000;
        let ledger = &self.inner.ledger;
        let query = Query::Token(ledger.kind_token(tenant, KIND));
        let found: Vec<Kept<ProviderLogoutDocument>> =
            find(ledger, tenant, KIND, &query, FINISHED_MAX).await?;
        let mut ended = 0;
        for kept in found {
            match self.finish_logout(tenant, &kept.body).await {
                Ok(count) => ended += count,
                // A session was being used all the while: it is looked at then, and by the next sweep.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }

    /// Whether what a provider opened has ended there meanwhile.
    pub(in crate::identity) async fn has_ended(
        &self,
        tenant: TenantId,
        at: &AtProvider,
    ) -> Result<bool, TrustError> {
        const KIND: Kind = kinds::PROVIDER_LOGOUT;
        let ledger = &self.inner.ledger;
        let by = at.found_by();
        let by = by
            .iter()
            .map(|(name, value)| Query::Token(ledger.token(tenant, KIND, name, value)));
        let query = Query::Or(by.collect());
        let found: Vec<Kept<ProviderLogoutDocument>> =
            find(ledger, tenant, KIND, &query, ENDS_MAX).await?;
        Ok(found.iter().any(|kept| kept.body.ends(at)))
    }

    /// Sessions and sign-ins under way that are found by what a provider said.
    pub(super) async fn sessions_by(
        &self,
        tenant: TenantId,
        name: &str,
        value: &str,
    ) -> Result<Vec<Kept<SessionDocument>>, TrustError> {
        let ledger = &self.inner.ledger;
        let query = Query::Token(ledger.token(tenant, kinds::SESSION, name, value));
        find(ledger, tenant, kinds::SESSION, &query, SESSIONS_AT_ONCE).await
    }
}
