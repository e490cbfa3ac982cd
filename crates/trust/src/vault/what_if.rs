//! What a change of a patient's consents would change, told before it is made.

use fhir::{Reference, Resource, ResourceType};
use ledger::Owner;

use super::consents::{Hidden, reach, ready};
use super::{Sight, Vault, fetch_in, open};
use crate::audit::{Event, Record};
use crate::consent::{Access, Asked, Row, decide};
use crate::{Action, Permit, Purpose, TrustError, tokens};

/// The most resources of a patient that are looked at: a second's work.
const ROWS_MAX: usize = 20_000;
/// Hits looked up at a time.
const PAGE: usize = 512;

/// What would be another way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WhatIf {
    /// What who asks could no longer see.
    pub lost: Vec<Reference>,
    /// What they could see then, and can't now.
    pub gained: Vec<Reference>,
    /// Purposes for which care programmes may act and send messages now, and could no longer: journeys for
    /// these would stop.
    pub stopped: Vec<Purpose>,
    /// The opposite.
    pub started: Vec<Purpose>,
}

impl Vault {
    /// What would change for somebody if a consent were written: a new one, or another version of one that
    /// is there. Only what this permit itself lets see is told of; audited as a search of the patient's
    /// record.
    ///
    /// # Errors
    /// `Invalid` when the consent names no patient of the permit's; `Refused` when the permit doesn't let
    /// consents be searched; `TooCostly` when the patient has more than 20,000 resources; `Ledger`,
    /// `Damaged`.
    pub async fn what_if(
        &self,
        permit: &Permit,
        consent: &Resource,
        asked: &Asked,
    ) -> Result<WhatIf, TrustError> {
        self.require(permit, Action::Search, ResourceType::Consent)
            .await?;
        let patient = consent.patient().filter(|patient| {
            consent.kind() == ResourceType::Consent
                && permit.only_patient().is_none_or(|only| only == *patient)
        });
        let Some(patient) = patient else {
            let words =
                "what would change is told of a consent of a patient whose record may be seen";
            return Err(TrustError::Invalid(words.to_owned()));
        };
        let (tenant, rules) = (permit.tenant(), self.rules());
        let view = Sight::now(self.ledger().view()?);
        let mut hidden = Hidden::default();
        let now = self.patients_consents(&view, tenant, patient).await?;
        let mut then: Vec<Resource> = now
            .iter()
            .filter(|one| one.id().is_none() || one.id() != consent.id())
            .cloned()
            .collect();
        let before = now.iter().find(|one| one.id() == consent.id());
        let version = before.and_then(|one| one.text_at(&["meta", "versionId"])?.parse().ok());
        let mut changed = consent.clone();
        changed.set_meta(
            version.map_or(1, |version: u32| version.saturating_add(1)),
            u64::try_from(asked.now_ms).unwrap_or_default(),
        );
        then.push(changed);

        let mut told = WhatIf::default();
        for purpose in Purpose::ALL {
            let may =
                |consents: &[Resource]| decide(rules, consents, purpose, asked.now_ms).permitted;
            match (may(&now), may(&then)) {
                (true, false) => told.stopped.push(purpose),
                (false, true) => told.started.push(purpose),
                _ => {}
            }
        }
        let mut record = Record::under(permit, Event::SEARCH);
        record.patients.insert(patient.to_owned());
        record.queries.push("Consent/$what-if".to_owned());
        let access = [
            ready(&view, tenant, &now).await?,
            ready(&view, tenant, &then).await?,
        ];
        let mut looked_at = 0;
        for kind in ResourceType::all() {
            let Some(reach) = reach(permit, kind) else {
                continue;
            };
            if !permit.allows(Action::Search, kind) {
                continue;
            }
            let query = tokens::of_patient(self.ledger(), tenant, kind, patient);
            let mut before = None;
            loop {
                let hits = view.search(tenant, &query, before, None, PAGE).await?;
                looked_at += hits.len();
                if looked_at > ROWS_MAX {
                    return Err(TrustError::TooCostly(format!(
                        "the patient has more than {ROWS_MAX} resources that would have to be looked at"
                    )));
                }
                for hit in &hits {
                    let Some(stored) = fetch_in(&view, tenant, *hit).await? else {
                        continue;
                    };
                    let row = open(&stored)?;
                    let is_theirs =
                        Self::owner(&row.resource) == Owner::Patient(patient.to_owned());
                    let is_seen = !stored.deleted
                        && is_theirs
                        && permit.covers(crate::Action::Search, &row.resource)
                        && !self
                            .hides(&view, permit, &row.resource, &mut hidden)
                            .await?;
                    if !is_seen {
                        continue;
                    }
                    let facts = Row::new(&rules.tables, &row.resource);
                    let [now, then] = [&access[0], &access[1]].map(|access: &Access| {
                        access.decide(rules, asked, &facts, reach).permitted
                    });
                    let changes = match (now, then) {
                        (true, false) => &mut told.lost,
                        (false, true) => &mut told.gained,
                        _ => continue,
                    };
                    changes.extend(row.resource.reference());
                    record.touch(super::touched(&row, Some(patient.to_owned())));
                }
                match hits.last() {
                    Some(last) if hits.len() == PAGE => before = Some(last.number),
                    _ => break,
                }
                tokio::task::yield_now().await;
            }
        }
        drop(view);
        self.record(permit, record).await?;
        Ok(told)
    }
}
