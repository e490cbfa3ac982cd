//! Planted patient details must show up nowhere but in answers to those who may see them: not in
//! logs, metrics, error bodies or the bytes on disk.

use std::fs;
use std::path::Path;

use cohort::server::{Fhir, ServerProcess, run};
use serde_json::json;

/// Details that nothing else can contain by chance.
pub const CANARIES: [&str; 10] = [
    "Zyxwvanary",
    "Quibblethorpe",
    "1931-07-23",
    "canary.mailbox",
    "01632960999",
    "9988776655",
    "Canary Crescent",
    "CT71 4QQ",
    "Canaryitis",
    "Canarynote",
];

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_details_show_up_nowhere() {
    let space = tempfile::tempdir().expect("a folder");
    let (data, log) = (space.path().join("data"), space.path().join("log"));
    let data_text = data.to_str().expect("a path in UTF-8");
    run(&["key", "create", "--data", data_text], "").expect("a key");
    let token = run(
        &[
            "client", "create", "--data", data_text, "--name", "test", "--role", "client",
        ],
        "",
    )
    .expect("a token");
    let token = token.lines().last().expect("a token").to_owned();
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:11111111-2222-4333-8444-555555555555", "resource": person(None), "request": {"method": "POST", "url": "Patient"}},
    ]});
    let input = space.path().join("input.json");
    fs::write(&input, bundle.to_string()).expect("written");
    run(
        &[
            "import",
            "--data",
            data_text,
            input.to_str().expect("a path"),
        ],
        "",
    )
    .expect("imported");

    let server = ServerProcess::start(&data, &log, &[])
        .await
        .expect("a server");
    let fhir = Fhir::new(&server.base, &token);
    let mut bodies = Vec::new();
    let (status, created) = fhir
        .post("Patient", &person(None))
        .await
        .expect("an answer");
    assert_eq!(status, 201);
    let id = created["id"].as_str().expect("an id").to_owned();
    // Requests that fail in every way, each with the details in it.
    bodies.push(
        fhir.get("Patient?family=Zyxwvanary&nonsense=Quibblethorpe")
            .await
            .expect("an answer"),
    );
    bodies.push(
        fhir.get("Patient?birthdate=1931-07-23x")
            .await
            .expect("an answer"),
    );
    bodies.push(
        fhir.get("Patient?identifier:wrong=9988776655")
            .await
            .expect("an answer"),
    );
    bodies.push(
        fhir.get("Patient/Zyxwvanary-Quibblethorpe_!")
            .await
            .expect("an answer"),
    );
    bodies.push(fhir.get("Zyxwvanary/9988776655").await.expect("an answer"));
    bodies.push(
        fhir.put("Patient/other-id", &person(Some("not-that-id")))
            .await
            .expect("an answer"),
    );
    let mut wrong = person(None);
    wrong["birthDate"] = json!("1931-07-23T99:99");
    wrong["nickname"] = json!("Quibblethorpe");
    bodies.push(fhir.post("Patient", &wrong).await.expect("an answer"));
    let (status, found) = fhir
        .get("Patient?family=Zyxwvanary&birthdate=1931-07-23")
        .await
        .expect("an answer");
    assert_eq!(
        (status, found["entry"].as_array().map(Vec::len)),
        (200, Some(2)),
        "they are found by those who may"
    );
    let (status, _) = fhir.get(&format!("Patient/{id}")).await.expect("an answer");
    assert_eq!(status, 200);

    for (status, body) in &bodies {
        assert!(*status >= 400, "{status}: {body}");
        assert_eq!(body["resourceType"], "OperationOutcome", "{status}: {body}");
        clean("an error body", body.to_string().as_bytes());
    }
    let metrics = reqwest::get(format!("{}/metrics", server.base))
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(
        metrics.contains("cairn_") || metrics.contains("_total"),
        "there are metrics"
    );
    clean("the metrics", metrics.as_bytes());
    assert!(server.terminate().expect("ended"), "a clean end");
    clean("the log", &fs::read(&log).expect("a log"));
    let files = folder(&data);
    assert!(files > 3, "the data folder was read");
    println!(
        "canary: {} details, {} error bodies, {files} files searched; none found",
        CANARIES.len(),
        bodies.len()
    );
}

pub fn person(id: Option<&str>) -> serde_json::Value {
    let mut person = json!({
        "resourceType": "Patient", "active": true,
        "identifier": [{"system": "http://hospital.example/mrn", "value": "9988776655"}],
        "name": [{"family": "Zyxwvanary", "given": ["Quibblethorpe"]}],
        "telecom": [{"system": "phone", "value": "01632960999"}, {"system": "email", "value": "canary.mailbox@example.com"}],
        "birthDate": "1931-07-23", "address": [{"line": ["7 Canary Crescent"], "postalCode": "CT71 4QQ"}],
    });
    if let Some(id) = id {
        person["id"] = json!(id);
    }
    person
}

pub fn clean(place: &str, bytes: &[u8]) {
    for canary in CANARIES {
        let lower = canary.to_lowercase();
        for needle in [canary.as_bytes(), lower.as_bytes()] {
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle),
                "{canary} shows up in {place}"
            );
        }
    }
}

/// Searches all files of a folder; gives how many there were.
pub fn folder(path: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(path).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            files += folder(&entry.path());
        } else {
            clean(
                &entry.path().display().to_string(),
                &fs::read(entry.path()).expect("a file"),
            );
            files += 1;
        }
    }
    files
}
