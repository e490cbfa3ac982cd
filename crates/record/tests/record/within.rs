//! Searches of several types at once, and of compartments.
use fhir::ResourceType as T;
use fhir::search::{Compartment, Scope};
use record::{Caller, RecordError};
use serde_json::{Value, json};
use trust::{Agent, Purpose, Role};

use crate::house::{BASE, House, TENANT, caller, client, json_of, link, observation, pairs, wrong};
use crate::privacy::{deny, looks_at};

async fn ask(
    house: &House,
    caller: &Caller,
    scope: &Scope,
    query: &str,
) -> Result<Value, RecordError> {
    let answer = house
        .record
        .search_within(caller, scope, &pairs(query))
        .await;
    answer.map(|answer| json_of(&answer))
}

async fn found(house: &House, scope: &Scope, query: &str) -> Vec<String> {
    names(&ask(house, &client(), scope, query).await.unwrap())
}

/// `Type/id` of the matches, in their order.
fn names(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let matches = entries
        .iter()
        .filter(|entry| entry["search"]["mode"] == "match");
    matches
        .map(|entry| {
            let resource = &entry["resource"];
            let text = |name: &str| resource[name].as_str().unwrap();
            format!("{}/{}", text("resourceType"), text("id"))
        })
        .collect()
}

fn within(kind: T, id: &str, of: Option<T>) -> Scope {
    Scope::Compartment(Compartment::of(kind, id).unwrap(), of)
}

/// A patient's own account.
fn own(patient: &str) -> Caller {
    Caller {
        agent: Agent {
            tenant: TENANT,
            id: "own".to_owned(),
            name: "Own".to_owned(),
            role: Role::Patient,
            patient: Some(patient.to_owned()),
            access: None,
            signed_in: trust::SignedIn::default(),
        },
        ..caller(Role::Patient, Purpose::PatientRequest)
    }
}

#[tokio::test]
async fn several_types_are_one_list() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let mut wanted = vec![format!("Patient/{patient}")];
    for place in 0..7 {
        let name = if place % 2 == 0 {
            let id = house.create(&observation(&patient, "29463-7")).await;
            format!("Observation/{id}")
        } else {
            let condition = json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")}, "code": {"coding": [{"code": "29463-7"}]}});
            format!("Condition/{}", house.create(&condition).await)
        };
        wanted.push(name);
    }
    house
        .create(&json!({"resourceType": "Organization", "name": "Berg"}))
        .await;
    wanted.reverse();
    let system = Scope::System;
    let all = found(&house, &system, "_type=Patient,Observation,Condition").await;
    assert_eq!(all, wanted);
    let two = "_type=Observation,Condition&code=29463-7&_total=accurate";
    let page = ask(&house, &client(), &system, two).await.unwrap();
    assert_eq!(
        (names(&page), &page["total"]),
        (wanted[..7].to_vec(), &json!(7))
    );
    assert_eq!(
        page["link"][0]["url"],
        format!("{BASE}?_type=Observation,Condition&code=29463-7&_total=accurate")
    );

    // Page by page, while others write; in either order.
    for (sort, descends) in [("", true), ("&_sort=_lastUpdated", false)] {
        let mut parameters = pairs(&format!(
            "_type=Observation,Condition,Patient&_count=3{sort}"
        ));
        let mut seen = Vec::new();
        loop {
            let caller = client();
            let answer = house.record.search_within(&caller, &system, &parameters);
            let page = json_of(&answer.await.unwrap());
            seen.extend(names(&page));
            if descends {
                house.create(&observation(&patient, "29463-7")).await;
            }
            match link(&page, "next") {
                Some(next) => parameters = next,
                None => break,
            }
        }
        if descends {
            assert_eq!(seen, wanted);
        } else {
            let mut first = wanted.clone();
            first.reverse();
            assert_eq!(seen[..8], first);
        }
    }

    // By POST no link shows what was asked.
    let post = house
        .record
        .search_within_by_post(
            &client(),
            &system,
            &pairs("_type=Patient,Condition&_count=1&_tag:not=x"),
        )
        .await;
    let page = json_of(&post.unwrap());
    let next = link(&page, "next").unwrap();
    assert_eq!((next.len(), next[0].0.as_str()), (1, "_cursor"));
    let page = json_of(
        &house
            .record
            .search_within(&client(), &system, &next)
            .await
            .unwrap(),
    );
    assert_eq!(names(&page), [wanted[3].clone()]);
    // A cursor is good for its own place only.
    for scope in [
        &within(T::Patient, &patient, None),
        &within(T::Patient, "x", None),
    ] {
        let refused = house.record.search_within(&client(), scope, &next).await;
        assert_eq!(wrong(refused).0, 400);
    }

    let entry = |url: &str| json!({"request": {"method": "GET", "url": url}});
    let urls = [
        "?_type=Patient,Condition&_count=1000".to_owned(),
        format!("Patient/{patient}/Condition?_count=1000"),
        format!("Patient/{patient}/*?_type=Condition"),
        format!("Patient/{patient}/Nothing"),
    ];
    let entries = urls.iter().map(|url| entry(url)).collect();
    let batch = house.bundle(&client(), "batch", entries).await.unwrap();
    let sizes = [4, 3, 3].map(Some);
    for (place, size) in sizes.iter().enumerate() {
        let answer = &batch["entry"][place]["resource"];
        assert_eq!(answer["entry"].as_array().map(Vec::len), *size, "{answer}");
    }
    assert_eq!(
        batch["entry"][3]["response"]["status"].as_str().unwrap()[..3],
        *"400"
    );
}

#[tokio::test]
async fn what_several_types_do_not_share_is_refused() {
    let house = House::new().await;
    house.patient("Berg").await;
    for query in [
        "code=x",
        "_type=Patient,Observation&code=x",
        "_type=Nothing",
        "_type=Patient,Observation&_sort=family",
        "_type=Parameters",
    ] {
        let refused = ask(&house, &client(), &Scope::System, query).await;
        assert_eq!(wrong(refused).0, 400, "{query}");
    }
    let lenient = Caller {
        lenient: true,
        ..client()
    };
    let page = ask(
        &house,
        &lenient,
        &Scope::System,
        "_type=Patient,Observation&code=x",
    )
    .await;
    let page = page.unwrap();
    let outcome = &page["entry"][1]["resource"];
    assert_eq!(outcome["issue"][0]["expression"][0], "code", "{page}");
}

#[tokio::test]
async fn a_compartment_is_what_r4_says() {
    let house = House::new().await;
    let (berg, dahl) = (house.patient("Berg").await, house.patient("Dahl").await);
    let practitioner = house.create(&json!({"resourceType": "Practitioner"})).await;
    let own_one = house.create(&observation(&berg, "29463-7")).await;
    let mut of_other = observation(&dahl, "29463-7");
    of_other["performer"] = json!([{"reference": format!("Practitioner/{practitioner}")}]);
    let other = house.create(&of_other).await;
    let allergy = json!({"resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{dahl}")},
        "recorder": {"reference": format!("Patient/{berg}")}});
    let allergy = house.create(&allergy).await;

    let of = |kind: T, id: &str, within_type| within(kind, id, within_type);
    let observations = of(T::Patient, &berg, Some(T::Observation));
    assert_eq!(
        found(&house, &observations, "").await,
        [format!("Observation/{own_one}")]
    );
    assert!(found(&house, &observations, "code=8867-4").await.is_empty());
    // One is in the compartments of two.
    for patient in [&berg, &dahl] {
        let scope = of(T::Patient, patient, Some(T::AllergyIntolerance));
        assert_eq!(
            found(&house, &scope, "").await,
            [format!("AllergyIntolerance/{allergy}")]
        );
    }
    let everything = found(&house, &of(T::Patient, &berg, None), "").await;
    let clinical: Vec<&String> = everything
        .iter()
        .filter(|name| !name.starts_with("AuditEvent/"))
        .collect();
    assert_eq!(
        clinical,
        [
            &format!("AllergyIntolerance/{allergy}"),
            &format!("Observation/{own_one}"),
            &format!("Patient/{berg}")
        ]
    );
    let of_practitioner = of(T::Practitioner, &practitioner, None);
    assert_eq!(
        found(&house, &of_practitioner, "_type=Observation,Practitioner").await,
        [
            format!("Observation/{other}"),
            format!("Practitioner/{practitioner}")
        ]
    );
    let refused = ask(
        &house,
        &client(),
        &of(T::Patient, &berg, Some(T::Organization)),
        "",
    )
    .await;
    assert_eq!(wrong(refused).0, 400);
    let sorted = of(T::Patient, &dahl, None);
    let sorted = found(
        &house,
        &sorted,
        "_type=Observation,AllergyIntolerance,Patient&_sort=_id",
    )
    .await;
    let mut ids: Vec<&str> = sorted
        .iter()
        .map(|name| name.split_once('/').unwrap().1)
        .collect();
    let in_order = ids.clone();
    ids.sort_unstable();
    assert_eq!((in_order.len(), in_order), (3, ids));
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn lists_of_several_types_show_what_each_row_allows() {
    let house = House::new().await;
    let (berg, dahl) = (house.patient("Berg").await, house.patient("Dahl").await);
    for patient in [&berg, &dahl] {
        house.create(&observation(patient, "29463-7")).await;
        house
            .create(
                &json!({"resourceType": "Flag", "status": "active", "code": {"text": "x"},
            "subject": {"reference": format!("Patient/{patient}")}}),
            )
            .await;
    }
    let all = "_type=Observation,Patient&_total=accurate";
    let count = async |caller: &Caller, scope: &Scope, query: &str| {
        let page = ask(&house, caller, scope, query).await.unwrap();
        assert_eq!(page["total"].as_u64().unwrap() as usize, names(&page).len());
        names(&page).len()
    };
    assert_eq!(count(&client(), &Scope::System, all).await, 4);
    // A patient sees their own.
    assert_eq!(count(&own(&dahl), &Scope::System, all).await, 2);
    let refused = ask(&house, &own(&dahl), &within(T::Patient, &berg, None), "").await;
    assert_eq!(wrong(refused).0, 403);
    // What a consent hides is neither shown nor counted.
    deny(&house, &berg).await;
    assert_eq!(count(&client(), &Scope::System, all).await, 3);
    let scope = within(T::Patient, &berg, Some(T::Observation));
    assert_eq!(count(&client(), &scope, "_total=accurate").await, 0);
    // It is a look at the patient all the same, told as it was asked.
    let events = looks_at(&house, &berg).await;
    let queries: Vec<String> = (events[0]["entity"].as_array().unwrap().iter())
        .filter_map(|entity| entity["query"].as_str())
        .map(|text| {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            String::from_utf8(bytes.unwrap()).unwrap()
        })
        .collect();
    assert_eq!(
        queries,
        [format!("Patient/{berg}/Observation?_total=accurate")]
    );
    // Types that somebody may not search have nothing to show them, unless they are named.
    let officer = caller(Role::PrivacyOfficer, Purpose::Operations);
    let page = ask(&house, &officer, &Scope::System, "_count=1000")
        .await
        .unwrap();
    let kinds: std::collections::BTreeSet<String> = names(&page)
        .iter()
        .map(|name| name.split_once('/').unwrap().0.to_owned())
        .collect();
    assert!(kinds.contains("AuditEvent"), "{kinds:?}");
    let refused: Vec<&str> = ["Observation", "Flag"]
        .into_iter()
        .filter(|kind| !kinds.contains(*kind))
        .collect();
    for kind in &refused {
        let named = ask(&house, &officer, &Scope::System, &format!("_type={kind}")).await;
        assert_eq!(wrong(named).0, 403);
    }
}

#[tokio::test]
async fn parameters_that_each_type_would_keep_have_a_bound() {
    let house = House::new().await;
    house.patient("Berg").await;
    let caller = client();
    let long = format!("_tag={}", "x".repeat(16 << 10));
    let many = format!("_tag={}", vec!["a"; 200].join(","));
    for (query, code) in [(&long, "too-long"), (&many, "too-costly")] {
        let refused = ask(&house, &caller, &Scope::System, query).await;
        assert_eq!(wrong(refused), (400, code.to_owned()));
        let posted = pairs(query);
        let refused = house
            .record
            .search_within_by_post(&caller, &Scope::System, &posted);
        assert_eq!(wrong(refused.await), (400, code.to_owned()));
    }
    for query in [&long, &many] {
        let asked = pairs(query);
        let found = house.record.search(&caller, T::Patient, &asked);
        assert!(found.await.is_ok());
    }
    let longer = format!("_tag={}", "x".repeat(1 << 20));
    let asked = pairs(&longer);
    let refused = house.record.search(&caller, T::Patient, &asked);
    assert_eq!(wrong(refused.await), (400, "too-long".to_owned()));
}
