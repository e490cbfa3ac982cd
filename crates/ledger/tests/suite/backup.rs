//! Backups and restores: the store as it was at any moment, what stays destroyed, and what becomes of
//! backups that were changed or cut short.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use ledger::{
    BackupReport, BackupTarget, Clock, Commit, CursorMove, Expected, Ledger, LedgerError, Moment,
    Number, OutboxDraft, OutboxKey, Query, SHARDS, Shard,
};

use super::{
    AUDIT, OBSERVATION, PATIENT, Store, TENANT, Wanted, assert_sound, audit, code, commit_of,
    draft, found, of, put, ready, text, timer,
};

/// A place for backups in memory, which can be looked into, changed, and told to fail.
#[derive(Default)]
pub(crate) struct Files {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// How many more writes work; all of them when it is zero.
    writes_left: AtomicUsize,
    failing: AtomicUsize,
    /// The next file of a segment waits until it may be written.
    segment: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Closed,
    /// Somebody waits before it; nobody else has to.
    Waiting,
}

impl Files {
    pub(crate) fn copy(&self) -> Arc<Self> {
        Arc::new(Self {
            files: Mutex::new(self.files.lock().unwrap().clone()),
            ..Self::default()
        })
    }
    fn fail_after(&self, writes: usize) {
        self.writes_left.store(writes, Ordering::SeqCst);
        self.failing.store(1, Ordering::SeqCst);
    }
    fn work_again(&self) {
        self.failing.store(0, Ordering::SeqCst);
    }
    fn set(&self, gate: Gate) {
        *self.segment.lock().unwrap() = gate;
        self.changed.notify_all();
    }
    async fn somebody_waits(&self) {
        while *self.segment.lock().unwrap() != Gate::Waiting {
            tokio::task::yield_now().await;
        }
    }
    fn pass(&self, name: &str) {
        let mut gate = self.segment.lock().unwrap();
        if *gate == Gate::Closed && name.ends_with(".segment") {
            *gate = Gate::Waiting;
            drop(
                self.changed
                    .wait_while(gate, |gate| *gate == Gate::Waiting)
                    .unwrap(),
            );
        }
    }
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().unwrap().clone()
    }
}

impl BackupTarget for Files {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerError> {
        self.pass(name);
        if self.failing.load(Ordering::SeqCst) == 1
            && self
                .writes_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_err()
        {
            return Err(LedgerError::Storage("the target is full".into()));
        }
        (self.files.lock().unwrap()).insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.files.lock().unwrap().get(name).cloned())
    }
    fn list(&self) -> Result<Vec<String>, LedgerError> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }
    fn remove(&self, name: &str) -> Result<(), LedgerError> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }
    fn describe(&self) -> String {
        "memory".into()
    }
}

pub(crate) async fn back_up(ledger: &Ledger, files: &Arc<Files>) -> BackupReport {
    let target = Arc::clone(files) as Arc<dyn BackupTarget>;
    ledger.backup(target, false, |_| {}).await.unwrap()
}

pub(crate) fn wanted(files: &Arc<Files>, to: Moment) -> Wanted {
    Wanted {
        source: Arc::clone(files) as Arc<dyn BackupTarget>,
        to,
        shred_lists: Vec::new(),
        release_outbox: true,
    }
}

const CODES: [&str; 3] = ["a", "b", "c"];
const DOCUMENTS: u64 = 8;
const CONSUMER: &str = "follower";

/// Everything that the store answers, in words.
async fn look(ledger: &Ledger) -> Vec<String> {
    let mut all = Vec::new();
    for document in 0..DOCUMENTS {
        let id = format!("document-{document}");
        let versions = ledger
            .history(TENANT, OBSERVATION, &id, None, 100)
            .await
            .unwrap();
        for stored in versions {
            all.push(format!(
                "{id} {} {:?} {} {}",
                stored.version,
                stored.at,
                stored.deleted,
                text(&stored)
            ));
        }
    }
    for name in CODES {
        all.push(format!(
            "{name} {:?}",
            found(ledger, &code(ledger, name)).await
        ));
    }
    let audits = Query::Token(ledger.token(TENANT, AUDIT, "agent", "someone"));
    let audits = found(ledger, &audits).await;
    all.push(format!("audits {audits:?}"));
    for at in audits {
        let stored = ledger.fetch(TENANT, at).await.unwrap().unwrap();
        all.push(format!("{at:?} {}", stored.id));
    }
    let every = Query::Token(ledger.kind_token(TENANT, OBSERVATION));
    all.push(format!("living {:?}", found(ledger, &every).await));
    for shard in (0..SHARDS).map(Shard) {
        let events = ledger.events(shard, Number(0), 1000).await.unwrap();
        all.extend(events.iter().map(|event| format!("{event:?}")));
        let cursor = ledger.cursor(CONSUMER, shard).await.unwrap();
        if cursor != Number(0) {
            all.push(format!("{shard} {cursor:?}"));
        }
    }
    let timers = ledger.timers_due(1, u64::MAX, 1000).await.unwrap();
    all.extend(timers.iter().map(|timer| format!("{timer:?}")));
    let outbox = ledger.outbox_due(4, u64::MAX, 1000).await.unwrap();
    all.extend(outbox.iter().map(|entry| format!("{entry:?}")));
    all
}

/// A small generator of random numbers; a failure is the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a random history needs to know of itself.
#[derive(Default)]
struct History {
    versions: BTreeMap<u64, u32>,
    outbox: Vec<OutboxKey>,
    cursors: BTreeMap<u16, Number>,
    step: u64,
}

impl History {
    /// One random commit.
    async fn go_on(&mut self, ledger: &Ledger, draw: &mut Draw) {
        self.step += 1;
        let step = self.step;
        let mut commit = Commit::new(TENANT);
        if draw.below(4) > 0 {
            let mut drafts = Vec::new();
            for _ in 0..=draw.below(3) {
                let document = draw.below(DOCUMENTS);
                let version = self.versions.entry(document).or_default();
                let codes: Vec<_> = CODES.into_iter().filter(|_| draw.below(2) == 0).collect();
                let expected = match *version {
                    0 => Expected::Absent,
                    version => Expected::Version(version),
                };
                *version += 1;
                let owner = of(&format!("patient {}", document % 3));
                let deleted = draw.below(6) == 0;
                let body = if deleted {
                    String::new()
                } else {
                    format!("{document} at {step}")
                };
                let id = format!("document-{document}");
                let mut draft = draft(ledger, OBSERVATION, &id, owner, expected, &body, &codes);
                draft.deleted = deleted;
                drafts.push(draft);
            }
            commit = commit_of(ledger, drafts);
        } else if draw.below(2) == 0 {
            commit.audit = Some(audit(ledger, Shard(draw.below(3) as u16)));
        }
        let shard = draw.below(3) as u16;
        let id = draw.below(5) as u8;
        match draw.below(6) {
            0 => commit.timers_set.push(timer(shard, 10 + step % 3, id, 1)),
            1 => commit
                .timers_clear
                .push(timer(shard, 10 + step % 3, id, 1).key),
            2 => {
                let key = OutboxKey {
                    shard: Shard(shard),
                    due_ms: 5 + step,
                    id: [step as u8; 16],
                };
                self.outbox.push(key);
                commit.outbox_add.push(OutboxDraft {
                    key,
                    owner: of(&format!("patient {}", step % 3)),
                    channel: 4,
                    attempt: 0,
                    body: format!("message {step}").into_bytes(),
                });
            }
            3 if !self.outbox.is_empty() => {
                let which = draw.below(self.outbox.len() as u64) as usize;
                commit.outbox_remove.push(self.outbox.remove(which));
            }
            _ => {
                let to = Number(step);
                let from = self.cursors.insert(shard, to).unwrap_or_default();
                commit.cursor = Some(CursorMove {
                    consumer: CONSUMER.into(),
                    shard: Shard(shard),
                    from,
                    to,
                });
            }
        }
        ledger.commit(commit).await.unwrap();
    }
}

// Proves: 45 CFR 164.308(a)(7)(ii)(A), 164.308(a)(7)(ii)(B), 164.310(d)(2)(iv)
pub(crate) async fn backups_restore_to_every_moment(store: &dyn Store) {
    for seed in [1, 2] {
        let mut draw = Draw(seed);
        let mut ledger = ready(store).await;
        let mut history = History::default();
        // The second seed goes on with the store that the first has left.
        for document in 0..DOCUMENTS {
            let id = format!("document-{document}");
            if let Some(stored) = ledger.get(TENANT, OBSERVATION, &id).await.unwrap() {
                history.versions.insert(document, stored.version);
            }
        }
        for shard in 0..3 {
            let cursor = ledger.cursor(CONSUMER, Shard(shard)).await.unwrap();
            history.cursors.insert(shard, cursor);
        }
        history.step = seed * 100;
        let files = Arc::new(Files::default());
        for _ in 0..6 {
            history.go_on(&ledger, &mut draw).await;
        }
        let first = back_up(&ledger, &files).await;
        assert_eq!(first.backup, 1);
        let mut moments = vec![(Moment::Number(first.last.number), look(&ledger).await)];
        let mut backups = 1;
        for step in 0..24 {
            store.clock().advance(1000);
            let before = ledger.last_number();
            history.go_on(&ledger, &mut draw).await;
            let now = look(&ledger).await;
            let to = if ledger.last_number() > before && step % 2 == 0 {
                Moment::Number(ledger.last_number())
            } else {
                Moment::Time(store.clock().now_ms() + draw.below(999))
            };
            moments.push((to, now));
            match draw.below(6) {
                0 => {
                    let report = back_up(&ledger, &files).await;
                    backups += 1;
                    assert_eq!(report.backup, backups, "it goes on from the last one");
                }
                1 => {
                    ledger.close().await.unwrap();
                    ledger = store.open();
                }
                _ => {}
            }
        }
        let last = back_up(&ledger, &files).await;
        moments.push((Moment::Newest, look(&ledger).await));
        // A restore takes a while on a disk.
        let step = if store.restores_are_slow() { 7 } else { 2 };
        for (to, expected) in moments.into_iter().rev().step_by(step) {
            let (restored, report) = store.restore(wanted(&files, to)).await.unwrap();
            let copy = restored.open();
            assert_eq!(look(&copy).await, expected, "seed {seed}, {to:?}");
            assert_sound(&copy).await;
            assert!(report.at.number <= last.last.number);
            // The copy goes on by itself, with numbers that nobody has seen, and is backed up anew.
            let id = copy.mint_own_id(TENANT);
            let at = put(&copy, PATIENT, &id, &id, Expected::Absent, "new", &[]).await;
            assert!(at.number > last.last.number, "{to:?}");
            // In the same place, where the lost future lies as well: the new chain is the newest.
            store.clock().advance(1);
            let same = files.copy();
            let again = back_up(&copy, &same).await;
            assert_eq!(again.backup, 1);
            if !store.restores_are_slow() {
                let (_, report) = store.restore(wanted(&same, Moment::Newest)).await.unwrap();
                assert_eq!(report.chain, again.chain);
            }
            copy.close().await.unwrap();
        }
        let beyond = Moment::Number(Number(last.last.number.0 + 1));
        let outcome = store.restore(wanted(&files, beyond)).await;
        assert!(matches!(outcome.err(), Some(LedgerError::NoSuchMoment(_))));
        let before = Moment::Time(first.first.unix_ms - 1);
        let outcome = store.restore(wanted(&files, before)).await;
        assert!(matches!(outcome.err(), Some(LedgerError::NoSuchMoment(_))));
        ledger.close().await.unwrap();
    }
}

// Proves: 45 CFR 164.310(d)(2)(i)
pub(crate) async fn a_shredded_patient_stays_shredded(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    for patient in ["p", "q"] {
        put(
            &ledger,
            PATIENT,
            patient,
            patient,
            Expected::Absent,
            "one",
            &[],
        )
        .await;
    }
    let before = back_up(&ledger, &files).await.last.number;
    put(&ledger, PATIENT, "r", "r", Expected::Absent, "one", &[]).await;
    back_up(&ledger, &files).await;
    // Somebody carries a copy away.
    let old = files.copy();
    for patient in ["p", "r"] {
        ledger
            .destroy_patient_key(TENANT, patient, audit(&ledger, Shard(0)))
            .await
            .unwrap();
    }
    let list = ledger.shred_list().unwrap();
    back_up(&ledger, &files).await;
    let is_destroyed =
        async |copy: &Ledger, patient: &str| match copy.get(TENANT, PATIENT, patient).await {
            Err(LedgerError::KeyDestroyed) => true,
            Ok(Some(_)) => false,
            other => panic!("{other:?}"),
        };
    // The backup knows it, also when an earlier moment is restored.
    for to in [Moment::Newest, Moment::Number(before)] {
        let (restored, report) = store.restore(wanted(&files, to)).await.unwrap();
        assert_eq!(report.destroyed_keys, 2);
        let copy = restored.open();
        assert!(is_destroyed(&copy, "p").await && !is_destroyed(&copy, "q").await);
        // Nobody by that name gets a new key, at any moment.
        for patient in ["p", "r"] {
            let again = draft(
                &copy,
                OBSERVATION,
                patient,
                of(patient),
                Expected::Absent,
                "x",
                &[],
            );
            let outcome = copy.commit(commit_of(&copy, vec![again])).await;
            assert!(
                matches!(outcome, Err(LedgerError::KeyDestroyed)),
                "{outcome:?}"
            );
        }
    }
    // The copy does not, but for the list.
    let (restored, _) = store.restore(wanted(&old, Moment::Newest)).await.unwrap();
    assert!(!is_destroyed(&restored.open(), "p").await);
    let with_list = Wanted {
        shred_lists: vec![list.clone()],
        ..wanted(&old, Moment::Newest)
    };
    let (restored, _) = store.restore(with_list).await.unwrap();
    let copy = restored.open();
    assert!(is_destroyed(&copy, "p").await && is_destroyed(&copy, "r").await);
    assert!(!is_destroyed(&copy, "q").await);
    // A list that was changed destroys nobody, and is not passed over.
    for position in [0, 1, 20, list.len() - 1] {
        let mut changed = list.clone();
        changed[position] ^= 1;
        let with_list = Wanted {
            shred_lists: vec![changed],
            ..wanted(&old, Moment::Newest)
        };
        let outcome = store.restore(with_list).await;
        assert!(
            matches!(outcome.err(), Some(LedgerError::Damaged(_))),
            "{position}"
        );
    }
    ledger.close().await.unwrap();
}

// Proves: 45 CFR 164.308(a)(7)(ii)(A), 164.312(c)(2)
pub(crate) async fn changed_backups_are_refused(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    let mut history = History::default();
    let mut draw = Draw(7);
    for _ in 0..2 {
        for _ in 0..4 {
            history.go_on(&ledger, &mut draw).await;
        }
        back_up(&ledger, &files).await;
    }
    let names: Vec<String> = files.all().into_keys().collect();
    assert!(
        names.iter().any(|name| name.ends_with(".keys")),
        "{names:?}"
    );
    let refused = async |change: &dyn Fn(&mut Vec<u8>), name: &str, how: &str| {
        let changed = files.copy();
        change(changed.files.lock().unwrap().get_mut(name).unwrap());
        let outcome = store.restore(wanted(&changed, Moment::Newest)).await;
        let error = outcome
            .err()
            .unwrap_or_else(|| panic!("{name}, {how}, was restored"));
        assert!(
            // Which store it is stands in the clear beside the key that proves it.
            matches!(error, LedgerError::Damaged(_) | LedgerError::RootKey(_))
                || name == "metas" && error.to_string().contains("this program"),
            "{name}, {how}: {error}"
        );
    };
    for name in &names {
        let length = files.all()[name].len();
        let mut positions = vec![length / 2];
        if !store.restores_are_slow() {
            positions.extend([0, length / 3, length - 2]);
            refused(&|bytes| bytes.truncate(length / 2), name, "cut").await;
            refused(&|bytes| bytes.clear(), name, "emptied").await;
        }
        for position in positions {
            let change = |bytes: &mut Vec<u8>| bytes[position] ^= 1;
            refused(&change, name, &format!("byte {position}")).await;
        }
        let without = files.copy();
        without.files.lock().unwrap().remove(name);
        let outcome = store.restore(wanted(&without, Moment::Newest)).await;
        match outcome.err() {
            Some(LedgerError::Damaged(_)) => {}
            // Without its manifest there is no chain.
            Some(LedgerError::NoSuchMoment(_)) if name.ends_with(".manifest") => {}
            other => panic!("{name} is missing: {other:?}"),
        }
    }
    // Nobody's backups are mixed with another store's.
    let target = Arc::new(Files::default()) as Arc<dyn BackupTarget>;
    target.put("0000.manifest", b"{}").unwrap();
    let outcome = ledger.backup(target, false, |_| {}).await;
    assert!(
        matches!(outcome, Err(LedgerError::Damaged(_))),
        "{outcome:?}"
    );
    ledger.close().await.unwrap();
}

// Proves: 45 CFR 164.308(a)(7)(ii)(A)
pub(crate) async fn interrupted_backups_can_be_run_again(store: &dyn Store) {
    let mut ledger = ready(store).await;
    let files = Arc::new(Files::default());
    let mut history = History::default();
    let mut draw = Draw(11);
    history.go_on(&ledger, &mut draw).await;
    back_up(&ledger, &files).await;
    let mut complete = look(&ledger).await;
    let mut writes = 0;
    loop {
        history.go_on(&ledger, &mut draw).await;
        let now = look(&ledger).await;
        files.fail_after(writes);
        let target = Arc::clone(&files) as Arc<dyn BackupTarget>;
        let outcome = ledger.backup(target, false, |_| {}).await;
        files.work_again();
        if outcome.is_ok() {
            break;
        }
        assert!(
            matches!(outcome, Err(LedgerError::Storage(_))),
            "{outcome:?}"
        );
        // The one before is as good as it was.
        let (restored, _) = store.restore(wanted(&files, Moment::Newest)).await.unwrap();
        assert_eq!(look(&restored.open()).await, complete, "{writes} writes");
        if writes % 2 == 0 {
            ledger.close().await.unwrap();
            ledger = store.open();
        }
        let report = back_up(&ledger, &files).await;
        assert!(report.backup > 1, "it goes on from the last one");
        complete = now;
        writes += 1;
    }
    assert!(writes > 3, "{writes}");
    ledger.close().await.unwrap();
}

pub(crate) async fn a_backup_that_nobody_waits_for_ends(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    put(&ledger, PATIENT, "p", "p", Expected::Absent, "one", &[]).await;
    back_up(&ledger, &files).await;
    put(&ledger, PATIENT, "q", "q", Expected::Absent, "one", &[]).await;
    files.set(Gate::Closed);
    let cut_off = {
        let (ledger, files) = (ledger.clone(), Arc::clone(&files));
        tokio::spawn(async move { back_up(&ledger, &files).await })
    };
    files.somebody_waits().await;
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    // It has not ended yet, so there is no other beside it.
    let again = async || {
        let target = Arc::clone(&files) as Arc<dyn BackupTarget>;
        ledger.backup(target, false, |_| {}).await
    };
    let outcome = again().await;
    assert!(
        matches!(outcome, Err(LedgerError::Invalid(why)) if why.contains("is running")),
        "{outcome:?}"
    );
    files.set(Gate::Open);
    let report = loop {
        match again().await {
            Err(LedgerError::Invalid(_)) => tokio::task::yield_now().await,
            outcome => break outcome.unwrap(),
        }
    };
    // What was cut off has become no backup.
    assert_eq!(report.backup, 2);
    let (restored, _) = store.restore(wanted(&files, Moment::Newest)).await.unwrap();
    let copy = restored.open();
    assert!(copy.get(TENANT, PATIENT, "q").await.unwrap().is_some());
    copy.close().await.unwrap();
    ledger.close().await.unwrap();
}

// Proves: 45 CFR 164.310(d)(2)(i)
pub(crate) async fn destroyed_keys_go_from_the_files_of_others(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    for patient in ["p", "q"] {
        put(
            &ledger,
            PATIENT,
            patient,
            patient,
            Expected::Absent,
            "x",
            &[],
        )
        .await;
    }
    back_up(&ledger, &files).await;
    // Another store that goes on from here, and is backed up to the same place.
    let (restored, _) = store.restore(wanted(&files, Moment::Newest)).await.unwrap();
    let copy = restored.open();
    files.set(Gate::Closed);
    let overlapping = {
        let (ledger, files) = (ledger.clone(), Arc::clone(&files));
        let target = files as Arc<dyn BackupTarget>;
        tokio::spawn(async move { ledger.backup(target, true, |_| {}).await })
    };
    files.somebody_waits().await;
    let record = audit(&copy, Shard(0));
    (copy.destroy_patient_key(TENANT, "p", record))
        .await
        .unwrap();
    back_up(&copy, &files).await;
    // What the other has read before is written only now.
    files.set(Gate::Open);
    overlapping.await.unwrap().unwrap();
    let keys = |files: &Files| -> Vec<(String, usize)> {
        let all = files.all().into_iter();
        let keys = all.filter(|(name, _)| name.ends_with(".keys"));
        keys.map(|(name, bytes)| (name, bytes.len())).collect()
    };
    let left = keys(&files);
    assert_eq!(left.len(), 3, "{left:?}");
    // A row of a key takes some 80 bytes.
    assert!(left.iter().all(|(_, length)| *length < 150), "{left:?}");
    // A file that comes back from somewhere is looked at again, though the list knows all of it.
    let name = left[0].0.clone();
    let old = Arc::new(Files::default());
    back_up(&ledger, &old).await;
    let with_both = old
        .all()
        .into_iter()
        .find(|(name, _)| name.ends_with(".keys"));
    let (from, bytes) = with_both.unwrap();
    assert!(bytes.len() > 150);
    files.put(&from, &bytes).unwrap();
    back_up(&copy, &files).await;
    assert!(
        keys(&files).iter().all(|(_, length)| *length < 150),
        "{name}"
    );
    copy.close().await.unwrap();
    ledger.close().await.unwrap();
}

pub(crate) async fn old_chains_are_pruned(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    let mut chains = Vec::new();
    for round in 0..4 {
        let id = format!("p{round}");
        put(&ledger, PATIENT, &id, &id, Expected::Absent, "x", &[]).await;
        store.clock().advance(1);
        let target = Arc::clone(&files) as Arc<dyn BackupTarget>;
        let report = ledger.backup(target, true, |_| {}).await.unwrap();
        chains.push(report.chain);
        put(&ledger, OBSERVATION, &id, &id, Expected::Absent, "x", &[]).await;
        store.clock().advance(1);
        back_up(&ledger, &files).await;
    }
    // What a try leaves behind that fails.
    put(&ledger, PATIENT, "last", "last", Expected::Absent, "x", &[]).await;
    files.fail_after(2);
    let target = Arc::clone(&files) as Arc<dyn BackupTarget>;
    ledger.backup(target, true, |_| {}).await.unwrap_err();
    files.work_again();
    files.put("somebody-elses.keys", b"x").unwrap();
    let other = files.all();
    let prune = async |keep| {
        let target = Arc::clone(&files) as Arc<dyn BackupTarget>;
        ledger.prune_backups(target, keep).await
    };
    assert!(matches!(prune(0).await, Err(LedgerError::Invalid(_))));
    files.remove("somebody-elses.keys").unwrap();
    let pruned = prune(2).await.unwrap();
    assert_eq!(pruned.chains, chains[..2]);
    let left = files.all();
    assert_eq!(left.len() as u64 + pruned.files, other.len() as u64 - 1);
    for name in left.keys() {
        let of_kept = chains[2..]
            .iter()
            .any(|chain| name.starts_with(chain.as_str()));
        assert!(
            of_kept || ["metas", "shred-list"].contains(&name.as_str()),
            "{name}"
        );
    }
    // The chains that are kept are whole, and the newest goes on.
    assert_eq!(prune(2).await.unwrap().files, 0);
    let report = back_up(&ledger, &files).await;
    assert_eq!((&report.chain, report.backup), (&chains[3], 3));
    let (restored, _) = store.restore(wanted(&files, Moment::Newest)).await.unwrap();
    let copy = restored.open();
    assert!(copy.get(TENANT, PATIENT, "last").await.unwrap().is_some());
    copy.close().await.unwrap();
    ledger.close().await.unwrap();
}

// Proves: 45 CFR 164.308(a)(7)(ii)(B)
pub(crate) async fn a_restored_outbox_is_held(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    let key = |id| OutboxKey {
        shard: Shard(1),
        due_ms: 5,
        id: [id; 16],
    };
    let entry = |id| Commit {
        outbox_add: vec![OutboxDraft {
            key: key(id),
            owner: of("p"),
            channel: 4,
            attempt: 0,
            body: b"message".to_vec(),
        }],
        ..Commit::new(TENANT)
    };
    ledger.commit(entry(1)).await.unwrap();
    ledger.commit(entry(2)).await.unwrap();
    back_up(&ledger, &files).await;
    let held = Wanted {
        release_outbox: false,
        ..wanted(&files, Moment::Newest)
    };
    let (restored, report) = store.restore(held).await.unwrap();
    assert!(report.outbox_held && report.outbox == 2);
    let copy = restored.open();
    assert!(copy.outbox_is_held());
    // Neither what was there nor what comes leaves, also after reopening.
    copy.commit(entry(3)).await.unwrap();
    assert!(copy.outbox_due(4, 9, 9).await.unwrap().is_empty());
    copy.close().await.unwrap();
    let copy = restored.open();
    assert!(copy.outbox_due(4, 9, 9).await.unwrap().is_empty());
    let keys: Vec<_> = copy.outbox_keys(None, 9).await.unwrap();
    assert_eq!(keys, [(key(1), 4), (key(2), 4), (key(3), 4)]);
    let rest = copy.outbox_keys(Some(key(1)), 1).await.unwrap();
    assert_eq!(rest, [(key(2), 4)]);
    // What was sent is taken out; the rest goes.
    copy.discard_outbox(vec![key(1)]).await.unwrap();
    copy.release_outbox().await.unwrap();
    assert!(!copy.outbox_is_held());
    let due = copy.outbox_due(4, 9, 9).await.unwrap();
    assert_eq!(
        due.iter().map(|entry| entry.key).collect::<Vec<_>>(),
        [key(2), key(3)]
    );
    copy.close().await.unwrap();
    assert!(!restored.open().outbox_is_held());
    ledger.close().await.unwrap();
}
