//! A store that counts what it is asked for, so that a test can hold the work of one request against another's: what
//! is another tenant's has to cost as much as what nobody has, and a clock tells that only roughly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{
    Backend, Head, HeadKey, KeyRow, Newest, OutboxRow, SharedStore, Snapshot, SubjectKey, Table,
    Write,
};
use crate::store::open_backend;
use crate::tree::Tree;
use crate::{
    Event, Hit, Ledger, LedgerError, Number, OpenOptions, OutboxKey, Shard, StoragePart, TenantId,
    Timer, TimerKey, Token,
};

/// How often the rows of a store were looked up, by sort, and how often it was written to. Writers' own looks in a
/// database that is shared are not among them.
#[derive(Debug, Clone, Default)]
pub struct LookUps(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl LookUps {
    /// What has been looked up since the store was opened.
    #[must_use]
    pub fn so_far(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, what: &'static str, count: usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += count as u64;
    }
}

impl Ledger {
    /// Opens a store that counts, for tests.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the key should not stay behind with the caller"
    )]
    pub fn open_counted(options: OpenOptions, counts: &LookUps) -> Result<Self, LedgerError> {
        let backend = Counted {
            inner: open_backend(&options.location, options.cache_bytes)?,
            counts: counts.clone(),
        };
        Self::open_on(Arc::new(backend), &options)
    }
}

struct Counted {
    inner: Arc<dyn Backend>,
    counts: LookUps,
}

impl Counted {
    fn of(&self, rows: Box<dyn Snapshot>) -> Box<dyn Snapshot> {
        Box::new(CountedRows {
            inner: rows,
            counts: self.counts.clone(),
        })
    }
}

impl Backend for Counted {
    fn room_for(&self, bytes: u64) -> Result<(), LedgerError> {
        self.inner.room_for(bytes)
    }
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        self.counts.add("apply", 1);
        self.inner.apply(writes)
    }
    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.of(self.inner.snapshot())
    }
    fn long_snapshot(&self) -> Box<dyn Snapshot> {
        self.of(self.inner.long_snapshot())
    }
    fn listing(&self) -> Box<dyn Snapshot> {
        self.of(self.inner.listing())
    }
    fn at_least(&self, number: Number) -> Box<dyn Snapshot> {
        self.of(self.inner.at_least(number))
    }
    fn now(&self) -> Box<dyn Snapshot> {
        self.of(self.inner.now())
    }
    fn shared(&self) -> Option<&dyn SharedStore> {
        self.inner.shared()
    }
    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        self.inner.scrub_keys()
    }
    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }
    fn storage(&self) -> Result<Vec<StoragePart>, LedgerError> {
        self.inner.storage()
    }
}

struct CountedRows {
    inner: Box<dyn Snapshot>,
    counts: LookUps,
}

/// Methods that ask the store for one thing, or for one run of rows.
macro_rules! counted {
    ($(fn $name:ident(&self $(, $argument:ident: $of:ty)*) -> $answer:ty;)*) => {
        $(fn $name(&self $(, $argument: $of)*) -> Result<$answer, LedgerError> {
            self.counts.add(stringify!($name), 1);
            self.inner.$name($($argument),*)
        })*
    };
}

impl Snapshot for CountedRows {
    counted! {
        fn meta(&self, name: &str) -> Option<Vec<u8>>;
        fn layers(&self) -> Option<Vec<u8>>;
        fn metas(&self, prefix: &str) -> Vec<(String, Vec<u8>)>;
        fn head(&self, key: &HeadKey) -> Option<Head>;
        fn superseded(&self, key: &HeadKey, version: u32) -> Option<Hit>;
        fn document(&self, at: Hit) -> Option<Vec<u8>>;
        fn places(&self, after: Hit, limit: usize) -> Vec<Hit>;
        fn last_number(&self) -> Number;
        fn postings(&self, token: Token, from: Hit, since: Number, limit: usize) -> Vec<Hit>;
        fn posted(&self, at: Hit) -> Vec<Token>;
        fn horizon(&self) -> Option<Number>;
        fn newest(&self, key: &HeadKey) -> Option<Newest>;
        fn events(&self, shard: Shard, after: Number, limit: usize) -> Vec<Event>;
        fn last_event(&self, shard: Shard) -> Number;
        fn leaf(&self, shard: Shard, index: u64) -> Option<Vec<u8>>;
        fn leaves(&self, shard: Shard, from: u64, limit: usize) -> Vec<(u64, Vec<u8>)>;
        fn tree_size(&self, shard: Shard) -> u64;
        fn tree(&self, shard: Shard) -> Tree;
        fn node(&self, shard: Shard, index: u64) -> Option<[u8; 32]>;
        fn timers(&self, from: TimerKey, until_ms: u64, limit: usize) -> Vec<Timer>;
        fn outbox(&self, from: OutboxKey, until_ms: u64, limit: usize) -> Vec<OutboxRow>;
        fn has_outbox(&self, key: &OutboxKey) -> bool;
        fn cursor(&self, consumer: &str, shard: Shard) -> Option<Number>;
        fn key(&self, key: &SubjectKey) -> Option<KeyRow>;
        fn scan(&self, table: Table, after: Option<&Write>, limit: usize) -> Vec<Write>;
        fn redo(&self, after: u64, limit: usize) -> Vec<(u64, Vec<u8>)>;
        fn last_redo(&self) -> u64;
    }

    fn enter(&self, tenant: TenantId) {
        self.inner.enter(tenant);
    }
    fn knows(&self, token: Token) -> bool {
        self.inner.knows(token)
    }
    fn is_far(&self) -> bool {
        self.inner.is_far()
    }
    fn pages(
        &self,
        wanted: &[(Token, usize)],
        from: Hit,
        since: Number,
    ) -> Result<Vec<Vec<Hit>>, LedgerError> {
        self.counts.add("postings", wanted.len());
        self.inner.pages(wanted, from, since)
    }
    fn posted_of(&self, places: &[Hit]) -> Result<Vec<Vec<Token>>, LedgerError> {
        self.counts.add("posted", places.len());
        self.inner.posted_of(places)
    }
    fn documents(
        &self,
        places: &[Hit],
        bytes_max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, LedgerError> {
        self.counts.add("document", places.len());
        self.inner.documents(places, bytes_max)
    }
    fn heads(&self, keys: &[HeadKey]) -> Result<Vec<Option<Head>>, LedgerError> {
        self.counts.add("head", keys.len());
        self.inner.heads(keys)
    }
    fn keys(&self, keys: &[SubjectKey]) -> Result<Vec<Option<KeyRow>>, LedgerError> {
        self.counts.add("key", keys.len());
        self.inner.keys(keys)
    }
    fn events_below(
        &self,
        shards: &[(Shard, Number)],
        since: Number,
        limit: usize,
    ) -> Result<Vec<Vec<Event>>, LedgerError> {
        self.counts.add("events_below", shards.len());
        self.inner.events_below(shards, since, limit)
    }
}
