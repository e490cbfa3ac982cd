//! What can be known to be wrong of an expression before there is data: elements that the types it
//! goes through don't have.
//!
//! A type that can't be told (a variable, most functions, what a reference leads to, any resource)
//! is one of which nothing is said, so what evaluates well is never found fault with.

use super::Expression;
use super::functions::Function;
use super::parse::{Expr, Kind, Operator, Start, Step, StepKind, TypeName};
use crate::ResourceType;
use crate::facts::{Structure, TypeId, structures};

/// Something of an expression that can't be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFinding {
    /// Character position, from 0.
    pub position: usize,
    /// What is wrong.
    pub message: String,
}

impl Expression {
    /// The elements that the expression names and that no type has which could be there, when it is
    /// evaluated on a resource of a type.
    #[must_use]
    pub fn unknown_elements(&self, focus: ResourceType) -> Vec<PathFinding> {
        let mut check = Check::default();
        check.expr(
            &self.root,
            &structures().find(focus.name()).map(|kind| vec![kind]),
        );
        check.findings
    }
}

/// The types that items may be of; nothing where any is possible.
type Types = Option<Vec<TypeId>>;

#[derive(Default)]
struct Check {
    findings: Vec<PathFinding>,
}

fn both(left: Types, right: Types) -> Types {
    let (mut left, right) = left.zip(right)?;
    for kind in right {
        if !left.contains(&kind) {
            left.push(kind);
        }
    }
    Some(left)
}

/// Whether elements of the type may be of any other one that specialises it.
fn is_open(structure: &Structure) -> bool {
    matches!(
        structure.name,
        "Resource" | "DomainResource" | "Element" | "BackboneElement"
    )
}

fn of_type(types: Types, name: TypeName) -> Types {
    let TypeName::Fhir(wanted) = name else {
        return None;
    };
    let Some(types) = types else {
        return Some(vec![wanted]);
    };
    let mut kept = Vec::new();
    for kind in types {
        if structures().is_a(kind, wanted) {
            kept.push(kind);
        } else if structures().is_a(wanted, kind) {
            kept.push(wanted);
        }
    }
    Some(kept)
}

impl Check {
    fn expr(&mut self, expr: &Expr, this: &Types) -> Types {
        match &expr.kind {
            Kind::Empty => Some(Vec::new()),
            Kind::Literal(_) => None,
            Kind::Path(start, steps) => self.path(start, steps, this),
            Kind::Negate(operand) | Kind::Is(operand, _) => {
                self.expr(operand, this);
                None
            }
            Kind::As(operand, name) => of_type(self.expr(operand, this), *name),
            Kind::Binary(operator, left, right) => {
                let (left, right) = (self.expr(left, this), self.expr(right, this));
                if *operator == Operator::Union {
                    both(left, right)
                } else {
                    None
                }
            }
        }
    }

    fn path(&mut self, start: &Start, steps: &[Step], this: &Types) -> Types {
        let mut steps = steps;
        let mut types = match start {
            Start::This => this.clone(),
            Start::Index | Start::Total | Start::Variable(_) => None,
            Start::Expr(expr) => self.expr(expr, this),
            Start::Focus => match steps.split_first() {
                Some((step, rest)) => match type_named(step) {
                    Some(wanted) => {
                        steps = rest;
                        of_type(this.clone(), TypeName::Fhir(wanted))
                    }
                    None => this.clone(),
                },
                None => this.clone(),
            },
        };
        for step in steps {
            types = self.step(step, types, this);
        }
        types
    }

    fn step(&mut self, step: &Step, types: Types, this: &Types) -> Types {
        match &step.kind {
            StepKind::Member(name, _) => self.member(step.position, name, &types?),
            StepKind::At(index) => {
                self.expr(index, this);
                types
            }
            StepKind::OfType(name) => of_type(types, *name),
            StepKind::Is(_) => None,
            StepKind::Matches(_, replacement) => {
                if let Some(replacement) = replacement {
                    self.expr(replacement, this);
                }
                None
            }
            StepKind::Call(function, arguments) => self.call(*function, arguments, types, this),
        }
    }

    fn member(&mut self, position: usize, name: &str, types: &[TypeId]) -> Types {
        let mut found: Vec<TypeId> = Vec::new();
        let mut anywhere = types.is_empty();
        for kind in types {
            let structure = structures().get(*kind);
            if is_open(structure) {
                return None;
            }
            if let Some(element) = structure.element(name) {
                anywhere = true;
                found.extend(&element.types);
            } else if let Some((_, kind)) = structure.member(name) {
                anywhere = true;
                found.push(kind);
            } else if matches!(name, "id" | "extension") {
                // Those of primitive elements lie beside them.
                return None;
            }
        }
        if !anywhere {
            let message = no_element(name, types);
            self.findings.push(PathFinding { position, message });
            return None;
        }
        Some(found)
    }

    fn call(
        &mut self,
        function: Function,
        arguments: &[Expr],
        types: Types,
        this: &Types,
    ) -> Types {
        use Function as F;
        let inner = match function {
            F::Where | F::Select | F::Exists | F::All | F::Trace => types.clone(),
            // These see items that have been through the expression before.
            F::Repeat | F::Aggregate | F::Sort | F::Iif => None,
            _ => this.clone(),
        };
        let mut given = Vec::with_capacity(arguments.len());
        for argument in arguments {
            given.push(self.expr(argument, &inner));
        }
        match function {
            F::Where
            | F::First
            | F::Last
            | F::Tail
            | F::Skip
            | F::Take
            | F::Single
            | F::Distinct
            | F::Trace
            | F::Exclude
            | F::Intersect
            | F::Sort => types,
            F::Select => given.into_iter().next()?,
            F::Union | F::Combine => both(types, given.into_iter().next()?),
            _ => None,
        }
    }
}

/// The type that the first step of a path names, in place of an element.
fn type_named(step: &Step) -> Option<TypeId> {
    let StepKind::Member(name, _) = &step.kind else {
        return None;
    };
    name.starts_with(|first: char| first.is_ascii_uppercase())
        .then(|| structures().find(name))?
}

fn no_element(name: &str, types: &[TypeId]) -> String {
    let names: Vec<&str> = types
        .iter()
        .map(|kind| structures().get(*kind).name)
        .collect();
    format!("no element `{name}` in {}", names.join(" or "))
}

#[cfg(test)]
mod tests;
