//! Accounts of people and access tokens of other systems: who has a way in, and taking it away. What
//! is taken away here is gone at the next request.

mod links;
pub(crate) mod registered;
pub(crate) mod sessions;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::identity::{
    AccountView, ClientState, ClientView, LinkView, NewApp, NewSystem, SystemKeys,
};
use trust::{Action, Permit, Role};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, count_of, csrf, role_words};
use crate::time::signed;

/// Accounts on a page.
const PAGE: usize = 100;
/// The page itself.
const HERE: &str = "/console/accounts";
/// Roles that accounts have, as a filter.
const ROLES: [Role; 7] = [
    Role::Coordinator,
    Role::Clinician,
    Role::PrivacyOfficer,
    Role::Squad,
    Role::Administrator,
    Role::Biller,
    Role::Patient,
];

async fn permit(ctx: &Ctx) -> Result<Permit, PageError> {
    ctx.permit(Action::Administer, None, None).await
}

/// Which accounts are shown.
struct Filter {
    role: Option<Role>,
    /// Open ones, closed ones, or both.
    active: Option<bool>,
    page: usize,
}

impl Filter {
    fn of(fields: &Fields) -> Self {
        Self {
            role: fields
                .get("role")
                .and_then(Role::parse)
                .filter(|role| ROLES.contains(role)),
            active: match fields.get("state") {
                Some("open") => Some(true),
                Some("closed") => Some(false),
                _ => None,
            },
            page: fields
                .get("page")
                .and_then(|page| page.parse().ok())
                .unwrap_or(1)
                .max(1),
        }
    }
    fn fits(&self, account: &AccountView) -> bool {
        self.role.is_none_or(|role| account.role == role)
            && self.active.is_none_or(|active| account.active == active)
    }
}

/// What to call an account. Administrators open no record, so a patient has no name here.
fn title(account: &AccountView) -> String {
    match &account.patient {
        Some(patient) => format!("Patient {}", layout::short_id(patient)),
        None => account.name.clone(),
    }
}

fn post(ctx: &Ctx, to: &str, back: &str, word: &str) -> Markup {
    html! {
        form method="post" action=(to) {
            (csrf(ctx))
            input type="hidden" name="back" value=(back);
            button type="submit" { (word) }
        }
    }
}

/// A deed that can't be undone: says what happens, and asks why.
fn asked(ctx: &Ctx, id: &str, to: &str, back: &str, word: &str, what: &str, act: &str) -> Markup {
    html! {
        details id=(id) {
            summary class="button" { (word) "…" }
            form class="ask stack" method="post" action=(to) {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                p { (what) }
                label { "Why" span class="hint" { "Stands in the audit, where privacy officers read it" }
                    input type="text" name="reason" required maxlength="200" autocomplete="off"; }
                button class="primary" type="submit" { (act) }
            }
        }
    }
}

fn account_row(
    ctx: &Ctx,
    account: &AccountView,
    links: &[LinkView],
    sessions: usize,
    back: &str,
) -> Markup {
    let own = account.id == ctx.session.agent.id;
    let to = |deed: &str| format!("{HERE}/{}/{deed}", account.id);
    html! {
        tr data-key=(account.id) {
            th scope="row" {
                (title(account))
                @if own { " " span class="tag" { "you" } }
                @if !account.user_name.is_empty() { br; span class="quiet small" { (account.user_name) } }
                (links::shown(ctx, account, links))
            }
            td { (role_words(account.role)) }
            td {
                @if account.active { (layout::state(State::Running, "Open")) } @else { (layout::state(State::Waiting, "Closed")) }
            }
            td {
                @if account.user_name.is_empty() { span class="quiet" { "by link" } }
                @else if account.second_factor { "set up" }
                @else if account.role == Role::Patient { span class="quiet" { "none needed" } }
                @else { span class="quiet" { "at the next sign-in" } }
            }
            td { a href={ (HERE) "/" (account.id) } { @if sessions == 0 { "none" } @else { (count_of(sessions, "session")) } span class="visually-hidden" { " and the apps of " (title(account)) } } }
            td {
                div class="acts cluster" {
                    // Applications that were let in can act without a session.
                    @if account.active || sessions > 0 { (post(ctx, &to("end-sessions"), back, "Sign out everywhere")) }
                    @if !own && account.second_factor {
                        (asked(ctx, &format!("reset-{}", account.id), &to("reset"), back, "Reset second factor",
                            "Their sessions end. Whoever signs in next with the password sets up a new second factor, so make sure that it is them.",
                            "Reset second factor"))
                    }
                    @if !own {
                        @if account.active { (post(ctx, &to("close"), back, "Close")) }
                        @else { (post(ctx, &to("reopen"), back, "Reopen")) }
                    }
                    (links::acts(ctx, account, links, back))
                }
            }
        }
    }
}

fn client_row(ctx: &Ctx, client: &ClientView, back: &str) -> Markup {
    html! {
        tr data-key=(client.id) {
            th scope="row" {
                (client.name) br;
                // A client_id is told to its system; the others are nobody's to know.
                span class="quiet small mono" { @if client.scopes.is_some() { (client.id) } @else { (layout::short_id(&client.id)) } }
            }
            td {
                @if client.redirect_uris.is_empty() { (role_words(client.role)) @if let Some(registered) = &client.registered { @if client.state != ClientState::Waiting { (registered::words(ctx, registered)) } } }
                @else { "an app" @for address in &client.redirect_uris { br; span class="quiet small mono" { (address) } } }
                @if let Some(address) = &client.launch_uri { br; span class="quiet small" { "opens at " span class="mono" { (address) } } }
            }
            td {
                @match client.state {
                    ClientState::Waiting => (layout::state(State::NeedsYou, "Waits for approval")),
                    ClientState::Active => (layout::state(State::Running, "In use")),
                    ClientState::Revoked => (layout::state(State::Failed, "Revoked")),
                    ClientState::Expired => (layout::state(State::Waiting, "Expired")),
                }
            }
            td {
                @match (client.expires_ms, &client.scopes) {
                    (Some(ends_ms), _) => (ctx.times.wall(signed(ends_ms))),
                    (None, Some(scopes)) => { @if client.redirect_uris.is_empty() { span class="quiet" { "Has a key" } br; } span class="mono small" { (scopes) } },
                    (None, None) => {},
                }
            }
            td {
                @if client.state == ClientState::Waiting {
                    div class="acts cluster" {
                        (approve_form(ctx, client, back))
                        (asked(ctx, &format!("revoke-{}", client.id), &format!("/console/clients/{}/revoke", client.id), back, "Turn down",
                            "The system is not let in, and has to ask anew.",
                            "Turn down"))
                    }
                }
                @if client.state == ClientState::Active {
                    div class="acts cluster" {
                        @if client.registered.is_some() { (registered::form(ctx, client, back)) }
                        (asked(ctx, &format!("revoke-{}", client.id), &format!("/console/clients/{}/revoke", client.id), back, "Revoke",
                            "The system is refused from its next request on. This can't be undone; it is let in anew with cairn client create, register or register-app.",
                            "Revoke for good"))
                    }
                }
            }
        }
    }
}

/// Lets a system in that asked for it. Who asked is nobody whom this server knows.
fn approve_form(ctx: &Ctx, client: &ClientView, back: &str) -> Markup {
    html! {
        details id={ "approve-" (client.id) } {
            summary class="button" { "Approve…" }
            form class="ask stack" method="post" action={ "/console/clients/" (client.id) "/approve" } {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                @if client.redirect_uris.is_empty() {
                    p { "Name and keys are what a stranger sent. Make sure with the system's owner that the request is theirs: whoever holds the key gets in." }
                } @else {
                    p { "Name and addresses are what a stranger sent. Make sure with the app's maker that the request is theirs: people see the name and trust it, and are sent to the addresses." }
                }
                label { "Scopes" span class="hint" { "The most that it may ask for; take away what it doesn't need" }
                    input type="text" name="scopes" required maxlength="8192" autocomplete="off" spellcheck="false" value=(client.scopes.as_deref().unwrap_or_default()); }
                @if client.redirect_uris.is_empty() { (registered::fields(ctx, None)) }
                button class="primary" type="submit" { "Approve" }
            }
        }
    }
}

/// Lets a system in that has a key of its own.
fn register_form(ctx: &Ctx) -> Markup {
    html! {
        details id="register" {
            summary class="button" { "Register a system with a key…" }
            form class="ask stack" method="post" action="/console/clients" {
                (csrf(ctx))
                p { "For SMART Backend Services: the system signs in with its private key, and gets access tokens of five minutes. Give it the client_id that the list shows then." }
                label { "Name" span class="hint" { "Stands in the audit beside all that it does" }
                    input type="text" name="name" required maxlength="200" autocomplete="off"; }
                label { "Scopes" span class="hint" { "The most that it may ask for, such as system/Patient.rs system/Observation.rs?category=laboratory" }
                    input type="text" name="scopes" required maxlength="8192" autocomplete="off" spellcheck="false"; }
                label { "Public keys" span class="hint" { "A JSON Web Key Set with RSA keys (RS384) or P-384 keys (ES384), or the address of one at an origin that the server's configuration allows" }
                    textarea name="keys" required spellcheck="false" {} }
                (registered::fields(ctx, None))
                button class="primary" type="submit" { "Register" }
            }
        }
    }
}

/// Lets an application in that people launch.
fn register_app_form(ctx: &Ctx) -> Markup {
    html! {
        details id="register-app" {
            summary class="button" { "Register an app…" }
            form class="ask stack" method="post" action="/console/clients/apps" {
                (csrf(ctx))
                p { "For SMART App Launch: patients and those who treat them let the app in, each for themselves. Give its maker the client_id that the list shows then." }
                label { "Name" span class="hint" { "Shown to the people who let it in" }
                    input type="text" name="name" required maxlength="200" autocomplete="off"; }
                label { "Redirect addresses" span class="hint" { "Where people go back to, one a line: https, or http://127.0.0.1 for programs on their own machine" }
                    textarea name="redirect_uris" required spellcheck="false" {} }
                label { "Launch address" span class="hint" { "Where the app opens from a patient's page; empty if it does not. It needs the scope launch, too" }
                    input type="url" name="launch_uri" maxlength="1000" autocomplete="off" spellcheck="false"; }
                label { "Scopes" span class="hint" { "The most that it may ask for, such as launch/patient offline_access patient/*.rs user/Observation.rs" }
                    input type="text" name="scopes" required maxlength="8192" autocomplete="off" spellcheck="false"; }
                label { "Public keys" span class="hint" { "For an app with a server of its own: a JSON Web Key Set, or the address of one. Empty for an app that keeps no secret" }
                    textarea name="keys" spellcheck="false" {} }
                button class="primary" type="submit" { "Register the app" }
            }
        }
    }
}

/// What was just done, with its undo where there is one. The id comes from the address, so it is
/// checked.
fn flash(ctx: &Ctx, fields: &Fields, back: &str) -> Markup {
    let id = |name: &str| fields.get(name).filter(|id| fhir::is_id(id));
    html! {
        @if let Some(id) = id("closed") {
            div class="flash" role="status" {
                (layout::state(State::Done, "Account closed")) " Its sessions have ended."
                (post(ctx, &format!("{HERE}/{id}/reopen"), back, "Undo"))
            }
        } @else if id("reopened").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Account open again")) " Its sessions stay ended." }
        } @else if id("reset").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Second factor reset")) }
        } @else if id("ended").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Signed out everywhere")) }
        } @else if id("linked").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Linked")) " They can sign in at the provider now." }
        } @else if id("unlinked").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Link taken away")) " What it opened has ended." }
        } @else if id("password-off").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Password switched off")) " Their sessions have ended; they sign in at the provider." }
        } @else if id("password-on").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Password switched on")) }
        } @else if id("purposes").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Purposes registered")) }
        } @else if id("revoked").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Token revoked")) }
        } @else if let Some(id) = id("registered") {
            div class="flash" role="status" { (layout::state(State::Done, "Registered")) " Its client_id is " span class="mono" { (id) } }
        } @else if fields.get("shut-out").is_some() {
            div class="flash" role="status" { (layout::state(State::Done, "Portal closed for this patient")) " The account is in the list; opening it again undoes this." }
        }
    }
}

/// Fields of the address that say what was done, not what is shown.
const SAID: [&str; 13] = [
    "password-off",
    "password-on",
    "purposes",
    "linked",
    "unlinked",
    "closed",
    "reopened",
    "reset",
    "ended",
    "revoked",
    "registered",
    "shut-out",
    "page",
];

/// `GET /console/accounts`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let identity = ctx.app.web.trust.identity();
    let (accounts, clients) = (
        identity.accounts(&permit).await?,
        identity.clients(&permit).await?,
    );
    let filter = Filter::of(&fields);
    let fitting: Vec<&AccountView> = accounts
        .rows
        .iter()
        .filter(|account| filter.fits(account))
        .collect();
    let last = fitting.len().div_ceil(PAGE).max(1);
    let shown_page = filter.page.min(last);
    let mut rows = Vec::new();
    for account in fitting.iter().skip((shown_page - 1) * PAGE).take(PAGE) {
        let sessions = identity.open_sessions(&permit, &account.id).await?;
        let links = identity.links_of(&permit, &account.id).await?;
        rows.push((*account, links, sessions));
    }
    let query = fields.to_query(&SAID);
    let back = if query.is_empty() {
        HERE.to_owned()
    } else {
        format!("{HERE}?{query}")
    };
    let joint = if query.is_empty() { "?" } else { "&" };
    let body = html! {
        (layout::head("Accounts", &html! { "Who has a way in. What you close or revoke here is refused from the next request on, and stands in the audit." }, &html! {}))
        (flash(&ctx, &fields, &back))
        form class="filters inline-fields" method="get" action=(HERE) data-auto {
            label { "Role" select name="role" {
                option value="" { "any" }
                @for role in ROLES { option value=(role.name()) selected[filter.role == Some(role)] { (role_words(role)) } }
            } }
            label { "State" select name="state" {
                option value="" { "any" }
                option value="open" selected[filter.active == Some(true)] { "open" }
                option value="closed" selected[filter.active == Some(false)] { "closed" }
            } }
            button type="submit" data-auto-hide { "Filter" }
        }
        p class="quiet" aria-live="polite" {
            (count_of(fitting.len(), "account"))
            @if !accounts.complete { " among the " (layout::thousands(accounts.rows.len() as u64)) " that were looked at; there are more" }
            "."
        }
        @if rows.is_empty() { (layout::empty("No account fits", "Choose another role or state. New accounts are made with cairn account create.")) }
        @else {
            div class="scroll" {
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "State" } th scope="col" { "Second factor" } th scope="col" { "Sessions, apps" } th scope="col" { span class="visually-hidden" { "What can be done" } } } }
                    tbody data-rows { @for (account, links, sessions) in &rows { (account_row(&ctx, account, links, *sessions, &back)) } }
                }
            }
        }
        @if last > 1 {
            nav class="pager" aria-label="Pages" {
                @if shown_page > 1 { a href={ (back) (joint) "page=" (shown_page - 1) } { "Previous" } }
                span class="quiet" { "Page " (shown_page) " of " (last) }
                @if shown_page < last { a href={ (back) (joint) "page=" (shown_page + 1) } { "Next" } }
            }
        }
        div class="stack-wide section" {
            section class="stack" aria-labelledby="shut-out" {
                h2 id="shut-out" { "Close the portal for a patient" }
                p class="quiet" { "Patients come in by the links in their messages and need no account. Closing ends their sessions and every link, those sent later too. Give the id of the patient's record; the names stay with those who treat them." }
                form class="inline-fields" method="post" action=(HERE) {
                    (csrf(&ctx))
                    label { "Patient's id" input type="text" name="patient" required maxlength="64" autocomplete="off" spellcheck="false"; }
                    button type="submit" { "Close their portal" }
                }
            }
            section class="stack" aria-labelledby="clients" {
                h2 id="clients" { "Other systems" }
                p class="quiet" { "Systems with an access token, which lasts a year; systems with a key of their own, which may ask for the scopes that are shown; and apps, which people let in." }
                @if clients.rows.is_empty() { (layout::empty("No other system has a way in", "Tokens are made with cairn client create, keys registered with cairn client register.")) }
                @else {
                    div class="scroll" {
                        table {
                            thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "State" } th scope="col" { "Ends, or scopes" } th scope="col" { span class="visually-hidden" { "What can be done" } } } }
                            tbody data-rows { @for client in &clients.rows { (client_row(&ctx, client, &back)) } }
                        }
                    }
                    @if !clients.complete { p class="note" { "There are more; these are the newest " (layout::thousands(clients.rows.len() as u64)) "." } }
                }
                (register_form(&ctx))
                (register_app_form(&ctx))
            }
        }
    };
    Ok(console(&ctx, "Accounts", Section::Accounts, None, &body))
}

/// Back to where the form was, saying what was done.
fn done(fields: &Fields, word: &str, id: &str) -> Response {
    let back = fields
        .get("back")
        .filter(|path| path.starts_with(HERE) && !path.contains("//"))
        .unwrap_or(HERE);
    let joint = if back.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{back}{joint}{word}={id}")).into_response()
}

/// Why, as it was typed; forms that ask for a reason need one.
fn reason(fields: &Fields) -> Result<&str, PageError> {
    fields.get("reason").ok_or_else(|| {
        PageError::Invalid(
            "Say why: the reason stands in the audit. Nothing was changed.".to_owned(),
        )
    })
}

/// `POST /console/accounts/{id}/{deed}`.
pub(crate) async fn act(
    Path((id, deed)): Path<(String, String)>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let identity = ctx.app.web.trust.identity();
    let word = match deed.as_str() {
        "close" => {
            identity.set_active(&permit, &id, false).await?;
            "closed"
        }
        "reopen" => {
            identity.set_active(&permit, &id, true).await?;
            "reopened"
        }
        "reset" => {
            let reason = reason(&fields)?;
            identity.reset_second_factor(&permit, &id, reason).await?;
            "reset"
        }
        "end-sessions" => {
            identity.end_sessions(&permit, &id).await?;
            "ended"
        }
        "password-off" | "password-on" => {
            let on = deed == "password-on";
            identity.set_password_sign_in(&permit, &id, on).await?;
            match on {
                true => "password-on",
                false => "password-off",
            }
        }
        "link" | "unlink" => {
            let field = |name: &str| fields.get(name).unwrap_or_default();
            let (issuer, subject) = (field("issuer"), field("subject"));
            if deed == "link" {
                identity.link_account(&permit, &id, issuer, subject).await?;
                "linked"
            } else {
                identity.unlink_account(&permit, issuer, subject).await?;
                "unlinked"
            }
        }
        _ => return Err(PageError::NotFound),
    };
    Ok(done(&fields, word, &id))
}

/// `POST /console/accounts`: closes the portal for a patient.
pub(crate) async fn shut_out(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let patient = fields.get("patient").unwrap_or_default();
    ctx.app
        .web
        .trust
        .identity()
        .set_patient_active(&permit, patient, false)
        .await?;
    Ok(Redirect::to(&format!("{HERE}?role=patient&state=closed&shut-out=yes")).into_response())
}

/// `POST /console/clients`: registers a system with a key.
pub(crate) async fn register(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    permit(&ctx).await?;
    let field = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    let keys = keys(field("keys"));
    let system = NewSystem {
        name: field("name"),
        keys,
        scopes: field("scopes"),
    };
    let registered = registered::of(&ctx, &fields)?;
    let identity = ctx.app.web.trust.identity();
    let id = identity
        .register_system_for(&ctx.session.agent, &system, &registered)
        .await?;
    Ok(done(&fields, "registered", &id))
}

/// What begins like an address is one; a set begins with a brace.
fn keys(text: String) -> SystemKeys {
    if text.starts_with("http") {
        SystemKeys::At(text)
    } else {
        SystemKeys::Set(text)
    }
}

/// `POST /console/clients/apps`: registers an application that people launch.
pub(crate) async fn register_app(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    permit(&ctx).await?;
    let field = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    let app = NewApp {
        name: field("name"),
        redirect_uris: (field("redirect_uris").split_whitespace())
            .map(str::to_owned)
            .collect(),
        launch_uri: fields.get("launch_uri").map(str::to_owned),
        scopes: field("scopes"),
        keys: match fields.get("keys") {
            Some(text) => keys(text.to_owned()),
            None => SystemKeys::None,
        },
    };
    let identity = ctx.app.web.trust.identity();
    let id = identity.register_app(&ctx.session.agent, &app).await?;
    Ok(done(&fields, "registered", &id))
}

/// `POST /console/clients/{id}/approve`.
pub(crate) async fn approve(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let scopes = fields.get("scopes").unwrap_or_default();
    let identity = ctx.app.web.trust.identity();
    // An app has no purposes of its own, and its form no fields for them.
    let registered = match fields.get("contract") {
        Some(_) => Some(registered::of(&ctx, &fields)?),
        None => None,
    };
    identity
        .approve_system_for(&permit, &id, scopes, registered.as_ref())
        .await?;
    Ok(done(&fields, "registered", &id))
}

/// `POST /console/clients/{id}/revoke`.
pub(crate) async fn revoke(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let reason = reason(&fields)?;
    let identity = ctx.app.web.trust.identity();
    identity.revoke_client(&permit, &id, reason).await?;
    Ok(done(&fields, "revoked", &id))
}
