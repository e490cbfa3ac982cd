//! The FHIR REST routes: HTTP's words to and from [`record::Record`].

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fhir::{IssueCode, OperationOutcome, ResourceType};
use record::{Answer, Interaction, RecordError};
use trust::TrustError;

use super::asked::{Asked, PathParams, parse_etag};
use super::starting::Asking;
use super::{Doors, dates, format};

/// Where FHIR's routes begin.
pub(super) const BASE: &str = "/fhir/r4";
/// When to try again what could not be answered yet, seconds; what it waits for seldom lasts longer.
const UNAVAILABLE_S: u64 = 5;

pub(super) fn router() -> Router<Doors> {
    let routes = Router::new()
        .route("/metadata", get(metadata))
        .route("/", post(system).get(super::within::system))
        .route("/_search", post(super::within::system))
        .route("/{type}/{id}/_search", post(super::within::compartment))
        .route("/{type}/{id}/{of}", get(super::within::compartment))
        .route(
            "/{type}/{id}/{of}/_search",
            post(super::within::compartment),
        )
        .route(
            "/{type}",
            get(search)
                .post(create)
                .put(super::conditional::write)
                .patch(super::conditional::write)
                .delete(super::conditional::write)
                .options(super::patch::options),
        )
        .route("/{type}/_search", post(search_by_post))
        .merge(super::past::router())
        .route(
            "/{type}/{id}",
            get(read)
                .put(update)
                .patch(super::patch::instance)
                .delete(delete)
                .options(super::patch::options),
        )
        .route("/{type}/{id}/_history", get(history))
        .route("/{type}/{id}/_history/{version}", get(version))
        .merge(super::operations::router())
        .merge(super::bulk::router())
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed);
    Router::new()
        .nest(BASE, routes)
        // With the slash at the end, which clients that join a base and an empty path send.
        .route(
            "/fhir/r4/",
            post(system)
                .get(super::within::system)
                .fallback(not_allowed),
        )
        .route("/fhir/{*rest}", axum::routing::any(not_found))
        .layer(axum::middleware::from_fn(format::negotiate))
        // What is no JSON or XML.
        .merge(super::bulk::lines(BASE))
        .merge(super::oauth::well_known(BASE))
}

/// What a route refuses, or what the record refuses.
pub(super) enum Refused {
    Outcome(StatusCode, OperationOutcome),
    Login {
        invalid: bool,
    },
    LockedOut {
        wait_s: u64,
    },
    /// A patch in none of the forms that are taken.
    PatchForm,
    Record(RecordError),
    Inside(TrustError),
}

impl From<RecordError> for Refused {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

pub(super) fn refuse<T>(
    status: StatusCode,
    code: IssueCode,
    words: impl Into<String>,
) -> Result<T, Refused> {
    Err(Refused::Outcome(
        status,
        OperationOutcome::error(code, words),
    ))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Outcome(status, outcome) => outcome_response(status, &outcome),
            Self::Login { invalid } => {
                let outcome = OperationOutcome::error(
                    IssueCode::Login,
                    "An access token is needed: Authorization: Bearer TOKEN",
                );
                let mut response = outcome_response(StatusCode::UNAUTHORIZED, &outcome);
                let challenge = if invalid {
                    "Bearer realm=\"cairn\", error=\"invalid_token\""
                } else {
                    "Bearer realm=\"cairn\""
                };
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(challenge),
                );
                response
            }
            Self::PatchForm => {
                let outcome = OperationOutcome::error(
                    IssueCode::NotSupported,
                    "A patch is application/json-patch+json, application/xml-patch+xml, or Parameters as application/fhir+json or application/fhir+xml",
                );
                let mut response = outcome_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &outcome);
                response.headers_mut().insert(
                    super::patch::ACCEPT_PATCH,
                    HeaderValue::from_static(super::patch::FORMS),
                );
                response
            }
            Self::LockedOut { wait_s } => {
                let outcome = OperationOutcome::error(
                    IssueCode::Throttled,
                    "Too many tries; try again later",
                );
                let mut response = outcome_response(StatusCode::TOO_MANY_REQUESTS, &outcome);
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
                response
            }
            Self::Record(error) => {
                if let Some(inside) = &error.inside {
                    tracing::error!(status = error.status, inside, "a FHIR interaction failed");
                }
                let status =
                    StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut response = outcome_response(status, &error.outcome);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    let wait_s = HeaderValue::from(UNAVAILABLE_S);
                    response.headers_mut().insert(header::RETRY_AFTER, wait_s);
                }
                response
            }
            Self::Inside(error) => {
                tracing::error!(%error, "a FHIR request could not be decided");
                let outcome = OperationOutcome::error(IssueCode::Exception, "An internal error");
                outcome_response(StatusCode::INTERNAL_SERVER_ERROR, &outcome)
            }
        }
    }
}

/// An `OperationOutcome` as a response.
pub(super) fn outcome_response(status: StatusCode, outcome: &OperationOutcome) -> Response {
    fhir_response(status, outcome.to_resource().to_json())
}

fn fhir_response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/fhir+json; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether an `If-None-Match` names a version: by weak comparison, as a GET asks (RFC 9110, 13.1.2).
fn names(if_none_match: &str, version: u32) -> bool {
    if_none_match.trim() == "*"
        || if_none_match
            .split(',')
            .filter_map(parse_etag)
            .any(|named| named.parse() == Ok(version))
}

async fn metadata(State(doors): State<Doors>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    respond(
        doors.record.metadata(
            doors.pages.tenant,
            &format!("{}{BASE}", doors.base_url),
            &super::oauth::addresses(&doors.base_url),
            env!("CARGO_PKG_VERSION"),
        ),
        &parts,
        "",
    )
}

async fn system(State(doors): State<Doors>, request: Request) -> Result<Response, Refused> {
    let (asked, body) = Asked::let_in(&doors, request).await?;
    let may = doors.record.may(&asked.caller, Interaction::Bundle).await;
    let asked = asked.open(&doors, body, may).await?;
    let bundle = asked.json().await?;
    Ok(asked.respond(doors.record.bundle(&asked.caller, &bundle).await?))
}

async fn search(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let answer = doors
        .record
        .search(&asked.caller, path.kind, &asked.parameters()?)
        .await?;
    Ok(asked.respond(answer))
}

async fn create(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Create).await?;
    let record = &doors.record;
    let (caller, mut body) = (&asked.caller, asked.json().await?);
    asked.no_preconditions()?;
    let if_none_exist = asked.if_none_exist()?;
    if path.kind == ResourceType::Task {
        let starting = super::starting::by_task(&doors, caller, &body, if_none_exist);
        match Box::pin(starting).await? {
            Asking::No => {}
            Asking::Begun(task) => body = task.into(),
            Asking::Before(answer) => return Ok(asked.respond(answer)),
        }
    }
    let body = &body;
    let answer = match if_none_exist {
        Some(criteria) => {
            let work = record.conditional_create(caller, path.kind, criteria, body);
            record.once(caller, work).await?
        }
        None => {
            let work = record.create(caller, path.kind, body);
            record.once(caller, work).await?
        }
    };
    Ok(asked.respond(answer))
}

async fn search_by_post(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Search).await?;
    let record = &doors.record;
    let parameters = asked.form().await?;
    let answer = record
        .search_by_post(&asked.caller, path.kind, &parameters)
        .await?;
    Ok(asked.respond(answer))
}

// One handler for each, because what a request keeps in memory while it waits is as large as the
// largest of all ways through its handler.

async fn read(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let parameters = asked.parameters()?;
    let answer = doors
        .record
        .read_part(&asked.caller, path.kind, path.id(), &parameters)
        .await?;
    Ok(asked.respond(answer))
}

async fn update(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Update).await?;
    let record = &doors.record;
    let caller = &asked.caller;
    let (preconditions, body) = (asked.preconditions()?, asked.json().await?);
    let work = record.update_if(caller, path.kind, path.id(), preconditions, &body);
    let answer = record.once(caller, work).await?;
    Ok(asked.respond(answer))
}

async fn delete(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Delete).await?;
    let record = &doors.record;
    let caller = &asked.caller;
    let preconditions = asked.preconditions_of_delete()?;
    let work = record.delete_if(caller, path.kind, path.id(), preconditions);
    let answer = record.once(caller, work).await?;
    Ok(asked.respond(answer))
}

async fn history(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let answer = doors
        .record
        .history(&asked.caller, path.kind, path.id(), &asked.parameters()?)
        .await?;
    Ok(asked.respond(answer))
}

async fn version(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let version = path.rest.get(1).map_or("", String::as_str);
    let answer = doors
        .record
        .version_part(
            &asked.caller,
            path.kind,
            path.id(),
            version,
            &asked.parameters()?,
        )
        .await?;
    Ok(asked.respond(answer))
}

pub(super) async fn not_found() -> Refused {
    Refused::Outcome(
        StatusCode::NOT_FOUND,
        OperationOutcome::error(
            IssueCode::NotFound,
            format!("There is nothing here; FHIR R4 is at {BASE}"),
        ),
    )
}

async fn not_allowed() -> Refused {
    Refused::Outcome(
        StatusCode::METHOD_NOT_ALLOWED,
        OperationOutcome::error(
            IssueCode::NotSupported,
            "This address does not take this method",
        ),
    )
}

/// Whether something is newer than the date of an `If-Modified-Since`; yes without one, or with one
/// that can't be read, as RFC 9110, section 13.1.3, has it.
fn changed_since(answer: &Answer, headers: &HeaderMap) -> bool {
    let since = headers
        .get(header::IF_MODIFIED_SINCE)
        .and_then(|value| dates::parse(value.to_str().ok()?));
    match (since, answer.last_modified_ms) {
        (Some(since), Some(at)) => at / 1000 > since,
        _ => true,
    }
}

/// An answer in HTTP, with `ETag`, `Last-Modified` and `Location`. A read whose `If-None-Match`
/// names the version at hand, or whose `If-Modified-Since` is no earlier, is a 304 (R4, sections
/// 3.1.0.1.6 and 3.1.0.2.1).
pub(super) fn respond(answer: Answer, parts: &Parts, base: &str) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let etag = answer.version.map(|version| format!("W/\"{version}\""));
    let known = parts
        .headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let unchanged = status == StatusCode::OK
        && matches!(parts.method, Method::GET | Method::HEAD)
        && answer.version.is_some_and(|version| match known {
            Some(known) => names(known, version),
            None => !changed_since(&answer, &parts.headers),
        });
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else if answer.body.is_empty() {
        status.into_response()
    } else {
        fhir_response(status, answer.body)
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let values = [
        (header::ETAG, etag),
        (
            header::LAST_MODIFIED,
            answer.last_modified_ms.and_then(dates::http_date),
        ),
        (
            header::LOCATION,
            answer.location.map(|location| format!("{base}/{location}")),
        ),
    ];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_of_a_get() {
        let table = [
            ("W/\"3\"", true),
            ("\"3\"", true),
            ("*", true),
            ("W/\"1\", W/\"3\"", true),
            ("W/\"4\"", false),
            ("3", false),
            ("", false),
        ];
        for (text, expected) in table {
            assert_eq!(names(text, 3), expected, "{text}");
        }
    }
}
