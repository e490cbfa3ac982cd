//! The FHIR REST routes: HTTP's words to and from [`record::Record`].

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequest, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use bytes::Bytes;
use fhir::{IssueCode, OperationOutcome, ResourceType};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use record::{Answer, Caller, Preconditions, PreferReturn, RecordError};
use trust::{Purpose, TrustError};

use super::api::bearer_token;
use super::layers::RequestId;
use super::{Doors, dates, format};

/// Where FHIR's routes begin.
const BASE: &str = "/fhir/r4";
/// When to try again what could not be answered yet, seconds; what it waits for seldom lasts longer.
const UNAVAILABLE_S: u64 = 5;

/// The media type of FHIR JSON (R4, section 2.1.0.6).
const FHIR_JSON: &str = "application/fhir+json";

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

/// A request that was let in: who calls, what was asked.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl Asked {
    /// Authentication and the body, in this order: a stranger's body is not read.
    pub(super) async fn read(doors: &Doors, request: Request) -> Result<Self, Refused> {
        let (mut asked, body) = Self::let_in(doors, request).await?;
        asked.body = read_body(body, doors).await?;
        asked.caller.once = super::once::of(&asked.parts, &asked.body)?;
        Ok(asked)
    }

    /// Authentication alone; the body is for the caller to read.
    pub(super) async fn let_in(doors: &Doors, request: Request) -> Result<(Self, Body), Refused> {
        let (parts, body) = request.into_parts();
        let Some(token) = bearer_token(&parts.headers) else {
            return Err(Refused::Login { invalid: false });
        };
        let agent =
            doors
                .trust
                .identity()
                .fhir_bearer(token)
                .await
                .map_err(|error| match error {
                    TrustError::SignIn => Refused::Login { invalid: true },
                    TrustError::LockedOut { wait_s } => Refused::LockedOut { wait_s },
                    other => Refused::Inside(other),
                })?;
        let (lenient, prefer_return) = preferences(&parts.headers);
        let caller = Caller {
            agent,
            purpose: purpose(&parts.headers)?,
            request_id: parts
                .extensions
                .get::<RequestId>()
                .map_or_else(String::new, |id| id.0.clone()),
            base: format!("{}{BASE}", doors.base_url),
            lenient,
            freshness: (parts.extensions.get::<trust::Freshness>())
                .cloned()
                .unwrap_or_default(),
            prefer_return,
            once: None,
        };
        let asked = Self {
            caller,
            parts,
            body: Bytes::new(),
        };
        Ok((asked, body))
    }

    /// The same of a request about a type or one of its resources.
    pub(super) async fn at(
        doors: &Doors,
        path: PathParams,
        request: Request,
    ) -> Result<(Self, Path), Refused> {
        let asked = Self::read(doors, request).await?;
        Ok((asked, Path::read(path)?))
    }

    /// The answer in HTTP.
    pub(super) fn respond(&self, answer: Answer) -> Response {
        respond(answer, &self.parts, &self.caller.base)
    }

    pub(super) fn parameters(&self) -> Result<Vec<(String, String)>, Refused> {
        query(&self.parts.uri)
    }

    /// The parameters of a search by POST: those of the address, and those of the form in the body.
    pub(super) async fn form(&self) -> Result<Vec<(String, String)>, Refused> {
        let mut parameters = self.parameters()?;
        if media_type(&self.parts.headers, header::CONTENT_TYPE)
            != Some("application/x-www-form-urlencoded")
        {
            return refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                IssueCode::NotSupported,
                "The body must be application/x-www-form-urlencoded",
            );
        }
        let form = Request::from_parts(self.parts.clone(), Body::from(self.body.clone()));
        match Form::<Vec<(String, String)>>::from_request(form, &()).await {
            Ok(Form(more)) => parameters.extend(
                more.into_iter()
                    .filter(|(name, _)| name != "_format" && name != "_pretty"),
            ),
            Err(_) => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    IssueCode::Invalid,
                    "The form is not properly encoded",
                );
            }
        }
        Ok(parameters)
    }

    /// The body as JSON, whichever of FHIR's forms it came in.
    pub(super) fn json(&self) -> Result<Bytes, Refused> {
        match format::body(&self.parts.headers, &self.body) {
            Some(Ok(body)) => Ok(body),
            Some(Err(outcome)) => Err(Refused::Outcome(StatusCode::BAD_REQUEST, outcome)),
            None => refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                IssueCode::NotSupported,
                format!("The body must be {FHIR_JSON} or application/fhir+xml"),
            ),
        }
    }

    /// What a write depends on. A precondition that isn't understood must not be passed over: it was
    /// to keep something from being done (RFC 9110, section 13.1).
    pub(super) fn preconditions(&self) -> Result<Preconditions<'_>, Refused> {
        let headers = &self.parts.headers;
        let text = |name: header::HeaderName| {
            let mut values = headers.get_all(&name).iter();
            let value = match (values.next(), values.next()) {
                (None, _) => return Ok(None),
                (Some(value), None) => value.to_str().ok(),
                (Some(_), Some(_)) => None,
            };
            let formed = |value: &&str| {
                value.trim() == "*" || value.split(',').all(|part| parse_etag(part).is_some())
            };
            match value.filter(formed) {
                Some(value) => Ok(Some(value)),
                None => refuse(
                    StatusCode::BAD_REQUEST,
                    IssueCode::Value,
                    format!("{name} must be there once, and be of the form W/\"1\""),
                ),
            }
        };
        let if_unmodified_since_s = match headers.get(header::IF_UNMODIFIED_SINCE) {
            None => None,
            Some(value) => match value.to_str().ok().and_then(dates::parse) {
                Some(seconds) => Some(seconds),
                None => {
                    return refuse(
                        StatusCode::BAD_REQUEST,
                        IssueCode::Value,
                        "If-Unmodified-Since must be of the form Sun, 06 Nov 1994 08:49:37 GMT",
                    );
                }
            },
        };
        Ok(Preconditions {
            if_match: text(header::IF_MATCH)?,
            if_none_match: text(header::IF_NONE_MATCH)?,
            if_unmodified_since_s,
        })
    }

    /// What a delete depends on.
    pub(super) fn preconditions_of_delete(&self) -> Result<Preconditions<'_>, Refused> {
        let preconditions = self.preconditions()?;
        if preconditions.if_none_match.is_some() {
            return refuse(
                StatusCode::NOT_IMPLEMENTED,
                IssueCode::NotSupported,
                "If-None-Match is not supported with DELETE",
            );
        }
        Ok(preconditions)
    }

    /// A create depends on nothing but `If-None-Exist`.
    fn no_preconditions(&self) -> Result<(), Refused> {
        let preconditions = self.preconditions()?;
        let Preconditions {
            if_match,
            if_none_match,
            if_unmodified_since_s,
        } = preconditions;
        if if_match.is_none() && if_none_match.is_none() && if_unmodified_since_s.is_none() {
            return Ok(());
        }
        refuse(
            StatusCode::NOT_IMPLEMENTED,
            IssueCode::NotSupported,
            "If-Match, If-None-Match and If-Unmodified-Since go with PUT; a create can have If-None-Exist",
        )
    }

    /// The criteria of a conditional create (FHIR R4, section 3.1.0.8.1).
    fn if_none_exist(&self) -> Result<Option<&str>, Refused> {
        let Some(value) = self.parts.headers.get("if-none-exist") else {
            return Ok(None);
        };
        match value.to_str() {
            Ok(criteria) => Ok(Some(criteria)),
            Err(_) => refuse(
                StatusCode::BAD_REQUEST,
                IssueCode::Value,
                "If-None-Exist must be search criteria in ASCII, with other characters percent-encoded",
            ),
        }
    }
}

fn parse_etag(text: &str) -> Option<&str> {
    let text = text.trim();
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    quoted
        .strip_prefix('"')?
        .strip_suffix('"')
        .filter(|version| !version.is_empty())
}

/// Whether an `If-None-Match` names a version: by weak comparison, as a GET asks (RFC 9110, 13.1.2).
fn names(if_none_match: &str, version: u32) -> bool {
    if_none_match.trim() == "*"
        || if_none_match
            .split(',')
            .filter_map(parse_etag)
            .any(|named| named.parse() == Ok(version))
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, Refused> {
    if uri.query().is_none() {
        return Ok(Vec::new());
    }
    match Query::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Query(mut parameters)) => {
            // How the answer is to look is settled by `format::negotiate`.
            parameters.retain(|(name, _)| name != "_format" && name != "_pretty");
            Ok(parameters)
        }
        Err(_) => refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Invalid,
            "The query string is not properly encoded",
        ),
    }
}

pub(super) fn media_type(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers
        .get(name)?
        .to_str()
        .ok()?
        .split(';')
        .next()
        .map(str::trim)
}

/// `Prefer: handling=lenient`, `Prefer: return=minimal` (RFC 7240; R4, section 3.1.0.1.12).
fn preferences(headers: &HeaderMap) -> (bool, PreferReturn) {
    let mut lenient = false;
    let mut prefer_return = PreferReturn::default();
    let values = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok());
    for preference in values
        .flat_map(|value| value.split([',', ';']))
        .map(str::trim)
    {
        match preference {
            "handling=lenient" => lenient = true,
            "return=minimal" => prefer_return = PreferReturn::Minimal,
            "return=representation" => prefer_return = PreferReturn::Representation,
            "return=OperationOutcome" => prefer_return = PreferReturn::OperationOutcome,
            // Preferences that a server doesn't know are ignored (RFC 7240, section 2).
            _ => {}
        }
    }
    (lenient, prefer_return)
}

/// `X-Purpose-Of-Use`: an HL7 v3 `PurposeOfUse` code; treatment if not given.
fn purpose(headers: &HeaderMap) -> Result<Purpose, Refused> {
    let Some(value) = headers.get("x-purpose-of-use") else {
        return Ok(Purpose::Treatment);
    };
    let all = [
        Purpose::Treatment,
        Purpose::Payment,
        Purpose::Operations,
        Purpose::Emergency,
        Purpose::PatientRequest,
        Purpose::Research,
        Purpose::CareManagement,
        Purpose::Administration,
    ];
    match all
        .into_iter()
        .find(|purpose| value.as_bytes() == purpose.code().as_bytes())
    {
        Some(purpose) => Ok(purpose),
        None => refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Value,
            format!(
                "X-Purpose-Of-Use must be one of {}",
                all.map(Purpose::code).join(", ")
            ),
        ),
    }
}

async fn read_body(body: Body, doors: &Doors) -> Result<Bytes, Refused> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = doors.limits.fhir_body_bytes;
    let patience = Duration::from_millis(doors.limits.body_timeout_ms);
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            IssueCode::TooLong,
            format!("The body is larger than {limit} bytes"),
        ),
        Ok(Err(_)) => refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Invalid,
            "The body could not be read",
        ),
        Err(_) => refuse(
            StatusCode::REQUEST_TIMEOUT,
            IssueCode::Timeout,
            "The body took too long to arrive",
        ),
    }
}

/// A path whose percent-encoding is no UTF-8 is refused by the handler, which knows how.
pub(super) type PathParams = Result<RawPathParams, RawPathParamsRejection>;

/// The path's values, in the order of the route's pattern.
pub(super) struct Path {
    pub(super) kind: ResourceType,
    pub(super) rest: Vec<String>,
}

impl Path {
    pub(super) fn read(parameters: PathParams) -> Result<Self, Refused> {
        let Ok(parameters) = parameters else {
            return refuse(
                StatusCode::BAD_REQUEST,
                IssueCode::Value,
                "The address is not properly encoded",
            );
        };
        let mut values = parameters.iter().map(|(_, value)| value.to_owned());
        let name = values.next().unwrap_or_default();
        match ResourceType::parse(&name) {
            Some(kind) => Ok(Self {
                kind,
                rest: values.collect(),
            }),
            None => refuse(
                StatusCode::NOT_FOUND,
                IssueCode::NotSupported,
                "There is no such resource type in FHIR R4",
            ),
        }
    }

    /// An operation that other types don't have.
    pub(super) fn only(&self, kind: ResourceType) -> Result<(), Refused> {
        if self.kind == kind {
            return Ok(());
        }
        refuse(
            StatusCode::NOT_FOUND,
            IssueCode::NotSupported,
            format!("This operation is one of {kind} only"),
        )
    }

    pub(super) fn id(&self) -> &str {
        self.rest.first().map_or("", String::as_str)
    }
}

async fn metadata(State(doors): State<Doors>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    respond(
        doors.record.metadata(
            doors.pages.tenant,
            &format!("{}{BASE}", doors.base_url),
            &super::oauth::token_address(&doors.base_url),
            env!("CARGO_PKG_VERSION"),
        ),
        &parts,
        "",
    )
}

async fn system(State(doors): State<Doors>, request: Request) -> Result<Response, Refused> {
    let asked = Asked::read(&doors, request).await?;
    let answer = doors.record.bundle(&asked.caller, &asked.json()?).await?;
    Ok(asked.respond(answer))
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
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let (record, caller, body) = (&doors.record, &asked.caller, &asked.json()?);
    asked.no_preconditions()?;
    let answer = match asked.if_none_exist()? {
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
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let parameters = asked.form().await?;
    let answer = doors
        .record
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
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let (record, caller) = (&doors.record, &asked.caller);
    let (preconditions, body) = (asked.preconditions()?, asked.json()?);
    let work = record.update_if(caller, path.kind, path.id(), preconditions, &body);
    let answer = record.once(caller, work).await?;
    Ok(asked.respond(answer))
}

async fn delete(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let (record, caller) = (&doors.record, &asked.caller);
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
fn respond(answer: Answer, parts: &Parts, base: &str) -> Response {
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
    fn etags() {
        let table = [
            ("W/\"3\"", Some("3")),
            ("\"3\"", Some("3")),
            (" W/\"12\" ", Some("12")),
            ("3", None),
            ("W/\"\"", None),
            ("*", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_etag(text), expected, "{text}");
        }
    }

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
