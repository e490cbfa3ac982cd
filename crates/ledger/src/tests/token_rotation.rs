//! Rotations of token keys that a fault cuts short, what they leave in rows, and stores of before lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rotation::{Fault, Faulty, OLD, open};
use super::suite::{AUDIT, OBSERVATION, TENANT, commit_of, draft, of, token_of};
use crate::backend::Backend;
use crate::memory_backend::MemoryBackend;
use crate::outer::{LayerStates, token_key_row};
use crate::{Expected, Hit, Ledger, Query, Token};

/// A store with some documents, each with a token of its own.
async fn store() -> MemoryBackend {
    let backend = MemoryBackend::default();
    let ledger = open(Arc::new(backend.clone()), OLD).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    for number in 0..30 {
        write(&ledger, number).await;
    }
    ledger.close().await.unwrap();
    backend
}

async fn write(ledger: &Ledger, number: u32) {
    let id = format!("document-{number}");
    let draft = draft(
        ledger,
        OBSERVATION,
        &id,
        of(&format!("patient {}", number % 7)),
        Expected::Absent,
        "x",
        &[id.as_str(), "all"],
    );
    ledger.commit(commit_of(ledger, vec![draft])).await.unwrap();
}

async fn find(ledger: &Ledger, token: Token) -> Vec<Hit> {
    let query = Query::Token(token);
    ledger
        .search(TENANT, &query, None, None, 999)
        .await
        .unwrap()
}

async fn answers(ledger: &Ledger) -> Vec<Vec<Hit>> {
    let mut answers = Vec::new();
    for number in 0..40 {
        answers.push(find(ledger, token_of(ledger, &format!("document-{number}"))).await);
    }
    answers.push(find(ledger, token_of(ledger, "all")).await);
    answers.push(find(ledger, ledger.kind_token(TENANT, OBSERVATION)).await);
    answers.push(find(ledger, ledger.token(TENANT, AUDIT, "agent", "someone")).await);
    answers
}

fn stored(rows: &MemoryBackend) -> BTreeSet<Token> {
    let rows = rows.rows();
    let postings = rows.postings.keys().map(|(token, ..)| *token);
    postings
        .chain(rows.posted.values().flatten().copied())
        .collect()
}

/// Whether postings and lists say the same.
fn agree(rows: &MemoryBackend) {
    let rows = rows.rows();
    let listed: BTreeSet<_> = (rows.posted.iter())
        .flat_map(|((number, shard), tokens)| {
            tokens.iter().map(|token| (*token, !number.0, *shard))
        })
        .collect();
    assert_eq!(
        rows.postings.keys().copied().collect::<BTreeSet<_>>(),
        listed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_cut_short_anywhere_loses_no_answer() {
    let mut cut = 0;
    for rounds in [1, 2] {
        'faults: for fault in [Fault::Before, Fault::After] {
            for number in 0.. {
                let rows = store().await;
                let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
                for _ in 1..rounds {
                    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
                }
                let before = answers(&ledger).await;
                ledger.close().await.unwrap();
                let backend = Faulty::over(rows.clone());
                let ledger = open(backend.clone(), OLD).unwrap();
                backend.fail_batch(number, fault);
                let outcome = ledger.rotate_token_keys(TENANT, &|_| {}).await;
                drop(ledger);
                let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
                assert_eq!(answers(&ledger).await, before, "{fault:?} {number}");
                agree(&rows);
                if outcome.is_ok() {
                    continue 'faults;
                }
                cut += 1;
                write(&ledger, 33).await;
                let now = answers(&ledger).await;
                assert_eq!(now[33].len(), 1);
                ledger
                    .continue_token_rotation(TENANT, &|_| {})
                    .await
                    .unwrap();
                assert_eq!(answers(&ledger).await, now, "{fault:?} {number}");
                agree(&rows);
                let states = LayerStates::read(&rows.rows()).unwrap();
                assert!(states.of(TENANT).moving.is_none());
                ledger.close().await.unwrap();
            }
        }
    }
    assert!(cut > 16, "{cut}");
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread")]
async fn nothing_lies_under_an_earlier_key() {
    let rows = store().await;
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    let first = stored(&rows);
    assert!(first.contains(&token_of(&ledger, "all")));
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    let second = stored(&rows);
    assert_eq!(first.len(), second.len());
    assert!(first.is_disjoint(&second));
    assert!(!rows.rows().meta[&token_key_row(TENANT, 2)].is_empty());
    let ids: Vec<_> = rows.rows().heads.keys().copied().collect();
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    let third = stored(&rows);
    assert!(third.is_disjoint(&first) && third.is_disjoint(&second));
    // The key in between is destroyed, and names have stayed.
    assert!(rows.rows().meta[&token_key_row(TENANT, 2)].is_empty());
    assert!(!rows.rows().meta[&token_key_row(TENANT, 3)].is_empty());
    assert_eq!(rows.rows().heads.keys().copied().collect::<Vec<_>>(), ids);
    // What is written since lies under the newest one.
    write(&ledger, 33).await;
    assert!(!stored(&rows).contains(&token_of(&ledger, "document-33")));
    assert_eq!(
        find(&ledger, token_of(&ledger, "document-33")).await.len(),
        1
    );
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_token_key_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = super::on_disk(folder.path()).await;
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    let name = token_key_row(TENANT, 2);
    let wrapped = backend.snapshot().meta(&name).unwrap().unwrap();
    assert!(super::file_with(folder.path(), &wrapped).is_some());
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    assert!(super::file_with(folder.path(), &wrapped).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_records_without_a_list_are_moved_too() {
    let rows = store().await;
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    let before = answers(&ledger).await;
    let records = find(&ledger, ledger.kind_token(TENANT, AUDIT)).await;
    assert_eq!(records.len(), 30);
    // As programs wrote them before backups.
    rows.edit(|rows| {
        for at in &records {
            assert!(rows.posted.remove(&(at.number, at.shard)).is_some());
        }
    });
    let first = stored(&rows);
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    assert_eq!(answers(&ledger).await, before);
    assert!(stored(&rows).is_disjoint(&first));
    agree(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_token_keys_rotated_says_so_to_older_programs() {
    let rows = store().await;
    let format = |rows: &MemoryBackend| rows.rows().meta["store"][..4].to_vec();
    assert_eq!(format(&rows), 5_u32.to_be_bytes());
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    assert_eq!(format(&rows), 6_u32.to_be_bytes());
    ledger.close().await.unwrap();
    open(Arc::new(rows.clone()), OLD).unwrap();
    assert_eq!(format(&rows), 6_u32.to_be_bytes());
}

/// Documents of before an index generation are found by what no token says of them.
#[tokio::test(flavor = "multi_thread")]
async fn older_documents_are_told_apart() {
    let rows = store().await;
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    assert_eq!(ledger.indexed_since().0, 0);
    assert_eq!(ledger.ownerless_since().0, 0);
    ledger.close().await.unwrap();
    rows.edit(|rows| drop(rows.meta.remove("index")));
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    let since = ledger.indexed_since();
    assert_eq!(ledger.ownerless_since().0, 0);
    assert_eq!(since.0, ledger.last_number().0 + 1);
    write(&ledger, 33).await;
    let every = Query::Token(ledger.kind_token(TENANT, OBSERVATION));
    let query = Query::Below(since, Box::new(every.clone()));
    let below = ledger.search(TENANT, &query, None, None, 99).await.unwrap();
    assert_eq!(below.len(), 30);
    let nothing = Query::Below(crate::Number(0), Box::new(every));
    assert!(
        ledger
            .search(TENANT, &nothing, None, None, 99)
            .await
            .unwrap()
            .is_empty()
    );
    ledger.close().await.unwrap();
    assert_eq!(
        open(Arc::new(rows.clone()), OLD).unwrap().indexed_since(),
        since
    );
    // What is nobody's came by its token later: a store of before is told apart when it is opened first.
    rows.edit(|rows| {
        let store = rows.meta.get_mut("store").unwrap();
        store[..4].copy_from_slice(&3_u32.to_be_bytes());
    });
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    assert_eq!(ledger.indexed_since(), since);
    let of_before = ledger.last_number().0 + 1;
    assert_eq!(ledger.ownerless_since().0, of_before);
    assert_eq!(rows.rows().meta["store"][..4], 5_u32.to_be_bytes());
    write(&ledger, 34).await;
    ledger.close().await.unwrap();
    let again = open(Arc::new(rows), OLD).unwrap();
    assert_eq!(again.ownerless_since().0, of_before);
}
