//! Who is stuck in journeys: what is waited for can't come any more by itself.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{JourneyError, Reason, StuckView};
use maud::{Markup, html};
use trust::{Action, Role};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::time::signed;

const HERE: &str = "/console/stuck";
const TITLE: &str = "Who is stuck";

fn reason(reason: Reason) -> Markup {
    match reason {
        Reason::Late => layout::state(State::Failed, "Late"),
        Reason::Letter => layout::state(State::Failed, "Dead letter"),
        Reason::Version => layout::state(State::Waiting, "Another version"),
        Reason::Held => layout::state(State::Waiting, "Held too long"),
    }
}

fn row(ctx: &Ctx, row: &StuckView) -> Markup {
    html! {
        tr {
            td { (reason(row.reason)) }
            td { (ctx.times.ago(signed(row.since_ms))) }
            td { (row.what) }
            td class="mono small" { @if let Some(instance) = &row.instance { (instance) } @else { "all of whom the event is" } }
            td { @if let (Some(letter), Role::Squad) = (&row.letter, ctx.role()) {
                form method="post" action={ (HERE) "/" (letter) "/retry" } { (csrf(ctx)) button type="submit" { "Try again" } }
            } }
        }
    }
}

/// `GET /console/stuck`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let (rows, whole) = ctx.app.web.journeys.stuck(&permit).await?;
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } }
        @match fields.get("tried") {
            Some("gone") => div class="flash" role="status" { (layout::state(State::Done, "Done")) " It was worked on." },
            Some("left") => div class="flash" role="alert" { (layout::state(State::Failed, "Still not")) " It still can't be worked on." },
            _ => {},
        }
        (layout::head(TITLE, &html! { "Patients for whom what their journey waits for can't come any more by itself." }, &html! {}))
        @if rows.is_empty() { (layout::empty("Nobody is stuck", "Whoever is in a journey waits for something that will come, or for its end.")) }
        @else {
            div class="scroll" { table {
                thead { tr { th scope="col" { "Why" } th scope="col" { "Since" } th scope="col" { "What" } th scope="col" { "Journey of a patient" } th scope="col" { span class="visually-hidden" { "Act" } } } }
                tbody { @for one in &rows { (row(&ctx, one)) } }
            } }
        }
        @if !whole { p class="note" { "There may be more: of each reason no more than 500 are looked at, and of what was due only what this server leads." } }
    };
    Ok(console(&ctx, TITLE, Section::Journeys, None, &body))
}

/// `POST /console/stuck/{letter}/retry`.
pub(crate) async fn retry(
    Path(letter): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Publish, None, None).await?;
    let tried = match ctx.app.web.journeys.retry_by_hand(&permit, &letter).await {
        Ok(()) => "gone",
        Err(JourneyError::Broken(_)) => "left",
        Err(other) => return Err(other.into()),
    };
    Ok(Redirect::to(&format!("{HERE}?tried={tried}")).into_response())
}
