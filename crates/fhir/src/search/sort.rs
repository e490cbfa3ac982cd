//! `_sort` (R4, section 3.1.1.5.1): the order of matches.
//!
//! Of several values the one counts that comes first in the order that is asked for. What has no value
//! comes last, whichever way the order goes; what is equal comes newest first.
use std::cmp::Ordering;

use super::extract::{Found, of_named};
use super::parameter::find;
use super::query::bad;
use super::{Amount, Named, Owns, ParameterKind, SearchQuery, Span, normalise};
use crate::{IssueCode, OperationOutcome, Resource};

/// The most parameters that an order goes by.
const KEYS_MAX: usize = 5;

/// One parameter that matches are ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// The parameter.
    pub parameter: Named,
    /// Its type.
    pub kind: ParameterKind,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// A value as it is ordered. Only those of one parameter are compared, which are of one form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortValue {
    /// When something begins, milliseconds.
    Time(i64),
    /// A text, folded, and as it is written; a code and its system; a reference; a URI.
    Text(String, String),
    /// A number in a unit; of a range its lower end.
    Number(String, Amount),
}

impl SearchQuery {
    /// Takes the parameter `_sort`.
    pub(super) fn order(
        &mut self,
        name: &str,
        value: &str,
        owns: &Owns,
    ) -> Result<(), OperationOutcome> {
        let mut keys: Vec<SortKey> = Vec::new();
        for part in value.split(',') {
            let (plain, descending) = match part.strip_prefix('-') {
                Some(plain) => (plain, true),
                None => (part, false),
            };
            let by_value =
                |kind| !matches!(kind, ParameterKind::Composite | ParameterKind::Special);
            let found = find(self.kind, plain, owns).filter(|(_, kind)| by_value(*kind));
            let Some((parameter, kind)) = found else {
                let words = format!(
                    "is a list of search parameters of {}, each with `-` in front for the greatest first",
                    self.kind
                );
                return Err(bad(IssueCode::Value, name, words));
            };
            keys.push(SortKey {
                parameter,
                kind,
                descending,
            });
        }
        if keys.len() > KEYS_MAX {
            let words = format!("goes by more than {KEYS_MAX} parameters");
            return Err(bad(IssueCode::TooLong, name, words));
        }
        let of_time = |key: &SortKey| key.parameter.name() == "_lastUpdated";
        let newest_first = |key: &SortKey| of_time(key) && key.descending;
        // No two are of the same time to the store, so what comes after it orders nothing.
        if let Some(place) = keys.iter().position(of_time) {
            keys.truncate(place + 1);
        }
        if !matches!(keys.as_slice(), [key] if newest_first(key)) {
            self.sort = keys;
        }
        Ok(())
    }

    /// What a resource of the type is ordered by. `number` is the store's, which says when it was changed.
    #[must_use]
    pub fn sort_values(&self, resource: &Resource, number: u64) -> Vec<Option<SortValue>> {
        let of_key = |key: &SortKey| {
            if key.parameter.name() == "_lastUpdated" {
                return Some(SortValue::Time(i64::try_from(number).unwrap_or(i64::MAX)));
            }
            let mut best: Option<SortValue> = None;
            of_named(resource, &key.parameter, &mut |found| {
                let Some(value) = value_of(&found) else {
                    return;
                };
                let better = best.as_ref().is_none_or(|best| {
                    let order = value.cmp(best);
                    if key.descending {
                        order.is_gt()
                    } else {
                        order.is_lt()
                    }
                });
                if better {
                    best = Some(value);
                }
            });
            best
        };
        self.sort.iter().map(of_key).collect()
    }

    /// Which of two comes first; `Equal` leaves it to their numbers.
    #[must_use]
    pub fn compare(&self, one: &[Option<SortValue>], other: &[Option<SortValue>]) -> Ordering {
        let keys = self.sort.iter().zip(one.iter().zip(other));
        keys.map(|(key, (one, other))| match (one, other) {
            (Some(one), Some(other)) if key.descending => other.cmp(one),
            (Some(one), Some(other)) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
    }
}

fn value_of(found: &Found<'_>) -> Option<SortValue> {
    let number = |unit: &str, span: &Span| {
        let end = span.low.or(span.high)?;
        Some(SortValue::Number(unit.to_owned(), end.at))
    };
    Some(match found {
        Found::Token { system, code } => SortValue::Text((*code).to_owned(), (*system).to_owned()),
        Found::Text(text) => {
            let folded = normalise(text);
            if folded.is_empty() {
                return None;
            }
            SortValue::Text(folded, (*text).to_owned())
        }
        Found::Date { start_ms, .. } => SortValue::Time(*start_ms),
        Found::Literal(kind, id) => SortValue::Text(format!("{kind}/{id}"), String::new()),
        Found::Url(url) | Found::Uri(url) => SortValue::Text((*url).to_owned(), String::new()),
        Found::Number(span) => return number("", span),
        Found::Quantity(quantity) => {
            return match &quantity.canonical {
                Some((unit, span)) => number(unit, span),
                None => number(quantity.code, &quantity.value),
            };
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceType as T;
    use serde_json::{Value, json};

    fn order(kind: T, sort: &str) -> Result<SearchQuery, OperationOutcome> {
        SearchQuery::parse(kind, &[("_sort".to_owned(), sort.to_owned())], false)
    }

    /// The ids of resources in an order.
    fn sorted(kind: T, sort: &str, values: &[Value]) -> Vec<String> {
        let query = order(kind, sort).unwrap();
        let mut rows: Vec<_> = (values.iter().enumerate())
            .map(|(number, value)| {
                let resource = Resource::from_value(value.clone()).unwrap();
                let values = query.sort_values(&resource, number as u64);
                (values, resource.id().unwrap().to_owned())
            })
            .collect();
        rows.sort_by(|one, other| query.compare(&one.0, &other.0));
        rows.into_iter().map(|(_, id)| id).collect()
    }

    #[test]
    fn values_have_their_order() {
        let patients = [
            json!({"resourceType": "Patient", "id": "a", "birthDate": "1950-02-03", "name": [{"family": "Müller"}]}),
            json!({"resourceType": "Patient", "id": "b", "birthDate": "1949", "name": [{"family": "Zapf"}, {"family": "Berg"}]}),
            json!({"resourceType": "Patient", "id": "c", "name": [{"family": "muller"}]}),
            json!({"resourceType": "Patient", "id": "d", "birthDate": "1950-02-03"}),
        ];
        for (sort, ids) in [
            ("birthdate", "badc"),
            ("-birthdate", "adbc"),
            ("family", "bacd"),
            ("-family", "bcad"),
            ("birthdate,-family", "badc"),
            ("birthdate,-_id", "bdac"),
            ("_lastUpdated", "abcd"),
            ("-_lastUpdated,family", "abcd"),
            ("_id", "abcd"),
        ] {
            let found = sorted(T::Patient, sort, &patients);
            assert_eq!(found.concat(), ids, "{sort}");
        }
        let weight = |id: &str, value: f64, unit: &str| {
            json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit}})
        };
        let weights = [
            weight("a", 2.0, "kg"),
            weight("b", 300.0, "g"),
            weight("c", 1.5, "kg"),
        ];
        assert_eq!(
            sorted(T::Observation, "value-quantity", &weights).concat(),
            "bca"
        );
        assert_eq!(
            sorted(T::Observation, "-value-quantity", &weights).concat(),
            "acb"
        );
    }

    #[test]
    fn orders_are_parsed() {
        assert!(order(T::Patient, "-_lastUpdated").unwrap().sort.is_empty());
        assert_eq!(
            order(T::Patient, "family,-_lastUpdated,name")
                .unwrap()
                .sort
                .len(),
            2
        );
        for (sort, words) in [
            ("nothing", "is a list of search parameters of Patient"),
            ("", "is a list"),
            ("family,", "is a list"),
            ("family:asc", "is a list"),
            ("family,given,name,gender,birthdate,_id", "more than 5"),
        ] {
            let refused = order(T::Patient, sort).unwrap_err().to_string();
            assert!(refused.contains(words), "{sort}: {refused}");
        }
    }
}
