//! Documents: what is written, what is refused, and who may see it.

use ledger::{
    Clock, Commit, CursorMove, Expected, Hit, LedgerError, Number, OutboxDraft, OutboxKey, Owner,
    Query, SHARDS, Shard, TenantId, Timer, TimerKey,
};

use super::{
    AUDIT, OBSERVATION, OTHER, PATIENT, Store, TENANT, assert_sound, audit, code, commit_of,
    delete, draft, found, of, put, ready, text, timer,
};

// Proves: 45 CFR 164.312(c)(1)
pub(crate) async fn documents_are_written_read_and_kept(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    assert!(
        ledger
            .get(TENANT, PATIENT, &patient)
            .await
            .unwrap()
            .is_none()
    );
    let first = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    store.clock().advance(5);
    let second = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(1),
        "two",
        &[],
    )
    .await;
    let third = delete(&ledger, PATIENT, &patient, &patient, 2).await;
    let fourth = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(3),
        "four",
        &[],
    )
    .await;
    assert!(first < second && second < third && third < fourth);
    assert_eq!(second.number.unix_ms(), store.clock().now_ms());

    let newest = ledger
        .get(TENANT, PATIENT, &patient)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (newest.version, newest.at, newest.deleted, text(&newest)),
        (4, fourth, false, "four")
    );
    assert_eq!(
        (newest.kind, newest.id.as_str()),
        (PATIENT, patient.as_str())
    );
    for (version, at, deleted, body) in [
        (1, first, false, "one"),
        (2, second, false, "two"),
        (3, third, true, ""),
        (4, fourth, false, "four"),
    ] {
        let stored = ledger
            .version(TENANT, PATIENT, &patient, version)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (stored.version, stored.at, stored.deleted, text(&stored)),
            (version, at, deleted, body)
        );
        let fetched = ledger.fetch(TENANT, at).await.unwrap().unwrap();
        assert_eq!(
            (fetched.version, fetched.deleted, text(&fetched)),
            (version, deleted, body)
        );
    }
    for version in [0, 5, u32::MAX] {
        assert!(
            ledger
                .version(TENANT, PATIENT, &patient, version)
                .await
                .unwrap()
                .is_none()
        );
    }
    let versions = async |before, limit| {
        let history = ledger
            .history(TENANT, PATIENT, &patient, before, limit)
            .await
            .unwrap();
        history
            .iter()
            .map(|stored| stored.version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(None, 10).await, [4, 3, 2, 1]);
    assert_eq!(versions(None, 2).await, [4, 3]);
    assert_eq!(versions(Some(3), 10).await, [2, 1]);
    assert!(versions(Some(1), 10).await.is_empty());
    assert!(versions(Some(0), 10).await.is_empty());
    assert_eq!(versions(Some(99), 1).await, [4]);
    // The same id under another kind is another document.
    assert!(
        ledger
            .get(TENANT, OBSERVATION, &patient)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        ledger
            .fetch(
                TENANT,
                Hit {
                    number: Number(1),
                    shard: Shard(0)
                }
            )
            .await
            .unwrap()
            .is_none()
    );
    assert_sound(&ledger).await;
}

// Proves: 45 CFR 164.312(c)(1)
pub(crate) async fn what_is_not_expected_is_refused_whole(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    let timer = Timer {
        key: TimerKey {
            shard,
            due_ms: 5,
            id: [1; 16],
        },
        tenant: TENANT,
        consumer: 1,
        payload: b"x".to_vec(),
    };
    let entry = OutboxKey {
        shard,
        due_ms: 5,
        id: [2; 16],
    };
    for (expected, cursor_from, settle) in [
        (Expected::Absent, 0, false),
        (Expected::Version(0), 0, false),
        (Expected::Version(2), 0, false),
        (Expected::Version(1), 1, false),
        (Expected::Version(1), 0, true),
    ] {
        let new = ledger.mint_own_id(TENANT);
        let mut commit = commit_of(
            &ledger,
            vec![
                draft(
                    &ledger,
                    OBSERVATION,
                    &new,
                    of(&patient),
                    Expected::Absent,
                    "new",
                    &["a"],
                ),
                draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    expected,
                    "two",
                    &[],
                ),
            ],
        );
        commit.timers_set.push(timer.clone());
        commit.outbox_add.push(OutboxDraft {
            key: entry,
            owner: of(&patient),
            channel: 1,
            attempt: 0,
            body: vec![1],
        });
        if settle {
            commit.outbox_remove.push(OutboxKey {
                shard,
                due_ms: 9,
                id: [9; 16],
            });
        }
        commit.cursor = Some(CursorMove {
            consumer: "follower".into(),
            shard,
            from: Number(cursor_from),
            to: Number(8),
        });
        let audit_id = commit.audit.as_ref().unwrap().id.clone();
        let last = ledger.last_number();
        let outcome = ledger.commit(commit).await;
        match cursor_from {
            0 => assert!(matches!(outcome, Err(LedgerError::Conflict)), "{outcome:?}"),
            _ => assert!(
                matches!(&outcome, Err(LedgerError::CursorMoved { consumer }) if consumer == "follower"),
                "{outcome:?}"
            ),
        }
        assert_eq!(ledger.last_number(), last);
        assert!(
            ledger
                .get(TENANT, OBSERVATION, &new)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            ledger
                .get(TENANT, AUDIT, &audit_id)
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(
            ledger
                .get(TENANT, PATIENT, &patient)
                .await
                .unwrap()
                .unwrap()
                .version,
            1
        );
        assert_eq!(found(&ledger, &code(&ledger, "a")).await, []);
        assert_eq!(ledger.timers_due(1, 100, 10).await.unwrap(), []);
        assert!(ledger.outbox_due(1, 100, 10).await.unwrap().is_empty());
        assert_eq!(ledger.cursor("follower", shard).await.unwrap(), Number(0));
    }
    // Two drafts of one document in one commit follow each other, or not.
    let twice = |second| {
        commit_of(
            &ledger,
            vec![
                draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    Expected::Version(1),
                    "two",
                    &[],
                ),
                draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    second,
                    "three",
                    &[],
                ),
            ],
        )
    };
    assert!(matches!(
        ledger.commit(twice(Expected::Version(1))).await,
        Err(LedgerError::Conflict)
    ));
    let receipt = ledger.commit(twice(Expected::Version(2))).await.unwrap();
    assert_eq!(
        receipt
            .documents
            .iter()
            .map(|written| written.version)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    // An audit record is never written over.
    let record = receipt.audit.unwrap();
    let record = ledger.fetch(TENANT, record).await.unwrap().unwrap();
    for expected in [Expected::Absent, Expected::Version(1)] {
        let over = draft(
            &ledger,
            AUDIT,
            &record.id,
            Owner::Tenant,
            expected,
            "nothing happened",
            &[],
        );
        assert!(matches!(
            ledger.commit(commit_of(&ledger, vec![over])).await,
            Err(LedgerError::Conflict)
        ));
    }
    assert_sound(&ledger).await;
}

// Proves: 45 CFR 164.312(a)(1)
pub(crate) async fn tenants_see_only_their_own(store: &dyn Store) {
    let ledger = ready(store).await;
    ledger.create_tenant(OTHER).await.unwrap();
    let patient = ledger.mint_own_id(TENANT);
    let at = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "mine",
        &["a"],
    )
    .await;
    // Making a tenant again changes nothing.
    ledger.create_tenant(TENANT).await.unwrap();
    assert!(
        ledger
            .get(TENANT, PATIENT, &patient)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        ledger
            .get(OTHER, PATIENT, &patient)
            .await
            .unwrap()
            .is_none()
    );
    assert!(ledger.fetch(OTHER, at).await.unwrap().is_none());
    let query = Query::Token(ledger.token(OTHER, PATIENT, "code", "a"));
    assert_eq!(
        ledger.search(OTHER, &query, None, None, 9).await.unwrap(),
        []
    );
    let query = Query::Token(ledger.kind_token(OTHER, PATIENT));
    assert_eq!(
        ledger.search(OTHER, &query, None, None, 9).await.unwrap(),
        []
    );
    assert!(ledger.audit_leaf(OTHER, at).await.unwrap().is_none());
    // Both may use one id.
    let mut theirs = draft(
        &ledger,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Absent,
        "theirs",
        &[],
    );
    theirs.tokens.clear();
    let commit = Commit {
        documents: vec![theirs],
        audit: Some(audit(&ledger, Shard(0))),
        ..Commit::new(OTHER)
    };
    ledger.commit(commit).await.unwrap();
    assert_eq!(
        text(&ledger.get(OTHER, PATIENT, &patient).await.unwrap().unwrap()),
        "theirs"
    );
    assert_eq!(
        text(
            &ledger
                .get(TENANT, PATIENT, &patient)
                .await
                .unwrap()
                .unwrap()
        ),
        "mine"
    );
    let nobody = TenantId(3);
    assert!(matches!(
        ledger.get(nobody, PATIENT, &patient).await,
        Err(LedgerError::UnknownTenant(3))
    ));
    assert!(matches!(
        ledger.commit(Commit::new(nobody)).await,
        Err(LedgerError::UnknownTenant(3))
    ));
    let query = Query::Token(ledger.kind_token(nobody, PATIENT));
    assert!(matches!(
        ledger.search(nobody, &query, None, None, 9).await,
        Err(LedgerError::UnknownTenant(3))
    ));
}

// Proves: 45 CFR 164.312(c)(1)
pub(crate) async fn racing_writers_lose_nothing(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "0",
        &[],
    )
    .await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (ledger, patient) = (ledger.clone(), patient.clone());
        tasks.spawn(async move {
            let mut done = 0;
            while done < 5 {
                let current = ledger
                    .get(TENANT, PATIENT, &patient)
                    .await
                    .unwrap()
                    .unwrap();
                let count: u32 = text(&current).parse().unwrap();
                let next = draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    Expected::Version(current.version),
                    &(count + 1).to_string(),
                    &["a"],
                );
                match ledger.commit(commit_of(&ledger, vec![next])).await {
                    Ok(_) => done += 1,
                    Err(LedgerError::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    let last = ledger
        .get(TENANT, PATIENT, &patient)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((last.version, text(&last)), (41, "40"));
    let token = Query::Token(ledger.token(TENANT, PATIENT, "code", "a"));
    assert_eq!(found(&ledger, &token).await, [last.at]);
    assert_sound(&ledger).await;
}

pub(crate) async fn misuse_is_refused(store: &dyn Store) {
    let ledger = ready(store).await;
    let good = || {
        commit_of(
            &ledger,
            vec![draft(
                &ledger,
                PATIENT,
                "p",
                Owner::Tenant,
                Expected::Absent,
                "x",
                &[],
            )],
        )
    };
    let changed = |change: &dyn Fn(&mut Commit)| {
        let mut commit = good();
        change(&mut commit);
        commit
    };
    let bad_timer = Timer {
        payload: vec![0; 5000],
        ..timer(0, 0, 0, 0)
    };
    for (what, commit) in [
        ("no audit", changed(&|commit| commit.audit = None)),
        ("no id", changed(&|commit| commit.documents[0].id.clear())),
        (
            "long id",
            changed(&|commit| commit.documents[0].id = "x".repeat(65)),
        ),
        (
            "deleted with a body",
            changed(&|commit| commit.documents[0].deleted = true),
        ),
        (
            "large body",
            changed(&|commit| commit.documents[0].body = vec![0; (16 << 20) + 1]),
        ),
        (
            "no such shard",
            changed(&|commit| commit.audit.as_mut().unwrap().shard = Shard(SHARDS)),
        ),
        (
            "no such shard",
            changed(&|commit| commit.timers_set.push(timer(SHARDS, 0, 0, 0))),
        ),
        (
            "large timer",
            changed(&|commit| commit.timers_set.push(bad_timer.clone())),
        ),
        (
            "nameless follower",
            changed(&|commit| {
                commit.cursor = Some(CursorMove {
                    consumer: String::new(),
                    shard: Shard(0),
                    from: Number(0),
                    to: Number(1),
                });
            }),
        ),
        (
            "too many",
            changed(&|commit| commit.documents = vec![commit.documents[0].clone(); 16_385]),
        ),
    ] {
        let outcome = ledger.commit(commit).await;
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{what}: {outcome:?}"
        );
    }
    ledger.commit(good()).await.unwrap();
    // Nothing to write is nothing wrong.
    let receipt = ledger.commit(Commit::new(TENANT)).await.unwrap();
    assert!(receipt.documents.is_empty() && receipt.leaf.is_none() && receipt.audit.is_none());
}

pub(crate) async fn one_commit_may_be_large(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let body = "{\"resourceType\":\"Observation\"}".repeat(10);
    let drafts = (0..2000)
        .map(|number| {
            draft(
                &ledger,
                OBSERVATION,
                &format!("o{number}"),
                of(&patient),
                Expected::Absent,
                &body,
                &["a"],
            )
        })
        .collect();
    let receipt = ledger.commit(commit_of(&ledger, drafts)).await.unwrap();
    assert_eq!(receipt.documents.len(), 2000);
    let hits = ledger
        .search(TENANT, &code(&ledger, "a"), None, None, 5000)
        .await
        .unwrap();
    assert_eq!(hits.len(), 2000);
    assert!(
        receipt
            .documents
            .iter()
            .map(|written| &written.at)
            .eq(hits.iter().rev())
    );
    let vast = draft(
        &ledger,
        OBSERVATION,
        "vast",
        of(&patient),
        Expected::Absent,
        &"x".repeat(16 << 20),
        &[],
    );
    ledger.commit(commit_of(&ledger, vec![vast])).await.unwrap();
    assert_eq!(
        ledger
            .get(TENANT, OBSERVATION, "vast")
            .await
            .unwrap()
            .unwrap()
            .body
            .len(),
        16 << 20
    );
    assert_sound(&ledger).await;
}

pub(crate) async fn numbers_rise_when_the_clock_stands_or_falls(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut last = ledger.last_number();
    for (step, now_ms) in [
        2_000_000_000_000u64,
        2_000_000_000_000,
        1_000,
        2_000_000_000_001,
    ]
    .into_iter()
    .enumerate()
    {
        store.clock().set(now_ms);
        for number in 0..3 {
            let at = put(
                &ledger,
                OBSERVATION,
                &format!("o{step}.{number}"),
                "p",
                Expected::Absent,
                "x",
                &[],
            )
            .await;
            assert!(at.number > last);
            last = at.number;
        }
    }
    assert_eq!(last.unix_ms(), 2_000_000_000_001);
}
