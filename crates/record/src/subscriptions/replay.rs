//! What is sent again: the feed read once more over a range of numbers, by the criteria of now.
//!
//! Each server does that for the shards whose feed it follows. What matches goes into the outbox in one commit with the place
//! up to which the shard has been read for this replay, so that a crash neither leaves something out nor puts it there
//! twice. Whether it may be told is decided when it goes out, like everything else.

use std::collections::HashMap;

use ledger::{CursorMove, LedgerError, Number, OutboxDraft, OutboxKey, SHARDS, Shard};
use trust::outgoing::{CHANNEL_HOOK, Notification};
use trust::{HookReplay, SubscribedKept, SubscriptionState, TrustError, Unit, Vault};

use super::follow::{Books, EVENTS_AT_ONCE, Follower, Live};

/// Notifications that are due and wait at this server, from which on replays wait. One run of events more may be there
/// ([`EVENTS_AT_ONCE`]).
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

/// What may be put in before what is due is counted again.
#[derive(Debug, Default)]
struct Room(Option<usize>);

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
        let (mut is_more, mut room) = (false, Room::default());
        for (live, replay) in under_way {
            let vault = self.vault();
            // The list is not written anew where one comes to be in error.
            let stands = vault.subscribed(&self.permit, &live.id).await?;
            let Some(kept) = stands.filter(|kept| kept.subscribed.is_live()) else {
                continue;
            };
            if kept.subscribed.failing_since_ms.is_some() || self.is_tried(&kept, replay).await? {
                continue;
            }
            let places = replaying.0.entry(replay.id.clone()).or_default();
            let mut one_run = Room(Some(1));
            let room = match kept.subscribed.state {
                SubscriptionState::Active => &mut room,
                _ => &mut one_run,
            };
            is_more |= self.replay_one(live, replay, (places, room)).await?;
        }
        Ok(is_more)
    }

    /// Whether something of a replay waits that will show if the subscription may be told of anything. One that is in error
    /// while no endpoint fails, because policies refused who asked, is found to be let by what goes out and by nothing else:
    /// so one run of events is put in, and no other before.
    async fn is_tried(
        &self,
        kept: &SubscribedKept,
        replay: &HookReplay,
    ) -> Result<bool, TrustError> {
        if kept.subscribed.state == SubscriptionState::Active {
            return Ok(false);
        }
        let ledger = self.vault().ledger();
        let look = ledger.outbox_look(&[CHANNEL_HOOK], u64::MAX, ROOM).await?;
        let is_of = |entry: &ledger::OutboxEntry| {
            let read = serde_json::from_slice::<Notification>(&entry.body);
            read.is_ok_and(|one| one.replay.as_ref() == Some(&replay.id))
        };
        Ok(look.entries.len() >= ROOM || look.entries.iter().any(is_of))
    }

    async fn replay_one(
        &self,
        live: &Live,
        replay: &HookReplay,
        (places, room): (&mut HashMap<u16, Place>, &mut Room),
    ) -> Result<bool, TrustError> {
        let ledger = self.vault().ledger();
        let mut runs = 0;
        for number in 0..SHARDS {
            let shard = Shard(number);
            if !ledger.holds(shard) {
                places.remove(&number);
                continue;
            }
            let lease = ledger.lease(shard);
            let is_done = |place: &Place| place.is_done && place.lease == lease;
            if places.get(&number).is_some_and(is_done) {
                continue;
            }
            loop {
                if runs >= RUNS_AT_ONCE || self.is_full(room).await? {
                    return Ok(true);
                }
                runs += 1;
                let done = self.replay_shard(live, replay, (shard, places));
                match done.await {
                    Ok((is_done, queued)) => {
                        room.0 = room.0.map(|room| room.saturating_sub(queued));
                        if is_done {
                            break;
                        }
                    }
                    Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => {}
                    // Another process reads it now, or did.
                    Err(TrustError::Ledger(
                        LedgerError::CursorMoved { .. } | LedgerError::Fenced(_),
                    )) => {
                        places.remove(&number);
                        return Ok(true);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let done = places.iter().filter(|(_, place)| place.is_done);
        let done: Vec<Shard> = done.map(|(number, _)| Shard(*number)).collect();
        self.note_done(live, replay, done).await?;
        Ok(false)
    }

    /// Whether so many are due already that replays wait. What is due is counted once in a turn, and what was put in since
    /// is taken off, because a count opens all of it.
    async fn is_full(&self, room: &mut Room) -> Result<bool, TrustError> {
        let left = match room.0 {
            Some(left) => left,
            None => {
                let ledger = self.vault().ledger();
                let now_ms = ledger.clock().now_ms();
                let look = ledger.outbox_look(&[CHANNEL_HOOK], now_ms, ROOM).await?;
                *room.0.insert(ROOM.saturating_sub(look.entries.len()))
            }
        };
        Ok(left == 0)
    }

    /// One run of events of a shard; says whether it was the last, and how many notifications were put in.
    async fn replay_shard(
        &self,
        live: &Live,
        replay: &HookReplay,
        (shard, places): (Shard, &mut HashMap<u16, Place>),
    ) -> Result<(bool, usize), TrustError> {
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
        let until = Number(replay.until);
        let events = match place.read < until {
            true => ledger.events(shard, place.read, EVENTS_AT_ONCE).await?,
            false => Vec::new(),
        };
        let is_last = events.len() < EVENTS_AT_ONCE;
        let (mut drafts, mut read) = (Vec::new(), place.read);
        for event in events {
            if event.at.number > until {
                break;
            }
            if event.tenant == self.tenant && !event.deleted {
                let again = self.again(&event, live, replay).await?;
                drafts.extend(again);
            }
            read = event.at.number;
        }
        place.is_done = is_last || read >= until || read == place.read;
        place.read = read;
        let queued = drafts.len();
        if queued > 0 {
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
        Ok((is_done, queued))
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
        let vault = self.vault();
        let end = live.kept.missed_end(vault.apart_ms()?);
        let (by, shards) = ((&self.permit, None), || shards.iter().copied());
        let changed = vault.change_hook_book(by, &live.id, (&note, true), |book| {
            let is_news = book.put_on_its_way(&replay.id, shards(), (now_ms, end));
            (is_news, ())
        });
        changed.await
    }
}
