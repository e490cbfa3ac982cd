//! Search: bundles, paging, cursors, lenient and strict.
use std::collections::HashSet;

use fhir::ResourceType as T;
use record::Caller;
use serde_json::{Value, json};

use crate::house::{BASE, House, client, json_of, link, minimal, observation, pairs, wrong};

fn ids(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .filter(|entry| entry["search"]["mode"] == "match")
        .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_search_answers_with_a_searchset() {
    let house = House::new().await;
    let berg = house.patient("Berg").await;
    house.patient("Dahl").await;
    let found = house.find(T::Patient, "family=berg&_total=accurate").await;
    assert_eq!(
        (&found["type"], &found["total"]),
        (&json!("searchset"), &json!(1))
    );
    let entry = &found["entry"][0];
    assert_eq!(entry["fullUrl"], format!("{BASE}/Patient/{berg}"));
    assert_eq!(entry["search"]["mode"], "match");
    assert_eq!(entry["resource"]["meta"]["versionId"], "1");
    assert_eq!(
        found["link"][0],
        json!({"relation": "self", "url": format!("{BASE}/Patient?family=berg&_total=accurate")})
    );
    assert!(link(&found, "next").is_none());
    assert_eq!(
        fhir::validate::check(&fhir::Resource::from_value(found).unwrap()),
        []
    );
    let none = house.find(T::Patient, "family=nobody").await;
    assert_eq!(none["total"], 0);
    assert!(none.get("entry").is_none());
}

#[tokio::test]
async fn found_by_what_the_slice_needs() {
    let house = House::new().await;
    let patient = house
        .create(&json!({"resourceType": "Patient", "name": [{"family": "Berg", "given": ["Åse"]}], "birthDate": "1950-02-03",
                        "identifier": [{"system": "urn:mrn", "value": "17"}]}))
        .await;
    let mut weight = observation(&patient, "29463-7");
    weight["effectiveDateTime"] = json!("2026-11-20T08:00:00Z");
    let weight = house.create(&weight).await;
    house.create(&observation(&patient, "8867-4")).await;
    for (kind, query) in [
        (T::Patient, "name=ase".to_owned()),
        (T::Patient, "birthdate=1950-02".to_owned()),
        (T::Patient, "identifier=urn:mrn|17".to_owned()),
        (T::Patient, format!("_id={patient}")),
    ] {
        assert_eq!(
            ids(&house.find(kind, &query).await),
            [patient.as_str()],
            "{query}"
        );
    }
    for query in [
        format!("patient={patient}&code=http://loinc.org|29463-7"),
        format!("subject=Patient/{patient}&code=29463-7&status=final"),
        "date=ge2026-11-20&date=lt2026-11-21".to_owned(),
        "code=29463-7&_lastUpdated=ge2026-11-26".to_owned(),
    ] {
        assert_eq!(
            ids(&house.find(T::Observation, &query).await),
            [weight.as_str()],
            "{query}"
        );
    }
}

#[tokio::test]
async fn pages_are_stable_while_others_write() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let mut wanted = Vec::new();
    for _ in 0..25 {
        wanted.push(house.create(&observation(&patient, "29463-7")).await);
    }
    wanted.reverse();
    let mut seen = Vec::new();
    let mut parameters = pairs("code=29463-7&_count=10");
    let mut pages = 0;
    loop {
        let page = json_of(
            &house
                .record
                .search(&client(), T::Observation, &parameters)
                .await
                .unwrap(),
        );
        seen.extend(ids(&page));
        pages += 1;
        // Newer ones come in front of the first page, not into those that follow.
        house.create(&observation(&patient, "29463-7")).await;
        match link(&page, "next") {
            Some(next) => parameters = next,
            None => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, wanted);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 25);
}

#[tokio::test]
async fn cursors_are_good_for_their_own_query_only() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    for _ in 0..3 {
        house.create(&observation(&patient, "29463-7")).await;
    }
    let page = house.find(T::Observation, "code=29463-7&_count=1").await;
    let next = link(&page, "next").unwrap();
    let cursor = next
        .iter()
        .find(|(name, _)| name == "_cursor")
        .unwrap()
        .1
        .clone();
    let with = |query: &str, cursor: &str| {
        let mut parameters = pairs(query);
        parameters.push(("_cursor".to_owned(), cursor.to_owned()));
        parameters
    };
    let ask = async |kind: T, parameters: Vec<(String, String)>| {
        house.record.search(&client(), kind, &parameters).await
    };
    assert!(
        ask(T::Observation, with("code=29463-7&_count=2", &cursor))
            .await
            .is_ok()
    );
    let mut forged = cursor.clone().into_bytes();
    forged[0] = if forged[0] == b'0' { b'1' } else { b'0' };
    let forged = String::from_utf8(forged).unwrap();
    for (kind, parameters) in [
        (T::Observation, with("code=8867-4", &cursor)),
        (T::Observation, with("", &cursor)),
        (T::Condition, with("code=29463-7", &cursor)),
        (T::Observation, with("code=29463-7", &forged)),
        (T::Observation, with("code=29463-7", "")),
        (
            T::Observation,
            with(
                "code=29463-7",
                &cursor
                    .to_uppercase()
                    .replace(|c: char| c.is_ascii_digit(), "F"),
            ),
        ),
        (T::Observation, with("code=29463-7", "12345")),
        (
            T::Observation,
            [with("code=29463-7", &cursor), with("", &cursor)].concat(),
        ),
    ] {
        assert_eq!(
            wrong(ask(kind, parameters.clone()).await).0,
            400,
            "{parameters:?}"
        );
    }
}

#[tokio::test]
async fn unknown_parameters_are_refused_unless_lenient() {
    let house = House::new().await;
    house.patient("Berg").await;
    let parameters = pairs("family=berg&colour=red");
    assert_eq!(
        wrong(
            house
                .record
                .search(&client(), T::Patient, &parameters)
                .await
        ),
        (400, "not-supported".to_owned())
    );
    let lenient = Caller {
        lenient: true,
        ..client()
    };
    let found = json_of(
        &house
            .record
            .search(&lenient, T::Patient, &parameters)
            .await
            .unwrap(),
    );
    let entries = found["entry"].as_array().unwrap();
    assert_eq!((entries.len(), &found["total"]), (2, &json!(1)));
    assert_eq!(entries[1]["search"]["mode"], "outcome");
    assert_eq!(
        entries[1]["resource"]["issue"][0]["expression"][0],
        "colour"
    );
    assert_eq!(link(&found, "self").unwrap(), pairs("family=berg"));
    for bad in [
        "_count=5000",
        "_sort=colour",
        "birthdate=x",
        "family:below=x",
    ] {
        assert_eq!(
            wrong(house.record.search(&lenient, T::Patient, &pairs(bad)).await).0,
            400,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn totals_are_exact_when_asked_for() {
    let house = House::new().await;
    for _ in 0..5 {
        house.patient("Berg").await;
    }
    let page = house.find(T::Patient, "_count=2").await;
    assert!(page.get("total").is_none());
    let page = house.find(T::Patient, "_count=2&_total=accurate").await;
    assert_eq!(page["total"], 5);
    let next = json_of(
        &house
            .record
            .search(&client(), T::Patient, &link(&page, "next").unwrap())
            .await
            .unwrap(),
    );
    assert_eq!(next["total"], 5);
    assert!(
        house
            .find(T::Patient, "_total=none")
            .await
            .get("total")
            .is_none()
    );
}

#[tokio::test]
async fn references_by_this_server_s_address_are_found_as_they_were_written() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let absolute = format!("{BASE}/Patient/{patient}");
    let mut weight = observation("x", "29463-7");
    weight["subject"]["reference"] = json!(absolute);
    weight["identifier"] = json!([{"system": "urn:lab", "value": "1"}]);
    let id = house.create(&weight).await;
    for query in [
        format!("subject={absolute}"),
        format!("patient={absolute}&code=29463-7"),
        format!("subject=Patient/nobody,{absolute}"),
    ] {
        assert_eq!(
            ids(&house.find(T::Observation, &query).await),
            [id.as_str()],
            "{query}"
        );
    }
    assert_eq!(
        house
            .find(T::Observation, &format!("subject={absolute}x"))
            .await["total"],
        0
    );
    let criteria = format!("subject={absolute}&identifier=urn:lab|1");
    let body = weight.to_string();
    let again = house
        .record
        .conditional_create(&client(), T::Observation, &criteria, body.as_bytes())
        .await
        .unwrap();
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn pages_say_when_rows_have_moved() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(house.create(&observation(&patient, "29463-7")).await);
    }
    let first = house.find(T::Observation, "code=29463-7&_count=2").await;
    let outcomes = |page: &Value| {
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        let outcome = entries
            .iter()
            .find(|entry| entry["search"]["mode"] == "outcome")
            .cloned();
        outcome.map(|entry| entry["resource"]["issue"][0]["code"].clone())
    };
    let next = async |page: &Value| {
        let parameters = link(page, "next").unwrap();
        json_of(
            &house
                .record
                .search(&client(), T::Observation, &parameters)
                .await
                .unwrap(),
        )
    };
    // What is made meanwhile was on no page before.
    house.create(&observation(&patient, "29463-7")).await;
    let second = next(&first).await;
    assert_eq!(
        (ids(&second), outcomes(&second)),
        (vec![made[3].clone(), made[2].clone()], None)
    );
    // What is changed moves to the front, past the pages that are still to come.
    let mut changed = observation(&patient, "29463-7");
    changed["id"] = json!(made[1]);
    changed["status"] = json!("amended");
    let body = changed.to_string();
    house
        .record
        .update(&client(), T::Observation, &made[1], None, body.as_bytes())
        .await
        .unwrap();
    let third = next(&second).await;
    assert_eq!(ids(&third), [made[0].as_str()]);
    assert_eq!(outcomes(&third), Some(json!("incomplete")));
    let anew = house.find(T::Observation, "code=29463-7&_count=2").await;
    assert_eq!(
        (ids(&anew)[0].as_str(), outcomes(&anew)),
        (made[1].as_str(), None)
    );
    // Of a search that does not find it nothing has moved.
    let other = house
        .find(T::Observation, "code=29463-7&status=final&_count=2")
        .await;
    let page = next(&other).await;
    assert_eq!(outcomes(&page), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_total_is_that_of_one_moment() {
    const ROWS: usize = 1_500;
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let row = |number: usize, status: &str| {
        let mut weight = observation(&patient, "29463-7");
        weight["id"] = json!(format!("o{number}"));
        weight["status"] = json!(status);
        json!({"resource": weight, "request": {"method": "PUT", "url": format!("Observation/o{number}")}})
    };
    let all = (0..ROWS).map(|number| row(number, "final")).collect();
    house.bundle(&minimal(), "transaction", all).await.unwrap();
    // Every row stays a match, whatever is written; more than one run of hits is needed to see all.
    let writing = async {
        for status in ["amended", "corrected", "final", "amended"] {
            for part in 0..10 {
                let entries = (part..ROWS)
                    .step_by(10)
                    .map(|number| row(number, status))
                    .collect();
                house
                    .bundle(&minimal(), "transaction", entries)
                    .await
                    .unwrap();
            }
        }
    };
    let mut totals = Vec::new();
    let counting = async {
        loop {
            let page = house
                .find(T::Observation, "code=29463-7&_count=1&_total=accurate")
                .await;
            totals.push(page["total"].as_u64().unwrap());
        }
    };
    tokio::select! {
        () = writing => {}
        () = counting => {}
    }
    assert!(
        !totals.is_empty() && totals.iter().all(|total| *total == ROWS as u64),
        "{totals:?}"
    );
}
