//! Reading and writing through the gate: the row rule and consent.
use ledger::{LedgerError, Owner, TimerKey};

use super::*;
use crate::consent::care_messages;

#[tokio::test]
async fn what_is_written_is_read_back_with_its_meta() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let permit = clinician(&house, READ).await;
    let vault = house.vault();
    let kind = ResourceType::Observation;
    let row = vault.read(&permit, kind, "o").await.unwrap().unwrap();
    assert_eq!(row.resource.text_at(&["meta", "versionId"]), Some("1"));
    let last_updated = row.resource.text_at(&["meta", "lastUpdated"]);
    assert_eq!(last_updated, Some("2026-06-15T12:00:00.000Z"));
    // What a client sends as meta is not kept; the rest of it is.
    house.care.advance(1000);
    let mut again = a_weight("o", "p", "2026-06-02");
    again["meta"] =
        json!({"versionId": "9", "lastUpdated": "1999-01-01T00:00:00Z", "source": "urn:x"});
    house.put([again]).await;
    let row = vault.read(&permit, kind, "o").await.unwrap().unwrap();
    assert_eq!(
        row.resource.get("meta"),
        Some(
            &json!({"versionId": "2", "lastUpdated": "2026-06-15T12:00:01.000Z", "source": "urn:x"})
        )
    );
    let first = vault
        .read_version(&permit, kind, "o", 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        first.resource.text_at(&["effectiveDateTime"]),
        Some("2026-06-01")
    );
    let versions = vault.history(&permit, kind, "o", None, 10).await.unwrap();
    assert_eq!(
        versions.iter().map(|row| row.version).collect::<Vec<_>>(),
        [2, 1]
    );
    let versions = vault
        .history(&permit, kind, "o", Some(2), 10)
        .await
        .unwrap();
    assert_eq!(
        versions.iter().map(|row| row.version).collect::<Vec<_>>(),
        [1]
    );
    assert!(
        vault
            .read(&permit, kind, "nothing")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        vault
            .read_version(&permit, kind, "o", 7)
            .await
            .unwrap()
            .is_none()
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn patients_see_their_own_compartment_and_the_directory() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_patient("q", "Tal"),
            a_weight("op", "p", "2026-06-01"),
            a_weight("oq", "q", "2026-06-01"),
            json!({"resourceType": "Questionnaire", "id": "form", "status": "active"}),
            json!({"resourceType": "Observation", "id": "nobodys", "status": "final", "code": {}}),
        ])
        .await;
    let permit = own(&house, "p", READ).await;
    let vault = house.vault();
    let seen =
        async |kind: ResourceType, id: &str| vault.read(&permit, kind, id).await.unwrap().is_some();
    assert!(seen(ResourceType::Patient, "p").await);
    assert!(!seen(ResourceType::Patient, "q").await);
    assert!(seen(ResourceType::Observation, "op").await);
    assert!(!seen(ResourceType::Observation, "oq").await);
    assert!(!seen(ResourceType::Observation, "nobodys").await);
    assert!(seen(ResourceType::Questionnaire, "form").await);
    let found = vault
        .search(&permit, &query(ResourceType::Observation, &[]), None)
        .await
        .unwrap();
    assert_eq!(found.rows.len(), 1);
    let found = vault
        .search(
            &permit,
            &query(ResourceType::Observation, &[("patient", "q")]),
            None,
        )
        .await
        .unwrap();
    assert!(found.rows.is_empty());
    let found = vault
        .search(&permit, &query(ResourceType::Questionnaire, &[]), None)
        .await
        .unwrap();
    assert_eq!(found.rows.len(), 1);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_deletion_is_seen_by_those_who_saw_the_content() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let client = house
        .permit(&staff(Role::Client), Purpose::Treatment, Action::Delete)
        .await
        .unwrap();
    let vault = house.vault();
    let kind = ResourceType::Observation;
    let delete = |owner: Owner| Unit {
        changes: vec![Change::Delete {
            kind,
            id: "o".to_owned(),
            expected: Expected::Version(1),
            owner,
        }],
        ..Unit::default()
    };
    let wrong = vault.commit(&client, delete(Owner::Tenant)).await;
    assert!(matches!(wrong, Err(TrustError::Invalid(_))), "{wrong:?}");
    vault
        .commit(&client, delete(Owner::Patient("p".to_owned())))
        .await
        .unwrap();
    let row = vault
        .read(&own(&house, "p", READ).await, kind, "o")
        .await
        .unwrap()
        .unwrap();
    assert!(row.deleted);
    assert_eq!(row.resource.get("code"), None);
    assert!(
        vault
            .read(&own(&house, "q", READ).await, kind, "o")
            .await
            .unwrap()
            .is_none()
    );
    let found = vault
        .search(&own(&house, "p", READ).await, &query(kind, &[]), None)
        .await
        .unwrap();
    assert!(found.rows.is_empty());
    // It can come back, in the same record only.
    let back = |patient: &str| put(a_weight("o", patient, "2026-06-03"), Expected::Version(2));
    let update = house
        .permit(&staff(Role::Client), Purpose::Treatment, Action::Update)
        .await
        .unwrap();
    assert!(matches!(
        vault.commit(&update, back("q")).await,
        Err(TrustError::Invalid(_))
    ));
    vault.commit(&update, back("p")).await.unwrap();
    assert_eq!(
        vault
            .history(&update, kind, "o", None, 9)
            .await
            .unwrap()
            .len(),
        3
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn writes_are_checked_one_by_one() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_patient("q", "Tal"),
            a_weight("op", "p", "2026-06-01"),
            json!({"resourceType": "Task", "id": "tq", "status": "requested", "intent": "order", "for": {"reference": "Patient/q"}}),
            json!({"resourceType": "Task", "id": "tp", "status": "requested", "intent": "order", "for": {"reference": "Patient/p"}}),
            json!({"resourceType": "Task", "id": "call", "status": "in-progress", "intent": "order", "for": {"reference": "Patient/p"},
                "code": {"coding": [{"system": "urn:cairn:task-code", "code": "call"}]}}),
        ])
        .await;
    let vault = house.vault();
    let work = own(&house, "p", Action::Work).await;
    let answer = |patient: &str| {
        json!({"resourceType": "QuestionnaireResponse", "id": format!("r-{patient}"), "status": "completed",
               "subject": {"reference": format!("Patient/{patient}")}})
    };
    let receipt = vault
        .commit(&work, put(answer("p"), Expected::Absent))
        .await
        .unwrap();
    assert_eq!(receipt.changes[0].version, 1);
    assert!(receipt.audit.is_some());
    let task = |patient: &str| {
        json!({"resourceType": "Task", "id": "tq", "status": "completed", "intent": "order",
               "for": {"reference": format!("Patient/{patient}")}})
    };
    let done = |id: &str| {
        json!({"resourceType": "Task", "id": id, "status": "completed", "intent": "order",
               "for": {"reference": "Patient/p"}})
    };
    vault
        .commit(&work, put(done("tp"), Expected::Version(1)))
        .await
        .unwrap();
    for (what, permit, unit) in [
        (
            "another's record",
            &work,
            put(answer("q"), Expected::Absent),
        ),
        (
            "a call to a partner, which the partner answers",
            &work,
            put(done("call"), Expected::Version(1)),
        ),
        (
            "another's task",
            &work,
            put(task("q"), Expected::Version(1)),
        ),
        (
            "another's task, made one's own",
            &work,
            put(task("p"), Expected::Version(1)),
        ),
        (
            "a type that patients don't write",
            &work,
            put(a_weight("op", "p", "2026-06-02"), Expected::Version(1)),
        ),
        (
            "the directory",
            &work,
            put(
                json!({"resourceType": "Organization", "id": "o"}),
                Expected::Absent,
            ),
        ),
        (
            "the audit",
            &house.importer(TENANT).await,
            put(
                json!({"resourceType": "AuditEvent", "id": "a"}),
                Expected::Absent,
            ),
        ),
        (
            "with a permit to read",
            &clinician(&house, READ).await,
            put(a_weight("n", "p", "2026-06-02"), Expected::Absent),
        ),
        (
            "a timer without a journey",
            &clinician(&house, Action::Update).await,
            Unit {
                timers_clear: vec![TimerKey {
                    shard: ledger::Shard(0),
                    due_ms: 0,
                    id: [0; 16],
                }],
                ..Unit::default()
            },
        ),
    ] {
        let before = house.audits(TENANT).await;
        let result = vault.commit(permit, unit).await;
        assert!(is_refused(&result), "{what}: {result:?}");
        assert_eq!(house.audits(TENANT).await, before + 1, "{what}");
    }
    let update = clinician(&house, Action::Update).await;
    let moved = vault
        .commit(
            &update,
            put(a_weight("op", "q", "2026-06-02"), Expected::Version(1)),
        )
        .await;
    assert!(matches!(moved, Err(TrustError::Invalid(_))), "{moved:?}");
    for expected in [Expected::Absent, Expected::Version(4)] {
        let result = vault
            .commit(&update, put(a_weight("op", "p", "2026-06-02"), expected))
            .await;
        assert!(
            matches!(result, Err(TrustError::Ledger(LedgerError::Conflict))),
            "{result:?}"
        );
    }
    // One change that may not be takes the whole unit with it.
    let mut both = put(a_weight("new", "p", "2026-06-02"), Expected::Absent);
    both.changes.extend(
        put(
            json!({"resourceType": "Claim", "id": "c", "patient": {"reference": "Patient/p"}}),
            Expected::Absent,
        )
        .changes,
    );
    assert!(is_refused(&vault.commit(&update, both).await));
    assert!(
        vault
            .read(&update, ResourceType::Observation, "new")
            .await
            .unwrap()
            .is_none()
    );
}

// Proves: 45 CFR 164.522(a)(1)(iii)
#[tokio::test]
async fn a_restriction_hides_the_chart_and_withdrawing_messages_does_not() {
    let house = House::new().await;
    let deny = |status: &str| {
        json!({
            "resourceType": "Consent", "id": "deny", "status": status, "patient": {"reference": "Patient/p"},
            "dateTime": "2026-06-01",
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "provision": {"type": "deny", "purpose": [{"system": Purpose::SYSTEM, "code": "TREAT"}]},
        })
    };
    let mut withdrawn = care_messages("p", false, NOW_MS);
    withdrawn.set_id("messages");
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("o", "p", "2026-06-01"),
            json!({"resourceType": "Task", "id": "t", "status": "requested", "intent": "order", "for": {"reference": "Patient/p"}}),
            withdrawn.into_value(),
        ])
        .await;
    let vault = house.vault();
    let roles = [
        (staff(Role::Coordinator), Purpose::CareManagement),
        (staff(Role::Client), Purpose::Treatment),
        (staff(Role::Client), Purpose::Payment),
        (staff(Role::Clinician), Purpose::Treatment),
        (patient("p"), Purpose::PatientRequest),
    ];
    let sees = async |kind: ResourceType, id: &str| {
        let mut seen = Vec::new();
        for (agent, purpose) in &roles {
            let permit = house.permit(agent, *purpose, READ).await.unwrap();
            let read = vault.read(&permit, kind, id).await.unwrap().is_some();
            let query = query(kind, &[("_id", id), ("_total", "accurate")]);
            let found = vault.search(&permit, &query, None).await.unwrap();
            assert_eq!(found.rows.len(), usize::from(read));
            assert_eq!(found.total, Some(found.rows.len()));
            let versions = vault.history(&permit, kind, id, None, 9).await.unwrap();
            assert_eq!(versions.is_empty(), !read);
            seen.push(read);
        }
        seen
    };
    let all = [true; 5];
    assert_eq!(sees(ResourceType::Observation, "o").await, all);
    house.put([deny("active")]).await;
    assert_eq!(
        sees(ResourceType::Observation, "o").await,
        [false, false, true, true, true]
    );
    assert_eq!(sees(ResourceType::Task, "t").await, all);
    assert_eq!(sees(ResourceType::Patient, "p").await, all);
    assert_eq!(sees(ResourceType::Consent, "deny").await, all);
    // In force at the next request after the change.
    house.put([deny("inactive")]).await;
    assert_eq!(sees(ResourceType::Observation, "o").await, all);
}

/// Which messages a patient wants is one patient's of one tenant, and the only thing of its kind that patients write.
#[tokio::test]
async fn wishes_are_one_patients_and_patients_write_nothing_else_of_the_kind() {
    use crate::consent::{Topic, Wishes};

    let house = House::new().await;
    let other = TenantId(9);
    house.ledger().create_tenant(other).await.unwrap();
    for tenant in [TENANT, other] {
        let people = [a_patient("p", "Berg"), a_patient("q", "Lie")];
        house.put_for(tenant, people).await;
    }
    let vault = house.vault();
    let id = vault.wishes_id(TENANT, "p");
    assert_ne!(id, vault.wishes_id(other, "p"));
    assert_ne!(id, vault.wishes_id(TENANT, "q"));
    let mut wishes = Wishes::default();
    wishes.set_ways(Topic::Care, Some(Vec::new()));
    let of = |id: &str, patient: &str| {
        let mut resource = Resource::new(ResourceType::Basic);
        resource.set_id(id);
        wishes.write(patient, &mut resource);
        resource.into_value()
    };
    let permit = own(&house, "p", Action::Work).await;
    for (id, patient) in [
        ("another", "p"),
        (vault.wishes_id(TENANT, "q").as_str(), "q"),
        (vault.wishes_id(TENANT, "q").as_str(), "p"),
    ] {
        let tried = vault
            .commit(&permit, put(of(id, patient), Expected::Absent))
            .await;
        assert!(is_refused(&tried), "{id} {patient}");
    }
    vault
        .commit(&permit, put(of(&id, "p"), Expected::Absent))
        .await
        .unwrap();
    assert_eq!(vault.wishes(TENANT, "p").await.unwrap(), wishes);
    for (tenant, patient) in [(TENANT, "q"), (other, "p")] {
        let found = vault.wishes(tenant, patient).await.unwrap();
        assert_eq!(found, Wishes::default(), "{tenant:?} {patient}");
    }
}
