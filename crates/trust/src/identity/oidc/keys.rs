//! The public keys of an issuer, as it publishes them (RFC 7517).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::TokenFault;
use crate::TrustError;
use crate::identity::KEYS_BYTES_MAX;

/// The most keys of a set that are looked at. Issuers have a few for each algorithm, old and new ones.
const KEYS_MAX: usize = 100;
/// RSA keys of fewer bits are guessed some day (NIST SP 800-131A), of more take too long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Members that make a key a secret (RFC 7518, section 6).
const SECRETS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Keys that signatures of an issuer can be checked with. Others in its set (for encryption, of algorithms
/// that aren't taken here) are passed over.
pub struct IssuerKeys(Vec<Jwk>);

impl IssuerKeys {
    /// Reads a set.
    ///
    /// # Errors
    /// `Invalid` when it is no set, too large, holds a secret, or has no key that signs.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let invalid = |words: &str| TrustError::Invalid(format!("the issuer's key set {words}"));
        if text.len() > KEYS_BYTES_MAX {
            return Err(invalid(&format!("has more than {KEYS_BYTES_MAX} bytes")));
        }
        let mut value: Value =
            serde_json::from_str(text).map_err(|_| invalid("is no JSON Web Key Set"))?;
        let Some(Value::Array(all)) = value.get_mut("keys").map(Value::take) else {
            return Err(invalid("is no JSON Web Key Set: it has no keys"));
        };
        if all.len() > KEYS_MAX {
            return Err(invalid(&format!("has more than {KEYS_MAX} keys")));
        }
        // Whoever read the set can sign as the issuer.
        if all
            .iter()
            .any(|key| SECRETS.iter().any(|name| key.get(name).is_some()))
        {
            return Err(invalid("holds a private or secret key"));
        }
        let keys: Vec<Jwk> = all
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter(signs)
            .collect();
        if keys.is_empty() {
            return Err(invalid("has no key that signatures can be checked with"));
        }
        Ok(Self(keys))
    }

    /// The one key for a token's algorithm and key id. A token may leave the id out where only one key fits
    /// (OpenID Connect Core 1.0, section 10.1).
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, TokenFault> {
        let mut fitting = self.0.iter().filter(|key| {
            let has_id = id.is_none() || key.common.key_id.as_deref() == id;
            has_id && fits(key, algorithm)
        });
        let key = fitting.next().ok_or(TokenFault::UnknownKey)?;
        if fitting.next().is_some() {
            return Err(TokenFault::Refused(
                "the token may be signed by more than one of the issuer's keys",
            ));
        }
        DecodingKey::from_jwk(key)
            .map_err(|_| TokenFault::Refused("the issuer's key can't be used"))
    }
}

/// The algorithm of a token, if it is one of those that are taken whatever the header says: no MAC, whose
/// secret the public key could be taken for, and nothing unsigned.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// `at_hash` of an access token beside an identity token of an algorithm: the left half of the hash that the
/// algorithm uses (OpenID Connect Core 1.0, section 3.1.3.6). For EdDSA that is Ed25519's.
pub(in crate::identity) fn half_hash(access_token: &str, algorithm: Algorithm) -> String {
    let hash = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
        _ => &digest::SHA256,
    };
    let whole = digest::digest(hash, access_token.as_bytes());
    let (half, _) = whole.as_ref().split_at(whole.as_ref().len() / 2);
    URL_SAFE_NO_PAD.encode(half)
}

/// Whether a key is for checking signatures of some algorithm that is taken.
fn signs(key: &Jwk) -> bool {
    let common = &key.common;
    let is_meant = (common.public_key_use.as_ref()).is_none_or(|of| *of == PublicKeyUse::Signature)
        && (common.key_operations.as_ref()).is_none_or(|all| all.contains(&KeyOperations::Verify));
    let is_strong = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) => bits(&rsa.n).is_some_and(|n| RSA_BITS.contains(&n)),
        AlgorithmParameters::EllipticCurve(of) => {
            matches!(of.curve, EllipticCurve::P256 | EllipticCurve::P384)
        }
        AlgorithmParameters::OctetKeyPair(of) => of.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    is_meant && is_strong
}

/// Whether a key is for an algorithm, by its type and by what it says of itself.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let (of_type, named) = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => (true, KeyAlgorithm::RS256),
        (AlgorithmParameters::RSA(_), Algorithm::RS384) => (true, KeyAlgorithm::RS384),
        (AlgorithmParameters::RSA(_), Algorithm::RS512) => (true, KeyAlgorithm::RS512),
        (AlgorithmParameters::RSA(_), Algorithm::PS256) => (true, KeyAlgorithm::PS256),
        (AlgorithmParameters::RSA(_), Algorithm::PS384) => (true, KeyAlgorithm::PS384),
        (AlgorithmParameters::RSA(_), Algorithm::PS512) => (true, KeyAlgorithm::PS512),
        (AlgorithmParameters::EllipticCurve(of), Algorithm::ES256) => {
            (of.curve == EllipticCurve::P256, KeyAlgorithm::ES256)
        }
        (AlgorithmParameters::EllipticCurve(of), Algorithm::ES384) => {
            (of.curve == EllipticCurve::P384, KeyAlgorithm::ES384)
        }
        (AlgorithmParameters::OctetKeyPair(_), Algorithm::EdDSA) => (true, KeyAlgorithm::EdDSA),
        _ => return false,
    };
    of_type && key.common.key_algorithm.is_none_or(|of| of == named)
}

/// The bits of a number in base64url.
fn bits(number: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(number).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let leading = bytes.get(first)?.leading_zeros() as usize;
    Some((bytes.len() - first) * 8 - leading)
}
