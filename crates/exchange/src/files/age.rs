//! A file that one key alone opens: the format `age-encryption.org/v1` (C2SP, `age.md`) for one X25519 recipient.
//!
//! What is random in it is made of a seed that is kept, of the file's name and of its content, so that the same file
//! comes out again when it is written again, and no key or nonce is ever used for another content.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;

/// Bytes of a public key.
const POINT_BYTES: usize = 32;
/// Bytes of a file key, and of the payload's nonce.
const FILE_KEY_BYTES: usize = 16;
/// Bytes of a chunk of the payload.
const CHUNK_BYTES: usize = 64 * 1_024;
/// What recipients begin with.
const PREFIX: &str = "age";

/// Whom files are sealed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient([u8; POINT_BYTES]);

impl Recipient {
    /// By its text form, `age1…` (Bech32, BIP 173).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
        if checked.hrp().to_lowercase() != PREFIX {
            return None;
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let recipient = Self(bytes.try_into().ok()?);
        // A point of small order gives no secret to anybody.
        seal(&recipient, &[0; 32], "", b"").map(|_| recipient)
    }
}

/// A length of key material.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]], length: usize) -> Option<Vec<u8>> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let mut bytes = vec![0; length];
    let key = derived.expand(info, Length(length)).ok()?;
    key.fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Seals a content. `None` where the recipient's key is no point that a secret can be agreed on with.
pub(crate) fn seal(
    recipient: &Recipient,
    seed: &[u8; 32],
    name: &str,
    content: &[u8],
) -> Option<Vec<u8>> {
    let digest = digest::digest(&digest::SHA256, content);
    let made = |what: &[u8], length| {
        let info: [&[u8]; 4] = [what, digest.as_ref(), &recipient.0, name.as_bytes()];
        derive(b"cairn hand-over", seed, &info, length)
    };
    let file_key = made(b"file key", FILE_KEY_BYTES)?;
    let own = PrivateKey::from_private_key(&X25519, &made(b"share", POINT_BYTES)?).ok()?;
    let nonce = made(b"nonce", FILE_KEY_BYTES)?;

    let public = own.compute_public_key().ok()?;
    let share = public.as_ref();
    let salt = [share, &recipient.0].concat();
    let theirs = UnparsedPublicKey::new(&X25519, &recipient.0);
    let wrap = agree(&own, theirs, (), |shared| {
        derive(&salt, shared, &[b"age-encryption.org/v1/X25519"], 32).ok_or(())
    });
    let mut wrapped = file_key.clone();
    cipher(&wrap.ok()?)?
        .seal_in_place_append_tag(zero(), Aad::empty(), &mut wrapped)
        .ok()?;
    let head = format!(
        "age-encryption.org/v1\n-> X25519 {}\n{}\n---",
        STANDARD_NO_PAD.encode(share),
        STANDARD_NO_PAD.encode(wrapped)
    );
    let mac_key = derive(b"", &file_key, &[b"header"], 32)?;
    let mac = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &mac_key),
        head.as_bytes(),
    );
    let mut sealed = format!("{head} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes();
    sealed.extend(&nonce);

    let payload = cipher(&derive(&nonce, &file_key, &[b"payload"], 32)?)?;
    let mut chunks = content.chunks(CHUNK_BYTES).peekable();
    let mut counter: u64 = 0;
    loop {
        let mut chunk = chunks.next().unwrap_or_default().to_vec();
        let is_last = chunks.peek().is_none();
        let mut bytes = [0; 12];
        bytes[3..11].copy_from_slice(&counter.to_be_bytes());
        bytes[11] = u8::from(is_last);
        payload
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(bytes),
                Aad::empty(),
                &mut chunk,
            )
            .ok()?;
        sealed.extend(chunk);
        if is_last {
            return Some(sealed);
        }
        counter += 1;
    }
}

fn cipher(key: &[u8]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(
        UnboundKey::new(&CHACHA20_POLY1305, key).ok()?,
    ))
}

fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

    #[test]
    fn the_same_content_is_the_same_file_and_another_is_sealed_by_another_key() {
        let recipient = Recipient::parse(KEY).expect("a recipient");
        let seal = |seed: u8, name: &str, content: &[u8]| {
            super::seal(&recipient, &[seed; 32], name, content).expect("sealed")
        };
        let one = seal(1, "a", b"content");
        assert_eq!(one, seal(1, "a", b"content"));
        // The share, in the second line, is another one each time.
        let share = |sealed: &[u8]| {
            sealed
                .split(|byte| *byte == b'\n')
                .nth(1)
                .map(<[u8]>::to_vec)
        };
        for other in [
            seal(2, "a", b"content"),
            seal(1, "b", b"content"),
            seal(1, "a", b"Content"),
        ] {
            assert_ne!(share(&one), share(&other));
        }
        for (length, chunks) in [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2)] {
            let sealed = seal(1, "a", &vec![7; length]);
            let head = seal(1, "a", b"").len() - 16;
            assert_eq!(sealed.len() - head, length + 16 * chunks, "{length}");
        }
    }

    #[test]
    fn recipients_are_read_by_their_checksum() {
        for (text, good) in [
            (KEY, true),
            (&KEY.to_uppercase(), true),
            (&KEY.replace("age1l", "age1p"), false),
            ("age1", false),
            ("", false),
            (
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN",
                false,
            ),
        ] {
            assert_eq!(Recipient::parse(text).is_some(), good, "{text}");
        }
    }
}
