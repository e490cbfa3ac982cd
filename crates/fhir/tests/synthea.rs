//! Real-looking records that nobody here wrote: every resource parses, is valid and is indexed; of
//! every tenth, the text comes back as it was and each index entry finds it.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is wrong"
)]

use fhir::search::{Asked, IndexValue, Operand, SearchQuery, Span, UnitAsked, index};
use fhir::{Resource, validate};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The sample file beside the project, when it is there.
#[allow(
    clippy::print_stderr,
    reason = "whoever runs the test must see that it was skipped"
)]
fn sample() -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/synthea-r4-bundles.ndjson.gz");
    if !file.is_file() {
        eprintln!("skipped: {} isn't there", file.display());
        return None;
    }
    Some(file)
}

fn lines(file: &Path) -> impl Iterator<Item = String> {
    BufReader::new(flate2::read::GzDecoder::new(
        std::fs::File::open(file).unwrap(),
    ))
    .lines()
    .map(Result::unwrap)
}

#[test]
#[allow(
    clippy::print_stderr,
    reason = "whoever runs the test may want to see what it saw"
)]
fn synthea_bundles() {
    let Some(file) = sample() else { return };
    let (mut bundles, mut resources, mut entries, mut owned) = (0, 0, 0, 0);
    for line in lines(&file) {
        bundles += 1;
        let bundle = Resource::parse(line.as_bytes()).unwrap();
        assert_eq!(validate::check(&bundle), []);
        let mut bundle = bundle.into_value();
        for entry in bundle["entry"].as_array_mut().unwrap() {
            let mut resource = Resource::from_value(entry["resource"].take()).unwrap();
            resources += 1;
            assert_eq!(validate::check(&resource), [], "{}", resource.kind());
            resource.visit_references(&mut |reference| {
                if reference.starts_with("urn:uuid:") {
                    *reference = reference.replace("urn:uuid:", "Patient/");
                }
            });
            owned += usize::from(resource.patient().is_some());
            let found = index(&resource);
            entries += found.len();
            // One in ten, since the rest is of the same kinds.
            if resources % 10 == 0 {
                let again = Resource::parse(&resource.to_json()).unwrap();
                assert_eq!(again, resource);
                found
                    .iter()
                    .for_each(|entry| matches_itself(&resource, entry.parameter, &entry.value));
            }
            assert_ne!(resource.display(), "");
        }
        assert!(!matches!(bundle, Value::Null));
    }
    eprintln!(
        "{bundles} bundles, {resources} resources, {owned} of a patient, {entries} index entries"
    );
    assert!(bundles > 200 && owned > resources / 2 && entries > resources * 5);
}

fn at_its_end(span: &Span) -> Asked {
    let at = span.high.or(span.low).unwrap().at;
    Asked {
        value: at,
        means: (at, at),
        near: (at, at),
    }
}

fn matches_itself(resource: &Resource, parameter: &str, value: &IndexValue) {
    let operand = match value.clone() {
        IndexValue::Token { system, code } => Operand::Token {
            system: Some(system),
            code: Some(code),
        },
        IndexValue::String(text) => Operand::String(text),
        IndexValue::Date { start_ms, end_ms } => Operand::Date {
            prefix: fhir::search::Prefix::Eq,
            start_ms,
            end_ms,
        },
        IndexValue::Reference(text) => match fhir::Reference::relative(&text) {
            Some((kind, id)) => Operand::Reference {
                kind: Some(kind),
                id: id.to_owned(),
                url: None,
            },
            None => Operand::Reference {
                kind: None,
                id: String::new(),
                url: Some(text),
            },
        },
        IndexValue::Uri(text) => Operand::Uri(text),
        IndexValue::Number(span) => Operand::Number {
            prefix: fhir::search::Prefix::Ge,
            value: Box::new(at_its_end(&span)),
        },
        IndexValue::Quantity(quantity) => Operand::Quantity {
            prefix: fhir::search::Prefix::Ge,
            value: Box::new(at_its_end(&quantity.value)),
            unit: quantity.canonical.clone().map(|(unit, span)| {
                Box::new(UnitAsked {
                    system: None,
                    code: quantity.code.clone(),
                    canonical: Some((unit, at_its_end(&span))),
                })
            }),
        },
    };
    let mut query = SearchQuery::parse(
        resource.kind(),
        &[(format!("{parameter}:missing"), "false".to_owned())],
        false,
    )
    .unwrap_or_else(|_| {
        SearchQuery::parse(
            resource.kind(),
            &[(parameter.to_owned(), "x".to_owned())],
            false,
        )
        .unwrap()
    });
    assert!(
        parameter == "_id" || query.matches(resource),
        "{} {parameter}",
        resource.kind()
    );
    query.clauses[0].modifier = None;
    query.clauses[0].operands = vec![operand];
    assert!(
        query.matches(resource),
        "{} {parameter} {value:?}",
        resource.kind()
    );
}
