//! The PostgreSQL store: the conformance suite, straight and through PgBouncer, and what only a store
//! that several processes share can show.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
#![allow(
    clippy::disallowed_methods,
    reason = "servers are waited for in real time"
)]

mod citus;
mod cluster;
mod faults;
mod horizon;
mod leases;
mod nodes;
mod patience;
mod replicas;
mod roles;
mod rotation;
mod scrubs;
#[allow(
    dead_code,
    unused_imports,
    reason = "the cases of backups are for stores that the ledger backs up itself"
)]
#[path = "../suite/mod.rs"]
mod suite;

use std::sync::Arc;

use cluster::{Cluster, Pooler};
use ledger::{
    Ledger, LedgerError, Location, ManualClock, OpenOptions, Postgres, RootKey, SystemEntropy,
};
use suite::{Restored, Store, Wanted};

/// A store in a server of its own.
pub(crate) struct Database {
    pub(crate) pooler: Option<Pooler>,
    pub(crate) cluster: Cluster,
    /// The other server of a Citus cluster.
    pub(crate) worker: Option<Cluster>,
    clock: ManualClock,
    dictionary: Vec<ledger::Dictionary>,
}

impl Database {
    fn new() -> Self {
        Self {
            pooler: None,
            cluster: Cluster::new(),
            worker: None,
            clock: ManualClock::new(1_700_000_000_000),
            dictionary: Vec::new(),
        }
    }

    fn pooled() -> Self {
        let mut database = Self::new();
        database.pooler = Some(Pooler::before(&database.cluster));
        database
    }

    fn location(&self) -> Postgres {
        let url = match &self.pooler {
            Some(pooler) => pooler.url("cairn"),
            None => self.cluster.url("cairn"),
        };
        Postgres {
            url,
            password: None,
            ca_file: None,
            schema: "cairn".into(),
            replicas: Vec::new(),
        }
    }

    fn options(&self) -> OpenOptions {
        OpenOptions {
            location: Location::Postgres(self.location()),
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: self.dictionary.clone(),
            cache_bytes: 0,
        }
    }

    fn open_at(&self, location: Postgres, root_key: RootKey) -> Result<Ledger, LedgerError> {
        Ledger::open(OpenOptions {
            location: Location::Postgres(location),
            root_key,
            ..self.options()
        })
    }
}

impl Store for Database {
    fn open_with(&self, root_key: RootKey) -> Result<Ledger, LedgerError> {
        self.open_at(self.location(), root_key)
    }
    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn restore(&self, wanted: Wanted) -> Restored<'_> {
        let options = self.options();
        Box::pin(async {
            let report = ledger::restore(wanted.options(options), |_| {}).await?;
            Ok((Box::new(Self::new()) as Box<dyn Store>, report))
        })
    }
}

mod straight {
    use super::{Database, suite};
    crate::conformance!(Database::new(), 4);
}

mod pooled {
    use super::{Database, suite};
    crate::conformance!(Database::pooled(), 2);
}
