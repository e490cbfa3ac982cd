//! The routes of searches of several types and of compartments (R4, section 3.1.1.1).

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use fhir::ResourceType;
use fhir::search::{Compartment, Scope};

use super::Doors;
use super::fhir::{Asked, PathParams, Refused, not_found};

/// `GET [base]?…` and `POST [base]/_search`.
pub(super) async fn system(
    State(doors): State<Doors>,
    request: Request,
) -> Result<Response, Refused> {
    let asked = Asked::read(&doors, request).await?;
    search(&doors, &asked, &Scope::System).await
}

/// `GET [base]/Patient/ID/Observation?…`, `GET [base]/Patient/ID/*?…`, and the same by `POST …/_search`,
/// where nothing between means `*`.
pub(super) async fn compartment(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
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
    search(&doors, &asked, &Scope::Compartment(compartment, of)).await
}

async fn search(doors: &Doors, asked: &Asked, scope: &Scope) -> Result<Response, Refused> {
    let answer = if asked.parts.method == Method::POST {
        let parameters = asked.form().await?;
        doors
            .record
            .search_within_by_post(&asked.caller, scope, &parameters)
            .await?
    } else {
        doors
            .record
            .search_within(&asked.caller, scope, &asked.parameters()?)
            .await?
    };
    Ok(asked.respond(answer))
}
