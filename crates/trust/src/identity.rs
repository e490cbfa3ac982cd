//! People's accounts, sign-in and sessions.
#![allow(unused_variables, clippy::unused_async)]
use crate::{Agent, Role, TrustError};
use ledger::TenantId;

/// A new account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Tenant.
    pub tenant: TenantId,
    /// User name (staff) or empty (patients sign in by link).
    pub user_name: String,
    /// Name to show.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Password; empty for accounts that sign in by link only.
    pub password: String,
    /// For patients: id of the `Patient`.
    pub patient: Option<String>,
}

/// A signed-in session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Opaque public id (not the cookie's secret).
    pub id: String,
    /// Who.
    pub agent: Agent,
    /// CSRF token that forms carry.
    pub csrf: String,
    /// When it ends at the latest, wall clock.
    pub expires_ms: u64,
}

/// Outcome of a password check.
#[derive(Debug, Clone)]
pub enum SignIn {
    /// A second factor is needed: present this ticket with the code.
    SecondFactor {
        /// Short-lived ticket.
        ticket: String,
    },
    /// The account must set up a second factor first: show this secret (and its otpauth URL).
    EnrolTotp {
        /// Short-lived ticket.
        ticket: String,
        /// Base32 secret.
        secret: String,
        /// `otpauth://` URL.
        url: String,
    },
    /// Done: the cookie's secret.
    Done {
        /// Secret for the cookie.
        secret: String,
        /// The session.
        session: Session,
    },
}

/// Accounts and sessions. Cheap to clone.
#[derive(Clone)]
pub struct Identity {}

impl Identity {
    /// Makes an account. The audit says who did.
    ///
    /// # Errors
    /// `Invalid` when the user name is taken or the password is too weak.
    pub async fn create(&self, by: &Agent, account: NewAccount) -> Result<String, TrustError> { todo!() }
    /// How many accounts a tenant has (0: first start).
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn count(&self, tenant: TenantId) -> Result<usize, TrustError> { todo!() }
    /// Gives an account a TOTP secret without the enrolment dance (demo and recovery); returns it in base32.
    ///
    /// # Errors
    /// `Ledger`, `Invalid`.
    pub async fn set_totp(&self, by: &Agent, account: &str, secret_base32: Option<&str>) -> Result<String, TrustError> { todo!() }
    /// Checks a password (argon2id). Takes as long for unknown names.
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn password(&self, tenant: TenantId, user_name: &str, password: &str) -> Result<SignIn, TrustError> { todo!() }
    /// Checks the second factor (TOTP, RFC 6238; each code once).
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn second_factor(&self, ticket: &str, code: &str) -> Result<SignIn, TrustError> { todo!() }
    /// Makes a sign-in link's secret for a patient; usable once within its life, together with the birth date.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn make_link(&self, by: &Agent, patient: &str, life_s: u64, reusable: bool) -> Result<String, TrustError> { todo!() }
    /// Uses a link with the patient's birth date (`YYYY-MM-DD`).
    ///
    /// # Errors
    /// `SignIn`, `LockedOut`.
    pub async fn use_link(&self, tenant: TenantId, secret: &str, birth_date: &str) -> Result<SignIn, TrustError> { todo!() }
    /// The session behind a cookie's secret; refreshes its idle time-out.
    ///
    /// # Errors
    /// `SignIn` when unknown, idle or over.
    pub async fn session(&self, secret: &str) -> Result<Session, TrustError> { todo!() }
    /// Ends a session.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn sign_out(&self, secret: &str) -> Result<(), TrustError> { todo!() }
    /// Makes an access token for a FHIR client (shown once; only its hash is kept).
    ///
    /// # Errors
    /// `Ledger`, `Invalid`.
    pub async fn create_client(&self, by: &Agent, name: &str, role: Role) -> Result<String, TrustError> { todo!() }
    /// The agent behind a bearer token.
    ///
    /// # Errors
    /// `SignIn`.
    pub async fn bearer(&self, token: &str) -> Result<Agent, TrustError> { todo!() }
}
