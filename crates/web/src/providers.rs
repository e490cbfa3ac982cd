//! Signing in at the organisation's own identity provider (OpenID Connect): the way there and back, and what it
//! says when somebody has left it.
//!
//! What speaks with providers is given by `cairn`; here is what people see, and the cookie that ties a sign-in
//! to the browser that began it. That cookie is `Lax`, because the way back comes from another site.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde_json::{Value, json};
use trust::TrustError;
use trust::identity::{Admission, Arrival, Away, IdToken, LogoutToken, Lost};

use crate::context::{App, Fields, RequestInfo, cookie, escape, form_fields, from_elsewhere};
use crate::error::PageError;
use crate::layout;
use crate::sign_in::{go_on, info, login_page, safe_next, set_cookie};

/// How long a browser keeps what it needs to come back; what is in it ends by itself, too.
const AWAY_COOKIE: &str = "; SameSite=Lax; Max-Age=600";
const AWAY_OVER: &str = "; SameSite=Lax; Max-Age=0";
/// Why a provider signs nobody in (RFC 6749, section 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6).
/// Anything else is not said again: whoever made the address wrote it.
const ERRORS: [&str; 11] = [
    "access_denied",
    "invalid_request",
    "unauthorized_client",
    "unsupported_response_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

/// An identity provider that people may sign in at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    /// Its name in addresses: small letters and digits.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Its issuer.
    pub issuer: String,
}

/// Why a provider's part of a sign-in can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderFault {
    /// It can't be asked now.
    Unreachable,
    /// Too many sign-ins are on their way.
    Busy,
    /// What it answered is not taken, in words.
    Refused(&'static str),
}

/// Somebody whom a provider signed in.
#[derive(Clone)]
pub struct Redeemed {
    /// As whom; it holds.
    pub token: IdToken,
    /// Whether they showed two factors there.
    pub by_two_factors: bool,
}

/// An answer of a provider, in a while.
pub type ProviderAnswer<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, ProviderFault>> + Send + 'a>>;

/// What pages ask of identity providers.
pub trait IdentityProviders: Send + Sync {
    /// Those that there are.
    fn all(&self) -> &[IdentityProvider];
    /// The address at the provider that a sign-in begins at.
    fn authorize<'a>(&'a self, away: &'a Away) -> ProviderAnswer<'a, String>;
    /// Whom the provider signed in, for the code that it sent. `iss` is what came with it (RFC 9207).
    fn redeem<'a>(
        &'a self,
        away: &'a Away,
        code: &'a str,
        iss: Option<&'a str>,
    ) -> ProviderAnswer<'a, Redeemed>;
    /// What a logout token says, if it holds.
    fn logout<'a>(&'a self, id: &'a str, token: &'a str) -> ProviderAnswer<'a, LogoutToken>;
    /// The address at which somebody signs out at the provider; none if it has none.
    fn end_session<'a>(&'a self, id: &'a str) -> ProviderAnswer<'a, Option<String>>;
    /// This server's public keys for a provider; none where it has a secret instead.
    fn keys(&self, id: &str) -> Option<Value>;
}

impl App {
    /// The providers that people may sign in at.
    pub(crate) fn providers(&self) -> &[IdentityProvider] {
        self.web
            .providers
            .as_deref()
            .map_or(&[], IdentityProviders::all)
    }
    /// A provider by its name in addresses, with what speaks with it.
    fn provider(&self, id: &str) -> Result<(&IdentityProvider, &dyn IdentityProviders), PageError> {
        let all = self.web.providers.as_deref().ok_or(PageError::NotFound)?;
        let found = all.all().iter().find(|provider| provider.id == id);
        found.map(|found| (found, all)).ok_or(PageError::NotFound)
    }
    /// The name of the cookie that a sign-in under way is in.
    fn away_cookie(&self) -> &'static str {
        if self.web.secure_cookies {
            "__Host-cairn-away"
        } else {
            "cairn-away"
        }
    }
}

/// Where a sign-in at a provider begins that has to ask again who it is.
pub(crate) fn address_anew(provider: &IdentityProvider) -> String {
    format!("/sign-in/with/{}?anew=yes", provider.id)
}

/// Whether an application wants a sign-in that is new: where it asks that people are let through, the provider is
/// asked for one, too.
fn wants_anew(next: Option<&str>) -> bool {
    let query = next.and_then(|next| next.strip_prefix("/oauth/authorize?"));
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.any(|(name, value)| match name.as_ref() {
        "max_age" => true,
        "prompt" => (value.split(' ')).any(|one| ["login", "select_account"].contains(&one)),
        _ => false,
    })
}

/// Where a sign-in at a provider begins.
pub(crate) fn address(provider: &IdentityProvider, next: Option<&str>) -> String {
    let next = next.map(|next| format!("?next={}", escape(next)));
    format!("/sign-in/with/{}{}", provider.id, next.unwrap_or_default())
}

/// Where somebody goes who signs out of a session that a provider opened.
pub(crate) fn after_sign_out(app: &App, issuer: Option<&str>) -> String {
    let all = app.providers();
    let found = all
        .iter()
        .find(|provider| Some(provider.issuer.as_str()) == issuer);
    found.map_or_else(
        || "/sign-in".to_owned(),
        |provider| format!("/sign-in/with/{}/left", provider.id),
    )
}

fn words(provider: &IdentityProvider, fault: ProviderFault) -> String {
    let name = &provider.name;
    match fault {
        ProviderFault::Unreachable => format!(
            "{name} can't be reached at the moment. Try again in a minute, or sign in with your user name and password."
        ),
        ProviderFault::Busy => {
            "Too many people are signing in at this moment. Try again in a few seconds.".to_owned()
        }
        ProviderFault::Refused(why) => format!(
            "The answer of {name} is not taken, so nobody was signed in: {why}. Try again; if it stays so, tell your administrator."
        ),
    }
}

/// The request without its address, which holds what came from elsewhere and mustn't be said again.
fn quiet(request: &RequestInfo) -> RequestInfo {
    RequestInfo {
        here: "/sign-in".to_owned(),
        ..request.clone()
    }
}

/// `GET /sign-in/with/{provider}`: goes to the provider. It does so from our own pages alone: a page of another
/// site that led here would choose when somebody signs in, and to what.
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    fields: Fields,
    request: Request,
) -> Result<Response, PageError> {
    let (provider, all) = app.provider(&id)?;
    let next = safe_next(fields.get("next"));
    if from_elsewhere(request.headers()) {
        let next = next.map(|next| format!("?next={}", escape(next)));
        let target = format!("/sign-in{}", next.unwrap_or_default());
        return Ok(Redirect::to(&target).into_response());
    }
    let anew = fields.get("anew") == Some("yes") || wants_anew(next);
    match led_there(&app, provider, all, next, anew).await? {
        Ok((mut response, note)) => {
            set_cookie(&app, &mut response, app.away_cookie(), &note, AWAY_COOKIE);
            Ok(response)
        }
        Err(words) => {
            let info = quiet(&info(&request));
            login_page(&app, &info, request.headers(), next, Some(&words))
        }
    }
}

/// Leads somebody to a provider, with what their browser keeps; or says why not.
async fn led_there(
    app: &App,
    provider: &IdentityProvider,
    all: &dyn IdentityProviders,
    next: Option<&str>,
    anew: bool,
) -> Result<Result<(Response, String), String>, PageError> {
    let (identity, tenant) = (app.web.trust.identity(), app.web.tenant);
    let (away, note) = identity.leave(tenant, &provider.id, &provider.issuer, next, anew)?;
    Ok(match all.authorize(&away).await {
        Ok(address) => Ok((Redirect::to(&address).into_response(), note)),
        Err(fault) => Err(words(provider, fault)),
    })
}

/// A parameter that may come once (RFC 6749, section 3.1); `Err` if it comes again.
fn once<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a str>, ()> {
    let mut all = fields.0.iter().filter(|(key, _)| key == name);
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(()),
        (Some((_, value)), None) => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        (None, None) => Ok(None),
    }
}

/// `GET /sign-in/with/{provider}/back`: somebody comes back from the provider.
pub(crate) async fn back(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    fields: Fields,
    request: Request,
) -> Result<Response, PageError> {
    let (provider, _) = app.provider(&id)?;
    let (info, headers) = (quiet(&info(&request)), request.headers());
    let answer = ["state", "code", "iss", "error"].map(|name| once(&fields, name));
    let [Ok(state), Ok(code), Ok(iss), Ok(error)] = answer else {
        return Err(PageError::Invalid(
            "The answer has a part twice, so it is not taken.".to_owned(),
        ));
    };
    let (identity, tenant) = (app.web.trust.identity(), app.web.tenant);
    let note = cookie(headers, app.away_cookie()).unwrap_or_default();
    let found = identity
        .come_back(tenant, &id, note, state.unwrap_or_default())
        .await?;
    let found = match found {
        Ok(away) if away.issuer != provider.issuer => Err(Lost::NotOfThisBrowser),
        other => other,
    };
    let away = match found {
        Ok(away) => away,
        // What this browser began meanwhile goes on.
        Err(lost) => {
            let words = match lost {
                Lost::NotOfThisBrowser => {
                    "This sign-in did not begin in this browser, or another one began after it. Begin again here."
                }
                Lost::TooLate => "That took longer than ten minutes. Begin again.",
                Lost::Used => "This sign-in came back before. Begin again.",
            };
            return login_page(&app, &info, headers, None, Some(words));
        }
    };
    let told = Told { code, iss, error };
    let (mut response, note) = arrive(&app, &info, headers, &away, told).await?;
    let (note, life) = match &note {
        Some(note) => (note.as_str(), AWAY_COOKIE),
        None => ("", AWAY_OVER),
    };
    set_cookie(&app, &mut response, app.away_cookie(), note, life);
    Ok(response)
}

/// What came with somebody who comes back.
#[derive(Clone, Copy)]
struct Told<'a> {
    code: Option<&'a str>,
    iss: Option<&'a str>,
    error: Option<&'a str>,
}

/// Somebody comes back: what they get, and what their browser keeps if they are led to the provider once more.
async fn arrive(
    app: &App,
    info: &RequestInfo,
    headers: &HeaderMap,
    away: &Away,
    told: Told<'_>,
) -> Result<(Response, Option<String>), PageError> {
    let (provider, all) = app.provider(&away.provider)?;
    let (identity, tenant) = (app.web.trust.identity(), app.web.tenant);
    let next = safe_next(away.next.as_deref());
    let again = |words: &str| {
        let page = login_page(app, info, headers, next, Some(words));
        page.map(|page| (page, None))
    };
    let issuer = &away.issuer;
    // Who says "no" in the name of another is told apart from it (RFC 9207), too.
    let is_other = told.iss.is_some_and(|iss| iss != issuer);
    let code = match (told.code, told.error) {
        (Some(code), None) if !is_other => code,
        (_, error) => {
            let known = error.and_then(|error| ERRORS.iter().find(|known| **known == error));
            let error = match known {
                _ if is_other => "the answer is of another issuer (iss)",
                Some(known) => known,
                None => "the answer has no code",
            };
            tracing::warn!(provider = %provider.id, error, "an identity provider signed nobody in");
            identity.refuse_arrival(tenant, issuer, error).await?;
            return match known {
                _ if is_other => again(&words(provider, ProviderFault::Refused(error))),
                Some(&"access_denied") => {
                    again(&format!("You were not signed in at {}.", provider.name))
                }
                _ => again(&format!(
                    "{} did not sign you in ({error}). Try again; if it stays so, tell your administrator.",
                    provider.name
                )),
            };
        }
    };
    let redeemed = match all.redeem(away, code, told.iss).await {
        Ok(redeemed) => redeemed,
        Err(fault) => {
            let why = match fault {
                ProviderFault::Unreachable => "the identity provider can't be reached",
                ProviderFault::Busy => "too many sign-ins at once",
                ProviderFault::Refused(why) => why,
            };
            identity.refuse_arrival(tenant, issuer, why).await?;
            return again(&words(provider, fault));
        }
    };
    let arrival = Arrival {
        issuer,
        token: &redeemed.token,
        by_two_factors: redeemed.by_two_factors,
        away,
    };
    match identity.admit(tenant, arrival).await {
        Ok(Admission::Known(step)) => {
            let page = go_on(app, info, headers, step, "", next, None).await?;
            Ok((page, None))
        }
        Ok(Admission::Unlinked) => Ok((unlinked(app, info, provider, &redeemed.token), None)),
        // It is asked for a new sign-in once.
        Ok(Admission::Stale) if !away.anew => {
            match led_there(app, provider, all, next, true).await? {
                Ok((response, note)) => Ok((response, Some(note))),
                Err(words) => again(&words),
            }
        }
        Ok(Admission::Stale) => again(&format!(
            "You have to sign in anew, and {} did not say that you did (auth_time). Sign out there, and try again; if it stays so, tell your administrator.",
            provider.name
        )),
        Ok(Admission::Closed) => again("Your account here is closed. Ask your administrator."),
        Err(TrustError::SignIn) => again(&format!(
            "You were signed out at {} meanwhile, or this sign-in was finished before. Sign in again.",
            provider.name
        )),
        Err(error) => Err(error.into()),
    }
}

/// Says to somebody whom nobody has linked yet what an administrator needs to know.
fn unlinked(
    app: &App,
    info: &RequestInfo,
    provider: &IdentityProvider,
    token: &IdToken,
) -> Response {
    let body = html! {
        div class="narrow stack-wide" {
            h1 { "No account here yet" }
            p { "You signed in at " (provider.name) ", but no account here is linked to you there. Nothing was opened." }
            p { "Give this to your administrator, who links your account:" }
            dl class="facts" {
                dt { "Issuer" } dd class="mono" { (provider.issuer) }
                dt { "Subject" } dd class="mono" { (token.subject) }
            }
            p { a class="button" href="/sign-in" { "Back to the sign-in" } }
        }
    };
    let page = layout::bare(app, info, "No account here yet", &body);
    (StatusCode::FORBIDDEN, page).into_response()
}

/// `GET /sign-in/with/{provider}/left`: after signing out here.
pub(crate) async fn left(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, PageError> {
    let (provider, all) = app.provider(&id)?;
    // Whether there is such an address is nice to know; the page holds without it.
    let there = all.end_session(&id).await.ok().flatten();
    let name = &provider.name;
    let body = html! {
        div class="narrow stack-wide" {
            h1 { "You are signed out here" }
            p { (name) " may still know you in this browser: whoever sits down here next could get in without your password. If others use this computer, sign out there, too." }
            div class="cluster" {
                @if let Some(there) = &there { a class="button primary" href=(there) { "Sign out at " (name) } }
                a class="button" href="/sign-in" { "Back to the sign-in" }
            }
        }
    };
    Ok(layout::bare(
        &app,
        &quiet(&info(&request)),
        "Signed out",
        &body,
    ))
}

/// `GET /sign-in/with/{provider}/keys`: this server's public keys for the provider (`jwks_uri`).
pub(crate) async fn keys(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let (_, all) = app.provider(&id)?;
    let keys = all.keys(&id).ok_or(PageError::NotFound)?;
    Ok(Json(keys).into_response())
}

/// `POST /sign-in/with/{provider}/logout`: the provider says that somebody has left (Back-Channel Logout 1.0).
/// Whatever goes wrong is a 400, as the standard has it; the provider's token is all that is asked for, so that
/// nobody else ends anything.
pub(crate) async fn logout(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, PageError> {
    let (provider, all) = app.provider(&id)?;
    let (identity, tenant) = (app.web.trust.identity(), app.web.tenant);
    let refused = |words: &str| {
        let body = json!({"error": "invalid_request", "error_description": words});
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    };
    let fields = form_fields(request).await.unwrap_or_default();
    let Ok(Some(token)) = once(&fields, "logout_token") else {
        return Ok(refused("the form has no logout_token, or two"));
    };
    let token = match all.logout(&id, token).await {
        Ok(token) => token,
        Err(fault) => {
            let why = match fault {
                ProviderFault::Unreachable => "the keys of the issuer can't be fetched",
                ProviderFault::Busy => "too much is under way",
                ProviderFault::Refused(why) => why,
            };
            tracing::warn!(provider = %provider.id, why, "a logout token was not taken");
            let issuer = &provider.issuer;
            identity.refuse_arrival(tenant, issuer, why).await?;
            return Ok(refused(why));
        }
    };
    match identity
        .end_at_provider(tenant, &provider.issuer, &token)
        .await
    {
        Ok(_) => Ok(StatusCode::OK.into_response()),
        Err(error) => {
            tracing::error!(%error, "sessions could not be ended as an identity provider said");
            Ok(refused("the sessions could not be ended; send it again"))
        }
    }
}
