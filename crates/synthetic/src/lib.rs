//! Synthetic patients, deterministic from a seed: plausible ages, names, conditions, encounters and
//! weights. No real person is in them. Scales to millions: patient `n` depends on the seed and `n` only.
//!
//! Nothing of ours is used here and nothing is read from outside: no clock, no randomness of the
//! system, no files. E-mail addresses are at `example.com` (RFC 2606) and telephone numbers are
//! 555-01xx (kept free for fiction by the North American Numbering Plan), so nothing that is sent to
//! a synthetic patient can reach a person.
//!
//! Start reading at [`patient_bundle`]; `person.rs` is who somebody is, `clinical.rs` what they have,
//! `bundle.rs` how that looks in FHIR, and `behaviour.rs` what they do after discharge.

mod behaviour;
mod bundle;
mod clinical;
mod names;
mod observations;
mod organisation;
mod person;
mod random;
mod time;

use serde_json::Value;

pub use behaviour::{
    BOOKS_SHARE, DEATH_SHARE, DILIGENT_SHARE, FLUID_GAIN_SHARE, JOURNEY_DAYS, LATE_SHARE,
    READMISSION_SHARE, READMISSION_SHARE_AFTER_FLUID_GAIN, SILENT_BOOKS_SHARE, SURVEY_SHARE,
    WITHDRAWAL_SHARE,
};
pub use bundle::{
    CONSENT_CATEGORY, CONSENT_CATEGORY_SYSTEM, CONSENT_GIVEN_SHARE, CONSENT_REFUSED_SHARE,
};
pub use person::{
    CLOSED_MAIL_DOMAIN, CLOSED_MAILBOX_SHARE, EMAIL_FIRST_SHARE, EMAIL_NOT_WANTED_SHARE,
    EMAIL_SHARE, MRN_SYSTEM, NOT_WANTED_EXTENSION, PHONE_FIRST_SHARE,
};

/// How to make a cohort.
#[derive(Debug, Clone)]
pub struct CohortOptions {
    /// The seed.
    pub seed: u64,
    /// The time that the cohort is made for, milliseconds since the epoch: histories end here.
    pub now_ms: u64,
    /// Share (0–1) of patients that are inpatients for heart failure, to be discharged soon.
    pub heart_failure_share: f64,
}

/// A FHIR R4 transaction bundle with all of patient `index`: `Patient` (name, birthDate, address,
/// telecom with example.com e-mail, identifier), conditions, encounters, observations (weights,
/// blood pressure, laboratory values), medications, allergies, and mostly an active `Consent` for
/// messages. Entries use `urn:uuid` among themselves and the fixed ids of [`organisation_bundle`] for
/// hospital, wards and staff, so that bundle has to be loaded first.
#[must_use]
pub fn patient_bundle(options: &CohortOptions, index: u64) -> Value {
    bundle::of_patient(options, index)
}

/// Bundle with the organisation, its practitioners and locations that the patients refer to, each
/// put under a fixed id. The same for every cohort.
#[must_use]
pub fn organisation_bundle(options: &CohortOptions) -> Value {
    // The directory has no random part; the options stay in the signature so that a later cohort
    // may have more than one hospital.
    let _ = options;
    organisation::bundle()
}

/// The medical record number of patient `index` (identifier system [`MRN_SYSTEM`]): ties a stored
/// `Patient` to its index.
#[must_use]
pub fn record_number(options: &CohortOptions, index: u64) -> String {
    person::record_number(options.seed, index)
}

/// The index behind a medical record number of this cohort.
#[must_use]
pub fn index_of(options: &CohortOptions, record_number: &str) -> Option<u64> {
    person::index_of(options.seed, record_number)
}

/// When patient `index` is to leave hospital, if they are an inpatient for heart failure at
/// `now_ms`: up to ten days later, most of them within three.
#[must_use]
pub fn planned_discharge_ms(options: &CohortOptions, index: u64) -> Option<u64> {
    person::Person::new(options, index)
        .stay
        .map(|stay| stay.planned_discharge_ms)
}

/// What patient `index` does after discharge, as time goes on: weights to be recorded, answers to be
/// given, rejected appointments, readmissions, withdrawn consents, deaths. Ordered by time after
/// `discharge_ms`; deterministic. Nothing follows a readmission or a death.
#[must_use]
pub fn behaviour(options: &CohortOptions, index: u64, discharge_ms: u64) -> Vec<Act> {
    behaviour::of_patient(options, index, discharge_ms)
}

/// Something that a synthetic patient (or their hospital) does.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// Kinds of acts.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum What {
    /// A weight reading at home, kg.
    Weight { kg: f64 },
    /// Answers the open questionnaire if there is one.
    AnswerQuestionnaire {
        breathless: bool,
        swelling: bool,
        dizzy: bool,
    },
    /// Books the visit that is offered.
    BookVisit,
    /// Answers the experience survey, 0–10.
    AnswerSurvey { score: u8 },
    /// Comes back as an inpatient.
    Readmission,
    /// Dies.
    Death,
    /// Withdraws consent to messages.
    WithdrawConsent,
}
