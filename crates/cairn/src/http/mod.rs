//! Routes and what all of them share: request ids, metrics, traces, panics, bounds.

mod api;
mod asked;
mod bulk;
mod channels;
mod closed;
mod conditional;
mod cors;
mod dates;
mod demographics;
mod devices;
mod fhir;
mod format;
mod gauges;
mod hooks;
mod layers;
mod log;
pub(crate) mod moving;
mod oauth;
mod once;
mod operate;
mod operations;
mod past;
mod patch;
mod plans;
mod returned;
mod sequence;
mod starting;
mod visits;
mod within;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use ledger::Ledger;
use tokio::sync::watch;

pub(crate) use self::channels::{CHANNELS, SIGNATURE};
pub(crate) use self::closed::Closed;
pub(crate) use self::demographics::Service as DemographicsService;
pub(crate) use self::layers::{Around, Entrance};
pub(crate) use self::operate::{Office, is_for_operators, stopped};
use crate::client_certificates::Authorities;
use crate::config::Limits;
use crate::key_sets::KeySets;

/// What the routes need. Each request takes a copy, so a copy is one count.
#[derive(Clone)]
pub(crate) struct Doors(Arc<Behind>);

impl Doors {
    pub(crate) fn new(behind: Behind) -> Self {
        Self(Arc::new(behind))
    }
}

impl Deref for Doors {
    type Target = Behind;
    fn deref(&self) -> &Behind {
        &self.0
    }
}

/// What is behind the doors.
pub(crate) struct Behind {
    pub(crate) pages: web::WebState,
    pub(crate) ledger: Ledger,
    pub(crate) trust: trust::Trust,
    pub(crate) record: record::Record,
    pub(crate) journeys: journey::Journeys,
    /// Without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) limits: Limits,
    /// Whether checkpoints and hashes of the audit's logs need no token.
    pub(crate) open_audit_log: bool,
    /// Whether the tenant is reached by host names of its own, because the store has others.
    pub(crate) is_named: bool,
    pub(crate) key_sets: KeySets,
    /// Whether strangers may ask to be registered as clients.
    pub(crate) open_registration: bool,
    /// Whether clients can show certificates at all.
    pub(crate) takes_certificates: bool,
    /// The authorities that these may lead to.
    pub(crate) authorities: Authorities,
    /// Where a provider of text messages tells what became of them, if there is one.
    pub(crate) sms: Option<Arc<exchange::SmsDoor>>,
    /// Where mail servers hand in what came back, if anything does.
    pub(crate) returns: Option<Arc<exchange::ReturnsDoor>>,
    /// Where links into visits by video are redeemed, if there are any.
    pub(crate) telehealth: Option<Arc<exchange::Telehealth>>,
    /// Where demographics are served, and by what.
    pub(crate) demographics_base: String,
    pub(crate) demographics: Arc<DemographicsService>,
}

impl FromRef<Doors> for Limits {
    fn from_ref(doors: &Doors) -> Self {
        doors.limits
    }
}

/// All routes of a house. `streams_stopped` turns true when its live updates have to end.
pub(crate) fn router(
    doors: &Doors,
    around: &Around,
    streams_stopped: watch::Receiver<bool>,
) -> Router {
    let pages = layers::bound_body(web::router(doors.pages.clone()), &doors.limits);
    let own = Router::new()
        .merge(layers::bound_body(api::router(), &doors.limits))
        .merge(layers::bound_body(log::router(), &doors.limits))
        .merge(layers::bound_body(oauth::router(), &doors.limits))
        .merge(layers::bound_body(hooks::router(), &doors.limits))
        .merge(layers::bound_body(channels::router(), &doors.limits))
        .merge(layers::bound_body(devices::router(), &doors.limits))
        .merge(layers::bound_body(returned::router(), &doors.limits))
        .merge(layers::bound_body(visits::router(), &doors.limits))
        .merge(fhir::router())
        .merge(demographics::router(&doors.demographics_base))
        .with_state(doors.clone());
    let cors = cors::Cors {
        identity: doors.trust.identity().clone(),
        tenant: doors.pages.tenant,
    };
    around.put(pages.merge(own), Some(cors), streams_stopped)
}

/// The routes for operators, which are no tenant's.
pub(crate) fn office(
    office: Office,
    around: &Around,
    streams_stopped: watch::Receiver<bool>,
) -> Router {
    around.put(operate::router().with_state(office), None, streams_stopped)
}

/// Answers every request with why it comes to no house ([`Closed`]).
pub(crate) fn closed(around: &Around, streams_stopped: watch::Receiver<bool>) -> Router {
    around.put(closed::router(), None, streams_stopped)
}

/// The base address of FHIR.
pub(crate) fn fhir_base(base_url: &str) -> String {
    format!("{base_url}{}", fhir::BASE)
}

/// The portal's address for a sign-in link, relative to the server.
pub(crate) fn portal_link(secret: &str) -> String {
    format!("{}{secret}", exchange::SIGN_IN_LINK_PATH)
}
