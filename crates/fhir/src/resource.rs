//! A FHIR resource as JSON, with typed views where code needs them.
use crate::{IssueCode, OperationOutcome, Reference, ResourceType, date, human, json, search};
use serde_json::{Map, Value};

/// A FHIR R4 resource. Numbers keep their digits and members their order, save that
/// `resourceType`, `id` and `meta` come first.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    kind: ResourceType,
    /// Always an object.
    json: Value,
}

impl Resource {
    /// Parses JSON text; limits: 64 levels of nesting, a known `resourceType`, no duplicate members.
    ///
    /// # Errors
    /// An outcome that says what is wrong and where.
    pub fn parse(text: &[u8]) -> Result<Self, OperationOutcome> {
        Self::assemble(json::parse(text)?)
    }
    /// A resource from a JSON value.
    ///
    /// # Errors
    /// As [`Resource::parse`].
    pub fn from_value(value: Value) -> Result<Self, OperationOutcome> {
        if !json::is_flat_enough(&value, 0) {
            let words = format!("more than {} levels of nesting", json::NESTING_MAX);
            return Err(OperationOutcome::error(IssueCode::Structure, words));
        }
        Self::assemble(value)
    }
    fn assemble(value: Value) -> Result<Self, OperationOutcome> {
        let Value::Object(mut members) = value else {
            return Err(OperationOutcome::error(
                IssueCode::Structure,
                "a resource is a JSON object",
            ));
        };
        let kind = match members.get("resourceType") {
            Some(Value::String(name)) => ResourceType::parse(name).ok_or_else(|| {
                let named = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
                let words = if named {
                    format!("`{name}` is no resource type of FHIR R4")
                } else {
                    "no resource type of FHIR R4".to_owned()
                };
                OperationOutcome::at(IssueCode::Structure, words, "resourceType")
            })?,
            Some(_) => {
                return Err(OperationOutcome::at(
                    IssueCode::Structure,
                    "is not a string",
                    "resourceType",
                ));
            }
            None => {
                return Err(OperationOutcome::at(
                    IssueCode::Structure,
                    "is missing",
                    "resourceType",
                ));
            }
        };
        let mut place = 0;
        for name in ["resourceType", "id", "meta"] {
            if members.keys().nth(place).is_some_and(|key| key == name) {
                place += 1;
            } else if let Some(value) = members.shift_remove(name) {
                members.shift_insert(place, name.to_owned(), value);
                place += 1;
            }
        }
        Ok(Self {
            kind,
            json: Value::Object(members),
        })
    }
    /// An empty resource of a type.
    #[must_use]
    pub fn new(kind: ResourceType) -> Self {
        let mut members = Map::new();
        members.insert("resourceType".to_owned(), kind.name().into());
        Self {
            kind,
            json: Value::Object(members),
        }
    }
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }
    /// Its logical id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.get("id")?.as_str()
    }
    /// Sets its logical id (kept as the second member).
    pub fn set_id(&mut self, id: &str) {
        self.put(1, "id", id.into());
    }
    /// Sets `meta.versionId` and `meta.lastUpdated` (third member).
    pub fn set_meta(&mut self, version: u32, last_updated_unix_ms: u64) {
        let place = 1 + usize::from(self.get("id").is_some());
        if !self.get("meta").is_some_and(Value::is_object) {
            self.put(place, "meta", Value::Object(Map::new()));
        }
        if let Some(Value::Object(meta)) = self.members_mut().get_mut("meta") {
            let values = [
                ("versionId", version.to_string()),
                ("lastUpdated", date::instant(last_updated_unix_ms)),
            ];
            for (place, (name, value)) in values.into_iter().enumerate() {
                meta.shift_remove(name);
                meta.shift_insert(place, name.to_owned(), value.into());
            }
        }
    }
    /// Removes `meta.versionId` and `meta.lastUpdated`, which the store keeps beside the body.
    pub fn strip_meta(&mut self) {
        if let Some(Value::Object(meta)) = self.members_mut().get_mut("meta") {
            meta.shift_remove("versionId");
            meta.shift_remove("lastUpdated");
            if meta.is_empty() {
                self.members_mut().shift_remove("meta");
            }
        }
    }
    /// A top-level member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members().get(name)
    }
    /// Sets a top-level member; a new one goes to its canonical place. `resourceType` can't be
    /// changed: setting it does nothing.
    pub fn set(&mut self, name: &str, value: Value) {
        match name {
            "resourceType" => {}
            "id" => self.put(1, name, value),
            "meta" => self.put(1 + usize::from(self.get("id").is_some()), name, value),
            _ => {
                self.members_mut().insert(name.to_owned(), value);
            }
        }
    }
    /// Puts a member where it is already, else at a place.
    fn put(&mut self, place: usize, name: &str, value: Value) {
        let members = self.members_mut();
        match members.get_mut(name) {
            Some(old) => *old = value,
            None => {
                members.shift_insert(place, name.to_owned(), value);
            }
        }
    }
    /// Removes a top-level member (not `resourceType`).
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        if name == "resourceType" {
            return None;
        }
        self.members_mut().shift_remove(name)
    }
    /// A member by JSON pointer-like path of names and indexes, e.g. `["code", "coding", "0", "code"]`.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.json, |value, step| match value {
            Value::Object(members) => members.get(*step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
    /// The string at a path.
    #[must_use]
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }
    /// The members.
    #[must_use]
    pub fn members(&self) -> &Map<String, Value> {
        match &self.json {
            Value::Object(members) => members,
            _ => unreachable!("a resource is always an object"),
        }
    }
    /// The members, to change. `resourceType` must stay as it is.
    pub fn members_mut(&mut self) -> &mut Map<String, Value> {
        match &mut self.json {
            Value::Object(members) => members,
            _ => unreachable!("a resource is always an object"),
        }
    }
    /// As a JSON value, e.g. as the focus of a FHIRPath expression.
    #[must_use]
    pub fn as_value(&self) -> &Value {
        &self.json
    }
    /// As a JSON value.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.json
    }
    /// Compact JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(1024);
        // Writing a `Value` to memory has no way to fail.
        let written = serde_json::to_writer(&mut text, &self.json);
        debug_assert!(written.is_ok());
        text
    }
    /// The id of the patient whose record this belongs to: of a `Patient` its own id; else the
    /// patient that its compartment reference (`subject`, `patient`, `beneficiary`, ...; R4 patient
    /// compartment definition, with `Contract`, `Device`, `GuidanceResponse`, `Linkage`,
    /// `MessageHeader`, `VerificationResult` and `Binary.securityContext` added) names by literal
    /// reference `Patient/ID`. Where several do, `patient`,
    /// `subject`, `beneficiary` and `individual` come before other parts (author, performer, ...),
    /// and the first named wins.
    #[must_use]
    pub fn patient(&self) -> Option<&str> {
        if self.kind == ResourceType::Patient {
            return self.id();
        }
        search::owner(self)
    }
    /// All patients that its compartment references name, each once, [`Resource::patient`] first: an
    /// appointment or a group can be of several. Of a `Patient` its own id.
    #[must_use]
    pub fn patients(&self) -> Vec<&str> {
        if self.kind == ResourceType::Patient {
            return self.id().into_iter().collect();
        }
        search::patients(self)
    }
    /// Whether a compartment reference names a patient by an absolute URL, that is, of another server.
    #[must_use]
    pub fn is_of_patient_elsewhere(&self) -> bool {
        self.kind != ResourceType::Patient && search::is_of_patient_elsewhere(self)
    }
    /// Calls `visit` with each literal `reference` string in the resource, contained resources and
    /// extensions included, to read or replace it.
    pub fn visit_references(&mut self, visit: &mut dyn FnMut(&mut String)) {
        fn walk(value: &mut Value, visit: &mut dyn FnMut(&mut String)) {
            match value {
                Value::Array(items) => items.iter_mut().for_each(|item| walk(item, visit)),
                Value::Object(members) => {
                    for (name, value) in members {
                        match value {
                            Value::String(text) if name == "reference" => visit(text),
                            Value::Array(_) | Value::Object(_) => walk(value, visit),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        walk(&mut self.json, visit);
    }
    /// The same, changing nothing.
    pub fn each_reference<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        fn walk<'a>(value: &'a Value, visit: &mut dyn FnMut(&'a str)) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
                Value::Object(members) => {
                    for (name, value) in members {
                        match value {
                            Value::String(text) if name == "reference" => visit(text),
                            other => walk(other, visit),
                        }
                    }
                }
                _ => {}
            }
        }
        walk(&self.json, visit);
    }
    /// A short name for people, e.g. a patient's name, a code's display or text; falls back to the type.
    #[must_use]
    pub fn display(&self) -> String {
        human::display(self)
    }
    /// The reference `Type/id` to this resource.
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        Some(Reference {
            kind: self.kind,
            id: self.id()?.to_owned(),
            version: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(resource: &Resource) -> String {
        String::from_utf8(resource.to_json()).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits_and_members_their_order() {
        let source = r##"{"resourceType":"Observation","id":"o","meta":{"source":"#a"},"valueQuantity":{"value":1.10},"z":[0.0,-0,100,1E3,1e-2,12345678901234567890.12345678901234567890],"a":null,"b":"\u00e9\n\ud83d\ude00"}"##;
        let resource = Resource::parse(source.as_bytes()).unwrap();
        // How an exponent is spelled is the one thing that isn't kept.
        assert_eq!(
            text(&resource),
            source
                .replace("1E3", "1e+3")
                .replace("\\u00e9", "é")
                .replace("\\ud83d\\ude00", "😀")
        );
        assert_eq!(Resource::parse(&resource.to_json()).unwrap(), resource);
    }

    #[test]
    fn type_id_and_meta_come_first() {
        let resource = Resource::parse(br#"{"status":"final","meta":{"source":"x"},"code":{},"id":"1","resourceType":"Observation"}"#).unwrap();
        assert_eq!(
            text(&resource),
            r#"{"resourceType":"Observation","id":"1","meta":{"source":"x"},"status":"final","code":{}}"#
        );
        let mut resource = Resource::parse(br#"{"active":true,"resourceType":"Patient"}"#).unwrap();
        resource.set_meta(3, 0);
        resource.set_id("p");
        resource.set("gender", "male".into());
        resource.set("resourceType", "Observation".into());
        assert_eq!(resource.remove("resourceType"), None);
        assert_eq!(
            text(&resource),
            r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"3","lastUpdated":"1970-01-01T00:00:00.000Z"},"active":true,"gender":"male"}"#
        );
        assert_eq!(resource.remove("active"), Some(true.into()));
        resource.set("meta", json!({"source": "x"}));
        resource.set_id("q");
        assert_eq!(
            text(&resource),
            r#"{"resourceType":"Patient","id":"q","meta":{"source":"x"},"gender":"male"}"#
        );
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_place() {
        for (source, words) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            (
                "{\"resourceType\":\"Patient\",\n \"id\" 7}",
                "at line 2 column 7",
            ),
            (
                "{\"resourceType\":\"Patient\",\n \"id\":\"a\",\n \"id\":\"b\"}",
                "member `id` appears twice at line 3",
            ),
            (
                r#"{"resourceType":"Patient","name":[{"a":{"b":1,"b":1}}]}"#,
                "member `b` appears twice at line 1",
            ),
            (
                r#"{"resourceType":"Patient"} {}"#,
                "trailing characters at line 1 column 28",
            ),
            (
                r#"{"resourceType":"Patient","id":01}"#,
                "invalid number at line 1",
            ),
            (
                "{\"resourceType\":\"Patient\",\"id\":\"\u{1}\"}",
                "control character",
            ),
            (r#"{"resourceType":"Patient","id":"\ud800"}"#, "at line 1"),
            ("[]", "a resource is a JSON object"),
            ("7", "a resource is a JSON object"),
            ("{}", "resourceType: is missing"),
            (r#"{"resourceType":7}"#, "resourceType: is not a string"),
            (
                r#"{"resourceType":"Person\u0000x"}"#,
                "resourceType: no resource type of FHIR R4",
            ),
            (
                r#"{"resourceType":"Paitent"}"#,
                "`Paitent` is no resource type",
            ),
        ] {
            let said = Resource::parse(source.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(words), "{source}: {said}");
        }
        assert!(Resource::parse(b"{\"resourceType\":\"Patient\",\"id\":\"\xff\"}").is_err());
        // A number's content isn't mistaken for the marker that `serde_json` uses.
        assert!(
            Resource::parse(
                br#"{"resourceType":"Patient","x":{"$serde_json::private::Number":"no"}}"#
            )
            .is_err()
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            format!(
                r#"{{"resourceType":"Basic","x":{}{}}}"#,
                "[".repeat(levels),
                "]".repeat(levels)
            )
        };
        assert!(Resource::parse(nested(63).as_bytes()).is_ok());
        let said = Resource::parse(nested(64).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("more than 64 levels of nesting at line 1"),
            "{said}"
        );
        assert!(Resource::parse(nested(200_000).as_bytes()).is_err());
        let value = |levels: usize| serde_json::from_str::<Value>(&nested(levels)).unwrap();
        assert!(Resource::from_value(value(63)).is_ok());
        assert!(Resource::from_value(value(64)).is_err());
        // Numbers at the deepest level are no level of their own.
        let deepest = nested(63).replace("[]", "[1.5]");
        assert!(Resource::parse(deepest.as_bytes()).is_ok());
    }

    #[test]
    fn references_are_visited_wherever_they_are() {
        let mut resource = Resource::from_value(
            json!({"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"},
            "extension": [{"url": "u", "valueReference": {"reference": "urn:uuid:2"}}],
            "contained": [{"resourceType": "Task", "for": {"reference": "urn:uuid:3"}}],
            "reference": {"reference": {"reference": 7}}}),
        )
        .unwrap();
        let mut seen = Vec::new();
        resource.visit_references(&mut |reference| {
            seen.push(reference.clone());
            *reference = reference.replace("urn:uuid:", "Patient/");
        });
        assert_eq!(seen, ["urn:uuid:1", "urn:uuid:2", "urn:uuid:3"]);
        assert_eq!(
            resource.text_at(&["contained", "0", "for", "reference"]),
            Some("Patient/3")
        );
        assert_eq!(resource.patient(), Some("1"));
    }

    fn json_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?"
                .prop_map(|digits| serde_json::from_str(&digits).unwrap()),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec(("\\PC{0,6}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_and_back(value in json_values()) {
            let mut resource = Resource::new(ResourceType::Basic);
            resource.set("x", value);
            prop_assert_eq!(Resource::parse(&resource.to_json()).unwrap(), resource);
        }

        #[test]
        fn stripping_undoes_setting(version in any::<u32>(), ms in 0_u64..1 << 48, meta in proptest::option::of("[a-z]{0,4}"), id in any::<bool>()) {
            let mut resource = Resource::new(ResourceType::Patient);
            resource.set("active", true.into());
            if id {
                resource.set_id("p");
            }
            if let Some(meta) = meta {
                resource.set("meta", json!({"source": meta}));
            }
            let before = text(&resource);
            resource.set_meta(version, ms);
            let with = text(&resource);
            let version_id = format!("\"versionId\":\"{version}\"");
            prop_assert!(with.contains(&version_id));
            resource.strip_meta();
            prop_assert_eq!(text(&resource), before);
            resource.set_meta(version, ms);
            prop_assert_eq!(text(&resource), with);
        }
    }
}
