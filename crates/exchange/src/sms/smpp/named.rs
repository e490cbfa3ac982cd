//! Which message a receipt is of. By HTTP the address says so; here it is looked for.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use trust::conventions::SMS_SYSTEM;
use trust::sms::Number;
use trust::{Permit, TrustError};

use super::super::door::{SmsDoor, Unheard};
use super::super::references;
use super::mark_of;

/// How long a message is known by its mark, since it changed last: networks keep one for a week at most.
const MARKED_MS: u64 = 14 * 24 * 3_600_000;
/// The medium of text messages.
const MEDIUM: &str = "SMSWRIT";

/// A message that the provider calls so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) fit: Fit,
}

/// Whether a receipt is of a message that has its name: centres begin their names anew after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It is another's.
    No,
    /// If no other is found.
    Maybe,
    Sure,
}

impl Fit {
    /// By whether the mark is the message's, and whether the number is its patient's, as far as they are told.
    fn of(mark: Option<bool>, number: Option<bool>) -> Self {
        match (mark, number) {
            (Some(true), _) | (None, None | Some(true)) => Self::Sure,
            // The number on record may have changed meanwhile, and some centres put their own in the mark's place.
            (None, Some(false)) | (Some(false), Some(true)) => Self::Maybe,
            (Some(false), None | Some(false)) => Self::No,
        }
    }
}

fn is_marked(message: &Resource, mark: u16) -> bool {
    message.id().is_some_and(|id| mark_of(id) == mark)
}

/// The one of several messages that a receipt fits best; the newest of these. `patients` are those who have the receipt's
/// number, where that is known.
fn best(messages: &[Resource], mark: Option<u16>, patients: Option<&[String]>) -> Option<Named> {
    let all = messages.iter().filter_map(|one| {
        let mark = mark.map(|mark| is_marked(one, mark));
        let is_of = |patients: &[String]| {
            let patient = one.patient();
            patients.iter().any(|one| Some(one.as_str()) == patient)
        };
        let fit = Fit::of(mark, patients.map(is_of));
        Some((fit, one.text_at(&["sent"]).unwrap_or_default(), one.id()?))
    });
    all.max().map(|(fit, _, id)| Named {
        id: id.to_owned(),
        fit,
    })
}

impl SmsDoor {
    /// The message that a provider calls so.
    pub(super) async fn named(
        &self,
        permit: &Permit,
        name: &str,
        mark: Option<u16>,
        numbers: &[Number],
    ) -> Result<Option<Named>, Unheard> {
        let parameters = [("identifier".to_owned(), format!("{SMS_SYSTEM}|{name}"))];
        let query = SearchQuery::parse(ResourceType::Communication, &parameters, false)
            .map_err(TrustError::Unanswerable)?;
        let rows = self.trust.vault().load_all(permit, &query).await?;
        let mut messages: Vec<Resource> = rows.into_iter().map(|row| row.resource).collect();
        messages.retain(|one| references(one).contains(&name));
        let is_told = mark.is_some_and(|mark| messages.iter().any(|one| is_marked(one, mark)));
        let patients = if messages.is_empty() || is_told {
            None
        } else {
            self.patients(permit, numbers).await?
        };
        Ok(best(&messages, mark, patients.as_deref()))
    }

    /// Those who have one of the numbers; nothing where that can't be said.
    async fn patients(
        &self,
        permit: &Permit,
        numbers: &[Number],
    ) -> Result<Option<Vec<String>>, Unheard> {
        let mut all = None;
        for number in numbers {
            let Some(patients) = self.trust.vault().patients_with(permit, number).await? else {
                return Ok(None);
            };
            all.get_or_insert_with(Vec::new).extend(patients);
        }
        Ok(all)
    }

    /// The message to one of the numbers that has a mark, if it is one alone.
    pub(super) async fn marked(
        &self,
        permit: &Permit,
        numbers: &[Number],
        mark: u16,
    ) -> Result<Option<String>, Unheard> {
        let vault = self.trust.vault();
        let now_ms = vault.ledger().clock().now_ms();
        let since_ms = now_ms.saturating_sub(MARKED_MS);
        let mut found = Vec::new();
        for number in numbers {
            let take = |message: &Resource| {
                let medium = message.text_at(&["medium", "0", "coding", "0", "code"]);
                let id = message.id().filter(|id| mark_of(id) == mark);
                found.extend(id.filter(|_| medium == Some(MEDIUM)).map(str::to_owned));
            };
            let is_all = vault.load_messages_to(permit, number, since_ms, take);
            if !is_all.await? {
                return Ok(None);
            }
        }
        found.sort();
        found.dedup();
        Ok(match found.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_with_a_name_the_one_is_meant_that_its_mark_and_number_do_not_contradict() {
        let message = |id: &str, sent: &str, patient: &str| {
            Resource::from_value(json!({
                "resourceType": "Communication", "id": id, "status": "in-progress", "sent": sent,
                "subject": {"reference": format!("Patient/{patient}")}
            }))
            .expect("a message")
        };
        let all = [
            message("old", "2026-10-01T00:00:00Z", "ann"),
            message("new", "2026-11-01T00:00:00Z", "bob"),
        ];
        let ids = |patients: &[&str]| -> Vec<String> {
            patients.iter().map(|one| (*one).to_owned()).collect()
        };
        let found = |mark: Option<&str>, patients: Option<&[&str]>| {
            let patients = patients.map(ids);
            let found = best(&all, mark.map(mark_of), patients.as_deref()).expect("one");
            (found.id, found.fit)
        };
        let is = |id: &str, fit| (id.to_owned(), fit);
        assert_eq!(found(None, None), is("new", Fit::Sure));
        assert_eq!(found(None, Some(&["ann"])), is("old", Fit::Sure));
        assert_eq!(found(None, Some(&["eve"])), is("new", Fit::Maybe));
        assert_eq!(found(None, Some(&[])), is("new", Fit::Maybe));
        assert_eq!(found(Some("old"), None), is("old", Fit::Sure));
        assert_eq!(found(Some("old"), Some(&["bob"])), is("old", Fit::Sure));
        assert_eq!(found(Some("none"), Some(&["ann"])), is("old", Fit::Maybe));
        assert_eq!(found(Some("none"), Some(&["eve"])), is("new", Fit::No));
        assert_eq!(found(Some("none"), None), is("new", Fit::No));
        assert_eq!(best(&[], None, None), None);
    }
}
