//! A journey that is started by request: `Patient/ID/$start-journey`, and a `Task` that asks for it.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fhir::{IssueCode, Resource, ResourceType};
use journey::{Begun, JourneyError, NotStarted, Wish};
use record::{Answer, Caller, Interaction};
use serde_json::{Value, json};
use trust::conventions::{JOURNEY_URL, START_JOURNEY, START_SYSTEM};
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
    let begun = Box::pin(begin(&doors, &asked.caller, &wish)).await?;
    Ok(asked.respond(answer(&begun)))
}

/// What becomes of a `Task` that is created to start a journey.
pub(super) enum Asking {
    /// It is another one.
    No,
    /// The journey has begun, and this is the task as it is to be written.
    Begun(Vec<u8>),
    /// It was asked for before, and this is the task that was written then.
    Before(Answer),
}

/// A `Task` that is created to start a journey, as it is written when the journey has begun.
///
/// What is not started is not written either, and the answer says why. The journey begins first: whoever hears nothing
/// asks again with the same key, which starts nothing more.
pub(super) async fn by_task(
    doors: &Doors,
    caller: &Caller,
    body: &[u8],
    if_none_exist: Option<&str>,
) -> Result<Asking, Refused> {
    // Most tasks are not, and are understood once.
    let names_it = body
        .windows(START_JOURNEY.len())
        .any(|part| part == START_JOURNEY.as_bytes());
    if !names_it {
        return Ok(Asking::No);
    }
    // What is no resource is for the write to refuse.
    let Ok(task) = Resource::parse(body) else {
        return Ok(Asking::No);
    };
    if task.kind() != ResourceType::Task || !fhir::validate::check(&task).is_empty() {
        return Ok(Asking::No);
    }
    if !record::asks_for_a_journey(&task) {
        return Ok(Asking::No);
    }
    if if_none_exist.is_some() {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            IssueCode::NotSupported,
            "a Task that starts a journey is created without If-None-Exist: its identifier is what it is known by",
        );
    }
    let wish = wish_of(&task)?;
    let begun = Box::pin(begin(doors, caller, &wish)).await?;
    if !begun.started
        && let Some(written) = Box::pin(written(doors, caller, &wish, &begun)).await?
    {
        return Ok(Asking::Before(written));
    }
    let mut task = task;
    task.set("status", json!("completed"));
    task.set(
        "output",
        json!([
            {"type": {"text": "instance"}, "valueString": begun.instance},
            {"type": {"text": "started"}, "valueBoolean": begun.started},
            {"type": {"text": "running"}, "valueBoolean": begun.running},
        ]),
    );
    Ok(Asking::Begun(task.to_json()))
}

/// The task that was written when the same was asked for before, for those who may look for it.
async fn written(
    doors: &Doors,
    caller: &Caller,
    wish: &Wish,
    begun: &Begun,
) -> Result<Option<Answer>, Refused> {
    let target = Target {
        kind: Some(ResourceType::Task),
        patient: None,
    };
    let (agent, purpose) = (&caller.agent, caller.purpose);
    let permit = doors
        .trust
        .decide(agent, purpose, Action::Create, target, &caller.request_id);
    let permit = permit.await.map_err(Refused::Inside)?;
    let may = |action| (doors.trust).would_let(&permit, action, ResourceType::Task);
    if !may(Action::Search) || !may(Action::Read) {
        return Ok(None);
    }
    // As a value of a search writes what would part it.
    let mut key = String::new();
    for character in wish.key.chars() {
        if matches!(character, '\\' | ',' | '|' | '$') {
            key.push('\\');
        }
        key.push(character);
    }
    let parameters = [
        ("patient".to_owned(), format!("Patient/{}", wish.patient)),
        ("identifier".to_owned(), format!("{START_SYSTEM}|{key}")),
    ];
    let found = doors
        .record
        .search(caller, ResourceType::Task, &parameters)
        .await?;
    let found: Value = serde_json::from_slice(&found.body).unwrap_or_default();
    let journey = format!("{JOURNEY_URL}{}", wish.journey);
    let is_it = |task: &&Value| {
        let outputs = task["output"].as_array();
        let mut outputs = outputs.into_iter().flatten();
        task["instantiatesUri"] == journey
            && outputs.any(|one| {
                one["type"]["text"] == "instance" && one["valueString"] == begun.instance
            })
    };
    let entries = found["entry"].as_array();
    let mut tasks = entries
        .into_iter()
        .flatten()
        .map(|entry| &entry["resource"]);
    let Some(id) = tasks.find(is_it).and_then(|task| task["id"].as_str()) else {
        return Ok(None);
    };
    Ok(Some(
        doors.record.read(caller, ResourceType::Task, id).await?,
    ))
}

/// What a `Task` asks for.
fn wish_of(task: &Resource) -> Result<Wish, Refused> {
    let missing = |element: &str, words: &str| {
        refuse(
            StatusCode::BAD_REQUEST,
            IssueCode::Required,
            format!("Task.{element} is missing: {words}"),
        )
    };
    let journey = task.text_at(&["instantiatesUri"]);
    let Some(journey) = journey.and_then(|url| url.strip_prefix(JOURNEY_URL)) else {
        return missing("instantiatesUri", "the journey, as urn:cairn:journey:NAME");
    };
    let patient = task.text_at(&["for", "reference"]);
    let patient = patient.and_then(fhir::Reference::relative);
    let Some((_, patient)) = patient.filter(|(kind, _)| *kind == ResourceType::Patient) else {
        return missing("for", "the patient, as Patient/ID");
    };
    let identifiers = task.get("identifier").and_then(Value::as_array);
    let key = identifiers
        .into_iter()
        .flatten()
        .find(|one| one["system"] == START_SYSTEM)
        .and_then(|one| one["value"].as_str());
    let Some(key) = key else {
        return missing(
            "identifier",
            "one of urn:cairn:journey-request, by which the request is known",
        );
    };
    let reason = task
        .text_at(&["reasonCode", "text"])
        .or_else(|| task.text_at(&["description"]));
    let Some(reason) = reason else {
        return missing("reasonCode", "its text says why");
    };
    let mut times = BTreeMap::new();
    let inputs = task.get("input").and_then(Value::as_array);
    for input in inputs.into_iter().flatten() {
        let name = input["type"]["text"].as_str();
        let value = ["valueDateTime", "valueDate", "valueString"]
            .iter()
            .find_map(|of| input[of].as_str());
        let (Some(name), Some(value)) = (name, value) else {
            return missing(
                "input",
                "a time that the journey asks for, named by its type's text",
            );
        };
        if times.insert(name.to_owned(), value.to_owned()).is_some() {
            return refuse(
                StatusCode::BAD_REQUEST,
                IssueCode::Value,
                "Task.input: a name stands twice",
            );
        }
    }
    Ok(Wish {
        journey: journey.to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
        patient: patient.to_owned(),
        times,
    })
}

async fn begin(doors: &Doors, caller: &Caller, wish: &Wish) -> Result<Begun, Refused> {
    let patient = wish.patient.as_str();
    // Whose record it is has to be open to who asks.
    doors
        .record
        .read_part(caller, ResourceType::Patient, patient, &[])
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
    let kept = kept.kept_from(&permit, patient, purpose).await;
    if kept.map_err(Refused::Inside)?.unrelated {
        return refuse(
            StatusCode::FORBIDDEN,
            IssueCode::Forbidden,
            "journeys are started by those who care for the patient, and nothing here says that you do",
        );
    }
    match doors.journeys.start(&permit, wish).await {
        Ok(begun) => Ok(begun),
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
