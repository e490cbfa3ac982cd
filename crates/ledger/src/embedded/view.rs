//! Reading: one consistent view of the tables and of the postings that are not in a table yet.

use std::sync::{Arc, OnceLock};

use fjall::{Keyspace, Readable};

use super::beginnings::{Beginning, PAGE};
use super::events;
use super::listed::{self, Listed, ListedKey};
use super::postings::{self, Change, Run, Runs};
use super::rows::{
    blind_key, cursor_key, decode_cursor_key, decode_head, decode_head_key, decode_key_row,
    decode_leaf, decode_outbox, decode_place, decode_posting, decode_subject_key,
    decode_superseded_key, decode_timer, decode_tokens, due_key, place_key, posting_key, shard_key,
    superseded_key,
};
use super::{Tables, fault};
use crate::backend::{Head, HeadKey, KeyRow, OutboxRow, Snapshot, SubjectKey, Table, Write};
use crate::codec::Decoder;
use crate::tree::stored_by;
use crate::{Event, Hit, LedgerError, Number, OutboxKey, Shard, Timer, TimerKey, Token};

pub(super) struct FjallSnapshot {
    tables: Arc<Tables>,
    view: fjall::Snapshot,
    /// Postings in memory, the older ones first.
    runs: [Runs; 2],
    /// Which state of the table of postings it sees; `None` while that is being written.
    table: Option<u64>,
    /// The number of the first fresh row that `runs` does not hold.
    next_fresh: u64,
    /// Runs of fresh rows that the view holds and `runs` does not: a commit is seen in the tables a
    /// moment before its postings are seen in memory.
    late: OnceLock<Vec<Run>>,
}

/// The row of `listed` whose last document is the first at or behind a place.
pub(super) fn listed_at(
    tables: &Tables,
    view: &fjall::Snapshot,
    audit: bool,
    at: Hit,
) -> Result<Option<(ListedKey, fjall::Slice)>, LedgerError> {
    let (_, end) = listed::keys(audit, (Number(0), Number(u64::MAX)));
    let from = listed::key(audit, at);
    let Some(guard) = view.range(&tables.listed, from..=end).next() else {
        return Ok(None);
    };
    let (key, row) = guard.into_inner().map_err(fault)?;
    let key = ListedKey::try_from(key.as_ref())
        .map_err(|_| LedgerError::Damaged("a listed row does not decode".into()))?;
    Ok(Some((key, row)))
}

/// The rows that a document's list of tokens is in, and whether that is a row of the audit's documents.
/// It is one at most, but where token keys were rotated by a program that left the earlier list where it
/// lay.
pub(super) fn listed_rows(
    tables: &Tables,
    view: &fjall::Snapshot,
    at: Hit,
) -> Result<Vec<(bool, ListedKey, fjall::Slice)>, LedgerError> {
    let mut rows = Vec::new();
    for audit in listed::SORTS {
        if let Some((key, row)) = listed_at(tables, view, audit, at)?
            && listed::place_in(&row, at)?.1
        {
            rows.push((audit, key, row));
        }
    }
    Ok(rows)
}

/// The row whose documents lie around a place.
pub(super) fn listed_around(
    tables: &Tables,
    view: &fjall::Snapshot,
    audit: bool,
    at: Hit,
) -> Result<Option<(ListedKey, fjall::Slice)>, LedgerError> {
    let Some((key, row)) = listed_at(tables, view, audit, at)? else {
        return Ok(None);
    };
    let (first, _) = listed::place_in(&row, at)?;
    Ok((first <= at).then_some((key, row)))
}

/// The postings of a fresh row, in any order.
fn gather(
    tables: &Tables,
    view: &fjall::Snapshot,
    fresh: &[u8],
    changes: &mut Vec<Change>,
) -> Result<(), LedgerError> {
    let fresh = postings::decode(fresh)?;
    if let Some(numbers) = fresh.listed {
        for audit in listed::SORTS {
            let (from, to) = listed::keys(audit, numbers);
            for guard in view.range(&tables.listed, from..=to) {
                listed::changes(&guard.value().map_err(fault)?, changes)?;
            }
        }
    }
    changes.extend(fresh.run);
    Ok(())
}

/// The postings of fresh rows, in runs of about `length`, oldest first.
pub(super) fn runs_of<'a>(
    tables: &Tables,
    view: &fjall::Snapshot,
    rows: impl IntoIterator<Item = &'a [u8]>,
    length: usize,
) -> Result<Vec<Run>, LedgerError> {
    let mut runs = Vec::new();
    let mut changes = Vec::new();
    for row in rows {
        gather(tables, view, row, &mut changes)?;
        if changes.len() >= length {
            runs.push(Arc::new(postings::sorted(std::mem::take(&mut changes))));
        }
    }
    if !changes.is_empty() {
        runs.push(Arc::new(postings::sorted(changes)));
    }
    Ok(runs)
}

impl FjallSnapshot {
    /// The rows as they are now.
    pub(super) fn take(tables: &Arc<Tables>) -> Self {
        // Held while the view is taken, so that no run can move from memory into a table, and its
        // fresh rows go, between the two.
        let fresh = tables.fresh();
        Self {
            tables: Arc::clone(tables),
            view: tables.database.snapshot(),
            runs: fresh.runs(),
            table: (!fresh.is_frozen()).then(|| fresh.table()),
            next_fresh: fresh.next_row(),
            late: OnceLock::new(),
        }
    }

    fn late(&self) -> Result<&[Run], LedgerError> {
        if let Some(late) = self.late.get() {
            return Ok(late);
        }
        let mut late = Vec::new();
        let mut row = self.next_fresh;
        while let Some(value) = self.get(&self.tables.fresh_rows, &row.to_be_bytes())? {
            late.extend(runs_of(&self.tables, &self.view, [&*value], usize::MAX)?);
            row += 1;
        }
        Ok(self.late.get_or_init(|| late))
    }

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

type PostingKey = postings::PostingKey;

impl FjallSnapshot {
    /// The keys of the table in an inclusive range of a token's.
    fn in_table(
        &self,
        token: Token,
        from: PostingKey,
        to: PostingKey,
    ) -> Result<impl Iterator<Item = Result<PostingKey, LedgerError>> + '_, LedgerError> {
        let (known, rest) = match self.beginning_of(token)? {
            None => (Vec::new(), Some(from)),
            Some(beginning) => match beginning.range(token, &from, &to) {
                None => (Vec::new(), Some(from)),
                Some((known, last)) => (known, last.map(behind)),
            },
        };
        // Most of the time nobody asks for the rest.
        let mut rest = rest.filter(|rest| *rest <= to);
        let mut rows = None;
        let more = std::iter::from_fn(move || {
            if let Some(from) = rest.take() {
                rows = Some(self.rows_of_table(from, to));
            }
            rows.as_mut()?.next()
        });
        Ok(known.into_iter().map(Ok).chain(more))
    }

    fn rows_of_table(
        &self,
        from: PostingKey,
        to: PostingKey,
    ) -> impl Iterator<Item = Result<PostingKey, LedgerError>> + '_ {
        (self.view.range(&self.tables.posting, from..=to)).map(|guard| {
            PostingKey::try_from(guard.key().map_err(fault)?.as_ref())
                .map_err(|_| LedgerError::Damaged("a posting row does not decode".into()))
        })
    }

    /// How a token's list begins in the table; `None` while the table is being written, and where this view
    /// is of before it was.
    fn beginning_of(&self, token: Token) -> Result<Option<Arc<Beginning>>, LedgerError> {
        let Some(table) = self
            .table
            .filter(|table| self.tables.beginnings.is_now(*table))
        else {
            return Ok(None);
        };
        if let Some(beginning) = self.tables.beginnings.get(table, token) {
            return Ok(Some(beginning));
        }
        let (mut from, mut to) = ([0; POSTING_KEY_BYTES], [0xff; POSTING_KEY_BYTES]);
        from[..8].copy_from_slice(&token.0.to_be_bytes());
        to[..8].copy_from_slice(&token.0.to_be_bytes());
        let keys: Result<Vec<PostingKey>, LedgerError> =
            self.rows_of_table(from, to).take(PAGE).collect();
        let beginning = Arc::new(Beginning::of(&keys?));
        self.tables
            .beginnings
            .put(table, token, Arc::clone(&beginning));
        Ok(Some(beginning))
    }

    fn scan_postings(&self, from: &[u8], limit: usize) -> Result<Vec<Write>, LedgerError> {
        // Keys of postings have one length, so that the last byte of `from` (see `key_behind`) only
        // says whether the key itself is in.
        let (first, behind) = match from.split_at_checked(POSTING_KEY_BYTES) {
            Some((key, _)) => (key, true),
            None => (&[0; POSTING_KEY_BYTES][..], false),
        };
        let first: PostingKey =
            (first.try_into()).map_err(|_| LedgerError::Invalid("a posting's key"))?;
        let to = [0xff; POSTING_KEY_BYTES];
        let late = self.late()?;
        let runs: Vec<_> = (self.runs.iter())
            .flat_map(Runs::all)
            .chain(late)
            .map(|run| postings::range(run, &first, &to))
            .filter(|part| !part.is_empty())
            .collect();
        let table = (self.view.range(&self.tables.posting, first..=to))
            .map(|guard| guard.key().map_err(fault));
        let keys = postings::merged(table, &runs, limit.saturating_add(1))?;
        let keys = keys.iter().filter(|key| !behind || **key != first);
        keys.take(limit)
            .map(|key| {
                Ok(Write::Posting {
                    token: Token(Decoder::new(key, "posting").u64()?),
                    at: decode_posting(key)?,
                })
            })
            .collect()
    }
}

impl FjallSnapshot {
    /// Lists of tokens, in the order of places. A document that has several (see [`listed_rows`]) has them
    /// one after the other, the one that counts first; a page is rather longer than to end between them.
    fn scan_posted(&self, after: Option<&Write>, limit: usize) -> Result<Vec<Write>, LedgerError> {
        let after = match after {
            None => None,
            Some(Write::Posted { at, .. }) => Some(*at),
            Some(_) => return Err(LedgerError::Invalid("a row of another table")),
        };
        let begin = after.unwrap_or(Hit {
            number: Number(0),
            shard: Shard(0),
        });
        // So many of each sort are enough, because each has them in order.
        let mut rows = Listed::new();
        for audit in listed::SORTS {
            let (_, end) = listed::keys(audit, (Number(0), Number(u64::MAX)));
            let enough = rows.len() + limit;
            for guard in (self.view).range(&self.tables.listed, listed::key(audit, begin)..=end) {
                if rows.len() >= enough {
                    break;
                }
                let documents = listed::decode(&guard.value().map_err(fault)?)?;
                let behind = |(at, _): &(Hit, _)| after.is_none_or(|after| *at > after);
                rows.extend(documents.into_iter().filter(behind));
            }
        }
        let from = after.map_or_else(Vec::new, |at| [place_key(at).as_slice(), &[0]].concat());
        let to = [0xff; 11];
        let posted = self.page(&self.tables.posted, &from, &to, limit, |key, value| {
            Ok((decode_place(key, "posted")?, decode_tokens(value)?))
        });
        rows.extend(posted?);
        // Those of one place stay in the order of `posted` below.
        rows.sort_by_key(|(at, _)| *at);
        if let Some((last, _)) = limit.checked_sub(1).and_then(|last| rows.get(last)) {
            let last = *last;
            rows.truncate(rows.partition_point(|(at, _)| *at <= last));
        }
        let row = |(at, tokens)| Write::Posted { at, tokens };
        Ok(rows.into_iter().map(row).collect())
    }
}

impl FjallSnapshot {
    /// Events of one shard below a number, newest first.
    fn shard_below(
        &self,
        shard: Shard,
        below: Number,
        since: Number,
        limit: usize,
    ) -> Result<Vec<Event>, LedgerError> {
        if limit == 0 || since >= below {
            return Ok(Vec::new());
        }
        let (table, bound) = (&self.tables.event, shard_key(shard, below.0));
        // The row that the number lies in ends at it or behind it, and may begin before it.
        let end = events::key(shard, Number(u64::MAX));
        let around = self.view.range(table, bound.as_slice()..=end.as_slice());
        let first = shard_key(shard, since.0);
        let before = self.view.range(table, first.as_slice()..bound.as_slice());
        let mut found = Vec::new();
        for guard in around.take(1).chain(before.rev()) {
            if found.len() >= limit {
                break;
            }
            let (key, row) = guard.into_inner().map_err(fault)?;
            let row = events::decode(&key, &row)?.into_iter().rev();
            found.extend(row.filter(|event| (since..below).contains(&event.at.number)));
        }
        found.truncate(limit);
        Ok(found)
    }
}

const POSTING_KEY_BYTES: usize = size_of::<PostingKey>();

/// The next key of all that there can be.
fn behind(key: PostingKey) -> PostingKey {
    let (head, tail) = postings::rank(&key);
    let (tail, is_over) = tail.overflowing_add(1);
    let head = head.saturating_add(u128::from(is_over));
    let mut next = [0xff; POSTING_KEY_BYTES];
    next[..16].copy_from_slice(&head.to_be_bytes());
    next[16..].copy_from_slice(&tail.to_be_bytes());
    next
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
        if limit == 0 || from > to {
            return Ok(Vec::new());
        }
        let late = self.late()?;
        let runs: Vec<_> = (self.runs.iter())
            .flat_map(|runs| runs.of(token))
            .chain(late)
            .map(|run| postings::range(run, &from, &to))
            .filter(|part| !part.is_empty())
            .collect();
        postings::merged(self.in_table(token, from, to)?, &runs, limit)?
            .iter()
            .map(|key| decode_posting(key))
            .collect()
    }

    fn knows(&self, token: Token) -> bool {
        (self.table).is_some_and(|table| self.tables.beginnings.get(table, token).is_some())
    }

    fn posted(&self, at: Hit) -> Result<Vec<Token>, LedgerError> {
        for audit in listed::SORTS {
            if let Some((_, row)) = listed_at(&self.tables, &self.view, audit, at)?
                && let Some(tokens) = listed::tokens_of(&row, at)?
            {
                return Ok(tokens);
            }
        }
        let value = self.get(&self.tables.posted, &place_key(at))?;
        value.map_or_else(|| Ok(Vec::new()), |value| decode_tokens(&value))
    }

    fn events(&self, shard: Shard, after: Number, limit: usize) -> Result<Vec<Event>, LedgerError> {
        let Some(from) = after.0.checked_add(1) else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        let rows = self.view.range(
            &self.tables.event,
            shard_key(shard, from).as_slice()..=events::key(shard, Number(u64::MAX)).as_slice(),
        );
        for guard in rows {
            if events.len() >= limit {
                break;
            }
            let (key, row) = guard.into_inner().map_err(fault)?;
            let row = events::decode(&key, &row)?;
            events.extend(row.into_iter().filter(|event| event.at.number > after));
        }
        events.truncate(limit);
        Ok(events)
    }

    fn events_below(
        &self,
        shards: &[(Shard, Number)],
        since: Number,
        limit: usize,
    ) -> Result<Vec<Vec<Event>>, LedgerError> {
        let pages = shards.iter();
        pages
            .map(|(shard, below)| self.shard_below(*shard, *below, since, limit))
            .collect()
    }

    fn last_event(&self, shard: Shard) -> Result<Number, LedgerError> {
        match self.last(
            &self.tables.event,
            &shard_key(shard, 0),
            &events::key(shard, Number(u64::MAX)),
        )? {
            Some(key) => events::last(&key),
            None => Ok(Number(0)),
        }
    }

    fn leaf(&self, shard: Shard, index: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        let row = self.get(&self.tables.leaf, &shard_key(shard, index))?;
        row.map(|row| Ok(decode_leaf(&row)?.1.to_vec())).transpose()
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
            |key, row| {
                let index = Decoder::new(&key[2..], "leaf").u64()?;
                Ok((index, decode_leaf(row)?.1.to_vec()))
            },
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
        let (leaf, place) = stored_by(index);
        let Some(row) = self.get(&self.tables.leaf, &shard_key(shard, leaf))? else {
            return Ok(None);
        };
        let (hashes, _) = decode_leaf(&row)?;
        if !hashes.is_empty() {
            return Ok(hashes.get(place).copied());
        }
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

    fn scan(
        &self,
        table: Table,
        after: Option<&Write>,
        limit: usize,
    ) -> Result<Vec<Write>, LedgerError> {
        let from = match (table, after) {
            (Table::Posted, _) | (_, None) => Vec::new(),
            (_, Some(row)) => key_behind(table, row)?,
        };
        let to = [0xff; 160].as_slice();
        let rows = match table {
            Table::Head => &self.tables.head,
            Table::Superseded => &self.tables.superseded,
            Table::Posting => return self.scan_postings(&from, limit),
            Table::Posted => return self.scan_posted(after, limit),
            Table::Cursor => &self.tables.cursor,
            Table::Key => &self.tables.key,
        };
        self.page(rows, &from, to, limit, |key, value| {
            Ok(match table {
                Table::Head => Write::Head(decode_head_key(key)?, decode_head(value)?),
                Table::Superseded => {
                    let (key, version) = decode_superseded_key(key)?;
                    let at = decode_place(value, "superseded")?;
                    Write::Superseded { key, version, at }
                }
                // Both have been answered above.
                Table::Posted | Table::Posting => {
                    return Err(LedgerError::Invalid("a row of another table"));
                }
                Table::Cursor => {
                    let (consumer, shard) = decode_cursor_key(key)?;
                    let at = Number(Decoder::new(value, "cursor").u64()?);
                    Write::Cursor {
                        consumer,
                        shard,
                        at,
                    }
                }
                Table::Key => Write::Key(decode_subject_key(key)?, decode_key_row(value)?),
            })
        })
    }

    fn redo(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        let from = after.saturating_add(1).to_be_bytes();
        self.page(&self.tables.redo, &from, &[0xff; 8], limit, |key, value| {
            Ok((Decoder::new(key, "redo").u64()?, value.to_vec()))
        })
    }

    fn last_redo(&self) -> Result<u64, LedgerError> {
        match self.last(&self.tables.redo, &[0; 8], &[0xff; 8])? {
            Some(key) => Decoder::new(&key, "redo").u64(),
            None => Ok(0),
        }
    }
}

/// The least key behind a row's.
fn key_behind(table: Table, row: &Write) -> Result<Vec<u8>, LedgerError> {
    let mut key = match (table, row) {
        (Table::Head, Write::Head(key, _)) => blind_key(key.tenant, &key.id).to_vec(),
        (Table::Superseded, Write::Superseded { key, version, .. }) => {
            superseded_key(key, *version).to_vec()
        }
        (Table::Posting, Write::Posting { token, at }) => posting_key(*token, *at).to_vec(),
        (
            Table::Cursor,
            Write::Cursor {
                consumer, shard, ..
            },
        ) => cursor_key(consumer, *shard),
        (Table::Key, Write::Key(key, _)) => blind_key(key.tenant, &key.subject).to_vec(),
        _ => return Err(LedgerError::Invalid("a row of another table")),
    };
    // Nothing lies between a key and the same key with a zero behind it.
    key.push(0);
    Ok(key)
}
