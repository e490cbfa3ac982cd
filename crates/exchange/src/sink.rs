//! An SMTP server that keeps what it gets, for the demo: its mailbox is read in the console.
#![allow(unused_variables, clippy::unused_async)]

/// A message that the sink took.
#[derive(Debug, Clone)]
pub struct SunkMessage {
    /// Running number.
    pub number: u64,
    /// When, milliseconds since the epoch (wall clock).
    pub received_ms: u64,
    /// Envelope recipient.
    pub to: String,
    /// `Message-ID` header.
    pub message_id: String,
    /// Subject header, decoded.
    pub subject: String,
    /// Text part, decoded.
    pub text: String,
}

/// The demo's mailbox. Cheap to clone; bounded (the oldest fall out beyond 10,000).
#[derive(Clone, Default)]
pub struct Mailbox {}

impl Mailbox {
    /// Newest first, `limit` of them, of one recipient if given.
    #[must_use]
    pub fn messages(&self, to: Option<&str>, limit: usize) -> Vec<SunkMessage> { todo!() }
    /// One message.
    #[must_use]
    pub fn message(&self, number: u64) -> Option<SunkMessage> { todo!() }
    /// How many were taken in all.
    #[must_use]
    pub fn count(&self) -> u64 { todo!() }
    /// Starts the sink on a loopback port (0: any) and returns the port.
    ///
    /// # Errors
    /// When the port can't be bound.
    pub async fn listen(&self, port: u16, stop: tokio::sync::watch::Receiver<bool>) -> std::io::Result<u16> { todo!() }
}
