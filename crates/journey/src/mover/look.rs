//! What a journey asks of the record, answered as the record is now.

use super::{MoveError, Mover};
use crate::definition::{Definition, Path};
use crate::facts;
use crate::kinds::Question;
use crate::state::State;
use fhir::{Resource, ResourceType};
use serde_json::Value;
use trust::{Permit, Purpose, TrustError, Vault, Versioned};

impl Mover<'_> {
    /// Whether what a step asks is so; nothing where that can't be told.
    pub(super) async fn look(
        &mut self,
        definition: &Definition,
        state: &State,
        question: &Question,
    ) -> Result<Option<bool>, MoveError> {
        let (now_ms, zone) = (self.now_ms, &definition.zone);
        match question {
            Question::Consent(purpose) => Ok(Some(self.permits(definition, *purpose).await?)),
            Question::Coverage => {
                let active = |found: &Resource| Some(facts::is_active(found, now_ms, zone));
                self.is_there(ResourceType::Coverage, &active).await
            }
            Question::Eligible => {
                let kind = ResourceType::CoverageEligibilityResponse;
                self.looked_for.insert(kind);
                let answers = self.of_type(kind, &[]).await?;
                Ok(Some(facts::is_eligible(answers.iter(), now_ms, zone)))
            }
            Question::Has(kind, condition) => {
                let entry = facts::entry_of(state);
                let fulfils = |found: &Resource| weigh(condition.as_ref(), found, &entry, now_ms);
                self.is_there(*kind, &fulfils).await
            }
        }
    }

    /// Whether the patient's record has a resource of a type that fulfils something, with what this unit of work
    /// does to them; nothing where none does and of some that can't be told. The record is gone through page by page,
    /// no further than to the first that does.
    async fn is_there(
        &mut self,
        kind: ResourceType,
        fulfils: &(dyn Fn(&Resource) -> Option<bool> + Send + Sync),
    ) -> Result<Option<bool>, MoveError> {
        self.looked_for.insert(kind);
        let mut unclear = false;
        let mut tell = |found: &Resource| {
            let told = fulfils(found);
            unclear |= told.is_none();
            told == Some(true)
        };
        if kind == ResourceType::Patient {
            let there = self.person().await?.is_some_and(&mut tell);
            return Ok((there || !unclear).then_some(there));
        }
        let drafts = self
            .drafts
            .iter()
            .filter(|((code, _), _)| *code == kind.code());
        let drafts: Vec<&Resource> = drafts.map(|(_, draft)| &draft.resource).collect();
        let mut there = drafts.iter().any(|draft| tell(draft));
        if !there {
            let query = query(kind, &self.patient, &[])?;
            let is_enough = |row: Versioned| {
                let is_draft = drafts.iter().any(|draft| draft.id() == row.resource.id());
                there = !is_draft && tell(&row.resource);
                there
            };
            self.vault
                .load_until(self.permit, &query, is_enough)
                .await?;
        }
        Ok((there || !unclear).then_some(there))
    }
}

fn weigh(condition: Option<&Path>, found: &Resource, entry: &Value, now_ms: u64) -> Option<bool> {
    condition.map_or(Some(true), |path| {
        facts::weigh(path, found, Some(entry), now_ms)
    })
}

/// What finds a patient's resources of a type, by pages.
pub(super) fn query(
    kind: ResourceType,
    patient: &str,
    more: &[(&str, &str)],
) -> Result<fhir::search::SearchQuery, MoveError> {
    let mut parameters = vec![
        ("patient".to_owned(), patient.to_owned()),
        ("_count".to_owned(), "200".to_owned()),
    ];
    parameters.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let query = fhir::search::SearchQuery::parse(kind, &parameters, false);
    Ok(query.map_err(|outcome| {
        TrustError::Invalid(format!(
            "a journey can't search {kind}: {}",
            outcome.summary()
        ))
    })?)
}

/// All resources of a type in a patient's record that match, as they are at one moment.
pub(crate) async fn search(
    vault: &Vault,
    permit: &Permit,
    kind: ResourceType,
    patient: &str,
    more: &[(&str, &str)],
) -> Result<Vec<Resource>, MoveError> {
    let query = query(kind, patient, more)?;
    let rows = vault.load_all(permit, &query).await?;
    Ok(rows.into_iter().map(|row| row.resource).collect())
}

/// The same as a purpose lets them be shown to who coordinates care, and whether some are kept back. Of what names
/// several patients only the first is asked.
pub(crate) async fn shown(
    vault: &Vault,
    permit: &Permit,
    kind: ResourceType,
    patient: &str,
    purpose: Purpose,
    more: &[(&str, &str)],
) -> Result<(Vec<Resource>, bool), MoveError> {
    let query = query(kind, patient, more)?;
    let (rows, kept) = vault.load_shown(permit, &query, purpose).await?;
    let rows = rows.into_iter().map(|row| row.resource);
    let rows = rows.filter(|row| row.patient() == Some(patient));
    Ok((rows.collect(), kept > 0))
}
