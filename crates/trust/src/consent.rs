//! Consent: what a patient's `Consent` resources say (FHIR R4 `Consent`, 45 CFR 164.506, 164.508, 164.522).
use fhir::Resource;

use crate::Purpose;

/// What the consents say, with the reason in words and the deciding consent's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentDecision {
    /// Whether it is allowed.
    pub permitted: bool,
    /// Why, in words.
    pub reason: String,
    /// The id of the consent that decided, if one did.
    pub consent: Option<String>,
}

/// Decides over all consents of one patient (any status), for a purpose, at a time.
///
/// Newest decisive consent wins: an active one whose provision period holds `now_ms` and whose
/// purpose (or no purpose) covers `purpose` decides by its `provision.type`; a consent for the
/// purpose that was withdrawn (`inactive`, `rejected`) with no newer active one means "no". With no
/// consent at all the rule pack decides; `us-hipaa` permits treatment, payment and operations
/// (45 CFR 164.506(c)).
#[must_use]
pub fn decide(consents: &[Resource], purpose: Purpose, now_ms: i64) -> ConsentDecision { todo!("{consents:?} {purpose:?} {now_ms}") }

/// The patient's preferred channels in order (`email`, `sms`, `portal`, `phone`), from
/// `Patient.telecom.rank` and the preference extension; and what is switched off.
#[must_use]
pub fn channels(patient: &Resource) -> Vec<Channel> { todo!("{patient:?}") }

/// A way to reach a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// `email`, `sms`, `phone` or `portal`.
    pub kind: String,
    /// Address; empty for the portal.
    pub address: String,
    /// Whether the patient wants it used.
    pub wanted: bool,
}
