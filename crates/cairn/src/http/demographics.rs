//! The routes of demographics, as they are published: HTTP's words to and from [`spine::demographics`].
//!
//! They are there whether or not a tenant serves them: who isn't let in is told the same either way, and who is
//! let in is told that there is no such service.

mod pace;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fhir::ResourceType;
use record::Interaction;
use serde_json::Value;
use spine::demographics::{Code, Demographics, Failure, Mode, Refusal, Told};
use trust::Once;

use self::pace::{Pace, Stand};
use super::Doors;
use super::asked::{Asked, PathParams, media_type, parse_etag};
use super::fhir::Refused;
use super::layers::{RequestId, Sent};

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const SESSION_ROLE: HeaderName = HeaderName::from_static("nhsd-session-urid");
/// The longest correlation id that is mirrored, bytes.
const CORRELATION_MAX: usize = 256;
/// When to try again what could not be answered yet, seconds.
const UNAVAILABLE_S: u64 = 5;
/// What somebody prefers who takes a list where more persons match than are answered.
const AS_A_BUNDLE: &str = "multiple-matches=bundle";

/// What the routes need of a tenant.
pub(crate) struct Service {
    /// What does it; none where the tenant doesn't serve it.
    demographics: Option<Demographics>,
    pace: Pace,
    /// By which refusals are told where it isn't served.
    rules: spine::demographics::Rules,
}

impl Service {
    pub(crate) fn new(
        demographics: Option<Demographics>,
        rules: spine::demographics::Rules,
        per_second: u32,
    ) -> Self {
        Self {
            demographics,
            pace: Pace::new(per_second),
            rules,
        }
    }
}

/// The routes, below the base that the tenant has configured.
pub(super) fn router(base: &str) -> Router<Doors> {
    let routes = Router::new()
        .route("/Patient", get(search).post(create))
        .route("/Patient/_history", get(changes))
        .route("/Patient/{id}", get(retrieve).patch(change))
        .route("/Patient/{id}/RelatedPerson", get(related))
        .route("/Coverage", get(coverage))
        .fallback(unsupported_path)
        .method_not_allowed_fallback(unsupported_method);
    Router::new().nest(base, routes)
}

/// A request that was let in, and what is told of how often its client asks.
struct Asking {
    service: Arc<Service>,
    demographics: Demographics,
    asked: Asked,
    stand: Stand,
}

/// What a route answers.
type Answered = Result<Told, Failure>;

impl Asking {
    /// What every request has to say of itself.
    fn check(&self) -> Result<(), Failure> {
        if self.stand.is_over {
            let words = "Your application has exceeded its rate limit and is being rate limited.";
            return Err(Refusal::new(Code::TooManyRequests, words).into());
        }
        let sent = (self.asked.parts.extensions.get::<RequestId>()).map(|id| id.1);
        match sent {
            Some(Sent::Taken) if is_uuid(&self.asked.caller.request_id) => {}
            None | Some(Sent::Nothing) => {
                let words = "Invalid request with error - X-Request-ID header must be supplied to access this resource";
                return Err(Refusal::new(Code::MissingValue, words).into());
            }
            _ => {
                let words = "Invalid value - in header 'X-Request-ID'";
                return Err(Refusal::new(Code::InvalidValue, words).into());
            }
        }
        let is_worker = Demographics::mode(&self.asked.caller.agent) == Mode::Worker;
        let role = self.asked.parts.headers.get(SESSION_ROLE);
        let formed =
            |role: &HeaderValue| !role.is_empty() && role.as_bytes().iter().all(u8::is_ascii_digit);
        if is_worker && role.is_some_and(|role| !formed(role)) {
            let words = "Invalid value - in header 'NHSD-Session-URID'";
            return Err(Refusal::new(Code::InvalidValue, words).into());
        }
        Ok(())
    }

    fn parameters(&self) -> Result<Vec<(String, String)>, Failure> {
        let asked = self.asked.parameters();
        asked.map_err(|refused| of_refused(refused, &self.asked.parts.headers))
    }

    /// Reads the body of who may do what they ask for, and what makes the request the same when it comes again.
    async fn open(
        mut self,
        doors: &Doors,
        body: Body,
        to: Interaction<'static>,
    ) -> Result<Self, Response> {
        let may = doors.record.may(&self.asked.caller, to).await;
        let mode = Demographics::mode(&self.asked.caller.agent);
        let (parts, caller) = (self.asked.parts.clone(), self.asked.caller.clone());
        match self.asked.open(doors, body, may).await {
            Ok(asked) => {
                self.asked = asked;
                self.asked.caller.once = Some(once(&self.asked));
                Ok(self)
            }
            Err(refused) => {
                let body = bytes::Bytes::new();
                self.asked = Asked {
                    caller,
                    parts,
                    body,
                };
                let failure = match refused {
                    Refused::Record(error) if error.status == 403 => denied(mode),
                    refused => of_refused(refused, &self.asked.parts.headers),
                };
                Err(self.respond(Err(failure)))
            }
        }
    }

    /// The version that a change depends on.
    fn if_match(&self) -> Option<u32> {
        let mut values = self.asked.parts.headers.get_all(header::IF_MATCH).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let text = value.to_str().ok()?;
        let digits = parse_etag(text)?;
        let plain =
            text.trim_start().starts_with("W/") && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    }

    fn is_of(&self, kinds: &[&str]) -> Result<(), Failure> {
        let kind = media_type(&self.asked.parts.headers, header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kinds.contains(&kind)) {
            return Ok(());
        }
        Err(Refusal::bare(Code::UnsupportedService).into())
    }

    fn respond(&self, answered: Answered) -> Response {
        respond(
            answered,
            &self.service.rules,
            &self.asked.parts.headers,
            Some(&self.stand),
        )
    }
}

/// Who asks, if anybody who is known, where it is served; with the body that is yet to be read.
async fn let_in(doors: &Doors, request: Request) -> Result<(Asking, Body), Response> {
    let service = Arc::clone(&doors.demographics);
    let headers = request.headers().clone();
    let refuse = |failure, stand: Option<&Stand>| {
        respond(Err(failure), &doors.demographics.rules, &headers, stand)
    };
    let (asked, body) = match Asked::let_in(doors, request).await {
        Ok(let_in) => let_in,
        Err(refused) => return Err(refuse(of_refused(refused, &headers), None)),
    };
    let app = asked.caller.agent.app();
    let client = app.map_or(asked.caller.agent.id.as_str(), |app| app.client.as_str());
    let stand = service.pace.take(client);
    let Some(demographics) = service.demographics.clone() else {
        let refusal = Refusal {
            status: Some(404),
            ..Refusal::bare(Code::UnsupportedService)
        };
        return Err(refuse(refusal.into(), None));
    };
    let asking = Asking {
        service,
        demographics,
        asked,
        stand,
    };
    match asking.check() {
        Ok(()) => Ok((asking, body)),
        Err(failure) => Err(asking.respond(Err(failure))),
    }
}

/// A write, by who is let in and may write at all.
async fn let_write(
    doors: &Doors,
    request: Request,
    to: Interaction<'static>,
) -> Result<Asking, Response> {
    let (asking, body) = let_in(doors, request).await?;
    asking.open(doors, body, to).await
}

/// The number in an address.
fn number(path: PathParams) -> String {
    let Ok(path) = path else {
        return String::new();
    };
    let mut values = path.iter();
    let value = values.next().map(|(_, value)| value.to_owned());
    value.unwrap_or_default()
}

/// An answer, or the response that is one already.
type Responded = Result<Response, Response>;

async fn retrieve(State(doors): State<Doors>, path: PathParams, request: Request) -> Responded {
    let (asking, _) = let_in(&doors, request).await?;
    let (number, caller) = (number(path), &asking.asked.caller);
    let answered = asking.demographics.retrieve(caller, &number).await;
    Ok(asking.respond(answered))
}

async fn search(State(doors): State<Doors>, request: Request) -> Responded {
    let (asking, _) = let_in(&doors, request).await?;
    let prefers = asking.asked.parts.headers.get_all("prefer").iter();
    let standard = prefers
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim() == AS_A_BUNDLE);
    let answered = match asking.parameters() {
        Ok(parameters) => {
            let caller = &asking.asked.caller;
            let searching = asking.demographics.search(caller, &parameters, standard);
            searching.await
        }
        Err(failure) => Err(failure),
    };
    Ok(asking.respond(answered))
}

async fn changes(State(doors): State<Doors>, request: Request) -> Responded {
    let (asking, _) = let_in(&doors, request).await?;
    let answered = match asking.parameters() {
        Ok(parameters) => {
            let caller = &asking.asked.caller;
            asking.demographics.changes(caller, &parameters).await
        }
        Err(failure) => Err(failure),
    };
    Ok(asking.respond(answered))
}

async fn related(State(doors): State<Doors>, path: PathParams, request: Request) -> Responded {
    let (asking, _) = let_in(&doors, request).await?;
    let (number, caller) = (number(path), &asking.asked.caller);
    let answered = asking.demographics.related(caller, &number).await;
    Ok(asking.respond(answered))
}

async fn coverage(State(doors): State<Doors>, request: Request) -> Responded {
    let (asking, _) = let_in(&doors, request).await?;
    let answered = match asking.parameters() {
        Ok(parameters) => {
            let caller = &asking.asked.caller;
            asking.demographics.coverage(caller, &parameters).await
        }
        Err(failure) => Err(failure),
    };
    Ok(asking.respond(answered))
}

async fn create(State(doors): State<Doors>, request: Request) -> Responded {
    let to = Interaction::Create(ResourceType::Patient);
    let asking = let_write(&doors, request, to).await?;
    let answered = match asking.is_of(&["application/json", "application/fhir+json"]) {
        Ok(()) => {
            let (caller, body) = (&asking.asked.caller, &asking.asked.body);
            asking.demographics.create(caller, body).await
        }
        Err(failure) => Err(failure),
    };
    Ok(asking.respond(answered))
}

async fn change(State(doors): State<Doors>, path: PathParams, request: Request) -> Responded {
    let to = Interaction::Patch(ResourceType::Patient);
    let asking = let_write(&doors, request, to).await?;
    let answered = match asking.is_of(&["application/json-patch+json"]) {
        Ok(()) => {
            let (caller, body) = (&asking.asked.caller, &asking.asked.body);
            let (number, if_match) = (number(path), asking.if_match());
            let changing = asking.demographics.change(caller, &number, if_match, body);
            changing.await
        }
        Err(failure) => Err(failure),
    };
    Ok(asking.respond(answered))
}

async fn unsupported_path(State(doors): State<Doors>, request: Request) -> Response {
    let failure = Refusal::bare(Code::UnsupportedRequest).into();
    let rules = &doors.demographics.rules;
    respond(Err(failure), rules, request.headers(), None)
}

async fn unsupported_method(State(doors): State<Doors>, request: Request) -> Response {
    let failure = Refusal::bare(Code::UnsupportedService).into();
    let rules = &doors.demographics.rules;
    respond(Err(failure), rules, request.headers(), None)
}

/// All that makes a request the same when it comes again: its id is its key.
fn once(asked: &Asked) -> Once {
    let key = format!("x-request-id {}", asked.caller.request_id.to_lowercase());
    let address = asked
        .parts
        .uri
        .path_and_query()
        .map_or("", |path| path.as_str());
    let if_match = asked.parts.headers.get(header::IF_MATCH);
    let request: [&[u8]; 4] = [
        asked.parts.method.as_str().as_bytes(),
        address.as_bytes(),
        if_match.map_or(&[][..], |value| value.as_bytes()),
        &asked.body,
    ];
    Once::new(&key, &request)
}

/// Whether a text is a UUID as the published pattern has it.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    lengths.eq([8, 4, 4, 4, 12])
        && parts
            .iter()
            .all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn denied(mode: Mode) -> Failure {
    let words = match mode {
        Mode::Patient => "Your access token has insufficient permissions.",
        _ => "Your app has insufficient permissions to use this operation.",
    };
    let refusal = Refusal::new(Code::AccessDenied, words);
    match mode {
        Mode::Patient => refusal.into(),
        _ => refusal
            .shown("Cannot use resource with this access token")
            .into(),
    }
}

/// What FHIR's routes refuse, as these tell it.
fn of_refused(refused: Refused, headers: &HeaderMap) -> Failure {
    match refused {
        Refused::Login { .. } => {
            let words = match headers.get(header::AUTHORIZATION) {
                None => "Missing Authorization header",
                Some(value) if value.is_empty() => "Empty Authorization header",
                Some(value) if value.as_bytes().eq_ignore_ascii_case(b"bearer") => {
                    "Missing access token"
                }
                Some(_) => "Invalid Access Token",
            };
            Refusal::new(Code::Unauthorised, words).into()
        }
        Refused::LockedOut { .. } => Refusal::bare(Code::TooManyRequests).into(),
        Refused::Outcome(StatusCode::REQUEST_TIMEOUT, _) => {
            Refusal::bare(Code::UnableToCallService).into()
        }
        Refused::Outcome(StatusCode::FORBIDDEN, _) => denied(Mode::Worker),
        Refused::Outcome(status, _) => Refusal {
            status: Some(status.as_u16()),
            ..Refusal::bare(Code::ValidationError)
        }
        .into(),
        Refused::PatchForm => Refusal::bare(Code::UnsupportedService).into(),
        Refused::Record(error) if error.status == 403 => denied(Mode::Worker),
        Refused::Record(error) => Failure {
            refusal: Refusal::bare(match error.status {
                503 => Code::ServiceUnavailable,
                400..=499 => Code::ValidationError,
                _ => Code::UnknownError,
            }),
            inside: error.inside,
        },
        Refused::Inside(error) => Failure {
            refusal: Refusal::bare(Code::UnknownError),
            inside: Some(error.to_string()),
        },
    }
}

fn respond(
    answered: Answered,
    rules: &spine::demographics::Rules,
    asked: &HeaderMap,
    stand: Option<&Stand>,
) -> Response {
    let (status, version, body): (u16, Option<u32>, Value) = match answered {
        Ok(told) => (told.status, told.version, told.body),
        Err(failure) => {
            if let Some(inside) = &failure.inside {
                tracing::error!(inside, "a request for demographics failed");
            }
            (
                failure.refusal.status(),
                None,
                failure.refusal.to_json(rules),
            )
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/fhir+json; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let etag = version.and_then(|version| HeaderValue::from_str(&format!("W/\"{version}\"")).ok());
    if let Some(etag) = etag {
        headers.insert(header::ETAG, etag);
    }
    let correlation = asked.get(CORRELATION_ID);
    if let Some(id) = correlation.filter(|id| id.len() <= CORRELATION_MAX) {
        headers.insert(CORRELATION_ID, id.clone());
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"cairn\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(UNAVAILABLE_S));
    }
    if let Some(stand) = stand {
        stand.tell(headers);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        for (text, expected) in [
            ("60E0B220-8136-4CA5-AE46-1D97EF59D068", true),
            ("60e0b220-8136-4ca5-ae46-1d97ef59d068", true),
            ("60e0b22081364ca5ae461d97ef59d068", false),
            ("60e0b220-8136-4ca5-ae46-1d97ef59d06", false),
            ("60e0b220-8136-4ca5-ae46-1d97ef59d06x", false),
            ("1234", false),
            ("", false),
        ] {
            assert_eq!(is_uuid(text), expected, "{text}");
        }
    }
}
