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
    assert_eq!(shelf.kept(), 2);
    destroy(&house, "p").await;
    // At once, without another look.
    assert_eq!(shelf.kept(), 0);
    assert_eq!(list(&house, &one, &shelf).await, ["t-q routine"]);
}

/// What no list uses any more leaves the memory by itself.
#[tokio::test]
async fn what_is_kept_opened_goes_when_no_list_uses_it() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    house.put([a_task("t", "p", "routine")]).await;
    let shelf = Shelf::new(100, made);
    let one = of(&house, Role::Client, Purpose::Treatment).await;
    for round in 1..=2 {
        assert_eq!(list(&house, &one, &shelf).await, ["t routine"]);
        assert_eq!((shelf.kept(), shelf.opened()), (1, round));
        let mut minutes = 0;
        while shelf.kept() > 0 {
            assert!(minutes <= 11, "still kept");
            house.care.advance(60_000);
            minutes += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(minutes > 5, "{minutes}");
    }
}

/// What has a very long text is in the list, and is not kept.
#[tokio::test]
async fn what_is_large_is_not_kept_opened() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let mut large = a_task("large", "p", "routine");
    large["description"] = json!("x".repeat(100_000));
    house.put([large, a_task("small", "p", "urgent")]).await;
    let shelf = Shelf::new(100, made);
    let one = of(&house, Role::Client, Purpose::Treatment).await;
    for opened in [2, 3] {
        let all = ["large routine", "small urgent"];
        assert_eq!(list(&house, &one, &shelf).await, all);
        assert_eq!((shelf.kept(), shelf.opened()), (1, opened));
    }
}

/// A filled shelf shows each what a search shows them: no row that a label or a consent hides, nor an element that a
/// rule hides.
// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_filled_shelf_shows_each_what_a_search_shows() {
    let house = House::new().await;
    let mut labelled = a_weight("o-q", "q", "2026-06-01");
    labelled["meta"] = json!({"security": [
        {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"}]});
    for id in ["p", "q", "r"] {
        house.put([a_patient(id, "Berg")]).await;
    }
    let (first, last) = (
        a_weight("o-p", "p", "2026-06-01"),
        a_weight("o-r", "r", "2026-06-01"),
    );
    house.put([first, labelled, last]).await;
    let rule = "[[rule]]\nid = \"x\"\nsays = \"x\"\nrole = \"client\"\npurpose = \"HPAYMT\"\n\
        type = \"Observation\"\nhides = [\"value\"]";
    let trust = super::necessary::under(&house, rule);
    let (vault, shelf) = (trust.vault(), Shelf::new(100, |_| ()));
    let query = query(ResourceType::Observation, &[("status", "final")]);
    // Rows with whether their value is there.
    let told = |resource: &Resource| {
        let value = resource.get("valueQuantity").is_some();
        format!("{} {value}", resource.id().unwrap())
    };
    let looks = [
        (Role::Client, Purpose::Treatment),
        (Role::Client, Purpose::Payment),
        (Role::Client, Purpose::Operations),
        (Role::Client, Purpose::Research),
        (Role::Clinician, Purpose::Treatment),
        (Role::Coordinator, Purpose::CareManagement),
        (Role::Client, Purpose::Treatment),
    ];
    for denied in [false, true] {
        if denied {
            let mut consent = consent("p", "active");
            consent["provision"] = json!({"type": "deny"});
            house.put([consent]).await;
        }
        for (role, purpose) in looks {
            let why = format!("{role:?} {purpose:?}, denied: {denied}");
            let agent = staff(role);
            let decided = trust.decide(&agent, purpose, Action::Search, Target::default(), "r");
            let Ok(permit) = decided.await else { continue };
            let plain = vault.search(&permit, &query, None).await;
            let kept = vault
                .search_part(&permit, &query, 100, &shelf, |rows| {
                    let all = rows.iter().map(|row| told(row.resource()));
                    ((0..rows.len()).collect(), all.collect::<Vec<_>>())
                })
                .await;
            if is_refused(&plain) {
                assert!(is_refused(&kept), "{why}");
                continue;
            }
            let plain: Vec<String> = (plain.unwrap().rows.iter())
                .map(|row| told(&row.resource))
                .collect();
            let kept = kept.unwrap().whole;
            assert_eq!(kept, plain, "{why}");
            if (role, purpose) == (Role::Client, Purpose::Treatment) {
                // What is hidden is on the shelf all the same.
                let seen: &[&str] = if denied {
                    &["o-r true"]
                } else {
                    &["o-r true", "o-p true"]
                };
                assert_eq!((kept, shelf.kept()), (to_texts(seen), 3), "{why}");
            } else if purpose == Purpose::Payment {
                assert!(!kept.concat().contains("true"), "{why}");
            }
        }
    }
    assert_eq!(shelf.opened(), 3);
}

fn to_texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
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
