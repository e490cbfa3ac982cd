//! Devices on which patients are notified: whose they are, how many, and what ends them.
use super::*;
use crate::audit::{Auditor, Event, Record};
use crate::identity::{
    NewPushDevice, NoPush, PUSH_DEVICES_MAX, PushBrowser, PushDevice, PushPlace, PushWays,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

const BORN: &str = "1941-03-07";
const EVERYWHERE: PushWays = PushWays {
    browsers: true,
    fcm: true,
    apns: true,
};

/// Where a device is, in a word.
fn place(device: &PushDevice) -> String {
    match &device.place {
        PushPlace::Browser(browser) => browser.endpoint.clone(),
        PushPlace::App { service, token } => format!("{}:{token}", service.code()),
    }
}

fn change(device: &mut PushDevice, how: impl Fn(&mut PushBrowser)) {
    match &mut device.place {
        PushPlace::Browser(browser) => how(browser),
        PushPlace::App { .. } => panic!("an application"),
    }
}

async fn device(house: &House, number: usize) -> NewPushDevice {
    let key = house.trust.identity().push_key(TENANT).await.unwrap();
    NewPushDevice {
        signer: key.public().to_owned(),
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
    house.vault().set_notifications(EVERYWHERE);
    let found = house.vault().notifies_on(TENANT, &record, 0).await.unwrap();
    Ok(found?.into_iter().map(|device| place(&device)).collect())
}

#[tokio::test]
async fn devices_come_are_bounded_and_go() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
    for number in 0..PUSH_DEVICES_MAX {
        identity
            .add_push_device(&ida, &device(&house, number).await)
            .await
            .unwrap();
    }
    let more = identity
        .add_push_device(&ida, &device(&house, 9).await)
        .await;
    assert!(matches!(more, Err(TrustError::Invalid(_))), "{more:?}");
    // One that is known keeps its place, under its new name and with its new key.
    let mut again = device(&house, 1).await;
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
    let secret = |device: &PushDevice| match &device.place {
        PushPlace::Browser(browser) => browser.auth[0],
        PushPlace::App { .. } => panic!("an application"),
    };
    assert_eq!((secret(&found[1]), secret(&found[0])), (4, 0));
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
    identity
        .add_push_device(&ida, &device(&house, 0).await)
        .await
        .unwrap();
    assert_eq!(count(&house, &ida).await, 1);
}

#[tokio::test]
async fn what_is_no_browser_s_is_turned_down() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let wrong: [fn(&mut NewPushDevice); 12] = [
        |new| new.name = " ".to_owned(),
        |new| new.name = "x".repeat(61),
        |new| new.name = "a\u{202e}\nb".to_owned(),
        |new| new.key = String::new(),
        |new| new.key = format!("C{}", "A".repeat(86)),
        |new| new.key = "B".repeat(88),
        |new| new.key = format!("B{}", "A".repeat(100_000)),
        |new| new.auth = "A".repeat(21),
        |new| new.auth = format!("{}{}", "A".repeat(22), "=".repeat(100_000)),
        // A browser that was told of another key takes nothing of ours.
        |new| new.signer = format!("C{}", "A".repeat(86)),
        |new| new.auth = "!".repeat(22),
        |new| new.endpoint = format!("https://push.example/{}", "x".repeat(1_000)),
    ];
    for (place, change) in wrong.iter().enumerate() {
        let mut new = device(&house, 0).await;
        change(&mut new);
        let added = identity.add_push_device(&ida, &new).await;
        assert!(matches!(added, Err(TrustError::Invalid(_))), "{place}");
    }
    assert_eq!(count(&house, &ida).await, 0);
    // Staff have none.
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (_, devi) = signed_in(&house, "devi", &secret).await;
    let added = identity
        .add_push_device(&devi, &device(&house, 0).await)
        .await;
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
    identity
        .add_push_device(&ida, &device(&house, 0).await)
        .await
        .unwrap();
    identity
        .add_push_device(&ida, &device(&house, 1).await)
        .await
        .unwrap();
    identity
        .add_push_device(&mona, &device(&house, 0).await)
        .await
        .unwrap();
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
    identity
        .add_push_device(&mona, &device(&house, 7).await)
        .await
        .unwrap();
    let ida = patient(&house, "ida").await;
    // Of a session that is over by itself the device stays: notifications are for those who are not signed in.
    let add = async |session: &Session| {
        let new = device(&house, 0).await;
        identity.add_push_device(session, &new).await.unwrap();
        assert_eq!(count(&house, session).await, 1);
    };
    add(&ida).await;
    let other = session(&house, "ida").await;
    identity.end_other_sessions(&other).await.unwrap();
    assert_eq!(count(&house, &other).await, 0);
    // The one that they hold stays.
    add(&other).await;
    identity.end_other_sessions(&other).await.unwrap();
    assert_eq!(count(&house, &other).await, 1);
    let ida = session(&house, "ida").await;
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

/// What shows notifications goes with the session in its browser, whoever ends that: the browser may be somebody else's by
/// then, and forgets the rest itself.
// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn a_device_ends_with_the_session_that_is_open_on_it() {
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
    let keeper = patient(&house, "ida").await;
    let tablet = device(&house, 1).await;
    identity.add_push_device(&keeper, &tablet).await.unwrap();
    let telephone = device(&house, 0).await;
    let sign_in = async || {
        let link = identity.make_link(&demo(), "ida", 3_600, true).await;
        done(
            identity
                .use_link(TENANT, &link.unwrap(), BORN)
                .await
                .unwrap(),
        )
    };
    let left = async || count(&house, &keeper).await;
    // By signing out there.
    let (secret, here) = sign_in().await;
    identity.add_push_device(&here, &telephone).await.unwrap();
    let listed = identity.push_devices(&here).await.unwrap();
    let this: Vec<bool> = listed.iter().map(|device| device.this).collect();
    assert_eq!(this, [false, true]);
    identity.sign_out(&secret).await.unwrap();
    assert_eq!(left().await, 1);
    // From elsewhere; and after they have signed in there anew.
    let (_, before) = sign_in().await;
    let id = identity.add_push_device(&before, &telephone).await.unwrap();
    let (secret, here) = sign_in().await;
    identity.is_at_push_device(&here, &id).await.unwrap();
    identity.end_own_session(&keeper, &before.id).await.unwrap();
    assert_eq!(left().await, 2, "the session there is another by now");
    identity.end_own_session(&keeper, &here.id).await.unwrap();
    assert_eq!(left().await, 1);
    assert!(identity.session(&secret).await.is_err());
    // By an administrator, one session and all of them; devices are no sessions.
    let by_link = crate::identity::NewAccount {
        user_name: String::new(),
        password: String::new(),
        patient: Some("ida".to_owned()),
        ..account("", Role::Patient)
    };
    let account = identity.create(&demo(), by_link).await.unwrap();
    let (_, here) = sign_in().await;
    identity.add_push_device(&here, &telephone).await.unwrap();
    identity
        .end_session_of(&permit, &account, &here.id)
        .await
        .unwrap();
    assert_eq!(left().await, 1);
    assert_eq!(identity.end_sessions(&permit, &account).await.unwrap(), 1);
    assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
}

/// Another server remembers a session for a while that has been ended here; no device comes by it.
#[tokio::test]
async fn no_device_comes_by_a_session_that_another_server_still_remembers() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let second = House::trust_over(house.ledger().clone(), &house.wall);
    let second = second.identity();
    let keeper = patient(&house, "ida").await;
    let mona = patient(&house, "mona").await;
    let tablet = device(&house, 1).await;
    let id = identity.add_push_device(&keeper, &tablet).await.unwrap();
    let shared = device(&house, 2).await;
    identity.add_push_device(&mona, &shared).await.unwrap();
    let link = identity.make_link(&demo(), "ida", 3_600, true).await;
    let link = link.unwrap();
    let (secret, _) = done(identity.use_link(TENANT, &link, BORN).await.unwrap());
    let stale = second.session(&secret).await.unwrap();
    assert_eq!(identity.end_other_sessions(&keeper).await.unwrap(), 1);
    assert!(second.session(&secret).await.is_ok(), "it is remembered");
    for new in [device(&house, 0).await, tablet, shared] {
        let added = second.add_push_device(&stale, &new).await;
        assert!(matches!(added, Err(TrustError::SignIn)), "{added:?}");
    }
    let bound = second.is_at_push_device(&stale, &id).await;
    assert!(matches!(bound, Err(TrustError::SignIn)), "{bound:?}");
    let left = identity.push_devices(&keeper).await.unwrap();
    assert_eq!((left.len(), left[0].this), (1, true));
    assert_eq!(count(&house, &mona).await, 1, "nothing is taken of others");
}

/// Whoever adds a device at the moment in which they are signed out is signed out there, too.
#[tokio::test]
async fn a_device_that_comes_while_its_session_ends_goes_with_it() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let keeper = patient(&house, "ida").await;
    for number in 0..20 {
        let other = session(&house, "ida").await;
        let new = device(&house, number).await;
        // At another moment of the other each time.
        let late = async {
            for _ in 0..number {
                tokio::task::yield_now().await;
            }
            identity.end_other_sessions(&keeper).await
        };
        let (ended, added) = tokio::join!(late, identity.add_push_device(&other, &new));
        assert_eq!(ended.unwrap(), 1);
        assert!(
            matches!(added, Ok(_) | Err(TrustError::SignIn)),
            "{added:?}"
        );
        assert_eq!(sent_to(&house, "ida").await, Err(NoPush::Nowhere));
    }
}

/// Puts something in the place of a patient's devices.
async fn spoil(house: &House, id: &str, body: &[u8]) {
    let ledger = house.ledger();
    let owner = ledger::Owner::Patient(id.to_owned());
    let place = ledger.derive_id(TENANT, &owner, &format!("push-devices/{id}"));
    let kind = crate::kinds::PUSH_DEVICES;
    let now = ledger.get(TENANT, kind, &place).await.unwrap().unwrap();
    let wall = std::sync::Arc::new(house.wall.clone());
    let auditor = Auditor::new(ledger.clone(), wall);
    let agent = demo();
    let record = Record::new(&agent, Event::DEVICES);
    let mut commit = ledger::Commit::new(TENANT);
    commit.audit = Some(auditor.draft(&record));
    commit.documents = vec![ledger::Draft {
        kind,
        id: place,
        owner,
        expected: ledger::Expected::Version(now.version),
        body: body.to_vec(),
        deleted: false,
        tokens: Vec::new(),
    }];
    ledger.commit(commit).await.unwrap();
}

/// Devices that can't be read keep nobody signed in, and no page from who looks.
#[tokio::test]
async fn devices_that_cannot_be_read_keep_nobody_signed_in() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let administrator = staff(Role::Administrator);
    let (purpose, action) = (Purpose::Administration, Action::Administer);
    let permit = house.permit(&administrator, purpose, action).await.unwrap();
    let ida = patient(&house, "ida").await;
    let new = device(&house, 0).await;
    identity.add_push_device(&ida, &new).await.unwrap();
    spoil(&house, "ida", b"no devices").await;
    assert_eq!(count(&house, &ida).await, 0);
    // By signing out, from elsewhere, everywhere else, and by an administrator.
    let sign_in = async || {
        let link = identity.make_link(&demo(), "ida", 3_600, true).await;
        let opened = identity.use_link(TENANT, &link.unwrap(), BORN).await;
        done(opened.unwrap())
    };
    let (secret, _) = sign_in().await;
    identity.sign_out(&secret).await.unwrap();
    assert!(identity.session(&secret).await.is_err());
    let (secret, here) = sign_in().await;
    identity.end_own_session(&ida, &here.id).await.unwrap();
    assert!(identity.session(&secret).await.is_err());
    let (secret, _) = sign_in().await;
    assert_eq!(identity.end_other_sessions(&ida).await.unwrap(), 1);
    assert!(identity.session(&secret).await.is_err());
    let (secret, _) = sign_in().await;
    identity
        .set_patient_active(&permit, "ida", false)
        .await
        .unwrap();
    assert!(identity.session(&secret).await.is_err());
}

/// Where somebody signs out, the browser forgets what shows notifications, whoever turned them on in it.
#[tokio::test]
async fn a_browser_that_somebody_else_signs_out_in_is_nobody_s_device() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let mona = patient(&house, "mona").await;
    let new = device(&house, 0).await;
    let id = identity.add_push_device(&ida, &new).await.unwrap();
    // It says nothing of Ida to Mona, and binds nothing of hers to Mona's session.
    identity.is_at_push_device(&mona, &id).await.unwrap();
    assert_eq!(
        (count(&house, &mona).await, count(&house, &ida).await),
        (0, 1)
    );
    for other in [
        "",
        "x",
        "../push-devices/ida",
        &"A".repeat(22),
        &"A".repeat(5_000),
    ] {
        identity.leave_push_device(TENANT, other).await.unwrap();
    }
    assert_eq!(count(&house, &ida).await, 1);
    identity.leave_push_device(TENANT, &id).await.unwrap();
    assert_eq!(count(&house, &ida).await, 0);
}

/// What a push service said of a place is of that place, and not of what its browser has asked for meanwhile.
#[tokio::test]
async fn a_device_that_was_turned_on_anew_is_not_forgotten_for_what_it_was() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let new = device(&house, 0).await;
    identity.add_push_device(&ida, &new).await.unwrap();
    house.vault().set_notifications(EVERYWHERE);
    let record = json!({"resourceType": "Patient", "id": "ida"});
    let record = fhir::Resource::from_value(record).unwrap();
    let found = house.vault().notifies_on(TENANT, &record, 0).await.unwrap();
    let now = found.unwrap().remove(0);
    let sender = Agent::system(TENANT, "push-deliverer");
    let (purpose, action) = (Purpose::Operations, Action::Send);
    let permit = house.permit(&sender, purpose, action).await.unwrap();
    let forget = async |gone| {
        identity
            .forget_push_devices(&permit, "ida", &[gone])
            .await
            .unwrap();
        count(&house, &ida).await
    };
    let mut before = now.clone();
    change(&mut before, |browser| browser.signer = "another".to_owned());
    assert_eq!(forget(before).await, 1);
    let mut before = now.clone();
    change(&mut before, |browser| {
        browser.endpoint = "https://push.example/before".to_owned();
    });
    assert_eq!(forget(before).await, 1);
    assert_eq!(forget(now).await, 0);
}

#[tokio::test]
async fn who_has_no_room_takes_no_browser_from_others() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let mona = patient(&house, "mona").await;
    let shared = device(&house, 77).await;
    identity.add_push_device(&mona, &shared).await.unwrap();
    for number in 0..PUSH_DEVICES_MAX {
        let new = device(&house, number).await;
        identity.add_push_device(&ida, &new).await.unwrap();
    }
    let more = identity.add_push_device(&ida, &shared).await;
    assert!(matches!(more, Err(TrustError::Invalid(_))), "{more:?}");
    assert_eq!(count(&house, &mona).await, 1);
}

/// A journey has to take its next channel where nobody would send.
#[tokio::test]
async fn where_no_notifications_are_sent_nobody_is_told_by_them() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let new = device(&house, 0).await;
    identity.add_push_device(&ida, &new).await.unwrap();
    let record = json!({"resourceType": "Patient", "id": "ida"});
    let record = fhir::Resource::from_value(record).unwrap();
    let found = house.vault().notifies_on(TENANT, &record, 0).await.unwrap();
    assert_eq!(found.map(|all| all.len()), Err(NoPush::Off));
    assert!(sent_to(&house, "ida").await.is_ok());
}

#[tokio::test]
async fn nothing_is_left_of_a_patient_whose_key_is_destroyed() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let ida = patient(&house, "ida").await;
    let mona = patient(&house, "mona").await;
    identity
        .add_push_device(&ida, &device(&house, 0).await)
        .await
        .unwrap();
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
    identity
        .add_push_device(&mona, &device(&house, 0).await)
        .await
        .unwrap();
    assert_eq!(count(&house, &mona).await, 1);
}

/// What an organisation takes along says who is notified on what, and nothing by which somebody could be.
#[tokio::test]
async fn an_export_names_devices_and_says_nothing_of_where_they_are() {
    let house = House::new().await;
    let ida = patient(&house, "ida").await;
    let identity = house.trust.identity();
    identity
        .add_push_device(&ida, &device(&house, 0).await)
        .await
        .unwrap();
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
    // Whoever only looks makes none.
    assert!(identity.known_push_key(TENANT).await.unwrap().is_none());
    let (one, two) = tokio::join!(identity.push_key(TENANT), identity.push_key(TENANT));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.public(), two.public());
    let other = identity.push_key(OTHER).await.unwrap();
    assert_ne!(one.public(), other.public());
    assert_ne!(one.print(), other.print());
    let known = identity.known_push_key(TENANT).await.unwrap().unwrap();
    assert_eq!(known.print(), one.print());
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
