//! What stays: reopening, the audit, keys, closing.

use std::collections::BTreeSet;

use ledger::{
    Commit, CursorMove, Expected, InclusionProof, LedgerError, Number, OutboxDraft, OutboxKey,
    Query, RootKey,
};

use super::{
    AUDIT, OBSERVATION, PATIENT, Store, TENANT, assert_sound, audit, code, commit_of, draft, found,
    of, put, ready, text, timer,
};

// Proves: 45 CFR 164.312(c)(1)
pub(crate) async fn everything_is_there_after_reopening(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
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
    let mut commit = commit_of(
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
                OBSERVATION,
                "o",
                of(&patient),
                Expected::Absent,
                "observed",
                &["a"],
            ),
        ],
    );
    commit.timers_set.push(timer(shard.0, 5, 1, 1));
    commit.outbox_add.push(OutboxDraft {
        key: OutboxKey {
            shard,
            due_ms: 6,
            id: [6; 16],
        },
        owner: of(&patient),
        channel: 4,
        attempt: 1,
        body: b"message".to_vec(),
    });
    commit.cursor = Some(CursorMove {
        consumer: "a".into(),
        shard,
        from: Number(0),
        to: Number(3),
    });
    let receipt = ledger.commit(commit).await.unwrap();
    let (token, last, head) = (
        code(&ledger, "a"),
        ledger.last_number(),
        ledger.shard_head(shard),
    );
    let events = ledger.events(shard, Number(0), 9).await.unwrap();
    let derived = ledger.derive_id(TENANT, &of(&patient), "name");
    ledger.close().await.unwrap();
    drop(ledger);

    let ledger = store.open();
    assert_eq!(
        (ledger.last_number(), ledger.shard_head(shard)),
        (last, head)
    );
    assert_eq!(code(&ledger, "a"), token);
    assert_eq!(ledger.derive_id(TENANT, &of(&patient), "name"), derived);
    assert_eq!(
        text(
            &ledger
                .get(TENANT, PATIENT, &patient)
                .await
                .unwrap()
                .unwrap()
        ),
        "two"
    );
    assert_eq!(
        text(
            &ledger
                .version(TENANT, PATIENT, &patient, 1)
                .await
                .unwrap()
                .unwrap()
        ),
        "one"
    );
    assert_eq!(found(&ledger, &token).await, [receipt.documents[1].at]);
    assert_eq!(ledger.events(shard, Number(0), 9).await.unwrap(), events);
    assert_eq!(ledger.timers_due(1, 5, 9).await.unwrap().len(), 1);
    assert_eq!(
        ledger.outbox_due(4, 6, 9).await.unwrap()[0].body,
        b"message"
    );
    assert_eq!(ledger.cursor("a", shard).await.unwrap(), Number(3));
    assert_sound(&ledger).await;
    // It goes on where it was: numbers, trees, keys.
    store.clock().set(0);
    let third = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(2),
        "three",
        &[],
    )
    .await;
    assert!(third.number > last);
    let (leaf_shard, index) = receipt.leaf.unwrap();
    let records = found(&ledger, &Query::Token(ledger.kind_token(TENANT, AUDIT))).await;
    let proof = super::proof(&ledger, TENANT, records[0]).await.unwrap();
    assert_eq!((proof.shard, proof.leaf_index), (leaf_shard.0, index + 1));
    assert_sound(&ledger).await;
}

// Proves: 45 CFR 164.312(b), 164.312(c)(2)
pub(crate) async fn audits_verify_and_prove(store: &dyn Store) {
    let ledger = ready(store).await;
    let empty = ledger.verify_audit(&|_| {}).await.unwrap();
    assert_eq!(
        (
            empty.trees,
            empty.leaves,
            empty.documents,
            empty.checkpoint_ok
        ),
        (0, 0, 0, true)
    );
    let mut records = Vec::new();
    for number in 0..20 {
        // A commit over two patients puts a leaf into both trees.
        let drafts = (0..2)
            .map(|which| {
                let patient =
                    ledger.derive_own_id(TENANT, &format!("patient {}", (number * 3 + which) % 5));
                draft(
                    &ledger,
                    OBSERVATION,
                    &format!("o{number}.{which}"),
                    of(&patient),
                    Expected::Absent,
                    "x",
                    &[],
                )
            })
            .collect();
        records.push(ledger.commit(commit_of(&ledger, drafts)).await.unwrap());
    }
    let checkpoint = ledger.checkpoint().await.unwrap();
    let counted = std::sync::atomic::AtomicU64::new(0);
    let report = ledger
        .verify_audit(&|leaves| counted.store(leaves, std::sync::atomic::Ordering::Relaxed))
        .await
        .unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
    // Two patients may share a shard.
    let mut leaves = 0;
    let mut trees = BTreeSet::new();
    for receipt in &records {
        let shards: BTreeSet<_> = receipt
            .documents
            .iter()
            .map(|written| written.at.shard)
            .collect();
        leaves += shards.len() as u64;
        trees.extend(shards);
    }
    let expected = (trees.len() as u64, leaves, 60);
    assert_eq!((report.trees, report.leaves, report.documents), expected);
    assert_eq!(report.checkpoint, checkpoint);
    assert_eq!(counted.into_inner(), leaves);
    for receipt in &records {
        let audit = receipt.audit.unwrap();
        let proof = super::proof(&ledger, TENANT, audit).await.unwrap();
        assert_eq!(receipt.leaf, Some((audit.shard, proof.leaf_index)));
        assert_eq!(proof.checkpoint, checkpoint);
        check_proof(&proof);
        // The document itself is no audit record.
        assert!(
            super::proof(&ledger, TENANT, receipt.documents[0].at)
                .await
                .is_none()
        );
    }
    // A leaf that is newer than the checkpoint gets a newer checkpoint.
    let patient = ledger.derive_own_id(TENANT, "patient 0");
    let newer = draft(
        &ledger,
        OBSERVATION,
        "newer",
        of(&patient),
        Expected::Absent,
        "x",
        &[],
    );
    let receipt = ledger
        .commit(commit_of(&ledger, vec![newer]))
        .await
        .unwrap();
    let proof = super::proof(&ledger, TENANT, receipt.audit.unwrap())
        .await
        .unwrap();
    assert_ne!(proof.checkpoint, checkpoint);
    check_proof(&proof);
}

/// Checks a proof with nothing of the ledger's: the libraries for notes and trees only.
fn check_proof(proof: &InclusionProof) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use tlog_tiles::Hash;
    let verifier = signed_note::StandardVerifier::new(&proof.verifier_key).unwrap();
    let note = signed_note::Note::from_bytes(proof.checkpoint.as_bytes()).unwrap();
    note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)]))
        .unwrap();
    let lines = std::str::from_utf8(note.text()).unwrap();
    let line = format!(
        "{:02x} {} {}",
        proof.shard, proof.tree_size, proof.root_hash
    );
    assert!(
        lines.lines().any(|signed| signed == line),
        "{line} in {lines}"
    );
    let path = proof
        .path
        .iter()
        .map(|hash| Hash::parse_hash(hash).unwrap())
        .collect();
    let record = STANDARD.decode(&proof.leaf_record).unwrap();
    let leaf = tlog_tiles::record_hash(&record);
    assert_eq!(leaf, Hash::parse_hash(&proof.leaf_hash).unwrap());
    let root = Hash::parse_hash(&proof.root_hash).unwrap();
    tlog_tiles::check_record(&path, proof.tree_size, root, proof.leaf_index, leaf).unwrap();
    let other = tlog_tiles::record_hash(b"another");
    assert!(
        tlog_tiles::check_record(&path, proof.tree_size, root, proof.leaf_index, other).is_err()
    );
}

// Proves: 45 CFR 164.310(d)(2)(i)
pub(crate) async fn a_destroyed_key_stays_destroyed(store: &dyn Store) {
    let ledger = ready(store).await;
    let (patient, other) = (ledger.mint_own_id(TENANT), ledger.mint_own_id(TENANT));
    let at = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &["a"],
    )
    .await;
    put(
        &ledger,
        PATIENT,
        &other,
        &other,
        Expected::Absent,
        "another",
        &[],
    )
    .await;
    let key = OutboxKey {
        shard: at.shard,
        due_ms: 6,
        id: [6; 16],
    };
    let entry = OutboxDraft {
        key,
        owner: of(&patient),
        channel: 4,
        attempt: 1,
        body: b"message".to_vec(),
    };
    ledger
        .commit(Commit {
            outbox_add: vec![entry.clone()],
            ..Commit::new(TENANT)
        })
        .await
        .unwrap();
    assert_eq!(ledger.outbox_due(4, 9, 9).await.unwrap().len(), 1);
    ledger
        .destroy_patient_key(TENANT, &patient, audit(&ledger, at.shard))
        .await
        .unwrap();
    assert!(matches!(
        ledger.get(TENANT, PATIENT, &patient).await,
        Err(LedgerError::KeyDestroyed)
    ));
    assert!(matches!(
        ledger.version(TENANT, PATIENT, &patient, 1).await,
        Err(LedgerError::KeyDestroyed)
    ));
    assert!(matches!(
        ledger.fetch(TENANT, at).await,
        Err(LedgerError::KeyDestroyed)
    ));
    let again = draft(
        &ledger,
        OBSERVATION,
        "o",
        of(&patient),
        Expected::Absent,
        "x",
        &[],
    );
    assert!(matches!(
        ledger.commit(commit_of(&ledger, vec![again])).await,
        Err(LedgerError::KeyDestroyed)
    ));
    let again = Commit {
        outbox_add: vec![entry.clone()],
        ..Commit::new(TENANT)
    };
    assert!(matches!(
        ledger.commit(again).await,
        Err(LedgerError::KeyDestroyed)
    ));
    // What was to be sent is gone, and gone from the queue.
    assert!(ledger.outbox_due(4, 9, 9).await.unwrap().is_empty());
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
    assert_eq!(
        text(&ledger.get(TENANT, PATIENT, &other).await.unwrap().unwrap()),
        "another"
    );
    // That something was there, and who destroyed it, stays provable.
    assert_eq!(
        found(&ledger, &Query::Token(ledger.kind_token(TENANT, AUDIT)))
            .await
            .len(),
        3
    );
    assert_sound(&ledger).await;
    ledger.close().await.unwrap();
    let ledger = store.open();
    assert!(matches!(
        ledger.get(TENANT, PATIENT, &patient).await,
        Err(LedgerError::KeyDestroyed)
    ));
    assert_eq!(
        text(&ledger.get(TENANT, PATIENT, &other).await.unwrap().unwrap()),
        "another"
    );
    assert_sound(&ledger).await;
}

// Proves: 45 CFR 164.312(a)(2)(iv)
pub(crate) async fn a_wrong_root_key_is_refused(store: &dyn Store) {
    let ledger = ready(store).await;
    ledger.close().await.unwrap();
    let outcome = store.open_with(RootKey::from_bytes([8; 32]));
    assert!(
        matches!(outcome, Err(LedgerError::RootKey(_))),
        "{:?}",
        outcome.err()
    );
    store.open().close().await.unwrap();
}

pub(crate) async fn a_closed_ledger_says_so(store: &dyn Store) {
    let ledger = ready(store).await;
    let clone = ledger.clone();
    let patient = ledger.mint_own_id(TENANT);
    // What was taken before the end is finished.
    let before = draft(
        &ledger,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Absent,
        "x",
        &[],
    );
    let commit = commit_of(&ledger, vec![before]);
    let (committed, closed) = tokio::join!(ledger.commit(commit), clone.close());
    closed.unwrap();
    let written = match committed {
        Ok(_) => true,
        Err(LedgerError::Closed) => false,
        Err(error) => panic!("{error}"),
    };
    ledger.close().await.unwrap();
    assert!(matches!(
        ledger.get(TENANT, PATIENT, &patient).await,
        Err(LedgerError::Closed)
    ));
    assert!(matches!(
        ledger.commit(Commit::new(TENANT)).await,
        Err(LedgerError::Closed)
    ));
    assert!(matches!(
        ledger.verify_audit(&|_| {}).await,
        Err(LedgerError::Closed)
    ));
    // Clones that are still about don't keep the store.
    let again = store.open();
    assert_eq!(
        again
            .get(TENANT, PATIENT, &patient)
            .await
            .unwrap()
            .is_some(),
        written
    );
    assert_sound(&again).await;
}

/// SHA-256 as anybody has it, over pieces.
fn sha256(pieces: &[&[u8]]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pieces.concat());
    digest.as_ref().to_vec()
}

#[allow(
    clippy::single_range_in_vec_init,
    clippy::reversed_empty_ranges,
    reason = "one part of a text is meant, not its numbers; and a wrong one to be refused"
)]
pub(crate) async fn proofs_show_words_in_parts(store: &dyn Store) {
    use base64::Engine as _;
    use ledger::DisclosedPart;
    let plain = |text: &str| {
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let ledger = ready(store).await;
    let body = r#"{"who":"c","of":[{"p":1},{"p":2}],"end":true}"#;
    let parts = [17..24, 25..32];
    let mut commit = commit_of(&ledger, Vec::new());
    let audit = commit.audit.as_mut().unwrap();
    (audit.body, audit.parts) = (body.as_bytes().to_vec(), parts.to_vec());
    let at = ledger.commit(commit).await.unwrap().audit.unwrap();
    let leaf = ledger.audit_leaf(TENANT, at).await.unwrap().unwrap();
    let disclose = async |shown: fn(&str) -> bool| {
        let disclosed = ledger.disclose(&leaf, |_| parts.to_vec(), shown).await;
        disclosed.unwrap().unwrap()
    };
    let record = plain(&ledger.prove(&leaf).await.unwrap().leaf_record);
    let holds = |disclosed: &[DisclosedPart]| {
        let hashes = disclosed.iter().map(|part| match part {
            DisclosedPart::Shown { text, salt } => sha256(&[&plain(salt), text.as_bytes()]),
            DisclosedPart::Withheld { hash } => plain(hash),
        });
        record.ends_with(&sha256(&[&hashes.collect::<Vec<_>>().concat()]))
    };
    let all = disclose(|_| true).await;
    let texts: Vec<_> = all
        .iter()
        .map(|part| match part {
            DisclosedPart::Shown { text, .. } => text.as_str(),
            DisclosedPart::Withheld { .. } => panic!("nothing is withheld"),
        })
        .collect();
    let rest = r#"{"who":"c","of":[null,null],"end":true}"#;
    assert_eq!(texts, [rest, r#"{"p":1}"#, r#"{"p":2}"#]);
    assert!(holds(&all));
    let one = disclose(|text| text == r#"{"p":2}"#).await;
    assert!(holds(&one));
    assert!(matches!(one[1], DisclosedPart::Withheld { .. }));
    assert_eq!((&one[0], &one[2]), (&all[0], &all[2]));
    // Other words, and parts in another order, do not hold.
    let mut bent = all.clone();
    bent.swap(1, 2);
    assert!(!holds(&bent));
    let outcome = ledger.disclose(&leaf, |_| vec![17..24], |_| true).await;
    assert!(
        matches!(outcome, Err(LedgerError::Damaged(_))),
        "{outcome:?}"
    );
    let outcome = ledger
        .disclose(&leaf, |_| vec![25..32, 17..24], |_| true)
        .await;
    assert!(
        matches!(outcome, Err(LedgerError::Invalid(_))),
        "{outcome:?}"
    );
    for wrong in [
        vec![5..4],
        vec![0..body.len() + 1],
        vec![3..3],
        vec![4..9, 8..10],
    ] {
        let mut commit = commit_of(&ledger, Vec::new());
        let audit = commit.audit.as_mut().unwrap();
        (audit.body, audit.parts) = (body.as_bytes().to_vec(), wrong);
        let outcome = ledger.commit(commit).await;
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{outcome:?}"
        );
    }
}
