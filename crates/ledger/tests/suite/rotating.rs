//! Keys that rotate while everything stays readable.

use ledger::{
    Commit, DisclosedPart, Expected, Hit, Ledger, LedgerError, Number, OutboxDraft, OutboxKey,
    Owner, Query, RootKey, Shard,
};

use super::{
    AUDIT, OBSERVATION, OTHER, PATIENT, Store, TENANT, assert_sound, audit, code, commit_of, draft,
    found, of, put, ready, text,
};

// Proves: 45 CFR 164.312(a)(2)(iv)
pub(crate) async fn the_root_key_rotates(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    write(&ledger, &patient, Expected::Absent, "before").await;
    let note = ledger.seal_note(TENANT, "link", b"text").unwrap();
    let verifier_keys = ledger.verifier_keys();
    ledger
        .rotate_root_key(&RootKey::from_bytes([8; 32]))
        .await
        .unwrap();
    // The store goes on under the new key, and makes new secrets under it.
    ledger.create_tenant(OTHER).await.unwrap();
    ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    write(&ledger, &patient, Expected::Version(1), "after").await;
    ledger.close().await.unwrap();
    let outcome = store.open_with(RootKey::from_bytes([7; 32]));
    assert!(
        matches!(outcome, Err(LedgerError::RootKey(_))),
        "{:?}",
        outcome.err()
    );
    let ledger = store.open_with(RootKey::from_bytes([8; 32])).unwrap();
    assert_eq!(history(&ledger, &patient).await, ["after", "before"]);
    let opened = ledger.open_note(TENANT, "link", &note).unwrap();
    assert_eq!(opened.as_deref(), Some(&b"text"[..]));
    assert_eq!(ledger.verifier_keys(), verifier_keys);
    assert!(ledger.seal_note(OTHER, "link", b"").is_ok());
    assert_sound(&ledger).await;
}

async fn write(ledger: &Ledger, patient: &str, expected: Expected, body: &str) -> Hit {
    put(ledger, PATIENT, patient, patient, expected, body, &[]).await
}

async fn history(ledger: &Ledger, patient: &str) -> Vec<String> {
    let versions = ledger.history(TENANT, PATIENT, patient, None, 99).await;
    versions
        .unwrap()
        .iter()
        .map(|stored| text(stored).to_owned())
        .collect()
}

fn entry(number: u8, owner: Owner) -> OutboxDraft {
    OutboxDraft {
        key: OutboxKey {
            shard: Shard(0),
            due_ms: 1,
            id: [number; 16],
        },
        owner,
        channel: 4,
        attempt: 0,
        body: vec![number],
    }
}

/// Everything that a tenant's keys seal, once in each round.
struct Rounds {
    patient: String,
    audits: Vec<Hit>,
    notes: Vec<Vec<u8>>,
    outbox: Vec<u8>,
}

impl Rounds {
    async fn add(&mut self, ledger: &Ledger) {
        let round = u8::try_from(self.audits.len()).unwrap();
        let expected = match u32::from(round) {
            0 => Expected::Absent,
            version => Expected::Version(version),
        };
        let body = format!("round {round}");
        let drafts = vec![
            draft(
                ledger,
                PATIENT,
                &self.patient,
                of(&self.patient),
                expected,
                &body,
                &[],
            ),
            draft(
                ledger,
                OBSERVATION,
                &format!("o{round}"),
                Owner::Tenant,
                Expected::Absent,
                &body,
                &["code"],
            ),
        ];
        let entries = [
            entry(2 * round, of(&self.patient)),
            entry(2 * round + 1, Owner::Tenant),
        ];
        self.outbox
            .extend(entries.iter().map(|entry| entry.key.id[0]));
        let commit = Commit {
            outbox_add: entries.to_vec(),
            ..commit_of(ledger, drafts)
        };
        let receipt = ledger.commit(commit).await.unwrap();
        self.audits.push(receipt.audit.unwrap());
        self.notes
            .push(ledger.seal_note(TENANT, "link", &[round]).unwrap());
    }

    /// Everything of every round can be read.
    async fn check(&self, ledger: &Ledger) {
        let rounds = self.audits.len();
        let bodies = |round: usize| format!("round {round}");
        let versions: Vec<_> = (0..rounds).rev().map(bodies).collect();
        assert_eq!(history(ledger, &self.patient).await, versions);
        assert_eq!(found(ledger, &code(ledger, "code")).await.len(), rounds);
        for (round, (at, note)) in self.audits.iter().zip(&self.notes).enumerate() {
            let stored = ledger.get(TENANT, OBSERVATION, &format!("o{round}")).await;
            assert_eq!(text(&stored.unwrap().unwrap()), bodies(round));
            let audit = ledger.fetch(TENANT, *at).await.unwrap().unwrap();
            let leaf = ledger.audit_leaf(TENANT, *at).await.unwrap().unwrap();
            let parts = ledger.disclose(&leaf, |_| Vec::new(), |_| true).await;
            let parts = parts.unwrap().unwrap();
            assert!(
                matches!(&parts[..], [DisclosedPart::Shown { text: shown, .. }] if shown == text(&audit)),
                "{parts:?}"
            );
            let opened = ledger.open_note(TENANT, "link", note).unwrap().unwrap();
            assert_eq!(usize::from(opened[0]), round);
        }
        let mut sent = Vec::new();
        for entry in ledger.outbox_due(4, 9, 99).await.unwrap() {
            assert_eq!(entry.body, [entry.key.id[0]]);
            sent.push(entry.key.id[0]);
        }
        assert_eq!(sent, self.outbox);
        assert_sound(ledger).await;
    }
}

// Proves: 45 CFR 164.312(a)(2)(iv)
pub(crate) async fn everything_is_readable_through_rotations(store: &dyn Store) {
    let mut ledger = ready(store).await;
    let mut rounds = Rounds {
        patient: ledger.mint_own_id(TENANT),
        audits: Vec::new(),
        notes: Vec::new(),
        outbox: Vec::new(),
    };
    rounds.add(&ledger).await;
    for version in 2..=4 {
        let done = ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
        assert_eq!((done.version, done.keys), (version, 1));
        assert_eq!(
            ledger
                .continue_tenant_rotation(TENANT, &|_| {})
                .await
                .unwrap(),
            None
        );
        rounds.add(&ledger).await;
        assert!(
            ledger
                .rotate_patient_key(TENANT, &rounds.patient)
                .await
                .unwrap()
        );
        rounds.add(&ledger).await;
        rounds.check(&ledger).await;
        ledger.close().await.unwrap();
        ledger = store.open();
        rounds.check(&ledger).await;
    }
    // Destroying the key destroys all its versions.
    ledger
        .destroy_patient_key(TENANT, &rounds.patient, audit(&ledger, Shard(0)))
        .await
        .unwrap();
    for version in 1..=7 {
        let outcome = ledger
            .version(TENANT, PATIENT, &rounds.patient, version)
            .await;
        assert!(
            matches!(outcome, Err(LedgerError::KeyDestroyed)),
            "{version}: {outcome:?}"
        );
    }
    assert!(matches!(
        ledger.rotate_patient_key(TENANT, &rounds.patient).await,
        Err(LedgerError::KeyDestroyed)
    ));
    ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    assert!(matches!(
        ledger.get(TENANT, PATIENT, &rounds.patient).await,
        Err(LedgerError::KeyDestroyed)
    ));
}

pub(crate) async fn rotations_of_nothing_say_so(store: &dyn Store) {
    let ledger = ready(store).await;
    assert!(!ledger.rotate_patient_key(TENANT, "nobody").await.unwrap());
    for outcome in [
        ledger.rotate_patient_key(OTHER, "nobody").await.err(),
        ledger.rotate_tenant_keys(OTHER, &|_| {}).await.err(),
    ] {
        assert!(
            matches!(outcome, Some(LedgerError::UnknownTenant(2))),
            "{outcome:?}"
        );
    }
    let done = ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    assert_eq!((done.version, done.keys), (2, 0));
}

/// What all forms of queries find, page by page.
async fn all_answers(ledger: &Ledger) -> Vec<Vec<Hit>> {
    let token = |code: &str| code_query(ledger, code);
    let range = |low, high| {
        ledger
            .range_query(TENANT, OBSERVATION, "date", low, high)
            .unwrap()
    };
    let coarse = |low, high| {
        ledger
            .coarse_range_query(TENANT, OBSERVATION, "value", low, high)
            .unwrap()
    };
    let every = Query::Token(ledger.kind_token(TENANT, OBSERVATION));
    let queries = [
        every.clone(),
        token("even"),
        Query::And(vec![token("even"), token("third")]),
        Query::Or(vec![token("even"), token("third")]),
        Query::Without(Box::new(every.clone()), Box::new(token("third"))),
        Query::Without(Box::new(token("even")), Box::new(token("third"))),
        range(10, 90),
        Query::And(vec![range(0, 50), token("even")]),
        coarse(-500, 3_000),
        Query::Below(Number(u64::MAX), Box::new(every)),
        Query::Token(ledger.token(TENANT, AUDIT, "agent", "someone")),
        Query::Token(ledger.kind_token(TENANT, AUDIT)),
    ];
    let mut answers = Vec::new();
    for query in queries {
        let mut hits: Vec<Hit> = Vec::new();
        loop {
            let before = hits.last().map(|hit| hit.number);
            let page = ledger
                .search(TENANT, &query, before, None, 40)
                .await
                .unwrap();
            let is_last = page.len() < 40;
            hits.extend(page);
            if is_last {
                break;
            }
        }
        answers.push(hits);
    }
    answers
}

fn code_query(ledger: &Ledger, code: &str) -> Query {
    Query::Token(super::token_of(ledger, code))
}

async fn put_number(ledger: &Ledger, number: i64, patient: &str, expected: Expected) {
    let codes: Vec<&str> = [(number % 2 == 0, "even"), (number % 3 == 0, "third")]
        .into_iter()
        .filter_map(|(is, code)| is.then_some(code))
        .collect();
    let id = format!("document-{number}");
    let mut draft = draft(
        ledger,
        OBSERVATION,
        &id,
        of(patient),
        expected,
        "body",
        &codes,
    );
    draft
        .tokens
        .extend(ledger.range_tokens(TENANT, OBSERVATION, "date", number));
    draft.tokens.extend(ledger.coarse_range_tokens(
        TENANT,
        OBSERVATION,
        "value",
        40 * number - 700,
    ));
    ledger.commit(commit_of(ledger, vec![draft])).await.unwrap();
}

/// Before, during and after a rotation of the token keys every query finds the same.
// Proves: 45 CFR 164.312(a)(2)(iv)
pub(crate) async fn token_keys_rotate_under_every_query(store: &dyn Store) {
    let mut ledger = ready(store).await;
    let patients: Vec<String> = (0..5).map(|_| ledger.mint_own_id(TENANT)).collect();
    let patient = |number: i64| patients[usize::try_from(number).unwrap() % 5].as_str();
    for number in 0..70 {
        put_number(&ledger, number, patient(number), Expected::Absent).await;
    }
    // Superseded, deleted, and of a patient whose key is gone.
    for number in 0..10 {
        put_number(&ledger, number, patient(number), Expected::Version(1)).await;
    }
    let mut gone = draft(
        &ledger,
        OBSERVATION,
        "document-20",
        of(patient(20)),
        Expected::Version(1),
        "",
        &[],
    );
    gone.deleted = true;
    ledger.commit(commit_of(&ledger, vec![gone])).await.unwrap();
    ledger
        .destroy_patient_key(TENANT, &patients[4], audit(&ledger, Shard(0)))
        .await
        .unwrap();
    ledger.create_tenant(OTHER).await.unwrap();

    let mut before = all_answers(&ledger).await;
    assert!(before.iter().all(|hits| hits.len() > 10), "{before:?}");
    for round in 0..2_u32 {
        // A view from before keeps its answers, whatever is moved meanwhile.
        let view = ledger.view().unwrap();
        let even = code_query(&ledger, "even");
        let old = view.search(TENANT, &even, None, None, 999).await.unwrap();
        let batches = std::sync::atomic::AtomicUsize::new(0);
        let count = |_| {
            let _ = batches.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        };
        let mut rotating = Box::pin(ledger.rotate_token_keys(TENANT, &count));
        let mut looked = 0;
        loop {
            let step = tokio::select! {
                biased;
                done = &mut rotating => Some(done.unwrap()),
                () = tokio::task::yield_now() => None,
            };
            let now = batches.load(std::sync::atomic::Ordering::SeqCst);
            if step.is_none() && now > looked {
                looked = now;
                assert_eq!(all_answers(&ledger).await, before, "after {now} batches");
                // What is written in the middle is found too, and what it supersedes is not.
                let number = 200 + i64::from(round) * 50 + i64::try_from(now).unwrap();
                put_number(&ledger, number, patient(0), Expected::Absent).await;
                let again = i64::try_from(30 + 5 * now).unwrap();
                let id = format!("document-{again}");
                let stored = ledger.get(TENANT, OBSERVATION, &id).await.unwrap().unwrap();
                let expected = Expected::Version(stored.version);
                put_number(&ledger, again, patient(again), expected).await;
                before = all_answers(&ledger).await;
            }
            if let Some(done) = step {
                assert_eq!(done.version, 2 + round);
                break;
            }
        }
        drop(rotating);
        assert_eq!(all_answers(&ledger).await, before);
        assert_eq!(
            view.search(TENANT, &even, None, None, 999).await.unwrap(),
            old
        );
        drop(view);
        assert_eq!(
            ledger
                .continue_token_rotation(TENANT, &|_| {})
                .await
                .unwrap(),
            None
        );
        // Everybody else sees it so too, and the root key rotates with the new key under it.
        ledger
            .rotate_root_key(&RootKey::from_bytes([7; 32]))
            .await
            .unwrap();
        ledger.close().await.unwrap();
        ledger = store.open();
        assert_eq!(all_answers(&ledger).await, before);
        assert_sound(&ledger).await;
    }
    let nobody = ledger
        .rotate_token_keys(ledger::TenantId(77), &|_| {})
        .await;
    assert!(
        matches!(nobody, Err(LedgerError::UnknownTenant(77))),
        "{nobody:?}"
    );
}

/// A rotation that is dropped after so many batches, as when the process goes.
async fn rotate_cut_off(ledger: &Ledger, batches: usize) {
    let told = std::sync::atomic::AtomicUsize::new(0);
    let count = |_| {
        let _ = told.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    let mut rotating = Box::pin(ledger.rotate_token_keys(TENANT, &count));
    while told.load(std::sync::atomic::Ordering::SeqCst) < batches {
        tokio::select! {
            biased;
            _ = &mut rotating => return,
            () = tokio::task::yield_now() => {}
        }
    }
}

/// Backups from before, in the middle and after a rotation of the token keys restore stores in which
/// everything is found, whatever the moment.
// Proves: 45 CFR 164.308(a)(7)(ii)(B)
pub(crate) async fn backups_restore_through_token_rotations(store: &dyn Store) {
    let folder = tempfile::tempdir().unwrap();
    let target = std::sync::Arc::new(ledger::FolderTarget::create(folder.path()).unwrap());
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let mut number = 0;
    let mut moments = Vec::new();
    let mut add = async |ledger: &Ledger, count: i64| {
        for _ in 0..count {
            put_number(ledger, number, &patient, Expected::Absent).await;
            number += 1;
        }
        // What each moment holds is what a search finds there.
        moments.push((ledger.last_number(), all_answers(ledger).await));
    };
    add(&ledger, 40).await;
    let first = ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    add(&ledger, 10).await;
    rotate_cut_off(&ledger, 2).await;
    add(&ledger, 10).await;
    // The chain of before is not gone on with: the first secret would tell what its tokens stand for.
    let second = ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    assert_ne!(first.chain, second.chain);
    assert_eq!(second.backup, 1);
    add(&ledger, 10).await;
    // Superseded before the next backup has taken it.
    put_number(&ledger, 3, &patient, Expected::Version(1)).await;
    add(&ledger, 1).await;
    ledger
        .continue_token_rotation(TENANT, &|_| {})
        .await
        .unwrap();
    add(&ledger, 10).await;
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    add(&ledger, 10).await;
    let third = ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    assert_eq!(
        (third.chain.as_str(), third.backup),
        (second.chain.as_str(), 2)
    );
    rotate_cut_off(&ledger, 3).await;
    add(&ledger, 5).await;
    let last = ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    assert_eq!((last.chain, last.backup), (second.chain, 3));
    ledger.close().await.unwrap();
    // The first whole backup of the second chain is the earliest moment of it.
    for (place, (at, expected)) in moments.iter().enumerate().skip(2) {
        if store.restores_are_slow() && place != 4 {
            continue;
        }
        let wanted = super::Wanted {
            source: target.clone(),
            to: ledger::Moment::Number(*at),
            shred_lists: Vec::new(),
            release_outbox: false,
        };
        let (restored, _) = store.restore(wanted).await.unwrap();
        let ledger = restored.open();
        assert_eq!(all_answers(&ledger).await, *expected, "moment {place}");
        // And it goes on from there.
        ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
        assert_eq!(
            all_answers(&ledger).await,
            *expected,
            "moment {place}, rotated"
        );
        assert_sound(&ledger).await;
        ledger.close().await.unwrap();
    }
}
