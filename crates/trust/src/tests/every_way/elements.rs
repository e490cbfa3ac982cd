//! Rules of chance about elements, what they hide of a row, and which searches would tell of it: by tables of the
//! test's own, apart from the code that cuts and refuses.
use std::fmt::Write as _;

use fhir::ResourceType;
use fhir::search::{Clause, Condition, SearchQuery};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::Value;

use super::rules::{STAFF, purposes};
use crate::{Purpose, Role};

/// A rule: elements of a type that some roles aren't shown for some purposes.
#[derive(Debug, Clone)]
pub(super) struct Hides {
    kind: ResourceType,
    roles: Vec<Role>,
    purposes: Vec<Purpose>,
    elements: Vec<&'static str>,
}

impl Hides {
    pub(super) fn is_for(&self, who: (Role, Purpose), kind: ResourceType) -> bool {
        let is_named = |purpose| self.purposes.contains(&purpose);
        self.kind == kind
            && self.roles.contains(&who.0)
            && (is_named(who.1) || is_named(who.1.standard()))
    }
    pub(super) fn hides(&self, element: &str) -> bool {
        self.elements.contains(&element)
    }
    /// Whether a search looks at what it hides.
    fn would_tell(&self, parameter: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner == outer || inner.starts_with(outer) && inner[outer.len()..].starts_with('.')
        };
        looked_at(self.kind, parameter).iter().any(|looked| {
            let mut hidden = self.elements.iter();
            *looked == "*" || hidden.any(|one| within(looked, one) || within(one, looked))
        })
    }
    /// Takes out of a row what it hides.
    pub(super) fn cut(&self, row: &mut Value) {
        for element in &self.elements {
            let (outer, inner) = match element.split_once('.') {
                Some((outer, inner)) => (outer, Some(member(inner))),
                None => (*element, None),
            };
            let Some(inner) = inner else {
                row.as_object_mut().unwrap().remove(member(outer));
                continue;
            };
            for one in row
                .get_mut(outer)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                one.as_object_mut().unwrap().remove(inner);
            }
        }
    }
    /// Takes those elements out that have to be there and say only that they aren't shown.
    pub(super) fn unmask(&self, row: &mut Value) {
        let is_mask = |value: &Value| {
            let mask = value.as_object();
            mask.is_some_and(|members| members.keys().eq(["extension"]))
        };
        for element in &self.elements {
            let hides_all = row.get(*element).is_some_and(|value| match value {
                Value::Array(list) => list.iter().all(is_mask),
                one => is_mask(one),
            });
            if hides_all {
                row.as_object_mut().unwrap().remove(*element);
            }
        }
    }
}

/// The member of the rows here in which an element is.
fn member(element: &str) -> &str {
    match element {
        "effective" => "effectiveDateTime",
        "value" => "valueQuantity",
        "onset" => "onsetPeriod",
        same => same,
    }
}

/// What may be hidden of a type.
fn elements(kind: ResourceType) -> &'static [&'static str] {
    match kind {
        ResourceType::Patient => &[
            "identifier",
            "name",
            "name.given",
            "birthDate",
            "gender",
            "managingOrganization",
        ],
        ResourceType::Observation => &[
            "category",
            "code",
            "encounter",
            "effective",
            "value",
            "component",
            "component.value",
        ],
        ResourceType::Condition => &["code", "onset"],
        ResourceType::Encounter => &["class", "period", "serviceProvider"],
        ResourceType::Task => &["authoredOn"],
        ResourceType::Consent => &["category", "dateTime", "provision"],
        ResourceType::Organization => &["name", "partOf"],
        _ => &[],
    }
}

/// The elements that a search parameter looks at; `*` is all of them.
fn looked_at(kind: ResourceType, parameter: &str) -> &'static [&'static str] {
    match (kind, parameter) {
        (_, "_content") => &["*"],
        // Whose something is, and what it is, is never hidden.
        (_, "_id" | "_lastUpdated" | "_profile" | "patient" | "subject" | "status") => &[],
        (ResourceType::Patient | ResourceType::Organization, "name") => &["name"],
        (ResourceType::Patient, "family") => &["name.family"],
        (ResourceType::Patient, "given") => &["name.given"],
        (ResourceType::Patient, "birthdate") => &["birthDate"],
        (ResourceType::Patient, "identifier") => &["identifier"],
        (ResourceType::Patient, "gender") => &["gender"],
        (ResourceType::Patient, "organization") => &["managingOrganization"],
        (ResourceType::Organization, "partof") => &["partOf"],
        (ResourceType::Observation | ResourceType::Condition, "code") => &["code"],
        (ResourceType::Observation | ResourceType::Consent, "category") => &["category"],
        (ResourceType::Observation, "encounter") => &["encounter"],
        (ResourceType::Observation, "date") => &["effective"],
        (ResourceType::Observation, "value-quantity") => &["value"],
        (ResourceType::Observation, "combo-code") => &["code", "component.code"],
        (ResourceType::Observation, "combo-value-quantity") => &["value", "component.value"],
        (ResourceType::Observation, "component-code") => &["component.code"],
        (ResourceType::Observation, "component-value-quantity") => &["component.value"],
        (ResourceType::Observation, "code-value-quantity") => &["code", "value"],
        (ResourceType::Observation, "component-code-value-quantity") => {
            &["component.code", "component.value"]
        }
        (ResourceType::Observation, "combo-code-value-quantity") => {
            &["code", "value", "component.code", "component.value"]
        }
        (ResourceType::Condition, "onset-date") => &["onset"],
        (ResourceType::Encounter, "date") => &["period"],
        (ResourceType::Encounter, "class") => &["class"],
        (ResourceType::Encounter, "service-provider") => &["serviceProvider"],
        (ResourceType::Task, "authored-on") => &["authoredOn"],
        (kind, other) => panic!("which elements does {kind}'s {other} look at?"),
    }
}

/// Calls for each search parameter that a query asks, with the type whose it is.
fn each_parameter(query: &SearchQuery, ask: &mut dyn FnMut(ResourceType, &str)) {
    let mut clauses: Vec<&Clause> = query.clauses.iter().collect();
    for condition in &query.conditions {
        clauses_of(condition, &mut clauses);
    }
    clauses
        .iter()
        .for_each(|one| ask(query.kind, &one.parameter));
    for key in &query.sort {
        ask(query.kind, key.parameter.name());
    }
    for include in &query.includes {
        let of = include.source.zip(include.parameter.as_ref());
        of.iter()
            .for_each(|(kind, parameter)| ask(*kind, parameter.name()));
    }
    for link in &query.links {
        if !link.reverse {
            ask(query.kind, link.parameter.name());
        }
        for inner in &link.queries {
            if link.reverse {
                ask(inner.kind, link.parameter.name());
            }
            each_parameter(inner, ask);
        }
    }
}

fn clauses_of<'a>(condition: &'a Condition, all: &mut Vec<&'a Clause>) {
    match condition {
        Condition::Clause(clause) => all.push(clause),
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| clauses_of(part, all));
        }
        Condition::Not(part) => clauses_of(part, all),
        Condition::Link(_) => panic!("no filter here has links"),
    }
}

/// Whether a search looks at what one of these rules hides from somebody.
pub(super) fn would_tell(rules: &[Hides], who: (Role, Purpose), query: &SearchQuery) -> bool {
    let mut tells = false;
    each_parameter(query, &mut |kind, parameter| {
        let mut rules = rules.iter().filter(|rule| rule.is_for(who, kind));
        tells |= rules.any(|rule| rule.would_tell(parameter));
    });
    tells
}

pub(super) fn hides() -> impl Strategy<Value = Vec<Hides>> {
    let roles: Vec<Role> = STAFF.into_iter().chain([Role::Proxy]).collect();
    let kinds = super::KINDS
        .into_iter()
        .filter(|kind| !elements(*kind).is_empty());
    let kinds: Vec<ResourceType> = kinds.collect();
    // One for a type: two would contradict each other.
    subsequence(kinds, 0..6).prop_flat_map(move |kinds| {
        let rules: Vec<_> = kinds
            .into_iter()
            .map(|kind| {
                let all = elements(kind);
                (
                    Just(kind),
                    subsequence(roles.clone(), 2..=5),
                    subsequence(purposes().to_vec(), 3..=6),
                    subsequence(all.to_vec(), 1..=all.len().min(3)),
                )
                    .prop_map(|(kind, roles, purposes, elements)| Hides {
                        kind,
                        roles,
                        purposes,
                        elements,
                    })
            })
            .collect();
        rules
    })
}

/// The rules as a file.
pub(super) fn rules_of(all: &[Hides]) -> String {
    let mut text = String::new();
    for rule in all {
        let kind = rule.kind;
        let roles: Vec<&str> = rule.roles.iter().map(|one| one.name()).collect();
        let purposes: Vec<&str> = rule.purposes.iter().map(|one| one.code()).collect();
        let elements = &rule.elements;
        writeln!(
            text,
            "[[rule]]\nid = \"hides-{kind}\"\nsays = \"x\"\nrole = {roles:?}\npurpose = {purposes:?}\n\
             type = \"{kind}\"\nhides = {elements:?}"
        )
        .unwrap();
    }
    text
}
