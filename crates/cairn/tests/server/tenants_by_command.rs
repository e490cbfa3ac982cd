//! The whole life of a tenant, with the binary as operators run it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::binary::{serve, terminate, told};
use crate::house::{cairn, client, keyed_folder};
use crate::patience;
use crate::tenants::{NORTH, SOUTH};

/// A tenant's records are taken out whole, checked, and brought into another store.
fn exports(well: &dyn Fn(&[&str], &str) -> String, badly: &dyn Fn(&[&str], &str)) {
    let space = tempfile::tempdir().expect("a folder");
    let path = |name: &str| space.path().join(name).to_str().expect("UTF-8").to_owned();
    let mut lines = String::new();
    for number in 0..600 {
        let patient = json!({"resourceType": "Patient", "id": format!("p{number}"), "name": [{"family": "Northern"}]});
        lines.push_str(&format!("{patient}\n"));
    }
    std::fs::write(path("patients.ndjson"), &lines).expect("written");
    let rejects = path("rejects.ndjson");
    let from = path("patients.ndjson");
    well(
        &["import", &from, "--of", "north", "--rejects", &rejects],
        "",
    );
    let to = path("export");
    well(&["tenant", "export", "north", "--to", &to], "");
    badly(&["tenant", "export", "north", "--to", &to], "is not empty");
    let check = |expected: Option<&str>| {
        let (code, words) = told(cairn().args(["tenant", "check-export", &to]), "");
        match expected {
            None => assert_eq!(code, Some(0), "{words}"),
            Some(expected) => assert!(code == Some(1) && words.contains(expected), "{words}"),
        }
    };
    check(None);
    let file = |name: &str| std::fs::read_to_string(format!("{to}/{name}")).expect(name);
    let patients = file("fhir/Patient.ndjson");
    assert_eq!(patients.lines().count(), 600);
    assert!(!file("audit/AuditEvent.ndjson").contains("Southern"));
    let (events, proofs) = (file("audit/AuditEvent.ndjson"), file("audit/proofs.ndjson"));
    assert_eq!(events.lines().count(), proofs.lines().count());
    // That it was taken is the newest of its records.
    assert!(
        events
            .lines()
            .next()
            .is_some_and(|event| event.contains("is exported to")),
        "{events}"
    );

    // A leaf says itself whose it is, and the id of a record is in one tenant's audit.
    let first = |text: &str| -> Value {
        let line = text.lines().next().expect("a line");
        serde_json::from_str(line).expect("JSON")
    };
    let (event, proof) = (first(&events), first(&proofs));
    let proof = if proof["proof"].is_object() {
        &proof["proof"]
    } else {
        &proof
    };
    let leaf = format!(
        "{:02x}/{}",
        proof["shard"].as_u64().expect("a shard"),
        proof["leaf_index"]
    );
    let id = event["id"].as_str().expect("an id");
    for name in [leaf.as_str(), id] {
        for said in [&["--of", "north"][..], &[]] {
            let words = well(&[&["audit", "prove", name][..], said].concat(), "");
            let shown: Value = serde_json::from_str(&words).expect("JSON");
            assert_eq!(
                shown["leaf_record"], proof["leaf_record"],
                "{name} {said:?}"
            );
        }
    }
    badly(
        &["audit", "prove", &leaf, "--of", "south"],
        "is not of that tenant",
    );
    badly(
        &["audit", "prove", id, "--of", "south"],
        "there is no AuditEvent",
    );
    badly(&["audit", "prove", "none"], "there is no AuditEvent");

    // It goes into another store as it is.
    let other = keyed_folder();
    let mut import = cairn();
    import
        .args([
            "import",
            &format!("{to}/fhir"),
            "--rejects",
            &rejects,
            "--data",
        ])
        .arg(other.path());
    let (code, words) = told(&mut import, "");
    assert!(
        code == Some(0) && words.contains("600 resources written"),
        "{words}"
    );

    // What is changed, missing or more is told.
    let changed = patients.replacen("Northern", "Southern", 1);
    std::fs::write(format!("{to}/fhir/Patient.ndjson"), &changed).expect("written");
    check(Some("is not as it was written"));
    std::fs::write(format!("{to}/fhir/Patient.ndjson"), &patients).expect("written");
    check(None);
    std::fs::write(format!("{to}/fhir/Observation.ndjson"), "").expect("written");
    check(Some("is not in the manifest"));
    std::fs::remove_file(format!("{to}/fhir/Observation.ndjson")).expect("removed");
    std::fs::remove_file(format!("{to}/manifest.json")).expect("removed");
    check(Some("no whole export"));
    // Nothing of it is in the other tenant's.
    let south = path("south");
    badly(
        &["tenant", "export", "west", "--to", &south],
        "there is no tenant west",
    );
    well(&["tenant", "export", "south", "--to", &south], "");
    assert!(!std::path::Path::new(&format!("{south}/fhir/Patient.ndjson")).exists());
}

/// The whole life of a tenant by the command line, under a running server and without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_come_and_go_by_the_command_line() {
    let folder = keyed_folder();
    let data = folder.path();
    let on = |arguments: &[&str]| {
        let mut command = cairn();
        command.args(arguments).arg("--data").arg(data);
        command
    };
    let well = |arguments: &[&str], input: &str| {
        let (code, words) = told(&mut on(arguments), input);
        assert_eq!(code, Some(0), "{arguments:?}: {words}");
        words
    };
    let badly = |arguments: &[&str], expected: &str| {
        let (code, words) = told(&mut on(arguments), "");
        assert!(
            code == Some(1) && words.contains(expected),
            "{arguments:?}: {words}"
        );
    };
    // Without a server; the first tenant needs a name of its own first.
    well(&["client", "create", "--name", "test"], "");
    let north = [
        "tenant",
        "create",
        "north",
        "--host",
        NORTH,
        "--administrator",
        "ada",
    ];
    let (code, words) = told(&mut on(&north), "correct-horse-battery-7\n");
    assert!(
        code == Some(1) && words.contains("cairn tenant set"),
        "{words}"
    );
    well(
        &[
            "tenant", "set", "main", "--host", SOUTH, "--rename", "south",
        ],
        "",
    );

    let (child, base) = serve(data, |_| {});
    let http = client().build().expect("a client");
    let status = async |host: &str| {
        let asked = http
            .get(format!("{base}/fhir/r4/metadata"))
            .header("host", host);
        asked.send().await.expect("an answer").status().as_u16()
    };
    let until = async |host: &str, wanted: u16| {
        let what = format!("{host} answers {wanted}");
        patience::until(&what, async || status(host).await == wanted).await;
    };
    assert_eq!((status(SOUTH).await, status(NORTH).await), (200, 421));
    let words = well(&north, "correct-horse-battery-7\n");
    assert!(words.contains("number 2"), "{words}");
    until(NORTH, 200).await;
    let listed = well(&["tenant", "list", "--json"], "");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(
        (&listed[1]["name"], &listed[1]["hosts"][0]),
        (&json!("north"), &json!(NORTH))
    );
    well(&["tenant", "set", "north", "--at-once", "7"], "");
    assert!(well(&["tenant", "list"], "").contains("7 at once"));
    // What servers add before they have heard of a bound is counted.
    let began = Instant::now();
    well(&["tenant", "set", "north", "--documents", "9"], "");
    assert!(began.elapsed() >= Duration::from_secs(2));
    well(&["tenant", "set", "north", "--documents", "0"], "");
    well(&["tenant", "suspend", "north"], "");
    until(NORTH, 503).await;
    well(&["tenant", "resume", "north"], "");
    until(NORTH, 200).await;
    badly(
        &["tenant", "destroy", "north", "--confirm", "north"],
        "is suspended before",
    );
    well(&["tenant", "suspend", "north"], "");
    badly(
        &["tenant", "destroy", "north", "--confirm", "north"],
        "less than 100 seconds",
    );
    badly(
        &["tenant", "destroy", "north", "--confirm", "south"],
        "nothing was destroyed",
    );
    badly(&["tenant", "prove", "north"], "was not destroyed");
    let (code, _) = terminate(child);
    assert_eq!(code, Some(0));

    // A store of several says which one a command is about.
    badly(
        &["client", "create", "--name", "test"],
        "several tenants: say --of",
    );
    badly(
        &["client", "list", "--of", "west"],
        "there is no tenant west",
    );
    well(
        &["client", "create", "--name", "theirs", "--of", "north"],
        "",
    );
    assert!(well(&["account", "list", "--of", "north"], "").contains("administrator"));
    assert!(!well(&["account", "list", "--of", "south"], "").contains("administrator"));
    assert!(!well(&["client", "list", "--of", "south"], "").contains("theirs"));
    // What was under way when it was suspended has to end before it may leave.
    sleep(Duration::from_millis(ledger::SETTLE_MS)).await;
    exports(&well, &badly);
    let destroyed = well(
        &["tenant", "destroy", "north", "--confirm", "north", "--json"],
        "",
    );
    let destroyed: Value = serde_json::from_str(&destroyed).expect("JSON");
    assert_eq!(destroyed["secrets"], 1, "{destroyed}");
    let proven: Value =
        serde_json::from_str(&well(&["tenant", "prove", "north"], "")).expect("JSON");
    assert_eq!(proven["secrets"], 0, "{proven}");
    let records = proven["records"].as_array().expect("records");
    assert_eq!(records.len(), 2, "ordered and done: {proven}");
    // It stands where the command said, and that is proved by what the audit proves everything by.
    let leaf = destroyed["leaf"].as_str().expect("a leaf");
    well(&["audit", "prove", leaf], "");
    well(&["audit", "verify"], "");
    let words = well(&["doctor"], "");
    assert!(
        words.contains("the tenant north") && words.contains("was destroyed"),
        "{words}"
    );
    badly(
        &["account", "list", "--of", "north"],
        "there is no tenant north",
    );
    badly(&["tenant", "resume", "north"], "there is no tenant north");
    badly(
        &["tenant", "create", "north", "--host", "other.example"],
        "had it before",
    );
    well(&["account", "list"], "");
}
