//! Where an application on a telephone says by which token the service of the telephone's maker knows it, so that its
//! patient is told in it of messages. It shows the access token that the patient let it have, and has to be let read
//! their messages: whoever is told that there is one may read it.

use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Extension, Json, Router};
use fhir::ResourceType;
use serde_json::json;
use trust::identity::{AppService, NewAppDevice};
use trust::{Action, Agent, Target};

use super::Doors;
use super::api::{bearer_token, refuse, unauthorised};
use super::layers::RequestId;
use crate::client_certificates::Presented;

/// The largest body that is read: a token and a name are below a tenth of it.
const BODY_BYTES_MAX: usize = 16 * 1024;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/api/devices", post(add))
        .route("/api/devices/{id}", delete(remove))
}

/// What an application says of itself.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    service: String,
    token: String,
    name: String,
}

/// Who asks, if they may read the messages of the patient whose device it is.
async fn who(doors: &Doors, parts: &Parts, request_id: &RequestId) -> Result<Agent, Response> {
    let Some(token) = bearer_token(&parts.headers) else {
        return Err(unauthorised("Bearer realm=\"cairn\""));
    };
    let presented = parts.extensions.get::<Presented>();
    let certificate = presented.and_then(Presented::certificate);
    let identity = doors.trust.identity();
    let agent = identity.fhir_bearer_over(token, certificate.as_ref()).await;
    let agent = agent.map_err(|error| refuse(&error))?;
    let target = Target {
        kind: Some(ResourceType::Communication),
        patient: agent.patient.clone(),
    };
    let (purpose, action) = (agent.role.purpose(), Action::Read);
    let decided = doors
        .trust
        .decide(&agent, purpose, action, target, &request_id.0)
        .await;
    decided.map(|_| agent).map_err(|error| refuse(&error))
}

/// `POST /api/devices`: `service` (`fcm` or `apns`), `token` and `name` as JSON; `id` comes back. An application says so at
/// each of its starts, because tokens change, and because one that was taken away meanwhile is told nothing.
async fn add(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let agent = match who(&doors, &parts, &request_id).await {
        Ok(agent) => agent,
        Err(refused) => return refused,
    };
    let wrong = |status: StatusCode, words: String| {
        (status, Json(json!({ "error": words }))).into_response()
    };
    let Ok(bytes) = to_bytes(body, BODY_BYTES_MAX).await else {
        let words = "the body is larger than this route takes, or broke off";
        return wrong(StatusCode::PAYLOAD_TOO_LARGE, words.to_owned());
    };
    let said: Result<Said, _> = serde_json::from_slice(&bytes);
    let Ok(said) = said else {
        let words = "the body is JSON with `service`, `token` and `name`";
        return wrong(StatusCode::BAD_REQUEST, words.to_owned());
    };
    let Some(service) = AppService::parse(&said.service) else {
        let words = "`service` is \"fcm\" or \"apns\"";
        return wrong(StatusCode::BAD_REQUEST, words.to_owned());
    };
    if !doors.trust.vault().notifications().tells(service) {
        let words = format!("nothing is sent by {} here", service.code());
        return wrong(StatusCode::NOT_FOUND, words);
    }
    let new = NewAppDevice {
        service,
        token: said.token,
        name: said.name,
    };
    let identity = doors.trust.identity();
    match identity.add_app_device(&agent, &new).await {
        Ok(id) => {
            let mut response = Json(json!({ "id": id })).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => refuse(&error),
    }
}

/// `DELETE /api/devices/{id}`: the application is to be told no more.
async fn remove(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let agent = match who(&doors, &parts, &request_id).await {
        Ok(agent) => agent,
        Err(refused) => return refused,
    };
    match doors.trust.identity().remove_app_device(&agent, &id).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&error),
    }
}
