//! `OperationOutcome`: how FHIR says what went wrong (R4, section 2.27).
use crate::{Resource, ResourceType};
use serde_json::{Map, Value};

/// Issue severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Severity {
    Fatal,
    Error,
    Warning,
    Information,
}

impl Severity {
    /// The code of value set `issue-severity`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Information => "information",
        }
    }
}

/// Issue type codes in use (value set `issue-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum IssueCode {
    Invalid,
    Structure,
    Required,
    Value,
    Invariant,
    Security,
    Login,
    Forbidden,
    Processing,
    NotSupported,
    Duplicate,
    MultipleMatches,
    NotFound,
    Deleted,
    TooLong,
    CodeInvalid,
    Conflict,
    Transient,
    Timeout,
    Throttled,
    Exception,
    Informational,
    BusinessRule,
    Incomplete,
    TooCostly,
}

impl IssueCode {
    /// The code of value set `issue-type`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Structure => "structure",
            Self::Required => "required",
            Self::Value => "value",
            Self::Invariant => "invariant",
            Self::Security => "security",
            Self::Login => "login",
            Self::Forbidden => "forbidden",
            Self::Processing => "processing",
            Self::NotSupported => "not-supported",
            Self::Duplicate => "duplicate",
            Self::MultipleMatches => "multiple-matches",
            Self::NotFound => "not-found",
            Self::Deleted => "deleted",
            Self::TooLong => "too-long",
            Self::CodeInvalid => "code-invalid",
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Incomplete => "incomplete",
            Self::TooCostly => "too-costly",
            Self::Exception => "exception",
            Self::Informational => "informational",
            Self::BusinessRule => "business-rule",
        }
    }
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
        Self {
            issues: vec![Issue {
                severity: Severity::Error,
                code,
                diagnostics: diagnostics.into(),
                expression: None,
            }],
        }
    }
    /// The same with the element concerned.
    #[must_use]
    pub fn at(
        code: IssueCode,
        diagnostics: impl Into<String>,
        expression: impl Into<String>,
    ) -> Self {
        Self {
            issues: vec![Issue {
                severity: Severity::Error,
                code,
                diagnostics: diagnostics.into(),
                expression: Some(expression.into()),
            }],
        }
    }
    /// The first issue's words.
    #[must_use]
    pub fn summary(&self) -> String {
        self.issues
            .first()
            .map_or_else(String::new, |issue| match &issue.expression {
                Some(expression) => format!("{expression}: {}", issue.diagnostics),
                None => issue.diagnostics.clone(),
            })
    }
    /// As a resource.
    #[must_use]
    pub fn to_resource(&self) -> Resource {
        let issues = self.issues.iter().map(|issue| {
            let mut members = Map::new();
            members.insert("severity".to_owned(), issue.severity.code().into());
            members.insert("code".to_owned(), issue.code.code().into());
            if !issue.diagnostics.is_empty() {
                members.insert("diagnostics".to_owned(), issue.diagnostics.as_str().into());
            }
            if let Some(expression) = &issue.expression {
                members.insert("expression".to_owned(), vec![expression.as_str()].into());
            }
            Value::Object(members)
        });
        let mut resource = Resource::new(ResourceType::OperationOutcome);
        resource.set("issue", issues.collect());
        resource
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_resource_it_is_valid() {
        let mut outcome = OperationOutcome::at(IssueCode::Required, "is missing", "Patient.name");
        outcome
            .issues
            .extend(OperationOutcome::error(IssueCode::BusinessRule, "no").issues);
        assert_eq!(outcome.to_string(), "Patient.name: is missing");
        let resource = outcome.to_resource();
        assert_eq!(
            String::from_utf8(resource.to_json()).unwrap(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"required","diagnostics":"is missing","expression":["Patient.name"]},{"severity":"error","code":"business-rule","diagnostics":"no"}]}"#
        );
        assert_eq!(crate::validate::check(&resource), []);
    }
}
