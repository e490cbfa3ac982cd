//! A partner for letters and calls, opened by `pyrage` and read by `pypdf`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use exchange::{CallOptions, FileOptions, FileWay, LetterDelivered, LetterOptions};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// A partner for letters and calls: what it has, sealed and opened.
pub(super) struct Printer {
    place: TempDir,
    secret: String,
    recipient: String,
}

impl Printer {
    pub(super) async fn new() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        for name in ["letters", "calls", "back-letters", "back-calls"] {
            std::fs::create_dir(place.path().join(name)).expect("a folder");
        }
        let key = files(&["new"]).await;
        let text = |name: &str| key[name].as_str().expect("a key").to_owned();
        let (secret, recipient) = (text("secret"), text("recipient"));
        Self {
            place,
            secret,
            recipient,
        }
    }

    pub(super) fn options(&self, name: &str, way: FileWay) -> FileOptions {
        FileOptions {
            way,
            folder: self.place.path().join(name),
            returns: self.place.path().join(format!("back-{name}")),
            recipient: self.recipient.clone(),
            closes: vec![jiff::civil::Time::constant(8, 0, 0, 0)],
            zone: jiff::tz::TimeZone::UTC,
            // As many wait for no time.
            size: 1,
            per_day: None,
            price: None,
            portal_base: String::new(),
        }
    }

    pub(super) fn letters(&self) -> FileOptions {
        let way = FileWay::Letters(LetterOptions {
            sender: String::new(),
            foot: "Read it in the portal too:".to_owned(),
            country: Some("US".to_owned()),
            class: "standard".to_owned(),
            pressing_class: "first".to_owned(),
            delivered_when: LetterDelivered::Handed,
            font: None,
        });
        self.options("letters", way)
    }

    pub(super) fn calls(&self) -> FileOptions {
        let way = FileWay::Calls(CallOptions {
            from: jiff::civil::Time::constant(9, 0, 0, 0),
            until: jiff::civil::Time::constant(20, 0, 0, 0),
            tries: 3,
        });
        self.options("calls", way)
    }

    /// Names and bytes of the files, as whoever has the folder sees them.
    pub(super) fn outside(&self, name: &str) -> Option<String> {
        let entries = std::fs::read_dir(self.place.path().join(name)).expect("a folder");
        let paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        let whole = paths
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "age"));
        let shown = whole.map(|path| {
            let bytes = std::fs::read(path).expect("a file");
            format!("{}\n{}", path.display(), String::from_utf8_lossy(&bytes))
        });
        Some(shown.collect::<String>()).filter(|text| !text.is_empty())
    }

    pub(super) async fn opened(&self, name: &str) -> String {
        let folder = self.place.path().join(name);
        let folder = folder.to_str().expect("a path");
        let opened = files(&["open", folder, &self.secret]).await;
        opened.to_string()
    }
}

pub(super) async fn files(arguments: &[&str]) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join("target/peers/files/bin/python"))
        .arg(root.join("crates/exchange/tests/peers/files.py"))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("readers of files: scripts/test installs them");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
