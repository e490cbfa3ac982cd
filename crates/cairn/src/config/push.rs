//! Notifications to browsers.

use serde::Deserialize;

use super::Settings;

/// Notifications to the browsers of patients by their push services.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushSettings {
    /// Where a push service's operator finds who sends; without it there are no notifications.
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
    /// What the deliverer of notifications is told; `None` where there are none. The portal's address is each house's
    /// own, and so is who sends where it isn't said.
    #[must_use]
    pub fn push(&self) -> Option<exchange::PushOptions> {
        let push = &self.push;
        Some(exchange::PushOptions {
            services: exchange::PushServices::parse(&push.services).ok()?,
            contact: push.contact.clone()?,
            sender: push.sender.clone().unwrap_or_default(),
            portal_base: String::new(),
            timeout_ms: push.timeout_ms,
            parallel: push.parallel,
            // Without them, a patient would be led to a page where only staff can sign in.
            magic_links: true,
            meter: push.meter().ok()?,
        })
    }
}
