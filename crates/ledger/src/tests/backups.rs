//! What a restore leaves behind at every moment of its way.

use std::path::PathBuf;
use std::sync::Arc;

use super::options;
use super::rotation::Faulty;
use super::suite::backup::Files;
use super::suite::{PATIENT, TENANT, commit_of, draft, of};
use crate::backup::restore_on;
use crate::memory_backend::MemoryBackend;
use crate::{
    BackupTarget, Expected, Ledger, LedgerError, ManualClock, Moment, RestoreOptions, RootKey,
};

fn open(rows: MemoryBackend) -> Result<Ledger, LedgerError> {
    let clock = ManualClock::new(1_700_000_000_000);
    Ledger::open_on(
        Arc::new(rows),
        &options(RootKey::from_bytes([7; 32]), &clock),
    )
}

// Proves: 45 CFR 164.308(a)(7)(ii)(B)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_does_not_open_before_its_restore_has_checked_everything() {
    let files: Arc<dyn BackupTarget> = Arc::new(Files::default());
    let ledger = open(MemoryBackend::default()).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    let draft = draft(&ledger, PATIENT, "p", of("p"), Expected::Absent, "x", &[]);
    ledger
        .commit(commit_of(&ledger, vec![draft]))
        .await
        .unwrap();
    ledger
        .backup(Arc::clone(&files), false, |_| {})
        .await
        .unwrap();
    ledger.close().await.unwrap();
    for moment in 0.. {
        let rows = MemoryBackend::default();
        let backend = Faulty::over(rows.clone());
        // As it would be found if the power failed at this moment.
        let theirs = rows.clone();
        let look = move || {
            let found = MemoryBackend::default();
            found.edit(|to| *to = Arc::unwrap_or_clone(theirs.rows()));
            if found.rows().meta.is_empty() {
                // Not begun.
                return;
            }
            let outcome = open(found);
            assert!(
                matches!(&outcome, Err(LedgerError::Storage(why)) if why.contains("not finished")),
                "before view {moment}: {:?}",
                outcome.err()
            );
        };
        *backend.meanwhile.lock().unwrap() = Some((moment, Box::new(look)));
        let clock = ManualClock::new(1_700_000_000_000);
        let mut open_with = options(RootKey::from_bytes([7; 32]), &clock);
        open_with.location = crate::Location::Folder(PathBuf::new());
        let wanted = RestoreOptions {
            source: Arc::clone(&files),
            open: open_with,
            to: Moment::Newest,
            chain: None,
            shred_lists: Vec::new(),
            release_outbox: true,
        };
        restore_on(backend.clone(), wanted, |_| {}).await.unwrap();
        let was_looked_at = backend.meanwhile.lock().unwrap().is_none();
        let restored = open(rows).unwrap();
        assert!(restored.get(TENANT, PATIENT, "p").await.unwrap().is_some());
        if !was_looked_at {
            assert!(moment > 5, "{moment}");
            return;
        }
    }
}
