//! Systems that prove themselves by the certificate that they connect with (RFC 8705), over TLS and behind a proxy
//! that ends it, and certificates that change.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairn::store::TENANT;
use cairn::{Addresses, ClientCertificates, ForwardedHeader, Proxies};
use ledger::{Clock as _, ManualClock, SystemClock};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use trust::Agent;
use trust::identity::{Certificates, KeysOfBefore, NewSystem, SubjectName, SystemKeys};

use crate::clients::{peer, said, script};
use crate::house::{House, administers, cairn, certificate, house_with, keyed_folder};
use crate::patience::Patience;
use crate::smart::System;

const DAY_MS: u64 = 86_400_000;
const SUBJECT: &str = "CN=laboratory,O=Example";

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed (scripts/test installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
}

const NEW: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";

/// A certificate that another signed.
fn signed(folder: &Path, name: &str, subject: &str, by: &str) {
    let plain =
        "-addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:lab.example.org";
    openssl(
        folder,
        &format!(
            "{NEW} -subj {subject} {plain} -CA {by}.pem -CAkey {by}.key -keyout {name}.key -out {name}.pem"
        ),
    );
}

/// An authority with what it has signed, and strangers:
/// `client` (the laboratory), `other` (of the same authority), `below` (the laboratory, by an authority in between),
/// `stranger` (the laboratory, by another authority), `own` and `own-2` (by themselves).
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (name, subject) in [
        ("ca", "/CN=authority"),
        ("ca-2", "/CN=another"),
        ("own", "/CN=own"),
        ("own-2", "/CN=own"),
    ] {
        openssl(
            at,
            &format!("{NEW} -subj {subject} -keyout {name}.key -out {name}.pem"),
        );
    }
    openssl(
        at,
        &format!(
            "{NEW} -subj /CN=between -CA ca.pem -CAkey ca.key -keyout between.key -out between.pem"
        ),
    );
    let laboratory = "/O=Example/CN=laboratory";
    signed(at, "client", laboratory, "ca");
    signed(at, "other", "/O=Example/CN=pharmacy", "ca");
    signed(at, "below", laboratory, "between");
    signed(at, "stranger", laboratory, "ca-2");
    // A server shows what leads to its authority along with its own.
    let read = |name: &str| std::fs::read_to_string(at.join(name)).expect("a file");
    std::fs::write(
        at.join("below.pem"),
        read("below.pem") + &read("between.pem"),
    )
    .expect("written");
    folder
}

fn der(folder: &Path, name: &str) -> Vec<u8> {
    use base64::Engine as _;
    let pem = std::fs::read_to_string(folder.join(format!("{name}.pem"))).expect("a file");
    let lines = pem
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('-'));
    let text: String = lines.collect();
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.expect("base64")
}

fn pinned(folder: &Path, names: &[&str]) -> SystemKeys {
    let all: Vec<_> = names.iter().map(|name| der(folder, name)).collect();
    let all = Certificates::pinned(all.iter().map(Vec::as_slice));
    SystemKeys::Certificates(all.expect("certificates"))
}

fn named(subject: &str) -> SystemKeys {
    let name = SubjectName::subject(subject).expect("a subject");
    SystemKeys::Certificates(Certificates::Named(name))
}

/// A client that connects with a certificate, or with none.
fn connecting(folder: &Path, name: Option<&str>) -> Client {
    let mut builder = crate::house::client()
        .danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(30));
    if let Some(name) = name {
        let read = |end: &str| std::fs::read(folder.join(format!("{name}.{end}"))).expect("a file");
        let both = [read("pem"), read("key")].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&both).expect("an identity"));
    }
    builder.build().expect("a client")
}

fn addresses(list: &str) -> Addresses {
    Addresses::parse(list).expect("a list")
}

struct Site {
    house: House,
    wall: ManualClock,
    files: TempDir,
}

/// A server with TLS of its own, which asks for certificates.
async fn site() -> Site {
    let files = folder();
    let wall = ManualClock::new(SystemClock.now_ms());
    let house = house_with(|options| {
        options.tls = Some(certificate(files.path()));
        options.wall_clock = Arc::new(wall.clone());
        options.client_certificates = ClientCertificates {
            asked: true,
            told_by: Addresses::default(),
            authorities: Some(files.path().join("ca.pem")),
        };
    })
    .await;
    Site { house, wall, files }
}

pub(crate) async fn register(house: &House, keys: SystemKeys) -> String {
    let new = NewSystem {
        name: "Laboratory".to_owned(),
        keys,
        scopes: "system/Patient.rs".to_owned(),
    };
    let by = Agent::system(TENANT, "command-line");
    let identity = house.server.trust().identity();
    identity.register_system(&by, &new).await.expect("an id")
}

fn form(request: RequestBuilder, pairs: &[(&str, &str)]) -> RequestBuilder {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(pairs);
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish())
}

fn asking(house: &House, http: &Client, id: &str) -> RequestBuilder {
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("scope", "system/Patient.rs"),
    ];
    form(http.post(house.url("/oauth/token")), &pairs)
}

/// A token, or why there is none.
async fn answered(request: RequestBuilder) -> Result<String, String> {
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    if status == StatusCode::OK {
        return Ok(body["access_token"].as_str().expect("a token").to_owned());
    }
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert_eq!(body["error"], "invalid_client");
    Err(body["error_description"]
        .as_str()
        .expect("words")
        .to_owned())
}

async fn ask(house: &House, http: &Client, id: &str) -> Result<String, String> {
    answered(asking(house, http, id)).await
}

async fn use_of(house: &House, http: &Client, token: &str) -> Response {
    let request = http.get(house.url("/fhir/r4/Patient")).bearer_auth(token);
    request.send().await.expect("an answer")
}

pub(crate) async fn opens(house: &House, http: &Client, token: &str) -> bool {
    let answer = use_of(house, http, token).await;
    match answer.status() {
        StatusCode::OK => true,
        StatusCode::UNAUTHORIZED => {
            let said = answer.headers()["www-authenticate"].to_str().expect("text");
            assert!(said.contains("invalid_token"), "{said}");
            false
        }
        other => panic!("{other}"),
    }
}

/// What a token is, for its client.
async fn introspect(house: &House, http: &Client, id: &str, token: &str) -> Value {
    let pairs = [("client_id", id), ("token", token)];
    let request = form(http.post(house.url("/oauth/introspect")), &pairs);
    let answer = request.send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

fn refused(tried: &Result<String, String>, words: &str) {
    match tried {
        Err(said) => assert!(said.contains(words), "{said}"),
        Ok(_) => panic!("a token, instead of: {words}"),
    }
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_system_is_known_by_the_name_in_its_certificate() {
    let Site { house, wall, files } = site().await;
    let at = files.path();
    let id = register(&house, named(SUBJECT)).await;
    let right = connecting(at, Some("client"));
    let none = connecting(at, None);
    let token = ask(&house, &right, &id).await.expect("a token");
    assert!(opens(&house, &right, &token).await);
    // Also where an authority in between signed it, by a certificate of its own.
    let below = connecting(at, Some("below"));
    let from_below = ask(&house, &below, &id).await.expect("a token");
    assert!(opens(&house, &below, &from_below).await);
    refused(&ask(&house, &none, &id).await, "has no certificate");
    for (name, words) in [
        ("other", "not that of this client"),
        ("stranger", "leads to no authority"),
        ("own", "leads to no authority"),
    ] {
        let tried = ask(&house, &connecting(at, Some(name)), &id).await;
        refused(&tried, words);
    }
    refused(&ask(&house, &right, "nobody").await, "no client");
    // A token that somebody took opens nothing without the certificate, whoever else they are.
    assert!(!opens(&house, &none, &token).await);
    for name in ["other", "stranger", "own", "below"] {
        let thief = connecting(at, Some(name));
        assert!(!opens(&house, &thief, &token).await, "{name}");
    }
    // Nor as one that is bound to nothing.
    let plain = token.replacen("m.", "t.", 1);
    assert_ne!(plain, token);
    assert!(!opens(&house, &right, &plain).await);
    assert!(!opens(&house, &none, &plain).await);
    // What it is, for the client itself.
    let introspect = async |http: &Client, token: &str| introspect(&house, http, &id, token).await;
    let told = introspect(&right, &token).await;
    assert_eq!(told["active"], true, "{told}");
    let bound = told["cnf"]["x5t#S256"].as_str().expect("a thumbprint");
    let read = trust::identity::PeerCertificate::read(&der(at, "client")).expect("read");
    assert_eq!(bound, read.thumbprint());
    assert_eq!(introspect(&none, &token).await["error"], "invalid_client");
    // Given back, it opens nothing.
    let pairs = [("client_id", id.as_str()), ("token", from_below.as_str())];
    let back = form(right.post(house.url("/oauth/revoke")), &pairs);
    assert_eq!(back.send().await.expect("an answer").status(), 200);
    assert!(!opens(&house, &below, &from_below).await);
    assert_eq!(introspect(&right, &from_below).await["active"], false);
    // A client without certificates is none by a certificate, and one with them none by a key.
    let system = System::new(&house, "system/Patient.rs").await;
    refused(&ask(&house, &right, &system.id).await, "has no certificate");
    let as_key = System {
        id: id.clone(),
        ..System::new(&house, "system/Patient.rs").await
    };
    let answer = as_key.ask(&house, "1", "system/Patient.rs").await;
    let body: Value = answer.json().await.expect("JSON");
    let words = body["error_description"].as_str().expect("words");
    assert!(
        words.contains("the certificate that it connects with"),
        "{words}"
    );
    // Its time is over.
    wall.advance(4 * 60_000);
    assert!(opens(&house, &right, &token).await);
    wall.advance(3 * DAY_MS);
    refused(&ask(&house, &right, &id).await, "expired");
    house.end().await;
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C)
#[tokio::test]
async fn a_system_is_known_by_its_own_certificates_which_rotate() {
    let Site { house, wall, files } = site().await;
    let at = files.path();
    let id = register(&house, pinned(at, &["own"])).await;
    let (old, new) = (connecting(at, Some("own")), connecting(at, Some("own-2")));
    let token = ask(&house, &old, &id).await.expect("a token");
    assert!(opens(&house, &old, &token).await);
    // Who signed it doesn't count, and a name is nothing.
    refused(&ask(&house, &new, &id).await, "not that of this client");
    assert!(!opens(&house, &new, &token).await);
    let (identity, permit) = (
        house.server.trust().identity(),
        administers(&house.server).await,
    );
    let rekey = async |keys: &SystemKeys, before| {
        let done = identity.rekey_client(&permit, &id, keys, before).await;
        done.map_err(|error| error.to_string())
    };
    let hour = KeysOfBefore::GoodFor(3_600_000);
    rekey(&pinned(at, &["own-2"]), hour).await.expect("changed");
    // Both are good for a while, and what was given to the one is not the other's.
    let second = ask(&house, &new, &id).await.expect("a token");
    assert!(opens(&house, &new, &second).await && opens(&house, &old, &token).await);
    assert!(!opens(&house, &old, &second).await);
    ask(&house, &old, &id).await.expect("a token");
    // The hour ends within the life of a token.
    wall.advance(3_600_000 - 60_000);
    let last = ask(&house, &old, &id).await.expect("a token");
    assert!(opens(&house, &old, &last).await);
    wall.advance(60_000);
    refused(&ask(&house, &old, &id).await, "not that of this client");
    assert!(!opens(&house, &old, &last).await);
    // At once, but nothing would end.
    let both = pinned(at, &["own-2", "own"]);
    let same = rekey(&both, KeysOfBefore::Gone).await;
    assert!(same.is_err_and(|words| words.contains("would end")));
    // From certificates to a name, at once: tokens of before have ended.
    let before = ask(&house, &new, &id).await.expect("a token");
    rekey(&named(SUBJECT), KeysOfBefore::Gone)
        .await
        .expect("changed");
    assert!(!opens(&house, &new, &before).await);
    refused(&ask(&house, &new, &id).await, "leads to no authority");
    let right = connecting(at, Some("client"));
    let living = ask(&house, &right, &id).await.expect("a token");
    assert!(opens(&house, &right, &living).await);
    // Revoked, it is refused at once, also with a token that would live.
    identity
        .revoke_client(&permit, &id, "the contract ended")
        .await
        .expect("revoked");
    assert!(!opens(&house, &right, &living).await);
    refused(&ask(&house, &right, &id).await, "revoked");
    let again = rekey(&named(SUBJECT), hour).await;
    assert!(again.is_err_and(|words| words.contains("revoked")));
    house.end().await;
}

/// Behind a proxy that ends TLS, its word stands for the certificate; nobody else's does.
#[tokio::test]
async fn a_proxy_tells_the_certificate() {
    use base64::Engine as _;
    let files = folder();
    let at = files.path();
    let header = |name: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(der(at, name));
        format!(":{text}:")
    };
    for (proxies, told_by, is_believed) in [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "", false),
        // Another proxy tells them, and this one tells addresses alone.
        ("127.0.0.1 192.0.2.1", "192.0.2.1", false),
        ("192.0.2.1", "127.0.0.1 192.0.2.1", false),
    ] {
        let house = house_with(|options| {
            options.proxies = Proxies::parse(proxies, ForwardedHeader::default()).expect("a list");
            options.client_certificates = ClientCertificates {
                asked: false,
                told_by: addresses(told_by),
                authorities: Some(at.join("ca.pem")),
            };
        })
        .await;
        let id = register(&house, named(SUBJECT)).await;
        let with = |request: RequestBuilder, lines: &[(&str, &str)]| {
            let named = |request: RequestBuilder, (name, of): &(&str, &str)| {
                request.header(*name, header(of))
            };
            lines.iter().fold(request, named)
        };
        let try_with = async |lines: &[(&str, &str)]| {
            answered(with(asking(&house, &house.http, &id), lines)).await
        };
        let tried = try_with(&[("client-cert", "client")]).await;
        if !is_believed {
            refused(&tried, "has no certificate");
            house.end().await;
            continue;
        }
        let token = tried.expect("a token");
        let below = [("client-cert", "below"), ("client-cert-chain", "between")];
        try_with(&below).await.expect("a token");
        refused(&try_with(&below[..1]).await, "leads to no authority");
        refused(&try_with(&[("client-cert", "other")]).await, "not that of");
        let twice = [("client-cert", "client"), ("client-cert", "client")];
        refused(&try_with(&twice).await, "has no certificate");
        refused(&try_with(&[]).await, "has no certificate");
        let patients = async |lines: &[(&str, &str)]| {
            let request = house.bare(Method::GET, "/fhir/r4/Patient");
            let request = with(request.bearer_auth(&token), lines);
            request.send().await.expect("an answer").status().as_u16()
        };
        assert_eq!(patients(&[("client-cert", "client")]).await, 200);
        assert_eq!(patients(&[("client-cert", "other")]).await, 401);
        assert_eq!(patients(&twice).await, 401);
        assert_eq!(patients(&[]).await, 401);
        house.end().await;
    }
    // The certificate that a proxy itself connects with is nobody's that asks by it.
    let own = tempfile::tempdir().expect("a folder");
    let house = house_with(|options| {
        options.tls = Some(certificate(own.path()));
        options.proxies = Proxies::parse("127.0.0.1", ForwardedHeader::default()).expect("a list");
        options.client_certificates = ClientCertificates {
            asked: true,
            told_by: addresses("127.0.0.1"),
            authorities: Some(at.join("ca.pem")),
        };
    })
    .await;
    let id = register(&house, named(SUBJECT)).await;
    let by_proxy = connecting(at, Some("client"));
    refused(&ask(&house, &by_proxy, &id).await, "has no certificate");
    let told = asking(&house, &by_proxy, &id).header("client-cert", header("client"));
    answered(told).await.expect("a token");
    house.end().await;
}

/// A balancer that passes connections on as they are has the addresses of none of its clients, and their
/// certificates: what they write is theirs.
#[tokio::test]
async fn certificates_of_a_shared_address_are_those_of_its_connections() {
    use base64::Engine as _;
    let files = folder();
    let at = files.path();
    let own = tempfile::tempdir().expect("a folder");
    let house = house_with(|options| {
        options.tls = Some(certificate(own.path()));
        options.shared_addresses = addresses("127.0.0.1");
        options.client_certificates = ClientCertificates {
            asked: true,
            told_by: addresses("127.0.0.1"),
            authorities: Some(at.join("ca.pem")),
        };
    })
    .await;
    let id = register(&house, named(SUBJECT)).await;
    let real = connecting(at, Some("client"));
    ask(&house, &real, &id).await.expect("a token");
    let text = base64::engine::general_purpose::STANDARD.encode(der(at, "client"));
    let forged = asking(&house, &connecting(at, None), &id);
    let forged = forged.header("client-cert", format!(":{text}:"));
    refused(&answered(forged).await, "has no certificate");
    house.end().await;
}

/// A token is told to be good as long as its certificate is one of its client's.
#[tokio::test]
async fn what_a_token_is_follows_the_certificates_of_its_client() {
    let Site { house, wall, files } = site().await;
    let at = files.path();
    let permit = administers(&house.server).await;
    let identity = house.server.trust().identity();
    let minute = KeysOfBefore::GoodFor(60_000);
    let both_ways = [
        (pinned(at, &["own"]), "own", pinned(at, &["own-2"]), "own-2"),
        (
            named(SUBJECT),
            "client",
            named("CN=pharmacy,O=Example"),
            "other",
        ),
        (named(SUBJECT), "client", pinned(at, &["own"]), "own"),
        (pinned(at, &["own"]), "own", named(SUBJECT), "client"),
    ];
    for (keys, first, keys_then, second) in both_ways {
        let id = register(&house, keys).await;
        let (old, new) = (connecting(at, Some(first)), connecting(at, Some(second)));
        let token = ask(&house, &old, &id).await.expect("a token");
        let is_active = async |http: &Client| {
            let told = introspect(&house, http, &id, &token).await;
            told["active"].as_bool().expect("whether it is")
        };
        assert!(is_active(&old).await);
        let rekeyed = identity.rekey_client(&permit, &id, &keys_then, minute);
        rekeyed.await.expect("changed");
        assert!(is_active(&old).await && is_active(&new).await);
        assert!(opens(&house, &old, &token).await);
        wall.advance(60_000);
        assert!(!is_active(&new).await, "{first} to {second}");
        assert!(!opens(&house, &old, &token).await);
    }
    // Nor longer than the certificate lasts, which ends two days after the test began.
    let id = register(&house, named(SUBJECT)).await;
    let http = connecting(at, Some("client"));
    wall.advance(2 * DAY_MS - 10 * 60_000);
    let mut last = None;
    while let Ok(token) = ask(&house, &http, &id).await {
        let told = introspect(&house, &http, &id, &token).await;
        last = Some((told["exp"].as_u64().expect("a time"), token));
        wall.advance(10_000);
    }
    let (ends_s, _) = last.expect("a token");
    assert!(ends_s <= wall.now_ms() / 1000, "{ends_s}");
    house.end().await;
}

#[tokio::test]
async fn authorities_are_read_again_when_their_file_changes() {
    let Site { house, files, .. } = site().await;
    let at = files.path();
    let id = register(&house, named(SUBJECT)).await;
    let (one, other) = (
        connecting(at, Some("client")),
        connecting(at, Some("stranger")),
    );
    ask(&house, &one, &id).await.expect("a token");
    refused(&ask(&house, &other, &id).await, "leads to no authority");
    let until = async |http: &Client, is: bool| {
        let mut patience = Patience::every(Duration::from_millis(500));
        while ask(&house, http, &id).await.is_ok() != is {
            patience.wait("the authorities were not read again").await;
        }
    };
    let write = |text: &str| std::fs::write(at.join("ca.pem"), text).expect("written");
    let read = |name: &str| std::fs::read_to_string(at.join(name)).expect("a file");
    let (first, second) = (read("ca.pem"), read("ca-2.pem"));
    write(&format!("{first}{second}"));
    until(&other, true).await;
    ask(&house, &one, &id).await.expect("a token");
    write(&second);
    until(&one, false).await;
    // What can't be used leaves those in use.
    write("nonsense");
    tokio::time::sleep(Duration::from_secs(6)).await;
    ask(&house, &other, &id).await.expect("a token");
    house.end().await;
}

// Proves: 45 CFR 164.312(e)(1)
#[tokio::test]
async fn authlib_over_requests() {
    let Site { house, files, .. } = site().await;
    let at = files.path();
    for keys in [named(SUBJECT), pinned(at, &["client"])] {
        let id = register(&house, keys).await;
        let mut command = tokio::process::Command::new(peer("oauth/bin/python"));
        command
            .arg(script("with_certificate.py"))
            .arg(at)
            .arg(house.url("/fhir/r4"))
            .arg(id);
        assert_eq!(said(&mut command).await, "fine");
    }
    // Where nobody asks for certificates nothing is said of them.
    house.end().await;
    let house = house_with(|_| {}).await;
    let path = "/fhir/r4/.well-known/smart-configuration";
    let answer = house.bare(Method::GET, path).send().await;
    let told: Value = answer.expect("an answer").json().await.expect("JSON");
    let methods = &told["token_endpoint_auth_methods_supported"];
    assert_eq!(methods, &json!(["none", "private_key_jwt"]));
    assert!(
        told.get("tls_client_certificate_bound_access_tokens")
            .is_none()
    );
    house.end().await;
}

#[test]
fn certificates_are_registered_and_changed_by_command() {
    let (files, folder) = (folder(), keyed_folder());
    let path = |name: &str| -> PathBuf { files.path().join(name) };
    let run = |arguments: &[&str]| {
        let mut command = cairn();
        command.arg("client").args(arguments).arg("--data");
        let output = command.arg(folder.path()).output().expect("cairn runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    };
    let register = |more: &[&str]| {
        let all = ["register", "--name", "Lab", "--scopes", "system/*.rs"];
        run(&[&all, more].concat())
    };
    let (own, second) = (path("own.pem"), path("own-2.pem"));
    let (own, second) = (own.to_str().expect("text"), second.to_str().expect("text"));
    let id = register(&["--tls-certificate", own]).expect("an id");
    register(&["--tls-certificate", own, "--tls-certificate", second]).expect("an id");
    register(&["--tls-subject", SUBJECT]).expect("an id");
    register(&["--tls-name", "dns:lab.example.org"]).expect("an id");
    let chain = path("below.pem");
    let key = path("own.key");
    for (more, words) in [
        (&["--tls-subject", "laboratory"][..], "RFC 4514"),
        (&["--tls-name", "dns:*.example.org"], "wildcards"),
        (
            &["--tls-certificate", chain.to_str().expect("text")],
            "holds 2 certificates",
        ),
        (
            &["--tls-certificate", key.to_str().expect("text")],
            "holds 0 certificates",
        ),
        (&["--tls-certificate", "/nowhere.pem"], "/nowhere.pem"),
        (
            &["--tls-certificate", own, "--tls-subject", SUBJECT],
            "cannot be used with",
        ),
        (&[], "required"),
    ] {
        let wrong = register(more).expect_err(words);
        assert!(wrong.contains(words), "{wrong}");
    }
    let rekey = |more: &[&str]| run(&[&["rekey", id.as_str()], more].concat());
    let said = rekey(&["--tls-certificate", second]).expect("changed");
    assert!(said.contains("24 hours"), "{said}");
    let said = rekey(&["--tls-subject", SUBJECT, "--at-once"]).expect("changed");
    assert!(said.contains("all access tokens"), "{said}");
    let wrong = rekey(&["--tls-subject", SUBJECT, "--at-once"]);
    assert!(wrong.is_err_and(|words| words.contains("would end")));
    let wrong = rekey(&["--tls-certificate", own, "--keep-h", "2161"]);
    assert!(wrong.is_err_and(|words| words.contains("90 days")));
    let wrong = run(&["rekey", "nobody", "--tls-certificate", own]);
    assert!(wrong.is_err_and(|words| words.contains("no such client")));
}
