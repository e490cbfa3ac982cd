//! A database that goes away in the middle of everything and comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::{Expected, Ledger, LedgerError, Query};

use super::Database;
use super::patience::{self, until};
use super::suite::{
    OBSERVATION, PATIENT, Store, TENANT, assert_sound, code, commit_of, draft, found, of, ready,
};

/// Writes new documents until told to stop; which ones were acknowledged, and which were not.
async fn load(
    ledger: Ledger,
    writer: usize,
    stop: Arc<AtomicBool>,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{writer}.{number}");
        let patient = ledger.derive_own_id(TENANT, &format!("patient {}", number % 7));
        let draft = draft(
            &ledger,
            OBSERVATION,
            &id,
            of(&patient),
            Expected::Absent,
            "x",
            &["a"],
        );
        match ledger.commit(commit_of(&ledger, vec![draft])).await {
            Ok(_) => acknowledged.insert(id),
            Err(LedgerError::Storage(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                refused.insert(id)
            }
            Err(error) => panic!("{error}"),
        };
    }
    (acknowledged, refused)
}

async fn survives(mut database: Database, away: impl Fn(&mut super::Cluster)) {
    let ledger = ready(&database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6)
        .map(|writer| tokio::spawn(load(ledger.clone(), writer, Arc::clone(&stop))))
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        away(&mut database.cluster);
        tokio::time::sleep(Duration::from_millis(200)).await;
        database.cluster.run();
    }
    // It goes on by itself, with the same ledger.
    let last = ledger.last_number();
    until(
        "something is written after the database is back",
        async || ledger.last_number() > last,
    )
    .await;
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for writer in writers {
        let (done, not) = writer.await.unwrap();
        acknowledged.extend(done);
        refused.extend(not);
    }
    assert!(!acknowledged.is_empty());
    let mut there = 0;
    for id in acknowledged.iter().chain(&refused) {
        let versions = ledger
            .history(TENANT, OBSERVATION, id, None, 9)
            .await
            .unwrap();
        assert!(versions.len() <= 1, "{id} is there twice");
        assert!(!versions.is_empty() || refused.contains(id), "{id} is lost");
        there += versions.len();
    }
    let mut hits = BTreeSet::new();
    let query = code(&ledger, "a");
    let mut before = None;
    loop {
        let page = ledger
            .search(TENANT, &query, before, None, 500)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.number);
        hits.extend(page);
    }
    assert_eq!(hits.len(), there);
    assert_sound(&ledger).await;
    ledger.close().await.unwrap();
    let again = database.open();
    assert!(!found(&again, &query).await.is_empty());
}

// Proves: 45 CFR 164.312(c)(1), 164.308(a)(7)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_loses_and_doubles_nothing() {
    survives(Database::new(), super::Cluster::kill).await;
}

// Proves: 45 CFR 164.312(c)(1), 164.308(a)(7)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_database_behind_a_pooler_loses_and_doubles_nothing() {
    survives(Database::pooled(), super::Cluster::stop).await;
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_a_fault_and_not_an_absence() {
    let mut database = Database::new();
    let ledger = ready(&database).await;
    let view = ledger.view().unwrap();
    assert!(view.get(TENANT, OBSERVATION, "o").await.unwrap().is_none());
    database.cluster.stop();
    for outcome in [
        ledger.get(TENANT, OBSERVATION, "o").await,
        view.get(TENANT, OBSERVATION, "o").await,
    ] {
        assert!(
            matches!(outcome, Err(LedgerError::Storage(_))),
            "{outcome:?}"
        );
    }
    assert!(matches!(
        ledger.checkpoint().await,
        Err(LedgerError::Storage(_))
    ));
    database.cluster.run();
    assert!(
        ledger
            .get(TENANT, OBSERVATION, "o")
            .await
            .unwrap()
            .is_none()
    );
    // What the view showed is gone with its transaction, and it says so.
    let outcome = view.get(TENANT, OBSERVATION, "o").await;
    assert!(
        matches!(outcome, Err(LedgerError::Storage(_))),
        "{outcome:?}"
    );
}

/// What is asked for while a tenant's keys can't be read must not look as if it were not there.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_are_not_absent() {
    let mut database = Database::new();
    let first = ready(&database).await;
    let second = database.open();
    let third = ledger::TenantId(3);
    first.create_tenant(third).await.unwrap();
    let id = first.derive_own_id(third, "somebody");
    let mut one = draft(
        &first,
        PATIENT,
        &id,
        ledger::Owner::Tenant,
        Expected::Absent,
        "x",
        &[],
    );
    one.tokens = vec![first.token(third, PATIENT, "code", "a")];
    let mut commit = commit_of(&first, vec![one]);
    commit.tenant = third;
    first.commit(commit).await.unwrap();

    database.cluster.kill();
    let token = second.token(third, PATIENT, "code", "a");
    let all = second.kind_token(third, PATIENT);
    let range = second.range_query(third, PATIENT, "date", 1, 100).unwrap();
    let derived = second.derive_own_id(third, "somebody");
    database.cluster.run();

    // What was made with the keys at hand answers, and what was made without them does not.
    let found = async |query: Query| {
        patience::found("the database comes back", async || {
            let hits = second.search(third, &query, None, None, 9).await;
            match hits {
                // The database is still on its way.
                Err(LedgerError::Storage(text)) if !text.contains("keys of the tenant") => None,
                other => Some(other.map(|hits| hits.len())),
            }
        })
        .await
    };
    let is_fault = |outcome: Result<usize, LedgerError>| {
        assert!(
            matches!(outcome, Err(LedgerError::Storage(_))),
            "{outcome:?}"
        );
    };
    let fresh = loop {
        let fresh = second.token(third, PATIENT, "code", "a");
        if found(Query::Token(fresh)).await.is_ok() {
            break fresh;
        }
    };
    assert_eq!(found(Query::Token(fresh)).await.unwrap(), 1);
    is_fault(found(Query::Token(token)).await);
    is_fault(found(Query::Token(all)).await);
    is_fault(found(range).await);
    let with = Box::new(Query::Token(fresh));
    is_fault(found(Query::Without(with, Box::new(Query::Token(token)))).await);
    for outcome in [
        second.get(third, PATIENT, &derived).await.map(drop),
        second.version(third, PATIENT, &derived, 1).await.map(drop),
        second
            .history(third, PATIENT, &derived, None, 9)
            .await
            .map(drop),
    ] {
        assert!(
            matches!(outcome, Err(LedgerError::Storage(_))),
            "{outcome:?}"
        );
    }
    for (id, tokens) in [(derived, vec![]), (id.clone() + "2", vec![token])] {
        let mut one = draft(
            &second,
            PATIENT,
            &id,
            ledger::Owner::Tenant,
            Expected::Absent,
            "x",
            &[],
        );
        one.tokens = tokens;
        let mut commit = commit_of(&second, vec![one]);
        commit.tenant = third;
        let outcome = second.commit(commit).await;
        assert!(
            matches!(outcome, Err(LedgerError::Storage(_))),
            "{outcome:?}"
        );
    }
    // Now that the keys are known, everything is as ever.
    assert_eq!(second.derive_own_id(third, "somebody"), id);
    assert!(second.get(third, PATIENT, &id).await.unwrap().is_some());
}
