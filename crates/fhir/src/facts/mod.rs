//! What FHIR R4 says of itself, as tables: resource types, elements of every structure, search
//! parameters and compartments. The texts are written by
//! `scripts/generate-fhir-facts.py`; they are parsed once, when first needed (a few milliseconds),
//! since as Rust source they would cost every build more than that.

pub(crate) mod names;

use crate::ResourceType;
use crate::search::{Parameter, ParameterKind};
use crate::validate::Primitive;
use names::NAMES;
use std::collections::HashMap;
use std::sync::OnceLock;

/// A type's place in [`Structures`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeId(u16);

/// An element of a structure.
#[derive(Debug)]
pub(crate) struct Element {
    /// The name; of a choice (`value[x]`) without the `[x]`.
    pub(crate) name: &'static str,
    /// The least number of times it occurs.
    pub(crate) min: u8,
    /// Whether it may occur more than once, which makes it an array in JSON.
    pub(crate) many: bool,
    /// The type, or the types of a choice.
    pub(crate) types: Vec<TypeId>,
    /// The JSON members of a choice, one for each type; empty for others.
    pub(crate) choice: Vec<String>,
    /// Whether it is part of a summary of what it stands in.
    pub(crate) summary: bool,
    /// Whether it changes what the other elements mean.
    pub(crate) modifier: bool,
    /// The codes that a required binding allows, sorted, where they can be listed.
    pub(crate) codes: Option<&'static [&'static str]>,
    /// The code system of those codes, where the element is a `CodeableConcept`; else empty.
    pub(crate) system: &'static str,
    /// The types that a reference may point to; nothing where they are all types.
    pub(crate) targets: Option<&'static [ResourceType]>,
}

/// What a member's name in JSON stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    /// The element's place in its structure.
    pub(crate) element: u16,
    pub(crate) kind: TypeId,
}

/// The most elements that a structure has; whoever checks one keeps a bit for each.
pub(crate) const ELEMENTS_MAX: usize = 128;

/// A resource type, a data type, or the structure of a backbone element (named by its path).
#[derive(Debug)]
pub(crate) struct Structure {
    pub(crate) name: &'static str,
    /// The type that it specialises, if any.
    pub(crate) base: Option<&'static str>,
    pub(crate) elements: Vec<Element>,
    /// Which primitive type it is, if it is one.
    pub(crate) primitive: Option<Primitive>,
    /// Whether it is a resource type, or any of them: it says its type itself.
    pub(crate) is_resource: bool,
    /// A bit for each element that must be there.
    pub(crate) required: u128,
    /// All names that a member can have, sorted.
    members: Vec<Member>,
}

impl Structure {
    pub(crate) fn element(&self, name: &str) -> Option<&Element> {
        self.elements.iter().find(|element| element.name == name)
    }
    /// What a JSON member stands for, choices included.
    pub(crate) fn find(&self, name: &str) -> Option<Member> {
        self.members
            .binary_search_by(|member| member.name.cmp(name))
            .ok()
            .map(|place| self.members[place])
    }
    /// The element and type that a JSON member stands for, choices included.
    pub(crate) fn member(&self, name: &str) -> Option<(&Element, TypeId)> {
        let member = self.find(name)?;
        Some((&self.elements[usize::from(member.element)], member.kind))
    }
    /// Whether it is a primitive data type (those begin with a small letter).
    pub(crate) fn is_primitive(&self) -> bool {
        self.name
            .starts_with(|first: char| first.is_ascii_lowercase())
    }
    /// Whether it is a backbone element's structure.
    pub(crate) fn is_backbone(&self) -> bool {
        self.name.contains('.')
    }
}

/// All structures.
#[derive(Debug)]
pub(crate) struct Structures {
    list: Vec<Structure>,
    by_name: HashMap<&'static str, TypeId>,
}

impl Structures {
    pub(crate) fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }
    pub(crate) fn get(&self, id: TypeId) -> &Structure {
        &self.list[usize::from(id.0)]
    }
    /// Whether a type is another one or specialises it.
    pub(crate) fn is_a(&self, id: TypeId, wanted: TypeId) -> bool {
        let mut next = Some(id);
        while let Some(id) = next {
            if id == wanted {
                return true;
            }
            next = self.get(id).base.and_then(|base| self.find(base));
        }
        false
    }
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Structure> {
        self.list.iter()
    }
}

/// The elements of all structures.
pub(crate) fn structures() -> &'static Structures {
    static TABLE: OnceLock<Structures> = OnceLock::new();
    TABLE.get_or_init(|| parse_structures(include_str!("elements.txt")))
}

fn parse_structures(text: &'static str) -> Structures {
    let heads = text
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', '@', '>']));
    let by_name: HashMap<_, _> = heads
        .zip(0..)
        .map(|(line, place)| (line.split(' ').next().unwrap_or(line), TypeId(place)))
        .collect();
    let mut any: Vec<TypeId> = Vec::new();
    let mut codes: Vec<&'static [&'static str]> = Vec::new();
    let mut targets: Vec<&'static [ResourceType]> = Vec::new();
    let mut list: Vec<Structure> = Vec::with_capacity(by_name.len());
    for line in text.lines() {
        if let Some(names) = line.strip_prefix("@ ") {
            any = names
                .split(' ')
                .filter_map(|name| by_name.get(name).copied())
                .collect();
        } else if let Some(listed) = line.strip_prefix("# ") {
            // The table lives as long as the program.
            codes.push(Vec::leak(listed.split(' ').collect()));
        } else if let Some(listed) = line.strip_prefix("> ") {
            let kinds = listed.split(' ').filter_map(ResourceType::parse);
            targets.push(Vec::leak(kinds.collect()));
        } else if let Some(row) = line.strip_prefix('\t') {
            let mut columns = row.split(' ');
            let (Some(name), Some(range), Some(types)) =
                (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            let types = if types == "@" {
                any.clone()
            } else {
                types
                    .split('|')
                    .filter_map(|name| by_name.get(name).copied())
                    .collect()
            };
            let choice = name.strip_suffix("[x]");
            let mut element = Element {
                name: choice.unwrap_or(name),
                min: range.as_bytes()[0] - b'0',
                many: range.as_bytes()[1] == b'*',
                summary: range.contains('s'),
                modifier: range.contains('m'),
                types,
                choice: Vec::new(),
                codes: None,
                system: "",
                targets: None,
            };
            for column in columns {
                let listed = |from: &str| column.strip_prefix(from)?.parse::<usize>().ok();
                if let Some(place) = listed("#") {
                    element.codes = codes.get(place).copied();
                } else if let Some(place) = listed(">") {
                    element.targets = targets.get(place).copied();
                } else {
                    element.system = column;
                }
            }
            if let Some(structure) = list.last_mut() {
                structure.elements.push(element);
                if choice.is_some() {
                    // Filled in below, when all names are known.
                    structure
                        .elements
                        .last_mut()
                        .into_iter()
                        .for_each(|element| element.choice.push(String::new()));
                }
            }
        } else {
            let (name, base) = line
                .split_once(' ')
                .map_or((line, None), |(name, base)| (name, Some(base)));
            list.push(Structure {
                name,
                base,
                elements: Vec::new(),
                primitive: Primitive::of(name),
                is_resource: name == "Resource"
                    || matches!(base, Some("Resource" | "DomainResource")),
                required: 0,
                members: Vec::new(),
            });
        }
    }
    let names: Vec<&'static str> = list.iter().map(|structure| structure.name).collect();
    for element in list
        .iter_mut()
        .flat_map(|structure| &mut structure.elements)
    {
        if !element.choice.is_empty() {
            let members = element.types.iter().map(|id| {
                let (first, rest) = names[usize::from(id.0)].split_at(1);
                format!("{}{}{rest}", element.name, first.to_ascii_uppercase())
            });
            element.choice = members.collect();
        }
    }
    list.iter_mut().for_each(list_members);
    Structures { list, by_name }
}

fn list_members(structure: &mut Structure) {
    let mut members = Vec::with_capacity(structure.elements.len());
    for (element, place) in structure.elements.iter().zip(0..) {
        if element.choice.is_empty() {
            members.push(Member {
                name: element.name,
                element: place,
                kind: element.types[0],
            });
        }
        for (name, kind) in element.choice.iter().zip(&element.types) {
            members.push(Member {
                // The table lives as long as the program.
                name: name.clone().leak(),
                element: place,
                kind: *kind,
            });
        }
    }
    members.sort_unstable_by_key(|member| member.name);
    structure.members = members;
    for (element, place) in structure.elements.iter().zip(0..) {
        structure.required |= u128::from(element.min > 0) << place;
    }
}

/// The types that a reference parameter can point to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Targets {
    Any,
    Some(Vec<ResourceType>),
}

/// What is known of a search parameter beside its expression.
#[derive(Debug)]
pub(crate) struct ParameterDetail {
    pub(crate) targets: Targets,
    /// The code system that a `code` element's binding implies; empty where there is none.
    pub(crate) system: &'static str,
    /// Of a composite parameter: the parameters that its parts are values of, and where each is.
    pub(crate) components: Vec<(&'static str, &'static str)>,
}

/// The search parameters of a resource type, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct TypeSearch {
    pub(crate) parameters: Vec<Parameter>,
    /// As long as `parameters`.
    pub(crate) details: Vec<ParameterDetail>,
    /// The parameters by which a resource belongs to a patient's compartment, the owner's first.
    pub(crate) compartment: Vec<&'static str>,
}

impl TypeSearch {
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.parameters
            .binary_search_by(|parameter| parameter.name.cmp(name))
            .ok()
    }
}

/// The search parameters of a type.
pub(crate) fn search(kind: ResourceType) -> &'static TypeSearch {
    static TABLE: OnceLock<Vec<TypeSearch>> = OnceLock::new();
    &TABLE.get_or_init(|| parse_search(include_str!("search.txt")))[kind.index()]
}

fn parse_search(text: &'static str) -> Vec<TypeSearch> {
    let mut table: Vec<TypeSearch> = NAMES.iter().map(|_| TypeSearch::default()).collect();
    let mut current = 0;
    for line in text.lines() {
        if let Some(row) = line.strip_prefix('\t') {
            let columns: Vec<&'static str> = row.split('\t').collect();
            let &[name, kind, targets, system, expression, ref more @ ..] = columns.as_slice()
            else {
                continue;
            };
            let parts = more.first().into_iter().flat_map(|list| list.split(';'));
            let components = parts.filter_map(|part| part.split_once('=')).collect();
            let kind = match kind {
                "t" => ParameterKind::Token,
                "s" => ParameterKind::String,
                "d" => ParameterKind::Date,
                "r" => ParameterKind::Reference,
                "n" => ParameterKind::Number,
                "q" => ParameterKind::Quantity,
                "c" => ParameterKind::Composite,
                "x" => ParameterKind::Special,
                _ => ParameterKind::Uri,
            };
            let targets = match targets {
                "" | "*" => Targets::Any,
                listed => {
                    Targets::Some(listed.split(',').filter_map(ResourceType::parse).collect())
                }
            };
            table[current].parameters.push(Parameter {
                name,
                kind,
                expression,
            });
            table[current].details.push(ParameterDetail {
                targets,
                system,
                components,
            });
        } else {
            let mut words = line.split(' ');
            if let Some(kind) = words.next().and_then(ResourceType::parse) {
                current = kind.index();
                table[current].compartment = words.collect();
            }
        }
    }
    table
}

/// One of R4's compartments (section 5.4): the parameters by which resources of each type belong to it.
#[derive(Debug)]
pub(crate) struct CompartmentTable {
    /// The type of the resource that it is about.
    pub(crate) kind: ResourceType,
    /// Sorted by type. `{def}` is the resource itself.
    pub(crate) members: Vec<(ResourceType, Vec<&'static str>)>,
}

/// All compartments.
pub(crate) fn compartments() -> &'static [CompartmentTable] {
    static TABLE: OnceLock<Vec<CompartmentTable>> = OnceLock::new();
    TABLE.get_or_init(|| parse_compartments(include_str!("compartments.txt")))
}

fn parse_compartments(text: &'static str) -> Vec<CompartmentTable> {
    let mut table: Vec<CompartmentTable> = Vec::new();
    for line in text.lines() {
        let mut words = line.trim_start().split(' ');
        let Some(kind) = words.next().and_then(ResourceType::parse) else {
            continue;
        };
        match table.last_mut().filter(|_| line.starts_with('\t')) {
            Some(current) => current.members.push((kind, words.collect())),
            None => table.push(CompartmentTable {
                kind,
                members: Vec::new(),
            }),
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compartments_are_of_parameters_that_there_are() {
        let table = compartments();
        let sizes: Vec<_> = table
            .iter()
            .map(|one| (one.kind.name(), one.members.len()))
            .collect();
        assert_eq!(
            sizes,
            [
                ("Patient", 66),
                ("Practitioner", 59),
                ("RelatedPerson", 32),
                ("Device", 32),
                ("Encounter", 25)
            ]
        );
        for one in table {
            assert!(one.members.is_sorted_by(|a, b| a.0 < b.0), "{}", one.kind);
            for (kind, names) in &one.members {
                for name in names.iter().filter(|name| **name != "{def}") {
                    let place = search(*kind).position(name);
                    let parameter = place.map(|place| &search(*kind).parameters[place]);
                    assert!(
                        parameter.is_some_and(|one| one.kind == ParameterKind::Reference),
                        "{} {kind} {name}",
                        one.kind
                    );
                }
            }
        }
    }

    #[test]
    fn the_tables_are_whole() {
        let structures = structures();
        for structure in structures.all() {
            assert!(
                structure
                    .base
                    .is_none_or(|base| structures.find(base).is_some()),
                "{}",
                structure.name
            );
            assert!(structure.elements.len() <= ELEMENTS_MAX);
            assert_eq!(
                structure.is_primitive(),
                structure.primitive.is_some(),
                "{}",
                structure.name
            );
            assert!(
                structure.members.is_sorted_by(|a, b| a.name < b.name),
                "{}",
                structure.name
            );
            for element in &structure.elements {
                assert!(element.codes.is_none_or(<[&str]>::is_sorted));
                assert!(element.system.is_empty() || element.codes.is_some());
                assert!(
                    !element.types.is_empty(),
                    "{}.{}",
                    structure.name,
                    element.name
                );
                assert!(element.choice.is_empty() || element.choice.len() == element.types.len());
            }
        }
        for kind in ResourceType::all() {
            let id = structures.find(kind.name()).unwrap();
            assert!(structures.get(id).element("meta").is_some(), "{kind}");
            let search = search(kind);
            assert!(
                search.parameters.is_sorted_by(|a, b| a.name < b.name),
                "{kind}"
            );
            assert_eq!(search.parameters.len(), search.details.len());
            for name in &search.compartment {
                assert!(search.position(name).is_some(), "{kind} {name}");
            }
        }
    }

    #[test]
    fn samples_of_the_tables() {
        let structures = structures();
        let observation = structures.get(structures.find("Observation").unwrap());
        let value = observation.element("value").unwrap();
        assert!(value.choice.iter().any(|member| member == "valueQuantity"));
        assert_eq!(
            observation.element("status").unwrap().codes.unwrap().len(),
            8
        );
        let status = observation.element("status").unwrap();
        assert!(status.summary && status.modifier);
        assert!(!observation.element("category").unwrap().summary);
        let condition = structures.get(structures.find("Condition").unwrap());
        let clinical = condition.element("clinicalStatus").unwrap();
        assert_eq!(clinical.codes.unwrap().len(), 6);
        assert!(clinical.system.ends_with("/condition-clinical"));
        let subject = observation.element("subject").unwrap().targets.unwrap();
        assert_eq!(subject.len(), 4);
        assert!(observation.element("focus").unwrap().targets.is_none());
        let (_, quantity) = observation.member("valueQuantity").unwrap();
        assert_eq!(structures.get(quantity).name, "Quantity");
        assert!(observation.member("valueHumanName").is_none());
        assert!(structures.is_a(
            structures.find("Age").unwrap(),
            structures.find("Quantity").unwrap()
        ));
        assert!(!structures.is_a(
            structures.find("Age").unwrap(),
            structures.find("Range").unwrap()
        ));
        assert_eq!(
            search(ResourceType::Observation).compartment,
            ["subject", "performer"]
        );
        assert_eq!(search(ResourceType::Coverage).compartment[0], "beneficiary");
    }
}
