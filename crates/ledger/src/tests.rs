//! Tests that look behind the interface: a second backend, rows changed behind the ledger's back,
//! and stores that fail or wait on demand.

#[path = "../tests/suite/mod.rs"]
mod suite;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use suite::{OBSERVATION, PATIENT, Store, TENANT, audit, commit_of, draft, of, ready};

use crate::backend::{Backend, KeyRow, Snapshot, Write};
use crate::fjall_backend::FjallBackend;
use crate::memory_backend::{MemoryBackend, Rows};
use crate::{
    Commit, Expected, Hit, Ledger, LedgerError, ManualClock, OpenOptions, RootKey, Shard,
    SystemEntropy,
};

struct Memory {
    backend: MemoryBackend,
    clock: ManualClock,
}

impl Memory {
    fn new() -> Self {
        Self {
            backend: MemoryBackend::default(),
            clock: ManualClock::new(1_700_000_000_000),
        }
    }
}

fn options(root_key: RootKey, clock: &ManualClock) -> OpenOptions {
    OpenOptions {
        path: std::path::PathBuf::new(),
        root_key,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    }
}

impl Store for Memory {
    fn open_with(&self, root_key: RootKey) -> Result<Ledger, LedgerError> {
        Ledger::open_on(
            Arc::new(self.backend.clone()),
            &options(root_key, &self.clock),
        )
    }
    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

mod memory {
    use super::{Memory, suite};
    crate::conformance!(Memory::new());
}

/// Three patients, some commits, one update; a signed checkpoint over all of it.
async fn filled(store: &Memory) -> Ledger {
    let ledger = ready(store).await;
    for number in 0..9 {
        let patient = ledger.derive_own_id(TENANT, &format!("patient {}", number % 3));
        let id = format!("o{number}");
        let first = draft(
            &ledger,
            OBSERVATION,
            &id,
            of(&patient),
            Expected::Absent,
            &format!("body {number}"),
            &["a"],
        );
        ledger
            .commit(commit_of(&ledger, vec![first]))
            .await
            .unwrap();
    }
    let patient = ledger.derive_own_id(TENANT, "patient 0");
    let second = draft(
        &ledger,
        OBSERVATION,
        "o0",
        of(&patient),
        Expected::Version(1),
        "second body",
        &[],
    );
    ledger
        .commit(commit_of(&ledger, vec![second]))
        .await
        .unwrap();
    ledger.checkpoint().await.unwrap();
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
    ledger
}

/// The broken leaf that the check finds after a change.
async fn broken_by(
    store: &Memory,
    ledger: &Ledger,
    change: impl FnOnce(&mut Rows),
) -> (Option<(Shard, u64, String)>, bool) {
    let before = store.backend.rows();
    store.backend.edit(change);
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    store.backend.edit(|rows| *rows = (*before).clone());
    (
        report
            .broken
            .map(|broken| (Shard(broken.shard), broken.leaf, broken.reason)),
        report.checkpoint_ok,
    )
}

/// The leaf that vouches for a document.
fn leaf_of(rows: &Rows, at: Hit) -> (Shard, u64) {
    let leaves = rows
        .leaves
        .iter()
        .filter(|((shard, _), _)| *shard == at.shard);
    let mut holding = leaves.filter(|(_, record)| {
        crate::rows::Leaf::decode(record)
            .unwrap()
            .numbers
            .contains(&at.number)
    });
    *holding.next().unwrap().0
}

#[tokio::test]
async fn any_changed_byte_of_a_document_is_found_and_named() {
    let store = Memory::new();
    let ledger = filled(&store).await;
    let rows = store.backend.rows();
    for (place, ((number, shard), row)) in rows.documents.iter().enumerate() {
        let at = Hit {
            number: *number,
            shard: *shard,
        };
        // Each byte of the first document and of its audit record, some of the others'.
        let step = if place < 2 { 1 } else { 13 };
        for position in (0..row.len()).step_by(step) {
            let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
                rows.documents.get_mut(&(*number, *shard)).unwrap()[position] ^= 1;
            })
            .await;
            let (broken_shard, leaf, reason) = broken.expect("a changed byte is found");
            assert_eq!(
                (broken_shard, leaf),
                leaf_of(&rows, at),
                "byte {position}: {reason}"
            );
            // The trees themselves are whole.
            assert!(checkpoint_ok);
        }
        let (broken, _) = broken_by(&store, &ledger, |rows| {
            rows.documents.remove(&(*number, *shard));
        })
        .await;
        let (broken_shard, leaf, reason) = broken.unwrap();
        assert_eq!((broken_shard, leaf), leaf_of(&rows, at));
        assert!(reason.contains("missing"), "{reason}");
    }
}

#[tokio::test]
async fn any_changed_byte_of_a_leaf_or_node_is_found_and_named() {
    let store = Memory::new();
    let ledger = filled(&store).await;
    let rows = store.backend.rows();
    for (key, record) in &rows.leaves {
        for position in 0..record.len() {
            let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
                rows.leaves.get_mut(key).unwrap()[position] ^= 1;
            })
            .await;
            let (shard, leaf, reason) = broken.expect("a changed byte is found");
            assert_eq!((shard, leaf), *key, "byte {position}: {reason}");
            assert!(!checkpoint_ok);
        }
        let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
            rows.leaves.remove(key);
        })
        .await;
        let (shard, leaf, reason) = broken.unwrap();
        assert_eq!((shard, leaf), *key);
        assert!(reason.contains("missing") && !checkpoint_ok, "{reason}");
    }
    for (key, hash) in &rows.nodes {
        for position in [0, 31] {
            assert_eq!(hash.len(), 32);
            let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
                rows.nodes.get_mut(key).unwrap()[position] ^= 1;
            })
            .await;
            assert_eq!(broken.expect("a changed hash is found").0, key.0);
            // The tree is rebuilt from its leaves, not from what is stored of it.
            assert!(checkpoint_ok);
        }
    }
}

#[tokio::test]
async fn hidden_lost_and_added_versions_are_found() {
    let store = Memory::new();
    let ledger = filled(&store).await;
    let rows = store.backend.rows();
    for key in rows.heads.keys() {
        let (broken, _) = broken_by(&store, &ledger, |rows| {
            rows.heads.remove(key);
        })
        .await;
        assert!(broken.unwrap().2.contains("no newest version"));
    }
    for key in rows.superseded.keys() {
        let (broken, _) = broken_by(&store, &ledger, |rows| {
            rows.superseded.remove(key);
        })
        .await;
        assert!(broken.unwrap().2.contains("not the version"));
    }
    // A document without a leaf.
    let (place, row) = rows.documents.first_key_value().unwrap();
    let added = (crate::Number(place.0.0 + 500), place.1);
    let (broken, _) = broken_by(&store, &ledger, |rows| {
        rows.documents.insert(added, row.clone());
    })
    .await;
    assert!(broken.unwrap().2.contains("no leaf"));
    // The checkpoint.
    for change in [b"".to_vec(), b"cairn\n".to_vec()] {
        let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
            rows.meta.insert("checkpoint".into(), change);
        })
        .await;
        assert!(broken.is_none() && !checkpoint_ok);
    }
    // A tree cut back to an earlier state, leaf by leaf with its hashes.
    let (shard, last) = *rows.leaves.keys().next_back().unwrap();
    let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
        rows.leaves.remove(&(shard, last));
    })
    .await;
    assert_eq!(
        broken.map(|(shard, leaf, _)| (shard, leaf)),
        Some((shard, last))
    );
    assert!(!checkpoint_ok);
}

#[tokio::test]
async fn swapped_documents_are_refused() {
    let store = Memory::new();
    let ledger = filled(&store).await;
    let rows = store.backend.rows();
    let keys: Vec<_> = rows.documents.keys().copied().collect();
    let before = (*rows).clone();
    for first in &keys {
        for second in keys.iter().filter(|second| *second > first) {
            store.backend.edit(|rows| {
                let (one, two) = (
                    rows.documents[first].clone(),
                    rows.documents[second].clone(),
                );
                rows.documents.insert(*first, two);
                rows.documents.insert(*second, one);
            });
            for (number, shard) in [first, second] {
                let outcome = ledger
                    .fetch(
                        TENANT,
                        Hit {
                            number: *number,
                            shard: *shard,
                        },
                    )
                    .await;
                assert!(
                    matches!(outcome, Err(LedgerError::Damaged(_))),
                    "{outcome:?}"
                );
            }
            store.backend.edit(|rows| *rows = before.clone());
        }
    }
    // The newest version exchanged for an older one of the same document.
    store.backend.edit(|rows| {
        let (key, old) = rows
            .superseded
            .first_key_value()
            .map(|((key, _), at)| (*key, *at))
            .unwrap();
        let new = rows.heads[&key].at;
        let row = rows.documents[&(old.number, old.shard)].clone();
        rows.documents.insert((new.number, new.shard), row);
    });
    assert!(matches!(
        ledger.get(TENANT, OBSERVATION, "o0").await,
        Err(LedgerError::Damaged(_))
    ));
}

#[tokio::test]
async fn a_store_with_another_audit_than_signed_takes_no_commits() {
    for tampering in 0..4 {
        let store = Memory::new();
        filled(&store).await.close().await.unwrap();
        store.backend.edit(|rows| match tampering {
            0 => {
                rows.meta.insert("checkpoint".into(), b"cairn\n".to_vec());
            }
            1 => {
                // The last leaf of a tree is cut off, with its hashes.
                let (key, _) = rows.leaves.pop_last().unwrap();
                let from = tlog_tiles::stored_hash_index(0, key.1);
                rows.nodes
                    .retain(|(shard, index), _| *shard != key.0 || *index < from);
            }
            2 => {
                // A leaf and all hashes above it are made anew.
                let shard = *rows.leaves.keys().map(|(shard, _)| shard).next().unwrap();
                rows.leaves.get_mut(&(shard, 0)).unwrap()[40] ^= 1;
                let mut tree = crate::tree::Tree::default();
                let leaves: Vec<_> = rows
                    .leaves
                    .range((shard, 0)..=(shard, u64::MAX))
                    .map(|(_, record)| record.clone())
                    .collect();
                for record in leaves {
                    for (index, hash) in tree.append(tlog_tiles::record_hash(&record)).unwrap() {
                        rows.nodes.insert((shard, index), hash.0);
                    }
                }
            }
            _ => rows.leaves.retain(|_, _| false),
        });
        let ledger = store.open();
        let draft = draft(&ledger, PATIENT, "p", of("p"), Expected::Absent, "x", &[]);
        let outcome = ledger.commit(commit_of(&ledger, vec![draft])).await;
        assert!(
            matches!(outcome, Err(LedgerError::Damaged(_))),
            "{tampering}: {outcome:?}"
        );
        // It can still be read, and checked.
        assert!(
            ledger
                .get(TENANT, OBSERVATION, "o1")
                .await
                .unwrap()
                .is_some()
        );
        let report = ledger.verify_audit(&|_| {}).await.unwrap();
        assert!(
            !report.checkpoint_ok && (tampering == 0 || report.broken.is_some()),
            "{tampering}: {report:?}"
        );
        // And closing does not sign what is there now.
        let checkpoint = store.backend.rows().meta["checkpoint"].clone();
        drop(ledger);
        assert_eq!(store.backend.rows().meta["checkpoint"], checkpoint);
    }
}

#[tokio::test]
async fn leaves_without_a_checkpoint_get_one_on_opening() {
    let store = Memory::new();
    let ledger = filled(&store).await;
    let before = store.backend.rows().meta["checkpoint"].clone();
    let late = draft(&ledger, PATIENT, "p", of("p"), Expected::Absent, "x", &[]);
    ledger.commit(commit_of(&ledger, vec![late])).await.unwrap();
    ledger.close().await.unwrap();
    // As after a crash in the second before the next checkpoint.
    store
        .backend
        .edit(|rows| rows.meta.insert("checkpoint".into(), before.clone()));
    let ledger = store.open();
    assert_ne!(store.backend.rows().meta["checkpoint"], before);
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
}

/// Fails on demand, counts batches, and can hold one back.
struct Gated {
    inner: MemoryBackend,
    full: AtomicBool,
    batches: AtomicUsize,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryBackend::default(),
            full: AtomicBool::new(false),
            batches: AtomicUsize::new(0),
            closed: Mutex::new(false),
            opened: Condvar::new(),
        })
    }
    fn hold(&self, held: bool) {
        *self.closed.lock().unwrap() = held;
        self.opened.notify_all();
    }
}

impl Backend for Gated {
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        let guard = self
            .opened
            .wait_while(self.closed.lock().unwrap(), |closed| *closed)
            .unwrap();
        drop(guard);
        if self.full.load(Ordering::SeqCst) {
            return Err(LedgerError::Storage("no room".into()));
        }
        let mut names = std::collections::HashSet::new();
        for write in &writes {
            assert!(
                names.insert(row_name(write)),
                "a batch names a row twice: {write:?}"
            );
        }
        self.inner.apply(writes)
    }
    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.inner.snapshot()
    }
    fn scrub_keys(&self) -> Result<(), LedgerError> {
        Ok(())
    }
    fn disk_bytes(&self) -> u64 {
        0
    }
}

fn row_name(write: &Write) -> String {
    match write {
        Write::Head(key, _) => format!("head {key:?}"),
        Write::Document { at, .. } => format!("document {at:?}"),
        Write::Superseded { key, version, .. } => format!("superseded {key:?} {version}"),
        Write::Posting { token, at } | Write::DropPosting { token, at } => {
            format!("posting {token:?} {at:?}")
        }
        Write::Posted { at, .. } | Write::DropPosted { at } => format!("posted {at:?}"),
        Write::Event(event) => format!("event {:?}", event.at),
        Write::Leaf { shard, index, .. } => format!("leaf {shard} {index}"),
        Write::Node { shard, index, .. } => format!("node {shard} {index}"),
        Write::Timer(timer) => format!("timer {:?}", timer.key),
        Write::DropTimer(key) => format!("timer {key:?}"),
        Write::Outbox(row) => format!("outbox {:?}", row.key),
        Write::DropOutbox(key) => format!("outbox {key:?}"),
        Write::Cursor {
            consumer, shard, ..
        } => format!("cursor {consumer} {shard}"),
        Write::Key(key, _) => format!("key {key:?}"),
        Write::Meta { name, .. } => format!("meta {name}"),
    }
}

async fn on(backend: &Arc<Gated>) -> Ledger {
    let clock = ManualClock::new(1_700_000_000_000);
    let ledger = Ledger::open_on(
        Arc::clone(backend) as Arc<dyn Backend>,
        &options(RootKey::from_bytes([7; 32]), &clock),
    )
    .unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    ledger
}

#[tokio::test]
async fn waiting_commits_share_a_flush_and_fail_alone() {
    let backend = Gated::new();
    let ledger = on(&backend).await;
    let write = |number: u32, expected| {
        let ledger = ledger.clone();
        let draft = draft(
            &ledger,
            PATIENT,
            &format!("p{}", number % 10),
            of("p"),
            expected,
            "x",
            &["a"],
        );
        tokio::spawn(async move { ledger.commit(commit_of(&ledger, vec![draft])).await })
    };
    backend.hold(true);
    let batches = backend.batches.load(Ordering::SeqCst);
    let first = write(0, Expected::Absent);
    while backend.batches.load(Ordering::SeqCst) == batches {
        tokio::task::yield_now().await;
    }
    // While the first is being flushed: nine new documents, an update of one of them, and one that
    // conflicts with the update within the same group.
    let mut waiting: Vec<_> = (1..10)
        .map(|number| write(number, Expected::Absent))
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    waiting.push(write(11, Expected::Version(1)));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let conflicting = write(21, Expected::Version(1));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    backend.hold(false);
    first.await.unwrap().unwrap();
    for commit in waiting {
        commit.await.unwrap().unwrap();
    }
    assert!(matches!(
        conflicting.await.unwrap(),
        Err(LedgerError::Conflict)
    ));
    assert_eq!(backend.batches.load(Ordering::SeqCst), batches + 2);
    // The version that came and went within the group is not found, its successor is.
    let token = crate::Query::Token(ledger.token(TENANT, PATIENT, "code", "a"));
    assert_eq!(
        ledger
            .search(TENANT, &token, None, None, 99)
            .await
            .unwrap()
            .len(),
        10
    );
    assert_eq!(
        ledger
            .history(TENANT, PATIENT, "p1", None, 9)
            .await
            .unwrap()
            .len(),
        2
    );
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_and_forgets_nothing() {
    let backend = Gated::new();
    let ledger = on(&backend).await;
    let write = async |id: &str, expected, body: &str| {
        let draft = draft(&ledger, PATIENT, id, of(id), expected, body, &["a"]);
        ledger.commit(commit_of(&ledger, vec![draft])).await
    };
    let first = write("p", Expected::Absent, "one").await.unwrap();
    backend.full.store(true, Ordering::SeqCst);
    let last = ledger.last_number();
    for id in ["p", "q"] {
        let expected = if id == "p" {
            Expected::Version(1)
        } else {
            Expected::Absent
        };
        let outcome = write(id, expected, "refused").await;
        assert!(
            matches!(&outcome, Err(LedgerError::Storage(why)) if why == "no room"),
            "{outcome:?}"
        );
    }
    assert!(matches!(
        ledger.checkpoint().await,
        Err(LedgerError::Storage(_))
    ));
    assert!(matches!(
        ledger.create_tenant(crate::TenantId(9)).await,
        Err(LedgerError::Storage(_))
    ));
    assert!(matches!(
        ledger.get(crate::TenantId(9), PATIENT, "p").await,
        Err(LedgerError::UnknownTenant(9))
    ));
    assert_eq!(ledger.last_number(), last);
    // Reading goes on.
    assert_eq!(
        ledger
            .get(TENANT, PATIENT, "p")
            .await
            .unwrap()
            .unwrap()
            .body,
        b"one"
    );
    assert!(ledger.get(TENANT, PATIENT, "q").await.unwrap().is_none());
    // With room again, so does writing: heads, trees and keys are where they were.
    backend.full.store(false, Ordering::SeqCst);
    assert_eq!(
        write("p", Expected::Version(1), "two")
            .await
            .unwrap()
            .documents[0]
            .version,
        2
    );
    let q = write("q", Expected::Absent, "one").await.unwrap();
    assert_eq!(
        ledger
            .get(TENANT, PATIENT, "q")
            .await
            .unwrap()
            .unwrap()
            .body,
        b"one"
    );
    assert!(q.documents[0].at > first.documents[0].at);
    ledger.checkpoint().await.unwrap();
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
    // The keys that were first used in refused commits were stored with the later ones.
    let report = ledger.core().tenant(TENANT).unwrap().subject_key("q");
    assert!(matches!(
        backend.inner.rows().keys.get(&report),
        Some(KeyRow::Wrapped(_))
    ));
    ledger.close().await.unwrap();
    let ledger = on(&backend).await;
    assert_eq!(
        ledger
            .get(TENANT, PATIENT, "q")
            .await
            .unwrap()
            .unwrap()
            .body,
        b"one"
    );
}

#[tokio::test]
async fn a_commit_sealed_before_its_key_was_destroyed_is_refused() {
    let backend = Gated::new();
    let ledger = on(&backend).await;
    let write = |id: &str| {
        let draft = draft(&ledger, PATIENT, id, of("p"), Expected::Absent, "x", &[]);
        let (ledger, commit) = (ledger.clone(), commit_of(&ledger, vec![draft]));
        tokio::spawn(async move { ledger.commit(commit).await })
    };
    write("first").await.unwrap().unwrap();
    backend.hold(true);
    let batches = backend.batches.load(Ordering::SeqCst);
    let before = write("before");
    while backend.batches.load(Ordering::SeqCst) == batches {
        tokio::task::yield_now().await;
    }
    let destroying = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            ledger
                .destroy_patient_key(TENANT, "p", audit(&ledger, Shard(0)))
                .await
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    // Sealed with the key that is about to go, and behind it in the queue.
    let after = write("after");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    backend.hold(false);
    before.await.unwrap().unwrap();
    destroying.await.unwrap().unwrap();
    assert!(matches!(
        after.await.unwrap(),
        Err(LedgerError::KeyDestroyed)
    ));
    assert!(
        ledger
            .get(TENANT, PATIENT, "after")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn checkpoints_follow_new_leaves_within_a_second() {
    let backend = Gated::new();
    let ledger = on(&backend).await;
    let checkpoint = || backend.inner.rows().meta["checkpoint"].clone();
    let before = checkpoint();
    ledger
        .commit(Commit {
            audit: Some(audit(&ledger, Shard(3))),
            ..Commit::new(TENANT)
        })
        .await
        .unwrap();
    let started = tokio::time::Instant::now();
    while checkpoint() == before {
        assert!(started.elapsed().as_secs() < 5, "no checkpoint came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // And none while there is nothing new.
    let (covering, batches) = (checkpoint(), backend.batches.load(Ordering::SeqCst));
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    assert_eq!(
        (checkpoint(), backend.batches.load(Ordering::SeqCst)),
        (covering, batches)
    );
}

/// On disk: after the key of a patient is destroyed, no file holds it, even wrapped.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_is_in_no_file() {
    fn found(folder: &std::path::Path, needle: &[u8]) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return found(&path, needle);
            }
            // Files come and go under a running store.
            std::fs::read(&path).is_ok_and(|bytes| suite::has(&bytes, needle))
        })
    }
    let folder = tempfile::tempdir().unwrap();
    let backend: Arc<dyn Backend> = Arc::new(FjallBackend::open(folder.path(), 1 << 20).unwrap());
    let clock = ManualClock::new(1_700_000_000_000);
    let ledger = Ledger::open_on(
        Arc::clone(&backend),
        &options(RootKey::from_bytes([7; 32]), &clock),
    )
    .unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    for patient in ["p", "q"] {
        let draft = draft(
            &ledger,
            PATIENT,
            patient,
            of(patient),
            Expected::Absent,
            "x",
            &[],
        );
        ledger
            .commit(commit_of(&ledger, vec![draft]))
            .await
            .unwrap();
    }
    let keys = ledger.core().tenant(TENANT).unwrap();
    let wrapped = |patient: &str| match backend.snapshot().key(&keys.subject_key(patient)).unwrap()
    {
        Some(KeyRow::Wrapped(wrapped)) => wrapped,
        other => panic!("{other:?}"),
    };
    let (of_p, of_q) = (wrapped("p"), wrapped("q"));
    assert!(found(folder.path(), &of_p) && found(folder.path(), &of_q));
    ledger
        .destroy_patient_key(TENANT, "p", audit(&ledger, Shard(0)))
        .await
        .unwrap();
    assert!(!found(folder.path(), &of_p));
    assert!(found(folder.path(), &of_q));
    assert!(ledger.get(TENANT, PATIENT, "q").await.unwrap().is_some());
}
