//! Which versions of patients' places in journeys are in the books already.
//!
//! A process counts what it commits itself at once, because the next event may be for somebody who
//! has just been started; what other processes commit it learns from the feed. Each version is
//! counted once, whichever way it is heard of first.

use ledger::{Hit, Number, SHARDS, Shard};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places of a shard's resources that are remembered.
const WRITTEN_MAX: usize = 4096;

/// What is known of each shard.
pub(crate) struct Learnt(Vec<Mutex<OfShard>>);

#[derive(Default)]
struct OfShard {
    /// Events up to here are in the books.
    to: Number,
    /// Versions that are counted, or about to be, before their event was read.
    ahead: HashMap<(String, u32), Version>,
    /// Where those of them lie that this process has committed: their events need not be read.
    own: HashMap<Number, (String, u32)>,
    /// Where resources lie that a move of this process has written and that mean nothing to a journey, read or not.
    written: HashSet<Number>,
    /// Instances that were read from the store with more than the events up to `to` tell: all versions up
    /// to this one are counted.
    found: HashMap<String, u32>,
    /// Events since the counts were kept.
    events: u32,
}

#[derive(Default)]
struct Version {
    /// Commits under way that would make this version; at most one of them can.
    under_way: u32,
    counted: bool,
    /// Where the event says that it lies, if it has been read.
    event: Option<Hit>,
}

impl Learnt {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    fn shard(&self, shard: Shard) -> MutexGuard<'_, OfShard> {
        // What is behind these locks is changed in single steps, so a panic elsewhere leaves it whole.
        self.0[usize::from(shard.0)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where a shard's events are in the books.
    pub(crate) fn to(&self, shard: Shard) -> Number {
        self.shard(shard).to
    }

    /// Events up to here are in the books now.
    pub(crate) fn reached(&self, shard: Shard, to: Number) {
        let mut known = self.shard(shard);
        known.to = known.to.max(to);
    }

    /// An event of a shard was read that counts as one since the counts were kept.
    pub(crate) fn has_read(&self, shard: Shard) {
        let mut known = self.shard(shard);
        known.events = known.events.saturating_add(1);
    }

    /// Calls with the place up to which a shard's events are in the books, and how many were read since
    /// the counts were kept, if nothing besides these events is in the books, or on its way there. As long
    /// as it is called nothing sets out.
    pub(crate) fn settled<T>(
        &self,
        shard: Shard,
        then: impl FnOnce(Number, u32) -> Option<T>,
    ) -> Option<T> {
        let known = self.shard(shard);
        if known.ahead.is_empty() && known.found.is_empty() {
            then(known.to, known.events)
        } else {
            None
        }
    }

    /// The counts of a shard were kept.
    pub(crate) fn kept(&self, shard: Shard) {
        self.shard(shard).events = 0;
    }

    /// A version that was read from the store and counted, wherever its event is.
    pub(crate) fn found(&self, instance: &str, version: u32, at: Hit) {
        let mut known = self.shard(at.shard);
        if at.number > known.to {
            known.found.insert(instance.to_owned(), version);
        }
    }

    /// A commit that makes a version is about to go out.
    pub(crate) fn begin(&self, shard: Shard, instance: &str, version: u32) {
        let mut known = self.shard(shard);
        let key = (instance.to_owned(), version);
        known.ahead.entry(key).or_default().under_way += 1;
    }

    /// The outcome of such a commit; when it went through, it is counted, and lies at `place` where that is known.
    /// Says where the version lies if it has to be counted after all: its event was read and passed over, and nobody
    /// counts it.
    pub(crate) fn end(
        &self,
        shard: Shard,
        instance: &str,
        version: u32,
        counted: bool,
        place: Option<Hit>,
    ) -> Option<Hit> {
        let mut known = self.shard(shard);
        let key = (instance.to_owned(), version);
        let one = known.ahead.get_mut(&key)?;
        one.under_way = one.under_way.saturating_sub(1);
        one.counted |= counted;
        let own = place.filter(|_| counted && one.event.is_none());
        if one.under_way > 0 || one.counted && one.event.is_none() {
            if let Some(at) = own {
                known.own.insert(at.number, key);
            }
            return None;
        }
        let one = known.ahead.remove(&key)?;
        one.event.filter(|_| !one.counted)
    }

    /// Takes in the event of a version that this process has committed and knows of. False where it has to be
    /// read to tell what it is of.
    pub(crate) fn is_own(&self, at: Hit) -> bool {
        let own = self.shard(at.shard).own.remove(&at.number);
        own.is_some_and(|(instance, version)| !self.heard(&instance, version, at))
    }

    /// A resource that a move of this process has written, by which others steer a journey and the move itself doesn't.
    pub(crate) fn wrote(&self, at: Hit) {
        let mut known = self.shard(at.shard);
        if known.written.len() >= WRITTEN_MAX {
            // What is forgotten is opened, and means nothing then.
            known.written.clear();
        }
        known.written.insert(at.number);
    }

    /// Takes in the event of such a resource; false where it has to be opened to tell.
    pub(crate) fn has_written(&self, at: Hit) -> bool {
        self.shard(at.shard).written.remove(&at.number)
    }

    /// The event of a version was read; whether whoever read it has to count it.
    pub(crate) fn heard(&self, instance: &str, version: u32, at: Hit) -> bool {
        let mut known = self.shard(at.shard);
        if let Some(found) = known.found.get(instance).copied() {
            if version >= found {
                known.found.remove(instance);
            }
            if version <= found {
                return false;
            }
        }
        let key = (instance.to_owned(), version);
        let Some(one) = known.ahead.get_mut(&key) else {
            return true;
        };
        if one.under_way == 0 {
            known.ahead.remove(&key);
        } else {
            one.event = Some(at);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Hit = Hit {
        number: Number(7),
        shard: Shard(3),
    };

    #[test]
    fn what_a_move_wrote_is_known_once_where_it_lies() {
        let learnt = Learnt::new();
        let other = |number, shard| Hit {
            number: Number(number),
            shard: Shard(shard),
        };
        learnt.wrote(AT);
        assert!(!learnt.has_written(other(8, 3)), "another place");
        assert!(!learnt.has_written(other(7, 4)), "another shard");
        assert!(learnt.has_written(AT));
        assert!(!learnt.has_written(AT), "it is not kept");
        // Nobody follows the shard: no more is remembered than a bound.
        for number in 0..2 * WRITTEN_MAX as u64 {
            learnt.wrote(other(number, 3));
        }
        assert!(learnt.shard(AT.shard).written.len() <= WRITTEN_MAX);
    }

    /// Every order in which a commit, its rival and the event can come.
    #[test]
    fn each_version_is_counted_once() {
        // What others commit.
        let learnt = Learnt::new();
        assert!(learnt.heard("i", 1, AT));
        // Committed, then read.
        learnt.begin(AT.shard, "i", 2);
        assert_eq!(learnt.end(AT.shard, "i", 2, true, None), None);
        assert!(!learnt.heard("i", 2, AT));
        // Read before the commit's answer came.
        learnt.begin(AT.shard, "i", 3);
        assert!(!learnt.heard("i", 3, AT));
        assert_eq!(learnt.end(AT.shard, "i", 3, true, None), None);
        // A commit that failed, while another process made this version.
        learnt.begin(AT.shard, "i", 4);
        assert!(!learnt.heard("i", 4, AT));
        assert_eq!(learnt.end(AT.shard, "i", 4, false, None), Some(AT));
        // The same, and the event came later.
        learnt.begin(AT.shard, "i", 5);
        assert_eq!(learnt.end(AT.shard, "i", 5, false, None), None);
        assert!(learnt.heard("i", 5, AT));
        // Two commits of this process, of which one goes through.
        for loser_first in [true, false] {
            for event_after in 0..3 {
                learnt.begin(AT.shard, "i", 6);
                learnt.begin(AT.shard, "i", 6);
                let mut heard = event_after == 0;
                if heard {
                    assert!(!learnt.heard("i", 6, AT));
                }
                assert_eq!(learnt.end(AT.shard, "i", 6, !loser_first, None), None);
                if event_after == 1 {
                    heard = true;
                    assert!(!learnt.heard("i", 6, AT));
                }
                assert_eq!(learnt.end(AT.shard, "i", 6, loser_first, None), None);
                if !heard {
                    assert!(!learnt.heard("i", 6, AT));
                }
            }
        }
        assert!(learnt.shard(AT.shard).ahead.is_empty());
    }

    #[test]
    fn what_this_process_committed_need_not_be_read() {
        let learnt = Learnt::new();
        learnt.begin(AT.shard, "i", 1);
        assert!(!learnt.is_own(AT));
        assert_eq!(learnt.end(AT.shard, "i", 1, true, Some(AT)), None);
        assert!(learnt.is_own(AT));
        assert!(!learnt.is_own(AT));
        assert!(learnt.heard("i", 1, AT));
        // Its event was read before the commit's answer came, or the commit failed.
        learnt.begin(AT.shard, "i", 2);
        assert!(!learnt.heard("i", 2, AT));
        assert_eq!(learnt.end(AT.shard, "i", 2, true, Some(AT)), None);
        learnt.begin(AT.shard, "i", 3);
        assert_eq!(learnt.end(AT.shard, "i", 3, false, None), None);
        assert!(!learnt.is_own(AT));
        let shard = learnt.shard(AT.shard);
        assert!(shard.ahead.is_empty() && shard.own.is_empty());
    }

    #[test]
    fn nothing_is_settled_while_something_is_on_its_way() {
        let settled = |learnt: &Learnt| learnt.settled(AT.shard, |to, events| Some((to, events)));
        let learnt = Learnt::new();
        learnt.reached(AT.shard, Number(6));
        learnt.has_read(AT.shard);
        assert_eq!(settled(&learnt), Some((Number(6), 1)));
        // A commit that is on its way, and one that is durable but whose event was not read yet.
        learnt.begin(AT.shard, "i", 1);
        assert_eq!(settled(&learnt), None);
        learnt.end(AT.shard, "i", 1, true, None);
        assert_eq!(settled(&learnt), None);
        assert!(!learnt.heard("i", 1, AT));
        assert_eq!(settled(&learnt), Some((Number(6), 1)));
        // What was read from the store with more than the events tell.
        learnt.found("i", 2, AT);
        assert_eq!(settled(&learnt), None);
        assert!(!learnt.heard("i", 2, AT));
        learnt.kept(AT.shard);
        assert_eq!(settled(&learnt), Some((Number(6), 0)));
    }

    #[test]
    fn what_was_read_from_the_store_is_not_counted_again() {
        let learnt = Learnt::new();
        learnt.reached(AT.shard, Number(6));
        learnt.found(
            "old",
            1,
            Hit {
                number: Number(6),
                ..AT
            },
        );
        learnt.found("new", 3, AT);
        assert_eq!(learnt.to(AT.shard), Number(6));
        // Nor is what came before it and after the events that were in the books.
        for version in [2, 3] {
            assert!(!learnt.heard("new", version, AT));
        }
        assert!(learnt.heard("new", 4, AT));
        assert!(learnt.shard(AT.shard).found.is_empty());
    }
}
