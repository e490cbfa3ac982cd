//! Answers for requests that come to no house, in the form of the door that they came to.

use ::fhir::{IssueCode, OperationOutcome};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

use super::fhir::outcome_response;
use crate::houses::Over;

/// Why a request comes to no house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Nobody has the host that it names. Of one that was destroyed no more is said.
    Nobody,
    /// It names no host, or several.
    Unclear,
    /// The tenant is suspended.
    Suspended,
    /// The tenant's house is just being opened, or can't be.
    Opening,
    /// The tenant has taken its share.
    Over(Over),
    /// The client has as much under way as one may.
    TooMany,
    /// All connections but those for operators are taken.
    Full,
    /// As many live pages are open as may be.
    NotLive,
}

/// How soon one asks again, seconds: a suspension is for hours, opening takes a moment.
const SUSPENDED_S: u64 = 300;
const OPENING_S: u64 = 2;
const FULL_S: u64 = 5;
const LIVE_S: u64 = 30;

impl Closed {
    /// Status, code of the issue, words, and after how many seconds one may ask again.
    fn told(self) -> (StatusCode, IssueCode, &'static str, Option<u64>) {
        match self {
            Self::Nobody => (
                StatusCode::MISDIRECTED_REQUEST,
                IssueCode::NotFound,
                "Nothing is served under this host name",
                None,
            ),
            Self::Unclear => (
                StatusCode::BAD_REQUEST,
                IssueCode::Invalid,
                "A request names one host, the same wherever it names it",
                None,
            ),
            Self::Suspended => (
                StatusCode::SERVICE_UNAVAILABLE,
                IssueCode::Transient,
                "This organisation is suspended: nothing of it is read or written until its operator resumes it. \
                 Nothing is lost meanwhile",
                Some(SUSPENDED_S),
            ),
            Self::Opening => (
                StatusCode::SERVICE_UNAVAILABLE,
                IssueCode::Transient,
                "This organisation's pages and records are just being opened; try again in a moment",
                Some(OPENING_S),
            ),
            Self::Over(Over::Rate(wait_s)) => (
                StatusCode::TOO_MANY_REQUESTS,
                IssueCode::Throttled,
                "This organisation has made as many requests a second as it may; try again later",
                Some(wait_s),
            ),
            Self::Over(Over::AtOnce) => (
                StatusCode::TOO_MANY_REQUESTS,
                IssueCode::Throttled,
                "This organisation has as many requests under way as it may have at once; try again later",
                Some(1),
            ),
            Self::Over(Over::Slow) => (
                StatusCode::REQUEST_TIMEOUT,
                IssueCode::Timeout,
                "The form took too long to arrive; send it again",
                None,
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                IssueCode::Throttled,
                "As many requests as one address may have at once are under way; try again when one is answered",
                Some(1),
            ),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                IssueCode::Throttled,
                "The server has as many connections as it may have; try again in a moment",
                Some(FULL_S),
            ),
            Self::NotLive => (
                StatusCode::TOO_MANY_REQUESTS,
                IssueCode::Throttled,
                "As many pages are kept fresh as may be at a time; load this one again to see what is new",
                Some(LIVE_S),
            ),
        }
    }
}

/// Answers whatever is asked with why it is not answered.
pub(super) fn router() -> Router {
    Router::new()
        .fallback(refuse)
        .layer(from_fn(super::format::negotiate))
}

async fn refuse(request: Request) -> Response {
    let closed = request.extensions().get::<Closed>();
    let ends = closed == Some(&Closed::Full) && request.version() <= Version::HTTP_11;
    let (status, code, words, wait_s) = closed.copied().unwrap_or(Closed::Nobody).told();
    let path = request.uri().path();
    let for_programs = ["/api", "/oauth", "/audit", "/health", "/metrics"];
    let mut response = if path.starts_with("/fhir") {
        outcome_response(status, &OperationOutcome::error(code, words))
    } else if for_programs.iter().any(|prefix| path.starts_with(prefix)) {
        (status, Json(json!({ "error": words }))).into_response()
    } else {
        (status, format!("{words}.\n")).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait_s) = wait_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
    }
    if ends {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
