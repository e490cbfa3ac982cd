//! What the check of a store finds, and what it makes right again.

use std::sync::Arc;

use super::suite::{
    OBSERVATION, PATIENT, Store, TENANT, audit, commit_of, delete, draft, of, put, ready, timer,
};
use super::{Memory, options};
use crate::backend::KeyRow;
use crate::doctor::doctor_on;
use crate::memory_backend::Rows;
use crate::{
    CursorMove, DoctorReport, Expected, FolderTarget, Number, OutboxDraft, OutboxKey, RootKey,
    Severity, Shard, TenantId, Token,
};

/// A store with some of everything, and closed.
async fn filled() -> (Memory, tempfile::TempDir) {
    let store = Memory::new();
    let ledger = ready(&store).await;
    for patient in ["p", "q", "r"] {
        put(
            &ledger,
            PATIENT,
            patient,
            patient,
            Expected::Absent,
            "one",
            &["a", "b"],
        )
        .await;
        put(
            &ledger,
            OBSERVATION,
            patient,
            patient,
            Expected::Absent,
            "v1",
            &["a"],
        )
        .await;
        put(
            &ledger,
            OBSERVATION,
            patient,
            patient,
            Expected::Version(1),
            "v2",
            &["b"],
        )
        .await;
    }
    put(
        &ledger,
        OBSERVATION,
        "gone",
        "q",
        Expected::Absent,
        "x",
        &["a"],
    )
    .await;
    delete(&ledger, OBSERVATION, "gone", "q", 1).await;
    // A redo log, with a row that waits.
    let folder = tempfile::tempdir().unwrap();
    let target = Arc::new(FolderTarget::create(folder.path()).unwrap());
    ledger.backup(target, false, |_| {}).await.unwrap();
    put(
        &ledger,
        OBSERVATION,
        "p",
        "p",
        Expected::Version(2),
        "v3",
        &["c"],
    )
    .await;
    let draft = draft(
        &ledger,
        OBSERVATION,
        "last",
        of("p"),
        Expected::Absent,
        "x",
        &["a"],
    );
    let mut commit = commit_of(&ledger, vec![draft]);
    commit.timers_set.push(timer(1, 5, 1, 1));
    commit.outbox_add.push(OutboxDraft {
        key: OutboxKey {
            shard: Shard(1),
            due_ms: 5,
            id: [1; 16],
        },
        owner: of("q"),
        channel: 4,
        attempt: 0,
        body: b"message".to_vec(),
    });
    commit.cursor = Some(CursorMove {
        consumer: "follower".into(),
        shard: Shard(1),
        from: Number(0),
        to: Number(1),
    });
    ledger.commit(commit).await.unwrap();
    ledger
        .destroy_patient_key(TENANT, "r", audit(&ledger, Shard(0)))
        .await
        .unwrap();
    ledger.close().await.unwrap();
    (store, folder)
}

async fn check(store: &Memory, repair: bool) -> DoctorReport {
    let options = options(RootKey::from_bytes([7; 32]), store.clock());
    let backend = Arc::new(store.backend.clone());
    doctor_on(backend, options, repair, |_| {}).await.unwrap()
}

// Proves: 45 CFR 164.312(c)(2)
#[tokio::test]
async fn a_whole_store_has_no_findings() {
    let (store, _folder) = filled().await;
    let before = store.backend.rows();
    let report = check(&store, true).await;
    assert!(
        report.is_sound() && report.findings.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.documents, before.documents.len() as u64);
    assert_eq!(report.leaves, before.leaves.len() as u64);
    assert_eq!(report.postings, before.postings.len() as u64);
    assert_eq!(report.keys, 3);
    // A timer, an outbox entry, a position and three rows of the log.
    assert_eq!(report.queued, 6);
    assert_eq!(report.unreadable_documents, 3);
    assert!(before == store.backend.rows(), "a check changes nothing");
}

/// A change, and its name.
type Harm = (&'static str, fn(&mut Rows));

fn first<K: Clone + Ord, V: Clone>(map: &std::collections::BTreeMap<K, V>) -> (K, V) {
    let (key, value) = map.first_key_value().unwrap();
    (key.clone(), value.clone())
}

/// A document that has been superseded: its head's key, and the place of the version before.
fn changed_once(rows: &Rows) -> (crate::backend::HeadKey, u32, crate::Hit) {
    let ((key, version), at) = first(&rows.superseded);
    (key, version, at)
}

const REPAIRABLE: &[Harm] = &[
    ("a head is gone", |rows| {
        let key = changed_once(rows).0;
        rows.heads.remove(&key);
    }),
    ("a head is behind", |rows| {
        let (key, version, at) = changed_once(rows);
        let head = rows.heads.get_mut(&key).unwrap();
        (head.version, head.at, head.deleted) = (version, at, false);
    }),
    ("a head leads to an earlier version", |rows| {
        let (key, _, at) = changed_once(rows);
        rows.heads.get_mut(&key).unwrap().at = at;
    }),
    ("a head says that it is deleted", |rows| {
        let key = changed_once(rows).0;
        let head = rows.heads.get_mut(&key).unwrap();
        head.deleted = !head.deleted;
    }),
    ("an earlier version's place is gone", |rows| {
        let (key, version, _) = changed_once(rows);
        rows.superseded.remove(&(key, version));
    }),
    ("an earlier version's place is another", |rows| {
        let (key, version, _) = changed_once(rows);
        let at = rows.heads[&key].at;
        rows.superseded.insert((key, version), at);
    }),
    ("an event is gone", |rows| {
        let _ = rows.events.pop_first();
    }),
    ("an event is another", |rows| {
        rows.events.first_entry().unwrap().get_mut().version += 1;
    }),
    ("a posting is gone", |rows| {
        let _ = rows.postings.pop_first();
    }),
    ("all postings are gone", |rows| rows.postings.clear()),
    ("a posting is of another token", |rows| {
        let ((token, number, shard), ()) = first(&rows.postings);
        rows.postings
            .insert((Token(token.0 ^ 1), number, shard), ());
    }),
    ("a superseded version is found", |rows| {
        let (_, _, at) = changed_once(rows);
        rows.postings.insert((Token(5), !at.number.0, at.shard), ());
    }),
    ("a superseded version has a list of tokens", |rows| {
        // The oldest one: a backup has taken it already.
        let at = *rows.superseded.values().min().unwrap();
        rows.posted.insert((at.number, at.shard), vec![Token(5)]);
    }),
    ("a hash of a tree is another", |rows| {
        rows.nodes.first_entry().unwrap().get_mut()[0] ^= 1;
    }),
    ("the hashes of all trees are gone", |rows| {
        rows.nodes.clear();
    }),
];

const DAMAGE: &[Harm] = &[
    ("a byte of a document is another", |rows| {
        *rows
            .documents
            .first_entry()
            .unwrap()
            .get_mut()
            .last_mut()
            .unwrap() ^= 1;
    }),
    ("a document is gone", |rows| {
        let _ = rows.documents.pop_first();
    }),
    ("the newest document is gone", |rows| {
        let _ = rows.documents.pop_last();
    }),
    ("a document does not decode", |rows| {
        rows.documents.first_entry().unwrap().get_mut().truncate(5);
    }),
    ("a leaf is gone", |rows| {
        let _ = rows.leaves.pop_first();
    }),
    ("the last leaf is gone", |rows| {
        let _ = rows.leaves.pop_last();
    }),
    ("a leaf is another", |rows| {
        rows.leaves.first_entry().unwrap().get_mut()[20] ^= 1;
    }),
    ("a document has no leaf", |rows| {
        let ((number, shard), row) = first(&rows.documents);
        rows.documents.insert((Number(number.0 - 1), shard), row);
    }),
    ("the checkpoint is another", |rows| {
        rows.meta.get_mut("checkpoint").unwrap()[30] ^= 1;
    }),
    ("an event has no document", |rows| {
        let (_, mut event) = first(&rows.events);
        event.at.number.0 -= 1;
        rows.events.insert((event.at.shard, event.at.number), event);
    }),
    ("a head has no document", |rows| {
        let (mut key, mut head) = first(&rows.heads);
        key.id[0] ^= 1;
        head.at.number.0 -= 1;
        rows.heads.insert(key, head);
    }),
    ("a version's place has no document", |rows| {
        let ((mut key, version), at) = first(&rows.superseded);
        key.id[0] ^= 1;
        rows.superseded.insert((key, version), at);
    }),
    ("all that a document is found by is gone", |rows| {
        let (at, _) = first(&rows.posted);
        rows.posted.remove(&at);
        rows.postings
            .retain(|(_, number, shard), ()| (Number(!*number), *shard) != at);
    }),
    ("a key does not unwrap", |rows| {
        let keys = rows.keys.values_mut();
        for row in keys {
            if let KeyRow::Wrapped(wrapped) = row {
                wrapped[20] ^= 1;
                return;
            }
        }
    }),
    ("a key is gone", |rows| rows.keys.clear()),
    ("a timer is of nobody", |rows| {
        rows.timers.first_entry().unwrap().get_mut().tenant = TenantId(9);
    }),
    ("an outbox entry does not open", |rows| {
        *rows
            .outbox
            .first_entry()
            .unwrap()
            .get_mut()
            .sealed
            .last_mut()
            .unwrap() ^= 1;
    }),
    ("a follower is ahead of everything", |rows| {
        *rows.cursors.first_entry().unwrap().get_mut() = Number(u64::MAX);
    }),
    ("the redo log has a gap", |rows| {
        let middle = *rows.redo.keys().nth(1).unwrap();
        rows.redo.remove(&middle);
    }),
    ("a redo row does not decode", |rows| {
        rows.redo.first_entry().unwrap().get_mut().truncate(12);
    }),
    ("a tenant's secret is gone", |rows| {
        let _ = rows.meta.remove("tenant/00000001");
    }),
    ("the signing key is gone", |rows| {
        let _ = rows.meta.remove("signer");
    }),
];

#[tokio::test]
async fn what_follows_from_the_rest_is_found_and_made_right() {
    let (store, _folder) = filled().await;
    let whole = store.backend.rows();
    for (name, harm) in REPAIRABLE {
        store.backend.edit(harm);
        let harmed = store.backend.rows();
        assert!(harmed != whole, "{name}");
        let report = check(&store, false).await;
        assert_eq!(report.damaged, 0, "{name}: {report:?}");
        assert!(
            report.repairable > 0 && !report.is_sound(),
            "{name}: {report:?}"
        );
        assert!(harmed == store.backend.rows(), "{name}: only looking");
        // Behind a wrong head there may be more, which the second look shows.
        for _ in 0..2 {
            check(&store, true).await;
        }
        let report = check(&store, false).await;
        assert!(
            report.is_sound() && report.findings.is_empty(),
            "{name}: {report:?}"
        );
        assert!(whole == store.backend.rows(), "{name}: as it was");
    }
}

// Proves: 45 CFR 164.312(c)(2), 164.308(a)(6)(ii)
#[tokio::test]
async fn damage_is_found_and_nothing_is_changed() {
    let (store, _folder) = filled().await;
    let whole = store.backend.rows();
    for (name, harm) in DAMAGE {
        store.backend.edit(|rows| {
            harm(rows);
            // With something besides that could be repaired.
            rows.nodes.first_entry().unwrap().get_mut()[0] ^= 1;
        });
        let harmed = store.backend.rows();
        let report = check(&store, true).await;
        assert!(
            report.damaged > 0 && report.repaired == 0,
            "{name}: {report:?}"
        );
        let mut damage = report
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Damage);
        assert!(
            damage.all(|finding| finding.remedy.contains("backup")),
            "{name}: {report:?}"
        );
        assert!(harmed == store.backend.rows(), "{name}: nothing is changed");
        store.backend.edit(|rows| *rows = (*whole).clone());
    }
    assert!(check(&store, false).await.is_sound());
}

#[tokio::test]
async fn a_wrong_root_key_is_an_error_and_no_finding() {
    let (store, _folder) = filled().await;
    let options = options(RootKey::from_bytes([8; 32]), store.clock());
    let backend = Arc::new(store.backend.clone());
    let outcome = doctor_on(backend, options, false, |_| {}).await;
    assert!(
        matches!(outcome, Err(crate::LedgerError::RootKey(_))),
        "{outcome:?}"
    );
    let nowhere = crate::OpenOptions {
        location: crate::Location::Folder("/nonexistent".into()),
        ..super::options(RootKey::from_bytes([7; 32]), store.clock())
    };
    let outcome = crate::doctor(nowhere, false, |_| {}).await;
    assert!(
        matches!(outcome, Err(crate::LedgerError::Invalid(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_destroyed_tenant_is_no_damage() {
    let (store, _folder) = filled().await;
    let ledger = store.open();
    let main = ["main.example".to_owned()];
    let set = ledger.set_tenant(TENANT, None, Some(&main), None);
    set.await.unwrap();
    let north = ["north.example".to_owned()];
    ledger.add_tenant("north", &north).await.unwrap();
    ledger.suspend_tenant(TENANT, true).await.unwrap();
    store.clock().advance(101_000);
    ledger.destroy_tenant(TENANT).await.unwrap();
    ledger.close().await.unwrap();
    let report = check(&store, true).await;
    assert!(report.is_sound(), "{report:?}");
    assert!(report.unreadable_documents > 5, "{report:?}");
    let told = (report.findings.iter()).any(|finding| finding.what.contains("was destroyed"));
    assert!(told, "{report:?}");
}
