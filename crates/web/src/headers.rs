//! The layer around all routes: request id, security headers, caching, and error pages.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use trust::identity::in_browser;

use crate::context::{App, RequestInfo, cookie};
use crate::error::PageError;
use crate::live;

/// No inline script or style anywhere, nothing from elsewhere, nothing framed.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const PERMISSIONS_POLICY: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), midi=(), payment=(), usb=()";

/// A request id from in front of us is kept when it looks like one.
fn request_id(app: &App, request: &Request) -> String {
    request
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (8..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
        .map_or_else(|| app.random_hex(16), str::to_owned)
}

/// What the framework refused in words of its own: pages and static files never answer plain text.
fn made_below(response: &Response) -> Option<PageError> {
    let status = response.status();
    let plain = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let failed = status.is_client_error() || status.is_server_error();
    (failed && plain).then(|| PageError::of_status(status))
}

/// Wraps every route.
pub(crate) async fn layer(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let info = RequestInfo {
        id: request_id(&app, &request),
        theme: match cookie(request.headers(), "cairn-theme") {
            Some("light") => Some("light"),
            Some("dark") => Some("dark"),
            _ => None,
        },
        here: request
            .uri()
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
    };
    request.extensions_mut().insert(info.clone());
    let for_events = request.headers().get(header::ACCEPT);
    let for_events = for_events.is_some_and(|kinds| kinds == live::EVENT_STREAM);
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let user_agent = request.headers().get(header::USER_AGENT).cloned();
    let user_agent = user_agent.as_ref().and_then(|value| value.to_str().ok());
    // A session that this request opens remembers in which browser.
    let mut response = in_browser(user_agent, next.run(request)).await;
    let error = response.extensions_mut().remove::<PageError>();
    let error = error.or_else(|| made_below(&response));
    if let Some(error) = error {
        if let PageError::Internal(inside) = &error {
            tracing::error!(request_id = %info.id, route = route.as_deref().unwrap_or("none"), error = %inside, "page failed");
        }
        let over = for_events.then(|| live::over(&error)).flatten();
        response = over.unwrap_or_else(|| error.page(&app, &info));
    }
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("permissions-policy"),
            PERMISSIONS_POLICY,
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if app.web.secure_cookies {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000; includeSubDomains"),
        );
    }
    // Only static files, which say so themselves, may be kept by a browser or a proxy.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = info.id.parse() {
        headers.insert("x-request-id", value);
    }
    response
}
