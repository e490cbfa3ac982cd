//! Operations: `$meta` and its kin, `$validate`, `$everything`, `$lastn`.
use std::collections::HashSet;

use fhir::ResourceType as T;
use record::MetaChange;
use serde_json::{Value, json};
use trust::{Purpose, Role};

use crate::house::{House, caller, client, json_of, link, observation, pairs, wrong};
use crate::privacy::{deny, looks_at};

fn meta_of(answer: &record::Answer) -> Value {
    json_of(answer)["parameter"][0]["valueMeta"].clone()
}

fn given(meta: Value) -> Vec<u8> {
    let parameters =
        json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]});
    parameters.to_string().into_bytes()
}

#[tokio::test]
async fn tags_are_added_and_taken_away() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let change = async |change, meta: Value| {
        house
            .record
            .change_meta(&client(), T::Patient, &id, change, &given(meta))
            .await
    };
    let tag = json!({"system": "urn:s", "code": "a", "display": "A"});
    let added = change(
        MetaChange::Add,
        json!({"tag": [tag], "profile": ["http://x.org/p"], "versionId": "77"}),
    )
    .await
    .unwrap();
    assert_eq!(added.version, Some(2));
    assert_eq!(meta_of(&added)["versionId"], "2");
    assert_eq!(meta_of(&added)["tag"], json!([tag]));
    // The rest of the resource is as it was.
    let read = house.read(T::Patient, &id).await;
    assert_eq!(
        (&read["name"][0]["family"], &read["meta"]["tag"]),
        (&json!("Berg"), &json!([tag]))
    );
    // Again changes nothing, so there is no version of it.
    let again = change(
        MetaChange::Add,
        json!({"tag": [{"system": "urn:s", "code": "a"}]}),
    )
    .await
    .unwrap();
    assert_eq!(
        (again.version, meta_of(&again)["tag"][0]["display"].clone()),
        (Some(2), json!("A"))
    );
    let found = house.find(T::Patient, "_tag=urn:s|a").await;
    assert_eq!(found["total"], 1);
    let gone = change(
        MetaChange::Delete,
        json!({"tag": [{"system": "urn:s", "code": "a"}]}),
    )
    .await
    .unwrap();
    assert_eq!(gone.version, Some(3));
    assert_eq!(meta_of(&gone).get("tag"), None);
    assert_eq!(meta_of(&gone)["profile"], json!(["http://x.org/p"]));
    let now = house.record.meta(&client(), T::Patient, &id, None).await;
    assert_eq!(meta_of(&now.unwrap())["versionId"], "3");
    let then = house
        .record
        .meta(&client(), T::Patient, &id, Some("2"))
        .await;
    assert_eq!(meta_of(&then.unwrap())["tag"], json!([tag]));

    for (body, status) in [
        (b"{}".to_vec(), 400),
        (
            json!({"resourceType": "Parameters"})
                .to_string()
                .into_bytes(),
            400,
        ),
        (
            json!({"resourceType": "Patient"}).to_string().into_bytes(),
            400,
        ),
        (given(json!({"tag": [{"cod": "a"}]})), 400),
    ] {
        let refused = house
            .record
            .change_meta(&client(), T::Patient, &id, MetaChange::Add, &body)
            .await;
        assert_eq!(wrong(refused).0, status);
    }
    let nowhere = house
        .record
        .change_meta(
            &client(),
            T::Patient,
            "nowhere",
            MetaChange::Add,
            &given(json!({"tag": [tag]})),
        )
        .await;
    assert_eq!(wrong(nowhere).0, 404);
    // What consent hides has no labels to tell either.
    let hidden = house.create(&observation(&id, "8867-4")).await;
    deny(&house, &id).await;
    for change in [MetaChange::Add, MetaChange::Delete] {
        let refused = house
            .record
            .change_meta(
                &client(),
                T::Observation,
                &hidden,
                change,
                &given(json!({"tag": [tag]})),
            )
            .await;
        assert_eq!(wrong(refused).0, 404);
    }
}

#[tokio::test]
async fn validating_writes_nothing_and_tells_what_a_write_would() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let ask = async |id: Option<&str>, query: &str, body: &Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = house
            .record
            .validate(&client(), T::Patient, id, &pairs(query), body.as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        let outcome = json_of(&answer);
        let issues = outcome["issue"].as_array().unwrap().clone();
        let said = |issue: &Value| {
            format!(
                "{} {} {}",
                issue["severity"].as_str().unwrap(),
                issue["code"].as_str().unwrap(),
                issue["expression"][0].as_str().unwrap_or("-")
            )
        };
        issues.iter().map(said).collect::<Vec<_>>()
    };
    let fine = ["information informational -"];
    let patient = json!({"resourceType": "Patient", "gender": "male"});
    let own = json!({"resourceType": "Patient", "id": id});
    assert_eq!(ask(None, "", &patient).await, fine);
    assert_eq!(ask(None, "mode=create", &patient).await, fine);
    assert_eq!(ask(None, "mode=update", &own).await, fine);
    assert_eq!(ask(Some(&id), "mode=update", &own).await, fine);
    assert_eq!(ask(Some(&id), "mode=delete", &Value::Null).await, fine);
    let wrapped = json!({"resourceType": "Parameters", "parameter": [
        {"name": "mode", "valueCode": "create"}, {"name": "resource", "resource": patient}]});
    assert_eq!(ask(None, "", &wrapped).await, fine);
    assert_eq!(
        ask(
            None,
            "mode=create",
            &json!({"resourceType": "Patient", "gender": "F", "x": 1})
        )
        .await,
        [
            "error code-invalid Patient.gender",
            "error structure Patient.x"
        ]
    );
    assert_eq!(
        ask(None, "", &json!({"resourceType": "Group"})).await[0],
        "error invalid resourceType"
    );
    assert_eq!(
        ask(None, "mode=update", &patient).await,
        ["error required Patient.id"]
    );
    assert_eq!(
        ask(Some("other"), "mode=update", &own).await,
        ["error invalid Patient.id"]
    );
    assert_eq!(
        ask(Some("other"), "mode=delete", &Value::Null).await,
        ["error not-found -"]
    );
    assert_eq!(
        ask(None, "profile=http://x.org/p", &patient).await,
        ["error not-supported -"]
    );
    assert_eq!(house.count(T::Patient).await, 1);
    // Who may not write is told so where it is asked.
    let officer = caller(Role::PrivacyOfficer, Purpose::Operations);
    let answer = house
        .record
        .validate(
            &officer,
            T::Patient,
            None,
            &pairs("mode=create"),
            patient.to_string().as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(json_of(&answer)["issue"][0]["code"], "forbidden");
    for (query, body) in [
        ("mode=guess", patient.to_string()),
        ("", String::new()),
        ("x=1", patient.to_string()),
    ] {
        let refused = house
            .record
            .validate(&client(), T::Patient, None, &pairs(query), body.as_bytes())
            .await;
        assert_eq!(wrong(refused).0, 400, "{query}");
    }
}

/// Pages through everything of a patient.
async fn everything(house: &House, id: &str, query: &str) -> Vec<Value> {
    let mut parameters = pairs(query);
    let mut found = Vec::new();
    loop {
        let page = house
            .record
            .everything(&client(), id, &parameters)
            .await
            .unwrap();
        let page = json_of(&page);
        found.push(page.clone());
        match link(&page, "next") {
            Some(next) => parameters = next,
            None => return found,
        }
    }
}

fn references(pages: &[Value]) -> Vec<String> {
    let entries = pages
        .iter()
        .flat_map(|page| page["entry"].as_array().cloned().unwrap_or_default());
    entries
        .filter(|entry| entry["search"]["mode"] == "match")
        .map(|entry| {
            let part = |name: &str| entry["resource"][name].as_str().unwrap().to_owned();
            format!("{}/{}", part("resourceType"), part("id"))
        })
        .collect()
}

#[tokio::test]
async fn everything_of_a_patient_page_by_page() {
    let house = House::new().await;
    let (own, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let mut expected = HashSet::from([format!("Patient/{own}")]);
    for number in 0..7 {
        let id = house.create(&observation(&own, &number.to_string())).await;
        expected.insert(format!("Observation/{id}"));
        house.create(&observation(&other, "x")).await;
    }
    for _ in 0..4 {
        let condition = json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{own}")}});
        expected.insert(format!("Condition/{}", house.create(&condition).await));
    }
    for count in [1, 2, 3, 4, 5, 11, 12, 13, 50] {
        let pages = everything(&house, &own, &format!("_count={count}")).await;
        let found = references(&pages);
        assert_eq!(found.len(), expected.len(), "{count}");
        assert_eq!(found.iter().cloned().collect::<HashSet<_>>(), expected);
        assert_eq!(pages.len(), expected.len().div_ceil(count), "{count}");
        assert_eq!(found[0], format!("Patient/{own}"));
        let total = (pages.len() == 1).then_some(expected.len());
        assert_eq!(pages[0]["total"].as_u64(), total.map(|total| total as u64));
    }
    let only = everything(&house, &own, "_type=Condition&_summary=true").await;
    assert_eq!(references(&only).len(), 4);
    assert_eq!(
        only[0]["entry"][0]["resource"]["meta"]["tag"][0]["code"],
        "SUBSETTED"
    );

    // A type that may not be looked at is refused where it is named.
    let refused = house
        .record
        .everything(&client(), &own, &pairs("_type=AuditEvent"))
        .await;
    assert_eq!(wrong(refused).0, 403);

    // Each row is decided: what consent hides is on no page. And audited.
    let before = looks_at(&house, &own).await.len();
    everything(&house, &own, "").await;
    // A read of the patient, and one search.
    assert_eq!(looks_at(&house, &own).await.len(), before + 2);
    deny(&house, &own).await;
    let left = references(&everything(&house, &own, "").await);
    assert!(
        left.iter()
            .all(|one| one.starts_with("Patient/") || one.starts_with("Consent/")),
        "{left:?}"
    );
    assert!(!left.is_empty());
}

#[tokio::test]
async fn everything_brings_what_the_record_refers_to() {
    let house = House::new().await;
    let own = house.patient("Berg").await;
    let organization = house
        .create(&json!({"resourceType": "Organization", "name": "Ward"}))
        .await;
    let doctor = house.create(&json!({"resourceType": "Practitioner"})).await;
    house.create(&json!({"resourceType": "Practitioner"})).await;
    for _ in 0..3 {
        let mut seen = observation(&own, "8867-4");
        seen["performer"] = json!([{"reference": format!("Practitioner/{doctor}")}, {"reference": format!("Organization/{organization}")}]);
        house.create(&seen).await;
    }
    let around = |pages: &[Value]| -> Vec<String> {
        let entries = pages
            .iter()
            .flat_map(|page| page["entry"].as_array().cloned().unwrap_or_default());
        entries
            .filter(|entry| entry["search"]["mode"] == "include")
            .map(|entry| entry["fullUrl"].as_str().unwrap().to_owned())
            .collect()
    };
    let own_url = |kind: &str, id: &str| format!("{}/{kind}/{id}", crate::house::BASE);
    let pages = everything(&house, &own, "").await;
    // Each once, and neither counted nor paged.
    assert_eq!(
        around(&pages),
        [
            own_url("Organization", &organization),
            own_url("Practitioner", &doctor)
        ]
    );
    assert_eq!(pages[0]["total"], 4);
    assert_eq!(around(&everything(&house, &own, "_count=2").await).len(), 4);
    let some = everything(&house, &own, "_type=Observation,Practitioner").await;
    assert_eq!(around(&some), [own_url("Practitioner", &doctor)]);
    assert!(around(&everything(&house, &own, "_type=Observation").await).is_empty());
}

#[tokio::test]
async fn everything_has_the_schedules_of_the_patient_and_no_others() {
    let house = House::new().await;
    let (own, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let schedule = async |actors: &[String]| {
        let actors = actors.iter().map(|actor| json!({"reference": actor}));
        let actors: Vec<Value> = actors.collect();
        let schedule = json!({"resourceType": "Schedule", "actor": actors});
        format!("Schedule/{}", house.create(&schedule).await)
    };
    let mine = [
        schedule(&[format!("Patient/{own}")]).await,
        schedule(&["Practitioner/p".to_owned(), format!("Patient/{own}")]).await,
    ];
    schedule(&[format!("Patient/{other}")]).await;
    schedule(&["Practitioner/p".to_owned()]).await;
    for query in ["", "_type=Schedule", "_count=1"] {
        let found = references(&everything(&house, &own, query).await);
        let found: HashSet<String> = (found.into_iter())
            .filter(|name| name.starts_with("Schedule/"))
            .collect();
        assert_eq!(found, HashSet::from(mine.clone()), "{query}");
    }
}

#[tokio::test]
async fn everything_since_a_moment_and_under_writes() {
    let house = House::new().await;
    let own = house.patient("Berg").await;
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(house.create(&observation(&own, &number.to_string())).await);
    }
    house.clock.advance(60_000);
    let late = house.create(&observation(&own, "late")).await;
    let since = everything(&house, &own, "_since=2026-11-26T00:00:30Z").await;
    assert_eq!(references(&since), [format!("Observation/{late}")]);

    // Writes between the pages: nothing that stayed as it was is lost or doubled, and what changed is told.
    let first = json_of(
        &house
            .record
            .everything(&client(), &own, &pairs("_count=3"))
            .await
            .unwrap(),
    );
    let mut changed = observation(&own, "changed");
    changed["id"] = json!(ids[0]);
    let updated = house
        .record
        .update(
            &client(),
            T::Observation,
            &ids[0],
            None,
            changed.to_string().as_bytes(),
        )
        .await;
    assert_eq!(updated.unwrap().status, 200);
    house.create(&observation(&own, "new")).await;
    let mut pages = vec![first];
    while let Some(next) = link(pages.last().unwrap(), "next") {
        let page = house.record.everything(&client(), &own, &next).await;
        pages.push(json_of(&page.unwrap()));
    }
    let found = references(&pages);
    let mut expected: Vec<String> = vec![format!("Patient/{own}"), format!("Observation/{late}")];
    expected.extend(ids[1..].iter().rev().map(|id| format!("Observation/{id}")));
    assert_eq!(found, expected);
    assert!(pages.iter().any(|page| {
        page.to_string()
            .contains("were changed since the first page")
    }));

    let everything = async |id: &str, query: &str| {
        wrong(house.record.everything(&client(), id, &pairs(query)).await)
    };
    assert_eq!(everything("nowhere", "").await.0, 404);
    for query in [
        "_count=0",
        "_type=Practitioner",
        "_since=x",
        "start=2020",
        "_cursor=00",
    ] {
        assert_eq!(everything(&own, query).await.0, 400, "{query}");
    }
    // A cursor is for the record and the question that it was made for.
    let next = link(&pages[0], "next").unwrap();
    let other = house.patient("Dahl").await;
    assert_eq!(
        wrong(house.record.everything(&client(), &other, &next).await).0,
        400
    );
}

#[tokio::test]
async fn the_newest_of_each_code() {
    let house = House::new().await;
    let own = house.patient("Berg").await;
    let at = |code: &str, day: u32| {
        let mut made = observation(&own, code);
        made["effectiveDateTime"] = json!(format!("2026-11-{day:02}"));
        made
    };
    let mut ids = Vec::new();
    for (code, day) in [("a", 3), ("a", 5), ("b", 1), ("a", 4), ("b", 2)] {
        ids.push(house.create(&at(code, day)).await);
    }
    // A third one says that `b` and `c` are the same.
    let mut both = at("b", 6);
    both["code"]["coding"]
        .as_array_mut()
        .unwrap()
        .push(json!({"system": "http://loinc.org", "code": "c"}));
    ids.push(house.create(&both).await);
    ids.push(house.create(&at("c", 7)).await);
    let ask = async |query: &str| {
        let answer = house.record.lastn(&client(), &pairs(query), true).await;
        let found = json_of(&answer.unwrap());
        let entries = found["entry"].as_array().cloned().unwrap_or_default();
        assert_eq!(found["total"], entries.len());
        let id = |entry: &Value| {
            ids.iter()
                .position(|id| entry["resource"]["id"] == id.as_str())
        };
        entries.iter().filter_map(id).collect::<Vec<_>>()
    };
    let patient = format!("patient=Patient/{own}");
    assert_eq!(ask(&patient).await, [6, 1]);
    assert_eq!(ask(&format!("{patient}&max=3")).await, [6, 5, 4, 1, 3, 0]);
    assert_eq!(
        ask(&format!("subject=Patient/{own}&max=100")).await.len(),
        7
    );
    assert_eq!(
        ask(&format!("{patient}&code=http://loinc.org|a")).await,
        [1]
    );
    assert_eq!(
        ask(&format!("{patient}&subject:Patient._id={own}&code=a")).await,
        [1]
    );
    // What is not shown leaves no trace of having been seen, what is shown does.
    let before = looks_at(&house, &own).await.len();
    ask(&format!("{patient}&code=http://loinc.org|a")).await;
    let events = looks_at(&house, &own).await;
    assert_eq!(events.len(), before + 1);
    assert!(!events[0].to_string().contains(&ids[0]) && events[0].to_string().contains(&ids[1]));
    deny(&house, &own).await;
    assert!(ask(&patient).await.is_empty());
    for query in [
        "",
        "code=x",
        "patient=Patient/x&max=0",
        "patient=Patient/x&_count=2",
        "patient=Patient/x&foo=1",
        "patient=Patient/x&_include=Observation:subject",
    ] {
        let refused = house.record.lastn(&client(), &pairs(query), true).await;
        assert_eq!(wrong(refused).0, 400, "{query}");
    }
}

#[tokio::test]
async fn what_operations_are_given_has_a_bound() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let tags: Vec<Value> = (0..300)
        .map(|tag| json!({"system": "urn:tags", "code": tag.to_string()}))
        .collect();
    let body = json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": tags}}]});
    let body = body.to_string().into_bytes();
    let many = house
        .record
        .change_meta(&client(), T::Patient, &id, MetaChange::Add, &body)
        .await;
    assert_eq!(wrong(many), (400, "too-long".to_owned()));
    let long = vec![b' '; record::RESOURCE_BYTES_MAX + 1];
    let long_validate = house
        .record
        .validate(&client(), T::Patient, None, &[], &long)
        .await;
    assert_eq!(wrong(long_validate), (413, "too-long".to_owned()));
}
