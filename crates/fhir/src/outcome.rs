//! `OperationOutcome`: how FHIR says what went wrong (R4, section 2.27).
#![allow(unused_variables)]
use crate::Resource;

/// Issue severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Severity { Fatal, Error, Warning, Information }

/// Issue type codes in use (value set `issue-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum IssueCode {
    Invalid, Structure, Required, Value, Invariant, Security, Login, Forbidden, Processing, NotSupported, Duplicate,
    MultipleMatches, NotFound, Deleted, TooLong, CodeInvalid, Conflict, Transient, Timeout, Throttled, Exception, Informational, BusinessRule,
}

/// One issue.
#[derive(Debug, Clone, PartialEq)]
pub struct Issue {
    /// How bad.
    pub severity: Severity,
    /// Which kind.
    pub code: IssueCode,
    /// What is wrong, in words; no patient details.
    pub diagnostics: String,
    /// FHIRPath of the element concerned.
    pub expression: Option<String>,
}

/// One or more issues, also usable as an error.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.summary())]
pub struct OperationOutcome {
    /// The issues, at least one.
    pub issues: Vec<Issue>,
}

impl OperationOutcome {
    /// One error.
    #[must_use]
    pub fn error(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self { issues: vec![Issue { severity: Severity::Error, code, diagnostics: diagnostics.into(), expression: None }] }
    }
    /// The same with the element concerned.
    #[must_use]
    pub fn at(code: IssueCode, diagnostics: impl Into<String>, expression: impl Into<String>) -> Self {
        Self { issues: vec![Issue { severity: Severity::Error, code, diagnostics: diagnostics.into(), expression: Some(expression.into()) }] }
    }
    /// The first issue's words.
    #[must_use]
    pub fn summary(&self) -> String {
        self.issues.first().map_or_else(String::new, |issue| match &issue.expression {
            Some(expression) => format!("{expression}: {}", issue.diagnostics),
            None => issue.diagnostics.clone(),
        })
    }
    /// As a resource.
    #[must_use]
    pub fn to_resource(&self) -> Resource {
        todo!()
    }
}
