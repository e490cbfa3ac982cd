//! Whom somebody is shown by name: those whom any list of patients would show them.

use crate::{JourneyError, Journeys};
use fhir::ResourceType;
use fhir::search::SearchQuery;
use std::collections::BTreeSet;
use trust::{Action, Permit, TrustError};

/// Patients looked for by one search.
const IDS: usize = 200;

impl Journeys {
    /// Of these patients, those whom a search for them shows: relationships, consents and labels decide, row by row.
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
        let mut queries = Vec::new();
        for some in ids.chunks(IDS) {
            let parameters = [
                ("_id".to_owned(), some.join(",")),
                ("_count".to_owned(), IDS.to_string()),
            ];
            let query = SearchQuery::parse(kind, &parameters, false);
            queries.push(query.map_err(|outcome| TrustError::Invalid(outcome.summary()))?);
        }
        let pages = self.vault().search_many(permit, &queries).await?;
        let rows = pages.iter().flat_map(|page| &page.rows);
        let shown = rows.filter_map(|row| row.resource.id().map(str::to_owned));
        Ok(Some(shown.collect()))
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
