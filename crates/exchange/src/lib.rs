//! The outside world: takes outbox entries, checks consent, preference and clearance once more,
//! delivers, and writes the outcome into the `Communication` resource.
#![allow(unused_variables, clippy::unused_async)]

pub mod sink;

use trust::Trust;

/// Where mail goes.
#[derive(Debug, Clone)]
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

/// Takes e-mail entries from the outbox and delivers them, until `stop` says so.
pub struct MailDeliverer {}

impl MailDeliverer {
    /// Checks options; does not connect yet.
    ///
    /// # Errors
    /// In words, when options don't fit together (e.g. credentials without TLS to another machine).
    pub fn new(trust: Trust, options: MailOptions) -> Result<Self, String> { todo!() }
    /// Runs until `stop` turns true; finishes conversations under way.
    pub async fn run(self, stop: tokio::sync::watch::Receiver<bool>) { todo!() }
}
