//! Outgoing text messages.

use std::path::PathBuf;

use serde::Deserialize;
use trust::sms::Country;

use super::{ConfigError, Settings};

/// A provider of text messages with an HTTP API of the form that Twilio gave it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsSettings {
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

/// Where Twilio itself is.
pub(super) const URL: &str = "https://api.twilio.com";
/// An answer that says nothing about anybody, and that nobody reads at once what was sent.
pub(super) const HELP: &str = "This number sends notices from your care team. Nobody reads at once what you send to it. In an emergency, call your local emergency number. Send STOP to get no more.";

impl Default for SmsSettings {
    fn default() -> Self {
        Self {
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

impl SmsSettings {
    fn priced(&self) -> Option<exchange::Price> {
        exchange::Price::parse(self.price.as_deref()?, self.currency.as_deref()?)
    }
    pub(super) fn check(&self, has_address: bool) -> Result<(), &'static str> {
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
        Ok(())
    }
}

impl Settings {
    /// What the deliverer of text messages is told; `None` when no account is configured. Reads the token's file. The
    /// addresses of portal and callbacks are each house's own.
    ///
    /// # Errors
    /// `Invalid` when the file can't be read.
    pub fn sms(&self) -> Result<Option<exchange::SmsOptions>, ConfigError> {
        let sms = &self.sms;
        let (Some(account), Some(path), Some(from)) = (&sms.account, &sms.token_file, &sms.from)
        else {
            return Ok(None);
        };
        let read = |name: &str, path: &PathBuf| {
            let token = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::Invalid(format!("sms.{name} {}: {error}", path.display()))
            })?;
            Ok::<_, ConfigError>(token.trim_end_matches(['\r', '\n']).to_owned())
        };
        let old_token = sms.old_token_file.as_ref();
        let old_token = old_token.map(|path| read("old_token_file", path));
        Ok(Some(exchange::SmsOptions {
            provider: exchange::TwilioOptions {
                base: sms.url.clone(),
                account: account.clone(),
                token: read("token_file", path)?,
                old_token: old_token.transpose()?,
                from: from.clone(),
                timeout_ms: sms.timeout_ms,
            },
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
}
