//! What definitions ask of the patient they are applied to: expressions, and values that go where a path says. Pure.

use super::{Fault, INPUTS_MAX, failed, fault};
use fhir::IssueCode;
use fhir::path::{Budget, Environment, Expression, Item};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// The most characters of an expression, as those of search parameters have.
const EXPRESSION_MAX: usize = 4096;
/// Steps of the budget that compiling takes, and making each regular expression in what is compiled.
const STEPS_TO_COMPILE: usize = 200;
const STEPS_OF_PATTERN: usize = 2_000;

/// What data an action asks for by its `input`: its type, and what narrows it as in a search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Input {
    pub(super) kind: fhir::ResourceType,
    pub(super) parameters: Vec<(String, String)>,
}

/// The extension of an element that says how its value is worked out (R4, `cqf-expression`).
const WORKED_OUT: &str = "http://hl7.org/fhir/StructureDefinition/cqf-expression";

/// Whom and what a definition is applied to.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) now_ms: i64,
    /// `Patient/ID`, and the resource.
    pub(super) subject: (String, Value),
    pub(super) encounter: Option<(String, Value)>,
    pub(super) practitioner: Option<(String, Value)>,
    pub(super) organization: Option<(String, Value)>,
    /// What is given besides, by the names of parameters.
    pub(super) given: Vec<(&'static str, Value)>,
    /// Definitions by how they are referred to.
    pub(super) definitions: HashMap<String, Value>,
    pub(super) inputs: HashMap<Input, Value>,
    /// Whether rows that inputs ask for may be kept from who asks.
    pub(super) may_lack_rows: bool,
    /// What is left of what everything may cost.
    pub(super) budget: Budget,
}

/// The names of the parameters that are no references: variables of expressions and nothing else.
pub(super) const GIVEN: [&str; 5] = [
    "userType",
    "userLanguage",
    "userTaskContext",
    "setting",
    "settingContext",
];

/// What narrows a `DataRequirement`, by the path of its filters, and the search parameter of the same.
const FILTERS: [(&str, &str); 4] = [
    ("code", "code"),
    ("category", "category"),
    ("status", "status"),
    ("clinicalStatus", "clinical-status"),
];

/// An action's `input` with an id, as a search; expressions know what it finds by that id.
pub(super) fn input(requirement: &Value, place: &str) -> Result<Option<(String, Input)>, Fault> {
    let Some(id) = requirement.get("id").and_then(Value::as_str) else {
        return Ok(None);
    };
    let no = |words: &str| Err(fault(IssueCode::NotSupported, place, words));
    let kind = requirement.get("type").and_then(Value::as_str);
    let kind = kind.and_then(fhir::ResourceType::parse);
    let Some(kind) = kind.filter(|kind| kind.may_be_patients()) else {
        return no("an input is of a type that patients' records have");
    };
    for member in ["dateFilter", "limit", "sort"] {
        if requirement.get(member).is_some() {
            return no(&format!(
                "an input has no {member} here; expressions can look at dates and sort"
            ));
        }
    }
    let filters = requirement.get("codeFilter").and_then(Value::as_array);
    let mut parameters = Vec::new();
    for (number, filter) in filters.into_iter().flatten().enumerate() {
        let place = format!("{place}.codeFilter[{number}]");
        let path = filter.get("path").or_else(|| filter.get("searchParam"));
        let path = path.and_then(Value::as_str).unwrap_or_default();
        let Some((_, name)) = FILTERS
            .iter()
            .find(|(of, name)| path == *of || path == *name)
        else {
            return no("an input is filtered by code, category, status and clinicalStatus");
        };
        let set = filter.get("valueSet").and_then(Value::as_str);
        if let Some(set) = set {
            parameters.push((format!("{name}:in"), escaped(set)));
        }
        let list = filter.get("code").and_then(Value::as_array);
        let mut codes = Vec::new();
        for (number, coding) in list.into_iter().flatten().enumerate() {
            let Some(value) = coding.get("code").and_then(Value::as_str) else {
                // Left out it would let through what it is there to keep out.
                let place = format!("{place}.code[{number}]");
                let words = "has no code, and texts are not looked for";
                return Err(fault(IssueCode::NotSupported, &place, words));
            };
            let value = escaped(value);
            codes.push(match coding.get("system").and_then(Value::as_str) {
                Some(system) => format!("{}|{value}", escaped(system)),
                None => value,
            });
        }
        if !codes.is_empty() {
            parameters.push(((*name).to_owned(), codes.join(",")));
        } else if set.is_none() {
            let words = "narrows nothing: it has neither a valueSet nor a code";
            return Err(fault(IssueCode::NotSupported, &place, words));
        }
    }
    Ok(Some((id.to_owned(), Input { kind, parameters })))
}

/// A value of a search parameter with what would divide it escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, ',' | '|' | '$' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// What an expression knows besides the context: the inputs of the actions around it.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope<'a> {
    pub(super) inputs: Vec<(String, &'a Value)>,
}

impl Context {
    /// Adds the inputs of an action to what its expressions know.
    pub(super) fn with_inputs<'a>(
        &'a self,
        scope: &Scope<'a>,
        action: &Value,
        place: &str,
    ) -> Result<Scope<'a>, Fault> {
        let mut scope = scope.clone();
        let inputs = action.get("input").and_then(Value::as_array);
        for (number, requirement) in inputs.into_iter().flatten().enumerate() {
            let place = format!("{place}.input[{number}]");
            if let Some((id, input)) = input(requirement, &place)?
                && let Some(found) = self.inputs.get(&input)
            {
                scope.inputs.retain(|(name, _)| *name != id);
                scope.inputs.push((id, found));
                if scope.inputs.len() > INPUTS_MAX {
                    let words = format!("is one of more than {INPUTS_MAX} inputs with an id");
                    return Err(fault(IssueCode::TooLong, &place, words));
                }
            }
        }
        Ok(scope)
    }

    /// What an `Expression` gives of the subject.
    pub(super) fn evaluate(
        &self,
        expression: &Value,
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<Vec<Value>, Fault> {
        let text = text_of(expression, place)?;
        let patterns = text.matches("atches").count();
        let steps = STEPS_TO_COMPILE + text.len() + patterns * STEPS_OF_PATTERN;
        let too_costly = "the expression can't be evaluated";
        self.budget
            .take_steps(0, steps)
            .map_err(|error| failed(place, too_costly, &error))?;
        let compiled = Expression::compile(&text)
            .map_err(|error| failed(place, "the expression doesn't compile", &error))?;
        let none = Value::Array(Vec::new());
        let of = |one: &'_ Option<(String, Value)>| -> Value {
            one.as_ref()
                .map_or(Value::Array(Vec::new()), |(_, value)| value.clone())
        };
        let (encounter, practitioner, organization) = (
            of(&self.encounter),
            of(&self.practitioner),
            of(&self.organization),
        );
        let subject = &self.subject.1;
        let mut variables: Vec<(&str, &Value)> = vec![
            ("subject", subject),
            ("patient", subject),
            ("encounter", &encounter),
            ("practitioner", &practitioner),
            ("organization", &organization),
        ];
        for name in GIVEN {
            let given = self.given.iter().find(|(given, _)| *given == name);
            variables.push((name, given.map_or(&none, |(_, value)| value)));
        }
        for (name, found) in &scope.inputs {
            variables.push((name, found));
        }
        let environment = Environment {
            variables,
            now_ms: Some(self.now_ms),
        };
        let found = compiled
            .evaluate_within(subject, &environment, &self.budget)
            .map_err(|error| failed(place, "the expression can't be evaluated", &error))?;
        let mut values = Vec::with_capacity(found.len());
        for value in found.iter().map(Item::value) {
            self.make(value, place)?;
            values.push(value.clone());
        }
        Ok(values)
    }

    /// Takes from the budget what a part of the result takes.
    pub(super) fn make(&self, value: &Value, place: &str) -> Result<(), Fault> {
        let taken = self.budget.take_bytes(0, bytes_of(value));
        let words = "what is made of the definition is too much";
        taken.map_err(|_| fault(IssueCode::TooCostly, place, words))
    }

    /// Whether a condition holds: it gives true, and nothing besides.
    pub(super) fn holds(
        &self,
        condition: &Value,
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<bool, Fault> {
        let Some(expression) = condition.get("expression") else {
            let words = "has no expression, so nobody but a person can decide it";
            return Err(fault(IssueCode::Required, place, words));
        };
        let place = format!("{place}.expression");
        match self.evaluate(expression, scope, &place)?.as_slice() {
            [] => Ok(false),
            [Value::Bool(holds)] => Ok(*holds),
            _ => Err(fault(
                IssueCode::Value,
                &place,
                "gives something else than true or false",
            )),
        }
    }

    /// A part of a definition in which those elements have their values that say how they are worked out. `but` are
    /// the members that are left as they stand.
    pub(super) fn worked_out<'v>(
        &self,
        whole: &'v Value,
        but: &[&str],
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<Cow<'v, Value>, Fault> {
        let Some(members) = whole.as_object() else {
            return Ok(Cow::Borrowed(whole));
        };
        let is_left = |name: &str| but.contains(&name);
        let concerned = |(name, part): (&String, &Value)| !is_left(name) && has_expressions(part);
        if !members.iter().any(concerned) {
            return Ok(Cow::Borrowed(whole));
        }
        let made = self.work_members(members, but, scope, place)?;
        Ok(Cow::Owned(Value::Object(made)))
    }

    fn work_members(
        &self,
        members: &Map<String, Value>,
        but: &[&str],
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<Map<String, Value>, Fault> {
        let mut made = Map::new();
        for (name, part) in members {
            if but.contains(&name.as_str()) {
                made.insert(name.clone(), part.clone());
                continue;
            }
            match name.strip_prefix('_').filter(|_| has_expressions(part)) {
                Some(name) => {
                    let place = format!("{place}.{name}");
                    let own = members.get(name);
                    if let Some(value) = self.work_primitive(own, part, scope, &place)? {
                        made.insert(name.to_owned(), value);
                    }
                }
                // What stands beside a primitive element says what it is.
                None if members
                    .get(&format!("_{name}"))
                    .is_some_and(has_expressions) => {}
                None => {
                    let place = format!("{place}.{name}");
                    if let Some(value) = self.work(part, scope, &place)? {
                        made.insert(name.clone(), value);
                    }
                }
            }
        }
        Ok(made)
    }

    fn work(&self, value: &Value, scope: &Scope<'_>, place: &str) -> Result<Option<Value>, Fault> {
        match value {
            Value::Array(items) => {
                let mut made = Vec::new();
                for (number, item) in items.iter().enumerate() {
                    made.extend(self.work(item, scope, &format!("{place}[{number}]"))?);
                }
                Ok(Some(Value::Array(made)).filter(|made| made != &Value::Array(Vec::new())))
            }
            Value::Object(members) => match expression_in(value) {
                Some(expression) => self.one(expression, scope, place),
                None => {
                    let made = self.work_members(members, &[], scope, place)?;
                    Ok(Some(Value::Object(made)))
                }
            },
            other => Ok(Some(other.clone())),
        }
    }

    /// A primitive element, of which `own` is what stands in it, and `beside` has the extensions.
    fn work_primitive(
        &self,
        own: Option<&Value>,
        beside: &Value,
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<Option<Value>, Fault> {
        let Value::Array(list) = beside else {
            return match expression_in(beside) {
                Some(expression) => self.one(expression, scope, place),
                None => Ok(own.cloned()),
            };
        };
        let own: &[Value] = own.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let mut made = Vec::new();
        for number in 0..list.len().max(own.len()) {
            let place = format!("{place}[{number}]");
            match list.get(number).and_then(expression_in) {
                Some(expression) => made.extend(self.evaluate(expression, scope, &place)?),
                None => made.extend(own.get(number).filter(|one| !one.is_null()).cloned()),
            }
        }
        Ok((!made.is_empty()).then_some(Value::Array(made)))
    }

    /// The one value that an expression gives, or none.
    fn one(
        &self,
        expression: &Value,
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<Option<Value>, Fault> {
        let mut values = self.evaluate(expression, scope, place)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(fault(
                IssueCode::Value,
                place,
                "is worked out to several values",
            )),
        }
    }

    /// Puts the values of `dynamicValue` where their paths say. `choose` says for each path what it is put into: the
    /// type there, and the rest of the path.
    pub(super) fn fill(
        &self,
        dynamic: Option<&Value>,
        scope: &Scope<'_>,
        place: &str,
        mut put: impl FnMut(&str, Vec<Value>) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let list = dynamic.and_then(Value::as_array);
        for (number, one) in list.into_iter().flatten().enumerate() {
            let place = format!("{place}.dynamicValue[{number}]");
            let (Some(path), Some(expression)) = (
                one.get("path").and_then(Value::as_str),
                one.get("expression"),
            ) else {
                return Err(fault(
                    IssueCode::Required,
                    &place,
                    "has a path and an expression",
                ));
            };
            let values = self.evaluate(expression, scope, &format!("{place}.expression"))?;
            put(path, values)
                .map_err(|words| fault(IssueCode::Value, &format!("{place}.path"), words))?;
        }
        Ok(())
    }
}

/// What an element says of how its value is worked out.
fn expression_in(element: &Value) -> Option<&Value> {
    let list = element.get("extension")?.as_array()?;
    list.iter()
        .find(|one| one["url"] == WORKED_OUT)?
        .get("valueExpression")
}

fn has_expressions(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_expressions),
        Value::Object(members) => {
            expression_in(value).is_some() || members.values().any(has_expressions)
        }
        _ => false,
    }
}

/// About how many bytes a value takes.
fn bytes_of(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| name.len() + bytes_of(value))
            .sum(),
        _ => 0,
    };
    // What a value takes whatever is in it.
    inner + 32
}

/// Puts values at a path below something of a type.
pub(super) fn put(
    into: &mut Map<String, Value>,
    kind: &str,
    path: &str,
    values: Vec<Value>,
) -> Result<(), String> {
    // As a FHIRPath from a resource on may begin with its type.
    let path = path.strip_prefix(&format!("{kind}.")).unwrap_or(path);
    fhir::fill(into, kind, path, values)
}

/// Whether CQL and FHIRPath both read it as a text.
fn is_text(text: &str) -> bool {
    let inner = text
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    inner.is_some_and(|inner| !inner.contains(['\'', '\\']))
}

/// Whether it is a number, and no name that a number can have (`inf`).
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|first: char| first.is_ascii_digit()) && digits.parse::<f64>().is_ok()
}

/// The FHIRPath of an `Expression`. Of CQL those that are written the same in both are taken: numbers, quantities,
/// texts, true, false, `Now()` and `Today()`.
fn text_of(expression: &Value, place: &str) -> Result<String, Fault> {
    let language = expression.get("language").and_then(Value::as_str);
    let text = expression.get("expression").and_then(Value::as_str);
    let Some(text) = text else {
        let words = "has no expression of its own; those of a library are not looked up here";
        return Err(fault(IssueCode::NotSupported, place, words));
    };
    if text.len() > EXPRESSION_MAX {
        let words = format!("is longer than {EXPRESSION_MAX} bytes");
        return Err(fault(IssueCode::TooLong, place, words));
    }
    match language.unwrap_or_default() {
        "text/fhirpath" => Ok(text.to_owned()),
        "text/cql" | "text/cql-expression" | "text/cql.expression" => {
            let text = text.trim();
            match text {
                "Now()" => return Ok("now()".to_owned()),
                "Today()" => return Ok("today()".to_owned()),
                _ => {}
            }
            let is_quantity = text
                .split_once(' ')
                .is_some_and(|(number, unit)| is_number(number) && is_text(unit.trim_start()));
            if is_text(text) || is_number(text) || is_quantity || matches!(text, "true" | "false") {
                return Ok(text.to_owned());
            }
            Err(fault(
                IssueCode::NotSupported,
                place,
                "is in CQL, which is not evaluated here; write it in text/fhirpath (of CQL only numbers, quantities, texts, true, false, Now() and Today() are taken)",
            ))
        }
        _ => Err(fault(
            IssueCode::NotSupported,
            place,
            "is in a language that is not evaluated here; write it in text/fhirpath",
        )),
    }
}
