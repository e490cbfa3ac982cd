//! Policies in a folder: followed while the server runs, and looked at from the command line.

use std::path::Path;
use std::process::Stdio;

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use trust::Role;

use crate::house::{House, cairn, house_with, token};
use crate::patience::until;

pub(crate) fn run(arguments: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let mut command = cairn();
    command.arg("policy");
    for argument in arguments {
        match *argument {
            "FOLDER" => command.arg(folder),
            other => command.arg(other),
        };
    }
    let output = command.stdin(Stdio::null()).output().expect("cairn runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A folder with the built-in set in it.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, err) = run(&["init", "FOLDER"], folder.path());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    folder
}

pub(crate) fn put(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).expect("written");
}

#[test]
fn a_set_is_checked_tested_and_explained() {
    let folder = folder();
    let (code, out, _) = run(&["test", "FOLDER"], folder.path());
    assert_eq!(code, Some(0));
    assert!(out.contains(" come out as expected (set "), "{out}");
    let (code, _, err) = run(&["init", "FOLDER"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("is not empty"), "{err}");

    let clinician = [
        "why",
        "--role",
        "clinician",
        "--action",
        "read",
        "--type",
        "Observation",
    ];
    let mut asked = clinician.to_vec();
    asked.extend(["--purpose", "ETREAT", "--folder", "FOLDER"]);
    let (code, out, _) = run(&asked, folder.path());
    assert_eq!(code, Some(0));
    for words in [
        "The role clinician may read Observation for ETREAT: permitted by clinician-looks-at-records.",
        "permit clinician-looks-at-records (clinician.cedar:3): Clinicians look at records to treat",
        "Purposes for which it is permitted: TREAT, ETREAT, CAREMGT.",
    ] {
        assert!(out.contains(words), "{out}");
    }
    let (_, out, _) = run(
        &[
            "why",
            "--role",
            "client",
            "--purpose",
            "HPAYMT",
            "--action",
            "read",
            "--type",
            "Observation",
        ],
        folder.path(),
    );
    for words in [
        "  in part payment-clinical (necessary.elements.toml:",
        "Elements that are not shown: component, contained,",
        "Not shown wherever they lie: base64Binary, Annotation, Attachment,",
    ] {
        assert!(out.contains(words), "{out}");
    }
    let mut asked = clinician.to_vec();
    asked.extend(["--purpose", "HRESCH"]);
    let (code, out, _) = run(&asked, folder.path());
    assert_eq!(code, Some(1));
    assert!(
        out.contains("may not read Observation for HRESCH: no policy permits it."),
        "{out}"
    );
    let asked = [
        "why",
        "--role",
        "clinician",
        "--purpose",
        "TREAT",
        "--action",
        "read",
    ];
    let (code, _, err) = run(&asked, folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("give it with --type"), "{err}");

    // All that is wrong is told at once, each with its place.
    put(
        &folder,
        "squad.cedar",
        "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.purpos == \"x\" };",
    );
    put(&folder, "extra.test.toml", "[[case]]\nname = \"x\"");
    let (code, _, err) = run(&["check", "FOLDER"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("squad.cedar:3:8: "), "{err}");
    put(
        &folder,
        "squad.cedar",
        "@id(\"a\")\npermit (principal, action, resource;",
    );
    put(
        &folder,
        "client.cedar",
        "permit (principal, action, resource);",
    );
    let (_, _, err) = run(&["check", "FOLDER"], folder.path());
    assert!(
        err.contains("squad.cedar:2:") && err.contains("client.cedar: each policy needs"),
        "{err}"
    );
    assert!(err.contains("2 faults"), "{err}");
}

async fn status(house: &House, path: &str) -> u16 {
    let answer = house.asked(Method::GET, path).send().await;
    answer.expect("an answer").status().as_u16()
}

async fn text(house: &House, path: &str) -> String {
    let answer = house
        .bare(Method::GET, path)
        .send()
        .await
        .expect("an answer");
    answer.text().await.expect("text")
}

const OBSERVATIONS: &str = "/fhir/r4/Observation?status=final";
const NO_OBSERVATIONS: &str = "@id(\"no-observations\")\n@says(\"Nobody looks at observations.\")\n\
    forbid (principal in Role::\"client\", action in Action::\"look\", resource == Kind::\"Observation\");\n";
const TESTED: &str = "[[case]]\nname = \"no observations\"\nrole = \"client\"\npurpose = \"TREAT\"\n\
    action = \"search\"\ntype = \"Observation\"\nexpect = \"deny\"\nby = [\"no-observations\"]\n";

// Proves: 45 CFR 164.308(a)(4)(ii)(C), 164.308(a)(4)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_folder_is_in_force_only_if_it_is_sound() {
    let folder = folder();
    let house = house_with(|options| options.policy_folder = Some(folder.path().to_owned())).await;
    let set = |house: &House| house.server.trust().policy_status().set;
    let first = set(&house);
    assert_eq!(status(&house, OBSERVATIONS).await, 200);

    // A yes that was kept is forgotten, and the same token stays good.
    put(&folder, "own.cedar", NO_OBSERVATIONS);
    put(&folder, "own.test.toml", TESTED);
    // The built-in tests say that clients search observations; they have to be changed with the policy.
    until("a set whose tests fail is refused", async || {
        text(&house, "/health/ready").await.contains("refused")
    })
    .await;
    assert_eq!(
        (set(&house), status(&house, OBSERVATIONS).await),
        (first.clone(), 200)
    );
    let refused = house.server.trust().policy_status().refused.expect("why");
    let words = refused.faults[0].to_string();
    assert!(
        words.starts_with("client.test.toml:3: systems look and write"),
        "{words}"
    );
    assert!(
        words.contains("expects permit, but the role client may not read Observation"),
        "{words}"
    );
    let metrics = text(&house, "/metrics").await;
    assert!(metrics.contains("cairn_policy_refused 1"), "{metrics}");

    std::fs::remove_file(folder.path().join("client.test.toml")).expect("removed");
    until("the set is in force", async || {
        status(&house, OBSERVATIONS).await == 403
    })
    .await;
    assert_eq!(status(&house, "/fhir/r4/Patient?gender=female").await, 200);
    let second = set(&house);
    assert_ne!(second, first);
    assert_eq!(text(&house, "/health/ready").await, "ready\n");
    let metrics = text(&house, "/metrics").await;
    assert!(
        metrics.contains(&format!("cairn_policy_set{{set=\"{second}\"}} 1")),
        "{metrics}"
    );
    assert!(
        metrics.contains(&format!("cairn_policy_set{{set=\"{first}\"}} 0")),
        "{metrics}"
    );

    // What does not parse changes nothing, and neither does a folder that is gone.
    put(&folder, "own.cedar", "permit (principal");
    until("it is refused", async || {
        text(&house, "/health/ready").await.contains("refused")
    })
    .await;
    assert_eq!(
        (set(&house), status(&house, OBSERVATIONS).await),
        (second.clone(), 403)
    );
    put(&folder, "own.cedar", NO_OBSERVATIONS);
    until("it is mended", async || {
        text(&house, "/health/ready").await == "ready\n"
    })
    .await;
    let moved = folder.path().with_extension("moved");
    std::fs::rename(folder.path(), &moved).expect("moved");
    until("it is missed", async || {
        text(&house, "/health/ready").await.contains("refused")
    })
    .await;
    assert_eq!(
        (set(&house), status(&house, OBSERVATIONS).await),
        (second.clone(), 403)
    );
    std::fs::rename(&moved, folder.path()).expect("moved back");

    // The audit has each set with its hash, and what was refused with the reason.
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let asked = house
        .bare(
            Method::GET,
            "/fhir/r4/AuditEvent?subtype=urn:cairn:audit-event%7Cpolicies&_count=50",
        )
        .header("x-purpose-of-use", "HOPERAT")
        .bearer_auth(officer);
    let found: Value = asked
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let notes: Vec<&str> = found["entry"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["resource"]["outcomeDesc"].as_str().expect("words"))
        .collect();
    let has = |words: &str| notes.iter().any(|note| note.contains(words));
    assert!(
        has(&format!("started with the policy set {first}")),
        "{notes:?}"
    );
    assert!(
        has(&format!("the policy set {second} (")) && has(&format!("instead of {first}")),
        "{notes:?}"
    );
    assert!(
        has(&format!(
            "the policy set {first} stays in force: client.test.toml:3: "
        )),
        "{notes:?}"
    );
    house.end().await;
}

// Proves: 45 CFR 164.308(a)(4)(i)
#[tokio::test]
async fn a_server_does_not_start_on_a_set_whose_tests_fail() {
    let folder = folder();
    put(&folder, "own.cedar", NO_OBSERVATIONS);
    let mut command = cairn();
    let data = crate::house::keyed_folder();
    command.arg("serve").arg("--data").arg(data.path());
    command.args(["--listen", "127.0.0.1:0", "--set"]);
    command.arg(format!("policy_folder={}", folder.path().display()));
    let output = command.stdin(Stdio::null()).output().expect("cairn runs");
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("client.test.toml:3: "), "{words}");
}
