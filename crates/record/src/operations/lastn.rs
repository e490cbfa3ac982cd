//! `Observation/$lastn`: the newest observations of each code.
use std::collections::{BTreeMap, HashMap};

use fhir::search::SearchQuery;
use fhir::{IssueCode, Resource, ResourceType, date};
use serde_json::Value;
use trust::{Action, Versioned};

use super::{answer, refuse};
use crate::part::Part;
use crate::render::BundleWriter;
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

/// The first observation of a group; each has one before it that it shares a code with, or itself.
fn first(before: &mut [usize], mut place: usize) -> usize {
    while before[place] != place {
        // Half of the way is enough to keep the next one short.
        before[place] = before[before[place]];
        place = before[place];
    }
    place
}

/// The newest `max` of each code, newest code first. Observations that share a coding are of one code,
/// also by way of a third.
fn newest(mut rows: Vec<Versioned>, max: usize) -> Vec<Versioned> {
    rows.sort_by_cached_key(|row| std::cmp::Reverse((made_ms(&row.resource), row.at.number)));
    let mut before: Vec<usize> = (0..rows.len()).collect();
    let mut named: HashMap<String, usize> = HashMap::new();
    for (place, row) in rows.iter().enumerate() {
        for name in names(&row.resource) {
            let other = *named.entry(name).or_insert(place);
            let (one, other) = (first(&mut before, place), first(&mut before, other));
            before[one.max(other)] = one.min(other);
        }
    }
    // In the order of their first ones, which are met before all others.
    let mut groups: BTreeMap<usize, Vec<Versioned>> = BTreeMap::new();
    for (place, row) in rows.into_iter().enumerate() {
        let group = groups.entry(first(&mut before, place)).or_default();
        if group.len() < max {
            group.push(row);
        }
    }
    groups.into_values().flatten().collect()
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
        let owns = self.vault().owns(caller.agent.tenant);
        let mut query = SearchQuery::parse_with(kind, &part.others, caller.lenient, &owns)
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
        query.of_server(&caller.base);
        let permit = self
            .permit(
                caller,
                Action::Search,
                Some(kind),
                crate::emergency::named_in(caller, Some(kind), parameters),
            )
            .await?;
        let rows = self
            .vault()
            .choose(&permit, &query, move |rows| newest(rows, max))
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use ledger::{Hit, Number, Shard};
    use serde_json::json;

    use super::*;

    fn row(number: u64, codes: &[u64]) -> Versioned {
        let codings: Vec<Value> = codes
            .iter()
            .map(|code| json!({"code": code.to_string()}))
            .collect();
        let resource = json!({"resourceType": "Observation", "id": number.to_string(), "code": {"coding": codings}});
        let at = Hit {
            number: Number(number),
            shard: Shard(0),
        };
        Versioned::new(Resource::from_value(resource).unwrap(), 1, at, false)
    }

    /// What it is said to be: groups grow until no two share a name.
    fn naive(rows: &[Versioned], max: usize) -> Vec<u64> {
        let mut groups: Vec<(HashSet<String>, BTreeSet<u64>)> = Vec::new();
        for row in rows {
            let mut own: (HashSet<String>, BTreeSet<u64>) = (
                names(&row.resource).into_iter().collect(),
                [row.at.number.0].into(),
            );
            let (met, apart): (Vec<_>, Vec<_>) = groups
                .into_iter()
                .partition(|group: &(HashSet<String>, BTreeSet<u64>)| !group.0.is_disjoint(&own.0));

            for group in met {
                own.0.extend(group.0);
                own.1.extend(group.1);
            }
            groups = apart;
            groups.push(own);
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.1.last().copied()));
        let newest = |group: &(HashSet<String>, BTreeSet<u64>)| {
            group.1.iter().rev().take(max).copied().collect::<Vec<_>>()
        };
        groups.iter().flat_map(newest).collect()
    }

    #[test]
    fn observations_that_share_a_coding_are_of_one_code() {
        // A small generator of numbers, the same each time.
        let mut state: u64 = 7;
        let mut below = |most: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % most
        };
        for _ in 0..300 {
            let (count, codes) = (1 + below(14), 1 + below(12));
            let rows: Vec<Versioned> = (1..=count)
                .map(|number| {
                    let own: Vec<u64> = (0..below(4)).map(|_| below(codes)).collect();
                    row(number, &own)
                })
                .collect();
            for max in [1, 2, 100] {
                let found = newest(rows.clone(), max);
                let found: Vec<u64> = found.iter().map(|row| row.at.number.0).collect();
                assert_eq!(found, naive(&rows, max), "{max} of {rows:?}");
            }
        }
        // As many as there can be, each of which joins two others.
        let rows: Vec<Versioned> = (0..10_000)
            .map(|number| row(number, &[number, number + 1, 20_000 - number]))
            .collect();
        assert_eq!(newest(rows, 1).len(), 1);
    }
}
