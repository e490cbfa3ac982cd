//! `cairn fhirpath`, as people and scripts run it.

use std::process::Stdio;

use crate::house::cairn;

fn fhirpath(expression: &str, resource: &str, name: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    std::fs::write(&file, resource).expect("written");
    let output = cairn()
        .args(["fhirpath", expression])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("cairn runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

const JSON: &str = r#"{"resourceType": "Patient", "name": [{"given": ["Ada", "Eva"]}], "multipleBirthInteger": 2}"#;
const XML: &str = r#"<Patient xmlns="http://hl7.org/fhir"><name><given value="Ada"/><given value="Eva"/></name></Patient>"#;

#[test]
fn results_are_a_json_array() {
    for (resource, name) in [(JSON, "p.json"), (XML, "p.xml"), (XML, "p")] {
        let (code, out, err) = fhirpath("name.given", resource, name);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let items: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(items, serde_json::json!(["Ada", "Eva"]));
    }
    let (code, out, _) = fhirpath("Patient.multipleBirth + 0.50 | {}", JSON, "p.json");
    assert_eq!(
        (code, out.split_whitespace().collect::<String>().as_str()),
        (Some(0), "[2.50]")
    );
    let (code, out, _) = fhirpath("contact", JSON, "p.json");
    assert_eq!((code, out.trim()), (Some(0), "[]"));
}

#[test]
fn mistakes_are_shown_where_they_are() {
    // Found before the data is looked at, and when it is.
    for (expression, words) in [
        (
            "name.given.frist()",
            "unknown function `frist` (at character 11)\n  name.given.frist()\n             ^\n",
        ),
        (
            "name.\ngiven.single()",
            "(at character 12)\n  given.single()\n        ^\n",
        ),
    ] {
        let (code, out, err) = fhirpath(expression, JSON, "p.json");
        assert_eq!((code, out.as_str()), (Some(1), ""), "{expression}");
        assert!(err.contains(words), "{expression}: {err}");
    }
    let (code, _, err) = fhirpath("id", "<Patient", "p.xml");
    assert_eq!(code, Some(1));
    assert!(err.contains("p.xml: not XML that FHIR allows"), "{err}");
    let (code, _, err) = fhirpath("id", "{", "p.json");
    assert_eq!(code, Some(1));
    assert!(err.contains("neither JSON nor XML"), "{err}");
}
