//! The store spread over the servers of a Citus cluster. Where Citus is not installed, the tests that need it
//! say that they were skipped; `CAIRN_TEST_CITUS` names the folder of a PostgreSQL's programs that has it.

use std::time::Duration;

use ledger::{Expected, LedgerError, SHARDS, init_database};

use super::Database;
use super::cluster::Cluster;
use super::patience::until;
use super::suite::{
    self, OBSERVATION, PATIENT, Store, TENANT, assert_sound, code, found, put, ready,
};

impl Database {
    /// A store that is spread; `None` where Citus is not installed.
    fn spread() -> Option<Self> {
        let database = Self::of_citus()?;
        assert!(init_database(&database.location(), true).unwrap());
        Some(database)
    }

    fn of_citus() -> Option<Self> {
        let Some((coordinator, worker)) = Cluster::with_citus() else {
            #[allow(
                clippy::print_stderr,
                reason = "whoever runs the test must see that it was skipped"
            )]
            {
                eprintln!("skipped: Citus isn't installed");
            }
            return None;
        };
        Some(Self {
            pooler: None,
            cluster: coordinator,
            worker: Some(worker),
            clock: ledger::ManualClock::new(1_700_000_000_000),
            dictionary: Vec::new(),
        })
    }

    fn tell(&self, sql: &str) -> String {
        self.cluster.sql("cairn", "postgres", sql)
    }
}

#[test]
fn without_citus_nothing_is_spread() {
    let database = Database::new();
    let outcome = init_database(&database.location(), true);
    let Err(LedgerError::Storage(why)) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        why.contains("Citus") && (why.contains("package") || why.contains("CREATE EXTENSION")),
        "{why}"
    );
    // And nothing is made on the way.
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'cairn'";
    assert_eq!(database.tell(schemas), "0");
    // Without it the schema is made, once.
    for _ in 0..2 {
        assert!(!init_database(&database.location(), false).unwrap());
        assert_eq!(database.tell("SELECT count(*) FROM cairn.shard"), "256");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn citus_has_the_tables_spread_and_beside_each_other() {
    let Some(database) = Database::of_citus() else {
        return;
    };
    // Half made is not made.
    database.tell("DROP EXTENSION citus");
    let outcome = init_database(&database.location(), true);
    assert!(
        matches!(&outcome, Err(LedgerError::Storage(why)) if why.contains("CREATE EXTENSION citus")),
        "{outcome:?}"
    );
    let Some(database) = Database::spread() else {
        return;
    };
    // Again changes nothing.
    assert!(init_database(&database.location(), true).unwrap());
    let spread =
        "SELECT count(*), count(DISTINCT colocationid), min(partmethod) FROM pg_dist_partition";
    assert_eq!(database.tell(spread), "12|1|h");
    let ledger = ready(&database).await;
    put(&ledger, PATIENT, "p", "p", Expected::Absent, "x", &[]).await;
    assert_sound(&ledger).await;
    // The coordinator has no rows of it.
    let own = "SELECT count(*) FROM ONLY cairn.document";
    let worker = database.worker.as_ref().unwrap();
    assert_eq!(database.tell("SELECT count(*) FROM cairn.document"), "2");
    assert_eq!(worker.sql("cairn", "postgres", own), "2");
    let sizes = ledger.storage().unwrap();
    assert!(
        sizes
            .iter()
            .any(|part| part.name == "document" && part.bytes > 0)
    );
    ledger.close().await.unwrap();
    // One that is used already is not spread.
    let plain = ledger::Postgres {
        schema: "plain".into(),
        ..database.location()
    };
    let founder = database
        .open_at(plain.clone(), ledger::RootKey::from_bytes([7; 32]))
        .unwrap();
    founder.close().await.unwrap();
    let outcome = init_database(&plain, true);
    assert!(
        matches!(&outcome, Err(LedgerError::Storage(why)) if why.contains("only an empty one")),
        "{outcome:?}"
    );
}

/// What one patient's commit touches is one server's: no transaction of several is prepared.
#[tokio::test(flavor = "multi_thread")]
async fn citus_sends_a_commit_of_one_shard_to_one_server() {
    let Some(database) = Database::spread() else {
        return;
    };
    let ledger = ready(&database).await;
    let worker = database.worker.as_ref().unwrap();
    worker.sql(
        "cairn",
        "postgres",
        "ALTER SYSTEM SET log_statement = 'all'",
    );
    worker.sql("cairn", "postgres", "SELECT pg_reload_conf()");
    let patient = ledger.mint_own_id(TENANT);
    // Its key is made with the first.
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "x",
        &["a"],
    )
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let log = || std::fs::read_to_string(worker.folder().join("log")).unwrap();
    let before = log().len();
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(1),
        "y",
        &["a"],
    )
    .await;
    let log = log();
    let since = &log[before..];
    assert!(since.contains("INSERT INTO cairn.document_"), "{since}");
    let parts: std::collections::BTreeSet<&str> = since
        .split("INSERT INTO cairn.")
        .skip(1)
        .filter_map(|rest| rest.split_once(' ').map(|(name, _)| name))
        .filter(|name| name.starts_with("document_"))
        .collect();
    assert_eq!(parts.len(), 1, "{parts:?}");
    assert!(!since.contains("PREPARE TRANSACTION"), "{since}");
}

#[tokio::test(flavor = "multi_thread")]
async fn citus_shards_are_leased() {
    let Some(database) = Database::spread() else {
        return;
    };
    let first = ready(&database).await;
    first.lease_shards().unwrap();
    let second = database.open();
    let held = |ledger: &ledger::Ledger| {
        (0..SHARDS)
            .filter(|shard| ledger.holds(ledger::Shard(*shard)))
            .count()
    };
    let what = "the shards are shared out";
    until(what, async || held(&first) == 256).await;
    second.lease_shards().unwrap();
    until(what, async || held(&first) == 128 && held(&second) == 128).await;
    second.close().await.unwrap();
    until(what, async || held(&first) == 256).await;
    first.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn citus_scrubs_are_proved() {
    let Some(database) = Database::spread() else {
        return;
    };
    let ledger = ready(&database).await;
    let patient = ledger.mint_own_id(TENANT);
    put(
        &ledger,
        OBSERVATION,
        "o",
        &patient,
        Expected::Absent,
        "x",
        &["a"],
    )
    .await;
    assert_eq!(found(&ledger, &code(&ledger, "a")).await.len(), 1);
    let shard = ledger.shard_of(TENANT, &suite::of(&patient), &patient);
    let record = suite::audit(&ledger, shard);
    ledger
        .destroy_patient_key(TENANT, &patient, record)
        .await
        .unwrap();
    let due = "SELECT coalesce(max(length(value)), 0) FROM cairn.meta WHERE name = 'scrub-due'";
    until("the scrub is done", async || database.tell(due) == "0").await;
}

macro_rules! on_citus {
    ($($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(database) = Database::spread() {
                    suite::$case(&database).await;
                }
            }
        )*
    };
}

/// The conformance suite.
mod citus_conforms {
    use super::{Database, suite};

    // Each takes a while, since there are 384 tables to make. What is left out of the suite differs in
    // nothing that is asked of the database.
    on_citus! {
        documents_are_written_read_and_kept, what_is_not_expected_is_refused_whole,
        searches_find_live_documents, a_view_is_of_one_moment, ranges_are_found,
        pages_of_a_search_join, feeds_and_watchers_see_facts, timers_come_due, the_outbox_settles_once,
        cursors_move_once, tenants_see_only_their_own, everything_is_there_after_reopening,
        a_history_is_found_again, audits_verify_and_prove, a_destroyed_key_stays_destroyed,
        everything_is_readable_through_rotations, racing_writers_lose_nothing,
        racing_followers_handle_once, one_commit_may_be_large, numbers_rise_when_the_clock_stands_or_falls
    }

    #[test]
    fn model_agrees() {
        if Database::spread().is_some() {
            suite::model_agrees(
                &|| Box::new(Database::spread().expect("Citus was there a moment ago")),
                1,
            );
        }
    }
}
