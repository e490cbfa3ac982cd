//! What can't be reached: other tenants, other patients' journeys, destroyed records, details in errors.
use ledger::{LedgerError, Owner};

use super::*;
use crate::{Internal, kinds};

fn instance(id: &str, patient: Option<&str>, expected: Expected) -> Internal {
    Internal {
        kind: kinds::JOURNEY_INSTANCE,
        id: id.to_owned(),
        owner: patient.map_or(Owner::Tenant, |patient| Owner::Patient(patient.to_owned())),
        expected,
        body: format!("{{\"step\":\"{id}\"}}").into_bytes(),
        deleted: false,
        tokens: vec![("step".to_owned(), "welcome".to_owned())],
    }
}

/// Details that must not be in any error's words.
const CANARIES: [&str; 4] = ["Zanzibarski", "1950-02-03", "80.5", "canary-mrn"];

// Proves: 45 CFR 164.312(a)(1), 164.312(b)
#[tokio::test]
async fn internal_documents_follow_the_row_rule_and_are_audited_once_a_request() {
    let house = House::new().await;
    let vault = house.vault();
    let engine = Agent::system(TENANT, "journey-engine");
    let engine = house
        .permit(&engine, Purpose::Treatment, Action::Orchestrate)
        .await
        .unwrap();
    let unit = Unit {
        internals: vec![
            instance("ip", Some("p"), Expected::Absent),
            instance("iq", Some("q"), Expected::Absent),
        ],
        note: Some("heart-failure-discharge: started".to_owned()),
        ..Unit::default()
    };
    let receipt = vault.commit(&engine, unit).await.unwrap();
    assert!(receipt.changes.is_empty());
    let event = house.audit_events(TENANT).await.remove(0);
    assert_eq!(
        crate::audit::patients(&event).collect::<Vec<_>>(),
        ["p", "q"]
    );
    assert_eq!(
        event.text_at(&["outcomeDesc"]),
        Some("heart-failure-discharge: started")
    );
    let kind = kinds::JOURNEY_INSTANCE;
    let all = vault
        .internals(&engine, kind, &[("step", "welcome")], None, 10)
        .await
        .unwrap();
    assert_eq!(
        all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["iq", "ip"]
    );
    assert_eq!(all[1].body, br#"{"step":"ip"}"#);
    assert!(
        vault
            .internals(&engine, kind, &[("step", "other")], None, 10)
            .await
            .unwrap()
            .is_empty()
    );

    let mine = own(&house, "p", READ).await;
    let before = house.audits(TENANT).await;
    let found = vault.internals(&mine, kind, &[], None, 10).await.unwrap();
    assert_eq!(
        found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["ip"]
    );
    assert!(vault.internal(&mine, kind, "ip").await.unwrap().is_some());
    assert!(vault.internal(&mine, kind, "iq").await.unwrap().is_none());
    assert_eq!(
        house.audits(TENANT).await,
        before + 1,
        "named once a request"
    );
    let wanted = ["iq", "nothing", "ip"].map(str::to_owned);
    let again = own(&house, "p", READ).await;
    let found = vault.internals_of(&again, kind, &wanted).await.unwrap();
    assert_eq!(
        found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["ip"],
        "by id the same rows"
    );
    assert_eq!(house.audits(TENANT).await, before + 2, "and audited");
    let before = before + 1;

    let squad = house
        .permit(&staff(Role::Squad), Purpose::Operations, Action::Observe)
        .await
        .unwrap();
    assert_eq!(
        vault
            .internals(&squad, kind, &[], None, 1)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        house.audits(TENANT).await,
        before + 1,
        "counts are no look at a patient"
    );

    for kind in [
        kinds::ACCOUNT,
        kinds::SESSION,
        kinds::SIGN_IN_LINK,
        kinds::CLIENT,
        kinds::SIGN_IN_ATTEMPTS,
        ledger::Kind(96),
    ] {
        assert!(matches!(
            vault.internals(&engine, kind, &[], None, 1).await,
            Err(TrustError::Invalid(_))
        ));
        assert!(matches!(
            vault.internal(&engine, kind, "x").await,
            Err(TrustError::Invalid(_))
        ));
        let forged = Unit {
            internals: vec![Internal {
                kind,
                ..instance("x", None, Expected::Absent)
            }],
            ..Unit::default()
        };
        assert!(is_refused(&vault.commit(&engine, forged).await));
    }
    let work = own(&house, "p", Action::Work).await;
    let foreign = Unit {
        internals: vec![instance("iq", Some("q"), Expected::Version(1))],
        ..Unit::default()
    };
    assert!(is_refused(&vault.commit(&work, foreign).await));
    let definition = Unit {
        internals: vec![Internal {
            kind: kinds::JOURNEY_DEFINITION,
            ..instance("d", None, Expected::Absent)
        }],
        ..Unit::default()
    };
    assert!(
        is_refused(&vault.commit(&engine, definition).await),
        "only a permit to publish publishes"
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn another_tenant_reaches_nothing() {
    let house = House::new().await;
    let places = house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    house.put_for(OTHER, [a_patient("z", "Berg")]).await;
    let vault = house.vault();
    let elsewhere = |agent: Agent| Agent {
        tenant: OTHER,
        ..agent
    };
    let kind = ResourceType::Observation;
    for (agent, purpose) in [
        (elsewhere(staff(Role::Clinician)), Purpose::Treatment),
        (elsewhere(staff(Role::Client)), Purpose::Treatment),
        (elsewhere(patient("p")), Purpose::PatientRequest),
    ] {
        let permit = house
            .permit(&agent, purpose, Action::Transaction)
            .await
            .unwrap();
        assert!(vault.read(&permit, kind, "o").await.unwrap().is_none());
        assert!(
            vault
                .read_version(&permit, kind, "o", 1)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            vault
                .history(&permit, kind, "o", None, 9)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(vault.load(&permit, kind, "o").await.unwrap().is_none());
        for parameters in [
            vec![],
            vec![("_id", "o")],
            vec![("patient", "p")],
            vec![("_total", "accurate")],
        ] {
            for before in [None, Some(ledger::Number(u64::MAX)), Some(places[1].number)] {
                let page = vault
                    .search(&permit, &query(kind, &parameters), before)
                    .await
                    .unwrap();
                assert!(
                    page.rows.is_empty() && page.next.is_none() && page.total.unwrap_or(0) == 0
                );
            }
        }
        for place in &places {
            assert!(vault.load_at(&permit, *place).await.unwrap().is_none());
        }
    }
    let officer = elsewhere(staff(Role::PrivacyOfficer));
    let audit = house
        .permit(&officer, Purpose::Operations, Action::Audit)
        .await
        .unwrap();
    let found = vault
        .search(
            &audit,
            &query(ResourceType::AuditEvent, &[("patient", "p")]),
            None,
        )
        .await
        .unwrap();
    assert!(found.rows.iter().all(|row| {
        row.resource.text_at(&["agent", "0", "altId"]) == Some("account-of-p")
            || row
                .resource
                .text_at(&["agent", "0", "who", "identifier", "value"])
                != Some("importer")
    }));
    let engine = Agent::system(TENANT, "journey-engine");
    let engine = house
        .permit(&engine, Purpose::Treatment, Action::Orchestrate)
        .await
        .unwrap();
    let unit = Unit {
        internals: vec![instance("ip", Some("p"), Expected::Absent)],
        ..Unit::default()
    };
    vault.commit(&engine, unit).await.unwrap();
    let foreign = Agent::system(OTHER, "journey-engine");
    let foreign = house
        .permit(&foreign, Purpose::Treatment, Action::Orchestrate)
        .await
        .unwrap();
    assert!(
        vault
            .internal(&foreign, kinds::JOURNEY_INSTANCE, "ip")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        vault
            .internals(
                &foreign,
                kinds::JOURNEY_INSTANCE,
                &[("step", "welcome")],
                None,
                9
            )
            .await
            .unwrap()
            .is_empty()
    );
    // The same ids may live in both.
    house.put_for(OTHER, [a_patient("p", "Other")]).await;
    let here = clinician(&house, READ).await;
    let row = vault
        .read(&here, ResourceType::Patient, "p")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.resource.text_at(&["name", "0", "family"]), Some("Berg"));
    // A tenant that isn't there.
    let nowhere = Agent {
        tenant: TenantId(99),
        ..staff(Role::Clinician)
    };
    let permit = house
        .permit(&nowhere, Purpose::Treatment, READ)
        .await
        .unwrap();
    assert!(matches!(
        vault.read(&permit, kind, "o").await,
        Err(TrustError::Ledger(LedgerError::UnknownTenant(99)))
    ));
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test]
async fn a_destroyed_record_is_gone_from_lists() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_patient("q", "Berg")])
        .await;
    let auditor = crate::audit::Auditor::new(
        house.ledger().clone(),
        std::sync::Arc::new(house.wall.clone()),
    );
    let agent = staff(Role::PrivacyOfficer);
    let mut record = crate::audit::Record::new(&agent, crate::audit::Event::SWEPT);
    record.purpose = Some(Purpose::Operations);
    house
        .ledger()
        .destroy_patient_key(TENANT, "p", auditor.draft(&record))
        .await
        .unwrap();
    let permit = clinician(&house, READ).await;
    let asked = query(
        ResourceType::Patient,
        &[("family", "berg"), ("_total", "accurate")],
    );
    let found = house.vault().search(&permit, &asked, None).await.unwrap();
    assert_eq!(found.total, Some(1));
    assert_eq!(found.rows[0].resource.id(), Some("q"));
}

#[tokio::test]
async fn words_are_read_of_so_many_resources_only() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    let most = crate::vault::TEXTS_MAX;
    house
        .put((0..most).map(|place| a_patient(&format!("p{place}"), "Berg")))
        .await;
    let ask = async |parameters: &[(&str, &str)]| {
        let asked = query(ResourceType::Patient, parameters);
        house.vault().search(&permit, &asked, None).await
    };
    assert!(
        ask(&[("_content", "nobody")])
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    house.put([a_patient("more", "Berg")]).await;
    for name in ["_content", "_text"] {
        let refused = ask(&[(name, "nobody")]).await;
        assert!(
            matches!(&refused, Err(TrustError::TooCostly(words)) if words.contains("read the words")),
            "{refused:?}"
        );
    }
    let narrowed = ask(&[("_content", "berg"), ("_id", "p1,more")]).await;
    assert_eq!(narrowed.unwrap().rows.len(), 2);
}

/// Those that match are taken in several turns, which have one bound together.
#[tokio::test]
async fn sorted_and_linked_words_are_read_of_so_many_resources_only() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    let most = crate::vault::TEXTS_MAX;
    house
        .put((0..most).map(|place| a_patient(&format!("p{place}"), "Berg")))
        .await;
    let sorted = query(
        ResourceType::Patient,
        &[("_content", "berg"), ("_sort", "family"), ("_count", "3")],
    );
    let linked = query(
        ResourceType::Observation,
        &[("subject:Patient._content", "berg")],
    );
    let vault = house.vault();
    let page = vault.search_sorted(&permit, &sorted, None).await.unwrap();
    assert_eq!((page.rows.len(), page.next.is_some()), (3, true));
    assert!(vault.search(&permit, &linked, None).await.is_ok());
    house.put([a_patient("more", "Berg")]).await;
    for refused in [
        vault.search_sorted(&permit, &sorted, None).await,
        vault.search(&permit, &linked, None).await,
    ] {
        assert!(
            matches!(&refused, Err(TrustError::TooCostly(words)) if words.contains("read the words")),
            "{refused:?}"
        );
    }
}

/// Long documents are read aside; what they say counts as any other.
#[tokio::test]
async fn words_of_long_documents_are_found() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    let mut long = a_patient("long", "Berg");
    let narrative = format!("<div>{} zebra</div>", "horse ".repeat(20_000));
    long["text"] = json!({"status": "generated", "div": narrative});
    house.put([long, a_patient("short", "Berg")]).await;
    for (words, wanted) in [("zebra", vec!["long"]), ("giraffe", vec![])] {
        let asked = query(ResourceType::Patient, &[("_text", words)]);
        let page = house.vault().search(&permit, &asked, None).await.unwrap();
        let found = page.rows.iter().filter_map(|row| row.resource.id());
        assert_eq!(found.collect::<Vec<_>>(), wanted);
    }
}

/// All types together ask for no more lists than the store reads.
#[tokio::test]
async fn many_types_share_the_lists_of_a_query() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    house.put([a_patient("p", "Berg")]).await;
    let codes: Vec<String> = (0..200).map(|place| format!("c{place}")).collect();
    let kinds = ResourceType::all().filter(|kind| permit.allows(Action::Search, *kind));
    let kinds: Vec<ResourceType> = kinds.collect();
    assert!(kinds.len() > 125, "{}", kinds.len());
    for types in [40, 64, 100, 125, kinds.len()] {
        let mut of = vec![ResourceType::Patient];
        let others = kinds.iter().filter(|kind| **kind != ResourceType::Patient);
        of.extend(others.take(types - 1));
        for each in [31, 32, 4000 / of.len()] {
            let asked = codes[..each.min(200)].join(",");
            let queries = of
                .iter()
                .map(|kind| query(*kind, &[("_tag:not", asked.as_str())]));
            let queries: Vec<_> = queries.collect();
            let page = house.vault().search_types(&permit, &queries, true, None);
            let page = page.await.unwrap();
            assert_eq!(page.rows.len(), 1, "{types} types, {each} codes");
        }
    }
}

#[tokio::test]
async fn errors_hold_no_patient_details() {
    let house = House::new().await;
    let canary = |id: &str| {
        let mut value = a_patient(id, "Zanzibarski");
        value["identifier"] = json!([{"system": "urn:mrn", "value": "canary-mrn"}]);
        value
    };
    house
        .put([canary("p"), a_weight("o", "p", "2026-06-01")])
        .await;
    let vault = house.vault();
    let doctor = clinician(&house, Action::Update).await;
    let mine = own(&house, "q", Action::Work).await;
    let reader = clinician(&house, READ).await;
    let mut errors = vec![
        vault
            .commit(&doctor, put(canary("p"), Expected::Absent))
            .await
            .unwrap_err(),
        vault
            .commit(&doctor, put(canary("p"), Expected::Version(8)))
            .await
            .unwrap_err(),
        vault
            .commit(
                &doctor,
                put(a_weight("o", "q", "2026-06-01"), Expected::Version(1)),
            )
            .await
            .unwrap_err(),
        vault
            .commit(&mine, put(canary("p"), Expected::Version(1)))
            .await
            .unwrap_err(),
        vault
            .commit(&reader, put(canary("p"), Expected::Version(1)))
            .await
            .unwrap_err(),
        vault
            .search(
                &reader,
                &query(ResourceType::Claim, &[("identifier", "canary-mrn")]),
                None,
            )
            .await
            .unwrap_err(),
        vault
            .load(&reader, ResourceType::Patient, "p")
            .await
            .unwrap_err(),
        house
            .permit(&staff(Role::Squad), Purpose::Treatment, READ)
            .await
            .unwrap_err(),
    ];
    // A body that is no resource any more.
    for body in [
        br#"{"resourceType":"Patient","id":"bad","name":[{"family":"Zanzibarski"}],"birthDate":"1950-02-03""#.to_vec(),
        br#"{"resourceType":"Zanzibarski","id":"bad"}"#.to_vec(),
        br#"{"resourceType":"Patient","id":"Zanzibarski"}"#.to_vec(),
    ] {
        let id = house.ledger().mint_own_id(TENANT);
        let mut commit = ledger::Commit::new(TENANT);
        commit.documents.push(ledger::Draft {
            kind: crate::tokens::kind(ResourceType::Patient),
            id: id.clone(),
            owner: Owner::Tenant,
            expected: Expected::Absent,
            body,
            deleted: false,
            tokens: Vec::new(),
        });
        let agent = staff(Role::Administrator);
        let auditor = crate::audit::Auditor::new(house.ledger().clone(), std::sync::Arc::new(house.wall.clone()));
        let mut record = crate::audit::Record::new(&agent, crate::audit::Event::SWEPT);
        record.purpose = Some(Purpose::Operations);
        commit.audit = Some(auditor.draft(&record));
        house.ledger().commit(commit).await.unwrap();
        errors.push(vault.read(&reader, ResourceType::Patient, &id).await.unwrap_err());
        errors.push(vault.search(&reader, &query(ResourceType::Patient, &[]), None).await.unwrap_err());
    }
    for error in errors {
        let said = format!("{error} {error:?}");
        for canary in CANARIES {
            assert!(!said.contains(canary), "{said}");
        }
    }
}
