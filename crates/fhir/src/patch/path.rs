//! FHIRPath Patch (R4, section 3.1.4): operations in a `Parameters` resource.
use super::check_count;
use super::elements::{
    Pair, Place, at, kind_at, list, member_of, object_mut, remove, set, set_list,
};
use crate::facts::{Structure, TypeId, structures};
use crate::json::is_flat_enough;
use crate::path::place::Key;
use crate::path::{Expression, PathError};
use crate::{IssueCode, OperationOutcome, Resource};
use serde_json::{Map, Value};

/// The longest expression: what names a place is far shorter.
const EXPRESSION_CHARS_MAX: usize = 2_000;

/// One operation, and which parameter it is.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    place: usize,
    path: Expression,
    /// The list that `path` names, where it names one: what holds it, and the element's name.
    list: Option<(Expression, String)>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Add { name: String, value: Given },
    Insert { index: usize, value: Given },
    Delete,
    Replace { value: Given },
    Move { source: usize, destination: usize },
}

/// A value as a patch gives it.
#[derive(Debug, Clone)]
enum Given {
    /// Of a data type or a resource; the type as in `valueQuantity`, if it says one.
    Plain { pair: Pair, suffix: Option<String> },
    /// Of a type that has no name: its elements.
    Parts(Vec<(String, Given)>),
}

fn wrong(place: usize, code: IssueCode, words: impl Into<String>) -> OperationOutcome {
    OperationOutcome::at(code, words, format!("Parameters.parameter[{place}]"))
}

pub(super) fn operations(parameters: &Resource) -> Result<Vec<Operation>, OperationOutcome> {
    let list = match parameters.get("parameter") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => {
            let words = "is no array";
            return Err(OperationOutcome::at(
                IssueCode::Structure,
                words,
                "Parameters.parameter",
            ));
        }
    };
    check_count(list.len())?;
    list.iter()
        .enumerate()
        .map(|(place, parameter)| {
            operation(place, parameter).map_err(|(code, words)| wrong(place, code, words))
        })
        .collect()
}

type Fault = (IssueCode, String);

fn fault<T>(code: IssueCode, words: impl Into<String>) -> Result<T, Fault> {
    Err((code, words.into()))
}

fn operation(place: usize, parameter: &Value) -> Result<Operation, Fault> {
    if parameter.get("name").and_then(Value::as_str) != Some("operation") {
        return fault(IssueCode::Value, "its name is not `operation`");
    }
    let parts = parameter.get("part").and_then(Value::as_array);
    let part = |name: &str| {
        let mut named = parts
            .into_iter()
            .flatten()
            .filter(|part| part.get("name").and_then(Value::as_str) == Some(name));
        match (named.next(), named.next()) {
            (Some(_), Some(_)) => fault(IssueCode::Duplicate, format!("has two parts `{name}`")),
            (one, _) => Ok(one),
        }
    };
    let needed = |name: &str| match part(name)? {
        Some(part) => Ok(part),
        None => fault(IssueCode::Required, format!("the part `{name}` is missing")),
    };
    let text = |name: &str| {
        let found = ["valueString", "valueCode", "valueId", "valueUri"]
            .into_iter()
            .find_map(|member| needed(name).ok()?.get(member)?.as_str());
        match found {
            Some(text) => Ok(text),
            None => needed(name)
                .and_then(|_| fault(IssueCode::Value, format!("the part `{name}` is no text"))),
        }
    };
    let number = |name: &str| {
        let part = needed(name)?;
        let found = ["valueInteger", "valueUnsignedInt", "valuePositiveInt"]
            .into_iter()
            .find_map(|member| part.get(member)?.as_u64());
        match found.and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => fault(IssueCode::Value, format!("the part `{name}` is no index")),
        }
    };
    let value = || given(needed("value")?);
    let what = match text("type")? {
        "add" => What::Add {
            name: text("name")?.trim_end_matches("[x]").to_owned(),
            value: value()?,
        },
        "insert" => What::Insert {
            index: number("index")?,
            value: value()?,
        },
        "delete" => What::Delete,
        "replace" => What::Replace { value: value()? },
        "move" => What::Move {
            source: number("source")?,
            destination: number("destination")?,
        },
        _ => {
            let words = "the part `type` is none of add, insert, delete, replace, move";
            return fault(IssueCode::CodeInvalid, words);
        }
    };
    let path = text("path")?;
    Ok(Operation {
        place,
        list: match path.rsplit_once('.') {
            Some((holder, name)) if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                compile(holder).ok().map(|holder| (holder, name.to_owned()))
            }
            _ => None,
        },
        path: compile(path)?,
        what,
    })
}

fn compile(text: &str) -> Result<Expression, Fault> {
    if text.chars().count() > EXPRESSION_CHARS_MAX {
        let words = format!("the path has more than {EXPRESSION_CHARS_MAX} characters");
        return fault(IssueCode::TooLong, words);
    }
    Expression::compile(text).map_err(|error| bad_path(&error))
}

fn bad_path(error: &PathError) -> Fault {
    (IssueCode::Invalid, format!("the path: {error}"))
}

fn given(part: &Value) -> Result<Given, Fault> {
    let Value::Object(members) = part else {
        return fault(IssueCode::Structure, "a part is no object");
    };
    if let Some(resource) = members.get("resource") {
        return Ok(Given::Plain {
            pair: Pair {
                value: resource.clone(),
                beside: Value::Null,
            },
            suffix: None,
        });
    }
    if let Some(parts) = members.get("part").and_then(Value::as_array) {
        let parts = parts.iter().map(|part| {
            let name = part.get("name").and_then(Value::as_str);
            let name = name.ok_or((
                IssueCode::Required,
                "a part of the value has no name".to_owned(),
            ))?;
            Ok((name.trim_end_matches("[x]").to_owned(), given(part)?))
        });
        return Ok(Given::Parts(parts.collect::<Result<_, Fault>>()?));
    }
    let mut suffixes = members.keys().filter_map(|name| {
        let name = name.strip_prefix('_').unwrap_or(name);
        name.strip_prefix("value").filter(|rest| !rest.is_empty())
    });
    let Some(suffix) = suffixes.next() else {
        return fault(IssueCode::Required, "a part has no value");
    };
    if suffixes.any(|other| other != suffix) {
        return fault(IssueCode::Duplicate, "a part has values of several types");
    }
    let member = |name: String| members.get(&name).cloned().unwrap_or(Value::Null);
    Ok(Given::Plain {
        pair: Pair {
            value: member(format!("value{suffix}")),
            beside: member(format!("_value{suffix}")),
        },
        suffix: Some(suffix.to_owned()),
    })
}

impl Given {
    fn suffix(&self) -> Option<&str> {
        match self {
            Self::Plain { suffix, .. } => suffix.as_deref(),
            Self::Parts(_) => None,
        }
    }
    /// As the value of an element of a type.
    fn pair(&self, kind: Option<TypeId>) -> Result<Pair, Fault> {
        match self {
            Self::Plain { pair, .. } => Ok(pair.clone()),
            Self::Parts(parts) => {
                let Some(kind) = kind else {
                    return fault(
                        IssueCode::Value,
                        "what the value's parts are of is not known",
                    );
                };
                let mut members = Map::new();
                for (name, part) in parts {
                    add_to(&mut members, structures().get(kind), name, part)?;
                }
                Ok(Pair {
                    value: Value::Object(members),
                    beside: Value::Null,
                })
            }
        }
    }
}

pub(super) fn apply(operations: &[Operation], root: &mut Value) -> Result<(), OperationOutcome> {
    for operation in operations {
        one(operation, root).map_err(|(code, words)| wrong(operation.place, code, words))?;
    }
    Ok(())
}

fn one(operation: &Operation, root: &mut Value) -> Result<(), Fault> {
    let places = operation
        .path
        .places(root)
        .map_err(|error| bad_path(&error))?;
    match &operation.what {
        What::Add { name, value } => add(root, single(places)?, name, value),
        What::Insert { index, value } => {
            let list = whole_list(operation, root, places)?;
            insert(root, &list, *index, value)
        }
        What::Delete => {
            if places.is_empty() {
                return Ok(());
            }
            let place = element(single(places)?)?;
            remove(root, &place);
            Ok(())
        }
        What::Replace { value } => replace(root, &element(single(places)?)?, value),
        What::Move {
            source,
            destination,
        } => {
            let list = whole_list(operation, root, places)?;
            relocate(root, &list, *source, *destination)
        }
    }
}

fn single(mut places: Vec<Vec<Key>>) -> Result<Vec<Key>, Fault> {
    match (places.pop(), places.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => fault(
            IssueCode::NotFound,
            "the path selects nothing in the resource",
        ),
        (Some(_), false) => {
            let words = format!(
                "the path selects {} elements, where one is wanted",
                places.len() + 1
            );
            fault(IssueCode::MultipleMatches, words)
        }
    }
}

fn element(keys: Vec<Key>) -> Result<Place, Fault> {
    Place::of(keys).ok_or_else(|| {
        (
            IssueCode::BusinessRule,
            "the path is the resource itself; replace or delete it as a resource".to_owned(),
        )
    })
}

/// The list that a path names, all of it; its place has no index. It may be empty.
fn whole_list(operation: &Operation, root: &Value, places: Vec<Vec<Key>>) -> Result<Place, Fault> {
    let no_list = || (IssueCode::Value, "the path names no whole list".to_owned());
    if places.is_empty() {
        let (holder, name) = operation.list.as_ref().ok_or_else(no_list)?;
        let holders = holder.places(root).map_err(|error| bad_path(&error))?;
        return Ok(Place {
            parent: single(holders)?,
            member: name.clone(),
            index: None,
        });
    }
    let count = places.len();
    let mut list: Option<Place> = None;
    for (number, keys) in places.into_iter().enumerate() {
        let place = element(keys)?;
        let whole = Place {
            index: None,
            ..place.clone()
        };
        if place.index != Some(number) || list.as_ref().is_some_and(|list| *list != whole) {
            return Err(no_list());
        }
        list = Some(whole);
    }
    let place = list.ok_or_else(no_list)?;
    let items = at(root, &place.parent)
        .and_then(Value::as_object)
        .map_or(0, |holder| self::list(holder, &place.member).len());
    if items == count {
        Ok(place)
    } else {
        Err(no_list())
    }
}

fn too_deep() -> Fault {
    (
        IssueCode::Structure,
        "would nest the resource more deeply than 64 levels".to_owned(),
    )
}

/// Adds an element to what is at the end of a way.
fn add(root: &mut Value, mut keys: Vec<Key>, name: &str, value: &Given) -> Result<(), Fault> {
    let kind = kind_at(root, &keys);
    let structure = kind.map(|kind| structures().get(kind));
    let Some(structure) = structure else {
        return fault(IssueCode::Value, "FHIR doesn't say what the path selects");
    };
    if !at(root, &keys).is_some_and(Value::is_object) {
        // A primitive: what is added belongs beside it.
        keys = beside(root, keys)?;
    }
    let mut added = Map::new();
    add_to(&mut added, structure, name, value)?;
    if !is_flat_enough(&Value::Object(added), keys.len()) {
        return Err(too_deep());
    }
    let Some(holder) = object_mut(root, &keys) else {
        return fault(IssueCode::Value, "the path selects what has no elements");
    };
    add_to(holder, structure, name, value)
}

/// The way to the `_name` of a primitive element, which is made if it isn't there.
fn beside(root: &mut Value, keys: Vec<Key>) -> Result<Vec<Key>, Fault> {
    let place = element(keys)?;
    let name = format!("_{}", place.member);
    let Some(holder) = object_mut(root, &place.parent) else {
        return fault(IssueCode::Value, "the path selects what has no elements");
    };
    let mut keys = place.parent;
    keys.push(Key::Member(name.clone()));
    match place.index {
        None => {
            holder.entry(name).or_insert_with(|| Map::new().into());
        }
        Some(index) => {
            let mut pairs = list(holder, &place.member);
            if let Some(pair) = pairs.get_mut(index)
                && pair.beside.is_null()
            {
                pair.beside = Map::new().into();
            }
            set_list(holder, &place.member, pairs);
            keys.push(Key::Index(index));
        }
    }
    Ok(keys)
}

fn add_to(
    holder: &mut Map<String, Value>,
    structure: &Structure,
    name: &str,
    value: &Given,
) -> Result<(), Fault> {
    let element = structure.element(name);
    // A primitive has an id and extensions, which FHIR says of all elements.
    let element = element.or_else(|| {
        let basis = structures().find("Element")?;
        structures().get(basis).element(name)
    });
    let Some(element) = element else {
        let words = format!("{} has no such element", structure.name);
        return fault(IssueCode::NotFound, words);
    };
    let Some(member) = member_of(element, value.suffix()) else {
        let words = format!(
            "{}.{}[x] can't be of the value's type",
            structure.name, element.name
        );
        return fault(IssueCode::Value, words);
    };
    let kind = structure.member(&member).map(|(_, kind)| kind);
    let pair = value.pair(kind)?;
    if element.many {
        let mut pairs = list(holder, &member);
        pairs.push(pair);
        set_list(holder, &member, pairs);
        return Ok(());
    }
    let names = element.choice.iter().map(String::as_str);
    let there = names
        .chain([element.name])
        .any(|name| holder.contains_key(name) || holder.contains_key(&format!("_{name}")));
    if there {
        let words = format!(
            "{}.{} is there already, and only once; replace it",
            structure.name, element.name
        );
        return fault(IssueCode::Duplicate, words);
    }
    set(holder, &member, pair.value);
    set(holder, &format!("_{member}"), pair.beside);
    Ok(())
}

fn replace(root: &mut Value, place: &Place, value: &Given) -> Result<(), Fault> {
    let structure = kind_at(root, &place.parent).map(|kind| structures().get(kind));
    let known = structure.and_then(|structure| structure.member(&place.member));
    let member = match known {
        Some((element, _)) => member_of(element, value.suffix()).ok_or_else(|| {
            let words = format!("{}[x] can't be of the value's type", element.name);
            (IssueCode::Value, words)
        })?,
        None => place.member.clone(),
    };
    let kind = structure.and_then(|structure| Some(structure.member(&member)?.1));
    let pair = value.pair(kind)?;
    if !is_flat_enough(&pair.value, place.parent.len() + 2) {
        return Err(too_deep());
    }
    let Some(holder) = object_mut(root, &place.parent) else {
        return fault(IssueCode::NotFound, "the path selects nothing");
    };
    if let Some(index) = place.index {
        let mut pairs = list(holder, &place.member);
        if let Some(old) = pairs.get_mut(index) {
            *old = pair;
        }
        set_list(holder, &place.member, pairs);
        return Ok(());
    }
    let (old, new) = (&place.member, &member);
    rename(holder, old, new, pair.value);
    rename(holder, &format!("_{old}"), &format!("_{new}"), pair.beside);
    Ok(())
}

/// Sets a member, in the place of one that had another name.
fn rename(holder: &mut Map<String, Value>, old: &str, new: &str, value: Value) {
    match holder.keys().position(|name| name == old) {
        Some(place) if old != new && !value.is_null() => {
            holder.shift_remove(old);
            holder.shift_insert(place, new.to_owned(), value);
        }
        Some(_) if value.is_null() => {
            holder.shift_remove(old);
        }
        _ => set(holder, new, value),
    }
}

fn insert(root: &mut Value, place: &Place, index: usize, value: &Given) -> Result<(), Fault> {
    let structure = kind_at(root, &place.parent).map(|kind| structures().get(kind));
    let known = structure.and_then(|structure| structure.member(&place.member));
    if !known.is_some_and(|(element, _)| element.many) {
        return fault(IssueCode::Value, "the path names no list");
    }
    let pair = value.pair(known.map(|(_, kind)| kind))?;
    if !is_flat_enough(&pair.value, place.parent.len() + 2) {
        return Err(too_deep());
    }
    let Some(holder) = object_mut(root, &place.parent) else {
        return fault(IssueCode::NotFound, "the path selects nothing");
    };
    let mut pairs = list(holder, &place.member);
    if index > pairs.len() {
        let words = format!("the index is beyond the {} items of the list", pairs.len());
        return fault(IssueCode::Value, words);
    }
    pairs.insert(index, pair);
    set_list(holder, &place.member, pairs);
    Ok(())
}

fn relocate(
    root: &mut Value,
    place: &Place,
    source: usize,
    destination: usize,
) -> Result<(), Fault> {
    let Some(holder) = object_mut(root, &place.parent) else {
        return fault(IssueCode::NotFound, "the path selects nothing");
    };
    let mut pairs = list(holder, &place.member);
    if source >= pairs.len() || destination >= pairs.len() {
        let words = format!(
            "`source` or `destination` is beyond the {} items of the list",
            pairs.len()
        );
        return fault(IssueCode::Value, words);
    }
    let moved = pairs.remove(source);
    pairs.insert(destination, moved);
    set_list(holder, &place.member, pairs);
    Ok(())
}
