//! `POST /api/journeys/NAME/move` and `GET /api/batches/ID`: patients moved to another version of their journey, for
//! programs. What would come of it first; doing it takes the mark of what was seen.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use journey::{
    BUSY_RETRY_S, Batch, FAILURES_MAX, FailurePlace, JourneyError, MoveOutcome, Moving, NAMED_MAX,
    OneMoved, Portion, RATE_MAX, Stage, Who,
};
use serde_json::{Value, json};
use trust::{Action, Permit, Target};

use super::Doors;
use super::api::{internal, refuse, who};
use super::layers::RequestId;

/// Longest reason, in characters; it is shown in each patient's history.
const REASON_MAX: usize = 300;

/// A move that is asked about, or for.
#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Lines of `step: step of the other version`, `stay` or `hold`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) map: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<u8>,
    /// What becomes of each, those behind this journey; from the first on where it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) each_after: Option<String>,
    /// With a reason they are moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The mark of what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<u32>,
}

impl Asked {
    /// Which of those who are found; nothing where both are said, or what can't be.
    fn portion(&self) -> Option<Portion> {
        match (self.first, self.share) {
            (None, None) => Some(Portion::All),
            (Some(first), None) => Some(Portion::First(first)),
            (None, Some(share)) => (1..=100).contains(&share).then_some(Portion::Share(share)),
            (Some(_), Some(_)) => None,
        }
    }
}

/// Whose journeys: all that are on a version.
pub(crate) fn on_version(journey: &str, version: u32) -> Who {
    Who {
        journey: journey.to_owned(),
        version,
        step: None,
        for_ms: 0,
        held: None,
        patients: BTreeSet::new(),
        among: 0,
    }
}

/// What becomes of one journey, by its id: who the patient is, the console shows to those who may see it.
pub(crate) fn told(one: &OneMoved) -> Value {
    let (word, why) = match &one.outcome {
        MoveOutcome::Moves => ("moves", ""),
        MoveOutcome::Stays => ("stays", ""),
        MoveOutcome::Held => ("held", ""),
        MoveOutcome::Waits(what) => ("waits", what.as_str()),
        MoveOutcome::Cannot(why) => ("cannot", why.as_str()),
    };
    json!({"journey": one.instance, "outcome": word, "why": why, "differs": one.differs})
}

fn said(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({ "error": words }))).into_response()
}

fn failed(error: JourneyError) -> Response {
    match error {
        JourneyError::Trust(error) => refuse(&error),
        JourneyError::Findings(findings) => {
            let findings = Json(json!({ "findings": findings }));
            (StatusCode::UNPROCESSABLE_ENTITY, findings).into_response()
        }
        JourneyError::Unknown(_) => said(
            StatusCode::NOT_FOUND,
            "there is no such journey, version or batch",
        ),
        error @ (JourneyError::Cannot(_) | JourneyError::NotStarted(_)) => {
            said(StatusCode::CONFLICT, &error.to_string())
        }
        error @ JourneyError::Busy { of_all } => {
            let status = match of_all {
                true => StatusCode::SERVICE_UNAVAILABLE,
                false => StatusCode::TOO_MANY_REQUESTS,
            };
            let later = [(header::RETRY_AFTER, BUSY_RETRY_S.to_string())];
            (later, said(status, &error.to_string())).into_response()
        }
        error @ JourneyError::Broken(_) => {
            tracing::error!(%error, "a move between versions failed");
            internal()
        }
    }
}

async fn permit(
    doors: &Doors,
    headers: &HeaderMap,
    request_id: &RequestId,
) -> Result<Permit, Response> {
    let agent = who(doors, headers).await?;
    let (purpose, action) = (agent.role.purpose(), Action::Steer);
    let decided = doors
        .trust
        .decide(&agent, purpose, action, Target::default(), &request_id.0);
    decided.await.map_err(|error| refuse(&error))
}

/// `POST /api/journeys/NAME/move`.
pub(super) async fn asked(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let permit = match permit(&doors, &headers, &request_id).await {
        Ok(permit) => permit,
        Err(refused) => return refused,
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return said(rejection.status(), "the body could not be read"),
    };
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        let form = "a body of JSON has `from` and `to`, and may have `map`, `first` or `share`, `each_after`, and `reason` with `seen` and `rate`";
        return said(StatusCode::BAD_REQUEST, form);
    };
    Box::pin(answer(&doors, &permit, &name, asked))
        .await
        .unwrap_or_else(failed)
}

async fn answer(
    doors: &Doors,
    permit: &Permit,
    name: &str,
    asked: Asked,
) -> Result<Response, JourneyError> {
    let Some(portion) = asked.portion() else {
        let words = "say `first`, a whole number, or `share`, 1 to 100: not both";
        return Ok(said(StatusCode::BAD_REQUEST, words));
    };
    let journeys = &doors.journeys;
    let versions = (name, asked.from, asked.to);
    let moving = Moving {
        who: on_version(name, asked.from),
        portion,
        to: asked.to,
        map: journeys.map_in(permit, versions, &asked.map).await?,
    };
    if let Some(after) = &asked.each_after {
        let after = Some(after.as_str()).filter(|after| !after.is_empty());
        let page = journeys
            .preview_named(permit, &moving, after, NAMED_MAX)
            .await?;
        let each: Vec<Value> = page.each.iter().map(told).collect();
        let told = json!({"each": each, "hidden": page.hidden, "next": page.next});
        return Ok(Json(told).into_response());
    }
    let Some(reason) = &asked.reason else {
        let preview = journeys.preview_migration(permit, &moving).await?;
        let seen = &preview.seen;
        return Ok(Json(json!({"preview": preview, "seen": seen})).into_response());
    };
    let reason = reason.trim();
    let long = reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control);
    if reason.is_empty() || long {
        let words = format!("`reason` is one line of at most {REASON_MAX} letters");
        return Ok(said(StatusCode::BAD_REQUEST, &words));
    }
    let rate = asked.rate.unwrap_or(RATE_MAX);
    if !(1..=RATE_MAX).contains(&rate) {
        let words = format!("`rate` is 1 to {RATE_MAX} patients a second");
        return Ok(said(StatusCode::BAD_REQUEST, &words));
    }
    // Nobody is moved whose move nobody has looked at.
    let Some(seen) = asked.seen.as_deref() else {
        let words = "`seen` is missing: ask what would come of it first, and give its mark";
        return Ok(said(StatusCode::BAD_REQUEST, words));
    };
    let batch = journeys
        .begin_migration(permit, moving, reason, rate, Some(seen))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "batch": batch }))).into_response())
}

fn stage(batch: &Batch) -> &'static str {
    match batch.stage {
        _ if batch.rests() => "rests",
        Stage::Running => "running",
        Stage::Cancelled => "cancelled",
        Stage::Done => "done",
    }
}

/// Which of those whom a batch could not reach are told of.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct WhichFailures {
    /// Those behind this place.
    after: Option<String>,
    /// So many of them at most; as many as are told of at once where nothing is said.
    count: Option<usize>,
}

/// `GET /api/batches/ID`: how far it has come.
pub(super) async fn batch(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
    which: Result<Query<WhichFailures>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let permit = match permit(&doors, &headers, &request_id).await {
        Ok(permit) => permit,
        Err(refused) => return refused,
    };
    let which = which.map(|Query(which)| which);
    let place = which.as_ref().ok().and_then(|which| which.after.as_deref());
    let after = place.map(FailurePlace::parse);
    let count = which
        .as_ref()
        .map(|which| which.count.unwrap_or(FAILURES_MAX));
    let (Ok(count @ 0..=FAILURES_MAX), None | Some(Some(_))) = (count, after) else {
        let words = format!("`after` is what `next` said, and `count` 0 to {FAILURES_MAX}");
        return said(StatusCode::BAD_REQUEST, &words);
    };
    let (after, journeys) = (after.flatten(), &doors.journeys);
    match journeys.batch_failures(&permit, &id, after, count).await {
        Ok((batch, page)) => {
            let failures = page.failures.iter();
            let failures: Vec<Value> = failures
                .map(|failure| json!({"journey": failure.instance, "why": failure.why}))
                .collect();
            Json(json!({
                "batch": batch.id, "stage": stage(&batch), "total": batch.total, "tried": batch.next,
                "failed": batch.failed, "waiting": batch.waiting, "failures": failures,
                "hidden": page.hidden, "next": page.next.map(|next| next.to_string()),
            }))
            .into_response()
        }
        Err(error) => failed(error),
    }
}
