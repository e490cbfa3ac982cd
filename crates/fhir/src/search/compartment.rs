//! Compartments (R4, section 5.4): the resources that are about a patient, a practitioner, a related
//! person, a device or an encounter.
use super::{Clause, Condition, Operand, ParameterKind};
use crate::facts::{CompartmentTable, compartments};
use crate::{ResourceType, is_id};

/// What R4's table calls the resource that a compartment is about.
const ITSELF: &str = "{def}";

/// The compartment of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compartment {
    /// The type of the resource that it is about.
    pub kind: ResourceType,
    /// Its id.
    pub id: String,
}

impl Compartment {
    /// The compartment of a resource; `None` where a type has none, or for no id at all.
    #[must_use]
    pub fn of(kind: ResourceType, id: &str) -> Option<Self> {
        table(kind).filter(|_| is_id(id)).map(|_| Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// The types that have a compartment.
    pub fn kinds() -> impl Iterator<Item = ResourceType> {
        compartments().iter().map(|table| table.kind)
    }

    /// The types whose resources can be in it.
    pub fn members(&self) -> impl Iterator<Item = ResourceType> + use<> {
        let kind = self.kind;
        ResourceType::all().filter(move |member| !parameters(kind, *member).is_empty())
    }

    /// What resources of a type say that are in it; `None` when none are.
    #[must_use]
    pub fn condition(&self, member: ResourceType) -> Option<Condition> {
        let clauses = parameters(self.kind, member).into_iter().map(|name| {
            let (kind, operand) = if name == ITSELF {
                let operand = Operand::Token {
                    system: None,
                    code: Some(self.id.clone()),
                };
                (ParameterKind::Token, operand)
            } else {
                let operand = Operand::Reference {
                    kind: Some(self.kind),
                    id: self.id.clone(),
                    url: None,
                };
                (ParameterKind::Reference, operand)
            };
            Condition::Clause(Clause {
                parameter: if name == ITSELF { "_id" } else { name }.to_owned(),
                own: None,
                kind,
                modifier: None,
                operands: vec![operand],
            })
        });
        let mut clauses: Vec<Condition> = clauses.collect();
        match clauses.len() {
            0 => None,
            1 => clauses.pop(),
            _ => Some(Condition::Any(clauses)),
        }
    }
}

fn table(kind: ResourceType) -> Option<&'static CompartmentTable> {
    compartments().iter().find(|table| table.kind == kind)
}

/// By what a type's resources belong to a compartment of a type. A patient is in their own (section 5.4.2),
/// which the table doesn't say.
fn parameters(kind: ResourceType, member: ResourceType) -> Vec<&'static str> {
    let listed = table(kind).and_then(|table| {
        let place = table.members.binary_search_by_key(&member, |(of, _)| *of);
        place.ok().map(|place| table.members[place].1.clone())
    });
    let mut names = listed.unwrap_or_default();
    if kind == ResourceType::Patient && member == kind {
        names.push(ITSELF);
    }
    names
}
