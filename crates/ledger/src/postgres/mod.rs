//! The PostgreSQL backend: one database, any number of processes. The only folder that names its
//! driver.
//!
//! Start reading at `turn.rs` (how writers meet), then `read.rs`, `server.rs` (threads and
//! transactions) and `schema` (the tables).

mod batch;
mod connect;
mod lease;
mod many;
mod read;
mod rows;
mod scan;
mod schema;
mod server;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::connect::Postgres;
use self::connect::fault;
use self::read::PgSnapshot;
use self::server::{LANES, Server};
use self::turn::PgTurn;
use crate::backend::{Backend, Blind, SharedStore, Sign, Snapshot, Standing, Touched, Turn, Write};
use crate::leases::LeaseStanding;
use crate::{LedgerError, Shard, StoragePart};

/// The store in a database.
pub(crate) struct PgBackend {
    server: Arc<Server>,
}

impl PgBackend {
    /// Connects, and makes or migrates the tables.
    pub(crate) fn open(location: &Postgres) -> Result<Self, LedgerError> {
        let server = Server::open(location)?;
        Ok(Self { server })
    }

    /// Runs one statement outside any transaction, as the login itself.
    fn execute(&self, sql: String) -> Result<(), LedgerError> {
        let work = Arc::clone(&self.server.work);
        self.server.wait(async move {
            let connection = work.get().await?;
            let outcome = connection.client()?.batch_execute(&sql).await;
            outcome.map_err(|error| fault(&error))?;
            connection.give_back();
            Ok(())
        })
    }
}

impl Backend for PgBackend {
    /// The disk is the database's, which refuses what it has no room for.
    fn room_for(&self, _bytes: u64) -> Result<(), LedgerError> {
        Ok(())
    }

    fn apply(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        let touched = Touched {
            shards: writes.iter().filter_map(Write::shard).collect(),
            ..Touched::default()
        };
        Box::new(PgTurn::begin(&self.server, touched)?).apply(writes, &BTreeMap::new())
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(PgSnapshot::moment(&self.server))
    }

    fn now(&self) -> Box<dyn Snapshot> {
        Box::new(PgSnapshot::each(&self.server))
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    /// Frees the overwritten rows. What PostgreSQL leaves of them in free space and in its log, and in
    /// the archives of that, goes when they are used again or removed; it is wrapped by a tenant's key.
    fn scrub_keys(&self) -> Result<(), LedgerError> {
        let schema = &self.server.names.schema;
        self.execute(format!("VACUUM {schema}.key, {schema}.meta"))
    }

    fn disk_bytes(&self) -> u64 {
        match self.storage() {
            Ok(parts) => parts.iter().map(|part| part.bytes).sum(),
            Err(error) => {
                tracing::warn!(%error, "can't tell how much disk the tables take");
                0
            }
        }
    }

    fn storage(&self) -> Result<Vec<StoragePart>, LedgerError> {
        many::storage(&PgSnapshot::each(&self.server), &self.server.names.schema)
    }
}

impl SharedStore for PgBackend {
    fn lanes(&self) -> usize {
        LANES
    }

    fn turn(&self, touched: Touched) -> Result<Box<dyn Turn>, LedgerError> {
        Ok(Box::new(PgTurn::begin(&self.server, touched)?))
    }

    fn cover(&self, sign: &mut Sign<'_>) -> Result<String, LedgerError> {
        turn::cover(&self.server, sign)
    }

    fn standings(&self) -> Result<Vec<Standing>, LedgerError> {
        PgSnapshot::each(&self.server).standings()
    }

    fn others_alive(&self, node: Blind) -> Result<usize, LedgerError> {
        lease::others_alive(&self.server, node)
    }

    fn stay(&self, node: Blind, alive_for: Duration) -> Result<LeaseStanding, LedgerError> {
        lease::stay(&self.server, node, alive_for)
    }

    fn take_free(&self, node: Blind, wanted: usize) -> Result<BTreeMap<Shard, u64>, LedgerError> {
        lease::take_free(&self.server, node, wanted)
    }

    fn give_back(&self, node: Blind, shards: &[Shard]) -> Result<(), LedgerError> {
        lease::give_back(&self.server, node, shards)
    }

    fn leave(&self, node: Blind) -> Result<(), LedgerError> {
        lease::leave(&self.server, node)
    }
}
