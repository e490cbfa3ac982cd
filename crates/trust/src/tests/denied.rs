//! What consents deny as a whole is left out of a search's plan, and a denial of what was asked for by its name is
//! in the audit as a decision.
use super::*;

fn consent(id: &str, patient: &str, provision: &Value) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active", "dateTime": "2026-06-01",
        "patient": {"reference": format!("Patient/{patient}")}, "provision": provision,
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
    })
}

/// A patient with so many weights, named by the patient and a number.
async fn with_weights(house: &House, patient: &str, count: usize) {
    house.put([a_patient(patient, "Berg")]).await;
    for number in 0..count {
        let id = format!("{patient}-{number}");
        house.put([a_weight(&id, patient, "2026-06-01")]).await;
    }
}

async fn client(house: &House, action: Action) -> Permit {
    house
        .permit(&staff(Role::Client), Purpose::Treatment, action)
        .await
        .unwrap()
}

/// Rows that consents deny as a whole cost a search no more than a few of them, however many there are; and
/// nothing else is left out with them.
// Proves: 45 CFR 164.522(a)(1)(iii)
#[tokio::test]
async fn what_is_denied_as_a_whole_is_left_out_of_the_plan() {
    let house = House::new().await;
    with_weights(&house, "q", 3).await;
    let mut both = a_weight("both", "q", "2026-06-01");
    both["performer"] = json!([{"reference": "Patient/p"}]);
    house.put([both]).await;
    with_weights(&house, "p", 120).await;
    house
        .put([
            json!({"resourceType": "Task", "id": "t", "status": "requested", "intent": "order",
            "for": {"reference": "Patient/p"}}),
        ])
        .await;
    let vault = house.vault();
    let permit = client(&house, Action::Search).await;
    let list = async |parameters: &[(&str, &str)]| {
        let query = query(ResourceType::Observation, parameters);
        vault.search(&permit, &query, None).await.unwrap()
    };
    let all: &[&[(&str, &str)]] = &[
        &[("_count", "10"), ("_total", "accurate")],
        &[("_count", "10"), ("code", "29463-7")],
        &[("_count", "10"), ("code:not", "1-8")],
        &[("_count", "10"), ("subject", "Patient/p")],
        &[("_count", "10"), ("date", "ge2026-01-01")],
    ];
    // A word about a part looks into each row.
    let part = json!({"type": "permit", "provision": [{"type": "deny", "code": [{"coding": [{"code": "29463-7"}]}]}]});
    for (provision, seen, most) in [
        (json!({"type": "deny"}), 3, 30),
        (part, 3, usize::MAX),
        (json!({"type": "permit"}), 124, usize::MAX),
    ] {
        house.put([consent("c", "p", &provision)]).await;
        for asked in all {
            let page = list(asked).await;
            let of_one = asked.iter().any(|(name, _)| *name == "subject");
            let is_open = seen > 10;
            let expected = match (of_one, is_open) {
                (true, false) => 0,
                (false, false) => seen,
                (_, true) => 10,
            };
            assert_eq!(page.rows.len(), expected, "{provision} {asked:?}");
            if let Some(total) = page.total {
                assert_eq!(total, seen, "{provision}");
            }
            assert!(page.candidates <= most, "{asked:?}: {}", page.candidates);
        }
    }
    // Work on a patient's behalf is not hidden by a general word, and is not left out.
    house
        .put([consent("c", "p", &json!({"type": "deny"}))])
        .await;
    let kinds = [ResourceType::Observation, ResourceType::Task];
    let queries = kinds.map(|kind| query(kind, &[("_count", "10")]));
    let pages = vault.search_many(&permit, &queries).await.unwrap();
    let rows: Vec<usize> = pages.iter().map(|page| page.rows.len()).collect();
    assert_eq!(rows, [3, 1]);
}

/// Events of decisions, newest first.
async fn decisions(house: &House) -> Vec<Resource> {
    let events = house.audit_events(TENANT).await.into_iter();
    let is_one =
        |event: &Resource| event.text_at(&["subtype", "0", "code"]) == Some("AuthZ-Consent");
    events.filter(is_one).collect()
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn a_denial_by_a_consent_is_in_the_audit_as_a_decision() {
    let house = House::new().await;
    let psychotherapy = json!({"resourceType": "Observation", "id": "notes", "status": "final",
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"}]},
        "code": {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}, "subject": {"reference": "Patient/q"}});
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("o", "p", "2026-06-01"),
            a_patient("q", "Dahl"),
            psychotherapy,
        ])
        .await;
    let vault = house.vault();
    let read = client(&house, Action::Read).await;
    let look = async |id: &str| {
        let row = vault.read(&read, ResourceType::Observation, id).await;
        row.unwrap().is_some()
    };
    assert!(look("o").await);
    // What the rules keep for want of a consent was decided by none.
    assert!(!look("notes").await);
    assert!(decisions(&house).await.is_empty());

    house
        .put([consent("c", "p", &json!({"type": "deny"}))])
        .await;
    assert!(!look("o").await);
    let version = vault
        .read_version(&read, ResourceType::Observation, "o", 1)
        .await;
    assert!(version.unwrap().is_none());
    let history = client(&house, Action::History).await;
    let versions = vault
        .history(&history, ResourceType::Observation, "o", None, 9)
        .await;
    assert!(versions.unwrap().is_empty());
    let found = decisions(&house).await;
    assert_eq!(found.len(), 3, "{found:?}");
    for event in &found {
        // Drafting it has checked it against its pattern.
        let text = String::from_utf8(event.to_json()).unwrap();
        assert_eq!(event.text_at(&["outcome"]), Some("8"));
        for word in [
            "Consent/c",
            "Patient/p",
            "Observation/o",
            "TREAT",
            "urn:cairn:tenant",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    // Each is beside the record of its refusal, and found by its consent.
    let events = house.audit_events(TENANT).await;
    let refused = |event: &&Resource| event.text_at(&["outcome"]) == Some("8");
    assert_eq!(events.iter().filter(refused).count(), 3 + 3 + 1);
    let audit = auditor(&house).await;
    let by_consent = query(ResourceType::AuditEvent, &[("entity", "Consent/c")]);
    let page = vault.search(&audit, &by_consent, None).await.unwrap();
    let codes: Vec<_> = (page.rows.iter())
        .map(|row| row.resource.text_at(&["subtype", "0", "code"]))
        .collect();
    let decided = codes.iter().filter(|code| **code == Some("AuthZ-Consent"));
    assert_eq!(decided.count(), 3, "{codes:?}");
    // The patient is shown it, with nothing of the request but its name.
    let mine = own(&house, "p", Action::Search).await;
    let shown = vault
        .search(&mine, &query(ResourceType::AuditEvent, &[]), None)
        .await
        .unwrap();
    let shown = (shown.rows.iter())
        .filter(|row| row.resource.text_at(&["subtype", "0", "code"]) == Some("AuthZ-Consent"));
    assert_eq!(shown.count(), 3);
    // Where the asker is known as an organization, it was decided for that one.
    let operator = Agent::system(TENANT, "command-line");
    let administers = house
        .permit(&operator, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    let identity = house.trust.identity();
    let token = identity
        .create_client(&operator, "ward", Role::Client)
        .await
        .unwrap();
    let agent = identity.bearer(&token).await.unwrap();
    let known_as = ["Organization/ward".to_owned()];
    identity
        .set_known_as(&administers, &agent.id, &known_as)
        .await
        .unwrap();
    let read = house
        .permit(&agent, Purpose::Treatment, Action::Read)
        .await
        .unwrap();
    let row = vault.read(&read, ResourceType::Observation, "o").await;
    assert!(row.unwrap().is_none());
    let newest = decisions(&house).await.remove(0);
    let agents = newest.get("agent").unwrap().to_string();
    assert!(agents.contains("Organization/ward"), "{agents}");
    assert!(!agents.contains("urn:cairn:tenant"), "{agents}");
}
