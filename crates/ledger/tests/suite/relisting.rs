//! Tokens for documents that are there already.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledger::{DOCUMENT_TOKENS_MAX, Expected, Hit, Ledger, LedgerError, RELISTED_MAX};

use super::{
    AUDIT, OBSERVATION, Store, TENANT, assert_sound, code, delete, found, put, ready, token_of,
};

async fn write(ledger: &Ledger, number: u32, expected: Expected, codes: &[&str]) -> Hit {
    let (id, patient) = (format!("o{number}"), format!("p{}", number % 5));
    put(ledger, OBSERVATION, &id, &patient, expected, "x", codes).await
}

async fn add(ledger: &Ledger, at: &[Hit], codes: &[&str]) -> bool {
    let tokens: Vec<_> = codes.iter().map(|code| token_of(ledger, code)).collect();
    let rows: Vec<_> = at.iter().map(|at| (*at, tokens.clone())).collect();
    let full = ledger.add_tokens(TENANT, &rows).await.unwrap();
    full.is_some_and(|full| full.is_empty())
}

pub(crate) async fn documents_get_more_tokens(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut all = Vec::new();
    for number in 0..12 {
        all.push(write(&ledger, number, Expected::Absent, &["old"]).await);
    }
    // What was superseded or deleted is passed over; its tokens find nothing.
    let newer = write(&ledger, 3, Expected::Version(1), &["old"]).await;
    delete(&ledger, OBSERVATION, "o4", "p4", 1).await;
    assert!(add(&ledger, &all, &["new", "old"]).await);
    let mut wanted: Vec<Hit> = all.clone();
    wanted.retain(|at| *at != all[3] && *at != all[4]);
    wanted.reverse();
    assert_eq!(found(&ledger, &code(&ledger, "new")).await, wanted);
    // And again, where most have them.
    assert!(add(&ledger, &all, &["new"]).await && add(&ledger, &[newer], &["new"]).await);
    wanted.insert(0, newer);
    assert_eq!(found(&ledger, &code(&ledger, "new")).await, wanted);
    assert_eq!(found(&ledger, &code(&ledger, "old")).await, wanted);

    let (ledger, wanted) = through_rotations(store, ledger, wanted).await;
    // What is written or goes takes its place.
    let last = write(&ledger, 3, Expected::Version(2), &["old"]).await;
    delete(&ledger, OBSERVATION, "o7", "p2", 1).await;
    let kept: Vec<Hit> = (wanted.iter().copied())
        .filter(|at| *at != newer && *at != all[7])
        .collect();
    assert_eq!(found(&ledger, &code(&ledger, "new")).await, kept);
    assert_eq!(found(&ledger, &code(&ledger, "old")).await[0], last);
    assert_sound(&ledger).await;

    // One without room for all keeps what it has; the others get theirs.
    let few = vec![token_of(&ledger, "few")];
    let all_of_it = (0..DOCUMENT_TOKENS_MAX)
        .map(|number| token_of(&ledger, &format!("many{number}")))
        .collect();
    let rows = [(kept[0], all_of_it), (kept[1], few)];
    let full = ledger.add_tokens(TENANT, &rows).await.unwrap();
    assert_eq!(full, Some(vec![kept[0]]));
    assert_eq!(found(&ledger, &code(&ledger, "few")).await, [kept[1]]);
    assert_eq!(found(&ledger, &code(&ledger, "many7")).await, []);

    let many = vec![(all[0], Vec::new()); RELISTED_MAX + 1];
    let refused = ledger.add_tokens(TENANT, &many).await;
    assert!(
        matches!(refused, Err(LedgerError::Invalid(_))),
        "{refused:?}"
    );
    let audit = ledger.kind_token(TENANT, AUDIT);
    let audits = found(&ledger, &ledger::Query::Token(audit)).await;
    if let Some(at) = audits.first() {
        let rows = [(*at, vec![token_of(&ledger, "new")])];
        let refused = ledger.add_tokens(TENANT, &rows).await;
        assert!(
            matches!(refused, Err(LedgerError::Invalid(_))),
            "{refused:?}"
        );
    }
    ledger.close().await.unwrap();
}

/// A rotation moves what was added, and nothing is added while it goes on, which it would lose.
async fn through_rotations(
    store: &dyn Store,
    ledger: Ledger,
    wanted: Vec<Hit>,
) -> (Ledger, Vec<Hit>) {
    for round in 0..2 {
        let (during, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (handle, target) = (ledger.clone(), wanted[0]);
        let (counted, asks) = (Arc::clone(&during), Arc::clone(&asked));
        let token = token_of(&ledger, &format!("round {round}"));
        let racing = tokio::spawn(async move {
            // Until it was taken: after the rotation at the latest.
            loop {
                asks.fetch_add(1, Ordering::SeqCst);
                let rows = [(target, vec![token])];
                if handle.add_tokens(TENANT, &rows).await.unwrap().is_some() {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
        racing.await.unwrap();
        assert!(asked.load(Ordering::SeqCst) > during.load(Ordering::SeqCst));
        let of_round = code(&ledger, &format!("round {round}"));
        assert_eq!(found(&ledger, &of_round).await, [target]);
        for one in ["new", "old"] {
            assert_eq!(found(&ledger, &code(&ledger, one)).await, wanted, "{one}");
        }
    }
    ledger.close().await.unwrap();
    let ledger = store.open();
    for one in ["new", "old"] {
        assert_eq!(found(&ledger, &code(&ledger, one)).await, wanted, "{one}");
    }
    (ledger, wanted)
}
