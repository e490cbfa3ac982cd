//! Where visits by video are held.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Settings, secret};

/// How long before a visit people may be let in at the most, seconds: a link is good once, and no waiting room.
const OPENS_S_MAX: u64 = 86_400;

/// Where visits by video are held.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelehealthSettings {
    /// The address that people are sent to; without one nobody is let in here.
    pub join_url: Option<String>,
    /// The partner that holds them, as `partners.toml` names it.
    pub partner: Option<String>,
    /// File with what it shows when it redeems a link.
    pub secret_file: Option<PathBuf>,
    /// Whom links are for (`aud`); the origin of `join_url` if not given.
    pub audience: Option<String>,
    /// How long before a visit people are let in, seconds.
    pub opens_s: u64,
}

impl Default for TelehealthSettings {
    fn default() -> Self {
        Self {
            join_url: None,
            partner: None,
            secret_file: None,
            audience: None,
            opens_s: 900,
        }
    }
}

impl TelehealthSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |words: String| Err(ConfigError::Invalid(words));
        let given = [
            self.join_url.is_some(),
            self.partner.is_some(),
            self.secret_file.is_some(),
        ];
        if given != [given[0]; 3] {
            return invalid(
                "telehealth.join_url, telehealth.partner and telehealth.secret_file go together"
                    .to_owned(),
            );
        }
        if self.audience.is_some() && self.join_url.is_none() {
            return invalid("telehealth.audience goes with telehealth.join_url".to_owned());
        }
        if self.opens_s > OPENS_S_MAX {
            return invalid(format!("telehealth.opens_s is at most {OPENS_S_MAX}"));
        }
        Ok(())
    }
}

impl Settings {
    /// Where visits by video are held; `None` when nothing is configured. Reads the secret.
    ///
    /// # Errors
    /// `Invalid` when the file can't be read, or the address or the secret won't do.
    pub fn telehealth(&self) -> Result<Option<exchange::TelehealthPlace>, ConfigError> {
        let settings = &self.telehealth;
        let (Some(join_url), Some(partner), Some(path)) =
            (&settings.join_url, &settings.partner, &settings.secret_file)
        else {
            return Ok(None);
        };
        let place = exchange::TelehealthPlace {
            join_url: join_url.clone(),
            audience: settings.audience.clone(),
            partner: partner.clone(),
            secret: secret("telehealth.secret_file", path)?,
        };
        let told = |words| ConfigError::Invalid(format!("telehealth: {words}"));
        place.check().map_err(told)?;
        Ok(Some(place))
    }
}
