//! What a tenant has configured for itself: `NAME.toml` in `tenants_folder`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What stands there instead of the server's own configuration. A path that is not absolute begins at the
/// folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Own {
    /// Name of the organisation, for titles.
    pub(crate) organisation: Option<String>,
    /// Folder with Cedar policies to use instead of the built-in set.
    pub(crate) policy_folder: Option<PathBuf>,
    /// The rule pack that patients' consents are read by: a built-in name, or a file.
    pub(crate) consent_rules: Option<String>,
    /// The time zone that policies know the hour by.
    pub(crate) time_zone: Option<String>,
    /// `From` address of e-mails.
    pub(crate) smtp_from: Option<String>,
    /// The domain that signs its e-mails.
    pub(crate) smtp_dkim_domain: Option<String>,
    /// What they are signed with: `SELECTOR:FILE`, separated by spaces.
    pub(crate) smtp_dkim_keys: Option<String>,
    /// The address that what can't be delivered comes back to.
    pub(crate) smtp_returns_to: Option<String>,
    /// The number that text messages come from, or the id of a messaging service.
    pub(crate) sms_from: Option<String>,
    /// Who the tenant is to a provider of text messages by SMPP.
    pub(crate) smpp_system_id: Option<String>,
    /// File with the password for that.
    pub(crate) smpp_password_file: Option<PathBuf>,
    /// Country of numbers that are written without one.
    pub(crate) sms_country: Option<String>,
    /// The address that people are sent to for visits by video.
    pub(crate) telehealth_join_url: Option<String>,
    /// The partner that holds them, as the tenant's own `partners.toml` names it.
    pub(crate) telehealth_partner: Option<String>,
    /// File with what it shows when it redeems a link.
    pub(crate) telehealth_secret_file: Option<PathBuf>,
    /// Whom links are for.
    pub(crate) telehealth_audience: Option<String>,
    /// Whether demographics are served.
    pub(crate) demographics_serve: Option<bool>,
    /// Where they begin.
    pub(crate) demographics_base: Option<String>,
    /// The rules of the country: a built-in name, or a file.
    pub(crate) demographics_rules: Option<String>,
    /// What numbers begin with that are given out.
    pub(crate) demographics_allocate: Option<String>,
    /// Addresses that are told of each emergency access by e-mail, separated by spaces.
    pub(crate) emergency_alert_to: Option<String>,
    /// Origins that clients' keys may be fetched from.
    pub(crate) key_origins: Option<String>,
    /// Origins that notifications of subscriptions may go to.
    pub(crate) subscription_origins: Option<String>,
    /// Whether systems may ask to be registered.
    pub(crate) open_registration: Option<bool>,
}

impl Own {
    /// Reads a tenant's file; one that has none has nothing of its own.
    pub(crate) fn read(folder: Option<&Path>, tenant: &str) -> Result<Self, String> {
        let Some(folder) = folder else {
            return Ok(Self::default());
        };
        // A tenant's name has no dot and no slash.
        let path = folder.join(format!("{tenant}.toml"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let own: Self =
            toml::from_str(&text).map_err(|error| format!("{}:\n{error}", path.display()))?;
        Ok(Self {
            policy_folder: own.policy_folder.map(|policies| folder.join(policies)),
            smpp_password_file: own.smpp_password_file.map(|file| folder.join(file)),
            telehealth_secret_file: own.telehealth_secret_file.map(|file| folder.join(file)),
            consent_rules: own.consent_rules.map(|rules| in_folder(folder, rules)),
            demographics_rules: own.demographics_rules.map(|rules| {
                match spine::demographics::Rules::built_in().any(|name| name == rules) {
                    true => rules,
                    false => folder.join(rules).display().to_string(),
                }
            }),
            ..own
        })
    }
}

impl Own {
    /// What the server's demographics are for this tenant.
    pub(crate) fn demographics(
        &self,
        mut demographics: crate::config::DemographicsSettings,
    ) -> crate::config::DemographicsSettings {
        if let Some(serve) = self.demographics_serve {
            demographics.serve = serve;
        }
        if let Some(base) = &self.demographics_base {
            demographics.base.clone_from(base);
        }
        if let Some(rules) = &self.demographics_rules {
            demographics.rules.clone_from(rules);
        }
        if self.demographics_allocate.is_some() {
            demographics
                .allocate
                .clone_from(&self.demographics_allocate);
        }
        demographics
    }

    /// What the server's mail options are for this tenant. Where return addresses lead is nobody's of one among several
    /// (`is_named`): what comes back there is handed in at one organisation's address.
    pub(crate) fn mail(
        &self,
        mut mail: exchange::MailOptions,
        folder: Option<&Path>,
        is_named: bool,
    ) -> Result<exchange::MailOptions, String> {
        if let Some(from) = &self.smtp_from {
            mail.from.clone_from(from);
        }
        match (&self.smtp_dkim_domain, &self.smtp_dkim_keys) {
            (Some(domain), Some(keys)) => {
                let told = |error| format!("smtp_dkim_domain and smtp_dkim_keys: {error}");
                let dkim = crate::config::dkim(domain, keys, folder).map_err(told)?;
                mail.dkim = Some(dkim);
            }
            (None, None) if self.smtp_from.is_some() => {
                let domain = mail.from.rsplit('@').next().unwrap_or_default();
                let domain = domain.trim_end_matches('>');
                if mail.dkim.take_if(|dkim| !dkim.speaks_for(domain)).is_some() {
                    tracing::warn!(
                        "mail: this tenant's e-mails are not signed: smtp.dkim_domain does not speak for its smtp_from, and it has no smtp_dkim_domain of its own"
                    );
                }
            }
            (None, None) => {}
            _ => return Err("smtp_dkim_domain and smtp_dkim_keys go together".to_owned()),
        }
        match (&self.smtp_returns_to, &mut mail.returns) {
            (Some(to), Some(returns)) => returns.address.clone_from(to),
            (Some(_), None) => {
                return Err("smtp_returns_to needs smtp.returns_to and smtp.returns_secret_file in the server's configuration".to_owned());
            }
            (None, returns) if is_named => *returns = None,
            (None, _) => {}
        }
        Ok(mail)
    }
}

/// The name of a pack that is built in, or a file of the folder.
fn in_folder(folder: &Path, rules: String) -> String {
    if trust::consent::Rules::built_in().any(|name| name == rules) {
        return rules;
    }
    folder.join(rules).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_a_tenants_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |text| std::fs::write(folder.path().join("north.toml"), text).expect("written");
        let read = || Own::read(Some(folder.path()), "north");
        assert_eq!(read(), Ok(Own::default()));
        write("organisation = 'North Clinic'\npolicy_folder = 'policies'\n");
        let own = read().expect("a file");
        assert_eq!(own.organisation.as_deref(), Some("North Clinic"));
        assert_eq!(own.policy_folder, Some(folder.path().join("policies")));
        write("organization = 'x'\n");
        let error = read().expect_err("a mistake");
        assert!(
            error.contains("north.toml") && error.contains("organization"),
            "{error}"
        );
    }

    fn mail(returns: bool) -> exchange::MailOptions {
        exchange::MailOptions {
            host: "localhost".to_owned(),
            port: 25,
            tls: exchange::MailTls::None,
            credentials: None,
            from: "care@south.example".to_owned(),
            message_id_domain: "south.example".to_owned(),
            portal_base: "https://south.example".to_owned(),
            timeout_ms: 1,
            parallel: 1,
            magic_links: false,
            ca_file: None,
            meter: exchange::Meter::default(),
            dkim: None,
            returns: returns.then(|| exchange::ReturnOptions {
                address: "returns@bounces.south.example".to_owned(),
                secret: "x".repeat(20),
                wait_ms: 0,
            }),
        }
    }

    #[test]
    fn where_mail_comes_back_to_is_a_tenants_own() {
        let own = Own {
            smtp_from: Some("care@north.example".to_owned()),
            smtp_returns_to: Some("returns@bounces.north.example".to_owned()),
            ..Own::default()
        };
        let told = own.mail(mail(true), None, true).expect("options");
        assert_eq!(told.from, "care@north.example");
        let address = told.returns.map(|returns| returns.address);
        assert_eq!(address.as_deref(), Some("returns@bounces.north.example"));
        assert!(own.mail(mail(false), None, true).is_err());
        // What comes back to the server's own address is one organisation's, and not of several.
        let nothing = Own::default();
        for (is_named, expected) in [(false, true), (true, false)] {
            let told = nothing.mail(mail(true), None, is_named).expect("options");
            assert_eq!(told.returns.is_some(), expected, "{is_named}");
        }
        let half = Own {
            smtp_dkim_domain: Some("north.example".to_owned()),
            ..Own::default()
        };
        assert!(half.mail(mail(true), None, true).is_err());
    }
}
