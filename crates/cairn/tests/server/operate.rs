//! What operators see: health, metrics, request ids, TLS, a clean end.

use std::sync::Arc;
use std::time::Duration;

use cairn::store;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{certificate, header, house, house_with};

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
    tokio::time::timeout(Duration::from_secs(5), async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("no new connections are taken");
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
    let again = store::open(folder.path(), &key, Arc::new(clock), 16 << 20)
        .await
        .expect("the store opens again");
    let report = again.verify_audit(&|_| {}).await.expect("a report");
    assert!(
        report.broken.is_none() && report.checkpoint_ok && report.leaves > 0,
        "{report:?}"
    );
    again.close().await.expect("closed");
}
