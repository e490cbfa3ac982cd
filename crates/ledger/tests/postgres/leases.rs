//! Leases of shards among ledgers on one database, as several processes have it.

use std::time::Duration;

use ledger::{Commit, CursorMove, Ledger, LedgerError, Number, RootKey, SHARDS, Shard};
use tokio::time::Instant;

use super::suite::{Store, TENANT, ready, timer};
use super::{Database, patience};

fn held(ledger: &Ledger) -> Vec<Shard> {
    (0..SHARDS)
        .map(Shard)
        .filter(|shard| ledger.holds(*shard))
        .collect()
}

/// Until the shards are shared out like this; each is held once then.
async fn until(ledgers: &[&Ledger], shares: &[usize]) {
    let what = format!("the shards are shared out as {shares:?}");
    patience::until(&what, async || {
        let now: Vec<Vec<Shard>> = ledgers.iter().map(|ledger| held(ledger)).collect();
        let mut counts: Vec<usize> = now.iter().map(Vec::len).collect();
        counts.sort_unstable();
        let is_so = counts == shares;
        if is_so {
            let mut all: Vec<Shard> = now.into_iter().flatten().collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), usize::from(SHARDS));
        }
        is_so
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_given_back_when_what_is_under_way_on_it_has_ended() {
    let database = Database::new();
    let first = ready(&database).await;
    first.lease_shards().unwrap();
    until(&[&first], &[256]).await;
    let before = first.lease(Shard(255));
    // The last shards are those that go first.
    let under_way = first.work_on(Shard(255));
    let second = database.open();
    second.lease_shards().unwrap();
    patience::until("all but one", async || held(&second).len() == 127).await;
    // Three rounds of both.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((held(&second).len(), held(&first).len()), (127, 128));
    assert!(!first.holds(Shard(255)), "nothing begins on it any more");
    let outcome = first.commit(work(Shard(255), 0, 1)).await;
    assert!(
        matches!(outcome, Err(LedgerError::Fenced(_))),
        "{outcome:?}"
    );
    drop(under_way);
    until(&[&first, &second], &[128, 128]).await;
    assert!(second.holds(Shard(255)));
    assert_ne!(second.lease(Shard(255)), before);
    for ledger in [first, second] {
        ledger.close().await.unwrap();
    }
}

/// A part of the work on a shard.
fn work(shard: Shard, from: u64, to: u64) -> Commit {
    Commit {
        cursor: Some(CursorMove {
            consumer: "worker".into(),
            shard,
            from: Number(from),
            to: Number(to),
        }),
        held: Some(shard),
        ..Commit::new(TENANT)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_shared_out_and_given_back() {
    let database = Database::new();
    let first = ready(&database).await;
    // Who has not asked for leases looks at everything.
    assert_eq!(held(&first).len(), usize::from(SHARDS));
    first.lease_shards().unwrap();
    until(&[&first], &[256]).await;
    let second = database.open();
    second.lease_shards().unwrap();
    until(&[&first, &second], &[128, 128]).await;
    let third = database.open();
    third.lease_shards().unwrap();
    until(&[&first, &second, &third], &[84, 86, 86]).await;

    // A clean stop: within two seconds others hold what it held.
    let was = held(&third);
    let began = Instant::now();
    third.close().await.unwrap();
    until(&[&first, &second], &[128, 128]).await;
    let took = began.elapsed();
    println!("handed over after {took:?}");
    assert!(
        was.iter()
            .all(|shard| first.holds(*shard) || second.holds(*shard))
    );
    second.close().await.unwrap();
    until(&[&first], &[256]).await;
    first.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_does_the_work_on_a_shard() {
    let database = Database::new();
    let first = ready(&database).await;
    first.lease_shards().unwrap();
    until(&[&first], &[256]).await;
    let second = database.open();
    second.lease_shards().unwrap();
    until(&[&first, &second], &[128, 128]).await;
    let (ours, theirs) = (held(&first)[0], held(&second)[0]);
    first.commit(work(ours, 0, 1)).await.unwrap();
    let outcome = first.commit(work(theirs, 0, 1)).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Fenced(shard)) if *shard == theirs),
        "{outcome:?}"
    );
    assert_eq!(first.cursor("worker", theirs).await.unwrap(), Number(0));
    // What is no part of that work anybody does.
    first
        .commit(Commit {
            held: None,
            ..work(theirs, 0, 1)
        })
        .await
        .unwrap();

    // Timers are looked for where they are one's own.
    let (mine, other) = (timer(ours.0, 10, 1, 1), timer(theirs.0, 5, 2, 1));
    let commit = Commit {
        timers_set: vec![mine.clone(), other.clone()],
        ..Commit::new(TENANT)
    };
    first.commit(commit).await.unwrap();
    assert_eq!(first.timers_due(1, 20, 9).await.unwrap(), [mine]);
    assert_eq!(first.next_timer_ms().await.unwrap(), Some(10));
    assert_eq!(second.timers_due(1, 20, 9).await.unwrap(), [other]);
    assert_eq!(second.next_timer_ms().await.unwrap(), Some(5));
    for ledger in [first, second] {
        ledger.close().await.unwrap();
    }
}

/// A process that was stopped and does not know yet that another has taken over.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_epoch_writes_nothing() {
    let database = Database::new();
    let ledger = ready(&database).await;
    ledger.lease_shards().unwrap();
    until(&[&ledger], &[256]).await;
    let shard = Shard(7);
    ledger.commit(work(shard, 0, 1)).await.unwrap();
    // Taken by another, and under another epoch; the ledger is asked before it looks again.
    for (number, change) in [
        "lease_holder = gen_random_uuid()",
        "lease_epoch = lease_epoch + 1",
    ]
    .into_iter()
    .enumerate()
    {
        let mut refused = false;
        // It may look between the change and the commit; then it holds the shard anew, rightly.
        for _ in 0..20 {
            let sql = format!(
                "SET ROLE cairn_service; UPDATE cairn.shard SET {change} WHERE shard = {}",
                shard.0
            );
            database.cluster.sql("cairn", "cairn", &sql);
            let at = ledger.cursor("worker", shard).await.unwrap().0;
            match ledger.commit(work(shard, at, at + 1)).await {
                Err(LedgerError::Fenced(fenced)) => {
                    assert_eq!(fenced, shard);
                    assert_eq!(ledger.cursor("worker", shard).await.unwrap().0, at);
                    refused = true;
                    break;
                }
                outcome => drop(outcome.unwrap()),
            }
        }
        assert!(refused, "change {number}");
        until(&[&ledger], &[256]).await;
    }
    ledger.close().await.unwrap();
}

/// A database that was away for longer than leases last: nobody works on anything meanwhile, and after
/// that it goes on by itself, under new leases.
#[tokio::test(flavor = "multi_thread")]
async fn leases_come_back_after_the_database_was_away() {
    let mut database = Database::new();
    let ledger = ready(&database).await;
    ledger.lease_shards().unwrap();
    until(&[&ledger], &[256]).await;
    let shard = Shard(7);
    ledger.commit(work(shard, 0, 1)).await.unwrap();
    let epoch = |database: &Database| -> u64 {
        let sql = format!(
            "SELECT lease_epoch FROM cairn.shard WHERE shard = {}",
            shard.0
        );
        database
            .cluster
            .sql("cairn", "postgres", &sql)
            .parse()
            .unwrap()
    };
    let before = epoch(&database);
    database.cluster.stop();
    let given_up = async || held(&ledger).is_empty();
    patience::until("the leases are given up", given_up).await;
    let outcome = ledger.commit(work(shard, 1, 2)).await;
    assert!(
        matches!(
            outcome,
            Err(LedgerError::Fenced(_) | LedgerError::Storage(_))
        ),
        "{outcome:?}"
    );
    // Long enough for the others, had there been some.
    tokio::time::sleep(Duration::from_secs(1)).await;
    database.cluster.run();
    until(&[&ledger], &[usize::from(SHARDS)]).await;
    assert!(epoch(&database) > before);
    let at = ledger.cursor("worker", shard).await.unwrap();
    assert_eq!(at, Number(1));
    ledger.commit(work(shard, 1, 2)).await.unwrap();
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_program_waits_until_older_servers_have_stopped() {
    let database = Database::new();
    let older = ready(&database).await;
    older.lease_shards().unwrap();
    until(&[&older], &[256]).await;
    // As an older program left it: the store's format, and which tokens documents have.
    for (row, since) in [("store", "2"), ("index", "1")] {
        let sql = format!(
            "UPDATE cairn.meta SET value = overlay(value PLACING decode('0000000{since}', 'hex') FROM 1 FOR 4) \
             WHERE name = '{row}' RETURNING encode(value, 'hex')"
        );
        let before = database.cluster.sql("cairn", "postgres", &sql);
        let refused = database.open_with(RootKey::from_bytes([7; 32]));
        let words = refused.err().expect("refused").to_string();
        assert!(words.contains("stop them all"), "{words}");
        let sql = format!("SELECT encode(value, 'hex') FROM cairn.meta WHERE name = '{row}'");
        assert_eq!(
            database.cluster.sql("cairn", "postgres", &sql),
            before.lines().next().unwrap(),
            "{row}"
        );
        if row == "store" {
            let sql = "UPDATE cairn.meta SET value = overlay(value PLACING decode('00000003', 'hex') FROM 1 FOR 4) \
                       WHERE name = 'store'";
            database.cluster.sql("cairn", "postgres", sql);
        }
    }
    older.close().await.unwrap();
    let newer = database.open();
    newer.close().await.unwrap();
}
