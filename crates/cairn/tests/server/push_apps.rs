//! Notifications to applications on telephones through the whole server: a patient lets an application in by SMART, it
//! says its token, a journey writes, and the double of FCM has it. No real FCM or APNs is asked.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::apps::{Browser, app, code, exchange, furnished, request, text, tokens};
use crate::house::{House, house_with, token};
use crate::push::{SOURCE, leaves, messages, wait_for};
use crate::telephones::Telephones;

const TOKEN: &str = "cN0001:APA91bH-_xH-_xH-_xH-_xH-_xH-_xH-_x";

/// The access token that a patient lets an application have.
pub(crate) async fn let_in(browser: &mut Browser<'_>, house: &House, scope: &str) -> String {
    let client = app(house).await;
    let pairs = request(house, &client, scope, &[]);
    let code = code(browser, &pairs).await;
    let given = tokens(exchange(house, &client, &code).await).await;
    text(&given, "access_token").to_owned()
}

pub(crate) async fn says(house: &House, access: Option<&str>, body: &str) -> Response {
    let mut asked = house.bare(Method::POST, "/api/devices");
    if let Some(access) = access {
        asked = asked.bearer_auth(access);
    }
    let asked = asked.header("content-type", "application/json");
    asked.body(body.to_owned()).send().await.expect("an answer")
}

async fn removes(house: &House, access: &str, id: &str) -> u16 {
    let asked = house.bare(Method::DELETE, &format!("/api/devices/{id}"));
    let answer = asked.bearer_auth(access).send().await.expect("an answer");
    answer.status().as_u16()
}

pub(crate) fn said(service: &str, token: &str) -> String {
    json!({"service": service, "token": token, "name": "My telephone"}).to_string()
}

// Proves: 45 CFR 164.312(e)(1)
#[tokio::test]
async fn an_application_says_its_token_and_its_patient_is_told_in_it() {
    let telephones = Telephones::start().await;
    let house = house_with(|options| {
        let mut push = telephones.options();
        push.sender = String::new();
        push.apns = None;
        options.push = Some(push);
        options.organisation = "Northmoor General".to_owned();
    })
    .await;
    furnished(&house).await;
    let squad = token(&house.server, trust::Role::Squad).await;
    let published = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let published = published.body(SOURCE).send().await.expect("an answer");
    assert_eq!(published.status(), 200, "{:?}", published.text().await);
    let mut browser = Browser::patient(&house, "ann", "1950-02-03").await;
    let scope = "launch/patient offline_access patient/Communication.rs";
    let access = let_in(&mut browser, &house, scope).await;
    // What is wrong is said, and nothing of the token.
    let narrow = let_in(
        &mut browser,
        &house,
        "launch/patient patient/Observation.rs",
    )
    .await;
    let large = format!("\"{}\"", "x".repeat(20_000));
    for (by, body, status) in [
        (None, said("fcm", TOKEN), 401),
        (Some("nonsense"), said("fcm", TOKEN), 401),
        (Some(narrow.as_str()), said("fcm", TOKEN), 403),
        (Some(access.as_str()), said("apns", &"ab".repeat(32)), 404),
        (Some(access.as_str()), said("gcm", TOKEN), 400),
        (Some(access.as_str()), said("fcm", "../../x"), 400),
        (Some(access.as_str()), "{".to_owned(), 400),
        (
            Some(access.as_str()),
            json!({"service": "fcm", "token": TOKEN, "name": "x", "patient": "bob"}).to_string(),
            400,
        ),
        (Some(access.as_str()), large, 413),
    ] {
        let answer = says(&house, by, &body).await;
        assert_eq!(answer.status().as_u16(), status, "{body:.80}");
        let words = answer.text().await.expect("a body");
        assert!(!words.contains("APA91b"), "{words}");
    }
    // A token of a program that belongs to no patient has no device.
    let client = token(&house.server, trust::Role::Client).await;
    let answer = says(&house, Some(&client), &said("fcm", TOKEN)).await;
    assert!([400, 403].contains(&answer.status().as_u16()));
    let answer = says(&house, Some(&access), &said("fcm", TOKEN)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(crate::house::header(&answer, "cache-control"), "no-store");
    let answer: Value = answer.json().await.expect("JSON");
    let id = text(&answer, "id").to_owned();
    let page = browser.get("/portal/preferences").await;
    page.shows("My telephone");
    page.shows("By an app that you allowed");
    assert!(!page.body.contains("APA91b"));
    browser
        .get("/portal/preferences/messages")
        .await
        .shows("Notification only");
    // A journey writes, and what Google reads says nothing.
    leaves(&house, "ann").await;
    wait_for(&house, "ann", "PUSH", "completed").await;
    let read = telephones.read(TOKEN).await;
    assert_eq!(read.len(), 1);
    assert_eq!(
        read[0]["notification"],
        json!({"title": "Northmoor General", "body": exchange::PUSH_WORDS})
    );
    let link = read[0]["data"]["url"].as_str().expect("a link");
    let base = house.server.base_url();
    assert!(link.starts_with(&format!("{base}/portal/inbox/")), "{link}");
    let heard = format!("{:?}", telephones.heard("fcm"));
    for planted in [
        "Berg",
        "1950-02",
        "stay",
        "Follow-up",
        "How you are",
        "sign-in",
        "\"ann\"",
    ] {
        assert!(!heard.contains(planted), "{planted} in {heard}");
    }
    assert_eq!(
        messages(&house, "ann").await.len(),
        1,
        "no e-mail beside it"
    );
    let metrics = house.bare(Method::GET, "/metrics").send().await;
    let metrics = metrics.expect("an answer").text().await.expect("a body");
    assert!(metrics.contains("push_sent_total") && !metrics.contains("APA91b"));
    // The message is read by what the application was let in with.
    let message = read[0]["data"]["message"].as_str().expect("an id");
    let path = format!("/fhir/r4/Communication/{message}");
    let found = crate::apps::get(&house, &access, &path).await;
    assert_eq!(found.status(), 200);
    // Another patient's application takes nothing away; its own does.
    let mut other = Browser::patient(&house, "bob", "1950-02-03").await;
    let others = let_in(&mut other, &house, scope).await;
    assert_eq!(removes(&house, &others, &id).await, 400);
    assert_eq!(removes(&house, &access, &id).await, 204);
    assert_eq!(removes(&house, &access, &id).await, 400);
    let page = browser.get("/portal/preferences").await;
    assert!(!page.body.contains("My telephone"));
    house.end().await;
}
