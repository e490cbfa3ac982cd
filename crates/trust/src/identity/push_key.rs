//! The key by which push services know an organisation (Web Push, RFC 8292): one for each, made when it is needed first,
//! and sealed in the store.

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Expected, LedgerError, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::documents::{Kept, commit, draft, get};
use super::{Identity, RETRIES};
use crate::audit::{Event, Record};
use crate::{Agent, Purpose, TrustError, kinds};

/// Bytes of what stands for a key by which push services know us.
const PRINT_BYTES: usize = 12;
/// How long a token for a push service lasts. It may be a day (RFC 8292, section 2), and clocks differ.
const TOKEN_S: u64 = 12 * 3_600;

impl Identity {
    /// The key by which push services know an organisation, if there is one yet. For pages, which make none.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn known_push_key(&self, tenant: TenantId) -> Result<Option<PushKey>, TrustError> {
        let ledger = &self.inner.ledger;
        let id = ledger.derive_own_id(tenant, "push key");
        let found: Option<Kept<KeyDocument>> = get(ledger, tenant, kinds::PUSH_KEY, &id).await?;
        found.map(|kept| PushKey::open(&kept.body)).transpose()
    }

    /// The key by which push services know an organisation (RFC 8292), made when it is needed first.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn push_key(&self, tenant: TenantId) -> Result<PushKey, TrustError> {
        let ledger = &self.inner.ledger;
        let id = ledger.derive_own_id(tenant, "push key");
        for _ in 0..RETRIES {
            if let Some(known) = self.known_push_key(tenant).await? {
                return Ok(known);
            }
            let made = KeyDocument::make()?;
            let expected = Expected::Absent;
            let kind = kinds::PUSH_KEY;
            let draft = draft(ledger, tenant, kind, &id, expected, &made, &[], None)?;
            let agent = Agent::system(tenant, "identity");
            let mut record = Record::new(&agent, Event::KEYS_ROTATED);
            record.purpose = Some(Purpose::Administration);
            record.note = Some("a key was made by which push services know this organisation");
            let audit = self.inner.auditor.draft(&record);
            match commit(ledger, tenant, vec![draft], audit).await {
                // Somebody else was faster.
                Ok(()) | Err(LedgerError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LedgerError::Conflict.into())
    }
}

#[derive(Serialize, Deserialize)]
struct KeyDocument {
    /// PKCS #8, in base64url.
    secret: String,
}

fn unable() -> TrustError {
    TrustError::Damaged("the key for push services can't be used".to_owned())
}

impl KeyDocument {
    /// A new key. The library's own randomness makes it, as it makes the keys of TLS.
    fn make() -> Result<Self, TrustError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| unable())?;
        let secret = pair.to_pkcs8v1().map_err(|_| unable())?;
        Ok(Self {
            secret: URL_SAFE_NO_PAD.encode(secret.as_ref()),
        })
    }
}

/// The key by which push services know an organisation.
pub struct PushKey {
    pair: EcdsaKeyPair,
    public: String,
}

impl std::fmt::Debug for PushKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("PushKey");
        shown.field("public", &self.public).finish_non_exhaustive()
    }
}

impl PushKey {
    fn open(document: &KeyDocument) -> Result<Self, TrustError> {
        let secret = URL_SAFE_NO_PAD
            .decode(&document.secret)
            .map_err(|_| unable())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret)
            .map_err(|_| unable())?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    /// The public key, as browsers are given it (`applicationServerKey`): a point of P-256, in base64url.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// What stands for the public key. A push service takes nothing for a browser but what is signed by the key that the
    /// browser named when it asked for its place.
    #[must_use]
    pub fn print(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.public.as_bytes());
        URL_SAFE_NO_PAD.encode(hash.as_ref().get(..PRINT_BYTES).unwrap_or_default())
    }

    /// The value of `Authorization` for a push service (RFC 8292): who sends, signed. `contact` is where its operator
    /// finds who sends (`mailto:` or `https:`).
    ///
    /// # Errors
    /// `Damaged` when the key can't sign.
    pub fn authorization(
        &self,
        audience: &str,
        contact: &str,
        now_ms: u64,
    ) -> Result<String, TrustError> {
        let claims = json!({"aud": audience, "exp": now_ms / 1_000 + TOKEN_S, "sub": contact});
        let head = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ES256"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| unable())?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Ok(format!("vapid t={signed}.{signature}, k={}", self.public))
    }
}
