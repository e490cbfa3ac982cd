//! Which id each entry of a transaction gets, and what its references become.
use std::collections::{HashMap, HashSet};

use fhir::patch::Patch;
use fhir::{IssueCode, OperationOutcome, Reference, Resource, ResourceType};
use ledger::Expected;
use trust::{Action, Permit, Sought, Versioned};

use super::{ISSUES_MAX, Stop, Write, entry_error};
use crate::conditional::{Aim, all, check_no_id, one, only, take_id};
use crate::criteria::{Criteria, Found, Reading, Slot, exhausted, hidden, several, unlike};
use crate::error::in_entry;
use crate::patch::patched;
use crate::step::{Ask, Step};
use crate::write::{IfMatch, mint, wrap};
use crate::{Caller, PATCH_WORK_MAX, Record, RecordError, refs};

/// Criteria of one transaction that may each mean a thousand resources.
const OPEN_CRITERIA_MAX: usize = 15;

impl Record {
    /// Gives each entry its id, resolves all references and checks what comes out of it.
    pub(super) async fn resolve(
        &self,
        caller: &Caller,
        permit: &Permit,
        steps: &[Step],
    ) -> Result<Vec<Option<Write>>, Stop> {
        let vault = self.vault();
        let owns = &vault.owns(permit.tenant());
        let base = &caller.base;
        let asked = Asked::of(Reading { base, owns }, steps)?;
        let (found, doomed) = asked.seek(self, caller, permit).await?;
        let mut writes: Vec<Option<Write>> = Vec::new();
        writes.resize_with(steps.len(), || None);
        // What each entry's `fullUrl` stands for.
        let mut targets: HashMap<String, String> = HashMap::new();
        let mut firsts: HashMap<&str, usize> = HashMap::new();
        let mut resources: Vec<Option<Resource>> =
            steps.iter().map(|step| step.resource.clone()).collect();

        for (place, step) in steps.iter().enumerate() {
            let target = match &step.ask {
                Ask::Update {
                    kind,
                    aim: Aim::Id(id),
                    ..
                } => format!("{kind}/{id}"),
                Ask::Update {
                    kind,
                    aim: Aim::Criteria(criteria),
                    ..
                } => {
                    let Some(resource) = resources[place].take() else {
                        continue;
                    };
                    let found = found.get(criteria.canonical());
                    let write = self
                        .conditional_put(caller, permit, criteria, found, resource)
                        .await;
                    let (id, write) = write.map_err(|stop| stop.of(step))?;
                    writes[place] = Some(write);
                    format!("{kind}/{id}")
                }
                Ask::Delete {
                    aim: Aim::Criteria(criteria),
                    if_match,
                    ..
                } => {
                    let rows = all(doomed.get(criteria.canonical()), if_match);
                    let rows = rows.map_err(|error| entry_error(error, step, "request"))?;
                    writes[place] = Some(Write::DeleteAll(rows.into_iter().cloned().collect()));
                    continue;
                }
                Ask::Create {
                    kind,
                    criteria: Some(criteria),
                } => {
                    let id = if let Some(&first) = firsts.get(criteria.canonical()) {
                        writes[place] = Some(Write::SameAs(first));
                        match &writes[first] {
                            Some(Write::Existing(row)) => {
                                row.resource.id().unwrap_or_default().to_owned()
                            }
                            Some(Write::Put { resource, .. }) => {
                                resource.id().unwrap_or_default().to_owned()
                            }
                            _ => String::new(),
                        }
                    } else {
                        firsts.insert(criteria.canonical(), place);
                        let resource = resources[place].take();
                        let found = found.get(criteria.canonical());
                        let write = self
                            .conditional(caller, permit, criteria, found, resource)
                            .await;
                        let write = write.map_err(|stop| stop.of(step))?;
                        let id = match &write {
                            Write::Existing(row) => row.resource.id(),
                            Write::Put { resource, .. } => resource.id(),
                            _ => None,
                        };
                        let id = id.unwrap_or_default().to_owned();
                        writes[place] = Some(write);
                        id
                    };
                    format!("{kind}/{id}")
                }
                Ask::Create {
                    kind: ResourceType::Patient,
                    criteria: None,
                } => {
                    let Some(mut resource) = resources[place].take() else {
                        continue;
                    };
                    mint(vault, permit, &mut resource);
                    let target = format!("Patient/{}", resource.id().unwrap_or_default());
                    writes[place] = Some(Write::Put {
                        resource,
                        expected: Expected::Absent,
                        created: true,
                    });
                    target
                }
                _ => continue,
            };
            if let Some(full_url) = &step.full_url {
                targets.insert(full_url.clone(), target);
            }
        }
        let conditionals = conditional_references(steps, asked, &found)?;

        // Whose an entry is can be known once the patients have their ids; then the rest get theirs.
        for (place, step) in steps.iter().enumerate() {
            let Ask::Create {
                kind,
                criteria: None,
            } = &step.ask
            else {
                continue;
            };
            let Some(mut resource) = resources[place].take() else {
                continue;
            };
            let base = step.full_url.as_deref().and_then(refs::base_of);
            refs::replace(&mut resource, &mut |text| {
                let known = lookup(&targets, base, text).or_else(|| match conditionals.get(text) {
                    Some(Meant::There(target)) => Some(target.clone()),
                    _ => None,
                });
                known.filter(|target| target.starts_with("Patient/"))
            });
            resource.remove("id");
            mint(vault, permit, &mut resource);
            if let Some(full_url) = &step.full_url {
                targets.insert(
                    full_url.clone(),
                    format!("{kind}/{}", resource.id().unwrap_or_default()),
                );
            }
            writes[place] = Some(Write::Put {
                resource,
                expected: Expected::Absent,
                created: true,
            });
        }
        for (place, step) in steps.iter().enumerate() {
            if let Ask::Update { .. } = &step.ask
                && let Some(resource) = resources[place].take()
            {
                writes[place] = Some(Write::Put {
                    resource,
                    expected: Expected::Absent,
                    created: true,
                });
            }
        }
        let mut room = PATCH_WORK_MAX;
        for (place, step) in steps.iter().enumerate() {
            if let Ask::Patch {
                kind,
                aim,
                if_match,
                patch: Some(patch),
            } = &step.ask
            {
                let of_criteria = match aim {
                    Aim::Id(_) => Ok(None),
                    Aim::Criteria(criteria) => only(doomed.get(criteria.canonical())).map(Some),
                };
                let row = of_criteria.map_err(|error| entry_error(error, step, "request"))?;
                let id = match (aim, row) {
                    (Aim::Id(id), _) => id.as_str(),
                    (_, Some(row)) => row.resource.id().unwrap_or_default(),
                    (_, None) => continue,
                };
                let version = row.map(|row| row.version);
                let write = self
                    .patch_of(
                        caller,
                        permit,
                        (*kind, id, version),
                        if_match,
                        (patch, &mut room),
                    )
                    .await;
                writes[place] = Some(write.map_err(|stop| stop.of(step))?);
            }
        }
        let named: Vec<Option<String>> = writes
            .iter()
            .map(|write| match write {
                Some(Write::Put { resource, .. }) => {
                    resource.reference().map(|reference| reference.to_string())
                }
                _ => None,
            })
            .collect();

        let mut issues = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            let Some(Write::Put { resource, .. }) = &mut writes[place] else {
                continue;
            };
            let base = step.full_url.as_deref().and_then(refs::base_of);
            refs::replace(resource, &mut |text| match conditionals.get(text) {
                Some(Meant::There(target)) => Some(target.clone()),
                Some(Meant::Here(place)) => named[*place].clone(),
                None => lookup(&targets, base, text),
            });
            let is_unlike = match &step.ask {
                Ask::Create {
                    criteria: Some(criteria),
                    ..
                }
                | Ask::Update {
                    aim: Aim::Criteria(criteria),
                    ..
                } => !criteria.matches(resource),
                _ => false,
            };
            if is_unlike {
                return Err(entry_error(unlike(), step, "request").into());
            }
            if let Err(outcome) = self.check_valid(resource) {
                issues.extend(in_entry(outcome, step.index, "resource").issues);
            }
        }
        if !issues.is_empty() {
            issues.truncate(ISSUES_MAX);
            return Err(RecordError::with(422, OperationOutcome { issues }).into());
        }
        Ok(writes)
    }

    /// What a patch becomes; it may only be applied by who may update and read.
    async fn patch_of(
        &self,
        caller: &Caller,
        permit: &Permit,
        (kind, id, version): (ResourceType, &str, Option<u32>),
        if_match: &IfMatch,
        (patch, room): (&Patch, &mut usize),
    ) -> Result<Write, Stop> {
        self.permit(caller, Action::Update, Some(kind), None)
            .await?;
        let row = self
            .to_be_patched(caller, permit, (kind, id), if_match)
            .await?;
        // Changed since it was found, it may not be what is meant any more.
        if version.is_some_and(|version| version != row.version) {
            return Err(Stop::Again);
        }
        Ok(Write::Put {
            resource: patched((self.vault(), caller), id, patch, &row, room).await?,
            expected: Expected::Version(row.version),
            created: false,
        })
    }

    /// What a conditional update becomes, given what its criteria find; with the id that it writes to.
    async fn conditional_put(
        &self,
        caller: &Caller,
        permit: &Permit,
        criteria: &Criteria,
        found: Option<&Found>,
        mut resource: Resource,
    ) -> Result<(String, Write), Stop> {
        let write = if let Some(row) = one(found)? {
            take_id(&mut resource, row)?;
            Write::Put {
                resource,
                expected: Expected::Version(row.version),
                created: false,
            }
        } else {
            check_no_id(&resource)?;
            self.conditional(caller, permit, criteria, found, Some(resource))
                .await?
        };
        let id = match &write {
            Write::Put { resource, .. } => resource.id().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        Ok((id, write))
    }

    /// What a conditional create becomes, given what its criteria find.
    async fn conditional(
        &self,
        caller: &Caller,
        permit: &Permit,
        criteria: &Criteria,
        found: Option<&Found>,
        resource: Option<Resource>,
    ) -> Result<Write, Stop> {
        match found {
            Some(Found::One(row)) => return Ok(Write::Existing(row.clone())),
            Some(Found::Hidden) => return Err(hidden().into()),
            Some(Found::Several) => return Err(several().into()),
            Some(Found::Nothing) | None => {}
        }
        match criteria
            .slot(self.vault(), permit)
            .await
            .map_err(wrap(caller))?
        {
            // Found when looked for again.
            Slot::Taken(_) => Err(Stop::Again),
            Slot::Exhausted => Err(exhausted().into()),
            Slot::Free(id) => {
                let mut resource = resource.ok_or_else(|| {
                    RecordError::new(400, IssueCode::Required, "the resource is missing")
                })?;
                resource.set_id(&id);
                Ok(Write::Put {
                    resource,
                    expected: Expected::Absent,
                    created: true,
                })
            }
        }
    }
}

/// What a transaction asks the store by criteria.
struct Asked<'a> {
    /// Criteria of conditional writes that mean one resource.
    singles: Vec<&'a Criteria>,
    /// Criteria of conditional deletes, which mean all that match, and of patches, which mean all that the
    /// caller may see.
    deletes: Vec<Criteria>,
    /// Conditional references: as they are written, understood, and the first entry that has them.
    references: Vec<(String, Criteria, usize)>,
}

impl<'a> Asked<'a> {
    fn of(reading: Reading<'_>, steps: &'a [Step]) -> Result<Self, RecordError> {
        let singles = steps.iter().filter_map(|step| match &step.ask {
            Ask::Create { criteria, .. } => criteria.as_deref(),
            Ask::Update {
                aim: Aim::Criteria(criteria),
                ..
            } => Some(criteria),
            _ => None,
        });
        let deletes = steps.iter().filter_map(|step| match &step.ask {
            Ask::Delete {
                aim: Aim::Criteria(criteria),
                ..
            }
            | Ask::Patch {
                aim: Aim::Criteria(criteria),
                ..
            } => Some((**criteria).clone().for_all()),
            _ => None,
        });
        let mut texts: HashSet<String> = HashSet::new();
        let mut found: Vec<(String, usize)> = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            let Some(resource) = &step.resource else {
                continue;
            };
            resource.each_reference(&mut |text| {
                if refs::conditional(text).is_some() && texts.insert(text.to_owned()) {
                    found.push((text.to_owned(), place));
                }
            });
        }
        let mut references = Vec::with_capacity(found.len());
        for (text, place) in found {
            let Some((kind, query)) = refs::conditional(&text) else {
                continue;
            };
            let criteria = Criteria::parse(reading, kind, query).map_err(|outcome| {
                entry_error(RecordError::with(400, outcome), &steps[place], "resource")
            })?;
            references.push((text, criteria, place));
        }
        Ok(Self {
            singles: singles.collect(),
            deletes: deletes.collect(),
            references,
        })
    }

    /// What is in the store at one moment, by the canonical text of the criteria; of deletes all of it.
    async fn seek(
        &self,
        record: &Record,
        caller: &Caller,
        permit: &Permit,
    ) -> Result<(HashMap<String, Found>, HashMap<String, Sought>), RecordError> {
        let references = self.references.iter().map(|(_, criteria, _)| criteria);
        let mut seen = HashSet::new();
        let mut all: Vec<&Criteria> = self
            .singles
            .iter()
            .copied()
            .chain(references)
            .filter(|criteria| seen.insert(criteria.canonical()))
            .collect();
        let singles = all.len();
        let mut seen = HashSet::new();
        let deletes = self.deletes.iter();
        all.extend(deletes.filter(|criteria| seen.insert(criteria.canonical())));
        if all.len() - singles > OPEN_CRITERIA_MAX {
            let words = format!(
                "a transaction deletes and patches by at most {OPEN_CRITERIA_MAX} criteria, not {}: name the resources \
                 by their ids, or send several",
                all.len() - singles
            );
            return Err(RecordError::new(422, IssueCode::TooCostly, words));
        }
        let sought = Criteria::seek_rows(record.vault(), permit, &all).await;
        let mut sought = sought.map_err(wrap(caller))?;
        let names = |all: &[&Criteria]| -> Vec<String> {
            let names = all.iter().map(|criteria| criteria.canonical().to_owned());
            names.collect()
        };
        let doomed = sought.split_off(singles.min(sought.len()));
        let found = sought.into_iter().map(Found::of);
        Ok((
            names(&all[..singles]).into_iter().zip(found).collect(),
            names(&all[singles..]).into_iter().zip(doomed).collect(),
        ))
    }
}

/// What each conditional reference of the transaction means.
fn conditional_references(
    steps: &[Step],
    asked: Asked<'_>,
    found: &HashMap<String, Found>,
) -> Result<HashMap<String, Meant>, RecordError> {
    let mut meant = HashMap::with_capacity(asked.references.len());
    for (text, criteria, place) in asked.references {
        let wrong = |error: RecordError| entry_error(error, &steps[place], "resource");
        let here = |step: &Step| match &step.ask {
            Ask::Create { .. } | Ask::Update { .. } => step
                .resource
                .as_ref()
                .is_some_and(|resource| criteria.matches(resource)),
            _ => false,
        };
        let mut others = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| here(step))
            .map(|(place, _)| place);
        let (first, second) = (others.next(), others.next());
        let there = |row: &Versioned| {
            row.resource
                .reference()
                .map(|reference| Meant::There(reference.to_string()))
        };
        let one = match (found.get(criteria.canonical()), first, second) {
            (Some(Found::Several), ..) | (_, _, Some(_)) => return Err(wrong(several())),
            (Some(Found::One(row)), None, _) => there(row),
            // An update or conditional create of the very resource that the store found.
            (Some(Found::One(row)), Some(here), _) => {
                let same = match &steps[here].ask {
                    Ask::Update {
                        aim: Aim::Id(id), ..
                    } => row.resource.id() == Some(id),
                    Ask::Update {
                        aim: Aim::Criteria(criteria),
                        ..
                    } => criteria.matches(&row.resource),
                    Ask::Create { criteria, .. } => criteria
                        .as_ref()
                        .is_some_and(|criteria| criteria.matches(&row.resource)),
                    _ => false,
                };
                if !same {
                    return Err(wrong(several()));
                }
                there(row)
            }
            // What consent hides is not there; or the reference would show its id.
            (Some(Found::Nothing | Found::Hidden) | None, Some(here), _) => Some(Meant::Here(here)),
            (Some(Found::Nothing | Found::Hidden) | None, None, _) => None,
        };
        let Some(one) = one else {
            let words = format!("a conditional reference matches no {}", criteria.kind());
            return Err(wrong(RecordError::new(412, IssueCode::NotFound, words)));
        };
        meant.insert(text, one);
    }
    Ok(meant)
}

/// What a conditional reference means.
enum Meant {
    /// A resource of the store, as `Type/id`.
    There(String),
    /// What the entry at this place writes.
    Here(usize),
}

/// What a reference to an entry of the bundle becomes: by its `fullUrl` as it stands, or relative to
/// the base of the `fullUrl` of the entry that refers (R4, section 2.36.4.1).
fn lookup(targets: &HashMap<String, String>, base: Option<&str>, text: &str) -> Option<String> {
    if let Some(target) = targets.get(text) {
        return Some(target.clone());
    }
    let base = base?;
    Reference::parse(text).filter(|_| !text.contains("://"))?;
    targets.get(&format!("{base}{text}")).cloned()
}
