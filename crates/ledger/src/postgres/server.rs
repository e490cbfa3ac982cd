//! The server as the backend's threads see it: pools, transactions, and the way from a thread that
//! waits to a runtime that doesn't.

use std::borrow::Cow;
use std::sync::{Arc, mpsc};

use futures_util::future::{join, join_all, join4};
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::connect::{Connection, Connector, Pool, Postgres, fault};
use super::horizon::Horizon;
use super::replica::{self, Replicas};
use super::rows::Param;
use super::schema::{self, Names};
use super::spread;
use crate::bootstrap::STORE;
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
    pub(super) sql: Cow<'static, str>,
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
        client.query_typed(&self.sql, &self.typed()).await
    }

    /// The same where no rows come back.
    pub(super) async fn done(&self, client: &Client) -> Result<(), Error> {
        client
            .execute_typed(&self.sql, &self.typed())
            .await
            .map(drop)
    }
}

/// What is asked before the rest of a flight, with the words that then lead to the rest.
pub(super) struct Before {
    pub(super) statements: Vec<Statement>,
    pub(super) then: String,
}

/// A transaction's first flight: how it begins, what it then asks, and whether that is all.
pub(super) struct Flight {
    pub(super) begin: String,
    pub(super) before: Option<Before>,
    pub(super) statements: Vec<Statement>,
    pub(super) is_whole: bool,
}

impl Flight {
    /// The answers, those to what is asked before first, or the first error. Polled in order, so sent
    /// in order, and nobody waits for an answer in between.
    async fn answers(&self, client: &Client) -> Result<Vec<Vec<Row>>, Error> {
        let before = async {
            let Some(Before { statements, then }) = &self.before else {
                return Ok(Vec::new());
            };
            let asked = join_all(statements.iter().map(|one| one.rows(client)));
            let (rows, then) = join(asked, client.batch_execute(then)).await;
            let rows = rows.into_iter().collect::<Result<Vec<_>, Error>>()?;
            then.map(|()| rows)
        };
        let queries = join_all(self.statements.iter().map(|one| one.rows(client)));
        let end = async {
            if self.is_whole {
                client.batch_execute("COMMIT").await
            } else {
                Ok(())
            }
        };
        let (began, before, rows, ended) =
            join4(client.batch_execute(&self.begin), before, queries, end).await;
        began?;
        let mut answers = before?;
        for rows in rows {
            answers.push(rows?);
        }
        ended?;
        Ok(answers)
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
    pub(super) replicas: Replicas,
    pub(super) horizon: Horizon,
}

/// Whether there is a store in a schema. Makes nothing.
pub(super) fn is_founded(location: &Postgres) -> Result<bool, LedgerError> {
    let names = Names::new(&location.schema)?;
    let pool = Pool::new(Connector::new(location)?, 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            LedgerError::Storage(format!("no thread for a connection to PostgreSQL: {error}"))
        })?;
    runtime.block_on(async move {
        let connection = pool.get().await?;
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {}.meta WHERE name = '{STORE}')",
            names.schema
        );
        let answer = connection.client()?.query_typed_one(&sql, &[]).await;
        match answer {
            Ok(row) => Ok(row.get(0)),
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(fault(&error)),
        }
    })
}

impl Server {
    /// Connects, and makes or migrates the schema. If that is wished for, spreads an empty one over the
    /// servers of a Citus cluster.
    pub(super) fn open(location: &Postgres, spread: bool) -> Result<Arc<Self>, LedgerError> {
        let names = Names::new(&location.schema)?;
        let connector = Connector::new(location)?;
        let mut replicas = Vec::with_capacity(location.replicas.len());
        for url in &location.replicas {
            let connector = Connector::to(url, location)
                .map_err(|error| LedgerError::Storage(format!("a replica of {error}")))?;
            replicas.push(Pool::new(connector, VIEWS));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ledger-postgres")
            .enable_all()
            .build()
            .map_err(|error| {
                LedgerError::Storage(format!("no threads for connections to PostgreSQL: {error}"))
            })?;
        let mut server = Self {
            runtime: Some(runtime),
            views: Pool::new(connector.clone(), VIEWS),
            work: Pool::new(connector, WORK),
            names,
            is_spread: false,
            replicas: Replicas::default(),
            horizon: Horizon::default(),
        };
        let (work, names) = (Arc::clone(&server.work), server.names.clone());
        let wants_identity = !replicas.is_empty();
        let (is_spread, identity) = server.wait(async move {
            let connection = work.get().await?;
            let client = connection.client()?;
            if spread {
                spread::check(client).await?;
            }
            schema::prepare(client, &names).await?;
            let mut is_spread = spread::is_spread(client, &names).await?;
            if spread && !is_spread {
                spread::spread(client, &names).await?;
                is_spread = true;
            }
            let identity = if wants_identity {
                Some(replica::identity(client).await?)
            } else {
                None
            };
            connection.give_back();
            Ok((is_spread, identity))
        })?;
        if is_spread && !replicas.is_empty() {
            return Err(LedgerError::Storage(
                "store.replicas: replicas of a store that is spread over several servers can't be asked: \
                 nothing says that all of them are of one moment"
                    .into(),
            ));
        }
        server.is_spread = is_spread;
        server.replicas = Replicas::new(replicas, identity.unwrap_or_default());
        Ok(Arc::new(server))
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
        let tell = self.tell_workers();
        format!(
            "BEGIN ISOLATION LEVEL {level} READ ONLY; {tell}SET LOCAL search_path = {schema}; \
             SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL jit = off; \
             SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; {role}"
        )
    }

    /// Where the tables are spread, what is set has to be set on all servers.
    fn tell_workers(&self) -> &'static str {
        if self.is_spread {
            "SET LOCAL citus.propagate_set_commands = 'local'; "
        } else {
            ""
        }
    }

    /// How a transaction begins that writes. Nobody waits for long: neither for a lock, nor for a node
    /// that has stopped in the middle of its turn.
    pub(super) fn begin_write(&self) -> String {
        let Names {
            schema, service, ..
        } = &self.names;
        let tell = self.tell_workers();
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {tell}SET LOCAL search_path = {schema}; \
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
