//! Identity providers, each in a table of its own: `[identity_provider.hospital]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trust::identity::ClientKey;

use super::ConfigError;
use crate::providers::{ClientAuthentication, ProviderOptions, checked_issuer};

/// The most bytes of a name on a button.
const NAME_BYTES_MAX: usize = 60;
/// The most bytes of a client's id.
const CLIENT_ID_BYTES_MAX: usize = 255;

/// An identity provider that staff sign in at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityProviderSettings {
    /// Its issuer, as it writes it itself.
    pub issuer: String,
    /// Its name on the button.
    pub name: String,
    /// What it calls this server.
    pub client_id: String,
    /// PEM file with the key by which this server proves itself to it.
    pub private_key_file: Option<PathBuf>,
    /// File with a secret to prove itself by, instead.
    pub client_secret_file: Option<PathBuf>,
    /// Scopes to ask for besides `openid`, separated by spaces.
    pub scopes: String,
    /// Values of `acr` that stand for two factors, separated by spaces.
    pub acr: String,
    /// Values of `amr` of which one stands for two factors, separated by spaces.
    pub amr: String,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Checks what can be seen without reading files.
pub(super) fn check(all: &BTreeMap<String, IdentityProviderSettings>) -> Result<(), ConfigError> {
    let (mut issuers, mut keys, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (id, provider) in all {
        let invalid = |words: String| {
            Err(ConfigError::Invalid(format!(
                "identity_provider.{id}{words}"
            )))
        };
        if !super::is_label(id) {
            return invalid(
                ": its name is in addresses, and has 1 to 32 small letters and digits".to_owned(),
            );
        }
        if let Err(words) = checked_issuer(&provider.issuer) {
            return invalid(format!(".issuer {words}"));
        }
        if !issuers.insert(&provider.issuer) {
            return invalid(".issuer is that of another provider, too".to_owned());
        }
        let name = provider.name.trim();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return invalid(format!(
                ".name is missing, or has more than {NAME_BYTES_MAX} bytes"
            ));
        }
        if provider.client_id.is_empty() || provider.client_id.len() > CLIENT_ID_BYTES_MAX {
            return invalid(format!(
                ".client_id is missing, or has more than {CLIENT_ID_BYTES_MAX} bytes"
            ));
        }
        let files = (&provider.private_key_file, &provider.client_secret_file);
        let ((Some(file), None) | (None, Some(file))) = files else {
            return invalid(" needs one of private_key_file and client_secret_file".to_owned());
        };
        // One provider could otherwise pass on to the other what it was shown.
        if !keys.insert(file) {
            return invalid(
                ": its key or secret is that of another provider, too; each needs its own"
                    .to_owned(),
            );
        }
        if !names.insert(name) {
            return invalid(".name is on the button of another provider, too".to_owned());
        }
    }
    Ok(())
}

/// What the server is told; reads the files.
pub(super) fn options(
    all: &BTreeMap<String, IdentityProviderSettings>,
) -> Result<Vec<ProviderOptions>, ConfigError> {
    let each = all.iter().map(|(id, provider)| {
        let at = |key: &str, path: &Path, words: &dyn std::fmt::Display| {
            let path = path.display();
            ConfigError::Invalid(format!("identity_provider.{id}.{key} {path}: {words}"))
        };
        let read = |key: &str, path: &Path| {
            std::fs::read_to_string(path).map_err(|error| at(key, path, &error))
        };
        let authentication = match (&provider.private_key_file, &provider.client_secret_file) {
            (Some(path), _) => {
                let key = "private_key_file";
                let found = ClientKey::parse(&read(key, path)?);
                ClientAuthentication::Key(found.map_err(|error| at(key, path, &error))?)
            }
            (None, Some(path)) => {
                let key = "client_secret_file";
                let secret = read(key, path)?.trim_end_matches(['\r', '\n']).to_owned();
                if secret.is_empty() {
                    return Err(at(key, path, &"the file is empty"));
                }
                ClientAuthentication::Secret(secret)
            }
            (None, None) => return Err(ConfigError::Invalid(format!("identity_provider.{id}"))),
        };
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Ok(ProviderOptions {
            id: id.clone(),
            name: provider.name.trim().to_owned(),
            issuer: provider.issuer.clone(),
            client_id: provider.client_id.clone(),
            authentication,
            scopes: list(&provider.scopes),
            acr: list(&provider.acr),
            amr: list(&provider.amr),
            ca_file: provider.ca_file.clone(),
        })
    });
    each.collect()
}
