//! The key by which this server proves to a provider who it is (`private_key_jwt`, OpenID Connect Core 1.0,
//! section 9; RFC 7523).

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::Entropy;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use crate::TrustError;

/// How long a proof is good for; it is made for one request.
const LIFE_S: u64 = 60;
/// Bytes of a proof's id.
const ID_BYTES: usize = 16;
/// Of RSA keys, as for those of clients (decision 44).
const RSA_BITS_MIN: usize = 2048;

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key of this server, for one provider.
pub struct ClientKey {
    pair: Pair,
    /// RFC 7638.
    thumbprint: String,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl ClientKey {
    /// Reads a key: PEM with PKCS #8 in it, as `openssl genpkey` writes it. RSA of 2048 bits or more, P-256,
    /// P-384 or Ed25519.
    ///
    /// # Errors
    /// `Invalid` when it is none of these.
    pub fn parse(pem: &str) -> Result<Self, TrustError> {
        let invalid = || {
            TrustError::Invalid(
                "is no private key in PEM (-----BEGIN PRIVATE KEY-----) of RSA with 2048 bits or more, P-256, P-384 \
                 or Ed25519"
                    .to_owned(),
            )
        };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| invalid())?;
        let der = der.secret_pkcs8_der();
        let curve = |of| EcdsaKeyPair::from_pkcs8(of, der).ok();
        let pair = if let Some(pair) = curve(&ECDSA_P256_SHA256_FIXED_SIGNING) {
            Pair::P256(pair)
        } else if let Some(pair) = curve(&ECDSA_P384_SHA384_FIXED_SIGNING) {
            Pair::P384(pair)
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Pair::Ed25519(pair)
        } else if let Ok(pair) = RsaKeyPair::from_pkcs8(der)
            && pair.public_modulus_len() * 8 >= RSA_BITS_MIN
        {
            Pair::Rsa(Box::new(pair))
        } else {
            return Err(invalid());
        };
        let thumbprint = thumbprint(&members(&pair));
        Ok(Self { pair, thumbprint })
    }

    /// The algorithm that it signs by.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The public part as a set, for the provider.
    #[must_use]
    pub fn public_set(&self) -> Value {
        let mut key = members(&self.pair);
        key.insert("kid".to_owned(), self.thumbprint.clone().into());
        key.insert("use".to_owned(), "sig".into());
        key.insert("alg".to_owned(), self.algorithm().into());
        json!({ "keys": [key] })
    }

    /// A proof of `client_id` for one request to `audience`.
    ///
    /// # Errors
    /// `Invalid` when the key can't sign.
    pub fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now_ms: u64,
        entropy: &dyn Entropy,
    ) -> Result<String, TrustError> {
        let unable =
            || TrustError::Invalid("the key for the identity provider can't sign".to_owned());
        let mut id = [0; ID_BYTES];
        entropy.fill(&mut id);
        let now_s = now_ms / 1000;
        let header = json!({"alg": self.algorithm(), "kid": self.thumbprint, "typ": "JWT"});
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": audience, "jti": text(&id), "iat": now_s, "exp": now_s + LIFE_S,
        });
        let signed = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => {
                let signature = pair.sign(&random, signed.as_bytes());
                signature.map_err(|_| unable())?.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .map_err(|_| unable())?;
                signature
            }
        };
        Ok(format!("{signed}.{}", text(&signature)))
    }
}

/// RFC 7638, of members in its order: serde_json keeps the order in which they were put in.
pub(in crate::identity) fn thumbprint(members: &Map<String, Value>) -> String {
    let plain = serde_json::to_vec(members).unwrap_or_default();
    text(digest::digest(&digest::SHA256, &plain).as_ref())
}

/// What makes the public key, in the order of RFC 7638.
fn members(pair: &Pair) -> Map<String, Value> {
    let curve = |pair: &EcdsaKeyPair, name: &str| {
        // An uncompressed point: a byte, then both coordinates.
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        json!({"crv": name, "kty": "EC", "x": text(x), "y": text(y)})
    };
    let value = match pair {
        Pair::P256(pair) => curve(pair, "P-256"),
        Pair::P384(pair) => curve(pair, "P-384"),
        Pair::Ed25519(pair) => {
            json!({"crv": "Ed25519", "kty": "OKP", "x": text(pair.public_key().as_ref())})
        }
        Pair::Rsa(pair) => {
            let key = pair.public_key();
            let e = text(key.exponent().big_endian_without_leading_zero());
            let n = text(key.modulus().big_endian_without_leading_zero());
            json!({"e": e, "kty": "RSA", "n": n})
        }
    };
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
