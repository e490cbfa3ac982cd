//! Sealing: zstd, then AES-256-GCM.
//!
//! A nonce is 96 random bits. That would not do for one key over a nation's records, so no key of
//! the hierarchy seals a body itself: each document version and outbox entry has a key of its own,
//! derived from its data key and its name. A nonce could only repeat among attempts to write the
//! same version.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zstd::zstd_safe::{
    CCtx, CDict, DCtx, DDict, compress_bound, get_error_name, get_frame_content_size,
};

use crate::codec::{Decoder, put_varint};
use crate::keys::Secret;
use crate::{Entropy, Kind, LedgerError};

/// The greatest body of a document or outbox entry, bytes.
pub(crate) const MAX_BODY_BYTES: usize = 16 << 20;
/// The greatest id, bytes (FHIR `id`: 1–64 characters).
pub(crate) const MAX_ID_BYTES: usize = 64;
/// Level 3 was measured at 3–7 µs a resource; higher levels cost a multiple for a few per cent.
const ZSTD_LEVEL: i32 = 3;

#[allow(
    clippy::expect_used,
    reason = "an AES-256 key has 32 bytes, and 32 are given"
)]
fn aes(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key"))
}

/// Seals `plain`: nonce, ciphertext, tag.
pub(crate) fn seal(
    key: &Secret,
    entropy: &dyn Entropy,
    associated: &[u8],
    mut plain: Vec<u8>,
) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    #[allow(clippy::expect_used, reason = "AES-GCM refuses only more than 64 GiB")]
    let tag = aes(key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated),
            &mut plain,
        )
        .expect("a body is far below AES-GCM's bound");
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + tag.as_ref().len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&plain);
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Opens what [`seal`] sealed; `None` when the key, the associated data or a bit is another.
pub(crate) fn open(key: &Secret, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut plain = body.to_vec();
    let length = aes(key)
        .open_in_place(nonce, Aad::from(associated), &mut plain)
        .ok()?
        .len();
    plain.truncate(length);
    Some(plain)
}

/// Compresses with the store's dictionaries. Contexts are kept, because making one costs more than
/// compressing a resource.
pub(crate) struct Packer {
    /// Which dictionary new bodies are compressed with.
    choice: Choice,
    compressing: HashMap<u32, CDict<'static>>,
    dictionaries: RwLock<HashMap<u32, Arc<DDict<'static>>>>,
    compressors: Mutex<Vec<CCtx<'static>>>,
    decompressors: Mutex<Vec<DCtx<'static>>>,
}

/// Versions of dictionaries for new bodies; 0 is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    pub(crate) by_kind: HashMap<Kind, u32>,
    /// For all other kinds, and for what has no kind.
    pub(crate) other: u32,
}

/// How a zstd frame begins (RFC 8878, 3.1.1), and its first byte, with which no bare frame begins: the
/// descriptor that a bare one begins with has that byte's fourth bit reserved.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The bits of a frame's descriptor that say how long the dictionary's id is.
const ID_BITS: u8 = 0b11;
/// The bit that says that no window descriptor follows.
const SINGLE_SEGMENT: u8 = 0b10_0000;

/// A frame without its magic number and the dictionary's id: eight bytes that every body would have, and
/// its row says which dictionary it was.
fn bare(frame: &[u8]) -> Option<Vec<u8>> {
    let (descriptor, rest) = frame.strip_prefix(&MAGIC)?.split_first()?;
    let window = usize::from(descriptor & SINGLE_SEGMENT == 0);
    let id = match descriptor & ID_BITS {
        3 => 4,
        length => usize::from(length),
    };
    let (window, rest) = rest.split_at_checked(window)?;
    let rest = rest.get(id..)?;
    Some([&[descriptor & !ID_BITS], window, rest].concat())
}

fn refused(code: usize) -> LedgerError {
    LedgerError::Damaged(format!("zstd: {}", get_error_name(code)))
}

impl Packer {
    /// `dictionaries` by version: those that the store was ever written with.
    pub(crate) fn new(choice: Choice, dictionaries: &HashMap<u32, Vec<u8>>) -> Self {
        let used = |version: &u32| {
            *version == choice.other || choice.by_kind.values().any(|used| used == version)
        };
        Self {
            compressing: dictionaries
                .iter()
                .filter(|(version, _)| used(version))
                .map(|(version, bytes)| (*version, CDict::create(bytes, ZSTD_LEVEL)))
                .collect(),
            dictionaries: dictionaries
                .iter()
                .map(|(version, bytes)| (*version, Arc::new(DDict::create(bytes))))
                .collect::<HashMap<_, _>>()
                .into(),
            choice,
            compressors: Mutex::default(),
            decompressors: Mutex::default(),
        }
    }

    /// Version of the dictionary for a new body of a kind.
    pub(crate) fn version(&self, kind: Option<Kind>) -> u32 {
        let known = kind.and_then(|kind| self.choice.by_kind.get(&kind));
        known.copied().unwrap_or(self.choice.other)
    }

    fn dictionary(&self, version: u32) -> Option<Arc<DDict<'static>>> {
        let dictionaries = (self.dictionaries.read()).unwrap_or_else(PoisonError::into_inner);
        dictionaries.get(&version).cloned()
    }

    /// Whether bodies that were packed with a dictionary can be unpacked.
    pub(crate) fn knows(&self, version: u32) -> bool {
        version == 0 || self.dictionary(version).is_some()
    }

    /// Adds a dictionary for unpacking.
    pub(crate) fn learn(&self, version: u32, bytes: &[u8]) {
        let dictionary = Arc::new(DDict::create(bytes));
        self.dictionaries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(version, dictionary);
    }

    /// Id and body, compressed together with a dictionary: the id is also in most bodies.
    pub(crate) fn pack(
        &self,
        dictionary: u32,
        id: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, LedgerError> {
        let mut plain = Vec::with_capacity(2 + id.len() + body.len());
        put_varint(&mut plain, id.len() as u64);
        plain.extend_from_slice(id.as_bytes());
        plain.extend_from_slice(body);
        let kept = self
            .compressors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut context = kept.unwrap_or_else(CCtx::create);
        let mut packed = Vec::with_capacity(compress_bound(plain.len()));
        let outcome = match self.compressing.get(&dictionary) {
            Some(dictionary) => context.compress_using_cdict(&mut packed, &plain, dictionary),
            None => context.compress(&mut packed, &plain, ZSTD_LEVEL),
        };
        self.compressors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(context);
        outcome.map_err(refused)?;
        bare(&packed).ok_or_else(|| LedgerError::Damaged("zstd: a frame out of shape".into()))
    }

    /// Takes apart what [`Packer::pack`] made, with the dictionary of then.
    pub(crate) fn unpack(
        &self,
        dictionary: u32,
        packed: &[u8],
    ) -> Result<(String, Vec<u8>), LedgerError> {
        let damaged = |what: &str| LedgerError::Damaged(format!("a body does not unpack: {what}"));
        // Programs before store format 3 kept the whole frame.
        let frame = if packed.first() == MAGIC.first() {
            Cow::Borrowed(packed)
        } else {
            Cow::Owned([&MAGIC, packed].concat())
        };
        let packed = &*frame;
        let length = get_frame_content_size(packed)
            .ok()
            .flatten()
            .ok_or_else(|| damaged("no length"))?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_BODY_BYTES + MAX_ID_BYTES + 8);
        let length = length.ok_or_else(|| damaged("longer than any body"))?;
        let kept = self
            .decompressors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut context = kept.unwrap_or_else(DCtx::create);
        let mut plain = Vec::with_capacity(length);
        let outcome = if dictionary == 0 {
            context.decompress(&mut plain, packed)
        } else {
            let dictionary = self
                .dictionary(dictionary)
                .ok_or_else(|| damaged("its dictionary is missing"))?;
            context.decompress_using_ddict(&mut plain, packed, &dictionary)
        };
        self.decompressors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(context);
        outcome.map_err(refused)?;
        let mut decoder = Decoder::new(&plain, "body");
        let id_length: usize = decoder.small()?;
        let id = std::str::from_utf8(decoder.bytes(id_length)?)
            .map_err(|_| damaged("its id is not text"))?
            .to_owned();
        let body = decoder.rest().to_vec();
        Ok((id, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    // Proves: 45 CFR 164.312(a)(2)(iv), 164.312(c)(2)
    #[test]
    fn sealed_bytes_open_only_unchanged_and_under_their_name() {
        let key = [1; 32];
        let sealed = seal(&key, &SystemEntropy, b"name", b"body".to_vec());
        assert_eq!(open(&key, b"name", &sealed).as_deref(), Some(&b"body"[..]));
        assert_eq!(open(&key, b"nama", &sealed), None);
        assert_eq!(open(&[2; 32], b"name", &sealed), None);
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert_eq!(open(&key, b"name", &changed), None, "{position}");
        }
        for length in 0..sealed.len() {
            assert_eq!(open(&key, b"name", &sealed[..length]), None, "{length}");
        }
    }

    #[test]
    fn bodies_come_back_with_and_without_a_dictionary() {
        let dictionary = b"{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{\"coding\":[{\"system\":".repeat(4);
        let dictionaries = HashMap::from([(3, dictionary)]);
        let body = b"{\"resourceType\":\"Observation\",\"status\":\"final\"}".to_vec();
        let packer = Packer::new(
            Choice {
                by_kind: HashMap::from([(Kind(2), 3)]),
                other: 0,
            },
            &dictionaries,
        );
        assert_eq!(packer.version(Some(Kind(2))), 3);
        assert_eq!(
            (packer.version(Some(Kind(3))), packer.version(None)),
            (0, 0)
        );
        let (with, without) = (&packer, &packer);
        for body in [Vec::new(), body.clone(), vec![0; 1_000_000]] {
            let packed = with.pack(3, "some-id", &body).unwrap();
            assert_eq!(
                with.unpack(3, &packed).unwrap(),
                ("some-id".to_owned(), body.clone())
            );
            assert_ne!(packed[0], MAGIC[0]);
            let packed = without.pack(0, "some-id", &body).unwrap();
            assert_eq!(
                with.unpack(0, &packed).unwrap(),
                ("some-id".to_owned(), body.clone())
            );
            // As programs before wrote them.
            let plain = [b"\x07some-id", body.as_slice()].concat();
            for version in [0, 3] {
                let mut frame = Vec::with_capacity(compress_bound(plain.len()));
                let mut context = CCtx::create();
                match with.compressing.get(&version) {
                    Some(used) => context.compress_using_cdict(&mut frame, &plain, used),
                    None => context.compress(&mut frame, &plain, ZSTD_LEVEL),
                }
                .unwrap();
                assert_eq!(frame[..4], MAGIC);
                assert_eq!(
                    with.unpack(version, &frame).unwrap(),
                    ("some-id".to_owned(), body.clone())
                );
            }
        }
        assert!(
            with.pack(3, "some-id", &body).unwrap().len()
                < without.pack(0, "some-id", &body).unwrap().len()
        );
        assert!(matches!(
            with.unpack(4, &with.pack(3, "a", b"b").unwrap()),
            Err(LedgerError::Damaged(_))
        ));
        assert!(matches!(
            with.unpack(0, b"no zstd"),
            Err(LedgerError::Damaged(_))
        ));
    }
}
