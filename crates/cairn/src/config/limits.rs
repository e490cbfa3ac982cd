//! Bounds of what clients may do.

use serde::Deserialize;

/// Bounds of what a client may send and how slowly, and how slowly it may take its answers.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest body on FHIR routes, bytes. The largest Synthea patient bundles are about 20 MB.
    pub fhir_body_bytes: usize,
    /// Largest body on all other routes, bytes.
    pub form_body_bytes: usize,
    /// A request's headers must be there after this long, milliseconds.
    pub header_timeout_ms: u64,
    /// A request's body must be there after this long, milliseconds.
    pub body_timeout_ms: u64,
    /// A client that takes nothing of its answer for so long is cut off, milliseconds.
    pub send_timeout_ms: u64,
    /// A connection over which nothing goes, and on which nothing is asked for, ends after so long,
    /// milliseconds. A live page says something every 15 seconds.
    pub idle_timeout_ms: u64,
    /// Connections at a time. Each takes a file descriptor, and some tens of kilobytes while it is used.
    pub connections: usize,
    /// Connections of one address at a time. A hospital behind one address has some for each browser.
    pub client_connections: usize,
    /// Requests of one client's address that may be under way at once.
    pub client_at_once: usize,
    /// How long requests under way may take to finish when the server stops, milliseconds.
    /// Below the 30 s that service managers wait before they kill.
    pub drain_ms: u64,
    /// How many requests of one tenant may be under way at once where the store has several, if the tenant
    /// has no bound of its own.
    pub tenant_at_once: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fhir_body_bytes: 64 << 20,
            form_body_bytes: 1 << 20,
            header_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            send_timeout_ms: 60_000,
            idle_timeout_ms: 300_000,
            connections: 10_000,
            client_connections: 2_000,
            client_at_once: 500,
            drain_ms: 25_000,
            tenant_at_once: 1000,
        }
    }
}
