//! The embedded backend: fjall, a log-structured merge store. The only folder that names it.
//!
//! Each table is a keyspace. Documents are keyed by (number, shard), not (shard, number): numbers
//! only rise, so tables of documents never overlap and compaction moves them instead of rewriting
//! them.

mod beginnings;
mod events;
mod filter;
mod journal;
mod listed;
mod postings;
mod room;
pub(crate) mod rows;
mod view;
mod write;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy, RestartIntervalPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use self::beginnings::Beginnings;
use self::postings::{Change, Fresh, Run};
use self::room::Room;
use self::rows::{
    blind_key, cursor_key, due_key, encode_head, encode_key_row, encode_leaf, encode_outbox,
    encode_timer, place_key, posting_key, shard_key, superseded_key,
};
use self::view::FjallSnapshot;
use self::write::Lists;
use crate::backend::{Backend, Snapshot, Write};
use crate::codec::Decoder;
use crate::{Hit, LedgerError, Number, StoragePart};

/// Bound of all journals. Opening replays them, so this bounds how long opening takes after a crash;
/// 64 MiB is the least that fjall takes.
const JOURNALS_BYTES: u64 = 64 << 20;
/// Bound of a table's rows in memory before they are written out. Small, so that a replay finds most
/// of the journal already in tables; large enough that a flush is worth its file.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// fjall's background threads. The first only flushes, and while all others compact and more
/// compactions are asked for, it passes these round and round and takes a whole core. With its default
/// of one thread a core that is the rule on two cores; with three compacting it hardly comes to it.
const WORKERS: usize = 4;
/// Files of tables that are kept open. The listener leaves 512 of a process's files beside its connections.
const CACHED_FILES: usize = 320;
/// How many tables of postings gather before they are merged with the rest of them. Each merge writes
/// the whole first level anew, so twice fjall's default means half of that work; a search looks into
/// as many more tables, at some microseconds each.
const POSTING_TABLES: u8 = 8;
/// Where fjall keeps the tables' folders.
const TABLES_FOLDER: &str = "keyspaces";
/// How many postings gather in memory (19 bytes each) before they are written into their table, at
/// most; and what part of the cache's bytes, so that a small cache means little memory here too.
const FRESH_POSTINGS_MAX: u64 = 1_500_000;
const CACHE_BYTES_A_POSTING: u64 = 64;
/// How many spent fresh rows go with one batch, so that no batch grows out of proportion.
const SPENT_ROWS_MAX: u64 = 512;
/// How long to wait before writing postings into their table is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often, and how long each time, a scrub waits for the old journal to go: a minute in all.
const SCRUB_TRIES: usize = 600;
const SCRUB_PAUSE: Duration = Duration::from_millis(100);
/// A row that there never is; removing it gives the table something to write out.
const SCRUB_ROW: &str = "scrub/wait";
/// The scrub writes this much to make fjall begin a new journal (it does at 64,000,000 bytes).
const SCRUB_BYTES: usize = 65 << 20;

struct Tables {
    database: Database,
    path: PathBuf,
    head: Keyspace,
    document: Keyspace,
    superseded: Keyspace,
    posting: Keyspace,
    /// Tokens of newest versions that store formats 1 and 2 wrote, a row each; nothing new comes.
    posted: Keyspace,
    listed: Keyspace,
    event: Keyspace,
    leaf: Keyspace,
    /// Hashes of leaves that store format 1 wrote; nothing new comes.
    node: Keyspace,
    timer: Keyspace,
    outbox: Keyspace,
    cursor: Keyspace,
    key: Keyspace,
    redo: Keyspace,
    meta: Keyspace,
    /// The postings that are not in `posting` yet, by batch.
    fresh_rows: Keyspace,
    fresh: Mutex<Fresh>,
    beginnings: Beginnings,
    /// Told when `fresh` changes.
    fresh_changed: Condvar,
    room: Room,
    #[cfg(test)]
    keeper_panics: std::sync::atomic::AtomicBool,
    /// Held by the one batch that is being applied: what is in memory follows the tables in order. It
    /// is the greatest number of a document.
    applying: Mutex<Number>,
}

/// The store in a folder.
pub(crate) struct FjallBackend {
    tables: Arc<Tables>,
    keeper: Option<JoinHandle<()>>,
}

fn fault(error: fjall::Error) -> LedgerError {
    match error {
        fjall::Error::Locked => LedgerError::Storage("the store is open in another process".into()),
        fjall::Error::Poisoned => LedgerError::Storage(
            "an earlier write failed, so the store takes no more until it is opened again".into(),
        ),
        fjall::Error::Storage(
            inner @ (fjall::LsmError::ChecksumMismatch { .. } | fjall::LsmError::InvalidHeader(_)),
        ) => LedgerError::Damaged(format!("a table on disk is not what was written: {inner}")),
        fjall::Error::JournalRecovery(inner) => LedgerError::Damaged(format!(
            "the journal is not what was written, or its end was torn by a power cut: {inner:?}"
        )),
        other => LedgerError::Storage(other.to_string()),
    }
}

impl FjallBackend {
    /// Opens or makes the store in a folder.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self, LedgerError> {
        if let Some(torn) = journal::check(path)? {
            tracing::warn!(
                bytes = torn.bytes,
                kept_in = %torn.kept_in.display(),
                "the last write was torn, as by a power cut, before anybody was told that it is done; it was cut off"
            );
        }
        let database = Database::builder(path)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNALS_BYTES)
            .worker_threads(WORKERS)
            // What the listener leaves of a process's open files has to be enough for these and what is written.
            .max_cached_files(Some(CACHED_FILES))
            // What is long in the journal is sealed.
            .journal_compression(CompressionType::None)
            .open()
            .map_err(fault)?;
        let common = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        // Only point gets profit from a filter; the other tables are read in order, or their key is
        // known to be there, so that the last level's filters can be left out.
        let ordered = || common().filter_policy(FilterPolicy::disabled());
        let present = || common().expect_point_read_hits(true);
        // Sealed bytes and hashes do not compress; trying costs time.
        let opaque = |options: KeyspaceCreateOptions| {
            options.data_block_compression_policy(CompressionPolicy::disabled())
        };
        // What a table is made with is kept in the store, so a change here is for new stores.
        let table = |name: &str, options: KeyspaceCreateOptions| {
            database.keyspace(name, || options).map_err(fault)
        };
        let tables = Tables {
            head: table("head", opaque(common()))?,
            document: table(
                "document",
                opaque(present()).data_block_size_policy(BlockSizePolicy::all(8 << 10)),
            )?,
            superseded: table("superseded", opaque(common()))?,
            posting: table(
                "posting",
                ordered()
                    .max_memtable_size(2 * MEMTABLE_BYTES)
                    .compaction_strategy(Arc::new(
                        Leveled::default().with_l0_threshold(POSTING_TABLES),
                    ))
                    .data_block_size_policy(BlockSizePolicy::all(8 << 10))
                    // Neighbours differ in a few bytes; those of one token in two or three.
                    .data_block_restart_interval_policy(RestartIntervalPolicy::all(32))
                    .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4)),
            )?,
            posted: table("posted", present())?,
            // Neighbours share many tokens. On all levels, because tables that don't overlap are moved
            // down as they are.
            listed: table(
                "listed",
                ordered()
                    .data_block_size_policy(BlockSizePolicy::all(32 << 10))
                    .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4)),
            )?,
            event: table("event", ordered())?,
            leaf: table("leaf", opaque(ordered()))?,
            node: table("node", opaque(present()))?,
            timer: table("timer", ordered())?,
            outbox: table("outbox", opaque(common()))?,
            cursor: table("cursor", common())?,
            key: table("key", opaque(common()))?,
            redo: table("redo", ordered())?,
            meta: table("meta", common())?,
            fresh_rows: table("fresh", opaque(common()))?,
            fresh: Mutex::new(Fresh::new(fresh_postings(cache_bytes))),
            beginnings: Beginnings::new(cache_bytes),
            fresh_changed: Condvar::new(),
            room: Room::of(path)?,
            #[cfg(test)]
            keeper_panics: std::sync::atomic::AtomicBool::new(false),
            applying: Mutex::default(),
            path: path.to_path_buf(),
            database,
        };
        tables.load_fresh()?;
        *tables.applying() = tables.last_document()?;
        // fjall syncs what lies in a table's folder but not the folder's own name, without which a
        // power loss takes the whole table.
        for folder in [path.join(TABLES_FOLDER), path.to_path_buf()] {
            std::fs::File::open(&folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| LedgerError::Storage(format!("{}: {error}", folder.display())))?;
        }
        let tables = Arc::new(tables);
        let keeper = std::thread::Builder::new()
            .name("ledger-postings".into())
            .spawn({
                let tables = Arc::clone(&tables);
                move || {
                    let _told = TellOfPanic(&tables);
                    tables.keep_postings();
                }
            })
            .map_err(|error| {
                LedgerError::Storage(format!("no thread for the postings: {error}"))
            })?;
        Ok(Self {
            tables,
            keeper: Some(keeper),
        })
    }

    /// Bytes that the disk has left.
    #[cfg(test)]
    pub(crate) fn free_disk(&self) -> u64 {
        self.tables.room.free_bytes().ok().flatten().unwrap_or(0)
    }

    /// Makes the thread that keeps the postings panic when it next has work.
    #[cfg(test)]
    pub(crate) fn panic_the_keeper(&self) {
        (self.tables.keeper_panics).store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Another reserve of disk, so that a test need not fill one.
    #[cfg(test)]
    pub(crate) fn reserve_disk(&self, bytes: u64) {
        self.tables.room.reserve(bytes);
    }
}

impl Drop for FjallBackend {
    fn drop(&mut self) {
        self.tables.fresh().closing = true;
        self.tables.fresh_changed.notify_all();
        if self
            .keeper
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that keeps the postings has panicked");
        }
    }
}

/// Lets nobody wait for a thread that has panicked.
struct TellOfPanic<'a>(&'a Tables);

impl Drop for TellOfPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fresh().fault =
                Some("the thread that keeps the postings has panicked; restart the server".into());
            self.0.fresh_changed.notify_all();
        }
    }
}

fn fresh_postings(cache_bytes: u64) -> usize {
    let postings = (cache_bytes / CACHE_BYTES_A_POSTING).min(FRESH_POSTINGS_MAX);
    usize::try_from(postings).unwrap_or(usize::MAX).max(1)
}

impl Tables {
    fn all(&self) -> [&Keyspace; 16] {
        [
            &self.head,
            &self.document,
            &self.superseded,
            &self.posting,
            &self.posted,
            &self.listed,
            &self.event,
            &self.leaf,
            &self.node,
            &self.timer,
            &self.outbox,
            &self.cursor,
            &self.key,
            &self.redo,
            &self.meta,
            &self.fresh_rows,
        ]
    }

    /// A batch that is durable once it is committed. fdatasync is enough: it also makes durable what
    /// is needed to find the data again, and the journal's folder entry was made durable when the
    /// journal was begun.
    fn durable_batch(&self) -> fjall::OwnedWriteBatch {
        self.database
            .batch()
            .durability(Some(PersistMode::SyncData))
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the fresh rows into memory. Millions of postings may have to be sorted while nobody is
    /// served yet, so every processor takes a part.
    fn load_fresh(&self) -> Result<(), LedgerError> {
        let view = self.database.snapshot();
        let (mut numbers, mut rows) = (Vec::new(), Vec::new());
        for guard in view.iter(&self.fresh_rows) {
            let (key, value) = guard.into_inner().map_err(fault)?;
            numbers.push(Decoder::new(&key, "fresh").u64()?);
            rows.push(value);
        }
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return Ok(());
        };
        let mut fresh = self.fresh();
        let length = fresh.longest_run();
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let parts = rows.chunks(rows.len().div_ceil(workers.min(WORKERS)));
        let runs: Result<Vec<Vec<Run>>, LedgerError> = std::thread::scope(|scope| {
            let view = &view;
            let started: Vec<_> = parts
                .map(|part| {
                    let rows = part.iter().map(|row| &**row);
                    scope.spawn(move || view::runs_of(self, view, rows, length))
                })
                .collect();
            let ended = started.into_iter().map(|thread| {
                (thread.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect()
        });
        fresh.load(*first..last + 1, runs?.into_iter().flatten());
        Ok(())
    }

    fn applying(&self) -> MutexGuard<'_, Number> {
        (self.applying.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes postings into their table whenever enough have gathered, until the store is closed.
    fn keep_postings(&self) {
        let mut fresh = self.fresh();
        loop {
            if fresh.closing {
                return;
            }
            if !fresh.is_due() && !fresh.is_frozen() {
                fresh = (self.fresh_changed.wait(fresh)).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let runs = fresh.freeze();
            drop(fresh);
            let outcome = self.write_postings(&postings::merge_all(&runs));
            fresh = self.fresh();
            match outcome {
                Ok(()) => {
                    // Under the lock, so that who looks from now on sees the new state of both.
                    let written = fresh.thaw();
                    (self.beginnings).renew(fresh.table(), |token| written.may_have(token));
                    fresh.fault = None;
                }
                Err(error) => {
                    tracing::error!(%error, "postings could not be written into their table");
                    fresh.fault = Some(error.to_string());
                    (fresh, _) = (self.fresh_changed.wait_timeout(fresh, RETRY))
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            self.fresh_changed.notify_all();
        }
    }

    /// Waits until journals have been removed. fjall does so after a table has been written out, on a
    /// thread of its own, and not before all tables are as new as the journal.
    fn wait_until_gone(&self, journals: &[PathBuf]) -> Result<(), LedgerError> {
        for _ in 0..SCRUB_TRIES {
            if !journals.iter().any(|path| path.exists()) {
                return Ok(());
            }
            let mut batch = self.durable_batch();
            batch.remove(&self.meta, SCRUB_ROW);
            batch.commit().map_err(fault)?;
            self.meta.rotate_memtable_and_wait().map_err(fault)?;
            // Nobody tells this condition, so it is a pause.
            let fresh = self.fresh();
            drop(
                self.fresh_changed
                    .wait_timeout(fresh, SCRUB_PAUSE)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
        Err(LedgerError::Storage(
            "a destroyed key could not be removed from the store's journal; it is tried again when the \
             store is opened next"
                .into(),
        ))
    }

    fn write_postings(&self, run: &Run) -> Result<(), LedgerError> {
        let began = tokio::time::Instant::now();
        #[cfg(test)]
        assert!(
            !self
                .keeper_panics
                .load(std::sync::atomic::Ordering::Relaxed),
            "as a test wants it"
        );
        let mut ingestion = self.posting.start_ingestion().map_err(fault)?;
        for change in run.iter() {
            if change.dropped {
                ingestion.write_tombstone(change.key.as_slice())
            } else {
                ingestion.write(change.key.as_slice(), [].as_slice())
            }
            .map_err(fault)?;
        }
        ingestion.finish().map_err(fault)?;
        metrics::histogram!("ledger_postings_seconds").record(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Waits while too many postings wait for their table.
    fn wait_for_postings(&self) -> Result<(), LedgerError> {
        let mut fresh = self.fresh();
        while fresh.is_crowded() {
            if let Some(fault) = &fresh.fault {
                return Err(LedgerError::Storage(fault.clone()));
            }
            fresh = (self.fresh_changed.wait(fresh)).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Backend for FjallBackend {
    fn room_for(&self, bytes: u64) -> Result<(), LedgerError> {
        self.tables.room.for_documents(bytes)
    }

    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        let tables = &*self.tables;
        let mut last_document = tables.applying();
        tables.room.for_anything(bytes(&writes))?;
        tables.wait_for_postings()?;
        let mut batch = tables.durable_batch();
        let mut postings = Vec::new();
        let mut lists = Lists::default();
        let mut events = Vec::new();
        let mut last = *last_document;
        let audits: HashSet<Hit> = (writes.iter())
            .filter_map(|write| match write {
                Write::Head(_, head) if head.audit => Some(head.at),
                _ => None,
            })
            .collect();
        for write in writes {
            match write {
                Write::Head(key, head) => {
                    batch.insert(
                        &tables.head,
                        blind_key(key.tenant, &key.id).as_slice(),
                        encode_head(&head),
                    );
                }
                Write::Document { at, row } => {
                    last = last.max(at.number);
                    batch.insert(&tables.document, place_key(at).as_slice(), row);
                }
                Write::Superseded { key, version, at } => {
                    batch.insert(
                        &tables.superseded,
                        superseded_key(&key, version).as_slice(),
                        place_key(at).as_slice(),
                    );
                }
                Write::Posting { token, at } => postings.push(Change {
                    key: posting_key(token, at),
                    dropped: false,
                }),
                Write::DropPosting { token, at } => postings.push(Change {
                    key: posting_key(token, at),
                    dropped: true,
                }),
                Write::Listed { at, tokens } => {
                    // The postings of a new list are taken from it.
                    if at.number <= *last_document {
                        postings.extend(write::postings_of(at, &tokens));
                    }
                    lists.come[usize::from(audits.contains(&at))].push((at, tokens));
                }
                Write::Posted { at, tokens } => {
                    lists.come[usize::from(audits.contains(&at))].push((at, tokens));
                }
                Write::DropPosted { at } => lists.dropped.push(at),
                Write::Event(event) => events.push(event),
                Write::Leaf {
                    shard,
                    index,
                    record,
                    nodes,
                } => {
                    let key = shard_key(shard, index);
                    batch.insert(&tables.leaf, key.as_slice(), encode_leaf(&record, &nodes));
                }
                Write::Timer(timer) => {
                    let key = due_key(timer.key.due_ms, timer.key.shard, &timer.key.id);
                    batch.insert(&tables.timer, key.as_slice(), encode_timer(&timer));
                }
                Write::DropTimer(key) => {
                    batch.remove(
                        &tables.timer,
                        due_key(key.due_ms, key.shard, &key.id).as_slice(),
                    );
                }
                Write::Outbox(row) => {
                    let key = due_key(row.key.due_ms, row.key.shard, &row.key.id);
                    batch.insert(&tables.outbox, key.as_slice(), encode_outbox(&row));
                }
                Write::DropOutbox(key) => {
                    batch.remove(
                        &tables.outbox,
                        due_key(key.due_ms, key.shard, &key.id).as_slice(),
                    );
                }
                Write::Cursor {
                    consumer,
                    shard,
                    at,
                } => {
                    batch.insert(
                        &tables.cursor,
                        cursor_key(&consumer, shard),
                        at.0.to_be_bytes().as_slice(),
                    );
                }
                Write::Key(key, row) => {
                    batch.insert(
                        &tables.key,
                        blind_key(key.tenant, &key.subject).as_slice(),
                        encode_key_row(&row),
                    );
                }
                // Nobody else has any in memory.
                Write::KeysChanged(_) => {}
                Write::Redo { sequence, row } => {
                    batch.insert(&tables.redo, sequence.to_be_bytes().as_slice(), row);
                }
                Write::DropRedo(sequence) => {
                    batch.remove(&tables.redo, sequence.to_be_bytes().as_slice());
                }
                Write::Meta { name, value } => batch.insert(&tables.meta, name.as_bytes(), value),
                // Batches are applied one by one, so nobody writes it in between.
                Write::NewMeta { name, value } => {
                    if !tables.meta.contains_key(&name).map_err(fault)? {
                        batch.insert(&tables.meta, name.as_bytes(), value);
                    }
                }
            }
        }
        tables.write_events(&mut batch, events, *last_document)?;
        let mut new = tables.write_lists(&mut batch, lists, *last_document)?;
        new.changes.sort_unstable_by_key(Change::rank);
        let mut run = new.changes;
        if !postings.is_empty() {
            postings.sort_unstable_by_key(Change::rank);
            postings = postings::without(&postings, &run);
            run.extend_from_slice(&postings);
            run.sort_unstable_by_key(Change::rank);
        }
        let (row, spent) = {
            let fresh = tables.fresh();
            (fresh.next_row(), fresh.spent(SPENT_ROWS_MAX))
        };
        if !run.is_empty() {
            let value = postings::encode(new.numbers, &postings);
            batch.insert(&tables.fresh_rows, row.to_be_bytes().as_slice(), value);
        }
        // With this batch and not in one of their own, so that a power cut can tear one batch only.
        for row in spent.clone() {
            batch.remove(&tables.fresh_rows, row.to_be_bytes().as_slice());
        }
        batch.commit().map_err(fault)?;
        *last_document = last;
        let mut fresh = tables.fresh();
        fresh.removed(spent.end);
        if !run.is_empty() {
            fresh.push(Arc::new(run));
            if fresh.is_due() {
                tables.fresh_changed.notify_all();
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(FjallSnapshot::take(&self.tables))
    }

    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        let tables = &*self.tables;
        let _in_order = tables.applying();
        tables.room.for_anything(2 * SCRUB_BYTES as u64)?;
        // The overwritten row is in the journal and perhaps in a table. Fill the journal until fjall
        // begins a new one, write out all that is in memory so that the old journal can go, and
        // rewrite the key table without what was overwritten.
        let before = journal::journals(&tables.path)?;
        let filler = vec![0; 1000];
        let rows_a_batch = 1000;
        for round in 0..SCRUB_BYTES / (filler.len() * rows_a_batch) {
            let mut batch = tables.durable_batch();
            for row in 0..rows_a_batch {
                batch.insert(
                    &tables.meta,
                    format!("scrub/{round:04}/{row:04}"),
                    filler.as_slice(),
                );
            }
            batch.commit().map_err(fault)?;
            let mut batch = tables.durable_batch();
            for row in 0..rows_a_batch {
                batch.remove(&tables.meta, format!("scrub/{round:04}/{row:04}"));
            }
            batch.commit().map_err(fault)?;
        }
        for _ in 0..2 {
            for table in tables.all() {
                table.rotate_memtable_and_wait().map_err(fault)?;
            }
        }
        tables.wait_until_gone(&before)?;
        tables.key.major_compact().map_err(fault)?;
        tables.meta.major_compact().map_err(fault)?;
        Ok(true)
    }

    fn disk_bytes(&self) -> u64 {
        allocated_bytes(&self.tables.path)
    }

    fn storage(&self) -> Result<Vec<StoragePart>, LedgerError> {
        let tables = self.tables.all().map(|table| StoragePart {
            name: table.name().to_string(),
            bytes: table.disk_space(),
        });
        let mut parts = Vec::from(tables);
        let in_tables = allocated_bytes(&self.tables.path.join(TABLES_FOLDER));
        parts.push(StoragePart {
            name: "journal".to_owned(),
            bytes: self.disk_bytes().saturating_sub(in_tables),
        });
        Ok(parts)
    }
}

/// About how many bytes writes take in the journal: the long ones, and a place for each.
fn bytes(writes: &[Write]) -> u64 {
    let long = |write: &Write| match write {
        Write::Document { row, .. } | Write::Redo { row, .. } => row.len(),
        Write::Outbox(row) => row.sealed.len(),
        Write::Timer(timer) => timer.payload.len(),
        Write::Meta { value, .. } | Write::NewMeta { value, .. } => value.len(),
        Write::Listed { tokens, .. } => 64 * tokens.len(),
        _ => 0,
    };
    writes.iter().map(|write| 64 + long(write) as u64).sum()
}

/// Bytes of the blocks that are really allocated: fjall makes journals of 64 MiB with holes.
fn allocated_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => allocated_bytes(&entry.path()),
            #[cfg(unix)]
            Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
            #[cfg(not(unix))]
            Ok(metadata) => metadata.len(),
            // The entry went away between listing and asking.
            Err(_) => 0,
        })
        .sum()
}
