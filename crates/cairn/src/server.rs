//! The server: the contexts wired together behind one address.
//!
//! [`Server::start`] is what `cairn serve` and `cairn demo` run, and what tests start inside their
//! own process on port 0 with a clock of their own.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::ServiceExt;
use axum::extract::Request;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsAcceptor;
use ledger::{Clock, Ledger, SystemClock, TenantId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::certificates::Certificates;
use crate::client_certificates::{Authorities, ClientCertificates};
use crate::clients::{Addresses, Bounds, Proxies};
use crate::config::{EmergencySettings, Limits, SessionSettings};
use crate::floors::{Configured, Refused};
use crate::houses::{Follower, Houses, Plan, Reception};
use crate::http::{self, Around};
use crate::pace::Pace;
use crate::providers::{ProviderOptions, Providers};

/// The most bytes of a request's line and headers. Browsers and clients send under 10 KB; the longest addresses
/// are searches, and an application's request that stands encoded in the address of the sign-in.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The same over HTTP/2, where each header counts 32 bytes more (RFC 9113, section 6.5.2).
const HEAD_BYTES_MAX_2: u32 = 64 << 10;

/// PEM files of the server's TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate and chain.
    pub certificate: PathBuf,
    /// Private key.
    pub private_key: PathBuf,
}

/// What only the demo shows.
#[derive(Clone)]
pub struct DemoPages {
    /// The mailbox of the SMTP sink.
    pub mailbox: exchange::sink::Mailbox,
    /// Logins to show on the sign-in page.
    pub logins: Vec<web::DemoLogin>,
    /// How many times faster than real the care clock runs.
    pub speed: f64,
    /// Whether the patients came from files, so that they may be real people.
    pub people_imported: bool,
}

/// How to start a server.
pub struct ServerOptions {
    /// The store; [`Server::stop`] closes it.
    pub ledger: Ledger,
    /// The tenant that is served where none has a host name of its own: then each of the store's tenants is
    /// served by its names.
    pub tenant: TenantId,
    /// Real time, for sessions, links and one-time codes.
    pub wall_clock: Arc<dyn Clock>,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// How the server is reached from outside, without a slash at the end; made from the address
    /// that it listens on if not given.
    pub public_url: Option<String>,
    /// TLS of the server itself.
    pub tls: Option<TlsFiles>,
    /// Certificates of clients.
    pub client_certificates: ClientCertificates,
    /// Name of the organisation.
    pub organisation: String,
    /// Outgoing mail. An empty `portal_base` is filled with the server's own URL.
    pub mail: Option<exchange::MailOptions>,
    /// Outgoing text messages. The portal's and the callbacks' addresses are the server's own.
    pub sms: Option<exchange::SmsOptions>,
    /// Notifications to browsers and to applications on telephones. The portal's address is the server's own, and so is who sends where it isn't said.
    pub push: Option<exchange::PushOptions>,
    /// Letters and telephone calls. Portal and sender are the server's own.
    pub files: Vec<exchange::FileOptions>,
    /// Country of telephone numbers that are written without one, also where no text messages leave from here.
    pub sms_country: Option<String>,
    /// Where visits by video are held; tenants that have host names have places of their own, or none.
    pub telehealth: Option<exchange::TelehealthPlace>,
    /// How long before a visit by video people are let in, milliseconds.
    pub telehealth_opens_ms: u64,
    /// Demographics as a service.
    pub demographics: crate::config::DemographicsSettings,
    /// Folder with Cedar policies and their tests to use instead of the built-in set. Changes are followed.
    pub policy_folder: Option<PathBuf>,
    /// The rule pack that patients' consents are read by: a built-in name, or a file.
    pub consent_rules: String,
    /// Folder with what tenants that have host names have configured for themselves.
    pub tenants_folder: Option<PathBuf>,
    /// The time zone that policies know the hour by.
    pub time_zone: String,
    /// Networks that policies know by their names: addresses and prefixes, separated by spaces.
    pub networks: BTreeMap<String, String>,
    /// What the floors of rule packs are held against. A pack that has some is refused without it.
    pub configured: Option<Configured>,
    /// Session idle time-out, seconds.
    pub session_idle_s: u64,
    /// Session absolute time-out, seconds.
    pub session_absolute_s: u64,
    /// How old a second factor may be for something sensitive, seconds; 0 asks each time.
    pub session_step_up_s: u64,
    /// How long emergency access lasts, and how soon each is looked into.
    pub emergency: EmergencySettings,
    /// Bounds.
    pub limits: Limits,
    /// Proxies in front that are believed whose requests they hand on.
    pub proxies: Proxies,
    /// Addresses that many clients have, which have no bounds of their own and are believed nothing.
    pub shared_addresses: Addresses,
    /// Whether all requests come from proxies, named or not.
    pub behind_proxy: bool,
    /// What is done with FHIR resources whose structure is wrong.
    pub validation: record::Validation,
    /// Whether checkpoints and hashes of the audit's logs are served to everybody.
    pub open_audit_log: bool,
    /// Whether systems may ask to be registered; an administrator approves them.
    pub open_registration: bool,
    /// Origins that clients' keys may be fetched from, with spaces in between.
    pub key_origins: String,
    /// Origins that notifications of subscriptions may go to, with spaces in between.
    pub subscription_origins: String,
    /// Identity providers that staff sign in at.
    pub providers: Vec<ProviderOptions>,
    /// How often witnesses that have a URL are asked to cosign, seconds.
    pub witness_every_s: u64,
    /// Where the audit is told, if anywhere; of each kind one at most, which its positions are kept for.
    pub collectors: Vec<crate::Collector>,
    /// What only the demo shows.
    pub demo: Option<DemoPages>,
    /// Whether the journey runner runs by itself. Tests in virtual time turn it off and call
    /// `journeys().drain(…)`.
    pub run_journeys: bool,
}

impl ServerOptions {
    /// A server over `ledger` for `tenant` with the defaults of the configuration, on any free
    /// loopback port, without mail.
    #[must_use]
    pub fn new(ledger: Ledger, tenant: TenantId) -> Self {
        let session = crate::config::SessionSettings::default();
        let audit = crate::config::AuditSettings::default();
        Self {
            ledger,
            tenant,
            wall_clock: Arc::new(SystemClock),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
            tls: None,
            client_certificates: ClientCertificates::default(),
            organisation: "Cairn".to_owned(),
            mail: None,
            sms: None,
            push: None,
            files: Vec::new(),
            sms_country: None,
            telehealth: None,
            telehealth_opens_ms: crate::config::TelehealthSettings::default().opens_s * 1_000,
            demographics: crate::config::DemographicsSettings::default(),
            policy_folder: None,
            consent_rules: trust::consent::Rules::DEFAULT.to_owned(),
            tenants_folder: None,
            time_zone: "UTC".to_owned(),
            networks: BTreeMap::new(),
            configured: None,
            session_idle_s: session.idle_s,
            session_absolute_s: session.absolute_s,
            session_step_up_s: session.step_up_s,
            emergency: EmergencySettings::default(),
            limits: Limits::default(),
            proxies: Proxies::default(),
            shared_addresses: Addresses::default(),
            behind_proxy: false,
            validation: record::Validation::default(),
            open_audit_log: audit.open_log,
            open_registration: false,
            key_origins: String::new(),
            subscription_origins: String::new(),
            providers: Vec::new(),
            witness_every_s: audit.witness_every_s,
            collectors: Vec::new(),
            demo: None,
            run_journeys: true,
        }
    }
}

/// Why a server could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be had.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The certificate or key can't be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// Identity or policy.
    #[error(transparent)]
    Trust(trust::TrustError),
    /// What is configured lies below a floor of the rule pack.
    #[error("{0}")]
    Below(Refused),
    /// The rule pack has floors, and nobody said what is configured.
    #[error(
        "the rule pack {0} has floors for the configuration, and this server was not told of its own"
    )]
    Unknown(String),
    /// What a tenant has configured for itself.
    #[error("what a tenant has configured for itself can't be used: {0}")]
    Tenant(String),
    /// The list of tenants.
    #[error("the tenants of the store can't be read: {0}")]
    Tenants(ledger::LedgerError),
    /// The demo's pages show passwords and one-time codes.
    #[error(
        "{0} is not a loopback address: the demo shows passwords and one-time codes to everyone who opens its pages, \
         and speaks plain HTTP, so it listens on this machine only (to look from elsewhere, use a tunnel such as ssh -L)"
    )]
    Exposed(SocketAddr),
    /// Options of letters or telephone calls that don't fit together.
    #[error("letters and telephone calls: {0}")]
    Files(String),
    /// Options of notifications to browsers that don't fit together.
    #[error("notifications: {0}")]
    Push(String),
    /// Options of text messages that don't fit together.
    #[error("text messages: {0}")]
    Sms(String),
    /// What is said of visits by video doesn't fit together.
    #[error("telehealth: {0}")]
    Telehealth(String),
    /// What is said of demographics as a service doesn't fit together.
    #[error("{0}")]
    Demographics(String),
    /// Mail options that don't fit together.
    #[error("mail: {0}")]
    Mail(String),
    /// The authorities for certificates of clients can't be used.
    #[error("oauth.client_ca_file: {0}")]
    ClientAuthorities(String),
    /// Clients' keys can't be fetched as they are to be.
    #[error("oauth.key_origins: {0}")]
    KeyOrigins(String),
    /// Notifications of subscriptions can't be sent as they are to be.
    #[error("subscriptions.origins: {0}")]
    Subscriptions(String),
    /// Partners can't be called.
    #[error("calls to partners: {0}")]
    Calls(String),
    /// An identity provider can't be used as it is configured.
    #[error("identity_provider.{0}")]
    Provider(String),
    /// The recorder of metrics.
    #[error("metrics: {0}")]
    Metrics(String),
    /// This process can't take part in the work on the store's shards.
    #[error("leasing shards: {0}")]
    Lease(ledger::LedgerError),
    /// The store did not close well.
    #[error("closing the store: {0}")]
    Close(ledger::LedgerError),
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    base_url: String,
    ledger: Ledger,
    houses: Arc<Houses>,
    handle: Handle<SocketAddr>,
    listener: JoinHandle<std::io::Result<()>>,
    followers: Arc<Vec<Follower>>,
    stop_streams: watch::Sender<bool>,
    stop_followers: watch::Sender<bool>,
    drain: Duration,
}

impl Server {
    /// Builds the contexts, starts the followers, and listens.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        if options.demo.is_some() && !options.listen.ip().is_loopback() {
            return Err(ServerError::Exposed(options.listen));
        }
        let metrics = crate::telemetry::metrics().map_err(ServerError::Metrics)?;
        let listener = listen(options.listen)?;
        let address = listener.local_addr().map_err(|error| ServerError::Listen {
            address: options.listen,
            reason: error.to_string(),
        })?;
        let encrypted = options.tls.is_some();
        let base_url = options
            .public_url
            .clone()
            .unwrap_or_else(|| format!("{}://{address}", if encrypted { "https" } else { "http" }));

        let providers = Providers::of(
            options.providers,
            &base_url,
            options.wall_clock.clone(),
            options.ledger.entropy(),
        )
        .map_err(ServerError::Provider)?;
        let sends = options.mail.is_some()
            || options.sms.is_some()
            || options.push.is_some()
            || !options.files.is_empty();
        if options.run_journeys || sends {
            options.ledger.lease_shards().map_err(ServerError::Lease)?;
        }
        let certificates = options.client_certificates;
        let (authorities, following_authorities) = Authorities::read(
            certificates.authorities.as_deref(),
            options.wall_clock.clone(),
        )
        .map_err(ServerError::ClientAuthorities)?;
        let patience = Duration::from_millis(options.limits.send_timeout_ms);
        let is_https = base_url.starts_with("https://");
        let around = Around::new(options.ledger.entropy(), patience, is_https);
        let plan = Plan {
            ledger: options.ledger.clone(),
            wall_clock: options.wall_clock,
            base_url: base_url.clone(),
            organisation: options.organisation,
            mail: options.mail,
            sms: options.sms,
            push: options.push,
            files: options.files,
            sms_country: options.sms_country,
            telehealth: options.telehealth,
            telehealth_opens_ms: options.telehealth_opens_ms,
            demographics: options.demographics,
            policy_folder: options.policy_folder,
            consent_rules: options.consent_rules,
            tenants_folder: options.tenants_folder,
            time_zone: options.time_zone,
            networks: options.networks,
            shared: [options.proxies.addresses(), &options.shared_addresses]
                .into_iter()
                .flat_map(|addresses| addresses.networks().iter().copied())
                .collect(),
            // What holds is what the server was started with.
            configured: options.configured.map(|configured| {
                configured.with_sessions(SessionSettings {
                    idle_s: options.session_idle_s,
                    absolute_s: options.session_absolute_s,
                    step_up_s: options.session_step_up_s,
                })
            }),
            session_idle_s: options.session_idle_s,
            session_absolute_s: options.session_absolute_s,
            session_step_up_s: options.session_step_up_s,
            emergency: options.emergency,
            limits: options.limits,
            validation: options.validation,
            open_audit_log: options.open_audit_log,
            open_registration: options.open_registration,
            key_origins: options.key_origins,
            subscription_origins: options.subscription_origins,
            takes_certificates: certificates.are_taken(),
            authorities,
            providers: Arc::new(providers),
            collectors: options.collectors.into_iter().map(Arc::new).collect(),
            demo: options.demo,
            run_journeys: options.run_journeys,
            around: around.clone(),
        };
        let houses = Arc::new(Houses::open(plan, options.tenant).await?);
        let (stop_streams, streams_stopped) = watch::channel(false);
        let (stop_followers, followers_stopped) = watch::channel(false);
        let following = Arc::clone(&houses).follow(followers_stopped.clone());
        let every = Duration::from_secs(options.witness_every_s);
        let witnessing = crate::witnessing::run(options.ledger.clone(), every, followers_stopped);
        let followers = Arc::new(vec![
            Follower::new("tenants", tokio::spawn(following)),
            Follower::new("witnesses", tokio::spawn(witnessing)),
        ]);
        let office = http::Office {
            ledger: options.ledger.clone(),
            houses: Arc::clone(&houses),
            metrics,
            followers: Arc::clone(&followers),
            gauges: Arc::default(),
        };
        let office = http::office(office, &around, streams_stopped.clone());
        let closed = http::closed(&around, streams_stopped);
        let limits = &options.limits;
        let connections = crate::pace::places(limits.connections);
        let bounds = Bounds::new(
            (options.proxies, options.shared_addresses),
            options.behind_proxy,
            limits.client_connections,
            limits.client_at_once,
        );
        // Each live page may hold a connection, so they have half of them at most.
        let live = (connections / 2).max(1);
        let reception = Reception::new(
            Arc::clone(&houses),
            office,
            closed,
            (bounds.clone(), certificates.told_by),
            live,
        );

        let handle = Handle::new();
        let service =
            ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(reception);
        let header_timeout = Duration::from_millis(options.limits.header_timeout_ms);
        let pace = Pace::of(&options.limits, connections, bounds);
        let cannot_listen = |error: std::io::Error| ServerError::Listen {
            address,
            reason: error.to_string(),
        };
        let mut plain = axum_server::from_tcp(listener)
            .map_err(cannot_listen)?
            .first_request_timeout(header_timeout)
            .handle(handle.clone());
        let mut http = plain.http_builder().http1();
        http.header_read_timeout(header_timeout)
            .max_buf_size(HEAD_BYTES_MAX);
        plain
            .http_builder()
            .http2()
            .max_header_list_size(HEAD_BYTES_MAX_2);
        let listener = match options.tls {
            None => tokio::spawn(plain.acceptor(pace).serve(service)),
            Some(files) => {
                let words = format!(
                    "{} and {}",
                    files.certificate.display(),
                    files.private_key.display()
                );
                let certificates = Certificates::open(files, certificates.asked)
                    .await
                    .map_err(|error| ServerError::Tls(format!("{words}: {error}")))?;
                let acceptor = RustlsAcceptor::new(certificates.config())
                    .handshake_timeout(header_timeout)
                    .acceptor(pace);
                tokio::spawn(certificates.follow(stop_followers.subscribe()));
                tokio::spawn(plain.acceptor(acceptor).serve(service))
            }
        };
        if let Some(follow) = following_authorities {
            tokio::spawn(follow.run(stop_followers.subscribe()));
        }
        tracing::info!(%address, "listening");
        Ok(Self {
            address,
            base_url,
            ledger: options.ledger,
            houses,
            handle,
            listener,
            followers,
            stop_streams,
            stop_followers,
            drain: Duration::from_millis(options.limits.drain_ms),
        })
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// How the server is reached, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }
    /// The store.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
    /// Identity, policy, vault.
    #[must_use]
    pub fn trust(&self) -> &trust::Trust {
        &self.houses.main().trust
    }
    /// The record.
    #[must_use]
    pub fn record(&self) -> &record::Record {
        &self.houses.main().record
    }
    /// The journeys.
    #[must_use]
    pub fn journeys(&self) -> &journey::Journeys {
        &self.houses.main().journeys
    }
    /// Identity, policy and vault of a tenant that is being served.
    #[must_use]
    pub fn trust_of(&self, tenant: TenantId) -> Option<trust::Trust> {
        Some(self.houses.contexts(tenant)?.trust)
    }
    /// Its houses.
    pub(crate) fn houses(&self) -> Arc<Houses> {
        Arc::clone(&self.houses)
    }
    /// The journeys of a tenant that is being served.
    #[must_use]
    pub fn journeys_of(&self, tenant: TenantId) -> Option<journey::Journeys> {
        Some(self.houses.contexts(tenant)?.journeys)
    }

    /// Stops cleanly: takes no new connections, ends live updates, lets requests and followers
    /// finish what they are at, all within one drain time, and closes the store.
    ///
    /// # Errors
    /// `Close` when the store can't be closed; everything acknowledged is durable all the same.
    pub async fn stop(self) -> Result<(), ServerError> {
        let deadline = tokio::time::Instant::now() + self.drain;
        self.handle.graceful_shutdown(Some(self.drain));
        let _ = self.stop_streams.send(true);
        let _ = self.stop_followers.send(true);
        self.houses.stop();
        match self.listener.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the listener failed"),
            Err(_) => tracing::error!("the listener was cut short"),
        }
        for follower in self.followers.iter() {
            follower.end_by(deadline).await;
        }
        self.houses.end_by(deadline).await;
        self.ledger.close().await.map_err(ServerError::Close)
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let refuse = |error: std::io::Error| ServerError::Listen {
        address,
        reason: error.to_string(),
    };
    let listener = TcpListener::bind(address).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    Ok(listener)
}

/// What a process that serves is asked to end by: Ctrl-C or SIGTERM.
pub struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// Listens from now on: until then a signal ends the process at once, and from then on one is kept until
    /// [`Self::asked`] hears of it. So who says that a server is ready listens first.
    ///
    /// # Errors
    /// When the signals can't be listened for.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until the process is asked to end, or was since it listens.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Location, OpenOptions, RootKey, SystemEntropy};
    use tokio::io::AsyncWriteExt;

    use super::*;

    const TENANT: TenantId = TenantId(1);

    async fn options(folder: &std::path::Path) -> ServerOptions {
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.to_owned()),
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 8 << 20,
        })
        .expect("a store");
        ledger.create_tenant(TENANT).await.expect("a tenant");
        ServerOptions::new(ledger, TENANT)
    }

    #[tokio::test]
    async fn a_demo_listens_on_this_machine_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = options(folder.path()).await;
        options.listen = "0.0.0.0:0".parse().expect("an address");
        options.demo = Some(DemoPages {
            mailbox: exchange::sink::Mailbox::default(),
            logins: Vec::new(),
            speed: 1.0,
            people_imported: false,
        });
        let error = Server::start(options).await.err().expect("a refusal");
        assert!(matches!(error, ServerError::Exposed(_)), "{error}");
    }

    /// A request that never ends and followers that never end: all together they get the drain time
    /// once.
    #[tokio::test]
    async fn stopping_takes_one_drain_time_whatever_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = options(folder.path()).await;
        options.limits.drain_ms = 1_000;
        let mut server = Server::start(options).await.expect("a server");
        let hanging = |name| Follower::new(name, tokio::spawn(std::future::pending()));
        server.followers = Arc::new(vec![hanging("one"), hanging("two"), hanging("three")]);
        let mut open = tokio::net::TcpStream::connect(server.address())
            .await
            .expect("a connection");
        let head = "POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nuser=";
        open.write_all(head.as_bytes()).await.expect("written");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = tokio::time::Instant::now();
        server.stop().await.expect("a clean end");
        let took = began.elapsed();
        assert!(
            (Duration::from_millis(900)..Duration::from_millis(1_900)).contains(&took),
            "{took:?}"
        );
    }
}
