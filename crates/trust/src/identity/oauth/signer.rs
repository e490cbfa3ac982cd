//! A client's key, for tests: it signs with AWS-LC itself, so that what checks signatures is not what made
//! them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA384, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Curve(EcdsaKeyPair),
}

/// A key with its id.
pub(crate) struct Signer {
    pair: Pair,
    pub(crate) id: String,
}

impl Signer {
    /// P-384.
    pub(crate) fn curve(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
        Self {
            pair: Pair::Curve(pair),
            id: id.to_owned(),
        }
    }

    /// RSA of 2048 bits.
    pub(crate) fn rsa(id: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        Self {
            pair: Pair::Rsa(Box::new(pair)),
            id: id.to_owned(),
        }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS384",
            Pair::Curve(_) => "ES384",
        }
    }

    /// The public part.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                json!({
                    "kty": "RSA", "kid": self.id, "use": "sig", "alg": "RS384",
                    "n": text(key.modulus().big_endian_without_leading_zero()),
                    "e": text(key.exponent().big_endian_without_leading_zero()),
                })
            }
            Pair::Curve(pair) => {
                let point = pair.public_key().as_ref();
                json!({
                    "kty": "EC", "kid": self.id, "crv": "P-384",
                    "x": text(&point[1..49]), "y": text(&point[49..97]),
                })
            }
        }
    }

    /// The public part as a set.
    pub(crate) fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// A header as clients send it.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"})
    }

    /// A JWT.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(header), text(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA384,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .expect("a signature");
                signature
            }
            Pair::Curve(pair) => {
                let signature = pair.sign(&random, signed.as_bytes()).expect("a signature");
                signature.as_ref().to_vec()
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
