//! Leases: who says that it is alive stands in `node`, who holds what in the shards' own rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::connect::fault;
use super::rows::{Columns, Sixteen, big, maybe_uuid, shard, small, smalls, uuid};
use super::server::{Flight, Server, Statement};
use crate::backend::Blind;
use crate::leases::LeaseStanding;
use crate::{LedgerError, Shard};

/// Those that say nothing any more are forgotten after this.
const FORGOTTEN_AFTER: &str = "1 minute";

fn node(node: Blind) -> super::rows::Param {
    uuid(Sixteen(node))
}

fn whole(
    server: &Arc<Server>,
    statements: Vec<Statement>,
) -> Result<Vec<Vec<tokio_postgres::Row>>, LedgerError> {
    let flight = Flight {
        begin: server.begin_write(),
        before: None,
        statements,
        is_whole: true,
    };
    let work = Arc::clone(&server.work);
    server.wait(async move {
        let (connection, answers) = flight.send(&work).await?;
        connection.give_back();
        Ok(answers)
    })
}

fn epochs(rows: &[tokio_postgres::Row]) -> Result<BTreeMap<Shard, u64>, LedgerError> {
    rows.iter()
        .map(|row| {
            let row = Columns {
                row,
                table: "shard",
            };
            Ok((row.shard(0)?, row.big(1)?))
        })
        .collect()
}

fn is_alive(name: Blind, alive_ms: i64) -> [Statement; 2] {
    [
        Statement {
            sql: "INSERT INTO node (id, until) \
                  VALUES ($1, clock_timestamp() + $2 * interval '1 ms') \
                  ON CONFLICT (id) DO UPDATE SET until = excluded.until"
                .into(),
            params: vec![node(name), big(alive_ms)],
        },
        Statement {
            sql: "SELECT count(*) FROM node WHERE until > clock_timestamp()".into(),
            params: Vec::new(),
        },
    ]
}

fn held_by(name: Blind) -> Statement {
    Statement {
        sql: "SELECT shard, lease_epoch FROM shard WHERE lease_holder = $1".into(),
        params: vec![node(name)],
    }
}

fn count(rows: &[tokio_postgres::Row]) -> Result<u64, LedgerError> {
    let row = rows
        .first()
        .ok_or_else(|| LedgerError::Storage("a count has no answer".into()))?;
    Columns { row, table: "node" }.big(0)
}

/// Says that a process is alive, and tells it how many are and what it holds. Locks nothing that
/// writers want, unless it was silent for too long.
pub(super) fn stay(
    server: &Arc<Server>,
    name: Blind,
    alive_for: Duration,
) -> Result<LeaseStanding, LedgerError> {
    let alive_ms = i64::try_from(alive_for.as_millis()).unwrap_or(i64::MAX);
    if server.is_spread {
        return stay_by_shard(server, name, alive_ms);
    }
    let [lives, alive] = is_alive(name, alive_ms);
    let answers = whole(
        server,
        vec![
            // Who was silent for too long may have lost everything, and begins anew.
            Statement {
                sql: "WITH mine AS ( \
                          SELECT shard FROM shard WHERE lease_holder = $1 AND NOT EXISTS ( \
                              SELECT FROM node WHERE id = $1 AND until > clock_timestamp()) \
                          ORDER BY shard FOR UPDATE) \
                      UPDATE shard SET lease_holder = NULL FROM mine WHERE shard.shard = mine.shard"
                    .into(),
                params: vec![node(name)],
            },
            lives,
            alive,
            held_by(name),
        ],
    )?;
    let alive = count(&answers[2])?;
    Ok(LeaseStanding {
        alive: usize::try_from(alive).unwrap_or(usize::MAX),
        held: epochs(&answers[3])?,
    })
}

/// How many others are alive.
pub(super) fn others_alive(server: &Arc<Server>, name: Blind) -> Result<usize, LedgerError> {
    let others = one_number(
        server,
        "SELECT count(*) FROM node WHERE until > clock_timestamp() AND id <> $1",
        vec![node(name)],
    )?;
    Ok(usize::try_from(others).unwrap_or(usize::MAX))
}

/// The database's clock, in milliseconds since the Unix epoch.
pub(super) fn clock_ms(server: &Arc<Server>) -> Result<u64, LedgerError> {
    let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    one_number(server, sql, Vec::new())
}

/// What a statement answers whose only row is a number.
fn one_number(
    server: &Arc<Server>,
    sql: &str,
    params: Vec<super::rows::Param>,
) -> Result<u64, LedgerError> {
    let sql = sql.to_owned().into();
    let answers = whole(server, vec![Statement { sql, params }])?;
    let row = answers[0]
        .first()
        .ok_or_else(|| LedgerError::Storage("a number has no answer".into()))?;
    Columns { row, table: "node" }.big(0)
}

/// Takes free shards, at most so many. One that somebody is writing to is passed over until the next
/// time: a node that stands still in the middle of its turn must not hold up those that want to say that
/// they are alive.
pub(super) fn take_free(
    server: &Arc<Server>,
    name: Blind,
    wanted: usize,
) -> Result<BTreeMap<Shard, u64>, LedgerError> {
    if server.is_spread {
        return take_free_by_shard(server, name, wanted);
    }
    let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
    let answers = whole(
        server,
        vec![
            Statement {
                sql: "WITH free AS ( \
                          SELECT shard FROM shard WHERE lease_holder IS NULL OR NOT EXISTS ( \
                              SELECT FROM node WHERE id = lease_holder AND until > clock_timestamp()) \
                          ORDER BY shard LIMIT $2 FOR UPDATE OF shard SKIP LOCKED) \
                      UPDATE shard SET lease_holder = $1, lease_epoch = lease_epoch + 1 \
                      FROM free WHERE shard.shard = free.shard \
                      RETURNING shard.shard, lease_epoch".into(),
                params: vec![node(name), big(wanted)],
            },
            Statement {
                sql: "DELETE FROM node WHERE until < clock_timestamp() - $1::text::interval".into(),
                params: vec![super::rows::text(FORGOTTEN_AFTER.to_owned())],
            },
        ],
    )?;
    epochs(&answers[0])
}

/// Gives shards back.
pub(super) fn give_back(
    server: &Arc<Server>,
    name: Blind,
    shards: &[Shard],
) -> Result<(), LedgerError> {
    if server.is_spread {
        let held = shards.iter().map(|at| (*at, Some(name)));
        return hand_over(server, held.collect(), None).map(drop);
    }
    let numbers = shards
        .iter()
        .map(|at| shard(*at))
        .collect::<Result<Vec<_>, _>>()?;
    whole(
        server,
        vec![
            // Those that somebody is writing to are given back the next time.
            Statement {
                sql: "WITH mine AS ( \
                          SELECT shard FROM shard WHERE shard = ANY($1) AND lease_holder = $2 \
                          ORDER BY shard FOR UPDATE SKIP LOCKED) \
                      UPDATE shard SET lease_holder = NULL FROM mine WHERE shard.shard = mine.shard"
                    .into(),
                params: vec![smalls(numbers), node(name)],
            },
        ],
    )
    .map(drop)
}

/// Gives everything back and is not counted any more.
pub(super) fn leave(server: &Arc<Server>, name: Blind) -> Result<(), LedgerError> {
    if server.is_spread {
        let held = whole(server, vec![held_by(name)])?;
        release(server, name, epochs(&held[0])?.into_keys())?;
        let gone = Statement {
            sql: "DELETE FROM node WHERE id = $1".into(),
            params: vec![node(name)],
        };
        return whole(server, vec![gone]).map(drop);
    }
    whole(
        server,
        vec![
            Statement {
                sql: "SELECT shard FROM shard WHERE lease_holder = $1 ORDER BY shard FOR UPDATE"
                    .into(),
                params: vec![node(name)],
            },
            Statement {
                sql: "UPDATE shard SET lease_holder = NULL WHERE lease_holder = $1".into(),
                params: vec![node(name)],
            },
            Statement {
                sql: "DELETE FROM node WHERE id = $1".into(),
                params: vec![node(name)],
            },
        ],
    )
    .map(drop)
}

// Where the tables are spread, rows of several shards can't be locked by one statement, and `node` lies
// with the coordinator: so shards are gone through one by one, in ascending order.

/// See [`stay`].
fn stay_by_shard(
    server: &Arc<Server>,
    name: Blind,
    alive_ms: i64,
) -> Result<LeaseStanding, LedgerError> {
    let [lives, alive] = is_alive(name, alive_ms);
    let answers = whole(
        server,
        vec![
            Statement {
                sql: "SELECT count(*) FROM node WHERE id = $1 AND until > clock_timestamp()".into(),
                params: vec![node(name)],
            },
            held_by(name),
        ],
    )?;
    // Who was silent for too long may have lost everything, and begins anew.
    if count(&answers[0])? == 0 {
        release(server, name, epochs(&answers[1])?.into_keys())?;
    }
    let answers = whole(server, vec![lives, alive, held_by(name)])?;
    let alive = count(&answers[1])?;
    Ok(LeaseStanding {
        alive: usize::try_from(alive).unwrap_or(usize::MAX),
        held: epochs(&answers[2])?,
    })
}

/// Gives back what a process holds of some shards, and waits for who writes to them.
fn release(
    server: &Arc<Server>,
    name: Blind,
    shards: impl Iterator<Item = Shard>,
) -> Result<(), LedgerError> {
    let statements = shards.map(|at| {
        Ok(Statement {
            sql: "UPDATE shard SET lease_holder = NULL WHERE shard = $1 AND lease_holder = $2"
                .into(),
            params: vec![small(shard(at)?), node(name)],
        })
    });
    let statements: Vec<Statement> = statements.collect::<Result<_, LedgerError>>()?;
    if statements.is_empty() {
        return Ok(());
    }
    whole(server, statements).map(drop)
}

/// See [`take_free`].
fn take_free_by_shard(
    server: &Arc<Server>,
    name: Blind,
    wanted: usize,
) -> Result<BTreeMap<Shard, u64>, LedgerError> {
    let answers = whole(
        server,
        vec![
            Statement {
                sql: "SELECT id FROM node WHERE until > clock_timestamp()".into(),
                params: Vec::new(),
            },
            Statement {
                sql: "SELECT shard, lease_holder FROM shard ORDER BY shard".into(),
                params: Vec::new(),
            },
            Statement {
                sql: "DELETE FROM node WHERE until < clock_timestamp() - $1::text::interval".into(),
                params: vec![super::rows::text(FORGOTTEN_AFTER.to_owned())],
            },
        ],
    )?;
    let alive: Vec<Blind> = (answers[0].iter())
        .map(|row| Columns { row, table: "node" }.sixteen(0))
        .collect::<Result<_, _>>()?;
    let mut free = Vec::new();
    for row in &answers[1] {
        let row = Columns {
            row,
            table: "shard",
        };
        let holder = row.get::<Option<Sixteen>>(1)?.map(|holder| holder.0);
        if holder.is_none_or(|holder| !alive.contains(&holder)) {
            free.push((row.shard(0)?, holder));
        }
    }
    free.truncate(wanted);
    hand_over(server, free, Some(name))
}

/// Puts another holder, or none, in the place of the one that each shard is known to have, unless
/// somebody is writing to it. Gives those that have changed hands.
fn hand_over(
    server: &Arc<Server>,
    shards: Vec<(Shard, Option<Blind>)>,
    to: Option<Blind>,
) -> Result<BTreeMap<Shard, u64>, LedgerError> {
    if shards.is_empty() {
        return Ok(BTreeMap::new());
    }
    let locks = shards.iter().map(|(at, _)| {
        Ok(Statement {
            sql: "SELECT shard FROM shard WHERE shard = $1 FOR UPDATE SKIP LOCKED".into(),
            params: vec![small(shard(*at)?)],
        })
    });
    let flight = Flight {
        begin: server.begin_write(),
        before: None,
        statements: locks.collect::<Result<_, LedgerError>>()?,
        is_whole: false,
    };
    let work = Arc::clone(&server.work);
    server.wait(async move {
        let (connection, locked) = flight.send(&work).await?;
        let mut changes = Vec::new();
        for ((at, holder), locked) in shards.into_iter().zip(&locked) {
            if locked.is_empty() {
                continue;
            }
            changes.push(Statement {
                sql: "UPDATE shard SET lease_holder = $1, \
                          lease_epoch = lease_epoch + CASE WHEN $1 IS NULL THEN 0 ELSE 1 END \
                      WHERE shard = $2 AND lease_holder IS NOT DISTINCT FROM $3 \
                      RETURNING shard, lease_epoch"
                    .into(),
                params: vec![
                    maybe_uuid(to.map(Sixteen)),
                    small(shard(at)?),
                    maybe_uuid(holder.map(Sixteen)),
                ],
            });
        }
        let client = connection.client()?;
        let changed = join_all(changes.iter().map(|one| one.rows(client)));
        let (changed, ended) = join(changed, client.batch_execute("COMMIT")).await;
        let changed = changed.into_iter().collect::<Result<Vec<_>, _>>();
        let changed = changed.map_err(|error| fault(&error))?;
        ended.map_err(|error| fault(&error))?;
        connection.give_back();
        let rows: Vec<tokio_postgres::Row> = changed.into_iter().flatten().collect();
        epochs(&rows)
    })
}
