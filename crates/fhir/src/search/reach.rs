//! Which elements a search looks at: who isn't shown an element must not find out what is in it by asking.
use super::include::Include;
use super::plan::{Compiled, Plan, compiled};
use super::{Clause, Condition, Link, Modifier, Named, ParameterKind, SearchQuery};
use crate::ResourceType;
use crate::facts::{self, TypeId, structures};

/// The elements of a type that a parameter looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// From the resource on, by the names of the elements: `["component", "code"]`. It looks at all that is
    /// below the last.
    pub ways: Vec<Vec<&'static str>>,
    /// Whether it may look at any element at all.
    pub everything: bool,
}

impl Reach {
    fn everything() -> Self {
        Self {
            ways: Vec::new(),
            everything: true,
        }
    }

    fn one(way: &[&'static str]) -> Self {
        Self {
            ways: vec![way.to_vec()],
            everything: false,
        }
    }

    /// What a parameter of a type looks at. What can't be told counts for everything.
    #[must_use]
    pub fn of(kind: ResourceType, parameter: &Named) -> Self {
        match parameter {
            Named::Own(own) => of_compiled(kind, own.compiled()),
            Named::Standard(name) => of_name(kind, name),
        }
    }

    fn of_clause(kind: ResourceType, clause: &Clause) -> Self {
        let mut reach = match &clause.own {
            Some(own) => of_compiled(kind, own.compiled()),
            None => of_name(kind, &clause.parameter),
        };
        // A code is looked for among the codings, and what is referred to in the reference itself. Other
        // modifiers look beside them.
        let plain = matches!(
            clause.modifier,
            None | Some(Modifier::Not | Modifier::In | Modifier::NotIn)
        );
        match clause.kind {
            ParameterKind::Token | ParameterKind::Composite if plain => {
                reach.narrow("CodeableConcept", "coding", kind);
            }
            ParameterKind::Reference if plain => reach.narrow("Reference", "reference", kind),
            _ => {}
        }
        reach
    }

    /// Of elements of a data type, it looks at one of theirs alone.
    fn narrow(&mut self, data_type: &str, element: &'static str, kind: ResourceType) {
        let table = structures();
        for way in &mut self.ways {
            let mut types: Vec<TypeId> = table.find(kind.name()).into_iter().collect();
            for name in way.iter() {
                let found = (types.iter()).find_map(|id| table.get(*id).element(name));
                types = found.map_or_else(Vec::new, |found| found.types.clone());
            }
            if let [one] = types.as_slice()
                && table.get(*one).name == data_type
            {
                way.push(element);
            }
        }
    }

    /// As one that is followed.
    fn of_reference(kind: ResourceType, parameter: &Named) -> Self {
        let mut reach = Self::of(kind, parameter);
        reach.narrow("Reference", "reference", kind);
        reach
    }
}

fn of_name(kind: ResourceType, name: &str) -> Reach {
    match name {
        "_id" => return Reach::one(&["id"]),
        "_lastUpdated" => return Reach::one(&["meta", "lastUpdated"]),
        "_profile" => return Reach::one(&["meta", "profile"]),
        "_security" => return Reach::one(&["meta", "security"]),
        "_source" => return Reach::one(&["meta", "source"]),
        "_tag" => return Reach::one(&["meta", "tag"]),
        "_text" => return Reach::one(&["text"]),
        _ => {}
    }
    let place = facts::search(kind).position(name);
    place
        .and_then(|place| compiled(kind).get(place))
        .map_or_else(Reach::everything, |parameter| of_compiled(kind, parameter))
}

fn of_compiled(kind: ResourceType, parameter: &Compiled) -> Reach {
    let Some(from) = structures().find(kind.name()) else {
        return Reach::everything();
    };
    let mut reach = Reach::default();
    for plan in &parameter.plans {
        add(plan, from, &mut reach);
    }
    for base in &parameter.bases {
        match base.ways(from) {
            Some(mut ways) => reach.ways.append(&mut ways),
            None => reach.everything = true,
        }
    }
    reach.everything |= parameter.plans.is_empty() && parameter.bases.is_empty();
    reach
}

fn add(plan: &Plan, from: TypeId, reach: &mut Reach) {
    if let Some(mut ways) = plan.ways(from) {
        reach.ways.append(&mut ways);
        return;
    }
    // What is no walk is taken to look at all of each element that it names, wherever it does.
    let (names, everything) = plan.names();
    reach.everything |= everything;
    let structure = structures().get(from);
    let tops = structure.elements.iter().map(|element| element.name);
    let named = tops.filter(|top| names.contains(top));
    reach.ways.extend(named.map(|top| vec![top]));
}

/// The ways to what says whose a resource of a type is.
pub(crate) fn of_whose(kind: ResourceType) -> Reach {
    if kind == ResourceType::Binary {
        return Reach::one(&["securityContext"]);
    }
    let mut all = Reach::default();
    for name in &facts::search(kind).compartment {
        let mut one = of_name(kind, name);
        all.ways.append(&mut one.ways);
        all.everything |= one.everything;
    }
    all
}

impl SearchQuery {
    /// The elements of the resource that tell whether it matches ([`SearchQuery::matches`]), and those that
    /// references within it lead to. `None` where any may, or links aren't followed yet.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<&'static str>> {
        if self.has_links() {
            return None;
        }
        let mut clauses: Vec<&Clause> = self.clauses.iter().collect();
        for condition in &self.conditions {
            condition.clauses(&mut clauses);
        }
        let mut elements = vec!["contained"];
        for clause in clauses {
            let reach = Reach::of_clause(self.kind, clause);
            if reach.everything {
                return None;
            }
            for way in &reach.ways {
                elements.push(*way.first()?);
            }
        }
        elements.sort_unstable();
        elements.dedup();
        Some(elements)
    }

    /// Calls `visit` with each parameter that it asks for, those of links, conditions, the order and named
    /// inclusions among them: the type whose parameter it is, its name, and what it looks at.
    pub fn each_reach(&self, visit: &mut dyn FnMut(ResourceType, &str, &Reach)) {
        for clause in &self.clauses {
            visit(
                self.kind,
                &clause.parameter,
                &Reach::of_clause(self.kind, clause),
            );
        }
        for condition in &self.conditions {
            of_condition(self.kind, condition, visit);
        }
        for link in &self.links {
            of_link(self.kind, link, visit);
        }
        for key in &self.sort {
            let reach = Reach::of(self.kind, &key.parameter);
            visit(self.kind, key.parameter.name(), &reach);
        }
        for include in &self.includes {
            of_include(include, visit);
        }
    }
}

fn of_condition(
    kind: ResourceType,
    condition: &Condition,
    visit: &mut dyn FnMut(ResourceType, &str, &Reach),
) {
    match condition {
        Condition::Clause(clause) => {
            visit(kind, &clause.parameter, &Reach::of_clause(kind, clause));
        }
        Condition::All(parts) | Condition::Any(parts) => {
            (parts.iter()).for_each(|part| of_condition(kind, part, visit));
        }
        Condition::Not(part) => of_condition(kind, part, visit),
        Condition::Link(link) => of_link(kind, link, visit),
    }
}

fn of_link(kind: ResourceType, link: &Link, visit: &mut dyn FnMut(ResourceType, &str, &Reach)) {
    if link.reverse {
        for inner in &link.queries {
            let reach = Reach::of_reference(inner.kind, &link.parameter);
            visit(inner.kind, link.parameter.name(), &reach);
        }
    } else {
        visit(
            kind,
            link.parameter.name(),
            &Reach::of_reference(kind, &link.parameter),
        );
    }
    link.queries
        .iter()
        .for_each(|inner| inner.each_reach(visit));
}

/// Of what is not named, those that can be seen are followed.
fn of_include(include: &Include, visit: &mut dyn FnMut(ResourceType, &str, &Reach)) {
    if let (Some(source), Some(parameter)) = (include.source, &include.parameter) {
        visit(
            source,
            parameter.name(),
            &Reach::of_reference(source, parameter),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{COMMON, parameters};

    fn ways(kind: ResourceType, name: &'static str) -> Vec<String> {
        let reach = Reach::of(kind, &Named::Standard(name));
        assert!(!reach.everything, "{kind} {name}");
        let mut ways: Vec<String> = reach.ways.iter().map(|way| way.join(".")).collect();
        ways.sort();
        ways.dedup();
        ways
    }

    #[test]
    fn elements_of_parameters() {
        for (kind, name, expected) in [
            (ResourceType::Patient, "name", "name"),
            (ResourceType::Patient, "email", "telecom telecom.system"),
            (ResourceType::Patient, "deceased", "deceased"),
            (ResourceType::Patient, "_security", "meta.security"),
            (ResourceType::Observation, "value-quantity", "value"),
            (
                ResourceType::Observation,
                "combo-code",
                "code component.code",
            ),
            (
                ResourceType::Observation,
                "code-value-quantity",
                "code value",
            ),
            (
                ResourceType::Observation,
                "component-code-value-quantity",
                "component.code component.value",
            ),
            (ResourceType::Condition, "onset-info", "onset"),
            (ResourceType::Observation, "patient", "subject"),
            (ResourceType::List, "item", "entry.item"),
            (ResourceType::Location, "near", "position"),
            (ResourceType::Observation, "_text", "text"),
        ] {
            assert_eq!(ways(kind, name).join(" "), expected, "{kind} {name}");
        }
        let all = Reach::of(ResourceType::Observation, &Named::Standard("_content"));
        assert!(all.everything);
    }

    #[test]
    fn every_parameter_looks_at_something() {
        for kind in ResourceType::all() {
            let common = COMMON.iter().map(|parameter| parameter.name);
            let own = parameters(kind).iter().map(|parameter| parameter.name);
            for name in own.chain(common) {
                let reach = Reach::of(kind, &Named::Standard(name));
                assert!(!reach.everything && !reach.ways.is_empty(), "{kind} {name}");
            }
        }
    }
}
