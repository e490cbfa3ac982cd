//! What is sent again: the feed read once more over a range of numbers, by the criteria of now.
//!
//! Each server does that for the shards whose feed it follows. What matches goes into the outbox in one commit with the place
//! up to which the shard has been read for this replay, so that a crash neither leaves something out nor puts it there
//! twice. Whether it may be told is decided when it goes out, like everything else.

use std::collections::HashMap;

use ledger::{CursorMove, LedgerError, Number, OutboxDraft, OutboxKey, SHARDS, Shard};
use trust::outgoing::{CHANNEL_HOOK, Notification};
use trust::{HookReplay, SubscriptionState, TrustError, Unit, Vault};

use super::follow::{Books, EVENTS_AT_ONCE, Follower, Live, NOTIFICATIONS_AT_ONCE};

/// Notifications that are due and wait at this server, from which on replays wait: what is written now comes first.
pub(super) const ROOM: usize = 1000;
/// Runs of events that are read for one replay before what is written now is looked at again.
const RUNS_AT_ONCE: usize = 64;

/// How far a replay has come on one shard, at this server.
#[derive(Debug, Clone, Copy)]
struct Place {
    lease: Option<u64>,
    stored: Number,
    read: Number,
    is_done: bool,
}

/// How far replays have come at this server.
#[derive(Default)]
pub(super) struct Replaying(HashMap<String, HashMap<u16, Place>>);

/// The name in the ledger of who reads for a replay.
fn consumer(tenant: ledger::TenantId, replay: &str) -> String {
    format!("subscription-replay/{}/{replay}", tenant.0)
}

impl Follower<'_> {
    /// Does some of what is to be sent again; says whether there is more.
    pub(super) async fn replay(
        &self,
        books: &Books,
        replaying: &mut Replaying,
    ) -> Result<bool, TrustError> {
        let under_way: Vec<(&Live, &HookReplay)> = (books.live.values().flatten())
            .filter_map(|live| Some((live, live.replay.as_ref()?)))
            .collect();
        let is_known = |id: &String| under_way.iter().any(|(_, replay)| replay.id == *id);
        replaying.0.retain(|id, _| is_known(id));
        let mut is_more = false;
        for (live, replay) in under_way {
            let vault = self.vault();
            // The list is not written anew where one comes to be in error.
            let stands = vault.subscribed(&self.permit, &live.id).await?;
            if stands.is_none_or(|kept| kept.subscribed.state != SubscriptionState::Active) {
                continue;
            }
            let places = replaying.0.entry(replay.id.clone()).or_default();
            is_more |= self.replay_one(live, replay, places).await?;
        }
        Ok(is_more)
    }

    async fn replay_one(
        &self,
        live: &Live,
        replay: &HookReplay,
        places: &mut HashMap<u16, Place>,
    ) -> Result<bool, TrustError> {
        let ledger = self.vault().ledger();
        let mut runs = 0;
        for number in 0..SHARDS {
            let shard = Shard(number);
            if !ledger.holds(shard) {
                places.remove(&number);
                continue;
            }
            loop {
                match self.replay_shard(live, replay, shard, places).await {
                    Ok(true) => break,
                    Ok(false) | Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => {}
                    // Another process reads it now, or did.
                    Err(TrustError::Ledger(
                        LedgerError::CursorMoved { .. } | LedgerError::Fenced(_),
                    )) => {
                        places.remove(&number);
                        return Ok(true);
                    }
                    Err(error) => return Err(error),
                }
                runs += 1;
                if runs >= RUNS_AT_ONCE || self.is_full().await? {
                    return Ok(true);
                }
            }
        }
        let done = places.iter().filter(|(_, place)| place.is_done);
        let done: Vec<Shard> = done.map(|(number, _)| Shard(*number)).collect();
        self.note_done(live, replay, done).await?;
        Ok(false)
    }

    /// Whether so many are due already that replays wait.
    async fn is_full(&self) -> Result<bool, TrustError> {
        let ledger = self.vault().ledger();
        let now_ms = ledger.clock().now_ms();
        let look = ledger.outbox_look(&[CHANNEL_HOOK], now_ms, ROOM).await?;
        Ok(look.entries.len() >= ROOM)
    }

    /// One run of events of a shard; says whether it was the last.
    async fn replay_shard(
        &self,
        live: &Live,
        replay: &HookReplay,
        shard: Shard,
        places: &mut HashMap<u16, Place>,
    ) -> Result<bool, TrustError> {
        let ledger = self.vault().ledger();
        let lease = ledger.lease(shard);
        let known = places.get(&shard.0).filter(|place| place.lease == lease);
        let mut place = match known {
            Some(place) => *place,
            None => {
                let name = consumer(self.tenant, &replay.id);
                let stored = ledger.cursor(&name, shard).await?;
                Place {
                    lease,
                    stored,
                    read: stored.max(Number(replay.from.saturating_sub(1))),
                    is_done: false,
                }
            }
        };
        if place.is_done {
            return Ok(true);
        }
        let until = Number(replay.until);
        let events = match place.read < until {
            true => ledger.events(shard, place.read, EVENTS_AT_ONCE).await?,
            false => Vec::new(),
        };
        let is_last = events.len() < EVENTS_AT_ONCE;
        let mut drafts = Vec::new();
        let (mut read, mut is_cut) = (place.read, false);
        for event in events {
            if event.at.number > until {
                break;
            }
            if event.tenant == self.tenant && !event.deleted {
                let again = self.again(&event, live, replay).await?;
                drafts.extend(again);
            }
            read = event.at.number;
            if drafts.len() >= NOTIFICATIONS_AT_ONCE {
                is_cut = true;
                break;
            }
        }
        place.is_done = !is_cut && (is_last || read >= until || read == place.read);
        place.read = read;
        if !drafts.is_empty() {
            let queued = drafts.len();
            let unit = Unit {
                outbox_add: drafts,
                cursor: Some(CursorMove {
                    consumer: consumer(self.tenant, &replay.id),
                    shard,
                    from: place.stored,
                    to: read,
                }),
                held: Some(shard),
                note: Some(format!(
                    "{queued} notifications of Subscription/{} put on their way again by replay {}",
                    live.id, replay.id
                )),
                ..Unit::default()
            };
            self.vault().commit(&self.permit, unit).await?;
            self.record.subscribing.queued.notify_one();
            place.stored = read;
            metrics::counter!("subscription_notifications_replayed_total").increment(queued as u64);
        }
        let is_done = place.is_done;
        places.insert(shard.0, place);
        Ok(is_done)
    }

    /// What tells again of an event, under the id that it had or would have had.
    async fn again(
        &self,
        event: &ledger::Event,
        live: &Live,
        replay: &HookReplay,
    ) -> Result<Option<OutboxDraft>, TrustError> {
        if event.kind != ledger::Kind(live.query.kind.code()) {
            return Ok(None);
        }
        let Some(row) = self.row_of(event).await? else {
            return Ok(None);
        };
        let resource = &row.resource;
        if !live.query.matches(resource) {
            return Ok(None);
        }
        let ledger = self.vault().ledger();
        let id = self.vault().hook_id(self.tenant, &live.id, event.at);
        // One entry of a replay for each event, and another than the first.
        let of_replay = format!("{}/{}", live.id, replay.id);
        let notification = Notification {
            again: Some(format!("{:032x}", u128::from_be_bytes(id))),
            replay: Some(replay.id.clone()),
            ..super::follow::notification(event, live, resource)
        };
        Ok(Some(OutboxDraft {
            key: OutboxKey {
                shard: event.at.shard,
                due_ms: ledger.clock().now_ms(),
                id: self.vault().hook_id(self.tenant, &of_replay, event.at),
            },
            owner: Vault::owner(resource),
            channel: CHANNEL_HOOK,
            attempt: 0,
            body: serde_json::to_vec(&notification).unwrap_or_default(),
        }))
    }

    /// Notes in the book that all of these shards was put on its way; where that is all, the replay is over, and what was
    /// missed is missed no more as far as it went.
    async fn note_done(
        &self,
        live: &Live,
        replay: &HookReplay,
        shards: Vec<Shard>,
    ) -> Result<(), TrustError> {
        let now_ms = self.vault().ledger().clock().now_ms();
        let mut trial = replay.clone();
        if !trial.done(shards.iter().copied(), now_ms) {
            return Ok(());
        }
        let note = format!("replay {} was put on its way", replay.id);
        let since = live.kept.since().0;
        let changed =
            self.vault()
                .change_hook_book((&self.permit, None), &live.id, (&note, true), |book| {
                    let found = book.replays.iter_mut().find(|one| one.id == replay.id);
                    let Some(one) = found.filter(|one| one.is_under_way()) else {
                        return (false, ());
                    };
                    let is_news = one.done(shards.iter().copied(), now_ms);
                    if !one.is_under_way() {
                        let (from, until) = (one.from, one.until);
                        let covered = book
                            .missed_from
                            .filter(|missed| (from..=until).contains(missed));
                        if covered.is_some() {
                            book.missed_from = (until < since).then_some(until.saturating_add(1));
                        }
                    }
                    (is_news, ())
                });
        changed.await
    }
}
