//! Layers around every route.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt};
use ledger::Entropy;
use metrics::{Counter, Histogram};
use tokio::sync::watch;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tracing::Instrument;
use trust::origin::Door;

use super::cors::{self, Cors};
use crate::config::Limits;

/// The header that carries the request id, in and out.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: ties log, audit, trace and answer together.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String, pub(super) Sent);

/// What a client sent as the id of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// None, or an empty one.
    Nothing,
    /// What is taken.
    Taken,
    /// What does not look like an id; another was made.
    Else,
}

/// How a request came in: from which address, and by which door.
#[derive(Clone, Default)]
pub(crate) struct Entrance {
    pub(crate) client: Option<IpAddr>,
    pub(crate) door: Option<Arc<dyn Door>>,
}

/// Bounds the body of routes that aren't FHIR's: its size and how slowly it may come. The size is
/// kept by whoever reads the body, so that the refusal looks like the other answers of that door.
pub(super) fn bound_body<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    limits: &Limits,
) -> Router<S> {
    router
        .layer(axum::extract::DefaultBodyLimit::max(limits.form_body_bytes))
        .layer(RequestBodyTimeoutLayer::new(Duration::from_millis(
            limits.body_timeout_ms,
        )))
}

/// The layers that all routes share.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) entropy: Arc<dyn Entropy>,
    /// How long a client may take nothing of its answer.
    pub(crate) patience: Duration,
    /// Whether the server is reached by TLS.
    pub(crate) is_https: bool,
    meters: Arc<Meters>,
}

impl Around {
    pub(crate) fn new(entropy: Arc<dyn Entropy>, patience: Duration, is_https: bool) -> Self {
        Self {
            entropy,
            patience,
            is_https,
            meters: Arc::default(),
        }
    }

    /// Puts the layers around `router`. A layer of a router is memory taken and a copy made for each request,
    /// and those inside it are copied with it; so there is one, and what need not know the route lies around
    /// the whole. `cors` is there where pages of other origins may be answered.
    pub(super) fn put(
        &self,
        router: Router,
        cors: Option<Cors>,
        streams_stopped: watch::Receiver<bool>,
    ) -> Router {
        let watch = Watch {
            cors: cors.map(Arc::new),
            entropy: Arc::clone(&self.entropy),
            streams_stopped,
            patience: self.patience,
            meters: Arc::clone(&self.meters),
        };
        let header = |name: HeaderName, value: Option<&'static str>| {
            SetResponseHeaderLayer::if_not_present(name, value.map(HeaderValue::from_static))
        };
        let whole = ServiceBuilder::new()
            .layer(header(header::X_CONTENT_TYPE_OPTIONS, Some("nosniff")))
            .layer(header(header::REFERRER_POLICY, Some("no-referrer")))
            .layer(header(
                header::STRICT_TRANSPORT_SECURITY,
                self.is_https.then_some("max-age=31536000"),
            ))
            .layer(
                CompressionLayer::new()
                    .gzip(true)
                    .compress_when(Compressible),
            )
            .service(router.layer(from_fn_with_state(watch, observe)));
        Router::new().fallback_service(whole)
    }
}

/// What is needed to watch over requests.
#[derive(Clone)]
struct Watch {
    cors: Option<Arc<Cors>>,
    entropy: Arc<dyn Entropy>,
    streams_stopped: watch::Receiver<bool>,
    /// How long a client may take nothing of its answer.
    patience: Duration,
    meters: Arc<Meters>,
}

/// The meters of requests, kept because looking one up by its labels costs more than counting. Bounded:
/// routes, methods and statuses are those of the program text.
#[derive(Default)]
struct Meters(RwLock<HashMap<Box<str>, OfRoute>>);

type OfRoute = HashMap<(&'static str, u16), (Counter, Histogram)>;

impl Meters {
    fn note(&self, method: &'static str, route: &str, status: u16, seconds: f64) {
        let note = |(requests, duration): &(Counter, Histogram)| {
            requests.increment(1);
            duration.record(seconds);
        };
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(meters) = known.get(route).and_then(|of| of.get(&(method, status))) {
            note(meters);
            return;
        }
        drop(known);
        let label = route.to_owned();
        let requests = metrics::counter!("cairn_http_requests_total", "method" => method, "route" => label.clone(), "status" => status.to_string());
        let duration = metrics::histogram!("cairn_http_request_duration_seconds", "method" => method, "route" => label);
        let meters = (requests, duration);
        note(&meters);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(route.into())
            .or_default()
            .insert((method, status), meters);
    }
}

/// Gives the request its id, counts it, logs it, traces it, and turns a panic into a 500.
///
/// Of the address, only the route's pattern goes into log, metric and trace: a path may hold what a
/// client put there by mistake, and a query string is full of patient details.
async fn observe(State(watch): State<Watch>, mut request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let sent = request.headers().get(&REQUEST_ID);
    let taken = sent
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_request_id(text));
    let how = match (sent, taken) {
        (_, Some(_)) => Sent::Taken,
        (Some(value), None) if !value.is_empty() => Sent::Else,
        (_, None) => Sent::Nothing,
    };
    let id = taken.map_or_else(|| new_request_id(watch.entropy.as_ref()), str::to_owned);
    let id_value =
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    request.headers_mut().insert(REQUEST_ID, id_value.clone());
    request.extensions_mut().insert(RequestId(id.clone(), how));
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method_name(request.method());
    let path = request.uri().path();
    let is_fhir = path.starts_with("/fhir") || path.contains("/FHIR/");
    let cors = watch.cors.filter(|_| cors::is_open(request.uri().path()));
    let is_cors = cors.is_some();
    let cors = cors.filter(|_| request.headers().contains_key(header::ORIGIN));
    let version = request.version();

    let span = tracing::info_span!(
        target: "cairn",
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        request_id = id,
    );
    let one_by_one = version <= Version::HTTP_11;
    let chunked = one_by_one && request.headers().contains_key(header::TRANSFER_ENCODING);
    let nameless = one_by_one && !names_host(&request);
    let entrance = request.extensions_mut().remove::<Entrance>();
    let Entrance { client, door } = entrance.unwrap_or_default();
    let mut response = if nameless {
        without_host(is_fhir)
    } else {
        let work = async {
            match &cors {
                Some(cors) => cors.around(request, next).await,
                None => next.run(request).await,
            }
        };
        let work = trust::origin::by(client, door, work);
        let answered = AssertUnwindSafe(work)
            .catch_unwind()
            .instrument(span.clone())
            .await;
        answered.unwrap_or_else(|_| after_panic(is_fhir, &id))
    };
    if is_cors {
        cors::vary(response.headers_mut());
    }
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    let elapsed = started.elapsed();
    watch
        .meters
        .note(method, route, status, elapsed.as_secs_f64());
    let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if status >= 500 {
            tracing::error!(target: "cairn", status, duration_ms, "request");
        } else {
            tracing::info!(target: "cairn", status, duration_ms, "request");
        }
    });
    let response = end_streams(response, watch.streams_stopped);
    let mut response = crate::pace::answer(version, watch.patience, response);
    response.headers_mut().insert(REQUEST_ID, id_value);
    if chunked || nameless {
        // Whatever stands in front may have understood another length, if there was one as well; then what
        // follows is no request but a part of this one (RFC 9112, section 6.1).
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Whether a request of HTTP/1.1 names one host, as it has to (RFC 9112, section 3.2).
fn names_host(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    hosts.next().is_some_and(|_| hosts.next().is_none()) || request.version() < Version::HTTP_11
}

fn without_host(is_fhir: bool) -> Response {
    let words = "A request names one host";
    if is_fhir {
        let outcome = ::fhir::OperationOutcome::error(::fhir::IssueCode::Invalid, words);
        return super::fhir::outcome_response(StatusCode::BAD_REQUEST, &outcome);
    }
    (StatusCode::BAD_REQUEST, words).into_response()
}

fn after_panic(is_fhir: bool, request_id: &str) -> Response {
    let words = format!("An internal error; please report it with request id {request_id}.");
    if is_fhir {
        let outcome = ::fhir::OperationOutcome::error(::fhir::IssueCode::Exception, words);
        super::fhir::outcome_response(StatusCode::INTERNAL_SERVER_ERROR, &outcome)
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, words).into_response()
    }
}

/// A caller's id is taken over only if it looks like one: it goes into logs.
fn is_request_id(text: &str) -> bool {
    (8..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn new_request_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    let mut id = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// The label for a method; others than these would let a client make up labels without end.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Ends live updates when the server stops; they would otherwise hold the drain up to its limit.
fn end_streams(response: Response, mut stopped: watch::Receiver<bool>) -> Response {
    if !has_content_type(response.headers(), "text/event-stream") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let until = async move {
        // An error means that the sender is gone, so the server is as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    Response::from_parts(
        parts,
        Body::from_stream(body.into_data_stream().take_until(Box::pin(until))),
    )
}

fn has_content_type(headers: &HeaderMap, name: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with(name))
}

/// What is worth compressing, and safe to: pages carry secrets (CSRF tokens) next to text that a
/// stranger may influence, and the length of the compressed whole would give the secret away
/// (BREACH). FHIR answers and static files carry none.
#[derive(Clone, Copy)]
struct Compressible;

impl Predicate for Compressible {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let long_enough = response
            .body()
            .size_hint()
            .exact()
            .is_none_or(|bytes| bytes > 1024);
        long_enough
            && [
                "application/fhir+json",
                "application/fhir+ndjson",
                "text/css",
                "text/javascript",
                "application/javascript",
            ]
            .iter()
            .any(|name| has_content_type(response.headers(), name))
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use ledger::SystemEntropy;
    use tower::ServiceExt;

    use super::*;

    async fn boom() -> &'static str {
        panic!("Ada Thornbury");
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_but_its_request_id() {
        let (_stop, streams_stopped) = watch::channel(false);
        let watch = Watch {
            cors: None,
            entropy: Arc::new(SystemEntropy),
            streams_stopped,
            patience: Duration::from_secs(1),
            meters: Arc::default(),
        };
        let router = Router::new()
            .route("/boom", get(boom))
            .route("/fhir/boom", get(boom))
            .layer(from_fn_with_state(watch, observe));
        for path in ["/boom", "/fhir/boom"] {
            let request = Request::builder()
                .uri(path)
                .header(header::HOST, "cairn.example")
                .body(Body::empty())
                .expect("a request");
            let response = router.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let id = response.headers()[REQUEST_ID]
                .to_str()
                .expect("text")
                .to_owned();
            let is_outcome = has_content_type(response.headers(), "application/fhir+json");
            assert_eq!(is_outcome, path.starts_with("/fhir"));
            let body = axum::body::to_bytes(response.into_body(), 10_000)
                .await
                .expect("a body");
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(&id) && !body.contains("Thornbury"), "{body}");
        }
    }

    #[test]
    fn request_ids() {
        let table = [
            ("0123abcd", true),
            ("0123ABCD-0000", true),
            ("0123abc", false),
            ("Ada Thornbury", false),
            ("1950-04-01 ", false),
            ("", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_request_id(text), expected, "{text}");
        }
    }
}
