//! Writes under criteria.
use fhir::ResourceType as T;
use serde_json::json;

use crate::house::{House, client, wrong};

#[tokio::test]
async fn criteria_count_what_one_page_has_no_room_for() {
    let house = House::new().await;
    // Two of these are more than a page of a search has.
    let text = "x".repeat(3 << 20);
    let body = json!({
        "resourceType": "Practitioner",
        "identifier": [{"system": "urn:npi", "value": "1"}],
        "text": {"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{text}</div>")},
    });
    for _ in 0..2 {
        house.create(&body).await;
    }
    let small = json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:npi", "value": "1"}]});
    let answer = house
        .record
        .conditional_create(
            &client(),
            T::Practitioner,
            "identifier=urn:npi|1",
            small.to_string().as_bytes(),
        )
        .await;
    assert_eq!(wrong(answer), (412, "multiple-matches".to_owned()));
}

#[tokio::test]
async fn what_its_criteria_would_not_find_is_not_made() {
    let house = House::new().await;
    let body = json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:npi", "value": "2"}]});
    let answer = house
        .record
        .conditional_create(
            &client(),
            T::Practitioner,
            "identifier=urn:npi|1",
            body.to_string().as_bytes(),
        )
        .await;
    assert_eq!(wrong(answer), (422, "business-rule".to_owned()));
    assert_eq!(house.count(T::Practitioner).await, 0);
}
