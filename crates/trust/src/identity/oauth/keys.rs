//! The public keys of a client, as a JSON Web Key Set (RFC 7517).
//!
//! Only keys that a signature of SMART's can be checked with are taken: RSA for RS384, and P-384 for ES384.
//! A set with a secret in it is refused, so that its owner learns that it is out.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::TrustError;

/// The most bytes of a set; a key has under a thousand.
pub const KEYS_BYTES_MAX: usize = 64 << 10;
/// The most keys of a set: the old and the new while they rotate, for some servers each.
const KEYS_MAX: usize = 20;
/// RSA keys of fewer bits are guessed some day (NIST SP 800-131A), of more take too long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of each coordinate of a P-384 key (RFC 7518, section 6.2.1).
const P384_BYTES: usize = 48;
/// Members that make a key a secret (RFC 7518, section 6).
const SECRETS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Keys that were checked.
pub(super) struct Keys(Vec<Jwk>);

impl Keys {
    /// Reads a set.
    pub(super) fn parse(text: &str) -> Result<Self, TrustError> {
        let invalid = |words: &str| TrustError::Invalid(format!("the key set {words}"));
        if text.len() > KEYS_BYTES_MAX {
            return Err(invalid(&format!("has more than {KEYS_BYTES_MAX} bytes")));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|_| invalid("is no JSON Web Key Set"))?;
        let keys = value.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| invalid("is no JSON Web Key Set: it has no keys"))?;
        if keys
            .iter()
            .any(|key| SECRETS.iter().any(|name| key.get(name).is_some()))
        {
            return Err(invalid(
                "holds a private or secret key, which is known to others from now on: make a new one, and give its public part only",
            ));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(invalid(&format!("has 1 to {KEYS_MAX} keys")));
        }
        let set: JwkSet = serde_json::from_value(value)
            .map_err(|_| invalid("has a key that is not understood"))?;
        let mut ids = std::collections::BTreeSet::new();
        for key in &set.keys {
            let id = key.common.key_id.as_deref().unwrap_or_default();
            if id.is_empty() || !ids.insert(id.to_owned()) {
                return Err(invalid("has a key without a kid of its own"));
            }
            if algorithm(key).is_none() {
                return Err(invalid(
                    "has a key that is neither RSA of 2048 to 8192 bits for RS384 nor P-384 for ES384, to verify signatures with",
                ));
            }
        }
        Ok(Self(set.keys))
    }

    /// Whether there is a key of an id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0
            .iter()
            .any(|key| key.common.key_id.as_deref() == Some(id))
    }

    /// Whether all of these are among others, whatever they are called there.
    pub(super) fn are_among(&self, others: &Self) -> bool {
        let is_there = |key: &Jwk| others.0.iter().any(|one| one.algorithm == key.algorithm);
        self.0.iter().all(is_there)
    }

    /// The key that a signature names, for its algorithm.
    pub(super) fn find(&self, id: &str, wanted: Algorithm) -> Option<DecodingKey> {
        let key = self
            .0
            .iter()
            .find(|key| key.common.key_id.as_deref() == Some(id))?;
        if algorithm(key) != Some(wanted) {
            return None;
        }
        DecodingKey::from_jwk(key).ok()
    }
}

/// The algorithm that a key is for, by its type and by what it says of itself.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    let (algorithm, named) = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) if RSA_BITS.contains(&bits(&rsa.n)?) => {
            (Algorithm::RS384, KeyAlgorithm::RS384)
        }
        AlgorithmParameters::EllipticCurve(curve)
            if curve.curve == EllipticCurve::P384
                && [&curve.x, &curve.y].map(|part| decoded(part).map(|bytes| bytes.len()))
                    == [Some(P384_BYTES); 2] =>
        {
            (Algorithm::ES384, KeyAlgorithm::ES384)
        }
        _ => return None,
    };
    let signs = key
        .common
        .public_key_use
        .as_ref()
        .is_none_or(|of| *of == PublicKeyUse::Signature);
    let is_for = key.common.key_algorithm.is_none_or(|of| of == named);
    (signs && is_for).then_some(algorithm)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .ok()
}

/// The bits of a number in base64url.
fn bits(number: &str) -> Option<usize> {
    let bytes = decoded(number)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let leading = bytes.get(first)?.leading_zeros() as usize;
    Some((bytes.len() - first) * 8 - leading)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A modulus of so many bytes; no key, but of the form of one.
    fn rsa(bytes: usize, more: &Value) -> Value {
        use base64::Engine as _;
        let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        let mut key = json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB"});
        for (name, value) in more.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    #[test]
    fn key_sets_that_are_taken_and_not() {
        let fine = rsa(256, &json!({}));
        let table = [
            (json!({"keys": [fine]}), ""),
            (
                json!({"keys": [rsa(256, &json!({"alg": "RS384", "use": "sig"}))]}),
                "",
            ),
            (json!({"keys": []}), "1 to 20"),
            (json!([]), "has no keys"),
            (
                json!({"keys": [rsa(256, &json!({"d": "AQAB"}))]}),
                "private",
            ),
            (
                json!({"keys": [{"kty": "oct", "kid": "a", "k": "AAAA"}]}),
                "secret",
            ),
            (json!({"keys": [rsa(128, &json!({}))]}), "2048"),
            (json!({"keys": [rsa(1025, &json!({}))]}), "2048"),
            (
                json!({"keys": [rsa(256, &json!({"alg": "RS256"}))]}),
                "RS384",
            ),
            (
                json!({"keys": [rsa(256, &json!({"use": "enc"}))]}),
                "verify",
            ),
            (json!({"keys": [rsa(256, &json!({"kid": ""}))]}), "kid"),
            (json!({"keys": [fine, fine]}), "kid"),
            (
                json!({"keys": [{"kty": "EC", "kid": "a", "crv": "P-256", "x": "AA", "y": "AA"}]}),
                "P-384",
            ),
            (
                json!({"keys": [{"kty": "EC", "kid": "a", "crv": "P-384", "x": "AA", "y": "AA"}]}),
                "P-384",
            ),
            (
                json!({"keys": [{"kty": "OKP", "kid": "a", "crv": "Ed25519", "x": "AA"}]}),
                "P-384",
            ),
        ];
        for (set, words) in table {
            match Keys::parse(&set.to_string()) {
                Ok(_) => assert_eq!(words, "", "{set}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!words.is_empty() && error.contains(words), "{set}: {error}");
                }
            }
        }
        assert!(Keys::parse(&" ".repeat(KEYS_BYTES_MAX + 1)).is_err());
        assert!(Keys::parse("no JSON").is_err());
    }
}
