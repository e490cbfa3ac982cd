//! Which shards this process works on: whose feeds it follows, whose timers it fires, whose outbox it
//! delivers. Reading and writing need no such thing.
//!
//! A process that has the store to itself, and one that has not asked for leases, looks at all
//! shards. One that has asked works on those that the store says it holds, and on none when it has not
//! been able to say for a while that it is alive: by then another may have them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::backend::Blind;
use crate::shared::Core;
use crate::{SHARDS, Shard};

/// The leases as this process knows them.
pub(crate) struct Held {
    /// This process's name among those that share the store.
    pub(crate) node: Blind,
    is_leasing: AtomicBool,
    /// The epoch under which each shard is held; zero when it isn't.
    epochs: Vec<AtomicU64>,
    /// How many things are under way on each shard that can't be taken back.
    under_way: Vec<AtomicU64>,
    /// Until when that is sure, by [`now_ms`].
    sure_until_ms: AtomicU64,
}

/// Something under way on a shard that can't be taken back: see [`crate::Ledger::work_on`].
pub struct ShardWork {
    core: Arc<Core>,
    shard: Shard,
}

impl ShardWork {
    pub(crate) fn begin(core: Arc<Core>, shard: Shard) -> Self {
        if let Some(count) = core.held.under_way.get(usize::from(shard.0)) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Self { core, shard }
    }
}

impl Drop for ShardWork {
    fn drop(&mut self) {
        if let Some(count) = self.core.held.under_way.get(usize::from(self.shard.0)) {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Milliseconds by a clock that goes on while the process is stopped and while the machine is suspended,
/// so that who is let go on again knows at once that it may have lost everything.
#[cfg(target_os = "linux")]
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1000 + nanoseconds / 1_000_000
}

/// The same where there is no such clock: by one that may stand still while the machine is suspended.
#[cfg(not(target_os = "linux"))]
pub(crate) fn now_ms() -> u64 {
    static ORIGIN: std::sync::LazyLock<tokio::time::Instant> =
        std::sync::LazyLock::new(tokio::time::Instant::now);
    u64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Held {
    pub(crate) fn new(node: Blind) -> Self {
        Self {
            node,
            is_leasing: AtomicBool::new(false),
            epochs: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            under_way: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            sure_until_ms: AtomicU64::new(0),
        }
    }

    /// From now on only leased shards are worked on. Whether it was otherwise until now.
    pub(crate) fn begin(&self) -> bool {
        !self.is_leasing.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_leasing(&self) -> bool {
        self.is_leasing.load(Ordering::Acquire)
    }

    pub(crate) fn has(&self, shard: Shard) -> bool {
        !self.is_leasing() || self.epoch(shard).is_some()
    }

    /// Whether something is under way on a shard that can't be taken back. Asked after the shard was let
    /// go: who begins something afterwards finds that it is not held.
    pub(crate) fn is_busy(&self, shard: Shard) -> bool {
        let count = self.under_way.get(usize::from(shard.0));
        count.is_some_and(|count| count.load(Ordering::SeqCst) > 0)
    }

    /// As if so much were under way on a shard.
    #[cfg(test)]
    pub(crate) fn set_under_way(&self, shard: Shard, count: u64) {
        self.under_way[usize::from(shard.0)].store(count, Ordering::SeqCst);
    }

    /// The epoch under which a shard is held; zero where all are looked at.
    pub(crate) fn lease(&self, shard: Shard) -> Option<u64> {
        if self.is_leasing() {
            self.epoch(shard)
        } else {
            Some(0)
        }
    }

    /// The epoch under which a shard is held.
    pub(crate) fn epoch(&self, shard: Shard) -> Option<u64> {
        let epoch = self.epochs.get(usize::from(shard.0))?;
        let epoch = epoch.load(Ordering::SeqCst);
        let sure = now_ms() < self.sure_until_ms.load(Ordering::Acquire);
        (epoch > 0 && sure).then_some(epoch)
    }

    /// Whether this process works on leased shards and holds none.
    pub(crate) fn has_none(&self) -> bool {
        self.is_leasing() && self.count() == 0
    }

    /// How many shards are held.
    pub(crate) fn count(&self) -> usize {
        (0..SHARDS)
            .filter(|shard| self.epoch(Shard(*shard)).is_some())
            .count()
    }

    /// Forgets some before they are given back, so that nobody begins anything on them any more.
    pub(crate) fn let_go(&self, shards: impl IntoIterator<Item = Shard>) {
        for shard in shards {
            if let Some(epoch) = self.epochs.get(usize::from(shard.0)) {
                epoch.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Takes in what the store says, sure until a moment. Gives the shards that are held anew.
    pub(crate) fn take(&self, leases: &BTreeMap<Shard, u64>, sure_until_ms: u64) -> Vec<Shard> {
        self.sure_until_ms.store(sure_until_ms, Ordering::Release);
        let mut gained = Vec::new();
        for shard in (0..SHARDS).map(Shard) {
            let now = leases.get(&shard).copied().unwrap_or(0);
            let before = self.epochs[usize::from(shard.0)].swap(now, Ordering::AcqRel);
            if now > 0 && now != before {
                gained.push(shard);
            }
        }
        gained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_until_leases_are_asked_for() {
        let held = Held::new([1; 16]);
        assert!(held.has(Shard(0)) && held.has(Shard(255)));
        assert_eq!(held.count(), 0);
        assert!(held.begin() && !held.begin());
        assert!(!held.has(Shard(0)));
    }

    #[test]
    fn held_while_it_is_sure() {
        let held = Held::new([1; 16]);
        held.begin();
        let now = now_ms();
        let leases = BTreeMap::from([(Shard(3), 7), (Shard(4), 1)]);
        let gained = held.take(&leases, now + 60_000);
        assert_eq!(gained, [Shard(3), Shard(4)]);
        assert_eq!(
            (held.epoch(Shard(3)), held.epoch(Shard(5))),
            (Some(7), None)
        );
        // Lost and had again while nobody looked: it is another lease.
        let leases = BTreeMap::from([(Shard(3), 9), (Shard(4), 1)]);
        let gained = held.take(&leases, now + 60_000);
        assert_eq!(gained, [Shard(3)]);
        held.let_go([Shard(4)]);
        assert_eq!((held.count(), held.has(Shard(4))), (1, false));
        // The time is over.
        held.take(&leases, now);
        assert_eq!((held.count(), held.has(Shard(3))), (0, false));
    }
}
