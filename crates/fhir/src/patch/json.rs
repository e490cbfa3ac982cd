//! JSON Patch (RFC 6902) on JSON Pointers (RFC 6901).
use super::{PATCH_COPIED_BYTES_MAX, check_count};
use crate::json::is_flat_enough;
use crate::path::value::decimal;
use crate::{IssueCode, OperationOutcome};
use serde_json::Value;

/// One operation.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Add(Pointer, Value),
    Remove(Pointer),
    Replace(Pointer, Value),
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test(Pointer, Value),
}

/// The tokens of a JSON Pointer, unescaped.
pub(super) type Pointer = Vec<String>;

fn wrong(place: usize, code: IssueCode, words: impl Into<String>) -> OperationOutcome {
    OperationOutcome::at(code, words, format!("[{place}]"))
}

pub(super) fn operations(value: Value) -> Result<Vec<Operation>, OperationOutcome> {
    let Value::Array(list) = value else {
        let words = "a JSON patch is an array of operations";
        return Err(OperationOutcome::error(IssueCode::Structure, words));
    };
    check_count(list.len())?;
    list.into_iter().enumerate().map(operation).collect()
}

fn operation((place, mut value): (usize, Value)) -> Result<Operation, OperationOutcome> {
    let pointer = |name: &str| {
        let text = match value.get(name) {
            Some(Value::String(text)) => text,
            Some(_) => {
                return Err(wrong(
                    place,
                    IssueCode::Structure,
                    format!("`{name}` is not a string"),
                ));
            }
            None => {
                return Err(wrong(
                    place,
                    IssueCode::Required,
                    format!("`{name}` is missing"),
                ));
            }
        };
        pointer(text).ok_or_else(|| {
            let words = format!("`{name}` is no JSON Pointer");
            wrong(place, IssueCode::Value, words)
        })
    };
    if !value.is_object() {
        return Err(wrong(place, IssueCode::Structure, "is no object"));
    }
    let path = pointer("path")?;
    let from = match value.get("op").and_then(Value::as_str) {
        Some("move" | "copy") => Some(pointer("from")?),
        _ => None,
    };
    let given = value
        .get_mut("value")
        .map(Value::take)
        .ok_or_else(|| wrong(place, IssueCode::Required, "`value` is missing"));
    match (value.get("op"), from) {
        (None, _) => Err(wrong(place, IssueCode::Required, "`op` is missing")),
        (Some(Value::String(op)), from) => match (op.as_str(), from) {
            ("add", _) => Ok(Operation::Add(path, given?)),
            ("remove", _) => Ok(Operation::Remove(path)),
            ("replace", _) => Ok(Operation::Replace(path, given?)),
            ("test", _) => Ok(Operation::Test(path, given?)),
            ("copy", Some(from)) => Ok(Operation::Copy { from, path }),
            // What is moved would have to hold itself.
            ("move", Some(from)) if path.len() > from.len() && path.starts_with(&from) => Err(
                wrong(place, IssueCode::Value, "`path` is within what is moved"),
            ),
            ("move", Some(from)) => Ok(Operation::Move { from, path }),
            _ => Err(wrong(
                place,
                IssueCode::CodeInvalid,
                "`op` is none of add, remove, replace, move, copy, test",
            )),
        },
        (Some(_), _) => Err(wrong(place, IssueCode::Structure, "`op` is not a string")),
    }
}

fn pointer(text: &str) -> Option<Pointer> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_prefix('/')?.split('/').map(unescape).collect()
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        out.push(match part.chars().next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        out.push_str(&part[1..]);
    }
    Some(out)
}

/// Why an operation can't be done.
enum Fault {
    /// There is nothing at the pointer.
    Nowhere,
    /// Something of the array's length or the pointer's form.
    Index,
    Nesting,
    Copies,
    Untrue,
}

impl Fault {
    fn outcome(self, place: usize) -> OperationOutcome {
        let (code, words) = match self {
            Self::Nowhere => (
                IssueCode::NotFound,
                "points to what the resource doesn't have",
            ),
            Self::Index => (
                IssueCode::Value,
                "points to an array by what is no index within it",
            ),
            Self::Nesting => (
                IssueCode::Structure,
                "would nest the resource more deeply than 64 levels",
            ),
            Self::Copies => (
                IssueCode::TooLong,
                "copies more than a resource can have of bytes",
            ),
            Self::Untrue => (
                IssueCode::BusinessRule,
                "the test fails: the value is another",
            ),
        };
        wrong(place, code, words)
    }
}

pub(super) fn apply(operations: &[Operation], root: &mut Value) -> Result<(), OperationOutcome> {
    let mut room = PATCH_COPIED_BYTES_MAX;
    for (place, operation) in operations.iter().enumerate() {
        one(operation, root, &mut room).map_err(|fault| fault.outcome(place))?;
    }
    Ok(())
}

fn one(operation: &Operation, root: &mut Value, room: &mut usize) -> Result<(), Fault> {
    match operation {
        Operation::Add(path, value) => add(root, path, value.clone()),
        Operation::Remove(path) => remove(root, path).map(drop),
        Operation::Replace(path, value) => {
            if !is_flat_enough(value, path.len()) {
                return Err(Fault::Nesting);
            }
            *at_mut(root, path)? = value.clone();
            Ok(())
        }
        Operation::Move { from, path } => {
            let value = remove(root, from)?;
            add(root, path, value)
        }
        Operation::Copy { from, path } => {
            let value = at(root, from)?;
            *room = room.checked_sub(weight(value)).ok_or(Fault::Copies)?;
            let value = value.clone();
            add(root, path, value)
        }
        Operation::Test(path, value) => {
            if same(at(root, path)?, value) {
                Ok(())
            } else {
                Err(Fault::Untrue)
            }
        }
    }
}

/// The place in an array that a token means; `len` itself is no place in it.
fn index(token: &str, len: usize) -> Result<usize, Fault> {
    let plain = token == "0"
        || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    let place = token.parse().ok().filter(|_| plain);
    place.filter(|place| *place < len).ok_or(Fault::Index)
}

fn at<'a>(root: &'a Value, path: &[String]) -> Result<&'a Value, Fault> {
    path.iter().try_fold(root, |value, token| match value {
        Value::Object(members) => members.get(token).ok_or(Fault::Nowhere),
        Value::Array(items) => Ok(&items[index(token, items.len())?]),
        _ => Err(Fault::Nowhere),
    })
}

fn at_mut<'a>(root: &'a mut Value, path: &[String]) -> Result<&'a mut Value, Fault> {
    path.iter().try_fold(root, |value, token| match value {
        Value::Object(members) => members.get_mut(token).ok_or(Fault::Nowhere),
        Value::Array(items) => {
            let place = index(token, items.len())?;
            Ok(&mut items[place])
        }
        _ => Err(Fault::Nowhere),
    })
}

fn add(root: &mut Value, path: &[String], value: Value) -> Result<(), Fault> {
    if !is_flat_enough(&value, path.len()) {
        return Err(Fault::Nesting);
    }
    let Some((last, parent)) = path.split_last() else {
        *root = value;
        return Ok(());
    };
    match at_mut(root, parent)? {
        Value::Object(members) => {
            members.insert(last.clone(), value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let place = index(last, items.len() + 1)?;
            items.insert(place, value);
        }
        _ => return Err(Fault::Nowhere),
    }
    Ok(())
}

fn remove(root: &mut Value, path: &[String]) -> Result<Value, Fault> {
    let Some((last, parent)) = path.split_last() else {
        return Ok(root.take());
    };
    match at_mut(root, parent)? {
        // The other members keep their order.
        Value::Object(members) => members.shift_remove(last).ok_or(Fault::Nowhere),
        Value::Array(items) => {
            let place = index(last, items.len())?;
            Ok(items.remove(place))
        }
        _ => Err(Fault::Nowhere),
    }
}

/// Equal as section 4.6 says: numbers by what they are worth, objects without regard to order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b
                || decimal(a)
                    .zip(decimal(b))
                    .is_some_and(|(worth, other)| worth == other)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// About how many bytes a value has as text.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| weight(item) + 1).sum::<usize>(),
        Value::Object(members) => {
            let members = members.iter();
            2 + members
                .map(|(name, value)| name.len() + weight(value) + 4)
                .sum::<usize>()
        }
    }
}
