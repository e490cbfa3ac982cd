//! A tenant taken out whole: earlier versions, people and systems without their secrets, journeys, and the proof of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cairn::store::TENANT;
use ledger::AuditDraft;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use trust::Role;

use crate::apps::{PASSWORD, Staff};
use crate::binary::told;
use crate::house::{House, cairn, house, put, token};
use crate::operate::{JOURNEY, discharged};
use crate::routes::{Who, person_of};

const CANARY: &str = "Zzyzxcanary";
/// What [`person_of`] signs in with.
const PERSONS: &str = "correct-horse-battery-7";

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).expect(name);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Everything that is in a folder, as one text.
fn all_of(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text.push_str(&all_of(&path));
        } else {
            text.push_str(&std::fs::read_to_string(&path).expect("text"));
        }
    }
    text
}

fn patient(id: &str, family: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": family}]})
}

/// By what an entry of a history is told from the others.
fn named(entry: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (
        text(&entry["request"]["url"]),
        text(&entry["response"]["etag"]),
    )
}

async fn get(house: &House, path: &str) -> Value {
    let answer = house.asked(Method::GET, path).send().await;
    answer.expect("an answer").json().await.expect("JSON")
}

/// Resources that were changed and deleted, and a journey that somebody is on.
async fn lived_in(house: &House) {
    let squad = token(&house.server, Role::Squad).await;
    let publish = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let published = publish.body(JOURNEY).send().await.expect("an answer");
    assert_eq!(published.status(), 200);
    let delete = async |path: &str| {
        let asked = house.asked(Method::DELETE, path).send().await;
        assert!(asked.expect("an answer").status().is_success());
    };
    for family in ["First", "Second", "Third"] {
        put(house, &patient("a", family)).await;
    }
    put(house, &patient("b", "Gone")).await;
    delete("/fhir/r4/Patient/b").await;
    put(house, &patient("c", "Once")).await;
    delete("/fhir/r4/Patient/c").await;
    put(house, &patient("c", "Again")).await;
    put(house, &patient("c", "Anew")).await;
    for (_, resource) in discharged(ledger::Clock::now_ms(&house.clock)) {
        put(house, &resource).await;
    }
    house
        .server
        .journeys()
        .drain(TENANT)
        .await
        .expect("drained");
}

/// What is exported is what the server tells: all versions of everything, each once.
fn is_all_of(folder: &Path, kind: &str, told: &Value) {
    let earlier = lines(folder, &format!("history/{kind}.ndjson"));
    let earlier: BTreeMap<_, _> = earlier
        .into_iter()
        .map(|line| (named(&line), line))
        .collect();
    let living = lines(folder, &format!("fhir/{kind}.ndjson"));
    let mut seen = 0;
    let entries = told["entry"].as_array().expect("entries");
    for entry in entries {
        let mut entry = entry.clone();
        entry
            .as_object_mut()
            .expect("an entry")
            .remove("fullUrl")
            .expect("an address");
        match earlier.get(&named(&entry)) {
            Some(line) => assert_eq!(line, &entry),
            None => assert!(living.contains(&entry["resource"]), "{entry}"),
        }
        seen += 1;
    }
    assert_eq!(seen, earlier.len() + living.len(), "{kind}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_taken_out_whole_and_without_its_secrets() {
    let house = house().await;
    lived_in(&house).await;
    let staff = Staff::new(&house, "nora", Role::Coordinator).await;
    let Who::Person { cookie, csrf } =
        person_of(house.server.trust(), TENANT, Role::Administrator).await
    else {
        panic!("no person");
    };
    let told_patients = get(&house, "/fhir/r4/Patient/_history?_count=100").await;
    let told_encounters = get(&house, "/fhir/r4/Encounter/_history?_count=100").await;
    // Afterwards, so that what the server told had everything.
    for family in ["Shredded", "Shredded too"] {
        put(&house, &patient("shredded", family)).await;
    }
    let ledger = house.server.trust().vault().ledger().clone();
    let owner = ledger::Owner::Patient("shredded".to_owned());
    let record = AuditDraft {
        kind: ledger::Kind(fhir::ResourceType::AuditEvent.code()),
        id: "shredding".to_owned(),
        shard: ledger.shard_of(TENANT, &owner, "shredded"),
        body: br#"{"resourceType":"AuditEvent","id":"shredding"}"#.to_vec(),
        parts: Vec::new(),
        tokens: Vec::new(),
    };
    let shred = ledger.destroy_patient_key(TENANT, "shredded", record);
    shred.await.expect("destroyed");
    drop(ledger);
    let agent = trust::Agent::system(TENANT, "sms-receiver");
    let (purpose, action) = (trust::Purpose::Operations, trust::Action::Send);
    let trust = house.server.trust().clone();
    let permit = trust.decide(&agent, purpose, action, trust::Target::default(), "test");
    let permit = permit.await.expect("a permit");
    let number = trust::sms::Number::parse("+16175550142", None).expect("a number");
    let stopped = trust.vault().set_stopped(&permit, &number, true).await;
    stopped.expect("written down");
    drop((trust, permit));
    let client = house.token.clone();
    let House { server, folder, .. } = house;
    server.stop().await.expect("a clean end");

    let data = folder.path();
    let space = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let mut command = cairn();
        command.args(arguments).arg("--data").arg(data);
        let (code, words) = told(&mut command, "");
        assert_eq!(code, Some(0), "{arguments:?}: {words}");
        words
    };
    let path = |name: &str| space.path().join(name).to_str().expect("UTF-8").to_owned();
    run(&["tenant", "set", "main", "--host", "main.example"]);
    run(&["tenant", "create", "other", "--host", "other.example"]);
    let others: Vec<String> = (0..3000)
        .map(|number| patient(&format!("p{number}"), CANARY).to_string())
        .collect();
    std::fs::write(path("others.ndjson"), others.join("\n")).expect("written");
    let (others, rejects) = (path("others.ndjson"), path("rejects.ndjson"));
    run(&["import", &others, "--of", "other", "--rejects", &rejects]);

    let to = path("export");
    run(&["tenant", "export", "main", "--to", &to]);
    let check = |folder: &str| told(cairn().args(["tenant", "check-export", folder]), "");
    let (code, words) = check(&to);
    assert_eq!(code, Some(0), "{words}");
    let export = Path::new(&to);
    is_all_of(export, "Patient", &told_patients);
    // Of an encounter there is nothing earlier.
    let encounters = told_encounters["entry"].as_array().expect("entries");
    assert_eq!(
        lines(export, "fhir/Encounter.ndjson").len(),
        encounters.len()
    );
    assert!(!export.join("history/Encounter.ndjson").exists());
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(export.join("manifest.json")).expect("it"))
            .expect("JSON");
    assert!(
        manifest["unreadable"].as_u64() >= Some(2),
        "both versions: {manifest}"
    );

    // People and systems, as whom they are there.
    let accounts = lines(export, "people/accounts.ndjson");
    let nora = accounts
        .iter()
        .find(|line| line["content"]["user_name"] == "nora");
    let nora = nora.expect("her account");
    assert_eq!(
        nora["content"],
        json!({
            "user_name": "nora", "name": "nora", "role": "coordinator", "patient": null, "active": true,
            "passkeys": 0, "has_password": true, "has_one_time_codes": true,
        })
    );
    let listed = run(&["account", "list", "--of", "main"]);
    assert_eq!(listed.lines().count(), accounts.len(), "{listed}");
    assert!(!lines(export, "people/clients.ndjson").is_empty());
    // Which telephones have sent STOP.
    let stops = lines(export, "people/text-stops.ndjson");
    assert_eq!(stops.len(), 1);
    assert_eq!(stops[0]["content"]["number"], "+16175550142");
    let sessions = lines(export, "people/sessions.ndjson");
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0]["content"]["agent"]["role"], "administrator");

    // Journeys.
    let definitions = lines(export, "journeys/definitions.ndjson");
    assert_eq!(definitions[0]["content"]["source"], JOURNEY);
    assert_eq!(definitions[0]["content"]["version"], 1);
    let instances = lines(export, "journeys/instances.ndjson");
    assert_eq!(
        (instances.len(), &instances[0]["patient"]),
        (1, &json!("lag"))
    );
    assert!(
        instances[0]["content"]["h"]
            .as_array()
            .is_some_and(|trail| !trail.is_empty()),
        "{instances:?}"
    );

    // Nothing opens a door, and nothing is another's.
    let everything = all_of(export);
    assert!(everything.contains("Second"), "earlier versions are in it");
    for secret in [
        PERSONS,
        PASSWORD,
        &staff.totp,
        &cookie,
        &csrf,
        &client,
        "$argon2",
        CANARY,
        "Shredded",
    ] {
        assert!(!everything.contains(secret), "{secret} is in the export");
    }
    let members: BTreeSet<&str> = ["\"secret\"", "\"csrf\"", "\"totp\"", "\"password\""].into();
    for member in members {
        let people = all_of(&export.join("people"));
        assert!(!people.contains(member), "{member} is in the export");
    }

    // The audit has the manifest's hash, and the proof of that is in the audit of the store.
    let proof: Value =
        serde_json::from_str(&std::fs::read_to_string(export.join("proof.json")).expect("it"))
            .expect("JSON");
    let record = proof["record"]["id"].as_str().expect("an id");
    let shown = run(&["audit", "prove", record, "--of", "main"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["leaf_record"], proof["proof"]["leaf_record"]);
    let changed = serde_json::to_vec(&manifest).expect("JSON");
    let before = std::fs::read(export.join("manifest.json")).expect("it");
    std::fs::write(export.join("manifest.json"), changed).expect("written");
    let (code, words) = check(&to);
    assert!(
        code == Some(1) && words.contains("not the one that the audit has"),
        "{words}"
    );
    std::fs::write(export.join("manifest.json"), before).expect("written");
    let history = export.join("history/Patient.ndjson");
    let text = std::fs::read_to_string(&history).expect("it");
    std::fs::write(&history, text.replacen("Second", "Secand", 1)).expect("written");
    let (code, words) = check(&to);
    assert!(
        code == Some(1) && words.contains("is not as it was written"),
        "{words}"
    );

    // What was read before this form was made is read still.
    std::fs::write(&history, text).expect("written");
    let old = path("old");
    for below in ["fhir", "audit"] {
        std::fs::create_dir_all(Path::new(&old).join(below)).expect("a folder");
        for entry in std::fs::read_dir(export.join(below)).expect("a folder") {
            let from = entry.expect("an entry");
            let name = Path::new(&old).join(below).join(from.file_name());
            std::fs::copy(from.path(), name).expect("copied");
        }
    }
    let mut older = manifest.clone();
    older["format"] = json!("cairn-tenant-export-1");
    older.as_object_mut().expect("it").remove("unreadable");
    older["files"]
        .as_array_mut()
        .expect("files")
        .retain(|file| {
            let path = file["path"].as_str().expect("a path");
            path.starts_with("fhir/") || path.starts_with("audit/")
        });
    std::fs::write(Path::new(&old).join("manifest.json"), older.to_string()).expect("written");
    let (code, words) = check(&old);
    assert_eq!(code, Some(0), "{words}");

    // One that is killed is none.
    let cut = path("cut");
    let mut command = cairn();
    command
        .args(["tenant", "export", "other", "--to", &cut, "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("cairn runs");
    let began = Instant::now();
    while !Path::new(&cut).join("fhir/Patient.ndjson").exists() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not begin"
        );
        sleep(Duration::from_millis(1)).await;
    }
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let (code, words) = check(&cut);
    assert!(
        code == Some(1) && words.contains("no whole export"),
        "{words}"
    );
}
