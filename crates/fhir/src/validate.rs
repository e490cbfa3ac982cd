//! Light structural validation on write: the top level of a resource against R4's element table.
use crate::facts::{Element, Structure, TypeId, structures};
use crate::{Issue, IssueCode, Resource, ResourceType, Severity, date, is_id};
use serde_json::{Map, Value};

/// Checks the id's syntax and, of the top-level elements: that FHIR knows them, that what is
/// required is there, one or many, the JSON types and formats of primitive values, and codes where
/// a required binding allows only a few. What lies deeper is taken as it comes, save contained
/// resources, which are checked the same way. Returns errors only; their words hold no content.
#[must_use]
pub fn check(resource: &Resource) -> Vec<Issue> {
    let mut issues = Vec::new();
    check_resource(
        resource.kind(),
        resource.as_value(),
        resource.kind().name(),
        &mut issues,
    );
    issues
}

fn check_resource(kind: ResourceType, value: &Value, path: &str, issues: &mut Vec<Issue>) {
    let (Value::Object(members), Some(structure)) = (
        value,
        structures()
            .find(kind.name())
            .map(|id| structures().get(id)),
    ) else {
        return;
    };
    for (name, value) in members {
        if name == "resourceType" {
            continue;
        }
        let at = At {
            path,
            name,
            place: None,
        };
        let plain = name.strip_prefix('_').unwrap_or(name);
        match structure.member(plain) {
            None => at.report(
                issues,
                IssueCode::Structure,
                &format!("is no element of {kind}"),
            ),
            Some((_, id)) if plain.len() < name.len() => check_sibling(id, value, at, issues),
            Some((element, id)) => check_element(element, id, value, members, at, issues),
        }
    }
    for element in &structure.elements {
        required(structure, element, members, path, issues);
    }
}

/// Where a value stands; spelled out only when there is something to say about it, since nearly
/// always there isn't.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a str,
    name: &'a str,
    place: Option<usize>,
}

impl At<'_> {
    fn report(self, issues: &mut Vec<Issue>, code: IssueCode, words: &str) {
        issues.push(Issue {
            severity: Severity::Error,
            code,
            diagnostics: words.to_owned(),
            expression: Some(self.to_string()),
        });
    }
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never more than a name, whatever the client sent.
        let name: String = self
            .name
            .chars()
            .filter(char::is_ascii_graphic)
            .take(64)
            .collect();
        write!(f, "{}.{name}", self.path)?;
        self.place.map_or(Ok(()), |place| write!(f, "[{place}]"))
    }
}

fn required(
    structure: &Structure,
    element: &Element,
    members: &Map<String, Value>,
    path: &str,
    issues: &mut Vec<Issue>,
) {
    if element.min == 0 && element.choice.is_empty() {
        return;
    }
    let given =
        |name: &str| members.contains_key(name) || members.contains_key(&format!("_{name}"));
    if element.choice.is_empty() {
        if !given(element.name) {
            let words = format!("is missing; {} needs it", structure.name);
            At {
                path,
                name: element.name,
                place: None,
            }
            .report(issues, IssueCode::Required, &words);
        }
        return;
    }
    let name = format!("{}[x]", element.name);
    let at = At {
        path,
        name: &name,
        place: None,
    };
    match element.choice.iter().filter(|name| given(name)).count() {
        0 if element.min > 0 => {
            at.report(
                issues,
                IssueCode::Required,
                &format!("is missing; {} needs it", structure.name),
            );
        }
        0 | 1 => {}
        _ => at.report(
            issues,
            IssueCode::Structure,
            "is there in more than one type",
        ),
    }
}

fn check_sibling(id: TypeId, value: &Value, at: At<'_>, issues: &mut Vec<Issue>) {
    if !structures().get(id).is_primitive() {
        let words = "belongs to an element that isn't of a primitive type";
        at.report(issues, IssueCode::Structure, words);
        return;
    }
    let fine = match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().all(|item| item.is_object() || item.is_null()),
        _ => false,
    };
    if !fine {
        at.report(
            issues,
            IssueCode::Structure,
            "is no object with id and extensions",
        );
    }
}

fn check_element(
    element: &Element,
    id: TypeId,
    value: &Value,
    members: &Map<String, Value>,
    at: At<'_>,
    issues: &mut Vec<Issue>,
) {
    if !element.many {
        if value.is_array() {
            at.report(
                issues,
                IssueCode::Structure,
                "is an array, but there can be only one",
            );
        } else {
            check_value(element, id, value, at, issues);
        }
        return;
    }
    let Value::Array(items) = value else {
        at.report(
            issues,
            IssueCode::Structure,
            "is no array, but there can be several",
        );
        return;
    };
    if items.is_empty() {
        at.report(issues, IssueCode::Structure, "is an empty array");
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
        check_value(
            element,
            id,
            item,
            At {
                place: Some(place),
                ..at
            },
            issues,
        );
    }
}

fn check_value(element: &Element, id: TypeId, value: &Value, at: At<'_>, issues: &mut Vec<Issue>) {
    let structure = structures().get(id);
    let mut wrong = |code, words: &str| at.report(issues, code, words);
    if !structure.is_primitive() {
        match value {
            Value::Object(members) if members.is_empty() => {
                wrong(IssueCode::Structure, "is an empty object");
            }
            Value::Object(_) if structure.name == "Resource" => {
                match value
                    .get("resourceType")
                    .and_then(Value::as_str)
                    .and_then(ResourceType::parse)
                {
                    Some(kind) => check_resource(kind, value, &at.to_string(), issues),
                    None => wrong(IssueCode::Structure, "is no resource of FHIR R4"),
                }
            }
            Value::Object(_) => {}
            _ => wrong(
                IssueCode::Structure,
                &format!("is no object, but its type is {}", type_name(structure)),
            ),
        }
        return;
    }
    let fits = match structure.name {
        "boolean" => value.is_boolean(),
        "integer" | "positiveInt" | "unsignedInt" | "decimal" => value.is_number(),
        _ => value.is_string(),
    };
    if !fits {
        wrong(
            IssueCode::Structure,
            &format!("has the wrong JSON type for {}", structure.name),
        );
        return;
    }
    if let Some(words) = malformed(structure.name, value) {
        wrong(IssueCode::Value, words);
        return;
    }
    if let (Some(codes), Some(code)) = (element.codes, value.as_str())
        && !codes.contains(&code)
    {
        wrong(
            IssueCode::CodeInvalid,
            &format!("is none of {}", codes.join(", ")),
        );
    }
}

fn type_name(structure: &Structure) -> &'static str {
    if structure.is_backbone() {
        "BackboneElement"
    } else {
        structure.name
    }
}

/// What is wrong with a primitive value of a type (R4, section 2.24.0.1), if anything is.
fn malformed(type_name: &str, value: &Value) -> Option<&'static str> {
    let int = |least: i64| {
        let Value::Number(number) = value else {
            return false;
        };
        // Digits only: `1.0` and `1e3` are decimals in FHIR.
        let digits = number.as_str().strip_prefix('-').unwrap_or(number.as_str());
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && number
                .as_i64()
                .is_some_and(|number| (least..=i64::from(i32::MAX)).contains(&number))
    };
    match type_name {
        "boolean" | "decimal" => return None,
        "integer" => return (!int(i64::from(i32::MIN))).then_some("is no integer of 32 bits"),
        "unsignedInt" => return (!int(0)).then_some("is no integer from 0 on"),
        "positiveInt" => return (!int(1)).then_some("is no integer from 1 on"),
        _ => {}
    }
    let text = value.as_str()?;
    if text.trim().is_empty() {
        return Some("is empty");
    }
    let (fine, words) = match type_name {
        "date" => (
            date::is_date(text),
            "is no date: YYYY, YYYY-MM or YYYY-MM-DD",
        ),
        "dateTime" => (
            date::is_date_time(text),
            "is no dateTime: a date, or YYYY-MM-DDThh:mm:ss with zone",
        ),
        "instant" => (
            date::is_instant(text),
            "is no instant: YYYY-MM-DDThh:mm:ss with zone",
        ),
        "time" => (date::is_time(text), "is no time: hh:mm:ss"),
        "id" => (
            is_id(text),
            "is no id: 1 to 64 letters, digits, `-` and `.`",
        ),
        "code" => (
            text.trim() == text && !text.contains("  ") && !text.contains(['\t', '\n', '\r']),
            "is no code: single spaces within at most",
        ),
        "uri" | "url" | "canonical" | "oid" | "uuid" => (
            !text.contains(char::is_whitespace),
            "is no URI: there is white space in it",
        ),
        _ => (true, ""),
    };
    (!fine).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn issues(value: Value) -> Vec<(IssueCode, String)> {
        let issues = check(&Resource::from_value(value).unwrap());
        issues
            .into_iter()
            .map(|issue| (issue.code, issue.expression.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn what_is_right_passes() {
        for value in [
            json!({"resourceType": "Patient"}),
            json!({"resourceType": "Patient", "id": "a-1.B", "gender": "female", "birthDate": "1950-02", "active": true,
                   "name": [{"family": "Berg"}], "multipleBirthInteger": 2, "deceasedDateTime": "2026-11-26T10:00:00+01:00"}),
            json!({"resourceType": "Patient", "_birthDate": {"extension": [{"url": "http://x.org/unknown", "valueBoolean": true}]}}),
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "issued": "2026-11-26T10:00:00Z"}),
            json!({"resourceType": "Observation", "_status": {"extension": [{"url": "u", "valueCode": "unknown"}]}, "code": {"text": "x"}}),
            json!({"resourceType": "PlanDefinition", "status": "draft", "library": [null, "http://x.org/l"],
                   "_library": [{"extension": [{"url": "u"}]}, null]}),
            json!({"resourceType": "List", "status": "current", "mode": "working",
                   "contained": [{"resourceType": "Patient", "id": "p"}]}),
        ] {
            assert_eq!(issues(value.clone()), [], "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        use IssueCode::{CodeInvalid, Required, Structure, Value as Format};
        let patient = |name: &str, value: Value| json!({"resourceType": "Patient", name: value});
        for (value, code, path) in [
            (patient("id", json!("a b")), Format, "Patient.id"),
            (patient("id", json!("x".repeat(65))), Format, "Patient.id"),
            (patient("id", json!(7)), Structure, "Patient.id"),
            (patient("nam", json!([])), Structure, "Patient.nam"),
            (
                patient("valueString", json!("x")),
                Structure,
                "Patient.valueString",
            ),
            (
                patient("deceased", json!(true)),
                Structure,
                "Patient.deceased",
            ),
            (
                patient("name", json!({"family": "x"})),
                Structure,
                "Patient.name",
            ),
            (patient("name", json!([])), Structure, "Patient.name"),
            (patient("name", json!(["x"])), Structure, "Patient.name[0]"),
            (patient("name", json!([null])), Structure, "Patient.name[0]"),
            (patient("name", json!([{}])), Structure, "Patient.name[0]"),
            (patient("gender", json!("F")), CodeInvalid, "Patient.gender"),
            (
                patient("gender", json!(["female"])),
                Structure,
                "Patient.gender",
            ),
            (patient("gender", json!(null)), Structure, "Patient.gender"),
            (
                patient("active", json!("true")),
                Structure,
                "Patient.active",
            ),
            (
                patient("birthDate", json!("1950-02-30")),
                Format,
                "Patient.birthDate",
            ),
            (
                patient("birthDate", json!("1950-02-01T10:00:00Z")),
                Format,
                "Patient.birthDate",
            ),
            (
                patient("deceasedDateTime", json!("2026-11-26T10:00")),
                Format,
                "Patient.deceasedDateTime",
            ),
            (
                patient("multipleBirthInteger", json!(1.5)),
                Format,
                "Patient.multipleBirthInteger",
            ),
            (
                patient("multipleBirthInteger", json!(5_000_000_000_i64)),
                Format,
                "Patient.multipleBirthInteger",
            ),
            (
                patient("language", json!(" en")),
                Format,
                "Patient.language",
            ),
            (
                patient("implicitRules", json!("a b")),
                Format,
                "Patient.implicitRules",
            ),
            (patient("_name", json!([{}])), Structure, "Patient._name"),
            (
                patient("_birthDate", json!("x")),
                Structure,
                "Patient._birthDate",
            ),
            (
                patient("contained", json!([{"resourceType": "Nothing"}])),
                Structure,
                "Patient.contained[0]",
            ),
            (
                patient(
                    "contained",
                    json!([{"resourceType": "Observation", "status": "final"}]),
                ),
                Required,
                "Patient.contained[0].code",
            ),
            (
                json!({"resourceType": "Observation", "status": "final"}),
                Required,
                "Observation.code",
            ),
            (
                json!({"resourceType": "Observation", "status": "done", "code": {"text": "x"}}),
                CodeInvalid,
                "Observation.status",
            ),
            (
                json!({"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {"reference": "Patient/1"}}),
                Required,
                "MedicationRequest.medication[x]",
            ),
            (
                json!({"resourceType": "Patient", "deceasedBoolean": true, "deceasedDateTime": "2026"}),
                Structure,
                "Patient.deceased[x]",
            ),
        ] {
            assert_eq!(issues(value.clone()), [(code, path.to_owned())], "{value}");
        }
    }
}
