//! What is left in the database's files of a key that was destroyed.

use ledger::{Expected, Ledger, LedgerError};

use super::Database;
use super::patience::until;
use super::suite::{OBSERVATION, Store, TENANT, audit, put, ready};

fn is_due(database: &Database) -> bool {
    let sql = "SELECT coalesce(max(length(value)), 0) > 0 FROM cairn.meta WHERE name = 'scrub-due'";
    database.cluster.sql("cairn", "postgres", sql) == "t"
}

/// Rows of keys in the table's pages, whether anybody can see them or not.
fn rows_in_pages(database: &Database) -> u64 {
    let sql = "SELECT count(*) FROM generate_series(0, pg_relation_size('cairn.key') / 8192 - 1) AS page, \
               heap_page_items(get_raw_page('cairn.key', page::integer)) WHERE t_data IS NOT NULL";
    database
        .cluster
        .sql("cairn", "postgres", sql)
        .parse()
        .unwrap()
}

async fn patients(ledger: &Ledger, count: usize) -> Vec<String> {
    let mut patients = Vec::new();
    for number in 0..count {
        let patient = ledger.mint_own_id(TENANT);
        let id = format!("o{number}");
        put(
            ledger,
            OBSERVATION,
            &id,
            &patient,
            Expected::Absent,
            "x",
            &["a"],
        )
        .await;
        patients.push(patient);
    }
    patients
}

async fn destroy(ledger: &Ledger, patient: &str) {
    let record = audit(
        ledger,
        ledger.shard_of(TENANT, &super::suite::of(patient), patient),
    );
    ledger
        .destroy_patient_key(TENANT, patient, record)
        .await
        .unwrap();
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_is_gone_from_the_pages() {
    let database = Database::new();
    let ledger = ready(&database).await;
    database
        .cluster
        .sql("cairn", "postgres", "CREATE EXTENSION pageinspect");
    let patients = patients(&ledger, 3).await;
    destroy(&ledger, &patients[0]).await;
    // One row of each, and none of what was before; at once, or as soon as whoever has looked is gone.
    until("the scrub is done", async || !is_due(&database)).await;
    assert_eq!(rows_in_pages(&database), 3);
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_stays_due_while_somebody_may_look_at_the_old_row() {
    let database = Database::new();
    let ledger = ready(&database).await;
    database
        .cluster
        .sql("cairn", "postgres", "CREATE EXTENSION pageinspect");
    let patients = patients(&ledger, 2).await;
    let old = database
        .cluster
        .session("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM cairn.key;");
    destroy(&ledger, &patients[0]).await;
    // The key is destroyed for everybody, and its old row is known to be there.
    let outcome = ledger.get(TENANT, OBSERVATION, "o0").await;
    assert!(
        matches!(outcome, Err(LedgerError::KeyDestroyed)),
        "{outcome:?}"
    );
    assert!(is_due(&database));
    assert_eq!(rows_in_pages(&database), 3);
    // Opening does not call it done.
    let second = database.open();
    second.close().await.unwrap();
    assert!(is_due(&database));

    drop(old);
    until("the scrub is done", async || !is_due(&database)).await;
    assert_eq!(rows_in_pages(&database), 2);
}
