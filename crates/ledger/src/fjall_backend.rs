//! The embedded backend: fjall, a log-structured merge store. The only file that names it.
//!
//! Each table is a keyspace; keys are big-endian so that their byte order is the order of reading.
//! Documents are keyed by (number, shard), not (shard, number): numbers only rise, so tables of
//! documents never overlap and compaction moves them instead of rewriting them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use crate::backend::{Backend, Head, HeadKey, KeyRow, OutboxRow, Snapshot, SubjectKey, Write};
use crate::codec::{Decoder, put_varint};
use crate::{
    Event, Hit, Kind, LedgerError, Number, OutboxKey, Shard, TenantId, Timer, TimerKey, Token,
};

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
        other => LedgerError::Storage(other.to_string()),
    }
}

impl FjallBackend {
    /// Opens or makes the store in a folder.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self, LedgerError> {
        let database = Database::builder(path)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNALS_BYTES)
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

fn blind_key(tenant: TenantId, blind: &[u8; 16]) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&tenant.0.to_be_bytes());
    key[4..].copy_from_slice(blind);
    key
}

fn superseded_key(key: &HeadKey, version: u32) -> [u8; 24] {
    let mut out = [0; 24];
    out[..20].copy_from_slice(&blind_key(key.tenant, &key.id));
    out[20..].copy_from_slice(&version.to_be_bytes());
    out
}

fn place_key(at: Hit) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&at.number.0.to_be_bytes());
    key[8..].copy_from_slice(&at.shard.0.to_be_bytes());
    key
}

fn decode_place(bytes: &[u8], row: &'static str) -> Result<Hit, LedgerError> {
    let mut decoder = Decoder::new(bytes, row);
    let number = Number(decoder.u64()?);
    let shard = Shard(decoder.u16()?);
    decoder.end()?;
    Ok(Hit { number, shard })
}

/// The number's complement sorts newer before older.
fn posting_key(token: Token, at: Hit) -> [u8; 18] {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&token.0.to_be_bytes());
    key[8..16].copy_from_slice(&(!at.number.0).to_be_bytes());
    key[16..].copy_from_slice(&at.shard.0.to_be_bytes());
    key
}

fn shard_key(shard: Shard, rest: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&shard.0.to_be_bytes());
    key[2..].copy_from_slice(&rest.to_be_bytes());
    key
}

fn due_key(due_ms: u64, shard: Shard, id: &[u8; 16]) -> [u8; 26] {
    let mut key = [0; 26];
    key[..8].copy_from_slice(&due_ms.to_be_bytes());
    key[8..10].copy_from_slice(&shard.0.to_be_bytes());
    key[10..].copy_from_slice(id);
    key
}

fn decode_due(bytes: &[u8], row: &'static str) -> Result<(u64, Shard, [u8; 16]), LedgerError> {
    let mut decoder = Decoder::new(bytes, row);
    let due = (decoder.u64()?, Shard(decoder.u16()?), decoder.array()?);
    decoder.end()?;
    Ok(due)
}

fn cursor_key(consumer: &str, shard: Shard) -> Vec<u8> {
    let mut key = shard.0.to_be_bytes().to_vec();
    key.extend_from_slice(consumer.as_bytes());
    key
}

fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = place_key(head.at).to_vec();
    out.push(u8::from(head.deleted) | u8::from(head.audit) << 1);
    put_varint(&mut out, u64::from(head.version));
    out
}

fn decode_head(bytes: &[u8]) -> Result<Head, LedgerError> {
    let mut decoder = Decoder::new(bytes, "head");
    let at = decode_place(decoder.bytes(10)?, "head")?;
    let flags = decoder.u8()?;
    let version = decoder.small()?;
    decoder.end()?;
    Ok(Head {
        at,
        version,
        deleted: flags & 1 != 0,
        audit: flags & 2 != 0,
    })
}

fn encode_tokens(tokens: &[Token]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| token.0.to_be_bytes())
        .collect()
}

fn encode_event(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put_varint(&mut out, u64::from(event.tenant.0));
    put_varint(&mut out, u64::from(event.kind.0));
    put_varint(
        &mut out,
        u64::from(event.version) << 1 | u64::from(event.deleted),
    );
    if let Some(cause) = event.cause {
        out.extend_from_slice(&cause.0.to_be_bytes());
    }
    out
}

fn decode_event(at: Hit, bytes: &[u8]) -> Result<Event, LedgerError> {
    let mut decoder = Decoder::new(bytes, "event");
    let tenant = TenantId(decoder.small()?);
    let kind = Kind(decoder.small()?);
    let version = decoder.varint()?;
    let cause = if decoder.remaining() == 0 {
        None
    } else {
        Some(Number(decoder.u64()?))
    };
    decoder.end()?;
    let deleted = version & 1 != 0;
    let version = u32::try_from(version >> 1)
        .map_err(|_| LedgerError::Damaged("an event row does not decode".into()))?;
    Ok(Event {
        at,
        tenant,
        kind,
        version,
        deleted,
        cause,
    })
}

fn encode_timer(timer: &Timer) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + timer.payload.len());
    put_varint(&mut out, u64::from(timer.tenant.0));
    put_varint(&mut out, u64::from(timer.consumer));
    out.extend_from_slice(&timer.payload);
    out
}

fn encode_outbox(row: &OutboxRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + row.sealed.len());
    put_varint(&mut out, u64::from(row.tenant.0));
    put_varint(&mut out, u64::from(row.channel));
    put_varint(&mut out, u64::from(row.attempt));
    out.extend_from_slice(&row.sealed);
    out
}

fn encode_key_row(row: &KeyRow) -> Vec<u8> {
    match row {
        KeyRow::Wrapped(bytes) => [&[1], bytes.as_slice()].concat(),
        KeyRow::Destroyed { at_ms } => [&[0], at_ms.to_be_bytes().as_slice()].concat(),
    }
}

fn decode_key_row(bytes: &[u8]) -> Result<KeyRow, LedgerError> {
    let mut decoder = Decoder::new(bytes, "key");
    match decoder.u8()? {
        1 => Ok(KeyRow::Wrapped(decoder.rest().to_vec())),
        0 => {
            let at_ms = decoder.u64()?;
            decoder.end()?;
            Ok(KeyRow::Destroyed { at_ms })
        }
        _ => Err(LedgerError::Damaged("a key row does not decode".into())),
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
                Write::Posting { token, at } => {
                    batch.insert(
                        &tables.posting,
                        posting_key(token, at).as_slice(),
                        [].as_slice(),
                    );
                }
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
            let mut decoder = Decoder::new(key, "posting");
            decoder.u64()?;
            let number = Number(!decoder.u64()?);
            let shard = Shard(decoder.u16()?);
            decoder.end()?;
            Ok(Hit { number, shard })
        })
    }

    fn posted(&self, at: Hit) -> Result<Vec<Token>, LedgerError> {
        let Some(value) = self.get(&self.tables.posted, &place_key(at))? else {
            return Ok(Vec::new());
        };
        let mut decoder = Decoder::new(&value, "posted");
        let mut tokens = Vec::with_capacity(value.len() / 8);
        while decoder.remaining() > 0 {
            tokens.push(Token(decoder.u64()?));
        }
        Ok(tokens)
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
        self.page(&self.tables.timer, &from, &to, limit, |key, value| {
            let (due_ms, shard, id) = decode_due(key, "timer")?;
            let mut decoder = Decoder::new(value, "timer");
            let tenant = TenantId(decoder.small()?);
            let consumer = decoder.small()?;
            Ok(Timer {
                key: TimerKey { shard, due_ms, id },
                tenant,
                consumer,
                payload: decoder.rest().to_vec(),
            })
        })
    }

    fn outbox(
        &self,
        from: OutboxKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        let from = due_key(from.due_ms, from.shard, &from.id);
        let to = due_key(until_ms, Shard(u16::MAX), &[0xff; 16]);
        self.page(&self.tables.outbox, &from, &to, limit, |key, value| {
            let (due_ms, shard, id) = decode_due(key, "outbox")?;
            let mut decoder = Decoder::new(value, "outbox");
            let tenant = TenantId(decoder.small()?);
            let channel = decoder.small()?;
            let attempt = decoder.small()?;
            let sealed = decoder.rest().to_vec();
            Ok(OutboxRow {
                key: OutboxKey { shard, due_ms, id },
                tenant,
                channel,
                attempt,
                sealed,
            })
        })
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
