//! `$apply` over HTTP: who may, what is looked at, what it says where something can't be.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, assert_outcome, house, put, token};

async fn get(house: &House, path: &str) -> Response {
    let path = format!("/fhir/r4/{path}");
    house
        .asked(Method::GET, &path)
        .send()
        .await
        .expect("an answer")
}

async fn resource(answer: Response) -> Value {
    let status = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    body
}

fn fhirpath(text: &str) -> Value {
    json!({"language": "text/fhirpath", "expression": text})
}

/// A plan like the order sets and protocols among R4's examples: groups, what is done after what, definitions that
/// are resources of their own, a plan in it, a form, conditions on the record.
async fn furnish(house: &House) {
    for one in [
        json!({"resourceType": "Patient", "id": "p", "birthDate": "1950-05-17", "gender": "female"}),
        json!({"resourceType": "Patient", "id": "q"}),
        json!({"resourceType": "Practitioner", "id": "d"}),
        json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "IMP"},
            "subject": {"reference": "Patient/p"}}),
        json!({"resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, "valueQuantity": {"value": 91, "unit": "kg"}}),
        json!({"resourceType": "ActivityDefinition", "id": "old", "url": "http://x.test/weigh", "version": "1", "status": "retired",
            "kind": "Task", "code": {"text": "Old"}}),
        json!({"resourceType": "ActivityDefinition", "id": "weigh", "url": "http://x.test/weigh", "version": "2", "status": "active",
            "kind": "Task", "code": {"text": "Weigh"}}),
        json!({"resourceType": "Questionnaire", "id": "form", "url": "http://x.test/form", "version": "1", "status": "active"}),
        json!({"resourceType": "PlanDefinition", "id": "after", "url": "http://x.test/after", "status": "active", "action": [
            {"title": "Ask", "definitionCanonical": "http://x.test/form|1"}]}),
        json!({"resourceType": "PlanDefinition", "id": "plan", "url": "http://x.test/plan", "version": "4", "status": "active",
            "title": "After the hospital", "action": [
            {"id": "weigh", "title": "Weigh", "definitionCanonical": "http://x.test/weigh", "timingDuration": {"value": 1, "unit": "d"},
                "input": [{"id": "weights", "type": "Observation", "codeFilter": [{"path": "code", "code": [{"system": "http://loinc.org", "code": "29463-7"}]}]}],
                "condition": [{"kind": "applicability", "expression": fhirpath("%weights.valueQuantity.value.exists($this > 90)")}],
                "dynamicValue": [{"path": "description", "expression": fhirpath("'Last: ' + %weights.first().valueQuantity.value.toString()")}]},
            {"title": "Later", "definitionCanonical": "PlanDefinition/after",
                "relatedAction": [{"actionId": "weigh", "relationship": "after-end", "offsetDuration": {"value": 2, "unit": "d"}}]}]}),
    ] {
        put(house, &one).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_applied_to_a_patient() {
    let house = house().await;
    furnish(&house).await;
    let path = "PlanDefinition/plan/$apply?subject=Patient/p&encounter=Encounter/e&practitioner=Practitioner/d";
    let made = resource(get(&house, path).await).await;
    assert_eq!(made["resourceType"], "CarePlan");
    assert_eq!(made["instantiatesCanonical"][0], "http://x.test/plan|4");
    assert_eq!(made["encounter"]["reference"], "Encounter/e");
    let contained = made["contained"].as_array().expect("contained");
    let of = |kind: &str, words: &str| {
        let is = |one: &&Value| one["resourceType"] == kind && one.to_string().contains(words);
        contained
            .iter()
            .find(is)
            .unwrap_or_else(|| panic!("{kind} {words}: {made}"))
    };
    let weigh = of("Task", "Weigh");
    assert_eq!(
        weigh["instantiatesCanonical"], "http://x.test/weigh|2",
        "what is in force"
    );
    assert_eq!(weigh["description"], "Last: 91");
    let later = of("RequestGroup", "http://x.test/after");
    assert!(later["action"][0]["resource"]["reference"].is_string());
    assert_eq!(
        of("Task", "complete-questionnaire")["input"][0]["valueCanonical"],
        "http://x.test/form|1"
    );
    let top = of("RequestGroup", "http://x.test/plan");
    assert_eq!(
        top["action"][1]["timingDateTime"],
        "2026-03-04T12:00:00.000Z"
    );

    // Nothing of it was written.
    let tasks = resource(get(&house, "Task?patient=Patient/p").await).await;
    assert_eq!(tasks["total"], 0, "{tasks}");

    // By POST, at the type, with a definition that is nowhere.
    let own = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [
        {"title": "Weigh", "definitionCanonical": "ActivityDefinition/weigh"}]});
    let asked = json!({"resourceType": "Parameters", "parameter": [
        {"name": "planDefinition", "resource": own}, {"name": "subject", "valueString": "Patient/p"},
        {"name": "setting", "valueCodeableConcept": {"text": "home"}}]});
    let path = "/fhir/r4/PlanDefinition/$apply";
    let answer = house.sent(Method::POST, path, &asked).send().await;
    let made = resource(answer.expect("an answer")).await;
    assert!(made.get("instantiatesCanonical").is_none());

    let made =
        resource(get(&house, "ActivityDefinition/weigh/$apply?subject=Patient/p").await).await;
    assert_eq!(
        (&made["resourceType"], &made["for"]["reference"]),
        (&json!("Task"), &json!("Patient/p"))
    );

    // What was looked at is in the audit, with whose it was.
    let audit = token(&house.server, Role::PrivacyOfficer).await;
    let trail = house.bare(
        Method::GET,
        "/fhir/r4/AuditEvent?patient=Patient/p&_count=200",
    );
    let trail = trail
        .bearer_auth(audit)
        .header("x-purpose-of-use", "HOPERAT");
    let trail = resource(trail.send().await.expect("an answer"))
        .await
        .to_string();
    for named in ["Patient/p", "Encounter/e", "Observation/o"] {
        assert!(trail.contains(named), "{named}");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_applied_is_said() {
    let house = house().await;
    furnish(&house).await;
    let action = |more: Value| json!({"resourceType": "PlanDefinition", "id": "odd", "status": "active", "action": [more]});
    for (path, status, code) in [
        ("PlanDefinition/plan/$apply", 400, "required"),
        ("PlanDefinition/plan/$apply?subject=p", 400, "value"),
        ("PlanDefinition/plan/$apply?subject=Group/g", 400, "value"),
        (
            "PlanDefinition/plan/$apply?subject=Patient/p&subject=Patient/q",
            400,
            "not-supported",
        ),
        (
            "PlanDefinition/plan/$apply?subject=Patient/q&encounter=Encounter/e",
            400,
            "business-rule",
        ),
        (
            "PlanDefinition/plan/$apply?subject=Patient/nobody",
            404,
            "not-found",
        ),
        (
            "PlanDefinition/none/$apply?subject=Patient/p",
            404,
            "not-found",
        ),
        (
            "PlanDefinition/plan/$apply?subject=Patient/p&mode=x",
            400,
            "not-supported",
        ),
        (
            "Questionnaire/form/$apply?subject=Patient/p",
            404,
            "not-supported",
        ),
    ] {
        assert_outcome(get(&house, path).await, status, code).await;
    }
    put(&house, &json!({"resourceType": "ActivityDefinition", "id": "gone", "url": "http://x.test/gone", "status": "retired", "kind": "Task"})).await;
    for (plan, code, words) in [
        (
            action(json!({"title": "x", "definitionCanonical": "http://x.test/none"})),
            "not-found",
            "definitionCanonical",
        ),
        (
            action(json!({"title": "x", "definitionCanonical": "http://x.test/gone"})),
            "not-found",
            "definitionCanonical",
        ),
        (
            action(json!({"title": "x", "definitionCanonical": "http://x.test/weigh|1"})),
            "business-rule",
            "retired",
        ),
        (
            json!({"resourceType": "PlanDefinition", "id": "odd", "status": "retired"}),
            "business-rule",
            "retired",
        ),
        (
            action(
                json!({"title": "x", "condition": [{"kind": "applicability", "expression": fhirpath("(1).repeat($this + 1).exists()")}]}),
            ),
            "too-costly",
            "condition[0]",
        ),
        (
            action(
                json!({"title": "x", "condition": [{"kind": "applicability", "expression": {"language": "text/cql", "expression": "AgeInYears() > 3"}}]}),
            ),
            "not-supported",
            "text/fhirpath",
        ),
        (
            action(json!({"title": "x", "definitionCanonical": "PlanDefinition/odd"})),
            "business-rule",
            "circle",
        ),
    ] {
        put(&house, &plan).await;
        let answer = get(&house, "PlanDefinition/odd/$apply?subject=Patient/p").await;
        assert_eq!(answer.status(), 422);
        let said: Value = answer.json().await.expect("JSON");
        assert_eq!(said["issue"][0]["code"], code, "{said}");
        assert!(said.to_string().contains(words), "{said}");
    }
    // Who may not see what an action asks for gets nothing decided without it.
    let biller = token(&house.server, Role::Biller).await;
    let path = "/fhir/r4/PlanDefinition/plan/$apply?subject=Patient/p";
    let answer = house
        .bare(Method::GET, path)
        .bearer_auth(biller)
        .send()
        .await;
    assert_outcome(answer.expect("an answer"), 403, "forbidden").await;
    house.end().await;
}
