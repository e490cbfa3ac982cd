//! The form in which FHIR's answers go out: JSON or XML, as the client asks (R4, sections 3.1.0.1.10
//! and 3.1.0.1.11). The record speaks JSON; what comes in or goes out as XML is turned here.

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fhir::{IssueCode, OperationOutcome};
use serde_json::Value;

use super::fhir::outcome_response;
use super::sequence;

/// A form of FHIR resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// The form of a media type, if it is one of FHIR's.
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/fhir+json" | "application/json" | "text/json" => Some(Self::Json),
            "application/fhir+xml" | "application/xml" | "text/xml" => Some(Self::Xml),
            _ => None,
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/fhir+json; charset=utf-8",
            Self::Xml => "application/fhir+xml; charset=utf-8",
        })
    }
}

/// How the answer is wanted.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    format: Format,
    pretty: bool,
    /// `_format` as it was given, which the links of a bundle keep.
    named: Option<String>,
}

/// Turns answers to the form that was asked for, and says how new they are; what can't be had is refused
/// before anything is done. One layer for both, because each layer is memory taken for each request.
pub(super) async fn negotiate(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(wanted) = wanted(&parts) else {
        let words = "The formats here are application/fhir+json and application/fhir+xml";
        let outcome = OperationOutcome::error(IssueCode::NotSupported, words);
        return outcome_response(StatusCode::NOT_ACCEPTABLE, &outcome);
    };
    let mut response = match sequence::asked(&parts.headers) {
        Ok(freshness) => {
            parts.extensions.insert(freshness.clone());
            let mut response = next.run(Request::from_parts(parts, body)).await;
            sequence::tell(&freshness, &mut response);
            response
        }
        Err(outcome) => outcome_response(StatusCode::BAD_REQUEST, &outcome),
    };
    let plain = wanted.format == Format::Json && !wanted.pretty && wanted.named.is_none();
    let is_fhir = (response.headers().get(header::CONTENT_TYPE))
        .is_some_and(|kind| kind == Format::Json.content_type());
    if !plain && is_fhir {
        response = turned(response, &wanted).await;
    }
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn turned(response: Response, wanted: &Wanted) -> Response {
    let (mut parts, body) = response.into_parts();
    // Made whole by the handler, so it is in memory already.
    let body = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) if !body.is_empty() => body,
        Ok(_) => return Response::from_parts(parts, Body::empty()),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    match written(&body, wanted) {
        Ok(body) => {
            parts
                .headers
                .insert(header::CONTENT_TYPE, wanted.format.content_type());
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(body))
        }
        // The resource has something that XML has no place for; it is there as JSON.
        Err(outcome) => outcome_response(StatusCode::NOT_ACCEPTABLE, &outcome),
    }
}

fn written(body: &[u8], wanted: &Wanted) -> Result<Vec<u8>, OperationOutcome> {
    let inside = |_| OperationOutcome::error(IssueCode::Exception, "An internal error");
    let mut resource: Value = serde_json::from_slice(body).map_err(inside)?;
    if let Some(named) = &wanted.named {
        keep_in_links(&mut resource, "_format", &named.replace(['+', ' '], "%2B"));
    }
    if wanted.pretty {
        keep_in_links(&mut resource, "_pretty", "true");
    }
    match wanted.format {
        Format::Xml if wanted.pretty => fhir::xml::write_pretty(&resource).map(String::into_bytes),
        Format::Xml => fhir::xml::write(&resource).map(String::into_bytes),
        Format::Json if wanted.pretty => serde_json::to_vec_pretty(&resource).map_err(inside),
        Format::Json => serde_json::to_vec(&resource).map_err(inside),
    }
}

/// The next page is wanted in the form of the first.
fn keep_in_links(resource: &mut Value, name: &str, value: &str) {
    if resource["resourceType"] != "Bundle" {
        return;
    }
    for link in resource
        .get_mut("link")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(Value::String(url)) = link.get_mut("url") {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(value);
        }
    }
}

/// XML of at least this many bytes is read where waiting hurts nobody.
const HEAVY_BYTES: usize = 512 * 1024;

/// What a client sends as a body, as JSON; `None` if it is neither form.
pub(super) async fn body(
    headers: &HeaderMap,
    body: &Bytes,
) -> Option<Result<Bytes, OperationOutcome>> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let read = |body: Bytes| fhir::xml::parse(&body).map(|value| value.to_string().into());
    match Format::of(kind.split(';').next().unwrap_or_default().trim())? {
        Format::Json => Some(Ok(body.clone())),
        Format::Xml if body.len() < HEAVY_BYTES => Some(read(body.clone())),
        Format::Xml => {
            let body = body.clone();
            let read = tokio::task::spawn_blocking(move || read(body)).await;
            Some(read.unwrap_or_else(|_| {
                let words = "An internal error";
                Err(OperationOutcome::error(IssueCode::Exception, words))
            }))
        }
    }
}

/// `_format` if it is there, else `Accept`, else JSON; `None` if there is nothing that is had here.
fn wanted(parts: &Parts) -> Option<Wanted> {
    if parts.uri.query().is_none() {
        return Some(Wanted {
            format: accepted(&parts.headers)?,
            pretty: false,
            named: None,
        });
    }
    let pretty = query_value(&parts.uri, "_pretty").is_some_and(|value| value == "true");
    let named = query_value(&parts.uri, "_format");
    let format = match &named {
        Some(named) => {
            // A plus sign that was not encoded arrives as a space (R4, section 3.1.0.1.11, says so).
            let name = named
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .replace(' ', "+");
            match name.as_str() {
                "json" => Format::Json,
                "xml" => Format::Xml,
                name => Format::of(name)?,
            }
        }
        None => accepted(&parts.headers)?,
    };
    Some(Wanted {
        format,
        pretty,
        named,
    })
}

/// The form that `Accept` likes best; JSON among equals (RFC 9110, section 12.5.1).
fn accepted(headers: &HeaderMap) -> Option<Format> {
    if headers.get(header::ACCEPT).is_none() {
        return Some(Format::Json);
    }
    let values = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    // Most precise range for each form, with its weight in thousandths.
    let (mut json, mut xml) = ((0_u8, 0_u32), (0_u8, 0_u32));
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1000, weight);
        let (precision, wants_json, wants_xml) = match name {
            "*/*" => (1, true, true),
            "application/*" => (2, true, true),
            name => match Format::of(name) {
                Some(Format::Json) => (3, true, false),
                Some(Format::Xml) => (3, false, true),
                None => continue,
            },
        };
        for (wants, best) in [(wants_json, &mut json), (wants_xml, &mut xml)] {
            if wants && (precision > best.0 || precision == best.0 && weight > best.1) {
                *best = (precision, weight);
            }
        }
    }
    match (json.1, xml.1) {
        (0, 0) => None,
        (json, xml) if json >= xml => Some(Format::Json),
        _ => Some(Format::Xml),
    }
}

/// A weight in thousandths: at most three digits after the point.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 1000"
)]
fn weight(text: &str) -> u32 {
    let value: f32 = text.parse().unwrap_or(0.0);
    (value.clamp(0.0, 1.0) * 1000.0).round() as u32
}

fn query_value(uri: &Uri, wanted: &str) -> Option<String> {
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    parameters
        .into_iter()
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_that_is_liked_best() {
        let table = [
            ("", Some(Format::Json), "application/fhir+json"),
            ("", Some(Format::Xml), "application/fhir+xml"),
            (
                "",
                Some(Format::Xml),
                "application/xml, application/json;q=0.5",
            ),
            (
                "",
                Some(Format::Json),
                "application/xml;q=0.8, application/json",
            ),
            (
                "",
                Some(Format::Json),
                "application/fhir+xml, application/fhir+json",
            ),
            ("", Some(Format::Json), "text/html, */*;q=0.1"),
            (
                "",
                Some(Format::Xml),
                "*/*, application/json;q=0, application/fhir+json;q=0",
            ),
            ("", None, "application/json;q=0"),
            ("", None, "text/html"),
            ("_format=xml", Some(Format::Xml), "application/json"),
            (
                "_format=application/fhir+xml",
                Some(Format::Xml),
                "application/json",
            ),
            (
                "_format=application%2Ffhir%2Bjson;%20charset=utf-8",
                Some(Format::Json),
                "text/html",
            ),
            ("_format=ttl", None, "application/json"),
        ];
        for (query, expected, accept) in table {
            let (mut parts, ()) = axum::http::Request::new(()).into_parts();
            parts.uri = format!("/fhir/r4/Patient?{query}")
                .parse()
                .expect("an address");
            parts
                .headers
                .insert(header::ACCEPT, HeaderValue::from_static(accept));
            let found = wanted(&parts).map(|wanted| wanted.format);
            assert_eq!(found, expected, "{query} {accept}");
        }
        let (parts, ()) = axum::http::Request::new(()).into_parts();
        assert_eq!(
            wanted(&parts).map(|wanted| wanted.format),
            Some(Format::Json)
        );
    }

    #[test]
    fn weights() {
        for (text, expected) in [
            ("1", 1000),
            ("0.5", 500),
            ("0.001", 1),
            ("0", 0),
            ("x", 0),
            ("7", 1000),
        ] {
            assert_eq!(weight(text), expected, "{text}");
        }
    }
}
