//! Versions of a journey brought to their stages, and patients moved between them, by command.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::binary::{serve, terminate};
use crate::house::{cairn, keyed_folder};
use crate::patience::until;

pub(crate) const FIRST: &str = "name: short
title: A short one
owner: Team
purpose: TREAT
at_most: 60d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: call
steps:
  call:
    title: Call
    task: {title: Call, reason: Because., role: coordinator, due: 20d}
    next: end
    overdue: end
";

fn output(command: &mut Command) -> Output {
    command.output().expect("the command")
}

fn words(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn publish(folder: &Path, file: &Path, more: &[&str]) -> Output {
    let mut command = cairn();
    command.args(["journey", "publish", "--data"]).arg(folder);
    output(command.args(more).arg(file))
}

fn migrate(folder: &Path, more: &[&str]) -> Output {
    let mut command = cairn();
    command.args([
        "journey", "migrate", "short", "--from", "1", "--to", "2", "--data",
    ]);
    output(command.arg(folder).args(more))
}

fn replay(folder: &Path, draft: &Path, more: &[&str]) -> Output {
    let mut command = cairn();
    command.args(["journey", "replay", "--data"]).arg(folder);
    output(command.arg(draft).args(more))
}

/// What really happened is played again with a draft, by command.
fn replays(folder: &Path, same: &Path, other: &Path) {
    let told = replay(folder, same, &["--patient", "p1"]);
    assert!(told.status.success(), "{}", words(&told));
    for said in [
        "of patient p1: played again with the draft until",
        "= ",
        "Task for a coordinator: Call",
        "The draft goes the same way.",
        "--config says which a server has",
    ] {
        assert!(words(&told).contains(said), "{said}: {}", words(&told));
    }
    let told = replay(folder, other, &["--patient", "p1", "--json"]);
    assert_eq!(told.status.code(), Some(1), "{}", words(&told));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let instance = told["instance"].as_str().expect("an id").to_owned();
    let rows = told["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["how"] == "other-content");
    let differs = &row.expect("another task")["differs"];
    assert_eq!(*differs, json!(["role clinician instead of coordinator"]));
    // A configuration's rule pack decides, and the warning is gone.
    let config = folder.join("cairn.toml");
    std::fs::write(&config, "").expect("written");
    let config = config.to_str().expect("a path");
    let told = replay(folder, same, &["--instance", &instance, "--config", config]);
    assert!(told.status.success(), "{}", words(&told));
    assert!(!words(&told).contains("--config"), "{}", words(&told));
    let many = replay(folder, other, &["--many", "10"]);
    assert_eq!(many.status.code(), Some(1), "{}", words(&many));
    let many = words(&many);
    assert!(
        many.contains("2 of 2 journeys played again: 0 go the same way, 2 differ"),
        "{many}"
    );
    assert!(!many.contains("p1") && !many.contains(&instance), "{many}");
    for (more, said) in [
        (vec!["--patient", "p3"], "the patient is not known to short"),
        (vec!["--instance", "nobody"], "no journey instance nobody"),
        (vec!["--many", "0"], "--many takes 1 to 10000"),
        (
            vec!["--many", "1", "--patient", "p1"],
            "cannot be used with",
        ),
        (vec![], "required"),
    ] {
        let refused = replay(folder, same, &more);
        assert!(!refused.status.success());
        assert!(words(&refused).contains(said), "{}", words(&refused));
    }
}

/// How it went is told, and its log taken away, by command.
fn analyses(folder: &Path) {
    let cairn_journey = |arguments: &[&str]| {
        let mut command = cairn();
        command
            .arg("journey")
            .args(arguments)
            .arg("--data")
            .arg(folder);
        output(&mut command)
    };
    let told = cairn_journey(&["analyse", "short", "--on-version", "1"]);
    assert!(told.status.success(), "{}", words(&told));
    assert!(
        words(&told).contains("short, version 1: 2 journeys, 2 under way, 0 over."),
        "{}",
        words(&told)
    );
    assert!(
        words(&told).contains("2 (0 over): call"),
        "{}",
        words(&told)
    );
    let told = cairn_journey(&["analyse", "short", "--on-version", "1", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["cases"], &told["steps"][0]["here"]),
        (&json!(2), &json!(2))
    );
    // Of two nothing is told.
    let outcome = &told["outcomes"][0];
    assert_eq!(
        (&told["days"], &outcome["not_yet"], &outcome["no"]),
        (&json!(30), &json!(null), &json!(null)),
        "{outcome}"
    );
    let told = cairn_journey(&["analyse", "short", "--on-version", "1", "--days", "7"]);
    assert!(words(&told).contains("within 7 days"), "{}", words(&told));
    let refused = cairn_journey(&["analyse", "short", "--days", "0"]);
    assert!(!refused.status.success());
    assert!(
        words(&refused).contains("7, 14, 30, 60, 90, 180, 365"),
        "{}",
        words(&refused)
    );
    for (format, said) in [
        ("xes", "<trace>"),
        ("ocel", "\"eventTypes\""),
        ("pnml", "finalmarkings"),
    ] {
        let file = folder.join(format!("log.{format}"));
        let name = file.to_str().expect("a path");
        let export = [
            "export-log",
            "short",
            "--on-version",
            "1",
            "--format",
            format,
            "--to",
            name,
        ];
        let done = cairn_journey(&export);
        assert!(done.status.success(), "{}", words(&done));
        let text = std::fs::read_to_string(&file).expect("the log");
        assert!(text.contains(said), "{text}");
        assert!(!text.contains("2026-"), "{text}");
        // A net's places are called so.
        assert!(format == "pnml" || !text.contains("p1"), "{text}");
        let mode = std::fs::metadata(&file)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // What is there is not written over.
        let again = cairn_journey(&export);
        assert!(
            !again.status.success() && words(&again).contains("can't make"),
            "{}",
            words(&again)
        );
        assert_eq!(std::fs::read_to_string(&file).expect("the log"), text);
        std::fs::remove_file(&file).expect("removed");
        assert!(!folder.join(format!("log.{format}.objects")).exists());
    }
    // Of a journey that there is not, no file is left that looks like an empty log.
    let file = folder.join("none.xes");
    let name = file.to_str().expect("a path");
    let none = cairn_journey(&["export-log", "none", "--format", "xes", "--to", name]);
    assert!(
        !none.status.success() && words(&none).contains("no journey none"),
        "{}",
        words(&none)
    );
    assert!(!file.exists());
}

/// Lets a server start the journeys of what was imported.
async fn served(folder: &Path) {
    let (child, base) = serve(folder, |_| {});
    let running = async || {
        let metrics = reqwest::get(format!("{base}/metrics")).await;
        let metrics = metrics.expect("an answer").text().await.expect("text");
        let mut lines = metrics.lines();
        lines.any(|line| {
            line.starts_with("journey_instances")
                && line.contains("state=\"running\"")
                && line.ends_with(" 2")
        })
    };
    until("two patients are on the journey", running).await;
    assert_eq!(terminate(child).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_staged_and_patients_moved_by_command() {
    let folder = keyed_folder();
    let folder = folder.path();
    let (first, second) = (folder.join("first.yaml"), folder.join("second.yaml"));
    std::fs::write(&first, FIRST).expect("written");
    let text = FIRST.replace("role: coordinator", "role: clinician");
    std::fs::write(&second, &text).expect("written");
    let done = publish(folder, &first, &[]);
    assert!(
        words(&done).contains("Published short version 1."),
        "{}",
        words(&done)
    );

    // What is asked for without saying for whom or why is refused.
    for (more, said) in [
        (
            vec!["--stage", "staged", "--share", "5"],
            "say why: --reason TEXT",
        ),
        (
            vec!["--stage", "staged", "--reason", "Try"],
            "say for whom it is staged",
        ),
        (
            vec!["--stage", "checked", "--share", "5", "--reason", "Try"],
            "go with --stage staged",
        ),
        (
            vec!["--stage", "staged", "--share", "101", "--reason", "Try"],
            "101 is not in 1..=100",
        ),
        (vec!["--stage", "nowhere"], "possible values"),
    ] {
        let refused = publish(folder, &second, &more);
        assert!(!refused.status.success());
        assert!(words(&refused).contains(said), "{}", words(&refused));
    }
    for (more, said) in [
        (vec!["--stage", "draft"], "short version 2 is draft."),
        (vec!["--stage", "checked"], "short version 2 is checked."),
        (
            vec!["--stage", "staged", "--share", "5"],
            "short version 2 is staged.",
        ),
        (
            vec!["--stage", "staged", "--site", "north", "--site", "south"],
            "short version 2 is staged.",
        ),
        (vec!["--stage", "checked"], "short version 2 is checked."),
    ] {
        let done = publish(folder, &second, &[&more[..], &["--reason", "Try"]].concat());
        assert!(done.status.success(), "{}", words(&done));
        assert!(words(&done).contains(said), "{}", words(&done));
    }
    let unstaged = publish(folder, &second, &["--stage", "draft", "--reason", "Again"]);
    assert!(!unstaged.status.success());
    assert!(
        words(&unstaged).contains("can't be draft from there"),
        "{}",
        words(&unstaged)
    );

    let now_ms = ledger::Clock::now_ms(&ledger::SystemClock);
    let mut rows = String::new();
    for id in ["p1", "p2"] {
        rows += &json!({"resourceType": "Patient", "id": id}).to_string();
        rows += "\n";
        let procedure = json!({
            "resourceType": "Procedure", "id": format!("{id}-o"), "status": "completed",
            "subject": {"reference": format!("Patient/{id}")}, "performedDateTime": fhir::date::instant(now_ms),
        });
        rows += &procedure.to_string();
        rows += "\n";
    }
    let file = folder.join("rows.ndjson");
    std::fs::write(&file, rows).expect("written");
    let mut command = cairn();
    command.args(["import", "--data"]).arg(folder).arg(&file);
    let imported = output(&mut command);
    assert!(imported.status.success(), "{}", words(&imported));
    served(folder).await;
    replays(folder, &first, &second);
    analyses(folder);

    let unstaged = migrate(folder, &["--apply", "--reason", "Other role"]);
    assert!(
        !unstaged.status.success(),
        "nobody can be on it yet: {}",
        words(&unstaged)
    );
    let done = publish(folder, &second, &["--stage", "live", "--reason", "Tried"]);
    assert!(
        words(&done).contains("Published short version 2."),
        "{}",
        words(&done)
    );

    let preview = words(&migrate(folder, &["--each"]));
    for said in [
        "2 of 2 journeys would be moved, 2 of them with something else planned than now.",
        "new: Task for a clinician: Call (2 patients, 2 times)",
        " moves, 2 things differ",
        "Nothing was changed; --apply --reason TEXT moves them.",
    ] {
        assert!(preview.contains(said), "{said}: {preview}");
    }
    assert!(!preview.contains("p1"), "it names no patient: {preview}");
    let told = migrate(folder, &["--json", "--map", "call=stay"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["total"], &told["stays"], &told["moves"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let file = folder.join("map.yaml");
    let map = file.to_str().expect("a path");
    for (lines, said) in [
        ("call: stay\n", "2 stay on their version"),
        ("call: [a]\n", "map.yaml:1:7: error J004"),
        ("call: stay\ncal: hold\n", "map.yaml:2:1: error J006"),
    ] {
        std::fs::write(&file, lines).expect("written");
        let told = words(&migrate(folder, &["--map-file", map]));
        assert!(told.contains(said), "{said}: {told}");
    }
    std::fs::write(&file, "call: stay\n").expect("written");
    let twice = migrate(folder, &["--map-file", map, "--map", "call=hold"]);
    assert!(words(&twice).contains("call is in the file and in --map"));
    for (more, said) in [
        (vec!["--apply"], "--reason"),
        (vec!["--map", "call=nowhere"], "nobody can go on at nowhere"),
        (
            vec!["--map", "call=stay", "--map", "call=hold"],
            "--map names call twice",
        ),
        (vec!["--map", "call"], "takes KEY=VALUE"),
        (vec!["--first", "1", "--share", "5"], "cannot be used with"),
    ] {
        let refused = migrate(folder, &more);
        assert!(!refused.status.success());
        assert!(words(&refused).contains(said), "{}", words(&refused));
    }
    // One first, then the other.
    for left in ["1 of 1", "1 of 1", "0 of 0"] {
        let preview = words(&migrate(folder, &["--first", "1"]));
        assert!(
            preview.contains(&format!("{left} journeys would be moved")),
            "{preview}"
        );
        if left == "1 of 1" {
            let moved = migrate(
                folder,
                &["--first", "1", "--apply", "--reason", "Other role"],
            );
            assert!(moved.status.success(), "{}", words(&moved));
            assert!(
                words(&moved).contains("1 done, 0 not done, 0 wait"),
                "{}",
                words(&moved)
            );
        }
    }
}
