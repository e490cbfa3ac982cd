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
    /// The number that text messages come from, or the id of a messaging service.
    pub(crate) sms_from: Option<String>,
    /// Who the tenant is to a provider of text messages by SMPP.
    pub(crate) smpp_system_id: Option<String>,
    /// File with the password for that.
    pub(crate) smpp_password_file: Option<PathBuf>,
    /// Country of numbers that are written without one.
    pub(crate) sms_country: Option<String>,
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
            consent_rules: own.consent_rules.map(|rules| in_folder(folder, rules)),
            ..own
        })
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
}
