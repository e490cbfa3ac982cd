//! Whether today's trees go on from an older checkpoint that somebody kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signed_note::Note;
use tlog_tiles::{EMPTY_HASH, Hash};

use crate::backend::Snapshot;
use crate::tlog::Head;
use crate::tree::prove_consistency;
use crate::{Ledger, LedgerError, Shard};

/// How today's trees stand to an older checkpoint.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ConsistencyReport {
    /// The older checkpoint, as it was given.
    pub old_checkpoint: String,
    /// The newest checkpoint of the same origin.
    pub new_checkpoint: String,
    /// The key that verifies both (C2SP verifier key).
    pub verifier_key: String,
    /// A proof for each tree of the older checkpoint, up to the first that does not go on from it.
    pub trees: Vec<ConsistencyProof>,
    /// The first tree that does not go on from it.
    pub broken: Option<BrokenTree>,
}

/// A proof that a tree begins with all leaves of an older one (RFC 6962, section 2.1.2).
#[derive(Debug, Clone, serde::Serialize)]
pub struct ConsistencyProof {
    /// Shard of the tree.
    pub shard: u16,
    /// Leaves in the older checkpoint.
    pub old_size: u64,
    /// The tree's hash in the older checkpoint, base64.
    pub old_root: String,
    /// Leaves in the newest checkpoint.
    pub new_size: u64,
    /// The tree's hash in the newest checkpoint, base64.
    pub new_root: String,
    /// The proof's hashes, base64; none when nothing was added, or nothing was there.
    pub path: Vec<String>,
}

/// A tree that does not go on from an older checkpoint.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BrokenTree {
    /// Shard of the tree.
    pub shard: u16,
    /// What is wrong, in words.
    pub reason: String,
}

impl Ledger {
    /// Proves that today's trees, as the newest checkpoint has them, go on from an older checkpoint:
    /// one over all trees or one of a tree's own log.
    ///
    /// # Errors
    /// `Invalid` when the older checkpoint is not signed by this store; `Damaged` when the newest one
    /// is not; `Storage`. A tree that does not go on is a report, not an error.
    pub async fn verify_against(&self, old: &str) -> Result<ConsistencyReport, LedgerError> {
        let snapshot = self.backend()?.snapshot();
        let signer = &self.core().signer;
        let (newest, heads) = self.newest(&*snapshot)?;
        let (old_trees, new_checkpoint, verifier_key) = if let Some(old) = signer.verify(old) {
            (old.trees, newest, signer.verifier_key())
        } else {
            let note = Note::from_bytes(old.as_bytes()).ok();
            let (shard, size, root) =
                note.and_then(|note| signer.verify_log(&note))
                    .ok_or(LedgerError::Invalid(
                        "the older checkpoint is damaged, or was not signed by this store",
                    ))?;
            let new = signer.sign_log(shard, heads.head(shard))?;
            let key = signer.log_verifier_key(shard);
            (vec![(shard, size, root)], new, key)
        };
        let mut report = ConsistencyReport {
            old_checkpoint: old.to_owned(),
            new_checkpoint,
            verifier_key,
            trees: Vec::new(),
            broken: None,
        };
        for (shard, size, root) in old_trees {
            match goes_on(&*snapshot, shard, (size, root), heads.head(shard))? {
                Ok(path) => {
                    let (new_size, new_root) = heads.head(shard);
                    let text = |hash: Hash| STANDARD.encode(hash.0);
                    report.trees.push(ConsistencyProof {
                        shard: shard.0,
                        old_size: size,
                        old_root: text(root),
                        new_size,
                        new_root: text(new_root),
                        path: path.into_iter().map(text).collect(),
                    });
                }
                Err(reason) => {
                    report.broken = Some(BrokenTree {
                        shard: shard.0,
                        reason,
                    });
                    break;
                }
            }
        }
        Ok(report)
    }
}

/// The proof that a tree goes on from an older one, or why it does not.
pub(crate) fn goes_on(
    snapshot: &dyn Snapshot,
    shard: Shard,
    (old_size, old_root): Head,
    (size, root): Head,
) -> Result<Result<Vec<Hash>, String>, LedgerError> {
    if old_size > size {
        let gone = old_size - size;
        return Ok(Err(format!(
            "it had {old_size} leaves when the older checkpoint was signed and has {size} now: the last {gone} \
             have been cut off, or this store is an older copy"
        )));
    }
    let forked = || {
        format!(
            "it has {size} leaves, but its first {old_size} are not those that were signed: leaves have been \
             changed or taken out, or this store went on from an older copy"
        )
    };
    if old_size == 0 {
        // Everything goes on from nothing (RFC 6962, section 2.1.2, has no proof for it).
        let path = (old_root == EMPTY_HASH).then(Vec::new);
        return Ok(path.ok_or_else(forked));
    }
    let path = match prove_consistency(snapshot, shard, size, old_size) {
        Ok(path) => path,
        // A stored hash that is missing.
        Err(LedgerError::Damaged(_)) => return Ok(Err(forked())),
        Err(error) => return Err(error),
    };
    let holds = tlog_tiles::check_tree(&path, size, root, old_size, old_root).is_ok();
    Ok(if holds { Ok(path) } else { Err(forked()) })
}
