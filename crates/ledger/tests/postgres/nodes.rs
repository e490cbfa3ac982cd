//! Two ledgers on one database, as two processes have it.

use std::collections::BTreeSet;

use ledger::{
    Commit, CursorMove, Draft, Expected, Ledger, LedgerError, Number, OutboxDraft, OutboxKey,
    RootKey, Shard,
};

use super::Database;
use super::patience::{in_time, until};
use super::suite::{
    OBSERVATION, OTHER, PATIENT, Store, TENANT, assert_sound, audit, code, commit_of, draft, found,
    of, put, ready, text,
};

/// Two nodes on one new store.
async fn pair() -> (Database, Ledger, Ledger) {
    let database = Database::new();
    let first = ready(&database).await;
    let second = database.open();
    (database, first, second)
}

fn observation(ledger: &Ledger, id: &str, patient: &str, expected: Expected, body: &str) -> Draft {
    draft(ledger, OBSERVATION, id, of(patient), expected, body, &["a"])
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread")]
async fn writers_on_two_nodes_lose_nothing() {
    let (database, first, second) = pair().await;
    let patient = first.mint_own_id(TENANT);
    let counter = "counter";
    let draft = observation(&first, counter, &patient, Expected::Absent, "0");
    first.commit(commit_of(&first, vec![draft])).await.unwrap();
    // Each counts one document up, and writes one of its own to some other patient's shard.
    let count = async |ledger: Ledger, name: String| {
        for round in 0..10 {
            loop {
                let current = ledger.get(TENANT, OBSERVATION, counter).await.unwrap();
                let current = current.unwrap();
                let next: u32 = text(&current).parse::<u32>().unwrap() + 1;
                let expected = Expected::Version(current.version);
                let up = observation(&ledger, counter, &patient, expected, &next.to_string());
                let other = ledger.derive_own_id(TENANT, &format!("{name} {round}"));
                let own = format!("{name}.{round}");
                let own = observation(&ledger, &own, &other, Expected::Absent, "own");
                match ledger.commit(commit_of(&ledger, vec![up, own])).await {
                    Ok(_) => break,
                    Err(LedgerError::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            count(
                if task % 2 == 0 { &first } else { &second }.clone(),
                format!("{task}"),
            )
        })
        .collect();
    futures_util::future::join_all(tasks).await;
    for ledger in [&first, &second] {
        let counted = ledger.get(TENANT, OBSERVATION, counter).await.unwrap();
        let counted = counted.unwrap();
        assert_eq!((text(&counted), counted.version), ("40", 41));
        let hits = found(ledger, &code(ledger, "a")).await;
        assert_eq!(hits.len(), 41);
        // No number is given twice, not even in two shards: pages end at numbers.
        let numbers: BTreeSet<Number> = hits.iter().map(|hit| hit.number).collect();
        assert_eq!(numbers.len(), 41);
        assert_sound(ledger).await;
    }
    // Every row is what it can be told to be from the others.
    let report = ledger::doctor(database.options(), false, |_| {}).await;
    let report = report.unwrap();
    assert!(report.is_sound() && report.documents == 122, "{report:?}");
    let versions = first.history(TENANT, OBSERVATION, counter, None, 99).await;
    let numbers: Vec<_> = versions.unwrap().iter().map(|one| one.at.number).collect();
    assert!(numbers.is_sorted_by(|newer, older| newer > older));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_sees_what_another_writes() {
    let (database, first, second) = pair().await;
    let patient = first.mint_own_id(TENANT);
    let mut watch = second.watch();
    let write = async |ledger: &Ledger, id: &str| {
        put(
            ledger,
            OBSERVATION,
            id,
            &patient,
            Expected::Absent,
            "x",
            &["a"],
        )
        .await
    };
    let at = write(&first, "one").await;
    // Reads see it at once, followers are woken.
    assert!(
        second
            .get(TENANT, OBSERVATION, "one")
            .await
            .unwrap()
            .is_some()
    );
    let woken = in_time("the follower is woken", watch.recv()).await;
    assert_eq!(woken.unwrap(), at.shard);
    assert!(second.shard_head(at.shard) >= at.number);
    assert!(second.last_number() >= at.number);
    assert_eq!(
        second.events(at.shard, Number(0), 9).await.unwrap().len(),
        1
    );
    // What it writes then comes after, whatever its clock says.
    database.clock().set(0);
    let next = write(&second, "two").await;
    assert!(next.number > at.number);
    // Somebody signs, and it is over both.
    until("a checkpoint", async || {
        let report = first.verify_audit(&|_| {}).await.unwrap();
        assert!(
            report.broken.is_none() && report.checkpoint_ok,
            "{report:?}"
        );
        report
            .checkpoint
            .lines()
            .any(|line| line.starts_with(&format!("{} 2 ", at.shard)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_gets_one_key() {
    let (_database, first, second) = pair().await;
    // Both meet each patient for the first time at the same moment.
    for round in 0..20 {
        let patient = first.mint_own_id(TENANT);
        let write = async |ledger: &Ledger, name: &str| {
            let id = format!("{name}{round}");
            let draft = observation(ledger, &id, &patient, Expected::Absent, name);
            ledger.commit(commit_of(ledger, vec![draft])).await
        };
        let (one, other) = tokio::join!(write(&first, "a"), write(&second, "b"));
        one.unwrap();
        other.unwrap();
    }
    // And whoever opens the store opens all of it with the key that is stored.
    for ledger in [&first, &second, &_database.open()] {
        for round in 0..20 {
            for name in ["a", "b"] {
                let id = format!("{name}{round}");
                let stored = ledger.get(TENANT, OBSERVATION, &id).await.unwrap().unwrap();
                assert_eq!(text(&stored), name);
            }
        }
    }
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_destroyed_seals_nothing() {
    let (_database, first, second) = pair().await;
    let patient = first.mint_own_id(TENANT);
    let write = async |ledger: &Ledger, id: &str| {
        let draft = observation(ledger, id, &patient, Expected::Absent, "x");
        ledger.commit(commit_of(ledger, vec![draft])).await
    };
    let at = write(&first, "one").await.unwrap().documents[0].at;
    write(&second, "two").await.unwrap();
    let record = audit(&first, at.shard);
    first
        .destroy_patient_key(TENANT, &patient, record)
        .await
        .unwrap();
    // The second has the key in memory, and still must not write with it.
    let outcome = write(&second, "three").await;
    assert!(
        matches!(outcome, Err(LedgerError::KeyDestroyed)),
        "{outcome:?}"
    );
    until("the key's end", async || {
        let outcome = second.get(TENANT, OBSERVATION, "one").await;
        matches!(outcome, Err(LedgerError::KeyDestroyed))
    })
    .await;
    assert_sound(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_dictionaries_of_others_are_known() {
    let (mut database, first, second) = pair().await;
    // Made by both at once, and it is one.
    let (one, two) = tokio::join!(first.create_tenant(OTHER), second.create_tenant(OTHER));
    one.unwrap();
    two.unwrap();
    let token = |ledger: &Ledger| ledger.token(OTHER, PATIENT, "name", "Berg");
    assert_eq!(token(&first), token(&second));
    // Made by one, and the other uses it.
    let third = ledger::TenantId(3);
    first.create_tenant(third).await.unwrap();
    let record = ledger::AuditDraft {
        id: second.mint_own_id(third),
        ..audit(&second, Shard(1))
    };
    let commit = Commit {
        audit: Some(record),
        ..Commit::new(third)
    };
    second.commit(commit).await.unwrap();
    let unknown = second.get(ledger::TenantId(4), PATIENT, "p").await;
    assert!(matches!(unknown, Err(LedgerError::UnknownTenant(4))));
    // A newer program brings a dictionary; one that runs still reads what it writes.
    database.dictionary = vec![ledger::Dictionary {
        kinds: Vec::new(),
        bytes: b"a dictionary that is long enough to be of use".to_vec(),
    }];
    let newer = database.open();
    let body = "a dictionary that is long enough, is it not?";
    put(&newer, PATIENT, "p", "p", Expected::Absent, body, &[]).await;
    let stored = first.get(TENANT, PATIENT, "p").await.unwrap().unwrap();
    assert_eq!(text(&stored), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_on_two_nodes_handle_once() {
    let (_database, first, second) = pair().await;
    let patient = first.mint_own_id(TENANT);
    let shard = first.shard_of(TENANT, &of(&patient), &patient);
    for number in 0..10 {
        let id = format!("o{number}");
        put(
            &first,
            OBSERVATION,
            &id,
            &patient,
            Expected::Absent,
            "x",
            &[],
        )
        .await;
    }
    let follow = async |ledger: &Ledger| {
        let mut handled = 0;
        loop {
            let from = ledger.cursor("follower", shard).await.unwrap();
            let Some(event) = ledger
                .events(shard, from, 1)
                .await
                .unwrap()
                .into_iter()
                .next()
            else {
                return handled;
            };
            let commit = Commit {
                cursor: Some(CursorMove {
                    consumer: "follower".into(),
                    shard,
                    from,
                    to: event.at.number,
                }),
                ..Commit::new(TENANT)
            };
            match ledger.commit(commit).await {
                Ok(_) => handled += 1,
                Err(LedgerError::CursorMoved { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (one, other) = tokio::join!(follow(&first), follow(&second));
    assert_eq!(one + other, 10);
    // And an entry is settled once.
    let key = OutboxKey {
        shard,
        due_ms: 1,
        id: [1; 16],
    };
    let entry = OutboxDraft {
        key,
        owner: of(&patient),
        channel: 1,
        attempt: 0,
        body: b"message".to_vec(),
    };
    let commit = Commit {
        outbox_add: vec![entry],
        ..Commit::new(TENANT)
    };
    first.commit(commit).await.unwrap();
    assert_eq!(
        second.outbox_due(1, 9, 9).await.unwrap()[0].body,
        b"message"
    );
    let settle = async |ledger: &Ledger| {
        let commit = Commit {
            outbox_remove: vec![key],
            ..Commit::new(TENANT)
        };
        ledger.commit(commit).await
    };
    let outcomes = tokio::join!(settle(&first), settle(&second));
    let outcomes = [outcomes.0, outcomes.1];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    assert!(
        matches!(refused, Some(LedgerError::Conflict)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn founding_together_makes_one_store() {
    let database = Database::new();
    let open = || database.open_with(RootKey::from_bytes([7; 32]));
    let both = std::thread::scope(|scope| {
        let threads = [scope.spawn(open), scope.spawn(open)];
        threads.map(|thread| thread.join().unwrap().unwrap())
    });
    assert_eq!(both[0].verifier_keys(), both[1].verifier_keys());
    both[0].create_tenant(TENANT).await.unwrap();
    put(&both[1], PATIENT, "p", "p", Expected::Absent, "x", &[]).await;
    assert_sound(&both[0]).await;
}

/// Whoever decides on time looks at a feed to its end first, whichever node wrote it.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_feed_is_what_the_store_says_now() {
    let (_database, first, second) = pair().await;
    let patient = first.mint_own_id(TENANT);
    let shard = first.shard_of(TENANT, &of(&patient), &patient);
    // Others are told of it some time later, at the latest after a fifth of a second.
    for round in 0..20 {
        let id = format!("{round}");
        let at = put(
            &first,
            OBSERVATION,
            &id,
            &patient,
            Expected::Absent,
            "x",
            &[],
        )
        .await;
        assert_eq!(second.shard_head_now(shard).await.unwrap(), at.number);
        assert_eq!(second.shard_head(shard), at.number);
    }
}
