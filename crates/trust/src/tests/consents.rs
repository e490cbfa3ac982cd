//! What a change of consents would change, told before it is made, is what it changes.
use std::collections::BTreeSet;

use base64::Engine as _;

use super::*;
use crate::consent::Asked;

fn consent(id: &str, provision: &Value) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active", "patient": {"reference": "Patient/p"},
        "dateTime": "2026-06-01", "provision": provision,
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
    })
}

#[tokio::test]
async fn what_if_tells_what_a_change_would_change() {
    let house = House::new().await;
    let task = json!({"resourceType": "Task", "id": "t", "status": "requested", "intent": "order",
        "for": {"reference": "Patient/p"}});
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("o", "p", "2026-06-01"),
            json!({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}}),
            task,
            a_patient("q", "Dahl"),
            a_weight("other", "q", "2026-06-01"),
        ])
        .await;
    let vault = house.vault();
    let own = house
        .permit(&patient("p"), Purpose::PatientRequest, Action::Search)
        .await
        .unwrap();
    let asked = Asked {
        role: Role::Client,
        purpose: Purpose::Treatment,
        now_ms: i64::try_from(NOW_MS).unwrap(),
        known_as: Vec::new(),
    };
    let client = staff(Role::Client);
    let seen = async || {
        let permit = house
            .permit(&client, Purpose::Treatment, Action::Read)
            .await
            .unwrap();
        let mut seen = BTreeSet::new();
        for (kind, id) in [
            (ResourceType::Observation, "o"),
            (ResourceType::Condition, "c"),
            (ResourceType::Task, "t"),
        ] {
            if vault.read(&permit, kind, id).await.unwrap().is_some() {
                seen.insert(format!("{kind}/{id}"));
            }
        }
        seen
    };
    let observations = json!([{"code": "Observation"}]);
    let mut stopped = Vec::new();
    for provision in [
        json!({"type": "deny", "class": observations}),
        json!({"type": "deny"}),
        json!({"type": "permit", "provision": [{"type": "deny", "class": [{"code": "Task"}]}]}),
        json!({"type": "permit"}),
    ] {
        let change = Resource::from_value(consent("c", &provision)).unwrap();
        let told = vault.what_if(&own, &change, &asked).await.unwrap();
        let before = seen().await;
        house.put([consent("c", &provision)]).await;
        let after = seen().await;
        let names = |list: &[fhir::Reference]| -> BTreeSet<String> {
            list.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(&told.lost), &before - &after, "{provision}");
        assert_eq!(names(&told.gained), &after - &before, "{provision}");
        stopped.push((
            told.stopped.contains(&Purpose::Treatment),
            told.started.contains(&Purpose::Treatment),
        ));
    }
    // A denial of a part counts whole for journeys, as decision 6 has it.
    assert_eq!(
        stopped,
        [(true, false), (false, false), (false, false), (false, true)]
    );
    // Of nobody else's record, and to nobody who may not see it.
    let mut elsewhere = Resource::from_value(consent("d", &json!({"type": "deny"}))).unwrap();
    elsewhere.set("patient", json!({"reference": "Patient/q"}));
    assert!(vault.what_if(&own, &elsewhere, &asked).await.is_err());
    let observing = house
        .permit(&staff(Role::Squad), Purpose::Operations, Action::Observe)
        .await
        .unwrap();
    let refused = vault.what_if(&observing, &elsewhere, &asked).await;
    assert!(matches!(refused, Err(TrustError::Refused(_))));
    // A look at the record is in the audit.
    let officer = staff(Role::PrivacyOfficer);
    let audit = house
        .permit(&officer, Purpose::Operations, Action::Audit)
        .await
        .unwrap();
    let query = query(ResourceType::AuditEvent, &[]);
    let events = vault.search(&audit, &query, None).await.unwrap().rows;
    let asked = events.iter().any(|row| {
        let entities = row.resource.get("entity").and_then(Value::as_array);
        entities.into_iter().flatten().any(|entity| {
            let query = entity.get("query").and_then(Value::as_str);
            let query = base64::engine::general_purpose::STANDARD.decode(query.unwrap_or_default());
            String::from_utf8(query.unwrap())
                .unwrap()
                .contains("Consent/$what-if")
        })
    });
    assert!(asked);
}
