//! Who acts, and in which role.
use std::sync::Arc;

use ledger::TenantId;

use crate::Purpose;
use crate::policy::SignedIn;
use crate::scopes::{Level, Scopes};

/// The roles of this slice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Role {
    Coordinator,
    Clinician,
    PrivacyOfficer,
    Squad,
    Administrator,
    /// Bills for what was done.
    Biller,
    Patient,
    /// Somebody who acts for a patient: a parent, a guardian, whom the patient has authorised.
    Proxy,
    /// A part of Cairn acting by itself: journey engine, deliverer, importer.
    System,
    /// Another system with FHIR access.
    Client,
    /// A program that has many patients' journeys led on in one go: it sees how many, never who, and no record.
    Steerer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 11] = [
        Self::Coordinator,
        Self::Clinician,
        Self::PrivacyOfficer,
        Self::Squad,
        Self::Administrator,
        Self::Biller,
        Self::Patient,
        Self::Proxy,
        Self::System,
        Self::Client,
        Self::Steerer,
    ];
    /// The name that policies know it by, e.g. `privacy-officer`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Clinician => "clinician",
            Self::PrivacyOfficer => "privacy-officer",
            Self::Squad => "squad",
            Self::Administrator => "administrator",
            Self::Biller => "biller",
            Self::Patient => "patient",
            Self::Proxy => "proxy",
            Self::System => "system",
            Self::Client => "client",
            Self::Steerer => "steerer",
        }
    }
    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
    /// The purpose of use that people of a role work for, on pages and by applications.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Coordinator | Self::Steerer => Purpose::CareManagement,
            Self::Clinician => Purpose::Treatment,
            Self::PrivacyOfficer | Self::Squad | Self::System | Self::Client => Purpose::Operations,
            Self::Administrator => Purpose::Administration,
            Self::Biller => Purpose::Payment,
            Self::Patient | Self::Proxy => Purpose::PatientRequest,
        }
    }
    /// Whether people of a role see one patient's record and no other: their own, or that of whom they act for.
    #[must_use]
    pub fn has_one_record(self) -> bool {
        matches!(self, Self::Patient | Self::Proxy)
    }
    /// Whether people of a role let applications act for them: patients on their own record, and those who
    /// care for patients.
    #[must_use]
    pub fn launches_apps(self) -> bool {
        matches!(self, Self::Patient | Self::Coordinator | Self::Clinician)
    }
}

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The tenant that they act in.
    pub tenant: TenantId,
    /// Opaque id of the account, client or part of Cairn (`journey-engine`, ...). Of a proxy: of the record
    /// by which they act for the patient, and of their `RelatedPerson`.
    pub id: String,
    /// Name to show in the audit (of staff; for patients and proxies empty, the record has it).
    pub name: String,
    /// Role.
    pub role: Role,
    /// For patients: the id of their `Patient` resource. For proxies: of the patient whom they act for.
    pub patient: Option<String>,
    /// What an application's access token narrows, if they come by one.
    pub access: Option<Arc<Access>>,
    /// How they signed in, if they have a session of their own.
    pub signed_in: SignedIn,
}

/// What an access token of an application lets be done, at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Id of the application.
    pub client: String,
    /// Name of the application, for the audit.
    pub client_name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The patient that it is for, if for one.
    pub patient: Option<String>,
    /// The client's round in which the token was given: what it began ends with the round.
    pub(crate) round: u32,
    /// What lets it in, if a person did.
    pub(crate) grant: Option<String>,
}

impl Access {
    /// The patient whose rows alone are let be seen and written, if there is one.
    pub(crate) fn only_patient(&self) -> Option<&str> {
        self.patient
            .as_deref()
            .filter(|_| self.scopes.are_all(Level::Patient))
    }
}

impl Agent {
    /// The application that asks for this person, if one does. A system that asks for itself is none.
    #[must_use]
    pub fn app(&self) -> Option<&Access> {
        let access = self.access.as_deref()?;
        (access.client != self.id).then_some(access)
    }
    /// A part of Cairn that acts by itself, e.g. `journey-engine`, `mail-deliverer`, `importer`. What
    /// it may do is in `policies/parts.cedar`; a part that isn't named there may do nothing.
    #[must_use]
    pub fn system(tenant: TenantId, part: &str) -> Self {
        Self {
            tenant,
            id: part.to_owned(),
            name: part.to_owned(),
            role: Role::System,
            patient: None,
            access: None,
            signed_in: SignedIn::default(),
        }
    }
}
