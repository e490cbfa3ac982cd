//! What stands in front: proxies that are believed, and addresses that many clients have.

use serde::Deserialize;

use super::ConfigError;
use crate::clients::{Addresses, ForwardedHeader, Proxies};

/// What stands in front. Addresses and networks are separated by spaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Proxies that are believed whose requests they hand on.
    pub trusted_proxies: String,
    /// The header that they write it into.
    pub forwarded_header: ForwardedHeader,
    /// Those of them that write the certificates of their clients into `Client-Cert`.
    pub client_cert_proxies: String,
    /// Addresses that many clients have, of which nothing is believed.
    pub shared_addresses: String,
}

fn list(name: &str, text: &str) -> Result<Addresses, ConfigError> {
    Addresses::parse(text).map_err(|words| invalid(format!("http.{name}: {words}")))
}

fn invalid(words: String) -> ConfigError {
    ConfigError::Invalid(words)
}

impl HttpSettings {
    /// The proxies that are believed.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn proxies(&self) -> Result<Proxies, ConfigError> {
        Proxies::parse(&self.trusted_proxies, self.forwarded_header)
            .map_err(|words| invalid(format!("http.trusted_proxies: {words}")))
    }

    /// Those of them that tell the certificates of their clients.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn client_cert_proxies(&self) -> Result<Addresses, ConfigError> {
        let tellers = list("client_cert_proxies", &self.client_cert_proxies)?;
        match tellers.outside(self.proxies()?.addresses()) {
            None => Ok(tellers),
            Some(network) => Err(invalid(format!(
                "http.client_cert_proxies: {network} is not in http.trusted_proxies, so no header of it is believed"
            ))),
        }
    }

    /// The addresses that many clients have.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn shared_addresses(&self) -> Result<Addresses, ConfigError> {
        let shared = list("shared_addresses", &self.shared_addresses)?;
        match shared.shared_with(self.proxies()?.addresses()) {
            None => Ok(shared),
            Some(network) => Err(invalid(format!(
                "http.shared_addresses: {network} has addresses of http.trusted_proxies: what is written there would \
                 be believed, and is its clients' where connections are passed on as they are"
            ))),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.client_cert_proxies()?;
        self.shared_addresses().map(drop)
    }
}
