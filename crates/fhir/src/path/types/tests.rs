use super::PathFinding;
use crate::ResourceType;
use crate::facts::search;
use crate::path::Expression;

fn unknown(kind: &str, text: &str) -> Vec<(usize, String)> {
    let findings = Expression::compile(text)
        .unwrap()
        .unknown_elements(ResourceType::parse(kind).unwrap());
    findings
        .into_iter()
        .map(|PathFinding { position, message }| (position, message))
        .collect()
}

#[test]
fn unknown_elements_are_found_where_they_stand() {
    for (kind, text, position, message) in [
        (
            "Observation",
            "staus",
            0,
            "no element `staus` in Observation",
        ),
        (
            "Patient",
            "Patient.name.gven",
            13,
            "no element `gven` in HumanName",
        ),
        (
            "Patient",
            "name.where(us = 'official')",
            11,
            "no element `us` in HumanName",
        ),
        (
            "Patient",
            "name.first().famly",
            13,
            "no element `famly` in HumanName",
        ),
        ("Patient", "birthDate.year", 10, "no element `year` in date"),
        (
            "Observation",
            "value.ofType(Quantity).units",
            23,
            "no element `units` in Quantity",
        ),
        (
            "Encounter",
            "status = 'finished' and class.cod = 'IMP'",
            30,
            "no element `cod` in Coding",
        ),
    ] {
        let found = unknown(kind, text);
        assert_eq!(found, [(position, message.to_owned())], "{text}");
    }
}

#[test]
fn what_may_be_there_is_not_found_fault_with() {
    for (kind, text) in [
        ("Observation", "valueQuantity.value"),
        ("Observation", "value.value"),
        ("Patient", "contained.anything"),
        ("Patient", "generalPractitioner.resolve().anything"),
        ("Patient", "birthDate.extension.value.code"),
        ("Patient", "birthDate.id"),
        ("Patient", "name.trace('names', given)"),
        ("Patient", "%entry.anything.at.all"),
        ("Patient", "Observation.code.coding"),
        ("Patient", "descendants().anything"),
        ("Questionnaire", "repeat(item).linkId"),
        ("Questionnaire", "item.item.item.linkId"),
        ("Bundle", "entry.resource.ofType(Patient).name.given"),
    ] {
        assert_eq!(unknown(kind, text), [], "{text}");
    }
}

#[test]
fn every_search_parameter_names_elements_that_there_are() {
    let mut checked = 0;
    for kind in ResourceType::all() {
        for parameter in &search(kind).parameters {
            if let Ok(expression) = Expression::compile(parameter.expression) {
                let findings = expression.unknown_elements(kind);
                assert_eq!(findings, [], "{} {}", kind.name(), parameter.expression);
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "only {checked}");
}
