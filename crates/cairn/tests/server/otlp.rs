//! The audit told by OTLP over HTTP: what goes out, as OpenTelemetry's own library reads it, and what becomes of each
//! answer that a collector may give.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cairn::store;
use cairn::{OtlpCollector, OtlpFiles};
use ledger::ManualClock;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use crate::binary::serve;
use crate::collector::{certificates, events};
use crate::house::{House, NOON_MS, house_with, token};
use crate::patience::{Patience, until};

/// What a collector answers to the request of this number, which brings these records.
type Judge = Box<dyn FnMut(usize, &[LogRecord]) -> Said + Send>;

/// An answer.
enum Said {
    Taken,
    /// A status, with `Retry-After`.
    Status(u16, Option<&'static str>),
    /// Some of it, with words.
    Partly(i64, &'static str),
    /// A page that isn't OTLP's.
    Page,
}

/// What came in.
#[derive(Default)]
struct Told {
    requests: usize,
    /// Requests that were taken, as they came.
    bodies: Vec<Vec<u8>>,
    records: Vec<LogRecord>,
    headers: Option<HeaderMap>,
}

/// A collector that does as it is told.
#[derive(Clone)]
struct Receiver {
    told: Arc<Mutex<Told>>,
    judge: Arc<Mutex<Judge>>,
    port: u16,
    pause: Duration,
}

fn records(body: &[u8]) -> Vec<LogRecord> {
    let request = ExportLogsServiceRequest::decode(body).expect("a request");
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|of| of.scope_logs);
    scopes.flat_map(|of| of.log_records).collect()
}

async fn take(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    tokio::time::sleep(receiver.pause).await;
    let records = records(&body);
    let mut told = receiver.told.lock().expect("told");
    let number = told.requests;
    told.requests += 1;
    let said = (receiver.judge.lock().expect("a judge"))(number, &records);
    told.headers = Some(headers);
    if matches!(said, Said::Taken | Said::Partly(..)) {
        told.bodies.push(body.to_vec());
        told.records.extend(records);
    }
    let partial_success = match said {
        Said::Taken => None,
        Said::Partly(rejected_log_records, words) => Some(ExportLogsPartialSuccess {
            rejected_log_records,
            error_message: words.to_owned(),
        }),
        Said::Status(status, after) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let after = after.map(|after| [(header::RETRY_AFTER, after)]);
            return (
                status,
                after
                    .map(IntoIterator::into_iter)
                    .map_or_else(HeaderMap::new, |all| {
                        all.map(|(name, value)| (name, value.parse().expect("a value")))
                            .collect()
                    }),
            )
                .into_response();
        }
        Said::Page => return axum::response::Html("<p>Please sign in").into_response(),
    };
    let answer = ExportLogsServiceResponse { partial_success };
    let kind = [(header::CONTENT_TYPE, "application/x-protobuf")];
    (kind, answer.encode_to_vec()).into_response()
}

impl Receiver {
    /// One on this machine, in the clear or over TLS in which both sides show a certificate.
    fn start(pause: Duration, tls: Option<&Path>, judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let receiver = Self {
            told: Arc::default(),
            judge: Arc::new(Mutex::new(judge)),
            port: listener.local_addr().expect("an address").port(),
            pause,
        };
        let routes = axum::Router::new()
            .route("/v1/logs", axum::routing::post(take))
            .layer(DefaultBodyLimit::max(20 << 20))
            .with_state(receiver.clone());
        let service = routes.into_make_service();
        match tls.map(both_show) {
            None => {
                let server = axum_server::from_tcp(listener).expect("a server");
                tokio::spawn(server.serve(service));
            }
            Some(config) => {
                let config = axum_server::tls_rustls::RustlsConfig::from_config(config);
                let server = axum_server::from_tcp_rustls(listener, config).expect("a server");
                tokio::spawn(server.serve(service));
            }
        }
        receiver
    }

    fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn judges(&self, judge: Judge) {
        *self.judge.lock().expect("a judge") = judge;
    }

    fn collector(&self) -> cairn::Collector {
        let made = OtlpCollector::new(&self.base(), OtlpFiles::default(), "cairn.example.org");
        made.expect("a collector").into()
    }

    fn requests(&self) -> usize {
        self.told.lock().expect("told").requests
    }

    /// How often each record was told, by its id.
    fn uids(&self) -> BTreeMap<String, usize> {
        let mut uids = BTreeMap::new();
        for record in &self.told.lock().expect("told").records {
            *uids.entry(attribute(record, "log.record.uid")).or_default() += 1;
        }
        uids
    }

    fn leaves(&self) -> Vec<String> {
        let told = self.told.lock().expect("told");
        let leaves = told
            .records
            .iter()
            .map(|record| attribute(record, "cairn.audit.leaf"));
        leaves.collect()
    }
}

fn both_show(folder: &Path) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let file =
        |name: &str| CertificateDer::from_pem_file(folder.join(name)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("collector.key")).expect("a key");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(file("ca.pem")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![file("collector.pem")], key);
    Arc::new(config.expect("a configuration"))
}

fn attribute(record: &LogRecord, name: &str) -> String {
    let mut all = record.attributes.iter();
    let found = all.find(|pair| pair.key == name);
    match found.and_then(|pair| pair.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

/// Waits until all audit events that there are now were told.
async fn all_told(receiver: &Receiver, house: &House, officer: &str) -> Vec<Value> {
    let events = events(house, officer).await;
    let mut patience = Patience::every(Duration::from_millis(200));
    loop {
        let told = receiver.uids();
        let ids = events.iter().filter_map(|event| event["id"].as_str());
        let left = ids.filter(|id| !told.contains_key(*id)).count();
        if left == 0 {
            return events;
        }
        patience
            .wait(&format!("{left} of {} were not told", events.len()))
            .await;
    }
}

/// The numbers of the leaves of each shard, in the order in which they were told.
fn by_shard(leaves: &[String]) -> BTreeMap<String, Vec<u64>> {
    let mut shards: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for leaf in leaves {
        let (shard, index) = leaf.split_once('/').expect("a leaf");
        let index = index.parse().expect("a number");
        shards.entry(shard.to_owned()).or_default().push(index);
    }
    shards
}

/// Each leaf once, from the first on, in their order.
fn assert_whole(leaves: &[String]) {
    for (shard, indexes) in by_shard(leaves) {
        let expected: Vec<u64> = (0..).take(indexes.len()).collect();
        assert_eq!(indexes, expected, "{shard}");
    }
}

/// The metrics of this collector.
async fn count(house: &House, name: &str) -> u64 {
    let request = house.bare(Method::GET, "/metrics");
    let text = request.send().await.expect("an answer").text().await;
    let text = text.expect("text");
    let start = format!("{name}{{collector=\"otlp\"}} ");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(start.as_str()));
    line.map_or(0, |number| number.parse().expect("a number"))
}

/// The same requests as OpenTelemetry's own library reads them.
fn decoded(bodies: &[Vec<u8>]) -> Vec<Value> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = home.join("../../target/peers/otlp/bin/python");
    assert!(
        python.exists(),
        "the tests need OpenTelemetry's library: run scripts/test once, which installs it into {}",
        python.display()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(python);
    command.arg(home.join("tests/server/clients/decode_logs.py"));
    for (number, body) in bodies.iter().enumerate() {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, body).expect("written");
        command.arg(file);
    }
    let output = command.output().expect("python runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut records = Vec::new();
    for request in lines {
        let resource = &request["resourceLogs"][0];
        let named = resource["resource"]["attributes"].to_string();
        assert!(named.contains("\"cairn.example.org\""), "{named}");
        let scope = &resource["scopeLogs"][0];
        assert_eq!(scope["scope"]["name"], "cairn.audit");
        records.extend(scope["logRecords"].as_array().cloned().unwrap_or_default());
    }
    records
}

/// What records say, out of a patient whose every detail is a canary.
async fn acts(house: &House) {
    let patient = json!({"resourceType": "Patient", "id": "zyxwv-patient", "name": [{"family": "Quibblethorpe"}],
        "birthDate": "1931-07-23", "identifier": [{"system": "urn:mrn", "value": "9988776655"}]});
    let observation = json!({"resourceType": "Observation", "id": "zyxwv-weight", "status": "final",
        "subject": {"reference": "Patient/zyxwv-patient"}, "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "note": [{"text": "Quibblethorpe was here"}]});
    for (path, body) in [
        ("Patient/zyxwv-patient", &patient),
        ("Observation/zyxwv-weight", &observation),
    ] {
        let put = house.sent(Method::PUT, &format!("/fhir/r4/{path}"), body);
        assert_eq!(put.send().await.expect("an answer").status(), 201);
    }
    for path in [
        "Patient/zyxwv-patient",
        "Observation/zyxwv-weight",
        "Observation/zyxwv-none",
        "Patient?family=Quibblethorpe&birthdate=1931-07-23",
        "Observation?code=29463-7&patient=zyxwv-patient",
        "Patient/zyxwv-patient/$everything",
    ] {
        let get = house.asked(Method::GET, &format!("/fhir/r4/{path}"));
        let answer = get.send().await.expect("an answer");
        assert!(answer.status().as_u16() < 500, "{path}");
    }
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D), 164.312(b), 164.312(e)(2)(ii)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetry_is_told_each_record_and_nothing_of_a_patient() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let file = |name: &str| space.path().join(name);
    let receiver = Receiver::start(
        Duration::ZERO,
        Some(space.path()),
        Box::new(|_, _| Said::Taken),
    );
    std::fs::write(file("headers"), "Authorization: Bearer first\n").expect("written");
    let (authorities, certificate, key, headers) = (
        file("ca.pem"),
        file("server.pem"),
        file("server.key"),
        file("headers"),
    );
    let files = OtlpFiles {
        authorities: Some(&authorities),
        identity: Some((&certificate, &key)),
        headers: Some(&headers),
    };
    let base = receiver.base().replace("http:", "https:");
    let to = OtlpCollector::new(&base, files, "cairn.example.org").expect("a collector");
    let house = house_with(|options| options.collectors = vec![to.into()]).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    acts(&house).await;
    let events = all_told(&receiver, &house, &officer).await;
    assert!(events.len() > 10, "{}", events.len());
    assert_whole(&receiver.leaves());
    let header = || {
        receiver
            .told
            .lock()
            .expect("told")
            .headers
            .clone()
            .expect("headers")
    };
    assert_eq!(header()["authorization"], "Bearer first");

    // A secret that changes is known at the next batch.
    std::fs::write(file("headers"), "Authorization: Bearer second\n").expect("written");
    acts_again(&house).await;
    all_told(&receiver, &house, &officer).await;
    assert_eq!(header()["authorization"], "Bearer second");

    let bodies = receiver.told.lock().expect("told").bodies.clone();
    for body in &bodies {
        let raw = String::from_utf8_lossy(body);
        for secret in [
            "zyxwv",
            "Quibble",
            "1931",
            "9988776655",
            "29463-7",
            "127.0.0.1",
            "client-address",
            "family=",
            "Bearer",
        ] {
            assert!(!raw.contains(secret), "{secret} in {raw}");
        }
    }
    let records = decoded(&bodies);
    let of = |record: &Value, name: &str| {
        let mut all = record["attributes"]
            .as_array()
            .into_iter()
            .flatten()
            .cloned();
        all.find(|pair| pair["key"] == name)
            .map(|pair| pair["value"].clone())
    };
    // What OpenTelemetry's library reads is what the audit has.
    for event in &events {
        let id = event["id"].as_str().expect("an id");
        let mut found = records.iter();
        let uid = Some(json!({"stringValue": id}));
        let record = found.find(|record| of(record, "log.record.uid") == uid);
        let record = record.unwrap_or_else(|| panic!("{id} is not told"));
        assert_eq!(record["eventName"], "fhir.audit_event");
        let text = |value: &Value| Some(json!({"stringValue": value}));
        for (name, value) in [
            ("fhir.audit_event.type.code", &event["type"]["code"]),
            (
                "fhir.audit_event.subtype.code",
                &event["subtype"][0]["code"],
            ),
            ("fhir.audit_event.action", &event["action"]),
            ("fhir.audit_event.outcome", &event["outcome"]),
        ] {
            assert_eq!(of(record, name), text(value), "{name} of {id}");
        }
        let nanoseconds: i64 = record["timeUnixNano"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a number");
        let recorded: jiff::Timestamp = event["recorded"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time");
        assert_eq!(i128::from(nanoseconds), recorded.as_nanosecond());
        let words = record["body"]["stringValue"].as_str().expect("words");
        assert!(
            words.starts_with(event["subtype"][0]["code"].as_str().expect("a code")),
            "{words}"
        );
        let asked = event["agent"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|agent| agent["requestor"] == true);
        if let Some(account) = asked.and_then(|agent| agent["altId"].as_str()) {
            assert_eq!(
                of(record, "user.id"),
                Some(json!({"stringValue": account})),
                "{id}"
            );
        }
    }
    house.end().await;
}

async fn acts_again(house: &House) {
    let get = house.asked(Method::GET, "/fhir/r4/Patient/zyxwv-patient");
    assert_eq!(get.send().await.expect("an answer").status(), 200);
}

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_by_otlp_whose_certificate_is_not_trusted() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let receiver = Receiver::start(
        Duration::ZERO,
        Some(space.path()),
        Box::new(|_, _| Said::Taken),
    );
    let (port, connections) = door(receiver.port).await;
    let base = format!("https://127.0.0.1:{port}");
    let file = |name: &str| space.path().join(name);
    let (other, ca) = (file("other.pem"), file("ca.pem"));
    let (stranger, strange_key) = (file("stranger.pem"), file("stranger.key"));
    let (server, server_key) = (file("server.pem"), file("server.key"));
    for files in [
        OtlpFiles {
            authorities: Some(&other),
            ..OtlpFiles::default()
        },
        OtlpFiles {
            authorities: Some(&ca),
            ..OtlpFiles::default()
        },
        OtlpFiles {
            authorities: Some(&ca),
            identity: Some((&stranger, &strange_key)),
            headers: None,
        },
    ] {
        let to = OtlpCollector::new(&base, files, "x").expect("a collector");
        let house = house_with(|options| options.collectors = vec![to.into()]).await;
        // The second time is after the end of the first.
        let before = connections.load(Ordering::SeqCst);
        until("it has been tried", async || {
            connections.load(Ordering::SeqCst) >= before + 2
        })
        .await;
        assert!(count(&house, "cairn_audit_told_failures_total").await > 0);
        assert_eq!(receiver.requests(), 0);
        house.end().await;
    }
    // It is not the door that keeps them out.
    let files = OtlpFiles {
        authorities: Some(&ca),
        identity: Some((&server, &server_key)),
        headers: None,
    };
    let to = OtlpCollector::new(&base, files, "x").expect("a collector");
    let house = house_with(|options| options.collectors = vec![to.into()]).await;
    until("it is told", async || receiver.requests() > 0).await;
    house.end().await;
}

/// A way to a port of this machine that counts the connections.
async fn door(to: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await;
                let mut far = far.expect("a connection");
                // How it ends is the business of its ends.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (port, connections)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_is_told_again_in_its_order() {
    let begun = tokio::time::Instant::now();
    // Each is another reason not to count as taken; the fifth time all is well.
    let receiver = Receiver::start(
        Duration::ZERO,
        None,
        Box::new(|number, _| match number {
            0 => Said::Status(503, Some("6")),
            1 => Said::Status(429, None),
            2 => Said::Page,
            3 => Said::Status(401, None),
            _ => Said::Taken,
        }),
    );
    let to = receiver.collector();
    let house = house_with(|options| options.collectors = vec![to]).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    until("it has been asked to wait", async || {
        receiver.requests() == 1
    })
    .await;
    acts(&house).await;
    until("it is asked again", async || receiver.requests() > 1).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    all_told(&receiver, &house, &officer).await;
    assert_whole(&receiver.leaves());
    assert!(count(&house, "cairn_audit_told_failures_total").await >= 4);
    assert_eq!(count(&house, "cairn_audit_told_refused_total").await, 0);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_by_itself_is_set_aside_and_holds_up_no_other() {
    let bad = |records: &[LogRecord]| {
        let of = |record: &LogRecord| attribute(record, "cairn.audit.leaf");
        records.iter().any(|record| of(record).ends_with("/1"))
    };
    let receiver = Receiver::start(
        Duration::ZERO,
        None,
        Box::new(|_, _| Said::Status(400, None)),
    );
    let to = receiver.collector();
    let house = house_with(|options| options.collectors = vec![to]).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    acts(&house).await;
    // Who refuses even nothing is broken: then nothing is set aside, and all of it waits.
    until("it has been tried", async || {
        count(&house, "cairn_audit_told_failures_total").await > 1
    })
    .await;
    assert_eq!(count(&house, "cairn_audit_told_total").await, 0);
    assert_eq!(count(&house, "cairn_audit_told_refused_total").await, 0);

    let single = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&single);
    receiver.judges(Box::new(move |_, records| {
        if !bad(records) {
            return Said::Taken;
        }
        if let [one] = records {
            seen.lock()
                .expect("seen")
                .insert(attribute(one, "cairn.audit.leaf"));
        }
        Said::Status(if records.len() > 4 { 413 } else { 400 }, None)
    }));
    let mut patience = Patience::every(Duration::from_millis(200));
    let events = events(&house, &officer).await;
    loop {
        let aside = single.lock().expect("seen").len();
        let told = receiver.uids();
        let ids = events.iter().filter_map(|event| event["id"].as_str());
        let left = ids.filter(|id| !told.contains_key(*id)).count();
        if aside > 0 && left <= aside {
            break;
        }
        patience
            .wait(&format!("{left} wait, {aside} are set aside"))
            .await;
    }
    let aside = single.lock().expect("seen").clone();
    until("it is counted", async || {
        count(&house, "cairn_audit_told_refused_total").await == aside.len() as u64
    })
    .await;
    for (shard, indexes) in by_shard(&receiver.leaves()) {
        let is_aside = aside.contains(&format!("{shard}/1"));
        let expected = (0..)
            .filter(|index| !is_aside || *index != 1)
            .take(indexes.len());
        assert_eq!(indexes, expected.collect::<Vec<u64>>(), "{shard}");
    }
    house.end().await;
}

/// It takes nothing, and so the emptiest request, but no record.
fn takes_nothing() -> Judge {
    Box::new(|_, records| match records {
        [] => Said::Taken,
        _ => Said::Status(400, None),
    })
}

/// An act, and a round in which it might be told.
async fn act_and_round(house: &House) {
    acts_again(house).await;
    let rounds = async || {
        count(house, "cairn_audit_told_total").await
            + count(house, "cairn_audit_told_failures_total").await
    };
    let before = rounds().await;
    until("there is a round", async || rounds().await > before).await;
}

// Proves: 45 CFR 164.312(b)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_each_record_is_told_none_however_few_there_are_at_a_time() {
    let receiver = Receiver::start(Duration::ZERO, None, takes_nothing());
    let to = receiver.collector();
    let house = house_with(|options| options.collectors = vec![to]).await;
    let patient = json!({"resourceType": "Patient", "id": "zyxwv-patient"});
    let put = house.sent(Method::PUT, "/fhir/r4/Patient/zyxwv-patient", &patient);
    assert_eq!(put.send().await.expect("an answer").status(), 201);
    for _ in 0..3 {
        act_and_round(&house).await;
    }
    assert!(count(&house, "cairn_audit_told_failures_total").await >= 3);
    assert_eq!(count(&house, "cairn_audit_told_total").await, 0);
    assert_eq!(count(&house, "cairn_audit_told_refused_total").await, 0);
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    receiver.judges(Box::new(|_, _| Said::Taken));
    all_told(&receiver, &house, &officer).await;
    assert_whole(&receiver.leaves());

    // Once it has taken some, one may be refused for its own sake; the next one waits for another that is taken.
    until("nothing is on the way", async || {
        count(&house, "cairn_audit_told_total").await == receiver.leaves().len() as u64
    })
    .await;
    receiver.judges(takes_nothing());
    let failures = count(&house, "cairn_audit_told_failures_total").await;
    for _ in 0..3 {
        act_and_round(&house).await;
    }
    assert!(count(&house, "cairn_audit_told_failures_total").await > failures + 1);
    assert_eq!(count(&house, "cairn_audit_told_refused_total").await, 1);
    let told = receiver.leaves().len();
    receiver.judges(Box::new(|_, _| Said::Taken));
    until("it is told again", async || {
        receiver.leaves().len() >= told + 2
    })
    .await;
    assert_eq!(count(&house, "cairn_audit_told_refused_total").await, 1);
    let leaves = receiver.leaves();
    let missing = by_shard(&leaves).into_values().map(|indexes| {
        let sorted = indexes.is_sorted_by(|one, next| one < next);
        assert!(sorted, "{indexes:?}");
        indexes.last().map_or(0, |last| last + 1) - indexes.len() as u64
    });
    assert_eq!(missing.sum::<u64>(), 1, "{leaves:?}");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_of_a_batch_that_breaks_off_is_not_sent_again() {
    let receiver = Receiver::start(
        Duration::ZERO,
        None,
        Box::new(|_, _| Said::Status(503, None)),
    );
    let to = receiver.collector();
    let house = house_with(|options| options.collectors = vec![to]).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    acts(&house).await;
    // It takes three at most, refuses the second leaf of each shard, and thrice it breaks off.
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&refused);
    let (mut answers, mut broken) = (0, 0);
    receiver.judges(Box::new(move |_, records| {
        if records.len() > 3 {
            return Said::Status(413, None);
        }
        answers += 1;
        if answers % 4 == 0 && broken < 3 {
            broken += 1;
            return Said::Status(503, None);
        }
        let leaf = |record: &LogRecord| attribute(record, "cairn.audit.leaf");
        let mut all = records.iter().map(leaf);
        if !all.any(|leaf| leaf.ends_with("/1")) {
            return Said::Taken;
        }
        if let [one] = records {
            seen.lock().expect("seen").push(leaf(one));
        }
        Said::Status(400, None)
    }));
    let events = events(&house, &officer).await;
    let mut patience = Patience::every(Duration::from_millis(200));
    loop {
        let told = receiver.uids();
        let ids = events.iter().filter_map(|event| event["id"].as_str());
        let left = ids.filter(|id| !told.contains_key(*id)).count();
        let aside = count(&house, "cairn_audit_told_refused_total").await;
        let all = receiver.leaves().len() as u64 + aside;
        if aside > 0 && left as u64 <= aside && count(&house, "cairn_audit_told_total").await == all
        {
            break;
        }
        patience
            .wait(&format!("{left} wait, {aside} are set aside"))
            .await;
    }
    // Each was taken or set aside, once; a record whose check broke off was refused again before it was counted.
    let mut leaves = receiver.leaves();
    let refused: BTreeSet<String> = refused.lock().expect("refused").drain(..).collect();
    assert_eq!(
        count(&house, "cairn_audit_told_refused_total").await,
        refused.len() as u64
    );
    leaves.extend(refused);
    for (shard, mut indexes) in by_shard(&leaves) {
        indexes.sort_unstable();
        let expected: Vec<u64> = (0..).take(indexes.len()).collect();
        assert_eq!(indexes, expected, "{shard}");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_in_part_is_counted_and_not_sent_again() {
    let receiver = Receiver::start(
        Duration::ZERO,
        None,
        Box::new(|number, _| match number {
            0 => Said::Partly(1, "one is too old\r\nforged"),
            1 => Said::Partly(0, "you might send less"),
            _ => Said::Taken,
        }),
    );
    let to = receiver.collector();
    let house = house_with(|options| options.collectors = vec![to]).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    acts(&house).await;
    all_told(&receiver, &house, &officer).await;
    acts_again(&house).await;
    all_told(&receiver, &house, &officer).await;
    assert_whole(&receiver.leaves());
    assert_eq!(count(&house, "cairn_audit_told_refused_total").await, 1);
    assert_eq!(count(&house, "cairn_audit_told_failures_total").await, 0);
    house.end().await;
}

/// More than two batches hold.
const READS: usize = 2_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_between_batches_loses_none() {
    let house = house_with(|_| {}).await;
    acts(&house).await;
    for _ in 0..READS / 200 {
        let reads = (0..200).map(|_| {
            house
                .asked(Method::GET, "/fhir/r4/Patient/zyxwv-patient")
                .send()
        });
        for answer in futures_util::future::join_all(reads).await {
            assert_eq!(answer.expect("an answer").status(), 200);
        }
    }
    let House { server, folder, .. } = house;
    server.stop().await.expect("a clean end");

    let receiver = Receiver::start(
        Duration::from_millis(150),
        None,
        Box::new(|_, _| Said::Taken),
    );
    let base = receiver.base();
    // While the first batch is on the way, after it, and once more.
    for requests in [0, 1, 2] {
        let (mut child, _) = serve(folder.path(), |command| {
            command.env("CAIRN_AUDIT_OTLP", &base);
        });
        if requests > 0 {
            until("a batch is told", async || receiver.requests() >= requests).await;
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let (mut child, _) = serve(folder.path(), |command| {
        command.env("CAIRN_AUDIT_OTLP", &base);
    });
    let mut known = 0;
    until("nothing comes any more", async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = std::mem::replace(&mut known, receiver.leaves().len());
        known > READS && before == known
    })
    .await;
    child.kill().expect("killed");
    child.wait().expect("ended");

    let clock = Arc::new(ManualClock::new(NOON_MS));
    let key = store::root_key_path(folder.path());
    let place = store::in_folder(folder.path());
    let ledger = store::open(place, &key, clock, 16 << 20)
        .await
        .expect("a store");
    let told: BTreeSet<String> = receiver.leaves().into_iter().collect();
    let trees = ledger
        .newest_checkpoint()
        .await
        .expect("a checkpoint")
        .trees;
    let mut lost = Vec::new();
    for (shard, size) in trees {
        let leaves = (0..size).map(|index| format!("{shard}/{index}"));
        lost.extend(leaves.filter(|leaf| !told.contains(leaf)));
    }
    assert!(lost.is_empty(), "{lost:?}");
    assert!(told.len() > READS, "{}", told.len());
    // What comes again is known by its id; a record that is a leaf of several shards is one record.
    let mut known: BTreeMap<String, LogRecord> = BTreeMap::new();
    for record in &receiver.told.lock().expect("told").records {
        let mut record = record.clone();
        record.observed_time_unix_nano = 0;
        let uid = attribute(&record, "log.record.uid");
        record
            .attributes
            .retain(|pair| pair.key != "cairn.audit.leaf");
        let same = known.entry(uid).or_insert_with(|| record.clone());
        assert_eq!(*same, record);
    }
}
