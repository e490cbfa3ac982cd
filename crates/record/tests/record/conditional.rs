//! Conditional update, patch, delete and read: alone, in bundles, and many at once.
use std::collections::HashSet;

use fhir::ResourceType as T;
use record::{Answer, CONDITIONAL_DELETES_MAX, Caller, PatchForm, Preconditions, RecordError};
use serde_json::{Value, json};

use crate::house::{House, client, json_of, minimal, observation, pairs, wrong};
use crate::privacy::{deny, looks_at};

fn practitioner(number: &str) -> Value {
    json!({"resourceType": "Practitioner", "active": true, "identifier": [{"system": "urn:npi", "value": number}]})
}

async fn put(house: &House, criteria: &str, body: &Value) -> Result<Answer, RecordError> {
    let (criteria, body) = (pairs(criteria), body.to_string());
    let nothing = Preconditions::default();
    let kind = crate::house::kind_of(&serde_json::from_str(&body).unwrap());
    house
        .record
        .conditional_update(&client(), kind, &criteria, nothing, body.as_bytes())
        .await
}

async fn delete(
    house: &House,
    caller: &Caller,
    kind: T,
    criteria: &str,
) -> Result<Answer, RecordError> {
    let nothing = Preconditions::default();
    house
        .record
        .conditional_delete(caller, kind, &pairs(criteria), nothing)
        .await
}

#[tokio::test]
async fn an_update_by_criteria_is_of_one() {
    let house = House::new().await;
    let by = "identifier=urn:npi|1";
    let made = put(&house, by, &practitioner("1")).await.unwrap();
    assert_eq!((made.status, made.version), (201, Some(1)));
    let id = json_of(&made)["id"].as_str().unwrap().to_owned();
    let mut body = practitioner("1");
    body["active"] = json!(false);
    let again = put(&house, by, &body).await.unwrap();
    assert_eq!((again.status, again.version), (200, Some(2)));
    assert_eq!(json_of(&again)["id"], id);
    body["id"] = json!(id);
    assert_eq!(put(&house, by, &body).await.unwrap().version, Some(3));
    body["id"] = json!("other");
    assert_eq!(
        wrong(put(&house, by, &body).await),
        (400, "invalid".to_owned())
    );
    // What it makes has to be what it would find.
    let unlike = put(&house, by, &practitioner("2")).await;
    assert_eq!(wrong(unlike), (422, "business-rule".to_owned()));
    // An id of the client's own would be another place to create at.
    let mut owned = practitioner("3");
    owned["id"] = json!("three");
    let refused = put(&house, "identifier=urn:npi|3", &owned).await;
    assert_eq!(wrong(refused), (422, "business-rule".to_owned()));
    house.create(&practitioner("1")).await;
    let several = put(&house, by, &practitioner("1")).await;
    assert_eq!(wrong(several), (412, "multiple-matches".to_owned()));
    for (criteria, code) in [("", "invalid"), ("nothing=1", "not-supported")] {
        let refused = put(&house, criteria, &practitioner("1")).await;
        assert_eq!(wrong(refused), (400, code.to_owned()));
    }
    // It meets what a conditional create made, and the other way round.
    let body = practitioner("9").to_string();
    let created = house
        .record
        .conditional_create(
            &client(),
            T::Practitioner,
            "identifier=urn:npi|9",
            body.as_bytes(),
        )
        .await
        .unwrap();
    let updated = put(&house, "identifier=urn:npi|9", &practitioner("9"))
        .await
        .unwrap();
    assert_eq!(
        (created.status, updated.status, updated.version),
        (201, 200, Some(2))
    );

    let if_match = Preconditions {
        if_match: Some("W/\"1\""),
        ..Preconditions::default()
    };
    for criteria in ["identifier=urn:npi|9", "identifier=urn:npi|10"] {
        let refused = house
            .record
            .conditional_update(
                &client(),
                T::Practitioner,
                &pairs(criteria),
                if_match,
                body.as_bytes(),
            )
            .await;
        assert_eq!(wrong(refused), (412, "conflict".to_owned()), "{criteria}");
    }
}

#[tokio::test]
async fn many_updates_and_creates_at_once_make_one() {
    let house = House::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let record = house.record.clone();
        tasks.spawn(async move {
            let body = practitioner("1").to_string();
            let answer = if number % 2 == 0 {
                let (by, nothing) = (pairs("identifier=urn:npi|1"), Preconditions::default());
                record
                    .conditional_update(&client(), T::Practitioner, &by, nothing, body.as_bytes())
                    .await
            } else {
                let by = "identifier=urn:npi|1";
                record
                    .conditional_create(&client(), T::Practitioner, by, body.as_bytes())
                    .await
            };
            answer.map(|answer| json_of(&answer)["id"].as_str().unwrap().to_owned())
        });
    }
    let answers = tasks.join_all().await;
    // Some may have lost too often; none may have made another.
    let ids: HashSet<String> = answers.into_iter().flatten().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(house.count(T::Practitioner).await, 1);
}

#[tokio::test]
async fn a_delete_by_criteria_is_of_all_or_none() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    for code in ["1-8", "1-8", "2-6"] {
        house.create(&observation(&patient, code)).await;
    }
    let by = "code=http://loinc.org|1-8";
    let none = delete(
        &house,
        &client(),
        T::Observation,
        "code=http://loinc.org|9-9",
    )
    .await;
    assert_eq!(none.unwrap().status, 204);
    let stale = Preconditions {
        if_match: Some("W/\"2\""),
        ..Preconditions::default()
    };
    let refused = house
        .record
        .conditional_delete(&client(), T::Observation, &pairs(by), stale)
        .await;
    assert_eq!(wrong(refused), (412, "conflict".to_owned()));
    assert_eq!(house.count(T::Observation).await, 3);
    let done = delete(&house, &client(), T::Observation, by).await.unwrap();
    assert_eq!((done.status, done.version), (204, None));
    assert_eq!(house.count(T::Observation).await, 1);
    assert_eq!(
        wrong(delete(&house, &client(), T::Observation, "").await).0,
        400
    );
    let audit = delete(&house, &client(), T::AuditEvent, "patient=Patient/x").await;
    assert_eq!(wrong(audit).0, 405);

    // What consent hides is not there for who can't see it: nothing is told of it, and it stays.
    let hidden = house.create(&observation(&patient, "1-8")).await;
    deny(&house, &patient).await;
    let before = looks_at(&house, &patient).await.len();
    let answer = delete(&house, &client(), T::Observation, by).await;
    assert_eq!(answer.unwrap().status, 204);
    let bundle = json!({"request": {"method": "DELETE", "url": format!("Observation?{by}")}});
    let answer = house.bundle(&client(), "transaction", vec![bundle]).await;
    assert_eq!(
        answer.unwrap()["entry"][0]["response"]["status"],
        "204 No Content"
    );
    let patch = json!([{"op": "replace", "path": "/status", "value": "amended"}]).to_string();
    let answer = house
        .record
        .conditional_patch(
            &client(),
            T::Observation,
            &pairs(by),
            Preconditions::default(),
            PatchForm::Json,
            patch.as_bytes(),
        )
        .await;
    assert_eq!(wrong(answer).0, 404);
    assert_eq!(looks_at(&house, &patient).await.len(), before + 3);
    let ledger = house.trust.vault().ledger();
    let kind = ledger::Kind(T::Observation.code());
    let stored = ledger
        .get(crate::house::TENANT, kind, &hidden)
        .await
        .unwrap();
    assert!(stored.is_some_and(|stored| !stored.deleted && stored.version == 1));
}

#[tokio::test]
async fn one_resource_is_deleted_by_one_entry() {
    let house = House::new().await;
    let by = "identifier=urn:npi|1";
    let entry = json!({"request": {"method": "DELETE", "url": format!("Practitioner?{by}")}});
    // Where nothing is meant, nothing is meant twice.
    let answer = house
        .bundle(&client(), "transaction", vec![entry.clone(), entry.clone()])
        .await;
    assert!(answer.is_ok());
    house.create(&practitioner("1")).await;
    let answer = house
        .bundle(&client(), "transaction", vec![entry.clone(), entry])
        .await;
    assert_eq!(wrong(answer).0, 400);
    assert_eq!(house.count(T::Practitioner).await, 1);
}

#[tokio::test]
async fn a_delete_by_criteria_has_a_bound() {
    let house = House::new().await;
    let entry = json!({"resource": practitioner("1"), "request": {"method": "POST", "url": "Practitioner"}});
    let entries = vec![entry.clone(); CONDITIONAL_DELETES_MAX];
    house
        .bundle(&minimal(), "transaction", entries)
        .await
        .unwrap();
    house.create(&practitioner("1")).await;
    let by = "identifier=urn:npi|1";
    let refused = delete(&house, &client(), T::Practitioner, by).await;
    assert_eq!(wrong(refused), (412, "too-costly".to_owned()));
    let in_bundle = json!({"request": {"method": "DELETE", "url": format!("Practitioner?{by}")}});
    let refused = house
        .bundle(&client(), "transaction", vec![in_bundle.clone()])
        .await;
    assert_eq!(wrong(refused), (412, "too-costly".to_owned()));
    let one = house.find(T::Practitioner, "_count=1").await["entry"][0]["resource"]["id"].clone();
    house
        .record
        .delete(&client(), T::Practitioner, one.as_str().unwrap(), None)
        .await
        .unwrap();
    let answer = house
        .bundle(&client(), "transaction", vec![in_bundle])
        .await
        .unwrap();
    assert_eq!(answer["entry"][0]["response"]["status"], "204 No Content");
    assert_eq!(house.count(T::Practitioner).await, 0);
}

#[tokio::test]
async fn a_patch_by_criteria_is_of_one() {
    let house = House::new().await;
    let patch = async |criteria: &str| {
        let body = br#"[{"op":"replace","path":"/active","value":false}]"#;
        let (by, nothing) = (pairs(criteria), Preconditions::default());
        house
            .record
            .conditional_patch(
                &client(),
                T::Practitioner,
                &by,
                nothing,
                PatchForm::Json,
                body,
            )
            .await
    };
    house.create(&practitioner("1")).await;
    let answer = patch("identifier=urn:npi|1").await.unwrap();
    assert_eq!((answer.status, answer.version), (200, Some(2)));
    assert_eq!(json_of(&answer)["active"], false);
    assert_eq!(
        wrong(patch("identifier=urn:npi|2").await),
        (404, "not-found".to_owned())
    );
    house.create(&practitioner("1")).await;
    assert_eq!(
        wrong(patch("identifier=urn:npi|1").await),
        (412, "multiple-matches".to_owned())
    );
}

#[tokio::test]
async fn bundles_write_by_criteria() {
    let house = House::new().await;
    for kind in ["batch", "transaction"] {
        let old = house.create(&practitioner("1")).await;
        house.create(&practitioner("7")).await;
        house.create(&practitioner("7")).await;
        let group = json!({"resourceType": "Group", "type": "practitioner", "actual": true,
            "member": [{"entity": {"reference": "urn:uuid:7c1a2b8e-0000-4000-8000-000000000001"}}]});
        let mut entries = vec![
            json!({"request": {"method": "PUT", "url": "Practitioner?identifier=urn:npi|2"}, "resource": practitioner("2"),
                   "fullUrl": "urn:uuid:7c1a2b8e-0000-4000-8000-000000000001"}),
            json!({"request": {"method": "PATCH", "url": "Practitioner?identifier=urn:npi|1"},
                   "resource": {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
                       {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Practitioner.active"}, {"name": "value", "valueBoolean": false}]}]}}),
            json!({"request": {"method": "DELETE", "url": "Practitioner?identifier=urn:npi|7"}}),
        ];
        if kind == "transaction" {
            entries.push(json!({"request": {"method": "POST", "url": "Group"}, "resource": group}));
        }
        let answer = house
            .bundle(&client(), kind, entries.clone())
            .await
            .unwrap();
        let entry = |place: usize| &answer["entry"][place];
        let status = |place: usize| {
            entry(place)["response"]["status"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        // The transaction finds what the batch made.
        let first = if kind == "batch" {
            "201 Created"
        } else {
            "200 OK"
        };
        assert_eq!(
            [status(0), status(1), status(2)],
            [first, "200 OK", "204 No Content"],
            "{answer}"
        );
        assert_eq!(entry(1)["resource"]["id"], old);
        assert_eq!(entry(1)["resource"]["active"], false);
        if kind == "transaction" {
            let member = &entry(3)["resource"]["member"][0]["entity"]["reference"];
            let id = entry(0)["resource"]["id"].as_str().unwrap();
            assert_eq!(member, &json!(format!("Practitioner/{id}")));
        }
        assert_eq!(house.count(T::Practitioner).await, 2);
        delete(&house, &client(), T::Practitioner, "identifier=urn:npi|1")
            .await
            .unwrap();
    }

    // One resource is not in a transaction twice, whichever way it is named.
    let id = house.create(&practitioner("4")).await;
    let by_id = json!({"request": {"method": "DELETE", "url": format!("Practitioner/{id}")}});
    let by = json!({"request": {"method": "PUT", "url": "Practitioner?identifier=urn:npi|4"}, "resource": practitioner("4")});
    let made = json!({"request": {"method": "PUT", "url": "Practitioner?identifier=urn:npi|5"}, "resource": practitioner("5")});
    let created = json!({"request": {"method": "POST", "url": "Practitioner", "ifNoneExist": "identifier=urn:npi|5"}, "resource": practitioner("5")});
    for pair in [
        vec![by_id, by],
        vec![made.clone(), made.clone()],
        vec![created, made],
    ] {
        let refused = house.bundle(&client(), "transaction", pair.clone()).await;
        assert_eq!(wrong(refused), (400, "duplicate".to_owned()), "{pair:?}");
    }
    // A transaction that fails deletes nothing.
    let fails = vec![
        json!({"request": {"method": "DELETE", "url": "Practitioner?identifier=urn:npi|4"}}),
        json!({"request": {"method": "PUT", "url": "Practitioner?identifier=urn:npi|6"}, "resource": practitioner("5")}),
    ];
    let refused = house.bundle(&client(), "transaction", fails).await;
    assert_eq!(wrong(refused), (422, "business-rule".to_owned()));
    assert_eq!(
        house.find(T::Practitioner, "identifier=urn:npi|4").await["total"],
        1
    );
}

#[tokio::test]
async fn who_knows_a_version_is_not_sent_it_again() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let get = |name: &str, value: &str| json!({"request": {"method": "GET", "url": format!("Patient/{id}"), name: value}});
    let entries = vec![
        get("ifNoneMatch", "W/\"1\""),
        get("ifNoneMatch", "W/\"2\""),
        get("ifModifiedSince", "2026-11-26T00:00:00Z"),
        get("ifModifiedSince", "2026-11-25T00:00:00Z"),
    ];
    for kind in ["batch", "transaction"] {
        let answer = house
            .bundle(&client(), kind, entries.clone())
            .await
            .unwrap();
        let told = |place: usize| {
            let entry = &answer["entry"][place];
            let status = entry["response"]["status"].as_str().unwrap()[..3].to_owned();
            (status, entry.get("resource").is_some())
        };
        let (same, other) = (("304".to_owned(), false), ("200".to_owned(), true));
        assert_eq!(
            [told(0), told(1), told(2), told(3)],
            [same.clone(), other.clone(), same, other]
        );
    }
    let wrong_place = json!({"request": {"method": "DELETE", "url": format!("Patient/{id}"), "ifNoneMatch": "W/\"1\""}});
    let refused = house
        .bundle(&client(), "transaction", vec![wrong_place])
        .await;
    assert_eq!(wrong(refused), (400, "not-supported".to_owned()));
}

// Proves: 45 CFR 164.312(e)(2)(i)
#[tokio::test]
async fn what_was_changed_since_is_not_overwritten() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let at_s = crate::house::NOW_MS / 1000;
    house.clock.advance(5_000);
    let body = json!({"resourceType": "Patient", "id": id, "active": true}).to_string();
    let put = async |if_unmodified_since_s: u64| {
        let preconditions = Preconditions {
            if_unmodified_since_s: Some(if_unmodified_since_s),
            ..Preconditions::default()
        };
        house
            .record
            .update_if(&client(), T::Patient, &id, preconditions, body.as_bytes())
            .await
    };
    assert_eq!(wrong(put(at_s - 1).await), (412, "conflict".to_owned()));
    assert_eq!(put(at_s).await.unwrap().version, Some(2));
    assert_eq!(wrong(put(at_s).await), (412, "conflict".to_owned()));
    assert_eq!(put(at_s + 5).await.unwrap().version, Some(3));
}
