//! Applications that people launch: letting them in (`authorize.rs`), opening them from a patient's page
//! (`launch.rs`), what they are about beside the patient (`about.rs`), and here which ones somebody let in, and taking them away.

pub(crate) mod about;
pub(crate) mod authorize;
mod choose;
pub(crate) mod launch;
mod words;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::Role;
use trust::identity::GrantView;
use trust::scopes::Scopes;

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, PortalSection, Section, State, console, csrf, portal};
use crate::time::signed;

/// Where this person's list is.
fn here(ctx: &Ctx) -> &'static str {
    match ctx.role() {
        Role::Patient => "/portal/apps",
        _ => "/console/apps",
    }
}

/// Scopes as a list of sentences.
pub(crate) fn sentences(scopes: &Scopes, role: Role) -> Markup {
    html! {
        ul class="stack" {
            @for part in scopes.parts() { li { (words::line(&part, role)) } }
            @if let Some(words) = words::who_one_is(scopes) { li { (words) } }
        }
    }
}

fn card(ctx: &Ctx, grant: &GrantView) -> Markup {
    html! {
        section class="card stack" data-key=(grant.id) {
            h2 { (grant.app) }
            (sentences(&grant.scopes, ctx.role()))
            p class="quiet" {
                "Allowed " (ctx.times.wall(signed(grant.created_ms)))
                ". Last came for a key " (ctx.times.wall(signed(grant.used_ms))) ". "
                @if grant.offline { "It may come when you are away. If it stays away for 30 days, it is out; at the latest " (ctx.times.wall(signed(grant.expires_ms))) "." }
                @else { "It is out when you sign out." }
            }
            form method="post" action={ (here(ctx)) "/" (grant.id) "/end" } {
                (csrf(ctx))
                button type="submit" { "Take away" }
            }
        }
    }
}

/// `GET /portal/apps` and `GET /console/apps`.
pub(crate) async fn list(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    if !ctx.role().launches_apps() {
        return Err(PageError::Refused(
            "Applications act in the care of patients. Your role lets none in.".to_owned(),
        ));
    }
    ctx.account().await?;
    let grants = ctx.app.web.trust.identity().grants_of(&ctx.session).await?;
    let body = html! {
        (layout::head("Apps you allowed", &html! { "These apps act for you, within what you allowed them. What you take away is shut out from its next request on." }, &html! {}))
        @if fields.get("said") == Some("gone") { div class="flash" role="status" { (layout::state(State::Done, "Taken away")) " The app can ask you again." } }
        @if grants.is_empty() { (layout::empty("No app acts for you", "When an app asks to be let in, you see here what it may do.")) }
        @for grant in &grants { (card(&ctx, grant)) }
    };
    let title = "Apps you allowed";
    Ok(match ctx.role() {
        Role::Patient => portal(&ctx, title, Some(PortalSection::Apps), None, &body),
        _ => console(&ctx, title, Section::Apps, None, &body),
    })
}

/// `POST /portal/apps/{id}/end` and `POST /console/apps/{id}/end`.
pub(crate) async fn end(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_grant(&ctx.session, &id).await?;
    Ok(Redirect::to(&format!("{}?said=gone", here(&ctx))).into_response())
}
