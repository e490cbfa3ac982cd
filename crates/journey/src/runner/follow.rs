//! Many shards side by side, and the long wait for something to do.

use super::{
    FAULT_WAIT, FOREIGN_TIMER_WAIT, SHARDS_AT_ONCE, SLEEP_MAX, TIMERS_AT_ONCE, consumer, taken_over,
};
use crate::books::Books;
use crate::entries::BEGIN_CONSUMER;
use crate::mover::{MoveError, TIMER_CONSUMER};
use crate::segments::members::LOOK_CONSUMER;
use crate::{JourneyError, Journeys};
use ledger::{SHARDS, Shard, TenantId, Timer};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use trust::{Permit, TrustError};

impl Journeys {
    /// Works on shards side by side. Returns the moves made; shards that have to wait go back into `dirty`.
    pub(super) async fn round(
        &self,
        books: &Arc<Books>,
        permit: &Arc<Permit>,
        dirty: &mut BTreeSet<u16>,
    ) -> Result<u64, MoveError> {
        let mut work = tokio::task::JoinSet::new();
        let mut ahead: Vec<u16> = std::mem::take(dirty).into_iter().collect();
        let mut moves = 0;
        let mut fault = None;
        while !ahead.is_empty() || !work.is_empty() {
            while work.len() < SHARDS_AT_ONCE {
                let Some(shard) = ahead.pop() else { break };
                // Most shards have nothing new, and to see that needs no task.
                let ledger = self.vault().ledger();
                let head = ledger.shard_head(Shard(shard));
                if !ledger.holds(Shard(shard)) && head <= books.learnt.to(Shard(shard)) {
                    continue;
                }
                if let Ok(position) = books.positions[usize::from(shard)].try_lock()
                    && position.known
                    && position.lease == ledger.lease(Shard(shard))
                    && ledger.holds(Shard(shard))
                    && head <= position.read
                {
                    continue;
                }
                let (journeys, books, permit) = (self.clone(), books.clone(), permit.clone());
                work.spawn(async move {
                    let mut position = books.positions[usize::from(shard)].lock().await;
                    (
                        shard,
                        journeys
                            .shard(&books, &permit, Shard(shard), &mut position)
                            .await,
                    )
                });
            }
            match work.join_next().await {
                Some(Ok((_, Ok(made)))) => moves += made,
                Some(Ok((shard, Err(error)))) => {
                    dirty.insert(shard);
                    fault = fault.or(Some(error).filter(|error| !taken_over(error)));
                }
                Some(Err(_)) => {
                    // Which shard it was isn't known, so all are looked at again.
                    dirty.extend(0..SHARDS);
                    fault = Some(MoveError::Panicked);
                }
                None => {}
            }
        }
        fault.map_or(Ok(moves), Err)
    }

    /// Handles due timers, shard by shard side by side. Each shard's feed is read first, to the end that
    /// the store says it has now, so that an answer that is there already, whichever server took it, comes
    /// before the reminder for it. A fault on one shard stops no other.
    pub(super) async fn timers(
        &self,
        books: &Arc<Books>,
        permit: &Arc<Permit>,
    ) -> Result<u64, MoveError> {
        // Who is under way first: what begins now waits for nothing yet.
        let moves = self.timers_of(books, permit, TIMER_CONSUMER).await;
        // A fault in theirs keeps nobody from beginning.
        let begun = self.timers_of(books, permit, BEGIN_CONSUMER).await;
        let looked = self.timers_of(books, permit, LOOK_CONSUMER).await;
        Ok(moves? + begun? + looked?)
    }

    async fn timers_of(
        &self,
        books: &Arc<Books>,
        permit: &Arc<Permit>,
        consumer: u16,
    ) -> Result<u64, MoveError> {
        let mut moves = 0;
        loop {
            let due = self
                .vault()
                .ledger()
                .timers_due(consumer, self.now_ms(), TIMERS_AT_ONCE)
                .await
                .map_err(TrustError::from)?;
            let mut shards: HashMap<u16, Vec<Timer>> = HashMap::new();
            let ledger = self.vault().ledger();
            let ours =
                |timer: &Timer| timer.tenant == books.tenant && ledger.holds(timer.key.shard);
            for timer in due.into_iter().filter(ours) {
                shards.entry(timer.key.shard.0).or_default().push(timer);
            }
            if shards.is_empty() {
                return Ok(moves);
            }
            let mut work = tokio::task::JoinSet::new();
            let mut ahead: Vec<(u16, Vec<Timer>)> = shards.into_iter().collect();
            let (mut fault, mut left) = (None, false);
            while !ahead.is_empty() || !work.is_empty() {
                while work.len() < SHARDS_AT_ONCE {
                    let Some((shard, timers)) = ahead.pop() else {
                        break;
                    };
                    let (journeys, books, permit) = (self.clone(), books.clone(), permit.clone());
                    work.spawn(async move {
                        let mut position = books.positions[usize::from(shard)].lock().await;
                        let ledger = journeys.vault().ledger();
                        (ledger.shard_head_now(Shard(shard)).await).map_err(TrustError::from)?;
                        let first = journeys
                            .shard(&books, &permit, Shard(shard), &mut position)
                            .await?;
                        let read = position.read;
                        let then = match consumer {
                            BEGIN_CONSUMER => {
                                journeys.begin_due(&books, &permit, &timers, read).await?
                            }
                            LOOK_CONSUMER => {
                                Box::pin(journeys.look_due(&books, &permit, &timers, read)).await?
                            }
                            _ => journeys.due(&books, &permit, &timers, read).await?,
                        };
                        Ok::<u64, MoveError>(first + then)
                    });
                }
                match work.join_next().await {
                    Some(Ok(Ok(made))) => moves += made,
                    Some(Ok(Err(error))) if taken_over(&error) => left = true,
                    Some(Ok(Err(error))) => fault = Some(error),
                    Some(Err(_)) => fault = Some(MoveError::Panicked),
                    None => {}
                }
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
            if left {
                // They are another process's now; this one will know soon.
                return Ok(moves);
            }
            self.keep_counts(books, permit, false).await;
        }
    }

    /// How far the follower is behind on the shards that it holds: the age of the oldest event that it
    /// hasn't read, care clock.
    pub(crate) async fn lag_ms(&self, tenant: TenantId) -> Result<u64, JourneyError> {
        let ledger = self.vault().ledger();
        let name = consumer(tenant);
        let books = self.open_books(tenant);
        let mut oldest_ms = None;
        for shard in (0..SHARDS).map(Shard) {
            if !ledger.holds(shard) {
                continue;
            }
            let read = match books.as_ref().and_then(|books| books.read_to(shard)) {
                Some(read) => read,
                None => ledger
                    .cursor(&name, shard)
                    .await
                    .map_err(TrustError::from)?,
            };
            if ledger.shard_head(shard) <= read {
                continue;
            }
            let unread = ledger
                .events(shard, read, 1)
                .await
                .map_err(TrustError::from)?;
            let at_ms = unread.first().map(|event| event.at.number.unix_ms());
            oldest_ms = [oldest_ms, at_ms].into_iter().flatten().min();
        }
        Ok(oldest_ms.map_or(0, |at_ms| self.now_ms().saturating_sub(at_ms)))
    }

    /// Handles everything that is there now: events, timers, and what they cause.
    pub(crate) async fn drain_all(&self, tenant: TenantId) -> Result<u64, JourneyError> {
        let permit = Arc::new(self.engine_permit(tenant).await?);
        let books = self.books(tenant).await?;
        self.count_letters(&books, &permit).await?;
        let mut total = 0;
        loop {
            let mut all: BTreeSet<u16> = (0..SHARDS).collect();
            let moves =
                self.round(&books, &permit, &mut all).await? + self.timers(&books, &permit).await?;
            total += moves;
            let looked = self.look_through_all(tenant).await?;
            if moves == 0 && !looked {
                return Ok(total);
            }
        }
    }

    /// Stores where the follower stands on every shard.
    pub(super) async fn store_positions(&self, books: &Books) {
        let name = consumer(books.tenant);
        for (shard, position) in (0..SHARDS).zip(&books.positions) {
            let mut position = position.lock().await;
            if position.known
                && self.vault().ledger().holds(Shard(shard))
                && let Err(error) = self
                    .store_position(&name, books.tenant, Shard(shard), &mut position)
                    .await
            {
                // Nothing is lost: what was passed over is read again at the next start.
                tracing::warn!(shard, %error, "where the journeys stand could not be stored");
                return;
            }
        }
    }

    /// Follows feed and timers until `stop` turns true.
    pub(crate) async fn follow(
        &self,
        tenant: TenantId,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let ledger = self.vault().ledger().clone();
        // Before the first look, so that nothing falls between looking and listening.
        let mut news = ledger.watch();
        let mut dirty: BTreeSet<u16> = (0..SHARDS).collect();
        let mut counted: Option<tokio::time::Instant> = None;
        while !*stop.borrow() {
            let wait = match self.turn(tenant, &mut dirty).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "journeys stand still; trying again");
                    metrics::counter!("journey_faults_total").increment(1);
                    Some(FAULT_WAIT)
                }
            };
            // Also, and most of all, while it stands still.
            if counted.is_none_or(|counted| counted.elapsed() >= SLEEP_MAX) {
                let journeys = self.clone();
                // In a task of its own, so that a fault in it doesn't end the following.
                let done = tokio::spawn(async move { journeys.count_late(tenant).await });
                if done.await.is_err() {
                    tracing::error!(error = %MoveError::Panicked, "who is late was not counted");
                }
                counted = Some(tokio::time::Instant::now());
            }
            if !dirty.is_empty() {
                tokio::select! {
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(wait.unwrap_or(FAULT_WAIT).min(FAULT_WAIT)) => {}
                }
                continue;
            }
            let asleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait.min(SLEEP_MAX)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                () = asleep => {}
                heard = news.recv() => {
                    let mut heard = Some(heard);
                    while let Some(one) = heard.take() {
                        match one {
                            Ok(shard) => { dirty.insert(shard.0); }
                            Err(RecvError::Lagged(_)) => dirty.extend(0..SHARDS),
                            Err(RecvError::Closed) => return,
                        }
                        heard = match news.try_recv() {
                            Ok(shard) => Some(Ok(shard)),
                            Err(tokio::sync::broadcast::error::TryRecvError::Lagged(by)) => Some(Err(RecvError::Lagged(by))),
                            Err(_) => None,
                        };
                    }
                }
            }
        }
        if let Ok(books) = self.books(tenant).await {
            self.store_positions(&books).await;
            if let Ok(permit) = self.engine_permit(tenant).await {
                self.keep_counts(&books, &permit, true).await;
            }
        }
    }

    /// Does what is there to do, then says how long there is nothing.
    pub(super) async fn turn(
        &self,
        tenant: TenantId,
        dirty: &mut BTreeSet<u16>,
    ) -> Result<Option<Duration>, JourneyError> {
        let permit = Arc::new(self.engine_permit(tenant).await?);
        let books = self.books(tenant).await?;
        self.count_letters(&books, &permit).await?;
        self.round(&books, &permit, dirty).await?;
        self.timers(&books, &permit).await?;
        self.keep_counts(&books, &permit, false).await;
        let next = self
            .vault()
            .ledger()
            .next_timer_ms()
            .await
            .map_err(TrustError::from)?;
        Ok(next.map(|due_ms| {
            let wait = self.clock().real_wait(due_ms);
            if wait.is_zero() {
                FOREIGN_TIMER_WAIT
            } else {
                wait
            }
        }))
    }
}
