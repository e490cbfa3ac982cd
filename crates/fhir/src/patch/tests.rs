use super::Patch;
use crate::Resource;
use serde_json::{Value, json};

fn resource(value: &Value) -> Resource {
    Resource::from_value(value.clone()).unwrap()
}

fn patient() -> Value {
    json!({"resourceType": "Patient", "id": "p", "active": true,
        "name": [{"family": "Berg", "given": ["Anna", "Eva"], "_given": [null, {"id": "second"}]}],
        "birthDate": "1980-02-03"})
}

/// The text that comes out, or the first issue's code and place.
fn outcome(patched: Result<Resource, crate::OperationOutcome>) -> Result<String, String> {
    match patched {
        Ok(patched) => Ok(String::from_utf8(patched.to_json()).unwrap()),
        Err(outcome) => {
            let issue = &outcome.issues[0];
            let place = issue.expression.as_deref().unwrap_or("-");
            Err(format!("{} {place}", issue.code.code()))
        }
    }
}

fn by_json(on: &Value, patch: &str) -> Result<String, String> {
    let patch = match Patch::parse_json(patch.as_bytes()) {
        Ok(patch) => patch,
        Err(error) => return outcome(Err(error)).map_err(|words| format!("unread {words}")),
    };
    outcome(patch.apply(&resource(on)))
}

#[test]
fn json_patches() {
    let whole = patient().to_string();
    let table = [
        ("[]", Ok(whole.as_str())),
        (
            r#"[{"op":"replace","path":"/active","value":false},{"op":"remove","path":"/name"},{"op":"add","path":"/gender","value":"male"}]"#,
            Ok(
                r#"{"resourceType":"Patient","id":"p","active":false,"birthDate":"1980-02-03","gender":"male"}"#,
            ),
        ),
        (
            r#"[{"op":"add","path":"/name/0/given/-","value":"Ida"},{"op":"add","path":"/name/0/given/0","value":"Bea"},{"op":"remove","path":"/name/0/_given"}]"#,
            Ok(
                r#"{"resourceType":"Patient","id":"p","active":true,"name":[{"family":"Berg","given":["Bea","Anna","Eva","Ida"]}],"birthDate":"1980-02-03"}"#,
            ),
        ),
        (
            r#"[{"op":"test","path":"/name/0/given","value":["Anna","Eva"]},{"op":"move","from":"/name/0/family","path":"/name/0/text"},{"op":"copy","from":"/name/0/text","path":"/x~1y~0"}]"#,
            Ok(
                r#"{"resourceType":"Patient","id":"p","active":true,"name":[{"given":["Anna","Eva"],"_given":[null,{"id":"second"}],"text":"Berg"}],"birthDate":"1980-02-03","x/y~":"Berg"}"#,
            ),
        ),
        (
            r#"[{"op":"test","path":"/active","value":false}]"#,
            Err("business-rule [0]"),
        ),
        (
            r#"[{"op":"test","path":"/active","value":true},{"op":"remove","path":"/x"}]"#,
            Err("not-found [1]"),
        ),
        (
            r#"[{"op":"replace","path":"/x","value":1}]"#,
            Err("not-found [0]"),
        ),
        (
            r#"[{"op":"add","path":"/a/b","value":1}]"#,
            Err("not-found [0]"),
        ),
        (
            r#"[{"op":"add","path":"/birthDate/x","value":1}]"#,
            Err("not-found [0]"),
        ),
        (
            r#"[{"op":"add","path":"/name/2","value":{}}]"#,
            Err("value [0]"),
        ),
        (r#"[{"op":"remove","path":"/name/1"}]"#, Err("value [0]")),
        (r#"[{"op":"remove","path":"/name/-"}]"#, Err("value [0]")),
        (r#"[{"op":"remove","path":"/name/00"}]"#, Err("value [0]")),
        (
            r#"[{"op":"replace","path":"/resourceType","value":"Person"}]"#,
            Err("business-rule resourceType"),
        ),
        (r#"[{"op":"remove","path":""}]"#, Err("structure -")),
        (
            r#"[{"op":"move","from":"/name","path":"/name/0/x"}]"#,
            Err("unread value [0]"),
        ),
        (
            r#"[{"op":"remove","path":"name"}]"#,
            Err("unread value [0]"),
        ),
        (
            r#"[{"op":"remove","path":"/a~2"}]"#,
            Err("unread value [0]"),
        ),
        (r#"[{"op":"remove","path":"/a~"}]"#, Err("unread value [0]")),
        (r#"[{"op":"add","path":"/a"}]"#, Err("unread required [0]")),
        (r#"[{"op":"copy","path":"/a"}]"#, Err("unread required [0]")),
        (r#"[{"path":"/a"}]"#, Err("unread required [0]")),
        (
            r#"[{"op":"merge","path":"/a","value":1}]"#,
            Err("unread code-invalid [0]"),
        ),
        (
            r#"[{"op":7,"path":"/a","value":1}]"#,
            Err("unread structure [0]"),
        ),
        (r#"[7]"#, Err("unread structure [0]")),
        (r#"{"op":"remove","path":"/a"}"#, Err("unread structure -")),
        ("[", Err("unread structure -")),
    ];
    for (patch, expected) in table {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(by_json(&patient(), patch), expected, "{patch}");
    }
}

#[test]
fn numbers_keep_their_digits_and_are_compared_by_their_worth() {
    let on = Resource::parse(br#"{"resourceType":"Observation","valueQuantity":{"value":1.10},"x":12345678901234567890.50}"#).unwrap();
    let patch = |text: &str| outcome(Patch::parse_json(text.as_bytes()).unwrap().apply(&on));
    assert_eq!(
        patch(r#"[{"op":"test","path":"/valueQuantity/value","value":1.1},{"op":"add","path":"/y","value":2.500},{"op":"copy","from":"/valueQuantity/value","path":"/z"}]"#).unwrap(),
        r#"{"resourceType":"Observation","valueQuantity":{"value":1.10},"x":12345678901234567890.50,"y":2.500,"z":1.10}"#
    );
    assert!(patch(r#"[{"op":"test","path":"/valueQuantity/value","value":"1.10"}]"#).is_err());
    assert!(patch(r#"[{"op":"test","path":"/valueQuantity/value","value":1.11}]"#).is_err());
}

#[test]
fn what_a_json_patch_can_grow_is_bounded() {
    let copies = vec![json!({"op": "copy", "from": "/x", "path": "/x/-"}); 40];
    let on = json!({"resourceType": "Basic", "x": ["0123456789"]});
    assert_eq!(
        by_json(&on, &Value::from(copies).to_string()),
        Err("too-long [18]".to_owned())
    );
    // Deeper and deeper, each step small.
    let mut deeper = vec![json!({"op": "add", "path": "/y", "value": {}})];
    for level in 1..70 {
        let path = format!("/y{}", "/y".repeat(level));
        deeper.push(json!({"op": "add", "path": path, "value": {}}));
    }
    assert_eq!(
        by_json(&on, &Value::from(deeper).to_string()),
        Err("structure [63]".to_owned())
    );
    let many = vec![json!({"op": "test", "path": "", "value": 1}); 1001];
    assert_eq!(
        by_json(&on, &Value::from(many).to_string()),
        Err("unread too-long -".to_owned())
    );
}

/// `{"type": "add", "path": …}` as an operation; parts that are texts become `valueString`, numbers
/// `valueInteger`, and `value` is a whole part.
fn parameters(operations: &Value) -> Resource {
    let part = |(name, value): (&String, &Value)| match value {
        Value::String(text) => json!({"name": name, "valueString": text}),
        Value::Number(number) => json!({"name": name, "valueInteger": number}),
        Value::Object(members) => {
            let mut part = members.clone();
            part.insert("name".to_owned(), name.as_str().into());
            part.into()
        }
        _ => panic!("no part"),
    };
    let operations = operations.as_array().unwrap().iter().map(|operation| {
        json!({"name": "operation", "part": operation.as_object().unwrap().iter().map(part).collect::<Vec<_>>()})
    });
    resource(&json!({"resourceType": "Parameters", "parameter": operations.collect::<Vec<_>>()}))
}

fn by_path(on: &Value, operations: &Value) -> Result<String, String> {
    match Patch::from_parameters(&parameters(operations)) {
        Ok(patch) => outcome(patch.apply(&resource(on))),
        Err(error) => outcome(Err(error)).map_err(|words| format!("unread {words}")),
    }
}

#[test]
fn fhirpath_patches() {
    let given = |values: Value, beside: Value| {
        let mut value = patient();
        value["name"][0]["given"] = values;
        value["name"][0]["_given"] = beside;
        if value["name"][0]["_given"].is_null() {
            value["name"][0]
                .as_object_mut()
                .unwrap()
                .shift_remove("_given");
        }
        Ok(value.to_string())
    };
    let with = |member: &str, value: Value| {
        let mut whole = patient();
        whole[member] = value;
        Ok(whole.to_string())
    };
    let wrong = |words: &str| Err(words.to_owned());
    let table = [
        (
            json!([{"type": "add", "path": "Patient", "name": "gender", "value": {"valueCode": "male"}}]),
            with("gender", json!("male")),
        ),
        (
            json!([{"type": "add", "path": "Patient.name", "name": "given", "value": {"valueString": "Ida"}}]),
            given(
                json!(["Anna", "Eva", "Ida"]),
                json!([null, {"id": "second"}, null]),
            ),
        ),
        (
            json!([{"type": "insert", "path": "Patient.name[0].given", "index": 1, "value": {"valueString": "Ida", "_valueString": {"id": "i"}}}]),
            given(
                json!(["Anna", "Ida", "Eva"]),
                json!([null, {"id": "i"}, {"id": "second"}]),
            ),
        ),
        (
            json!([{"type": "move", "path": "Patient.name.given", "source": 1, "destination": 0}]),
            given(json!(["Eva", "Anna"]), json!([{"id": "second"}, null])),
        ),
        (
            json!([{"type": "delete", "path": "Patient.name.given.where($this = 'Eva')"}]),
            given(json!(["Anna"]), Value::Null),
        ),
        (
            json!([{"type": "insert", "path": "Patient.address", "index": 0, "value": {"valueAddress": {"city": "Oslo"}}}]),
            with("address", json!([{"city": "Oslo"}])),
        ),
        (
            json!([{"type": "add", "path": "Patient.birthDate", "name": "extension", "value": {"valueExtension": {"url": "u", "valueCode": "x"}}}]),
            with(
                "_birthDate",
                json!({"extension": [{"url": "u", "valueCode": "x"}]}),
            ),
        ),
        (
            json!([{"type": "add", "path": "Patient", "name": "deceased", "value": {"valueBoolean": true}},
                   {"type": "replace", "path": "Patient.deceased", "value": {"valueDateTime": "2020"}}]),
            with("deceasedDateTime", json!("2020")),
        ),
        (
            json!([{"type": "add", "path": "Patient", "name": "contact", "value": {"part": [{"name": "gender", "valueCode": "male"}, {"name": "telecom", "valueContactPoint": {"value": "1"}}]}}]),
            with(
                "contact",
                json!([{"gender": "male", "telecom": [{"value": "1"}]}]),
            ),
        ),
        (
            json!([{"type": "add", "path": "Patient", "name": "contained", "value": {"resource": {"resourceType": "Person", "id": "c"}}}]),
            with("contained", json!([{"resourceType": "Person", "id": "c"}])),
        ),
        // Nothing there to delete.
        (
            json!([{"type": "delete", "path": "Patient.gender"}]),
            Ok(patient().to_string()),
        ),
        (
            json!([{"type": "replace", "path": "Patient.gender", "value": {"valueCode": "male"}}]),
            wrong("not-found Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": "Patient.name.given"}]),
            wrong("multiple-matches Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "add", "path": "Patient", "name": "birthDate", "value": {"valueDate": "2000"}}]),
            wrong("duplicate Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "add", "path": "Patient", "name": "deceased", "value": {"valueDate": "2000"}}]),
            wrong("value Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "add", "path": "Patient", "name": "colour", "value": {"valueCode": "red"}}]),
            wrong("not-found Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "insert", "path": "Patient.name", "index": 2, "value": {"valueHumanName": {}}}]),
            wrong("value Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "insert", "path": "Patient.name.given.where($this = 'Eva')", "index": 0, "value": {"valueString": "x"}}]),
            wrong("value Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "insert", "path": "Patient.birthDate", "index": 0, "value": {"valueDate": "2000"}}]),
            wrong("value Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "move", "path": "Patient.name.given", "source": 0, "destination": 2}]),
            wrong("value Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": "Patient"}]),
            wrong("business-rule Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": "Patient.name.family.upper()"}]),
            wrong("invalid Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": "Patient.descendants()"}]),
            wrong("invalid Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": "%resource.name"}]),
            wrong("invalid Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": "Patient.name."}]),
            wrong("unread invalid Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "swap", "path": "Patient.name"}]),
            wrong("unread code-invalid Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete"}]),
            wrong("unread required Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "delete", "path": 7}]),
            wrong("unread value Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "replace", "path": "Patient.active", "value": {}}]),
            wrong("unread required Parameters.parameter[0]"),
        ),
        (
            json!([{"type": "insert", "path": "Patient.name", "index": -1, "value": {"valueHumanName": {}}}]),
            wrong("unread value Parameters.parameter[0]"),
        ),
    ];
    for (operations, expected) in table {
        assert_eq!(by_path(&patient(), &operations), expected, "{operations}");
    }
    let other = resource(&json!({"resourceType": "Basic"}));
    assert!(Patch::from_parameters(&other).is_err());
    let strange =
        json!({"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "x"}]});
    assert!(Patch::from_parameters(&resource(&strange)).is_err());
}

#[test]
fn nothing_empty_is_left() {
    let table = [
        (
            json!({"resourceType": "Patient", "name": [{"text": "x"}], "active": true}),
            "Patient.name[0].text",
            json!({"resourceType": "Patient", "active": true}),
        ),
        (
            json!({"resourceType": "Patient", "birthDate": "2000", "_birthDate": {"extension": [{"url": "u", "valueCode": "x"}]}}),
            "Patient.birthDate.extension('u')",
            json!({"resourceType": "Patient", "birthDate": "2000"}),
        ),
        (
            json!({"resourceType": "Patient", "name": [{"given": ["a", "b"], "_given": [{"extension": [{"url": "u", "valueCode": "x"}]}, null]}]}),
            "Patient.name.given[0].extension('u')",
            json!({"resourceType": "Patient", "name": [{"given": ["a", "b"]}]}),
        ),
        (
            json!({"resourceType": "Patient", "_birthDate": {"extension": [{"url": "u", "valueCode": "x"}]}}),
            "Patient.birthDate",
            json!({"resourceType": "Patient"}),
        ),
    ];
    for (on, path, expected) in table {
        let patched = by_path(&on, &json!([{"type": "delete", "path": path}]));
        assert_eq!(patched, Ok(expected.to_string()), "{path}");
    }
}

fn by_xml(on: &Value, operations: &str) -> Result<String, String> {
    let diff = format!(
        "<diff xmlns=\"http://hl7.org/fhir\" xmlns:f=\"http://hl7.org/fhir\">{operations}</diff>"
    );
    match Patch::parse_xml(diff.as_bytes()) {
        Ok(patch) => outcome(patch.apply(&resource(on))),
        Err(error) => outcome(Err(error)).map_err(|words| format!("unread {words}")),
    }
}

#[test]
fn xml_patches() {
    let on = json!({"resourceType": "Patient", "id": "p",
        "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">a <!-- b -->&amp; \"c\"</div>"},
        "identifier": [{"use": "usual", "value": "1 &\n\"2\""}, {"use": "official", "value": "3"}], "birthDate": "1980-02-03"});
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = on.clone();
        change(&mut value);
        Ok(value.to_string())
    };
    let wrong = |words: &str| Err(words.to_owned());
    let table = [
        ("", with(&|_| {})),
        (
            "<replace sel=\"f:Patient/f:birthDate/@value\">1990-01-01</replace>",
            with(&|value| value["birthDate"] = json!("1990-01-01")),
        ),
        (
            "<remove sel=\"/f:Patient/f:identifier[f:use/@value='usual']\"/>",
            with(&|value| value["identifier"] = json!([{"use": "official", "value": "3"}])),
        ),
        (
            "<add sel=\"f:Patient/f:identifier[1]\" pos=\"before\"><identifier><value value=\"0\"/></identifier></add>",
            with(&|value| {
                value["identifier"]
                    .as_array_mut()
                    .unwrap()
                    .insert(0, json!({"value": "0"}));
            }),
        ),
        (
            "<add sel=\"f:Patient/f:identifier[2]\" type=\"@id\">i</add>",
            with(&|value| {
                value["identifier"][1] = json!({"id": "i", "use": "official", "value": "3"});
            }),
        ),
        (
            "<replace sel=\"f:Patient/f:identifier[2]/f:value\"><value value=\"4\"/></replace><remove sel=\"f:Patient/f:text\"/>",
            with(&|value| {
                value["identifier"][1]["value"] = json!("4");
                value.as_object_mut().unwrap().shift_remove("text");
            }),
        ),
        (
            "<replace sel=\"f:Patient/f:text/*[2]\"><div xmlns=\"http://www.w3.org/1999/xhtml\"><b>x</b></div></replace>",
            with(&|value| {
                value["text"]["div"] =
                    json!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><b>x</b></div>");
            }),
        ),
        (
            "<remove sel=\"f:Patient/f:gender\"/>",
            wrong("not-found /*/*[1]"),
        ),
        (
            "<remove sel=\"f:Patient/f:birthDate/@id\"/>",
            wrong("not-found /*/*[1]"),
        ),
        (
            "<remove sel=\"f:Patient/f:identifier\"/>",
            wrong("multiple-matches /*/*[1]"),
        ),
        (
            "<remove sel=\"f:Patient\"/>",
            wrong("business-rule /*/*[1]"),
        ),
        (
            "<add sel=\"f:Patient/f:birthDate\" type=\"@value\">x</add>",
            wrong("duplicate /*/*[1]"),
        ),
        (
            "<remove sel=\"//f:birthDate\"/>",
            wrong("unread not-supported /*/*[1]"),
        ),
        (
            "<remove sel=\"f:Patient/f:identifier[last()]\"/>",
            wrong("unread not-supported /*/*[1]"),
        ),
        ("<remove/>", wrong("unread required /*/*[1]")),
        (
            "<swap sel=\"f:Patient\"/>",
            wrong("unread code-invalid /*/*[1]"),
        ),
        (
            "<replace sel=\"f:Patient/f:birthDate\">x</replace>",
            wrong("unread value /*/*[1]"),
        ),
        (
            "<add sel=\"f:Patient\"><x xmlns=\"urn:x\"/></add>",
            wrong("unread structure -"),
        ),
        ("<add sel=\"f:Patient\">", wrong("unread structure -")),
    ];
    for (operations, expected) in table {
        assert_eq!(by_xml(&on, operations), expected, "{operations}");
    }
    // What FHIR doesn't know can't come in.
    assert!(by_xml(&on, "<add sel=\"f:Patient\"><colour value=\"red\"/></add>").is_err());
    let doctype = b"<!DOCTYPE d [<!ENTITY e \"x\">]><diff xmlns=\"http://hl7.org/fhir\"/>";
    assert!(Patch::parse_xml(doctype).is_err());
    let digits =
        Resource::parse(br#"{"resourceType":"Observation","valueQuantity":{"value":1.10}}"#)
            .unwrap();
    let empty = Patch::parse_xml(b"<diff/>")
        .unwrap()
        .apply(&digits)
        .unwrap();
    assert_eq!(empty, digits);
}
