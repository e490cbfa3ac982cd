//! Where a mail server hands in mail that came back: bounces and complaints. It shows the secret of
//! `smtp.returns_secret_file`; nothing else of a request is looked at before. From then on it has its share of requests as
//! those have who are known.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use exchange::Unreturned;

use super::Doors;
use super::api::{bearer_token, unauthorised};
use super::layers::RequestId;

/// The header with the address that the mail came to. Not in the URL: who knows the address could say that its mail did
/// not arrive.
const RECIPIENT: &str = "cairn-recipient";

pub(super) fn router() -> Router<Doors> {
    Router::new().route("/channels/mail/returned", post(returned))
}

/// `POST /channels/mail/returned`: the mail as it came, and in a header where it came to. 204 where it was taken, which
/// it is too if it says nothing that is understood; 422 where it is of no mail of ours; 503 where it has to come again, also
/// because the keys are not there by which it would be known. 404 is what a server answers that has no such door.
async fn returned(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let Some(door) = doors.returns.as_deref() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if !door.admits(bearer_token(request.headers())) {
        return unauthorised("Bearer realm=\"cairn\"");
    }
    trust::origin::known().await;
    let recipient = request.headers().get(RECIPIENT);
    let recipient = recipient.and_then(|value| value.to_str().ok().map(str::to_owned));
    let Some(recipient) = recipient else {
        return (StatusCode::BAD_REQUEST, "Cairn-Recipient is missing\n").into_response();
    };
    let mail = match Bytes::from_request(request, &()).await {
        Ok(mail) => mail,
        Err(error) => return error.status().into_response(),
    };
    match Box::pin(door.take(&recipient, &mail, &request_id.0)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(Unreturned::Unknown) => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        Err(Unreturned::TooEarly | Unreturned::Contended) => {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Err(Unreturned::Trust(error)) => {
            tracing::error!(%error, "mail: what came back could not be written down");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}
