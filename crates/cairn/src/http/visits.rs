//! Where the place that holds visits by video redeems the links that people come to it by. It shows the secret of
//! `telehealth.secret_file`; nothing else of a request is looked at before.

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use exchange::Redeemed;
use serde_json::json;

use super::Doors;
use super::api::{bearer_token, unauthorised};
use super::layers::RequestId;

/// The largest form that is read: a link has less than a kilobyte.
const FORM_BYTES_MAX: usize = 16 * 1024;

pub(super) fn router() -> Router<Doors> {
    Router::new().route("/channels/telehealth/redeem", post(redeem))
}

/// `POST /channels/telehealth/redeem`: the link's JWT as `token` of a form. The answer has the form that RFC 7662 gives to
/// what is known of a token: `active` with where, as whom and until when; or not active, and why. 404 is what a server
/// answers that has no such door; 503 that nobody knows, and that it may be asked again.
async fn redeem(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let Some(door) = doors.telehealth.as_deref() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if !door.admits(bearer_token(request.headers())) {
        return unauthorised("Bearer realm=\"cairn\"");
    }
    trust::origin::known().await;
    let Ok(bytes) = to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the form is too large\n").into_response();
    };
    let mut members = form_urlencoded::parse(&bytes);
    let Some((_, token)) = members.find(|(name, _)| name == "token") else {
        return (StatusCode::BAD_REQUEST, "token is missing\n").into_response();
    };
    let answer = match Box::pin(door.redeem(&token, &request_id.0)).await {
        Ok(Redeemed::In(admitted)) => json!({
            "active": true,
            "room": admitted.room,
            "role": admitted.role,
            "sub": admitted.subject,
            "exp": admitted.until_s,
        }),
        Ok(Redeemed::Out(turned)) => json!({"active": false, "why": turned.code()}),
        Err(error) => {
            tracing::error!(%error, "telehealth: a link could not be redeemed");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let mut response = Json(answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
