//! What was changed since: the history of the record's patients, as the service tells of them.

use fhir::Resource;
use serde_json::{Value, json};

use super::rules::Rules;
use super::view::{Confidentiality, number, replaced_by, whole_at};

/// How a patient is now, of whom an entry of the history is a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// How confidential the record is.
    level: Confidentiality,
    /// Whether another has taken its place.
    is_replaced: bool,
}

impl Now {
    /// As the newest version says.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        Self {
            level: Confidentiality::of(resource),
            is_replaced: replaced_by(resource).is_some(),
        }
    }
    /// Deleted: no longer to be used.
    pub const GONE: Self = Self {
        level: Confidentiality::Redacted,
        is_replaced: false,
    };
}

/// What an entry of the history is told as, by how the patient is now: what is hidden now is not told of before. None
/// of patients who have no number, and so are nobody here.
#[must_use]
pub fn told(rules: &Rules, base: &str, entry: &Value, now: Now) -> Option<Value> {
    let resource = Resource::from_value(entry.get("resource")?.clone()).ok()?;
    let number = number(rules, &resource)?.to_owned();
    let version = version(entry)?;
    let address = format!("{base}/Patient/{number}");
    let level = Confidentiality::of(&resource).max(now.level);
    if level == Confidentiality::Redacted {
        return Some(gone(&address, &number, entry));
    }
    let mut told = whole_at(rules, &resource, version, level)?;
    if now.is_replaced || replaced_by(&resource).is_some() {
        // Who has taken the place is told to who asks for the number.
        let kept = ["resourceType", "id", "identifier", "meta"];
        if let Some(members) = told.as_object_mut() {
            members.retain(|name, _| kept.contains(&name.as_str()));
        }
        told["active"] = json!(false);
    }
    Some(json!({
        "fullUrl": address,
        "resource": told,
        "request": {"method": entry["request"]["method"], "url": format!("Patient/{number}")},
        "response": entry["response"],
    }))
}

/// An entry of a record that is deleted, or not to be used any more.
#[must_use]
pub fn gone(address: &str, number: &str, entry: &Value) -> Value {
    json!({
        "fullUrl": address,
        "request": {"method": "DELETE", "url": format!("Patient/{number}")},
        "response": entry["response"],
    })
}

/// The version that an entry is of.
#[must_use]
pub fn version(entry: &Value) -> Option<u32> {
    let etag = entry["response"]["etag"].as_str()?;
    etag.trim_start_matches("W/").trim_matches('"').parse().ok()
}
