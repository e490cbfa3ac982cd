//! What operators see: health, metrics, request ids, TLS, a clean end.

use std::sync::Arc;
use std::time::Duration;

use cairn::store;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{House, NOON_MS, certificate, header, house, house_with};
use crate::patience::{Patience, until};

pub(crate) const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");

#[tokio::test]
async fn live_and_ready() {
    let house = house().await;
    for path in ["/health/live", "/health/ready"] {
        let response = house
            .bare(Method::GET, path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
    house.end().await;
}

#[tokio::test]
async fn not_ready_when_the_store_does_not_answer() {
    let house = house().await;
    house.server.ledger().close().await.expect("closed");
    for (path, status) in [
        ("/health/live", 200),
        ("/health/ready", 503),
        ("/metrics", 503),
    ] {
        let response = house
            .bare(Method::GET, path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        let words = response.text().await.expect("text");
        assert!(
            status == 200 || words == "the store does not answer\n",
            "{path}: {words}"
        );
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_by_its_door() {
    let house = house_with(|options| options.limits.form_body_bytes = 1_000).await;
    let long = "x".repeat(2_000);
    let sent = |path: &str| house.bare(Method::POST, path).body(format!("user={long}"));
    let form = "application/x-www-form-urlencoded";
    for path in ["/sign-in", "/theme"] {
        let page = sent(path)
            .header("content-type", form)
            .send()
            .await
            .expect("an answer");
        assert_eq!(page.status(), 413, "{path}");
        for (name, value) in [
            ("content-type", "text/html"),
            ("content-security-policy", "default-src 'none'"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
        ] {
            let is = header(&page, name);
            assert!(is.starts_with(value), "{path}: {name} is {is:?}");
        }
        let body = page.text().await.expect("text");
        assert!(body.contains("larger than this server takes"), "{body}");
    }
    let refused = sent("/api/journeys")
        .bearer_auth(&house.token)
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 413);
    let body: Value = refused.json().await.expect("JSON");
    assert!(body["error"].is_string(), "{body}");
    house.end().await;
}

#[tokio::test]
async fn metrics_count_and_give_no_one_away() {
    let house = house().await;
    let patient = json!({
        "resourceType": "Patient",
        "name": [{ "family": "Quibblewick" }],
        "identifier": [{ "system": "urn:test", "value": "QX-7741" }],
    });
    let made = house
        .sent(Method::POST, "/fhir/r4/Patient", &patient)
        .send()
        .await
        .expect("an answer");
    let id = made.json::<Value>().await.expect("JSON")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    for path in [
        "/fhir/r4/Patient?family=Quibblewick".to_owned(),
        "/fhir/r4/Patient?identifier=urn:test%7CQX-7741".to_owned(),
        format!("/fhir/r4/Patient/{id}"),
        "/fhir/r4/Patient/Quibblewick".to_owned(),
        "/Quibblewick".to_owned(),
    ] {
        house
            .asked(Method::GET, &path)
            .send()
            .await
            .expect("an answer");
    }
    let odd = Method::from_bytes(b"QUIBBLEWICK").expect("a method");
    house
        .asked(odd, "/fhir/r4/Patient")
        .send()
        .await
        .expect("an answer");

    let metrics = house
        .bare(Method::GET, "/metrics")
        .send()
        .await
        .expect("an answer");
    assert_eq!(metrics.status(), 200);
    assert!(header(&metrics, "content-type").starts_with("text/plain"));
    let text = metrics.text().await.expect("text");
    for name in [
        "cairn_http_requests_total{method=\"GET\",route=\"/fhir/r4/{type}\",status=\"200\"}",
        "cairn_http_request_duration_seconds_bucket{method=\"GET\",route=\"/fhir/r4/{type}/{id}\",le=",
        "cairn_timer_lateness_seconds",
        "cairn_outbox_age_seconds",
        "cairn_store_bytes",
        "ledger_commits_total",
        "ledger_flush_seconds_bucket",
        "journey_feed_lag_seconds",
    ] {
        assert!(text.contains(name), "no {name} in\n{text}");
    }
    for detail in ["quibblewick", "qx-7741", id.as_str()] {
        assert!(!text.to_lowercase().contains(detail), "{detail} in\n{text}");
    }
    house.end().await;
}

/// A patient of the heart-failure journey who leaves hospital now.
pub(crate) fn discharged(now_ms: u64) -> Vec<(String, Value)> {
    let code = json!({ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }] });
    let patient = json!({ "reference": "Patient/lag" });
    let active = "http://terminology.hl7.org/CodeSystem/condition-clinical";
    let mut resources = vec![
        json!({ "resourceType": "Patient", "id": "lag", "birthDate": "1941-03-07", "telecom": [{ "system": "email", "value": "o@example.com" }] }),
        json!({ "resourceType": "Condition", "id": "lag-hf", "subject": patient, "code": code, "clinicalStatus": { "coding": [{ "system": active, "code": "active" }] } }),
        json!({
            "resourceType": "Encounter", "id": "lag-stay", "status": "finished", "subject": patient,
            "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP" },
            "period": { "start": "2026-02-24T08:00:00Z", "end": fhir::date::instant(now_ms) },
        }),
    ];
    resources
        .drain(..)
        .map(|resource| {
            let path = format!(
                "/fhir/r4/{}/{}",
                resource["resourceType"].as_str().expect("a type"),
                resource["id"].as_str().expect("an id")
            );
            (path, resource)
        })
        .collect()
}

/// A gauge becomes a value; other servers of this process share the recorder, so it is asked a few times.
async fn assert_becomes(house: &House, name: &str, expected: f64) {
    let mut patience = Patience::new();
    loop {
        let metrics = house
            .bare(Method::GET, "/metrics")
            .send()
            .await
            .expect("an answer");
        let text = metrics.text().await.expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        let seen = line.map(|value| value.parse::<f64>().expect("a number"));
        if seen == Some(expected) {
            return;
        }
        let words = format!("{name} is {seen:?}, not {expected}");
        patience.wait(&words).await;
    }
}

#[tokio::test]
async fn lags_and_ages_are_true_when_they_are_asked_for() {
    // Nobody follows, as when the follower hangs; nobody delivers.
    let house = house_with(|options| options.run_journeys = false).await;
    let operator = trust::Agent::system(store::TENANT, "command-line");
    let permit = house
        .server
        .trust()
        .decide(
            &operator,
            trust::Purpose::Operations,
            trust::Action::Publish,
            trust::Target::default(),
            "test",
        )
        .await
        .expect("a permit");
    let journeys = house.server.journeys().clone();
    journeys.publish(&permit, JOURNEY).await.expect("published");
    journeys.drain(store::TENANT).await.expect("drained");
    assert_becomes(&house, "journey_feed_lag_seconds", 0.0).await;
    for (path, resource) in discharged(NOON_MS) {
        let written = house
            .sent(Method::PUT, &path, &resource)
            .send()
            .await
            .expect("an answer");
        assert_eq!(written.status(), 201, "{path}");
    }
    house.clock.advance(90_000);
    assert_becomes(&house, "journey_feed_lag_seconds", 90.0).await;
    assert_becomes(&house, "cairn_outbox_age_seconds", 0.0).await;
    journeys.drain(store::TENANT).await.expect("drained");
    assert_becomes(&house, "journey_feed_lag_seconds", 0.0).await;
    // The welcome is on its way, and its channel has a day.
    house.clock.advance(120_000);
    assert_becomes(&house, "cairn_outbox_age_seconds", 120.0).await;
    assert_becomes(&house, "cairn_timer_lateness_seconds", 0.0).await;
    house.clock.set(NOON_MS + 90_000 + 26 * 3_600_000);
    assert_becomes(&house, "cairn_timer_lateness_seconds", 7_200.0).await;
    journeys.drain(store::TENANT).await.expect("drained");
    assert_becomes(&house, "cairn_timer_lateness_seconds", 0.0).await;
    assert_becomes(&house, "journey_timer_lateness_seconds_sum", 7_200.0).await;
    house.end().await;
}

#[tokio::test]
async fn request_ids_come_back() {
    let house = house().await;
    let mine = "0123abcd-0000-4000-8000-0123456789ab";
    let kept = house
        .bare(Method::GET, "/health/live")
        .header("x-request-id", mine)
        .send()
        .await
        .expect("an answer");
    assert_eq!(header(&kept, "x-request-id"), mine);
    for odd in ["short", "Ada Thornbury", "'; drop table", &"a".repeat(65)] {
        let made = house
            .bare(Method::GET, "/health/live")
            .header("x-request-id", odd)
            .send()
            .await
            .expect("an answer");
        let id = header(&made, "x-request-id");
        assert!(id != odd && id.len() == 32, "{odd}: {id}");
    }
    assert_eq!(header(&kept, "x-content-type-options"), "nosniff");
    house.end().await;
}

#[tokio::test]
async fn a_slow_header_is_cut_off() {
    let house = house_with(|options| options.limits.header_timeout_ms = 100).await;
    let mut slow = TcpStream::connect(house.server.address())
        .await
        .expect("a connection");
    slow.write_all(b"GET /health/live HTTP/1.1\r\nhost:")
        .await
        .expect("written");
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection was left open");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    house.end().await;
}

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test]
async fn tls_by_certificate_files() {
    let files = tempfile::tempdir().expect("a folder");
    let tls = certificate(files.path());
    let house = house_with(|options| options.tls = Some(tls)).await;
    assert!(house.server.base_url().starts_with("https://127.0.0.1:"));
    let response = house
        .bare(Method::GET, "/health/ready")
        .send()
        .await
        .expect("an answer over TLS");
    assert_eq!(response.status(), 200);
    assert_ne!(header(&response, "strict-transport-security"), "");
    house.end().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let files = tempfile::tempdir().expect("a folder");
    let tls = certificate(files.path());
    let (certificate_file, key_file) = (tls.certificate.clone(), tls.private_key.clone());
    let house = house_with(|options| options.tls = Some(tls)).await;
    let client = || {
        let builder = reqwest::Client::builder().tls_info(true);
        let builder = builder.danger_accept_invalid_certs(true);
        builder.build().expect("a client")
    };
    let seen = async |client: &reqwest::Client| {
        let asked = client.get(house.url("/health/ready")).send().await;
        let answer = asked.expect("an answer over TLS");
        assert_eq!(answer.status(), 200);
        let told = answer.extensions().get::<reqwest::tls::TlsInfo>();
        let shown = told.and_then(|told| told.peer_certificate());
        shown.expect("a certificate").to_vec()
    };
    let refused = async |value: &str| {
        let asked = house.bare(Method::GET, "/metrics").send().await;
        let text = asked.expect("an answer").text().await.expect("text");
        text.lines()
            .any(|line| line == format!("cairn_tls_files_refused {value}"))
    };
    let old = client();
    let first = seen(&old).await;
    // The certificate of another key: nobody could be served with it.
    let other = tempfile::tempdir().expect("a folder");
    let renewed = certificate(other.path());
    std::fs::copy(&renewed.certificate, &certificate_file).expect("copied");
    until("the refusal", async || refused("1").await).await;
    assert_eq!(seen(&client()).await, first);
    std::fs::copy(&renewed.private_key, &key_file).expect("copied");
    until("the new certificate", async || {
        seen(&client()).await != first
    })
    .await;
    assert!(refused("0").await);
    // The connection of before goes on.
    assert_eq!(seen(&old).await, first);
    std::fs::remove_file(&key_file).expect("removed");
    until("the refusal", async || refused("1").await).await;
    assert_ne!(seen(&client()).await, first);
    house.end().await;
}

#[tokio::test]
async fn a_request_under_way_finishes_and_the_store_can_be_opened_at_once() {
    let house = house().await;
    let body = json!({ "resourceType": "Patient", "name": [{ "family": "Late" }] }).to_string();
    let mut open = TcpStream::connect(house.server.address())
        .await
        .expect("a connection");
    let head = format!(
        "POST /fhir/r4/Patient HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/fhir+json\r\n\
         content-length: {}\r\n\r\n{}",
        house.token,
        body.len(),
        &body[..10],
    );
    open.write_all(head.as_bytes()).await.expect("written");
    // Until the server has the request under way, it may close the connection as an idle one.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (address, folder, clock) = (house.server.address(), house.folder, house.clock);
    let stopping = tokio::spawn(house.server.stop());
    until("no new connections are taken", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    assert!(
        !stopping.is_finished(),
        "the request under way was not waited for"
    );

    open.write_all(&body.as_bytes()[10..])
        .await
        .expect("written");
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    stopping.await.expect("no panic").expect("a clean end");

    let key = store::root_key_path(folder.path());
    let again = store::open(
        store::in_folder(folder.path()),
        &key,
        Arc::new(clock),
        16 << 20,
    )
    .await
    .expect("the store opens again");
    let report = again.verify_audit(&|_| {}).await.expect("a report");
    assert!(
        report.broken.is_none() && report.checkpoint_ok && report.leaves > 0,
        "{report:?}"
    );
    again.close().await.expect("closed");
}
