//! A history with some of everything in it, and the look that finds all of it again: in a store of
//! today, and in one that an earlier version of this program wrote.

use ledger::{
    Commit, CursorMove, Expected, Hit, Ledger, LedgerError, Number, OutboxDraft, OutboxKey, Shard,
};

use super::{
    AUDIT, OBSERVATION, PATIENT, Store, TENANT, assert_sound, audit, code, commit_of, delete,
    draft, found, of, put, text, timer,
};

const PATIENTS: [&str; 3] = ["patient-1", "patient-2", "patient-3"];
/// Observations that are never changed, of each patient; each is a commit and so a leaf.
const OBSERVATIONS: usize = 7;
/// Records of reading, in one shard.
const READS: usize = 9;
const DUE_MS: u64 = 1_700_000_100_000;

/// Writes the history into a new store: the first half ends with the destruction of a key, after
/// which all of it is in tables; the second half is in the journal only.
pub(crate) async fn write(ledger: &Ledger) {
    ledger.create_tenant(TENANT).await.unwrap();
    for patient in PATIENTS {
        put(
            ledger,
            PATIENT,
            patient,
            patient,
            Expected::Absent,
            "one",
            &[],
        )
        .await;
    }
    observations(ledger, "early").await;
    put(
        ledger,
        OBSERVATION,
        "changed",
        PATIENTS[0],
        Expected::Absent,
        "v1",
        &["first"],
    )
    .await;
    delete_new(ledger, "gone-early").await;
    reads(ledger).await;
    ledger
        .destroy_patient_key(TENANT, PATIENTS[2], audit(ledger, Shard(0)))
        .await
        .unwrap();
    let version = Expected::Version(1);
    put(
        ledger,
        OBSERVATION,
        "changed",
        PATIENTS[0],
        version,
        "v2",
        &["second"],
    )
    .await;
    observations(ledger, "late").await;
    delete_new(ledger, "gone-late").await;
    reads(ledger).await;
    let shard = ledger.shard_of(TENANT, &of(PATIENTS[0]), PATIENTS[0]);
    let caused = draft(
        ledger,
        OBSERVATION,
        "caused",
        of(PATIENTS[0]),
        Expected::Absent,
        "caused",
        &["late"],
    );
    let commit = Commit {
        timers_set: vec![timer(shard.0, DUE_MS, 1, 7)],
        outbox_add: vec![OutboxDraft {
            key: outbox_key(shard),
            owner: of(PATIENTS[0]),
            channel: 3,
            attempt: 0,
            body: b"a message".to_vec(),
        }],
        cursor: Some(CursorMove {
            consumer: "follower".into(),
            shard,
            from: Number(0),
            to: Number(5),
        }),
        cause: Some(Number(5)),
        ..commit_of(ledger, vec![caused])
    };
    ledger.commit(commit).await.unwrap();
}

async fn observations(ledger: &Ledger, when: &str) {
    for patient in &PATIENTS[..2] {
        for number in 0..OBSERVATIONS {
            let id = format!("{when}-{patient}-{number}");
            put(
                ledger,
                OBSERVATION,
                &id,
                patient,
                Expected::Absent,
                &id,
                &["every", when],
            )
            .await;
        }
    }
}

async fn delete_new(ledger: &Ledger, id: &str) {
    put(
        ledger,
        OBSERVATION,
        id,
        PATIENTS[1],
        Expected::Absent,
        "x",
        &["gone"],
    )
    .await;
    delete(ledger, OBSERVATION, id, PATIENTS[1], 1).await;
}

async fn reads(ledger: &Ledger) {
    for _ in 0..READS {
        let commit = Commit {
            audit: Some(audit(ledger, Shard(9))),
            ..Commit::new(TENANT)
        };
        ledger.commit(commit).await.unwrap();
    }
}

fn outbox_key(shard: Shard) -> OutboxKey {
    OutboxKey {
        shard,
        due_ms: DUE_MS,
        id: [2; 16],
    }
}

/// Finds all of the history, and that it is the whole of what the store holds.
pub(crate) async fn find(ledger: &Ledger) {
    assert_sound(ledger).await;
    for patient in &PATIENTS[..2] {
        let stored = ledger.get(TENANT, PATIENT, patient).await.unwrap().unwrap();
        assert_eq!((text(&stored), stored.version), ("one", 1));
    }
    assert!(matches!(
        ledger.get(TENANT, PATIENT, PATIENTS[2]).await,
        Err(LedgerError::KeyDestroyed)
    ));
    let counts = [("every", 4), ("early", 2), ("late", 2)];
    for (token, times) in counts {
        let hits = found(ledger, &code(ledger, token)).await;
        let caused = usize::from(token == "late");
        assert_eq!(hits.len(), times * OBSERVATIONS + caused, "{token}");
        assert!(hits.is_sorted_by(|newer, older| newer.number > older.number));
        for hit in hits {
            let stored = ledger.fetch(TENANT, hit).await.unwrap().unwrap();
            assert_eq!(text(&stored), stored.id);
        }
    }
    for gone in ["first", "gone"] {
        assert_eq!(found(ledger, &code(ledger, gone)).await, vec![], "{gone}");
    }
    let changed = ledger.history(TENANT, OBSERVATION, "changed", None, 9);
    let changed = changed.await.unwrap();
    let texts: Vec<_> = changed.iter().map(text).collect();
    assert_eq!(texts, ["v2", "v1"]);
    for id in ["gone-early", "gone-late"] {
        let stored = ledger.get(TENANT, OBSERVATION, id).await.unwrap().unwrap();
        assert_eq!((stored.deleted, stored.version), (true, 2), "{id}");
    }
    events(ledger).await;
    let shard = ledger.shard_of(TENANT, &of(PATIENTS[0]), PATIENTS[0]);
    let timers = ledger.timers_due(7, DUE_MS, 9).await.unwrap();
    assert_eq!(timers, [timer(shard.0, DUE_MS, 1, 7)]);
    let outbox = ledger.outbox_due(3, DUE_MS, 9).await.unwrap();
    assert_eq!(
        (outbox[0].key, &outbox[0].body[..]),
        (outbox_key(shard), &b"a message"[..])
    );
    assert_eq!(ledger.cursor("follower", shard).await.unwrap(), Number(5));
    for record in audits(ledger).await {
        let proof = super::proof(ledger, TENANT, record).await.unwrap();
        assert!(proof.leaf_index < proof.tree_size);
    }
}

async fn audits(ledger: &Ledger) -> Vec<Hit> {
    let every = ledger::Query::Token(ledger.kind_token(TENANT, AUDIT));
    let records = found(ledger, &every).await;
    // Three patients, the observations, one changed twice, two written and deleted, the reads, the
    // destruction, and the commit that has some of everything.
    assert_eq!(
        records.len(),
        3 + 4 * OBSERVATIONS + 2 + 4 + 2 * READS + 1 + 1
    );
    records
}

/// The feed of the first patient: everything, in the order in which it was written.
async fn events(ledger: &Ledger) {
    let shard = ledger.shard_of(TENANT, &of(PATIENTS[0]), PATIENTS[0]);
    let events = ledger.events(shard, Number(0), 100).await.unwrap();
    let mut seen = Vec::new();
    for event in &events {
        let stored = ledger.fetch(TENANT, event.at).await.unwrap().unwrap();
        assert_eq!(
            (event.tenant, event.kind, event.version, event.deleted),
            (TENANT, stored.kind, stored.version, stored.deleted)
        );
        let cause = (stored.id == "caused").then_some(Number(5));
        assert_eq!(event.cause, cause, "{}", stored.id);
        seen.push(stored.id);
    }
    assert_eq!(seen.len(), 1 + 2 * OBSERVATIONS + 2 + 1);
    assert_eq!((&*seen[0], &*seen[seen.len() - 1]), (PATIENTS[0], "caused"));
    assert_eq!(
        events.last().map(|event| event.at.number),
        Some(ledger.shard_head(shard))
    );
}

/// Goes on writing on top of the history: what is there can be changed, found and verified.
pub(crate) async fn go_on(ledger: &Ledger) {
    let id = format!("early-{}-0", PATIENTS[0]);
    let version = Expected::Version(1);
    put(
        ledger,
        OBSERVATION,
        &id,
        PATIENTS[0],
        version,
        "new",
        &["new"],
    )
    .await;
    let version = Expected::Version(2);
    put(
        ledger,
        OBSERVATION,
        "changed",
        PATIENTS[0],
        version,
        "v3",
        &["third"],
    )
    .await;
    delete(
        ledger,
        OBSERVATION,
        &format!("late-{}-0", PATIENTS[1]),
        PATIENTS[1],
        1,
    )
    .await;
    reads(ledger).await;
    went_on(ledger).await;
}

/// Finds what [`go_on`] has written.
pub(crate) async fn went_on(ledger: &Ledger) {
    assert_sound(ledger).await;
    let counts = [
        ("every", 4 * OBSERVATIONS - 2),
        ("early", 2 * OBSERVATIONS - 1),
        ("late", 2 * OBSERVATIONS),
        ("second", 0),
        ("third", 1),
        ("new", 1),
    ];
    for (token, count) in counts {
        assert_eq!(
            found(ledger, &code(ledger, token)).await.len(),
            count,
            "{token}"
        );
    }
}

/// The history in a store of today, through closing and opening.
pub(crate) async fn a_history_is_found_again(store: &dyn Store) {
    let ledger = store.open();
    write(&ledger).await;
    find(&ledger).await;
    ledger.close().await.unwrap();
    let ledger = store.open();
    find(&ledger).await;
    go_on(&ledger).await;
    ledger.close().await.unwrap();
    went_on(&store.open()).await;
}
