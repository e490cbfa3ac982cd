//! What becomes of resources that FHIR's tables don't allow: refused, or written with a warning.
use fhir::ResourceType as T;
use record::{Caller, PreferReturn, Validation};
use serde_json::{Value, json};

use crate::house::{House, client, json_of, wrong};

fn paths(outcome: &Value, severity: &str) -> Vec<String> {
    let issues = outcome["issue"].as_array().unwrap();
    issues
        .iter()
        .filter(|issue| issue["severity"] == severity)
        .filter_map(|issue| Some(issue["expression"][0].as_str()?.to_owned()))
        .collect()
}

fn odd() -> Value {
    json!({"resourceType": "Patient", "name": [{"famly": "Berg"}], "gender": "F", "birthDate": "1950-02-30"})
}

const ODD: [&str; 3] = [
    "Patient.name[0].famly",
    "Patient.gender",
    "Patient.birthDate",
];

#[tokio::test]
async fn all_issues_are_told_with_their_places() {
    let house = House::new().await;
    let body = odd().to_string();
    let refused = house
        .record
        .create(&client(), T::Patient, body.as_bytes())
        .await
        .unwrap_err();
    assert_eq!(refused.status, 422);
    let outcome: Value = serde_json::from_slice(&refused.to_json()).unwrap();
    assert_eq!(paths(&outcome, "error"), ODD);
    // No word of what was sent.
    assert!(!outcome.to_string().contains("1950"));

    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "POST", "url": "Patient"}, "resource": odd()},
    ]});
    let refused = house
        .record
        .bundle(&client(), bundle.to_string().as_bytes())
        .await
        .unwrap_err();
    let outcome: Value = serde_json::from_slice(&refused.to_json()).unwrap();
    assert_eq!(
        paths(&outcome, "error")[0],
        "Bundle.entry[0].resource.name[0].famly"
    );
    assert_eq!(house.count(T::Patient).await, 0);
}

#[tokio::test]
async fn a_house_that_only_warns_writes_and_says_so() {
    let mut house = House::new().await;
    house.record = house.record.with_validation(Validation::Warn);
    let body = odd().to_string();
    let told = Caller {
        prefer_return: PreferReturn::OperationOutcome,
        ..client()
    };
    let answer = house
        .record
        .create(&told, T::Patient, body.as_bytes())
        .await
        .unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(paths(&json_of(&answer), "warning"), ODD);
    let location = answer.location.unwrap();
    let id = location.split('/').nth(1).unwrap();

    let mut again = odd();
    again["id"] = json!(id);
    let answer = house
        .record
        .update(&told, T::Patient, id, None, again.to_string().as_bytes())
        .await
        .unwrap();
    assert_eq!(
        (answer.status, paths(&json_of(&answer), "warning")),
        (200, ODD.map(str::to_owned).to_vec())
    );

    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "POST", "url": "Patient"}, "resource": odd()},
    ]});
    let answer = house
        .record
        .bundle(&told, bundle.to_string().as_bytes())
        .await
        .unwrap();
    let outcome = &json_of(&answer)["entry"][0]["response"]["outcome"];
    assert_eq!(paths(outcome, "warning"), ODD);

    // Without the wish there is nothing but the resource, as it was sent.
    let answer = house
        .record
        .create(&client(), T::Patient, body.as_bytes())
        .await
        .unwrap();
    assert_eq!(json_of(&answer)["name"][0]["famly"], "Berg");
    let read = house.record.read(&client(), T::Patient, id).await.unwrap();
    assert_eq!(json_of(&read)["gender"], "F");

    // What nobody could keep safely is refused all the same.
    let strange = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "http://elsewhere.example/Patient/1"}});
    let refused = house
        .record
        .create(&client(), T::Observation, strange.to_string().as_bytes())
        .await;
    assert_eq!(wrong(refused).0, 422);
}

#[tokio::test]
async fn a_part_of_a_resource_is_not_stored_as_the_whole() {
    let house = House::new().await;
    let part = json!({"resourceType": "Patient", "name": [{"family": "Berg"}],
        "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]}});
    let refused = house
        .record
        .create(&client(), T::Patient, part.to_string().as_bytes())
        .await
        .unwrap_err();
    let outcome: Value = serde_json::from_slice(&refused.to_json()).unwrap();
    assert_eq!(
        (refused.status, paths(&outcome, "error")),
        (422, vec!["Patient.meta.tag".to_owned()])
    );
}
