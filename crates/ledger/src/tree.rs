//! The audit trees in memory, and the signed checkpoint over all of them.
//!
//! A tree is RFC 6962's, stored in the order of C2SP `tlog-tiles`; the arithmetic is `tlog_tiles`'s.
//! Appending a leaf and computing a root need only the tree's right edge, so that is all that is
//! kept in memory.

use std::fmt::Write;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ED25519 as ED25519_ALGORITHM, Ed25519KeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, Signature, VerificationError, Verifier, Verifiers};
use tlog_tiles::{
    Checkpoint, EMPTY_HASH, Error as TreeError, Hash, HashReader, record_hash,
    split_stored_hash_index, stored_hash_index, stored_hashes_for_record_hash, sub_tree_index,
    tree_hash,
};

use crate::backend::Snapshot;
use crate::{LedgerError, SHARDS, Shard};

/// The right edge of a tree: the roots of its complete subtrees, greatest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tree {
    size: u64,
    edge: Vec<(u64, Hash)>,
}

/// Stored hashes by index, from some place.
struct Hashes<'a, F>(&'a F);

impl<F: Fn(u64) -> Option<Hash>> HashReader for Hashes<'_, F> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, TreeError> {
        indexes
            .iter()
            .map(|index| (self.0)(*index).ok_or(TreeError::IndexesNotInTree))
            .collect()
    }
}

impl Tree {
    /// Reads the edge of a tree of `size` leaves.
    pub(crate) fn load<S: Snapshot + ?Sized>(
        snapshot: &S,
        shard: Shard,
        size: u64,
    ) -> Result<Self, LedgerError> {
        let mut edge = Vec::new();
        for index in sub_tree_index(0, size, Vec::new()) {
            let hash = snapshot.node(shard, index)?.ok_or_else(|| {
                LedgerError::Damaged(format!("hash {index} of audit tree {shard} is missing"))
            })?;
            edge.push((index, Hash(hash)));
        }
        Ok(Self { size, edge })
    }

    /// The tree of `size` leaves with these hashes at its edge, greatest subtree first; `None` when
    /// it has another number of them.
    pub(crate) fn of_edge(size: u64, hashes: &[[u8; 32]]) -> Option<Self> {
        let indexes = sub_tree_index(0, size, Vec::new());
        (indexes.len() == hashes.len()).then(|| Self {
            size,
            edge: (indexes.into_iter())
                .zip(hashes.iter().map(|hash| Hash(*hash)))
                .collect(),
        })
    }

    /// The hashes of the edge, greatest subtree first.
    pub(crate) fn edge(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.edge.iter().map(|(_, hash)| &hash.0)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn find(&self, index: u64) -> Option<Hash> {
        self.edge
            .iter()
            .find(|(at, _)| *at == index)
            .map(|(_, hash)| *hash)
    }

    /// Appends a leaf's hash; gives the hashes to be stored, with their indexes.
    pub(crate) fn append(&mut self, leaf: Hash) -> Result<Vec<(u64, Hash)>, LedgerError> {
        let find = |index| self.find(index);
        let hashes = stored_hashes_for_record_hash(self.size, leaf, &Hashes(&find))
            .map_err(|error| out_of_shape(&error))?;
        let first = stored_hash_index(0, self.size);
        let stored: Vec<_> = (first..).zip(hashes).collect();
        let edge = sub_tree_index(0, self.size + 1, Vec::new());
        let mut next = Vec::with_capacity(edge.len());
        for index in edge {
            let new = stored
                .iter()
                .find(|(at, _)| *at == index)
                .map(|(_, hash)| *hash);
            let hash = new
                .or_else(|| self.find(index))
                .ok_or_else(|| out_of_shape(&TreeError::BadMath))?;
            next.push((index, hash));
        }
        self.size += 1;
        self.edge = next;
        Ok(stored)
    }

    /// The tree's root hash.
    pub(crate) fn root(&self) -> Result<Hash, LedgerError> {
        let find = |index| self.find(index);
        tree_hash(self.size, &Hashes(&find)).map_err(|error| out_of_shape(&error))
    }
}

/// Which leaf stored the hash at a stored hash index when it was appended, and which of the hashes
/// that it stored it is: a leaf stores its own hash, then those of the subtrees that it completed,
/// upwards.
pub(crate) fn stored_by(index: u64) -> (u64, usize) {
    let (level, n) = split_stored_hash_index(index);
    (((n + 1) << level) - 1, usize::from(level))
}

fn out_of_shape(error: &TreeError) -> LedgerError {
    LedgerError::Damaged(format!("an audit tree is out of shape: {error}"))
}

/// Computes over a tree's stored hashes. The tree's own errors can't tell a fault of the store from a
/// hash that isn't there, so the fault is kept aside.
fn over_nodes<T>(
    snapshot: &dyn Snapshot,
    shard: Shard,
    compute: impl FnOnce(&dyn Fn(u64) -> Option<Hash>) -> Result<T, TreeError>,
) -> Result<T, LedgerError> {
    let fault = std::cell::RefCell::new(None);
    let find = |index| match snapshot.node(shard, index) {
        Ok(hash) => hash.map(Hash),
        Err(error) => {
            fault.replace(Some(error));
            None
        }
    };
    let outcome = compute(&find);
    match fault.take() {
        Some(error) => Err(error),
        None => outcome.map_err(|error| out_of_shape(&error)),
    }
}

/// The path from a leaf to the root of a tree of `size` leaves, checked before it is given out.
pub(crate) fn prove(
    snapshot: &dyn Snapshot,
    shard: Shard,
    size: u64,
    index: u64,
    record: &[u8],
    root: Hash,
) -> Result<Vec<Hash>, LedgerError> {
    over_nodes(snapshot, shard, |find| {
        let path = tlog_tiles::prove_record(size, index, &Hashes(&find))?;
        tlog_tiles::check_record(&path, size, root, index, record_hash(record))?;
        Ok(path)
    })
}

/// The proof that a tree of `size` leaves begins with those of an older one (RFC 6962, section
/// 2.1.2), from the stored hashes; `old` has at least one leaf and is no larger. Whether it holds is
/// for [`tlog_tiles::check_tree`] to say.
pub(crate) fn prove_consistency(
    snapshot: &dyn Snapshot,
    shard: Shard,
    size: u64,
    old: u64,
) -> Result<Vec<Hash>, LedgerError> {
    over_nodes(snapshot, shard, |find| {
        tlog_tiles::prove_tree(size, old, &Hashes(&find))
    })
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-256 of concatenated pieces.
pub(crate) fn sha256_all(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for piece in pieces {
        context.update(piece.as_ref());
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Signs checkpoints: one over all trees, and one for each tree as a log of its own.
///
/// It is one Ed25519 key under several names. A note's text begins with its origin, so what was
/// signed for one log says nothing of another; the names give each its own key id.
pub(crate) struct Signer {
    origin: String,
    pair: Ed25519KeyPair,
    /// Type byte and public key, as they stand in a verifier key.
    public: Vec<u8>,
}

/// The signature type of Ed25519 (C2SP `signed-note`).
const ED25519: u8 = 1;

/// A verifier key in text (C2SP `signed-note`); `public` is type byte and key.
pub(crate) fn verifier_key(name: &str, public: &[u8]) -> String {
    let id = signed_note::key_id(name, public);
    format!("{name}+{id:08x}+{}", STANDARD.encode(public))
}

/// Verifies our own notes.
struct OwnVerifier<'a> {
    name: String,
    id: u32,
    public: &'a [u8],
}

impl Verifier for OwnVerifier<'_> {
    fn name(&self) -> &str {
        &self.name
    }
    fn key_id(&self) -> u32 {
        self.id
    }
    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519_ALGORITHM, self.public)
            .verify(text, signature)
            .is_ok()
    }
}

impl Verifiers for OwnVerifier<'_> {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if name == self.name && id == self.id {
            return Ok(self);
        }
        Err(VerificationError::UnknownKey {
            name: name.to_owned(),
            id,
        })
    }
}

fn unsigned(what: &str) -> LedgerError {
    LedgerError::Damaged(format!("a checkpoint cannot be signed: {what}"))
}

impl Signer {
    /// The key of a seed, under the store's name.
    pub(crate) fn new(store: &[u8; 16], seed: &[u8; 32]) -> Result<Self, LedgerError> {
        let origin = format!("cairn.ledger/{}", crate::root_key::encode_hex(store));
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| {
            LedgerError::Damaged("the checkpoint key does not work: no Ed25519 seed".into())
        })?;
        let public = [&[ED25519], pair.public_key().as_ref()].concat();
        Ok(Self {
            origin,
            pair,
            public,
        })
    }

    /// The name that stands on checkpoints; it names the store.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The key that verifies checkpoints over all trees (C2SP verifier key).
    pub(crate) fn verifier_key(&self) -> String {
        verifier_key(&self.origin, &self.public)
    }

    /// The name of a tree's log.
    pub(crate) fn log_origin(&self, shard: Shard) -> String {
        format!("{}/{shard}", self.origin)
    }

    /// The key that verifies the checkpoints of a tree's log.
    pub(crate) fn log_verifier_key(&self, shard: Shard) -> String {
        verifier_key(&self.log_origin(shard), &self.public)
    }

    /// The public key without its type byte.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn signed(&self, checkpoint: &Checkpoint) -> Result<String, LedgerError> {
        let (name, text) = (checkpoint.origin(), checkpoint.to_bytes());
        let id = signed_note::key_id(name, &self.public);
        let signature = self.pair.sign(&text).as_ref().to_vec();
        let note = Signature::new(name.to_owned(), id, signature)
            .and_then(|signature| Note::new(&text, &[signature]))
            .map_err(|error| unsigned(&error.to_string()))?;
        String::from_utf8(note.to_bytes()).map_err(|error| unsigned(&error.to_string()))
    }

    /// A checkpoint that was signed under its origin's name; `None` when the signature does not hold.
    fn opened(&self, note: &Note, origin: &str) -> Option<Checkpoint> {
        let verifier = OwnVerifier {
            name: origin.to_owned(),
            id: signed_note::key_id(origin, &self.public),
            public: self.public.get(1..)?,
        };
        note.verify(&verifier).ok()?;
        Checkpoint::from_bytes(note.text())
            .ok()
            .filter(|checkpoint| checkpoint.origin() == origin)
    }

    /// A signed checkpoint over all trees.
    pub(crate) fn sign(&self, trees: &[Tree], unix_ms: u64) -> Result<String, LedgerError> {
        let mut heads = Heads {
            unix_ms,
            trees: Vec::new(),
        };
        for (shard, tree) in (0u16..).zip(trees) {
            if tree.size() > 0 {
                heads.trees.push((Shard(shard), tree.size(), tree.root()?));
            }
        }
        let lines = heads.lines();
        let root = Hash(sha256(lines.as_bytes()));
        let checkpoint = Checkpoint::new(&self.origin, heads.leaves(), root, &lines)
            .map_err(|error| unsigned(&error.to_string()))?;
        self.signed(&checkpoint)
    }

    /// The trees that a checkpoint vouches for; `None` when it is not ours, its signature does not
    /// hold or it is out of form.
    pub(crate) fn verify(&self, checkpoint: &str) -> Option<Heads> {
        let note = Note::from_bytes(checkpoint.as_bytes()).ok()?;
        let checkpoint = self.opened(&note, &self.origin)?;
        let heads = Heads::parse(checkpoint.extension())?;
        let holds = checkpoint.size() == heads.leaves()
            && *checkpoint.hash() == Hash(sha256(checkpoint.extension().as_bytes()));
        holds.then_some(heads)
    }

    /// The checkpoint of one tree's log (C2SP `tlog-checkpoint`). Size and root must come from a
    /// checkpoint over all trees, or be those of a prefix of its tree: then there are never two roots
    /// of one size. Ed25519 gives the same bytes each time.
    pub(crate) fn sign_log(
        &self,
        shard: Shard,
        (size, root): (u64, Hash),
    ) -> Result<String, LedgerError> {
        let checkpoint = Checkpoint::new(&self.log_origin(shard), size, root, "")
            .map_err(|error| unsigned(&error.to_string()))?;
        self.signed(&checkpoint)
    }

    /// The tree, its size and its root that a checkpoint of one tree's log vouches for; `None` when it
    /// is not ours, its signature does not hold or it is out of form.
    pub(crate) fn verify_log(&self, note: &Note) -> Option<(Shard, u64, Hash)> {
        let origin = std::str::from_utf8(note.text()).ok()?.lines().next()?;
        let name = origin.strip_prefix(&self.origin)?.strip_prefix('/')?;
        let shard = Shard::parse(name)?;
        let checkpoint = self.opened(note, origin)?;
        let plain = checkpoint.extension().is_empty();
        plain.then(|| (shard, checkpoint.size(), *checkpoint.hash()))
    }
}

/// What a checkpoint vouches for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heads {
    pub(crate) unix_ms: u64,
    /// Shard, size and root of each tree with leaves, by shard.
    pub(crate) trees: Vec<(Shard, u64, Hash)>,
}

impl Heads {
    /// `time <ms>`, then `<shard> <size> <root>` for each tree.
    fn lines(&self) -> String {
        let mut lines = format!("time {}\n", self.unix_ms);
        for (shard, size, root) in &self.trees {
            // Writing into a string does not fail.
            let _ = writeln!(lines, "{shard} {size} {root}");
        }
        lines
    }

    fn parse(lines: &str) -> Option<Self> {
        let mut lines = lines.lines();
        let unix_ms = lines.next()?.strip_prefix("time ")?.parse().ok()?;
        let mut trees: Vec<(Shard, u64, Hash)> = Vec::new();
        for line in lines {
            let mut words = line.split(' ');
            let shard = Shard(u16::from_str_radix(words.next()?, 16).ok()?);
            let size = words.next()?.parse().ok()?;
            let root = Hash::parse_hash(words.next()?).ok()?;
            let rises = trees.last().is_none_or(|(last, _, _)| *last < shard);
            if words.next().is_some() || shard.0 >= SHARDS || !rises {
                return None;
            }
            trees.push((shard, size, root));
        }
        Some(Self { unix_ms, trees })
    }

    /// Leaves of all trees.
    pub(crate) fn leaves(&self) -> u64 {
        self.trees.iter().map(|(_, size, _)| size).sum()
    }

    /// Size and root of one tree, which may have no leaf yet.
    pub(crate) fn head(&self, shard: Shard) -> (u64, Hash) {
        self.of(shard).unwrap_or((0, EMPTY_HASH))
    }

    /// Size and root of one tree that has leaves.
    pub(crate) fn of(&self, shard: Shard) -> Option<(u64, Hash)> {
        self.trees
            .iter()
            .find(|(at, _, _)| *at == shard)
            .map(|(_, size, root)| (*size, *root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_gives_the_same_hashes_as_all_stored_ones() {
        let mut tree = Tree::default();
        let mut stored: Vec<Hash> = Vec::new();
        for number in 0u64..300 {
            let leaf = record_hash(&number.to_be_bytes());
            let all = |index: u64| stored.get(usize::try_from(index).unwrap()).copied();
            let expected = stored_hashes_for_record_hash(number, leaf, &Hashes(&all)).unwrap();
            let appended = tree.append(leaf).unwrap();
            assert_eq!(
                appended.iter().map(|(_, hash)| *hash).collect::<Vec<_>>(),
                expected
            );
            assert_eq!(appended[0].0, stored.len() as u64);
            for (place, (index, _)) in appended.iter().enumerate() {
                assert_eq!(stored_by(*index), (number, place));
            }
            stored.extend(expected);
            let all = |index: u64| stored.get(usize::try_from(index).unwrap()).copied();
            assert_eq!(
                tree.root().unwrap(),
                tree_hash(number + 1, &Hashes(&all)).unwrap()
            );
            assert_eq!(tree.size(), number + 1);
        }
    }

    // Proves: 45 CFR 164.312(c)(2)
    #[test]
    fn checkpoints_come_back_and_no_letter_can_be_changed() {
        let signer = Signer::new(&[1; 16], &[2; 32]).unwrap();
        let mut trees = vec![Tree::default(); usize::from(SHARDS)];
        assert_eq!(
            signer
                .verify(&signer.sign(&trees, 5).unwrap())
                .unwrap()
                .trees,
            vec![]
        );
        for number in 0u8..5 {
            trees[3].append(record_hash(&[number])).unwrap();
            trees[255].append(record_hash(&[number, 1])).unwrap();
        }
        let note = signer.sign(&trees, 1_700_000_000_000).unwrap();
        let heads = signer.verify(&note).unwrap();
        assert_eq!(heads.unix_ms, 1_700_000_000_000);
        assert_eq!(heads.of(Shard(3)), Some((5, trees[3].root().unwrap())));
        assert_eq!(heads.of(Shard(255)), Some((5, trees[255].root().unwrap())));
        assert_eq!(heads.of(Shard(4)), None);
        // Verifying takes milliseconds without optimisation, so not every letter.
        for position in (0..note.len()).step_by(5) {
            let mut changed = note.clone().into_bytes();
            changed[position] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else {
                continue;
            };
            assert_eq!(signer.verify(&changed), None, "{changed}");
        }
        assert_eq!(Signer::new(&[1; 16], &[3; 32]).unwrap().verify(&note), None);
    }

    #[test]
    fn what_is_signed_for_one_log_is_nothing_to_another() {
        let signer = Signer::new(&[1; 16], &[2; 32]).unwrap();
        let (size, root) = (7, record_hash(b"a root"));
        let text = signer.sign_log(Shard(0x3f), (size, root)).unwrap();
        let note = Note::from_bytes(text.as_bytes()).unwrap();
        assert_eq!(signer.verify_log(&note), Some((Shard(0x3f), size, root)));
        assert_eq!(text, signer.sign_log(Shard(0x3f), (size, root)).unwrap());
        // Standard tools take the published key.
        let key = signer.log_verifier_key(Shard(0x3f));
        let verifier = signed_note::StandardVerifier::new(&key).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        assert_eq!(note.verify(&known).unwrap().0.len(), 1);
        // Not under another log's name, nor under the store's, nor with a changed letter.
        for (from, to) in [("/3f", "/3e"), ("/3f", ""), ("\n7\n", "\n8\n")] {
            let bent = Note::from_bytes(text.replace(from, to).as_bytes()).unwrap();
            assert_eq!(signer.verify_log(&bent), None, "{from} {to}");
        }
        assert_eq!(signer.verify(&text), None);
        for wrong in ["3F", "100", "3", "", "+3f"] {
            assert_eq!(Shard::parse(wrong), None, "{wrong}");
        }
    }
}
