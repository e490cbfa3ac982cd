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

#[test]
fn what_lies_deep_is_checked() {
    use IssueCode::{CodeInvalid, Required, Structure, Value as Format};
    let patient = |name: &str, value: Value| json!({"resourceType": "Patient", name: value});
    let observation = |name: &str, value: Value| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, name: value});
    let condition = |value: Value| json!({"resourceType": "Condition", "subject": {"reference": "Patient/1"}, "clinicalStatus": value});
    let active = "http://terminology.hl7.org/CodeSystem/condition-clinical";
    for (value, code, path) in [
        (
            patient("name", json!([{"family": "a"}, {"given": ["b", 7]}])),
            Structure,
            "Patient.name[1].given[1]",
        ),
        (
            patient("name", json!([{"famly": "a"}])),
            Structure,
            "Patient.name[0].famly",
        ),
        (
            patient("name", json!([{"use": "nick"}])),
            CodeInvalid,
            "Patient.name[0].use",
        ),
        (
            patient("name", json!([{"id": "n"}])),
            Structure,
            "Patient.name[0]",
        ),
        (
            patient("contact", json!([{"period": {"start": "2026-13"}}])),
            Format,
            "Patient.contact[0].period.start",
        ),
        (
            patient("link", json!([{"type": "seealso"}])),
            Required,
            "Patient.link[0].other",
        ),
        (
            patient("extension", json!([{"valueString": "x"}])),
            Required,
            "Patient.extension[0].url",
        ),
        (
            patient(
                "extension",
                json!([{"url": "u", "extension": [{"url": "v", "valueQuantity": {"value": "5"}}]}]),
            ),
            Structure,
            "Patient.extension[0].extension[0].valueQuantity.value",
        ),
        (
            patient(
                "extension",
                json!([{"url": "u", "valueString": "x", "valueCode": "y"}]),
            ),
            Structure,
            "Patient.extension[0].value[x]",
        ),
        (
            patient("_birthDate", json!({"extension": [{"valueCode": "x"}]})),
            Required,
            "Patient._birthDate.extension[0].url",
        ),
        (
            patient("_birthDate", json!([{"extension": [{"url": "x"}]}])),
            Structure,
            "Patient._birthDate",
        ),
        (
            patient("_birthDate", json!({"extra": 1})),
            Structure,
            "Patient._birthDate.extra",
        ),
        (
            patient(
                "name",
                json!([{"_given": [null, {"id": "g"}], "given": ["a"]}, {"given": []}]),
            ),
            Structure,
            "Patient.name[1].given",
        ),
        (
            patient("name", json!([{"_given": [null, {"id": "g"}]}])),
            Structure,
            "Patient.name[0]._given[0]",
        ),
        (
            patient(
                "contained",
                json!([{"resourceType": "Group", "type": "person", "actual": true, "member": [{"period": {}, "entity": {"display": "x"}}]}]),
            ),
            Structure,
            "Patient.contained[0].member[0].period",
        ),
        (
            patient("photo", json!([{"data": "AAA"}])),
            Format,
            "Patient.photo[0].data",
        ),
        (
            patient("photo", json!([{"size": -1}])),
            Format,
            "Patient.photo[0].size",
        ),
        (
            patient(
                "text",
                json!({"status": "generated", "div": "<div>no name space</div>"}),
            ),
            Format,
            "Patient.text.div",
        ),
        (
            patient("identifier", json!([{"system": "a b"}])),
            Format,
            "Patient.identifier[0].system",
        ),
        (
            observation("component", json!([{"valueQuantity": {"value": 1}}])),
            Required,
            "Observation.component[0].code",
        ),
        (
            observation("component", json!([{"code": {"text": "x"}, "value": 1}])),
            Structure,
            "Observation.component[0].value",
        ),
        (
            observation("valueQuantity", json!({"comparator": "="})),
            CodeInvalid,
            "Observation.valueQuantity.comparator",
        ),
        (
            observation("referenceRange", json!([{"low": [{"value": 1}]}])),
            Structure,
            "Observation.referenceRange[0].low",
        ),
        (
            condition(json!({"text": "active"})),
            CodeInvalid,
            "Condition.clinicalStatus",
        ),
        (
            condition(json!({"coding": [{"system": active, "code": "acitve"}]})),
            CodeInvalid,
            "Condition.clinicalStatus",
        ),
        (
            condition(json!({"coding": [{"system": "http://x.org", "code": "active"}]})),
            CodeInvalid,
            "Condition.clinicalStatus",
        ),
        (
            json!({"resourceType": "Parameters", "parameter": [{"name": "a", "resource": {"resourceType": "Patient", "gender": "F"}}]}),
            CodeInvalid,
            "Parameters.parameter[0].resource.gender",
        ),
        (
            json!({"resourceType": "Bundle", "type": "collection", "entry": [{}]}),
            Structure,
            "Bundle.entry[0]",
        ),
        (
            json!({"resourceType": "ImplementationGuide", "url": "u", "name": "n", "status": "draft", "packageId": "p", "fhirVersion": ["4.0.1"], "license": "GPL"}),
            CodeInvalid,
            "ImplementationGuide.license",
        ),
    ] {
        assert_eq!(issues(value.clone()), [(code, path.to_owned())], "{value}");
    }
    for value in [
        condition(
            json!({"text": "x", "coding": [{"system": "http://x.org", "code": "x"}, {"system": active, "code": "active"}]}),
        ),
        condition(
            json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}),
        ),
        patient(
            "name",
            json!([{"given": ["a", null], "_given": [null, {"extension": [{"url": "u"}]}]}]),
        ),
        patient(
            "text",
            json!({"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>x</p></div>"}),
        ),
        patient("photo", json!([{"data": "AAAA\nBBB="}])),
        observation(
            "effectiveTiming",
            json!({"repeat": {"boundsPeriod": {"start": "2026"}, "dayOfWeek": ["mon"]}}),
        ),
    ] {
        assert_eq!(issues(value.clone()), [], "{value}");
    }
}

#[test]
fn forms_of_primitive_types() {
    for (name, text, fine) in [
        ("integer", "-2147483648", true),
        ("integer", "2147483648", false),
        ("integer", "-0", false),
        ("integer", "1e3", false),
        ("unsignedInt", "0", true),
        ("unsignedInt", "-1", false),
        ("positiveInt", "0", false),
        ("decimal", "1.10e-5", true),
        ("oid", r#""urn:oid:1.2.840.10008""#, true),
        ("oid", r#""urn:oid:3.2""#, false),
        ("oid", r#""urn:oid:1.02""#, false),
        ("oid", r#""urn:oid:1""#, false),
        (
            "uuid",
            r#""urn:uuid:c757873d-ec9a-4326-a141-556f43239520""#,
            true,
        ),
        (
            "uuid",
            r#""urn:uuid:C757873D-EC9A-4326-A141-556F43239520""#,
            false,
        ),
        ("uuid", r#""c757873d-ec9a-4326-a141-556f43239520""#, false),
        ("uri", r#""""#, false),
        ("url", r#""http://x.org/ y""#, false),
        ("code", r#""a b""#, true),
        ("code", r#""a  b""#, false),
        ("string", r#""  ""#, false),
        ("markdown", r#"" a\n""#, true),
        ("string", r#""a\f""#, false),
        ("string", r#""a\u0000b""#, false),
        ("markdown", r#""a\tb\r\n""#, true),
        ("string", r#""\uffff""#, false),
        ("uri", r#""urn:x\u0001""#, false),
        ("base64Binary", r#""AA==""#, true),
        ("base64Binary", r#""A=A=""#, false),
        ("base64Binary", r#""AAA=AAAA""#, false),
        ("base64Binary", r#""AA AA""#, false),
        ("time", r#""23:59:59.5""#, true),
        ("time", r#""24:00:00""#, false),
        ("date", r#""2026-2""#, false),
        ("dateTime", r#""2026-11-26T10:00:00""#, false),
        ("instant", r#""2026-11-26""#, false),
        ("id", r#""a_b""#, false),
        ("boolean", r#""true""#, false),
    ] {
        let primitive = Primitive::of(name).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        let said = primitive.fits(&value) && primitive.malformed(&value).is_none();
        assert_eq!(said, fine, "{name} {text}");
    }
}

#[test]
fn issues_are_bounded() {
    let names: Vec<Value> = (0..1000).map(|_| json!({"use": "nick"})).collect();
    let resource = Resource::from_value(json!({"resourceType": "Patient", "name": names})).unwrap();
    let issues = check(&resource);
    assert_eq!(issues.len(), ISSUES_MAX + 1);
    assert_eq!(issues[ISSUES_MAX].code, IssueCode::TooLong);
    // Exactly as many as are told: no word of more.
    let names: Vec<Value> = (0..ISSUES_MAX).map(|_| json!({"use": "nick"})).collect();
    let resource = Resource::from_value(json!({"resourceType": "Patient", "name": names})).unwrap();
    assert_eq!(check(&resource).len(), ISSUES_MAX);
}

#[test]
fn references_name_types_that_may_be_there() {
    let observation = |subject: Value| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject});
    for reference in [
        "Practitioner/1",
        "Practitioner/1/_history/2",
        "Practitioner?identifier=x",
    ] {
        let found = issues(observation(json!({"reference": reference})));
        assert_eq!(
            found,
            [(IssueCode::Value, "Observation.subject.reference".to_owned())]
        );
    }
    let found = issues(observation(
        json!({"type": "Practitioner", "identifier": {"value": "x"}}),
    ));
    assert_eq!(
        found,
        [(IssueCode::Value, "Observation.subject.type".to_owned())]
    );
    for reference in [
        "Patient/1",
        "Group/1",
        "#p",
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "http://x.org/Practitioner/1",
    ] {
        assert_eq!(
            issues(observation(json!({"reference": reference}))),
            [],
            "{reference}"
        );
    }
    let focus = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "focus": [{"reference": "Practitioner/1"}]});
    assert_eq!(issues(focus), []);
}
