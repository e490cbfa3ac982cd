//! Evaluation of a tree on a focus.
use super::functions::Function;
use super::parse::{Expr, Kind, Literal, Operator, Start, Step, StepKind, pattern_of};
use super::value::{Comparison, It, Node, add_time, compare, equal, equivalent, resource_type};
use super::{Environment, PathError};
use crate::Reference;
use crate::date::Parts;
use crate::facts::{TypeId, structures};
use regex::Regex;
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashSet;

type Items<'a> = Vec<It<'a>>;
type Outcome<'a> = Result<Items<'a>, PathError>;

static NULL: Value = Value::Null;

pub(super) fn evaluate<'a>(
    expr: &Expr,
    focus: &'a Value,
    environment: &Environment<'a>,
) -> Outcome<'a> {
    let focus = It::Node(Node::new(focus));
    let evaluation = Evaluation {
        environment,
        root: focus.clone(),
    };
    evaluation.expr(
        expr,
        &Scope {
            this: focus,
            index: 0,
        },
    )
}

struct Evaluation<'e, 'a> {
    environment: &'e Environment<'a>,
    root: It<'a>,
}

/// What `$this` and `$index` are.
struct Scope<'a> {
    this: It<'a>,
    index: usize,
}

fn boolean<'a>(value: Option<bool>) -> Items<'a> {
    value.map(It::Bool).into_iter().collect()
}

impl<'a> Evaluation<'_, 'a> {
    fn expr(&self, expr: &Expr, scope: &Scope<'a>) -> Outcome<'a> {
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
                .filter(|item| item.is(*name))
                .collect(),
            Kind::Binary(operator, left, right) => {
                self.binary(*operator, left, right, expr.position, scope)?
            }
        })
    }

    /// The three-valued truth of an operand: a single item that isn't a boolean counts as true.
    fn truth(&self, expr: &Expr, scope: &Scope<'a>) -> Result<Option<bool>, PathError> {
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
            Equal => boolean(collections_equal(&a, &b)),
            NotEqual => boolean(collections_equal(&a, &b).map(|equal| !equal)),
            Equivalent => boolean(Some(collections_equivalent(&a, &b))),
            NotEquivalent => boolean(Some(!collections_equivalent(&a, &b))),
            Union => distinct(a.into_iter().chain(b)),
            In => membership(a, &b, position)?,
            Contains => membership(b, &a, position)?,
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
            Start::Expr(expr) => self.expr(expr, scope)?,
            Start::Variable(name) => vec![self.variable(name, position)?],
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
        for step in steps {
            items = self.step(step, items, scope)?;
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
                        It::Node(node) => member(node, name, sibling, &mut found),
                        It::Resource(_, id) if name == "id" => found.push(It::Str(id)),
                        It::Qty(value, unit) => match name.as_str() {
                            "value" => found.push(It::Dec(value)),
                            "unit" | "code" => found.push(It::Str(unit)),
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
            StepKind::OfType(name) => items.into_iter().filter(|item| item.is(*name)).collect(),
            StepKind::Is(name) => match single_raw(items, step.position)? {
                None => Vec::new(),
                Some(item) => vec![It::Bool(item.is(*name))],
            },
            StepKind::Matches(regex, replacement) => {
                self.matches(regex, replacement.as_ref(), items, step.position, scope)?
            }
            StepKind::Call(function, arguments) => {
                self.call(*function, arguments, items, step.position, scope)?
            }
        })
    }

    fn matches(
        &self,
        regex: &Regex,
        replacement: Option<&Expr>,
        items: Items<'a>,
        position: usize,
        scope: &Scope<'a>,
    ) -> Outcome<'a> {
        let Some(text) = text(items, position)? else {
            return Ok(Vec::new());
        };
        Ok(match replacement {
            None => vec![It::Bool(regex.is_match(&text))],
            Some(replacement) => match self.text_argument(replacement, scope)? {
                None => Vec::new(),
                Some(by) => vec![It::Str(Cow::Owned(
                    regex.replace_all(&text, by.as_ref()).into_owned(),
                ))],
            },
        })
    }

    /// An argument is evaluated where the call stands, not on the items that it is called on.
    fn text_argument(
        &self,
        argument: &Expr,
        scope: &Scope<'a>,
    ) -> Result<Option<Cow<'a, str>>, PathError> {
        text(self.expr(argument, scope)?, argument.position)
    }

    fn integer_argument(
        &self,
        argument: &Expr,
        scope: &Scope<'a>,
    ) -> Result<Option<i64>, PathError> {
        match single(self.expr(argument, scope)?, argument.position)? {
            None => Ok(None),
            Some(It::Int(value)) => Ok(Some(value)),
            Some(_) => Err(PathError::new(
                argument.position,
                "a whole number is wanted here",
            )),
        }
    }

    /// The items for which a criterion is true.
    fn filter(&self, items: Items<'a>, criterion: &Expr) -> Outcome<'a> {
        let mut kept = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let scope = Scope { this: item, index };
            if self.truth(criterion, &scope)? == Some(true) {
                kept.push(scope.this);
            }
        }
        Ok(kept)
    }

    fn project(&self, items: &[It<'a>], projection: &Expr) -> Outcome<'a> {
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            found.extend(self.expr(
                projection,
                &Scope {
                    this: item.clone(),
                    index,
                },
            )?);
        }
        Ok(found)
    }

    #[allow(
        clippy::too_many_lines,
        reason = "one arm for each function; splitting would scatter the list"
    )]
    fn call(
        &self,
        function: Function,
        arguments: &[Expr],
        items: Items<'a>,
        position: usize,
        scope: &Scope<'a>,
    ) -> Outcome<'a> {
        use Function as F;
        let yes = |value: bool| Ok(vec![It::Bool(value)]);
        let count = |value: usize| It::Int(i64::try_from(value).unwrap_or(i64::MAX));
        Ok(match function {
            F::Empty => return yes(items.is_empty()),
            F::Exists => match arguments.first() {
                None => return yes(!items.is_empty()),
                Some(criterion) => return yes(!self.filter(items, criterion)?.is_empty()),
            },
            F::All => {
                let all = items.len();
                return yes(self.filter(items, &arguments[0])?.len() == all);
            }
            F::AllTrue | F::AllFalse | F::AnyTrue | F::AnyFalse => {
                let wanted = matches!(function, F::AllTrue | F::AnyTrue);
                let mut values = Vec::new();
                for item in &items {
                    values.push(
                        item.as_bool()
                            .ok_or_else(|| PathError::new(position, "booleans are wanted here"))?
                            == wanted,
                    );
                }
                let every = matches!(function, F::AllTrue | F::AllFalse);
                return yes(if every {
                    values.into_iter().all(|value| value)
                } else {
                    values.into_iter().any(|value| value)
                });
            }
            F::Count => vec![count(items.len())],
            F::Distinct => distinct(items),
            F::IsDistinct => {
                let all = items.len();
                return yes(distinct(items).len() == all);
            }
            F::Where => self.filter(items, &arguments[0])?,
            F::Select => self.project(&items, &arguments[0])?,
            F::Repeat => {
                let mut seen = HashSet::new();
                let mut found = Vec::new();
                let mut next = self.project(&items, &arguments[0])?;
                while !next.is_empty() {
                    next.retain(|item| seen.insert(item.key()));
                    found.extend(next.iter().cloned());
                    next = self.project(&next, &arguments[0])?;
                }
                found
            }
            F::Single => single_raw(items, position)?.into_iter().collect(),
            F::First => items.into_iter().take(1).collect(),
            F::Last => items.into_iter().last().into_iter().collect(),
            F::Tail => items.into_iter().skip(1).collect(),
            F::Skip | F::Take => {
                let number = self.integer_argument(&arguments[0], scope)?.unwrap_or(0);
                let number = usize::try_from(number).unwrap_or(0);
                if function == F::Skip {
                    items.into_iter().skip(number).collect()
                } else {
                    items.into_iter().take(number).collect()
                }
            }
            F::Union => distinct(items.into_iter().chain(self.expr(&arguments[0], scope)?)),
            F::Combine => items
                .into_iter()
                .chain(self.expr(&arguments[0], scope)?)
                .collect(),
            F::Intersect | F::Exclude | F::SubsetOf | F::SupersetOf => {
                let others = self.expr(&arguments[0], scope)?;
                let keys = |items: &[It<'a>]| items.iter().map(It::key).collect::<HashSet<_>>();
                let (mine, theirs) = (keys(&items), keys(&others));
                match function {
                    F::SubsetOf => return yes(mine.is_subset(&theirs)),
                    F::SupersetOf => return yes(mine.is_superset(&theirs)),
                    F::Intersect => distinct(
                        items
                            .into_iter()
                            .filter(|item| theirs.contains(&item.key())),
                    ),
                    _ => items
                        .into_iter()
                        .filter(|item| !theirs.contains(&item.key()))
                        .collect(),
                }
            }
            F::Iif => {
                // The criterion sees the item that the function is called on.
                let this = single_raw(items, position)?.unwrap_or_else(|| scope.this.clone());
                let inner = Scope {
                    this,
                    index: scope.index,
                };
                match (self.truth(&arguments[0], &inner)?, arguments.get(2)) {
                    (Some(true), _) => self.expr(&arguments[1], &inner)?,
                    (_, Some(otherwise)) => self.expr(otherwise, &inner)?,
                    (_, None) => Vec::new(),
                }
            }
            F::Not => {
                boolean(single_raw(items, position)?.map(|item| !item.as_bool().unwrap_or(true)))
            }
            F::To(target) => single_raw(items, position)?
                .and_then(|item| item.convert(target))
                .into_iter()
                .collect(),
            F::ConvertsTo(target) => single_raw(items, position)?
                .map(|item| It::Bool(item.convert(target).is_some()))
                .into_iter()
                .collect(),
            F::Now | F::Today | F::TimeOfDay => {
                let now_ms = self
                    .environment
                    .now_ms
                    .ok_or_else(|| PathError::new(position, "there is no time here"))?;
                let now = Parts::from_unix_ms(now_ms);
                let date = Parts {
                    hour: None,
                    minute: None,
                    second: None,
                    millisecond: None,
                    offset_min: None,
                    ..now
                };
                vec![match function {
                    F::Now => It::DateTime(now),
                    F::Today => It::Date(date),
                    _ => It::Time(Parts {
                        year: 1,
                        month: None,
                        day: None,
                        offset_min: None,
                        ..now
                    }),
                }]
            }
            F::Children => children(&items),
            F::Descendants => {
                let mut found = Vec::new();
                let mut next = children(&items);
                while !next.is_empty() {
                    let below = children(&next);
                    found.append(&mut next);
                    next = below;
                }
                found
            }
            F::Extension => match self.text_argument(&arguments[0], scope)? {
                None => Vec::new(),
                Some(url) => items
                    .iter()
                    .flat_map(|item| extensions(item, &url))
                    .collect(),
            },
            F::HasValue => {
                let [It::Node(node)] = items.as_slice() else {
                    return yes(matches!(items.as_slice(), [_]));
                };
                return yes(!node.value.is_null() && !node.value.is_object());
            }
            F::GetValue => match items.as_slice() {
                [It::Node(node)] if node.value.is_null() || node.value.is_object() => Vec::new(),
                [item] => vec![item.clone().simple()],
                _ => Vec::new(),
            },
            F::Resolve => items.iter().filter_map(|item| self.resolve(item)).collect(),
            F::Abs | F::Ceiling | F::Floor | F::Round | F::Truncate => {
                let digits = match arguments.first() {
                    Some(argument) => self.integer_argument(argument, scope)?.unwrap_or(0),
                    None => 0,
                };
                single(items, position)?
                    .map(|item| rounded(function, item, digits, position))
                    .transpose()?
                    .into_iter()
                    .collect()
            }
            F::Join => {
                let separator = match arguments.first() {
                    Some(argument) => self.text_argument(argument, scope)?.unwrap_or_default(),
                    None => Cow::Borrowed(""),
                };
                let mut texts = Vec::new();
                for item in items {
                    texts.extend(text(vec![item], position)?);
                }
                vec![It::Str(Cow::Owned(texts.join(separator.as_ref())))]
            }
            F::Length | F::Lower | F::Upper | F::Trim | F::ToChars => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                match function {
                    F::Length => vec![count(text.chars().count())],
                    F::Lower => vec![It::Str(Cow::Owned(text.to_lowercase()))],
                    F::Upper => vec![It::Str(Cow::Owned(text.to_uppercase()))],
                    F::Trim => vec![It::Str(Cow::Owned(text.trim().to_owned()))],
                    _ => text
                        .chars()
                        .map(|c| It::Str(Cow::Owned(c.to_string())))
                        .collect(),
                }
            }
            F::StartsWith | F::EndsWith | F::Contains | F::IndexOf | F::Split | F::Matches => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(part) = self.text_argument(&arguments[0], scope)? else {
                    return Ok(Vec::new());
                };
                match function {
                    F::StartsWith => return yes(text.starts_with(part.as_ref())),
                    F::EndsWith => return yes(text.ends_with(part.as_ref())),
                    F::Contains => return yes(text.contains(part.as_ref())),
                    F::IndexOf => {
                        let place = text
                            .find(part.as_ref())
                            .map(|place| text[..place].chars().count());
                        vec![place.map_or(It::Int(-1), count)]
                    }
                    F::Split => text
                        .split(part.as_ref())
                        .map(|part| It::Str(Cow::Owned(part.to_owned())))
                        .collect(),
                    _ => return yes(pattern_of(&part, arguments[0].position)?.is_match(&text)),
                }
            }
            F::Replace => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let (from, by) = (
                    self.text_argument(&arguments[0], scope)?,
                    self.text_argument(&arguments[1], scope)?,
                );
                from.zip(by)
                    .map(|(from, by)| It::Str(Cow::Owned(text.replace(from.as_ref(), &by))))
                    .into_iter()
                    .collect()
            }
            F::ReplaceMatches => match self.text_argument(&arguments[0], scope)? {
                None => Vec::new(),
                Some(pattern) => {
                    let regex = pattern_of(&pattern, arguments[0].position)?;
                    self.matches(&regex, Some(&arguments[1]), items, position, scope)?
                }
            },
            F::Substring => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(start) = self
                    .integer_argument(&arguments[0], scope)?
                    .and_then(|start| usize::try_from(start).ok())
                else {
                    return Ok(Vec::new());
                };
                let length = match arguments.get(1) {
                    Some(argument) => self
                        .integer_argument(argument, scope)?
                        .map(|length| usize::try_from(length).unwrap_or(0)),
                    None => None,
                };
                if start >= text.chars().count() {
                    return Ok(Vec::new());
                }
                vec![It::Str(Cow::Owned(
                    text.chars()
                        .skip(start)
                        .take(length.unwrap_or(usize::MAX))
                        .collect(),
                ))]
            }
        })
    }

    fn resolve(&self, item: &It<'a>) -> Option<It<'a>> {
        let It::Node(node) = item else { return None };
        let text = node
            .value
            .as_str()
            .or_else(|| node.value.get("reference")?.as_str());
        let Some(text) = text else {
            let kind = crate::ResourceType::parse(node.value.get("type")?.as_str()?)?;
            return Some(It::Resource(kind, Cow::Borrowed("")));
        };
        if let Some(id) = text.strip_prefix('#') {
            let It::Node(root) = &self.root else {
                return None;
            };
            let contained = root.value.get("contained")?.as_array()?;
            return contained
                .iter()
                .find(|resource| resource["id"] == id)
                .map(|resource| It::Node(Node::new(resource)));
        }
        if let Some((kind, id)) = Reference::relative(text) {
            return Some(It::Resource(kind, Cow::Borrowed(id)));
        }
        let (reference, kind) = (
            Reference::parse(text),
            node.value.get("type").and_then(Value::as_str),
        );
        match reference {
            Some(reference) => Some(It::Resource(reference.kind, Cow::Owned(reference.id))),
            None => {
                crate::ResourceType::parse(kind?).map(|kind| It::Resource(kind, Cow::Borrowed("")))
            }
        }
    }
}

fn overflow(position: usize) -> PathError {
    PathError::new(position, "the number is too big")
}

fn single_raw(items: Items<'_>, position: usize) -> Result<Option<It<'_>>, PathError> {
    if items.len() > 1 {
        return Err(PathError::new(
            position,
            format!("one item is wanted here, not {}", items.len()),
        ));
    }
    Ok(items.into_iter().next())
}

fn single(items: Items<'_>, position: usize) -> Result<Option<It<'_>>, PathError> {
    Ok(single_raw(items, position)?.map(It::simple))
}

fn text(items: Items<'_>, position: usize) -> Result<Option<Cow<'_, str>>, PathError> {
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

fn distinct<'a>(items: impl IntoIterator<Item = It<'a>>) -> Items<'a> {
    let mut seen = HashSet::new();
    items
        .into_iter()
        .filter(|item| seen.insert(item.key()))
        .collect()
}

fn collections_equal(a: &[It<'_>], b: &[It<'_>]) -> Option<bool> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if a.len() != b.len() {
        return Some(false);
    }
    let mut all = Some(true);
    for (a, b) in a.iter().zip(b) {
        match equal(a, b) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

fn collections_equivalent(a: &[It<'_>], b: &[It<'_>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|item| b.iter().any(|other| equivalent(item, other)))
}

fn membership<'a>(item: Items<'a>, list: &[It<'a>], position: usize) -> Outcome<'a> {
    Ok(single_raw(item, position)?
        .map(|item| It::Bool(list.iter().any(|other| equal(&item, other) == Some(true))))
        .into_iter()
        .collect())
}

fn member<'a>(node: Node<'a>, name: &str, sibling: &str, found: &mut Items<'a>) {
    let Value::Object(members) = node.value else {
        // Of a primitive element, the sibling has the id and the extensions.
        if let Some(sibling_value) = node.sibling.and_then(|value| value.get(name)) {
            let kind = if name == "extension" {
                structures().find("Extension")
            } else {
                None
            };
            push(sibling_value, None, kind, found);
        }
        return;
    };
    let direct = |kind: Option<TypeId>, found: &mut Items<'a>| {
        let (value, extra) = (members.get(name), members.get(sibling));
        match value {
            Some(value) => push(value, extra, kind, found),
            None => extra
                .into_iter()
                .for_each(|extra| push(&NULL, Some(extra), kind, found)),
        }
        value.is_some() || extra.is_some()
    };
    let choice = |member: &str, kind: TypeId, found: &mut Items<'a>| {
        let extra = members.get(&format!("_{member}"));
        match members.get(member) {
            Some(value) => push(value, extra, Some(kind), found),
            None => extra
                .into_iter()
                .for_each(|extra| push(&NULL, Some(extra), Some(kind), found)),
        }
    };
    if let Some(structure) = node.kind.map(|kind| structures().get(kind)) {
        if let Some(element) = structure.element(name) {
            if element.choice.is_empty() {
                direct(Some(element.types[0]), found);
                return;
            }
            for (member, kind) in element.choice.iter().zip(&element.types) {
                choice(member, *kind, found);
            }
            return;
        }
        direct(structure.member(name).map(|(_, kind)| kind), found);
        return;
    }
    if !direct(None, found) {
        // The type isn't known, so any member that looks like the choice may be it.
        for member in members.keys() {
            let Some(suffix) = member
                .strip_prefix(name)
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            else {
                continue;
            };
            let small = suffix[..1].to_ascii_lowercase() + &suffix[1..];
            if let Some(kind) = structures()
                .find(suffix)
                .or_else(|| structures().find(&small))
            {
                choice(member, kind, found);
            }
        }
    }
}

/// Pushes an element or, of an array, each of its items.
fn push<'a>(
    value: &'a Value,
    sibling: Option<&'a Value>,
    kind: Option<TypeId>,
    found: &mut Items<'a>,
) {
    let mut one = |value: &'a Value, sibling: Option<&'a Value>| {
        let sibling = sibling.filter(|sibling| !sibling.is_null());
        if value.is_null() && sibling.is_none() {
            return;
        }
        // `Resource` elements hold whatever their content says they are.
        found.push(It::Node(Node {
            value,
            sibling,
            kind: resource_type(value).or(kind),
        }));
    };
    match value {
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                one(item, sibling.and_then(|sibling| sibling.get(place)));
            }
        }
        Value::Null if sibling.is_some_and(Value::is_array) => {
            for sibling in sibling.and_then(Value::as_array).into_iter().flatten() {
                one(value, Some(sibling));
            }
        }
        _ => one(value, sibling),
    }
}

fn children<'a>(items: &[It<'a>]) -> Items<'a> {
    let mut found = Vec::new();
    for item in items {
        let It::Node(node) = item else { continue };
        match node.value {
            Value::Object(members) => {
                let structure = node.kind.map(|kind| structures().get(kind));
                for (name, value) in members {
                    if name == "resourceType" {
                        continue;
                    }
                    let plain = name.strip_prefix('_');
                    if plain.is_some_and(|plain| members.contains_key(plain)) {
                        continue;
                    }
                    let kind = structure
                        .and_then(|structure| structure.member(plain.unwrap_or(name)))
                        .map(|(_, kind)| kind);
                    match plain {
                        Some(_) => push(&NULL, Some(value), kind, &mut found),
                        None => push(value, members.get(&format!("_{name}")), kind, &mut found),
                    }
                }
            }
            _ => {
                if let Some(Value::Object(members)) = node.sibling {
                    for (name, value) in members {
                        let kind = if name == "extension" {
                            structures().find("Extension")
                        } else {
                            None
                        };
                        push(value, None, kind, &mut found);
                    }
                }
            }
        }
    }
    found
}

fn extensions<'a>(item: &It<'a>, url: &str) -> Items<'a> {
    let It::Node(node) = item else {
        return Vec::new();
    };
    let holder = if node.value.is_object() {
        Some(node.value)
    } else {
        node.sibling
    };
    let list = holder
        .and_then(|holder| holder.get("extension"))
        .and_then(Value::as_array);
    let kind = structures().find("Extension");
    let matching = list
        .into_iter()
        .flatten()
        .filter(|extension| extension["url"] == url);
    matching
        .map(|value| {
            It::Node(Node {
                value,
                sibling: None,
                kind,
            })
        })
        .collect()
}

fn rounded<'a>(
    function: Function,
    item: It<'a>,
    digits: i64,
    position: usize,
) -> Result<It<'a>, PathError> {
    let whole = |value: Decimal| {
        value
            .to_i64()
            .map(It::Int)
            .ok_or_else(|| overflow(position))
    };
    Ok(match (function, item) {
        (Function::Abs, It::Int(value)) => {
            It::Int(value.checked_abs().ok_or_else(|| overflow(position))?)
        }
        (Function::Abs, It::Dec(value)) => It::Dec(value.abs()),
        (Function::Abs, It::Qty(value, unit)) => It::Qty(value.abs(), unit),
        (Function::Round, It::Int(value)) => It::Dec(Decimal::from(value)),
        (_, It::Int(value)) => It::Int(value),
        (Function::Ceiling, It::Dec(value)) => whole(value.ceil())?,
        (Function::Floor, It::Dec(value)) => whole(value.floor())?,
        (Function::Truncate, It::Dec(value)) => whole(value.trunc())?,
        (_, It::Dec(value)) => {
            let digits = u32::try_from(digits)
                .map_err(|_| PathError::new(position, "the number of digits is negative"))?;
            It::Dec(value.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero))
        }
        _ => return Err(PathError::new(position, "a number is wanted here")),
    })
}

/// `+ - * / div mod`; `None` for empty, as for a division by zero.
fn arithmetic<'a>(
    operator: Operator,
    a: It<'a>,
    b: It<'a>,
    position: usize,
) -> Result<Option<It<'a>>, PathError> {
    use Operator::*;
    let too_big = || overflow(position);
    Ok(match (operator, a, b) {
        (Add, It::Str(a), It::Str(b)) => Some(It::Str(Cow::Owned(a.into_owned() + &b))),
        (Add, It::Int(a), It::Int(b)) => Some(It::Int(a.checked_add(b).ok_or_else(too_big)?)),
        (Subtract, It::Int(a), It::Int(b)) => Some(It::Int(a.checked_sub(b).ok_or_else(too_big)?)),
        (Multiply, It::Int(a), It::Int(b)) => Some(It::Int(a.checked_mul(b).ok_or_else(too_big)?)),
        (Div, It::Int(a), It::Int(b)) => a.checked_div(b).map(It::Int),
        (Mod, It::Int(a), It::Int(b)) => a.checked_rem(b).map(It::Int),
        (
            Add | Subtract,
            date @ (It::Date(_) | It::DateTime(_) | It::Time(_) | It::Str(_)),
            amount,
        ) => {
            let (parts, back): (Parts, fn(Parts) -> It<'a>) = match date {
                It::Date(parts) => (parts, It::Date),
                It::DateTime(parts) => (parts, It::DateTime),
                It::Time(parts) => (parts, It::Time),
                // A text of a type that isn't known may well be a date.
                It::Str(text) => match Parts::parse(&text) {
                    Some(parts) if parts.has_time() => (parts, It::DateTime),
                    Some(parts) => (parts, It::Date),
                    None => {
                        return Err(PathError::new(
                            position,
                            "values of these types can't be added or subtracted",
                        ));
                    }
                },
                _ => return Ok(None),
            };
            let is_time = matches!(back(parts), It::Time(_));
            let wrong = || {
                PathError::new(
                    position,
                    "an amount of time is wanted here, such as `3 days`",
                )
            };
            let (It::Qty(..) | It::Node(_)) = amount else {
                return Err(wrong());
            };
            let (value, unit) = amount.quantity().ok_or_else(wrong)?;
            let value = if operator == Subtract { -value } else { value };
            add_time(parts, is_time, value, &unit)
                .map_err(|()| wrong())?
                .map(back)
        }
        (operator, a, b) => {
            let plain = |item: &It<'a>| match item {
                It::Int(value) => Some(Decimal::from(*value)),
                It::Dec(value) => Some(*value),
                _ => None,
            };
            if let (Some(a), Some(b)) = (plain(&a), plain(&b)) {
                return match operator {
                    Add => a
                        .checked_add(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                    Subtract => a
                        .checked_sub(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                    Multiply => a
                        .checked_mul(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                    _ if b.is_zero() => Ok(None),
                    Divide => a
                        .checked_div(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value.normalize()))),
                    Div => a
                        .checked_div(b)
                        .and_then(|value| value.trunc().to_i64())
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Int(value))),
                    _ => a
                        .checked_rem(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                };
            }
            let (Some((x, first)), Some((y, second))) = (a.quantity(), b.quantity()) else {
                return Err(PathError::new(
                    position,
                    "values of these types can't be calculated with",
                ));
            };
            let same = first == second;
            match operator {
                Add if same => Some(It::Qty(x.checked_add(y).ok_or_else(too_big)?, first)),
                Subtract if same => Some(It::Qty(x.checked_sub(y).ok_or_else(too_big)?, first)),
                Multiply if second == "1" => {
                    Some(It::Qty(x.checked_mul(y).ok_or_else(too_big)?, first))
                }
                Multiply if first == "1" => {
                    Some(It::Qty(x.checked_mul(y).ok_or_else(too_big)?, second))
                }
                Divide if y.is_zero() => None,
                Divide if same => Some(It::Qty(
                    x.checked_div(y).ok_or_else(too_big)?.normalize(),
                    Cow::Borrowed("1"),
                )),
                Divide if second == "1" => Some(It::Qty(
                    x.checked_div(y).ok_or_else(too_big)?.normalize(),
                    first,
                )),
                // Other units would have to be converted, so the result can't be told.
                _ => None,
            }
        }
    })
}
