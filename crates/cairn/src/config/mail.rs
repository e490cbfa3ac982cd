//! What e-mails are signed with, and where what can't be delivered comes back to.

use std::path::{Path, PathBuf};

use super::{ConfigError, Smtp};

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

impl Smtp {
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
