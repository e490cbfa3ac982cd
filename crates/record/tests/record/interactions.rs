//! Read, vread, history, create, update, delete, metadata.
use std::collections::HashSet;

use fhir::ResourceType as T;
use record::{Caller, PreferReturn, RESOURCE_BYTES_MAX};
use serde_json::{Value, json};
use trust::{Purpose, Role};

use crate::house::{
    BASE, House, caller, client, json_of, link, minimal, observation, pairs, wrong,
};

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test]
async fn a_resource_lives_through_its_versions() {
    let house = House::new().await;
    let body = json!({"resourceType": "Patient", "id": "ignored", "meta": {"versionId": "9", "lastUpdated": "2001-01-01T00:00:00Z",
                      "tag": [{"code": "kept"}]}, "name": [{"family": "Berg"}]});
    let created = house
        .record
        .create(&client(), T::Patient, body.to_string().as_bytes())
        .await
        .unwrap();
    let first = json_of(&created);
    let id = first["id"].as_str().unwrap().to_owned();
    assert_ne!(id, "ignored");
    assert_eq!((created.status, created.version), (201, Some(1)));
    assert_eq!(created.location, Some(format!("Patient/{id}/_history/1")));
    assert_eq!(
        first["meta"],
        json!({"versionId": "1", "lastUpdated": "2026-11-26T00:00:00.000Z", "tag": [{"code": "kept"}]})
    );

    house.clock.advance(1000);
    let body = json!({"resourceType": "Patient", "id": id, "name": [{"family": "Dahl"}]});
    let updated = house
        .record
        .update(
            &client(),
            T::Patient,
            &id,
            Some("W/\"1\""),
            body.to_string().as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!((updated.status, updated.version), (200, Some(2)));
    assert_eq!(
        json_of(&updated)["meta"]["lastUpdated"],
        "2026-11-26T00:00:01.000Z"
    );

    let read = house.record.read(&client(), T::Patient, &id).await.unwrap();
    assert_eq!((read.status, read.version), (200, Some(2)));
    assert_eq!(json_of(&read), json_of(&updated));
    let old = house
        .record
        .version(&client(), T::Patient, &id, "1")
        .await
        .unwrap();
    assert_eq!(json_of(&old)["name"][0]["family"], "Berg");
    assert_eq!(
        wrong(house.record.version(&client(), T::Patient, &id, "3").await).0,
        404
    );

    house.clock.advance(1000);
    let deleted = house
        .record
        .delete(&client(), T::Patient, &id, None)
        .await
        .unwrap();
    assert_eq!(
        (deleted.status, deleted.version, deleted.body.len()),
        (204, Some(3), 0)
    );
    let again = house
        .record
        .delete(&client(), T::Patient, &id, None)
        .await
        .unwrap();
    assert_eq!((again.status, again.version), (204, None));
    assert_eq!(
        wrong(house.record.read(&client(), T::Patient, &id).await),
        (410, "deleted".to_owned())
    );
    assert_eq!(
        wrong(house.record.version(&client(), T::Patient, &id, "3").await),
        (410, "deleted".to_owned())
    );
    assert_eq!(
        house
            .record
            .version(&client(), T::Patient, &id, "2")
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(house.count(T::Patient).await, 0);

    house.clock.advance(1000);
    let back = house
        .record
        .update(
            &client(),
            T::Patient,
            &id,
            None,
            body.to_string().as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!((back.status, back.version), (201, Some(4)));

    let history = json_of(
        &house
            .record
            .history(&client(), T::Patient, &id, &[])
            .await
            .unwrap(),
    );
    assert_eq!(
        (&history["type"], &history["total"]),
        (&json!("history"), &json!(4))
    );
    let entries = history["entry"].as_array().unwrap();
    let seen: Vec<(&str, &str, &str, bool)> = entries
        .iter()
        .map(|entry| {
            let text = |part: &'static str, name: &'static str| entry[part][name].as_str().unwrap();
            (
                text("request", "method"),
                text("response", "status"),
                text("response", "etag"),
                entry.get("resource").is_some(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("PUT", "201 Created", "W/\"4\"", true),
            ("DELETE", "204 No Content", "W/\"3\"", false),
            ("PUT", "200 OK", "W/\"2\"", true),
            ("PUT", "201 Created", "W/\"1\"", true),
        ]
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry["fullUrl"] == format!("{BASE}/Patient/{id}"))
    );
}

#[tokio::test]
async fn history_is_paged_and_bounded_in_time() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    for number in 2..=7 {
        house.clock.advance(1000);
        let body = json!({"resourceType": "Patient", "id": id, "name": [{"family": format!("Berg{number}")}]});
        house
            .record
            .update(
                &client(),
                T::Patient,
                &id,
                None,
                body.to_string().as_bytes(),
            )
            .await
            .unwrap();
    }
    let mut versions = Vec::new();
    let mut parameters = pairs("_count=3");
    loop {
        let page = json_of(
            &house
                .record
                .history(&client(), T::Patient, &id, &parameters)
                .await
                .unwrap(),
        );
        let entries = page["entry"].as_array().unwrap();
        assert!(entries.len() <= 3);
        versions.extend(entries.iter().map(|entry| {
            entry["resource"]["meta"]["versionId"]
                .as_str()
                .unwrap()
                .to_owned()
        }));
        match link(&page, "next") {
            Some(next) => parameters = next,
            None => break,
        }
    }
    assert_eq!(versions, ["7", "6", "5", "4", "3", "2", "1"]);
    let since = pairs("_since=2026-11-26T00:00:05Z");
    let page = json_of(
        &house
            .record
            .history(&client(), T::Patient, &id, &since)
            .await
            .unwrap(),
    );
    assert_eq!(page["entry"].as_array().unwrap().len(), 2);

    assert_eq!(
        wrong(
            house
                .record
                .history(&client(), T::Patient, "unknown", &[])
                .await
        )
        .0,
        404
    );
    for bad in ["_count=x", "_since=x", "_at=gt2020", "_cursor=0000"] {
        assert_eq!(
            wrong(
                house
                    .record
                    .history(&client(), T::Patient, &id, &pairs(bad))
                    .await
            )
            .0,
            400,
            "{bad}"
        );
    }
    // A cursor of one history is not good for another.
    let other = house.patient("Dahl").await;
    let next = json_of(
        &house
            .record
            .history(&client(), T::Patient, &id, &pairs("_count=3"))
            .await
            .unwrap(),
    );
    let next = link(&next, "next").unwrap();
    assert_eq!(
        wrong(
            house
                .record
                .history(&client(), T::Patient, &other, &next)
                .await
        )
        .0,
        400
    );
}

#[tokio::test]
async fn ids_say_the_shard_of_their_patient() {
    let house = House::new().await;
    let ledger = house.trust.vault().ledger().clone();
    let tenant = client().agent.tenant;
    let patient = house.patient("Berg").await;
    let owner = ledger::Owner::Patient(patient.clone());
    let shard = ledger.shard_of(tenant, &owner, &patient).to_string();
    assert!(patient.starts_with(&shard), "{patient} in {shard}");
    let weight = house.create(&observation(&patient, "29463-7")).await;
    assert!(weight.starts_with(&shard), "{weight} in {shard}");
    let practitioner = house.create(&json!({"resourceType": "Practitioner"})).await;
    assert!(
        practitioner.starts_with(
            &ledger
                .shard_of(tenant, &ledger::Owner::Tenant, &practitioner)
                .to_string()
        )
    );
}

#[tokio::test]
async fn updates_keep_their_promises() {
    let house = House::new().await;
    let put = async |id: &str, if_match: Option<&'static str>, body: Value| {
        house
            .record
            .update(
                &client(),
                T::Patient,
                id,
                if_match,
                body.to_string().as_bytes(),
            )
            .await
    };
    let patient = |id: &str| json!({"resourceType": "Patient", "id": id});
    let created = put("chosen-1", None, patient("chosen-1")).await.unwrap();
    assert_eq!((created.status, created.version), (201, Some(1)));
    assert_eq!(
        put("chosen-1", None, patient("chosen-1"))
            .await
            .unwrap()
            .status,
        200
    );
    for (id, if_match, body, status, code) in [
        (
            "chosen-1",
            Some("W/\"1\""),
            patient("chosen-1"),
            412,
            "conflict",
        ),
        (
            "chosen-1",
            Some("W/\"x\""),
            patient("chosen-1"),
            400,
            "value",
        ),
        (
            "unknown",
            Some("W/\"1\""),
            patient("unknown"),
            412,
            "conflict",
        ),
        ("unknown", Some("*"), patient("unknown"), 412, "conflict"),
        ("chosen-1", None, patient("other"), 400, "invalid"),
        (
            "chosen-1",
            None,
            json!({"resourceType": "Patient"}),
            400,
            "invalid",
        ),
        ("chosen_1", None, patient("chosen_1"), 400, "value"),
        (
            "chosen-1",
            None,
            json!({"resourceType": "Group", "id": "chosen-1"}),
            400,
            "invalid",
        ),
        (
            "chosen-1",
            None,
            json!({"resourceType": "Patient", "id": "chosen-1", "gender": "x", "birthDate": 7}),
            422,
            "code-invalid",
        ),
    ] {
        assert_eq!(
            wrong(put(id, if_match, body.clone()).await),
            (status, code.to_owned()),
            "{id} {if_match:?} {body}"
        );
    }
    assert_eq!(
        put("chosen-1", Some("*"), patient("chosen-1"))
            .await
            .unwrap()
            .version,
        Some(3)
    );
    assert_eq!(
        put("chosen-1", Some("3"), patient("chosen-1"))
            .await
            .unwrap()
            .version,
        Some(4)
    );
    let history = json_of(
        &house
            .record
            .history(&client(), T::Patient, "chosen-1", &[])
            .await
            .unwrap(),
    );
    assert_eq!(history["entry"][3]["request"]["method"], "PUT");
}

#[tokio::test]
async fn a_resource_stays_with_its_patient() {
    let house = House::new().await;
    let (one, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let id = house.create(&observation(&one, "29463-7")).await;
    let mut moved = observation(&other, "29463-7");
    moved["id"] = json!(id);
    let result = house
        .record
        .update(
            &client(),
            T::Observation,
            &id,
            None,
            moved.to_string().as_bytes(),
        )
        .await;
    assert_eq!(wrong(result), (422, "business-rule".to_owned()));
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test]
async fn updates_at_once_make_one_version_each() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (record, id) = (house.record.clone(), id.clone());
        tasks.spawn(async move {
            let body = json!({"resourceType": "Patient", "id": id, "name": [{"family": format!("Berg{number}")}]});
            record.update(&client(), T::Patient, &id, None, body.to_string().as_bytes()).await.unwrap().version.unwrap()
        });
    }
    let versions: HashSet<u32> = tasks.join_all().await.into_iter().collect();
    assert_eq!(versions, (2..=7).collect());
}

// Proves: 45 CFR 164.312(e)(2)(i)
#[tokio::test]
async fn only_one_of_many_updates_of_a_version_goes_through() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (record, id) = (house.record.clone(), id.clone());
        tasks.spawn(async move {
            let body = json!({"resourceType": "Patient", "id": id});
            record
                .update(
                    &client(),
                    T::Patient,
                    &id,
                    Some("W/\"1\""),
                    body.to_string().as_bytes(),
                )
                .await
                .map_err(|error| error.status)
        });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        done.iter()
            .all(|result| !matches!(result, Err(status) if *status != 412))
    );
}

#[tokio::test]
async fn conditional_creates_at_once_make_one_resource() {
    let house = House::new().await;
    let (one, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..32 {
        let record = house.record.clone();
        // Different patients on purpose: what is unique is the identifier.
        let mut body = observation(if number % 2 == 0 { &one } else { &other }, "29463-7");
        body["identifier"] = json!([{"system": "urn:lab", "value": "4711"}]);
        tasks.spawn(async move {
            let answer = record
                .conditional_create(
                    &client(),
                    T::Observation,
                    "identifier=urn:lab|4711",
                    body.to_string().as_bytes(),
                )
                .await;
            let answer = answer.unwrap();
            (
                answer.status,
                json_of(&answer)["id"].as_str().unwrap().to_owned(),
            )
        });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert!(done.iter().all(|(status, _)| matches!(status, 200 | 201)));
    assert_eq!(
        done.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(),
        1
    );
    assert_eq!(house.count(T::Observation).await, 1);
}

#[tokio::test]
async fn conditional_creates_find_none_one_or_several() {
    let house = House::new().await;
    let body = |active: bool| json!({"resourceType": "Practitioner", "active": active, "identifier": [{"system": "urn:npi", "value": "1"}]});
    let create = async |criteria: &str, active: bool| {
        house
            .record
            .conditional_create(
                &client(),
                T::Practitioner,
                criteria,
                body(active).to_string().as_bytes(),
            )
            .await
    };
    let first = create("identifier=urn:npi|1", true).await.unwrap();
    assert_eq!(first.status, 201);
    let id = json_of(&first)["id"].as_str().unwrap().to_owned();
    // The same criteria in other words.
    for criteria in [
        "?identifier=urn:npi%7C1",
        "Practitioner?identifier=urn%3Anpi|1",
        "identifier=urn:npi|1&_count=5",
    ] {
        let answer = create(criteria, false).await.unwrap();
        assert_eq!(
            (answer.status, answer.version),
            (200, Some(1)),
            "{criteria}"
        );
        assert_eq!(json_of(&answer)["active"], true);
    }
    // Deleted: made anew, under another id.
    house
        .record
        .delete(&client(), T::Practitioner, &id, None)
        .await
        .unwrap();
    let again = create("identifier=urn:npi|1", true).await.unwrap();
    assert_eq!((again.status, again.version), (201, Some(1)));
    let first = id;
    let id = json_of(&again)["id"].as_str().unwrap().to_owned();
    assert_ne!(id, first);
    // Changed so that it no longer fits: made anew, under another one.
    let changed = json!({"resourceType": "Practitioner", "id": id});
    house
        .record
        .update(
            &client(),
            T::Practitioner,
            &id,
            None,
            changed.to_string().as_bytes(),
        )
        .await
        .unwrap();
    let anew = create("identifier=urn:npi|1", true).await.unwrap();
    assert_eq!(anew.status, 201);
    assert_ne!(json_of(&anew)["id"], json!(id));
    // Several.
    house.create(&body(true)).await;
    assert_eq!(
        wrong(create("identifier=urn:npi|1", true).await),
        (412, "multiple-matches".to_owned())
    );
    for bad in ["", "colour=red", "_count=1", "identifier=%zz"] {
        assert_eq!(wrong(create(bad, true).await).0, 400, "{bad}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let house = House::new().await;
    let create =
        async |kind: T, body: &str| house.record.create(&client(), kind, body.as_bytes()).await;
    for (kind, body, status, code) in [
        (T::Patient, "{", 400, "structure"),
        (T::Patient, "[]", 400, "structure"),
        (T::Patient, r#"{"resourceType":"Pet"}"#, 400, "structure"),
        (T::Patient, r#"{"resourceType":"Group"}"#, 400, "invalid"),
        (
            T::Observation,
            r#"{"resourceType":"Observation"}"#,
            422,
            "required",
        ),
        (
            T::AuditEvent,
            r#"{"resourceType":"AuditEvent"}"#,
            405,
            "not-supported",
        ),
        (
            T::Observation,
            r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient?identifier=a|b"}}"#,
            400,
            "not-supported",
        ),
    ] {
        assert_eq!(
            wrong(create(kind, body).await),
            (status, code.to_owned()),
            "{body}"
        );
    }
    let many = create(
        T::Observation,
        r#"{"resourceType":"Observation","status":"x","effectiveDateTime":"yesterday"}"#,
    )
    .await
    .unwrap_err();
    assert_eq!((many.status, many.outcome.issues.len()), (422, 3));
    assert!(many.outcome.issues.iter().all(|issue| {
        issue
            .expression
            .as_ref()
            .is_some_and(|path| path.starts_with("Observation."))
    }));

    let large = format!(
        r#"{{"resourceType":"Patient","text":"{}"}}"#,
        "x".repeat(RESOURCE_BYTES_MAX)
    );
    assert_eq!(
        wrong(create(T::Patient, &large).await),
        (413, "too-long".to_owned())
    );

    for id in ["unknown", "a_b", ""] {
        assert_eq!(
            wrong(house.record.read(&client(), T::Patient, id).await),
            (404, "not-found".to_owned()),
            "{id}"
        );
    }
    let id = house.patient("Berg").await;
    for version in ["0", "2", "x", "+1", "99999999999"] {
        assert_eq!(
            wrong(
                house
                    .record
                    .version(&client(), T::Patient, &id, version)
                    .await
            )
            .0,
            404,
            "{version}"
        );
    }
    assert_eq!(
        wrong(
            house
                .record
                .delete(&client(), T::AuditEvent, "x", None)
                .await
        )
        .0,
        405
    );
    assert_eq!(
        wrong(
            house
                .record
                .delete(&client(), T::Patient, &id, Some("W/\"2\""))
                .await
        )
        .0,
        412
    );
    assert_eq!(
        house
            .record
            .delete(&client(), T::Patient, "never-there", None)
            .await
            .unwrap()
            .status,
        204
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn who_may_not_is_told_so() {
    let house = House::new().await;
    let id = house.patient("Berg").await;
    let squad = caller(Role::Squad, Purpose::Treatment);
    let body = json!({"resourceType": "Patient", "id": id});
    assert_eq!(
        wrong(house.record.read(&squad, T::Patient, &id).await),
        (403, "forbidden".to_owned())
    );
    assert_eq!(
        wrong(house.record.search(&squad, T::Patient, &[]).await).0,
        403
    );
    assert_eq!(
        wrong(house.record.history(&squad, T::Patient, &id, &[]).await).0,
        403
    );
    assert_eq!(
        wrong(
            house
                .record
                .create(&squad, T::Patient, body.to_string().as_bytes())
                .await
        )
        .0,
        403
    );
    assert_eq!(
        wrong(
            house
                .record
                .update(&squad, T::Patient, &id, None, body.to_string().as_bytes())
                .await
        )
        .0,
        403
    );
    assert_eq!(
        wrong(house.record.delete(&squad, T::Patient, &id, None).await).0,
        403
    );
    assert_eq!(
        wrong(house.bundle(&squad, "transaction", vec![]).await).0,
        403
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_patient_sees_their_own_record_only() {
    let house = House::new().await;
    let (own, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let weight = house.create(&observation(&own, "29463-7")).await;
    let foreign = house.create(&observation(&other, "29463-7")).await;
    let mut me = caller(Role::Patient, Purpose::PatientRequest);
    me.agent.patient = Some(own.clone());
    assert_eq!(
        house
            .record
            .read(&me, T::Patient, &own)
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        house
            .record
            .read(&me, T::Observation, &weight)
            .await
            .unwrap()
            .status,
        200
    );
    assert!(matches!(
        wrong(house.record.read(&me, T::Patient, &other).await).0,
        403 | 404
    ));
    assert_eq!(
        wrong(house.record.read(&me, T::Observation, &foreign).await).0,
        404
    );
    let found = json_of(&house.record.search(&me, T::Observation, &[]).await.unwrap());
    let ids: Vec<&str> = found["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [weight]);
}

#[tokio::test]
async fn prefer_return_is_kept() {
    let house = House::new().await;
    let body = br#"{"resourceType":"Patient"}"#;
    let answer = house
        .record
        .create(&minimal(), T::Patient, body)
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.len()), (201, 0));
    assert!(answer.location.is_some());
    let outcome = Caller {
        prefer_return: PreferReturn::OperationOutcome,
        ..client()
    };
    let answer = house
        .record
        .create(&outcome, T::Patient, body)
        .await
        .unwrap();
    assert_eq!(json_of(&answer)["resourceType"], "OperationOutcome");
    let id = answer
        .location
        .unwrap()
        .split('/')
        .nth(1)
        .unwrap()
        .to_owned();
    let deleted = house
        .record
        .delete(&outcome, T::Patient, &id, None)
        .await
        .unwrap();
    assert_eq!(
        (deleted.status, json_of(&deleted)["resourceType"].as_str()),
        (200, Some("OperationOutcome"))
    );
}

#[tokio::test]
async fn references_to_this_server_become_relative() {
    let house = House::new().await;
    let patient = house.patient("Berg").await;
    let mut body = observation(&patient, "29463-7");
    body["subject"]["reference"] = json!(format!("{BASE}/Patient/{patient}"));
    body["performer"] = json!([{"reference": "http://elsewhere.org/fhir/Practitioner/1"}]);
    let id = house.create(&body).await;
    let stored = house.read(T::Observation, &id).await;
    assert_eq!(stored["subject"]["reference"], format!("Patient/{patient}"));
    assert_eq!(
        stored["performer"][0]["reference"],
        "http://elsewhere.org/fhir/Practitioner/1"
    );
}

#[tokio::test]
async fn the_capability_statement_says_what_is_wired() {
    let house = House::new().await;
    let answer = house.record.metadata(
        crate::house::TENANT,
        BASE,
        &[("token", "http://x/token".to_owned())],
        "1.2.3",
    );
    let statement = json_of(&answer);
    assert_eq!(answer.status, 200);
    let own = fhir::Resource::parse(&answer.body).unwrap();
    assert_eq!(fhir::validate::check(&own), []);
    let rest = &statement["rest"][0];
    let resources = rest["resource"].as_array().unwrap();
    assert_eq!(
        resources.len(),
        T::all().filter(|kind| kind.name() != "Parameters").count()
    );
    let of = |kind: &str| {
        resources
            .iter()
            .find(|resource| resource["type"] == kind)
            .unwrap()
    };
    let codes = |kind: &str| {
        let list = of(kind)["interaction"].as_array().unwrap().iter();
        list.map(|interaction| interaction["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        codes("Patient"),
        [
            "read",
            "vread",
            "history-instance",
            "search-type",
            "history-type",
            "create",
            "update",
            "patch",
            "delete"
        ]
    );
    assert_eq!(
        codes("AuditEvent"),
        ["read", "vread", "history-instance", "search-type"]
    );
    assert!(
        rest["security"]["description"]
            .as_str()
            .unwrap()
            .contains("Bearer")
    );
    // Each parameter that it names is one that a search takes.
    for resource in resources {
        let kind = T::parse(resource["type"].as_str().unwrap()).unwrap();
        // Each include, too.
        for (name, list) in [
            ("_include", "searchInclude"),
            ("_revinclude", "searchRevInclude"),
        ] {
            for value in resource[list].as_array().unwrap() {
                let query = [(name.to_owned(), value.as_str().unwrap().to_owned())];
                let parsed = fhir::search::SearchQuery::parse(kind, &query, false);
                assert!(parsed.is_ok(), "{kind} {query:?} {parsed:?}");
            }
        }
        for parameter in resource["searchParam"].as_array().unwrap() {
            let value = if parameter["type"] == "date" {
                "2020"
            } else {
                "Patient/x"
            };
            let query = [(
                parameter["name"].as_str().unwrap().to_owned(),
                value.to_owned(),
            )];
            let parsed = fhir::search::SearchQuery::parse(kind, &query, false);
            assert!(
                parsed.is_ok()
                    || parsed.is_err_and(|outcome| !outcome
                        .to_string()
                        .contains("is no search parameter")),
                "{kind} {query:?}"
            );
        }
    }
}
