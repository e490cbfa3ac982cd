//! Whose turn it is: while requests of several tenants are worked on, each tenant has its share of the processors,
//! and what is more of its waits. So a flood of one tenant's is in the way of itself, and not of its neighbours,
//! whose every step would otherwise stand in line behind all of it.
//!
//! A turn is one step of a request, from where it goes on to where it waits again (for the disk, for its client).
//! Who is alone takes as many at once as there are processors.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use ledger::TenantId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// For so many milliseconds after a step a tenant counts as one that is worked for.
const LASTS_MS: u64 = 3;

/// The turns of all tenants of a server.
pub(crate) struct Turns {
    processors: usize,
    began: Instant,
    /// How many tenants are worked for, and the millisecond in which they were counted.
    worked_for: AtomicUsize,
    counted_ms: AtomicU64,
    lanes: RwLock<HashMap<TenantId, Arc<Lane>>>,
}

/// The steps of one tenant.
struct Lane {
    /// One for each processor; a step takes as many as leave others their share.
    places: Arc<Semaphore>,
    /// The millisecond of the last step, and one.
    last_ms: AtomicU64,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self::of(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn of(processors: usize) -> Self {
        Self {
            processors,
            began: Instant::now(),
            worked_for: AtomicUsize::new(0),
            counted_ms: AtomicU64::new(0),
            lanes: RwLock::default(),
        }
    }

    /// The turns of one request of a tenant.
    pub(super) fn of_request(self: &Arc<Self>, tenant: TenantId) -> Turn {
        let known = {
            let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
            lanes.get(&tenant).cloned()
        };
        let lane = known.unwrap_or_else(|| {
            let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
            let lane = lanes.entry(tenant).or_insert_with(|| {
                Arc::new(Lane {
                    places: Arc::new(Semaphore::new(self.processors)),
                    last_ms: AtomicU64::new(0),
                })
            });
            Arc::clone(lane)
        });
        Turn {
            turns: Arc::clone(self),
            lane,
            waiting: None,
        }
    }

    /// How many of the places of a tenant one of its steps takes, now that it makes one.
    fn takes(&self, lane: &Lane) -> usize {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        lane.last_ms.store(now_ms, Ordering::Relaxed);
        if self.counted_ms.swap(now_ms, Ordering::Relaxed) != now_ms {
            let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
            let is_worked_for = |lane: &&Arc<Lane>| {
                let last_ms = lane.last_ms.load(Ordering::Relaxed);
                last_ms != 0 && now_ms.saturating_sub(last_ms) < LASTS_MS
            };
            let count = lanes.values().filter(is_worked_for).count();
            self.worked_for.store(count, Ordering::Relaxed);
        }
        let share = (self.processors / self.worked_for.load(Ordering::Relaxed).max(1)).max(1);
        self.processors.div_ceil(share)
    }
}

type Waiting =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// The turns of a request.
pub(super) struct Turn {
    turns: Arc<Turns>,
    lane: Arc<Lane>,
    waiting: Option<Waiting>,
}

/// A step that is being made; it is over when this is dropped.
pub(super) struct Step {
    _places: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// A step, once it is its turn; who waits is woken then.
    pub(super) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            None => {
                let takes = self.turns.takes(&self.lane);
                let takes = u32::try_from(takes).unwrap_or(u32::MAX);
                let places = Arc::clone(&self.lane.places);
                if let Ok(places) = Arc::clone(&places).try_acquire_many_owned(takes) {
                    return Poll::Ready(Step {
                        _places: Some(places),
                    });
                }
                self.waiting
                    .insert(Box::pin(places.acquire_many_owned(takes)))
            }
        };
        let places = std::task::ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(Step {
            _places: places.ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOISY: TenantId = TenantId(1);
    const QUIET: TenantId = TenantId(2);

    /// A step, if it is its turn.
    async fn step(turn: &mut Turn) -> Option<Step> {
        let step = |context: &mut Context<'_>| match turn.poll_step(context) {
            Poll::Ready(step) => Poll::Ready(Some(step)),
            Poll::Pending => Poll::Ready(None),
        };
        std::future::poll_fn(step).await
    }

    /// Waits until nobody counts as worked for any more.
    async fn rest() {
        tokio::time::sleep(Duration::from_millis(2 * LASTS_MS)).await;
    }

    // Time stands still but where it is waited for: a machine that does would make who was there before look gone.
    #[tokio::test(start_paused = true)]
    async fn who_is_alone_has_all_processors_and_two_have_half_each() {
        let turns = Arc::new(Turns::of(4));
        let mut noisy: Vec<Turn> = (0..6).map(|_| turns.of_request(NOISY)).collect();
        let mut steps = Vec::new();
        for turn in &mut noisy[..4] {
            steps.push(step(turn).await.expect("alone, none of four waits"));
        }
        assert!(step(&mut noisy[4]).await.is_none(), "there are four");
        drop(steps);
        assert!(step(&mut noisy[4]).await.is_some(), "it was its turn");
        rest().await;
        let mut quiet = turns.of_request(QUIET);
        drop(step(&mut quiet).await.expect("there is room"));
        // Counted anew in the next millisecond.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let first = step(&mut noisy[0]).await.expect("a half is two");
        let second = step(&mut noisy[1]).await.expect("a half is two");
        assert!(step(&mut noisy[2]).await.is_none());
        assert!(step(&mut quiet).await.is_some(), "the others' are not its");
        // One that gives up in line holds nobody else up.
        assert!(step(&mut noisy[3]).await.is_none());
        noisy.remove(2);
        drop(first);
        let third = step(&mut noisy[2]).await.expect("its turn");
        drop((second, third));
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_one_at_least() {
        let turns = Arc::new(Turns::of(2));
        let mut all: Vec<Turn> = (1..=5).map(|id| turns.of_request(TenantId(id))).collect();
        for turn in &mut all {
            drop(step(turn).await);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut steps = Vec::new();
        for turn in &mut all {
            steps.push(step(turn).await.expect("one each"));
        }
        let mut second = turns.of_request(TenantId(1));
        assert!(step(&mut second).await.is_none());
    }
}
