//! "Your sign-in": one's own passkeys, authenticator app and sessions.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::identity::{PasskeyView, SessionView};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::passkeys::{self, Form};
use crate::sessions::{browser, by};
use crate::sign_in::{grouped, qr};
use crate::time::signed;

const HERE: &str = "/console/sign-in";

fn done(word: &str) -> Response {
    Redirect::to(&format!("{HERE}?said={word}")).into_response()
}

fn flash(fields: &Fields) -> Markup {
    let words = match fields.get("said") {
        Some("added") => ("Passkey added", "From now on it signs you in by itself."),
        Some("removed") => ("Passkey removed", "It signs nobody in any more."),
        Some("app") => ("Authenticator app set up", "Only its codes count now."),
        Some("no-app") => ("Authenticator app removed", ""),
        Some("others") => (
            "All others ended",
            "They are refused from their next request on.",
        ),
        Some("ended") => ("Session ended", "It is refused from its next request on."),
        _ => return html! {},
    };
    html! { div class="flash" role="status" { (layout::state(State::Done, words.0)) " " (words.1) } }
}

fn post(ctx: &Ctx, to: &str, word: &str, of: &str) -> Markup {
    html! {
        form method="post" action=(to) {
            (csrf(ctx))
            button type="submit" { (word) @if !of.is_empty() { span class="visually-hidden" { " " (of) } } }
        }
    }
}

fn passkey_row(ctx: &Ctx, passkey: &PasskeyView) -> Markup {
    html! {
        tr data-key=(passkey.id) {
            th scope="row" { (passkey.name) }
            td { @if passkey.backed_up { "copied to your other devices" } @else { "on one device" } }
            td { (ctx.times.wall(signed(passkey.created_ms))) }
            td { @if let Some(used_ms) = passkey.used_ms { (ctx.times.wall(signed(used_ms))) } @else { span class="quiet" { "not yet" } } }
            td { (post(ctx, &format!("{HERE}/passkeys/{}/remove", passkey.id), "Remove", &passkey.name)) }
        }
    }
}

fn session_row(ctx: &Ctx, session: &SessionView, place: usize) -> Markup {
    html! {
        tr data-key=(session.id) {
            th scope="row" { (browser(session)) @if session.this { " " span class="tag" { "this one" } } }
            td { (by(ctx, session)) }
            td { (ctx.times.wall(signed(session.created_ms))) }
            td { (ctx.times.wall(signed(session.last_seen_ms))) }
            td { @if !session.this { (post(ctx, &format!("{HERE}/sessions/{}/end", session.id), "End", &format!("session {place}"))) } }
        }
    }
}

async fn add_form(ctx: &Ctx) -> Result<Markup, PageError> {
    let Some(party) = &ctx.app.party else {
        return Ok(
            html! { p class="note" { "Passkeys need a server that is reached by a name and over TLS; this one is not." } },
        );
    };
    let identity = ctx.app.web.trust.identity();
    let question = identity.ask_for_new_passkey(party, &ctx.session).await?;
    let form = Form {
        id: "add-passkey",
        what: "make",
        action: "/console/sign-in/passkeys",
        again: Some(HERE),
        names: ("sealed", "answer"),
        question: &question,
        word: "Add a passkey",
        primary: false,
    };
    let inside = html! {
        (csrf(ctx))
        label { "Name of the new passkey" span class="hint" { "Such as the device that holds it" }
            input type="text" name="name" required maxlength="64" autocomplete="off"; }
    };
    Ok(html! {
        (passkeys::form(&ctx.app, &form, &inside))
        p id="add-passkey-without" class="note" { "Passkeys need JavaScript, a browser that knows them, and this server's own address, " (party.origin) "." }
    })
}

/// `GET /console/sign-in`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    let (passkeys, has_app) = identity.own_factors(&ctx.session).await?;
    let sessions = identity.own_sessions(&ctx.session).await?;
    let body = html! {
        (layout::head("Your sign-in", &html! { "How you show that it is you, and where you are signed in." }, &html! {}))
        (flash(&fields))
        div class="stack-wide" {
            section class="stack" aria-labelledby="passkeys" {
                h2 id="passkeys" { "Passkeys" }
                p class="quiet" { "A passkey is in your phone, your computer or a key on your ring, and opens with your finger, face or PIN. It signs you in without a password and can't be used on a forged page." }
                @if passkeys.is_empty() { (layout::empty("No passkey yet", "Add one, and signing in takes one touch.")) }
                @else {
                    div class="scroll" {
                        table {
                            thead { tr { th scope="col" { "Name" } th scope="col" { "Where" } th scope="col" { "Added" } th scope="col" { "Last used" } th scope="col" { span class="visually-hidden" { "What can be done" } } } }
                            tbody { @for passkey in &passkeys { (passkey_row(&ctx, passkey)) } }
                        }
                    }
                }
                (add_form(&ctx).await?)
            }
            section class="stack" aria-labelledby="app" {
                h2 id="app" { "Authenticator app" }
                @if has_app {
                    p { "Set up: its code follows your password." }
                    div class="cluster" {
                        a class="button" href="/console/sign-in/app" { "Set up another app" }
                        (post(&ctx, "/console/sign-in/app/remove", "Remove the app", ""))
                    }
                } @else {
                    p { "Not set up. A passkey follows your password." }
                    a class="button" href="/console/sign-in/app" { "Set an app up" }
                }
            }
            section class="stack" aria-labelledby="sessions" {
                h2 id="sessions" { "Where you are signed in" }
                p class="quiet" { "End a session that you don't know, then change your second factors." }
                @if sessions.len() > 1 { (post(&ctx, "/console/sign-in/sessions/end-others", "End all others", "")) }
                div class="scroll" {
                    table {
                        thead { tr { th scope="col" { "Browser" } th scope="col" { "Signed in" } th scope="col" { "Since" } th scope="col" { "Last used" } th scope="col" { span class="visually-hidden" { "What can be done" } } } }
                        tbody { @for (place, session) in sessions.iter().enumerate() { (session_row(&ctx, session, place + 1)) } }
                    }
                }
            }
        }
    };
    Ok(console(&ctx, "Your sign-in", Section::Own, None, &body))
}

/// `GET /console/sign-in/app`: a key for a new authenticator app.
pub(crate) async fn app_page(ctx: Ctx) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    let new = identity.ask_for_own_code(&ctx.session).await?;
    let body = html! {
        (layout::head("Set up an authenticator app", &html! { "The app before, if there is one, works no more once the first code of this one has come." }, &html! {}))
        div class="stack-wide narrow" {
            ol class="stack" {
                li { "1. Open an authenticator app on your phone." }
                li { "2. Scan this picture, or type the key. It is shown only now." }
            }
            @if let Some(code) = qr(&new.url) { div { (code) } }
            p { code { (grouped(&new.secret)) } }
            p { "3. Type the code that the app shows." }
            form class="fields" method="post" action="/console/sign-in/app" {
                (csrf(&ctx))
                input type="hidden" name="sealed" value=(new.sealed);
                label { "Code" span class="hint" { "Six digits from the new app" }
                    input class="code" type="text" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="8" required data-code; }
                div { button class="primary" type="submit" { "Use this app" } }
            }
            p { a href=(HERE) { "Leave it as it is" } }
        }
    };
    Ok(console(
        &ctx,
        "Authenticator app",
        Section::Own,
        None,
        &body,
    ))
}

/// `POST /console/sign-in/app`.
pub(crate) async fn set_app(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let (sealed, code) = (
        fields.get("sealed").unwrap_or_default(),
        fields.get("code").unwrap_or_default(),
    );
    let identity = ctx.app.web.trust.identity();
    identity.set_own_code(&ctx.session, sealed, code).await?;
    Ok(done("app"))
}

/// `POST /console/sign-in/app/remove`.
pub(crate) async fn remove_app(Posted { ctx, .. }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.remove_own_code(&ctx.session).await?;
    Ok(done("no-app"))
}

/// `POST /console/sign-in/passkeys`.
pub(crate) async fn add(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let party = ctx.app.party.as_ref().ok_or(PageError::NotFound)?;
    let field = |name: &str| fields.get(name).unwrap_or_default();
    let identity = ctx.app.web.trust.identity();
    identity
        .add_passkey(
            party,
            &ctx.session,
            field("sealed"),
            field("answer"),
            field("name"),
        )
        .await?;
    Ok(done("added"))
}

/// `POST /console/sign-in/passkeys/{id}/remove`.
pub(crate) async fn remove(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.remove_passkey(&ctx.session, &id).await?;
    Ok(done("removed"))
}

/// `POST /console/sign-in/sessions/{id}/end`.
pub(crate) async fn end(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_own_session(&ctx.session, &id).await?;
    Ok(done("ended"))
}

/// `POST /console/sign-in/sessions/end-others`.
pub(crate) async fn end_others(Posted { ctx, .. }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    identity.end_other_sessions(&ctx.session).await?;
    Ok(done("others"))
}
