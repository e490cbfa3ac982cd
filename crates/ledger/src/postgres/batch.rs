//! A group's writes as statements: one for each table, its rows as arrays.

use std::collections::{BTreeMap, HashMap};

use super::rows::{
    Sixteen, bigs, bools, byteas, ints, maybe_bigs, maybe_byteas, shard, smalls, stored, tenant,
    texts, token, tokens, uuids,
};
use super::server::Statement;
use crate::backend::{Head, HeadKey, Home, KeyRow, OutboxRow, SubjectKey, Write};
use crate::rows::Header;
use crate::tree::{Tree, sha256};
use crate::{Event, Hit, LedgerError, Number, OutboxKey, Shard, TenantId, Timer, TimerKey, Token};

/// What a shard's row becomes; zero and `None` leave it.
#[derive(Default)]
struct Advance {
    last: Number,
    last_event: Number,
    /// The column says `keys_destroyed`, because that was the first thing it counted.
    keys_changed: i64,
}

struct LeafRow {
    shard: Shard,
    index: u64,
    record: Vec<u8>,
    nodes: Vec<[u8; 32]>,
}

/// The writes by table.
#[derive(Default)]
pub(super) struct Batch {
    heads: Vec<(HeadKey, Head)>,
    documents: Vec<(Hit, TenantId, Vec<u8>)>,
    /// Whose the documents are: what stands beside one in other tables is in the same batch.
    tenants: HashMap<Hit, TenantId>,
    superseded: Vec<(HeadKey, u32, Hit)>,
    postings: Vec<(Token, Hit)>,
    dropped_postings: Vec<(Token, Hit)>,
    posted: Vec<(Hit, Vec<Token>)>,
    dropped_posted: Vec<Hit>,
    events: Vec<Event>,
    leaves: Vec<LeafRow>,
    timers: Vec<Timer>,
    dropped_timers: Vec<TimerKey>,
    outbox: Vec<OutboxRow>,
    dropped_outbox: Vec<OutboxKey>,
    cursors: Vec<(String, Shard, Number)>,
    keys: Vec<(SubjectKey, KeyRow)>,
    /// By name, so that two groups that write the same ones wait for each other and never crosswise.
    metas: BTreeMap<String, Vec<u8>>,
    new_metas: BTreeMap<String, Vec<u8>>,
    advances: BTreeMap<Shard, Advance>,
}

fn home(home: Home) -> Result<i16, LedgerError> {
    let home = home.0.ok_or_else(|| {
        LedgerError::Storage("a row is to be written whose home is not known".into())
    })?;
    shard(home)
}

/// One column of rows.
fn column<T, C>(
    rows: &[T],
    of: impl Fn(&T) -> Result<C, LedgerError>,
) -> Result<Vec<C>, LedgerError> {
    rows.iter().map(of).collect()
}

fn numbers(rows: &[Hit]) -> Result<Vec<i64>, LedgerError> {
    column(rows, |at| stored(at.number.0))
}

fn shards(rows: &[Hit]) -> Result<Vec<i16>, LedgerError> {
    column(rows, |at| shard(at.shard))
}

impl Batch {
    pub(super) fn of(writes: Vec<Write>) -> Result<Self, LedgerError> {
        let mut batch = Self::default();
        for write in writes {
            batch.add(write)?;
        }
        Ok(batch)
    }

    fn tenant_of(&self, at: Hit) -> Result<i32, LedgerError> {
        let known = self.tenants.get(&at).ok_or_else(|| {
            LedgerError::Storage("a row is to be written beside a document that is not".into())
        })?;
        tenant(*known)
    }

    fn advance(&mut self, shard: Shard) -> &mut Advance {
        self.advances.entry(shard).or_default()
    }

    fn add(&mut self, write: Write) -> Result<(), LedgerError> {
        match write {
            Write::Head(key, head) => self.heads.push((key, head)),
            Write::Document { at, row } => {
                let tenant = Header::decode(&row)?.0.key.tenant;
                self.tenants.insert(at, tenant);
                let advance = self.advance(at.shard);
                advance.last = advance.last.max(at.number);
                self.documents.push((at, tenant, row));
            }
            Write::Superseded { key, version, at } => self.superseded.push((key, version, at)),
            Write::Posting { token, at } => self.postings.push((token, at)),
            Write::DropPosting { token, at } => self.dropped_postings.push((token, at)),
            Write::Listed { at, tokens } => {
                self.postings
                    .extend(tokens.iter().map(|token| (*token, at)));
                self.posted.push((at, tokens));
            }
            Write::Posted { at, tokens } => self.posted.push((at, tokens)),
            Write::DropPosted { at } => self.dropped_posted.push(at),
            Write::Event(event) => {
                let advance = self.advance(event.at.shard);
                advance.last_event = advance.last_event.max(event.at.number);
                self.events.push(event);
            }
            Write::Leaf {
                shard,
                index,
                record,
                nodes,
            } => self.leaves.push(LeafRow {
                shard,
                index,
                record,
                nodes,
            }),
            Write::Timer(timer) => self.timers.push(timer),
            Write::DropTimer(key) => self.dropped_timers.push(key),
            Write::Outbox(row) => self.outbox.push(row),
            Write::DropOutbox(key) => self.dropped_outbox.push(key),
            Write::Cursor {
                consumer,
                shard,
                at,
            } => self.cursors.push((consumer, shard, at)),
            Write::Key(key, row) => {
                if let (KeyRow::Destroyed { .. }, Some(home)) = (&row, key.home.0) {
                    self.advance(home).keys_changed += 1;
                }
                self.keys.push((key, row));
            }
            Write::KeysChanged(shard) => self.advance(shard).keys_changed += 1,
            Write::Meta { name, value } => {
                self.metas.insert(name, value);
            }
            Write::NewMeta { name, value } => {
                self.new_metas.insert(name, value);
            }
            Write::Redo { .. } | Write::DropRedo(_) => {
                return Err(LedgerError::Storage(
                    "no redo log is kept in PostgreSQL".into(),
                ));
            }
        }
        Ok(())
    }

    /// A row that says whether the batch was written, and its hash.
    pub(super) fn witness(&self) -> Option<(Hit, [u8; 32])> {
        (self.documents.first()).map(|(at, _, row)| (*at, sha256(row)))
    }

    /// One statement for each table that gets or loses rows, and one for the shards' own rows.
    pub(super) fn statements(
        self,
        trees: &BTreeMap<Shard, Tree>,
    ) -> Result<Vec<Statement>, LedgerError> {
        let mut statements = Vec::new();
        self.documents(&mut statements)?;
        self.names(&mut statements)?;
        self.search(&mut statements)?;
        self.order(trees, &mut statements)?;
        self.queues(&mut statements)?;
        self.keys_and_metas(&mut statements)?;
        Ok(statements)
    }

    fn documents(&self, out: &mut Vec<Statement>) -> Result<(), LedgerError> {
        let rows = &self.documents;
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|(at, ..)| *at).collect();
            out.push(Statement {
                sql: "INSERT INTO document (number, shard, tenant, body) \
                      SELECT * FROM unnest($1, $2, $3, $4)"
                    .into(),
                params: vec![
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                    ints(column(rows, |row| tenant(row.1))?),
                    byteas(column(rows, |row| Ok(row.2.clone()))?),
                ],
            });
        }
        let rows = &self.events;
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|event| event.at).collect();
            let cause = |event: &Event| event.cause.map(|cause| stored(cause.0)).transpose();
            out.push(Statement {
                sql: "INSERT INTO event (number, shard, tenant, kind, version, deleted, cause) \
                      SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)"
                    .into(),
                params: vec![
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                    ints(column(rows, |event| tenant(event.tenant))?),
                    ints(column(rows, |event| Ok(event.kind.0.into()))?),
                    bigs(column(rows, |event| Ok(event.version.into()))?),
                    bools(column(rows, |event| Ok(event.deleted))?),
                    maybe_bigs(column(rows, cause)?),
                ],
            });
        }
        Ok(())
    }

    fn names(&self, out: &mut Vec<Statement>) -> Result<(), LedgerError> {
        let rows = &self.heads;
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|(_, head)| head.at).collect();
            out.push(Statement {
                sql: "INSERT INTO head \
                          (tenant, id, shard, number, at_shard, version, deleted, audit) \
                      SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) \
                      ON CONFLICT (tenant, id, shard) DO UPDATE SET number = excluded.number, \
                          at_shard = excluded.at_shard, version = excluded.version, \
                          deleted = excluded.deleted, audit = excluded.audit"
                    .into(),
                params: vec![
                    ints(column(rows, |(key, _)| tenant(key.tenant))?),
                    uuids(column(rows, |(key, _)| Ok(Sixteen(key.id)))?),
                    smalls(column(rows, |(key, _)| home(key.home))?),
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                    bigs(column(rows, |(_, head)| Ok(head.version.into()))?),
                    bools(column(rows, |(_, head)| Ok(head.deleted))?),
                    bools(column(rows, |(_, head)| Ok(head.audit))?),
                ],
            });
        }
        let rows = &self.superseded;
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|(.., at)| *at).collect();
            out.push(Statement {
                sql: "INSERT INTO superseded (tenant, id, shard, version, number, at_shard) \
                      SELECT * FROM unnest($1, $2, $3, $4, $5, $6)"
                    .into(),
                params: vec![
                    ints(column(rows, |(key, ..)| tenant(key.tenant))?),
                    uuids(column(rows, |(key, ..)| Ok(Sixteen(key.id)))?),
                    smalls(column(rows, |(key, ..)| home(key.home))?),
                    bigs(column(rows, |(_, version, _)| Ok((*version).into()))?),
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                ],
            });
        }
        Ok(())
    }

    fn search(&self, out: &mut Vec<Statement>) -> Result<(), LedgerError> {
        // Whose a document of before is, its own row says.
        let of_batch = |at: &Hit| self.tenants.contains_key(at);
        let (rows, others): (Vec<_>, Vec<_>) =
            (self.postings.iter().copied()).partition(|(_, at)| of_batch(at));
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|(_, at)| *at).collect();
            out.push(Statement {
                sql: "INSERT INTO posting (token, number, shard, tenant) \
                      SELECT * FROM unnest($1, $2, $3, $4)"
                    .into(),
                params: vec![
                    bigs(column(&rows, |row| Ok(token(row.0)))?),
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                    ints(column(&rows, |row| self.tenant_of(row.1))?),
                ],
            });
        }
        if !others.is_empty() {
            let at: Vec<Hit> = others.iter().map(|(_, at)| *at).collect();
            out.push(Statement {
                sql: "INSERT INTO posting (token, number, shard, tenant) \
                      SELECT token, document.number, document.shard, document.tenant \
                      FROM unnest($1, $2, $3) AS moved (token, number, shard) \
                      JOIN document ON document.number = moved.number AND document.shard = moved.shard"
                    .into(),
                params: vec![
                    bigs(column(&others, |row| Ok(token(row.0)))?),
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                ],
            });
        }
        let rows = &self.dropped_postings;
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|(_, at)| *at).collect();
            out.push(Statement {
                sql: "DELETE FROM posting USING unnest($1, $2, $3) AS gone (token, number, shard) \
                      WHERE posting.token = gone.token AND posting.number = gone.number \
                          AND posting.shard = gone.shard"
                    .into(),
                params: vec![
                    bigs(column(rows, |row| Ok(token(row.0)))?),
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                ],
            });
        }
        let (rows, others): (Vec<_>, Vec<_>) = self.posted.iter().partition(|(at, _)| of_batch(at));
        if !rows.is_empty() {
            let at: Vec<Hit> = rows.iter().map(|(at, ..)| *at).collect();
            out.push(Statement {
                sql: "INSERT INTO posted (number, shard, tenant, tokens) \
                      SELECT * FROM unnest($1, $2, $3, $4)"
                    .into(),
                params: vec![
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                    ints(column(&rows, |row| self.tenant_of(row.0))?),
                    byteas(column(&rows, |row| Ok(tokens(&row.1)))?),
                ],
            });
        }
        if !others.is_empty() {
            let at: Vec<Hit> = others.iter().map(|(at, ..)| *at).collect();
            out.push(Statement {
                sql: "INSERT INTO posted (number, shard, tenant, tokens) \
                      SELECT document.number, document.shard, document.tenant, moved.tokens \
                      FROM unnest($1, $2, $3) AS moved (number, shard, tokens) \
                      JOIN document ON document.number = moved.number AND document.shard = moved.shard \
                      ON CONFLICT (number, shard) DO UPDATE SET tokens = EXCLUDED.tokens"
                    .into(),
                params: vec![
                    bigs(numbers(&at)?),
                    smalls(shards(&at)?),
                    byteas(column(&others, |row| Ok(tokens(&row.1)))?),
                ],
            });
        }
        let rows = &self.dropped_posted;
        if !rows.is_empty() {
            out.push(Statement {
                sql: "DELETE FROM posted USING unnest($1, $2) AS gone (number, shard) \
                      WHERE posted.number = gone.number AND posted.shard = gone.shard"
                    .into(),
                params: vec![bigs(numbers(rows)?), smalls(shards(rows)?)],
            });
        }
        Ok(())
    }

    fn order(
        &self,
        trees: &BTreeMap<Shard, Tree>,
        out: &mut Vec<Statement>,
    ) -> Result<(), LedgerError> {
        let rows = &self.leaves;
        if !rows.is_empty() {
            out.push(Statement {
                sql: "INSERT INTO leaf (shard, index, record, nodes) \
                      SELECT * FROM unnest($1, $2, $3, $4)"
                    .into(),
                params: vec![
                    smalls(column(rows, |row| shard(row.shard))?),
                    bigs(column(rows, |row| stored(row.index))?),
                    byteas(column(rows, |row| Ok(row.record.clone()))?),
                    byteas(column(rows, |row| Ok(row.nodes.concat()))?),
                ],
            });
        }
        let mut rows: Vec<(Shard, &Advance, Option<&Tree>)> = Vec::new();
        let nothing = Advance::default();
        for at in trees.keys().chain(self.advances.keys()) {
            if rows.iter().all(|(seen, ..)| seen != at) {
                rows.push((
                    *at,
                    self.advances.get(at).unwrap_or(&nothing),
                    trees.get(at),
                ));
            }
        }
        if !rows.is_empty() {
            let size = |tree: Option<&Tree>| tree.map(|tree| stored(tree.size())).transpose();
            let edge = |tree: &Tree| tree.edge().flatten().copied().collect();
            out.push(Statement {
                sql: "UPDATE shard SET last_number = greatest(last_number, number), \
                          last_event = greatest(last_event, event), \
                          keys_destroyed = keys_destroyed + changed, \
                          tree_size = coalesce(size, tree_size), tree_edge = coalesce(edge, tree_edge) \
                      FROM unnest($1, $2, $3, $4, $5, $6) \
                          AS new (at, number, event, changed, size, edge) \
                      WHERE shard = at".into(),
                params: vec![
                    smalls(column(&rows, |row| shard(row.0))?),
                    bigs(column(&rows, |row| stored(row.1.last.0))?),
                    bigs(column(&rows, |row| stored(row.1.last_event.0))?),
                    bigs(column(&rows, |row| Ok(row.1.keys_changed))?),
                    maybe_bigs(column(&rows, |row| size(row.2))?),
                    maybe_byteas(column(&rows, |row| Ok(row.2.map(edge)))?),
                ],
            });
        }
        Ok(())
    }

    fn queues(&self, out: &mut Vec<Statement>) -> Result<(), LedgerError> {
        let rows = &self.timers;
        if !rows.is_empty() {
            out.push(Statement {
                sql: "INSERT INTO timer (due_ms, shard, id, tenant, consumer, payload) \
                      SELECT * FROM unnest($1, $2, $3, $4, $5, $6) \
                      ON CONFLICT (due_ms, shard, id) DO UPDATE SET tenant = excluded.tenant, \
                          consumer = excluded.consumer, payload = excluded.payload"
                    .into(),
                params: vec![
                    bigs(column(rows, |timer| stored(timer.key.due_ms))?),
                    smalls(column(rows, |timer| shard(timer.key.shard))?),
                    uuids(column(rows, |timer| Ok(Sixteen(timer.key.id)))?),
                    ints(column(rows, |timer| tenant(timer.tenant))?),
                    ints(column(rows, |timer| Ok(timer.consumer.into()))?),
                    byteas(column(rows, |timer| Ok(timer.payload.clone()))?),
                ],
            });
        }
        // What can't be stored is not there.
        let rows: Vec<_> = (self.dropped_timers.iter())
            .filter(|key| stored(key.due_ms).is_ok())
            .collect();
        if !rows.is_empty() {
            out.push(Statement {
                sql: "DELETE FROM timer USING unnest($1, $2, $3) AS gone (due_ms, shard, id) \
                      WHERE timer.due_ms = gone.due_ms AND timer.shard = gone.shard \
                          AND timer.id = gone.id"
                    .into(),
                params: vec![
                    bigs(column(&rows, |key| stored(key.due_ms))?),
                    smalls(column(&rows, |key| shard(key.shard))?),
                    uuids(column(&rows, |key| Ok(Sixteen(key.id)))?),
                ],
            });
        }
        let rows = &self.outbox;
        if !rows.is_empty() {
            out.push(Statement {
                sql: "INSERT INTO outbox (due_ms, shard, id, tenant, channel, attempt, sealed) \
                      SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7) \
                      ON CONFLICT (due_ms, shard, id) DO UPDATE SET tenant = excluded.tenant, \
                          channel = excluded.channel, attempt = excluded.attempt, \
                          sealed = excluded.sealed"
                    .into(),
                params: vec![
                    bigs(column(rows, |row| stored(row.key.due_ms))?),
                    smalls(column(rows, |row| shard(row.key.shard))?),
                    uuids(column(rows, |row| Ok(Sixteen(row.key.id)))?),
                    ints(column(rows, |row| tenant(row.tenant))?),
                    ints(column(rows, |row| Ok(row.channel.into()))?),
                    bigs(column(rows, |row| Ok(row.attempt.into()))?),
                    byteas(column(rows, |row| Ok(row.sealed.clone()))?),
                ],
            });
        }
        let rows = &self.dropped_outbox;
        if !rows.is_empty() {
            out.push(Statement {
                sql: "DELETE FROM outbox USING unnest($1, $2, $3) AS gone (due_ms, shard, id) \
                      WHERE outbox.due_ms = gone.due_ms AND outbox.shard = gone.shard \
                          AND outbox.id = gone.id"
                    .into(),
                params: vec![
                    bigs(column(rows, |key| stored(key.due_ms))?),
                    smalls(column(rows, |key| shard(key.shard))?),
                    uuids(column(rows, |key| Ok(Sixteen(key.id)))?),
                ],
            });
        }
        let rows = &self.cursors;
        if !rows.is_empty() {
            out.push(Statement {
                sql:
                    "INSERT INTO cursor (consumer, shard, number) SELECT * FROM unnest($1, $2, $3) \
                      ON CONFLICT (consumer, shard) DO UPDATE SET number = excluded.number"
                        .into(),
                params: vec![
                    texts(column(rows, |row| Ok(row.0.clone()))?),
                    smalls(column(rows, |row| shard(row.1))?),
                    bigs(column(rows, |row| stored(row.2.0))?),
                ],
            });
        }
        Ok(())
    }

    fn keys_and_metas(self, out: &mut Vec<Statement>) -> Result<(), LedgerError> {
        let rows = &self.keys;
        if !rows.is_empty() {
            let wrapped = |row: &KeyRow| match row {
                KeyRow::Wrapped(wrapped) => Some(wrapped.clone()),
                KeyRow::Destroyed { .. } => None,
            };
            let destroyed = |row: &KeyRow| match row {
                KeyRow::Wrapped(_) => Ok(None),
                KeyRow::Destroyed { at_ms } => stored(*at_ms).map(Some),
            };
            out.push(Statement {
                sql: "INSERT INTO key (tenant, subject, shard, wrapped, destroyed_ms) \
                      SELECT * FROM unnest($1, $2, $3, $4, $5) \
                      ON CONFLICT (tenant, subject, shard) DO UPDATE SET \
                          wrapped = excluded.wrapped, destroyed_ms = excluded.destroyed_ms"
                    .into(),
                params: vec![
                    ints(column(rows, |(key, _)| tenant(key.tenant))?),
                    uuids(column(rows, |(key, _)| Ok(Sixteen(key.subject)))?),
                    smalls(column(rows, |(key, _)| home(key.home))?),
                    maybe_byteas(column(rows, |(_, row)| Ok(wrapped(row)))?),
                    maybe_bigs(column(rows, |(_, row)| destroyed(row))?),
                ],
            });
        }
        if !self.new_metas.is_empty() {
            let (names, values) = self.new_metas.into_iter().unzip();
            out.push(Statement {
                sql: "INSERT INTO meta (name, value) SELECT * FROM unnest($1, $2) \
                      ON CONFLICT (name) DO NOTHING"
                    .into(),
                params: vec![texts(names), byteas(values)],
            });
        }
        if !self.metas.is_empty() {
            let (names, values) = self.metas.into_iter().unzip();
            out.push(Statement {
                sql: "INSERT INTO meta (name, value) SELECT * FROM unnest($1, $2) \
                      ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                    .into(),
                params: vec![texts(names), byteas(values)],
            });
        }
        Ok(())
    }
}
