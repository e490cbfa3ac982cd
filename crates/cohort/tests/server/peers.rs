//! Servers that nobody here wrote, for ours to talk to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/cohort lies two folders down")
        .to_owned()
}

/// An `aiosmtpd` server that writes one line `RECIPIENT MESSAGE-ID` for each message that it took.
pub struct Smtp {
    child: Child,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Where it notes what it took.
    pub log: PathBuf,
}

impl Smtp {
    /// Starts the peer; `folder` takes its log.
    pub fn start(folder: &Path) -> Self {
        let python = root().join("target/peers/python/bin/python");
        assert!(
            python.is_file(),
            "{} is missing: scripts/test installs the peers",
            python.display()
        );
        let log = folder.join("smtp.log");
        let mut child = Command::new(python)
            .arg(root().join("crates/cohort/tests/server/smtp_peer.py"))
            .arg(&log)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the peer says its port");
        Self {
            port: line.trim().parse().expect("a port"),
            child,
            log,
        }
    }

    /// What was taken so far: recipient and Message-ID.
    pub fn taken(&self) -> Vec<(String, String)> {
        std::fs::read_to_string(&self.log)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| {
                line.split_once(' ')
                    .map(|(to, id)| (to.to_owned(), id.to_owned()))
            })
            .collect()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's packages of Go libraries (`golang-golang-x-mod-dev`).
const GO_PATH: &str = "/usr/share/gocode";

/// Builds the independent reader of the audit's logs into `folder`.
pub fn audit_log(folder: &Path) -> PathBuf {
    let library = Path::new(GO_PATH).join("src/golang.org/x/mod/sumdb/tlog");
    assert!(
        library.is_dir(),
        "{} is missing: scripts/test installs Go and its packages",
        library.display()
    );
    let program = folder.join("audit_log");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(root().join("crates/cohort/tests/go/audit_log.go"))
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", GO_PATH)
        .env("GOCACHE", root().join("target/peers/go"))
        .output()
        .expect("go runs: scripts/test installs it");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    program
}
