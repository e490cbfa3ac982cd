//! Structural validation on write: a whole resource against R4's tables of elements.
//!
//! What is checked: that FHIR knows each element where it stands, that what is required is there, one
//! or many, that a choice is made once, JSON types and the formats of primitive values, codes where a
//! required binding allows only some, the types that literal references name, and that narratives hold
//! formatting alone. What is not: other invariants, whether what references point to is there,
//! profiles, and codes of systems that FHIR itself doesn't define.

mod narrative;
mod primitive;
#[cfg(test)]
mod tests;

use crate::facts::{ELEMENTS_MAX, Element, Structure, TypeId, structures};
use crate::{Issue, IssueCode, Resource, ResourceType, Severity};
use serde_json::{Map, Value};
use std::fmt;

pub(crate) use primitive::Primitive;

/// The most issues told of one resource; who has more has not read the first ones yet.
pub const ISSUES_MAX: usize = 50;
/// The longest list of codes that is spelled out.
const CODES_TOLD_MAX: usize = 32;

const _: () = assert!(ELEMENTS_MAX <= u128::BITS as usize);

/// Checks a resource, contained resources and extensions included. Returns errors only, at most
/// [`ISSUES_MAX`] and one that says there are more; their words hold no content.
#[must_use]
pub fn check(resource: &Resource) -> Vec<Issue> {
    let mut check = Check { issues: Vec::new() };
    let kind = resource.kind().name();
    let root = At {
        parent: None,
        name: kind,
        place: None,
    };
    if let Some(structure) = structures().find(kind) {
        check.members(structures().get(structure), resource.members(), &root, true);
    }
    if check.issues.len() > ISSUES_MAX {
        check.issues.truncate(ISSUES_MAX);
        check.issues.push(Issue {
            severity: Severity::Error,
            code: IssueCode::TooLong,
            diagnostics: format!("there are more issues than the {ISSUES_MAX} told"),
            expression: None,
        });
    }
    check.issues
}

/// Where a value stands; spelled out only when there is something to say about it, since nearly
/// always there isn't.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    name: &'a str,
    place: Option<usize>,
}

impl<'a> At<'a> {
    fn below(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            name,
            place: None,
        }
    }
    fn at(self, place: usize) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        // Never more than a name, whatever the client sent.
        let name = self.name.chars().filter(char::is_ascii_graphic).take(64);
        name.into_iter()
            .try_for_each(|letter| write!(f, "{letter}"))?;
        self.place.map_or(Ok(()), |place| write!(f, "[{place}]"))
    }
}

struct Check {
    issues: Vec<Issue>,
}

impl Check {
    fn report(&mut self, code: IssueCode, at: &At<'_>, words: impl Into<String>) {
        if self.is_full() {
            return;
        }
        self.issues.push(Issue {
            severity: Severity::Error,
            code,
            diagnostics: words.into(),
            expression: Some(at.to_string()),
        });
    }
    fn structure(&mut self, at: &At<'_>, words: impl Into<String>) {
        self.report(IssueCode::Structure, at, words);
    }
    /// One more than is told has been found, so that it is known that there are more.
    fn is_full(&self) -> bool {
        self.issues.len() > ISSUES_MAX
    }

    fn members(
        &mut self,
        structure: &'static Structure,
        members: &Map<String, Value>,
        at: &At<'_>,
        is_resource: bool,
    ) {
        // A bit for each element.
        let (mut seen, mut again) = (0_u128, 0_u128);
        for (name, value) in members {
            if is_resource && name == "resourceType" {
                continue;
            }
            if self.is_full() {
                return;
            }
            let here = at.below(name);
            let plain = name.strip_prefix('_').unwrap_or(name);
            let Some(member) = structure.find(plain) else {
                let words = format!("is no element of {}", structure.name);
                self.structure(&here, words);
                continue;
            };
            let bit = 1 << member.element;
            again |= seen & bit;
            seen |= bit;
            let element = &structure.elements[usize::from(member.element)];
            if plain.len() < name.len() {
                self.sibling(element, member.kind, value, members.get(plain), &here);
            } else {
                self.element(element, member.kind, value, members, &here);
            }
        }
        let missing = structure.required & !seen;
        if missing | again == 0 {
            return;
        }
        for (place, element) in structure.elements.iter().enumerate() {
            if missing >> place & 1 == 1 {
                let words = format!("is missing; {} needs it", structure.name);
                self.report(IssueCode::Required, &at.below(&spelled(element)), words);
            }
            if again >> place & 1 == 1 {
                let given = |name: &&String| {
                    members.contains_key(*name) || members.contains_key(&format!("_{name}"))
                };
                if element.choice.iter().filter(given).count() > 1 {
                    let name = spelled(element);
                    self.structure(&at.below(&name), "is there in more than one type");
                }
            }
        }
    }

    /// `id` and extensions of a primitive value, which stand beside it.
    fn sibling(
        &mut self,
        element: &Element,
        kind: TypeId,
        value: &Value,
        beside: Option<&Value>,
        at: &At<'_>,
    ) {
        if !structures().get(kind).is_primitive() {
            let words = "belongs to an element that isn't of a primitive type";
            return self.structure(at, words);
        }
        let Some(structure) = structures().find("Element") else {
            return;
        };
        let structure = structures().get(structure);
        let words = "is no object with id and extensions";
        match value {
            Value::Object(members) if !element.many => {
                if members.is_empty() {
                    return self.structure(at, "is an empty object");
                }
                self.members(structure, members, at, false);
            }
            Value::Array(items) if element.many => {
                if items.is_empty() {
                    self.structure(at, "is an empty array");
                }
                for (place, item) in items.iter().enumerate() {
                    let has_value = || beside.and_then(|values| values.get(place)).is_some();
                    match item {
                        Value::Object(members) if !members.is_empty() => {
                            self.members(structure, members, &at.at(place), false);
                        }
                        Value::Null if has_value() => {}
                        Value::Null => {
                            self.structure(&at.at(place), "is null, and there is no value either");
                        }
                        _ => self.structure(&at.at(place), words),
                    }
                }
            }
            Value::Array(_) => self.structure(at, "is an array, but there can be only one"),
            Value::Object(_) => self.structure(at, "is no array, but there can be several"),
            _ => self.structure(at, words),
        }
    }

    fn element(
        &mut self,
        element: &Element,
        kind: TypeId,
        value: &Value,
        members: &Map<String, Value>,
        at: &At<'_>,
    ) {
        match value {
            Value::Array(_) if !element.many => {
                self.structure(at, "is an array, but there can be only one");
            }
            value if !element.many => self.value(element, kind, value, at),
            Value::Array(items) => {
                if items.is_empty() {
                    self.structure(at, "is an empty array");
                }
                for (place, item) in items.iter().enumerate() {
                    // A primitive value of an array may be null where its sibling has extensions.
                    let extended = || {
                        let sibling = members.get(&format!("_{}", at.name));
                        sibling
                            .and_then(|sibling| sibling.get(place))
                            .is_some_and(Value::is_object)
                    };
                    if item.is_null() && extended() {
                        continue;
                    }
                    self.value(element, kind, item, &at.at(place));
                    if self.is_full() {
                        return;
                    }
                }
            }
            _ => self.structure(at, "is no array, but there can be several"),
        }
    }

    fn value(&mut self, element: &Element, kind: TypeId, value: &Value, at: &At<'_>) {
        let structure = structures().get(kind);
        if let Some(primitive) = structure.primitive {
            return self.primitive(element, primitive, structure.name, value, at);
        }
        match value {
            Value::Object(members) if members.is_empty() => {
                self.structure(at, "is an empty object");
            }
            Value::Object(members) if structure.is_resource => {
                let name = members.get("resourceType").and_then(Value::as_str);
                let kind = name.and_then(ResourceType::parse);
                match kind.and_then(|kind| structures().find(kind.name())) {
                    Some(kind) => self.members(structures().get(kind), members, at, true),
                    None => self.structure(at, "is no resource of FHIR R4"),
                }
            }
            Value::Object(members) => {
                if members.len() == 1 && members.contains_key("id") {
                    return self.structure(at, "has an id and nothing else");
                }
                self.members(structure, members, at, false);
                if let Some(targets) = element.targets
                    && structure.name == "Reference"
                {
                    self.reference(targets, members, at);
                }
                if let Some(codes) = element.codes {
                    self.concept(codes, element.system, members, at);
                }
            }
            _ => {
                let name = if structure.is_backbone() {
                    "BackboneElement"
                } else {
                    structure.name
                };
                self.structure(at, format!("is no object, but its type is {name}"));
            }
        }
    }

    /// What a literal reference says that it points to: one of the types that may be there. References
    /// to contained resources and by URL don't say it in a way that always holds.
    fn reference(&mut self, targets: &[ResourceType], members: &Map<String, Value>, at: &At<'_>) {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let literal = text("reference").and_then(|reference| {
            let end = reference.find(['/', '?'])?;
            ResourceType::parse(&reference[..end])
        });
        let named = text("type").and_then(ResourceType::parse);
        for (name, kind) in [("reference", literal), ("type", named)] {
            if let Some(kind) = kind
                && !targets.contains(&kind)
            {
                let names: Vec<&str> = targets.iter().map(|kind| kind.name()).collect();
                let words = format!("is of a {kind}; here it can be of {}", names.join(", "));
                self.report(IssueCode::Value, &at.below(name), words);
            }
        }
    }

    fn primitive(
        &mut self,
        element: &Element,
        primitive: Primitive,
        name: &str,
        value: &Value,
        at: &At<'_>,
    ) {
        if !primitive.fits(value) {
            return self.structure(at, format!("has the wrong JSON type for {name}"));
        }
        if let Some(words) = primitive.malformed(value) {
            return self.report(IssueCode::Value, at, words);
        }
        if let (Some(codes), Some(code)) = (element.codes, value.as_str())
            && codes.binary_search(&code).is_err()
        {
            let words = format!("is none of {}", told(codes));
            self.report(IssueCode::CodeInvalid, at, words);
        }
    }

    /// A required binding of a `CodeableConcept`: one of its codings has a code of the value set. A
    /// concept without codings may say by an extension why there are none.
    fn concept(&mut self, codes: &[&str], system: &str, members: &Map<String, Value>, at: &At<'_>) {
        let codings = members.get("coding").and_then(Value::as_array);
        let fits = |coding: &Value| {
            let text = |name: &str| coding.get(name).and_then(Value::as_str);
            text("system") == Some(system)
                && text("code").is_some_and(|code| codes.binary_search(&code).is_ok())
        };
        let fine = match codings {
            Some(codings) => codings.iter().any(fits),
            None => members.contains_key("extension"),
        };
        if !fine {
            let words = format!("has no coding of {system} with one of {}", told(codes));
            self.report(IssueCode::CodeInvalid, at, words);
        }
    }
}

/// How FHIR spells the name of an element.
fn spelled(element: &Element) -> String {
    let mark = if element.choice.is_empty() { "" } else { "[x]" };
    format!("{}{mark}", element.name)
}

fn told(codes: &[&str]) -> String {
    if codes.len() > CODES_TOLD_MAX {
        return format!("the {} codes that are allowed here", codes.len());
    }
    codes.join(", ")
}
