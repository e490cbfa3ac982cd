//! What a journey asks of the record, answered as the record is now.

use super::{MoveError, Mover};
use crate::definition::Definition;
use crate::facts;
use crate::kinds::Question;
use crate::state::State;
use fhir::{Resource, ResourceType};

impl Mover<'_> {
    /// Whether what a step asks is so.
    pub(super) async fn look(
        &mut self,
        definition: &Definition,
        state: &State,
        question: &Question,
    ) -> Result<bool, MoveError> {
        match question {
            Question::Consent(purpose) => self.permits(definition, *purpose).await,
            Question::Coverage => {
                let now_ms = self.now_ms;
                let found = self.as_it_is(ResourceType::Coverage).await?;
                Ok(found
                    .iter()
                    .any(|coverage| facts::is_active(coverage, now_ms)))
            }
            Question::Has(kind, condition) => {
                let entry = facts::entry_of(state);
                let now_ms = self.now_ms;
                let found = self.as_it_is(*kind).await?;
                Ok(found.iter().any(|resource| {
                    condition
                        .as_ref()
                        .is_none_or(|path| facts::test(path, resource, Some(&entry), now_ms))
                }))
            }
        }
    }

    /// All resources of a type in the patient's record, with what this unit of work does to them.
    async fn as_it_is(&mut self, kind: ResourceType) -> Result<Vec<Resource>, MoveError> {
        if kind == ResourceType::Patient {
            return Ok(self.person().await?.cloned().into_iter().collect());
        }
        let drafts: Vec<Resource> = self
            .drafts
            .iter()
            .filter(|((code, _), _)| *code == kind.code())
            .map(|(_, draft)| draft.resource.clone())
            .collect();
        let mut found = self.of_type(kind, &[]).await?;
        found.retain(|stored| drafts.iter().all(|draft| draft.id() != stored.id()));
        found.extend(drafts);
        Ok(found)
    }
}
