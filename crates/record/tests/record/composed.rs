//! Composite and special parameters, and what is about a date, over the store.
use fhir::ResourceType as T;
use serde_json::{Value, json};

use crate::house::{House, NOW_MS, client, json_of, link, pairs, wrong};

fn ids(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
        .collect()
}

fn component(code: &str, value: i64) -> Value {
    json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}})
}

#[tokio::test]
async fn parts_of_a_composite_are_of_one_element() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let pressure = |systolic: i64, diastolic: i64| {
        json!({"resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "component": [component("8480-6", systolic), component("8462-4", diastolic)]})
    };
    let high = house.create(&pressure(150, 90)).await;
    let low = house.create(&pressure(110, 70)).await;
    let mut weight = pressure(1, 1);
    weight.as_object_mut().unwrap().remove("component");
    weight["code"] = json!({"coding": [{"system": "http://loinc.org", "code": "29463-7"}]});
    weight["valueQuantity"] =
        json!({"value": 80, "system": "http://unitsofmeasure.org", "code": "kg"});
    let weight = house.create(&weight).await;
    for (query, found) in [
        ("component-code-value-quantity=8480-6$gt120", vec![&high]),
        ("component-code-value-quantity=8462-4$gt120", vec![]),
        (
            "component-code-value-quantity=8480-6$gt120,8462-4$lt80",
            vec![&low, &high],
        ),
        ("combo-code-value-quantity=29463-7$80000||g", vec![&weight]),
        (
            "code-value-quantity=http://loinc.org|29463-7$ap82||kg",
            vec![&weight],
        ),
        ("code-value-quantity=29463-7$80||mm[Hg]", vec![]),
        ("code-value-quantity:missing=false", vec![&weight]),
    ] {
        let page = house
            .find(T::Observation, &format!("{query}&_total=accurate"))
            .await;
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), found, "{query}");
        assert_eq!(page["total"], found.len());
    }
    let refused = house
        .record
        .search(&client(), T::Observation, &pairs("code-value-quantity=x"))
        .await;
    assert_eq!(wrong(refused), (400, "value".to_owned()));
}

#[tokio::test]
async fn locations_are_found_by_where_they_are() {
    let house = House::new().await;
    let mut made = Vec::new();
    for (latitude, longitude) in [(47.3769, 8.5417), (46.948, 7.4474), (46.2044, 6.1432)] {
        let location = json!({"resourceType": "Location", "name": "x",
            "position": {"latitude": latitude, "longitude": longitude}});
        made.push(house.create(&location).await);
    }
    house
        .create(&json!({"resourceType": "Location", "name": "nowhere"}))
        .await;
    for (query, found) in [
        ("near=47.38|8.54|5|km", vec![&made[0]]),
        ("near=47.38|8.54|100|km", vec![&made[1], &made[0]]),
        ("near=0|0|100|km", vec![]),
        ("near:missing=true&name=x", vec![]),
    ] {
        let page = house
            .find(T::Location, &format!("{query}&_total=accurate"))
            .await;
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), found, "{query}");
    }
}

#[tokio::test]
async fn all_pages_of_what_is_about_a_date_are_of_one_moment() {
    let house = House::new().await;
    let day_ms = 24 * 3600 * 1000;
    let born = |days_ago: u64| {
        let instant = fhir::date::instant(NOW_MS - days_ago * day_ms);
        json!({"resourceType": "Patient", "birthDate": instant[..10]})
    };
    let mut made = Vec::new();
    for days_ago in [88, 95, 105, 111, 120] {
        made.push(house.create(&born(days_ago)).await);
    }
    let about = &fhir::date::instant(NOW_MS - 100 * day_ms)[..10];
    let mut wanted = vec![made[2].clone(), made[1].clone()];
    for sort in ["", "&_sort=birthdate"] {
        let mut parameters = pairs(&format!("birthdate=ap{about}&_count=1{sort}"));
        let mut seen = Vec::new();
        loop {
            let answer = house
                .record
                .search(&client(), T::Patient, &parameters)
                .await;
            let page = json_of(&answer.unwrap());
            seen.extend(ids(&page));
            // Far enough that all of them would be about that date.
            house.clock.advance(400 * day_ms);
            match link(&page, "next") {
                Some(next) => parameters = next,
                None => break,
            }
        }
        house.clock.set(NOW_MS);
        assert_eq!(seen, wanted, "{sort}");
        // The oldest first: who was born 105 days ago.
        wanted = vec![made[2].clone(), made[1].clone()];
    }
    let sealed = house
        .record
        .search_by_post(
            &client(),
            T::Patient,
            &pairs(&format!("birthdate=ap{about}&_count=1")),
        )
        .await;
    let next = link(&json_of(&sealed.unwrap()), "next").unwrap();
    house.clock.advance(400 * day_ms);
    let page = json_of(
        &house
            .record
            .search(&client(), T::Patient, &next)
            .await
            .unwrap(),
    );
    assert_eq!(
        (ids(&page), link(&page, "next")),
        (vec![made[1].clone()], None)
    );
    let criteria = format!("birthdate=ap{about}");
    let body = born(1).to_string();
    let refused = house
        .record
        .conditional_create(&client(), T::Patient, &criteria, body.as_bytes())
        .await;
    assert_eq!(wrong(refused).0, 400);
}
