//! What care programmes are shown of a patient's record, where it decides who they take in.

use fhir::Resource;
use fhir::search::SearchQuery;
use ledger::View;
use std::sync::Arc;

use super::consents::reach;
use super::{Hidden, Vault, Versioned};
use crate::consent::Row;
use crate::{Permit, Purpose, Role, TrustError};

impl Vault {
    /// All rows that [`Vault::load_all`] loads, but for those that consents, labels or seals keep from whoever
    /// coordinates care for a purpose; and how many those are. A programme is no person who could have a relationship
    /// with the patient, so none is asked for, and none opens a seal.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn load_shown(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        purpose: Purpose,
    ) -> Result<(Vec<Versioned>, usize), TrustError> {
        let mut rows = self.load_all(permit, query).await?;
        if rows.is_empty() {
            return Ok((rows, 0));
        }
        let view = self.ledger().view()?;
        let (all, mut hidden) = (rows.len(), Hidden::default());
        let mut shown = Vec::with_capacity(all);
        for row in rows.drain(..) {
            let keeps = self.keeps_from_care(&view, permit, &row.resource, purpose, &mut hidden);
            if !keeps.await? {
                shown.push(row);
            }
        }
        let kept = all - shown.len();
        Ok((shown, kept))
    }

    async fn keeps_from_care(
        &self,
        view: &View,
        permit: &Permit,
        resource: &Resource,
        purpose: Purpose,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let (rules, role) = (self.rules(), Role::Coordinator);
        let Some(reach) = reach(permit, resource.kind()) else {
            return Ok(false);
        };
        let row = Row::new(&rules.tables, resource);
        let mut seals = row.labels().marked.into_iter();
        if seals.any(|marked| rules.seals().on(role, marked).is_some()) {
            return Ok(true);
        }
        if !rules.reaches(role, purpose) {
            return Ok(false);
        }
        let mut of_patients = Vec::new();
        for patient in resource.patients() {
            of_patients.push(self.access(view, permit, patient, hidden).await?);
        }
        if of_patients.is_empty() && rules.labels_any(role, &row) {
            of_patients.push(Arc::default());
        }
        let mut asked = self.asked(permit, &of_patients, hidden).await?;
        (asked.role, asked.purpose) = (role, purpose);
        if of_patients.iter().any(|access| access.names_actors()) {
            let programmes = self.programmes_known_as(permit.tenant()).await?;
            asked.known_as.extend(programmes);
        }
        let mut of_patients = of_patients.iter();
        Ok(of_patients.any(|access| !access.decide(rules, &asked, &row, reach).permitted))
    }
}
