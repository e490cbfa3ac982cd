//! Persons who own tasks under one name here and under another there: pages write an account, applications what the
//! directory has of it.

use crate::Journeys;
use crate::facts;
use crate::mover::MoveError;
use fhir::{Resource, ResourceType};
use serde_json::Value;
use trust::conventions::DONE_BY;
use trust::{Permit, TrustError};

/// Who did what a task is to confirm, as the journey noted it.
fn done_by(task: &Resource) -> Option<&str> {
    let inputs = task.get("input").and_then(Value::as_array);
    let mut inputs = inputs.into_iter().flatten();
    let found = inputs.find(|input| fhir::human::codeable(&input["type"]) == DONE_BY)?;
    found["valueString"].as_str()
}

/// Whether a name is that of an account, and not a reference or another identifier.
fn is_account(name: &str) -> bool {
    !name.contains(['/', '|'])
}

impl Journeys {
    /// A task that confirms another, with who completed it under the name that the first one's was noted under, where
    /// both are one person: an account is all that administrators say it is known as.
    pub(crate) async fn under_one_name(
        &self,
        permit: &Permit,
        mut task: Resource,
    ) -> Result<Resource, MoveError> {
        if task.kind() != ResourceType::Task {
            return Ok(task);
        }
        let (Some(first), Some(second)) = (done_by(&task), facts::done_by(&task)) else {
            return Ok(task);
        };
        if first == second {
            return Ok(task);
        }
        let first = first.to_owned();
        if facts::done_by_system(&task).as_ref() == Some(&first) {
            // Whom the system means by nobody may be anybody whom it names.
            facts::set_done_by(&mut task, &first);
            return Ok(task);
        }
        if !(is_account(&first) || is_account(&second)) {
            return Ok(task);
        }
        let (firsts, seconds) = (
            self.names(permit, &first).await?,
            self.names(permit, &second).await?,
        );
        if firsts.iter().any(|name| seconds.contains(name)) {
            // As the journey noted it, whatever it is: what it reads is compared with that.
            facts::set_done_by(&mut task, &first);
        }
        Ok(task)
    }

    /// All that somebody is known as.
    async fn names(&self, permit: &Permit, name: &str) -> Result<Vec<String>, TrustError> {
        let mut names = vec![name.to_owned()];
        if is_account(name) {
            names.extend(self.vault().person_known_as(permit, name).await?);
        }
        Ok(names)
    }
}
