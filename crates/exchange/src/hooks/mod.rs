//! Notifications for FHIR `Subscription`s: the loop that takes due entries from the outbox.
//!
//! `attempt.rs` has what one attempt is, `post.rs` one request, `pause.rs` when to try again. At least once, each under
//! the same key; of one subscription one at a time, so that what an endpoint has of a row is never older than what it
//! had before. A subscription whose endpoint fails rests, and all of its entries with it. What is new goes before what is
//! sent again.

mod attempt;
mod pause;
mod post;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ledger::{LedgerError, OutboxEntry, Shard};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use trust::outgoing::{CHANNEL_HOOK, Cleared, Notification};
use trust::{Trust, TrustError, Unit};

use crate::deliverer::{DeliverError, hex};
use attempt::{Attempt, put_off};

/// The part of Cairn that the audit names.
const PART: &str = "subscriptions";
/// Notifications on their way at once, each of another subscription.
const PARALLEL: usize = 16;
/// Entries looked at in one look, and the most where those of one subscription stand before all others'.
const LOOK: usize = 64;
const LOOK_MAX: usize = 65_536;
/// How many times as long as a look behind the first entries took, none such is taken again.
const DEEP_APART: u32 = 20;
/// Entries that one commit puts off: their patients are named in its audit record.
const PUT_OFF_AT_ONCE: usize = 500;
/// How long an entry rests after a fault of ours, real time.
const REST: Duration = Duration::from_secs(5);
/// How long nothing is tried where policies refuse the part itself: they may do so all night, and the audit has each time.
const REFUSED_REST: Duration = Duration::from_secs(60);
/// How long entries rest that were left to another process.
const LEFT_REST: Duration = Duration::from_secs(1);
/// The longest sleep, real time: see the mail deliverer.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Delivers notifications, until it is stopped.
pub struct HookDeliverer {
    inner: Arc<Inner>,
}

struct Inner {
    trust: Trust,
    cleared: Cleared,
    http: reqwest::Client,
    /// What tells that there is something new in the outbox.
    queued: Arc<Notify>,
}

/// What came of the work on a subscription's entries.
enum Heard {
    /// The endpoint took it.
    Taken,
    /// It did not; nothing is sent before this time (care clock).
    Failed { until_ms: u64 },
    /// It was not asked.
    Nothing,
}

/// What is under way.
struct Busy {
    subscription: String,
    entries: Vec<[u8; 16]>,
}

/// How a subscription rests.
struct Rest {
    until_ms: u64,
    failures: u32,
}

#[derive(Default)]
struct Round {
    tasks: JoinSet<Result<Heard, DeliverError>>,
    busy: HashMap<tokio::task::Id, Busy>,
    /// Subscriptions whose endpoints fail.
    resting: HashMap<String, Rest>,
    /// Entries that rest after a fault of ours.
    faulty: HashMap<[u8; 16], Instant>,
    /// Entries that can't be opened and were said to the log.
    unreadable: HashSet<[u8; 16]>,
    /// Until when nothing is tried, because policies refused this part; one attempt then shows whether they still do.
    refused_until: Option<Instant>,
    /// When it may be looked behind the first entries again.
    deep_after: Option<Instant>,
}

impl HookDeliverer {
    /// For the endpoints of these origins. `queued` tells that there is something new in the outbox; what comes there
    /// without, with a shard from another server, is found within half a minute.
    ///
    /// # Errors
    /// In words, when the TLS of this machine can't be set up.
    pub fn new(trust: Trust, cleared: Cleared, queued: Arc<Notify>) -> Result<Self, String> {
        let http = post::client()?;
        Ok(Self {
            inner: Arc::new(Inner {
                trust,
                cleared,
                http,
                queued,
            }),
        })
    }

    /// Runs until `stop` turns true; finishes requests under way.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut round = Round::default();
        while !*stop.borrow_and_update() {
            let latest = Instant::now() + SLEEP_MAX;
            let wake = self.inner.start_due(&mut round).await;
            let wake = wake.map_or(latest, |wake| wake.min(latest));
            tokio::select! {
                // An error means that nobody is left who could say "stop" later.
                changed = stop.changed() => if changed.is_err() { break },
                Some(done) = round.tasks.join_next_with_id() => round.ended(done),
                () = self.inner.queued.notified() => {}
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
        self.faulty.contains_key(&entry)
            || self.busy.values().any(|busy| busy.entries.contains(&entry))
    }

    /// How many may be on their way at once.
    fn parallel(&self) -> usize {
        if self.refused_until.is_some() {
            1
        } else {
            PARALLEL
        }
    }

    fn serves(&self, subscription: &str) -> bool {
        let mut busy = self.busy.values();
        busy.any(|busy| busy.subscription == subscription)
    }

    fn ended(
        &mut self,
        done: Result<(tokio::task::Id, Result<Heard, DeliverError>), tokio::task::JoinError>,
    ) {
        let (task, heard) = match done {
            Ok((task, heard)) => {
                self.note_refusal(&heard);
                (task, heard.map_err(|error| error.to_string()))
            }
            Err(error) => (error.id(), Err("the delivery panicked".to_owned())),
        };
        let Some(busy) = self.busy.remove(&task) else {
            return;
        };
        match heard {
            Ok(Heard::Taken) => {
                self.resting.remove(&busy.subscription);
            }
            Ok(Heard::Failed { until_ms }) => {
                let rest = self.resting.entry(busy.subscription);
                let rest = rest.or_insert(Rest {
                    until_ms,
                    failures: 0,
                });
                rest.until_ms = until_ms;
                rest.failures = rest.failures.saturating_add(1);
            }
            Ok(Heard::Nothing) => {}
            Err(fault) => {
                tracing::error!(
                    subscription = busy.subscription,
                    fault,
                    "a notification could not be worked on; trying again"
                );
                let until = Instant::now() + REST;
                self.faulty
                    .extend(busy.entries.into_iter().map(|entry| (entry, until)));
            }
        }
    }

    /// Notes whether policies let this part work: what they refuse to one notification they refuse to all.
    fn note_refusal(&mut self, heard: &Result<Heard, DeliverError>) {
        match heard {
            Err(DeliverError::Trust(TrustError::Refused(_))) => {
                self.refused_until = Some(Instant::now() + REFUSED_REST);
            }
            Ok(Heard::Taken | Heard::Failed { .. } | Heard::Nothing) => self.refused_until = None,
            Err(_) => {}
        }
    }

    fn set_aside(&mut self, unreadable: &[(ledger::OutboxKey, LedgerError)]) {
        for (key, error) in unreadable {
            if self.unreadable.insert(key.id) {
                tracing::error!(outbox = %hex(key.id), %error, "a notification can't be opened; it is passed over");
                metrics::counter!("subscription_rows_unreadable_total").increment(1);
            }
        }
    }

    fn set_aside_unknown(&mut self, entry: &OutboxEntry) {
        if self.unreadable.insert(entry.key.id) {
            tracing::error!(outbox = %hex(entry.key.id), "a notification of another version is passed over");
            metrics::counter!("subscription_rows_unreadable_total").increment(1);
        }
    }
}

impl Inner {
    /// Starts what is due and there is room for; says when to look again if nothing happens first.
    async fn start_due(self: &Arc<Self>, round: &mut Round) -> Option<Instant> {
        let now = Instant::now();
        round.faulty.retain(|_, until| *until > now);
        if let Some(until) = round.refused_until.filter(|until| *until > now) {
            return Some(until);
        }
        let mut limit = LOOK;
        loop {
            let ledger = self.trust.vault().ledger();
            let entries = match ledger.outbox_look(&[CHANNEL_HOOK], u64::MAX, limit).await {
                Ok(look) => {
                    round.set_aside(&look.unreadable);
                    look.entries
                }
                Err(error) => {
                    tracing::error!(%error, "notifications: the outbox can't be read");
                    return Some(now + REST);
                }
            };
            let is_full = entries.len() == limit;
            let rested = round.faulty.values().min().copied();
            let is_too_soon = limit == LOOK && round.deep_after.is_some_and(|after| now < after);
            // Where it is looked no further, what is new is what was seen.
            let is_last = !is_full || is_too_soon || limit >= LOOK_MAX;
            let started = self.start(round, entries, is_last);
            let wake = [started.wake, rested].into_iter().flatten().min();
            // Behind those that wait for others of their subscription there may be some of another.
            let is_enough = !is_full || started.is_through || round.busy.len() >= round.parallel();
            if !is_enough && is_too_soon {
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

    /// Starts what there is room for, of each subscription what is new before what is sent again; the latter only where all
    /// that is due was seen, or it is looked no further.
    fn start(
        self: &Arc<Self>,
        round: &mut Round,
        entries: Vec<OutboxEntry>,
        is_last: bool,
    ) -> Started {
        let clock = self.trust.vault().ledger().clock();
        let now_ms = clock.now_ms();
        // What was forgotten rests again after its next failure.
        (round.resting).retain(|_, rest| now_ms < rest.until_ms.saturating_add(pause::GIVE_UP_MS));
        let mut started = Started::default();
        let mut later: BTreeMap<(Shard, String), Vec<(OutboxEntry, Notification)>> =
            BTreeMap::new();
        let mut firsts = Firsts::default();
        for entry in entries {
            if round.has_begun(entry.key.id) {
                continue;
            }
            if entry.key.due_ms > now_ms {
                let real = clock.real_wait(entry.key.due_ms);
                let due = Instant::now() + real.clamp(Duration::from_millis(1), SLEEP_MAX);
                started.wake = Some(due);
                started.is_through = true;
                break;
            }
            let Ok(notification) = serde_json::from_slice::<Notification>(&entry.body) else {
                // A newer version may be able to read it.
                round.set_aside_unknown(&entry);
                continue;
            };
            let id = notification.subscription.clone();
            let rest = round.resting.get(&id);
            if rest.is_some_and(|rest| rest.until_ms > now_ms) {
                let group = later.entry((entry.key.shard, id)).or_default();
                if group.len() < PUT_OFF_AT_ONCE {
                    group.push((entry, notification));
                }
                continue;
            }
            if round.busy.len() >= round.parallel() || round.serves(&id) {
                continue;
            }
            firsts.add(entry, notification);
        }
        let is_all = is_last || started.is_through;
        for (entry, notification) in firsts.0 {
            if round.busy.len() >= round.parallel() {
                break;
            }
            if notification.replay.is_some() && !is_all {
                continue;
            }
            let id = notification.subscription.clone();
            let failures = round.resting.get(&id).map_or(0, |rest| rest.failures);
            let entries = vec![entry.key.id];
            let inner = Arc::clone(self);
            let task = round
                .tasks
                .spawn(async move { inner.attempt(&entry, &notification, failures).await });
            let busy = Busy {
                subscription: id,
                entries,
            };
            round.busy.insert(task.id(), busy);
        }
        for ((shard, id), group) in later {
            if round.refused_until.is_some() && !round.busy.is_empty() {
                break;
            }
            // Those that are put off need no room: nobody is asked anything.
            let until_ms = round.resting.get(&id).map_or(now_ms, |rest| rest.until_ms);
            let entries = group.iter().map(|(entry, _)| entry.key.id).collect();
            let inner = Arc::clone(self);
            let task = round
                .tasks
                .spawn(async move { inner.put_off(shard, group, until_ms).await });
            // It serves no subscription, so that one that has rested needn't wait for it.
            let busy = Busy {
                subscription: String::new(),
                entries,
            };
            round.busy.insert(task.id(), busy);
        }
        started
    }

    async fn attempt(
        &self,
        entry: &OutboxEntry,
        notification: &Notification,
        failures: u32,
    ) -> Result<Heard, DeliverError> {
        let made = entry.attempt.saturating_add(1);
        let request_id = format!("subscription-{}-{made}", hex(entry.key.id));
        // The shard stays here until the outcome is written down.
        let work = self.trust.vault().ledger().work_on(entry.key.shard);
        let outcome = async {
            let permit = self.permit(entry, &request_id).await?;
            let attempt = Attempt {
                inner: self,
                entry,
                notification,
                permit,
                request_id: &request_id,
            };
            attempt.run(failures).await
        };
        let outcome = outcome.await;
        drop(work);
        left(outcome).await
    }

    /// Puts entries of a subscription that rests off until it has rested.
    async fn put_off(
        &self,
        shard: Shard,
        group: Vec<(OutboxEntry, Notification)>,
        until_ms: u64,
    ) -> Result<Heard, DeliverError> {
        let Some((first, _)) = group.first() else {
            return Ok(Heard::Nothing);
        };
        let permit = self.permit(first, "subscriptions-put-off").await?;
        let again = |(entry, notification): &(OutboxEntry, Notification)| {
            put_off(entry, notification, (until_ms, entry.attempt))
        };
        let unit = Unit {
            outbox_remove: group.iter().map(|(entry, _)| entry.key).collect(),
            outbox_add: group.iter().map(again).collect(),
            held: Some(shard),
            note: Some(format!(
                "{} notifications put off: the endpoint rests",
                group.len()
            )),
            ..Unit::default()
        };
        let written = match self.trust.vault().commit(&permit, unit).await {
            // One of them is settled already.
            Ok(_) | Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(Heard::Nothing),
            Err(error) => Err(DeliverError::from(error)),
        };
        left(written).await
    }
}

/// Of each subscription the first entry that is new, or else the first that is sent again.
#[derive(Default)]
struct Firsts(Vec<(OutboxEntry, Notification)>);

impl Firsts {
    fn add(&mut self, entry: OutboxEntry, notification: Notification) {
        let mut all = self.0.iter_mut();
        let known = all.find(|(_, one)| one.subscription == notification.subscription);
        match known {
            None => self.0.push((entry, notification)),
            Some(known) if known.1.replay.is_some() && notification.replay.is_none() => {
                *known = (entry, notification);
            }
            Some(_) => {}
        }
    }
}

/// What looking through due entries came to.
#[derive(Default)]
struct Started {
    /// When the next one is due.
    wake: Option<Instant>,
    /// Whether all that are due were seen.
    is_through: bool,
}

/// An entry that is another process's now is found there where it was.
async fn left(outcome: Result<Heard, DeliverError>) -> Result<Heard, DeliverError> {
    match outcome {
        Err(DeliverError::Trust(TrustError::Ledger(LedgerError::Fenced(shard)))) => {
            tracing::debug!(%shard, "a notification is left to the process that works on the shard now");
            // This process may not know yet that it has lost the shard.
            sleep(LEFT_REST).await;
            Ok(Heard::Nothing)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends a task of a round with this.
    async fn end(round: &mut Round, heard: Result<Heard, DeliverError>) {
        let task = round.tasks.spawn(async move { heard });
        let busy = Busy {
            subscription: "s".to_owned(),
            entries: vec![[1; 16]],
        };
        round.busy.insert(task.id(), busy);
        let done = round.tasks.join_next_with_id().await;
        round.ended(done.expect("a task"));
    }

    #[tokio::test]
    async fn what_policies_refuse_the_part_is_tried_once_a_minute() {
        let mut round = Round::default();
        assert_eq!(round.parallel(), PARALLEL);
        let refusal = trust::Refusal {
            reason: "no".to_owned(),
            because: Vec::new(),
        };
        let before = Instant::now();
        end(&mut round, Err(TrustError::Refused(refusal).into())).await;
        let until = round.refused_until.expect("a rest");
        assert!(until >= before + REFUSED_REST);
        assert_eq!(
            round.parallel(),
            1,
            "one attempt shows whether they still do"
        );
        end(&mut round, Ok(Heard::Nothing)).await;
        assert_eq!((round.refused_until, round.parallel()), (None, PARALLEL));
    }
}
