//! A server in this process, on a free port, over a store in a temporary folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use ledger::{Ledger, LookUps, ManualClock};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use trust::{Action, Agent, Permit, Purpose, Role, Target};

/// 1 March 2026, noon.
pub(crate) const NOON_MS: u64 = 1_772_366_400_000;

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) clock: ManualClock,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
    pub(crate) folder: TempDir,
}

/// A client that uses no connection again which the server may have ended as an idle one. After a machine stood still
/// that is each of them.
pub(crate) fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(5))
}

/// A server with the defaults, but for what `change` changes.
pub(crate) async fn house_with(change: impl FnOnce(&mut ServerOptions)) -> House {
    let (folder, clock) = ground();
    let key = store::root_key_path(folder.path());
    let place = store::in_folder(folder.path());
    let ledger = store::open(place, &key, Arc::new(clock.clone()), 16 << 20).await;
    house_on(folder, clock, ledger.expect("a store"), change).await
}

/// The same, over a store that counts what it is asked for.
pub(crate) async fn house_counted(
    counts: &LookUps,
    change: impl FnOnce(&mut ServerOptions),
) -> House {
    let (folder, clock) = ground();
    let key = store::root_key_path(folder.path());
    let place = store::in_folder(folder.path());
    std::fs::create_dir_all(store::ledger_path(folder.path())).expect("a folder");
    let options = store::options(place, &(&key).into(), Arc::new(clock.clone()), 16 << 20);
    let ledger = Ledger::open_counted(options.expect("a key"), counts).expect("a store");
    ledger.create_tenant(TENANT).await.expect("a tenant");
    house_on(folder, clock, ledger, change).await
}

/// A folder with a root key in it.
fn ground() -> (TempDir, ManualClock) {
    let folder = tempfile::tempdir().expect("a folder");
    store::create_root_key(&store::root_key_path(folder.path())).expect("a key");
    (folder, ManualClock::new(NOON_MS))
}

async fn house_on(
    folder: TempDir,
    clock: ManualClock,
    ledger: Ledger,
    change: impl FnOnce(&mut ServerOptions),
) -> House {
    let mut options = ServerOptions::new(ledger, TENANT);
    change(&mut options);
    let server = Server::start(options).await.expect("a server");
    let token = token(&server, Role::Client).await;
    let http = client()
        .danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    House {
        server,
        clock,
        http,
        token,
        folder,
    }
}

pub(crate) async fn house() -> House {
    house_with(|_| {}).await
}

pub(crate) async fn token(server: &Server, role: Role) -> String {
    let by = Agent::system(TENANT, "command-line");
    server
        .trust()
        .identity()
        .create_client(&by, "test", role)
        .await
        .expect("a token")
}

impl House {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base_url())
    }

    /// A request without a token.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// A request with the token of a FHIR client.
    pub(crate) fn asked(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.token)
    }

    /// A request with the token and a FHIR body.
    pub(crate) fn sent(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        self.asked(method, path)
            .header("content-type", "application/fhir+json")
            .body(body.to_string())
    }

    pub(crate) async fn end(self) {
        self.server.stop().await.expect("a clean end");
    }
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

/// Checks that a response is an `OperationOutcome` with this status and issue code.
pub(crate) async fn assert_outcome(response: Response, status: u16, code: &str) {
    assert_eq!(response.status().as_u16(), status);
    assert!(
        header(&response, "content-type").starts_with("application/fhir+json"),
        "{:?}",
        response.headers()
    );
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["resourceType"], "OperationOutcome", "{body}");
    assert_eq!(body["issue"][0]["code"], code, "{body}");
}

/// Writes a resource where its type and id say, by the house's own token.
pub(crate) async fn put(house: &House, resource: &Value) {
    let text = |name: &str| resource[name].as_str().expect("text");
    let path = format!("/fhir/r4/{}/{}", text("resourceType"), text("id"));
    let sent = house.sent(Method::PUT, &path, resource).send().await;
    let answer = sent.expect("an answer");
    let status = answer.status();
    let body = answer.text().await.expect("a body");
    assert!(status.is_success(), "{path}: {status} {body}");
}

/// The resources of a bundle, by type and id.
pub(crate) fn names(bundle: &Value) -> BTreeSet<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let of = |entry: &Value| {
        let resource = &entry["resource"];
        let text = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("resourceType"), text("id"))
    };
    entries.iter().map(of).collect()
}

/// A permit to administer.
pub(crate) async fn administers(server: &Server) -> Permit {
    let by = Agent::system(TENANT, "command-line");
    let (purpose, action) = (Purpose::Administration, Action::Administer);
    let asked = (server.trust()).decide(&by, purpose, action, Target::default(), "test");
    asked.await.expect("a permit")
}

/// An administrator says which entries of the record are those of whom a token belongs to.
pub(crate) async fn known_as(house: &House, token: &str, entries: &[&str]) {
    let identity = house.server.trust().identity();
    let permit = administers(&house.server).await;
    let agent = identity.bearer(token).await.expect("an agent");
    let entries: Vec<String> = entries.iter().map(|one| (*one).to_owned()).collect();
    let said = identity.set_known_as(&permit, &agent.id, &entries);
    said.await.expect("it is said");
}

/// The binary under test.
pub(crate) fn cairn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    for name in ["CAIRN_CONFIG", "CAIRN_TOKEN"] {
        command.env_remove(name);
    }
    command
}

/// A data folder with a root key.
pub(crate) fn keyed_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = cairn()
        .args(["key", "create", "--data"])
        .arg(folder.path())
        .output()
        .expect("cairn runs");
    assert!(made.status.success(), "{made:?}");
    folder
}

/// A self-signed certificate for 127.0.0.1.
pub(crate) fn certificate(folder: &Path) -> cairn::TlsFiles {
    let files = cairn::TlsFiles {
        certificate: folder.join("cert.pem"),
        private_key: folder.join("key.pem"),
    };
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .arg("-keyout")
        .arg(&files.private_key)
        .arg("-out")
        .arg(&files.certificate)
        .output()
        .expect("openssl is installed (scripts/test installs it)");
    assert!(made.status.success(), "{made:?}");
    files
}
