//! `Patient/ID/$start-journey`: a journey that is started by request.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fhir::{IssueCode, ResourceType};
use journey::{Begun, JourneyError, NotStarted, Wish};
use record::{Answer, Interaction};
use serde_json::json;
use trust::{Action, Target};

use super::Doors;
use super::asked::{Asked, PathParams};
use super::fhir::{Refused, refuse};

/// The parameters are `journey`, `key` and `reason`, and the times that the journey asks for by their names.
pub(super) async fn start(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(ResourceType::Patient)?;
    let may = Interaction::Create(ResourceType::Task);
    let may = doors.record.may(&asked.caller, may).await;
    let asked = asked.open(&doors, body, may).await?;
    let wish = wish(path.id(), record::parameters_of(&asked.json().await?)?)?;
    let caller = &asked.caller;
    // Whose record it is has to be open to who asks.
    doors
        .record
        .read_part(caller, ResourceType::Patient, path.id(), &[])
        .await?;
    let target = Target {
        kind: Some(ResourceType::Task),
        patient: None,
    };
    let (agent, purpose) = (&caller.agent, caller.purpose);
    let permit = doors
        .trust
        .decide(agent, purpose, Action::Create, target, &caller.request_id);
    let permit = permit.await.map_err(Refused::Inside)?;
    let permit = permit.with(caller.freshness.clone());
    let kept = doors.trust.vault();
    let kept = kept.kept_from(&permit, path.id(), purpose).await;
    if kept.map_err(Refused::Inside)?.unrelated {
        return refuse(
            StatusCode::FORBIDDEN,
            IssueCode::Forbidden,
            "journeys are started by those who care for the patient, and nothing here says that you do",
        );
    }
    match doors.journeys.start(&permit, &wish).await {
        Ok(begun) => Ok(asked.respond(answer(&begun))),
        Err(JourneyError::NotStarted(why)) => {
            let (status, code) = told(&why);
            refuse(status, code, why.to_string())
        }
        Err(JourneyError::Trust(error)) => Err(Refused::Inside(error)),
        Err(error) => {
            tracing::error!(%error, "a journey could not be started");
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                IssueCode::Exception,
                format!("an internal error (request {})", caller.request_id),
            )
        }
    }
}

fn wish(patient: &str, parameters: Vec<(String, String)>) -> Result<Wish, Refused> {
    let mut said = BTreeMap::new();
    for (name, value) in parameters {
        if said.insert(name, value).is_some() {
            return refuse(
                StatusCode::BAD_REQUEST,
                IssueCode::Value,
                "Parameters.parameter: a name stands twice",
            );
        }
    }
    let mut take = |name: &str| match said.remove(name) {
        Some(value) => Ok(value),
        None => refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Required,
            format!(
                "`{name}` is missing: there are `journey`, `key`, `reason` and the times that the journey asks for"
            ),
        ),
    };
    Ok(Wish {
        journey: take("journey")?,
        key: take("key")?,
        reason: take("reason")?,
        patient: patient.to_owned(),
        times: said,
    })
}

fn answer(begun: &Begun) -> Answer {
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "instance", "valueString": begun.instance},
        {"name": "version", "valueInteger": begun.version},
        {"name": "started", "valueBoolean": begun.started},
        {"name": "running", "valueBoolean": begun.running},
    ]});
    Answer {
        status: 200,
        version: None,
        last_modified_ms: None,
        location: None,
        body: parameters.to_string().into_bytes(),
    }
}

fn told(why: &NotStarted) -> (StatusCode, IssueCode) {
    match why {
        NotStarted::Unknown(_) | NotStarted::NoPatient => {
            (StatusCode::NOT_FOUND, IssueCode::NotFound)
        }
        NotStarted::Unread(_) => (StatusCode::SERVICE_UNAVAILABLE, IssueCode::Transient),
        NotStarted::NotByYou(_) | NotStarted::Purpose => {
            (StatusCode::FORBIDDEN, IssueCode::Forbidden)
        }
        NotStarted::Form(_) => (StatusCode::BAD_REQUEST, IssueCode::Value),
        NotStarted::Running | NotStarted::Again(_) | NotStarted::Once | NotStarted::KeyUsed => {
            (StatusCode::CONFLICT, IssueCode::Conflict)
        }
        NotStarted::NotByRequest(_)
        | NotStarted::NotForThem
        | NotStarted::Consent
        | NotStarted::Ends(_) => (StatusCode::UNPROCESSABLE_ENTITY, IssueCode::BusinessRule),
    }
}
