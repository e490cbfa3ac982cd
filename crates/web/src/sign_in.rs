//! Signing in and out: password and one-time code for staff, link and date of birth for patients.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::TrustError;
use trust::identity::{SecondFactors, SignIn};

use crate::context::{
    self, App, Ctx, Fields, Posted, RequestInfo, cookie, escape, form_fields, from_elsewhere,
    same_secret,
};
use crate::error::PageError;
use crate::passkeys::{self, Form};
use crate::{DemoLogin, layout, providers};

pub(crate) fn info(request: &Request) -> RequestInfo {
    request
        .extensions()
        .get::<RequestInfo>()
        .cloned()
        .unwrap_or_default()
}

pub(crate) fn set_cookie(app: &App, response: &mut Response, name: &str, value: &str, more: &str) {
    let secure = if app.web.secure_cookies {
        "; Secure"
    } else {
        ""
    };
    if let Ok(value) =
        HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly{secure}{more}"))
    {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Where applications send people. Their request is longer than the address of a page, and the addresses in
/// it have slashes; the path is fixed, so that nobody is led elsewhere.
const AUTHORIZE: &str = "/oauth/authorize?";
/// The most bytes of an application's request to come back to.
const AUTHORIZE_BYTES_MAX: usize = 8 << 10;

/// The most bytes of an application's request that is remembered for a sign-in by link: what browsers keep of a
/// cookie is 4096 bytes with its name.
const REMEMBERED_BYTES_MAX: usize = 3800;
/// How long it is remembered: until a mail has come and was opened.
const REMEMBERED: &str = "; SameSite=Lax; Max-Age=900";
const FORGOTTEN: &str = "; SameSite=Lax; Max-Age=0";

/// Remembers an application's request in this browser.
fn remember(app: &App, response: &mut Response, next: Option<&str>) {
    let request = next.filter(|next| next.starts_with(AUTHORIZE));
    let request = request.map(context::escape);
    if let Some(request) = request.filter(|request| request.len() <= REMEMBERED_BYTES_MAX) {
        set_cookie(app, response, app.request_cookie(), &request, REMEMBERED);
    }
}

/// The request that was remembered: looked at like one that comes, since anybody may have written it.
fn remembered(app: &App, headers: &HeaderMap) -> Option<String> {
    let escaped = cookie(headers, app.request_cookie())?;
    let pair = format!("next={escaped}");
    let (_, next) = form_urlencoded::parse(pair.as_bytes()).next()?;
    safe_next(Some(&next))
        .filter(|next| next.starts_with(AUTHORIZE))
        .map(str::to_owned)
}

/// A place of our own to go to after signing in; anything else is ignored.
pub(crate) fn safe_next(next: Option<&str>) -> Option<&str> {
    let is_plain = |path: &str| {
        path.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    next.filter(|path| is_plain(path)).filter(|path| {
        let of_page = (path.starts_with("/console/")
            || path.starts_with("/portal")
            || path.starts_with("/fhir/"))
            && path.len() < 512
            && !path.contains("//");
        of_page || (path.starts_with(AUTHORIZE) && path.len() <= AUTHORIZE_BYTES_MAX)
    })
}

/// Sign-in forms have no session, so their token is compared with a cookie that only we can set.
/// The token of a page already open (another tab) is kept.
fn form_token(app: &App, headers: &HeaderMap) -> (String, bool) {
    cookie(headers, app.form_cookie())
        .filter(|token| token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map_or_else(
            || (app.random_hex(32), true),
            |token| (token.to_owned(), false),
        )
}

fn with_form_cookie(app: &App, mut response: Response, token: &str, fresh: bool) -> Response {
    if fresh {
        set_cookie(
            app,
            &mut response,
            app.form_cookie(),
            token,
            "; SameSite=Strict",
        );
    }
    response
}

/// Reads a sign-in form and checks that it is ours.
pub(crate) async fn checked(
    app: &App,
    request: Request,
) -> Result<(RequestInfo, HeaderMap, Fields), PageError> {
    let info = info(&request);
    let headers = request.headers().clone();
    let fields = form_fields(request).await?;
    let expected = cookie(&headers, app.form_cookie()).unwrap_or_default();
    if from_elsewhere(&headers)
        || expected.is_empty()
        || !same_secret(expected, fields.raw("form").unwrap_or_default())
    {
        return Err(PageError::Forged);
    }
    Ok((info, headers, fields))
}

fn problem(words: &str) -> Markup {
    html! { div class="problem" role="alert" { strong { "That did not work. " } (words) } }
}

/// The one-time code of a demo login, now.
fn demo_code(app: &App, login: &DemoLogin) -> Option<String> {
    let secret = totp_rs::Secret::try_from_base32(&login.totp).ok()?;
    let totp = totp_rs::Builder::new().with_secret(secret).build().ok()?;
    Some(
        totp.generate(app.web.trust.wall_clock().now_ms() / 1000)
            .to_string(),
    )
}

pub(crate) fn login_page(
    app: &App,
    request: &RequestInfo,
    headers: &HeaderMap,
    next: Option<&str>,
    trouble: Option<&str>,
) -> Result<Response, PageError> {
    let (token, fresh) = form_token(app, headers);
    let passkey = match &app.party {
        Some(party) => {
            let identity = app.web.trust.identity();
            Some(identity.ask_for_passkey(party, app.web.tenant, &token)?)
        }
        None => None,
    };
    let again = next.map_or_else(
        || "/sign-in".to_owned(),
        |next| format!("/sign-in?next={}", context::escape(next)),
    );
    let hidden = html! {
        input type="hidden" name="form" value=(token);
        @if let Some(next) = next { input type="hidden" name="next" value=(next); }
    };
    let logins = &app.web.demo_logins;
    let others = app.providers();
    let body = html! {
        div class={ @if logins.is_empty() { "narrow stack-wide" } @else { "columns half" } } {
            section class="stack-wide" aria-labelledby="sign-in" {
                div class="stack" {
                    h1 id="sign-in" { "Sign in" }
                    @if next.is_some_and(|next| next.starts_with(AUTHORIZE)) {
                        p { "An app asks to be let in. Staff sign in here. Patients open the link in their e-mail, in this browser and within a quarter of an hour; then they are asked about the app." }
                    } @else {
                        p class="quiet" { "For staff. Patients sign in with the link in their e-mail." }
                    }
                }
                @if let Some(words) = trouble { (problem(words)) }
                @if !others.is_empty() {
                    div class="stack" {
                        @for other in others { div { a class="button primary" href=(providers::address(other, next)) { "Sign in with " (other.name) } } }
                        p class="quiet" { "Or with a user name and password:" }
                    }
                }
                form class="fields" method="post" action="/sign-in" {
                    (hidden)
                    label { "User name" input type="text" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required; }
                    label { "Password" input type="password" name="password" autocomplete="current-password" required; }
                    div { button class=[others.is_empty().then_some("primary")] type="submit" { "Continue" } }
                }
                @if let Some(question) = &passkey {
                    (passkeys::form(app, &Form {
                        id: "passkey", what: "show", action: "/sign-in/passkey", again: Some(&again), names: ("sealed", "answer"),
                        question, word: "Sign in with a passkey", primary: false,
                    }, &hidden))
                }
            }
            @if !logins.is_empty() {
                section class="demo stack" aria-labelledby="demo-logins" {
                    h2 id="demo-logins" { "Demo logins" }
                    p { "This is the demo, and these logins are shown to everyone who opens this page. " (layout::demo_people(app)) " Outside the demo this panel does not exist." }
                    ul class="stack" {
                        @for login in logins {
                            li class="spread" {
                                div {
                                    span class="strong" { (login.user_name) } " · " (login.role) br;
                                    span class="quiet small" { "password " code { (login.password) } @if let Some(code) = demo_code(app, login) { " · code now " code { (code) } } }
                                }
                                form method="post" action="/sign-in" {
                                    (hidden)
                                    input type="hidden" name="user" value=(login.user_name);
                                    input type="hidden" name="password" value=(login.password);
                                    button type="submit" { "Sign in as " (login.user_name) }
                                }
                            }
                        }
                    }
                    p class="small quiet" { "To sign in as a patient, open a message in the mailbox in the console and follow its link." }
                }
            }
        }
    };
    let mut page = layout::bare(app, request, "Sign in", &body);
    remember(app, &mut page, next);
    Ok(with_form_cookie(app, page, &token, fresh))
}

/// `GET /sign-in`.
pub(crate) async fn page(
    State(app): State<Arc<App>>,
    fields: Fields,
    request: Request,
) -> Result<Response, PageError> {
    login_page(
        &app,
        &info(&request),
        request.headers(),
        safe_next(fields.get("next")),
        None,
    )
}

/// Words for a failed try that may be shown; other errors pass through.
pub(crate) fn trouble(error: TrustError, otherwise: &'static str) -> Result<String, PageError> {
    match error {
        TrustError::SignIn => Ok(otherwise.to_owned()),
        TrustError::LockedOut { wait_s } => Ok(format!("Too many tries. Wait {wait_s} seconds.")),
        error => Err(error.into()),
    }
}

/// `POST /sign-in`: user name and password.
pub(crate) async fn password(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, PageError> {
    let (info, headers, fields) = checked(&app, request).await?;
    let (user, next) = (
        fields.get("user").unwrap_or_default(),
        safe_next(fields.get("next")),
    );
    match app
        .web
        .trust
        .identity()
        .password(
            app.web.tenant,
            user,
            fields.raw("password").unwrap_or_default(),
        )
        .await
    {
        Ok(step) => go_on(&app, &info, &headers, step, user, next, None).await,
        Err(error) => {
            let words = trouble(error, "User name or password is wrong.")?;
            login_page(&app, &info, &headers, next, Some(&words))
        }
    }
}

/// `POST /sign-in/code`: the second factor.
pub(crate) async fn code(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, PageError> {
    let (info, headers, fields) = checked(&app, request).await?;
    let (user, next) = (
        fields.get("user").unwrap_or_default(),
        safe_next(fields.get("next")),
    );
    let ticket = fields.get("ticket").unwrap_or_default();
    let digits: String = fields
        .get("code")
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    match app
        .web
        .trust
        .identity()
        .second_factor(ticket, &digits)
        .await
    {
        Ok(step) => go_on(&app, &info, &headers, step, user, next, None).await,
        Err(error) => {
            let words = trouble(
                error,
                "The code is wrong, was used already, or came too late. Wait for the next one.",
            )?;
            // Enrolment shows its secret once only: a wrong first code starts over with the password.
            if fields.get("enrol").is_some() {
                return login_page(&app, &info, &headers, next, Some(&words));
            }
            let step = SignIn::SecondFactor {
                ticket: ticket.to_owned(),
            };
            go_on(&app, &info, &headers, step, user, next, Some(&words)).await
        }
    }
}

/// The cookie of a session that was just opened.
pub(crate) fn set_session(app: &App, response: &mut Response, secret: &str) {
    set_cookie(
        app,
        response,
        app.session_cookie(),
        secret,
        "; SameSite=Lax",
    );
}

pub(crate) async fn go_on(
    app: &App,
    info: &RequestInfo,
    headers: &HeaderMap,
    step: SignIn,
    user: &str,
    next: Option<&str>,
    trouble: Option<&str>,
) -> Result<Response, PageError> {
    let (token, fresh) = form_token(app, headers);
    let code_form = |ticket: &str, enrol: bool, code: Option<&str>| {
        html! {
            form class="fields" method="post" action="/sign-in/code" {
                input type="hidden" name="form" value=(token);
                input type="hidden" name="ticket" value=(ticket);
                input type="hidden" name="user" value=(user);
                @if enrol { input type="hidden" name="enrol" value="yes"; }
                @if let Some(next) = next { input type="hidden" name="next" value=(next); }
                label { "Code" span class="hint" { "Six digits from your authenticator app" }
                    input class="code" type="text" name="code" value=[code] inputmode="numeric" autocomplete="one-time-code" maxlength="8" required autofocus data-code; }
                div { button class="primary" type="submit" { "Sign in" } }
            }
        }
    };
    Ok(match step {
        SignIn::Done { secret, session } => {
            let target = next.unwrap_or_else(|| context::home(session.agent.role));
            let mut response = Redirect::to(target).into_response();
            set_session(app, &mut response, &secret);
            // It ends with this session now. Whoever can't be told apart is signed in all the same.
            if let Some(device) = cookie(headers, app.device_cookie()) {
                let identity = app.web.trust.identity();
                if let Err(error) = identity.is_at_push_device(&session, device).await {
                    tracing::error!(%error, "where somebody with notifications signed in could not be written down");
                }
            }
            response
        }
        SignIn::SecondFactor { ticket } => {
            let identity = app.web.trust.identity();
            let factors = match identity
                .second_factors(app.party.as_ref(), &ticket, &token)
                .await
            {
                Ok(factors) => factors,
                // The sign-in is over; a wrong code has the same page, and so tells nothing.
                Err(TrustError::SignIn) => SecondFactors {
                    code: true,
                    passkey: None,
                },
                Err(error) => return Err(error.into()),
            };
            let carried = html! {
                input type="hidden" name="form" value=(token);
                input type="hidden" name="ticket" value=(ticket);
                @if let Some(next) = next { input type="hidden" name="next" value=(next); }
            };
            let passkey = factors.passkey.as_ref().map(|question| Form {
                id: "second-passkey",
                what: "show",
                action: "/sign-in/passkey",
                again: None,
                names: ("sealed", "answer"),
                question,
                word: "Use a passkey",
                primary: !factors.code,
            });
            let demo = app
                .web
                .demo_logins
                .iter()
                .find(|login| login.user_name == user)
                .and_then(|login| demo_code(app, login));
            let body = html! {
                div class="narrow stack-wide" {
                    h1 { @if factors.code { "Your one-time code" } @else { "Your passkey" } }
                    @if let Some(words) = trouble { (problem(words)) }
                    @if factors.code { (code_form(&ticket, false, demo.as_deref())) }
                    @if let Some(passkey) = &passkey { (passkeys::form(app, passkey, &carried)) }
                    @if !factors.code {
                        p id="second-passkey-without" class="note" { "Your account has passkeys alone. They need JavaScript, a browser that knows them, and this server's own address. An administrator can reset your second factor." }
                    }
                    @if demo.is_some() && factors.code {
                        p class="demo small" { span class="strong" { "Demo: " } "the code is filled in for you. Outside the demo it comes from your authenticator app only." }
                    }
                    p { a href="/sign-in" { "Start again" } }
                }
            };
            with_form_cookie(
                app,
                layout::bare(app, info, "One-time code", &body),
                &token,
                fresh,
            )
        }
        SignIn::EnrolTotp {
            ticket,
            secret,
            url,
        } => {
            let body = html! {
                div class="narrow stack-wide" {
                    h1 { "Set up your second factor" }
                    @if let Some(words) = trouble { (problem(words)) }
                    ol class="stack" {
                        li { "1. Open an authenticator app on your phone." }
                        li { "2. Scan this picture, or type the key. It is shown only now." }
                    }
                    @if let Some(code) = qr(&url) { div { (code) } }
                    p { code { (grouped(&secret)) } }
                    p { "3. Type the code that the app shows." }
                    (code_form(&ticket, true, None))
                }
            };
            with_form_cookie(
                app,
                layout::bare(app, info, "Second factor", &body),
                &token,
                fresh,
            )
        }
    })
}

/// A key in groups of four, as people type it.
pub(crate) fn grouped(secret: &str) -> String {
    let parts = secret.as_bytes().chunks(4);
    let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
    parts.join(" ")
}

/// A QR code as SVG: one path, no style.
pub(crate) fn qr(text: &str) -> Option<Markup> {
    use std::fmt::Write as _;
    let code = qrcode::QrCode::new(text.as_bytes()).ok()?;
    let width = code.width();
    let mut path = String::new();
    for (place, colour) in code.to_colors().into_iter().enumerate() {
        if colour == qrcode::Color::Dark {
            let _ = write!(path, "M{} {}h1v1h-1z", place % width + 4, place / width + 4);
        }
    }
    let side = width + 8;
    Some(html! {
        svg class="qr" role="img" aria-label="QR code of the key below" width="200" height="200" viewBox={ "0 0 " (side) " " (side) } shape-rendering="crispEdges" { path d=(path) {} }
    })
}

fn link_page(
    app: &App,
    info: &RequestInfo,
    headers: &HeaderMap,
    secret: &str,
    next: Option<&str>,
    trouble: Option<&str>,
) -> Response {
    let (token, fresh) = form_token(app, headers);
    let body = html! {
        div class="narrow stack-wide" {
            h1 { "Hello. Is it you?" }
            p { "Please give your date of birth. It makes sure that nobody else can open your pages with this link." }
            @if let Some(words) = trouble { (problem(words)) }
            form class="fields" method="post" action={ "/sign-in/link/" (context::escape(secret)) } {
                input type="hidden" name="form" value=(token);
                @if let Some(next) = next { input type="hidden" name="next" value=(next); }
                label { "Date of birth" input type="date" name="birth_date" autocomplete="bday" min="1900-01-01" required; }
                div { button class="primary" type="submit" { "Open my pages" } }
            }
            p class="quiet small" { "Not expecting this? Then just close this page. Nothing has been opened." }
        }
    };
    with_form_cookie(
        app,
        layout::bare_as(app, info, "Sign in", Some("portal"), &body),
        &token,
        fresh,
    )
}

/// `GET /sign-in/link/{secret}`: asks for the date of birth. Getting the page uses nothing up, so
/// that a mail scanner which follows links can't burn one.
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    Path(secret): Path<String>,
    fields: Fields,
    request: Request,
) -> Response {
    link_page(
        &app,
        &info(&request),
        request.headers(),
        &secret,
        safe_next(fields.get("next")),
        None,
    )
}

/// `POST /sign-in/link/{secret}`.
pub(crate) async fn use_link(
    State(app): State<Arc<App>>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, PageError> {
    let (info, headers, fields) = checked(&app, request).await?;
    let next = safe_next(fields.get("next"));
    match app
        .web
        .trust
        .identity()
        .use_link(
            app.web.tenant,
            &secret,
            fields.get("birth_date").unwrap_or_default(),
        )
        .await
    {
        Ok(step) => {
            // Who came with an application is asked about it first.
            let request = remembered(&app, &headers);
            let next = request.as_deref().or(next);
            let mut response = go_on(&app, &info, &headers, step, "", next, None).await?;
            if request.is_some() {
                set_cookie(&app, &mut response, app.request_cookie(), "", FORGOTTEN);
            }
            Ok(response)
        }
        Err(error) => {
            let words = trouble(
                error,
                "The date does not match, or the link is too old or was used already. Check the date; if it is right, use the link in your newest message.",
            )?;
            Ok(link_page(
                &app,
                &info,
                &headers,
                &secret,
                next,
                Some(&words),
            ))
        }
    }
}

/// `POST /sign-out`. The browser forgets all that it keeps of these pages, and with it what shows notifications, whoever
/// turned them on in it; so they end here, too.
pub(crate) async fn sign_out(
    headers: HeaderMap,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let identity = ctx.app.web.trust.identity();
    let device = cookie(&headers, ctx.app.device_cookie());
    identity.sign_out(&ctx.secret).await?;
    if let Some(device) = device {
        let tenant = ctx.app.web.tenant;
        // Its push service knows it no more, and says so when it is asked.
        if let Err(error) = identity.leave_push_device(tenant, device).await {
            tracing::error!(%error, "notifications in a browser that was signed out in could not be turned off");
        }
    }
    // Whoever signs out to sign in again goes on where they were.
    let target = match safe_next(fields.get("next")) {
        Some(next) => format!("/sign-in?next={}", escape(next)),
        None => providers::after_sign_out(&ctx.app, ctx.session.provider.as_deref()),
    };
    let mut response = Redirect::to(&target).into_response();
    set_cookie(
        &ctx.app,
        &mut response,
        ctx.app.session_cookie(),
        "",
        "; SameSite=Lax; Max-Age=0",
    );
    if device.is_some() {
        set_cookie(
            &ctx.app,
            &mut response,
            ctx.app.device_cookie(),
            "",
            FORGOTTEN,
        );
    }
    response.headers_mut().insert(
        "clear-site-data",
        HeaderValue::from_static("\"cache\", \"storage\""),
    );
    Ok(response)
}

/// `GET /`: where this person's work starts.
pub(crate) async fn start(ctx: Result<Ctx, PageError>) -> Result<Redirect, PageError> {
    ctx.map(|ctx| Redirect::to(ctx.home()))
}

/// `POST /theme`: the toggle without JavaScript. It changes nothing but the colours, so it needs no
/// token; a page of another site can't send it because the browser says so.
pub(crate) async fn theme(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, PageError> {
    if from_elsewhere(request.headers()) {
        return Err(PageError::Forged);
    }
    let dark = info(&request).theme == Some("dark");
    let fields = form_fields(request).await?;
    let back = fields
        .get("back")
        .filter(|path| safe_next(Some(path)).is_some() || *path == "/sign-in")
        .unwrap_or("/");
    let mut response = Redirect::to(back).into_response();
    let secure = if app.web.secure_cookies {
        "; Secure"
    } else {
        ""
    };
    let cookie = format!(
        "cairn-theme={}; Path=/; Max-Age=31536000; SameSite=Lax{secure}",
        if dark { "light" } else { "dark" }
    );
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_places_are_come_back_to() {
        for (path, safe) in [
            ("/console/worklist?mine=1", true),
            ("/portal", true),
            ("/portal/inbox/0a1b", true),
            ("//evil.example", false),
            ("https://evil.example", false),
            ("/console//evil.example", false),
            ("/console/\\evil", false),
            ("/sign-out", false),
            ("/oauth/authorize?redirect_uri=https://app.example", true),
            ("/oauth/authorize/../x", false),
            ("/oauth/authorize", false),
            ("/oauth/token?x", false),
            ("https://evil.example/oauth/authorize?", false),
        ] {
            assert_eq!(safe_next(Some(path)).is_some(), safe, "{path}");
        }
        assert_eq!(safe_next(None), None);
    }

    #[test]
    fn a_qr_code_holds_no_style() {
        let code = qr("otpauth://totp/Cairn:carla?secret=ABC")
            .unwrap()
            .into_string();
        assert!(code.contains("<path d=\"M") && !code.contains("style"));
    }
}
