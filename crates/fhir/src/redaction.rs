//! Resources without some of their elements, for those who need not know them.
//!
//! What is left is valid FHIR: an element that has to be there and is not shown says so
//! (`data-absent-reason` `masked`), and so does a modifier extension, which changes what others mean. Narrative, contained resources and extensions
//! can repeat anything, so they are never shown. Whose a resource is always is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::facts::{Element, Structure, TypeId, structures};
use crate::search::{Reach, of_whose};
use crate::{Resource, ResourceType, subset};

/// The extension by which an element says why it has no value.
const ABSENT: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";
/// Elements of any resource that can repeat what others say.
const NEVER: [&str; 3] = ["text", "contained", "extension"];
/// Elements without which nobody knows what a resource is.
const ALWAYS: [&str; 4] = ["id", "meta", "implicitRules", "modifierExtension"];

/// What a redaction is made of, by the names of elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The elements at the top that are shown, beside those that always are; without it all of them.
    pub shows: Option<&'a [String]>,
    /// Elements that are not, wherever they lie: `component.value`.
    pub hides: &'a [String],
    /// Data types whose elements are not, wherever they lie: `Annotation`; or one element of a data type:
    /// `CodeableConcept.text`.
    pub data_types: &'a [String],
}

/// Which elements of a type are not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    kind: ResourceType,
    /// Those at the top that are shown.
    top: BTreeSet<&'static str>,
    hidden: Node,
    data_types: Vec<TypeId>,
    /// Single elements of data types.
    parts: Vec<(TypeId, &'static str)>,
}

/// Elements on the ways to those that are not shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// Whether the element is not shown itself.
    is_hidden: bool,
    below: BTreeMap<&'static str, Node>,
}

impl Node {
    /// A way to what is hidden at it, on it, or below it.
    fn first(&self, way: &[&'static str]) -> Option<Vec<&'static str>> {
        let mut node = self;
        for (length, name) in way.iter().enumerate() {
            node = node.below.get(name)?;
            if node.is_hidden {
                return Some(way[..=length].to_vec());
            }
        }
        let mut way = way.to_vec();
        while let Some((name, next)) = node.below.first_key_value() {
            way.push(*name);
            node = next;
            if node.is_hidden {
                return Some(way);
            }
        }
        None
    }

    fn all(&self, way: &str, all: &mut Vec<String>) {
        for (name, node) in &self.below {
            let way = if way.is_empty() {
                (*name).to_owned()
            } else {
                format!("{way}.{name}")
            };
            if node.is_hidden {
                all.push(way);
            } else {
                node.all(&way, all);
            }
        }
    }
}

/// Whether a type has an element, by its names from the top.
#[must_use]
pub fn has_element(kind: ResourceType, path: &str) -> bool {
    way(kind, path).is_some()
}

/// Whether there is a data type of a name, or an element of one (`CodeableConcept.text`).
#[must_use]
pub fn is_data_type(name: &str) -> bool {
    data_type(name).is_some()
}

/// A data type, with the element of it that is named, if one is.
fn data_type(name: &str) -> Option<(TypeId, Option<&'static str>)> {
    let (name, element) = match name.split_once('.') {
        Some((name, element)) => (name, Some(element)),
        None => (name, None),
    };
    let id = structures().find(name)?;
    let found = structures().get(id);
    if found.is_resource || found.is_backbone() {
        return None;
    }
    match element {
        None => Some((id, None)),
        Some(element) => found
            .element(element)
            .map(|element| (id, Some(element.name))),
    }
}

/// The names of a way to an element, as the table has them.
fn way(kind: ResourceType, path: &str) -> Option<Vec<&'static str>> {
    let mut types = vec![structures().find(kind.name())?];
    let mut names = Vec::new();
    for part in path.split('.') {
        let element = (types.iter()).find_map(|id| structures().get(*id).element(part))?;
        names.push(element.name);
        types.clone_from(&element.types);
    }
    Some(names)
}

impl Redaction {
    /// Makes one for a type. Elements and data types that the type does not have are passed over: see
    /// [`has_element`] and [`is_data_type`].
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(kind: ResourceType, shown: Shown<'_>) -> Result<Self, String> {
        let none = || format!("{kind} has no elements");
        let structure = structures().find(kind.name()).ok_or_else(none)?;
        let structure = structures().get(structure);
        if kind == ResourceType::AuditEvent {
            return Err("an AuditEvent is shown whole or not at all".to_owned());
        }
        let whose = of_whose(kind);
        let is_whose = |name: &str| whose.ways.iter().any(|way| way[0] == name);
        let top = structure.elements.iter().filter(|element| {
            let name = element.name;
            let listed = |all: &[String]| all.iter().any(|one| one == name);
            ALWAYS.contains(&name)
                || !NEVER.contains(&name)
                    && (shown.shows.is_none_or(listed) || element.modifier || is_whose(name))
        });
        let listed = || shown.data_types.iter().filter_map(|name| data_type(name));
        let telling = |name: &&String| {
            let whole = name.split('.').next().unwrap_or_default();
            // The text of a reference is a string, and a label is a coding.
            ["Meta", "id", "code", "string", "uri"].contains(&whole)
                || ["Reference", "Reference.reference"].contains(&name.as_str())
                || ["Coding", "Coding.code", "Coding.system"].contains(&name.as_str())
        };
        if let Some(name) = shown.data_types.iter().find(telling) {
            return Err(format!(
                "`{name}` says what a resource is, or whose: such elements are hidden one by one"
            ));
        }
        let mut redaction = Self {
            kind,
            top: top.map(|element| element.name).collect(),
            hidden: Node::default(),
            data_types: listed()
                .filter(|(_, part)| part.is_none())
                .map(|(id, _)| id)
                .collect(),
            parts: listed()
                .filter_map(|(id, part)| Some((id, part?)))
                .collect(),
        };
        for path in shown.hides {
            let Some(way) = way(kind, path) else {
                continue;
            };
            if ["id", "meta"].contains(&way[0]) {
                return Err(format!("`{path}` is always shown"));
            }
            let tells = |told: &Vec<&str>| {
                told.starts_with(&way)
                    || way.starts_with(told) && way.get(told.len()) == Some(&"reference")
            };
            if whose.ways.iter().any(tells) {
                return Err(format!(
                    "`{path}` says whose a resource of the type {kind} is, which decides who may see it"
                ));
            }
            let mut node = &mut redaction.hidden;
            for name in way {
                node = node.below.entry(name).or_default();
            }
            node.is_hidden = true;
        }
        Ok(redaction)
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// The elements that are not shown: those at the top, and those that lie deeper and are named.
    #[must_use]
    pub fn hidden(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(id) = structures().find(self.kind.name()) {
            let elements = structures().get(id).elements.iter();
            let not_shown = elements.filter(|element| {
                let of_types = |id: &TypeId| self.data_types.contains(id);
                !self.top.contains(element.name) || element.types.iter().all(of_types)
            });
            all.extend(not_shown.map(|element| element.name.to_owned()));
        }
        self.hidden.all("", &mut all);
        all.sort();
        all.dedup();
        all
    }

    /// The names of the data types that are not shown wherever they lie.
    pub fn hidden_types(&self) -> impl Iterator<Item = &'static str> {
        self.data_types.iter().map(|id| structures().get(*id).name)
    }

    /// The elements of data types that are not shown wherever they lie.
    pub fn hidden_parts(&self) -> impl Iterator<Item = String> {
        let parts = self.parts.iter();
        parts.map(|(id, part)| format!("{}.{part}", structures().get(*id).name))
    }

    /// Whether an element is shown, at least in part.
    #[must_use]
    pub fn shows(&self, path: &str) -> bool {
        way(self.kind, path).is_some_and(|way| {
            self.first_hidden(&way)
                .is_none_or(|hidden| hidden.len() > way.len())
        })
    }

    /// An element that is not shown, of those that are looked at.
    #[must_use]
    pub fn hides(&self, reach: &Reach) -> Option<String> {
        if reach.everything {
            return Some("text".to_owned());
        }
        let mut ways = reach.ways.iter();
        ways.find_map(|way| self.first_hidden(way))
            .map(|way| way.join("."))
    }

    /// The first that is hidden at a way, on it, or (where one is named) below it.
    fn first_hidden(&self, way: &[&'static str]) -> Option<Vec<&'static str>> {
        let first = way.first()?;
        if !self.top.contains(first) {
            return Some(vec![*first]);
        }
        let mut types = vec![structures().find(self.kind.name())?];
        for (length, name) in way.iter().enumerate() {
            let of_way = way[..=length].to_vec();
            let element = (types.iter()).find_map(|id| structures().get(*id).element(name));
            let Some(element) = element else {
                return Some(of_way);
            };
            let is_part = types.iter().any(|id| self.is_part(*id, name));
            let is_masked = *name == "extension" || *name == "modifierExtension";
            let tells_all = element.types.iter().any(|id| is_narrative(*id));
            if is_masked || is_part || tells_all || self.is_of_data_type(&element.types) {
                return Some(of_way);
            }
            types.clone_from(&element.types);
        }
        let below = self.parts.iter().find(|(id, _)| types.contains(id));
        if let Some((_, part)) = below {
            let mut way = way.to_vec();
            way.push(part);
            return Some(way);
        }
        self.hidden.first(way)
    }

    fn is_part(&self, of: TypeId, name: &str) -> bool {
        (self.parts.iter()).any(|(id, part)| *id == of && *part == name)
    }

    fn is_of_data_type(&self, types: &[TypeId]) -> bool {
        (types.iter()).any(|id| self.data_types.contains(id))
    }

    /// Takes from a resource of the type what is not shown. See [`mark`] for the tag that says so.
    pub fn apply(&self, resource: &mut Resource) {
        if resource.kind() != self.kind {
            return;
        }
        let Some(id) = structures().find(self.kind.name()) else {
            return;
        };
        let structure = structures().get(id);
        let members = resource.members_mut();
        members.retain(|name, _| {
            let plain = name.strip_prefix('_').unwrap_or(name);
            let found = structure.member(plain);
            name == "resourceType"
                || found.is_some_and(|(element, _)| {
                    self.top.contains(element.name)
                        || element.min > 0 && !NEVER.contains(&element.name)
                })
        });
        self.within(structure, members, Some(&self.hidden), true);
    }

    fn within(
        &self,
        structure: &Structure,
        members: &mut Map<String, Value>,
        node: Option<&Node>,
        is_top: bool,
    ) {
        let names: Vec<String> = members.keys().cloned().collect();
        for name in names {
            let plain = name.strip_prefix('_').unwrap_or(&name);
            if name == "resourceType" || is_top && name == "id" {
                continue;
            }
            let Some((element, kind)) = structure.member(plain) else {
                members.shift_remove(&name);
                continue;
            };
            let below = node.and_then(|node| node.below.get(element.name));
            let is_hidden = below.is_some_and(|below| below.is_hidden)
                || is_top && !self.top.contains(element.name)
                || self.data_types.contains(&kind)
                || (self.parts.iter()).any(|(id, part)| {
                    *part == element.name && structures().get(*id).name == structure.name
                })
                || structures().get(kind).is_resource
                || is_narrative(kind)
                || element.name == "extension";
            if is_hidden {
                hide(element, kind, plain, members);
                continue;
            }
            if element.name == "modifierExtension" {
                if let Some(extensions) = members.get_mut(&name) {
                    mask_extensions(extensions);
                }
                continue;
            }
            if structures().get(kind).is_primitive() {
                without_extensions(element, plain, members);
                continue;
            }
            let inner = structures().get(kind);
            let is_kept = members.get_mut(&name).is_some_and(|value| match value {
                Value::Array(items) => {
                    items.retain_mut(|item| self.is_left(inner, item, below));
                    !items.is_empty()
                }
                value => self.is_left(inner, value, below),
            });
            if !is_kept {
                hide(element, kind, plain, members);
            }
        }
        if structure.name == "Reference"
            && let Some(Value::String(text)) = members.get("reference")
            && text.starts_with('#')
        {
            // What it refers to is not shown.
            members.shift_remove("reference");
        }
    }

    /// Whether something is left of an element.
    fn is_left(&self, structure: &Structure, value: &mut Value, node: Option<&Node>) -> bool {
        let Value::Object(members) = value else {
            return false;
        };
        self.within(structure, members, node, false);
        !members.is_empty()
    }
}

/// Whether a data type is narrative, which says again what all else says: also that of a section.
fn is_narrative(kind: TypeId) -> bool {
    structures().get(kind).name == "Narrative"
}

/// Marks a resource as a part of itself, by the tag `SUBSETTED`.
pub fn mark(resource: &mut Resource) {
    subset::tag(resource);
}

/// Takes away an element; where it has to be there, it says that it is masked.
fn hide(element: &Element, kind: TypeId, plain: &str, members: &mut Map<String, Value>) {
    let beside = format!("_{plain}");
    if element.min == 0 {
        members.shift_remove(plain);
        members.shift_remove(&beside);
        return;
    }
    let masked = match element.many {
        true => json!([masked()]),
        false => masked(),
    };
    if structures().get(kind).is_primitive() {
        members.shift_remove(plain);
        members.insert(beside, masked);
    } else {
        members.insert(plain.to_owned(), masked);
    }
}

fn masked() -> Value {
    json!({"extension": [{"url": ABSENT, "valueCode": "masked"}]})
}

/// Leaves of modifier extensions that they are there: whoever does not know what they say must not go by the
/// rest.
fn mask_extensions(extensions: &mut Value) {
    let Value::Array(items) = extensions else {
        return;
    };
    for item in items {
        let url = item.get("url").cloned().unwrap_or(Value::Null);
        *item = json!({"url": url, "extension": [{"url": ABSENT, "valueCode": "masked"}]});
    }
}

/// Takes away what stands beside primitive values, and the values that are nothing without it.
fn without_extensions(element: &Element, plain: &str, members: &mut Map<String, Value>) {
    members.shift_remove(&format!("_{plain}"));
    if let Some(Value::Array(items)) = members.get_mut(plain) {
        items.retain(|item| !item.is_null());
        if items.is_empty() {
            members.shift_remove(plain);
        }
    }
    if element.min > 0 && !members.contains_key(plain) {
        let value = match element.many {
            true => json!([masked()]),
            false => masked(),
        };
        members.insert(format!("_{plain}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Named;

    fn of(kind: ResourceType, shows: Option<&[&str]>, hides: &[&str], types: &[&str]) -> Redaction {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let shows = shows.map(owned);
        let shown = Shown {
            shows: shows.as_deref(),
            hides: &owned(hides),
            data_types: &owned(types),
        };
        Redaction::new(kind, shown).unwrap()
    }

    fn redacted(redaction: &Redaction, value: Value) -> Value {
        let mut resource = Resource::from_value(value).unwrap();
        redaction.apply(&mut resource);
        assert_eq!(crate::validate::check(&resource), [], "{resource:?}");
        resource.into_value()
    }

    #[test]
    fn what_is_hidden_goes_everywhere() {
        let absent = masked();
        let redaction = of(
            ResourceType::Observation,
            None,
            &["component.value", "code"],
            &["Annotation"],
        );
        let left = redacted(
            &redaction,
            json!({
                "resourceType": "Observation", "id": "o", "status": "final",
                "_status": {"extension": [{"url": "u", "valueString": "x"}]},
                "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},
                "contained": [{"resourceType": "Patient", "id": "p"}],
                "extension": [{"url": "u", "valueString": "x"}],
                "modifierExtension": [{"url": "http://e/m", "valueString": "x"}],
                "code": {"text": "x"},
                "subject": {"reference": "Patient/p"},
                "performer": [{"reference": "#p"}, {"reference": "Practitioner/d"}],
                "note": [{"text": "x"}],
                "valueQuantity": {"value": 1, "_unit": {"extension": [{"url": "u", "valueString": "x"}]}},
                "component": [{"code": {"text": "c"}, "valueString": "x", "_valueString": {"id": "x"}}],
            }),
        );
        assert_eq!(
            left,
            json!({
                "resourceType": "Observation", "id": "o", "status": "final",
                "modifierExtension": [{"url": "http://e/m", "extension": absent["extension"]}],
                "code": absent,
                "subject": {"reference": "Patient/p"},
                "performer": [{"reference": "Practitioner/d"}],
                "valueQuantity": {"value": 1},
                "component": [{"code": {"text": "c"}}],
            })
        );
    }

    #[test]
    fn what_is_listed_stays_with_whose_it_is() {
        let redaction = of(ResourceType::Condition, Some(&["code"]), &[], &[]);
        let left = redacted(
            &redaction,
            json!({
                "resourceType": "Condition", "id": "c", "code": {"text": "c"}, "severity": {"text": "x"},
                "subject": {"reference": "Patient/p"}, "onsetString": "x", "recordedDate": "2020",
            }),
        );
        let expected = json!({
            "resourceType": "Condition", "id": "c", "code": {"text": "c"},
            "subject": {"reference": "Patient/p"},
        });
        assert_eq!(left, expected);
        let redaction = of(
            ResourceType::Patient,
            Some(&["name", "birthDate"]),
            &["name.period"],
            &["Address"],
        );
        let left = redacted(
            &redaction,
            json!({
                "resourceType": "Patient", "id": "p",
                "name": [{"given": [null, "A"], "_given": [{"extension": [{"url": "u", "valueCode": "x"}]}, null], "period": {"start": "2020"}}],
                "gender": "female", "birthDate": "2000",
                "contact": [{"address": {"city": "x"}}],
            }),
        );
        let expected = json!({
            "resourceType": "Patient", "id": "p", "name": [{"given": ["A"]}], "birthDate": "2000",
        });
        assert_eq!(left, expected);
    }

    #[test]
    fn who_is_not_shown_it_does_not_search_by_it() {
        let redaction = of(
            ResourceType::Observation,
            None,
            &["value", "component.value", "code.text"],
            &["Annotation", "Period"],
        );
        for (name, expected) in [
            ("value-quantity", Some("value")),
            ("code-value-quantity", Some("code.text")),
            ("combo-value-concept", Some("value")),
            ("component-code-value-quantity", Some("component.value")),
            ("component-value-concept", Some("component.value")),
            ("code", Some("code.text")),
            ("component-code", None),
            ("category", None),
            ("patient", None),
            // A choice may be of the type.
            ("date", Some("effective")),
            ("_id", None),
            ("_tag", None),
            ("_text", Some("text")),
            ("_content", Some("text")),
        ] {
            let reach = Reach::of(ResourceType::Observation, &Named::Standard(name));
            assert_eq!(redaction.hides(&reach).as_deref(), expected, "{name}");
        }
        assert!(redaction.shows("code") && !redaction.shows("code.text"));
        assert!(!redaction.shows("component.value") && redaction.shows("component"));
        assert!(!redaction.shows("note.text") && !redaction.shows("extension"));
    }

    #[test]
    fn parts_of_data_types() {
        let redaction = of(
            ResourceType::Condition,
            None,
            &[],
            &["CodeableConcept.text", "Reference.display"],
        );
        let left = redacted(
            &redaction,
            json!({
                "resourceType": "Condition", "id": "c",
                "code": {"text": "x", "coding": [{"code": "1"}]},
                "severity": {"text": "x"},
                "subject": {"reference": "Patient/p", "display": "x"},
            }),
        );
        let expected = json!({
            "resourceType": "Condition", "id": "c", "code": {"coding": [{"code": "1"}]},
            "subject": {"reference": "Patient/p"},
        });
        assert_eq!(left, expected);
        let query = |name: &str, value: &str| {
            let parameters = [(name.to_owned(), value.to_owned())];
            let query =
                crate::search::SearchQuery::parse(ResourceType::Condition, &parameters, false);
            let mut hidden = None;
            query.unwrap().each_reach(&mut |_, _, reach| {
                hidden = hidden.take().or(redaction.hides(reach));
            });
            hidden
        };
        assert_eq!(query("code", "1"), None);
        assert_eq!(query("code:not", "1"), None);
        assert_eq!(query("subject", "Patient/p"), None);
        assert_eq!(query("_include", "Condition:subject"), None);
        assert_eq!(query("code:text", "x"), Some("code.text".to_owned()));
        assert_eq!(query("code:missing", "true"), Some("code.text".to_owned()));
        assert_eq!(query("_sort", "code"), Some("code.text".to_owned()));
        assert_eq!(query("_filter", "code eq 1"), None);
        assert_eq!(
            query("subject:identifier", "s|1"),
            Some("subject.display".to_owned())
        );
    }

    #[test]
    fn what_may_not_be_hidden() {
        let new = |kind, hides: &[&str], types: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            let shown = Shown {
                shows: None,
                hides: &owned(hides),
                data_types: &owned(types),
            };
            Redaction::new(kind, shown).map(drop)
        };
        for (kind, hides) in [
            (ResourceType::Observation, "subject"),
            (ResourceType::Observation, "subject.reference"),
            (ResourceType::Appointment, "participant"),
            (ResourceType::Binary, "securityContext"),
            (ResourceType::Patient, "meta.security"),
            (ResourceType::AuditEvent, "entity"),
        ] {
            assert!(new(kind, &[hides], &[]).is_err(), "{kind} {hides}");
        }
        assert!(new(ResourceType::Observation, &["subject.display"], &[]).is_ok());
        assert!(new(ResourceType::Observation, &[], &["Reference"]).is_err());
    }
}
