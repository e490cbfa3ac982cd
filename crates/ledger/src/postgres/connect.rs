//! Connections: where the server is, TLS, and a pool.
//!
//! Behind PgBouncer in transaction mode a connection is another server's with every transaction, so
//! nothing is kept in one: no named statement, no session setting, no listening, no session lock.
//! Everything runs in transactions that begin by saying all that they need.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::LedgerError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent bytes may go unanswered before a connection counts as lost.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait for a connection of the pool.
const POOL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a PostgreSQL store is.
#[derive(Clone)]
pub struct Postgres {
    /// `postgres://user@host:port/database`, with `?sslmode=` if need be. A socket's folder goes in
    /// place of the host, with `%2F` for each `/`. To another machine TLS is always used, and the
    /// server's certificate and name are checked, unless `sslmode=disable` says otherwise.
    pub url: String,
    /// The password, if it is not in the URL.
    pub password: Option<String>,
    /// PEM file of the authority that signed the server's certificate; those of the system if not
    /// given.
    pub ca_file: Option<PathBuf>,
    /// The schema of the tables; its roles are `<schema>_service` and `<schema>_tenant`. 1 to 40
    /// lower-case letters, digits and `_`, a letter first.
    pub schema: String,
    /// Where streaming replicas of the database are, each as `url` says where the database is; with the
    /// same login, password and authority.
    pub replicas: Vec<String>,
}

/// A database server that a store is reached at, without login and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseServer {
    /// Its hosts with ports, or the folder of its socket.
    pub place: String,
    /// Whether it is this machine.
    pub is_here: bool,
    /// Whether what is sent is encrypted, and the server's certificate checked.
    pub is_encrypted: bool,
}

impl Postgres {
    /// The servers that the store is reached at: the database's first, and then those of its replicas.
    ///
    /// # Errors
    /// `Storage` when a URL, or the authority's file, is not as it should be.
    pub fn servers(&self) -> Result<Vec<DatabaseServer>, LedgerError> {
        let urls = std::iter::once(&self.url).chain(&self.replicas);
        urls.map(|url| Ok(Connector::to(url, self)?.server()))
            .collect()
    }
}

/// What the driver or the server says, without values: a detail may show a row.
pub(super) fn fault(error: &tokio_postgres::Error) -> LedgerError {
    let text = match error.as_db_error() {
        Some(db) => format!("PostgreSQL: {} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("PostgreSQL: {error}: {source}"),
            None => format!("PostgreSQL: {error}"),
        },
    };
    LedgerError::Storage(text)
}

/// Runs statements that need rights which the login may not have; `missing` says what to do about it.
pub(super) async fn run(client: &Client, sql: &str, missing: &str) -> Result<(), LedgerError> {
    let outcome = client.batch_execute(sql).await;
    outcome.map_err(|error| match (error.code(), fault(&error)) {
        (Some(&SqlState::INSUFFICIENT_PRIVILEGE), LedgerError::Storage(text)) => {
            LedgerError::Storage(format!("{text}; {missing}"))
        }
        (_, fault) => fault,
    })
}

#[derive(Clone)]
enum Tls {
    None,
    Rustls(Box<MakeRustlsConnect>),
}

/// How to connect.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: Tls,
}

fn is_here(host: &Host) -> bool {
    match host {
        #[cfg(unix)]
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || (name.parse::<std::net::IpAddr>()).is_ok_and(|address| address.is_loopback())
        }
    }
}

impl Connector {
    pub(super) fn new(location: &Postgres) -> Result<Self, LedgerError> {
        Self::to(&location.url, location)
    }

    /// To another server that is like that of the location.
    pub(super) fn to(url: &str, location: &Postgres) -> Result<Self, LedgerError> {
        let refused = |what: String| LedgerError::Storage(format!("the store's URL: {what}"));
        // What is wrong with it is told without the URL, which may hold a password.
        let mut config: Config = (url.parse()).map_err(|error: tokio_postgres::Error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            refused(source.unwrap_or_else(|| error.to_string()))
        })?;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refused("it begins with postgres://".into()));
        }
        if let Some(password) = &location.password {
            config.password(password);
        }
        if config.get_hosts().is_empty() {
            return Err(refused("it names no host".into()));
        }
        config
            .application_name("cairn")
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE_TIMEOUT)
            .keepalives_idle(SILENCE_TIMEOUT)
            .keepalives_interval(CONNECT_TIMEOUT)
            .keepalives_retries(3);
        if config.get_ssl_mode() == SslMode::Prefer {
            // What only prefers TLS can be talked out of it.
            let is_here = config.get_hosts().iter().all(is_here);
            config.ssl_mode(if is_here {
                SslMode::Disable
            } else {
                SslMode::Require
            });
        }
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => Tls::None,
            _ => Tls::Rustls(Box::new(MakeRustlsConnect::new(rustls_config(location)?))),
        };
        Ok(Self { config, tls })
    }

    fn server(&self) -> DatabaseServer {
        let hosts = self.config.get_hosts();
        let ports = self.config.get_ports();
        let places = hosts.iter().enumerate().map(|(number, host)| match host {
            #[cfg(unix)]
            Host::Unix(folder) => folder.display().to_string(),
            Host::Tcp(name) => {
                let port = ports.get(number).or(ports.first()).copied();
                format!("{name}:{}", port.unwrap_or(5432))
            }
        });
        DatabaseServer {
            place: places.collect::<Vec<_>>().join(", "),
            // An address beside a name is what is connected to.
            is_here: hosts.iter().all(is_here)
                && (self.config.get_hostaddrs().iter()).all(std::net::IpAddr::is_loopback),
            is_encrypted: matches!(self.tls, Tls::Rustls(_)),
        }
    }

    async fn connect(&self) -> Result<Client, LedgerError> {
        let watch = |outcome: Result<(), tokio_postgres::Error>| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection to PostgreSQL has ended");
            }
        };
        let client = match &self.tls {
            Tls::None => {
                let (client, connection) =
                    (self.config.connect(NoTls).await).map_err(|e| fault(&e))?;
                tokio::spawn(async move { watch(connection.await) });
                client
            }
            Tls::Rustls(tls) => {
                let connected = self.config.connect((**tls).clone()).await;
                let (client, connection) = connected.map_err(|error| fault(&error))?;
                tokio::spawn(async move { watch(connection.await) });
                client
            }
        };
        Ok(client)
    }
}

fn rustls_config(location: &Postgres) -> Result<rustls::ClientConfig, LedgerError> {
    let refused = |what: String| LedgerError::Storage(format!("TLS to PostgreSQL: {what}"));
    let mut roots = rustls::RootCertStore::empty();
    match &location.ca_file {
        Some(path) => {
            let shown = path.display();
            let certificates = CertificateDer::pem_file_iter(path)
                .map_err(|error| refused(format!("{shown}: {error}")))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| refused(format!("{shown}: {e}")))?;
                roots
                    .add(certificate)
                    .map_err(|error| refused(format!("{shown}: {error}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(refused(
            "no certificate authority is known: name a PEM file with one".into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Connections that are kept. Small and our own, because what a pool has to know here is when a
/// connection may be used again: only after its transaction has ended in a known way.
pub(super) struct Pool {
    connector: Connector,
    idle: Mutex<Vec<Client>>,
    room: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(connector: Connector, size: usize) -> Arc<Self> {
        Arc::new(Self {
            connector,
            idle: Mutex::default(),
            room: Arc::new(Semaphore::new(size)),
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection, a kept one if there is one.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Connection, LedgerError> {
        let room = tokio::time::timeout(POOL_TIMEOUT, Arc::clone(&self.room).acquire_owned());
        let room = room.await.ok().and_then(Result::ok).ok_or_else(|| {
            LedgerError::Storage(format!(
                "no connection to PostgreSQL became free within {} s",
                POOL_TIMEOUT.as_secs()
            ))
        })?;
        let kept = loop {
            match self.idle().pop() {
                Some(client) if client.is_closed() => {}
                other => break other,
            }
        };
        let is_kept = kept.is_some();
        let client = match kept {
            Some(client) => client,
            None => self.connector.connect().await?,
        };
        Ok(Connection {
            client: Some(client),
            pool: Arc::clone(self),
            is_kept,
            _room: room,
        })
    }

    /// Closes the kept connections: when one turns out to be dead, so are the others.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }
}

/// A connection out of the pool. It goes back only by [`Connection::give_back`]; dropped, it is
/// closed, and the server rolls back what was under way.
pub(super) struct Connection {
    client: Option<Client>,
    pool: Arc<Pool>,
    /// Whether it was used before, and so may have died unnoticed.
    pub(super) is_kept: bool,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn client(&self) -> Result<&Client, LedgerError> {
        self.client
            .as_ref()
            .ok_or_else(|| LedgerError::Storage("the connection has been given back".into()))
    }

    /// Whether the server is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.client.as_ref().is_none_or(Client::is_closed)
    }

    /// For the next one; only outside a transaction.
    pub(super) fn give_back(mut self) {
        if let Some(client) = self.client.take().filter(|client| !client.is_closed()) {
            self.pool.idle().push(client);
        }
    }

    /// Ends the transaction that is under way without keeping anything, and gives back.
    pub(super) async fn roll_back(self) {
        let ended = match &self.client {
            Some(client) => client.batch_execute("ROLLBACK").await.is_ok(),
            None => false,
        };
        if ended {
            self.give_back();
        }
    }
}
