//! Outgoing text messages: by a provider's HTTP API, or by SMPP.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use trust::sms::Country;

use super::{ConfigError, Settings};

/// How a provider of text messages is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmsWay {
    /// An HTTP API of the form that Twilio gave it.
    #[default]
    Http,
    /// SMPP 3.4.
    Smpp,
}

/// A provider of text messages: by an HTTP API of the form that Twilio gave it, or by SMPP.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsSettings {
    /// How the provider is reached.
    pub provider: SmsWay,
    /// The account; without one no text message is delivered, and they wait in the outbox.
    pub account: Option<String>,
    /// File with the account's token.
    pub token_file: Option<PathBuf>,
    /// File with the token before, while it changes.
    pub old_token_file: Option<PathBuf>,
    /// The number that messages come from, or the id of a messaging service.
    pub from: Option<String>,
    /// Base URL of the API.
    pub url: String,
    /// Country of numbers that are written without one; without it these are none.
    pub country: Option<String>,
    /// What has to be known of a message before it counts as delivered.
    pub delivered_when: exchange::DeliveredWhen,
    /// What somebody is told who sends HELP, or anything else.
    pub help: String,
    /// What a segment costs; with `currency`.
    pub price: Option<String>,
    /// The currency of that.
    pub currency: Option<String>,
    /// Segments that are handed over in a second, at most.
    pub per_second: u32,
    /// Time-out of one message, milliseconds.
    pub timeout_ms: u64,
    /// Deliveries at once.
    pub parallel: usize,
}

/// A provider of text messages by SMPP 3.4.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmppSettings {
    /// Host of the message centre.
    pub host: Option<String>,
    /// Port.
    pub port: u16,
    /// Whether it speaks TLS from the first byte.
    pub tls: bool,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Who we are.
    pub system_id: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// The type of our system, if the provider wants one.
    pub system_type: Option<String>,
    /// How the provider writes what it calls a message.
    pub message_ids: exchange::MessageIds,
    /// Messages that may wait for an answer at once.
    pub window: usize,
    /// Silence after which the other side is asked whether it is there, milliseconds.
    pub enquire_ms: u64,
}

impl Default for SmppSettings {
    fn default() -> Self {
        Self {
            host: None,
            port: 3550,
            tls: true,
            ca_file: None,
            system_id: None,
            password_file: None,
            system_type: None,
            message_ids: exchange::MessageIds::default(),
            window: 10,
            enquire_ms: 30_000,
        }
    }
}

impl SmppSettings {
    fn check(&self, sms: &SmsSettings) -> Result<(), &'static str> {
        if self.window == 0 || self.enquire_ms == 0 {
            return Err("smpp.window and smpp.enquire_ms are at least 1");
        }
        match sms.provider {
            SmsWay::Http if self.host.is_some() => {
                Err("smpp.host goes together with sms.provider = \"smpp\"")
            }
            SmsWay::Smpp if sms.account.is_some() || sms.token_file.is_some() => Err(
                "sms.account and sms.token_file are of a provider by HTTP, and sms.provider is smpp",
            ),
            SmsWay::Smpp
                if self.host.is_none()
                    || self.system_id.is_none()
                    || self.password_file.is_none()
                    || sms.from.is_none() =>
            {
                Err(
                    "sms.provider = \"smpp\" needs smpp.host, smpp.system_id, smpp.password_file and sms.from",
                )
            }
            SmsWay::Http | SmsWay::Smpp => Ok(()),
        }
    }
}

/// Where Twilio itself is.
pub(super) const URL: &str = "https://api.twilio.com";
/// An answer that says nothing about anybody, and that what was sent may not be read: where nothing was asked, nobody does.
pub(super) const HELP: &str = "This number sends notices from your care team. What you send to it may not be read. In an emergency, call your local emergency number. Send STOP to get no more.";

impl Default for SmsSettings {
    fn default() -> Self {
        Self {
            provider: SmsWay::default(),
            account: None,
            token_file: None,
            old_token_file: None,
            from: None,
            url: URL.to_owned(),
            country: None,
            delivered_when: exchange::DeliveredWhen::default(),
            help: HELP.to_owned(),
            price: None,
            currency: None,
            per_second: 10,
            timeout_ms: 15_000,
            parallel: 4,
        }
    }
}

/// What messages of a channel cost, and how many its provider gets in a second, as the section `of` has it.
///
/// # Errors
/// In words, where one of these can't be.
pub(super) fn meter(
    of: &str,
    per_second: Option<u32>,
    (price, currency): (Option<&str>, Option<&str>),
) -> Result<exchange::Meter, String> {
    if per_second == Some(0) {
        return Err(format!("{of}.per_second is at least 1"));
    }
    let price = match (price, currency) {
        (None, None) => Some(None),
        (Some(price), Some(currency)) => exchange::Price::parse(price, currency).map(Some),
        _ => None,
    };
    let price = price.ok_or_else(|| {
        format!("{of}.price (0.0004) and {of}.currency (USD) go together: an amount with at most six decimals, and the code of a currency")
    })?;
    Ok(exchange::Meter { price, per_second })
}

impl SmsSettings {
    fn priced(&self) -> Option<exchange::Price> {
        exchange::Price::parse(self.price.as_deref()?, self.currency.as_deref()?)
    }
    pub(super) fn check(&self, smpp: &SmppSettings, has_address: bool) -> Result<(), &'static str> {
        smpp.check(self)?;
        if self.timeout_ms == 0 || self.parallel == 0 || self.per_second == 0 {
            return Err("sms.timeout_ms, sms.parallel and sms.per_second are at least 1");
        }
        if self.account.is_some() && (self.token_file.is_none() || self.from.is_none()) {
            return Err("sms.account needs sms.token_file and sms.from");
        }
        if self.old_token_file.is_some() && self.token_file.is_none() {
            return Err("sms.old_token_file needs sms.token_file");
        }
        if (self.country.as_deref()).is_some_and(|country| Country::parse(country).is_none()) {
            return Err("sms.country is a country's two letters (ISO 3166-1), e.g. US");
        }
        let is_priced = self.price.is_some() || self.currency.is_some();
        if is_priced && self.priced().is_none() {
            return Err(
                "sms.price (0.0079) and sms.currency (USD) go together: an amount with at most six decimals, and the code of a currency",
            );
        }
        if self.account.is_some() && !has_address {
            return Err(
                "sms.account needs public_url: the provider tells there what became of messages",
            );
        }
        if self.provider == SmsWay::Smpp && !has_address {
            return Err(
                "sms.provider = \"smpp\" needs public_url: messages have links that lead there",
            );
        }
        Ok(())
    }
}

impl Settings {
    /// What the deliverer of text messages is told; `None` when no provider is configured. Reads the files of its secrets.
    /// The addresses of portal and callbacks are each house's own.
    ///
    /// # Errors
    /// `Invalid` when a file can't be read.
    pub fn sms(&self) -> Result<Option<exchange::SmsOptions>, ConfigError> {
        let sms = &self.sms;
        let provider = match sms.provider {
            SmsWay::Http => self.by_http()?,
            SmsWay::Smpp => self.by_smpp()?,
        };
        let Some(provider) = provider else {
            return Ok(None);
        };
        Ok(Some(exchange::SmsOptions {
            provider,
            country: sms.country.clone(),
            portal_base: String::new(),
            callback_base: String::new(),
            parallel: sms.parallel,
            per_second: sms.per_second,
            price: sms.priced(),
            delivered_when: sms.delivered_when,
            // Without them, a patient would be led to a page where only staff can sign in.
            magic_links: true,
            help: sms.help.clone(),
        }))
    }

    fn by_http(&self) -> Result<Option<exchange::SmsProvider>, ConfigError> {
        let sms = &self.sms;
        let (Some(account), Some(path), Some(from)) = (&sms.account, &sms.token_file, &sms.from)
        else {
            return Ok(None);
        };
        let old_token = sms.old_token_file.as_ref();
        let old_token = old_token.map(|path| secret("sms.old_token_file", path));
        let options = exchange::TwilioOptions {
            base: sms.url.clone(),
            account: account.clone(),
            token: secret("sms.token_file", path)?,
            old_token: old_token.transpose()?,
            from: from.clone(),
            timeout_ms: sms.timeout_ms,
        };
        Ok(Some(exchange::SmsProvider::Http(options)))
    }

    fn by_smpp(&self) -> Result<Option<exchange::SmsProvider>, ConfigError> {
        let (sms, smpp) = (&self.sms, &self.smpp);
        let (Some(host), Some(system_id), Some(path), Some(from)) =
            (&smpp.host, &smpp.system_id, &smpp.password_file, &sms.from)
        else {
            return Ok(None);
        };
        let options = exchange::SmppOptions {
            host: host.clone(),
            port: smpp.port,
            tls: smpp.tls,
            ca_file: smpp.ca_file.clone(),
            system_id: system_id.clone(),
            password: secret("smpp.password_file", path)?,
            system_type: smpp.system_type.clone().unwrap_or_default(),
            from: from.clone(),
            message_ids: smpp.message_ids,
            window: smpp.window,
            enquire_ms: smpp.enquire_ms,
            timeout_ms: sms.timeout_ms,
        };
        Ok(Some(exchange::SmsProvider::Smpp(options)))
    }
}

/// The text of a secret's file, without the line's end.
pub(crate) fn secret(setting: &str, path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Invalid(format!("{setting} {}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
