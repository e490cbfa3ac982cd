//! Elements of a resource as its JSON holds them: a member, or an item of one, and of primitive
//! elements the `_name` beside it with their ids and extensions.
use crate::facts::{Element, TypeId, structures};
use crate::path::place::Key;
use serde_json::{Map, Value};

/// An element other than the resource itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The way to the object that holds it.
    pub(super) parent: Vec<Key>,
    /// Its JSON member there, without `_`.
    pub(super) member: String,
    /// Which item, if the member is an array.
    pub(super) index: Option<usize>,
}

impl Place {
    /// From the way to its value or, where it has extensions only, to its `_name`. `None` for the
    /// resource itself.
    pub(super) fn of(mut keys: Vec<Key>) -> Option<Self> {
        let index = match keys.last()? {
            Key::Index(index) => Some(*index),
            Key::Member(_) => None,
        };
        if index.is_some() {
            keys.pop();
        }
        let Some(Key::Member(member)) = keys.pop() else {
            return None;
        };
        Some(Self {
            parent: keys,
            member: member.strip_prefix('_').unwrap_or(&member).to_owned(),
            index,
        })
    }
}

/// A value with what belongs beside it; either may be `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) value: Value,
    pub(super) beside: Value,
}

pub(super) fn at<'a>(root: &'a Value, keys: &[Key]) -> Option<&'a Value> {
    keys.iter().try_fold(root, |value, key| match key {
        Key::Member(name) => value.get(name),
        Key::Index(place) => value.get(*place),
    })
}

pub(super) fn object_mut<'a>(
    root: &'a mut Value,
    keys: &[Key],
) -> Option<&'a mut Map<String, Value>> {
    keys.iter()
        .try_fold(root, |value, key| match key {
            Key::Member(name) => value.get_mut(name),
            Key::Index(place) => value.get_mut(*place),
        })?
        .as_object_mut()
}

/// The type of what is at the end of a way, as far as FHIR says.
pub(super) fn kind_at(root: &Value, keys: &[Key]) -> Option<TypeId> {
    let of_resource = |value: &Value| structures().find(value.get("resourceType")?.as_str()?);
    let mut value = root;
    let mut kind = of_resource(root);
    for key in keys {
        match key {
            Key::Index(place) => value = value.get(*place)?,
            Key::Member(name) => {
                value = value.get(name)?;
                let plain = name.strip_prefix('_').unwrap_or(name);
                kind = match (kind, plain) {
                    // Below the `_name` of a primitive.
                    (Some(kind), "extension") if structures().get(kind).is_primitive() => {
                        structures().find("Extension")
                    }
                    (Some(kind), _) => structures().get(kind).member(plain).map(|(_, kind)| kind),
                    (None, _) => None,
                };
            }
        }
        kind = of_resource(value).or(kind);
    }
    kind
}

/// The JSON member under which an element has a value of a type (named as after `value` in JSON;
/// `None` where the value can be of one type only).
pub(super) fn member_of(element: &Element, suffix: Option<&str>) -> Option<String> {
    if element.choice.is_empty() {
        return Some(element.name.to_owned());
    }
    let wanted = format!("{}{}", element.name, suffix?);
    element
        .choice
        .iter()
        .find(|member| **member == wanted)
        .cloned()
}

/// The items of a list, each with what belongs beside it.
pub(super) fn list(holder: &Map<String, Value>, member: &str) -> Vec<Pair> {
    let items = |name: &str| match holder.get(name) {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    let (mut values, mut besides) = (items(member), items(&format!("_{member}")));
    let len = values.len().max(besides.len());
    values.resize(len, Value::Null);
    besides.resize(len, Value::Null);
    let pairs = values.into_iter().zip(besides);
    pairs
        .map(|(value, beside)| Pair { value, beside })
        .collect()
}

/// Puts the items of a list back.
pub(super) fn set_list(holder: &mut Map<String, Value>, member: &str, pairs: Vec<Pair>) {
    let (values, besides): (Vec<Value>, Vec<Value>) = pairs
        .into_iter()
        .map(|pair| (pair.value, pair.beside))
        .unzip();
    set(holder, member, array(values));
    set(holder, &format!("_{member}"), array(besides));
}

fn array(items: Vec<Value>) -> Value {
    if items.iter().all(Value::is_null) {
        Value::Null
    } else {
        Value::Array(items)
    }
}

/// Sets a member in its place, or takes it away if there is nothing to set.
pub(super) fn set(holder: &mut Map<String, Value>, member: &str, value: Value) {
    if value.is_null() {
        holder.shift_remove(member);
    } else {
        holder.insert(member.to_owned(), value);
    }
}

/// Takes away an element, and whatever around it is empty then (FHIR has no empty elements).
pub(super) fn remove(root: &mut Value, place: &Place) {
    let Some(holder) = object_mut(root, &place.parent) else {
        return;
    };
    match place.index {
        None => {
            set(holder, &place.member, Value::Null);
            set(holder, &format!("_{}", place.member), Value::Null);
        }
        Some(index) => {
            let mut pairs = list(holder, &place.member);
            if index < pairs.len() {
                pairs.remove(index);
            }
            set_list(holder, &place.member, pairs);
        }
    }
    if !holder.is_empty() || place.parent.is_empty() {
        return;
    }
    let beside = place.parent.iter().rev().find_map(|key| match key {
        Key::Member(name) => Some(name.starts_with('_')),
        Key::Index(_) => None,
    });
    let Some(outer) = Place::of(place.parent.clone()) else {
        return;
    };
    if beside != Some(true) {
        return remove(root, &outer);
    }
    // The value, if there is one, stays without what was beside it.
    let Some(holder) = object_mut(root, &outer.parent) else {
        return;
    };
    match outer.index {
        None => set(holder, &format!("_{}", outer.member), Value::Null),
        Some(index) => {
            let mut pairs = list(holder, &outer.member);
            if let Some(pair) = pairs.get_mut(index) {
                pair.beside = Value::Null;
            }
            pairs.retain(|pair| !pair.value.is_null() || !pair.beside.is_null());
            set_list(holder, &outer.member, pairs);
        }
    }
}
