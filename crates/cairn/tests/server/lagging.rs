//! A replica that lags behind, and requests that come again.

use std::sync::Arc;

use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use ledger::SystemClock;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use trust::Role;

use crate::cluster::Cluster;
use crate::house::{self, header};
use crate::patience;

/// Waits until a question to a database is answered by this.
async fn until(cluster: &Cluster, sql: &str, expected: &str) {
    patience::until(sql, async || {
        cluster.sql("cairn", "postgres", sql) == expected
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_again_is_answered_by_the_primary() {
    let primary = Cluster::new();
    let folder = tempfile::tempdir().expect("a folder");
    let key = store::root_key_path(folder.path());
    store::create_root_key(&key).expect("a key");
    let start = async |replicas: &str| {
        let url = primary.url("cairn");
        let place = store::in_database(&url, None, None, "cairn", replicas).expect("a place");
        let ledger = store::open(place, key.as_path(), Arc::new(SystemClock), 16 << 20).await;
        let options = ServerOptions::new(ledger.expect("a store"), TENANT);
        Server::start(options).await.expect("a server")
    };
    start("").await.stop().await.expect("a clean end");
    let replica = Cluster::replica_of(&primary);
    let server = start(&replica.url("cairn")).await;
    let token = house::token(&server, Role::Client).await;
    let http = house::client().build().expect("a client");
    let ask = |method: Method, path: &str| -> RequestBuilder {
        let url = format!("{}/fhir/r4/{path}", server.base_url());
        http.request(method, url).bearer_auth(&token)
    };
    let sent = |method: Method, path: &str, key: &str, body: &Value| {
        ask(method, path)
            .header("content-type", "application/fhir+json")
            .header("idempotency-key", key)
            .body(body.to_string())
    };
    let patient = |family: &str| json!({"resourceType": "Patient", "name": [{"family": family}]});

    let first = sent(Method::POST, "Patient", "first", &patient("Berg"))
        .send()
        .await;
    let first = first.expect("an answer");
    let old = header(&first, "cairn-sequence").to_owned();
    assert!(!old.is_empty());
    // From here on the replica shows nothing new.
    let at = primary.sql("cairn", "postgres", "SELECT pg_current_wal_flush_lsn()");
    let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
    until(&replica, &caught_up, "t").await;
    replica.sql("cairn", "postgres", "SELECT pg_wal_replay_pause()");
    until(&replica, "SELECT pg_get_wal_replay_pause_state()", "paused").await;

    let entry =
        json!({"resource": patient("Lund"), "request": {"method": "POST", "url": "Patient"}});
    let bundle = |kind: &str| json!({"resourceType": "Bundle", "type": kind, "entry": [entry]});
    for (key, path, body) in [
        ("create", "Patient", patient("Dahl")),
        ("transaction", "", bundle("transaction")),
        ("batch", "", bundle("batch")),
    ] {
        let request = || sent(Method::POST, path, key, &body).header("cairn-sequence", &old);
        let made = request().send().await.expect("an answer");
        assert!(made.status().is_success(), "{key}");
        let status = made.status();
        let made: Value = made.json().await.expect("JSON");
        let again = request().send().await.expect("an answer");
        assert_eq!(again.status(), status, "{key}");
        let again: Value = again.json().await.expect("JSON");
        assert_eq!(again, made, "{key}");
        // A read that takes what is as old is answered by the replica, which hasn't got it.
        let resource = match key {
            "create" => &made,
            _ => &made["entry"][0]["resource"],
        };
        let Some(id) = resource["id"].as_str() else {
            continue;
        };
        let path = format!("Patient/{id}");
        let read = ask(Method::GET, &path).header("cairn-sequence", &old);
        assert_eq!(read.send().await.expect("an answer").status(), 404, "{key}");
        let read = ask(Method::GET, &path).send().await;
        assert_eq!(read.expect("an answer").status(), 200, "{key}");
    }
    server.stop().await.expect("a clean end");
}
