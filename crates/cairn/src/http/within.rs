//! The routes of searches of several types and of compartments (R4, section 3.1.1.1).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use fhir::ResourceType;
use fhir::search::{Compartment, Scope};
use record::Interaction;

use super::Doors;
use super::asked::{Asked, PathParams};
use super::fhir::{Refused, not_found};

/// `GET [base]?…` and `POST [base]/_search`.
pub(super) async fn system(
    State(doors): State<Doors>,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, body) = Asked::let_in(&doors, request).await?;
    search(&doors, asked, body, &Scope::System).await
}

/// `GET [base]/Patient/ID/Observation?…`, `GET [base]/Patient/ID/*?…`, and the same by `POST …/_search`,
/// where nothing between means `*`.
pub(super) async fn compartment(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    let of = match path.rest.get(1).map(String::as_str) {
        None | Some("*") => None,
        Some(name) => match ResourceType::parse(name) {
            Some(kind) => Some(kind),
            None => return Err(not_found().await),
        },
    };
    let Some(compartment) = Compartment::of(path.kind, path.id()) else {
        return Err(not_found().await);
    };
    search(&doors, asked, body, &Scope::Compartment(compartment, of)).await
}

async fn search(
    doors: &Doors,
    asked: Asked,
    body: Body,
    scope: &Scope,
) -> Result<Response, Refused> {
    let record = &doors.record;
    if asked.parts.method != Method::POST {
        let parameters = asked.parameters()?;
        let answer = record
            .search_within(&asked.caller, scope, &parameters)
            .await?;
        return Ok(asked.respond(answer));
    }
    let may = record.may(&asked.caller, Interaction::Within(scope)).await;
    let asked = asked.open(doors, body, may).await?;
    let parameters = asked.form().await?;
    let answer = record
        .search_within_by_post(&asked.caller, scope, &parameters)
        .await?;
    Ok(asked.respond(answer))
}
