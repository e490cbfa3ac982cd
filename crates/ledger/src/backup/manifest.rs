//! What a backup says of itself. Each chain of backups (a whole one and those that go on from it) has
//! a manifest, which is written last and in one go: what it does not name is not part of the backup.

use serde::{Deserialize, Serialize};

use super::target::BackupTarget;
use crate::keys::{Secret, derive_for};
use crate::outer::Layer;
use crate::root_key::{decode_hex, encode_hex};
use crate::seal::{open, seal};
use crate::{Entropy, LedgerError, Number};

const FORMAT: u32 = 1;
/// The format of a chain whose tokens lie behind a layer.
const FORMAT_TOKENS: u32 = 2;
const ENDING: &str = ".manifest";

/// A moment that can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The newest number of that moment.
    pub number: Number,
    /// When, milliseconds since the Unix epoch by the store's clock.
    pub unix_ms: u64,
}

/// One file of a segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A chain of backups.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// The origin of the store's checkpoints.
    pub(super) store: String,
    pub(super) chain: String,
    /// How many backups the chain has.
    pub(super) backups: u32,
    /// The earliest moment that can be restored, and the latest.
    pub(super) first: Position,
    pub(super) last: Position,
    /// The newest sequence of the redo log that is in.
    pub(super) redo: u64,
    /// All files of all segments, in order.
    pub(super) parts: Vec<Part>,
    /// Files with wrapped keys, oldest first.
    pub(super) keys: Vec<String>,
    /// The signed checkpoint over all leaves.
    pub(super) checkpoint: String,
    /// The sealed key of the layer that the tokens of all its documents are behind, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<String>,
}

pub(super) fn name_of(chain: &str) -> String {
    format!("{chain}{ENDING}")
}

/// A MAC over a file and its name, under the store's key for backups.
pub(super) fn mac(key: &Secret, name: &str, bytes: &[u8]) -> [u8; 32] {
    let key = derive_for(key, b"backup file", name.as_bytes());
    *blake3::keyed_hash(&key, bytes).as_bytes()
}

fn changed(target: &dyn BackupTarget, name: &str) -> LedgerError {
    LedgerError::Damaged(format!(
        "{} in {} is not what this store wrote: it was changed, or belongs to another store. Nothing was taken \
         from it",
        name,
        target.describe()
    ))
}

/// Keeps a file with its MAC behind it.
pub(super) fn put_with_mac(
    target: &dyn BackupTarget,
    key: &Secret,
    name: &str,
    mut bytes: Vec<u8>,
) -> Result<(), LedgerError> {
    let mac = mac(key, name, &bytes);
    bytes.extend_from_slice(&mac);
    target.put(name, &bytes)
}

/// A file that was kept with its MAC.
pub(super) fn get_with_mac(
    target: &dyn BackupTarget,
    key: &Secret,
    name: &str,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let Some(mut bytes) = target.get(name)? else {
        return Ok(None);
    };
    let split = bytes.len().saturating_sub(32);
    let (text, told) = bytes.split_at(split);
    // Hashes of this library are compared in constant time.
    let told = blake3::Hash::from_slice(told).ok();
    if told != Some(mac(key, name, text).into()) {
        return Err(changed(target, name));
    }
    bytes.truncate(split);
    Ok(Some(bytes))
}

/// Any number of bytes in hexadecimal digits.
fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (text.len().is_multiple_of(2)).then(|| pairs.map(byte).collect())?
}

impl Manifest {
    pub(super) const FORMAT: u32 = FORMAT;

    /// Has the tokens of a new chain lie behind a layer of its own, whatever becomes of those of the
    /// store.
    pub(super) fn hide_tokens(&mut self, key: &Secret, entropy: &dyn Entropy) -> Layer {
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        let sealed = seal(
            &derive_for(key, b"backup tokens", self.chain.as_bytes()),
            entropy,
            self.chain.as_bytes(),
            secret.to_vec(),
        );
        self.tokens = Some(encode_hex(&sealed));
        self.format = FORMAT_TOKENS;
        Layer::new(&secret)
    }

    /// That layer.
    pub(super) fn layer(&self, key: &Secret) -> Result<Option<Layer>, LedgerError> {
        let Some(sealed) = &self.tokens else {
            return Ok(None);
        };
        let key = derive_for(key, b"backup tokens", self.chain.as_bytes());
        let secret = decode_bytes(sealed)
            .and_then(|sealed| open(&key, self.chain.as_bytes(), &sealed))
            .and_then(|secret| Secret::try_from(secret).ok());
        let secret = secret.ok_or_else(|| {
            LedgerError::Damaged("the key of a backup's tokens does not open".into())
        })?;
        Ok(Some(Layer::new(&secret)))
    }

    /// Keeps the manifest: JSON that people can read, and its MAC on the last line.
    pub(super) fn put(&self, target: &dyn BackupTarget, key: &Secret) -> Result<(), LedgerError> {
        let name = name_of(&self.chain);
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| LedgerError::Storage(format!("{name}: {error}")))?;
        bytes.push(b'\n');
        let line = encode_hex(&mac(key, &name, &bytes));
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        target.put(&name, &bytes)
    }

    pub(super) fn get(
        target: &dyn BackupTarget,
        key: &Secret,
        chain: &str,
    ) -> Result<Option<Self>, LedgerError> {
        let name = name_of(chain);
        let Some(bytes) = target.get(&name)? else {
            return Ok(None);
        };
        let split = (bytes.len().checked_sub(65)).map(|length| bytes.split_at(length));
        let holds = split.is_some_and(|(text, line)| {
            let told = std::str::from_utf8(line).ok();
            let told = told.and_then(|line| decode_hex(line.trim_end()));
            told.map(blake3::Hash::from) == Some(mac(key, &name, text).into())
        });
        let text = split.map(|(text, _)| text).filter(|_| holds);
        let text = text.ok_or_else(|| changed(target, &name))?;
        let manifest: Self = serde_json::from_slice(text).map_err(|error| {
            LedgerError::Damaged(format!(
                "{name} in {} does not read: {error}; it may be of a newer program",
                target.describe()
            ))
        })?;
        if !(FORMAT..=FORMAT_TOKENS).contains(&manifest.format) {
            return Err(LedgerError::Storage(format!(
                "{name} in {} has format {}, and this program knows {FORMAT} to {FORMAT_TOKENS}: use the program that wrote it, or a \
                 newer one",
                target.describe(),
                manifest.format
            )));
        }
        Ok(Some(manifest))
    }

    /// All chains of a target, the one that was gone on with last at the end: after a restore that is
    /// the new one, though the lost future may have greater numbers.
    pub(super) fn all(target: &dyn BackupTarget, key: &Secret) -> Result<Vec<Self>, LedgerError> {
        let mut all = Vec::new();
        for name in target.list()? {
            if let Some(chain) = name.strip_suffix(ENDING) {
                all.extend(Self::get(target, key, chain)?);
            }
        }
        all.sort_by_key(|manifest| (manifest.last.unix_ms, manifest.last.number));
        Ok(all)
    }
}
