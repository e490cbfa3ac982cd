//! Others that read our mail: `dkimpy`, `icalendar`, and `radicale`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Python with these readers.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the workspace")
        .join("target/peers/mail/bin/python");
    assert!(
        python.exists(),
        "the tests need readers of mail: run scripts/test once, or make {} (python3 -m venv) and install dkimpy[ed25519], icalendar and radicale into it",
        python.display()
    );
    python
}

/// What one of `peers/readers.py` says.
pub async fn ask(reader: &str, what: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/readers.py");
    let mut child = Command::new(python())
        .arg(script)
        .arg(reader)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the reader starts");
    let mut input = child.stdin.take().expect("standard input");
    input
        .write_all(what.to_string().as_bytes())
        .await
        .expect("written");
    drop(input);
    let output = child.wait_with_output().await.expect("an answer");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A command that has to work; what it prints.
pub async fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut pipe = child.stdin.take().expect("standard input");
    pipe.write_all(input).await.expect("written");
    drop(pipe);
    let output = child.wait_with_output().await.expect("an end");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    output.stdout
}
