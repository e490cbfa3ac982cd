//! What a server listens on and talks to, as its configuration says: the part of a technology asset inventory and of
//! a map of the network that the program knows. It tells no password and no key.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use reqwest::Url;
use serde::Serialize;

use crate::config::{ConfigError, Settings};
use crate::houses::Own;

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Listener,
    PublicAddress,
    Store,
    RootKey,
    Orders,
    Database,
    ReadReplica,
    MailServer,
    TextMessages,
    PushServices,
    HandOver,
    AppServices,
    IdentityProvider,
    ClientKeys,
    Subscribers,
    Partners,
    AuditCollector,
    Witness,
    Traces,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::PublicAddress => "public address",
            Self::Store => "store",
            Self::RootKey => "root key",
            Self::Orders => "operators' orders",
            Self::Database => "database",
            Self::ReadReplica => "read replica",
            Self::MailServer => "mail server",
            Self::TextMessages => "provider of texts",
            Self::PushServices => "push services",
            Self::HandOver => "folder for a partner",
            Self::AppServices => "services of telephones",
            Self::IdentityProvider => "identity provider",
            Self::ClientKeys => "keys of clients",
            Self::Subscribers => "subscribers",
            Self::Partners => "partners",
            Self::AuditCollector => "audit collector",
            Self::Witness => "witness of the audit",
            Self::Traces => "receiver of traces",
        }
    }
    /// What goes there.
    fn carries(self) -> &'static str {
        match self {
            Self::Listener
            | Self::PublicAddress
            | Self::MailServer
            | Self::TextMessages
            | Self::Subscribers
            | Self::Partners => "health information",
            Self::Store | Self::Database | Self::ReadReplica => "sealed health information",
            Self::RootKey => "the key that opens the store",
            Self::Orders => "orders, and lists without health information",
            Self::HandOver => "letters or lists of calls, sealed for the partner",
            Self::PushServices => "that there is a message, sealed for a browser",
            Self::AppServices => "that there is a message, and its address",
            Self::IdentityProvider => "who of the staff signs in",
            Self::ClientKeys => "public keys",
            Self::AuditCollector => "audit records without anything of a patient",
            Self::Witness => "hashes of the audit",
            Self::Traces => "names and durations of requests",
        }
    }
    /// Which way: whoever is there comes here, or is asked from here, or nothing moves.
    fn direction(self) -> &'static str {
        match self {
            Self::Listener | Self::PublicAddress | Self::Orders => "in",
            Self::Store | Self::RootKey => "kept",
            _ => "out",
        }
    }
}

/// How what goes there is kept from others on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnTheWay {
    /// TLS.
    Encrypted,
    /// It stays on this machine.
    OnThisMachine,
    /// It crosses a network as it is.
    InTheClear,
}

impl OnTheWay {
    fn words(self) -> &'static str {
        match self {
            Self::Encrypted => "TLS",
            Self::OnThisMachine => "this machine",
            Self::InTheClear => "IN THE CLEAR",
        }
    }
    fn of(is_encrypted: bool, is_here: bool) -> Self {
        match (is_encrypted, is_here) {
            (true, _) => Self::Encrypted,
            (false, true) => Self::OnThisMachine,
            (false, false) => Self::InTheClear,
        }
    }
}

/// Something that is listened on, kept, or talked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Asset {
    pub(crate) kind: Kind,
    /// Where it is.
    pub(crate) place: String,
    /// The setting that says so.
    pub(crate) setting: String,
    pub(crate) direction: &'static str,
    pub(crate) carries: &'static str,
    pub(crate) on_the_way: OnTheWay,
}

/// What a server is, listens on, keeps and talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Inventory {
    /// This program and its version.
    pub(crate) program: String,
    pub(crate) organisation: String,
    pub(crate) assets: Vec<Asset>,
}

/// Whether a host is this machine, by its name or address.
pub(crate) fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// How an address that begins with `https://` or `http://` is reached, and the address without what may be secret.
fn by_url(text: &str) -> (String, OnTheWay) {
    let Ok(mut url) = Url::parse(text) else {
        return ("(no address)".to_owned(), OnTheWay::InTheClear);
    };
    // An address that can't have them has none.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    let here = url.host_str().is_some_and(is_here);
    (url.to_string(), OnTheWay::of(url.scheme() == "https", here))
}

impl Inventory {
    /// What a configuration says. Reads the files that name others: of witnesses, and of tenants.
    ///
    /// # Errors
    /// `Invalid` when it says too little, or a file can't be read.
    pub(crate) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let mut inventory = Self {
            program: format!("cairn {}", env!("CARGO_PKG_VERSION")),
            organisation: settings.organisation.clone(),
            assets: Vec::new(),
        };
        inventory.doors(settings);
        inventory.kept(settings)?;
        inventory.others(settings)?;
        inventory.of_tenants(settings)?;
        Ok(inventory)
    }

    fn add(&mut self, kind: Kind, setting: &str, place: String, on_the_way: OnTheWay) {
        self.assets.push(Asset {
            kind,
            place,
            setting: setting.to_owned(),
            direction: kind.direction(),
            carries: kind.carries(),
            on_the_way,
        });
    }

    /// An address of the web.
    fn add_url(&mut self, kind: Kind, setting: &str, url: &str) {
        let (place, way) = by_url(url);
        self.add(kind, setting, place, way);
    }

    /// Whom journeys may call, by a folder of policies.
    fn partners(&mut self, of: &str, folder: Option<&Path>) -> Result<(), ConfigError> {
        let Some(folder) = folder else {
            return Ok(());
        };
        let set = trust::PolicySet::load(Some(folder)).map_err(|faults| {
            let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
            ConfigError::Invalid(format!("{}: {}", folder.display(), words.join("; ")))
        })?;
        for partner in set.partners().all() {
            let setting = format!("{} in partners.toml of {of}", partner.name);
            if !partner.base.is_empty() {
                self.add_url(Kind::Partners, &setting, &partner.base);
            }
        }
        Ok(())
    }

    fn doors(&mut self, settings: &Settings) {
        let encrypted = settings.tls.certificate_file.is_some();
        let here = settings.listen.ip().is_loopback();
        let way = OnTheWay::of(encrypted, here);
        self.add(Kind::Listener, "listen", settings.listen.to_string(), way);
        if let Some(url) = &settings.public_url {
            self.add_url(Kind::PublicAddress, "public_url", url);
        }
        if let Some(data) = &settings.data {
            let place = data.join("control").display().to_string();
            self.add(Kind::Orders, "data", place, OnTheWay::OnThisMachine);
        }
    }

    fn kept(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        match settings.location()? {
            ledger::Location::Folder(path) => {
                let place = path.display().to_string();
                self.add(Kind::Store, "data", place, OnTheWay::OnThisMachine);
            }
            ledger::Location::Postgres(postgres) => {
                let servers = postgres.servers();
                let servers = servers.map_err(|error| ConfigError::Invalid(error.to_string()))?;
                for (number, server) in servers.into_iter().enumerate() {
                    let (kind, setting) = match number {
                        0 => (Kind::Database, "store.url"),
                        _ => (Kind::ReadReplica, "store.replicas"),
                    };
                    let way = OnTheWay::of(server.is_encrypted, server.is_here);
                    self.add(kind, setting, server.place, way);
                }
            }
        }
        let key = settings.root_key()?.to_string();
        let setting = match settings.root_key {
            Some(_) => "root_key",
            None => "root_key_file",
        };
        self.add(Kind::RootKey, setting, key, OnTheWay::OnThisMachine);
        Ok(())
    }

    fn others(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        let smtp = &settings.smtp;
        if let Some(host) = &smtp.host {
            let way = OnTheWay::of(smtp.tls != exchange::MailTls::None, is_here(host));
            let place = format!("{host}:{}", smtp.port);
            self.add(Kind::MailServer, "smtp.tls", place, way);
        }
        if settings.sms.account.is_some() {
            self.add_url(Kind::TextMessages, "sms.url", &settings.sms.url);
        }
        for (name, folder) in [
            ("letters.folder", &settings.letters.folder),
            ("calls.folder", &settings.calls.folder),
        ] {
            if let Some(folder) = folder {
                // Whatever is mounted there, what lies in it is sealed.
                let place = folder.display().to_string();
                self.add(Kind::HandOver, name, place, OnTheWay::OnThisMachine);
            }
        }
        if settings.push.contact.is_some() {
            for origin in settings.push.services.split_whitespace() {
                // In the clear only on this machine.
                let way = OnTheWay::of(origin.starts_with("https://"), true);
                self.add(Kind::PushServices, "push.services", origin.to_owned(), way);
            }
        }
        if settings.fcm.service_account_file.is_some() {
            self.add_url(Kind::AppServices, "fcm.url", &settings.fcm.url);
        }
        if settings.apns.key_file.is_some() {
            self.add_url(Kind::AppServices, "apns.url", &settings.apns.url);
        }
        if let Some(host) = &settings.smpp.host {
            let way = OnTheWay::of(settings.smpp.tls, is_here(host));
            let place = format!("{host}:{}", settings.smpp.port);
            self.add(Kind::TextMessages, "smpp.tls", place, way);
        }
        for (id, provider) in &settings.identity_provider {
            let setting = format!("identity_provider.{id}.issuer");
            self.add_url(Kind::IdentityProvider, &setting, &provider.issuer);
        }
        for origin in settings.oauth.key_origins.split_whitespace() {
            self.add_url(Kind::ClientKeys, "oauth.key_origins", origin);
        }
        for origin in settings.subscriptions.origins.split_whitespace() {
            self.add_url(Kind::Subscribers, "subscriptions.origins", origin);
        }
        self.partners("policy_folder", settings.policy_folder.as_deref())?;
        if let Some(address) = &settings.audit.syslog {
            let setting = "audit.syslog";
            self.add(
                Kind::AuditCollector,
                setting,
                address.clone(),
                OnTheWay::Encrypted,
            );
        }
        if let Some(base) = &settings.audit.otlp {
            self.add_url(Kind::AuditCollector, "audit.otlp", base);
        }
        if let Some(file) = &settings.audit.witness_keys_file {
            let witnesses = crate::commands::witnesses(file, settings.audit.witness_quorum);
            let witnesses = witnesses.map_err(|error| {
                ConfigError::Invalid(format!("audit.witness_keys_file: {error:#}"))
            })?;
            for url in witnesses.list().iter().filter_map(ledger::Witness::url) {
                self.add_url(Kind::Witness, "audit.witness_keys_file", url);
            }
        }
        if let Some(endpoint) = &settings.otlp.endpoint {
            self.add_url(Kind::Traces, "otlp.endpoint", endpoint);
        }
        Ok(())
    }

    /// Where tenants let keys be fetched from, and notifications and calls go.
    fn of_tenants(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        let Some(folder) = &settings.tenants_folder else {
            return Ok(());
        };
        let unreadable = |error: std::io::Error| {
            ConfigError::Invalid(format!("tenants_folder {}: {error}", folder.display()))
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            names.extend(
                name.to_str()
                    .and_then(|name| name.strip_suffix(".toml"))
                    .map(str::to_owned),
            );
        }
        names.sort();
        for name in names {
            let own = Own::read(Some(folder), &name).map_err(ConfigError::Invalid)?;
            self.partners(&format!("{name}.toml"), own.policy_folder.as_deref())?;
            let lists = [
                (Kind::ClientKeys, "key_origins", &own.key_origins),
                (
                    Kind::Subscribers,
                    "subscription_origins",
                    &own.subscription_origins,
                ),
            ];
            for (kind, key, list) in lists {
                for origin in list.iter().flat_map(|list| list.split_whitespace()) {
                    self.add_url(kind, &format!("{key} of {name}.toml"), origin);
                }
            }
        }
        Ok(())
    }

    /// As lines for people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{} at {}\n\n", self.program, self.organisation);
        for asset in &self.assets {
            // Writing into a text can't fail.
            let _ = writeln!(
                out,
                "{:4}  {:20}  {:12}  {}  [{}; {}]",
                asset.direction,
                asset.kind.words(),
                asset.on_the_way.words(),
                asset.place,
                asset.setting,
                asset.carries,
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine() {
        for here in ["localhost", "127.0.0.1", "127.3.2.1", "::1", "[::1]"] {
            assert!(is_here(here), "{here}");
        }
        for away in [
            "",
            "mail.example",
            "10.0.0.1",
            "localhost.example",
            "0.0.0.0",
            "::",
        ] {
            assert!(!is_here(away), "{away}");
        }
    }

    #[test]
    fn addresses_tell_nothing_secret() {
        let (place, way) = by_url("http://user:secret@collector.example:4318/x?key=secret");
        assert_eq!(place, "http://collector.example:4318/x");
        assert_eq!(way, OnTheWay::InTheClear);
        assert_eq!(by_url("https://c.example").1, OnTheWay::Encrypted);
        assert_eq!(by_url("http://[::1]:9").1, OnTheWay::OnThisMachine);
        assert_eq!(by_url("nonsense").1, OnTheWay::InTheClear);
    }
}
