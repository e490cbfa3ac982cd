//! What a change of a patient's consents would change, told before it is made.
use std::collections::BTreeMap;
use std::sync::Arc;

use fhir::{Reference, Resource, ResourceType};
use ledger::Owner;

use super::consents::{Hidden, reach, ready};
use super::{Sight, Vault, fetch_in, open};
use crate::audit::{Event, Record};
use crate::consent::{Access, Act, Asked, Row, begins_ms, decide, decide_act};
use crate::policy::Grants;
use crate::{Action, Permit, Purpose, Role, TrustError, tokens};

/// The most resources of a patient that are looked at: a second's work.
const ROWS_MAX: usize = 20_000;
/// The most consents that are weighed: each resource takes all of them, before and after, for each who might ask.
const WEIGHED_MAX: usize = 4_800_000;
/// Fewer consents than this don't matter beside what else a decision takes.
const CONSENTS_FEW: usize = 16;
/// Hits looked up at a time.
const PAGE: usize = 512;

/// What would be another way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WhatIf {
    /// What who asks could no longer see.
    pub lost: Vec<Reference>,
    /// What they could see then, and can't now.
    pub gained: Vec<Reference>,
    /// Purposes for which care programmes may act and send messages now, and could no longer.
    pub stopped: Vec<Purpose>,
    /// The opposite.
    pub started: Vec<Purpose>,
}

/// How many resources of which types.
pub type Counts = BTreeMap<ResourceType, usize>;

/// What those of a kind would see another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What for.
    pub purposes: Vec<Purpose>,
    /// What they could no longer see.
    pub lost: Counts,
    /// What they could see then, and can't now.
    pub gained: Counts,
}

/// Those who would be told the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Their role.
    pub role: Role,
    /// Their names; none: all of the role of whom nothing else is said.
    pub names: Vec<String>,
    /// What would change for them. Where it is empty, it would for others of their role.
    pub effects: Vec<Effect>,
}

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// When all that the consent says has begun, if that is still to come: it is told for then.
    pub later_ms: Option<i64>,
    /// For whom it would change something.
    pub parties: Vec<Party>,
    /// Whether each act that was asked about is permitted now, and would be then.
    pub acts: Vec<(bool, bool)>,
    /// How many resources were looked at.
    pub looked_at: usize,
    /// Whether these are all.
    pub complete: bool,
}

/// Somebody who might ask.
pub(crate) struct Asker {
    pub(crate) asked: Asked,
    /// What policies let them do.
    pub(crate) grants: Arc<Grants>,
}

/// A patient's consents before and after a change.
pub(crate) struct Change<'a> {
    view: Sight,
    patient: &'a str,
    now: Vec<Resource>,
    then: Vec<Resource>,
    access: [Access; 2],
    at_ms: i64,
}

impl Change<'_> {
    pub(crate) fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// `Type/id` of all whom the consents name, before and after.
    pub(crate) fn actors(&self) -> Vec<String> {
        let mut actors = Vec::new();
        for access in &self.access {
            access.each_actor(|reference| actors.push(reference.to_owned()));
        }
        actors.sort_unstable();
        actors.dedup();
        actors
    }

    pub(crate) fn names_actors(&self) -> bool {
        self.access.iter().any(Access::names_actors)
    }
}

/// What is seen another way.
#[derive(Default)]
pub(crate) struct Compared {
    /// For each asker what they lose and gain.
    pub(crate) of_askers: Vec<[Vec<Reference>; 2]>,
    pub(crate) looked_at: usize,
    pub(crate) complete: bool,
}

/// How many resources are looked at for so many who might ask, with so many consents before and after.
fn rows_max(askers: usize, consents: usize) -> usize {
    let weighed = askers.max(1).saturating_mul(consents.max(CONSENTS_FEW));
    ROWS_MAX.min(WEIGHED_MAX / weighed)
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
        let mut change = self.change(permit, consent, asked.now_ms).await?;
        change.at_ms = asked.now_ms;
        let mut told = WhatIf::default();
        for purpose in Purpose::ALL {
            let may = |consents: &[Resource]| {
                decide(self.rules(), consents, purpose, asked.now_ms).permitted
            };
            match (may(&change.now), may(&change.then)) {
                (true, false) => told.stopped.push(purpose),
                (false, true) => told.started.push(purpose),
                _ => {}
            }
        }
        let asker = Asker {
            asked: asked.clone(),
            grants: permit.grants.clone(),
        };
        let mut compared = self.compare(permit, change, &[asker]).await?;
        if !compared.complete {
            return Err(TrustError::TooCostly(format!(
                "the patient has more than {ROWS_MAX} resources that would have to be looked at"
            )));
        }
        if let Some([lost, gained]) = compared.of_askers.pop() {
            (told.lost, told.gained) = (lost, gained);
        }
        Ok(told)
    }

    /// The consents of a patient before and after one is written.
    pub(crate) async fn change<'a>(
        &self,
        permit: &Permit,
        consent: &'a Resource,
        now_ms: i64,
    ) -> Result<Change<'a>, TrustError> {
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
        let (tenant, view) = (permit.tenant(), Sight::now(self.ledger().view()?));
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
            u64::try_from(now_ms).unwrap_or_default(),
        );
        let at_ms = begins_ms(&changed).map_or(now_ms, |begins_ms| begins_ms.max(now_ms));
        then.push(changed);
        let access = [
            ready(&view, tenant, &now).await?,
            ready(&view, tenant, &then).await?,
        ];
        Ok(Change {
            view,
            patient,
            now,
            then,
            access,
            at_ms,
        })
    }

    /// Whether acts are permitted before and after a change.
    pub(crate) fn acts(&self, change: &Change<'_>, acts: &[Act]) -> Vec<(bool, bool)> {
        let may = |consents: &[Resource], act: &Act| {
            decide_act(self.rules(), consents, act, change.at_ms).permitted
        };
        acts.iter()
            .map(|act| (may(&change.now, act), may(&change.then, act)))
            .collect()
    }

    /// What a change changes for those who might ask, of what `permit` lets see. Audited, with each resource
    /// that it would change something for.
    pub(crate) async fn compare(
        &self,
        permit: &Permit,
        change: Change<'_>,
        askers: &[Asker],
    ) -> Result<Compared, TrustError> {
        let (tenant, rules, patient) = (permit.tenant(), self.rules(), change.patient);
        let view = &change.view;
        let mut hidden = Hidden::default();
        let mut record = Record::under(permit, Event::SEARCH);
        record.patients.insert(patient.to_owned());
        record.queries.push("Consent/$what-if".to_owned());
        let consents = change.now.len() + change.then.len();
        let most = rows_max(askers.len(), consents);
        let mut compared = Compared {
            of_askers: askers.iter().map(|_| Default::default()).collect(),
            looked_at: 0,
            complete: true,
        };
        'kinds: for kind in ResourceType::all() {
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
                for hit in &hits {
                    if compared.looked_at == most {
                        compared.complete = false;
                        break 'kinds;
                    }
                    compared.looked_at += 1;
                    let Some(stored) = fetch_in(view, tenant, *hit).await? else {
                        continue;
                    };
                    let row = open(&stored)?;
                    let is_theirs =
                        Self::owner(&row.resource) == Owner::Patient(patient.to_owned());
                    let is_seen = !stored.deleted
                        && is_theirs
                        && permit.covers(Action::Search, &row.resource)
                        && !self.hides(view, permit, &row.resource, &mut hidden).await?;
                    if !is_seen {
                        continue;
                    }
                    let facts = Row::new(&rules.tables, &row.resource);
                    let mut is_told = false;
                    for (asker, changes) in askers.iter().zip(&mut compared.of_askers) {
                        if !asker.grants.interaction(Action::Search, kind) {
                            continue;
                        }
                        let [now, then] = [&change.access[0], &change.access[1]]
                            .map(|access| access.decide(rules, &asker.asked, &facts, reach));
                        let place = match (now.permitted, then.permitted) {
                            (true, false) => 0,
                            (false, true) => 1,
                            _ => continue,
                        };
                        changes[place].extend(row.resource.reference());
                        is_told = true;
                    }
                    if is_told {
                        record.touch(super::touched(&row, Some(patient.to_owned())));
                    }
                }
                match hits.last() {
                    Some(last) if hits.len() == PAGE => before = Some(last.number),
                    _ => break,
                }
                tokio::task::yield_now().await;
            }
        }
        drop(change);
        self.record(permit, record).await?;
        Ok(compared)
    }
}

#[cfg(test)]
mod tests {
    use super::rows_max;

    #[test]
    fn what_is_foreseen_is_bounded_by_askers_and_by_consents() {
        for (askers, consents, rows) in [
            (0, 0, 20_000),
            (15, 2, 20_000),
            (30, 16, 10_000),
            (30, 2, 10_000),
            (30, 32, 5_000),
            (300, 16_000, 1),
            (300, 17_000, 0),
            (usize::MAX, usize::MAX, 0),
        ] {
            assert_eq!(rows_max(askers, consents), rows, "{askers} {consents}");
        }
    }
}
