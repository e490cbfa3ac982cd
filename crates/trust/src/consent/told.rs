//! Labels that codes stand for, told with rows that go out (HL7 DS4P), and taken back where they come in.
//!
//! Nothing of them is stored: they are added to `meta.security` of what is shown, each with DS4P's classifier,
//! which says who gave the label. A client that writes back what it read writes them, too. One that the codes
//! still stand for is left out then; a sensitivity that they stand for no longer is kept as the client's own, since
//! nobody's protection is to end by a write that wasn't about it. A level is never kept: a sensitivity that stays
//! is restricted anyway, and a level that somebody has said may be a seal, which nobody has put there.
use std::borrow::Cow;

use fhir::Resource;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ACT_CODE;
use super::labels::{ACT_CODE_END, CONFIDENTIALITY, Labels, Level, Tables};

/// Who gave a label, by the implementation guide DS4P.
const CLASSIFIER: &str =
    "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-sec-label-classifier";
const CONFIDENTIALITY_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
/// What says of a label that it was found here.
const BY: &str = "Cairn, by what the resource holds";

fn label(system: &str, code: &str) -> Value {
    let by = json!([{"url": CLASSIFIER, "valueReference": {"type": "Device", "display": BY}}]);
    json!({"extension": by, "system": system, "code": code})
}

/// Whether a label is one of those that were found here.
pub(super) fn is_found(coding: &Value) -> bool {
    let extensions = coding.get("extension").and_then(Value::as_array);
    extensions.into_iter().flatten().any(|extension| {
        extension["url"] == CLASSIFIER && extension["valueReference"]["display"] == BY
    })
}

fn same(one: &Value, other: &Value) -> bool {
    one["system"] == other["system"] && one["code"] == other["code"]
}

/// Whether a label says how confidential something is.
fn is_level(coding: &Value) -> bool {
    let system = coding.get("system").and_then(Value::as_str);
    system.is_some_and(|system| system.ends_with(CONFIDENTIALITY))
}

/// The labels of `meta.security`.
fn own(resource: &Resource) -> &[Value] {
    let own = resource.at(&["meta", "security"]).and_then(Value::as_array);
    own.map_or(&[], Vec::as_slice)
}

/// Labels that a resource has by what it holds, and doesn't say.
fn found(tables: &Tables, resource: &Resource) -> Vec<Value> {
    // What anybody may know is nobody's: definitions, value sets, the directory.
    if !resource.kind().may_be_patients() {
        return Vec::new();
    }
    let labels = Labels::of(tables, resource);
    let own = own(resource).iter().filter_map(|coding| {
        let text = |name: &str| coding.get(name).and_then(Value::as_str);
        text("system").zip(text("code"))
    });
    let own: Vec<(&str, &str)> = own.collect();
    let is_own = |label: &str| {
        own.iter()
            .any(|(system, code)| system.ends_with(ACT_CODE_END) && *code == label)
    };
    let levels = own
        .iter()
        .filter(|(system, _)| system.ends_with(CONFIDENTIALITY));
    let said = levels.filter_map(|(_, code)| Level::parse(code)).max();
    let mut found = Vec::new();
    if labels.level > Level::Normal && said < Some(labels.level) {
        found.push(label(CONFIDENTIALITY_SYSTEM, labels.level.code()));
    }
    let about = labels.about.iter().filter(|one| !is_own(one));
    found.extend(about.map(|one| label(ACT_CODE, one)));
    found
}

fn set_security(resource: &mut Resource, labels: Vec<Value>) {
    let mut meta = match resource.get("meta") {
        Some(Value::Object(meta)) => meta.clone(),
        _ => serde_json::Map::new(),
    };
    if labels.is_empty() {
        meta.shift_remove("security");
    } else {
        meta.insert("security".to_owned(), Value::Array(labels));
    }
    if meta.is_empty() {
        resource.remove("meta");
    } else {
        resource.set("meta", Value::Object(meta));
    }
}

/// Adds to what is shown the labels that it has by what it holds.
pub(crate) fn tell(tables: &Tables, resource: &mut Resource) {
    let mut found = found(tables, resource);
    if !found.is_empty() {
        let mut labels = own(resource).to_vec();
        labels.append(&mut found);
        set_security(resource, labels);
    }
}

/// Takes back labels that were told: levels, and those that would be told again. The others stay as said by who
/// writes.
pub(crate) fn take_back(tables: &Tables, resource: &mut Resource) {
    if !own(resource).iter().any(is_found) {
        return;
    }
    let (told, mut labels): (Vec<Value>, Vec<Value>) =
        own(resource).iter().cloned().partition(is_found);
    set_security(resource, labels.clone());
    let again = found(tables, resource);
    for mut one in told {
        if is_level(&one) || again.iter().chain(&labels).any(|other| same(other, &one)) {
            continue;
        }
        if let Value::Object(members) = &mut one {
            members.shift_remove("extension");
        }
        labels.push(one);
    }
    set_security(resource, labels);
}

/// The high-water mark of a bundle: how confidential the most confidential of its entries is.
#[derive(Debug, Default, Clone, Copy)]
pub struct HighWaterMark(Option<Level>);

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default)]
    security: Vec<Coding<'a>>,
}

#[derive(Deserialize)]
struct Coding<'a> {
    #[serde(borrow)]
    system: Option<Cow<'a, str>>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

impl HighWaterMark {
    /// Looks at a resource as JSON, with the labels that go out with it.
    pub fn weigh(&mut self, resource: &[u8]) {
        let is_labelled =
            std::str::from_utf8(resource).is_ok_and(|text| text.contains("\"security\""));
        if !is_labelled {
            return;
        }
        // What isn't JSON isn't given out; there is nothing to weigh.
        let Ok(Entry { meta: Some(meta) }) = serde_json::from_slice(resource) else {
            return;
        };
        let levels = meta.security.iter().filter_map(|coding| {
            let system = coding.system.as_deref()?;
            Level::parse(coding.code.as_deref()?).filter(|_| system.ends_with(CONFIDENTIALITY))
        });
        self.0 = self.0.max(levels.max());
    }

    /// The label of the bundle, as JSON. None where all of it is ordinary.
    #[must_use]
    pub fn label(self) -> Option<Value> {
        let level = self.0.filter(|level| *level > Level::Normal)?;
        Some(label(CONFIDENTIALITY_SYSTEM, level.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).expect("a resource")
    }

    fn condition(security: &Value, code: &str) -> Resource {
        resource(
            json!({"resourceType": "Condition", "id": "c", "meta": {"security": security},
            "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]}}),
        )
    }

    fn codes(resource: &Resource) -> Vec<(String, bool)> {
        own(resource)
            .iter()
            .map(|one| {
                (
                    one["code"].as_str().unwrap_or_default().to_owned(),
                    is_found(one),
                )
            })
            .collect()
    }

    fn pairs(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
        expected
            .iter()
            .map(|(code, found)| ((*code).to_owned(), *found))
            .collect()
    }

    #[test]
    fn labels_are_told_and_taken_back() {
        let tables = Tables::with(Vec::new()).expect("tables");
        let act = |code: &str| json!({"system": ACT_CODE, "code": code});
        let level = |code: &str| json!({"system": CONFIDENTIALITY_SYSTEM, "code": code});
        for (security, code, told) in [
            (json!([]), "I50.9", &[][..]),
            (json!([]), "B20", &[("R", true), ("HIV", true)]),
            (json!([act("HIV")]), "B20", &[("HIV", false), ("R", true)]),
            (
                json!([level("V"), act("HIV")]),
                "B20",
                &[("V", false), ("HIV", false)],
            ),
            (
                json!([level("N")]),
                "F11.20",
                &[("N", false), ("R", true), ("OPIOIDUD", true)],
            ),
            (json!([act("PSY")]), "I50.9", &[("PSY", false), ("R", true)]),
        ] {
            let before = condition(&security, code);
            let mut shown = before.clone();
            tell(&tables, &mut shown);
            assert_eq!(codes(&shown), pairs(told), "{security} {code}");
            let once = shown.clone();
            tell(&tables, &mut shown);
            assert_eq!(shown, once, "told twice");
            let mut back = shown.clone();
            take_back(&tables, &mut back);
            let said = |one: &Resource| own(one).to_vec();
            assert_eq!(said(&back), said(&before), "{security} {code}");
        }
        // Once the code is gone its sensitivity is the writer's word, and how confidential that is is found again.
        let mut shown = condition(&json!([]), "B20");
        tell(&tables, &mut shown);
        shown.set("code", json!({"text": "infection"}));
        take_back(&tables, &mut shown);
        assert_eq!(codes(&shown), pairs(&[("HIV", false)]));
        tell(&tables, &mut shown);
        assert_eq!(codes(&shown), pairs(&[("HIV", false), ("R", true)]));
        // What is no patient's has none.
        let mut set = resource(
            json!({"resourceType": "ValueSet", "id": "v", "status": "active",
            "expansion": {"timestamp": "2026-01-01", "contains": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "B20"}]}}),
        );
        tell(&tables, &mut set);
        assert!(own(&set).is_empty());
    }

    #[test]
    fn what_is_told_is_nobodys_mark() {
        let tables = Tables::with(Vec::new()).expect("tables");
        let act = |code: &str| json!({"system": ACT_CODE, "code": code});
        let level = |code: &str| json!({"system": CONFIDENTIALITY_SYSTEM, "code": code});
        let marked = |resource: &Resource| Labels::of(&tables, resource).marked;
        for (security, code, expected) in [
            (json!([]), "B20", None),
            (json!([level("R")]), "I50.9", Some(Level::Restricted)),
            // Somebody's mark on what codes call sensitive, and the labels that were told, sent back by who
            // drops extensions.
            (json!([level("R")]), "B20", Some(Level::Restricted)),
            (json!([level("R"), act("HIV")]), "B20", None),
            (
                json!([level("R"), act("PSY")]),
                "B20",
                Some(Level::Restricted),
            ),
            (
                json!([level("R"), act("HIV")]),
                "I50.9",
                Some(Level::Restricted),
            ),
            (json!([level("V"), act("HIV")]), "B20", Some(Level::Very)),
        ] {
            let mut row = condition(&security, code);
            assert_eq!(marked(&row), expected, "{security} {code}");
            tell(&tables, &mut row);
            assert_eq!(marked(&row), expected, "{security} {code}, told");
        }
        // What is told of rows that are in another is no mark on that.
        let mut told = condition(&json!([]), "B20");
        tell(&tables, &mut told);
        let document = |confidentiality: &str| {
            resource(
                json!({"resourceType": "Bundle", "type": "document", "entry": [
                {"resource": {"resourceType": "Composition", "confidentiality": confidentiality}},
                {"resource": told.as_value()}]}),
            )
        };
        assert_eq!(marked(&document("N")), Some(Level::Normal));
        assert_eq!(marked(&document("R")), Some(Level::Restricted));
    }

    #[test]
    fn texts_are_looked_through_as_values_are() {
        let tables = Tables::with(Vec::new()).expect("tables");
        for code in ["B20", "F11.20", "I50.9", "B97.35", "O98.71", "X"] {
            let plain = resource(
                json!({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"},
                "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": code}]}}),
            );
            let mut shown = plain.clone();
            tell(&tables, &mut shown);
            if shown != plain {
                assert!(tables.may_label(&plain.to_json()), "{code}");
            }
        }
        let of = |code: &str| {
            let text = json!({"resourceType": "Condition", "code": {"coding": [{"system": "x", "code": code}]}});
            tables.may_label(text.to_string().as_bytes())
        };
        assert!(!of("I50.9"));
        assert!(of("6813"), "a medicine");
        assert!(of("a\"b"), "what can't be told at a glance");
        assert!(tables.may_label(br#"{"meta":{"security":[]}}"#));
        assert!(tables.may_label(br#"{"confidentiality":"R"}"#));
    }

    #[test]
    fn a_bundle_is_as_confidential_as_its_entries() {
        let mut mark = HighWaterMark::default();
        mark.weigh(br#"{"resourceType":"Patient","id":"p"}"#);
        mark.weigh(br#"{"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}]}}"#);
        assert!(mark.label().is_none());
        for (code, expected) in [("R", "R"), ("L", "R"), ("V", "V"), ("R", "V")] {
            let entry = json!({"meta": {"security": [{"code": "HIV", "system": ACT_CODE},
                {"system": CONFIDENTIALITY_SYSTEM, "code": code}]}});
            mark.weigh(entry.to_string().as_bytes());
            assert_eq!(mark.label().expect("a label")["code"], expected);
        }
    }
}
