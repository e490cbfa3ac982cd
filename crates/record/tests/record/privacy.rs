//! What an answer tells, who hears of it, and what stays out of addresses.
use fhir::ResourceType as T;
use record::{Caller, Preconditions};
use serde_json::{Value, json};
use trust::{Purpose, Role};

use crate::house::{
    BASE, House, caller, client, json_of, link, minimal, observation, pairs, wrong,
};

const HIV: &str = "75622-1";

fn put(id: &str, if_match: &str) -> Value {
    json!({"resource": {"resourceType": "Basic", "id": id, "code": {"text": "x"}},
           "request": {"method": "PUT", "url": format!("Basic/{id}"), "ifMatch": if_match}})
}

/// Audit events that name a patient.
pub(crate) async fn looks_at(house: &House, patient: &str) -> Vec<Value> {
    let officer = caller(Role::PrivacyOfficer, Purpose::Operations);
    let mut found = Vec::new();
    for query in [
        format!("patient={patient}"),
        format!("entity=Patient/{patient}"),
    ] {
        let parameters = pairs(&format!("{query}&_count=1000"));
        let answer = house
            .record
            .search(&officer, T::AuditEvent, &parameters)
            .await;
        let page = json_of(&answer.unwrap());
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        found.push(
            entries
                .iter()
                .map(|entry| entry["resource"].clone())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(found[0], found[1], "both parameters find the same");
    found.remove(0)
}

/// The patient's consent that keeps clinical rows from other systems.
pub(crate) async fn deny(house: &House, patient: &str) {
    house
        .create(&json!({
            "resourceType": "Consent", "status": "active", "dateTime": "2026-11-25T00:00:00Z",
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "category": [{"text": "privacy"}], "patient": {"reference": format!("Patient/{patient}")},
            "policyRule": {"text": "none"}, "provision": {"type": "deny"},
        }))
        .await;
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn a_conditional_create_is_a_search_that_is_audited() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    house.create(&observation(&patient, HIV)).await;
    let criteria = format!("patient=Patient/{patient}&code=http://loinc.org|{HIV}");
    let body = observation(&patient, HIV).to_string();
    let ask = async |caller: &Caller| {
        house
            .record
            .conditional_create(caller, T::Observation, &criteria, body.as_bytes())
            .await
    };
    let before = looks_at(&house, &patient).await.len();
    let answer = ask(&minimal()).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let events = looks_at(&house, &patient).await;
    assert_eq!(events.len(), before + 1);
    assert_eq!(events[0]["subtype"][0]["code"], "search-type");
    let entities = events[0]["entity"].as_array().unwrap();
    assert!(
        entities.iter().any(|entity| entity.get("query").is_some()),
        "{entities:?}"
    );

    // What consent hides is not told: no address, no version, no date.
    deny(&house, &patient).await;
    for caller in [minimal(), client()] {
        let before = looks_at(&house, &patient).await.len();
        let error = ask(&caller).await.unwrap_err();
        assert_eq!(error.status, 412);
        assert!(!String::from_utf8_lossy(&error.to_json()).contains("Observation/"));
        assert_eq!(looks_at(&house, &patient).await.len(), before + 1);
    }
    assert_eq!(house.count(T::Observation).await, 0);
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn a_transaction_that_fails_leaves_a_trace_of_what_it_found() {
    let house = House::new().await;
    let patient = house
        .create(&json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": "123-45-6789"}]}))
        .await;
    let probe = |number: &str| {
        let mut weight = observation("x", "29463-7");
        weight["subject"]["reference"] = json!(format!("Patient?identifier=urn:ssn|{number}"));
        vec![
            json!({"resource": weight, "request": {"method": "POST", "url": "Observation"}}),
            put("nowhere", "W/\"999\""),
        ]
    };
    let before = looks_at(&house, &patient).await.len();
    for (number, expected) in [("000-00-0000", "not-found"), ("123-45-6789", "conflict")] {
        let result = house.bundle(&client(), "transaction", probe(number)).await;
        assert_eq!(wrong(result), (412, expected.to_owned()));
    }
    assert_eq!(looks_at(&house, &patient).await.len(), before + 1);

    // A conditional reference to what consent hides finds nothing, and no id gets into a resource.
    let mut lab = observation(&patient, HIV);
    lab["identifier"] = json!([{"system": "urn:lab", "value": "1"}]);
    house.create(&lab).await;
    deny(&house, &patient).await;
    let other = house.patient("Dahl").await;
    let mut derived = observation(&other, "29463-7");
    derived["derivedFrom"] = json!([{"reference": "Observation?identifier=urn:lab|1"}]);
    let entry = json!({"resource": derived, "request": {"method": "POST", "url": "Observation"}});
    let result = house.bundle(&client(), "transaction", vec![entry]).await;
    assert_eq!(wrong(result), (412, "not-found".to_owned()));
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn a_precondition_that_fails_is_a_look_at_the_resource() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let id = house.create(&observation(&patient, HIV)).await;
    let mut body = observation(&patient, HIV);
    body["id"] = json!(id);
    let body = body.to_string();
    let wrong_version = async || {
        let updated = house
            .record
            .update(
                &client(),
                T::Observation,
                &id,
                Some("W/\"7\""),
                body.as_bytes(),
            )
            .await
            .unwrap_err();
        let deleted = house
            .record
            .delete(&client(), T::Observation, &id, Some("W/\"7\""))
            .await
            .unwrap_err();
        let entry = json!({"request": {"method": "DELETE", "url": format!("Observation/{id}"), "ifMatch": "W/\"7\""}});
        let bundled = house
            .bundle(&client(), "transaction", vec![entry])
            .await
            .unwrap_err();
        [updated, deleted, bundled].map(|error| (error.status, error.outcome.summary()))
    };
    let before = looks_at(&house, &patient).await.len();
    for (status, words) in wrong_version().await {
        assert_eq!(status, 412);
        assert!(words.contains("newest version is 1"), "{words}");
    }
    assert_eq!(looks_at(&house, &patient).await.len(), before + 3);
    deny(&house, &patient).await;
    let before = looks_at(&house, &patient).await.len();
    for (status, words) in wrong_version().await {
        assert_eq!(status, 412);
        assert!(!words.contains("newest version"), "{words}");
    }
    // Each with what the consent decided.
    assert_eq!(looks_at(&house, &patient).await.len(), before + 6);
}

#[tokio::test]
async fn a_conditional_create_after_a_delete_may_be_for_another_patient() {
    let house = House::new().await;
    let (one, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let post = async |patient: &str| {
        let mut lab = observation(patient, "29463-7");
        lab["identifier"] = json!([{"system": "urn:lab", "value": "42"}]);
        let body = lab.to_string();
        let criteria = "identifier=urn:lab|42";
        let answer = house
            .record
            .conditional_create(&client(), T::Observation, criteria, body.as_bytes())
            .await;
        let answer = answer.unwrap();
        let shown = json_of(&answer);
        let id = shown["id"].as_str().unwrap().to_owned();
        (answer.status, shown["subject"]["reference"].clone(), id)
    };
    let (status, _, id) = post(&one).await;
    assert_eq!(status, 201);
    house
        .record
        .delete(&client(), T::Observation, &id, None)
        .await
        .unwrap();
    let (status, subject, anew) = post(&other).await;
    assert_eq!((status, subject), (201, json!(format!("Patient/{other}"))));
    assert_ne!(anew, id);
    assert_eq!(post(&one).await.0, 200);
}

#[tokio::test]
async fn an_update_that_may_not_overwrite_does_not() {
    let house = House::new().await;
    let body = json!({"resourceType": "Patient", "id": "p"}).to_string();
    let put = async |if_none_match: &'static str| {
        let preconditions = Preconditions {
            if_match: None,
            if_none_match: Some(if_none_match),
            ..Preconditions::default()
        };
        house
            .record
            .update_if(&client(), T::Patient, "p", preconditions, body.as_bytes())
            .await
    };
    assert_eq!(put("*").await.unwrap().version, Some(1));
    assert_eq!(wrong(put("*").await), (412, "conflict".to_owned()));
    assert_eq!(wrong(put("W/\"1\"").await), (412, "conflict".to_owned()));
    assert_eq!(put("W/\"2\"").await.unwrap().version, Some(2));
    house
        .record
        .delete(&client(), T::Patient, "p", None)
        .await
        .unwrap();
    assert_eq!(put("*").await.unwrap().version, Some(4));
    // Of many at once one makes it.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let record = house.record.clone();
        tasks.spawn(async move {
            let preconditions = Preconditions {
                if_match: None,
                if_none_match: Some("*"),
                ..Preconditions::default()
            };
            let body = json!({"resourceType": "Patient", "id": "q"}).to_string();
            let answer = record
                .update_if(&client(), T::Patient, "q", preconditions, body.as_bytes())
                .await;
            answer.map_or_else(|error| error.status, |answer| answer.status)
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn what_was_asked_in_a_body_is_in_no_link() {
    let house = House::new().await;
    for _ in 0..5 {
        house.create(&json!({"resourceType": "Patient", "name": [{"family": "Zanzibarski"}], "birthDate": "1950-02-03"})).await;
    }
    house.patient("Berg").await;
    let parameters = pairs("family=Zanzibarski&birthdate=1950-02-03&_count=2");
    let answer = house
        .record
        .search_by_post(&client(), T::Patient, &parameters)
        .await;
    let mut page = json_of(&answer.unwrap());
    let mut seen = 0;
    let mut pages = 0;
    loop {
        pages += 1;
        seen += page["entry"].as_array().unwrap().len();
        for link in page["link"].as_array().unwrap() {
            let url = link["url"].as_str().unwrap().to_lowercase();
            assert!(
                url.starts_with(&format!("{BASE}/Patient?_cursor=s").to_lowercase()),
                "{url}"
            );
            for word in ["zanzi", "1950", "family", "birth"] {
                assert!(!url.contains(word), "{url}");
            }
        }
        // The address of a page shows that page.
        let own = link(&page, "self").unwrap();
        let again = house
            .record
            .search(&client(), T::Patient, &own)
            .await
            .unwrap();
        assert_eq!(json_of(&again)["entry"], page["entry"]);
        let Some(next) = link(&page, "next") else {
            break;
        };
        page = json_of(
            &house
                .record
                .search(&client(), T::Patient, &next)
                .await
                .unwrap(),
        );
    }
    assert_eq!((pages, seen), (3, 5));

    // Good for this client and type, whole, and with nothing else.
    let own = link(&page, "self").unwrap();
    let mut changed = own.clone();
    let last = changed[0].1.pop().unwrap();
    changed[0].1.push(if last == 'A' { 'B' } else { 'A' });
    let mut more = own.clone();
    more.push(("_count".to_owned(), "9".to_owned()));
    let mut other = client();
    other.agent.id = "other".to_owned();
    for (caller, kind, parameters) in [
        (client(), T::Patient, changed),
        (client(), T::Patient, more),
        (client(), T::Person, own.clone()),
        (other, T::Patient, own),
        (client(), T::Patient, pairs("_cursor=s")),
    ] {
        let result = house.record.search(&caller, kind, &parameters).await;
        assert_eq!(wrong(result).0, 400, "{kind} {parameters:?}");
    }
    // Within a bundle it is the same.
    let entry = json!({"request": {"method": "GET", "url": "Patient?family=Zanzibarski&_count=2"}});
    let answer = house.bundle(&client(), "batch", vec![entry]).await.unwrap();
    let links = answer["entry"][0]["resource"]["link"].to_string();
    assert!(
        links.contains("next") && !links.contains("Zanzi"),
        "{links}"
    );
    // What is too long for a link is refused, when a link is needed.
    let names = |count: usize| vec!["Zanzibarski".repeat(10); count].join(",") + ",Zanzibarski";
    let long = |count: &str| {
        vec![
            ("family".to_owned(), names(170)),
            ("_count".to_owned(), count.to_owned()),
        ]
    };
    let refused = house
        .record
        .search_by_post(&client(), T::Patient, &long("2"))
        .await;
    assert_eq!(wrong(refused), (413, "too-long".to_owned()));
    let whole = house
        .record
        .search_by_post(&client(), T::Patient, &long("9"))
        .await;
    assert_eq!(json_of(&whole.unwrap())["total"], 5);
}

// Proves: 45 CFR 164.522(a)(1)(iii), 164.312(b)
#[tokio::test]
async fn every_patient_of_a_resource_is_asked_and_named() {
    let house = House::new().await;
    let (one, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let group = house
        .create(&json!({"resourceType": "Group", "type": "person", "actual": true,
            "member": [{"entity": {"reference": format!("Patient/{one}")}}, {"entity": {"reference": format!("Patient/{other}")}}]}))
        .await;
    for patient in [&one, &other] {
        let events = looks_at(&house, patient).await;
        let made = |event: &Value| event["entity"].to_string().contains(&group);
        assert!(events.iter().any(made), "{events:?}");
        let before = events.len();
        house.read(T::Group, &group).await;
        assert_eq!(looks_at(&house, patient).await.len(), before + 1);
    }
    deny(&house, &other).await;
    assert_eq!(
        wrong(house.record.read(&client(), T::Group, &group).await).0,
        404
    );
    assert_eq!(house.count(T::Group).await, 0);
}

#[tokio::test]
async fn what_can_be_in_no_record_is_refused() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let device = house
        .create(&json!({"resourceType": "Device", "patient": {"reference": format!("Patient/{patient}")}}))
        .await;
    assert_eq!(
        house.find(T::Device, &format!("patient={patient}")).await["total"],
        1
    );
    deny(&house, &patient).await;
    assert_eq!(
        wrong(house.record.read(&client(), T::Device, &device).await).0,
        404
    );

    let mut lost = observation("x", "29463-7");
    lost["subject"]["reference"] = json!("urn:uuid:typo");
    let document = json!({"resourceType": "Bundle", "type": "document", "entry": [{"resource": {"resourceType": "Patient"}}]});
    let binary = json!({"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="});
    for value in [&lost, &document, &binary] {
        let kind = crate::house::kind_of(value);
        let alone = house
            .record
            .create(&client(), kind, value.to_string().as_bytes())
            .await;
        assert_eq!(wrong(alone), (422, "business-rule".to_owned()), "{value}");
        let entry = json!({"resource": value, "request": {"method": "POST", "url": kind.name()}});
        let inside = house.bundle(&client(), "transaction", vec![entry]).await;
        assert_eq!(wrong(inside), (422, "business-rule".to_owned()), "{value}");
    }
    let mut kept = binary;
    kept["securityContext"] = json!({"reference": format!("Patient/{patient}")});
    house.create(&kept).await;
}

#[tokio::test]
async fn what_is_decided_without_rows_that_are_kept_says_so() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    house.create(&observation(&patient, HIV)).await;
    let plan = json!({"resourceType": "PlanDefinition", "status": "active", "action": [{"title": "Test",
        "input": [{"id": "tests", "type": "Observation", "codeFilter": [{"path": "code", "code": [{"code": HIV}]}]}],
        "condition": [{"kind": "applicability", "expression": {"language": "text/fhirpath", "expression": "%tests.empty()"}}]}]});
    let applied = async |plan: &Value| {
        let body = json!({"resourceType": "Parameters", "parameter": [
            {"name": "planDefinition", "resource": plan}, {"name": "subject", "valueString": format!("Patient/{patient}")}]});
        let body = body.to_string();
        let answer = house
            .record
            .apply(&client(), T::PlanDefinition, None, &[], body.as_bytes())
            .await;
        json_of(&answer.unwrap()).to_string()
    };
    let says = "may be kept from whoever asked";
    // What doesn't look at rows needs no such words.
    let simple = json!({"resourceType": "PlanDefinition", "status": "active", "action": [{"title": "Test"}]});
    deny(&house, &patient).await;
    let simple = applied(&simple).await;
    assert!(!simple.contains(says), "{simple}");
    let after = applied(&plan).await;
    assert!(after.contains(says), "{after}");
}
