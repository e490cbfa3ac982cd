//! The audit told to rsyslog, which nobody here wrote, over TLS in which both sides show a certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cairn::config::SyslogReceipt;
use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions, SyslogCollector};
use ledger::ManualClock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use trust::Role;

use crate::house::{House, NOON_MS, house_with, token};
use crate::patience::{Patience, in_time, until};

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed (scripts/test installs it)");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, and what it has signed: certificates of the collector and of the server.
pub(crate) fn certificates(folder: &Path) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(
        folder,
        &format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"),
    );
    openssl(
        folder,
        &format!("{new} -subj /CN=other -keyout other.key -out other.pem"),
    );
    for (name, signer) in [("collector", "ca"), ("server", "ca"), ("stranger", "other")] {
        openssl(
            folder,
            &format!(
                "{new} -subj /CN={name} -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
                 -CA {signer}.pem -CAkey {signer}.key -keyout {name}.key -out {name}.pem"
            ),
        );
    }
}

/// rsyslog, with what it has been told.
struct Rsyslog {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Rsyslog {
    fn new(folder: &Path) -> Self {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        Self {
            folder: folder.to_owned(),
            port: port.expect("a port").port(),
            process: None,
        }
    }

    async fn start(&mut self) {
        let (folder, port) = (self.folder.display(), self.port);
        let configuration = format!(
            r#"global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
  defaultNetstreamDriverCAFile="{folder}/ca.pem" defaultNetstreamDriverCertFile="{folder}/collector.pem"
  defaultNetstreamDriverKeyFile="{folder}/collector.key")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="all" type="list") {{ property(name="jsonmesg") constant(value="\n") }}
action(type="omfile" file="{folder}/told" template="all")
"#
        );
        std::fs::write(self.folder.join("rsyslog.conf"), configuration).expect("written");
        let process = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f", "rsyslog.conf", "-i", "rsyslog.pid", "-C"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rsyslog is installed (scripts/test installs it)");
        self.process = Some(process);
        let address = ("127.0.0.1", self.port);
        until("rsyslog listens", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is killed");
            process.wait().expect("it ends");
            let _ = std::fs::remove_file(self.folder.join("rsyslog.pid"));
        }
    }

    /// What it has been told, as it has understood it.
    fn told(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("told")).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["app-name"] == "cairn").collect()
    }

    /// How often each record was told, by its id.
    fn records(&self) -> BTreeMap<String, usize> {
        let mut records = BTreeMap::new();
        for line in self.told() {
            *records.entry(record(&line)).or_default() += 1;
        }
        records
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The id of the record that a message is about.
fn record(line: &Value) -> String {
    let message = line["msg"].as_str().expect("a message");
    let before = message
        .find("\" ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"13\"")
        .expect(message);
    let name = message[..before].rsplit('"').next().expect("an id");
    name.to_owned()
}

pub(crate) async fn events(house: &House, officer: &str) -> Vec<Value> {
    let path = "/fhir/r4/AuditEvent?_count=1000";
    let answer = house
        .bare(Method::GET, path)
        .bearer_auth(officer)
        .header("x-purpose-of-use", "HOPERAT")
        .send()
        .await
        .expect("an answer");
    let bundle: Value = answer.json().await.expect("JSON");
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| entry["resource"].clone())
        .collect()
}

/// Waits until all of these were told.
async fn all_told(rsyslog: &Rsyslog, events: &[Value]) {
    let mut patience = Patience::every(Duration::from_millis(200));
    loop {
        let told = rsyslog.records();
        let left: Vec<&str> = events
            .iter()
            .filter_map(|event| event["id"].as_str())
            .filter(|id| !told.contains_key(*id))
            .collect();
        if left.is_empty() {
            return;
        }
        let words = format!("{} of {} were not told", left.len(), events.len());
        patience.wait(&words).await;
    }
}

fn collector(folder: &Path, port: u16, name: &str) -> SyslogCollector {
    let file = |name: &str| folder.join(name);
    let (certificate, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
    SyslogCollector::new(
        &format!("127.0.0.1:{port}"),
        Some(&file("ca.pem")),
        Some((&certificate, &key)),
        "cairn.example.org",
    )
    .expect("a collector")
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D), 164.312(b), 164.312(e)(2)(ii)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsyslog_is_told_each_record_and_nothing_of_a_patient() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let mut rsyslog = Rsyslog::new(space.path());
    rsyslog.start().await;
    let to = collector(space.path(), rsyslog.port, "server");
    let house = house_with(|options| options.collectors = vec![to.into()]).await;
    let officer = token(&house.server, Role::PrivacyOfficer).await;

    let patient = json!({"resourceType": "Patient", "id": "zyxwv-patient", "name": [{"family": "Quibblethorpe"}],
        "birthDate": "1931-07-23", "identifier": [{"system": "urn:mrn", "value": "9988776655"}]});
    let observation = json!({"resourceType": "Observation", "id": "zyxwv-weight", "status": "final",
        "subject": {"reference": "Patient/zyxwv-patient"}, "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "note": [{"text": "Quibblethorpe was here"}]});
    for body in [&patient, &observation] {
        let path = format!(
            "/fhir/r4/{}/{}",
            body["resourceType"].as_str().expect("a type"),
            body["id"].as_str().expect("an id")
        );
        let answer = house
            .sent(Method::PUT, &path, body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 201);
    }
    let acts = async |house: &House| {
        for path in [
            "Patient/zyxwv-patient",
            "Observation/zyxwv-weight",
            "Observation/zyxwv-none",
            "Patient?family=Quibblethorpe&birthdate=1931-07-23",
            "Observation?code=29463-7&patient=zyxwv-patient",
            "Patient?identifier=9988776655&nonsense=Quibblethorpe",
            "Patient/zyxwv-patient/$everything",
        ] {
            let answer = house
                .asked(Method::GET, &format!("/fhir/r4/{path}"))
                .send()
                .await
                .expect("an answer");
            assert!(answer.status().as_u16() < 500, "{path}");
        }
    };
    acts(&house).await;
    let first = events(&house, &officer).await;
    assert!(first.len() > 10, "{}", first.len());
    all_told(&rsyslog, &first).await;

    for line in rsyslog.told() {
        assert_eq!(line["msgid"], "IHE+DICOM", "{line}");
        assert_eq!(line["hostname"], "cairn.example.org", "{line}");
        assert_eq!(
            (&line["syslogfacility"], &line["syslogseverity"]),
            (&"10".into(), &"5".into()),
            "{line}"
        );
        let raw = line["rawmsg"].as_str().expect("a message");
        assert!(
            raw.contains("<AuditMessage>") && raw.ends_with("</AuditMessage>"),
            "{raw}"
        );
        for secret in [
            "zyxwv",
            "Quibble",
            "1931",
            "9988776655",
            "29463-7",
            "127.0.0.1",
            "client-address",
            "family=",
            "nonsense",
        ] {
            assert!(!raw.contains(secret), "{secret} in {raw}");
        }
        let xml = raw
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once("<?xml"))
            .expect(raw)
            .1;
        let xml = format!("<?xml{xml}");
        let mut reader = quick_xml::Reader::from_str(&xml);
        while !matches!(
            reader.read_event().expect("XML"),
            quick_xml::events::Event::Eof
        ) {}
    }
    // The same patient has the same name in each message, and who asked is told by the account's id.
    let of_patient = r#"ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1""#;
    let name = |line: &Value| {
        let message = line["msg"].as_str().unwrap_or_default().to_owned();
        let before = message.find(&format!("\" {of_patient}"))?;
        Some(message[..before].rsplit('"').next()?.to_owned())
    };
    let names: BTreeSet<String> = rsyslog.told().iter().filter_map(name).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let asked = first[0]["agent"][0]["altId"].as_str().expect("an id");
    assert!(rsyslog.told().iter().any(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|text| text.contains(asked))
    }));

    // What happens while it is away is told when it is back.
    rsyslog.kill();
    acts(&house).await;
    let second = events(&house, &officer).await;
    assert!(second.len() > first.len() + 5);
    sleep(Duration::from_secs(2)).await;
    rsyslog.start().await;
    all_told(&rsyslog, &second).await;

    // A server that starts again goes on where it was.
    let House { server, folder, .. } = house;
    server.stop().await.expect("a clean end");
    let before = rsyslog.records();
    let clock = Arc::new(ManualClock::new(NOON_MS));
    let key = store::root_key_path(folder.path());
    let ledger = store::open(store::in_folder(folder.path()), &key, clock, 16 << 20)
        .await
        .expect("a store");
    let mut options = ServerOptions::new(ledger, TENANT);
    options.collectors = vec![collector(space.path(), rsyslog.port, "server").into()];
    let server = Server::start(options).await.expect("a server");
    until("its start is told", async || {
        rsyslog.records().len() != before.len()
    })
    .await;
    let after = rsyslog.records();
    let again: Vec<_> = before
        .iter()
        .filter(|(id, times)| after[*id] > **times)
        .collect();
    assert!(
        again.len() <= 3,
        "{} of {} were told again",
        again.len(),
        before.len()
    );
    server.stop().await.expect("a clean end");
}

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_whose_certificate_is_not_trusted() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let mut rsyslog = Rsyslog::new(space.path());
    rsyslog.start().await;
    // The collector doesn't know who signed the server's certificate; or the server the collector's.
    let strange = collector(space.path(), rsyslog.port, "stranger");
    let other = SyslogCollector::new(
        &format!("127.0.0.1:{}", rsyslog.port),
        Some(&space.path().join("other.pem")),
        None,
        "cairn.example.org",
    );
    for to in [strange, other.expect("a collector")] {
        let house = house_with(|options| options.collectors = vec![to.into()]).await;
        sleep(Duration::from_secs(4)).await;
        assert_eq!(rsyslog.told(), Vec::<Value>::new());
        house.end().await;
    }
}

/// A collector of ours, that takes one batch and ends the connection with TLS's farewell, or without.
struct Peer {
    listener: tokio::net::TcpListener,
    tls: tokio_rustls::TlsAcceptor,
}

impl Peer {
    async fn new(folder: &Path) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let certificate = CertificateDer::from_pem_file(folder.join("collector.pem"));
        let key = PrivateKeyDer::from_pem_file(folder.join("collector.key"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("a certificate")],
                key.expect("a key"),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        Self {
            listener: listener.expect("a port"),
            tls: tokio_rustls::TlsAcceptor::from(Arc::new(config.expect("a configuration"))),
        }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// The leaves of a batch, as they were told.
    async fn batch(&self, farewell: bool) -> Vec<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let taking = async {
            let (stream, _) = self.listener.accept().await.expect("a connection");
            let mut stream = self.tls.accept(stream).await.expect("TLS");
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.expect("a whole batch");
            if farewell {
                stream.shutdown().await.expect("a farewell");
            }
            text
        };
        let text = in_time("it is told", taking).await;
        let text = String::from_utf8(text).expect("text");
        let mut leaves: Vec<String> = (text.split("type=\"leaf\" value=\"").skip(1))
            .filter_map(|rest| rest.split('"').next().map(str::to_owned))
            .collect();
        leaves.dedup();
        leaves
    }
}

fn told_to(folder: &Path, peer: &Peer) -> SyslogCollector {
    SyslogCollector::new(
        &format!("127.0.0.1:{}", peer.port()),
        Some(&folder.join("ca.pem")),
        None,
        "cairn.example.org",
    )
    .expect("a collector")
}

// Proves: 45 CFR 164.312(b), 164.312(e)(2)(i)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_without_a_farewell_is_no_receipt() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let peer = Peer::new(space.path()).await;
    let to = told_to(space.path(), &peer);
    let house = house_with(|options| options.collectors = vec![to.into()]).await;
    // What may have been cut is told again, until somebody says that it was read.
    let first = peer.batch(false).await;
    assert!(!first.is_empty());
    let second = peer.batch(false).await;
    let third = peer.batch(true).await;
    for leaf in &first {
        assert!(second.contains(leaf) && third.contains(leaf), "{leaf}");
    }
    token(&house.server, Role::PrivacyOfficer).await;
    let fourth = peer.batch(true).await;
    assert!(!fourth.is_empty());
    for leaf in &third {
        assert!(!fourth.contains(leaf), "{leaf} is told again");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_configured_an_end_without_a_farewell_is_a_receipt() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let peer = Peer::new(space.path()).await;
    let to = told_to(space.path(), &peer).taking(SyslogReceipt::TcpFin);
    let house = house_with(|options| options.collectors = vec![to.into()]).await;
    let first = peer.batch(false).await;
    assert!(!first.is_empty());
    token(&house.server, Role::PrivacyOfficer).await;
    let second = peer.batch(false).await;
    assert!(!second.is_empty());
    for leaf in &first {
        assert!(!second.contains(leaf), "{leaf} is told again");
    }
    house.end().await;
}

/// What is written elsewhere, beside a large shard.
const ELSEWHERE: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_shard_holds_up_no_other() {
    let space = tempfile::tempdir().expect("a folder");
    certificates(space.path());
    let peer = Peer::new(space.path()).await;
    let house =
        house_with(|options| options.collectors = vec![told_to(space.path(), &peer).into()]).await;
    let trust = house.server.trust();
    let ledger = trust.vault().ledger();
    // A patient in the first of all shards, of whom more is in the audit than two batches hold.
    let patient = loop {
        let id = ledger.mint_own_id(TENANT);
        if id.starts_with("00") {
            break id;
        }
    };
    let body = json!({"resourceType": "Patient", "id": patient});
    let path = format!("/fhir/r4/Patient/{patient}");
    let put = house.sent(Method::PUT, &path, &body).send().await;
    assert_eq!(put.expect("an answer").status(), 201);
    // As many at a time as one address may have.
    for _ in 0..12 {
        let reads = (0..200).map(|_| house.asked(Method::GET, &path).send());
        for answer in futures_util::future::join_all(reads).await {
            assert_eq!(answer.expect("an answer").status(), 200);
        }
    }
    // Something elsewhere: more than there was before all of this.
    for _ in 0..ELSEWHERE {
        token(&house.server, Role::PrivacyOfficer).await;
    }
    // What is told is what a checkpoint has.
    let mut looks = crate::patience::Patience::new();
    loop {
        let newest = ledger.newest_checkpoint().await.expect("a checkpoint");
        let elsewhere = newest.trees.iter().filter(|(shard, _)| shard.0 != 0);
        if elsewhere.map(|(_, size)| *size).sum::<u64>() >= ELSEWHERE as u64 {
            break;
        }
        looks.wait("no checkpoint has what is elsewhere").await;
    }
    // The same may come again, where a batch was late; and what was laid out before comes first.
    let (mut of_the_first, mut of_others) = (BTreeSet::new(), BTreeSet::new());
    while of_others.len() < ELSEWHERE {
        let (first, others): (Vec<_>, Vec<_>) =
            (peer.batch(true).await.into_iter()).partition(|leaf| leaf.starts_with("00/"));
        of_the_first.extend(first);
        of_others.extend(others);
        let others = of_others.len();
        assert!(
            of_the_first.len() < 2_000,
            "the others are told last: {others}"
        );
    }
    house.end().await;
}
