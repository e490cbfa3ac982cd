//! Reading; documents are read through a [`View`]. The embedded store answers in microseconds, so it
//! is asked in place.

use std::sync::atomic::Ordering;

use crate::backup::OUTBOX_HELD;
use crate::due::{Earliest, PAGE, Whose, following};
use crate::held::ShardWork;
use crate::prepare::open_outbox;
use crate::view::Of;
use crate::writer::Request;
use crate::{
    Event, Hit, Kind, Ledger, LedgerError, Number, OutboxEntry, OutboxKey, OutboxLook, Query,
    SHARDS, Shard, Stored, TenantId, Timer, TimerKey, View,
};

/// The most versions or events in one answer.
pub(crate) const MAX_ROWS: usize = 10_000;

impl Ledger {
    /// The store at one moment from this call on, to be read from several times.
    ///
    /// # Errors
    /// `Closed`.
    pub fn view(&self) -> Result<View, LedgerError> {
        View::of(self, Of::Now)
    }

    /// The same for a list whose next page will come from another moment, so that [`View::as_of`] is
    /// as near as can be.
    ///
    /// # Errors
    /// `Closed`.
    pub fn listing(&self) -> Result<View, LedgerError> {
        View::of(self, Of::Listing)
    }

    /// The store at one moment at which everything up to a number was there: what a commit with this
    /// number saw and wrote, or later. It is read from a replica that has come so far, if the store has
    /// one, or else as [`Ledger::view`]. Keys are never taken from replicas, so one that was destroyed
    /// opens nothing there either. What reading depends on besides has to come from [`Ledger::view`].
    ///
    /// # Errors
    /// `Closed`.
    pub fn view_at_least(&self, number: Number) -> Result<View, LedgerError> {
        View::of(self, Of::AtLeast(number))
    }

    /// The newest version of a document, deleted or not.
    ///
    /// # Errors
    /// `UnknownTenant`, `KeyDestroyed`, `Damaged`, `Storage`.
    pub async fn get(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Stored>, LedgerError> {
        self.view()?.get(tenant, kind, id).await
    }

    /// One version of a document.
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn version(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
        version: u32,
    ) -> Result<Option<Stored>, LedgerError> {
        self.view()?.version(tenant, kind, id, version).await
    }

    /// Versions of a document, newest first, starting below `before` (exclusive) if given; at most
    /// 10,000 at once.
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub async fn history(
        &self,
        tenant: TenantId,
        kind: Kind,
        id: &str,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Stored>, LedgerError> {
        self.view()?.history(tenant, kind, id, before, limit).await
    }

    /// Places of live documents that the query holds for, newest first, below `before` if given, and
    /// not older than `since` if given. Blind: the caller verifies hits on the opened body, because
    /// tokens can collide.
    ///
    /// # Errors
    /// `Storage`, `UnknownTenant`; `Invalid` for an `And` of nothing or more than 4096 tokens.
    pub async fn search(
        &self,
        tenant: TenantId,
        query: &Query,
        before: Option<Number>,
        since: Option<Number>,
        limit: usize,
    ) -> Result<Vec<Hit>, LedgerError> {
        self.view()?
            .search(tenant, query, before, since, limit)
            .await
    }

    /// Opens a document version by its place.
    ///
    /// # Errors
    /// As [`Ledger::get`]. `Ok(None)` also when the place is another tenant's.
    pub async fn fetch(&self, tenant: TenantId, at: Hit) -> Result<Option<Stored>, LedgerError> {
        self.view()?.fetch(tenant, at).await
    }

    /// Events of a shard after a position, oldest first; at most 10,000 at once.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn events(
        &self,
        shard: Shard,
        after: Number,
        limit: usize,
    ) -> Result<Vec<Event>, LedgerError> {
        self.backend()?
            .now()
            .events(shard, after, limit.min(MAX_ROWS))
    }

    /// Shards with new events, as they become durable. A receiver that lags must look at all shards.
    #[must_use]
    pub fn watch(&self) -> tokio::sync::broadcast::Receiver<Shard> {
        self.core().news.subscribe()
    }

    /// How often keys have been forgotten here because they were destroyed or became others, by whichever process. What
    /// was opened before that changed is to be opened again; another process's destruction is known as soon as to the
    /// keys that are kept here.
    #[must_use]
    pub fn keys_forgotten(&self) -> u64 {
        self.core().data_keys.forgotten()
    }

    /// Has somebody told, as long as they are there, whenever [`Ledger::keys_forgotten`] counts one more, so that what
    /// was opened with a key goes with it and not at the next look.
    pub fn tell_forgotten(&self, keeper: std::sync::Weak<dyn crate::KeepsOpened>) {
        self.core().data_keys.tell(keeper);
    }

    /// Whether this process works on a shard's feed, timers and outbox: see [`Ledger::lease_shards`].
    /// Without leases it looks at all shards.
    #[must_use]
    pub fn holds(&self, shard: Shard) -> bool {
        self.core().held.has(shard)
    }

    /// Which lease of a shard this process has, if it works on it: another one each time that the shard
    /// comes here. Always the same where it looks at all shards.
    #[must_use]
    pub fn lease(&self, shard: Shard) -> Option<u64> {
        self.core().held.lease(shard)
    }

    /// Says that something is under way on a shard that can't be taken back, as long as what this gives
    /// lives. A shard that this process gives up is given back only then, or after a minute.
    #[must_use]
    pub fn work_on(&self, shard: Shard) -> ShardWork {
        ShardWork::begin(self.shared_core(), shard)
    }

    /// The newest number given out.
    #[must_use]
    pub fn last_number(&self) -> Number {
        self.core().last()
    }

    /// The newest number on a shard's feed.
    #[must_use]
    pub fn shard_head(&self, shard: Shard) -> Number {
        self.core().feed(shard)
    }

    /// As [`Ledger::shard_head`], and where other processes write too, as the store says it now: what
    /// was committed before this was called counts, whoever committed it.
    ///
    /// # Errors
    /// `Storage`, `Closed`.
    pub async fn shard_head_now(&self, shard: Shard) -> Result<Number, LedgerError> {
        let core = self.core();
        let backend = self.backend()?;
        if backend.shared().is_some() {
            let newest = backend.now().last_event(shard)?;
            let feeds = [(shard, newest)].into();
            core.publish(
                Number::default(),
                &feeds,
                &Earliest::default(),
                &Earliest::default(),
            );
        }
        Ok(core.feed(shard))
    }

    /// A follower's position on a shard; [`Number`] zero at first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn cursor(&self, consumer: &str, shard: Shard) -> Result<Number, LedgerError> {
        Ok(self
            .backend()?
            .now()
            .cursor(consumer, shard)?
            .unwrap_or_default())
    }

    /// Timers due at `until_ms` or before, soonest first, over all shards; of one tenant, if this handle is for
    /// one, whatever others leave lying.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn timers_due(
        &self,
        consumer: u16,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Timer>, LedgerError> {
        // Who asks for none learns nothing of when the first is due.
        if limit == 0 {
            return Ok(Vec::new());
        }
        let floors = &self.core().timer_floors;
        let whose = self.whose(&[consumer]);
        let (from_ms, mark) = floors.read(&whose);
        let from = TimerKey {
            shard: Shard(0),
            due_ms: from_ms,
            id: [0; 16],
        };
        let snapshot = self.backend()?.snapshot();
        let due = snapshot.timers_of(from, until_ms, &whose, limit)?;
        floors.raise(
            mark,
            earliest(due.first().map(|row| row.key.due_ms), until_ms),
        );
        Ok(due)
    }

    /// When the next timer of any consumer is due.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn next_timer_ms(&self) -> Result<Option<u64>, LedgerError> {
        let held = &self.core().held;
        if held.has_none() {
            return Ok(None);
        }
        let floors = &self.core().timer_floors;
        let whose = self.whose(&[]);
        let (from_ms, mark) = floors.read(&whose);
        let from = TimerKey {
            shard: Shard(0),
            due_ms: from_ms,
            id: [0; 16],
        };
        let rows = self.backend()?.now();
        let first = rows.timers_of(from, u64::MAX, &whose, 1)?;
        let next = first.first().map(|row| row.key.due_ms);
        floors.raise(mark, next.unwrap_or(u64::MAX));
        Ok(next)
    }

    /// This handle's tenant, and the shards that this process works on.
    fn whose(&self, numbers: &[u16]) -> Whose {
        let held = &self.core().held;
        let shards = (held.is_leasing()).then(|| {
            (0..SHARDS)
                .map(Shard)
                .filter(|shard| held.has(*shard))
                .collect()
        });
        Whose {
            tenant: self.tenant(),
            numbers: numbers.to_vec(),
            shards,
        }
    }

    /// Outbox entries due at `until_ms` or before, soonest first, opened. Entries whose key was
    /// destroyed are removed and not returned.
    ///
    /// # Errors
    /// `Damaged` and `UnknownTenant` when there is one that can't be opened; `Storage`.
    pub async fn outbox_due(
        &self,
        channel: u16,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, LedgerError> {
        let look = self.outbox_look(&[channel], until_ms, limit).await?;
        match look.unreadable.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(look.entries),
        }
    }

    /// Like [`Ledger::outbox_due`] for several channels, but an entry that can't be opened stops no other: it stays in the
    /// outbox and is named apart. The limit is for those that can be opened.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn outbox_look(
        &self,
        channels: &[u16],
        until_ms: u64,
        limit: usize,
    ) -> Result<OutboxLook, LedgerError> {
        if self.core().held.has_none() {
            return Ok(OutboxLook::default());
        }
        let mut unreadable = Vec::new();
        let mut due = Vec::new();
        let mut lost = Vec::new();
        if !self.outbox_is_held() {
            let floors = &self.core().outbox_floors;
            let whose = self.whose(channels);
            let (from_ms, mark) = floors.read(&whose);
            let mut mark = Some(mark);
            let backend = self.backend()?;
            let snapshot = backend.snapshot();
            let mut from = Some((from_ms, Shard(0), [0; 16]));
            while let (Some((due_ms, shard, id)), true) = (from, due.len() < limit) {
                let from_key = OutboxKey { shard, due_ms, id };
                let page = snapshot.outbox_of(from_key, until_ms, &whose, PAGE)?;
                if let Some(mark) = mark.take() {
                    let first = page.first().map(|row| row.key.due_ms);
                    floors.raise(mark, earliest(first, until_ms));
                }
                for row in &page {
                    if due.len() == limit {
                        break;
                    }
                    match open_outbox(self.core(), &*backend, row) {
                        Ok(entry) => due.push(entry),
                        Err(LedgerError::KeyDestroyed) => lost.push(row.key),
                        Err(error @ (LedgerError::Damaged(_) | LedgerError::UnknownTenant(_))) => {
                            unreadable.push((row.key, error));
                        }
                        Err(error) => return Err(error),
                    }
                }
                from = (page.last().filter(|_| page.len() == PAGE))
                    .and_then(|last| following(last.key.due_ms, last.key.shard, last.key.id));
            }
        }
        if !lost.is_empty() {
            self.ask(1, |reply| Request::DropOutbox(lost, reply))
                .await?;
        }
        Ok(OutboxLook {
            entries: due,
            unreadable,
        })
    }

    /// Whether nothing leaves the outbox because the store was restored. [`Ledger::outbox_look`] then
    /// finds nothing.
    #[must_use]
    pub fn outbox_is_held(&self) -> bool {
        self.core().outbox_held.load(Ordering::Acquire)
    }

    /// Lets what lies in the outbox go, after a restore.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn release_outbox(&self) -> Result<(), LedgerError> {
        let row = (OUTBOX_HELD.to_owned(), Vec::new());
        self.ask(1, |reply| Request::Meta(vec![row], reply)).await?;
        self.core().outbox_held.store(false, Ordering::Release);
        Ok(())
    }

    /// What lies in the outbox, of every channel, due or not, held or not: up to `limit` keys with
    /// their channels, soonest first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn outbox_keys(
        &self,
        from: Option<OutboxKey>,
        limit: usize,
    ) -> Result<Vec<(OutboxKey, u16)>, LedgerError> {
        let first = OutboxKey {
            shard: Shard(0),
            due_ms: 0,
            id: [0; 16],
        };
        let after = from.map(|key| following(key.due_ms, key.shard, key.id));
        let from = match after {
            None => first,
            Some(None) => return Ok(Vec::new()),
            Some(Some((due_ms, shard, id))) => OutboxKey { shard, due_ms, id },
        };
        let rows = (self.backend()?.snapshot()).outbox(from, u64::MAX, limit.min(MAX_ROWS))?;
        Ok(rows.into_iter().map(|row| (row.key, row.channel)).collect())
    }

    /// Removes entries from the outbox unsent, those that are there.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn discard_outbox(&self, keys: Vec<OutboxKey>) -> Result<(), LedgerError> {
        self.ask(1, |reply| Request::DropOutbox(keys, reply)).await
    }

    /// When the earliest outbox entry is (or was) due: in the future the next one, in the past the
    /// oldest that waits.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn next_outbox_ms(&self) -> Result<Option<u64>, LedgerError> {
        let held = &self.core().held;
        if held.has_none() {
            return Ok(None);
        }
        let floors = &self.core().outbox_floors;
        let whose = self.whose(&[]);
        let (from_ms, mark) = floors.read(&whose);
        let from = OutboxKey {
            shard: Shard(0),
            due_ms: from_ms,
            id: [0; 16],
        };
        let rows = self.backend()?.now();
        let first = rows.outbox_of(from, u64::MAX, &whose, 1)?;
        let next = first.first().map(|row| row.key.due_ms);
        floors.raise(mark, next.unwrap_or(u64::MAX));
        Ok(next)
    }
}

/// What is found first, or what is right behind where it was looked for.
fn earliest(first_ms: Option<u64>, until_ms: u64) -> u64 {
    first_ms.unwrap_or(until_ms.saturating_add(1))
}
