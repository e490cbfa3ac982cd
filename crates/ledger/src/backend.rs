//! The narrow interface between the ledger and a store of rows.
//!
//! A backend keeps typed rows, applies a batch of row writes atomically and durably, and answers
//! point gets and ordered pages. It knows nothing of keys, sealing, tokens, queries or trees, and
//! all that it is handed is sealed or blind already. Pages are owned, so that a store behind a
//! network can fill the same interface.
//!
//! | row | key | order it is read in |
//! |---|---|---|
//! | head | tenant, blind id | point |
//! | document | shard, number | point; by number |
//! | superseded | tenant, blind id, version | point |
//! | posting | token (keyed by its tenant), number, shard | newest first within a token |
//! | posted | shard, number | point |
//! | event | shard, number | oldest first within a shard, and newest first below a number |
//! | leaf, with the tree's hashes that it completed | shard, index | by index within a shard |
//! | timer, outbox | due, shard, id | soonest first |
//! | cursor | consumer, shard | point |
//! | key | tenant, blind subject | point |
//! | redo | sequence | by sequence |
//! | meta | name | by name |

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::due::{Whose, sift};
use crate::leases::{Lease, LeaseStanding};
use crate::outer::TOKENS;
use crate::tree::Tree;
use crate::{
    Event, Hit, LedgerError, Number, OutboxKey, Shard, StoragePart, TenantId, Timer, TimerKey,
    Token,
};

/// A keyed hash that stands for a document's kind and id, or for a patient.
pub(crate) type Blind = [u8; 16];

/// The shard that a document's or patient's id alone leads to, where a store that is spread by shard
/// keeps the rows of the name. It follows from the id, so it is no part of the name: all homes are
/// equal. `None` where only a stored header is at hand, which names things without saying their ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home(pub(crate) Option<Shard>);

impl PartialEq for Home {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Home {}

impl Hash for Home {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialOrd for Home {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Home {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// Names a document without saying its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HeadKey {
    pub(crate) tenant: TenantId,
    pub(crate) id: Blind,
    pub(crate) home: Home,
}

/// The newest version of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) at: Hit,
    pub(crate) version: u32,
    pub(crate) deleted: bool,
    /// Audit documents are written once; no draft may follow them.
    pub(crate) audit: bool,
}

/// The newest version of a document, and its row.
pub(crate) type Newest = (Head, Option<Vec<u8>>);

/// Names a patient's data key without saying whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubjectKey {
    pub(crate) tenant: TenantId,
    pub(crate) subject: Blind,
    pub(crate) home: Home,
}

/// A patient's data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyRow {
    /// Wrapped by the tenant's key.
    Wrapped(Vec<u8>),
    /// Destroyed, when; no key may be made for this patient again.
    Destroyed { at_ms: u64 },
}

/// An outbox entry, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutboxRow {
    pub(crate) key: OutboxKey,
    pub(crate) tenant: TenantId,
    pub(crate) channel: u16,
    pub(crate) attempt: u32,
    pub(crate) sealed: Vec<u8>,
}

/// One row write. No two writes of one batch name the same row.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Head(HeadKey, Head),
    Document {
        at: Hit,
        row: Vec<u8>,
    },
    Superseded {
        key: HeadKey,
        version: u32,
        at: Hit,
    },
    Posting {
        token: Token,
        at: Hit,
    },
    DropPosting {
        token: Token,
        at: Hit,
    },
    /// The tokens of a version that comes: a posting each, and [`Write::Posted`] of all of them. One row
    /// instead of one a token, of which a commit has a hundred.
    Listed {
        at: Hit,
        tokens: Vec<Token>,
    },
    /// The tokens of the postings of a newest version, so that its successor can drop them. While a
    /// redo log is kept they stay until a backup has taken them.
    Posted {
        at: Hit,
        tokens: Vec<Token>,
    },
    DropPosted {
        at: Hit,
    },
    Event(Event),
    Leaf {
        shard: Shard,
        index: u64,
        record: Vec<u8>,
        /// The hashes that appending the leaf stored: its own, and those of the subtrees that it
        /// completed, upwards. See [`crate::tree::stored_by`].
        nodes: Vec<[u8; 32]>,
    },
    Timer(Timer),
    DropTimer(TimerKey),
    Outbox(OutboxRow),
    DropOutbox(OutboxKey),
    Cursor {
        consumer: String,
        shard: Shard,
        at: Number,
    },
    Key(SubjectKey, KeyRow),
    /// Keys of a shard, or tenants' secrets, are others than before: whoever shares the store and has
    /// them in memory reads them again. Leaves no row.
    KeysChanged(Shard),
    /// What a group of commits changed that can't be told from documents and leaves later on; kept
    /// until a backup has taken it. See `redo.rs`.
    Redo {
        sequence: u64,
        row: Vec<u8>,
    },
    DropRedo(u64),
    Meta {
        name: String,
        value: Vec<u8>,
    },
    /// A meta row that is written only if there is none of its name.
    NewMeta {
        name: String,
        value: Vec<u8>,
    },
}

impl Write {
    /// The shard whose order the write belongs to; none for meta rows, and for rows of a name whose
    /// home is unknown.
    pub(crate) fn shard(&self) -> Option<Shard> {
        match self {
            Self::Head(key, _) | Self::Superseded { key, .. } => key.home.0,
            Self::Document { at, .. }
            | Self::Posting { at, .. }
            | Self::DropPosting { at, .. }
            | Self::Listed { at, .. }
            | Self::Posted { at, .. }
            | Self::DropPosted { at } => Some(at.shard),
            Self::Event(event) => Some(event.at.shard),
            Self::Leaf { shard, .. } | Self::Cursor { shard, .. } | Self::KeysChanged(shard) => {
                Some(*shard)
            }
            Self::Timer(timer) => Some(timer.key.shard),
            Self::DropTimer(key) => Some(key.shard),
            Self::Outbox(row) => Some(row.key.shard),
            Self::DropOutbox(key) => Some(key.shard),
            Self::Key(key, _) => key.home.0,
            Self::Redo { .. } | Self::DropRedo(_) | Self::Meta { .. } | Self::NewMeta { .. } => {
                None
            }
        }
    }
}

/// A table that backup or check goes through as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Head,
    Superseded,
    Posting,
    Posted,
    Cursor,
    Key,
}

/// A store of rows.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Whether `bytes` of new documents may be written. `Storage` says that the disk is almost full;
    /// what records that something was read may still be written for a good while then.
    fn room_for(&self, bytes: u64) -> Result<(), LedgerError>;
    /// Applies all writes or none, and returns when they are durable.
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError>;
    /// The rows as they are now; what is applied later does not show.
    fn snapshot(&self) -> Box<dyn Snapshot>;
    /// The same, for who looks away for minutes, as a backup does while a place is slow.
    fn long_snapshot(&self) -> Box<dyn Snapshot> {
        self.snapshot()
    }
    /// The same, for a list whose next page will come from another moment: see [`Snapshot::horizon`].
    fn listing(&self) -> Box<dyn Snapshot> {
        self.snapshot()
    }
    /// The rows of one moment at which everything up to a number was there; it may be past. Keys that
    /// open them are not to be taken from it.
    fn at_least(&self, _number: Number) -> Box<dyn Snapshot> {
        self.snapshot()
    }
    /// For reading once: each read shows the rows as they are then.
    fn now(&self) -> Box<dyn Snapshot> {
        self.snapshot()
    }
    /// What else can be asked of a store that several processes write to; `None` when this one is
    /// alone with it, and its memory of numbers and trees is right.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
    /// Removes what overwritten secrets (keys, and meta rows that wrap some) have left behind in the
    /// store's files. Whether all that had been overwritten before the call is gone: something that is
    /// still looked at may not be.
    fn scrub_keys(&self) -> Result<bool, LedgerError>;
    /// Bytes that the store takes on disk.
    fn disk_bytes(&self) -> u64;
    /// The same by table, as far as the store can tell its tables apart.
    fn storage(&self) -> Result<Vec<StoragePart>, LedgerError> {
        Ok(vec![StoragePart {
            name: "store".to_owned(),
            bytes: self.disk_bytes(),
        }])
    }
}

/// A store that several processes write to.
pub(crate) trait SharedStore: Send + Sync {
    /// How many groups this process writes at once.
    fn lanes(&self) -> usize;
    /// Waits until nobody else writes to the shards that a group touches, and gives it their rows.
    fn turn(&self, touched: Touched) -> Result<Box<dyn Turn>, LedgerError>;
    /// Signs anew, one process at a time: `sign` is given the newest checkpoint and all trees as they
    /// are, and says what takes its place, if something does. Gives the one that then stands.
    fn cover(&self, sign: &mut Sign<'_>) -> Result<String, LedgerError>;
    /// How far each shard is, in order.
    fn standings(&self) -> Result<Vec<Standing>, LedgerError>;
    /// What the store's own clock shows, in milliseconds since the Unix epoch.
    fn clock_ms(&self) -> Result<u64, LedgerError>;
    /// How many processes other than this one work on shards and have said so lately.
    fn others_alive(&self, node: Blind) -> Result<usize, LedgerError>;
    /// Whether the tables are spread over several servers, without one moment that a view could be of.
    fn is_spread(&self) -> bool;
    /// Puts a meta row's value in the place of another, if that is still the row's.
    fn change_meta(&self, name: &str, from: Vec<u8>, to: Vec<u8>) -> Result<(), LedgerError>;
    /// Says that a process is alive and counts as that for so long; tells it how many are, and what it
    /// holds.
    fn stay(&self, node: Blind, alive_for: Duration) -> Result<LeaseStanding, LedgerError>;
    /// Takes up to so many shards that nobody alive holds, each under a new epoch.
    fn take_free(&self, node: Blind, wanted: usize) -> Result<BTreeMap<Shard, u64>, LedgerError>;
    /// Gives shards back that a process holds.
    fn give_back(&self, node: Blind, shards: &[Shard]) -> Result<(), LedgerError>;
    /// Gives back everything, and is not counted as alive any more.
    fn leave(&self, node: Blind) -> Result<(), LedgerError>;
}

/// See [`SharedStore::cover`].
pub(crate) type Sign<'a> =
    dyn FnMut(&str, &[Tree]) -> Result<Option<String>, LedgerError> + Send + 'a;

/// What a group of commits may read and write.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) shards: BTreeSet<Shard>,
    pub(crate) heads: BTreeSet<HeadKey>,
    pub(crate) cursors: BTreeSet<(String, Shard)>,
    pub(crate) outbox: BTreeSet<OutboxKey>,
    pub(crate) keys: BTreeSet<SubjectKey>,
    /// Meta rows that are compared or overwritten.
    pub(crate) metas: BTreeSet<String>,
    /// Tenants whose newest secret something will be wrapped by.
    pub(crate) wrapping: BTreeSet<TenantId>,
    /// Documents whose lists of tokens are read, besides those of the heads.
    pub(crate) posted: BTreeSet<Hit>,
}

/// A group's turn at the store. What is read in it nobody else changes until it is applied or dropped.
pub(crate) trait Turn {
    fn rows(&self) -> &dyn Snapshot;
    /// The newest number of the touched shards, and their trees; `None` when the writer's memory of
    /// them is right.
    fn standing(&self) -> Option<(Number, &BTreeMap<Shard, Tree>)> {
        None
    }
    /// Who holds the touched shards. Nobody where the store is one process's.
    fn leases(&self) -> BTreeMap<Shard, Lease> {
        BTreeMap::new()
    }
    /// How many secrets a tenant has that something will be wrapped for; `None` when the writer's memory
    /// of them is right.
    fn secrets(&self, _tenant: TenantId) -> Option<u32> {
        None
    }
    /// Applies all writes or none, and returns when they are durable. `trees` are those that have
    /// grown.
    fn apply(
        self: Box<Self>,
        writes: Vec<Write>,
        trees: &BTreeMap<Shard, Tree>,
    ) -> Result<(), LedgerError>;
}

/// A turn at a store of any kind.
pub(crate) fn turn_at(
    backend: &dyn Backend,
    touched: Touched,
) -> Result<Box<dyn Turn + '_>, LedgerError> {
    match backend.shared() {
        None => Ok(Box::new(AloneTurn {
            backend,
            snapshot: backend.snapshot(),
        })),
        Some(store) => Ok(store.turn(touched)?),
    }
}

/// A turn at a store that this process is alone with.
pub(crate) struct AloneTurn<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) snapshot: Box<dyn Snapshot>,
}

impl Turn for AloneTurn<'_> {
    fn rows(&self) -> &dyn Snapshot {
        &*self.snapshot
    }
    fn apply(
        self: Box<Self>,
        writes: Vec<Write>,
        _trees: &BTreeMap<Shard, Tree>,
    ) -> Result<(), LedgerError> {
        drop(self.snapshot);
        self.backend.apply(writes)
    }
}

/// How far a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) shard: Shard,
    pub(crate) last: Number,
    pub(crate) last_event: Number,
    pub(crate) tree_size: u64,
    /// How often keys of it were destroyed or became others.
    pub(crate) keys_changed: u64,
}

/// One consistent view of the rows. Held briefly.
pub(crate) trait Snapshot: Send + Sync {
    /// What is read next is one tenant's. A store that can shows no other tenant's rows from then on.
    fn enter(&self, _tenant: TenantId) {}
    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError>;
    /// The meta row of where the outer layers of tokens stand. A turn reads it without keeping others
    /// from doing the same: who writes it holds shard 0.
    fn layers(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        self.meta(TOKENS)
    }
    /// Meta rows whose name starts with `prefix`, by name.
    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError>;
    fn head(&self, key: &HeadKey) -> Result<Option<Head>, LedgerError>;
    fn superseded(&self, key: &HeadKey, version: u32) -> Result<Option<Hit>, LedgerError>;
    fn document(&self, at: Hit) -> Result<Option<Vec<u8>>, LedgerError>;
    /// Places of documents after a place, in the order of (number, shard).
    fn places(&self, after: Hit, limit: usize) -> Result<Vec<Hit>, LedgerError>;
    /// The newest number of any document.
    fn last_number(&self) -> Result<Number, LedgerError>;
    /// Postings of a token from `from` (inclusive) on to older ones, not older than `since`; of the
    /// same number, lower shards come first.
    fn postings(
        &self,
        token: Token,
        from: Hit,
        since: Number,
        limit: usize,
    ) -> Result<Vec<Hit>, LedgerError>;
    /// Whether finding where a token's list begins costs next to nothing.
    fn knows(&self, _token: Token) -> bool {
        false
    }
    fn posted(&self, at: Hit) -> Result<Vec<Token>, LedgerError>;
    /// The number up to which it holds everything that there will ever be. `None` where the newest
    /// number that was known before it was made is one, because groups become visible in the order of
    /// their numbers.
    fn horizon(&self) -> Result<Option<Number>, LedgerError> {
        Ok(None)
    }
    /// Whether a round trip to the store is dear, so that it is asked for much at once.
    fn is_far(&self) -> bool {
        false
    }
    /// Postings of several tokens from one place on, up to so many of each.
    fn pages(
        &self,
        wanted: &[(Token, usize)],
        from: Hit,
        since: Number,
    ) -> Result<Vec<Vec<Hit>>, LedgerError> {
        let pages = wanted.iter();
        pages
            .map(|(token, limit)| self.postings(*token, from, since, *limit))
            .collect()
    }
    /// The tokens of several newest versions. Only where no redo log is kept: there a version that was
    /// superseded has none.
    fn posted_of(&self, places: &[Hit]) -> Result<Vec<Vec<Token>>, LedgerError> {
        places.iter().map(|at| self.posted(*at)).collect()
    }
    /// A document's newest version with its row.
    fn newest(&self, key: &HeadKey) -> Result<Option<Newest>, LedgerError> {
        let Some(head) = self.head(key)? else {
            return Ok(None);
        };
        Ok(Some((head, self.document(head.at)?)))
    }
    /// Documents of several places, as many of the first as together have no more than so many bytes,
    /// but at least one.
    fn documents(
        &self,
        places: &[Hit],
        bytes_max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, LedgerError> {
        let mut rows = Vec::with_capacity(places.len());
        let mut bytes = 0;
        for at in places {
            let row = self.document(*at)?;
            bytes += row.as_ref().map_or(0, Vec::len);
            if bytes > bytes_max && !rows.is_empty() {
                break;
            }
            rows.push(row);
        }
        Ok(rows)
    }
    /// The newest versions of several names.
    fn heads(&self, keys: &[HeadKey]) -> Result<Vec<Option<Head>>, LedgerError> {
        keys.iter().map(|key| self.head(key)).collect()
    }
    /// The data keys of several patients.
    fn keys(&self, keys: &[SubjectKey]) -> Result<Vec<Option<KeyRow>>, LedgerError> {
        keys.iter().map(|key| self.key(key)).collect()
    }
    /// Events of a shard after a number, oldest first.
    fn events(&self, shard: Shard, after: Number, limit: usize) -> Result<Vec<Event>, LedgerError>;
    /// Events of each of some shards below a number, newest first and none before `since`: up to `limit`
    /// of each. What lies above costs nothing, however much it is.
    fn events_below(
        &self,
        shards: &[(Shard, Number)],
        since: Number,
        limit: usize,
    ) -> Result<Vec<Vec<Event>>, LedgerError>;
    /// The number of a shard's newest event; zero when there is none.
    fn last_event(&self, shard: Shard) -> Result<Number, LedgerError>;
    fn leaf(&self, shard: Shard, index: u64) -> Result<Option<Vec<u8>>, LedgerError>;
    /// Leaves of a shard from an index on.
    fn leaves(
        &self,
        shard: Shard,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, LedgerError>;
    /// One more than the greatest leaf index of a shard.
    fn tree_size(&self, shard: Shard) -> Result<u64, LedgerError>;
    /// A shard's tree.
    fn tree(&self, shard: Shard) -> Result<Tree, LedgerError> {
        Tree::load(self, shard, self.tree_size(shard)?)
    }
    /// A hash of a shard's tree by its stored hash index.
    fn node(&self, shard: Shard, index: u64) -> Result<Option<[u8; 32]>, LedgerError>;
    /// Timers from a key (inclusive) on, due at `until_ms` or before.
    fn timers(
        &self,
        from: TimerKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Timer>, LedgerError>;
    /// Outbox entries from a key (inclusive) on, due at `until_ms` or before.
    fn outbox(
        &self,
        from: OutboxKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError>;
    /// Of these timers up to `limit` of somebody's.
    fn timers_of(
        &self,
        from: TimerKey,
        until_ms: u64,
        whose: &Whose,
        limit: usize,
    ) -> Result<Vec<Timer>, LedgerError> {
        let page = |(due_ms, shard, id), rows| {
            let page = self.timers(TimerKey { shard, due_ms, id }, until_ms, rows)?;
            Ok(page.into_iter().map(|row| (row.key.due(), row)).collect())
        };
        sift(from.due(), limit, page, |row| {
            whose.has(row.tenant, row.consumer, row.key.shard)
        })
    }
    /// Of these outbox entries up to `limit` of somebody's.
    fn outbox_of(
        &self,
        from: OutboxKey,
        until_ms: u64,
        whose: &Whose,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        let page = |(due_ms, shard, id), rows| {
            let page = self.outbox(OutboxKey { shard, due_ms, id }, until_ms, rows)?;
            Ok(page.into_iter().map(|row| (row.key.due(), row)).collect())
        };
        sift(from.due(), limit, page, |row| {
            whose.has(row.tenant, row.channel, row.key.shard)
        })
    }
    fn has_outbox(&self, key: &OutboxKey) -> Result<bool, LedgerError>;
    fn cursor(&self, consumer: &str, shard: Shard) -> Result<Option<Number>, LedgerError>;
    fn key(&self, key: &SubjectKey) -> Result<Option<KeyRow>, LedgerError>;
    /// Rows of a table as the writes that make them, in an order of the store's own, behind the row
    /// that `after` makes; from the first one on if there is none.
    fn scan(
        &self,
        table: Table,
        after: Option<&Write>,
        limit: usize,
    ) -> Result<Vec<Write>, LedgerError>;
    /// Redo rows after a sequence.
    fn redo(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LedgerError>;
    /// The sequence of the newest redo row; zero when there is none.
    fn last_redo(&self) -> Result<u64, LedgerError>;
}
