//! The audit trees as logs that anybody can follow.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ledger::{Expected, InclusionProof, Ledger, LedgerError, LogTile, SHARDS, Shard, Witnesses};
use signed_note::{Note, Signature, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Hash, HashReader, Tile, TileHashReader, TileReader, record_hash, tree_hash,
};

use super::{OBSERVATION, Store, TENANT, commit_of, draft, of, ready};

/// Adds as many leaves to one tree; gives it.
pub(crate) async fn grow(ledger: &Ledger, leaves: u32) -> Shard {
    let patient = ledger.derive_own_id(TENANT, "patient");
    for _ in 0..leaves {
        let id = ledger.mint_own_id(TENANT);
        let draft = draft(
            ledger,
            OBSERVATION,
            &id,
            of(&patient),
            Expected::Absent,
            "x",
            &[],
        );
        ledger.commit(commit_of(ledger, vec![draft])).await.unwrap();
    }
    ledger.shard_of(TENANT, &of(&patient), "any")
}

/// Opens a note as any tool for logs would, with a published key.
fn opened(note: &str, key: &str) -> Checkpoint {
    let note = Note::from_bytes(note.as_bytes()).unwrap();
    let verifier = StandardVerifier::new(key).unwrap();
    note.verify(&VerifierList::new(vec![Box::new(verifier)]))
        .unwrap();
    Checkpoint::from_bytes(note.text()).unwrap()
}

/// Tiles that were fetched before; the library's reader wants them at once.
struct Fetched(BTreeMap<String, Vec<u8>>);

impl TileReader for Fetched {
    fn height(&self) -> u8 {
        8
    }
    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let found = tiles.iter().map(|tile| {
            let path = tile.path();
            let path = path.strip_prefix("tile/8/").unwrap();
            self.0.get(path).cloned()
        });
        found
            .collect::<Option<_>>()
            .ok_or(tlog_tiles::Error::InvalidTile)
    }
    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

async fn fetch(ledger: &Ledger, shard: Shard, size: u64) -> BTreeMap<String, Vec<u8>> {
    let mut fetched = BTreeMap::new();
    for tile in LogTile::of_log(size) {
        let bytes = ledger.log_tile(shard, tile).await.unwrap().unwrap();
        fetched.insert(tile.path(), bytes);
    }
    fetched
}

pub(crate) async fn logs_are_read_tile_by_tile(store: &dyn Store) {
    let ledger = ready(store).await;
    let keys = ledger.verifier_keys();
    assert_eq!(keys.len(), usize::from(SHARDS) + 1);
    let empty = ledger.log_checkpoint(Shard(9)).await.unwrap();
    let empty = opened(&empty, &keys[10]);
    assert_eq!((empty.size(), *empty.hash()), (0, tlog_tiles::EMPTY_HASH));
    let some = LogTile::parse("0/000.p/1").unwrap();
    assert!(ledger.log_tile(Shard(9), some).await.unwrap().is_none());

    // Into the second tile.
    let shard = grow(&ledger, 259).await;
    ledger.checkpoint().await.unwrap();
    let newest = ledger.newest_checkpoint().await.unwrap();
    assert_eq!(newest.trees, [(shard, 259)]);
    let checkpoint = ledger.log_checkpoint(shard).await.unwrap();
    let checkpoint = opened(&checkpoint, &keys[usize::from(shard.0) + 1]);
    assert_eq!(checkpoint.size(), 259);
    let origin = keys[0].split('+').next().unwrap();
    assert_eq!(checkpoint.origin(), format!("{origin}/{shard}"));

    let fetched = fetch(&ledger, shard, 259).await;
    let names: Vec<_> = fetched.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "0/000",
            "0/001.p/3",
            "1/000.p/1",
            "entries/000",
            "entries/001.p/3"
        ]
    );
    let mut leaves = Vec::new();
    for bundle in ["entries/000", "entries/001.p/3"] {
        let mut rest = &fetched[bundle][..];
        while let Some((length, more)) = rest.split_first_chunk() {
            let (entry, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
            leaves.push(record_hash(entry));
            rest = more;
        }
    }
    let hashes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
    assert_eq!(
        hashes,
        [&fetched["0/000"][..], &fetched["0/001.p/3"]].concat()
    );
    // The tiles authenticate themselves against the checkpoint, up to the last leaf.
    let tiles = Fetched(fetched);
    let reader = TileHashReader::new(259, *checkpoint.hash(), &tiles);
    let last = tlog_tiles::stored_hash_index(0, 258);
    assert_eq!(reader.read_hashes(&[last]).unwrap(), [leaves[258]]);
    assert_eq!(tree_hash(259, &reader).unwrap(), *checkpoint.hash());

    // A leaf that is written but not under a signed checkpoint is not shown.
    for (path, there) in [
        ("0/001.p/2", true),
        ("0/001.p/4", false),
        ("0/001", false),
        ("1/000", false),
    ] {
        let tile = LogTile::parse(path).unwrap();
        let found = ledger.log_tile(shard, tile).await.unwrap();
        assert_eq!(found.is_some(), there, "{path}");
    }
}

// Proves: 45 CFR 164.312(c)(2)
pub(crate) async fn trees_go_on_from_older_checkpoints(store: &dyn Store) {
    let ledger = ready(store).await;
    let nothing = ledger.checkpoint().await.unwrap();
    let shard = grow(&ledger, 3).await;
    let old = ledger.checkpoint().await.unwrap();
    let old_log = ledger.log_checkpoint(shard).await.unwrap();
    grow(&ledger, 4).await;
    let new = ledger.checkpoint().await.unwrap();
    let new_log = ledger.log_checkpoint(shard).await.unwrap();

    for (given, newest) in [
        (&old, &new),
        (&old_log, &new_log),
        (&new, &new),
        (&new_log, &new_log),
    ] {
        let report = ledger.verify_against(given).await.unwrap();
        assert!(report.broken.is_none(), "{report:?}");
        assert_eq!(
            (&report.old_checkpoint, &report.new_checkpoint),
            (given, newest)
        );
        let [proof] = &report.trees[..] else {
            panic!("{report:?}");
        };
        // With nothing of the ledger's.
        let hash = |text: &String| Hash::parse_hash(text).unwrap();
        let path = proof.path.iter().map(hash).collect();
        let (new_root, old_root) = (hash(&proof.new_root), hash(&proof.old_root));
        tlog_tiles::check_tree(&path, proof.new_size, new_root, proof.old_size, old_root).unwrap();
        if given == &old_log {
            let keys = ledger.verifier_keys();
            assert_eq!(report.verifier_key, keys[usize::from(shard.0) + 1]);
            let newest = opened(&report.new_checkpoint, &report.verifier_key);
            assert_eq!((newest.size(), *newest.hash()), (proof.new_size, new_root));
            assert_eq!((proof.old_size, proof.new_size), (3, 7));
        }
    }
    let report = ledger.verify_against(&nothing).await.unwrap();
    assert!(report.trees.is_empty() && report.broken.is_none());
    for bent in [
        old.replace("time 1", "time 2"),
        old_log.replace("\n3\n", "\n2\n"),
        "x".to_owned(),
    ] {
        let outcome = ledger.verify_against(&bent).await;
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{outcome:?}"
        );
    }
}

/// A witness with a key of its own.
pub(crate) struct Cosigner {
    name: &'static str,
    pair: Ed25519KeyPair,
}

impl Cosigner {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self { name, pair }
    }
    fn public(&self) -> Vec<u8> {
        [&[4], self.pair.public_key().as_ref()].concat()
    }
    pub(crate) fn key(&self) -> String {
        let id = signed_note::key_id(self.name, &self.public());
        format!("{}+{id:08x}+{}", self.name, STANDARD.encode(self.public()))
    }
    /// The note with this witness's line.
    pub(crate) fn cosign(&self, note: &str, unix_s: u64) -> String {
        let (text, _) = note.rsplit_once("\n\n").unwrap();
        let message = format!("cosignature/v1\ntime {unix_s}\n{text}\n");
        let signature = self.pair.sign(message.as_bytes());
        let bytes = [&unix_s.to_be_bytes(), signature.as_ref()].concat();
        let id = signed_note::key_id(self.name, &self.public());
        let line = Signature::new(self.name.to_owned(), id, bytes).unwrap();
        format!("{note}{}", String::from_utf8(line.to_bytes()).unwrap())
    }
}

/// The checkpoint and the leaf's index in a proof in the form of `tlog-proof`, checked.
fn checked_tlog_proof(proof: &InclusionProof) -> (String, Checkpoint) {
    let (head, note) = proof.tlog_proof.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
    let record = lines.next().unwrap().strip_prefix("extra ").unwrap();
    let record = STANDARD.decode(record).unwrap();
    let index = lines.next().unwrap().strip_prefix("index ").unwrap();
    let path = lines.map(|line| Hash::parse_hash(line).unwrap()).collect();
    let checkpoint = opened(note, &proof.log_verifier_key);
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let index = index.parse().unwrap();
    tlog_tiles::check_record(&path, size, root, index, record_hash(&record)).unwrap();
    (note.to_owned(), checkpoint)
}

// Proves: 45 CFR 164.312(c)(2)
pub(crate) async fn witnesses_are_asked_with_a_proof(store: &dyn Store) {
    let ledger = ready(store).await;
    let shard = grow(&ledger, 3).await;
    ledger.checkpoint().await.unwrap();
    let old = ledger.log_checkpoint(shard).await.unwrap();
    grow(&ledger, 8).await;
    ledger.checkpoint().await.unwrap();
    let new = ledger.log_checkpoint(shard).await.unwrap();
    let root = |note: &str| Hash::parse_hash(note.lines().nth(2).unwrap()).unwrap();
    for size in [0, 3, 11] {
        let body = ledger.witness_request(&new, size).await.unwrap();
        let (head, checkpoint) = body.split_once("\n\n").unwrap();
        assert_eq!(checkpoint, new);
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some(format!("old {size}").as_str()));
        let path: Vec<_> = lines.map(|line| Hash::parse_hash(line).unwrap()).collect();
        assert_eq!(path.is_empty(), size != 3);
        if size == 3 {
            tlog_tiles::check_tree(&path, 11, root(&new), 3, root(&old)).unwrap();
        }
    }
    for (checkpoint, size) in [(&old, 4), (&"x".to_owned(), 0)] {
        let outcome = ledger.witness_request(checkpoint, size).await;
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{outcome:?}"
        );
    }
    let one = Cosigner::new("w.example/1", 1);
    let witnesses = Witnesses::parse(&one.key(), 1).unwrap();
    ledger.trust_witnesses(witnesses.clone()).unwrap();
    for (note, size) in [("", 0), (&old, 3), (&new, 11), (&old, 11)] {
        if !note.is_empty() {
            ledger
                .add_cosignatures(&one.cosign(note, 100))
                .await
                .unwrap();
        }
        let known = ledger.cosigned_size(&witnesses.list()[0], shard).await;
        assert_eq!(known.unwrap(), size);
    }
}

pub(crate) async fn witnesses_are_heard(store: &dyn Store) {
    let ledger = ready(store).await;
    let shard = grow(&ledger, 2).await;
    ledger.checkpoint().await.unwrap();
    let first = ledger.log_checkpoint(shard).await.unwrap();
    let [one, two, stranger] = [("w.example/1", 1), ("w.example/2", 2), ("w.example/3", 3)]
        .map(|(name, seed)| Cosigner::new(name, seed));
    let refused = async |note: &str| {
        let outcome = ledger.add_cosignatures(note).await;
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{note}: {outcome:?}"
        );
    };
    // Nobody is known yet.
    refused(&one.cosign(&first, 100)).await;
    let list = format!("# ours\n{}\n\n{}\n", one.key(), two.key());
    ledger
        .trust_witnesses(Witnesses::parse(&list, 2).unwrap())
        .unwrap();

    refused(&first).await;
    refused(&stranger.cosign(&first, 100)).await;
    refused(&one.cosign(&first, 0)).await;
    refused(&one.cosign(&first, 1 << 63)).await;
    // The witness's key, but not its signature; another's log; a checkpoint that nobody here signed.
    let cosigned = one.cosign(&first, 100);
    let other_time = one.cosign(&first, 101);
    let (text, line) = (&cosigned[..first.len()], &cosigned[first.len()..]);
    refused(&format!("{text}{}", line.replace(['A', 'B'], "C"))).await;
    refused(&one.cosign(&first.replace("\n2\n", "\n3\n"), 100)).await;
    refused(&one.cosign(&ledger.newest_checkpoint().await.unwrap().note, 100)).await;
    assert!(ledger.witnessed_checkpoint(shard).await.unwrap().is_none());

    // One of two is not enough, and twice the same is one.
    assert_eq!(
        ledger.add_cosignatures(&cosigned).await.unwrap(),
        (shard, 2, 1)
    );
    ledger.add_cosignatures(&other_time).await.unwrap();
    assert!(ledger.witnessed_checkpoint(shard).await.unwrap().is_none());
    let both = two.cosign(&stranger.cosign(&first, 200), 200);
    assert_eq!(ledger.add_cosignatures(&both).await.unwrap(), (shard, 2, 1));
    let witnessed = ledger.witnessed_checkpoint(shard).await.unwrap().unwrap();
    assert_eq!(witnessed, two.cosign(&other_time, 200));

    // The log goes on; one witness runs far ahead, and what both have cosigned stays.
    for round in 0..20 {
        grow(&ledger, 1).await;
        ledger.checkpoint().await.unwrap();
        let newer = ledger.log_checkpoint(shard).await.unwrap();
        ledger
            .add_cosignatures(&one.cosign(&newer, 300 + round))
            .await
            .unwrap();
    }
    let still = ledger.witnessed_checkpoint(shard).await.unwrap();
    assert_eq!(still.as_deref(), Some(witnessed.as_str()));
    let states = ledger.witness_states().await.unwrap();
    let seen: Vec<_> = states
        .iter()
        .map(|state| (state.name.as_str(), state.logs, state.newest_unix_s))
        .collect();
    assert_eq!(seen, [("w.example/1", 1, 319), ("w.example/2", 1, 200)]);

    // A proof stands on the witnessed checkpoint if that covers the leaf.
    for (index, size) in [(1, 2), (2, 22)] {
        let leaf = ledger.leaf_at(shard, index).await.unwrap().unwrap();
        let proof = ledger.prove(&leaf).await.unwrap();
        let (note, checkpoint) = checked_tlog_proof(&proof);
        assert_eq!((checkpoint.size(), note == witnessed), (size, index == 1));
    }
    assert!(ledger.leaf_at(shard, 22).await.unwrap().is_none());

    // All of it outlives the process; who no longer counts doesn't.
    ledger.close().await.unwrap();
    let ledger = store.open();
    ledger
        .trust_witnesses(Witnesses::parse(&list, 2).unwrap())
        .unwrap();
    let kept = ledger.witnessed_checkpoint(shard).await.unwrap();
    assert_eq!(kept, Some(witnessed));
    ledger
        .trust_witnesses(Witnesses::parse(&two.key(), 1).unwrap())
        .unwrap();
    let kept = ledger.witnessed_checkpoint(shard).await.unwrap();
    assert_eq!(kept, Some(two.cosign(&first, 200)));
    ledger
        .trust_witnesses(Witnesses::parse(&stranger.key(), 1).unwrap())
        .unwrap();
    assert!(ledger.witnessed_checkpoint(shard).await.unwrap().is_none());
}
