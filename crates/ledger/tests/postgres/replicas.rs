//! Streaming replicas, and what is read from them.

use ledger::{Expected, Hit, Ledger, LedgerError, Number, Postgres, RootKey};

use super::Database;
use super::cluster::Cluster;
use super::patience::until;
use super::suite::{OBSERVATION, Store, TENANT, audit, code, of, put, ready, text};

struct Copied {
    database: Database,
    replica: Cluster,
    ledger: Ledger,
    patient: String,
}

impl Copied {
    async fn new(pooled: bool) -> Self {
        let database = if pooled {
            Database::pooled()
        } else {
            Database::new()
        };
        let founder = ready(&database).await;
        let patient = founder.mint_own_id(TENANT);
        founder.close().await.unwrap();
        let replica = Cluster::replica_of(&database.cluster);
        let location = Postgres {
            replicas: vec![replica.url("cairn")],
            ..database.location()
        };
        let ledger = database
            .open_at(location, RootKey::from_bytes([7; 32]))
            .unwrap();
        Self {
            database,
            replica,
            ledger,
            patient,
        }
    }

    async fn write(&self, id: &str, version: u32) -> Hit {
        let expected = match version {
            1 => Expected::Absent,
            version => Expected::Version(version - 1),
        };
        let body = version.to_string();
        put(
            &self.ledger,
            OBSERVATION,
            id,
            &self.patient,
            expected,
            &body,
            &["a"],
        )
        .await
    }

    /// Which version of a document a read finds that wants everything up to a number.
    async fn version(&self, id: &str, number: Number) -> String {
        let view = self.ledger.view_at_least(number).unwrap();
        let stored = view.get(TENANT, OBSERVATION, id).await.unwrap();
        stored.map_or_else(|| "none".to_owned(), |stored| text(&stored).to_owned())
    }

    async fn found(&self, number: Number) -> Vec<Hit> {
        let view = self.ledger.view_at_least(number).unwrap();
        let query = code(&self.ledger, "a");
        let hits = view.search(TENANT, &query, None, None, 9).await.unwrap();
        for stored in view.fetch_some(TENANT, &hits).await.unwrap() {
            stored.unwrap().unwrap();
        }
        hits
    }

    fn tell(&self, sql: &str) -> String {
        self.replica.sql("cairn", "postgres", sql)
    }

    /// Until the replica has come as far as the primary.
    async fn catch_up(&self) {
        let sql = "SELECT pg_current_wal_flush_lsn()";
        let at = self.database.cluster.sql("cairn", "postgres", sql);
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
        let what = format!("the replica comes to {at}");
        until(&what, async || self.tell(&sql) == "t").await;
    }

    /// From now on the replica gets everything and shows nothing of it.
    async fn pause(&self) {
        self.catch_up().await;
        self.tell("SELECT pg_wal_replay_pause()");
        let state = "SELECT pg_get_wal_replay_pause_state()";
        until("the replica pauses", async || self.tell(state) == "paused").await;
    }
}

async fn serves_what_it_has(pooled: bool) {
    let copied = Copied::new(pooled).await;
    let one = copied.write("o", 1).await;
    copied.pause().await;
    let two = copied.write("o", 2).await;
    let other = copied.write("other", 1).await;
    // Who takes what is older gets it from the replica; nobody else does.
    assert_eq!(copied.version("o", Number(0)).await, "1");
    assert_eq!(copied.version("o", one.number).await, "1");
    assert_eq!(copied.version("other", one.number).await, "none");
    assert_eq!(copied.found(one.number).await, [one]);
    assert_eq!(copied.version("o", two.number).await, "2");
    assert_eq!(copied.version("o", other.number).await, "2");
    assert_eq!(copied.version("o", Number(u64::MAX)).await, "2");
    assert_eq!(copied.found(two.number).await, [other, two]);
    let now = copied.ledger.get(TENANT, OBSERVATION, "o").await.unwrap();
    assert_eq!(text(&now.unwrap()), "2");
    // What lies behind the replica's moment is not within its horizon.
    let view = copied.ledger.view_at_least(one.number).unwrap();
    let query = code(&copied.ledger, "a");
    let hits = view.search(TENANT, &query, None, None, 9).await.unwrap();
    assert_eq!(hits, [one]);
    let as_of = view.as_of().await.unwrap();
    assert!(as_of < two.number, "{as_of:?}");
    drop(view);
    copied.tell("SELECT pg_wal_replay_resume()");
    copied.catch_up().await;
    assert_eq!(copied.version("o", one.number).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_what_it_has_and_no_more() {
    serves_what_it_has(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_behind_a_pooler() {
    serves_what_it_has(true).await;
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_opens_nothing_on_a_replica() {
    let copied = Copied::new(false).await;
    let one = copied.write("o", 1).await;
    copied.pause().await;
    assert_eq!(copied.version("o", one.number).await, "1");
    let other = copied.database.open();
    let record = audit(
        &other,
        other.shard_of(TENANT, &of(&copied.patient), &copied.patient),
    );
    other
        .destroy_patient_key(TENANT, &copied.patient, record)
        .await
        .unwrap();
    // The replica has the key still, and nobody takes it from there. A process that had it in memory
    // forgets it when it looks for what others have done.
    let row = "SELECT wrapped IS NOT NULL FROM cairn.key";
    assert_eq!(copied.tell(row), "t");
    until("the key is used no more", async || {
        let view = copied.ledger.view_at_least(one.number).unwrap();
        match view.get(TENANT, OBSERVATION, "o").await {
            Err(LedgerError::KeyDestroyed) => true,
            outcome => outcome.map(|_| false).unwrap(),
        }
    })
    .await;
    assert_eq!(copied.tell(row), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_replica_the_primary_serves() {
    let mut copied = Copied::new(false).await;
    let one = copied.write("o", 1).await;
    copied.pause().await;
    copied.write("o", 2).await;
    assert_eq!(copied.version("o", one.number).await, "1");
    copied.replica.kill();
    for _ in 0..3 {
        assert_eq!(copied.version("o", one.number).await, "2");
    }
    // Back again, it serves again after a while.
    copied.replica.run();
    copied.catch_up().await;
    copied.pause().await;
    copied.write("o", 3).await;
    until("the replica is asked again", async || {
        copied.version("o", one.number).await == "2"
    })
    .await;
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_not_believed() {
    let copied = Copied::new(false).await;
    let one = copied.write("o", 1).await;
    copied.catch_up().await;
    assert_eq!(copied.tell("SELECT pg_promote()"), "t");
    // From here on it goes its own way, and has everything up to this number all the same.
    copied.write("o", 2).await;
    assert_eq!(copied.tell("SELECT max(version) FROM cairn.head"), "1");
    assert_eq!(copied.version("o", one.number).await, "2");
    assert_eq!(copied.version("o", Number(0)).await, "2");
}
