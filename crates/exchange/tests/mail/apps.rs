//! Notifications to applications on telephones: what leaves, whom it reaches, what FCM and APNs say, and what lets an
//! application be told. Both are doubles; no real one is asked.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use exchange::PUSH_WORDS;
use serde_json::{Value, json};
use trust::conventions::CONFIDENTIAL_EXTENSION;
use trust::identity::{
    AppService, GrantView, NewApp, NewAppDevice, NewGrant, PUSH_DEVICES_MAX, Session, ShownClient,
    SystemKeys, wanted_scopes,
};
use trust::outgoing::Message;
use trust::{Agent, TrustError};

use crate::patience::Patience;
use crate::pusher::Pusher;
use crate::telephones::Telephones;
use crate::world::{NOW_MS, TENANT, World};

const HOUR_MS: u64 = 3_600_000;
pub const SCOPES: &str = "launch/patient offline_access patient/Communication.rs";
const BACK: &str = "https://app.example/back";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-the-standard-123";

/// A notification as a journey puts it out: it has no words.
fn push(message: &mut Message) {
    message.channel = "push".to_owned();
    message.subject = String::new();
    message.text = String::new();
    message.expires_ms = Some(NOW_MS + 2 * HOUR_MS);
}

/// An application that a patient lets in, with what it is let in by.
pub async fn let_in(world: &World, patient: &str, scopes: &str) -> (Agent, Session) {
    let identity = world.trust.identity();
    let session = world.session(patient).await;
    let new = NewApp {
        name: "Northmoor".to_owned(),
        redirect_uris: vec![BACK.to_owned()],
        launch_uri: None,
        scopes: scopes.to_owned(),
        keys: SystemKeys::None,
    };
    let operator = Agent::system(TENANT, "command-line");
    let id = identity.register_app(&operator, &new).await.expect("an id");
    let app = identity.app(TENANT, &id).await.expect("read");
    let app = app.expect("an application");
    let hash = digest::digest(&digest::SHA256, VERIFIER.as_bytes());
    let grant = NewGrant {
        app: &app,
        redirect_uri: BACK,
        challenge: &URL_SAFE_NO_PAD.encode(hash),
        scopes: &wanted_scopes(scopes).expect("scopes"),
        patient: Some(patient),
        launch: None,
        nonce: None,
        context: None,
    };
    let code = identity.allow(&session, grant).await.expect("a code");
    let shown = ShownClient::Public(&id);
    let tokens = identity
        .exchange_code(TENANT, shown, &code, BACK, VERIFIER)
        .await
        .expect("tokens");
    let agent = identity.fhir_bearer(&tokens.access).await;
    (agent.expect("let in"), session)
}

pub fn fcm_token(number: usize) -> String {
    format!("cN{number:04}:APA91b{}", "H-_x".repeat(30))
}

pub fn apns_token(number: usize) -> String {
    format!("{number:064x}")
}

pub async fn told_in(world: &World, agent: &Agent, service: AppService, token: &str) -> String {
    let new = NewAppDevice {
        service,
        token: token.to_owned(),
        name: format!("Telephone by {}", service.code()),
    };
    let identity = world.trust.identity();
    identity.add_app_device(agent, &new).await.expect("added")
}

/// A patient with an application by each service.
async fn patient(world: &World) -> (String, Agent, Session) {
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let (agent, session) = let_in(world, &patient, SCOPES).await;
    told_in(world, &agent, AppService::Fcm, &fcm_token(1)).await;
    told_in(world, &agent, AppService::Apns, &apns_token(1)).await;
    (patient, agent, session)
}

async fn devices(world: &World, session: &Session) -> usize {
    let identity = world.trust.identity();
    identity.push_devices(session).await.expect("listed").len()
}

fn reason(communication: &Value) -> &str {
    let code = communication["statusReason"]["coding"][0]["code"].as_str();
    code.unwrap_or_default()
}

/// Nothing of where a device is, and none of a service's words, stands in what is written of an attempt.
fn assert_clean(communication: &Value) {
    let shown = communication.to_string();
    for detail in [
        "127.0.0.1",
        "APA91b",
        "Telephone",
        "uandt",
        "words of the server",
    ] {
        assert!(!shown.contains(detail), "{detail} in {shown}");
    }
}

// Proves: 45 CFR 164.312(e)(1)
#[tokio::test]
async fn every_application_is_told_once_and_what_its_service_reads_says_nothing() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, _, _) = patient(&world).await;
    // Whatever a program puts into the outbox, a service reads words of ours.
    let id = world
        .queue(&patient, |message| {
            push(message);
            message.subject = "Your result".to_owned();
            message.text = "It is bad news".to_owned();
        })
        .await;
    let running = world.run_push(telephones.options());
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert!(world.outbox().await.is_empty());
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 2 of 2 devices."
    );
    assert_clean(&done);
    let link = format!("https://portal.example/portal/inbox/{id}");
    // What an application is known by lies sealed.
    assert!(!world.holds("APA91b") && !world.holds(&apns_token(1)));
    let google = telephones.read(&fcm_token(1)).await;
    assert_eq!(google.len(), 1);
    assert_eq!(
        google[0]["notification"],
        json!({"title": "Northmoor General", "body": PUSH_WORDS})
    );
    assert_eq!(google[0]["data"], json!({"message": id, "url": link}));
    assert_eq!(google[0]["android"]["ttl"], "7200s");
    assert_eq!(google[0]["android"]["priority"], "HIGH");
    // An application on one of Apple's devices that comes by FCM has an end as well.
    let by_google = google[0]["apns"]["headers"]["apns-expiration"].clone();
    let apple = telephones.read(&apns_token(1)).await;
    assert_eq!(apple.len(), 1);
    assert_eq!(
        apple[0]["body"],
        json!({
            "aps": {"alert": {"title": "Northmoor General", "body": PUSH_WORDS}, "sound": "default"},
            "message": id, "url": link
        })
    );
    let heads = &apple[0]["heads"];
    assert_eq!(heads["apns-topic"], "example.northmoor.app");
    assert_eq!(
        (&heads["apns-push-type"], &heads["apns-priority"]),
        (&json!("alert"), &json!("10"))
    );
    let until_s: u64 = heads["apns-expiration"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("seconds");
    let now_s = world.trust.wall_clock().now_ms() / 1_000;
    let in_time = now_s + 7_000..=now_s + 7_200;
    assert!(in_time.contains(&until_s), "{until_s}");
    let by_google: Option<u64> = by_google.as_str().and_then(|text| text.parse().ok());
    assert!(
        by_google.is_some_and(|until_s| in_time.contains(&until_s)),
        "{by_google:?}"
    );
    assert_eq!(telephones.heard("apns")[0]["version"], "2.0");
    // A service doesn't learn by what is shown in place of what that two applications are one patient's.
    assert_ne!(
        heads["apns-collapse-id"],
        google[0]["android"]["notification"]["tag"]
    );
    // Nothing of the patient, nothing of what it is about, and no link that signs in.
    let whole = format!(
        "{:?}{:?}",
        telephones.heard("fcm"),
        telephones.heard("apns")
    );
    for planted in [
        "Quandt",
        "Ottilie",
        "1941-03",
        "MRN-0081277",
        "617-555",
        "Alder",
        "Your result",
        "bad news",
        "heart-failure",
        "sign-in",
        &patient,
    ] {
        assert!(!whole.contains(planted), "{planted} in {whole}");
    }
}

/// A browser and the applications of one patient are told together, and the link to the browser alone signs in.
#[tokio::test]
async fn browsers_and_applications_are_devices_of_one_patient() {
    let world = World::new().await;
    let (telephones, pusher) = (Telephones::start().await, Pusher::start().await);
    let (patient, _, session) = patient(&world).await;
    let identity = world.trust.identity();
    let key = identity.push_key(TENANT).await.expect("a key");
    let browser = pusher.subscribe(key.public()).await;
    let new = browser.device("Computer");
    let added = identity.add_push_device(&session, &new).await;
    added.expect("added");
    let mut options = pusher.options();
    options.magic_links = true;
    options.fcm = Some(telephones.fcm());
    options.apns = Some(telephones.apns());
    let running = world.run_push(options);
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 3 of 3 devices."
    );
    let shown = pusher.read(&browser).await;
    let url = shown[0]["url"].as_str().expect("a link");
    assert!(url.contains("/sign-in/link/"), "{url}");
    let told = telephones.read(&fcm_token(1)).await;
    let url = told[0]["data"]["url"].as_str().expect("a link");
    assert!(!url.contains("sign-in"), "{url}");
    // Where applications alone are told, no link that signs in is made at all, and the browser is none of the devices.
    let id = world.queue(&patient, push).await;
    let world = world.reopen().await;
    let running = world.run_push(telephones.options());
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 2 of 2 devices."
    );
    assert_eq!(pusher.heard().len(), 1);
}

#[tokio::test]
async fn tokens_of_ours_are_kept_and_asked_anew_when_they_are_not_believed() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, _, _) = patient(&world).await;
    let running = world.run_push(telephones.options());
    for _ in 0..3 {
        let id = world.queue(&patient, push).await;
        world.wait_for(&patient, &id, "completed").await;
    }
    let bearers = |heard: &[Value], name: &str| {
        let mut all: Vec<String> = heard.iter().map(|one| one[name].to_string()).collect();
        all.dedup();
        all.len()
    };
    assert_eq!(telephones.heard("token").len(), 1);
    assert_eq!(bearers(&telephones.heard("fcm"), "access"), 1);
    assert_eq!(bearers(&telephones.heard("apns"), "bearer"), 1);
    // An access token ends before its time.
    telephones.forget().await;
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "completed").await;
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 2 of 2 devices."
    );
    assert_eq!(telephones.heard("token").len(), 2);
    assert_eq!(bearers(&telephones.heard("fcm"), "access"), 2);
    // Apple's clock has one for too old that was made a moment ago: another would be believed no more, and Apple takes no
    // new one so soon.
    let expired = json!({"status": 403, "body": {"reason": "ExpiredProviderToken"}});
    telephones.next("apns", json!([expired])).await;
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "completed").await;
    assert_eq!(
        done["note"][0]["text"],
        "Taken by the push service for 1 of 2 devices."
    );
    running.stop().await;
    assert_eq!(bearers(&telephones.heard("apns"), "bearer"), 1);
    assert_eq!(telephones.heard("apns").len(), 5);
}

/// Whoever gives access tokens and doesn't answer is asked once, and not by each message that waits in turn.
#[tokio::test]
async fn who_gives_access_tokens_and_hangs_is_asked_once_by_all_that_wait() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, _, _) = patient(&world).await;
    let hangs = json!({"hang": true});
    telephones
        .next("token", json!([hangs, hangs, hangs, hangs]))
        .await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = world.queue(&patient, |message| {
            push(message);
            message.expires_ms = None;
        });
        ids.push(id.await);
    }
    let mut options = telephones.options();
    options.apns = None;
    options.timeout_ms = 2_000;
    let running = world.run_push(options);
    for id in &ids {
        world.wait_put_off(&patient, id, 1).await;
    }
    running.stop().await;
    assert_eq!(telephones.heard("token").len(), 1);
    assert!(telephones.heard("fcm").is_empty());
}

/// Two patients who say one token at the same moment don't both have it.
#[tokio::test]
async fn a_token_that_two_say_at_the_same_moment_is_one_s() {
    let world = World::new().await;
    let identity = world.trust.identity();
    let (ida, mona) = (world.patient(&[]).await, world.patient(&[]).await);
    let (agent, session) = let_in(&world, &ida, SCOPES).await;
    let (other, others) = let_in(&world, &mona, SCOPES).await;
    for number in 0..PUSH_DEVICES_MAX {
        let new = NewAppDevice {
            service: AppService::Fcm,
            token: fcm_token(number),
            name: "Telephone".to_owned(),
        };
        let (one, two) = tokio::join!(
            identity.add_app_device(&agent, &new),
            identity.add_app_device(&other, &new)
        );
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
        let both = devices(&world, &session).await + devices(&world, &others).await;
        assert_eq!(both, number + 1);
    }
}

#[tokio::test]
async fn applications_that_are_gone_are_forgotten_and_those_that_came_back_are_not() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, agent, session) = patient(&world).await;
    let now_ms = world.trust.wall_clock().now_ms();
    // Removed before it said its token again: Apple doesn't know yet.
    telephones.gone(&apns_token(1), now_ms - HOUR_MS).await;
    telephones.gone(&fcm_token(1), 0).await;
    let running = world.run_push(telephones.options());
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(reason(&done), "permanent-failure");
    assert_clean(&done);
    assert_eq!(devices(&world, &session).await, 1);
    telephones.gone(&apns_token(1), now_ms + HOUR_MS).await;
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(reason(&done), "no-address");
    assert_eq!(devices(&world, &session).await, 0);
    // What FCM says of the token alone is about the device, too.
    told_in(&world, &agent, AppService::Fcm, &fcm_token(2)).await;
    let violation = json!([{
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "message.token", "description": "Invalid registration token"}]
    }]);
    let body = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": violation}});
    telephones
        .next("fcm", json!([{"status": 400, "body": body}]))
        .await;
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(reason(&done), "no-address");
    assert_eq!(devices(&world, &session).await, 0);
    running.stop().await;
}

/// What may be wrong with the configuration ends a message, so that its next channel has it, and no device is forgotten.
#[tokio::test]
async fn what_may_be_our_own_fault_forgets_no_device() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, _, session) = patient(&world).await;
    let own = |code: &str, status: u16| {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        let details = json!([{"@type": kind, "errorCode": code}]);
        json!({"status": status, "body": {"error": {"code": status, "message": "words of the server", "details": details}}})
    };
    let apple = |status: u16, reason: &str| json!({"status": status, "body": {"reason": reason}});
    for (google, apple) in [
        (own("SENDER_ID_MISMATCH", 403), apple(400, "BadDeviceToken")),
        (
            own("THIRD_PARTY_AUTH_ERROR", 401),
            apple(400, "DeviceTokenNotForTopic"),
        ),
        (
            own("INVALID_ARGUMENT", 400),
            apple(403, "InvalidProviderToken"),
        ),
        (json!({"status": 404}), apple(404, "BadPath")),
        (json!({"status": 307}), apple(413, "PayloadTooLarge")),
    ] {
        let id = world.queue(&patient, push).await;
        let shown = format!("{google} {apple}");
        telephones.both(&google, &apple).await;
        let running = world.run_push(telephones.options());
        let done = world.wait_for(&patient, &id, "not-done").await;
        running.stop().await;
        assert_eq!(reason(&done), "permanent-failure", "{shown}");
        assert_clean(&done);
        assert_eq!(devices(&world, &session).await, 2, "{shown}");
    }
    // No access token is given to our account.
    let refused = json!({"status": 400, "body": {"error": "invalid_grant"}});
    telephones.next("token", json!([refused])).await;
    let mut options = telephones.options();
    options.apns = None;
    let world = world.reopen().await;
    let running = world.run_push(options);
    let id = world.queue(&patient, push).await;
    let done = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(reason(&done), "permanent-failure");
    assert_clean(&done);
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_and_known_as_a_repeat() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, _, session) = patient(&world).await;
    for (number, planned) in [
        json!({"reset": "before"}),
        json!({"reset": "after"}),
        json!({"hang": true}),
        json!({"status": 503}),
        json!({"status": 500}),
    ]
    .into_iter()
    .enumerate()
    {
        telephones.both(&planned, &planned).await;
        let (google, apple) = (
            telephones.heard("fcm").len(),
            telephones.heard("apns").len(),
        );
        let id = world
            .queue(&patient, |message| {
                push(message);
                message.expires_ms = None;
            })
            .await;
        let mut options = telephones.options();
        options.timeout_ms = 2_000;
        let running = world.run_push(options);
        let put_off = world.wait_put_off(&patient, &id, 1).await;
        assert_clean(&put_off);
        world.to_next_attempt().await;
        world.wait_for(&patient, &id, "completed").await;
        running.stop().await;
        let google = telephones.heard("fcm").split_off(google);
        let apple = telephones.heard("apns").split_off(apple);
        assert_eq!((google.len(), apple.len()), (2, 2), "{planned}");
        let data = |one: &Value| one["body"]["message"]["data"]["message"].clone();
        assert_eq!((data(&google[0]), data(&google[1])), (json!(id), json!(id)));
        assert_eq!(
            google[0]["body"]["message"]["android"]["notification"],
            google[1]["body"]["message"]["android"]["notification"]
        );
        for head in ["apns-id", "apns-collapse-id"] {
            assert_eq!(
                apple[0]["heads"][head], apple[1]["heads"][head],
                "{planned}"
            );
        }
        assert_eq!(devices(&world, &session).await, 2, "{planned}");
        // Where it was taken without an answer, the application has it twice, as one message.
        let twice = planned["reset"] == "after";
        let read = telephones.read(&fcm_token(1)).await;
        let same = read
            .iter()
            .filter(|one| one["data"]["message"] == json!(id))
            .count();
        assert_eq!(same, if twice { 2 } else { 1 }, "{number} {planned}");
    }
}

#[tokio::test]
async fn whoever_is_killed_while_telling_applications_loses_none_and_repeats_recognisably() {
    let mut world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, _, _) = patient(&world).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.queue(&patient, push).await);
    }
    let hangs = json!({"hang": true});
    telephones.both(&hangs, &hangs).await;
    let mut options = telephones.options();
    options.parallel = 1;
    let running = world.run_push(options.clone());
    telephones.wait_for("fcm", 1).await;
    telephones.wait_for("apns", 1).await;
    running.kill().await;
    world = world.reopen().await;
    let running = world.run_push(options);
    for id in &ids {
        world.wait_for(&patient, id, "completed").await;
    }
    running.stop().await;
    // Each application has all three, once; the one that nobody answered came again as what it was.
    for token in [fcm_token(1), apns_token(1)] {
        let read = telephones.read(&token).await;
        let mut has: Vec<String> = read
            .iter()
            .map(|one| match one.get("data") {
                Some(data) => data["message"].to_string(),
                None => one["body"]["message"].to_string(),
            })
            .collect();
        has.sort();
        let mut expected: Vec<String> = ids.iter().map(|id| json!(id).to_string()).collect();
        expected.sort();
        assert_eq!(has, expected);
    }
    let apple = telephones.heard("apns");
    assert_eq!((apple.len(), telephones.heard("fcm").len()), (4, 4));
    let first = &apple[0]["heads"]["apns-id"];
    let same = apple.iter().filter(|one| &one["heads"]["apns-id"] == first);
    assert_eq!(same.count(), 2);
}

/// A quota is of all that we send by FCM: it is left alone as long as it says, and APNs is not.
#[tokio::test]
async fn a_service_that_wants_fewer_is_left_alone_and_the_other_is_not() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (by_google, by_apple) = (world.patient(&[]).await, world.patient(&[]).await);
    for (patient, service, token) in [
        (&by_google, AppService::Fcm, fcm_token(1)),
        (&by_apple, AppService::Apns, apns_token(1)),
    ] {
        world.consent(patient, "active").await;
        let (agent, _) = let_in(&world, patient, SCOPES).await;
        told_in(&world, &agent, service, &token).await;
    }
    let details = json!([{
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "QUOTA_EXCEEDED"
    }]);
    let body = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}});
    let planned = json!([{"status": 429, "retryAfter": "3600", "body": body}]);
    telephones.next("fcm", planned).await;
    let running = world.run_push(telephones.options());
    world.queue(&by_google, push).await;
    let mut patience = Patience::new();
    while (world.outbox().await.iter()).all(|entry| entry.key.due_ms <= NOW_MS) {
        patience.wait("it is put off").await;
    }
    let entry = world.outbox().await.remove(0);
    assert_eq!((entry.key.due_ms, entry.attempt), (NOW_MS + HOUR_MS, 0));
    // What comes meanwhile asks nobody.
    world.queue(&by_google, push).await;
    let quick = world.queue(&by_apple, push).await;
    world.wait_for(&by_apple, &quick, "completed").await;
    let mut patience = Patience::new();
    while (world.outbox().await.iter()).any(|entry| entry.key.due_ms <= NOW_MS) {
        patience.wait("all are put off").await;
    }
    assert_eq!(telephones.heard("fcm").len(), 1);
    running.stop().await;
}

/// What lets an application be told is asked when something is sent.
// Proves: 45 CFR 164.522(b)(1)
#[tokio::test]
async fn an_application_that_is_taken_away_is_told_nothing_more() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let (patient, agent, session) = patient(&world).await;
    let id = world.queue(&patient, push).await;
    let identity = world.trust.identity();
    let grants: Vec<GrantView> = identity.grants_of(&session).await.expect("a list");
    assert_eq!(grants.len(), 1);
    identity
        .end_grant(&session, &grants[0].id)
        .await
        .expect("ended");
    // It is in no list from then on, and can't come back by what it had.
    assert_eq!(devices(&world, &session).await, 0);
    let new = NewAppDevice {
        service: AppService::Fcm,
        token: fcm_token(2),
        name: "Telephone".to_owned(),
    };
    let back = identity.add_app_device(&agent, &new).await;
    assert!(matches!(back, Err(TrustError::SignIn)), "{back:?}");
    let running = world.run_push(telephones.options());
    let done = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(reason(&done), "no-address");
    assert!(telephones.heard("fcm").is_empty() && telephones.heard("apns").is_empty());
}

#[tokio::test]
async fn what_is_asked_of_other_channels_is_asked_again_for_applications() {
    let world = World::new().await;
    let telephones = Telephones::start().await;
    let asked = json!([{
        "extension": [{ "url": CONFIDENTIAL_EXTENSION, "valueBoolean": true }],
        "system": "email", "value": "own@example.com"
    }]);
    let running = world.run_push(telephones.options());
    for (expected, change, consent) in [
        ("consent", None, "inactive"),
        ("preference", Some(("telecom", asked)), "active"),
        ("deceased", Some(("deceasedBoolean", json!(true))), "active"),
        ("expired", None, "active"),
    ] {
        let patient = world.patient(&[]).await;
        world.consent(&patient, consent).await;
        let (agent, _) = let_in(&world, &patient, SCOPES).await;
        told_in(&world, &agent, AppService::Fcm, &fcm_token(9)).await;
        if let Some((name, value)) = change {
            let mut record = world.record(&patient).await;
            record[name] = value;
            world.put(&patient, record).await;
        }
        let id = world
            .queue(&patient, |message| {
                push(message);
                if expected == "expired" {
                    message.expires_ms = Some(NOW_MS - 1);
                }
            })
            .await;
        let done = world.wait_for(&patient, &id, "not-done").await;
        assert_eq!(reason(&done), expected, "{done}");
    }
    running.stop().await;
    assert!(telephones.heard("fcm").is_empty());
}

#[tokio::test]
async fn applications_are_bounded_with_browsers_and_a_token_is_one_patient_s() {
    let world = World::new().await;
    let identity = world.trust.identity();
    let (ida, mona) = (world.patient(&[]).await, world.patient(&[]).await);
    let (agent, session) = let_in(&world, &ida, SCOPES).await;
    let (other, others) = let_in(&world, &mona, SCOPES).await;
    let mut ids = Vec::new();
    for number in 0..PUSH_DEVICES_MAX {
        ids.push(told_in(&world, &agent, AppService::Fcm, &fcm_token(number)).await);
    }
    // One that says its token again keeps its place.
    let again = told_in(&world, &agent, AppService::Fcm, &fcm_token(0)).await;
    assert_eq!(again, ids[0]);
    let new = |token: String, name: &str| NewAppDevice {
        service: AppService::Fcm,
        token,
        name: name.to_owned(),
    };
    let more = identity
        .add_app_device(&agent, &new(fcm_token(9), "Tablet"))
        .await;
    assert!(matches!(more, Err(TrustError::Invalid(_))), "{more:?}");
    for (token, name) in [
        (fcm_token(0), ""),
        (fcm_token(0), "a\nb"),
        ("../x".to_owned(), "Tablet"),
        (format!("{}{}", fcm_token(0), "x".repeat(1_000)), "Tablet"),
    ] {
        let wrong = identity.add_app_device(&agent, &new(token, name)).await;
        assert!(matches!(wrong, Err(TrustError::Invalid(_))), "{wrong:?}");
    }
    // Whoever signs in in the application next has it, and the other has it there no more.
    told_in(&world, &other, AppService::Fcm, &fcm_token(0)).await;
    assert_eq!(devices(&world, &others).await, 1);
    assert_eq!(devices(&world, &session).await, PUSH_DEVICES_MAX - 1);
    // An application takes away what it said itself, and nothing else.
    let wrong = identity.remove_app_device(&other, &ids[1]).await;
    assert!(matches!(wrong, Err(TrustError::Invalid(_))), "{wrong:?}");
    identity
        .remove_app_device(&agent, &ids[1])
        .await
        .expect("removed");
    assert_eq!(devices(&world, &session).await, PUSH_DEVICES_MAX - 2);
    // A patient takes any away, and ends all by signing out everywhere else.
    let views = identity.push_devices(&session).await.expect("a list");
    assert!(views.iter().all(|view| view.is_app && !view.this));
    let removed = identity.remove_push_device(&session, &views[0].id).await;
    removed.expect("removed");
    identity.end_other_sessions(&session).await.expect("ended");
    assert_eq!(devices(&world, &session).await, 0);
    // Somebody who is no application of a patient's has none.
    let staff = Agent::system(TENANT, "demo");
    let wrong = identity
        .add_app_device(&staff, &new(fcm_token(3), "Tablet"))
        .await;
    assert!(matches!(wrong, Err(TrustError::Invalid(_))), "{wrong:?}");
}

#[tokio::test]
async fn apns_is_asked_by_tls_and_whom_it_does_not_know_is_not_told() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = crate::peer::certificate(folder.path()).await;
    let telephones = Telephones::start_tls(&certificate, &key).await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let (agent, _) = let_in(&world, &patient, SCOPES).await;
    told_in(&world, &agent, AppService::Apns, &apns_token(1)).await;
    let mut options = telephones.options();
    options.fcm = None;
    // Nobody that this machine knows has signed for it.
    let id = world.queue(&patient, push).await;
    let running = world.run_push(options.clone());
    world.wait_put_off(&patient, &id, 1).await;
    running.stop().await;
    assert!(telephones.heard("apns").is_empty());
    if let Some(apns) = &mut options.apns {
        apns.ca_file = Some(certificate);
    }
    world.to_next_attempt().await;
    let running = world.run_push(options);
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let heard = telephones.heard("apns");
    assert_eq!((heard.len(), &heard[0]["version"]), (1, &json!("2.0")));
}
