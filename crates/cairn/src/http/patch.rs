//! The route of `PATCH`: which form of patch a body is.
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use record::{Interaction, PatchForm};

use super::Doors;
use super::asked::{Asked, PathParams, media_type};
use super::fhir::Refused;

pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// The forms of patch that are taken.
pub(super) const FORMS: &str = "application/json-patch+json, application/xml-patch+xml, application/fhir+json, application/fhir+xml";

/// `PATCH Type/id`.
pub(super) async fn instance(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Patch).await?;
    let record = &doors.record;
    let (form, body) = form(&asked).await?;
    let preconditions = asked.preconditions()?;
    let caller = &asked.caller;
    let work = record.patch(caller, path.kind, path.id(), preconditions, form, &body);
    let answer = record.once(caller, work).await?;
    Ok(asked.respond(answer))
}

/// `OPTIONS` of a type or an instance: which methods it takes, and which forms of patch (RFC 5789,
/// section 3.1). Whether there is such an instance is not told.
pub(super) async fn options(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (_, path) = Asked::open_at(&doors, path, request, Interaction::Validate).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let writes = record::is_written_freely(path.kind);
    let allow = match (writes, path.rest.is_empty()) {
        (false, _) => "GET, HEAD, OPTIONS",
        (true, true) => "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE",
        (true, false) => "GET, HEAD, OPTIONS, PUT, PATCH, DELETE",
    };
    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    if writes {
        headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FORMS));
    }
    Ok(response)
}

/// The form of a patch by its media type (R4, section 3.1.0.5), and its body.
pub(super) async fn form(asked: &Asked) -> Result<(PatchForm, Bytes), Refused> {
    match media_type(&asked.parts.headers, header::CONTENT_TYPE) {
        Some("application/json-patch+json") => return Ok((PatchForm::Json, asked.body.clone())),
        Some("application/xml-patch+xml") => return Ok((PatchForm::Xml, asked.body.clone())),
        _ => {}
    }
    match super::format::body(&asked.parts.headers, &asked.body).await {
        Some(Ok(body)) => Ok((PatchForm::Parameters, body)),
        Some(Err(outcome)) => Err(Refused::Outcome(StatusCode::BAD_REQUEST, outcome)),
        None => Err(Refused::PatchForm),
    }
}
