//! The server as the backend's threads see it: pools, transactions, and the way from a thread that
//! waits to a runtime that doesn't.

use std::sync::{Arc, mpsc};

use futures_util::future::{join_all, join3};
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::connect::{Connection, Connector, Pool, Postgres, fault};
use super::rows::Param;
use super::schema::{self, Names};
use crate::{LedgerError, TenantId};

/// Groups that are written at once.
pub(super) const LANES: usize = 4;
/// Connections for views, each of which keeps one as long as it lives.
const VIEWS: usize = 16;
/// Connections for everything that needs one for the length of a transaction of its own: the lanes,
/// the look for news, checkpoints, single reads. Apart from those for views, so that who holds a view
/// and reads a key does not wait for itself.
const WORK: usize = LANES + 8;

/// A statement and its parameters.
pub(super) struct Statement {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Param>,
}

impl Statement {
    fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        (self.params.iter())
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect()
    }

    /// Sends it when first polled, without a name and in one flight.
    pub(super) async fn rows(&self, client: &Client) -> Result<Vec<Row>, Error> {
        client.query_typed(self.sql, &self.typed()).await
    }

    /// The same where no rows come back.
    pub(super) async fn done(&self, client: &Client) -> Result<(), Error> {
        client
            .execute_typed(self.sql, &self.typed())
            .await
            .map(drop)
    }
}

/// A transaction's first flight: how it begins, what it then asks, and whether that is all.
pub(super) struct Flight {
    pub(super) begin: String,
    pub(super) statements: Vec<Statement>,
    pub(super) is_whole: bool,
}

impl Flight {
    /// The answers, or the first error. Polled in order, so sent in order, and nobody waits for an
    /// answer in between.
    async fn answers(&self, client: &Client) -> Result<Vec<Vec<Row>>, Error> {
        let queries = join_all(self.statements.iter().map(|one| one.rows(client)));
        let end = async {
            if self.is_whole {
                client.batch_execute("COMMIT").await
            } else {
                Ok(())
            }
        };
        let (began, rows, ended) = join3(client.batch_execute(&self.begin), queries, end).await;
        began?;
        let rows = rows.into_iter().collect();
        ended?;
        rows
    }

    /// Sends it, again on a new connection if the kept one turns out to have died: until then nothing
    /// was written. An error closes the connection, and the server rolls back.
    pub(super) async fn send(
        &self,
        pool: &Arc<Pool>,
    ) -> Result<(Connection, Vec<Vec<Row>>), LedgerError> {
        loop {
            let connection = pool.get().await?;
            match self.answers(connection.client()?).await {
                Ok(answers) => return Ok((connection, answers)),
                Err(error) if is_lost(&error) && connection.is_kept => pool.clear(),
                Err(error) => return Err(fault(&error)),
            }
        }
    }
}

/// Whether an error says that the connection is gone, rather than that a statement failed.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        None => true,
        Some(db) => db.code().code().starts_with("08") || db.code().code().starts_with("57P"),
    }
}

pub(super) struct Server {
    /// Taken out only when the server is dropped.
    runtime: Option<Runtime>,
    pub(super) views: Arc<Pool>,
    pub(super) work: Arc<Pool>,
    pub(super) names: Names,
    /// Whether the tables are spread over several servers.
    pub(super) is_spread: bool,
}

impl Server {
    /// Connects, and makes or migrates the schema.
    pub(super) fn open(location: &Postgres) -> Result<Arc<Self>, LedgerError> {
        let names = Names::new(&location.schema)?;
        let connector = Connector::new(location)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ledger-postgres")
            .enable_all()
            .build()
            .map_err(|error| {
                LedgerError::Storage(format!("no threads for connections to PostgreSQL: {error}"))
            })?;
        let server = Arc::new(Self {
            runtime: Some(runtime),
            views: Pool::new(connector.clone(), VIEWS),
            work: Pool::new(connector, WORK),
            names,
            is_spread: false,
        });
        let (work, names) = (Arc::clone(&server.work), server.names.clone());
        server.wait(async move {
            let connection = work.get().await?;
            schema::prepare(connection.client()?, &names).await?;
            connection.give_back();
            Ok(())
        })?;
        Ok(server)
    }

    /// Runs on the connections' own threads and waits here. A worker of somebody's runtime hands its
    /// other tasks on while it waits.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let stopped = || LedgerError::Storage("the threads of the connections have ended".into());
        let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Who waits is still there: it does nothing else.
            let _ = sender.send(work.await);
        });
        let is_worker = Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        let outcome = if is_worker {
            tokio::task::block_in_place(|| receiver.recv())
        } else {
            receiver.recv()
        };
        outcome.unwrap_or_else(|_| Err(stopped()))
    }

    /// Ends a transaction without waiting for it.
    pub(super) fn roll_back(&self, connection: Connection) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(connection.roll_back());
        }
    }

    /// How a transaction begins that only reads. One that is `of_one_moment` sees the rows as they are
    /// when its first statement reads.
    pub(super) fn begin_read(&self, tenant: Option<TenantId>, of_one_moment: bool) -> String {
        let schema = &self.names.schema;
        let level = if of_one_moment {
            "REPEATABLE READ"
        } else {
            "READ COMMITTED"
        };
        let role = self.role(tenant);
        // Every read is by a key. Without statistics of a new table the planner would not think so.
        format!(
            "BEGIN ISOLATION LEVEL {level} READ ONLY; SET LOCAL search_path = {schema}; \
             SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL jit = off; \
             SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; {role}"
        )
    }

    /// How a transaction begins that writes. Nobody waits for long: neither for a lock, nor for a node
    /// that has stopped in the middle of its turn.
    pub(super) fn begin_write(&self) -> String {
        let Names {
            schema, service, ..
        } = &self.names;
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = {schema}; \
             SET LOCAL lock_timeout = '20s'; SET LOCAL idle_in_transaction_session_timeout = '20s'; \
             SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL ROLE {service}; \
             SELECT set_config('synchronous_commit', 'on', true) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
    }

    /// From here on the transaction sees what the ledger, or one tenant, may see.
    pub(super) fn role(&self, tenant: Option<TenantId>) -> String {
        match tenant {
            None => format!("SET LOCAL ROLE {}", self.names.service),
            Some(number) => format!(
                "SET LOCAL ROLE {}; SET LOCAL cairn.tenant = '{}'",
                self.names.tenant, number.0
            ),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // May be on a thread that must not block.
            runtime.shutdown_background();
        }
    }
}
