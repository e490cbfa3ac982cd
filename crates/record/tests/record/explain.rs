//! `$explain`: the plan and the cost of a search, and what must not be in it.
use fhir::ResourceType as T;
use record::Caller;
use serde_json::{Value, json};
use trust::{Purpose, Role};

use crate::house::{House, caller, client, json_of, observation, pairs, wrong};
use crate::privacy::{deny, looks_at};

async fn explain(house: &House, caller: &Caller, kind: T, query: &str) -> Value {
    let answer = house.record.explain(caller, kind, &pairs(query)).await;
    let told = json_of(&answer.unwrap());
    let resource = fhir::Resource::from_value(told.clone()).unwrap();
    assert_eq!(fhir::validate::check(&resource), []);
    told
}

fn named<'a>(told: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let list = told["parameter"].as_array().or(told["part"].as_array());
    list.into_iter()
        .flatten()
        .filter(move |one| one["name"] == name)
}

fn value<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    let one = of["part"]
        .as_array()?
        .iter()
        .find(|one| one["name"] == name)?;
    let mut members = one.as_object()?.iter();
    let (_, value) = members.find(|(member, _)| member.starts_with("value"))?;
    Some(value)
}

/// Numbers of parts, zero where there is none.
fn counts<const N: usize>(told: &Value, name: &str, parts: [&str; N]) -> [u64; N] {
    let one = named(told, name).next().expect("the parameter");
    parts.map(|part| value(one, part).and_then(Value::as_u64).unwrap_or(0))
}

/// Parameter, type, modifier, values, way and lists of each clause.
fn clauses(told: &Value) -> Vec<String> {
    let text = |one: &Value, name: &str| {
        let value = value(one, name);
        value.map_or_else(String::new, |value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let line = |one: &Value| {
        let parts = ["parameter", "type", "modifier", "values", "way", "lists"];
        parts.map(|part| text(one, part)).join(" ")
    };
    named(told, "clause").map(line).collect()
}

#[tokio::test]
async fn it_tells_how_each_parameter_is_answered_and_what_that_costs() {
    let house = House::new().await;
    for (family, born, system) in [
        ("Bergström", "1950-02-03", "urn:a"),
        ("Berg", "1950-03-03", "urn:b"),
        ("Dahl", "1950-02-03", "urn:b"),
    ] {
        house
            .create(
                &json!({"resourceType": "Patient", "birthDate": born, "name": [{"family": family}],
                "identifier": [{"system": system, "value": "17"}]}),
            )
            .await;
    }
    let query = "family=bergström,nobody&given:contains=x&birthdate=1950-02-03&gender:not=male&_lastUpdated=gt2020";
    let told = explain(&house, &client(), T::Patient, query).await;
    let found = clauses(&told);
    assert_eq!(found[0], "family string  2 lists 2");
    assert_eq!(found[1], "given string contains 1 check ");
    assert!(
        found[2].starts_with("birthdate date  1 lists "),
        "{found:?}"
    );
    assert_eq!(found[3], "gender token not 1 lists-taken-away 1");
    assert_eq!(found[4], "_lastUpdated date  1 place ");
    assert_eq!(found.len(), 5);
    let text = told.to_string().to_lowercase();
    for secret in ["berg", "nobody", "1950", "male"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let plan = named(&told, "plan").next().unwrap()["valueString"].as_str();
    let plan = plan.unwrap();
    for part in [
        "`family`",
        "`birthdate`",
        "without those in the lists of `gender`",
        "newest first",
    ] {
        assert!(plan.contains(part), "{part} is not in {plan}");
    }

    // Lists hold codes of all systems; the check takes the others out.
    let told = explain(
        &house,
        &client(),
        T::Patient,
        "identifier=urn:b|17&_count=1",
    )
    .await;
    assert_eq!(counts(&told, "opened", ["matched", "turned-down"]), [2, 0]);
    let result = named(&told, "result").next().unwrap();
    assert_eq!(value(result, "more"), Some(&json!(true)));
    assert_eq!(value(result, "total"), None, "nobody has counted them");
    let told = explain(&house, &client(), T::Patient, "identifier=urn:a|17").await;
    assert_eq!(counts(&told, "opened", ["matched", "turned-down"]), [1, 2]);
    assert_eq!(counts(&told, "result", ["rows", "total"]), [1, 1]);
    let sorted = explain(&house, &client(), T::Patient, "_sort=family&_count=1").await;
    assert_eq!(
        counts(&sorted, "opened", ["matched", "turned-down"]),
        [3, 0]
    );
    let plan = named(&sorted, "plan").next().unwrap()["valueString"].as_str();
    let plan = plan.unwrap();
    assert!(
        plan.starts_with("All rows of Patient are candidates"),
        "{plan}"
    );
    assert!(plan.contains("_sort"), "{plan}");
    let bounds: Vec<&Value> = named(&told, "bound").collect();
    assert_eq!(value(bounds[0], "value"), Some(&json!(100_000)));
    assert_eq!(value(bounds[1], "name"), Some(&json!("words-read")));
    assert_eq!(value(bounds[1], "value"), Some(&json!(10_000)));
}

#[tokio::test]
async fn it_tells_of_links_and_of_what_is_included() {
    let house = House::new().await;
    let berg = house.patient("Berg").await;
    let dahl = house.patient("Dahl").await;
    for patient in [&berg, &berg, &dahl] {
        house.create(&observation(patient, "8867-4")).await;
    }
    let query = "subject:Patient.family=berg&_include=Observation:subject";
    let told = explain(&house, &client(), T::Observation, query).await;
    let link = named(&told, "link").next().expect("a link");
    assert_eq!(value(link, "parameter"), Some(&json!("subject")));
    assert_eq!(value(link, "type"), Some(&json!("Patient")));
    let inner = named(link, "clause").next().expect("a clause within");
    assert_eq!(value(inner, "parameter"), Some(&json!("family")));
    // From which end it was followed, hidden rows have a part in.
    for name in ["clause", "opened", "opened-for-links"] {
        assert_eq!(named(&told, name).count(), 0, "{name}");
    }
    assert_eq!(counts(&told, "result", ["rows", "included"]), [2, 1]);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn what_is_hidden_is_in_no_count() {
    let house = House::new().await;
    let berg = house.patient("Berg").await;
    let dahl = house.patient("Dahl").await;
    let mut other = observation(&dahl, "75622-1");
    other["code"]["coding"][0]["system"] = json!("urn:other");
    let queries = [
        "code=75622-1&_total=accurate",
        "code=http://loinc.org|75622-1&_total=accurate",
        "_sort=code",
        "subject:Patient.family=dahl",
        "subject:Patient.family=berg",
    ];
    let coordinator = caller(Role::Coordinator, Purpose::Treatment);
    // All but the time.
    let all = async || {
        let mut all = Vec::new();
        for query in queries {
            let mut told = explain(&house, &coordinator, T::Observation, query).await;
            let list = told["parameter"].as_array_mut().unwrap();
            list.retain(|one| one["name"] != "time");
            all.push(told);
        }
        all
    };
    house.create(&observation(&berg, "75622-1")).await;
    deny(&house, &dahl).await;
    let before = all().await;
    assert_eq!(
        counts(&before[0], "opened", ["matched", "turned-down"]),
        [1, 0]
    );
    // One that matches, and one that the check turns down.
    house.create(&observation(&dahl, "75622-1")).await;
    house.create(&other).await;
    assert_eq!(all().await, before);
    let clinician = caller(Role::Clinician, Purpose::Treatment);
    let told = explain(&house, &clinician, T::Observation, queries[1]).await;
    assert_eq!(counts(&told, "opened", ["matched", "turned-down"]), [2, 1]);
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn it_needs_the_permit_of_the_search_and_is_audited_as_one() {
    let house = House::new().await;
    let berg = house.patient("Berg").await;
    let before = looks_at(&house, &berg).await.len();
    explain(&house, &client(), T::Patient, "family=berg").await;
    let after = looks_at(&house, &berg).await;
    assert_eq!(after.len(), before + 1);
    let record = &after[0];
    assert_eq!(record["subtype"][0]["code"], "search-type");
    let entities = record["entity"].to_string();
    assert!(entities.contains(&format!("Patient/{berg}")), "{entities}");
    let officer = caller(Role::PrivacyOfficer, Purpose::Operations);
    let ask = async |caller: &Caller, query: &str| {
        let kind = T::Observation;
        house.record.explain(caller, kind, &pairs(query)).await
    };
    let searched = house.record.search(&officer, T::Observation, &[]).await;
    let refused = wrong(ask(&officer, "").await);
    assert_eq!((refused.0, refused), (403, wrong(searched)));
    assert_eq!(wrong(ask(&client(), "colour=red").await).0, 400);
    assert_eq!(wrong(ask(&client(), "_cursor=0").await).0, 400);
}

/// More matches than are looked at at a time, and some that the check turns down among them.
#[tokio::test]
async fn what_takes_several_looks_is_counted_once() {
    let house = House::new().await;
    let entries = (0..700)
        .map(|number| {
            let system = if number % 7 == 0 { "urn:b" } else { "urn:a" };
            json!({"resource": {"resourceType": "Patient", "identifier": [{"system": system, "value": "17"}]},
                   "request": {"method": "POST", "url": "Patient"}})
        })
        .collect();
    let caller = crate::house::minimal();
    house.bundle(&caller, "transaction", entries).await.unwrap();
    let parts = ["matched", "turned-down"];
    for query in [
        "identifier=urn:a|17&_sort=_id&_count=3",
        "identifier=urn:a|17&_sort=-_id&_count=500&_total=accurate",
        "identifier=urn:a|17&_count=3&_total=accurate",
    ] {
        let told = explain(&house, &client(), T::Patient, query).await;
        assert_eq!(counts(&told, "opened", parts), [600, 100], "{query}");
    }
}

#[tokio::test]
async fn a_search_that_is_too_costly_is_explained() {
    let house = House::new().await;
    let berg = house.patient("Berg").await;
    let entries = (0..1001)
        .map(|_| {
            json!({"resource": observation(&berg, "8867-4"),
                   "request": {"method": "POST", "url": "Observation"}})
        })
        .collect();
    let caller = crate::house::minimal();
    house.bundle(&caller, "transaction", entries).await.unwrap();
    let query = "family=berg&_revinclude=Observation:subject";
    let searched = house
        .record
        .search(&client(), T::Patient, &pairs(query))
        .await;
    assert_eq!(wrong(searched), (422, "too-costly".to_owned()));
    let told = explain(&house, &client(), T::Patient, query).await;
    assert_eq!(clauses(&told), ["family string  1 lists 1"]);
    let outcome = &named(&told, "outcome").next().expect("an outcome")["resource"];
    assert_eq!(outcome["issue"][0]["code"], "too-costly");
    assert!(named(&told, "result").next().is_none());
}

/// The newest rows in the other lists are looked at without a range's lists; what that doesn't find, the
/// lists do.
#[tokio::test]
async fn lists_of_wide_ranges_are_read_when_the_newest_rows_are_not_enough() {
    let house = House::new().await;
    let entries = (0..400)
        .map(|number| {
            let born = if number < 5 {
                "1961-05-06"
            } else {
                "2011-05-06"
            };
            json!({"resource": {"resourceType": "Patient", "gender": "female", "birthDate": born},
                   "request": {"method": "POST", "url": "Patient"}})
        })
        .collect();
    let caller = crate::house::minimal();
    house.bundle(&caller, "transaction", entries).await.unwrap();
    let parts = ["matched", "turned-down"];

    // Old ones lie behind more rows than are looked at.
    let old = "gender=female&birthdate=ge1950-01-01&birthdate=lt1970-03-04";
    let told = explain(&house, &client(), T::Patient, old).await;
    let plan = named(&told, "plan").next().unwrap()["valueString"].as_str();
    let plan = plan.unwrap();
    assert!(plan.contains("Before the lists of wide ranges"), "{plan}");
    let [matched, turned_down] = counts(&told, "opened", parts);
    assert_eq!(matched, 5);
    assert!((1..395).contains(&turned_down), "{turned_down}");
    assert_eq!(counts(&told, "result", ["rows", "total"]), [5, 5]);

    // New ones fill the page before the lists are read.
    let new = "gender=female&birthdate=ge1990-01-01&birthdate=lt2020-03-04&_count=10";
    let told = explain(&house, &client(), T::Patient, new).await;
    assert_eq!(counts(&told, "opened", parts), [11, 0]);

    // A total counts all, and reads the lists at once.
    let told = explain(
        &house,
        &client(),
        T::Patient,
        &format!("{old}&_total=accurate"),
    )
    .await;
    assert_eq!(counts(&told, "opened", parts), [5, 0]);
}
