//! Requests with a key: how long it is kept, and what is shown of what was written before.
use fhir::ResourceType as T;
use record::{Answer, Caller, PatchForm, Preconditions, RecordError};
use serde_json::json;
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

// Proves: 45 CFR 164.312(a)(1)
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

#[tokio::test]
async fn a_batch_under_the_key_of_another_request_is_refused() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    create(&house, "key", &patient).await.unwrap();
    let entry = json!({"resource": observation(&patient, "8867-4"), "request": {"method": "POST", "url": "Observation"}});
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [entry]}).to_string();
    let ask = async |key: &str| house.record.bundle(&under(key), batch.as_bytes()).await;
    assert_eq!(wrong(ask("key").await).0, 422);
    assert_eq!(house.count(T::Observation).await, 1);
    ask("key-2").await.unwrap();
    assert_eq!(house.count(T::Observation).await, 2);
}

/// A client's request under a key.
fn under(key: &str) -> Caller {
    Caller {
        once: Some(Once::new(key, &[key.as_bytes()])),
        ..client()
    }
}

#[tokio::test]
async fn who_comes_second_gets_the_answer_of_who_was_first() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let id = house.create(&observation(&patient, "29463-7")).await;
    let mut body = observation(&patient, "29463-7");
    body["id"] = json!(id);
    let body = body.to_string();
    let nothing = Preconditions {
        if_match: None,
        if_none_match: None,
        if_unmodified_since_s: None,
    };
    let update = async |caller: &Caller| {
        let written = house.record.update(
            caller,
            T::Observation,
            &id,
            Some("W/\"1\""),
            body.as_bytes(),
        );
        written.await
    };
    let make = async |caller: &Caller| {
        let absent = Preconditions {
            if_none_match: Some("*"),
            ..nothing
        };
        let mut body = observation(&patient, "8867-4");
        body["id"] = json!("made-once");
        let body = body.to_string();
        let (kind, id) = (T::Observation, "made-once");
        let written = house
            .record
            .update_if(caller, kind, id, absent, body.as_bytes());
        written.await
    };
    let patch = async |caller: &Caller| {
        let patch = json!([{"op": "test", "path": "/status", "value": "final"}, {"op": "replace", "path": "/status", "value": "amended"}]).to_string();
        let (kind, form) = (T::Observation, PatchForm::Json);
        let patched = house
            .record
            .patch(caller, kind, &id, nothing, form, patch.as_bytes());
        patched.await
    };
    // Each finds no key, and then its like is carried out before it is.
    macro_rules! second {
        ($work:ident) => {{
            let (first, second) = (under(stringify!($work)), under(stringify!($work)));
            let mut one = None;
            let late = async {
                let done = house.record.once(&first, $work(&first)).await.unwrap();
                one = Some(done);
                $work(&second).await
            };
            let two = house.record.once(&second, late).await.unwrap();
            let one = one.unwrap();
            assert_eq!((two.status, two.version), (one.status, one.version));
            assert_eq!((&two.location, &two.body), (&one.location, &one.body));
            // Without a key it is told what is wrong.
            let again = $work(&client()).await;
            assert!((400..500).contains(&wrong(again).0));
        }};
    }
    second!(update);
    second!(make);
    second!(patch);

    let bundle = |kind: &str| {
        let entry = json!({"resource": serde_json::from_str::<serde_json::Value>(&body).unwrap(), "request": {"method": "PUT", "url": format!("Observation/{id}"), "ifMatch": "W/\"VERSION\""}});
        json!({"resourceType": "Bundle", "type": kind, "entry": [entry]}).to_string()
    };
    for round in 0..24 {
        let kind = ["transaction", "batch"][round % 2];
        let version = house.read(T::Observation, &id).await["meta"]["versionId"].clone();
        let body = bundle(kind).replace("VERSION", version.as_str().unwrap());
        let key = format!("round-{round}");
        let ask = async || {
            let answer = house.record.bundle(&under(&key), body.as_bytes()).await;
            json_of(&answer.unwrap())["entry"][0]["response"].clone()
        };
        let (one, two) = tokio::join!(ask(), ask());
        assert_eq!(one["status"], "200 OK", "{one}");
        assert_eq!(one["etag"], two["etag"], "{one} {two}");
    }
}
