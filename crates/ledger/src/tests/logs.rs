//! When checkpoints are signed, and stores that are not what they were when one was.

use std::time::Duration;

use super::Memory;
use super::suite::logs::{Cosigner, grow};
use super::suite::ready;
use crate::backend::Backend;
use crate::writer::CHECKPOINT;
use crate::{Ledger, LedgerError, LogTile, Witnesses};

/// Leaves under the checkpoint that is stored.
fn covered(store: &Memory, ledger: &Ledger) -> u64 {
    let note = store.backend.snapshot().meta(CHECKPOINT).unwrap().unwrap();
    let note = String::from_utf8(note).unwrap();
    ledger.core().signer.verify(&note).unwrap().leaves()
}

#[tokio::test]
async fn a_checkpoint_is_signed_without_being_asked_for() {
    let store = Memory::new();
    let ledger = ready(&store).await;
    for leaves in 1..=2 {
        grow(&ledger, 1).await;
        let patience = async {
            while covered(&store, &ledger) < leaves {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), patience)
            .await
            .expect("a checkpoint over the leaf");
    }
}

#[tokio::test]
async fn a_checkpoint_is_signed_at_each_stop() {
    let store = Memory::new();
    for leaves in 1..=3 {
        let ledger = ready(&store).await;
        grow(&ledger, 1).await;
        ledger.close().await.unwrap();
        assert_eq!(covered(&store, &ledger), leaves);
    }
}

// Proves: 45 CFR 164.312(c)(2), 164.308(a)(6)(ii)
#[tokio::test]
async fn an_older_copy_and_what_it_went_on_to_are_told() {
    let store = Memory::new();
    let ledger = ready(&store).await;
    grow(&ledger, 5).await;
    ledger.close().await.unwrap();
    let older = store.backend.rows();
    let ledger = ready(&store).await;
    let shard = grow(&ledger, 5).await;
    let kept = ledger.checkpoint().await.unwrap();
    let kept_log = ledger.log_checkpoint(shard).await.unwrap();
    ledger.close().await.unwrap();

    store.backend.edit(|rows| *rows = (*older).clone());
    let ledger = ready(&store).await;
    // Everything in it is sound, and it goes on as if nothing had been.
    for (leaves, words) in [
        (
            5,
            "had 10 leaves when the older checkpoint was signed and has 5 now: the last 5",
        ),
        (
            10,
            "has 10 leaves, but its first 10 are not those that were signed",
        ),
        (
            12,
            "has 12 leaves, but its first 10 are not those that were signed",
        ),
    ] {
        let more = leaves - u32::try_from(covered(&store, &ledger)).unwrap();
        grow(&ledger, more).await;
        ledger.checkpoint().await.unwrap();
        let report = ledger.verify_audit(&|_| {}).await.unwrap();
        assert!(
            report.broken.is_none() && report.checkpoint_ok,
            "{report:?}"
        );
        for checkpoint in [&kept, &kept_log] {
            let broken = ledger
                .verify_against(checkpoint)
                .await
                .unwrap()
                .broken
                .unwrap();
            assert_eq!(broken.shard, shard.0);
            assert!(broken.reason.contains(words), "{}", broken.reason);
        }
    }
}

// Proves: 45 CFR 164.312(c)(2)
#[tokio::test]
async fn what_the_store_has_lost_is_a_fault_and_not_an_absence() {
    let store = Memory::new();
    let ledger = ready(&store).await;
    let shard = grow(&ledger, 3).await;
    ledger.checkpoint().await.unwrap();
    let entries = LogTile::parse("entries/000.p/3").unwrap();
    assert!(ledger.log_tile(shard, entries).await.unwrap().is_some());
    store.backend.edit(|rows| {
        rows.leaves.remove(&(shard, 1));
    });
    let outcome = ledger.log_tile(shard, entries).await;
    assert!(
        matches!(outcome, Err(LedgerError::Damaged(_))),
        "{outcome:?}"
    );
    store.backend.edit(|rows| {
        let checkpoint = rows.meta.get_mut(CHECKPOINT).unwrap();
        checkpoint[30] ^= 1;
    });
    for outcome in [
        ledger.log_checkpoint(shard).await.err(),
        ledger.newest_checkpoint().await.err(),
        ledger.log_tile(shard, entries).await.err(),
        ledger.verify_against("").await.err(),
    ] {
        assert!(
            matches!(outcome, Some(LedgerError::Damaged(_))),
            "{outcome:?}"
        );
    }
}

// Proves: 45 CFR 164.312(c)(2)
#[tokio::test]
async fn what_no_witness_has_said_does_not_count_though_it_is_stored() {
    let store = Memory::new();
    let ledger = ready(&store).await;
    let witness = Cosigner::new("w.example", 1);
    let witnesses = Witnesses::parse(&witness.key(), 1).unwrap();
    ledger.trust_witnesses(witnesses).unwrap();
    let shard = grow(&ledger, 2).await;
    ledger.checkpoint().await.unwrap();
    let first = ledger.log_checkpoint(shard).await.unwrap();
    grow(&ledger, 2).await;
    ledger.checkpoint().await.unwrap();
    ledger
        .add_cosignatures(&witness.cosign(&first, 100))
        .await
        .unwrap();
    let good = ledger.witnessed_checkpoint(shard).await.unwrap().unwrap();
    let row = store.backend.rows().meta.clone();
    let (name, value) = row
        .iter()
        .find(|(name, _)| name.starts_with("cosigned/"))
        .unwrap();
    let line = String::from_utf8(value.clone()).unwrap();
    let (_, signature) = line.split_once(' ').unwrap();
    // At other sizes, with another letter, as another's, and in no form at all.
    for forged in [
        format!("3 {signature}"),
        format!("4 {signature}"),
        format!("9 {signature}"),
        format!("2 {}", signature.replace("AAAA", "AAAB")),
        format!("2 {}", signature.replace("w.example", "v.example")),
        "2".to_owned(),
        String::new(),
    ] {
        store.backend.edit(|rows| {
            rows.meta.insert(name.clone(), forged.clone().into_bytes());
        });
        let witnessed = ledger.witnessed_checkpoint(shard).await.unwrap();
        assert_eq!(witnessed, None, "{forged}");
    }
    // Beside a forged one, a good one still counts.
    let both = format!("4 {signature}{line}");
    store.backend.edit(|rows| {
        rows.meta.insert(name.clone(), both.into_bytes());
    });
    let witnessed = ledger.witnessed_checkpoint(shard).await.unwrap();
    assert_eq!(witnessed, Some(good));
}
