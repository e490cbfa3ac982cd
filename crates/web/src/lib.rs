//! Console and portal, rendered on the server.
//!
//! Knows only the public APIs of the contexts; every handler signs the visitor in, has `trust`
//! decide, and passes the permit on.

/// What the pages need.
#[derive(Clone)]
pub struct WebState {
    /// Identity, policy, vault.
    pub trust: trust::Trust,
    /// Journeys.
    pub journeys: journey::Journeys,
    /// The record.
    pub record: record::Record,
    /// The tenant that this host name serves.
    pub tenant: ledger::TenantId,
    /// Name of the organisation, for titles.
    pub organisation: String,
    /// The demo's mailbox; `None` outside the demo.
    pub mailbox: Option<exchange::sink::Mailbox>,
    /// Demo only: logins to show on the sign-in page (user name, password, TOTP secret, role).
    pub demo_logins: Vec<DemoLogin>,
    /// Demo only: how many times faster than real the care clock runs.
    pub demo_speed: Option<f64>,
    /// Whether cookies are `Secure` (TLS in front or here).
    pub secure_cookies: bool,
}

/// A login that the demo shows.
#[derive(Debug, Clone)]
pub struct DemoLogin {
    /// User name.
    pub user_name: String,
    /// Password.
    pub password: String,
    /// TOTP secret, base32.
    pub totp: String,
    /// Role in words.
    pub role: String,
}

/// All pages and their static files.
pub fn router(state: WebState) -> axum::Router {
    todo!("{}", state.organisation)
}
