//! Cairn's own routes for programs.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use journey::{JourneyError, Rollout, VersionStage};
use serde_json::json;
use trust::{Action, Agent, Purpose, Target, TrustError};

use super::Doors;
use super::layers::RequestId;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/api/journeys", post(publish))
        .route("/api/journeys/{name}", get(super::plans::exported))
        .route("/api/journeys/{name}/move", post(super::moving::asked))
        .route("/api/batches/{batch}", get(super::moving::batch))
}

/// The bearer token of a request.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whose token a request carries, or the answer to who shows none that is good.
pub(super) async fn who(doors: &Doors, headers: &HeaderMap) -> Result<Agent, Response> {
    let Some(token) = bearer_token(headers) else {
        return Err(unauthorised("Bearer realm=\"cairn\""));
    };
    let agent = doors.trust.identity().bearer(token).await;
    agent.map_err(|error| refuse(&error))
}

/// A journey file with the stage that it is to be brought to.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    file: String,
    stage: VersionStage,
    #[serde(default = "everybody")]
    share: u8,
    #[serde(default)]
    sites: Vec<String>,
    reason: String,
}

fn everybody() -> u8 {
    100
}

/// What a body of JSON asks for; a journey file itself is YAML.
fn wanted(headers: &HeaderMap, body: &[u8]) -> Result<Option<Wanted>, String> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Ok(None);
    }
    let wanted = serde_json::from_slice(body);
    let form = "a body of JSON has `file`, `stage` and `reason`, and may have `share` and `sites`";
    wanted.map(Some).map_err(|_| form.to_owned())
}

/// `POST /api/journeys`: the body is a journey file; publishes it as the journey's next version. With a body of
/// JSON, brings it to the stage that it says.
async fn publish(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let agent = match who(&doors, &headers).await {
        Ok(agent) => agent,
        Err(refused) => return refused,
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let words = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    "the journey file is larger than this server takes"
                }
                _ => "the body could not be read",
            };
            return (rejection.status(), Json(json!({ "error": words }))).into_response();
        }
    };
    let wanted = match wanted(&headers, &body) {
        Ok(wanted) => wanted,
        Err(words) => {
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": words }))).into_response();
        }
    };
    let Ok(source) = std::str::from_utf8(&body) else {
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": "a journey file is UTF-8 text" })),
        )
            .into_response();
    };
    let decided = doors
        .trust
        .decide(
            &agent,
            Purpose::Operations,
            Action::Publish,
            Target::default(),
            &request_id.0,
        )
        .await;
    let permit = match decided {
        Ok(permit) => permit,
        Err(error) => return refuse(&error),
    };
    let done = match wanted {
        None => doors.journeys.publish(&permit, source).await,
        Some(wanted) => {
            let (stage, reason) = (wanted.stage, &wanted.reason);
            let rollout = Rollout {
                share: wanted.share,
                sites: wanted.sites,
            };
            doors
                .journeys
                .stage_file(&permit, &wanted.file, stage, &rollout, reason)
                .await
        }
    };
    match done {
        Ok(version) => (StatusCode::OK, Json(version)).into_response(),
        Err(JourneyError::Findings(findings)) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({ "findings": findings })),
        )
            .into_response(),
        Err(JourneyError::Trust(error)) => refuse(&error),
        Err(error @ (JourneyError::Cannot(_) | JourneyError::Unknown(_))) => {
            let words = Json(json!({ "error": error.to_string() }));
            (StatusCode::CONFLICT, words).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "publishing failed");
            internal()
        }
    }
}

pub(super) fn internal() -> Response {
    let words = Json(json!({ "error": "an internal error" }));
    (StatusCode::INTERNAL_SERVER_ERROR, words).into_response()
}

pub(super) fn unauthorised(challenge: &'static str) -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, challenge)],
        Json(json!({ "error": "this route takes an access token: Authorization: Bearer TOKEN" })),
    )
        .into_response()
}

pub(super) fn refuse(error: &TrustError) -> Response {
    match error {
        TrustError::SignIn => unauthorised("Bearer realm=\"cairn\", error=\"invalid_token\""),
        TrustError::LockedOut { wait_s } => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, wait_s.to_string())],
            Json(json!({ "error": "too many tries" })),
        )
            .into_response(),
        TrustError::Refused(refusal) => (
            StatusCode::FORBIDDEN,
            Json(json!({ "error": refusal.reason })),
        )
            .into_response(),
        TrustError::Invalid(reason) | TrustError::TooCostly(reason) => {
            (StatusCode::BAD_REQUEST, Json(json!({ "error": reason }))).into_response()
        }
        TrustError::Unanswerable(outcome) => (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": outcome.summary() })),
        )
            .into_response(),
        TrustError::Ledger(_)
        | TrustError::Damaged(_)
        | TrustError::NotYet(_)
        | TrustError::Policy(_)
        | TrustError::Repeated => {
            tracing::error!(%error, "a caller could not be admitted");
            internal()
        }
    }
}
