//! What policies know of where a server stands: its time zone, and networks with names.

use super::{ConfigError, Settings, is_label};

pub(super) fn default_time_zone() -> String {
    "UTC".to_owned()
}

pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    let networks = &settings.network;
    if let Some(name) = networks.keys().find(|name| !is_label(name)) {
        return Err(ConfigError::Invalid(format!(
            "network.{name}: its name has 1 to 32 small letters and digits"
        )));
    }
    let named = networks.iter();
    let named = named.map(|(name, list)| (name.as_str(), list.as_str()));
    trust::Surroundings::of("main", &settings.time_zone, named).map_err(ConfigError::Invalid)?;
    let is_hidden = settings.behind_tls_proxy && settings.http.trusted_proxies.trim().is_empty();
    if is_hidden && !networks.is_empty() {
        return Err(ConfigError::Invalid(
            "network names networks of clients, and behind_tls_proxy all come from the proxy's address, unless \
             http.trusted_proxies says whose word about their clients is taken"
                .to_owned(),
        ));
    }
    Ok(())
}
