//! What is sent to a browser, so that it alone can read it (RFC 8291: `aes128gcm` of RFC 8188 in one record).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use trust::identity::PushBrowser;

/// Bytes of the salt, of the key and of the nonce (RFC 8188, section 2.2).
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Bytes of a public key that isn't compressed.
const POINT_BYTES: usize = 65;
/// The record's size, as its head says it: services take bodies of 4096 bytes (RFC 8030, section 7.2).
const RECORD_BYTES: u32 = 4_096;
/// What ends the last record (RFC 8188, section 2).
const LAST: u8 = 2;

/// A length of key material.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HMAC's key derivation (RFC 5869) into a few bytes.
fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]], length: usize) -> Option<Vec<u8>> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let mut bytes = vec![0; length];
    let key = derived.expand(info, Length(length)).ok()?;
    key.fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Seals a text for a device, filled up to `padded` bytes, so that its length tells nothing. `None` where the device's
/// key is no point of the curve, or the text is too long for one record.
pub(super) fn seal(
    device: &PushBrowser,
    text: &[u8],
    padded: usize,
    salt: [u8; SALT_BYTES],
) -> Option<Vec<u8>> {
    let own = PrivateKey::generate(&ECDH_P256).ok()?;
    seal_by(&own, (&device.key, &device.auth), text, padded, salt)
}

fn seal_by(
    own: &PrivateKey,
    (theirs, auth): (&[u8], &[u8]),
    text: &[u8],
    padded: usize,
    salt: [u8; SALT_BYTES],
) -> Option<Vec<u8>> {
    let public = own.compute_public_key().ok()?;
    let public = public.as_ref();
    if public.len() != POINT_BYTES || theirs.len() != POINT_BYTES {
        return None;
    }
    let peer = UnparsedPublicKey::new(&ECDH_P256, theirs);
    // RFC 8291, section 3.4.
    let info: [&[u8]; 3] = [b"WebPush: info\0", theirs, public];
    let ikm = agree(own, peer, (), |shared| {
        derive(auth, shared, &info, 32).ok_or(())
    });
    let ikm = ikm.ok()?;
    let key = derive(&salt, &ikm, &[b"Content-Encoding: aes128gcm\0"], KEY_BYTES)?;
    let nonce = derive(&salt, &ikm, &[b"Content-Encoding: nonce\0"], NONCE_BYTES)?;
    let mut record = text.to_vec();
    record.push(LAST);
    record.resize(record.len().max(padded), 0);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record)
        .ok()?;
    // RFC 8188, section 2.1, with the sender's public key as the key's id.
    let mut body = salt.to_vec();
    body.extend(RECORD_BYTES.to_be_bytes());
    body.push(u8::try_from(POINT_BYTES).ok()?);
    body.extend(public);
    body.extend(record);
    (body.len() <= RECORD_BYTES as usize).then_some(body)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    /// The example of RFC 8291, section 5 and appendix A.
    #[test]
    fn the_example_of_the_standard_comes_out_byte_by_byte() {
        let own = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let own = PrivateKey::from_private_key(&ECDH_P256, &own).expect("a key");
        let theirs = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg");
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw");
        let salt = salt.try_into().expect("a salt");
        let text = b"When I grow up, I want to be a watermelon";
        let body = seal_by(&own, (&theirs, &auth), text, 0, salt).expect("sealed");
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(URL_SAFE_NO_PAD.encode(&body), expected);
    }

    #[test]
    fn lengths_tell_nothing_and_are_bounded() {
        let theirs = PrivateKey::generate(&ECDH_P256).expect("a key");
        let theirs = theirs.compute_public_key().expect("a key");
        let device = |key: &[u8]| PushBrowser {
            endpoint: "https://push.example/d".to_owned(),
            key: key.to_vec(),
            auth: vec![7; 16],
            signer: String::new(),
        };
        let good = device(theirs.as_ref());
        let sealed = |text: &[u8]| seal(&good, text, 1_024, [1; 16]);
        let short = sealed(b"a").expect("sealed");
        let long = sealed(&[b'a'; 900]).expect("sealed");
        assert_eq!(short.len(), long.len());
        assert!(sealed(&[b'a'; 4_096]).is_none());
        // No point of the curve.
        let mut off = theirs.as_ref().to_vec();
        off[64] ^= 1;
        assert!(seal(&device(&off), b"a", 0, [1; 16]).is_none());
        assert!(seal(&device(&[4; 65]), b"a", 0, [1; 16]).is_none());
        assert!(seal(&device(&[]), b"a", 0, [1; 16]).is_none());
        let shown = format!("{good:?}");
        assert!(!shown.contains("push.example"), "{shown}");
    }
}
