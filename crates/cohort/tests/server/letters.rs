//! Letters by the real server, killed (SIGKILL) while it closes batches, and again while it reads what the partner tells.
//! What was handed over is opened by `pyrage` and read by `pypdf`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cohort::server::{Fhir, ServerProcess, run};
use ledger::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::canary::{clean, folder, person};

const LETTERS: usize = 22;
/// So that some are left for the time at which a batch is closed.
const SIZE: usize = 4;
const MINUTE_MS: u64 = 60_000;

const SOURCE: &str = "name: notes
title: Follow-up of a stay
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: tell
steps:
  tell:
    title: Tell
    send:
      title: How you are
      words: Hello {patient.given|there}, please note your Canarynote.
      channels: [letter]
      expires: 5d
    next: end
    on_failure: end
";

const PARTNERS: &str = "[[partner]]\nname = 'printer'\ntitle = 'Printer'\ncarries = ['letters']\ncontract = 'baa'\n\
                        until = '2099-12-31'\ndata = ['identity', 'contact', 'health']\npurposes = ['TREAT']\n";

fn ask(arguments: &[&str]) -> Value {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the workspace");
    let python = workspace.join("target/peers/files/bin/python");
    assert!(
        python.exists(),
        "the tests need readers of files: run scripts/test once"
    );
    let script = workspace.join("crates/exchange/tests/peers/files.py");
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Takes files away, as the partner does. One that comes again has to be the same. How many did.
fn take(out: &Path, taken: &Path) -> usize {
    let mut again = 0;
    for entry in fs::read_dir(out).expect("listed") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        if name.starts_with('.') {
            continue;
        }
        let (content, to) = (fs::read(&path).expect("read"), taken.join(&name));
        clean("what lies in the folder", &content);
        if let Ok(before) = fs::read(&to) {
            assert!(before == content, "{name} comes again, and is another file");
            again += 1;
        }
        fs::rename(&path, &to).expect("taken");
    }
    again
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_hands_over_and_while_it_reads_receipts_it_loses_none() {
    let space = tempfile::tempdir().expect("a folder");
    let at = |name: &str| -> PathBuf { space.path().join(name) };
    let (data, log, policies) = (at("data"), at("log"), at("policies"));
    for name in ["out", "back", "taken"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    let key = ask(&["new"]);
    let (secret, recipient) = (
        key["secret"].as_str().expect("a key"),
        key["recipient"].as_str().expect("a key"),
    );
    run(&["key", "create", "--data", utf8(&data)], "").expect("a key");
    let client = |name: &str, role: &str| {
        let arguments = [
            "client",
            "create",
            "--data",
            utf8(&data),
            "--name",
            name,
            "--role",
            role,
        ];
        let said = run(&arguments, "").expect("a token");
        said.lines().last().expect("a token").to_owned()
    };
    let (token, squad) = (client("test", "client"), client("squad", "squad"));
    run(&["policy", "init", utf8(&policies)], "").expect("policies");
    fs::write(policies.join("partners.toml"), PARTNERS).expect("written");
    // A batch is closed each minute, so that none waits for long.
    let now_ms = SystemClock.now_ms();
    let minutes =
        (1..40).map(|minute| fhir::date::instant(now_ms + minute * MINUTE_MS)[11..16].to_owned());
    let closes = minutes.collect::<Vec<_>>().join(" ");
    let settings = [
        format!("policy_folder={}", utf8(&policies)),
        // What a letter ends with: the server's own address has another port after each start.
        "public_url=http://cairn.example".to_owned(),
        format!("letters.folder={}", utf8(&at("out"))),
        format!("letters.returns={}", utf8(&at("back"))),
        format!("letters.recipient={recipient}"),
        format!("letters.size={SIZE}"),
        format!("letters.closes={closes}"),
    ];
    let flags: Vec<&str> = settings
        .iter()
        .flat_map(|setting| ["--set", setting])
        .collect();

    let server = ServerProcess::start(&data, &log, &flags)
        .await
        .expect("a server");
    let file = at("notes.yaml");
    fs::write(&file, SOURCE).expect("written");
    run(
        &[
            "journey",
            "publish",
            "--server",
            &server.base,
            "--token",
            &squad,
            utf8(&file),
        ],
        "",
    )
    .expect("published");
    let fhir = Fhir::new(&server.base, &token);
    let mut patients = Vec::new();
    for number in 0..LETTERS {
        let (status, created) = fhir
            .post("Patient", &person(None))
            .await
            .expect("an answer");
        assert_eq!(status, 201);
        let id = created["id"].as_str().expect("an id").to_owned();
        let stay = json!({
            "resourceType": "Encounter", "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": format!("Patient/{id}")},
            "period": {"end": fhir::date::instant(SystemClock.now_ms() - 3_600_000)}
        });
        let (status, _) = fhir.post("Encounter", &stay).await.expect("an answer");
        assert_eq!(status, 201, "{number}");
        patients.push(id);
    }
    server.kill().expect("killed");

    let rows = || -> Vec<Value> {
        let found = ask(&["open", utf8(&at("taken")), secret]);
        let files = found["files"].as_object().expect("files").clone();
        let lists = files
            .values()
            .filter_map(|file| file["rows"].as_array().cloned());
        let rows: Vec<Value> = lists.flatten().collect();
        for row in &rows {
            assert_eq!(
                files[row["file"].as_str().expect("a file")]["sha256"],
                row["sha256"]
            );
        }
        rows
    };
    let (mut kills, mut again) = (1, 0);
    loop {
        let server = ServerProcess::start(&data, &log, &flags)
            .await
            .expect("a server");
        tokio::time::sleep(Duration::from_millis(kills * 83 % 1_900)).await;
        server.kill().expect("killed");
        kills += 1;
        again += take(&at("out"), &at("taken"));
        if rows().len() >= LETTERS {
            break;
        }
        assert!(kills < 120, "it doesn't come to an end");
    }
    // What was under way is done, and nothing more comes.
    let server = ServerProcess::start(&data, &log, &flags)
        .await
        .expect("a server");
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.kill().expect("killed");
    again += take(&at("out"), &at("taken"));
    let rows = rows();
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(
        (rows.len(), ids.len()),
        (LETTERS, LETTERS),
        "each stands in one list, once"
    );

    // The partner tells of all of them, and the server is killed while it reads.
    for (number, some) in rows.chunks(8).enumerate() {
        let time = fhir::date::instant(SystemClock.now_ms());
        let lines = some
            .iter()
            .map(|row| format!("{},posted,{time}\n", row["id"].as_str().expect("an id")));
        let (begun, name) = (at("back").join(".begun"), format!("{number}.csv"));
        fs::write(&begun, lines.collect::<String>() + "nonsense\n").expect("written");
        fs::rename(begun, at("back").join(name)).expect("renamed");
    }
    let lists = rows.chunks(8).count();
    let done = at("back").join("done");
    let mut reads = 0;
    while fs::read_dir(&done).map_or(0, Iterator::count) < lists {
        let server = ServerProcess::start(&data, &log, &flags)
            .await
            .expect("a server");
        tokio::time::sleep(Duration::from_millis(900 + reads * 41 % 700)).await;
        server.kill().expect("killed");
        reads += 1;
        assert!(reads < 60, "it doesn't come to an end");
    }
    let server = ServerProcess::start(&data, &log, &flags)
        .await
        .expect("a server");
    let fhir = Fhir::new(&server.base, &token);
    for patient in &patients {
        let path = format!("Communication?subject=Patient/{patient}");
        let (_, found) = fhir.get(&path).await.expect("an answer");
        let all = found["entry"].as_array().cloned().unwrap_or_default();
        assert_eq!(all.len(), 1);
        let message = &all[0]["resource"];
        assert_eq!(message["status"], "completed", "{message}");
        assert!(ids.contains(message["id"].as_str().expect("an id")));
        let notes = message["note"].as_array().cloned().unwrap_or_default();
        let posted = notes.iter().filter(|note| {
            note["text"]
                .as_str()
                .is_some_and(|text| text.contains("posted"))
        });
        assert_eq!(posted.count(), 1, "{message}");
    }
    for number in 0..lists {
        let rejected =
            fs::read_to_string(at("back").join(format!("rejected/{number}.csv"))).expect("kept");
        assert_eq!(rejected.lines().count(), 2, "{rejected}");
    }
    let metrics = reqwest::get(format!("{}/metrics", server.base))
        .await
        .expect("an answer");
    clean(
        "the metrics",
        metrics.text().await.expect("text").as_bytes(),
    );
    assert!(server.terminate().expect("ended"), "a clean end");
    clean("the log", &fs::read(&log).expect("a log"));
    folder(&data);
    println!(
        "letters: {LETTERS} of them, {} kills, {again} files came again",
        kills + reads
    );
}
