//! Keys that rotate beside other processes on the same database.

use std::time::Duration;

use ledger::{Expected, Ledger, LedgerError, RootKey, TenantId};

use super::Database;
use super::patience::until;
use super::suite::{OBSERVATION, PATIENT, Store, TENANT, commit_of, draft, of, ready, text};

const OLD: [u8; 32] = [7; 32];
const NEW: [u8; 32] = [8; 32];

async fn write(ledger: &Ledger, patient: &str, id: &str) {
    let draft = draft(
        ledger,
        OBSERVATION,
        id,
        of(patient),
        Expected::Absent,
        "x",
        &[],
    );
    ledger.commit(commit_of(ledger, vec![draft])).await.unwrap();
}

async fn reads(ledger: &Ledger, id: &str) {
    let stored = ledger.get(TENANT, OBSERVATION, id).await.unwrap();
    assert_eq!(text(&stored.unwrap()), "x", "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_key_does_not_rotate_beside_servers() {
    let database = Database::new();
    let server = ready(&database).await;
    server.lease_shards().unwrap();
    until("the server gets its leases", async || {
        server.holds(ledger::Shard(0))
    })
    .await;
    let command = database.open();
    let outcome = command.rotate_root_key(&RootKey::from_bytes(NEW)).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Invalid(why)) if why.contains("stop all of them")),
        "{outcome:?}"
    );
    write(&server, "p", "one").await;
    server.close().await.unwrap();
    // A server that was stopped in an orderly way is gone at once.
    command
        .rotate_root_key(&RootKey::from_bytes(NEW))
        .await
        .unwrap();
    assert!(matches!(
        database.open_with(RootKey::from_bytes(OLD)),
        Err(LedgerError::RootKey(_))
    ));
    reads(
        &database.open_with(RootKey::from_bytes(NEW)).unwrap(),
        "one",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_made_while_the_root_key_rotates_open_with_it() {
    let database = Database::new();
    let first = ready(&database).await;
    write(&first, "p", "one").await;
    let (second, third) = (database.open(), database.open());
    // As many tenants as there is time for, in two processes, and rotations in one; each refusal says
    // that the key is another now.
    let make = async |ledger: &Ledger, from: u32| {
        let mut made = Vec::new();
        for number in from..from + 40 {
            match ledger.create_tenant(TenantId(number)).await {
                Ok(()) => made.push(number),
                Err(LedgerError::RootKey(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        made
    };
    let rotate = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for key in [9, 8] {
            match third.rotate_root_key(&RootKey::from_bytes([key; 32])).await {
                Ok(()) | Err(LedgerError::Conflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (mut made, more, ()) = tokio::join!(make(&first, 100), make(&second, 200), rotate);
    made.extend(more);
    let opened: Vec<Ledger> = [7, 8, 9]
        .into_iter()
        .filter_map(|key| database.open_with(RootKey::from_bytes([key; 32])).ok())
        .collect();
    let [ledger] = &opened[..] else {
        panic!("{} keys open the store", opened.len());
    };
    reads(ledger, "one").await;
    for number in made {
        assert!(ledger.seal_note(TenantId(number), "link", b"x").is_ok());
    }
}

/// How many patients' keys the tenant's first secret still wraps: those rows are the only ones of their
/// length.
fn under_the_first_secret(database: &Database) -> String {
    let sql = "SET ROLE cairn_service; SELECT count(*) FROM cairn.key WHERE length(wrapped) = 60";
    database.cluster.sql("cairn", "cairn", sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_wraps_beside_a_rotation_is_wrapped_by_the_new_secret() {
    let database = Database::new();
    let command = ready(&database).await;
    let server = database.open();
    for number in 0..4 {
        write(&server, &format!("before {number}"), &format!("b{number}")).await;
    }
    assert_eq!(under_the_first_secret(&database), "4");
    // The server meets new patients all the time.
    let writing = {
        let server = server.clone();
        tokio::spawn(async move {
            for number in 0..60 {
                write(&server, &format!("p{number}"), &format!("o{number}")).await;
            }
        })
    };
    command.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    assert_eq!(under_the_first_secret(&database), "0");
    writing.await.unwrap();
    assert_eq!(under_the_first_secret(&database), "0");
    // And it rotates a patient's key, which it read before.
    let other = database.open();
    command.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    assert!(other.rotate_patient_key(TENANT, "before 0").await.unwrap());
    let sql =
        "SET ROLE cairn_service; SELECT count(*) FROM cairn.key WHERE get_byte(wrapped, 1) <> 3";
    assert_eq!(database.cluster.sql("cairn", "cairn", sql), "0");
    for id in ["b0", "b3", "o0", "o59"] {
        reads(&other, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_seal_under_a_patients_rotated_key() {
    let database = Database::new();
    let command = ready(&database).await;
    let server = database.open();
    write(&server, "p", "before").await;
    assert!(command.rotate_patient_key(TENANT, "p").await.unwrap());
    command.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    // Rows whose header names a version of the key that is not the first, by owner.
    let sql = "SET ROLE cairn_service; SELECT count(*) FROM cairn.document \
               WHERE get_byte(body, 1) & 16 <> 0 AND get_byte(body, 1) & 2 = ";
    let later = |flag: u8| {
        database
            .cluster
            .sql("cairn", "cairn", &format!("{sql}{flag}"))
    };
    assert_eq!((later(2), later(0)), ("0".to_owned(), "0".to_owned()));
    for number in 0..600 {
        let id = format!("o{number}");
        write(&server, "p", &id).await;
        if later(2) != "0" && later(0) != "0" {
            reads(&command, &id).await;
            // Once it is known it stays known.
            let (of_patient, of_tenant) = (later(2), later(0));
            write(&server, "p", "after").await;
            assert_ne!((later(2), later(0)), (of_patient, of_tenant));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server goes on with the keys that it knew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_rotated_still_reads() {
    let database = Database::new();
    let (command, server) = (ready(&database).await, database.open());
    let patient = command.mint_own_id(TENANT);
    let draft = draft(
        &server,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Absent,
        "x",
        &[],
    );
    server
        .commit(commit_of(&server, vec![draft]))
        .await
        .unwrap();
    for _ in 0..3 {
        command.rotate_patient_key(TENANT, &patient).await.unwrap();
        server.rotate_patient_key(TENANT, &patient).await.unwrap();
    }
    for ledger in [&command, &server] {
        let stored = ledger.get(TENANT, PATIENT, &patient).await.unwrap();
        assert_eq!(text(&stored.unwrap()), "x");
    }
}
