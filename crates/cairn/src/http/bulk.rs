//! The routes of bulk export (HL7 Bulk Data Access 2.0) and import.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fhir::{IssueCode, ResourceType};
use futures_util::{StreamExt, stream};
use record::{ExportDownload, ExportLevel, ExportStatus, ImportPart, Interaction};
use tokio::sync::mpsc;

use super::asked::{Asked, PathParams, media_type};
use super::fhir::{Refused, refuse};
use super::{Doors, dates, sequence};

/// The media type of lines of FHIR JSON.
const FHIR_NDJSON: &str = "application/fhir+ndjson";
/// Seconds after which a client may ask again.
const RETRY_AFTER_S: u64 = 1;
/// Parts of a body that wait for the import; a part is some ten kilobytes.
const PARTS: usize = 16;

/// What is answered as JSON or XML.
pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/$export", get(of_system).post(of_system))
        .route("/{type}/$export", get(of_type).post(of_type))
        .route("/{type}/{id}/$export", get(of_instance).post(of_instance))
        .route("/$export/{job}", get(status).delete(end))
        .route("/$import", post(import))
}

/// What is answered in lines, whatever `Accept` says of JSON and XML.
pub(super) fn lines(base: &str) -> Router<Doors> {
    Router::new().route(&format!("{base}/$export/{{job}}/{{file}}"), get(download))
}

async fn of_system(State(doors): State<Doors>, request: Request) -> Result<Response, Refused> {
    let (asked, body) = Asked::let_in(&doors, request).await?;
    kick_off(&doors, asked, body, &ExportLevel::System).await
}

async fn of_type(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(ResourceType::Patient)?;
    kick_off(&doors, asked, body, &ExportLevel::Patients).await
}

async fn of_instance(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(ResourceType::Group)?;
    let level = ExportLevel::Group(path.id().to_owned());
    kick_off(&doors, asked, body, &level).await
}

async fn kick_off(
    doors: &Doors,
    asked: Asked,
    body: Body,
    level: &ExportLevel,
) -> Result<Response, Refused> {
    let may = doors.record.may(&asked.caller, Interaction::Export).await;
    let asked = asked.open(doors, body, may).await?;
    if !prefers_async(&asked.parts.headers) {
        return refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Required,
            "A bulk export needs the header Prefer: respond-async; it is never answered at once",
        );
    }
    let mut parameters = asked.parameters()?;
    if asked.parts.method == Method::POST {
        if !asked.body.is_empty() {
            parameters.extend(record::export_parameters_of(&asked.json().await?)?);
        }
    } else if parameters.iter().any(|(name, _)| name == "patient") {
        return refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::NotSupported,
            "patient can be given in the body of a POST only",
        );
    }
    let base = &asked.caller.base;
    // The path is ours up to what a route has; the host may be a proxy's.
    let uri = &asked.parts.uri;
    let of = match level {
        ExportLevel::System => "$export".to_owned(),
        ExportLevel::Patients => "Patient/$export".to_owned(),
        ExportLevel::Group(id) => format!("Group/{id}/$export"),
    };
    let query = uri.query().map(|query| format!("?{query}"));
    let address = format!("{base}/{of}{}", query.unwrap_or_default());
    let job = doors
        .record
        .export(&asked.caller, level, &address, &parameters)
        .await?;
    let mut response = StatusCode::ACCEPTED.into_response();
    let location = format!("{base}/$export/{job}");
    if let Ok(location) = HeaderValue::from_str(&location) {
        response
            .headers_mut()
            .insert(header::CONTENT_LOCATION, location);
    }
    Ok(no_store(response))
}

/// `Prefer: respond-async` (RFC 7240, section 4.1).
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim() == "respond-async")
}

fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The values of a path without a resource type.
fn values<const COUNT: usize>(path: PathParams) -> Result<[String; COUNT], Refused> {
    let values = path.ok().map(|path| {
        let values = path.iter().map(|(_, value)| value.to_owned());
        values.collect::<Vec<_>>()
    });
    match values.and_then(|values| values.try_into().ok()) {
        Some(values) => Ok(values),
        None => refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Value,
            "The address is not properly encoded",
        ),
    }
}

async fn status(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let asked = Asked::read(&doors, request).await?;
    let [job] = values(path)?;
    let response = match doors.record.export_status(&asked.caller, &job).await? {
        ExportStatus::Working { done, of } => {
            let mut response = StatusCode::ACCEPTED.into_response();
            let headers = response.headers_mut();
            if let Ok(words) = HeaderValue::from_str(&format!("{done} of {of} types laid out")) {
                headers.insert("x-progress", words);
            }
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            response
        }
        ExportStatus::Complete {
            manifest,
            expires_ms,
        } => {
            let mut response = manifest.into_response();
            let headers = response.headers_mut();
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
            let expires = dates::http_date(expires_ms);
            if let Some(expires) = expires.and_then(|text| HeaderValue::from_str(&text).ok()) {
                headers.insert(header::EXPIRES, expires);
            }
            response
        }
    };
    Ok(no_store(response))
}

async fn end(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let asked = Asked::read(&doors, request).await?;
    let [job] = values(path)?;
    doors.record.end_export(&asked.caller, &job).await?;
    Ok(no_store(StatusCode::ACCEPTED.into_response()))
}

async fn download(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let asked = Asked::read(&doors, request).await?;
    let [job, file] = values(path)?;
    let download = doors.record.export_file(&asked.caller, &job, &file).await?;
    let mut response = Body::from_stream(stream::unfold(Some(download), lines_of)).into_response();
    let headers = response.headers_mut();
    let lines = HeaderValue::from_static(FHIR_NDJSON);
    headers.insert(header::CONTENT_TYPE, lines);
    sequence::tell_notices(&asked.caller.freshness, &mut response);
    Ok(no_store(response))
}

/// The next lines of a download. An error breaks the connection off, so that nobody takes what has
/// come so far for the whole.
async fn lines_of(
    download: Option<ExportDownload>,
) -> Option<(Result<Bytes, std::io::Error>, Option<ExportDownload>)> {
    let mut download = download?;
    match download.next().await {
        Ok(Some(lines)) => Some((Ok(lines.into()), Some(download))),
        Ok(None) => None,
        Err(error) => {
            tracing::error!(%error, "a file of a bulk export ended early");
            Some((Err(std::io::Error::other("the store failed")), None))
        }
    }
}

/// Takes in what is sent, as it comes. A client that goes away stops it.
async fn import(State(doors): State<Doors>, request: Request) -> Result<Response, Refused> {
    let (asked, body) = Asked::let_in(&doors, request).await?;
    let kind = media_type(&asked.parts.headers, header::CONTENT_TYPE);
    if !matches!(
        kind,
        Some(FHIR_NDJSON | "application/ndjson" | "application/x-ndjson")
    ) {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            IssueCode::NotSupported,
            format!(
                "The body must be {FHIR_NDJSON}, which may be packed by gzip or zstd; addresses are not fetched"
            ),
        );
    }
    if let Some((name, _)) = asked.parameters()?.first() {
        let name: String = name
            .chars()
            .filter(char::is_ascii_graphic)
            .take(64)
            .collect();
        let outcome =
            fhir::OperationOutcome::at(IssueCode::NotSupported, "is no parameter of $import", name);
        return Err(Refused::Outcome(StatusCode::BAD_REQUEST, outcome));
    }
    let (sender, receiver) = mpsc::channel(PARTS);
    let patience = Duration::from_millis(doors.limits.body_timeout_ms);
    let answer = tokio::select! {
        answer = doors.record.import(&asked.caller, receiver) => answer?,
        never = pump(body, sender, patience) => match never {},
    };
    Ok(asked.respond(answer))
}

/// Hands on the parts of a body; the end of it is said in so many words.
async fn pump(
    body: Body,
    sender: mpsc::Sender<ImportPart>,
    patience: Duration,
) -> std::convert::Infallible {
    let mut parts = body.into_data_stream();
    loop {
        let part = match tokio::time::timeout(patience, parts.next()).await {
            Ok(Some(Ok(bytes))) => ImportPart::Bytes(bytes.into()),
            Ok(None) => ImportPart::End,
            Ok(Some(Err(_))) => ImportPart::Broken("it broke off".to_owned()),
            Err(_) => ImportPart::Broken("it took too long to arrive".to_owned()),
        };
        let is_last = !matches!(part, ImportPart::Bytes(_));
        if sender.send(part).await.is_err() || is_last {
            // The answer is on its way; this future is dropped with it.
            std::future::pending::<()>().await;
        }
    }
}
