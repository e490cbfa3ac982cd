//! History of a type and of the whole record.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;

use super::Doors;
use super::asked::{Asked, PathParams};
use super::fhir::Refused;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/_history", get(of_all))
        .route("/{type}/_history", get(of_type))
}

async fn of_all(State(doors): State<Doors>, request: Request) -> Result<Response, Refused> {
    let asked = Asked::read(&doors, request).await?;
    let parameters = asked.parameters()?;
    let answer = doors.record.past(&asked.caller, None, &parameters).await?;
    Ok(asked.respond(answer))
}

async fn of_type(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path) = Asked::at(&doors, path, request).await?;
    let parameters = asked.parameters()?;
    let answer = (doors.record)
        .past(&asked.caller, Some(path.kind), &parameters)
        .await?;
    Ok(asked.respond(answer))
}
