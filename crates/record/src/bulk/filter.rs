//! `_typeFilter` of a bulk export: which resources of a type are in, told by a search of it.
//!
//! A filter is asked of each resource by itself, as it was at the moment that the export is of. So it can
//! have what a search asks of a resource, and nothing that other resources say: there is no telling what they
//! said then, and an answer from now would be another each time a file is fetched.

use fhir::search::{Owns, SearchQuery};
use fhir::{IssueCode, OperationOutcome, ResourceType};

use super::kickoff::is_in_record;
use super::{ExportLevel, shown};
use crate::operations::refuse;
use crate::{RecordError, is_kept, url};

/// The name of the parameter.
pub(super) const TYPE_FILTER: &str = "_typeFilter";
/// The most filters of one export; each is asked of every resource of its type.
const FILTERS_MAX: usize = 100;
/// Parameters that say how a search is answered, which an export is not.
const OF_ANSWERS: [&str; 14] = [
    "_contained",
    "_containedType",
    "_count",
    "_cursor",
    "_elements",
    "_format",
    "_graph",
    "_include",
    "_pretty",
    "_revinclude",
    "_score",
    "_sort",
    "_summary",
    "_total",
];

/// Filters as they are kept, and what was passed over.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Each with its type.
    pub(super) kept: Vec<(ResourceType, String)>,
    pub(super) ignored: Vec<String>,
}

impl Filters {
    /// As a job keeps them.
    pub(super) fn kept_texts(&self) -> Vec<String> {
        self.kept.iter().map(|(_, text)| text.clone()).collect()
    }
}

fn bad(code: IssueCode, words: impl Into<String>) -> RecordError {
    refuse(code, TYPE_FILTER, words)
}

/// The queries of one value: several may follow each other after commas, which are also in queries. So a
/// query begins where a type and a question mark follow a comma.
fn split(value: &str) -> Vec<&str> {
    let begins = |rest: &str| {
        let name = rest.split_once('?').map(|(name, _)| name.trim_start());
        name.is_some_and(|name| ResourceType::parse(name).is_some())
    };
    let mut parts = Vec::new();
    let mut begin = 0;
    for (place, _) in value.match_indices(',') {
        if begins(&value[place + 1..]) {
            parts.push(&value[begin..place]);
            begin = place + 1;
        }
    }
    parts.push(&value[begin..]);
    parts
}

/// A query of one type, `Type?name=value&…`.
fn parse(text: &str, base: &str, lenient: bool, owns: &Owns) -> Result<SearchQuery, RecordError> {
    let Some((name, query)) = text.trim().split_once('?') else {
        let words = "is of the form Type?name=value, as a search is";
        return Err(bad(IssueCode::Value, words));
    };
    let kind = ResourceType::parse(name).filter(|kind| is_kept(*kind));
    let Some(kind) = kind else {
        let words = "begins with what is no type that is kept here";
        return Err(bad(IssueCode::Value, words));
    };
    let Some(pairs) = url::pairs(query) else {
        let words = format!("the query of {kind} is not properly encoded");
        return Err(bad(IssueCode::Value, words));
    };
    if pairs.is_empty() {
        let words = format!("the query of {kind} asks for nothing");
        return Err(bad(IssueCode::Value, words));
    }
    for (name, _) in &pairs {
        let plain = name.split(':').next().unwrap_or_default();
        if OF_ANSWERS.contains(&plain) {
            let words = format!(
                "{plain} says how a search is answered; a filter says only which resources are in"
            );
            return Err(bad(IssueCode::NotSupported, words));
        }
    }
    let mut query = SearchQuery::parse_with(kind, &pairs, lenient, owns)
        .map_err(|outcome| RecordError::with(400, in_filter(outcome, kind)))?;
    query.of_server(base);
    Ok(query)
}

/// What is wrong with a parameter of a filter, said of the filter.
fn in_filter(mut outcome: OperationOutcome, kind: ResourceType) -> OperationOutcome {
    for issue in &mut outcome.issues {
        let name = issue.expression.take().unwrap_or_default();
        issue.diagnostics = format!("in the query of {kind}, {name} {}", issue.diagnostics);
        issue.expression = Some(TYPE_FILTER.to_owned());
    }
    outcome
}

/// Why a query can't be asked of a resource by itself.
fn elsewhere(query: &SearchQuery) -> Option<RecordError> {
    let what = if query.has_links() {
        "what other resources say (chained parameters, _has, _list)"
    } else if query.needs_codes() {
        "what value sets and code systems say (:in, :not-in, :above, :below)"
    } else {
        return None;
    };
    let kind = query.kind;
    let words = format!(
        "the query of {kind} asks for {what}; a filter is asked of each resource by itself, as it was at the moment that the export is of"
    );
    Some(bad(IssueCode::NotSupported, words))
}

/// Reads what was given. `kinds` are the types that were named.
pub(super) fn read(
    given: &[String],
    level: &ExportLevel,
    kinds: &[ResourceType],
    (base, lenient, owns): (&str, bool, &Owns),
) -> Result<Filters, RecordError> {
    let mut filters = Filters::default();
    // A client that is lenient would rather have more of a type than nothing of all.
    let mut whole = Vec::new();
    for text in given.iter().flat_map(|value| split(value)) {
        let query = parse(text, base, lenient, owns)?;
        let kind = query.kind;
        if !kinds.is_empty() && !kinds.contains(&kind) {
            let words = format!("has a query of {kind}, which _type does not name");
            return Err(bad(IssueCode::Value, words));
        }
        if *level != ExportLevel::System && !is_in_record(kind) {
            let words = format!("{kind} is in no patient's record; it comes with [base]/$export");
            return Err(bad(IssueCode::Value, words));
        }
        match elsewhere(&query) {
            Some(_) if lenient => {
                filters.ignored.push(TYPE_FILTER.to_owned());
                whole.push(kind);
                continue;
            }
            Some(error) => return Err(error),
            None => {}
        }
        let ignored = query.ignored.iter();
        (filters.ignored).extend(ignored.map(|name| format!("{TYPE_FILTER}: {}", shown(name))));
        if query.used.is_empty() {
            whole.push(kind);
            continue;
        }
        let used = query.used.iter();
        let used = url::query(used.map(|(name, value)| (name.as_str(), value.as_str())));
        filters.kept.push((kind, format!("{kind}?{used}")));
    }
    if filters.kept.len() > FILTERS_MAX {
        let words = format!("has more than {FILTERS_MAX} queries");
        return Err(bad(IssueCode::TooLong, words));
    }
    // What matches one of several is in, so without one of them all of the type is.
    filters.kept.retain(|(kind, _)| !whole.contains(kind));
    Ok(filters)
}

/// The queries of a type as they are asked, at the moment that the export is of.
pub(super) fn of_kind(
    kept: &[String],
    kind: ResourceType,
    (base, owns): (&str, &Owns),
    as_of_ms: u64,
) -> Result<Vec<SearchQuery>, RecordError> {
    let mut queries = Vec::new();
    for text in kept {
        if !(text.strip_prefix(kind.name())).is_some_and(|rest| rest.starts_with('?')) {
            continue;
        }
        // A search parameter of one's own may be gone since.
        let query = parse(text, base, false, owns);
        let mut query = query.map_err(|error| RecordError {
            status: 422,
            ..error
        })?;
        query.at(i64::try_from(as_of_ms).unwrap_or(i64::MAX));
        queries.push(query);
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_told_from_values() {
        for (value, expected) in [
            ("Patient?active=true", vec!["Patient?active=true"]),
            (
                "Observation?status=final,amended&date=gt2018,Patient?active=true",
                vec![
                    "Observation?status=final,amended&date=gt2018",
                    "Patient?active=true",
                ],
            ),
            (
                "Observation?code=a,Observation?code=b",
                vec!["Observation?code=a", "Observation?code=b"],
            ),
            (
                "Observation?note=who, what?",
                vec!["Observation?note=who, what?"],
            ),
            ("", vec![""]),
        ] {
            assert_eq!(split(value), expected, "{value}");
        }
    }

    #[test]
    fn what_is_kept_and_what_is_refused() {
        let read = |text: &str, lenient| {
            let given = [text.to_owned()];
            let how = ("http://x/fhir/r4", lenient, &Owns::default());
            read(&given, &ExportLevel::System, &[], how)
        };
        let kept = |text: &str, lenient| {
            let filters = read(text, lenient).expect("filters");
            let texts = filters.kept.into_iter().map(|(_, text)| text);
            (texts.collect::<Vec<_>>(), filters.ignored)
        };
        let one = "Observation?status=final&code=http://loinc.org%7C8867-4".to_owned();
        assert_eq!(kept(&one, false), (vec![one.clone()], vec![]));
        for text in [
            "Observation",
            "Zanzibar?a=b",
            "Parameters?_id=a",
            "Observation?",
            "Observation?code=%zz",
            "Observation?zanzibar=a",
            "Observation?date=soon",
            "Observation?_sort=date",
            "Observation?_include=Observation:subject",
            "Observation?_revinclude:iterate=Provenance:target",
            "Observation?patient.name=a",
            "Patient?_has:Observation:patient:code=a",
            "Observation?code:in=http://x/vs",
            "Observation?_filter=status eq final or patient.name eq a",
            "Observation?_filter=not (patient.name eq a)",
            "Observation?_count=5",
        ] {
            let error = read(text, false).expect_err(text);
            assert_eq!(error.status, 400, "{text}");
            let expression = error.outcome.issues[0].expression.as_deref();
            assert_eq!(expression, Some(TYPE_FILTER), "{text}");
        }
        let many = ["Observation?_id=a"; FILTERS_MAX + 1].join(",");
        assert!(read(&many, false).is_err());
        let as_many = ["Observation?_id=a"; FILTERS_MAX].join(",");
        assert_eq!(kept(&as_many, false).0.len(), FILTERS_MAX);
        // Who is lenient gets more, and is told.
        let ignored = vec![TYPE_FILTER.to_owned()];
        let linked = format!("{one},Observation?patient.name=a");
        assert_eq!(kept(&linked, true), (vec![], ignored));
        let (texts, ignored) = kept("Observation?status=final&zanzibar=a", true);
        assert_eq!(texts, ["Observation?status=final"]);
        assert_eq!(ignored, ["_typeFilter: zanzibar"]);
        assert!(read("Observation?date=soon", true).is_err());
    }
}
