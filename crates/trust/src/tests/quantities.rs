//! Numbers and quantities in the blind index.

use fhir::Resource;
use fhir::search::IndexValue;
use ledger::{Ledger, Query, Token};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};

use super::search::holds;
use super::{House, TENANT, query};
use crate::indexing::{Measure, ends, indexed, measures};
use crate::tokens;

/// Quantities as observations and others say them.
fn quantities() -> impl Strategy<Value = Value> {
    let values = prop_oneof![
        (-99i64..999, 0u32..3).prop_map(|(digits, places)| format!("{digits}e-{places}")),
        (1i64..999, -60i32..60).prop_map(|(digits, power)| format!("{digits}e{power}")),
    ];
    let units = proptest::sample::select(vec![
        ("", ""),
        ("mg", UCUM),
        ("g", UCUM),
        ("kg", UCUM),
        ("mm[Hg]", UCUM),
        ("kPa", UCUM),
        ("Cel", UCUM),
        ("[degF]", UCUM),
        ("K", UCUM),
        ("[pH]", UCUM),
        ("drops", "http://units.org"),
        ("mg", ""),
    ]);
    // Words that are the code, that are another unit's code, and that are no code.
    let words = proptest::sample::select(vec!["", "", "mg", "g", "mmHg", "drops", "[pH]"]);
    let comparators = proptest::sample::select(vec!["", "", "", "<", "<=", ">=", ">"]);
    let quantities = (values, units, words, comparators);
    quantities.prop_map(|(value, (code, system), words, comparator)| {
        let mut quantity = json!({ "value": value.parse::<serde_json::Number>().unwrap() });
        for (name, text) in [
            ("code", code),
            ("system", system),
            ("unit", words),
            ("comparator", comparator),
        ] {
            if !text.is_empty() {
                quantity[name] = json!(text);
            }
        }
        quantity
    })
}

const UCUM: &str = "http://unitsofmeasure.org";

fn measured() -> impl Strategy<Value = Value> {
    let observation = |member: Value| {
        let mut resource = json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}});
        for (name, value) in member.as_object().unwrap() {
            resource[name] = value.clone();
        }
        resource
    };
    prop_oneof![
        quantities().prop_map(move |one| observation(json!({ "valueQuantity": one }))),
        (quantities(), quantities()).prop_map(move |(one, two)| {
            observation(json!({ "component": [{ "code": {}, "valueQuantity": one }, { "code": {}, "valueQuantity": two }] }))
        }),
        (quantities(), 0u8..9).prop_map(move |(origin, data)| {
            observation(json!({ "valueSampledData": { "origin": origin, "period": 1, "dimensions": 1, "data": format!("0 {data} E") } }))
        }),
        (quantities(), quantities()).prop_map(|(low, high)| {
            json!({"resourceType": "Condition", "id": "o", "subject": {"reference": "Patient/p"}, "onsetRange": {"low": low, "high": high}})
        }),
        (quantities()).prop_map(|one| {
            json!({"resourceType": "RiskAssessment", "id": "o", "status": "final",
                "prediction": [{ "probabilityDecimal": one["value"] }, { "probabilityRange": { "low": one } }]})
        }),
    ]
}

/// A value near one that the resource has, so that matches are no rare luck.
fn measure_asked(
    resource: &Value,
    prefix: &str,
    nudge: &str,
    unit: &str,
) -> (String, &'static str) {
    let text = resource.to_string();
    let at = text.find("\"value\":").map_or(0, |at| at + 8);
    let digits: String = (text[at..].chars())
        .take_while(|c| c.is_ascii_digit() || "+-.eE".contains(*c))
        .collect();
    let digits = if digits.is_empty() {
        "5".to_owned()
    } else {
        digits
    };
    let asked = match nudge {
        "same" => digits,
        other => other.to_owned(),
    };
    let name = match resource["resourceType"].as_str().unwrap() {
        "Condition" => "onset-age",
        "RiskAssessment" => return (format!("{prefix}{asked}"), "probability"),
        _ if resource.get("component").is_some() => "component-value-quantity",
        _ => "value-quantity",
    };
    (format!("{prefix}{asked}{unit}"), name)
}

/// The tokens that a program of before gave the quantities of a resource, besides all others.
fn earlier_tokens(ledger: &Ledger, resource: &Resource) -> Vec<Token> {
    let kind = tokens::kind(resource.kind());
    let mut found = tokens::of(ledger, TENANT, resource);
    for entry in fhir::search::index_of(resource, |name| indexed(resource.kind(), name)) {
        let IndexValue::Quantity(quantity) = entry.value else {
            continue;
        };
        let name = entry.parameter;
        for measure in measures(name, &quantity) {
            if let Measure::Words(name, words) = measure {
                let token = ledger.token(TENANT, kind, &name, &words);
                found.retain(|other| *other != token);
            }
        }
        let canonical =
            (quantity.canonical.as_ref()).map(|(unit, span)| (format!("{name} {unit}"), span));
        for (name, span) in [(name.to_owned(), &quantity.value)]
            .into_iter()
            .chain(canonical)
        {
            for (way, at) in ends(span) {
                found.extend(ledger.coarse_range_tokens(TENANT, kind, &format!("{name}{way}"), at));
            }
        }
        for words in [&quantity.code, &quantity.unit] {
            if !words.is_empty() {
                found.push(ledger.token(TENANT, kind, &format!("{name};"), words));
            }
        }
        if !quantity.system.is_empty() && quantity.canonical.is_none() {
            let coded = format!("{}\u{1f}{}", quantity.system, quantity.code);
            found.push(ledger.token(TENANT, kind, &format!("{name};|"), &coded));
        }
    }
    found
}

/// A quantity that matches and that its tokens, or those of before, don't find would be lost.
#[test]
fn tokens_hold_for_every_quantity() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let ledger = house.ledger();
    let one_of = |from: &'static [&'static str]| proptest::sample::select(from.to_vec());
    let cases = (
        measured(),
        one_of(&["", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]),
        one_of(&[
            "same", "same", "5", "-40", "100", "1e2", "0", "37.0", "1e-55", "3e70",
        ]),
        one_of(&[
            "",
            "||mg",
            "||g",
            "|http://unitsofmeasure.org|kg",
            "||kPa",
            "||mm[Hg]",
            "||Cel",
            "||K",
            "||[pH]",
            "||drops",
            "||mmHg",
            "|http://units.org|drops",
            "|http://unitsofmeasure.org|[degF]",
        ]),
    );
    let (matched, most) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let mut runner = TestRunner::new(Config {
        cases: 12_000,
        rng_seed: RngSeed::Fixed(20_261_127),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&cases, |(value, prefix, nudge, unit)| {
        let (asked, name) = measure_asked(&value, prefix, nudge, unit);
        let resource = Resource::from_value(value).unwrap();
        let query = query(resource.kind(), &[(name, asked.as_str())]);
        let of_kind = ledger.kind_token(TENANT, tokens::kind(resource.kind()));
        let plan = tokens::plan(ledger, TENANT, &query, None);
        most.set(most.get().max(tokens::count(&plan.query)));
        // Left to the check alone, such a question would open every document of the kind.
        let is_asked = plan.query != Query::Token(of_kind);
        prop_assert_eq!(is_asked, prefix != "ne", "{}", asked);
        if query.matches(&resource) {
            matched.set(matched.get() + 1);
            let earlier = earlier_tokens(ledger, &resource);
            for mut found_by in [tokens::of(ledger, TENANT, &resource), earlier] {
                found_by.push(of_kind);
                prop_assert!(
                    holds(&plan.query, &resource, &found_by),
                    "{} {:?}",
                    asked,
                    resource
                );
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(matched.get() > 2000, "too few matches: {}", matched.get());
    assert!(most.get() < 1600, "{}", most.get());
}

/// What a quantity takes in the index.
#[tokio::test]
async fn a_quantity_has_few_tokens() {
    let house = House::new().await;
    let count = |value: Value| {
        let mut bare = value.clone();
        bare.as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with("value") && name != "component");
        let of = |value: Value| {
            tokens::of(
                house.ledger(),
                TENANT,
                &Resource::from_value(value).unwrap(),
            )
            .len()
        };
        of(value) - of(bare)
    };
    let observation = |value: Value| json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {}, "valueQuantity": value});
    let weight = json!({"value": 83.5, "unit": "kg", "system": UCUM, "code": "kg"});
    assert_eq!(count(observation(weight)), 6);
    let pressure = json!({"value": 120, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"});
    assert_eq!(count(observation(pressure)), 7);
    assert_eq!(count(observation(json!({"value": 3, "unit": "drops"}))), 5);
    let bound =
        json!({"value": 5, "comparator": "<", "unit": "milligram", "system": UCUM, "code": "mg"});
    assert_eq!(count(observation(bound)), 13);
}
