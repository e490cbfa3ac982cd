//! Resources as stored text, without making values of the whole of it.
//!
//! Who streams many resources needs two things of each: whose it is, and its text with the version that
//! the store keeps beside it. Both are had from compact JSON as [`crate::Resource::to_json`] writes it.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::de::{self, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::{Resource, ResourceType, date, json, search};

/// A resource with those members only that say whose it is ([`Resource::patient`],
/// [`Resource::patients`]), and its id. `None` when that can't be told from single members of this
/// type, or the text is no such resource: then it is for [`Resource::parse`].
#[must_use]
pub fn whose(kind: ResourceType, text: &[u8]) -> Option<Resource> {
    part(kind, text, &[])
}

/// The same with elements more, each in all of its forms: `value` is `valueString` and `_valueString`, too.
#[must_use]
pub fn part(kind: ResourceType, text: &[u8], elements: &[&str]) -> Option<Resource> {
    let whose = search::compartment_members(kind)?;
    members(kind, text, Members { whose, elements })
}

/// A resource with its id and some elements only, whosever it is. `None` where the text is no such resource.
#[must_use]
pub fn elements(kind: ResourceType, text: &[u8], elements: &[&str]) -> Option<Resource> {
    let whose = &[];
    members(kind, text, Members { whose, elements })
}

fn members(kind: ResourceType, text: &[u8], wanted: Members<'_>) -> Option<Resource> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let members = deserializer.deserialize_map(wanted).ok()?;
    deserializer.end().ok()?;
    Resource::from_value(Value::Object(members))
        .ok()
        .filter(|resource| resource.kind() == kind)
}

/// Writes a stored resource with `meta.versionId` and `meta.lastUpdated`, as
/// [`Resource::set_meta`] would have put them. Writes nothing and says no where the text does not begin as
/// it is stored: `resourceType`, `id`, `meta` if there is one.
pub fn write_with_meta(
    (kind, id): (ResourceType, &str),
    text: &[u8],
    version: u32,
    last_updated_unix_ms: u64,
    out: &mut Vec<u8>,
) -> bool {
    let begin = format!("{{\"resourceType\":\"{}\",\"id\":\"{id}\"", kind.name());
    let Some(rest) = text.strip_prefix(begin.as_bytes()) else {
        return false;
    };
    let (rest, end) = match rest.strip_prefix(b",\"meta\":{\"") {
        Some(rest) => (rest, &b",\""[..]),
        None if rest.starts_with(b",\"meta\"") => return false,
        None => (rest, &b"}"[..]),
    };
    out.extend_from_slice(begin.as_bytes());
    let instant = date::instant(last_updated_unix_ms);
    // Writing to memory has no way to fail.
    let written = write!(
        out,
        ",\"meta\":{{\"versionId\":\"{version}\",\"lastUpdated\":\"{instant}\""
    );
    debug_assert!(written.is_ok());
    out.extend_from_slice(end);
    out.extend_from_slice(rest);
    true
}

/// A resource of whose list `member` only those items are left that are kept by their text: of the others no values
/// are made. A list of which nothing is left is no member. `None` where the text is no such resource: then it is for
/// [`Resource::parse`].
#[must_use]
pub fn with_items(
    kind: ResourceType,
    text: &[u8],
    member: &str,
    keep: impl FnMut(&str) -> bool,
) -> Option<Resource> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let members = deserializer.deserialize_map(Kept { member, keep }).ok()?;
    deserializer.end().ok()?;
    Resource::from_value(Value::Object(members))
        .ok()
        .filter(|resource| resource.kind() == kind)
}

/// The members of an object, of one list only some items.
struct Kept<'a, K> {
    member: &'a str,
    keep: K,
}

impl<'de, K: FnMut(&str) -> bool> Visitor<'de> for Kept<'_, K> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if members.contains_key(&*name) {
                return Err(de::Error::custom("a member appears twice"));
            }
            let value = if name == self.member {
                let items: Vec<&RawValue> = map.next_value()?;
                let kept = items.iter().filter(|item| (self.keep)(item.get()));
                let kept: Vec<Value> = kept
                    .map(|item| json::parse(item.get().as_bytes()))
                    .collect::<Result<_, _>>()
                    .map_err(|_| de::Error::custom("an item is not as FHIR allows"))?;
                if kept.is_empty() {
                    continue;
                }
                Value::Array(kept)
            } else {
                map.next_value_seed(json::Level(1))?
            };
            members.insert(name.into_owned(), value);
        }
        Ok(members)
    }
}

/// The wanted members of an object, with `resourceType` and `id`.
struct Members<'a> {
    whose: &'static [String],
    elements: &'a [&'a str],
}

impl Members<'_> {
    fn want(&self, name: &str) -> bool {
        matches!(name, "resourceType" | "id")
            || self.whose.iter().any(|wanted| wanted == name)
            || self.elements.iter().any(|element| is_form(name, element))
    }
}

/// Whether a member is an element, or one of its types if it has several, or what is beside its value.
fn is_form(name: &str, element: &str) -> bool {
    let name = name.strip_prefix('_').unwrap_or(name);
    let of_type = |rest: &str| {
        rest.bytes()
            .next()
            .is_none_or(|byte| byte.is_ascii_uppercase())
    };
    name.strip_prefix(element).is_some_and(of_type)
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if self.want(&name) {
                members.insert(name.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// A member's name, borrowed where nothing in it is escaped.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_set_meta_makes_of_the_resource() {
        for text in [
            r#"{"resourceType":"Patient","id":"a"}"#,
            r#"{"resourceType":"Patient","id":"a","active":true,"name":[{"family":"é"}]}"#,
            r#"{"resourceType":"Patient","id":"a","meta":{"profile":["x"]},"active":true}"#,
            r#"{"resourceType":"Patient","id":"a","metadata":1}"#,
        ] {
            let mut resource = Resource::parse(text.as_bytes()).expect("a resource");
            resource.set_meta(12, 1_772_366_400_123);
            let mut out = Vec::new();
            let name = (ResourceType::Patient, "a");
            assert!(write_with_meta(
                name,
                text.as_bytes(),
                12,
                1_772_366_400_123,
                &mut out
            ));
            assert_eq!(
                String::from_utf8(out),
                String::from_utf8(resource.to_json()),
                "{text}"
            );
        }
        for text in [
            r#"{"id":"a","resourceType":"Patient"}"#,
            r#"{"resourceType":"Patient","id":"b"}"#,
            r#"{"resourceType":"Patient","id":"a","meta":{}}"#,
            r#"{"resourceType":"Patient","id":"a","meta": {"profile":["x"]}}"#,
        ] {
            let mut out = Vec::new();
            let name = (ResourceType::Patient, "a");
            assert!(!write_with_meta(name, text.as_bytes(), 1, 0, &mut out) && out.is_empty());
        }
    }

    #[test]
    fn a_part_has_an_element_in_all_its_forms() {
        let text = br#"{"resourceType":"Observation","id":"a","_valueString":{"id":"x"},"valueString":"y","valueset":1,"value":2,"val":3,"subject":{"reference":"Patient/p"},"code":{}}"#;
        let part = part(ResourceType::Observation, text, &["value"]).expect("a part");
        let expected = r#"{"resourceType":"Observation","id":"a","_valueString":{"id":"x"},"valueString":"y","value":2,"subject":{"reference":"Patient/p"}}"#;
        assert_eq!(String::from_utf8(part.to_json()).as_deref(), Ok(expected));
    }

    #[test]
    fn of_a_list_those_items_are_left_that_are_kept() {
        let kind = ResourceType::AuditEvent;
        let left = |text: &str, kept: &str| {
            with_items(kind, text.as_bytes(), "entity", |item| item.contains(kept))
                .map(|event| String::from_utf8(event.to_json()).expect("UTF-8"))
        };
        let text = r#"{"resourceType":"AuditEvent","id":"e","entity":[{"a":[1.50,"x"]},{"b":null},{"a":{}}],"agent":[{"requestor":true}]}"#;
        let all = left(text, "").expect("an event");
        assert_eq!(all, text);
        let some = left(text, "a").expect("an event");
        assert_eq!(some, text.replace(r#",{"b":null}"#, ""));
        let none = left(text, "c").expect("an event");
        assert_eq!(
            none,
            r#"{"resourceType":"AuditEvent","id":"e","agent":[{"requestor":true}]}"#
        );
        for text in [
            r#"{"resourceType":"Patient","id":"e","entity":[]}"#,
            r#"{"resourceType":"AuditEvent","entity":{"a":1}}"#,
            r#"{"resourceType":"AuditEvent","entity":[{"a":1,"a":2}]}"#,
            r#"{"resourceType":"AuditEvent","id":"e","id":"f"}"#,
            r#"{"resourceType":"AuditEvent","entity":[{"a":1}]} x"#,
        ] {
            assert_eq!(left(text, "a"), None, "{text}");
        }
        let deep = format!("[{}{}]", "[".repeat(63), "]".repeat(63));
        let deep = format!(r#"{{"resourceType":"AuditEvent","x":{deep}}}"#);
        assert_eq!(left(&deep, "a"), None);
        assert!(Resource::parse(deep.as_bytes()).is_err());
    }

    /// Of every type whose compartment is told by its members: what the short way says is what the
    /// long way says.
    #[test]
    fn whose_it_is_is_what_the_whole_resource_says() {
        let mut short = 0;
        for kind in ResourceType::all() {
            let reference = serde_json::json!({"reference": "Patient/p"});
            let mut value = serde_json::json!({"resourceType": kind.name(), "id": "p", "text": {"div": "\"x\""}});
            let others = serde_json::json!([
                {"actor": {"reference": "Patient/q"}, "entity": {"reference": "Patient/q"}, "member": reference,
                 "party": {"reference": "Patient/q"}, "individual": {"reference": "Patient/q"},
                 "other": {"reference": "Patient/q"}, "target": {"reference": "Patient/q"}, "reference": "Patient/r"}
            ]);
            for name in [
                "subject",
                "patient",
                "beneficiary",
                "individual",
                "securityContext",
            ] {
                value[name] = reference.clone();
            }
            for name in [
                "participant",
                "member",
                "performer",
                "link",
                "party",
                "agent",
                "related",
                "author",
            ] {
                value[name] = others.clone();
            }
            let text = value.to_string();
            let Some(part) = whose(kind, text.as_bytes()) else {
                continue;
            };
            short += 1;
            let whole = Resource::parse(text.as_bytes()).expect("a resource");
            assert_eq!(part.id(), whole.id(), "{kind}");
            assert_eq!(part.patient(), whole.patient(), "{kind}");
            assert_eq!(part.patients(), whole.patients(), "{kind}");
        }
        assert!(short > 130, "{short}");
        assert!(whose(ResourceType::Patient, b"{\"resourceType\":\"Patient\"").is_none());
    }
}
