//! Rows that lists are made of again and again, kept opened: a version of a document never changes, so it is opened
//! and read once, however many people look at lists that it is in.
//!
//! What is kept is below the permit. Whether a row matches, and whether it may be seen by whoever asks, is decided
//! anew each time, from the whole of it. Where a permit shows a part of a type, nothing of that type is taken from
//! here. When a key is destroyed or becomes another, everything that was opened before is forgotten at once; what no
//! list has used for some minutes goes by itself.
//!
//! It is bounded in rows and in bytes of their texts, of one shelf and of all shelves of the process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fhir::Resource;
use ledger::{Clock, Hit, KeepsOpened, Ledger, TenantId};

use super::{Ahead, Sight, Vault, Versioned, open};
use crate::{TrustError, tokens};

/// The longest text of a row that is kept, in bytes. One that is longer is opened anew for each answer.
const ROW_BYTES_MAX: usize = 64 << 10;
/// Bytes of texts that one shelf keeps. In memory a row takes several times its text.
const SHELF_BYTES_MAX: usize = 32 << 20;
/// Bytes of texts that all shelves of a process keep, of however many organisations. Past it rows are opened anew.
const PROCESS_BYTES_MAX: usize = 128 << 20;
/// A row that no list uses goes after this time or twice of it, by the ledger's clock, in milliseconds.
const UNUSED_MS: u64 = 5 * 60_000;

/// What all shelves of the process keep.
static PROCESS: Budget = Budget::new(PROCESS_BYTES_MAX);

/// Bytes that may be taken, and are given back.
struct Budget {
    taken: AtomicUsize,
    most: usize,
}

impl Budget {
    const fn new(most: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
        }
    }

    /// So many bytes until what is given is dropped; nothing where there are not so many any more.
    fn take(&'static self, bytes: usize) -> Option<Share> {
        let more = |taken: usize| (taken + bytes <= self.most).then_some(taken + bytes);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.taken.fetch_update(set, fetch, more);
        // Made only where it was taken: a share gives back when it is dropped.
        taken.is_ok().then(|| Share { of: self, bytes })
    }
}

/// Bytes that were taken from a budget.
struct Share {
    of: &'static Budget,
    bytes: usize,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Rows by their version, each with what a page makes of it. What is made must tell nothing of who asked.
pub struct Shelf<T> {
    kept: Arc<Rack<T>>,
    most: Most,
    budget: &'static Budget,
    make: fn(&Resource) -> T,
    opened: AtomicU64,
    /// Whether the ledger tells it that keys are forgotten.
    is_told: AtomicBool,
}

/// What a generation holds at most.
#[derive(Clone, Copy)]
struct Most {
    rows: usize,
    bytes: usize,
}

/// A row that somebody may see, and what was made of it.
#[derive(Debug)]
pub struct Shelved<T> {
    pub(super) row: Versioned,
    made: T,
    /// What it takes of the budget, where it may be kept.
    share: Option<Share>,
}

impl<T> Shelved<T> {
    /// The resource, as a search shows it, but for labels that are told with it.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.row.resource
    }
    /// The row with its version.
    #[must_use]
    pub fn row(&self) -> &Versioned {
        &self.row
    }
    /// What the shelf made of it.
    #[must_use]
    pub fn made(&self) -> &T {
        &self.made
    }
}

type Rows<T> = HashMap<(TenantId, Hit), Arc<Shelved<T>>>;

/// Rows that may be opened, beside half as many as are in use, before those go that no list has used meanwhile.
const OPENED_MAX: usize = 256;

/// Two generations: what is used moves into the young one; when that is full, many rows were opened, or some minutes
/// are over, the old one goes.
struct Kept<T> {
    young: Rows<T>,
    /// Bytes of the texts of the young ones.
    bytes: usize,
    old: Rows<T>,
    /// Rows opened since the old one went.
    opened: usize,
    /// How often keys had been forgotten when these were opened.
    forgotten: u64,
    /// Whether something looks after what nobody uses.
    is_aging: bool,
}

impl<T> Kept<T> {
    fn get(&mut self, key: (TenantId, Hit), most: Most) -> Option<Arc<Shelved<T>>> {
        if let Some(row) = self.young.get(&key) {
            return Some(Arc::clone(row));
        }
        let row = self.old.remove(&key)?;
        self.put(key, Arc::clone(&row), most);
        Some(row)
    }

    /// Keeps a row that may be kept.
    fn put(&mut self, key: (TenantId, Hit), row: Arc<Shelved<T>>, most: Most) {
        let Some(share) = &row.share else { return };
        let bytes = share.bytes;
        if self.young.contains_key(&key) {
            return;
        }
        if self.young.len() >= most.rows || self.bytes + bytes > most.bytes {
            self.turn();
        }
        self.bytes += bytes;
        self.young.insert(key, row);
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
        (self.opened, self.bytes) = (0, 0);
    }

    /// Lets go of what was opened before keys were forgotten so many times, and gives it, to be dropped.
    fn forget(&mut self, forgotten: u64) -> Option<[Rows<T>; 2]> {
        if self.forgotten >= forgotten {
            return None;
        }
        self.forgotten = forgotten;
        (self.opened, self.bytes) = (0, 0);
        Some([&mut self.young, &mut self.old].map(std::mem::take))
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }
}

/// The rows, as the ledger and what ages them know them.
struct Rack<T>(Mutex<Kept<T>>);

fn locked<T>(kept: &Rack<T>) -> MutexGuard<'_, Kept<T>> {
    kept.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + Sync> KeepsOpened for Rack<T> {
    fn keys_forgotten(&self, times: u64) {
        // Dropped without the lock.
        let gone = locked(self).forget(times);
        drop(gone);
    }
}

/// Lets go of what no list uses, until nothing is left or the shelf is gone.
async fn age<T>(kept: Weak<Rack<T>>, clock: Arc<dyn Clock>) {
    loop {
        let until_ms = clock.now_ms().saturating_add(UNUSED_MS);
        while clock.now_ms() < until_ms {
            tokio::time::sleep(clock.real_wait(until_ms)).await;
            if kept.strong_count() == 0 {
                return;
            }
        }
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = locked(&kept);
        kept.turn();
        if kept.is_empty() {
            kept.is_aging = false;
            return;
        }
    }
}

impl<T> Shelf<T> {
    /// A shelf for so many rows at most, of 64 KiB each at most and 32 MiB of them. It is of one store.
    #[must_use]
    pub fn new(most: usize, make: fn(&Resource) -> T) -> Self {
        Self::within(most, SHELF_BYTES_MAX, &PROCESS, make)
    }

    fn within(
        rows: usize,
        bytes: usize,
        budget: &'static Budget,
        make: fn(&Resource) -> T,
    ) -> Self {
        Self {
            kept: Arc::new(Rack(Mutex::new(Kept {
                young: HashMap::new(),
                bytes: 0,
                old: HashMap::new(),
                opened: 0,
                forgotten: 0,
                is_aging: false,
            }))),
            most: Most {
                rows: (rows / 2).max(1),
                bytes: bytes / 2,
            },
            budget,
            make,
            opened: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
        }
    }

    /// How many rows have been opened for it, by which it is seen what it saves.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many rows it keeps opened now.
    #[must_use]
    pub fn kept(&self) -> usize {
        let kept = locked(&self.kept);
        kept.young.len() + kept.old.len()
    }

    /// What a row is made into that is not kept.
    pub(super) fn made(&self, row: Versioned) -> Arc<Shelved<T>> {
        let (made, share) = ((self.make)(&row.resource), None);
        Arc::new(Shelved { row, made, share })
    }

    /// The same of a row with a text of so many bytes, which may be kept if it is not too large.
    fn made_to_keep(&self, row: Versioned, bytes: usize) -> Arc<Shelved<T>> {
        let made = (self.make)(&row.resource);
        let fits = bytes <= ROW_BYTES_MAX.min(self.most.bytes);
        let share = fits.then(|| self.budget.take(bytes)).flatten();
        Arc::new(Shelved { row, made, share })
    }

    /// A list is about to be gone through: versions that are in no list any more don't stay for long, so that it holds
    /// little more than what lists are made of.
    pub(super) fn begin(&self) {
        let mut kept = locked(&self.kept);
        if kept.opened > OPENED_MAX + kept.young.len() / 2 {
            kept.turn();
        }
    }

    /// The rows, without those that were opened before a key was forgotten.
    fn lock(&self, forgotten: u64) -> MutexGuard<'_, Kept<T>> {
        let mut kept = locked(&self.kept);
        drop(kept.forget(forgotten));
        kept
    }
}

impl<T: Send + Sync + 'static> Shelf<T> {
    /// Has the ledger tell when keys are forgotten; before anything of it is kept.
    fn listen(&self, ledger: &Ledger) {
        if !self.is_told.swap(true, Ordering::AcqRel) {
            let kept: Weak<Rack<T>> = Arc::downgrade(&self.kept);
            ledger.tell_forgotten(kept);
        }
    }

    /// Keeps a row that was opened when keys had been forgotten so many times.
    fn keep(&self, ledger: &Ledger, key: (TenantId, Hit), row: Arc<Shelved<T>>, forgotten: u64) {
        let mut kept = self.lock(forgotten);
        if kept.forgotten != forgotten {
            return;
        }
        kept.opened += 1;
        kept.put(key, row, self.most);
        if !kept.is_aging && !kept.is_empty() {
            kept.is_aging = true;
            tokio::spawn(age(Arc::downgrade(&self.kept), ledger.clock()));
        }
    }
}

impl Vault {
    /// The rows at hits of a search of a view, opened; `None` for what can't be read any more or is deleted.
    pub(super) async fn shelved<T: Send + Sync + 'static>(
        &self,
        view: &Sight,
        tenant: TenantId,
        shelf: &Shelf<T>,
        hits: &[Hit],
    ) -> Result<Vec<Option<Arc<Shelved<T>>>>, TrustError> {
        shelf.listen(self.ledger());
        // In this order: what is opened from here on is opened with keys that are there now.
        let forgotten = self.ledger().keys_forgotten();
        let mut rows: Vec<Option<Arc<Shelved<T>>>> = {
            let mut kept = shelf.lock(forgotten);
            let of = |hit: &Hit| kept.get((tenant, *hit), shelf.most);
            hits.iter().map(of).collect()
        };
        self.confirm(view, tenant, &mut rows).await?;
        let missing = rows.iter().zip(hits).enumerate();
        let missing: Vec<(usize, Hit)> = missing
            .filter(|(_, (row, _))| row.is_none())
            .map(|(place, (_, hit))| (place, *hit))
            .collect();
        let places: Vec<Hit> = missing.iter().map(|(_, hit)| *hit).collect();
        let mut ahead = Ahead::default();
        for (number, (place, hit)) in missing.into_iter().enumerate() {
            if number.is_multiple_of(OPENED_A_TURN) {
                tokio::task::yield_now().await;
            }
            let stored = ahead.first_of(view, tenant, &places[number..]).await?;
            let Some(stored) = stored.filter(|stored| !stored.deleted) else {
                continue;
            };
            shelf.opened.fetch_add(1, Ordering::Relaxed);
            let row = shelf.made_to_keep(open(&stored)?, stored.body.len());
            // One of a key that was forgotten meanwhile is for this answer alone, as if it had been given before.
            if self.ledger().keys_forgotten() == forgotten {
                shelf.keep(self.ledger(), (tenant, hit), Arc::clone(&row), forgotten);
            }
            rows[place] = Some(row);
        }
        Ok(rows)
    }

    /// Leaves those rows that the store still calls the newest versions of their documents; where others write to it,
    /// an index alone is not believed. Which of the others are there, opening them says.
    async fn confirm<T>(
        &self,
        view: &Sight,
        tenant: TenantId,
        rows: &mut [Option<Arc<Shelved<T>>>],
    ) -> Result<(), TrustError> {
        if view.answers_in_place() {
            return Ok(());
        }
        let names: Vec<_> = rows
            .iter()
            .flatten()
            .map(|kept| {
                let resource = &kept.row.resource;
                let kind = tokens::kind(resource.kind());
                (kind, resource.id().unwrap_or_default(), kept.row.at)
            })
            .collect();
        let mut newest = view.are_newest(tenant, &names).await?.into_iter();
        for row in rows.iter_mut().filter(|row| row.is_some()) {
            if newest.next() != Some(true) {
                *row = None;
            }
        }
        Ok(())
    }
}

/// Rows opened before other tasks get their turn: about a millisecond.
const OPENED_A_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use fhir::ResourceType;
    use ledger::{Number, Shard};

    use super::*;

    /// It never holds more than it is for, and what is used stays.
    #[test]
    fn a_shelf_keeps_what_is_used() {
        let shelf = Shelf::new(4, |resource| resource.id().map(str::to_owned));
        let tenant = TenantId(1);
        let at = |number| Hit {
            number: Number(number),
            shard: Shard(0),
        };
        let put = |number| {
            let resource = Resource::new(ResourceType::Task);
            let row = shelf.made_to_keep(Versioned::new(resource, 1, at(number), false), 9);
            shelf.lock(0).put((tenant, at(number)), row, shelf.most);
        };
        let has = |number| {
            shelf
                .lock(0)
                .get((tenant, at(number)), shelf.most)
                .is_some()
        };
        for number in 1..=20 {
            put(number);
            assert!(has(1), "{number}");
            let kept = shelf.lock(0);
            assert!(kept.young.len() + kept.old.len() <= 4);
        }
        assert!(has(20) && !has(10));
        // What no list has used for as long as many others were opened goes.
        let busy = Shelf::new(10_000, |_| ());
        for number in 1..=10_000 {
            busy.begin();
            let resource = Resource::new(ResourceType::Task);
            let row = busy.made_to_keep(Versioned::new(resource, 1, at(number), false), 9);
            let mut kept = busy.lock(0);
            kept.opened += 1;
            kept.put((tenant, at(number)), row, busy.most);
            assert!(kept.get((tenant, at(1)), busy.most).is_some());
            assert!(kept.young.len() + kept.old.len() < 4 * OPENED_MAX + 8);
        }
        // Another tenant's row of the same place is another.
        let other = shelf.lock(0).get((TenantId(2), at(20)), shelf.most);
        assert!(other.is_none());
        // A key was forgotten.
        drop(shelf.lock(1));
        assert!(!has(1) && !has(20));
    }

    /// It never holds more bytes than it is for, nor do all shelves together, and what is too large is not kept.
    #[test]
    fn a_shelf_is_bounded_in_bytes() {
        static SMALL: Budget = Budget::new(1_000);
        let of = |number, bytes, shelf: &Shelf<()>| {
            let at = Hit {
                number: Number(number),
                shard: Shard(0),
            };
            let resource = Resource::new(ResourceType::Task);
            let row = shelf.made_to_keep(Versioned::new(resource, 1, at, false), bytes);
            shelf.lock(0).put((TenantId(1), at), row, shelf.most);
        };
        let taken = || SMALL.taken.load(Ordering::Relaxed);
        let one = Shelf::within(1_000, 400, &SMALL, |_| ());
        for number in 1..=100 {
            of(number, 90, &one);
            assert!(one.kept() <= 4 && taken() <= 400, "{number}");
            assert_eq!(taken(), one.kept() * 90);
        }
        // The same row again is counted once.
        let (before, bytes) = (one.kept(), locked(&one.kept).bytes);
        of(100, 90, &one);
        assert_eq!((one.kept(), locked(&one.kept).bytes), (before, bytes));
        // Larger than a half.
        of(101, 201, &one);
        assert_eq!(one.kept(), before);
        // Another gets what is left.
        let other = Shelf::within(1_000, 4_000, &SMALL, |_| ());
        for number in 1..=100 {
            of(number, 90, &other);
            assert!(taken() <= 1_000);
        }
        assert_eq!(other.kept(), (1_000 - before * 90) / 90);
        drop(other);
        assert_eq!(taken(), before * 90);
        one.kept.keys_forgotten(1);
        assert_eq!((one.kept(), taken()), (0, 0));
        let large = Shelf::new(1_000, |_| ());
        of(1, ROW_BYTES_MAX + 1, &large);
        assert_eq!(large.kept(), 0);
        of(1, ROW_BYTES_MAX, &large);
        assert_eq!(large.kept(), 1);
    }
}
