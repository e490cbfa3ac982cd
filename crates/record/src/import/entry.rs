//! One entry of what is imported.
use std::ops::Range;
use std::sync::Arc;

use fhir::{Resource, ResourceType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::RESOURCE_BYTES_MAX;
use super::index::{Key, key};
use super::stream::describe;
use crate::refs;

/// An entry as it was read.
#[derive(Clone)]
pub(super) enum Original {
    /// A part of a larger text.
    Part(Arc<Vec<u8>>, Range<usize>),
    /// A text of its own.
    Own(Box<RawValue>),
}

impl Original {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Part(whole, range) => whole.get(range.clone()).unwrap_or_default(),
            Self::Own(raw) => raw.get().as_bytes(),
        }
    }
}

/// Which id an entry gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdRule {
    /// This one.
    Given(String),
    /// Derived from the `fullUrl`.
    FullUrl,
    /// Derived from the content and the `fullUrl`, which says nothing outside its bundle.
    Local,
    /// Derived from the content.
    Content,
    /// That of what `Type?criteria` finds, else derived from the criteria. With `update`, what is
    /// found is updated, otherwise left alone.
    Criteria { text: String, update: bool },
}

/// A resource to be imported, with where it came from.
pub(super) struct Entry {
    pub(super) line: u64,
    pub(super) index: Option<u64>,
    pub(super) original: Original,
    pub(super) full_url: Option<String>,
    /// What other entries know it by.
    pub(super) key: Key,
    pub(super) id_rule: IdRule,
    /// The resource, or why it is refused.
    pub(super) resource: Result<Resource, String>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "fullUrl", default)]
    full_url: Option<String>,
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(default)]
    request: Option<Request>,
    #[serde(default)]
    search: Option<Search>,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    url: String,
    #[serde(rename = "ifNoneExist", default)]
    if_none_exist: Option<String>,
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    mode: Option<String>,
}

fn parse_resource(bytes: &[u8]) -> Result<Resource, String> {
    if bytes.len() > RESOURCE_BYTES_MAX {
        return Err(format!(
            "the resource has {} bytes; at most {RESOURCE_BYTES_MAX} are taken",
            bytes.len()
        ));
    }
    let resource = Resource::parse(bytes).map_err(|outcome| outcome.to_string())?;
    let kind = resource.kind();
    if crate::is_written_freely(kind) {
        Ok(resource)
    } else {
        Err(format!("{kind} resources can't be imported"))
    }
}

impl Entry {
    /// A resource that is in no bundle; `start` tells those of one line apart.
    pub(super) fn alone(line: u64, start: usize, original: Original) -> Self {
        let resource = parse_resource(original.bytes());
        let id = resource.as_ref().ok().and_then(|resource| resource.id());
        let id_rule = id.map_or(IdRule::Content, |id| IdRule::Given(id.to_owned()));
        Self {
            line,
            index: None,
            original,
            full_url: None,
            key: key(&("line", line, start)),
            id_rule,
            resource,
        }
    }
    /// An entry of a bundle; `None` when there is nothing to import in it: the outcome that a search
    /// came with.
    pub(super) fn of_bundle(line: u64, index: u64, original: Original) -> Option<Self> {
        let unnamed = key(&("entry", line, index));
        let refused = |original: Original, reason: String| Self {
            line,
            index: Some(index),
            original,
            full_url: None,
            key: unnamed,
            id_rule: IdRule::Content,
            resource: Err(reason),
        };
        let raw: Raw<'_> = match serde_json::from_slice(original.bytes()) {
            Ok(raw) => raw,
            Err(error) => {
                let reason = format!("the entry {}", describe(&error));
                return Some(refused(original, reason));
            }
        };
        if raw
            .search
            .as_ref()
            .and_then(|search| search.mode.as_deref())
            == Some("outcome")
        {
            return None;
        }
        let Raw {
            full_url,
            resource,
            request,
            ..
        } = raw;
        let Some(resource) = resource else {
            let method = request.map_or_else(|| "it".to_owned(), |request| request.method);
            let words = match method.as_str() {
                "DELETE" | "GET" | "HEAD" | "PATCH" => {
                    format!("an import only adds and updates; {method} is not done")
                }
                _ => "there is no resource in the entry".to_owned(),
            };
            return Some(refused(original, words));
        };
        let resource = parse_resource(resource.get().as_bytes());
        let (resource, id_rule) = match resource {
            Err(reason) => (Err(reason), IdRule::Content),
            Ok(resource) => match id_rule(&resource, full_url.as_deref(), request.as_ref()) {
                Ok(rule) => (Ok(resource), rule),
                Err(reason) => (Err(reason), IdRule::Content),
            },
        };
        let key = full_url
            .as_ref()
            .map_or(unnamed, |full_url| key(&full_url.as_str()));
        Some(Self {
            line,
            index: Some(index),
            original,
            full_url,
            key,
            id_rule,
            resource,
        })
    }
    /// Whether it is a patient of whom nothing says who it is: no URN that is good outside the bundle,
    /// no identifier, no name with a birth date. Two of these may look the same and be two people.
    pub(super) fn is_nameless(&self) -> bool {
        let said = |name: &str| {
            self.resource
                .as_ref()
                .is_ok_and(|resource| resource.get(name).is_some())
        };
        self.id_rule == IdRule::Local
            && self
                .resource
                .as_ref()
                .is_ok_and(|resource| resource.kind() == ResourceType::Patient)
            && !said("identifier")
            && !(said("name") && said("birthDate"))
    }
    /// The base that its relative references are relative to.
    pub(super) fn base(&self) -> Option<&str> {
        self.full_url.as_deref().and_then(refs::base_of)
    }
}

fn id_rule(
    resource: &Resource,
    full_url: Option<&str>,
    request: Option<&Request>,
) -> Result<IdRule, String> {
    let kind = resource.kind();
    if let Some(request) = request {
        let (path, query) = request
            .url
            .split_once('?')
            .map_or((request.url.as_str(), None), |(path, query)| {
                (path, Some(query))
            });
        let mut parts = path.rsplit('/');
        let last = parts.next().unwrap_or_default();
        match (request.method.as_str(), query) {
            ("PUT", Some(query)) if last == kind.name() => {
                return Ok(IdRule::Criteria {
                    text: format!("{kind}?{query}"),
                    update: true,
                });
            }
            ("PUT", None) if parts.next() == Some(kind.name()) => {
                return match resource.id() {
                    Some(id) if id != last => {
                        Err("the resource has another id than request.url".to_owned())
                    }
                    _ => Ok(IdRule::Given(last.to_owned())),
                };
            }
            ("PUT", _) => return Err(format!("request.url is not that of a {kind}")),
            ("POST", _) => {
                if let Some(criteria) = &request.if_none_exist {
                    let criteria = criteria
                        .strip_prefix(kind.name())
                        .and_then(|rest| rest.strip_prefix('?'))
                        .unwrap_or(criteria);
                    let criteria = criteria.strip_prefix('?').unwrap_or(criteria);
                    return Ok(IdRule::Criteria {
                        text: format!("{kind}?{criteria}"),
                        update: false,
                    });
                }
                if ResourceType::parse(last).is_some_and(|other| other != kind) {
                    return Err(format!("request.url is not that of a {kind}"));
                }
            }
            ("GET" | "HEAD", _) => return Err("an import only adds and updates".to_owned()),
            (method, _) => {
                let method: String = method
                    .chars()
                    .filter(char::is_ascii_graphic)
                    .take(16)
                    .collect();
                return Err(format!(
                    "an import only adds and updates; {method} is not done"
                ));
            }
        }
    }
    Ok(match (full_url, resource.id()) {
        (Some(full_url), _) if refs::is_urn(full_url) && is_worldwide(full_url) => IdRule::FullUrl,
        (Some(full_url), _) if refs::is_urn(full_url) => IdRule::Local,
        (_, Some(id)) => IdRule::Given(id.to_owned()),
        (Some(_), None) => IdRule::FullUrl,
        (None, None) => IdRule::Content,
    })
}

/// Whether a URN names one thing in the world: a UUID (RFC 9562) or an object identifier (RFC 3061).
/// Others, such as `urn:uuid:patient`, are good in their own bundle only (R4, section 2.36.4), and the
/// next bundle by the same template uses them for somebody else. So does one whose UUID is all zeros
/// or all ones.
fn is_worldwide(urn: &str) -> bool {
    let lower = urn.to_ascii_lowercase();
    if let Some(uuid) = lower.strip_prefix("urn:uuid:") {
        let formed = uuid.len() == 36
            && uuid.bytes().enumerate().all(|(place, byte)| match place {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        let all = |digit: u8| uuid.bytes().all(|byte| byte == digit || byte == b'-');
        return formed && !all(b'0') && !all(b'f');
    }
    lower.strip_prefix("urn:oid:").is_some_and(|oid| {
        let arc = |arc: &str| {
            arc.bytes().all(|byte| byte.is_ascii_digit())
                && (arc == "0" || !arc.starts_with('0'))
                && !arc.is_empty()
        };
        oid.starts_with(['0', '1', '2']) && oid.contains('.') && oid.split('.').all(arc)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn which_id_an_entry_gets() {
        let patient = |id: Option<&str>| {
            let mut patient = Resource::new(ResourceType::Patient);
            if let Some(id) = id {
                patient.set_id(id);
            }
            patient
        };
        let request = |method: &str, url: &str, if_none_exist: Option<&str>| Request {
            method: method.to_owned(),
            url: url.to_owned(),
            if_none_exist: if_none_exist.map(str::to_owned),
        };
        const URN: &str = "urn:uuid:6b1c1f0e-7d0b-4f5c-9a59-3f1d5a9f6a01";
        let given = |id: &str| Some(IdRule::Given(id.to_owned()));
        let criteria = |update| {
            Some(IdRule::Criteria {
                text: "Patient?identifier=a|b".to_owned(),
                update,
            })
        };
        for (id, full_url, asked, expected) in [
            (None, None, None, Some(IdRule::Content)),
            (Some("p"), None, None, given("p")),
            (Some("p"), Some(URN), None, Some(IdRule::FullUrl)),
            (
                None,
                Some("URN:UUID:6B1C1F0E-7D0B-4F5C-9A59-3F1D5A9F6A01"),
                None,
                Some(IdRule::FullUrl),
            ),
            (
                None,
                Some("urn:oid:1.2.36.146"),
                None,
                Some(IdRule::FullUrl),
            ),
            (
                Some("p"),
                Some("urn:uuid:patient"),
                None,
                Some(IdRule::Local),
            ),
            (None, Some("urn:uuid:1"), None, Some(IdRule::Local)),
            (
                None,
                Some("urn:uuid:00000000-0000-0000-0000-000000000000"),
                None,
                Some(IdRule::Local),
            ),
            (None, Some("urn:oid:patient"), None, Some(IdRule::Local)),
            (None, Some("urn:oid:1.02"), None, Some(IdRule::Local)),
            (None, Some("urn:x:1"), None, Some(IdRule::Local)),
            (Some("p"), Some("http://x.org/Patient/p"), None, given("p")),
            (
                None,
                Some("http://x.org/Patient/p"),
                None,
                Some(IdRule::FullUrl),
            ),
            (
                Some("p"),
                Some(URN),
                Some(request("POST", "Patient", None)),
                Some(IdRule::FullUrl),
            ),
            (
                Some("p"),
                Some("urn:uuid:1"),
                Some(request("PUT", "Patient/p", None)),
                given("p"),
            ),
            (
                None,
                None,
                Some(request("PUT", "http://x.org/Patient/p", None)),
                given("p"),
            ),
            (
                Some("q"),
                None,
                Some(request("PUT", "Patient/p", None)),
                None,
            ),
            (None, None, Some(request("PUT", "Group/p", None)), None),
            (
                None,
                None,
                Some(request("PUT", "Patient?identifier=a|b", None)),
                criteria(true),
            ),
            (
                None,
                None,
                Some(request("POST", "Patient", Some("identifier=a|b"))),
                criteria(false),
            ),
            (
                None,
                None,
                Some(request("POST", "Patient", Some("Patient?identifier=a|b"))),
                criteria(false),
            ),
            (None, None, Some(request("POST", "Group", None)), None),
            (None, None, Some(request("DELETE", "Patient/p", None)), None),
            (None, None, Some(request("GET", "Patient/p", None)), None),
        ] {
            let rule = id_rule(&patient(id), full_url, asked.as_ref()).ok();
            assert_eq!(
                rule,
                expected,
                "{id:?} {full_url:?} {:?}",
                asked.map(|asked| (asked.method, asked.url))
            );
        }
    }

    #[test]
    fn refused_entries_say_why() {
        let entry = |value: serde_json::Value| {
            let bytes = value.to_string().into_bytes();
            let range = 0..bytes.len();
            Entry::of_bundle(1, 0, Original::Part(Arc::new(bytes), range))
        };
        for (value, reason) in [
            (
                json!({"resource": {"resourceType": "MedicinalProductDefinition"}}),
                "no resource type",
            ),
            (
                json!({"resource": {"resourceType": "AuditEvent"}}),
                "can't be imported",
            ),
            (
                json!({"request": {"method": "DELETE", "url": "Patient/1"}}),
                "DELETE is not done",
            ),
            (json!({"fullUrl": "urn:uuid:1"}), "no resource"),
            (json!([1]), "shape"),
            (
                json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST"}}),
                "shape",
            ),
        ] {
            let words = entry(value.clone()).unwrap().resource.unwrap_err();
            assert!(words.contains(reason), "{value}: {words}");
        }
        assert!(entry(json!({"resource": {"resourceType": "OperationOutcome", "issue": []}, "search": {"mode": "outcome"}})).is_none());
    }
}
