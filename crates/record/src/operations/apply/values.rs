//! What definitions ask of the patient they are applied to: expressions, and values that go where a path says. Pure.

use super::{Fault, fault};
use fhir::IssueCode;
use fhir::path::{Environment, Expression, Item};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The most characters of an expression, as those of search parameters have.
const EXPRESSION_MAX: usize = 4096;

/// What data an action asks for by its `input`: its type, and what narrows it as in a search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Input {
    pub(super) kind: fhir::ResourceType,
    pub(super) parameters: Vec<(String, String)>,
}

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
    for filter in filters.into_iter().flatten() {
        let path = filter.get("path").or_else(|| filter.get("searchParam"));
        let path = path.and_then(Value::as_str).unwrap_or_default();
        let Some((_, name)) = FILTERS
            .iter()
            .find(|(of, name)| path == *of || path == *name)
        else {
            return no("an input is filtered by code, category, status and clinicalStatus");
        };
        if let Some(set) = filter.get("valueSet").and_then(Value::as_str) {
            parameters.push((format!("{name}:in"), escaped(set)));
        }
        let codes = filter.get("code").and_then(Value::as_array);
        let codes: Vec<String> = codes
            .into_iter()
            .flatten()
            .filter_map(|code| {
                let value = escaped(code.get("code")?.as_str()?);
                Some(match code.get("system").and_then(Value::as_str) {
                    Some(system) => format!("{}|{value}", escaped(system)),
                    None => value,
                })
            })
            .collect();
        if !codes.is_empty() {
            parameters.push(((*name).to_owned(), codes.join(",")));
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
        let compiled = Expression::compile(&text).map_err(|error| {
            let words = format!("the expression doesn't compile: {error}");
            fault(IssueCode::Invalid, place, words)
        })?;
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
        let found = compiled.evaluate(subject, &environment).map_err(|error| {
            let words = format!("the expression can't be evaluated: {error}");
            fault(IssueCode::Invalid, place, words)
        })?;
        Ok(found
            .iter()
            .map(|item: &Item<'_>| item.value().clone())
            .collect())
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

/// The FHIRPath of an `Expression`. Of CQL those that are written the same in both are taken: numbers, texts, true,
/// false, `Now()` and `Today()`.
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
            let quoted = text
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''));
            let is_text = quoted.is_some_and(|inner| !inner.contains(['\'', '\\']));
            if is_text || matches!(text, "true" | "false") || text.parse::<f64>().is_ok() {
                return Ok(text.to_owned());
            }
            Err(fault(
                IssueCode::NotSupported,
                place,
                "is in CQL, which is not evaluated here; write it in text/fhirpath (of CQL only numbers, texts, true, false, Now() and Today() are taken)",
            ))
        }
        _ => Err(fault(
            IssueCode::NotSupported,
            place,
            "is in a language that is not evaluated here; write it in text/fhirpath",
        )),
    }
}
