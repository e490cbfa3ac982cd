//! The PostgreSQL backend: one database, any number of processes. The only folder that names its
//! driver.
//!
//! Start reading at `turn.rs` (how writers meet), then `read.rs`, `server.rs` (threads and
//! transactions) and `schema` (the tables).

mod batch;
mod connect;
mod horizon;
mod lease;
mod many;
mod past;
mod read;
mod replica;
mod rows;
mod scan;
mod schema;
mod scrub;
mod server;
mod spread;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::connect::{DatabaseServer, Postgres};
use self::read::PgSnapshot;
use self::server::{LANES, Server};
use self::turn::PgTurn;
use crate::backend::{Backend, Blind, SharedStore, Sign, Snapshot, Standing, Touched, Turn, Write};
use crate::leases::LeaseStanding;
use crate::{LedgerError, Number, Shard, StoragePart};

/// Makes or migrates the schema of a store in a database, and with `citus` spreads its tables over the
/// servers of a Citus cluster. Doing it again changes nothing. Whether the tables are spread.
///
/// # Errors
/// `Storage`: what is missing on the server, in words that say what to do about it; also when there is a
/// store already that is not spread.
pub fn init_database(location: &Postgres, citus: bool) -> Result<bool, LedgerError> {
    let server = Server::open(location, citus)?;
    Ok(server.is_spread)
}

/// Whether there is a store in a schema of a database. Makes nothing.
pub(crate) fn is_founded(location: &Postgres) -> Result<bool, LedgerError> {
    server::is_founded(location)
}

/// The store in a database.
pub(crate) struct PgBackend {
    server: Arc<Server>,
}

impl PgBackend {
    /// Connects, and makes or migrates the tables.
    pub(crate) fn open(location: &Postgres) -> Result<Self, LedgerError> {
        let server = Server::open(location, false)?;
        Ok(Self { server })
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

    fn listing(&self) -> Box<dyn Snapshot> {
        Box::new(PgSnapshot::listing(&self.server))
    }

    fn at_least(&self, number: Number) -> Box<dyn Snapshot> {
        if self.server.replicas.is_empty() {
            return self.snapshot();
        }
        Box::new(PgSnapshot::at_least(&self.server, number))
    }

    fn long_snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(PgSnapshot::long(&self.server))
    }

    fn now(&self) -> Box<dyn Snapshot> {
        Box::new(PgSnapshot::each(&self.server))
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    fn scrub_keys(&self) -> Result<bool, LedgerError> {
        scrub::scrub(&self.server)
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
        let standings = PgSnapshot::each(&self.server).standings()?;
        let last = standings.iter().map(|standing| standing.last).max();
        let last = last.unwrap_or_default();
        if self.server.horizon.newest() != Some(last) || self.server.is_spread {
            // An id that is taken now is later than what was read.
            let id = read::take_id(&self.server)?;
            self.server.horizon.mark(id, last);
        }
        Ok(standings)
    }

    fn clock_ms(&self) -> Result<u64, LedgerError> {
        lease::clock_ms(&self.server)
    }

    fn others_alive(&self, node: Blind) -> Result<usize, LedgerError> {
        lease::others_alive(&self.server, node)
    }

    fn is_spread(&self) -> bool {
        self.server.is_spread
    }

    fn change_meta(&self, name: &str, from: Vec<u8>, to: Vec<u8>) -> Result<(), LedgerError> {
        turn::change_meta(&self.server, name, from, to)
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
