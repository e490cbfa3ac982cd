//! What identity keeps: accounts, sessions, links, clients and failed attempts, each one sealed JSON
//! document of the tenant's. Their ids are keyed hashes of what they are looked up by, so that two of
//! the same can't be.
use ledger::{
    AuditDraft, Commit, Draft, Expected, Hit, Kind, Ledger, LedgerError, Number, Owner, Query,
    Stored, TenantId, Token, View,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::oidc::AtProvider;
use super::seen::OpenedBy;
use crate::policy::{Factor, SignedIn};
use crate::{Agent, Role, TrustError};

/// Failed tries before waiting begins.
const FREE_TRIES: u32 = 5;
/// The first wait; each further failure doubles it.
const FIRST_WAIT_MS: u64 = 30_000;
/// The longest wait: long enough that guessing is hopeless (100 tries a day), short enough that
/// locking somebody out on purpose stays a nuisance.
const LONGEST_WAIT_MS: u64 = 900_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// Documents looked for in one go.
const FIND_AT_ONCE: usize = 500;
/// What the ledger finds a document by when it is over: the day of its end.
const ENDS: &str = "ends";
/// The first day in store.
const FIRST_DAY: i64 = 0;

/// How failures of one name are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Failures are forgotten this long after the last one.
    pub(super) memory_ms: u64,
    /// After so many there is no further try until they are forgotten.
    pub(super) failures_max: Option<u32>,
}

/// User names: a password has to be guessed, and a code besides.
pub(super) const OF_NAMES: Patience = Patience {
    memory_ms: DAY_MS,
    failures_max: None,
};
/// Patients, whichever of their links is tried: there are about 36,500 dates of birth to guess, and
/// most patients are in a third of them, so that twenty tries are two in a thousand. Waits alone
/// would allow a hundred tries a day.
pub(super) const OF_PATIENTS: Patience = Patience {
    memory_ms: 7 * DAY_MS,
    failures_max: Some(20),
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AccountDocument {
    pub(super) user_name: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) patient: Option<String>,
    /// PHC string; none for accounts that sign in by link, and where signing in by password is switched off.
    pub(super) password: Option<String>,
    /// The password where it is switched off. A server that doesn't know of it forgets it: then it stays off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password_kept: Option<String>,
    /// Base32. Codes are computed from it, so it can't be kept as a hash; the document is sealed.
    pub(super) totp: Option<String>,
    /// The time step of the last code that was used: each code works once.
    pub(super) totp_step: u64,
    /// How many passkeys it has, for lists. Each change of them writes this document too, so that two at once
    /// meet; which there are is asked of themselves, because a server of before passkeys drops this.
    #[serde(default)]
    pub(super) passkeys: usize,
    pub(super) active: bool,
}

/// A session, or a sign-in on its way to become one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SessionDocument {
    /// SHA-256 of the secret.
    pub(super) secret: String,
    pub(super) stage: Stage,
    /// Account id; none for patients who came by a link.
    pub(super) account: Option<String>,
    pub(super) agent: AgentDocument,
    /// By whom it was opened, if an identity provider did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<AtProvider>,
    /// How it was opened; none of one that an earlier build opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) opened: Option<OpenedBy>,
    /// The browser that opened it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) browser: Option<String>,
    pub(super) csrf: String,
    pub(super) created_ms: u64,
    pub(super) last_seen_ms: u64,
    pub(super) expires_ms: u64,
    /// When its person last showed a second factor; 0 for who has none, and for sessions that an earlier build
    /// opened.
    #[serde(default)]
    pub(super) factor_ms: u64,
    /// Which one that was, if one was shown since it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) factor: Option<Factor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The first factor was right; the code is still to come.
    SecondFactor,
    /// The first factor was right; this secret is to be set up with its first code.
    Enrol {
        totp: String,
    },
    Open,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AgentDocument {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) patient: Option<String>,
}

impl SessionDocument {
    /// How its person signed in. Of whom it isn't known by which factor, the weakest is taken that it can have been.
    pub(super) fn signed_in(&self) -> SignedIn {
        let told = self.factor.or(self.opened.map(OpenedBy::factor));
        let factor = match (told, &self.provider) {
            _ if self.factor_ms == 0 => Factor::None,
            (Some(factor), _) => factor,
            (None, Some(_)) => Factor::Provider,
            (None, None) => Factor::Totp,
        };
        SignedIn {
            factor,
            at_ms: self.factor_ms,
            session: true,
        }
    }
}

impl AgentDocument {
    pub(super) fn agent(&self, tenant: TenantId) -> Agent {
        Agent {
            tenant,
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            patient: self.patient.clone(),
            access: None,
            signed_in: crate::SignedIn::default(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LinkDocument {
    pub(super) secret: String,
    pub(super) patient: String,
    /// Of a link for somebody who acts for the patient: the record of that.
    #[serde(default)]
    pub(super) proxy: Option<String>,
    pub(super) reusable: bool,
    pub(super) used: bool,
    /// Wrong birth dates so far.
    pub(super) wrong: u32,
    pub(super) expires_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ClientDocument {
    pub(super) secret: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) active: bool,
    pub(super) expires_ms: u64,
}

/// Failures of one user name (known or not) or link.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct AttemptsDocument {
    pub(super) failures: u32,
    pub(super) last_ms: u64,
}

impl AttemptsDocument {
    /// The failures that count now.
    pub(super) fn current(&self, patience: Patience, now_ms: u64) -> u32 {
        if now_ms.saturating_sub(self.last_ms) > patience.memory_ms {
            0
        } else {
            self.failures
        }
    }
    /// How long to wait before another try.
    pub(super) fn wait_ms(&self, patience: Patience, now_ms: u64) -> u64 {
        let failures = self.current(patience, now_ms);
        if patience.failures_max.is_some_and(|most| failures >= most) {
            return (self.last_ms + patience.memory_ms + 1).saturating_sub(now_ms);
        }
        let Some(over) = failures.checked_sub(FREE_TRIES) else {
            return 0;
        };
        let wait_ms = FIRST_WAIT_MS
            .saturating_mul(1 << over.min(10))
            .min(LONGEST_WAIT_MS);
        (self.last_ms + wait_ms).saturating_sub(now_ms)
    }
    pub(super) fn fail(&mut self, patience: Patience, now_ms: u64) {
        self.failures = self.current(patience, now_ms) + 1;
        self.last_ms = now_ms;
    }
}

/// A document with its place in the store.
#[derive(Debug, Clone)]
pub(super) struct Kept<T> {
    pub(super) id: String,
    pub(super) at: Hit,
    pub(super) body: T,
    pub(super) version: u32,
}

/// Reads a document; what has been deleted isn't there.
pub(super) async fn get<T: DeserializeOwned>(
    ledger: &Ledger,
    tenant: TenantId,
    kind: Kind,
    id: &str,
) -> Result<Option<Kept<T>>, TrustError> {
    let stored = match ledger.get(tenant, kind, id).await {
        // Whoever shows a secret of a tenant that isn't here is as unknown as anybody.
        Err(LedgerError::UnknownTenant(_) | LedgerError::KeyDestroyed) => None,
        other => other?,
    };
    let Some(stored) = stored.filter(|stored| !stored.deleted) else {
        return Ok(None);
    };
    kept(kind, stored).map(Some)
}

/// A document to be written. The tokens are (parameter, value).
#[allow(clippy::too_many_arguments, reason = "a document has this many sides")]
pub(super) fn draft<T: Serialize>(
    ledger: &Ledger,
    tenant: TenantId,
    kind: Kind,
    id: &str,
    expected: Expected,
    body: &T,
    found_by: &[(&str, &str)],
    ends_ms: Option<u64>,
) -> Result<Draft, TrustError> {
    let body = serde_json::to_vec(body)
        .map_err(|_| TrustError::Damaged("a document can't be written as JSON".to_owned()))?;
    let mut tokens: Vec<_> = found_by
        .iter()
        .map(|(name, value)| ledger.token(tenant, kind, name, value))
        .collect();
    if let Some(ends_ms) = ends_ms {
        tokens.extend(end_tokens(ledger, tenant, kind, ends_ms));
    }
    Ok(Draft {
        kind,
        id: id.to_owned(),
        owner: Owner::Tenant,
        expected,
        body,
        deleted: false,
        tokens,
    })
}

/// What a sweep finds a document by that ends at a time.
pub(crate) fn end_tokens(
    ledger: &Ledger,
    tenant: TenantId,
    kind: Kind,
    ends_ms: u64,
) -> Vec<Token> {
    ledger.range_tokens(tenant, kind, ENDS, day(ends_ms))
}

fn day(ms: u64) -> i64 {
    i64::try_from(ms / DAY_MS).unwrap_or(i64::MAX)
}

/// What finds the documents of a kind that ended before today.
pub(super) fn ended(ledger: &Ledger, tenant: TenantId, kind: Kind, now_ms: u64) -> Option<Query> {
    ledger.range_query(tenant, kind, ENDS, FIRST_DAY, day(now_ms) - 1)
}

/// Documents that a query finds, newest first, at most `most`; whether a token stood for something
/// else is for the caller to see on the body.
pub(super) async fn find<T: DeserializeOwned>(
    ledger: &Ledger,
    tenant: TenantId,
    kind: Kind,
    query: &Query,
    most: usize,
) -> Result<Vec<Kept<T>>, TrustError> {
    // Of one moment, so that what is found is the newest version when it is opened.
    find_in(&ledger.view()?, tenant, kind, query, (None, most)).await
}

/// The same in one view, of those before a number.
pub(super) async fn find_in<T: DeserializeOwned>(
    view: &View,
    tenant: TenantId,
    kind: Kind,
    query: &Query,
    (mut before, most): (Option<Number>, usize),
) -> Result<Vec<Kept<T>>, TrustError> {
    let mut found = Vec::new();
    while found.len() < most {
        let wanted = (most - found.len()).min(FIND_AT_ONCE);
        let hits = view.search(tenant, query, before, None, wanted).await?;
        let mut opened = 0;
        while opened < hits.len() {
            for outcome in view.fetch_some(tenant, &hits[opened..]).await? {
                opened += 1;
                // What was a patient's whose key is destroyed is gone.
                let stored = match outcome {
                    Err(LedgerError::KeyDestroyed) => None,
                    other => other?,
                };
                if let Some(stored) = stored
                    && stored.kind == kind
                    && !stored.deleted
                {
                    found.push(kept(kind, stored)?);
                }
            }
        }
        match hits.last() {
            Some(last) if hits.len() == wanted => before = Some(last.number),
            _ => break,
        }
    }
    Ok(found)
}

fn kept<T: DeserializeOwned>(kind: Kind, stored: Stored) -> Result<Kept<T>, TrustError> {
    let body = serde_json::from_slice(&stored.body).map_err(|_| {
        TrustError::Damaged(format!(
            "document {} of kind {} does not parse",
            stored.id, kind.0
        ))
    })?;
    Ok(Kept {
        id: stored.id,
        at: stored.at,
        body,
        version: stored.version,
    })
}

/// A deletion.
pub(super) fn deletion(kind: Kind, id: &str, version: u32) -> Draft {
    Draft {
        kind,
        id: id.to_owned(),
        owner: Owner::Tenant,
        expected: Expected::Version(version),
        body: Vec::new(),
        deleted: true,
        tokens: Vec::new(),
    }
}

pub(super) async fn commit(
    ledger: &Ledger,
    tenant: TenantId,
    documents: Vec<Draft>,
    audit: AuditDraft,
) -> Result<(), LedgerError> {
    let mut commit = Commit::new(tenant);
    commit.documents = documents;
    commit.audit = Some(audit);
    ledger.commit(commit).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_forgotten() {
        let mut attempts = AttemptsDocument::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            attempts.fail(OF_NAMES, 1_000_000);
            waits.push(attempts.wait_ms(OF_NAMES, 1_000_000) / 1000);
        }
        assert_eq!(waits, [0, 0, 0, 0, 30, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(attempts.wait_ms(OF_NAMES, 1_000_000 + 899_000), 1000);
        assert_eq!(attempts.wait_ms(OF_NAMES, 1_000_000 + 900_000), 0);
        assert_eq!(attempts.current(OF_NAMES, 1_000_000 + DAY_MS), 12);
        assert_eq!(attempts.current(OF_NAMES, 1_000_001 + DAY_MS), 0);
        attempts.fail(OF_NAMES, 1_000_001 + DAY_MS);
        assert_eq!(attempts.failures, 1);
    }

    #[test]
    fn a_patient_s_tries_end_for_a_week() {
        let mut attempts = AttemptsDocument::default();
        let mut now_ms = 1_000_000;
        for _ in 0..20 {
            assert_eq!(attempts.wait_ms(OF_PATIENTS, now_ms), 0);
            attempts.fail(OF_PATIENTS, now_ms);
            now_ms += LONGEST_WAIT_MS;
        }
        assert_eq!(
            attempts.wait_ms(OF_PATIENTS, attempts.last_ms + 1),
            7 * DAY_MS
        );
        assert_eq!(
            attempts.wait_ms(OF_PATIENTS, attempts.last_ms + 7 * DAY_MS + 1),
            0
        );
    }
}
