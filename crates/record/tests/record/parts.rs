//! `_summary` and `_elements`, on reads and in lists.
use fhir::ResourceType as T;
use serde_json::{Value, json};

use crate::house::{House, client, json_of, link, observation, pairs, wrong};
use crate::privacy::deny;

fn names(resource: &Value) -> Vec<&str> {
    let members = resource.as_object().unwrap();
    members.keys().map(String::as_str).collect()
}

fn is_marked(resource: &Value) -> bool {
    let tags = resource["meta"]["tag"].as_array();
    tags.is_some_and(|tags| tags.iter().any(|tag| tag["code"] == "SUBSETTED"))
}

#[tokio::test]
async fn reads_and_lists_show_the_part_that_is_asked_for() {
    let house = House::new().await;
    let body = json!({"resourceType": "Patient", "name": [{"family": "Berg"}], "gender": "female",
        "maritalStatus": {"text": "x"}, "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Berg</div>"}});
    let id = house.create(&body).await;
    for (asked, left) in [
        ("_summary=true", vec!["name", "gender"]),
        ("_summary=text", vec!["text"]),
        ("_summary=data", vec!["name", "gender", "maritalStatus"]),
        ("_elements=maritalStatus", vec!["maritalStatus"]),
    ] {
        let expected = [vec!["resourceType", "id", "meta"], left].concat();
        let check = |resource: &Value| {
            assert_eq!(names(resource), expected, "{asked}");
            assert!(is_marked(resource), "{asked}");
            assert_eq!(resource["meta"]["versionId"], "1");
        };
        let read = house
            .record
            .read_part(&client(), T::Patient, &id, &pairs(asked))
            .await
            .unwrap();
        assert_eq!((read.status, read.version), (200, Some(1)));
        check(&json_of(&read));
        let old = house
            .record
            .version_part(&client(), T::Patient, &id, "1", &pairs(asked))
            .await
            .unwrap();
        check(&json_of(&old));
        let found = house.find(T::Patient, asked).await;
        check(&found["entry"][0]["resource"]);
        let history = house
            .record
            .history(&client(), T::Patient, &id, &pairs(asked))
            .await
            .unwrap();
        check(&json_of(&history)["entry"][0]["resource"]);
    }
    // All of it, unmarked.
    let read = house
        .record
        .read_part(&client(), T::Patient, &id, &pairs("_summary=false"))
        .await
        .unwrap();
    assert!(!is_marked(&json_of(&read)) && json_of(&read).get("text").is_some());
    for wrong_one in [
        "_summary=count",
        "_summary=some",
        "_elements=status",
        "_elements=name&_summary=true",
    ] {
        let refused = house
            .record
            .read_part(&client(), T::Patient, &id, &pairs(wrong_one))
            .await;
        assert_eq!(wrong(refused), (400, "value".to_owned()), "{wrong_one}");
    }
}

#[tokio::test]
async fn pages_go_on_showing_the_same_part() {
    let house = House::new().await;
    for _ in 0..3 {
        house.patient("Berg").await;
    }
    let first = house.find(T::Patient, "_count=2&_elements=gender").await;
    let next = link(&first, "next").unwrap();
    let second = house.record.search(&client(), T::Patient, &next).await;
    let second = json_of(&second.unwrap());
    assert_eq!(second["entry"].as_array().unwrap().len(), 1);
    assert!(second["entry"][0]["resource"].get("name").is_none());
    assert!(is_marked(&second["entry"][0]["resource"]));
    // A cursor belongs to the part that it was made for.
    let other: Vec<_> = next
        .into_iter()
        .filter(|(name, _)| name != "_elements")
        .collect();
    let refused = house.record.search(&client(), T::Patient, &other).await;
    assert_eq!(wrong(refused).0, 400);
    // What came in a body stays out of links.
    let posted = house
        .record
        .search_by_post(&client(), T::Patient, &pairs("_count=2&_summary=text"))
        .await
        .unwrap();
    let next = link(&json_of(&posted), "next").unwrap();
    assert_eq!(next.len(), 1);
    let second = house.record.search(&client(), T::Patient, &next).await;
    assert!(
        json_of(&second.unwrap())["entry"][0]["resource"]
            .get("name")
            .is_none()
    );
}

#[tokio::test]
async fn a_count_counts_what_a_list_would_show() {
    let house = House::new().await;
    let (seen, hidden) = (house.patient("Berg").await, house.patient("Dahl").await);
    for patient in [&seen, &hidden, &hidden] {
        house.create(&observation(patient, "8867-4")).await;
    }
    let count = async |query: &str| {
        let found = house.find(T::Observation, query).await;
        assert!(found.get("entry").is_none() && link(&found, "next").is_none());
        found["total"].as_u64().unwrap()
    };
    assert_eq!(count("_summary=count").await, 3);
    assert_eq!(count("_summary=count&_count=1").await, 3);
    assert_eq!(count("_count=0").await, 3);
    assert_eq!(count("_summary=count&code=http://loinc.org|x").await, 0);
    deny(&house, &hidden).await;
    assert_eq!(count("_summary=count").await, 1);

    let history = house
        .record
        .history(&client(), T::Patient, &seen, &pairs("_summary=count"))
        .await
        .unwrap();
    let history = json_of(&history);
    assert_eq!((&history["total"], history.get("entry")), (&json!(1), None));
    let refused = house
        .record
        .history(
            &client(),
            T::Patient,
            &seen,
            &pairs("_summary=count&_since=2026-01-01"),
        )
        .await;
    assert_eq!(wrong(refused), (400, "not-supported".to_owned()));
}

#[tokio::test]
async fn reads_of_a_bundle_show_parts_too() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let get = |url: String| json!({"request": {"method": "GET", "url": url}});
    let entries = vec![
        get(format!("Patient/{id}?_elements=gender")),
        get(format!("Patient/{id}/_history/1?_summary=text")),
        get("Patient?_summary=count".to_owned()),
        get(format!("Patient/{id}?family=x")),
    ];
    let answer = house.bundle(&client(), "batch", entries).await.unwrap();
    for place in 0..2 {
        let resource = &answer["entry"][place]["resource"];
        assert!(
            is_marked(resource) && resource.get("name").is_none(),
            "{place}"
        );
    }
    assert_eq!(answer["entry"][2]["resource"]["total"], 1);
    assert_eq!(answer["entry"][3]["response"]["status"], "400 Bad Request");
}
