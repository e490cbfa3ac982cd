//! The decision: Cedar policies over role, purpose, action and target.
#![allow(unused_variables, clippy::unused_async, clippy::needless_pass_by_value)]
use std::sync::Arc;

use crate::{Action, Agent, Permit, Purpose, Target, TrustError, Vault, identity::Identity};
use ledger::{Clock, Ledger};

/// How to set trust up.
pub struct TrustOptions {
    /// The store.
    pub ledger: Ledger,
    /// Real time, for sessions, links and one-time codes.
    pub wall_clock: Arc<dyn Clock>,
    /// A folder with `*.cedar` policies to use instead of the built-in set.
    pub policy_folder: Option<std::path::PathBuf>,
    /// Session idle time-out, seconds.
    pub session_idle_s: u64,
    /// Session absolute time-out, seconds.
    pub session_absolute_s: u64,
}

/// Identity, policy, consent and audit of a server. Cheap to clone.
#[derive(Clone)]
pub struct Trust {}

impl Trust {
    /// Loads and validates policies.
    ///
    /// # Errors
    /// `Policy` with file and position.
    pub fn new(options: TrustOptions) -> Result<Self, TrustError> { todo!() }
    /// Decides, and mints a permit on "yes". A "no" is audited before it is returned.
    ///
    /// # Errors
    /// `Refused`, `Ledger`.
    pub async fn decide(&self, agent: &Agent, purpose: Purpose, action: Action, target: Target, request_id: &str) -> Result<Permit, TrustError> { todo!() }
    /// The gate to the record.
    #[must_use]
    pub fn vault(&self) -> &Vault { todo!() }
    /// Accounts and sessions.
    #[must_use]
    pub fn identity(&self) -> &Identity { todo!() }
    /// Real time.
    #[must_use]
    pub fn wall_clock(&self) -> &Arc<dyn Clock> { todo!() }
    /// Every role × action × kind of target decided, as lines for a snapshot.
    #[must_use]
    pub fn matrix(&self) -> Vec<String> { todo!() }
}
