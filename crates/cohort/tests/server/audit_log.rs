//! The audit's logs, read and verified by a program that shares nothing with ours: Go's `sumdb`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cohort::server::{Fhir, ServerProcess, binary, run};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::patience::{found, until};
use crate::peers;

const WITNESS: [&str; 2] = [
    "witness.example/w1",
    "0101010101010101010101010101010101010101010101010101010101010101",
];

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A store, the independent reader, and the log that has most leaves.
struct Scene {
    space: TempDir,
    reader: PathBuf,
    client: String,
    officer: String,
    log: String,
    key: String,
}

impl Scene {
    fn new() -> Self {
        let space = tempfile::tempdir().expect("a folder");
        let reader = peers::audit_log(space.path());
        let data = space.path().join("data");
        run(&["key", "create", "--data", text(&data)], "").expect("a key");
        let token = |role| {
            let arguments = ["--name", "test", "--role", role];
            let token = run(
                &[&["client", "create", "--data", text(&data)][..], &arguments].concat(),
                "",
            );
            token.expect("a token").trim().to_owned()
        };
        let mut scene = Self {
            reader,
            client: token("client"),
            officer: token("privacy-officer"),
            log: String::new(),
            key: String::new(),
            space,
        };
        let witness = scene.reader(&["witness-key", WITNESS[0], WITNESS[1]], "");
        assert!(witness.status.success(), "{}", said(&witness));
        scene.put("witnesses", &witness.stdout);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.space.path().join(name)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn get(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("read")
    }

    fn reader(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(&self.reader)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the reader starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        child.wait_with_output().expect("the reader ends")
    }

    /// Has the log read and verified.
    fn check(&self, flags: &[&str], location: &str) -> Output {
        let begin = ["check", "--key", &self.key];
        self.reader(&[&begin, flags, &[location, &self.log]].concat(), "")
    }

    fn holds(&self, flags: &[&str], location: &str) {
        let output = self.check(flags, location);
        assert!(output.status.success(), "{flags:?}: {}", said(&output));
    }

    async fn serve(&self) -> ServerProcess {
        let witnesses = format!("audit.witness_keys_file={}", text(&self.path("witnesses")));
        let settings = [
            witnesses.as_str(),
            "audit.witness_every_s=1",
            "audit.open_log=true",
        ];
        let more = settings.map(|setting| ["--set", setting]).concat();
        ServerProcess::start(&self.path("data"), &self.path("server.log"), &more)
            .await
            .expect("a server")
    }
}

async fn fetch(url: &str, token: Option<&str>) -> (u16, String) {
    let mut request = reqwest::Client::new().get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer");
    (
        answer.status().as_u16(),
        answer.text().await.unwrap_or_default(),
    )
}

/// Makes one patient and reads it so often; gives their id.
async fn read_often(base: &str, token: &str, id: Option<&str>, times: usize) -> String {
    let fhir = Fhir::new(base, token);
    let id = match id {
        Some(id) => id.to_owned(),
        None => {
            let patient = json!({ "resourceType": "Patient", "active": true });
            let (status, made) = fhir.post("Patient", &patient).await.expect("an answer");
            assert_eq!(status, 201, "{made}");
            made["id"].as_str().expect("an id").to_owned()
        }
    };
    let readers: Vec<_> = (0..times)
        .map(|_| {
            let (fhir, path) = (fhir.clone(), format!("Patient/{id}"));
            tokio::spawn(async move { fhir.get(&path).await.expect("an answer").0 })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), 200);
    }
    id
}

/// The log with most leaves, and how many, as the checkpoint over all trees says.
fn largest(checkpoint: &str) -> (String, u64) {
    let lines = checkpoint.lines().skip(4).filter_map(|line| {
        let mut words = line.split(' ');
        let (log, size) = (words.next()?, words.next()?);
        Some((log.to_owned(), size.parse().ok()?))
    });
    lines.max_by_key(|(_, size)| *size).expect("a tree")
}

/// Waits until a checkpoint has a log of that many leaves.
async fn grown(base: &str, leaves: u64) -> String {
    found("a checkpoint over all leaves", async || {
        let (status, checkpoint) = fetch(&format!("{base}/checkpoint"), None).await;
        assert_eq!(status, 200);
        let (log, size) = largest(&checkpoint);
        (size >= leaves).then_some(log)
    })
    .await
}

// Proves: 45 CFR 164.312(c)(2)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_independent_reader_verifies_the_audit_s_logs() {
    let mut scene = Scene::new();
    let server = scene.serve().await;
    let logs = format!("{}/audit/log", server.base);
    let id = read_often(&server.base, &scene.client, None, 40).await;
    scene.log = grown(&logs, 40).await;
    let log = format!("{logs}/{}", scene.log);
    let number = usize::from_str_radix(&scene.log, 16).expect("a shard");
    let (_, keys) = fetch(&format!("{logs}/keys"), None).await;
    scene.key = keys.lines().nth(1 + number).expect("its key").to_owned();
    let (_, old) = fetch(&format!("{log}/checkpoint"), None).await;
    scene.put("old", old.as_bytes());
    let (_, old_of_all) = fetch(&format!("{logs}/checkpoint"), None).await;
    scene.put("old-of-all", old_of_all.as_bytes());
    // Into the second tile.
    read_often(&server.base, &scene.client, Some(&id), 260).await;
    grown(&logs, 300).await;

    let old = scene.path("old");
    scene.holds(&["--old", text(&old)], &logs);
    scene.holds(&["--old", text(&old), "--token", &scene.officer], &logs);
    let (_, none) = fetch(&format!("{log}/checkpoint.witnessed"), None).await;
    assert!(none.contains("enough witnesses"), "{none}");
    // Entries are for who may read the audit.
    let entries = format!("{log}/tile/entries/000");
    for (token, status) in [
        (None, 401),
        (Some(&scene.client), 403),
        (Some(&scene.officer), 200),
    ] {
        assert_eq!(fetch(&entries, token.map(String::as_str)).await.0, status);
    }

    // A witness cosigns, and a client brings what it said.
    let (_, checkpoint) = fetch(&format!("{log}/checkpoint"), None).await;
    let cosigned = scene.reader(&["cosign", WITNESS[0], WITNESS[1], &scene.key], &checkpoint);
    assert!(cosigned.status.success(), "{}", said(&cosigned));
    let http = reqwest::Client::new();
    let bring = async |token: Option<&str>, note: Vec<u8>| {
        let mut request = http.post(format!("{logs}/cosignatures")).body(note);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        (
            answer.status().as_u16(),
            answer.text().await.unwrap_or_default(),
        )
    };
    assert_eq!(bring(None, cosigned.stdout.clone()).await.0, 401);
    let mut bent = cosigned.stdout.clone();
    let last = bent.len() - 10;
    bent[last] = if bent[last] == b'A' { b'B' } else { b'A' };
    assert_eq!(bring(Some(&scene.client), bent).await.0, 400);
    let (status, taken) = bring(Some(&scene.client), cosigned.stdout.clone()).await;
    assert_eq!(status, 200, "{taken}");
    let taken: Value = serde_json::from_str(&taken).expect("JSON");
    assert_eq!(
        (&taken["log"], &taken["cosignatures"]),
        (&json!(scene.log), &json!(1))
    );
    scene.put("cosigned", &cosigned.stdout);
    let witness = scene.get("witnesses").trim().to_owned();
    // The log goes on, within a tile, from what the witness saw.
    read_often(&server.base, &scene.client, Some(&id), 3).await;
    grown(&logs, 304).await;
    scene.holds(&["--witness", &witness, "--token", &scene.officer], &logs);
    assert!(server.terminate().expect("ended"), "a clean end");
    proofs_and_files(&scene, &witness);
    older_checkpoints(&scene);
}

/// With the server stopped: proofs and exported files hold, and with a flipped bit they don't.
fn proofs_and_files(scene: &Scene, witness: &str) {
    let (data, witnesses) = (scene.path("data"), scene.path("witnesses"));
    let audit = |command: &str, more: &[&str]| {
        let begin = [
            "audit",
            command,
            "--data",
            text(&data),
            "--witness-keys",
            text(&witnesses),
        ];
        run(&[&begin, more].concat(), "").expect("done")
    };
    let taken = audit("cosign", &["--file", text(&scene.path("cosigned"))]);
    assert!(taken.contains("Kept 1 cosignatures"), "{taken}");
    let leaf = format!("{}/255", scene.log);
    let proof = scene.path("proof.json");
    fs::write(&proof, audit("prove", &[&leaf])).expect("written");
    let standard = audit("prove", &[&leaf, "--format", "tlog-proof"]);
    let whole: Value =
        serde_json::from_str(&fs::read_to_string(&proof).expect("read")).expect("JSON");
    assert_eq!(whole["tlog_proof"], standard);

    let to = scene.path("export");
    audit("export", &["--to", text(&to), "--entries"]);
    let old = scene.path("old");
    let flags = [
        "--entries",
        "--old",
        text(&old),
        "--proof",
        text(&proof),
        "--witness",
        witness,
    ];
    scene.holds(&flags, text(&to));
    // Again, and nothing is new.
    let again = audit("export", &["--to", text(&to), "--entries"]);
    assert!(again.contains("Wrote 0 new files"), "{again}");

    let log = to.join(&scene.log);
    let files = [
        log.join("checkpoint.witnessed"),
        log.join("tile/0/000"),
        log.join("tile/1/000.p/1"),
        log.join("tile/entries/000"),
        old.clone(),
        proof.clone(),
    ];
    for file in files {
        let good = fs::read(&file).expect("read");
        let step = (good.len() / 50).max(1);
        for at in (0..good.len()).step_by(step) {
            // The last letter of a base64 text has bits that mean nothing, and Go passes over them.
            if good.get(at + 1) == Some(&b'=') {
                continue;
            }
            let mut bent = good.clone();
            bent[at] ^= 1;
            fs::write(&file, &bent).expect("written");
            let output = scene.check(&flags, text(&to));
            assert!(
                !output.status.success(),
                "byte {at} of {} may be another",
                file.display()
            );
        }
        fs::write(&file, &good).expect("written");
    }
    scene.holds(&flags, text(&to));

    // A tile that was exported before is never overwritten by another.
    let tile = log.join("tile/0/000");
    let good = fs::read(&tile).expect("read");
    fs::write(&tile, &good[1..]).expect("written");
    let refused = Command::new(binary().expect("built"))
        .args(["audit", "export", "--data", text(&data), "--to", text(&to)])
        .output()
        .expect("cairn runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("Tiles never change"),
        "{}",
        said(&refused)
    );
    fs::write(&tile, &good).expect("written");
}

/// The older checkpoints are contained; a newer one than an older copy of the store is not.
fn older_checkpoints(scene: &Scene) {
    let verify = |data: &Path, against: &Path, more: &[&str]| {
        Command::new(binary().expect("built"))
            .args([
                "audit",
                "verify",
                "--data",
                text(data),
                "--against",
                text(against),
            ])
            .args(more)
            .output()
            .expect("cairn runs")
    };
    let data = scene.path("data");
    for older in ["old", "old-of-all"] {
        let output = verify(&data, &scene.path(older), &[]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("contained whole"),
            "{}",
            said(&output)
        );
    }
    let output = verify(&data, &scene.path("old"), &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let proof = &report["consistency"]["trees"][0];
    assert!(
        proof["path"]
            .as_array()
            .is_some_and(|path| !path.is_empty()),
        "{report}"
    );
    assert!(report["consistency"]["broken"].is_null());

    let copy = scene.path("copy");
    let copied = Command::new("cp").arg("-a").arg(&data).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    // Making a client adds to the audit of the one, not of the other.
    let more = [
        "client",
        "create",
        "--data",
        text(&data),
        "--name",
        "another",
    ];
    run(&more, "").expect("a token");
    let export = scene.path("export-of-newer");
    run(
        &[
            "audit",
            "export",
            "--data",
            text(&data),
            "--to",
            text(&export),
        ],
        "",
    )
    .expect("exported");
    let newer = export.join("checkpoint");
    let output = verify(&copy, &newer, &[]);
    assert_eq!(output.status.code(), Some(1));
    let words = said(&output);
    assert!(
        words.contains("BROKEN: tree") && words.contains("this store is an older copy"),
        "{words}"
    );
    // Nor is it exported over what the newer store has shown.
    let output = Command::new(binary().expect("built"))
        .args([
            "audit",
            "export",
            "--data",
            text(&copy),
            "--to",
            text(&export),
        ])
        .output()
        .expect("cairn runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("Nothing was written"),
        "{}",
        said(&output)
    );
    // Another store's checkpoint is no older one of this.
    let other = scene.path("other");
    run(&["key", "create", "--data", text(&other)], "").expect("a key");
    let make = ["client", "create", "--data", text(&other)];
    run(
        &[&make[..], &["--name", "x", "--role", "client"]].concat(),
        "",
    )
    .expect("a store");
    let output = verify(&other, &newer, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("not signed by this store"),
        "{}",
        said(&output)
    );
}

/// A witness of the reader's kind, as a process.
struct WitnessProcess {
    child: Child,
    url: String,
}

impl WitnessProcess {
    fn start(scene: &Scene) -> Self {
        let mut child = Command::new(&scene.reader)
            .args(["witness", WITNESS[0], WITNESS[1], &scene.key])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the witness starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the witness says its port");
        let url = format!("http://127.0.0.1:{}", line.trim());
        Self { child, url }
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// Proves: 45 CFR 164.312(c)(2), 164.308(a)(6)(ii)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_is_asked_and_sees_what_is_wrong() {
    let mut scene = Scene::new();
    let server = scene.serve().await;
    let logs = format!("{}/audit/log", server.base);
    let id = read_often(&server.base, &scene.client, None, 10).await;
    scene.log = grown(&logs, 10).await;
    let number = usize::from_str_radix(&scene.log, 16).expect("a shard");
    let (_, keys) = fetch(&format!("{logs}/keys"), None).await;
    scene.key = keys.lines().nth(1 + number).expect("its key").to_owned();
    assert!(server.terminate().expect("ended"), "a clean end");
    let (data, copy) = (scene.path("data"), scene.path("copy"));
    let copied = Command::new("cp").arg("-a").arg(&data).arg(&copy).status();
    assert!(copied.expect("cp runs").success());

    let witness = WitnessProcess::start(&scene);
    let key = scene.get("witnesses").trim().to_owned();
    scene.put("witnesses", format!("{key} {}/\n", witness.url).as_bytes());
    let server = scene.serve().await;
    let logs = format!("{}/audit/log", server.base);
    for leaves in [10, 30] {
        read_often(&server.base, &scene.client, Some(&id), leaves).await;
        grown(&logs, leaves as u64).await;
        let (_, newest) = fetch(&format!("{logs}/{}/checkpoint", scene.log), None).await;
        let newest: u64 = size_of(&newest);
        until("a witnessed checkpoint", async || {
            let path = format!("{logs}/{}/checkpoint.witnessed", scene.log);
            let (status, witnessed) = fetch(&path, None).await;
            status == 200 && size_of(&witnessed) >= newest
        })
        .await;
        scene.holds(&["--witness", &key], &logs);
    }
    assert!(server.terminate().expect("ended"), "a clean end");

    // The older copy in the store's place: the witness has seen more.
    fs::remove_dir_all(&data).expect("removed");
    fs::rename(&copy, &data).expect("renamed");
    let server = scene.serve().await;
    let alarm = async |words: &str| {
        until("an alarm in the log", async || {
            scene.get("server.log").contains(words)
        })
        .await;
    };
    alarm("this store is an older copy").await;
    // It goes on past what the witness has seen, as another history.
    let logs = format!("{}/audit/log", server.base);
    read_often(&server.base, &scene.client, Some(&id), 80).await;
    grown(&logs, 90).await;
    alarm("the log was changed or forked").await;
    assert!(server.terminate().expect("ended"), "a clean end");
}

/// Leaves of a log's checkpoint.
fn size_of(checkpoint: &str) -> u64 {
    let size = checkpoint.lines().nth(1).and_then(|size| size.parse().ok());
    size.expect("a size")
}
