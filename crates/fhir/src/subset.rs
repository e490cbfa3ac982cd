//! Parts of resources: `_summary` and `_elements` (R4, sections 3.1.1.5.8 and 3.1.1.5.9).

use crate::facts::{Structure, structures};
use crate::{IssueCode, OperationOutcome, Resource, ResourceType};
use serde_json::{Map, Value, json};

/// The code system of the tag that marks a resource as a part of itself.
const SUBSETTED_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

/// Which part of each resource is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subset {
    /// `_summary=true`: what R4 marks as summary.
    Summary,
    /// `_summary=text`: narrative, id, meta and what is mandatory at the top.
    Text,
    /// `_summary=data`: all but the narrative.
    Data,
    /// `_summary=count`: how many, but none of them.
    Count,
    /// `_elements`: these, and what is mandatory or changes their meaning.
    Elements(Vec<String>),
}

impl Subset {
    /// Whether a parameter says which part is wanted.
    #[must_use]
    pub fn is_parameter(name: &str) -> bool {
        matches!(name, "_summary" | "_elements")
    }

    /// Reads `_summary` and `_elements`; other parameters are passed over. `None` is the whole of each
    /// resource. Without a type (`None`), elements of any type can be named.
    ///
    /// # Errors
    /// A value that is none, or both parameters together.
    pub fn parse(
        kind: Option<ResourceType>,
        parameters: &[(String, String)],
    ) -> Result<Option<Self>, OperationOutcome> {
        let bad = |name: &str, words: &str| OperationOutcome::at(IssueCode::Value, words, name);
        let mut subset = None;
        let mut whole = false;
        let mut elements: Vec<String> = Vec::new();
        for (name, value) in parameters {
            match (name.as_str(), value.as_str()) {
                ("_summary", _) if subset.is_some() || whole => {
                    return Err(bad(name, "can be given once only"));
                }
                ("_summary", "true") => subset = Some(Self::Summary),
                ("_summary", "text") => subset = Some(Self::Text),
                ("_summary", "data") => subset = Some(Self::Data),
                ("_summary", "count") => subset = Some(Self::Count),
                ("_summary", "false") => whole = true,
                ("_summary", _) => {
                    return Err(bad(name, "is one of true, text, data, count, false"));
                }
                ("_elements", names) => {
                    for element in names.split(',').map(str::trim) {
                        // `Patient.name` is taken for `name`, which some clients send.
                        let plain = kind
                            .and_then(|kind| element.strip_prefix(kind.name())?.strip_prefix('.'))
                            .unwrap_or(element);
                        if !is_element(kind, plain) {
                            let of = kind.map_or("any type", |kind| kind.name());
                            let words = format!("names what is no element at the top of {of}");
                            return Err(bad(name, &words));
                        }
                        elements.push(plain.to_owned());
                    }
                }
                _ => {}
            }
        }
        match (subset, elements.is_empty()) {
            (Some(_), false) => Err(bad("_elements", "does not go with _summary")),
            (None, false) => Ok(Some(Self::Elements(elements))),
            (subset, true) => Ok(subset),
        }
    }

    /// Leaves of a resource what is wanted, and marks it as a part by the tag `SUBSETTED`.
    pub fn apply(&self, resource: &mut Resource) {
        let Some(structure) = structures().find(resource.kind().name()) else {
            return;
        };
        let structure = structures().get(structure);
        let members = resource.members_mut();
        match self {
            Self::Summary => summarise(structure, members),
            Self::Text => keep(structure, members, |name, mandatory, _| {
                mandatory || name == "text"
            }),
            Self::Data => keep(structure, members, |name, _, _| name != "text"),
            // There is nothing to show it in.
            Self::Count => {}
            Self::Elements(names) => keep(structure, members, |name, mandatory, modifier| {
                mandatory || modifier || names.iter().any(|wanted| wanted == name)
            }),
        }
        tag(resource);
    }
}

/// The tag that says so.
pub(crate) fn tag(resource: &mut Resource) {
    let mut meta = match resource.remove("meta") {
        Some(Value::Object(meta)) => meta,
        _ => Map::new(),
    };
    let mark = json!({"system": SUBSETTED_SYSTEM, "code": "SUBSETTED"});
    match meta.get_mut("tag") {
        Some(Value::Array(tags)) => {
            if !tags.iter().any(|tag| tag["code"] == "SUBSETTED") {
                tags.push(mark);
            }
        }
        _ => {
            meta.insert("tag".to_owned(), json!([mark]));
        }
    }
    resource.set("meta", Value::Object(meta));
}

/// Whether a resource is marked as a part of itself; it must not be stored as if it were whole.
#[must_use]
pub fn is_subsetted(resource: &Resource) -> bool {
    let tags = resource.at(&["meta", "tag"]).and_then(Value::as_array);
    tags.into_iter()
        .flatten()
        .any(|tag| tag["system"] == SUBSETTED_SYSTEM && tag["code"] == "SUBSETTED")
}

fn is_element(kind: Option<ResourceType>, name: &str) -> bool {
    let has = |kind: ResourceType| {
        structures()
            .find(kind.name())
            .is_some_and(|id| structures().get(id).element(name).is_some())
    };
    match kind {
        Some(kind) => has(kind),
        None => ResourceType::all().any(has),
    }
}

/// Keeps the members at the top whose element is wanted: name, whether it is mandatory, whether it
/// changes what others mean.
fn keep(
    structure: &Structure,
    members: &mut Map<String, Value>,
    wanted: impl Fn(&str, bool, bool) -> bool,
) {
    members.retain(|name, _| {
        if matches!(name.as_str(), "resourceType" | "id" | "meta") {
            return true;
        }
        let plain = name.strip_prefix('_').unwrap_or(name);
        structure
            .member(plain)
            .is_some_and(|(element, _)| wanted(element.name, element.min > 0, element.modifier))
    });
}

/// Keeps what is part of a summary, at every level. What is mandatory stays with it, and so does what
/// changes the meaning of the rest.
fn summarise(structure: &Structure, members: &mut Map<String, Value>) {
    members.retain(|name, value| {
        if name == "resourceType" {
            return true;
        }
        let plain = name.strip_prefix('_').unwrap_or(name);
        let Some((element, kind)) = structure.member(plain) else {
            return false;
        };
        if !element.summary && element.min == 0 && !element.modifier {
            return false;
        }
        let inner = structures().get(kind);
        // A modifier extension means nothing in part, and neither does what stands in a value's place.
        if inner.is_primitive() || inner.name == "Extension" {
            return true;
        }
        let within = |value: &mut Value| {
            let Value::Object(members) = value else {
                return true;
            };
            let kind = members.get("resourceType").and_then(Value::as_str);
            match kind.and_then(|kind| structures().find(kind)) {
                Some(kind) => summarise(structures().get(kind), members),
                None => summarise(inner, members),
            }
            !members.is_empty()
        };
        match value {
            Value::Array(items) => {
                items.retain_mut(within);
                !items.is_empty()
            }
            value => within(value),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ResourceType, parameters: &[(&str, &str)]) -> Result<Option<Subset>, String> {
        let parameters: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Subset::parse(Some(kind), &parameters).map_err(|outcome| outcome.to_string())
    }

    fn patient() -> Value {
        json!({
            "resourceType": "Patient", "id": "p", "meta": {"versionId": "3", "tag": [{"code": "x"}]},
            "language": "en", "text": {"status": "empty", "div": "<div/>"},
            "contained": [{"resourceType": "Organization", "id": "o"}],
            "extension": [{"url": "u", "valueCode": "x"}],
            "modifierExtension": [{"url": "m", "valueCode": "y"}],
            "active": true, "_active": {"id": "a"},
            "name": [{"id": "n", "family": "Berg", "extension": [{"url": "u"}]}],
            "contact": [{"gender": "male"}], "photo": [{"data": "AAAA"}],
            "link": [{"id": "l", "other": {"reference": "Patient/q"}, "type": "seealso"}],
        })
    }

    #[test]
    fn parts() {
        let tagged = |mut value: Value| {
            value["meta"]["tag"] =
                json!([{"code": "x"}, {"system": SUBSETTED_SYSTEM, "code": "SUBSETTED"}]);
            value
        };
        for (name, asked, gone) in [
            (
                "_summary",
                "true",
                vec![
                    "language",
                    "text",
                    "contained",
                    "extension",
                    "contact",
                    "photo",
                ],
            ),
            ("_summary", "data", vec!["text"]),
            (
                "_summary",
                "text",
                vec![
                    "language",
                    "contained",
                    "extension",
                    "modifierExtension",
                    "active",
                    "_active",
                    "name",
                    "contact",
                    "photo",
                    "link",
                ],
            ),
            (
                "_elements",
                "name,Patient.photo",
                vec!["language", "text", "contained", "extension", "contact"],
            ),
        ] {
            let subset = of(ResourceType::Patient, &[(name, asked)])
                .unwrap()
                .unwrap();
            let mut resource = Resource::from_value(patient()).unwrap();
            subset.apply(&mut resource);
            let mut expected = patient();
            for gone in gone {
                expected
                    .as_object_mut()
                    .unwrap()
                    .shift_remove(gone)
                    .unwrap();
            }
            if asked == "true" {
                expected["name"] = json!([{"family": "Berg"}]);
                expected["link"] =
                    json!([{"other": {"reference": "Patient/q"}, "type": "seealso"}]);
            }
            if asked.starts_with("name") {
                // What changes the meaning stays: `active`, `link`, modifier extensions.
                assert!(expected.get("link").is_some());
            }
            assert_eq!(resource.into_value(), tagged(expected), "{asked}");
        }
    }

    #[test]
    fn what_is_mandatory_stays() {
        let observation = json!({
            "resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "valueQuantity": {"value": 1.5}, "note": [{"text": "n"}],
            "component": [{"code": {"text": "c"}, "_valueString": {"extension": [{"url": "u"}]}, "referenceRange": [{"text": "r"}]}],
        });
        let subset = of(ResourceType::Observation, &[("_elements", "value")])
            .unwrap()
            .unwrap();
        let mut resource = Resource::from_value(observation.clone()).unwrap();
        subset.apply(&mut resource);
        assert!(is_subsetted(&resource));
        let names: Vec<&str> = resource.members().keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["resourceType", "meta", "status", "code", "valueQuantity"]
        );
        assert_eq!(
            resource
                .at(&["valueQuantity", "value"])
                .unwrap()
                .to_string(),
            "1.5"
        );
        let mut resource = Resource::from_value(observation).unwrap();
        Subset::Summary.apply(&mut resource);
        assert_eq!(resource.get("note"), None);
        assert_eq!(
            resource.get("component"),
            Some(&json!([{"code": {"text": "c"}, "_valueString": {"extension": [{"url": "u"}]}}]))
        );
        assert_eq!(crate::validate::check(&resource), []);
    }

    #[test]
    fn parameters() {
        let patient = |parameters: &[(&str, &str)]| of(ResourceType::Patient, parameters);
        assert_eq!(patient(&[("_id", "x")]), Ok(None));
        assert_eq!(patient(&[("_summary", "false")]), Ok(None));
        assert_eq!(patient(&[("_summary", "count")]), Ok(Some(Subset::Count)));
        let both = patient(&[("_elements", "name"), ("_elements", "active")]);
        assert_eq!(
            both,
            Ok(Some(Subset::Elements(vec!["name".into(), "active".into()])))
        );
        for wrong in [
            &[("_summary", "yes")][..],
            &[("_summary", "true"), ("_summary", "text")],
            &[("_summary", "true"), ("_elements", "name")],
            &[("_elements", "status")],
            &[("_elements", "")],
        ] {
            assert!(patient(wrong).is_err(), "{wrong:?}");
        }
    }
}
