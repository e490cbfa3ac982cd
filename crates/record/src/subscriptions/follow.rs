//! The follower: what is written, turned into notifications in the outbox.
//!
//! What matches goes into the outbox in one commit with the place on the feed up to which it has been looked at, so
//! that a crash anywhere neither loses a notification nor makes it twice. Which subscriptions there are is read after
//! the events, so that whoever subscribed before something was written is among them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fhir::Resource;
use fhir::search::{Owns, SearchQuery};
use futures_util::stream::{self, StreamExt};
use ledger::{
    Commit, CursorMove, Event, Kind, LedgerError, Number, OutboxDraft, OutboxKey, SHARDS, Shard,
    TenantId,
};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Mutex, watch};
use trust::outgoing::{CHANNEL_HOOK, Notification};
use trust::{Action, HookReplay, Permit, SubscribedKept, TrustError, Unit, Vault, Versioned};

use super::replay::Replaying;
use crate::Record;

/// Shards worked on at once.
const SHARDS_AT_ONCE: usize = 16;
/// Events read from a shard at once.
pub(super) const EVENTS_AT_ONCE: usize = 256;
/// Notifications of one commit, after which no further event is looked at: their patients are named in its audit
/// record.
const NOTIFICATIONS_AT_ONCE: usize = 500;
/// Events that may be passed over before the place is stored; what is read again after a crash.
const SKIPPED_MAX: usize = 512;
/// How often a shard is begun anew when another writer came in between.
const TRIES: usize = 8;
/// Real time to wait after the store failed.
const FAULT_WAIT: Duration = Duration::from_millis(500);
/// How often it is looked whether another server took the first subscription, where there are none.
const IDLE_WAIT: Duration = Duration::from_secs(2);
/// The longest and the shortest sleep while there are some: for those that end.
const SLEEP: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_secs(30);
/// How long replays wait for each other and for room, real time.
const REPLAY_WAIT: Duration = Duration::from_millis(100);
/// How far clocks of servers that share a store may be apart (as far as any clock is followed, see
/// [`ledger::CLOCK_STEP_MAX_MS`]): what was written so long before a subscription may be notified of, so that
/// nothing after it is missed.
const APART_MS: u64 = ledger::CLOCK_STEP_MAX_MS;

/// The follower's name in the ledger.
fn consumer(tenant: TenantId) -> String {
    format!("subscription/{}", tenant.0)
}

/// One subscription that is live, or went off a while ago.
pub(super) struct Live {
    pub(super) id: String,
    pub(super) kept: SubscribedKept,
    pub(super) query: SearchQuery,
    /// Of one that is off: up to where what was written is still put on its way, from which who delivers notes what was
    /// missed.
    until: Option<Number>,
    /// What is put on its way again.
    pub(super) replay: Option<HookReplay>,
}

/// Those that there are, by the kind of document.
#[derive(Default)]
pub(super) struct Books {
    version: Option<u32>,
    owns: Owns,
    pub(super) live: HashMap<Kind, Vec<Live>>,
    /// When the next of them ends.
    ends_ms: Option<u64>,
}

/// How far a shard has been followed.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    /// Whether what follows is known, under this lease.
    known: bool,
    lease: Option<u64>,
    stored: Number,
    read: Number,
    /// Up to where there was no subscription.
    idle: Number,
    skipped: usize,
}

pub(super) struct Follower<'a> {
    pub(super) record: &'a Record,
    pub(super) tenant: TenantId,
    pub(super) permit: Permit,
    books: &'a Mutex<Arc<Books>>,
}

impl Books {
    fn push(&mut self, live: Live) {
        let kind = Kind(live.query.kind.code());
        self.live.entry(kind).or_default().push(live);
    }
}

/// What tells a subscription of an event.
pub(super) fn notification(event: &Event, live: &Live, resource: &Resource) -> Notification {
    Notification {
        subscription: live.id.clone(),
        kind: resource.kind().name().to_owned(),
        id: resource.id().unwrap_or_default().to_owned(),
        patient: resource.patient().map(str::to_owned),
        number: Some(event.at.number.0),
        again: None,
        replay: None,
    }
}

impl Record {
    /// Follows what is written for this organisation's subscriptions, until `stop` turns true.
    pub async fn follow_subscriptions(&self, tenant: TenantId, mut stop: watch::Receiver<bool>) {
        let ledger = self.vault().ledger().clone();
        // Before the first look, so that nothing falls between looking and listening.
        let mut news = ledger.watch();
        let mut dirty: BTreeSet<u16> = (0..SHARDS).collect();
        let mut positions = vec![Position::default(); usize::from(SHARDS)];
        let books = Mutex::new(Arc::new(Books::default()));
        let mut replaying = Replaying::default();
        while !*stop.borrow() {
            let wait =
                match (self.turn(tenant, &books, (&mut positions, &mut replaying), &mut dirty))
                    .await
                {
                    Ok(wait) => wait,
                    Err(TrustError::Ledger(LedgerError::Closed)) => return,
                    Err(error) => {
                        tracing::error!(%error, "subscriptions stand still; trying again");
                        metrics::counter!("subscription_faults_total").increment(1);
                        FAULT_WAIT
                    }
                };
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(wait) => {}
                () = self.subscribing.written.notified() => {}
                heard = news.recv(), if dirty.is_empty() => {
                    let mut heard = Some(heard);
                    while let Some(one) = heard.take() {
                        match one {
                            Ok(shard) => { dirty.insert(shard.0); }
                            Err(RecvError::Lagged(_)) => dirty.extend(0..SHARDS),
                            Err(RecvError::Closed) => return,
                        }
                        heard = match news.try_recv() {
                            Ok(shard) => Some(Ok(shard)),
                            Err(TryRecvError::Lagged(by)) => Some(Err(RecvError::Lagged(by))),
                            Err(_) => None,
                        };
                    }
                }
            }
        }
        if positions.iter().any(|position| position.known)
            && let Ok(follower) = self.follower(tenant, &books).await
        {
            follower.store_all(&mut positions).await;
        }
    }

    async fn follower<'a>(
        &'a self,
        tenant: TenantId,
        books: &'a Mutex<Arc<Books>>,
    ) -> Result<Follower<'a>, TrustError> {
        let permit = self.part_permit(tenant, Action::Orchestrate, "subscriptions");
        Ok(Follower {
            record: self,
            tenant,
            permit: permit.await?,
            books,
        })
    }

    /// Notes that there is nothing to follow up to some heads, and says when to look again.
    fn idle(
        &self,
        positions: &mut [Position],
        heads: Vec<Number>,
        dirty: &mut BTreeSet<u16>,
    ) -> Duration {
        for (position, head) in positions.iter_mut().zip(heads) {
            position.idle = head;
        }
        dirty.extend(0..SHARDS);
        // Where nobody can subscribe there is little to look for.
        let is_closed = self.subscribing.cleared.is_empty();
        if is_closed { SLEEP.end } else { IDLE_WAIT }
    }

    /// Does what is there to do, and says how long there is nothing.
    async fn turn(
        &self,
        tenant: TenantId,
        books: &Mutex<Arc<Books>>,
        (positions, replaying): (&mut [Position], &mut Replaying),
        dirty: &mut BTreeSet<u16>,
    ) -> Result<Duration, TrustError> {
        let ledger = self.vault().ledger();
        // Before it is asked what there is: what comes later is for whoever subscribes from now on.
        let heads: Vec<Number> = (0..SHARDS)
            .map(|shard| ledger.shard_head(Shard(shard)))
            .collect();
        // Where nobody ever subscribed, policies need not know of the part, and the audit has nothing of it.
        if !self.vault().has_subscriptions(tenant).await? {
            return Ok(self.idle(positions, heads, dirty));
        }
        let follower = match self.follower(tenant, books).await {
            Ok(follower) => follower,
            // Whoever subscribes is told so; those that there are wait.
            Err(TrustError::Refused(_)) => {
                dirty.extend(0..SHARDS);
                return Ok(SLEEP.end);
            }
            Err(error) => return Err(error),
        };
        let now_ms = ledger.clock().now_ms();
        let known = follower.refreshed().await?;
        if known.live.is_empty() {
            return Ok(self.idle(positions, heads, dirty));
        }
        let ends_ms = known.ends_ms;
        if ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms) {
            follower.end_those(&known, now_ms).await?;
        }
        let taken: Vec<(u16, Position)> = (std::mem::take(dirty).into_iter())
            .map(|shard| (shard, positions[usize::from(shard)]))
            .collect();
        let follower = &follower;
        let mut done = stream::iter(taken)
            .map(|(shard, mut position)| async move {
                let outcome = follower.shard(Shard(shard), &mut position).await;
                (shard, position, outcome)
            })
            .buffer_unordered(SHARDS_AT_ONCE);
        let mut fault = None;
        while let Some((shard, position, outcome)) = done.next().await {
            positions[usize::from(shard)] = position;
            if let Err(error) = outcome {
                dirty.insert(shard);
                fault = Some(error);
            }
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        if follower.replay(&known, replaying).await? {
            return Ok(REPLAY_WAIT);
        }
        let wait = ends_ms.map_or(SLEEP.end, |ends_ms| ledger.clock().real_wait(ends_ms));
        Ok(wait.clamp(SLEEP.start, SLEEP.end))
    }
}

impl Follower<'_> {
    pub(super) fn vault(&self) -> &Vault {
        self.record.vault()
    }

    /// Reads which subscriptions there are, if there may be others than before.
    async fn refreshed(&self) -> Result<Arc<Books>, TrustError> {
        let vault = self.vault();
        let mut books = self.books.lock().await;
        let roll = vault.subscription_roll(&self.permit).await?;
        if roll.version == books.version && vault.owns(self.tenant) == books.owns {
            return Ok(Arc::clone(&books));
        }
        // Another server may have taken a parameter a moment ago.
        vault.refresh_owns(self.tenant).await?;
        let owns = vault.owns(self.tenant);
        let mut fresh = Books {
            version: roll.version,
            owns,
            ..Books::default()
        };
        for id in roll.live.into_keys() {
            let Some(kept) = self.readable(&id, true).await? else {
                continue;
            };
            let Some(query) = self.understood(&id, &kept, &fresh.owns).await? else {
                continue;
            };
            fresh.ends_ms = [fresh.ends_ms, kept.subscribed.end_ms]
                .into_iter()
                .flatten()
                .min();
            let live = Live {
                replay: self.under_way(&id).await?,
                until: None,
                id,
                kept,
                query,
            };
            fresh.push(live);
        }
        let (off, _) = vault.subscriptions_off(&self.permit).await?;
        for id in off.into_keys() {
            let Some(kept) = self.readable(&id, false).await? else {
                continue;
            };
            // Of what nobody understands any more nothing is put on its way, either.
            if let Ok(query) = kept.subscribed.query(&fresh.owns, None) {
                fresh.push(Live {
                    until: Some(kept.number),
                    replay: None,
                    id,
                    kept,
                    query,
                });
            }
        }
        *books = Arc::new(fresh);
        Ok(Arc::clone(&books))
    }

    /// What is kept of one that is live, or of one that isn't. One that can't be read stops no other.
    async fn readable(
        &self,
        id: &str,
        is_live: bool,
    ) -> Result<Option<SubscribedKept>, TrustError> {
        match self.vault().subscribed(&self.permit, id).await {
            Ok(kept) => Ok(kept.filter(|kept| kept.subscribed.is_live() == is_live)),
            Err(error @ (TrustError::Damaged(_) | TrustError::Ledger(LedgerError::Damaged(_)))) => {
                tracing::error!(%error, subscription = id, "a subscription can't be read; nothing is notified of it");
                metrics::counter!("subscription_rows_unreadable_total").increment(1);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is put on its way again of a subscription. A book that can't be read stops no other.
    async fn under_way(&self, id: &str) -> Result<Option<HookReplay>, TrustError> {
        match self.vault().hook_book(&self.permit, id).await {
            Ok(kept) => Ok(kept.book.under_way().cloned()),
            Err(error @ (TrustError::Damaged(_) | TrustError::Ledger(LedgerError::Damaged(_)))) => {
                tracing::error!(%error, subscription = id, "what is sent again of a subscription can't be read");
                metrics::counter!("subscription_rows_unreadable_total").increment(1);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What it asks for. Where its search parameters can't be read at the moment it says so and waits for them;
    /// it is turned off only where they are gone.
    async fn understood(
        &self,
        id: &str,
        kept: &SubscribedKept,
        owns: &Owns,
    ) -> Result<Option<SearchQuery>, TrustError> {
        if let Ok(query) = kept.subscribed.query(owns, None) {
            return Ok(Some(query));
        }
        let vault = self.vault();
        if vault.unread_definitions(self.tenant) == 0 {
            let words = "the criteria are not understood any more: a search parameter is gone";
            self.turn_off(id, Some(words)).await?;
            return Ok(None);
        }
        let words = "the criteria can't be understood while a search parameter can't be read; nothing is notified of what is written meanwhile";
        let wait = |subscribed: &mut trust::Subscribed| {
            subscribed.state = trust::SubscriptionState::Error;
            subscribed.error = Some(words.to_owned());
        };
        (vault.change_subscription(&self.permit, (id, None), wait)).await?;
        Ok(None)
    }

    async fn turn_off(&self, id: &str, error: Option<&str>) -> Result<(), TrustError> {
        let off = |subscribed: &mut trust::Subscribed| subscribed.turn_off(error);
        let vault = self.vault();
        (vault.change_subscription(&self.permit, (id, None), off)).await
    }

    /// Turns those off whose time is over.
    async fn end_those(&self, books: &Books, now_ms: u64) -> Result<(), TrustError> {
        for live in books.live.values().flatten() {
            if live.until.is_none() && live.kept.subscribed.has_ended(now_ms) {
                self.turn_off(&live.id, None).await?;
            }
        }
        Ok(())
    }

    /// Everything that is there to do on one shard's feed.
    async fn shard(&self, shard: Shard, position: &mut Position) -> Result<(), TrustError> {
        for _ in 0..TRIES {
            match self.follow(shard, position).await {
                Ok(()) => return Ok(()),
                Err(TrustError::Ledger(LedgerError::CursorMoved { .. })) => position.known = false,
                // Another process works on it now.
                Err(TrustError::Ledger(LedgerError::Fenced(_))) => {
                    position.known = false;
                    return Ok(());
                }
                // A patient's key went in between: what is of them is passed over next time.
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    async fn follow(&self, shard: Shard, position: &mut Position) -> Result<(), TrustError> {
        let ledger = self.vault().ledger();
        if !ledger.holds(shard) {
            position.known = false;
            return Ok(());
        }
        let lease = ledger.lease(shard);
        if !position.known || position.lease != lease {
            let stored = ledger.cursor(&consumer(self.tenant), shard).await?;
            *position = Position {
                known: true,
                lease,
                stored,
                read: stored,
                skipped: 0,
                ..*position
            };
        }
        if position.read < position.idle {
            position.read = position.idle;
            position.skipped = SKIPPED_MAX;
        }
        while ledger.shard_head(shard) > position.read {
            let events = ledger.events(shard, position.read, EVENTS_AT_ONCE).await?;
            if events.is_empty() {
                break;
            }
            let books = self.refreshed().await?;
            self.batch(shard, position, events, &books).await?;
        }
        if position.skipped >= SKIPPED_MAX {
            self.store(shard, position).await?;
        }
        Ok(())
    }

    /// What a run of events brings about, in one commit.
    async fn batch(
        &self,
        shard: Shard,
        position: &mut Position,
        events: Vec<Event>,
        books: &Books,
    ) -> Result<(), TrustError> {
        let mut drafts = Vec::new();
        let (mut read, mut passed) = (position.read, 0);
        for event in events {
            let number = event.at.number;
            let concerned = books
                .live
                .get(&event.kind)
                .filter(|_| event.tenant == self.tenant && !event.deleted);
            if let Some(all) = concerned {
                drafts.extend(self.notifications(&event, all).await?);
            }
            read = number;
            passed += 1;
            if drafts.len() >= NOTIFICATIONS_AT_ONCE {
                break;
            }
        }
        if drafts.is_empty() {
            position.read = read;
            position.skipped += passed;
            return Ok(());
        }
        let queued = drafts.len();
        let unit = Unit {
            outbox_add: drafts,
            cursor: Some(CursorMove {
                consumer: consumer(self.tenant),
                shard,
                from: position.stored,
                to: read,
            }),
            held: Some(shard),
            note: Some(format!(
                "{queued} notifications of subscriptions put on their way"
            )),
            ..Unit::default()
        };
        self.vault().commit(&self.permit, unit).await?;
        self.record.subscribing.queued.notify_one();
        position.read = read;
        position.stored = read;
        position.skipped = 0;
        metrics::counter!("subscription_notifications_queued_total").increment(queued as u64);
        Ok(())
    }

    /// Who is to be notified of one event, as far as it can be told without asking what they may see.
    async fn notifications(
        &self,
        event: &Event,
        all: &[Live],
    ) -> Result<Vec<OutboxDraft>, TrustError> {
        let ledger = self.vault().ledger();
        let in_place = ledger.view()?.answers_in_place();
        let number = event.at.number;
        let is_since = |live: &&Live| {
            if live.until.is_some_and(|until| number > until) {
                return false;
            }
            let since = live.kept.since();
            if in_place {
                number > since
            } else {
                number.unix_ms().saturating_add(APART_MS) >= since.unix_ms()
            }
        };
        let all: Vec<&Live> = all.iter().filter(is_since).collect();
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let Some(row) = self.row_of(event).await? else {
            return Ok(Vec::new());
        };
        let resource = &row.resource;
        let matching = all.into_iter().filter(|live| live.query.matches(resource));
        Ok(matching
            .map(|live| self.draft(event, live, resource))
            .collect())
    }

    /// The row that an event is about, as it was then.
    pub(super) async fn row_of(&self, event: &Event) -> Result<Option<Versioned>, TrustError> {
        match self.vault().load_at(&self.permit, event.at).await {
            Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => Ok(None),
            // Nobody could be sent it, either.
            Err(error @ (TrustError::Damaged(_) | TrustError::Ledger(LedgerError::Damaged(_)))) => {
                tracing::error!(%error, "a row can't be opened; nobody is notified of it");
                metrics::counter!("subscription_rows_unreadable_total").increment(1);
                Ok(None)
            }
            row => row,
        }
    }

    fn draft(&self, event: &Event, live: &Live, resource: &Resource) -> OutboxDraft {
        let ledger = self.vault().ledger();
        // The same for whoever reads the feed once more, so that what is sent again is known by it.
        let id = self.vault().hook_id(self.tenant, &live.id, event.at);
        let owner = Vault::owner(resource);
        let notification = notification(event, live, resource);
        OutboxDraft {
            key: OutboxKey {
                shard: event.at.shard,
                due_ms: ledger.clock().now_ms(),
                id,
            },
            owner,
            channel: CHANNEL_HOOK,
            attempt: 0,
            // Texts can't fail to serialise.
            body: serde_json::to_vec(&notification).unwrap_or_default(),
        }
    }

    /// Stores where the follower stands on a shard, without anything else.
    async fn store(&self, shard: Shard, position: &mut Position) -> Result<(), TrustError> {
        if position.read <= position.stored {
            position.skipped = 0;
            return Ok(());
        }
        let commit = Commit {
            cursor: Some(CursorMove {
                consumer: consumer(self.tenant),
                shard,
                from: position.stored,
                to: position.read,
            }),
            held: Some(shard),
            ..Commit::new(self.tenant)
        };
        self.vault().ledger().commit(commit).await?;
        position.stored = position.read;
        position.skipped = 0;
        Ok(())
    }

    /// The same of all shards, at the end.
    async fn store_all(&self, positions: &mut [Position]) {
        for (shard, position) in (0..SHARDS).zip(positions) {
            let shard = Shard(shard);
            if !position.known || !self.vault().ledger().holds(shard) {
                continue;
            }
            if let Err(error) = self.store(shard, position).await {
                // Nothing is lost: what was passed over is read again at the next start.
                tracing::warn!(%shard, %error, "where subscriptions stand could not be stored");
                return;
            }
        }
    }
}
