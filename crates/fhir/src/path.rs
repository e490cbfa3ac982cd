//! FHIRPath: compiled once, evaluated on JSON without copying the resource.
#![allow(unused_variables)]
use serde_json::Value;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {}

/// Why an expression can't be compiled or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {position})")]
pub struct PathError {
    /// Character position, from 0.
    pub position: usize,
    /// What is wrong.
    pub message: String,
}

/// What an expression can refer to besides its focus.
#[derive(Debug, Clone, Default)]
pub struct Environment<'a> {
    /// `%name` variables.
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
        match self { Self::Node(value) => value, Self::Value(value) => value }
    }
}

impl Expression {
    /// Compiles an expression. Functions and operators that this engine doesn't have are an error
    /// here, never silently empty at run time.
    ///
    /// # Errors
    /// [`PathError`] with the position.
    pub fn compile(text: &str) -> Result<Self, PathError> {
        todo!()
    }
    /// Evaluates on a focus.
    ///
    /// # Errors
    /// [`PathError`] for type errors.
    pub fn evaluate<'a>(&self, focus: &'a Value, environment: &Environment<'a>) -> Result<Vec<Item<'a>>, PathError> {
        todo!()
    }
    /// Evaluates to a boolean by FHIRPath's singleton rule; empty is `None`.
    ///
    /// # Errors
    /// [`PathError`] when the result is not a single boolean.
    pub fn test(&self, focus: &Value, environment: &Environment<'_>) -> Result<Option<bool>, PathError> {
        todo!()
    }
}
