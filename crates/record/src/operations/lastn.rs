//! `Observation/$lastn`: the newest observations of each code.
use std::collections::HashSet;

use fhir::search::SearchQuery;
use fhir::{IssueCode, Resource, ResourceType, date};
use serde_json::Value;
use trust::{Action, Versioned};

use super::{answer, refuse};
use crate::part::Part;
use crate::render::BundleWriter;
use crate::search::own_references;
use crate::write::{heavy, wrap};
use crate::{Answer, Caller, Record, RecordError, url};

/// The most of one code.
const MAX_MAX: usize = 100;

/// When an observation was made, milliseconds since the epoch: the end of a period, the first of a
/// timing's moments. What says nothing is older than everything.
fn made_ms(resource: &Resource) -> i64 {
    let texts = [
        resource.text_at(&["effectiveDateTime"]),
        resource.text_at(&["effectiveInstant"]),
        resource.text_at(&["effectivePeriod", "end"]),
        resource.text_at(&["effectivePeriod", "start"]),
        resource.text_at(&["effectiveTiming", "event", "0"]),
        resource.text_at(&["issued"]),
    ];
    let first = texts.into_iter().flatten().find_map(date::parse);
    first.map_or(i64::MIN, |date| date.start_ms)
}

/// What names the code of an observation: its codings, or its text where there are none.
fn names(resource: &Resource) -> Vec<String> {
    let codings = resource.at(&["code", "coding"]).and_then(Value::as_array);
    let text = |coding: &Value, name: &str| {
        coding
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let names: Vec<String> = codings
        .into_iter()
        .flatten()
        .filter(|coding| coding.get("code").is_some())
        .map(|coding| format!("{}|{}", text(coding, "system"), text(coding, "code")))
        .collect();
    if names.is_empty() {
        return resource
            .text_at(&["code", "text"])
            .map(|text| format!(" {text}"))
            .into_iter()
            .collect();
    }
    names
}

/// Observations of one code, and all the names that it goes by.
#[derive(Default)]
struct Group {
    names: HashSet<String>,
    rows: Vec<Versioned>,
}

/// The newest `max` of each code, newest code first. Observations that share a coding are of one code,
/// also by way of a third.
fn newest(mut rows: Vec<Versioned>, max: usize) -> Vec<Versioned> {
    rows.sort_by_cached_key(|row| std::cmp::Reverse((made_ms(&row.resource), row.at.number)));
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let names = names(&row.resource);
        let meets = |group: &Group| names.iter().any(|name| group.names.contains(name));
        let mut met: Vec<usize> = (0..groups.len())
            .filter(|place| meets(&groups[*place]))
            .collect();
        let first = match met.first() {
            Some(first) => *first,
            None => {
                groups.push(Group::default());
                groups.len() - 1
            }
        };
        // Codes that this one shows to be the same.
        while let Some(other) = met.pop().filter(|other| *other != first) {
            let other = groups.remove(other);
            groups[first].names.extend(other.names);
            groups[first].rows.extend(other.rows);
        }
        groups[first].names.extend(names);
        groups[first].rows.push(row);
    }
    for group in &mut groups {
        let key = |row: &Versioned| std::cmp::Reverse((made_ms(&row.resource), row.at.number));
        group.rows.sort_by_cached_key(key);
        group.rows.truncate(max);
    }
    groups.into_iter().flat_map(|group| group.rows).collect()
}

impl Record {
    /// `$lastn` of observations: of each code that the search finds the newest ones, by when they
    /// were made; `max` of each (one, if not said). `open` says that the parameters came in an address;
    /// what came in a body stays out of the answer's link.
    ///
    /// # Errors
    /// 400, 403, 422 (too costly) when there are more than 10,000 observations to choose among, 500.
    pub async fn lastn(
        &self,
        caller: &Caller,
        parameters: &[(String, String)],
        open: bool,
    ) -> Result<Answer, RecordError> {
        let kind = ResourceType::Observation;
        let mut part = Part::of(Some(kind), parameters)?;
        if part.is_count() {
            let words = "`count` is for searches and histories";
            return Err(refuse(IssueCode::NotSupported, "_summary", words));
        }
        let mut max = 1;
        for (_, value) in part.others.iter().filter(|(name, _)| name == "max") {
            max = match value.parse() {
                Ok(max) if (1..=MAX_MAX).contains(&max) => max,
                _ => {
                    let words = format!("is a whole number from 1 to {MAX_MAX}");
                    return Err(refuse(IssueCode::Value, "max", words));
                }
            };
        }
        part.others.retain(|(name, _)| name != "max");
        let paged = ["_cursor", "_count", "_total", "_sort"];
        if let Some((name, _)) = part
            .others
            .iter()
            .find(|(name, _)| paged.contains(&name.as_str()))
        {
            let words = "does not go with $lastn, whose answer is one page in its own order";
            return Err(refuse(IssueCode::NotSupported, name, words));
        }
        let mut query = SearchQuery::parse(kind, &part.others, caller.lenient)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        query.at(self.now_ms());
        if !query.includes.is_empty() {
            let words = "does not go with $lastn";
            return Err(refuse(IssueCode::NotSupported, "_include", words));
        }
        let asks = |names: &[&str]| {
            query
                .clauses
                .iter()
                .any(|clause| names.contains(&clause.parameter.as_str()))
        };
        if !asks(&["patient", "subject"]) {
            let words = "is missing; $lastn is of one patient: patient or subject";
            return Err(refuse(IssueCode::Required, "patient", words));
        }
        own_references(&caller.base, &mut query);
        let permit = self
            .permit(caller, Action::Search, Some(kind), None)
            .await?;
        let rows = self
            .vault()
            .choose(&permit, &query, |rows| newest(rows, max))
            .await
            .map_err(wrap(caller))?;
        let own = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let mut link = format!("{}/Observation/$lastn", caller.base);
        if open {
            link.push('?');
            link.push_str(&url::query(own));
        }
        let mut bundle = BundleWriter::new("searchset", Some(rows.len()), &[("self", link)]);
        let base = caller.base.clone();
        let body = heavy(rows.len() * 4096, move || {
            for row in &rows {
                let full_url = format!(
                    "{base}/Observation/{}",
                    row.resource.id().unwrap_or_default()
                );
                bundle.found(Some(&full_url), &part.json(&row.resource), "match");
            }
            bundle.finish()
        })
        .await?;
        Ok(answer(body))
    }
}
