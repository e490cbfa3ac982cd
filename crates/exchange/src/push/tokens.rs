//! Signed tokens (JWT, RFC 7519, in the compact form of RFC 7515) by which a sender proves itself to a service, and keys
//! that are read for them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

/// The smallest RSA key that is taken (RFC 7518, section 3.3).
const RSA_BITS_MIN: usize = 2_048;

/// The key of a PEM file, PKCS #8 and not encrypted.
fn der(pem: &str) -> Option<PrivatePkcs8KeyDer<'static>> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()
}

/// An RSA key.
pub(super) fn rsa(pem: &str) -> Result<RsaKeyPair, &'static str> {
    let der = der(pem).ok_or("it holds no private key in PEM form (PKCS #8, not encrypted)")?;
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
        .map_err(|_| "its private key is no RSA key that can be used")?;
    match pair.public_modulus_len() * 8 >= RSA_BITS_MIN {
        true => Ok(pair),
        false => Err("its RSA key has fewer than 2048 bits"),
    }
}

/// A key of the curve P-256.
pub(super) fn curve(pem: &str) -> Result<EcdsaKeyPair, &'static str> {
    let der = der(pem).ok_or("it holds no private key in PEM form (PKCS #8, not encrypted)")?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
        .map_err(|_| "its private key is none of the curve P-256")
}

fn unsigned(head: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(head), part(claims))
}

fn signed(unsigned: &str, signature: &[u8]) -> String {
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token signed with an RSA key (RS256); `None` when the key can't sign.
pub(super) fn by_rsa(key: &RsaKeyPair, head: &Value, claims: &Value) -> Option<String> {
    let unsigned = unsigned(head, claims);
    let mut signature = vec![0; key.public_modulus_len()];
    let text = unsigned.as_bytes();
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text,
        &mut signature,
    )
    .ok()?;
    Some(signed(&unsigned, &signature))
}

/// A token signed with a key of a curve (ES256); `None` when the key can't sign.
pub(super) fn by_curve(key: &EcdsaKeyPair, head: &Value, claims: &Value) -> Option<String> {
    let unsigned = unsigned(head, claims);
    let signature = key.sign(&SystemRandom::new(), unsigned.as_bytes()).ok()?;
    Some(signed(&unsigned, signature.as_ref()))
}
