//! What is told instead of what was asked for: the published codes, each with its status, severity, issue code
//! and display, as an `OperationOutcome`.
//!
//! The words beside a code name what is wrong and where, never what was sent: that may be somebody's name.

use serde_json::{Value, json};

use super::rules::Rules;

/// A published code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Code {
    AccessDenied,
    Unauthorised,
    AdditionalProperties,
    ForbiddenUpdate,
    InvalidatedResource,
    InvalidCreate,
    InvalidMethod,
    InvalidResourceId,
    InvalidSearchData,
    InvalidUpdate,
    InvalidValue,
    TooManyAsked,
    MissingValue,
    MultipleMatches,
    PreconditionFailed,
    ResourceNotFound,
    ResourceVersionMismatch,
    ServiceUnavailable,
    SingleMatch,
    TooFewValues,
    TooManyMatches,
    TooManyRequests,
    TooManyValues,
    UnableToCallService,
    UnknownError,
    UnsupportedCharacters,
    UnsupportedRequest,
    UnsupportedService,
    UnsupportedValue,
    ValidationError,
}

/// What a code is told with: itself, HTTP status, severity, FHIR issue code, display.
pub type Told = (&'static str, u16, &'static str, &'static str, &'static str);

impl Code {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::AccessDenied,
        Self::Unauthorised,
        Self::AdditionalProperties,
        Self::ForbiddenUpdate,
        Self::InvalidatedResource,
        Self::InvalidCreate,
        Self::InvalidMethod,
        Self::InvalidResourceId,
        Self::InvalidSearchData,
        Self::InvalidUpdate,
        Self::InvalidValue,
        Self::TooManyAsked,
        Self::MissingValue,
        Self::MultipleMatches,
        Self::PreconditionFailed,
        Self::ResourceNotFound,
        Self::ResourceVersionMismatch,
        Self::ServiceUnavailable,
        Self::SingleMatch,
        Self::TooFewValues,
        Self::TooManyMatches,
        Self::TooManyRequests,
        Self::TooManyValues,
        Self::UnableToCallService,
        Self::UnknownError,
        Self::UnsupportedCharacters,
        Self::UnsupportedRequest,
        Self::UnsupportedService,
        Self::UnsupportedValue,
        Self::ValidationError,
    ];

    /// What it is told with.
    #[must_use]
    pub const fn told(self) -> Told {
        match self {
            Self::AccessDenied => (
                "ACCESS_DENIED",
                403,
                "error",
                "forbidden",
                "Patient cannot perform this action",
            ),
            Self::Unauthorised => (
                "ACCESS_DENIED",
                401,
                "error",
                "forbidden",
                "Access Denied - Unauthorised",
            ),
            Self::AdditionalProperties => (
                "ADDITIONAL_PROPERTIES",
                400,
                "error",
                "invariant",
                "Additional properties should not be included",
            ),
            Self::ForbiddenUpdate => (
                "FORBIDDEN_UPDATE",
                403,
                "information",
                "forbidden",
                "Update is forbidden",
            ),
            Self::InvalidatedResource => (
                "INVALIDATED_RESOURCE",
                404,
                "error",
                "processing",
                "Resource that has been marked as invalid was requested - invalid resources cannot be retrieved",
            ),
            Self::InvalidCreate => (
                "INVALID_CREATE",
                400,
                "error",
                "value",
                "Patient create data is invalid",
            ),
            Self::InvalidMethod => (
                "INVALID_METHOD",
                403,
                "error",
                "forbidden",
                "Cannot update resource with application-restricted access token",
            ),
            Self::InvalidResourceId => (
                "INVALID_RESOURCE_ID",
                400,
                "error",
                "value",
                "Resource Id is invalid",
            ),
            Self::InvalidSearchData => (
                "INVALID_SEARCH_DATA",
                400,
                "error",
                "value",
                "Search data is invalid",
            ),
            Self::InvalidUpdate => (
                "INVALID_UPDATE",
                400,
                "error",
                "structure",
                "Update is invalid",
            ),
            Self::InvalidValue => (
                "INVALID_VALUE",
                400,
                "error",
                "value",
                "Provided value is invalid",
            ),
            Self::TooManyAsked => (
                "INVALID_VALUE",
                403,
                "error",
                "forbidden",
                "Cannot retrieve more than one result with application-restricted access token",
            ),
            Self::MissingValue => (
                "MISSING_VALUE",
                400,
                "error",
                "required",
                "Required value is missing",
            ),
            Self::MultipleMatches => (
                "MULTIPLE_MATCHES",
                200,
                "error",
                "value",
                "Multiple matches found",
            ),
            Self::PreconditionFailed => (
                "PRECONDITION_FAILED",
                412,
                "error",
                "structure",
                "Required condition was not fulfilled",
            ),
            Self::ResourceNotFound => (
                "RESOURCE_NOT_FOUND",
                404,
                "information",
                "not-found",
                "Resource not found",
            ),
            Self::ResourceVersionMismatch => (
                "RESOURCE_VERSION_MISMATCH",
                409,
                "error",
                "conflict",
                "Resource version supplied does not match actual version",
            ),
            Self::ServiceUnavailable => (
                "SERVICE_UNAVAILABLE",
                503,
                "error",
                "timeout",
                "Service unavailable",
            ),
            Self::SingleMatch => ("SINGLE_MATCH", 200, "error", "value", "Single match found"),
            Self::TooFewValues => (
                "TOO_FEW_VALUES_SUBMITTED",
                400,
                "error",
                "value",
                "Too few values submitted",
            ),
            Self::TooManyMatches => (
                "TOO_MANY_MATCHES",
                200,
                "information",
                "multiple-matches",
                "Too Many Matches",
            ),
            Self::TooManyRequests => (
                "TOO_MANY_REQUESTS",
                429,
                "error",
                "value",
                "Too many requests",
            ),
            Self::TooManyValues => (
                "TOO_MANY_VALUES_SUBMITTED",
                400,
                "error",
                "value",
                "Too many values submitted",
            ),
            Self::UnableToCallService => (
                "UNABLE_TO_CALL_SERVICE",
                408,
                "error",
                "timeout",
                "Unable to call service",
            ),
            Self::UnknownError => ("UNKNOWN_ERROR", 500, "error", "exception", "Unknown Error"),
            Self::UnsupportedCharacters => (
                "UNSUPPORTED_CHARACTERS_IN_FIELD",
                400,
                "error",
                "value",
                "Unsupported characters in field",
            ),
            Self::UnsupportedRequest => (
                "UNSUPPORTED_REQUEST",
                400,
                "error",
                "value",
                "The request is not one that is supported.",
            ),
            Self::UnsupportedService => (
                "UNSUPPORTED_SERVICE",
                400,
                "error",
                "processing",
                "Unsupported Service",
            ),
            Self::UnsupportedValue => (
                "UNSUPPORTED_VALUE",
                400,
                "error",
                "value",
                "Unsupported value",
            ),
            Self::ValidationError => (
                "VALIDATION_ERROR",
                400,
                "error",
                "invalid",
                "Validation error",
            ),
        }
    }
}

/// Why something is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// What is wrong and where, if there is more to say than the code does. Without what was sent.
    pub words: Option<String>,
    /// Other words than the code's own, and another status.
    pub display: Option<String>,
    /// Another status than the code's own.
    pub status: Option<u16>,
}

impl Refusal {
    /// The code alone.
    #[must_use]
    pub fn bare(code: Code) -> Self {
        Self {
            code,
            words: None,
            display: None,
            status: None,
        }
    }
    /// With words beside.
    #[must_use]
    pub fn new(code: Code, words: impl Into<String>) -> Self {
        Self {
            words: Some(words.into()),
            ..Self::bare(code)
        }
    }
    /// The same with another display.
    #[must_use]
    pub fn shown(self, display: impl Into<String>) -> Self {
        Self {
            display: Some(display.into()),
            ..self
        }
    }
    /// A value that is not taken, of a field.
    #[must_use]
    pub fn value(field: &str) -> Self {
        Self::new(
            Code::InvalidValue,
            format!("Invalid value - in field '{field}'"),
        )
    }
    /// A value that is not there.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self::new(Code::MissingValue, format!("Missing value - '{field}'"))
    }
    /// A change that can't be made.
    #[must_use]
    pub fn update(words: &str) -> Self {
        Self::new(
            Code::InvalidUpdate,
            format!("Invalid update with error - {words}"),
        )
    }
    /// A change that is not let be made.
    #[must_use]
    pub fn forbidden(words: &str) -> Self {
        Self::new(
            Code::ForbiddenUpdate,
            format!("Forbidden update with error - {words}"),
        )
    }
    /// Parameters that don't go together.
    #[must_use]
    pub fn search(words: &str) -> Self {
        Self::new(
            Code::InvalidSearchData,
            format!("Invalid search data provided - '{words}'"),
        )
    }
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.code.told().1)
    }
    /// The `OperationOutcome`.
    #[must_use]
    pub fn to_json(&self, rules: &Rules) -> Value {
        let (code, _, severity, issue, display) = self.code.told();
        let mut value = json!({
            "severity": severity,
            "code": issue,
            "details": {"coding": [{
                "system": rules.error_system,
                "version": rules.error_version,
                "code": code,
                "display": self.display.as_deref().unwrap_or(display),
            }]},
        });
        if let Some(words) = &self.words {
            value["diagnostics"] = json!(words);
        }
        json!({"resourceType": "OperationOutcome", "issue": [value]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_told_by_what_fhir_knows() {
        let rules = Rules::named("england").expect("rules");
        for code in Code::ALL {
            let (name, status, ..) = code.told();
            let told = Refusal::bare(code).to_json(&rules);
            let told = fhir::Resource::from_value(told).expect("a resource");
            let issues = fhir::validate::check(&told);
            assert!(issues.is_empty(), "{name}: {issues:?}");
            assert!((200..600).contains(&status), "{name}");
        }
    }
}
