//! Synthetic patients, deterministic from a seed: plausible ages, names, conditions, encounters and
//! weights. No real person is in them. Scales to millions: patient `n` depends on the seed and `n` only.

use serde_json::Value;

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
/// blood pressure, ...), medications, an active `Consent` for messages. Entries use `urn:uuid`.
#[must_use]
pub fn patient_bundle(options: &CohortOptions, index: u64) -> Value { todo!("{options:?} {index}") }

/// Bundle with the organisation, its practitioners and locations that the patients refer to.
#[must_use]
pub fn organisation_bundle(options: &CohortOptions) -> Value { todo!("{options:?}") }

/// What patient `index` does after discharge, as time goes on: weights to be recorded, answers to be
/// given, rejected appointments, readmissions, withdrawn consents, deaths. Ordered by time after
/// `discharge_ms`; deterministic.
#[must_use]
pub fn behaviour(options: &CohortOptions, index: u64, discharge_ms: u64) -> Vec<Act> { todo!("{options:?} {index} {discharge_ms}") }

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
    /// Answers the open questionnaire if there is one, this many hours late at most.
    AnswerQuestionnaire { breathless: bool, swelling: bool, dizzy: bool },
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
