//! Errors as HTTP statuses and `OperationOutcome`s.
use fhir::{Issue, IssueCode, OperationOutcome, Severity};
use ledger::LedgerError;
use trust::TrustError;

/// An error of the record: always an HTTP status and an outcome.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {outcome}")]
pub struct RecordError {
    /// HTTP status.
    pub status: u16,
    /// What to tell the caller.
    pub outcome: OperationOutcome,
    /// The inside story for the log, without patient details.
    pub inside: Option<String>,
}

impl RecordError {
    pub(crate) fn new(status: u16, code: IssueCode, words: impl Into<String>) -> Self {
        Self {
            status,
            outcome: OperationOutcome::error(code, words),
            inside: None,
        }
    }
    pub(crate) fn with(status: u16, outcome: OperationOutcome) -> Self {
        Self {
            status,
            outcome,
            inside: None,
        }
    }
    /// What trust or the store said to a caller, for services over the record.
    #[must_use]
    pub fn of(error: TrustError, caller: &crate::Caller) -> Self {
        Self::from_trust(error, &caller.request_id)
    }
    /// What trust or the store said, as the caller may hear it. The caller gets the request id where
    /// the story stays inside.
    pub(crate) fn from_trust(error: TrustError, request_id: &str) -> Self {
        let inside = |status, code, words: &str, error: &dyn std::fmt::Display| Self {
            status,
            outcome: OperationOutcome::error(code, format!("{words} (request {request_id})")),
            inside: Some(error.to_string()),
        };
        match error {
            TrustError::Refused(refusal) => Self::new(403, IssueCode::Forbidden, refusal.reason),
            TrustError::SignIn => Self::new(401, IssueCode::Login, "sign-in failed"),
            TrustError::LockedOut { wait_s } => Self::new(
                429,
                IssueCode::Throttled,
                format!("too many tries; wait {wait_s} seconds"),
            ),
            TrustError::Invalid(words) => Self::new(422, IssueCode::BusinessRule, words),
            TrustError::Unanswerable(outcome) => Self::with(400, outcome),
            TrustError::TooCostly(words) => Self::new(422, IssueCode::TooCostly, words),
            TrustError::NotYet(words) => Self {
                inside: Some(error.to_string()),
                ..Self::new(503, IssueCode::Transient, words)
            },
            TrustError::Ledger(LedgerError::Conflict | LedgerError::CursorMoved { .. }) => {
                conflict()
            }
            TrustError::Repeated => Self::new(
                409,
                IssueCode::Conflict,
                "a request with the same Idempotency-Key is being carried out; try again",
            ),
            // What the store does not take is too much of something; the words say of what.
            TrustError::Ledger(LedgerError::Invalid(words)) => {
                Self::new(422, IssueCode::TooLong, words)
            }
            TrustError::Ledger(LedgerError::KeyDestroyed) => Self::new(
                410,
                IssueCode::Deleted,
                "the key of this record has been destroyed; nobody can read it any more",
            ),
            TrustError::Ledger(LedgerError::Full { most }) => Self::new(
                507,
                IssueCode::BusinessRule,
                format!(
                    "this organisation stores as many resources as it may ({most}); delete some, or ask the operator for more"
                ),
            ),
            TrustError::Ledger(error @ LedgerError::Closed) => {
                inside(503, IssueCode::Transient, "the server is stopping", &error)
            }
            TrustError::Ledger(error @ LedgerError::Storage(_)) => {
                inside(500, IssueCode::Exception, "the store failed", &error)
            }
            error => inside(500, IssueCode::Exception, "the server failed", &error),
        }
    }
    /// The outcome as the body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        self.outcome.to_resource().to_json()
    }
}

/// Somebody else keeps writing the same resource.
pub(crate) fn conflict() -> RecordError {
    RecordError::new(
        409,
        IssueCode::Conflict,
        "the resource was changed by others at the same time; try again",
    )
}

pub(crate) fn not_supported(status: u16, words: impl Into<String>) -> RecordError {
    RecordError::new(status, IssueCode::NotSupported, words)
}

pub(crate) fn is_conflict(error: &TrustError) -> bool {
    matches!(error, TrustError::Ledger(LedgerError::Conflict))
}

/// The same issues with another place in front: `Patient.name` in entry 3 becomes
/// `Bundle.entry[3].resource.name`.
pub(crate) fn in_entry(
    mut outcome: OperationOutcome,
    index: usize,
    part: &str,
) -> OperationOutcome {
    for issue in &mut outcome.issues {
        let place = format!("Bundle.entry[{index}].{part}");
        issue.expression = Some(match &issue.expression {
            Some(expression) if part == "resource" => match expression.split_once('.') {
                Some((_, rest)) => format!("{place}.{rest}"),
                None => place,
            },
            _ => place,
        });
    }
    outcome
}

/// An outcome that says all is well.
pub(crate) fn information(words: impl Into<String>) -> OperationOutcome {
    let issue = Issue {
        severity: Severity::Information,
        code: IssueCode::Informational,
        diagnostics: words.into(),
        expression: None,
    };
    OperationOutcome {
        issues: vec![issue],
    }
}
