//! Where in a resource an expression points, for those who change it.
//!
//! Whoever sends a patch chooses its expressions, so they are held to a part of FHIRPath whose cost is
//! bounded by the size of the expression times that of the resource: paths, indexes, types, and
//! criteria on the item at hand. Nothing in it starts again at the root, repeats, or makes new values
//! of old ones.
use super::eval;
use super::functions::Function as F;
use super::parse::{Expr, Kind, Start, Step, StepKind};
use super::value::{It, Node};
use super::{Environment, Expression, PathError};
use serde_json::Value;

/// A step from a JSON value to one below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A member of an object.
    Member(String),
    /// An item of an array.
    Index(usize),
}

/// Elements that one expression may point at.
const PLACES_MAX: usize = 256;

impl Expression {
    /// The places of the elements that the expression selects, as ways through the JSON from its root.
    /// Of a primitive element that has extensions only it is the way to its `_name`.
    ///
    /// # Errors
    /// [`PathError`] where the expression is none that points, selects more than 256 elements, or can't be
    /// evaluated.
    pub(crate) fn places(&self, focus: &Value) -> Result<Vec<Vec<Key>>, PathError> {
        check(&self.root)?;
        let items = eval::evaluate(
            &self.root,
            focus,
            &Environment::default(),
            &super::Budget::default(),
        )?;
        let nowhere = || PathError::new(0, "the expression gives values, not elements");
        // Each is looked for from the root.
        if items.len() > PLACES_MAX {
            return Err(PathError::new(
                0,
                format!(
                    "the expression selects {} elements, more than {PLACES_MAX}",
                    items.len()
                ),
            ));
        }
        let mut places = Vec::with_capacity(items.len());
        for item in &items {
            let It::Node(Node { value, sibling, .. }) = item else {
                return Err(nowhere());
            };
            let mut keys = Vec::new();
            let wanted = if value.is_null() {
                sibling.unwrap_or(value)
            } else {
                value
            };
            if !find(focus, wanted, &mut keys) {
                return Err(nowhere());
            }
            places.push(keys);
        }
        Ok(places)
    }
}

/// Looks for the very value, not for one like it.
fn find(within: &Value, wanted: &Value, keys: &mut Vec<Key>) -> bool {
    if std::ptr::eq(within, wanted) {
        return true;
    }
    match within {
        Value::Object(members) => members.iter().any(|(name, value)| {
            if !matches!(value, Value::Object(_) | Value::Array(_)) && !std::ptr::eq(value, wanted)
            {
                return false;
            }
            keys.push(Key::Member(name.clone()));
            let found = find(value, wanted, keys);
            if !found {
                keys.pop();
            }
            found
        }),
        Value::Array(items) => items.iter().enumerate().any(|(place, value)| {
            keys.push(Key::Index(place));
            let found = find(value, wanted, keys);
            if !found {
                keys.pop();
            }
            found
        }),
        _ => false,
    }
}

fn check(expr: &Expr) -> Result<(), PathError> {
    match &expr.kind {
        Kind::Empty | Kind::Literal(_) => Ok(()),
        Kind::Path(start, steps) => {
            match start {
                Start::Focus | Start::This | Start::Index => {}
                Start::Expr(inner) => check(inner)?,
                Start::Total | Start::Variable(_) => {
                    return Err(PathError::new(
                        expr.position,
                        "a patch's expression uses no variables",
                    ));
                }
            }
            steps.iter().try_for_each(check_step)
        }
        Kind::Negate(inner) | Kind::Is(inner, _) | Kind::As(inner, _) => check(inner),
        Kind::Binary(_, left, right) => check(left).and_then(|()| check(right)),
    }
}

fn check_step(step: &Step) -> Result<(), PathError> {
    match &step.kind {
        StepKind::Member(..) | StepKind::OfType(_) | StepKind::Is(_) => Ok(()),
        StepKind::At(index) => check(index),
        StepKind::Call(function, arguments) => {
            let points = matches!(
                function,
                F::All
                    | F::Contains
                    | F::Count
                    | F::Empty
                    | F::EndsWith
                    | F::Exists
                    | F::Extension
                    | F::First
                    | F::HasValue
                    | F::Last
                    | F::Lower
                    | F::Not
                    | F::Single
                    | F::Skip
                    | F::StartsWith
                    | F::Tail
                    | F::Take
                    | F::Upper
                    | F::Where
            );
            if points {
                return arguments.iter().try_for_each(check);
            }
            Err(PathError::new(
                step.position,
                "this function is not for the expression of a patch",
            ))
        }
        StepKind::Matches(..) => Err(PathError::new(
            step.position,
            "regular expressions are not for the expression of a patch",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn more_elements_than_an_expression_may_point_at_are_refused() {
        let given = |count: usize| json!({"resourceType": "Patient", "name": [{"given": vec!["a"; count]}]});
        let expression = Expression::compile("Patient.name.given").unwrap();
        let places = expression.places(&given(PLACES_MAX)).unwrap();
        assert_eq!(places.len(), PLACES_MAX);
        assert!(expression.places(&given(PLACES_MAX + 1)).is_err());
    }
}
