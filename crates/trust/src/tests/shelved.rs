//! Lists of rows that are kept opened, and looks at a patient's record without the patient's own.
use super::*;
use crate::Shelf;

fn a_task(id: &str, patient: &str, priority: &str) -> Value {
    json!({"resourceType": "Task", "id": id, "status": "requested", "intent": "order", "priority": priority,
        "for": {"reference": format!("Patient/{patient}")}})
}

fn consent(patient: &str, status: &str) -> Value {
    json!({
        "resourceType": "Consent", "id": "c", "status": status, "dateTime": "2026-06-01",
        "patient": {"reference": format!("Patient/{patient}")},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "provision": {"type": "permit", "provision": [{"type": "deny", "class": [
            {"system": "http://hl7.org/fhir/resource-types", "code": "Task"}]}]},
    })
}

fn auditor_of(house: &House) -> crate::audit::Auditor {
    crate::audit::Auditor::new(house.ledger().clone(), Arc::new(house.wall.clone()))
}

async fn destroy(house: &House, patient: &str) {
    let agent = staff(Role::PrivacyOfficer);
    let mut record = crate::audit::Record::new(&agent, crate::audit::Event::SWEPT);
    record.purpose = Some(Purpose::Operations);
    let draft = auditor_of(house).draft(&record);
    let ledger = house.ledger();
    ledger
        .destroy_patient_key(TENANT, patient, draft)
        .await
        .unwrap();
}

/// The priority, which is what these lists show.
fn made(resource: &Resource) -> String {
    resource
        .text_at(&["priority"])
        .unwrap_or_default()
        .to_owned()
}

async fn of(house: &House, role: Role, purpose: Purpose) -> Permit {
    house
        .permit(&staff(role), purpose, Action::Search)
        .await
        .unwrap()
}

/// Ids of the tasks that a permit shows, with what was made of them.
async fn list(house: &House, permit: &Permit, shelf: &Shelf<String>) -> Vec<String> {
    let query = query(ResourceType::Task, &[("status", "requested")]);
    let told = |row: &Arc<crate::Shelved<String>>| {
        format!("{} {}", row.resource().id().unwrap(), row.made())
    };
    let part = house
        .vault()
        .search_part(permit, &query, 100, shelf, |rows| {
            ((0..rows.len()).collect(), rows.iter().map(told).collect())
        })
        .await
        .unwrap();
    assert!(!part.incomplete);
    let mut told: Vec<String> = part.whole;
    told.sort_unstable();
    told
}

/// A version is opened once, whoever looks; what somebody may see is decided each time.
// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_version_is_opened_once_and_decided_about_each_time() {
    let house = House::new().await;
    for id in ["p", "q", "r"] {
        house.put([a_patient(id, "Berg")]).await;
        house.put([a_task(&format!("t-{id}"), id, "routine")]).await;
    }
    let shelf = Shelf::new(100, made);
    let one = of(&house, Role::Client, Purpose::Treatment).await;
    let other = of(&house, Role::Coordinator, Purpose::CareManagement).await;
    let all = ["t-p routine", "t-q routine", "t-r routine"];
    assert_eq!(list(&house, &one, &shelf).await, all);
    assert_eq!(shelf.opened(), 3);
    assert_eq!(list(&house, &other, &shelf).await, all);
    assert_eq!(list(&house, &one, &shelf).await, all);
    assert_eq!(shelf.opened(), 3);

    house.put([a_task("t-q", "q", "urgent")]).await;
    let all = ["t-p routine", "t-q urgent", "t-r routine"];
    assert_eq!(list(&house, &one, &shelf).await, all);
    assert_eq!(shelf.opened(), 4);

    // A consent hides one of them as soon as it is there, and no longer than it is there.
    house.put([consent("p", "active")]).await;
    assert_eq!(list(&house, &one, &shelf).await, all[1..]);
    house.put([consent("p", "inactive")]).await;
    assert_eq!(list(&house, &one, &shelf).await, all);
    assert_eq!(shelf.opened(), 4);

    // What was ended is in the list no longer.
    let mut ended = a_task("t-r", "r", "routine");
    ended["status"] = json!("completed");
    house.put([ended]).await;
    assert_eq!(list(&house, &one, &shelf).await, all[..2]);
    assert_eq!(shelf.opened(), 4);

    // Another organisation sees nothing of what is kept.
    let elsewhere = Agent {
        tenant: OTHER,
        ..staff(Role::Client)
    };
    let elsewhere = house
        .permit(&elsewhere, Purpose::Treatment, Action::Search)
        .await;
    assert_eq!(list(&house, &elsewhere.unwrap(), &shelf).await, [""; 0]);

    // Who may not look for them is refused, whatever is kept.
    let reader = auditor(&house).await;
    let query = query(ResourceType::Task, &[]);
    let refused = house
        .vault()
        .search_part(&reader, &query, 9, &shelf, |_| (Vec::new(), ()))
        .await;
    assert!(is_refused(&refused));
    let refused = house
        .vault()
        .search_shelved(&reader, &[query], &shelf)
        .await;
    assert!(is_refused(&refused));
}

/// What a destroyed key sealed is shown no longer, though it was kept opened.
#[tokio::test]
async fn what_is_kept_opened_goes_with_its_key() {
    let house = House::new().await;
    for id in ["p", "q"] {
        house.put([a_patient(id, "Berg")]).await;
        house.put([a_task(&format!("t-{id}"), id, "routine")]).await;
    }
    let shelf = Shelf::new(100, made);
    let one = of(&house, Role::Client, Purpose::Treatment).await;
    assert_eq!(list(&house, &one, &shelf).await.len(), 2);
    destroy(&house, "p").await;
    assert_eq!(list(&house, &one, &shelf).await, ["t-q routine"]);
}

/// The audit has what is shown, and says of how many.
// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn of_what_is_kept_opened_the_audit_has_what_is_shown() {
    let house = House::new().await;
    for id in ["p", "q", "r"] {
        house.put([a_patient(id, "Berg")]).await;
        house.put([a_task(&format!("t-{id}"), id, "routine")]).await;
    }
    let shelf = Shelf::new(100, made);
    let one = of(&house, Role::Client, Purpose::Treatment).await;
    let query = query(ResourceType::Task, &[]);
    for round in 0..2 {
        let part = house
            .vault()
            .search_part(&one, &query, 2, &shelf, |rows| (vec![1], rows.len()))
            .await
            .unwrap();
        assert!(part.incomplete && part.whole == 2);
        let event = house.audit_events(TENANT).await.swap_remove(0);
        assert_eq!(
            event.text_at(&["outcomeDesc"]),
            Some("1 of 2 rows shown"),
            "{round}"
        );
        // The newest comes first, and the second of them is shown.
        let text = String::from_utf8(event.to_json()).unwrap();
        assert!(
            text.contains("Task/t-q") && text.contains("Patient/q"),
            "{text}"
        );
        assert!(
            !text.contains("Task/t-r") && !text.contains("Patient/p"),
            "{text}"
        );
    }
}

/// Looks at a patient's own record that the patient did themselves are left out without being opened, but for those
/// that are written down without a token of that.
#[tokio::test]
async fn a_patients_own_looks_are_left_out_unopened() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_patient("q", "Dahl")])
        .await;
    let vault = house.vault();
    let look = async |permit: &Permit| {
        vault
            .read(permit, ResourceType::Patient, "p")
            .await
            .unwrap()
            .unwrap();
    };
    let staff = clinician(&house, READ).await;
    look(&staff).await;
    let patient = own(&house, "p", READ).await;
    for _ in 0..30 {
        look(&patient).await;
    }
    let search = own(&house, "p", Action::Search).await;
    let asked = query(
        ResourceType::AuditEvent,
        &[("patient", "Patient/p"), ("_count", "5")],
    );
    let others = vault
        .search_others_acts(&search, &asked, None)
        .await
        .unwrap();
    let who: Vec<_> = (others.rows.iter())
        .map(|row| {
            row.resource
                .text_at(&["agent", "0", "altId"])
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        who.contains(&staff.agent.id) && !who.contains(&patient.agent.id),
        "{who:?}"
    );
    assert_eq!(others.candidates, others.rows.len());
    assert!(others.next.is_none());
    // All of them are there where they are asked for.
    let all = vault.search(&search, &asked, None).await.unwrap();
    assert_eq!(all.rows.len(), 5);
    // Page by page it is the same.
    let one = query(
        ResourceType::AuditEvent,
        &[("patient", "Patient/p"), ("_count", "1")],
    );
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = vault
            .search_others_acts(&search, &one, before)
            .await
            .unwrap();
        seen.extend(page.rows.iter().map(|row| row.at));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let whole: Vec<_> = others.rows.iter().map(|row| row.at).collect();
    assert_eq!(seen, whole);
    // What programs of before wrote has no token of it: it is opened, so many of them for a page, and left out.
    let agent = super::patient("p");
    let kind = crate::tokens::kind(ResourceType::AuditEvent);
    let token = house.ledger().token(TENANT, kind, "~own-act", "p");
    for _ in 0..10 {
        let mut record = crate::audit::Record::new(&agent, crate::audit::Event::READ);
        record.purpose = Some(Purpose::PatientRequest);
        record.touch(crate::audit::Touched {
            kind: ResourceType::Patient,
            id: "p".to_owned(),
            version: Some(1),
            patient: Some("p".to_owned()),
            interaction: None,
        });
        let mut draft = auditor_of(&house).draft(&record);
        let before = draft.tokens.len();
        draft.tokens.retain(|one| *one != token);
        assert_eq!(draft.tokens.len(), before - 1);
        let mut commit = ledger::Commit::new(TENANT);
        commit.audit = Some(draft);
        house.ledger().commit(commit).await.unwrap();
    }
    let first = vault
        .search_others_acts(&search, &asked, None)
        .await
        .unwrap();
    assert!(first.rows.is_empty() && first.next.is_some());
    assert_eq!(first.candidates, 8);
    let next = vault
        .search_others_acts(&search, &asked, first.next)
        .await
        .unwrap();
    let rest: Vec<_> = next.rows.iter().map(|row| row.at).collect();
    assert_eq!(rest, whole);
    assert!(next.next.is_none());
    // Whoever is not limited to a patient can't say whose.
    let auditor = house
        .permit(
            &super::staff(Role::PrivacyOfficer),
            Purpose::Operations,
            Action::Audit,
        )
        .await
        .unwrap();
    let refused = vault.search_others_acts(&auditor, &asked, None).await;
    assert!(matches!(refused, Err(TrustError::Invalid(_))));
}
