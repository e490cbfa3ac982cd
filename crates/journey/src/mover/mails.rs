//! What is known of e-mails beside what the engine is told: which of them have left, and which addresses are written to.

use super::{MoveError, Mover};
use crate::resources;
use fhir::ResourceType;

impl Mover<'_> {
    /// The e-mails whose time is over and which a mail server has, as far as anybody knows: they may have arrived, so nothing
    /// else is done in their place.
    pub(crate) async fn left_in_time(
        &mut self,
        overdue: Vec<String>,
    ) -> Result<Vec<String>, MoveError> {
        let mut left = Vec::new();
        for communication in overdue {
            let found = self.draft(ResourceType::Communication, &communication);
            let found = found.await?.map(|draft| &draft.resource);
            if found.is_some_and(resources::may_have_arrived) {
                left.push(communication);
            }
        }
        Ok(left)
    }

    /// Whether a patient has e-mail addresses, and none that is written to.
    pub(super) async fn is_barred(&mut self) -> Result<bool, MoveError> {
        let (vault, permit) = (self.vault, self.permit);
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let Some(person) = self.person().await? else {
            return Ok(false);
        };
        let id = person.id().unwrap_or_default().to_owned();
        let channels = trust::consent::channels(person, now_ms);
        let mails = channels
            .into_iter()
            .filter(|one| one.kind == "email" && !one.address.is_empty());
        let addresses: Vec<String> = mails.map(|one| one.address).collect();
        for address in &addresses {
            let id = vault.address_id(permit.tenant(), &id, address);
            if vault.address_standing(permit, &id).await?.0.mark.is_none() {
                return Ok(false);
            }
        }
        Ok(!addresses.is_empty())
    }
}
