//! Servers that nobody here wrote, for ours to talk to.

use std::path::{Path, PathBuf};
use std::process::Command;

pub use cohort::peers::{Smtp, root};

/// An `aiosmtpd` server; `folder` takes its log.
pub fn smtp(folder: &Path) -> Smtp {
    Smtp::start(folder).expect("aiosmtpd: scripts/test installs the peers")
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
