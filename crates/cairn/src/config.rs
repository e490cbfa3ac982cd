//! Configuration: a TOML file, the environment and flags, in rising order of weight.
//!
//! [`KEYS`] is the one list of keys. `docs/configuration.md` is tested against it, environment
//! names are derived from it, and whatever is not in it is refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::providers::ProviderOptions;
use crate::store::{self, RootKeySource};

mod around;
mod audit;
mod demographics;
mod emergency;
mod files;
mod http;
mod identity_provider;
mod limits;
mod log;
mod mail;
mod named;
mod push;
mod sms;
mod telehealth;

pub use audit::{AuditSettings, SyslogReceipt};
pub use demographics::DemographicsSettings;
pub use emergency::EmergencySettings;
pub use files::{CallSettings, LetterSettings};
pub use http::HttpSettings;
pub use identity_provider::IdentityProviderSettings;
pub use limits::Limits;
pub use log::{LogFormat, LogSettings, Otlp};
pub(crate) use mail::dkim;
use named::{found, is_label, put};
pub use push::{ApnsSettings, FcmSettings, PushSettings};
pub(crate) use sms::secret;
pub use sms::{SmppSettings, SmsSettings, SmsWay};
pub use telehealth::TelehealthSettings;

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A string, a path or an address.
    Text,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Fraction,
    /// `true` or `false`.
    Flag,
}

/// One configuration key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file, with dots between table and key. `*` stands for the name of a table that there may
    /// be any number of.
    pub name: &'static str,
    /// What it takes.
    pub kind: ValueKind,
    /// The default as it would stand in the file; empty when there is none.
    pub default: &'static str,
}

impl Key {
    /// The name of the environment variable that sets this key: `smtp.port` → `CAIRN_SMTP_PORT`.
    #[must_use]
    pub fn environment_name(&self) -> String {
        format!("CAIRN_{}", self.name.replace('.', "_").to_uppercase())
    }
}

const fn key(name: &'static str, kind: ValueKind, default: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
    }
}

/// Where the root key may be; only one of them is given.
const ROOT_KEYS: [&str; 2] = ["root_key_file", "root_key"];

/// All keys, in the order in which `docs/configuration.md` explains them.
pub const KEYS: &[Key] = &[
    key("data", ValueKind::Text, ""),
    key("root_key_file", ValueKind::Text, ""),
    key("root_key", ValueKind::Text, ""),
    key("listen", ValueKind::Text, "127.0.0.1:8080"),
    key("public_url", ValueKind::Text, ""),
    key("behind_tls_proxy", ValueKind::Flag, "false"),
    key("organisation", ValueKind::Text, "Cairn"),
    key("policy_folder", ValueKind::Text, ""),
    key("consent_rules", ValueKind::Text, "us-hipaa"),
    key("tenants_folder", ValueKind::Text, ""),
    key("time_zone", ValueKind::Text, "UTC"),
    key("network.*", ValueKind::Text, ""),
    key("tls.certificate_file", ValueKind::Text, ""),
    key("tls.private_key_file", ValueKind::Text, ""),
    key("tls.client_certificates", ValueKind::Flag, "false"),
    key("session.idle_s", ValueKind::Integer, "900"),
    key("session.absolute_s", ValueKind::Integer, "43200"),
    key("session.step_up_s", ValueKind::Integer, "900"),
    key("emergency.access_s", ValueKind::Integer, "14400"),
    key("emergency.review_s", ValueKind::Integer, "259200"),
    key("emergency.alert_to", ValueKind::Text, ""),
    key("smtp.host", ValueKind::Text, ""),
    key("smtp.port", ValueKind::Integer, "587"),
    key("smtp.tls", ValueKind::Text, "starttls"),
    key("smtp.user", ValueKind::Text, ""),
    key("smtp.password_file", ValueKind::Text, ""),
    key("smtp.from", ValueKind::Text, ""),
    key("smtp.message_id_domain", ValueKind::Text, ""),
    key("smtp.ca_file", ValueKind::Text, ""),
    key("smtp.timeout_ms", ValueKind::Integer, "30000"),
    key("smtp.parallel", ValueKind::Integer, "4"),
    key("smtp.per_second", ValueKind::Integer, ""),
    key("smtp.price", ValueKind::Text, ""),
    key("smtp.currency", ValueKind::Text, ""),
    key("smtp.dkim_domain", ValueKind::Text, ""),
    key("smtp.dkim_keys", ValueKind::Text, ""),
    key("smtp.returns_to", ValueKind::Text, ""),
    key("smtp.returns_secret_file", ValueKind::Text, ""),
    key("smtp.returns_wait_s", ValueKind::Integer, "900"),
    key("sms.provider", ValueKind::Text, "http"),
    key("letters.folder", ValueKind::Text, ""),
    key("letters.returns", ValueKind::Text, ""),
    key("letters.recipient", ValueKind::Text, ""),
    key("letters.closes", ValueKind::Text, "16:00"),
    key("letters.zone", ValueKind::Text, "UTC"),
    key("letters.size", ValueKind::Integer, "500"),
    key("letters.per_day", ValueKind::Integer, "0"),
    key("letters.price", ValueKind::Text, ""),
    key("letters.currency", ValueKind::Text, ""),
    key("letters.sender", ValueKind::Text, ""),
    key("letters.foot", ValueKind::Text, files::FOOT),
    key("letters.country", ValueKind::Text, ""),
    key("letters.class", ValueKind::Text, "standard"),
    key("letters.pressing_class", ValueKind::Text, ""),
    key("letters.delivered_when", ValueKind::Text, "posted"),
    key("letters.font", ValueKind::Text, ""),
    key("calls.folder", ValueKind::Text, ""),
    key("calls.returns", ValueKind::Text, ""),
    key("calls.recipient", ValueKind::Text, ""),
    key("calls.closes", ValueKind::Text, "08:00 13:00"),
    key("calls.zone", ValueKind::Text, "UTC"),
    key("calls.size", ValueKind::Integer, "500"),
    key("calls.per_day", ValueKind::Integer, "0"),
    key("calls.price", ValueKind::Text, ""),
    key("calls.currency", ValueKind::Text, ""),
    key("calls.from", ValueKind::Text, "09:00"),
    key("calls.until", ValueKind::Text, "20:00"),
    key("calls.tries", ValueKind::Integer, "3"),
    key("push.contact", ValueKind::Text, ""),
    key("push.sender", ValueKind::Text, ""),
    key("push.services", ValueKind::Text, exchange::PUSH_SERVICES),
    key("push.timeout_ms", ValueKind::Integer, "10000"),
    key("push.parallel", ValueKind::Integer, "4"),
    key("push.per_second", ValueKind::Integer, ""),
    key("push.price", ValueKind::Text, ""),
    key("push.currency", ValueKind::Text, ""),
    key("fcm.service_account_file", ValueKind::Text, ""),
    key("fcm.url", ValueKind::Text, push::FCM_URL),
    key("fcm.ca_file", ValueKind::Text, ""),
    key("fcm.per_second", ValueKind::Integer, "50"),
    key("apns.key_file", ValueKind::Text, ""),
    key("apns.key_id", ValueKind::Text, ""),
    key("apns.team_id", ValueKind::Text, ""),
    key("apns.topic", ValueKind::Text, ""),
    key("apns.url", ValueKind::Text, push::APNS_URL),
    key("apns.ca_file", ValueKind::Text, ""),
    key("apns.per_second", ValueKind::Integer, "50"),
    key("sms.account", ValueKind::Text, ""),
    key("sms.token_file", ValueKind::Text, ""),
    key("sms.from", ValueKind::Text, ""),
    key("sms.url", ValueKind::Text, sms::URL),
    key("sms.old_token_file", ValueKind::Text, ""),
    key("sms.country", ValueKind::Text, ""),
    key("sms.delivered_when", ValueKind::Text, "delivered"),
    key("sms.help", ValueKind::Text, sms::HELP),
    key("sms.price", ValueKind::Text, ""),
    key("sms.currency", ValueKind::Text, ""),
    key("sms.per_second", ValueKind::Integer, "10"),
    key("sms.timeout_ms", ValueKind::Integer, "15000"),
    key("sms.parallel", ValueKind::Integer, "4"),
    key("smpp.host", ValueKind::Text, ""),
    key("smpp.port", ValueKind::Integer, "3550"),
    key("smpp.tls", ValueKind::Flag, "true"),
    key("smpp.ca_file", ValueKind::Text, ""),
    key("smpp.system_id", ValueKind::Text, ""),
    key("smpp.password_file", ValueKind::Text, ""),
    key("smpp.system_type", ValueKind::Text, ""),
    key("smpp.message_ids", ValueKind::Text, "same"),
    key("smpp.window", ValueKind::Integer, "10"),
    key("smpp.enquire_ms", ValueKind::Integer, "30000"),
    key("telehealth.join_url", ValueKind::Text, ""),
    key("telehealth.partner", ValueKind::Text, ""),
    key("telehealth.secret_file", ValueKind::Text, ""),
    key("telehealth.audience", ValueKind::Text, ""),
    key("telehealth.opens_s", ValueKind::Integer, "900"),
    key("demographics.serve", ValueKind::Flag, "false"),
    key(
        "demographics.base",
        ValueKind::Text,
        "/personal-demographics/FHIR/R4",
    ),
    key("demographics.rules", ValueKind::Text, "england"),
    key("demographics.allocate", ValueKind::Text, ""),
    key("demographics.per_second", ValueKind::Integer, "50"),
    key("http.trusted_proxies", ValueKind::Text, ""),
    key("http.forwarded_header", ValueKind::Text, "x-forwarded-for"),
    key("http.client_cert_proxies", ValueKind::Text, ""),
    key("http.shared_addresses", ValueKind::Text, ""),
    key("limits.fhir_body_bytes", ValueKind::Integer, "67108864"),
    key("limits.form_body_bytes", ValueKind::Integer, "1048576"),
    key("limits.header_timeout_ms", ValueKind::Integer, "10000"),
    key("limits.body_timeout_ms", ValueKind::Integer, "60000"),
    key("limits.send_timeout_ms", ValueKind::Integer, "60000"),
    key("limits.idle_timeout_ms", ValueKind::Integer, "300000"),
    key("limits.connections", ValueKind::Integer, "10000"),
    key("limits.client_connections", ValueKind::Integer, "2000"),
    key("limits.client_at_once", ValueKind::Integer, "500"),
    key("limits.drain_ms", ValueKind::Integer, "25000"),
    key("limits.tenant_at_once", ValueKind::Integer, "1000"),
    key("fhir.validation", ValueKind::Text, "reject"),
    key("store.cache_bytes", ValueKind::Integer, "268435456"),
    key("store.url", ValueKind::Text, ""),
    key("store.password_file", ValueKind::Text, ""),
    key("store.ca_file", ValueKind::Text, ""),
    key("store.schema", ValueKind::Text, "cairn"),
    key("store.replicas", ValueKind::Text, ""),
    key("oauth.key_origins", ValueKind::Text, ""),
    key("oauth.open_registration", ValueKind::Flag, "false"),
    key("oauth.client_ca_file", ValueKind::Text, ""),
    key("subscriptions.origins", ValueKind::Text, ""),
    key("identity_provider.*.issuer", ValueKind::Text, ""),
    key("identity_provider.*.name", ValueKind::Text, ""),
    key("identity_provider.*.client_id", ValueKind::Text, ""),
    key("identity_provider.*.private_key_file", ValueKind::Text, ""),
    key(
        "identity_provider.*.client_secret_file",
        ValueKind::Text,
        "",
    ),
    key("identity_provider.*.scopes", ValueKind::Text, ""),
    key("identity_provider.*.acr", ValueKind::Text, ""),
    key("identity_provider.*.amr", ValueKind::Text, ""),
    key("identity_provider.*.ca_file", ValueKind::Text, ""),
    key("audit.open_log", ValueKind::Flag, "false"),
    key("audit.witness_keys_file", ValueKind::Text, ""),
    key("audit.witness_quorum", ValueKind::Integer, "1"),
    key("audit.witness_every_s", ValueKind::Integer, "60"),
    key("audit.syslog", ValueKind::Text, ""),
    key("audit.syslog_ca_file", ValueKind::Text, ""),
    key("audit.syslog_certificate_file", ValueKind::Text, ""),
    key("audit.syslog_private_key_file", ValueKind::Text, ""),
    key("audit.syslog_receipt", ValueKind::Text, "close_notify"),
    key("audit.otlp", ValueKind::Text, ""),
    key("audit.otlp_ca_file", ValueKind::Text, ""),
    key("audit.otlp_certificate_file", ValueKind::Text, ""),
    key("audit.otlp_private_key_file", ValueKind::Text, ""),
    key("audit.otlp_headers_file", ValueKind::Text, ""),
    key("log.format", ValueKind::Text, "text"),
    key("log.filter", ValueKind::Text, "info"),
    key("otlp.endpoint", ValueKind::Text, ""),
    key("otlp.sample_ratio", ValueKind::Fraction, "1.0"),
];

/// Environment variables that begin with `CAIRN_` and set no key: they name the configuration file
/// and give client commands their token.
const OTHER_VARIABLES: &[&str] = &["CAIRN_CONFIG", "CAIRN_TOKEN"];

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file has a syntax error, an unknown key or a value of the wrong kind.
    #[error("configuration file {path}:\n{reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        reason: String,
    },
    /// An environment variable sets nothing that exists, or a value of the wrong kind.
    #[error("environment variable {name}: {reason}")]
    Environment {
        /// The variable.
        name: String,
        /// Why.
        reason: String,
    },
    /// A `--set` flag.
    #[error("--set {name}: {reason}")]
    Flag {
        /// The key.
        name: String,
        /// Why.
        reason: String,
    },
    /// Keys that don't fit together, or one that is missing.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// The configuration of `cairn serve`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder of the store.
    pub data: Option<PathBuf>,
    /// File with the root key; `DATA/root.key` if not given.
    pub root_key_file: Option<PathBuf>,
    /// URI of a root key in a PKCS#11 token, instead of a file.
    pub root_key: Option<String>,
    /// Address to listen on.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// How people and systems reach this server from outside.
    pub public_url: Option<String>,
    /// Whether a proxy in front ends TLS.
    #[serde(default)]
    pub behind_tls_proxy: bool,
    /// Name of the organisation, for titles.
    #[serde(default = "default_organisation")]
    pub organisation: String,
    /// Folder with Cedar policies to use instead of the built-in set.
    pub policy_folder: Option<PathBuf>,
    /// The rule pack that patients' consents are read by: a built-in name, or a file.
    #[serde(default = "default_consent_rules")]
    pub consent_rules: String,
    /// Folder with what tenants have configured for themselves.
    pub tenants_folder: Option<PathBuf>,
    /// The time zone that policies know the hour by.
    #[serde(default = "around::default_time_zone")]
    pub time_zone: String,
    /// Networks that policies know by their names: addresses and prefixes, separated by spaces.
    #[serde(default)]
    pub network: BTreeMap<String, String>,
    /// TLS of the server.
    #[serde(default)]
    pub tls: Tls,
    /// Sessions of the pages.
    #[serde(default)]
    pub session: SessionSettings,
    /// Emergency access.
    #[serde(default)]
    pub emergency: EmergencySettings,
    /// Outgoing mail.
    #[serde(default)]
    pub smtp: Smtp,
    /// Outgoing text messages.
    #[serde(default)]
    pub sms: SmsSettings,
    /// Their provider by SMPP.
    #[serde(default)]
    pub smpp: SmppSettings,
    /// Where visits by video are held.
    #[serde(default)]
    pub telehealth: TelehealthSettings,
    /// Demographics as a service.
    #[serde(default)]
    pub demographics: DemographicsSettings,
    /// Notifications to browsers.
    #[serde(default)]
    pub push: PushSettings,
    /// Letters.
    #[serde(default)]
    pub letters: LetterSettings,
    /// Telephone calls.
    #[serde(default)]
    pub calls: CallSettings,
    /// Notifications to applications by FCM.
    #[serde(default)]
    pub fcm: FcmSettings,
    /// Notifications to applications by APNs.
    #[serde(default)]
    pub apns: ApnsSettings,
    /// What is in front of the server.
    #[serde(default)]
    pub http: HttpSettings,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// FHIR.
    #[serde(default)]
    pub fhir: FhirSettings,
    /// The store.
    #[serde(default)]
    pub store: StoreSettings,
    /// How other systems get their tokens.
    #[serde(default)]
    pub oauth: OauthSettings,
    /// Where notifications of subscriptions may go.
    #[serde(default)]
    pub subscriptions: SubscriptionSettings,
    /// Identity providers that staff sign in at, by their names in addresses.
    #[serde(default)]
    pub identity_provider: BTreeMap<String, IdentityProviderSettings>,
    /// The audit's logs.
    #[serde(default)]
    pub audit: AuditSettings,
    /// Logs.
    #[serde(default)]
    pub log: LogSettings,
    /// Traces.
    #[serde(default)]
    pub otlp: Otlp,
}

/// TLS of the server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate and its chain.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the private key.
    pub private_key_file: Option<PathBuf>,
    /// Whether clients are asked for certificates.
    #[serde(default)]
    pub client_certificates: bool,
}

/// Sessions of the pages.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Ends after this long without a request, seconds.
    pub idle_s: u64,
    /// Ends after this long in any case, seconds.
    pub absolute_s: u64,
    /// How old a second factor may be for something sensitive, seconds; 0 asks each time.
    pub step_up_s: u64,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            idle_s: 900,
            absolute_s: 43_200,
            step_up_s: trust::identity::STEP_UP_S,
        }
    }
}

/// Outgoing mail.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Smtp {
    /// Host of the SMTP server; without one no mail is delivered and messages wait in the outbox.
    pub host: Option<String>,
    /// Port.
    pub port: u16,
    /// TLS.
    pub tls: exchange::MailTls,
    /// User name.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// `From` address.
    pub from: Option<String>,
    /// Domain of `Message-ID`s; that of `from` if not given.
    pub message_id_domain: Option<String>,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Time-out of one conversation, milliseconds.
    pub timeout_ms: u64,
    /// Deliveries at once.
    pub parallel: usize,
    /// E-mails that are handed over in a second, at most; without a limit if not given.
    pub per_second: Option<u32>,
    /// What an e-mail costs; with `currency`.
    pub price: Option<String>,
    /// The currency of that.
    pub currency: Option<String>,
    /// The domain that signs e-mails.
    pub dkim_domain: Option<String>,
    /// What they are signed with: `SELECTOR:FILE`, separated by spaces.
    pub dkim_keys: Option<String>,
    /// The address that return addresses are made from; without one nothing comes back.
    pub returns_to: Option<String>,
    /// File with what who hands in returned mail has to know.
    pub returns_secret_file: Option<PathBuf>,
    /// How long a message counts as under way after a mail server took it, seconds.
    pub returns_wait_s: u64,
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            host: None,
            port: 587,
            tls: exchange::MailTls::Starttls,
            user: None,
            password_file: None,
            from: None,
            message_id_domain: None,
            ca_file: None,
            timeout_ms: 30_000,
            parallel: 4,
            per_second: None,
            price: None,
            currency: None,
            dkim_domain: None,
            dkim_keys: None,
            returns_to: None,
            returns_secret_file: None,
            returns_wait_s: 900,
        }
    }
}

/// More connections than one machine has ports for, from a few clients.
const CONNECTIONS_MAX: usize = 1_000_000;

/// The store.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Memory for the block cache of a store in the data folder, bytes.
    pub cache_bytes: u64,
    /// Where the PostgreSQL database is that holds the store; the data folder does without one.
    pub url: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the database server's certificate.
    pub ca_file: Option<PathBuf>,
    /// The schema of the tables.
    pub schema: String,
    /// Where read replicas of the database are, separated by spaces.
    pub replicas: String,
}

impl std::fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the URL: a password may be in it, when it comes from the environment.
        f.debug_struct("StoreSettings")
            .field("cache_bytes", &self.cache_bytes)
            .field("has_url", &self.url.is_some())
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            url: None,
            password_file: None,
            ca_file: None,
            schema: "cairn".to_owned(),
            replicas: String::new(),
        }
    }
}

/// How other systems get their tokens.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OauthSettings {
    /// Origins that clients' keys may be fetched from, separated by spaces.
    pub key_origins: String,
    /// Whether systems may ask to be registered.
    pub open_registration: bool,
    /// PEM file with the authorities that certificates of clients may lead to.
    pub client_ca_file: Option<PathBuf>,
}

/// FHIR subscriptions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscriptionSettings {
    /// Origins that notifications may go to, separated by spaces.
    pub origins: String,
}

/// FHIR.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FhirSettings {
    /// What is done with resources whose structure is wrong.
    pub validation: record::Validation,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_consent_rules() -> String {
    trust::consent::Rules::DEFAULT.to_owned()
}

fn default_organisation() -> String {
    "Cairn".to_owned()
}

impl Settings {
    /// Reads the configuration: `file` first, then `environment` (all variables; only those that
    /// begin with `CAIRN_` are looked at), then `flags` as pairs of key and value.
    ///
    /// # Errors
    /// [`ConfigError`], which says where the value came from.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read_file(path)?,
            None => toml::Table::new(),
        };
        // The two places of the root key stand for one another: a stronger one displaces a weaker.
        let displace = |table: &mut toml::Table, weaker: &toml::Table, key: &Key| {
            if let Some(rival) = ROOT_KEYS.iter().find(|rival| **rival != key.name)
                && ROOT_KEYS.contains(&key.name)
                && weaker.contains_key(*rival)
            {
                table.remove(*rival);
            }
        };
        let weaker = table.clone();
        for (name, text) in environment {
            if !name.starts_with("CAIRN_") || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let refuse = |reason: String| ConfigError::Environment {
                name: name.clone(),
                reason,
            };
            let (key, place) = found(|key| key.named_by_environment(&name)).map_err(refuse)?;
            displace(&mut table, &weaker, key);
            put(&mut table, key, &place, &text).map_err(refuse)?;
        }
        let weaker = table.clone();
        for (name, text) in flags {
            let refuse = |reason: String| ConfigError::Flag {
                name: name.clone(),
                reason,
            };
            let (key, place) = found(|key| key.named(name)).map_err(refuse)?;
            displace(&mut table, &weaker, key);
            put(&mut table, key, &place, text).map_err(refuse)?;
        }
        let settings = Self::deserialize(table)
            .map_err(|error| ConfigError::Invalid(error.message().to_owned()))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |reason: &str| Err(ConfigError::Invalid(reason.to_owned()));
        if self.root_key.is_some() && self.root_key_file.is_some() {
            return invalid("root_key and root_key_file name two root keys; a store has one");
        }
        if (self.root_key.as_deref()).is_some_and(|uri| !uri.starts_with("pkcs11:")) {
            return invalid(
                "root_key is the URI of a key in a PKCS#11 token; a file is root_key_file",
            );
        }
        if self.tls.certificate_file.is_some() != self.tls.private_key_file.is_some() {
            return invalid("tls.certificate_file and tls.private_key_file go together");
        }
        let encrypted = self.tls.certificate_file.is_some();
        if encrypted && self.behind_tls_proxy {
            return invalid(
                "behind_tls_proxy is for a proxy that ends TLS; with tls.certificate_file the server does",
            );
        }
        if self.tls.client_certificates && !encrypted {
            return invalid(
                "tls.client_certificates needs tls.certificate_file: where a proxy ends TLS, it asks for them, and \
                 http.client_cert_proxies has it tell them",
            );
        }
        if self.oauth.client_ca_file.is_some()
            && !self.tls.client_certificates
            && self.http.client_cert_proxies.trim().is_empty()
        {
            return invalid(
                "oauth.client_ca_file needs tls.client_certificates or http.client_cert_proxies: without them no \
                 certificate of a client is seen",
            );
        }
        if self.behind_tls_proxy && self.public_url.is_none() {
            return invalid(
                "behind_tls_proxy needs public_url, because the server can't know the proxy's address",
            );
        }
        if !encrypted && !self.behind_tls_proxy && !self.listen.ip().is_loopback() {
            return invalid(
                "listen is not a loopback address: patient data would cross the network in the clear; \
                 set tls.certificate_file and tls.private_key_file, or behind_tls_proxy if a proxy ends TLS",
            );
        }
        if self.public_url.as_deref().is_some_and(|url| {
            !(url.starts_with("https://") || url.starts_with("http://")) || url.ends_with('/')
        }) {
            return invalid(
                "public_url begins with https:// (or http://) and has no slash at its end",
            );
        }
        if (encrypted || self.behind_tls_proxy)
            && self
                .public_url
                .as_deref()
                .is_some_and(|url| !url.starts_with("https://"))
        {
            return invalid(
                "public_url begins with https:// where TLS is used: cookies are bound to it",
            );
        }
        if self.session.idle_s == 0 || self.session.absolute_s == 0 {
            return invalid("session.idle_s and session.absolute_s are at least 1");
        }
        // Half a day is longer than a shift: who wants more doesn't want to be asked.
        if self.session.step_up_s > 43_200 {
            return invalid("session.step_up_s is at most 43200; 0 asks each time");
        }
        if !EmergencySettings::ACCESS_S.contains(&self.emergency.access_s)
            || !EmergencySettings::REVIEW_S.contains(&self.emergency.review_s)
        {
            return invalid(
                "emergency.access_s is from 60 to 86400, and emergency.review_s from 3600 to 2592000",
            );
        }
        let alerted = EmergencySettings::addresses(&self.emergency.alert_to);
        if !alerted.map_err(ConfigError::Invalid)?.is_empty() && self.smtp.host.is_none() {
            return invalid(
                "emergency.alert_to needs smtp.host: without a mail server nobody would be told",
            );
        }
        self.audit.check().map_err(ConfigError::Invalid)?;
        if self.limits.header_timeout_ms == 0
            || self.limits.body_timeout_ms == 0
            || self.limits.send_timeout_ms == 0
            || self.limits.idle_timeout_ms == 0
            || self.limits.tenant_at_once == 0
            || self.smtp.timeout_ms == 0
        {
            return invalid(
                "limits.header_timeout_ms, limits.body_timeout_ms, limits.send_timeout_ms, limits.idle_timeout_ms, limits.tenant_at_once and smtp.timeout_ms are at least 1",
            );
        }
        let devices = (self.push.check())
            .and_then(|()| self.fcm.check())
            .and_then(|()| self.apns.check())
            .and_then(|()| self.files().map(drop));
        devices.map_err(ConfigError::Invalid)?;
        if let Err(words) = self.sms.check(&self.smpp, self.public_url.is_some()) {
            return invalid(words);
        }
        self.smtp.check()?;
        self.telehealth.check()?;
        self.demographics.checked()?;
        if self.store.url.is_none()
            && (self.store.password_file.is_some() || self.store.ca_file.is_some())
        {
            return invalid("store.password_file and store.ca_file go with store.url");
        }
        if self.store.url.is_none() && !self.store.replicas.trim().is_empty() {
            return invalid("store.replicas goes with store.url");
        }
        if let Err(words) = crate::key_sets::origins(&self.oauth.key_origins) {
            return Err(ConfigError::Invalid(format!("oauth.key_origins: {words}")));
        }
        if let Err(words) = crate::key_sets::origins(&self.subscriptions.origins) {
            return Err(ConfigError::Invalid(format!(
                "subscriptions.origins: {words}"
            )));
        }
        identity_provider::check(&self.identity_provider)?;
        around::check(self)?;
        if !(0.0..=1.0).contains(&self.otlp.sample_ratio) {
            return invalid("otlp.sample_ratio is from 0 to 1");
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.limits.connections) {
            return invalid("limits.connections is from 1 to 1000000");
        }
        if self.limits.client_connections == 0 || self.limits.client_at_once == 0 {
            return invalid("limits.client_connections and limits.client_at_once are at least 1");
        }
        self.http.check()?;
        if self.smtp.parallel == 0
            || self.limits.fhir_body_bytes == 0
            || self.limits.form_body_bytes == 0
        {
            return invalid(
                "smtp.parallel, limits.fhir_body_bytes and limits.form_body_bytes are at least 1",
            );
        }
        self.smtp.meter().map(drop)
    }

    /// The data folder.
    ///
    /// # Errors
    /// `Invalid` when it is not given.
    pub fn data(&self) -> Result<&Path, ConfigError> {
        self.data.as_deref().ok_or_else(|| {
            ConfigError::Invalid(
                "data is missing: give --data DIR, CAIRN_DATA or data in the file".to_owned(),
            )
        })
    }

    /// Where the store is. Reads the password file.
    ///
    /// # Errors
    /// `Invalid` when neither a database nor a data folder is given, or the password file can't be
    /// read.
    pub fn location(&self) -> Result<ledger::Location, ConfigError> {
        let store = &self.store;
        match &store.url {
            None => Ok(crate::store::in_folder(self.data()?)),
            Some(url) => crate::store::in_database(
                url,
                store.password_file.as_deref(),
                store.ca_file.as_deref(),
                &store.schema,
                &store.replicas,
            )
            .map_err(|error| ConfigError::Invalid(error.to_string())),
        }
    }

    /// Where the root key is.
    ///
    /// # Errors
    /// `Invalid` when neither it nor the data folder is given.
    pub fn root_key(&self) -> Result<RootKeySource, ConfigError> {
        match (&self.root_key, &self.root_key_file) {
            (Some(uri), _) => Ok(RootKeySource::Token(uri.clone())),
            (None, Some(path)) => Ok(RootKeySource::File(path.clone())),
            (None, None) => Ok(RootKeySource::File(store::root_key_path(self.data()?))),
        }
    }

    /// The identity providers that staff sign in at. Reads their keys and secrets.
    ///
    /// # Errors
    /// `Invalid` when a file can't be read or is no key.
    pub fn providers(&self) -> Result<Vec<ProviderOptions>, ConfigError> {
        identity_provider::options(&self.identity_provider)
    }
}

/// Reads and checks the file by itself, so that a mistake in it is told with its line.
fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let refuse = |error: toml::de::Error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    toml::from_str::<Settings>(&text).map_err(refuse)?;
    toml::from_str(&text).map_err(refuse)
}

/// All environment variables of this process that are valid Unicode.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
