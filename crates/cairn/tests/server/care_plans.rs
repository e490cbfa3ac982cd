//! A patient's journey as a `CarePlan`: what others see of it, and what they do by it.

use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, house, put, token};
use crate::patience::Patience;

const JOURNEY: &str = "name: after-surgery
title: After surgery
owner: Surgical team
purpose: TREAT
at_most: 60d
entry:
  request: {by: [system], asks: {surgery: Day of the operation}}
  per: event
  while_running: beside
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: call
steps:
  call:
    title: Call the patient
    task: {title: Call, reason: Surgery, role: coordinator, due: 1d}
    next: look
    overdue: look
  look:
    title: Look at the wound
    task: {title: Look, reason: Surgery, role: coordinator, due: 1d}
    next: end
    overdue: end
";

async fn get(house: &House, path: &str) -> Value {
    let answer = house
        .asked(Method::GET, &format!("/fhir/r4/{path}"))
        .send()
        .await;
    answer.expect("an answer").json().await.expect("JSON")
}

async fn publish(house: &House, source: &str) {
    let squad = token(&house.server, Role::Squad).await;
    let asked = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let published = asked
        .body(source.to_owned())
        .send()
        .await
        .expect("an answer");
    assert_eq!(published.status(), 200);
}

async fn start(house: &House, key: &str) -> String {
    let parameter = |name: &str, value: &str| json!({"name": name, "valueString": value});
    let body = json!({"resourceType": "Parameters", "parameter": [
        parameter("journey", "after-surgery"), parameter("key", key), parameter("reason", "Hip replaced"),
        parameter("surgery", "2026-03-01")]});
    let path = "/fhir/r4/Patient/p/$start-journey";
    let answer = house
        .sent(Method::POST, path, &body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.expect("JSON");
    let instance = answer["parameter"][0]["valueString"].as_str();
    instance.expect("an instance").to_owned()
}

/// The plan of an instance.
async fn plan(house: &House, instance: &str) -> Value {
    let path =
        format!("CarePlan?patient=Patient/p&identifier=urn:cairn:journey-instance|{instance}");
    let found = get(house, &path).await;
    assert_eq!(found["total"], 1, "{found}");
    found["entry"][0]["resource"].clone()
}

async fn tasks(house: &House, instance: &str) -> Vec<Value> {
    let path = format!("Task?patient=Patient/p&identifier=urn:cairn:journey-instance|{instance}");
    let found = get(house, &path).await;
    let entries = found["entry"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry["resource"].clone())
        .collect()
}

/// Writes a status over FHIR, as an EHR does.
async fn write(house: &House, resource: &Value, status: &str) {
    let mut resource = resource.clone();
    resource["status"] = json!(status);
    put(house, &resource).await;
}

/// The statuses of an instance's tasks, once they are so.
async fn until(house: &House, instance: &str, wanted: &[&str]) -> Vec<Value> {
    let mut looks = Patience::new();
    loop {
        let tasks = tasks(house, instance).await;
        let mut now: Vec<&str> = tasks
            .iter()
            .filter_map(|task| task["status"].as_str())
            .collect();
        now.sort_unstable();
        if now == wanted {
            return tasks;
        }
        looks.wait("the journey didn't move").await;
    }
}

/// What the engine did, by the notes in the audit.
async fn deeds(house: &House) -> String {
    let audit = token(&house.server, Role::PrivacyOfficer).await;
    let trail = house.bare(
        Method::GET,
        "/fhir/r4/AuditEvent?patient=Patient/p&_count=500",
    );
    let trail = trail
        .bearer_auth(audit)
        .header("x-purpose-of-use", "HOPERAT");
    trail
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_sees_a_journey_and_leads_it_by_its_care_plan() {
    let house = house().await;
    publish(&house, JOURNEY).await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    let instance = start(&house, "k-1").await;
    let begun = plan(&house, &instance).await;
    assert_eq!(
        (&begun["status"], &begun["intent"]),
        (&json!("active"), &json!("plan"))
    );
    assert_eq!(
        begun["instantiatesCanonical"][0],
        "urn:cairn:journey:after-surgery|1"
    );
    assert_eq!(begun["author"]["display"], "Surgical team");
    assert_eq!(begun["period"]["start"], "2026-03-01T12:00:00.000Z");
    let task = tasks(&house, &instance).await.remove(0);
    let names = |resource: &Value| {
        let text = |name: &str| resource[name].as_str().expect("text").to_owned();
        format!("{}/{}", text("resourceType"), text("id"))
    };
    assert_eq!(task["basedOn"][0]["reference"], names(&begun).as_str());
    assert_eq!(
        begun["activity"][0]["reference"]["reference"],
        names(&task).as_str()
    );

    // Held: what is done is taken in, and nothing more is begun.
    write(&house, &begun, "on-hold").await;
    let mut looks = Patience::new();
    while !deeds(&house)
        .await
        .contains("after-surgery: held by its care plan")
    {
        looks.wait("it was not held").await;
    }
    write(&house, &task, "completed").await;
    // The same again is nothing new.
    let held = plan(&house, &instance).await;
    write(&house, &held, "on-hold").await;
    let again = start(&house, "k-2").await;
    until(&house, &again, &["requested"]).await;
    until(&house, &instance, &["completed"]).await;
    let held = plan(&house, &instance).await;
    assert_eq!(held["status"], "on-hold");

    // It goes on, and an EHR that completes the task moves it to its end.
    write(&house, &held, "active").await;
    let on = until(&house, &instance, &["completed", "requested"]).await;
    let open = on
        .iter()
        .find(|task| task["status"] == "requested")
        .expect("a task");
    assert_eq!(open["basedOn"][0]["reference"], names(&begun).as_str());
    write(&house, open, "completed").await;
    let mut looks = Patience::new();
    let mut over = plan(&house, &instance).await;
    while over["status"] != "completed" {
        looks.wait("it is not over").await;
        over = plan(&house, &instance).await;
    }
    assert!(over["period"]["end"].is_string(), "{over}");
    assert_eq!(over["activity"].as_array().map(Vec::len), Some(2), "{over}");
    // What is written to it then changes nothing any more.
    write(&house, &over, "active").await;

    // Revoked: it ends, its task is not wanted any more, and the plan stays as it was left.
    let other = plan(&house, &again).await;
    write(&house, &other, "revoked").await;
    until(&house, &again, &["cancelled"]).await;
    let revoked = plan(&house, &again).await;
    assert_eq!(
        (&revoked["status"], &revoked["meta"]["versionId"]),
        (&json!("revoked"), &json!("2"))
    );
    let deeds = deeds(&house).await;
    for deed in ["let go on by its care plan", "stopped by its care plan"] {
        assert!(deeds.contains(&format!("after-surgery: {deed}")), "{deed}");
    }
    assert_eq!(
        deeds
            .matches("after-surgery: held by its care plan")
            .count(),
        1
    );
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_may_be_shown_as_none() {
    let house = house().await;
    publish(
        &house,
        &JOURNEY.replace("entry:\n", "care_plan: false\nentry:\n"),
    )
    .await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    let instance = start(&house, "k-1").await;
    let task = until(&house, &instance, &["requested"]).await.remove(0);
    assert!(task.get("basedOn").is_none(), "{task}");
    assert_eq!(get(&house, "CarePlan?patient=Patient/p").await["total"], 0);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_journey_is_read_as_a_plan() {
    let house = house().await;
    publish(&house, JOURNEY).await;
    publish(
        &house,
        &JOURNEY.replace("Call the patient", "Ring the patient"),
    )
    .await;
    let squad = token(&house.server, Role::Squad).await;
    let read = async |token: &str, path: &str| {
        let asked = house
            .bare(Method::GET, &format!("/api/journeys/{path}"))
            .bearer_auth(token);
        let answer = asked.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    for token in [&squad, &house.token] {
        let (status, bundle) = read(token, "after-surgery").await;
        assert_eq!(status, 200, "{bundle}");
        let plan = &bundle["entry"][0]["resource"];
        // What the plans of patients are instances of.
        assert_eq!(
            (&plan["url"], &plan["version"]),
            (&json!("urn:cairn:journey:after-surgery"), &json!("2"))
        );
        let (_, first) = read(token, "after-surgery?version=1").await;
        let action = &first["entry"][0]["resource"]["action"][0]["action"][0];
        assert_eq!(action["title"], "Call the patient");
        assert_eq!(read(token, "after-surgery?version=9").await.0, 404);
        assert_eq!(read(token, "nothing").await.0, 404);
    }
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    assert_eq!(read(&officer, "after-surgery").await.0, 403);
    assert_eq!(read("wrong", "after-surgery").await.0, 401);
    house.end().await;
}
