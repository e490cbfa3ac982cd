//! Where providers of channels tell us something: what became of text messages, and what people send to our number.
//! Whoever tells proves by a signature that they are the provider; nothing else of a request is looked at before.

use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use exchange::{SmsDoor, Told, Unheard};

use super::Doors;
use super::layers::RequestId;

/// The paths of what providers of channels tell.
pub(crate) const CHANNELS: &str = "/channels/";
/// The header with the provider's signature.
pub(crate) const SIGNATURE: &str = "x-twilio-signature";
/// The largest form that is read: a text of ten parts, with what a provider tells beside it, is a tenth of it.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// The most members of a form that are looked at.
const MEMBERS_MAX: usize = 200;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/channels/sms/status/{id}", post(status))
        .route("/channels/sms/heard", post(heard))
}

/// What came, taken apart.
struct Came {
    path: String,
    members: Vec<(String, String)>,
    signature: Option<String>,
}

impl Came {
    fn told<'a>(&'a self, request_id: &'a RequestId) -> Told<'a> {
        Told {
            path: &self.path,
            members: &self.members,
            signature: self.signature.as_deref(),
            request_id: &request_id.0,
        }
    }
}

async fn came(request: Request) -> Option<Came> {
    let path = request.uri().path_and_query().map(ToString::to_string)?;
    let signature = request.headers().get(SIGNATURE);
    let signature = signature.and_then(|value| value.to_str().ok().map(str::to_owned));
    let bytes = to_bytes(request.into_body(), FORM_BYTES_MAX).await.ok()?;
    let members = form_urlencoded::parse(&bytes)
        .take(MEMBERS_MAX)
        .map(|(name, value)| (name.into_owned(), value.into_owned()));
    Some(Came {
        path,
        members: members.collect(),
        signature,
    })
}

/// The answer to what was not taken. Nothing in it tells what is here.
///
/// What is signed and can't be used is answered as what is: a word that we don't know, a message that is gone, a patient
/// whose records were destroyed. It would only be brought again, and no more of use then.
fn refuse(error: &Unheard) -> Response {
    let status = match error {
        Unheard::Forged => StatusCode::FORBIDDEN,
        Unheard::Malformed | Unheard::Unknown => {
            metrics::counter!("sms_unusable_total").increment(1);
            tracing::info!(%error, "what a provider of text messages told could not be used");
            StatusCode::NO_CONTENT
        }
        Unheard::Contended => StatusCode::SERVICE_UNAVAILABLE,
        Unheard::Trust(error) => {
            tracing::error!(%error, "what a provider of text messages told could not be written down");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    status.into_response()
}

/// The door, and what came to it, once it is the provider who tells it; else the answer. They have their share of
/// requests as those have who are known: not of strangers'.
async fn from_provider<'a>(
    doors: &'a Doors,
    request: Request,
    request_id: &RequestId,
) -> Result<(&'a SmsDoor, Came), Response> {
    let door = doors.sms.as_deref();
    let door = door.ok_or_else(|| StatusCode::NOT_FOUND.into_response())?;
    let came = came(request).await;
    let came = came.ok_or_else(|| StatusCode::BAD_REQUEST.into_response())?;
    door.is_from_provider(&came.told(request_id))
        .map_err(|error| refuse(&error))?;
    trust::origin::known().await;
    Ok((door, came))
}

/// `POST /channels/sms/status/{id}`.
async fn status(
    State(doors): State<Doors>,
    Path(communication): Path<String>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let (door, came) = match from_provider(&doors, request, &request_id).await {
        Ok(told) => told,
        Err(answer) => return answer,
    };
    match Box::pin(door.receipt(&communication, &came.told(&request_id))).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&error),
    }
}

/// `POST /channels/sms/heard`. The answer is what the sender is told.
async fn heard(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let (door, came) = match from_provider(&doors, request, &request_id).await {
        Ok(told) => told,
        Err(answer) => return answer,
    };
    match Box::pin(door.heard(&came.told(&request_id))).await {
        Ok(heard) => {
            let reply = heard.reply.map(|words| {
                let words = words.replace('&', "&amp;").replace('<', "&lt;");
                format!("<Message>{words}</Message>")
            });
            let reply = reply.unwrap_or_default();
            let body =
                format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{reply}</Response>");
            ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], body).into_response()
        }
        Err(error) => refuse(&error),
    }
}
