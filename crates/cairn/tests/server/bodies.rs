//! Bodies are read and understood when it is known that who sends them may do what they ask for.

use reqwest::Method;
use trust::Role;

use crate::house::{assert_outcome, house, token};

/// The routes that take a body, each with the form that it comes in.
const ROUTES: [(&str, &str, &str); 33] = [
    ("POST", "", "application/fhir+json"),
    ("POST", "_search", "application/x-www-form-urlencoded"),
    ("POST", "Patient", "application/fhir+json"),
    ("POST", "Patient", "application/fhir+xml"),
    ("POST", "Patient", "text/plain"),
    ("PUT", "Patient?family=berg", "application/fhir+json"),
    (
        "PATCH",
        "Patient?family=berg",
        "application/json-patch+json",
    ),
    ("DELETE", "Patient?zanzibar=berg", "application/fhir+json"),
    (
        "POST",
        "Patient/_search",
        "application/x-www-form-urlencoded",
    ),
    ("PUT", "Patient/p", "application/fhir+json"),
    ("PUT", "Patient/p", "application/fhir+xml"),
    ("PATCH", "Patient/p", "application/json-patch+json"),
    ("PATCH", "Patient/p", "application/xml-patch+xml"),
    ("PATCH", "Patient/p", "application/fhir+json"),
    (
        "POST",
        "Patient/p/_search",
        "application/x-www-form-urlencoded",
    ),
    (
        "POST",
        "Patient/p/*/_search",
        "application/x-www-form-urlencoded",
    ),
    ("POST", "Patient/$validate", "application/fhir+json"),
    ("POST", "Patient/p/$validate", "application/fhir+xml"),
    ("POST", "Patient/p/$meta-add", "application/fhir+json"),
    ("POST", "Patient/p/$meta-delete", "application/fhir+json"),
    ("POST", "Patient/p/$everything", "application/fhir+json"),
    ("POST", "Patient/p/$start-journey", "application/fhir+json"),
    ("POST", "Subscription/s/$events", "application/fhir+json"),
    ("POST", "Subscription/s/$replay", "application/fhir+json"),
    (
        "POST",
        "Subscription/s/$rotate-secret",
        "application/fhir+json",
    ),
    ("POST", "Observation/$lastn", "application/fhir+json"),
    ("POST", "PlanDefinition/$apply", "application/fhir+json"),
    (
        "POST",
        "ActivityDefinition/a/$apply",
        "application/fhir+xml",
    ),
    ("POST", "Patient/$explain", "application/fhir+json"),
    ("POST", "Patient/$match", "application/fhir+json"),
    ("POST", "$export", "application/fhir+json"),
    ("POST", "Patient/$export", "application/fhir+xml"),
    ("POST", "$import", "application/fhir+ndjson"),
];

/// What none of the forms is.
const NONSENSE: &str = "%%% <nonsense";

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn who_may_not_is_told_so_whatever_the_body_is() {
    let house = house().await;
    // For treatment, which the token is used for, a privacy officer may do nothing.
    let nobody = token(&house.server, Role::PrivacyOfficer).await;
    let send = |method: &str, path: &str, form: &str, token: &str, body: String| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        house
            .bare(method, &format!("/fhir/r4/{path}"))
            .bearer_auth(token)
            .header("content-type", form)
            .header("prefer", "respond-async")
            .body(body)
            .send()
    };
    for (method, path, form) in ROUTES {
        let answer = send(method, path, form, &nobody, NONSENSE.to_owned()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 403, "{method} {path} {form}");
        assert_outcome(answer, 403, "forbidden").await;
    }
    // Of who may it is looked at: the same requests are wrong in some other way.
    for (method, path, form) in ROUTES {
        let answer = send(method, path, form, &house.token, NONSENSE.to_owned()).await;
        let status = answer.expect("an answer").status().as_u16();
        assert_ne!(status, 403, "{method} {path} {form}");
    }
    // However much it is, the answer comes, and the connection goes on.
    let large = " ".repeat(10 << 20);
    for form in ["application/fhir+json", "application/fhir+xml"] {
        let answer = send("POST", "Patient", form, &nobody, large.clone()).await;
        assert_outcome(answer.expect("an answer"), 403, "forbidden").await;
    }
    // What nobody may is told as before.
    let form = "application/fhir+json";
    for (path, status) in [("AuditEvent", 405), ("Parameters", 404)] {
        let answer = send("POST", path, form, &house.token, NONSENSE.to_owned()).await;
        assert_outcome(answer.expect("an answer"), status, "not-supported").await;
    }
    house.end().await;
}
