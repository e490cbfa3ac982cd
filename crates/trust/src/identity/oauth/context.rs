//! What an application is about beside a patient (SMART App Launch 2.2, "Launch context"): an encounter, or another
//! resource that it was opened from. It is told to the application and lets it do nothing; all of it is the patient's.

use std::fmt;

use fhir::{Reference, ResourceType};
use ledger::TenantId;
use serde::{Deserialize, Serialize};

use crate::TrustError;
use crate::identity::Identity;
use crate::scopes::{Context, Scopes};

/// What an application is about beside a patient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchContext {
    /// Id of the encounter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encounter: Option<String>,
    /// Another resource, as `Type/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

impl LaunchContext {
    /// That of a resource's own page.
    #[must_use]
    pub fn of(kind: ResourceType, id: &str) -> Self {
        match kind {
            ResourceType::Encounter => Self {
                encounter: Some(id.to_owned()),
                about: None,
            },
            kind => Self {
                encounter: None,
                about: Some(format!("{}/{id}", kind.name())),
            },
        }
    }

    /// Whether there is nothing beside the patient.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Type and id of the resource that is no encounter.
    #[must_use]
    pub fn other(&self) -> Option<(ResourceType, &str)> {
        Reference::relative(self.about.as_deref()?)
    }

    /// Type and id of all that it names.
    pub fn rows(&self) -> impl Iterator<Item = (ResourceType, &str)> {
        let encounter = self.encounter.as_deref();
        let encounter = encounter.map(|id| (ResourceType::Encounter, id));
        encounter.into_iter().chain(self.other())
    }
}

/// For notes of the audit, behind the name of the application.
impl fmt::Display for LaunchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (kind, id)) in self.rows().enumerate() {
            let word = if place == 0 { " for" } else { " and" };
            write!(f, "{word} {}/{id}", kind.name())?;
        }
        Ok(())
    }
}

/// The scopes of who is told of an encounter, or of who is not: what is granted is what is told.
pub(super) fn with_encounter(scopes: Scopes, context: &LaunchContext) -> Scopes {
    match context.encounter {
        Some(_) => scopes,
        None => scopes.without(Context::LaunchEncounter),
    }
}

impl Identity {
    /// What of a context is there and is the patient's. A row can be deleted after it was chosen: an application must
    /// not go on with it. A row stays its patient's (`vault/commit.rs`), which is looked at all the same.
    pub(super) async fn still_of(
        &self,
        tenant: TenantId,
        patient: Option<&str>,
        context: &LaunchContext,
    ) -> Result<LaunchContext, TrustError> {
        let mut still = LaunchContext::default();
        let Some(patient) = patient else {
            return Ok(still);
        };
        for (kind, id) in context.rows() {
            let vault = &self.inner.vault;
            let found = vault.peek_unless_erased(tenant, kind, id).await?;
            if found.is_none_or(|row| row.patient() != Some(patient)) {
                continue;
            }
            let one = LaunchContext::of(kind, id);
            still.encounter = one.encounter.or(still.encounter);
            still.about = one.about.or(still.about);
        }
        Ok(still)
    }
}
