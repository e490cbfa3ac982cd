//! `PATCH` over HTTP: media types, preconditions.
use reqwest::Method;
use serde_json::{Value, json};

use trust::Role;

use crate::house::{assert_outcome, header, house, token};

#[tokio::test]
async fn a_patch_in_each_of_its_forms() {
    let house = house().await;
    let patient = json!({"resourceType": "Patient", "name": [{"family": "Thornbury"}]});
    let made = house.sent(Method::POST, "/fhir/r4/Patient", &patient);
    let made: Value = made
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let path = format!("/fhir/r4/Patient/{}", made["id"].as_str().expect("an id"));
    let patch = |kind: &str, body: &str| {
        house
            .asked(Method::PATCH, &path)
            .header("content-type", kind)
            .body(body.to_owned())
    };
    let json_patch = r#"[{"op":"add","path":"/active","value":true}]"#;
    let answer = patch("application/json-patch+json; charset=utf-8", json_patch)
        .header("if-match", "W/\"1\"")
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "etag")),
        (200, "W/\"2\"")
    );
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["active"], true);
    let stale = patch("application/json-patch+json", json_patch).header("if-match", "W/\"1\"");
    assert_outcome(stale.send().await.expect("an answer"), 412, "conflict").await;

    let xml = r#"<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/><part><name value="type"/><valueCode value="replace"/></part><part><name value="path"/><valueString value="Patient.active"/></part><part><name value="value"/><valueBoolean value="false"/></part></parameter></Parameters>"#;
    let answer = patch("application/fhir+xml", xml)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "etag")),
        (200, "W/\"3\"")
    );
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["active"], false);

    let diff = r#"<diff xmlns="http://hl7.org/fhir" xmlns:f="http://hl7.org/fhir"><replace sel="f:Patient/f:active/@value">true</replace></diff>"#;
    let answer = patch("application/xml-patch+xml", diff)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["active"], true);

    let other = patch("text/plain", "x").send().await.expect("an answer");
    assert_outcome(other, 415, "not-supported").await;
    let broken = patch("application/json-patch+json", "[")
        .send()
        .await
        .expect("an answer");
    assert_outcome(broken, 400, "structure").await;
    let false_test = patch(
        "application/json-patch+json",
        r#"[{"op":"test","path":"/active","value":false}]"#,
    );
    assert_outcome(
        false_test.send().await.expect("an answer"),
        422,
        "business-rule",
    )
    .await;
    house.end().await;
}

#[tokio::test]
async fn which_patches_are_taken_is_told() {
    let house = house().await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let forms = "application/json-patch+json, application/xml-patch+xml, application/fhir+json, application/fhir+xml";
    for (path, allow, patches) in [
        (
            "/fhir/r4/Patient/nobody",
            "GET, HEAD, OPTIONS, PUT, PATCH, DELETE",
            forms,
        ),
        (
            "/fhir/r4/Patient",
            "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE",
            forms,
        ),
        ("/fhir/r4/AuditEvent", "GET, HEAD, OPTIONS", ""),
        ("/fhir/r4/AuditEvent/a", "GET, HEAD, OPTIONS", ""),
    ] {
        // A system may do nothing to the audit.
        let asked = if path.contains("AuditEvent") {
            let answer = house.asked(Method::OPTIONS, path).send().await;
            assert_outcome(answer.expect("an answer"), 403, "forbidden").await;
            (house.bare(Method::OPTIONS, path).bearer_auth(&officer))
                .header("x-purpose-of-use", "HOPERAT")
        } else {
            house.asked(Method::OPTIONS, path)
        };
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(header(&answer, "allow"), allow, "{path}");
        assert_eq!(header(&answer, "accept-patch"), patches, "{path}");
        let stranger = house.bare(Method::OPTIONS, path).send().await;
        assert_outcome(stranger.expect("an answer"), 401, "login").await;
    }
    let unknown = house
        .asked(Method::OPTIONS, "/fhir/r4/Nothing")
        .send()
        .await;
    assert_outcome(unknown.expect("an answer"), 404, "not-supported").await;
    for path in ["/fhir/r4/Patient/nobody", "/fhir/r4/Patient?family=x"] {
        let request = house
            .asked(Method::PATCH, path)
            .header("content-type", "text/plain");
        let answer = request.body("x").send().await.expect("an answer");
        assert_eq!(header(&answer, "accept-patch"), forms);
        assert_outcome(answer, 415, "not-supported").await;
    }
    house.end().await;
}
