//! Rows that lists are made of again and again, kept opened: a version of a document never changes, so it is opened
//! and read once, however many people look at lists that it is in.
//!
//! What is kept is below the permit. Whether a row matches, and whether it may be seen by whoever asks, is decided
//! anew each time, from the whole of it. Where a permit shows a part of a type, nothing of that type is taken from
//! here. When a key is destroyed or becomes another, everything that was opened before is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fhir::Resource;
use ledger::{Hit, TenantId};

use super::{Ahead, Sight, Vault, Versioned, open};
use crate::{TrustError, tokens};

/// Rows by their version, each with what a page makes of it. What is made must tell nothing of who asked.
pub struct Shelf<T> {
    kept: Mutex<Kept<T>>,
    half: usize,
    make: fn(&Resource) -> T,
    opened: AtomicU64,
}

/// A row that somebody may see, and what was made of it.
#[derive(Debug)]
pub struct Shelved<T> {
    pub(super) row: Versioned,
    made: T,
}

impl<T> Shelved<T> {
    /// The resource, as a search shows it, but for labels that are told with it.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.row.resource
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

/// Two generations: what is used moves into the young one; when that is full, or many rows were opened, the old one
/// goes.
struct Kept<T> {
    young: Rows<T>,
    old: Rows<T>,
    /// Rows opened since the old one went.
    opened: usize,
    /// How often keys had been forgotten when these were opened.
    forgotten: u64,
}

impl<T> Kept<T> {
    fn get(&mut self, key: (TenantId, Hit), half: usize) -> Option<Arc<Shelved<T>>> {
        if let Some(row) = self.young.get(&key) {
            return Some(Arc::clone(row));
        }
        let row = self.old.remove(&key)?;
        self.put(key, Arc::clone(&row), half);
        Some(row)
    }

    fn put(&mut self, key: (TenantId, Hit), row: Arc<Shelved<T>>, half: usize) {
        if self.young.len() >= half {
            self.turn();
        }
        self.young.insert(key, row);
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.opened = 0;
    }
}

impl<T> Shelf<T> {
    /// A shelf for so many rows at most; a few kilobytes each.
    #[must_use]
    pub fn new(most: usize, make: fn(&Resource) -> T) -> Self {
        Self {
            kept: Mutex::new(Kept {
                young: HashMap::new(),
                old: HashMap::new(),
                opened: 0,
                forgotten: 0,
            }),
            half: (most / 2).max(1),
            make,
            opened: AtomicU64::new(0),
        }
    }

    /// How many rows have been opened for it, by which it is seen what it saves.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// What a row is made into that is not kept.
    pub(super) fn made(&self, row: Versioned) -> Arc<Shelved<T>> {
        let made = (self.make)(&row.resource);
        Arc::new(Shelved { row, made })
    }

    /// A list is about to be gone through: versions that are in no list any more don't stay for long, so that it holds
    /// little more than what lists are made of.
    pub(super) fn begin(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.opened > OPENED_MAX + kept.young.len() / 2 {
            kept.turn();
        }
    }

    /// The rows, without those that were opened before a key was forgotten.
    fn lock(&self, forgotten: u64) -> MutexGuard<'_, Kept<T>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.forgotten < forgotten {
            (kept.young, kept.old) = (HashMap::new(), HashMap::new());
            kept.forgotten = forgotten;
        }
        kept
    }
}

impl Vault {
    /// The rows at hits of a search of a view, opened; `None` for what can't be read any more or is deleted.
    pub(super) async fn shelved<T>(
        &self,
        view: &Sight,
        tenant: TenantId,
        shelf: &Shelf<T>,
        hits: &[Hit],
    ) -> Result<Vec<Option<Arc<Shelved<T>>>>, TrustError> {
        // In this order: what is opened from here on is opened with keys that are there now.
        let forgotten = self.ledger().keys_forgotten();
        let mut rows: Vec<Option<Arc<Shelved<T>>>> = {
            let mut kept = shelf.lock(forgotten);
            let of = |hit: &Hit| kept.get((tenant, *hit), shelf.half);
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
            let row = shelf.made(open(&stored)?);
            // One of a key that was forgotten meanwhile is for this answer alone, as if it had been given before.
            if self.ledger().keys_forgotten() == forgotten {
                let mut kept = shelf.lock(forgotten);
                if kept.forgotten == forgotten {
                    kept.opened += 1;
                    kept.put((tenant, hit), Arc::clone(&row), shelf.half);
                }
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
            let row = shelf.made(Versioned::new(resource, 1, at(number), false));
            shelf.lock(0).put((tenant, at(number)), row, shelf.half);
        };
        let has = |number| {
            shelf
                .lock(0)
                .get((tenant, at(number)), shelf.half)
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
            let row = busy.made(Versioned::new(resource, 1, at(number), false));
            let mut kept = busy.lock(0);
            kept.opened += 1;
            kept.put((tenant, at(number)), row, busy.half);
            assert!(kept.get((tenant, at(1)), busy.half).is_some());
            assert!(kept.young.len() + kept.old.len() < 4 * OPENED_MAX + 8);
        }
        // Another tenant's row of the same place is another.
        let other = shelf.lock(0).get((TenantId(2), at(20)), shelf.half);
        assert!(other.is_none());
        // A key was forgotten.
        drop(shelf.lock(1));
        assert!(!has(1) && !has(20));
    }
}
