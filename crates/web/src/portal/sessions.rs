//! Where a patient, or somebody who acts for one, is signed in, and ending it.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::Role;
use trust::identity::{OpenedBy, SessionView};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, PortalSection, State, csrf, portal};
use crate::sessions::browser;
use crate::time::signed;

const HERE: &str = "/portal/sessions";

/// Only for those whose sessions these pages show.
fn of_portal(ctx: &Ctx) -> Result<(), PageError> {
    if ctx.role().has_one_record() {
        return Ok(());
    }
    Err(PageError::Refused(
        "These are the pages of patients. Your own sessions are under \"Your sign-in\".".to_owned(),
    ))
}

/// How they signed in, to themselves.
fn by(session: &SessionView) -> Option<&'static str> {
    Some(match session.opened? {
        OpenedBy::Link => "with a link from a message",
        OpenedBy::Password => "with your password",
        OpenedBy::Code => "with your password and a code",
        OpenedBy::Passkey => "with a passkey",
        OpenedBy::PasswordAndPasskey => "with your password and a passkey",
        OpenedBy::Provider | OpenedBy::ProviderAndCode | OpenedBy::ProviderAndPasskey => {
            "through another service"
        }
    })
}

fn row(ctx: &Ctx, session: &SessionView, place: usize) -> Markup {
    html! {
        li class="card stack" data-key=(session.id) {
            h2 { (browser(session)) }
            @if session.this { p { (layout::state(State::Running, "You are here now")) } }
            p {
                "Signed in " (ctx.times.wall(signed(session.created_ms)))
                @if let Some(by) = by(session) { ", " (by) }
                "." br;
                span class="quiet" { "Last used " (ctx.times.wall(signed(session.last_seen_ms))) "." }
            }
            @if !session.this {
                form method="post" action={ (HERE) "/" (session.id) "/end" } {
                    (csrf(ctx))
                    button type="submit" { "Sign out there" span class="visually-hidden" { ", number " (place) " of this list" } }
                }
            }
        }
    }
}

fn flash(fields: &Fields) -> Markup {
    html! {
        @match fields.get("said") {
            Some("ended") => div class="flash" role="status" { (layout::state(State::Done, "Signed out there")) " It takes half a minute at most." },
            Some("others") => div class="flash" role="status" { (layout::state(State::Done, "Signed out everywhere else")) " It takes half a minute at most." },
            _ => {},
        }
    }
}

/// `GET /portal/sessions`.
pub(crate) async fn list(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    of_portal(&ctx)?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    let sessions = identity.own_sessions(&ctx.session).await?;
    let has_others = sessions.iter().any(|session| !session.this);
    let body = html! {
        div class="stack-wide" {
            (flash(&fields))
            div class="stack" {
                h1 { "Where you are signed in" }
                p { "These are the phones and computers that have your pages open. If you don't know one, sign out there." }
                @if ctx.app.web.notifies() && ctx.role() == Role::Patient { p { "Notifications end where you sign out. Those on devices that are not signed in any more are under " a href="/portal/preferences#devices" { "How we reach you" } "." } }
            }
            ul class="stack" { @for (place, session) in sessions.iter().enumerate() { (row(&ctx, session, place + 1)) } }
            @if has_others {
                form method="post" action={ (HERE) "/end-others" } {
                    (csrf(&ctx))
                    @if ctx.app.web.notifies() && ctx.role() == Role::Patient { p class="quiet small" { "Notifications are turned off with it on all devices but this one." } }
                    button type="submit" { "Sign out everywhere else" }
                }
            } @else { p class="quiet" { "You are signed in nowhere else." } }
            div class="stack" {
                h2 { "Was it somebody else?" }
                p { "Whoever opens your pages needs a link that we sent you, and the date of birth. Tell us if somebody else may read your messages: we can close your pages and send links to another address." }
                @if ctx.role() == Role::Patient {
                    p { "Apps are not in this list: " a href="/portal/apps" { "see the apps that you allowed" } "." }
                }
            }
        }
    };
    Ok(portal(
        &ctx,
        "Where you are signed in",
        Some(PortalSection::Sessions),
        None,
        &body,
    ))
}

/// `POST /portal/sessions/{id}/end`.
pub(crate) async fn end(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    of_portal(&ctx)?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_own_session(&ctx.session, &id).await?;
    Ok(Redirect::to(&format!("{HERE}?said=ended")).into_response())
}

/// `POST /portal/sessions/end-others`.
pub(crate) async fn end_others(Posted { ctx, .. }: Posted) -> Result<Response, PageError> {
    of_portal(&ctx)?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_other_sessions(&ctx.session).await?;
    Ok(Redirect::to(&format!("{HERE}?said=others")).into_response())
}
