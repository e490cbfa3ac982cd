//! Rotations that a fault cuts short, what they leave in files, and stores of the version before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::suite::{PATIENT, TENANT, audit, commit_of, draft, of};
use super::{file_with, on_disk, options};
use crate::backend::{Backend, KeyRow, Snapshot, Write};
use crate::bootstrap::{as_first_format, secret_rows};
use crate::data_keys::wrapped_by;
use crate::memory_backend::MemoryBackend;
use crate::plan::{Rekey, Rekeying, SCRUB_DUE};
use crate::rotation::key_rows;
use crate::writer::Request;
use crate::{
    Dictionary, Expected, Ledger, LedgerError, ManualClock, RootKey, Shard, SystemEntropy, TenantId,
};

/// How a batch fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Nothing of it is there.
    Before,
    /// It is there, and nobody is told.
    After,
}

/// Fails the batch with a number, and all scrubs from then on; holds scrubs back on demand.
pub(super) struct Faulty {
    inner: MemoryBackend,
    batches: AtomicUsize,
    failing: Mutex<Option<(usize, Fault)>>,
    /// Scrubs asked for, and how many of them may end.
    scrubs: Mutex<(usize, usize)>,
    changed: Condvar,
    /// What somebody else does right before the view of the store with a number.
    pub(super) meanwhile: Mutex<Option<(usize, Meanwhile)>>,
}

pub(super) type Meanwhile = Box<dyn FnOnce() + Send>;

impl Faulty {
    pub(super) fn over(inner: MemoryBackend) -> Arc<Self> {
        Arc::new(Self {
            inner,
            batches: AtomicUsize::new(0),
            failing: Mutex::new(None),
            scrubs: Mutex::new((0, usize::MAX)),
            changed: Condvar::new(),
            meanwhile: Mutex::new(None),
        })
    }
    pub(super) fn fail_batch(&self, number: usize, fault: Fault) {
        self.batches.store(0, Ordering::SeqCst);
        *self.failing.lock().unwrap() = Some((number, fault));
    }
    fn let_scrubs_end(&self, count: usize) {
        self.scrubs.lock().unwrap().1 = count;
        self.changed.notify_all();
    }
    async fn scrubs_begun(&self, count: usize) {
        while self.scrubs.lock().unwrap().0 < count {
            tokio::task::yield_now().await;
        }
    }
    fn is_scrub_due(&self) -> bool {
        let due = self.inner.snapshot().meta(SCRUB_DUE).unwrap();
        due.is_some_and(|due| !due.is_empty())
    }
}

impl Backend for Faulty {
    fn room_for(&self, _bytes: u64) -> Result<(), LedgerError> {
        Ok(())
    }
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        let number = self.batches.fetch_add(1, Ordering::SeqCst);
        let failing = *self.failing.lock().unwrap();
        let fault = failing
            .filter(|(at, _)| number >= *at)
            .map(|(at, fault)| (number > at, fault));
        let failed = || Err(LedgerError::Storage("the disk is gone".into()));
        match fault {
            // After a failed batch nothing goes through until the store is opened again.
            Some((true, _) | (false, Fault::Before)) => failed(),
            Some((false, Fault::After)) => {
                self.inner.apply(writes)?;
                failed()
            }
            None => self.inner.apply(writes),
        }
    }
    fn snapshot(&self) -> Box<dyn Snapshot> {
        let due = {
            let mut meanwhile = self.meanwhile.lock().unwrap();
            match &mut *meanwhile {
                Some((0, _)) => meanwhile.take().map(|(_, act)| act),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(act) = due {
            act();
        }
        self.inner.snapshot()
    }
    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        let mut scrubs = self.scrubs.lock().unwrap();
        let number = scrubs.0;
        scrubs.0 += 1;
        drop(
            self.changed
                .wait_while(scrubs, |scrubs| number >= scrubs.1)
                .unwrap(),
        );
        Ok(true)
    }
    fn disk_bytes(&self) -> u64 {
        0
    }
}

pub(super) const OLD: [u8; 32] = [7; 32];
const NEW: [u8; 32] = [8; 32];

pub(super) fn open(backend: Arc<dyn Backend>, key: [u8; 32]) -> Result<Ledger, LedgerError> {
    let clock = ManualClock::new(1_700_000_000_000);
    Ledger::open_on(backend, &options(RootKey::from_bytes(key), &clock))
}

/// A store with a patient `p`, closed.
async fn store() -> MemoryBackend {
    let backend = MemoryBackend::default();
    let ledger = open(Arc::new(backend.clone()), OLD).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    write(&ledger, "p").await;
    ledger.close().await.unwrap();
    backend
}

async fn write(ledger: &Ledger, patient: &str) {
    let draft = draft(
        ledger,
        PATIENT,
        patient,
        of(patient),
        Expected::Absent,
        "x",
        &[],
    );
    let commit = commit_of(ledger, vec![draft]);
    ledger.commit(commit).await.unwrap();
}

async fn reads(ledger: &Ledger, patient: &str) -> bool {
    (ledger.get(TENANT, PATIENT, patient).await.unwrap()).is_some_and(|stored| stored.body == b"x")
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread")]
async fn a_root_rotation_cut_short_leaves_one_key_that_opens() {
    let (mut with_old, mut with_new) = (0, 0);
    'faults: for fault in [Fault::Before, Fault::After] {
        for number in 0.. {
            let rows = store().await;
            let backend = Faulty::over(rows.clone());
            let ledger = open(backend.clone(), OLD).unwrap();
            backend.fail_batch(number, fault);
            let outcome = ledger.rotate_root_key(&RootKey::from_bytes(NEW)).await;
            drop(ledger);
            let of = |key| open(Arc::new(rows.clone()), key);
            let opened = match (of(OLD), of(NEW)) {
                (Ok(ledger), Err(LedgerError::RootKey(_))) => {
                    assert!(outcome.is_err());
                    with_old += 1;
                    ledger
                }
                (Err(LedgerError::RootKey(_)), Ok(ledger)) => {
                    with_new += 1;
                    ledger
                }
                (old, new) => panic!(
                    "{fault:?} {number}: old {:?}, new {:?}",
                    old.err(),
                    new.err()
                ),
            };
            assert!(reads(&opened, "p").await);
            opened.create_tenant(TENANT).await.unwrap();
            write(&opened, "q").await;
            // Opening has scrubbed what the rotation had not come to.
            assert_eq!(
                rows.snapshot().meta(SCRUB_DUE).unwrap().unwrap_or_default(),
                b""
            );
            if outcome.is_ok() {
                continue 'faults;
            }
        }
    }
    assert!(with_old > 0 && with_new > 2, "{with_old} {with_new}");
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_root_key_wrapped_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    let before = secret_rows(&*backend.snapshot()).unwrap();
    assert!(before.len() >= 3, "root, signer and a tenant");
    for (name, wrapped) in &before {
        assert!(file_with(folder.path(), wrapped).is_some(), "{name}");
    }
    ledger
        .rotate_root_key(&RootKey::from_bytes(NEW))
        .await
        .unwrap();
    for (name, wrapped) in &before {
        assert!(file_with(folder.path(), wrapped).is_none(), "{name}");
    }
    for (name, wrapped) in secret_rows(&*backend.snapshot()).unwrap() {
        assert!(file_with(folder.path(), &wrapped).is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_before_salts_opens_and_rotates() {
    let rows = store().await;
    rows.edit(|rows| {
        let first = as_first_format(&Arc::new(rows.clone()), &RootKey::from_bytes(OLD)).unwrap();
        rows.meta.extend(first);
    });
    assert!(matches!(
        open(Arc::new(rows.clone()), NEW),
        Err(LedgerError::RootKey(_))
    ));
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    assert!(reads(&ledger, "p").await);
    // In place: the same key, another wrapping.
    let before = secret_rows(&rows.rows()).unwrap();
    ledger
        .rotate_root_key(&RootKey::from_bytes(OLD))
        .await
        .unwrap();
    for (name, wrapped) in secret_rows(&rows.rows()).unwrap() {
        assert!(!before.contains(&(name.clone(), wrapped)), "{name}");
    }
    ledger.close().await.unwrap();
    assert!(reads(&open(Arc::new(rows), OLD).unwrap(), "p").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_missed_a_rotation_wraps_nothing_under_the_old_key() {
    let rows = store().await;
    let stale = open(Arc::new(rows.clone()), OLD).unwrap();
    let other = open(Arc::new(rows.clone()), OLD).unwrap();
    other
        .rotate_root_key(&RootKey::from_bytes(NEW))
        .await
        .unwrap();
    for outcome in [
        stale.create_tenant(super::suite::OTHER).await,
        stale.rotate_root_key(&RootKey::from_bytes(OLD)).await,
    ] {
        assert!(
            matches!(outcome, Err(LedgerError::RootKey(_))),
            "{outcome:?}"
        );
    }
    drop((stale, other));
    assert!(reads(&open(Arc::new(rows), NEW).unwrap(), "p").await);
}

/// What a process does to the store's own secrets.
#[derive(Debug, Clone, Copy)]
enum Act {
    RotateRoot(u8),
    MakeTenant(u32),
    RotateTenant,
    /// Brings a dictionary, which is sealed into the store on opening.
    BringDictionary(u8),
}

/// Opens the store with whichever key does.
fn open_any(backend: &Arc<dyn Backend>, dictionary: &[Dictionary]) -> Result<Ledger, LedgerError> {
    let mut outcome = Err(LedgerError::Closed);
    for key in [7, 8, 9] {
        let clock = ManualClock::new(1_700_000_000_000);
        let mut options = options(RootKey::from_bytes([key; 32]), &clock);
        options.dictionary = dictionary.to_vec();
        outcome = Ledger::open_on(Arc::clone(backend), &options);
        if !matches!(outcome, Err(LedgerError::RootKey(_))) {
            break;
        }
    }
    outcome
}

async fn carry_out(backend: Arc<dyn Backend>, act: Act) -> Result<(), LedgerError> {
    let dictionary = match act {
        Act::BringDictionary(byte) => vec![Dictionary {
            kinds: Vec::new(),
            bytes: vec![byte; 300],
        }],
        _ => Vec::new(),
    };
    let ledger = open_any(&backend, &dictionary)?;
    match act {
        Act::RotateRoot(key) => {
            (ledger.rotate_root_key(&RootKey::from_bytes([key; 32]))).await?;
        }
        Act::MakeTenant(number) => ledger.create_tenant(TenantId(number)).await?,
        Act::RotateTenant => drop(ledger.rotate_tenant_keys(TENANT, &|_| {}).await?),
        Act::BringDictionary(_) => {}
    }
    ledger.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_two_processes_do_to_secrets_at_once_one_root_key_opens_them_all() {
    let first = [
        Act::RotateRoot(8),
        Act::MakeTenant(2),
        Act::RotateTenant,
        Act::BringDictionary(1),
    ];
    let second = [
        Act::RotateRoot(9),
        Act::MakeTenant(3),
        Act::RotateTenant,
        Act::BringDictionary(2),
    ];
    let mut refused = 0;
    for (one, other) in first
        .iter()
        .flat_map(|one| second.map(|other| (*one, other)))
    {
        for moment in 0.. {
            let rows = store().await;
            let backend = Faulty::over(rows.clone());
            let theirs = rows.clone();
            let meanwhile = move || {
                let acting = std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
                    runtime
                        .block_on(carry_out(Arc::new(theirs), other))
                        .unwrap();
                });
                acting.join().unwrap();
            };
            *backend.meanwhile.lock().unwrap() = Some((moment, Box::new(meanwhile)));
            let outcome = carry_out(backend.clone(), one).await;
            if backend.meanwhile.lock().unwrap().take().is_some() {
                outcome.unwrap();
                assert!(moment > 5, "{one:?} looks at the store {moment} times");
                break;
            }
            let named = format!("{one:?}, and {other:?} before view {moment}: {outcome:?}");
            refused += usize::from(outcome.is_err());
            // One key, and all that lies under it, which opening unwraps.
            let opened: Vec<_> = [7, 8, 9]
                .into_iter()
                .filter_map(|key| open(Arc::new(rows.clone()), [key; 32]).ok())
                .collect();
            assert_eq!(opened.len(), 1, "{named}");
            assert!(reads(&opened[0], "p").await, "{named}");
            write(&opened[0], "q").await;
            if let (Act::MakeTenant(number), Ok(())) = (one, &outcome) {
                assert!(opened[0].seal_note(TenantId(number), "link", b"x").is_ok());
            }
        }
    }
    // Those that came between a look and the write that follows from it.
    assert!(refused > 0);
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_does_not_count_for_a_key_destroyed_since_it_began() {
    let backend = Faulty::over(store().await);
    let ledger = open(backend.clone(), OLD).unwrap();
    write(&ledger, "q").await;
    backend.let_scrubs_end(0);
    let destroy = |patient: &'static str| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let audit = audit(&ledger, Shard(0));
            ledger.destroy_patient_key(TENANT, patient, audit).await
        })
    };
    let first = destroy("p");
    backend.scrubs_begun(1).await;
    let second = destroy("q");
    backend.scrubs_begun(2).await;
    backend.let_scrubs_end(1);
    first.await.unwrap().unwrap();
    assert!(backend.is_scrub_due());
    backend.let_scrubs_end(2);
    second.await.unwrap().unwrap();
    assert!(!backend.is_scrub_due());
}

/// A store with this many patients, closed.
async fn store_of(patients: usize) -> MemoryBackend {
    let rows = store().await;
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    let drafts = (0..patients).map(|number| {
        let id = format!("p{number}");
        draft(&ledger, PATIENT, &id, of(&id), Expected::Absent, "x", &[])
    });
    let commit = commit_of(&ledger, drafts.collect());
    ledger.commit(commit).await.unwrap();
    ledger.close().await.unwrap();
    rows
}

/// The versions of the tenant's secret that wrap the patients' keys.
fn versions(rows: &MemoryBackend) -> Vec<u32> {
    let rows = rows.rows();
    let versions = rows.keys.values().filter_map(|row| match row {
        KeyRow::Wrapped(wrapped) => Some(wrapped_by(wrapped).unwrap()),
        KeyRow::Destroyed { .. } => None,
    });
    versions.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_rotation_cut_short_goes_on_where_it_was() {
    let first = store_of(1100).await;
    for fault in [Fault::Before, Fault::After] {
        for number in 0.. {
            let rows = MemoryBackend::default();
            rows.edit(|to| *to = Arc::unwrap_or_clone(first.rows()));
            let backend = Faulty::over(rows.clone());
            let ledger = open(backend.clone(), OLD).unwrap();
            backend.fail_batch(number, fault);
            let outcome = ledger.rotate_tenant_keys(TENANT, &|_| {}).await;
            drop(ledger);
            let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
            assert!(reads(&ledger, "p0").await && reads(&ledger, "p1099").await);
            let done = Mutex::new(0);
            let went_on = ledger
                .continue_tenant_rotation(TENANT, &|progress| {
                    *done.lock().unwrap() = progress.keys;
                })
                .await
                .unwrap();
            let done = done.into_inner().unwrap();
            assert_eq!(went_on.map_or(0, |reached| reached.keys), done);
            assert!(reads(&ledger, "p0").await && reads(&ledger, "p1099").await);
            let made = number > 0 || fault == Fault::After;
            let version = if made { 2 } else { 1 };
            assert_eq!(versions(&rows), vec![version; 1101], "{fault:?} {number}");
            // What had been done is not done again.
            assert!(number < 3 || done < 1101, "{fault:?} {number}: {done}");
            if outcome.is_ok() {
                assert!(number > 4, "two pages, the end and the scrub");
                break;
            }
        }
    }
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_keys_rotate_under_load() {
    let rows = store_of(600).await;
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    write(&ledger, &format!("w{writer}-{number}")).await;
                }
            })
        })
        .collect();
    let rotations = (0..2).map(|_| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.rotate_tenant_keys(TENANT, &|_| {}).await })
    });
    for rotation in rotations.collect::<Vec<_>>() {
        rotation.await.unwrap().unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(versions(&rows), vec![3; 801]);
    for id in ["p0", "p599", "w0-0", "w3-49"] {
        assert!(reads(&ledger, id).await, "{id}");
    }
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_key_destroyed_since_it_was_read_stays_destroyed() {
    let rows = store().await;
    let ledger = open(Arc::new(rows.clone()), OLD).unwrap();
    let key = ledger.core().tenant(TENANT).unwrap().subject_key("p");
    let Some(KeyRow::Wrapped(from)) = rows.snapshot().key(&key).unwrap() else {
        panic!("the patient has a key");
    };
    let core = ledger.core();
    let keys = core.tenant(TENANT).unwrap();
    let read = core.unwrap_key(&*ledger.backend().unwrap(), &keys, key, &from);
    let grown = read.unwrap().grown(&SystemEntropy).unwrap();
    let audit = audit(&ledger, Shard(0));
    ledger
        .destroy_patient_key(TENANT, "p", audit)
        .await
        .unwrap();
    let rekeying = Rekeying {
        rows: vec![Rekey {
            key,
            from: from.clone(),
            to: from.clone(),
        }],
        position: None,
    };
    let changed = ledger.ask(1, |reply| Request::Rekey(rekeying, reply)).await;
    assert_eq!(changed.unwrap(), 0);
    let changed = ledger
        .ask(1, |reply| Request::Grow(from, grown, reply))
        .await;
    assert_eq!(changed.unwrap(), 0);
    assert!(matches!(
        ledger.get(TENANT, PATIENT, "p").await,
        Err(LedgerError::KeyDestroyed)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_secret_wrapped_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    for patient in ["p", "q", "r"] {
        write(&ledger, patient).await;
    }
    let wrapped = || -> Vec<Vec<u8>> {
        let keys = key_rows(&*backend.snapshot(), TENANT, None).unwrap();
        let rows = keys.into_iter().map(|(_, row)| match row {
            KeyRow::Wrapped(wrapped) => wrapped,
            KeyRow::Destroyed { .. } => panic!("no key is destroyed"),
        });
        rows.collect()
    };
    let before = wrapped();
    assert_eq!(before.len(), 3);
    ledger.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    for row in before {
        assert!(file_with(folder.path(), &row).is_none());
    }
    for row in wrapped() {
        assert!(file_with(folder.path(), &row).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_missed_a_rotation_reads_what_came_after() {
    let rows = store().await;
    let stale = open(Arc::new(rows.clone()), OLD).unwrap();
    assert!(reads(&stale, "p").await);
    let other = open(Arc::new(rows.clone()), OLD).unwrap();
    other.rotate_patient_key(TENANT, "p").await.unwrap();
    other.rotate_tenant_keys(TENANT, &|_| {}).await.unwrap();
    let mut next = draft(
        &other,
        PATIENT,
        "p",
        of("p"),
        Expected::Version(1),
        "x",
        &[],
    );
    next.body = b"after".to_vec();
    let commit = commit_of(&other, vec![next]);
    let receipt = other.commit(commit).await.unwrap();
    let stored = stale.get(TENANT, PATIENT, "p").await.unwrap().unwrap();
    assert_eq!(stored.body, b"after");
    let audit = stale.fetch(TENANT, receipt.audit.unwrap()).await.unwrap();
    assert!(audit.is_some());
}
