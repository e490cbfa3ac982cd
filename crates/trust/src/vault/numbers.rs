//! Whether a telephone is one person's alone, and which messages went to it.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Number, TenantId};
use serde_json::Value;

use super::opening::{fetch_in, open_live};
use super::{Vault, Versioned};
use crate::consent::is_same_number;
use crate::sms;
use crate::{Action, Permit, TrustError, tokens};

/// Documents looked up at once.
const PAGE: usize = 100;
/// The most documents that are opened for one number. Its last digits are those of a few people; where so many have
/// them, the number is taken for somebody else's too.
const OPENED_MAX: usize = 1_000;
/// The most messages that are looked at for one number.
const MESSAGES_MAX: usize = 1_000;

/// How far those were looked at who may have a number.
enum Seen {
    All,
    Enough,
    TooMany,
}

impl Vault {
    /// Whether somebody else has a patient's number too: another patient, somebody who is related to one, or who is to
    /// be called for this one. For parts of Cairn that write to a number; who it is, is not told.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn is_number_of_others(
        &self,
        tenant: TenantId,
        patient: &Resource,
        number: &sms::Number,
    ) -> Result<bool, TrustError> {
        let contacts = patient.get("contact").and_then(Value::as_array);
        let mut contacts = contacts.into_iter().flatten();
        if contacts.any(|contact| self.has_number(contact.get("telecom"), number)) {
            return Ok(true);
        }
        let mut is_others = |kind: ResourceType, person: &Resource| {
            let is_self = kind == ResourceType::Patient && person.id() == patient.id();
            !is_self && self.has_number(person.get("telecom"), number)
        };
        let seen = self.each_with(tenant, number, &tokens::PERSONS, &mut is_others);
        Ok(!matches!(seen.await?, Seen::All))
    }

    /// The ids of the patients who have a number; nothing where so many may have it that they were not all looked at. For
    /// what hears what a provider tells of messages.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn patients_with(
        &self,
        permit: &Permit,
        number: &sms::Number,
    ) -> Result<Option<Vec<String>>, TrustError> {
        let kind = ResourceType::Communication;
        self.require_writing(permit, Action::Search, kind).await?;
        let mut patients = Vec::new();
        let mut collect = |_: ResourceType, person: &Resource| {
            if self.has_number(person.get("telecom"), number) {
                patients.extend(person.id().map(str::to_owned));
            }
            false
        };
        let kinds = [ResourceType::Patient];
        let seen = self.each_with(permit.tenant(), number, &kinds, &mut collect);
        Ok(match seen.await? {
            Seen::All | Seen::Enough => Some(patients),
            Seen::TooMany => None,
        })
    }

    /// Goes through the messages, changed since a time, to those who have a number. False where that were so many that not
    /// all were looked at. For what hears what a provider tells of them: whose number it is, is not told but by them.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn load_messages_to(
        &self,
        permit: &Permit,
        number: &sms::Number,
        since_ms: u64,
        mut take: impl FnMut(&Resource) + Send,
    ) -> Result<bool, TrustError> {
        let kind = ResourceType::Communication;
        let Some(patients) = self.patients_with(permit, number).await? else {
            return Ok(false);
        };
        let mut left = MESSAGES_MAX;
        for patient in patients {
            let parameters = [
                ("patient".to_owned(), format!("Patient/{patient}")),
                (
                    "_lastUpdated".to_owned(),
                    format!("ge{}", fhir::date::instant(since_ms)),
                ),
            ];
            let query =
                SearchQuery::parse(kind, &parameters, false).map_err(TrustError::Unanswerable)?;
            let mut is_over = false;
            let each = |row: Versioned| {
                is_over = left == 0;
                if !is_over {
                    left -= 1;
                    take(&row.resource);
                }
                is_over
            };
            self.load_until(permit, &query, each).await?;
            if is_over {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes through those who may have a number, until something says of one that it is enough.
    async fn each_with(
        &self,
        tenant: TenantId,
        number: &sms::Number,
        kinds: &[ResourceType],
        is_enough: &mut (dyn FnMut(ResourceType, &Resource) -> bool + Send),
    ) -> Result<Seen, TrustError> {
        let ledger = self.ledger();
        let forms = number.forms(self.texts().country);
        let view = ledger.view()?;
        let mut opened = 0;
        for kind in kinds.iter().copied() {
            let query = tokens::of_number(ledger, tenant, kind, number.as_str(), &forms);
            let Some(query) = query else { continue };
            let mut before: Option<Number> = None;
            loop {
                let hits = view.search(tenant, &query, before, None, PAGE).await?;
                for hit in &hits {
                    let Some(stored) = fetch_in(&view, tenant, *hit).await? else {
                        continue;
                    };
                    if stored.kind != tokens::kind(kind) || stored.deleted {
                        continue;
                    }
                    opened += 1;
                    if opened > OPENED_MAX {
                        return Ok(Seen::TooMany);
                    }
                    let (row, _) = open_live(&view, tenant, stored).await?;
                    if is_enough(kind, &row.resource) {
                        return Ok(Seen::Enough);
                    }
                }
                match hits.last() {
                    Some(last) if hits.len() == PAGE => before = Some(last.number),
                    _ => break,
                }
            }
        }
        Ok(Seen::All)
    }

    fn has_number(&self, telecoms: Option<&Value>, number: &sms::Number) -> bool {
        let country = self.texts().country;
        let mut telecoms = telecoms.and_then(Value::as_array).into_iter().flatten();
        telecoms.any(|telecom| {
            let text = |name: &str| telecom.get(name).and_then(Value::as_str);
            let Some(value) = text("value") else {
                return false;
            };
            if matches!(text("system"), Some("email" | "url")) {
                return false;
            }
            match sms::Number::parse(value, country) {
                Some(other) => other == *number,
                // What can't be read for certain is the number if it may be: it doesn't say of which country it is.
                None => is_same_number(value, number.as_str()),
            }
        })
    }
}
