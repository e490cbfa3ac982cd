//! Whether a telephone is one person's alone.

use fhir::{Resource, ResourceType};
use ledger::{Number, TenantId};
use serde_json::Value;

use super::Vault;
use super::opening::{fetch_in, open_live};
use crate::consent::is_same_number;
use crate::sms;
use crate::{TrustError, tokens};

/// Documents looked up at once.
const PAGE: usize = 100;
/// The most documents that are opened for one number. Its last digits are those of a few people; where so many have
/// them, the number is taken for somebody else's too.
const OPENED_MAX: usize = 1_000;

/// Whether somebody was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nobody,
    One,
    /// More have it than are looked at.
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
        let is_other = |kind: ResourceType, person: &Resource| {
            !(kind == ResourceType::Patient && person.id() == patient.id())
        };
        let found = self.with_number(tenant, number, is_other).await?;
        Ok(found != Found::Nobody)
    }

    /// The one patient who has a number, where nobody else has it: by whom it may be answered what was asked there. For
    /// parts of Cairn that hear from a number; nothing of the record is told.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn patient_at(
        &self,
        tenant: TenantId,
        number: &sms::Number,
    ) -> Result<Option<String>, TrustError> {
        let mut theirs: Vec<String> = Vec::new();
        let is_second = |kind: ResourceType, person: &Resource| {
            let id = person.id().filter(|_| kind == ResourceType::Patient);
            let contacts = person.get("contact").and_then(Value::as_array);
            let mut contacts = contacts.into_iter().flatten();
            let Some(id) = id else { return true };
            if contacts.any(|contact| self.has_number(contact.get("telecom"), number)) {
                return true;
            }
            if !theirs.iter().any(|known| known == id) {
                theirs.push(id.to_owned());
            }
            theirs.len() > 1
        };
        let found = self.with_number(tenant, number, is_second).await?;
        Ok(theirs.pop().filter(|_| found == Found::Nobody))
    }

    /// Goes through those who have a number until one is it.
    async fn with_number(
        &self,
        tenant: TenantId,
        number: &sms::Number,
        mut is_it: impl FnMut(ResourceType, &Resource) -> bool + Send,
    ) -> Result<Found, TrustError> {
        let ledger = self.ledger();
        let forms = number.forms(self.texts().country);
        let view = ledger.view()?;
        let mut opened = 0;
        for kind in tokens::PERSONS {
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
                        return Ok(Found::TooMany);
                    }
                    let (row, _) = open_live(&view, tenant, stored).await?;
                    let person = &row.resource;
                    if self.has_number(person.get("telecom"), number) && is_it(kind, person) {
                        return Ok(Found::One);
                    }
                }
                match hits.last() {
                    Some(last) if hits.len() == PAGE => before = Some(last.number),
                    _ => break,
                }
            }
        }
        Ok(Found::Nobody)
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
