//! What a FHIR request says: who calls, where, with which headers and which body.
//!
//! A body is read when it is known that who sends it may do what the address and the method say
//! ([`Asked::open`]): nobody has the server keep and understand what they have no right to send.

use std::time::Duration;

use axum::Form;
use axum::body::{Body, HttpBody};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequest, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use fhir::{IssueCode, ResourceType};
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use record::{Answer, Caller, Interaction, Preconditions, PreferReturn, RecordError};
use trust::{Agent, Purpose, Purposes, Role, TrustError};

use super::api::bearer_token;
use super::fhir::{BASE, Refused, refuse, respond};
use super::layers::RequestId;
use super::{Doors, dates, format};
use crate::client_certificates::Presented;

/// The media type of FHIR JSON (R4, section 2.1.0.6).
const FHIR_JSON: &str = "application/fhir+json";

/// A request that was let in: who calls, what was asked.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl Asked {
    /// A request that needs no right but that of its own answer: authentication and the body, in this
    /// order, so that a stranger's body is not read.
    pub(super) async fn read(doors: &Doors, request: Request) -> Result<Self, Refused> {
        let (asked, body) = Self::let_in(doors, request).await?;
        asked.take(doors, body).await
    }

    async fn take(mut self, doors: &Doors, body: Body) -> Result<Self, Refused> {
        self.body = read_body(body, doors).await?;
        self.caller.once = super::once::of(&self.parts, &self.body)?;
        Ok(self)
    }

    /// Reads the body of who may do what they ask for. Of who may not it is neither kept nor understood.
    pub(super) async fn open(
        self,
        doors: &Doors,
        body: Body,
        may: Result<(), RecordError>,
    ) -> Result<Self, Refused> {
        if let Err(error) = may {
            self.pass_by(doors, body).await;
            return Err(error.into());
        }
        self.take(doors, body).await
    }

    /// Lets what is still coming go by, within the bounds of any body: a client that is cut off while it
    /// sends may never see the answer. One that waits for "100 Continue" has not begun to send.
    async fn pass_by(&self, doors: &Doors, body: Body) {
        if self.parts.headers.contains_key(header::EXPECT) {
            return;
        }
        let patience = Duration::from_millis(doors.limits.body_timeout_ms);
        let mut left = doors.limits.fhir_body_bytes;
        let mut parts = body.into_data_stream();
        let passing = async {
            while let Some(Ok(bytes)) = parts.next().await {
                match left.checked_sub(bytes.len()) {
                    Some(fewer) => left = fewer,
                    None => return,
                }
            }
        };
        // Whoever takes longer is cut off.
        let _ = tokio::time::timeout(patience, passing).await;
    }

    /// Authentication alone; the body is for the caller to read.
    pub(super) async fn let_in(doors: &Doors, request: Request) -> Result<(Self, Body), Refused> {
        let (parts, body) = request.into_parts();
        let Some(token) = bearer_token(&parts.headers) else {
            return Err(Refused::Login { invalid: false });
        };
        let presented = parts.extensions.get::<Presented>();
        let certificate = presented.and_then(Presented::certificate);
        let agent = doors
            .trust
            .identity()
            .fhir_bearer_over(token, certificate.as_ref())
            .await
            .map_err(|error| match error {
                TrustError::SignIn => Refused::Login { invalid: true },
                TrustError::LockedOut { wait_s } => Refused::LockedOut { wait_s },
                other => Refused::Inside(other),
            })?;
        let (lenient, prefer_return) = preferences(&parts.headers);
        let purpose = purpose(&parts.headers, &agent, doors.trust.policy_set().purposes())?;
        let caller = Caller {
            agent,
            purpose,
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

    /// Authentication alone, of a request about a type or one of its resources.
    pub(super) async fn let_in_at(
        doors: &Doors,
        path: PathParams,
        request: Request,
    ) -> Result<(Self, Path, Body), Refused> {
        let (asked, body) = Self::let_in(doors, request).await?;
        Ok((asked, Path::read(path)?, body))
    }

    /// A request with a body about a type or one of its resources, of who may do it to the type.
    pub(super) async fn open_at(
        doors: &Doors,
        path: PathParams,
        request: Request,
        to: fn(ResourceType) -> Interaction<'static>,
    ) -> Result<(Self, Path), Refused> {
        let (asked, path, body) = Self::let_in_at(doors, path, request).await?;
        let may = doors.record.may(&asked.caller, to(path.kind)).await;
        Ok((asked.open(doors, body, may).await?, path))
    }

    /// [`Asked::read`] of a request about a type or one of its resources.
    pub(super) async fn at(
        doors: &Doors,
        path: PathParams,
        request: Request,
    ) -> Result<(Self, Path), Refused> {
        let (asked, path, body) = Self::let_in_at(doors, path, request).await?;
        Ok((asked.take(doors, body).await?, path))
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
    pub(super) async fn json(&self) -> Result<Bytes, Refused> {
        match format::body(&self.parts.headers, &self.body).await {
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
    pub(super) fn no_preconditions(&self) -> Result<(), Refused> {
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
    pub(super) fn if_none_exist(&self) -> Result<Option<&str>, Refused> {
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

pub(super) fn parse_etag(text: &str) -> Option<&str> {
    let text = text.trim();
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    quoted
        .strip_prefix('"')?
        .strip_suffix('"')
        .filter(|version| !version.is_empty())
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

/// `X-Purpose-Of-Use`: an HL7 v3 `PurposeOfUse` code, or one of the tenant's own, with or without its system;
/// treatment if not given. An application that asks for a
/// person asks for the purpose of the person's role and for no other: an emergency is for people to declare.
fn purpose(headers: &HeaderMap, agent: &Agent, known: &Purposes) -> Result<Purpose, Refused> {
    let of_person = agent.app().map(|_| agent.role.purpose());
    // Who bills asks for nothing else.
    let of_role = (agent.role == Role::Biller).then(|| agent.role.purpose());
    let Some(value) = headers.get("x-purpose-of-use") else {
        return Ok(of_person.or(of_role).unwrap_or(Purpose::Treatment));
    };
    if let Some(only) = of_person {
        if value.as_bytes() == only.code().as_bytes() {
            return Ok(only);
        }
        return refuse(
            StatusCode::FORBIDDEN,
            IssueCode::Forbidden,
            format!(
                "an application asks for the purpose of its person's role, which is {}",
                only.code()
            ),
        );
    }
    match value.to_str().ok().and_then(|name| known.parse(name)) {
        Some(purpose) => Ok(purpose),
        None => refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Value,
            format!("X-Purpose-Of-Use must be one of {}", known.codes()),
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
}
