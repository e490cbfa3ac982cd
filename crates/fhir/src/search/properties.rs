//! Index and queries agree, whatever a resource holds.
use super::*;
use crate::date;
use proptest::prelude::*;
use serde_json::{Value, json};

fn resource(value: Value) -> Resource {
    Resource::from_value(value).unwrap()
}

#[test]
fn odd_json_is_no_reason_to_panic() {
    let odd = [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!({}),
        json!([[["x"]]]),
        json!([null, 1, {"coding": 7}]),
        json!({"coding": {"code": 1}}),
        json!({"reference": 7}),
        json!({"start": [], "end": {}}),
        json!([{"system": [], "value": {}}]),
        json!({"event": "x", "repeat": []}),
        json!({"value": 5.4, "code": "mg", "system": "http://unitsofmeasure.org"}),
        json!({"value": "5", "comparator": "~", "low": 1, "high": {"value": []}}),
        json!({"low": {"value": 7}, "high": {"value": 1e300, "unit": "x"}}),
        json!({"origin": {"value": 1}, "data": "1 2 x", "factor": []}),
        json!({"origin": {"value": 1e308}, "data": "E U L"}),
    ];
    for kind in ResourceType::all() {
        for value in &odd {
            let mut all = Resource::new(kind);
            let structure = facts::structures().get(facts::structures().find(kind.name()).unwrap());
            for element in &structure.elements {
                for name in element
                    .choice
                    .iter()
                    .map(String::as_str)
                    .chain([element.name])
                {
                    all.set(name, value.clone());
                }
            }
            for entry in index(&all) {
                let query = query_for(kind, &entry, 0);
                assert!(query.matches(&all), "{kind} {entry:?}");
                if let Some(part) = part_for(&query, &all) {
                    assert!(query.matches(&part), "{kind} {entry:?}");
                }
            }
            let _ = (all.patient(), all.display(), crate::validate::check(&all));
        }
    }
}

/// What of a resource tells whether it matches a query.
fn part_for(query: &SearchQuery, whole: &Resource) -> Option<Resource> {
    crate::stored::part(whole.kind(), &whole.to_json(), &query.elements()?)
}

/// A query that an index entry must be found by; `variant` chooses among the ways to ask.
fn query_for(kind: ResourceType, entry: &IndexEntry, variant: u8) -> SearchQuery {
    let escape = |text: &str| {
        text.replace('\\', r"\\")
            .replace(',', r"\,")
            .replace('|', r"\|")
            .replace('$', r"\$")
    };
    let mut name = entry.parameter.to_owned();
    let instant = |ms: i64| date::instant(u64::try_from(ms).unwrap());
    let value = match &entry.value {
        IndexValue::Token { system, code } if code.is_empty() => format!("{}|", escape(system)),
        IndexValue::Token { system, code } => match variant % 2 {
            0 if entry.parameter != "_id" => format!("{}|{}", escape(system), escape(code)),
            _ => escape(code),
        },
        IndexValue::String(text) if text.is_empty() => panic!("an empty string is in the index"),
        IndexValue::String(text) => {
            let first: String = text.chars().take(1 + usize::from(variant)).collect();
            if variant.is_multiple_of(3) {
                name += ":contains";
            }
            escape(first.trim_end())
        }
        IndexValue::Date { start_ms, end_ms } => match variant % 4 {
            0 if *start_ms >= 0 => format!("ge{}", instant(*start_ms)),
            1 if *start_ms > 0 => format!("gt{}", instant(*start_ms - 1)),
            2 if *start_ms > 0 => format!("sa{}", instant(*start_ms - 1)),
            3 if (0..OPEN_END_MS).contains(end_ms) => format!("eb{}", instant(*end_ms)),
            _ => {
                name += ":missing";
                "false".to_owned()
            }
        },
        IndexValue::Reference(text) | IndexValue::Uri(text) => escape(text),
        IndexValue::Number(_) | IndexValue::Quantity(_) => {
            name += ":missing";
            "false".to_owned()
        }
    };
    let parsed = SearchQuery::parse(kind, &[(name.clone(), value.clone())], false);
    match parsed {
        Ok(query) => query,
        // What isn't a reference or an id at all is indexed as it stands, but can't be asked for.
        Err(error)
            if ["can't refer to", "logical id", "absolute URL", "needs one"]
                .iter()
                .any(|words| error.to_string().contains(words)) =>
        {
            SearchQuery::parse(kind, &[], false).unwrap()
        }
        Err(error) => panic!("{name}={value}: {error}"),
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9.-]{1,8}", "[ -~]{1,10}", "\\PC{1,6}"]
}

fn dates() -> impl Strategy<Value = String> {
    (1900..2100, 1..=12, 1..=28, 0..24).prop_flat_map(|(year, month, day, hour)| {
        prop_oneof![
            Just(format!("{year}")),
            Just(format!("{year}-{month:02}")),
            Just(format!("{year}-{month:02}-{day:02}")),
            Just(format!(
                "{year}-{month:02}-{day:02}T{hour:02}:10:20.345+05:30"
            )),
        ]
    })
}

fn codings() -> impl Strategy<Value = Value> {
    (proptest::option::of(text()), proptest::option::of(text()))
        .prop_map(|(system, code)| json!({"system": system, "code": code}))
}

fn observations() -> impl Strategy<Value = Resource> {
    let references = prop_oneof![
        "(Patient|Group|Observation|Device)/[a-z0-9-]{1,6}",
        "https://x\\.org/Patient/[a-z]{1,3}",
        text()
    ];
    let effective = prop_oneof![
        dates().prop_map(|date| ("effectiveDateTime", json!(date))),
        (dates(), dates())
            .prop_map(|(start, end)| ("effectivePeriod", json!({"start": start, "end": end}))),
        dates().prop_map(|start| ("effectivePeriod", json!({"start": start}))),
        dates().prop_map(|end| ("effectivePeriod", json!({"end": end}))),
        dates().prop_map(|event| ("effectiveTiming", json!({"event": [event]}))),
    ];
    let parts = (
        proptest::collection::vec(codings(), 0..4),
        references,
        effective,
        text(),
        text(),
        codings(),
    );
    parts.prop_map(|(codings, reference, (effective, when), value, status, tag)| {
        resource(json!({"resourceType": "Observation", "id": "o", "meta": {"tag": [tag], "profile": [status.clone()]}, "status": status,
            "code": {"coding": codings}, "subject": {"reference": reference}, effective: when, "valueString": value}))
    })
}

proptest! {
    #[test]
    fn a_resource_matches_what_it_is_indexed_by(observation in observations(), variant in 0_u8..12) {
        for entry in index(&observation) {
            let query = query_for(ResourceType::Observation, &entry, variant);
            prop_assert!(query.matches(&observation), "{entry:?} {query:?}");
        }
    }

    #[test]
    fn a_part_matches_what_the_whole_does(one in observations(), other in observations(), variant in 0_u8..12) {
        for entry in index(&one) {
            let query = query_for(ResourceType::Observation, &entry, variant);
            for whole in [&one, &other] {
                let part = part_for(&query, whole).expect("a part");
                prop_assert_eq!(query.matches(&part), query.matches(whole), "{:?} {:?}", entry, query);
            }
        }
    }

    #[test]
    fn no_query_makes_it_panic(name in "[a-z_:.-]{0,12}|birthdate|family|identifier|_id|link|_text|_list", value in "\\PC{0,24}") {
        let patient = resource(json!({"resourceType": "Patient", "name": [{"family": "Berg"}], "birthDate": "1950"}));
        if let Ok(query) = SearchQuery::parse(ResourceType::Patient, &[(name, value)], false) {
            let _ = query.matches(&patient);
        }
    }

    #[test]
    fn no_filter_makes_it_panic(filter in "((family|birthdate|link|x\\.y|not|and|or|\\(|\\)|eq|pr|\"|[ -~]) ?){0,12}|\\PC{0,24}") {
        let patient = resource(json!({"resourceType": "Patient", "name": [{"family": "Berg"}], "birthDate": "1950"}));
        if let Ok(query) = SearchQuery::parse(ResourceType::Patient, &[("_filter".to_owned(), filter)], false) {
            let _ = query.matches(&patient);
        }
    }

    #[test]
    fn folding_twice_changes_nothing(text in "\\PC{0,20}") {
        let folded = normalise(&text);
        prop_assert_eq!(normalise(&folded), folded);
    }
}
