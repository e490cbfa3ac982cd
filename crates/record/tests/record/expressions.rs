//! `_filter`, `_list`, `_text`, `_content`, and codes by value sets and code systems, over the store.
use fhir::ResourceType as T;
use record::Preconditions;
use serde_json::{Value, json};

use crate::house::{House, client, json_of, observation, pairs, wrong};
use crate::privacy::deny;

fn ids(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn found(house: &House, kind: T, query: &str) -> Vec<String> {
    let page = house.find(kind, &format!("{query}&_total=accurate")).await;
    let ids = ids(&page);
    assert_eq!(page["total"], ids.len(), "{query}");
    ids
}

async fn refused(house: &House, kind: T, query: &str) -> (u16, String) {
    wrong(house.record.search(&client(), kind, &pairs(query)).await)
}

#[tokio::test]
async fn what_a_list_refers_to() {
    let house = House::new().await;
    let (berg, dahl) = (house.patient("Berg").await, house.patient("Dahl").await);
    let weight = house.create(&observation(&berg, "29463-7")).await;
    house.create(&observation(&berg, "8867-4")).await;
    let item = |reference: String| json!({"item": {"reference": reference}});
    let list = json!({"resourceType": "List", "status": "current", "mode": "working",
        "subject": {"reference": format!("Patient/{berg}")},
        "entry": [item(format!("Observation/{weight}")), item(format!("Patient/{dahl}"))]});
    let list = house.create(&list).await;
    let in_list = format!("_list={list}");
    assert_eq!(
        found(&house, T::Observation, &in_list).await,
        std::slice::from_ref(&weight)
    );
    assert_eq!(found(&house, T::Patient, &in_list).await, [dahl]);
    assert!(
        found(&house, T::Observation, &format!("{in_list}&code=8867-4"))
            .await
            .is_empty()
    );
    assert!(
        found(&house, T::Observation, "_list=nothing")
            .await
            .is_empty()
    );
    assert_eq!(
        refused(&house, T::Observation, "_list=$current-problems").await,
        (400, "required".to_owned())
    );
    assert_eq!(refused(&house, T::Observation, "_list=a/b").await.0, 400);
    // What is in a list that may not be seen is not told.
    deny(&house, &berg).await;
    assert!(found(&house, T::Patient, &in_list).await.is_empty());
}

#[tokio::test]
async fn words_of_narratives_and_of_everything() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let condition = |code: &str, narrative: &str| {
        json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")}, "code": {"text": code},
            "text": {"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{narrative}</div>")}})
    };
    let heart = house
        .create(&condition("Heart failure", "since <b>May</b>"))
        .await;
    let lung = house
        .create(&condition("Asthma", "since June, with the heart"))
        .await;
    for (query, wanted) in [
        ("_text=heart", vec![&lung]),
        ("_content=heart", vec![&lung, &heart]),
        ("_content=heart may", vec![&heart]),
        ("_text=may,june", vec![&lung, &heart]),
        ("_text=xhtml", vec![]),
        ("_content=heart&code:text=asthma", vec![&lung]),
    ] {
        let found = found(&house, T::Condition, query).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{query}");
    }
    let query = format!("_filter=subject re Patient/{patient} and not(code pr false)&_text=may");
    assert_eq!(found(&house, T::Condition, &query).await, [heart]);
    assert_eq!(refused(&house, T::Condition, "_text=...").await.0, 400);
    assert_eq!(
        refused(&house, T::Condition, "_filter=subject re").await,
        (400, "invalid".to_owned())
    );
    assert_eq!(
        refused(&house, T::Condition, "_filter=nothing eq x").await,
        (400, "not-supported".to_owned())
    );
}

#[tokio::test]
async fn codes_are_those_that_are_stored_whole() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let mut made = Vec::new();
    for code in ["a", "b", "c", "x"] {
        let mut one = observation(&patient, code);
        one["code"]["coding"][0]["system"] = json!("http://codes");
        made.push(house.create(&one).await);
    }
    let all = [3, 2, 1, 0];
    let pick = |places: &[usize]| {
        places
            .iter()
            .map(|place| made[*place].clone())
            .collect::<Vec<_>>()
    };
    let ask = async |query: &str| found(&house, T::Observation, query).await;
    assert_eq!(
        refused(&house, T::Observation, "code:in=http://vs").await,
        (400, "not-supported".to_owned())
    );
    let system = json!({"resourceType": "CodeSystem", "status": "active", "content": "complete", "url": "http://codes",
        "concept": [{"code": "a", "concept": [{"code": "b", "concept": [{"code": "c"}]}]}, {"code": "d"}]});
    let stored = house.create(&system).await;
    let set = |compose: Value| json!({"resourceType": "ValueSet", "status": "active", "url": "http://vs", "version": "1", "compose": compose});
    let listed = house
        .create(&set(json!({"include": [{"system": "http://codes", "concept": [{"code": "a"}, {"code": "x"}]}]})))
        .await;
    for (query, places) in [
        ("code:in=http://vs".to_owned(), &[3, 0][..]),
        ("code:in=http://vs|1".to_owned(), &[3, 0]),
        (format!("code:in=ValueSet/{listed}"), &[3, 0]),
        ("code:not-in=http://vs".to_owned(), &[2, 1]),
        ("code:below=http://codes|b".to_owned(), &[2, 1]),
        ("code:above=http://codes|b".to_owned(), &[1, 0]),
        ("code:below=http://codes|d".to_owned(), &[]),
        (
            "_filter=code in http://vs or code sb http://codes|c".to_owned(),
            &[3, 2, 0],
        ),
        ("_filter=code ni http://vs".to_owned(), &[2, 1]),
        ("status=final".to_owned(), &all),
    ] {
        assert_eq!(ask(&query).await, pick(places), "{query}");
    }
    // Links have them too, and several types.
    let linked = found(
        &house,
        T::Patient,
        "_has:Observation:patient:code:in=http://vs",
    )
    .await;
    assert_eq!(linked, std::slice::from_ref(&patient));
    // A whole code system, without a part.
    let whole = json!({"include": [{"system": "http://codes"}], "exclude": [{"system": "http://codes", "concept": [{"code": "b"}]}]});
    let mut newer = set(whole);
    newer["version"] = json!("2");
    house.create(&newer).await;
    assert_eq!(ask("code:in=http://vs").await, pick(&[2, 0]));
    assert_eq!(ask("code:in=http://vs|1").await, pick(&[3, 0]));
    // What can't be known isn't guessed.
    let by_filter = json!({"include": [{"system": "http://codes", "filter": [{"property": "concept", "op": "is-a", "value": "a"}]}]});
    let mut filtered = set(by_filter);
    filtered["version"] = json!("3");
    house.create(&filtered).await;
    let mut fragment = system.clone();
    fragment["id"] = json!(stored);
    fragment["content"] = json!("fragment");
    for (query, code) in [
        ("code:in=http://vs", "not-supported"),
        ("code:in=http://vs|4", "not-supported"),
        ("code:below=http://codes|nothing", "not-supported"),
        ("code:below=http://others|a", "not-supported"),
        ("code:below=a", "value"),
        ("code:in=a", "value"),
    ] {
        assert_eq!(
            refused(&house, T::Observation, query).await,
            (400, code.to_owned()),
            "{query}"
        );
    }
    let (caller, body) = (client(), fragment.to_string());
    let preconditions = Preconditions::default();
    let update = house.record.update_if(
        &caller,
        T::CodeSystem,
        &stored,
        preconditions,
        body.as_bytes(),
    );
    update.await.unwrap();
    assert_eq!(
        refused(&house, T::Observation, "code:below=http://codes|b")
            .await
            .0,
        400
    );
    assert_eq!(
        refused(&house, T::Observation, "code:in=http://vs|2")
            .await
            .0,
        400
    );
    // Criteria are about the resource itself.
    let body = observation(&patient, "a").to_string();
    let criteria = house
        .record
        .conditional_create(
            &client(),
            T::Observation,
            "code:in=http://vs|1",
            body.as_bytes(),
        )
        .await;
    assert_eq!(wrong(criteria).0, 400);
}

#[tokio::test]
async fn filters_narrow_and_page_as_others_do() {
    let house = House::new().await;
    let (berg, dahl) = (house.patient("Berg").await, house.patient("Dahl").await);
    let mut wanted = Vec::new();
    for place in 0..9 {
        let patient = if place % 3 == 0 { &dahl } else { &berg };
        let id = house
            .create(&observation(
                patient,
                if place % 2 == 0 { "29463-7" } else { "8867-4" },
            ))
            .await;
        if place % 3 == 0 || place % 2 == 1 {
            wanted.push(id);
        }
    }
    wanted.reverse();
    let filter = format!("_filter=patient re Patient/{dahl} or code eq http://loinc.org|8867-4");
    let mut parameters = pairs(&format!("{filter}&_count=2"));
    let mut seen = Vec::new();
    loop {
        let page = house
            .record
            .search_by_post(&client(), T::Observation, &parameters)
            .await;
        let page = json_of(&page.unwrap());
        seen.extend(ids(&page));
        match crate::house::link(&page, "next") {
            Some(next) => parameters = next,
            None => break,
        }
    }
    assert_eq!(seen, wanted);
    let by_name = "_filter=patient.name eq Dahl and code eq 29463-7";
    assert_eq!(found(&house, T::Observation, by_name).await.len(), 2);
    let either = "_filter=patient.name eq Dahl or code eq x";
    assert_eq!(found(&house, T::Observation, either).await.len(), 3);
    let others = "_filter=not(patient.name eq Dahl) and code eq 29463-7";
    assert_eq!(found(&house, T::Observation, others).await.len(), 3);
    // Each type that a path can lead to keeps what is asked.
    let long = format!("_filter=patient.name eq \"{}\"", "x".repeat(17 << 10));
    assert_eq!(refused(&house, T::Observation, &long).await.0, 400);
}
