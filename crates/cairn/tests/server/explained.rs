//! `cairn policy why` of rows: asked of a running server and of a store that none has open, and in the audit.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::binary::{serve, terminate, told};
use crate::house::{cairn, keyed_folder};

/// Runs a command on a store; its code and what it said.
fn run(data: &Path, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    told(cairn().args(arguments).arg("--data").arg(data), input)
}

fn well(data: &Path, arguments: &[&str], input: &str) -> String {
    let (code, words) = run(data, arguments, input);
    assert_eq!(code, Some(0), "{arguments:?}: {words}");
    words
}

/// Asks why, and checks whether it is shown and what is said.
fn why(data: &Path, asked: &[&str], shown: bool, words: &[&str]) {
    let arguments = [&["policy", "why"][..], asked].concat();
    let (code, said) = run(data, &arguments, "");
    assert_eq!(code, Some(i32::from(!shown)), "{asked:?}: {said}");
    let verdict = if shown { "shown" } else { "not shown" };
    assert!(
        said.trim_end()
            .ends_with(&format!("All in all the row is {verdict}.")),
        "{asked:?}: {said}"
    );
    for words in words {
        assert!(said.contains(words), "{asked:?}: `{words}` in {said}");
    }
    // Nothing of what is in the row.
    assert!(!said.contains("75622-1"), "{said}");
}

fn account(data: &Path, user_name: &str, role: &str) {
    let made = [
        "account",
        "create",
        "--role",
        role,
        "--user-name",
        user_name,
        "--name",
        "Somebody",
    ];
    well(data, &made, "correct horse battery staple\n");
}

async fn put(base: &str, token: &str, resource: &Value) {
    let text = |name: &str| resource[name].as_str().expect("text");
    let url = format!("{base}/fhir/r4/{}/{}", text("resourceType"), text("id"));
    let sent = reqwest::Client::new()
        .put(url)
        .bearer_auth(token)
        .header("content-type", "application/fhir+json")
        .body(resource.to_string());
    let answer = sent.send().await.expect("an answer");
    let status = answer.status();
    let body = answer.text().await.expect("a body");
    assert!(status.is_success(), "{status} {body}");
}

/// A patient who keeps what is about HIV from everybody, with an observation about it; another beside it.
async fn record(base: &str, token: &str) {
    let subject = json!({"reference": "Patient/p"});
    put(base, token, &json!({"resourceType": "Patient", "id": "p"})).await;
    for (id, code) in [("weight", "29463-7"), ("hiv", "75622-1")] {
        let row = json!({"resourceType": "Observation", "id": id, "status": "final", "subject": subject,
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}});
        put(base, token, &row).await;
    }
    let sealed = json!({"resourceType": "Observation", "id": "sealed", "status": "final", "subject": subject,
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]},
        "code": {"text": "x"}});
    put(base, token, &sealed).await;
    let hiv =
        json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]);
    let consent = json!({
        "resourceType": "Consent", "id": "c", "status": "active", "dateTime": "2026-02-02",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": subject, "policyRule": {"text": "privacy"},
        "provision": {"type": "permit", "provision": [{"type": "deny", "securityLabel": hiv}]},
    });
    put(base, token, &consent).await;
    let team = json!({"resourceType": "CareTeam", "id": "t", "status": "active", "subject": subject,
        "participant": [{"member": {"reference": "Practitioner/d"}}]});
    put(base, token, &team).await;
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C), 164.312(b)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_explained_by_the_server_and_without_one() {
    let folder = keyed_folder();
    let data = folder.path();
    let made = well(data, &["client", "create", "--name", "test"], "");
    let token = made.lines().last().expect("a token").to_owned();
    let officer = [
        "client",
        "create",
        "--name",
        "officer",
        "--role",
        "privacy-officer",
    ];
    let officer = well(data, &officer, "");
    let officer = officer.lines().last().expect("a token").to_owned();
    account(data, "devi", "clinician");
    account(data, "carla", "coordinator");
    let known = [
        "account",
        "known-as",
        "--user-name",
        "devi",
        "Practitioner/d",
    ];
    well(data, &known, "");
    let listed = well(data, &["client", "list"], "");
    let client = listed
        .lines()
        .find(|line| line.ends_with("  test"))
        .and_then(|line| line.split_whitespace().nth(2))
        .unwrap_or_else(|| panic!("no client in {listed}"))
        .to_owned();

    let (child, base) = serve(data, |_| {});
    record(&base, &token).await;
    let of = |row: &'static str, who: &'static str, purpose: &'static str| {
        ["--row", row, "--as", who, "--purpose", purpose]
    };
    let hiv = "Observation/hiv";
    // By policy; consents bind a coordinator and, under HIPAA, no clinician who has agreed to nothing.
    why(
        data,
        &of(hiv, "carla", "HRESCH"),
        false,
        &["The role coordinator may not read Observation for HRESCH: no policy permits it."],
    );
    why(
        data,
        &of(hiv, "carla", "TREAT"),
        false,
        &[
            "(built in) and the rule pack us-hipaa:",
            "permit coordinator-looks-at-records",
            "Relationship with Patient/p: none, and none is needed.",
            "Row of Patient/p: refused: an exception in the patient's consent denies it (Consent/c).",
        ],
    );
    why(
        data,
        &of("Observation/weight", "Devi", "TREAT"),
        true,
        &["Relationship with Patient/p: care team CareTeam/t."],
    );
    why(data, &of(hiv, "devi", "ETREAT"), false, &["Row: refused: "]);
    // A system: what it is registered for, the scopes of a token, and what is not needed for payment.
    let as_client = |purpose: &'static str| {
        let row = ["--row", "Observation/weight", "--as"];
        [&row[..], &[client.as_str(), "--purpose", purpose]].concat()
    };
    why(
        data,
        &as_client("HPAYMT"),
        true,
        &["in part payment-clinical", "Elements that are not shown: "],
    );
    let mut narrowed = as_client("TREAT");
    narrowed.extend(["--scopes", "system/Patient.rs"]);
    why(
        data,
        &narrowed,
        false,
        &["Access token: refused: the scopes of this access token don't let read Observation."],
    );
    // What can't be asked says so, and asks nothing.
    for (asked, words) in [
        (
            of("Observation/none", "devi", "TREAT"),
            "there is no such row",
        ),
        (of("Rock/x", "devi", "TREAT"), "Rock/x is no row"),
        (of(hiv, "nobody", "TREAT"), "nobody comes in as nobody"),
    ] {
        let (code, said) = run(data, &[&["policy", "why"][..], &asked].concat(), "");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let mut wrong = of(hiv, "devi", "TREAT").to_vec();
    wrong.extend(["--role", "coordinator"]);
    let (_, said) = run(data, &[&["policy", "why"][..], &wrong].concat(), "");
    assert!(said.contains("devi has the role clinician"), "{said}");

    // Who asked at this machine is in the audit of the row's patient, each time.
    let events = reqwest::Client::new()
        .request(
            Method::GET,
            format!("{base}/fhir/r4/AuditEvent?subtype=urn:cairn:audit-event%7Cexplain&patient=p&_count=50"),
        )
        .header("x-purpose-of-use", "HOPERAT")
        .bearer_auth(&officer);
    let found: Value = (events.send().await.expect("an answer").json())
        .await
        .expect("JSON");
    let events = found["entry"].as_array().expect("entries");
    assert_eq!(events.len(), 6, "{found}");
    for event in events {
        let event = &event["resource"];
        let note = event["outcomeDesc"].as_str().expect("words");
        assert!(note.starts_with("asked why the role "), "{event}");
        let name = event["agent"][0]["name"].as_str().unwrap_or_default();
        assert!(name.contains("uid "), "{event}");
    }
    assert_eq!(terminate(child).0, Some(0));

    // Without a server it is by the configuration, which is said.
    let england = ["--set", "consent_rules=england"];
    let asked =
        |who: &'static str| [&of("Observation/weight", who, "TREAT")[..], &england].concat();
    why(
        data,
        &asked("carla"),
        false,
        &[
            "and the rule pack england:",
            "Relationship with Patient/p: none, and one is needed.",
            "there is no legitimate relationship with the patient",
        ],
    );
    why(data, &asked("devi"), true, &["care team CareTeam/t"]);
    let sealed =
        |who: &'static str| [&of("Observation/sealed", who, "TREAT")[..], &england].concat();
    why(data, &sealed("devi"), true, &["care team CareTeam/t"]);
    let role = [
        "--row",
        "Observation/sealed",
        "--role",
        "client",
        "--purpose",
        "TREAT",
    ];
    why(
        data,
        &[&role[..], &england].concat(),
        false,
        &["Row: refused: it is marked as restricted"],
    );
    let any = ["--row", hiv, "--role", "clinician", "--purpose", "TREAT"];
    why(
        data,
        &any,
        true,
        &["permitted: no consent on file, and none is needed"],
    );
    // Whose policies let nobody explain is told so.
    let policies = crate::policies::folder();
    let parts = policies.path().join("parts.cedar");
    let text = std::fs::read_to_string(&parts).expect("policies");
    let without = text.replace("Part::\"explainer\"", "Part::\"nobody\"");
    std::fs::write(&parts, without).expect("written");
    // These expect it.
    std::fs::remove_file(policies.path().join("parts.test.toml")).expect("removed");
    let folder = format!("policy_folder={}", policies.path().display());
    let asked = [&any[..], &["--set", &folder]].concat();
    let (code, said) = run(data, &[&["policy", "why"][..], &asked].concat(), "");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("where policies let the part `explainer` audit"),
        "{said}"
    );
}
