//! `POST /api/journeys`.

use reqwest::Method;
use serde_json::Value;

use crate::house::{header, house, token};

const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");

#[tokio::test]
async fn a_squad_publishes_and_nobody_else() {
    let house = house().await;
    let publish = |token: String, source: &str| {
        house
            .bare(Method::POST, "/api/journeys")
            .bearer_auth(token)
            .body(source.to_owned())
            .send()
    };
    let stranger = house
        .bare(Method::POST, "/api/journeys")
        .body(JOURNEY)
        .send()
        .await
        .expect("an answer");
    assert_eq!(stranger.status(), 401);
    assert_ne!(header(&stranger, "www-authenticate"), "");
    assert_eq!(
        publish("wrong".to_owned(), JOURNEY)
            .await
            .expect("an answer")
            .status(),
        401
    );
    assert_eq!(
        publish(house.token.clone(), JOURNEY)
            .await
            .expect("an answer")
            .status(),
        403
    );

    let squad = token(&house.server, trust::Role::Squad).await;
    let broken = publish(squad.clone(), "name: broken\nsteps: nonsense\n")
        .await
        .expect("an answer");
    assert_eq!(broken.status(), 422);
    let broken: Value = broken.json().await.expect("JSON");
    assert!(
        broken["findings"]
            .as_array()
            .is_some_and(|findings| !findings.is_empty()),
        "{broken}"
    );

    for _ in 0..2 {
        let published = publish(squad.clone(), JOURNEY).await.expect("an answer");
        assert_eq!(published.status(), 200);
        let published: Value = published.json().await.expect("JSON");
        // The same text again is the same version.
        assert_eq!(
            (published["name"].as_str(), published["version"].as_u64()),
            (Some("heart-failure-discharge"), Some(1))
        );
    }
    house.end().await;
}
