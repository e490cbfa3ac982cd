//! Reading and writing through the gate: the row rule, consent, the audit, tenants.
use ledger::{LedgerError, Owner, TimerKey};

use super::*;
use crate::consent::care_messages;
use crate::{Internal, kinds};

const READ: Action = Action::Read;

async fn clinician(house: &House, action: Action) -> Permit {
    house
        .permit(&staff(Role::Clinician), Purpose::Treatment, action)
        .await
        .unwrap()
}

async fn own(house: &House, id: &str, action: Action) -> Permit {
    house
        .permit(&patient(id), Purpose::PatientRequest, action)
        .await
        .unwrap()
}

async fn auditor(house: &House) -> Permit {
    let officer = staff(Role::PrivacyOfficer);
    house
        .permit(&officer, Purpose::Operations, Action::Audit)
        .await
        .unwrap()
}

fn put(value: Value, expected: Expected) -> Unit {
    let resource = Resource::from_value(value).unwrap();
    Unit {
        changes: vec![Change::Put { resource, expected }],
        ..Unit::default()
    }
}

fn is_refused<T>(result: &Result<T, TrustError>) -> bool {
    matches!(result, Err(TrustError::Refused(_)))
}

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

#[tokio::test]
async fn writes_are_checked_one_by_one() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_patient("q", "Tal"),
            a_weight("op", "p", "2026-06-01"),
            json!({"resourceType": "Task", "id": "tq", "status": "requested", "intent": "order", "for": {"reference": "Patient/q"}}),
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
    for (what, permit, unit) in [
        (
            "another's record",
            &work,
            put(answer("q"), Expected::Absent),
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
    let permit = own(&house, "p0", Action::Search).await;
    let asked = query(
        ResourceType::AuditEvent,
        &[("subtype", "search-type"), ("altid", "account-clinician")],
    );
    assert_eq!(
        house
            .vault()
            .search(&permit, &asked, None)
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
}

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
    let record = crate::audit::Record::new(&agent, crate::audit::Event::DELETE);
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

/// Details that must not be in any error's words.
const CANARIES: [&str; 4] = ["Zanzibarski", "1950-02-03", "80.5", "canary-mrn"];

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
        commit.audit = Some(auditor.draft(&crate::audit::Record::new(&agent, crate::audit::Event::CREATE)));
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
