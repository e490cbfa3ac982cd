//! Cosignatures of witnesses (C2SP `tlog-cosignature`, Ed25519) on the checkpoints of the trees' logs.
//!
//! A witness says that it has seen a log only grow. The store keeps what each has said of each log; a
//! checkpoint that enough of them have cosigned can't be one that was made for a single reader.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, Signature, VerificationError, Verifier, Verifiers};

use crate::backend::Snapshot;
use crate::consistency::goes_on;
use crate::tlog::Head;
use crate::tree::{Tree, verifier_key};
use crate::writer::Request;
use crate::{Ledger, LedgerError, Shard};

/// The signature type of an Ed25519 cosignature.
const COSIGNATURE: u8 = 4;
/// Meta rows of what a witness has cosigned of a log: prefix, shard, `/`, the witness's key.
pub(crate) const COSIGNED: &str = "cosigned/";
/// Checkpoints of a log that are kept of one witness. A witness may be behind others; a checkpoint
/// that all have cosigned is then among the last few of each.
const KEPT: usize = 16;
/// Why a note is refused that no log of this store has signed.
const NOT_OURS: &str = "this is no checkpoint of one of this store's logs, signed by it";
/// The greatest timestamp of a cosignature.
const TIMESTAMP_MAX: u64 = i64::MAX as u64;

/// A witness whose cosignatures are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    name: String,
    id: u32,
    /// Type byte and public key.
    public: Vec<u8>,
    url: Option<String>,
}

/// Why a list of witnesses was refused.
#[derive(Debug, thiserror::Error)]
pub enum WitnessesError {
    /// A line is no verifier key of an Ed25519 cosigner, or no URL follows it.
    #[error(
        "line {line} names no witness: it takes a verifier key NAME+ID+KEY with signature type 4 (C2SP \
         tlog-cosignature, Ed25519) and, after a space, a URL if the witness is to be asked"
    )]
    Line {
        /// The line's number, from 1.
        line: usize,
    },
    /// A cosignature does not name its signer, so one key under two names would count as two witnesses.
    #[error("line {line} has a name or a key that another line has; each witness has its own")]
    Twice {
        /// The line's number, from 1.
        line: usize,
    },
    /// More cosignatures are asked for than there are witnesses, or none.
    #[error("{quorum} cosignatures are asked for, of {witnesses} witnesses")]
    Quorum {
        /// Cosignatures asked for.
        quorum: usize,
        /// Witnesses listed.
        witnesses: usize,
    },
}

/// The witnesses that a store accepts, and how many of them it takes.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    list: Vec<Witness>,
    quorum: usize,
}

/// What a witness has said of the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessState {
    /// The witness's name.
    pub name: String,
    /// Logs that it has cosigned a checkpoint of.
    pub logs: u64,
    /// When it cosigned last, Unix seconds; zero when it never did.
    pub newest_unix_s: u64,
}

/// A checkpoint with cosignatures.
pub(crate) struct Witnessed {
    pub(crate) head: Head,
    /// The log's note with the cosignatures.
    pub(crate) note: String,
}

impl Witness {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut parts = words.next()?.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let public = STANDARD.decode(key).ok()?;
        let url = words.next().map(|url| url.trim_end_matches('/'));
        let witness = Self {
            name: name.to_owned(),
            id: signed_note::key_id(name, &public),
            public,
            url: url.map(str::to_owned),
        };
        let formed = signed_note::is_key_name_valid(name)
            && witness.public.len() == 33
            && witness.public.first() == Some(&COSIGNATURE)
            && format!("{:08x}", witness.id) == id.to_lowercase()
            && url.is_none_or(|url| url.starts_with("https://") || url.starts_with("http://"))
            && words.next().is_none();
        formed.then_some(witness)
    }

    /// The witness's verifier key (C2SP `signed-note`).
    #[must_use]
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.name, &self.public)
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it takes checkpoints (the submission prefix of C2SP `tlog-witness`, without a slash at the
    /// end), if it is to be asked.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    fn key(&self) -> &[u8] {
        self.public.get(1..).unwrap_or_default()
    }

    fn row(&self, shard: Shard) -> String {
        format!(
            "{COSIGNED}{shard}/{}",
            crate::root_key::encode_hex(self.key())
        )
    }
}

/// When a cosignature was made, Unix seconds, and its Ed25519 signature.
fn parts(cosignature: &[u8]) -> Option<(u64, &[u8])> {
    let (timestamp, signature) = cosignature.split_first_chunk()?;
    let timestamp = u64::from_be_bytes(*timestamp);
    // A witness's timestamp is never zero (C2SP `tlog-witness`).
    (1..=TIMESTAMP_MAX)
        .contains(&timestamp)
        .then_some((timestamp, signature))
}

impl Verifier for Witness {
    fn name(&self) -> &str {
        &self.name
    }
    fn key_id(&self) -> u32 {
        self.id
    }
    fn verify(&self, text: &[u8], cosignature: &[u8]) -> bool {
        let Some((timestamp, signature)) = parts(cosignature) else {
            return false;
        };
        let mut message = format!("cosignature/v1\ntime {timestamp}\n").into_bytes();
        message.extend_from_slice(text);
        UnparsedPublicKey::new(&ED25519, self.key())
            .verify(&message, signature)
            .is_ok()
    }
}

impl Witnesses {
    /// Reads verifier keys, one a line, each with a URL after it if the witness is to be asked; empty
    /// lines and those that begin with `#` are passed over.
    /// `quorum` is how many cosignatures make a checkpoint a witnessed one.
    ///
    /// # Errors
    /// [`WitnessesError`].
    pub fn parse(text: &str, quorum: usize) -> Result<Self, WitnessesError> {
        let mut list: Vec<Witness> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let witness = Witness::parse(line).ok_or(WitnessesError::Line { line: line_number })?;
            let is_taken =
                |other: &Witness| other.name == witness.name || other.public == witness.public;
            if list.iter().any(is_taken) {
                return Err(WitnessesError::Twice { line: line_number });
            }
            list.push(witness);
        }
        if quorum == 0 || quorum > list.len() {
            return Err(WitnessesError::Quorum {
                quorum,
                witnesses: list.len(),
            });
        }
        Ok(Self { list, quorum })
    }

    /// The witnesses.
    #[must_use]
    pub fn list(&self) -> &[Witness] {
        &self.list
    }

    /// How many cosignatures make a checkpoint a witnessed one.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.quorum
    }
}

impl Verifiers for Witnesses {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        let known = |witness: &&Witness| witness.name == name && witness.id == id;
        match self.list.iter().find(known) {
            Some(witness) => Ok(witness),
            None => Err(VerificationError::UnknownKey {
                name: name.to_owned(),
                id,
            }),
        }
    }
}

/// What a witness has said of a log at one size. The row holds no root: it follows from the log, and
/// then the signature holds or doesn't.
struct Cosigned {
    size: u64,
    signature: Signature,
}

impl Ledger {
    /// From now on these witnesses count, and no others.
    ///
    /// # Errors
    /// `Invalid` when one of them has this store's own key.
    pub fn trust_witnesses(&self, witnesses: Witnesses) -> Result<(), LedgerError> {
        let own = self.core().signer.public_key();
        if witnesses.list.iter().any(|witness| witness.key() == own) {
            return Err(LedgerError::Invalid("a store can't be its own witness"));
        }
        *self
            .core()
            .witnesses
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(witnesses);
        Ok(())
    }

    /// The witnesses that count.
    #[must_use]
    pub fn witnesses(&self) -> Arc<Witnesses> {
        let witnesses = self.core().witnesses.read();
        Arc::clone(&witnesses.unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the cosignatures on a checkpoint of a tree's log, and returns when they are durable: the
    /// log's own note with lines of witnesses added. Gives the log's shard, the checkpoint's size and
    /// how many cosignatures of known witnesses it has; signatures of others are passed over.
    ///
    /// # Errors
    /// `Invalid` when the note is not one that this store has signed, has no cosignature of a known
    /// witness, one that does not hold, or says what the log does not; `Damaged`, `Storage`.
    pub async fn add_cosignatures(
        &self,
        cosigned: &str,
    ) -> Result<(Shard, u64, usize), LedgerError> {
        let note = Note::from_bytes(cosigned.as_bytes())
            .map_err(|_| LedgerError::Invalid("this is no signed note"))?;
        let signed = self.core().signer.verify_log(&note);
        let (shard, size, root) = signed.ok_or(LedgerError::Invalid(NOT_OURS))?;
        let witnesses = self.witnesses();
        let (signatures, _) = note.verify(&*witnesses).map_err(|_| {
            LedgerError::Invalid(
                "no known witness has cosigned this, or a cosignature does not hold",
            )
        })?;
        // One at a time, since what is kept of a witness is read, added to and written.
        let _one_at_a_time = self.cosigning().await;
        let snapshot = self.backend()?.snapshot();
        let (newest_size, _) = self.newest(&*snapshot)?.1.head(shard);
        if size > newest_size || Tree::load(&*snapshot, shard, size)?.root()? != root {
            return Err(LedgerError::Invalid(
                "the log does not begin with the tree of this checkpoint",
            ));
        }
        let witnessed = self
            .newest_witnessed(&*snapshot, shard)?
            .map_or(0, |witnessed| witnessed.head.0);
        let mut rows = Vec::new();
        for signature in &signatures {
            let by = |witness: &&Witness| {
                witness.name == signature.name() && witness.id == signature.id()
            };
            let Some(witness) = witnesses.list.iter().find(by) else {
                continue;
            };
            let mut kept = self.cosigned_by(&*snapshot, shard, witness)?;
            kept.retain(|other| other.size != size);
            kept.push(Cosigned {
                size,
                signature: signature.clone(),
            });
            kept.sort_by_key(|cosigned| std::cmp::Reverse(cosigned.size));
            // What the newest witnessed checkpoint consists of stays, however far others are ahead.
            let mut position = 0;
            kept.retain(|cosigned| {
                position += 1;
                position <= KEPT || cosigned.size == witnessed
            });
            rows.push((witness.row(shard), encode(&kept)));
        }
        self.ask(1, |reply| Request::Meta(rows, reply)).await?;
        Ok((shard, size, signatures.len()))
    }

    /// Leaves of the newest checkpoint of a log that is kept of a witness; zero when there is none.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn cosigned_size(&self, witness: &Witness, shard: Shard) -> Result<u64, LedgerError> {
        let kept = self.cosigned_by(&*self.backend()?.snapshot(), shard, witness)?;
        Ok(kept.first().map_or(0, |cosigned| cosigned.size))
    }

    /// What a witness is asked with (the body of `add-checkpoint`, C2SP `tlog-witness`): the proof that
    /// a checkpoint of a tree's log goes on from the tree of `old` leaves, and the checkpoint.
    ///
    /// # Errors
    /// `Invalid` when the checkpoint is not one that this store has signed, or has fewer leaves;
    /// `Damaged`, `Storage`.
    pub async fn witness_request(&self, checkpoint: &str, old: u64) -> Result<String, LedgerError> {
        let snapshot = self.backend()?.snapshot();
        let note = Note::from_bytes(checkpoint.as_bytes()).ok();
        let (shard, size, root) = note
            .and_then(|note| self.core().signer.verify_log(&note))
            .ok_or(LedgerError::Invalid(NOT_OURS))?;
        if old > size {
            return Err(LedgerError::Invalid(
                "a witness can't be led back to a smaller tree",
            ));
        }
        let head = (old, Tree::load(&*snapshot, shard, old)?.root()?);
        let path = goes_on(&*snapshot, shard, head, (size, root))?;
        let path = path.map_err(LedgerError::Damaged)?;
        let mut body = format!("old {old}\n");
        for hash in path {
            body.push_str(&STANDARD.encode(hash.0));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(checkpoint);
        Ok(body)
    }

    /// The newest checkpoint of a tree's log that enough witnesses have cosigned, with their
    /// cosignatures; `None` when there is none yet.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn witnessed_checkpoint(&self, shard: Shard) -> Result<Option<String>, LedgerError> {
        let found = self.newest_witnessed(&*self.backend()?.snapshot(), shard)?;
        Ok(found.map(|witnessed| witnessed.note))
    }

    /// What each witness has said of the logs.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn witness_states(&self) -> Result<Vec<WitnessState>, LedgerError> {
        let snapshot = self.backend()?.snapshot();
        let rows = snapshot.metas(COSIGNED)?;
        let witnesses = self.witnesses();
        let mut states = Vec::new();
        for witness in &witnesses.list {
            let mut state = WitnessState {
                name: witness.name.clone(),
                logs: 0,
                newest_unix_s: 0,
            };
            for (name, value) in &rows {
                let shard = name.get(COSIGNED.len()..COSIGNED.len() + 2);
                let Some(shard) = shard.and_then(Shard::parse) else {
                    continue;
                };
                if *name != witness.row(shard) {
                    continue;
                }
                let times = decode(value)
                    .into_iter()
                    .filter_map(|cosigned| Some(parts(cosigned.signature.signature())?.0));
                if let Some(newest) = times.max() {
                    state.logs += 1;
                    state.newest_unix_s = state.newest_unix_s.max(newest);
                }
            }
            states.push(state);
        }
        Ok(states)
    }

    /// What is kept of one witness about a log; whether the signatures hold is not checked here.
    fn cosigned_by(
        &self,
        snapshot: &dyn Snapshot,
        shard: Shard,
        witness: &Witness,
    ) -> Result<Vec<Cosigned>, LedgerError> {
        let Some(value) = snapshot.meta(&witness.row(shard))? else {
            return Ok(Vec::new());
        };
        let mut kept = decode(&value);
        kept.retain(|cosigned| {
            cosigned.signature.name() == witness.name && cosigned.signature.id() == witness.id
        });
        Ok(kept)
    }

    pub(crate) fn newest_witnessed(
        &self,
        snapshot: &dyn Snapshot,
        shard: Shard,
    ) -> Result<Option<Witnessed>, LedgerError> {
        let witnesses = self.witnesses();
        let mut all = Vec::new();
        for witness in &witnesses.list {
            for cosigned in self.cosigned_by(snapshot, shard, witness)? {
                all.push((witness, cosigned));
            }
        }
        let sizes: BTreeSet<u64> = all.iter().map(|(_, cosigned)| cosigned.size).collect();
        for size in sizes.into_iter().rev() {
            let of_size = || all.iter().filter(|(_, cosigned)| cosigned.size == size);
            if of_size().count() < witnesses.quorum {
                continue;
            }
            // The rows may have been changed by who holds the store: only the log as it is counts,
            // and only cosignatures that hold.
            let (newest_size, _) = self.newest(snapshot)?.1.head(shard);
            if size > newest_size {
                continue;
            }
            let root = Tree::load(snapshot, shard, size)?.root()?;
            let own = self.core().signer.sign_log(shard, (size, root))?;
            let own = Note::from_bytes(own.as_bytes()).map_err(|error| damaged(&error))?;
            let holding: Vec<_> = of_size()
                .filter(|(witness, cosigned)| {
                    witness.verify(own.text(), cosigned.signature.signature())
                })
                .map(|(_, cosigned)| cosigned.signature.clone())
                .collect();
            if holding.len() < witnesses.quorum {
                continue;
            }
            let mut note = own.to_bytes();
            note.extend(holding.iter().flat_map(Signature::to_bytes));
            let note = String::from_utf8(note).map_err(|error| damaged(&error))?;
            return Ok(Some(Witnessed {
                head: (size, root),
                note,
            }));
        }
        Ok(None)
    }
}

fn damaged(error: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::Damaged(format!(
        "a witnessed checkpoint can't be put together: {error}"
    ))
}

/// The row: a line of size and signature line for each.
fn encode(kept: &[Cosigned]) -> Vec<u8> {
    let line = |cosigned: &Cosigned| {
        let size = format!("{} ", cosigned.size).into_bytes();
        [size, cosigned.signature.to_bytes()].concat()
    };
    kept.iter().flat_map(line).collect()
}

/// What can be read of a row; what can't does not count.
fn decode(value: &[u8]) -> Vec<Cosigned> {
    let lines = std::str::from_utf8(value).unwrap_or_default().lines();
    lines
        .filter_map(|line| {
            let (size, signature) = line.split_once(' ')?;
            Some(Cosigned {
                size: size.parse().ok()?,
                signature: Signature::from_bytes(signature.as_bytes()).ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, seed: u8, kind: u8) -> String {
        verifier_key(name, &[vec![kind], vec![seed; 32]].concat())
    }

    #[test]
    fn lists_of_witnesses() {
        let (one, two) = (key("a", 1, 4), key("b", 2, 4));
        let list = format!("# who\n\n{one}\n  {two}  \n");
        let witnesses = Witnesses::parse(&list, 2).unwrap();
        let keys: Vec<_> = witnesses.list().iter().map(Witness::verifier_key).collect();
        assert_eq!(keys, [one.clone(), two.clone()]);
        let asked = Witnesses::parse(&format!("{one}\t https://w.example/a/\n{two}"), 1).unwrap();
        let urls: Vec<_> = asked.list().iter().map(Witness::url).collect();
        assert_eq!(urls, [Some("https://w.example/a"), None]);
        let line = |text: &str| match Witnesses::parse(text, 1) {
            Err(WitnessesError::Line { line }) => (line, "form"),
            Err(WitnessesError::Twice { line }) => (line, "twice"),
            other => panic!("{text}: {other:?}"),
        };
        // A log's key is no witness's, and an id belongs to its name and key.
        for wrong in [
            &key("a", 1, 1),
            &one.replace('a', "c"),
            "a+b",
            "a",
            &format!("{one}A"),
        ] {
            assert_eq!(line(&format!("{two}\n{wrong}")), (2, "form"), "{wrong}");
        }
        assert_eq!(line(&format!("{one}\n{}", key("a", 3, 4))), (2, "twice"));
        assert_eq!(line(&format!("{one}\n{}", key("c", 1, 4))), (2, "twice"));
        for (text, quorum) in [(list.as_str(), 3), (&list, 0), ("", 1)] {
            let outcome = Witnesses::parse(text, quorum);
            assert!(
                matches!(outcome, Err(WitnessesError::Quorum { .. })),
                "{outcome:?}"
            );
        }
    }
}
