//! What `_include` and `_revinclude` add to a page of a search.
//!
//! All of it is found by searches of the same view, so that each resource is opened, decided and checked
//! for consent like a match; it is audited in the same leaf. What may not be seen is not there, as in a
//! list. A type that is named and may not be looked at is refused, because an answer without it would say
//! that there is nothing.

use std::collections::BTreeMap;

use fhir::search::{Include, Named, Resources, SearchQuery, can_refer};
use fhir::{Reference, ResourceType};

use super::search::{PAGE_BYTES_MAX, PAGE_PATIENTS_MAX};
use super::{Hidden, SearchPage, Sight, Vault, Versioned};
use crate::{Action, Permit, TrustError};

/// The most resources that are included with one page: as many as there can be matches.
pub(super) const INCLUDED_MAX: usize = 1000;
/// The most bytes of stored JSON that are included with one page.
const INCLUDED_BYTES_MAX: usize = 4 * PAGE_BYTES_MAX;
/// How many resources are asked for by one search: twice as many tokens, where they are patients.
const ASKED_AT_A_TIME: usize = 500;
/// The most tokens that are asked for to include what refers to a page's resources. `_revinclude=*` asks
/// for each of them in each way that anything can refer to it.
const ASKED_MAX: usize = 100_000;

/// What has been found for a page, and how much of what is bounded.
#[derive(Default)]
struct Gathered {
    known: Resources,
    rows: Vec<Versioned>,
    bytes: usize,
    patients: usize,
    asked: usize,
}

impl Vault {
    /// Adds to a page what its query includes.
    pub(super) async fn include(
        &self,
        view: &Sight,
        permit: &Permit,
        query: &SearchQuery,
        page: &mut SearchPage,
        hidden: &mut Hidden,
    ) -> Result<(), TrustError> {
        for include in &query.includes {
            let (looks, named) = if include.reverse {
                (Action::Search, include.source)
            } else {
                (Action::Read, include.target)
            };
            if let Some(kind) = named {
                self.require(permit, looks, kind).await?;
                self.require_scope(permit, Action::Search, kind).await?;
            }
        }
        if query.includes.is_empty() || page.rows.is_empty() {
            return Ok(());
        }
        let mut gathered = Gathered {
            known: Resources::default(),
            rows: Vec::new(),
            bytes: 0,
            patients: patients(&page.rows),
            asked: 0,
        };
        for row in &page.rows {
            add(&mut gathered.known, row);
        }
        let all: Vec<&Include> = query.includes.iter().collect();
        let again: Vec<&Include> = (all.iter().copied())
            .filter(|include| include.iterate)
            .collect();
        self.around(view, permit, &all, &page.rows, &mut gathered, hidden)
            .await?;
        let mut done = 0;
        while !again.is_empty() && done < gathered.rows.len() {
            let fresh = gathered.rows[done..].to_vec();
            done = gathered.rows.len();
            self.around(view, permit, &again, &fresh, &mut gathered, hidden)
                .await?;
        }
        page.included = gathered.rows;
        Ok(())
    }

    /// Gathers what some rows refer to and what refers to them.
    async fn around(
        &self,
        view: &Sight,
        permit: &Permit,
        includes: &[&Include],
        rows: &[Versioned],
        gathered: &mut Gathered,
        hidden: &mut Hidden,
    ) -> Result<(), TrustError> {
        let mut wanted = Resources::default();
        for row in rows {
            for include in includes.iter().filter(|include| !include.reverse) {
                include.follow(&row.resource, &mut |kind, id| {
                    if !gathered.known.has(kind, id) && permit.shows(kind) {
                        wanted.add(kind, id);
                    }
                });
            }
        }
        for kind in wanted.kinds() {
            for asked in wanted.chunks(kind, ASKED_AT_A_TIME) {
                let query = SearchQuery::of_resources(kind, &Named::ID, asked);
                self.gather(view, permit, query, gathered, hidden).await?;
            }
        }
        let mut here = Resources::default();
        for row in rows {
            add(&mut here, row);
        }
        for (source, parameter, target) in ways_back(permit, includes, &here) {
            for asked in here.chunks(target, ASKED_AT_A_TIME) {
                gathered.asked += asked.len();
                if gathered.asked > ASKED_MAX {
                    return Err(TrustError::TooCostly(format!(
                        "to include all that refers to the resources of this page would take more than {ASKED_MAX} look-ups; name the types in _revinclude, or ask for fewer rows with _count"
                    )));
                }
                let query = SearchQuery::of_resources(source, &parameter, asked);
                self.gather(view, permit, query, gathered, hidden).await?;
            }
        }
        Ok(())
    }

    /// What rows refer to, of some types; `shown` are there already.
    pub(super) async fn referred(
        &self,
        view: &Sight,
        permit: &Permit,
        shown: &[Versioned],
        kinds: &[ResourceType],
        hidden: &mut Hidden,
    ) -> Result<Vec<Versioned>, TrustError> {
        let mut gathered = Gathered::default();
        let mut wanted = Resources::default();
        for row in shown {
            add(&mut gathered.known, row);
        }
        for row in shown {
            row.resource.each_reference(&mut |text| {
                if let Some((kind, id)) = Reference::relative(text)
                    && kinds.contains(&kind)
                    && permit.shows(kind)
                    && !gathered.known.has(kind, id)
                {
                    wanted.add(kind, id);
                }
            });
        }
        for kind in wanted.kinds() {
            for asked in wanted.chunks(kind, ASKED_AT_A_TIME) {
                let query = SearchQuery::of_resources(kind, &Named::ID, asked);
                self.gather(view, permit, query, &mut gathered, hidden)
                    .await?;
            }
        }
        Ok(gathered.rows)
    }

    /// Adds all rows of a query.
    async fn gather(
        &self,
        view: &Sight,
        permit: &Permit,
        mut query: SearchQuery,
        gathered: &mut Gathered,
        hidden: &mut Hidden,
    ) -> Result<(), TrustError> {
        query.count = INCLUDED_MAX + 1;
        let mut before = None;
        loop {
            let found = self
                .scan(view, permit, &query, before, Some(&mut *hidden))
                .await?;
            let (bytes, named) = (found.bytes, patients(&found.rows));
            before = found.next;
            for row in found.rows {
                if add(&mut gathered.known, &row) {
                    gathered.rows.push(row);
                }
            }
            gathered.bytes += bytes;
            gathered.patients += named;
            if gathered.rows.len() > INCLUDED_MAX
                || gathered.bytes > INCLUDED_BYTES_MAX
                || gathered.patients > PAGE_PATIENTS_MAX
            {
                return Err(TrustError::TooCostly(format!(
                    "the resources to include with this page are more than {INCLUDED_MAX}, of more than {} MiB, or name more than {PAGE_PATIENTS_MAX} patients; ask for fewer rows with _count, or include less",
                    INCLUDED_BYTES_MAX >> 20
                )));
            }
            if before.is_none() {
                return Ok(());
            }
        }
    }
}

/// In which ways resources of which types may refer to what is here, each once.
fn ways_back(
    permit: &Permit,
    includes: &[&Include],
    here: &Resources,
) -> Vec<(ResourceType, Named, ResourceType)> {
    let mut ways = BTreeMap::new();
    for include in includes.iter().filter(|include| include.reverse) {
        let sources: Vec<ResourceType> = match include.source {
            Some(source) => vec![source],
            // Every look at a patient refers to them; whoever wants these names them.
            None => ResourceType::all()
                .filter(|kind| *kind != ResourceType::AuditEvent)
                .collect(),
        };
        for source in sources {
            if !permit.allows(Action::Search, source) {
                continue;
            }
            for parameter in include.parameters_of(source) {
                let targets = here.kinds().filter(|target| {
                    include.target.is_none_or(|wanted| wanted == *target)
                        && can_refer(source, &parameter, *target)
                });
                let name = parameter.name();
                let each = targets.map(|target| {
                    let way = (source, parameter.clone(), target);
                    ((source, name.to_owned(), target), way)
                });
                ways.extend(each);
            }
        }
    }
    ways.into_values().collect()
}

fn add(resources: &mut Resources, row: &Versioned) -> bool {
    let id = row.resource.id().unwrap_or_default();
    resources.add(row.resource.kind(), id)
}

fn patients(rows: &[Versioned]) -> usize {
    rows.iter().map(|row| row.resource.patients().len()).sum()
}
