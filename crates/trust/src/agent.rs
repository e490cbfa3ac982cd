//! Who acts, in which role, for which purpose.
use ledger::TenantId;

/// The roles of this slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Role { Coordinator, Clinician, PrivacyOfficer, Squad, Administrator, Patient,
    /// A part of Cairn acting by itself: journey engine, deliverer, importer.
    System,
    /// Another system with FHIR access.
    Client }

/// Purpose of use (HL7 v3 `PurposeOfUse`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub enum Purpose { #[serde(rename = "TREAT")] Treatment, #[serde(rename = "HPAYMT")] Payment, #[serde(rename = "HOPERAT")] Operations, #[serde(rename = "ETREAT")] Emergency, #[serde(rename = "PATRQT")] PatientRequest, #[serde(rename = "HRESCH")] Research, #[serde(rename = "CAREMGT")] CareManagement, #[serde(rename = "SYSADMIN")] Administration }

impl Purpose {
    /// The code of HL7 v3 `PurposeOfUse`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self { Self::Treatment => "TREAT", Self::Payment => "HPAYMT", Self::Operations => "HOPERAT", Self::Emergency => "ETREAT", Self::PatientRequest => "PATRQT", Self::Research => "HRESCH", Self::CareManagement => "CAREMGT", Self::Administration => "SYSADMIN" }
    }
}

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The tenant that they act in.
    pub tenant: TenantId,
    /// Opaque id of the account, client or part of Cairn (`journey-engine`, ...).
    pub id: String,
    /// Name to show in the audit (of staff; for patients empty, the record has it).
    pub name: String,
    /// Role.
    pub role: Role,
    /// For patients: the id of their `Patient` resource.
    pub patient: Option<String>,
}

impl Agent {
    /// A part of Cairn that acts by itself, e.g. `journey-engine`, `mail-deliverer`, `importer`.
    #[must_use]
    pub fn system(tenant: TenantId, part: &str) -> Self {
        Self { tenant, id: part.to_owned(), name: part.to_owned(), role: Role::System, patient: None }
    }
}
