//! From an element to those below it.
use super::value::{It, Node, resource_type};
use crate::facts::{TypeId, structures};
use serde_json::Value;

type Items<'a> = Vec<It<'a>>;

static NULL: Value = Value::Null;

pub(super) fn member<'a>(node: Node<'a>, name: &str, sibling: &str, found: &mut Items<'a>) {
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

pub(super) fn children<'a>(items: &[It<'a>]) -> Items<'a> {
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

pub(super) fn extensions<'a>(item: &It<'a>, url: &str) -> Items<'a> {
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
