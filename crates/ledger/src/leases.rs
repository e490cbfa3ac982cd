//! Leases of shards, for processes that share a store.
//!
//! Each process says every half second that it is alive. Shards whose holder has not said so for
//! [`ALIVE_FOR`] are free; a process takes of the free ones until it has its share, and gives back what
//! it has above it, so that processes that come and go even out. Taking a shard raises its epoch, and a
//! commit that says that it is the holder's ([`Commit::held`]) is refused under any other epoch: that is
//! looked at under the same lock as everything else that the commit depends on. So a process that was
//! stopped in the middle of its work and goes on after another has taken over writes nothing.
//!
//! Times are the store's own; that clocks of machines differ makes no difference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Backend, Blind, SharedStore};
use crate::held::{Held, now_ms};
use crate::shared::Core;
use crate::{Commit, LedgerError, SHARDS, Shard};

/// How often a process says that it is alive and looks for free shards. A shard that is given back is
/// taken within this time.
const EVERY: Duration = Duration::from_millis(500);
/// How long a process counts as alive after it last said so: ten tries, so that a database that is
/// slow for a moment moves nothing. Half of the ten seconds within which a dead one's shards move.
pub(crate) const ALIVE_FOR: Duration = Duration::from_secs(5);
/// How much earlier than that a process takes its own leases for lost.
const MARGIN: Duration = Duration::from_millis(500);

/// How long a shard is kept that should be given back and on which something is under way that can't be
/// taken back: longer than a conversation with a mail server takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked at on closing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who holds a shard, and under which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) holder: Option<Blind>,
    pub(crate) epoch: u64,
}

/// What a process that says it is alive is told.
pub(crate) struct LeaseStanding {
    /// How many processes are alive, this one with them.
    pub(crate) alive: usize,
    /// The shards that it holds, with their epochs.
    pub(crate) held: BTreeMap<Shard, u64>,
}

/// How many shards a process should hold.
fn share(alive: usize) -> usize {
    usize::from(SHARDS).div_ceil(alive.max(1))
}

/// Shards that should be given back, and since when.
type Leaving = BTreeMap<Shard, Instant>;

/// The thread that keeps the leases.
pub(crate) struct Keeper {
    pub(crate) core: Arc<Core>,
    pub(crate) backend: Arc<dyn Backend>,
    /// Nothing is ever sent: that the sender is gone says that the ledger is closed.
    pub(crate) closed: Receiver<()>,
}

impl Keeper {
    /// Keeps leases until the ledger is closed, and then gives all back.
    pub(crate) fn run(self) {
        let Some(store) = self.backend.shared() else {
            return;
        };
        let mut is_failing = false;
        let mut leaving = Leaving::default();
        loop {
            match self.round(store, &mut leaving) {
                Ok(()) => is_failing = false,
                // Said once: a database that is away would fill the log.
                Err(error) if !is_failing => {
                    tracing::warn!(%error, "can't keep the leases of shards; trying again");
                    is_failing = true;
                }
                Err(_) => {}
            }
            #[allow(clippy::cast_precision_loss, reason = "at most 256")]
            metrics::gauge!("ledger_shards_held").set(self.core.held.count() as f64);
            if self.closed.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        let held = &self.core.held;
        held.let_go((0..SHARDS).map(Shard));
        let began = Instant::now();
        while (0..SHARDS).any(|shard| held.is_busy(Shard(shard))) && began.elapsed() < PATIENCE {
            // It goes on being alive meanwhile, so that nobody takes what it still has.
            if let Err(error) = store.stay(held.node, ALIVE_FOR) {
                tracing::debug!(%error, "can't say that this process is alive");
            }
            // Nobody wakes this thread, so that is how long it takes.
            std::thread::park_timeout(LOOK_EVERY);
        }
        if let Err(error) = store.leave(self.core.held.node) {
            tracing::warn!(%error, "the shards could not be given back; others take them in a few seconds");
        }
    }

    fn round(&self, store: &dyn SharedStore, leaving: &mut Leaving) -> Result<(), LedgerError> {
        for shard in round(&self.core.held, store, leaving, Instant::now())? {
            tracing::debug!(%shard, "works on a shard from now on");
            // Whoever follows it begins where the one before has left off.
            let _ = self.core.news.send(shard);
        }
        Ok(())
    }
}

/// Says once that this process is alive, and takes or gives back shards; gives those that it holds anew.
fn round(
    held: &Held,
    store: &dyn SharedStore,
    leaving: &mut Leaving,
    now: Instant,
) -> Result<Vec<Shard>, LedgerError> {
    let sure_for = ALIVE_FOR.saturating_sub(MARGIN).as_millis();
    let sure_until_ms = now_ms() + u64::try_from(sure_for).unwrap_or(0);
    let mut standing = store.stay(held.node, ALIVE_FOR)?;
    let share = share(standing.alive);
    let surplus: Vec<Shard> = standing.held.keys().copied().skip(share).collect();
    // What need not go any more, or has gone and is held again, has all the time when it has to go next.
    leaving.retain(|shard, _| surplus.contains(shard));
    if !surplus.is_empty() {
        held.let_go(surplus.iter().copied());
        // Nothing begins on them any more; what is under way comes to its end first.
        let may_go = |shard: &Shard| {
            let since = *leaving.entry(*shard).or_insert(now);
            !held.is_busy(*shard) || now.saturating_duration_since(since) >= PATIENCE
        };
        let (free, _): (Vec<Shard>, Vec<Shard>) = surplus.iter().copied().partition(may_go);
        store.give_back(held.node, &free)?;
        for shard in &free {
            leaving.remove(shard);
        }
        for shard in surplus {
            standing.held.remove(&shard);
        }
    } else if standing.held.len() < share {
        let wanted = share - standing.held.len();
        standing.held.extend(store.take_free(held.node, wanted)?);
    }
    Ok(held.take(&standing.held, sure_until_ms))
}

/// The leases that a commit relies on: the shard that it says to hold, and under which epoch.
pub(crate) fn relied_on(core: &Core, commit: &Commit) -> Result<Option<(Shard, u64)>, LedgerError> {
    let Some(shard) = commit.held.filter(|_| core.held.is_leasing()) else {
        return Ok(None);
    };
    match core.held.epoch(shard) {
        Some(epoch) => Ok(Some((shard, epoch))),
        None => Err(LedgerError::Fenced(shard)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backend::{Sign, Standing, Touched, Turn};

    const ME: Blind = [1; 16];
    const OTHER: Blind = [2; 16];

    /// The rows of leases, and how many processes are alive.
    #[derive(Default)]
    struct Leases {
        alive: usize,
        rows: BTreeMap<Shard, (Option<Blind>, u64)>,
    }

    impl Leases {
        fn take(&mut self, node: Blind, wanted: usize) -> BTreeMap<Shard, u64> {
            let free = self.rows.iter_mut().filter(|(_, row)| row.0.is_none());
            let taken = free.take(wanted).map(|(shard, row)| {
                *row = (Some(node), row.1 + 1);
                (*shard, row.1)
            });
            taken.collect()
        }
        fn give_back(&mut self, node: Blind) {
            let rows = self.rows.values_mut();
            rows.filter(|row| row.0 == Some(node))
                .for_each(|row| row.0 = None);
        }
        fn of(&self, node: Blind) -> BTreeMap<Shard, u64> {
            let rows = self.rows.iter().filter(|(_, row)| row.0 == Some(node));
            rows.map(|(shard, row)| (*shard, row.1)).collect()
        }
    }

    struct Fake(Mutex<Leases>);

    impl SharedStore for Fake {
        fn stay(&self, node: Blind, _: Duration) -> Result<LeaseStanding, LedgerError> {
            let leases = self.0.lock().unwrap();
            let (alive, held) = (leases.alive, leases.of(node));
            Ok(LeaseStanding { alive, held })
        }
        fn take_free(
            &self,
            node: Blind,
            wanted: usize,
        ) -> Result<BTreeMap<Shard, u64>, LedgerError> {
            Ok(self.0.lock().unwrap().take(node, wanted))
        }
        fn give_back(&self, node: Blind, shards: &[Shard]) -> Result<(), LedgerError> {
            let rows = &mut self.0.lock().unwrap().rows;
            for shard in shards {
                let row = rows.get_mut(shard).unwrap();
                assert_eq!(row.0, Some(node));
                row.0 = None;
            }
            Ok(())
        }
        fn leave(&self, node: Blind) -> Result<(), LedgerError> {
            self.0.lock().unwrap().give_back(node);
            Ok(())
        }
        // Nothing else is asked of it.
        fn lanes(&self) -> usize {
            1
        }
        fn turn(&self, _: Touched) -> Result<Box<dyn Turn>, LedgerError> {
            Err(LedgerError::Closed)
        }
        fn cover(&self, _: &mut Sign<'_>) -> Result<String, LedgerError> {
            Err(LedgerError::Closed)
        }
        fn standings(&self) -> Result<Vec<Standing>, LedgerError> {
            Err(LedgerError::Closed)
        }
        fn clock_ms(&self) -> Result<u64, LedgerError> {
            Err(LedgerError::Closed)
        }
        fn others_alive(&self, _: Blind) -> Result<usize, LedgerError> {
            Err(LedgerError::Closed)
        }
        fn is_spread(&self) -> bool {
            false
        }
        fn change_meta(&self, _: &str, _: Vec<u8>, _: Vec<u8>) -> Result<(), LedgerError> {
            Err(LedgerError::Closed)
        }
    }

    /// Each time that somebody joins, what is under way on a shard that has to go has its time.
    #[test]
    fn what_is_under_way_has_its_time_at_each_join() {
        let rows = (0..SHARDS).map(|shard| (Shard(shard), (None, 0))).collect();
        let store = Fake(Mutex::new(Leases { alive: 1, rows }));
        let held = Held::new(ME);
        held.begin();
        let mut leaving = Leaving::default();
        let mut now = Instant::now();
        // A round, so long after the one before.
        let mut keep = |later: Duration| {
            now += later;
            round(&held, &store, &mut leaving, now).unwrap()
        };
        let all = usize::from(SHARDS);
        assert_eq!(keep(EVERY).len(), all);
        let busy = Shard(200);
        let count = || store.0.lock().unwrap().of(ME).len();
        for ends_by_itself in [true, false, true] {
            held.set_under_way(busy, 1);
            store.0.lock().unwrap().alive = 2;
            keep(EVERY);
            // All of the half but the one, on which nothing may begin.
            assert_eq!((count(), held.has(busy)), (all / 2 + 1, false));
            keep(PATIENCE / 2);
            assert_eq!(count(), all / 2 + 1);
            if ends_by_itself {
                held.set_under_way(busy, 0);
                keep(EVERY);
            } else {
                keep(PATIENCE / 2);
            }
            assert_eq!(count(), all / 2);
            // The other has them, and goes; hours later it comes again.
            store.0.lock().unwrap().take(OTHER, all);
            store.leave(OTHER).unwrap();
            store.0.lock().unwrap().alive = 1;
            assert_eq!(keep(EVERY).len(), all / 2);
            assert!(held.has(busy));
            keep(100 * PATIENCE);
        }
        // One that went before anything was given back leaves nothing behind either.
        held.set_under_way(busy, 1);
        store.0.lock().unwrap().alive = 2;
        keep(EVERY);
        store.0.lock().unwrap().alive = 1;
        keep(EVERY);
        assert_eq!((count(), held.has(busy)), (all, true));
        store.0.lock().unwrap().alive = 2;
        keep(100 * PATIENCE);
        assert_eq!((count(), held.has(busy)), (all / 2 + 1, false));
    }

    #[test]
    fn shares_cover_all_shards() {
        for alive in 0..300 {
            assert!(share(alive) * alive.max(1) >= 256, "{alive}");
        }
        assert_eq!(
            (share(1), share(3), share(256), share(400)),
            (256, 86, 1, 1)
        );
    }
}
