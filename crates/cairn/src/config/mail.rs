//! What e-mails are signed with, and where what can't be delivered comes back to.

use std::path::{Path, PathBuf};

use super::sms::meter;
use super::{ConfigError, Settings, Smtp};

/// Keys of a list: `SELECTOR:FILE`, separated by spaces. A file that is not absolute is looked for in `folder`, if given.
pub(crate) fn dkim(
    domain: &str,
    keys: &str,
    folder: Option<&Path>,
) -> Result<exchange::Dkim, String> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for entry in keys.split_whitespace() {
        let Some((selector, file)) = entry.split_once(':').filter(|(_, file)| !file.is_empty())
        else {
            return Err(format!("{entry:?} is not SELECTOR:FILE"));
        };
        let file = folder.map_or_else(|| PathBuf::from(file), |folder| folder.join(file));
        files.push((selector.to_owned(), file));
    }
    exchange::Dkim::read(domain, &files)
}

impl Settings {
    /// What the mail deliverer is told; `None` when no SMTP server is configured. Reads the
    /// files with the password, with keys and with the secret.
    ///
    /// # Errors
    /// `Invalid` when one of these can't be read or holds what it shouldn't.
    pub fn mail(&self, portal_base: &str) -> Result<Option<exchange::MailOptions>, ConfigError> {
        let (Some(host), Some(from)) = (&self.smtp.host, &self.smtp.from) else {
            return Ok(None);
        };
        let credentials = match (&self.smtp.user, &self.smtp.password_file) {
            (Some(user), Some(path)) => {
                let password = std::fs::read_to_string(path).map_err(|error| {
                    ConfigError::Invalid(format!("smtp.password_file {}: {error}", path.display()))
                })?;
                Some((
                    user.clone(),
                    password.trim_end_matches(['\r', '\n']).to_owned(),
                ))
            }
            _ => None,
        };
        let domain = self.smtp.message_id_domain.clone().unwrap_or_else(|| {
            from.rsplit_once('@')
                .map_or("localhost", |(_, domain)| domain.trim_end_matches('>'))
                .to_owned()
        });
        Ok(Some(exchange::MailOptions {
            host: host.clone(),
            port: self.smtp.port,
            tls: self.smtp.tls,
            credentials,
            from: from.clone(),
            message_id_domain: domain,
            portal_base: portal_base.to_owned(),
            timeout_ms: self.smtp.timeout_ms,
            parallel: self.smtp.parallel,
            // Without them, a patient would be led to a page where only staff can sign in.
            magic_links: true,
            ca_file: self.smtp.ca_file.clone(),
            dkim: self.smtp.dkim()?,
            returns: self.smtp.returns()?,
            meter: self.smtp.meter()?,
        }))
    }
}

impl Smtp {
    /// What an e-mail costs, and how many the server gets in a second.
    pub(super) fn meter(&self) -> Result<exchange::Meter, ConfigError> {
        let price = (self.price.as_deref(), self.currency.as_deref());
        meter("smtp", self.per_second, price).map_err(ConfigError::Invalid)
    }

    /// What goes together, and what has a bound.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |words: &str| Err(ConfigError::Invalid(words.to_owned()));
        if self.user.is_some() != self.password_file.is_some() {
            return invalid("smtp.user and smtp.password_file go together");
        }
        if self.host.is_some() && self.from.is_none() {
            return invalid("smtp.host needs smtp.from");
        }
        if self.dkim_domain.is_some() != self.dkim_keys.is_some() {
            return invalid("smtp.dkim_domain and smtp.dkim_keys go together");
        }
        if self.returns_to.is_some() != self.returns_secret_file.is_some() {
            return invalid("smtp.returns_to and smtp.returns_secret_file go together");
        }
        let most_s = exchange::RETURNS_WAIT_MS_MAX / 1_000;
        if self.returns_wait_s > most_s {
            return invalid(&format!("smtp.returns_wait_s is at most {most_s}"));
        }
        Ok(())
    }

    /// What e-mails are signed with.
    pub(super) fn dkim(&self) -> Result<Option<exchange::Dkim>, ConfigError> {
        let (Some(domain), Some(keys)) = (&self.dkim_domain, &self.dkim_keys) else {
            return Ok(None);
        };
        let told = |error: String| {
            ConfigError::Invalid(format!("smtp.dkim_domain and smtp.dkim_keys: {error}"))
        };
        dkim(domain, keys, None).map(Some).map_err(told)
    }

    /// Where mail comes back to.
    pub(super) fn returns(&self) -> Result<Option<exchange::ReturnOptions>, ConfigError> {
        let (Some(address), Some(path)) = (&self.returns_to, &self.returns_secret_file) else {
            return Ok(None);
        };
        let secret = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::Invalid(format!(
                "smtp.returns_secret_file {}: {error}",
                path.display()
            ))
        })?;
        Ok(Some(exchange::ReturnOptions {
            address: address.clone(),
            secret: secret.trim().to_owned(),
            wait_ms: self.returns_wait_s * 1_000,
        }))
    }
}
