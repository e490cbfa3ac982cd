//! Text messages by SMPP through the whole server: from what starts a journey to what the message centre brings.

use serde_json::{Value, json};

use crate::centre::{Centre, DELIVERED};
use crate::house::{House, NOON_MS, house_with, token};
use crate::patience::Patience;
use crate::provider::BASE;
use crate::sms::{SOURCE, got, put};

const SEARCH: &str = "/fhir/r4/Communication?subject=Patient/ada";

async fn text_of(house: &House, path: &str) -> String {
    let url = format!("http://{}{path}", house.server.address());
    let answer = house.http.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.expect("a body")
}

/// Waits until one of the patient's messages is as asked for.
async fn until(house: &House, what: &str, test: impl Fn(&Value) -> bool) {
    let mut patience = Patience::new();
    loop {
        let found = got(house, SEARCH).await;
        let mut all = found["entry"].as_array().into_iter().flatten();
        if all.any(|one| test(&one["resource"])) {
            return;
        }
        patience.wait(what).await;
    }
}

async fn until_told(house: &House, path: &str, test: impl Fn(&str) -> bool) {
    let mut patience = Patience::new();
    loop {
        let told = text_of(house, path).await;
        if test(&told) {
            return;
        }
        patience.wait(&format!("{path} says it: {told}")).await;
    }
}

async fn stay(house: &House, id: &str, ago_ms: u64) {
    let end = fhir::date::instant(NOON_MS - ago_ms);
    let stay = json!({
        "resourceType": "Encounter", "id": id, "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/ada"}, "period": {"end": end}
    });
    put(house, &format!("/fhir/r4/Encounter/{id}"), &stay).await;
}

#[tokio::test]
async fn a_text_goes_out_by_a_session_and_what_comes_back_moves_the_journey() {
    let centre = Centre::start().await;
    centre.does(json!({ "shut": true })).await;
    let house = house_with(|options| {
        let mut sms = centre.options();
        sms.magic_links = true;
        options.sms = Some(sms);
        options.public_url = Some(BASE.to_owned());
    })
    .await;
    // While it is refused, that is said, and the server is ready all the same.
    centre.refused(1).await;
    let waits = "text messages wait: there is no session with their provider";
    until_told(&house, "/health/ready", |told| told.contains(waits)).await;
    until_told(&house, "/metrics", |told| {
        told.contains("sms_sessions_missing 1")
    })
    .await;
    centre.does(json!({ "shut": false })).await;
    centre.bound(1).await;
    until_told(&house, "/health/ready", |told| !told.contains(waits)).await;
    until_told(&house, "/metrics", |told| {
        told.contains("sms_sessions_missing 0")
    })
    .await;
    let squad = token(&house.server, trust::Role::Squad).await;
    let url = format!("http://{}/api/journeys", house.server.address());
    let published = house.http.post(url).bearer_auth(squad).body(SOURCE);
    let published = published.send().await.expect("an answer");
    assert_eq!(published.status(), 200, "{:?}", published.text().await);
    let patient = json!({
        "resourceType": "Patient", "id": "ada", "birthDate": "1941-03-07",
        "name": [{"family": "Thornbury", "given": ["Ada"]}],
        "telecom": [{"system": "phone", "use": "mobile", "value": "(617) 555-0142"}]
    });
    put(&house, "/fhir/r4/Patient/ada", &patient).await;
    stay(&house, "stay", 3_600_000).await;

    let message = centre.wait_for(1).await.remove(0);
    let body = message["text"].as_str().expect("a text");
    let link = format!("News for you: {BASE}/sign-in/link/");
    assert!(body.starts_with(&link), "{body}");
    for planted in ["Ada", "Thornbury", "1941", "5550142", "stay", "Follow-up"] {
        assert!(!body.contains(planted), "{planted} in {body}");
    }
    until(&house, "the provider has it", |one| {
        one["status"] == "in-progress"
    })
    .await;
    assert_eq!(centre.receipt(&message, DELIVERED).await, Some(0));
    until(&house, "it has arrived", |one| one["status"] == "completed").await;
    assert_eq!(centre.text("16175550142", "STOP").await, Some(0));
    let reply = centre.wait_for(2).await.remove(1);
    let words = "You will get no more text messages from us. Send START to get them again.";
    assert_eq!(reply["text"], words);
    stay(&house, "again", 1_800_000).await;
    until(&house, "the second text is turned down", |one| {
        one["statusReason"]["coding"][0]["code"] == "preference"
    })
    .await;
    assert_eq!(centre.taken().len(), 2);
    // By HTTP there is nothing.
    for path in ["/channels/sms/heard", "/channels/sms/status/x"] {
        let url = format!("http://{}{path}", house.server.address());
        let request = house.http.post(url).body("From=%2B16175550142&Body=START");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.header("x-twilio-signature", "bm8=").send().await;
        assert_eq!(answer.expect("an answer").status(), 404, "{path}");
    }
    let metrics = text_of(&house, "/metrics").await;
    for name in [
        "sms_sent_total",
        "sms_receipts_total",
        "sms_heard_total",
        "sms_binds_total",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    let name = message["id"].as_str().expect("a name");
    for planted in ["5550142", "Thornbury", name] {
        assert!(!metrics.contains(planted), "{planted}");
    }
    house.end().await;
    // It has said that it goes.
    centre.unbound(1).await;
}
