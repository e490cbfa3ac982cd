//! Keys that rotate while everything stays readable.

use ledger::{
    Commit, DisclosedPart, Expected, Hit, Ledger, LedgerError, OutboxDraft, OutboxKey, Owner,
    RootKey, Shard,
};

use super::{
    OBSERVATION, OTHER, PATIENT, Store, TENANT, assert_sound, audit, code, commit_of, draft, found,
    of, put, ready, text,
};

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
