//! `Patient/ID/$everything`: all that is in a patient's record, page by page.
use fhir::search::{COUNT_DEFAULT, COUNT_MAX, Compartment, SearchQuery};
use fhir::{IssueCode, OperationOutcome, ResourceType};
use ledger::Number;
use trust::{Action, PageAt, Target};

use super::{answer, refuse};
use crate::part::Part;
use crate::render::BundleWriter;
use crate::search::{Cursor, bad_cursor, moved};
use crate::write::{heavy, wrap};
use crate::{Answer, Caller, Record, RecordError, is_kept, url};

/// What is asked of a record.
struct Asked {
    kinds: Vec<ResourceType>,
    /// Types outside the record, of which what it refers to is shown.
    around: Vec<ResourceType>,
    /// Whether the types were named.
    named: bool,
    since: Option<String>,
    count: usize,
    cursor: Option<String>,
    /// What links repeat.
    used: Vec<(String, String)>,
}

/// The types that a patient's record can hold, the patient first. The trail of who looked at the record
/// is asked for by its name only.
fn compartment() -> impl Iterator<Item = ResourceType> {
    let patient = std::iter::once(ResourceType::Patient);
    patient.chain(
        ResourceType::all().filter(|kind| {
            kind.may_be_patients() && is_kept(*kind) && *kind != ResourceType::Patient
        }),
    )
}

/// The search of a type in a patient's record. A schedule can be a patient's, but is nearly always a
/// clinic's, which everybody may see: those with the patient as an actor are in the record (R4's
/// compartment).
fn query(
    kind: ResourceType,
    id: &str,
    parameters: &[(String, String)],
) -> Result<SearchQuery, OperationOutcome> {
    let mut query = SearchQuery::parse(kind, parameters, false)?;
    if kind.name() == "Schedule" {
        let compartment = Compartment::of(ResourceType::Patient, id);
        let condition = compartment.and_then(|compartment| compartment.condition(kind));
        query.conditions.extend(condition);
    }
    Ok(query)
}

fn asked(parameters: &[(String, String)], lenient: bool) -> Result<Asked, RecordError> {
    let mut asked = Asked {
        kinds: Vec::new(),
        around: Vec::new(),
        named: false,
        since: None,
        count: COUNT_DEFAULT,
        cursor: None,
        used: Vec::new(),
    };
    for (name, value) in parameters {
        match name.as_str() {
            "_count" => match value.parse() {
                Ok(count) if (1..=COUNT_MAX).contains(&count) => asked.count = count,
                _ => {
                    let words = format!("is a whole number from 1 to {COUNT_MAX}");
                    return Err(refuse(IssueCode::Value, name, words));
                }
            },
            "_since" if asked.since.is_none() => asked.since = Some(value.clone()),
            "_type" => {
                asked.named = true;
                for one in value.split(',') {
                    let kind = ResourceType::parse(one).filter(|kind| is_kept(*kind));
                    let Some(kind) = kind else {
                        let words = "names what is no type that is kept here";
                        return Err(refuse(IssueCode::Value, name, words));
                    };
                    asked.kinds.push(kind);
                }
            }
            "_cursor" if asked.cursor.is_none() => {
                asked.cursor = Some(value.clone());
                continue;
            }
            _ if lenient => continue,
            _ => {
                let words = "is no parameter of $everything here; there are _since, _type, _count, _summary and _elements";
                return Err(refuse(IssueCode::NotSupported, name, words));
            }
        }
        asked.used.push((name.clone(), value.clone()));
    }
    asked.around = ResourceType::all()
        .filter(|kind| !kind.may_be_patients() && is_kept(*kind))
        .filter(|kind| !asked.named || asked.kinds.contains(kind))
        .collect();
    let wanted = std::mem::take(&mut asked.kinds);
    asked.kinds = compartment()
        .filter(|kind| {
            if asked.named {
                wanted.contains(kind)
            } else {
                *kind != ResourceType::AuditEvent
            }
        })
        .collect();
    if asked.kinds.is_empty() {
        let words = "names no type of a patient's record; others come with what refers to them";
        return Err(refuse(IssueCode::Value, "_type", words));
    }
    Ok(asked)
}

impl Record {
    /// `$everything` of a patient: the patient and all resources of their record that the caller may
    /// search for, by type; with each page what its rows refer to outside of the record (who, where). Pages
    /// are stable: what is there at the first page and not changed since is on one page exactly.
    ///
    /// # Errors
    /// As [`Record::read`] of the patient; 400.
    pub async fn everything(
        &self,
        caller: &Caller,
        id: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        // Elements have names of many types here.
        let part = Part::of(None, parameters)?;
        if part.is_count() {
            let words = "`count` is for searches and histories";
            return Err(refuse(IssueCode::NotSupported, "_summary", words));
        }
        let mut asked = asked(&part.others, caller.lenient)?;
        asked.used.extend(part.given().iter().cloned());
        if asked.cursor.is_none() {
            // Says whether there is such a patient, and leaves the trace of it.
            self.read(caller, ResourceType::Patient, id).await?;
        } else if !fhir::is_id(id) {
            return Err(crate::interact::not_found());
        }
        let since: Vec<(String, String)> = asked
            .since
            .iter()
            .map(|since| ("_lastUpdated".to_owned(), format!("ge{since}")))
            .collect();
        let queries: Result<Vec<SearchQuery>, OperationOutcome> = asked
            .kinds
            .iter()
            .map(|kind| query(*kind, id, &since))
            .collect();
        let queries = queries.map_err(|_| {
            refuse(
                IssueCode::Value,
                "_since",
                "is no instant, like 2026-11-26T10:00:00Z",
            )
        })?;

        let target = Target {
            kind: None,
            patient: Some(id.to_owned()),
        };
        let permit = self.permit_for(caller, Action::Search, target).await?;
        // An answer without a type that was named would say that there is nothing of it.
        let named = asked.kinds.iter().chain(&asked.around);
        for kind in named.filter(|_| asked.named) {
            if !permit.allows(Action::Search, *kind) {
                self.permit(caller, Action::Search, Some(*kind), Some(id.to_owned()))
                    .await?;
            }
        }
        let scope = format!(
            "everything\n{id}\n{:?}\n{:?}",
            asked.since,
            asked
                .kinds
                .iter()
                .map(|kind| kind.name())
                .collect::<Vec<_>>()
        );
        let cursor = Cursor {
            record: self,
            tenant: permit.tenant(),
            kind: ResourceType::Patient,
            scope: &scope,
        };
        let at = match &asked.cursor {
            Some(text) => {
                let [place, before, first] = cursor.open(text)?;
                let place = usize::try_from(place).map_err(|_| bad_cursor())?;
                let at = PageAt {
                    before: Number(before),
                    first: Number(first),
                };
                Some((place, at))
            }
            None => None,
        };
        let page = self
            .vault()
            .series(&permit, &queries, at, asked.count, &asked.around)
            .await
            .map_err(wrap(caller))?;

        let link = |extra: Option<&str>| {
            let own = asked
                .used
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let query = url::query(own.chain(extra.map(|cursor| ("_cursor", cursor))));
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{}/Patient/{id}/$everything{mark}{query}", caller.base)
        };
        let mut links = vec![("self", link(asked.cursor.as_deref()))];
        if let Some((place, at)) = page.next {
            let sealed = cursor.seal(&[place as u64, at.before.0, at.first.0]);
            links.push(("next", link(Some(&sealed))));
        }
        let whole = at.is_none() && page.next.is_none();
        let total = whole.then_some(page.rows.len());
        let bytes = (page.rows.len() + page.referred.len()) * 4096;
        let mut bundle = BundleWriter::new("searchset", total, &links);
        let base = caller.base.clone();
        let body = heavy(bytes, move || {
            let rows = page.rows.iter().map(|row| (row, "match"));
            let around = page.referred.iter().map(|row| (row, "include"));
            for (row, mode) in rows.chain(around) {
                let (kind, id) = (row.resource.kind(), row.resource.id().unwrap_or_default());
                let full_url = format!("{base}/{kind}/{id}");
                bundle.found(Some(&full_url), &part.json(&row.resource), mode);
            }
            if page.moved {
                let issues = vec![moved("resources")];
                let outcome = OperationOutcome { issues };
                bundle.found(None, &outcome.to_resource().to_json(), "outcome");
            }
            bundle.finish()
        })
        .await?;
        Ok(answer(body))
    }
}
