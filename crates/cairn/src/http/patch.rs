//! The route of `PATCH`: which form of patch a body is.
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use fhir::IssueCode;
use record::PatchForm;

use super::Doors;
use super::fhir::{Asked, PathParams, Refused, media_type, refuse};

/// `PATCH Type/id`.
pub(super) async fn instance(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let (form, body) = form(&asked)?;
    let preconditions = asked.preconditions()?;
    let (record, caller) = (&doors.record, &asked.caller);
    let work = record.patch(caller, path.kind, path.id(), preconditions, form, &body);
    let answer = record.once(caller, work).await?;
    Ok(asked.respond(answer))
}

/// The form of a patch by its media type (R4, section 3.1.0.5), and its body.
pub(super) fn form(asked: &Asked) -> Result<(PatchForm, Bytes), Refused> {
    match media_type(&asked.parts.headers, header::CONTENT_TYPE) {
        Some("application/json-patch+json") => return Ok((PatchForm::Json, asked.body.clone())),
        Some("application/xml-patch+xml") => return Ok((PatchForm::Xml, asked.body.clone())),
        _ => {}
    }
    match super::format::body(&asked.parts.headers, &asked.body) {
        Some(Ok(body)) => Ok((PatchForm::Parameters, body)),
        Some(Err(outcome)) => Err(Refused::Outcome(StatusCode::BAD_REQUEST, outcome)),
        None => refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            IssueCode::NotSupported,
            "A patch is application/json-patch+json, application/xml-patch+xml, or Parameters as application/fhir+json or application/fhir+xml",
        ),
    }
}
