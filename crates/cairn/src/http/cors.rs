//! Answers to applications that run in a browser on another origin (CORS, as Fetch has it).
//!
//! Who may call from there: the pages of applications that are let in, by the origins of their redirect
//! addresses. Where: FHIR, and what an application needs to come by its tokens; no page, and nothing that a
//! cookie opens. A browser is never told to send cookies along: `Access-Control-Allow-Credentials` is nowhere.
//! Other origins are told nothing; what they may ask without a browser's leave is answered as to anybody.

use ::fhir::{IssueCode, OperationOutcome};
use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ledger::TenantId;
use serde_json::json;
use trust::identity::Identity;

use super::fhir::{BASE, outcome_response};
use super::oauth;

/// How long a browser may keep the answer to its question, seconds: an application that is revoked gets no token
/// from then on, whatever its browser believes.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// What FHIR's routes take, and the others.
const FHIR_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const OTHER_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
/// Headers that requests have a meaning with here, beside those that every page may send.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, accept, prefer, if-match, if-none-match, if-modified-since, if-unmodified-since, \
     if-none-exist, idempotency-key, cairn-sequence, x-request-id",
);
/// Headers of answers that the application may read, beside those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag, location, content-location, last-modified, www-authenticate, retry-after, x-progress, warning, accept-patch, \
     cairn-sequence, x-request-id",
);
/// What the answer to a browser's question depends on.
const ASKED: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers",
);
const ORIGIN: HeaderValue = HeaderValue::from_static("origin");
/// An origin is a scheme, a host name and a port.
const ORIGIN_BYTES_MAX: usize = 300;

/// Which origins may call. A copy is a few counts.
#[derive(Clone)]
pub(super) struct Cors {
    pub(super) identity: Identity,
    pub(super) tenant: TenantId,
}

/// Whether pages of other origins may be answered at a path.
pub(super) fn is_open(path: &str) -> bool {
    is_fhir(path) || super::hooks::is_hooks(path) || oauth::FOR_APPS.contains(&path)
}

fn is_fhir(path: &str) -> bool {
    let rest = path.strip_prefix(BASE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Says that answers at a path depend on who asks, to caches between.
pub(super) fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, ORIGIN);
}

impl Cors {
    /// Answers a request with an `Origin`.
    pub(super) async fn around(&self, request: Request, next: Next) -> Response {
        let origin = self.known(request.headers()).await;
        let is_question = *request.method() == Method::OPTIONS
            && (request.headers()).contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if is_question {
            return answer(request.uri().path(), origin);
        }
        let mut response = next.run(request).await;
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        response
    }

    /// The origin of a request, if it is one of an application's.
    async fn known(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut named = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (named.next(), named.next()) else {
            return None;
        };
        let text = origin.to_str().ok()?;
        if text.len() > ORIGIN_BYTES_MAX {
            return None;
        }
        match self.identity.is_origin_of_app(self.tenant, text).await {
            Ok(known) => known.then(|| origin.clone()),
            // Without the answer a browser keeps its page from what it asked for.
            Err(error) => {
                tracing::error!(%error, "the origins of applications can't be read");
                None
            }
        }
    }
}

/// The answer to a browser that asks whether it may send a page's request. Nothing of the request itself is
/// looked at; that is for the request.
fn answer(path: &str, origin: Option<HeaderValue>) -> Response {
    let Some(origin) = origin else {
        const WORDS: &str = "no application that is registered here comes from this origin";
        return if is_fhir(path) {
            let outcome = OperationOutcome::error(IssueCode::Forbidden, WORDS);
            outcome_response(StatusCode::FORBIDDEN, &outcome)
        } else {
            (StatusCode::FORBIDDEN, Json(json!({ "error": WORDS }))).into_response()
        };
    };
    let methods = match is_fhir(path) {
        true => FHIR_METHODS,
        false => OTHER_METHODS,
    };
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        (header::VARY, ASKED),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_and_no_route_with_a_cookie_is_open() {
        for (path, open) in [
            ("/fhir/r4", true),
            ("/fhir/r4/Patient/p", true),
            ("/fhir/r4/.well-known/smart-configuration", true),
            ("/fhir/r4/.well-known/openid-configuration", true),
            ("/.well-known/oauth-authorization-server/fhir/r4", true),
            ("/oauth/token", true),
            ("/oauth/revoke", true),
            ("/oauth/introspect", true),
            ("/oauth/register", true),
            ("/oauth/keys", true),
            ("/cds-services", true),
            ("/cds-services/journeys-of-patient", true),
            ("/cds-servicesx", false),
            ("/fhir/r4x", false),
            ("/fhir", false),
            ("/oauth/authorize", false),
            ("/oauth/token/", false),
            ("/oauth/../console/accounts", false),
            ("/sign-in", false),
            ("/console/accounts", false),
            ("/portal", false),
            ("/api/journeys", false),
            ("/audit/log/checkpoint", false),
            ("/metrics", false),
            ("/health/live", false),
            ("/", false),
        ] {
            assert_eq!(is_open(path), open, "{path}");
        }
    }
}
