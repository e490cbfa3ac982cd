//! One account: where it is signed in and which apps act for it, and ending each.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::Role;
use trust::identity::{AccountView, GrantView, SessionView};

use super::{HERE, permit, title};
use crate::apps;
use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, count_of, csrf, role_words};
use crate::sessions::{browser, by};
use crate::time::signed;

fn of(account: &str) -> String {
    format!("{HERE}/{account}")
}

fn post(ctx: &Ctx, to: &str, word: &str, of: &str) -> Markup {
    html! {
        form method="post" action=(to) {
            (csrf(ctx))
            button type="submit" { (word) span class="visually-hidden" { " " (of) } }
        }
    }
}

fn session_row(ctx: &Ctx, account: &AccountView, session: &SessionView, place: usize) -> Markup {
    let this = session.id == ctx.session.id;
    html! {
        tr data-key=(session.id) {
            th scope="row" {
                (browser(session))
                @if this { " " span class="tag" { "this one" } }
                @if session.role != account.role { " " span class="tag" { (role_words(session.role)) } }
            }
            td { (ctx.times.wall(signed(session.created_ms))) }
            td { (ctx.times.wall(signed(session.last_seen_ms))) }
            td { (by(ctx, session)) }
            td {
                @match session.factor_ms {
                    Some(factor_ms) => (ctx.times.wall(signed(factor_ms))),
                    None => span class="quiet" { "none" },
                }
            }
            td {
                @if this { span class="quiet" { "sign out above" } }
                @else { (post(ctx, &format!("{}/sessions/{}/end", of(&account.id), session.id), "End", &format!("session {place}"))) }
            }
        }
    }
}

fn app_row(ctx: &Ctx, account: &AccountView, grant: &GrantView, place: usize) -> Markup {
    html! {
        tr data-key=(grant.id) {
            th scope="row" { (grant.app) }
            td { (ctx.times.wall(signed(grant.created_ms))) }
            td { (ctx.times.wall(signed(grant.used_ms))) }
            td { (apps::sentences(&grant.scopes, account.role)) }
            td {
                @if grant.offline { "by itself, until " (ctx.times.date(signed(grant.expires_ms))) }
                @else { "while they are signed in" }
            }
            td { (post(ctx, &format!("{}/apps/{}/end", of(&account.id), grant.id), "Take away", &format!("app {place}"))) }
        }
    }
}

fn flash(fields: &Fields) -> Markup {
    let words = match fields.get("said") {
        Some("ended") => (
            "Session ended",
            "It is refused from its next request on; at other servers within half a minute.",
        ),
        Some("gone") => (
            "App taken away",
            "It is refused from its next request on. They can let it in again.",
        ),
        _ => return html! {},
    };
    html! { div class="flash" role="status" { (layout::state(State::Done, words.0)) " " (words.1) } }
}

/// `GET /console/accounts/{id}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let identity = ctx.app.web.trust.identity();
    let account = identity.account_of(&permit, &id).await;
    let account = match account {
        Err(trust::TrustError::Invalid(_)) => return Err(PageError::NotFound),
        other => other?,
    };
    let sessions = identity.sessions_of_account(&permit, &id).await?;
    let grants = identity.grants_of_account(&permit, &id).await?;
    let all = post(
        &ctx,
        &format!("{}/end-sessions", of(&id)),
        "Sign out everywhere",
        "and shut all its apps out",
    );
    let body = html! {
        p class="crumbs" { a href=(HERE) { "Accounts" } }
        (layout::head(&title(&account), &html! {
            (role_words(account.role)) @if !account.user_name.is_empty() { " · " (account.user_name) } " · "
            @if account.active { (layout::state(State::Running, "Open")) } @else { (layout::state(State::Waiting, "Closed")) }
        }, &html! { @if !sessions.rows.is_empty() || !grants.is_empty() { (all) } }))
        (flash(&fields))
        div class="stack-wide" {
            section class="stack" aria-labelledby="sessions" {
                h2 id="sessions" { "Signed in" @if !sessions.rows.is_empty() { ": " (count_of(sessions.rows.len(), "session")) } }
                @if account.role == Role::Patient { p class="quiet" { "Those of links are here, too, and those of who acts for the patient." } }
                @if sessions.rows.is_empty() { (layout::empty("Signed in nowhere", "When somebody signs in with this account, the session is here.")) }
                @else {
                    div class="scroll" {
                        table {
                            thead { tr { th scope="col" { "Browser" } th scope="col" { "Since" } th scope="col" { "Last used" } th scope="col" { "Signed in" } th scope="col" { "Last second factor" } th scope="col" { span class="visually-hidden" { "What can be done" } } } }
                            tbody data-rows { @for (place, session) in sessions.rows.iter().enumerate() { (session_row(&ctx, &account, session, place + 1)) } }
                        }
                    }
                    @if !sessions.complete { p class="note" { "There may be more; these are the newest." } }
                }
            }
            section class="stack" aria-labelledby="apps" {
                h2 id="apps" { "Apps that act for this account" @if !grants.is_empty() { ": " (grants.len()) } }
                @if grants.is_empty() { (layout::empty("No app acts for this account", "An app that its person lets in is here, with what it may do.")) }
                @else {
                    div class="scroll" {
                        table {
                            thead { tr { th scope="col" { "App" } th scope="col" { "Let in" } th scope="col" { "Last came for a key" } th scope="col" { "May" } th scope="col" { "Comes" } th scope="col" { span class="visually-hidden" { "What can be done" } } } }
                            tbody data-rows { @for (place, grant) in grants.iter().enumerate() { (app_row(&ctx, &account, grant, place + 1)) } }
                        }
                    }
                }
            }
        }
    };
    Ok(console(
        &ctx,
        "Sessions and apps",
        Section::Accounts,
        None,
        &body,
    ))
}

/// `POST /console/accounts/{id}/sessions/{session}/end`.
pub(crate) async fn end(
    Path((id, session)): Path<(String, String)>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_session_of(&permit, &id, &session).await?;
    Ok(Redirect::to(&format!("{}?said=ended", of(&id))).into_response())
}

/// `POST /console/accounts/{id}/apps/{grant}/end`.
pub(crate) async fn end_app(
    Path((id, grant)): Path<(String, String)>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_grant_of(&permit, &id, &grant).await?;
    Ok(Redirect::to(&format!("{}?said=gone", of(&id))).into_response())
}
