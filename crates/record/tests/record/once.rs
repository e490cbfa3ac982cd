//! Requests with a key: how long it is kept, and what is shown of what was written before.
use fhir::ResourceType as T;
use record::{Answer, Caller, RecordError};
use trust::{ONCE_KEPT_MS, Once};

use crate::house::{House, TENANT, client, json_of, observation, wrong};
use crate::privacy::deny;

async fn create(house: &House, key: &str, patient: &str) -> Result<Answer, RecordError> {
    let body = observation(patient, "29463-7").to_string();
    let caller = Caller {
        once: Some(Once::new(key, &[body.as_bytes()])),
        ..client()
    };
    let work = house
        .record
        .create(&caller, T::Observation, body.as_bytes());
    house.record.once(&caller, work).await
}

#[tokio::test]
async fn keys_are_kept_for_a_day_and_then_taken_away() {
    let house = House::new().await;
    let (one, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let first = create(&house, "key", &one).await.unwrap();
    house.clock.advance(ONCE_KEPT_MS - 1);
    let again = create(&house, "key", &one).await.unwrap();
    assert_eq!(
        (again.location, again.body),
        (first.location.clone(), first.body)
    );
    assert_eq!(wrong(create(&house, "key", &other).await).0, 422);
    // What was renewed by nobody ends, and its key is anybody's.
    house.clock.advance(1);
    let second = create(&house, "key", &other).await.unwrap();
    assert_ne!(second.location, first.location);
    assert_eq!(wrong(create(&house, "key", &one).await).0, 422);
    create(&house, "key-2", &one).await.unwrap();
    assert_eq!(house.count(T::Observation).await, 3);

    // The day after its end it is taken away, and can be used again.
    let sweep = async || house.trust.identity().sweep(TENANT).await.unwrap();
    house.clock.advance(ONCE_KEPT_MS);
    assert_eq!(sweep().await, 0, "it ends today");
    house.clock.advance(ONCE_KEPT_MS);
    assert_eq!(sweep().await, 2);
    assert_eq!(sweep().await, 0);
    let third = create(&house, "key", &other).await.unwrap();
    assert_ne!(third.location, second.location);
    let again = create(&house, "key", &other).await.unwrap();
    assert_eq!(again.location, third.location);
}

#[tokio::test]
async fn an_answer_again_shows_what_may_be_seen_now() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let first = create(&house, "key", &patient).await.unwrap();
    // As it was written, whatever has become of it.
    let id = json_of(&first)["id"].as_str().unwrap().to_owned();
    house
        .record
        .delete(&client(), T::Observation, &id, None)
        .await
        .unwrap();
    let again = create(&house, "key", &patient).await.unwrap();
    assert_eq!(
        (again.status, again.version, again.body),
        (201, Some(1), first.body)
    );
    deny(&house, &patient).await;
    let again = create(&house, "key", &patient).await.unwrap();
    assert_eq!((again.status, again.location), (201, first.location));
    assert!(again.body.is_empty(), "what consent hides is not shown");
    assert_eq!(house.count(T::Observation).await, 0);
}
