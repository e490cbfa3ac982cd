//! What is large: it goes in up to the stated limits, and past them the answer says so.
use fhir::ResourceType as T;
use record::{ANSWER_BYTES_MAX, BUNDLE_ENTRIES_MAX};
use serde_json::{Value, json};

use crate::house::{House, client, json_of, link, minimal, pairs, wrong};

const MEGABYTE: usize = 1_000_000;

fn large(id: &str, bytes: usize) -> Value {
    // One string has at most 1 MB.
    let part = |place: usize| json!({"display": "x".repeat((bytes - place).min(MEGABYTE))});
    let codings: Vec<Value> = (0..bytes).step_by(MEGABYTE).map(part).collect();
    json!({"resourceType": "Basic", "id": id, "code": {"coding": codings}})
}

async fn put(house: &House, id: &str, bytes: usize) {
    let body = large(id, bytes).to_string();
    let answer = house
        .record
        .update(&minimal(), T::Basic, id, None, body.as_bytes())
        .await;
    answer.unwrap();
}

#[tokio::test]
async fn a_transaction_may_be_of_as_many_patients_as_it_has_entries() {
    let house = House::new().await;
    let entry = json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}});
    let answer = house
        .bundle(&minimal(), "transaction", vec![entry; BUNDLE_ENTRIES_MAX])
        .await;
    let answer = answer.unwrap();
    let entries = answer["entry"].as_array().unwrap();
    assert_eq!(entries.len(), BUNDLE_ENTRIES_MAX);
    assert!(
        entries
            .iter()
            .all(|entry| entry["response"]["status"] == "201 Created")
    );
}

#[tokio::test]
async fn a_study_of_many_images_goes_in_and_one_of_too_many_is_told_so() {
    let house = House::new().await;
    let study = |images: usize| {
        let image =
            |number: usize| json!({"uid": format!("1.2.{number}"), "sopClass": {"code": "x"}});
        json!({"resourceType": "ImagingStudy", "status": "available", "subject": {"reference": "Patient/p"}, "series": [
            {"uid": "1.2", "modality": {"code": "CT"}, "instance": (0..images).map(image).collect::<Vec<_>>()}]})
    };
    house.create(&study(4_100)).await;
    let found = house.find(T::ImagingStudy, "instance=1.2.4099").await;
    assert_eq!(found["total"], 1);
    let body = study(17_000).to_string();
    let result = house
        .record
        .create(&client(), T::ImagingStudy, body.as_bytes())
        .await;
    assert_eq!(wrong(result), (422, "too-long".to_owned()));
}

#[tokio::test]
async fn pages_of_large_resources_are_short_and_lose_none() {
    let house = House::new().await;
    for number in 0..7 {
        put(&house, &format!("b{number}"), 3 * MEGABYTE / 2).await;
    }
    let mut parameters = pairs("_count=1000&_total=accurate");
    let mut sizes = Vec::new();
    loop {
        let answer = house
            .record
            .search(&client(), T::Basic, &parameters)
            .await
            .unwrap();
        assert!(answer.body.len() < 5 * MEGABYTE);
        let page = json_of(&answer);
        assert_eq!(page["total"], 7);
        sizes.push(page["entry"].as_array().unwrap().len());
        match link(&page, "next") {
            Some(next) => parameters = next,
            None => break,
        }
    }
    assert_eq!(sizes, [2, 2, 2, 1]);

    for _ in 0..4 {
        put(&house, "b0", 3 * MEGABYTE).await;
    }
    let mut parameters = pairs("_count=1000");
    let mut versions = Vec::new();
    loop {
        let answer = house
            .record
            .history(&client(), T::Basic, "b0", &parameters)
            .await
            .unwrap();
        assert!(answer.body.len() < 8 * MEGABYTE);
        let page = json_of(&answer);
        for entry in page["entry"].as_array().unwrap() {
            versions.push(entry["response"]["etag"].as_str().unwrap().to_owned());
        }
        match link(&page, "next") {
            Some(next) => parameters = next,
            None => break,
        }
    }
    assert_eq!(
        versions,
        ["W/\"5\"", "W/\"4\"", "W/\"3\"", "W/\"2\"", "W/\"1\""]
    );
}

#[tokio::test]
async fn pages_of_groups_name_no_more_patients_than_the_audit_takes() {
    let house = House::new().await;
    for group in 0..5 {
        let member =
            |number: usize| json!({"entity": {"reference": format!("Patient/p{group}-{number}")}});
        let members: Vec<Value> = (0..4_000).map(member).collect();
        house
            .create(&json!({"resourceType": "Group", "type": "person", "actual": true, "member": members}))
            .await;
    }
    let first = house.find(T::Group, "_count=10").await;
    assert_eq!(first["entry"].as_array().unwrap().len(), 2);
    assert!(link(&first, "next").is_some());
}

#[tokio::test]
async fn the_answer_to_a_bundle_has_a_limit() {
    let house = House::new().await;
    put(&house, "b", 4 * MEGABYTE).await;
    let get = json!({"request": {"method": "GET", "url": "Basic/b"}});
    for kind in ["batch", "transaction"] {
        let answer = house
            .bundle(&client(), kind, vec![get.clone(); 16])
            .await
            .unwrap();
        let statuses: Vec<&str> = answer["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["response"]["status"].as_str().unwrap())
            .collect();
        let fine = statuses
            .iter()
            .filter(|status| **status == "200 OK")
            .count();
        assert!(
            (1..=ANSWER_BYTES_MAX / (4 * MEGABYTE)).contains(&fine),
            "{statuses:?}"
        );
        assert!(
            statuses
                .iter()
                .all(|status| matches!(*status, "200 OK" | "413 Content Too Large")),
            "{statuses:?}"
        );
    }
}
