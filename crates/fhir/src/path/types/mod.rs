//! What can be known to be wrong of an expression before there is data: elements that the types it goes through don't
//! have, codes that an element can't have, comparisons that never come out true, functions of what they can do nothing
//! with, and results that are not what is wanted.
//!
//! A type that can't be told (a variable, some functions, what a reference leads to, any resource) is one of which
//! nothing is said, so what evaluates well is never found fault with. What depends on how many there are in the data
//! is told apart ([`PathFinding::certain`]).

mod calls;
mod given;
mod kinds;
mod operators;

use super::Expression;
use super::parse::{
    Expr, Kind as Form, Literal, Operator, Start, Step, StepKind, System, TypeName,
};
use crate::ResourceType;
use crate::facts::{Structure, TypeId, structures};
use crate::nearest::suggestion;
pub use given::Given;
use kinds::{Kind, Of, Sort, What};
use operators::Pair;

/// Something of an expression that can't be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFinding {
    /// Character position, from 0.
    pub position: usize,
    /// What is wrong.
    pub message: String,
    /// Whether it is wrong whatever the data are; else where there are several of something, or other codes.
    pub certain: bool,
    /// Whether it is that there is nothing of a name.
    pub is_name: bool,
}

/// What is to come of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever there is.
    Anything,
    /// That it holds or not.
    Condition,
    /// A date or a time.
    Moment,
    /// A number.
    Number,
}

impl Expression {
    /// What is wrong with the expression when it is evaluated on a resource of a type, for something.
    #[must_use]
    pub fn faults(&self, focus: ResourceType, wanted: Wanted) -> Vec<PathFinding> {
        let this = structures().find(focus.name());
        let this = this.map_or_else(What::unknown, |kind| What::one(Kind::fhir(kind)));
        self.faults_on(&this, wanted)
    }

    /// What is wrong with the expression when it is evaluated on something of a shape that is told.
    #[must_use]
    pub fn faults_of(&self, given: &Given<'_>, wanted: Wanted) -> Vec<PathFinding> {
        self.faults_on(&What::given(given), wanted)
    }

    fn faults_on(&self, this: &What<'_>, wanted: Wanted) -> Vec<PathFinding> {
        let mut check = Check {
            findings: Vec::new(),
            root: this.clone(),
        };
        let what = check.expr(&self.root, this);
        check.result(&self.root, &what, wanted);
        check.findings.sort_by_key(|found| found.position);
        check.findings.dedup();
        check.findings
    }
}

struct Check<'a> {
    findings: Vec<PathFinding>,
    /// What it is evaluated on.
    root: What<'a>,
}

/// Whether elements of the type may be of any other one that specialises it.
fn is_open(structure: &Structure) -> bool {
    matches!(
        structure.name,
        "Resource" | "DomainResource" | "Element" | "BackboneElement"
    )
}

/// The texts that an expression is made of, where it is nothing else.
fn texts(expr: &Expr) -> Vec<(usize, &str)> {
    match &expr.kind {
        Form::Literal(Literal::Text(text)) => vec![(expr.position, text)],
        Form::Path(Start::Expr(inner), steps) if steps.is_empty() => texts(inner),
        Form::Binary(Operator::Union, left, right) => {
            let mut all = texts(left);
            all.extend(texts(right));
            all
        }
        _ => Vec::new(),
    }
}

impl<'a> Check<'a> {
    fn wrong(&mut self, position: usize, message: String) {
        self.findings.push(PathFinding {
            position,
            message,
            certain: true,
            is_name: false,
        });
    }

    fn unsure(&mut self, position: usize, message: String) {
        self.findings.push(PathFinding {
            position,
            message,
            certain: false,
            is_name: false,
        });
    }

    fn result(&mut self, expr: &Expr, what: &What<'_>, wanted: Wanted) {
        let (fits, words): (fn(Sort) -> bool, _) = match wanted {
            Wanted::Anything => return,
            Wanted::Condition => (
                |sort| sort == Sort::Boolean,
                "this has to be true or false, and is",
            ),
            Wanted::Moment => (
                |sort| matches!(sort, Sort::Moment | Sort::Text),
                "this has to be a date or a time, and is",
            ),
            Wanted::Number => (
                |sort| sort == Sort::Number,
                "this has to be a number, and is",
            ),
        };
        if what.is_never(fits) {
            self.wrong(expr.position, format!("{words} {}", what.words()));
        } else if matches!(wanted, Wanted::Condition | Wanted::Number) {
            self.is_single(expr, what);
        }
    }

    fn expr(&mut self, expr: &Expr, this: &What<'a>) -> What<'a> {
        match &expr.kind {
            Form::Empty => What::nothing(),
            Form::Literal(literal) => What::literal(literal),
            Form::Path(start, steps) => self.path(start, steps, this),
            Form::Negate(operand) => {
                let what = self.expr(operand, this);
                self.is_single(operand, &what);
                if what.is_never(|sort| matches!(sort, Sort::Number | Sort::Quantity)) {
                    let words = format!("`-` wants a number, and this is {}", what.words());
                    self.wrong(operand.position, words);
                }
                what.single()
            }
            Form::Is(operand, name) => {
                let what = self.expr(operand, this);
                self.kept(expr.position, &what, *name);
                What::system(System::Boolean)
            }
            Form::As(operand, name) => {
                let what = self.expr(operand, this);
                self.kept(expr.position, &what, *name)
            }
            Form::Binary(operator, left, right) => {
                let pair = Pair {
                    position: expr.position,
                    left: (left, self.expr(left, this)),
                    right: (right, self.expr(right, this)),
                };
                self.operate(*operator, pair)
            }
        }
    }

    /// What of it may be of a type.
    fn kept(&mut self, position: usize, what: &What<'a>, name: TypeName) -> What<'a> {
        let many = what.many;
        let TypeName::Fhir(wanted) = name else {
            return What { kinds: None, many };
        };
        let Some(kinds) = &what.kinds else {
            return What {
                kinds: Some(vec![Kind::fhir(wanted)]),
                many,
            };
        };
        let mut kept = Vec::new();
        let mut may_be = kinds.is_empty();
        for kind in kinds {
            match kind.of {
                // What is computed has types of the same names.
                Of::System(_) | Of::Given(_) => may_be = true,
                Of::Fhir(of) if structures().is_a(of, wanted) => kept.push(*kind),
                Of::Fhir(of) if structures().is_a(wanted, of) => kept.push(Kind::fhir(wanted)),
                Of::Fhir(_) => {}
            }
        }
        if kept.is_empty() && !may_be {
            let wanted = structures().get(wanted).name;
            self.wrong(position, format!("{} is never {wanted}", what.words()));
            return What::unknown();
        }
        let kinds = (!may_be).then_some(kept);
        What { kinds, many }
    }

    fn path(&mut self, start: &Start, steps: &[Step], this: &What<'a>) -> What<'a> {
        let mut steps = steps;
        let mut what = match start {
            Start::This => this.clone(),
            Start::Index => What::system(System::Integer),
            Start::Variable(name) if matches!(name.as_str(), "resource" | "context") => {
                self.root.clone()
            }
            Start::Total | Start::Variable(_) => What::unknown(),
            Start::Expr(expr) => self.expr(expr, this),
            Start::Focus => match steps.split_first() {
                Some((step, rest)) => match type_named(step) {
                    Some(wanted) => {
                        steps = rest;
                        let before = self.findings.len();
                        let what = self.kept(step.position, this, TypeName::Fhir(wanted));
                        // An expression for several types names each of them.
                        self.findings.truncate(before);
                        what
                    }
                    None => this.clone(),
                },
                None => this.clone(),
            },
        };
        for step in steps {
            what = self.step(step, what, this);
        }
        what
    }

    fn step(&mut self, step: &Step, what: What<'a>, this: &What<'a>) -> What<'a> {
        match &step.kind {
            StepKind::Member(name, _) => self.member(step.position, name, &what),
            StepKind::At(index) => {
                self.expr(index, this);
                what.single()
            }
            StepKind::OfType(name) => self.kept(step.position, &what, *name),
            StepKind::Is(name) => {
                self.kept(step.position, &what, *name);
                What::system(System::Boolean)
            }
            StepKind::Matches(_, replacement) => {
                self.wants_text(step.position, "matches", &what);
                match replacement {
                    None => What::system(System::Boolean),
                    Some(replacement) => {
                        self.expr(replacement, this);
                        What::system(System::String)
                    }
                }
            }
            StepKind::Call(function, arguments) => {
                self.call(step.position, *function, arguments, what, this)
            }
        }
    }

    fn member(&mut self, position: usize, name: &str, what: &What<'a>) -> What<'a> {
        let Some(kinds) = &what.kinds else {
            return What::unknown();
        };
        if let Some(Of::Given(given)) = kinds.first().map(|kind| kind.of)
            && kinds.len() == 1
        {
            return self.member_given(position, name, given);
        }
        let mut found: Vec<Kind<'a>> = Vec::new();
        let mut many = what.many;
        let mut anywhere = kinds.is_empty();
        let mut types = Vec::new();
        for kind in kinds {
            let Of::Fhir(of) = kind.of else {
                return What::unknown();
            };
            let structure = structures().get(of);
            if is_open(structure) {
                return What::unknown();
            }
            types.push(structure);
            let (element, of) = if let Some(element) = structure.element(name) {
                (element, element.types.clone())
            } else if let Some((element, of)) = structure.member(name) {
                (element, vec![of])
            } else if matches!(name, "id" | "extension" | "resourceType") || name.starts_with('_') {
                // Those of primitive elements lie beside them, and so does what JSON alone has.
                return What::unknown();
            } else {
                continue;
            };
            anywhere = true;
            many |= element.many;
            // A concept's codes are those of its codings, beside which there may be others.
            let within = kind.codes.filter(|_| matches!(name, "coding" | "code"));
            found.extend(of.into_iter().map(|of| Kind {
                of: Of::Fhir(of),
                codes: element.codes.or(within),
                beside: within.is_some(),
            }));
        }
        if !anywhere {
            self.wrong(position, no_element(name, &types));
            return What::unknown();
        }
        What {
            kinds: Some(found),
            many,
        }
    }
}

impl<'a> Check<'a> {
    fn member_given(&mut self, position: usize, name: &str, given: &'a Given<'a>) -> What<'a> {
        let members = match given {
            Given::Members(members) => members.as_slice(),
            Given::Unknown => return What::unknown(),
            _ => &[],
        };
        if let Some((_, member)) = members.iter().find(|(known, _)| *known == name) {
            return What::given(member);
        }
        let near = suggestion(name, members.iter().map(|(name, _)| *name));
        let message = format!("there is no `{name}` here{near}");
        self.findings.push(PathFinding {
            position,
            message,
            certain: true,
            is_name: true,
        });
        What::unknown()
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

fn no_element(name: &str, types: &[&Structure]) -> String {
    let names: Vec<&str> = types.iter().map(|kind| kind.name).collect();
    let elements = (types.iter()).flat_map(|kind| kind.elements.iter().map(|one| one.name));
    let near = suggestion(name, elements);
    format!("no element `{name}` in {}{near}", names.join(" or "))
}

#[cfg(test)]
mod tests;
