//! The SMTP server of the tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::patience::{Patience, in_time};

/// A message as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen(pub Value);

impl Seen {
    pub fn message_id(&self) -> &str {
        self.0["message_id"].as_str().expect("a Message-ID")
    }
    pub fn header(&self, name: &str) -> &str {
        self.0["headers"][name].as_str().unwrap_or_default()
    }
    pub fn text(&self) -> String {
        self.0["text"]
            .as_str()
            .expect("a text")
            .replace("\r\n", "\n")
    }
    /// The mail as it came.
    pub fn raw(&self) -> Vec<u8> {
        let raw = self.0["raw"].as_str().expect("the mail");
        STANDARD.decode(raw).expect("base 64")
    }
    /// Where it comes back to.
    pub fn return_path(&self) -> &str {
        self.0["from"].as_str().expect("a sender")
    }
    pub fn to(&self) -> &str {
        self.0["to"][0].as_str().expect("a recipient")
    }
}

/// A running server; ends with the value.
pub struct Peer {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _input: ChildStdin,
    _child: Child,
}

impl Peer {
    /// Starts one, with arguments as `peers/peer.py` has them.
    pub async fn start(arguments: &[&str]) -> Self {
        let python = workspace().join("target/peers/python/bin/python");
        assert!(
            python.exists(),
            "the tests need an SMTP server: run scripts/test once, or make {} (python3 -m venv) and install aiosmtpd into it",
            python.display()
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exchange/tests/peers/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the peer starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let input = child.stdin.take().expect("standard input");
        let first = in_time("the peer starts", lines.next_line()).await;
        let first = first.expect("a line").expect("a first line");
        let first: Value = serde_json::from_str(&first).expect("JSON");
        let port = u16::try_from(first["port"].as_u64().expect("a port")).expect("a port");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut told: Value = serde_json::from_str(&line).expect("JSON");
                into.lock()
                    .expect("a lock")
                    .push(Seen(told["message"].take()));
            }
        });
        Self {
            port,
            seen,
            _input: input,
            _child: child,
        }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("a lock").clone()
    }

    /// Waits until it has seen `count` messages.
    pub async fn wait_for(&self, count: usize) -> Vec<Seen> {
        let mut patience = Patience::new();
        loop {
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            let words = format!("the peer has seen {} of {count} messages", seen.len());
            patience.wait(&words).await;
        }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the workspace")
        .to_owned()
}

/// A certificate for 127.0.0.1 that trusts itself, and its key, as PEM files in `folder`.
pub async fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=peer.example",
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .await
        .expect("openssl is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (certificate, key)
}
