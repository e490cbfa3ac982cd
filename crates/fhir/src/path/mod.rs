//! FHIRPath: compiled once, evaluated on JSON without copying the resource.
//!
//! What is here: the operators, literals and functions of FHIRPath 2.0 (N1) and those of the next
//! version that the official tests ask for (`sort`, boundaries, encodings, ...), plus FHIR's `extension`,
//! `hasValue`, `getValue`, `resolve` and `conformsTo` (of R4's own types). What isn't here doesn't
//! compile. `trace` gives back what it is called on and notes nothing: what flows there is patients'.
//!
//! Three places where R4's own search expressions want more than the FHIRPath specification gives:
//! `as` filters a collection as `ofType` does; a choice may be named by its JSON member
//! (`valueQuantity`) as well as by its element (`value`); and `resolve()`, without a store to look
//! in, gives contained resources in full and of others their type and id, which is enough for
//! `resolve() is Patient`.

mod bounds;
mod budget;
mod call;
mod coded;
mod eval;
mod functions;
mod lex;
mod navigate;
mod numbers;
mod operate;
pub(crate) mod parse;
pub(crate) mod place;
mod quantity;
mod texts;
mod time;
mod types;
pub(crate) mod value;

pub use budget::Budget;
pub use coded::NamedCode;
use serde_json::Value;
use std::sync::Arc;
pub use types::{Given, PathFinding, Wanted};

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    pub(crate) root: Arc<parse::Expr>,
}

/// Why an expression can't be compiled or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {position})")]
pub struct PathError {
    /// Character position, from 0.
    pub position: usize,
    /// What is wrong. Never holds content of the resource.
    pub message: String,
    /// Whether nothing is wrong but that it costs more than the [`Budget`] has.
    pub is_too_costly: bool,
}

impl PathError {
    pub(crate) fn new(position: usize, message: impl Into<String>) -> Self {
        Self {
            position,
            message: message.into(),
            is_too_costly: false,
        }
    }
}

/// What an expression can refer to besides its focus.
#[derive(Debug, Clone, Default)]
pub struct Environment<'a> {
    /// `%name` variables. `%context`, `%resource`, `%rootResource`, `%ucum`, `%sct`, `%loinc`,
    /// `%vs-name` and `%ext-name` are always there, unless they are given another value here. A list is a collection.
    pub variables: Vec<(&'a str, &'a Value)>,
    /// `now()` and `today()`, milliseconds since the epoch.
    pub now_ms: Option<i64>,
}

/// An item of a result. (`Cow`-like: either a node of the resource or a computed value.)
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'a> {
    /// An element of the input.
    Node(&'a Value),
    /// A computed value.
    Value(Value),
}

impl Item<'_> {
    /// The JSON value.
    #[must_use]
    pub fn value(&self) -> &Value {
        match self {
            Self::Node(value) => value,
            Self::Value(value) => value,
        }
    }
}

impl Expression {
    /// Compiles an expression. Functions and operators that this engine doesn't have are an error
    /// here, never silently empty at run time.
    ///
    /// # Errors
    /// [`PathError`] with the position.
    pub fn compile(text: &str) -> Result<Self, PathError> {
        Ok(Self {
            root: Arc::new(parse::parse(text)?),
        })
    }
    /// Evaluates on a focus, with a [`Budget`] of its own that is enough for all but the absurd.
    ///
    /// # Errors
    /// [`PathError`] for type errors, and for what is too costly.
    pub fn evaluate<'a>(
        &self,
        focus: &'a Value,
        environment: &Environment<'a>,
    ) -> Result<Vec<Item<'a>>, PathError> {
        self.evaluate_within(focus, environment, &Budget::default())
    }
    /// Evaluates on a focus with what is left of a budget.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate_within<'a>(
        &self,
        focus: &'a Value,
        environment: &Environment<'a>,
        budget: &Budget,
    ) -> Result<Vec<Item<'a>>, PathError> {
        let items = eval::evaluate(&self.root, focus, environment, budget)?;
        Ok(items.into_iter().map(value::It::into_item).collect())
    }
    /// Evaluates to a boolean by FHIRPath's singleton rule; empty is `None`.
    ///
    /// # Errors
    /// [`PathError`] when the result is not a single boolean.
    pub fn test(
        &self,
        focus: &Value,
        environment: &Environment<'_>,
    ) -> Result<Option<bool>, PathError> {
        let items = eval::evaluate(&self.root, focus, environment, &Budget::default())?;
        match items.as_slice() {
            [] => Ok(None),
            [item] => match item.as_bool() {
                Some(value) => Ok(Some(value)),
                None => Err(PathError::new(0, "the result is not a boolean")),
            },
            _ => Err(PathError::new(
                0,
                format!("the result is {} items, not one boolean", items.len()),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
