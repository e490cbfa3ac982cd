//! Which message a receipt is of. By HTTP the address says so; here it is looked for.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use trust::conventions::SMS_SYSTEM;
use trust::sms::Number;
use trust::{Permit, TrustError};

use super::super::door::{SmsDoor, Unheard};
use super::super::references;
use super::mark_of;

/// The medium of text messages.
const MEDIUM: &str = "SMSWRIT";

/// A message that the provider calls so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: String,
    /// Whether nothing speaks against it: centres begin their names anew after a while.
    pub(super) is_sure: bool,
}

/// The one of several with this name that has the mark; the newest where none has it, or none is told.
fn best(messages: &[Resource], name: &str, mark: Option<u16>) -> Option<Named> {
    let messages = messages
        .iter()
        .filter(|one| references(one).contains(&name));
    let all = messages.filter_map(|one| {
        let id = one.id()?;
        let is_sure = mark.is_none_or(|mark| mark_of(id) == mark);
        Some((is_sure, one.text_at(&["sent"]).unwrap_or_default(), id))
    });
    all.max().map(|(is_sure, _, id)| Named {
        id: id.to_owned(),
        is_sure,
    })
}

impl SmsDoor {
    /// The message that a provider calls so.
    pub(super) async fn named(
        &self,
        permit: &Permit,
        name: &str,
        mark: Option<u16>,
    ) -> Result<Option<Named>, Unheard> {
        let parameters = [("identifier".to_owned(), format!("{SMS_SYSTEM}|{name}"))];
        let query = SearchQuery::parse(ResourceType::Communication, &parameters, false)
            .map_err(TrustError::Unanswerable)?;
        let rows = self.trust.vault().load_all(permit, &query).await?;
        let messages: Vec<Resource> = rows.into_iter().map(|row| row.resource).collect();
        Ok(best(&messages, name, mark))
    }

    /// The message to a number that has a mark, if it is one alone.
    pub(super) async fn marked(
        &self,
        permit: &Permit,
        number: &Number,
        mark: u16,
    ) -> Result<Option<String>, Unheard> {
        let mut found = Vec::new();
        let take = |message: &Resource| {
            let medium = message.text_at(&["medium", "0", "coding", "0", "code"]);
            let id = message.id().filter(|id| mark_of(id) == mark);
            found.extend(id.filter(|_| medium == Some(MEDIUM)).map(str::to_owned));
        };
        let vault = self.trust.vault();
        vault.load_messages_to(permit, number, take).await?;
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
    fn of_several_with_a_name_the_one_with_the_mark_or_the_newest_is_meant() {
        let message = |id: &str, sent: &str, name: &str| {
            Resource::from_value(json!({
                "resourceType": "Communication", "id": id, "status": "in-progress", "sent": sent,
                "identifier": [{"system": SMS_SYSTEM, "value": name}]
            }))
            .expect("a message")
        };
        let all = [
            message("old", "2026-10-01T00:00:00Z", "7"),
            message("new", "2026-11-01T00:00:00Z", "7"),
            message("other", "2026-11-02T00:00:00Z", "8"),
        ];
        let found = |mark| best(&all, "7", mark).map(|named| (named.id, named.is_sure));
        assert_eq!(found(None), Some(("new".to_owned(), true)));
        assert_eq!(found(Some(mark_of("old"))), Some(("old".to_owned(), true)));
        let strange = mark_of("nobody");
        assert_eq!(found(Some(strange)), Some(("new".to_owned(), false)));
        assert_eq!(best(&all, "9", None), None);
    }
}
