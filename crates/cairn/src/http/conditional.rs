//! The routes of conditional update, patch and delete: `Type?criteria`.
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;

use record::Interaction;

use super::Doors;
use super::asked::{Asked, PathParams};
use super::fhir::Refused;
use super::patch;

/// `PUT`, `PATCH` and `DELETE` of `Type?criteria`.
pub(super) async fn write(
    State(doors): State<Doors>,
    path: PathParams,
    request: Request,
) -> Result<Response, Refused> {
    let (asked, path, body) = Asked::let_in_at(&doors, path, request).await?;
    let (record, kind) = (&doors.record, path.kind);
    let interaction = match asked.parts.method {
        Method::PUT => Interaction::Update(kind),
        Method::PATCH => Interaction::Patch(kind),
        _ => Interaction::Delete(kind),
    };
    let may = record.may(&asked.caller, interaction).await;
    let asked = asked.open(&doors, body, may).await?;
    let caller = &asked.caller;
    let criteria = asked.parameters()?;
    let answer = match asked.parts.method {
        Method::PUT => {
            let body = asked.json().await?;
            let preconditions = asked.preconditions()?;
            let work = record.conditional_update(caller, kind, &criteria, preconditions, &body);
            record.once(caller, work).await?
        }
        Method::PATCH => {
            let (form, body) = patch::form(&asked).await?;
            let preconditions = asked.preconditions()?;
            let work =
                record.conditional_patch(caller, kind, &criteria, preconditions, form, &body);
            record.once(caller, work).await?
        }
        _ => {
            let preconditions = asked.preconditions_of_delete()?;
            let work = record.conditional_delete(caller, kind, &criteria, preconditions);
            record.once(caller, work).await?
        }
    };
    Ok(asked.respond(answer))
}
