//! Notifications through the whole server: from the page where a patient turns them on to what their browser is shown,
//! over real routes.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{House, NOON_MS, house_with, token};
use crate::patience::Patience;
use crate::pusher::{Pusher, Subscribed};
use crate::routes::Who;

pub(crate) const SOURCE: &str = "name: notes
title: Follow-up of a stay
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: tell
steps:
  tell:
    title: Tell
    send:
      title: How you are
      words: Hello {patient.given|there}, please note how you are.
      channels: [push, email]
      expires: 4h
    next: end
    on_failure: end
";

pub(crate) async fn put(house: &House, path: &str, resource: &Value) {
    let put = house.sent(Method::PUT, path, resource);
    let answer = put.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{path}");
}

/// A patient has left the hospital.
pub(crate) async fn leaves(house: &House, patient: &str) {
    let stay = json!({
        "resourceType": "Encounter", "id": format!("stay-{patient}"), "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": format!("Patient/{patient}")},
        "period": {"end": fhir::date::instant(NOON_MS - 3_600_000)}
    });
    put(house, &format!("/fhir/r4/Encounter/stay-{patient}"), &stay).await;
}

/// The messages of a patient: medium, status, and why not.
pub(crate) async fn messages(house: &House, patient: &str) -> Vec<(String, String, String)> {
    let path = format!("/fhir/r4/Communication?subject=Patient/{patient}");
    let answer = house.asked(Method::GET, &path).send().await;
    let found: Value = answer.expect("an answer").json().await.expect("JSON");
    let entries = found["entry"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = entries.iter().map(|entry| {
        let message = &entry["resource"];
        (
            text(&message["medium"][0]["coding"][0]["code"]),
            text(&message["status"]),
            text(&message["statusReason"]["coding"][0]["code"]),
        )
    });
    all.collect()
}

pub(crate) async fn wait_for(house: &House, patient: &str, medium: &str, status: &str) {
    let mut patience = Patience::new();
    loop {
        let all = messages(house, patient).await;
        if all
            .iter()
            .any(|one| (one.0.as_str(), one.1.as_str()) == (medium, status))
        {
            return;
        }
        patience
            .wait(&format!("no {medium} {status}: {all:?}"))
            .await;
    }
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).map(|(_, rest)| rest);
    let found = rest.and_then(|rest| rest.split_once(after));
    found.unwrap_or_else(|| panic!("no {before} in {text}")).0
}

/// What the page's script does: asks the push service for a place with the page's key, and sends the form.
pub(crate) async fn turns_on(house: &House, pusher: &Pusher, who: &Who) -> Subscribed {
    let Who::Person { cookie, csrf } = who else {
        panic!("nobody is signed in");
    };
    let cookie = format!("cairn={cookie}");
    let url = format!("http://{}/portal/preferences", house.server.address());
    let page = house.http.get(&url).header("cookie", &cookie);
    let page = page.send().await.expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.expect("a page");
    let key = between(&page, "data-push=\"", "\"");
    let browser = pusher.subscribe(key).await;
    let form = [
        ("csrf", csrf.as_str()),
        ("do", "notify"),
        ("name", "My telephone"),
        ("endpoint", &browser.endpoint),
        ("key", &browser.key),
        ("auth", &browser.auth),
        ("signer", key),
    ];
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let sent = house.http.post(&url).header("cookie", &cookie);
    let sent = sent
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert!(sent.status().is_redirection() || sent.status().is_success());
    browser
}

#[tokio::test]
async fn a_patient_turns_notifications_on_and_is_told_and_others_are_told_by_the_next_channel() {
    let pusher = Pusher::start().await;
    let house = house_with(|options| {
        let mut push = pusher.options();
        push.magic_links = true;
        push.sender = String::new();
        options.push = Some(push);
        options.organisation = "Northmoor General".to_owned();
    })
    .await;
    let squad = token(&house.server, trust::Role::Squad).await;
    let url = format!("http://{}/api/journeys", house.server.address());
    let published = house.http.post(url).bearer_auth(squad).body(SOURCE);
    let published = published.send().await.expect("an answer");
    assert_eq!(published.status(), 200, "{:?}", published.text().await);
    // One who has turned notifications on.
    let who = crate::routes::patient(&house).await;
    let browser = turns_on(&house, &pusher, &who).await;
    leaves(&house, "p").await;
    wait_for(&house, "p", "PUSH", "completed").await;
    let shown = pusher.read(&browser).await;
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (&shown[0]["title"], &shown[0]["body"]),
        (&json!("Northmoor General"), &json!(exchange::PUSH_WORDS))
    );
    let link = shown[0]["url"].as_str().expect("a link");
    let base = house.server.base_url();
    assert!(link.starts_with(&format!("{base}/sign-in/link/")), "{link}");
    let whole = shown[0].to_string();
    for planted in ["1941", "stay", "Follow-up", "How you are"] {
        assert!(!whole.contains(planted), "{planted} in {whole}");
    }
    assert_eq!(messages(&house, "p").await.len(), 1, "no e-mail beside it");
    // One who hasn't, and who is told by the next channel at once.
    let other = json!({
        "resourceType": "Patient", "id": "q", "birthDate": "1950-01-01",
        "telecom": [{"system": "email", "value": "q@example.com"}]
    });
    put(&house, "/fhir/r4/Patient/q", &other).await;
    leaves(&house, "q").await;
    wait_for(&house, "q", "EMAILWRIT", "preparation").await;
    let all = messages(&house, "q").await;
    let refused = (
        "PUSH".to_owned(),
        "not-done".to_owned(),
        "no-address".to_owned(),
    );
    assert!(all.contains(&refused), "{all:?}");
    assert_eq!(pusher.heard().len(), 1);
    let metrics = format!("http://{}/metrics", house.server.address());
    let metrics = house.http.get(metrics).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a body");
    for name in ["push_sent_total", "push_unreadable_entries"] {
        assert!(metrics.contains(name), "{name}");
    }
    assert!(!metrics.contains("notify"), "no address is in the metrics");
    let ready = format!("http://{}/health/ready", house.server.address());
    let ready = house.http.get(ready).send().await.expect("an answer");
    assert_eq!(ready.status(), 200);
    // The worker that shows it is where browsers look for it.
    let worker = format!("http://{}/sw.js", house.server.address());
    let worker = house.http.get(worker).send().await.expect("an answer");
    assert_eq!(worker.status(), 200);
}

/// In Chromium: the page's script, the worker, what it shows. The browser's own push service can't be asked here.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_registers_the_worker_and_shows_what_is_brought() {
    let pusher = Pusher::start().await;
    let house = house_with(|options| {
        options.push = Some(pusher.options());
    })
    .await;
    let who = crate::routes::patient(&house).await;
    let Who::Person { cookie, .. } = &who else {
        panic!("nobody is signed in");
    };
    let identity = house.server.trust().identity();
    let key = identity
        .push_key(cairn::store::TENANT)
        .await
        .expect("a key");
    let browser = pusher.subscribe(key.public()).await;
    let place = json!({"endpoint": browser.endpoint, "key": browser.key, "auth": browser.auth});
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let peers = root.join("target/peers/npm/node_modules");
    assert!(
        peers.join("playwright-core").exists()
            && std::path::Path::new("/usr/bin/chromium").exists(),
        "playwright-core or Chromium is missing: scripts/test installs them"
    );
    let mut script = tokio::process::Command::new("node");
    script
        .arg(root.join("crates/cairn/tests/server/push.mjs"))
        .arg(format!("http://{}", house.server.address()))
        .args([cookie.as_str(), &place.to_string(), key.public()])
        .arg(peers)
        .kill_on_drop(true);
    let done = tokio::time::timeout(std::time::Duration::from_secs(120), script.status()).await;
    let done = done.expect("in two minutes").expect("node");
    assert!(done.success(), "see what the script said");
    // What the browser has forgotten is no device here any more.
    let operator = trust::Agent::system(cairn::store::TENANT, "demo");
    let link = identity.make_link(&operator, "p", 3_600, true).await;
    let link = link.expect("a link");
    let signed = identity
        .use_link(cairn::store::TENANT, &link, "1941-03-07")
        .await;
    let trust::identity::SignIn::Done { session, .. } = signed.expect("an answer") else {
        panic!("nobody is signed in");
    };
    let left = identity.push_devices(&session).await.expect("a list");
    assert_eq!(left, []);
}
