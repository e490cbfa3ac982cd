//! Values put into a resource where a path says, as the `dynamicValue` of a definition does (R4, "PlanDefinition",
//! section 12.18.5): names of elements with dots between them, and places in lists in brackets.

use crate::facts::{Element, Structure, TypeId, structures};
use crate::validate::Primitive;
use serde_json::{Map, Value};

/// The most elements of a path. The deepest element of R4 that can be named without going in circles lies nine deep.
const DEPTH_MAX: usize = 16;
/// The highest place in a list.
const PLACE_MAX: usize = 99;

/// Puts values where a path says, below something of a type or of a backbone element (`RequestGroup.action`). What
/// lies on the way is made. A choice (`occurrence`) becomes the member that its value fits, and no other one stays. No
/// values change nothing.
///
/// # Errors
/// In words, without content of the resource: a path that is none, an element that the type doesn't have, several
/// values where one can be.
pub fn fill(
    root: &mut Map<String, Value>,
    kind: &str,
    path: &str,
    mut values: Vec<Value>,
) -> Result<(), String> {
    let mut steps = steps(path)?;
    let last = steps.pop().ok_or("the path is empty")?;
    let table = structures();
    let mut structure = table
        .find(kind)
        .map(|id| table.get(id))
        .ok_or_else(|| format!("there is no type {kind}"))?;
    if values.is_empty() {
        return Ok(());
    }
    let mut holder = root;
    for (name, place) in steps {
        let (element, member, kind) = on_the_way(structure, holder, &name)?;
        let below = holder.entry(member).or_insert(Value::Null);
        let below = if element.many {
            item(below, place, &name)?
        } else {
            only(place, &name)?;
            below
        };
        if below.is_null() {
            *below = Value::Object(Map::new());
        }
        holder = below
            .as_object_mut()
            .ok_or_else(|| format!("`{name}` has no elements"))?;
        structure = table.get(kind);
    }
    let (name, place) = last;
    let (element, member) = at_the_end(structure, holder, &name, &values)?;
    holder.shift_remove(&format!("_{member}"));
    if !element.many {
        only(place, &name)?;
        if values.len() != 1 {
            return Err(format!(
                "`{name}` can be there once, and there are {} values",
                values.len()
            ));
        }
    }
    match (element.many, place, values.len()) {
        (true, None, _) => {
            holder.insert(member, Value::Array(values));
        }
        (true, Some(_), 1) => {
            let list = holder.entry(member).or_insert(Value::Null);
            *item(list, place, &name)? = values.remove(0);
        }
        (true, Some(_), _) => {
            return Err(format!("one place of `{name}` can't take several values"));
        }
        (false, ..) => {
            holder.insert(member, values.remove(0));
        }
    }
    Ok(())
}

/// `a.b[1].c` in its parts.
fn steps(path: &str) -> Result<Vec<(String, Option<usize>)>, String> {
    let parts: Vec<&str> = path.split('.').collect();
    if parts.len() > DEPTH_MAX {
        return Err(format!("the path has more than {DEPTH_MAX} parts"));
    }
    let one = |part: &str| {
        let (name, place) = match part.strip_suffix(']').map(|part| part.split_once('[')) {
            None => (part, None),
            Some(parts) => {
                let (name, place) = parts?;
                let place: usize = place.parse().ok()?;
                if place > PLACE_MAX {
                    return None;
                }
                (name, Some(place))
            }
        };
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then(|| (name.to_owned(), place))
    };
    let steps: Option<Vec<_>> = parts.into_iter().map(one).collect();
    steps.ok_or_else(|| {
        format!(
            "the path is no names with dots between them and places up to {PLACE_MAX} in brackets"
        )
    })
}

fn no_element(structure: &Structure, name: &str) -> String {
    format!("{} has no element `{name}`", structure.name)
}

/// The element that a name on the way stands for, with its member and type.
fn on_the_way<'s>(
    structure: &'s Structure,
    holder: &Map<String, Value>,
    name: &str,
) -> Result<(&'s Element, String, TypeId), String> {
    if let Some((element, kind)) = structure.member(name) {
        return Ok((element, name.to_owned(), kind));
    }
    let element = structure.element(name);
    let element = element.ok_or_else(|| no_element(structure, name))?;
    let mut choices = element.choice.iter().zip(&element.types);
    let there = choices.find(|(member, _)| holder.contains_key(*member));
    match there {
        Some((member, kind)) => Ok((element, member.clone(), *kind)),
        None => Err(format!(
            "`{name}` is a choice: say which, one of {}",
            element.choice.join(", ")
        )),
    }
}

/// The element that the last name stands for, and the member that its values go to.
fn at_the_end<'s>(
    structure: &'s Structure,
    holder: &mut Map<String, Value>,
    name: &str,
    values: &[Value],
) -> Result<(&'s Element, String), String> {
    let found = structure.member(name).map(|(element, _)| element);
    let element = found.or_else(|| structure.element(name));
    let element = element.ok_or_else(|| no_element(structure, name))?;
    if element.choice.is_empty() {
        return Ok((element, name.to_owned()));
    }
    let member = if element.choice.iter().any(|member| member == name) {
        Some(name.to_owned())
    } else {
        values.first().and_then(|value| chosen(element, value))
    };
    let member = member.ok_or_else(|| format!("the value has no type that `{name}` can have"))?;
    for other in &element.choice {
        holder.shift_remove(other);
        holder.shift_remove(&format!("_{other}"));
    }
    Ok((element, member))
}

/// The member of a choice whose type a value has. Texts of every form come last.
fn chosen(element: &Element, value: &Value) -> Option<String> {
    let table = structures();
    let fits = |kind: TypeId, any_text: bool| {
        let structure = table.get(kind);
        match Primitive::of(structure.name) {
            Some(primitive) => {
                let is_any = matches!(
                    primitive,
                    Primitive::Text | Primitive::Uri | Primitive::Code
                );
                is_any == any_text && primitive.fits(value) && primitive.malformed(value).is_none()
            }
            None => value.as_object().is_some_and(|members| {
                !any_text && members.keys().all(|name| structure.find(name).is_some())
            }),
        }
    };
    [false, true].into_iter().find_map(|any_text| {
        let mut choices = element.choice.iter().zip(&element.types);
        let found = choices.find(|(_, kind)| fits(**kind, any_text));
        found.map(|(member, _)| member.clone())
    })
}

/// A place of a list, which is made where it is the next one.
fn item<'v>(
    list: &'v mut Value,
    place: Option<usize>,
    name: &str,
) -> Result<&'v mut Value, String> {
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let items = list
        .as_array_mut()
        .ok_or_else(|| format!("`{name}` is no list"))?;
    let place = match place {
        Some(place) => place,
        None if items.len() <= 1 => 0,
        None => return Err(format!("`{name}` is there several times: say which")),
    };
    if place == items.len() {
        items.push(Value::Null);
    }
    let many = items.len();
    items
        .get_mut(place)
        .ok_or_else(|| format!("`{name}` has {many} places, and no {place}"))
}

/// What is no list has its first place alone.
fn only(place: Option<usize>, name: &str) -> Result<(), String> {
    match place {
        None | Some(0) => Ok(()),
        Some(_) => Err(format!("`{name}` is no list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(kind: &str, before: Value, path: &str, values: &[Value]) -> Result<Value, String> {
        let Value::Object(mut root) = before else {
            unreachable!("tests begin with objects")
        };
        fill(&mut root, kind, path, values.to_vec())?;
        Ok(Value::Object(root))
    }

    #[test]
    fn values_go_where_the_path_says() {
        let day = json!("2026-03-01");
        for (kind, before, path, values, after) in [
            (
                "Task",
                json!({}),
                "description",
                vec![json!("x")],
                json!({"description": "x"}),
            ),
            (
                "Task",
                json!({"description": "x"}),
                "description",
                vec![],
                json!({"description": "x"}),
            ),
            // What lies on the way is made, in lists too.
            (
                "MedicationRequest",
                json!({}),
                "dosageInstruction[0].doseAndRate.doseQuantity.value",
                vec![json!(2)],
                json!({"dosageInstruction": [{"doseAndRate": [{"doseQuantity": {"value": 2}}]}]}),
            ),
            (
                "ServiceRequest",
                json!({"bodySite": [{"text": "a"}]}),
                "bodySite[1]",
                vec![json!({"text": "b"})],
                json!({"bodySite": [{"text": "a"}, {"text": "b"}]}),
            ),
            (
                "ServiceRequest",
                json!({"bodySite": [{"text": "a"}]}),
                "bodySite",
                vec![json!({"text": "b"})],
                json!({"bodySite": [{"text": "b"}]}),
            ),
            // A choice is the one that the value is of, and one alone.
            (
                "ServiceRequest",
                json!({"occurrencePeriod": {"start": "2026"}}),
                "occurrence",
                vec![day.clone()],
                json!({"occurrenceDateTime": "2026-03-01"}),
            ),
            (
                "ServiceRequest",
                json!({}),
                "occurrence",
                vec![json!({"start": "2026"})],
                json!({"occurrencePeriod": {"start": "2026"}}),
            ),
            (
                "ServiceRequest",
                json!({}),
                "occurrenceTiming.event",
                vec![day.clone()],
                json!({"occurrenceTiming": {"event": ["2026-03-01"]}}),
            ),
            (
                "Observation",
                json!({}),
                "value",
                vec![day],
                json!({"valueDateTime": "2026-03-01"}),
            ),
            (
                "Observation",
                json!({}),
                "value",
                vec![json!("words")],
                json!({"valueString": "words"}),
            ),
            (
                "RequestGroup.action",
                json!({}),
                "title",
                vec![json!("x")],
                json!({"title": "x"}),
            ),
        ] {
            assert_eq!(
                filled(kind, before, path, &values),
                Ok(after),
                "{kind} {path}"
            );
        }
    }

    #[test]
    fn what_can_not_be_is_said() {
        let one = || vec![json!("x")];
        for (kind, path, values, words) in [
            ("Task", "nothing", one(), "no element `nothing`"),
            ("Task", "description.more", one(), "no element `more`"),
            (
                "Task",
                "description",
                vec![json!("x"), json!("y")],
                "2 values",
            ),
            ("Task", "description[1]", one(), "no list"),
            ("Task", "note[3].text", one(), "no 3"),
            ("Task", "note[100].text", one(), "places up to"),
            ("Task", "note.where(true)", one(), "no names"),
            ("Task", "", one(), "no names"),
            ("ServiceRequest", "occurrence.start", one(), "say which"),
            ("ServiceRequest", "quantity", vec![json!(true)], "no type"),
            ("Nothing", "a", one(), "no type Nothing"),
        ] {
            let said = filled(kind, json!({}), path, &values).unwrap_err();
            assert!(said.contains(words), "{kind} {path}: {said}");
        }
    }
}
