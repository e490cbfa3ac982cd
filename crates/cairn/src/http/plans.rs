//! `GET /api/journeys/NAME`: a published journey as definitions of FHIR.

use axum::Extension;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fhir::ResourceType;
use journey::JourneyError;
use serde_json::json;
use trust::{Action, Purpose, Role, Target};

use super::Doors;
use super::api::{internal, refuse, who};
use super::layers::RequestId;

/// Which version; the live one if none is named.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Which {
    version: Option<u32>,
}

/// A `Bundle`: the `PlanDefinition` first, then what its actions are defined by. For who sees journeys, and for other
/// systems that may read definitions.
pub(super) async fn exported(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Response {
    let agent = match who(&doors, &headers).await {
        Ok(agent) => agent,
        Err(refused) => return refused,
    };
    let (purpose, action, kind) = if agent.role == Role::Client {
        let kind = Some(ResourceType::PlanDefinition);
        (Purpose::Treatment, Action::Read, kind)
    } else {
        (agent.role.purpose(), Action::Observe, None)
    };
    let target = Target {
        kind,
        patient: None,
    };
    let trust = &doors.trust;
    let decided = trust.decide(&agent, purpose, action, target, &request_id.0);
    let permit = match decided.await {
        Ok(permit) => permit,
        Err(error) => return refuse(&error),
    };
    match doors.journeys.exported(&permit, &name, which.version).await {
        Ok(bundle) => {
            let form = [(header::CONTENT_TYPE, "application/fhir+json; charset=utf-8")];
            (StatusCode::OK, form, bundle.to_string()).into_response()
        }
        Err(JourneyError::Unknown(_)) => {
            let words = Json(json!({"error": "there is no such journey or version"}));
            (StatusCode::NOT_FOUND, words).into_response()
        }
        Err(JourneyError::Trust(error)) => refuse(&error),
        Err(error) => {
            tracing::error!(%error, "a journey could not be exported");
            internal()
        }
    }
}
