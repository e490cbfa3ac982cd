//! Bundles that are nearly right: each is answered or refused in words, none is an internal error, and
//! a transaction that is refused has written nothing.
use fhir::ResourceType as T;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};

use crate::house::{House, client, json_of};

/// What is done to a place of a bundle.
#[derive(Debug, Clone)]
enum Harm {
    Remove,
    Replace(Value),
    Rename(&'static str),
    /// Of a list: what is at its beginning once more at its end.
    Repeat,
    Reverse,
}

fn harm() -> impl Strategy<Value = Harm> {
    let values = vec![
        json!(null),
        json!(""),
        json!("x"),
        json!(-1),
        json!(1e300),
        json!(true),
        json!([]),
        json!({}),
        json!([[]]),
        json!("urn:uuid:11111111-0000-4000-8000-000000000001"),
        json!("Patient/../Patient"),
        json!("Patient?identifier=a|b&_id=c"),
        json!("Observation/"),
        json!("PATCH"),
        json!("W/\"99999999999\""),
        json!("\u{0}\u{fffe}"),
        json!("é".repeat(3000)),
    ];
    let names = vec!["id", "resource", "url", "reference", "resourceType", "_x"];
    prop_oneof![
        2 => Just(Harm::Remove),
        6 => prop::sample::select(values).prop_map(Harm::Replace),
        1 => prop::sample::select(names).prop_map(Harm::Rename),
        1 => Just(Harm::Repeat),
        1 => Just(Harm::Reverse),
    ]
}

fn entries() -> Value {
    json!([
        {
            "fullUrl": "urn:uuid:11111111-0000-4000-8000-000000000001",
            "resource": {
                "resourceType": "Patient", "identifier": [{"system": "s", "value": "mangled"}],
                "name": [{"family": "Thornbury", "given": ["Ada"]}], "birthDate": "1950-04-01",
            },
            "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=s|mangled"},
        },
        {
            "fullUrl": "urn:uuid:11111111-0000-4000-8000-000000000002",
            "resource": {
                "resourceType": "Observation", "id": "mangled-1", "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
                "subject": {"reference": "urn:uuid:11111111-0000-4000-8000-000000000001"},
                "valueQuantity": {"value": 70.50, "unit": "kg"},
            },
            "request": {"method": "PUT", "url": "Observation/mangled-1"},
        },
        {
            "resource": {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
                {"name": "type", "valueCode": "replace"},
                {"name": "path", "valueString": "Practitioner.active"},
                {"name": "value", "valueBoolean": false},
            ]}]},
            "request": {"method": "PATCH", "url": "Practitioner/mangled-2", "ifMatch": "W/\"1\""},
        },
        {"request": {"method": "DELETE", "url": "Basic?code=nothing"}},
        {"request": {"method": "GET", "url": "Patient?family=Thornbury&_count=1"}},
    ])
}

/// Walks `steps` down and harms what is there.
fn mangle(value: &mut Value, steps: &[prop::sample::Index], harm: &Harm) {
    let [step, rest @ ..] = steps else {
        return;
    };
    let is_last = rest.is_empty();
    match value {
        Value::Object(members) if !members.is_empty() => {
            let name = step
                .get(&members.keys().cloned().collect::<Vec<_>>())
                .clone();
            let goes_on = !is_last
                && match &members[&name] {
                    Value::Object(all) => !all.is_empty(),
                    Value::Array(all) => !all.is_empty(),
                    _ => false,
                };
            match (goes_on, harm) {
                (true, _) => mangle(&mut members[&name], rest, harm),
                (false, Harm::Remove) => drop(members.remove(&name)),
                (false, Harm::Rename(other)) => {
                    let moved = members.remove(&name).unwrap_or_default();
                    members.insert((*other).to_owned(), moved);
                }
                (false, Harm::Replace(by)) => members[&name] = by.clone(),
                (false, Harm::Repeat | Harm::Reverse) => mangle_list(&mut members[&name], harm),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let place = step.index(list.len());
            match harm {
                _ if !is_last => mangle(&mut list[place], rest, harm),
                Harm::Remove => drop(list.remove(place)),
                Harm::Replace(by) => list[place] = by.clone(),
                _ => mangle_list(value, harm),
            }
        }
        _ => {}
    }
}

fn mangle_list(value: &mut Value, harm: &Harm) {
    if let Value::Array(list) = value {
        match harm {
            Harm::Repeat => list.extend(list.first().cloned()),
            _ => list.reverse(),
        }
    }
}

#[test]
fn what_is_nearly_a_bundle_is_answered_or_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    runtime.block_on(async {
        let body = json!({"resourceType": "Practitioner", "id": "mangled-2", "active": true});
        let made = house
            .record
            .update(
                &client(),
                T::Practitioner,
                "mangled-2",
                None,
                body.to_string().as_bytes(),
            )
            .await;
        assert_eq!(made.unwrap().status, 201);
    });
    let harms = prop::collection::vec(
        (
            prop::collection::vec(any::<prop::sample::Index>(), 1..9),
            harm(),
        ),
        0..4,
    );
    let strategy = (
        prop::sample::select(vec!["transaction", "batch"]),
        harms,
        prop::option::weighted(0.1, any::<prop::sample::Index>()),
    );
    let mut runner = TestRunner::new(Config {
        cases: 400,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    });
    let (taken, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let outcome = runner.run(&strategy, |(kind, harms, cut)| {
        let mut bundle = json!({"resourceType": "Bundle", "type": kind, "entry": entries()});
        for (steps, harm) in &harms {
            mangle(&mut bundle, steps, harm);
        }
        let mut text = bundle.to_string().into_bytes();
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        runtime.block_on(async {
            let before = [
                house.count(T::Patient).await,
                house.count(T::Observation).await,
            ];
            match house.record.bundle(&client(), &text).await {
                Ok(answer) => {
                    taken.set(taken.get() + 1);
                    let answer = json_of(&answer);
                    prop_assert_eq!(&answer["resourceType"], "Bundle");
                    for entry in answer["entry"].as_array().into_iter().flatten() {
                        let status = entry["response"]["status"].as_str().unwrap_or("");
                        prop_assert!(status.starts_with(['2', '3', '4']), "{entry}");
                    }
                }
                Err(error) => {
                    refused.set(refused.get() + 1);
                    prop_assert!((400..500).contains(&error.status), "{error:?}");
                    prop_assert!(!error.outcome.issues.is_empty());
                    let after = [
                        house.count(T::Patient).await,
                        house.count(T::Observation).await,
                    ];
                    prop_assert_eq!(before, after, "what was refused wrote something");
                }
            }
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(
        taken.get() > 50 && refused.get() > 50,
        "{taken:?} {refused:?}"
    );
}
