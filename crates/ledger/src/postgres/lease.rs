//! Leases: who says that it is alive stands in `node`, who holds what in the shards' own rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rows::{Columns, Sixteen, big, shard, smalls, uuid};
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

/// Says that a process is alive, and tells it how many are and what it holds. Locks nothing that
/// writers want, unless it was silent for too long.
pub(super) fn stay(
    server: &Arc<Server>,
    name: Blind,
    alive_for: Duration,
) -> Result<LeaseStanding, LedgerError> {
    let alive_ms = i64::try_from(alive_for.as_millis()).unwrap_or(i64::MAX);
    let answers = whole(
        server,
        vec![
            // Who was silent for too long may have lost everything, and begins anew.
            Statement {
                sql: "WITH mine AS ( \
                          SELECT shard FROM shard WHERE lease_holder = $1 AND NOT EXISTS ( \
                              SELECT FROM node WHERE id = $1 AND until > clock_timestamp()) \
                          ORDER BY shard FOR UPDATE) \
                      UPDATE shard SET lease_holder = NULL FROM mine WHERE shard.shard = mine.shard",
                params: vec![node(name)],
            },
            Statement {
                sql: "INSERT INTO node (id, until) \
                      VALUES ($1, clock_timestamp() + $2 * interval '1 ms') \
                      ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                params: vec![node(name), big(alive_ms)],
            },
            Statement {
                sql: "SELECT count(*) FROM node WHERE until > clock_timestamp()",
                params: Vec::new(),
            },
            Statement {
                sql: "SELECT shard, lease_epoch FROM shard WHERE lease_holder = $1",
                params: vec![node(name)],
            },
        ],
    )?;
    let row = answers[2]
        .first()
        .ok_or_else(|| LedgerError::Storage("a count has no answer".into()))?;
    let alive: u64 = Columns { row, table: "node" }.big(0)?;
    Ok(LeaseStanding {
        alive: usize::try_from(alive).unwrap_or(usize::MAX),
        held: epochs(&answers[3])?,
    })
}

/// How many others are alive.
pub(super) fn others_alive(server: &Arc<Server>, name: Blind) -> Result<usize, LedgerError> {
    let answers = whole(
        server,
        vec![Statement {
            sql: "SELECT count(*) FROM node WHERE until > clock_timestamp() AND id <> $1",
            params: vec![node(name)],
        }],
    )?;
    let row = answers[0]
        .first()
        .ok_or_else(|| LedgerError::Storage("a count has no answer".into()))?;
    let others: u64 = Columns { row, table: "node" }.big(0)?;
    Ok(usize::try_from(others).unwrap_or(usize::MAX))
}

/// Takes free shards, at most so many. One that somebody is writing to is passed over until the next
/// time: a node that stands still in the middle of its turn must not hold up those that want to say that
/// they are alive.
pub(super) fn take_free(
    server: &Arc<Server>,
    name: Blind,
    wanted: usize,
) -> Result<BTreeMap<Shard, u64>, LedgerError> {
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
                      RETURNING shard.shard, lease_epoch",
                params: vec![node(name), big(wanted)],
            },
            Statement {
                sql: "DELETE FROM node WHERE until < clock_timestamp() - $1::text::interval",
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
                      UPDATE shard SET lease_holder = NULL FROM mine WHERE shard.shard = mine.shard",
                params: vec![smalls(numbers), node(name)],
            },
        ],
    )
    .map(drop)
}

/// Gives everything back and is not counted any more.
pub(super) fn leave(server: &Arc<Server>, name: Blind) -> Result<(), LedgerError> {
    whole(
        server,
        vec![
            Statement {
                sql: "SELECT shard FROM shard WHERE lease_holder = $1 ORDER BY shard FOR UPDATE",
                params: vec![node(name)],
            },
            Statement {
                sql: "UPDATE shard SET lease_holder = NULL WHERE lease_holder = $1",
                params: vec![node(name)],
            },
            Statement {
                sql: "DELETE FROM node WHERE id = $1",
                params: vec![node(name)],
            },
        ],
    )
    .map(drop)
}
