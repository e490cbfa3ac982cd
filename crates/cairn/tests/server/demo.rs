//! The demo as a process: patients move, and starting again goes on where it was.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::house::{cairn, client};
use crate::patience::Patience;

struct Demo {
    child: Child,
    /// What it said until it was ready.
    said: Vec<String>,
}

fn start(data: &Path, more: &[&str]) -> Demo {
    let mut child = cairn()
        .args(["demo", "--no-open", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("cairn runs");
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
        let line = line.expect("text");
        let ready = line.contains("Ctrl-C stops");
        said.push(line);
        if ready {
            return Demo { child, said };
        }
    }
    let status = child.wait().expect("it ends");
    panic!("the demo ended with {status}: {said:#?}");
}

impl Demo {
    fn line(&self, beginning: &str) -> &str {
        let line = self
            .said
            .iter()
            .find(|line| line.trim_start().starts_with(beginning));
        line.unwrap_or_else(|| panic!("no {beginning} in {:#?}", self.said))
    }

    fn base(&self) -> String {
        self.line("Cairn demo")
            .split_whitespace()
            .last()
            .expect("an address")
            .to_owned()
    }

    /// Waits until a counter or gauge of the metrics is at least `least`.
    async fn wait_for(&self, name: &str, least: f64) {
        let mut patience = Patience::every(Duration::from_millis(100));
        loop {
            let text = reqwest::get(format!("{}/metrics", self.base()))
                .await
                .expect("an answer");
            let text = text.text().await.expect("text");
            let value = text
                .lines()
                .filter(|line| line.starts_with(name))
                .filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok())
                .sum::<f64>();
            if value >= least {
                return;
            }
            let words = format!("{name} is {value}, not {least}");
            patience.wait(&words).await;
        }
    }

    fn end(mut self) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        assert!(self.child.wait().expect("it ends").success());
    }
}

/// Everything of a type in the store, by way of a server.
async fn all(base: &str, token: &str, path: &str) -> Vec<Value> {
    let http = client().build().expect("a client");
    let mut url = format!("{base}/fhir/r4/{path}");
    let mut found = Vec::new();
    loop {
        let page = http
            .get(&url)
            .bearer_auth(token)
            .send()
            .await
            .expect("an answer");
        let page: Value = page.json().await.expect("JSON");
        found.extend(
            page["entry"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|entry| entry["resource"].clone()),
        );
        let mut links = page["link"].as_array().expect("links").iter();
        match links.find(|link| link["relation"] == "next") {
            Some(next) => url = next["url"].as_str().expect("an address").to_owned(),
            None => return found,
        }
    }
}

#[test]
fn the_demo_listens_on_this_machine_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let refused = cairn()
            .args(["demo", "--no-open", "--listen", address, "--data"])
            .arg(&data)
            .output()
            .expect("cairn runs");
        assert_eq!(refused.status.code(), Some(1), "{address}");
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains("not a loopback address"), "{words}");
        assert!(!data.exists(), "something was made");
    }
}

/// As a newcomer starts it: whatever the defaults are, somebody moves within a minute.
#[tokio::test]
async fn by_default_patients_move_within_a_minute() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    let demo = start(&data, &[]);
    demo.wait_for("journey_instances", 1.0).await;
    demo.wait_for("mail_sent_total", 1.0).await;
    // It can be backed up while it runs, as a server can.
    let backup = cairn()
        .arg("backup")
        .args(["--data".as_ref(), data.as_os_str()])
        .args(["--to".as_ref(), folder.path().join("backup").as_os_str()])
        .output()
        .expect("it starts");
    assert!(backup.status.success(), "{backup:?}");
    demo.end();
}

#[tokio::test]
async fn with_bundles_of_ones_own_nobody_is_called_made_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("people.ndjson");
    let options = synthetic::CohortOptions {
        seed: 7,
        now_ms: 1_772_366_400_000,
        heart_failure_share: 1.0,
    };
    let mut lines = synthetic::organisation_bundle(&options).to_string();
    for index in 0..6 {
        lines.push('\n');
        lines.push_str(&synthetic::patient_bundle(&options, index).to_string());
    }
    std::fs::write(&input, lines).expect("written");
    let path = input.to_str().expect("a path in UTF-8");
    let data = folder.path().join("demo");
    let demo = start(&data, &["--import", path, "--speed", "2"]);
    assert!(
        demo.line("Patients").contains("imported"),
        "{:?}",
        demo.said
    );
    let page = reqwest::get(format!("{}/sign-in", demo.base()))
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(page.contains("came from files and may be real"), "{page}");
    assert!(!page.contains("made up"), "{page}");
    demo.wait_for("journey_instances", 1.0).await;
    demo.end();
    // It stays so when it goes on.
    let demo = start(&data, &["--speed", "2"]);
    assert!(
        demo.line("Patients").contains("imported"),
        "{:?}",
        demo.said
    );
    demo.end();
}

#[tokio::test]
async fn patients_move_and_starting_again_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    // A day each two seconds: slow enough for an unoptimised build on a busy machine.
    let more = ["--patients", "40", "--speed", "2"];
    let demo = start(&data, &more);
    demo.wait_for("journey_instances", 3.0).await;
    demo.wait_for("mail_sent_total", 3.0).await;
    let said = demo.said.clone();
    demo.end();

    // Killed in the middle of it, and started again with the same logins and links.
    let mut demo = start(&data, &more);
    for beginning in ["carla", "devi", "priya", "sam", "ada"] {
        let login = said
            .iter()
            .find(|line| line.trim_start().starts_with(beginning));
        assert_eq!(demo.line(beginning), login.expect("a login"));
    }
    demo.wait_for("journey_moves_total", 10.0).await;
    demo.child.kill().expect("killed");
    demo.child.wait().expect("it ends");

    let others = cairn()
        .args(["demo", "--patients", "41", "--data"])
        .arg(&data)
        .output()
        .expect("cairn runs");
    assert_eq!(others.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&others.stderr).contains("--patients 40"));

    let demo = start(&data, &more);
    demo.wait_for("journey_moves_total", 10.0).await;
    demo.end();
    let verified = cairn()
        .args(["audit", "verify", "--data"])
        .arg(&data)
        .output()
        .expect("cairn runs");
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );

    // No reading was recorded twice.
    let token = cairn()
        .args(["client", "create", "--name", "test", "--data"])
        .arg(&data)
        .output();
    let token = String::from_utf8(token.expect("cairn runs").stdout).expect("text");
    let (child, base) = crate::binary::serve(&data, |_| {});
    let weights = all(&base, token.trim(), "Observation?code=29463-7&_count=500").await;
    assert!(!weights.is_empty());
    let mut readings = BTreeMap::new();
    for weight in &weights {
        let key = (
            weight["subject"]["reference"].to_string(),
            weight["effectiveDateTime"].to_string(),
        );
        *readings.entry(key).or_insert(0) += 1;
        assert_eq!(
            weight["meta"]["versionId"], "1",
            "a reading was written again"
        );
    }
    let twice: Vec<_> = readings.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(crate::binary::terminate(child).0 == Some(0));
}
