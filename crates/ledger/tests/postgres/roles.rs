//! Who may see what in the database, how it is reached, and its versions.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use ledger::{
    Expected, Ledger, LedgerError, Location, OpenOptions, Postgres, RootKey, SystemEntropy,
};

use super::Database;
use super::cluster::Cluster;
use super::suite::{
    OBSERVATION, OTHER, PATIENT, Store, TENANT, Wanted, audit, code, commit_of, draft, found, has,
    of, put, ready, timer,
};

/// Tables with a tenant's rows.
const OF_TENANTS: [&str; 6] = ["head", "document", "superseded", "posting", "posted", "key"];

fn key() -> RootKey {
    RootKey::from_bytes([7; 32])
}

fn refusal(outcome: Result<ledger::Ledger, LedgerError>) -> String {
    match outcome.err() {
        Some(LedgerError::Storage(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A store with rows of two tenants in each table.
async fn two_tenants() -> Database {
    let database = Database::new();
    let ledger = ready(&database).await;
    ledger.create_tenant(OTHER).await.unwrap();
    for tenant in [TENANT, OTHER] {
        for expected in [Expected::Absent, Expected::Version(1)] {
            let mut commit = commit_of(
                &ledger,
                vec![draft(
                    &ledger,
                    PATIENT,
                    "p",
                    of("p"),
                    expected,
                    "body",
                    &["a"],
                )],
            );
            commit.tenant = tenant;
            ledger.commit(commit).await.unwrap();
        }
    }
    ledger.close().await.unwrap();
    database
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_login_sees_the_rows_of_its_tenant_only() {
    let database = two_tenants().await;
    let cluster = &database.cluster;
    for login in ["clinic", "stranger"] {
        let sql = format!("CREATE ROLE {login} LOGIN IN ROLE cairn_tenant");
        cluster.sql("cairn", "postgres", &sql);
    }
    cluster.sql(
        "cairn",
        "cairn",
        "INSERT INTO cairn.login VALUES ('clinic', 1)",
    );
    for table in OF_TENANTS {
        let all = cluster.sql(
            "cairn",
            "cairn",
            &format!("SELECT count(*) FROM cairn.{table}"),
        );
        let sql = format!("SELECT count(*), min(tenant), max(tenant) FROM cairn.{table}");
        let seen = cluster.sql("cairn", "clinic", &sql);
        let half = all.parse::<u64>().unwrap() / 2;
        assert!(half > 0, "{table}");
        assert_eq!(seen, format!("{half}|1|1"), "{table}");
        // Saying that it is another does not help, nor does saying nothing.
        let sql = format!("SET cairn.tenant = '2'; {sql}");
        assert_eq!(cluster.sql("cairn", "clinic", &sql), seen, "{table}");
        assert_eq!(cluster.sql("cairn", "stranger", &sql), "0||", "{table}");
        // The ledger's own connection, once it is set to a tenant.
        for (set, rows) in [
            ("SET LOCAL cairn.tenant = '2'", format!("{half}|2|2")),
            ("SET LOCAL cairn.tenant = ''", "0||".to_owned()),
            ("SELECT", "0||".to_owned()),
        ] {
            let sql = format!(
                "BEGIN; SET LOCAL ROLE cairn_tenant; {set}; \
                 SELECT count(*), min(tenant), max(tenant) FROM cairn.{table}"
            );
            let seen = cluster.sql("cairn", "cairn", &sql);
            assert_eq!(seen.trim(), rows, "{table} {set}");
        }
    }
    for sql in [
        "SET ROLE cairn_service",
        "SET ROLE cairn",
        "SELECT * FROM cairn.meta",
        "SELECT * FROM cairn.leaf",
        "SELECT * FROM cairn.shard",
        "DELETE FROM cairn.document",
        "INSERT INTO cairn.login VALUES ('clinic', 2)",
        "UPDATE cairn.login SET tenant = 2",
        "ALTER TABLE cairn.document NO FORCE ROW LEVEL SECURITY",
    ] {
        let refused = cluster.try_sql("cairn", "clinic", sql).unwrap_err();
        assert!(
            refused.contains("permission denied") || refused.contains("must be owner"),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbours_schema_is_opened_and_a_later_one_refused() {
    let database = Database::new();
    ready(&database).await.close().await.unwrap();
    let next = "INSERT INTO cairn.migration (version, name) \
                SELECT max(version) + 1, 'later' FROM cairn.migration";
    database.cluster.sql("cairn", "cairn", next);
    let ledger = database.open();
    put(&ledger, PATIENT, "p", "p", Expected::Absent, "x", &[]).await;
    ledger.close().await.unwrap();
    database.cluster.sql("cairn", "cairn", next);
    let why = refusal(database.open_with(key()));
    assert!(why.contains("use a newer program"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_login_lacks_is_said() {
    let database = Database::new();
    let cluster = &database.cluster;
    cluster.sql("cairn", "postgres", "CREATE ROLE plain LOGIN");
    let location = || Postgres {
        url: cluster.url("plain"),
        ..database.location()
    };
    let why = refusal(database.open_at(location(), key()));
    let statements = why.split_once("As an administrator: ").expect(&why).1;
    cluster.sql("cairn", "postgres", &statements.replace("<login>", "plain"));
    database.open_at(location(), key()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_in_one_database_are_apart() {
    let database = Database::new();
    let first = ready(&database).await;
    let location = || Postgres {
        schema: "second".into(),
        replicas: Vec::new(),
        ..database.location()
    };
    let second = database
        .open_at(location(), RootKey::from_bytes([8; 32]))
        .unwrap();
    assert_ne!(first.verifier_keys(), second.verifier_keys());
    put(&first, PATIENT, "p", "p", Expected::Absent, "x", &[]).await;
    second.create_tenant(TENANT).await.unwrap();
    assert!(second.get(TENANT, PATIENT, "p").await.unwrap().is_none());
    let tables = second.storage().unwrap();
    assert!(
        tables
            .iter()
            .any(|table| table.name == "posting" && table.bytes > 0)
    );
    assert_eq!(
        second.disk_bytes(),
        tables.iter().map(|table| table.bytes).sum::<u64>()
    );
    for schema in ["", "Cairn", "a;b"] {
        let location = Postgres {
            schema: schema.into(),
            replicas: Vec::new(),
            ..database.location()
        };
        let why = refusal(database.open_at(location, key()));
        assert!(why.contains("the schema's name"), "{why}");
    }
}

/// A backup comes back on one machine, in a folder, whatever number of them wrote it.
// Proves: 45 CFR 164.308(a)(7)(ii)(B)
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_in_a_folder() {
    let database = Database::new();
    let ledger = ready(&database).await;
    for number in 0..300 {
        // Ids that are not ours, so that names lie in other shards than what they name.
        let (id, patient) = (format!("o{}", number % 250), format!("p{}", number % 9));
        let expected = if number < 250 {
            Expected::Absent
        } else {
            Expected::Version(1)
        };
        let body = format!("body {number}");
        put(&ledger, OBSERVATION, &id, &patient, expected, &body, &["a"]).await;
    }
    let shard = ledger::Shard(3);
    let mut commit = ledger::Commit::new(TENANT);
    commit.timers_set.push(timer(shard.0, 5, 1, 1));
    commit.cursor = Some(ledger::CursorMove {
        consumer: "follower".into(),
        shard,
        from: ledger::Number(0),
        to: ledger::Number(7),
    });
    ledger.commit(commit).await.unwrap();
    let record = audit(&ledger, shard);
    ledger
        .destroy_patient_key(TENANT, "p8", record)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = Arc::new(ledger::FolderTarget::create(&folder.path().join("backup")).unwrap());
    for _ in 0..2 {
        let report = ledger.backup(target.clone(), false, |_| {}).await.unwrap();
        assert_eq!((report.backup, report.documents), (1, 601));
    }
    let options = || OpenOptions {
        location: Location::Folder(folder.path().join("store")),
        root_key: key(),
        clock: Arc::new(database.clock().clone()),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    };
    let wanted = Wanted {
        source: target.clone(),
        to: ledger::Moment::Newest,
        shred_lists: Vec::new(),
        release_outbox: false,
    };
    ledger::restore(wanted.options(options()), |_| {})
        .await
        .unwrap();
    let restored = Ledger::open(options()).unwrap();
    for number in 0..250 {
        let id = format!("o{number}");
        let read = async |ledger: &Ledger| {
            let versions = ledger.history(TENANT, OBSERVATION, &id, None, 9).await;
            let versions = versions.map(|all| all.into_iter().map(|one| (one.at, one.body)));
            versions
                .map(Iterator::collect::<Vec<_>>)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(&restored).await, read(&ledger).await, "{id}");
    }
    let query = code(&ledger, "a");
    assert_eq!(found(&restored, &query).await, found(&ledger, &query).await);
    assert_eq!(restored.timers_due(1, 5, 9).await.unwrap().len(), 1);
    assert_eq!(
        restored.cursor("follower", shard).await.unwrap(),
        ledger::Number(7)
    );
    // The other way is refused.
    let wanted = Wanted {
        source: target,
        to: ledger::Moment::Newest,
        shred_lists: Vec::new(),
        release_outbox: false,
    };
    let outcome = database.restore(wanted).await.err();
    assert!(
        matches!(outcome, Some(LedgerError::Invalid(_))),
        "{outcome:?}"
    );
}

// Proves: 45 CFR 164.312(c)(1)
#[test]
fn a_server_that_would_lose_things_is_refused() {
    let database = Database {
        cluster: Cluster::with(&["fsync=off"]),
        ..Database::new()
    };
    let why = refusal(database.open_with(key()));
    assert!(why.contains("fsync"), "{why}");
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread")]
async fn durable_is_what_the_ledger_asks_for() {
    // Whatever the server does by default.
    let database = Database {
        cluster: Cluster::with(&["synchronous_commit=off", "wal_writer_delay=10s"]),
        ..Database::new()
    };
    let ledger = ready(&database).await;
    put(&ledger, PATIENT, "p", "p", Expected::Absent, "x", &[]).await;
    let unflushed = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()";
    let mut cluster = database.cluster;
    assert_eq!(cluster.sql("cairn", "postgres", unflushed), "0");
    cluster.kill();
    cluster.run();
    assert!(ledger.get(TENANT, PATIENT, "p").await.unwrap().is_some());
}

#[test]
fn urls_that_do_not_do_are_refused_without_showing_them() {
    let database = Database::new();
    for url in [
        "",
        "mysql://cairn:canary@localhost/cairn",
        "host=localhost password=canary",
        "postgres://cairn:canary@localhost:port/cairn",
        "postgres://cairn:canary@localhost/cairn?colour=red",
        "postgres:///cairn?password=canary",
    ] {
        let location = Postgres {
            url: url.into(),
            ..database.location()
        };
        let why = refusal(database.open_at(location, key()));
        assert!(why.contains("URL"), "{url}: {why}");
        assert!(!why.contains("canary"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_and_never_shown() {
    let database = Database::new();
    let cluster = &database.cluster;
    cluster.sql(
        "cairn",
        "postgres",
        "ALTER ROLE cairn PASSWORD 'canary-right'",
    );
    let rules = cluster.folder().join("data/pg_hba.conf");
    let old = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("local all cairn scram-sha-256\n{old}")).unwrap();
    cluster.sql("cairn", "postgres", "SELECT pg_reload_conf()");
    let with = |password: Option<&str>| Postgres {
        password: password.map(Into::into),
        ..database.location()
    };
    for wrong in [None, Some("canary-wrong")] {
        let why = refusal(database.open_at(with(wrong), key()));
        assert!(why.contains("password"), "{why}");
        assert!(!why.contains("canary"), "{why}");
    }
    database.open_at(with(Some("canary-right")), key()).unwrap();
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is missing: scripts/test installs it");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments}: {text}");
}

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test(flavor = "multi_thread")]
async fn tls_checks_who_the_server_is() {
    let certificates = tempfile::tempdir().unwrap();
    let folder = certificates.path();
    std::fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    for authority in ["authority", "stranger"] {
        let names = format!("-subj /CN={authority} -keyout {authority}.key -out {authority}.pem");
        openssl(folder, &format!("{new} {names}"));
    }
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut database = Database::new();
    let cluster = &mut database.cluster;
    cluster.stop();
    for file in ["server.key", "server.pem"] {
        cluster.bring(&folder.join(file));
    }
    cluster.listen(port);
    cluster.set(&[
        "ssl=on",
        "ssl_key_file=server.key",
        "ssl_cert_file=server.pem",
    ]);
    cluster.run();
    let location = |host: &str, authority: &str| Postgres {
        url: format!("postgres://cairn@{host}:{port}/cairn?sslmode=require"),
        ca_file: Some(folder.join(format!("{authority}.pem"))),
        ..database.location()
    };
    for (host, authority) in [("localhost", "stranger"), ("127.0.0.1", "authority")] {
        let why = refusal(database.open_at(location(host, authority), key()));
        assert!(why.contains("certificate"), "{why}");
    }
    let ledger = database
        .open_at(location("localhost", "authority"), key())
        .unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'cairn'";
    assert_eq!(database.cluster.sql("cairn", "postgres", encrypted), "t");
}

/// How many files that were written since some time hold a needle.
fn files_with(folder: &Path, since: SystemTime, needle: &[u8]) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return files_with(&path, since, needle);
            }
            // Files come and go under a running server.
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let is_new = written.is_ok_and(|written| written >= since);
            usize::from(is_new && has(&std::fs::read(&path).unwrap_or_default(), needle))
        })
        .sum()
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_patient_is_in_the_database() {
    let since = SystemTime::now();
    let mut database = Database::new();
    database.dictionary = vec![ledger::Dictionary {
        kinds: Vec::new(),
        bytes: b"{\"family\":\"Dictionary-Canary\"}".repeat(4),
    }];
    let ledger = ready(&database).await;
    let patient = "canary-patient-id-31415";
    let body = "Canary-Family-Name 1961-02-03";
    let drafts = vec![
        draft(
            &ledger,
            PATIENT,
            patient,
            of(patient),
            Expected::Absent,
            body,
            &["canary-code"],
        ),
        draft(
            &ledger,
            OBSERVATION,
            "canary-observation",
            of(patient),
            Expected::Absent,
            body,
            &[],
        ),
    ];
    let mut commit = commit_of(&ledger, drafts);
    commit.audit.as_mut().unwrap().body = body.as_bytes().to_vec();
    ledger.commit(commit).await.unwrap();
    ledger.close().await.unwrap();
    // Everything, the server's log with it; written out first.
    database.cluster.sql("cairn", "postgres", "CHECKPOINT");
    let folder = database.cluster.folder();
    for canary in [
        "canary-",
        "Canary-Family",
        "Dictionary-Canary",
        "1961-02-03",
    ] {
        assert_eq!(files_with(folder, since, canary.as_bytes()), 0, "{canary}");
    }
    assert_eq!(files_with(folder, since, &[7; 32]), 0, "the root key");
    // Finding nothing must not come from looking at nothing.
    assert!(files_with(folder, since, b"cairn.ledger/") > 0);
}
