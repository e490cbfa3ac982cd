//! Client libraries that nobody here wrote, doing what an application does with them: create, search,
//! page, transaction and batch, update, patch, delete.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::house::house;

/// How long a client may take; it takes a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

fn peer(path: &str) -> PathBuf {
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

fn script(name: &str) -> PathBuf {
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
