//! Console and portal, rendered on the server.
//!
//! Knows only the public APIs of the contexts; every handler signs the visitor in, has `trust`
//! decide, and passes the permit on. Pages work without JavaScript, apart from live parts, and hold
//! no inline script or style. No patient's detail is ever in an address.
//!
//! Start reading at [`router`], then `context.rs` (who is on the page and what they may),
//! `layout.rs` (the frame and the small parts), and one page, e.g. `worklist.rs`. `live.rs` keeps
//! pages fresh; `graph.rs` lays journeys out; the design system is `assets/cairn.css`.

mod access;
mod accounts;
mod apps;
mod assets;
mod audit;
mod batches;
mod browse;
mod charts;
mod checkpoint;
mod consents;
mod contact;
mod context;
mod drawing;
mod emergency;
mod error;
mod graph;
mod hands;
mod headers;
mod journeys;
mod layout;
mod live;
mod mailbox;
mod many;
mod moving;
mod own;
mod passkeys;
mod patient;
mod patients;
mod policies;
mod portal;
mod providers;
mod proxies;
mod sentence;
mod sessions;
mod sign_in;
mod step_up;
mod stopping;
mod stuck;
mod tasks;
mod time;
mod unexplained;
mod video;
mod wishes;
mod worklist;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub use providers::{IdentityProvider, IdentityProviders, ProviderAnswer, ProviderFault, Redeemed};

/// What the pages need.
#[derive(Clone)]
pub struct WebState {
    /// Identity, policy, vault.
    pub trust: trust::Trust,
    /// Journeys.
    pub journeys: journey::Journeys,
    /// The record.
    pub record: record::Record,
    /// The tenant that this host name serves.
    pub tenant: ledger::TenantId,
    /// Name of the organisation, for titles.
    pub organisation: String,
    /// The demo's mailbox; `None` outside the demo.
    pub mailbox: Option<exchange::sink::Mailbox>,
    /// Demo only: logins to show on the sign-in page (user name, password, TOTP secret, role).
    pub demo_logins: Vec<DemoLogin>,
    /// Demo only: how many times faster than real the care clock runs.
    pub demo_speed: Option<f64>,
    /// Demo only: whether its people came from files, so that they may be real ones.
    pub demo_people_imported: bool,
    /// The base address of FHIR here, without a slash at the end.
    pub fhir_base: String,
    /// Lets people into visits by video, where there are any.
    pub telehealth: Option<Arc<exchange::Telehealth>>,
    /// Whether cookies are `Secure` (TLS in front or here).
    pub secure_cookies: bool,
    /// Push services that patients may be notified by in browsers, if there are such notifications.
    pub push: Option<exchange::PushServices>,
    /// Ways by which messages leave as files, letters and telephone calls, of which there are.
    pub carried: Vec<trust::consent::Via>,
    /// Identity providers that people may sign in at, if there are any.
    pub providers: Option<Arc<dyn IdentityProviders>>,
}

impl WebState {
    /// Whether there are notifications: in browsers, or in applications on telephones.
    pub(crate) fn notifies(&self) -> bool {
        self.push.is_some() || self.trust.vault().notifications().any()
    }
}

/// A login that the demo shows.
#[derive(Debug, Clone)]
pub struct DemoLogin {
    /// User name.
    pub user_name: String,
    /// Password.
    pub password: String,
    /// TOTP secret, base32.
    pub totp: String,
    /// Role in words.
    pub role: String,
}

/// All pages and their static files. Has a fallback (the page for "not found"), so a router that it
/// is merged with must have none.
pub fn router(state: WebState) -> Router {
    let app = Arc::new(context::App {
        party: trust::identity::RelyingParty::of(&state.fhir_base, &state.organisation),
        web: state,
        zone: jiff::tz::TimeZone::system(),
        shelves: worklist::Shelves::default(),
        streams: Arc::new(tokio::sync::Semaphore::new(live::STREAMS_MAX)),
        looks: Arc::new(tokio::sync::Semaphore::new(journeys::studio::LOOKS_MAX)),
        typing: Arc::default(),
        cohorts: Arc::new(tokio::sync::Semaphore::new(journeys::studio::COHORTS_MAX)),
    });
    Router::new()
        .route("/", get(sign_in::start))
        .route("/sign-in", get(sign_in::page).post(sign_in::password))
        .route("/sign-in/code", post(sign_in::code))
        .route("/sign-in/passkey", post(passkeys::sign_in))
        .route(
            "/sign-in/link/{secret}",
            get(sign_in::link).post(sign_in::use_link),
        )
        .route("/sign-in/with/{provider}", get(providers::leave))
        .route("/sign-in/with/{provider}/back", get(providers::back))
        .route("/sign-in/with/{provider}/left", get(providers::left))
        .route("/sign-in/with/{provider}/keys", get(providers::keys))
        .route("/sign-in/with/{provider}/logout", post(providers::logout))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/theme", post(sign_in::theme))
        .route("/static/{name}", get(assets::serve))
        .route("/sw.js", get(assets::worker))
        .route(
            "/oauth/authorize",
            get(apps::authorize::page).post(apps::authorize::decide),
        )
        .merge(console())
        .merge(portal_pages())
        .fallback(|| async { error::PageError::NotFound })
        .method_not_allowed_fallback(|| async { error::PageError::NotFound })
        .layer(from_fn_with_state(app.clone(), headers::layer))
        .with_state(app)
}

fn console() -> Router<Arc<context::App>> {
    Router::new()
        .route("/console/worklist", get(worklist::page).post(many::act))
        .route("/console/tasks/{id}/{deed}", post(tasks::act))
        .route(
            "/console/patients",
            get(patients::page).post(patients::search),
        )
        .route("/console/patients/{id}", get(patient::page))
        .route(
            "/console/patients/{id}/contact",
            get(contact::page).post(contact::set),
        )
        .route(
            "/console/patients/{id}/messages",
            get(wishes::page).post(wishes::set),
        )
        .route(
            "/console/patients/{id}/consents",
            get(consents::page).post(consents::foresee),
        )
        .route("/console/patients/{id}/consents/make", post(consents::make))
        .route(
            "/console/patients/{id}/emergency",
            get(emergency::form).post(emergency::begin),
        )
        .route(
            "/console/patients/{id}/visits/{visit}/join",
            post(video::host),
        )
        .route("/console/patients/{id}/journeys", get(stopping::page))
        .route("/console/patients/{id}/journeys/stop", post(stopping::stop))
        .route(
            "/console/patients/{id}/journeys/{journey}",
            get(hands::page).post(hands::act_on),
        )
        .route(
            "/console/patients/{id}/proxies",
            get(proxies::page).post(proxies::make),
        )
        .route(
            "/console/patients/{id}/proxies/{proxy}/end",
            post(proxies::end),
        )
        .route(
            "/console/patients/{id}/proxies/{proxy}/link",
            post(proxies::link),
        )
        .route("/console/policies", get(policies::page))
        .route("/console/access", get(access::page).post(access::ask))
        .route("/console/emergencies", get(emergency::queue))
        .route("/console/emergencies/{id}/end", post(emergency::end))
        .route("/console/emergencies/{id}/review", post(emergency::review))
        .route(
            "/console/patients/{id}/apps",
            get(apps::launch::page).post(apps::launch::open),
        )
        .route("/console/apps", get(apps::list))
        .route("/console/apps/{id}/end", post(apps::end))
        .route("/console/record", get(browse::page).post(browse::search))
        .route("/console/record/{kind}", get(browse::further))
        .route("/console/record/{kind}/{id}", get(browse::resource))
        .route("/console/record/{kind}/{id}/file", get(browse::file))
        .route("/console/record/{kind}/{id}/history", get(browse::history))
        .route(
            "/console/record/{kind}/{id}/history/{version}",
            get(browse::version),
        )
        .route(
            "/console/record/{kind}/{id}/changes/{version}",
            get(browse::change),
        )
        .route("/console/stuck", get(stuck::page))
        .route("/console/stuck/{letter}/retry", post(stuck::retry))
        .route("/console/batches", get(batches::list).post(batches::begin))
        .route(
            "/console/batches/new",
            get(batches::new).post(batches::foresee),
        )
        .route("/console/batches/{batch}", get(batches::page))
        .route("/console/batches/{batch}/cancel", post(batches::cancel))
        .route("/console/batches/{batch}/pause", post(batches::pause))
        .route("/console/batches/{batch}/go-on", post(batches::go_on))
        .route("/console/batches/{batch}/back", post(moving::back))
        .route(
            "/console/studio",
            get(journeys::studio::form).post(journeys::studio::show),
        )
        .route("/console/studio/check", post(journeys::typing::check))
        .route("/console/checks/{code}", get(journeys::checks::page))
        .route("/console/journeys", get(journeys::list))
        .route(
            "/console/journeys/publish",
            get(journeys::publish_form).post(journeys::publish),
        )
        .route("/console/journeys/{name}", get(journeys::page))
        .route(
            "/console/journeys/{name}/stage",
            post(journeys::stages::set),
        )
        .route(
            "/console/journeys/{name}/move",
            get(moving::form).post(moving::foresee),
        )
        .route("/console/journeys/{name}/move/begin", post(moving::begin))
        .route(
            "/console/journeys/{name}/analysis",
            get(journeys::analysis::page).post(journeys::analysis::make),
        )
        .route(
            "/console/journeys/{name}/people",
            get(journeys::people::page),
        )
        .route(
            "/console/journeys/{name}/steps/{step}",
            get(journeys::step::page),
        )
        .route(
            "/console/accounts",
            get(accounts::page).post(accounts::shut_out),
        )
        .route("/console/accounts/{id}", get(accounts::sessions::page))
        .route("/console/accounts/{id}/{deed}", post(accounts::act))
        .route(
            "/console/accounts/{id}/sessions/{session}/end",
            post(accounts::sessions::end),
        )
        .route(
            "/console/accounts/{id}/apps/{grant}/end",
            post(accounts::sessions::end_app),
        )
        .route("/console/clients", post(accounts::register))
        .route("/console/clients/apps", post(accounts::register_app))
        .route("/console/clients/{id}/approve", post(accounts::approve))
        .route(
            "/console/clients/{id}/purposes",
            post(accounts::registered::set),
        )
        .route("/console/clients/{id}/revoke", post(accounts::revoke))
        .route("/console/sign-in", get(own::page))
        .route(
            "/console/sign-in/app",
            get(own::app_page).post(own::set_app),
        )
        .route("/console/sign-in/app/remove", post(own::remove_app))
        .route("/console/sign-in/passkeys", post(own::add))
        .route("/console/sign-in/passkeys/{id}/remove", post(own::remove))
        .route(
            "/console/sign-in/sessions/end-others",
            post(own::end_others),
        )
        .route("/console/sign-in/sessions/{id}/end", post(own::end))
        .route("/console/unexplained", get(unexplained::page))
        .route(
            "/console/unexplained/{event}/{patient}",
            get(unexplained::one),
        )
        .route(
            "/console/unexplained/{event}/{patient}/review",
            post(unexplained::review),
        )
        .route("/console/audit", get(audit::page))
        .route("/console/audit/{id}", get(audit::details))
        .route("/console/audit/{id}/proof", get(audit::proof))
        .route("/console/audit/{id}/proof.json", get(audit::proof_json))
        .route("/console/checkpoint", get(checkpoint::page))
        .route("/console/checkpoint/file", get(checkpoint::file))
        .route("/console/checkpoint/keys", get(checkpoint::keys))
        .route("/console/mailbox", get(mailbox::page))
        .route("/console/mailbox/{number}", get(mailbox::message))
        .route("/console/live/worklist", get(worklist::stream))
        .route("/console/live/patients/{id}", get(patient::stream))
        .route("/console/live/batches/{batch}", get(batches::stream))
        .route("/console/live/journeys/{name}", get(journeys::stream))
        .route(
            "/console/live/journeys/{name}/steps/{step}",
            get(journeys::step::stream),
        )
}

fn portal_pages() -> Router<Arc<context::App>> {
    Router::new()
        .route("/portal", get(portal::home))
        .route("/portal/live", get(portal::stream))
        .route("/portal/inbox", get(portal::messages::list))
        .route("/portal/inbox/{id}", get(portal::messages::open))
        .route(
            "/portal/forms/{task}",
            get(portal::forms::page).post(portal::forms::submit),
        )
        .route(
            "/portal/visits/{id}",
            get(portal::visits::page).post(portal::visits::decide),
        )
        .route("/portal/visits/{id}/join", post(video::join))
        .route(
            "/portal/consent",
            get(portal::choices::consent).post(portal::choices::set_consent),
        )
        .route(
            "/portal/choices",
            get(consents::own).post(consents::foresee_own),
        )
        .route("/portal/choices/make", post(consents::make_own))
        .route(
            "/portal/weight",
            get(portal::weight::page).post(portal::weight::note),
        )
        .route(
            "/portal/for",
            get(portal::proxies::choose).post(portal::proxies::act_for),
        )
        .route("/portal/proxies", get(portal::proxies::list))
        .route("/portal/proxies/{id}/end", post(portal::proxies::end))
        .route("/portal/apps", get(apps::list))
        .route("/portal/apps/{id}/end", post(apps::end))
        .route("/portal/sessions", get(portal::sessions::list))
        .route("/portal/sessions/{id}/end", post(portal::sessions::end))
        .route(
            "/portal/sessions/end-others",
            post(portal::sessions::end_others),
        )
        .route("/portal/record", get(portal::record::page))
        .route("/portal/record/{id}", get(portal::record::proof))
        .route(
            "/portal/record/{id}/proof.json",
            get(portal::record::proof_json),
        )
        .route(
            "/portal/preferences",
            get(portal::choices::preferences).post(portal::choices::set_preferences),
        )
        .route(
            "/portal/preferences/messages",
            get(wishes::own_page).post(wishes::set_own),
        )
}
