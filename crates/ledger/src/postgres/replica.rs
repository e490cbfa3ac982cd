//! Reading from streaming replicas, for who says how old an answer may be.
//!
//! A replica has a commit if its own row of the commit's shard bears the number, or a later one: the row
//! is written by every commit of the shard, under its lock, so numbers rise in it in the order of
//! commits, and a replica shows transactions whole and in the order in which they were committed. It is
//! asked in the transaction that then reads, so nothing that was true a moment ago is believed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, Row};

use super::connect::{Connection, Pool, fault};
use super::rows::{Columns, bound, small};
use super::server::{Before, Flight, Statement};
use crate::{LedgerError, Number, SHARDS};

/// How long a replica may take for its first answer. The primary is there as well.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that did not answer is left alone.
const REST: Duration = Duration::from_secs(2);

/// The replicas of a store.
#[derive(Default)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    /// Which cluster's replicas they have to be.
    identity: String,
    turn: AtomicUsize,
}

struct Replica {
    pool: Arc<Pool>,
    rests_until: Mutex<Option<Instant>>,
}

/// What a replica says to being asked.
enum Said {
    Serves(Connection, Vec<Vec<Row>>),
    /// It has not come so far, or is none.
    Declines(Connection, &'static str),
}

/// What tells one database cluster, with its replicas, from every other.
pub(super) async fn identity(client: &Client) -> Result<String, LedgerError> {
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    let row = client.query_typed_one(sql, &[]).await;
    let row = row.map_err(|error| match fault(&error) {
        LedgerError::Storage(text) => LedgerError::Storage(format!(
            "store.replicas: what tells the database's replicas from others can't be read: {text}"
        )),
        other => other,
    })?;
    Ok(row.get(0))
}

/// What a replica is asked before anything is read from it, by the ledger's own role; `then` sets that
/// of the reader.
pub(super) fn before(number: Number, then: String) -> Before {
    // In a shared store a number leaves its shard as remainder.
    let shard = i16::try_from(number.0 % u64::from(SHARDS)).unwrap_or(i16::MAX);
    Before {
        statements: vec![Statement {
            sql: "SELECT pg_is_in_recovery(), system_identifier::text, last_number \
                  FROM pg_control_system(), shard WHERE shard = $1"
                .into(),
            params: vec![small(shard)],
        }],
        then,
    }
}

impl Replicas {
    pub(super) fn new(pools: Vec<Arc<Pool>>, identity: String) -> Self {
        let all = pools.into_iter().map(|pool| Replica {
            pool,
            rests_until: Mutex::default(),
        });
        Self {
            all: all.collect(),
            identity,
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Sends a read that begins with [`before`] to a replica that has everything up to a number. `None`
    /// when none has it or answers. Gives back the connections of those that decline, which are in a
    /// transaction.
    pub(super) async fn serve(
        &self,
        flight: &Flight,
        number: Number,
    ) -> (Option<(Connection, Vec<Vec<Row>>)>, Vec<Connection>) {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut declined = Vec::new();
        for place in 0..self.all.len() {
            let replica = &self.all[(first.wrapping_add(place)) % self.all.len()];
            if replica.rests() {
                continue;
            }
            let outcome = tokio::time::timeout(PATIENCE, self.ask(replica, flight, number)).await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(LedgerError::Storage(format!(
                    "no answer within {} s",
                    PATIENCE.as_secs()
                )))
            });
            let said = match outcome {
                Ok(Said::Serves(connection, answers)) => {
                    count("served");
                    return (Some((connection, answers)), declined);
                }
                Ok(Said::Declines(connection, why)) => {
                    declined.push(connection);
                    why
                }
                Err(error) => {
                    tracing::warn!(%error, "a replica of the database does not answer; the primary does");
                    replica.rest();
                    "down"
                }
            };
            count(said);
        }
        (None, declined)
    }

    async fn ask(
        &self,
        replica: &Replica,
        flight: &Flight,
        number: Number,
    ) -> Result<Said, LedgerError> {
        let (connection, mut answers) = flight.send(&replica.pool).await?;
        let asked = if answers.is_empty() {
            Vec::new()
        } else {
            answers.remove(0)
        };
        let row = asked.first().ok_or_else(|| {
            LedgerError::Damaged("the row of a shard is missing on a replica".into())
        })?;
        let row = Columns {
            row,
            table: "shard",
        };
        let (is_replica, identity): (bool, String) = (row.get(0)?, row.get(1)?);
        let has: i64 = row.get(2)?;
        Ok(if identity != self.identity {
            tracing::error!(
                "store.replicas names a server that is no replica of the store's database"
            );
            Said::Declines(connection, "foreign")
        } else if !is_replica {
            // It may have been promoted and gone its own way.
            Said::Declines(connection, "promoted")
        } else if has < bound(number.0) || bound(number.0) == i64::MAX {
            Said::Declines(connection, "behind")
        } else {
            Said::Serves(connection, answers)
        })
    }
}

impl Replica {
    fn rests(&self) -> bool {
        let until = self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        let mut until = self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + REST);
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("ledger_replica_reads_total", "outcome" => outcome).increment(1);
}
