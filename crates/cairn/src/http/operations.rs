//! The routes of FHIR's operations (`$name`).

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use record::{Interaction, MetaChange};

use super::Doors;
use super::asked::{Asked, PathParams};
use super::fhir::Refused;
use super::starting;

pub(super) fn router() -> Router<Doors> {
    let events = |doors, path, request| of_hooks(doors, path, request, OfHooks::Events);
    Router::new()
        .route("/{type}/$validate", post(validate))
        .route("/{type}/{id}/$validate", post(validate).get(validate))
        .route("/{type}/{id}/$meta", get(meta).post(meta))
        .route(
            "/{type}/{id}/_history/{version}/$meta",
            get(meta).post(meta),
        )
        .route("/{type}/{id}/$meta-add", post(add))
        .route("/{type}/{id}/$meta-delete", post(delete))
        .route("/{type}/{id}/$everything", get(everything).post(everything))
        .route("/{type}/{id}/$start-journey", post(starting::start))
        .route("/{type}/{id}/$status", get(status))
        .route("/{type}/{id}/$events", get(events).post(events))
        .route(
            "/{type}/{id}/$replay",
            post(|doors, path, request| of_hooks(doors, path, request, OfHooks::Replay)),
        )
        .route(
            "/{type}/{id}/$rotate-secret",
            post(|doors, path, request| of_hooks(doors, path, request, OfHooks::RotateSecret)),
        )
        .route("/{type}/$apply", post(apply))
        .route("/{type}/{id}/$apply", get(apply).post(apply))
        .route("/{type}/$explain", get(explain).post(explain))
        .route("/{type}/$lastn", get(lastn).post(lastn))
        .route("/{type}/$match", post(matched))
}

/// The parameters of an operation that changes nothing, which may be asked for by GET or POST.
async fn parameters(asked: &Asked) -> Result<Vec<(String, String)>, Refused> {
    let mut parameters = asked.parameters()?;
    if asked.parts.method == Method::POST && !asked.body.is_empty() {
        parameters.extend(record::parameters_of(&asked.json().await?)?);
    }
    Ok(parameters)
}

async fn meta(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let version = path.rest.get(1).map(String::as_str);
    let answer = doors
        .record
        .meta(&asked.caller, path.kind, path.id(), version)
        .await?;
    Ok(asked.respond(answer))
}

async fn add(doors: State<Doors>, path: PathParams, request: Request) -> Result<Response, Refused> {
    change(doors, path, request, MetaChange::Add).await
}

async fn delete(
    doors: State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    change(doors, path, request, MetaChange::Delete).await
}

async fn change(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
    change: MetaChange,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Update).await?;
    let body = asked.json().await?;
    let answer = doors
        .record
        .change_meta(&asked.caller, path.kind, path.id(), change, &body)
        .await?;
    Ok(asked.respond(answer))
}

async fn validate(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Validate).await?;
    // A deletion is asked for without a body, and then without a form either.
    let body = if asked.parts.method == Method::POST && !asked.body.is_empty() {
        asked.json().await?
    } else {
        asked.body.clone()
    };
    let id = path.rest.first().map(String::as_str);
    let answer = doors
        .record
        .validate(&asked.caller, path.kind, id, &asked.parameters()?, &body)
        .await?;
    Ok(asked.respond(answer))
}

async fn everything(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(fhir::ResourceType::Patient)?;
    let may = doors
        .record
        .may(&asked.caller, Interaction::Everything(path.id()))
        .await;
    let asked = asked.open(&doors, body, may).await?;
    let answer = doors
        .record
        .everything(&asked.caller, path.id(), &parameters(&asked).await?)
        .await?;
    Ok(asked.respond(answer))
}

async fn lastn(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(fhir::ResourceType::Observation)?;
    let may = doors
        .record
        .may(&asked.caller, Interaction::Search(path.kind))
        .await;
    let asked = asked.open(&doors, body, may).await?;
    let answer = doors
        .record
        .lastn(
            &asked.caller,
            &parameters(&asked).await?,
            asked.parts.method != Method::POST,
        )
        .await?;
    Ok(asked.respond(answer))
}

async fn matched(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(fhir::ResourceType::Patient)?;
    let may = doors
        .record
        .may(&asked.caller, Interaction::Search(path.kind))
        .await;
    let asked = asked.open(&doors, body, may).await?;
    let body = asked.json().await?;
    let answer = spine::asking::matches(&doors.record, &asked.caller, &body).await?;
    Ok(asked.respond(answer))
}

async fn explain(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::open_at(&doors, path, request, Interaction::Search).await?;
    let parameters = parameters(&asked).await?;
    let answer = doors
        .record
        .explain(&asked.caller, path.kind, &parameters)
        .await?;
    Ok(asked.respond(answer))
}

async fn apply(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    // Of the two types that have it.
    if path.kind != fhir::ResourceType::ActivityDefinition {
        path.only(fhir::ResourceType::PlanDefinition)?;
    }
    let may = Interaction::Apply(path.kind);
    let may = doors.record.may(&asked.caller, may).await;
    let asked = asked.open(&doors, body, may).await?;
    let body = if asked.parts.method == Method::POST && !asked.body.is_empty() {
        asked.json().await?
    } else {
        Default::default()
    };
    let id = path.rest.first().map(String::as_str);
    let answer = doors
        .record
        .apply(&asked.caller, path.kind, id, &asked.parameters()?, &body)
        .await?;
    Ok(asked.respond(answer))
}

async fn status(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let (record, caller) = (&doors.record, &asked.caller);
    let answer = if path.kind == fhir::ResourceType::Subscription {
        record.subscription_status(caller, path.id()).await?
    } else {
        path.only(fhir::ResourceType::SearchParameter)?;
        record.search_parameter_status(caller, path.id()).await?
    };
    Ok(asked.respond(answer))
}

/// What is asked of a subscription's notifications.
#[derive(Debug, Clone, Copy)]
enum OfHooks {
    Events,
    Replay,
    RotateSecret,
}

async fn of_hooks(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
    what: OfHooks,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    path.only(fhir::ResourceType::Subscription)?;
    let to = match what {
        OfHooks::Events => Interaction::Search(path.kind),
        OfHooks::Replay | OfHooks::RotateSecret => Interaction::Update(path.kind),
    };
    let may = doors.record.may(&asked.caller, to).await;
    let asked = asked.open(&doors, body, may).await?;
    let parameters = parameters(&asked).await?;
    let (record, caller, id) = (&doors.record, &asked.caller, path.id());
    let answer = match what {
        OfHooks::Events => record.subscription_events(caller, id, &parameters).await?,
        OfHooks::Replay => record.subscription_replay(caller, id, &parameters).await?,
        OfHooks::RotateSecret => {
            (record.rotate_subscription_secret(caller, id, &parameters)).await?
        }
    };
    Ok(asked.respond(answer))
}
