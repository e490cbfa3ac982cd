//! FHIR's operations: what is asked for by `$name`.

mod apply;
mod chosen;
mod everything;
mod explain;
mod lastn;
mod meta;
mod status;
mod validate;

use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use serde_json::{Value, json};

use crate::{Answer, RESOURCE_BYTES_MAX, RecordError};

pub use chosen::Among;
pub use meta::MetaChange;

/// The operations, each with the types that have it (empty: all that are kept) and whether it writes.
pub(crate) struct Operation {
    /// The name, without the `$`.
    pub(crate) name: &'static str,
    /// The type that has it; `None` is every type.
    pub(crate) kind: Option<ResourceType>,
    /// Whether it changes a resource.
    pub(crate) writes: bool,
}

/// All operations, in the order of the `CapabilityStatement`.
pub(crate) const OPERATIONS: [Operation; 18] = [
    Operation {
        name: "meta",
        kind: None,
        writes: false,
    },
    Operation {
        name: "meta-add",
        kind: None,
        writes: true,
    },
    Operation {
        name: "meta-delete",
        kind: None,
        writes: true,
    },
    Operation {
        name: "validate",
        kind: None,
        writes: false,
    },
    Operation {
        name: "explain",
        kind: None,
        writes: false,
    },
    Operation {
        name: "status",
        kind: Some(ResourceType::SearchParameter),
        writes: false,
    },
    Operation {
        name: "status",
        kind: Some(ResourceType::Subscription),
        writes: false,
    },
    Operation {
        name: "events",
        kind: Some(ResourceType::Subscription),
        writes: false,
    },
    Operation {
        name: "replay",
        kind: Some(ResourceType::Subscription),
        writes: true,
    },
    Operation {
        name: "rotate-secret",
        kind: Some(ResourceType::Subscription),
        writes: true,
    },
    Operation {
        name: "everything",
        kind: Some(ResourceType::Patient),
        writes: false,
    },
    Operation {
        name: "match",
        kind: Some(ResourceType::Patient),
        writes: false,
    },
    Operation {
        name: "start-journey",
        kind: Some(ResourceType::Patient),
        writes: true,
    },
    Operation {
        name: "apply",
        kind: Some(ResourceType::PlanDefinition),
        writes: false,
    },
    Operation {
        name: "apply",
        kind: Some(ResourceType::ActivityDefinition),
        writes: false,
    },
    Operation {
        name: "lastn",
        kind: Some(ResourceType::Observation),
        writes: false,
    },
    Operation {
        name: "export",
        kind: Some(ResourceType::Patient),
        writes: false,
    },
    Operation {
        name: "export",
        kind: Some(ResourceType::Group),
        writes: false,
    },
];

/// Where HL7 defines bulk data.
pub(crate) const BULK_DATA: &str = "http://hl7.org/fhir/uv/bulkdata";

impl Operation {
    /// Where HL7 defines it; a name of Cairn's own for what R4 doesn't have.
    pub(crate) fn definition(&self) -> String {
        if self.kind == Some(ResourceType::Subscription) {
            return format!("urn:cairn:operation:subscription-{}", self.name);
        }
        if matches!(self.name, "explain" | "status" | "start-journey") {
            return format!("urn:cairn:operation:{}", self.name);
        }
        let of = self.kind.map_or("Resource", |kind| kind.name());
        if self.name == "export" {
            let of = of.to_lowercase();
            return format!("{BULK_DATA}/OperationDefinition/{of}-export");
        }
        format!("http://hl7.org/fhir/OperationDefinition/{of}-{}", self.name)
    }
}

/// What an operation is given is a resource, and has a resource's bound.
fn check_bytes(body: &[u8]) -> Result<(), RecordError> {
    if body.len() <= RESOURCE_BYTES_MAX {
        return Ok(());
    }
    let words = format!(
        "the body has {} bytes; at most {RESOURCE_BYTES_MAX} are taken",
        body.len()
    );
    Err(RecordError::new(413, IssueCode::TooLong, words))
}

/// A `Parameters` resource from a body.
pub(crate) fn parameters(body: &[u8]) -> Result<Resource, RecordError> {
    check_bytes(body)?;
    let resource = Resource::parse(body).map_err(|outcome| RecordError::with(400, outcome))?;
    if resource.kind().name() != "Parameters" {
        let words = format!("the body is a {}, not Parameters", resource.kind());
        let outcome = OperationOutcome::at(IssueCode::Invalid, words, "resourceType");
        return Err(RecordError::with(400, outcome));
    }
    let issues = fhir::validate::check(&resource);
    if issues.is_empty() {
        return Ok(resource);
    }
    Err(RecordError::with(400, OperationOutcome { issues }))
}

/// The `Parameters` of an operation that is defined by a service over the record, from a body.
///
/// # Errors
/// 400 when the body is something else, 413 when it is too long.
pub fn parameters_resource(body: &[u8]) -> Result<Resource, RecordError> {
    parameters(body)
}

/// The parameters of an operation that came in a body, `Parameters`, as in an address.
///
/// # Errors
/// 400 when the body is something else, or has a parameter that no address could have.
pub fn parameters_of(body: &[u8]) -> Result<Vec<(String, String)>, RecordError> {
    let resource = parameters(body)?;
    let list = resource.get("parameter").and_then(Value::as_array);
    let pair = |one: &Value| {
        let members = one.as_object()?;
        let name = members.get("name")?.as_str()?;
        let mut values = members
            .iter()
            .filter(|(member, _)| member.starts_with("value"));
        let value = match (values.next()?.1, values.next()) {
            (Value::String(text), None) => text.clone(),
            (Value::Number(number), None) => number.to_string(),
            (Value::Bool(yes), None) => yes.to_string(),
            _ => return None,
        };
        Some((name.to_owned(), value))
    };
    let mut pairs = Vec::new();
    for one in list.into_iter().flatten() {
        pairs.push(pair(one).ok_or_else(|| {
            let words = "has a parameter that is no name with one primitive value";
            refuse(IssueCode::Value, "Parameters.parameter", words)
        })?);
    }
    Ok(pairs)
}

/// The parameters of a name.
fn named<'a>(parameters: &'a Resource, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let list = parameters.get("parameter").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter(move |one| one["name"] == name)
}

/// `Parameters` with one parameter `return`.
fn returned(member: &str, value: &Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "return", member: value}]})
}

/// An answer that is a bundle or another resource made for it, which has no version.
pub(crate) fn answer(body: Vec<u8>) -> Answer {
    Answer {
        status: 200,
        version: None,
        last_modified_ms: None,
        location: None,
        body,
    }
}

pub(crate) fn refuse(code: IssueCode, name: &str, words: impl Into<String>) -> RecordError {
    // Never more than a name, whatever the client sent.
    let name: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect();
    RecordError::with(400, OperationOutcome::at(code, words, name))
}
