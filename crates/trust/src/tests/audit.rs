//! What is recorded, when, and who may see it.
use super::*;

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn no_answer_without_an_audit_leaf() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let (vault, kind) = (house.vault(), ResourceType::Observation);
    let permit = clinician(&house, READ).await;
    let anything = query(kind, &[]);
    let nothing = query(kind, &[("code", "nothing")]);
    let other = own(&house, "q", READ).await;
    let mut before = house.audits(TENANT).await;
    let mut one_more = async |what: &str| {
        let now = house.audits(TENANT).await;
        assert_eq!(now, before + 1, "{what}");
        before = now;
    };
    vault.read(&permit, kind, "o").await.unwrap().unwrap();
    one_more("read").await;
    assert!(vault.read(&permit, kind, "none").await.unwrap().is_none());
    one_more("read of nothing").await;
    assert!(vault.read(&other, kind, "o").await.unwrap().is_none());
    one_more("read of another's").await;
    vault
        .read_version(&permit, kind, "o", 1)
        .await
        .unwrap()
        .unwrap();
    one_more("vread").await;
    vault.history(&permit, kind, "o", None, 5).await.unwrap();
    one_more("history").await;
    vault.search(&permit, &anything, None).await.unwrap();
    one_more("search").await;
    vault.search(&permit, &nothing, None).await.unwrap();
    one_more("search without a hit").await;
    vault
        .search_many(&permit, &[anything.clone(), nothing.clone()])
        .await
        .unwrap();
    one_more("two searches of one request").await;
    assert!(is_refused(
        &vault.read(&permit, ResourceType::Claim, "c").await
    ));
    one_more("refused read").await;
    assert!(is_refused(&vault.load(&permit, kind, "o").await));
    one_more("refused load").await;
    let squad = staff(Role::Squad);
    assert!(is_refused(
        &house.permit(&squad, Purpose::Treatment, READ).await
    ));
    one_more("refused permit").await;
    let work = clinician(&house, Action::Work).await;
    vault.load(&work, kind, "o").await.unwrap().unwrap();
    vault.load_search(&work, &anything, None).await.unwrap();
    assert_eq!(
        house.audits(TENANT).await,
        before,
        "loads are audited by the commit that follows"
    );

    // When the leaf can't be written, there is no answer.
    house.ledger().close().await.unwrap();
    assert!(vault.read(&permit, kind, "o").await.is_err());
    assert!(vault.search(&permit, &anything, None).await.is_err());
}

// Proves: 45 CFR 164.312(b), 164.316(b)(1)
#[tokio::test]
async fn what_operators_do_to_a_store_says_who_and_what() {
    use crate::{Upkeep, record_upkeep};
    let house = House::new().await;
    let acts = [
        (Upkeep::BackedUp, "backup"),
        (Upkeep::Restored, "restore"),
        (Upkeep::RootKeyRotated, "keys-rotated"),
        (Upkeep::TenantKeysRotated, "keys-rotated"),
        (Upkeep::PatientKeyRotated("p".into()), "keys-rotated"),
        (Upkeep::OutboxReleased, "outbox"),
        (Upkeep::OutboxDiscarded, "outbox"),
    ];
    for (act, code) in acts {
        let wall = std::sync::Arc::new(house.wall.clone());
        let note = format!("what was done: {code}");
        record_upkeep(
            house.ledger(),
            wall,
            TENANT,
            "alice (uid 1000)",
            &act,
            &note,
        )
        .await
        .unwrap();
        let events = house.audit_events(TENANT).await;
        let ours = |event: &&Resource| {
            let text = String::from_utf8(event.to_json()).unwrap();
            text.contains(&note)
                && text.contains(&format!("\"code\":\"{code}\""))
                && text.contains("alice (uid 1000)")
                && text.contains("command-line")
                && text.contains("HSYSADMIN")
        };
        let found = events.iter().filter(ours).count();
        assert!(found > 0, "{act:?}");
        let of_patient = matches!(act, Upkeep::PatientKeyRotated(_));
        let names_patient = |event: &Resource| crate::audit::patients(event).any(|id| id == "p");
        let named = events.iter().filter(ours).any(names_patient);
        assert_eq!(named, of_patient, "{act:?}");
    }
}

#[tokio::test]
async fn what_only_moves_a_follower_is_not_audited() {
    let house = House::new().await;
    let engine = Agent::system(TENANT, "journey-engine");
    let permit = house
        .permit(&engine, Purpose::Treatment, Action::Orchestrate)
        .await
        .unwrap();
    let before = house.audits(TENANT).await;
    let receipt = house
        .vault()
        .commit(
            &permit,
            Unit {
                cursor: Some(ledger::CursorMove {
                    consumer: "journeys".to_owned(),
                    shard: ledger::Shard(3),
                    from: ledger::Number(0),
                    to: ledger::Number(9),
                }),
                ..Unit::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(receipt.audit, None);
    assert_eq!(house.audits(TENANT).await, before);
    assert_eq!(
        house
            .ledger()
            .cursor("journeys", ledger::Shard(3))
            .await
            .unwrap(),
        ledger::Number(9)
    );
}

// Proves: 45 CFR 164.312(b), 164.312(a)(2)(i)
#[tokio::test]
async fn audit_events_say_who_what_when_and_why() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    house.care.advance(3_600_000);
    let doctor = staff(Role::Clinician);
    let target = Target {
        kind: Some(ResourceType::Observation),
        patient: Some("p".to_owned()),
    };
    let permit = house
        .trust
        .decide(
            &doctor,
            Purpose::Treatment,
            Action::Search,
            target,
            "request-7",
        )
        .await
        .unwrap();
    let asked = query(
        ResourceType::Observation,
        &[("patient", "p"), ("code", "29463-7")],
    );
    house.vault().search(&permit, &asked, None).await.unwrap();
    let event = house.audit_events(TENANT).await.remove(0);
    assert_eq!(fhir::validate::check(&event), []);
    let mut value = event.into_value();
    value["id"] = "(id)".into();
    insta::assert_json_snapshot!(value);
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D)
#[tokio::test]
async fn the_audit_is_searched_like_any_resource() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_patient("q", "Tal"),
            a_weight("o", "p", "2026-06-01"),
        ])
        .await;
    let vault = house.vault();
    let doctor = clinician(&house, READ).await;
    house.care.advance(86_400_000);
    vault
        .read(&doctor, ResourceType::Observation, "o")
        .await
        .unwrap();
    vault
        .search(&doctor, &query(ResourceType::Patient, &[]), None)
        .await
        .unwrap();
    let permit = auditor(&house).await;
    let count = async |parameters: &[(&str, &str)]| {
        let query = query(ResourceType::AuditEvent, parameters);
        vault
            .search(&permit, &query, None)
            .await
            .unwrap()
            .rows
            .len()
    };
    assert_eq!(count(&[("patient", "p"), ("action", "R")]).await, 1);
    assert_eq!(count(&[("patient", "p"), ("action", "C")]).await, 2);
    assert_eq!(count(&[("patient", "q")]).await, 2);
    assert_eq!(count(&[("entity", "Observation/o")]).await, 2);
    assert_eq!(count(&[("altid", "account-clinician")]).await, 2);
    assert_eq!(count(&[("agent-name", "some clin")]).await, 2);
    assert_eq!(
        count(&[("agent-role", "clinician"), ("date", "ge2026-06-16")]).await,
        2
    );
    assert_eq!(
        count(&[("altid", "account-clinician"), ("date", "lt2026-06-16")]).await,
        0
    );
    assert_eq!(
        count(&[("subtype", "search-type"), ("patient", "p")]).await,
        1
    );
    assert_eq!(count(&[("entity-type", "1"), ("patient", "q")]).await, 2);
    assert_eq!(
        count(&[("policy", "urn:cairn:policy:clinician-looks-at-records")]).await,
        2
    );
    // Whoever may search but not audit sees none of it.
    assert!(is_refused(
        &vault
            .search(&doctor, &query(ResourceType::AuditEvent, &[]), None)
            .await
    ));
    let client = house
        .permit(&staff(Role::Client), Purpose::Treatment, READ)
        .await
        .unwrap();
    assert!(is_refused(
        &vault
            .search(&client, &query(ResourceType::AuditEvent, &[]), None)
            .await
    ));
    // The auditor sees who the patient is, and nothing of the record.
    assert!(
        vault
            .read(&permit, ResourceType::Patient, "p")
            .await
            .unwrap()
            .is_some()
    );
    assert!(is_refused(
        &vault.read(&permit, ResourceType::Observation, "o").await
    ));
    // Looking at the audit is audited, but is no look at the patients in it.
    let newest = house.audit_events(TENANT).await;
    assert!(newest.iter().any(|event| {
        crate::audit::patients(event).next().is_none()
            && event.text_at(&["subtype", "0", "code"]) == Some("search-type")
    }));
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn patients_see_who_looked_and_nothing_of_others() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_patient("q", "Tal"),
            a_weight("o", "p", "2026-06-01"),
            a_weight("oq", "q", "2026-06-01"),
        ])
        .await;
    let vault = house.vault();
    let doctor = clinician(&house, READ).await;
    vault
        .search_many(
            &doctor,
            &[
                query(ResourceType::Patient, &[("name", "tal,berg")]),
                query(ResourceType::Observation, &[]),
            ],
        )
        .await
        .unwrap();
    assert!(is_refused(
        &house
            .trust
            .decide(
                &patient("q"),
                Purpose::PatientRequest,
                READ,
                Target {
                    kind: None,
                    patient: Some("p".to_owned())
                },
                "r"
            )
            .await
    ));
    let permit = own(&house, "p", Action::Search).await;
    let found = vault
        .search(&permit, &query(ResourceType::AuditEvent, &[]), None)
        .await
        .unwrap();
    let text: String = found
        .rows
        .iter()
        .map(|row| String::from_utf8(row.resource.to_json()).unwrap())
        .collect();
    assert!(text.contains("Some clinician"));
    assert!(text.contains("Patient/p") && text.contains("Observation/o\""));
    assert!(!text.contains("Observation/oq"), "{text}");
    // The refused attempt of another patient shows as an attempt by that account.
    let others: Vec<&str> = found
        .rows
        .iter()
        .flat_map(|row| crate::audit::patients(&row.resource))
        .filter(|id| *id != "p")
        .collect();
    assert_eq!(others, ["q"]);
    assert!(!text.contains("\"query\""));
    let asked = query(ResourceType::AuditEvent, &[("patient", "q")]);
    let found = vault.search(&permit, &asked, None).await.unwrap();
    assert_eq!(
        found.rows.len(),
        1,
        "the attempt of another, and nothing that is hidden"
    );
    let asked = query(ResourceType::AuditEvent, &[("entity", "Observation/oq")]);
    let found = vault.search(&permit, &asked, None).await.unwrap();
    assert!(
        found.rows.is_empty(),
        "hidden entities can't be found out by asking"
    );
    let of_q = own(&house, "q", READ).await;
    let mine = house.audit_events(TENANT).await;
    let only_p = mine
        .iter()
        .find(|event| {
            crate::audit::patients(event).all(|id| id == "p")
                && crate::audit::patients(event).next().is_some()
        })
        .unwrap();
    let id = only_p.id().unwrap();
    assert!(
        vault
            .read(&permit, ResourceType::AuditEvent, id)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        vault
            .read(&of_q, ResourceType::AuditEvent, id)
            .await
            .unwrap()
            .is_none()
    );
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn a_large_answer_lists_every_patient_and_counts_the_rest() {
    let house = House::new().await;
    let mut all = Vec::new();
    for place in 0..130 {
        all.push(a_weight(
            &format!("o{place}"),
            &format!("p{place}"),
            "2026-06-01",
        ));
    }
    house.put(all).await;
    let doctor = clinician(&house, READ).await;
    house
        .vault()
        .search(
            &doctor,
            &query(ResourceType::Observation, &[("_count", "1000")]),
            None,
        )
        .await
        .unwrap();
    let event = house.audit_events(TENANT).await.remove(0);
    assert_eq!(crate::audit::patients(&event).count(), 130);
    let text = String::from_utf8(event.to_json()).unwrap();
    assert_eq!(text.matches("Domain Resource").count(), 100);
    assert!(text.contains(r#"{"type":"further-resources","valueString":"30"}"#));
    let of_one = r#"{"type":"further-resources","valueString":"1"}"#;
    assert_eq!(text.matches(of_one).count(), 30);
    let permit = own(&house, "p0", Action::Search).await;
    let asked = query(
        ResourceType::AuditEvent,
        &[("subtype", "search-type"), ("altid", "account-clinician")],
    );
    let found = house.vault().search(&permit, &asked, None).await.unwrap();
    let [row] = found.rows.as_slice() else {
        panic!("{} rows", found.rows.len());
    };
    // What isn't listed of this patient's is counted for them, and nobody else's is.
    let entities = row.resource.get("entity").unwrap();
    assert_eq!(entities.as_array().unwrap().len(), 1);
    assert_eq!(entities[0]["what"]["reference"], "Patient/p0");
    assert_eq!(
        entities[0]["detail"],
        json!([
            {"type": "relationship", "valueString": "none"},
            {"type": "further-resources", "valueString": "1"},
        ])
    );
}

/// Whoever may search none of the types of a record is shown nothing, and has asked for it.
#[tokio::test]
async fn a_series_of_what_may_not_be_searched_says_what_was_asked_for() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let permit = clinician(&house, Action::Search).await;
    let asked = [query(ResourceType::AuditEvent, &[])];
    let page = house.vault().series(&permit, &asked, None, 10, &[]).await;
    assert!(page.unwrap().rows.is_empty());
    let events = house.audit_events(TENANT).await;
    let event = String::from_utf8(events[0].to_json()).unwrap();
    assert!(event.contains("\"query\""), "{event}");
}
