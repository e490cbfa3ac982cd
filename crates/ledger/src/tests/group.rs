//! Group commit on a store that fails, waits and counts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::options;
use super::suite::{PATIENT, TENANT, audit, commit_of, draft, of};
use crate::backend::{Backend, KeyRow, Snapshot, Write};
use crate::memory_backend::MemoryBackend;
use crate::{Commit, Expected, Ledger, LedgerError, ManualClock, RootKey, Shard};

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
    fn room_for(&self, _bytes: u64) -> Result<(), LedgerError> {
        Ok(())
    }
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
    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        Ok(true)
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
        Write::Listed { at, .. } | Write::Posted { at, .. } | Write::DropPosted { at } => {
            format!("posted {at:?}")
        }
        Write::Event(event) => format!("event {:?}", event.at),
        Write::Leaf { shard, index, .. } => format!("leaf {shard} {index}"),
        Write::Timer(timer) => format!("timer {:?}", timer.key),
        Write::DropTimer(key) => format!("timer {key:?}"),
        Write::Outbox(row) => format!("outbox {:?}", row.key),
        Write::DropOutbox(key) => format!("outbox {key:?}"),
        Write::Cursor {
            consumer, shard, ..
        } => format!("cursor {consumer} {shard}"),
        Write::Key(key, _) => format!("key {key:?}"),
        Write::KeysChanged(shard) => format!("keys changed {shard}"),
        Write::Redo { sequence, .. } | Write::DropRedo(sequence) => format!("redo {sequence}"),
        Write::Meta { name, .. } | Write::NewMeta { name, .. } => format!("meta {name}"),
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

// Proves: 45 CFR 164.312(c)(1)
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

// Proves: 45 CFR 164.310(d)(2)(i)
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

// Proves: 45 CFR 164.312(b)
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

/// What a shared store's turn calls a scrub that becomes due in it.
fn scrub_due_in_a_turn(node: [u8; 16]) -> Vec<u8> {
    use crate::plan::{Group, SCRUB_DUE, State};
    let rows = MemoryBackend::default().snapshot();
    // Nothing tells one turn's numbers from another's.
    let state = State::shared(
        crate::Number(5),
        &std::collections::BTreeMap::new(),
        node,
        std::collections::BTreeMap::new(),
    );
    let wrap = |_: &crate::data_keys::DataKey| Ok(Vec::new());
    let mut group = Group::new(&*rows, &state, 0, &wrap);
    group.scrub_is_due();
    let writes = group.finish().unwrap().writes;
    let due = writes.into_iter().find_map(|write| match write {
        Write::Meta { name, value } if name == SCRUB_DUE => Some(value),
        _ => None,
    });
    due.unwrap()
}

#[test]
fn a_scrub_that_becomes_due_is_not_taken_for_another() {
    let (one, other) = ([1; 16], [2; 16]);
    let due: std::collections::BTreeSet<Vec<u8>> = [one, other, one]
        .into_iter()
        .map(scrub_due_in_a_turn)
        .collect();
    assert_eq!(due.len(), 3);
}

/// A list that a backup has taken goes while it is about to be moved, in either order of asking.
#[tokio::test]
async fn what_goes_is_not_moved_in_the_same_group() {
    use super::suite::{OBSERVATION, put};
    use crate::plan::{Group, Retoken, Retokening};
    let backend = Gated::new();
    let ledger = on(&backend).await;
    let files: Arc<dyn crate::BackupTarget> = Arc::new(super::suite::backup::Files::default());
    ledger.backup(files, false, |_| {}).await.unwrap();
    let first = Expected::Absent;
    let old = put(&ledger, OBSERVATION, "o", "p", first, "1", &["a"]).await;
    let second = Expected::Version(1);
    put(&ledger, OBSERVATION, "o", "p", second, "2", &["b"]).await;
    ledger.close().await.unwrap();
    let state = crate::writer::load_state(&backend.inner).unwrap();
    let rows = backend.snapshot();
    let listed = rows.posted(old).unwrap();
    assert!(!listed.is_empty() && state.redo.on);
    let rows_of = backend.inner.rows();
    let (key, _) = rows_of.superseded.keys().next().unwrap();
    let wrap = |_: &crate::data_keys::DataKey| Ok(Vec::new());
    for trimmed in [false, true] {
        let mut group = Group::new(&*rows, &state, 0, &wrap);
        let layers = group.layer_state(TENANT).unwrap();
        if trimmed {
            assert!(group.trim_redo(u64::MAX).unwrap());
        }
        let moved: Vec<_> = (listed.iter().map(|token| crate::Token(!token.0))).collect();
        // Two processes may ask for the same.
        for _ in 0..2 {
            let retokening = Retokening {
                tenant: TENANT,
                from: layers,
                to: layers,
                rows: vec![Retoken {
                    at: old,
                    key: Some(*key),
                    listed: listed.clone(),
                    tokens: moved.clone(),
                }],
                metas: Vec::new(),
            };
            assert!(group.retoken(retokening).unwrap());
        }
        let writes = group.finish().unwrap().writes;
        let names: std::collections::HashSet<_> = writes.iter().map(row_name).collect();
        assert_eq!(
            names.len(),
            writes.len(),
            "a row is named twice: {writes:?}"
        );
        let goes = |write: &Write| matches!(write, Write::DropPosted { at } if *at == old);
        let stays = |write: &Write| matches!(write, Write::Posted { at, .. } if *at == old);
        assert_eq!(
            (writes.iter().any(goes), writes.iter().any(stays)),
            (trimmed, !trimmed)
        );
        // Nobody finds it by what its list says from now on.
        for token in moved {
            let is_gone = |write: &Write| matches!(write, Write::DropPosting { token: of, at } if (*of, *at) == (token, old));
            assert!(writes.iter().any(is_gone), "{writes:?}");
        }
    }
}
