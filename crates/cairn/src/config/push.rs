//! Notifications to browsers, and to applications on telephones.

use std::path::PathBuf;

use serde::Deserialize;

use super::sms::secret;
use super::{ConfigError, Settings};

/// Notifications to the browsers of patients by their push services, and what all notifications share.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushSettings {
    /// Where a push service's operator finds who sends; without it there are no notifications to browsers.
    pub contact: Option<String>,
    /// Who sends, as notifications say it; the organisation's name if not given.
    pub sender: Option<String>,
    /// Origins of the push services that may be asked, separated by spaces.
    pub services: String,
    /// Time-out of one request, milliseconds.
    pub timeout_ms: u64,
    /// Messages at once.
    pub parallel: usize,
    /// Requests that a push service gets in a second, at most; without a limit if not given.
    pub per_second: Option<u32>,
    /// What a message costs; with `currency`.
    pub price: Option<String>,
    /// The currency of that.
    pub currency: Option<String>,
}

/// Notifications to applications by Firebase Cloud Messaging.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcmSettings {
    /// File with the key of a service account; without it no application is told by FCM.
    pub service_account_file: Option<PathBuf>,
    /// Where FCM is.
    pub url: String,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Messages in a second, at most.
    pub per_second: u32,
}

/// Where FCM is.
pub(super) const FCM_URL: &str = "https://fcm.googleapis.com";

impl Default for FcmSettings {
    fn default() -> Self {
        Self {
            service_account_file: None,
            url: FCM_URL.to_owned(),
            ca_file: None,
            per_second: 50,
        }
    }
}

/// Notifications to applications by Apple Push Notification service.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApnsSettings {
    /// File with a team's key for tokens; without it no application is told by APNs.
    pub key_file: Option<PathBuf>,
    /// The key's id.
    pub key_id: Option<String>,
    /// The team's id.
    pub team_id: Option<String>,
    /// The application's bundle id.
    pub topic: Option<String>,
    /// Where APNs is.
    pub url: String,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Messages in a second, at most.
    pub per_second: u32,
}

/// Where APNs is, for applications that are in use.
pub(super) const APNS_URL: &str = "https://api.push.apple.com";

impl Default for ApnsSettings {
    fn default() -> Self {
        Self {
            key_file: None,
            key_id: None,
            team_id: None,
            topic: None,
            url: APNS_URL.to_owned(),
            ca_file: None,
            per_second: 50,
        }
    }
}

impl FcmSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.per_second == 0 {
            return Err("fcm.per_second is at least 1".to_owned());
        }
        if self.ca_file.is_some() && self.service_account_file.is_none() {
            return Err("fcm.ca_file needs fcm.service_account_file".to_owned());
        }
        exchange::check_app_service(&self.url).map_err(|words| format!("fcm.url: {words}"))
    }
}

impl ApnsSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.per_second == 0 {
            return Err("apns.per_second is at least 1".to_owned());
        }
        let named = [
            self.key_file.is_some(),
            self.key_id.is_some(),
            self.team_id.is_some(),
            self.topic.is_some(),
        ];
        if named.contains(&true) && named.contains(&false) {
            return Err(
                "apns.key_file, apns.key_id, apns.team_id and apns.topic go together".to_owned(),
            );
        }
        if self.ca_file.is_some() && self.key_file.is_none() {
            return Err("apns.ca_file needs apns.key_file".to_owned());
        }
        for (name, id) in [("key_id", &self.key_id), ("team_id", &self.team_id)] {
            if (id.as_deref()).is_some_and(|id| !exchange::ApnsOptions::is_id(id)) {
                return Err(format!(
                    "apns.{name} is ten capital letters and digits, as Apple's developer pages show it"
                ));
            }
        }
        let topic = self.topic.as_deref();
        if topic.is_some_and(|topic| !exchange::ApnsOptions::is_topic(topic)) {
            return Err(
                "apns.topic is the application's bundle id, e.g. example.hospital.app".to_owned(),
            );
        }
        exchange::check_app_service(&self.url).map_err(|words| format!("apns.url: {words}"))
    }
}

/// Characters of who sends: what a locked screen shows.
const SENDER_MAX: usize = 60;

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            contact: None,
            sender: None,
            services: exchange::PUSH_SERVICES.to_owned(),
            timeout_ms: 10_000,
            parallel: 4,
            per_second: None,
            price: None,
            currency: None,
        }
    }
}

impl PushSettings {
    fn meter(&self) -> Result<exchange::Meter, String> {
        let price = (self.price.as_deref(), self.currency.as_deref());
        super::sms::meter("push", self.per_second, price)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.timeout_ms == 0 || self.parallel == 0 {
            return Err("push.timeout_ms and push.parallel are at least 1".to_owned());
        }
        let contact = self.contact.as_deref();
        if contact.is_some_and(|contact| !exchange::is_push_contact(contact)) {
            return Err(
                "push.contact is an address at which the operators of push services find you: mailto:it@hospital.example, or one that begins with https://"
                    .to_owned(),
            );
        }
        let sender = self.sender.as_deref().unwrap_or("x").trim();
        if sender.is_empty() || sender.chars().count() > SENDER_MAX {
            return Err(format!(
                "push.sender is a name of at most {SENDER_MAX} characters"
            ));
        }
        self.meter()?;
        exchange::PushServices::parse(&self.services)
            .map(drop)
            .map_err(|words| format!("push.services: {words}"))
    }
}

impl Settings {
    /// What the deliverer of notifications is told; `None` where there are none. Reads the files of its keys. The portal's
    /// address is each house's own, and so is who sends where it isn't said.
    ///
    /// # Errors
    /// `Invalid` when a file can't be read, or holds no key.
    pub fn push(&self) -> Result<Option<exchange::PushOptions>, ConfigError> {
        let push = &self.push;
        let services = exchange::PushServices::parse(&push.services);
        let options = exchange::PushOptions {
            services: services
                .map_err(|words| ConfigError::Invalid(format!("push.services: {words}")))?,
            contact: push.contact.clone(),
            fcm: self.by_fcm()?,
            apns: self.by_apns()?,
            sender: push.sender.clone().unwrap_or_default(),
            portal_base: String::new(),
            timeout_ms: push.timeout_ms,
            parallel: push.parallel,
            // Without them, a patient would be led to a page where only staff can sign in.
            magic_links: true,
            meter: push.meter().map_err(ConfigError::Invalid)?,
        };
        Ok(Some(options).filter(|options| options.ways().any()))
    }

    fn by_fcm(&self) -> Result<Option<exchange::FcmOptions>, ConfigError> {
        let Some(path) = &self.fcm.service_account_file else {
            return Ok(None);
        };
        let setting = "fcm.service_account_file";
        let account = exchange::ServiceAccount::parse(&secret(setting, path)?);
        Ok(Some(exchange::FcmOptions {
            account: account.map_err(|words| {
                ConfigError::Invalid(format!("{setting} {}: {words}", path.display()))
            })?,
            url: self.fcm.url.clone(),
            ca_file: self.fcm.ca_file.clone(),
            per_second: self.fcm.per_second,
        }))
    }

    fn by_apns(&self) -> Result<Option<exchange::ApnsOptions>, ConfigError> {
        let apns = &self.apns;
        let (Some(path), Some(key_id), Some(team_id), Some(topic)) =
            (&apns.key_file, &apns.key_id, &apns.team_id, &apns.topic)
        else {
            return Ok(None);
        };
        let setting = "apns.key_file";
        let key = exchange::ApnsKey::parse(&secret(setting, path)?);
        Ok(Some(exchange::ApnsOptions {
            key: key.map_err(|words| {
                ConfigError::Invalid(format!("{setting} {}: {words}", path.display()))
            })?,
            key_id: key_id.clone(),
            team_id: team_id.clone(),
            topic: topic.clone(),
            url: apns.url.clone(),
            ca_file: apns.ca_file.clone(),
            per_second: apns.per_second,
        }))
    }
}
