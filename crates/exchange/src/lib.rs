//! The outside world: takes outbox entries, checks consent, preference and clearance once more,
//! delivers, and writes the outcome into the `Communication` resource.
//!
//! What it does: e-mail over SMTP, at least once, each attempt of one message under the same
//! `Message-ID`, and what comes back of it; text messages by a provider's HTTP API or by SMPP, with its receipts;
//! notifications to browsers by their push services, and to applications on telephones by FCM and APNs; letters and telephone
//! calls as files for a partner (`files/`). What it never does: decide what is said
//! (journeys do), or put a server's words, an address or a number into a log, a metric, a URL or what is written of an
//! attempt.
//!
//! Start reading at `deliverer.rs` (the loop) and `attempt.rs` (one message), then `check.rs` (may it go?),
//! `guard.rs` (does it hold patient details?), `wishes.rs` (is it welcome?), `carrier.rs` (what differs between channels), `mail.rs` and `smtp.rs` (one
//! conversation), `sms/` (text messages), `push/` (notifications) and `retry.rs` (when to try again). [`sink`] is a receiver for the demo.
//!
//! `calls/` calls partners for journeys, each call decided anew when it goes out.
//! `calendar.rs` makes entries for patients' calendars, `dkim.rs` signs e-mails, `returns/` takes what comes back of them.
//! `telehealth/` lets people into visits by video, by links that are good once.
//! `hooks/` delivers the notifications of FHIR `Subscription`s over HTTP, each decided anew as a search of who asked.

mod attempt;
mod breaker;
mod calendar;
mod calls;
mod carrier;
mod check;
mod compose;
mod deliverer;
mod dkim;
mod files;
mod guard;
mod hooks;
mod mail;
mod notice;
mod outcome;
mod pace;
mod push;
mod retry;
mod returns;
pub mod sink;
mod sms;
mod smtp;
mod stay;
mod telehealth;
mod wishes;

pub use breaker::{BreakerStanding, BreakerView, Breakers};
pub use calls::CallDeliverer;
pub use check::{PHI_GUARD, Reason};
pub use compose::{PREFERENCES_PATH, SIGN_IN_LINK_PATH};
pub use deliverer::Deliverer;
pub use dkim::Dkim;
pub use files::{CallOptions, FileDeliverer, FileOptions, FileWay, LetterDelivered, LetterOptions};
pub use hooks::HookDeliverer;
pub use push::{
    ApnsKey, ApnsOptions, FcmOptions, PUSH_SERVICES, PUSH_WORDS, PushOptions, PushServices,
    ServiceAccount, check_app_service, is_push_contact, is_push_unready,
};
pub use returns::{RETURNS_WAIT_MS_MAX, ReturnOptions, ReturnsDoor, Unreturned};
pub use sms::{
    DeliveredWhen, Heard, MessageIds, Price, SMS_HEARD_PATH, SMS_STATUS_PATH, SmppOptions, SmsDoor,
    SmsOptions, SmsProvider, Told, TwilioOptions, Unheard, unready_parts,
};

pub use telehealth::{
    Admitted, Came, Redeemed, Shut, Standing, Telehealth, TelehealthPlace, Turned, Who,
};

/// Where mail goes.
#[derive(Clone)]
pub struct MailOptions {
    /// Host of the SMTP server.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS.
    pub tls: MailTls,
    /// User name and password, if the server wants them.
    pub credentials: Option<(String, String)>,
    /// `From` address.
    pub from: String,
    /// Domain in `Message-ID`s.
    pub message_id_domain: String,
    /// Base URL of the portal, for links.
    pub portal_base: String,
    /// Time-out of one SMTP conversation, milliseconds (real time).
    pub timeout_ms: u64,
    /// Deliveries at once.
    pub parallel: usize,
    /// Whether links sign the patient in with their birth date (magic link) or lead to the sign-in page.
    pub magic_links: bool,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// What mails are signed with, if they are.
    pub dkim: Option<Dkim>,
    /// Where what can't be delivered comes back to, if anywhere.
    pub returns: Option<ReturnOptions>,
    /// What they cost, and how many a second.
    pub meter: Meter,
}

/// What messages of a channel cost, and how many its provider gets in a second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meter {
    /// What one costs that a provider has taken, where that is known.
    pub price: Option<Price>,
    /// How many are handed over in a second at most; as many as fit where there is no limit.
    pub per_second: Option<u32>,
}

impl std::fmt::Debug for MailOptions {
    /// Shows all but the password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MailOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("from", &self.from)
            .field("message_id_domain", &self.message_id_domain)
            .field("portal_base", &self.portal_base)
            .field("timeout_ms", &self.timeout_ms)
            .field("parallel", &self.parallel)
            .field("magic_links", &self.magic_links)
            .field("ca_file", &self.ca_file)
            .field("dkim", &self.dkim)
            .field("returns", &self.returns)
            .field("meter", &self.meter)
            .finish()
    }
}

/// TLS of the SMTP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// None: only for a server on this machine.
    None,
    /// STARTTLS, required.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

/// Whether a text is one e-mail address.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.parse::<lettre::Address>().is_ok()
}
