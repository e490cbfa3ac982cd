//! Composite parameters (R4, section 3.1.1.5.8): values that stand together in one element, such as a code
//! and the quantity of the same component.
//!
//! Each part is a value of a parameter that the type has by itself, so whatever matches is found by what
//! those parameters are found by; that the parts are of one element is seen on the resource.
use serde_json::Value;

use super::extract::found;
use super::parameter::standard;
use super::plan::{Compiled, Leaf, Plan, Walk, of_expression, within};
use super::query::{bad, clause, split};
use super::{Clause, Modifier, Named, Operand, ParameterKind, matching};
use crate::facts::{self, ParameterDetail, TypeId, TypeSearch};
use crate::path::{Expression, PathError};
use crate::{IssueCode, OperationOutcome, Resource, ResourceType};

/// Elements whose parts stand together.
#[derive(Debug)]
pub(super) struct Base {
    /// From the resource to the elements.
    elements: Walk,
    parts: Vec<Part>,
}

/// One part of a composite parameter.
#[derive(Debug)]
struct Part {
    kind: ParameterKind,
    /// The system of `code` leaves.
    system: &'static str,
    /// Whether its way begins at the resource rather than at the element.
    from_root: bool,
    plans: Vec<Plan>,
}

/// What a composite parameter is made of; nothing for others.
pub(super) fn bases(
    search: &'static TypeSearch,
    detail: &ParameterDetail,
    plans: &mut Vec<Plan>,
) -> Result<Vec<Base>, PathError> {
    if detail.components.is_empty() {
        return Ok(Vec::new());
    }
    let mut bases = Vec::with_capacity(plans.len());
    for plan in std::mem::take(plans) {
        let Plan::Walk(elements) = plan else {
            continue;
        };
        let mut parts = Vec::with_capacity(detail.components.len());
        for (name, text) in &detail.components {
            let Some(place) = search.position(name) else {
                continue;
            };
            let expression = Expression::compile(text)?;
            let from_root = text.starts_with(|first: char| first.is_ascii_uppercase());
            parts.push(Part {
                kind: search.parameters[place].kind,
                system: search.details[place].system,
                from_root,
                plans: if from_root {
                    of_expression(&expression)
                } else {
                    within(&expression, &elements)
                },
            });
        }
        bases.push(Base { elements, parts });
    }
    Ok(bases)
}

impl Base {
    /// For each part, the ways to it from the resource, as [`Plan::ways`] has them; `None` where they can't be
    /// told.
    pub(super) fn ways(&self, from: TypeId) -> Option<Vec<Vec<&'static str>>> {
        let mut ways = self.elements.ways(from)?;
        let to_elements = ways.clone();
        for part in &self.parts {
            for plan in &part.plans {
                if part.from_root {
                    ways.extend(plan.ways(from)?);
                    continue;
                }
                for inner in self.elements.ends().iter().map(|id| plan.ways(*id)) {
                    for inner in inner? {
                        ways.extend(to_elements.iter().map(|way| {
                            let mut way = way.clone();
                            way.extend(&inner);
                            way
                        }));
                    }
                }
            }
        }
        // The elements themselves are only passed through.
        Some(ways.split_off(to_elements.len()))
    }
    /// For each part, what its ways end at.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> Vec<(ParameterKind, Vec<Leaf>)> {
        let of_part = |part: &Part| {
            let leaves = part.plans.iter().flat_map(Plan::leaves);
            (part.kind, leaves.collect())
        };
        self.parts.iter().map(of_part).collect()
    }
}

impl Part {
    fn run<'a>(&self, root: &'a Value, element: &'a Value, visit: &mut dyn FnMut(Leaf, &'a Value)) {
        let from = if self.from_root { root } else { element };
        for plan in &self.plans {
            plan.run_from(root, from, visit);
        }
    }

    fn matches(&self, asked: &Clause, root: &Value, element: &Value) -> bool {
        let mut hit = false;
        self.run(root, element, &mut |leaf, value| {
            found(self.kind, self.system, leaf, value, &mut |found| {
                hit = hit || matching::any_operand(asked, &found);
            });
        });
        hit
    }

    fn is_there(&self, root: &Value, element: &Value) -> bool {
        let mut there = false;
        self.run(root, element, &mut |leaf, value| {
            there |= !matching::says_nothing(leaf, value);
        });
        there
    }
}

/// Whether a clause of a composite parameter matches.
pub(super) fn matches(clause: &Clause, resource: &Resource) -> bool {
    let Some(compiled) = compiled(resource.kind(), &clause.parameter) else {
        return false;
    };
    let root = resource.as_value();
    let mut hit = false;
    let mut there = false;
    for base in &compiled.bases {
        base.elements.run(root, &mut |_, element| {
            if clause.modifier == Some(Modifier::Missing) {
                there |= base.parts.iter().all(|part| part.is_there(root, element));
                return;
            }
            hit = hit
                || clause.operands.iter().any(|operand| {
                    let Operand::Composite(asked) = operand else {
                        return false;
                    };
                    let mut parts = base.parts.iter().zip(asked);
                    parts.all(|(part, asked)| part.matches(asked, root, element))
                });
        });
    }
    match clause.modifier {
        Some(Modifier::Missing) => clause.operands.contains(&Operand::Missing(!there)),
        _ => hit,
    }
}

fn compiled(kind: ResourceType, parameter: &str) -> Option<&'static Compiled> {
    let place = facts::search(kind).position(parameter)?;
    super::plan::compiled(kind).get(place)
}

/// `value$value`, each as its own parameter has it.
pub(super) fn operand(
    kind: ResourceType,
    name: &str,
    parameter: &str,
    text: &str,
) -> Result<Operand, OperationOutcome> {
    let own = facts::search(kind);
    let components = own
        .position(parameter)
        .map_or(&[][..], |place| &own.details[place].components);
    let values = split(text, '$');
    if values.len() != components.len() {
        let names: Vec<&str> = components.iter().map(|(name, _)| *name).collect();
        let words = format!(
            "is made of {} values: {}",
            components.len(),
            names.join("$")
        );
        return Err(bad(IssueCode::Value, name, words));
    }
    let each = components.iter().zip(&values);
    let clauses = each.map(|((component, _), value)| {
        let Some((component, component_kind)) = standard(kind, component) else {
            return Err(bad(
                IssueCode::NotSupported,
                name,
                "has parts that can't be asked for",
            ));
        };
        let component = Named::Standard(component);
        clause(kind, name, &component, component_kind, None, value)
    });
    Ok(Operand::Composite(clauses.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::SearchQuery;
    use serde_json::json;

    fn matching(resource: &Value, name: &str, value: &str) -> Result<bool, OperationOutcome> {
        let resource = Resource::from_value(resource.clone()).unwrap();
        let asked = [(name.to_owned(), value.to_owned())];
        Ok(SearchQuery::parse(resource.kind(), &asked, false)?.matches(&resource))
    }

    #[test]
    fn parts_are_of_one_element() {
        let ucum = "http://unitsofmeasure.org";
        let component = |code: &str, value: i64| {
            json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {"value": value, "system": ucum, "code": "mm[Hg]"}})
        };
        let pressure = json!({"resourceType": "Observation", "id": "o", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "component": [component("8480-6", 120), component("8462-4", 80)]});
        for (name, value, matches) in [
            ("component-code-value-quantity", "8480-6$gt110", true),
            (
                "component-code-value-quantity",
                "http://loinc.org|8480-6$120|http://unitsofmeasure.org|mm[Hg]",
                true,
            ),
            ("component-code-value-quantity", "8480-6$80", false),
            ("component-code-value-quantity", "8480-6$80,8462-4$80", true),
            ("combo-code-value-quantity", "8462-4$lt90", true),
            ("combo-code-value-quantity", "85354-9$lt90", false),
            ("code-value-quantity", "85354-9$lt90", false),
            ("component-code-value-concept:missing", "true", true),
            ("component-code-value-quantity:missing", "true", false),
            ("code-value-quantity:missing", "true", true),
        ] {
            assert_eq!(
                matching(&pressure, name, value).unwrap(),
                matches,
                "{name}={value}"
            );
        }
        let weight = json!({"resourceType": "Observation", "id": "o", "status": "final",
            "code": {"coding": [{"code": "w"}]}, "valueDateTime": "2026-05-01", });
        assert!(matching(&weight, "code-value-date", "w$2026-05").unwrap());
        assert!(!matching(&weight, "code-value-date", "x$2026-05").unwrap());
        assert!(!matching(&weight, "code-value-string", "w$2026").unwrap());
        let group = json!({"resourceType": "Group", "id": "g", "type": "person", "actual": true, "characteristic": [
            {"code": {"coding": [{"code": "smoker"}]}, "valueBoolean": true, "exclude": false},
            {"code": {"coding": [{"code": "gender"}]}, "valueCodeableConcept": {"coding": [{"code": "mixed"}]}, "exclude": false}]});
        assert!(matching(&group, "characteristic-value", "gender$mixed").unwrap());
        assert!(matching(&group, "characteristic-value", "smoker$true").unwrap());
        assert!(!matching(&group, "characteristic-value", "smoker$mixed").unwrap());
        let document = json!({"resourceType": "DocumentReference", "id": "d", "status": "current", "content": [{"attachment": {}}],
            "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/a"}},
                {"code": "appends", "target": {"reference": "DocumentReference/b"}}]});
        assert!(matching(&document, "relationship", "replaces$DocumentReference/a").unwrap());
        assert!(matching(&document, "relationship", "appends$b").unwrap());
        assert!(!matching(&document, "relationship", "replaces$b").unwrap());
        let sequence = json!({"resourceType": "MolecularSequence", "id": "m", "coordinateSystem": 0,
            "referenceSeq": {"chromosome": {"coding": [{"code": "1"}]}, "windowStart": 10, "windowEnd": 20},
            "variant": [{"start": 11, "end": 12}, {"start": 15, "end": 19}]});
        assert!(matching(&sequence, "chromosome-variant-coordinate", "1$lt12$gt11").unwrap());
        assert!(!matching(&sequence, "chromosome-variant-coordinate", "1$lt12$gt18").unwrap());
        assert!(!matching(&sequence, "chromosome-variant-coordinate", "2$lt12$gt11").unwrap());
        assert!(matching(&sequence, "chromosome-window-coordinate", "1$10$20").unwrap());
        let set = json!({"resourceType": "ValueSet", "id": "v", "status": "active", "useContext": [
            {"code": {"code": "age"}, "valueRange": {"low": {"value": 18}, "high": {"value": 65}}},
            {"code": {"code": "focus"}, "valueCodeableConcept": {"coding": [{"code": "x"}]}}]});
        assert!(matching(&set, "context-type-quantity", "age$gt40").unwrap());
        assert!(!matching(&set, "context-type-quantity", "focus$gt40").unwrap());
        assert!(matching(&set, "context-type-value", "focus$x").unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_part_is_said() {
        let observation = json!({"resourceType": "Observation", "id": "o"});
        for (name, value, words) in [
            (
                "code-value-quantity",
                "x",
                "is made of 2 values: code$value-quantity",
            ),
            ("code-value-quantity", "x$1$2", "is made of 2 values"),
            ("code-value-quantity", "x$", "has no value"),
            ("code-value-quantity", "x$y", "a number"),
            ("code-value-quantity:exact", "x$1", "known are missing"),
            (
                "_sort",
                "code-value-quantity",
                "is a list of search parameters",
            ),
        ] {
            let refused = matching(&observation, name, value).unwrap_err().to_string();
            assert!(refused.contains(words), "{name}={value}: {refused}");
        }
    }

    #[test]
    fn each_part_of_each_composite_is_read() {
        let mut composites = 0;
        for kind in ResourceType::all() {
            let table = super::super::plan::compiled(kind).iter();
            for compiled in table.filter(|one| one.kind == ParameterKind::Composite) {
                composites += 1;
                assert!(!compiled.bases.is_empty(), "{kind} {}", compiled.name);
                for base in &compiled.bases {
                    let parts = base.leaves();
                    assert!(parts.len() > 1, "{kind} {}", compiled.name);
                    for (part, leaves) in parts {
                        let read = leaves
                            .iter()
                            .any(|leaf| super::super::plan::is_read(part, *leaf));
                        assert!(read, "{kind} {} {part:?} {leaves:?}", compiled.name);
                    }
                }
            }
        }
        assert_eq!(composites, 72);
    }
}
