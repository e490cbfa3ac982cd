//! What can go wrong between asking and getting.

/// A "no" with its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// In words that may be shown to the person who asked; no patient details.
    pub reason: String,
    /// The ids of the policies or the consent that decided.
    pub because: Vec<String>,
}

/// An error of the trust context.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Policy, consent or scope says no. The refusal has been audited.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The store's error, kept as it is.
    #[error(transparent)]
    Ledger(ledger::LedgerError),
    /// A resource in the store does not parse.
    #[error("a stored resource does not parse: {0}")]
    Damaged(String),
    /// A policy file does not validate.
    #[error("policy: {0}")]
    Policy(String),
    /// Bad user name, password, code or link; says nothing about which.
    #[error("sign-in failed")]
    SignIn,
    /// Too many failed tries; try again later.
    #[error("too many tries; wait {wait_s} seconds")]
    LockedOut {
        /// Seconds to wait.
        wait_s: u64,
    },
    /// What was asked for would take more work than one request may; in words, how much.
    #[error("{0}")]
    TooCostly(String),
    /// What was asked for has to wait for what others are doing; in words, for what.
    #[error("{0}")]
    NotYet(&'static str),
    /// What was asked for can't be answered from what is stored; which part of it, and why.
    #[error("{0}")]
    Unanswerable(fhir::OperationOutcome),
    /// A request with the same key was carried out in between.
    #[error("a request with the same key was carried out in between")]
    Repeated,
    /// A request of identity that can't be done (e.g. account exists), in words.
    #[error("{0}")]
    Invalid(String),
}

impl From<ledger::LedgerError> for TrustError {
    fn from(error: ledger::LedgerError) -> Self {
        Self::Ledger(error)
    }
}
