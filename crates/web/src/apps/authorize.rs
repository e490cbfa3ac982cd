//! Letting an application in (OAuth 2.0's authorization endpoint, as SMART App Launch 2.2 has it).
//!
//! `choose.rs` has the pages on which a patient and an encounter are chosen, `about.rs` what an application is about
//! beside the patient.
//!
//! Nothing is kept between the pages: each form carries the application's request along, and each answer
//! checks it anew. Who is unknown, or asks to be answered at an address that it didn't register, gets a page;
//! all else that is wrong is told to the application at its address.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::Role;
use trust::identity::{App as Client, LaunchContext, NewGrant, is_challenge, wanted_scopes};
use trust::scopes::{Context, Level, Scopes};

use super::about::{self, Encounters};
use super::choose;
use super::launch::named;
use super::words;
use crate::context::{App, Ctx, Fields, Posted, escape};
use crate::error::PageError;
use crate::layout::{Section, console, csrf, goes_on, portal};
use crate::patients;

/// Where applications send people.
pub(super) const HERE: &str = "/oauth/authorize";
/// What an application sends, each once at most; a form carries it along.
const PARAMETERS: [&str; 12] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "aud",
    "launch",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "prompt",
    "max_age",
];
/// What OpenID Connect and later documents add, and what would change the request unseen.
const REFUSED: [&str; 3] = ["request", "request_uri", "authorization_details"];
/// The most bytes of `state`: a random word, and where the application was.
const STATE_BYTES_MAX: usize = 1024;
/// How old a sign-in may be where an application wants a new one, seconds: as old as it is when a person has come
/// back from it and read this page. An application that wants less looks at `auth_time` itself.
const NEW_SIGN_IN_S: u64 = 60;
/// How long a page of this flow may lie open, seconds: a patient may have to be looked for. Whoever answers it
/// later may be somebody else, so that who has to have signed in of late does so again.
const FORM_LIES_S: u64 = 600;

/// A request that can be shown to a person.
pub(super) struct Asked {
    pub(super) client: Client,
    redirect_uri: String,
    state: String,
    challenge: String,
    wanted: Scopes,
    launch: Option<String>,
    nonce: Option<String>,
    /// How long ago the person may have signed in, seconds.
    max_age_s: Option<u64>,
}

/// Why a request can't be shown.
enum Wrong {
    /// To the person, because the application can't be told.
    Here(PageError),
    /// To the application.
    There {
        redirect_uri: String,
        state: Option<String>,
        error: &'static str,
        words: String,
    },
}

impl From<PageError> for Wrong {
    fn from(error: PageError) -> Self {
        Self::Here(error)
    }
}

impl Wrong {
    /// As a page, or the address at which the application is told.
    fn told(self, app: &App) -> Result<String, PageError> {
        match self {
            Self::Here(error) => Err(error),
            Self::There {
                redirect_uri,
                state,
                error,
                words,
            } => Ok(back(
                app,
                &redirect_uri,
                state.as_deref(),
                &[("error", error), ("error_description", &words)],
            )),
        }
    }
}

/// Leads somebody who is signed in back to the application. They came by a form, of the sign-in or of this
/// flow, which may lead nowhere else; so they get a page, which goes on at once.
fn lead_back(ctx: &Ctx, address: &str) -> Response {
    let body = html! {
        div class="narrow stack-wide" {
            h1 { "Back to the app" }
            p { "If the app does not open by itself, go on here." }
            p { a class="button primary" id="back" href=(address) { "Go on to " (host_of(address)) } }
        }
    };
    let page = match ctx.role() {
        Role::Patient => portal(ctx, "Back to the app", None, None, &body),
        _ => console(ctx, "Back to the app", Section::Apps, None, &body),
    };
    goes_on(page, address)
}

/// The address back to the application, which is told who answers (RFC 9207).
fn back(app: &App, redirect_uri: &str, state: Option<&str>, pairs: &[(&str, &str)]) -> String {
    let state = state.map(|state| ("state", state));
    let query: Vec<String> = pairs
        .iter()
        .copied()
        .chain(state)
        .chain([("iss", app.web.fhir_base.as_str())])
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    let joint = if redirect_uri.contains('?') { '&' } else { '?' };
    format!("{redirect_uri}{joint}{}", query.join("&"))
}

/// The host and the port of an address.
fn host_of(address: &str) -> &str {
    let place = address.split_once("://").map_or("", |(_, rest)| rest);
    place.split(['/', '?']).next().unwrap_or_default()
}

impl Asked {
    async fn read(app: &App, fields: &Fields) -> Result<Self, Wrong> {
        let text = |name: &str| fields.raw(name).filter(|text| !text.is_empty());
        let twice = |name: &str| fields.0.iter().filter(|(other, _)| other == name).count() > 1;
        if twice("client_id") || twice("redirect_uri") {
            return Err(here("The app named itself or its address twice."));
        }
        let identity = app.web.trust.identity();
        let id = text("client_id").unwrap_or_default();
        let client = identity.app(app.web.tenant, id).await;
        let Some(client) = client.map_err(PageError::from)? else {
            return Err(here(
                "This app is not known here, or was revoked, or waits for an administrator's approval.",
            ));
        };
        let redirect_uri = text("redirect_uri").unwrap_or_default().to_owned();
        if !client.comes_back_to(&redirect_uri) {
            return Err(here(
                "The app asks that you be sent to an address that it has not registered here. You were not sent there.",
            ));
        }
        let state = text("state").filter(|_| !twice("state")).map(str::to_owned);
        let wrong = |error: &'static str, words: &str| Wrong::There {
            redirect_uri: redirect_uri.clone(),
            state: state.clone().filter(|state| state.len() <= STATE_BYTES_MAX),
            error,
            words: words.to_owned(),
        };
        let invalid = |words: &str| wrong("invalid_request", words);
        if PARAMETERS.into_iter().any(twice) {
            return Err(invalid("a parameter is there twice"));
        }
        if REFUSED.into_iter().any(|name| text(name).is_some()) {
            return Err(wrong(
                "request_not_supported",
                "the request has to be in the parameters themselves",
            ));
        }
        if text("response_type") != Some("code") {
            return Err(wrong(
                "unsupported_response_type",
                "response_type must be code",
            ));
        }
        if text("response_mode").is_some_and(|mode| mode != "query") {
            return Err(invalid("response_mode must be query"));
        }
        let prompts = || text("prompt").unwrap_or_default().split(' ');
        if prompts().any(|prompt| prompt == "none") {
            return Err(wrong("interaction_required", "the person is always asked"));
        }
        let is_anew = prompts().any(|prompt| ["login", "select_account"].contains(&prompt));
        let max_age_s = match text("max_age").map(str::parse) {
            None => is_anew.then_some(NEW_SIGN_IN_S),
            Some(Ok(_)) if is_anew => Some(NEW_SIGN_IN_S),
            Some(Ok(seconds)) => Some(NEW_SIGN_IN_S.max(seconds)),
            Some(Err(_)) => return Err(invalid("max_age is a number of seconds")),
        };
        let nonce = text("nonce").map(str::to_owned);
        if nonce
            .as_ref()
            .is_some_and(|nonce| nonce.len() > STATE_BYTES_MAX)
        {
            return Err(invalid("nonce has at most 1024 bytes"));
        }
        let Some(kept) = state.clone() else {
            return Err(invalid("state is missing"));
        };
        if kept.len() > STATE_BYTES_MAX {
            return Err(invalid("state has at most 1024 bytes"));
        }
        let challenge = text("code_challenge").unwrap_or_default();
        if text("code_challenge_method") != Some("S256") || !is_challenge(challenge) {
            return Err(invalid(
                "PKCE is required: a code_challenge, and code_challenge_method S256",
            ));
        }
        let base = app.web.fhir_base.as_str();
        if text("aud").map(|aud| aud.strip_suffix('/').unwrap_or(aud)) != Some(base) {
            return Err(invalid("aud must be the base address of FHIR here"));
        }
        let wanted = match wanted_scopes(text("scope").unwrap_or_default()) {
            Ok(wanted) if wanted.has_resources() => wanted,
            Ok(_) => {
                return Err(wrong(
                    "invalid_scope",
                    "scope is missing: name what is asked for, like patient/Observation.rs",
                ));
            }
            Err(error) => return Err(wrong("invalid_scope", &plain(&error.to_string()))),
        };
        let launch = text("launch").map(str::to_owned);
        if launch.is_some() != wanted.has(Context::Launch) {
            return Err(invalid("launch and the scope launch go together"));
        }
        Ok(Self {
            challenge: challenge.to_owned(),
            client,
            redirect_uri: redirect_uri.clone(),
            state: kept,
            wanted,
            launch,
            nonce,
            max_age_s,
        })
    }

    fn wrong(&self, error: &'static str, words: &str) -> Wrong {
        Wrong::There {
            redirect_uri: self.redirect_uri.clone(),
            state: Some(self.state.clone()),
            error,
            words: words.to_owned(),
        }
    }
}

fn here(words: &str) -> Wrong {
    Wrong::Here(PageError::Invalid(words.to_owned()))
}

/// RFC 6749, section 4.1.2.1: what a description may hold.
fn plain(words: &str) -> String {
    let is_shown = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    words.chars().filter(is_shown).collect()
}

/// What a person may agree to, and what it is about.
struct Offer {
    scopes: Scopes,
    /// Id, and name to show.
    patient: Option<(String, String)>,
    /// What it is about beside the patient, and that in words.
    context: LaunchContext,
    shown: Vec<(&'static str, Markup)>,
    /// What has to be chosen first.
    missing: Option<Missing>,
}

/// What has to be chosen before anything can be agreed to.
enum Missing {
    Patient,
    Encounter(Encounters),
}

/// What a person has chosen on the pages before.
#[derive(Default)]
struct Chosen<'a> {
    patient: Option<&'a str>,
    /// An encounter's id, or [`choose::NO_ENCOUNTER`].
    encounter: Option<&'a str>,
    /// The day that encounters are looked for of.
    day: Option<&'a str>,
}

impl<'a> Chosen<'a> {
    fn of(fields: &'a Fields) -> Self {
        Self {
            patient: fields.get("patient"),
            encounter: fields.get("encounter"),
            day: fields.get("day"),
        }
    }
}

async fn offer(ctx: &Ctx, asked: &Asked, chosen: Chosen<'_>) -> Result<Offer, Wrong> {
    let role = ctx.role();
    if !role.launches_apps() {
        return Err(Wrong::Here(PageError::Refused(
            "Apps act in the care of patients, and your role opens no records. The app was not let in."
                .to_owned(),
        )));
    }
    let identity = ctx.app.web.trust.identity();
    let mut scopes = identity.grantable(&ctx.session, &asked.client, &asked.wanted);
    if !scopes.has_resources() {
        return Err(asked.wrong(
            "invalid_scope",
            "nothing of this can be granted to this application by this person",
        ));
    }
    let told = identity.told_of(&ctx.session.agent, &scopes).await;
    scopes = told.map_err(PageError::from)?;
    let mut context = LaunchContext::default();
    let patient = match (&asked.launch, role) {
        (Some(secret), _) => {
            let found = identity.launched(&ctx.session, &asked.client, secret).await;
            let Some(launched) = found.map_err(PageError::from)? else {
                return Err(here(
                    "The app was opened too long ago, or by somebody else, or came back twice. Open it again from the patient's page.",
                ));
            };
            context = launched.context;
            Some(launched.patient)
        }
        (None, Role::Patient) => Some(ctx.own_patient()?.to_owned()),
        (None, _) => chosen.patient.map(str::to_owned),
    };
    let wants_patient = scopes.at(&[Level::Patient]).has_resources()
        || scopes.has(Context::LaunchPatient)
        || scopes.has(Context::LaunchEncounter);
    let patient = match patient {
        Some(id) if wants_patient || asked.launch.is_some() => {
            let name = named(ctx, &id).await?;
            Some((id, name))
        }
        _ => None,
    };
    if role == Role::Patient {
        // A patient's own record is what there is; it is chosen by itself.
        scopes = scopes.without(Context::Launch);
    }
    let mut missing = (wants_patient && patient.is_none()).then_some(Missing::Patient);
    let mut shown = Vec::new();
    if let Some((patient, _)) = &patient {
        if context.encounter.is_none() && scopes.has(Context::LaunchEncounter) {
            match chosen.encounter {
                Some(choose::NO_ENCOUNTER) => {}
                Some(id) => context.encounter = Some(id.to_owned()),
                None => match about::encounters(ctx, patient, chosen.day).await? {
                    // There is nothing to choose, so that it is let in without.
                    Encounters::None => {}
                    encounters => missing = Some(Missing::Encounter(encounters)),
                },
            }
        }
        shown = about::shown(ctx, patient, &context).await?;
    }
    if context.encounter.is_none() && missing.is_none() {
        scopes = scopes.without(Context::LaunchEncounter);
    }
    Ok(Offer {
        scopes,
        patient,
        context,
        shown,
        missing,
    })
}

/// The application's request, for the next form.
pub(super) fn carried(ctx: &Ctx, fields: &Fields) -> Markup {
    html! {
        (csrf(ctx))
        @for name in PARAMETERS { @if let Some(value) = fields.raw(name) { input type="hidden" name=(name) value=(value); } }
    }
}

/// A page of the flow.
pub(super) fn shell(ctx: &Ctx, title: &str, body: &Markup) -> Response {
    match ctx.role() {
        Role::Patient => portal(ctx, title, None, None, body),
        _ => console(ctx, title, Section::Apps, None, body),
    }
}

/// Who is asking: what an administrator registered, and where the person goes.
pub(super) fn who(asked: &Asked) -> Markup {
    let host = host_of(&asked.redirect_uri);
    html! { "It is registered here, and you go back to it at " span class="mono" { (host) } "." }
}

fn consent_page(ctx: &Ctx, asked: &Asked, offer: &Offer, fields: &Fields) -> Response {
    let name = &asked.client.name;
    let offline = offer.scopes.has(Context::OfflineAccess);
    let who_one_is = words::who_one_is(&offer.scopes);
    // Patients know whose record it is.
    let patient = offer.patient.as_ref().map(|(_, name)| name.as_str());
    let patient = patient.filter(|_| ctx.role() != Role::Patient);
    let body = html! {
        div class="narrow stack-wide" {
            div class="stack" {
                h1 { "Let " (name) " in?" }
                p class="quiet" { (who(asked)) }
            }
            form class="stack" method="post" action=(HERE) {
                (carried(ctx, fields))
                (choose::chosen(ctx, offer.patient.as_ref()))
                @if offer.scopes.has(Context::LaunchEncounter) || chose_none(fields) {
                    input type="hidden" name="encounter" value=(offer.context.encounter.as_deref().unwrap_or(choose::NO_ENCOUNTER));
                }
                (about::lines(patient, &offer.shown))
                fieldset {
                    legend { (name) " asks to" }
                    @for part in offer.scopes.parts() {
                        label class="choice" { input type="checkbox" name="agreed" value=(part.text) checked; span { (words::line(&part, ctx.role())) } }
                    }
                    @if let Some(words) = who_one_is {
                        label class="choice" { input type="checkbox" name="agreed" value=(Context::OpenId.name()) checked; span { (words) } }
                    }
                    @if offline {
                        label class="choice" { input type="checkbox" name="agreed" value=(Context::OfflineAccess.name()) checked; span { "Come back by itself, when you are away" } }
                    }
                }
                p { "Untick what you don't want. The app never gets more than you may see yourself, and what it looks at stands in the record of who looked." }
                div class="cluster" {
                    button class="primary" type="submit" name="decision" value="allow" { "Allow" }
                    button type="submit" name="decision" value="deny" { "Don't allow" }
                }
            }
            p class="quiet small" { "You can take this away at any time under \"Apps you allowed\"." }
        }
    };
    shell(ctx, "Let an app in", &body)
}

/// Whether somebody went on without an encounter on the page before.
fn chose_none(fields: &Fields) -> bool {
    fields.get("encounter") == Some(choose::NO_ENCOUNTER)
}

/// The page that comes next: something is to be chosen, or to be agreed to.
fn next_page(ctx: &Ctx, asked: &Asked, offer: &Offer, fields: &Fields) -> Response {
    match (&offer.missing, &offer.patient) {
        (Some(Missing::Encounter(encounters)), Some(patient)) => {
            choose::encounter(ctx, asked, fields, patient, encounters)
        }
        (Some(_), _) => choose::patient(ctx, asked, fields, None),
        (None, _) => consent_page(ctx, asked, offer, fields),
    }
}

/// Whether the person signed in no longer ago than so many seconds.
async fn is_signed_in_since(ctx: &Ctx, most_s: u64) -> Result<bool, PageError> {
    let identity = ctx.app.web.trust.identity();
    let at_ms = identity.signed_in_ms(&ctx.session).await?;
    let now_ms = ctx.app.web.trust.wall_clock().now_ms();
    Ok(at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= most_s.saturating_mul(1000)))
}

/// Asks somebody to sign in anew, because the application wants that (`prompt`, `max_age`). They do it themselves:
/// a link of another site must sign nobody out.
fn sign_in_page(ctx: &Ctx, asked: &Asked, fields: &Fields) -> Response {
    let query: Vec<String> = PARAMETERS
        .iter()
        .filter_map(|name| Some(format!("{name}={}", escape(fields.raw(name)?))))
        .collect();
    let body = html! {
        div class="narrow stack-wide" {
            h1 { "Sign in again" }
            p { (asked.client.name) " wants to be sure that it is you, so it asks that you sign in anew. " (who(asked)) }
            form method="post" action="/sign-out" {
                (csrf(ctx))
                input type="hidden" name="next" value={ (HERE) "?" (query.join("&")) };
                button class="primary" type="submit" { "Sign out, and in again" }
            }
            p { a href="/" { "Leave it" } }
        }
    };
    shell(ctx, "Sign in again", &body)
}

/// `GET /oauth/authorize`.
pub(crate) async fn page(
    State(app): State<Arc<App>>,
    fields: Fields,
    ctx: Result<Ctx, PageError>,
) -> Result<Response, PageError> {
    let asked = match Asked::read(&app, &fields).await {
        Ok(asked) => asked,
        Err(wrong) => {
            let address = wrong.told(&app)?;
            return Ok(match ctx {
                Ok(ctx) => lead_back(&ctx, &address),
                // Nobody has signed in, so no form was sent.
                Err(_) => Redirect::to(&address).into_response(),
            });
        }
    };
    // Only now: nobody is asked to sign in for a request that leads nowhere.
    let ctx = ctx?;
    if let Some(most_s) = asked.max_age_s
        && !is_signed_in_since(&ctx, most_s).await?
    {
        return Ok(sign_in_page(&ctx, &asked, &fields));
    }
    match offer(&ctx, &asked, Chosen::default()).await {
        Ok(offer) => Ok(next_page(&ctx, &asked, &offer, &fields)),
        Err(wrong) => Ok(lead_back(&ctx, &wrong.told(&app)?)),
    }
}

/// `POST /oauth/authorize`: a patient is looked for or chosen, or the person decides.
pub(crate) async fn decide(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    match decided(&ctx, &fields).await {
        Ok(response) => Ok(response),
        Err(wrong) => Ok(lead_back(&ctx, &wrong.told(&ctx.app)?)),
    }
}

async fn decided(ctx: &Ctx, fields: &Fields) -> Result<Response, Wrong> {
    let asked = Asked::read(&ctx.app, fields).await?;
    let identity = ctx.app.web.trust.identity();
    let denied = async || {
        let turned = identity.turn_down(&ctx.session, &asked.client).await;
        turned.map_err(PageError::from)?;
        Err(asked.wrong("access_denied", "the person did not let the application in"))
    };
    let decision = fields.get("decision").unwrap_or_default();
    if decision == "deny" {
        return denied().await;
    }
    if let Some(most_s) = asked.max_age_s
        && !is_signed_in_since(ctx, most_s.saturating_add(FORM_LIES_S)).await?
    {
        return Ok(sign_in_page(ctx, &asked, fields));
    }
    let offer = offer(ctx, &asked, Chosen::of(fields)).await?;
    if decision == "find" && matches!(offer.missing, Some(Missing::Patient)) {
        let sought = patients::sought(ctx, fields).await?;
        return Ok(choose::patient(ctx, &asked, fields, Some(&sought)));
    }
    if decision != "allow" || offer.missing.is_some() {
        return Ok(next_page(ctx, &asked, &offer, fields));
    }
    let ticked: Vec<&str> = fields.all("agreed").collect();
    let Ok(agreed) = Scopes::parse(&ticked.join(" ")) else {
        return Err(here("The form can't be read. Nothing was allowed."));
    };
    let resources = agreed.narrow(&offer.scopes);
    if !resources.has_resources() {
        return denied().await;
    }
    let mut scopes = offer.scopes.clone();
    if !agreed.has(Context::OfflineAccess) {
        scopes = scopes.without(Context::OfflineAccess);
    }
    if !agreed.has(Context::OpenId) {
        scopes = scopes.without_all(&Context::IDENTITY);
    }
    let scopes = scopes.with_resources_of(&resources);
    let patient = offer.patient.as_ref().map(|(id, _)| id.as_str());
    let new = NewGrant {
        app: &asked.client,
        redirect_uri: &asked.redirect_uri,
        challenge: &asked.challenge,
        scopes: &scopes,
        patient,
        launch: asked.launch.as_deref(),
        nonce: asked.nonce.as_deref(),
        context: Some(&offer.context),
    };
    let code = identity.allow(&ctx.session, new).await;
    let code = code.map_err(PageError::from)?;
    let (state, told) = (Some(asked.state.as_str()), [("code", code.as_str())]);
    Ok(lead_back(
        ctx,
        &back(&ctx.app, &asked.redirect_uri, state, &told),
    ))
}
