//! Plays backed-up rows into a store: what the ledger derives from documents when it commits them is
//! derived again.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::backend::{Backend, Head, HeadKey, OutboxRow, Snapshot, Write};
use crate::outer::Layer;
use crate::redo::Change;
use crate::rows::{Header, SealedBy};
use crate::{Event, Hit, LedgerError, Number, OutboxKey, Shard, TenantId, Timer, TimerKey, Token};

/// How much is written at once.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;

pub(super) struct Player<'a> {
    backend: &'a dyn Backend,
    /// The store as it was after the last batch.
    snapshot: Box<dyn Snapshot>,
    writes: Vec<Write>,
    bytes: usize,
    heads: HashMap<HeadKey, Head>,
    /// Tokens of the batch's own documents.
    tokens: HashMap<Hit, Vec<Token>>,
    /// Documents of the batch that were superseded within it; their postings are never written.
    passed: HashSet<Hit>,
    timers: BTreeMap<TimerKey, Option<Timer>>,
    outbox: BTreeMap<OutboxKey, Option<OutboxRow>>,
    cursors: HashMap<(String, Shard), Number>,
    documents: u64,
    layers: Layers,
}

/// The layer that a backup's tokens lie behind, and those that the restored store's shall.
pub(super) struct Layers {
    pub(super) chain: Option<Layer>,
    pub(super) tenants: HashMap<TenantId, Layer>,
}

impl<'a> Player<'a> {
    pub(super) fn new(backend: &'a dyn Backend, layers: Layers) -> Self {
        Self {
            layers,
            snapshot: backend.snapshot(),
            backend,
            writes: Vec::new(),
            bytes: 0,
            heads: HashMap::new(),
            tokens: HashMap::new(),
            passed: HashSet::new(),
            timers: BTreeMap::new(),
            outbox: BTreeMap::new(),
            cursors: HashMap::new(),
            documents: 0,
        }
    }

    /// Documents so far.
    pub(super) fn documents(&self) -> u64 {
        self.documents
    }

    /// The next document, in the order in which documents were written.
    pub(super) fn document(
        &mut self,
        at: Hit,
        mut tokens: Vec<Token>,
        row: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let (header, _) = Header::decode(&row)?;
        let outer = self.layers.tenants.get(&header.key.tenant);
        for token in &mut tokens {
            let inner = (self.layers.chain.as_ref()).map_or(*token, |chain| chain.take_off(*token));
            *token = outer.map_or(inner, |layer| layer.put_on(inner));
        }
        let current = match self.heads.get(&header.key) {
            Some(head) => Some(*head),
            None => self.snapshot.head(&header.key)?,
        };
        let last = current.map_or(0, |head| head.version);
        if header.version != last + 1 {
            return Err(LedgerError::Damaged(format!(
                "document {}/{} of the backup is version {}, and version {last} is the newest before it",
                at.shard, at.number.0, header.version
            )));
        }
        if let Some(head) = current {
            self.writes.push(Write::Superseded {
                key: header.key,
                version: head.version,
                at: head.at,
            });
            if self.tokens.remove(&head.at).is_some() {
                self.passed.insert(head.at);
            } else if !head.deleted {
                for token in self.snapshot.posted(head.at)? {
                    self.writes.push(Write::DropPosting { token, at: head.at });
                }
                self.writes.push(Write::DropPosted { at: head.at });
            }
        }
        let audit = header.sealed_by == SealedBy::Audit;
        self.heads.insert(
            header.key,
            Head {
                at,
                version: header.version,
                deleted: header.deleted,
                audit,
            },
        );
        if !audit {
            self.writes.push(Write::Event(Event {
                at,
                tenant: header.key.tenant,
                kind: header.kind,
                version: header.version,
                deleted: header.deleted,
                cause: header.cause,
            }));
        }
        self.bytes += row.len() + 24 * tokens.len();
        self.tokens.insert(at, tokens);
        self.writes.push(Write::Document { at, row });
        self.documents += 1;
        self.flush_when_full()
    }

    pub(super) fn change(&mut self, change: Change) -> Result<(), LedgerError> {
        match change {
            Change::Timer(timer) => {
                self.bytes += timer.payload.len();
                self.timers.insert(timer.key, Some(timer));
            }
            Change::DropTimer(key) => {
                self.timers.insert(key, None);
            }
            Change::Outbox(row) => {
                self.bytes += row.sealed.len();
                self.outbox.insert(row.key, Some(row));
            }
            Change::DropOutbox(key) => {
                self.outbox.insert(key, None);
            }
            Change::Cursor {
                consumer,
                shard,
                at,
            } => {
                self.cursors.insert((consumer, shard), at);
            }
            // Keys travel apart.
            Change::Key(_) => {}
        }
        self.flush_when_full()
    }

    pub(super) fn leaf(
        &mut self,
        shard: Shard,
        index: u64,
        record: Vec<u8>,
        nodes: Vec<[u8; 32]>,
    ) -> Result<(), LedgerError> {
        self.bytes += record.len() + 32 * nodes.len();
        self.writes.push(Write::Leaf {
            shard,
            index,
            record,
            nodes,
        });
        self.flush_when_full()
    }

    fn flush_when_full(&mut self) -> Result<(), LedgerError> {
        let rows = self.writes.len() + self.timers.len() + self.outbox.len();
        if rows < BATCH_ROWS && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), LedgerError> {
        let mut writes = std::mem::take(&mut self.writes);
        let passed = std::mem::take(&mut self.passed);
        for (at, tokens) in self.tokens.drain() {
            // A deleted version has none, and neither has one that was superseded before a whole backup.
            if tokens.is_empty() || passed.contains(&at) {
                continue;
            }
            writes.extend(
                tokens
                    .iter()
                    .map(|token| Write::Posting { token: *token, at }),
            );
            writes.push(Write::Posted { at, tokens });
        }
        let heads = self.heads.drain();
        writes.extend(heads.map(|(key, head)| Write::Head(key, head)));
        let timers = std::mem::take(&mut self.timers).into_iter();
        writes.extend(timers.map(|(key, timer)| timer.map_or(Write::DropTimer(key), Write::Timer)));
        let outbox = std::mem::take(&mut self.outbox).into_iter();
        writes.extend(outbox.map(|(key, row)| row.map_or(Write::DropOutbox(key), Write::Outbox)));
        let cursors = self.cursors.drain();
        writes.extend(cursors.map(|((consumer, shard), at)| Write::Cursor {
            consumer,
            shard,
            at,
        }));
        self.bytes = 0;
        if !writes.is_empty() {
            self.backend.apply(writes)?;
        }
        self.snapshot = self.backend.snapshot();
        Ok(())
    }

    /// Writes what is left; gives the number of documents.
    pub(super) fn finish(mut self) -> Result<u64, LedgerError> {
        self.flush()?;
        Ok(self.documents)
    }
}
