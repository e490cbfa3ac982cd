//! Search expressions, flattened into steps that walk a resource without making collections.
//!
//! Nearly all of R4's search expressions are plain paths with a filter or two. Those become a
//! [`Walk`]; what is left is evaluated as FHIRPath. Either way a leaf comes with its data type,
//! which says how it is read.
use super::ParameterKind;
use super::composite::{self, Base};
use crate::facts::{Structures, TypeId, TypeSearch, search, structures};
use crate::path::parse::{
    Expr, Kind, Literal, Operator, Start, Step as PathStep, StepKind, TypeName,
};
use crate::path::{Environment, Expression, PathError};
use crate::{Reference, ResourceType};
use serde_json::Value;
use std::sync::OnceLock;

/// How a leaf is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Address,
    /// `boolean`
    Boolean,
    /// `code`
    Code,
    CodeableConcept,
    Coding,
    ContactPoint,
    /// `date`, `dateTime` and `instant`
    Date,
    /// `decimal` and the whole numbers
    Decimal,
    HumanName,
    Identifier,
    Money,
    Period,
    /// `Quantity` and what specialises it
    Quantity,
    Range,
    Reference,
    /// A resource in a resource.
    Resource,
    SampledData,
    /// `string` and what specialises it, save `code`
    Text,
    Timing,
    /// `uri` and what specialises it
    Uri,
    /// A type that no parameter of this kind reads.
    Other,
}

impl Leaf {
    fn of(structures: &Structures, id: TypeId) -> Self {
        match structures.get(id).name {
            "Address" => Self::Address,
            "boolean" => Self::Boolean,
            "code" => Self::Code,
            "CodeableConcept" => Self::CodeableConcept,
            "Coding" => Self::Coding,
            "ContactPoint" => Self::ContactPoint,
            "date" | "dateTime" | "instant" => Self::Date,
            "decimal" | "integer" | "positiveInt" | "unsignedInt" => Self::Decimal,
            "HumanName" => Self::HumanName,
            "Identifier" => Self::Identifier,
            "Money" => Self::Money,
            "Period" => Self::Period,
            "Quantity" | "Age" | "Count" | "Distance" | "Duration" => Self::Quantity,
            "Range" => Self::Range,
            "Reference" => Self::Reference,
            "Resource" => Self::Resource,
            "SampledData" => Self::SampledData,
            "string" | "id" | "markdown" => Self::Text,
            "Timing" => Self::Timing,
            "uri" | "url" | "canonical" | "oid" | "uuid" => Self::Uri,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    /// The members of a choice, with the way to read each where the walk ends here.
    Choice(Vec<(String, Leaf)>),
    /// `where(resolve() is Type)`
    RefersTo(ResourceType),
    /// `where(member='text')`
    Has(String, String),
    /// `[n]` of one array.
    At(usize),
}

#[derive(Debug, PartialEq)]
pub(super) struct Walk {
    steps: Vec<Step>,
    leaf: Leaf,
    /// What it can end at.
    types: Vec<TypeId>,
}

#[derive(Debug)]
pub(super) enum Plan {
    Walk(Walk),
    Path(Expression),
}

/// The plans of one parameter: the parts of its union.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: &'static str,
    pub(super) kind: ParameterKind,
    /// The system of `code` leaves.
    pub(super) system: &'static str,
    pub(super) plans: Vec<Plan>,
    /// Of a composite parameter, which has no plans of its own.
    pub(super) bases: Vec<Base>,
}

/// The compiled parameters of a type, in the order of [`super::parameters`].
pub(super) fn compiled(kind: ResourceType) -> &'static [Compiled] {
    type Cell = OnceLock<Vec<Compiled>>;
    static TABLE: OnceLock<Vec<Cell>> = OnceLock::new();
    let table = TABLE.get_or_init(|| ResourceType::all().map(|_| Cell::new()).collect());
    // A test compiles every expression of the table, so none is lost here.
    table[kind.index()].get_or_init(|| compile_all(search(kind)).into_iter().flatten().collect())
}

pub(super) fn compile_all(search: &'static TypeSearch) -> Vec<Result<Compiled, PathError>> {
    let compile = |(parameter, detail): (&super::Parameter, &crate::facts::ParameterDetail)| {
        let mut plans = of_expression(&Expression::compile(parameter.expression)?);
        let bases = composite::bases(search, detail, &mut plans)?;
        Ok(Compiled {
            name: parameter.name,
            kind: parameter.kind,
            system: detail.system,
            plans,
            bases,
        })
    };
    search
        .parameters
        .iter()
        .zip(&search.details)
        .map(compile)
        .collect()
}

/// The plans of an expression that begins at a resource.
pub(super) fn of_expression(expression: &Expression) -> Vec<Plan> {
    let mut parts = Vec::new();
    union(&expression.root, &mut parts);
    let walks: Option<Vec<Plan>> = parts
        .into_iter()
        .map(|part| walk(part).map(Plan::Walk))
        .collect();
    walks.unwrap_or_else(|| vec![Plan::Path(expression.clone())])
}

/// The plans of an expression that begins at the end of a walk: those of its parts that lead anywhere
/// from there.
pub(super) fn within(expression: &Expression, from: &Walk) -> Vec<Plan> {
    let mut parts = Vec::new();
    union(&expression.root, &mut parts);
    let each = parts.into_iter().filter_map(|part| {
        let Kind::Path(Start::Focus, steps) = &part.kind else {
            return None;
        };
        let mut builder = Builder {
            steps: Vec::new(),
            types: from.types.clone(),
            many: false,
            in_extension: false,
        };
        steps.iter().try_for_each(|step| builder.step(step))?;
        builder.walk().map(Plan::Walk)
    });
    each.collect()
}

/// The paths of an expression of one's own: the type that each begins with, and its plans if it is made of
/// walks. Where a path goes through the value of an extension, which can be of any type, there is one walk
/// for each type that has what follows; where it ends there, those count from which a value is `read`.
pub(super) fn of_own(
    expression: &Expression,
    read: &dyn Fn(Leaf) -> bool,
) -> Vec<(Option<String>, Option<Vec<Plan>>)> {
    let mut parts = Vec::new();
    union(&expression.root, &mut parts);
    let plans = |part| -> Option<Vec<Plan>> {
        let mut plans = Vec::new();
        for mut builder in forked(part)? {
            builder.read_of_extension(read);
            plans.push(Plan::Walk(builder.walk()?));
        }
        let is_read = |plan: &Plan| plan.leaves().into_iter().any(read);
        if plans.len() > 1 && plans.iter().any(is_read) {
            plans.retain(is_read);
        }
        Some(plans)
    };
    let both = |part| (first(part).map(str::to_owned), plans(part));
    parts.into_iter().map(both).collect()
}

/// The builders of a path, one for each way that it can go through the values of extensions.
fn forked(expr: &Expr) -> Option<Vec<Builder>> {
    let (mut ways, steps) = match &expr.kind {
        Kind::Path(Start::Focus, steps) => {
            let (first, rest) = steps.split_first()?;
            let StepKind::Member(name, _) = &first.kind else {
                return None;
            };
            (vec![Builder::at(structures().find(name)?)], rest)
        }
        Kind::Path(Start::Expr(expr), steps) => (forked(expr)?, steps.as_slice()),
        Kind::As(operand, name) => {
            let mut ways = forked(operand)?;
            ways.retain_mut(|way| way.narrow(*name).is_some());
            return (!ways.is_empty()).then_some(ways);
        }
        _ => return None,
    };
    for step in steps {
        let mut next = Vec::new();
        for mut way in ways {
            if way.in_extension && matches!(step.kind, StepKind::Member(..)) {
                let each = (0..way.types.len()).filter_map(|place| {
                    let mut one = way.only(place);
                    one.step(step)?;
                    Some(one)
                });
                next.extend(each);
            } else if way.step(step).is_some() {
                next.push(way);
            } else {
                return None;
            }
        }
        // Values in values of extensions have no end.
        if next.is_empty() || next.len() > WAYS_MAX {
            return None;
        }
        ways = next;
    }
    Some(ways)
}

/// The name that a path begins with.
fn first(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        Kind::Path(Start::Focus, steps) => match &steps.first()?.kind {
            StepKind::Member(name, _) => Some(name),
            _ => None,
        },
        Kind::Path(Start::Expr(expr), _) | Kind::As(expr, _) => first(expr),
        _ => None,
    }
}

fn union<'e>(expr: &'e Expr, parts: &mut Vec<&'e Expr>) {
    match &expr.kind {
        Kind::Binary(Operator::Union, left, right) => {
            union(left, parts);
            union(right, parts);
        }
        _ => parts.push(expr),
    }
}

/// The most ways that a path of an expression of one's own can go.
const WAYS_MAX: usize = 64;

/// Where a walk has come to while it is compiled.
#[derive(Clone)]
struct Builder {
    steps: Vec<Step>,
    types: Vec<TypeId>,
    /// Whether there can be more than one item here.
    many: bool,
    /// Whether it stands at the value of an extension.
    in_extension: bool,
}

fn walk(expr: &Expr) -> Option<Walk> {
    let mut builder = Builder {
        steps: Vec::new(),
        types: Vec::new(),
        many: false,
        in_extension: false,
    };
    builder.expr(expr)?;
    builder.walk()
}

impl Builder {
    fn at(id: TypeId) -> Self {
        Self {
            steps: Vec::new(),
            types: vec![id],
            many: false,
            in_extension: false,
        }
    }

    /// The same at one of the types of a choice.
    fn only(&self, place: usize) -> Self {
        let mut one = self.clone();
        one.types = vec![self.types[place]];
        if let Some(Step::Choice(members)) = one.steps.last_mut() {
            *members = vec![members.swap_remove(place)];
        }
        one
    }

    /// At the value of an extension, keeps the types from which a value is read, if there are any.
    fn read_of_extension(&mut self, read: &dyn Fn(Leaf) -> bool) {
        let Some(Step::Choice(members)) = self.steps.last_mut().filter(|_| self.in_extension)
        else {
            return;
        };
        let keep: Vec<bool> = members.iter().map(|(_, leaf)| read(*leaf)).collect();
        if keep.contains(&true) {
            let mut kept = keep.iter();
            members.retain(|_| kept.next() == Some(&true));
            let mut kept = keep.iter();
            self.types.retain(|_| kept.next() == Some(&true));
        }
    }

    fn walk(self) -> Option<Walk> {
        let leaf = match self.types.as_slice() {
            [one] => Leaf::of(structures(), *one),
            // The choice at the end knows better.
            _ => matches!(self.steps.last(), Some(Step::Choice(_))).then_some(Leaf::Other)?,
        };
        Some(Walk {
            steps: self.steps,
            leaf,
            types: self.types,
        })
    }

    fn expr(&mut self, expr: &Expr) -> Option<()> {
        match &expr.kind {
            Kind::Path(start, steps) => {
                let mut steps = steps.as_slice();
                match start {
                    Start::Focus => {
                        let (first, rest) = steps.split_first()?;
                        let StepKind::Member(name, _) = &first.kind else {
                            return None;
                        };
                        self.types = vec![structures().find(name)?];
                        steps = rest;
                    }
                    Start::Expr(expr) => self.expr(expr)?,
                    _ => return None,
                }
                steps.iter().try_for_each(|step| self.step(step))
            }
            Kind::As(operand, name) => {
                self.expr(operand)?;
                self.narrow(*name)
            }
            _ => None,
        }
    }

    fn step(&mut self, step: &PathStep) -> Option<()> {
        match &step.kind {
            StepKind::Member(name, _) => {
                let &[from] = self.types.as_slice() else {
                    return None;
                };
                let structure = structures().get(from);
                let element = structure.element(name)?;
                self.in_extension = structure.name == "Extension" && name == "value";
                self.many |= element.many;
                self.types.clone_from(&element.types);
                self.steps.push(if element.choice.is_empty() {
                    Step::Member(name.clone())
                } else {
                    let leaves = element.types.iter().map(|id| Leaf::of(structures(), *id));
                    Step::Choice(element.choice.iter().cloned().zip(leaves).collect())
                });
            }
            StepKind::OfType(name) => self.narrow(*name)?,
            StepKind::At(Expr {
                kind: Kind::Literal(Literal::Integer(place)),
                ..
            }) => {
                // With one array on the way, the index counts in that array.
                let arrays = self
                    .steps
                    .iter()
                    .filter(|step| matches!(step, Step::Member(_)))
                    .count();
                (arrays == 1).then_some(())?;
                self.in_extension = false;
                self.steps.push(Step::At(usize::try_from(*place).ok()?));
            }
            StepKind::Call(crate::path::parse::WHERE, arguments) => {
                self.steps.push(criterion(arguments.first()?)?);
                self.in_extension = false;
            }
            _ => return None,
        }
        Some(())
    }

    /// Keeps the types of a choice that are of a type.
    fn narrow(&mut self, name: TypeName) -> Option<()> {
        let TypeName::Fhir(wanted) = name else {
            return None;
        };
        // Behind a criterion the choice can't be told apart any more.
        let at_choice = matches!(self.steps.last(), Some(Step::Choice(_)));
        if self.types.len() > 1 && !at_choice {
            return None;
        }
        let structures = structures();
        let keep: Vec<bool> = self
            .types
            .iter()
            .map(|id| structures.is_a(*id, wanted))
            .collect();
        let mut kept = keep.iter();
        self.types.retain(|_| kept.next() == Some(&true));
        if let Some(Step::Choice(members)) = self.steps.last_mut() {
            let mut kept = keep.iter();
            members.retain(|_| kept.next() == Some(&true));
        }
        (!self.types.is_empty()).then_some(())
    }
}

/// `resolve() is Type` or `member = 'text'`.
fn criterion(expr: &Expr) -> Option<Step> {
    let path = |expr: &'_ Expr| -> Option<StepKindRef> {
        let Kind::Path(Start::Focus, steps) = &expr.kind else {
            return None;
        };
        match steps.as_slice() {
            [
                PathStep {
                    kind: StepKind::Member(name, _),
                    ..
                },
            ] => Some(StepKindRef::Member(name.clone())),
            [
                PathStep {
                    kind: StepKind::Call(crate::path::parse::RESOLVE, _),
                    ..
                },
            ] => Some(StepKindRef::Resolve),
            _ => None,
        }
    };
    match &expr.kind {
        Kind::Is(operand, TypeName::Fhir(id)) => {
            let StepKindRef::Resolve = path(operand)? else {
                return None;
            };
            Some(Step::RefersTo(ResourceType::parse(
                structures().get(*id).name,
            )?))
        }
        Kind::Binary(Operator::Equal, left, right) => {
            let (StepKindRef::Member(name), Kind::Literal(Literal::Text(text))) =
                (path(left)?, &right.kind)
            else {
                return None;
            };
            Some(Step::Has(name, text.clone()))
        }
        _ => None,
    }
}

enum StepKindRef {
    Member(String),
    Resolve,
}

impl Walk {
    /// Calls `visit` with each element that it ends at.
    pub(super) fn run<'a>(&self, root: &'a Value, visit: &mut dyn FnMut(Leaf, &'a Value)) {
        go(root, root, &self.steps, self.leaf, visit);
    }

    /// The types that it can end at.
    pub(super) fn ends(&self) -> &[TypeId] {
        &self.types
    }

    /// The elements that it goes through from a structure on, by their names in R4: one way for each, and one
    /// more for each that it goes by on the way. `None` where that can't be told.
    pub(super) fn ways(&self, from: TypeId) -> Option<Vec<Vec<&'static str>>> {
        let mut ways = vec![Vec::new()];
        let mut beside = Vec::new();
        let mut types = vec![from];
        for step in &self.steps {
            let names: Vec<&str> = match step {
                Step::Member(name) => vec![name],
                Step::Choice(members) => members.iter().map(|(name, _)| name.as_str()).collect(),
                Step::Has(name, _) => {
                    for way in &ways {
                        let mut one: Vec<&'static str> = way.clone();
                        one.push(element(&types, name)?.0);
                        beside.push(one);
                    }
                    continue;
                }
                Step::RefersTo(_) | Step::At(_) => continue,
            };
            let found = (names.iter()).map(|name| element(&types, name));
            let found: Vec<(&'static str, TypeId)> = found.collect::<Option<_>>()?;
            // A choice is one element, whatever its type is.
            let name = found.first()?.0;
            ways.iter_mut().for_each(|way| way.push(name));
            types = found.into_iter().map(|(_, kind)| kind).collect();
        }
        ways.append(&mut beside);
        Some(ways)
    }
}

/// Whether parameters of a kind read a leaf.
#[cfg(test)]
pub(super) fn is_read(kind: ParameterKind, leaf: Leaf) -> bool {
    match kind {
        ParameterKind::Token => {
            use Leaf::*;
            matches!(
                leaf,
                Boolean | Code | CodeableConcept | Coding | ContactPoint | Identifier | Text | Uri
            )
        }
        ParameterKind::String => matches!(
            leaf,
            Leaf::Address | Leaf::HumanName | Leaf::Text | Leaf::Code
        ),
        ParameterKind::Date => matches!(leaf, Leaf::Date | Leaf::Period | Leaf::Timing),
        ParameterKind::Reference => {
            matches!(leaf, Leaf::Reference | Leaf::Resource | Leaf::Uri)
        }
        ParameterKind::Uri => matches!(leaf, Leaf::Uri),
        ParameterKind::Number => matches!(leaf, Leaf::Decimal | Leaf::Range),
        ParameterKind::Quantity => matches!(
            leaf,
            Leaf::Quantity | Leaf::Money | Leaf::Range | Leaf::SampledData
        ),
        ParameterKind::Composite | ParameterKind::Special => leaf == Leaf::Other,
    }
}

impl Plan {
    /// Whether it is the same walk as another one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Walk(one), Self::Walk(other)) if one == other)
    }

    /// The members of the resource that it can begin with; `None` where that can't be told.
    pub(super) fn begins_with(&self) -> Option<Vec<&str>> {
        let Self::Walk(walk) = self else {
            return None;
        };
        match walk.steps.first()? {
            Step::Member(name) => Some(vec![name]),
            Step::Choice(members) => Some(members.iter().map(|(name, _)| name.as_str()).collect()),
            Step::RefersTo(_) | Step::Has(..) | Step::At(_) => None,
        }
    }

    /// See [`Walk::ways`].
    pub(super) fn ways(&self, from: TypeId) -> Option<Vec<Vec<&'static str>>> {
        match self {
            Self::Walk(walk) => walk.ways(from),
            Self::Path(_) => None,
        }
    }

    /// The names of all members in an expression that is no walk, and whether it may look at others.
    pub(super) fn names(&self) -> (Vec<&str>, bool) {
        let mut names = Vec::new();
        let mut everything = false;
        if let Self::Path(expression) = self {
            mentioned(&expression.root, &mut names, &mut everything);
        }
        (names, everything)
    }

    /// Calls `visit` with each leaf.
    pub(super) fn run<'a>(&self, root: &'a Value, visit: &mut dyn FnMut(Leaf, &'a Value)) {
        self.run_from(root, root, visit);
    }

    /// The same from an element of the resource.
    pub(super) fn run_from<'a>(
        &self,
        root: &'a Value,
        from: &'a Value,
        visit: &mut dyn FnMut(Leaf, &'a Value),
    ) {
        match self {
            Self::Walk(walk) => go(root, from, &walk.steps, walk.leaf, visit),
            Self::Path(expression) => {
                // A resource whose content makes the expression fail has no value for it.
                for item in expression
                    .evaluate(root, &Environment::default())
                    .unwrap_or_default()
                {
                    match item.value() {
                        Value::Bool(true) => visit(Leaf::Boolean, &TRUE),
                        Value::Bool(false) => visit(Leaf::Boolean, &FALSE),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Whether the plan can yield what it is compiled from: walks always do, paths only booleans.
    pub(super) fn leaves(&self) -> Vec<Leaf> {
        match self {
            Self::Walk(Walk { steps, leaf, .. }) => match steps.last() {
                Some(Step::Choice(members)) => members.iter().map(|(_, leaf)| *leaf).collect(),
                _ => vec![*leaf],
            },
            Self::Path(_) => vec![Leaf::Boolean],
        }
    }
}

/// The element that a member's name stands for in one of some structures, and its type.
fn element(types: &[TypeId], name: &str) -> Option<(&'static str, TypeId)> {
    let mut each = types.iter();
    each.find_map(|id| {
        let (element, kind) = structures().get(*id).member(name)?;
        Some((element.name, kind))
    })
}

fn mentioned<'e>(expr: &'e Expr, names: &mut Vec<&'e str>, everything: &mut bool) {
    match &expr.kind {
        Kind::Empty | Kind::Literal(_) => {}
        Kind::Negate(inner) | Kind::Is(inner, _) | Kind::As(inner, _) => {
            mentioned(inner, names, everything);
        }
        Kind::Binary(_, left, right) => {
            mentioned(left, names, everything);
            mentioned(right, names, everything);
        }
        Kind::Path(start, steps) => {
            if let Start::Expr(inner) = start {
                mentioned(inner, names, everything);
            }
            for step in steps {
                match &step.kind {
                    StepKind::Member(name, _) => names.push(name),
                    StepKind::At(inner) => mentioned(inner, names, everything),
                    StepKind::Call(function, arguments) => {
                        *everything |= function.looks_everywhere();
                        (arguments.iter()).for_each(|inner| mentioned(inner, names, everything));
                    }
                    StepKind::OfType(_) | StepKind::Is(_) => {}
                    StepKind::Matches(_, inner) => {
                        (inner.iter()).for_each(|inner| mentioned(inner, names, everything));
                    }
                }
            }
        }
    }
}

static TRUE: Value = Value::Bool(true);
static FALSE: Value = Value::Bool(false);

fn go<'a>(
    root: &'a Value,
    value: &'a Value,
    steps: &[Step],
    leaf: Leaf,
    visit: &mut dyn FnMut(Leaf, &'a Value),
) {
    if let Value::Array(items) = value {
        match steps.split_first() {
            Some((Step::At(place), rest)) => items
                .get(*place)
                .into_iter()
                .for_each(|item| go(root, item, rest, leaf, visit)),
            // An array in an array is no FHIR, and has nothing to say.
            _ => items
                .iter()
                .filter(|item| !item.is_array())
                .for_each(|item| go(root, item, steps, leaf, visit)),
        }
        return;
    }
    let Some((step, rest)) = steps.split_first() else {
        visit(leaf, value);
        return;
    };
    match step {
        Step::Member(name) => {
            if let Some(next) = value.get(name) {
                go(root, next, rest, leaf, visit);
            }
        }
        Step::Choice(members) => {
            for (name, choice_leaf) in members {
                if let Some(next) = value.get(name) {
                    go(
                        root,
                        next,
                        rest,
                        if rest.is_empty() { *choice_leaf } else { leaf },
                        visit,
                    );
                }
            }
        }
        Step::RefersTo(kind) => {
            if refers_to(root, value, *kind) {
                go(root, value, rest, leaf, visit);
            }
        }
        Step::Has(name, text) => {
            if value.get(name).and_then(Value::as_str) == Some(text) {
                go(root, value, rest, leaf, visit);
            }
        }
        Step::At(0) => go(root, value, rest, leaf, visit),
        Step::At(_) => {}
    }
}

/// Whether a reference names a resource of a type, as far as the reference itself tells.
fn refers_to(root: &Value, value: &Value, kind: ResourceType) -> bool {
    let Some(text) = value.as_str().or_else(|| value.get("reference")?.as_str()) else {
        return value.get("type").and_then(Value::as_str) == Some(kind.name());
    };
    if let Some(id) = text.strip_prefix('#') {
        let contained = root.get("contained").and_then(Value::as_array);
        return contained
            .into_iter()
            .flatten()
            .any(|resource| resource["id"] == id && resource["resourceType"] == kind.name());
    }
    if let Some((found, _)) = Reference::relative(text) {
        return found == kind;
    }
    match Reference::parse(text) {
        Some(reference) => reference.kind == kind,
        None => value.get("type").and_then(Value::as_str) == Some(kind.name()),
    }
}
