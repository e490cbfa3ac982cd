//! Whom somebody is shown by name: those whom lists of patients and of their care plans would show them.

use crate::{JourneyError, Journeys};
use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use serde_json::json;
use std::collections::BTreeSet;
use trust::{Action, Permit, TrustError};

/// Patients looked for by one search.
const IDS: usize = 200;

impl Journeys {
    /// Of these patients, those whom a search for them shows, and of whom a care plan would be shown, which is what a
    /// journey is to other systems: relationships, consents and labels decide, row by row.
    /// `None` for whoever is shown no patient at all; they are told of journeys by their ids.
    pub(crate) async fn shown_of(
        &self,
        permit: &Permit,
        patients: &BTreeSet<String>,
    ) -> Result<Option<BTreeSet<String>>, JourneyError> {
        let kind = ResourceType::Patient;
        if !permit.allows(Action::Search, kind) {
            return Ok(None);
        }
        if patients.is_empty() {
            return Ok(Some(BTreeSet::new()));
        }
        let ids: Vec<&str> = patients.iter().map(String::as_str).collect();
        let mut shown = BTreeSet::new();
        for some in ids.chunks(IDS) {
            let mut left = some.to_vec();
            while !left.is_empty() {
                let parameters = [
                    ("_id".to_owned(), left.join(",")),
                    ("_count".to_owned(), IDS.to_string()),
                ];
                let query = SearchQuery::parse(kind, &parameters, false);
                let query = query.map_err(|outcome| TrustError::Invalid(outcome.summary()))?;
                let mut found = BTreeSet::new();
                let mut cut = false;
                for page in self.vault().search_many(permit, &[query]).await? {
                    let ids = page.rows.iter().filter_map(|row| row.resource.id());
                    found.extend(ids.map(str::to_owned));
                    cut |= page.next.is_some();
                }
                // A page ends early where its rows are large; the others are asked for again.
                left.retain(|id| cut && !found.is_empty() && !found.contains(*id));
                for id in found {
                    // Who somebody is may be shown to whom what is planned for them is not.
                    let mut plan = Resource::new(ResourceType::CarePlan);
                    plan.set("subject", json!({"reference": format!("Patient/{id}")}));
                    if self.vault().would_show(permit, &plan).await? {
                        shown.insert(id);
                    }
                }
            }
        }
        Ok(Some(shown))
    }

    /// The first of some journeys, with whose they are, that the permit is shown: their ids.
    pub(crate) async fn shown_first(
        &self,
        permit: &Permit,
        some: Vec<(String, String)>,
        count: usize,
    ) -> Result<Vec<String>, JourneyError> {
        let patients = some.iter().map(|(_, patient)| patient.clone()).collect();
        let shown = self.shown_of(permit, &patients).await?;
        let some = some.into_iter();
        let some = some.filter(|(_, patient)| {
            let shown = shown.as_ref();
            shown.is_none_or(|shown| shown.contains(patient))
        });
        Ok(some.map(|(instance, _)| instance).take(count).collect())
    }
}
