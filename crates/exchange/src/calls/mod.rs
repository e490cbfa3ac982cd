//! Calls of journeys to partners: the loop that takes due entries from the outbox.
//!
//! `attempt.rs` has what one attempt is and what becomes of it, `lawful.rs` whether it may be made, `request.rs` one
//! request and `answer.rs` what is taken from its answer, `places.rs` where partners may be. At least once, each attempt
//! under the same key. A partner that isn't there is left alone for a while, and has so many calls at once as its entry
//! in `partners.toml` lets it.

mod answer;
mod attempt;
pub(crate) mod lawful;
mod places;
mod request;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::{LedgerError, OutboxEntry, OutboxKey};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use trust::outgoing::{CHANNEL_CALL, CHANNEL_FORM, Call};
use trust::{Trust, TrustError};

use crate::breaker::{Breaker, BreakerStanding, BreakerView, Breakers, Room};
use crate::deliverer::{DeliverError, hex, next_news};
use request::Clients;

pub(crate) use places::{Public, may_be_asked};

/// The part of Cairn that the audit names.
const PART: &str = "partner-calls";
/// The channels that calls go by.
const CHANNELS: [u16; 2] = [CHANNEL_CALL, CHANNEL_FORM];
/// Calls under way at once, to all partners of a tenant together.
const PARALLEL: usize = 32;
/// The most of them to one partner: one that is slow leaves places to others.
const OF_ONE_PARTNER: usize = PARALLEL / 4;
/// Entries looked at in one look, and the most where those of one partner stand before all others'.
const LOOK: usize = 128;
const LOOK_MAX: usize = 65_536;
/// How many times as long as a look behind the first entries took, none such is taken again.
const DEEP_APART: u32 = 20;
/// How long an entry rests after a fault of ours, real time.
const REST: Duration = Duration::from_secs(5);
/// How long an entry rests for which policies refuse the part itself: they may do so all night, and the audit has each
/// time.
const REFUSED_REST: Duration = Duration::from_secs(60);
/// How long entries rest that were left to another process.
const LEFT_REST: Duration = Duration::from_secs(1);
/// The longest sleep, real time: see the mail deliverer.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Makes calls, until it is stopped.
pub struct CallDeliverer {
    inner: Arc<Inner>,
}

struct Inner {
    trust: Trust,
    clients: Clients,
    /// Partners that aren't there, by name.
    breakers: Mutex<HashMap<String, Breaker>>,
}

/// What is under way.
struct Busy {
    entry: [u8; 16],
    partner: String,
    /// The purpose that it is made for: policies may refuse one and not another.
    purpose: String,
    /// The `Task` of the call.
    task: String,
}

#[derive(Default)]
struct Round {
    tasks: JoinSet<Result<(), DeliverError>>,
    busy: HashMap<tokio::task::Id, Busy>,
    /// Entries that rest after a fault of ours.
    resting: HashMap<[u8; 16], Instant>,
    /// Entries that can't be opened or read and were said to the log.
    unreadable: HashSet<[u8; 16]>,
    /// Calls to a partner for a purpose that policies refused in a row. Each rests for itself; where it is all of
    /// them, the others are tried less and less often, and those to other partners as ever.
    refused: HashMap<(String, String), Breaker>,
    /// When it may be looked behind the first entries again.
    deep_after: Option<Instant>,
}

impl CallDeliverer {
    /// For the partners that policies of a tenant name.
    ///
    /// # Errors
    /// In words, when the TLS of this machine can't be set up.
    pub fn new(trust: Trust) -> Result<Self, String> {
        Ok(Self {
            inner: Arc::new(Inner {
                trust,
                clients: Clients::new()?,
                breakers: Mutex::default(),
            }),
        })
    }

    /// Whether partners are there, as it is known while it runs.
    #[must_use]
    pub fn breakers(&self) -> Breakers {
        let inner = Arc::clone(&self.inner);
        Breakers::new(move || inner.breakers())
    }

    /// Runs until `stop` turns true; finishes calls under way.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut news = self.inner.trust.vault().ledger().watch();
        let mut round = Round::default();
        while !*stop.borrow_and_update() {
            let latest = Instant::now() + SLEEP_MAX;
            let wake = self.inner.start_due(&mut round).await;
            let wake = wake.map_or(latest, |wake| wake.min(latest));
            // Who calls nobody need not look at what everybody writes.
            let calls = self
                .inner
                .trust
                .policy_set()
                .partners()
                .all()
                .next()
                .is_some();
            tokio::select! {
                // An error means that nobody is left who could say "stop" later.
                changed = stop.changed() => if changed.is_err() { break },
                Some(done) = round.tasks.join_next_with_id() => round.ended(done),
                closed = next_news(&mut news), if calls => if closed { break },
                () = sleep_until(wake) => {}
            }
        }
        while let Some(done) = round.tasks.join_next_with_id().await {
            round.ended(done);
        }
    }
}

impl Round {
    fn has_begun(&self, entry: [u8; 16]) -> bool {
        self.resting.contains_key(&entry) || self.busy.values().any(|busy| busy.entry == entry)
    }

    /// Calls to a partner that are under way.
    fn busy_with(&self, partner: &str) -> usize {
        let busy = self.busy.values();
        busy.filter(|busy| busy.partner == partner).count()
    }

    /// Whether what is to be taken back is still under way itself.
    fn is_under_way(&self, call: &Call) -> bool {
        let task = call.compensates.as_ref();
        task.is_some_and(|task| self.busy.values().any(|busy| busy.task == *task))
    }

    fn ended(
        &mut self,
        done: Result<(tokio::task::Id, Result<(), DeliverError>), tokio::task::JoinError>,
    ) {
        let (task, fault) = match done {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => {
                let refused = matches!(error, DeliverError::Trust(TrustError::Refused(_)));
                (task, Some((error.to_string(), refused)))
            }
            Err(error) => (error.id(), Some(("the attempt panicked".to_owned(), false))),
        };
        let Some(busy) = self.busy.remove(&task) else {
            return;
        };
        let sort = (busy.partner, busy.purpose);
        let Some((fault, refused)) = fault else {
            self.refused.remove(&sort);
            return;
        };
        let now = Instant::now();
        let mut rest = REST;
        if refused {
            rest = REFUSED_REST;
            let breaker = self.refused.entry(sort).or_insert_with(Breaker::new);
            breaker.failed(now);
        }
        tracing::error!(outbox = %hex(busy.entry), fault, "a call could not be worked on; trying again");
        self.resting.insert(busy.entry, now + rest);
    }

    /// How many calls of a sort may start, as far as policies have refused others of it.
    fn allowed(&self, sort: &(String, String), now: Instant) -> Room {
        let busy = self.busy.values();
        let of_sort = |busy: &&Busy| (&busy.partner, &busy.purpose) == (&sort.0, &sort.1);
        match self.refused.get(sort) {
            Some(breaker) => breaker.room(now, busy.filter(of_sort).count(), PARALLEL),
            None => Room::For(PARALLEL),
        }
    }

    /// What can't be opened stays where it is: a newer version, or a backup, may be able to. Its step goes on when its
    /// time is over.
    fn set_aside(&mut self, key: OutboxKey, why: &dyn std::fmt::Display) {
        if self.unreadable.insert(key.id) {
            tracing::error!(outbox = %hex(key.id), %why, "a call can't be read; it is passed over");
            metrics::counter!("partner_calls_unreadable_total").increment(1);
        }
    }
}

/// What looking through due entries came to.
#[derive(Default)]
struct Started {
    /// When something can be done next.
    wake: Option<Instant>,
    /// Whether all that are due were seen.
    is_through: bool,
}

impl Started {
    fn wakes(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

impl Inner {
    /// Starts what is due and there is room for; says when to look again if nothing happens first.
    async fn start_due(self: &Arc<Self>, round: &mut Round) -> Option<Instant> {
        let now = Instant::now();
        round.resting.retain(|_, until| *until > now);
        let mut limit = LOOK;
        loop {
            let ledger = self.trust.vault().ledger();
            let look = ledger.outbox_look(&CHANNELS, u64::MAX, limit).await;
            let entries = match look {
                Ok(look) => {
                    for (key, error) in &look.unreadable {
                        round.set_aside(*key, error);
                    }
                    look.entries
                }
                Err(error) => {
                    tracing::error!(%error, "calls to partners: the outbox can't be read");
                    return Some(now + REST);
                }
            };
            let is_full = entries.len() == limit;
            let rested = round.resting.values().min().copied();
            let started = self.start(round, entries);
            let wake = [started.wake, rested].into_iter().flatten().min();
            // Behind those of a partner that isn't there may be some of another.
            let is_enough = !is_full || started.is_through || round.busy.len() >= PARALLEL;
            if !is_enough && limit == LOOK && round.deep_after.is_some_and(|after| now < after) {
                return [wake, round.deep_after].into_iter().flatten().min();
            }
            if is_enough || limit >= LOOK_MAX {
                if limit > LOOK {
                    round.deep_after = Some(Instant::now() + now.elapsed() * DEEP_APART);
                }
                return wake;
            }
            limit *= 4;
        }
    }

    fn start(self: &Arc<Self>, round: &mut Round, entries: Vec<OutboxEntry>) -> Started {
        let clock = self.trust.vault().ledger().clock();
        let now_ms = clock.now_ms();
        let mut started = Started::default();
        for entry in entries {
            if round.has_begun(entry.key.id) {
                continue;
            }
            if entry.key.due_ms > now_ms {
                let real = clock.real_wait(entry.key.due_ms);
                let due = Instant::now() + real.clamp(Duration::from_millis(1), SLEEP_MAX);
                started.wakes(due);
                started.is_through = true;
                break;
            }
            let Ok(call) = serde_json::from_slice::<Call>(&entry.body) else {
                // A newer version may be able to read it.
                round.set_aside(entry.key, &"it is of another version");
                continue;
            };
            if round.busy.len() >= PARALLEL || round.is_under_way(&call) {
                continue;
            }
            let sort = (call.partner.clone(), call.purpose.clone());
            match round.allowed(&sort, Instant::now()) {
                Room::For(0) => continue,
                Room::For(_) => {}
                Room::NoneUntil(until) => {
                    started.wakes(until);
                    continue;
                }
            }
            // What is over asks the partner nothing, and its journey waits to hear of it.
            let is_over = now_ms > call.until_ms;
            match self.room(round, &call.partner) {
                _ if is_over => {}
                Room::For(0) => continue,
                Room::For(_) => {}
                Room::NoneUntil(until) => {
                    started.wakes(until);
                    continue;
                }
            }
            let busy = Busy {
                entry: entry.key.id,
                partner: sort.0,
                purpose: sort.1,
                task: call.task.clone(),
            };
            let inner = Arc::clone(self);
            let task = round
                .tasks
                .spawn(async move { inner.attempt(&entry, call).await });
            round.busy.insert(task.id(), busy);
        }
        started
    }

    /// How many calls to a partner may start: no partner has all places. One that isn't known is called by nobody, which the attempt finds.
    fn room(&self, round: &Round, partner: &str) -> Room {
        let set = self.trust.policy_set();
        let at_once = set.partners().get(partner).map_or(1, |known| known.at_once);
        let at_once = at_once.min(OF_ONE_PARTNER);
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = round.busy_with(partner);
        match breakers.get(partner) {
            None => Room::For(at_once.saturating_sub(busy)),
            Some(breaker) => breaker.room(Instant::now(), busy, at_once),
        }
    }

    fn breakers(&self) -> Vec<BreakerView> {
        let set = self.trust.policy_set();
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let partners = set.partners().all();
        let views = partners.map(|partner| BreakerView {
            channel: "calls",
            provider: partner.name.clone(),
            standing: breakers
                .get(&partner.name)
                .map_or(BreakerStanding::Closed, |breaker| breaker.standing(now)),
        });
        views.collect()
    }

    /// Notes whether a partner was there.
    fn saw(&self, partner: &str, was_there: bool) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if was_there {
            breakers.remove(partner);
            return;
        }
        let breaker = breakers
            .entry(partner.to_owned())
            .or_insert_with(Breaker::new);
        if let Some(pause) = breaker.failed(Instant::now()) {
            tracing::warn!(
                partner,
                pause_ms = pause.as_millis(),
                "calls pause, the partner is not there"
            );
        }
    }

    async fn attempt(&self, entry: &OutboxEntry, call: Call) -> Result<(), DeliverError> {
        // The shard stays here until the outcome is written down.
        let work = self.trust.vault().ledger().work_on(entry.key.shard);
        let outcome = self.run(entry, call).await;
        drop(work);
        match outcome {
            // It is for another process now, which finds the entry where it was.
            Err(DeliverError::Trust(TrustError::Ledger(LedgerError::Fenced(shard)))) => {
                tracing::debug!(%shard, "a call is left to the process that works on the shard now");
                // This process may not know yet that it has lost the shard.
                sleep(LEFT_REST).await;
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust::Refusal;

    /// A round in which an attempt ended like this.
    async fn after(round: &mut Round, entry: u8, partner: &str, purpose: &str, refused: bool) {
        let outcome = if refused {
            Err(DeliverError::Trust(TrustError::Refused(Refusal {
                reason: "not at night".to_owned(),
                because: Vec::new(),
            })))
        } else {
            Ok(())
        };
        let task = round.tasks.spawn(async move { outcome });
        let busy = Busy {
            entry: [entry; 16],
            partner: partner.to_owned(),
            purpose: purpose.to_owned(),
            task: format!("task-{entry}"),
        };
        round.busy.insert(task.id(), busy);
        let done = round.tasks.join_next_with_id().await;
        round.ended(done.expect("it has ended"));
    }

    #[tokio::test]
    async fn what_policies_refuse_of_one_partner_and_purpose_pauses_no_other() {
        let mut round = Round::default();
        let sort = |partner: &str, purpose: &str| (partner.to_owned(), purpose.to_owned());
        let now = Instant::now();
        after(&mut round, 1, "rides", "TREAT", true).await;
        // The call rests, and those beside it don't.
        assert!(round.has_begun([1; 16]) && !round.has_begun([2; 16]));
        assert!(round.resting[&[1; 16]] >= now + REFUSED_REST);
        assert_eq!(
            round.allowed(&sort("rides", "TREAT"), now),
            Room::For(PARALLEL)
        );
        for entry in 2..6 {
            after(&mut round, entry, "rides", "TREAT", true).await;
        }
        // All of them are refused, so they are tried less often.
        let paused = round.allowed(&sort("rides", "TREAT"), now);
        assert!(matches!(paused, Room::NoneUntil(_)), "{paused:?}");
        for (partner, purpose) in [("rides", "HPAYMT"), ("meals", "TREAT")] {
            let room = round.allowed(&sort(partner, purpose), now);
            assert_eq!(room, Room::For(PARALLEL), "{partner} {purpose}");
        }
        after(&mut round, 9, "rides", "TREAT", false).await;
        assert_eq!(
            round.allowed(&sort("rides", "TREAT"), now),
            Room::For(PARALLEL)
        );
    }
}
