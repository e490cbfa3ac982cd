//! Devices on which patients are notified: whose they are, how many, and what ends them.
use super::*;
use crate::audit::{Auditor, Event, Record};
use crate::identity::{NewPushDevice, NoPush, PUSH_DEVICES_MAX};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

const BORN: &str = "1941-03-07";

fn device(number: usize) -> NewPushDevice {
    NewPushDevice {
        name: format!("Telephone {number}"),
        endpoint: format!("https://push.example/{number}"),
        key: format!("B{}", "A".repeat(86)),
        auth: "A".repeat(22),
    }
}

/// A patient, and a session of theirs.
async fn patient(house: &House, id: &str) -> Session {
    let mut record = a_patient(id, "Berg");
    record["birthDate"] = json!(BORN);
    house.put([record]).await;
    session(house, id).await
}

async fn session(house: &House, id: &str) -> Session {
    let identity = house.trust.identity();
    let link = identity.make_link(&demo(), id, 3_600, true).await.unwrap();
    done(identity.use_link(TENANT, &link, BORN).await.unwrap()).1
}

async fn count(house: &House, session: &Session) -> usize {
    let identity = house.trust.identity();
    identity.push_devices(session).await.unwrap().len()
}

/// Where a patient is notified, as the part that sends sees it.
async fn sent_to(house: &House, id: &str) -> Result<Vec<String>, NoPush> {
    let record = json!({"resourceType": "Patient", "id": id});
    let record = fhir::Resource::from_value(record).unwrap();
    let found = house.vault().notifies_on(TENANT, &record, 0).await.unwrap();
    Ok(found?.into_iter().map(|device| device.endpoint).collect())
}

#[tokio::test]
async fn devices_come_are_bounded_and_go() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
    for number in 0..PUSH_DEVICES_MAX {
        identity
            .add_push_device(&ida, &device(number))
            .await
            .unwrap();
    }
    let more = identity.add_push_device(&ida, &device(9)).await;
    assert!(matches!(more, Err(TrustError::Invalid(_))), "{more:?}");
    // One that is known keeps its place, under its new name and with its new key.
    let mut again = device(1);
    again.name = "Tablet".to_owned();
    again.auth = "B".repeat(21) + "A";
    identity.add_push_device(&ida, &again).await.unwrap();
    let listed = identity.push_devices(&ida).await.unwrap();
    assert_eq!(listed.len(), PUSH_DEVICES_MAX);
    assert_eq!(
        (listed[1].name.as_str(), listed[1].since_ms),
        ("Tablet", house.wall_ms())
    );
    let record = json!({"resourceType": "Patient", "id": "ida"});
    let record = fhir::Resource::from_value(record).unwrap();
    let found = house.vault().notifies_on(TENANT, &record, 0).await.unwrap();
    let found = found.unwrap();
    assert_eq!((found[1].auth[0], found[0].auth[0]), (4, 0));
    identity
        .remove_push_device(&ida, &listed[0].id)
        .await
        .unwrap();
    let twice = identity.remove_push_device(&ida, &listed[0].id).await;
    assert!(matches!(twice, Err(TrustError::Invalid(_))));
    assert_eq!(
        sent_to(&house, "ida").await.unwrap()[0],
        "https://push.example/1"
    );
    for gone in &listed[1..] {
        identity.remove_push_device(&ida, &gone.id).await.unwrap();
    }
    assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
    // What was taken away wholly comes again.
    identity.add_push_device(&ida, &device(0)).await.unwrap();
    assert_eq!(count(&house, &ida).await, 1);
}

#[tokio::test]
async fn what_is_no_browser_s_is_turned_down() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let wrong: [fn(&mut NewPushDevice); 9] = [
        |new| new.name = " ".to_owned(),
        |new| new.name = "x".repeat(61),
        |new| new.name = "a\u{202e}\nb".to_owned(),
        |new| new.key = String::new(),
        |new| new.key = format!("C{}", "A".repeat(86)),
        |new| new.key = "B".repeat(88),
        |new| new.auth = "A".repeat(21),
        |new| new.auth = "!".repeat(22),
        |new| new.endpoint = format!("https://push.example/{}", "x".repeat(1_000)),
    ];
    for (place, change) in wrong.iter().enumerate() {
        let mut new = device(0);
        change(&mut new);
        let added = identity.add_push_device(&ida, &new).await;
        assert!(matches!(added, Err(TrustError::Invalid(_))), "{place}");
    }
    assert_eq!(count(&house, &ida).await, 0);
    // Staff have none.
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (_, devi) = signed_in(&house, "devi", &secret).await;
    let added = identity.add_push_device(&devi, &device(0)).await;
    assert!(matches!(added, Err(TrustError::Invalid(_))));
    assert!(identity.push_devices(&devi).await.is_err());
}

/// Two who share a browser don't read of each other's messages in it.
#[tokio::test]
async fn a_browser_is_one_patient_s_and_another_s_list_is_nobody_else_s() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let mona = patient(&house, "mona").await;
    identity.add_push_device(&ida, &device(0)).await.unwrap();
    identity.add_push_device(&ida, &device(1)).await.unwrap();
    identity.add_push_device(&mona, &device(0)).await.unwrap();
    assert_eq!(
        sent_to(&house, "ida").await.unwrap(),
        ["https://push.example/1"]
    );
    assert_eq!(
        sent_to(&house, "mona").await.unwrap(),
        ["https://push.example/0"]
    );
    let theirs = identity.push_devices(&mona).await.unwrap().remove(0);
    let taken = identity.remove_push_device(&ida, &theirs.id).await;
    assert!(matches!(taken, Err(TrustError::Invalid(_))));
    assert_eq!(count(&house, &mona).await, 1);
    // What is kept says what happened to whom, and nothing of where the device is.
    let events = house.audit_events(TENANT).await;
    let told = serde_json::to_string(
        &events
            .iter()
            .map(|event| event.clone().into_value())
            .collect::<Vec<_>>(),
    );
    assert!(!told.unwrap().contains("push.example"));
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn signing_out_everywhere_and_closing_the_way_in_end_notifications() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap();
    let mona = patient(&house, "mona").await;
    identity.add_push_device(&mona, &device(7)).await.unwrap();
    let ida = patient(&house, "ida").await;
    // Signing out in one browser doesn't: notifications are for those who are not signed in.
    let add = async |session: &Session| {
        identity.add_push_device(session, &device(0)).await.unwrap();
        assert_eq!(count(&house, session).await, 1);
    };
    add(&ida).await;
    let link = identity
        .make_link(&demo(), "ida", 3_600, true)
        .await
        .unwrap();
    let (secret, _) = done(identity.use_link(TENANT, &link, BORN).await.unwrap());
    identity.sign_out(&secret).await.unwrap();
    assert_eq!(count(&house, &ida).await, 1);
    identity.end_other_sessions(&ida).await.unwrap();
    assert_eq!(count(&house, &ida).await, 0);
    add(&ida).await;
    identity
        .set_patient_active(&permit, "ida", false)
        .await
        .unwrap();
    assert_eq!(count(&house, &ida).await, 0);
    // And again, now that there is an account that says so.
    identity
        .set_patient_active(&permit, "ida", true)
        .await
        .unwrap();
    let ida = session(&house, "ida").await;
    add(&ida).await;
    identity
        .set_patient_active(&permit, "ida", false)
        .await
        .unwrap();
    assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
    assert_eq!(count(&house, &mona).await, 1, "others keep theirs");
}

#[tokio::test]
async fn nothing_is_left_of_a_patient_whose_key_is_destroyed() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let mona = patient(&house, "mona").await;
    identity.add_push_device(&ida, &device(0)).await.unwrap();
    let auditor = Auditor::new(
        house.ledger().clone(),
        std::sync::Arc::new(house.wall.clone()),
    );
    let agent = demo();
    let mut record = Record::new(&agent, Event::SWEPT);
    record.purpose = Some(Purpose::Operations);
    (house.ledger())
        .destroy_patient_key(TENANT, "ida", auditor.draft(&record))
        .await
        .unwrap();
    assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
    // Their browser can be somebody else's.
    identity.add_push_device(&mona, &device(0)).await.unwrap();
    assert_eq!(count(&house, &mona).await, 1);
}

/// What an organisation takes along says who is notified on what, and nothing by which somebody could be.
#[tokio::test]
async fn an_export_names_devices_and_says_nothing_of_where_they_are() {
    let house = House::new().await;
    let ida = patient(&house, "ida").await;
    let identity = house.trust.identity();
    identity.add_push_device(&ida, &device(0)).await.unwrap();
    let permit = house
        .permit(
            &Agent::system(TENANT, crate::EXPORTER),
            Purpose::Operations,
            Action::Export,
        )
        .await
        .unwrap();
    let whole = house.vault().everything(&permit).unwrap();
    let list = crate::TAKEN.iter().find(|list| list.name == "push-devices");
    let page = whole.people(list.unwrap(), None).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    let content = serde_json::to_value(&page.rows[0].content).unwrap();
    assert_eq!(
        (&content["patient"], &content["devices"][0]["name"]),
        (&json!("ida"), &json!("Telephone 0"))
    );
    let told = content.to_string();
    assert!(
        !told.contains("push.example") && !told.contains("AAAA"),
        "{told}"
    );
}

/// The same key for all servers of an organisation, and another for each; what it signs is checked by what browsers
/// are given.
#[tokio::test]
async fn push_services_know_an_organisation_by_one_key() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let (one, two) = tokio::join!(identity.push_key(TENANT), identity.push_key(TENANT));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.public(), two.public());
    let other = identity.push_key(OTHER).await.unwrap();
    assert_ne!(one.public(), other.public());
    let said = one
        .authorization("https://push.example", "mailto:it@h.example", 1_000_000)
        .unwrap();
    let (token, key) = said
        .strip_prefix("vapid t=")
        .and_then(|rest| rest.split_once(", k="))
        .unwrap();
    assert_eq!(key, one.public());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let check = |key: &str| {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes(key));
        key.verify(signed.as_bytes(), &bytes(signature)).is_ok()
    };
    assert!(check(one.public()) && !check(other.public()));
    let claims = bytes(signed.split_once('.').unwrap().1);
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(
        claims,
        json!({"aud": "https://push.example", "exp": 1_000 + 43_200, "sub": "mailto:it@h.example"})
    );
    let shown = format!("{one:?}");
    assert!(shown.contains(one.public()) && shown.len() < 150, "{shown}");
}
