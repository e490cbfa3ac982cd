//! A second backend, for tests: ordered maps in memory. It shows that the interface can be filled by
//! something else, and lets tests change and remove rows behind the ledger's back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use tlog_tiles::stored_hash_index;

use crate::backend::{
    Backend, Head, HeadKey, KeyRow, OutboxRow, Snapshot, SubjectKey, Table, Write,
};
use crate::{Event, Hit, LedgerError, Number, OutboxKey, Shard, Timer, TimerKey, Token};

type Place = (Number, Shard);

/// All rows.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) heads: BTreeMap<HeadKey, Head>,
    pub(crate) documents: BTreeMap<Place, Vec<u8>>,
    pub(crate) superseded: BTreeMap<(HeadKey, u32), Hit>,
    pub(crate) postings: BTreeMap<(Token, u64, Shard), ()>,
    pub(crate) posted: BTreeMap<Place, Vec<Token>>,
    pub(crate) events: BTreeMap<(Shard, Number), Event>,
    pub(crate) leaves: BTreeMap<(Shard, u64), Vec<u8>>,
    pub(crate) nodes: BTreeMap<(Shard, u64), [u8; 32]>,
    pub(crate) timers: BTreeMap<(u64, Shard, [u8; 16]), Timer>,
    pub(crate) outbox: BTreeMap<(u64, Shard, [u8; 16]), OutboxRow>,
    pub(crate) cursors: BTreeMap<(String, Shard), Number>,
    pub(crate) keys: BTreeMap<SubjectKey, KeyRow>,
    pub(crate) redo: BTreeMap<u64, Vec<u8>>,
    pub(crate) meta: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryBackend(Arc<Mutex<Arc<Rows>>>);

impl MemoryBackend {
    /// Changes rows as an intruder would.
    pub(crate) fn edit<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> T {
        change(Arc::make_mut(&mut self.0.lock().unwrap()))
    }
    pub(crate) fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

fn place(at: Hit) -> Place {
    (at.number, at.shard)
}

impl Backend for MemoryBackend {
    fn room_for(&self, _bytes: u64) -> Result<(), LedgerError> {
        Ok(())
    }
    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        self.edit(|rows| {
            for write in writes {
                match write {
                    Write::Head(key, head) => {
                        rows.heads.insert(key, head);
                    }
                    Write::Document { at, row } => {
                        rows.documents.insert(place(at), row);
                    }
                    Write::Superseded { key, version, at } => {
                        rows.superseded.insert((key, version), at);
                    }
                    Write::Posting { token, at } => {
                        rows.postings.insert((token, !at.number.0, at.shard), ());
                    }
                    Write::DropPosting { token, at } => {
                        rows.postings.remove(&(token, !at.number.0, at.shard));
                    }
                    Write::Listed { at, tokens } => {
                        let posting = |token: &Token| ((*token, !at.number.0, at.shard), ());
                        rows.postings.extend(tokens.iter().map(posting));
                        rows.posted.insert(place(at), tokens);
                    }
                    Write::Posted { at, tokens } => {
                        rows.posted.insert(place(at), tokens);
                    }
                    Write::DropPosted { at } => {
                        rows.posted.remove(&place(at));
                    }
                    Write::Event(event) => {
                        rows.events.insert((event.at.shard, event.at.number), event);
                    }
                    Write::Leaf {
                        shard,
                        index,
                        record,
                        nodes,
                    } => {
                        rows.leaves.insert((shard, index), record);
                        let places = (stored_hash_index(0, index)..).map(|place| (shard, place));
                        rows.nodes.extend(places.zip(nodes));
                    }
                    Write::Timer(timer) => {
                        rows.timers
                            .insert((timer.key.due_ms, timer.key.shard, timer.key.id), timer);
                    }
                    Write::DropTimer(key) => {
                        rows.timers.remove(&(key.due_ms, key.shard, key.id));
                    }
                    Write::Outbox(row) => drop(
                        rows.outbox
                            .insert((row.key.due_ms, row.key.shard, row.key.id), row),
                    ),
                    Write::DropOutbox(key) => {
                        rows.outbox.remove(&(key.due_ms, key.shard, key.id));
                    }
                    Write::Cursor {
                        consumer,
                        shard,
                        at,
                    } => {
                        rows.cursors.insert((consumer, shard), at);
                    }
                    Write::Key(key, row) => {
                        rows.keys.insert(key, row);
                    }
                    Write::KeysChanged(_) => {}
                    Write::Redo { sequence, row } => {
                        rows.redo.insert(sequence, row);
                    }
                    Write::DropRedo(sequence) => {
                        rows.redo.remove(&sequence);
                    }
                    Write::Meta { name, value } => {
                        rows.meta.insert(name, value);
                    }
                    Write::NewMeta { name, value } => {
                        rows.meta.entry(name).or_insert(value);
                    }
                }
            }
        });
        Ok(())
    }
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(self.rows())
    }
    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        Ok(true)
    }
    fn disk_bytes(&self) -> u64 {
        0
    }
}

impl Snapshot for Arc<Rows> {
    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.meta.get(name).cloned())
    }
    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError> {
        let rows = self
            .meta
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        Ok(rows
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    }
    fn head(&self, key: &HeadKey) -> Result<Option<Head>, LedgerError> {
        Ok(self.heads.get(key).copied())
    }
    fn superseded(&self, key: &HeadKey, version: u32) -> Result<Option<Hit>, LedgerError> {
        Ok(self.superseded.get(&(*key, version)).copied())
    }
    fn document(&self, at: Hit) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.documents.get(&place(at)).cloned())
    }
    fn places(&self, after: Hit, limit: usize) -> Result<Vec<Hit>, LedgerError> {
        let from = (after.number, Shard(after.shard.0.saturating_add(1)));
        let places = self.documents.range(from..).take(limit);
        Ok(places
            .map(|((number, shard), _)| Hit {
                number: *number,
                shard: *shard,
            })
            .collect())
    }
    fn last_number(&self) -> Result<Number, LedgerError> {
        Ok(self
            .documents
            .last_key_value()
            .map_or(Number(0), |((number, _), _)| *number))
    }
    fn postings(
        &self,
        token: Token,
        from: Hit,
        since: Number,
        limit: usize,
    ) -> Result<Vec<Hit>, LedgerError> {
        let (from, to) = (
            (token, !from.number.0, from.shard),
            (token, !since.0, Shard(u16::MAX)),
        );
        if from > to {
            return Ok(Vec::new());
        }
        let postings = self.postings.range(from..=to).take(limit);
        Ok(postings
            .map(|((_, number, shard), ())| Hit {
                number: Number(!number),
                shard: *shard,
            })
            .collect())
    }
    fn posted(&self, at: Hit) -> Result<Vec<Token>, LedgerError> {
        Ok(self.posted.get(&place(at)).cloned().unwrap_or_default())
    }
    fn events(&self, shard: Shard, after: Number, limit: usize) -> Result<Vec<Event>, LedgerError> {
        let Some(from) = after.0.checked_add(1) else {
            return Ok(Vec::new());
        };
        let events = self
            .events
            .range((shard, Number(from))..=(shard, Number(u64::MAX)))
            .take(limit);
        Ok(events.map(|(_, event)| event.clone()).collect())
    }
    fn events_below(
        &self,
        shards: &[(Shard, Number)],
        since: Number,
        limit: usize,
    ) -> Result<Vec<Vec<Event>>, LedgerError> {
        let page = |(shard, below): &(Shard, Number)| {
            if since >= *below {
                return Vec::new();
            }
            let events = self.events.range((*shard, since)..(*shard, *below)).rev();
            events.take(limit).map(|(_, event)| event.clone()).collect()
        };
        Ok(shards.iter().map(page).collect())
    }
    fn last_event(&self, shard: Shard) -> Result<Number, LedgerError> {
        let last = self
            .events
            .range((shard, Number(0))..=(shard, Number(u64::MAX)))
            .next_back();
        Ok(last.map_or(Number(0), |((_, number), _)| *number))
    }
    fn leaf(&self, shard: Shard, index: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.leaves.get(&(shard, index)).cloned())
    }
    fn leaves(
        &self,
        shard: Shard,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        let leaves = self
            .leaves
            .range((shard, from)..=(shard, u64::MAX))
            .take(limit);
        Ok(leaves
            .map(|((_, index), record)| (*index, record.clone()))
            .collect())
    }
    fn tree_size(&self, shard: Shard) -> Result<u64, LedgerError> {
        let last = self
            .leaves
            .range((shard, 0)..=(shard, u64::MAX))
            .next_back();
        Ok(last.map_or(0, |((_, index), _)| index + 1))
    }
    fn node(&self, shard: Shard, index: u64) -> Result<Option<[u8; 32]>, LedgerError> {
        Ok(self.nodes.get(&(shard, index)).copied())
    }
    fn timers(
        &self,
        from: TimerKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Timer>, LedgerError> {
        let timers = self
            .timers
            .range((from.due_ms, from.shard, from.id)..)
            .take_while(|(key, _)| key.0 <= until_ms);
        Ok(timers.take(limit).map(|(_, timer)| timer.clone()).collect())
    }
    fn outbox(
        &self,
        from: OutboxKey,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        let rows = self
            .outbox
            .range((from.due_ms, from.shard, from.id)..)
            .take_while(|(key, _)| key.0 <= until_ms);
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }
    fn has_outbox(&self, key: &OutboxKey) -> Result<bool, LedgerError> {
        Ok(self.outbox.contains_key(&(key.due_ms, key.shard, key.id)))
    }
    fn cursor(&self, consumer: &str, shard: Shard) -> Result<Option<Number>, LedgerError> {
        Ok(self.cursors.get(&(consumer.to_owned(), shard)).copied())
    }
    fn key(&self, key: &SubjectKey) -> Result<Option<KeyRow>, LedgerError> {
        Ok(self.keys.get(key).cloned())
    }
    fn scan(
        &self,
        table: Table,
        after: Option<&Write>,
        limit: usize,
    ) -> Result<Vec<Write>, LedgerError> {
        let hit = |(number, shard): (Number, Shard)| Hit { number, shard };
        let rows = match table {
            Table::Head => {
                let after = after.map(|row| match row {
                    Write::Head(key, _) => *key,
                    other => panic!("{other:?}"),
                });
                let rows = behind(&self.heads, after, limit);
                rows.map(|(key, head)| Write::Head(*key, *head)).collect()
            }
            Table::Superseded => {
                let after = after.map(|row| match row {
                    Write::Superseded { key, version, .. } => (*key, *version),
                    other => panic!("{other:?}"),
                });
                let rows = behind(&self.superseded, after, limit);
                rows.map(|((key, version), at)| Write::Superseded {
                    key: *key,
                    version: *version,
                    at: *at,
                })
                .collect()
            }
            Table::Posting => {
                let after = after.map(|row| match row {
                    Write::Posting { token, at } => (*token, !at.number.0, at.shard),
                    other => panic!("{other:?}"),
                });
                let rows = behind(&self.postings, after, limit);
                rows.map(|((token, number, shard), ())| Write::Posting {
                    token: *token,
                    at: hit((Number(!number), *shard)),
                })
                .collect()
            }
            Table::Posted => {
                let after = after.map(|row| match row {
                    Write::Posted { at, .. } => place(*at),
                    other => panic!("{other:?}"),
                });
                let rows = behind(&self.posted, after, limit);
                rows.map(|(at, tokens)| Write::Posted {
                    at: hit(*at),
                    tokens: tokens.clone(),
                })
                .collect()
            }
            Table::Cursor => {
                let after = after.map(|row| match row {
                    Write::Cursor {
                        consumer, shard, ..
                    } => (consumer.clone(), *shard),
                    other => panic!("{other:?}"),
                });
                let rows = behind(&self.cursors, after, limit);
                rows.map(|((consumer, shard), at)| Write::Cursor {
                    consumer: consumer.clone(),
                    shard: *shard,
                    at: *at,
                })
                .collect()
            }
            Table::Key => {
                let after = after.map(|row| match row {
                    Write::Key(key, _) => *key,
                    other => panic!("{other:?}"),
                });
                let rows = behind(&self.keys, after, limit);
                rows.map(|(key, row)| Write::Key(*key, row.clone()))
                    .collect()
            }
        };
        Ok(rows)
    }
    fn redo(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        let rows = behind(&self.redo, Some(after), limit);
        Ok(rows
            .map(|(sequence, row)| (*sequence, row.clone()))
            .collect())
    }
    fn last_redo(&self) -> Result<u64, LedgerError> {
        Ok(self
            .redo
            .last_key_value()
            .map_or(0, |(sequence, _)| *sequence))
    }
}

/// Entries behind a key.
fn behind<K: Ord, V>(
    map: &BTreeMap<K, V>,
    after: Option<K>,
    limit: usize,
) -> impl Iterator<Item = (&K, &V)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    map.range((from, Bound::Unbounded)).take(limit)
}
