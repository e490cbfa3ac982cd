//! Backups of a running server, restores, and the check of a store, with the binary as operators run it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::binary::{serve, terminate};
use crate::house::{cairn, client, keyed_folder};
use crate::moto::Moto;

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().expect("cairn runs");
    // What is meant for a program is not mixed with what is meant for a person.
    let words = if status.success() {
        stdout
    } else {
        [stdout, stderr].concat()
    };
    (status.code(), String::from_utf8_lossy(&words).into_owned())
}

fn on(data: &Path, arguments: &[&str]) -> Command {
    let mut command = cairn();
    command.args(arguments).arg("--data").arg(data);
    command
}

fn well(command: &mut Command) -> String {
    let (code, words) = run(command);
    assert_eq!(code, Some(0), "{command:?}: {words}");
    words
}

fn back_up(data: &Path, to: &Path) -> Value {
    let words = well(on(data, &["backup", "--json"]).arg("--to").arg(to));
    serde_json::from_str(&words).unwrap_or_else(|error| panic!("{error}: {words}"))
}

/// A folder with the root key of another.
fn keyed_as(data: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(data.join("root.key"), folder.path().join("root.key")).expect("copied");
    folder
}

fn restore(data: &Path, from: &Path, more: &[&str]) -> (Option<i32>, String) {
    run(on(data, &["restore"]).arg("--from").arg(from).args(more))
}

struct Door {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Door {
    async fn put(&self, id: &str) {
        let patient = json!({"resourceType": "Patient", "id": id, "name": [{"family": "Kept"}]});
        let answer = self
            .http
            .put(format!("{}/fhir/r4/Patient/{id}", self.base))
            .bearer_auth(&self.token)
            .header("content-type", "application/fhir+json")
            .body(patient.to_string())
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED, "{id}");
    }

    async fn has(&self, id: &str) -> bool {
        let answer = self
            .http
            .get(format!("{}/fhir/r4/Patient/{id}", self.base))
            .bearer_auth(&self.token)
            .send()
            .await
            .expect("an answer");
        match answer.status() {
            StatusCode::OK => true,
            StatusCode::NOT_FOUND => false,
            other => panic!("{id}: {other}"),
        }
    }
}

// Proves: 45 CFR 164.308(a)(7)(ii)(A), 164.308(a)(7)(ii)(B), 164.310(d)(2)(iv)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_is_backed_up_killed_and_restored() {
    let folder = keyed_folder();
    let (data, space) = (folder.path(), tempfile::tempdir().expect("a folder"));
    let backups = space.path().join("backups");
    let made = well(&mut on(data, &["client", "create", "--name", "test"]));
    let token = made.lines().last().expect("a token").to_owned();
    let http = client().build().expect("a client");
    let (mut child, base) = serve(data, |_| {});
    let door = Door {
        http: http.clone(),
        base,
        token: token.clone(),
    };
    door.put("kept-1").await;
    let first = back_up(data, &backups);
    assert_eq!(first["backup"], 1, "{first}");
    door.put("kept-2").await;
    let second = back_up(data, &backups);
    assert_eq!(
        (&second["backup"], &second["chain"]),
        (&json!(2), &first["chain"])
    );
    door.put("kept-3").await;
    let list = space.path().join("destroyed");
    well(on(data, &["key", "shred-list"]).arg("--to").arg(&list));
    // What needs the store to itself says so.
    let (code, words) = run(&mut on(data, &["doctor"]));
    assert_eq!(code, Some(1));
    assert!(words.contains("open in another process"), "{words}");
    child.kill().expect("killed");
    child.wait().expect("ended");

    // Up to the first backup, and the same moment by its time.
    let number = first["last"]["number"].to_string();
    let early = keyed_as(data);
    let list = list.to_str().expect("a path in UTF-8");
    let (code, words) = restore(
        early.path(),
        &backups,
        &["--to", &number, "--shred-list", list],
    );
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.contains(&format!("(number {number})")) && words.contains("holds"),
        "{words}"
    );
    well(&mut on(early.path(), &["audit", "verify"]));
    let words = well(&mut on(early.path(), &["doctor"]));
    assert!(
        words.contains("Sound.") && words.contains("is held"),
        "{words}"
    );
    let (code, words) = restore(early.path(), &backups, &[]);
    assert_eq!(code, Some(1), "nothing is restored over a store");
    assert!(words.contains("empty folder"), "{words}");
    let other = keyed_folder();
    let (code, words) = restore(other.path(), &backups, &[]);
    assert_eq!(code, Some(1), "another store's key");
    assert!(words.contains("root key"), "{words}");

    // The newest: the server goes on from there, but lets no message out before it is told to.
    let newest = keyed_as(data);
    let (code, words) = restore(newest.path(), &backups, &[]);
    assert_eq!(code, Some(0), "{words}");
    let (child, base) = serve(newest.path(), |_| {});
    let door = Door { http, base, token };
    assert!(door.has("kept-1").await && door.has("kept-2").await);
    assert!(!door.has("kept-3").await, "it came after the backup");
    let held = |words: &str| {
        let outbox: Value = serde_json::from_str(words).expect("JSON");
        outbox["held"].clone()
    };
    let words = well(&mut on(newest.path(), &["outbox", "list", "--json"]));
    assert_eq!(held(&words), true);
    let (code, words) = run(on(newest.path(), &["outbox", "discard"]).arg("00"));
    assert_eq!(code, Some(1), "{words}");
    well(&mut on(newest.path(), &["outbox", "release"]));
    let words = well(&mut on(newest.path(), &["outbox", "list", "--json"]));
    assert_eq!(held(&words), false);
    // Who did all that is in the audit.
    let officer = [
        "client",
        "create",
        "--name",
        "privacy",
        "--role",
        "privacy-officer",
    ];
    let (code, log) = terminate(child);
    assert_eq!(code, Some(0), "{log}");
    let made = well(&mut on(newest.path(), &officer));
    let officer = made.lines().last().expect("a token").to_owned();
    let (child, base) = serve(newest.path(), |_| {});
    let trail = door
        .http
        .get(format!("{base}/fhir/r4/AuditEvent?_count=500"));
    let trail = trail.header("x-purpose-of-use", "HOPERAT");
    let trail = trail.bearer_auth(&officer).send().await.expect("an answer");
    assert_eq!(trail.status(), StatusCode::OK);
    let trail = trail.text().await.expect("a bundle");
    for did in [
        "backup 1 of chain",
        "restored from chain",
        "the outbox was released",
    ] {
        assert!(trail.contains(did), "{did}: {trail}");
    }
    assert!(trail.contains("(uid "), "{trail}");
    let (code, log) = terminate(child);
    assert_eq!(code, Some(0), "{log}");

    // The killed server's folder is whole, and its backups go on; with it nothing is lost.
    let third = back_up(data, &backups);
    assert_eq!(
        (&third["backup"], &third["chain"]),
        (&json!(3), &first["chain"])
    );
    let all = keyed_as(data);
    let (code, words) = restore(all.path(), &backups, &["--release-outbox", "--json"]);
    assert_eq!(code, Some(0), "{words}");
    let report: Value = serde_json::from_str(&words).expect("JSON");
    assert_eq!(report["at"]["number"], third["last"]["number"]);
    assert_eq!(report["outbox_held"], false);
    let words = well(&mut on(all.path(), &["doctor", "--json"]));
    let report: Value = serde_json::from_str(&words).expect("JSON");
    assert_eq!(report["findings"], json!([]), "{report}");
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_tokens_is_rotated_under_a_running_server() {
    let folder = keyed_folder();
    let data = folder.path();
    let made = well(&mut on(data, &["client", "create", "--name", "test"]));
    let token = made.lines().last().expect("a token").to_owned();
    let http = client().build().expect("a client");
    let rotate = ["key", "rotate", "--tokens"];
    let found = async |door: &Door| {
        let answer = (door.http)
            .get(format!(
                "{}/fhir/r4/Patient?family=kept&_total=accurate",
                door.base
            ))
            .bearer_auth(&door.token)
            .send()
            .await
            .expect("an answer");
        let bundle: Value = answer.json().await.expect("JSON");
        bundle["total"].as_u64()
    };
    let (mut child, base) = serve(data, |_| {});
    let door = Door {
        http: http.clone(),
        base,
        token: token.clone(),
    };
    for id in ["one", "two"] {
        door.put(id).await;
    }
    assert_eq!(found(&door).await, Some(2));
    // Sessions, accounts and consents are found by tokens as well: the token still lets in.
    let words = well(&mut on(data, &rotate));
    assert!(words.contains("version 2"), "{words}");
    door.put("three").await;
    assert_eq!(found(&door).await, Some(3));
    child.kill().expect("killed");
    child.wait().expect("ended");
    // Without a server it is the command that does it.
    let words = well(&mut on(data, &rotate));
    assert!(words.contains("version 3"), "{words}");
    let (mut child, base) = serve(data, |_| {});
    let door = Door { http, base, token };
    assert_eq!(found(&door).await, Some(3));
    child.kill().expect("killed");
    child.wait().expect("ended");
    well(&mut on(data, &["doctor"]));
}

// Proves: 45 CFR 164.308(a)(7)(ii)(A), 164.308(a)(7)(ii)(B)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_go_to_a_bucket_and_come_back() {
    const SECRET: &str = "canary-secret-4567";
    let moto = Moto::start().await;
    let folder = keyed_folder();
    let data = folder.path();
    well(&mut on(data, &["client", "create", "--name", "test"]));
    let place = format!(
        "s3://backups/house?endpoint=http://127.0.0.1:{}&region=eu-central-1",
        moto.port
    );
    let somebody = |mut command: Command| {
        command.env("AWS_ACCESS_KEY_ID", "someone");
        command.env("AWS_SECRET_ACCESS_KEY", SECRET);
        well(&mut command)
    };
    let take = || {
        somebody(on(
            data,
            &["backup", "--whole", "--keep", "1", "--to", &place],
        ))
    };
    let first = take();
    assert!(!first.contains("Removed"), "{first}");
    let second = take();
    assert!(second.contains("Removed old chains: "), "{second}");
    let new = keyed_as(data);
    let words = somebody(on(new.path(), &["restore", "--from", &place]));
    assert!(words.contains("holds"), "{words}");
    assert!(!format!("{first}{second}{words}").contains(SECRET));
    let words = well(&mut on(new.path(), &["doctor"]));
    assert!(words.contains("Sound."), "{words}");
    // A secret in a URL would be seen by everybody who lists processes.
    let (code, words) = run(&mut on(
        data,
        &["backup", "--to", "s3://key:secret@backups/house"],
    ));
    assert_eq!(code, Some(2), "{words}");
    assert!(
        words.contains("credentials don't belong in a URL"),
        "{words}"
    );
}

/// The key of identity tokens is rotated by command, without a server or under one.
#[test]
fn the_key_of_identity_tokens_is_rotated_by_command() {
    let folder = keyed_folder();
    let data = folder.path();
    let rotate = ["key", "rotate", "--signing"];
    well(on(data, &["client", "create", "--name", "x"]).args(["--role", "client"]));
    let (code, words) = run(&mut on(data, &rotate));
    assert_ne!(code, Some(0));
    assert!(words.contains("openid"), "{words}");
    well(
        on(data, &["client", "register-app", "--name", "Diary"])
            .args(["--redirect-uri", "https://app.example.org/back"])
            .args(["--scopes", "openid patient/*.rs"]),
    );
    let words = well(&mut on(data, &rotate));
    assert!(words.contains("is shown now, and signs"), "{words}");
    let (code, words) = run(&mut on(data, &rotate));
    assert_ne!(code, Some(0));
    assert!(words.contains("shown already"), "{words}");
    let words = well(on(data, &rotate).arg("--at-once"));
    assert!(words.contains("from now on"), "{words}");
    let (code, _) = run(on(data, &["key", "rotate", "--at-once"]).args(["--tenant"]));
    assert_ne!(code, Some(0));
    // The server has the folder open, and does it.
    let (child, _) = serve(data, |_| {});
    let words = well(&mut on(data, &rotate));
    assert!(words.contains("is shown now, and signs"), "{words}");
    let (code, log) = terminate(child);
    assert_eq!(code, Some(0), "{log}");
}
