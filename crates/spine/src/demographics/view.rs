//! A patient of the record as the service tells of one: by number, with what it tells of, and without what is
//! hidden of somebody restricted.
//!
//! The record keeps a patient under an id of its own, with more than is told here. What is told is made from it,
//! and what is changed is put back into it ([`put_back`]), so that the rest stays.

use fhir::Resource;
use serde_json::{Map, Value, json};

use super::rules::Rules;

/// The system of the marks of confidentiality.
pub const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
/// The system of how contacts are related.
const CONTACT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/v2-0131";
/// Lists whose items are told by an id.
pub const LISTS: [&str; 5] = [
    "name",
    "address",
    "telecom",
    "contact",
    "generalPractitioner",
];
/// Single elements that are told.
pub const SINGLE: [&str; 4] = [
    "gender",
    "birthDate",
    "multipleBirthInteger",
    "deceasedDateTime",
];
/// What tells where somebody is.
const PLACES: [&str; 4] = ["address", "telecom", "contact", "generalPractitioner"];

/// How confidential a person's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidentiality {
    /// Everything is told (U, and all ordinary marks).
    Unrestricted,
    /// Nothing of where they are is told (R).
    Restricted,
    /// Nothing but that there is somebody of the number (V).
    VeryRestricted,
    /// The record is no longer to be used (REDACTED).
    Redacted,
}

impl Confidentiality {
    /// The strictest mark of a resource.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        let marks = resource.at(&["meta", "security"]).and_then(Value::as_array);
        let own = |mark: &&Value| mark["system"] == CONFIDENTIALITY;
        let level = |mark: &Value| match mark["code"].as_str() {
            Some("R") => Self::Restricted,
            Some("V") => Self::VeryRestricted,
            Some("REDACTED") => Self::Redacted,
            _ => Self::Unrestricted,
        };
        (marks.into_iter().flatten().filter(own).map(level))
            .max()
            .unwrap_or(Self::Unrestricted)
    }
    /// Code and display.
    #[must_use]
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Unrestricted => ("U", "unrestricted"),
            Self::Restricted => ("R", "restricted"),
            Self::VeryRestricted => ("V", "very restricted"),
            Self::Redacted => ("REDACTED", "redacted"),
        }
    }
}

/// The number that a patient is known by now.
#[must_use]
pub fn number<'r>(rules: &Rules, resource: &'r Resource) -> Option<&'r str> {
    let identifiers = resource.get("identifier").and_then(Value::as_array)?;
    identifiers
        .iter()
        .filter(|one| one["system"] == rules.identifier_system.as_str() && one["use"] != "old")
        .filter_map(|one| one["value"].as_str())
        .find(|value| rules.is_number(value))
}

/// The id of the record that has taken this one's place, if one has.
#[must_use]
pub fn replaced_by(resource: &Resource) -> Option<&str> {
    let links = resource.get("link").and_then(Value::as_array)?;
    let link = links.iter().find(|link| link["type"] == "replaced-by")?;
    let reference = link["other"]["reference"].as_str()?;
    reference.strip_prefix("Patient/")
}

/// What is told of a patient who is retrieved by number. Without a number there is nothing to tell.
#[must_use]
pub fn whole(rules: &Rules, resource: &Resource, version: u32) -> Option<Value> {
    whole_at(rules, resource, version, Confidentiality::of(resource))
}

/// The same where the record has become more confidential since.
#[must_use]
pub fn whole_at(
    rules: &Rules,
    resource: &Resource,
    version: u32,
    level: Confidentiality,
) -> Option<Value> {
    let mut told = frame(rules, resource, version, level)?;
    if level >= Confidentiality::VeryRestricted {
        return Some(Value::Object(told));
    }
    let hides = level == Confidentiality::Restricted;
    for name in LISTS {
        if hides && PLACES.contains(&name) {
            continue;
        }
        let items = shown(name, resource.get(name));
        if !items.is_empty() {
            told.insert(name.to_owned(), Value::Array(items));
        }
    }
    for name in SINGLE {
        if let Some(value) = resource.get(name) {
            told.insert(name.to_owned(), value.clone());
        }
    }
    let extensions = extensions(rules, resource, |extension| !(hides && extension.place));
    if !extensions.is_empty() {
        told.insert("extension".to_owned(), Value::Array(extensions));
    }
    Some(Value::Object(told))
}

/// What is told of a patient whom a search finds.
#[must_use]
pub fn found(rules: &Rules, resource: &Resource, version: u32) -> Option<Value> {
    let whole = whole(rules, resource, version)?;
    let Value::Object(mut told) = whole else {
        return None;
    };
    let mut keep = |name: &str, uses: &[&str]| {
        let Some(Value::Array(items)) = told.get_mut(name) else {
            return;
        };
        items.retain(|item| uses.contains(&item["use"].as_str().unwrap_or(uses[0])));
        if items.is_empty() {
            told.remove(name);
        }
    };
    keep("name", &["usual", "nickname", "temp", "official"]);
    keep("address", &["home"]);
    let searched = |item: &Value| {
        let extension = item["url"].as_str().and_then(|url| rules.extension(url));
        extension.is_some_and(|extension| extension.searched)
    };
    if let Some(Value::Array(items)) = told.get_mut("extension") {
        items.retain(searched);
        if items.is_empty() {
            told.remove("extension");
        }
    }
    Some(Value::Object(told))
}

/// Number, version and confidentiality.
fn frame(
    rules: &Rules,
    resource: &Resource,
    version: u32,
    level: Confidentiality,
) -> Option<Map<String, Value>> {
    let number = number(rules, resource)?;
    let (code, display) = level.told();
    let mut identifier = json!({"system": rules.identifier_system, "value": number});
    let identifiers = resource.get("identifier").and_then(Value::as_array);
    let own = identifiers
        .into_iter()
        .flatten()
        .find(|one| one["system"] == rules.identifier_system.as_str() && one["value"] == number);
    if let Some(extension) = own.and_then(|own| own.get("extension")) {
        identifier["extension"] = extension.clone();
    }
    let told = json!({
        "resourceType": "Patient",
        "id": number,
        "identifier": [identifier],
        "meta": {
            "versionId": version.to_string(),
            "security": [{"system": CONFIDENTIALITY, "code": code, "display": display}],
        },
    });
    match told {
        Value::Object(told) => Some(told),
        _ => None,
    }
}

/// Whether an item of a list is told at all.
fn is_told(list: &str, item: &Value) -> bool {
    match list {
        "contact" => item["relationship"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|relationship| relationship["coding"].as_array().into_iter().flatten())
            .any(|coding| coding["system"] == CONTACT_ROLE && coding["code"] == "C"),
        // A reference by the record's own ids leads nowhere here.
        "generalPractitioner" => item["identifier"]["value"].is_string(),
        _ => item.is_object(),
    }
}

/// The items of a list that are told, each with an id.
fn shown(list: &str, items: Option<&Value>) -> Vec<Value> {
    let items = items.and_then(Value::as_array);
    let items = items
        .into_iter()
        .flatten()
        .filter(|item| is_told(list, item));
    items
        .enumerate()
        .map(|(place, item)| {
            let mut item = item.clone();
            if !item["id"].is_string() {
                item["id"] = json!(item_id(list, place, &item));
            }
            if list == "generalPractitioner" {
                let names = ["id", "type", "identifier"];
                if let Some(item) = item.as_object_mut() {
                    item.retain(|name, _| names.contains(&name.as_str()));
                }
            }
            item
        })
        .collect()
}

/// The id of an item that has none: the same as long as the item and its place stay.
#[must_use]
pub fn item_id(list: &str, place: usize, item: &Value) -> String {
    // FNV-1a, 64 bits: nothing is kept secret by it, and whoever sees the id sees the item.
    let text = format!("{list}\n{place}\n{item}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08X}", hash >> 32 ^ (hash & 0xffff_ffff))
}

fn extensions(
    rules: &Rules,
    resource: &Resource,
    keeps: impl Fn(&super::rules::Extension) -> bool,
) -> Vec<Value> {
    let items = resource.get("extension").and_then(Value::as_array);
    let told = |item: &&Value| {
        let extension = item["url"].as_str().and_then(|url| rules.extension(url));
        extension.is_some_and(&keeps)
    };
    items.into_iter().flatten().filter(told).cloned().collect()
}

/// Puts what was told and then changed back into the resource: what isn't told stays as it is.
pub fn put_back(rules: &Rules, resource: &mut Resource, told: &Map<String, Value>) {
    for name in SINGLE {
        // What is said beside a value (`_birthDate` has the hour) is said of that value.
        if told.get(name) != resource.get(name) {
            resource.remove(&format!("_{name}"));
        }
        match told.get(name) {
            Some(value) => resource.set(name, value.clone()),
            None => drop(resource.remove(name)),
        }
    }
    if told.contains_key("deceasedDateTime") {
        resource.remove("deceasedBoolean");
    }
    let known = |item: &Value| {
        let url = item["url"].as_str();
        url.is_some_and(|url| rules.extension(url).is_some())
    };
    for name in LISTS.into_iter().chain(["extension"]) {
        let before = resource.remove(name);
        let untold = |item: &Value| match name {
            "extension" => !known(item),
            name => !is_told(name, item),
        };
        let mut items = match told.get(name) {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        let before = before.as_ref().and_then(Value::as_array);
        if name == "generalPractitioner" {
            keep_references(&mut items, before);
        }
        items.extend(
            before
                .into_iter()
                .flatten()
                .filter(|item| untold(item))
                .cloned(),
        );
        if !items.is_empty() {
            resource.set(name, Value::Array(items));
        }
    }
}

/// Of a practice more is kept than is told: the record's own reference, its name. It stays as long as the practice is
/// the same by its code.
fn keep_references(items: &mut [Value], before: Option<&Vec<Value>>) {
    let name = "generalPractitioner";
    let old = before
        .into_iter()
        .flatten()
        .filter(|item| is_told(name, item));
    let old: Vec<(String, &Value)> = old
        .enumerate()
        .map(|(place, item)| match item["id"].as_str() {
            Some(id) => (id.to_owned(), item),
            None => (item_id(name, place, item), item),
        })
        .collect();
    for item in items {
        let was = old.iter().find(|(id, _)| item["id"] == id.as_str());
        let Some((_, was)) = was else { continue };
        if was["identifier"]["value"] != item["identifier"]["value"] {
            continue;
        }
        let Some(now) = item.as_object_mut() else {
            continue;
        };
        for (member, value) in was.as_object().into_iter().flatten() {
            now.entry(member.clone()).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(code: Option<&str>) -> Resource {
        let mut value = json!({
            "resourceType": "Patient", "id": "r1",
            "identifier": [
                {"system": "urn:own", "value": "9000000017"},
                {"system": "https://fhir.nhs.uk/Id/nhs-number", "use": "old", "value": "9000000025"},
                {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"},
            ],
            "maritalStatus": {"text": "x"},
            "name": [{"use": "usual", "family": "Smith"}, {"id": "7", "use": "old", "family": "Jones"}],
            "gender": "female", "birthDate": "2010-10-22",
            "address": [{"use": "home", "line": ["1"]}, {"use": "temp", "line": ["2"]}],
            "telecom": [{"system": "phone", "value": "1"}],
            "contact": [
                {"relationship": [{"coding": [{"system": CONTACT_ROLE, "code": "C"}]}], "telecom": [{"value": "999"}]},
                {"relationship": [{"text": "aunt"}]},
            ],
            "generalPractitioner": [
                {"reference": "Organization/o"},
                {"type": "Organization", "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Y12345"}},
            ],
            "extension": [
                {"url": "urn:other", "valueString": "x"},
                {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "Leeds"}},
                {"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeathNotificationStatus"},
            ],
        });
        if let Some(code) = code {
            value["meta"] = json!({"security": [{"system": CONFIDENTIALITY, "code": code}]});
        }
        Resource::from_value(value).expect("a patient")
    }

    fn names(value: &Value) -> Vec<&str> {
        let mut names: Vec<_> = value
            .as_object()
            .into_iter()
            .flat_map(|members| members.keys())
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_told_by_confidentiality() {
        let rules = Rules::named("england").expect("rules");
        let all = "address birthDate contact extension gender generalPractitioner id identifier meta name resourceType telecom";
        let few = "birthDate extension gender id identifier meta name resourceType";
        let least = "id identifier meta resourceType";
        for (code, mark, expected, found_too) in [
            (None, "U", all, all),
            (Some("N"), "U", all, all),
            (Some("R"), "R", few, few),
            (Some("V"), "V", least, least),
            (Some("REDACTED"), "REDACTED", least, least),
        ] {
            let patient = patient(code);
            let told = whole(&rules, &patient, 3).expect("told");
            assert_eq!(names(&told).join(" "), expected, "{code:?}");
            assert_eq!(told["id"], "9000000009");
            assert_eq!(told["meta"]["versionId"], "3");
            assert_eq!(told["meta"]["security"][0]["code"], mark);
            let found = found(&rules, &patient, 3).expect("found");
            assert_eq!(names(&found).join(" "), found_too, "{code:?}");
        }
        let restricted = whole(&rules, &patient(Some("R")), 1).expect("told");
        let text = restricted.to_string();
        assert!(!text.contains("Leeds") && !text.contains("Y12345") && !text.contains("999"));
        let found = found(&rules, &patient(None), 1).expect("found");
        assert_eq!(found["name"].as_array().map(Vec::len), Some(1));
        assert_eq!(found["address"].as_array().map(Vec::len), Some(1));
        assert_eq!(found["extension"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn what_is_not_told_stays() {
        let rules = Rules::named("england").expect("rules");
        let before = patient(None);
        let told = whole(&rules, &before, 1).expect("told");
        let mut after = before.clone();
        let mut told = told.as_object().cloned().expect("members");
        told["gender"] = json!("male");
        told.remove("telecom");
        put_back(&rules, &mut after, &told);
        assert_eq!(after.get("gender"), Some(&json!("male")));
        assert_eq!(after.get("telecom"), None);
        for name in ["maritalStatus", "identifier", "id"] {
            assert_eq!(after.get(name), before.get(name), "{name}");
        }
        for (name, count) in [("contact", 2), ("generalPractitioner", 2), ("extension", 3)] {
            let items = after.get(name).and_then(Value::as_array).map(Vec::len);
            assert_eq!(items, Some(count), "{name}");
        }
        let text = after.as_value().to_string();
        for kept in ["aunt", "Organization/o", "urn:other"] {
            assert!(text.contains(kept), "{kept}");
        }
    }

    #[test]
    fn of_a_practice_stays_what_is_not_told() {
        let rules = Rules::named("england").expect("rules");
        let practice = json!({"reference": "Organization/o", "display": "Park Surgery", "_display": {"id": "x"},
            "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Y12345"}});
        for id in [None, Some("g0")] {
            let mut before = patient(None);
            let mut practice = practice.clone();
            if let Some(id) = id {
                practice["id"] = json!(id);
            }
            before.set("generalPractitioner", json!([practice.clone()]));
            let told = whole(&rules, &before, 1).expect("told");
            let mut told = told.as_object().cloned().expect("members");
            assert!(told["generalPractitioner"][0].get("reference").is_none());
            told["gender"] = json!("male");
            let mut after = before.clone();
            put_back(&rules, &mut after, &told);
            let kept = &after.get("generalPractitioner").expect("practices")[0];
            for member in ["reference", "display", "_display", "identifier"] {
                assert_eq!(kept[member], practice[member], "{id:?} {member}");
            }
            // Another practice's code: the reference is that of the one before.
            told["generalPractitioner"][0]["identifier"]["value"] = json!("A1");
            put_back(&rules, &mut after, &told);
            let kept = &after.get("generalPractitioner").expect("practices")[0];
            assert!(
                kept.get("reference").is_none() && kept.get("display").is_none(),
                "{kept}"
            );
        }
    }

    #[test]
    fn what_is_said_of_a_value_goes_with_it() {
        let rules = Rules::named("england").expect("rules");
        let mut before = patient(None);
        before.set(
            "_birthDate",
            json!({"extension": [{"url": "urn:time", "valueDateTime": "2010-10-22T08:00:00Z"}]}),
        );
        let told = whole(&rules, &before, 1).expect("told");
        let mut told = told.as_object().cloned().expect("members");
        let mut after = before.clone();
        put_back(&rules, &mut after, &told);
        assert_eq!(after.get("_birthDate"), before.get("_birthDate"));
        told["birthDate"] = json!("2010-10-23");
        put_back(&rules, &mut after, &told);
        assert_eq!(after.get("_birthDate"), None);
    }

    #[test]
    fn who_has_taken_a_place() {
        for (link, expected) in [
            (
                json!([{"type": "replaced-by", "other": {"reference": "Patient/n"}}]),
                Some("n"),
            ),
            (
                json!([{"type": "replaces", "other": {"reference": "Patient/n"}}]),
                None,
            ),
            (
                json!([{"type": "seealso", "other": {"reference": "Patient/n"}}]),
                None,
            ),
        ] {
            let mut patient = patient(None);
            patient.set("link", link);
            assert_eq!(replaced_by(&patient), expected);
        }
    }
}
