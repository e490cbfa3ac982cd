//! Finding and replacing references in a resource.
use fhir::{Resource, ResourceType};
use serde_json::Value;

/// Members of the types uri, url, oid and uuid that may point at an entry of the same bundle
/// (R4, section 3.1.0.11.2, "replacing references"). Identifiers, codes and systems are no pointers.
const POINTERS: [&str; 7] = [
    "url",
    "uri",
    "valueUri",
    "valueUrl",
    "valueOid",
    "valueUuid",
    "instantiatesUri",
];

/// Calls `replace` with each reference of the resource, contained resources and extensions included,
/// and with each pointer that is a URN. What it gives back takes the place of the old text.
pub(crate) fn replace(resource: &mut Resource, replace: &mut dyn FnMut(&str) -> Option<String>) {
    for value in resource.members_mut().values_mut() {
        walk(value, replace);
    }
}

fn walk(value: &mut Value, replace: &mut dyn FnMut(&str) -> Option<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, replace)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) => {
                        let points = name == "reference"
                            || (text.starts_with("urn:") && POINTERS.contains(&name.as_str()));
                        if points && let Some(new) = replace(text) {
                            *text = new;
                        }
                    }
                    Value::Array(_) | Value::Object(_) => walk(value, replace),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Whether a reference is a URN, which means something in its own bundle only.
pub(crate) fn is_urn(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("urn:"))
}

/// The base of a `fullUrl` that is a RESTful URL: `http://x.org/fhir/` of `http://x.org/fhir/Patient/1`.
pub(crate) fn base_of(full_url: &str) -> Option<&str> {
    if !full_url.starts_with("http://") && !full_url.starts_with("https://") {
        return None;
    }
    let (rest, _) = full_url.rsplit_once('/')?;
    let slash = rest.rfind('/')?;
    ResourceType::parse(&rest[slash + 1..])?;
    Some(&full_url[..=slash])
}

/// Splits a conditional reference `Type?criteria`.
pub(crate) fn conditional(reference: &str) -> Option<(ResourceType, &str)> {
    let (kind, criteria) = reference.split_once('?')?;
    Some((ResourceType::parse(kind)?, criteria))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_and_pointers_are_replaced_and_nothing_else() {
        let mut resource = Resource::from_value(json!({
            "resourceType": "Observation",
            "identifier": [{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:a"}],
            "subject": {"reference": "urn:uuid:a"},
            "extension": [{"url": "urn:uuid:other", "valueUri": "urn:uuid:a"}, {"url": "x", "valueString": "urn:uuid:a"}],
            "contained": [{"resourceType": "Device", "patient": {"reference": "urn:uuid:a"}}],
        }))
        .unwrap();
        let mut seen = 0;
        replace(&mut resource, &mut |text| {
            seen += 1;
            (text == "urn:uuid:a").then(|| "Patient/1".to_owned())
        });
        assert_eq!(seen, 4);
        assert_eq!(
            resource.into_value(),
            json!({
                "resourceType": "Observation",
                "identifier": [{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:a"}],
                "subject": {"reference": "Patient/1"},
                "extension": [{"url": "urn:uuid:other", "valueUri": "Patient/1"}, {"url": "x", "valueString": "urn:uuid:a"}],
                "contained": [{"resourceType": "Device", "patient": {"reference": "Patient/1"}}],
            })
        );
    }

    #[test]
    fn bases_of_full_urls() {
        for (full_url, base) in [
            ("http://x.org/fhir/Patient/1", Some("http://x.org/fhir/")),
            ("https://x.org/Patient/1", Some("https://x.org/")),
            ("http://x.org/fhir/patient/1", None),
            ("urn:uuid:1", None),
            ("Patient/1", None),
        ] {
            assert_eq!(base_of(full_url), base, "{full_url}");
        }
    }
}
