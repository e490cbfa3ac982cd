//! The embedded backend: fjall, a log-structured merge store. The only file that names it.
//!
//! Each table is a keyspace. Documents are keyed by (number, shard), not (shard, number): numbers
//! only rise, so tables of documents never overlap and compaction moves them instead of rewriting
//! them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use crate::backend::{Backend, Head, HeadKey, KeyRow, OutboxRow, Snapshot, SubjectKey, Write};
use crate::codec::Decoder;
use crate::embedded_rows::{
    blind_key, cursor_key, decode_event, decode_head, decode_key_row, decode_outbox, decode_place,
    decode_posting, decode_timer, decode_tokens, due_key, encode_event, encode_head,
    encode_key_row, encode_outbox, encode_timer, encode_tokens, place_key, posting_key, shard_key,
    superseded_key,
};
use crate::{Event, Hit, LedgerError, Number, OutboxKey, Shard, Timer, TimerKey, Token};

/// Bound of all journals. Opening replays them, so this bounds how long opening takes after a crash;
/// 64 MiB is the least that fjall takes.
const JOURNALS_BYTES: u64 = 64 << 20;
/// Bound of a table's rows in memory before they are written out. Small, so that a replay finds most
/// of the journal already in tables; large enough that a flush is worth its file.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Where fjall keeps the tables' folders.
const TABLES_FOLDER: &str = "keyspaces";
/// The scrub writes this much to make fjall begin a new journal (it does at 64,000,000 bytes).
const SCRUB_BYTES: usize = 65 << 20;

struct Tables {
    database: Database,
    path: PathBuf,
    head: Keyspace,
    document: Keyspace,
    superseded: Keyspace,
    posting: Keyspace,
    posted: Keyspace,
    event: Keyspace,
    leaf: Keyspace,
    node: Keyspace,
    timer: Keyspace,
    outbox: Keyspace,
    cursor: Keyspace,
    key: Keyspace,
    meta: Keyspace,
}

/// The store in a folder.
pub(crate) struct FjallBackend(Arc<Tables>);

struct FjallSnapshot {
    tables: Arc<Tables>,
    view: fjall::Snapshot,
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
        let database = Database::builder(path)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNALS_BYTES)
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
                    .data_block_size_policy(BlockSizePolicy::all(8 << 10))
                    .data_block_compression_policy(CompressionPolicy::new([
                        CompressionType::None,
                        CompressionType::Lz4,
                    ])),
            )?,
            posted: table("posted", opaque(present()))?,
            event: table("event", ordered())?,
            leaf: table("leaf", opaque(ordered()))?,
            node: table("node", opaque(present()))?,
            timer: table("timer", ordered())?,
            outbox: table("outbox", opaque(common()))?,
            cursor: table("cursor", common())?,
            key: table("key", opaque(common()))?,
            meta: table("meta", common())?,
            path: path.to_path_buf(),
            database,
        };
        // fjall syncs what lies in a table's folder but not the folder's own name, without which a
        // power loss takes the whole table.
        for folder in [path.join(TABLES_FOLDER), path.to_path_buf()] {
            std::fs::File::open(&folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| LedgerError::Storage(format!("{}: {error}", folder.display())))?;
        }
        Ok(Self(Arc::new(tables)))
    }
}

impl Tables {
    fn all(&self) -> [&Keyspace; 13] {
        [
            &self.head,
            &self.document,
            &self.superseded,
            &self.posting,
            &self.posted,
            &self.event,
            &self.leaf,
            &self.node,
            &self.timer,
            &self.outbox,
            &self.cursor,
            &self.key,
            &self.meta,
        ]
    }
}

impl Backend for FjallBackend {
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        let tables = &*self.0;
        // fdatasync is enough: it also makes durable what is needed to find the data again, and the
        // journal's folder entry was made durable when the journal was begun.
        let mut batch = tables
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        let mut postings = Vec::new();
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
                    batch.insert(&tables.document, place_key(at).as_slice(), row);
                }
                Write::Superseded { key, version, at } => {
                    batch.insert(
                        &tables.superseded,
                        superseded_key(&key, version).as_slice(),
                        place_key(at).as_slice(),
                    );
                }
                Write::Posting { token, at } => postings.push(posting_key(token, at)),
                Write::DropPosting { token, at } => {
                    batch.remove(&tables.posting, posting_key(token, at).as_slice());
                }
                Write::Posted { at, tokens } => {
                    batch.insert(
                        &tables.posted,
                        place_key(at).as_slice(),
                        encode_tokens(&tokens),
                    );
                }
                Write::DropPosted { at } => batch.remove(&tables.posted, place_key(at).as_slice()),
                Write::Event(event) => {
                    let key = shard_key(event.at.shard, event.at.number.0);
                    batch.insert(&tables.event, key.as_slice(), encode_event(&event));
                }
                Write::Leaf {
                    shard,
                    index,
                    record,
                } => {
                    batch.insert(&tables.leaf, shard_key(shard, index).as_slice(), record);
                }
                Write::Node { shard, index, hash } => {
                    batch.insert(
                        &tables.node,
                        shard_key(shard, index).as_slice(),
                        hash.as_slice(),
                    );
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
                Write::Meta { name, value } => batch.insert(&tables.meta, name.as_bytes(), value),
            }
        }
        // In order, because neighbours then go into neighbouring places of the table in memory;
        // measured, that takes a third of the time.
        postings.sort_unstable();
        for key in postings {
            batch.insert(&tables.posting, key.as_slice(), [].as_slice());
        }
        batch.commit().map_err(fault)
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(FjallSnapshot {
            tables: Arc::clone(&self.0),
            view: self.0.database.snapshot(),
        })
    }

    fn scrub_keys(&self) -> Result<(), LedgerError> {
        let tables = &*self.0;
        // The overwritten row is in the journal and perhaps in a table. Fill the journal until fjall
        // begins a new one, write out all that is in memory so that the old journal can go, and
        // rewrite the key table without what was overwritten.
        let filler = vec![0; 1000];
        let rows_a_batch = 1000;
        for round in 0..SCRUB_BYTES / (filler.len() * rows_a_batch) {
            let mut batch = tables.database.batch();
            for row in 0..rows_a_batch {
                batch.insert(
                    &tables.meta,
                    format!("scrub/{round:04}/{row:04}"),
                    filler.as_slice(),
                );
            }
            batch.commit().map_err(fault)?;
            let mut batch = tables.database.batch();
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
        tables.key.major_compact().map_err(fault)?;
        tables.meta.major_compact().map_err(fault)
    }

    fn disk_bytes(&self) -> u64 {
        allocated_bytes(&self.0.path)
    }
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

impl FjallSnapshot {
    fn get(&self, table: &Keyspace, key: &[u8]) -> Result<Option<fjall::Slice>, LedgerError> {
        self.view.get(table, key).map_err(fault)
    }

    /// Up to `limit` rows of an inclusive range, decoded.
    fn page<T>(
        &self,
        table: &Keyspace,
        from: &[u8],
        to: &[u8],
        limit: usize,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        if limit == 0 || from > to {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        for guard in self.view.range(table, from..=to).take(limit) {
            let (key, value) = guard.into_inner().map_err(fault)?;
            rows.push(decode(&key, &value)?);
        }
        Ok(rows)
    }

    /// The last key of an inclusive range.
    fn last(
        &self,
        table: &Keyspace,
        from: &[u8],
        to: &[u8],
    ) -> Result<Option<fjall::Slice>, LedgerError> {
        self.view
            .range(table, from..=to)
            .next_back()
            .map(|guard| guard.key().map_err(fault))
            .transpose()
    }
}

impl Snapshot for FjallSnapshot {
    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self
            .get(&self.tables.meta, name.as_bytes())?
            .map(|value| value.to_vec()))
    }

    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError> {
        let mut rows = Vec::new();
        for guard in self.view.prefix(&self.tables.meta, prefix.as_bytes()) {
            let (key, value) = guard.into_inner().map_err(fault)?;
            let name = String::from_utf8(key.to_vec())
                .map_err(|_| LedgerError::Damaged("a meta row's name does not decode".into()))?;
            rows.push((name, value.to_vec()));
        }
        Ok(rows)
    }

    fn head(&self, key: &HeadKey) -> Result<Option<Head>, LedgerError> {
        let value = self.get(&self.tables.head, &blind_key(key.tenant, &key.id))?;
        value.map(|value| decode_head(&value)).transpose()
    }

    fn superseded(&self, key: &HeadKey, version: u32) -> Result<Option<Hit>, LedgerError> {
        let value = self.get(&self.tables.superseded, &superseded_key(key, version))?;
        value
            .map(|value| decode_place(&value, "superseded"))
            .transpose()
    }

    fn document(&self, at: Hit) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self
            .get(&self.tables.document, &place_key(at))?
            .map(|value| value.to_vec()))
    }

    fn places(&self, after: Hit, limit: usize) -> Result<Vec<Hit>, LedgerError> {
        let from = place_key(Hit {
            number: after.number,
            shard: Shard(after.shard.0.saturating_add(1)),
        });
        self.page(
            &self.tables.document,
            &from,
            &[0xff; 10],
            limit,
            |key, _| decode_place(key, "document"),
        )
    }

    fn last_number(&self) -> Result<Number, LedgerError> {
        match self.last(&self.tables.document, &[0; 10], &[0xff; 10])? {
            Some(key) => Ok(decode_place(&key, "document")?.number),
            None => Ok(Number(0)),
        }
    }

    fn postings(
        &self,
        token: Token,
        from: Hit,
        since: Number,
        limit: usize,
    ) -> Result<Vec<Hit>, LedgerError> {
        let from = posting_key(token, from);
        let to = posting_key(
            token,
            Hit {
                number: since,
                shard: Shard(u16::MAX),
            },
        );
        self.page(&self.tables.posting, &from, &to, limit, |key, _| {
            decode_posting(key)
        })
    }

    fn posted(&self, at: Hit) -> Result<Vec<Token>, LedgerError> {
        let Some(value) = self.get(&self.tables.posted, &place_key(at))? else {
            return Ok(Vec::new());
        };
        decode_tokens(&value)
    }

    fn events(&self, shard: Shard, after: Number, limit: usize) -> Result<Vec<Event>, LedgerError> {
        let Some(from) = after.0.checked_add(1) else {
            return Ok(Vec::new());
        };
        self.page(
            &self.tables.event,
            &shard_key(shard, from),
            &shard_key(shard, u64::MAX),
            limit,
            |key, value| {
                let mut decoder = Decoder::new(key, "event");
                let shard = Shard(decoder.u16()?);
                let number = Number(decoder.u64()?);
                decode_event(Hit { number, shard }, value)
            },
        )
    }

    fn last_event(&self, shard: Shard) -> Result<Number, LedgerError> {
        match self.last(
            &self.tables.event,
            &shard_key(shard, 0),
            &shard_key(shard, u64::MAX),
        )? {
            Some(key) => Ok(Number(Decoder::new(&key[2..], "event").u64()?)),
            None => Ok(Number(0)),
        }
    }

    fn leaf(&self, shard: Shard, index: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self
            .get(&self.tables.leaf, &shard_key(shard, index))?
            .map(|value| value.to_vec()))
    }

    fn leaves(
        &self,
        shard: Shard,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        self.page(
            &self.tables.leaf,
            &shard_key(shard, from),
            &shard_key(shard, u64::MAX),
            limit,
            |key, value| Ok((Decoder::new(&key[2..], "leaf").u64()?, value.to_vec())),
        )
    }

    fn tree_size(&self, shard: Shard) -> Result<u64, LedgerError> {
        match self.last(
            &self.tables.leaf,
            &shard_key(shard, 0),
            &shard_key(shard, u64::MAX),
        )? {
            Some(key) => Ok(Decoder::new(&key[2..], "leaf").u64()?.saturating_add(1)),
            None => Ok(0),
        }
    }

    fn node(&self, shard: Shard, index: u64) -> Result<Option<[u8; 32]>, LedgerError> {
        let value = self.get(&self.tables.node, &shard_key(shard, index))?;
        value
            .map(|value| Decoder::new(&value, "node").array())
            .transpose()
    }

    fn timers(
        &self,
        from: TimerKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Timer>, LedgerError> {
        let from = due_key(from.due_ms, from.shard, &from.id);
        let to = due_key(until_ms, Shard(u16::MAX), &[0xff; 16]);
        self.page(&self.tables.timer, &from, &to, limit, decode_timer)
    }

    fn outbox(
        &self,
        from: OutboxKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        let from = due_key(from.due_ms, from.shard, &from.id);
        let to = due_key(until_ms, Shard(u16::MAX), &[0xff; 16]);
        self.page(&self.tables.outbox, &from, &to, limit, decode_outbox)
    }

    fn has_outbox(&self, key: &OutboxKey) -> Result<bool, LedgerError> {
        let key = due_key(key.due_ms, key.shard, &key.id);
        self.view
            .contains_key(&self.tables.outbox, key)
            .map_err(fault)
    }

    fn cursor(&self, consumer: &str, shard: Shard) -> Result<Option<Number>, LedgerError> {
        let value = self.get(&self.tables.cursor, &cursor_key(consumer, shard))?;
        value
            .map(|value| Ok(Number(Decoder::new(&value, "cursor").u64()?)))
            .transpose()
    }

    fn key(&self, key: &SubjectKey) -> Result<Option<KeyRow>, LedgerError> {
        let value = self.get(&self.tables.key, &blind_key(key.tenant, &key.subject))?;
        value.map(|value| decode_key_row(&value)).transpose()
    }
}
