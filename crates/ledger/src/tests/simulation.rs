//! A ledger on a store that refuses, lies, dies and dawdles while the clock jumps, all drawn from a
//! seed. Writers, followers and deliverers work side by side and remember what they were told; after
//! each fall the store is opened again and everything is compared.
//!
//! The seed gives the same faults and the same choices; which commits meet in one group is up to the
//! threads. `LEDGER_SEED` and `LEDGER_ROUNDS` ask for other and longer runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::options;
use super::suite::{OBSERVATION, TENANT, audit, commit_of, draft, of};
use crate::backend::{Backend, Snapshot, Write};
use crate::embedded::FjallBackend;
use crate::memory_backend::MemoryBackend;
use crate::{
    Commit, CursorMove, Expected, Kind, Ledger, LedgerError, ManualClock, Number, OutboxDraft,
    OutboxKey, Owner, RootKey, SHARDS, Shard,
};

const START_MS: u64 = 1_700_000_000_000;
const FOLLOWER: &str = "simulated";
const CHANNEL: u16 = 1;
/// What a follower or deliverer writes down when it has handled something.
const HANDLED: Kind = Kind(1001);
const WRITERS: u64 = 4;
const DOCUMENTS: u64 = 3;
const STEPS: u64 = 12;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What happens to a batch.
enum Fault {
    None,
    /// It takes its time.
    Slow,
    /// It is refused, as on a full disk; the next may go through.
    Refused,
    /// It is written, and the answer says that it is not.
    Lied,
    /// The process dies before it is written.
    DiedBefore,
    /// The process dies before anybody is told that it is written.
    DiedAfter,
}

impl Fault {
    fn draw(random: &mut Random) -> Self {
        match random.below(100) {
            0..3 => Self::Refused,
            3..5 => Self::Lied,
            5..7 => Self::DiedBefore,
            7..9 => Self::DiedAfter,
            9..14 => Self::Slow,
            _ => Self::None,
        }
    }
}

struct Shaken {
    inner: Arc<dyn Backend>,
    random: Mutex<Random>,
    /// Nothing more is taken until the store is opened again.
    down: AtomicBool,
    faults: Mutex<BTreeMap<&'static str, u32>>,
}

fn fault(what: &str) -> LedgerError {
    LedgerError::Storage(what.to_owned())
}

impl Backend for Shaken {
    fn room_for(&self, bytes: u64) -> Result<(), LedgerError> {
        self.inner.room_for(bytes)
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "it is the writer's own thread that a slow disk holds up"
    )]
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(fault("the store is down"));
        }
        let fault_now = Fault::draw(&mut self.random.lock().unwrap());
        let count = |what| {
            *self.faults.lock().unwrap().entry(what).or_default() += 1;
        };
        match fault_now {
            Fault::None => self.inner.apply(writes),
            Fault::Slow => {
                count("slow");
                std::thread::sleep(Duration::from_millis(15));
                self.inner.apply(writes)
            }
            Fault::Refused => {
                count("refused");
                Err(fault("no room"))
            }
            Fault::Lied => {
                count("lied");
                self.inner.apply(writes)?;
                self.down.store(true, Ordering::SeqCst);
                Err(fault("the flush failed"))
            }
            Fault::DiedBefore => {
                count("died before");
                self.down.store(true, Ordering::SeqCst);
                Err(fault("died"))
            }
            Fault::DiedAfter => {
                count("died after");
                self.inner.apply(writes)?;
                self.down.store(true, Ordering::SeqCst);
                Err(fault("died"))
            }
        }
    }
    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.inner.snapshot()
    }
    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        self.inner.scrub_keys()
    }
    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }
}

/// What a writer knows of a document.
#[derive(Debug, Clone, Default)]
struct Known {
    version: u32,
    body: String,
    /// An attempt that nobody knows the outcome of.
    open: Option<String>,
}

/// What all have been told; outlives every fall.
#[derive(Default)]
struct Told {
    documents: BTreeMap<String, Known>,
    /// Versions written: (document, version).
    written: u64,
    /// Outbox entries that were acknowledged.
    sent: Vec<[u8; 16]>,
    serial: u64,
}

fn stop_on<T>(outcome: Result<T, LedgerError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(LedgerError::Storage(_) | LedgerError::Closed) => None,
        Err(other) => panic!("{other}"),
    }
}

/// One writer's turn: `None` when the outcome is open.
async fn write(ledger: &Ledger, told: &Mutex<Told>, id: &str) -> Option<()> {
    let known = told.lock().unwrap().documents.get(id).cloned();
    let mut known = known.unwrap_or_default();
    if let Some(attempt) = known.open.take() {
        // First find out what became of the last attempt.
        let stored = stop_on(ledger.get(TENANT, OBSERVATION, id).await)?;
        let version = stored.as_ref().map_or(0, |stored| stored.version);
        let mut told = told.lock().unwrap();
        if version == known.version + 1 {
            assert_eq!(stored.unwrap().body, attempt.as_bytes(), "{id}");
            known.version = version;
            known.body = attempt;
            told.written += 1;
        } else {
            assert_eq!(version, known.version, "{id} lost or gained a version");
        }
        told.documents.insert(id.to_owned(), known.clone());
    }
    let (serial, entry) = {
        let mut told = told.lock().unwrap();
        told.serial += 1;
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&told.serial.to_be_bytes());
        (told.serial, entry)
    };
    let body = format!("{id} {serial}");
    let expected = match known.version {
        0 => Expected::Absent,
        version => Expected::Version(version),
    };
    let owner = of(&id[..2]);
    let drafted = draft(
        ledger,
        OBSERVATION,
        id,
        owner.clone(),
        expected,
        &body,
        &[id],
    );
    let commit = Commit {
        outbox_add: vec![OutboxDraft {
            key: OutboxKey {
                shard: ledger.shard_of(TENANT, &owner, id),
                due_ms: 0,
                id: entry,
            },
            owner,
            channel: CHANNEL,
            attempt: 0,
            body: body.clone().into_bytes(),
        }],
        ..commit_of(ledger, vec![drafted])
    };
    let outcome = ledger.commit(commit).await;
    let mut told = told.lock().unwrap();
    match stop_on(outcome) {
        Some(receipt) => {
            known.version += 1;
            assert_eq!(receipt.documents[0].version, known.version, "{id}");
            known.body = body;
            told.written += 1;
            told.sent.push(entry);
            told.documents.insert(id.to_owned(), known);
            Some(())
        }
        None => {
            known.open = Some(body);
            told.documents.insert(id.to_owned(), known);
            None
        }
    }
}

/// Writes down that something was handled; a second time is a conflict, and fails the test.
fn handled(ledger: &Ledger, what: &str) -> Commit {
    let drafted = draft(
        ledger,
        HANDLED,
        what,
        Owner::Tenant,
        Expected::Absent,
        "",
        &[],
    );
    commit_of(ledger, vec![drafted])
}

/// Handles what is new on a shard; `None` when the store failed.
async fn follow(ledger: &Ledger, shard: Shard) -> Option<()> {
    let from = stop_on(ledger.cursor(FOLLOWER, shard).await)?;
    for event in stop_on(ledger.events(shard, from, 3).await)? {
        let from = stop_on(ledger.cursor(FOLLOWER, shard).await)?;
        let mut commit = if event.kind == OBSERVATION {
            handled(ledger, &format!("event-{shard}-{}", event.at.number.0))
        } else {
            Commit::new(TENANT)
        };
        commit.cursor = Some(CursorMove {
            consumer: FOLLOWER.into(),
            shard,
            from,
            to: event.at.number,
        });
        stop_on(ledger.commit(commit).await)?;
    }
    Some(())
}

/// Settles what waits in the outbox.
async fn deliver(ledger: &Ledger) -> Option<()> {
    for entry in stop_on(ledger.outbox_due(CHANNEL, u64::MAX, 3).await)? {
        let serial = u64::from_be_bytes(entry.key.id[..8].try_into().unwrap());
        let commit = Commit {
            outbox_remove: vec![entry.key],
            ..handled(ledger, &format!("entry-{serial}"))
        };
        stop_on(ledger.commit(commit).await)?;
    }
    Some(())
}

/// Lets all work until they are through or the store is down.
async fn work(ledger: &Ledger, told: &Arc<Mutex<Told>>, seed: u64) {
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (ledger, told) = (ledger.clone(), Arc::clone(told));
        tasks.push(tokio::spawn(async move {
            let mut random = Random(seed ^ (writer << 32));
            for _ in 0..STEPS {
                let id = format!("w{writer}-{}", random.below(DOCUMENTS));
                let _ = write(&ledger, &told, &id).await;
            }
        }));
    }
    let ledger = ledger.clone();
    tasks.push(tokio::spawn(async move {
        for _ in 0..3 {
            for shard in (0..SHARDS).map(Shard) {
                let _ = follow(&ledger, shard).await;
            }
            let _ = deliver(&ledger).await;
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
}

/// Compares what is stored with what everybody was told.
async fn compare(ledger: &Ledger, told: &mut Told) {
    for (id, known) in &mut told.documents {
        let history = ledger
            .history(TENANT, OBSERVATION, id, None, 100_000)
            .await
            .unwrap();
        let version = u32::try_from(history.len()).unwrap();
        match known.open.take() {
            Some(attempt) if version == known.version + 1 => {
                known.version = version;
                known.body = attempt;
                told.written += 1;
            }
            _ => assert_eq!(version, known.version, "versions of {id}"),
        }
        let newest = history.first().map(|stored| stored.body.clone());
        let expected = (known.version > 0).then(|| known.body.clone().into_bytes());
        assert_eq!(newest, expected, "{id}");
        let token = crate::Query::Token(ledger.token(TENANT, OBSERVATION, "code", id));
        let found = ledger.search(TENANT, &token, None, None, 10).await.unwrap();
        let place = history.first().map(|stored| stored.at);
        assert_eq!(found, place.into_iter().collect::<Vec<_>>(), "{id}");
    }
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
}

/// After the last fall, on a store that does its work: nothing is left over, and each was handled once.
async fn finish(ledger: &Ledger, told: &Told) {
    let mut observations = 0;
    for shard in (0..SHARDS).map(Shard) {
        while ledger.cursor(FOLLOWER, shard).await.unwrap() < ledger.shard_head(shard) {
            follow(ledger, shard).await.unwrap();
            deliver(ledger).await.unwrap();
        }
        let events = ledger.events(shard, Number(0), 10_000).await.unwrap();
        assert!(events.is_sorted_by(|one, next| one.at.number < next.at.number));
        for event in events.iter().filter(|event| event.kind == OBSERVATION) {
            observations += 1;
            let id = format!("event-{shard}-{}", event.at.number.0);
            assert!(ledger.get(TENANT, HANDLED, &id).await.unwrap().is_some());
        }
    }
    assert_eq!(observations, told.written);
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
    for entry in &told.sent {
        let serial = u64::from_be_bytes(entry[..8].try_into().unwrap());
        let id = format!("entry-{serial}");
        assert!(ledger.get(TENANT, HANDLED, &id).await.unwrap().is_some());
    }
    // Reads are recorded in the trees as well.
    let read = Commit {
        audit: Some(audit(ledger, Shard(0))),
        ..Commit::new(TENANT)
    };
    assert!(ledger.commit(read).await.unwrap().leaf.is_some());
}

#[allow(
    clippy::disallowed_methods,
    reason = "a seed to replay comes from whoever runs the test"
)]
fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

async fn simulate(seed: u64, rounds: u64, reopen: impl Fn() -> Arc<dyn Backend>) {
    let (seed, rounds) = (given("LEDGER_SEED", seed), given("LEDGER_ROUNDS", rounds));
    println!("LEDGER_SEED={seed} LEDGER_ROUNDS={rounds}");
    let mut random = Random(seed);
    let clock = ManualClock::new(START_MS);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    let options = options(RootKey::from_bytes([7; 32]), &clock);
    let sound = Ledger::open_on(reopen(), &options).unwrap();
    sound.create_tenant(TENANT).await.unwrap();
    sound.close().await.unwrap();
    drop(sound);
    for _ in 0..rounds {
        let shaken = Arc::new(Shaken {
            inner: reopen(),
            random: Mutex::new(Random(random.below(u64::MAX))),
            down: AtomicBool::new(false),
            faults: Mutex::default(),
        });
        // Opening may meet a fault of its own.
        let Ok(ledger) = Ledger::open_on(Arc::clone(&shaken) as Arc<dyn Backend>, &options) else {
            continue;
        };
        work(&ledger, &told, random.below(u64::MAX)).await;
        // A store that is down is dropped as a killed process drops it; closing can't write either.
        let _ = ledger.close().await;
        drop(ledger);
        for (what, count) in &*shaken.faults.lock().unwrap() {
            *faults.entry(what).or_default() += count;
        }
        drop(shaken);
        // The clock jumps, sometimes back.
        let now_ms = START_MS + random.below(200_000);
        clock.set(now_ms.saturating_sub(random.below(2) * 100_000));
        let sound = Ledger::open_on(reopen(), &options).unwrap();
        let mut now = std::mem::take(&mut *told.lock().unwrap());
        compare(&sound, &mut now).await;
        *told.lock().unwrap() = now;
        sound.close().await.unwrap();
    }
    let sound = Ledger::open_on(reopen(), &options).unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    println!(
        "{} versions, {} entries, faults: {faults:?}",
        told.written,
        told.sent.len()
    );
    finish(&sound, &told).await;
    sound.close().await.unwrap();
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_in_memory() {
    let backend = MemoryBackend::default();
    simulate(20_261_127, 40, || Arc::new(backend.clone())).await;
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    simulate(20_261_128, 8, || {
        Arc::new(FjallBackend::open(folder.path(), 1 << 20).unwrap())
    })
    .await;
}
