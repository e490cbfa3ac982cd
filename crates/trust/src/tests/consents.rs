//! What a change of consents would change, told before it is made, is what it changes.
use std::collections::BTreeSet;

use base64::Engine as _;

use super::*;
use crate::consent::{Act, Asked, Draft};

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

/// What the page tells of everybody who might ask is what they find, each by each, before and after.
#[tokio::test]
async fn what_is_foreseen_for_everybody_is_what_comes() {
    let house = House::new().await;
    let of_p = |kind: &str, id: &str| {
        json!({"resourceType": kind, "id": id, "status": "active", "intent": "order",
            "subject": {"reference": "Patient/p"}, "patient": {"reference": "Patient/p"}})
    };
    let mut rows = vec![a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")];
    rows.extend(["m1", "m2", "m3"].map(|id| of_p("MedicationRequest", id)));
    let mut hiv = of_p("Condition", "hiv");
    hiv["code"] = json!({"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "B20"}]});
    rows.push(hiv);
    rows.push(of_p("Coverage", "cover"));
    house.put(rows).await;
    let (vault, identity) = (house.vault(), house.trust.identity());
    let operator = Agent::system(TENANT, "command-line");
    let administers = house
        .permit(&operator, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    let mut askers = vec![
        staff(Role::Client),
        staff(Role::Coordinator),
        staff(Role::Clinician),
    ];
    for (name, known_as) in [
        ("Pharmacy X", "Organization/x"),
        ("Laboratory", "Organization/y"),
    ] {
        let token = identity
            .create_client(&operator, name, Role::Client)
            .await
            .unwrap();
        let agent = identity.bearer(&token).await.unwrap();
        let known_as = [known_as.to_owned()];
        identity
            .set_known_as(&administers, &agent.id, &known_as)
            .await
            .unwrap();
        askers.push(agent);
    }
    let own = house
        .permit(&patient("p"), Purpose::PatientRequest, Action::Search)
        .await
        .unwrap();
    let known = house.trust.whom_consents_can_name(&own).await.unwrap();
    assert_eq!(known.len(), 2, "{known:?}");
    let all = [
        (ResourceType::Observation, "o"),
        (ResourceType::MedicationRequest, "m1"),
        (ResourceType::MedicationRequest, "m2"),
        (ResourceType::MedicationRequest, "m3"),
        (ResourceType::Condition, "hiv"),
        (ResourceType::Coverage, "cover"),
    ];
    let purposes = [
        Purpose::Treatment,
        Purpose::CareManagement,
        Purpose::Payment,
    ];
    let seen = async |agent: &Agent, purpose| {
        let mut seen = BTreeSet::new();
        let Ok(permit) = house.permit(agent, purpose, Action::Read).await else {
            return seen;
        };
        for (kind, id) in all {
            let found = vault.read(&permit, kind, id).await;
            if found.is_ok_and(|found| found.is_some()) {
                seen.insert((kind, id));
            }
        }
        seen
    };
    let counted = |rows: BTreeSet<(ResourceType, &str)>| {
        let mut counts = crate::Counts::new();
        for (kind, _) in rows {
            *counts.entry(kind).or_default() += 1;
        }
        counts
    };
    let x = || vec!["Organization/x".to_owned()];
    let drafts = [
        Draft {
            actors: x(),
            classes: vec![ResourceType::MedicationRequest],
            ..Draft::default()
        },
        Draft {
            labels: vec!["HIV".to_owned()],
            except: x(),
            ..Draft::default()
        },
        Draft {
            purposes: vec![Purpose::Payment],
            ..Draft::default()
        },
        Draft {
            agreed_by: Some("Here".to_owned()),
            ..Draft::default()
        },
        Draft {
            permits: true,
            ..Draft::default()
        },
        Draft {
            permits: true,
            actors: x(),
            ..Draft::default()
        },
    ];
    let acts = [Act {
        purpose: Purpose::Treatment,
        about: vec![ResourceType::Observation],
        known_as: vec!["Organization/here".to_owned()],
    }];
    let mut of_journeys = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        let mut consent = draft.consent("p", NOW_MS - 100 + place as u64).unwrap();
        let told = house.trust.what_if(&own, &consent, &acts).await.unwrap();
        assert!(told.complete);
        of_journeys.push(told.acts[0]);
        let mut before = Vec::new();
        for agent in &askers {
            for purpose in purposes {
                before.push((agent, purpose, seen(agent, purpose).await));
            }
        }
        consent.set_id(&format!("c{place}"));
        house.put([consent.into_value()]).await;
        let mut is_changed = false;
        for (agent, purpose, before) in before {
            let after = seen(agent, purpose).await;
            let found = (counted(&before - &after), counted(&after - &before));
            is_changed |= before != after;
            let by_name = told
                .parties
                .iter()
                .find(|party| party.names.contains(&agent.name));
            let of_role = told
                .parties
                .iter()
                .find(|party| party.names.is_empty() && party.role == agent.role);
            let effect = by_name.or(of_role).and_then(|party| {
                party
                    .effects
                    .iter()
                    .find(|effect| effect.purposes.contains(&purpose))
            });
            let told = effect.map_or_else(Default::default, |effect| {
                (effect.lost.clone(), effect.gained.clone())
            });
            assert_eq!(told, found, "{draft:?}: {} for {purpose:?}", agent.name);
        }
        assert_eq!(
            is_changed,
            !told.parties.iter().all(|party| party.effects.is_empty()),
            "{draft:?}"
        );
        if place == 0 {
            let of_x = told
                .parties
                .iter()
                .find(|party| party.names == ["Pharmacy X"])
                .unwrap();
            assert_eq!(
                of_x.effects[0].lost,
                crate::Counts::from([(ResourceType::MedicationRequest, 3)])
            );
        }
    }
    // A pharmacy's prescriptions are no matter of a journey that goes by measurements; a label might be.
    assert_eq!(
        of_journeys,
        [
            (true, true),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, true)
        ]
    );
}

/// Rows are passed on as they are stored where nothing asks what else they say, and read whole where a
/// consent does.
#[tokio::test]
async fn consents_that_look_into_rows_have_them_read_whole() {
    let house = House::new().await;
    let mut kept = a_weight("kept", "p", "2026-06-02");
    kept["valueQuantity"]["value"] = json!(80.10);
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("o", "p", "2026-06-01"),
            kept,
        ])
        .await;
    let vault = house.vault();
    let client = staff(Role::Client);
    let of = async |action| {
        let permit = house.permit(&client, Purpose::Treatment, action).await;
        permit.unwrap()
    };
    let (search, read) = (of(Action::Search).await, of(Action::Read).await);
    let asked = query(
        ResourceType::Observation,
        &[("patient", "p"), ("code", "29463-7")],
    );
    let texts = async || {
        let page = vault.search(&search, &asked, None).await.unwrap();
        let parts = texts_are_the_rows(vault, (&search, &asked), None, &page).await;
        let whole = vault
            .read(&read, ResourceType::Observation, "o")
            .await
            .unwrap();
        let text = vault
            .read_text(&read, ResourceType::Observation, "o")
            .await
            .unwrap();
        assert_eq!(
            text.as_ref().map(|row| row.json().into_owned()),
            whole.map(|row| row.resource.to_json())
        );
        (page.rows.len(), parts, text.map(|row| row.text.is_some()))
    };
    assert_eq!(texts().await, (2, 2, Some(true)));
    let denied = |code: &str| {
        let codes = json!([{"coding": [{"system": "http://loinc.org", "code": code}]}]);
        consent("c", &json!({"type": "deny", "code": codes}))
    };
    // Of another code; whoever decides has to look at this one's all the same.
    house.put([denied("8302-2")]).await;
    assert_eq!(texts().await, (2, 0, Some(false)));
    house.put([denied("29463-7")]).await;
    assert_eq!(texts().await, (0, 0, None));
    house.put([consent("c", &json!({"type": "permit"}))]).await;
    assert_eq!(texts().await, (2, 2, Some(true)));
}

// Proves: 45 CFR 164.508(b)(5), 164.522(a)(1)(iii)
// Proves: 42 CFR 2.31(c)
#[tokio::test]
async fn a_change_at_one_server_decides_at_the_other_at_the_next_request() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    // What another server has in memory: the same consents made ready, the same decisions.
    let elsewhere = House::trust_over(house.ledger().clone(), &house.wall);
    let client = staff(Role::Client);
    let seen = async || {
        let target = Target::default();
        let (purpose, action) = (Purpose::Treatment, Action::Read);
        let permit = elsewhere
            .decide(&client, purpose, action, target, "r")
            .await;
        let kind = ResourceType::Observation;
        let read = elsewhere.vault().read(&permit.unwrap(), kind, "o").await;
        read.unwrap().is_some()
    };
    for (kind, is_seen) in [("permit", true), ("deny", false), ("permit", true)] {
        house.put([consent("c", &json!({"type": kind}))]).await;
        assert_eq!(seen().await, is_seen, "{kind}");
        assert_eq!(seen().await, is_seen, "{kind}, from memory");
    }
}

/// Whom policies let see a record at some hours or from somewhere alone, a change of consents concerns too.
#[tokio::test]
async fn what_if_names_those_whom_policies_let_see_at_other_moments() {
    const AROUND: &str = r#"
        @id("ward-by-night") forbid (principal in Role::"clinician", action in Action::"look", resource)
        unless { context.networks.contains("ward") && context.time.hour < 6 };
        @id("passkeys") forbid (principal in Role::"coordinator", action in Action::"look", resource)
        when { context.session.factor != "passkey" || context.time.weekday != "sunday" };"#;
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let folder = tempfile::tempdir().unwrap();
    let files = crate::PolicySet::built_in_files();
    let files = files.filter(|(name, _)| !name.ends_with(".test.toml"));
    for (name, text) in files.chain([("around.cedar", AROUND)]) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let around = Trust::new(TrustOptions {
        ledger: house.ledger().clone(),
        wall_clock: Arc::new(house.wall.clone()),
        policy_folder: Some(folder.path().to_owned()),
        session_idle_s: 900,
        session_absolute_s: 3600,
    })
    .unwrap();
    let draft = Draft {
        agreed_by: Some("Here".to_owned()),
        ..Draft::default()
    };
    let consent = draft.consent("p", NOW_MS - 100).unwrap();
    let patient = patient("p");
    let mut told = Vec::new();
    for trust in [&house.trust, &around] {
        let (purpose, target) = (Purpose::PatientRequest, Target::default());
        let own = trust.decide(&patient, purpose, Action::Search, target, "r");
        let own = own.await.unwrap();
        told.push(trust.what_if(&own, &consent, &[]).await.unwrap().parties);
    }
    let roles: Vec<Role> = told[1].iter().map(|party| party.role).collect();
    for role in [Role::Clinician, Role::Coordinator] {
        assert!(roles.contains(&role), "{role:?} is left out: {roles:?}");
    }
    assert_eq!(told[0], told[1]);
}
