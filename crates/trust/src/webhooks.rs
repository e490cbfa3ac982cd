//! How what is sent to other servers is signed: the Standard Webhooks specification (standardwebhooks.com, version 1.0.0).
//!
//! Three headers go with each request: `webhook-id`, which stays the same for everything that tells of the same,
//! `webhook-timestamp`, seconds since the epoch of the attempt, and `webhook-signature`, signatures with spaces between,
//! one for each key in force. What is signed is id, timestamp and body, with full stops between. `v1` is HMAC with
//! SHA-256 by a secret that both have (`whsec_…`), `v1a` Ed25519 by a private key (`whsk_…`) whose public one (`whpk_…`) the
//! receiver has.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The header with the id.
pub const ID_HEADER: &str = "webhook-id";
/// That with the second in which it was signed.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// That with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// Bytes of a secret that is made here; the specification asks for 24 to 64.
pub const SECRET_BYTES: usize = 32;
/// How many keys a file of a partner's has: the one before stays good while its receiver changes.
pub const AT_ONCE: usize = 2;

/// What stands before a secret, a private key and a public key.
const SECRET: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";
/// Bytes of a seed of Ed25519 (RFC 8032).
const SEED_BYTES: usize = 32;

/// A key that requests are signed with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningKey {
    /// A secret that the receiver has, too: base64.
    Secret(String),
    /// The seed of a private key of Ed25519, whose public one the receiver has: base64.
    Seed(String),
    /// What a newer program signs with. It is kept as it is, and signs nothing here.
    #[serde(untagged)]
    Other(serde_json::Value),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Secret(_) => "Secret(…)",
            Self::Seed(_) => "Seed(…)",
            Self::Other(_) => "Other(…)",
        })
    }
}

impl SigningKey {
    /// A secret of these bytes.
    #[must_use]
    pub fn secret(bytes: &[u8]) -> Self {
        Self::Secret(STANDARD.encode(bytes))
    }

    /// A private key of this seed.
    #[must_use]
    pub fn seed(bytes: [u8; SEED_BYTES]) -> Self {
        Self::Seed(STANDARD.encode(bytes))
    }

    /// As people write it: `whsec_` with base64 of 24 to 64 bytes behind it, or `whsk_` with base64 of a seed, or of a seed with
    /// its public key behind it. None for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(encoded) = text.strip_prefix(SECRET) {
            let bytes = STANDARD.decode(encoded).ok()?;
            return (24..=64)
                .contains(&bytes.len())
                .then(|| Self::secret(&bytes));
        }
        let bytes = STANDARD.decode(text.strip_prefix(PRIVATE)?).ok()?;
        let seed: [u8; SEED_BYTES] = bytes.get(..SEED_BYTES)?.try_into().ok()?;
        let public = bytes.get(SEED_BYTES..)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        let fits = public.is_empty() || public == pair.public_key().as_ref();
        fits.then(|| Self::seed(seed))
    }

    /// What its receiver is given: the secret (`whsec_…`), or the public key (`whpk_…`). Empty of what is not known here.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Secret(encoded) => format!("{SECRET}{encoded}"),
            Self::Seed(_) => {
                let public = self
                    .pair()
                    .map(|pair| STANDARD.encode(pair.public_key().as_ref()));
                format!("{PUBLIC}{}", public.unwrap_or_default())
            }
            Self::Other(_) => String::new(),
        }
    }

    fn pair(&self) -> Option<Ed25519KeyPair> {
        let Self::Seed(encoded) = self else {
            return None;
        };
        Ed25519KeyPair::from_seed_unchecked(&STANDARD.decode(encoded).ok()?).ok()
    }

    /// The signature of a text with the version before it; none where the key is no key.
    fn sign(&self, text: &[u8]) -> Option<String> {
        Some(match self {
            Self::Secret(encoded) => {
                let key = STANDARD.decode(encoded).ok()?;
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                format!("v1,{}", STANDARD.encode(hmac::sign(&key, text).as_ref()))
            }
            Self::Seed(_) => {
                format!("v1a,{}", STANDARD.encode(self.pair()?.sign(text).as_ref()))
            }
            Self::Other(_) => return None,
        })
    }
}

/// The value of `webhook-signature`: a signature by each key, in their order. Empty where there is none.
#[must_use]
pub fn signatures<'a>(
    keys: impl IntoIterator<Item = &'a SigningKey>,
    (id, at_s): (&str, u64),
    body: &[u8],
) -> String {
    let mut text = format!("{id}.{at_s}.").into_bytes();
    text.extend_from_slice(body);
    let each = keys.into_iter().filter_map(|key| key.sign(&text));
    each.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_as_the_specification_has_it() {
        // The specification's own example.
        let secret = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signed = signatures(
            [&secret],
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn keys_are_read_strictly() {
        let seed = [7; SEED_BYTES];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key");
        let whole = [&seed[..], pair.public_key().as_ref()].concat();
        let with = |prefix: &str, bytes: &[u8]| format!("{prefix}{}", STANDARD.encode(bytes));
        for (text, expected) in [
            (with("whsec_", &[1; 24]), Some(SigningKey::secret(&[1; 24]))),
            (with("whsec_", &[1; 64]), Some(SigningKey::secret(&[1; 64]))),
            (with("whsec_", &[1; 23]), None),
            (with("whsec_", &[1; 65]), None),
            (with("whsk_", &seed), Some(SigningKey::seed(seed))),
            (with("whsk_", &whole), Some(SigningKey::seed(seed))),
            (with("whsk_", &[7; 64]), None),
            (with("whsk_", &seed[1..]), None),
            (with("", &[1; 24]), None),
            ("whsec_no base64".to_owned(), None),
        ] {
            assert_eq!(SigningKey::parse(&text), expected, "{text}");
        }
        assert!(SigningKey::seed(seed).shown().starts_with("whpk_"));
        assert!(!format!("{:?}", SigningKey::secret(&[1; 24])).contains("AQEB"));
    }

    #[test]
    fn two_keys_make_two_signatures() {
        let keys = [SigningKey::secret(&[1; 32]), SigningKey::seed([2; 32])];
        let signed = signatures(&keys, ("id", 7), b"");
        let parts: Vec<&str> = signed.split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].starts_with("v1,") && parts[1].starts_with("v1a,"));
        assert_eq!(signatures(&[], ("id", 7), b""), "");
    }
}
