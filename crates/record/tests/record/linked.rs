//! What is answered beside matches, and found through other resources.
use fhir::ResourceType as T;
use serde_json::{Value, json};
use trust::{Purpose, Role};

use crate::house::{BASE, House, caller, client, link, observation, pairs, wrong};

/// Mode and `Type/id` of each entry.
fn entries(bundle: &Value) -> Vec<(String, String)> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let of = |entry: &Value| {
        let url = entry["fullUrl"].as_str().unwrap_or_default();
        (
            entry["search"]["mode"].as_str().unwrap().to_owned(),
            url.trim_start_matches(BASE)
                .trim_start_matches('/')
                .to_owned(),
        )
    };
    entries.iter().map(of).collect()
}

fn entry(mode: &str, kind: &str, id: &str) -> (String, String) {
    (mode.to_owned(), format!("{kind}/{id}"))
}

/// An organisation, its patient, and an observation of the patient.
async fn three(house: &House) -> (String, String, String) {
    let organization = house
        .create(&json!({"resourceType": "Organization", "name": "Ward"}))
        .await;
    let patient = house
        .create(
            &json!({"resourceType": "Patient", "name": [{"family": "Berg"}],
            "managingOrganization": {"reference": format!("Organization/{organization}")}}),
        )
        .await;
    let weight = house.create(&observation(&patient, "29463-7")).await;
    (organization, patient, weight)
}

#[tokio::test]
async fn what_is_included_follows_the_matches() {
    let house = House::new().await;
    let (organization, patient, weight) = three(&house).await;
    let ask = "code=29463-7&_include=Observation:subject&_include:iterate=Patient:organization";
    let found = house.find(T::Observation, ask).await;
    assert_eq!(
        entries(&found),
        [
            entry("match", "Observation", &weight),
            entry("include", "Patient", &patient),
            entry("include", "Organization", &organization),
        ]
    );
    assert_eq!(found["total"], 1, "what is included doesn't count");
    assert_eq!(
        link(&found, "self").unwrap(),
        pairs(ask),
        "the link says what was asked"
    );
    assert_eq!(
        fhir::validate::check(&fhir::Resource::from_value(found).unwrap()),
        []
    );
    let found = house
        .find(T::Patient, "family=berg&_revinclude=Observation:patient")
        .await;
    assert_eq!(
        entries(&found),
        [
            entry("match", "Patient", &patient),
            entry("include", "Observation", &weight),
        ]
    );
}

#[tokio::test]
async fn pages_include_what_belongs_to_their_rows() {
    let house = House::new().await;
    let (_, patient, first) = three(&house).await;
    let (_, other, second) = three(&house).await;
    let ask = "code=29463-7&_count=1&_include=Observation:subject";
    let page = house.find(T::Observation, ask).await;
    assert_eq!(
        entries(&page),
        [
            entry("match", "Observation", &second),
            entry("include", "Patient", &other)
        ]
    );
    let next = link(&page, "next").unwrap();
    let page = house.record.search(&client(), T::Observation, &next).await;
    assert_eq!(
        entries(&crate::house::json_of(&page.unwrap())),
        [
            entry("match", "Observation", &first),
            entry("include", "Patient", &patient)
        ]
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn what_may_not_be_looked_at_is_not_included() {
    let house = House::new().await;
    let (_, patient, _) = three(&house).await;
    // Privacy officers see who patients are, and nothing clinical.
    let officer = caller(Role::PrivacyOfficer, Purpose::Operations);
    let ask = |query: &str| {
        let (officer, house, query) = (officer.clone(), &house, pairs(query));
        async move { house.record.search(&officer, T::Patient, &query).await }
    };
    let refused = ask("family=berg&_revinclude=Observation:patient").await;
    assert_eq!(wrong(refused), (403, "forbidden".to_owned()));
    let all = ask("family=berg&_revinclude=*").await.unwrap();
    assert_eq!(
        entries(&crate::house::json_of(&all)),
        [entry("match", "Patient", &patient)]
    );
    let malformed = ask("_include=Patient:name").await;
    assert_eq!(wrong(malformed), (400, "value".to_owned()));
}

#[tokio::test]
async fn criteria_of_a_create_include_nothing() {
    let house = House::new().await;
    let patient = json!({"resourceType": "Patient"}).to_string();
    let criteria = "identifier=x&_include=Patient:organization";
    let refused = house
        .record
        .conditional_create(&client(), T::Patient, criteria, patient.as_bytes())
        .await;
    assert_eq!(wrong(refused), (400, "invalid".to_owned()));
}

#[tokio::test]
async fn what_is_linked_is_found() {
    let house = House::new().await;
    let (organization, patient, weight) = three(&house).await;
    let (_, other, _) = three(&house).await;
    for (kind, query, name, id) in [
        (
            T::Observation,
            format!("patient._id={patient}"),
            "Observation",
            &weight,
        ),
        (
            T::Observation,
            format!("subject:Patient.organization={BASE}/Organization/{organization}"),
            "Observation",
            &weight,
        ),
        (
            T::Patient,
            format!("organization._id={organization}&_has:Observation:patient:code=29463-7"),
            "Patient",
            &patient,
        ),
        (
            T::Organization,
            format!("_has:Patient:organization:_has:Observation:subject:_id={weight}"),
            "Organization",
            &organization,
        ),
    ] {
        let found = house.find(kind, &query).await;
        assert_eq!(entries(&found), [entry("match", name, id)], "{query}");
        let own = link(&found, "self").unwrap();
        assert_eq!(own, pairs(&query), "the link says what was asked");
    }
    // The next page asks the same.
    let ask = "patient.name=berg&_count=1";
    let page = house.find(T::Observation, ask).await;
    let next = link(&page, "next").unwrap();
    let page = house.record.search(&client(), T::Observation, &next).await;
    let page = crate::house::json_of(&page.unwrap());
    assert_eq!(entries(&page), [entry("match", "Observation", &weight)]);
    assert!(link(&page, "next").is_none());
    // Chains that lead nowhere are said to.
    for query in [
        "code.name=x",
        "subject:Medication.code=x",
        "_has:Observation:code:code=x",
        "patient.name:nothing=x",
    ] {
        let (client, query) = (client(), pairs(query));
        let refused = house.record.search(&client, T::Observation, &query).await;
        assert_eq!(wrong(refused).0, 400, "{query:?}");
    }
    let body = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}});
    let criteria = format!("patient.name=berg&patient={other}");
    let refused = house
        .record
        .conditional_create(
            &client(),
            T::Observation,
            &criteria,
            body.to_string().as_bytes(),
        )
        .await;
    assert_eq!(wrong(refused), (400, "not-supported".to_owned()));
}

#[tokio::test]
async fn sorted_pages_follow_each_other_by_their_links() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for name in ["d", "b", "c", "a", "e"] {
        ids.push((name, house.patient(name).await));
    }
    ids.sort_unstable();
    let wanted: Vec<_> = (ids.iter())
        .map(|(_, id)| entry("match", "Patient", id))
        .collect();
    let client = client();
    let mut parameters = pairs("_sort=family&_count=2&_total=estimate");
    let mut seen = Vec::new();
    for page in 1..=3 {
        let answer = house.record.search(&client, T::Patient, &parameters).await;
        let found = crate::house::json_of(&answer.unwrap());
        assert_eq!(found["total"], 5);
        seen.extend(entries(&found));
        match link(&found, "next") {
            Some(next) => parameters = next,
            None => assert_eq!(page, 3),
        }
    }
    assert_eq!(seen, wanted);
    // By POST, what was asked is not in the links.
    let asked = pairs("_sort=-family&_count=3");
    let answer = house
        .record
        .search_by_post(&client, T::Patient, &asked)
        .await;
    let found = crate::house::json_of(&answer.unwrap());
    let mut seen = entries(&found);
    let next = link(&found, "next").unwrap();
    assert_eq!(next.len(), 1);
    let answer = house.record.search(&client, T::Patient, &next).await;
    seen.extend(entries(&crate::house::json_of(&answer.unwrap())));
    seen.reverse();
    assert_eq!(seen, wanted);
    // A place in one order is none in another.
    let mut other = parameters.clone();
    other[0].1 = "birthdate".to_owned();
    let refused = house.record.search(&client, T::Patient, &other).await;
    assert_eq!(wrong(refused).0, 400);
    let unknown = house
        .record
        .search(&client, T::Patient, &pairs("_sort=x"))
        .await;
    assert_eq!(wrong(unknown), (400, "value".to_owned()));
}
