//! The keys by which this server signs identity tokens for applications, and what lets somebody into a visit by video
//! (`visits.rs`): one organisation's each, made here, and kept sealed like everything of identity.
//!
//! A new key is shown for a day before it signs, and a former one for a day after, so that applications which
//! keep the set for a while know each in time. What a key is at a moment follows from its date alone.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use ledger::{Clock, Expected, Ledger, LedgerError, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::{Auditor, Event, Record};
use crate::identity::documents::{Kept, commit, draft, get};
use crate::identity::oidc::thumbprint;
use crate::identity::{Identity, RETRIES};
use crate::{Agent, Purpose, TrustError, kinds};

/// The algorithm, which every client knows (OpenID Connect Core 1.0, section 15.1; SMART App Launch 2.2 asks for
/// it as well).
pub(super) const ALGORITHM: &str = "RS256";
/// How long before it signs a key is shown: longer than anybody keeps a set.
pub const SIGNING_AHEAD_MS: u64 = 86_400_000;
/// How long a key signs.
pub const SIGNING_LIFE_MS: u64 = 90 * 86_400_000;
/// How long a key is shown after it signed last: longer than a token lasts.
pub const SIGNING_KEPT_MS: u64 = 86_400_000;

/// A key.
#[derive(Clone, Serialize, Deserialize)]
struct SigningKey {
    /// Its thumbprint (RFC 7638).
    id: String,
    /// The public part, in base64url.
    n: String,
    e: String,
    /// PKCS #8, in base64url.
    secret: String,
    /// From when on it signs, by the wall clock.
    from_ms: u64,
}

/// The keys of an organisation, by when they sign. Never empty.
#[derive(Clone, Serialize, Deserialize)]
struct SigningKeysDocument {
    keys: Vec<SigningKey>,
}

/// What came of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRotation {
    /// The new key's id.
    pub id: String,
    /// From when on it signs, by the wall clock.
    pub from_ms: u64,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unable() -> TrustError {
    TrustError::Damaged("a key for identity tokens can't be used".to_owned())
}

impl SigningKey {
    /// A new key. The library's own randomness makes it, as it makes the keys of TLS.
    fn make(from_ms: u64) -> Result<Self, TrustError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| unable())?;
        let secret: Pkcs8V1Der = pair.as_der().map_err(|_| unable())?;
        let key = pair.public_key();
        let e = text(key.exponent().big_endian_without_leading_zero());
        let n = text(key.modulus().big_endian_without_leading_zero());
        let members = json!({"e": e, "kty": "RSA", "n": n});
        Ok(Self {
            id: members.as_object().map(thumbprint).unwrap_or_default(),
            n,
            e,
            secret: text(secret.as_ref()),
            from_ms,
        })
    }
}

impl SigningKeysDocument {
    /// The key that signs at a moment. A clock that was set back finds the oldest.
    fn signs(&self, now_ms: u64) -> Option<&SigningKey> {
        let began = self.keys.iter().rev().find(|key| key.from_ms <= now_ms);
        began.or(self.keys.first())
    }
    fn newest_ms(&self) -> u64 {
        self.keys.last().map_or(0, |key| key.from_ms)
    }
    /// Whether a new key has to be shown, so that it can sign in time.
    fn is_due(&self, now_ms: u64) -> bool {
        now_ms.saturating_add(SIGNING_AHEAD_MS) >= self.newest_ms().saturating_add(SIGNING_LIFE_MS)
    }
    /// Takes away those whose tokens are over; says whether there were any.
    fn forget(&mut self, now_ms: u64) -> bool {
        let over = |next: &SigningKey| next.from_ms.saturating_add(SIGNING_KEPT_MS) <= now_ms;
        let before = self.keys.len();
        while self.keys.get(1).is_some_and(over) {
            self.keys.remove(0);
        }
        self.keys.len() != before
    }
}

fn place(ledger: &Ledger, tenant: TenantId) -> String {
    ledger.derive_own_id(tenant, "identity signing keys")
}

async fn kept(
    ledger: &Ledger,
    tenant: TenantId,
) -> Result<Option<Kept<SigningKeysDocument>>, TrustError> {
    get(ledger, tenant, kinds::SIGNING_KEYS, &place(ledger, tenant)).await
}

/// Makes a key away from the threads that serve requests: it takes a core for a while.
async fn made(from_ms: u64) -> Result<SigningKey, TrustError> {
    let making = tokio::task::spawn_blocking(move || SigningKey::make(from_ms));
    making.await.map_err(|_| unable())?
}

/// Writes keys; `false` when somebody else was faster.
async fn write(
    ledger: &Ledger,
    auditor: &Auditor,
    agent: &Agent,
    expected: Expected,
    document: &SigningKeysDocument,
    note: &str,
) -> Result<bool, TrustError> {
    const KIND: ledger::Kind = kinds::SIGNING_KEYS;
    let tenant = agent.tenant;
    let id = place(ledger, tenant);
    let draft = draft(ledger, tenant, KIND, &id, expected, document, &[], None)?;
    let mut record = Record::new(agent, Event::KEYS_ROTATED);
    record.purpose = Some(Purpose::Administration);
    record.note = Some(note);
    match commit(ledger, tenant, vec![draft], auditor.draft(&record)).await {
        Ok(()) => Ok(true),
        Err(LedgerError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Rotates the key that signs an organisation's identity tokens, with a server running or without. The new key is
/// shown at once and signs after a day; where the present one may be known to others (`at_once`), it signs from
/// now on, and all others are taken away: tokens that they signed are good for nobody any more.
///
/// # Errors
/// `Invalid` when a new key is shown already and waits to sign, or no key was made yet; `Ledger`.
pub async fn rotate_signing_key(
    ledger: &Ledger,
    wall_clock: Arc<dyn Clock>,
    tenant: TenantId,
    operator: &str,
    at_once: bool,
) -> Result<SigningRotation, TrustError> {
    let agent = Agent {
        name: operator.to_owned(),
        ..Agent::system(tenant, "command-line")
    };
    let auditor = Auditor::new(ledger.clone(), Arc::clone(&wall_clock));
    for _ in 0..RETRIES {
        let now_ms = wall_clock.now_ms();
        let Some(mut found) = kept(ledger, tenant).await? else {
            return Err(TrustError::Invalid(
                "there is no key yet: the first is made when an application with the scope openid is registered, or a server starts that lets people into visits by video"
                    .to_owned(),
            ));
        };
        let document = &mut found.body;
        let from_ms = if at_once {
            document.keys.clear();
            now_ms
        } else if document.newest_ms() > now_ms {
            return Err(TrustError::Invalid(format!(
                "a new key is shown already, and signs from {} on",
                fhir::date::instant(document.newest_ms())
            )));
        } else {
            now_ms.saturating_add(SIGNING_AHEAD_MS)
        };
        let key = made(from_ms).await?;
        let id = key.id.clone();
        document.keys.push(key);
        let note = match at_once {
            true => format!("key {id} signs identity tokens from now on; all before it are gone"),
            false => format!("key {id} signs identity tokens from tomorrow on"),
        };
        let expected = Expected::Version(found.version);
        if write(ledger, &auditor, &agent, expected, document, &note).await? {
            return Ok(SigningRotation { id, from_ms });
        }
    }
    Err(LedgerError::Conflict.into())
}

impl Identity {
    /// Sees to it that there is a key to sign with. Only what administrators do leads here, codes that people
    /// agreed to, and the start of a server that lets people into visits by video: strangers make this server write nothing.
    pub(super) async fn ensure_signing_key(&self, tenant: TenantId) -> Result<(), TrustError> {
        let inner = &self.inner;
        for _ in 0..RETRIES {
            if kept(&inner.ledger, tenant).await?.is_some() {
                return Ok(());
            }
            // Nobody knows a set yet, so the first signs at once.
            let key = made(self.now_ms()).await?;
            let note = format!("key {} signs identity tokens from now on", key.id);
            let document = SigningKeysDocument { keys: vec![key] };
            let agent = Agent::system(tenant, "identity");
            let (ledger, auditor, absent) = (&inner.ledger, &inner.auditor, Expected::Absent);
            if write(ledger, auditor, &agent, absent, &document, &note).await? {
                return Ok(());
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Rotates the key when its time has come, and takes away those that are over; says how many changes there
    /// were.
    pub(in crate::identity) async fn sweep_signing_keys(
        &self,
        tenant: TenantId,
    ) -> Result<usize, TrustError> {
        let (ledger, now_ms) = (&self.inner.ledger, self.now_ms());
        let Some(mut found) = kept(ledger, tenant).await? else {
            return Ok(0);
        };
        let document = &mut found.body;
        let forgot = document.forget(now_ms);
        let note = if document.is_due(now_ms) {
            let key = made(now_ms.saturating_add(SIGNING_AHEAD_MS)).await?;
            let note = format!("key {} signs identity tokens from tomorrow on", key.id);
            document.keys.push(key);
            note
        } else if forgot {
            "keys that signed identity tokens are gone".to_owned()
        } else {
            return Ok(0);
        };
        let agent = Agent::system(tenant, "identity");
        let (auditor, expected) = (&self.inner.auditor, Expected::Version(found.version));
        // Whoever was faster did the same, or an operator something else; the next sweep looks again.
        let done = write(ledger, auditor, &agent, expected, document, &note).await?;
        Ok(usize::from(done))
    }

    /// The public keys that identity tokens are checked with, as a JSON Web Key Set; empty as long as no
    /// application signs people in and no visits are held by video.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn signing_set(&self, tenant: TenantId) -> Result<Value, TrustError> {
        let found = kept(&self.inner.ledger, tenant).await?;
        let keys = found.map(|kept| kept.body.keys).unwrap_or_default();
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| {
                json!({"kty": "RSA", "kid": key.id, "use": "sig", "alg": ALGORITHM, "n": key.n, "e": key.e})
            })
            .collect();
        Ok(json!({ "keys": keys }))
    }

    /// Claims as a signed JWT of a type (RFC 8725, section 3.11).
    pub(super) async fn signed(
        &self,
        tenant: TenantId,
        kind: &str,
        claims: &Value,
    ) -> Result<String, TrustError> {
        self.ensure_signing_key(tenant).await?;
        let found = kept(&self.inner.ledger, tenant).await?;
        let keys = found.ok_or_else(unable)?.body;
        let key = keys.signs(self.now_ms()).ok_or_else(unable)?;
        let der = URL_SAFE_NO_PAD.decode(&key.secret).map_err(|_| unable())?;
        let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| unable())?;
        let header = json!({"alg": ALGORITHM, "kid": key.id, "typ": kind});
        let signed = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        pair.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        )
        .map_err(|_| unable())?;
        Ok(format!("{signed}.{}", text(&signature)))
    }
}

impl Identity {
    /// What checks a signature of ours, by the key's id.
    pub(super) async fn checks(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<DecodingKey>, TrustError> {
        let found = kept(&self.inner.ledger, tenant).await?;
        let keys = found.map(|kept| kept.body.keys).unwrap_or_default();
        let key = keys.iter().find(|key| key.id == id);
        let key = key.map(|key| DecodingKey::from_rsa_components(&key.n, &key.e));
        key.transpose().map_err(|_| unable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn keys(all: &[u64]) -> SigningKeysDocument {
        let key = |from_ms: &u64| SigningKey {
            id: from_ms.to_string(),
            n: String::new(),
            e: String::new(),
            secret: String::new(),
            from_ms: *from_ms,
        };
        SigningKeysDocument {
            keys: all.iter().map(key).collect(),
        }
    }

    #[test]
    fn a_key_is_shown_before_it_signs_and_after() {
        let mut document = keys(&[100, 100 + 90 * DAY_MS]);
        let signs = |document: &SigningKeysDocument, now_ms| {
            document.signs(now_ms).map(|key| key.from_ms).unwrap()
        };
        let next = 100 + 90 * DAY_MS;
        assert_eq!(signs(&document, 0), 100, "the clock was set back");
        assert_eq!(signs(&document, 100), 100);
        assert_eq!(signs(&document, next - 1), 100);
        assert_eq!(signs(&document, next), next);
        assert!(!document.forget(next + DAY_MS - 1));
        assert!(document.forget(next + DAY_MS));
        assert_eq!(document.keys.len(), 1);
        assert!(!document.forget(next + 1000 * DAY_MS), "the last one stays");
        assert!(!document.is_due(next + 89 * DAY_MS - 1));
        assert!(document.is_due(next + 89 * DAY_MS));
    }
}
