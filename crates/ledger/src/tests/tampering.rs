//! Rows changed behind the ledger's back have to be found and named.

use super::Memory;
use super::suite::{
    OBSERVATION, PATIENT, Store, TENANT, commit_of, draft, of, put, ready, token_of,
};
use crate::memory_backend::Rows;
use crate::{Commit, Expected, Hit, Ledger, LedgerError, OutboxDraft, OutboxKey, Owner, Shard};

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

// Proves: 45 CFR 164.312(c)(2)
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
        let step = if place < 2 { 1 } else { 37 };
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

// Proves: 45 CFR 164.312(c)(2)
#[tokio::test]
async fn any_changed_byte_of_a_leaf_or_node_is_found_and_named() {
    let store = Memory::new();
    let ledger = filled(&store).await;
    let rows = store.backend.rows();
    for (place, (key, record)) in rows.leaves.iter().enumerate() {
        let step = if place == 0 { 1 } else { 13 };
        for position in (0..record.len()).step_by(step) {
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
    for key in rows.nodes.keys() {
        let (broken, checkpoint_ok) = broken_by(&store, &ledger, |rows| {
            rows.nodes.get_mut(key).unwrap()[31] ^= 1;
        })
        .await;
        assert_eq!(broken.expect("a changed hash is found").0, key.0);
        // The tree is rebuilt from its leaves, not from what is stored of it.
        assert!(checkpoint_ok);
    }
}

// Proves: 45 CFR 164.312(c)(2)
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

// Proves: 45 CFR 164.312(c)(2)
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

// Proves: 45 CFR 164.312(c)(2)
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

#[tokio::test]
async fn an_outbox_entry_that_cannot_be_opened_hides_no_other() {
    let store = Memory::new();
    let ledger = ready(&store).await;
    let keys: Vec<OutboxKey> = (1..=3u8)
        .map(|id| OutboxKey {
            shard: Shard(0),
            due_ms: u64::from(id),
            id: [id; 16],
        })
        .collect();
    let outbox_add = keys
        .iter()
        .map(|key| OutboxDraft {
            key: *key,
            owner: Owner::Tenant,
            channel: 4,
            attempt: 0,
            body: b"message".to_vec(),
        })
        .collect();
    ledger
        .commit(Commit {
            outbox_add,
            ..Commit::new(TENANT)
        })
        .await
        .unwrap();
    store.backend.edit(|rows| {
        let row = rows
            .outbox
            .values_mut()
            .find(|row| row.key == keys[0])
            .unwrap();
        *row.sealed.last_mut().unwrap() ^= 1;
    });
    let look = ledger.outbox_look(&[4], 99, 2).await.unwrap();
    let opened: Vec<OutboxKey> = look.entries.iter().map(|entry| entry.key).collect();
    assert_eq!(opened, keys[1..]);
    assert!(
        matches!(look.unreadable.as_slice(), [(key, LedgerError::Damaged(_))] if *key == keys[0]),
        "{look:?}"
    );
    // Who can't go on without it is told.
    assert!(matches!(
        ledger.outbox_due(4, 99, 9).await,
        Err(LedgerError::Damaged(_))
    ));
}

/// Whatever postings say, a search shows no version but the newest.
#[tokio::test]
async fn a_superseded_version_that_is_found_is_not_shown() {
    let store = Memory::new();
    let ledger = ready(&store).await;
    let (first, second) = (Expected::Absent, Expected::Version(1));
    let old = put(&ledger, OBSERVATION, "o", "p", first, "1", &["a"]).await;
    let new = put(&ledger, OBSERVATION, "o", "p", second, "2", &["a"]).await;
    let token = token_of(&ledger, "a");
    store.backend.edit(|rows| {
        rows.postings.insert((token, !old.number.0, old.shard), ());
    });
    let view = ledger.view().unwrap();
    let query = crate::Query::Token(token);
    let hits = view.search(TENANT, &query, None, None, 9).await.unwrap();
    assert_eq!(hits, [new, old]);
    for (hit, shown) in [(new, Some(2)), (old, None)] {
        let mut opened = view.fetch_some(TENANT, &[hit]).await.unwrap();
        let stored = opened.remove(0).unwrap();
        assert_eq!(stored.map(|stored| stored.version), shown);
        // By its place it is still there, for those who follow the feed.
        assert!(view.fetch(TENANT, hit).await.unwrap().is_some());
    }
}
