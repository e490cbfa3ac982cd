//! Reading: the rows of one moment, or of now; for the ledger as a whole, or for one tenant.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::future::{join, join_all};
use tokio::sync::Mutex;
use tokio_postgres::Row;

use super::connect::{Connection, fault};
use super::horizon;
use super::many;
use super::past;
use super::replica;
use super::rows::{
    self, Columns, Param, Sixteen, big, boolean, bound, damaged, int, ints, small, smalls, stored,
    tenant, text, uuid,
};
use super::scan::scan;
use super::server::{Before, Flight, Server, Statement};
use crate::backend::{
    Head, HeadKey, KeyRow, Newest, OutboxRow, Snapshot, Standing, SubjectKey, Table, Write,
};
use crate::due::{Due, Whose};
use crate::outer::TOKENS;
use crate::tree::{Tree, stored_by};
use crate::{
    Event, Hit, LedgerError, Number, OutboxKey, SHARDS, Shard, TenantId, Timer, TimerKey, Token,
};

/// The role of the ledger itself, where a tenant's number stands for a tenant.
const SERVICE: i64 = -1;

/// A transaction.
pub(super) enum Held {
    /// It begins with the first read, in the same flight.
    Ahead(Start),
    /// It is under way, with a role.
    Open(Connection, i64),
    Ended,
}

impl Held {
    /// The connection, which is nobody's any more then.
    pub(super) fn take(&mut self) -> Option<Connection> {
        match std::mem::replace(self, Self::Ended) {
            Self::Open(connection, _) => Some(connection),
            Self::Ahead(_) | Self::Ended => None,
        }
    }
}

/// How a transaction that reads begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Plain,
    /// It may be asked nothing for minutes.
    Long,
    /// It will be asked for its horizon.
    Marked,
    /// On a replica that has everything up to a number, if there is one.
    AtLeast(Number),
}

enum Source {
    /// A transaction for each read.
    Each,
    /// One for all reads.
    Held(Arc<Mutex<Held>>),
}

/// Rows that were read ahead; what was asked for and is not there is `None`.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) heads: HashMap<HeadKey, Option<Head>>,
    pub(super) posted: HashMap<Hit, Vec<Token>>,
    pub(super) cursors: HashMap<(String, Shard), Option<Number>>,
    pub(super) outbox: HashMap<OutboxKey, bool>,
    pub(super) keys: HashMap<SubjectKey, Option<KeyRow>>,
    pub(super) metas: HashMap<String, Option<Vec<u8>>>,
    /// The meta row of the outer layers of tokens.
    pub(super) layers: Option<Option<Vec<u8>>>,
}

/// Reads the meta row of the outer layers of tokens, without keeping others from it.
pub(super) fn layers() -> Statement {
    Statement {
        sql: "SELECT value FROM meta WHERE name = $1".into(),
        params: vec![text(TOKENS.to_owned())],
    }
}

/// Its answer.
pub(super) fn layers_of(rows: &[Row]) -> Result<Option<Vec<u8>>, LedgerError> {
    let row = rows.first().map(|row| Columns { row, table: "meta" });
    row.map(|row| row.get(0)).transpose()
}

pub(super) struct PgSnapshot {
    server: Arc<Server>,
    source: Source,
    wanted: AtomicI64,
    standings: OnceLock<Vec<Standing>>,
    trees: OnceLock<Vec<Tree>>,
    /// The meta row of the outer layers of tokens, in a transaction of one moment asked for once.
    layers: OnceLock<Option<Vec<u8>>>,
    fetched: Fetched,
    /// Whether it is that of a transaction that writes.
    is_turn: bool,
}

impl PgSnapshot {
    fn new(server: &Arc<Server>, source: Source, fetched: Fetched, is_turn: bool) -> Self {
        Self {
            is_turn,
            server: Arc::clone(server),
            source,
            wanted: AtomicI64::new(SERVICE),
            standings: OnceLock::new(),
            trees: OnceLock::new(),
            layers: OnceLock::new(),
            fetched,
        }
    }

    /// Each read as the rows are then.
    pub(super) fn each(server: &Arc<Server>) -> Self {
        Self::new(server, Source::Each, Fetched::default(), false)
    }

    /// The rows as they are at one moment, that of the first read.
    pub(super) fn moment(server: &Arc<Server>) -> Self {
        Self::starting(server, Start::Plain)
    }

    /// The same, for who looks away for minutes.
    pub(super) fn long(server: &Arc<Server>) -> Self {
        Self::starting(server, Start::Long)
    }

    /// The same, with a horizon as near as can be.
    pub(super) fn listing(server: &Arc<Server>) -> Self {
        Self::starting(server, Start::Marked)
    }

    /// The rows of a moment at which everything up to a number was there.
    pub(super) fn at_least(server: &Arc<Server>, number: Number) -> Self {
        Self::starting(server, Start::AtLeast(number))
    }

    fn starting(server: &Arc<Server>, start: Start) -> Self {
        let ahead = Arc::new(Mutex::new(Held::Ahead(start)));
        Self::new(server, Source::Held(ahead), Fetched::default(), false)
    }

    /// The rows as a transaction that is under way sees them.
    pub(super) fn within(server: &Arc<Server>, held: Arc<Mutex<Held>>, fetched: Fetched) -> Self {
        Self::new(server, Source::Held(held), fetched, true)
    }

    /// Whether the tables are spread over several servers.
    pub(super) fn is_spread(&self) -> bool {
        self.server.is_spread
    }

    /// The answers to some statements, sent in one flight.
    pub(super) fn queries(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, LedgerError> {
        self.queries_as(self.wanted.load(Ordering::Acquire), statements)
    }

    fn queries_as(
        &self,
        wanted: i64,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, LedgerError> {
        let tenant = tenant_of(wanted);
        match &self.source {
            Source::Each => {
                let begin = self.server.begin_read(tenant, false);
                let work = Arc::clone(&self.server.work);
                let flight = Flight {
                    begin,
                    before: None,
                    statements,
                    is_whole: true,
                };
                self.server.wait(async move {
                    let (connection, answers) = flight.send(&work).await?;
                    connection.give_back();
                    Ok(answers)
                })
            }
            Source::Held(held) => {
                let held = Arc::clone(held);
                let role = self.server.role(tenant);
                let server = Arc::downgrade(&self.server);
                self.server.wait(async move {
                    let mut held = held.lock().await;
                    match &mut *held {
                        Held::Ahead(start) => {
                            let server = server.upgrade().ok_or(LedgerError::Closed)?;
                            let (connection, answers) =
                                begin(&server, *start, tenant, statements).await?;
                            *held = Held::Open(connection, wanted);
                            Ok(answers)
                        }
                        Held::Open(connection, current) => {
                            let client = connection.client()?;
                            let answers = join_all(statements.iter().map(|one| one.rows(client)));
                            let answers = if *current == wanted {
                                answers.await.into_iter().collect()
                            } else {
                                let (changed, answers) =
                                    join(client.batch_execute(&role), answers).await;
                                *current = wanted;
                                changed.and(answers.into_iter().collect())
                            };
                            answers.map_err(|error| fault(&error))
                        }
                        Held::Ended => {
                            Err(LedgerError::Storage("the transaction has ended".into()))
                        }
                    }
                })
            }
        }
    }

    fn query(&self, sql: &'static str, params: Vec<Param>) -> Result<Vec<Row>, LedgerError> {
        let sql = sql.into();
        let answers = self.queries(vec![Statement { sql, params }])?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    pub(super) fn one<T>(
        &self,
        table: &'static str,
        sql: &'static str,
        params: Vec<Param>,
        decode: impl Fn(&Columns<'_>) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        let rows = self.query(sql, params)?;
        (rows.first())
            .map(|row| decode(&Columns { row, table }))
            .transpose()
    }

    pub(super) fn page<T>(
        &self,
        table: &'static str,
        sql: &'static str,
        params: Vec<Param>,
        decode: impl Fn(&Columns<'_>) -> Result<T, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        let rows = self.query(sql, params)?;
        (rows.iter())
            .map(|row| decode(&Columns { row, table }))
            .collect()
    }

    /// How far the shards are, in order; in a transaction of one moment asked for once.
    pub(super) fn standings(&self) -> Result<Vec<Standing>, LedgerError> {
        if let Some(standings) = self.standings.get() {
            return Ok(standings.clone());
        }
        let standings = self.page(
            "shard",
            "SELECT shard, last_number, last_event, tree_size, keys_destroyed FROM shard ORDER BY shard",
            Vec::new(),
            |row| {
                Ok(Standing {
                    shard: row.shard(0)?,
                    last: row.number(1)?,
                    last_event: row.number(2)?,
                    tree_size: row.big(3)?,
                    keys_changed: row.big(4)?,
                })
            },
        )?;
        if standings.len() != usize::from(SHARDS) {
            return Err(LedgerError::Damaged(format!(
                "the table of shards has {} rows, and there are {SHARDS} shards",
                standings.len()
            )));
        }
        if matches!(self.source, Source::Held(_)) {
            // Another reader may have been faster, with the same rows.
            let _ = self.standings.set(standings.clone());
        }
        Ok(standings)
    }

    fn standing(&self, shard: Shard) -> Result<Standing, LedgerError> {
        (self.standings()?.get(usize::from(shard.0)).copied())
            .ok_or_else(|| LedgerError::Storage(format!("there is no shard {shard}")))
    }
}

impl Drop for PgSnapshot {
    fn drop(&mut self) {
        if let Source::Held(held) = &self.source
            && let Some(connection) = held.try_lock().ok().and_then(|mut held| held.take())
        {
            self.server.roll_back(connection);
        }
    }
}

/// Begins a transaction that reads, with what it reads first.
async fn begin(
    server: &Server,
    start: Start,
    tenant: Option<TenantId>,
    statements: Vec<Statement>,
) -> Result<(Connection, Vec<Vec<Row>>), LedgerError> {
    let mut flight = Flight {
        begin: server.begin_read(tenant, true),
        before: None,
        statements,
        is_whole: false,
    };
    match start {
        Start::AtLeast(number) => {
            let primary = std::mem::replace(&mut flight.begin, server.begin_read(None, true));
            flight.before = Some(replica::before(number, server.role(tenant)));
            let (served, declined) = server.replicas.serve(&flight, number).await;
            declined.into_iter().for_each(|one| server.roll_back(one));
            if let Some(served) = served {
                return Ok(served);
            }
            flight.begin = primary;
            flight.before = None;
        }
        Start::Marked if !server.is_spread => {
            let then = format!("COMMIT; {}", flight.begin);
            flight.begin = server.begin_read(None, false);
            flight.before = Some(Before {
                statements: horizon::statements(),
                then,
            });
            let (connection, mut answers) = flight.send(&server.views).await?;
            let rest = answers.split_off(2);
            let (number, id) = (horizon::one(&answers[0])?, horizon::one(&answers[1])?);
            let number = u64::try_from(number).map_err(|_| damaged("shard"))?;
            server.horizon.mark(id, Number(number));
            return Ok((connection, rest));
        }
        Start::Long => {
            flight.begin += "; SET LOCAL idle_in_transaction_session_timeout = '15min'";
        }
        Start::Plain | Start::Marked => {}
    }
    flight.send(&server.views).await
}

/// Takes the id of a transaction.
pub(super) fn take_id(server: &Arc<Server>) -> Result<i64, LedgerError> {
    let flight = Flight {
        begin: server.begin_read(None, false),
        before: None,
        statements: vec![horizon::id()],
        is_whole: true,
    };
    let work = Arc::clone(&server.work);
    server.wait(async move {
        let (connection, answers) = flight.send(&work).await?;
        connection.give_back();
        horizon::one(answers.first().map_or(&[][..], Vec::as_slice))
    })
}

/// A transaction that begins as the ledger itself.
pub(super) fn held(connection: Connection) -> Arc<Mutex<Held>> {
    Arc::new(Mutex::new(Held::Open(connection, SERVICE)))
}

fn tenant_of(role: i64) -> Option<TenantId> {
    u32::try_from(role).ok().map(TenantId)
}

/// The tree of a shard's row.
pub(super) fn tree_of(shard: Shard, size: u64, edge: &[u8]) -> Result<Tree, LedgerError> {
    let (hashes, rest) = edge.as_chunks::<32>();
    (Tree::of_edge(size, hashes).filter(|_| rest.is_empty())).ok_or_else(|| {
        LedgerError::Damaged(format!(
            "the edge of audit tree {shard} does not fit its size"
        ))
    })
}

/// `number, at_shard, version, deleted, audit`, from a column on.
pub(super) fn head_of(row: &Columns<'_>, from: usize) -> Result<Head, LedgerError> {
    Ok(Head {
        at: hit_of(row, from)?,
        version: row.big(from + 2)?,
        deleted: row.get(from + 3)?,
        audit: row.get(from + 4)?,
    })
}

/// `wrapped, destroyed_ms`, from a column on.
pub(super) fn key_of(row: &Columns<'_>, from: usize) -> Result<KeyRow, LedgerError> {
    match row.get::<Option<Vec<u8>>>(from)? {
        Some(wrapped) => Ok(KeyRow::Wrapped(wrapped)),
        None => Ok(KeyRow::Destroyed {
            at_ms: row.big(from + 1)?,
        }),
    }
}

/// `number, shard`, from a column on.
pub(super) fn hit_of(row: &Columns<'_>, from: usize) -> Result<Hit, LedgerError> {
    Ok(Hit {
        number: row.number(from)?,
        shard: row.shard(from + 1)?,
    })
}

pub(super) fn hit(row: &Columns<'_>) -> Result<Hit, LedgerError> {
    hit_of(row, 0)
}

/// A shard as the bound of a look: one more than the last is one that is not there.
pub(super) fn shard_bound(shard: Shard) -> i16 {
    i16::try_from(shard.0).unwrap_or(i16::MAX)
}

pub(super) fn limit(rows: usize) -> Param {
    big(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// From which key on, until when, and how many.
fn due((due_ms, shard, id): Due, until_ms: u64, rows: usize) -> Vec<Param> {
    vec![
        big(bound(due_ms)),
        small(shard_bound(shard)),
        uuid(Sixteen(id)),
        big(bound(until_ms)),
        limit(rows),
    ]
}

/// The same, and whose: a tenant or below zero, consumers or channels, whether all shards or which.
fn due_of(from: Due, until_ms: u64, whose: &Whose, rows: usize) -> Result<Vec<Param>, LedgerError> {
    let mut params = due(from, until_ms, rows);
    let shards = whose.shards.iter().flatten().copied();
    params.extend([
        int(whose.tenant.map_or(Ok(-1), tenant)?),
        ints(whose.numbers.iter().copied().map(i32::from).collect()),
        boolean(whose.shards.is_none()),
        smalls(shards.map(shard_bound).collect()),
    ]);
    Ok(params)
}

fn timer(row: &Columns<'_>) -> Result<Timer, LedgerError> {
    Ok(Timer {
        key: TimerKey {
            due_ms: row.big(0)?,
            shard: row.shard(1)?,
            id: row.sixteen(2)?,
        },
        tenant: row.tenant(3)?,
        consumer: row.int(4)?,
        payload: row.get(5)?,
    })
}

fn outbox(row: &Columns<'_>) -> Result<OutboxRow, LedgerError> {
    Ok(OutboxRow {
        key: OutboxKey {
            due_ms: row.big(0)?,
            shard: row.shard(1)?,
            id: row.sixteen(2)?,
        },
        tenant: row.tenant(3)?,
        channel: row.int(4)?,
        attempt: row.big(5)?,
        sealed: row.get(6)?,
    })
}

impl Snapshot for PgSnapshot {
    fn enter(&self, tenant: TenantId) {
        self.wanted.store(i64::from(tenant.0), Ordering::Release);
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        if let Some(value) = self.fetched.metas.get(name) {
            return Ok(value.clone());
        }
        // Who reads one in a turn may write it in the same.
        let sql = if self.is_turn {
            "SELECT value FROM meta WHERE name = $1 FOR UPDATE"
        } else {
            "SELECT value FROM meta WHERE name = $1"
        };
        // Meta rows are nobody's; whoever looks at a tenant's rows may still have to ask for one.
        let params = vec![text(name.to_owned())];
        let sql = sql.into();
        // Not on Citus: it tells other servers all roles of a transaction, whoever it connects as.
        let role = if self.server.is_spread {
            self.wanted.load(Ordering::Acquire)
        } else {
            SERVICE
        };
        let answers = self.queries_as(role, vec![Statement { sql, params }])?;
        layers_of(answers.first().map_or(&[], Vec::as_slice))
    }

    fn layers(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        // Token keys don't rotate there; see `Ledger::rotate_token_keys`.
        if self.server.is_spread {
            return Ok(None);
        }
        if let Some(row) = self.fetched.layers.as_ref().or(self.layers.get()) {
            return Ok(row.clone());
        }
        let row = self.meta(TOKENS)?;
        if matches!(self.source, Source::Held(_)) {
            // Another reader may have been faster, with the same row.
            let _ = self.layers.set(row.clone());
        }
        Ok(row)
    }

    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError> {
        let sql = "SELECT name, value FROM meta WHERE starts_with(name, $1) ORDER BY name";
        self.page("meta", sql, vec![text(prefix.to_owned())], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    fn head(&self, key: &HeadKey) -> Result<Option<Head>, LedgerError> {
        if let Some(head) = self.fetched.heads.get(key) {
            return Ok(*head);
        }
        // The home follows from the id, so there is no second row of the name.
        let mut params = vec![int(rows::tenant(key.tenant)?), uuid(Sixteen(key.id))];
        let sql = match key.home.0 {
            Some(home) => {
                params.push(small(shard_bound(home)));
                "SELECT number, at_shard, version, deleted, audit FROM head \
                 WHERE tenant = $1 AND id = $2 AND shard = $3"
            }
            None => {
                "SELECT number, at_shard, version, deleted, audit FROM head \
                 WHERE tenant = $1 AND id = $2"
            }
        };
        self.one("head", sql, params, |row| head_of(row, 0))
    }

    fn superseded(&self, key: &HeadKey, version: u32) -> Result<Option<Hit>, LedgerError> {
        let mut params = vec![
            int(rows::tenant(key.tenant)?),
            uuid(Sixteen(key.id)),
            big(version.into()),
        ];
        let sql = match key.home.0 {
            Some(home) => {
                params.push(small(shard_bound(home)));
                "SELECT number, at_shard FROM superseded \
                 WHERE tenant = $1 AND id = $2 AND version = $3 AND shard = $4"
            }
            None => {
                "SELECT number, at_shard FROM superseded \
                 WHERE tenant = $1 AND id = $2 AND version = $3"
            }
        };
        self.one("superseded", sql, params, hit)
    }

    fn document(&self, at: Hit) -> Result<Option<Vec<u8>>, LedgerError> {
        let sql = "SELECT body FROM document WHERE number = $1 AND shard = $2";
        let params = vec![big(bound(at.number.0)), small(shard_bound(at.shard))];
        self.one("document", sql, params, |row| row.get(0))
    }

    fn places(&self, after: Hit, rows: usize) -> Result<Vec<Hit>, LedgerError> {
        let sql = "SELECT number, shard FROM document WHERE (number, shard) > ($1, $2) \
                   ORDER BY number, shard LIMIT $3";
        let params = vec![
            big(bound(after.number.0)),
            small(shard_bound(after.shard)),
            limit(rows),
        ];
        self.page("document", sql, params, hit)
    }

    fn last_number(&self) -> Result<Number, LedgerError> {
        let standings = self.standings()?;
        Ok((standings.iter().map(|standing| standing.last).max()).unwrap_or_default())
    }

    fn postings(
        &self,
        token: Token,
        from: Hit,
        since: Number,
        rows: usize,
    ) -> Result<Vec<Hit>, LedgerError> {
        if stored(since.0).is_err() {
            return Ok(Vec::new());
        }
        let mut pages = self.queries(vec![many::page_of(token, from, since, rows)])?;
        let rows = pages.pop().unwrap_or_default();
        let columns = rows.iter().map(|row| Columns {
            row,
            table: "posting",
        });
        columns.map(|row| hit(&row)).collect()
    }

    fn posted(&self, at: Hit) -> Result<Vec<Token>, LedgerError> {
        if let Some(tokens) = self.fetched.posted.get(&at) {
            return Ok(tokens.clone());
        }
        let sql = "SELECT tokens FROM posted WHERE number = $1 AND shard = $2";
        let params = vec![big(bound(at.number.0)), small(shard_bound(at.shard))];
        let tokens = self.one("posted", sql, params, |row| {
            rows::decode_tokens(row.get(0)?)
        })?;
        Ok(tokens.unwrap_or_default())
    }

    fn is_far(&self) -> bool {
        true
    }

    fn horizon(&self) -> Result<Option<Number>, LedgerError> {
        if self.is_spread() {
            return Ok(Some(self.server.horizon.by_time()));
        }
        let rows = self.query(horizon::LOWEST, Vec::new())?;
        Ok(Some(self.server.horizon.of(horizon::one(&rows)?)))
    }

    fn pages(
        &self,
        wanted: &[(Token, usize)],
        from: Hit,
        since: Number,
    ) -> Result<Vec<Vec<Hit>>, LedgerError> {
        many::pages(self, wanted, from, since)
    }

    fn posted_of(&self, places: &[Hit]) -> Result<Vec<Vec<Token>>, LedgerError> {
        many::posted_of(self, places)
    }

    fn newest(&self, key: &HeadKey) -> Result<Option<Newest>, LedgerError> {
        many::newest(self, key)
    }

    fn documents(
        &self,
        places: &[Hit],
        bytes_max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, LedgerError> {
        many::documents(self, places, bytes_max)
    }

    fn heads(&self, keys: &[HeadKey]) -> Result<Vec<Option<Head>>, LedgerError> {
        many::heads(self, keys)
    }

    fn keys(&self, keys: &[SubjectKey]) -> Result<Vec<Option<KeyRow>>, LedgerError> {
        many::keys(self, keys)
    }

    fn events(&self, shard: Shard, after: Number, rows: usize) -> Result<Vec<Event>, LedgerError> {
        let sql = "SELECT number, shard, tenant, kind, version, deleted, cause FROM event \
                   WHERE shard = $1 AND number > $2 ORDER BY number LIMIT $3";
        let params = vec![small(shard_bound(shard)), big(bound(after.0)), limit(rows)];
        self.page("event", sql, params, past::event_of)
    }

    fn events_below(
        &self,
        shards: &[(Shard, Number)],
        since: Number,
        rows: usize,
    ) -> Result<Vec<Vec<Event>>, LedgerError> {
        past::events_below(self, shards, since, rows)
    }

    fn last_event(&self, shard: Shard) -> Result<Number, LedgerError> {
        if matches!(self.source, Source::Held(_)) {
            return Ok(self.standing(shard)?.last_event);
        }
        // Who does not hold on to a moment asks for one.
        let sql = "SELECT last_event FROM shard WHERE shard = $1";
        let params = vec![small(shard_bound(shard))];
        self.one("shard", sql, params, |row| row.number(0))?
            .ok_or_else(|| LedgerError::Damaged(format!("the row of shard {shard} is missing")))
    }

    fn leaf(&self, shard: Shard, index: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        let sql = "SELECT record FROM leaf WHERE shard = $1 AND index = $2";
        let params = vec![small(shard_bound(shard)), big(bound(index))];
        self.one("leaf", sql, params, |row| row.get(0))
    }

    fn leaves(
        &self,
        shard: Shard,
        from: u64,
        rows: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        let sql = "SELECT index, record FROM leaf WHERE shard = $1 AND index >= $2 \
                   ORDER BY index LIMIT $3";
        let params = vec![small(shard_bound(shard)), big(bound(from)), limit(rows)];
        self.page("leaf", sql, params, |row| Ok((row.big(0)?, row.get(1)?)))
    }

    fn tree_size(&self, shard: Shard) -> Result<u64, LedgerError> {
        Ok(self.standing(shard)?.tree_size)
    }

    fn node(&self, shard: Shard, index: u64) -> Result<Option<[u8; 32]>, LedgerError> {
        let (leaf, place) = stored_by(index);
        let sql = "SELECT nodes FROM leaf WHERE shard = $1 AND index = $2";
        let params = vec![small(shard_bound(shard)), big(bound(leaf))];
        let nodes = self.one("leaf", sql, params, |row| {
            let (nodes, rest) = row.get::<&[u8]>(0)?.as_chunks::<32>();
            if rest.is_empty() {
                Ok(nodes.get(place).copied())
            } else {
                Err(damaged("leaf"))
            }
        })?;
        Ok(nodes.flatten())
    }

    fn timers(
        &self,
        from: TimerKey,
        until_ms: u64,
        rows: usize,
    ) -> Result<Vec<Timer>, LedgerError> {
        let sql = "SELECT due_ms, shard, id, tenant, consumer, payload FROM timer \
                   WHERE (due_ms, shard, id) >= ($1, $2, $3) AND due_ms <= $4 \
                   ORDER BY due_ms, shard, id LIMIT $5";
        let params = due(from.due(), until_ms, rows);
        self.page("timer", sql, params, timer)
    }

    fn timers_of(
        &self,
        from: TimerKey,
        until_ms: u64,
        whose: &Whose,
        rows: usize,
    ) -> Result<Vec<Timer>, LedgerError> {
        let sql = "SELECT due_ms, shard, id, tenant, consumer, payload FROM timer \
                   WHERE (due_ms, shard, id) >= ($1, $2, $3) AND due_ms <= $4 \
                   AND ($6 < 0 OR tenant = $6) AND (cardinality($7) = 0 OR consumer = ANY ($7)) \
                   AND ($8 OR shard = ANY ($9)) \
                   ORDER BY due_ms, shard, id LIMIT $5";
        let params = due_of(from.due(), until_ms, whose, rows)?;
        self.page("timer", sql, params, timer)
    }

    fn outbox(
        &self,
        from: OutboxKey,
        until_ms: u64,
        rows: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        let sql = "SELECT due_ms, shard, id, tenant, channel, attempt, sealed FROM outbox \
                   WHERE (due_ms, shard, id) >= ($1, $2, $3) AND due_ms <= $4 \
                   ORDER BY due_ms, shard, id LIMIT $5";
        let params = due(from.due(), until_ms, rows);
        self.page("outbox", sql, params, outbox)
    }

    fn outbox_of(
        &self,
        from: OutboxKey,
        until_ms: u64,
        whose: &Whose,
        rows: usize,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        let sql = "SELECT due_ms, shard, id, tenant, channel, attempt, sealed FROM outbox \
                   WHERE (due_ms, shard, id) >= ($1, $2, $3) AND due_ms <= $4 \
                   AND ($6 < 0 OR tenant = $6) AND (cardinality($7) = 0 OR channel = ANY ($7)) \
                   AND ($8 OR shard = ANY ($9)) \
                   ORDER BY due_ms, shard, id LIMIT $5";
        let params = due_of(from.due(), until_ms, whose, rows)?;
        self.page("outbox", sql, params, outbox)
    }

    fn has_outbox(&self, key: &OutboxKey) -> Result<bool, LedgerError> {
        if let Some(there) = self.fetched.outbox.get(key) {
            return Ok(*there);
        }
        let sql = "SELECT 1 FROM outbox WHERE due_ms = $1 AND shard = $2 AND id = $3";
        let params = vec![
            big(bound(key.due_ms)),
            small(shard_bound(key.shard)),
            uuid(Sixteen(key.id)),
        ];
        Ok(self.one("outbox", sql, params, |_| Ok(()))?.is_some())
    }

    fn cursor(&self, consumer: &str, shard: Shard) -> Result<Option<Number>, LedgerError> {
        if let Some(at) = self.fetched.cursors.get(&(consumer.to_owned(), shard)) {
            return Ok(*at);
        }
        let sql = "SELECT number FROM cursor WHERE consumer = $1 AND shard = $2";
        let params = vec![text(consumer.to_owned()), small(shard_bound(shard))];
        self.one("cursor", sql, params, |row| row.number(0))
    }

    fn key(&self, key: &SubjectKey) -> Result<Option<KeyRow>, LedgerError> {
        if let Some(row) = self.fetched.keys.get(key) {
            return Ok(row.clone());
        }
        let mut params = vec![int(rows::tenant(key.tenant)?), uuid(Sixteen(key.subject))];
        let sql = match key.home.0 {
            Some(home) => {
                params.push(small(shard_bound(home)));
                "SELECT wrapped, destroyed_ms FROM key \
                 WHERE tenant = $1 AND subject = $2 AND shard = $3"
            }
            None => "SELECT wrapped, destroyed_ms FROM key WHERE tenant = $1 AND subject = $2",
        };
        self.one("key", sql, params, |row| key_of(row, 0))
    }

    fn scan(
        &self,
        table: Table,
        after: Option<&Write>,
        rows: usize,
    ) -> Result<Vec<Write>, LedgerError> {
        scan(self, table, after, limit(rows))
    }

    // No redo log is kept here, because groups of several writers have no one order.
    fn redo(&self, _after: u64, _limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        Ok(Vec::new())
    }

    fn last_redo(&self) -> Result<u64, LedgerError> {
        Ok(0)
    }

    fn tree(&self, shard: Shard) -> Result<Tree, LedgerError> {
        if let Some(trees) = self.trees.get() {
            return find_tree(trees, shard);
        }
        // Who asks for one asks for all, on opening.
        let sql = "SELECT shard, tree_size, tree_edge FROM shard ORDER BY shard";
        let trees = self.page("shard", sql, Vec::new(), |row| {
            tree_of(row.shard(0)?, row.big(1)?, row.get(2)?)
        })?;
        if matches!(self.source, Source::Held(_)) {
            return find_tree(self.trees.get_or_init(|| trees), shard);
        }
        find_tree(&trees, shard)
    }
}

fn find_tree(trees: &[Tree], shard: Shard) -> Result<Tree, LedgerError> {
    (trees.get(usize::from(shard.0)).cloned())
        .ok_or_else(|| LedgerError::Damaged(format!("the row of shard {shard} is missing")))
}
