//! No two things are sealed under one key with one nonce, not even where randomness always gives the
//! same: each has a key of its own.

use std::collections::HashSet;
use std::sync::Arc;

use super::options;
use super::suite::{AUDIT, OBSERVATION, PATIENT, TENANT, of};
use crate::memory_backend::MemoryBackend;
use crate::rows::Header;
use crate::{
    AuditDraft, Commit, Draft, Entropy, Expected, Kind, Ledger, ManualClock, OutboxDraft,
    OutboxKey, Owner, RootKey, Shard,
};

struct Same;

impl Entropy for Same {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0x37);
    }
}

const BODY: &[u8] = b"the same body everywhere, long enough to be compared";

fn draft(kind: Kind, id: &str, owner: Owner, expected: Expected) -> Draft {
    Draft {
        kind,
        id: id.to_owned(),
        owner,
        expected,
        body: BODY.to_vec(),
        deleted: false,
        tokens: Vec::new(),
    }
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test]
async fn nothing_shares_key_and_nonce_even_without_randomness() {
    let backend = MemoryBackend::default();
    let clock = ManualClock::new(1_700_000_000_000);
    let mut options = options(RootKey::from_bytes([7; 32]), &clock);
    options.entropy = Arc::new(Same);
    let ledger = Ledger::open_on(Arc::new(backend.clone()), &options).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    for round in 0..6u8 {
        let expected = match u32::from(round) {
            0 => Expected::Absent,
            version => Expected::Version(version),
        };
        let commit = Commit {
            documents: vec![
                draft(PATIENT, "p", of("p"), expected),
                draft(PATIENT, "q", of("q"), expected),
                draft(OBSERVATION, "p", of("p"), expected),
                draft(OBSERVATION, "t", Owner::Tenant, expected),
            ],
            audit: Some(AuditDraft {
                kind: AUDIT,
                id: format!("a{round}"),
                shard: Shard(0),
                body: BODY.to_vec(),
                parts: Vec::new(),
                tokens: Vec::new(),
            }),
            outbox_add: [Owner::Tenant, of("p")]
                .into_iter()
                .zip(0u8..)
                .map(|(owner, number)| OutboxDraft {
                    key: OutboxKey {
                        shard: Shard(0),
                        due_ms: 1,
                        id: [2 * round + number; 16],
                    },
                    owner,
                    channel: 1,
                    attempt: 0,
                    body: BODY.to_vec(),
                })
                .collect(),
            ..Commit::new(TENANT)
        };
        ledger.commit(commit).await.unwrap();
        match round {
            1 | 3 => drop(ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap()),
            2 | 4 => assert!(ledger.rotate_patient_key(TENANT, "p").await.unwrap()),
            _ => {}
        }
    }
    let rows = backend.rows();
    let mut sealed: Vec<&[u8]> = Vec::new();
    for row in rows.documents.values() {
        sealed.push(&row[Header::decode(row).unwrap().1..]);
    }
    assert_eq!(sealed.len(), 6 * 5);
    // Ids of one length, so that equal plain texts would be equal bytes but for the key.
    let streams: HashSet<&[u8]> = sealed.iter().map(|sealed| &sealed[12..]).collect();
    assert_eq!(streams.len(), sealed.len());
    assert!(sealed.iter().all(|sealed| sealed[..12] == [0x37; 12]));
    // The last bytes before the tag are of the body, which is the same in all.
    let ends: HashSet<&[u8]> = sealed
        .iter()
        .map(|sealed| &sealed[sealed.len() - 32..sealed.len() - 16])
        .collect();
    assert_eq!(ends.len(), sealed.len());
    let entries: HashSet<&[u8]> = (rows.outbox.values())
        .map(|row| &row.sealed[row.sealed.len() - 32..row.sealed.len() - 16])
        .collect();
    assert_eq!(entries.len(), 12);
}
