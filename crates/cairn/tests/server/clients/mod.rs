//! Client libraries that nobody here wrote, doing what an application does with them: create, search,
//! page, transaction and batch, update, patch, delete; and those of OAuth, getting tokens.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cairn::store::TENANT;
use tokio::process::Command;
use trust::Agent;
use trust::identity::{NewSystem, SystemKeys};

use crate::house::{house, house_with};

/// How long a client may take; it takes a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn peer(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/peers")
        .join(path);
    assert!(
        path.exists(),
        "the tests need FHIR's client libraries: run scripts/test once, which installs {}",
        path.display()
    );
    path
}

/// Runs a client against a server; what it says goes into the failure.
async fn run(mut command: Command) {
    let house = house().await;
    command
        .arg(house.url("/fhir/r4"))
        .arg(&house.token)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("it ends in time").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "fine");
    house.end().await;
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/server/clients")
        .join(name)
}

#[tokio::test]
async fn fhirpy() {
    let mut command = Command::new(peer("fhir/bin/python"));
    command.arg(script("with_fhirpy.py"));
    run(command).await;
}

#[tokio::test]
async fn fhirclient() {
    let mut command = Command::new(peer("fhir/bin/python"));
    command.arg(script("with_fhirclient.py"));
    run(command).await;
}

#[tokio::test]
async fn fhir_kit_client() {
    let mut command = Command::new("node");
    command
        .arg(script("with_kit.mjs"))
        .arg(peer("fhir-npm/node_modules/fhir-kit-client/dist/index.js"));
    run(command).await;
}

/// What a client says; what it says besides goes into the failure.
pub(crate) async fn said(command: &mut Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("it ends in time").expect("it starts");
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{wrong}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A client makes its key, which is registered, and gets its tokens with it.
async fn with_key(command: impl Fn() -> Command) {
    let house = house_with(|options| options.open_registration = true).await;
    let key = house.folder.path().join("client.jwk");
    let keys = said(command().arg("make").arg(&key)).await;
    let system = NewSystem {
        name: "test".to_owned(),
        keys: SystemKeys::Set(keys),
        scopes: "system/Patient.rs".to_owned(),
    };
    let by = Agent::system(TENANT, "command-line");
    let identity = house.server.trust().identity();
    let id = identity.register_system(&by, &system).await.expect("an id");
    let base = house.url("/fhir/r4");
    let fine = said(command().arg("use").arg(&key).arg(base).arg(id)).await;
    assert_eq!(fine, "fine");
    house.end().await;
}

#[tokio::test]
async fn authlib() {
    with_key(|| {
        let mut command = Command::new(peer("oauth/bin/python"));
        command.arg(script("with_authlib.py"));
        command
    })
    .await;
}

#[tokio::test]
async fn openid_client() {
    with_key(|| {
        let mut command = Command::new("node");
        command
            .arg(script("with_openid_client.mjs"))
            .arg(peer("oauth-npm/node_modules/openid-client/build/index.js"));
        command
    })
    .await;
}
