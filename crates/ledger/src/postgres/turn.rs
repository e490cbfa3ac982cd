//! Writing: a group's turn is one transaction.
//!
//! Writers meet in the rows of the shards. A turn begins by locking those of all shards that the
//! group touches, in ascending order, and in the same flight reads all that planning asks for. Since
//! everybody who changes a row of a shard holds the shard's own, READ COMMITTED is enough: what was
//! read stays as it is until the turn ends. The writes and the COMMIT are a second flight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::{Error, Row};

use super::batch::Batch;
use super::connect::{Connection, fault};
use super::horizon;
use super::read::{Fetched, Held, PgSnapshot, head_of, held, key_of, layers, layers_of, tree_of};
use super::rows::{
    Columns, Sixteen, big, bigs, bytes, damaged, ints, shard, small, smalls, stored, tenant, text,
    texts, uuids,
};
use super::server::{Flight, Server, Statement, is_lost};
use super::spread::narrowed;
use crate::backend::{Head, HeadKey, Home, Sign, Snapshot, SubjectKey, Touched, Turn, Write};
use crate::bootstrap::tenant_row;
use crate::leases::Lease;
use crate::tree::Tree;
use crate::writer::CHECKPOINT;
use crate::{Hit, LedgerError, Number, OutboxKey, SHARDS, Shard, TenantId};

/// How long to look for a database that went away while it was told to commit.
const SETTLE_FOR: Duration = Duration::from_secs(15);
const SETTLE_EVERY: Duration = Duration::from_millis(250);

pub(super) struct PgTurn {
    server: Arc<Server>,
    began: Instant,
    held: Arc<Mutex<Held>>,
    snapshot: PgSnapshot,
    last: Number,
    trees: BTreeMap<Shard, Tree>,
    leases: BTreeMap<Shard, Lease>,
    /// How many secrets tenants have, by the name of their first one's row.
    secrets: BTreeMap<String, u32>,
}

fn lock_shards(shards: Vec<i16>) -> Statement {
    Statement {
        sql: "SELECT shard, last_number, tree_size, tree_edge, lease_holder, lease_epoch \
              FROM shard WHERE shard = ANY($1) \
              ORDER BY shard FOR UPDATE"
            .into(),
        params: vec![smalls(shards)],
    }
}

/// What a turn reads when it begins; the locks first, so that each later statement sees what the
/// holders before have committed.
fn opening(touched: &Touched) -> Result<Vec<Statement>, LedgerError> {
    let shards = touched.shards.iter().map(|at| shard(*at));
    let heads: Vec<&HeadKey> = touched.heads.iter().collect();
    let cursors: Vec<&(String, Shard)> = touched.cursors.iter().collect();
    let outbox: Vec<&OutboxKey> = (touched.outbox.iter())
        .filter(|key| stored(key.due_ms).is_ok())
        .collect();
    let keys: Vec<&SubjectKey> = touched.keys.iter().collect();
    let home = |home: Home| home.0.map_or(Ok(-1), shard);
    let mut statements = vec![
        lock_shards(shards.collect::<Result<_, _>>()?),
        // Numbers go on from those of all shards: see `horizon.rs`.
        Statement {
            sql: "SELECT max(last_number) FROM shard".into(),
            params: Vec::new(),
        },
        Statement {
            sql: "SELECT head.tenant, head.id, number, at_shard, version, deleted, audit \
                  FROM unnest($1, $2, $3) AS wanted (tenant, id, shard) \
                  JOIN head ON head.tenant = wanted.tenant AND head.id = wanted.id \
                      AND head.shard = wanted.shard"
                .into(),
            params: vec![
                ints(
                    (heads.iter())
                        .map(|key| tenant(key.tenant))
                        .collect::<Result<_, _>>()?,
                ),
                uuids(heads.iter().map(|key| Sixteen(key.id)).collect()),
                smalls(
                    (heads.iter())
                        .map(|key| home(key.home))
                        .collect::<Result<_, _>>()?,
                ),
            ],
        },
        Statement {
            sql: "SELECT cursor.consumer, cursor.shard, number \
                  FROM unnest($1, $2) AS wanted (consumer, shard) \
                  JOIN cursor ON cursor.consumer = wanted.consumer AND cursor.shard = wanted.shard"
                .into(),
            params: vec![
                texts(
                    cursors
                        .iter()
                        .map(|(consumer, _)| consumer.clone())
                        .collect(),
                ),
                smalls(
                    (cursors.iter())
                        .map(|(_, at)| shard(*at))
                        .collect::<Result<_, _>>()?,
                ),
            ],
        },
        Statement {
            sql: "SELECT outbox.due_ms, outbox.shard, outbox.id \
                  FROM unnest($1, $2, $3) AS wanted (due_ms, shard, id) \
                  JOIN outbox ON outbox.due_ms = wanted.due_ms AND outbox.shard = wanted.shard \
                      AND outbox.id = wanted.id"
                .into(),
            params: vec![
                bigs(
                    (outbox.iter())
                        .map(|key| stored(key.due_ms))
                        .collect::<Result<_, _>>()?,
                ),
                smalls(
                    (outbox.iter())
                        .map(|key| shard(key.shard))
                        .collect::<Result<_, _>>()?,
                ),
                uuids(outbox.iter().map(|key| Sixteen(key.id)).collect()),
            ],
        },
        Statement {
            sql: "SELECT key.tenant, key.subject, wrapped, destroyed_ms \
                  FROM unnest($1, $2, $3) AS wanted (tenant, subject, shard) \
                  JOIN key ON key.tenant = wanted.tenant AND key.subject = wanted.subject \
                      AND key.shard = wanted.shard"
                .into(),
            params: vec![
                ints(
                    (keys.iter())
                        .map(|key| tenant(key.tenant))
                        .collect::<Result<_, _>>()?,
                ),
                uuids(keys.iter().map(|key| Sixteen(key.subject)).collect()),
                smalls(
                    (keys.iter())
                        .map(|key| home(key.home))
                        .collect::<Result<_, _>>()?,
                ),
            ],
        },
        layers(),
    ];
    statements.extend(locked_metas(touched));
    statements.extend(secrets(touched));
    Ok(statements)
}

/// The meta rows, locked by name, so that two turns never wait for each other crosswise.
fn locked_metas(touched: &Touched) -> Option<Statement> {
    let names: Vec<String> = touched.metas.iter().cloned().collect();
    (!names.is_empty()).then(|| Statement {
        sql: "SELECT name, value FROM meta WHERE name = ANY($1) ORDER BY name FOR UPDATE".into(),
        params: vec![texts(names)],
    })
}

/// Counts tenants' secrets without locking any. It comes after the locks of the shards, and whoever
/// rotates a tenant's keys waits, once the new secret is there, until each shard was free: so a turn
/// either sees the new secret or is over before the rotation looks at the keys.
fn secrets(touched: &Touched) -> Option<Statement> {
    let names: Vec<String> = touched.wrapping.iter().copied().map(tenant_row).collect();
    (!names.is_empty()).then(|| Statement {
        sql: "SELECT wanted.name, count(*) FROM unnest($1) AS wanted (name) \
              JOIN meta ON meta.name = wanted.name OR starts_with(meta.name, wanted.name || '/') \
              GROUP BY wanted.name"
            .into(),
        params: vec![texts(names)],
    })
}

/// The same where the tables are spread: shard by shard, and which of the answers each of them belongs to.
fn opening_by_shard(touched: &Touched) -> Result<(Vec<Statement>, Vec<usize>), LedgerError> {
    let mut statements = Vec::new();
    let mut parts = Vec::new();
    for at in &touched.shards {
        let at = shard(*at)?;
        statements.push(Statement {
            sql: "SELECT shard, last_number, tree_size, tree_edge, lease_holder, lease_epoch \
                  FROM shard WHERE shard = $1 FOR UPDATE"
                .into(),
            params: vec![small(at)],
        });
        parts.push(LOCKS);
    }
    for at in &touched.shards {
        let of = Touched {
            shards: BTreeSet::new(),
            heads: (touched.heads.iter().copied())
                .filter(|key| key.home.0 == Some(*at))
                .collect(),
            cursors: (touched.cursors.iter())
                .filter(|(_, shard)| shard == at)
                .cloned()
                .collect(),
            outbox: (touched.outbox.iter().copied())
                .filter(|key| key.shard == *at)
                .collect(),
            keys: (touched.keys.iter().copied())
                .filter(|key| key.home.0 == Some(*at))
                .collect(),
            ..Touched::default()
        };
        let wanted = [
            of.heads.is_empty(),
            of.cursors.is_empty(),
            of.outbox.is_empty(),
            of.keys.is_empty(),
        ];
        let asked = opening(&of)?.into_iter().skip(ASKED).take(wanted.len());
        for (place, statement) in asked.enumerate().filter(|(place, _)| !wanted[*place]) {
            statements.push(narrowed(statement, shard(*at)?)?);
            parts.push(ASKED + place);
        }
    }
    // Meta rows lie with the coordinator.
    let everywhere = [Some(layers()), locked_metas(touched), secrets(touched)];
    for (place, statement) in everywhere.into_iter().flatten().enumerate() {
        statements.push(statement);
        parts.push(ASKED + 4 + place);
    }
    Ok((statements, parts))
}

/// The answers that [`opening`] would get.
fn together(answers: Vec<Vec<Row>>, parts: &[usize]) -> Vec<Vec<Row>> {
    let last = parts.iter().copied().max().unwrap_or_default();
    let mut all: Vec<Vec<Row>> = (0..=last).map(|_| Vec::new()).collect();
    for (rows, part) in answers.into_iter().zip(parts) {
        all[*part].extend(rows);
    }
    all
}

/// Where in what a turn asks first the locks are, and where what it reads under them begins.
const LOCKS: usize = 0;
const ASKED: usize = 2;

/// What the shards' own rows say.
struct Locked {
    last: Number,
    trees: BTreeMap<Shard, Tree>,
    leases: BTreeMap<Shard, Lease>,
}

fn locked(rows: &[Row], touched: &Touched) -> Result<Locked, LedgerError> {
    let mut last = Number(0);
    let mut trees = BTreeMap::new();
    let mut leases = BTreeMap::new();
    for row in rows {
        let row = Columns {
            row,
            table: "shard",
        };
        let at = row.shard(0)?;
        last = last.max(row.number(1)?);
        trees.insert(at, tree_of(at, row.big(2)?, row.get(3)?)?);
        let holder: Option<Sixteen> = row.get(4)?;
        let lease = Lease {
            holder: holder.map(|holder| holder.0),
            epoch: row.big(5)?,
        };
        leases.insert(at, lease);
    }
    if trees.len() != touched.shards.len() {
        return Err(LedgerError::Damaged("the row of a shard is missing".into()));
    }
    Ok(Locked {
        last,
        trees,
        leases,
    })
}

fn fetched(answers: &[Vec<Row>], touched: Touched) -> Result<Fetched, LedgerError> {
    let [heads, cursors, outbox, keys, layers, rest @ ..] = answers else {
        return Err(LedgerError::Storage("a statement has no answer".into()));
    };
    let mut fetched = Fetched {
        heads: touched.heads.into_iter().map(|key| (key, None)).collect(),
        posted: Default::default(),
        cursors: (touched.cursors.into_iter())
            .map(|key| (key, None))
            .collect(),
        outbox: (touched.outbox.into_iter())
            .map(|key| (key, false))
            .collect(),
        keys: touched.keys.into_iter().map(|key| (key, None)).collect(),
        metas: touched.metas.into_iter().map(|name| (name, None)).collect(),
        layers: Some(layers_of(layers)?),
    };
    if !fetched.metas.is_empty() {
        for row in rest.first().into_iter().flatten() {
            let row = Columns { row, table: "meta" };
            fetched.metas.insert(row.get(0)?, Some(row.get(1)?));
        }
    }
    for row in heads {
        let row = Columns { row, table: "head" };
        let key = HeadKey {
            tenant: row.tenant(0)?,
            id: row.sixteen(1)?,
            home: Home(None),
        };
        // The name that was asked for stays in the map, with its home.
        fetched.heads.insert(key, Some(head_of(&row, 2)?));
    }
    for row in cursors {
        let row = Columns {
            row,
            table: "cursor",
        };
        let name = (row.get(0)?, row.shard(1)?);
        fetched.cursors.insert(name, Some(row.number(2)?));
    }
    for row in outbox {
        let row = Columns {
            row,
            table: "outbox",
        };
        let key = OutboxKey {
            due_ms: row.big(0)?,
            shard: row.shard(1)?,
            id: row.sixteen(2)?,
        };
        fetched.outbox.insert(key, true);
    }
    for row in keys {
        let row = Columns { row, table: "key" };
        let key = SubjectKey {
            tenant: row.tenant(0)?,
            subject: row.sixteen(1)?,
            home: Home(None),
        };
        fetched.keys.insert(key, Some(key_of(&row, 2)?));
    }
    Ok(fetched)
}

/// The tokens of the versions that the group may supersede, and of others that it asks for: one
/// statement, or one for each shard.
fn posted_of(
    heads: impl Iterator<Item = Head>,
    others: &BTreeSet<Hit>,
    by_shard: bool,
) -> Result<Vec<Statement>, LedgerError> {
    let all: BTreeSet<Hit> = (heads.filter(|head| !head.deleted && !head.audit))
        .map(|head| head.at)
        .chain(others.iter().copied())
        .collect();
    let mut live: BTreeMap<Option<Shard>, Vec<Hit>> = BTreeMap::new();
    for at in all {
        live.entry(by_shard.then_some(at.shard))
            .or_default()
            .push(at);
    }
    let statements = live.into_iter().map(|(part, live)| {
        let statement = Statement {
            sql: "SELECT posted.number, posted.shard, tokens \
                  FROM unnest($1, $2) AS wanted (number, shard) \
                  JOIN posted ON posted.number = wanted.number AND posted.shard = wanted.shard"
                .into(),
            params: vec![
                bigs(
                    (live.iter())
                        .map(|at| stored(at.number.0))
                        .collect::<Result<_, _>>()?,
                ),
                smalls(
                    (live.iter())
                        .map(|at| shard(at.shard))
                        .collect::<Result<_, _>>()?,
                ),
            ],
        };
        match part {
            Some(part) => narrowed(statement, shard(part)?),
            None => Ok(statement),
        }
    });
    statements.collect()
}

/// A document of a group, and the hash of its row: whether it is there tells what became of the group.
type Witness = (Hit, [u8; 32]);

/// What a group writes: a statement a table, or where the tables are spread, one for each shard of it.
fn writing(
    server: &Server,
    writes: Vec<Write>,
    trees: &BTreeMap<Shard, Tree>,
) -> Result<(Vec<Statement>, Option<Witness>), LedgerError> {
    if !server.is_spread {
        let batch = Batch::of(writes)?;
        let witness = batch.witness();
        return Ok((batch.statements(trees)?, witness));
    }
    let mut parts: BTreeMap<Option<Shard>, Vec<Write>> = BTreeMap::new();
    for at in trees.keys() {
        parts.entry(Some(*at)).or_default();
    }
    for write in writes {
        parts.entry(write.shard()).or_default().push(write);
    }
    let mut statements = Vec::new();
    let mut witness = None;
    for (part, writes) in parts {
        let batch = Batch::of(writes)?;
        witness = witness.or(batch.witness());
        let Some(part) = part else {
            statements.extend(batch.statements(&BTreeMap::new())?);
            continue;
        };
        let grown = (trees.get(&part).map(|tree| (part, tree.clone())))
            .into_iter()
            .collect();
        for statement in batch.statements(&grown)? {
            statements.push(narrowed(statement, shard(part)?)?);
        }
    }
    Ok((statements, witness))
}

impl PgTurn {
    /// Waits for the shards and reads what the group needs.
    pub(super) fn begin(server: &Arc<Server>, touched: Touched) -> Result<Self, LedgerError> {
        let began = Instant::now();
        let (statements, parts) = if server.is_spread {
            let (statements, parts) = opening_by_shard(&touched)?;
            (statements, Some(parts))
        } else {
            (opening(&touched)?, None)
        };
        let flight = Flight {
            begin: server.begin_write(),
            before: None,
            statements,
            is_whole: false,
        };
        let work = Arc::clone(&server.work);
        let (connection, standing, fetched, secrets) = server.wait(async move {
            let (connection, answers) = flight.send(&work).await?;
            let answers = match &parts {
                Some(parts) => together(answers, parts),
                None => answers,
            };
            let mut standing = locked(&answers[LOCKS], &touched)?;
            if !answers[1].is_empty() {
                let last = horizon::one(&answers[1])?;
                let last = u64::try_from(last).map_err(|_| damaged("shard"))?;
                standing.last = standing.last.max(Number(last));
            }
            let mut secrets = BTreeMap::new();
            if !touched.wrapping.is_empty() {
                for row in answers.last().into_iter().flatten() {
                    let row = Columns { row, table: "meta" };
                    secrets.insert(row.get(0)?, row.big(1)?);
                }
            }
            let others = touched.posted.clone();
            let mut fetched = fetched(&answers[ASKED..], touched)?;
            let heads = fetched.heads.values().copied().flatten();
            for posted in posted_of(heads, &others, parts.is_some())? {
                let rows = posted.rows(connection.client()?).await;
                for row in &rows.map_err(|error| fault(&error))? {
                    let row = Columns {
                        row,
                        table: "posted",
                    };
                    let at = Hit {
                        number: row.number(0)?,
                        shard: row.shard(1)?,
                    };
                    let tokens = super::rows::decode_tokens(row.get(2)?)?;
                    fetched.posted.insert(at, tokens);
                }
            }
            Ok((connection, standing, fetched, secrets))
        })?;
        let held = held(connection);
        let Locked {
            last,
            trees,
            leases,
        } = standing;
        Ok(Self {
            server: Arc::clone(server),
            began,
            snapshot: PgSnapshot::within(server, Arc::clone(&held), fetched),
            held,
            last,
            trees,
            leases,
            secrets,
        })
    }
}

impl Turn for PgTurn {
    fn rows(&self) -> &dyn Snapshot {
        &self.snapshot
    }

    fn standing(&self) -> Option<(Number, &BTreeMap<Shard, Tree>)> {
        Some((self.last, &self.trees))
    }

    fn leases(&self) -> BTreeMap<Shard, Lease> {
        self.leases.clone()
    }

    fn secrets(&self, tenant: TenantId) -> Option<u32> {
        Some(self.secrets.get(&tenant_row(tenant)).copied().unwrap_or(0))
    }

    fn apply(
        self: Box<Self>,
        writes: Vec<Write>,
        trees: &BTreeMap<Shard, Tree>,
    ) -> Result<(), LedgerError> {
        if self.server.is_spread {
            horizon::is_in_time(self.began.elapsed())?;
        }
        let (statements, witness) = writing(&self.server, writes, trees)?;
        let (server, held) = (Arc::clone(&self.server), Arc::clone(&self.held));
        self.server.wait(async move {
            let connection = (held.lock().await.take())
                .ok_or_else(|| LedgerError::Storage("the turn has ended".into()))?;
            match commit(&connection, &statements).await? {
                Outcome::Done => {
                    connection.give_back();
                    Ok(())
                }
                Outcome::Refused(why) => Err(fault(&why)),
                Outcome::Unknown(why) => {
                    drop(connection);
                    server.work.clear();
                    settle(&server, witness, &why).await
                }
            }
        })
    }
}

enum Outcome {
    Done,
    /// Nothing was written.
    Refused(Error),
    /// The connection was lost, or the COMMIT has no clear answer.
    Unknown(Error),
}

/// Sends all statements and the COMMIT in one flight. A statement that fails spoils the transaction,
/// so that the COMMIT behind it rolls back; that it is answered without an error says nothing then.
/// One that could not even be sent has failed before the COMMIT is, and then there is none.
async fn commit(connection: &Connection, statements: &[Statement]) -> Result<Outcome, LedgerError> {
    let client = connection.client()?;
    let has_failed = AtomicBool::new(false);
    let writes = join_all(statements.iter().map(async |statement| {
        let outcome = statement.done(client).await;
        has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }));
    // Polled, and so sent, after all of them.
    let end = async {
        let end = if has_failed.load(Ordering::Relaxed) {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        client.batch_execute(end).await
    };
    let (written, committed) = join(writes, end).await;
    Ok(
        match (written.into_iter().collect::<Result<(), _>>(), committed) {
            (Ok(()), Ok(())) => Outcome::Done,
            (Err(why), _) if !is_lost(&why) && !connection.is_lost() => Outcome::Refused(why),
            (Err(why), _) | (Ok(()), Err(why)) => Outcome::Unknown(why),
        },
    )
}

/// Finds out whether a transaction was committed whose answer did not come. Its documents bear numbers
/// that only it gave, and sealed bytes that only it had. Whoever has the shard's lock sees what became
/// of it: as long as the old connection's transaction is not over, the lock is not free.
async fn settle(
    server: &Arc<Server>,
    witness: Option<Witness>,
    why: &Error,
) -> Result<(), LedgerError> {
    let unknown = || {
        LedgerError::Storage(format!(
            "PostgreSQL went away while it was told to commit, and it is not known whether it did: {why}"
        ))
    };
    let Some((at, digest)) = witness else {
        return Err(unknown());
    };
    let began = Instant::now();
    while began.elapsed() < SETTLE_FOR {
        let looked = look_for(server, at, digest).await;
        match looked {
            Ok(true) => return Ok(()),
            Ok(false) => {
                return Err(LedgerError::Storage(format!(
                    "PostgreSQL went away before it committed, and nothing was written: {why}"
                )));
            }
            Err(error) => {
                tracing::debug!(%error, "a commit's outcome is not known yet");
                tokio::time::sleep(SETTLE_EVERY).await;
            }
        }
    }
    Err(unknown())
}

async fn look_for(server: &Arc<Server>, at: Hit, digest: [u8; 32]) -> Result<bool, LedgerError> {
    let statements = vec![
        Statement {
            sql: "SELECT shard FROM shard WHERE shard = $1 FOR UPDATE".into(),
            params: vec![small(shard(at.shard)?)],
        },
        Statement {
            sql: "SELECT sha256(body) = $3 FROM document WHERE number = $1 AND shard = $2".into(),
            params: vec![
                big(stored(at.number.0)?),
                small(shard(at.shard)?),
                bytes(digest.to_vec()),
            ],
        },
    ];
    let flight = Flight {
        begin: server.begin_write(),
        before: None,
        statements,
        is_whole: false,
    };
    let (connection, answers) = flight.send(&server.work).await?;
    connection.roll_back().await;
    let row = answers.get(1).and_then(|rows| rows.first());
    row.map_or(Ok(false), |row| {
        Columns {
            row,
            table: "document",
        }
        .get(0)
    })
}

/// Signs anew. The row of the checkpoint is locked first and the trees are read behind it, in one
/// statement: a later signature never says less than an earlier one.
pub(super) fn cover(server: &Arc<Server>, sign: &mut Sign<'_>) -> Result<String, LedgerError> {
    let work = Arc::clone(&server.work);
    let flight = Flight {
        begin: server.begin_write(),
        before: None,
        statements: vec![
            Statement {
                sql: "SELECT value FROM meta WHERE name = $1 FOR UPDATE".into(),
                params: vec![text(CHECKPOINT.to_owned())],
            },
            Statement {
                sql: "SELECT shard, tree_size, tree_edge FROM shard ORDER BY shard".into(),
                params: Vec::new(),
            },
        ],
        is_whole: false,
    };
    let (connection, newest, trees) = server.wait(async move {
        let (connection, answers) = flight.send(&work).await?;
        let missing = || LedgerError::Damaged("the meta row checkpoint is missing".into());
        let row = answers[0].first().ok_or_else(missing)?;
        let newest: Vec<u8> = Columns { row, table: "meta" }.get(0)?;
        let mut trees = Vec::with_capacity(usize::from(SHARDS));
        for row in &answers[1] {
            let row = Columns {
                row,
                table: "shard",
            };
            trees.push(tree_of(row.shard(0)?, row.big(1)?, row.get(2)?)?);
        }
        if trees.len() != usize::from(SHARDS) {
            return Err(LedgerError::Damaged("the row of a shard is missing".into()));
        }
        Ok((connection, newest, trees))
    })?;
    let newest = String::from_utf8(newest).unwrap_or_default();
    let signed = match sign(&newest, &trees) {
        Ok(Some(signed)) => signed,
        outcome => {
            server.roll_back(connection);
            return outcome.map(|_| newest);
        }
    };
    let value = signed.clone().into_bytes();
    server.wait(async move {
        let statements = [Statement {
            sql: "UPDATE meta SET value = $2 WHERE name = $1".into(),
            params: vec![text(CHECKPOINT.to_owned()), bytes(value)],
        }];
        // Should the answer not come, the next signature says as much as this one.
        match commit(&connection, &statements).await? {
            Outcome::Done => {
                connection.give_back();
                Ok(())
            }
            Outcome::Refused(why) | Outcome::Unknown(why) => Err(fault(&why)),
        }
    })?;
    Ok(signed)
}

/// Puts a meta row's value in the place of another, if that is still the row's.
pub(super) fn change_meta(
    server: &Arc<Server>,
    name: &str,
    from: Vec<u8>,
    to: Vec<u8>,
) -> Result<(), LedgerError> {
    let flight = Flight {
        begin: server.begin_write(),
        before: None,
        statements: vec![Statement {
            sql: "UPDATE meta SET value = $3 WHERE name = $1 AND value = $2".into(),
            params: vec![text(name.to_owned()), bytes(from), bytes(to)],
        }],
        is_whole: true,
    };
    let work = Arc::clone(&server.work);
    server.wait(async move {
        let (connection, _) = flight.send(&work).await?;
        connection.give_back();
        Ok(())
    })
}
