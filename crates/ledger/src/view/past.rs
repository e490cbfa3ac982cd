//! What was written, newest first, of all shards: versions, and not just the newest of each document.
//!
//! The feeds have an event for each version but those of the audit. Each feed is in order, so that their
//! heads are merged; a page costs the same however deep it lies.

use std::collections::{BinaryHeap, VecDeque};

use super::{AHEAD, AHEAD_BYTES, View, place_of};
use crate::backend::SharedStore;
use crate::query::rank;
use crate::rows::Header;
use crate::{Event, Hit, Kind, LedgerError, Number, SHARDS, Shard, Stored, TenantId};

/// The most events that are read of a feed at once.
const EVENTS: usize = 1024;
/// Events passed before other tasks get their turn: about a millisecond.
const EVENTS_A_TURN: usize = 4096;

/// Versions that were written, see [`View::past`].
#[derive(Debug)]
pub struct PastPage {
    /// Newest first; of one number lower shards come first.
    pub events: Vec<Event>,
    /// Behind which place it goes on; `None` when everything has been passed.
    pub next: Option<Hit>,
    /// How many events were passed, those that were not wanted with them.
    pub passed: usize,
}

/// A version, and what it was followed by.
#[derive(Debug)]
pub struct PastVersion {
    /// The version.
    pub stored: Stored,
    /// Where the version lies that took its place; `None` of a newest one.
    pub followed: Option<Hit>,
}

/// A feed that is gone through backwards.
struct Feed {
    shard: Shard,
    ahead: VecDeque<Event>,
    /// Where to read on; nothing when all has been read.
    below: Option<Number>,
    /// How much is read the next time.
    size: usize,
}

impl Feed {
    fn take_in(&mut self, page: Vec<Event>) {
        self.below = page.last().filter(|_| page.len() == self.size).map(at);
        self.size = (2 * self.size).min(EVENTS);
        self.ahead = page.into();
    }
}

fn at(event: &Event) -> Number {
    event.at.number
}

impl View {
    /// The newest number of the view, and the number up to which it holds everything that there will ever
    /// be, which is lower while something older is still on its way: a view made some moments later has
    /// it. To be asked for before the view is read for a tenant. Over several servers nobody knows the
    /// second, and it is given as the first, whatever may be on its way.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn settled(&self) -> Result<(Number, Number), LedgerError> {
        let newest = match self.backend.shared() {
            None => return Ok((self.known, self.known)),
            Some(_) => self.snapshot.last_number()?,
        };
        if self.backend.shared().is_some_and(SharedStore::is_spread) {
            return Ok((newest, newest));
        }
        Ok((newest, self.snapshot.horizon()?.unwrap_or(self.known)))
    }

    /// Events of a tenant behind a place, newest first, none before `since`: up to `limit` of those that
    /// are wanted, and passing no more than `passed_max`. Documents of the audit have none.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`, `Damaged`.
    pub async fn past(
        &self,
        tenant: TenantId,
        behind: Hit,
        since: Number,
        limit: usize,
        passed_max: usize,
        wanted: impl Fn(&Event) -> bool + Send,
    ) -> Result<PastPage, LedgerError> {
        self.enter(tenant)?;
        let size = (2 * limit / usize::from(SHARDS) + 2).min(EVENTS);
        let mut feeds: Vec<Feed> = (0..SHARDS)
            .map(|shard| Feed {
                shard: Shard(shard),
                ahead: VecDeque::new(),
                below: Some(Number(
                    (behind.number.0).saturating_add(u64::from(shard > behind.shard.0)),
                )),
                size,
            })
            .collect();
        let starts: Vec<(Shard, Number)> = (feeds.iter())
            .filter_map(|feed| Some((feed.shard, feed.below?)))
            .collect();
        let pages = self.snapshot.events_below(&starts, since, size)?;
        for (feed, page) in feeds.iter_mut().zip(pages) {
            feed.take_in(page);
        }
        // The greatest first: the newest, and of one number the lowest shard.
        let mut heads: BinaryHeap<_> = (feeds.iter())
            .filter_map(|feed| Some((std::cmp::Reverse(rank(feed.ahead.front()?.at)), feed.shard)))
            .collect();
        let mut page = PastPage {
            events: Vec::new(),
            next: None,
            passed: 0,
        };
        let mut last = behind;
        while let Some((_, shard)) = heads.pop() {
            if page.events.len() >= limit || page.passed >= passed_max {
                page.next = Some(last);
                break;
            }
            let feed = &mut feeds[usize::from(shard.0)];
            let Some(event) = feed.ahead.pop_front() else {
                continue;
            };
            if let (true, Some(below)) = (feed.ahead.is_empty(), feed.below) {
                let wanted = [(shard, below)];
                let more = self.snapshot.events_below(&wanted, since, feed.size)?;
                feed.take_in(more.into_iter().next().unwrap_or_default());
            }
            if let Some(next) = feed.ahead.front() {
                heads.push((std::cmp::Reverse(rank(next.at)), shard));
            }
            last = event.at;
            page.passed += 1;
            if event.tenant == tenant && wanted(&event) {
                page.events.push(event);
            }
            if page.passed.is_multiple_of(EVENTS_A_TURN) {
                tokio::task::yield_now().await;
            }
        }
        Ok(page)
    }

    /// Opens the versions of the first of some events, as many as are well opened at once and at least
    /// one: how each turns out, as [`View::fetch`] would say.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`.
    pub async fn fetch_past(
        &self,
        tenant: TenantId,
        events: &[Event],
    ) -> Result<Vec<Result<PastVersion, LedgerError>>, LedgerError> {
        let keys = self.enter(tenant)?;
        let at_once = if self.snapshot.is_far() { AHEAD } else { 1 };
        let events = &events[..events.len().min(at_once)];
        let places: Vec<Hit> = events.iter().map(|event| event.at).collect();
        let rows = self.snapshot.documents(&places, AHEAD_BYTES)?;
        let headers: Vec<Option<Header>> = (rows.iter().zip(events))
            .map(|(row, event)| header_of(row.as_deref()?, event))
            .collect();
        let heads = self.heads_of(&keys, &places, &headers)?;
        let versions = places.iter().zip(rows).zip(headers.iter().zip(heads));
        let versions = versions.map(|((at, row), (header, head))| {
            let damaged = || {
                LedgerError::Damaged(format!(
                    "document {}/{} is not what its event says",
                    at.shard, at.number.0
                ))
            };
            let (header, head) = header.as_ref().zip(head).ok_or_else(damaged)?;
            let followed = match header.version < head.version {
                true => place_of(&*self.snapshot, &header.key, &head, header.version + 1)?,
                false => None,
            };
            let stored = self.fetched(&keys, *at, row, Some(head))?;
            let stored = stored.ok_or_else(damaged)?;
            Ok(PastVersion { stored, followed })
        });
        Ok(versions.collect())
    }

    /// The newest version of a document that was written below a number; `None` when there is none.
    ///
    /// # Errors
    /// As [`crate::Ledger::get`].
    pub async fn version_below(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
        below: Number,
    ) -> Result<Option<u32>, LedgerError> {
        crate::shared::check_id(id)?;
        let key = self.enter(tenant)?.head_key(kind, id);
        let Some(head) = self.snapshot.head(&key)? else {
            return Ok(None);
        };
        // Numbers rise with versions.
        let (mut low, mut high) = (0, head.version);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let place = place_of(&*self.snapshot, &key, &head, middle)?;
            if place.is_some_and(|place| place.number < below) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok((low > 0).then_some(low))
    }
}

/// The header of a row, if it is of the version that an event tells of.
fn header_of(row: &[u8], event: &Event) -> Option<Header> {
    let (header, _) = Header::decode(row).ok()?;
    let told = (event.tenant, event.kind, event.version, event.deleted);
    let is = (
        header.key.tenant,
        header.kind,
        header.version,
        header.deleted,
    );
    (told == is).then_some(header)
}
