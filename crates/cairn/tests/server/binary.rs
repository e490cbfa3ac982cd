//! The binary as a process: exit codes, what it says, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::house::{cairn, keyed_folder};

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("cairn runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end with this as its standard input.
fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cairn runs");
    let mut stdin = child.stdin.take().expect("its input");
    // It may have ended without reading.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// The same: its exit code, and all that it said.
pub(crate) fn told(command: &mut Command, input: &str) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = fed(command, input.as_bytes());
    let words = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&words).into_owned())
}

/// A server process, and the address that it says it is at.
pub(crate) fn serve(data: &Path, change: impl FnOnce(&mut Command)) -> (Child, String) {
    let mut command = cairn();
    command
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(["--listen", "127.0.0.1:0"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    change(&mut command);
    let mut child = command.spawn().expect("cairn runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("a line");
    let base = line.trim().strip_prefix("Cairn is at ").map(str::to_owned);
    let Some(base) = base else {
        let mut words = String::new();
        child
            .stderr
            .take()
            .expect("its errors")
            .read_to_string(&mut words)
            .expect("text");
        panic!("the server said {line:?} and {words}");
    };
    (child, base)
}

/// SIGTERM; gives the exit code and the log.
pub(crate) fn terminate(mut child: Child) -> (Option<i32>, String) {
    let sent = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(sent.success());
    let mut log = String::new();
    child
        .stderr
        .take()
        .expect("its log")
        .read_to_string(&mut log)
        .expect("text");
    (child.wait().expect("it ends").code(), log)
}

#[test]
fn a_store_is_never_made_without_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    for command in [
        vec!["serve", "--listen", "127.0.0.1:0"],
        vec!["import", "-"],
        vec!["audit", "verify"],
    ] {
        let refused = output(cairn().args(&command).arg("--data").arg(folder.path()));
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        assert!(
            stderr(&refused).contains("cairn key create"),
            "{command:?}: {}",
            stderr(&refused)
        );
    }
    assert!(!folder.path().join("root.key").exists());
    assert!(!folder.path().join("ledger").exists());

    let made = output(cairn().args(["key", "create", "--data"]).arg(folder.path()));
    assert!(made.status.success());
    let again = output(cairn().args(["key", "create", "--data"]).arg(folder.path()));
    assert_eq!(
        again.status.code(),
        Some(1),
        "a key must not be overwritten"
    );
    // An empty store would be found sound, whatever was meant to be looked at.
    let nothing = output(
        cairn()
            .args(["audit", "verify", "--data"])
            .arg(folder.path()),
    );
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("there is no store"));
    assert!(!folder.path().join("ledger").exists());
}

#[test]
fn serves_says_where_and_ends_cleanly_on_sigterm() {
    let folder = keyed_folder();
    let (child, _) = serve(folder.path(), |_| {});
    let second = output(
        cairn()
            .args(["audit", "verify", "--data"])
            .arg(folder.path()),
    );
    assert_eq!(
        second.status.code(),
        Some(1),
        "two processes had the store open"
    );
    let (code, log) = terminate(child);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
    let verified = output(
        cairn()
            .args(["audit", "verify", "--data"])
            .arg(folder.path()),
    );
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn logs_are_json_where_asked_for_and_hold_no_query() {
    let folder = keyed_folder();
    let (child, base) = serve(folder.path(), |command| {
        command.env("CAIRN_LOG_FORMAT", "json");
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let id = "00000000-1111-2222-3333-444444444444";
    let status = runtime.block_on(async {
        let url = format!("{base}/fhir/r4/Patient?family=Quibblewick");
        let request = reqwest::Client::new().get(url).header("x-request-id", id);
        request.send().await.expect("an answer").status().as_u16()
    });
    assert_eq!(status, 401);
    let (_, log) = terminate(child);
    let line = log
        .lines()
        .find(|line| line.contains(id))
        .unwrap_or_else(|| panic!("no line for the request in {log}"));
    let line: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
    assert_eq!(line["status"], 401, "{line}");
    assert_eq!(line["span"]["http.route"], "/fhir/r4/{type}", "{line}");
    assert!(!log.contains("Quibblewick"), "{log}");
    for line in log.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
}

#[test]
fn traces_go_to_the_receiver_that_is_configured() {
    let receiver = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", receiver.local_addr().expect("an address"));
    let received = std::thread::spawn(move || {
        let (mut stream, _) = receiver.accept().expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !request.windows(4).any(|window| window == b"\r\n\r\n")
            || !contains(&request, b"GET /health/live")
        {
            let length = stream.read(&mut chunk).expect("a request");
            if length == 0 {
                break;
            }
            request.extend_from_slice(&chunk[..length]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").expect("sent");
        request
    });
    let folder = keyed_folder();
    let (child, base) = serve(folder.path(), |command| {
        command.env("CAIRN_OTLP_ENDPOINT", &endpoint);
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for path in [
            "fhir/r4/Patient/zyxwv-patient?family=Quibblethorpe",
            "console/patients/zyxwv-patient",
            "zyxwv-nowhere?Quibblethorpe",
            "health/live",
        ] {
            reqwest::get(format!("{base}/{path}"))
                .await
                .expect("an answer");
        }
    });
    let (code, log) = terminate(child);
    assert_eq!(code, Some(0), "{log}");
    let request = received.join().expect("no panic");
    for secret in ["zyxwv", "Quibble"] {
        assert!(!contains(&request, secret.as_bytes()), "{secret} is told");
    }
    assert!(contains(&request, b"/fhir/r4/{type}/{id}"));
    assert!(
        request.starts_with(b"POST /v1/traces "),
        "{}",
        String::from_utf8_lossy(&request)
    );
    assert!(
        contains(&request, b"GET /health/live"),
        "the request's span is not in the trace"
    );
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn import_tells_by_its_exit_code() {
    let folder = keyed_folder();
    let good = folder.path().join("good.ndjson");
    let bad = folder.path().join("bad.ndjson");
    let rejects = folder.path().join("rejects.ndjson");
    let bundle = serde_json::json!({
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{
            "fullUrl": "urn:uuid:6b1c1f0e-7d0b-4f5c-9a59-3f1d5a9f6a01",
            "resource": { "resourceType": "Patient", "name": [{ "family": "Thornbury" }] },
            "request": { "method": "POST", "url": "Patient" },
        }],
    });
    std::fs::write(&good, format!("{bundle}\n")).expect("written");
    std::fs::write(&bad, "this is not JSON\n").expect("written");
    let import = |paths: &[&Path]| {
        output(
            cairn()
                .args(["import", "--data"])
                .arg(folder.path())
                .arg("--rejects")
                .arg(&rejects)
                .args(paths),
        )
    };
    let first = import(&[&good]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(
        stdout(&first).starts_with("1 resources written, 0 were there already, 0 entries refused."),
        "{}",
        stdout(&first)
    );
    let second = import(&[&good]);
    assert!(
        stdout(&second).starts_with("0 resources written, 1 were there already"),
        "{}",
        stdout(&second)
    );
    let refused = import(&[&bad]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(
        std::fs::read_to_string(&rejects)
            .expect("a rejects file")
            .contains("this is not JSON")
    );
    let missing = import(&[Path::new("/none/such")]);
    assert_eq!(missing.status.code(), Some(1), "{}", stdout(&missing));
    let verified = output(
        cairn()
            .args(["audit", "verify", "--data"])
            .arg(folder.path()),
    );
    assert!(
        verified.status.success() && stdout(&verified).contains("Sound."),
        "{}",
        stdout(&verified)
    );
}

// Proves: 45 CFR 164.312(c)(2)
#[test]
fn a_damaged_store_is_told_by_the_exit_code() {
    let folder = keyed_folder();
    let token = output(
        cairn()
            .args(["client", "create", "--name", "x", "--data"])
            .arg(folder.path()),
    );
    assert!(token.status.success(), "{}", stderr(&token));
    let prove = output(
        cairn()
            .args(["audit", "prove", "--data"])
            .arg(folder.path())
            .arg("no-such-event"),
    );
    assert_eq!(prove.status.code(), Some(1));
    let other = keyed_folder();
    let wrong_key = output(
        cairn()
            .args(["audit", "verify", "--data"])
            .arg(folder.path())
            .arg("--root-key")
            .arg(other.path().join("root.key")),
    );
    assert_eq!(
        wrong_key.status.code(),
        Some(1),
        "another store's key opened this one"
    );
}

#[test]
fn accounts_and_clients_on_a_store() {
    let folder = keyed_folder();
    let create = |password: &str| {
        let mut command = cairn();
        command
            .args([
                "account",
                "create",
                "--role",
                "administrator",
                "--user-name",
                "ada",
                "--name",
                "Ada A",
                "--data",
            ])
            .arg(folder.path());
        fed(&mut command, password.as_bytes())
    };
    let made = create("correct horse battery staple\n");
    assert!(made.status.success(), "{}", stderr(&made));
    assert_eq!(
        create("correct horse battery staple\n").status.code(),
        Some(1),
        "a user name was given twice"
    );
    let client = output(
        cairn()
            .args(["client", "create", "--name", "laboratory", "--data"])
            .arg(folder.path()),
    );
    assert!(
        client.status.success() && stdout(&client).trim().len() >= 32,
        "{}",
        stderr(&client)
    );
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C), 164.308(a)(3)(ii)(C)
#[test]
fn accounts_and_tokens_are_listed_and_taken_away() {
    let folder = keyed_folder();
    let with_input = |arguments: &[&str], input: &str| {
        let mut child = cairn()
            .args(arguments)
            .arg("--data")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cairn runs");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let done = |arguments: &[&str]| {
        let output = with_input(arguments, "");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        stdout(&output)
    };
    for (user_name, role) in [("ada", "administrator"), ("devi", "clinician")] {
        let made = with_input(
            &[
                "account",
                "create",
                "--role",
                role,
                "--user-name",
                user_name,
                "--name",
                "Somebody",
            ],
            "correct horse battery staple\n",
        );
        assert!(made.status.success(), "{}", stderr(&made));
    }
    let state_of = |user_name: &str| {
        let listed = done(&["account", "list"]);
        let line = listed.lines().find(|line| line.contains(user_name));
        line.unwrap_or_else(|| panic!("no {user_name} in {listed}"))
            .split_whitespace()
            .next()
            .expect("a state")
            .to_owned()
    };
    assert_eq!(state_of("devi"), "open");
    done(&["account", "close", "--user-name", "Devi"]);
    assert_eq!(
        (state_of("devi"), state_of("ada")),
        ("closed".to_owned(), "open".to_owned())
    );
    done(&["account", "reopen", "--user-name", "devi"]);
    assert_eq!(state_of("devi"), "open");
    done(&[
        "account",
        "reset-second-factor",
        "--user-name",
        "devi",
        "--reason",
        "telephone lost",
    ]);
    let who = [
        "--issuer",
        "https://login.example",
        "--subject",
        "employee 7",
    ];
    let link = |user_name| [&["account", "link", "--user-name", user_name][..], &who].concat();
    done(&link("devi"));
    let links = done(&["account", "links"]);
    let words: Vec<&str> = links.split_whitespace().collect();
    assert_eq!(words, ["devi", "https://login.example", "employee", "7"]);
    let taken = with_input(&link("ada"), "");
    assert!(stderr(&taken).contains("linked to another account"));
    let password = |user_name, state| ["account", "password", "--user-name", user_name, state];
    let off = done(&password("devi", "off"));
    assert!(off.contains("opens nothing any more"), "{off}");
    done(&password("devi", "on"));
    let alone = with_input(&password("ada", "off"), "");
    assert!(stderr(&alone).contains("link it first"));
    done(&[&["account", "unlink"][..], &who].concat());
    assert_eq!(done(&["account", "links"]), "");
    let only = done(&["account", "list", "--role", "clinician"]);
    assert!(only.contains("devi") && !only.contains("ada"), "{only}");
    for wrong in [
        &["account", "close", "--user-name", "nobody"][..],
        &["account", "close", "--patient", "nobody"],
        &["client", "revoke", "nobody", "--reason", "x"],
    ] {
        assert_eq!(with_input(wrong, "").status.code(), Some(1), "{wrong:?}");
    }
    // Which account has to be said, and a reset needs its reason.
    for unclear in [
        &["account", "close"][..],
        &["account", "reset-second-factor", "--user-name", "devi"],
    ] {
        assert_eq!(
            with_input(unclear, "").status.code(),
            Some(2),
            "{unclear:?}"
        );
    }

    let token = done(&["client", "create", "--name", "laboratory"]);
    let listed = done(&["client", "list"]);
    assert!(listed.starts_with("active "), "{listed}");
    let id = listed.split_whitespace().nth(2).expect("an id").to_owned();
    let asked = |base: &str| {
        let url = format!("{base}/fhir/r4/Patient");
        let client = reqwest::Client::new();
        let answer = client.get(url).bearer_auth(token.trim()).send();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let answer = runtime.block_on(answer).expect("an answer");
        answer.status().as_u16()
    };
    let (child, base) = serve(folder.path(), |_| {});
    assert_eq!(asked(&base), 200);
    // While the server runs, its page is the place.
    let refused = with_input(&["client", "revoke", &id, "--reason", "it leaked"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("/console/accounts"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(terminate(child).0, Some(0));
    done(&["client", "revoke", &id, "--reason", "it leaked"]);
    assert!(done(&["client", "list"]).starts_with("revoked "));
    let (child, base) = serve(folder.path(), |_| {});
    assert_eq!(asked(&base), 401);
    assert_eq!(terminate(child).0, Some(0));
}

#[test]
fn journeys_are_checked_and_published() {
    let folder = keyed_folder();
    let journey =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../journeys/heart-failure-discharge.yaml");
    let checked = output(cairn().args(["journey", "check"]).arg(&journey));
    assert!(checked.status.success(), "{}", stdout(&checked));
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "name: broken\nsteps: nonsense\n").expect("written");
    let refused = output(cairn().args(["journey", "check"]).arg(&broken));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stdout(&refused).contains("broken.yaml:"),
        "{}",
        stdout(&refused)
    );

    let published = output(
        cairn()
            .args(["journey", "publish", "--data"])
            .arg(folder.path())
            .arg(&journey),
    );
    assert!(published.status.success(), "{}", stderr(&published));
    assert!(
        stdout(&published).contains("heart-failure-discharge version 1"),
        "{}",
        stdout(&published)
    );

    let token = output(
        cairn()
            .args([
                "client", "create", "--role", "squad", "--name", "squad", "--data",
            ])
            .arg(folder.path()),
    );
    let steerer = output(
        cairn()
            .args(["client", "create", "--role", "steerer", "--name", "deploys"])
            .arg("--data")
            .arg(folder.path()),
    );
    let (child, base) = serve(folder.path(), |_| {});
    let changed = folder.path().join("changed.yaml");
    let text = std::fs::read_to_string(&journey).expect("the journey");
    std::fs::write(&changed, format!("{text}\n# A comment more.\n")).expect("written");
    let publish = |file: &Path| {
        output(
            cairn()
                .args(["journey", "publish", "--server", &base])
                .env("CAIRN_TOKEN", stdout(&token).trim())
                .arg(file),
        )
    };
    let second = publish(&changed);
    assert!(
        stdout(&second).contains("heart-failure-discharge version 2"),
        "{} {}",
        stdout(&second),
        stderr(&second)
    );
    let refused = publish(&broken);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stdout(&refused).contains("broken.yaml:"),
        "{} {}",
        stdout(&refused),
        stderr(&refused)
    );
    // Who publishes moves nobody, and the other way round.
    let steers = |token: &Output, first: &str| {
        let name = "heart-failure-discharge";
        let place = ["--server", &base, "--from", first, "--to", "2"];
        let mut command = cairn();
        command.args(["journey", "migrate", name]).args(place);
        output(command.env("CAIRN_TOKEN", stdout(token).trim()))
    };
    let refused = steers(&token, "1");
    assert!(stderr(&refused).contains("403"), "{}", stderr(&refused));
    let previewed = steers(&steerer, "1");
    let said = "0 of 0 journeys would be moved";
    assert!(
        stdout(&previewed).contains(said),
        "{} {}",
        stdout(&previewed),
        stderr(&previewed)
    );
    let refused = output(
        cairn()
            .args(["journey", "publish", "--server", &base])
            .env("CAIRN_TOKEN", stdout(&steerer).trim())
            .arg(&journey),
    );
    assert!(stderr(&refused).contains("403"), "{}", stderr(&refused));
    assert_eq!(terminate(child).0, Some(0));
    let done = |arguments: &[&str]| {
        let done = output(cairn().args(arguments).arg("--data").arg(folder.path()));
        assert!(done.status.success(), "{}", stderr(&done));
        stdout(&done)
    };
    let listed = done(&["client", "list"]);
    let line = listed.lines().find(|line| line.contains("steerer"));
    let line = line.unwrap_or_else(|| panic!("{listed}"));
    assert!(
        line.starts_with("active ") && line.ends_with("deploys"),
        "{line}"
    );
    let id = line.split_whitespace().nth(2).expect("an id");
    done(&["client", "revoke", id, "--reason", "it leaked"]);
    let listed = done(&["client", "list"]);
    let line = listed.lines().find(|line| line.contains("steerer"));
    assert!(
        line.is_some_and(|line| line.starts_with("revoked ")),
        "{listed}"
    );
}

#[test]
fn import_reads_standard_input() {
    let urn = |number: usize, place: usize| {
        format!("urn:uuid:7d9f0a10-0000-4000-8000-{number:06}{place:06}")
    };
    let weight = |subject: &str| {
        serde_json::json!({
            "resourceType": "Observation", "status": "final", "code": {"text": "weight"}, "subject": {"reference": subject},
        })
    };
    let one = |number: usize| {
        let patient = serde_json::json!({
            "resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": number.to_string()}],
        });
        let entry = |place: usize, resource: serde_json::Value| serde_json::json!({"fullUrl": urn(number, place), "resource": resource});
        let subject = urn(number, 0);
        let entries = [
            entry(0, patient),
            entry(1, weight(&subject)),
            entry(2, weight(&subject)),
        ];
        serde_json::json!({"resourceType": "Bundle", "type": "collection", "entry": entries})
    };
    let lines = |values: &[serde_json::Value]| {
        values
            .iter()
            .map(|value| format!("{value}\n"))
            .collect::<String>()
            .into_bytes()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    };
    let mut waits = weight("Patient/p");
    waits["performer"] = serde_json::json!([{"reference": "Practitioner?identifier=urn:npi|1"}]);
    let later = serde_json::json!({
        "resourceType": "Practitioner", "identifier": [{"system": "urn:npi", "value": "1"}],
    });
    let long = serde_json::Value::from("x".repeat(2 << 20));
    for (bytes, refused) in [
        (lines(&[one(0), one(1)]), 0),
        (gzip(&lines(&[one(0)])), 0),
        (serde_json::to_vec_pretty(&one(0)).expect("JSON"), 0),
        // The long line is no resource. What comes before is there when what refers to it comes.
        (lines(&[later.clone(), long.clone(), waits.clone()]), 1),
        // It can't be read again, so what waits for what comes later is refused, unless that is in hand
        // already, which depends on the pace of the work.
        (lines(&[waits, long, later]), 2),
    ] {
        let folder = keyed_folder();
        let mut command = cairn();
        command.args(["import", "-", "--data"]).arg(folder.path());
        command
            .arg("--rejects")
            .arg(folder.path().join("rejects.ndjson"));
        let done = fed(&mut command, &bytes);
        let words = stdout(&done);
        let numbers: Vec<u64> = words
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [written, unchanged, rejected] = numbers[..] else {
            panic!("{words} {}", stderr(&done));
        };
        assert!(written > 0 && unchanged == 0, "{words}");
        assert!(rejected <= refused && rejected >= refused.min(1), "{words}");
        assert_eq!(
            done.status.code(),
            Some(if rejected > 0 { 3 } else { 0 }),
            "{words}"
        );
    }
}

#[test]
fn the_rejects_file_is_not_taken_as_input() {
    let folder = keyed_folder();
    let rejects = folder.path().join("cairn-rejects.ndjson");
    std::fs::write(&rejects, "{\"the only\": \"copy\"}\n").expect("written");
    let mut command = cairn();
    command
        .current_dir(folder.path())
        .args(["import", "cairn-rejects.ndjson", "--data"]);
    let done = output(command.arg(folder.path()));
    assert_eq!(done.status.code(), Some(1), "{}", stdout(&done));
    assert!(stderr(&done).contains("--rejects"), "{}", stderr(&done));
    assert_eq!(
        std::fs::read_to_string(&rejects).expect("still there"),
        "{\"the only\": \"copy\"}\n"
    );
}

/// The store's root key in another place, in the old one's place, and after a rotation that was cut
/// short at each of its steps.
// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn the_root_key_is_rotated_on_the_command_line() {
    let folder = keyed_folder();
    let data = folder.path();
    let key = data.join("root.key");
    let verify = || output(cairn().args(["audit", "verify", "--data"]).arg(data));
    let rotate = |more: &[&str]| {
        let mut command = cairn();
        output(
            command
                .args(["key", "rotate", "--data"])
                .arg(data)
                .args(more),
        )
    };
    let good = |output: &Output| assert!(output.status.success(), "{}", stderr(output));
    let mut client = cairn();
    client.args(["client", "create", "--name", "x", "--data"]);
    good(&output(client.arg(data)));
    good(&verify());
    let first = std::fs::read_to_string(&key).expect("a key");

    good(&rotate(&[]));
    let second = std::fs::read_to_string(&key).expect("a key");
    assert_ne!(second, first);
    let old = std::fs::read_to_string(data.join("root.key.old-1")).expect("the old key");
    assert_eq!(old, first);
    assert!(!data.join("root.key.next").exists());
    good(&verify());

    // Cut short before the store changed over: the half-made next key is made again.
    std::fs::write(data.join("root.key.next"), "12").expect("written");
    good(&verify());
    good(&rotate(&[]));
    good(&verify());
    // Cut short after it did: the next key takes its place at the next start.
    std::fs::rename(&key, data.join("root.key.next")).expect("renamed");
    std::fs::copy(data.join("root.key.old-1"), &key).expect("copied");
    let finished = verify();
    good(&finished);
    assert!(!data.join("root.key.next").exists());
    let third = std::fs::read_to_string(&key).expect("a key");
    assert!(third != second && third != first);
    // Neither key is the store's: the one that was named is complained about.
    std::fs::copy(data.join("root.key.old-1"), data.join("root.key.next")).expect("copied");
    std::fs::copy(data.join("root.key.old-1"), &key).expect("copied");
    let refused = verify();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("does not open this store"));
    std::fs::remove_file(data.join("root.key.next")).expect("removed");
    std::fs::write(&key, &third).expect("written");

    let elsewhere = folder.path().join("elsewhere.key");
    let to = ["--to", elsewhere.to_str().expect("text")];
    good(&rotate(&to));
    assert_eq!(verify().status.code(), Some(1));
    let named = ["--root-key", elsewhere.to_str().expect("text")];
    good(&output(
        cairn()
            .args(["audit", "verify", "--data"])
            .arg(data)
            .args(named),
    ));
    // Again, as after a rotation that did not come to its end.
    good(&rotate(&to));

    good(&rotate(&["--root-key", named[1], "--tenant"]));
    let nobody = rotate(&["--root-key", named[1], "--patient", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("no key to rotate"));
    let both = rotate(&["--tenant", "--patient", "p"]);
    assert_eq!(both.status.code(), Some(2));
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn a_root_key_in_a_token_is_named_by_its_uri() {
    let folder = tempfile::tempdir().expect("a folder");
    for (uri, why) in [
        ("pkcs11:token=t;object=o", "module-path"),
        (
            "pkcs11:token=t;object=o?module-path=/no.so&pin-value=123456",
            "into a file",
        ),
        (
            "pkcs11:token=t;object=o?module-path=/no.so&pin-source=/no/pin",
            "/no/pin",
        ),
    ] {
        for command in [
            vec!["key", "create"],
            vec!["audit", "verify"],
            vec!["serve", "--listen", "127.0.0.1:0"],
        ] {
            let refused = output(
                cairn()
                    .args(&command)
                    .arg("--data")
                    .arg(folder.path())
                    .args(["--root-key", uri]),
            );
            assert_eq!(refused.status.code(), Some(1), "{command:?}");
            let words = stderr(&refused);
            // A token that a URI names rightly is not asked for a store that isn't there.
            let is_not_asked = command[0] == "audit" && why == "/no/pin";
            let why = if is_not_asked { "no store" } else { why };
            assert!(words.contains(why), "{command:?}: {words}");
            assert!(!words.contains("123456"), "{words}");
        }
    }
    assert!(!folder.path().join("root.key").exists());
}

#[test]
fn a_database_is_made_ready_or_it_is_said_why_not() {
    let folder = keyed_folder();
    let mut command = cairn();
    command.args(["store", "init", "--data"]).arg(folder.path());
    let refused = output(&mut command);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("--store-url"),
        "{}",
        stderr(&refused)
    );
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    for citus in [None, Some("--citus")] {
        let mut command = cairn();
        command.args(["store", "init", "--store-url"]);
        command.arg(format!("postgres://cairn:secret@127.0.0.1:{port}/cairn"));
        command.args(citus);
        let failed = output(&mut command);
        assert_eq!(failed.status.code(), Some(1));
        let words = stderr(&failed);
        assert!(
            words.contains("PostgreSQL") && !words.contains("secret"),
            "{words}"
        );
    }
}
