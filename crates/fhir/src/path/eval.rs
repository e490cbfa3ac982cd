//! Evaluation of a tree on a focus.
use super::navigate::member;
use super::operate::{arithmetic, collections_equal, collections_equivalent, membership};
use super::parse::{Expr, Kind, Literal, Operator, Start, Step, StepKind};
use super::value::{Comparison, It, Node, compare};
use super::{Budget, Environment, PathError};
use crate::facts::structures;
use serde_json::Value;
use std::borrow::Cow;
use std::cell::RefCell;

pub(super) type Items<'a> = Vec<It<'a>>;
pub(super) type Outcome<'a> = Result<Items<'a>, PathError>;

pub(super) fn evaluate<'a>(
    expr: &Expr,
    focus: &'a Value,
    environment: &Environment<'a>,
    budget: &Budget,
) -> Outcome<'a> {
    let focus = It::Node(Node::new(focus));
    let evaluation = Evaluation {
        environment,
        budget,
        root: focus.clone(),
        total: RefCell::default(),
    };
    evaluation.expr(
        expr,
        &Scope {
            this: focus,
            index: 0,
        },
    )
}

pub(super) struct Evaluation<'e, 'a> {
    pub(super) environment: &'e Environment<'a>,
    pub(super) budget: &'e Budget,
    pub(super) root: It<'a>,
    /// `$total` of the innermost `aggregate` that is under way.
    pub(super) total: RefCell<Items<'a>>,
}

/// What `$this` and `$index` are.
pub(super) struct Scope<'a> {
    pub(super) this: It<'a>,
    pub(super) index: usize,
}

pub(super) fn boolean<'a>(value: Option<bool>) -> Items<'a> {
    value.map(It::Bool).into_iter().collect()
}

impl<'a> Evaluation<'_, 'a> {
    pub(super) fn expr(&self, expr: &Expr, scope: &Scope<'a>) -> Outcome<'a> {
        let found = self.one(expr, scope)?;
        self.items(expr.position, &found)?;
        Ok(found)
    }

    fn one(&self, expr: &Expr, scope: &Scope<'a>) -> Outcome<'a> {
        Ok(match &expr.kind {
            Kind::Empty => Vec::new(),
            Kind::Literal(literal) => vec![match literal {
                Literal::Bool(value) => It::Bool(*value),
                Literal::Text(text) => It::Str(Cow::Owned(text.clone())),
                Literal::Integer(value) => It::Int(*value),
                Literal::Decimal(value) => It::Dec(*value),
                Literal::Date(parts) => It::Date(*parts),
                Literal::DateTime(parts) => It::DateTime(*parts),
                Literal::Time(parts) => It::Time(*parts),
                Literal::Quantity(value, unit) => It::Qty(*value, Cow::Owned(unit.clone())),
            }],
            Kind::Path(start, steps) => self.path(expr.position, start, steps, scope)?,
            Kind::Negate(operand) => match single(self.expr(operand, scope)?, expr.position)? {
                None => Vec::new(),
                Some(It::Int(value)) => vec![It::Int(
                    value.checked_neg().ok_or_else(|| overflow(expr.position))?,
                )],
                Some(It::Dec(value)) => vec![It::Dec(-value)],
                Some(It::Qty(value, unit)) => vec![It::Qty(-value, unit)],
                Some(_) => return Err(PathError::new(expr.position, "`-` wants a number")),
            },
            Kind::Is(operand, name) => match single_raw(self.expr(operand, scope)?, expr.position)?
            {
                None => Vec::new(),
                Some(item) => vec![It::Bool(item.is(*name))],
            },
            Kind::As(operand, name) => self
                .expr(operand, scope)?
                .into_iter()
                .filter(|item| item.fits(*name))
                .collect(),
            Kind::Binary(operator, left, right) => {
                self.binary(*operator, left, right, expr.position, scope)?
            }
        })
    }

    /// The three-valued truth of an operand: a single item that isn't a boolean counts as true.
    pub(super) fn truth(&self, expr: &Expr, scope: &Scope<'a>) -> Result<Option<bool>, PathError> {
        let item = single_raw(self.expr(expr, scope)?, expr.position)?;
        Ok(item.map(|item| item.as_bool().unwrap_or(true)))
    }

    fn binary(
        &self,
        operator: Operator,
        left: &Expr,
        right: &Expr,
        position: usize,
        scope: &Scope<'a>,
    ) -> Outcome<'a> {
        use Operator::*;
        match operator {
            And | Or | Xor | Implies => {
                let a = self.truth(left, scope)?;
                // What is decided by the left side alone needs no right side.
                match (operator, a) {
                    (And, Some(false)) => return Ok(boolean(Some(false))),
                    (Or, Some(true)) | (Implies, Some(false)) => return Ok(boolean(Some(true))),
                    _ => {}
                }
                let b = self.truth(right, scope)?;
                Ok(boolean(match operator {
                    And => match (a, b) {
                        (_, Some(false)) => Some(false),
                        (Some(true), Some(true)) => Some(true),
                        _ => None,
                    },
                    Or => match (a, b) {
                        (_, Some(true)) => Some(true),
                        (Some(false), Some(false)) => Some(false),
                        _ => None,
                    },
                    Xor => a.zip(b).map(|(a, b)| a != b),
                    _ => match (a, b) {
                        (_, Some(true)) => Some(true),
                        (Some(true), b) => b,
                        _ => None,
                    },
                }))
            }
            _ => {
                let a = self.expr(left, scope)?;
                let b = self.expr(right, scope)?;
                self.operate(operator, a, b, position)
            }
        }
    }

    fn operate(
        &self,
        operator: Operator,
        a: Items<'a>,
        b: Items<'a>,
        position: usize,
    ) -> Outcome<'a> {
        use Operator::*;
        Ok(match operator {
            Equal | NotEqual => {
                if a.len() == b.len() {
                    self.compared(position, &a, 1)?;
                }
                let wanted = operator == Equal;
                boolean(collections_equal(&a, &b).map(|equal| equal == wanted))
            }
            Equivalent | NotEquivalent => {
                if a.len() == b.len() {
                    self.compared(position, &a, b.len())?;
                }
                boolean(Some(
                    collections_equivalent(&a, &b) == (operator == Equivalent),
                ))
            }
            Union => self.distinct(position, a.into_iter().chain(b))?,
            In => {
                self.compared(position, &a, b.len())?;
                membership(a, &b, position)?
            }
            Contains => {
                self.compared(position, &b, a.len())?;
                membership(b, &a, position)?
            }
            Less | LessOrEqual | Greater | GreaterOrEqual => {
                let (Some(a), Some(b)) = (single(a, position)?, single(b, position)?) else {
                    return Ok(Vec::new());
                };
                match compare(&a, &b) {
                    Comparison::Is(ordering) => boolean(Some(match operator {
                        Less => ordering.is_lt(),
                        LessOrEqual => ordering.is_le(),
                        Greater => ordering.is_gt(),
                        _ => ordering.is_ge(),
                    })),
                    Comparison::Unknown => Vec::new(),
                    Comparison::Wrong => {
                        return Err(PathError::new(
                            position,
                            "values of these types can't be compared",
                        ));
                    }
                }
            }
            Concatenate => {
                let mut text = String::new();
                for item in [single(a, position)?, single(b, position)?]
                    .into_iter()
                    .flatten()
                {
                    match item {
                        It::Str(part) => text += &part,
                        _ => return Err(PathError::new(position, "`&` wants texts")),
                    }
                }
                vec![It::Str(Cow::Owned(text))]
            }
            _ => {
                let (Some(a), Some(b)) = (single(a, position)?, single(b, position)?) else {
                    return Ok(Vec::new());
                };
                arithmetic(operator, a, b, position)?.into_iter().collect()
            }
        })
    }

    fn path(
        &self,
        position: usize,
        start: &Start,
        steps: &[Step],
        scope: &Scope<'a>,
    ) -> Outcome<'a> {
        let mut steps = steps;
        let mut items = match start {
            Start::This => vec![scope.this.clone()],
            Start::Index => vec![It::Int(i64::try_from(scope.index).unwrap_or(i64::MAX))],
            Start::Total => self.total.borrow().clone(),
            Start::Expr(expr) => self.expr(expr, scope)?,
            Start::Variable(name) => match self.variable(name, position)? {
                // FHIR has no lists in lists: what is given as one is a collection.
                It::Node(Node {
                    value: Value::Array(items),
                    ..
                }) => items.iter().map(|item| It::Node(Node::new(item))).collect(),
                item => vec![item],
            },
            Start::Focus => {
                if let Some((
                    Step {
                        kind: StepKind::Member(name, _),
                        ..
                    },
                    rest,
                )) = steps.split_first()
                    && name.starts_with(|first: char| first.is_ascii_uppercase())
                    && let It::Node(Node {
                        kind: Some(kind), ..
                    }) = scope.this
                    && structures()
                        .find(name)
                        .is_some_and(|wanted| structures().is_a(kind, wanted))
                {
                    steps = rest;
                }
                vec![scope.this.clone()]
            }
        };
        self.items(position, &items)?;
        for step in steps {
            items = self.step(step, items, scope)?;
            self.items(step.position, &items)?;
        }
        Ok(items)
    }

    fn variable(&self, name: &str, position: usize) -> Result<It<'a>, PathError> {
        if let Some((_, value)) = self
            .environment
            .variables
            .iter()
            .find(|(given, _)| *given == name)
        {
            return Ok(It::Node(Node::new(value)));
        }
        match name {
            "context" | "resource" | "rootResource" => Ok(self.root.clone()),
            "ucum" => Ok(It::Str(Cow::Borrowed("http://unitsofmeasure.org"))),
            "sct" => Ok(It::Str(Cow::Borrowed("http://snomed.info/sct"))),
            "loinc" => Ok(It::Str(Cow::Borrowed("http://loinc.org"))),
            _ if name.starts_with("vs-") => {
                let url = format!("http://hl7.org/fhir/ValueSet/{}", &name[3..]);
                Ok(It::Str(Cow::Owned(url)))
            }
            _ if name.starts_with("ext-") => {
                let url = format!("http://hl7.org/fhir/StructureDefinition/{}", &name[4..]);
                Ok(It::Str(Cow::Owned(url)))
            }
            _ => Err(PathError::new(
                position,
                format!("unknown variable `%{name}`"),
            )),
        }
    }

    fn step(&self, step: &Step, items: Items<'a>, scope: &Scope<'a>) -> Outcome<'a> {
        Ok(match &step.kind {
            StepKind::Member(name, sibling) => {
                let mut found = Vec::with_capacity(items.len());
                for item in items {
                    match item {
                        It::Node(node) => {
                            // Where the type isn't known, each member may be what is meant.
                            let unknown = match (node.kind, node.value) {
                                (None, Value::Object(members)) => members.len(),
                                _ => 0,
                            };
                            let before = found.len();
                            member(node, name, sibling, &mut found);
                            self.steps(step.position, 1 + unknown + found.len() - before)?;
                        }
                        It::Resource(_, id) if name == "id" => found.push(It::Str(id)),
                        It::Qty(value, unit) => match name.as_str() {
                            "value" => found.push(It::Dec(value)),
                            "unit" | "code" => found.push(It::Str(unit)),
                            _ => {}
                        },
                        It::Type(space, type_name) => match name.as_str() {
                            "namespace" => found.push(It::Str(Cow::Borrowed(space))),
                            "name" => found.push(It::Str(Cow::Borrowed(type_name))),
                            _ => {}
                        },
                        _ => {}
                    }
                }
                found
            }
            StepKind::At(index) => match single(self.expr(index, scope)?, step.position)? {
                None => Vec::new(),
                Some(It::Int(place)) => usize::try_from(place)
                    .ok()
                    .and_then(|place| items.into_iter().nth(place))
                    .into_iter()
                    .collect(),
                Some(_) => return Err(PathError::new(step.position, "an index is a whole number")),
            },
            StepKind::OfType(name) => items.into_iter().filter(|item| item.fits(*name)).collect(),
            StepKind::Is(name) => match single_raw(items, step.position)? {
                None => Vec::new(),
                Some(item) => vec![It::Bool(item.is(*name))],
            },
            StepKind::Matches(regex, replacement) => {
                self.looked_through(step.position, &items)?;
                self.matches(regex, replacement.as_ref(), items, step.position, scope)?
            }
            StepKind::Call(function, arguments) => {
                self.looked_through(step.position, &items)?;
                self.call(*function, arguments, items, step.position, scope)?
            }
        })
    }
}

pub(super) fn overflow(position: usize) -> PathError {
    PathError::new(position, "the number is too big")
}

pub(super) fn single_raw(items: Items<'_>, position: usize) -> Result<Option<It<'_>>, PathError> {
    if items.len() > 1 {
        return Err(PathError::new(
            position,
            format!("one item is wanted here, not {}", items.len()),
        ));
    }
    Ok(items.into_iter().next())
}

pub(super) fn single(items: Items<'_>, position: usize) -> Result<Option<It<'_>>, PathError> {
    Ok(single_raw(items, position)?.map(It::simple))
}

pub(super) fn text(items: Items<'_>, position: usize) -> Result<Option<Cow<'_, str>>, PathError> {
    match single_raw(items, position)? {
        None => Ok(None),
        Some(It::Str(text)) => Ok(Some(text)),
        // Dates are texts, too, for whoever looks at them as texts.
        Some(It::Node(Node {
            value: Value::String(text),
            ..
        })) => Ok(Some(Cow::Borrowed(text))),
        Some(_) => Err(PathError::new(position, "a text is wanted here")),
    }
}
