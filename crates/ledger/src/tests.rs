//! Tests that look behind the interface: a second backend, rows changed behind the ledger's back,
//! and stores that fail or wait on demand.

mod backups;
mod doctor;
mod ends;
mod group;
mod logs;
mod nonces;
mod rotated_on_disk;
mod rotation;
mod simulation;
#[path = "../tests/suite/mod.rs"]
mod suite;
mod tampering;
mod token_rotation;
mod tokens;
mod wycheproof;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use suite::{PATIENT, Restored, Store, TENANT, Wanted, audit, commit_of, draft, of};

use crate::backend::{Backend, KeyRow};
use crate::backup::restore_on;
use crate::embedded::FjallBackend;
use crate::memory_backend::MemoryBackend;
use crate::{
    Expected, Ledger, LedgerError, ManualClock, OpenOptions, RootKey, Shard, SystemEntropy,
};

struct Memory {
    backend: MemoryBackend,
    clock: ManualClock,
}

impl Memory {
    fn new() -> Self {
        Self {
            backend: MemoryBackend::default(),
            clock: ManualClock::new(1_700_000_000_000),
        }
    }
}

fn options(root_key: RootKey, clock: &ManualClock) -> OpenOptions {
    OpenOptions {
        location: crate::Location::Folder(PathBuf::new()),
        root_key,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    }
}

impl Store for Memory {
    fn open_with(&self, root_key: RootKey) -> Result<Ledger, LedgerError> {
        Ledger::open_on(
            Arc::new(self.backend.clone()),
            &options(root_key, &self.clock),
        )
    }
    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn restore(&self, wanted: Wanted) -> Restored<'_> {
        Box::pin(async {
            let mut into = Self::new();
            into.clock = self.clock.clone();
            let options = options(RootKey::from_bytes([7; 32]), &into.clock);
            let backend = Arc::new(into.backend.clone());
            let report = restore_on(backend, wanted.options(options), |_| {}).await?;
            Ok((Box::new(into) as Box<dyn Store>, report))
        })
    }
}

mod memory {
    use super::{Memory, suite};
    crate::conformance!(Memory::new(), 32);
    crate::backups!(Memory::new());
}

/// Whether some file of a folder holds bytes, and which.
fn file_with(folder: &Path, needle: &[u8]) -> Option<PathBuf> {
    std::fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return file_with(&path, needle);
        }
        // Files come and go under a running store.
        let holds = std::fs::read(&path).is_ok_and(|bytes| suite::has(&bytes, needle));
        holds.then_some(path)
    })
}

async fn on_disk(folder: &Path) -> (Arc<FjallBackend>, Ledger) {
    let backend = Arc::new(FjallBackend::open(folder, 1 << 20).unwrap());
    let clock = ManualClock::new(1_700_000_000_000);
    let options = options(RootKey::from_bytes([7; 32]), &clock);
    let ledger = Ledger::open_on(backend.clone(), &options).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    (backend, ledger)
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    for patient in ["p", "q"] {
        let draft = draft(
            &ledger,
            PATIENT,
            patient,
            of(patient),
            Expected::Absent,
            "x",
            &[],
        );
        ledger
            .commit(commit_of(&ledger, vec![draft]))
            .await
            .unwrap();
    }
    let keys = ledger.core().tenant(TENANT).unwrap();
    let wrapped = |patient: &str| match backend.snapshot().key(&keys.subject_key(patient)).unwrap()
    {
        Some(KeyRow::Wrapped(wrapped)) => wrapped,
        other => panic!("{other:?}"),
    };
    let (of_p, of_q) = (wrapped("p"), wrapped("q"));
    let found = |needle| file_with(folder.path(), needle).is_some();
    assert!(found(&of_p) && found(&of_q));
    ledger
        .destroy_patient_key(TENANT, "p", audit(&ledger, Shard(0)))
        .await
        .unwrap();
    assert!(!found(&of_p));
    assert!(found(&of_q));
    assert!(ledger.get(TENANT, PATIENT, "q").await.unwrap().is_some());
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_tenants_secrets_are_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    let secrets = backend.snapshot().metas("tenant/").unwrap();
    assert_eq!(secrets.len(), 2);
    let found = |needle: &[u8]| file_with(folder.path(), needle).is_some();
    assert!(secrets.iter().all(|(_, secret)| found(secret)));
    ledger.suspend_tenant(TENANT, true).await.unwrap();
    let early = ledger.destroy_tenant(TENANT).await;
    assert!(matches!(early, Err(LedgerError::Invalid(_))), "{early:?}");
    ledger.close().await.unwrap();
    drop((ledger, backend));
    let backend = Arc::new(FjallBackend::open(folder.path(), 1 << 20).unwrap());
    let clock = ManualClock::new(1_700_000_100_000);
    let options = options(RootKey::from_bytes([7; 32]), &clock);
    let ledger = Ledger::open_on(backend, &options).unwrap();
    let end = ledger.destroy_tenant(TENANT).await.unwrap();
    assert_eq!(end.secrets, 2);
    assert!(!secrets.iter().any(|(_, secret)| found(secret)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_destroyed_before_a_crash_is_scrubbed_on_opening() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    let draft = draft(&ledger, PATIENT, "p", of("p"), Expected::Absent, "x", &[]);
    ledger
        .commit(commit_of(&ledger, vec![draft]))
        .await
        .unwrap();
    let subject = ledger.core().tenant(TENANT).unwrap().subject_key("p");
    let Some(KeyRow::Wrapped(wrapped)) = backend.snapshot().key(&subject).unwrap() else {
        panic!("the patient has a key");
    };
    // What the destroying commit writes, and then nothing more.
    let commit = crate::Commit {
        audit: Some(audit(&ledger, Shard(0))),
        ..crate::Commit::new(TENANT)
    };
    let mut sealed = crate::prepare::seal_commit(ledger.core(), &*backend, commit)
        .await
        .unwrap();
    sealed.destroy = Some(subject);
    ledger.write(sealed, 1).await.unwrap();
    ledger.close().await.unwrap();
    drop(backend);
    assert!(file_with(folder.path(), &wrapped).is_some());
    let (_backend, _ledger) = on_disk(folder.path()).await;
    assert_eq!(file_with(folder.path(), &wrapped), None);
}

// Proves: 45 CFR 164.312(c)(2)
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_the_disk_has_changed_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    let mut receipts = Vec::new();
    for number in 0..20 {
        let id = format!("p{number}");
        // What does not compress takes a block of its own on disk.
        let body: String = (0..400).map(|_| ledger.mint_own_id(TENANT)).collect();
        let draft = draft(&ledger, PATIENT, &id, of(&id), Expected::Absent, &body, &[]);
        receipts.push(
            ledger
                .commit(commit_of(&ledger, vec![draft]))
                .await
                .unwrap(),
        );
    }
    let receipt = receipts[7].clone();
    let at = receipt.documents[0].at;
    let row = backend.snapshot().document(at).unwrap().unwrap();
    // Scrubbing writes everything out into tables.
    backend.scrub_keys().unwrap();
    ledger.close().await.unwrap();
    drop(backend);
    let path = file_with(folder.path(), &row).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let position = bytes
        .windows(row.len())
        .position(|window| window == row)
        .unwrap();
    bytes[position + row.len() - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let (_, ledger) = on_disk(folder.path()).await;
    let outcome = ledger.get(TENANT, PATIENT, "p7").await;
    assert!(
        matches!(outcome, Err(LedgerError::Damaged(_))),
        "{outcome:?}"
    );
    let broken = ledger.verify_audit(&|_| {}).await.unwrap().broken.unwrap();
    let (_, leaf) = receipt.leaf.unwrap();
    assert!(broken.reason.contains("cannot be read"), "{broken:?}");
    // The store's checksum refuses the whole block, so a small neighbour's leaf may come first.
    assert!(
        (broken.shard, broken.leaf) <= (at.shard.0, leaf),
        "{broken:?}"
    );
}

// Proves: 45 CFR 164.312(c)(1), 164.308(a)(7)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    let write = async |id: &str| {
        let draft = draft(&ledger, PATIENT, id, of(id), Expected::Absent, "x", &["t"]);
        ledger.commit(commit_of(&ledger, vec![draft])).await
    };
    write("before").await.unwrap();
    // Room for records of reading and for nothing else.
    backend.reserve_disk(backend.free_disk() - (128 << 20));
    for id in ["during", "still"] {
        let outcome = write(id).await;
        assert!(
            matches!(&outcome, Err(LedgerError::Storage(text)) if text.contains("disk is almost full") && text.contains("Reading goes on")),
            "{outcome:?}"
        );
        assert!(ledger.get(TENANT, PATIENT, id).await.unwrap().is_none());
        let read = crate::Commit {
            audit: Some(audit(&ledger, Shard(0))),
            ..crate::Commit::new(TENANT)
        };
        assert!(ledger.commit(read).await.unwrap().leaf.is_some());
    }
    assert!(
        ledger
            .get(TENANT, PATIENT, "before")
            .await
            .unwrap()
            .is_some()
    );
    // Not even for those.
    backend.reserve_disk(u64::MAX);
    let read = crate::Commit {
        audit: Some(audit(&ledger, Shard(0))),
        ..crate::Commit::new(TENANT)
    };
    let outcome = ledger.commit(read).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Storage(text)) if text.contains("refused too")),
        "{outcome:?}"
    );
    // Room again, and no restart.
    backend.reserve_disk(0);
    write("during").await.unwrap();
    let token = ledger.token(TENANT, PATIENT, "code", "t");
    let found = ledger
        .search(TENANT, &crate::Query::Token(token), None, None, 10)
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_is_in_no_backup_and_no_restored_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, backups) = (folder.path().join("store"), folder.path().join("backups"));
    let (backend, ledger) = on_disk(&store).await;
    for patient in ["p", "q"] {
        let draft = draft(
            &ledger,
            PATIENT,
            patient,
            of(patient),
            Expected::Absent,
            "x",
            &[],
        );
        let commit = commit_of(&ledger, vec![draft]);
        ledger.commit(commit).await.unwrap();
    }
    let keys = ledger.core().tenant(TENANT).unwrap();
    let wrapped = |patient: &str| match backend.snapshot().key(&keys.subject_key(patient)).unwrap()
    {
        Some(KeyRow::Wrapped(wrapped)) => wrapped,
        other => panic!("{other:?}"),
    };
    let (of_p, of_q) = (wrapped("p"), wrapped("q"));
    let target = Arc::new(crate::FolderTarget::create(&backups).unwrap());
    let report = ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    // A second chain in the same place, with key files of its own.
    ledger.backup(target.clone(), true, |_| {}).await.unwrap();
    let found = |folder: &Path, needle| file_with(folder, needle).is_some();
    assert!(found(&backups, &of_p) && found(&backups, &of_q));
    let old = folder.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for entry in std::fs::read_dir(&backups).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), old.join(entry.file_name())).unwrap();
    }
    ledger
        .destroy_patient_key(TENANT, "p", audit(&ledger, Shard(0)))
        .await
        .unwrap();
    ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    assert!(!found(&backups, &of_p));
    assert!(found(&backups, &of_q));
    let list = ledger.shred_list().unwrap();
    // From the backup as it is, and from the copy that still holds the key, with the list.
    for (source, shred_lists) in [(&backups, Vec::new()), (&old, vec![list])] {
        let path = folder
            .path()
            .join(format!("restored-{}", shred_lists.len()));
        let clock = ManualClock::new(1_700_000_000_000);
        let options = crate::RestoreOptions {
            source: Arc::new(crate::FolderTarget::open(source).unwrap()),
            open: OpenOptions {
                location: crate::Location::Folder(path.clone()),
                ..options(RootKey::from_bytes([7; 32]), &clock)
            },
            to: crate::Moment::Number(report.last.number),
            chain: Some(report.chain.clone()),
            shred_lists,
            release_outbox: false,
        };
        crate::restore(options, |_| {}).await.unwrap();
        assert!(!found(&path, &of_p));
        assert!(found(&path, &of_q));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redo_log_that_nobody_takes_ends_and_leaves_nothing_behind() {
    let store = Memory::new();
    let ledger = suite::ready(&store).await;
    let put = async |version: u32| {
        let expected = match version {
            1 => Expected::Absent,
            next => Expected::Version(next - 1),
        };
        let draft = draft(&ledger, PATIENT, "p", of("p"), expected, "x", &["t"]);
        let commit = commit_of(&ledger, vec![draft]);
        ledger.commit(commit).await.unwrap();
    };
    put(1).await;
    // Nothing is kept before the first backup.
    assert!(store.backend.rows().redo.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let target = Arc::new(crate::FolderTarget::create(folder.path()).unwrap());
    let backup = async || ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    assert_eq!(backup().await.backup, 1);
    let kept = |rows: &crate::memory_backend::Rows| (rows.redo.len(), rows.posted.len());
    put(2).await;
    put(3).await;
    // The tokens of what was superseded wait for the backup, and go with it.
    let documents = store.backend.rows().documents.len();
    assert_eq!(kept(&store.backend.rows()), (2, documents));
    assert_eq!(backup().await.backup, 2);
    let living = store.backend.rows().posted.len();
    assert_eq!(kept(&store.backend.rows()), (0, living));
    assert_eq!(living, documents - 2);
    // Far more than the bound for tests.
    for version in 4..1500 {
        put(version).await;
    }
    let (rows, posted) = kept(&store.backend.rows());
    assert_eq!(rows, 0);
    // One patient, and an audit record a commit.
    assert_eq!(posted, 1 + 1499);
    let report = backup().await;
    assert_eq!(report.backup, 1, "the log has a gap, so it is a whole one");
    put(1500).await;
    assert_eq!(backup().await.backup, 2);
    suite::assert_sound(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_thread_that_keeps_postings_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // So little cache that 64 postings are much.
    let backend = Arc::new(FjallBackend::open(folder.path(), 4096).unwrap());
    let clock = ManualClock::new(1_700_000_000_000);
    let options = options(RootKey::from_bytes([7; 32]), &clock);
    let ledger = Ledger::open_on(backend.clone(), &options).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    backend.panic_the_keeper();
    let mut refused = None;
    for number in 0..200 {
        let id = format!("p{number}");
        let draft = draft(
            &ledger,
            PATIENT,
            &id,
            of(&id),
            Expected::Absent,
            "x",
            &["t"],
        );
        if let Err(error) = ledger.commit(commit_of(&ledger, vec![draft])).await {
            refused = Some(error);
            break;
        }
    }
    assert!(
        matches!(&refused, Some(LedgerError::Storage(text)) if text.contains("panicked")),
        "{refused:?}"
    );
    // Reading goes on.
    assert!(ledger.get(TENANT, PATIENT, "p0").await.unwrap().is_some());
}
